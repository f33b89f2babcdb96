/* SPDX-License-Identifier: Apache-2.0
 * weir_open: the handle, the directory, the lock, then the steps of open.h; and taking down what an
 * opening had set up. The calling thread. */
#include "api/open.h"
#include "port/clock.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int weir__log_same_process(const struct weir_log *log)
{
    return log->pid == getpid() ? 0 : WEIR_EFORKED;
}

static int open_for_append(struct weir_log *log, struct weir__fault *fault)
{
    struct weir__control_found found;
    struct weir__opened opened = {.ready.file = -1};
    int code = weir__dir_lock(&log->dir, log->options.lock_timeout_ns, fault);

    if (code == 0) {
        weir__dir_live_forget(&log->dir);
        code = weir__catalog_load(&log->catalog, &log->dir, fault);
    }
    if (code == 0) {
        code = weir__scan_control(&log->dir, &log->catalog, &found, fault);
        if (code == WEIR_ENOLOG && !log->options.must_exist) {
            *fault = WEIR__FAULT_NONE;
            code = weir__open_create(log, &opened, fault);
        } else if (code == 0) {
            code = weir__open_recover(log, &found, &opened, fault);
        }
    }
    if (code == 0) {
        code = weir__open_start(log, &opened, fault);
    }
    if (opened.ready.file >= 0) {
        log->dir.io->ops->close(log->dir.io, opened.ready.file);
    }
    return code;
}

void weir__log_teardown(struct weir_log *log)
{
    /* The flusher may be running if a later step of opening failed; nobody else is inside. */
    if (log->flusher.started) {
        weir__stage_shut(&log->stage);
        weir__stage_wait_drained(&log->stage, WEIR__NEVER);
    }
    if (log->keeper.config.dir) {
        weir__keeper_stop(&log->keeper);
    }
    weir__flusher_join(&log->flusher);
    log->dir.writes_unknown = log->stage.keep_buffers;
    weir__stage_exit(&log->stage);
    weir__control_close(&log->control);
    weir__catalog_exit(&log->catalog);
    weir__dir_live_end(&log->dir);
    weir__dir_close(&log->dir);
    pthread_mutex_destroy(&log->refresh_mutex);
    pthread_mutex_destroy(&log->pin_mutex);
    weir__mem_free_fork_mark(&log->mem, log->fork_mark);
    struct weir__mem mem;
    memcpy(&mem, &log->mem, sizeof mem);
    weir__mem_free(&mem, log, sizeof *log);
    weir__mem_exit(&mem);
}

static struct weir_log *log_new(const struct weir_options *options, struct weir__io *io)
{
    struct weir__mem mem;
    struct weir__mem_hooks hooks;

    if (options->memory) {
        hooks = (struct weir__mem_hooks){options->memory->alloc,
                                         options->memory->release,
                                         options->memory->ctx};
    }
    weir__mem_init(&mem, options->memory ? &hooks : NULL);
    mem.no_huge_pages = options->no_huge_pages;
    struct weir_log *log = weir__mem_alloc(&mem, sizeof *log, WEIR__LINE);
    if (!log) {
        weir__mem_exit(&mem);
        return NULL;
    }
    log->mem = mem;
    log->options = *options;
    log->options.memory = NULL; /* copied into the seam */
    log->pid = getpid();
    log->dir.io = io;
    log->dir.file = log->dir.lock_file = log->dir.live_file = -1;
    log->control.file = -1;
    log->report.bad_lsn = log->report.evidence_lsn = UINT64_MAX;
    log->report.error.offset = log->report.error.lsn = UINT64_MAX;
    for (unsigned i = 0; i < WEIR__PINS_MAX; i++) {
        weir__store(&log->pins[i], WEIR__PIN_FREE, relaxed);
    }
    pthread_mutex_init(&log->refresh_mutex, NULL);
    pthread_mutex_init(&log->pin_mutex, NULL);
    log->fork_mark = weir__mem_alloc_fork_mark(&log->mem);
    return log;
}

int weir__open_with(struct weir__io *io,
                    const char *dir,
                    const struct weir_options *options,
                    struct weir_log **log_out,
                    struct weir_error *error_out)
{
    struct weir__fault fault = WEIR__FAULT_NONE;
    struct weir_options checked;
    int code = dir && log_out ? weir__options_check(options, &checked, &fault) : -EINVAL;

    if (error_out) {
        memset(error_out, 0, sizeof *error_out);
    }
    struct weir_log *log = NULL;
    if (code == 0) {
        log = log_new(&checked, io);
        code = log ? 0
                   : weir__fault_set(&fault,
                                     -ENOMEM,
                                     "",
                                     UINT64_MAX,
                                     UINT64_MAX,
                                     "no memory for the handle");
    }
    if (code == 0) {
        code = weir__catalog_init(&log->catalog, &log->mem);
    }
    if (code == 0) {
        bool make = !checked.read_only && !checked.must_exist;
        const bool direct = !checked.buffered;
        code = checked.read_only
                   ? weir__dir_look(&log->dir, io, &log->mem, dir, direct, &fault)
                   : weir__dir_open(&log->dir, io, &log->mem, dir, make, direct, &fault);
        if (code == -ENOENT && !make) {
            fault = WEIR__FAULT_NONE;
            code = weir__fault_set(&fault,
                                   WEIR_ENOLOG,
                                   "",
                                   UINT64_MAX,
                                   UINT64_MAX,
                                   "there is no such directory");
        }
    }
    if (code == 0) {
        code = checked.read_only ? weir__readonly_load(log, &fault) : open_for_append(log, &fault);
    }
    if (code != 0) {
        if (fault.code == 0) {
            weir__fault_set(&fault, code, "", UINT64_MAX, UINT64_MAX, "%s", weir__code_text(code));
        }
        if (error_out) {
            weir__error_from_fault(&fault, error_out);
        }
        if (log) {
            weir__log_teardown(log);
        }
        return code;
    }
    log->options.on_progress = NULL; /* for the opening only */
    *log_out = log;
    return 0;
}

int weir_open(const char *dir,
              const struct weir_options *options,
              struct weir_log **log_out,
              struct weir_error *error_out)
{
    return weir__open_with(weir__io_system(), dir, options, log_out, error_out);
}
