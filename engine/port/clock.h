/* SPDX-License-Identifier: Apache-2.0
 * Time. Order and timeouts use the monotonic clock only; the wall clock is written into headers for
 * people to read. */
#ifndef WEIR_PORT_CLOCK_H
#define WEIR_PORT_CLOCK_H

#include <stdint.h>

#define WEIR__NEVER UINT64_MAX

uint64_t weir__now_ns(void);  /* CLOCK_MONOTONIC */
uint64_t weir__wall_ns(void); /* CLOCK_REALTIME, 0 if it stands before 1970 */
/* Deadline of a relative timeout: negative = WEIR__NEVER, else now + timeout, saturating. */
uint64_t weir__deadline(int64_t timeout_ns);
void weir__sleep_ns(uint64_t ns);

#endif
