/* SPDX-License-Identifier: Apache-2.0
 * Writing a new log from the outside in: segments first, the control file last.
 *
 * The happy path: open the directory and take its lock; enter a segment (filled with zeros under
 * the name weir.prepare, headed, synced, renamed); write batches and gaps in it; enter the next,
 * which syncs the one before; finish with a control file that says where the log ends. Until that
 * file is there, nothing here is a log, so a crash leaves nothing that could be taken for one, and
 * writes need no order among themselves.
 *
 * A batch keeps its LSN and its frames keep theirs, so lengths and places are those of the source.
 * New are log id, epoch and nonce, and with them every checksum that is salted with them.
 *
 * What can fail: any call of the I/O seam, memory. The first failure is final; weir__target_abandon
 * removes what was made. One thread. */
#include "recover/target.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/num.h"
#include "io/transfer.h"
#include "port/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define TARGET_IMAGE_BYTES_MIN ((uint64_t)1 << 16)
#define TARGET_MADE_MIN 16u

/* ---- images ---- */

int weir__image_reserve(struct weir__image *image, uint64_t bytes)
{
    if (bytes <= image->room) {
        return 0;
    }
    /* Doubling, so that a batch that grows frame by frame is not copied for each. */
    const uint64_t wanted =
        weir__max_u64(weir__max_u64(bytes, (uint64_t)image->room * 2), TARGET_IMAGE_BYTES_MIN);
    if (wanted > SIZE_MAX / 2) {
        return -ENOMEM;
    }
    uint8_t *const grown = weir__mem_alloc_io(image->mem, (size_t)wanted);
    if (grown == NULL) {
        return -ENOMEM;
    }
    if (image->room > 0) {
        memcpy(grown, image->bytes, image->room);
    }
    weir__mem_free_io(image->mem, image->bytes, image->room);
    image->bytes = grown;
    image->room = (size_t)wanted;
    return 0;
}

void weir__image_release(struct weir__image *image)
{
    weir__mem_free_io(image->mem, image->bytes, image->room);
    image->bytes = NULL;
    image->room = 0;
}

/* ---- failures ---- */

static int target_failed(struct weir__target *target, int code, weir_lsn lsn, const char *what)
{
    char name[WEIR__SEGMENT_NAME_BYTES] = "";
    if (target->range.base < target->range.end) {
        weir__segment_name(target->range.base, target->range.end, name);
    }
    return weir__fault_set(target->fault,
                           code,
                           name,
                           UINT64_MAX,
                           lsn,
                           "in the new log: %s: %s",
                           what,
                           weir__code_text(code));
}

/* ---- beginning ---- */

struct target_listing {
    bool found;
};

static int target_visit(void *ctx, const char *name)
{
    struct target_listing *const listing = ctx;
    weir_lsn base;
    weir_lsn end;
    /* A leftover weir.prepare is nobody's: the lock is ours. */
    if (strcmp(name, WEIR__CONTROL_NAME) == 0 || weir__segment_name_parse(name, &base, &end)) {
        listing->found = true;
    }
    return 0;
}

int weir__target_open(struct weir__target *target,
                      struct weir__io *io,
                      struct weir__mem *mem,
                      const char *path,
                      struct weir__fault *fault)
{
    memset(target, 0, sizeof *target);
    target->fault = fault;
    target->file = -1;
    target->prepare.file = -1;
    target->block.mem = mem;
    int code = weir__dir_open(&target->dir, io, mem, path, true, true, fault);
    if (code != 0) {
        return code;
    }
    /* The lock first: what is then not there cannot be made by anybody else meanwhile. */
    code = weir__dir_lock(&target->dir, 0, fault);
    struct target_listing listing = {false};
    if (code == 0) {
        code = io->ops->list_dir(io, target->dir.file, target_visit, &listing);
        if (code != 0) {
            (void)target_failed(target, code, UINT64_MAX, "cannot list its directory");
        }
    }
    if (code == 0 && listing.found) {
        code = weir__fault_set(fault,
                               WEIR_EEXISTS,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "the target already holds a log, or part of one");
    }
    if (code == 0) {
        code = weir__prepare_init(&target->prepare, &target->dir);
        if (code != 0) {
            (void)target_failed(target, code, UINT64_MAX, "no memory");
        }
    }
    if (code != 0) {
        weir__dir_close(&target->dir);
        return code;
    }
    target->dir_open = true;
    return 0;
}

