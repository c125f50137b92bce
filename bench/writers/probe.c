/* Latency: makes a small file, closes it, and takes the time until the daemon has done its work on it.
 *
 *     probe file DIR TARGET COUNT GAP_US      work = a file of the same name is in the directory TARGET
 *     probe byte DIR FIFO COUNT GAP_US        work = one byte comes out of FIFO (which exists)
 *
 * COUNT 0: until SIGTERM. It sleeps until the work is done and so adds a wake-up of its own to every contestant:
 * looking without pause would take the core on which the daemon wants to run. A file that is not there after LOST_NS
 * is lost: -1 is printed, and that is the end. Prints one latency a line, in nanoseconds, and removes what arrived. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>

static const int64_t LOST_NS = 20000000000LL;

static volatile sig_atomic_t stopped;

static void stop(int signal) {
    (void)signal;
    stopped = 1;
}

static int64_t drop(int dir, const char *name) {
    int file = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file < 0 || write(file, "x", 1) != 1)
        die("cannot write", name);
    /* Before the close: the daemon may run, and be done, before close(2) is back. */
    int64_t start = now_ns();
    close(file);
    return start;
}

static int is_there(int dir, const char *name) { return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0; }

static int64_t wait_for(int inotify, int target, const char *name, int64_t deadline) {
    char events[4096];
    while (!is_there(target, name)) {
        int64_t left = deadline - now_ns();
        struct pollfd poll_on = {.fd = inotify, .events = POLLIN};
        if (left <= 0 || poll(&poll_on, 1, (int)(left / 1000000) + 1) == 0)
            return -1;
        if (read(inotify, events, sizeof events) < 0 && errno != EINTR)
            die("cannot read", "inotify");
    }
    return now_ns();
}

static int64_t byte_from(int fifo, int64_t deadline) {
    struct pollfd poll_on = {.fd = fifo, .events = POLLIN};
    int64_t left = deadline - now_ns();
    char byte;
    if (left <= 0 || poll(&poll_on, 1, (int)(left / 1000000) + 1) != 1 || read(fifo, &byte, 1) != 1)
        return -1;
    return now_ns();
}

int main(int argc, char **argv) {
    if (argc != 6)
        return 2;
    int bytes = !strcmp(argv[1], "byte");
    long count = number(argv[4]), gap_us = number(argv[5]);
    int dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int target = open(argv[3], bytes ? O_RDWR | O_CLOEXEC : O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || target < 0)
        die("cannot open", dir < 0 ? argv[2] : argv[3]);
    int inotify = inotify_init1(IN_CLOEXEC);
    if (!bytes && inotify_add_watch(inotify, argv[3], IN_MOVED_TO | IN_CREATE) < 0)
        die("cannot watch", argv[3]);
    /* Nobody may read the pipe before the end, and a full one would stop the measurement. */
    static char values[64 << 20];
    setvbuf(stdout, values, _IOFBF, sizeof values);
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    for (long index = 0; !stopped && (!count || index < count); index++) {
        char name[32];
        snprintf(name, sizeof name, "p%ld", index);
        int64_t start = drop(dir, name), deadline = start + LOST_NS;
        int64_t end = bytes ? byte_from(target, deadline) : wait_for(inotify, target, name, deadline);
        printf("%lld\n", end < 0 ? -1LL : (long long)(end - start));
        if (end < 0)
            break;
        unlinkat(bytes ? dir : target, name, 0);
        sleep_until_ns(now_ns() + gap_us * 1000);
    }
    return 0;
}
