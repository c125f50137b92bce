//! Path units, and what becomes of them.

use super::*;

fn unit(name: &str, parts: &[&str]) -> Draft {
    let parts = parts.iter().enumerate();
    let parts =
        parts.map(|(index, text)| (format!("/u/{index}").into_bytes(), text.as_bytes().to_vec())).collect();
    let unit = Unit { name: name.into(), parts, is_users: false, home: Some(b"/root".to_vec()) };
    let mut draft = Draft::default();
    translate(&unit, &mut draft);
    draft
}

/// The config file of what stands in `[Path]`, and what is said.
fn path(text: &str) -> (String, Vec<String>) {
    let draft = unit("in.path", &[&format!("[Path]\n{text}\n")]);
    let said = |note: &crate::import::draft::Note| format!("{} {}", &note.severity.level()[..1], note.text);
    (draft.text("systemd-path x"), draft.notes.iter().map(said).collect())
}

#[test]
fn a_change_starts_the_unit() {
    let (text, said) = path("PathChanged=/srv/in\nPathModified=/srv/x*\nUnit=a b.service");
    let expected = r#"
# /u/0:2
#     PathChanged=/srv/in
start = ShellScheduler(
    cmd="systemctl start --wait -- 'a b.service'",
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

#[test]
fn settings_go_on_behind_a_backslash() {
    let text = b"; a\n[Path]\n# b\nPathChanged = /a\\\n# c\n  b\nwrong\nUnit=x\\";
    let (found, wrong) = settings(b"/u", text);
    let found: Vec<_> =
        found.iter().map(|set| (set.place.line, set.key.as_slice(), set.value.as_slice())).collect();
    assert_eq!(found, [(4, &b"PathChanged"[..], &b"/a b"[..]), (8, b"Unit", b"x")]);
    assert_eq!(wrong, [Place::of(b"/u", 7)]);
}

#[test]
fn specifiers_are_replaced_as_far_as_they_are_known() {
    let unit = |name: &str| Unit {
        name: name.into(),
        parts: Vec::new(),
        is_users: name.starts_with("mine"),
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
    ];
    for (name, value, expected) in cases {
        let found = expanded(value.as_bytes(), &unit(name)).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(found, Ok(expected.to_owned()), "{value}");
    }
    for (name, value) in
        [("a.path", "%H"), ("a.path", "%i"), ("a@.path", "%i"), ("a.path", "%\u{7f}"), ("mine.path", "%t")]
    {
        let error = expanded(value.as_bytes(), &unit(name)).unwrap_err();
        assert!(error.contains("cannot be known here"), "{value}: {error}");
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
    ];
    for (text, expected) in cases {
        assert_eq!(time(text.as_bytes()), expected, "{text}");
    }
    for text in ["", "x", "2x", "s", "9999999999999", "..", "\u{e4}"] {
        assert_eq!(time(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn what_differs_or_is_left_out_is_said() {
    let cases = [
        ("PathChanged=/a\nPathChanged=%H", "E %H cannot be known here"),
        ("PathChanged=/a\nPathChanged=b", "E its path is not absolute"),
        ("PathChanged=/a\nDirectoryMode=rw", "E expected a mode such as 0755"),
        ("PathChanged=/a\nTriggerLimitIntervalSec=x", "E expected a time such as 2s or 1min"),
        ("PathChanged=/a\nTriggerLimitBurst=x", "E expected a number"),
        ("PathChanged=/a\nOther=x", "E Other is unknown here"),
        ("PathChanged=/a\nnothing", "E expected [SECTION] or KEY=VALUE"),
        ("", "E it has no path"),
        ("PathExistsGlob=/a/{b,c}", "W braces stand for themselves here"),
        ("PathChanged=/a\nTriggerLimitBurst=3", "W systemd lets the path unit fail above the limit"),
        ("PathChanged=/a\n[Unit]\nConditionPathExists=/b", "W pyinotifyd checks no condition"),
    ];
    for (text, expected) in cases {
        let (_, said) = path(text);
        assert_eq!(said.len(), 1, "{text}: {said:?}");
        assert!(said[0].starts_with(expected), "{text}: {said:?}");
    }
    assert!(path("PathChanged=/a\nTriggerLimitBurst=3").0.contains("    max_rate=(3, 2),\n"));
    assert!(path("PathChanged=/a\nTriggerLimitIntervalSec=0").0.contains("ShellScheduler(\n"));
    let draft = unit("in.service", &["[Path]\nPathChanged=/a"]);
    assert!(draft.notes[0].text.contains("its name does not end in .path"), "{:?}", draft.notes);
}

#[test]
fn a_unit_of_a_user_is_started_by_the_users_manager() {
    let parts = vec![(b"/u".to_vec(), b"[Path]\nPathChanged=%h/in".to_vec())];
    let unit = Unit { name: b"in.path".to_vec(), parts, is_users: true, home: Some(b"/home/ann".to_vec()) };
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
fn an_instance_is_in_the_file_of_its_template() {
    assert_eq!(file_names(b"a@b.path"), [b"a@b.path".to_vec(), b"a@.path".to_vec()]);
    assert_eq!(file_names(b"a.path"), [b"a.path".to_vec()]);
    assert_eq!(file_names(b"a@.path"), [b"a@.path".to_vec()]);
}
