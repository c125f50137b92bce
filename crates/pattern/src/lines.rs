//! Pattern files: what an exclude filter reads when it is given as a file name.

use crate::text::{decode, encode};
use crate::unicode::Category;

/// The patterns of a file's content with their line numbers, from 1: one a line, white space around it stripped; empty
/// lines and lines that then begin with `#` are skipped.
///
/// White space is Python's `str.strip`, ends of lines are Python's universal newlines.
pub fn pattern_lines(content: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let newline = |code: &u32| *code == u32::from(b'\n');
    let codes = with_plain_newlines(&decode(content));
    let lines = codes.split(newline).map(stripped).enumerate();
    let is_pattern = |line: &[u32]| line.first().is_some_and(|&first| first != u32::from(b'#'));
    lines.filter(|(_, line)| is_pattern(line)).map(|(index, line)| (index + 1, encoded(line))).collect()
}

fn with_plain_newlines(codes: &[u32]) -> Vec<u32> {
    let (newline, carriage_return) = (u32::from(b'\n'), u32::from(b'\r'));
    let mut plain = Vec::with_capacity(codes.len());
    for (index, &code) in codes.iter().enumerate() {
        let follows_return = index > 0 && codes[index - 1] == carriage_return;
        if code == newline && follows_return {
            continue;
        }
        plain.push(if code == carriage_return { newline } else { code });
    }
    plain
}

fn stripped(line: &[u32]) -> &[u32] {
    let is_text = |code: &u32| !Category::Space.contains(*code, false);
    let start = line.iter().position(is_text).unwrap_or(line.len());
    let end = line.iter().rposition(is_text).map_or(start, |index| index + 1);
    &line[start..end]
}

fn encoded(line: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &code in line {
        encode(code, &mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file() {
        let content = b"# head\n\n  ^/a$ \t\n^/b\r\n   # c\r^/\xff\xc2\xa0\n^/d #e";
        let lines = pattern_lines(content);
        let expected: [(usize, &[u8]); 4] = [(3, b"^/a$"), (4, b"^/b"), (6, b"^/\xff"), (7, b"^/d #e")];
        assert_eq!(lines.len(), expected.len());
        for ((line, pattern), (expected_line, expected_pattern)) in lines.iter().zip(expected) {
            assert_eq!((*line, &pattern[..]), (expected_line, expected_pattern));
        }
    }
}
