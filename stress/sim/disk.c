/* SPDX-License-Identifier: Apache-2.0
 * The simulated directory and device. See disk.h for what it promises to lose.
 *
 * The queue: pushed runs wait in a list; a reap carries out their operations one by one, in an order
 * that chance chooses among the runs (inside a run the links decide), and hands the results out. So
 * an operation takes effect at some moment between its push and its event, and a crash meets some
 * that were begun and not carried out. */
#include "disk_state.h"

#include "base/num.h"
#include "format/control.h"
#include "machine.h"
#include "port/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t sim_fault_count[SIM_FAULTS];
const char *const sim_fault_names[SIM_FAULTS] = {
#define NAME_OF(name, what) #name,
    SIM_FAULT_TABLE(NAME_OF)
#undef NAME_OF
};
const char *const sim_fault_texts[SIM_FAULTS] = {
#define TEXT_OF(name, what) what,
    SIM_FAULT_TABLE(TEXT_OF)
#undef TEXT_OF
};

struct disk disk;

/* ---- faults ---------------------------------------------------------------------------------- */

static bool fault(enum sim_fault kind)
{
    if (!sim_chance(disk.config.per_mille[kind])) {
        return false;
    }
    sim_fault_count[kind]++;
    return true;
}

/* The same for one that stays: once it was met, every later operation meets it. */
static bool fault_stays(enum sim_fault kind, bool *dead)
{
    *dead = *dead || fault(kind);
    return *dead;
}

static int no_space(void)
{
    return sim_chance(800) ? -ENOSPC : -EDQUOT;
}

/* The device takes its time, and others go on. */
static void device_wait(void)
{
    if (disk.config.slow_ns == 0) {
        sim_switch();
        return;
    }
    static const char nobody; /* wakes from this */
    sim_fault_count[SIM_FAULT_slow]++;
    (void)sim_block(&nobody, sim_now_ns() + sim_below(disk.config.slow_ns));
}

/* A change begins: here the power may go. */
static void step(void)
{
    disk.steps++;
    if (disk.observer != NULL) {
        disk.observer();
    }
    if (disk.steps >= disk.crash_at) {
        sim_crash();
    }
}

uint64_t sim_disk_steps(void)
{
    return disk.steps;
}

void sim_disk_crash_after(uint64_t steps)
{
    disk.crash_at = steps == UINT64_MAX ? UINT64_MAX : disk.steps + steps;
}

void sim_disk_crash_at_name(unsigned names, uint64_t steps)
{
    disk.crash_names = names;
    disk.crash_names_steps = steps;
}

/* A name is about to change. */
static void name_step(void)
{
    if (disk.crash_names > 0 && --disk.crash_names == 0) {
        disk.crash_at = disk.steps + 1 + disk.crash_names_steps;
    }
    step();
}

bool sim_disk_lost_bytes(void)
{
    return disk.lost_bytes;
}

/* ---- inodes ---------------------------------------------------------------------------------- */

void *disk_must(void *block)
{
    if (block == NULL) {
        fprintf(stderr, "weir-stress sim: out of memory\n");
        abort();
    }
    return block;
}

static void inode_forget_unsynced(struct inode *inode)
{
    for (size_t i = 0; i < inode->unsynced_count; i++) {
        free(inode->unsynced[i].data);
    }
    inode->unsynced_count = 0;
}

void disk_inode_free(struct inode *inode)
{
    inode_forget_unsynced(inode);
    free(inode->unsynced);
    free(inode->now);
    free(inode->durable);
    memset(inode, 0, sizeof *inode);
}

unsigned disk_inode_new(void)
{
    for (unsigned i = 0; i < INODES_MAX; i++) {
        if (!disk.inodes[i].used) {
            disk.inodes[i].used = true;
            return i;
        }
    }
    fprintf(stderr, "weir-stress sim: too many files\n");
    abort();
}

/* Inodes that nothing leads to, neither now nor after a power cut. */
static void inodes_sweep(void)
{
    bool needed[INODES_MAX] = {false};

    for (unsigned k = 0; k < disk.now.count; k++) {
        needed[disk.now.entries[k].inode] = true;
    }
    for (unsigned k = 0; k < disk.durable.count; k++) {
        needed[disk.durable.entries[k].inode] = true;
    }
    for (unsigned k = 0; k < disk.change_count; k++) {
        needed[disk.changes[k].inode] |= disk.changes[k].kind == CHANGE_CREATE;
    }
    for (unsigned k = 0; k < FILES_MAX; k++) {
        if (disk.descriptors[k].used && !disk.descriptors[k].directory) {
            needed[disk.descriptors[k].inode] = true;
        }
    }
    for (unsigned i = 0; i < INODES_MAX; i++) {
        if (disk.inodes[i].used && !needed[i]) {
            disk_inode_free(&disk.inodes[i]);
        }
    }
}

void disk_inode_grow(struct inode *inode, uint64_t bytes)
{
    if (bytes > inode->room) {
        size_t room = inode->room == 0 ? 16384 : inode->room;
        while (room < bytes) {
            room *= 2;
        }
        inode->now = disk_must(realloc(inode->now, room));
        inode->durable = disk_must(realloc(inode->durable, room));
        memset(inode->now + inode->room, 0, room - inode->room);
        memset(inode->durable + inode->room, 0, room - inode->room);
        inode->room = room;
    }
}

