//! Which words of a command are code: text that a program executes, so that a value in it may be executed, too.
//!
//! A word is code by what stands before it: an option that names code (`-c`, `-e` and their like), or a program whose
//! first argument is code. Where a program is known to execute all of it, the command is refused. Of other programs it
//! is likely if the word holds more than a value, as a command has more than one word; that is warned of, as is code of
//! which a program executes only some (`sed`, SQL, terminals).

use super::occasion::{Field, Placeholder};

/// A value that came into a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    /// What stands for it, or could.
    pub placeholder: Placeholder,
    /// What the user wrote for it.
    pub written: &'static str,
    /// It stands there as it is, rather than perhaps.
    pub surely: bool,
    /// A command has read it, and made something else of it, which may be a number.
    pub filtered: bool,
}

impl Value {
    /// Of a placeholder that stands there.
    pub(super) fn of(placeholder: Placeholder) -> Value {
        Value { placeholder, written: placeholder.0, surely: true, filtered: false }
    }

    /// Of the variable that the command finds, if the value can do harm: the name of an event cannot.
    pub(super) fn of_variable(placeholder: Placeholder) -> Option<Value> {
        let (_, field, variable) = placeholder;
        match field {
            Field::Pathname | Field::SrcPathname | Field::Error => {
                Some(Value { written: variable, ..Value::of(placeholder) })
            }
            Field::Maskname | Field::Pathnames => None,
        }
    }

    /// Of two that may be there, the one that surely is.
    pub(super) fn likelier(one: Option<Value>, other: Option<Value>) -> Option<Value> {
        likelier(one, other, |value| value.surely)
    }
}

/// Of two things that may be there, the one that surely is; of equals, the first.
pub(super) fn likelier<T>(one: Option<T>, other: Option<T>, surely: impl Fn(&T) -> bool) -> Option<T> {
    // Of equals this takes the last.
    other.into_iter().chain(one).max_by_key(surely)
}

/// A word of a simple command.
#[derive(Debug, Default, Clone)]
pub(super) struct Word {
    /// What stands outside of quotes.
    pub text: Vec<u8>,
    /// All of it, without its quotes and placeholders; of an expansion its begin.
    pub whole: Vec<u8>,
    /// It names a file that is redirected, and is no argument.
    pub redirects: bool,
    /// It is what the command reads, rather than such a file: `<<<`.
    pub is_read: bool,
    /// The value in it.
    pub value: Option<Value>,
    /// An expansion in it that the shell splits, since it stands outside of quotes; as it is written.
    pub split: Option<Vec<u8>>,
}

/// Where a value stands that a shell executes.
pub(super) const READ_ONCE_MORE: &str = "in text that a shell reads once more";

/// The word that stands for what a process substitution prints.
pub(super) const PROCESS: &[u8] = b"<(";

/// Programs that execute an argument of theirs.
#[derive(Debug)]
struct Interpreter {
    kind: Kind,
    /// Their names, without a version.
    names: &'static [&'static [u8]],
    /// Short options whose value is code.
    code: &'static [u8],
    /// Others that have a value.
    with_value: &'static [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Reads commands from stdin, too.
    Shell,
    /// Gives an argument to a shell.
    CallsShell,
    Language,
    /// The first argument is code unless an option names it.
    Filter,
    /// As above, but only some of its code can execute others.
    Editor,
    /// As above, and an option gives it values.
    Query,
    /// What follows its first argument is code; quotes of a shell mean nothing in it.
    Database,
    /// Its first argument is a command, of which some type what follows into a shell, or execute it.
    Terminal,
    /// What follows `:::` is code unless a command stands before that.
    Parallel,
    /// Reads `NAME=value` as text of its own, and puts it into commands for a shell.
    Make,
}

impl Kind {
    /// Of what it is given as code, it executes all as it is.
    fn surely(self) -> bool {
        match self {
            Kind::Shell | Kind::CallsShell | Kind::Language | Kind::Filter | Kind::Parallel | Kind::Make => {
                true
            }
            Kind::Editor | Kind::Query | Kind::Database | Kind::Terminal => false,
        }
    }

    /// Whether an argument is code, by its text and by how many stand before it.
    fn executes(self, text: &[u8], before: usize) -> bool {
        match self {
            Kind::Make => text.contains(&b'='),
            Kind::Filter | Kind::Editor | Kind::Query => before == 0,
            Kind::Database | Kind::Terminal => before > 0,
            Kind::Shell | Kind::CallsShell | Kind::Language | Kind::Parallel => false,
        }
    }

    /// Whether its name among the arguments of another program calls it.
    fn is_called_anywhere(self) -> bool {
        matches!(self, Kind::Shell | Kind::CallsShell | Kind::Language | Kind::Database)
    }
}

