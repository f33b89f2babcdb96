/* SPDX-License-Identifier: Apache-2.0
 * The exhaustive search. A history is a word of letters: append, group, rotate, Trim, reopen; one
 * producer, each letter waited for. It runs once for each way of writing (chain, dsync, posix); in
 * its last letter, the rest behind it and the close, an image of the disk is taken before every
 * change. Afterwards each power cut of each image is put on the disk, if that disk with what the
 * ledger then owed was not seen before: it must open, hold what it owes, take a record more, and
 * hold that as well when the power goes at once again. Inside of that opening images are taken, too,
 * up to a depth.
 *
 * Words that begin the same are the same up to there: so shorter words stand for the moments in
 * their own last letter alone. */
#include "exhaust.h"

#include "base/crc32c.h"
#include "disk.h"
#include "machine.h"
#include "port/clock.h"
#include "state.h"

#include "api/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LETTERS "agrto"
#define WORD_MAX 8u
#define IMAGES_MAX 512u
#define NESTED_MAX 4u
#define KEPT_MAX 128u /* records of one word, and the check's own */

/* ---- the states that were seen --------------------------------------------------------------- */

static uint64_t *seen;
static uint64_t seen_room; /* a power of two */
static uint64_t seen_count;

static bool seen_put(uint64_t *table, uint64_t room, uint64_t key)
{
    uint64_t at = key & (room - 1);

    while (table[at] != 0) {
        if (table[at] == key) {
            return false;
        }
        at = (at + 1) & (room - 1);
    }
    table[at] = key;
    return true;
}

/* True: it is new. */
static bool seen_add(uint64_t key)
{
    key = key == 0 ? 1 : key;
    if (2 * (seen_count + 1) > seen_room) {
        const uint64_t room = seen_room == 0 ? 1u << 16 : 2 * seen_room;
        uint64_t *const table = calloc(room, sizeof *table);
        if (table == NULL) {
            fprintf(stderr, "weir-stress sim: out of memory\n");
            abort();
        }
        for (uint64_t i = 0; i < seen_room; i++) {
            if (seen[i] != 0) {
                (void)seen_put(table, room, seen[i]);
            }
        }
        free(seen);
        seen = table;
        seen_room = room;
    }
    const bool fresh = seen_put(seen, seen_room, key);
    seen_count += fresh;
    return fresh;
}

/* ---- what the ledger owes at a moment -------------------------------------------------------- */

struct owed {
    struct record records[KEPT_MAX];
    unsigned record_count;
    weir_lsn trim_asked;
    weir_lsn trim_sure;
};

/* ---- images ---------------------------------------------------------------------------------- */

struct moment {
    struct sim_disk_image *image;
    struct owed owed;
};

struct moments {
    struct moment *at[IMAGES_MAX];
    unsigned count;
};

static struct {
    const struct exhaust_options *options;
    struct exhaust_counts *counts;
    struct history_counts history_counts;
    struct history_options history_options;
    char word[WORD_MAX + 1];
    unsigned letter;         /* under way */
    size_t payload_bytes;    /* of the whole history's records */
    struct moments *moments; /* those that are taken now */
    const struct owed *owed; /* of these, where it is known: in a recovery nothing is promised */
    char trace[200];         /* which moment and cut is looked at */
} search;

static void owed_take(struct owed *owed)
{
    if (history.record_count > KEPT_MAX) {
        abort();
    }
    memcpy(owed->records, history.records, history.record_count * sizeof owed->records[0]);
    owed->record_count = history.record_count;
    owed->trim_asked = history.trim_asked;
    owed->trim_sure = history.trim_sure;
}

static void owed_put(const struct owed *owed)
{
    memcpy(history.records, owed->records, owed->record_count * sizeof owed->records[0]);
    history.record_count = owed->record_count;
    history.payload_bytes = search.payload_bytes; /* later moments have theirs below that */
    history.trim_asked = owed->trim_asked;
    history.trim_sure = owed->trim_sure;
    ledger_power_lost();
}

