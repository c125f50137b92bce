//! Event bits: the fifteen that have a name, and sets of them.
//!
//! The numbers are those of inotify(7), `<linux/inotify.h>`.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};
use std::str::FromStr;

/// One of the fifteen events, in the order in which the program lists them (`--list`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flag {
    /// A file was read.
    Access,
    /// A file was written or truncated.
    Modify,
    /// Metadata changed.
    Attrib,
    /// A file that was open for writing was closed.
    CloseWrite,
    /// A file or directory that was not open for writing was closed.
    CloseNowrite,
    /// A file or directory was opened.
    Open,
    /// An entry left a watched directory by rename(2).
    MovedFrom,
    /// An entry came into a watched directory by rename(2).
    MovedTo,
    /// An entry was made in a watched directory.
    Create,
    /// An entry was removed from a watched directory.
    Delete,
    /// The watched object itself was removed.
    DeleteSelf,
    /// The watched object itself was renamed.
    MoveSelf,
    /// The filesystem of the watched object was unmounted.
    Unmount,
    /// The kernel's queue was full; events are missing from here on.
    QOverflow,
    /// The watch was removed.
    Ignored,
}

/// A name that is not one of the fifteen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFlag(pub String);

impl fmt::Display for UnknownFlag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "unknown event '{}'", self.0)
    }
}

impl std::error::Error for UnknownFlag {}

impl Flag {
    /// All fifteen, in the order of `--list`.
    pub const ALL: [Flag; 15] = [
        Flag::Access,
        Flag::Modify,
        Flag::Attrib,
        Flag::CloseWrite,
        Flag::CloseNowrite,
        Flag::Open,
        Flag::MovedFrom,
        Flag::MovedTo,
        Flag::Create,
        Flag::Delete,
        Flag::DeleteSelf,
        Flag::MoveSelf,
        Flag::Unmount,
        Flag::QOverflow,
        Flag::Ignored,
    ];

    /// The name as inotify(7) and the configuration spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Flag::Access => "IN_ACCESS",
            Flag::Modify => "IN_MODIFY",
            Flag::Attrib => "IN_ATTRIB",
            Flag::CloseWrite => "IN_CLOSE_WRITE",
            Flag::CloseNowrite => "IN_CLOSE_NOWRITE",
            Flag::Open => "IN_OPEN",
            Flag::MovedFrom => "IN_MOVED_FROM",
            Flag::MovedTo => "IN_MOVED_TO",
            Flag::Create => "IN_CREATE",
            Flag::Delete => "IN_DELETE",
            Flag::DeleteSelf => "IN_DELETE_SELF",
            Flag::MoveSelf => "IN_MOVE_SELF",
            Flag::Unmount => "IN_UNMOUNT",
            Flag::QOverflow => "IN_Q_OVERFLOW",
            Flag::Ignored => "IN_IGNORED",
        }
    }

    /// The bit of this event.
    pub const fn mask(self) -> Mask {
        // The first twelve stand in the order of their bits; the three that only the kernel raises follow at bit 13.
        let bit = self as u32;
        Mask(if bit < 12 { 1 << bit } else { 1 << (bit + 1) })
    }

    /// Place in [`Flag::ALL`], for tables with one entry a flag.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl FromStr for Flag {
    type Err = UnknownFlag;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Flag::ALL.into_iter().find(|flag| flag.name() == name).ok_or_else(|| UnknownFlag(name.to_owned()))
    }
}

/// A set of event bits, with the kernel's numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mask(pub u32);

impl Mask {
    /// No bit.
    pub const NONE: Mask = Mask(0);
    /// The twelve events that a watch can ask for (`IN_ALL_EVENTS`).
    pub const ALL_EVENTS: Mask = Mask(0xfff);
    /// The object of the event is a directory.
    pub const ISDIR: Mask = Mask(0x4000_0000);
    /// What whoever reads a file causes, and which says nothing of a change.
    pub const READING: Mask = Mask(Flag::Access.mask().0 | Flag::Open.mask().0 | Flag::CloseNowrite.mask().0);

    /// Whether any bit of `other` is in this set.
    pub const fn intersects(self, other: Mask) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all bits of `other` are in this set.
    pub const fn contains(self, other: Mask) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set without the bits of `other`.
    #[must_use]
    pub const fn without(self, other: Mask) -> Mask {
        Mask(self.0 & !other.0)
    }

    /// Whether [`Mask::ISDIR`] is set.
    pub const fn is_dir(self) -> bool {
        self.0 & Mask::ISDIR.0 != 0
    }

    /// The event that an event's mask stands for: its lowest bit among the fifteen.
    pub const fn flag(self) -> Option<Flag> {
        let bit = (self.0 & 0xefff).trailing_zeros();
        match bit {
            0..=11 => Some(Flag::ALL[bit as usize]),
            13..=15 => Some(Flag::ALL[bit as usize - 1]),
            _ => None,
        }
    }

