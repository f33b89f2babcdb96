/* SPDX-License-Identifier: Apache-2.0
 * The keeper's thread.
 *
 * One turn of its loop does at most one small piece of each kind of work, in this order, and
 * then sleeps until something is due or somebody kicks:
 *   1. closes the files of segments that get no more writes;
 *   2. control file: the checkpoint from the mailbox, trims, the idle promise;
 *   3. removes one trimmed segment too many;
 *   4. prepares: one chunk of zeros, or a segment where a trimmed or leftover file can be used;
 *   5. the host's tick.
 * So nothing waits longer than one write and one sync behind anything else.
 *
 * What can fail. Preparing: passing causes (no space, no descriptors, no memory) are told to
 * those who wait at the frontier and tried again; the others too, less often: no acknowledged
 * record depends on a segment that is not there yet. A failed write of the control file poisons
 * the log, since nobody knows what its copy holds: it is reported once and none follows.
 *
 * What may be given up: a segment that ends at or below the durable oldest LSN, that the flusher
 * is done with, and that no recovery would read. Recovery starts at the checkpoint, in the worst
 * case at the lower one of the two copies, and looks at the segment that holds the byte before
 * it; so a segment must end below that checkpoint. */
#include "keep/keeper.h"

#include "base/check.h"
#include "base/num.h"
#include "base/plant.h"
#include "port/clock.h"
#include "port/thread.h"
#include "port/wait.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)
#define KEEPER_TRIM_LOOK_NS (50 * NS_PER_MS)
#define KEEPER_IDLE_NS (1000 * NS_PER_MS)
#define KEEPER_RETRY_PASSING_NS (100 * NS_PER_MS)
#define KEEPER_RETRY_KICKED_NS (5 * NS_PER_MS) /* after a kick */
#define KEEPER_RETRY_OTHER_NS (1000 * NS_PER_MS)
#define KEEPER_REMOVE_PAUSE_NS NS_PER_MS
#define KEEPER_SAMPLE_NS (10 * NS_PER_MS)
#define KEEPER_REST_PER_MS (WEIR__PREFILL_CHUNK_BYTES / 5u) /* one chunk per 5 ms */
#define KEEPER_FLOOR_PER_MS                                                                        \
    (WEIR__PREFILL_CHUNK_BYTES / 100u) /* one per 100 ms, however slowly the log is used */

static void counter_add(WEIR__ATOMIC(uint64_t) *counter, uint64_t more)
{
    /* One writer, and no reader draws conclusions: relaxed. */
    (void)weir__fetch_add(counter, more, relaxed);
}

static struct weir__range next_range(const struct weir__keeper *keeper)
{
    return (struct weir__range){
        .base = keeper->next_base,
        .end = keeper->next_base + keeper->config.segment_bytes,
    };
}

/* ---- ready[] ---- */

const struct weir__ready *weir__keeper_ready(struct weir__keeper *keeper, uint64_t number)
{
    if (number < weir__load(&keeper->ready_first, acquire) ||
        number >= weir__load(&keeper->ready_end, acquire)) {
        return NULL;
    }
    return &keeper->ready[number % WEIR__READY_MAX];
}

static void ready_close_first(struct weir__keeper *keeper)
{
    const uint64_t first = weir__load(&keeper->ready_first, relaxed); /* our own */
    struct weir__ready *const entry = &keeper->ready[first % WEIR__READY_MAX];
    weir__store(&keeper->ready_first, first + 1, release);
    /* Everything in it was synced by whoever acknowledged it; a close has nothing to add. */
    if (!WEIR__PLANTED(retired_not_closed)) {
        (void)keeper->config.dir->io->ops->close(keeper->config.dir->io, entry->file);
    }
    entry->file = -1;
}

/* Step 1. */
static void ready_close_retired(struct weir__keeper *keeper)
{
    const weir_lsn retired_end = weir__load(&keeper->retired_end, acquire);
    for (;;) {
        const uint64_t first = weir__load(&keeper->ready_first, relaxed);
        if (first == keeper->next_number ||
            keeper->ready[first % WEIR__READY_MAX].range.end > retired_end) {
            return;
        }
        ready_close_first(keeper);
    }
}

static bool ready_has_room(const struct weir__keeper *keeper)
{
    return keeper->next_number - weir__load(&keeper->ready_first, relaxed) < WEIR__READY_MAX;
}

