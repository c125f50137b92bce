//! The three actions as a rule asks for them: results, records, texts.

use rustix::io::Errno;

use super::*;
use crate::Kinds;
use crate::sys::fault;

#[test]
fn a_move_is_a_rename() {
    let scene = Scene::new();
    let source = scene.write("in/f", "content");
    let inode = fs::metadata(&source).unwrap().ino();
    let outcome = scene.act(&rule(Action::Move), "in/f", "out/f");
    assert_eq!((outcome.done().bytes, outcome.done().unchanged), (0, false));
    assert_eq!(outcome.done().identity, None, "it was not even looked at");
    assert_eq!(outcome.records, ["move 'in/f' to 'out/f'"]);
    assert!(!scene.exists("in/f"));
    assert_eq!(fs::metadata(scene.path("out/f")).unwrap().ino(), inode);
}

#[test]
fn a_copy_keeps_content_mode_times_and_attributes() {
    let scene = Scene::new();
    let source = scene.write("in/f", "content");
    scene.set_mode("in/f", 0o640);
    let tagged = rustix::fs::setxattr(&source, "user.tag", b"blue", rustix::fs::XattrFlags::empty()).is_ok();
    let outcome = scene.act(&rule(Action::Copy), "in/f", "out/f");
    assert_eq!(outcome.done().bytes, 7);
    assert_eq!(outcome.records, ["copy 'in/f' to 'out/f'"]);
    assert_eq!(scene.read("out/f").unwrap(), b"content");
    assert_eq!(scene.mode("out/f"), 0o640);
    assert_eq!(mtime(&source), mtime(&scene.path("out/f")));
    let mut value = [0; 16];
    if tagged {
        let length = rustix::fs::getxattr(scene.path("out/f"), "user.tag", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"blue");
    }
    assert!(scene.exists("in/f"));
    assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
}

#[test]
fn sizes_around_every_threshold_are_copied_whole() {
    let mut scenes = vec![Scene::new()];
    scenes.extend(Scene::across());
    for scene in scenes {
        for size in [0, 1, 4096, 65_535, 65_536, 65_537, 262_143, 262_145, 17 * 1024 * 1024 + 3] {
            let content: Vec<u8> = (0..size).map(|index: u32| (index / 7) as u8).collect();
            scene.write("in/f", &content);
            let outcome = scene.act(&overwriting(Action::Copy), "in/f", "out/f");
            assert_eq!(outcome.done().bytes, u64::from(size));
            assert!(scene.read("out/f").unwrap() == content, "{size} bytes");
        }
    }
}

#[test]
fn a_taken_name_is_an_error_without_overwrite() {
    for action in [Action::Move, Action::Copy] {
        let scene = Scene::new();
        scene.write("in/f", "new");
        scene.write("out/f", "old");
        let outcome = scene.act(&rule(action), "in/f", "out/f");
        let text = format!(
            "unable to {action} file from 'in/f' to 'out/f', path already exists; set overwrite=True or \
             on_conflict=\"skip\", \"rename\", \"newer\" or \"same\""
        );
        assert_eq!(outcome.error(&scene), text);
        assert!(outcome.records.is_empty(), "{:?}", outcome.records);
        assert_eq!(
            (scene.read("in/f").unwrap(), scene.read("out/f").unwrap()),
            (b"new".into(), b"old".into())
        );
        scene.act(&overwriting(action), "in/f", "out/f").done();
        assert_eq!(scene.read("out/f").unwrap(), b"new");
        assert_eq!(scene.exists("in/f"), action == Action::Copy);
    }
}