/* Carries a write out: the kernel has it. */
static void inode_write(struct inode *inode, uint64_t offset, const uint8_t *data, size_t bytes)
{
    if (bytes == 0) {
        return;
    }
    disk_inode_grow(inode, offset + bytes);
    memcpy(inode->now + offset, data, bytes);
    inode->bytes = weir__max_u64(inode->bytes, offset + bytes);
    if (inode->unsynced_count == inode->unsynced_room) {
        inode->unsynced_room = inode->unsynced_room == 0 ? 16 : 2 * inode->unsynced_room;
        inode->unsynced =
            disk_must(realloc(inode->unsynced, inode->unsynced_room * sizeof *inode->unsynced));
    }
    struct unsynced *const write = &inode->unsynced[inode->unsynced_count++];
    *write = (struct unsynced){offset, bytes, disk_must(malloc(bytes))};
    memcpy(write->data, data, bytes);
}

/* The range is durable as it is now. Earlier versions of its sectors cannot come back. */
static void inode_settle(struct inode *inode, uint64_t offset, size_t bytes)
{
    memcpy(inode->durable + offset, inode->now + offset, bytes);
    inode->durable_bytes = weir__max_u64(inode->durable_bytes, offset + bytes);
    /* What unsynced writes say of the range is what it holds now, or older: taken out of them. */
    for (size_t i = 0; i < inode->unsynced_count; i++) {
        struct unsynced *const write = &inode->unsynced[i];
        const uint64_t from = weir__max_u64(write->offset, offset);
        const uint64_t to = weir__min_u64(write->offset + write->bytes, offset + bytes);
        if (from < to) {
            memcpy(write->data + (from - write->offset), inode->now + from, (size_t)(to - from));
        }
    }
}

static void inode_sync(struct inode *inode)
{
    for (size_t i = 0; i < inode->unsynced_count; i++) {
        const struct unsynced *const write = &inode->unsynced[i];
        memcpy(inode->durable + write->offset, write->data, write->bytes);
    }
    inode->durable_bytes = inode->bytes;
    inode_forget_unsynced(inode);
}

/* A sync that failed: the kernel takes its pages for clean. What of them has reached the device is
 * chance, and no later sync will write them. */
static void inode_drop(struct inode *inode)
{
    for (size_t i = 0; i < inode->unsynced_count; i++) {
        const struct unsynced *const write = &inode->unsynced[i];
        for (size_t at = 0; at < write->bytes;) {
            const size_t sector = disk.config.sector_bytes;
            const size_t some =
                weir__min_u64(write->bytes - at, sector - (write->offset + at) % sector);
            if (sim_chance(500)) {
                memcpy(inode->durable + write->offset + at, write->data + at, some);
            }
            at += some;
        }
    }
    inode->durable_bytes = inode->bytes;
    inode_forget_unsynced(inode);
    inode->dropped = true;
    disk.lost_bytes = true;
}

/* ---- a power cut ----------------------------------------------------------------------------- */

/* One sector's versions: durable, then after each unsynced write that touches it. */
static void sector_cut(struct inode *inode, uint64_t sector)
{
    const size_t size = disk.config.sector_bytes;
    const uint64_t from = sector * size;
    const uint64_t to = weir__min_u64(from + size, inode->room);
    unsigned versions = 0;

    for (size_t i = 0; i < inode->unsynced_count; i++) {
        const struct unsynced *const write = &inode->unsynced[i];
        versions += write->offset < to && write->offset + write->bytes > from;
    }
    if (versions == 0) {
        return;
    }
    const uint64_t keep = sim_below(versions + 1);
    bool tear = keep < versions && fault(SIM_FAULT_torn);
    uint64_t done = 0;
    for (size_t i = 0; i < inode->unsynced_count; i++) {
        const struct unsynced *const write = &inode->unsynced[i];
        uint64_t a = weir__max_u64(write->offset, from);
        uint64_t b = weir__min_u64(write->offset + write->bytes, to);
        if (a >= b) {
            continue;
        }
        if (done == keep) {
            if (!tear) {
                break;
            }
            /* The next version, up to some byte of it. */
            b = a + sim_below(b - a + 1);
            tear = false;
            memcpy(inode->durable + a, write->data + (a - write->offset), (size_t)(b - a));
            break;
        }
        memcpy(inode->durable + a, write->data + (a - write->offset), (size_t)(b - a));
        done++;
    }
}

