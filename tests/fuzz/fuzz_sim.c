/* SPDX-License-Identifier: Apache-2.0
 * A history of the simulation (stress/sim) whose choices are the bytes: the log's options, the faults
 * that are switched on, the operations, where it crashes, who runs next. The first byte says which
 * kinds of faults there may be; where the bytes end, the choices go on by a seed made of them. */
#include "fuzz/target.h"
#include "stress/sim/history.h"
#include "stress/sim/machine.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct history_counts counts;
    if (bytes < 2) {
        return 0;
    }
    const struct history_options options = {
        .depth = 1 + (data[0] & 3),
        .faults = (data[0] & 4) != 0,
        .rot = (data[0] & 12) == 12,
        .print = getenv("WEIR_FUZZ_PRINT") != NULL,
    };
    uint64_t seed = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes; i++) {
        seed = (seed ^ data[i]) * UINT64_C(0x100000001b3);
    }
    char why[600] = "";
    uint64_t digest = 0;
    sim_script(data + 1, bytes - 1);
    if (!history_run(seed, &options, &counts, &digest, why, sizeof why)) {
        fprintf(stderr, "does not hold: %s\n", why);
        abort();
    }
    return 0;
}
