/* SPDX-License-Identifier: Apache-2.0
 *
 * The version of weir. This is the one place where it is written: the build, the package files and
 * weir_version() read it from here. Before 1.0 a new minor version may change the interface and the
 * library's soname; a new patch version changes neither. */
#ifndef WEIR_VERSION_H
#define WEIR_VERSION_H

#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1
#define WEIR_VERSION_PATCH 0
#define WEIR_VERSION_STRING "0.1.0"

#endif
