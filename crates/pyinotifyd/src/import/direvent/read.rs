//! The grammar of direvent.conf(5): statements of a keyword and values, that end with a semicolon or hold a block.

use std::collections::HashSet;

use super::super::draft::{Draft, Place, Severity};
use crate::log::Escaped;

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    pub place: Place,
    pub keyword: Vec<u8>,
    pub values: Vec<Value>,
    pub block: Option<Vec<Statement>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(Vec<u8>),
    List(Vec<Vec<u8>>),
}

impl Statement {
    /// All texts of it: a list counts as its members.
    pub(super) fn texts(&self) -> Vec<&[u8]> {
        let mut texts = Vec::new();
        for value in &self.values {
            match value {
                Value::Text(text) => texts.push(text.as_slice()),
                Value::List(list) => texts.extend(list.iter().map(Vec::as_slice)),
            }
        }
        texts
    }

    /// It as a line, with what is in its block left out.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = self.keyword.clone();
        for value in &self.values {
            line.push(b' ');
            match value {
                Value::Text(text) => line.extend(shown(text)),
                Value::List(list) => {
                    let list: Vec<_> = list.iter().map(|text| shown(text)).collect();
                    line.extend([b"(", list.join(b", ".as_slice()).as_slice(), b")"].concat());
                }
            }
        }
        line.extend(if self.block.is_some() { b" {".as_slice() } else { b";" });
        line
    }
}

fn shown(text: &[u8]) -> Vec<u8> {
    if !text.is_empty() && text.iter().all(|byte| is_word(*byte)) {
        text.to_vec()
    } else {
        [b"\"", text, b"\""].concat()
    }
}

/// A file that another one includes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Include {
    pub path: Vec<u8>,
    /// Whether it stands in `<...>`.
    pub is_system: bool,
}

/// A file that was found for an include.
#[derive(Debug)]
pub(crate) struct Included {
    pub path: Vec<u8>,
    pub text: Result<Vec<u8>, String>,
}

/// Finds the files of an include.
pub(crate) type Find<'a> = &'a dyn Fn(&Include) -> Vec<Included>;

/// Levels of includes and of blocks: more than anybody needs.
const DEPTH_MAX: usize = 16;
/// Files that includes read: two that include each other would go on for long.
const FILES_MAX: usize = 1000;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Text(Vec<u8>),
    Mark(u8),
}

/// The statements of a file and of what it includes. What is no statement is said and left out.
pub(super) fn statements(file: &[u8], text: &[u8], find: Find<'_>, draft: &mut Draft) -> Vec<Statement> {
    let mut lexer = Lexer { find, draft, tokens: Vec::new(), once: HashSet::new(), files: 0 };
    lexer.read(file, text, 0);
    let tokens = lexer.tokens;
    Parser { tokens: &tokens, at: 0, draft }.block(0)
}

struct Lexer<'a> {
    find: Find<'a>,
    draft: &'a mut Draft,
    tokens: Vec<(Place, Token)>,
    once: HashSet<Vec<u8>>,
    files: usize,
}

/// Where the lexer is in a file.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    place: Place,
}

impl Cursor<'_> {
    fn rest(&self) -> &[u8] {
        &self.text[self.at.min(self.text.len())..]
    }

    fn skip(&mut self, count: usize) {
        let end = (self.at + count).min(self.text.len());
        self.place.line += line_ends(&self.text[self.at..end]);
        self.at = end;
    }

    /// To the last such byte before.
    fn go_back_to(&mut self, byte: u8) {
        let found = self.text[..self.at].iter().rposition(|other| *other == byte).unwrap_or(self.at);
        let lines = line_ends(&self.text[found..self.at]);
        self.place.line = self.place.line.saturating_sub(lines);
        self.at = found;
    }

    /// The rest of the line, which is skipped with its end.
    fn take_line(&mut self) -> Vec<u8> {
        let rest = self.rest();
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = rest[..length].to_vec();
        self.skip(length + 1);
        line
    }
}

fn line_ends(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count() - 1
}

