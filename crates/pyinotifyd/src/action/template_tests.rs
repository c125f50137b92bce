//! The reader of commands against real shells.

use super::*;
use crate::action::code::{READ_ONCE_MORE, judge_arguments};
use crate::action::occasion::{Failed, OF_BATCHES, OF_EVENTS, OF_FAILURES};
use event::{Event, Flag};
use proptest::collection::vec;
use proptest::prelude::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output, Stdio};

fn event<'a>(pathname: &'a [u8], src: Option<&'a [u8]>) -> Occasion<'a> {
    Occasion::of(&Event { mask: Flag::MovedTo.mask(), pathname, src_pathname: src, ..Event::overflow() })
}

fn read(template: &[u8]) -> Result<CommandTemplate, String> {
    CommandTemplate::new(template, OF_EVENTS)
}

fn doubts(template: &str) -> Vec<String> {
    CommandTemplate::with_doubts(template.as_bytes(), OF_EVENTS).map(|(_, doubts)| doubts).unwrap_or_default()
}

fn is_of_split(doubt: impl AsRef<str>) -> bool {
    doubt.as_ref().contains(" stands outside of quotes, where a shell splits its value at blanks")
}

fn expanded(template: &str, pathname: &[u8]) -> String {
    let line = read(template.as_bytes()).unwrap().expand(&event(pathname, None));
    String::from_utf8(line).unwrap()
}

/// The shells that `/bin/sh` is on the systems that we know, as far as they are here.
fn shells() -> Vec<&'static str> {
    let known = ["/bin/dash", "/bin/bash", "/bin/sh", "/bin/busybox sh", "/bin/mksh"].into_iter();
    let program =
        |shell: &str| shell.split(' ').next().is_some_and(|path| std::path::Path::new(path).exists());
    known.filter(|shell| program(shell)).collect()
}