/* Publishes a segment that is completely on disk: the frontier moves. */
static void ready_publish(struct weir__keeper *keeper, struct weir__range range, int file)
{
    weir__check(ready_has_room(keeper));
    weir__check(range.base == keeper->next_base);
    keeper->ready[keeper->next_number % WEIR__READY_MAX] = (struct weir__ready){
        .range = range,
        .number = keeper->next_number,
        .file = file,
    };
    keeper->state.last_base = range.base;
    keeper->next_base = range.end;
    keeper->next_number++;
    weir__store(&keeper->ready_end, keeper->next_number, release);
    weir__store(&keeper->prepared_end, range.end, release);
}

/* ---- the control file ---- */

/* The one door to the control file. Every write carries the newest promise. False: failed, now
 * or before. */
static bool control_put(struct weir__keeper *keeper, struct weir__control *next, bool both)
{
    if (weir__load(&keeper->broken, relaxed) != 0) {
        return false;
    }
    struct weir__control_file *const cf = keeper->config.control;
    /* A promise once given stays true. */
    next->promise =
        weir__max_u64(next->promise,
                      WEIR__PLANTED(promise_ahead) ? keeper->config.end(keeper->config.ctx)
                                                   : keeper->config.durable(keeper->config.ctx));
    next->flags &= ~WEIR__CONTROL_CLEAN;
    struct weir__fault fault = WEIR__FAULT_NONE;
    const uint64_t before = cf->writes;
    const int error = weir__control_write(cf, next, both, &fault);
    counter_add(&keeper->counters.control_writes, cf->writes - before);
    if (error == 0 || WEIR__PLANTED(control_error_ignored)) {
        return true;
    }
    weir__store(&keeper->broken, 1u, release);
    keeper->config.failed(keeper->config.ctx, &fault);
    (void)weir__fetch_add(&keeper->trim_gen, 1u, release);
    (void)weir__futex_wake(&keeper->trim_gen, INT_MAX);
    return false;
}

/* Trimmed segments below this may be given up. */
static weir_lsn reclaim_limit(const struct weir__keeper *keeper, weir_lsn checkpoint)
{
    const weir_lsn oldest = weir__load(&keeper->oldest, relaxed); /* our own */
    const weir_lsn retired_end = weir__load(&keeper->retired_end, acquire);
    /* Strictly below the checkpoint: the segment that holds the byte before it is where a
     * recovery begins. */
    const weir_lsn scanned = checkpoint == 0 ? 0 : checkpoint - 1;
    return weir__min_u64(weir__min_u64(oldest, retired_end), scanned);
}

static void checkpoint_take(struct weir__keeper *keeper)
{
    if (weir__load(&keeper->checkpoint_full, acquire) == 0) {
        return;
    }
    struct weir__control next = keeper->config.control->current;
    next.checkpoint = keeper->checkpoint;
    weir__store(&keeper->checkpoint_full, 0u, release);

    /* One copy in turn. Both where trimmed segments wait for nothing but the lower checkpoint. */
    const weir_lsn low = weir__control_checkpoint_low(keeper->config.control);
    const bool both = weir__catalog_below(keeper->config.catalog,
                                          reclaim_limit(keeper, next.checkpoint.lsn),
                                          NULL) >
                      weir__catalog_below(keeper->config.catalog, reclaim_limit(keeper, low), NULL);
    if (control_put(keeper, &next, both)) {
        counter_add(&keeper->counters.checkpoints, 1);
    }
}

