/* SPDX-License-Identifier: Apache-2.0
 * What the simulated disk is made of: shared by disk.c, which runs it, and image.c, which keeps a
 * state of it and looks at all that a power cut could leave. */
#ifndef WEIR_SIM_DISK_STATE_H
#define WEIR_SIM_DISK_STATE_H

#include "disk.h"

#define INODES_MAX 192u
#define FILES_MAX 64u /* open descriptors */
#define NAME_BYTES 48u
#define NAMES_MAX 128u
#define CHANGES_MAX 1024u
#define QUEUES_MAX 6u /* the flusher's, and of each cursor that reads ahead */
#define QUEUE_OPS_MAX 64u
#define FIRST_DESCRIPTOR 3

/* A write that is not durable, as it was carried out. */
struct unsynced {
    uint64_t offset;
    size_t bytes;
    uint8_t *data;
};

struct inode {
    bool used;
    unsigned links; /* names and descriptors that lead here */
    uint8_t *now;
    uint8_t *durable;
    size_t room; /* of both */
    uint64_t bytes;
    uint64_t durable_bytes;
    bool bad; /* bytes that cannot be read, in this life */
    uint64_t bad_from;
    uint64_t bad_to;
    bool dropped; /* a sync failed: what the kernel shows (now) may be nowhere else */
    struct unsynced *unsynced;
    size_t unsynced_count;
    size_t unsynced_room;
};

struct entry {
    char name[NAME_BYTES];
    unsigned inode;
};

struct names {
    struct entry entries[NAMES_MAX];
    unsigned count;
};

enum change_kind { CHANGE_CREATE = 1, CHANGE_RENAME, CHANGE_UNLINK };

struct change {
    enum change_kind kind;
    char name[NAME_BYTES];
    char to[NAME_BYTES];
    unsigned inode;
};

struct descriptor {
    bool used;
    bool directory;
    bool writes;
    bool direct;
    unsigned inode;
};

struct queued {
    struct weir__op op;
    bool first; /* of its run */
    bool over;
};

struct queue {
    bool open;
    bool broken;
    unsigned entries;
    struct queued queued[QUEUE_OPS_MAX];
    unsigned queued_count;
    struct weir__event events[QUEUE_OPS_MAX];
    unsigned event_count;
    bool woken;
};

struct disk {
    struct sim_disk_config config;
    struct inode inodes[INODES_MAX];
    struct names now;
    struct names durable;
    struct change changes[CHANGES_MAX];
    unsigned change_count;
    struct descriptor descriptors[FILES_MAX];
    bool locked;
    bool lost_bytes;
    bool writes_dead; /* until this process is gone */
    bool syncs_dead;
    uint64_t steps;
    uint64_t crash_at;
    unsigned crash_names; /* 0: no crash at names */
    uint64_t crash_names_steps;

    struct queue queues[QUEUES_MAX];
    void (*observer)(void);
};

extern struct disk disk;

/* A file nobody has yet. Aborts when there are too many. */
unsigned disk_inode_new(void);
/* Its memory has room for so many bytes, zeros where nothing was written. */
void disk_inode_grow(struct inode *inode, uint64_t bytes);
void disk_inode_free(struct inode *inode);
void disk_change_apply(struct names *names, const struct change *change);
/* The process is gone: its descriptors, its lock, its queues. */
void disk_process_gone(void);
/* Not NULL. */
void *disk_must(void *block);

#endif
