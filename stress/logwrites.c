/* SPDX-License-Identifier: Apache-2.0
 * weir-stress logwrites: crash states of a real file system, from a block device that wrote down
 * what was done to it.
 *
 * A recording: processes append to a log on a file system whose device keeps the order of all
 * writes and flushes (qsd.h), and are killed. Whenever acknowledgements were heard, this process
 * writes how many to a block of a file of its own: a mark in the record, behind everything that
 * made them durable, without a flush of its own.
 *
 * The crash states: everything up to a flush; and everything up to a flush, and of what came behind
 * it, up to a point before the next one, any part: each write whole, not at all, or some of its
 * pages. Each state is put into a file, mounted and checked: what the last mark before the crash
 * tells must be there. Every second one is opened by a process that recovers, appends and closes,
 * and checked again. */
#include "clock.h"
#include "progress.h"
#include "qsd.h"
#include "run.h"
#include "verbs.h"
#include "write_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PAGE_BYTES = 4096,
    SECTOR_BYTES = 512,
    RECORDED_LIVES = 3,
    LIFE_MS_MAX = 120,
    STATE_GROUPS = 8, /* of each producer, behind a recovery */
};

static const struct verb_text text = {
    .name = "logwrites",
    .usage = "[OPTION]...",
    .about =
        "Records every write and flush of a block device while processes append to a log on a file "
        "system on it, and\n"
        "builds crash states from the record: everything up to each flush, and random parts of "
        "what came behind it. Each\n"
        "state is mounted and checked: every record that was acknowledged before must be there. "
        "Every second one is\n"
        "recovered, appended to and checked again. Needs root, a loop device, mkfs and "
        "qemu-storage-daemon with FUSE;\n"
        "where one is missing, it says so and exits 77.\n",
    .exits = ARGS_EXITS,
    .example = "  weir-stress logwrites --rounds 10\n"
               "  weir-stress logwrites --fs xfs --states 0 --subsets 10 --for 1h\n",
};

static const char *const fs_words[] = {"ext4", "xfs", NULL};

#define MARK_MAGIC UINT64_C(0x6b72616d72696577)

struct mark {
    uint64_t magic;
    uint64_t seed;
    uint64_t acks; /* heard before it was written */
    uint64_t trim_done;
    uint64_t made; /* the log was open once */
    uint64_t check;
};

struct place {
    size_t entry; /* in the record */
    struct mark mark;
};

struct logwrites {
    struct run run;
    uint64_t subsets;
    uint64_t states_max;
    char dir[4300]; /* a file system in memory: nothing here has to survive this process */
    char base[4400];
    char before[4400];
    char log[4400];
    char shown[4200];
    struct qsd qsd;
    int mark_fd;
    uint8_t *mark_page;
    /* The recording. */
    struct write_log record;
    struct place *places;
    size_t place_count;
    struct ledger_need *needs; /* in the order in which they were heard */
    size_t need_count;
    uint64_t (*submitted)[SCRIPT_PRODUCERS_MAX];
    uint32_t first_life;
    uint32_t life_count;
    weir_lsn trim_asked;
    /* The figures. */
    uint64_t recordings;
    uint64_t entries;
    uint64_t flushes;
    uint64_t marks;
    uint64_t prefixes;
    uint64_t parts;
    uint64_t recoveries;
};

static bool broken(struct logwrites *logwrites, const char *what, int rc)
{
    lives_fault(&logwrites->run.lives, "%s: %s", what, strerror(-rc));
    return false;
}

/* ---- recording ------------------------------------------------------------------------------- */

static uint64_t mark_check(const struct mark *mark)
{
    return dice_mix(mark->seed ^ dice_mix(mark->acks ^ dice_mix(mark->trim_done ^ mark->made)));
}

static bool mark_write(struct logwrites *logwrites, const struct life *life)
{
    struct lives *lives = &logwrites->run.lives;
    struct mark mark = {.magic = MARK_MAGIC,
                        .seed = lives->options->seed,
                        .acks = lives->ledger.need_count,
                        .trim_done = wire_get(&life->child.page->trim_done),
                        .made =
                            lives->ledger.made || wire_phase(life->child.page) >= WIRE_APPENDING};

    if (mark.trim_done < lives->ledger.trim_done) {
        mark.trim_done = lives->ledger.trim_done;
    }
    mark.check = mark_check(&mark);
    memcpy(logwrites->mark_page, &mark, sizeof(mark));
    const ssize_t put = pwrite(logwrites->mark_fd, logwrites->mark_page, PAGE_BYTES, 0);
    return put == PAGE_BYTES || broken(logwrites, "mark", put < 0 ? -errno : -EIO);
}