/* Marks the sectors that unsynced writes touch, each once, and calls for them. */
static void inode_cut(struct inode *inode)
{
    const size_t size = disk.config.sector_bytes;
    const size_t sectors = (inode->room + size - 1) / size;
    uint8_t *const touched = disk_must(calloc(1, sectors + 1));

    for (size_t i = 0; i < inode->unsynced_count; i++) {
        const struct unsynced *const write = &inode->unsynced[i];
        for (uint64_t s = write->offset / size; s <= (write->offset + write->bytes - 1) / size;
             s++) {
            touched[s] = 1;
        }
    }
    for (uint64_t s = 0; s < sectors; s++) {
        if (touched[s] != 0) {
            sector_cut(inode, s);
        }
    }
    free(touched);
    /* The length: as it was durable, or as it is. */
    if (inode->bytes != inode->durable_bytes) {
        if (sim_chance(500)) {
            inode->durable_bytes = inode->bytes;
        } else if (inode->durable_bytes < inode->room) {
            memset(inode->durable + inode->durable_bytes,
                   0,
                   inode->room - (size_t)inode->durable_bytes);
        }
    }
    inode_forget_unsynced(inode);
    if (inode->room > 0) {
        memcpy(inode->now, inode->durable, inode->room);
    }
    inode->bytes = inode->durable_bytes;
    inode->dropped = false;
}

static struct entry *names_find(struct names *names, const char *name)
{
    for (unsigned i = 0; i < names->count; i++) {
        if (strcmp(names->entries[i].name, name) == 0) {
            return &names->entries[i];
        }
    }
    return NULL;
}

static void names_set(struct names *names, const char *name, unsigned inode)
{
    struct entry *entry = names_find(names, name);

    if (entry == NULL) {
        if (names->count == NAMES_MAX) {
            abort();
        }
        entry = &names->entries[names->count++];
        (void)snprintf(entry->name, sizeof entry->name, "%s", name);
    }
    entry->inode = inode;
}

static void names_remove(struct names *names, const char *name)
{
    struct entry *const entry = names_find(names, name);

    if (entry != NULL) {
        *entry = names->entries[--names->count];
    }
}

void disk_change_apply(struct names *names, const struct change *change)
{
    struct entry *entry;

    switch (change->kind) {
    case CHANGE_CREATE:
        names_set(names, change->name, change->inode);
        break;
    case CHANGE_RENAME:
        entry = names_find(names, change->name);
        if (entry != NULL) {
            /* Only if it is still the same file that was renamed. */
            const unsigned inode = entry->inode;
            if (inode == change->inode) {
                names_remove(names, change->name);
                names_set(names, change->to, inode);
            }
        }
        break;
    case CHANGE_UNLINK:
        names_remove(names, change->name);
        break;
    }
}

/* What of the queue's operations takes effect although nobody will ever hear of it. */
static void queue_scatter(const struct queue *queue)
{
    for (unsigned i = 0; i < queue->queued_count; i++) {
        const struct queued *const queued = &queue->queued[i];
        if (queued->over || queued->op.kind != WEIR__OP_WRITE || sim_chance(400)) {
            continue;
        }
        const struct descriptor *const file = &disk.descriptors[queued->op.file - FIRST_DESCRIPTOR];
        uint64_t offset = queued->op.offset;
        for (unsigned k = 0; k < queued->op.iov_count; k++) {
            const struct iovec *const iov = &queued->op.iov[k];
            inode_write(&disk.inodes[file->inode], offset, iov->iov_base, iov->iov_len);
            offset += iov->iov_len;
        }
    }
}

static void queues_scatter(void)
{
    for (unsigned i = 0; i < QUEUES_MAX; i++) {
        if (disk.queues[i].open) {
            queue_scatter(&disk.queues[i]);
        }
    }
}

void disk_process_gone(void)
{
    disk.locked = false;
    disk.writes_dead = false;
    disk.syncs_dead = false;
    for (unsigned i = 0; i < QUEUES_MAX; i++) {
        disk.queues[i].open = false;
    }
    for (unsigned i = 0; i < INODES_MAX; i++) {
        disk.inodes[i].bad = false;
    }
    memset(disk.descriptors, 0, sizeof disk.descriptors);
    disk.crash_at = UINT64_MAX;
    disk.crash_names = 0;
    inodes_sweep();
}

void sim_disk_kill(void)
{
    queues_scatter();
    disk_process_gone();
}

void sim_disk_power_cut(void)
{
    queues_scatter();
    for (unsigned i = 0; i < INODES_MAX; i++) {
        if (disk.inodes[i].used) {
            inode_cut(&disk.inodes[i]);
        }
    }
    for (unsigned i = 0; i < disk.change_count; i++) {
        if (sim_chance(600)) {
            disk_change_apply(&disk.durable, &disk.changes[i]);
        }
    }
    disk.change_count = 0;
    disk.now = disk.durable;
    disk.lost_bytes = false;
    disk_process_gone();
}

void sim_disk_power_cut_bare(void)
{
    for (unsigned i = 0; i < INODES_MAX; i++) {
        struct inode *const inode = &disk.inodes[i];
        if (inode->used && inode->room > 0) {
            inode_forget_unsynced(inode);
            memcpy(inode->now, inode->durable, inode->room);
            inode->bytes = inode->durable_bytes;
            inode->dropped = false;
        }
    }
    disk.change_count = 0;
    disk.now = disk.durable;
    disk.lost_bytes = false;
    disk_process_gone();
}

