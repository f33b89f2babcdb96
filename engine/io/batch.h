/* SPDX-License-Identifier: Apache-2.0
 * A batch seen from inside: what the executor needs of a list of operations beyond weir/io.h.
 *
 * The data of a WRITE stay where they were copied to until the operation leaves the batch. From
 * WEIR__BATCH_ALIGNED_BYTES up they stand at a multiple of WEIR__BATCH_ALIGN, so that a direct
 * write of whole blocks can go out from where it lies; from WEIR__BATCH_SECTOR up at a multiple of
 * that. */
#ifndef WEIR_IO_BATCH_H
#define WEIR_IO_BATCH_H

#include "port/mem.h"

#include <weir/io.h>

#define WEIR__BATCH_ALIGN ((size_t)4096)
#define WEIR__BATCH_ALIGNED_BYTES ((size_t)4096)
#define WEIR__BATCH_SECTOR ((size_t)512)

/* The index-th operation; its data live until it leaves the batch. index: below weir_batch_len. */
const struct weir_op *weir__batch_op(const struct weir_batch *batch, size_t index);
/* Takes the first `count` operations out. Those behind them keep their data where they are. */
void weir__batch_drop(struct weir_batch *batch, size_t count);
/* The kernel may read the data of this batch for as long as the process lives: none of its memory
 * is freed or used for anything else any more. */
void weir__batch_abandon(struct weir_batch *batch);
/* Bytes that it holds now; for tests. */
uint64_t weir__batch_memory(const struct weir_batch *batch);

#endif
