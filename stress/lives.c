/* SPDX-License-Identifier: Apache-2.0
 * Lives: start, hear, end. A life's parameters follow from the seed and its number; the
 * machine's timing does not, so a seed repeats the records and the plan, not every moment. */
#include "lives.h"

#include "clock.h"
#include "patience.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>

enum {
    STANDSTILL_S = 60, /* no life needs that long to open, to acknowledge or to close */
    CHILD_WORDS_MAX = 32,
    SLICE_US = 200,
};

int lives_open(struct lives *lives,
               const char *verb,
               const struct lives_options *options,
               const char *probe_dir,
               const char *log_dir)
{
    *lives = (struct lives){.verb = verb,
                            .options = options,
                            .log_dir = log_dir,
                            .open_what = "openings"};
    lives->script = (struct script){.seed = options->seed,
                                    .bytes_min = (uint32_t)options->record_bytes.from,
                                    .bytes_max = (uint32_t)options->record_bytes.to,
                                    .producers = (uint32_t)options->producers};
    lives->dice.state = dice_mix(options->seed);
    if (!ledger_open(&lives->ledger, &lives->script)) {
        fprintf(stderr, "weir-stress %s: out of memory\n", verb);
        return STATUS_FAILED;
    }
    if (options->io != ARGS_IO_ALL) {
        lives->io_words[lives->io_count++] = options->io;
        return 0;
    }
    struct weir_probe probe;
    struct weir_error error = {.code = 0};
    const int rc = weir_probe(probe_dir, &probe, &error);
    if (rc != 0) {
        fprintf(stderr,
                "weir-stress %s: %s: %s %s\n",
                verb,
                probe_dir,
                weir_error_name(rc),
                error.text);
        return STATUS_FAILED;
    }
    lives->io_words[lives->io_count++] = WEIR_IO_AUTO;
    if (probe.io_uring) {
        lives->io_words[lives->io_count++] = WEIR_IO_CHAIN;
        lives->io_words[lives->io_count++] = WEIR_IO_DSYNC;
    } else {
        printf("note: no io_uring (%s): chain and dsync left out\n", probe.io_uring_reason);
    }
    lives->io_words[lives->io_count++] = WEIR_IO_POSIX;
    return 0;
}

void lives_close(struct lives *lives)
{
    ledger_close(&lives->ledger);
}

static void moment_draw(struct lives *lives, struct life *life)
{
    struct dice *dice = &lives->dice;
    const uint64_t open_ns =
        lives->opens == 0 ? 3 * CLOCK_NS_PER_MS : lives->open_ns_sum / lives->opens;

    switch (dice_below(dice, 10)) {
    case 0:
    case 1:
    case 2:
        life->moment = MOMENT_AFTER_GO;
        life->moment_value = dice_below(dice, 2 * open_ns);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        life->moment = MOMENT_AFTER_OPEN;
        life->moment_value = dice_below(dice, 100 * CLOCK_NS_PER_MS);
        break;
    case 7:
    case 8:
        life->moment = MOMENT_AFTER_ACKS;
        life->moment_value = 1 + dice_below(dice, 1 << dice_below(dice, 12));
        break;
    default:
        life->moment = MOMENT_AFTER_BUDGET;
        life->moment_value = dice_below(dice, 3 * CLOCK_NS_PER_MS);
        break;
    }
}

