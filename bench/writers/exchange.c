/* Exchanges two entries of one directory again and again, as fast as it goes, until SIGTERM.
 *
 *     exchange DIR ONE OTHER
 *
 * Prints how often. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t stopped;

static void stop(int signal) {
    (void)signal;
    stopped = 1;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    int dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        die("cannot open", argv[1]);
    signal(SIGTERM, stop);
    long times = 0;
    for (; !stopped; times++)
        if (renameat2(dir, argv[2], dir, argv[3], RENAME_EXCHANGE) < 0)
            die("cannot exchange", argv[2]);
    printf("%ld\n", times);
    return 0;
}
