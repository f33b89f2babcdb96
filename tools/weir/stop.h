/* SPDX-License-Identifier: Apache-2.0
 * Ending early and cleanly: the first SIGINT or SIGTERM asks, the second kills. */
#ifndef WEIR_TOOL_STOP_H
#define WEIR_TOOL_STOP_H

#include <stdbool.h>

/* Installs the handlers. Return: a descriptor that becomes readable when a stop is asked for, or a
 * negative errno. */
int stop_install(void);
bool stop_asked(void);
/* Asks from inside the program, as a signal would. */
void stop_ask(void);

#endif
