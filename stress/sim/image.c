/* SPDX-License-Identifier: Apache-2.0
 * Every power cut of one moment. An image holds the durable bytes of each file and, apart, whatever
 * a cut may keep or lose: versions of sectors, lengths, changes of names. A choice gives each of
 * them a digit. What two versions of a sector share is no choice; the hash of a state is a sum over
 * its sectors, so that the next choice is had from a table and not from the bytes. */
#include "disk_state.h"

#include "base/num.h"
#include "machine.h"

#include <stdlib.h>
#include <string.h>

#define VERSIONS_MAX 6u
#define UNITS_MAX 4096u

struct image_file {
    bool used;
    uint64_t bytes;
    uint64_t durable_bytes;
    bool longer; /* the new length was chosen */
    size_t sectors;
    uint8_t *durable; /* sectors of them, zeros behind the end */
    uint64_t *hashes; /* of each sector */
};

/* A sector with more than one version, the durable one first. */
struct image_sector {
    unsigned file;
    uint64_t sector;
    unsigned versions;
    unsigned chosen;
    uint64_t hashes[VERSIONS_MAX];
    uint8_t *data; /* of all versions, one behind the other */
};

struct sim_disk_image {
    size_t sector_bytes;
    struct image_file files[INODES_MAX];
    struct image_sector sectors[UNITS_MAX];
    unsigned sector_count;
    unsigned lengths[INODES_MAX]; /* files whose length is a choice */
    unsigned length_count;
    struct names durable;
    struct change changes[CHANGES_MAX];
    bool changed[CHANGES_MAX];
    unsigned change_count;
};

