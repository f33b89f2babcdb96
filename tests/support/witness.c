/* SPDX-License-Identifier: Apache-2.0
 * Events and records, written down under a mutex each. */
#include "support/witness.h"

#include "support/threads.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- events ---- */

void events_init(struct events *events)
{
    memset(events, 0, sizeof *events);
    (void)pthread_mutex_init(&events->mutex, NULL);
}

void events_exit(struct events *events)
{
    (void)pthread_mutex_destroy(&events->mutex);
}

void events_on(void *ctx, const struct weir_event *event)
{
    struct events *const events = ctx;
    (void)pthread_mutex_lock(&events->mutex);
    if (events->count < EVENTS_MAX) {
        struct event_seen *const seen = &events->list[events->count++];
        *seen = (struct event_seen){event->kind, event->code, event->lsn, event->value, ""};
        (void)snprintf(seen->text, sizeof seen->text, "%s", event->text != NULL ? event->text : "");
    }
    (void)pthread_mutex_unlock(&events->mutex);
}

unsigned events_count(struct events *events, enum weir_event_kind kind)
{
    unsigned count = 0;
    (void)pthread_mutex_lock(&events->mutex);
    for (unsigned i = 0; i < events->count; i++) {
        count += events->list[i].kind == kind;
    }
    (void)pthread_mutex_unlock(&events->mutex);
    return count;
}

bool events_last(struct events *events, enum weir_event_kind kind, struct event_seen *event_out)
{
    bool found = false;
    (void)pthread_mutex_lock(&events->mutex);
    for (unsigned i = events->count; i > 0 && !found; i--) {
        found = events->list[i - 1].kind == kind;
        if (found) {
            *event_out = events->list[i - 1];
        }
    }
    (void)pthread_mutex_unlock(&events->mutex);
    return found;
}

struct events_wanted {
    struct events *events;
    enum weir_event_kind kind;
    unsigned count;
};

static bool events_there(void *ctx)
{
    const struct events_wanted *const wanted = ctx;
    return events_count(wanted->events, wanted->kind) >= wanted->count;
}

bool events_wait(struct events *events, enum weir_event_kind kind, unsigned count)
{
    struct events_wanted wanted = {events, kind, count};
    return wait_until(events_there, &wanted);
}

/* ---- records ---- */

void payload_fill(uint64_t tag, void *out, size_t bytes)
{
    struct random random = {tag ^ UINT64_C(0x5bd1e9955bd1e995)};
    uint8_t *const at = out;
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t word = random_next(&random);
        memcpy(at + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
}

bool payload_holds(uint64_t tag, const void *data, size_t bytes)
{
    struct random random = {tag ^ UINT64_C(0x5bd1e9955bd1e995)};
    const uint8_t *const at = data;
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t word = random_next(&random);
        if (memcmp(at + i, &word, bytes - i < 8 ? bytes - i : 8) != 0) {
            return false;
        }
    }
    return true;
}

void ledger_init(struct ledger *ledger)
{
    memset(ledger, 0, sizeof *ledger);
    (void)pthread_mutex_init(&ledger->mutex, NULL);
}

void ledger_exit(struct ledger *ledger)
{
    free(ledger->entries);
    (void)pthread_mutex_destroy(&ledger->mutex);
}

void ledger_add(struct ledger *ledger, weir_lsn lsn, uint64_t tag, size_t bytes)
{
    (void)pthread_mutex_lock(&ledger->mutex);
    if (ledger->count == ledger->room) {
        ledger->room = ledger->room > 0 ? 2 * ledger->room : 256;
        ledger->entries = realloc(ledger->entries, ledger->room * sizeof *ledger->entries);
        if (ledger->entries == NULL) {
            abort();
        }
    }
    ledger->entries[ledger->count++] = (struct ledger_entry){lsn, tag, bytes};
    (void)pthread_mutex_unlock(&ledger->mutex);
}

static int entry_order(const void *a, const void *b)
{
    const struct ledger_entry *const x = a;
    const struct ledger_entry *const y = b;
    return (x->lsn > y->lsn) - (x->lsn < y->lsn);
}

