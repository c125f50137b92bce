//! pyinotifyd: watches directories and files with inotify and runs tasks when something happens there.
//!
//! The program around the crates: command line, config host, loop, actions, log, signals and services. `daemon` uses
//! everything and nothing imports it; `host`, `action` and `log` know nothing of each other's insides.

mod action;
mod cli;
mod client;
mod config;
mod daemon;
mod host;
mod import;
mod lane;
mod log;
mod service;
mod similar;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;

use event::Flag;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use syscall::{inherited, signals};

use action::exec;
use cli::Command;
use log::Cause;

/// Stack that the program needs, and Python for the config file, with much to spare.
const STACK: usize = 1 << 20;

/// Exit status of a command line that is wrong, as clap has it.
const EXIT_USAGE: u8 = 2;

/// Exit status after a bug, as the first thread's.
const EXIT_PANIC: u8 = 101;

fn main() -> ExitCode {
    if let Some(words) = exec::words() {
        return exec::run(words);
    }
    // Without signals nothing would ever end. On a kernel before 5.11 descriptors that the parent left open stay open
    // in commands; that is no reason to end.
    if let Err(error) = signals::unblock() {
        eprintln!("ERROR: cannot unblock signals: {error}", error = Cause(&error));
        return ExitCode::FAILURE;
    }
    let _ = inherited::close_on_exec();
    if has_stack() {
        return run();
    }
    eprintln!(
        "WARNING: the stack is limited to less than {} KiB (ulimit -s), Python may need more",
        STACK >> 10
    );
    // A thread's stack is not subject to the limit.
    match thread::Builder::new().name("main".into()).stack_size(STACK).spawn(run) {
        Ok(thread) => thread.join().unwrap_or(ExitCode::from(EXIT_PANIC)),
        Err(error) => {
            eprintln!("ERROR: cannot start a thread: {error}", error = Cause(&error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> ExitCode {
    let command = match cli::parse() {
        Ok(command) => command,
        Err(error) => return print_instead(&error),
    };
    match command {
        Command::Run(options) => daemon::run(options),
        Command::ConfigTest(options) => daemon::test_config(&options),
        Command::Explain(options, path, event) => daemon::explain_path(&options, &path, event),
        Command::ListEvents => print(&Flag::ALL.map(Flag::name).join("\n")),
        Command::Version => print(concat!("pyinotifyd (", env!("CARGO_PKG_VERSION"), ")")),
        Command::Completions(shell) => match shell.script() {
            Ok(script) => print(script.trim_end()),
            Err(error) => {
                eprintln!("ERROR: cannot make the completion script: {error}");
                ExitCode::FAILURE
            }
        },
        Command::PrintConfig(line) => print(config::config_file(&line).trim_end()),
        Command::Import(wanted) => import::run(&wanted),
        Command::Ask(asked) => client::run(asked),
        Command::Doctor(options, wanted) => {
            let (options, wanted) = client::doctor::of_daemon(options, wanted);
            if !client::doctor::has_python(&wanted) {
                return client::doctor::run(&wanted, None);
            }
            daemon::examine(&options, |config| client::doctor::run(&wanted, config))
        }
        Command::Install => service::install_command(),
        Command::Uninstall => service::uninstall_command(),
    }
}

/// Raises the limit of the stack, if it is too low. That holds for the stack that we are on, too: the kernel compares
/// with the limit when the stack grows (setrlimit(2)).
fn has_stack() -> bool {
    let limit = getrlimit(Resource::Stack);
    if limit.current.is_none_or(|bytes| bytes >= STACK as u64) {
        return true;
    }
    // Above the hard limit for root only.
    let maximum = limit.maximum.map(|bytes| bytes.max(STACK as u64));
    setrlimit(Resource::Stack, Rlimit { current: Some(STACK as u64), maximum }).is_ok()
}

/// Prints what a command line stands for that says nothing to do: help on stdout, what is wrong on stderr.
fn print_instead(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ended(printed) }
}

/// Prints a line on stdout.
fn print(text: &str) -> ExitCode {
    ended(writeln!(io::stdout(), "{text}"))
}

/// The end of what only prints; a reader that went away is no reason to complain.
fn ended(printed: io::Result<()>) -> ExitCode {
    let Err(error) = printed else { return ExitCode::SUCCESS };
    if error.kind() != io::ErrorKind::BrokenPipe {
        eprintln!("ERROR: cannot write to stdout: {error}", error = Cause(&error));
    }
    ExitCode::FAILURE
}