#[test]
fn os_errors_have_the_form_of_python() {
    let scene = Scene::new();
    scene.write("in/f", "");
    scene.write("in/d/f", "");
    scene.write("out/d/f", "");
    fs::create_dir(scene.path("out/empty")).unwrap();
    let cases = [
        (rule(Action::Move), "in/none", "out/f", "[Errno 2] No such file or directory: 'in/none' -> 'out/f'"),
        (rule(Action::Copy), "in/none", "out/f", "[Errno 2] No such file or directory: 'in/none'"),
        (rule(Action::Delete), "in/none", "", "[Errno 2] No such file or directory: 'in/none'"),
        (overwriting(Action::Move), "in/f", "out/d", "[Errno 21] Is a directory: 'in/f' -> 'out/d'"),
        (overwriting(Action::Move), "in/d", "out/d", "[Errno 39] Directory not empty: 'in/d' -> 'out/d'"),
        (rule(Action::Move), "in/d", "in/d/inner", "[Errno 22] Invalid argument: 'in/d' -> 'in/d/inner'"),
        (rule(Action::Delete), "in/d", "", "[Errno 39] Directory not empty: 'in/d'"),
        (overwriting(Action::Copy), "in/f", "in/f", "'in/f' and 'in/f' are the same file"),
        (
            rule(Action::Copy),
            "in/d",
            "in/d/inner",
            "unable to copy directory 'in/d' into itself, to 'in/d/inner'",
        ),
    ];
    let before = (scene.tree("in"), scene.tree("out"));
    for (rule, source, destination, text) in cases {
        let outcome = scene.act(&rule, source, destination);
        assert_eq!(outcome.error(&scene), text);
        assert_eq!(outcome.records, [] as [&str; 0], "what was not done is not said");
    }
    assert_eq!((scene.tree("in"), scene.tree("out")), before);
    scene.act(&overwriting(Action::Move), "in/d", "out/empty").done();
    assert!(scene.exists("out/empty/f"), "an empty directory is replaced");
}

#[test]
fn only_what_is_of_a_wanted_kind_is_acted_on() {
    let scene = Scene::new();
    let (files, directories) =
        (Kinds { directories: false, ..Kinds::ALL }, Kinds { files: false, ..Kinds::ALL });
    for action in [Action::Move, Action::Copy, Action::Delete] {
        scene.write("in/d/f", "");
        scene.write("in/f", "");
        std::os::unix::fs::symlink("d", scene.path("in/link")).unwrap();
        let (root, stop, rule) =
            (scene.path("in"), AtomicBool::new(false), Rule { rec: true, ..rule(action) });
        let act = |name: &str, kinds: Kinds| {
            let (from, to) = (root.join(name), scene.path("out").join(name));
            let to = if action == Action::Delete { &b""[..] } else { bytes(&to) };
            let plain = Request::plain(&rule, bytes(&from), to, &stop);
            scene.perform(&mut Held::default(), &Request { root: bytes(&root), kinds, ..plain })
        };
        for (name, kinds, text) in [
            ("d", files, "is a directory now, and its scheduler takes files alone (dirs=True would take it)"),
            (
                "f",
                directories,
                "is no directory any more, and its scheduler takes directories alone (files=False)",
            ),
        ] {
            let before = (scene.tree("in"), scene.tree("out"));
            let outcome = act(name, kinds);
            assert!(outcome.error(&scene).starts_with(&format!("refused: 'in/{name}' {text}, owned by ")));
            assert_eq!((scene.tree("in"), scene.tree("out"), outcome.records.len()), (before.0, before.1, 0));
        }
        // A link is of each kind, and no more than a name.
        for (name, kinds) in [("link", files), ("f", files), ("d", directories)] {
            act(name, kinds).done();
            assert_eq!(scene.exists(&format!("in/{name}")), action == Action::Copy);
        }
        for name in ["in", "out"] {
            fs::remove_dir_all(scene.path(name)).unwrap();
            fs::create_dir(scene.path(name)).unwrap();
        }
    }
}

#[test]
fn an_empty_destination_is_an_error() {
    let scene = Scene::new();
    let source = scene.write("in/f", "");
    let outcome = scene.request(&rule(Action::Move), &source, b"", 0, None);
    assert_eq!(outcome.error(&scene), "unable to move 'in/f', resulting destination path is empty");
    assert!(outcome.records.is_empty() && scene.exists("in/f"));
}

