//! Which words of a command are code: text that a program executes, so that a value in it may be executed, too.
//!
//! A word is code by what stands before it: an option that names code (`-c`, `-e` and their like), or a program whose
//! first argument is code. Of a program that is known to do so this is certain, and the command is refused. Of any
//! other it is likely if the word holds more than a value, as a command has more than one word; that is warned of.

use super::occasion::{Field, Placeholder};

/// A value that came into a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    /// What stands for it.
    pub placeholder: Placeholder,
    /// It stands there as it is, rather than perhaps.
    pub surely: bool,
}

impl Value {
    /// Of two that may be there, the one that surely is.
    pub(super) fn likelier(one: Option<Value>, other: Option<Value>) -> Option<Value> {
        one.filter(|one| one.surely || other.is_none_or(|other| !other.surely)).or(other)
    }
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
    /// The value in it.
    pub value: Option<Value>,
}

/// The word that stands for what a process substitution prints.
pub(super) const PROCESS: &[u8] = b"<(";

/// Programs that execute an argument of theirs.
struct Interpreter {
    kind: Kind,
    /// Their names, without a version.
    names: &'static [&'static [u8]],
    /// Short options whose value is code.
    code: &'static [u8],
    /// Others that have a value.
    with_value: &'static [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
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
}

const INTERPRETERS: [Interpreter; 8] = [
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
/// Long options of tar whose value a shell executes.
const NAMES_SHELL_TEXT: [&[u8]; 2] = [b"--checkpoint-action=exec=", b"--to-command="];
/// Programs that take what looks like code to us as data.
const TAKE_DATA: [&[u8]; 16] = [
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
/// Programs that give what they read from stdin to a shell later.
const READ_STDIN_FOR_LATER: [&[u8]; 2] = [b"at", b"batch"];
/// Programs that give a command to the shell of another host.
const REMOTE_SHELLS: [&[u8]; 3] = [b"ssh", b"slogin", b"rsh"];
/// Their options whose value is the next word.
const TAKE_WORD_OF_SSH: &[u8] = b"bcDEeFIiJLlmOopQRSWw";
/// The same of xargs.
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
const LONG_WITH_WORD: [&[u8]; 11] = [
    b"--user",
    b"--group",
    b"--host",
    b"--chdir",
    b"--chroot",
    b"--prompt",
    b"--role",
    b"--type",
    b"--signal",
    b"--unset",
    b"--class",
];
/// Commands that read their arguments a second time.
const READ_AGAIN: [&[u8]; 4] = [b"eval", b"trap", b"alias", b"let"];
/// Options of find behind which a command stands.
const EXEC_OF_FIND: [&[u8]; 4] = [b"-exec", b"-execdir", b"-ok", b"-okdir"];

/// What is executed, or perhaps.
#[derive(Debug, Clone)]
pub(super) struct Executed {
    /// What may be executed.
    pub value: Value,
    /// Who executes it, if it is no shell.
    by: Option<String>,
}

/// What a command does with its words.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The value in its code.
    pub executed: Option<Executed>,
    /// Some code holds `eval`.
    pub evaluates: bool,
}

/// How an option names code.
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
    let is_long = option.starts_with(b"--") || option == b"-Command";
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
    let mut verdict = Verdict::default();
    let program = program_at(words);
    let mut takes_data = words.get(program).is_some_and(|word| TAKE_DATA.contains(&program_of(&word.whole)));
    // What executes the code that comes, and the word that calls it.
    let mut reader: Option<(&Interpreter, &Word)> = None;
    let (mut code_comes, mut reads_again, mut sources) = (false, false, false);
    // The first argument is code, and the next word is the value of an option.
    let (mut first, mut is_value) = (false, false);
    // How many arguments may stand before what the reader gives its further ones to.
    let mut own = 0;
    for (place, word) in words.iter().enumerate().filter(|(_, word)| !word.redirects) {
        let text = word.whole.as_slice();
        let is_option = text.starts_with(b"-") || text.starts_with(b"+");
        let kind = reader.map(|(interpreter, _)| interpreter);
        let names = match kind.map_or(Names::Nothing, |kind| kind.names(text)) {
            Names::Nothing if kind.is_some() && text == b"<<<" => Names::NextWord,
            Names::Nothing if kind.is_some() || !takes_data => {
                long_names(text, kind.is_some_and(|kind| !kind.is_shell()))
            }
            found => found,
        };
        let is_first = first && !is_option && !is_value;
        let for_shell = reads_again
            || text == PROCESS && (sources || kind.is_some())
            || NAMES_SHELL_TEXT.iter().any(|option| text.starts_with(option));
        if for_shell || is_first || code_comes && !is_option || matches!(names, Names::Itself) {
            let is_shell = for_shell || kind.is_some_and(Interpreter::is_shell);
            verdict.evaluates |= is_shell && text.windows(4).any(|part| part == b"eval");
            let is_known = for_shell || kind.is_some();
            let value = word.value.filter(|_| is_known || is_text(word));
            let surely = for_shell || kind.is_some_and(|kind| kind.kind != Kind::Editor);
            let found = value.map(|value| {
                let by = reader.map_or(words.get(program), |(_, word)| Some(word)).filter(|_| !is_shell);
                let by = by.map(|word| String::from_utf8_lossy(program_of(&word.whole)).into_owned());
                Executed { value: Value { surely: surely && value.surely, ..value }, by }
            });
            let is_better = |found: &Executed| match &verdict.executed {
                Some(before) => found.value.surely && !before.value.surely,
                None => true,
            };
            verdict.executed = found.filter(is_better).or(verdict.executed);
        }
        verdict.evaluates |= builtins && text.rsplit(|byte| *byte == b'=').next() == Some(b"eval");
        reads_again |= builtins && READ_AGAIN.contains(&text);
        sources |= matches!(text, b"." | b"source");
        // A number may be that of a descriptor that is redirected.
        let is_number = text.iter().all(u8::is_ascii_digit);
        let is_data = !(is_option || is_value || is_number || code_comes) && matches!(names, Names::Nothing);
        match kind.map(|kind| kind.kind) {
            // A script: what follows is for it.
            Some(Kind::Shell | Kind::Language) if is_data => (reader, takes_data) = (None, true),
            // The command that it calls without a shell.
            Some(Kind::CallsShell) if is_data && own == 0 => reader = None,
            Some(Kind::CallsShell) if is_data => own -= 1,
            // It runs a command as that user.
            Some(Kind::CallsShell) if matches!(text, b"-u" | b"--user") => own = 0,
            _ => {}
        }
        first &= matches!(names, Names::Nothing) && !is_first && !text.starts_with(b"-f");
        is_value = is_option && kind.is_some_and(|kind| takes_word(text, kind.with_value));
        // `-c`, `-le`: other letters of an unknown program mean too much else.
        let may_name = kind.is_none() && !takes_data && place > program && may_name_code(text);
        code_comes =
            matches!(names, Names::NextWord) || may_name || code_comes && is_option && kind.is_some();
        if let Some(kind) = interpreter(text) {
            let takes_first = matches!(kind.kind, Kind::Filter | Kind::Editor);
            let is_called =
                place == program || place > 0 && EXEC_OF_FIND.contains(&words[place - 1].whole.as_slice());
            if !takes_first || is_called {
                reader = Some((kind, word));
                (first, own) = (takes_first, 1);
            }
        }
    }
    verdict
}

