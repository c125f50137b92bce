//! The commands of direvent: what it expands in them, and how it takes them apart.

use super::super::shell;
use crate::action::occasion::Placeholder;
use crate::action::template::Instead;

/// Variables of direvent's own, and what its commands find in their environment.
pub(super) const MACROS: [(&str, &str); 6] = [
    ("file", "DIREVENT_FILE"),
    ("genev_code", "DIREVENT_GENEV_CODE"),
    ("genev_name", "DIREVENT_GENEV_NAME"),
    ("sysev_code", "DIREVENT_SYSEV_CODE"),
    ("sysev_name", "DIREVENT_SYSEV_NAME"),
    ("self_test_pid", "DIREVENT_SELF_TEST_PID"),
];

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(Vec<u8>),
    /// An expansion, as the shell writes it, and whether its value is one word.
    Expansion(Vec<u8>, bool),
}

/// The words that direvent makes of a command, as text for a shell.
///
/// # Errors
/// What cannot be understood.
pub(super) fn words(command: &[u8]) -> Result<Vec<u8>, String> {
    let (mut line, mut word, mut at) = (Vec::new(), Vec::new(), 0);
    let mut end = |word: &mut Vec<Piece>| {
        if !word.is_empty() {
            line.push(joined(word));
            word.clear();
        }
    };
    while at < command.len() {
        match command[at] {
            byte if byte.is_ascii_whitespace() => {
                end(&mut word);
                at += 1;
            }
            b'\'' => {
                let length = command[at + 1..].iter().position(|byte| *byte == b'\'').ok_or(OPEN_QUOTE)?;
                word.push(Piece::Text(command[at + 1..at + 1 + length].to_vec()));
                at += length + 2;
            }
            b'"' => at = take_double(command, at + 1, &mut word)?,
            b'\\' => {
                word.push(Piece::Text(command.get(at + 1).copied().into_iter().collect()));
                at += 2;
            }
            b'$' => at = take_expansion(command, at, false, &mut word)?,
            byte => {
                word.push(Piece::Text(vec![byte]));
                at += 1;
            }
        }
    }
    end(&mut word);
    Ok(line.join(b" ".as_slice()))
}

const OPEN_QUOTE: &str = "its quotes do not end";

fn take_double(command: &[u8], mut at: usize, word: &mut Vec<Piece>) -> Result<usize, String> {
    word.push(Piece::Text(Vec::new()));
    loop {
        match *command.get(at).ok_or(OPEN_QUOTE)? {
            b'"' => return Ok(at + 1),
            b'\\' => {
                word.push(Piece::Text(command.get(at + 1).copied().into_iter().collect()));
                at += 2;
            }
            b'$' => at = take_expansion(command, at, true, word)?,
            byte => {
                word.push(Piece::Text(vec![byte]));
                at += 1;
            }
        }
    }
}

fn take_expansion(command: &[u8], at: usize, quoted: bool, word: &mut Vec<Piece>) -> Result<usize, String> {
    if let Some((text, is_macro, length)) = expansion(&command[at..])? {
        word.push(Piece::Expansion(text, quoted || is_macro));
        return Ok(at + length);
    }
    word.push(Piece::Text(vec![b'$']));
    Ok(at + 1)
}

/// A value, in which direvent expands variables, as one word for a shell.
///
/// # Errors
/// What cannot be understood.
pub(super) fn value(text: &[u8]) -> Result<Vec<u8>, String> {
    let (mut word, mut at) = (Vec::new(), 0);
    while at < text.len() {
        if text[at] == b'$' {
            at = take_expansion(text, at, true, &mut word)?;
        } else {
            word.push(Piece::Text(vec![text[at]]));
            at += 1;
        }
    }
    Ok(joined(&word))
}

fn joined(word: &[Piece]) -> Vec<u8> {
    let (mut line, mut text) = (Vec::new(), Vec::new());
    for piece in word {
        match piece {
            Piece::Text(part) => text.extend(part),
            Piece::Expansion(expansion, is_word) => {
                if !text.is_empty() {
                    line.extend(shell::quoted(&std::mem::take(&mut text)));
                }
                match expansion.strip_prefix(b"${").and_then(|rest| rest.strip_suffix(b"}")) {
                    Some(variable) if *is_word && name(variable) == variable => {
                        line.extend([b"\"$", variable, b"\""].concat());
                    }
                    _ if *is_word => line.extend([b"\"", expansion.as_slice(), b"\""].concat()),
                    _ => line.extend(expansion),
                }
            }
        }
    }
    if !text.is_empty() || line.is_empty() {
        line.extend(shell::quoted(&text));
    }
    line
}

