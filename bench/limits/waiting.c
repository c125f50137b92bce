/* Limit of waiting tasks: keeps each path with an event under a hash table with a deadline, and never runs anything.
 *
 *     waiting DIR        until SIGTERM, then prints "TASKS EVENTS"
 *
 * Open addressing over pointers to one allocation a task {deadline, id, path}; an event for a known path sets its
 * deadline anew. */
#define _GNU_SOURCE
#include "events.h"

enum { PATH_BYTES = 4096, SLOTS_FIRST = 1024, DELAY_NS = 1000000000 };

struct task {
    int64_t deadline;
    uint64_t id[2];
    uint32_t hash;
    char path[];
};

struct table {
    struct task **slots;
    uint32_t room;
    uint32_t count;
    uint64_t events;
    const char *dir;
};

static uint32_t hash_of(const char *path) {
    uint64_t hash = 1469598103934665603ULL;
    for (; *path; path++)
        hash = (hash ^ (unsigned char)*path) * 1099511628211ULL;
    return (uint32_t)(hash >> 32 ^ hash);
}

static struct task **slot_of(struct table *table, const char *path, uint32_t hash) {
    for (uint32_t at = hash & (table->room - 1);; at = (at + 1) & (table->room - 1)) {
        struct task *task = table->slots[at];
        if (!task || (task->hash == hash && !strcmp(task->path, path)))
            return &table->slots[at];
    }
}

static void grow(struct table *table) {
    struct table larger = {.room = table->room ? table->room * 2 : SLOTS_FIRST};
    larger.slots = calloc(larger.room, sizeof *larger.slots);
    if (!larger.slots)
        die("no memory for", "tasks");
    for (uint32_t at = 0; at < table->room; at++)
        if (table->slots[at])
            *slot_of(&larger, table->slots[at]->path, table->slots[at]->hash) = table->slots[at];
    free(table->slots);
    table->slots = larger.slots;
    table->room = larger.room;
}

static struct task *make(const char *path, uint32_t hash) {
    struct task *task = malloc(sizeof *task + strlen(path) + 1);
    if (!task)
        die("no memory for", path);
    strcpy(task->path, path);
    task->hash = hash;
    return task;
}

static int schedule_event(const struct inotify_event *event, void *state) {
    struct table *table = state;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", table->dir, event->len ? event->name : "");
    if (table->count >= table->room / 4 * 3)
        grow(table);
    uint32_t hash = hash_of(path);
    struct task **slot = slot_of(table, path, hash);
    if (!*slot) {
        *slot = make(path, hash);
        table->count++;
    }
    (*slot)->deadline = now_ns() + DELAY_NS;
    table->events++;
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    struct table table = {.dir = argv[1]};
    int inotify = inotify_init1(IN_CLOEXEC);
    read_until_term(inotify);
    if (inotify_add_watch(inotify, argv[1], IN_CREATE | IN_MODIFY | IN_MOVED_TO) < 0)
        die("cannot watch", argv[1]);
    dprintf(2, READY " '%s'\n", argv[1]);
    read_events(inotify, schedule_event, &table);
    printf("%u %lu\n", table.count, table.events);
    return 0;
}
