/* SPDX-License-Identifier: Apache-2.0
 * weir-stress kill --ingest: feeds lines to the weir command and kills it.
 *
 * The command is started right behind the kill of the one before, every other time without even
 * waiting for that one's end. Lines are written to its standard input as fast as it takes them;
 * acknowledgements ("LSN LINE") are heard meanwhile. The check is that of the other use: a line
 * names its life and number, and all its bytes follow from these. Now and then the log is
 * trimmed with "weir trim". */
#include "kill.h"

#include "clock.h"
#include "patience.h"
#include "progress.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    TRIM_ABOVE_BYTES = 96 << 20,
    ERRORS_MAX = 2000,
};

struct feeding {
    uint32_t number;
    struct spawn child;
    uint64_t line;  /* the next to be written */
    uint8_t *bytes; /* what is being written */
    size_t count;
    size_t done;
    uint64_t line_limit; /* then the input ends */
    uint64_t started_ns;
    uint64_t first_ack_ns;
    uint64_t ended_ns; /* when the input ended */
    uint64_t heard;
    enum moment_kind moment;
    uint64_t moment_value;
    int errors_fd;
};

static void moment_draw(struct lives *lives, struct feeding *feeding)
{
    struct dice *dice = &lives->dice;
    const uint64_t open_ns =
        lives->opens == 0 ? 10 * CLOCK_NS_PER_MS : lives->open_ns_sum / lives->opens;
    const uint64_t dot = dice_below(dice, 10);

    feeding->line_limit = UINT64_MAX;
    if (dot < 3) {
        feeding->moment = MOMENT_AFTER_GO;
        feeding->moment_value = dice_below(dice, 2 * open_ns);
    } else if (dot < 7) {
        feeding->moment = MOMENT_AFTER_OPEN;
        feeding->moment_value = dice_below(dice, 100 * CLOCK_NS_PER_MS);
    } else if (dot < 9) {
        feeding->moment = MOMENT_AFTER_ACKS;
        feeding->moment_value = 1 + dice_below(dice, 1 << dice_below(dice, 12));
    } else {
        feeding->moment = MOMENT_AFTER_BUDGET;
        feeding->moment_value = dice_below(dice, 10 * CLOCK_NS_PER_MS);
        feeding->line_limit = dice_below(dice, 1000);
    }
}

static bool feeding_start(struct lives *lives, struct feeding *feeding, const char *weir)
{
    static const char *const waits[] = {"durable", "written", "none"};
    static const char *const slots[] = {"64K", "256K", "1M"};
    const uint32_t number = lives->next_number;
    struct dice dice = {dice_mix(lives->options->seed ^ dice_mix(~(uint64_t)number))};
    uint64_t base = 1 << 20;

    lives->next_number++;
    uint8_t *bytes = feeding->bytes;
    *feeding = (struct feeding){.number = number, .child = SPAWN_NONE, .bytes = bytes};
    moment_draw(lives, feeding);
    while (base < 2 * script_group_bytes_max(&lives->script)) {
        base *= 2;
    }
    char program[4200];
    char producers_word[24];
    char wait_word[16];
    char io_word[8];
    char segment_word[24];
    char slot_word[8];
    char log_word[4200];
    snprintf(program, sizeof(program), "%s", weir);
    snprintf(producers_word, sizeof(producers_word), "%" PRIu64, lives->options->producers);
    snprintf(wait_word, sizeof(wait_word), "%s", waits[dice_below(&dice, 3)]);
    snprintf(io_word,
             sizeof(io_word),
             "%s",
             args_io_words[lives->io_words[number % lives->io_count]]);
    snprintf(segment_word, sizeof(segment_word), "%" PRIu64, base << dice_below(&dice, 3));
    snprintf(slot_word, sizeof(slot_word), "%s", slots[dice_below(&dice, 3)]);
    snprintf(log_word, sizeof(log_word), "%s", lives->log_dir);
    char *argv[] = {program,
                    (char[]){"ingest"},
                    (char[]){"--acks"},
                    (char[]){"3"},
                    (char[]){"--producers"},
                    producers_word,
                    (char[]){"--wait"},
                    wait_word,
                    (char[]){"--io"},
                    io_word,
                    (char[]){"--segment"},
                    segment_word,
                    (char[]){"--slot"},
                    slot_word,
                    log_word,
                    NULL};
    feeding->errors_fd = spawn_up(memfd_create("weir-ingest", MFD_CLOEXEC));
    const int rc = spawn_start(&feeding->child, argv, true, feeding->errors_fd);
    if (rc != 0) {
        fprintf(stderr, "weir-stress kill: %s: %s\n", weir, weir_strerror(rc));
        return false;
    }
    feeding->started_ns = clock_now_ns();
    return true;
}

/* Takes the whole lines out of the child's buffer: acknowledgements. The last one of a killed
 * writer may be cut. */