bool life_start(struct lives *lives, struct life *life)
{
    char life_word[24];
    char seed_word[24];
    char producers_word[24];
    char range_word[48];
    char budget_word[24];
    const uint32_t number = lives->next_number;
    struct dice dice = {dice_mix(lives->options->seed ^ dice_mix(~(uint64_t)number))};

    *life = (struct life){.number = number, .child = SPAWN_NONE, .follower = SPAWN_NONE};
    lives->next_number++;
    uint64_t budget = lives->budget == 0 ? UINT64_MAX : lives->budget;
    if (!lives->own_moments) {
        moment_draw(lives, life);
        budget = life->moment == MOMENT_AFTER_BUDGET ? dice_below(&dice, 300) : UINT64_MAX;
    }
    snprintf(life_word, sizeof(life_word), "%" PRIu32, number);
    snprintf(seed_word, sizeof(seed_word), "%" PRIu64, lives->options->seed);
    snprintf(producers_word, sizeof(producers_word), "%" PRIu64, lives->options->producers);
    snprintf(budget_word, sizeof(budget_word), "%" PRIu64, budget);
    snprintf(range_word,
             sizeof(range_word),
             "%" PRIu64 "..%" PRIu64,
             lives->options->record_bytes.from,
             lives->options->record_bytes.to);
    char log_word[4096];
    char io_word[8];
    char lie_word[16];
    snprintf(log_word, sizeof(log_word), "%s", lives->log_dir);
    snprintf(io_word,
             sizeof(io_word),
             "%s",
             args_io_words[lives->io_words[number % lives->io_count]]);
    snprintf(lie_word, sizeof(lie_word), "%s", lives->options->lie);
    char program[4096];
    snprintf(program, sizeof(program), "%s", spawn_self());
    char words[sizeof(lives->words) / sizeof(lives->words[0])][32];
    char *argv[CHILD_WORDS_MAX] = {program,
                                   (char[]){"append-child"},
                                   (char[]){"--dir"},
                                   log_word,
                                   (char[]){"--seed"},
                                   seed_word,
                                   (char[]){"--life"},
                                   life_word,
                                   (char[]){"--producers"},
                                   producers_word,
                                   (char[]){"--record-bytes"},
                                   range_word,
                                   (char[]){"--budget"},
                                   budget_word,
                                   (char[]){"--io"},
                                   io_word,
                                   (char[]){"--lie"},
                                   lie_word,
                                   lives->only_durable ? (char[]){"--only-durable"} : NULL,
                                   NULL};
    size_t count = 0;
    while (argv[count] != NULL) {
        count++;
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]) && lives->words[i] != NULL; i++) {
        snprintf(words[i], sizeof(words[i]), "%s", lives->words[i]);
        argv[count++] = words[i];
    }
    const int rc = spawn_start(&life->child, argv, false, -1);
    if (rc != 0) {
        fprintf(stderr, "weir-stress %s: child: %s\n", lives->verb, weir_strerror(rc));
        lives->failed = true;
    }
    return rc == 0;
}

void life_go(struct life *life)
{
    spawn_go(&life->child);
}

void life_follow(struct lives *lives, struct life *life)
{
    char from_word[24];
    char log_word[4096];
    char program[4096];

    snprintf(from_word, sizeof(from_word), "%" PRIu64, wire_get(&life->child.page->end_lsn));
    snprintf(log_word, sizeof(log_word), "%s", lives->log_dir);
    snprintf(program, sizeof(program), "%s", spawn_self());
    char *argv[] = {program,
                    (char[]){"follow-child"},
                    (char[]){"--dir"},
                    log_word,
                    (char[]){"--from"},
                    from_word,
                    NULL};
    if (spawn_start(&life->follower, argv, false, -1) != 0) {
        life->follower.pid = 0; /* no reader this time */
    }
}

uint64_t life_hear(struct lives *lives, struct life *life, uint64_t wait_ns)
{
    if (!life->heard) {
        life->heard = true;
        life->needed = lives->ledger.acknowledged_max;
    }
    const bool alive = spawn_hear(&life->child, clock_now_ns() + wait_ns);
    const uint64_t count = ledger_hear(&lives->ledger, &life->child);

    lives->ledger.counts.acknowledged += count;
    if (life->follower.pid > 0) {
        spawn_hear(&life->follower, 0);
        lives->ledger.counts.shown += ledger_hear(&lives->ledger, &life->follower);
    }
    if (!alive) {
        clock_sleep_ns(wait_ns); /* nothing more to hear: it is about to exit, or was killed */
    }
    return count;
}