static uint64_t owed_hash(const struct owed *owed)
{
    uint64_t hash = owed->trim_asked * 3 + owed->trim_sure * 7 + owed->record_count;

    for (unsigned i = 0; i < owed->record_count; i++) {
        const struct record *const record = &owed->records[i];
        hash = (hash ^ record->lsn) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
        hash = (hash ^ (record->ack == ACK_DURABLE) ^ (record->gone ? 2u : 0) ^
                (uint64_t)record->bytes << 8) *
               UINT64_C(0x9e3779b97f4a7c15);
    }
    return hash;
}

static void moment_take(void)
{
    struct moments *const moments = search.moments;

    if (moments == NULL) {
        return;
    }
    if (moments->count == IMAGES_MAX) {
        abort();
    }
    struct moment *const moment = malloc(sizeof *moment);
    if (moment == NULL) {
        abort();
    }
    moment->image = sim_disk_image_take();
    if (search.owed != NULL) {
        moment->owed = *search.owed;
    } else {
        owed_take(&moment->owed);
    }
    moments->at[moments->count++] = moment;
}

static void moments_begin(struct moments *moments, const struct owed *owed)
{
    search.moments = moments;
    search.owed = owed;
    sim_disk_observe(moments == NULL ? NULL : moment_take);
}

/* ---- a history ------------------------------------------------------------------------------- */

static void log_options_make(enum weir_io io)
{
    struct weir_options *const o = &history.log_options;
    const uint32_t block = search.options->unit_bytes;

    *o = (struct weir_options)WEIR_OPTIONS_INIT;
    history.hooks = (struct weir_memory_hooks){sim_alloc, sim_release, NULL};
    o->memory = &history.hooks;
    o->block_bytes = block;
    o->segment_bytes = block * (block == 512 ? 12u : 8u);
    o->record_bytes_max = (uint32_t)o->segment_bytes - 2 * block - 512;
    o->slot_bytes = block == 512 ? 4096 : 8192;
    o->slots = 3;
    o->max_inflight = 2;
    o->spare_segments = 1;
    o->recycle_segments = 2;
    o->io = io;
}

/* Records of so many bytes, as a group, and until they are durable. */
static int put(unsigned count, uint32_t bytes)
{
    struct weir_piece pieces[4];
    struct weir_record records[4];
    weir_lsn lsns[4];
    unsigned first;

    history.size_same = bytes;
    if (!ledger_prepare(0, count, &first)) {
        abort();
    }
    for (unsigned i = 0; i < count; i++) {
        const struct record *const record = &history.records[first + i];
        pieces[i] = (struct weir_piece){record->payload, record->bytes};
        records[i] = (struct weir_record){&pieces[i], 1, first + i};
    }
    int code = weir_append_group(history.log, records, count, WEIR_FOREVER, lsns);
    ledger_appended(first, code, lsns);
    if (code == 0) {
        code = weir_wait(history.log, lsns[count - 1], WEIR_DURABLE, WEIR_FOREVER);
    }
    if (code == 0) {
        ledger_acknowledge(first, ACK_DURABLE);
    }
    return code;
}

static int rotate(void)
{
    struct weir_stats stats;
    int code = 0;

    weir_stats(history.log, &stats);
    const uint64_t before = stats.rotations;
    while (code == 0 && stats.rotations == before) {
        code = put(1, history.log_options.record_bytes_max);
        weir_stats(history.log, &stats);
    }
    return code;
}

static int trim(void)
{
    const weir_lsn before = weir_durable_lsn(history.log);

    history.trim_asked = weir__max_u64(history.trim_asked, before);
    const int code = weir_trim(history.log, before);
    if (code == 0) {
        history.trim_sure = weir__max_u64(history.trim_sure, before);
    }
    return code;
}

static int open_log(void)
{
    struct weir_error error;

    memset(&error, 0, sizeof error);
    const int code =
        weir__open_with(sim_disk_io(), "log", &history.log_options, &history.log, &error);
    if (code != 0) {
        wrong(&search.history_counts.refused,
              "opening: %s: %.200s",
              weir_error_name(code),
              error.text);
        return code;
    }
    ledger_check();
    return history.failed ? -EIO : 0;
}

static int close_log(void)
{
    struct weir_error error;

    memset(&error, 0, sizeof error);
    const int code = weir_close(history.log, &error);
    if (code == 0) {
        ledger_acknowledge_all(UINT32_MAX, ACK_DURABLE);
    }
    return code;
}