const INTERPRETERS: [Interpreter; 16] = [
    Interpreter {
        kind: Kind::Shell,
        names: &[
            b"sh",
            b"bash",
            b"dash",
            b"ash",
            b"ksh",
            b"mksh",
            b"zsh",
            b"rbash",
            b"rksh",
            b"rzsh",
            b"lksh",
            b"oksh",
            b"posh",
            b"yash",
            b"csh",
            b"tcsh",
            b"fish",
            b"elvish",
            b"xonsh",
            b"nu",
            b"osh",
            b"pwsh",
            b"powershell",
        ],
        code: b"c",
        with_value: b"oO",
    },
    Interpreter {
        kind: Kind::CallsShell,
        names: &[b"script", b"su", b"runuser", b"flock"],
        code: b"c",
        with_value: b"EGgsTuw",
    },
    Interpreter {
        kind: Kind::Language,
        names: &[b"python", b"pypy", b"expect", b"guile"],
        code: b"c",
        with_value: b"WX",
    },
    Interpreter {
        kind: Kind::Language,
        names: &[
            b"perl",
            b"ruby",
            b"lua",
            b"luajit",
            b"Rscript",
            b"R",
            b"julia",
            b"osascript",
            b"groovy",
            b"elixir",
            b"raku",
        ],
        code: b"eE",
        with_value: b"IMmCxDFrK",
    },
    Interpreter {
        kind: Kind::Language,
        names: &[b"node", b"nodejs", b"bun", b"deno"],
        code: b"ep",
        with_value: b"rC",
    },
    Interpreter { kind: Kind::Language, names: &[b"php"], code: b"rBRE", with_value: b"dcfz" },
    Interpreter {
        kind: Kind::Filter,
        names: &[b"awk", b"gawk", b"mawk", b"nawk"],
        code: b"e",
        with_value: b"Ffvil",
    },
    Interpreter { kind: Kind::Editor, names: &[b"sed", b"gsed"], code: b"e", with_value: b"fl" },
    Interpreter { kind: Kind::Query, names: &[b"jq", b"yq"], code: b"", with_value: b"fL" },
    Interpreter { kind: Kind::Database, names: &[b"psql"], code: b"c", with_value: b"dfFhLopPRTUv" },
    Interpreter { kind: Kind::Database, names: &[b"mysql", b"mariadb"], code: b"e", with_value: b"DhpPSu" },
    Interpreter { kind: Kind::Database, names: &[b"sqlite", b"duckdb"], code: b"c", with_value: b"" },
    // It executes `#(...)` in the name of a directory, too.
    Interpreter { kind: Kind::Terminal, names: &[b"tmux"], code: b"c", with_value: b"efFLnNsStTxy" },
    Interpreter { kind: Kind::Terminal, names: &[b"screen"], code: b"", with_value: b"cehpsStT" },
    Interpreter { kind: Kind::Parallel, names: &[b"parallel"], code: b"", with_value: TAKE_WORD_OF_PARALLEL },
    Interpreter { kind: Kind::Make, names: &[b"make", b"gmake"], code: b"E", with_value: b"CfIoW" },
];

/// Long options whose value is code, by their last part; the last ones are of languages.
const NAMES_CODE: [&[u8]; 11] = [
    b"command",
    b"Command",
    b"cmd",
    b"eval",
    b"exec",
    b"execute",
    b"expression",
    b"script",
    b"source",
    b"print",
    b"run",
];
const OF_LANGUAGES: usize = 3;
/// Long options whose value is read as a command: of tar by a shell, of env by env itself.
const NAMES_SHELL_TEXT: [&[u8]; 3] = [b"--checkpoint-action=exec=", b"--split-string=", b"--to-command="];
/// Programs that take what looks like code to us as data.
const TAKE_DATA: [&[u8]; 20] = [
    b"[",
    b"[[",
    b"test",
    b"touch",
    b"echo",
    b"printf",
    b"grep",
    b"egrep",
    b"fgrep",
    b"zgrep",
    b"rg",
    b"logger",
    b"notify-send",
    b"wall",
    b"mail",
    b"mailx",
    b"curl",
    b"find",
    b"docker",
    b"podman",
];
/// Commands of terminals that type text, and those that execute it.
const TYPE_TEXT: [&[u8]; 3] = [b"send-keys", b"send", b"stuff"];
const RUN_TEXT: [&[u8]; 22] = [
    b"new-session",
    b"new",
    b"new-window",
    b"neww",
    b"split-window",
    b"splitw",
    b"respawn-pane",
    b"respawnp",
    b"respawn-window",
    b"respawnw",
    b"run-shell",
    b"run",
    b"if-shell",
    b"if",
    b"pipe-pane",
    b"pipep",
    b"display-popup",
    b"popup",
    b"display-message",
    b"display",
    b"rename-session",
    b"rename",
];
/// Programs that give what they read from stdin to a shell, and the options that keep them from it.
const GIVE_STDIN_TO_SHELL: [(&[u8], &[&[u8]]); 3] =
    [(b"at", &[b"-f"]), (b"batch", &[b"-f"]), (b"crontab", &[b"-l", b"-r", b"-e"])];
/// The same of those that execute it themselves.
const EXECUTE_STDIN: [(&[u8], &[&[u8]]); 3] =
    [(b"sftp", &[]), (b"ftp", &[]), (b"lftp", &[b"-c", b"-e", b"-f"])];
