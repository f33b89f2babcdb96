/* SPDX-License-Identifier: Apache-2.0
 * weir doctor: probes a directory once, prints what was found, and behind it what is amiss and the
 * way out of it. */
#include "args.h"
#include "json.h"
#include "text.h"
#include "verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <weir/io.h>
#include <weir/weir.h>

enum {
    ADVICE_MAX = 12,
    ADVICE_BYTES = 512,
    FREE_BYTES_LOW = 1 << 30,
    MEMLOCK_BYTES_LOW = 8 << 20, /* what eight slots of the default size take when registered */
};

static const char *const backend_words[] = {
    [WEIR_IO_BACKEND_AUTO] = "auto",
    [WEIR_IO_BACKEND_URING] = "uring",
    [WEIR_IO_BACKEND_POSIX] = "posix",
};

/* What becomes of the default config of weir/io.h in this process. */
struct io_look {
    bool there; /* false: reason says why not */
    struct weir_io_effective effective;
    char reason[400];
};

struct advice {
    size_t count;
    char lines[ADVICE_MAX][ADVICE_BYTES];
};

__attribute__((format(printf, 2, 3))) static void
advice_add(struct advice *advice, const char *format, ...);

static void advice_io_uring(struct advice *advice, const struct weir_probe *probe)
{
    if (probe->io_uring) {
        return;
    }
    const char *way_out = "";
    if (probe->io_uring_code == -EPERM || probe->io_uring_code == -EACCES) {
        way_out =
            ". In a container, give it a seccomp profile that allows them (docker run "
            "--security-opt seccomp=FILE); on the host, look at sysctl kernel.io_uring_disabled";
    } else if (probe->io_uring_code == -ENOSYS) {
        way_out = ". Some seccomp profiles answer as if the kernel had none";
    } else if (probe->io_uring_code == -ENOMEM) {
        way_out = ". Raise the limit of locked memory (ulimit -l, LimitMEMLOCK= of systemd, "
                  "--ulimit memlock=-1 of docker run)";
    } else if (probe->io_uring_code == -EMFILE || probe->io_uring_code == -ENFILE) {
        way_out = ". Raise the limit of open files (ulimit -n)";
    }
    advice_add(
        advice,
        "no io_uring: %s%s. Until then batches are made durable with pwritev2, one at a time",
        probe->io_uring_reason,
        way_out);
}

static void advice_file_system(struct advice *advice, const struct weir_probe *probe)
{
    if (probe->network) {
        advice_add(advice,
                   "%s is a network file system: its locks and syncs are another machine's word. "
                   "Not supported for appending: use a local disk",
                   probe->fs_name);
    }
    if (probe->copy_on_write) {
        advice_add(advice,
                   "%s copies on write: a write into a prepared segment may still need new space, "
                   "and then fails the log instead of being refused in time. Use ext4 or xfs, or "
                   "turn copy-on-write off for the directory before the log is created (chattr +C "
                   "on btrfs)",
                   probe->fs_name);
    }
    if (!probe->direct) {
        advice_add(advice,
                   "%s does not take O_DIRECT: writes go through the page cache, which costs a "
                   "copy and memory",
                   probe->fs_name);
    }
    if (probe->free_bytes < FREE_BYTES_LOW) {
        advice_add(advice,
                   "only %s are free: segments are prepared ahead of need, 64 MiB each by default",
                   text_bytes(probe->free_bytes).chars);
    }
}

static void advice_collect(struct advice *advice, const struct weir_probe *probe)
{
    advice_io_uring(advice, probe);
    advice_file_system(advice, probe);
    if (probe->sync_implausible) {
        advice_add(advice,
                   "a durable write took %s: too fast for a device that keeps what it has "
                   "acknowledged. A cache in between may be lying (a virtual disk with "
                   "cache=unsafe, a controller without a battery, a RAM disk): records can be "
                   "lost at a power cut",
                   text_duration(probe->sync_ns_p50).chars);
    }
    if (probe->memlock_bytes < MEMLOCK_BYTES_LOW) {
        advice_add(advice,
                   "the limit of locked memory is %s: older kernels charge the ring's buffers to "
                   "it, which are then not registered. Raise it (ulimit -l, LimitMEMLOCK= of "
                   "systemd)",
                   text_bytes(probe->memlock_bytes).chars);
    }
    if (strcmp(probe->memory_source, "malloc") == 0) {
        advice_add(advice,
                   "jemalloc is not in this process: memory comes from malloc. Link the program "
                   "with -ljemalloc, or start it with LD_PRELOAD=libjemalloc.so.2, or give the "
                   "log memory hooks");
    }
}

static void advice_add(struct advice *advice, const char *format, ...)
{
    va_list list;

    if (advice->count == ADVICE_MAX) {
        return;
    }
    va_start(list, format);
    vsnprintf(advice->lines[advice->count], ADVICE_BYTES, format, list);
    va_end(list);
    advice->count++;
}