#[test]
fn auto_create_makes_parents_with_the_modes_of_the_rule() {
    let scene = Scene::new();
    scene.write("in/f", "");
    fs::create_dir(scene.path("out/old")).unwrap();
    scene.set_mode("out/old", 0o700);
    let rule = Rule { auto_create: true, dirmode: Some(0o2750), filemode: Some(0o604), ..rule(Action::Move) };
    let outcome = scene.act(&rule, "in/f", "out/old/a/b/f");
    outcome.done();
    assert_eq!(
        outcome.records,
        [
            "create directory 'out/old/a/b'",
            "chmod 0o2750",
            "chmod 0o2750",
            "move 'in/f' to 'out/old/a/b/f'",
            "chmod 0o604",
        ]
    );
    let modes = ["out/old", "out/old/a", "out/old/a/b", "out/old/a/b/f"].map(|name| scene.mode(name));
    assert_eq!(modes, [0o700, 0o2750, 0o2750, 0o604]);
}

#[test]
fn a_relative_destination_is_below_the_working_directory() {
    let scene = Scene::new();
    scene.write("in/f", "");
    let output = child_test(
        "tests::actions::relative_destination_child",
        ("FILES_TEST_SCENE", scene.base.as_os_str()),
    )
    .current_dir(scene.path("out"))
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(scene.exists("out/a/b/f"));
}

#[test]
fn relative_destination_child() {
    let Some(base) = std::env::var_os("FILES_TEST_SCENE") else { return };
    let scene = std::mem::ManuallyDrop::new(Scene { base: base.into(), other: None });
    let rule = Rule { auto_create: true, ..rule(Action::Move) };
    let outcome = scene.request(&rule, &scene.path("in/f"), b"a/b/f", 2, None);
    outcome.done();
    assert_eq!(outcome.records[0], "create directory 'a/b'");
}

#[test]
fn a_file_over_a_directory_goes_into_it() {
    let scene = Scene::new();
    scene.write("in/f", "new");
    scene.write("out/d/old", "old");
    let rule = Rule { dirmode: Some(0o711), filemode: Some(0o640), ..overwriting(Action::Copy) };
    let before = ["out/d", "out/d/old"].map(|name| scene.mode(name));
    scene.act(&rule, "in/f", "out/d").done();
    assert_eq!(scene.read("out/d/f").unwrap(), b"new");
    assert_eq!((["out/d", "out/d/old"].map(|name| scene.mode(name)), scene.mode("out/d/f")), (before, 0o640));
}

#[test]
fn a_missing_parent_is_named_with_its_remedy() {
    let scene = Scene::new();
    scene.write("in/f", "");
    fs::create_dir_all(scene.path("out/there")).unwrap();
    let cases = [("out/no/f", "out/no"), ("out/no/way/to/f", "out/no"), ("out/there/no/f", "out/there/no")];
    for action in [Action::Move, Action::Copy] {
        for (destination, missing) in cases {
            let outcome = scene.act(&rule(action), "in/f", destination);
            let text = format!(
                "unable to {action} file from 'in/f' to '{destination}', directory '{missing}' does not exist; \
                 set auto_create=True, or mounted= if a filesystem has to be mounted there"
            );
            assert_eq!(outcome.error(&scene), text);
            assert_eq!(outcome.records, [] as [&str; 0]);
            assert!(scene.exists("in/f") && !scene.exists("out/no"));
        }
        // The source is what is missing.
        let text = scene.act(&rule(action), "in/none", "out/f").error(&scene);
        assert!(text.starts_with("[Errno 2] No such file or directory: 'in/none'"), "{text}");
    }
}

