//! The text of a shell command with its placeholders, and what the shell will make of them.
//!
//! A value stands for itself wherever its placeholder stands: outside of quotes, in single and in double quotes. The
//! text is read as a POSIX shell reads it (XCU 2.2 and 2.3, tried with dash and bash), far enough to know in which
//! quotes a placeholder stands. Where shells differ, or read a value a second time, no quoting is right: such a command
//! is refused. So is a placeholder in `$(...)` in quotes: that it is right there is hard to see, and a variable in
//! quotes is easy.
//!
//! The reader knows quotes, expansions, substitutions, comments and here-documents, and the words of a simple command.
//! What it does not understand makes it unsure, and from there on placeholders are refused; text that holds no value
//! is never refused, since it is the user's own.

use std::collections::BTreeMap;

use super::code::{
    PROCESS, Script, Value, Verdict, Word, doubted, doubted_pipe, forgotten, handed_on, likelier, piped_to,
    program_at, program_of, reads_commands, refused, verdict,
};
use super::occasion::{Field, Occasion, Placeholder};

/// A command line with its placeholders found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandTemplate(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Value(Placeholder, Quoting),
}

/// What stands in place of a placeholder in the text of another command line.
pub(crate) enum Instead {
    /// Text as it is.
    Text(&'static str),
    /// An expansion of the shell's, such as `${a##*/}`: it is put in double quotes.
    Expansion(&'static str),
}

/// A place where no placeholder can be: the text is read to a line that holds a word.
const HERE_DOCUMENT: &str = "in or behind a here-document";

/// A place where a value would be computed with, and so would a variable that holds it.
const ARITHMETIC: &str = "in arithmetic";

/// Texts of shells within each other: `sh -c "sh -c ..."`.
const DEPTH_MAX: usize = 32;

/// Where a placeholder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    Outside {
        /// In a word that would mean something else with a value that is not quoted: right behind `$name`, `~`, `{`.
        glued: bool,
    },
    Single,
    Double {
        /// As above.
        glued: bool,
    },
}

impl CommandTemplate {
    /// Finds the placeholders; all braces that are none of `known` are text.
    ///
    /// # Errors
    /// A placeholder stands where its value cannot be quoted; the text says where, and what to write instead.
    pub(crate) fn new(command: &[u8], known: &'static [Placeholder]) -> Result<CommandTemplate, String> {
        CommandTemplate::with_doubts(command, known).map(|(template, _)| template)
    }

    /// As above, with what of it will probably be read once more by a shell that is not ours: a text for each command.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn with_doubts(
        command: &[u8],
        known: &'static [Placeholder],
    ) -> Result<(CommandTemplate, Vec<String>), String> {
        Reader::new(command, known).finish().map(|reader| (CommandTemplate(reader.parts), reader.doubts))
    }

    /// The command line for an event.
    pub(crate) fn expand(&self, occasion: &Occasion<'_>) -> Vec<u8> {
        let mut line = Vec::new();
        for part in &self.0 {
            match part {
                Part::Literal(text) => line.extend_from_slice(text),
                Part::Value((_, field, _), quoting) => {
                    for (index, value) in occasion.values(*field).into_iter().enumerate() {
                        if index > 0 {
                            line.push(b' ');
                        }
                        put(value, *quoting, &mut line);
                    }
                }
            }
        }
        line
    }

    /// The text with something else for each placeholder, which is asked for by its name and by whether it stands in
    /// quotes. An expansion stands for its value as the placeholder does.
    pub(crate) fn rewritten(&self, mut instead: impl FnMut(&str, bool) -> Instead) -> Vec<u8> {
        let mut line = Vec::new();
        for part in &self.0 {
            match part {
                Part::Literal(text) => line.extend_from_slice(text),
                Part::Value((name, ..), quoting) => {
                    let in_quotes = !matches!(quoting, Quoting::Outside { .. });
                    let (before, text, behind) = match (instead(name, in_quotes), quoting) {
                        (Instead::Text(text), _) | (Instead::Expansion(text), Quoting::Double { .. }) => {
                            ("", text, "")
                        }
                        (Instead::Expansion(text), Quoting::Outside { .. }) => ("\"", text, "\""),
                        (Instead::Expansion(text), Quoting::Single) => ("'\"", text, "\"'"),
                    };
                    line.extend([before, text, behind].iter().flat_map(|text| text.bytes()));
                }
            }
        }
        line
    }

    /// Bytes of the text that is always there.
    pub(super) fn literal_bytes(&self) -> usize {
        let literals = self.0.iter().map(|part| match part {
            Part::Literal(text) => text.len(),
            Part::Value(..) => 0,
        });
        literals.sum()
    }

    /// How many placeholders stand for all paths.
    pub(super) fn path_lists(&self) -> usize {
        self.0.iter().filter(|part| matches!(part, Part::Value((_, Field::Pathnames, _), _))).count()
    }
}