/// Programs that give a command to the shell of another host.
const REMOTE_SHELLS: [&[u8]; 3] = [b"ssh", b"slogin", b"rsh"];
/// Their options whose value is the next word.
const TAKE_WORD_OF_SSH: &[u8] = b"bcDEeFIiJLlmOopQRSWw";
/// Programs that run a command in a container, and as another user. Of these the last two hand the environment on
/// unless it is a login.
const CONTAINERS: [&[u8]; 3] = [b"docker", b"kubectl", b"podman"];
const OTHER_USERS: [&[u8]; 4] = [b"doas", b"sudo", b"runuser", b"su"];
const LOGIN: [&[u8]; 3] = [b"-", b"-l", b"--login"];
/// Options by which they hand on all of it, or what we do not see; sudo's `-E` may stand among others.
const HAND_ON_ENVIRONMENT: [&[u8]; 2] = [b"--env-file", b"--preserve-env"];
/// The same of parallel, and of xargs.
const TAKE_WORD_OF_PARALLEL: &[u8] = b"adIjlLnNPsS";
const TAKE_WORD_OF_XARGS: &[u8] = b"adEIJLnPRsS";
/// Commands that put their arguments before another command, each with its options whose value is the next word.
const WRAPPERS: [(&[u8], &[u8]); 16] = [
    (b"sudo", b"CDghpRrTtUu"),
    (b"doas", b"Cu"),
    (b"timeout", b"ks"),
    (b"nice", b"n"),
    (b"ionice", b"cnPpu"),
    (b"nohup", b""),
    (b"env", b"CSu"),
    (b"exec", b"a"),
    (b"command", b""),
    (b"time", b"fo"),
    (b"setsid", b""),
    (b"stdbuf", b"eio"),
    (b"busybox", b""),
    (b"toybox", b""),
    (b"!", b""),
    (b"{", b""),
];
/// Their options of that kind with long names, where the value is no number.
const LONG_WITH_WORD: [&[u8]; 12] = [
    b"--user",
    b"--group",
    b"--host",
    b"--chdir",
    b"--chroot",
    b"--prompt",
    b"--role",
    b"--type",
    b"--signal",
    SPLIT_STRING,
    b"--unset",
    b"--class",
];
/// The long form of env's `-S`.
const SPLIT_STRING: &[u8] = b"--split-string";
/// Commands that read their arguments a second time.
const READ_AGAIN: [&[u8]; 4] = [b"eval", b"trap", b"alias", b"let"];
/// Options of find behind which a command stands.
const EXEC_OF_FIND: [&[u8]; 4] = [b"-exec", b"-execdir", b"-ok", b"-okdir"];

/// What is executed, or perhaps.
#[derive(Debug, Clone)]
pub(super) struct Executed {
    /// What may be executed.
    pub value: Value,
    /// Who executes it.
    by: By,
}

/// Who executes code.
#[derive(Debug, Clone)]
enum By {
    Shell,
    /// Another program, which may be known.
    Program(String, Option<&'static Interpreter>),
}

/// What a command does with its words.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The value in its code.
    pub executed: Option<Executed>,
    /// Some code holds `eval`.
    pub evaluates: bool,
    /// Code of shells that no value came into.
    pub scripts: Vec<Script>,
}

/// Code of another shell.
#[derive(Debug)]
pub(super) struct Script {
    pub text: Vec<u8>,
    /// What it may have as `$1` and the like.
    pub argument: Option<Value>,
}

/// How an option names code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Nothing,
    NextWord,
    Itself,
}

impl Interpreter {
    fn is_shell(&self) -> bool {
        matches!(self.kind, Kind::Shell | Kind::CallsShell)
    }

    /// How a short option names code.
    fn names(&self, option: &[u8]) -> Names {
        let Some(short) = option.strip_prefix(b"-").filter(|short| !short.starts_with(b"-")) else {
            return Names::Nothing;
        };
        if self.is_shell() {
            return if short.contains(&b'c') { Names::NextWord } else { Names::Nothing };
        }
        let ends = |letter: &u8| !letter.is_ascii_alphanumeric() || self.with_value.contains(letter);
        let letters = &short[..short.iter().position(ends).unwrap_or(short.len())];
        match letters.iter().position(|letter| self.code.contains(letter)) {
            Some(place) if place + 1 == short.len() => Names::NextWord,
            Some(_) => Names::Itself,
            None => Names::Nothing,
        }
    }
}

/// How a long option names code, whoever has it.
fn long_names(option: &[u8], of_language: bool) -> Names {
    let is_long = option.starts_with(b"--") || matches!(option, b"-Command" | b"-eval-command");
    let end = option.iter().position(|byte| *byte == b'=');
    let name = &option[..end.unwrap_or(option.len())];
    let last = name.rsplit(|byte| *byte == b'-').next().unwrap_or_default();
    let known = &NAMES_CODE[..NAMES_CODE.len() - if of_language { 0 } else { OF_LANGUAGES }];
    let executes = end.is_some_and(|end| option[end + 1..].starts_with(b"exec="));
    match end {
        _ if !is_long || !(executes || known.contains(&last)) => Names::Nothing,
        Some(_) => Names::Itself,
        None => Names::NextWord,
    }
}

/// Whether an option names a file with the code of a filter: `-f`, `-nf`, `-fFILE`, `--file`, `--from-file`.
fn names_file(option: &[u8]) -> bool {
    let is_short = option.first() == Some(&b'-') && option.get(1).is_some_and(u8::is_ascii_alphabetic);
    let is_long = [&b"--file"[..], b"--from-file"].iter().any(|long| option.starts_with(long));
    is_long || option.starts_with(b"-f") || is_short && option.ends_with(b"f")
}

