/* SPDX-License-Identifier: Apache-2.0
 * Records that follow from a seed. No state: the process that appends and the one that checks
 * compute the same. */
#include "script.h"

#include "dice.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GROUP_RECORD_BYTES_MAX = 4096,
    LINE_HEAD_MAX = 64,
};

static uint64_t id_hash(const struct script *script, struct record_id id, uint64_t purpose)
{
    uint64_t hash = dice_mix(script->seed ^ purpose);

    hash = dice_mix(hash ^ id.life);
    hash = dice_mix(hash ^ id.producer);
    return dice_mix(hash ^ id.seq);
}

struct script_group script_group(const struct script *script, struct record_id id)
{
    static const uint64_t counts[8] = {1, 1, 1, 1, 1, 2, 4, SCRIPT_GROUP_MAX};
    struct script_group group = {.first = id.seq, .count = 1};

    if (!script->text) {
        struct record_id block = id;
        block.seq = id.seq / SCRIPT_GROUP_MAX;
        group.count = counts[id_hash(script, block, 'g') % 8];
        group.first = id.seq - id.seq % group.count;
    }
    return group;
}

uint64_t script_group_bytes_max(const struct script *script)
{
    uint64_t member = script->bytes_min;

    if (member < GROUP_RECORD_BYTES_MAX) {
        member = GROUP_RECORD_BYTES_MAX;
    }
    const uint64_t group = SCRIPT_GROUP_MAX * (member + 64);
    const uint64_t lone = (uint64_t)script->bytes_max + LINE_HEAD_MAX;
    return group > lone ? group : lone;
}

/* Beginning of a line: life, line number, a space each. */
static size_t line_head(const struct script *script, struct record_id id, char *head)
{
    return (size_t)
        snprintf(head, LINE_HEAD_MAX, "%" PRIu32 " %" PRIu64 " ", id.life, script_line(script, id));
}

size_t script_bytes(const struct script *script, struct record_id id)
{
    struct dice dice = {id_hash(script, id, 'b')};
    const uint64_t low = script->bytes_min;
    const uint64_t high = script->bytes_max;
    const uint64_t dot = dice_below(&dice, 100);
    /* Most records are small, a few are large enough to stay in flight for a while. */
    uint64_t from = low;
    uint64_t to = dot < 60 ? low + 512 : dot < 85 ? low + (16 << 10) : low + (64 << 10);

    if (dot >= 97 && high / 4 > low) {
        from = high / 4;
        to = high;
    }
    if (script_group(script, id).count > 1 && to > GROUP_RECORD_BYTES_MAX) {
        from = low;
        to = low < GROUP_RECORD_BYTES_MAX ? GROUP_RECORD_BYTES_MAX : low;
    }
    if (to > high) {
        to = high;
    }
    size_t bytes = (size_t)(from + dice_below(&dice, to - from + 1));
    if (script->text) {
        char head[LINE_HEAD_MAX];
        const size_t least = line_head(script, id, head);
        bytes = bytes < least ? least : bytes;
    }
    return bytes;
}

void script_fill(const struct script *script, struct record_id id, uint8_t *bytes)
{
    static const char letters[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    struct dice dice = {id_hash(script, id, 'p')};
    const size_t count = script_bytes(script, id);

    for (size_t i = 0; i < count; i += sizeof(uint64_t)) {
        const uint64_t word = dice_next(&dice);
        const size_t part = count - i < sizeof(word) ? count - i : sizeof(word);
        memcpy(bytes + i, &word, part);
    }
    if (script->text) {
        char head[LINE_HEAD_MAX];
        for (size_t i = 0; i < count; i++) {
            bytes[i] = (uint8_t)letters[bytes[i] & 63];
        }
        memcpy(bytes, head, line_head(script, id, head));
    }
}

uint64_t script_tag(struct record_id id)
{
    return (uint64_t)id.life << 40 | (uint64_t)id.producer << 32 | id.seq;
}

struct record_id script_tag_id(uint64_t tag)
{
    return (struct record_id){.life = (uint32_t)(tag >> 40),
                              .producer = (uint32_t)(tag >> 32) & 0xff,
                              .seq = tag & UINT32_MAX};
}

uint64_t script_line(const struct script *script, struct record_id id)
{
    return id.seq * script->producers + id.producer;
}

struct record_id script_line_id(const struct script *script, uint32_t life, uint64_t line)
{
    return (struct record_id){.life = life,
                              .producer = (uint32_t)(line % script->producers),
                              .seq = line / script->producers};
}

bool script_identify(const struct script *script,
                     const struct weir_entry *entry,
                     struct record_id *id_out)
{
    if (!script->text) {
        *id_out = script_tag_id(entry->tag);
        return true;
    }
    char head[LINE_HEAD_MAX] = "";
    const size_t count = entry->bytes < sizeof(head) - 1 ? entry->bytes : sizeof(head) - 1;
    if (count > 0) {
        memcpy(head, entry->data, count);
    }
    char *end = head;
    const unsigned long long life = strtoull(head, &end, 10);
    if (end == head || *end != ' ' || life >= SCRIPT_LIVES_MAX) {
        return false;
    }
    const char *line_at = end + 1;
    const unsigned long long line = strtoull(line_at, &end, 10);
    if (end == line_at || *end != ' ') {
        return false;
    }
    *id_out = script_line_id(script, (uint32_t)life, line);
    return true;
}

bool script_equal(const struct script *script,
                  struct record_id id,
                  const struct weir_entry *entry,
                  uint8_t *scratch)
{
    if (entry->bytes != script_bytes(script, id)) {
        return false;
    }
    if (script->text) {
        /* weir ingest --tag both */
        if (entry->tag != ((uint64_t)id.producer << 48 | script_line(script, id))) {
            return false;
        }
    } else if (entry->tag != script_tag(id)) {
        return false;
    }
    if (entry->bytes == 0) {
        return true;
    }
    script_fill(script, id, scratch);
    return memcmp(scratch, entry->data, entry->bytes) == 0;
}