static void trim_take(struct weir__keeper *keeper)
{
    struct weir__keeper_state *const state = &keeper->state;
    /* The ticket first: whatever was asked for before it was drawn is in trim_asked by now. */
    const uint64_t ticket = weir__load(&keeper->trim_tickets, acquire);
    if (weir__load(&keeper->trim_asked, relaxed) != 0) {
        const weir_lsn asked = weir__exchange(&keeper->trim_asked, UINT64_C(0), acq_rel);
        state->trim_target =
            weir__max_u64(state->trim_target,
                          weir__min_u64(asked, keeper->config.durable(keeper->config.ctx)));
    }
    weir_lsn oldest = weir__load(&keeper->oldest, relaxed); /* our own */
    if (state->trim_target > oldest) {
        const weir_lsn possible =
            weir__min_u64(state->trim_target,
                          keeper->config.pinned(keeper->config.ctx, state->trim_target));
        if (possible > oldest) {
            struct weir__control next = keeper->config.control->current;
            next.oldest_lsn = possible;
            if (WEIR__PLANTED(trim_before_control)) {
                keeper->config.control->current = next;
            } else if (!control_put(keeper, &next, true)) {
                return;
            }
            oldest = possible;
            weir__store(&keeper->oldest, oldest, release);
            weir__dir_live_publish_oldest(keeper->config.dir, oldest);
            counter_add(&keeper->counters.trims, 1);
        }
    }
    if (ticket != weir__load(&keeper->trim_done, relaxed)) { /* our own */
        weir__store(&keeper->trim_done, ticket, release);
        (void)weir__fetch_add(&keeper->trim_gen, 1u, release);
        (void)weir__futex_wake(&keeper->trim_gen, INT_MAX);
    }
}

/* When the log has stood still for a while, its last batches get a promise in the control file:
 * damage to them is then told from a torn tail. Returns when the next look is due, WEIR__NEVER
 * if there is nothing to promise. */
static uint64_t promise_idle(struct weir__keeper *keeper, uint64_t now_ns)
{
    struct weir__keeper_state *const state = &keeper->state;
    const weir_lsn durable = keeper->config.durable(keeper->config.ctx);
    if (durable != state->durable_seen) {
        state->durable_seen = durable;
        state->durable_since_ns = now_ns;
    }
    if (durable <= keeper->config.control->current.promise ||
        weir__load(&keeper->broken, relaxed) != 0) {
        return WEIR__NEVER;
    }
    if (now_ns - state->durable_since_ns < KEEPER_IDLE_NS) {
        return state->durable_since_ns + KEEPER_IDLE_NS;
    }
    struct weir__control next = keeper->config.control->current;
    (void)control_put(keeper, &next, false);
    return WEIR__NEVER;
}

/* ---- removing ---- */

/* Removes a segment's file and forgets it. A file that is gone already is as good. */
static int
segment_remove(struct weir__keeper *keeper, struct weir__range range, struct weir__fault *fault)
{
    struct weir__dir *const dir = keeper->config.dir;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    const int error = dir->io->ops->unlink(dir->io, dir->file, name);
    if (error != 0 && error != -ENOENT) {
        return weir__fault_set(fault,
                               error,
                               name,
                               UINT64_MAX,
                               range.base,
                               "cannot remove a segment");
    }
    (void)weir__catalog_remove(keeper->config.catalog, range);
    if (error == 0) {
        counter_add(&keeper->counters.segments_removed, 1);
    }
    return 0;
}

static weir_lsn reclaim_limit_now(const struct weir__keeper *keeper)
{
    return reclaim_limit(keeper, weir__control_checkpoint_low(keeper->config.control));
}

/* Step 3. Returns when the next removal is due, WEIR__NEVER if there is none. */
static uint64_t reclaim_one(struct weir__keeper *keeper, uint64_t now_ns)
{
    struct weir__range lowest;
    const size_t below =
        weir__catalog_below(keeper->config.catalog, reclaim_limit_now(keeper), &lowest);
    if (below == 0) {
        return WEIR__NEVER;
    }
    const bool fits = lowest.end - lowest.base == keeper->config.segment_bytes;
    if (fits && below <= keeper->config.recycle_segments) {
        return WEIR__NEVER;
    }
    if (now_ns < keeper->state.reclaim_retry_ns) {
        return keeper->state.reclaim_retry_ns;
    }
    if (segment_remove(keeper, lowest, NULL) != 0) {
        /* A file too many harms nobody; the next opening tries it too. */
        keeper->state.reclaim_retry_ns = now_ns + KEEPER_RETRY_OTHER_NS;
        return keeper->state.reclaim_retry_ns;
    }
    return now_ns + KEEPER_REMOVE_PAUSE_NS;
}

/* ---- preparing ---- */

/* Causes that pass by themselves or by somebody's doing, with nothing lost. */
static bool error_passes(int error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -EMFILE || error == -ENFILE ||
           error == -ENOMEM;
}

