/* SPDX-License-Identifier: Apache-2.0
 * A fuzz target: one function that takes any bytes. libFuzzer calls it, or run_corpus.c. */
#ifndef WEIR_TESTS_FUZZ_TARGET_H
#define WEIR_TESTS_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

#define TARGET_BYTES_MAX ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* libFuzzer's, and what it calls if it is there. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t room);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t room, unsigned seed);

#endif