/// Judges code of shells that stands in the arguments of a program: what is to be warned of.
///
/// # Errors
/// It gives a value to somebody as code.
pub(super) fn judge_scripts(
    scripts: &[Script],
    known: &'static [Placeholder],
) -> Result<Vec<String>, String> {
    let mut around = Reader::new(b"", known);
    for Script { text, argument } in scripts {
        around.read_within(text, *argument)?;
    }
    Ok(around.doubts)
}

/// Writes a word as a person would type it.
pub(crate) fn quote(word: &[u8], line: &mut Vec<u8>) {
    put(word, Quoting::Outside { glued: false }, line);
}

/// Writes a value so that the shell reads it as itself. What needs no quotes gets none, so that log lines stay
/// readable; outside of quotes that is what Python's `shlex.quote` does.
fn put(value: &[u8], quoting: Quoting, line: &mut Vec<u8>) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    let needs_none = value.iter().all(plain);
    match quoting {
        Quoting::Outside { glued: false } if needs_none && !value.is_empty() => line.extend_from_slice(value),
        Quoting::Single | Quoting::Double { glued: false } if needs_none => line.extend_from_slice(value),
        Quoting::Outside { .. } => put_quoted(value, line),
        // `'` ends the quotes; what follows goes on with the same word.
        Quoting::Single => put_inside_single(value, line),
        Quoting::Double { .. } => {
            line.push(b'"');
            put_quoted(value, line);
            line.push(b'"');
        }
    }
}

fn put_quoted(value: &[u8], line: &mut Vec<u8>) {
    line.push(b'\'');
    put_inside_single(value, line);
    line.push(b'\'');
}

fn put_inside_single(value: &[u8], line: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'\'' => line.extend_from_slice(b"'\"'\"'"),
            other => line.push(*other),
        }
    }
}

/// What a piece of text is inside of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// `"…"`.
    Double,
    /// `(…)` or `$(…)`.
    Parentheses,
    /// `((…))` or `$((…))`, with its open parentheses: values would be computed with, which can execute them.
    Arithmetic(u32),
    /// `${…}` outside of quotes.
    Braces,
    /// `${…}` in double quotes.
    QuotedBraces,
    /// A here-document that ends there, whose expansions the shell makes.
    HereDocument(usize),
}

/// Words that begin a compound command, and those that end one.
const OPEN_COMPOUND: [&[u8]; 6] = [b"{", b"if", b"while", b"until", b"for", b"case"];
const CLOSE_COMPOUND: [&[u8]; 4] = [b"}", b"fi", b"done", b"esac"];
/// Commands that print none of their arguments: the content of files, or nothing.
const PRINT_NO_VALUE: [&[u8]; 8] = [b"cat", b"zcat", b"xzcat", b"zstdcat", b"gunzip", b"gzip", b"[", b"test"];
/// Commands that print their arguments as they are, or a part of them.
const PRINT_VALUE: [&[u8]; 6] = [b"echo", b"printf", b"basename", b"dirname", b"realpath", b"readlink"];
/// Commands that put what they read into variables.
const READ_INTO: [&[u8]; 3] = [b"read", b"mapfile", b"readarray"];
/// Commands of which the shell does not split `name=$value`, and the one that people split values with.
const KEEP_WORDS: [&[u8]; 6] = [b"declare", b"export", b"local", b"readonly", b"set", b"typeset"];
/// The arguments of a shell or a function.
const ARGUMENTS: [&[u8]; 11] = [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"@", b"*"];

/// A value that a command prints.
#[derive(Debug, Clone, Copy)]
struct Printed {
    value: Value,
    /// The command redirects something, which may be its output.
    redirected: bool,
}

/// A command around the one at hand.
#[derive(Debug)]
struct Outer {
    words: Vec<Word>,
    /// What the command at hand prints becomes part of a word of it, which is all of that word if `true`.
    substitutes: Option<bool>,
    /// What is piped to it.
    piped: Option<Printed>,
    /// Where the command at hand begins.
    begin: usize,
}

/// The end of a here-document.
#[derive(Debug)]
struct Delimiter {
    line: Vec<u8>,
    /// Tabs before it do not count.
    has_tabs: bool,
    /// Expansions are not made.
    is_quoted: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "each says one thing about the text so far")]
