/* SPDX-License-Identifier: Apache-2.0
 * Faults planted on purpose, for builds whose tests have to fail.
 *
 *     if (WEIR__PLANTED(dir_not_synced)) { ...what a careless hand would have written... }
 *
 * A build with -DWEIR_PLANT=WEIR__PLANT_dir_not_synced has that one fault; every other build has a
 * constant 0 there, and the branch is not in it. tests/plant/run.sh makes each such build of the I/O
 * layer's faults and wants the test that is named for the fault to fail; tests/plant/sim.sh makes
 * each of the log's and wants the simulation to find it; tests/plant/stress.sh the rest, for a verb
 * of weir-stress. */
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
    WEIR__PLANT_syncs_at_once,     /* two syncs of a descriptor go at once: one takes the error */
    WEIR__PLANT_blind_cut,         /* padding is cut off whatever has got behind it meanwhile */
    /* The log's that no crash on the simulated machine shows: there one thread at a time runs, and
     * what is judged is what one writer left. */
    WEIR__PLANT_lock_not_in_ring,       /* a killed process's writes outlive its lock */
    WEIR__PLANT_reclaim_by_newer_copy,  /* files go that the older copy's checkpoint needs */
    WEIR__PLANT_older_epoch_accepted,   /* batches of older epochs above the cut are the log's */
    WEIR__PLANT_chain_not_checked,      /* any batch at the right place continues the log */
    WEIR__PLANT_salt_without_epoch,     /* frames of a cut epoch verify at their old place */
    WEIR__PLANT_stale_promise_believed, /* batches of older epochs promise, too */
    WEIR__PLANT_commit_no_release, /* a commit does not publish the bytes (tests/model/run.sh) */
    WEIR__PLANT_nobody_yields,     /* of a crowd each goes to sleep at once */
    WEIR__PLANT_nobody_collects,   /* a flusher seals without waiting for those it has just woken */

    /* The log, from here on (tests/plant/sim.sh). Acknowledging. */
    WEIR__PLANT_ack_before_sync,        /* a write on the ring that came back is durable */
    WEIR__PLANT_written_is_durable,     /* so is one by the flusher's own call, without RWF_DSYNC */
    WEIR__PLANT_old_segment_not_synced, /* a covering sync goes to the newest segment's file */
    WEIR__PLANT_sync_covers_later,      /* it covers what came back while it was under way */
    WEIR__PLANT_sync_retried,           /* a failed sync is tried again, and believed */
    WEIR__PLANT_short_rest_dropped,     /* a write that came back short is over */
    WEIR__PLANT_woken_is_enough,        /* who is woken does not look at the level again */
    /* Segments and the control file. */
    WEIR__PLANT_segment_dir_not_synced,     /* a new segment's name is not durable */
    WEIR__PLANT_zeros_not_synced,           /* a new segment's length and header are not */
    WEIR__PLANT_recycled_header_kept,       /* a recycled segment keeps its old header */
    WEIR__PLANT_recycled_header_not_synced, /* its new one is not durable before batches are */
    WEIR__PLANT_recycled_dir_not_synced,    /* its new name is not */
    WEIR__PLANT_control_dir_not_synced,     /* the control file's name is not durable */
    WEIR__PLANT_control_error_ignored,      /* a failed write of the control file went well */
    WEIR__PLANT_trim_before_control,        /* files go before the control file knows of the trim */
    WEIR__PLANT_checkpoint_ahead,           /* the checkpoint is where the log is written, */
    WEIR__PLANT_promise_ahead,              /* the control file's promise where it is appended, */
    WEIR__PLANT_batch_promise_ahead,        /* a batch's where it is written */
    /* Recovery. */
    WEIR__PLANT_no_new_epoch,       /* an opening appends behind a tail with its old epoch */
    WEIR__PLANT_epoch_reused,       /* so it does where one control copy is lost */
    WEIR__PLANT_epoch_not_marked,   /* an epoch may leave the place of its cut as it is */
    WEIR__PLANT_frames_not_checked, /* a sound header is a sound batch */
    WEIR__PLANT_kept_not_durable,   /* what an opening keeps is left to the page cache */
    WEIR__PLANT_kept_not_rewritten, /* it is synced and not written again */
    WEIR__PLANT_read_error_is_end,  /* a block that cannot be read is the log's end */

    /* What only real threads, descriptors and file systems show (tests/plant/stress.sh). */
    WEIR__PLANT_signals_not_blocked,  /* the log's threads take the host's signals */
    WEIR__PLANT_oversize_not_watched, /* the watchdog does not see producers of oversize records */
    WEIR__PLANT_lent_not_watched,     /* nor one that does not come back with the flusher's part */
    WEIR__PLANT_retired_not_closed,   /* files of segments that get no more writes stay open */
    WEIR__PLANT_space_error_kept,     /* a disk that was full once is full for ever */
};
#define WEIR__PLANTED(name) (WEIR_PLANT == WEIR__PLANT_##name)
#else
#define WEIR__PLANTED(name) 0
#endif

#endif
