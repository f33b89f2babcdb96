/* SPDX-License-Identifier: Apache-2.0
 * The set of segments, as a sorted array of LSN ranges.
 *
 * Loaded once from the names in the directory, then kept in step by whoever creates, renames or
 * unlinks a segment. Sorted by base, then by end; no two are equal; two that overlap are both
 * kept, because which of them is right is a question for whoever reads them. Sizes are tens to
 * thousands, so an insertion that moves the tail of the array is cheap; a listing, which gives all
 * of them in any order, is gathered first and sorted once.
 *
 * What can fail: memory, and the listing of the directory. Any thread: a mutex guards the array,
 * nothing is called under it but the allocator. */
#include "segment/catalog.h"

#include "format/segment_header.h"

#include <errno.h>
#include <string.h>

#define CATALOG_ROOM_MIN 16u

int weir__catalog_init(struct weir__catalog *catalog, struct weir__mem *mem)
{
    memset(catalog, 0, sizeof *catalog);
    catalog->mem = mem;
    return -pthread_mutex_init(&catalog->mutex, NULL);
}

void weir__catalog_exit(struct weir__catalog *catalog)
{
    weir__mem_free(catalog->mem, catalog->ranges, catalog->room * sizeof *catalog->ranges);
    catalog->ranges = NULL;
    catalog->count = 0;
    catalog->room = 0;
    (void)pthread_mutex_destroy(&catalog->mutex);
}

static void catalog_lock(struct weir__catalog *catalog)
{
    (void)pthread_mutex_lock(&catalog->mutex); /* a plain mutex, never recursive: cannot fail */
}

static void catalog_unlock(struct weir__catalog *catalog)
{
    (void)pthread_mutex_unlock(&catalog->mutex);
}

static bool range_before(struct weir__range a, struct weir__range b)
{
    return a.base < b.base || (a.base == b.base && a.end < b.end);
}

static bool range_equal(struct weir__range a, struct weir__range b)
{
    return a.base == b.base && a.end == b.end;
}

/* Index of the first range that is not before `range`. */
static size_t ranges_lower(const struct weir__range *ranges, size_t count, struct weir__range range)
{
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (range_before(ranges[middle], range)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Makes room for one more. */
static int
ranges_reserve(struct weir__mem *mem, struct weir__range **ranges, size_t count, size_t *room)
{
    if (count < *room) {
        return 0;
    }
    const size_t more = *room == 0 ? CATALOG_ROOM_MIN : *room * 2;
    struct weir__range *grown =
        weir__mem_alloc(mem, more * sizeof *grown, _Alignof(struct weir__range));
    if (grown == NULL) {
        return -ENOMEM;
    }
    if (count > 0) {
        memcpy(grown, *ranges, count * sizeof *grown);
    }
    weir__mem_free(mem, *ranges, *room * sizeof *grown);
    *ranges = grown;
    *room = more;
    return 0;
}

/* Puts range into its place; makes room first. Under the mutex. */
static int ranges_insert(struct weir__mem *mem,
                         struct weir__range **ranges,
                         size_t *count,
                         size_t *room,
                         struct weir__range range)
{
    const size_t at = ranges_lower(*ranges, *count, range);
    if (at < *count && range_equal((*ranges)[at], range)) {
        return -EEXIST;
    }
    const int error = ranges_reserve(mem, ranges, *count, room);
    if (error != 0) {
        return error;
    }
    memmove(*ranges + at + 1, *ranges + at, (*count - at) * sizeof **ranges);
    (*ranges)[at] = range;
    *count += 1;
    return 0;
}

/* Lets the range at root sink until none below it is larger. */
static void ranges_sink(struct weir__range *ranges, size_t root, size_t count)
{
    const struct weir__range sinking = ranges[root];
    for (size_t child = 2 * root + 1; child < count; child = 2 * root + 1) {
        if (child + 1 < count && range_before(ranges[child], ranges[child + 1])) {
            child++;
        }
        if (!range_before(sinking, ranges[child])) {
            break;
        }
        ranges[root] = ranges[child];
        root = child;
    }
    ranges[root] = sinking;
}

/* A heap sort: libc's qsort may take memory past the seam. */
static void ranges_sort(struct weir__range *ranges, size_t count)
{
    for (size_t root = count / 2; root > 0; root--) {
        ranges_sink(ranges, root - 1, count);
    }
    for (size_t end = count; end > 1; end--) {
        const struct weir__range largest = ranges[0];
        ranges[0] = ranges[end - 1];
        ranges[end - 1] = largest;
        ranges_sink(ranges, 0, end - 1);
    }
}

/* Of a sorted array: each once. Return: how many are left. */
static size_t ranges_unique(struct weir__range *ranges, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || !range_equal(ranges[kept - 1], ranges[i])) {
            ranges[kept] = ranges[i];
            kept++;
        }
    }
    return kept;
}

/* ---- from the directory ---- */

struct catalog_listing {
    struct weir__mem *mem;
    struct weir__range *ranges;
    size_t count;
    size_t room;
};

static int catalog_visit(void *ctx, const char *name)
{
    struct catalog_listing *listing = ctx;
    struct weir__range range;
    if (!weir__segment_name_parse(name, &range.base, &range.end)) {
        return 0; /* foreign, or one of the other files of a log */
    }
    const int error =
        ranges_reserve(listing->mem, &listing->ranges, listing->count, &listing->room);
    if (error == 0) {
        listing->ranges[listing->count] = range;
        listing->count++;
    }
    return error;
}

