//! Configurations of direvent, and what becomes of them.

use super::*;
use crate::import::Standing;
use read::Value;

/// /file is a file, /link a link to a directory; everything else is a directory.
fn look(path: &[u8]) -> Standing {
    let kind = if path == b"/file" { Kind::File } else { Kind::Directory };
    Standing { kind: Some(kind), is_link: path == b"/link" }
}

/// There is `other.conf`, and `loop.conf` includes itself.
fn find(wanted: &Include) -> Vec<Included> {
    let text = match wanted.path.as_slice() {
        b"other.conf" => Ok(b"\nwatcher { path /other; event create; command x; }".to_vec()),
        b"loop.conf" => Ok(b"#include loop.conf\n".to_vec()),
        _ => Err("no such file".to_owned()),
    };
    vec![Included { path: wanted.path.clone(), text }]
}

fn config(text: &str) -> (String, Vec<String>) {
    let mut draft = Draft::default();
    translate(b"d.conf", text.as_bytes(), &find, &look, &mut draft);
    let said = |note: &crate::import::draft::Note| {
        format!("{} {} {}", &note.severity.level()[..1], note.place, note.text)
    };
    (draft.text("direvent d.conf"), draft.notes.iter().map(said).collect())
}

/// The config of a watcher of /in with these statements more.
fn watcher(statements: &str) -> (String, Vec<String>) {
    config(&format!("watcher {{ path /in; event create; {statements} }}"))
}

fn statements(text: &str) -> (Vec<Statement>, usize) {
    let mut draft = Draft::default();
    let found = read::statements(b"d.conf", text.as_bytes(), &find, &mut draft);
    (found, draft.notes.len())
}

#[test]
fn a_watcher_becomes_a_watch() {
    let (text, said) =
        config("# c\nwatcher {\n  path /in;\n  event (create, MODIFY);\n  command \"/bin/x $file\";\n}\n");
    let expected = r#"
# d.conf:2
#     watcher {
#         path /in;
#         event (create, MODIFY);
#         command "/bin/x $file";
#     }
watches.append(Watch(
    path="/in",
    event_map={
        event: ShellScheduler(
            cmd=(
                "cd -- \"${PYINOTIFYD_PATHNAME%/*}/\" || exit; "
                "export DIREVENT_FILE=\"${PYINOTIFYD_PATHNAME##*/}\"; "
                "exec /bin/x \"$DIREVENT_FILE\""
            ),
            dirs=True,
            on_busy="rerun",
            output="null",
            timeout=5,
            env={
                "DIREVENT_GENEV_NAME": genev,
                "DIREVENT_GENEV_CODE": genev_code,
                "DIREVENT_SYSEV_NAME": sysev,
                "DIREVENT_SYSEV_CODE": sysev_code,
            },
            name=f"watcher-2-{event}",
        )
        for event, genev, genev_code, sysev, sysev_code in [
            ("IN_MODIFY", "write", "2", "MODIFY", "2"),
            ("IN_MOVED_TO", "create", "1", "MOVED_TO", "128"),
            ("IN_CREATE", "create", "1", "CREATE", "256"),
        ]
    },
))

pyinotifyd = Pyinotifyd(watches=watches)
"#;
    assert!(text.ends_with(expected), "{text}");
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn a_close_is_what_was_asked_for() {
    let of = |events: &str| config(&format!("watcher {{ path /in; event ({events}); command x; }}")).0;
    let row =
        |name: &str, code: u32| format!(r#"("IN_CLOSE_WRITE", "{name}", "{code}", "CLOSE_WRITE", "8"),"#);
    assert!(of("write").contains(&row("write", 2)) && of("CLOSE_WRITE").contains(&row("write", 2)));
    assert!(of("write, change").contains(&row("change", 16)) && of("change").contains(&row("change", 16)));
    assert!(!of("create, MODIFY").contains("IN_CLOSE_WRITE"));
}

#[test]
fn all_ways_to_write_a_value_are_read() {
    let text = |text: &str| Value::Text(text.into());
    let list = |list: &[&str]| Value::List(list.iter().map(|text| (*text).into()).collect());
    let cases = [
        ("a b;", vec![text("b")]),
        ("a \"b\\n\\t\\\\\\\"\\q\\\nc\";", vec![text("b\n\t\\\"qc")]),
        ("a (b, \"c d\" , e);", vec![list(&["b", "c d", "e"])]),
        ("a /x//y /* c\n */ recursive 2; // d", vec![text("/x//y"), text("recursive"), text("2")]),
        ("a b # c;\n;", vec![text("b")]),
        ("a <<EOT\nb\\tc\n  d\nEOT\n;", vec![text("b\tc\n  d\n")]),
        ("a <<\\EOT\nb\\tc\nEOT;\n", vec![text("b\\tc\n")]),
        ("a <<\"EOT\"\nb\\tc\nEOT  \n;", vec![text("b\\tc\n")]),
        ("a <<-EOT\n\t\tb\n\tEOT\n;", vec![text("b\n")]),
        ("a <<- EOT\n \t b\n  EOT;", vec![text("b\n")]),
        ("#line 7 \"x\"\na b;", vec![text("b")]),
    ];
    for (source, values) in cases {
        let (found, notes) = statements(source);
        assert_eq!((found.len(), notes), (1, 0), "{source}: {found:?}");
        assert_eq!(found[0].values, values, "{source}");
    }
    let (found, _) = statements("#line 7 \"x\"\na b;\n# 30 \"y\"\nc d;");
    let places: Vec<_> = found.iter().map(|statement| statement.place.to_string()).collect();
    assert_eq!(places, ["x:7", "y:30"]);
    let (found, _) = statements("a <<E\nb\nE;\nc d;");
    assert_eq!(found[1].place.line, 4);
}

#[test]
fn includes_are_read_where_they_stand() {
    let (text, said) = config("#include \"other.conf\"\n#include_once <other.conf>\n");
    assert_eq!(text.matches("\n# other.conf:2\n").count(), 1, "{text}");
    assert!(said.is_empty(), "{said:?}");
    let (_, said) = config("\n#include gone.conf\n");
    assert_eq!(said, ["E d.conf:2 cannot read 'gone.conf': no such file"]);
    let (_, said) = config("#include loop.conf\n");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].ends_with("'loop.conf' is included too deep"), "{said:?}");
}