#[test]
fn no_text_has_an_error_of_the_machine() {
    let scene = Scene::new();
    for errno in [Errno::NOENT, Errno::ACCESS, Errno::IO, Errno::NOSPC] {
        for call in ["openat2", "newfstatat", "renameat2", "openat", "unlinkat", "pwrite"] {
            for action in [Action::Move, Action::Copy, Action::Delete] {
                scene.write("in/f", "content");
                let plan = fault::fail_all(call, errno);
                let (outcome, _) = fault::with(plan, || scene.act(&overwriting(action), "in/f", "out/f"));
                let Err(error) = outcome.result else { continue };
                assert!(!error.to_string().contains("os error"), "{error}");
            }
        }
    }
}

#[test]
fn a_user_database_that_can_not_be_asked_fails_before_anything_is_touched() {
    let owned = |action| Rule { user: Some("somebody".into()), auto_create: true, ..rule(action) };
    let grouped = |action| Rule { group: Some("some".into()), filemode: Some(0o600), ..overwriting(action) };
    for (errno, text) in
        [(Errno::CONNREFUSED, "Connection refused"), (Errno::TIMEDOUT, "Connection timed out")]
    {
        for rule in
            [Action::Move, Action::Copy].into_iter().flat_map(|action| [owned(action), grouped(action)])
        {
            let scene = Scene::new();
            scene.write("in/f", "content");
            scene.write("in/d/f", "content");
            let before = (scene.tree("in"), scene.tree("out"));
            for (source, destination) in [("in/f", "out/sub/f"), ("in/d", "out/d")] {
                crate::names::tests::FAILING.set(Some(errno));
                let outcome = scene.act(&rule, source, destination);
                crate::names::tests::FAILING.set(None);
                let (what, name) = if rule.user.is_some() { ("user", "somebody") } else { ("group", "some") };
                let expected = format!("cannot look up {what} '{name}': {text}; nothing was done");
                assert_eq!(outcome.error(&scene), expected);
                assert_eq!(outcome.records, [] as [&str; 0]);
                assert_eq!((scene.tree("in"), scene.tree("out")), before);
            }
        }
    }
}

#[test]
fn links_are_moved_as_links_and_replaced_as_links() {
    for action in [Action::Move, Action::Copy] {
        let scene = Scene::new();
        scene.write("victim/target", "precious");
        scene.set_mode("victim/target", 0o600);
        scene.write("in/f", "new");
        scene.link(scene.path("victim/target"), "out/f");
        // Differs: the original writes through the link.
        scene.act(&overwriting(action), "in/f", "out/f").done();
        assert_eq!(scene.read("victim/target").unwrap(), b"precious");
        assert!(fs::symlink_metadata(scene.path("out/f")).unwrap().is_file());
    }
    let scene = Scene::new();
    scene.write("victim/target", "precious");
    scene.set_mode("victim/target", 0o600);
    scene.link(scene.path("victim/target"), "in/l");
    let outcome = scene.act(&Rule { filemode: Some(0o666), ..rule(Action::Move) }, "in/l", "out/l");
    outcome.done();
    assert_eq!(outcome.records, ["move 'in/l' to 'out/l'"]);
    assert_eq!(scene.mode("victim/target"), 0o600);
    assert_eq!(fs::read_link(scene.path("out/l")).unwrap(), scene.path("victim/target"));
}

#[test]
fn a_dangling_link_is_a_name_that_is_taken() {
    for action in [Action::Move, Action::Copy] {
        let scene = Scene::new();
        scene.write("in/f", "new");
        scene.link(scene.path("victim/made"), "out/f");
        // Differs: for the original the name is free, and a copy goes through the link.
        let outcome = scene.act(&rule(action), "in/f", "out/f");
        assert!(outcome.error(&scene).contains("'out/f', path already exists"));
        assert!(!scene.exists("victim/made") && scene.exists("in/f"));
    }
}

