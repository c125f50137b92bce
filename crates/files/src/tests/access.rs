//! After a rule with an owner or a mode nobody has access that the mode does not grant (faults A4, A5, A13).

use super::*;

/// Tags of an access control list (acl(5), as the kernel keeps it).
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
const CAPABILITY: &str = "security.capability";

/// `cap_net_raw+ep`, as the kernel keeps it (capabilities(7), version 2).
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

/// Lists that let a stranger, or a group of strangers, do everything; the owning group nothing.
fn lists() -> [Vec<u8>; 3] {
    let any = u32::MAX;
    let start = (USER_OBJ, 7, any);
    [
        list(&[start, (USER, 7, STRANGER), (GROUP_OBJ, 0, any), (MASK, 7, any), (OTHER, 0, any)]),
        list(&[start, (GROUP_OBJ, 0, any), (GROUP, 7, STRANGER), (MASK, 7, any), (OTHER, 0, any)]),
        list(&[
            start,
            (USER, 6, STRANGER),
            (GROUP_OBJ, 1, any),
            (GROUP, 6, STRANGER),
            (MASK, 7, any),
            (OTHER, 0, any),
        ]),
    ]
}

/// Rules that set something: owner and modes, owner alone, one mode alone.
fn rules(action: Action) -> Vec<(&'static str, Rule)> {
    let owner = Rule { user: Some("root".into()), group: Some("root".into()), ..overwriting(action) };
    vec![
        ("all", Rule { dirmode: Some(0o770), filemode: Some(0o660), auto_create: true, ..owner.clone() }),
        ("owner", Rule { auto_create: true, ..owner }),
        ("filemode", Rule { filemode: Some(0o640), auto_create: true, ..overwriting(action) }),
        ("dirmode", Rule { dirmode: Some(0o750), auto_create: true, ..overwriting(action) }),
    ]
}

/// Scenes on one filesystem and on two.
fn scenes() -> impl Iterator<Item = Scene> {
    [Some(Scene::in_memory()), Scene::across()].into_iter().flatten()
}

/// A tree and a file with a list on everything, and where `below_default` a destination that hands one down.
fn fill(scene: &Scene, access: &[u8], below_default: bool) -> bool {
    scene.write("in/d/sub/f", "content");
    scene.write("in/f", "content");
    for name in ["in/d", "in/d/sub", "in/d/sub/f", "in/f"] {
        if !set_attribute(&scene.path(name), ACCESS, access) {
            return false;
        }
    }
    for name in ["in/d", "in/d/sub"] {
        set_attribute(&scene.path(name), DEFAULT, access);
    }
    !below_default || set_attribute(&scene.path("out"), DEFAULT, access)
}

