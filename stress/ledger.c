/* SPDX-License-Identifier: Apache-2.0
 * The check: one walk over the log with a cursor beside the sorted list of what must be there.
 *
 * A log that nobody writes is read up to everything that verifies, which is what the next
 * opening keeps. So what one check sees, every later one must see too: the list is replaced by
 * what was seen. */
#include "ledger.h"

#include "clock.h"
#include "dice.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FAULTS_SAID_MAX = 10,
    FIRST_LSN_MAX = 65536, /* of a new log: the largest block */
    WRITER_GONE_S = 60,
};

bool ledger_open(struct ledger *ledger, const struct script *script)
{
    *ledger = (struct ledger){.script = script};
    ledger->scratch = malloc(SCRIPT_BYTES_MAX + 64);
    return ledger->scratch != NULL;
}

void ledger_close(struct ledger *ledger)
{
    for (size_t i = 0; i < ledger->life_count; i++) {
        free(ledger->lives[i].submitted);
        free(ledger->lives[i].next);
    }
    free(ledger->lives);
    free(ledger->needs);
    free(ledger->scratch);
    ledger->lives = NULL;
    ledger->needs = NULL;
    ledger->scratch = NULL;
}

static _Noreturn void memory_end(void)
{
    fprintf(stderr, "weir-stress: out of memory\n");
    exit(1);
}

void ledger_fault(struct ledger *ledger, uint64_t *count, const char *format, ...)
{
    va_list list;

    *count += 1;
    ledger->said++;
    if (ledger->said > FAULTS_SAID_MAX) {
        return;
    }
    fprintf(stderr, "FAULT: ");
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n");
}

uint64_t ledger_faults(const struct ledger *ledger)
{
    const struct ledger_counts *counts = &ledger->counts;

    return counts->lost + counts->phantom + counts->altered + counts->twice + counts->disorder +
           counts->split + counts->verdicts + counts->trims;
}

/* ---- what is told ---------------------------------------------------------------------------- */

static void
need_add(struct ledger_need **needs, size_t *count, size_t *room, struct ledger_need need)
{
    if (*count == *room) {
        *room = *room == 0 ? 4096 : *room * 2;
        *needs = realloc(*needs, *room * sizeof(**needs));
        if (*needs == NULL) {
            memory_end();
        }
    }
    (*needs)[*count] = need;
    *count += 1;
}

void ledger_acknowledge(struct ledger *ledger, weir_lsn lsn, struct record_id id)
{
    const struct ledger_need need = {.lsn = lsn, .id = id};

    need_add(&ledger->needs, &ledger->need_count, &ledger->need_room, need);
    if (lsn > ledger->acknowledged_max) {
        ledger->acknowledged_max = lsn;
    }
}

uint64_t ledger_hear(struct ledger *ledger, struct spawn *spawn)
{
    const size_t count = spawn->held / sizeof(struct wire_ack);

    for (size_t i = 0; i < count; i++) {
        struct wire_ack ack;
        memcpy(&ack, spawn->buffer + i * sizeof(ack), sizeof(ack));
        if (ack.check != dice_mix(ack.lsn ^ dice_mix(ack.tag))) {
            fprintf(stderr,
                    "weir-stress: an acknowledgement came damaged: the run proves nothing\n");
            exit(1);
        }
        ledger_acknowledge(ledger, ack.lsn, script_tag_id(ack.tag));
    }
    spawn_drop(spawn, count * sizeof(struct wire_ack));
    return count;
}

static struct ledger_life *life_at(struct ledger *ledger, uint32_t life)
{
    if (life >= ledger->life_count) {
        const size_t count = (size_t)life + 1;
        ledger->lives = realloc(ledger->lives, count * sizeof(ledger->lives[0]));
        if (ledger->lives == NULL) {
            memory_end();
        }
        memset(ledger->lives + ledger->life_count,
               0,
               (count - ledger->life_count) * sizeof(ledger->lives[0]));
        ledger->life_count = count;
    }
    return &ledger->lives[life];
}

void ledger_submitted(struct ledger *ledger, uint32_t life, const uint64_t *submitted)
{
    struct ledger_life *row = life_at(ledger, life);
    const size_t bytes = ledger->script->producers * sizeof(uint64_t);

    row->submitted = malloc(bytes);
    row->next = malloc(bytes);
    if (row->submitted == NULL || row->next == NULL) {
        memory_end();
    }
    memcpy(row->submitted, submitted, bytes);
}

