//! The crate from outside: against CPython, against itself, at its limits.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod cpython;
mod differential;
mod grammar;
mod limits;
mod properties;
