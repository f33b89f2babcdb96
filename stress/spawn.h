/* SPDX-License-Identifier: Apache-2.0
 * Starting, hearing and ending the child processes of a run. One thread. */
#ifndef WEIR_STRESS_SPAWN_H
#define WEIR_STRESS_SPAWN_H

#include "wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct spawn {
    pid_t pid;    /* 0: none */
    int acks_fd;  /* -1 after its end */
    int go_fd;    /* -1 once told */
    int input_fd; /* the child's standard input; -1 if it has none from us */
    struct wire_page *page;
    size_t held; /* bytes in buffer */
    uint8_t buffer[64 * 1024];
};

#define SPAWN_NONE                                                                                 \
    {                                                                                              \
        .pid = 0, .acks_fd = -1, .go_fd = -1, .input_fd = -1                                       \
    }

/* Starts argv[0] with the descriptors of wire.h. The child dies with its parent. With input, its
 * standard input is a pipe (input_fd, which does not block), its acknowledgements go to
 * WIRE_FD_ACKS, and there is no page and no go. errors_fd, from spawn_up, becomes its standard
 * error, and output too; -1: inherited.
 * Return: 0 or a negative errno. */
int spawn_start(struct spawn *spawn, char *const argv[], bool input, int errors_fd);

/* Moves a descriptor to a number that no child is given. Return: the new one or a negative
 * errno. */
int spawn_up(int fd);

/* Lets it begin. */
void spawn_go(struct spawn *spawn);

/* Waits until the child has said something, at most until deadline_ns, and adds it to the
 * buffer; a full buffer waits for nothing. Return: false at the end of its acknowledgements. */
bool spawn_hear(struct spawn *spawn, uint64_t deadline_ns);

/* Takes the first count bytes out of the buffer. */
void spawn_drop(struct spawn *spawn, size_t count);

void spawn_kill(const struct spawn *spawn);

/* Waits for its end; everything that it had acknowledged must have been heard. Return: as
 * waitpid's status. */
int spawn_reap(struct spawn *spawn);

/* Kills, reaps and forgets it, whatever its state. */
void spawn_clear(struct spawn *spawn);

/* Runs a command to its end, output to nowhere unless loud. Return: its exit status, 128 +
 * signal, or -errno. */
int spawn_run(char *const argv[], bool loud);

/* This program's own path. */
const char *spawn_self(void);

#endif
