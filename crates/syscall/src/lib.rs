//! System calls that rustix has no safe wrapper for.
//!
//! The only crate of the workspace in which `unsafe` is allowed: each block is one call, and what it needs to be sound
//! is shown beside it. Owns nothing but these calls; decides nothing.

pub mod inherited;
pub mod lease;
pub mod peer;
pub mod same;
pub mod signals;
pub mod spawn;