#[test]
fn no_list_survives_a_rule_with_owner_or_mode() {
    if !is_root() {
        return;
    }
    for (access, below_default) in lists().iter().flat_map(|list| [(list, false), (list, true)]) {
        let group = if access == &lists()[2] { 0o010 } else { 0 };
        for action in [Action::Move, Action::Copy] {
            for (which, rule) in rules(action) {
                for scene in scenes() {
                    if !fill(&scene, access, below_default) {
                        return;
                    }
                    scene.act(&rule, "in/d", "out/new/d").done();
                    scene.act(&rule, "in/f", "out/new/f").done();
                    let context = format!("{action}, rule with {which}, default: {below_default}");
                    for name in ["out/new", "out/new/d", "out/new/d/sub", "out/new/d/sub/f", "out/new/f"] {
                        let path = scene.path(name);
                        assert_eq!(attribute(&path, ACCESS), None, "{name}: {context}");
                        assert_eq!(attribute(&path, DEFAULT), None, "{name}: {context}");
                    }
                    // Without the list the group has what the list gave it, not what its mask let others have.
                    let directory = rule.dirmode.unwrap_or(0o700 | group);
                    let file = rule.filemode.unwrap_or(0o700 | group);
                    for (name, mode) in [
                        ("out/new/d", directory),
                        ("out/new/d/sub", directory),
                        ("out/new/d/sub/f", file),
                        ("out/new/f", file),
                    ] {
                        assert_eq!(scene.mode(name), mode, "{name}: {context}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_overwritten_and_merged_into_hands_no_list_on() {
    if !is_root() {
        return;
    }
    for (which, rule) in rules(Action::Copy) {
        let scene = Scene::in_memory();
        if !fill(&scene, &lists()[0], false) {
            return;
        }
        // The attacker was there first, with a directory of his own that hands his list down.
        scene.write("out/d/sub/f", "old");
        scene.write("out/f", "old");
        for name in ["out/d", "out/d/sub"] {
            scene.set_owner(name, STRANGER);
            set_attribute(&scene.path(name), DEFAULT, &lists()[0]);
            set_attribute(&scene.path(name), ACCESS, &lists()[0]);
        }
        set_attribute(&scene.path("out/f"), ACCESS, &lists()[0]);
        scene.act(&rule, "in/d", "out/d").done();
        scene.act(&rule, "in/f", "out/f").done();
        for name in ["out/d/sub/f", "out/f"] {
            assert_eq!(attribute(&scene.path(name), ACCESS), None, "{name}: rule with {which}");
            assert_eq!(scene.read(name).unwrap(), b"content");
        }
        // What is his stays his.
        assert_eq!(scene.owner("out/d"), (STRANGER, STRANGER));
        assert!(attribute(&scene.path("out/d"), DEFAULT).is_some());
    }
}

#[test]
fn without_owner_and_mode_lists_are_kept() {
    for scene in scenes() {
        for action in [Action::Move, Action::Copy] {
            if !fill(&scene, &lists()[0], false) {
                return;
            }
            scene.act(&rule(action), "in/d", &format!("out/{action}")).done();
            for name in ["", "/sub", "/sub/f"] {
                let path = scene.path(format!("out/{action}{name}"));
                assert_eq!(attribute(&path, ACCESS), Some(lists()[0].clone()), "{action} of {name}");
            }
            let _ = fs::remove_dir_all(scene.path("in/d"));
        }
    }
}

#[test]
fn a_pruned_directory_comes_back_with_what_the_owning_group_had() {
    for (list, mode) in lists().iter().zip([0o700, 0o700, 0o710]) {
        let scene = Scene::in_memory();
        scene.write("in/d/f", "content");
        if !set_attribute(&scene.path("in/d"), ACCESS, list) {
            return;
        }
        let done = scene.act(&Rule { prune: true, ..rule(Action::Move) }, "in/d/f", "out/f").done();
        let [pruned] = &done.pruned[..] else { panic!("{:?}", done.pruned) };
        crate::make_again(pruned, scene.path("in").as_os_str().len(), &mut |_| {}).unwrap();
        assert_eq!(scene.mode("in/d"), mode);
        assert_eq!(attribute(&scene.path("in/d"), ACCESS), None);
    }
}

#[test]
fn a_directory_moved_below_a_default_list_keeps_its_own() {
    let Some(scene) = Scene::across() else { return };
    scene.write("in/d/f", "content");
    if !set_attribute(&scene.path("out"), DEFAULT, &lists()[0]) {
        return;
    }
    scene.act(&rule(Action::Move), "in/d", "out/d").done();
    for name in ["out/d", "out/d/f"] {
        assert_eq!(attribute(&scene.path(name), ACCESS), None, "{name}");
        assert_eq!(attribute(&scene.path(name), DEFAULT), None, "{name}");
    }
}

#[test]
fn capabilities_and_set_id_bits_go_with_the_owner() {
    if !is_root() {
        return;
    }
    for scene in scenes() {
        for (what, user, group, changes) in [
            ("user", Some("nobody"), None, true),
            ("group", None, Some("daemon"), true),
            ("the same user", Some("root"), None, true),
            ("nothing", None, None, false),
        ] {
            for (source, name) in [("in/f", ""), ("in/d", "/sub/f")] {
                let rule = Rule {
                    user: user.map(str::to_owned),
                    group: group.map(str::to_owned),
                    ..rule(Action::Move)
                };
                let path = scene.write(&format!("{source}{name}"), "program");
                scene.set_mode(&format!("{source}{name}"), 0o6755);
                if !set_attribute(&path, CAPABILITY, &NET_RAW) {
                    return;
                }
                let target = format!("out/{}-{what}", source.len() + name.len());
                scene.act(&rule, source, &target).done();
                let moved = format!("{target}{name}");
                let kept = attribute(&scene.path(&moved), CAPABILITY).is_some();
                assert_eq!((kept, scene.mode(&moved) & 0o6000 != 0), (!changes, !changes), "{what}, {moved}");
            }
        }
        // A copy lends nothing in any case.
        let path = scene.write("in/g", "program");
        set_attribute(&path, CAPABILITY, &NET_RAW);
        scene.act(&rule(Action::Copy), "in/g", "out/copy").done();
        assert_eq!(attribute(&scene.path("out/copy"), CAPABILITY), None);
    }
}

/// A file of `victim` in `in`, under another name: a member of the file's group made that, which the kernel allows him.
fn link_of_victims_file(scene: &Scene, name: &str) {
    let victim = scene.path("victim/f");
    if !victim.exists() {
        scene.write("victim/f", "secret of the victim");
        scene.set_owner("victim/f", STRANGER + 1);
        scene.set_mode("victim/f", 0o660);
    }
    let path = scene.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::hard_link(victim, path).unwrap();
}

#[test]
fn a_file_of_somebody_else_under_another_name_is_not_changed() {
    if !is_root() {
        return;
    }
    crate::metadata::tests::PROTECTED.set(Some(true));
    for scene in scenes() {
        scene.set_owner("in", STRANGER);
        for (source, name) in [("in/f", "in/f"), ("in/d", "in/d/sub/f"), ("in/e", "in/e/f")] {
            link_of_victims_file(&scene, name);
            for (which, rule) in rules(Action::Move) {
                let outcome = scene.act(&rule, source, "out/o");
                // A tree is renamed before its files are looked at; what is refused keeps owner and mode.
                assert!(outcome.result.is_err(), "{name} by a rule with {which}: {outcome:?}");
                let text = outcome.error(&scene);
                assert!(
                    text.contains("has 2 hard links") || text.contains("has 3") || text.contains("has 4"),
                    "{text}"
                );
                assert!(!text.contains("protected_hardlinks"), "it is on already: {text}");
                assert_eq!((scene.owner("victim/f").0, scene.mode("victim/f")), (STRANGER + 1, 0o660));
                if scene.exists("out/o") {
                    fs::rename(scene.path("out/o"), scene.path(source)).unwrap();
                }
            }
        }
        // Without owner and mode nothing is changed, so nothing is refused.
        scene.act(&rule(Action::Move), "in/f", "out/plain").done();
        assert_eq!((scene.owner("victim/f").0, scene.mode("victim/f")), (STRANGER + 1, 0o660));
    }
    crate::metadata::tests::PROTECTED.set(None);
}

#[test]
fn a_copy_shows_nobodys_file_under_another_name_to_others() {
    if !is_root() {
        return;
    }
    for protected in [true, false] {
        crate::metadata::tests::PROTECTED.set(Some(protected));
        let scene = Scene::in_memory();
        scene.set_owner("in", STRANGER);
        link_of_victims_file(&scene, "in/f");
        link_of_victims_file(&scene, "in/d/f");
        scene.write("in/d/g", "harmless");
        for (which, rule) in rules(Action::Copy) {
            assert!(scene.act(&rule, "in/f", "out/f").error(&scene).starts_with("refused: "), "{which}");
            let outcome = scene.act(&rule, "in/d", "out/d");
            assert!(matches!(outcome.result, Err(Error::LeftOut { count: 1, .. })), "{which}: {outcome:?}");
            assert_eq!(scene.read("out/d/g").unwrap(), b"harmless");
            assert!(!scene.exists("out/f") && !scene.exists("out/d/f"));
        }
        scene.act(&rule(Action::Copy), "in/f", "out/plain").done();
        assert_eq!(scene.mode("out/plain"), 0o660);
    }
    crate::metadata::tests::PROTECTED.set(None);
}

#[test]
fn names_of_ones_own_hold_nothing_up() {
    if !is_root() {
        return;
    }
    crate::metadata::tests::PROTECTED.set(Some(true));
    for (directory, file) in [(STRANGER, STRANGER), (STRANGER, 0), (0, 0)] {
        for action in [Action::Move, Action::Copy] {
            let scene = Scene::in_memory();
            let path = scene.write("in/f", "content");
            fs::hard_link(path, scene.path("in/g")).unwrap();
            scene.set_owner("in", directory);
            scene.set_owner("in/f", file);
            scene.act(&rules(action).remove(0).1, "in/f", "out/f").done();
            assert_eq!((scene.mode("out/f"), scene.owner("out/f")), (0o660, (0, 0)));
        }
    }
    crate::metadata::tests::PROTECTED.set(None);
}

#[test]
fn in_a_directory_that_was_there_only_what_we_wrote_is_changed() {
    if !is_root() {
        return;
    }
    for (which, rule) in rules(Action::Copy) {
        let scene = Scene::in_memory();
        scene.write("in/f", "content");
        scene.write("in/d/sub/f", "content");
        // The attacker made directories at the final names, with a second name of the victim's file in each.
        for name in ["out/f/theirs", "out/d/theirs", "out/d/sub/theirs"] {
            link_of_victims_file(&scene, name);
        }
        for name in ["out/f", "out/d", "out/d/sub"] {
            scene.set_owner(name, STRANGER);
            scene.set_mode(name, 0o751);
        }
        scene.act(&rule, "in/f", "out/f").done();
        scene.act(&rule, "in/d", "out/d").done();
        assert_eq!((scene.owner("victim/f").0, scene.mode("victim/f")), (STRANGER + 1, 0o660), "{which}");
        for name in ["out/f", "out/d", "out/d/sub"] {
            assert_eq!((scene.owner(name).0, scene.mode(name)), (STRANGER, 0o751), "{name}: {which}");
        }
        for name in ["out/f/f", "out/d/sub/f"] {
            assert_eq!(scene.owner(name).0, 0);
            assert_eq!(scene.mode(name), rule.filemode.unwrap_or(0o644), "{name}: {which}");
        }
    }
}

#[test]
fn nobody_enters_a_new_directory_before_it_has_its_mode() {
    let scene = Scene::in_memory();
    scene.write("in/f", "content");
    let made = scene.path("out/new");
    let seen = std::rc::Rc::new(std::cell::Cell::new(0));
    let widest = std::rc::Rc::clone(&seen);
    let plan: crate::sys::fault::Plan = Box::new(move |_, _| {
        if let Ok(metadata) = fs::metadata(&made) {
            widest.set(widest.get() | metadata.permissions().mode() & 0o077);
        }
        Ok(())
    });
    let rule = Rule { dirmode: Some(0o700), auto_create: true, ..rule(Action::Move) };
    crate::sys::fault::with(plan, || scene.act(&rule, "in/f", "out/new/f")).0.done();
    assert_eq!((seen.get(), scene.mode("out/new")), (0, 0o700));
}
