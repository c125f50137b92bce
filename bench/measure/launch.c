/* Starts a program inside a cgroup and says when.
 *
 *     launch PROCS|- DESCRIPTOR PROGRAM ARGUMENT...
 *
 * Moves itself into the cgroup of the file PROCS (cgroup.procs), then writes the monotonic time in nanoseconds to
 * DESCRIPTOR, closes it, and becomes PROGRAM. So neither the interpreter that measures nor the move into the cgroup is
 * on the bill. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    if (strcmp(argv[1], "-")) {
        int procs = open(argv[1], O_WRONLY | O_CLOEXEC);
        /* What it used so far is put to its account when it next sleeps: now, before the account is another one. */
        sleep_until_ns(now_ns() + 1000000);
        if (procs < 0 || write(procs, "0", 1) != 1)
            die("cannot join", argv[1]);
        close(procs);
    }
    int descriptor = (int)number(argv[2]);
    dprintf(descriptor, "%lld\n", (long long)now_ns());
    close(descriptor);
    execvp(argv[3], argv + 3);
    die("cannot run", argv[3]);
}