#[test]
fn deleting_files_links_and_directories() {
    let scene = Scene::new();
    scene.write("in/f", "");
    scene.write("in/d/a/b/f", "");
    scene.write("victim/f", "");
    scene.link(scene.path("victim"), "in/l");
    scene.link(scene.path("victim"), "in/d/a/l");
    fs::create_dir(scene.path("in/empty")).unwrap();
    make_fifo(&scene.path("in/d/fifo"));
    for name in ["in/f", "in/l", "in/empty"] {
        let outcome = scene.act(&rule(Action::Delete), name, "");
        outcome.done();
        assert_eq!(outcome.records, [format!("delete '{name}'")]);
        assert!(!scene.exists(name));
    }
    assert!(scene.act(&rule(Action::Delete), "in/d", "").result.is_err());
    assert!(scene.exists("in/d/a/b/f"), "nothing is deleted of a directory that is not empty");
    scene.act(&Rule { rec: true, ..rule(Action::Delete) }, "in/d", "").done();
    assert!(!scene.exists("in/d") && scene.exists("victim/f"));
}

#[test]
fn nothing_is_done_twice_to_an_unchanged_source() {
    for action in [Action::Copy, Action::Move, Action::Delete] {
        let scene = Scene::new();
        let source = scene.write("in/f", "one");
        let identity = scene.act(&overwriting(Action::Copy), "in/f", "out/f").done().identity.unwrap();
        fs::remove_file(scene.path("out/f")).unwrap();
        let again = |scene: &Scene| {
            let destination = scene.path("out/f");
            let destination = destination.as_os_str().as_bytes();
            scene.request(&overwriting(action), &source, destination, destination.len(), Some(&identity))
        };
        let outcome = again(&scene);
        assert!(outcome.done().unchanged && outcome.records.is_empty());
        assert!(!scene.exists("out/f") && scene.exists("in/f"));
        fs::write(&source, "two").unwrap();
        assert!(!again(&scene).done().unchanged);
    }
}

#[test]
fn what_an_earlier_action_has_taken_away_is_not_missed() {
    for action in [Action::Copy, Action::Move, Action::Delete] {
        let (scene, rule) = (Scene::new(), rule(action));
        let act = |source: &str, destination: &str, unless_gone| {
            let (root, stop) = (scene.path("in"), AtomicBool::new(false));
            let (source, destination) = (scene.path(source), scene.path(destination));
            let request = Request {
                root: bytes(&root),
                unless_gone,
                ..Request::plain(&rule, bytes(&source), bytes(&destination), &stop)
            };
            scene.perform(&mut Held::default(), &request)
        };
        // Also where its directory went along.
        for source in ["in/f", "in/d/e/f"] {
            let missing = act(source, "out/f", false);
            assert!(missing.error(&scene).contains("No such file"), "{action}: {missing:?}");
            let outcome = act(source, "out/f", true);
            if action == Action::Copy {
                // It takes nothing away: what is gone was taken by somebody else.
                assert!(outcome.error(&scene).contains("No such file"), "{outcome:?}");
            } else {
                assert!(outcome.done().unchanged && outcome.records.is_empty(), "{action}: {outcome:?}");
            }
        }
        // What is there is acted on, and what keeps that from being done is said.
        scene.write("in/f", "new");
        if action == Action::Move {
            assert!(act("in/f", "out/missing/f", true).error(&scene).contains("out/missing"));
        }
        assert!(!act("in/f", "out/f", true).done().unchanged);
    }
}

#[test]
fn owner_then_mode_keeps_what_the_rule_says() {
    if !is_root() {
        return;
    }
    for action in [Action::Move, Action::Copy] {
        let scene = Scene::new();
        scene.write("in/f", "");
        let (user, group) = (Some("nobody".to_owned()), Some("daemon".to_owned()));
        let rule = Rule { filemode: Some(0o2755), user, group, ..rule(action) };
        let outcome = scene.act(&rule, "in/f", "out/f");
        outcome.done();
        assert_eq!(outcome.records[1..], ["chmod 0o2755", "chown nobody:daemon"]);
        assert_eq!(scene.mode("out/f"), 0o2755);
        let wanted = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
        assert_eq!(scene.owner("out/f").0, wanted);
    }
}