bool life_await(struct lives *lives, struct life *life)
{
    struct wire_page *page = life->child.page;
    uint64_t heard = 0;
    uint64_t begin_seen_ns = 0;
    uint64_t open_seen_ns = 0;
    uint64_t closing_seen_ns = 0;
    struct patience patience;

    patience_renew(&patience);

    while (!stop_asked()) {
        const enum wire_phase phase = wire_phase(page);
        life->phase = phase;
        const uint64_t now_ns = clock_now_ns();
        if (phase >= WIRE_OPENING && begin_seen_ns == 0) {
            begin_seen_ns = now_ns;
            patience_renew(&patience);
        }
        if (phase >= WIRE_APPENDING && open_seen_ns == 0) {
            open_seen_ns = now_ns;
            patience_renew(&patience);
            if (lives->options->follow) {
                life_follow(lives, life);
            }
        }
        if (phase >= WIRE_CLOSING && closing_seen_ns == 0) {
            closing_seen_ns = now_ns;
            patience_renew(&patience);
        }
        const bool over = life->child.acks_fd < 0;
        if (over ||
            (life->moment == MOMENT_AFTER_GO && begin_seen_ns != 0 &&
             now_ns - begin_seen_ns >= life->moment_value) ||
            (life->moment == MOMENT_AFTER_OPEN && open_seen_ns != 0 &&
             now_ns - open_seen_ns >= life->moment_value) ||
            (life->moment == MOMENT_AFTER_ACKS && heard >= life->moment_value) ||
            (life->moment == MOMENT_AFTER_BUDGET && closing_seen_ns != 0 &&
             now_ns - closing_seen_ns >= life->moment_value)) {
            return true;
        }
        if (patience_lost(&patience, lives_standstill_ns(lives))) {
            life_stuck(lives, life);
            return false;
        }
        const uint64_t count = life_hear(lives, life, SLICE_US * CLOCK_NS_PER_US);
        heard += count;
        if (count > 0) {
            patience_renew(&patience);
        }
    }
    return true;
}

bool life_await_open(struct lives *lives, struct life *life)
{
    struct patience patience;

    patience_renew(&patience);
    while (!stop_asked() && life->child.acks_fd >= 0) {
        if (wire_phase(life->child.page) >= WIRE_APPENDING) {
            return true;
        }
        if (patience_lost(&patience, lives_standstill_ns(lives))) {
            life_stuck(lives, life);
            return false;
        }
        life_hear(lives, life, SLICE_US * CLOCK_NS_PER_US);
    }
    return !stop_asked() && wire_phase(life->child.page) >= WIRE_APPENDING;
}

bool life_await_end(struct lives *lives, struct life *life)
{
    struct patience patience;

    patience_renew(&patience);
    while (!stop_asked() && life->child.acks_fd >= 0) {
        if (patience_lost(&patience, lives_standstill_ns(lives))) {
            life_stuck(lives, life);
            life_kill(life); /* so that there is an end to hear */
            life->phase = wire_phase(life->child.page);
            return false;
        }
        if (life_hear(lives, life, CLOCK_NS_PER_MS) > 0) {
            patience_renew(&patience);
        }
    }
    life->phase = wire_phase(life->child.page);
    return true;
}

uint64_t lives_standstill_ns(const struct lives *lives)
{
    return lives->options->standstill_ns != 0 ? lives->options->standstill_ns
                                              : STANDSTILL_S * CLOCK_NS_PER_S;
}

void lives_fault(struct lives *lives, const char *format, ...)
{
    va_list list;

    fprintf(stderr, "FAULT: ");
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n");
    lives->failed = true;
}

void life_stuck(struct lives *lives, const struct life *life)
{
    lives_fault(lives,
                "life %" PRIu32 " (process %d) stands still in phase %d: nothing for %.1f s",
                life->number,
                (int)life->child.pid,
                (int)wire_phase(life->child.page),
                (double)lives_standstill_ns(lives) / 1e9);
}

void life_kill(struct life *life)
{
    spawn_kill(&life->child);
}

/* Everything that was said before the death is still in the pipe. */
static void rest_hear(struct ledger *ledger, struct spawn *spawn, uint64_t *count)
{
    while (spawn_hear(spawn, UINT64_MAX)) {
        *count += ledger_hear(ledger, spawn);
    }
    *count += ledger_hear(ledger, spawn);
}

void lives_opened(struct lives *lives, uint64_t open_ns)
{
    lives->opens++;
    lives->open_ns_sum += open_ns;
    lives->open_ns_max = open_ns > lives->open_ns_max ? open_ns : lives->open_ns_max;
}

static void opening_note(struct lives *lives, const struct life *life)
{
    struct wire_page *page = life->child.page;
    const weir_lsn end = wire_get(&page->end_lsn);

    lives->ledger.made = true;
    lives_opened(lives, wire_get(&page->open_ns));
    if (atomic_load_explicit(&page->verdict, memory_order_acquire) == WEIR_VERDICT_TORN) {
        lives->torn_cut++;
        lives->bytes_cut += wire_get(&page->bytes_cut);
    }
    if (life->needed >= end) {
        ledger_fault(&lives->ledger,
                     &lives->ledger.counts.lost,
                     "life %" PRIu32 " opened a log that ends at LSN %" PRIu64 ", but LSN %" PRIu64
                     " was acknowledged before",
                     life->number,
                     end,
                     life->needed);
    }
}