int weir__catalog_load(struct weir__catalog *catalog,
                       struct weir__dir *dir,
                       struct weir__fault *fault)
{
    struct catalog_listing listing = {.mem = catalog->mem};
    const int error = dir->io->ops->list_dir(dir->io, dir->file, catalog_visit, &listing);
    if (error != 0) {
        weir__mem_free(listing.mem, listing.ranges, listing.room * sizeof *listing.ranges);
        return weir__fault_set(fault,
                               error,
                               ".",
                               UINT64_MAX,
                               UINT64_MAX,
                               "cannot list the log's directory");
    }
    ranges_sort(listing.ranges, listing.count);
    /* A listing may give a name twice while the directory changes under it. */
    listing.count = ranges_unique(listing.ranges, listing.count);
    catalog_lock(catalog);
    struct weir__range *const old_ranges = catalog->ranges;
    const size_t old_room = catalog->room;
    catalog->ranges = listing.ranges;
    catalog->count = listing.count;
    catalog->room = listing.room;
    catalog_unlock(catalog);
    weir__mem_free(catalog->mem, old_ranges, old_room * sizeof *old_ranges);
    return 0;
}

/* ---- questions ---- */

bool weir__catalog_find(struct weir__catalog *catalog, weir_lsn lsn, struct weir__range *range_out)
{
    bool found = false;
    catalog_lock(catalog);
    /* From the last that begins at or below lsn, downwards: where nothing overlaps, the first
     * look decides; in a gap, or with an overlap, the walk goes on, since a longer one may begin
     * further down. */
    size_t at = ranges_lower(catalog->ranges,
                             catalog->count,
                             (struct weir__range){.base = lsn, .end = UINT64_MAX});
    while (at > 0 && !found) {
        at--;
        if (catalog->ranges[at].end > lsn) {
            *range_out = catalog->ranges[at];
            found = true;
        }
    }
    catalog_unlock(catalog);
    return found;
}

bool weir__catalog_next(struct weir__catalog *catalog, weir_lsn lsn, struct weir__range *range_out)
{
    catalog_lock(catalog);
    const size_t at =
        ranges_lower(catalog->ranges, catalog->count, (struct weir__range){.base = lsn, .end = 0});
    const bool found = at < catalog->count;
    if (found) {
        *range_out = catalog->ranges[at];
    }
    catalog_unlock(catalog);
    return found;
}

bool weir__catalog_overlap(struct weir__catalog *catalog,
                           struct weir__range range,
                           struct weir__range *other_out)
{
    bool found = false;
    catalog_lock(catalog);
    for (size_t i = 0; i < catalog->count && catalog->ranges[i].base < range.end && !found; i++) {
        const struct weir__range other = catalog->ranges[i];
        if (other.end > range.base && !range_equal(other, range)) {
            *other_out = other;
            found = true;
        }
    }
    catalog_unlock(catalog);
    return found;
}

int weir__catalog_copy(struct weir__catalog *catalog,
                       struct weir__mem *mem,
                       struct weir__range **ranges_out,
                       size_t *count_out)
{
    int result = 0;
    *ranges_out = NULL;
    *count_out = 0;
    catalog_lock(catalog);
    if (catalog->count > 0) {
        const size_t bytes = catalog->count * sizeof **ranges_out;
        *ranges_out = weir__mem_alloc(mem, bytes, _Alignof(struct weir__range));
        if (*ranges_out == NULL) {
            result = -ENOMEM;
        } else {
            memcpy(*ranges_out, catalog->ranges, bytes);
            *count_out = catalog->count;
        }
    }
    catalog_unlock(catalog);
    return result;
}

size_t weir__catalog_count(struct weir__catalog *catalog)
{
    catalog_lock(catalog);
    const size_t count = catalog->count;
    catalog_unlock(catalog);
    return count;
}

uint64_t weir__catalog_bytes(struct weir__catalog *catalog)
{
    uint64_t bytes = 0;
    catalog_lock(catalog);
    for (size_t i = 0; i < catalog->count; i++) {
        bytes += catalog->ranges[i].end - catalog->ranges[i].base;
    }
    catalog_unlock(catalog);
    return bytes;
}

size_t
weir__catalog_below(struct weir__catalog *catalog, weir_lsn lsn, struct weir__range *lowest_out)
{
    size_t below = 0;
    catalog_lock(catalog);
    for (size_t i = 0; i < catalog->count && catalog->ranges[i].base < lsn; i++) {
        if (catalog->ranges[i].end > lsn) {
            continue;
        }
        if (below == 0 && lowest_out != NULL) {
            *lowest_out = catalog->ranges[i];
        }
        below++;
    }
    catalog_unlock(catalog);
    return below;
}

/* ---- changes ---- */

int weir__catalog_add(struct weir__catalog *catalog, struct weir__range range)
{
    catalog_lock(catalog);
    const int error =
        ranges_insert(catalog->mem, &catalog->ranges, &catalog->count, &catalog->room, range);
    catalog_unlock(catalog);
    return error;
}

bool weir__catalog_remove(struct weir__catalog *catalog, struct weir__range range)
{
    catalog_lock(catalog);
    const size_t at = ranges_lower(catalog->ranges, catalog->count, range);
    const bool found = at < catalog->count && range_equal(catalog->ranges[at], range);
    if (found) {
        memmove(catalog->ranges + at,
                catalog->ranges + at + 1,
                (catalog->count - at - 1) * sizeof *catalog->ranges);
        catalog->count--;
    }
    catalog_unlock(catalog);
    return found;
}