static int random_u64(uint64_t *value_out)
{
    *value_out = 0;
    while (*value_out == 0) {
        const ssize_t got = getrandom(value_out, sizeof *value_out, 0);
        if (got != (ssize_t)sizeof *value_out) {
            if (got < 0 && errno != EINTR) {
                return -errno;
            }
            *value_out = 0;
        }
    }
    return 0;
}

void weir__target_origin(struct weir__target *target, weir_lsn first_lsn)
{
    const weir_lsn origin = first_lsn + target->block_bytes;
    target->first_lsn = first_lsn;
    target->epoch.lsn = origin;
    target->position = (struct weir__position){
        .lsn = origin,
        .epoch = target->epoch.epoch,
        .epoch_lsn = origin,
        .nonce = target->epoch.nonce,
    };
}

int weir__target_begin(struct weir__target *target,
                       uint32_t block_bytes,
                       uint64_t segment_bytes,
                       uint64_t parent_log_id,
                       weir_lsn first_lsn,
                       weir_lsn oldest)
{
    target->block_bytes = block_bytes;
    target->segment_bytes = segment_bytes;
    target->parent_log_id = parent_log_id;
    target->oldest = oldest;
    target->epoch.epoch = 1;
    /* The new device may need larger blocks than the log has: then it goes through the page cache.
     */
    target->dir.direct = target->dir.direct && target->dir.facts.direct_align <= block_bytes;
    int code = random_u64(&target->log_id);
    if (code == 0) {
        code = random_u64(&target->epoch.nonce);
    }
    if (code == 0) {
        code = weir__image_reserve(&target->block, block_bytes);
    }
    if (code != 0) {
        return target_failed(target, code, UINT64_MAX, "cannot give it an identity");
    }
    weir__target_origin(target, first_lsn);
    return 0;
}

/* ---- segments ---- */

static int target_remember(struct weir__target *target, struct weir__range range)
{
    if (target->made_count == target->made_room) {
        const size_t more = target->made_room == 0 ? TARGET_MADE_MIN : target->made_room * 2;
        struct weir__range *const grown =
            weir__mem_alloc(target->dir.mem, more * sizeof *grown, _Alignof(struct weir__range));
        if (grown == NULL) {
            return -ENOMEM;
        }
        if (target->made_count > 0) {
            memcpy(grown, target->made, target->made_count * sizeof *grown);
        }
        weir__mem_free(target->dir.mem, target->made, target->made_room * sizeof *grown);
        target->made = grown;
        target->made_room = more;
    }
    target->made[target->made_count++] = range;
    return 0;
}

/* The segment in work gets no more bytes. */
static int target_leave(struct weir__target *target)
{
    if (target->file < 0) {
        return 0;
    }
    struct weir__io *const io = target->dir.io;
    const int code = io->ops->sync(io, target->file);
    (void)io->ops->close(io, target->file);
    target->file = -1;
    return code == 0 ? 0 : target_failed(target, code, target->range.base, "cannot sync a segment");
}

/* A segment of zeros that nobody wrote: reads the same, takes no room. */
static int target_make_hollow(struct weir__target *target,
                              const struct weir__segment_header *header,
                              int *file_out)
{
    struct weir__dir *const dir = &target->dir;
    struct weir__io *const io = dir->io;
    int file = -1;
    int code = io->ops->open(io,
                             dir->file,
                             WEIR__PREPARE_NAME,
                             WEIR__OPEN_WRITE | WEIR__OPEN_CREATE,
                             &file);
    if (code != 0) {
        return code;
    }
    code = io->ops->truncate(io, file, 0);
    if (code == 0) {
        code = io->ops->truncate(io, file, header->bytes);
    }
    if (code == 0) {
        memset(target->block.bytes, 0, target->block_bytes);
        weir__segment_header_encode(header, target->block.bytes);
        code = weir__io_write_full(io, file, target->block.bytes, target->block_bytes, 0, false);
    }
    if (code == 0) {
        code = io->ops->sync(io, file);
    }
    if (code == 0) {
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(header->base, header->base + header->bytes, name);
        code = io->ops->rename(io, dir->file, WEIR__PREPARE_NAME, name);
    }
    if (code == 0) {
        code = io->ops->sync_dir(io, dir->file);
    }
    if (code != 0) {
        (void)io->ops->close(io, file);
        (void)io->ops->unlink(io, dir->file, WEIR__PREPARE_NAME);
        return code;
    }
    *file_out = file;
    return 0;
}

