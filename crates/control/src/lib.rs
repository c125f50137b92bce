//! The control socket: what an operator can ask a running daemon, and change in it.
//!
//! Owns the words of the API ([`api`]), the routes, the server with its limits and rights, the client's side of the
//! connection, and the two text formats of metrics. Leaves to the program: what the answers are. Imports of our crates
//! only `syscall`.
//!
//! # Theory of operation
//!
//! [`Server::start`] runs a thread with a runtime of its own, only where a socket is wanted. Each request becomes one
//! [`Question`] with a place for its answer, goes through a bounded channel to the loop, and waits there for the
//! answer. The loop answers between two events and never waits for a client: a slow or hostile one costs the server's
//! thread, whose limits stand below. A stream of events has a bounded queue ([`Stream`]); what does not fit is counted,
//! and the client is told how many lines it missed.
//!
//! # Limits
//!
//! | what | limit | at the limit |
//! |---|---|---|
//! | connections | 64, 8 of them for root and the daemon's user | 503, closed |
//! | connections that are being refused | 64, for a second each | closed at once |
//! | log lines about clients that are refused | one in 10 s | counted in the next one |
//! | head and body of a request | 64 KiB each | 431, 413 |
//! | time for a request to come | 10 s | closed |
//! | time in which a client reads nothing of an answer | 10 s | closed, a line in the log |
//! | time for readers of streams at the end of the daemon | 1 s | closed |
//! | lines of a stream that wait for its reader | 1,024 | `{"dropped": N}` in their place |
//! | questions that wait for the loop | 64 | the next request waits for its turn |

mod accept;
pub mod api;
mod client;
#[cfg(any(test, feature = "edge"))]
pub mod edge;
pub mod metrics;
#[cfg(test)]
mod openapi;
mod refusing;
mod route;
mod server;
mod socket;

pub use client::{Client, ClientError, Reply};
pub use route::{Format, Question, Refusal};
pub use server::{Answering, Json, Message, Peer, Server, Stream};
pub use socket::{Barrier, Place, PlaceError};
