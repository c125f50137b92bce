//! Directories: whole trees, merged trees, very deep and very wide ones, random ones.

use super::*;
use crate::sys::fault;

fn sample(scene: &Scene) {
    scene.write("in/d/f", "one");
    scene.write("in/d/a/b/g", "two");
    scene.set_mode("in/d/a/b/g", 0o604);
    fs::create_dir(scene.path("in/d/empty")).unwrap();
    scene.set_mode("in/d/empty", 0o1711);
    scene.link("f", "in/d/link");
}

#[test]
fn a_tree_is_moved_across_filesystems_as_it_is() {
    let Some(scene) = Scene::across() else { return };
    sample(&scene);
    if is_root() {
        scene.set_owner("in/d/a", STRANGER);
        scene.set_owner("in/d/link", STRANGER);
    }
    let before = scene.tree("in/d");
    let time = mtime(&scene.path("in/d/a/b"));
    let outcome = scene.act(&rule(Action::Move), "in/d", "out/d");
    assert_eq!(outcome.done().bytes, 6);
    assert_eq!(outcome.records, ["move 'in/d' to 'out/d'"]);
    assert_eq!(scene.tree("out/d"), before);
    assert_eq!(mtime(&scene.path("out/d/a/b")), time);
    if rustix::process::geteuid().is_root() {
        assert_eq!(scene.owner("out/d/a").0, STRANGER);
        assert_eq!(scene.owner("out/d/link").0, STRANGER);
    }
    assert!(!scene.exists("in/d"));
    assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
}

#[test]
fn a_moved_tree_gets_the_modes_of_the_rule() {
    let mut scenes = vec![Scene::new()];
    scenes.extend(Scene::across());
    for scene in scenes {
        sample(&scene);
        scene.write("victim/f", "");
        scene.set_mode("victim/f", 0o600);
        scene.link(scene.path("victim/f"), "in/d/out_of_it");
        let rule = Rule { dirmode: Some(0o750), filemode: Some(0o640), ..rule(Action::Move) };
        let outcome = scene.act(&rule, "in/d", "out/d");
        outcome.done();
        assert_eq!(outcome.records, ["move 'in/d' to 'out/d'", "chmod 0o750"]);
        for (name, mode) in
            [("d", 0o750), ("d/f", 0o640), ("d/a/b", 0o750), ("d/a/b/g", 0o640), ("d/empty", 0o750)]
        {
            assert_eq!(scene.mode(&format!("out/{name}")), mode, "{name}");
        }
        assert_eq!(scene.mode("victim/f"), 0o600);
    }
}