static uint64_t acks_take(struct lives *lives, struct feeding *feeding)
{
    struct spawn *child = &feeding->child;
    size_t used = 0;
    uint64_t count = 0;

    for (;;) {
        const uint8_t *end = memchr(child->buffer + used, '\n', child->held - used);
        if (end == NULL) {
            break;
        }
        const size_t length = (size_t)(end - (child->buffer + used));
        char word[64] = "";
        memcpy(word, child->buffer + used, length < sizeof(word) - 1 ? length : sizeof(word) - 1);
        char *space = NULL;
        char *stop = NULL;
        const weir_lsn lsn = strtoull(word, &space, 10);
        const uint64_t line = *space == ' ' ? strtoull(space + 1, &stop, 10) : 0;
        if (stop == NULL || stop == space + 1 || *stop != '\0' || line >= feeding->line) {
            ledger_fault(&lives->ledger,
                         &lives->ledger.counts.phantom,
                         "acknowledged: \"%s\": no line that was given",
                         word);
        } else {
            ledger_acknowledge(&lives->ledger,
                               lsn,
                               script_line_id(&lives->script, feeding->number, line));
            count++;
        }
        used += length + 1;
    }
    spawn_drop(child, used);
    lives->ledger.counts.acknowledged += count;
    if (count > 0 && feeding->first_ack_ns == 0) {
        feeding->first_ack_ns = clock_now_ns();
        lives_opened(lives, feeding->first_ack_ns - feeding->started_ns);
    }
    feeding->heard += count;
    return count;
}

static void line_next(struct lives *lives, struct feeding *feeding)
{
    const struct record_id id = script_line_id(&lives->script, feeding->number, feeding->line);

    feeding->count = script_bytes(&lives->script, id);
    script_fill(&lives->script, id, feeding->bytes);
    feeding->bytes[feeding->count] = '\n';
    feeding->count++;
    feeding->done = 0;
    feeding->line++;
}

static void input_end(struct feeding *feeding)
{
    close(feeding->child.input_fd);
    feeding->child.input_fd = -1;
    feeding->ended_ns = clock_now_ns();
}

/* Writes what the child takes now. Return: whether anything moved. */
static bool input_feed(struct lives *lives, struct feeding *feeding)
{
    bool moved = false;

    for (int i = 0; i < 64 && feeding->child.input_fd >= 0; i++) {
        if (feeding->done == feeding->count) {
            if (feeding->line >= feeding->line_limit) {
                input_end(feeding);
                return true;
            }
            line_next(lives, feeding);
        }
        const ssize_t written = write(feeding->child.input_fd,
                                      feeding->bytes + feeding->done,
                                      feeding->count - feeding->done);
        if (written < 0 && errno == EAGAIN) {
            break;
        }
        if (written < 0) {
            input_end(feeding); /* it is gone: its end says why */
            break;
        }
        feeding->done += (size_t)written;
        moved = true;
    }
    return moved;
}

static bool moment_come(const struct feeding *feeding, uint64_t now_ns)
{
    switch (feeding->moment) {
    case MOMENT_AFTER_GO:
        return now_ns - feeding->started_ns >= feeding->moment_value;
    case MOMENT_AFTER_OPEN:
        return feeding->first_ack_ns != 0 &&
               now_ns - feeding->first_ack_ns >= feeding->moment_value;
    case MOMENT_AFTER_ACKS:
        return feeding->heard >= feeding->moment_value;
    case MOMENT_AFTER_BUDGET:
        return feeding->ended_ns != 0 && now_ns - feeding->ended_ns >= feeding->moment_value;
    }
    return true;
}

static bool feeding_await(struct lives *lives, struct feeding *feeding)
{
    struct patience patience;

    patience_renew(&patience);
    while (!stop_asked()) {
        const uint64_t now_ns = clock_now_ns();
        if (moment_come(feeding, now_ns) || feeding->child.acks_fd < 0) {
            return true;
        }
        if (patience_lost(&patience, lives_standstill_ns(lives))) {
            lives_fault(lives,
                        "life %" PRIu32 " (process %d) stands still: nothing for %.1f s",
                        feeding->number,
                        (int)feeding->child.pid,
                        (double)lives_standstill_ns(lives) / 1e9);
            return false;
        }
        struct pollfd polled[2] = {{.fd = feeding->child.acks_fd, .events = POLLIN},
                                   {.fd = feeding->child.input_fd, .events = POLLOUT}};
        const struct timespec slice = {.tv_nsec = (long)CLOCK_NS_PER_MS / 2};
        ppoll(polled, 2, &slice, NULL);
        spawn_hear(&feeding->child, 0);
        const bool heard = acks_take(lives, feeding) > 0;
        const bool fed = input_feed(lives, feeding);
        if (heard || fed) {
            patience_renew(&patience);
        }
    }
    return true;
}