/// The kind of a program, by the word that calls it; of a variable such as `$SHELL` by its name.
fn interpreter(word: &[u8]) -> Option<&'static Interpreter> {
    let name = program_of(word);
    let variable = name.strip_prefix(b"${").or_else(|| name.strip_prefix(b"$"));
    let lower = variable.map(|variable| {
        let length =
            variable.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        variable[..length].to_ascii_lowercase()
    });
    let name = match lower.as_deref() {
        Some(b"shell") => b"sh",
        Some(lower) => lower,
        None => name,
    };
    let end = name.iter().rposition(|byte| !byte.is_ascii_digit() && !b".-".contains(byte));
    let name = &name[..end.map_or(0, |end| end + 1)];
    INTERPRETERS.iter().find(|kind| kind.names.contains(&name))
}

/// Whether a word has more than a value in it, as a command does.
fn is_text(word: &Word) -> bool {
    word.whole.iter().any(|byte| byte.is_ascii_whitespace() || b";|&()<>`'\"".contains(byte))
}

/// What a command executes of its words; `builtins` of a shell may be among them, which read theirs again.
pub(super) fn verdict(words: &[Word], builtins: bool) -> Verdict {
    let mut judge = Judge::new(words, builtins);
    for place in (0..words.len()).filter(|place| !words[*place].redirects) {
        let role = judge.role(place);
        judge.look_into(place, role);
        judge.go_on(place, role);
        judge.call(place);
    }
    judge.verdict
}

/// Reads the words of a command one after the other.
struct Judge<'a> {
    words: &'a [Word],
    /// Where the program stands.
    program: usize,
    builtins: bool,
    reader: Reader<'a>,
    /// The next word that is no option is code, unless an option's value comes before it.
    code_comes: bool,
    value_comes: bool,
    verdict: Verdict,
}

/// Who reads the words at hand.
#[derive(Clone, Copy)]
enum Reader<'a> {
    /// A program that is not known: code may stand behind an option.
    Program,
    /// A program, or a script, that executes nothing of what it gets.
    TakesData,
    Interpreter {
        kind: &'static Interpreter,
        /// The word that calls it.
        called: &'a Word,
        /// How many arguments it has that are no options.
        arguments: usize,
    },
    /// A shell, for which all words are code.
    Again,
}

/// What a word is to the program that reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Text that a shell reads, whoever gets it.
    ShellText,
    Option(Names),
    OptionValue,
    Code,
    Argument,
}

impl Reader<'_> {
    /// A program that is no interpreter.
    fn of(called: Option<&Word>) -> Self {
        let takes_data = called.is_some_and(|word| TAKE_DATA.contains(&program_of(&word.whole)));
        if takes_data { Reader::TakesData } else { Reader::Program }
    }
}

impl<'a> Judge<'a> {
    fn new(words: &'a [Word], builtins: bool) -> Judge<'a> {
        let program = program_at(words);
        let (reader, verdict) = (Reader::of(words.get(program)), Verdict::default());
        Judge { words, program, builtins, reader, code_comes: false, value_comes: false, verdict }
    }

    fn interpreter(&self) -> Option<&'static Interpreter> {
        match self.reader {
            Reader::Interpreter { kind, .. } => Some(kind),
            Reader::Program | Reader::TakesData | Reader::Again => None,
        }
    }

    fn role(&self, place: usize) -> Role {
        let text = self.words[place].whole.as_slice();
        let is_source = |word: &Word| matches!(word.whole.as_slice(), b"." | b"source");
        let is_read = || self.interpreter().is_some() || self.words[..place].iter().any(is_source);
        if matches!(self.reader, Reader::Again)
            || text == PROCESS && is_read()
            || NAMES_SHELL_TEXT.iter().any(|option| text.starts_with(option))
            || self.is_split_by_env(place)
        {
            return Role::ShellText;
        }
        if text.starts_with(b"-") || text.starts_with(b"+") {
            return Role::Option(self.names(place));
        }
        match self.reader {
            _ if self.value_comes => Role::OptionValue,
            _ if self.code_comes => Role::Code,
            Reader::Interpreter { kind, arguments, .. } if kind.kind.executes(text, arguments) => Role::Code,
            _ => Role::Argument,
        }
    }

    /// Whether it is what `env -S` makes a command of.
    fn is_split_by_env(&self, place: usize) -> bool {
        let before = &self.words[..place];
        let is_env = |word: &Word| program_of(&word.whole) == b"env";
        let text = self.words[place].whole.as_slice();
        let splits = |option: &Word| takes_word(&option.whole, b"S") || option.whole == SPLIT_STRING;
        place < self.program
            && before.iter().any(is_env)
            && (text.starts_with(b"-S") && text.len() > 2 || before.last().is_some_and(splits))
    }

    /// How an option names code.
    fn names(&self, place: usize) -> Names {
        let text = self.words[place].whole.as_slice();
        match self.reader {
            Reader::Interpreter { kind, .. } => match kind.names(text) {
                Names::Nothing => long_names(text, !kind.is_shell()),
                names => names,
            },
            Reader::Program if place > self.program && may_name_code(text) => Names::NextWord,
            Reader::Program => long_names(text, false),
            Reader::TakesData | Reader::Again => Names::Nothing,
        }
    }