#[test]
fn a_missing_user_is_an_error_after_the_action() {
    for action in [Action::Move, Action::Copy] {
        let scene = Scene::new();
        scene.write("in/f", "");
        let rule = Rule { filemode: Some(0o4750), user: Some("no-such-user".into()), ..rule(action) };
        let outcome = scene.act(&rule, "in/f", "out/f");
        assert_eq!(outcome.error(&scene), "no such user: 'no-such-user'");
        // Without its owner, a set-user-id file would be the daemon's.
        assert_eq!(scene.mode("out/f"), 0o750);
    }
}

#[test]
fn a_move_onto_another_name_of_the_same_file_leaves_one() {
    let scene = Scene::new();
    let source = scene.write("in/f", "content");
    fs::hard_link(&source, scene.path("out/f")).unwrap();
    scene.act(&overwriting(Action::Move), "in/f", "out/f").done();
    assert!(!scene.exists("in/f"));
    assert_eq!(scene.read("out/f").unwrap(), b"content");
    scene.act(&overwriting(Action::Move), "in/f", "in/f").error(&scene);
    scene.write("in/f", "content");
    scene.act(&overwriting(Action::Move), "in/f", "in/f").done();
    assert!(scene.exists("in/f"), "a move onto itself keeps the file");
}

#[test]
fn a_move_across_filesystems_keeps_everything() {
    let Some(scene) = Scene::across() else { return };
    let source = scene.write("in/f", "content");
    scene.set_mode("in/f", 0o4751);
    if is_root() {
        scene.set_owner("in/f", STRANGER);
        scene.set_mode("in/f", 0o4751);
    }
    let (owner, time) = (scene.owner("in/f"), mtime(&source));
    let outcome = scene.act(&rule(Action::Move), "in/f", "out/f");
    assert_eq!(outcome.done().bytes, 7);
    assert_eq!(outcome.records, ["move 'in/f' to 'out/f'"]);
    assert!(!scene.exists("in/f"));
    assert_eq!(scene.read("out/f").unwrap(), b"content");
    assert_eq!((scene.owner("out/f"), scene.mode("out/f")), (owner, 0o4751));
    assert_eq!(mtime(&scene.path("out/f")), time);

    scene.link("nowhere", "in/l");
    scene.act(&rule(Action::Move), "in/l", "out/l").done();
    assert!(!scene.exists("in/l"));
    assert_eq!(fs::read_link(scene.path("out/l")).unwrap(), Path::new("nowhere"));
    assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
}

#[test]
fn a_move_across_filesystems_ends_like_a_rename() {
    let Some(scene) = Scene::across() else { return };
    scene.write("in/f", "new");
    scene.write("out/f", "old");
    scene.write("in/d/f", "");
    scene.write("out/d/f", "");
    make_fifo(&scene.path("in/fifo"));
    let cases = [
        (
            rule(Action::Move),
            "in/f",
            "out/f",
            "unable to move file from 'in/f' to 'out/f', path already exists; set overwrite=True or \
             on_conflict=\"skip\", \"rename\", \"newer\" or \"same\"",
        ),
        (overwriting(Action::Move), "in/f", "out/d", "[Errno 21] Is a directory: 'in/f' -> 'out/d'"),
        (overwriting(Action::Move), "in/d", "out/f", "[Errno 20] Not a directory: 'in/d' -> 'out/f'"),
        (overwriting(Action::Move), "in/d", "out/d", "[Errno 39] Directory not empty: 'in/d' -> 'out/d'"),
        (rule(Action::Move), "in/fifo", "out/fifo", "`in/fifo` is a named pipe"),
    ];
    let before = (scene.tree("in"), scene.tree("out"));
    for (rule, source, destination, text) in cases {
        assert_eq!(scene.act(&rule, source, destination).error(&scene), text);
    }
    assert_eq!((scene.tree("in"), scene.tree("out")), before);
    scene.act(&overwriting(Action::Move), "in/f", "out/f").done();
    assert_eq!((scene.read("in/f"), scene.read("out/f").unwrap()), (None, b"new".into()));
}

