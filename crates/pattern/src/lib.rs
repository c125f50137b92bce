//! Python's regular expressions on paths, without Python.
//!
//! Rules and exclude filters of pyinotifyd are patterns of CPython's `re`. This crate reads that syntax itself and gives
//! CPython's results: which paths match, what the groups hold, what a substitution makes of a path. It does no I/O and
//! knows nothing of events. What it can't do as CPython does, it refuses at load, naming the construct.
//!
//! # Theory of operation
//!
//! A source is decoded as Python would decode it (`text`) and parsed (`parse`) into nodes (`ast`) with all flags resolved.
//! From there two roads lead to an answer:
//!
//! - *Does it match?* is asked of every event. The bytes that a path must begin and end with are compared first
//!   (`literals`); what passes is decided by a DFA (`linear`), which needs neither priorities nor groups.
//! - *What matched?* is asked once a rule acts. Most rules are text, a run of characters and text: there the same comparison
//!   tells what the groups hold, since a path matches in one way only. Otherwise the backtracking engine (`backtrack`) runs
//!   the compiled pattern (`program`) in CPython's own order of trials. It is also the one that handles look-around and back
//!   references, which no DFA can, and the paths that the DFA isn't asked about. It remembers where it failed and counts its
//!   steps, so that no pattern and no name can stop the daemon.
//!
//! A [`PatternSet`] puts a filter before many patterns, so that only those are tried whose text is in the path.
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