static void errors_print(int fd)
{
    char words[ERRORS_MAX];
    const ssize_t count = pread(fd, words, sizeof(words) - 1, 0);

    words[count > 0 ? count : 0] = '\0';
    fprintf(stderr, "it said:\n%s\n", words);
}

static bool feeding_end(struct lives *lives, struct feeding *feeding)
{
    struct spawn *child = &feeding->child;
    uint64_t submitted[SCRIPT_PRODUCERS_MAX];

    while (spawn_hear(child, UINT64_MAX)) {
        acks_take(lives, feeding);
    }
    acks_take(lives, feeding);
    const int status = spawn_reap(child);
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    const bool done = WIFEXITED(status) && WEXITSTATUS(status) == 0 && feeding->ended_ns != 0;
    lives->ended[done                         ? WIRE_CLOSED
                 : feeding->first_ack_ns == 0 ? WIRE_OPENING
                 : feeding->ended_ns != 0     ? WIRE_CLOSING
                                              : WIRE_APPENDING]++;
    for (uint32_t i = 0; i < lives->script.producers; i++) {
        /* Lines below feeding->line, of which the last may not have been written in full. */
        submitted[i] = feeding->line / lives->script.producers +
                       (i < feeding->line % lives->script.producers ? 1 : 0);
    }
    ledger_submitted(&lives->ledger, feeding->number, submitted);
    const bool good = killed || done || stop_asked();
    if (!good) {
        fprintf(stderr,
                "FAULT: life %" PRIu32 ": weir ingest ended with %s %d\n",
                feeding->number,
                WIFEXITED(status) ? "status" : "signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        errors_print(feeding->errors_fd);
    }
    close(feeding->errors_fd);
    spawn_clear(child);
    return good;
}

/* Gives up three quarters of the records of a log that has become long. */
static bool log_trim(struct lives *lives, const char *weir)
{
    struct ledger *ledger = &lives->ledger;
    char program[4200];
    char log_word[4200];
    char lsn_word[24];

    if (ledger->need_count < 8 ||
        ledger->needs[ledger->need_count - 1].lsn - ledger->needs[0].lsn < TRIM_ABOVE_BYTES) {
        return true;
    }
    const weir_lsn lsn = ledger->needs[ledger->need_count * 3 / 4].lsn;
    snprintf(program, sizeof(program), "%s", weir);
    snprintf(log_word, sizeof(log_word), "%s", lives->log_dir);
    snprintf(lsn_word, sizeof(lsn_word), "%" PRIu64, lsn);
    char *argv[] = {program, (char[]){"trim"}, log_word, (char[]){"--before"}, lsn_word, NULL};
    ledger->trim_asked = lsn;
    const int status = spawn_run(argv, false);
    if (status != 0) {
        fprintf(stderr,
                "FAULT: weir trim --before %" PRIu64 " ended with status %d\n",
                lsn,
                status);
        return false;
    }
    ledger->trim_done = lsn;
    return true;
}

bool kill_ingest_rounds(struct run *run, const char *weir, uint64_t check_every)
{
    struct lives *lives = &run->lives;
    static struct feeding places[2];
    struct feeding *now = &places[0];
    struct feeding *next = &places[1];
    struct weir_report report;
    struct progress progress;

    lives->open_what = "first acknowledged";
    places[0].child = places[1].child = (struct spawn)SPAWN_NONE;
    places[0].bytes = malloc(SCRIPT_BYTES_MAX + 128);
    places[1].bytes = malloc(SCRIPT_BYTES_MAX + 128);
    progress_begin(&progress, "kill");
    bool good =
        places[0].bytes != NULL && places[1].bytes != NULL && feeding_start(lives, now, weir);
    for (uint64_t round = 1; good; round++) {
        const bool last = !run_goes_on(run, round + 1);
        const bool check = round % check_every == 0 || last;
        const bool at_once = !check && dice_below(&lives->dice, 2) == 0;
        good = feeding_await(lives, now);
        spawn_kill(&now->child);
        if (at_once) {
            good = good && feeding_start(lives, next, weir);
        }
        good = feeding_end(lives, now) && good;
        if (check) {
            good = good && ledger_check(&lives->ledger, lives->log_dir, &report);
            good = good && log_trim(lives, weir);
            if (last) {
                break;
            }
        }
        if (!at_once) {
            good = good && feeding_start(lives, next, weir);
        }
        good = good && ledger_faults(&lives->ledger) == 0;
        struct feeding *swap = now;
        now = next;
        next = swap;
        run_note(run, &progress, round);
    }
    for (int i = 0; i < 2; i++) {
        spawn_clear(&places[i].child);
        free(places[i].bytes);
    }
    progress_end(&progress);
    return good;
}
