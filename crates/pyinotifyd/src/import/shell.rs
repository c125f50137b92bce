//! Commands of other programs as command lines of ours: what they put into the text becomes an expansion of the
//! shell's, which no name can break out of.

use crate::action::occasion::{Field, OF_EVENTS, Placeholder};
use crate::action::template::{CommandTemplate, quote};

/// Shell text for the directory of the event's path, and for the name in it.
pub(super) const DIRECTORY: &str = "${PYINOTIFYD_PATHNAME%/*}";
pub(super) const NAME: &str = "${PYINOTIFYD_PATHNAME##*/}";
pub(super) const PATH: &str = "$PYINOTIFYD_PATHNAME";

/// Finds out where values stand in a command, so that they can be put there.
///
/// # Errors
/// A value stands where it cannot be quoted, or the text holds what we would replace.
pub(super) fn values(command: &[u8], known: &'static [Placeholder]) -> Result<CommandTemplate, String> {
    let holds = |name: &str| command.windows(name.len()).any(|part| part == name.as_bytes());
    if let Some((name, ..)) = OF_EVENTS.iter().find(|(name, ..)| holds(name)) {
        return Err(format!("pyinotifyd would replace {name} in the command: write it another way"));
    }
    CommandTemplate::new(command, known)
}

/// A placeholder for a value that a foreign program puts into its commands.
pub(super) const fn value(name: &'static str) -> Placeholder {
    (name, Field::Pathname, "$PYINOTIFYD_PATHNAME")
}

/// A word as the shell reads it. It is taken apart behind each brace, so that no word in braces is one of ours.
pub(super) fn quoted(word: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    if !word.contains(&b'{') {
        quote(word, &mut line);
    }
    for part in word.split_inclusive(|byte| *byte == b'{').filter(|_| word.contains(&b'{')) {
        quote(part, &mut line);
    }
    line
}

/// A glob for the shell: `*`, `?` and `[...]` mean what they mean, everything else stands for itself.
pub(super) fn glob(pattern: &[u8]) -> Vec<u8> {
    let (mut line, mut bytes) = (Vec::new(), pattern.iter());
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => line.extend(bytes.next().map(|next| literal(*next)).unwrap_or_default()),
            byte if byte.is_ascii_alphanumeric() || b"_-.,:+@%=/^!*?[]".contains(&byte) || byte >= 0x80 => {
                line.push(byte);
            }
            byte => line.extend(literal(byte)),
        }
    }
    if line.is_empty() { b"''".to_vec() } else { line }
}

fn literal(byte: u8) -> Vec<u8> {
    if byte == b'\'' { b"\"'\"".to_vec() } else { vec![b'\'', byte, b'\''] }
}
