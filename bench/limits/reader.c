/* Limit of intake and of set-up: watches a tree recursively for all 12 events, then reads eagerly and counts.
 *
 *     reader DIR         until SIGTERM, then prints "EVENTS OVERFLOWS"
 *
 * It keeps the full path of each watch, as a straightforward program does, and joins it with the name of each event;
 * it does nothing with the result. */
#define _GNU_SOURCE
#include "events.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>

enum { LIST_BYTES = 64 * 1024, PATH_BYTES = 4096 };

struct entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

struct watches {
    char **path_of;
    size_t room;
    size_t count;
};

struct count {
    struct watches *watches;
    uint64_t events;
    uint64_t overflows;
    uint64_t path_bytes;
};

static void remember(struct watches *watches, int wd, const char *path) {
    if ((size_t)wd >= watches->room) {
        watches->room = (size_t)wd * 2 + 64;
        watches->path_of = realloc(watches->path_of, watches->room * sizeof *watches->path_of);
        if (!watches->path_of)
            die("no memory for", path);
    }
    watches->path_of[wd] = strdup(path);
    watches->count++;
}

static void watch_tree(int inotify, struct watches *watches, char *path, size_t length);

static void watch_children(int inotify, struct watches *watches, int dir, char *path, size_t length) {
    char list[LIST_BYTES] __attribute__((aligned(8)));
    long got;
    while ((got = syscall(SYS_getdents64, dir, list, sizeof list)) > 0) {
        for (char *at = list; at < list + got;) {
            struct entry *entry = (struct entry *)at;
            at += entry->length;
            if (entry->type != DT_DIR || !strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
                continue;
            size_t name_length = strlen(entry->name);
            path[length] = '/';
            memcpy(path + length + 1, entry->name, name_length + 1);
            watch_tree(inotify, watches, path, length + 1 + name_length);
        }
    }
}

static void watch_tree(int inotify, struct watches *watches, char *path, size_t length) {
    int wd = inotify_add_watch(inotify, path, IN_ALL_EVENTS | IN_ONLYDIR | IN_DONT_FOLLOW);
    if (wd < 0)
        die("cannot watch", path);
    remember(watches, wd, path);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0)
        die("cannot open", path);
    watch_children(inotify, watches, dir, path, length);
    close(dir);
    path[length] = 0;
}

static int count_event(const struct inotify_event *event, void *state) {
    struct count *count = state;
    if (event->mask & IN_Q_OVERFLOW) {
        count->overflows++;
        return 1;
    }
    char path[PATH_BYTES];
    const char *dir = count->watches->path_of[event->wd];
    size_t length = strlen(dir);
    memcpy(path, dir, length);
    path[length] = '/';
    if (event->len)
        length += strlen(strcpy(path + length + 1, event->name)) + 1;
    count->path_bytes += length;
    count->events++;
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    int inotify = inotify_init1(IN_CLOEXEC);
    if (inotify < 0)
        die("cannot make an inotify instance for", argv[1]);
    read_until_term(inotify);
    struct watches watches = {0};
    char path[PATH_BYTES];
    strcpy(path, argv[1]);
    watch_tree(inotify, &watches, path, strlen(path));
    dprintf(2, READY " '%s'\n", argv[1]);
    struct count count = {.watches = &watches};
    read_events(inotify, count_event, &count);
    printf("%lu %lu\n", count.events, count.overflows);
    return 0;
}