bool life_end(struct lives *lives, struct life *life, bool may_fail)
{
    struct wire_page *page = life->child.page;

    rest_hear(&lives->ledger, &life->child, &lives->ledger.counts.acknowledged);
    const int status = spawn_reap(&life->child);
    if (life->follower.pid > 0) {
        spawn_kill(&life->follower);
        rest_hear(&lives->ledger, &life->follower, &lives->ledger.counts.shown);
        spawn_clear(&life->follower);
    }
    const enum wire_phase phase = wire_phase(page);
    const uint64_t inflight = wire_get(&page->inflight_max);
    lives->inflight_max = inflight > lives->inflight_max ? inflight : lives->inflight_max;
    lives->refused += wire_get(&page->refused);
    lives->ended[life->phase]++;
    ledger_page(&lives->ledger, life->number, page);
    if (phase >= WIRE_APPENDING) {
        opening_note(lives, life);
    }
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    bool good = killed || code == WIRE_EXIT_DONE || (may_fail && code == WIRE_EXIT_FAILED);
    if (!good && !stop_asked()) {
        page->message[sizeof(page->message) - 1] = '\0';
        fprintf(stderr,
                "FAULT: life %" PRIu32 " ended in phase %d with %s %d: %s\n",
                life->number,
                (int)phase,
                WIFEXITED(status) ? "status" : "signal",
                WIFEXITED(status) ? code : WTERMSIG(status),
                page->message);
        lives->failed = true;
    }
    spawn_clear(&life->child);
    return good || stop_asked();
}

void life_clear(struct life *life)
{
    spawn_clear(&life->child);
    spawn_clear(&life->follower);
}

bool lives_good(const struct lives *lives)
{
    return !lives->failed && ledger_faults(&lives->ledger) == 0;
}

void lives_line(struct lives *lives, uint64_t round)
{
    printf("round %" PRIu64 ": %" PRIu64 " acknowledged, %" PRIu64 " records checked, %" PRIu64
           " faults\n",
           round,
           lives->ledger.counts.acknowledged,
           lives->ledger.counts.records_read,
           ledger_faults(&lives->ledger));
}

void lives_print(struct lives *lives)
{
    printf("stopped before going %" PRIu64 "\n", lives->ended[WIRE_WAITING]);
    printf("  while opening       %" PRIu64 "\n", lives->ended[WIRE_OPENING]);
    printf("  while appending     %" PRIu64 "\n", lives->ended[WIRE_APPENDING]);
    printf("  while closing       %" PRIu64 "\n", lives->ended[WIRE_CLOSING]);
    printf("  after closing       %" PRIu64 "\n", lives->ended[WIRE_CLOSED]);
    printf("%-21s %" PRIu64 ", longest %.1f ms, mean %.1f ms\n",
           lives->open_what,
           lives->opens,
           (double)lives->open_ns_max / 1e6,
           lives->opens == 0 ? 0.0 : (double)lives->open_ns_sum / (double)lives->opens / 1e6);
    printf("torn tails cut        %" PRIu64 ", %" PRIu64 " bytes\n",
           lives->torn_cut,
           lives->bytes_cut);
    printf("most operations under way at once %" PRIu64 "\n", lives->inflight_max);
    if (lives->refused > 0) {
        printf("appends refused       %" PRIu64 "\n", lives->refused);
    }
    ledger_print(&lives->ledger);
}

void lives_rerun(const struct lives *lives, FILE *to, const char *more)
{
    const struct lives_options *options = lives->options;

    fprintf(to,
            "rerun: weir-stress %s --seed %" PRIu64 " --rounds %" PRIu64
            " --io %s --producers %" PRIu64 " --record-bytes %" PRIu64 "..%" PRIu64 "%s%s%s%s\n",
            lives->verb,
            options->seed,
            options->rounds,
            args_io_words[options->io],
            options->producers,
            options->record_bytes.from,
            options->record_bytes.to,
            options->follow ? " --follow" : "",
            strcmp(options->lie, "none") != 0 ? " --lie " : "",
            strcmp(options->lie, "none") != 0 ? options->lie : "",
            more);
}