/// Whether a short option of a program that is not known may name code.
fn may_name_code(option: &[u8]) -> bool {
    let letters = option.strip_prefix(b"-").unwrap_or_default();
    (1..=3).contains(&letters.len())
        && letters.iter().all(u8::is_ascii_alphabetic)
        && letters.last().is_some_and(|last| b"ce".contains(last))
}

/// Why a value cannot stand in code.
pub(super) fn refused(Executed { value, by }: &Executed) -> String {
    match by {
        Some(program) => format!(
            "{} stands in text that {program} executes, where its value cannot be quoted: {}",
            value.placeholder.0,
            instead(value.placeholder)
        ),
        None => super::template::refusal(value.placeholder, super::template::READ_ONCE_MORE),
    }
}

/// What is said of a value that may stand in code.
pub(super) fn doubted(Executed { value, by }: &Executed) -> String {
    let program = by.as_deref().unwrap_or("a shell");
    format!(
        "{program} may execute an argument as text that holds the value of {}, and so the value: {}",
        value.placeholder.0,
        instead(value.placeholder)
    )
}

fn instead((_, field, variable): Placeholder) -> String {
    match field {
        Field::Pathnames => "read the paths from stdin".to_owned(),
        Field::Maskname | Field::Pathname | Field::SrcPathname | Field::Error => format!(
            "give it as an argument of its own, or use the environment variable {}",
            variable.trim_start_matches('$')
        ),
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
            (values(behind_host(arguments))?, instead)
        }
        b"watch" if !arguments.iter().any(|word| matches!(word.whole.as_slice(), b"-x" | b"--exec")) => {
            (values(arguments)?, "write watch -x")
        }
        b"parallel" => {
            // What is behind `:::` it quotes itself.
            let end = arguments.iter().position(|word| word.whole.starts_with(b":::"));
            let command = &arguments[..end.unwrap_or(arguments.len())];
            (values(command)?, "give it behind ':::'")
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
    let (program, name) = (String::from_utf8_lossy(program), value.placeholder.0);
    Some(format!(
        "{program} gives its arguments to another shell as text, which reads the value of {name} once more, and may \
         execute it; {instead}"
    ))
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
pub(crate) fn judge_arguments(argv: &[&[u8]], known: &[Placeholder]) -> Result<Vec<String>, String> {
    let words: Vec<Word> = argv.iter().map(|text| argument(text, known)).collect();
    let mut doubts = Vec::new();
    if let Some(executed) = verdict(&words, false).executed {
        if executed.value.surely {
            return Err(refused(&executed));
        }
        doubts.push(doubted(&executed));
    }
    doubts.extend(handed_on(&words[program_at(&words)..], None));
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
        let value = Value { placeholder: *placeholder, surely: true };
        word.value = word.value.or(Some(value).filter(|_| placeholder.1 != Field::Maskname));
        rest = &rest[placeholder.0.len()..];
    }
    word
}

/// The name of a program in the word that calls it.
pub(super) fn program_of(word: &[u8]) -> &[u8] {
    word.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The place of the program in the words of a command: behind what begins a compound command, variables, and other
/// commands with their options.
pub(super) fn program_at(words: &[Word]) -> usize {
    const KEYWORDS: [&[u8]; 7] = [b"if", b"then", b"else", b"elif", b"while", b"until", b"do"];
    let mut at = 0;
    let mut with_word: &[u8] = b"";
    while let Some(word) = words.get(at).map(|word| word.whole.as_slice()) {
        let wrapper = WRAPPERS.iter().find(|(name, _)| *name == program_of(word));
        if let Some((_, options)) = wrapper {
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

/// What stands behind the host, which is the first word that is no option and belongs to none.
fn behind_host(arguments: &[Word]) -> &[Word] {
    let mut at = 0;
    while let Some(word) = arguments.get(at).filter(|word| word.redirects || word.whole.starts_with(b"-")) {
        at += 1 + usize::from(takes_word(&word.whole, TAKE_WORD_OF_SSH));
    }
    arguments.get(at + 1..).unwrap_or_default()
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
        _ if READ_STDIN_FOR_LATER.contains(&name) => given.all(|text| text != b"-f"),
        _ if REMOTE_SHELLS.contains(&name) => {
            let command = behind_host(arguments);
            command.iter().all(|word| word.redirects) || reads_commands(&command[program_at(command)..])
        }
        _ => false,
    }
}
