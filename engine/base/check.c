/* SPDX-License-Identifier: Apache-2.0
 * The end of a process that found one of our own mistakes. Uses only what is safe in any state: no
 * allocation, no buffered output, no lock. */
#include "base/check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct check_message {
    char text[512];
    size_t len;
};

static void check_append(struct check_message *message, const char *text)
{
    const size_t len = strlen(text);
    const size_t room = sizeof message->text - message->len;
    const size_t take = len < room ? len : room;
    memcpy(message->text + message->len, text, take);
    message->len += take;
}

_Noreturn void weir__check_failed(const char *condition, const char *file, int line)
{
    char digits[12];
    size_t first = sizeof digits - 1;
    digits[first] = '\0';
    unsigned rest = line > 0 ? (unsigned)line : 0;
    do {
        digits[--first] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);

    struct check_message message = {.len = 0};
    check_append(&message, "weir: check failed: ");
    check_append(&message, condition);
    check_append(&message, " at ");
    check_append(&message, file);
    check_append(&message, ":");
    check_append(&message, digits + first);
    check_append(&message, "\n");
    /* One call, so that lines of several threads do not mix. If it fails there is nobody left to
     * tell. */
    const ssize_t ignored = write(STDERR_FILENO, message.text, message.len);
    (void)ignored;
    abort();
}
