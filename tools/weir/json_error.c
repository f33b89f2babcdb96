/* SPDX-License-Identifier: Apache-2.0
 * An error of the library as JSON. Apart from json.c, which knows nothing of the library. */
#include "json.h"

#include <weir/weir.h>

void json_member_error(struct json *json, int code, const struct weir_error *error)
{
    json_key(json, "error");
    json_begin(json, '{');
    json_member_i64(json, "code", code);
    json_member_text(json, "name", weir_error_name(code));
    if (error != NULL) {
        json_member_text(json, "text", error->text[0] != '\0' ? error->text : weir_strerror(code));
        json_member_i64(json, "errno", error->system_code);
        json_member_text(json, "file", error->file);
        json_member_lsn(json, "offset", error->offset);
        json_member_lsn(json, "lsn", error->lsn);
    } else {
        json_member_text(json, "text", weir_strerror(code));
    }
    json_end(json, '}');
}