#[test]
fn commands_become_lines_for_the_shell() {
    let cases = [
        (
            "/bin/x -e $genev_name ${sysev_code}",
            "exec /bin/x -e \"$DIREVENT_GENEV_NAME\" \"$DIREVENT_SYSEV_CODE\"",
        ),
        ("/bin/x a;b|c $(d) `e` *", "exec /bin/x 'a;b|c' '$(d)' '`e`' '*'"),
        ("/bin/x 'a $file' a$file.b", "exec /bin/x 'a $file' a\"$DIREVENT_FILE\".b"),
        ("/bin/x $HOME/y ${A:-b c}$file", "exec /bin/x ${HOME}/y ${A:-b c}\"$DIREVENT_FILE\""),
        ("/bin/x it\\'s", "exec /bin/x 'it'\"'\"'s'"),
        ("/bin/x {pathname}", "exec /bin/x '{''pathname}'"),
    ];
    for (command, expected) in cases {
        let found = command::words(command.as_bytes()).map(|line| [b"exec ", line.as_slice()].concat());
        assert_eq!(found, Ok(expected.as_bytes().to_vec()), "{command}");
    }
    let cases = [
        ("x $file '$file' \"$file\"", "x \"$DIREVENT_FILE\" ''\"$DIREVENT_FILE\"'' \"$DIREVENT_FILE\""),
        ("x $HOME | y ${genev_name}", "x $HOME | y \"$DIREVENT_GENEV_NAME\""),
    ];
    for (command, expected) in cases {
        assert_eq!(command::script(command.as_bytes()), Ok(expected.as_bytes().to_vec()), "{command}");
    }
}

