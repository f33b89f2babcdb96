/* SPDX-License-Identifier: Apache-2.0
 * Records out of a stream. The caller takes records until the buffer holds none, hands out what it
 * has gathered, and only then asks for a fill, which may wait for a slow writer: so nothing lingers
 * while the input is quiet. A fill moves the unfinished rest to the front and reads as much as
 * there is room for. */
#include "intake.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20 };

int intake_open(struct intake *intake,
                int fd,
                int stop_fd,
                enum framing framing,
                size_t record_bytes_max)
{
    *intake = (struct intake){.fd = fd,
                              .stop_fd = stop_fd,
                              .framing = framing,
                              .record_bytes_max = record_bytes_max,
                              .buffer = malloc(READ_BYTES),
                              .capacity = READ_BYTES};
    return intake->buffer != NULL ? 0 : -ENOMEM;
}

void intake_close(struct intake *intake)
{
    free(intake->buffer);
    intake->buffer = NULL;
}

static enum intake_result
prefixed_next(struct intake *intake, const unsigned char **data_out, size_t *bytes_out)
{
    const unsigned char *from = intake->buffer + intake->start;
    const size_t held = intake->end - intake->start;

    if (held >= FRAMING_LENGTH_BYTES) {
        const size_t bytes =
            (size_t)from[0] | (size_t)from[1] << 8 | (size_t)from[2] << 16 | (size_t)from[3] << 24;
        if (bytes > intake->record_bytes_max) {
            return INTAKE_TOO_BIG;
        }
        if (held - FRAMING_LENGTH_BYTES >= bytes) {
            *data_out = from + FRAMING_LENGTH_BYTES;
            *bytes_out = bytes;
            intake->start += FRAMING_LENGTH_BYTES + bytes;
            return INTAKE_RECORD;
        }
    }
    if (!intake->at_end) {
        return INTAKE_MORE;
    }
    return held == 0 || intake->stopped ? INTAKE_END : INTAKE_CUT;
}

enum intake_result
intake_next(struct intake *intake, const unsigned char **data_out, size_t *bytes_out)
{
    if (intake->framing == FRAMING_LENGTH) {
        return prefixed_next(intake, data_out, bytes_out);
    }
    const int separator = intake->framing == FRAMING_LINES ? '\n' : '\0';
    const unsigned char *from = intake->buffer + intake->start;
    const size_t held = intake->end - intake->start;
    const size_t known = intake->scanned - intake->start;
    const unsigned char *found =
        held > known ? memchr(from + known, separator, held - known) : NULL;

    if (found == NULL) {
        intake->scanned = intake->end;
        if (held > intake->record_bytes_max) {
            return INTAKE_TOO_BIG;
        }
        if (!intake->at_end) {
            return INTAKE_MORE;
        }
        /* A stop may have come in the middle of a line: what is there of it is not a record. */
        if (held == 0 || intake->stopped) {
            return INTAKE_END;
        }
        *data_out = from;
        *bytes_out = held;
        intake->start = intake->end;
        intake->scanned = intake->end;
        return INTAKE_RECORD;
    }
    const size_t bytes = (size_t)(found - from);
    if (bytes > intake->record_bytes_max) {
        return INTAKE_TOO_BIG;
    }
    *data_out = from;
    *bytes_out = bytes;
    intake->start += bytes + 1;
    intake->scanned = intake->start;
    return INTAKE_RECORD;
}

/* Makes room behind end: by moving the rest to the front, and by growing where the rest fills half
 * of the buffer. */
static int room_make(struct intake *intake)
{
    const size_t held = intake->end - intake->start;

    if (intake->start > 0) {
        memmove(intake->buffer, intake->buffer + intake->start, held);
        intake->scanned -= intake->scanned > intake->start ? intake->start : intake->scanned;
        intake->start = 0;
        intake->end = held;
    }
    if (held < intake->capacity / 2) {
        return 0;
    }
    unsigned char *grown = realloc(intake->buffer, intake->capacity * 2);
    if (grown == NULL) {
        return -ENOMEM;
    }
    intake->buffer = grown;
    intake->capacity *= 2;
    return 0;
}

/* Waits until there is something to read or a stop was asked for. Return: 1 read, 0 stopped, or a
 * negative errno. */
static int input_wait(const struct intake *intake)
{
    struct pollfd polled[2] = {{.fd = intake->fd, .events = POLLIN},
                               {.fd = intake->stop_fd, .events = POLLIN}};

    for (;;) {
        if (poll(polled, 2, -1) >= 0) {
            return polled[1].revents != 0 ? 0 : 1;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

int intake_fill(struct intake *intake)
{
    const int room = room_make(intake);

    if (room != 0) {
        return room;
    }
    for (;;) {
        const int ready = input_wait(intake);
        if (ready < 0) {
            return ready;
        }
        if (ready == 0) {
            intake->at_end = true;
            intake->stopped = true;
            return 0;
        }
        const ssize_t count =
            read(intake->fd, intake->buffer + intake->end, intake->capacity - intake->end);
        if (count > 0) {
            intake->end += (size_t)count;
            intake->bytes_read += (uint64_t)count;
            return 0;
        }
        if (count == 0) {
            intake->at_end = true;
            return 0;
        }
        if (errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
    }
}
