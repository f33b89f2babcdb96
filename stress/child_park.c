/* SPDX-License-Identifier: Apache-2.0
 * A producer that is stopped inside an append, wherever it is: see child.h.
 *
 * The handler uses system calls only. One thread parks at a time; the trap's state is its own, and
 * the page of the wire is all that it shares. */
#include "child.h"
#include "clock.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PARK_BYTES_MIN = 64 << 10 }; /* a checksum does not look so far ahead */

enum park_state { PARK_NONE = 0, PARK_LAST_PAGE, PARK_FIRST_PAGE, PARK_OVER };

/* All written by the one thread that parks, also from the handler on it. */
static struct {
    uint8_t *room;
    size_t room_bytes;
    size_t page_bytes;
    uint8_t *last;
    volatile enum park_state state;
    struct wire_page *page;
} park;

static void park_fault(int signal_number, siginfo_t *info, void *ctx)
{
    const uint8_t *at = info->si_addr;

    (void)signal_number;
    (void)ctx;
    if (park.state == PARK_LAST_PAGE && at >= park.last && at < park.last + park.page_bytes) {
        park.state = PARK_FIRST_PAGE;
        mprotect(park.last, park.page_bytes, PROT_READ | PROT_WRITE);
        mprotect(park.room, park.page_bytes, PROT_NONE);
        return;
    }
    if (park.state == PARK_FIRST_PAGE && at >= park.room && at < park.room + park.page_bytes) {
        const uint64_t number = wire_get(&park.page->parked) + 1;
        wire_set(&park.page->parked, number);
        while (wire_get(&park.page->park_freed) < number) {
            clock_sleep_ns(CLOCK_NS_PER_MS / 4);
        }
        park.state = PARK_OVER;
        mprotect(park.room, park.page_bytes, PROT_READ | PROT_WRITE);
        return;
    }
    signal(SIGSEGV, SIG_DFL); /* a fault of somebody else: it comes again */
}

uint8_t *park_room(struct wire_page *page, size_t bytes_max)
{
    struct sigaction action = {.sa_sigaction = park_fault, .sa_flags = SA_SIGINFO};

    park.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    park.room_bytes = (bytes_max / park.page_bytes + 2) * park.page_bytes;
    void *room = mmap(NULL,
                      park.room_bytes,
                      PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                      -1,
                      0);
    if (room == MAP_FAILED || sigaction(SIGSEGV, &action, NULL) != 0) {
        return NULL;
    }
    /* A huge page has one protection. */
    (void)madvise(room, park.room_bytes, MADV_NOHUGEPAGE);
    park.page = page;
    park.room = room;
    return park.room;
}

bool park_due(struct wire_page *page, size_t bytes)
{
    return park.room != NULL && bytes >= PARK_BYTES_MIN &&
           wire_get(&page->park_asked) > wire_get(&page->parked);
}

void park_set(size_t bytes)
{
    park.last = park.room + (bytes - 1) / park.page_bytes * park.page_bytes;
    park.state = PARK_LAST_PAGE;
    mprotect(park.last, park.page_bytes, PROT_NONE);
}

bool park_over(void)
{
    const bool stopped = park.state == PARK_OVER;

    mprotect(park.room, park.room_bytes, PROT_READ | PROT_WRITE);
    park.state = PARK_NONE;
    return stopped;
}
