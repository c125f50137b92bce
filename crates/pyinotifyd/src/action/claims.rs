//! Which work on files waits for which: that on the same paths is done in the order in which it came.
//!
//! Work claims the paths that it is about: those of its file, where it is and where it goes, or of a directory with all
//! that is below. Two claims meet where a path is the same, or where one lies below a directory of the other and one of
//! them changes what it is about: a copy changes nothing of its source, so that nobody waits for the copy of a large
//! tree who only copies something of it elsewhere. Work may begin when all has ended that came before and whose claims
//! it meets. So no rule sees a file that another one has placed and not finished, and no two rules each take the file
//! of the other for a copy that stays.
//!
//! What came first waits for nothing, so there is always something that goes on. Paths are compared as text, in their
//! normal form: through a link they are others, and a name that `on_conflict="rename"` gives to a result is nobody's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

use hashbrown::HashMap;

use crate::config::absolute_path;

/// Who claims paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Claimant {
    /// A task, by its run.
    Task(u64),
    /// An undo, by its number.
    Undo(u64),
}

/// What work does with what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Reads,
    Changes,
}

/// The last claimants of names in one directory.
type Names = HashMap<Box<[u8]>, Last>;

/// Who claims a path and has not ended: each waits for all that claimed it before.
#[derive(Clone, Copy, Debug)]
struct Last {
    claimant: Claimant,
    /// The last one that changes it.
    changes: Option<Claimant>,
}

impl Last {
    /// Whom a claim above or below this path waits for.
    fn awaited(self, by: Use) -> Option<Claimant> {
        match by {
            Use::Reads => self.changes,
            Use::Changes => Some(self.claimant),
        }
    }
}

/// All claims of work that has not ended.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// By directory and name.
    last: BTreeMap<Box<[u8]>, Names>,
    all: HashMap<Claimant, Claim>,
    /// How many are for directories.
    trees: usize,
}

/// What one claims.
#[derive(Debug)]
struct Claim {
    paths: Vec<Box<[u8]>>,
    is_tree: bool,
    /// How many it waits for.
    waits_for: usize,
    /// Those that wait for it.
    waiting: Vec<Claimant>,
    /// It was let go of while it waited. Those that wait for it wait for what it waits for.
    is_gone: bool,
}

impl Claims {
    /// Claims paths, and with `is_tree` all that is below. Whether the work may begin at once.
    pub(crate) fn claim<'a>(
        &mut self,
        who: Claimant,
        paths: impl IntoIterator<Item = (&'a [u8], Use)>,
        is_tree: bool,
    ) -> bool {
        let paths = paths.into_iter().map(|(path, by)| (Box::from(&*normal(path)), by));
        let paths: Vec<(Box<[u8]>, Use)> = paths.collect();
        let mut before = Vec::new();
        for (path, by) in &paths {
            before.extend(self.last(path).map(|last| last.claimant));
            if self.trees > 0 {
                let above = above(path).filter_map(|directory| self.last(directory));
                before.extend(above.filter_map(|last| last.awaited(*by)));
            }
            if is_tree {
                before.extend(self.below(path).filter_map(|last| last.awaited(*by)));
            }
        }
        before.sort_unstable();
        before.dedup();
        for (path, by) in &paths {
            let (directory, name) = split(path);
            let its_own = (*by == Use::Changes).then_some(who);
            let changes = its_own.or(self.last(path).and_then(|last| last.changes));
            let last = Last { claimant: who, changes };
            match self.last.get_mut(directory) {
                Some(names) => names.insert(name.into(), last),
                None => self.last.entry(directory.into()).or_default().insert(name.into(), last),
            };
        }
        for other in &before {
            self.all.get_mut(other).expect("the last of a path has not ended").waiting.push(who);
        }
        self.trees += usize::from(is_tree);
        let waits_for = before.len();
        let paths = paths.into_iter().map(|(path, _)| path).collect();
        self.all.insert(who, Claim { paths, is_tree, waits_for, waiting: Vec::new(), is_gone: false });
        waits_for == 0
    }

