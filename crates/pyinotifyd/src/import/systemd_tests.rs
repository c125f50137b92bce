//! Path units, and what becomes of them.

use super::*;

fn unit(name: &str, parts: &[&str]) -> Draft {
    let parts = parts.iter().enumerate();
    let parts =
        parts.map(|(index, text)| (format!("/u/{index}").into_bytes(), text.as_bytes().to_vec())).collect();
    let home = Some(b"/root".to_vec());
    let unit = Unit { name: name.into(), parts, is_users: false, is_placed: false, home };
    let mut draft = Draft::default();
    translate(&unit, &mut draft);
    draft
}

/// The config file of what stands in `[Path]`, and what is said.
fn path(text: &str) -> (String, Vec<String>) {
    said(&unit("in.path", &[&format!("[Path]\n{text}\n")]))
}

fn said(draft: &Draft) -> (String, Vec<String>) {
    let said = |note: &crate::import::draft::Note| format!("{} {}", &note.severity.level()[..1], note.text);
    (draft.text("systemd-path x"), draft.notes.iter().map(said).collect())
}

#[test]
fn a_change_starts_the_unit() {
    let (text, said) = path("PathChanged=/srv/in\nPathModified=/srv/x*\nUnit=a@b.service");
    let expected = r#"
# /u/0:2
#     PathChanged=/srv/in
start = ShellScheduler(
    cmd="systemctl start --wait -- a@b.service",
    dirs=True,
    singlejob=True,
    name="in.path",
)
watches.append(Watch(
    path="/srv/in",
    event_map=dict.fromkeys([
        "IN_ATTRIB", "IN_CLOSE_WRITE", "IN_MOVED_FROM", "IN_MOVED_TO",
        "IN_CREATE", "IN_DELETE", "IN_DELETE_SELF", "IN_MOVE_SELF",
    ], start),
))
"#;
    assert!(text.contains(expected), "{text}");
    let end = "goes on.\npyinotifyd = Pyinotifyd(watches=watches, shutdown_timeout=1)\n";
    assert!(text.ends_with(end), "{text}");
    let modified = "path=\"/srv/x[*]\",\n    event_map=dict.fromkeys([\n        \"IN_MODIFY\", ";
    assert!(text.contains(modified), "{text}");
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn what_is_there_starts_the_unit_until_it_is_gone() {
    let start = "do systemctl start --wait -- in.service || exit; sleep 1; done";
    let cases = [
        (
            "PathExists=/srv/a/it's",
            r#"while [ -e '/srv/a/it'\"'\"'s' ]; "#,
            "/srv/a",
            r#"[r"^/srv/a/(?!it's\Z)[^/]"]"#,
        ),
        ("PathExists=/f", "while [ -e /f ]; ", "/", r#"[r"^/(?!f\Z)[^/]"]"#),
        (
            "PathExists=/a/{pathname}",
            "while [ -e '/a/{''pathname}' ]; ",
            "/a",
            r#"[r"^/a/(?!\{pathname\}\Z)[^/]"]"#,
        ),
        (
            "DirectoryNotEmpty=/srv/d/",
            &format!("while ls -- /srv/d | grep -Eqv {}; ", String::from_utf8_lossy(&shell::quoted(UNSEEN))),
            "/srv/d",
            r#"[r"^/srv/d/\."]"#,
        ),
        ("PathExistsGlob=/s v/*.c$v", r#"while set -- /s' 'v/*.c'$'v; [ -e \"$1\" ]; "#, "/s v", "none"),
    ];
    for (directive, test, watched, exclude) in cases {
        let (text, said) = path(directive);
        assert!(text.contains(&format!("cmd=\"{test}{start}\",")), "{directive}: {text}");
        assert!(text.contains(&format!("path=\"{watched}\",")), "{directive}: {text}");
        assert!(text.contains("singlejob=True,\n        on_busy=\"rerun\","), "{directive}: {text}");
        assert!(text.contains("initial=\"all\","), "{directive}: {text}");
        assert_eq!(
            text.contains(&format!("exclude_filter={exclude},")),
            exclude != "none",
            "{directive}: {text}"
        );
        assert!(said.is_empty(), "{directive}: {said:?}");
    }
}

#[test]
fn the_pause_between_two_starts_keeps_to_the_limit() {
    let pause = |limit: &str| path(&format!("PathExists=/f\n{limit}")).0;
    assert!(pause("").contains("; sleep 1; done"));
    assert!(pause("TriggerLimitBurst=0").contains("; sleep 1; done"));
    assert!(pause("TriggerLimitBurst=200").contains("; sleep 1; done"));
    assert!(pause("TriggerLimitIntervalSec=10s\nTriggerLimitBurst=3").contains("; sleep 4; done"));
}

#[test]
fn directories_are_made_with_their_mode() {
    let (text, _) = path("PathChanged=/a\nPathExists=/b\nMakeDirectory=yes\nDirectoryMode=0700");
    assert!(text.contains("import os\n\nfrom pyinotifyd"), "{text}");
    assert!(
        text.contains(
            "if not os.path.isdir(\"/a\"):\n    os.makedirs(\"/a\")\n    os.chmod(\"/a\", 0o700)\n"
        )
    );
    assert!(!text.contains("makedirs(\"/b\")"), "{text}");
    let (text, _) = path("PathChanged=/a\nMakeDirectory=no");
    assert!(!text.contains("import os"), "{text}");
}

#[test]
fn drop_ins_count_behind_the_file() {
    let draft =
        unit("in.path", &["[Path]\nPathChanged=/a\nUnit=x.service", "[Path]\nPathChanged=\nPathChanged=/b"]);
    let text = draft.text("");
    assert!(!text.contains("path=\"/a\"") && text.contains("path=\"/b\""), "{text}");
    assert!(text.contains("\n# /u/1:3\n") && text.contains("-- x.service"), "{text}");
}

/// What is started, and what is said, tried with `systemd-analyze verify` of systemd 252.
#[test]
fn the_first_unit_that_is_valid_is_started() {
    let many = "W systemd ignores it, and so does this: there is a Unit= before it";
    let kind = "W systemd ignores it, and so does this: expected the name of a unit";
    let no_specifier = "W systemd ignores it, and so does this: %I cannot stand in the name";
    let long = "a".repeat(248);
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("in.path", "Unit=x.service\nUnit=y.service", "x.service", &[many]),
        ("in.path", "Unit=x.service\nUnit=", "x.service", &[many]),
        ("in.path", "Unit=\nUnit=x.service", "x.service", &[kind]),
        ("in.path", "Unit=x\nUnit=y.service\nUnit=z.service", "y.service", &[kind, many]),
        ("in.path", "Unit=x", "in.service", &[kind]),
        ("in.path", "Unit=x.unit", "in.service", &[kind]),
        ("in.path", "Unit=.service", "in.service", &[kind]),
        ("in.path", "Unit=@a.service", "in.service", &[kind]),
        ("in.path", "Unit=a b.service", "in.service", &[kind]),
        ("in.path", "Unit=a/b.service", "in.service", &[kind]),
        ("in.path", "Unit=\u{fc}.service", "in.service", &[kind]),
        ("in.path", "Unit=a%%.service", "in.service", &[kind]),
        ("in.path", &format!("Unit={long}.service"), "in.service", &[kind]),
        ("in.path", "Unit=in.path", "in.service", &["W systemd ignores it, and so does this: a unit cannot"]),
        ("in.path", "Unit=other.path", "other.path", &[]),
        ("in.path", "Unit=x.target", "x.target", &[]),
        ("in.path", "Unit=app-%i.service", "app-.service", &[]),
        ("in.path", "Unit=app-%I.service", "in.service", &[no_specifier]),
        ("in.path", "Unit=app@%i.service", "app@in.service", &[]),
        ("in.path", "Unit=x@.service", "x@in.service", &[]),
        ("in@a-b.path", "", "in@a-b.service", &[]),
        ("in@a-b.path", "Unit=x@.service", "x@a-b.service", &[]),
        ("in@a-b.path", "Unit=%p-%i.service", "in-a-b.service", &[]),
    ];
    for (name, lines, started, expected) in cases {
        let (text, said) = said(&unit(name, &[&format!("[Path]\nPathChanged=/a\n{lines}")]));
        assert!(text.contains(&format!("start --wait -- {started}\",")), "{name} {lines}: {text}");
        assert_eq!(said.len(), expected.len(), "{name} {lines}: {said:?}");
        for (said, expected) in said.iter().zip(*expected) {
            assert!(said.starts_with(expected), "{name} {lines}: {said}");
        }
    }
}

#[test]
fn a_unit_that_is_not_known_here_leaves_out_all_of_it() {
    for lines in ["Unit=x-%b.service", "Unit=x-%H.service\nUnit=y.service"] {
        let (text, said) = path(&format!("PathChanged=/a\nPathExists=/b\n{lines}"));
        assert!(said[0].starts_with("E %"), "{lines}: {said:?}");
        assert!(!text.contains("Watch(") && !text.contains("systemctl"), "{lines}: {text}");
    }
    let (text, said) = said(&unit("in@.path", &["[Path]\nPathChanged=/a"]));
    assert!(said.len() == 1 && said[0].starts_with("E 'in@.path' is a template"), "{said:?}");
    assert!(!text.contains("Watch("), "{text}");
}

#[test]
fn settings_go_on_behind_a_backslash() {
    let text = b"; a\n[Path]\n# b\nPathChanged = /a\\\n# c\n  b\nwrong\nUnit=x\\";
    let (found, wrong) = settings(b"/u", text);
    let found: Vec<_> =
        found.iter().map(|set| (set.place.line, set.key.as_slice(), set.value.as_slice())).collect();
    assert_eq!(found, [(4, &b"PathChanged"[..], &b"/a b"[..]), (8, b"Unit", b"x")]);
    let wrong: Vec<_> = wrong.into_iter().map(|(place, ..)| place).collect();
    assert_eq!(wrong, [Place::of(b"/u", 7)]);
}

#[test]
fn specifiers_are_replaced_as_far_as_they_are_known() {
    let unit = |name: &str| Unit {
        name: name.into(),
        parts: Vec::new(),
        is_users: name.starts_with("mine"),
        is_placed: true,
        home: Some(b"/home/ann".to_vec()),
    };
    let cases = [
        (
            "a-b@c-d\\x20e.path",
            "%n|%N|%p|%P|%i|%I|%j|%f",
            r"a-b@c-d\x20e.path|a-b@c-d\x20e|a-b|a/b|c-d\x20e|c/d e|b|/c/d e",
        ),
        (
            "a.path",
            "%p%%%h|%t|%S|%C|%L|%E|%T|%V|%u%U",
            "a%/home/ann|/run|/var/lib|/var/cache|/var/log|/etc|/tmp|/var/tmp|root0",
        ),
        ("a.path", "/x%", "/x%"),
        ("a.path", "/%i/%I/%-", "///%-"),
    ];
    for (name, value, expected) in cases {
        let found = expanded(value.as_bytes(), &unit(name), Specifiers::OfPaths)
            .map(|text| String::from_utf8(text).unwrap());
        assert_eq!(found, Ok(expected.to_owned()), "{value}");
    }
    for (name, value) in [("a.path", "%H"), ("a.path", "%b"), ("mine.path", "%t"), ("mine.path", "%u")] {
        let error = expanded(value.as_bytes(), &unit(name), Specifiers::OfPaths).unwrap_err();
        let is_unknown = matches!(&error, Unexpanded::Unknown(text) if text.contains("cannot be known here"));
        assert!(is_unknown, "{value}: {error:?}");
    }
    for value in ["%z", "%1", "%e"] {
        let error = expanded(value.as_bytes(), &unit("a.path"), Specifiers::OfPaths).unwrap_err();
        assert!(matches!(&error, Unexpanded::Ignored(_)), "{value}: {error:?}");
    }
}

#[test]
fn spans_of_time_have_units() {
    let cases = [
        ("2", Some(2.0)),
        ("2s", Some(2.0)),
        ("500ms", Some(0.5)),
        ("1min 30s", Some(90.0)),
        ("1h", Some(3600.0)),
        ("1w 1M", Some(604_800.0 + 2_629_800.0)),
        ("3\u{3bc}s", Some(3e-6)),
        ("infinity", Some(f64::INFINITY)),
    ];
    for (text, expected) in cases {
        assert_eq!(time(text.as_bytes()), expected, "{text}");
    }
    for text in ["", "x", "2x", "s", "..", "\u{e4}", "2 fortnights", "-1", "INFINITY"] {
        assert_eq!(time(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn what_differs_or_is_left_out_is_said() {
    let cases = [
        ("PathChanged=/a\nPathChanged=%H", "E %H cannot be known here"),
        ("PathChanged=/a\nPathChanged=b", "W systemd ignores it, and so does this: its path is not absolute"),
        ("PathChanged=/a\nPathExists=/srv/../x", "W systemd ignores it, and so does this: its path holds .."),
        ("PathChanged=/a\nPathExists=/%z", "W systemd ignores it, and so does this: %z is no specifier"),
        (
            "PathChanged=/a\nDirectoryMode=rw",
            "W systemd ignores it, and so does this: expected a mode such as 0755",
        ),
        ("PathChanged=/a\nMakeDirectory=maybe", "W systemd ignores it, and so does this: expected yes or no"),
        (
            "PathChanged=/a\nTriggerLimitIntervalSec=x",
            "W systemd ignores it, and so does this: expected a time such as 2s or 1min",
        ),
        ("PathChanged=/a\nTriggerLimitBurst=x", "W systemd ignores it, and so does this: expected a number"),
        ("PathChanged=/a\nOther=x", "E Other is unknown here"),
        ("PathChanged=/a\nnothing", "W systemd ignores it, and so does this: no KEY=VALUE"),
        ("PathChanged=/a\n[Other", "E a section that does not end"),
        ("", "E it has no path"),
        ("PathExistsGlob=/a/{b,c}", "W braces stand for themselves here"),
        ("PathChanged=/a\nTriggerLimitBurst=3", "W systemd lets the path unit fail above the limit"),
        (
            "PathChanged=/a\nTriggerLimitIntervalSec=1min\nTriggerLimitBurst=3",
            "W systemd lets the path unit fail above the limit",
        ),
        (
            "PathChanged=/a\nTriggerLimitIntervalSec=infinity\nTriggerLimitBurst=3",
            "W systemd lets the path unit fail after 3 starts",
        ),
        ("PathChanged=/a\n[Unit]\nConditionPathExists=/b", "W pyinotifyd checks no condition"),
    ];
    for (text, expected) in cases {
        let (_, said) = path(text);
        assert_eq!(said.len(), 1, "{text}: {said:?}");
        assert!(said[0].starts_with(expected), "{text}: {said:?}");
    }
    assert!(path("PathChanged=/a\nTriggerLimitBurst=3").0.contains("    max_rate=(3, 2),\n"));
    assert!(path("PathChanged=/a\nTriggerLimitBurst=0x10").0.contains("    max_rate=(16, 2),\n"));
    for no_limit in ["TriggerLimitIntervalSec=0", "TriggerLimitBurst=0", "MakeDirectory=No", "X-Mine=1"] {
        let (text, said) = path(&format!("PathChanged=/a\n{no_limit}"));
        assert!(said.is_empty() && !text.contains("max_rate"), "{no_limit}: {said:?} {text}");
    }
    let draft = unit("in.service", &["[Path]\nPathChanged=/a"]);
    assert!(draft.notes[0].text.contains("its name does not end in .path"), "{:?}", draft.notes);
}

#[test]
fn a_unit_of_a_user_is_started_by_the_users_manager() {
    let parts = vec![(b"/u".to_vec(), b"[Path]\nPathChanged=%h/in".to_vec())];
    let home = Some(b"/home/ann".to_vec());
    let unit = Unit { name: b"in.path".to_vec(), parts, is_users: true, is_placed: true, home };
    let mut draft = Draft::default();
    translate(&unit, &mut draft);
    let text = draft.text("");
    assert!(
        text.contains("systemctl --user start --wait -- in.service")
            && text.contains("path=\"/home/ann/in\""),
        "{text}"
    );
}

#[test]
fn what_seems_to_be_a_unit_of_a_user_is_said() {
    let hints = [
        ("PathChanged=%h/in", "%h stands for /root here"),
        ("PathChanged=/home/ann/in", "it watches a path in /home"),
        ("PathChanged=/a\n[Install]\nWantedBy=default.target", "it is wanted by a target of users"),
    ];
    for (text, hint) in hints {
        let (_, said) = path(text);
        let expected = format!("W {hint}: it is taken for a unit of the system's manager");
        assert!(said.len() == 1 && said[0].starts_with(&expected), "{text}: {said:?}");
    }
    assert!(path("PathChanged=/a\n[Install]\nWantedBy=multi-user.target").1.is_empty());
}

#[test]
fn an_instance_is_in_the_file_of_its_template() {
    assert_eq!(file_names(b"a@b.path"), [b"a@b.path".to_vec(), b"a@.path".to_vec()]);
    assert_eq!(file_names(b"a.path"), [b"a.path".to_vec()]);
    assert_eq!(file_names(b"a@.path"), [b"a@.path".to_vec()]);
}
