/* SPDX-License-Identifier: Apache-2.0
 *
 * Error codes and the log sequence number.
 *
 * Every function of weir that can fail returns 0 (or a count that is not negative) on success and a
 * negative code on failure. What the system refused comes through as a negative errno (-ENOSPC,
 * -EBUSY, ...); what only weir can know has a code of its own from the table below. errno itself is
 * never a channel. */
#ifndef WEIR_CODES_H
#define WEIR_CODES_H

#include <stdint.h>

/* Position of a byte in the log. A record's LSN is where its frame starts. Positions grow strictly
 * within one epoch; a cut at recovery lets positions be used again by a later epoch, so a record's
 * identity is (epoch, LSN). */
typedef uint64_t weir_lsn;

/* No record has this LSN: the first bytes of a log hold a segment header. */
#define WEIR_LSN_NONE ((weir_lsn)0)
/* As a position to read from: the oldest record that is still there. */
#define WEIR_LSN_OLDEST ((weir_lsn)0)

/* X(name, value, text). The values are part of the ABI: never renumbered, only added to. */
#define WEIR_ERROR_TABLE(X)                                                                        \
    X(WEIR_EFAILED,                                                                                \
      -10001,                                                                                      \
      "the log is poisoned by an earlier write or sync error; close and reopen it")                \
    X(WEIR_ECORRUPT, -10002, "bytes below a promised position do not verify")                      \
    X(WEIR_EFORMAT,                                                                                \
      -10003,                                                                                      \
      "not a weir log, or one of a version or feature that this build does not know")              \
    X(WEIR_EPASSED, -10004, "the position was trimmed away")                                       \
    X(WEIR_EEPOCH, -10005, "the log was cut below this position and a later epoch has begun")      \
    X(WEIR_ESHUTDOWN, -10006, "the log is shutting down")                                          \
    X(WEIR_EFORKED,                                                                                \
      -10007,                                                                                      \
      "the handle belongs to the parent of this process; a forked child must open its own")        \
    X(WEIR_ETOOBIG,                                                                                \
      -10008,                                                                                      \
      "the record or group is larger than record_bytes_max or a segment allows")                   \
    X(WEIR_EREADONLY, -10009, "the log was opened read-only")                                      \
    X(WEIR_ESTALLED, -10010, "a producer held up the log beyond stall_limit_ns")                   \
    X(WEIR_EEND, -10011, "no record here yet")                                                     \
    X(WEIR_EUNREADABLE, -10012, "the device could not read a block that the log needs")            \
    X(WEIR_EEXISTS, -10013, "the target already holds a log")                                      \
    X(WEIR_ENOLOG, -10014, "the directory holds no log")

enum weir_code {
#define WEIR_CODE_ENUM(name, value, text) name = value,
    WEIR_ERROR_TABLE(WEIR_CODE_ENUM)
#undef WEIR_CODE_ENUM
};

#endif
