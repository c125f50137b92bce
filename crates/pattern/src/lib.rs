//! Python's regular expressions on paths, without Python.
//!
//! Rules and exclude filters of pyinotifyd are patterns of CPython's `re`. This crate reads that syntax itself and
//! gives CPython's results: which paths match, what the groups hold, what a substitution makes of a path. It does no
//! I/O and knows nothing of events. What it can't do as CPython does, it refuses at load, naming the construct.
//!
//! # Theory of operation
//!
//! A source is decoded as Python decodes it (`text`) and parsed (`parse`) into nodes (`ast`) with all flags resolved.
//! Two engines answer questions about it:
//!
//! - `regex-automata` (`linear`) answers whether a path matches. Every correct engine gives the same answer to that,
//!   and a DFA gives it in linear time. It takes regular patterns and paths of UTF-8.
//! - The backtracking engine (`backtrack`) runs the compiled pattern (`program`) in CPython's order of trials. It
//!   answers what matched, which depends on that order, and everything that a DFA cannot answer: look-around, back
//!   references, bytes that are not UTF-8. It remembers where it failed and counts its steps, so that no pattern and no
//!   name can stop the daemon.
//!
//! Most rules are text, a run of characters and text. The bytes at both ends of such a pattern are compared first
//! (`literals`). This refuses most paths within 5 ns, where a DFA takes 20 and the `regex` crate 20 to 350, and it
//! knows the groups of a match without an engine: a substitution takes 35 ns instead of 95 (`benches/realistic.rs`).
//!
//! A [`PatternSet`] searches a path once for the literals of all its patterns, and then tries only those that can
//! match.
//!
//! ```
//! use pattern::{Pattern, Template};
//!
//! let pattern = Pattern::new(br"^/src/(?P<path>.*)\.to_move$")?;
//! let template = Template::new(br"/dst/\g<path>", &pattern)?;
//! let path = b"/src/caf\xe9.to_move";
//! assert_eq!(pattern.is_match(path), Ok(true));
//! assert_eq!(pattern.sub(&template, path), Ok(b"/dst/caf\xe9".to_vec()));
//! # Ok::<(), pattern::Error>(())
//! ```

mod ast;
mod backtrack;
mod error;
mod linear;
mod lines;
mod literals;
mod parse;
mod pattern;
mod pattern_set;
mod program;
mod set;
mod tables;
mod template;
mod text;
mod unicode;

pub use error::{Error, Place, StepLimit};
pub use lines::pattern_lines;
pub use pattern::{Capture, Pattern, Substituted};
pub use pattern_set::PatternSet;
pub use template::Template;