void ledger_page(struct ledger *ledger, uint32_t life, struct wire_page *page)
{
    uint64_t submitted[SCRIPT_PRODUCERS_MAX];
    const weir_lsn asked = wire_get(&page->trim_asked);
    const weir_lsn done = wire_get(&page->trim_done);

    for (uint32_t i = 0; i < ledger->script->producers; i++) {
        submitted[i] = wire_get(&page->submitted[i]);
    }
    ledger_submitted(ledger, life, submitted);
    ledger->trim_asked = asked > ledger->trim_asked ? asked : ledger->trim_asked;
    ledger->trim_done = done > ledger->trim_done ? done : ledger->trim_done;
}

bool ledger_restart(struct ledger *ledger)
{
    const struct ledger_counts counts = ledger->counts;

    ledger_close(ledger);
    if (!ledger_open(ledger, ledger->script)) {
        return false;
    }
    ledger->counts = counts;
    return true;
}

void ledger_forget(struct ledger *ledger, weir_lsn trimmed)
{
    size_t kept = 0;

    for (size_t i = 0; i < ledger->need_count; i++) {
        if (ledger->needs[i].lsn >= trimmed) {
            ledger->needs[kept++] = ledger->needs[i];
        }
    }
    ledger->need_count = kept;
}

/* ---- the check ------------------------------------------------------------------------------- */

struct walk {
    struct ledger *ledger;
    struct ledger_need *seen;
    size_t seen_count;
    size_t seen_room;
    struct record_id last;
    weir_lsn last_lsn;
    bool last_more;
    bool any;
    uint32_t first_life;
};

