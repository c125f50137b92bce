//! What a command line means, and what is said about a wrong one.

use super::*;
use std::fs;
use std::path::Path;

fn parse(line: &str) -> Result<Command, clap::Error> {
    read(["pyinotifyd"].into_iter().chain(line.split_whitespace()).map(OsString::from))
}

fn options(config: &str, debug: bool) -> ConfigOptions {
    ConfigOptions { config: config.into(), debug, dry_run: false, python: None }
}

#[test]
fn spellings_of_argparse_are_understood() {
    let default = "/etc/pyinotifyd/config.py";
    let cases = [
        ("", Command::Run(options(default, false))),
        ("--", Command::Run(options(default, false))),
        ("-cFILE", Command::Run(options("FILE", false))),
        ("-c=FILE", Command::Run(options("FILE", false))),
        ("-c -", Command::Run(options("-", false))),
        ("--config=FILE", Command::Run(options("FILE", false))),
        ("--config=-FILE", Command::Run(options("-FILE", false))),
        ("-c A -c B", Command::Run(options("B", false))),
        ("-tc FILE", Command::ConfigTest(options("FILE", false))),
        ("-dt", Command::ConfigTest(options(default, true))),
        ("-dd", Command::Run(options(default, true))),
        ("--configt", Command::ConfigTest(options(default, false))),
        ("--vers", Command::Version),
        ("-l -l", Command::ListEvents),
        ("--un", Command::Uninstall),
        ("--completions fish", Command::Completions(Shell::Fish)),
        ("--d", Command::Run(options(default, true))),
        ("--dr", Command::Run(ConfigOptions { dry_run: true, ..options(default, false) })),
        ("--explain /a", Command::Explain(options(default, false), "/a".into(), None)),
        ("--explain /a -d", Command::Explain(options(default, true), "/a".into(), None)),
        ("--explain /a --explain=/b", Command::Explain(options(default, false), "/b".into(), None)),
        ("--explain /a IN_OPEN", Command::Explain(options(default, false), "/a".into(), Some(Flag::Open))),
        (
            "--explain /a --explain /b IN_OPEN",
            Command::Explain(options(default, false), "/b".into(), Some(Flag::Open)),
        ),
    ];
    for (line, command) in cases {
        assert_eq!(parse(line).map_err(|error| error.to_string()), Ok(command), "{line}");
    }
}

#[test]
fn what_is_ambiguous_excluded_or_unknown_is_said() {
    for (line, said) in [
        ("--conf x", "ambiguous option: --conf could match --config, --configtest"),
        ("--conf=x", "ambiguous option: --conf could match --config, --configtest"),
        ("-l -v", "the argument '--list' cannot be used with '--version'"),
        ("-iu", "the argument '--install' cannot be used with '--uninstall'"),
        ("--explain /a -t", "the argument '--explain <PATH> [EVENT]' cannot be used with '--configtest'"),
        ("stray", "unexpected argument 'stray' found"),
        (
            "./config.py",
            "unexpected argument './config.py' found, a config file is named by '-c ./config.py'",
        ),
        ("-d config.py", "unexpected argument 'config.py' found, a config file is named by '-c config.py'"),
        ("/etc", "unexpected argument '/etc' found, a config file is named by '-c /etc'"),
        ("--dryrun", "unexpected argument '--dryrun' found, did you mean '--dry-run'?"),
        ("--pyhton x", "unexpected argument '--pyhton' found, did you mean '--python'?"),
        ("--config-test", "unexpected argument '--config-test' found, did you mean '--configtest'?"),
        ("-- -l", "unexpected argument '-l' found"),
        ("--explain /a IN_OPEN b", "unexpected argument 'b' found"),
        ("--explain=/a IN_OPEN", "unexpected argument 'IN_OPEN' found"),
        ("-x", "unexpected argument '-x' found"),
        ("--nothing", "unexpected argument '--nothing' found"),
        ("-c", "a value is required for '--config <FILE>' but none was supplied"),
        ("--config=", "a value is required for '--config <FILE>' but none was supplied"),
        ("-c --list", "a value is required for '--config <FILE>' but none was supplied"),
        ("--explain", "a value is required for '--explain <PATH> [EVENT]' but none was supplied"),
        ("--completions tcsh", "invalid value 'tcsh' for '--completions <SHELL>'"),
        ("--explain /a IN_CLOSE", "unknown event 'IN_CLOSE', see pyinotifyd --list"),
        ("--version=1", "unexpected value '1' for '--version' found; no more were expected"),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.use_stderr(), "{line}");
        let text = error.to_string();
        assert_eq!(text.lines().next(), Some(format!("error: {said}").as_str()), "{line}");
        assert!(text.contains("Usage: pyinotifyd"), "{line}: {text}");
    }
}

#[test]
fn help_comes_before_what_is_wrong_behind_it() {
    assert_eq!(parse("-h -x").map_err(|error| error.kind()), Err(ErrorKind::DisplayHelp));
    assert_eq!(parse("-x -h").map_err(|error| error.kind()), Err(ErrorKind::UnknownArgument));
}

#[test]
fn help_fits_a_terminal_and_says_something_about_each_option() {
    Typed::command().debug_assert();
    for line in ["-h", "--help"] {
        let help = parse(line).expect_err("help is no command").to_string();
        for line in help.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
    }
    for option in Typed::command().get_arguments() {
        assert!(option.get_help().is_some(), "{option}");
    }
}

/// The section OPTIONS of the man page, from its first option on. Paragraphs of an option's help become one, as they
/// are in the other lists of the page, and what may be left out is in square brackets.
fn options_of_the_man_page() -> String {
    let mut section = Vec::new();
    let mut command = Typed::command();
    command.build();
    clap_mangen::Man::new(command).render_options_section(&mut section).unwrap();
    let section = String::from_utf8(section).unwrap();
    let (_, options) = section.split_once(".SH OPTIONS\n").unwrap();
    let options = options.replace(r"\*(Aq", r"\(aq").replace("<EVENT>", "[EVENT]");
    let mut filled = String::new();
    for line in options.lines().filter(|line| !line.is_empty()) {
        let mut room = ROFF_COLUMNS;
        for word in line.split_inclusive(' ') {
            // A request has its line for itself, and no other line may begin as one.
            if word.len() > room && !line.starts_with('.') && !word.starts_with(['.', '\'']) {
                filled.truncate(filled.trim_end().len());
                filled.push('\n');
                room = ROFF_COLUMNS;
            }
            filled.push_str(word);
            room = room.saturating_sub(word.len());
        }
        filled.push('\n');
    }
    filled
}

/// Columns of the source of the man page's section.
const ROFF_COLUMNS: usize = 100;

/// `UPDATE=1 cargo test -p pyinotifyd generated` writes the files.
#[test]
fn generated_files_are_current() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let completions = "share/completions";
    for (file, text) in [
        (format!("{completions}/pyinotifyd.bash"), Shell::Bash.script().unwrap()),
        (format!("{completions}/_pyinotifyd"), Shell::Zsh.script().unwrap()),
        (format!("{completions}/pyinotifyd.fish"), Shell::Fish.script().unwrap()),
        ("../../docs/man/options.roff".to_owned(), options_of_the_man_page()),
    ] {
        let path = project.join(&file);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, text, "{file} is not current: UPDATE=1 cargo test -p pyinotifyd generated");
    }
}
