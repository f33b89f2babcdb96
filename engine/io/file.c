/* SPDX-License-Identifier: Apache-2.0
 * Opening a file by its path, for the parts of the I/O layer that own one.
 *
 * The happy path: the path is split, its directory opened, the file opened plainly or made (and the
 * directory synced), and opened once more with O_DIRECT if that is wanted; if that works the
 * plain descriptor is given up.
 *
 * Made before it is opened directly, because some file systems refuse O_DIRECT only after they have
 * made the file: it would not be known any more who did. The directory is opened as "DIR/.", for
 * open_dir follows no link at the end of what it is given, and a parent may well be one; the last
 * component of the path may not.
 *
 * What can fail: every call of the seam. O_DIRECT refused is no failure: note says so. Any thread;
 * a struct belongs to one. */
#include "io/file.h"

#include "base/compiler.h"
#include "base/err.h"
#include "base/num.h"
#include "base/plant.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define FILE_DIRECT_BYTES_MIN 512u
/* Somebody else makes and removes the name between two of our looks: so often, at most. */
#define FILE_OPEN_TRIES 16u
#define FILE_ERRNO_MAX 4095

/* ---- errors ---------------------------------------------------------------------------------- */

static int file_fail(const char *name,
                     int code,
                     uint64_t offset,
                     struct weir_error *error_out,
                     const char *what,
                     const char *way_out)
{
    if (error_out != NULL) {
        *error_out = (struct weir_error){
            .code = code,
            .system_code = code < 0 && code >= -FILE_ERRNO_MAX ? -code : 0,
            .offset = offset,
            .lsn = UINT64_MAX,
        };
        (void)snprintf(error_out->file, sizeof error_out->file, "%s", name);
        (void)snprintf(error_out->text,
                       sizeof error_out->text,
                       "%s: %s%s%s",
                       what,
                       weir__code_text(code),
                       way_out[0] == '\0' ? "" : "; ",
                       way_out);
    }
    return code;
}

int weir__io_file_error(const struct weir__io_file *file,
                        int code,
                        uint64_t offset,
                        const char *what,
                        struct weir_error *error_out)
{
    return file_fail(file->name, code, offset, error_out, what, "");
}

/* What somebody can do about a refused opening; "" where the code says it all. */
static const char *file_way_out(int code, unsigned flags)
{
    switch (code) {
    case -ENOENT:
        return "create it first, or open it so that it is made";
    case -ELOOP:
        return "it is a symbolic link, and none is followed here: name the file itself";
    case -EISDIR:
        return "name a file in it";
    case -EINVAL:
        return "only regular files will do";
    case -EACCES:
    case -EPERM:
        return (flags & WEIR__OPEN_WRITE) != 0 ? "this user must be allowed to read and write it"
                                               : "this user must be allowed to read it";
    case -EROFS:
        return "remount the file system writable, or choose another place";
    case -EMFILE:
    case -ENFILE:
        return "close files, or raise the limit (ulimit -n)";
    case -ENOSPC:
    case -EDQUOT:
        return "make room";
    default:
        return "";
    }
}