static struct weir__segment_header next_header(const struct weir__keeper *keeper)
{
    const struct weir__control *const control = &keeper->config.control->current;
    const bool first = keeper->next_number == 0;
    return (struct weir__segment_header){
        .log_id = control->log_id,
        .number = keeper->next_number,
        .base = keeper->next_base,
        .bytes = keeper->config.segment_bytes,
        .epoch = control->epoch.epoch,
        .prev_number = first ? WEIR__SEGMENT_NONE : keeper->next_number - 1,
        .prev_base = first ? 0 : keeper->state.last_base,
        .block_bytes = control->block_bytes,
        .wall_ns = weir__wall_ns(),
    };
}

/* A segment from next_base on that cannot become one of those that are due: another length,
 * another place, or across another one. */
static bool leftover_misfit(struct weir__keeper *keeper, struct weir__range *misfit_out)
{
    struct weir__catalog *const catalog = keeper->config.catalog;
    weir_lsn due = keeper->next_base;
    struct weir__range range;
    while (weir__catalog_next(catalog, due, &range)) {
        if (range.base != due || range.end - range.base != keeper->config.segment_bytes) {
            *misfit_out = range;
            return true;
        }
        struct weir__range other;
        if (weir__catalog_overlap(catalog, range, &other) && other.base >= keeper->next_base) {
            *misfit_out = other;
            return true;
        }
        due = range.end;
    }
    return false;
}

/* All at once, before the first segment is prepared: a batch written beside one of these would
 * make two files claim its place. The directory's sync that ends each preparation makes the
 * removals durable too. */