fn run(shell: &str, line: &[u8], directory: &std::path::Path, pathname: &[u8]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("10").args(shell.split(' ')).arg("-c").arg(OsStr::from_bytes(line));
    command.env("PYINOTIFYD_PATHNAME", OsStr::from_bytes(pathname));
    command.current_dir(directory).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn placeholders_are_replaced_everywhere_and_other_braces_stay() {
    let template = "a {maskname} '{{pathname}}' {x} ${y} {pathname}{src_pathname} {";
    assert_eq!(expanded(template, b"/w/f"), "a IN_MOVED_TO '{/w/f}' {x} ${y} /w/f'' {");
}

#[test]
fn a_placeholder_in_a_name_is_only_a_name() {
    let template = read(b"echo {pathname}").unwrap();
    let line = template.expand(&event(b"/w/x{src_pathname}y", Some(b"/w/;touch PWNED;")));
    assert_eq!(String::from_utf8(line).unwrap(), "echo '/w/x{src_pathname}y'");
}

#[test]
fn values_are_quoted_where_they_stand_and_only_if_needed() {
    let cases = [
        ("echo '{pathname}'", "/w/f", "echo '/w/f'"),
        ("echo \"{pathname}\"", "/w/f", "echo \"/w/f\""),
        ("echo {pathname}", "/w/a b", "echo '/w/a b'"),
        ("echo 'x {pathname}'", "/w/a'b", "echo 'x /w/a'\"'\"'b'"),
        ("echo \"x {pathname} y\"", "/w/$a", "echo \"x \"'/w/$a'\" y\""),
        ("echo $x{pathname}", "/w/f", "echo $x'/w/f'"),
        ("echo \"$x{pathname}\"", "/w/f", "echo \"$x\"'/w/f'\"\""),
        ("echo ~{pathname}", "/w/f", "echo ~'/w/f'"),
        ("echo x{{pathname}}", "/a,b", "echo x{'/a,b'}"),
        ("echo '' # {pathname} stays", "/w/f", "echo '' # {pathname} stays"),
        (
            "x=$(basename {pathname}); echo \"$x\" \"${x%.*}\" {pathname}",
            "/w/f",
            "x=$(basename /w/f); echo \"$x\" \"${x%.*}\" /w/f",
        ),
        (
            "mv {pathname} \"/out/$(date +%s)\" 2>&1 && echo \"{pathname}\"",
            "/w/f",
            "mv /w/f \"/out/$(date +%s)\" 2>&1 && echo \"/w/f\"",
        ),
        ("sh -c 'echo \"$1\"' sh {pathname}", "/w/f", "sh -c 'echo \"$1\"' sh /w/f"),
        (
            "case {pathname} in *.x) echo \"{pathname}\";; esac",
            "/w/f",
            "case /w/f in *.x) echo \"/w/f\";; esac",
        ),
        ("cat > {pathname}.txt <<END\nbody\nEND", "/w/f", "cat > /w/f.txt <<END\nbody\nEND"),
        ("echo \\\\{pathname}", "/w/f", "echo \\\\/w/f"),
    ];
    for (template, name, line) in cases {
        assert_eq!(expanded(template, name.as_bytes()), line, "{template}");
    }
}

#[test]
fn what_cannot_be_decided_is_refused() {
    let cases = [
        ("echo `basename {pathname}`", "in backticks"),
        ("echo \"`basename {pathname}`\"", "in backticks"),
        ("echo \"$(echo `basename {pathname}`)\"", "in backticks"),
        ("echo \"$(basename {pathname})\"", "in $(...) in quotes"),
        ("echo \"$(basename '{pathname}')\"", "in $(...) in quotes"),
        ("echo \"$(basename \"{pathname}\")\"", "in $(...) in quotes"),
        ("cat <<END\n{pathname}\nEND", "in or behind a here-document"),
        ("cat <<-'END'\n{pathname}\nEND", "in or behind a here-document"),
        ("cat <<{pathname}", "in or behind a here-document"),
        ("echo ${x:-{pathname}}", "in ${...}"),
        ("echo \"${x:-{pathname}}\"", "in ${...}"),
        ("echo \"${x:-$(basename {pathname})}\"", "in ${...}"),
        ("echo \"${x:-\"y\"}\" {pathname}", "behind quotes in \"${...}\""),
        ("echo ${pathname}", "behind a $"),
        ("echo \"${pathname}\"", "behind a $"),
        ("echo \\{pathname}", "behind a backslash"),
        ("echo \"\\{pathname}\"", "behind a backslash"),
        ("echo $'a\\'b' {pathname}", "behind $'...'"),
        ("echo \"$(case x in x) echo;; esac)\" {pathname}", "behind case in $(...)"),
    ];
    for (template, place) in cases {
        let error = read(template.as_bytes()).unwrap_err();
        let wanted = format!(
            "{{pathname}} stands {place}, where its value cannot be quoted: use \"$PYINOTIFYD_PATHNAME\""
        );
        assert_eq!(error, wanted, "{template}");
    }
    // What is advised is right.
    for (template, _) in cases {
        let own = template.replace("{pathname}", "\"$PYINOTIFYD_PATHNAME\"");
        assert_eq!(read(own.as_bytes()).err(), None, "{own}");
        assert!(doubts(&own).iter().all(is_of_split), "{own}");
    }
    for template in ["echo $(({pathname}))", "((x = {pathname}))", "echo $(($(wc -c < {pathname}) / 2))"] {
        let wanted = "{pathname} stands in arithmetic, where its value cannot be quoted: compute with a variable, as \
                      in size=$(stat -c %s {pathname})";
        assert_eq!(read(template.as_bytes()).unwrap_err(), wanted, "{template}");
    }
}

#[test]
fn code_of_a_shell_is_refused_and_advised_to_have_an_argument() {
    for template in [
        "eval \"echo {pathname}\"",
        "x=1; eval echo {pathname}",
        "trap 'rm {pathname}' EXIT",
        "sh -c 'echo {pathname}'",
        "sudo -u x /bin/bash -ec \"echo {pathname}\"",
        "bash -c -x 'echo {pathname}'",
        "su user --command='echo {pathname}'",
        "(sh 2>&1 -c \"{pathname}\")",
        "sh -c \"$(cat x) {pathname}\"",
    ] {
        let wanted = "{pathname} stands in text that a shell reads once more, where its value cannot be quoted: use \
                      \"$PYINOTIFYD_PATHNAME\" in single quotes, or give it as an argument, as in sh -c 'ls \
                      \"$1\"' sh {pathname}";
        assert_eq!(read(template.as_bytes()).unwrap_err(), wanted, "{template}");
    }
}

/// The shell expands it there as it puts a placeholder there.
#[test]
fn a_variable_of_the_event_in_code_is_judged_as_its_placeholder_is() {
    for template in [
        "sh -c \"ls $PYINOTIFYD_PATHNAME\"",
        "sh -c \"ls \"$PYINOTIFYD_PATHNAME",
        "sh -c \"ls '${PYINOTIFYD_PATHNAME}'\"",
        "sh -c \"ls ${PYINOTIFYD_PATHNAME##*/}\"",
        "bash -ec \"ls ${PYINOTIFYD_SRC_PATHNAME:-x}\"",
        "sudo -u x bash -c \"ls; ls $PYINOTIFYD_PATHNAME; ls\"",
        "su bob -c \"ls '$PYINOTIFYD_PATHNAME'\"",
        "flock /run/l -c \"ls $PYINOTIFYD_PATHNAME\"",
        "eval \"ls $PYINOTIFYD_PATHNAME\"",
        "eval ls \"$PYINOTIFYD_PATHNAME\"",
        "trap \"rm $PYINOTIFYD_PATHNAME\" EXIT",
        "python3 -c \"open('$PYINOTIFYD_PATHNAME')\"",
        "perl -e \"unlink '$PYINOTIFYD_PATHNAME'\"",
        "awk \"{ print \\\"$PYINOTIFYD_PATHNAME\\\" }\" list",
        "x=$PYINOTIFYD_PATHNAME; sh -c \"ls $x\"",
        "x=\"$(basename \"$PYINOTIFYD_PATHNAME\")\"; sh -c \"ls $x\"",
        "set -- \"$PYINOTIFYD_PATHNAME\"; sh -c \"ls $1\"",
        "echo \"ls $PYINOTIFYD_PATHNAME\" | sh",
        "sh <<< \"ls $PYINOTIFYD_PATHNAME\"",
        "bash <(echo \"ls $PYINOTIFYD_PATHNAME\")",
        "sh <<END\nls \"$PYINOTIFYD_PATHNAME\"\nEND",
        "cat <<-END | sudo -u bob sh -s\n\tIt's $(date), ${PYINOTIFYD_PATHNAME##*/}\n\tEND\nls",
        "python3 - <<END && ls\nopen('$PYINOTIFYD_PATHNAME')\nEND",
        "x=\"$(sh <<END\nls $PYINOTIFYD_PATHNAME\nEND\n)\"",
        "x=$(basename \"$PYINOTIFYD_PATHNAME\")\nsh <<END\nls $x\nEND",
        "cat <<END\nDon't\nEND\nsh -c \"ls $PYINOTIFYD_PATHNAME\"",
        "x=`sh -c \"ls $PYINOTIFYD_PATHNAME\"`",
        "x=\"`sh -c \\\"ls $PYINOTIFYD_PATHNAME\\\"`\"",
        "x=`basename \"$PYINOTIFYD_PATHNAME\"`; sh -c \"ls $x\"",
        "sh -c 'eval \"ls $PYINOTIFYD_PATHNAME\"'",
        "su bob -c 'sh -c \"ls $PYINOTIFYD_PATHNAME\"'",
        "bash -c 'echo \"ls $1\" | at now' bash \"$PYINOTIFYD_PATHNAME\"",
        "trap 'sh -c \"rm $PYINOTIFYD_PATHNAME\"' EXIT",
    ] {
        let error = read(template.as_bytes()).err().unwrap_or_else(|| panic!("{template}"));
        assert!(error.starts_with("$PYINOTIFYD_") && error.contains("in text that"), "{template}: {error}");
    }
    for template in [
        "mysh -c \"ls $PYINOTIFYD_PATHNAME\"",
        "psql -c \"insert into files values ('$PYINOTIFYD_PATHNAME')\"",
        "sed -i \"s|x|$PYINOTIFYD_PATHNAME|\" list",
        "ssh host ls \"$PYINOTIFYD_PATHNAME\"",
        "f() { sh -c \"ls $1\"; }; f \"$PYINOTIFYD_PATHNAME\"",
        "sed s/a/b/ \"$PYINOTIFYD_PATHNAME\" | sh",
        "mysql db <<END\ninsert into files values ('$PYINOTIFYD_PATHNAME');\nEND",
    ] {
        assert!(read(template.as_bytes()).is_ok(), "{template}");
        assert!(doubts(template)[0].contains("the value of $PYINOTIFYD_PATHNAME"), "{:?}", doubts(template));
    }
    let error = read(b"sh -c \"ls $PYINOTIFYD_SRC_PATHNAME\"").unwrap_err();
    assert!(error.ends_with("as in sh -c 'ls \"$1\"' sh {src_pathname}"), "{error}");
    // A batch has no such variable.
    assert!(CommandTemplate::new(b"sh -c \"ls $PYINOTIFYD_PATHNAME\"", OF_BATCHES).is_ok());
    assert!(CommandTemplate::new(b"sh -c \"ls $PYINOTIFYD_ERROR\"", OF_EVENTS).is_ok());
    assert!(CommandTemplate::new(b"sh -c \"ls $PYINOTIFYD_ERROR\"", OF_FAILURES).is_err());
}

#[test]
fn eval_is_refused_however_it_is_written_and_whatever_way_a_value_comes_to_it() {
    let cases = [
        r"\eval ls {pathname}",
        "'eval' ls {pathname}",
        "\"ev\"al ls {pathname}",
        "e=eval; $e : {pathname}",
        "x={pathname}; eval ls $x",
        "x='ls {pathname}'; eval \"$x\"",
        "set -- {pathname}; eval ls $1",
        "f() { eval ls \"$1\"; }; f {pathname}",
        "for i in 1; do eval ls {pathname}; done",
        "case x in x) eval ls {pathname};; esac",
        "x={pathname}; y=`eval ls $x`",
        "sh -c 'eval ls $1' sh {pathname}",
    ];
    for template in cases {
        let error = read(template.as_bytes()).unwrap_err();
        assert!(error.contains("eval") || error.contains(READ_ONCE_MORE), "{template}: {error}");
    }
    for template in ["echo evaluate {pathname}", "retrieval {pathname}", "cat /etc/eval.conf {pathname}"] {
        assert!(read(template.as_bytes()).is_ok(), "{template}");
    }
}

#[test]
fn what_is_printed_into_a_shell_is_refused_and_what_may_be_is_warned_of() {
    for template in [
        "echo ls {pathname} | sh",
        "echo 'ls {pathname}' | bash -s",
        "printf 'ls %s\n' {pathname} | sort | /bin/dash -e",
        "(echo ls {pathname}) | sh",
        "echo ls {pathname} |\nsh",
        "sh <<< 'ls {pathname}'",
        "'sh' -c 'ls {pathname}'",
        "{ echo ls {pathname}; } | sh",
        "{\necho x; echo ls {pathname}\n} 2>/dev/null | sh",
        "(echo ls {pathname}; echo x) | sh",
        "if true; then echo ls {pathname}; fi | sh",
        "for i in 1 2; do { echo ls {pathname}; }; done | sort | sh",
        "while read x; do echo ls {pathname}; break; done < /etc/passwd | sh",
        "{ echo x; echo ls {pathname} | sh; }",
        "echo ls {pathname} | sudo -u root sh",
        "echo ls {pathname} | sudo --user root -H nice -n 5 bash -s",
        "echo 'convert {pathname}' | at now",
        "echo 'convert {pathname}' | batch",
        "echo 'ls {pathname}' | ssh -p 22 host",
        "echo 'ls {pathname}' | ssh host sudo -u backup sh",
    ] {
        let error = read(template.as_bytes()).expect_err(template);
        assert!(error.contains(READ_ONCE_MORE), "{template}: {error}");
    }
    for (template, instead) in [
        ("sed s/a/b/ {pathname} | sh", "sh -s"),
        ("ssh host ls {pathname}", "read -r name"),
        ("sudo ssh -p 22 -v host 'ls {pathname}' </dev/null", "read -r name"),
        ("if timeout 5 ssh host test -e {pathname}; then true; fi", "read -r name"),
        ("sudo -u root ssh host ls {pathname}", "read -r name"),
        ("sudo -nu root -- ionice -c idle ssh host ls {pathname}", "read -r name"),
        ("env -u LANG timeout -s KILL 5 ssh host ls {pathname}", "read -r name"),
        ("{ echo {pathname} >> log; cat script; } | sh", "sh -s"),
        ("case {pathname} in *.a) echo ls;; esac | sh", "sh -s"),
        ("watch -n1 ls {pathname}", "watch -x"),
        ("parallel 'cp {pathname} {}' ::: a b", ":::"),
        ("echo {pathname} | xargs -I{} sh -c 'ls {}'", "sh -c 'COMMAND \"$@\"' sh"),
    ] {
        let found = doubts(template);
        assert!(found.len() == 1 && found[0].contains(instead), "{template}: {found:?}");
        assert!(read(template.as_bytes()).is_ok(), "{template}");
    }
    for template in [
        "ssh host cat < {pathname}",
        "ssh -i {pathname} host ls",
        "rsync -e ssh {pathname} host:",
        "printf '%s\\0' {pathname} | ssh host 'xargs -0 ls'",
        "cat {pathname} | sh",
        "echo {pathname} || sh",
        "echo {pathname}; sh x",
        "echo {pathname} | sh script",
        "watch -x ls {pathname}",
        "parallel ls ::: {pathname}",
        "echo {pathname} | xargs sh -c 'ls \"$@\"' sh",
        "sh {pathname}",
        "{ cat {pathname}; } | sh",
        "if [ -s {pathname} ]; then cat script; fi | sh",
        "{ echo {pathname}; }; sh x",
        "{ echo {pathname}; } > list; { cat script; } | sh",
        "(cd /w && tar cf - {pathname}) | ssh host 'tar xf -'",
        "sudo -u root ls {pathname}",
        "echo {pathname} | ssh host 'cat > list'",
        "at -f {pathname} now",
    ] {
        assert!(read(template.as_bytes()).is_ok() && doubts(template).is_empty(), "{template}");
    }
}

/// What is refused, and what is warned of, of a command that gives a value to a program as code.
const CODE: &[&str] = &[
    "parallel ::: \"ls {pathname}\"",
    "parallel -j 4 --bar ::: 'ls x' 'ls {pathname}'",
    "parallel --jobs 4 ::: {pathname}",
    "parallel <<< 'ls {pathname}'",
    "echo \"* * * * * ls {pathname}\" | crontab -",
    "(crontab -l; echo \"* * * * * ls {pathname}\") | crontab -u bob -",
    "echo \"ls {pathname}\" | sudo -u bob at -M now + 5 minutes",
    "at now <<< \"ls {pathname}\"",
    "bash -s <<< \"ls {pathname}\"",
    "flock /run/l awk '{ print \"{pathname}\" }' list",
    "awk 2>/dev/null '{ print \"{pathname}\" }' list",
    ">out awk '{ print \"{pathname}\" }' list",
    "\"$SHELL\" -c \"echo {pathname}\"",
    "\"${SHELL:-/bin/sh}\" -c 'echo {pathname}'",
    "exec \"$BASH\" -ec {pathname}",
    "rbash -c 'echo {pathname}'",
    "csh -c 'echo {pathname}'",
    "tcsh -fc 'echo {pathname}'",
    "fish --command='echo {pathname}'",
    "yash -c 'echo {pathname}'",
    "pwsh -Command 'echo {pathname}'",
    "zsh-5.9 -c 'echo {pathname}'",
    "x={pathname}; sh -c \"echo $x\"",
    "x={pathname}; sh -c \"echo ${x%.*}\"",
    "export x='a {pathname}'; sh -c \"echo $x\"",
    "x={pathname}; y=$x; sh -c \"echo $y\"",
    "x={pathname}; echo \"echo $x\" | sh",
    "x=$(basename {pathname}); sh -c \"echo $x\"",
    "sh -c \"echo \"$(basename {pathname})",
    "set -- {pathname}; sh -c \"echo $1\"",
    "for x in {pathname}; do sh -c \"echo $x\"; done",
    "echo {pathname} | while read -r x; do sh -c \"echo $x\"; done",
    "read -r x <<< {pathname}; sh -c \"echo $x\"",
    "printf -v x %s {pathname}; bash -c \"echo $x\"",
    "bash <(echo ls {pathname})",
    ". <(echo ls {pathname})",
    "echo ls {pathname} | \"$SHELL\"",
    "echo ls {pathname} | busybox sh",
    "echo ls {pathname} | su user",
    "echo ls {pathname} | parallel -j 4",
    "echo 'print({pathname})' | python3 -",
    "tar cf x . --checkpoint=1 --checkpoint-action=exec=\"echo {pathname}\"",
    "tar xf x --to-command='cat > {pathname}'",
    "perl -e 'print \"{pathname}\"'",
    "perl -pe's|x|{pathname}|' list",
    "perl -i.old -lne 'print \"{pathname}\"' list",
    "/usr/bin/python3.11 -c 'print(\"{pathname}\")'",
    "python3 -Ic \"print('{pathname}')\"",
    "ruby -ne 'puts \"{pathname}\"' list",
    "node --eval='{pathname}'",
    "node -p '\"{pathname}\"'",
    "php -r 'echo \"{pathname}\";'",
    "awk '{ print \"{pathname}\" }' list",
    "awk -F : -v x=1 '{ print \"{pathname}\" }' list",
    "gawk -e 'BEGIN { print \"{pathname}\" }'",
    "find . -exec awk 'BEGIN { print \"{pathname}\" }' \\;",
    "python3 <<< 'print(\"{pathname}\")'",
    "find . -exec sh -c 'echo {pathname}' \\;",
];

const PERHAPS_CODE: &[&str] = &[
    "sqlite3 db \"insert into files values ('{pathname}')\"",
    "sqlite3 -batch /srv/db 'select 1' \"delete from files where name = '{pathname}'\"",
    "mysql -u root -p -se \"insert into files values ('{pathname}')\" db",
    "mariadb -e\"insert into files values ('{pathname}')\"",
    "docker exec db psql -U x -c \"insert into files values ('{pathname}')\"",
    "printf \"insert into files values ('%s');\" {pathname} | sqlite3 db",
    "echo \"insert into files values ('{pathname}');\" | psql -q db",
    "mysql db <<< \"insert into files values ('{pathname}')\"",
    "echo \"put {pathname}\" | sftp -b - host",
    "parallel \"ls {pathname}\" ::: x",
    "parallel -j 4 ls {pathname} ::: x",
    "tmux send-keys -t work \"less {pathname}\" Enter",
    "tmux send-keys -t work {pathname} Enter",
    "tmux -L x new-session -d -s work 'less {pathname}'",
    "tmux new-window -n less \"less '{pathname}'\"",
    "tmux new-window -c {pathname} make",
    "tmux display-message 'new: {pathname}'",
    "screen -S work -X stuff 'less {pathname}\n'",
    "gdb -batch -ex \"file {pathname}\" -ex bt",
    "jq -n \"{name: \\\"{pathname}\\\"}\"",
    "sed s/a/b/ {pathname} | crontab -",
    "\"$TOOL\" -c \"echo {pathname}\"",
    "mysh -c 'echo {pathname}'",
    "psql -c \"insert into files values ('{pathname}')\"",
    "mysql --execute=\"insert into files values ('{pathname}')\"",
    "vim -c 'e {pathname}'",
    "xterm -e 'less {pathname}'",
    "tar cf x . --checkpoint-act=exec='echo {pathname}'",
    "sed -i 's|x|{pathname}|' list",
    "sed -n -e 's|x|{pathname}|e' list",
    "x=$(readlink -f list; stat -c %n {pathname}); sh -c \"echo $x\"",
    "f() { sh -c \"echo $1\"; }; f {pathname}",
    "echo {pathname} | xargs -I% sh -c \"echo %\"",
    "echo {pathname} | xargs -0 -I % sh -c \"echo %\"",
    "echo {pathname} | xargs -n 1 --replace=@ nice sh -c 'echo @'",
    "echo {pathname} | xargs --replace sh -c 'echo {}'",
    "echo {pathname} | xargs -I% perl -e 'print \"%\"'",
    "echo {pathname} | xargs sh -c",
    "echo {pathname} | xargs ssh host ls",
    "find {pathname} -exec sh -c 'echo {}' \\;",
    "x={pathname}; ssh host ls \"$x\"",
    "for x in {pathname}; do echo \"$x\"; done | xargs -I% bash -c 'ls %'",
];

const DATA: &[&str] = &[
    "sh -c 'find \"$1\" -exec sh -c \"ls \\\"\\$1\\\"\" sh {} \\;' sh {pathname}",
    "env FILE={pathname} sh -c 'echo \"$FILE\"'",
    "trap 'rm -f \"$x\"' EXIT; x=$(mktemp); cp {pathname} \"$x\"",
    "while read -r f; do sh -c 'ls \"$1\"' sh \"$f\"; done < \"$PYINOTIFYD_PATHNAME\"",
    "mail -s \"new: ${PYINOTIFYD_PATHNAME##*/} (now)\" root < {pathname}",
    "bash -c 'for f; do n=$(basename \"$f\" .jpg); cp \"$f\" \"out/$n.png\"; done' bash {pathname}",
    "awk -v f=\"$PYINOTIFYD_PATHNAME\" 'BEGIN { print f }'",
    "case \"$PYINOTIFYD_PATHNAME\" in *.csv) ls \"$PYINOTIFYD_PATHNAME\";; esac",
    "sqlite3 {pathname} 'select name from files'",
    "sqlite3 {pathname}.db .dump > out",
    "sqlite3 -csv db \".import /dev/stdin files\" < {pathname}",
    "printf '%s\\n' {pathname} | sqlite3 db '.import /dev/stdin files'",
    "cat {pathname} | mysql db",
    "gunzip -c {pathname} | psql -q db",
    "bzcat {pathname} | psql -v ON_ERROR_STOP=1 db",
    "iconv -f latin1 {pathname} | sqlite3 db",
    "mysql db < {pathname}",
    "psql -f {pathname} -v name={pathname} db",
    "echo \"insert into files values (:'name')\" | psql -v name={pathname}",
    "parallel ls ::: {pathname}",
    "parallel -j 4 gzip -c ::: {pathname} > out",
    "parallel -a {pathname} ls",
    "tmux new-window less {pathname}",
    "tmux new-session -d -s work -e NAME={pathname} less {pathname}",
    "tmux set-buffer \"new: {pathname}\"",
    "tmux send-keys -t work make Enter; ls {pathname}",
    "screen -dmS work less {pathname}",
    "gdb -batch -ex bt /usr/bin/x {pathname}",
    "jq . {pathname}",
    "jq -r '.name' '{pathname} (new)'",
    "jq -n --arg name {pathname} '{name: $name}'",
    "jq -f filter.jq '{pathname} (new)'",
    "jq -rf filter.jq '{pathname} (new)'",
    "jq --from-file filter.jq '{pathname} (new)'",
    "awk --file=program.awk '{pathname} (new)'",
    "gawk -bf program.awk '{pathname} (new)'",
    "sed -nf program.sed '{pathname} (new)'",
    "yq eval '.a' {pathname}",
    "tar --to-command=cat -xf {pathname}",
    "crontab -l | grep {pathname}",
    "crontab {pathname}",
    "echo 'ls \"$PYINOTIFYD_PATHNAME\"' | at now",
    "flock /run/l grep -e '{pathname} x' list",
    "cat <<< \"{pathname}\"",
    "read -r x <<< {pathname}; ls \"$x\"",
    "sh -c 'ls' <<< '{pathname} x'",
    "sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
    "eval 'ls \"$PYINOTIFYD_PATHNAME\"'",
    "trap 'ls \"$PYINOTIFYD_PATHNAME\"' EXIT",
    "sh -c \"ls \\\"\\$PYINOTIFYD_PATHNAME\\\"\"",
    "sh -c 'ls \"$1\"' sh \"$PYINOTIFYD_PATHNAME\"",
    "sh -c \"echo ${PYINOTIFYD_SRC_PATHNAME:+moved} ${#PYINOTIFYD_PATHNAME}\"",
    "python3 -c 'import os; print(os.environ[\"PYINOTIFYD_PATHNAME\"])'",
    "awk 'BEGIN { print ENVIRON[\"PYINOTIFYD_PATHNAME\"] }'",
    "ls \"$PYINOTIFYD_PATHNAME\" \"${PYINOTIFYD_PATHNAME##*/}\" \"`basename \"$PYINOTIFYD_PATHNAME\"`\"",
    "x=\"$(dirname \"$(dirname \"$PYINOTIFYD_PATHNAME\")\")\"; ls \"$x\"",
    "grep alias {pathname}",
    "postmap alias {pathname}",
    "[ -e \"/o ut/{pathname}\" ]",
    "[ \"$(stat -c %s \"$PYINOTIFYD_PATHNAME\")\" -gt 100 ]",
    "f() { ls \"$1\"; }; f \"$PYINOTIFYD_PATHNAME\"",
    "sh <<'END'\nls \"$PYINOTIFYD_PATHNAME\"\nEND",
    "sh <<END\nls \"\\$PYINOTIFYD_PATHNAME\"\nEND",
    "sh <<END\nls\nEND\nls \"$PYINOTIFYD_PATHNAME\"",
    "cat <<END > list\nIt's $PYINOTIFYD_PATHNAME; eval `date`\nEND\nsh -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
    "cat > {pathname}.x <<\\END\nsh -c \"ls $PYINOTIFYD_PATHNAME\"\nEND",
    "mysql db <<END\nselect 1;\nEND",
    "sh -c \"echo $PYINOTIFYD_MASKNAME\"; ls {pathname}",
    "gzip -c {pathname} > x",
    "head -c 4 {pathname} | grep -q %PDF || { echo no PDF; exit 3; }",
    "wc -c '{pathname}'",
    "gzip -dc \"{pathname}.gz\" > x",
    "grep -c -e \"{pathname} done\" list",
    "echo -e \"new: {pathname} \\n\"",
    "logger -t x -e \"got {pathname} (new)\"",
    "mail -s \"new file {pathname}\" root < {pathname}",
    "notify-send -c transfer \"New file {pathname}\"",
    "curl -d \"file {pathname}\" http://localhost/",
    "docker exec -e \"FILE={pathname} x\" box run",
    "ffmpeg -i {pathname} -c copy \"out/{pathname} x.mp4\"",
    "rsync -e ssh \"{pathname}\" host:",
    "git -c user.name=x commit -m \"new: {pathname} (x)\"",
    "sh -c 'ls \"$1\"' sh {pathname}",
    "\"$SHELL\" -c 'ls \"$1\"' sh \"{pathname}\"",
    "x={pathname}; sh -c 'ls \"$1\"' sh \"$x\"",
    "export x={pathname}; sh -c 'ls \"$x\"'",
    "x={pathname} sh -c 'ls \"$x\"'",
    "x={pathname}; sh -c \"ls \\\"\\$x\\\"\"",
    "x={pathname}; echo \"$x\" > list; sh script",
    "x={pathname}; sh script \"$x\"",
    "x={pathname}; cat \"$x\" | sh",
    "x=$(wc -c < {pathname}); sh -c \"echo $x\"",
    "x={pathname}; sh -c \"echo ${#x}\"",
    "y=1; x={pathname}; sh -c \"echo $y\"; ls \"$x\"",
    "for x in {pathname}; do ls \"$x\"; done",
    "echo {pathname} | while read -r x; do ls \"$x\"; done",
    "sh -c 'echo \"$PYINOTIFYD_PATHNAME\"'",
    "python3 -c 'import sys; print(sys.argv[1])' {pathname}",
    "python3 -m json.tool {pathname} > '{pathname} (new)'",
    "perl -pe 's/a/b/' {pathname}",
    "perl -i -pe 's/a/b/' \"{pathname}\" \"{pathname} (new)\"",
    "perl -Ilib script.pl '{pathname} x'",
    "perl script.pl -e '{pathname} x'",
    "python3 -W ignore -m json.tool -c '{pathname} x'",
    "awk -F, '{ print $2 }' {pathname}",
    "awk -v file={pathname} 'BEGIN { print file }'",
    "awk -vfile={pathname} 'BEGIN { print file }'",
    "awk -f script.awk '{pathname} x'",
    "sed -i 's/a/b/' {pathname}",
    "sed -n -e 's/a/b/p' '{pathname} x'",
    "cp sed {pathname} out",
    "echo {pathname} | python3 -c 'print(input())'",
    "echo {pathname} | perl -ne 'print'",
    "echo {pathname} | xargs -I% cp % out",
    "echo {pathname} | xargs -I% sh -c 'ls \"$1\"' sh %",
    "find {pathname} -exec sh -c 'ls \"$@\"' sh {} +",
];

#[test]
fn a_value_in_code_is_refused_and_one_that_may_be_is_warned_of() {
    for template in CODE {
        let error = read(template.as_bytes()).err().unwrap_or_else(|| panic!("{template}"));
        assert!(error.contains("in text that"), "{template}: {error}");
    }
    for template in PERHAPS_CODE {
        assert!(read(template.as_bytes()).is_ok(), "{template}");
        assert_eq!(doubts(template).len(), 1, "{template}: {:?}", doubts(template));
    }
    for template in DATA {
        assert_eq!((read(template.as_bytes()).err(), doubts(template)), (None, vec![]), "{template}");
    }
}

#[test]
fn what_a_language_executes_is_refused_with_its_name() {
    let error = read(b"perl -e 'print \"{pathname}\"'").unwrap_err();
    let wanted = "{pathname} stands in text that perl executes, where its value cannot be quoted: give it as an \
                  argument, as in perl -e 'CODE' {pathname}";
    assert_eq!(error, wanted);
    let doubts = doubts("psql -c \"insert '{pathname}' x\"");
    let wanted = "psql may execute an argument as text that holds the value of {pathname}, and so the value: let \
                  a program pass it as a parameter, as in python3 -c 'CODE' {pathname}";
    assert_eq!(doubts, [wanted]);
    let error = read(b"awk '{ print \"{src_pathname}\" }' list").unwrap_err();
    assert!(
        error.ends_with("cannot be quoted: awk has it as ENVIRON[\"PYINOTIFYD_SRC_PATHNAME\"]"),
        "{error}"
    );
    let error = judge_arguments(&[b"sh".as_slice(), b"-c", b"{pathnames}"], OF_BATCHES).unwrap_err();
    assert!(error.ends_with("as in sh -c 'ls \"$@\"' sh {pathnames}"), "{error}");
}

/// What is accepted without a word leaves a hostile name a name, in real shells.
#[test]
fn no_name_is_executed_by_what_is_accepted_without_a_word() {
    // These would tell somebody outside of the test.
    let silent = tempfile::tempdir().unwrap();
    for program in [
        "rsync",
        "curl",
        "mail",
        "logger",
        "notify-send",
        "docker",
        "git",
        "ffmpeg",
        "at",
        "crontab",
        "mysql",
        "psql",
        "sqlite3",
        "tmux",
        "screen",
        "gdb",
    ] {
        std::os::unix::fs::symlink("/bin/true", silent.path().join(program)).unwrap();
    }
    let path = format!("PATH={}:/usr/bin:/bin\n", silent.path().display());
    let names = ["$(touch PWNED)", "'\";touch PWNED;`touch PWNED`;'"];
    for (template, name) in DATA.iter().flat_map(|template| names.map(|name| (template, name))) {
        let directory = tempfile::tempdir().unwrap();
        let file = [directory.path().as_os_str().as_bytes(), b"/", name.as_bytes()].concat();
        std::fs::write(OsStr::from_bytes(&file), "x").unwrap();
        let line = read(template.as_bytes()).unwrap().expand(&event(&file, None));
        for shell in shells() {
            run(shell, &[path.as_bytes(), &line].concat(), directory.path(), &file);
            assert!(!directory.path().join("PWNED").exists(), "{shell} {template}");
        }
    }
}

#[test]
fn arguments_are_judged_as_a_command_line_is() {
    let judge = |argv: &[&str]| {
        let argv: Vec<&[u8]> = argv.iter().map(|word| word.as_bytes()).collect();
        judge_arguments(&argv, OF_EVENTS)
    };
    for argv in [
        ["sh", "-c", "echo {pathname}"].as_slice(),
        &["sudo", "-u", "x", "bash", "-ec", "{src_pathname}"],
        &["perl", "-e", "print '{pathname}'"],
        &["awk", "{ print \"{pathname}\" }"],
        &["bash", "-o", "pipefail", "-c", "echo {pathname}"],
        &["flock", "-w", "9", "/run/l", "-c", "echo {pathname}"],
        &["flock", "/run/l", "sh", "-c", "echo {pathname}"],
        &["su", "-", "bob", "-s", "/bin/sh", "-c", "echo {pathname}"],
        &["runuser", "-u", "bob", "--", "sh", "-c", "echo {pathname}"],
        &["script", "-qc", "echo {pathname}", "log"],
        &["bash", "-ceo", "pipefail", "echo {pathname}"],
        &["sh", "-c", "sh -c \"ls $1\"", "sh", "{pathname}"],
        &["env", "-i", "PATH=/bin", "-S", "sh -c 'ls {pathname}'"],
        &["nice", "make", "-C", "/srv", "FILE={pathname}"],
        &["sh", "-c", "for x; do eval \"ls $x\"; done; python3 -c \"open('$PYINOTIFYD_PATHNAME')\""],
    ] {
        assert!(judge(argv).is_err(), "{argv:?}");
    }
    for argv in [
        ["ssh", "host", "ls {pathname}"].as_slice(),
        &["psql", "-c", "insert '{pathname}' x"],
        &["sh", "-c", "sqlite3 db \"insert '$1' x\"", "sh", "{pathname}"],
        &["sh", "-c", "ssh host ls \"$1\"", "sh", "{pathname}"],
    ] {
        assert_eq!(judge(argv).unwrap().len(), 1, "{argv:?}");
    }
    for argv in [
        ["sh", "-c", "ls \"$1\"", "sh", "{pathname}"].as_slice(),
        &["sh", "-c", "echo {maskname}"],
        &["sh", "-c", "echo `echo {maskname}`"],
        &[
            "sh",
            "-c",
            "ls \"$PYINOTIFYD_PATHNAME\" \"$(basename \"$1\")\" \"`basename \"$1\"`\"",
            "sh",
            "{pathname}",
        ],
        &["sh", "-c", "case $1 in *.csv) import \"$1\" ;; esac", "sh", "{pathname}"],
        &["bash", "-c", "for x; do ls \"$x\"; done; sh -c 'ls \"$1\"' sh \"$@\"", "bash", "{pathname}"],
        &["tool", "trap", "{pathname}", "eval"],
        &["wc", "-c", "{pathname}"],
        &["env", "-u", "X", "NAME={pathname}", "ls"],
        &["make", "-C", "/srv", "{pathname}"],
        &["bash", "/opt/convert.sh", "-src", "{pathname} x"],
        &["bash", "-o", "pipefail", "/opt/convert.sh", "-c", "{pathname}"],
        &["bash", "{pathname}", "-c", "x {pathname}"],
        &["flock", "/run/l", "rsync", "-ac", "{pathname}", "host::m"],
        &["runuser", "-u", "bob", "--", "gzip", "-c", "{pathname}"],
        &["{pathname}"],
        &[],
    ] {
        assert_eq!(judge(argv), Ok(vec![]), "{argv:?}");
    }
}

#[test]
fn a_value_that_a_shell_splits_is_warned_of_as_it_is_written() {
    let doubt = |text: &str, quoted: &str| {
        format!(
            "{text} stands outside of quotes, where a shell splits its value at blanks, and takes * and ? in it for a \
             pattern: write \"{quoted}\""
        )
    };
    let name = "$PYINOTIFYD_PATHNAME";
    let printed = "$(basename \"$PYINOTIFYD_PATHNAME\")";
    for (template, text, quoted) in [
        ("rm $PYINOTIFYD_PATHNAME", name, name),
        ("rm -- a/$PYINOTIFYD_PATHNAME.x $PYINOTIFYD_PATHNAME", name, name),
        ("rm \"/x/$(basename $PYINOTIFYD_PATHNAME)\"", name, name),
        ("[ -d $PYINOTIFYD_PATHNAME ] && ls", name, name),
        ("[[ -d x ]] && rm $PYINOTIFYD_PATHNAME", name, name),
        ("for x in $PYINOTIFYD_PATHNAME; do ls; done", name, name),
        ("case x in x) rm $PYINOTIFYD_PATHNAME ;; esac", name, name),
        ("echo ${x:-$PYINOTIFYD_PATHNAME}", name, name),
        ("ls $PYINOTIFYD_SRC_PATHNAME", "$PYINOTIFYD_SRC_PATHNAME", "$PYINOTIFYD_SRC_PATHNAME"),
        ("ls ${PYINOTIFYD_PATHNAME##*/} x", "${PYINOTIFYD_PATHNAME##*/}", "${PYINOTIFYD_PATHNAME##*/}"),
        ("x={pathname}; ls $x", "$x", "$x"),
        ("sh -c 'ls $1' sh {pathname}", "$1", "$1"),
        ("cp {pathname} out/$(basename {pathname})", "$(basename {pathname})", printed),
        ("ls $(basename '{pathname}')", "$(basename '{pathname}')", printed),
        ("ls $(basename \"$PYINOTIFYD_PATHNAME\")", printed, printed),
        ("ls $(dirname {pathname})/x", "$(dirname {pathname})", "$(dirname \"$PYINOTIFYD_PATHNAME\")"),
    ] {
        assert_eq!(doubts(template), [doubt(text, quoted)], "{template}");
        assert!(doubts(&template.replace(text, &format!("\"{quoted}\""))).is_empty(), "{template}");
    }
    for template in [
        "rm \"$PYINOTIFYD_PATHNAME\" \"${x:-$PYINOTIFYD_PATHNAME}\" '$PYINOTIFYD_PATHNAME'",
        "x=$PYINOTIFYD_PATHNAME; y=$(basename {pathname}) ls \"$x\"; if z=$x; then ls; fi",
        "export x=$PYINOTIFYD_PATHNAME; local y=$x; IFS=/; set -- $x",
        "case $PYINOTIFYD_PATHNAME in $PYINOTIFYD_PATHNAME) ls ;; *.csv) ls ;; esac",
        "[[ -d $PYINOTIFYD_PATHNAME && $PYINOTIFYD_PATHNAME == x && -n y ]] || ls",
        "cat <<END\nnew: $PYINOTIFYD_PATHNAME\nEND",
        "cat <<< $PYINOTIFYD_PATHNAME > $PYINOTIFYD_PATHNAME.x 2>> $PYINOTIFYD_PATHNAME",
        "echo $(stat -c %s {pathname}) $(wc -c < {pathname}) $(cat {pathname}) ${#PYINOTIFYD_PATHNAME}",
        "n=$(echo {pathname} | wc -c); [ $n -gt 5 ]",
        "echo $PYINOTIFYD_MASKNAME $PYINOTIFYD_TASK_ID $HOME $x $1",
    ] {
        assert_eq!((read(template.as_bytes()).err(), doubts(template)), (None, vec![]), "{template}");
    }
}

#[test]
fn a_variable_that_does_not_get_to_who_expands_it_is_warned_of() {
    let argument = "give the value as an argument, as in sh -c 'ls \"$1\"' sh {pathname}";
    let user = format!("name the user by user=, or {argument}");
    for (template, program, name, instead) in [
        ("sudo -u bob sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'", "sudo", "PATHNAME", user.as_str()),
        ("cd /srv && nice sudo sh -c 'ls \"${PYINOTIFYD_SRC_PATHNAME##*/}\"'", "sudo", "SRC_PATHNAME", &user),
        ("doas sh -c \"ls \\\"\\$PYINOTIFYD_PATHNAME\\\"\"", "doas", "PATHNAME", &user),
        ("su - bob -c 'ls \"$PYINOTIFYD_PATHNAME\"'", "su", "PATHNAME", &user),
        ("runuser -l bob -c 'ls \"$PYINOTIFYD_PATHNAME\"'", "runuser", "PATHNAME", &user),
        ("docker exec box sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'", "docker", "PATHNAME", argument),
        ("ssh host 'ls \"$PYINOTIFYD_PATHNAME\"'", "ssh", "PATHNAME", "send the value on stdin"),
    ] {
        let wanted = format!(
            "{program} does not hand on the environment, so that $PYINOTIFYD_{name} is empty there: {instead}"
        );
        assert_eq!((read(template.as_bytes()).err(), doubts(template)), (None, vec![wanted]), "{template}");
    }
    let argv: [&[u8]; 4] = [b"sudo", b"sh", b"-c", b"ls \"$PYINOTIFYD_PATHNAME\""];
    assert!(judge_arguments(&argv, OF_EVENTS).unwrap()[0].starts_with("sudo does not hand on"));
    for template in [
        "sudo ls \"$PYINOTIFYD_PATHNAME\" $PYINOTIFYD_MASKNAME",
        "sudo sh -c 'ls \"$1\"' sh \"$PYINOTIFYD_PATHNAME\"",
        "sudo -E sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
        "sudo -Eu bob sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
        "docker run --env-file vars image sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
        "sudo --preserve-env=PYINOTIFYD_PATHNAME sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
        "sudo PYINOTIFYD_PATHNAME=\"$PYINOTIFYD_PATHNAME\" sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
        "su bob -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
        "runuser -u bob -- sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
        "docker exec -e PYINOTIFYD_PATHNAME box sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
        "ssh -o SendEnv=PYINOTIFYD_PATHNAME host 'ls \"$PYINOTIFYD_PATHNAME\"'",
        "sudo true; sh -c 'ls \"$PYINOTIFYD_PATHNAME\"'",
        "sh -c 'ls \"$PYINOTIFYD_PATHNAME\"' sudo",
    ] {
        assert_eq!((read(template.as_bytes()).err(), doubts(template)), (None, vec![]), "{template}");
    }
}

#[test]
fn make_and_env_read_their_arguments_again() {
    let recipe = "in text that make executes, where its value cannot be quoted: a recipe has it as";
    for (template, wanted) in [
        ("make FILE={pathname} all", format!("{{pathname}} stands {recipe} \"$$PYINOTIFYD_PATHNAME\"")),
        (
            "cd /srv && make -s FILE=\"$PYINOTIFYD_PATHNAME\"",
            format!("$PYINOTIFYD_PATHNAME stands {recipe} \"$$PYINOTIFYD_PATHNAME\""),
        ),
    ] {
        assert_eq!(read(template.as_bytes()).unwrap_err(), wanted, "{template}");
    }
    for template in [
        "env -S \"sh -c 'ls {pathname}'\"",
        "env -iS \"ls {pathname}\"",
        "sudo env -u X --split-string=\"ls {pathname}\"",
        "env --split-string \"ls {pathname}\"",
        "env '-Sls {pathname}'",
        "env -S 'sh -c \"ls $PYINOTIFYD_PATHNAME\"' && env -S \"ls $PYINOTIFYD_PATHNAME\"",
    ] {
        let error = read(template.as_bytes()).unwrap_err();
        assert!(error.contains(READ_ONCE_MORE), "{template}: {error}");
    }
    for template in [
        "make {pathname}",
        "make -C /srv FILE=x {pathname}",
        "env -S 'tool -v' {pathname}",
        "env FILE={pathname} make",
        "FILE={pathname} make -j4 all",
        "tool -S {pathname}; env -i ls -S {pathname}",
    ] {
        assert_eq!((read(template.as_bytes()).err(), doubts(template)), (None, vec![]), "{template}");
    }
}

#[test]
fn an_error_is_a_value_only_for_who_gets_failures() {
    let failed = Failed { error: "it's $(touch PWNED)", attempts: 2, id: "id" };
    let occasion = Occasion { failed: Some(failed), ..event(b"/w/f", None) };
    let line = |known| {
        let template = CommandTemplate::new(b"mail -s {error} {pathname}", known).unwrap();
        String::from_utf8(template.expand(&occasion)).unwrap()
    };
    assert_eq!(line(OF_FAILURES), "mail -s 'it'\"'\"'s $(touch PWNED)' /w/f");
    assert_eq!(line(OF_EVENTS), "mail -s {error} /w/f");
    let template = CommandTemplate::new(b"echo {error}.", OF_FAILURES).unwrap();
    assert_eq!(template.expand(&event(b"/w/f", None)), b"echo ''.");
}

fn batch(paths: &[&str]) -> Vec<engine::BatchEvent> {
    let event = |path: &&str| engine::OwnedEvent::of(&event(path.as_bytes(), None).event);
    paths.iter().map(|path| engine::BatchEvent { event: event(path), failed: None }).collect()
}

#[test]
fn the_paths_of_a_batch_are_words_of_their_own() {
    let batch = batch(&["/w/a", "/w/b c", "/w/it's"]);
    let occasion = Occasion { batch: &batch, ..event(b"/w/a", None) };
    let cases = [
        ("tar cf x {pathnames}", "tar cf x /w/a '/w/b c' '/w/it'\"'\"'s'"),
        ("for x in {pathnames}; do y; done", "for x in /w/a '/w/b c' '/w/it'\"'\"'s'; do y; done"),
        ("(ls {pathnames})|wc", "(ls /w/a '/w/b c' '/w/it'\"'\"'s')|wc"),
        ("wc -l", "wc -l"),
    ];
    for (template, expected) in cases {
        let template = CommandTemplate::new(template.as_bytes(), OF_BATCHES).unwrap();
        let line = template.expand(&occasion);
        assert_eq!(String::from_utf8(line.clone()).unwrap(), expected);
        let lists = template.path_lists();
        let paths: usize = ["/w/a".len(), "'/w/b c'".len(), "'/w/it'\"'\"'s'".len()].iter().sum();
        assert_eq!(template.literal_bytes() + lists * (paths + 2), line.len());
    }
    for template in
        ["'{pathnames}'", "\"{pathnames}\"", "x{pathnames}", "{pathnames}x", "''{pathnames}", "$x{pathnames}"]
    {
        let error = CommandTemplate::new(template.as_bytes(), OF_BATCHES).unwrap_err();
        assert_eq!(error, "{pathnames} is many words: write it as a word of its own, outside of quotes");
    }
    let error = CommandTemplate::new(b"echo `ls {pathnames}`", OF_BATCHES).unwrap_err();
    assert!(error.ends_with("where its value cannot be quoted: read the paths from stdin"), "{error}");
}

/// Names that mean something to a shell, beside any bytes.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "/w/$(touch PWNED)",
        "/w/`touch PWNED`",
        "/w/a;touch PWNED;",
        "/w/'; touch PWNED; '",
        "/w/\"; touch PWNED; \"",
        "/w/\ntouch PWNED\n",
        "/w/\\",
        "/w/$HOME",
        "/w/a  b",
        "/w/*",
        "/w/'",
        "/w/\"",
        "/w/a\\'b",
        "/w/a,b",
        "/w/}",
        "/w/)",
        "/w/#",
        "/w/&",
        "/w/!",
        "/w/~",
    ];
    prop_oneof![
        prop::sample::select(known.to_vec()).prop_map(|name| name.as_bytes().to_vec()),
        vec(1_u8..=255, 0..20),
        vec(prop::sample::select(b"'\"\\$`(){}#;&|<>*?[]~! \n\tab/".to_vec()), 0..20),
    ]
}