static const char *file_dir_way_out(int code)
{
    switch (code) {
    case -ENOENT:
        return "make the directory first";
    case -ENOTDIR:
        return "what stands before the last slash must be a directory";
    case -EACCES:
    case -EPERM:
        return "this user must be allowed to read and search it";
    case -EMFILE:
    case -ENFILE:
        return "close files, or raise the limit (ulimit -n)";
    default:
        return "";
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

/* "a/b/c" -> "a/b/." and "c". *name_out points into path. */
static int file_split(const char *path, char dir_out[PATH_MAX], const char **name_out)
{
    const char *const slash = strrchr(path, '/');
    const char *const name = slash == NULL ? path : slash + 1;
    const size_t dir_len = (size_t)(name - path); /* with its slash */

    *name_out = name;
    if (path[0] == '\0') {
        return -ENOENT;
    }
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return -EISDIR;
    }
    if (dir_len + sizeof "." > PATH_MAX || strlen(name) > NAME_MAX) {
        return -ENAMETOOLONG;
    }
    memcpy(dir_out, path, dir_len);
    memcpy(dir_out + dir_len, ".", sizeof ".");
    return 0;
}

/* Opens the file plainly; made by us or not is known afterwards. */
static int file_open_plain(struct weir__io_file *file, const char *name, unsigned flags)
{
    const unsigned how = flags & WEIR__OPEN_WRITE;
    int error = -ENOENT;

    if ((flags & WEIR__OPEN_CREATE) == 0) {
        return file->io->ops->open(file->io, file->dir, name, how, &file->file);
    }
    for (unsigned i = 0; i < FILE_OPEN_TRIES && error == -ENOENT; i++) {
        error = file->io->ops->open(file->io,
                                    file->dir,
                                    name,
                                    how | WEIR__OPEN_CREATE | WEIR__OPEN_EXCLUSIVE,
                                    &file->file);
        file->created = error == 0;
        if (error == -EEXIST) {
            error = file->io->ops->open(file->io, file->dir, name, how, &file->file);
        }
    }
    return error;
}

/* Puts a direct descriptor in the plain one's place, if it is to be had. */
static int file_go_direct(struct weir__io_file *file, const char *name, unsigned flags)
{
    struct weir__io *const io = file->io;
    struct weir__fs_facts facts = {.look_only = (flags & WEIR__OPEN_WRITE) == 0};
    struct weir__file_info plain;
    struct weir__file_info other;
    int direct = -1;

    int error = io->ops->facts(io, file->dir, &facts);
    if (error != 0) {
        return error;
    }
    error =
        io->ops->open(io, file->dir, name, (flags & WEIR__OPEN_WRITE) | WEIR__OPEN_DIRECT, &direct);
    /* A file system may take the flag and then refuse the writes: the probe has tried one. Who only
     * reads may have no right to make a probe file, and needs none. */
    if (error == -EINVAL || (error == 0 && (flags & WEIR__OPEN_WRITE) != 0 && !facts.direct)) {
        (void)snprintf(file->note,
                       sizeof file->note,
                       "direct_io: %s here does not take O_DIRECT; the page cache is used",
                       facts.fs_name);
        if (error == 0) {
            (void)io->ops->close(io, direct);
        }
        return 0;
    }
    if (error != 0) {
        return error;
    }
    error = io->ops->info(io, file->file, &plain);
    if (error == 0) {
        error = io->ops->info(io, direct, &other);
    }
    if (error == 0 && (plain.device != other.device || plain.inode != other.inode)) {
        /* Somebody renamed another file into its place in between. */
        error = -ESTALE;
    }
    if (error == 0 && !weir__is_pow2(facts.direct_align)) {
        error = -EINVAL;
    }
    if (error != 0) {
        (void)io->ops->close(io, direct);
        return error;
    }
    /* Nothing was written through it: its close has nothing to say. */
    (void)io->ops->close(io, file->file);
    file->file = direct;
    file->direct = true;
    file->block_bytes =
        facts.direct_align < FILE_DIRECT_BYTES_MIN ? FILE_DIRECT_BYTES_MIN : facts.direct_align;
    return 0;
}

int weir__io_file_open(struct weir__io *io,
                       const char *path,
                       unsigned flags,
                       bool direct,
                       struct weir__io_file *file_out,
                       struct weir_error *error_out)
{
    char dir[PATH_MAX];
    const char *name;
    struct weir__io_file file = {.io = io, .dir = -1, .file = -1, .block_bytes = 1};

    if (path == NULL) {
        return file_fail("", -EINVAL, UINT64_MAX, error_out, "no path was given", "");
    }
    int error = file_split(path, dir, &name);
    (void)snprintf(file.name, sizeof file.name, "%.*s", (int)sizeof file.name - 1, name);
    if (error != 0) {
        return file_fail(file.name,
                         error,
                         UINT64_MAX,
                         error_out,
                         "the path names no file",
                         "its last component must be a file's name");
    }
    error = io->ops->open_dir(io, dir, false, &file.dir);
    if (error != 0) {
        return file_fail(file.name,
                         error,
                         UINT64_MAX,
                         error_out,
                         "cannot open the directory that the file stands in",
                         file_dir_way_out(error));
    }

    const char *what = "cannot open the file";
    error = file_open_plain(&file, name, flags);
    if (error == 0 && (flags & WEIR__OPEN_CREATE) != 0 && !WEIR__PLANTED(dir_not_synced)) {
        /* Also when it existed: whoever made it may have died before this sync. */
        what = "cannot sync the directory that the file stands in";
        error = io->ops->sync_dir(io, file.dir);
    }
    if (error == 0 && direct) {
        what = "cannot open the file with O_DIRECT";
        error = file_go_direct(&file, name, flags);
    }
    if (error == 0) {
        struct weir__file_info info;
        what = "cannot learn the file's length";
        error = io->ops->info(io, file.file, &info);
        file.bytes = error == 0 ? info.bytes : 0;
    }
    if (error != 0) {
        weir__io_file_close(&file);
        return file_fail(file.name, error, UINT64_MAX, error_out, what, file_way_out(error, flags));
    }
    *file_out = file;
    return 0;
}

int weir__io_file_unpad(const struct weir__io_file *file, uint64_t end, uint64_t padded)
{
    struct weir__io *const io = file->io;
    struct weir__file_info info = {.bytes = padded};
    const int code = WEIR__PLANTED(blind_cut) ? 0 : io->ops->info(io, file->file, &info);

    if (code != 0 || info.bytes <= end || info.bytes > padded) {
        return code;
    }
    return io->ops->truncate(io, file->file, end);
}

void weir__io_file_close(struct weir__io_file *file)
{
    /* Whoever wrote has flushed, and was told what came of it. */
    if (file->file >= 0) {
        (void)file->io->ops->close(file->io, file->file);
    }
    if (file->dir >= 0) {
        (void)file->io->ops->close(file->io, file->dir);
    }
    file->file = -1;
    file->dir = -1;
}
