/* SPDX-License-Identifier: Apache-2.0
 * Directories in memory behind the engine's I/O seam: for looking at very many damaged logs, and for
 * making any single call fail.
 *
 * Files have a name, bytes, and nothing else; a write is there for everybody when it returns. There
 * may be a queue that carries out what is pushed at once. One lock holder per name, as with open file descriptions. There is no
 * mapping: the live page is then not kept.
 *
 * Any thread. What cannot be (no memory, too many files) is an abort. */
#ifndef WEIR_STRESS_MEMORY_DIR_H
#define WEIR_STRESS_MEMORY_DIR_H

#include "port/io.h"

#include <pthread.h>
#include <weir/weir.h>

#define MEMORY_NAME_BYTES 64u
#define MEMORY_FILES_MAX 256u
#define MEMORY_DESCRIPTORS_MAX 128u
#define MEMORY_DIRS_MAX 4u

/* What the engine can ask for; a queued operation is asked for when it is carried out. */
#define MEMORY_CALL_TABLE(X)                                                                       \
    X(open_dir)                                                                                    \
    X(sync_dir)                                                                                    \
    X(list_dir)                                                                                    \
    X(facts)                                                                                       \
    X(open)                                                                                        \
    X(info)                                                                                        \
    X(rename)                                                                                      \
    X(unlink)                                                                                      \
    X(truncate)                                                                                    \
    X(read)                                                                                        \
    X(write)                                                                                       \
    X(sync)                                                                                        \
    X(lock)                                                                                        \
    X(lock_held)                                                                                   \
    X(queue_open)                                                                                  \
    X(queue_push)                                                                                  \
    X(queue_write)                                                                                 \
    X(queue_read)                                                                                  \
    X(queue_sync)

enum memory_call {
#define MEMORY_CALL_NAME(name) MEMORY_CALL_##name,
    MEMORY_CALL_TABLE(MEMORY_CALL_NAME)
#undef MEMORY_CALL_NAME
        MEMORY_CALLS
};

extern const char *const memory_call_names[MEMORY_CALLS];

struct memory_file {
    bool used;
    unsigned dir;
    char name[MEMORY_NAME_BYTES]; /* "": unlinked, lives while it is open */
    unsigned opened;
    int locked_by; /* descriptor, -1: nobody */
    uint8_t *data;
    size_t bytes;
    size_t room;
};

struct memory_dir {
    struct weir__io io;
    /* Set before start. Asked before every call, under the mutex: a negative errno is what the call
     * returns, and nothing is done. A read or write may also be given a number of bytes to be cut to
     * by a positive value. */
    long (*before)(void *ctx, enum memory_call call, const char *name, size_t bytes);
    void *before_ctx;
    unsigned queue_entries;  /* set before start; 0: no queue */
    int fua;                 /* set before start: what facts says of the device */
    uint64_t file_bytes_max; /* a file cannot grow beyond it: -ENOSPC */

    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t woken;
    char dirs[MEMORY_DIRS_MAX][MEMORY_NAME_BYTES];
    unsigned dir_count;
    struct memory_file files[MEMORY_FILES_MAX];
    struct {
        bool used;
        bool writes;
        int file; /* index; -1 - n: directory n */
    } descriptors[MEMORY_DESCRIPTORS_MAX];
    uint64_t calls; /* since the beginning */
};

void memory_dir_init(struct memory_dir *memory);
void memory_dir_exit(struct memory_dir *memory);
/* From now on there is a queue of so many entries; 0, as at first: none. */
void memory_dir_queue(struct memory_dir *memory, unsigned entries);

/* Memory for logs that are opened by the thousand: what was given back is given out again. Any
 * thread. */
extern const struct weir_memory_hooks memory_hooks;

/* Nothing of the engine may be open in what follows. */

/* The file of a directory, emptied; made if missing. */
struct memory_file *memory_dir_make(struct memory_dir *memory, const char *dir, const char *name);
/* NULL: there is none. */
struct memory_file *memory_dir_find(struct memory_dir *memory, const char *dir, const char *name);
void memory_file_write(struct memory_file *file, size_t offset, const void *data, size_t bytes);
void memory_file_resize(struct memory_file *file, size_t bytes);
/* Takes a directory's files away; NULL: everybody's. */
void memory_dir_clear(struct memory_dir *memory, const char *dir);
/* Makes the files of `to` those of `from`. Both may be of the same struct memory_dir. Descriptors
 * are left alone. */
void memory_dir_copy(struct memory_dir *to,
                     const char *to_dir,
                     const struct memory_dir *from,
                     const char *from_dir);
/* A value that changes with any name or byte; files named weir.lock, weir.live and weir.prepare do
 * not count: an opening that is refused may leave those. */
uint64_t memory_dir_hash(const struct memory_dir *memory, const char *dir);
/* Descriptors that nobody has closed. */
unsigned memory_dir_open_count(const struct memory_dir *memory);

#endif