impl Lexer<'_> {
    fn read(&mut self, file: &[u8], text: &[u8], depth: usize) {
        let mut cursor = Cursor { text, at: 0, place: Place::of(file, 1) };
        while let Some(&byte) = cursor.rest().first() {
            let rest = cursor.rest();
            let place = cursor.place.clone();
            match byte {
                byte if byte.is_ascii_whitespace() => cursor.skip(1),
                b'#' => {
                    let line = cursor.take_line();
                    self.pragma(&line, &place, &mut cursor, depth);
                }
                b'/' if rest.starts_with(b"//") => drop(cursor.take_line()),
                b'/' if rest.starts_with(b"/*") => {
                    let end = rest.windows(2).skip(2).position(|pair| pair == b"*/");
                    if end.is_none() {
                        self.draft.say(
                            Severity::LeftOut,
                            &place,
                            "a comment that does not end: */ is missing",
                        );
                    }
                    cursor.skip(end.map_or(rest.len(), |end| end + 4));
                }
                b'"' => {
                    let text = self.quoted(&mut cursor);
                    self.tokens.push((place, Token::Text(text)));
                }
                b'<' if rest.starts_with(b"<<") => {
                    let text = self.here_document(&mut cursor);
                    self.tokens.push((place, Token::Text(text)));
                }
                byte if is_word(byte) => {
                    let length = rest.iter().take_while(|byte| is_word(**byte)).count();
                    self.tokens.push((place, Token::Text(rest[..length].to_vec())));
                    cursor.skip(length);
                }
                byte => {
                    self.tokens.push((place, Token::Mark(byte)));
                    cursor.skip(1);
                }
            }
        }
    }

    /// A line that begins with `#`: a comment, or one that the reader heeds.
    fn pragma(&mut self, line: &[u8], place: &Place, cursor: &mut Cursor<'_>, depth: usize) {
        let line = line[1..].trim_ascii();
        let (word, rest) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()));
        let rest = rest.trim_ascii();
        match word {
            b"include" | b"include_once" => self.include(rest, word == b"include_once", place, depth),
            b"line" => renumber(rest, cursor),
            number
                if !number.is_empty() && number.iter().all(u8::is_ascii_digit) && rest.starts_with(b"\"") =>
            {
                renumber(line, cursor);
            }
            _ => {}
        }
    }

    fn include(&mut self, named: &[u8], once: bool, place: &Place, depth: usize) {
        let inner =
            |open: &[u8], close: &[u8]| named.strip_prefix(open)?.strip_suffix(close).map(<[u8]>::to_vec);
        let system = inner(b"<", b">");
        let is_system = system.is_some();
        let path = system.or_else(|| inner(b"\"", b"\"")).unwrap_or_else(|| named.to_vec());
        for Included { path, text } in (self.find)(&Include { path, is_system }) {
            let is_known = !self.once.insert(path.clone());
            if once && is_known {
                continue;
            }
            self.files += 1;
            let shown = Escaped(&path).to_string();
            match text {
                Err(error) => {
                    self.draft.say(Severity::LeftOut, place, format!("cannot read '{shown}': {error}"));
                }
                Ok(_) if depth == DEPTH_MAX || self.files > FILES_MAX => {
                    self.draft.say(Severity::LeftOut, place, format!("'{shown}' is included too deep"));
                }
                Ok(text) => self.read(&path, &text, depth + 1),
            }
        }
    }

    /// A text in quotes; one that follows another belongs to it.
    fn quoted(&mut self, cursor: &mut Cursor<'_>) -> Vec<u8> {
        let place = cursor.place.clone();
        cursor.skip(1);
        let mut text = Vec::new();
        loop {
            match *cursor.rest() {
                [] => {
                    self.draft.say(Severity::LeftOut, &place, "a text that does not end: \" is missing");
                    return text;
                }
                [b'"', ..] => {
                    cursor.skip(1);
                    return text;
                }
                [b'\\', byte, ..] => {
                    text.extend(escape(byte));
                    cursor.skip(2);
                }
                [byte, ..] => {
                    text.push(byte);
                    cursor.skip(1);
                }
            }
        }
    }

    fn here_document(&mut self, cursor: &mut Cursor<'_>) -> Vec<u8> {
        let place = cursor.place.clone();
        cursor.skip(2);
        let (tabs, blanks) = (cursor.rest().starts_with(b"-"), cursor.rest().starts_with(b"- "));
        cursor.skip(usize::from(tabs) + usize::from(blanks));
        let is_raw = cursor.rest().starts_with(b"\\") || cursor.rest().starts_with(b"\"");
        let line = cursor.take_line();
        let word: Vec<u8> =
            line.trim_ascii().iter().copied().filter(|byte| !b"\\\"".contains(byte)).collect();
        let stripped = |line: &[u8]| {
            let is_left_out = |byte: &u8| *byte == b'\t' || blanks && *byte == b' ';
            let start = if tabs { line.iter().take_while(|byte| is_left_out(byte)).count() } else { 0 };
            line[start..].to_vec()
        };
        let mut text = Vec::new();
        loop {
            if cursor.rest().is_empty() {
                let word = Escaped(&word);
                self.draft.say(
                    Severity::LeftOut,
                    &place,
                    format!("a here-document that does not end: no line '{word}'"),
                );
                return text;
            }
            let line = stripped(&cursor.take_line());
            let end = line.trim_ascii_end();
            if end == word {
                return text;
            }
            if end.strip_suffix(b";").is_some_and(|end| end.trim_ascii_end() == word) {
                // The semicolon ends the statement.
                cursor.go_back_to(b';');
                return text;
            }
            text.extend(if is_raw { line } else { interpreted(&line) });
            text.push(b'\n');
        }
    }
}

