//! Directories that stay open from one action to the next.
//!
//! Files come in bursts, from one directory to another one. To open both and to close them again is a sixth of what
//! the move of a file costs; to ask whether the path still leads there is half of that. So who acts many times in a
//! row keeps the last directory of each side in a [`Held`].
//!
//! # Why that is as safe as a new lookup
//!
//! A descriptor is the directory itself, whatever becomes of its names. What it does not say is whether the path leads
//! to it *now*: that is asked before each use, by one statx(2) of the path. Device, inode and mount must be those of
//! the descriptor, and none of the three can come to mean something else while it is open. So each action acts on the
//! directory that its path leads to at that moment, and that was reached through no link at all. Two things remain:
//!
//! - A link that has come on the way since, to the very same directory, is not refused. It leads nowhere else, so who
//!   made it gains nothing (`a_held_directory_is_used_only_while_its_path_leads_there`).
//! - Between the question and the use the directory may be renamed, as between a lookup and the use
//!   (`no_gap_lets_a_parent_through_that_is_swapped_between_two_actions`).
//!
//! Only what the strict lookup finds is held. What is reached through links, or made on the way, is looked up again.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::sys::{self, CWD, For, Spot, Within};

/// What one thread keeps from one action to the next: the last directory of the sources and of the destinations.
///
/// A directory that is held keeps its filesystem from being unmounted: [`Held::release`] it before a wait.
#[derive(Debug, Default)]
pub struct Held {
    pub(crate) source: Side,
    pub(crate) destination: Side,
}

impl Held {
    /// Closes everything.
    pub fn release(&mut self) {
        *self = Held::default();
    }
}

/// The sources, or the destinations.
#[derive(Debug, Default)]
pub(crate) struct Side(Option<Open>);

#[derive(Debug)]
struct Open {
    path: Vec<u8>,
    directory: Rc<OwnedFd>,
    /// Where the directory is; asked when it is used for the second time.
    spot: Option<Spot>,
}

impl Side {
    /// Opens a directory through no link at all, or gives the one that is held if `path` still leads to it.
    pub(crate) fn open(&mut self, path: &[u8]) -> sys::Result<Rc<OwnedFd>> {
        if let Some(open) = self.0.as_mut().filter(|open| open.path == path)
            && open.is_where_its_path_leads()
        {
            return Ok(Rc::clone(&open.directory));
        }
        let directory = Rc::new(sys::open_within(CWD, path, For::Lookup, Within::NoLinks)?);
        self.0 = Some(Open { path: path.to_vec(), directory: Rc::clone(&directory), spot: None });
        Ok(directory)
    }
}

impl Open {
    fn is_where_its_path_leads(&mut self) -> bool {
        if self.spot.is_none() {
            self.spot = sys::spot(&*self.directory).ok();
        }
        self.spot.is_some() && self.spot == sys::spot_at(CWD, &self.path).ok()
    }
}
