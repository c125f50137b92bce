/* Makes and changes many files, as fast as the kernel does it. Files are called NAME0, NAME1, … ; FIRST and COUNT say
 * which of them.
 *
 *     files make DIR NAME FIRST COUNT BYTES     new files with BYTES bytes of content that depends on the file
 *     files move DIR NAME FIRST COUNT TARGET    renames them into the directory TARGET: one event each there
 *     files touch DIR NAME FIRST COUNT          opens them for writing and closes them: two events each
 *     files modify DIR NAME FIRST COUNT TIMES   opens them all, then writes a byte to each in turn, TIMES writes in all
 *
 * Prints the nanoseconds that it took. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <sys/resource.h>

enum { CONTENT_BYTES_MAX = 1 << 20 };

struct files {
    int dir;
    const char *name;
    long first;
    long count;
};

static const char *name_of(const struct files *files, long index) {
    static char name[256];
    snprintf(name, sizeof name, "%s%ld", files->name, files->first + index);
    return name;
}

static int open_one(const struct files *files, long index, int flags) {
    int file = openat(files->dir, name_of(files, index), flags | O_WRONLY | O_CLOEXEC, 0644);
    if (file < 0)
        die("cannot open", name_of(files, index));
    return file;
}

static void make(const struct files *files, long bytes) {
    static char content[CONTENT_BYTES_MAX];
    if (bytes > CONTENT_BYTES_MAX)
        exit(2);
    memset(content, '.', (size_t)bytes);
    for (long index = 0; index < files->count; index++) {
        int file = open_one(files, index, O_CREAT | O_EXCL);
        int written = snprintf(content, sizeof content, "%s\n", name_of(files, index));
        if (bytes > written)
            content[written] = '.';
        if (write(file, content, (size_t)bytes) != bytes)
            die("cannot write", name_of(files, index));
        close(file);
    }
}

static void move(const struct files *files, const char *target) {
    int to = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (to < 0)
        die("cannot open", target);
    for (long index = 0; index < files->count; index++) {
        const char *name = name_of(files, index);
        if (renameat(files->dir, name, to, name) < 0)
            die("cannot move", name);
    }
}

static void touch(const struct files *files) {
    for (long index = 0; index < files->count; index++)
        close(open_one(files, index, 0));
}

static int *open_all(const struct files *files) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int *open = malloc((size_t)files->count * sizeof *open);
    for (long index = 0; open && index < files->count; index++)
        open[index] = open_one(files, index, 0);
    return open;
}

int main(int argc, char **argv) {
    if (argc < 6)
        return 2;
    const char *what = argv[1];
    struct files files = {
        .dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .name = argv[3],
        .first = number(argv[4]),
        .count = number(argv[5]),
    };
    if (files.dir < 0)
        die("cannot open", argv[2]);
    int *opened = strcmp(what, "modify") ? NULL : open_all(&files);
    int64_t start = now_ns();
    if (!strcmp(what, "make") && argc == 7)
        make(&files, number(argv[6]));
    else if (!strcmp(what, "move") && argc == 7)
        move(&files, argv[6]);
    else if (!strcmp(what, "touch") && argc == 6)
        touch(&files);
    else if (opened && argc == 7)
        for (long write_index = 0, times = number(argv[6]); write_index < times; write_index++) {
            if (pwrite(opened[write_index % files.count], "x", 1, 0) != 1)
                die("cannot write", name_of(&files, write_index % files.count));
        }
    else
        return 2;
    printf("%lld\n", (long long)(now_ns() - start));
    return 0;
}
