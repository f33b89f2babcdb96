/* SPDX-License-Identifier: Apache-2.0
 * From the engine's own record of a failure to the public one. */
#ifndef WEIR_API_ERROR_H
#define WEIR_API_ERROR_H

#include "base/err.h"

#include <weir/weir.h>

/* Fills every field of *error_out. error_out may be NULL. fault->code may be 0: the error then says
 * that nothing failed. A fault without a text gets the code's. */
void weir__error_from_fault(const struct weir__fault *fault, struct weir_error *error_out);

#endif
