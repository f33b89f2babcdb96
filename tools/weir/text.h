/* SPDX-License-Identifier: Apache-2.0
 * Figures for people, names of the interface's enums, and the one-line error. */
#ifndef WEIR_TOOL_TEXT_H
#define WEIR_TOOL_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <weir/weir.h>

struct text {
    char chars[48];
};

/* "1,234,567" */
struct text text_count(uint64_t value);
/* "64 MiB", "1.5 GiB", "100 B" */
struct text text_bytes(uint64_t bytes);
/* "85 ns", "12.3 us", "4.5 ms", "1.25 s" */
struct text text_duration(uint64_t ns);
/* "1234567 (0x12d687)"; "-" for UINT64_MAX, which means none */
struct text text_lsn(weir_lsn lsn);
/* "2024-05-06 07:08:09.123456789 UTC" */
struct text text_time(uint64_t wall_ns);

const char *text_io(enum weir_io io);

const char *text_level(enum weir_level level);
const char *text_verdict(enum weir_verdict verdict);
/* 1, 0, -1: "yes", "no", "unknown" */
const char *text_tristate(int value);
const char *text_bool(bool value);

/* For OPTION_CHOICE tables; the indices are the enums' values. */
extern const char *const text_io_words[];
/* The same of enum weir_policy. */
extern const char *const text_policy_words[];
extern const char *const text_level_words[];

/* An error that says nothing, to be filled by a call. */
struct weir_error text_no_error(void);
/* One line on stderr: "weir VERB: DIR: TEXT (FILE, offset N, LSN N, ENOSPC: ...)". error may be
 * NULL; where it has no text, the code's own is used. */
void text_failure(const char *verb, const char *dir, int code, const struct weir_error *error);

/* Did a write to standard output fail? To be asked right after writing, in a loop that prints much:
 * the stream keeps the fact and forgets the cause, which is kept here for text_finish. */
bool text_broken(void);
/* Flushes standard output. Return: status, or STATUS_FAILED with a line on stderr if something that
 * was printed got lost. quiet_pipe: a reader that went away early is no failure (head). */
int text_finish(const char *verb, int status, bool quiet_pipe);

#endif