static int letter_do(char letter)
{
    const uint32_t block = search.options->unit_bytes;
    int code = 0;

    switch (letter) {
    case 'a':
        code = put(1, block + block / 4);
        break;
    case 'g':
        code = put(3, block / 2);
        break;
    case 'r':
        code = rotate();
        break;
    case 't':
        code = trim();
        break;
    default:
        code = close_log();
        code = code == 0 ? open_log() : code;
        break;
    }
    return code;
}

static void word_main(void *moments)
{
    const size_t letters = strlen(search.word);

    if (letters == 1) {
        moments_begin(moments, NULL); /* nobody else stands for the first opening */
    }
    int code = open_log();
    for (search.letter = 0; code == 0 && search.letter < letters; search.letter++) {
        if (search.letter + 1 == letters) {
            moments_begin(moments, NULL);
        }
        code = letter_do(search.word[search.letter]);
    }
    if (code == 0) {
        weir__sleep_ns(UINT64_C(1300000000)); /* the idle promise, and spares */
        code = close_log();
    }
    if (code != 0) {
        wrong(&search.history_counts.refused, "a letter returned %s", weir_error_name(code));
    }
    moments_begin(NULL, NULL);
    history.left = 0;
}

/* ---- a state --------------------------------------------------------------------------------- */

static bool check_again;

static void check_main(void *moments)
{
    if (moments != NULL) {
        moments_begin(moments, search.owed);
    }
    int code = open_log();
    moments_begin(NULL, NULL);
    if (code == 0 && !check_again) {
        code = put(1, 40);
        if (code == 0) {
            sim_crash();
        }
        wrong(&search.history_counts.refused, "appending: %s", weir_error_name(code));
    } else if (code == 0) {
        code = close_log();
        if (code != 0) {
            wrong(&search.history_counts.refused, "closing: %s", weir_error_name(code));
        }
    }
    history.left = 0;
}

static void check_run(unsigned depth, struct moments *moments, bool again)
{
    sim_machine_reset();
    /* Recoveries one in the other draw different numbers, and two of one depth the same. */
    sim_seed(1000 + 2 * depth + again);
    check_again = again;
    history.left = 1;
    sim_spawn(check_main, moments);
    const enum sim_end end = sim_machine_run(&history.left);
    moments_begin(NULL, NULL);
    if (end == SIM_HUNG || (end == SIM_CRASHED && again)) {
        wrong(&search.history_counts.hung, "nobody can go on");
    }
}

static void moments_look(struct moments *moments, unsigned depth);

static void state_check(const struct moment *moment, unsigned depth)
{
    struct moments inner = {.count = 0};
    const bool nest = depth < search.options->nested;

    sim_disk_image_put(moment->image, &history.disk);
    owed_put(&moment->owed);
    search.owed = &moment->owed;
    check_run(depth, nest ? &inner : NULL, false);
    if (!history.failed) {
        /* At once the power goes again, and nothing stays that was not durable. */
        sim_disk_power_cut_bare();
        check_run(depth, NULL, true);
    }
    if (!history.failed) {
        search.counts->points_in_recovery += inner.count;
        moments_look(&inner, depth + 1);
    }
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void moment_look(const struct moment *moment, unsigned number, unsigned depth)
{
    struct exhaust_counts *const counts = search.counts;
    struct sim_disk_image *const image = moment->image;
    const uint64_t all = sim_disk_image_choices(image);
    const uint64_t most = UINT64_C(1) << search.options->units;
    const uint64_t owed = owed_hash(&moment->owed);
    const unsigned units = sim_disk_image_units(image);
    const bool bounded = all > most;
    uint64_t random = UINT64_C(88172645463325252); /* the same for all, whatever ran before */

    counts->crash_points++;
    counts->units_most = weir__max_u64(counts->units_most, units);
    counts->points_bounded += bounded;
    for (uint64_t choice = 0; choice < (bounded ? most : all) && !history.failed; choice++) {
        uint64_t which = choice;
        if (bounded && choice >= most / 2) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            which = random;
        } else if (bounded && choice % 2 != 0) {
            which = UINT64_MAX - choice; /* nearly all of it, as well as nearly nothing */
        }
        sim_disk_image_choose(image, which);
        counts->choices++;
        counts->choices_bounded += bounded;
        const uint64_t key = sim_disk_image_hash(image) ^ owed;
        /* A state from whose recovery no images are taken does not stand for one that has some. */
        const bool leaf = depth >= search.options->nested;
        if (leaf && search.options->nested > 0 && !seen_add(key * 2 + 1)) {
            continue;
        }
        if (!leaf || search.options->nested == 0) {
            if (!seen_add(key * 2)) {
                continue;
            }
        }
        counts->states++;
        const size_t length = strlen(search.trace);
        (void)snprintf(search.trace + length,
                       sizeof search.trace - length,
                       ", moment %u, cut %llu",
                       number,
                       (unsigned long long)which);
        state_check(moment, depth);
        if (!history.failed) {
            search.trace[length] = '\0';
        }
    }
}