static int need_compare(const void *left, const void *right)
{
    const struct ledger_need *a = left;
    const struct ledger_need *b = right;

    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

static bool id_same(struct record_id a, struct record_id b)
{
    return a.life == b.life && a.producer == b.producer && a.seq == b.seq;
}

#define ID_FORMAT "life %" PRIu32 " producer %" PRIu32 " record %" PRIu64
#define ID_VALUES(id) (id).life, (id).producer, (id).seq

/* Was it submitted at all? */
static bool id_known(const struct ledger *ledger, struct record_id id)
{
    return id.life < ledger->life_count && id.producer < ledger->script->producers &&
           ledger->lives[id.life].submitted != NULL &&
           id.seq < ledger->lives[id.life].submitted[id.producer];
}

/* Lives follow one another, and in a life each producer's records. */
static void walk_order(struct walk *walk, weir_lsn lsn, struct record_id id)
{
    struct ledger *ledger = walk->ledger;
    struct ledger_life *life = &ledger->lives[id.life];

    if (walk->any && id.life < walk->last.life) {
        ledger_fault(ledger,
                     &ledger->counts.disorder,
                     "LSN %" PRIu64 ": " ID_FORMAT " behind a record of life %" PRIu32,
                     lsn,
                     ID_VALUES(id),
                     walk->last.life);
    }
    if (!life->met) {
        life->met = true;
        for (uint32_t i = 0; i < ledger->script->producers; i++) {
            life->next[i] = UINT64_MAX;
        }
    }
    const uint64_t next = life->next[id.producer];
    if (next == UINT64_MAX) {
        /* The beginning of a life may have been trimmed, if nothing of an earlier one is left. */
        if (id.seq != 0 && (id.life != walk->first_life || ledger->trim_asked == 0)) {
            ledger_fault(ledger,
                         &ledger->counts.disorder,
                         "LSN %" PRIu64 ": " ID_FORMAT " is the first of its producer",
                         lsn,
                         ID_VALUES(id));
        }
    } else if (id.seq < next) {
        ledger_fault(ledger,
                     &ledger->counts.twice,
                     "LSN %" PRIu64 ": " ID_FORMAT " a second time, or behind a later one",
                     lsn,
                     ID_VALUES(id));
    } else if (id.seq > next) {
        ledger_fault(ledger,
                     &ledger->counts.disorder,
                     "LSN %" PRIu64 ": " ID_FORMAT ", but record %" PRIu64 " must come first",
                     lsn,
                     ID_VALUES(id),
                     next);
    }
    life->next[id.producer] = id.seq + 1;
}

static void walk_group(struct walk *walk, const struct weir_entry *entry, struct record_id id)
{
    struct ledger *ledger = walk->ledger;
    const struct script_group group = script_group(ledger->script, id);
    const bool first = id.seq == group.first;
    const bool more = id.seq + 1 < group.first + group.count;
    struct record_id before = id;

    before.seq--;
    const bool joined = first ? !walk->last_more : walk->last_more && id_same(before, walk->last);
    if (entry->more != more || !joined) {
        ledger_fault(ledger,
                     &ledger->counts.split,
                     "LSN %" PRIu64 ": " ID_FORMAT " of a group of %" PRIu64 " from record %" PRIu64
                     " on: more is %d, the record before is " ID_FORMAT ", more %d",
                     entry->lsn,
                     ID_VALUES(id),
                     group.count,
                     group.first,
                     entry->more,
                     ID_VALUES(walk->last),
                     walk->last_more);
    }
}

static void walk_record(struct walk *walk, const struct weir_entry *entry)
{
    struct ledger *ledger = walk->ledger;
    struct record_id id = {0, 0, 0};

    ledger->counts.records_read++;
    if (!script_identify(ledger->script, entry, &id) || !id_known(ledger, id)) {
        ledger_fault(ledger,
                     &ledger->counts.phantom,
                     "LSN %" PRIu64 ": %zu bytes, tag %016" PRIx64 ", " ID_FORMAT
                     ": never submitted",
                     entry->lsn,
                     entry->bytes,
                     entry->tag,
                     ID_VALUES(id));
        return;
    }
    if (!script_equal(ledger->script, id, entry, ledger->scratch)) {
        ledger_fault(ledger,
                     &ledger->counts.altered,
                     "LSN %" PRIu64 ": " ID_FORMAT ": %zu bytes, tag %016" PRIx64
                     ", not those that were submitted (%zu bytes)",
                     entry->lsn,
                     ID_VALUES(id),
                     entry->bytes,
                     entry->tag,
                     script_bytes(ledger->script, id));
    }
    if (walk->any && entry->lsn <= walk->last_lsn) {
        ledger_fault(ledger,
                     &ledger->counts.disorder,
                     "LSN %" PRIu64 " is shown behind LSN %" PRIu64,
                     entry->lsn,
                     walk->last_lsn);
    }
    if (!walk->any) {
        walk->first_life = id.life;
    }
    walk_order(walk, entry->lsn, id);
    walk_group(walk, entry, id);
    walk->any = true;
    walk->last = id;
    walk->last_lsn = entry->lsn;
    walk->last_more = entry->more;
    need_add(&walk->seen,
             &walk->seen_count,
             &walk->seen_room,
             (struct ledger_need){.lsn = entry->lsn, .id = id});
}

static void walk_log(struct walk *walk, const char *dir)
{
    struct ledger *ledger = walk->ledger;
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_error error = {.code = 0};
    struct weir_log *log = NULL;
    struct weir_cursor *cursor = NULL;
    struct weir_entry entry;

    options.read_only = true;
    options.must_exist = true;
    int rc = weir_open(dir, &options, &log, &error);
    if (rc == 0) {
        rc = weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_WRITTEN, WEIR_CURSOR_READ_AHEAD, &cursor);
    }
    while (rc == 0) {
        rc = weir_cursor_next(cursor, WEIR_TRY, &entry);
        if (rc == 0) {
            walk_record(walk, &entry);
        }
    }
    if (rc != WEIR_EEND) {
        if (cursor != NULL) {
            weir_cursor_error(cursor, &error);
        }
        ledger_fault(ledger,
                     &ledger->counts.verdicts,
                     "reading: %s: %s (%s)",
                     weir_error_name(rc),
                     error.text,
                     error.file);
    }
    if (walk->last_more) {
        ledger_fault(ledger,
                     &ledger->counts.split,
                     "the last group, at LSN %" PRIu64 ", is not whole",
                     walk->last_lsn);
    }
    weir_cursor_close(cursor);
    weir_close(log, NULL);
}

/* The needs against what was seen, both by LSN. */
static void needs_meet(struct walk *walk, weir_lsn oldest)
{
    struct ledger *ledger = walk->ledger;
    size_t at = 0;

    if (ledger->need_count > 0) {
        qsort(ledger->needs, ledger->need_count, sizeof(ledger->needs[0]), need_compare);
    }
    for (size_t i = 0; i < ledger->need_count; i++) {
        const struct ledger_need *need = &ledger->needs[i];
        if (need->lsn < oldest) {
            continue;
        }
        while (at < walk->seen_count && walk->seen[at].lsn < need->lsn) {
            at++;
        }
        if (at == walk->seen_count || walk->seen[at].lsn != need->lsn) {
            ledger_fault(ledger,
                         &ledger->counts.lost,
                         "LSN %" PRIu64 ": " ID_FORMAT " was acknowledged and is not there",
                         need->lsn,
                         ID_VALUES(need->id));
        } else if (!id_same(walk->seen[at].id, need->id)) {
            ledger_fault(ledger,
                         &ledger->counts.lost,
                         "LSN %" PRIu64 ": " ID_FORMAT " was acknowledged, " ID_FORMAT
                         " stands there",
                         need->lsn,
                         ID_VALUES(need->id),
                         ID_VALUES(walk->seen[at].id));
        }
    }
    free(ledger->needs);
    ledger->needs = walk->seen;
    ledger->need_count = walk->seen_count;
    ledger->need_room = walk->seen_room;
}