/// The variable that a text begins with, as an expansion of the shell's; whether it is direvent's own; its length.
fn expansion(text: &[u8]) -> Result<Option<(Vec<u8>, bool, usize)>, String> {
    let rest = &text[1..];
    let braced = rest.first() == Some(&b'{');
    let start = 1 + usize::from(braced);
    let name = name(&text[start..]);
    if name.is_empty() {
        return Ok(None);
    }
    let ours = MACROS.iter().find(|(ours, _)| ours.as_bytes() == name);
    let renamed = ours.map_or(name, |(_, variable)| variable.as_bytes());
    let behind = start + name.len();
    if !braced {
        return Ok(Some(([b"${", renamed, b"}"].concat(), ours.is_some(), behind)));
    }
    let length = text[behind..].iter().position(|byte| *byte == b'}');
    let length = length.ok_or("a ${ in it does not end")?;
    let word = &text[behind..behind + length];
    let is_understood = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:+=?, @%".contains(byte);
    let begins = word.first().is_none_or(|byte| b":-=?+".contains(byte));
    if !begins || !word.iter().all(is_understood) {
        return Err(
            "what stands in its ${...} is more than a word: set a variable for it with env=".to_owned()
        );
    }
    let text = [b"${", renamed, word, b"}"].concat();
    Ok(Some((text, ours.is_some(), behind + length + 1)))
}

/// The name of a variable at the beginning of a text.
pub(super) fn name(text: &[u8]) -> &[u8] {
    let length = text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    if text.first().is_some_and(u8::is_ascii_digit) { &[] } else { &text[..length] }
}

/// The names by which direvent's variables are found in the text of a command for a shell.
const VALUES: &[Placeholder] = &[
    shell::value("{\x01file}"),
    shell::value("{\x01genev_code}"),
    shell::value("{\x01genev_name}"),
    shell::value("{\x01sysev_code}"),
    shell::value("{\x01sysev_name}"),
    shell::value("{\x01self_test_pid}"),
];

/// A command for a shell: direvent puts its own variables into the text, all others are the shell's.
///
/// # Errors
/// A variable stands where its value cannot be quoted.
pub(super) fn script(command: &[u8]) -> Result<Vec<u8>, String> {
    let (mut text, mut at) = (Vec::new(), 0);
    while at < command.len() {
        let found = if command[at] == b'$' { macro_at(&command[at..]) } else { None };
        if let Some((name, length)) = found {
            text.extend([b"{\x01", name.as_bytes(), b"}"].concat());
            at += length;
        } else {
            text.push(command[at]);
            at += 1;
        }
    }
    let template = shell::values(&text, VALUES).map_err(|error| error.replace("{\x01", "${"))?;
    Ok(template.rewritten(|name, _| match name {
        "{\x01file}" => Instead::Expansion("$DIREVENT_FILE"),
        "{\x01genev_code}" => Instead::Expansion("$DIREVENT_GENEV_CODE"),
        "{\x01genev_name}" => Instead::Expansion("$DIREVENT_GENEV_NAME"),
        "{\x01sysev_code}" => Instead::Expansion("$DIREVENT_SYSEV_CODE"),
        "{\x01sysev_name}" => Instead::Expansion("$DIREVENT_SYSEV_NAME"),
        _ => Instead::Expansion("$DIREVENT_SELF_TEST_PID"),
    }))
}

fn macro_at(text: &[u8]) -> Option<(&'static str, usize)> {
    let braced = text.get(1) == Some(&b'{');
    let start = 1 + usize::from(braced);
    let found = name(&text[start..]);
    let (name, _) = MACROS.iter().find(|(name, _)| name.as_bytes() == found)?;
    let end = start + found.len();
    if !braced {
        return Some((name, end));
    }
    (text.get(end) == Some(&b'}')).then_some((name, end + 1))
}
