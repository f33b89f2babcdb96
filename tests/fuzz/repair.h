/* SPDX-License-Identifier: Apache-2.0
 * Puts right, in damaged bytes, what would stop every reader at once: checksums, and if asked for,
 * what binds batches to each other. So a fuzzer gets behind them. */
#ifndef WEIR_TESTS_FUZZ_REPAIR_H
#define WEIR_TESTS_FUZZ_REPAIR_H

#include "stress/memory_dir.h"

#include <weir/codes.h>

/* What the batches of a log have continued so far. */
struct repair_chain {
    bool begun;
    weir_lsn end;
    uint32_t chain;
};

/* Checksums of both copies. */
void repair_control(uint8_t *data, size_t bytes);
/* Of the segment's header, and of each batch and its frames. chain not NULL: also LSN, prev_end
 * and chain of each. */
void repair_segment(uint8_t *data,
                    size_t bytes,
                    weir_lsn base,
                    uint32_t block_bytes,
                    struct repair_chain *chain);
/* All files of a directory. links: batches are bound to each other, in the order of the segments. */
void repair_dir(struct memory_dir *memory, const char *dir, bool links);

#endif
