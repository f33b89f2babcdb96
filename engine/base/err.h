/* SPDX-License-Identifier: Apache-2.0
 * What went wrong, where: the detail that travels beside a negative code. */
#ifndef WEIR_BASE_ERR_H
#define WEIR_BASE_ERR_H

#include "base/compiler.h"

#include <stdint.h>
#include <weir/codes.h>

/* Filled by the floor that knows; code is 0 while nothing failed. Offset and LSN are UINT64_MAX
 * when they say nothing. */
struct weir__fault {
    int code;
    int system_code; /* the errno beneath a code of ours; 0: none is known */
    uint64_t offset;
    weir_lsn lsn;
    char file[64];
    char text[320];
};

#define WEIR__FAULT_NONE ((struct weir__fault){.code = 0, .offset = UINT64_MAX, .lsn = UINT64_MAX})

/* Records a fault and returns its code, so that `return weir__fault_set(...)` reads well. fault may
 * be NULL. A fault that already holds a code is kept: the first cause wins. */
int weir__fault_set(struct weir__fault *fault,
                    int code,
                    const char *file,
                    uint64_t offset,
                    weir_lsn lsn,
                    const char *format,
                    ...) WEIR__PRINTF(6, 7);

/* Static text for a code of ours or a negative errno; never NULL, any thread. */
const char *weir__code_text(int code);
/* "WEIR_ECORRUPT", "ENOSPC", ...; never NULL, any thread. */
const char *weir__code_name(int code);

#endif