#[test]
fn sparse_files_stay_sparse() {
    const SIZE: u64 = 1 << 40;
    let mut scenes = vec![Scene::new()];
    scenes.extend(Scene::across());
    for scene in scenes {
        let file = fs::File::create(scene.path("in/f")).unwrap();
        file.set_len(SIZE).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"middle", SIZE / 2).unwrap();
        drop(file);
        let outcome = scene.act(&rule(Action::Copy), "in/f", "out/f");
        assert_eq!(outcome.done().bytes, SIZE);
        let metadata = fs::metadata(scene.path("out/f")).unwrap();
        assert_eq!(metadata.len(), SIZE);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} bytes are allocated", metadata.blocks() * 512);
        let mut middle = [0; 6];
        let copy = fs::File::open(scene.path("out/f")).unwrap();
        std::os::unix::fs::FileExt::read_at(&copy, &mut middle, SIZE / 2).unwrap();
        assert_eq!(&middle, b"middle");
    }
}

#[test]
fn names_that_are_not_text_are_names() {
    let scene = Scene::new();
    let name = b"\xff\xfe 'quoted' \"\n";
    let source = scene.path("in").join(name_of(name));
    fs::write(&source, "content").unwrap();
    let destination = scene.path("out").join(name_of(name));
    let bytes = destination.as_os_str().as_bytes();
    let outcome = scene.request(&rule(Action::Copy), &source, bytes, 0, None);
    // Nothing is literal here and the temporary directory holds no link, so the destination is found all the same.
    outcome.done();
    assert!(outcome.records[0].contains("\\udcff\\udcfe 'quoted'"), "{:?}", outcome.records);
    assert_eq!(fs::read(destination).unwrap(), b"content");
}

#[test]
fn a_long_copy_stops_when_it_is_told_to() {
    let scene = Scene::new();
    scene.write("in/f", vec![1; 1 << 20]);
    scene.write("in/d/f", vec![1; 1 << 20]);
    for name in ["f", "d"] {
        let (from, to) = (scene.path("in").join(name), scene.path("out").join(name));
        let stop = AtomicBool::new(true);
        let root = scene.path("in");
        let rule = rule(Action::Copy);
        let request = Request {
            root: bytes(&root),
            trusted_len: 0,
            ..Request::plain(&rule, bytes(&from), bytes(&to), &stop)
        };
        assert!(matches!(
            crate::perform(&request, &mut Held::default(), &mut |_| {}),
            Err(Error::Stopped { .. })
        ));
        assert!(!scene.exists(&format!("out/{name}")));
    }
    assert_eq!(scene.temporaries(), [] as [PathBuf; 0]);
}

#[test]
fn what_is_not_complete_is_for_the_daemon_alone() {
    let scene = std::sync::Arc::new(Scene::new());
    scene.write("in/f", "content");
    scene.write("in/d/f", "content");
    scene.set_mode("in/f", 0o666);
    scene.set_mode("in/d", 0o777);
    for (name, mode) in [("f", 0o600), ("d", 0o700)] {
        let watched = std::sync::Arc::clone(&scene);
        let plan: crate::sys::fault::Plan = Box::new(move |_, call| {
            if call == "pwrite" {
                let out = watched.path("out");
                let [path] =
                    &fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()[..]
                else {
                    panic!("one temporary name and no other")
                };
                assert!(crate::is_own_temporary_name(path.file_name().unwrap().as_bytes()));
                assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode);
            }
            Ok(())
        });
        let act = || scene.act(&rule(Action::Copy), &format!("in/{name}"), &format!("out/{name}"));
        crate::sys::fault::with(plan, act).0.done();
        fs::rename(scene.path(format!("out/{name}")), scene.path(format!("victim/{name}"))).unwrap();
    }
    assert_eq!((scene.mode("victim/f"), scene.mode("victim/d")), (0o666, 0o777));
}