bool sim_disk_copy(uint8_t *out, size_t bytes, uint32_t align)
{
    for (unsigned tries = 0; tries < 20; tries++) {
        const struct inode *const inode = &disk.inodes[sim_below(INODES_MAX)];
        if (inode->used && inode->bytes >= align + bytes) {
            const uint64_t places = (inode->bytes - bytes) / align + 1;
            memcpy(out, inode->now + sim_below(places) * align, bytes);
            return true;
        }
    }
    return false;
}

bool sim_disk_rot(void)
{
    for (unsigned tries = 0; tries < 50; tries++) {
        struct inode *const inode = &disk.inodes[sim_below(INODES_MAX)];
        if (!inode->used || inode->bytes == 0 || inode->unsynced_count > 0) {
            continue;
        }
        const uint64_t at = sim_below(inode->bytes);
        const uint8_t bit = (uint8_t)(1u << sim_below(8));
        inode->durable[at] ^= bit;
        inode->now[at] = inode->durable[at];
        sim_fault_count[SIM_FAULT_rot]++;
        return true;
    }
    return false;
}

uint64_t sim_disk_hash(void)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    /* Names in their order in the alphabet: the table's own order is history. */
    bool seen[NAMES_MAX] = {false};
    for (unsigned n = 0; n < disk.now.count; n++) {
        unsigned first = NAMES_MAX;
        for (unsigned i = 0; i < disk.now.count; i++) {
            if (!seen[i] && (first == NAMES_MAX ||
                             strcmp(disk.now.entries[i].name, disk.now.entries[first].name) < 0)) {
                first = i;
            }
        }
        seen[first] = true;
        const struct entry *const entry = &disk.now.entries[first];
        const struct inode *const inode = &disk.inodes[entry->inode];
        for (const char *c = entry->name; *c != '\0'; c++) {
            hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
        }
        hash = (hash ^ inode->bytes) * UINT64_C(0x100000001b3);
        uint64_t at = 0;
        for (; at + 8 <= inode->bytes; at += 8) {
            uint64_t word;
            memcpy(&word, inode->now + at, 8);
            hash = (hash ^ word) * UINT64_C(0x100000001b3);
            hash ^= hash >> 29;
        }
        for (; at < inode->bytes; at++) {
            hash = (hash ^ inode->now[at]) * UINT64_C(0x100000001b3);
        }
    }
    return hash;
}

