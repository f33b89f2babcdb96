/* SPDX-License-Identifier: Apache-2.0
 * The outcome of a scan in words and as JSON: for verify and explain. */
#ifndef WEIR_TOOL_REPORT_H
#define WEIR_TOOL_REPORT_H

#include <weir/weir.h>

struct json;

void report_print(const struct weir_report *report);
/* Members of an object that is open. */
void report_members(struct json *json, const struct weir_report *report);

#endif
