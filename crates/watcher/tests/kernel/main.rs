//! The watcher against the real kernel.

mod bed;
mod events;
mod namespaces;
mod roots;
mod simulation;
mod storms;