struct Reader<'a> {
    text: &'a [u8],
    known: &'static [Placeholder],
    at: usize,
    parts: Vec<Part>,
    literal: Vec<u8>,
    inside: Vec<Inside>,
    /// Why no placeholder can be understood from here on.
    unsure: Option<&'static str>,
    /// A here-document begins with the next line.
    here_document: bool,
    /// The line that ends it, if it is understood.
    delimiter: Option<Delimiter>,
    /// The command that executes it.
    reads_document: Vec<Word>,
    /// Where the last `$name` ended.
    name_end: Option<usize>,
    /// The words of the simple command at hand, and those of the commands around it.
    words: Vec<Word>,
    outer: Vec<Outer>,
    /// Variables that hold a value.
    variables: BTreeMap<Vec<u8>, Value>,
    /// Whether the next byte begins a word.
    word_start: bool,
    /// The next word is a file that is redirected, or text that is read.
    redirects: bool,
    is_read: bool,
    /// Something reads text a second time that values may have come into on other ways.
    evaluates: bool,
    /// What the commands before print, whose output the command at hand reads.
    piped: Option<Printed>,
    /// The same of the compound commands around, as far as they are read.
    compounds: Vec<Option<Printed>>,
    /// In `[[ ]]`, whose words are not split.
    in_test: bool,
    /// What is accepted and probably not meant.
    doubts: Vec<String>,
    /// In how many texts of other shells it reads.
    depth: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8], known: &'static [Placeholder]) -> Reader<'a> {
        let given = known.iter().filter_map(|placeholder| {
            Some((placeholder.2.as_bytes().get(1..)?.to_vec(), Value::of_variable(*placeholder)?))
        });
        Reader {
            text,
            known,
            at: 0,
            parts: Vec::new(),
            literal: Vec::new(),
            inside: Vec::new(),
            unsure: None,
            here_document: false,
            delimiter: None,
            reads_document: Vec::new(),
            name_end: None,
            words: Vec::new(),
            outer: Vec::new(),
            variables: given.collect(),
            word_start: true,
            redirects: false,
            is_read: false,
            evaluates: false,
            piped: None,
            compounds: Vec::new(),
            in_test: false,
            doubts: Vec::new(),
            depth: 0,
        }
    }

    /// Reads all.
    fn finish(mut self) -> Result<Self, String> {
        self.read()?;
        self.end_command()?;
        self.end_literal();
        let value = self.parts.iter().find_map(|part| match part {
            Part::Value((name, ..), _) => Some(name),
            Part::Literal(_) => None,
        });
        match value.filter(|_| self.evaluates) {
            Some(name) => Err(format!(
                "{name} stands in a command with eval, which may read its value once more: do without eval, or use \
                 \"$PYINOTIFYD_PATHNAME\" and its like in single quotes"
            )),
            None => Ok(self),
        }
    }

    /// Reads the text of another shell, with the variables of this one: what it prints.
    fn read_within(&mut self, text: &[u8], argument: Option<Value>) -> Result<Option<Printed>, String> {
        if self.depth == DEPTH_MAX {
            return Err("commands within commands are too deep".to_owned());
        }
        let mut reader = Reader::new(text, &[]);
        reader.depth = self.depth + 1;
        reader.variables = self.variables.clone();
        reader.set_arguments(argument);
        reader.compounds.push(None);
        reader.read()?;
        reader.end_command()?;
        reader.end_compound();
        self.doubts.append(&mut reader.doubts);
        Ok(reader.piped)
    }

    fn read(&mut self) -> Result<(), String> {
        while self.at < self.text.len() {
            if let Some(placeholder) = self.placeholder(self.at) {
                self.take_placeholder(placeholder)?;
                continue;
            }
            match self.inside.last() {
                Some(Inside::HereDocument(end)) if self.at >= *end => self.end_here_document()?,
                Some(Inside::Double | Inside::QuotedBraces | Inside::HereDocument(_)) => {
                    self.read_double()?;
                }
                Some(Inside::Parentheses | Inside::Arithmetic(_) | Inside::Braces) | None => {
                    self.read_outside()?;
                }
            }
        }
        match self.inside.last() {
            Some(Inside::HereDocument(_)) => self.end_here_document(),
            _ => Ok(()),
        }
    }

    /// The placeholder that begins there.
    fn placeholder(&self, at: usize) -> Option<Placeholder> {
        let rest = &self.text[at..];
        self.known.iter().find(|(name, ..)| rest.starts_with(name.as_bytes())).copied()
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// Takes bytes as they are.
    fn take(&mut self, count: usize) {
        let end = (self.at + count).min(self.text.len());
        self.literal.extend_from_slice(&self.text[self.at..end]);
        self.at = end;
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.parts.push(Part::Literal(std::mem::take(&mut self.literal)));
        }
    }

    fn take_placeholder(&mut self, placeholder: Placeholder) -> Result<(), String> {
        let behind_name = self.name_end == Some(self.at);
        let begins = self.word_start;
        let quoting = match self.inside.last() {
            Some(Inside::Double | Inside::QuotedBraces | Inside::HereDocument(_)) => {
                Quoting::Double { glued: behind_name }
            }
            Some(Inside::Parentheses | Inside::Arithmetic(_) | Inside::Braces) | None => {
                if self.word_start {
                    self.begin_word();
                }
                // `~{pathname}` is no home directory, and a comma in a value no alternative of `{a,b}`.
                let in_pattern = self.word().text.iter().any(|byte| b"~{".contains(byte));
                Quoting::Outside { glued: behind_name || in_pattern }
            }
        };
        let next = self.text.get(self.at + placeholder.0.len());
        let is_whole = begins && next.is_none_or(|byte| b" \t\n;&|<>()".contains(byte));
        self.take_value(placeholder, quoting, is_whole && matches!(quoting, Quoting::Outside { .. }))
    }

    /// Takes a placeholder, which `is_whole` if it is a word of its own outside of quotes.
    fn take_value(
        &mut self,
        placeholder: Placeholder,
        quoting: Quoting,
        is_whole: bool,
    ) -> Result<(), String> {
        if let Some(place) = self.undecidable() {
            return Err(refusal(placeholder, place));
        }
        let (name, value, _) = placeholder;
        if value == Field::Pathnames && !is_whole {
            return Err(format!("{name} is many words: write it as a word of its own, outside of quotes"));
        }
        self.end_literal();
        self.parts.push(Part::Value(placeholder, quoting));
        self.at += name.len();
        self.put_into_word(Value::of(placeholder));
        Ok(())
    }

    /// The word at hand holds a value, and so does the variable that it sets.
    fn put_into_word(&mut self, value: Value) {
        let word = self.word();
        word.value = Value::likelier(word.value, Some(value));
        let end = word.text.iter().position(|byte| *byte == b'=').unwrap_or(0);
        let name = word.text[..end].strip_suffix(b"+").unwrap_or(&word.text[..end]);
        if !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            let name = name.to_vec();
            self.variables.insert(name, value);
        }
    }

    /// The shell puts a value into the word at hand, for the text from there to there. Outside of quotes it splits it.
    fn expand(&mut self, value: Value, begin: usize, end: usize) {
        self.put_into_word(value);
        let is_bare = matches!(self.inside.last(), Some(Inside::Parentheses | Inside::Braces) | None);
        if is_bare && value.surely && !value.filtered {
            let text = &self.text[begin..end];
            self.word().split = Some(text.to_vec());
        }
    }

    /// The variable whose name begins there stands in the word at hand.
    fn take_variable(&mut self, at: usize) {
        let name = &self.text[at.min(self.text.len())..];
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        let length = name.iter().take_while(is_part).count();
        let (name, behind) = name.split_at(length.max(1).min(name.len()));
        // `${x:+y}` is `y`, or nothing.
        let is_tested = [b"+".as_slice(), b":+"].iter().any(|operator| behind.starts_with(operator))
            && self.text[..self.text.len() - name.len() - behind.len()].ends_with(b"{");
        if let Some(value) = self.variables.get(name).copied().filter(|_| !is_tested) {
            let in_braces = self.text[..at].ends_with(b"{");
            let end = behind.iter().position(|byte| *byte == b'}').filter(|_| in_braces);
            let end = at + name.len() + end.map_or(0, |end| end + 1);
            self.expand(value, self.at, end);
        }
    }

    /// Why a value cannot be quoted here.
    fn undecidable(&self) -> Option<&'static str> {
        let opened = self.inside.iter().position(|inside| *inside == Inside::Double);
        let in_quotes = opened.map_or(&[][..], |place| &self.inside[place..]);
        let of = |wanted: fn(&Inside) -> bool| self.inside.iter().any(wanted);
        if self.unsure.is_some() {
            self.unsure
        } else if of(|inside| matches!(inside, Inside::Arithmetic(_))) {
            Some(ARITHMETIC)
        } else if of(|inside| matches!(inside, Inside::Braces | Inside::QuotedBraces)) {
            Some("in ${...}")
        } else if in_quotes.contains(&Inside::Parentheses) {
            Some("in $(...) in quotes")
        } else {
            None
        }
    }

    /// Reads on outside of quotes.
    fn read_outside(&mut self) -> Result<(), String> {
        let Some(byte) = self.byte(0) else { return Ok(()) };
        if self.word_start && !b" \t\n;&|<>()".contains(&byte) {
            if byte == b'#' && self.inside.last() != Some(&Inside::Braces) {
                self.take_comment();
                return Ok(());
            }
            self.begin_word();
        }
        if matches!(self.inside.last(), Some(Inside::Arithmetic(_))) && b"'\"`\\".contains(&byte) {
            self.unsure = Some("behind quotes in arithmetic");
        }
        match byte {
            b'\\' => self.take_escaped()?,
            b'\'' => self.take_single()?,
            b'"' => {
                self.inside.push(Inside::Double);
                self.take(1);
            }
            b'`' => self.take_backticks()?,
            b'$' => self.take_dollar()?,
            b'(' => self.open_parenthesis(1, self.byte(1) == Some(b'(')),
            b')' => self.close_parenthesis()?,
            b'}' if self.inside.last() == Some(&Inside::Braces) => {
                self.inside.pop();
                self.take(1);
            }
            b'<' if self.byte(1) == Some(b'<') && !self.counts() => self.take_here_document()?,
            b'\n' => {
                if !self.words.is_empty() {
                    self.end_command()?;
                    self.end_pipeline();
                }
                self.end_line();
                self.word_start = true;
                self.take(1);
                self.begin_here_document()?;
            }
            // `2>&1` and `>|` are redirections.
            b'&' | b'|' if self.at > 0 && b"<>".contains(&self.text[self.at - 1]) => self.take(1),
            b';' | b'&' | b'|' => {
                self.end_command()?;
                let around = [self.at.checked_sub(1).map(|before| self.text[before]), self.byte(1)];
                if byte != b'|' || around.contains(&Some(b'|')) {
                    self.end_pipeline();
                }
                self.take(1);
            }
            b' ' | b'\t' | b'<' | b'>' => {
                let is_redirection = b"<>".contains(&byte);
                if is_redirection && !self.word_start {
                    // The number of a descriptor, as in `2>&1`.
                    let word = self.word();
                    word.redirects |= !word.text.is_empty()
                        && word.value.is_none()
                        && word.text == word.whole
                        && word.text.iter().all(u8::is_ascii_digit);
                }
                self.word_start = true;
                self.redirects |= is_redirection;
                self.take(1);
            }
            other => {
                let word = self.word();
                word.text.push(other);
                word.whole.push(other);
                self.take(1);
            }
        }
        Ok(())
    }

    /// Whether `<<` is a shift here.
    fn counts(&self) -> bool {
        matches!(self.inside.last(), Some(Inside::Arithmetic(_) | Inside::Braces))
    }

    fn read_double(&mut self) -> Result<(), String> {
        let in_braces = self.inside.last() == Some(&Inside::QuotedBraces);
        let in_document = matches!(self.inside.last(), Some(Inside::HereDocument(_)));
        match self.byte(0) {
            Some(b'"') if in_document => self.take_quoted(),
            // Shells disagree about these in `"${x:-…}"`.
            Some(b'"' | b'\'' | b'\\' | b'`') if in_braces => {
                self.unsure = Some("behind quotes in \"${...}\"");
                self.inside.pop();
            }
            Some(b'}') if in_braces => {
                self.inside.pop();
                self.take(1);
            }
            Some(b'"') => {
                self.inside.pop();
                self.take(1);
            }
            Some(b'\\') => self.take_escaped()?,
            Some(b'`') => self.take_backticks()?,
            Some(b'$') => self.take_dollar()?,
            Some(b'\n') => {
                self.end_line();
                self.take_quoted();
            }
            _ => self.take_quoted(),
        }
        Ok(())
    }

    /// Takes a byte in quotes.
    fn take_quoted(&mut self) {
        if let Some(byte) = self.byte(0) {
            self.word().whole.push(byte);
            self.take(1);
        }
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.here_document) {
            self.unsure = Some(HERE_DOCUMENT);
        }
    }

    fn take_escaped(&mut self) -> Result<(), String> {
        if let Some(placeholder) = self.placeholder(self.at + 1) {
            return Err(refusal(placeholder, "behind a backslash"));
        }
        let before = self.at.checked_sub(1).map(|before| self.text[before]);
        if self.byte(1) == Some(b'\n') && before.is_some_and(|before| !before.is_ascii_whitespace()) {
            // The next line goes on with what stands before, were it a `$`.
            self.unsure = Some("behind a line that is continued in the middle of a word");
        }
        if let Some(byte) = self.byte(1).filter(|byte| *byte != b'\n') {
            self.word().whole.push(byte);
        }
        self.take(2);
        Ok(())
    }

    fn take_single(&mut self) -> Result<(), String> {
        self.take(1);
        while let Some(byte) = self.byte(0) {
            if let Some(placeholder) = self.placeholder(self.at) {
                self.take_value(placeholder, Quoting::Single, false)?;
                continue;
            }
            if byte == b'\n' {
                self.end_line();
            }
            if byte == b'\'' {
                self.take(1);
                break;
            }
            self.take_quoted();
        }
        Ok(())
    }

    /// Comments are left as they are: a line break in a value would end them.
    fn take_comment(&mut self) {
        let rest = &self.text[self.at..];
        self.take(rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    }

    fn take_backticks(&mut self) -> Result<(), String> {
        let begin = self.at;
        self.take(1);
        let in_quotes = matches!(self.inside.last(), Some(Inside::Double | Inside::QuotedBraces));
        let mut command = Vec::new();
        while let Some(byte) = self.byte(0).filter(|byte| *byte != b'`') {
            if let Some(placeholder) = self.placeholder(self.at) {
                return Err(refusal(placeholder, "in backticks"));
            }
            let escaped = self
                .byte(1)
                .filter(|next| byte == b'\\' && (b"$`\\".contains(next) || in_quotes && *next == b'"'));
            command.push(escaped.unwrap_or(byte));
            self.take(1 + usize::from(escaped.is_some()));
        }
        self.take(1);
        self.evaluates |= command.windows(4).any(|word| word == b"eval");
        if let Some(Printed { value, .. }) = self.read_within(&command, None)? {
            self.expand(value, begin, self.at);
        }
        Ok(())
    }

    fn take_dollar(&mut self) -> Result<(), String> {
        if let Some(placeholder) = self.placeholder(self.at + 1) {
            return Err(refusal(placeholder, "behind a $"));
        }
        let in_quotes = matches!(
            self.inside.last(),
            Some(Inside::Double | Inside::QuotedBraces | Inside::HereDocument(_))
        );
        match self.byte(1) {
            Some(b'(') => self.open_parenthesis(2, self.byte(2) == Some(b'(')),
            Some(b'{') => {
                self.word().whole.extend_from_slice(b"${");
                self.take_variable(self.at + 2);
                self.inside.push(if in_quotes { Inside::QuotedBraces } else { Inside::Braces });
                self.take(2);
            }
            Some(b'\'') if !in_quotes => {
                // Escapes in bash, a plain `$` before plain quotes in dash.
                self.unsure = Some("behind $'...'");
                self.take(1);
            }
            Some(first) if first.is_ascii_alphabetic() || first == b'_' => {
                let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
                let length = self.text[self.at + 1..].iter().take_while(is_part).count();
                let (text, at) = (self.text, self.at);
                self.word().whole.extend_from_slice(&text[at..=at + length]);
                self.take_variable(self.at + 1);
                self.take(1 + length);
                self.name_end = Some(self.at);
            }
            Some(first) if first.is_ascii_digit() || b"$?!#*@-".contains(&first) => {
                self.take_variable(self.at + 1);
                self.take(2);
            }
            Some(_) | None => self.take(1),
        }
        Ok(())
    }

    /// Begins a subshell or a substitution, of which `length` bytes stand before the second parenthesis if there is
    /// one.
    fn open_parenthesis(&mut self, length: usize, twice: bool) {
        if let Some(Inside::Arithmetic(open)) = self.inside.last_mut()
            && length == 1
        {
            *open += 1;
            self.take(1);
            return;
        }
        if length == 1 && self.inside.last() == Some(&Inside::Braces) {
            self.take(1);
            return;
        }
        if length == 1 && !twice && self.words.len() == 1 && self.byte(1) == Some(b')') {
            self.begin_function();
        }
        let is_process = self.at > 0 && self.text[self.at - 1] == b'<';
        let substitutes = (length == 2 || is_process).then_some(is_process).filter(|_| !twice);
        let piped = self.piped.take_if(|_| substitutes.is_some());
        self.redirects &= substitutes.is_none();
        self.inside.push(if twice { Inside::Arithmetic(2) } else { Inside::Parentheses });
        let begin = self.at;
        self.take(length + usize::from(twice));
        self.compounds.push(None);
        self.outer.push(Outer { words: std::mem::take(&mut self.words), substitutes, piped, begin });
        self.word_start = true;
    }

    fn close_parenthesis(&mut self) -> Result<(), String> {
        self.take(1);
        match self.inside.last_mut() {
            Some(Inside::Arithmetic(open)) => {
                *open -= 1;
                if *open > 0 {
                    return Ok(());
                }
            }
            Some(Inside::Parentheses) => {}
            // The end of a pattern of `case`, which is not split, or no shell text at all.
            Some(Inside::Double | Inside::Braces | Inside::QuotedBraces | Inside::HereDocument(_)) | None => {
                self.word().split = None;
                self.word_start = true;
                return Ok(());
            }
        }
        self.end_command()?;
        self.end_compound();
        self.inside.pop();
        if let Some(Outer { words, substitutes, piped, begin }) = self.outer.pop() {
            self.words = words;
            if let Some(is_word) = substitutes {
                let printed = std::mem::replace(&mut self.piped, piped);
                if is_word {
                    self.words.push(Word { whole: PROCESS.to_vec(), ..Word::default() });
                }
                match printed {
                    Some(Printed { value, .. }) if is_word => self.put_into_word(value),
                    Some(Printed { value, .. }) => self.expand(value, begin, self.at),
                    None => {}
                }
            }
        }
        // `$(a)b` is one word, `(a)` is none.
        self.word_start = self.words.is_empty();
        Ok(())
    }

    /// Any value may be an argument of the function that begins here.
    fn begin_function(&mut self) {
        let holds = |name: &str| self.text.windows(name.len()).any(|text| text == name.as_bytes());
        let written = |value: &Value| holds(value.written.trim_start_matches('$'));
        let values = self.known.iter().flat_map(|one| [Some(Value::of(*one)), Value::of_variable(*one)]);
        let value = values.flatten().find(written);
        self.set_arguments(value.map(|value| Value { surely: false, ..value }));
    }

    fn set_arguments(&mut self, value: Option<Value>) {
        let named = |value: Value| ARGUMENTS.map(|name| (name.to_vec(), value));
        self.variables.extend(value.into_iter().flat_map(named));
    }

    /// Notes the variables that a command sets to a value.
    fn set_variables(&mut self, words: &[Word]) {
        let Some((program, arguments)) = words.split_first() else { return };
        let program = program.whole.as_slice();
        let value = arguments.iter().fold(None, |value, word| Value::likelier(value, word.value));
        let names: &[Word] = match program {
            b"set" => {
                self.set_arguments(value);
                &[]
            }
            b"for" => arguments.get(..1).unwrap_or_default(),
            b"printf" if arguments.iter().any(|word| word.whole.starts_with(b"-v")) => arguments,
            _ if READ_INTO.contains(&program) => arguments,
            _ => &[],
        };
        let piped = self.piped.filter(|_| READ_INTO.contains(&program)).map(|printed| printed.value);
        if let Some(value) = Value::likelier(value, piped) {
            self.variables.extend(names.iter().map(|word| (word.whole.clone(), value)));
        }
    }

    fn take_here_document(&mut self) -> Result<(), String> {
        if self.byte(2) == Some(b'<') {
            (self.word_start, self.redirects, self.is_read) = (true, true, true);
            self.take(3);
            return Ok(());
        }
        let has_tabs = self.byte(2) == Some(b'-');
        self.take(if has_tabs { 3 } else { 2 });
        while matches!(self.byte(0), Some(b' ' | b'\t')) {
            self.take(1);
        }
        let begin = self.at;
        while let Some(byte) = self.byte(0).filter(|byte| !b" \t\n;&|<>()".contains(byte)) {
            if let Some(placeholder) = self.placeholder(self.at) {
                return Err(refusal(placeholder, HERE_DOCUMENT));
            }
            if b"'\"\\$`".contains(&byte) {
                // Where such a word ends depends on its quotes, and what is behind it may be part of it.
                self.unsure = Some(HERE_DOCUMENT);
            }
            self.take(if byte == b'\\' { 2 } else { 1 });
        }
        let word = &self.text[begin..self.at];
        let line: Vec<u8> = word.iter().copied().filter(|byte| !b"'\"\\".contains(byte)).collect();
        let is_quoted = line.len() < word.len();
        // The first of several is read as the text that it is not.
        self.delimiter = Some(Delimiter { line, has_tabs, is_quoted }).filter(|_| !self.here_document);
        self.here_document = true;
        Ok(())
    }

    /// Begins the here-document of the line that ends.
    fn begin_here_document(&mut self) -> Result<(), String> {
        let Some(Delimiter { line, has_tabs, is_quoted }) = self.delimiter.take() else { return Ok(()) };
        let mut end = self.at;
        for text in self.text[self.at..].split_inclusive(|byte| *byte == b'\n') {
            let text_of_line = text.strip_suffix(b"\n").unwrap_or(text);
            let tabs = text_of_line.iter().take_while(|byte| has_tabs && **byte == b'\t').count();
            if text_of_line[tabs..] == line {
                break;
            }
            end += text.len();
        }
        if !is_quoted {
            self.inside.push(Inside::HereDocument(end));
            return Ok(());
        }
        match (self.at..end).find_map(|at| self.placeholder(at)) {
            Some(placeholder) => Err(refusal(placeholder, HERE_DOCUMENT)),
            // Without its end, it was not understood.
            None if end == self.text.len() => Ok(()),
            None => {
                self.take(end - self.at);
                Ok(())
            }
        }
    }

    /// A value in a here-document may be executed by who reads that.
    fn end_here_document(&mut self) -> Result<(), String> {
        self.inside.pop();
        self.word_start = true;
        let value = std::mem::take(&mut self.words).into_iter().find_map(|word| word.value);
        let reader = std::mem::take(&mut self.reads_document);
        self.piped = value.map(|value| Printed { value, redirected: false });
        self.check_pipe(&reader)?;
        self.piped = None;
        Ok(())
    }

    /// The word at hand.
    fn word(&mut self) -> &mut Word {
        if self.words.is_empty() {
            self.words.push(Word::default());
        }
        self.words.last_mut().expect("one was just made")
    }

    fn begin_word(&mut self) {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(rest.len());
        if self.inside.contains(&Inside::Parentheses) && &rest[..length] == b"case" {
            // The parentheses of its patterns are not balanced.
            self.unsure = Some("behind case in $(...)");
        }
        self.word_start = false;
        let (redirects, is_read) = (std::mem::take(&mut self.redirects), std::mem::take(&mut self.is_read));
        self.words.push(Word { redirects, is_read, ..Word::default() });
    }

    /// Refuses a command that reads a value a second time, and doubts one that gives it to somebody who does.
    fn end_command(&mut self) -> Result<(), String> {
        self.word_start = true;
        (self.redirects, self.is_read) = (false, false);
        let words = std::mem::take(&mut self.words);
        self.doubt_split(&words);
        let Verdict { executed, evaluates, scripts } = verdict(&words, true);
        self.evaluates |= evaluates;
        for Script { text, argument } in &scripts {
            self.read_within(text, *argument)?;
        }
        match executed {
            Some(executed) if executed.value.surely => return Err(refused(&executed)),
            Some(executed) => self.doubts.push(doubted(&executed)),
            None => {}
        }
        let at = program_at(&words);
        let begin = &words[..words.len().min(at + 1)];
        let opened = begin.iter().filter(|word| OPEN_COMPOUND.contains(&word.whole.as_slice())).count();
        self.compounds.extend(std::iter::repeat_n(None, opened));
        if at == words.len() {
            return Ok(());
        }
        if let Some(read) = words.iter().rfind(|word| word.is_read) {
            self.piped = read.value.map(|value| Printed { value, redirected: false });
        }
        self.check_pipe(&words[at..])?;
        if self.here_document && reads_commands(&words[at..]) {
            self.reads_document = words[at..].to_vec();
        }
        self.doubts.extend(handed_on(&words[at..], self.piped.map(|printed| printed.value)));
        self.doubts.extend(forgotten(&words, |name| self.variables.contains_key(name)));
        self.set_variables(&words[at..]);
        if CLOSE_COMPOUND.contains(&words[at].whole.as_slice()) {
            self.end_compound();
        } else if !PRINT_NO_VALUE.contains(&program_of(&words[at].whole)) {
            let values = words.iter().filter(|word| !word.redirects).map(|word| word.value);
            let surely = PRINT_VALUE.contains(&program_of(&words[at].whole));
            let redirected = words.iter().any(|word| word.redirects);
            let value = values.fold(None, Value::likelier);
            let value = value.map(|value| Value { surely: surely && value.surely, ..value });
            let filtered =
                |printed: Printed| Printed { value: Value { filtered: true, ..printed.value }, ..printed };
            self.piped = value.map(|value| Printed { value, redirected }).or(self.piped.map(filtered));
        }
        Ok(())
    }

    /// Doubts values that the shell splits into words: whoever writes that means the whole value.
    fn doubt_split(&mut self, words: &[Word]) {
        let at = program_at(words);
        let program = words.get(at).map_or(b"".as_slice(), |word| word.whole.as_slice());
        let in_test = self.in_test || program == b"[[";
        self.in_test = in_test && words.last().is_none_or(|word| word.whole != b"]]");
        if in_test || self.unsure.is_some() || KEEP_WORDS.contains(&program) {
            return;
        }
        // What stands before the program is assigned, and what stands behind `case` is compared.
        let first = at + if program == b"case" { 2 } else { 0 };
        let split = words.iter().skip(first).filter(|word| !word.redirects && !word.is_read);
        for text in split.filter_map(|word| word.split.as_deref()) {
            let doubt = doubted_split(text, self.known);
            if !self.doubts.contains(&doubt) {
                self.doubts.push(doubt);
            }
        }
    }

    /// What a pipeline prints is printed by the compound command around it.
    fn end_pipeline(&mut self) {
        let printed = self.piped.take();
        let printed = printed.map(|one| {
            let surely = one.value.surely && !one.redirected;
            Printed { value: Value { surely, ..one.value }, ..one }
        });
        if let Some(compound) = self.compounds.last_mut() {
            *compound = likelier_printed(*compound, printed);
        }
    }

    /// What was printed in a compound command is printed by it.
    fn end_compound(&mut self) {
        self.piped = likelier_printed(self.piped, self.compounds.pop().flatten());
    }

    /// A shell that reads its commands from what was piped to it.
    fn check_pipe(&mut self, words: &[Word]) -> Result<(), String> {
        let executed = self.piped.and_then(|printed| piped_to(words, printed.value));
        let Some(executed) = executed else { return Ok(()) };
        if executed.value.surely {
            return Err(refused(&executed));
        }
        self.doubts.push(doubted_pipe(&words[0], &executed));
        Ok(())
    }
}

