//! Words in the braces of placeholders that are none: what they were probably meant to be.
//!
//! Braces mean much to shells and to other programs, so that only words are told that are like a placeholder, or the
//! name of something that an event has.

use super::occasion::Placeholder;
use crate::similar::similar;

/// Other words for what commands have.
const MEANT: [(&str, &[&str]); 4] = [
    ("maskname", &["event", "mask"]),
    ("pathname", &["file", "filename", "filepath", "path"]),
    ("src_pathname", &["source", "src", "src_path", "srcpath"]),
    (TASK_ID, &["taskid"]),
];
const TASK_ID: &str = "task_id";
/// What jobs have of an event, or other programs have a placeholder for, and commands have not.
const NOT_OF_COMMANDS: [&str; 10] =
    ["attempts", "basename", "cookie", "dir", "dirname", "error", "name", "stem", "synthetic", "wd"];

/// A warning for each word in braces that is probably meant as a placeholder and is none of `known`.
pub(crate) fn misspelt(text: &[u8], known: &[Placeholder]) -> Vec<String> {
    let braces = text.iter().enumerate().filter(|(_, byte)| **byte == b'{').map(|(at, _)| at);
    let words = braces.filter_map(|at| {
        let rest = &text[at + 1..];
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        // `${name}` is a variable, `%{name}` is of curl and rpm, `{{name}}` of templates.
        let is_theirs = text[..at].last().is_some_and(|before| b"$%{".contains(before));
        let is_ours = rest.get(length) == Some(&b'}') && !is_theirs;
        std::str::from_utf8(&rest[..length]).ok().filter(|_| is_ours)
    });
    let told = |word: &str| {
        let meant = meant_by(word, known)?;
        Some(format!("{{{word}}} is no placeholder and stays as it is, {meant}"))
    };
    words.filter_map(told).collect()
}

/// What to write instead of a word, as the end of a sentence.
fn meant_by(word: &str, known: &[Placeholder]) -> Option<String> {
    let bare = |(name, ..): &Placeholder| &name[1..name.len() - 1];
    if known.iter().any(|placeholder| bare(placeholder) == word) {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let name = lower.strip_prefix("pyinotifyd_").unwrap_or(&lower);
    let named = MEANT.iter().find(|(_, words)| words.contains(&name)).map(|(meant, _)| *meant);
    let name = named.unwrap_or(name);
    let is_other = NOT_OF_COMMANDS.contains(&name);
    let similar = similar(name, known.iter().map(bare).chain([TASK_ID]));
    match similar.filter(|similar| !is_other || *similar == name) {
        Some(TASK_ID) => Some("a command has it as $PYINOTIFYD_TASK_ID in its environment".to_owned()),
        Some(similar) => Some(format!("did you mean {{{similar}}}?")),
        None if is_other || named.is_some() => {
            let all: Vec<&str> = known.iter().map(|(name, ..)| *name).collect();
            Some(format!("there is only {}", all.join(", ")))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::occasion::{OF_BATCHES, OF_EVENTS, OF_FAILURES};
    use super::*;

    #[test]
    fn what_is_like_a_placeholder_is_told() {
        let task_id = "a command has it as $PYINOTIFYD_TASK_ID in its environment";
        let only = "there is only {maskname}, {pathname}, {src_pathname}";
        let pathname = "did you mean {pathname}?";
        for (word, known, meant) in [
            ("path", OF_EVENTS, pathname),
            ("file", OF_EVENTS, pathname),
            ("pathnam", OF_EVENTS, pathname),
            ("Pathname", OF_EVENTS, pathname),
            ("PATH_NAMES", OF_EVENTS, pathname),
            ("pathnames", OF_EVENTS, pathname),
            ("PYINOTIFYD_PATHNAME", OF_EVENTS, pathname),
            ("mask_name", OF_EVENTS, "did you mean {maskname}?"),
            ("srcpathname", OF_EVENTS, "did you mean {src_pathname}?"),
            ("task_id", OF_EVENTS, task_id),
            ("taskId", OF_BATCHES, task_id),
            ("PYINOTIFYD_TASK_ID", OF_FAILURES, task_id),
            ("name", OF_EVENTS, only),
            ("wd", OF_EVENTS, only),
            ("basename", OF_EVENTS, only),
            ("error", OF_EVENTS, only),
            ("eror", OF_FAILURES, "did you mean {error}?"),
            ("path", OF_BATCHES, "did you mean {pathnames}?"),
            ("event", OF_BATCHES, "there is only {pathnames}"),
        ] {
            let text = format!("echo {{{word}}}");
            let wanted = format!("{{{word}}} is no placeholder and stays as it is, {meant}");
            assert_eq!(misspelt(text.as_bytes(), known), [wanted]);
        }
    }

    #[test]
    fn braces_of_shells_and_other_programs_are_theirs() {
        for text in [
            "echo {pathname} {src_pathname} {maskname}",
            "ls ${path} ${name} ${pathname} ${task_id:-x}",
            "{ echo; }; {echo;}; mv a.{path,name} {a,b} {1..3} {} {{}}",
            "awk '{print}' x; awk '{next}{exit}{getline}' x; awk '{print $1}'",
            "sed -n '/a/{p}'; curl -w '%{filename_effective} %{path}'; rpm --qf '%{NAME}'",
            "git show stash@{0} HEAD^{tree} HEAD^{commit} @{upstream}; find . -exec ls {} +",
            "docker ps --format '{{.Names}} {{json}} {{name}}'; printf '{foo} {user} {hostname} {username} {x'",
        ] {
            assert_eq!(misspelt(text.as_bytes(), OF_EVENTS), [""; 0], "{text}");
        }
        assert_eq!(misspelt(b"{error} {pathname}", OF_FAILURES), [""; 0]);
    }
}