static void io_look(struct io_look *look)
{
    struct weir_error error = text_no_error();
    struct weir_io_queue *queue = NULL;

    look->there = weir_io_queue_open(NULL, &queue, &error) == 0;
    if (look->there) {
        weir_io_queue_effective(queue, &look->effective);
        weir_io_queue_close(queue);
    }
    snprintf(look->reason,
             sizeof(look->reason),
             "%s",
             look->there ? look->effective.reason : error.text);
}

static void io_print(const struct io_look *look, const struct weir_probe *probe)
{
    const struct weir_io_config *const config = &look->effective.config;

    printf("\nweir/io.h with its default config:\n");
    if (!look->there) {
        printf("  refused             %s\n", look->reason);
        return;
    }
    printf("  backend             %s\n", backend_words[config->backend]);
    printf("  sq_entries          %" PRIu32 "\n", config->sq_entries);
    printf("  cq_entries          %" PRIu32 "\n", look->effective.cq_entries);
    printf("  threads             %" PRIu32 "\n", look->effective.threads);
    printf("  kernel_poll         %s\n", text_bool(config->kernel_poll));
    printf("  sq_poll_idle_ms     %" PRIu32 "\n", config->sq_poll_idle_ms);
    printf("  max_inflight        %" PRIu32 "\n", config->max_inflight);
    printf("  direct_io           %s; files here %s\n",
           text_bool(config->direct_io),
           probe->direct ? "would take it" : "would not take it");
    printf("  registered_buffers  %" PRIu32 "\n", config->registered_buffers);
    printf("  buffer_bytes        %" PRIu32 "\n", config->buffer_bytes);
    printf("  refused             %s\n", look->reason[0] != '\0' ? look->reason : "nothing");
}

static void io_json(struct json *json, const struct io_look *look)
{
    const struct weir_io_config *const config = &look->effective.config;

    json_key(json, "io_config");
    json_begin(json, '{');
    if (look->there) {
        json_member_text(json, "backend", backend_words[config->backend]);
        json_member_u64(json, "sq_entries", config->sq_entries);
        json_member_u64(json, "cq_entries", look->effective.cq_entries);
        json_member_u64(json, "threads", look->effective.threads);
        json_member_bool(json, "kernel_poll", config->kernel_poll);
        json_member_u64(json, "sq_poll_idle_ms", config->sq_poll_idle_ms);
        json_member_u64(json, "max_inflight", config->max_inflight);
        json_member_bool(json, "direct_io", config->direct_io);
        json_member_u64(json, "registered_buffers", config->registered_buffers);
        json_member_u64(json, "buffer_bytes", config->buffer_bytes);
    }
    json_member_text(json, "refused", look->reason);
    json_end(json, '}');
}

static void probe_print(const char *dir, const struct weir_probe *probe)
{
    printf("library        %s\n", weir_version());
    printf("kernel         %s\n", probe->kernel);
    printf("directory      %s\n", dir);
    printf("io_uring       %s%s%s\n",
           text_bool(probe->io_uring),
           probe->io_uring_reason[0] != '\0' ? ": " : "",
           probe->io_uring_reason);
    printf("opcodes        %s\n",
           probe->io_uring_opcodes[0] != '\0' ? probe->io_uring_opcodes : "-");
    printf("file system    %s\n", probe->fs_name);
    printf("device         %s\n", probe->device_name[0] != '\0' ? probe->device_name : "unknown");
    printf("O_DIRECT       %s", text_bool(probe->direct));
    if (probe->direct) {
        printf(", aligned to %" PRIu32 " bytes", probe->direct_align);
    }
    printf("\ncopy-on-write  %s\n", text_bool(probe->copy_on_write));
    printf("network        %s\n", text_bool(probe->network));
    printf("write cache    %s\n",
           probe->write_cache < 0    ? "unknown"
           : probe->write_cache != 0 ? "volatile"
                                     : "none");
    printf("FUA            %s\n", text_tristate(probe->fua));
    printf("free           %s\n", text_bytes(probe->free_bytes).chars);
    printf("memlock        %s\n",
           probe->memlock_bytes == UINT64_MAX ? "unlimited"
                                              : text_bytes(probe->memlock_bytes).chars);
    printf("memory         %s\n", probe->memory_source);
    printf("crc32c         %s\n", probe->crc32c);
    printf("durable write  p50 %s, p99 %s (4 KiB)\n",
           text_duration(probe->sync_ns_p50).chars,
           text_duration(probe->sync_ns_p99).chars);
    if (probe->chain_ns_p50 != 0) {
        printf("linked chain   p50 %s\n", text_duration(probe->chain_ns_p50).chars);
    }
    printf("plausible      %s\n",
           probe->sync_implausible ? "no: acknowledgements look too fast to be durable" : "yes");
    /* Some reasons begin with the way itself. */
    const char *way = text_io(probe->io_auto);
    const bool named = strncmp(probe->io_auto_reason, way, strlen(way)) == 0;
    printf("auto           %s%s%s\n", named ? "" : way, named ? "" : ": ", probe->io_auto_reason);
    printf("policy         %s: waiting producers yield from %" PRIu32 " on, up to %" PRIu32
           " are collected; %" PRIu32 " cores\n",
           text_policy_words[probe->policy],
           probe->yield_from,
           probe->collect_max,
           probe->cores);
}