    /// Notes the value in a word that is code.
    fn look_into(&mut self, place: usize, role: Role) {
        let word = &self.words[place];
        if !matches!(role, Role::ShellText | Role::Code | Role::Option(Names::Itself)) {
            return;
        }
        let (for_shell, kind) = (role == Role::ShellText, self.interpreter());
        let is_shell = for_shell || kind.is_some_and(Interpreter::is_shell);
        self.verdict.evaluates |= is_shell && word.whole.windows(4).any(|part| part == b"eval");
        let called = match self.reader {
            Reader::Interpreter { called, .. } => Some(called),
            Reader::Program | Reader::TakesData | Reader::Again => self.words.get(self.program),
        };
        if is_shell && word.value.is_none() {
            let arguments = &self.words[place + 1..];
            let argument = arguments.iter().filter(|_| !for_shell).find_map(|word| word.value);
            let option = NAMES_SHELL_TEXT.iter().find(|option| word.whole.starts_with(option));
            let text = word.whole[option.map_or(0, |option| option.len())..].to_vec();
            self.verdict.scripts.push(Script { text, argument });
        }
        let surely = for_shell || kind.is_some_and(|kind| kind.kind.surely());
        let is_typed = || self.words[..place].iter().any(|word| TYPE_TEXT.contains(&word.whole.as_slice()));
        let is_code = match kind.map(|kind| kind.kind) {
            // One of several is an argument of the command that they are.
            Some(Kind::Database | Kind::Terminal) => self.code_comes || is_typed() || is_text(word),
            kind => for_shell || kind.is_some() || is_text(word),
        };
        let value = word.value.filter(|_| is_code);
        let found = value.map(|value| Executed {
            value: Value { surely: surely && value.surely, ..value },
            by: match called.filter(|_| !is_shell) {
                Some(word) => By::Program(name_of(word), kind),
                None => By::Shell,
            },
        });
        self.verdict.executed =
            likelier(self.verdict.executed.take(), found, |executed| executed.value.surely);
    }

    /// What comes behind a word.
    fn go_on(&mut self, place: usize, role: Role) {
        let text = self.words[place].whole.as_slice();
        let assigned = text.rsplit(|byte| *byte == b'=').next();
        // Behind words of the shell that are not read here, `eval` may be the command.
        let may_be_command = self.builtins && matches!(self.reader, Reader::Program | Reader::Again);
        self.verdict.evaluates |= may_be_command && assigned == Some(b"eval");
        let is_read_again = text == b"eval" || place == self.program && READ_AGAIN.contains(&text);
        if may_be_command && is_read_again {
            self.reader = Reader::Again;
        }
        let names_code = role == Role::Option(Names::NextWord);
        let Reader::Interpreter { kind, arguments, .. } = &mut self.reader else {
            self.code_comes = names_code;
            return;
        };
        match role {
            Role::Option(names) => {
                let has_code = kind.kind.executes(b"", 0) && (names != Names::Nothing || names_file(text));
                // It runs a command as that user.
                let has_own = kind.kind == Kind::CallsShell && matches!(text, b"-u" | b"--user");
                *arguments = (*arguments).max(usize::from(has_code || has_own));
                self.value_comes = takes_word(text, kind.with_value);
                self.code_comes |= names_code;
            }
            Role::OptionValue => self.value_comes = false,
            Role::ShellText | Role::Code | Role::Argument => {
                self.code_comes = false;
                // A number may be the value of a long option.
                *arguments +=
                    usize::from(kind.kind != Kind::Parallel || !text.first().is_some_and(u8::is_ascii_digit));
                let (kind, arguments) = (kind.kind, *arguments);
                self.go_on_behind_argument(place, role, kind, arguments);
            }
        }
    }

    /// What comes behind as many arguments, the last of which is that word.
    fn go_on_behind_argument(&mut self, place: usize, role: Role, kind: Kind, arguments: usize) {
        let text = self.words[place].whole.as_slice();
        match kind {
            // A script: what follows is for it.
            Kind::Shell | Kind::Language if role == Role::Argument => self.reader = Reader::TakesData,
            // The command that it calls without a shell.
            Kind::CallsShell if role == Role::Argument && arguments > 1 => {
                self.program = place;
                self.reader = Reader::of(self.words.get(place));
            }
            Kind::Terminal if arguments == 1 && !TYPE_TEXT.contains(&text) && !RUN_TEXT.contains(&text) => {
                self.reader = Reader::TakesData;
            }
            Kind::Parallel if matches!(text, b":::" | b":::+") && arguments == 1 => {
                self.reader = Reader::Again;
            }
            // Its command, or what another kind of `:::` is followed by.
            Kind::Parallel if arguments > 0 => self.reader = Reader::TakesData,
            Kind::Shell
            | Kind::CallsShell
            | Kind::Language
            | Kind::Filter
            | Kind::Editor
            | Kind::Query
            | Kind::Database
            | Kind::Terminal
            | Kind::Parallel
            | Kind::Make => {}
        }
    }

    /// A word may call an interpreter.
    fn call(&mut self, place: usize) {
        let called = &self.words[place];
        let is_command = place == self.program
            || place > 0 && EXEC_OF_FIND.contains(&self.words[place - 1].whole.as_slice());
        if let Some(kind) = interpreter(&called.whole)
            && (is_command || kind.kind.is_called_anywhere())
            && !matches!(self.reader, Reader::Again)
        {
            self.reader = Reader::Interpreter { kind, called, arguments: 0 };
            (self.code_comes, self.value_comes) = (false, false);
        }
    }
}

/// Whether a short option of a program that is not known may name code.
fn may_name_code(option: &[u8]) -> bool {
    let letters = option.strip_prefix(b"-").unwrap_or_default();
    // The last two are of gdb.
    (1..=3).contains(&letters.len())
        && letters.iter().all(u8::is_ascii_alphabetic)
        && (letters.last().is_some_and(|last| b"ce".contains(last)) || matches!(letters, b"ex" | b"iex"))
}

