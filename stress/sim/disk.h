/* SPDX-License-Identifier: Apache-2.0
 * A simulated directory on a simulated device, behind the engine's I/O seam.
 *
 * Each file has its bytes as the kernel sees them, its bytes as they are durable, and the writes in
 * between, in the order in which they were carried out. A sync of the file makes all of them durable
 * that were carried out before it began; a durable write itself alone. Names are the same: as they
 * are, as they are durable, and the changes in between, which only a sync of the directory makes
 * durable.
 *
 * A power cut keeps of each sector (512 bytes or 4 KiB) any of its versions since it was last
 * durable, each sector for itself; with tears, also a part of one version over another. Of what is
 * with the queue it keeps any part. Of the names it keeps any subset of the changes that can be
 * carried out. A kill keeps all that the kernel has, and any part of what is with the queue. */
#ifndef WEIR_SIM_DISK_H
#define WEIR_SIM_DISK_H

#include "port/io.h"

/* Kinds of faults; a swarm switches each on or off per seed. */
#define SIM_FAULT_TABLE(X)                                                                         \
    X(write_error, "writes that failed with EIO")                                                  \
    X(write_short, "writes that came back short")                                                  \
    X(write_zero, "writes that came back with nothing written")                                    \
    X(write_again, "operations that came back EAGAIN")                                             \
    X(interrupted, "operations that came back EINTR")                                              \
    X(write_dead, "devices that took no write any more")                                           \
    X(sync_error, "syncs that failed with EIO, their bytes lost")                                  \
    X(sync_dead, "devices on which every later sync failed, too")                                  \
    X(read_error, "reads that failed with EIO")                                                    \
    X(read_short, "reads that came back short")                                                    \
    X(no_space, "writes and creations refused for want of space")                                  \
    X(name_error, "creations, renames, unlinks, directory syncs that failed")                      \
    X(open_error, "files that could not be opened")                                                \
    X(ring_refused, "rings that could not be set up")                                              \
    X(ring_broken, "rings that gave out nothing but an error any more")                            \
    X(push_refused, "submissions that the kernel refused")                                         \
    X(no_memory, "allocations that got nothing")                                                   \
    X(late, "completions held back behind later ones")                                             \
    X(torn, "sectors that kept a part of one version over another")                                \
    X(rot, "bits that changed on the device")                                                      \
    X(misdirected, "writes that went elsewhere")                                                   \
    X(misread, "reads that came from elsewhere")                                                   \
    X(lost_write, "writes that were reported done and were not")                                   \
    X(stale_frames, "records whose payload holds blocks of the log")                               \
    X(slow, "waits for a device that takes its time")                                              \
    X(copy_lost, "copies of the control file that went bad, one at a time")

enum sim_fault {
#define SIM_FAULT_NAME(name, what) SIM_FAULT_##name,
    SIM_FAULT_TABLE(SIM_FAULT_NAME)
#undef SIM_FAULT_NAME
        SIM_FAULTS
};

struct sim_disk_config {
    uint32_t sector_bytes; /* 512 or 4096 */
    bool direct;
    bool fua;
    uint64_t slow_ns;               /* an operation takes up to so long; 0: no time */
    uint64_t space_bytes;           /* of all files; UINT64_MAX: no end */
    uint16_t per_mille[SIM_FAULTS]; /* of the operations that a kind can meet */
};

/* Counts since the start of the process. */
extern uint64_t sim_fault_count[SIM_FAULTS];
extern const char *const sim_fault_names[SIM_FAULTS];
extern const char *const sim_fault_texts[SIM_FAULTS];

/* An empty directory. */
void sim_disk_format(const struct sim_disk_config *config);
/* Changes what faults do from now on. */
void sim_disk_configure(const struct sim_disk_config *config);
/* The seam. */
struct weir__io *sim_disk_io(void);

/* The number of changes (writes, syncs, names) that were begun since the format. */
uint64_t sim_disk_steps(void);
/* The machine crashes (sim_crash) when so many more have begun; UINT64_MAX: it does not. */
void sim_disk_crash_after(uint64_t steps);
/* The same, so many steps behind the n-th name that is made, changed or taken away from now on. */
void sim_disk_crash_at_name(unsigned names, uint64_t steps);
/* After the crash: what is left when power is lost, or when only the process was killed. */
void sim_disk_power_cut(void);
void sim_disk_kill(void);
/* A power cut that leaves nothing but what is durable. */
void sim_disk_power_cut_bare(void);
/* Did any file fail a sync since the format or the last power cut? Its unsynced bytes are then lost
 * for good, though the kernel still shows them to whoever reads through its cache. */
bool sim_disk_lost_bytes(void);

/* Files that there are, and the bytes in them. */
unsigned sim_disk_files(void);
uint64_t sim_disk_used(void);
/* Fills out with what stands in some file from a multiple of align on; false: there is no such
 * place. For payload that imitates what a log once wrote. */
bool sim_disk_copy(uint8_t *out, size_t bytes, uint32_t align);

/* Changes a bit of one copy of the control file, where both are sound: one is enough. */
void sim_disk_lose_copy(void);
/* Changes one bit of a durable byte, somewhere in use. False: there is none. */
bool sim_disk_rot(void);
/* A value that two equal disk states share. */
uint64_t sim_disk_hash(void);

/* ---- every power cut (image.c) ---------------------------------------------------------------- */

/* Calls observe when a change is about to begin, wherever that is; NULL: not any more. */
void sim_disk_observe(void (*observe)(void));

/* The disk at one moment, with all that a power cut there could keep of it: of each sector any
 * version since it was durable, of each file's length the durable or the new one, each change of
 * names or not. Of the queues: what may have begun. */
struct sim_disk_image;
struct sim_disk_image *sim_disk_image_take(void);
void sim_disk_image_free(struct sim_disk_image *image);
/* How many things there are to choose; the number of choices, UINT64_MAX if it is beyond. */
unsigned sim_disk_image_units(const struct sim_disk_image *image);
uint64_t sim_disk_image_choices(const struct sim_disk_image *image);
/* A choice, 0 .. choices-1; where there are too many, any number stands for some choice. */
void sim_disk_image_choose(struct sim_disk_image *image, uint64_t choice);
/* A value that two equal states share, for the choice made. */
uint64_t sim_disk_image_hash(const struct sim_disk_image *image);
/* Makes the disk so. */
void sim_disk_image_put(const struct sim_disk_image *image, const struct sim_disk_config *config);

#endif