static bool mark_open(struct logwrites *logwrites)
{
    char path[4400];

    snprintf(path, sizeof(path), "%s/mark", logwrites->run.disk.mount_point);
    logwrites->mark_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT, 0600);
    memset(logwrites->mark_page, 0, PAGE_BYTES);
    if (logwrites->mark_fd < 0 ||
        pwrite(logwrites->mark_fd, logwrites->mark_page, PAGE_BYTES, 0) != PAGE_BYTES ||
        fsync(logwrites->mark_fd) != 0) {
        return broken(logwrites, path, -errno);
    }
    return true;
}

static bool life_record(struct logwrites *logwrites)
{
    static struct life life;
    struct lives *lives = &logwrites->run.lives;
    const uint64_t span_ns = dice_below(&lives->dice, LIFE_MS_MAX * CLOCK_NS_PER_MS);
    bool good = life_start(lives, &life);

    if (!good) {
        return false;
    }
    life_go(&life);
    good = life_await_open(lives, &life);
    const uint64_t begin_ns = clock_now_ns();
    while (good && life.child.acks_fd >= 0 && !stop_asked() &&
           clock_now_ns() - begin_ns < span_ns) {
        if (life_hear(lives, &life, CLOCK_NS_PER_MS / 2) > 0) {
            good = mark_write(logwrites, &life);
        }
    }
    life.phase = wire_phase(life.child.page);
    life_kill(&life);
    good = life_end(lives, &life, false) && good;
    return good;
}

/* Takes over what the ledger has learnt: behind this it is a scratch ledger for states. */
static bool recording_keep(struct logwrites *logwrites)
{
    struct lives *lives = &logwrites->run.lives;
    struct ledger *ledger = &lives->ledger;

    logwrites->life_count = lives->next_number - logwrites->first_life;
    logwrites->needs = ledger->needs;
    logwrites->need_count = ledger->need_count;
    ledger->needs = NULL;
    ledger->need_count = ledger->need_room = 0;
    logwrites->trim_asked = ledger->trim_asked;
    logwrites->submitted = calloc(logwrites->life_count, sizeof(*logwrites->submitted));
    if (logwrites->submitted == NULL) {
        return broken(logwrites, "recording", -ENOMEM);
    }
    for (uint32_t i = 0; i < logwrites->life_count; i++) {
        const struct ledger_life *life = &ledger->lives[logwrites->first_life + i];
        memcpy(logwrites->submitted[i],
               life->submitted,
               lives->script.producers * sizeof(uint64_t));
    }
    return true;
}

/* The marks, by their place in the record. */
static bool places_find(struct logwrites *logwrites)
{
    const struct write_log *record = &logwrites->record;
    const uint64_t seed = logwrites->run.options->seed;
    size_t room = 0;

    logwrites->place_count = 0;
    for (size_t i = 0; i < record->count; i++) {
        const struct write_entry *entry = &record->entries[i];
        /* By sectors: a small file system's blocks are smaller than a page. */
        for (uint64_t at = 0; entry->data != NULL && at + SECTOR_BYTES <= entry->bytes;
             at += SECTOR_BYTES) {
            struct mark mark;
            memcpy(&mark, entry->data + at, sizeof(mark));
            if (mark.magic != MARK_MAGIC || mark.seed != seed || mark.check != mark_check(&mark)) {
                continue;
            }
            if (logwrites->place_count == room) {
                room = room == 0 ? 256 : 2 * room;
                struct place *more = realloc(logwrites->places, room * sizeof(*more));
                if (more == NULL) {
                    return broken(logwrites, "marks", -ENOMEM);
                }
                logwrites->places = more;
            }
            logwrites->places[logwrites->place_count++] = (struct place){.entry = i, .mark = mark};
        }
    }
    return true;
}

static int file_copy(const char *from, const char *to)
{
    struct image image;
    int rc = image_open(&image, from);

    if (rc == 0) {
        const int fd = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        rc = fd < 0 ? -errno : image_put(&image, fd);
        if (fd >= 0) {
            close(fd);
        }
        image_close(&image);
    }
    return rc;
}