/// What is said of a value that is perhaps piped to who executes it.
pub(super) fn doubted_pipe(program: &Word, executed: &Executed) -> String {
    let (program, Executed { value, by }) = (name_of(program), executed);
    let instead = match by {
        By::Shell => format!("write a command, or give the value to `{program} -s`, as \"$1\""),
        By::Program(..) => instead(*value, by),
    };
    format!(
        "{program} executes what is piped to it, and the value of {} may be in there: {instead}",
        value.written
    )
}

/// Why a value cannot stand in code, and what is right instead.
pub(super) fn refused(Executed { value, by }: &Executed) -> String {
    let place = match by {
        By::Program(program, _) => &format!("in text that {program} executes"),
        By::Shell => READ_ONCE_MORE,
    };
    format!("{} stands {place}, where its value cannot be quoted: {}", value.written, instead(*value, by))
}

/// What is said of a value that may stand in code.
pub(super) fn doubted(Executed { value, by }: &Executed) -> String {
    let program = match by {
        By::Program(program, _) => program,
        By::Shell => "a shell",
    };
    format!(
        "{program} may execute an argument as text that holds the value of {}, and so the value: {}",
        value.written,
        instead(*value, by)
    )
}

/// What has the value without being code, and is right as it is written: in a text in double quotes a variable would
/// be code again, and who becomes another user does not have it.
fn instead(value: Value, by: &By) -> String {
    let (name, field, variable) = value.placeholder;
    let is_list = field == Field::Pathnames;
    match by {
        By::Shell => {
            let (argument, or) = if is_list {
                ("$@", String::new())
            } else {
                ("$1", format!("use \"{variable}\" in single quotes, or "))
            };
            format!("{or}give it as an argument, as in sh -c 'ls \"{argument}\"' sh {name}")
        }
        By::Program(program, Some(Interpreter { kind: Kind::Language, code: [letter, ..], .. })) => {
            format!("give it as an argument, as in {program} -{} 'CODE' {name}", char::from(*letter))
        }
        By::Program(..) if is_list => "read the paths from stdin".to_owned(),
        By::Program(program, Some(Interpreter { kind: Kind::Query, .. })) => {
            format!("give it as an argument, as in {program} --arg name {name} '$name'")
        }
        By::Program(_, Some(Interpreter { kind: Kind::Database, .. })) => {
            format!("let a program pass it as a parameter, as in python3 -c 'CODE' {name}")
        }
        By::Program(_, Some(Interpreter { kind: Kind::Terminal, .. })) => {
            format!("let it run a command that has {name} as an argument of its own")
        }
        By::Program(_, Some(Interpreter { kind: Kind::Filter | Kind::Editor, .. })) => {
            format!("awk has it as ENVIRON[\"{}\"]", variable.trim_start_matches('$'))
        }
        By::Program(_, Some(Interpreter { kind: Kind::Make, .. })) => {
            format!("a recipe has it as \"${variable}\"")
        }
        By::Program(..) => "give it as an argument of its own".to_owned(),
    }
}

/// What programs do that give their arguments to another one: those that join them to a text which a shell reads, and
/// those that put what they find, or what is `piped` to them, into a command.
pub(super) fn handed_on(words: &[Word], piped: Option<Value>) -> Option<String> {
    let values = |words: &[Word]| words.iter().filter(|word| !word.redirects).find_map(|word| word.value);
    let (program, arguments) = words.split_first()?;
    let program = program_of(&program.whole);
    let (value, instead) = match program {
        program if REMOTE_SHELLS.contains(&program) => {
            let instead = "give it on stdin: printf '%s\\n' {pathname} | ssh HOST 'IFS= read -r name && \
                           COMMAND \"$name\"'";
            (values(behind_options(arguments, TAKE_WORD_OF_SSH).get(1..)?)?, instead)
        }
        b"watch" if !arguments.iter().any(|word| matches!(word.whole.as_slice(), b"-x" | b"--exec")) => {
            (values(arguments)?, "write watch -x")
        }
        b"parallel" => {
            // What is behind `:::` it quotes itself.
            let end = arguments.iter().position(|word| word.whole.starts_with(b":::"));
            let command = &arguments[..end.unwrap_or(arguments.len())];
            (values(behind_options(command, TAKE_WORD_OF_PARALLEL))?, "give it behind ':::'")
        }
        b"xargs" => {
            let command = filled_by_xargs(arguments, piped?);
            let value = executes(&command)?;
            (value, "let the shell have it as an argument: xargs sh -c 'COMMAND \"$@\"' sh")
        }
        b"find" => {
            let value = values(arguments)?;
            let is_exec = |word: &Word| EXEC_OF_FIND.contains(&word.whole.as_slice());
            let at = arguments.iter().position(is_exec)?;
            let value = executes(&filled(&arguments[at + 1..], b"{}", value))?;
            (value, "let the shell have it as an argument: -exec sh -c 'COMMAND \"$@\"' sh {} +")
        }
        _ => return None,
    };
    let (program, name) = (String::from_utf8_lossy(program), value.written);
    Some(format!(
        "{program} gives its arguments to another shell as text, which reads the value of {name} once more, and may \
         execute it; {instead}"
    ))
}

