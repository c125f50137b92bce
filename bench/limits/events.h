/* A blocking, eager reader of an inotify descriptor: the loop that any straightforward C program has. */
#ifndef EVENTS_H
#define EVENTS_H

#include "bench.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/inotify.h>

/* Room for a few thousand events a read; the kernel never fills more than its queue. */
enum { READ_BYTES = 256 * 1024 };

static int reads_until_term = -1;

static void end_reading(int signal) {
    (void)signal;
    /* A read that waits is interrupted; one that comes later must not wait. */
    fcntl(reads_until_term, F_SETFL, O_NONBLOCK);
}

/* Lets read_events() of this descriptor end at SIGTERM, also where that comes before it. */
static inline void read_until_term(int fd) {
    reads_until_term = fd;
    struct sigaction on_term = {.sa_handler = end_reading};
    sigaction(SIGTERM, &on_term, NULL);
}

/* Returns false to stop. */
typedef int (*on_event)(const struct inotify_event *event, void *state);

static inline void read_events(int fd, on_event call, void *state) {
    static char buffer[READ_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));
    for (;;) {
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            return;
        if (got <= 0)
            die("cannot read", "inotify");
        for (char *at = buffer; at < buffer + got;) {
            const struct inotify_event *event = (const struct inotify_event *)at;
            if (!call(event, state))
                return;
            at += sizeof *event + event->len;
        }
    }
}

#endif