/* Return: 1 done, 0 after a message, -1 not possible here: said. */
static int recording_make(struct logwrites *logwrites)
{
    struct lives *lives = &logwrites->run.lives;
    struct disk *disk = &logwrites->run.disk;
    char image[sizeof(disk->image)];
    int rc = file_copy(logwrites->before, logwrites->base);

    if (rc != 0) {
        return broken(logwrites, logwrites->base, rc);
    }
    rc = qsd_start(&logwrites->qsd, logwrites->base, logwrites->log, logwrites->shown);
    if (rc != 0) {
        printf("skipped: no recorded block device here: %s\n", logwrites->qsd.why);
        return -1;
    }
    memcpy(image, disk->image, sizeof(image));
    memcpy(disk->image, logwrites->shown, sizeof(logwrites->shown));
    /* Direct I/O on a file that QEMU 7.2 shows through FUSE brings back other bytes than were
     * written. Through the page cache a flush writes everything down that is dirty, marks too. */
    disk->cached = true;
    bool good = disk_mount(disk) == 0;
    if (!good) {
        fprintf(stderr, "weir-stress logwrites: %s\n", disk->why);
    }
    good = good && ledger_restart(&lives->ledger) && mark_open(logwrites);
    logwrites->first_life = lives->next_number;
    for (int i = 0; good && i < RECORDED_LIVES && !stop_asked(); i++) {
        good = life_record(logwrites);
    }
    if (logwrites->mark_fd >= 0) {
        close(logwrites->mark_fd);
        logwrites->mark_fd = -1;
    }
    good = disk_unmount(disk) == 0 && good;
    good = qsd_stop(&logwrites->qsd) == 0 && good;
    memcpy(disk->image, image, sizeof(image));
    disk->cached = false;
    if (!good) {
        lives->failed = lives->failed || !stop_asked();
        return 0;
    }
    rc = write_log_open(&logwrites->record, logwrites->log);
    if (rc != 0) {
        return broken(logwrites, logwrites->log, rc);
    }
    return places_find(logwrites) && recording_keep(logwrites) ? 1 : 0;
}

static void recording_forget(struct logwrites *logwrites)
{
    write_log_close(&logwrites->record);
    free(logwrites->needs);
    free(logwrites->submitted);
    logwrites->needs = NULL;
    logwrites->submitted = NULL;
}

/* ---- states ---------------------------------------------------------------------------------- */

/* The ledger as it was when the last mark before `crash` was written. Return: false after a
 * message. */
static bool ledger_at(struct logwrites *logwrites, size_t crash)
{
    struct lives *lives = &logwrites->run.lives;
    struct ledger *ledger = &lives->ledger;
    const struct mark *mark = NULL;

    for (size_t i = 0; i < logwrites->place_count && logwrites->places[i].entry < crash; i++) {
        mark = &logwrites->places[i].mark;
    }
    if (!ledger_restart(ledger)) {
        return broken(logwrites, "ledger", -ENOMEM);
    }
    for (uint32_t i = 0; i < logwrites->life_count; i++) {
        ledger_submitted(ledger, logwrites->first_life + i, logwrites->submitted[i]);
    }
    ledger->trim_asked = logwrites->trim_asked;
    if (mark == NULL) {
        return true;
    }
    ledger->trim_done = mark->trim_done;
    ledger->made = mark->made != 0;
    for (size_t i = 0; i < mark->acks && i < logwrites->need_count; i++) {
        ledger_acknowledge(ledger, logwrites->needs[i].lsn, logwrites->needs[i].id);
    }
    return true;
}

/* Recovers the mounted state, appends, closes. Return: false after a message. */
static bool state_recover(struct logwrites *logwrites)
{
    static struct life life;
    struct lives *lives = &logwrites->run.lives;
    struct weir_report report;

    lives->budget = STATE_GROUPS;
    bool good = life_start(lives, &life);
    lives->budget = 0;
    if (!good) {
        return false;
    }
    life_go(&life);
    good = life_await_end(lives, &life);
    good = life_end(lives, &life, false) && good;
    logwrites->recoveries += good;
    return good && (stop_asked() || ledger_check(&lives->ledger, lives->log_dir, &report));
}