/// A piece of a word: how it is written, and what it stands_for; a placeholder stands_for the name.
#[derive(Debug, Clone)]
enum Piece {
    Outside(&'static str, &'static str),
    Single(Vec<Inner>),
    Double(Vec<Inner>),
    Substitution,
    Name,
}

#[derive(Debug, Clone)]
enum Inner {
    Text(&'static str, &'static str),
    Name,
}

fn inner(texts: &'static [(&'static str, &'static str)]) -> impl Strategy<Value = Vec<Inner>> {
    let text = prop::sample::select(texts.to_vec()).prop_map(|(written, meant)| Inner::Text(written, meant));
    vec(prop_oneof![text, Just(Inner::Name)], 0..4)
}

fn piece() -> impl Strategy<Value = Piece> {
    const OUTSIDE: [(&str, &str); 9] = [
        ("-a", "-a"),
        ("\\'", "'"),
        ("\\\\", "\\"),
        ("\\\"", "\""),
        ("$v", "value"),
        ("${v}", "value"),
        (".{", ".{"),
        ("}", "}"),
        ("${v%ue}", "val"),
    ];
    const SINGLE: [(&str, &str); 6] =
        [("b c", "b c"), ("\\", "\\"), ("\"", "\""), ("$v", "$v"), ("\n", "\n"), ("`", "`")];
    const DOUBLE: [(&str, &str); 10] = [
        (" d  e", " d  e"),
        ("\\\"", "\""),
        ("\\\\", "\\"),
        ("'", "'"),
        ("$v", "value"),
        ("${v}", "value"),
        ("$(echo q '\"')", "q \""),
        ("$(echo \"$(echo \"q  '\")\")", "q  '"),
        ("\n", "\n"),
        ("\\$v", "$v"),
    ];
    prop_oneof![
        prop::sample::select(OUTSIDE.to_vec()).prop_map(|(written, meant)| Piece::Outside(written, meant)),
        inner(&SINGLE).prop_map(Piece::Single),
        inner(&DOUBLE).prop_map(Piece::Double),
        Just(Piece::Substitution),
        Just(Piece::Name),
    ]
}

