/* SPDX-License-Identifier: Apache-2.0
 * Making what a scan kept durable. Verdicts clean, stale and torn only.
 *
 * After a kill, batches that verify may exist only in caches. Batches above the highest promise are
 * written again in place, byte-identical (as they were read past the page cache), and every segment
 * that was scanned is synced. Running it twice, or crashing in its middle, changes nothing: the
 * same bytes go to the same places. The cut itself takes effect by the new epoch that the opener
 * then writes to the control file: a batch of an older epoch at or above the new epoch's start is
 * stale, whatever its checksum. */
#ifndef WEIR_RECOVER_REPAIR_H
#define WEIR_RECOVER_REPAIR_H

#include "recover/scan.h"

/* The caller holds the writer's lock; scan and catalog are of this opening. 0: what the scan kept
 * is durable. Negative: a read, write or sync failed, nothing may be acknowledged on the strength
 * of the scan; WEIR_ECORRUPT: the bytes are no longer those that were scanned. */
int weir__repair(struct weir__dir *dir,
                 struct weir__catalog *catalog,
                 const struct weir__scan_result *scan,
                 struct weir__fault *fault);

#endif