/* crash: the first entry that is not in the state. */
static bool state_check(struct logwrites *logwrites, const struct image *image, size_t crash)
{
    struct lives *lives = &logwrites->run.lives;
    struct disk *disk = &logwrites->run.disk;
    struct weir_report report;
    char image_path[sizeof(disk->image)];
    const int fd = memfd_create("weir-state", MFD_CLOEXEC);

    if (fd < 0) {
        return broken(logwrites, "state", -errno);
    }
    const int put = image_put(image, fd);
    memcpy(image_path, disk->image, sizeof(image_path));
    snprintf(disk->image, sizeof(disk->image), "/proc/self/fd/%d", fd);
    bool good = put == 0 || broken(logwrites, "state", put);
    if (good && disk_mount(disk) != 0) {
        lives_fault(lives, "a crash state cannot be mounted: %s", disk->why);
        good = false;
    }
    good = good && ledger_at(logwrites, crash);
    good = good && ledger_check(&lives->ledger, lives->log_dir, &report);
    const uint64_t states = logwrites->prefixes + logwrites->parts;
    if (good && states % 2 == 0) {
        good = state_recover(logwrites);
    }
    if (!good && !stop_asked()) {
        fprintf(stderr,
                "in the state before entry %zu of %zu of recording %" PRIu64 "\n",
                crash,
                logwrites->record.count,
                logwrites->recordings + 1);
    }
    if (disk_unmount(disk) != 0) {
        fprintf(stderr, "weir-stress logwrites: %s\n", disk->why);
        good = false;
    }
    memcpy(disk->image, image_path, sizeof(image_path));
    close(fd);
    return good;
}

/* Random parts of what lies between a flush and the next one. */
static bool parts_check(struct logwrites *logwrites, const struct image *image, size_t from)
{
    struct dice *dice = &logwrites->run.lives.dice;
    const struct write_log *record = &logwrites->record;
    size_t next = from;

    while (next < record->count && (record->entries[next].flags & WRITE_LOG_FLUSH) == 0) {
        next++;
    }
    if (next == from) {
        return true;
    }
    bool good = true;
    for (uint64_t i = 0; good && i < logwrites->subsets && !stop_asked(); i++) {
        struct image part;
        const size_t crash = from + 1 + (size_t)dice_below(dice, next - from);
        const int rc = image_copy(&part, image);
        if (rc != 0) {
            return broken(logwrites, "state", rc);
        }
        for (size_t at = from; at < crash; at++) {
            image_apply(&part, &record->entries[at], dice);
        }
        good = state_check(logwrites, &part, crash);
        logwrites->parts += good;
        image_close(&part);
    }
    return good;
}

static bool states_check(struct logwrites *logwrites)
{
    struct dice *dice = &logwrites->run.lives.dice;
    const struct write_log *record = &logwrites->record;
    const uint64_t wanted = 1 + logwrites->states_max / (1 + logwrites->subsets);
    const uint64_t phase = 1 + dice_below(dice, record->flushes);
    struct image image;
    struct progress progress;
    uint64_t flushes = 0;
    int rc = image_open(&image, logwrites->before);

    if (rc != 0) {
        return broken(logwrites, logwrites->before, rc);
    }
    bool good = true;
    progress_begin(&progress, "states");
    for (size_t i = 0; good && i < record->count && !stop_asked(); i++) {
        image_apply(&image, &record->entries[i], NULL);
        if ((record->entries[i].flags & WRITE_LOG_FLUSH) == 0) {
            continue;
        }
        flushes++;
        /* Where not all are asked for, evenly over the record, from a random one on. */
        if (logwrites->states_max != 0 && wanted < record->flushes &&
            (flushes + phase) * wanted / record->flushes ==
                (flushes + phase - 1) * wanted / record->flushes) {
            continue;
        }
        good = state_check(logwrites, &image, i + 1);
        logwrites->prefixes += good;
        good = good && parts_check(logwrites, &image, i + 1);
        progress_show(&progress, flushes, record->flushes);
    }
    progress_end(&progress);
    image_close(&image);
    return good;
}

/* ---- the run --------------------------------------------------------------------------------- */