/// Of two things that may be printed, the one that surely is.
fn likelier_printed(one: Option<Printed>, other: Option<Printed>) -> Option<Printed> {
    likelier(one, other, |printed| printed.value.surely)
}

/// What is said of an expansion outside of quotes.
fn doubted_split(text: &[u8], known: &[Placeholder]) -> String {
    let text = String::from_utf8_lossy(text).replace(char::is_control, " ");
    // In double quotes, a placeholder cannot stand in `$(...)`.
    let quoted = known.iter().fold(text.clone(), |text, (name, _, variable)| {
        let written = [format!("'{name}'"), format!("\"{name}\""), (*name).to_owned()];
        written.iter().fold(text, |text, name| text.replace(name, &format!("\"{variable}\"")))
    });
    format!(
        "{text} stands outside of quotes, where a shell splits its value at blanks, and takes * and ? in it for a \
         pattern: write \"{quoted}\""
    )
}

/// One line: what cannot be done, and what can.
fn refusal((name, field, variable): Placeholder, place: &str) -> String {
    let instead = match field {
        _ if place == ARITHMETIC => format!("compute with a variable, as in size=$(stat -c %s {name})"),
        Field::Maskname | Field::Pathname | Field::SrcPathname | Field::Error => {
            format!("use \"{variable}\"")
        }
        Field::Pathnames => "read the paths from stdin".to_owned(),
    };
    format!("{name} stands {place}, where its value cannot be quoted: {instead}")
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
