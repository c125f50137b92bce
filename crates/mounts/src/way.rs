//! Which filesystem a path leads to.

use rustix::fs::CWD;

use crate::table::{Mount, Mounts};

/// Links that one path may lead through, as the kernel has it (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Where a path leads, as far as that can be found out without asking a filesystem that is not known to be local.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way<'a> {
    /// The mount on which the path ends; or the first one on the way that is not known to be local.
    pub mount: &'a Mount,
    /// The path from the root directory without links, `.` and `..`, as far as the way was followed; what comes after
    /// is appended as it stands.
    pub path: Vec<u8>,
}

impl Way<'_> {
    /// Whether a call on the path waits for nothing but this machine.
    pub fn is_local(&self) -> bool {
        self.mount.is_local
    }

    /// The path from the root directory of the filesystem: the same for each bind mount that shows it.
    pub fn inside(&self) -> Vec<u8> {
        let below = self.path.strip_prefix(self.mount.point.as_slice()).unwrap_or(&self.path);
        let names = [&self.mount.root, below].into_iter().flat_map(|path| path.split(|byte| *byte == b'/'));
        let names: Vec<&[u8]> = names.filter(|name| !name.is_empty()).collect();
        [b"/", names.join(&b'/').as_slice()].concat()
    }
}

impl Mounts {
    /// Finds where a path leads, through a link at its end, too. A relative path starts in the working directory.
    ///
    /// Components that do not exist, that are no directories or that we must not read are taken as they stand.
    pub fn way(&self, path: &[u8]) -> Way<'_> {
        self.follow(path, true)
    }

    /// Finds where the name at the end of a path stands: a link there is not followed, unless a slash comes after it.
    pub fn way_to_name(&self, path: &[u8]) -> Way<'_> {
        self.follow(path, path.ends_with(b"/"))
    }

    fn follow(&self, path: &[u8], through_last: bool) -> Way<'_> {
        let mut walk = Walk { mounts: self, path: Vec::new(), steps: Vec::new(), todo: Vec::new(), links: 0 };
        walk.prepend(path);
        if !path.starts_with(b"/") {
            // The kernel knows it by heart: no filesystem is asked.
            let here = rustix::process::getcwd(Vec::new()).unwrap_or_default();
            walk.prepend(here.as_bytes());
        }
        while walk.is_local() {
            let Some(name) = walk.todo.pop() else { break };
            walk.enter(&name, through_last || !walk.todo.is_empty());
        }
        walk.finish()
    }
}

/// A path in the middle of being followed.
struct Walk<'a> {
    mounts: &'a Mounts,
    /// Where we are, without links. Empty at the root directory.
    path: Vec<u8>,
    /// For each component of `path`: how long the path was before it, and on which mount it ends.
    steps: Vec<(usize, usize)>,
    /// Components still to be followed, the next one last.
    todo: Vec<Vec<u8>>,
    /// Links followed so far.
    links: usize,
}

impl<'a> Walk<'a> {
    fn place(&self) -> usize {
        self.steps.last().map_or(self.mounts.root(), |&(_, place)| place)
    }

    fn is_local(&self) -> bool {
        self.mounts.at(self.place()).is_local
    }