/* A directory in memory, in the mount namespace that disk_make has made. */
static bool memory_make(struct logwrites *logwrites)
{
    struct run *run = &logwrites->run;

    snprintf(logwrites->dir, sizeof(logwrites->dir), "%s/memory", run->scratch.path);
    snprintf(logwrites->base, sizeof(logwrites->base), "%s/base", logwrites->dir);
    snprintf(logwrites->before, sizeof(logwrites->before), "%s/before", logwrites->dir);
    snprintf(logwrites->log, sizeof(logwrites->log), "%s/log", logwrites->dir);
    snprintf(logwrites->shown, sizeof(logwrites->shown), "%.4100s/shown", logwrites->dir);
    if (mkdir(logwrites->dir, 0700) != 0 ||
        mount("none", logwrites->dir, "tmpfs", MS_NOATIME, "mode=0700,size=75%") != 0) {
        return broken(logwrites, logwrites->dir, -errno);
    }
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    logwrites->mark_page = page == MAP_FAILED ? NULL : page;
    logwrites->mark_fd = -1;
    if (logwrites->mark_page == NULL || disk_unmount(&run->disk) != 0) {
        return broken(logwrites, run->disk.why, -ENOMEM);
    }
    const int rc = file_copy(run->disk.image, logwrites->before);
    return rc == 0 || broken(logwrites, logwrites->before, rc);
}

static void memory_remove(struct logwrites *logwrites)
{
    qsd_stop(&logwrites->qsd);
    if (logwrites->mark_page != NULL) {
        munmap(logwrites->mark_page, PAGE_BYTES);
    }
    free(logwrites->places);
    umount2(logwrites->dir, MNT_DETACH);
    rmdir(logwrites->dir);
}

int logwrites_main(int argc, char **argv)
{
    static struct logwrites logwrites = {.subsets = 3, .states_max = 200};
    struct lives_options options = LIVES_OPTIONS(5, 64 << 10);
    int fs = 0;
    const struct option_row rows[] = {
        LIVES_ROUNDS_ROW(options, "recordings (default 5)"),
        LIVES_FS_ROW(fs, fs_words, "ext4|xfs"),
        {.name = "states",
         .kind = OPTION_NUMBER,
         .target = &logwrites.states_max,
         .value = "N",
         .help = "crash states of each recording, about; 0: of every flush (default 200)"},
        {.name = "subsets",
         .kind = OPTION_NUMBER,
         .target = &logwrites.subsets,
         .value = "N",
         .help = "random parts behind each flush, besides the flush itself (default 3)"},
        LIVES_OPTION_ROWS(options),
        {.name = NULL},
    };
    char more[96];
    static const uint64_t fs_bytes[] = {96 << 20, 0};
    const struct run_fs on = {&fs, fs_words, fs_bytes};
    const int status = run_begin(&logwrites.run, &text, rows, argc, argv, &options, &on);

    if (status != ARGS_RUN) {
        return status;
    }
    struct lives *lives = &logwrites.run.lives;
    lives->own_moments = true;
    lives->only_durable = true;
    bool good = memory_make(&logwrites);
    bool skipped = false;
    for (uint64_t round = 1; good && run_goes_on(&logwrites.run, round); round++) {
        const int made = recording_make(&logwrites);
        skipped = made < 0;
        good = made > 0 && (stop_asked() || states_check(&logwrites));
        logwrites.recordings += made > 0;
        logwrites.entries += logwrites.record.count;
        logwrites.flushes += logwrites.record.flushes;
        logwrites.marks += logwrites.place_count;
        recording_forget(&logwrites);
        logwrites.place_count = 0;
        printf("recording %" PRIu64 ": %" PRIu64 " states so far, %" PRIu64 " faults\n",
               round,
               logwrites.prefixes + logwrites.parts,
               ledger_faults(&lives->ledger));
    }
    memory_remove(&logwrites);
    if (skipped) {
        lives_close(lives);
        disk_remove(&logwrites.run.disk, false);
        scratch_remove(&logwrites.run.scratch);
        return STATUS_SKIPPED;
    }
    printf("recordings            %" PRIu64 ", %" PRIu64 " writes and flushes, %" PRIu64
           " of them flushes, %" PRIu64 " marks\n",
           logwrites.recordings,
           logwrites.entries,
           logwrites.flushes,
           logwrites.marks);
    printf("crash states          %" PRIu64 " at flushes, %" PRIu64
           " with parts of what came behind\n",
           logwrites.prefixes,
           logwrites.parts);
    printf("recovered, appended   %" PRIu64 "\n", logwrites.recoveries);
    snprintf(more,
             sizeof(more),
             " --fs %s --states %" PRIu64 " --subsets %" PRIu64,
             fs_words[fs],
             logwrites.states_max,
             logwrites.subsets);
    return run_close(&logwrites.run, good, more);
}
