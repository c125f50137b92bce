//! What a command line means, and what is said about a wrong one.

use super::*;
use std::fs;
use std::path::Path;

use engine::OnBusy;

use crate::config::{Does, Format, JOBS_DEFAULT, Run, Seconds};
use crate::import::{From, Import};

fn parse(line: &str) -> Result<Command, clap::Error> {
    read(["pyinotifyd"].into_iter().chain(line.split_whitespace()).map(OsString::from))
}

fn options(config: &str, debug: bool) -> ConfigOptions {
    let mut files = vec![ConfigPath { path: config.into(), optional: false }];
    if config == CONFIG_FILE {
        files.push(ConfigPath { path: "/etc/pyinotifyd/conf.d".into(), optional: true });
    }
    let source = Source::Files(files);
    ConfigOptions { source, debug, dry_run: false, python: None, state: None, control: None }
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
fn all_config_files_count() {
    let Ok(Command::Run(options)) = parse("-c B --config A -cconf.d") else { panic!("it is no run") };
    let named = |path: &str| ConfigPath { path: path.into(), optional: false };
    assert_eq!(options.source, Source::Files(vec![named("B"), named("A"), named("conf.d")]));
    // Named, the default is nothing but a file.
    let Ok(Command::Run(options)) = parse("-c /etc/pyinotifyd/config.py") else { panic!("it is no run") };
    assert_eq!(options.source, Source::Files(vec![named("/etc/pyinotifyd/config.py")]));
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
        ("statsu", "unexpected argument 'statsu' found, did you mean 'status'?"),
        ("-t status", "the argument '--configtest' cannot be used with 'status'"),
        ("-l status", "the argument '--list' cannot be used with 'status'"),
        ("tasks --state gone", "invalid value 'gone' for '--state <STATE>'"),
        (
            "history --since 1y",
            "invalid value '1y' for '--since <TIME>': expected a time such as 90s, 10m, 1h or 2d",
        ),
        ("cancel --all abcd", "the argument '--all' cannot be used with '[IDS]...'"),
        ("cancel", "name the tasks: by their ids, or all by --scheduler NAME, --path GLOB or --all"),
        ("retry --json", "name the tasks: by their ids, or all by --scheduler NAME, --path GLOB or --all"),
        ("undo", "the following required arguments were not provided:"),
        (
            "-c x status",
            "the argument '--config' cannot be used with 'status': it asks the daemon that runs, which \
             '--control PATH' names",
        ),
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
fn options_of_doctor_may_stand_before_it() {
    let meant = |line: &str| match parse(line) {
        Ok(Command::Doctor(options, wanted)) => (options, wanted),
        other => panic!("{line}: {other:?}"),
    };
    let behind = meant("doctor -c a -c b --python p --state s --control k");
    assert_eq!(behind.1.config, [PathBuf::from("a"), PathBuf::from("b")]);
    assert_eq!(meant("-c a -c b --python p --state s --control k doctor"), behind);
    assert_eq!(meant("-c x --control k doctor -c a -c b --python p --state s"), behind);
    let default = meant("doctor");
    assert_eq!(default.0.source.files().len(), 2);
    assert_eq!(default.1.config, [PathBuf::from(CONFIG_FILE)]);
}

fn watch(words: &[&str]) -> Result<(ConfigOptions, Line), String> {
    let words = ["pyinotifyd", "watch"].iter().chain(words).map(OsString::from);
    match read(words) {
        Ok(Command::Run(options)) => {
            let Source::Line(line) = options.source.clone() else { panic!("no line") };
            Ok((options, line))
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn watch_has_its_defaults() {
    let (options, line) = watch(&["/a", "--", "ls", "-l"]).unwrap();
    assert_eq!((options.debug, options.dry_run), (false, false));
    let argv = vec![b"ls".to_vec(), b"-l".to_vec()];
    let run = Run {
        argv,
        delay: Seconds(0.0),
        batch: false,
        jobs: JOBS_DEFAULT,
        on_busy: OnBusy::Skip,
        timeout: None,
        retry: None,
        doubts: vec![],
    };
    let expected = Line {
        paths: vec![b"/a".to_vec()],
        on: vec![Flag::CloseWrite, Flag::MovedTo],
        rec: true,
        initial: false,
        exclude: Vec::new(),
        does: Does::Run(run),
    };
    assert_eq!(line, expected);
    let (_, line) = watch(&["/a"]).unwrap();
    assert_eq!((line.on, line.does), (Flag::ALL.to_vec(), Does::Print(Format::Text)));
}

#[test]
fn watch_understands_its_options() {
    let words = [
        "-d",
        "a b",
        "--on",
        "delete,CREATE",
        "--on=IN_MOVED_TO",
        "/c/",
        "--no-rec",
        "--exclude",
        "^/a",
        "--exclude=b$",
        "--delay",
        "1.5",
        "--jobs=2",
        "--timeout",
        "3",
        "--retry=4",
        "--on-busy=rerun",
        "--dry-run",
        "--",
        "--on",
        "x",
        "--",
    ];
    let (options, line) = watch(&words).unwrap();
    assert!(options.debug && options.dry_run);
    let here = std::env::current_dir().unwrap().join("a b").into_os_string().into_encoded_bytes();
    assert_eq!(line.paths, [here, b"/c/".to_vec()]);
    assert_eq!(line.on, [Flag::MovedTo, Flag::Create, Flag::Delete]);
    assert_eq!(line.exclude, [b"^/a".to_vec(), b"b$".to_vec()]);
    assert!(!line.rec);
    let Does::Run(run) = line.does else { panic!("no command") };
    assert_eq!(run.argv, [b"--on".to_vec(), b"x".to_vec(), b"--".to_vec()]);
    assert_eq!((run.delay, run.timeout), (Seconds(1.5), Some(Seconds(3.0))));
    assert_eq!((run.jobs.get(), run.retry.map(std::num::NonZero::get)), (2, Some(4)));
    assert_eq!(run.on_busy, OnBusy::Rerun);
    let (_, line) = watch(&["/a", "--batch", "--backend=auto", "--", "ls", "{pathnames}"]).unwrap();
    let Does::Run(run) = line.does else { panic!("no command") };
    assert_eq!((run.batch, run.delay), (true, Seconds(2.0)));
    let (_, line) = watch(&["/a", "--json", "--on", "open"]).unwrap();
    assert_eq!((line.on, line.does), (vec![Flag::Open], Does::Print(Format::Json)));
    assert!(watch(&["/a", "--initial"]).unwrap().1.initial);
}

#[test]
fn watch_says_what_a_batch_and_a_backend_cannot_be() {
    for (words, said) in [
        (vec!["/a", "--batch"], "--batch is for commands, and there is none: write '-- COMMAND' at the end"),
        (
            vec!["/a", "--batch", "--", "ls", "{pathname}"],
            "{pathname} is one of many in a batch: write {pathnames}, or read the paths from the command's stdin",
        ),
        (
            vec!["/a", "--batch", "--", "ls", "x{pathnames}"],
            "{pathnames} is many arguments: write it as an argument of its own",
        ),
        (
            vec!["/a", "--", "sh", "-c", "ls {pathname}"],
            "{pathname} stands in text that a shell reads once more, where its value cannot be quoted: use \
             \"$PYINOTIFYD_PATHNAME\" in single quotes, or give it as an argument, as in sh -c 'ls \"$1\"' sh \
             {pathname}",
        ),
        (
            vec!["/a", "--backend", "poll"],
            "invalid value 'poll' for '--backend <BACKEND>': this version has no such backend, write auto or inotify",
        ),
    ] {
        let text = watch(&words).expect_err(said);
        assert_eq!(text.lines().next(), Some(format!("error: {said}").as_str()), "{words:?}");
    }
}

#[test]
fn watch_says_what_is_too_much_or_too_little() {
    for (words, said) in [
        (
            vec!["/a", "--delay", "1000000001", "--", "x"],
            "invalid value '1000000001' for '--delay <SECONDS>': expected at most 1000000000 seconds",
        ),
        (
            vec!["/a", "--timeout", "inf", "--", "x"],
            "invalid value 'inf' for '--timeout <SECONDS>': expected at most 1000000000 seconds",
        ),
        (vec!["/a", "--", ""], "expected a program, got an empty word"),
        (vec!["/a", "--", "", "x"], "expected a program, got an empty word"),
    ] {
        let text = watch(&words).expect_err(said);
        assert_eq!(text.lines().next(), Some(format!("error: {said}").as_str()), "{words:?}");
    }
    assert!(watch(&["/a", "--delay", "1000000000", "--", "x", ""]).is_ok());
}

#[test]
fn watch_says_what_is_wrong() {
    for (words, said) in [
        (vec![], "the following required arguments were not provided:"),
        (vec!["--", "ls"], "the following required arguments were not provided:"),
        (vec![""], "invalid value '' for '<PATH>...': it is empty"),
        (
            vec!["/a", "--on", "closed"],
            "invalid value 'closed' for '--on <EVENTS>': unknown event, see pyinotifyd --list",
        ),
        (
            vec!["/a", "--on", "open,close"],
            "invalid value 'close' for '--on <EVENTS>': unknown event, write close_write,close_nowrite",
        ),
        (
            vec!["/a", "--on", ""],
            "invalid value '' for '--on <EVENTS>': unknown event, see pyinotifyd --list",
        ),
        (
            vec!["/a", "--delay", "-1", "--", "x"],
            "invalid value '-1' for '--delay <SECONDS>': expected 0 or more seconds",
        ),
        (
            vec!["/a", "--delay", "nan", "--", "x"],
            "invalid value 'nan' for '--delay <SECONDS>': expected 0 or more seconds",
        ),
        (
            vec!["/a", "--timeout", "0", "--", "x"],
            "invalid value '0' for '--timeout <SECONDS>': expected more than 0 seconds",
        ),
        (
            vec!["/a", "--jobs", "0", "--", "x"],
            "invalid value '0' for '--jobs <N>': expected a number of at least 1",
        ),
        (
            vec!["/a", "--retry", "1.5", "--", "x"],
            "invalid value '1.5' for '--retry <N>': expected a number of at least 1",
        ),
        (
            vec!["/a", "--retry", "99999999999", "--", "x"],
            "invalid value '99999999999' for '--retry <N>': expected at most 4294967295",
        ),
        (
            vec!["/a", "--delay", "1"],
            "--delay is for commands, and there is none: write '-- COMMAND' at the end",
        ),
        (vec!["/a", "--json", "--", "ls"], "the argument '--json' cannot be used with '[COMMAND]...'"),
        (vec!["/a", "--list"], "unexpected argument '--list' found"),
        (
            vec!["/a", "--no-recursion"],
            "unexpected argument '--no-recursion' found, did you mean '--no-rec'?",
        ),
    ] {
        let text = watch(&words).expect_err(said);
        assert_eq!(text.lines().next(), Some(format!("error: {said}").as_str()), "{words:?}");
        assert!(text.contains("Usage: pyinotifyd watch"), "{words:?}: {text}");
    }
    assert!(watch(&["/a", "--exclude", "("]).unwrap_err().contains("invalid value '(' for '--exclude <RE>'"));
    for (line, said) in [
        ("-c x watch /a", "the argument '--config' cannot be used with 'watch'"),
        ("-l watch /a", "the argument '--list' cannot be used with 'watch'"),
        ("--control x watch /a", "the argument '--control' cannot be used with 'watch'"),
        ("wathc /a", "unexpected argument 'wathc' found, did you mean 'watch'?"),
    ] {
        let text = parse(line).expect_err(line).to_string();
        assert_eq!(text.lines().next(), Some(format!("error: {said}").as_str()), "{line}");
    }
    let tested = parse("-t watch /a -- ls");
    assert!(
        matches!(tested, Ok(Command::ConfigTest(ConfigOptions { source: Source::Line(_), .. }))),
        "{tested:?}"
    );
}

#[test]
fn subcommands_take_the_socket_before_and_behind_them() {
    let asked = |control: Option<&str>, ask| Command::Ask(Asked { ask, control: control.map(PathBuf::from) });
    let status = |control: Option<&str>, json| {
        Ask::Status(crate::client::command::Printed { control: control.map(PathBuf::from), json })
    };
    let cases = [
        ("status", asked(None, status(None, false))),
        ("--control /a status --json", asked(Some("/a"), status(None, true))),
        ("--control /b status --control /a", asked(Some("/a"), status(Some("/a"), false))),
        ("status --control=/a", asked(Some("/a"), status(Some("/a"), false))),
    ];
    for (line, command) in cases {
        assert_eq!(parse(line).map_err(|error| error.to_string()), Ok(command), "{line}");
    }
    let run = Command::Run(ConfigOptions {
        control: Some("/a".into()),
        ..options("/etc/pyinotifyd/config.py", false)
    });
    assert_eq!(parse("--control /a").map_err(|error| error.to_string()), Ok(run));
}

#[test]
fn import_has_its_options() {
    let import = |from, source: &str| Import {
        from,
        source: source.into(),
        user: None,
        include: Vec::new(),
        output: None,
        force: false,
    };
    let user = Some("ann".to_owned());
    let include = vec!["/a".into(), "/b".into()];
    let output = Some("c.py".into());
    let cases = [
        ("import incrontab t", import(From::Incrontab, "t")),
        ("import incrontab --user ann t", Import { user, ..import(From::Incrontab, "t") }),
        ("import direvent -I /a f --include=/b", Import { include, ..import(From::Direvent, "f") }),
        (
            "import systemd-path u -o c.py --force",
            Import { output, force: true, ..import(From::SystemdPath, "u") },
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(line).map_err(|error| error.to_string()), Ok(Command::Import(expected)), "{line}");
    }
    for (line, said) in [
        ("import", "the following required arguments were not provided:"),
        ("import incrontab", "the following required arguments were not provided:"),
        ("import cron t", "invalid value 'cron' for '<KIND>'"),
        ("import incrontab t --force", "the following required arguments were not provided:"),
        ("import direvent t --user ann", "the argument '--user <NAME>' is for incrontab"),
        ("import incrontab t -I /a", "the argument '--include <DIR>' is for direvent"),
        ("-c x import incrontab t", "the argument '--config' cannot be used with 'import'"),
        ("-t import incrontab t", "the argument '--configtest' cannot be used with 'import'"),
        ("-d import incrontab t", "the argument '--debug' cannot be used with 'import'"),
        ("--control x import incrontab t", "the argument '--control' cannot be used with 'import'"),
        ("improt t", "unexpected argument 'improt' found, did you mean 'import'?"),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        assert_eq!(error.to_string().lines().next(), Some(format!("error: {said}").as_str()), "{line}");
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
    for line in ["-h", "--help", "watch -h", "watch --help", "import -h", "import --help"] {
        let help = parse(line).expect_err("help is no command").to_string();
        for line in help.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
    }
    let command = Typed::command();
    for option in
        command.get_subcommands().flat_map(clap::Command::get_arguments).chain(command.get_arguments())
    {
        assert!(option.get_help().is_some(), "{option}");
    }
}

/// The options of the program, or of a subcommand, as a section of the man page, from the first one on. Paragraphs of
/// an option's help become one, as they are in the other lists of the page, and what may be left out is in square
/// brackets.
fn options_of_the_man_page(subcommand: Option<&str>) -> String {
    let mut section = Vec::new();
    let mut command = Typed::command();
    command.build();
    if let Some(name) = subcommand {
        command = command.find_subcommand(name).unwrap().clone();
    }
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
        ("../../docs/man/options.roff".to_owned(), options_of_the_man_page(None)),
        ("../../docs/man/watch-options.roff".to_owned(), options_of_the_man_page(Some("watch"))),
        ("../../docs/man/import-options.roff".to_owned(), options_of_the_man_page(Some("import"))),
    ] {
        let path = project.join(&file);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, text, "{file} is not current: UPDATE=1 cargo test -p pyinotifyd generated");
    }
}