int weir__target_enter(struct weir__target *target, struct weir__range range, bool hollow)
{
    const bool first = target->range.base == target->range.end;
    weir__check(first || range.base == target->range.end);
    int code = target_leave(target);
    if (code == 0) {
        code = target_remember(target, range);
    }
    if (code != 0) {
        return target_failed(target, code, range.base, "no memory for the list of segments");
    }
    const struct weir__segment_header header = {
        .log_id = target->log_id,
        .number = first ? 0 : target->number + 1,
        .base = range.base,
        .bytes = range.end - range.base,
        .epoch = target->epoch.epoch,
        .prev_number = first ? WEIR__SEGMENT_NONE : target->number,
        .prev_base = first ? 0 : target->range.base,
        .block_bytes = target->block_bytes,
        .origin = WEIR__SEGMENT_ZEROED,
        .wall_ns = weir__wall_ns(),
    };
    target->range = range;
    target->number = header.number;
    if (first) {
        weir__target_origin(target, range.base);
    }
    if (hollow) {
        code = target_make_hollow(target, &header, &target->file);
        return code == 0 ? 0 : target_failed(target, code, range.base, "cannot make a segment");
    }
    code = weir__prepare_begin(&target->prepare, range, &header, target->fault);
    while (code == 0) {
        code = weir__prepare_step(&target->prepare, &target->file, target->fault);
    }
    if (code < 0) {
        weir__prepare_abandon(&target->prepare);
        return code;
    }
    return 0;
}

/* ---- batches ---- */

weir_lsn weir__target_place(const struct weir__target *target)
{
    return weir__max_u64(target->position.lsn, target->range.base + target->block_bytes);
}

/* Completes the header at the front of the bytes and writes them to their place. */
static int
target_put(struct weir__target *target, struct weir__batch *header, uint8_t *bytes, size_t count)
{
    header->log_id = target->log_id;
    header->prev_end = target->position.lsn;
    header->epoch = target->epoch.epoch;
    header->epoch_lsn = target->epoch.lsn;
    header->nonce = target->epoch.nonce;
    /* Nothing is durable before the whole is. */
    header->promise = target->epoch.lsn;
    header->chain = target->position.chain;
    weir__batch_encode(header, bytes);
    const int code = weir__io_write_full(target->dir.io,
                                         target->file,
                                         bytes,
                                         count,
                                         header->lsn - target->range.base,
                                         false);
    if (code != 0) {
        return target_failed(target, code, header->lsn, "cannot write a batch");
    }
    target->position = weir__position_after(header, target->block_bytes);
    target->batches++;
    return 0;
}

int weir__target_gap(struct weir__target *target, weir_lsn to)
{
    const weir_lsn place = weir__target_place(target);
    weir__check(to >= place && to <= target->range.end && to % target->block_bytes == 0);
    if (to == place) {
        return 0;
    }
    struct weir__batch header = {
        .lsn = place,
        .flags = WEIR__BATCH_GAP,
        .gap_end = to,
        .wall_ns = weir__wall_ns(),
    };
    memset(target->block.bytes, 0, target->block_bytes);
    return target_put(target, &header, target->block.bytes, target->block_bytes);
}

