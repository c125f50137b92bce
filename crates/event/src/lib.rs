//! The vocabulary of inotify that every crate here speaks: [`Flag`], [`Mask`] and [`Event`].
//!
//! Owns the fifteen event names, the numbers that the kernel gives them, and the shape of one event on its way from
//! the kernel to a scheduler. It does nothing: no I/O, no allocation on the way of an event. `watcher` makes events,
//! `engine` consumes them; they meet only here.

mod mask;

pub use mask::{Flag, Mask, UnknownFlag};

/// One event as a watch sees it, borrowed from the watcher for the time of one call.
///
/// All paths are bytes as the kernel gave them; nothing here assumes UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event's bit and, where the kernel sets it, [`Mask::ISDIR`].
    pub mask: Mask,
    /// Watch descriptor; -1 for an overflow.
    pub wd: i32,
    /// Cookie that ties `IN_MOVED_FROM` to `IN_MOVED_TO`; 0 with any other event.
    pub cookie: u32,
    /// Whether the object is a directory. For `IN_DELETE_SELF` and `IN_MOVE_SELF`: what the watched path was when its
    /// watch was added; for `IN_IGNORED` and `IN_Q_OVERFLOW`: false.
    pub is_dir: bool,
    /// The daemon made this event up for an entry that it found (an arrival); the kernel did not send it.
    pub synthetic: bool,
    /// Absolute and normal path of the object; empty for an overflow.
    pub pathname: &'a [u8],
    /// The last `name_len` bytes of `pathname` are the name inside the watched directory; 0 for events of the watched
    /// object itself.
    pub name_len: u16,
    /// The first `root_len` bytes of `pathname` are the path of the root through which the object is watched.
    pub root_len: u16,
    /// Path of the watched directory as the configuration gave it, where it differs from `pathname` without its name
    /// (a relative path).
    pub given_path: Option<&'a [u8]>,
    /// Where the object was before; only with `IN_MOVED_TO`, and only if its `IN_MOVED_FROM` was seen.
    pub src_pathname: Option<&'a [u8]>,
}

impl<'a> Event<'a> {
    /// Name inside the watched directory; empty for events of the watched object itself.
    pub fn name(&self) -> &'a [u8] {
        &self.pathname[self.pathname.len() - usize::from(self.name_len)..]
    }

    /// Path of the watch: the watched directory (or file) that reported the event.
    pub fn path(&self) -> &'a [u8] {
        if let Some(given) = self.given_path {
            return given;
        }
        if self.name_len == 0 {
            return self.pathname;
        }
        let end = self.pathname.len() - usize::from(self.name_len) - 1;
        if end == 0 { b"/" } else { &self.pathname[..end] }
    }

    /// Path of the root through which the object is watched.
    pub fn root(&self) -> &'a [u8] {
        &self.pathname[..usize::from(self.root_len)]
    }

    /// An overflow of the kernel's queue, which belongs to no path.
    pub fn overflow() -> Event<'static> {
        Event {
            mask: Flag::QOverflow.mask(),
            wd: -1,
            cookie: 0,
            is_dir: false,
            synthetic: false,
            pathname: b"",
            name_len: 0,
            root_len: 0,
            given_path: None,
            src_pathname: None,
        }
    }
}

/// Length of the name of an entry: [`Event::name_len`] of its event, by its path.
pub fn name_len(pathname: &[u8]) -> u16 {
    pathname.iter().rev().take_while(|byte| **byte != b'/').count() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(pathname: &[u8], name_len: u16) -> Event<'_> {
        Event { pathname, name_len, ..Event::overflow() }
    }

    #[test]
    fn path_and_name_come_from_the_pathname() {
        let cases = [
            ("/srv/in/f", 1, "/srv/in", "f"),
            ("/srv/in", 0, "/srv/in", ""),
            ("/f", 1, "/", "f"),
            ("", 0, "", ""),
        ];
        for (pathname, name_len, path, name) in cases {
            let event = event(pathname.as_bytes(), name_len);
            assert_eq!((event.path(), event.name()), (path.as_bytes(), name.as_bytes()));
            assert!(event.name_len == 0 || event.name_len == super::name_len(pathname.as_bytes()));
        }
    }

    #[test]
    fn a_relative_watch_shows_the_path_that_was_given() {
        let event = Event { given_path: Some(b"in"), ..event(b"/srv/in/f", 1) };
        assert_eq!(event.path(), b"in");
    }
}