    /// Lets go of what one claims: its work has ended, or is not to be done. Gives those whose work may begin.
    pub(crate) fn release(&mut self, who: Claimant) -> Vec<Claimant> {
        let (mut free, mut ended) = (Vec::new(), vec![who]);
        while let Some(who) = ended.pop() {
            let Some(claim) = self.all.get_mut(&who) else { continue };
            if claim.waits_for > 0 {
                claim.is_gone = true;
                continue;
            }
            let Claim { paths, is_tree, waiting, .. } = self.all.remove(&who).expect("it was just found");
            self.trees -= usize::from(is_tree);
            for path in paths {
                self.forget(&path, who);
            }
            for next in waiting {
                let claim = self.all.get_mut(&next).expect("it waits until this one has ended");
                claim.waits_for -= 1;
                if claim.waits_for == 0 {
                    if claim.is_gone { &mut ended } else { &mut free }.push(next);
                }
            }
        }
        free
    }

    /// Whether one waits for others.
    pub(crate) fn waits(&self, who: Claimant) -> bool {
        self.all.get(&who).is_some_and(|claim| claim.waits_for > 0)
    }

    /// Those that wait for one.
    pub(crate) fn waiting_for(&self, who: Claimant) -> &[Claimant] {
        self.all.get(&who).map_or(&[], |claim| &claim.waiting)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.last.is_empty() && self.trees == 0
    }

    fn last(&self, path: &[u8]) -> Option<Last> {
        let (directory, name) = split(path);
        self.last.get(directory)?.get(name).copied()
    }

    fn below(&self, path: &[u8]) -> impl Iterator<Item = Last> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let itself = self.last.get(path).into_iter();
        // What follows the slash is below.
        let (first, behind) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below = self.last.range::<[u8], _>((Included(&first[..]), Excluded(&behind[..])));
        itself.chain(below.map(|(_, names)| names)).flat_map(|names| names.values().copied())
    }

    fn forget(&mut self, path: &[u8], who: Claimant) {
        let (directory, name) = split(path);
        let Some(names) = self.last.get_mut(directory) else { return };
        if let Some(last) = names.get_mut(name) {
            last.changes = last.changes.filter(|changes| *changes != who);
            if last.claimant == who {
                names.remove(name);
            }
        }
        if names.is_empty() {
            self.last.remove(directory);
        }
    }
}

/// A path without parts that name nothing.
fn normal(path: &[u8]) -> Cow<'_, [u8]> {
    let names_nothing = |part: &[u8]| matches!(part, b"" | b"." | b"..");
    let is_normal = path.starts_with(b"/") && !path[1..].split(|byte| *byte == b'/').any(names_nothing);
    if is_normal { Cow::Borrowed(path) } else { Cow::Owned(absolute_path(path)) }
}

/// The directory of a path and the name in it, with its slash. That of the root directory is the root directory.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0))
}

/// The directories above a path, the innermost first.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &path[..at]).filter(|directory| !directory.is_empty())
}

#[cfg(test)]
mod tests {
    use super::Claimant::Task;
    use super::*;

    /// Claims that are for files, by what stands in a word: `a>b`, or for directories: `a/>b/`; of a copy: `=a>b`.
    fn claim(claims: &mut Claims, task: u64, what: &str) -> bool {
        let is_tree = what.contains("/>") || what.ends_with('/');
        let paths = what.split('>').map(|path| match path.strip_prefix('=') {
            Some(path) => (path.trim_end_matches('/').as_bytes(), Use::Reads),
            None => (path.trim_end_matches('/').as_bytes(), Use::Changes),
        });
        claims.claim(Task(task), paths, is_tree)
    }