/// Writes pieces as a word of a command, and what it stands_for for a name.
fn write(pieces: &[Piece], name: &[u8], word: &mut String, meant: &mut Vec<u8>) {
    let all = |parts: &[Inner], word: &mut String, meant: &mut Vec<u8>| {
        for part in parts {
            match part {
                Inner::Text(written, stands_for) => {
                    word.push_str(written);
                    meant.extend_from_slice(stands_for.as_bytes());
                }
                Inner::Name => {
                    word.push_str("{pathname}");
                    meant.extend_from_slice(name);
                }
            }
        }
    };
    for piece in pieces {
        match piece {
            Piece::Outside(written, stands_for) => {
                word.push_str(written);
                meant.extend_from_slice(stands_for.as_bytes());
            }
            Piece::Single(parts) => {
                word.push('\'');
                all(parts, word, meant);
                word.push('\'');
            }
            Piece::Double(parts) => {
                word.push('"');
                all(parts, word, meant);
                word.push('"');
            }
            // Of an assignment, so that its value is no list of words.
            Piece::Substitution => {
                word.push_str("$v");
                meant.extend_from_slice(b"value");
            }
            Piece::Name => {
                word.push_str("{pathname}");
                meant.extend_from_slice(name);
            }
        }
    }
}

/// Any shell text is of these.
const PIECES: &[&str] = &[
    "{pathname}",
    "{pathname}",
    "{pathname}",
    "'",
    "'",
    "\"",
    "\"",
    "\\",
    "$",
    "$v",
    "${v}",
    "${v:-",
    "$(",
    "(",
    ")",
    "`",
    "}",
    "{",
    "#",
    ";",
    " ",
    " ",
    "\n",
    "<<E",
    "<",
    "&& ",
    "|",
    "a",
    "echo ",
    "printf %s ",
    "eval ",
    "'eval' ",
    "\\eval ",
    "sh -c ",
    "$((",
    "))",
    "case a in a) ",
    "esac",
    "$'",
    "~",
    "E\n",
    "*",
    "|sh ",
    "{ ",
    ";}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Words with placeholders in every kind of quotes: each arrives as one word, and as what was written.
    #[test]
    fn a_value_stands_for_itself_in_any_quotes(
        words in vec(vec(piece(), 1..5), 1..4),
        name in hostile(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (mut template, mut wanted) = ("v=value; printf '<%s>' ".to_owned(), Vec::new());
        for pieces in &words {
            let (mut word, mut meant) = (String::new(), Vec::new());
            write(pieces, &name, &mut word, &mut meant);
            if word.is_empty() {
                continue;
            }
            // A word in front keeps braces and `#` from being more than text.
            template.extend(["-", &word, " "]);
            wanted.extend_from_slice(&[b"<-", meant.as_slice(), b">"].concat());
        }
        prop_assume!(!wanted.is_empty());
        match read(template.as_bytes()) {
            Err(error) => prop_assert!(false, "{} {:?}", error, template),
            Ok(read) => {
                let line = read.expand(&event(&name, None));
                for shell in shells() {
                    let output = run(shell, &line, directory.path(), &name);
                    prop_assert_eq!(
                        &output.stdout, &wanted,
                        "{} {:?}\n{:?}\n{}", shell, template,
                        String::from_utf8_lossy(&line), String::from_utf8_lossy(&output.stderr)
                    );
                    prop_assert!(!directory.path().join("PWNED").exists(), "{} {:?}", shell, template);
                }
            }
        }
    }

    /// Any shell text at all: what is accepted does the same with a hostile name as with a plain one.
    #[test]
    fn no_text_lets_a_name_become_shell_text(
        pieces in vec(prop::sample::select(PIECES), 1..14),
        name in hostile(),
    ) {
        let template = format!("v=value; printf '<%s>' {}", pieces.concat());
        // A process id is another one each time.
        prop_assume!(!template.contains("$$"));
        // A command in the background writes when it likes.
        prop_assume!(!template.contains("\\&&"));
        // A backslash before the end of the text escapes nothing; bash prints it where the text is one line only.
        prop_assume!(!template.ends_with('\\'));
        let Ok(read) = read(template.as_bytes()) else { return Ok(()) };
        // What is warned of is accepted although it may be wrong.
        prop_assume!(doubts(&template).is_empty());
        let plain = b"/w/NAME";
        for shell in shells() {
            let directory = tempfile::tempdir().unwrap();
            let one = run(shell, &read.expand(&event(plain, None)), directory.path(), plain);
            let line = read.expand(&event(&name, None));
            let other = run(shell, &line, directory.path(), &name);
            let shown = String::from_utf8_lossy(&line).into_owned();
            prop_assert!(!directory.path().join("PWNED").exists(), "{} {:?}\n{}", shell, template, shown);
            if name.contains(&b'\\') && template.contains("echo ") {
                // The echo of dash reads backslashes.
                continue;
            }
            // Words that a shell does not find are errors of its own; what it prints has the name in it as it is.
            let wanted = replaced(&one.stdout, plain, &name);
            prop_assert_eq!(
                String::from_utf8_lossy(&other.stdout), String::from_utf8_lossy(&wanted),
                "{} {:?}\n{}", shell, template, shown
            );
        }
    }

    /// The same with the variable: no name is executed.
    #[test]
    fn no_text_lets_a_variable_become_shell_text(
        pieces in vec(prop::sample::select(PIECES), 1..14),
        name in hostile(),
    ) {
        let template = format!("v=value; printf '<%s>' {}", pieces.concat());
        let template = template.replace("{pathname}", "$PYINOTIFYD_PATHNAME");
        prop_assume!(!template.contains("\\&&"));
        let Ok(read) = read(template.as_bytes()) else { return Ok(()) };
        // What is split becomes several words, and no code.
        prop_assume!(doubts(&template).iter().all(is_of_split));
        for shell in shells() {
            let directory = tempfile::tempdir().unwrap();
            run(shell, &read.expand(&event(&name, None)), directory.path(), &name);
            prop_assert!(!directory.path().join("PWNED").exists(), "{} {:?} {:?}", shell, template, name);
        }
    }
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(place) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..place]);
        out.extend_from_slice(to);
        rest = &rest[place + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}