    /// The name of an event's mask as Python code sees it: `IN_CREATE` or `IN_CREATE|IN_ISDIR`.
    pub const fn name(self) -> &'static str {
        let Some(flag) = self.flag() else { return "" };
        if !self.is_dir() {
            return flag.name();
        }
        match flag {
            Flag::Access => "IN_ACCESS|IN_ISDIR",
            Flag::Modify => "IN_MODIFY|IN_ISDIR",
            Flag::Attrib => "IN_ATTRIB|IN_ISDIR",
            Flag::CloseWrite => "IN_CLOSE_WRITE|IN_ISDIR",
            Flag::CloseNowrite => "IN_CLOSE_NOWRITE|IN_ISDIR",
            Flag::Open => "IN_OPEN|IN_ISDIR",
            Flag::MovedFrom => "IN_MOVED_FROM|IN_ISDIR",
            Flag::MovedTo => "IN_MOVED_TO|IN_ISDIR",
            Flag::Create => "IN_CREATE|IN_ISDIR",
            Flag::Delete => "IN_DELETE|IN_ISDIR",
            Flag::DeleteSelf => "IN_DELETE_SELF|IN_ISDIR",
            Flag::MoveSelf => "IN_MOVE_SELF|IN_ISDIR",
            Flag::Unmount => "IN_UNMOUNT|IN_ISDIR",
            Flag::QOverflow => "IN_Q_OVERFLOW|IN_ISDIR",
            Flag::Ignored => "IN_IGNORED|IN_ISDIR",
        }
    }
}

impl BitOr for Mask {
    type Output = Mask;
    fn bitor(self, other: Mask) -> Mask {
        Mask(self.0 | other.0)
    }
}

impl BitOrAssign for Mask {
    fn bitor_assign(&mut self, other: Mask) {
        self.0 |= other.0;
    }
}

impl BitAnd for Mask {
    type Output = Mask;
    fn bitand(self, other: Mask) -> Mask {
        Mask(self.0 & other.0)
    }
}

impl BitOr<Flag> for Mask {
    type Output = Mask;
    fn bitor(self, other: Flag) -> Mask {
        self | other.mask()
    }
}

impl BitOr for Flag {
    type Output = Mask;
    fn bitor(self, other: Flag) -> Mask {
        self.mask() | other.mask()
    }
}

impl From<Flag> for Mask {
    fn from(flag: Flag) -> Mask {
        flag.mask()
    }
}

impl FromIterator<Flag> for Mask {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Mask {
        flags.into_iter().fold(Mask::NONE, |set, flag| set | flag)
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for flag in Flag::ALL.into_iter().filter(|flag| self.contains(flag.mask())) {
            write!(out, "{separator}{}", flag.name())?;
            separator = "|";
        }
        if self.is_dir() {
            write!(out, "{separator}IN_ISDIR")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from inotify(7).
    const KERNEL: [(&str, u32); 15] = [
        ("IN_ACCESS", 0x1),
        ("IN_MODIFY", 0x2),
        ("IN_ATTRIB", 0x4),
        ("IN_CLOSE_WRITE", 0x8),
        ("IN_CLOSE_NOWRITE", 0x10),
        ("IN_OPEN", 0x20),
        ("IN_MOVED_FROM", 0x40),
        ("IN_MOVED_TO", 0x80),
        ("IN_CREATE", 0x100),
        ("IN_DELETE", 0x200),
        ("IN_DELETE_SELF", 0x400),
        ("IN_MOVE_SELF", 0x800),
        ("IN_UNMOUNT", 0x2000),
        ("IN_Q_OVERFLOW", 0x4000),
        ("IN_IGNORED", 0x8000),
    ];

    #[test]
    fn bits_and_names_are_the_kernels() {
        for (flag, (name, bits)) in Flag::ALL.into_iter().zip(KERNEL) {
            assert_eq!((flag.name(), flag.mask().0), (name, bits));
            assert_eq!(name.parse(), Ok(flag));
            assert_eq!(Mask(bits).flag(), Some(flag));
            assert_eq!(Mask(bits).name(), name);
            assert_eq!((Mask(bits) | Mask::ISDIR).name(), format!("{name}|IN_ISDIR"));
        }
    }

    #[test]
    fn names_that_are_no_event_are_refused() {
        for name in ["IN_CLOSE", "ALL_EVENTS", "in_create", "", "IN_CREATE|IN_ISDIR"] {
            assert_eq!(name.parse::<Flag>(), Err(UnknownFlag(name.to_owned())));
        }
        assert_eq!(Mask(0x1000).flag(), None);
        assert_eq!(Mask::ISDIR.flag(), None);
    }
}
