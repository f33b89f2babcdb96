/* SPDX-License-Identifier: Apache-2.0
 * A directory as bytes: what fuzz_dir is fed with.
 *
 *   archive  flags (1 byte), then files until the bytes end
 *   file     length of its name (1), the name, its length (u32), the number of its extents (1)
 *   extent   offset (u32), length (u16), bytes
 *
 * All that no extent covers is zero. Numbers are little-endian. What does not fit is cut: any bytes
 * are an archive. */
#ifndef WEIR_TESTS_FUZZ_PACK_H
#define WEIR_TESTS_FUZZ_PACK_H

#include "stress/memory_dir.h"

#define PACK_FILES_MAX 12u
#define PACK_FILE_BYTES_MAX ((size_t)256 * 1024)

/* Makes the files in `dir`. Returns the flags. */
uint8_t pack_read(const uint8_t *data, size_t bytes, struct memory_dir *memory, const char *dir);
/* 0: does not fit into room. */
size_t pack_write(uint8_t *out,
                  size_t room,
                  uint8_t flags,
                  const struct memory_dir *memory,
                  const char *dir);

#endif
