/* Makes a tree of directories: WIDTH directories in ROOT, each with DEPTH_WIDTH directories in it.
 *
 *     tree ROOT WIDTH DEPTH_WIDTH
 *
 * ROOT must exist. With 1000 and 100 there are 101,000 directories below it. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <sys/stat.h>

static int make_dir(int parent, char letter, long index) {
    char name[32];
    snprintf(name, sizeof name, "%c%ld", letter, index);
    if (mkdirat(parent, name, 0755) < 0)
        die("cannot make", name);
    return letter == 'd' ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    long width = number(argv[2]), inner = number(argv[3]);
    int root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        die("cannot open", argv[1]);
    for (long outer = 0; outer < width; outer++) {
        int dir = make_dir(root, 'd', outer);
        for (long index = 0; index < inner; index++)
            make_dir(dir, 'e', index);
        close(dir);
    }
    return 0;
}