/// A variable of the event that a command leaves to somebody to expand who does not get it.
pub(super) fn forgotten(words: &[Word], is_known: impl Fn(&[u8]) -> bool) -> Option<String> {
    let called = &words[..words.len().min(program_at(words) + 1)];
    let is_login = words.iter().any(|word| LOGIN.contains(&word.whole.as_slice()));
    let forgets = |program: &&[u8]| {
        REMOTE_SHELLS.contains(program)
            || CONTAINERS.contains(program)
            || OTHER_USERS.contains(program) && (is_login || !matches!(*program, b"runuser" | b"su"))
    };
    let program = called.iter().map(|word| program_of(&word.whole)).find(forgets)?;
    // Where one is named and not expanded, it is handed on: `-e NAME`, `NAME=`, `SendEnv=NAME`.
    let is_handed_on = |word: &Word| {
        let is_short = word.whole.starts_with(b"-") && !word.whole.starts_with(b"--");
        HAND_ON_ENVIRONMENT.iter().any(|option| word.whole.starts_with(option))
            || OTHER_USERS.contains(&program) && is_short && word.whole.contains(&b'E')
            || named(&word.whole).any(|(is_expanded, _)| !is_expanded)
    };
    if words.iter().any(is_handed_on) {
        return None;
    }
    // What our shell expands is a value already.
    let left = words.iter().filter(|word| word.value.is_none());
    let (_, name) = left.flat_map(|word| named(&word.whole)).find(|(_, name)| is_known(name))?;
    let argument = "give the value as an argument, as in sh -c 'ls \"$1\"' sh {pathname}";
    let instead = if REMOTE_SHELLS.contains(&program) {
        "send the value on stdin".to_owned()
    } else if OTHER_USERS.contains(&program) {
        format!("name the user by user=, or {argument}")
    } else {
        argument.to_owned()
    };
    let (program, name) = (String::from_utf8_lossy(program), String::from_utf8_lossy(name));
    Some(format!("{program} does not hand on the environment, so that ${name} is empty there: {instead}"))
}

/// The variables of ours that a text names, and whether it expands them.
fn named(text: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let begins = (0..text.len()).filter(|at| text[*at..].starts_with(b"PYINOTIFYD_"));
    begins.map(|at| {
        let (before, name) = text.split_at(at);
        let is_part = |byte: &&u8| byte.is_ascii_uppercase() || **byte == b'_';
        let length = name.iter().take_while(is_part).count();
        (before.ends_with(b"$") || before.ends_with(b"${"), &name[..length])
    })
}

/// The value that a command executes, or gives to a program that does.
fn executes(command: &[Word]) -> Option<Value> {
    let executed = verdict(command, false).executed.map(|executed| executed.value);
    let command = &command[program_at(command)..];
    let value = command.iter().find_map(|word| word.value);
    executed.or_else(|| value.filter(|_| handed_on(command, None).is_some()))
}

/// The command that xargs executes, with what it reads.
fn filled_by_xargs(arguments: &[Word], value: Value) -> Vec<Word> {
    let (mut at, mut replaced) = (0, None);
    while let Some(word) = arguments.get(at).filter(|word| word.whole.starts_with(b"-")) {
        let text = word.whole.as_slice();
        let takes_next = takes_word(text, TAKE_WORD_OF_XARGS);
        let next = arguments.get(at + 1).filter(|_| takes_next).map(|next| next.whole.as_slice());
        let given =
            [b"-I".as_slice(), b"-J", b"-i", b"--replace="].iter().find_map(|name| text.strip_prefix(*name));
        let is_long = text == b"--replace";
        if let Some(given) = given.or(is_long.then_some(b"")) {
            replaced =
                next.or(Some(given)).map(|given| if given.is_empty() { b"{}".as_slice() } else { given });
        }
        at += 1 + usize::from(takes_next);
    }
    let command = arguments.get(at..).unwrap_or_default();
    match replaced {
        Some(replaced) => filled(command, replaced, value),
        None => command.iter().cloned().chain([Word { value: Some(value), ..Word::default() }]).collect(),
    }
}

/// Words with a value in place of a part.
fn filled(words: &[Word], part: &[u8], value: Value) -> Vec<Word> {
    let holds = |word: &Word| word.whole.windows(part.len()).any(|text| text == part);
    let fill = |word: &Word| Word { value: word.value.or(holds(word).then_some(value)), ..word.clone() };
    words.iter().map(fill).collect()
}

/// Judges a program with its arguments, which no shell of ours reads: what is to be warned of.
///
/// # Errors
/// One of the arguments is code, and holds a value.
pub(crate) fn judge_arguments(argv: &[&[u8]], known: &'static [Placeholder]) -> Result<Vec<String>, String> {
    let words: Vec<Word> = argv.iter().map(|text| argument(text, known)).collect();
    let Verdict { executed, scripts, .. } = verdict(&words, false);
    let mut doubts = super::template::judge_scripts(&scripts, known)?;
    if let Some(executed) = executed {
        if executed.value.surely {
            return Err(refused(&executed));
        }
        doubts.push(doubted(&executed));
    }
    doubts.extend(handed_on(&words[program_at(&words)..], None));
    let is_known =
        |name: &[u8]| known.iter().any(|(.., variable)| variable.as_bytes().get(1..) == Some(name));
    doubts.extend(forgotten(&words, is_known));
    Ok(doubts)
}