int weir__target_batch(struct weir__target *target,
                       weir_lsn lsn,
                       struct weir__image *image,
                       uint64_t frames_bytes,
                       uint64_t wall_ns)
{
    const uint64_t bytes =
        weir__align_up(WEIR__BATCH_HEADER_BYTES + frames_bytes, target->block_bytes);
    weir__check(bytes <= target->range.end - lsn && frames_bytes <= UINT32_MAX);
    int code = weir__target_gap(target, lsn);
    if (code == 0) {
        code = weir__image_reserve(image, bytes);
        if (code != 0) {
            (void)target_failed(target, code, lsn, "no memory for a batch");
        }
    }
    if (code != 0) {
        return code;
    }
    struct weir__batch header = {
        .lsn = lsn,
        .bytes = (uint32_t)frames_bytes,
        .wall_ns = wall_ns,
    };
    const uint32_t salt =
        weir__frame_salt(target->log_id, target->epoch.nonce, target->epoch.epoch);
    for (uint64_t offset = 0; offset < frames_bytes;) {
        uint8_t *const at = image->bytes + WEIR__BATCH_HEADER_BYTES + offset;
        const weir_lsn frame_lsn = lsn + WEIR__BATCH_HEADER_BYTES + offset;
        const struct weir__frame frame = {
            .bytes = weir__get_u32(at),
            .payload_crc = weir__get_u32(at + 4),
            .tag = weir__get_u64(at + 8),
            .type = weir__get_u16(at + 16),
            .flags = weir__get_u16(at + 18),
        };
        const uint64_t span = weir__frame_span(frame.bytes);
        weir__check(span <= frames_bytes - offset);
        weir__frame_encode(&frame, salt, frame_lsn, at);
        if (frame.type == WEIR__FRAME_RECORD) {
            header.records++;
            if (frame_lsn >= target->oldest) {
                target->records++;
                target->bytes += frame.bytes;
            }
        } else {
            /* What a given-up reservation holds is nobody's record: it need not be carried on. */
            memset(at + WEIR__FRAME_HEADER_BYTES, 0, (size_t)(span - WEIR__FRAME_HEADER_BYTES));
        }
        offset += span;
    }
    memset(image->bytes + WEIR__BATCH_HEADER_BYTES + frames_bytes,
           0,
           (size_t)(bytes - WEIR__BATCH_HEADER_BYTES - frames_bytes));
    return target_put(target, &header, image->bytes, (size_t)bytes);
}

/* ---- the end ---- */

int weir__target_finish(struct weir__target *target, weir_lsn oldest)
{
    int code = target_leave(target);
    if (code != 0) {
        return code;
    }
    const weir_lsn end = target->position.lsn;
    target->oldest = weir__min_u64(weir__max_u64(oldest, target->epoch.lsn), end);
    const struct weir__control control = {
        .block_bytes = target->block_bytes,
        .log_id = target->log_id,
        .generation = 1,
        .epoch = target->epoch,
        .oldest_lsn = target->oldest,
        .promise = end,
        .segment_bytes = target->segment_bytes,
        .first_lsn = target->first_lsn,
        .checkpoint = target->position,
        .flags = WEIR__CONTROL_CLEAN,
        .wall_ns = weir__wall_ns(),
        .parent_log_id = target->parent_log_id,
    };
    struct weir__control_file file;
    code = weir__control_create(&file, &target->dir, &control, target->fault);
    weir__control_close(&file);
    return code;
}

void weir__target_abandon(struct weir__target *target)
{
    struct weir__io *const io = target->dir.io;
    if (target->file >= 0) {
        (void)io->ops->close(io, target->file);
        target->file = -1;
    }
    weir__prepare_abandon(&target->prepare);
    /* Also one that was made and then not begun with. The lock is ours. */
    (void)io->ops->unlink(io, target->dir.file, WEIR__PREPARE_NAME);
    /* The control file goes first: without it the rest is no log, whatever happens then. */
    (void)io->ops->unlink(io, target->dir.file, WEIR__CONTROL_NAME);
    for (size_t i = 0; i < target->made_count; i++) {
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(target->made[i].base, target->made[i].end, name);
        (void)io->ops->unlink(io, target->dir.file, name);
    }
    target->made_count = 0;
    (void)io->ops->sync_dir(io, target->dir.file);
}

void weir__target_close(struct weir__target *target)
{
    if (!target->dir_open) {
        return;
    }
    if (target->file >= 0) {
        (void)target->dir.io->ops->close(target->dir.io, target->file);
        target->file = -1;
    }
    weir__prepare_exit(&target->prepare);
    weir__image_release(&target->block);
    weir__mem_free(target->dir.mem, target->made, target->made_room * sizeof *target->made);
    weir__dir_close(&target->dir);
    target->dir_open = false;
}