    #[test]
    fn work_that_meets_other_work_waits_for_it() {
        for (first, second, waits) in [
            ("/in/f>/out/f", "/in/f>/out/g", true),
            ("/in/f>/out/f", "/out/f>/in/f", true),
            ("/in/f>/out/f", "/out/f>/far/f", true),
            ("/in/f>/out//f", "/./out/x/../f>/far/f", true),
            ("/in/f>/out/f", "/in/g>/out/g", false),
            ("/in/f>/out/f", "/in/f2>/out/f2", false),
            ("/in/d/>/out/d", "/in/d/e/f>/far/f", true),
            ("/in/d/e/f>/far/f", "/in/d/>/out/d", true),
            ("/in/d/e/f>/far/f", "/in/d/e/>/out/d", true),
            ("/in/d/>/out/d", "/in/x>/out/d/x", true),
            ("/in/d/>/out/d", "/in/d2/f>/out/d2/f", false),
            ("/in/d/", "/in/d/e/", true),
            ("/in/d/e/", "/in/d/", true),
            ("/in/d/e/f", "/in/d/g", false),
            ("/in/", "/f", false),
            ("=/in/d/>/out/d", "=/in/d/f>/far/f", false),
            ("=/in/d/f>/far/f", "=/in/d/>/out/d", false),
            ("=/in/d/>/out/d", "=/in/d/f>/out/d/f", true),
            ("=/in/d/>/out/d", "/in/d/f>/far/f", true),
            ("/in/d/f>/far/f", "=/in/d/>/out/d", true),
            ("=/in/d/f>/far/f", "/in/d/>/out/d", true),
            ("=/in/f>/out/f", "=/in/f>/far/f", true),
            ("/in/f", "/", true),
        ] {
            let mut claims = Claims::default();
            assert!(claim(&mut claims, 1, first));
            assert_eq!(!claim(&mut claims, 2, second), waits, "{first}, then {second}");
            assert_eq!(claims.release(Task(1)), if waits { vec![Task(2)] } else { vec![] });
            assert_eq!(claims.release(Task(2)), []);
            assert!(claims.is_empty(), "{first}, then {second}");
        }
    }

    #[test]
    fn a_tree_that_is_read_waits_for_who_changes_something_in_it_though_another_one_reads_that_next() {
        let mut claims = Claims::default();
        assert!(claim(&mut claims, 1, "/in/d/f>/out/f"));
        assert!(!claim(&mut claims, 2, "=/in/d/f>/far/f"));
        assert!(!claim(&mut claims, 3, "=/in/d/>/near/d"));
        assert_eq!(claims.release(Task(1)), [Task(2), Task(3)]);
        assert!(claim(&mut claims, 4, "=/in/d/e>/x/e"));
        for task in 2..5 {
            assert_eq!(claims.release(Task(task)), []);
        }
        assert!(claims.is_empty());
    }

    #[test]
    fn what_is_let_go_of_before_its_turn_lets_nobody_overtake() {
        let mut claims = Claims::default();
        assert!(claim(&mut claims, 1, "/in/f>/out/f"));
        assert!(!claim(&mut claims, 2, "/in/f>/far/f"));
        assert!(!claim(&mut claims, 3, "/in/f>/out/g"));
        assert!(!claim(&mut claims, 4, "/far/f"));
        assert_eq!(claims.release(Task(2)), []);
        let mut free = claims.release(Task(1));
        free.sort_unstable();
        assert_eq!(free, [Task(3), Task(4)]);
        assert!(
            claims.release(Task(4)).is_empty() && claims.release(Task(3)).is_empty() && claims.is_empty()
        );
    }

    #[test]
    fn a_chain_goes_on_in_the_order_in_which_it_came() {
        let mut claims = Claims::default();
        let begins: Vec<bool> =
            (0..5).map(|task| claim(&mut claims, task, &format!("/d/{task}>/d/{}", task + 1))).collect();
        assert_eq!(begins, [true, false, false, false, false]);
        assert_eq!(claims.waiting_for(Task(0)), [Task(1)]);
        for task in 0..4 {
            assert_eq!(claims.release(Task(task)), [Task(task + 1)]);
        }
        assert!(claims.release(Task(4)).is_empty() && claims.is_empty());
    }
}