static bool scan(struct ledger *ledger,
                 struct weir_cursor *cursor,
                 weir_lsn oldest,
                 weir_lsn below,
                 bool exact,
                 char why[256])
{
    size_t at = 0;
    weir_lsn last = 0;
    struct weir_entry entry;
    int code;
    while (at < ledger->count && ledger->entries[at].lsn < oldest) {
        at++;
    }
    while ((code = weir_cursor_next(cursor, WEIR_TRY, &entry)) == 0) {
        if (entry.lsn <= last) {
            (void)snprintf(why, 256, "LSN %" PRIu64 " after %" PRIu64, entry.lsn, last);
            return false;
        }
        last = entry.lsn;
        if (!payload_holds(entry.tag, entry.data, entry.bytes)) {
            (void)snprintf(why,
                           256,
                           "the %zu bytes at LSN %" PRIu64 " are not those of tag %" PRIx64,
                           entry.bytes,
                           entry.lsn,
                           entry.tag);
            return false;
        }
        if (at < ledger->count && ledger->entries[at].lsn < below &&
            ledger->entries[at].lsn < entry.lsn) {
            (void)snprintf(why,
                           256,
                           "the record at LSN %" PRIu64 " is missing",
                           ledger->entries[at].lsn);
            return false;
        }
        const struct ledger_entry *const due = at < ledger->count ? &ledger->entries[at] : NULL;
        if (due != NULL && due->lsn == entry.lsn) {
            if (due->tag != entry.tag || due->bytes != entry.bytes) {
                (void)snprintf(why, 256, "another record at LSN %" PRIu64, entry.lsn);
                return false;
            }
            at++;
        } else if (exact) {
            (void)snprintf(why, 256, "nobody appended what stands at LSN %" PRIu64, entry.lsn);
            return false;
        }
    }
    if (code != WEIR_EEND) {
        struct weir_error error;
        (void)weir_cursor_error(cursor, &error);
        (void)snprintf(why, 256, "cursor: %s: %.150s", weir_error_name(code), error.text);
        return false;
    }
    if (at < ledger->count && ledger->entries[at].lsn < below) {
        (void)snprintf(why,
                       256,
                       "%zu records from LSN %" PRIu64 " on are missing",
                       ledger->count - at,
                       ledger->entries[at].lsn);
        return false;
    }
    return true;
}

bool ledger_check(struct ledger *ledger,
                  struct weir_log *log,
                  enum weir_level level,
                  weir_lsn below,
                  bool exact,
                  char why[256])
{
    struct weir_cursor *cursor;
    why[0] = '\0';
    const int code = weir_cursor_open(log, WEIR_LSN_OLDEST, level, 0, &cursor);
    if (code != 0) {
        (void)snprintf(why, 256, "weir_cursor_open: %s", weir_error_name(code));
        return false;
    }
    (void)pthread_mutex_lock(&ledger->mutex);
    if (ledger->count > 0) {
        qsort(ledger->entries, ledger->count, sizeof *ledger->entries, entry_order);
    }
    const bool good = scan(ledger, cursor, weir_oldest_lsn(log), below, exact, why);
    (void)pthread_mutex_unlock(&ledger->mutex);
    weir_cursor_close(cursor);
    return good;
}

bool ledger_check_dir(struct ledger *ledger,
                      const char *dir,
                      const struct weir_options *options,
                      bool exact,
                      char why[256])
{
    struct weir_options o = *options;
    struct weir_log *log;
    struct weir_error error;
    o.io = WEIR_IO_POSIX;
    o.on_event = NULL;
    o.first_lsn = 0;
    o.must_exist = true;
    why[0] = '\0';
    int code = weir_open(dir, &o, &log, &error);
    if (code != 0) {
        (void)snprintf(why, 256, "weir_open: %s: %.200s", weir_error_name(code), error.text);
        return false;
    }
    const bool good = ledger_check(ledger, log, WEIR_DURABLE, UINT64_MAX, exact, why);
    code = weir_close(log, &error);
    if (good && code != 0) {
        (void)snprintf(why, 256, "weir_close: %s: %.200s", weir_error_name(code), error.text);
    }
    return good && code == 0;
}
