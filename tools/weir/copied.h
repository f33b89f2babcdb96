/* SPDX-License-Identifier: Apache-2.0
 * What copy and salvage made. */
#ifndef WEIR_TOOL_COPIED_H
#define WEIR_TOOL_COPIED_H

#include <stdbool.h>
#include <weir/weir.h>

struct json;

void copied_print(const char *new_dir, const struct weir_copy_report *report, bool gaps);
/* Members of an object that is open. */
void copied_members(struct json *json,
                    const char *dir,
                    const char *new_dir,
                    const struct weir_copy_report *report,
                    bool gaps);

#endif