void sim_disk_observe(void (*observe)(void))
{
    disk.observer = observe;
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* 0 for zeros: a sector that was never written and one of zeros are the same. */
static uint64_t sector_hash(const uint8_t *bytes, size_t count, uint64_t sector)
{
    uint64_t hash = 0;
    uint64_t any = 0;

    for (size_t at = 0; at + 8 <= count; at += 8) {
        uint64_t word;
        memcpy(&word, bytes + at, 8);
        any |= word;
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return any == 0 ? 0 : mix(hash + mix(sector + 1));
}

/* ---- taking ---------------------------------------------------------------------------------- */

struct pending {
    unsigned inode;
    uint64_t offset;
    const uint8_t *data;
    size_t bytes;
};

static void write_over(uint8_t *to,
                       uint64_t sector,
                       size_t sector_bytes,
                       uint64_t offset,
                       const uint8_t *data,
                       size_t bytes,
                       bool *touched)
{
    const uint64_t begin = sector * sector_bytes;
    const uint64_t from = weir__max_u64(begin, offset);
    const uint64_t end = weir__min_u64(begin + sector_bytes, offset + bytes);

    *touched = from < end;
    if (from < end) {
        memcpy(to + (from - begin), data + (from - offset), (size_t)(end - from));
    }
}

static void sector_take(struct sim_disk_image *image,
                        unsigned index,
                        uint64_t sector,
                        const struct pending *pending,
                        unsigned pending_count)
{
    const struct inode *const inode = &disk.inodes[index];
    const size_t size = image->sector_bytes;
    struct image_sector *const own = &image->sectors[image->sector_count];
    bool touched;

    if (image->sector_count == UNITS_MAX) {
        abort();
    }
    *own = (struct image_sector){.file = index, .sector = sector, .versions = 1};
    own->data = disk_must(malloc(VERSIONS_MAX * size));
    memcpy(own->data, image->files[index].durable + sector * size, size);
    own->hashes[0] = image->files[index].hashes[sector];
    for (size_t i = 0; i < inode->unsynced_count + pending_count && own->versions < VERSIONS_MAX;
         i++) {
        uint8_t *const next = own->data + own->versions * size;
        memcpy(next, next - size, size);
        if (i < inode->unsynced_count) {
            const struct unsynced *const write = &inode->unsynced[i];
            write_over(next, sector, size, write->offset, write->data, write->bytes, &touched);
        } else {
            const struct pending *const write = &pending[i - inode->unsynced_count];
            touched = false;
            if (write->inode == index) {
                write_over(next, sector, size, write->offset, write->data, write->bytes, &touched);
            }
        }
        if (touched && memcmp(next, next - size, size) != 0) {
            own->hashes[own->versions] = sector_hash(next, size, sector);
            own->versions++;
        }
    }
    if (own->versions > 1) {
        image->sector_count++;
    } else {
        free(own->data);
    }
}

static void file_take(struct sim_disk_image *image,
                      unsigned index,
                      const struct pending *pending,
                      unsigned pending_count)
{
    const struct inode *const inode = &disk.inodes[index];
    struct image_file *const file = &image->files[index];
    const size_t size = image->sector_bytes;
    uint64_t end = weir__max_u64(inode->bytes, inode->durable_bytes);

    for (unsigned i = 0; i < pending_count; i++) {
        if (pending[i].inode == index) {
            end = weir__max_u64(end, pending[i].offset + pending[i].bytes);
        }
    }
    file->used = true;
    file->bytes = end;
    file->durable_bytes = inode->durable_bytes;
    file->sectors = (size_t)((end + size - 1) / size);
    file->durable = disk_must(calloc(file->sectors + 1, size));
    file->hashes = disk_must(calloc(file->sectors + 1, sizeof *file->hashes));
    if (inode->room > 0) {
        memcpy(file->durable,
               inode->durable,
               (size_t)weir__min_u64(inode->durable_bytes, file->sectors * size));
    }
    for (uint64_t s = 0; s < file->sectors; s++) {
        file->hashes[s] = sector_hash(file->durable + s * size, size, s);
    }
    uint8_t *const touched = disk_must(calloc(file->sectors + 1, 1));
    for (size_t i = 0; i < inode->unsynced_count; i++) {
        const struct unsynced *const write = &inode->unsynced[i];
        for (uint64_t s = write->offset / size; s * size < write->offset + write->bytes; s++) {
            touched[s] = 1;
        }
    }
    for (unsigned i = 0; i < pending_count; i++) {
        for (uint64_t s = pending[i].offset / size;
             pending[i].inode == index && s * size < pending[i].offset + pending[i].bytes;
             s++) {
            touched[s] = 1;
        }
    }
    for (uint64_t s = 0; s < file->sectors; s++) {
        if (touched[s] != 0) {
            sector_take(image, index, s, pending, pending_count);
        }
    }
    free(touched);
    if (file->bytes != file->durable_bytes) {
        image->lengths[image->length_count++] = index;
    }
}

/* Writes of the queues that the kernel may have begun: the first of each run. */
static unsigned pending_find(struct pending *pending, unsigned max)
{
    unsigned count = 0;

    for (unsigned q = 0; q < QUEUES_MAX; q++) {
        const struct queue *const queue = &disk.queues[q];
        for (unsigned i = 0; queue->open && i < queue->queued_count; i++) {
            const struct queued *const queued = &queue->queued[i];
            if (queued->over || queued->op.kind != WEIR__OP_WRITE ||
                !(queued->first || queue->queued[i - 1].over)) {
                continue;
            }
            uint64_t offset = queued->op.offset;
            for (unsigned k = 0; k < queued->op.iov_count && count < max; k++) {
                const struct iovec *const iov = &queued->op.iov[k];
                pending[count++] =
                    (struct pending){disk.descriptors[queued->op.file - FIRST_DESCRIPTOR].inode,
                                     offset,
                                     iov->iov_base,
                                     iov->iov_len};
                offset += iov->iov_len;
            }
        }
    }
    return count;
}

struct sim_disk_image *sim_disk_image_take(void)
{
    struct sim_disk_image *const image = disk_must(calloc(1, sizeof *image));
    struct pending pending[256];
    const unsigned pending_count = pending_find(pending, 256);

    image->sector_bytes = disk.config.sector_bytes;
    for (unsigned i = 0; i < INODES_MAX; i++) {
        if (disk.inodes[i].used) {
            file_take(image, i, pending, pending_count);
        }
    }
    image->durable = disk.durable;
    image->change_count = disk.change_count;
    memcpy(image->changes, disk.changes, disk.change_count * sizeof disk.changes[0]);
    return image;
}

void sim_disk_image_free(struct sim_disk_image *image)
{
    for (unsigned i = 0; i < INODES_MAX; i++) {
        free(image->files[i].durable);
        free(image->files[i].hashes);
    }
    for (unsigned i = 0; i < image->sector_count; i++) {
        free(image->sectors[i].data);
    }
    free(image);
}

/* ---- choosing -------------------------------------------------------------------------------- */

unsigned sim_disk_image_units(const struct sim_disk_image *image)
{
    return image->sector_count + image->length_count + image->change_count;
}

uint64_t sim_disk_image_choices(const struct sim_disk_image *image)
{
    uint64_t choices = 1;

    for (unsigned i = 0; i < sim_disk_image_units(image); i++) {
        const unsigned more = i < image->sector_count ? image->sectors[i].versions : 2;
        if (choices > UINT64_MAX / more) {
            return UINT64_MAX;
        }
        choices *= more;
    }
    return choices;
}

void sim_disk_image_choose(struct sim_disk_image *image, uint64_t choice)
{
    for (unsigned i = 0; i < image->sector_count; i++) {
        struct image_sector *const sector = &image->sectors[i];
        sector->chosen = (unsigned)(choice % sector->versions);
        choice /= sector->versions;
    }
    for (unsigned i = 0; i < image->length_count; i++) {
        image->files[image->lengths[i]].longer = choice % 2 != 0;
        choice /= 2;
    }
    for (unsigned i = 0; i < image->change_count; i++) {
        image->changed[i] = choice % 2 != 0;
        choice /= 2;
    }
}

static uint64_t file_end(const struct image_file *file)
{
    return file->longer ? file->bytes : file->durable_bytes;
}

/* The names that the choice leaves. */
static void names_chosen(const struct sim_disk_image *image, struct names *names)
{
    names->count = image->durable.count;
    memcpy(names->entries, image->durable.entries, names->count * sizeof names->entries[0]);
    for (unsigned i = 0; i < image->change_count; i++) {
        if (image->changed[i]) {
            disk_change_apply(names, &image->changes[i]);
        }
    }
}

uint64_t sim_disk_image_hash(const struct sim_disk_image *image)
{
    uint64_t files[INODES_MAX] = {0};
    struct names names;
    uint64_t hash = 0;

    names_chosen(image, &names);
    for (unsigned n = 0; n < names.count; n++) {
        const unsigned index = names.entries[n].inode;
        const struct image_file *const file = &image->files[index];
        const uint64_t end = file_end(file);
        files[index] = mix(end);
        for (uint64_t s = 0; s * image->sector_bytes < end; s++) {
            files[index] += file->hashes[s];
        }
    }
    /* Lengths are multiples of the sector, or nothing stands behind the shorter one in its last. */
    for (unsigned i = 0; i < image->sector_count; i++) {
        const struct image_sector *const sector = &image->sectors[i];
        if (sector->sector * image->sector_bytes < file_end(&image->files[sector->file])) {
            files[sector->file] += sector->hashes[sector->chosen] - sector->hashes[0];
        }
    }
    for (unsigned n = 0; n < names.count; n++) {
        uint64_t name = UINT64_C(0xcbf29ce484222325);
        for (const char *c = names.entries[n].name; *c != '\0'; c++) {
            name = (name ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
        }
        hash += mix(mix(name) ^ files[names.entries[n].inode]);
    }
    return hash;
}

/* ---- putting --------------------------------------------------------------------------------- */

static void file_put(const struct image_file *file, struct inode *inode, size_t sector_bytes)
{
    const uint64_t end = file_end(file);

    inode->used = true;
    disk_inode_grow(inode, weir__max_u64(file->sectors * sector_bytes, 1));
    memset(inode->durable, 0, inode->room);
    memcpy(inode->durable, file->durable, file->sectors * sector_bytes);
    inode->bytes = end;
    inode->durable_bytes = end;
}

void sim_disk_image_put(const struct sim_disk_image *image, const struct sim_disk_config *config)
{
    const size_t size = image->sector_bytes;

    sim_disk_format(config);
    for (unsigned i = 0; i < INODES_MAX; i++) {
        if (image->files[i].used) {
            file_put(&image->files[i], &disk.inodes[i], size);
        }
    }
    for (unsigned i = 0; i < image->sector_count; i++) {
        const struct image_sector *const sector = &image->sectors[i];
        memcpy(disk.inodes[sector->file].durable + sector->sector * size,
               sector->data + sector->chosen * size,
               size);
    }
    for (unsigned i = 0; i < INODES_MAX; i++) {
        struct inode *const inode = &disk.inodes[i];
        if (inode->used) {
            memset(inode->durable + inode->bytes, 0, inode->room - (size_t)inode->bytes);
            memcpy(inode->now, inode->durable, inode->room);
        }
    }
    names_chosen(image, &disk.durable);
    disk.now = disk.durable;
    disk_process_gone(); /* sweeps what no name leads to */
}