/// What an escape of a text in quotes stands for; a line break is nothing.
fn escape(byte: u8) -> Option<u8> {
    Some(match byte {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\n' => return None,
        other => other,
    })
}

fn interpreted(line: &[u8]) -> Vec<u8> {
    let (mut text, mut bytes) = (Vec::new(), line.iter());
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => text.extend(bytes.next().and_then(|next| escape(*next))),
            byte => text.push(byte),
        }
    }
    text
}

/// Letters of a text without quotes.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./@*:$+=%!?~^&[]|'`\\".contains(&byte) || byte >= 0x80
}

/// `#line NUMBER "FILE"`: what the next line is called.
fn renumber(line: &[u8], cursor: &mut Cursor<'_>) {
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&line[..digits]).ok().and_then(|number| number.parse::<usize>().ok());
    let file = line[digits..].trim_ascii().strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    // Lines are counted on from there; a number that no file has would only overflow.
    if let Some(number) = number.filter(|number| *number < 1 << 30) {
        cursor.place.line = number;
        cursor.place.file = file.map_or(cursor.place.file.clone(), <[u8]>::to_vec);
    }
}

struct Parser<'a> {
    tokens: &'a [(Place, Token)],
    at: usize,
    draft: &'a mut Draft,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<(Place, Token)> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// Statements up to the end of the block, or of the file.
    fn block(&mut self, depth: usize) -> Vec<Statement> {
        let mut statements = Vec::new();
        while let Some((place, token)) = self.next() {
            match token {
                Token::Mark(b'}') if depth > 0 => {
                    if self.tokens.get(self.at).is_some_and(|(_, token)| *token == Token::Mark(b';')) {
                        self.at += 1;
                    }
                    return statements;
                }
                Token::Mark(b';') => {}
                Token::Mark(byte) => self.wrong(&place, &[byte], "expected a statement"),
                Token::Text(keyword) => statements.extend(self.statement(place, keyword, depth)),
            }
        }
        if depth > 0 {
            let place = self.tokens.last().map_or(Place::of(b"", 0), |(place, _)| place.clone());
            self.draft.say(Severity::LeftOut, &place, "a block that does not end: } is missing");
        }
        statements
    }

    fn wrong(&mut self, place: &Place, found: &[u8], text: &str) {
        let found = Escaped(found);
        self.draft.say(
            Severity::LeftOut,
            place,
            format!("{text}, found '{found}'; direvent refuses such a file"),
        );
    }

    fn statement(&mut self, place: Place, keyword: Vec<u8>, depth: usize) -> Option<Statement> {
        let mut statement = Statement { place, keyword, values: Vec::new(), block: None };
        while let Some((place, token)) = self.next() {
            match token {
                Token::Text(text) => statement.values.push(Value::Text(text)),
                Token::Mark(b';') => return Some(statement),
                Token::Mark(b'(') => statement.values.push(Value::List(self.list())),
                Token::Mark(b'{') if depth < DEPTH_MAX => {
                    statement.block = Some(self.block(depth + 1));
                    return Some(statement);
                }
                Token::Mark(byte) => {
                    self.wrong(&place, &[byte], "expected a value or ;");
                    // A block that ends here ends for whoever is around it, too.
                    self.at -= usize::from(byte == b'}');
                    return None;
                }
            }
        }
        self.draft.say(Severity::LeftOut, &statement.place, "a statement that does not end: ; is missing");
        None
    }

    fn list(&mut self) -> Vec<Vec<u8>> {
        let mut list = Vec::new();
        while let Some((place, token)) = self.next() {
            match token {
                Token::Text(text) => list.push(text),
                Token::Mark(b',') => {}
                Token::Mark(b')') => break,
                Token::Mark(byte) => {
                    self.wrong(&place, &[byte], "expected a value or )");
                    self.at -= 1;
                    break;
                }
            }
        }
        list
    }
}
