//! The watcher against the real kernel.

#[cfg(test)]
mod apart;
#[cfg(test)]
mod bed;
#[cfg(test)]
mod crowds;
#[cfg(test)]
mod events;
#[cfg(test)]
mod missed;
#[cfg(test)]
mod namespaces;
#[cfg(test)]
mod races;
#[cfg(test)]
mod roots;
#[cfg(test)]
mod show;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod storms;