static void moments_look(struct moments *moments, unsigned depth)
{
    for (unsigned i = 0; i < moments->count; i++) {
        if (!history.failed) {
            moment_look(moments->at[i], i, depth);
        }
        sim_disk_image_free(moments->at[i]->image);
        free(moments->at[i]);
    }
    moments->count = 0;
}

static void word_run(enum weir_io io)
{
    static struct moments moments;

    history.failed = false;
    ledger_reset();
    sim_seed(1);
    log_options_make(io);
    history.disk = (struct sim_disk_config){
        .sector_bytes = search.options->unit_bytes,
        .space_bytes = UINT64_MAX,
        .direct = true,
        .fua = true,
    };
    sim_machine_reset();
    sim_disk_format(&history.disk);
    search.counts->histories++;
    (void)snprintf(search.trace, sizeof search.trace, "history %s, io %d", search.word, (int)io);
    history.left = 1;
    sim_spawn(word_main, &moments);
    const enum sim_end end = sim_machine_run(&history.left);
    moments_begin(NULL, NULL);
    if (end != SIM_DONE) {
        wrong(&search.history_counts.hung, "nobody can go on");
    }
    search.payload_bytes = history.payload_bytes;
    moments_look(&moments, 0);
}

static uint64_t words_of(unsigned letters)
{
    uint64_t words = 1;

    for (unsigned i = 0; i < letters; i++) {
        words *= sizeof LETTERS - 1;
    }
    return words;
}

static bool word_runs(const char *word)
{
    (void)snprintf(search.word, sizeof search.word, "%s", word);
    for (int io = WEIR_IO_CHAIN; io <= WEIR_IO_POSIX && !history.failed; io++) {
        word_run((enum weir_io)io);
    }
    return !history.failed;
}

static bool words_run(void)
{
    const struct exhaust_options *const options = search.options;
    uint64_t all = 0;
    uint64_t done = 0;

    for (unsigned letters = 1; letters <= options->operations; letters++) {
        all += words_of(letters);
    }
    for (unsigned letters = 1; letters <= options->operations; letters++) {
        for (uint64_t number = 0; number < words_of(letters); number++) {
            char word[WORD_MAX + 1] = {0};
            uint64_t rest = number;
            for (unsigned i = 0; i < letters; i++) {
                word[i] = LETTERS[rest % (sizeof LETTERS - 1)];
                rest /= sizeof LETTERS - 1;
            }
            if (!word_runs(word)) {
                return false;
            }
            if (!options->go_on(++done, all)) {
                return true;
            }
        }
    }
    return true;
}

bool exhaust_run(const struct exhaust_options *options,
                 struct exhaust_counts *counts,
                 char *why,
                 size_t why_bytes)
{
    char what[400];

    (void)weir__crc32c(0, "", 0);
    search.options = options;
    search.counts = counts;
    history.options = &search.history_options;
    history.counts = &search.history_counts;
    history.why = what;
    history.why_bytes = sizeof what;
    history.failed = false;
    history.damaged = false;
    history.sizes = SIZES_EXACT;
    const bool good = options->only != NULL ? word_runs(options->only) : words_run();
    if (!good) {
        (void)snprintf(why, why_bytes, "%s: %s", search.trace, what);
    }
    counts->lost = search.history_counts.lost;
    counts->phantom = search.history_counts.phantom;
    counts->altered = search.history_counts.altered;
    counts->disorder = search.history_counts.disorder;
    counts->refused = search.history_counts.refused;
    counts->hung = search.history_counts.hung;
    return good;
}