#[test]
fn a_copied_tree_follows_its_own_links_and_ends_in_circles() {
    let scene = Scene::new();
    sample(&scene);
    scene.link("a", "in/d/to_directory");
    scene.link("..", "in/d/a/circle");
    scene.link("nowhere", "in/d/dangling");
    let outcome = scene.act(&rule(Action::Copy), "in/d", "out/d");
    outcome.done();
    assert_eq!(scene.read("out/d/link").unwrap(), b"one");
    assert!(fs::symlink_metadata(scene.path("out/d/link")).unwrap().is_file());
    assert_eq!(scene.read("out/d/to_directory/b/g").unwrap(), b"two");
    assert!(fs::symlink_metadata(scene.path("out/d/a/circle")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(scene.path("out/d/dangling")).unwrap().is_symlink());
    let warnings = outcome.records.iter().filter(|text| text.ends_with("the link itself is copied")).count();
    assert_eq!(warnings, 3, "{:?}", outcome.records);
    assert_eq!((scene.mode("out/d/a/b/g"), scene.mode("out/d/empty")), (0o604, 0o1711));
}

#[test]
fn an_existing_directory_is_merged_into() {
    let scene = Scene::new();
    sample(&scene);
    scene.write("out/d/f", "old");
    scene.write("out/d/kept", "kept");
    scene.write("out/d/a/kept", "kept");
    scene.set_mode("out/d/a", 0o700);
    scene.set_mode("in/d/a", 0o777);
    assert!(
        scene
            .act(&rule(Action::Copy), "in/d", "out/d")
            .error(&scene)
            .contains("'out/d', path already exists")
    );
    scene.act(&overwriting(Action::Copy), "in/d", "out/d").done();
    for (name, content) in [("f", "one"), ("a/b/g", "two"), ("kept", "kept"), ("a/kept", "kept")] {
        assert_eq!(scene.read(&format!("out/d/{name}")).unwrap(), content.as_bytes(), "{name}");
    }
    assert_eq!(scene.mode("out/d/a"), 0o700, "the source does not decide about a directory that was there");
    let inner: Vec<_> = scene.tree("out/d").into_iter().filter(|line| line.contains(".pyinotifyd")).collect();
    assert!(inner.is_empty(), "{inner:?}");
    // What is no directory is in the way of one, and the other way round.
    scene.write("in/e/x/f", "");
    scene.write("out/e/x", "");
    assert!(scene.act(&overwriting(Action::Copy), "in/e", "out/e").error(&scene).contains("[Errno 17]"));
    scene.write("in/g/x", "");
    scene.write("out/g/x/f", "");
    assert!(scene.act(&overwriting(Action::Copy), "in/g", "out/g").error(&scene).contains("[Errno 21]"));
}

#[test]
fn a_copy_that_fails_leaves_nothing_of_a_tree() {
    let scene = Scene::new();
    sample(&scene);
    scene.write("in/d/z/last", vec![0; 10]);
    // The stop comes after the first bytes.
    let (outcome, _) = crate::sys::fault::with(
        Box::new(|_, call| if call == "pwrite" { Err(rustix::io::Errno::NOSPC) } else { Ok(()) }),
        || scene.act(&rule(Action::Copy), "in/d", "out/d"),
    );
    assert!(outcome.error(&scene).starts_with("[Errno 28] No space left on device: 'in/d/"), "{outcome:?}");
    assert_eq!(fs::read_dir(scene.path("out")).unwrap().count(), 0);
}

#[test]
fn trees_of_200_levels_and_of_100_000_entries() {
    const LEVELS: usize = 200;
    const ENTRIES: usize = 100_000;
    let Some(scene) = Scene::across() else { return };
    let mut deep = scene.path("in/deep");
    for level in 0..LEVELS {
        deep.push(format!("level-{level}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f"), "at the bottom").unwrap();
    let before = scene.tree("in/deep");
    scene.act(&rule(Action::Copy), "in/deep", "out/copy").done();
    assert_eq!(scene.tree("out/copy"), before);
    scene.act(&rule(Action::Move), "in/deep", "out/deep").done();
    assert_eq!(scene.tree("out/deep"), before);
    assert!(!scene.exists("in/deep"));
    // Both ends are watched from `in`, so the way back is a copy within the memory filesystem and a deletion.
    for entry in 0..ENTRIES / 100 {
        let directory = scene.path(format!("out/wide/{entry}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..99 {
            fs::File::create(directory.join(format!("{file}"))).unwrap();
        }
    }
    let wide = scene.path("out/wide");
    let destination = scene.path("out/wide2");
    let root = scene.path("out");
    let stop = AtomicBool::new(false);
    let act = |rule: &Rule, source: &Path| {
        let request =
            Request { root: bytes(&root), ..Request::plain(rule, bytes(source), bytes(&destination), &stop) };
        crate::perform(&request, &mut Held::default(), &mut |_| {}).unwrap()
    };
    act(&rule(Action::Copy), &wide);
    let count = |path: &Path| {
        let mut found = Vec::new();
        find(path, &|_| true, &mut found);
        found.len()
    };
    assert_eq!((count(&wide), count(&destination)), (ENTRIES, ENTRIES));
    act(&Rule { rec: true, ..rule(Action::Delete) }, &wide);
    assert!(!wide.exists());
}

/// A generator that a seed makes repeatable: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }

    /// A name of one to twelve bytes, any but `/` and NUL.
    fn name(&mut self) -> PathBuf {
        let length = 1 + self.below(12);
        let bytes: Vec<u8> = (0..length)
            .map(|_| 1 + self.below(255) as u8)
            .map(|b| if b == b'/' { b'_' } else { b })
            .collect();
        if bytes == b"." || bytes == b".." { PathBuf::from("dots") } else { name_of(&bytes) }
    }

    fn tree(&mut self, path: &Path, depth: u32) {
        fs::create_dir_all(path).unwrap();
        for _ in 0..self.below(6) {
            let child = path.join(self.name());
            if fs::symlink_metadata(&child).is_ok() {
                continue;
            }
            match self.below(if depth == 0 { 3 } else { 5 }) {
                0 => std::os::unix::fs::symlink(self.name(), &child).unwrap(),
                1 | 2 => {
                    let content: Vec<u8> = (0..self.below(9_000)).map(|_| self.below(256) as u8).collect();
                    fs::write(&child, content).unwrap();
                    let mode = 0o400 | self.below(0o1000) as u32;
                    fs::set_permissions(&child, fs::Permissions::from_mode(mode)).unwrap();
                }
                _ => self.tree(&child, depth - 1),
            }
        }
        let mode = 0o700 | self.below(0o1000) as u32;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn random_trees_arrive_as_they_were() {
    let seed = std::env::var("FILES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1
    });
    let mut scenes = vec![Scene::new()];
    scenes.extend(Scene::across());
    for scene in scenes {
        let mut random = Random(seed);
        for round in 0..40 {
            let context = format!("FILES_SEED={seed}, round {round}");
            random.tree(&scene.path("in/t"), 4);
            let before = scene.tree("in/t");
            // A move keeps links; a copy may follow them, so those are taken out.
            scene.act(&rule(Action::Move), "in/t", "out/moved").done();
            assert_eq!(scene.tree("out/moved"), before, "{context}");
            let _ = std::process::Command::new("find")
                .arg(scene.path("out/moved"))
                .args(["-type", "l", "-delete"])
                .status();
            fs::rename(scene.path("out/moved"), scene.path("out/again")).unwrap();
            let before = scene.tree("out/again");
            let (source, destination) = (scene.path("out/again"), scene.path("out/copied"));
            let stop = AtomicBool::new(false);
            let root = scene.path("out");
            let rule = rule(Action::Copy);
            let request = Request {
                root: bytes(&root),
                trusted_len: 0,
                ..Request::plain(&rule, bytes(&source), bytes(&destination), &stop)
            };
            crate::perform(&request, &mut Held::default(), &mut |_| {})
                .unwrap_or_else(|error| panic!("{error}; {context}"));
            assert_eq!(scene.tree("out/copied"), before, "{context}");
            for name in ["out/again", "out/copied"] {
                fs::remove_dir_all(scene.path(name)).unwrap();
            }
        }
    }
}

#[test]
fn trees_are_the_same_where_listings_say_nothing_of_kinds() {
    fault::without_kinds(|| {
        for rule in [rule(Action::Copy), overwriting(Action::Copy)] {
            let scene = Scene::new();
            sample(&scene);
            if rule.on_conflict == Conflict::Overwrite {
                fs::create_dir_all(scene.path("out/d")).unwrap();
            }
            scene.act(&rule, "in/d", "out/d").done();
            assert_eq!(scene.tree("out/d").len(), scene.tree("in/d").len());
        }
        let scene = Scene::new();
        sample(&scene);
        scene.act(&Rule { rec: true, ..rule(Action::Delete) }, "in/d", "").done();
        assert!(!scene.exists("in/d"));
        let scene = Scene::new();
        sample(&scene);
        let modes = Rule { dirmode: Some(0o705), filemode: Some(0o604), ..rule(Action::Move) };
        scene.act(&modes, "in/d", "out/d").done();
        assert_eq!((scene.mode("out/d/a/b"), scene.mode("out/d/a/b/g")), (0o705, 0o604));
        let Some(scene) = Scene::across() else { return };
        sample(&scene);
        let before = scene.tree("in/d");
        scene.act(&rule(Action::Move), "in/d", "out/d").done();
        assert!(!scene.exists("in/d"));
        assert_eq!(scene.tree("out/d").len(), before.len());
    });
}

#[test]
fn a_deletion_stops_when_it_is_told_to_and_changes_nothing_else() {
    let scene = Scene::new();
    scene.write("in/d/sub/f", "kept");
    scene.set_mode("in/d", 0o755);
    let (root, path) = (scene.path("in"), scene.path("in/d"));
    let (rule, stop) = (Rule { rec: true, ..rule(Action::Delete) }, AtomicBool::new(true));
    let request = Request { root: bytes(&root), ..Request::plain(&rule, bytes(&path), b"", &stop) };
    let result = crate::perform(&request, &mut Held::default(), &mut |_| {});
    assert!(matches!(result, Err(Error::Stopped { .. })), "{result:?}");
    assert_eq!((scene.read("in/d/sub/f").unwrap(), scene.mode("in/d")), (b"kept".to_vec(), 0o755));
}

#[test]
fn what_is_gone_before_it_is_removed_is_as_good_as_removed() {
    let scene = std::rc::Rc::new(Scene::new());
    scene.write("in/d/f", "gone");
    let victim = scene.path("in/d/f");
    let vanish: fault::Plan = Box::new(move |_, call| {
        if call == "unlinkat" {
            let _ = fs::remove_file(&victim);
        }
        Ok(())
    });
    let rule = Rule { rec: true, ..rule(Action::Delete) };
    fault::with(vanish, || scene.act(&rule, "in/d", "")).0.done();
    assert!(!scene.exists("in/d"));
}
