/* SPDX-License-Identifier: Apache-2.0
 * Faults of the floors below in the form in which a caller gets them. Pure functions: any thread.
 */
#include "api/error.h"

#include <stdio.h>

#define ERROR_ERRNO_MAX 4095

_Static_assert(sizeof((struct weir_error *)0)->file >= sizeof((struct weir__fault *)0)->file,
               "a file's name is passed on whole");
_Static_assert(sizeof((struct weir_error *)0)->text >= sizeof((struct weir__fault *)0)->text,
               "a sentence is passed on whole");

void weir__error_from_fault(const struct weir__fault *fault, struct weir_error *error_out)
{
    if (error_out == NULL) {
        return;
    }
    *error_out = (struct weir_error){
        .code = fault->code,
        .system_code =
            fault->code < 0 && fault->code >= -ERROR_ERRNO_MAX ? -fault->code : fault->system_code,
        .offset = fault->offset,
        .lsn = fault->lsn,
    };
    (void)snprintf(error_out->file, sizeof error_out->file, "%s", fault->file);
    (void)snprintf(error_out->text,
                   sizeof error_out->text,
                   "%s",
                   fault->text[0] != '\0' ? fault->text : weir__code_text(fault->code));
}
