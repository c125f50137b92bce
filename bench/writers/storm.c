/* A storm: makes, writes, closes and removes one file after the other. Five events a file: create, open, modify,
 * close_write, delete.
 *
 *     storm DIR FILES RATE SECONDS
 *
 * FILES 0: without end; RATE 0: as fast as it goes, otherwise files a second; SECONDS 0: no limit. Ends at the first
 * limit or at SIGTERM and prints "FILES NANOSECONDS". Names are never used twice in one run. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <signal.h>

/* A paced storm works in slices of this length: the timer of the kernel is good to some 50 µs. */
enum { SLICE_NS = 1000000 };

static volatile sig_atomic_t stopped;

static void stop(int signal) {
    (void)signal;
    stopped = 1;
}

static void make_and_remove(int dir, long index) {
    char name[32];
    snprintf(name, sizeof name, "f%ld", index);
    int file = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file < 0 || write(file, "x", 1) != 1)
        die("cannot write", name);
    close(file);
    if (unlinkat(dir, name, 0) < 0)
        die("cannot remove", name);
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    long files = number(argv[2]), rate = number(argv[3]), seconds = number(argv[4]);
    int dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        die("cannot open", argv[1]);
    signal(SIGTERM, stop);
    int64_t start = now_ns(), end = seconds ? start + seconds * 1000000000LL : INT64_MAX;
    long made = 0;
    while (!stopped && (!files || made < files)) {
        int64_t now = now_ns();
        if (now >= end)
            break;
        if (rate && (double)made > (double)(now - start) * (double)rate / 1e9) {
            sleep_until_ns(now + SLICE_NS);
            continue;
        }
        make_and_remove(dir, made++);
    }
    printf("%ld %lld\n", made, (long long)(now_ns() - start));
    return 0;
}