static int leftovers_remove(struct weir__keeper *keeper, struct weir__fault *fault)
{
    struct weir__range misfit;
    while (!keeper->state.leftovers_gone) {
        if (!leftover_misfit(keeper, &misfit)) {
            keeper->state.leftovers_gone = true;
            break;
        }
        const int error = segment_remove(keeper, misfit, fault);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

/* The segment that was just made ready: into the catalog, then beyond the frontier. */
static int segment_ready(struct weir__keeper *keeper,
                         struct weir__range range,
                         int file,
                         WEIR__ATOMIC(uint64_t) *counter,
                         struct weir__fault *fault)
{
    const int error = weir__catalog_add(keeper->config.catalog, range);
    if (error != 0 && error != -EEXIST) {
        /* It bears its name: the next try adopts it. */
        (void)keeper->config.dir->io->ops->close(keeper->config.dir->io, file);
        return weir__fault_set(fault,
                               error,
                               ".",
                               UINT64_MAX,
                               range.base,
                               "no memory for one more segment");
    }
    ready_publish(keeper, range, file);
    counter_add(counter, 1);
    return 1;
}

/* Source 1: a file that bears the name already. 1 ready, 0 there is none, negative: failed. */
static int prepare_by_adopting(struct weir__keeper *keeper, struct weir__fault *fault)
{
    const struct weir__range range = next_range(keeper);
    const struct weir__segment_header header = next_header(keeper);
    struct weir__fault why = WEIR__FAULT_NONE;
    int file = -1;
    const int error = weir__prepare_adopt(&keeper->prepare, range, &header, &file, &why);
    if (error == 0) {
        return segment_ready(keeper, range, file, &keeper->counters.segments_adopted, fault);
    }
    if (error == -ENOENT) {
        (void)weir__catalog_remove(keeper->config.catalog, range);
        return 0;
    }
    if (error_passes(error)) {
        return weir__fault_set(fault, error, why.file, why.offset, why.lsn, "%s", why.text);
    }
    /* Unfit, or its first block cannot be written: another file takes its place. */
    const int removed = segment_remove(keeper, range, fault);
    if (removed != 0) {
        return removed;
    }
    if (error == -EINVAL || error == -EMLINK) {
        return 0;
    }
    return weir__fault_set(fault, error, why.file, why.offset, why.lsn, "%s", why.text);
}

static bool recyclable(struct weir__keeper *keeper, struct weir__range *range_out)
{
    return keeper->config.recycle_segments > 0 &&
           weir__catalog_below(keeper->config.catalog, reclaim_limit_now(keeper), range_out) > 0;
}

/* Source 2: trimmed segments, the lowest first; those that cannot be used are removed. As above. */
static int prepare_by_recycling(struct weir__keeper *keeper, struct weir__fault *fault)
{
    const struct weir__range range = next_range(keeper);
    const struct weir__segment_header header = next_header(keeper);
    struct weir__range from;
    while (recyclable(keeper, &from)) {
        struct weir__fault why = WEIR__FAULT_NONE;
        int file = -1;
        const int error =
            weir__prepare_recycle(&keeper->prepare, from, range, &header, &file, &why);
        if (keeper->prepare.renamed) {
            (void)weir__catalog_remove(keeper->config.catalog, from);
        }
        if (error == 0) {
            keeper->state.recycling = true;
            return segment_ready(keeper, range, file, &keeper->counters.segments_recycled, fault);
        }
        if (keeper->prepare.renamed) {
            /* Adopted by the next try, if its header can be written at all. */
            (void)weir__catalog_add(keeper->config.catalog, range);
        }
        if (error_passes(error) || keeper->prepare.renamed) {
            return weir__fault_set(fault, error, why.file, why.offset, why.lsn, "%s", why.text);
        }
        /* Another length, a second name, gone, unreadable: of no use to us. */
        const int removed = segment_remove(keeper, from, fault);
        if (removed != 0) {
            return removed;
        }
    }
    return 0;
}

/* Source 3: zeros; one chunk per call. 1 ready, 0 go on, negative: failed. */
static int prepare_by_filling(struct weir__keeper *keeper, struct weir__fault *fault)
{
    struct weir__prepare *const prepare = &keeper->prepare;
    const struct weir__range range = next_range(keeper);
    if (prepare->file < 0) {
        const struct weir__segment_header header = next_header(keeper);
        const int error = weir__prepare_begin(prepare, range, &header, fault);
        if (error != 0) {
            return error;
        }
    }
    const uint64_t done = prepare->done;
    int file = -1;
    const int result = weir__prepare_step(prepare, &file, fault);
    if (prepare->done > done) {
        counter_add(&keeper->counters.prefill_bytes, prepare->done - done);
    }
    if (result == 1) {
        keeper->state.recycling = false;
        return segment_ready(keeper, range, file, &keeper->counters.segments_prefilled, fault);
    }
    if (result < 0) {
        if (prepare->file < 0) {
            (void)weir__catalog_add(keeper->config.catalog, range);
        } else if (!error_passes(result)) {
            weir__prepare_abandon(prepare);
        }
    }
    return result;
}

/* Where nothing is filled yet, and trims have kept up so far: how many bytes the log may still take
 * before a fill begins. A fill that begins as soon as a segment is entered would be given up when
 * that segment's trim comes, and the device would have written zeros for nothing. */
static uint64_t fill_may_wait(const struct weir__keeper *keeper)
{
    if (!keeper->state.recycling || keeper->prepare.file >= 0 ||
        weir__load(&keeper->starving, relaxed) != 0) {
        return 0;
    }
    const weir_lsn current_end = weir__load(&keeper->current_end, relaxed); /* a hint */
    /* No less than 0: a trimmed file of this size lies below current_end. */
    const weir_lsn latest = current_end - keeper->config.segment_bytes / 2;
    const weir_lsn end = keeper->config.end(keeper->config.ctx);
    return end < latest ? latest - end : 0;
}

/* One piece of the next segment. 1 ready, 0 go on, negative: failed. hurry: somebody waits for
 * it, or the last try failed. */
static int prepare_turn(struct weir__keeper *keeper, bool hurry, struct weir__fault *fault)
{
    if (keeper->config.segment_bytes > WEIR__LSN_MAX - keeper->next_base) {
        return weir__fault_set(fault,
                               -EOVERFLOW,
                               ".",
                               UINT64_MAX,
                               keeper->next_base,
                               "the log's LSNs are used up");
    }
    int result = leftovers_remove(keeper, fault);
    if (result != 0) {
        return result;
    }
    if (keeper->prepare.file >= 0) {
        struct weir__range from;
        const uint64_t bytes = keeper->config.segment_bytes;
        const bool nearly = !hurry && keeper->prepare.done > bytes - bytes / 8;
        if (nearly || !recyclable(keeper, &from)) {
            return prepare_by_filling(keeper, fault);
        }
        /* Renaming a trimmed file is quicker than filling on, and gives the filled part's space
         * back. */
        weir__prepare_abandon(&keeper->prepare);
    }
    result = prepare_by_adopting(keeper, fault);
    if (result == 0) {
        result = prepare_by_recycling(keeper, fault);
    }
    if (result == 0 && fill_may_wait(keeper) == 0) {
        result = prepare_by_filling(keeper, fault);
    }
    return result;
}

/* ---- when to prepare, and how fast ---- */

static bool prepare_wanted(struct weir__keeper *keeper)
{
    if (!ready_has_room(keeper)) {
        return false;
    }
    /* Hints, both: a look that comes too early is made again a tick later. */
    const weir_lsn current_end = weir__load(&keeper->current_end, relaxed);
    const bool starving = weir__load(&keeper->starving, relaxed) != 0;
    const uint64_t ahead = keeper->next_base > current_end ? keeper->next_base - current_end : 0;
    return ahead / keeper->config.segment_bytes < keeper->config.spare_segments ||
           (starving && ahead == 0);
}

/* Rises at once, falls by a quarter per sample. */
static void use_sample(struct weir__keeper *keeper, uint64_t now_ns)
{
    struct weir__keeper_state *const state = &keeper->state;
    const uint64_t passed_ns = now_ns - state->sample_ns;
    if (passed_ns < KEEPER_SAMPLE_NS) {
        return;
    }
    const weir_lsn end = keeper->config.end(keeper->config.ctx);
    const uint64_t used = end > state->sample_end ? end - state->sample_end : 0;
    state->use_per_ms = weir__max_u64(used / (passed_ns / NS_PER_MS),
                                      state->use_per_ms - (state->use_per_ms + 3) / 4);
    state->sample_ns = now_ns;
    state->sample_end = end;
}

static uint64_t fill_per_ms(const struct weir__keeper *keeper)
{
    const uint64_t use = keeper->state.use_per_ms;
    return use == 0 ? KEEPER_REST_PER_MS : weir__max_u64(use * 2, KEEPER_FLOOR_PER_MS);
}

/* True when the fill must not be slowed down: somebody waits, or would before its end. */
static bool fill_unthrottled(struct weir__keeper *keeper)
{
    if (weir__load(&keeper->starving, relaxed) != 0) {
        return true;
    }
    const uint64_t use = keeper->state.use_per_ms;
    if (use == 0) {
        return false;
    }
    const weir_lsn end = keeper->config.end(keeper->config.ctx);
    const uint64_t room = keeper->next_base > end ? keeper->next_base - end : 0;
    const uint64_t to_fill =
        keeper->config.segment_bytes - (keeper->prepare.file >= 0 ? keeper->prepare.done : 0);
    return room / use <= to_fill / fill_per_ms(keeper);
}

static void space_tell(struct weir__keeper *keeper, int error)
{
    const int told = weir__load(&keeper->space_error, relaxed); /* our own */
    if (told == error || (WEIR__PLANTED(space_error_kept) && error == 0)) {
        return;
    }
    weir__store(&keeper->space_error, error, release);
    if (told == 0 || error == 0) {
        const uint64_t done = keeper->prepare.file >= 0 ? keeper->prepare.done : 0;
        keeper->config.space(keeper->config.ctx,
                             error,
                             error == 0 ? 0 : keeper->config.segment_bytes - done);
    }
    if (error != 0) {
        keeper->config.frontier_moved(keeper->config.ctx);
    }
}

/* Step 4. kicked: somebody woke us. Returns when the next piece is due, WEIR__NEVER if there is
 * none. */
static uint64_t prepare_ahead(struct weir__keeper *keeper, uint64_t now_ns, bool kicked)
{
    struct weir__keeper_state *const state = &keeper->state;
    if (!prepare_wanted(keeper)) {
        return WEIR__NEVER;
    }
    const bool failing = state->error != 0;
    if (failing) {
        if (kicked && error_passes(state->error)) {
            /* Somebody may have made room. Not at once, so that many kicks do not become as many
             * tries. */
            state->retry_due_ns =
                weir__min_u64(state->retry_due_ns, now_ns + KEEPER_RETRY_KICKED_NS);
        }
        if (now_ns < state->retry_due_ns) {
            return state->retry_due_ns;
        }
    }
    const bool full_speed = fill_unthrottled(keeper);
    if (!failing && !full_speed && now_ns < state->chunk_due_ns) {
        return state->chunk_due_ns;
    }

    struct weir__fault fault = WEIR__FAULT_NONE;
    const uint64_t filled = weir__load(&keeper->counters.prefill_bytes, relaxed); /* our own */
    const bool starving = weir__load(&keeper->starving, relaxed) != 0;
    const int result = prepare_turn(keeper, starving || failing, &fault);
    const bool wrote = weir__load(&keeper->counters.prefill_bytes, relaxed) != filled;
    if (wrote && full_speed) {
        counter_add(&keeper->counters.prefill_unthrottled, 1);
    }
    if (wrote) {
        /* A late turn is made up for by one chunk at most, so that a pause is not followed by a
         * burst. */
        const uint64_t pause_ns =
            (uint64_t)WEIR__PREFILL_CHUNK_BYTES * NS_PER_MS / fill_per_ms(keeper);
        const uint64_t from_ns =
            weir__max_u64(state->chunk_due_ns, now_ns > pause_ns ? now_ns - pause_ns : 0);
        state->chunk_due_ns = from_ns + pause_ns;
    }
    if (result < 0) {
        state->error = result;
        state->retry_due_ns =
            now_ns + (error_passes(result) ? KEEPER_RETRY_PASSING_NS : KEEPER_RETRY_OTHER_NS);
        space_tell(keeper, result);
        return state->retry_due_ns;
    }
    state->error = 0;
    const uint64_t wait = result == 0 ? fill_may_wait(keeper) : 0;
    if (wait > 0) {
        /* A trim kicks; else a look in time. */
        const uint64_t wait_ms = state->use_per_ms == 0 ? WEIR__KEEPER_TICK_NS / NS_PER_MS
                                                        : wait / state->use_per_ms + 1;
        return now_ns + weir__min_u64(wait_ms * NS_PER_MS, WEIR__KEEPER_TICK_NS);
    }
    if (result == 1) {
        /* The error stands until a segment is there: who waits for space would only be put off
         * by half of one. */
        space_tell(keeper, 0);
        keeper->config.frontier_moved(keeper->config.ctx);
    }
    return now_ns;
}

/* ---- the thread ---- */

static void *keeper_run(void *arg)
{
    struct weir__keeper *const keeper = arg;
    while (weir__load(&keeper->stop, acquire) == 0) {
        /* The exchange reads the last kick, so everything done before any kick so far is seen
         * below. */
        const bool kicked = weir__exchange(&keeper->wake, 0u, acq_rel) != 0;
        uint64_t now_ns = weir__now_ns();
        use_sample(keeper, now_ns);

        ready_close_retired(keeper);
        checkpoint_take(keeper);
        trim_take(keeper);
        uint64_t due_ns = promise_idle(keeper, now_ns);
        due_ns = weir__min_u64(due_ns, reclaim_one(keeper, now_ns));
        due_ns = weir__min_u64(due_ns, prepare_ahead(keeper, now_ns, kicked));

        now_ns = weir__now_ns();
        keeper->config.tick(keeper->config.ctx, now_ns);
        due_ns = weir__min_u64(due_ns, now_ns + WEIR__KEEPER_TICK_NS);
        if (due_ns > now_ns) {
            (void)weir__futex_wait(&keeper->wake, 0u, due_ns);
        }
    }
    return NULL;
}

int weir__keeper_init(struct weir__keeper *keeper,
                      const struct weir__keeper_config *config,
                      const struct weir__ready *current)
{
    weir__check(config->segment_bytes > 0);
    weir__check(config->segment_bytes % config->control->current.block_bytes == 0);
    weir__check(config->durable != NULL && config->end != NULL && config->pinned != NULL);
    weir__check(config->frontier_moved != NULL && config->failed != NULL);
    weir__check(config->space != NULL && config->tick != NULL);
    memset(keeper, 0, sizeof *keeper);
    keeper->config = *config;
    const int error = weir__prepare_init(&keeper->prepare, config->dir);
    if (error != 0) {
        return error;
    }
    const struct weir__control *const control = &config->control->current;
    weir_lsn retired_end = control->first_lsn;
    keeper->next_base = control->first_lsn;
    if (current != NULL) {
        weir__check(current->file >= 0);
        keeper->ready[current->number % WEIR__READY_MAX] = *current;
        keeper->next_number = current->number + 1;
        keeper->next_base = current->range.end;
        keeper->state.last_base = current->range.base;
        retired_end = current->range.base;
        weir__store(&keeper->ready_first, current->number, relaxed);
    }
    /* Relaxed: nobody looks before the threads that will are started. */
    weir__store(&keeper->ready_end, keeper->next_number, relaxed);
    weir__store(&keeper->prepared_end, keeper->next_base, relaxed);
    weir__store(&keeper->current_end, keeper->next_base, relaxed);
    weir__store(&keeper->retired_end, retired_end, relaxed);
    weir__store(&keeper->oldest, control->oldest_lsn, relaxed);
    return 0;
}

int weir__keeper_prepare_now(struct weir__keeper *keeper, struct weir__fault *fault)
{
    weir__check(!keeper->started);
    weir__check(ready_has_room(keeper));
    int result = 0;
    while (result == 0) {
        result = prepare_turn(keeper, false, fault);
    }
    if (result < 0) {
        weir__prepare_abandon(&keeper->prepare);
        return result;
    }
    keeper->config.frontier_moved(keeper->config.ctx);
    return 0;
}

int weir__keeper_start(struct weir__keeper *keeper)
{
    weir__check(!keeper->started);
    struct weir__keeper_state *const state = &keeper->state;
    state->sample_ns = weir__now_ns();
    state->sample_end = keeper->config.end(keeper->config.ctx);
    state->durable_seen = keeper->config.durable(keeper->config.ctx);
    state->durable_since_ns = state->sample_ns;
    const int error = weir__thread_start(&keeper->thread, "weir-keeper", keeper_run, keeper);
    keeper->started = error == 0;
    return error;
}

void weir__keeper_kick(struct weir__keeper *keeper)
{
    /* Always an RMW: what we did before is then in the release sequence that the keeper's
     * exchange reads. */
    if (weir__exchange(&keeper->wake, 1u, acq_rel) == 0) {
        (void)weir__futex_wake(&keeper->wake, 1);
    }
}

void weir__keeper_stop(struct weir__keeper *keeper)
{
    if (keeper->config.dir == NULL) {
        return;
    }
    if (keeper->started) {
        weir__store(&keeper->stop, 1u, release);
        weir__keeper_kick(keeper);
        (void)pthread_join(keeper->thread, NULL);
        keeper->started = false;
    }
    weir__store(&keeper->broken, 1u, release);
    (void)weir__fetch_add(&keeper->trim_gen, 1u, release);
    (void)weir__futex_wake(&keeper->trim_gen, INT_MAX);

    weir__prepare_abandon(&keeper->prepare);
    weir__prepare_exit(&keeper->prepare);
    while (weir__load(&keeper->ready_first, relaxed) != keeper->next_number) {
        ready_close_first(keeper);
    }
}

/* ---- trims, from other threads ---- */

int weir__keeper_trim(struct weir__keeper *keeper, weir_lsn before, WEIR__ATOMIC(uint32_t) *failed)
{
    if (before <= weir__load(&keeper->oldest, acquire)) {
        return 0;
    }
    uint64_t asked = weir__load(&keeper->trim_asked, relaxed);
    /* Also where another has asked for more: only our own RMW makes sure that it is taken during
     * this call. The loser finds what another asked for, or that the keeper has taken it, and
     * tries again: each round somebody else got on. */
    while (!weir__cas(&keeper->trim_asked, &asked, weir__max_u64(asked, before), release)) {
    }
    const uint64_t ticket = weir__fetch_add(&keeper->trim_tickets, UINT64_C(1), acq_rel) + 1;
    weir__keeper_kick(keeper);
    for (;;) {
        const uint32_t gen = weir__load(&keeper->trim_gen, acquire);
        if ((int64_t)(weir__load(&keeper->trim_done, acquire) - ticket) >= 0) {
            return 0;
        }
        if (weir__load(failed, acquire) != 0 || weir__load(&keeper->broken, acquire) != 0) {
            return WEIR_EFAILED;
        }
        /* Bounded, since *failed has no word of its own to sleep on. */
        (void)weir__futex_wait(&keeper->trim_gen, gen, weir__now_ns() + KEEPER_TRIM_LOOK_NS);
    }
}
