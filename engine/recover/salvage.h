/* SPDX-License-Identifier: Apache-2.0
 * Taking out of a damaged log whatever verifies. Private to this floor; weir__rewrite is the way
 * in. */
#ifndef WEIR_RECOVER_SALVAGE_H
#define WEIR_RECOVER_SALVAGE_H

#include "recover/rewrite.h"
#include "recover/target.h"

struct weir__salvage_result {
    weir_lsn oldest; /* of the source, as far as it is known */
    uint64_t gaps;
    uint64_t gap_bytes;
};

/* Fills the target, which is open and not begun yet, up to but not including its control file. 0;
 * WEIR_ENOLOG nothing could be read; WEIR_EFORMAT; an errno. */
int weir__salvage(const struct weir__rewrite_config *config,
                  struct weir__catalog *catalog,
                  struct weir__target *target,
                  struct weir__salvage_result *result_out,
                  struct weir__fault *fault);

#endif
