//! pyinotifyd: watches directories and files with inotify and runs tasks when something happens there.
//!
//! The program around the crates: command line, config host, loop, actions, log, signals and services. `daemon` uses
//! everything and nothing imports it; `host`, `action` and `log` know nothing of each other's insides.

mod action;
mod cli;
mod config;
mod daemon;
mod host;
mod lane;
mod log;
mod service;

use std::io::Write as _;
use std::process::ExitCode;

use event::Flag;
use syscall::{inherited, signals};

use cli::Command;

fn main() -> ExitCode {
    // Without signals nothing would ever end; that descriptors cannot be kept back (a kernel before 5.11) harms nobody
    // whom the parent did not trust with them.
    if let Err(error) = signals::unblock() {
        eprintln!("ERROR: cannot unblock signals: {error}");
        return ExitCode::FAILURE;
    }
    let _ = inherited::close_on_exec();
    match cli::parse() {
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
        Command::Install => service::install_command(),
        Command::Uninstall => service::uninstall_command(),
    }
}

/// Prints a line on stdout; a reader that went away is no reason to complain.
fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