void sim_disk_lose_copy(void)
{
    const struct entry *const entry = names_find(&disk.durable, "weir.control");
    struct weir__control control;
    const char *why;

    if (entry == NULL) {
        return;
    }
    struct inode *const inode = &disk.inodes[entry->inode];
    for (unsigned copy = 0; copy < 2; copy++) {
        if (inode->bytes < WEIR__CONTROL_FILE_BYTES || inode->unsynced_count > 0 ||
            weir__control_decode(inode->durable + copy * (WEIR__CONTROL_FILE_BYTES / 2),
                                 &control,
                                 &why) != 0) {
            return;
        }
    }
    uint64_t at = sim_below(WEIR__CONTROL_USED_BYTES);
    at += sim_chance(500) ? WEIR__CONTROL_FILE_BYTES / 2 : 0;
    inode->durable[at] ^= (uint8_t)(1u << sim_below(8));
    inode->now[at] = inode->durable[at];
    sim_fault_count[SIM_FAULT_copy_lost]++;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static struct descriptor *descriptor_of(int file)
{
    const int index = file - FIRST_DESCRIPTOR;
    if (index < 0 || index >= (int)FILES_MAX || !disk.descriptors[index].used) {
        return NULL;
    }
    return &disk.descriptors[index];
}

static int descriptor_new(struct descriptor what, int *file_out)
{
    for (unsigned i = 0; i < FILES_MAX; i++) {
        if (!disk.descriptors[i].used) {
            what.used = true;
            disk.descriptors[i] = what;
            *file_out = (int)i + FIRST_DESCRIPTOR;
            return 0;
        }
    }
    return -EMFILE;
}

static struct change *change_new(enum change_kind kind, const char *name, unsigned inode)
{
    if (disk.change_count == CHANGES_MAX) {
        abort();
    }
    struct change *const change = &disk.changes[disk.change_count++];
    *change = (struct change){.kind = kind, .inode = inode};
    (void)snprintf(change->name, sizeof change->name, "%s", name);
    return change;
}

static int disk_open_dir(struct weir__io *io, const char *path, bool create, int *dir_out)
{
    (void)io;
    (void)path;
    (void)create;
    return descriptor_new((struct descriptor){.directory = true}, dir_out);
}

static int disk_sync_dir(struct weir__io *io, int dir)
{
    (void)io;
    (void)dir;
    sim_switch();
    step();
    if (fault(SIM_FAULT_name_error)) {
        return -EIO;
    }
    for (unsigned i = 0; i < disk.change_count; i++) {
        disk_change_apply(&disk.durable, &disk.changes[i]);
    }
    disk.change_count = 0;
    inodes_sweep();
    return 0;
}

static int
disk_list_dir(struct weir__io *io, int dir, int (*visit)(void *ctx, const char *name), void *ctx)
{
    (void)io;
    (void)dir;
    const struct names names = disk.now; /* whoever visits may change them */
    for (unsigned i = 0; i < names.count; i++) {
        const int code = visit(ctx, names.entries[i].name);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

unsigned sim_disk_files(void)
{
    return disk.now.count;
}

uint64_t sim_disk_used(void)
{
    uint64_t used = 0;
    for (unsigned i = 0; i < INODES_MAX; i++) {
        used += disk.inodes[i].used ? disk.inodes[i].bytes : 0;
    }
    return used;
}

static int disk_facts(struct weir__io *io, int dir, struct weir__fs_facts *facts_out)
{
    (void)io;
    (void)dir;
    memset(facts_out, 0, sizeof *facts_out);
    (void)snprintf(facts_out->fs_name, sizeof facts_out->fs_name, "sim");
    facts_out->direct = disk.config.direct;
    facts_out->direct_align = 512;
    facts_out->fua = disk.config.fua ? 1 : 0;
    facts_out->write_cache = 1;
    const uint64_t used = sim_disk_used();
    facts_out->free_bytes = disk.config.space_bytes > used ? disk.config.space_bytes - used : 0;
    return 0;
}

static int disk_open(struct weir__io *io, int dir, const char *name, unsigned flags, int *file_out)
{
    (void)io;
    (void)dir;
    struct entry *const entry = names_find(&disk.now, name);
    struct descriptor what = {.writes = (flags & WEIR__OPEN_WRITE) != 0,
                              .direct = (flags & WEIR__OPEN_DIRECT) != 0};

    if ((flags & WEIR__OPEN_DIRECT) != 0 && !disk.config.direct) {
        return -EINVAL;
    }
    if (fault(SIM_FAULT_open_error)) {
        return sim_chance(500) ? -EMFILE : -EIO;
    }
    if (entry != NULL) {
        if ((flags & WEIR__OPEN_EXCLUSIVE) != 0) {
            return -EEXIST;
        }
        what.inode = entry->inode;
        return descriptor_new(what, file_out);
    }
    if ((flags & WEIR__OPEN_CREATE) == 0) {
        return -ENOENT;
    }
    name_step();
    if (fault(SIM_FAULT_name_error)) {
        return -EIO;
    }
    if (sim_disk_used() >= disk.config.space_bytes || fault(SIM_FAULT_no_space)) {
        return no_space();
    }
    what.inode = disk_inode_new();
    names_set(&disk.now, name, what.inode);
    (void)change_new(CHANGE_CREATE, name, what.inode);
    return descriptor_new(what, file_out);
}

static int disk_close(struct weir__io *io, int file)
{
    (void)io;
    struct descriptor *const descriptor = descriptor_of(file);
    if (descriptor == NULL) {
        return -EBADF;
    }
    descriptor->used = false;
    inodes_sweep();
    return 0;
}

static int disk_info(struct weir__io *io, int file, struct weir__file_info *info_out)
{
    (void)io;
    const struct descriptor *const descriptor = descriptor_of(file);
    if (descriptor == NULL) {
        return -EBADF;
    }
    *info_out = (struct weir__file_info){
        .bytes = disk.inodes[descriptor->inode].bytes,
        .links = 1,
        .inode = descriptor->inode,
        .regular = true,
    };
    return 0;
}

static int disk_rename(struct weir__io *io, int dir, const char *from, const char *to)
{
    (void)io;
    (void)dir;
    sim_switch();
    name_step();
    if (fault(SIM_FAULT_name_error)) {
        return -EIO;
    }
    struct entry *const entry = names_find(&disk.now, from);
    if (entry == NULL) {
        return -ENOENT;
    }
    struct change *const change = change_new(CHANGE_RENAME, from, entry->inode);
    (void)snprintf(change->to, sizeof change->to, "%s", to);
    disk_change_apply(&disk.now, change);
    return 0;
}

static int disk_unlink(struct weir__io *io, int dir, const char *name)
{
    (void)io;
    (void)dir;
    sim_switch();
    name_step();
    if (fault(SIM_FAULT_name_error)) {
        return -EIO;
    }
    const struct entry *const entry = names_find(&disk.now, name);
    if (entry == NULL) {
        return -ENOENT;
    }
    disk_change_apply(&disk.now, change_new(CHANGE_UNLINK, name, entry->inode));
    return 0;
}

static int disk_truncate(struct weir__io *io, int file, uint64_t bytes)
{
    (void)io;
    struct descriptor *const descriptor = descriptor_of(file);
    if (descriptor == NULL || !descriptor->writes) {
        return -EBADF;
    }
    step();
    struct inode *const inode = &disk.inodes[descriptor->inode];
    if (bytes > inode->bytes && sim_disk_used() + bytes - inode->bytes > disk.config.space_bytes) {
        return no_space();
    }
    disk_inode_grow(inode, bytes);
    if (bytes < inode->bytes) {
        memset(inode->now + bytes, 0, (size_t)(inode->bytes - bytes));
    }
    inode->bytes = bytes;
    return 0;
}

/* ---- reads, writes, syncs: the same by a call and through the queue -------------------------- */

static ssize_t do_read(const struct descriptor *file, void *buffer, size_t bytes, uint64_t offset)
{
    struct inode *const inode = &disk.inodes[file->inode];

    if (offset >= inode->bytes || bytes == 0) {
        return 0;
    }
    bytes = (size_t)weir__min_u64(bytes, inode->bytes - offset);
    if (fault(SIM_FAULT_read_error)) {
        if (sim_chance(300)) {
            return -EIO; /* once */
        }
        inode->bad = true;
        inode->bad_from = weir__align_down(offset + sim_below(bytes), disk.config.sector_bytes);
        inode->bad_to = inode->bad_from + disk.config.sector_bytes;
    }
    if (inode->bad && offset < inode->bad_to && offset + bytes > inode->bad_from) {
        return -EIO;
    }
    const size_t unit = file->direct ? 512 : 1;
    if (bytes > unit && fault(SIM_FAULT_read_short)) {
        bytes = (size_t)weir__max_u64(unit, weir__align_down(sim_below(bytes), unit));
    }
    if (inode->bytes >= bytes && fault(SIM_FAULT_misread)) {
        offset = weir__align_down(sim_below(inode->bytes - bytes + 1), disk.config.sector_bytes);
    }
    if (!inode->dropped || !file->direct) {
        memcpy(buffer, inode->now + offset, bytes);
        return (ssize_t)bytes;
    }
    /* Past the page cache, and pages that were dropped count as clean: the device's bytes, and what
     * was written since. */
    memcpy(buffer, inode->durable + offset, bytes);
    for (size_t i = 0; i < inode->unsynced_count; i++) {
        const struct unsynced *const write = &inode->unsynced[i];
        const uint64_t from = weir__max_u64(write->offset, offset);
        const uint64_t to = weir__min_u64(write->offset + write->bytes, offset + bytes);
        if (from < to) {
            memcpy((uint8_t *)buffer + (from - offset),
                   write->data + (from - write->offset),
                   (size_t)(to - from));
        }
    }
    return (ssize_t)bytes;
}

static bool sync_fails(void)
{
    return fault_stays(SIM_FAULT_sync_dead, &disk.syncs_dead) || fault(SIM_FAULT_sync_error);
}

static int do_sync(const struct descriptor *file)
{
    struct inode *const inode = &disk.inodes[file->inode];

    if (sync_fails()) {
        inode_drop(inode);
        return -EIO;
    }
    inode_sync(inode);
    return 0;
}

static ssize_t do_write(const struct descriptor *file,
                        const struct iovec *iov,
                        unsigned iov_count,
                        uint64_t offset,
                        bool dsync)
{
    struct inode *const inode = &disk.inodes[file->inode];
    size_t bytes = 0;

    for (unsigned i = 0; i < iov_count; i++) {
        bytes += iov[i].iov_len;
    }
    if (!file->writes) {
        return -EBADF;
    }
    if (fault(SIM_FAULT_write_again)) {
        return -EAGAIN;
    }
    if (fault(SIM_FAULT_interrupted)) {
        return -EINTR;
    }
    const bool fails =
        fault_stays(SIM_FAULT_write_dead, &disk.writes_dead) || fault(SIM_FAULT_write_error);
    size_t allowed = bytes;
    const uint64_t end = offset + bytes;
    if (end > inode->bytes && (fault(SIM_FAULT_no_space) ||
                               sim_disk_used() + end - inode->bytes > disk.config.space_bytes)) {
        return no_space();
    }
    if (fault(SIM_FAULT_write_zero)) {
        return 0;
    }
    const size_t unit = file->direct ? 512 : 1;
    if (fails) {
        allowed = (size_t)weir__align_down(sim_below(bytes + 1), unit);
    } else if (bytes > unit && fault(SIM_FAULT_write_short)) {
        allowed = (size_t)weir__max_u64(unit, weir__align_down(sim_below(bytes), unit));
    }
    uint64_t where = offset;
    if (bytes <= 65536 && inode->bytes > 2 * disk.config.sector_bytes &&
        fault(SIM_FAULT_misdirected)) {
        where = weir__align_down(sim_below(inode->bytes), disk.config.sector_bytes);
        if (where + allowed > inode->bytes) {
            where = offset;
        }
    }
    const bool lost = fault(SIM_FAULT_lost_write);
    size_t left = allowed;
    uint64_t at = where;
    for (unsigned i = 0; i < iov_count && left > 0 && !lost; i++) {
        const size_t some = (size_t)weir__min_u64(iov[i].iov_len, left);
        inode_write(inode, at, iov[i].iov_base, some);
        at += some;
        left -= some;
    }
    if (fails) {
        return -EIO;
    }
    if (dsync) {
        step(); /* a power cut here keeps any part of it */
        if (sync_fails()) {
            inode_drop(inode);
            return -EIO;
        }
        if (!lost) {
            inode_settle(inode, where, allowed);
        }
    }
    return (ssize_t)allowed;
}

static ssize_t disk_read(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    (void)io;
    const struct descriptor *const descriptor = descriptor_of(file);
    return descriptor == NULL ? -EBADF : do_read(descriptor, buffer, bytes, offset);
}

static ssize_t disk_write(struct weir__io *io,
                          int file,
                          const struct iovec *iov,
                          unsigned iov_count,
                          uint64_t offset,
                          bool dsync)
{
    (void)io;
    const struct descriptor *const descriptor = descriptor_of(file);
    if (descriptor == NULL) {
        return -EBADF;
    }
    device_wait();
    step();
    const ssize_t result = do_write(descriptor, iov, iov_count, offset, dsync);
    sim_switch();
    return result;
}

static int disk_sync(struct weir__io *io, int file)
{
    (void)io;
    const struct descriptor *const descriptor = descriptor_of(file);
    if (descriptor == NULL) {
        return -EBADF;
    }
    device_wait();
    step();
    const int result = do_sync(descriptor);
    sim_switch();
    return result;
}

static int disk_lock(struct weir__io *io, int file)
{
    (void)io;
    (void)file;
    if (disk.locked) {
        return -EBUSY;
    }
    disk.locked = true;
    return 0;
}

static int disk_unlock(struct weir__io *io, int file)
{
    (void)io;
    (void)file;
    disk.locked = false;
    return 0;
}

static int disk_lock_held(struct weir__io *io, int file, bool *held_out)
{
    (void)io;
    (void)file;
    *held_out = disk.locked;
    return 0;
}

/* ---- the queue ------------------------------------------------------------------------------- */

static int disk_queue_open(struct weir__io *io,
                           struct weir__mem *mem,
                           const struct weir__queue_config *config,
                           struct weir__queue **queue_out,
                           struct weir__queue_info *info_out)
{
    (void)io;
    (void)mem;
    memset(info_out, 0, sizeof *info_out);
    if (fault(SIM_FAULT_ring_refused)) {
        static const int codes[] = {-ENOSYS, -EPERM, -ENOMEM, -EMFILE};
        return codes[sim_below(4)];
    }
    unsigned index = 0;
    while (index < QUEUES_MAX && disk.queues[index].open) {
        index++;
    }
    if (index == QUEUES_MAX) {
        return -ENOMEM;
    }
    struct queue *const queue = &disk.queues[index];
    queue->open = true;
    queue->broken = false;
    queue->entries = (unsigned)weir__min_u64(config->entries, QUEUE_OPS_MAX);
    queue->queued_count = 0;
    queue->event_count = 0;
    queue->woken = false;
    info_out->entries = queue->entries;
    *queue_out = (struct weir__queue *)queue;
    return 0;
}

/* Carries one operation out: the first that is not over of some run. */
static void queue_advance(struct queue *queue)
{
    unsigned heads[QUEUE_OPS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < queue->queued_count; i++) {
        /* The first of its run that is not over: everything before it in the run is. */
        const bool head =
            !queue->queued[i].over && (queue->queued[i].first || queue->queued[i - 1].over);
        if (head) {
            heads[count++] = i;
        }
    }
    if (count == 0) {
        return;
    }
    unsigned chosen = heads[0];
    if (count > 1 && disk.config.per_mille[SIM_FAULT_late] > 0) {
        chosen = heads[sim_below(count)];
        sim_fault_count[SIM_FAULT_late] += chosen != heads[0];
    }
    struct queued *const queued = &queue->queued[chosen];
    const struct descriptor *const file = descriptor_of(queued->op.file);
    ssize_t result = -EBADF;
    size_t bytes = 0;
    for (unsigned i = 0; i < queued->op.iov_count; i++) {
        bytes += queued->op.iov[i].iov_len;
    }
    step();
    if (file != NULL) {
        switch (queued->op.kind) {
        case WEIR__OP_WRITE:
            result = do_write(file,
                              queued->op.iov,
                              queued->op.iov_count,
                              queued->op.offset,
                              queued->op.dsync);
            break;
        case WEIR__OP_READ:
            if (fault(SIM_FAULT_interrupted)) {
                result = sim_chance(500) ? -EINTR : -EAGAIN;
                break;
            }
            result = do_read(file, queued->op.iov[0].iov_base, bytes, queued->op.offset);
            break;
        case WEIR__OP_SYNC:
            result = do_sync(file);
            break;
        }
    }
    const bool well =
        queued->op.kind == WEIR__OP_SYNC ? result == 0 : result >= 0 && (size_t)result == bytes;
    unsigned at = chosen;
    for (;;) {
        queue->queued[at].over = true;
        queue->events[queue->event_count++] =
            (struct weir__event){.data = queue->queued[at].op.data, .result = (int32_t)result};
        if (well || !queue->queued[at].op.link) {
            break;
        }
        at++;
        result = -ECANCELED;
    }
    /* What is over in front goes. */
    unsigned gone = 0;
    while (gone < queue->queued_count && queue->queued[gone].over) {
        gone++;
    }
    /* A run is taken out as a whole, so that `first` tells where one begins. */
    while (gone > 0 && gone < queue->queued_count && !queue->queued[gone].first) {
        gone--;
    }
    memmove(queue->queued,
            queue->queued + gone,
            (queue->queued_count - gone) * sizeof *queue->queued);
    queue->queued_count -= gone;
}

static int disk_queue_push(struct weir__io *io,
                           struct weir__queue *queue,
                           const struct weir__op *ops,
                           unsigned count)
{
    (void)io;
    struct queue *const own = (struct queue *)queue;
    if (own->queued_count + own->event_count + count > QUEUE_OPS_MAX) {
        return -EAGAIN;
    }
    if (own->broken) {
        return -EIO;
    }
    if (fault(SIM_FAULT_push_refused)) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        own->queued[own->queued_count++] =
            (struct queued){.op = ops[i], .first = i == 0 || !ops[i - 1].link};
    }
    sim_switch();
    return 0;
}

static bool queue_idle(const struct queue *queue)
{
    for (unsigned i = 0; i < queue->queued_count; i++) {
        if (!queue->queued[i].over) {
            return false;
        }
    }
    return true;
}

static int disk_queue_reap(struct weir__io *io,
                           struct weir__queue *queue,
                           struct weir__event *events,
                           unsigned max,
                           unsigned min,
                           uint64_t deadline_ns)
{
    (void)io;
    struct queue *const own = (struct queue *)queue;
    const bool late = disk.config.per_mille[SIM_FAULT_late] > 0;
    if (fault_stays(SIM_FAULT_ring_broken, &own->broken)) {
        sim_switch();
        return -EIO; /* what was pushed goes on, and nobody hears of it */
    }
    for (;;) {
        while (!queue_idle(own) && sim_chance(disk.config.slow_ns == 0 ? 500 : 30)) {
            queue_advance(own);
            sim_switch();
        }
        if (own->event_count >= min && own->event_count > 0) {
            /* What has come back may be told of only when others have, too. */
            if (queue_idle(own) || !late || !sim_chance(300)) {
                break;
            }
            queue_advance(own);
            sim_switch();
            continue;
        }
        if (min == 0 || own->woken) {
            own->woken = min == 0 ? own->woken : false;
            break;
        }
        if (!queue_idle(own) && disk.config.slow_ns > 0 && sim_chance(700)) {
            sim_fault_count[SIM_FAULT_slow]++;
            (void)sim_block(&own->woken, sim_now_ns() + sim_below(disk.config.slow_ns));
        } else if (!queue_idle(own)) {
            queue_advance(own);
            sim_switch();
        } else if (own->event_count > 0) {
            break;
        } else if (!sim_block(&own->woken, deadline_ns)) {
            break;
        }
    }
    if (late && own->event_count > 1 && sim_chance(300)) {
        max = (unsigned)weir__min_u64(max, 1 + sim_below(own->event_count));
    }
    unsigned count = 0;
    while (count < max && own->event_count > 0) {
        const unsigned which = (unsigned)sim_below(own->event_count);
        events[count++] = own->events[which];
        own->events[which] = own->events[--own->event_count];
    }
    return (int)count;
}

static void disk_queue_wake(struct weir__io *io, struct weir__queue *queue)
{
    (void)io;
    struct queue *const own = (struct queue *)queue;
    own->woken = true;
    (void)sim_rouse(&own->woken, 1);
}

static void
disk_queue_faults(struct weir__io *io, struct weir__queue *queue, struct weir__queue_faults *out)
{
    (void)io;
    (void)queue;
    memset(out, 0, sizeof *out);
}

static void disk_queue_close(struct weir__io *io, struct weir__mem *mem, struct weir__queue *queue)
{
    (void)io;
    (void)mem;
    struct queue *const own = (struct queue *)queue;
    while (!queue_idle(own)) {
        queue_advance(own);
    }
    own->open = false;
}

static const struct weir__io_ops disk_ops = {
    .open_dir = disk_open_dir,
    .sync_dir = disk_sync_dir,
    .list_dir = disk_list_dir,
    .facts = disk_facts,
    .open = disk_open,
    .close = disk_close,
    .info = disk_info,
    .rename = disk_rename,
    .unlink = disk_unlink,
    .truncate = disk_truncate,
    .read = disk_read,
    .write = disk_write,
    .sync = disk_sync,
    .lock = disk_lock,
    .unlock = disk_unlock,
    .lock_held = disk_lock_held,
    .queue_open = disk_queue_open,
    .queue_close = disk_queue_close,
    .queue_push = disk_queue_push,
    .queue_reap = disk_queue_reap,
    .queue_wake = disk_queue_wake,
    .queue_faults = disk_queue_faults,
};

struct weir__io *sim_disk_io(void)
{
    static struct weir__io io = {.ops = &disk_ops};
    return &io;
}

/* In place of the system's: what the engine's own look-arounds (verify, salvage) go through. */
struct weir__io *weir__io_system(void)
{
    return sim_disk_io();
}

int weir__uring_probe(char *reason, size_t reason_bytes)
{
    (void)snprintf(reason, reason_bytes, "the simulated queue was refused");
    return -ENOSYS;
}

/* ---- the whole ------------------------------------------------------------------------------- */

void sim_disk_configure(const struct sim_disk_config *config)
{
    disk.config = *config;
}

void sim_disk_format(const struct sim_disk_config *config)
{
    for (unsigned i = 0; i < INODES_MAX; i++) {
        disk_inode_free(&disk.inodes[i]);
    }
    disk.now.count = 0;
    disk.durable.count = 0;
    disk.change_count = 0;
    disk.lost_bytes = false;
    disk.steps = 0;
    disk.config = *config;
    disk_process_gone();
}
