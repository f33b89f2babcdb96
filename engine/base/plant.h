/* SPDX-License-Identifier: Apache-2.0
 * Faults planted on purpose, for builds whose tests have to fail.
 *
 *     if (WEIR__PLANTED(dir_not_synced)) { ...what a careless hand would have written... }
 *
 * A build with -DWEIR_PLANT=WEIR__PLANT_dir_not_synced has that one fault; every other build has a
 * constant 0 there, and the branch is not in it. tests/plant/run.sh makes each such build and wants
 * the test that is named for the fault to fail. */
#ifndef WEIR_BASE_PLANT_H
#define WEIR_BASE_PLANT_H

#ifdef WEIR_PLANT
enum weir__plant {
    /* A writer. */
    WEIR__PLANT_open_at_zero = 1,     /* an existing file is written from its beginning */
    WEIR__PLANT_offset_not_atomic,    /* the offset is read before the copy, advanced after it */
    WEIR__PLANT_lost_rest,            /* an error does not stay: the next sync reports success */
    WEIR__PLANT_flush_blocks_writers, /* a flush holds writers up for as long as it lasts */
    WEIR__PLANT_pending_reset,        /* what waits to be written is counted from 0 after a flush */
    WEIR__PLANT_length_32,            /* a length is cut to 32 bits */
    WEIR__PLANT_dir_not_synced,       /* a new file's directory is not synced */
    /* A reader. */
    WEIR__PLANT_shared_position, /* a read moves a position that all threads share */
    WEIR__PLANT_read_length_32,  /* a length is cut to 32 bits */
    /* A segment reader. */
    WEIR__PLANT_crc_not_checked, /* checksums are written and never read */
    /* The ring. */
    WEIR__PLANT_cqe_bound, /* more operations in flight than completions find room for */
    /* A batch and its executor. */
    WEIR__PLANT_drained_rest_lost, /* an error in a batch loses what was behind it */
    WEIR__PLANT_batch_no_barrier,  /* a Sync waits for nothing, and nothing for it */
    WEIR__PLANT_read_order,        /* what was read comes in the order in which it came back */
};
#define WEIR__PLANTED(name) (WEIR_PLANT == WEIR__PLANT_##name)
#else
#define WEIR__PLANTED(name) 0
#endif

#endif
