//! What tasks do outside Python: shell commands and file rules.
//!
//! Both are effects: they are started by the loop, run beside it, and report their end. Neither knows the engine, the
//! host or the log.

pub(crate) mod file;
pub(crate) mod shell;