#[test]
fn patterns_of_names_are_asked_of_the_shell() {
    let cases = [
        ("*.cfg", "case $DIREVENT_FILE in *.cfg) ;; *) false;; esac || exit 0"),
        ("!*.cfg", "case $DIREVENT_FILE in *.cfg) false;; esac || exit 0"),
        ("a b", "case $DIREVENT_FILE in a' 'b) ;; *) false;; esac || exit 0"),
        ("/^a/i", r#"printf '%s\n' "$DIREVENT_FILE" | grep -Eqi -e '^a' || exit 0"#),
        ("!/a/b", r#"! printf '%s\n' "$DIREVENT_FILE" | grep -q -e a || exit 0"#),
    ];
    for (pattern, expected) in cases {
        let mut entry = Entry::new(crate::import::draft::Place::of(b"", 1), Vec::new());
        let found = patterns(&[pattern.into()], &mut entry);
        assert_eq!(found, Some(expected.into()), "{pattern}");
    }
}

#[test]
fn options_become_arguments() {
    let cases = [
        ("command x; option (stdout, stderr);", "output=\"log\""),
        ("command x; option stdout;", "\"exec 2>/dev/null; \""),
        ("command x; option stderr;", "\"exec >/dev/null; \""),
        ("command x; timeout 2.5;", "timeout=2.5,"),
        ("command x; user ann;", "user=\"ann\","),
        ("command x; user ann staff;", "group=\"staff\","),
        ("command x; max-instances 3;", "max_jobs=3,"),
        ("command \"a | b\"; option shell;", "                \"a | b\"\n"),
        ("command x; environ { set \"A=$file b\"; }", r#""export A=\"$DIREVENT_FILE\"' b'; ""#),
        ("command x; environ { unset A; }", "\"unset A; \""),
        ("command x; environ { unset \"A=b\"; }", r#""[ \"$A\" != b ] || unset A; ""#),
        ("command x; environ { eval \"${A:=b}\"; }", r#"": \"${A:=b}\"; ""#),
        ("command x; environ { clear; keep HOME; }", r#""exec env -i ${HOME+\"HOME=$HOME\"} x""#),
        ("command x; environ \"PATH+=:/opt\";", r#""export PATH=\"${PATH+$PATH:}\"/opt; ""#),
        ("command x; environ \"PATH=+/opt:\";", r#""export PATH=/opt\"${PATH+:$PATH}\"; ""#),
        ("command x; environ \"A+=b\";", r#""export A=\"${A+$A}\"b; ""#),
        ("command x; environ \"A+=:$file\";", r#""export A=\"${A+$A:}\"\"$DIREVENT_FILE\"; ""#),
        ("command x; environ \"A=b+=c\";", r#""export A=b+=c; ""#),
        ("command x; environ (--, PATH+=:/opt);", r#""exec env -i ${PATH+\"PATH=$PATH\"} x""#),
        (
            "command x; environ (-, A=b, -C);",
            r#""export A=b; "
                "unset C; "
                "exec env -i ${DIREVENT_FILE+"#,
        ),
    ];
    for (statements, expected) in cases {
        let (text, said) = watcher(statements);
        assert!(text.contains(expected), "{statements}: {text}");
        assert!(said.is_empty(), "{statements}: {said:?}");
    }
    let (text, _) = config(
        "environ { set \"A=b\"; }\nshutdown-timeout 3;\nwatcher { path /in; event create; command x; }",
    );
    assert!(
        text.contains("\"export A=b; \"") && text.contains("Pyinotifyd(watches=watches, shutdown_timeout=3)")
    );
}

#[test]
fn paths_are_watched_as_deep_as_they_were() {
    let of = |paths: &str| config(&format!("watcher {{ {paths} event create; command x; }}")).0;
    assert!(!of("path /in;").contains("rec=True"));
    assert!(of("path /in recursive;").contains("rec=True,\n    auto_add=True,\n))"));
    assert!(of("path /in recursive 1;").contains(r#"exclude_filter=["^/in/(?:[^/]*/){2}"],"#));
    assert!(!of("path /in recursive 0;").contains("rec=True"));
    assert!(!of("path /file recursive;").contains("rec=True"));
    let several = of("path /a; path /b; path /c recursive;");
    assert!(several.contains(r#"path=["/a", "/b"],"#) && several.contains("path=\"/c\","), "{several}");
    let all = config("watcher { path /in; path /file; command x; }").0;
    assert!(all.contains("case $PYINOTIFYD_PATHNAME in /in) exit 0;; esac; "), "{all}");
}

#[test]
fn what_differs_or_is_left_out_is_said() {
    let cases = [
        ("watcher { path /in; event create; }", "E d.conf:1 no command"),
        ("watcher { path in; event create; command x; }", "E d.conf:1 path in: write it from / on"),
        (
            "watcher { path /in; event open; command x; }",
            "E d.conf:1 event open: direvent knows no such event",
        ),
        (
            "watcher { path /in; event create; command \"x 'y\"; }",
            "E d.conf:1 command: its quotes do not end",
        ),
        (
            "watcher { path /in; event create; command \"x `$file`\"; option shell; }",
            "E d.conf:1 command: ${file} stands in b",
        ),
        ("watcher { path /in; event create; command x; more 1; }", "E d.conf:1 'more' is unknown here"),
        ("watcher { path /in; event create; command x; option odd; }", "E d.conf:1 option odd is unknown"),
        (
            "watcher { path /in; event create; command x; timeout y; }",
            "E d.conf:1 timeout: expected a number",
        ),
        (
            "watcher { path /in; event create; command x; file /a; }",
            "E d.conf:1 file /a: its second / is missing",
        ),
        (
            "watcher { path /in; event create; command x; environ { unset \"A*\"; } }",
            "E d.conf:1 environ: unset A*",
        ),
        (
            "watcher { path /in; event create; command x; environ \"A+=$file\"; }",
            "E d.conf:1 environ: A+=$file: write set",
        ),
        (
            "watcher { path /in; event create; command x; environ \"A+=_b\"; }",
            "E d.conf:1 environ: A+=_b: write set",
        ),
        ("a (b;", "E d.conf:1 expected a value or ), found ';'"),
        ("}", "E d.conf:1 expected a statement, found '}'"),
        ("a \"b", "E d.conf:1 a text that does not end"),
        ("/* a", "E d.conf:1 a comment that does not end"),
        ("odd 1;", "E d.conf:1 'odd' is unknown here"),
        ("user ann;", "W d.conf:1 set User= of the service"),
        ("watcher { path /in; event change; command x; }", "W d.conf:1 change: runs when a file"),
        ("watcher { path /in; event write; command x; }", "W d.conf:1 write: runs also when a file"),
        ("watcher { path /link recursive; event create; command x; }", "W d.conf:1 path /link is a link"),
        (
            "watcher { path /in; event create; command x; option wait; }",
            "W d.conf:1 option wait: one command",
        ),
    ];
    for (text, expected) in cases {
        let (_, said) = config(text);
        assert!(!said.is_empty() && said[0].starts_with(expected), "{text}: {said:?}");
    }
}

#[test]
fn a_watcher_that_would_not_load_is_left_out() {
    let cases = [
        (
            r#"command "/bin/sh -c \"echo $file >> /x\"";"#,
            "command: $DIREVENT_FILE stands in text that a shell",
        ),
        (r#"command "perl -e \"print qq($file)\"";"#, "command: $DIREVENT_FILE stands in text that perl"),
        ("command \"x \0\";", "command: it holds a NUL byte"),
        ("command x; file \"a\0\";", "command: it holds a NUL byte"),
        ("path \"/a\0\"; command x;", "it holds a NUL byte"),
        ("command x; user \"\";", "user: expected the names"),
        ("command x; user (ann, \"a\nb\");", "user: expected the names"),
    ];
    for (statements, expected) in cases {
        let other = "watcher { path /other; event create; command y; }";
        let (text, said) = config(&format!("watcher {{ path /in; event create; {statements} }} {other}"));
        assert_eq!(text.matches("watches.append(").count(), 1, "{statements}: {text}");
        assert!(text.contains("path=\"/other\""), "{statements}: {text}");
        assert_eq!(said.len(), 1, "{statements}: {said:?}");
        assert!(said[0].starts_with(&format!("E d.conf:1 {expected}")), "{statements}: {said:?}");
    }
    let (_, said) = watcher(r#"command "/bin/sh -c \"echo $file\"";"#);
    assert!(said[0].contains("use \"$DIREVENT_FILE\" in single quotes"), "{said:?}");
    let (text, said) = watcher(r#"command "/bin/sh -c 'echo \"$DIREVENT_FILE\"'";"#);
    assert!(said.is_empty() && text.contains("watches.append("), "{said:?}");
}

#[test]
fn what_a_test_of_the_config_warns_of_is_said_once() {
    for (statements, expected) in [
        ("command \"ssh host rm $file\"; option shell;", "command: ssh gives its arguments to another shell"),
        ("command \"x {file}\"; option shell;", "command: {file} is no placeholder"),
    ] {
        let (text, said) = watcher(&format!("{statements} path /more recursive;"));
        assert_eq!(text.matches("watches.append(").count(), 2, "{statements}: {text}");
        assert_eq!(said.len(), 1, "{statements}: {said:?}");
        assert!(said[0].starts_with(&format!("W d.conf:1 {expected}")), "{statements}: {said:?}");
    }
}
