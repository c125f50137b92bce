/* Limit of commands: `/bin/sh -c "COMMAND 'PATH'"` for each file that arrives in DIR, a bounded number at once.
 *
 *     spawner DIR COMMAND JOBS_MAX        until SIGTERM
 *
 * posix_spawn (vfork semantics), own process group for each command, as the daemon does. */
#define _GNU_SOURCE
#include "events.h"
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

enum { COMMAND_BYTES = 4096 };

struct spawner {
    const char *dir;
    const char *command;
    long jobs_max;
    long running;
    posix_spawnattr_t attributes;
};

static void reap(struct spawner *spawner, int options) {
    while (spawner->running > 0 && waitpid(-1, NULL, options) > 0) {
        spawner->running--;
        options = WNOHANG;
    }
}

static int spawn_event(const struct inotify_event *event, void *state) {
    struct spawner *spawner = state;
    reap(spawner, spawner->running >= spawner->jobs_max ? 0 : WNOHANG);
    char command[COMMAND_BYTES];
    snprintf(command, sizeof command, "%s '%s/%s'", spawner->command, spawner->dir, event->name);
    char *const arguments[] = {"sh", "-c", command, NULL};
    pid_t child;
    if (posix_spawn(&child, "/bin/sh", NULL, &spawner->attributes, arguments, environ))
        die("cannot run", command);
    spawner->running++;
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    struct spawner spawner = {.dir = argv[1], .command = argv[2], .jobs_max = number(argv[3])};
    posix_spawnattr_init(&spawner.attributes);
    posix_spawnattr_setflags(&spawner.attributes, POSIX_SPAWN_SETPGROUP);
    int inotify = inotify_init1(IN_CLOEXEC);
    if (inotify_add_watch(inotify, argv[1], IN_CLOSE_WRITE | IN_MOVED_TO) < 0)
        die("cannot watch", argv[1]);
    /* Children that end after the last event stay zombies until SIGTERM: their work and their CPU time are done. */
    dprintf(2, READY " '%s'\n", argv[1]);
    read_events(inotify, spawn_event, &spawner);
    return 0;
}
