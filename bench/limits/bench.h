/* What every C program of the benchmark needs: die, clock, number parsing, whole-buffer output. */
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The line that every program of the benchmark prints when it is ready, so that one piece of Python waits for all. */
#define READY "start listening for inotify events on"

static inline _Noreturn void die(const char *what, const char *path) {
    fprintf(stderr, "%s '%s': %s\n", what, path, strerror(errno));
    exit(1);
}

static inline int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static inline void sleep_until_ns(int64_t deadline) {
    struct timespec at = {.tv_sec = deadline / 1000000000LL, .tv_nsec = deadline % 1000000000LL};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
    }
}

static inline long number(const char *text) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || end == text || value < 0) {
        fprintf(stderr, "not a number: '%s'\n", text);
        exit(2);
    }
    return value;
}

#endif