    fn prepend(&mut self, path: &[u8]) {
        let names = path.split(|&byte| byte == b'/').rev();
        self.todo.extend(names.filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec));
    }

    fn enter(&mut self, name: &[u8], through_link: bool) {
        if name == b".." {
            if let Some((length, _)) = self.steps.pop() {
                self.path.truncate(length);
            }
            return;
        }
        let (length, parent) = (self.path.len(), self.place());
        self.path.push(b'/');
        self.path.extend_from_slice(name);
        let place = self.mounts.topmost(parent, &self.path);
        // A mount point is a directory and no link.
        if place == parent
            && through_link
            && self.links < LINKS_MAX
            && let Ok(target) = rustix::fs::readlinkat(CWD, &self.path, Vec::new())
        {
            self.follow_link(length, target.as_bytes());
        } else {
            self.steps.push((length, place));
        }
    }

    /// Goes on with what a link says, from the directory in which it stands.
    fn follow_link(&mut self, directory_length: usize, target: &[u8]) {
        self.links += 1;
        self.path.truncate(directory_length);
        if target.starts_with(b"/") {
            self.path.clear();
            self.steps.clear();
        }
        self.prepend(target);
    }

    fn finish(mut self) -> Way<'a> {
        let mount = self.mounts.at(self.place());
        while let Some(name) = self.todo.pop() {
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
        }
        if self.path.is_empty() {
            self.path.push(b'/');
        }
        Way { mount, path: self.path }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn bytes(path: &Path) -> &[u8] {
        path.as_os_str().as_bytes()
    }

    /// A table with `/` on ext4 and what else is given: number, number of the mount below, point, type.
    fn mounts(lines: &[(u32, u32, &str, &str)]) -> Mounts {
        let line = |&(id, parent, point, fstype): &(u32, u32, &str, &str)| {
            format!("{id} {parent} 0:{id} / {point} rw shared:1 - {fstype} none rw\n")
        };
        let text: String = [(1, 0, "/", "ext4")].iter().chain(lines).map(line).collect();
        Mounts::parse(text.as_bytes())
    }

    fn id(mounts: &Mounts, path: &str) -> u32 {
        mounts.way(path.as_bytes()).mount.id
    }

    #[test]
    fn a_directory_is_at_the_same_place_inside_of_its_filesystem_by_all_its_mounts() {
        let text = "1 0 0:1 / / rw - ext4 none rw\n2 1 0:1 /data /nowhere/bind rw - ext4 none rw\n";
        let mounts = Mounts::parse(text.as_bytes());
        let inside = |path: &str| mounts.way(path.as_bytes()).inside();
        for (path, expected) in [
            ("/nowhere/bind/a/b", "/data/a/b"),
            ("/nowhere/bind", "/data"),
            ("/data/a", "/data/a"),
            ("/nowhere/bindings", "/nowhere/bindings"),
            ("/", "/"),
        ] {
            assert_eq!(inside(path), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn each_mount_on_another_says_where_it_stands_and_what_it_shows() {
        let text = "1 0 0:1 / / rw - ext4 none rw\n2 1 0:2 /part /mnt rw - xfs none rw\n\
            3 2 0:1 /data /mnt/sub/bind rw - ext4 none rw\n4 2 0:4 / /mnt rw - tmpfs none rw\n";
        let mounts = Mounts::parse(text.as_bytes());
        let place = |way: &Way<'_>| (way.mount.id, String::from_utf8(way.inside()).unwrap());
        let mut all: Vec<_> = mounts.on_others().map(|(at, shown)| (place(&at), place(&shown))).collect();
        all.sort_unstable();
        let expected = [(1, "/mnt", 2, "/part"), (2, "/part", 4, "/"), (2, "/part/sub/bind", 3, "/data")];
        assert_eq!(all, expected.map(|(on, at, id, shown)| ((on, at.to_owned()), (id, shown.to_owned()))));
    }

    #[test]
    fn the_deepest_mount_counts() {
        let table = mounts(&[(2, 1, "/no/a", "tmpfs"), (3, 2, "/no/a/b", "xfs"), (4, 1, "/no/ab", "nfs")]);
        for (path, number) in [
            ("/", 1),
            ("/no", 1),
            ("/no/a", 2),
            ("/no/a/", 2),
            ("//no/./a/x", 2),
            ("/no/a/b", 3),
            ("/no/a/b/c/d", 3),
            ("/no/a/bc", 2),
            ("/no/ab/c", 4),
            ("/no/abc", 1),
            ("/no/a/b/..", 2),
            ("/no/a/b/../../x", 1),
            ("/../no/a", 2),
        ] {
            assert_eq!(id(&table, path), number, "{path}");
        }
    }

    #[test]
    fn of_mounts_on_one_point_the_last_wins() {
        let table = mounts(&[(7, 1, "/no/a", "tmpfs"), (5, 7, "/no/a", "nfs"), (6, 5, "/no/a", "xfs")]);
        assert_eq!((id(&table, "/no/a"), id(&table, "/no/a/x")), (6, 6));
        let same = mounts(&[(7, 1, "/no/a", "tmpfs"), (8, 1, "/no/a", "xfs")]);
        assert_eq!(id(&same, "/no/a/x"), 8);
        let roots = Mounts::parse(b"1 1 0:1 / / rw - rootfs a rw\n2 1 8:1 / / rw - ext4 b rw\n");
        assert_eq!(roots.way(b"/no").mount.id, 2);
    }

    #[test]
    fn what_another_mount_hides_is_not_found() {
        let table = mounts(&[(2, 1, "/no/a/b", "nfs"), (3, 1, "/no/a", "tmpfs")]);
        assert_eq!((id(&table, "/no/a/b"), id(&table, "/no/a/b/c")), (3, 3));
    }

    #[test]
    fn the_way_ends_at_what_is_not_known_to_be_local() {
        let table = mounts(&[(2, 1, "/no/a", "fuse.sshfs"), (3, 2, "/no/a/b", "tmpfs")]);
        let way = table.way(b"/no/a/b/../c");
        assert_eq!((way.mount.id, way.is_local()), (2, false));
        assert_eq!(way.path, b"/no/a/b/../c");
        assert!(table.way(b"/no").is_local());
    }

    #[test]
    fn without_a_line_about_the_root_nothing_is_known_to_be_local() {
        let table = Mounts::parse(b"36 35 8:1 / /no/a rw - ext4 /dev/a rw\n");
        assert!(!table.way(b"/x").is_local() && !table.way(b"/no/a/x").is_local());
        assert!(!Mounts::parse(b"").way(b"/").is_local());
    }

    #[test]
    fn links_are_followed_as_the_kernel_does() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        for name in ["a/b", "c"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
        }
        symlink("../c", top.join("a/relative")).unwrap();
        symlink(top.join("a/b"), top.join("absolute")).unwrap();
        symlink("absolute/../relative", top.join("twice")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        symlink("gone/x", top.join("dangling")).unwrap();
        let table = mounts(&[]);
        for (path, leads_to) in [
            ("a/relative", "c"),
            ("a/relative/x", "c/x"),
            ("absolute", "a/b"),
            ("absolute/..", "a"),
            ("twice/y", "c/y"),
            ("dangling/y", "gone/x/y"),
            ("c/no/y", "c/no/y"),
        ] {
            let way = table.way(bytes(&top.join(path)));
            assert_eq!(way.path, bytes(&top.join(leads_to)), "{path}");
        }
        assert_eq!(table.way_to_name(bytes(&top.join("absolute"))).path, bytes(&top.join("absolute")));
        assert_eq!(table.way_to_name(bytes(&top.join("absolute/"))).path, bytes(&top.join("a/b")));
        assert_eq!(
            table.way_to_name(bytes(&top.join("absolute/relative"))).path,
            bytes(&top.join("a/b/relative"))
        );
        let in_loop = table.way(bytes(&top.join("loop/x")));
        assert!(in_loop.path.starts_with(bytes(&top)), "it ends");
    }

    #[test]
    fn a_link_beyond_a_server_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("server")).unwrap();
        symlink("/", top.join("server/link")).unwrap();
        symlink("server/link", top.join("to_server")).unwrap();
        let point = top.join("server").to_str().unwrap().to_owned();
        let table = mounts(&[(2, 1, &point, "nfs4")]);
        for path in ["server/link/x", "to_server/x"] {
            let way = table.way(bytes(&top.join(path)));
            assert_eq!((way.mount.id, way.path), (2, bytes(&top.join("server/link/x")).to_vec()), "{path}");
        }
    }

    #[test]
    fn a_relative_path_starts_in_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        let table = mounts(&[]);
        assert_eq!(table.way(b"no_such/x").path, table.way(bytes(&here.join("no_such/x"))).path);
    }
}