fn argument(text: &[u8], known: &[Placeholder]) -> Word {
    let (mut word, mut rest) = (Word::default(), text);
    while let Some((first, tail)) = rest.split_first() {
        let Some(placeholder) = known.iter().find(|(name, ..)| rest.starts_with(name.as_bytes())) else {
            word.whole.push(*first);
            rest = tail;
            continue;
        };
        // The name of an event means nothing to anybody.
        let value = Some(Value::of(*placeholder)).filter(|_| placeholder.1 != Field::Maskname);
        word.value = word.value.or(value);
        rest = &rest[placeholder.0.len()..];
    }
    word
}

/// The name of a program in the word that calls it.
pub(super) fn program_of(word: &[u8]) -> &[u8] {
    word.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The same as text.
fn name_of(word: &Word) -> String {
    String::from_utf8_lossy(program_of(&word.whole)).into_owned()
}

/// The place of the program in the words of a command: behind what begins a compound command, variables, and other
/// commands with their options.
pub(super) fn program_at(words: &[Word]) -> usize {
    const KEYWORDS: [&[u8]; 7] = [b"if", b"then", b"else", b"elif", b"while", b"until", b"do"];
    let mut at = 0;
    let mut with_word: &[u8] = b"";
    while let Some(word) = words.get(at).map(|word| word.whole.as_slice()) {
        let wrapper = WRAPPERS.iter().find(|(name, _)| *name == program_of(word));
        if words[at].redirects {
            // Its file may stand in front.
        } else if let Some((_, options)) = wrapper {
            with_word = options;
        } else if word.starts_with(b"-") {
            at += usize::from(takes_word(word, with_word) || LONG_WITH_WORD.contains(&word));
        } else if !(word.contains(&b'=')
            || word.first().is_some_and(u8::is_ascii_digit)
            || KEYWORDS.contains(&word))
        {
            break;
        }
        at += 1;
    }
    at.min(words.len())
}

/// Whether the value of a short option, or of the last one of several, is the next word.
fn takes_word(option: &[u8], with_word: &[u8]) -> bool {
    let is_short = option.len() > 1 && option[0] == b'-' && option[1] != b'-';
    is_short && option[1..].iter().position(|letter| with_word.contains(letter)) == Some(option.len() - 2)
}

/// The first word that is no option and belongs to none, and what stands behind it.
fn behind_options<'a>(arguments: &'a [Word], with_word: &[u8]) -> &'a [Word] {
    let mut at = 0;
    while let Some(word) = arguments.get(at).filter(|word| word.redirects || word.whole.starts_with(b"-")) {
        at += 1 + usize::from(takes_word(&word.whole, with_word));
    }
    arguments.get(at..).unwrap_or_default()
}

/// Who executes a value that is piped to a command, if that executes what it reads from stdin.
pub(super) fn piped_to(words: &[Word], value: Value) -> Option<Executed> {
    let (program, _) = words.split_first().filter(|_| reads_commands(words))?;
    let kind = interpreter(&program.whole).filter(|kind| !kind.is_shell() && kind.kind != Kind::Parallel);
    let is_own = EXECUTE_STDIN.iter().any(|(name, _)| *name == program_of(&program.whole));
    let by = if kind.is_some() || is_own { By::Program(name_of(program), kind) } else { By::Shell };
    // Of what such programs read, most is data: a dump, or lines of a table.
    let perhaps = is_own || kind.is_some_and(|kind| !kind.kind.surely());
    let surely = value.surely && !perhaps;
    (value.surely || !perhaps).then_some(Executed { value: Value { surely, ..value }, by })
}

/// Whether a command executes what it reads from stdin.
pub(super) fn reads_commands(words: &[Word]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    let name = program_of(&program.whole);
    let mut given = arguments.iter().filter(|word| !word.redirects).map(|word| word.whole.as_slice());
    match interpreter(&program.whole) {
        Some(Interpreter { kind: Kind::Shell, .. }) => given.all(|text| text.starts_with(b"-")),
        Some(Interpreter { kind: Kind::Language, .. }) => given.all(|text| text == b"-"),
        Some(kind) if matches!(name, b"su" | b"runuser") => given.all(|text| {
            matches!(kind.names(text), Names::Nothing) && matches!(long_names(text, false), Names::Nothing)
        }),
        _ if name == b"parallel" => {
            given.all(|text| text.starts_with(b"-") || text.first().is_some_and(u8::is_ascii_digit))
        }
        Some(kind @ Interpreter { kind: Kind::Database, .. }) => {
            let is_code = |text: &&[u8]| {
                kind.names(text) != Names::Nothing
                    || long_names(text, false) != Names::Nothing
                    || *text == b"-f"
            };
            // The database stands alone.
            let own: Vec<&[u8]> = given.collect();
            !own.iter().any(is_code)
                && (name == b"psql" || own.iter().filter(|text| !text.starts_with(b"-")).count() < 2)
        }
        _ if REMOTE_SHELLS.contains(&name) => {
            let command = behind_options(arguments, TAKE_WORD_OF_SSH).get(1..).unwrap_or_default();
            command.iter().all(|word| word.redirects) || reads_commands(&command[program_at(command)..])
        }
        _ => {
            let mut known = GIVE_STDIN_TO_SHELL.iter().chain(&EXECUTE_STDIN);
            let found = known.find(|(program, _)| *program == name);
            found.is_some_and(|(_, not)| given.all(|text| !not.contains(&text)))
        }
    }
}
