/* SPDX-License-Identifier: Apache-2.0
 * The frame of a run. */
#include "run.h"

#include "clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

static void seed_draw(struct lives_options *options)
{
    if (options->seed_given) {
        return;
    }
    if (getrandom(&options->seed, sizeof(options->seed), 0) != (ssize_t)sizeof(options->seed)) {
        options->seed = clock_now_ns();
    }
    options->seed >>= 16; /* easier to type */
}

int run_open(struct run *run,
             const char *verb,
             struct lives_options *options,
             const char *fs,
             uint64_t fs_bytes)
{
    run->verb = verb;
    run->options = options;
    run->on_disk = fs != NULL;
    seed_draw(options);
    stop_install();
    int rc = scratch_open(&run->scratch, options->dir);
    if (rc != 0) {
        fprintf(stderr,
                "weir-stress %s: %s: %s\n",
                verb,
                options->dir != NULL ? options->dir : "temporary directory",
                weir_strerror(rc));
        return STATUS_FAILED;
    }
    if (run->on_disk) {
        rc = disk_make(&run->disk, run->scratch.path, fs, fs_bytes);
        if (rc == 0) {
            rc = disk_mount(&run->disk);
        }
        if (rc != 0) {
            printf("skipped: no file system of our own here: %s\n", run->disk.why);
            disk_remove(&run->disk, false);
            scratch_remove(&run->scratch);
            return STATUS_SKIPPED;
        }
    }
    const char *place = run->on_disk ? run->disk.mount_point : run->scratch.path;
    snprintf(run->log_dir, sizeof(run->log_dir), "%s/log", place);
    const int status = lives_open(&run->lives, verb, options, place, run->log_dir);
    if (status != 0) {
        if (run->on_disk) {
            disk_remove(&run->disk, false);
        }
        scratch_remove(&run->scratch);
        return status;
    }
    if (run->on_disk) {
        printf("seed %" PRIu64 ", %s on %s%s, image %s\n",
               options->seed,
               fs,
               run->disk.device,
               run->disk.direct ? " with direct I/O" : "",
               run->disk.image);
    } else {
        printf("seed %" PRIu64 ", directory %s\n", options->seed, run->scratch.path);
    }
    run->begin_ns = clock_now_ns();
    return ARGS_RUN;
}

int run_begin(struct run *run,
              const struct verb_text *text,
              const struct option_row *rows,
              int argc,
              char **argv,
              struct lives_options *options,
              const struct run_fs *fs)
{
    const int status = args_only(text, rows, argc, argv);

    if (status != ARGS_RUN) {
        return status;
    }
    return run_open(run,
                    text->name,
                    options,
                    fs != NULL ? fs->words[*fs->chosen] : NULL,
                    fs != NULL && fs->bytes != NULL ? fs->bytes[*fs->chosen] : 0);
}

bool run_goes_on(const struct run *run, uint64_t round)
{
    const struct lives_options *options = run->options;
    const uint64_t limit =
        options->for_ns != 0 && !options->rounds_given ? UINT64_MAX : options->rounds;

    return round <= limit && !stop_asked() &&
           (options->for_ns == 0 || clock_now_ns() - run->begin_ns < options->for_ns) &&
           run->lives.next_number < SCRIPT_LIVES_MAX - 4;
}

void run_note(struct run *run, struct progress *progress, uint64_t round)
{
    progress_show(progress, round, run->options->rounds);
    if (round % 100 == 0) {
        progress_end(progress);
        lives_line(&run->lives, round);
    }
}

int run_close(struct run *run, bool good, const char *more)
{
    good = good && lives_good(&run->lives);
    lives_print(&run->lives);
    if (stop_asked()) {
        printf("stopped by a signal\n");
    }
    printf("result                %s\n", good ? "nothing found" : "FAULTS FOUND");
    if (!good) {
        lives_rerun(&run->lives, stderr, more);
    }
    const bool keep = run->options->keep || (!good && !stop_asked());
    if (run->on_disk) {
        disk_remove(&run->disk, keep);
    }
    if (keep && run->on_disk) {
        fprintf(stderr, "left behind: %s (the log is in /log on it)\n", run->disk.image);
    } else if (keep) {
        fprintf(stderr, "left behind: %s\n", run->log_dir);
    } else {
        scratch_remove(&run->scratch);
    }
    lives_close(&run->lives);
    return good && !stop_asked() ? STATUS_OK : STATUS_FAILED;
}
