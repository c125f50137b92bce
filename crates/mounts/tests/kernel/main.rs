//! The table of mounts against the real kernel.

#[cfg(test)]
mod table;