/* Once the writer's last operations are over. Return: false if the log cannot be judged. */
static bool verdict_check(struct ledger *ledger, const char *dir, struct weir_report *report)
{
    const uint64_t begin_ns = clock_now_ns();
    struct weir_error error = {.code = 0};
    int rc;

    do {
        rc = weir_verify(dir, NULL, NULL, report, &error);
        if (rc == 0 && report->writer_live) {
            clock_sleep_ns(CLOCK_NS_PER_MS);
        }
    } while (rc == 0 && report->writer_live &&
             clock_now_ns() - begin_ns < WRITER_GONE_S * CLOCK_NS_PER_S);
    if ((rc == WEIR_ENOLOG || rc == -ENOENT) && !ledger->made && ledger->need_count == 0) {
        return false; /* its creation was cut short: nothing to judge yet */
    }
    ledger->made = true;
    if (rc != 0) {
        ledger_fault(ledger,
                     &ledger->counts.verdicts,
                     "weir_verify: %s: %s (%s)",
                     weir_error_name(rc),
                     error.text,
                     error.file);
        return false;
    }
    if (report->writer_live) {
        ledger_fault(ledger,
                     &ledger->counts.verdicts,
                     "the lock of a killed writer is still held after %d s",
                     WRITER_GONE_S);
        return false;
    }
    if (report->verdict == WEIR_VERDICT_CORRUPT || report->verdict == WEIR_VERDICT_UNREADABLE) {
        ledger_fault(ledger,
                     &ledger->counts.verdicts,
                     "verdict %s at LSN %" PRIu64 ": %s",
                     report->verdict == WEIR_VERDICT_CORRUPT ? "corrupt" : "unreadable",
                     report->bad_lsn,
                     report->why);
        return false;
    }
    ledger->counts.torn += report->verdict == WEIR_VERDICT_TORN;
    return true;
}

bool ledger_check(struct ledger *ledger, const char *dir, struct weir_report *report_out)
{
    struct walk walk = {.ledger = ledger, .last = {0, 0, 0}};
    const uint64_t before = ledger_faults(ledger);

    ledger->said = 0;
    ledger->counts.checks++;
    if (!verdict_check(ledger, dir, report_out)) {
        return ledger_faults(ledger) == before;
    }
    const weir_lsn oldest = report_out->oldest_lsn;
    const weir_lsn oldest_max =
        ledger->trim_asked > FIRST_LSN_MAX ? ledger->trim_asked : FIRST_LSN_MAX;
    if (oldest < ledger->trim_done || oldest > oldest_max) {
        ledger_fault(ledger,
                     &ledger->counts.trims,
                     "oldest LSN %" PRIu64 ", trimmed for certain to %" PRIu64
                     ", asked for at most %" PRIu64,
                     oldest,
                     ledger->trim_done,
                     oldest_max);
    }
    for (size_t i = 0; i < ledger->life_count; i++) {
        ledger->lives[i].met = false;
    }
    walk_log(&walk, dir);
    needs_meet(&walk, oldest);
    if (report_out->end_lsn - oldest > ledger->counts.log_bytes_max) {
        ledger->counts.log_bytes_max = report_out->end_lsn - oldest;
    }
    return ledger_faults(ledger) == before;
}

void ledger_print(const struct ledger *ledger)
{
    const struct ledger_counts *counts = &ledger->counts;

    printf("acknowledged          %" PRIu64 "\n", counts->acknowledged);
    if (counts->shown != 0) {
        printf("shown to a reader     %" PRIu64 "\n", counts->shown);
    }
    printf("checks                %" PRIu64 ", %" PRIu64 " records read, longest log %" PRIu64
           " KiB, %" PRIu64 " torn tails seen\n",
           counts->checks,
           counts->records_read,
           counts->log_bytes_max / 1024,
           counts->torn);
    printf("lost                  %" PRIu64 "\n", counts->lost);
    printf("phantom               %" PRIu64 "\n", counts->phantom);
    printf("altered               %" PRIu64 "\n", counts->altered);
    printf("twice                 %" PRIu64 "\n", counts->twice);
    printf("out of order          %" PRIu64 "\n", counts->disorder);
    printf("groups not whole      %" PRIu64 "\n", counts->split);
    printf("bad verdicts          %" PRIu64 "\n", counts->verdicts);
    printf("trims not kept        %" PRIu64 "\n", counts->trims);
}
