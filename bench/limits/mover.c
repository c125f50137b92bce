/* Limit of a file rule: moves or copies each file that arrives in SOURCE to TARGET under the same name.
 *
 *     mover move|copy SOURCE TARGET [ELSEWHERE]        until SIGTERM
 *
 * Events of the directory ELSEWHERE are read and ignored: a storm that is none of the rule's business.
 * A copy is the plain one: open, create, read, write, close; no temporary name, no fsync, no attributes but the mode.
 * No pattern is matched. */
#define _GNU_SOURCE
#include "events.h"
#include <fcntl.h>
#include <sys/stat.h>

enum { COPY_BYTES = 64 * 1024 };

struct directories {
    int source;
    int target;
    int wd;
};

static void copy(const struct directories *at, const char *name) {
    static char buffer[COPY_BYTES];
    int from = openat(at->source, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat stat;
    if (from < 0 || fstat(from, &stat) < 0)
        die("cannot open", name);
    int to = openat(at->target, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, stat.st_mode & 07777);
    if (to < 0)
        die("cannot create", name);
    ssize_t got;
    while ((got = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, (size_t)got) != got)
            die("cannot write", name);
    close(to);
    close(from);
}

static int copy_event(const struct inotify_event *event, void *state) {
    const struct directories *at = state;
    if (event->wd == at->wd)
        copy(at, event->name);
    return 1;
}

static int move_event(const struct inotify_event *event, void *state) {
    const struct directories *at = state;
    if (event->wd == at->wd &&
        renameat2(at->source, event->name, at->target, event->name, RENAME_NOREPLACE) < 0)
        die("cannot move", event->name);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5)
        return 2;
    struct directories at = {
        .source = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .target = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC),
    };
    if (at.source < 0 || at.target < 0)
        die("cannot open", argv[2]);
    int inotify = inotify_init1(IN_CLOEXEC);
    at.wd = inotify_add_watch(inotify, argv[2], IN_CLOSE_WRITE | IN_MOVED_TO);
    if (at.wd < 0)
        die("cannot watch", argv[2]);
    if (argc == 5 && inotify_add_watch(inotify, argv[4], IN_CLOSE_WRITE | IN_MOVED_TO) < 0)
        die("cannot watch", argv[4]);
    dprintf(2, READY " '%s'\n", argv[2]);
    read_events(inotify, strcmp(argv[1], "copy") ? move_event : copy_event, &at);
    return 0;
}
