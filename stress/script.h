/* SPDX-License-Identifier: Apache-2.0
 * What is appended: every record follows from the seed and its identity, so whoever reads one
 * back knows all its bytes.
 *
 * A life is one process that appends; its producers count their records from 0. Records of a
 * producer come in groups of 1, 2, 4 or 16, which also follow from the seed. The binary form
 * carries the identity in the tag, so that a record may have any length, 0 included; the text
 * form (lines for weir ingest) carries it at the beginning of the line and has no groups. */
#ifndef WEIR_STRESS_SCRIPT_H
#define WEIR_STRESS_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/weir.h>

enum {
    SCRIPT_PRODUCERS_MAX = 256,
    SCRIPT_LIVES_MAX = 1 << 24,
    SCRIPT_GROUP_MAX = 16,
    SCRIPT_BYTES_MAX = 8 << 20,
};

struct script {
    uint64_t seed;
    uint32_t bytes_min; /* of a record */
    uint32_t bytes_max;
    uint32_t producers;
    bool text;
};

struct record_id {
    uint32_t life;
    uint32_t producer;
    uint64_t seq;
};

/* The group of a record: its first one's seq, and how many it has. */
struct script_group {
    uint64_t first;
    uint64_t count;
};

struct script_group script_group(const struct script *script, struct record_id id);
/* The largest group of a life in bytes, as an upper bound. */
uint64_t script_group_bytes_max(const struct script *script);

/* Length of a record. */
size_t script_bytes(const struct script *script, struct record_id id);
/* Writes its script_bytes bytes; those of the text form have no newline. room is at least 64 and
 * script_bytes. */
void script_fill(const struct script *script, struct record_id id, uint8_t *bytes);

uint64_t script_tag(struct record_id id);
struct record_id script_tag_id(uint64_t tag);
/* Line number of a record of the text form, and back. */
uint64_t script_line(const struct script *script, struct record_id id);
struct record_id script_line_id(const struct script *script, uint32_t life, uint64_t line);

/* Whose record this claims to be. Return: false if that cannot be read. */
bool script_identify(const struct script *script,
                     const struct weir_entry *entry,
                     struct record_id *id_out);
/* Is it, byte for byte? scratch has room for SCRIPT_BYTES_MAX bytes. */
bool script_equal(const struct script *script,
                  struct record_id id,
                  const struct weir_entry *entry,
                  uint8_t *scratch);

#endif
