//! Lines of tables, and what becomes of them.

use super::*;
use crate::import::draft::Severity;
use crate::import::{Kind, Standing};

/// /file is a file, /link a link to a directory, /none nothing; everything else is a directory.
fn look(path: &[u8]) -> Standing {
    let kind = match path {
        b"/file" => Some(Kind::File),
        b"/none" => None,
        _ => Some(Kind::Directory),
    };
    Standing { kind, is_link: path == b"/link" }
}

fn table(text: &str, user: Option<&str>) -> Draft {
    let table = Table { path: b"/t/tab".to_vec(), text: text.into(), user: user.map(str::to_owned) };
    let mut draft = Draft::default();
    translate(&table, &look, &mut draft);
    draft
}

/// The config file of a line, and what is said: a letter for warnings and errors, then the text.
fn line(text: &str) -> (String, Vec<String>) {
    let draft = table(text, None);
    let said = |note: &crate::import::draft::Note| format!("{} {}", &note.severity.level()[..1], note.text);
    (draft.text("incrontab x"), draft.notes.iter().map(said).collect())
}

#[test]
fn a_line_becomes_a_watch() {
    let (text, said) = line("/in IN_CLOSE_WRITE,IN_MOVE /bin/import $@/$#\n");
    let expected = r#"
# /t/tab:1
#     /in IN_CLOSE_WRITE,IN_MOVE /bin/import $@/$#
watches.append(Watch(
    path="/in",
    event_map={
        event: ShellScheduler(
            cmd="/bin/import {pathname}",
            dirs=True,
            on_busy="rerun",
            name=f"tab-1-{event}",
        )
        for event in ["IN_CLOSE_WRITE", "IN_MOVED_FROM", "IN_MOVED_TO"]
    },
    rec=True,
    auto_add=True,
    exclude_filter=[r"^/in/(?:[^/]*/)*\.[^/]*/"],
))

pyinotifyd = Pyinotifyd(watches=watches)
"#;
    assert!(text.ends_with(expected), "{text}");
    assert!(text.contains("\nfrom pyinotifyd import Pyinotifyd, ShellScheduler, Watch\n"), "{text}");
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn commands_get_what_incron_put_into_them() {
    let cases = [
        ("x $@/$#", r#"cmd="x {pathname}""#),
        ("x '$@/$#'", r#"cmd="x '{pathname}'""#),
        ("x $@ $#", r#"cmd="x \"${PYINOTIFYD_PATHNAME%/*}\" \"${PYINOTIFYD_PATHNAME##*/}\"""#),
        ("x \"$@ $#\"", r#"cmd="x \"${PYINOTIFYD_PATHNAME%/*} ${PYINOTIFYD_PATHNAME##*/}\"""#),
        ("x '$#'", r#"cmd="x ''\"${PYINOTIFYD_PATHNAME##*/}\"''""#),
        ("x $$HOME $$$$", r#"argv=["/bin/bash", "-c", "x $HOME $$"]"#),
        ("echo -e $#", r#"argv=["/bin/bash", "-c", "echo -e \"${PYINOTIFYD_PATHNAME##*/}\""]"#),
        ("/bin/echo -e x", r#"cmd="/bin/echo -e x""#),
        ("'echo' x", r#"argv=["/bin/bash", "-c", "'echo' x"]"#),
        ("x $%", r#"cmd="x {maskname}""#),
        ("x $%", r#"cmd="x {maskname},IN_ISDIR""#),
        ("x $&", r#"cmd="x \"$INCRON_MASK\"""#),
        ("x $&", r#"env={"INCRON_MASK": str(mask | 0x40000000)}"#),
        ("x $y $", r#"cmd="x y ""#),
        ("x \"a b\" | y > /o 2>&1", r#"argv=["/bin/bash", "-c", "x \"a b\" | y > /o 2>&1"]"#),
        ("x \u{1}\u{7f}\\", r#""x \x01\x7f\\"]"#),
    ];
    for (command, expected) in cases {
        let (text, said) = line(&format!("/in IN_CREATE {command}\n"));
        assert!(text.contains(expected), "{command}: {text}");
        assert!(said.iter().all(|text| text.starts_with('W')), "{command}: {said:?}");
    }
}

#[test]
fn a_file_has_no_name_in_it() {
    let (text, _) = line("/file IN_MODIFY x $@ '$#' $@/$#");
    assert!(text.contains(r#"cmd="x {pathname} '' {pathname}/""#), "{text}");
}

#[test]
fn what_happens_to_a_watched_directory_itself_has_its_path() {
    let (text, _) = line("/in IN_DELETE_SELF x $@ $# $%");
    assert!(text.contains(r#"cmd="x \"${PYINOTIFYD_PATHNAME%-unknown-path}\"  {maskname}","#), "{text}");
    assert!(!text.contains("IN_ISDIR"), "{text}");
    let (text, _) = line("/in IN_OPEN,IN_MOVE_SELF,IN_NO_LOOP x $@/$#");
    assert!(text.contains("event_map=dict.fromkeys([\"IN_OPEN\"], ShellScheduler("), "{text}");
    assert!(text.contains(") | dict.fromkeys([\"IN_MOVE_SELF\"], ShellScheduler("), "{text}");
    assert!(text.contains("name=\"tab-1\"") && text.contains("name=\"tab-1-self\""), "{text}");
}

#[test]
fn a_directory_is_the_lines_that_comes_first() {
    let others = |text: &str| table(text, None);
    let draft = others("/in/a IN_OPEN x\n/in IN_OPEN y\n");
    assert!(draft.text("").contains(r#"[r"^/in/(?:[^/]*/)*\.[^/]*/", "^/in/a/"],"#), "{}", draft.text(""));
    assert!(draft.notes.is_empty(), "{:?}", draft.notes);
    let is_warned = |text: &str| others(text).notes.iter().any(|note| note.text.contains("of line"));
    assert!(is_warned("/in IN_OPEN y\n/in/a IN_OPEN x\n"));
    assert!(is_warned("/in/a IN_OPEN,recursive=false x\n/in IN_OPEN y\n"));
    for apart in [
        "/in IN_OPEN,recursive=false y\n/in/a IN_OPEN x\n",
        "/in IN_OPEN y\n/in/.a/b IN_OPEN x\n",
        "/in IN_OPEN y\n/inner IN_OPEN x\n",
        "/ IN_OPEN y\n/file IN_OPEN x\n",
        "/in IN_OPEN y\n/in/a IN_ONESHOT x\n",
        "/in IN_OPEN y\n/in/* IN_OPEN x\n",
    ] {
        let text = others(apart).text("");
        assert!(!is_warned(apart) && !text.contains(", \"^/in"), "{apart}: {text}");
    }
}

#[test]
fn tables_of_users_run_as_them_in_their_shell() {
    let text = table("/in IN_CREATE x $@/$# | y $@\n/b IN_OPEN x $#", Some("ann")).text("");
    let script =
        r#"argv=["/bin/bash", "-c", "x \"$PYINOTIFYD_PATHNAME\" | y \"${PYINOTIFYD_PATHNAME%/*}\""],"#;
    assert!(text.contains(script), "{text}");
    assert!(text.contains(r#"cmd="x \"${PYINOTIFYD_PATHNAME##*/}\"","#), "{text}");
    let user = r#"user="ann",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/X11R6/bin", "USERNAME": "ann"},"#;
    assert_eq!(text.matches(user).count(), 2, "{text}");
    let roots = table("/in IN_CREATE x", Some("root")).text("");
    assert!(!roots.contains("user="), "{roots}");
}

#[test]
fn masks_are_names_numbers_and_both() {
    let all = Flag::ALL[..12].to_vec();
    let close = vec![Flag::CloseWrite, Flag::CloseNowrite];
    let of = |flags: Vec<Flag>| Wanted { flags, recursive: true, ..Wanted::default() };
    let unknown = |flags: Vec<Flag>, word: &str| Wanted { unknown: vec![word.into()], ..of(flags) };
    let cases = [
        ("IN_ALL_EVENTS", of(all.clone())),
        ("4095", of(all)),
        ("IN_CLOSE", of(close.clone())),
        ("IN_MOVE", of(vec![Flag::MovedFrom, Flag::MovedTo])),
        ("IN_CLOSE,IN_CLOSE_WRITE", of(close)),
        ("12", of(vec![Flag::Attrib, Flag::CloseWrite])),
        ("8,recursive=false", unknown(vec![Flag::CloseWrite], ",recursive=false")),
        ("IN_OPEN,,recursive=true,dotdirs=false", of(vec![Flag::Open])),
        ("IN_OPEN,recursive=false", Wanted { recursive: false, ..of(vec![Flag::Open]) }),
        ("IN_OPEN,dotdirs=true", Wanted { dotdirs: true, ..of(vec![Flag::Open]) }),
        ("IN_OPEN,IN_NO_LOOP", Wanted { no_loop: true, ..of(vec![Flag::Open]) }),
        ("IN_OPEN,IN_NO_LOOP,loopable=true", of(vec![Flag::Open])),
        ("IN_OPEN,IN_WRONG", unknown(vec![Flag::Open], "IN_WRONG")),
        ("IN_OPEN|IN_CREATE", unknown(Vec::new(), "IN_OPEN|IN_CREATE")),
        ("3271557122", Wanted { only_dir: true, dont_follow: true, oneshot: true, ..of(vec![Flag::Modify]) }),
        (
            "IN_ONLYDIR,IN_DONT_FOLLOW,IN_ONESHOT",
            Wanted { only_dir: true, dont_follow: true, oneshot: true, ..of(Vec::new()) },
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(Wanted::parse(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn blanks_and_backslashes_of_paths_are_escaped() {
    let cases: [(&str, Option<(&str, &str)>); 8] = [
        (r"/a\ b IN_OPEN x", Some(("/a b", "x"))),
        (r"/a\\b IN_OPEN x", Some((r"/a\b", "x"))),
        (r"/a\\ IN_OPEN x", Some((r"/a\", "x"))),
        (" \t/a \t IN_OPEN \t x  y ", Some(("/a", "x  y"))),
        ("/a IN_OPEN", None),
        ("/a IN_OPEN ", None),
        ("/a\\", None),
        ("", None),
    ];
    for (text, expected) in cases {
        let found = Line::parse(text.as_bytes()).map(|line| (line.path, line.command));
        assert_eq!(found, expected.map(|(path, command)| (path.into(), command.into())), "{text}");
    }
}

#[test]
fn what_is_watched_is_what_incron_watches() {
    let cases = [
        (
            "/in IN_OPEN x",
            "rec=True,\n    auto_add=True,\n    exclude_filter=[r\"^/in/(?:[^/]*/)*\\.[^/]*/\"],",
        ),
        ("/in/ IN_OPEN x", "exclude_filter=[r\"^/in/(?:"),
        ("/ IN_OPEN x", "exclude_filter=[r\"^/(?:"),
        ("/a+b IN_OPEN x", "exclude_filter=[r\"^/a\\+b/(?:"),
        ("/in IN_OPEN,dotdirs=true x", "rec=True,\n    auto_add=True,\n))"),
        ("/in IN_OPEN,recursive=false x", "    },\n))"),
        ("/home/.a IN_OPEN x", "    },\n))"),
        ("/[a]? IN_OPEN x", "path=\"/[[]a][?]\","),
        ("/*/[a] IN_OPEN x", "path=\"/*/[a]\","),
        (
            "/in IN_OPEN,IN_NO_LOOP,IN_CREATE x",
            "event_map=dict.fromkeys([\"IN_OPEN\", \"IN_CREATE\"], ShellScheduler(",
        ),
    ];
    for (text, expected) in cases {
        let (config, said) = line(text);
        assert!(config.contains(expected), "{text}: {config}");
        assert!(said.is_empty(), "{text}: {said:?}");
    }
}

#[test]
fn what_differs_or_is_left_out_is_said() {
    let cases = [
        ("/in IN_OPEN", "E incron ignores it: expected a path, a mask and a command"),
        ("in IN_OPEN x", "E its path is not absolute"),
        ("/in IN_ONESHOT x", "E incron watches nothing for it: its mask holds no event"),
        ("/in 0 x", "E incron watches nothing for it: its mask holds no event"),
        ("/file IN_OPEN,IN_ONLYDIR x", "E incron watches nothing for it: IN_ONLYDIR, and the path is a file"),
        ("/in/* IN_OPEN,recursive=false x", "E incron watches nothing for it: a * needs recursion"),
        ("/in IN_OPEN x `$#`", "E $# stands in backticks, where its value cannot be quoted"),
        ("/in IN_OPEN sh -c \"x $@/$#\"", "E $@/$# stands in text that a shell reads once more"),
        ("/in IN_OPEN x {pathname}", "E pyinotifyd would replace {pathname} in the command"),
        ("/in IN_OPEN x {$pathname}", "E pyinotifyd would replace {pathname} in the command"),
        ("/in IN_OPEN,IN_BAD x", "W 'IN_BAD' in its mask means nothing to incron"),
        ("/in IN_OPEN,IN_ONESHOT x", "W IN_ONESHOT: incron runs the command for one event"),
        ("/link IN_OPEN,IN_DONT_FOLLOW x", "W IN_DONT_FOLLOW: incron watches the link itself"),
        ("/link/ IN_OPEN x", "W the path is a link: the directories below it are not watched here"),
        ("/none IN_OPEN x", "W the path is not there; it is taken for a directory"),
        ("/in IN_OPEN x $HOME", "W incron drops a $ that stands before none of $@#%&, here before 'H'"),
        ("/in IN_OPEN x \"$@\"", "W in quotes incron puts a backslash before each blank of a path"),
        ("/in/* IN_OPEN x $@", "W what the * matches is taken for directories"),
        ("/in IN_OPEN x\n/in IN_CREATE y", "W incron ignores it, as line 1 has the same path"),
    ];
    for (text, expected) in cases {
        let (config, said) = line(text);
        assert_eq!(said.len(), 1, "{text}: {said:?}");
        assert!(said[0].starts_with(expected), "{text}: {said:?}");
        assert_eq!(config.contains("Watch("), said[0].starts_with('W'), "{text}: {config}");
        assert!(
            config
                .contains(&format!("\n# {}", if said[0].starts_with('W') { "WARNING: " } else { "ERROR: " }))
        );
    }
}

#[test]
fn lines_that_say_nothing_are_skipped() {
    let draft = table("# a\n\n   \t\n  # b\n", None);
    assert!(draft.notes.is_empty());
    assert!(!draft.is_incomplete());
    assert!(draft.text("").contains("from pyinotifyd import Pyinotifyd\n"), "{}", draft.text(""));
}

#[test]
fn a_note_names_its_line() {
    let draft = table("# a\n\n/in x\n", None);
    assert_eq!(draft.notes[0].place.to_string(), "/t/tab:3");
    assert_eq!(draft.notes[0].severity, Severity::LeftOut);
    assert!(draft.is_incomplete());
}

#[test]
fn a_line_that_would_not_load_is_left_out() {
    for text in ["/in IN_OPEN echo x\0y\n", "/i\0n IN_OPEN echo\n"] {
        let (config, said) = line(&format!("{text}/other IN_OPEN y $#\n"));
        assert_eq!(config.matches("watches.append(").count(), 1, "{text:?}: {config}");
        assert!(config.contains("path=\"/other\""), "{text:?}: {config}");
        assert!(said.len() == 1 && said[0].starts_with("E ") && said[0].contains("a NUL byte"), "{said:?}");
    }
}

#[test]
fn what_a_test_of_the_config_warns_of_is_said() {
    for (command, expected) in [
        ("ssh host rm $#", "W command: ssh gives its arguments to another shell as text"),
        ("sqlite3 db \"delete from f where name = '$#'\"", "W command: sqlite3 may execute an argument"),
        ("x {file}", "W command: {file} is no placeholder"),
    ] {
        let (config, said) = line(&format!("/in IN_OPEN,IN_CREATE {command}\n"));
        assert_eq!(said.iter().filter(|said| said.starts_with(expected)).count(), 1, "{command}: {said:?}");
        assert!(config.contains("watches.append("), "{command}: {config}");
    }
}

#[test]
fn a_blank_in_a_mask_is_said() {
    for (text, expected) in
        [("IN_CLOSE_WRITE, IN_CREATE echo", "IN_CREATE"), ("IN_OPEN ,IN_CREATE x", ",IN_CREATE")]
    {
        let (config, said) = line(&format!("/in {text}\n"));
        let expected = format!("W a blank ends the mask, so that incron runs '{expected}' as the command");
        assert!(said.len() == 1 && said[0].starts_with(&expected), "{text}: {said:?}");
        assert!(config.contains("\"IN_"), "{text}: {config}");
    }
    assert!(line("/in IN_OPEN IN_TRAY x\n").1.is_empty());
}