static void probe_json(const char *dir,
                       const struct weir_probe *probe,
                       const struct io_look *look,
                       const struct advice *advice)
{
    struct json json = JSON_INIT(stdout);

    json_begin(&json, '{');
    json_member_text(&json, "version", weir_version());
    json_member_text(&json, "dir", dir);
    json_member_text(&json, "kernel", probe->kernel);
    json_member_bool(&json, "io_uring", probe->io_uring);
    json_member_i64(&json, "io_uring_code", probe->io_uring_code);
    json_member_text(&json, "io_uring_reason", probe->io_uring_reason);
    json_member_text(&json, "io_uring_opcodes", probe->io_uring_opcodes);
    json_member_text(&json, "fs_name", probe->fs_name);
    json_member_text(&json, "device_name", probe->device_name);
    json_member_bool(&json, "direct", probe->direct);
    json_member_u64(&json, "direct_align", probe->direct_align);
    json_member_bool(&json, "copy_on_write", probe->copy_on_write);
    json_member_bool(&json, "network", probe->network);
    json_member_i64(&json, "fua", probe->fua);
    json_member_i64(&json, "write_cache", probe->write_cache);
    json_member_u64(&json, "free_bytes", probe->free_bytes);
    /* null: unlimited */
    json_member_lsn(&json, "memlock_bytes", probe->memlock_bytes);
    json_member_text(&json, "memory_source", probe->memory_source);
    json_member_text(&json, "crc32c", probe->crc32c);
    json_member_u64(&json, "sync_ns_p50", probe->sync_ns_p50);
    json_member_u64(&json, "sync_ns_p99", probe->sync_ns_p99);
    json_member_u64(&json, "chain_ns_p50", probe->chain_ns_p50);
    json_member_bool(&json, "sync_implausible", probe->sync_implausible);
    json_member_text(&json, "io_auto", text_io(probe->io_auto));
    json_member_text(&json, "io_auto_reason", probe->io_auto_reason);
    json_member_text(&json, "policy", text_policy_words[probe->policy]);
    json_member_u64(&json, "cores", probe->cores);
    json_member_u64(&json, "yield_from", probe->yield_from);
    json_member_u64(&json, "collect_max", probe->collect_max);
    io_json(&json, look);
    json_key(&json, "warnings");
    json_begin(&json, '[');
    for (size_t i = 0; i < advice->count; i++) {
        json_text(&json, advice->lines[i], strlen(advice->lines[i]));
    }
    json_end(&json, ']');
    json_end(&json, '}');
    json_line(&json);
}

static const struct verb_text text = {
    .name = "doctor",
    .summary = "say what this machine and a directory offer to a log",
    .operands = "[DIR]",
    .about =
        "Looks at the kernel, io_uring, the file system and the device under DIR (default: the\n"
        "current directory), measures durable writes, says what --io auto comes down to there\n"
        "and why, how producers wait by default, what becomes of the default config of\n"
        "weir/io.h, and warns of what stands in the way of speed or durability, with the way out.\n"
        "Writes a file of 1 MiB to DIR and removes it again.\n",
    .exits = "  0   looked, warnings or not\n"
             "  1   it failed: one line on standard error says what, and where\n"
             "  64  the command line is wrong\n",
    .example = "  weir doctor /var/lib/service\n"
               "  weir doctor --json | jq -r '.warnings[]'\n",
    .operands_min = 0,
    .operands_max = 1,
};

int doctor_main(int argc, char **argv)
{
    bool as_json = false;
    const struct option_row rows[] = {
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print one JSON object"},
        {.name = NULL},
    };
    const char *dir = NULL;
    const int status = args_parse(&text, rows, argc, argv, &dir);

    if (status != ARGS_RUN) {
        return status;
    }
    if (dir == NULL) {
        dir = ".";
    }
    struct weir_probe probe;
    struct weir_error error = text_no_error();
    const int rc = weir_probe(dir, &probe, &error);
    if (rc != 0) {
        text_failure("doctor", dir, rc, &error);
        return STATUS_FAILED;
    }
    struct io_look look = {.there = false};
    io_look(&look);
    struct advice advice = {0};
    advice_collect(&advice, &probe);
    if (as_json) {
        probe_json(dir, &probe, &look, &advice);
    } else {
        probe_print(dir, &probe);
        io_print(&look, &probe);
        for (size_t i = 0; i < advice.count; i++) {
            printf("%swarning: %s.\n", i == 0 ? "\n" : "", advice.lines[i]);
        }
    }
    return text_finish("doctor", STATUS_OK, false);
}
