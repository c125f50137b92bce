//! Which filesystems may be asked from this thread, and what is handed to others for that reason.
//!
//! A call on a path waits for whoever answers it. The watcher of the loop asks only filesystems that are known to be
//! local ([`mounts`]); what stands elsewhere it hands over to a watcher of that filesystem, which works on a thread
//! that may wait. A path of the configuration is handed over as a whole; of a tree, what is mounted inside.
//!
//! The table of mounts speaks of paths without links, the tree of paths as they were configured. A tree has no links
//! below its root, and a root knows where it leads from when it is opened, so that each is translated into the other
//! without asking. What is opened by its path is asked about by its path: links may lead elsewhere by now.
//!
//! The table is read again when the kernel says that it has changed, which is asked once a turn before the first call
//! on a path. The kernel does not say that mounts go along with a directory above that is renamed; the event of that
//! rename does. A directory of a tree is opened so that no mount is entered unawares (RESOLVE_NO_XDEV of openat2(2)):
//! one that the table does not have makes it be read again. For other calls what is mounted in between is the
//! exception: a window of a turn's length.
//!
//! Owns the table and what was handed over. Leaves to the caller of the crate to bring it where it belongs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::iter::{once, successors};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Instant, SystemTime};

use mounts::Mounts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Watcher;
use super::apart::APART;
use super::place::Kind;
use super::recover::SLACK;
use super::roots::Reason;
use crate::cover::{EMPTY, RootId};
use crate::path::{is_at_or_below, parent_and_name, rebased};
use crate::spec::{News, Sink, WatchId};
use crate::tree::NodeId;

/// A path of a watch that another watcher is to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    pub(crate) watch: WatchId,
    pub(crate) path: Vec<u8>,
    /// How much of the path is the configured one, and how that was given, where it is relative.
    pub(crate) root_len: usize,
    pub(crate) given: Option<Vec<u8>>,
    /// It is the configured path, followed if it is a link, and not something inside of its tree.
    pub(crate) is_root: bool,
    pub(crate) news: News,
}

/// Where a path leads that may not be asked about here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// The filesystem, or from [`APART`] on a tree that is watched apart.
    pub(crate) device: u64,
    /// Where that is mounted, or the tree.
    pub(crate) point: Vec<u8>,
}

impl Elsewhere {
    pub(crate) fn is_apart(&self) -> bool {
        self.device >= APART
    }
}

/// What changes hands.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// Another watcher is to watch it.
    Over(Handed, Elsewhere),
    /// It is not to watch it any more.
    Back { watch: WatchId, path: Vec<u8> },
    /// The tree there keeps the queue full.
    Apart { path: Vec<u8> },
    /// The mounts have changed. The kernel says so once, whoever asks first.
    MountsChanged,
}

/// A filesystem inside of a tree, handed over for these roots.
struct Inner {
    point: Vec<u8>,
    /// The same without links.
    real: Vec<u8>,
    to: Elsewhere,
    roots: Vec<RootId>,
}

/// See the module's head.
pub(super) struct Territory {
    /// `None` without /proc.
    mounts: Option<Mounts>,
    /// Where that is said.
    source: Option<OwnedFd>,
    /// Whether a change was asked for in this turn.
    is_fresh: bool,
    /// All filesystems may be asked.
    is_everywhere: bool,
    /// Mount points that may not be asked about.
    points: Vec<Vec<u8>>,
    /// Some root is reached through a link, so that paths of the tree may not be those of the table.
    pub(super) has_links: bool,
    inner: Vec<Inner>,
    /// Mount points of the table, and of those that were read before it since mounts were looked at last.
    seen: BTreeSet<Vec<u8>>,
    /// When they are looked at again.
    pub(super) check_at: Option<Instant>,
    /// Trees that are watched apart.
    apart: Vec<Elsewhere>,
    exchanges: Vec<Exchange>,
}

impl Territory {
    /// What is known to be local.
    pub(super) fn local() -> Territory {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        // Without /proc mounts are noticed late: when something else happens at the root.
        let source = rustix::fs::open("/proc/self/mountinfo", flags, Mode::empty()).ok();
        Territory { source, ..Territory::everywhere() }.confined()
    }

    fn confined(mut self) -> Territory {
        self.is_everywhere = false;
        self.read();
        self
    }

    /// Everything: for a thread that may wait.
    pub(super) fn everywhere() -> Territory {
        let mut territory = Territory {
            mounts: None,
            source: None,
            is_fresh: true,
            is_everywhere: true,
            points: Vec::new(),
            has_links: false,
            inner: Vec::new(),
            seen: BTreeSet::new(),
            check_at: None,
            apart: Vec::new(),
            exchanges: Vec::new(),
        };
        territory.read();
        territory
    }

    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(|source| source.as_fd())
    }

    /// Reads the table of mounts again.
    pub(super) fn read(&mut self) {
        self.mounts = Mounts::read().ok();
        let all = self.mounts.iter().flat_map(Mounts::iter);
        let remote = all.filter(|mount| !mount.is_local && !self.is_everywhere);
        self.points = remote.map(|mount| mount.point.clone()).collect();
        self.seen.extend(self.all_points());
    }

    pub(super) fn begin_turn(&mut self) {
        self.is_fresh = self.source.is_none();
    }

    /// Reads the table again if the kernel says that it has changed since the last call.
    fn refresh(&mut self) -> bool {
        if self.is_fresh {
            return false;
        }
        self.is_fresh = true;
        let Some(source) = &self.source else { return false };
        let mut fds = [PollFd::new(source, PollFlags::PRI)];
        let changed = poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
        if changed {
            self.read();
        }
        changed
    }

    /// Where the path leads, if that may not be asked about here.
    pub(super) fn elsewhere(&self, path: &[u8]) -> Option<Elsewhere> {
        if let Some(apart) = self.apart.iter().find(|apart| is_at_or_below(path, &apart.point)) {
            return Some(apart.clone());
        }
        self.remote(path)
    }

    /// The filesystem to which the path leads, if that may not be asked here.
    fn remote(&self, path: &[u8]) -> Option<Elsewhere> {
        if self.points.is_empty() {
            return None;
        }
        let mount = self.mounts.as_ref()?.way(path).mount;
        (!mount.is_local).then(|| Elsewhere { device: mount.device, point: mount.point.clone() })
    }

    /// The same for a path that has no links: links are not looked for.
    fn remote_without_links(&self, path: &[u8]) -> Option<Elsewhere> {
        let is_below = self.points.iter().any(|point| is_at_or_below(path, point));
        if is_below { self.remote(path) } else { None }
    }

    /// Type of the filesystem that a path leads to, if changes made elsewhere stay unseen there.
    pub(super) fn unseen(&self, path: &[u8]) -> Option<&'static str> {
        self.mounts.as_ref()?.way(path).mount.unseen()
    }

    /// Whether a directory of this device with two links is sure to have no subdirectories.
    pub(super) fn counts_subdirectories(&self, device: u64) -> bool {
        let mount = self.mounts.as_ref().and_then(|mounts| mounts.of_device(device));
        mount.is_some_and(mounts::Mount::counts_subdirectories)
    }

    /// Mount points, those that others hide included.
    fn all_points(&self) -> BTreeSet<Vec<u8>> {
        self.mounts.iter().flat_map(Mounts::iter).map(|mount| mount.point.clone()).collect()
    }

    /// Whether something is mounted below a path without links, or was.
    fn has_seen_below(&self, path: &[u8]) -> bool {
        let below = [path, b"/"].concat();
        self.seen.range(below.clone()..).next().is_some_and(|point| point.starts_with(&below))
    }

    /// Where something is mounted, or was when mounts were looked at last, or at some time since. The end of a mount
    /// whose filesystem is mounted elsewhere, too, makes no event.
    fn points_to_look_at(&mut self) -> BTreeSet<Vec<u8>> {
        let now = self.all_points();
        std::mem::replace(&mut self.seen, now)
    }

    /// Whether something may not be asked about below this path.
    pub(super) fn has_points_within(&self, path: &[u8]) -> bool {
        self.points.iter().any(|point| is_at_or_below(point, path))
    }

    pub(super) fn set_apart(&mut self, to: Elsewhere) {
        self.apart.push(to);
    }

    pub(super) fn take_in(&mut self, device: u64) {
        self.apart.retain(|apart| apart.device != device);
    }

    pub(super) fn is_everywhere(&self) -> bool {
        self.is_everywhere
    }

    /// Asks for a queue for a tree; for one at a time.
    pub(super) fn ask_apart(&mut self, path: Vec<u8>) {
        if !self.exchanges.iter().any(|exchange| matches!(exchange, Exchange::Apart { .. })) {
            self.exchanges.push(Exchange::Apart { path });
        }
    }

    pub(super) fn hand_over(&mut self, handed: Handed, to: Elsewhere) {
        self.exchanges.push(Exchange::Over(handed, to));
    }

    pub(super) fn take_back(&mut self, watch: WatchId, path: &[u8]) {
        self.exchanges.push(Exchange::Back { watch, path: path.to_vec() });
    }

    pub(super) fn exchanges(&mut self) -> Vec<Exchange> {
        std::mem::take(&mut self.exchanges)
    }
}

impl Watcher {
    /// Learns of mounts that came since the last turn, before a path is asked about.
    fn look_at_mounts(&mut self) {
        if self.territory.refresh() {
            self.mounts_changed(self.now);
        }
    }

    /// Where the path leads, if that may not be asked about here.
    pub(super) fn elsewhere(&mut self, path: &[u8]) -> Option<Elsewhere> {
        self.look_at_mounts();
        self.territory.elsewhere(path)
    }

    /// Whether the path of an entry of a tree, or of the directory itself if the name is empty, may be asked about. The
    /// tree is wrong about what may not; that is about to be noticed.
    pub(super) fn may_ask(&mut self, node: NodeId, name: &[u8]) -> bool {
        self.look_at_mounts();
        if self.territory.points.is_empty() {
            return true;
        }
        if self.path_in(node, name).is_none() {
            return false;
        }
        let path = self.paths.current();
        let is_behind_link = self.territory.has_links
            && self.root_above(node).is_none_or(|root| self.root(root).real.is_some());
        let remote = if is_behind_link {
            self.territory.remote(path)
        } else {
            self.territory.remote_without_links(path)
        };
        remote.is_none()
    }

    /// The same for whoever has the directory open: the path may lead elsewhere by now.
    pub(super) fn may_enter(&mut self, node: NodeId, name: &[u8]) -> bool {
        self.look_at_mounts();
        if self.territory.points.is_empty() {
            return true;
        }
        self.path_in(node, name).is_some()
            && self.territory.remote_without_links(&self.real_path(node)).is_none()
    }

    /// Whether an entry of a tree at which something is mounted may be entered. What the table does not have has been
    /// mounted since it was read, or has come with a directory.
    pub(super) fn may_cross(&mut self, node: NodeId, name: &[u8]) -> bool {
        if self.path_in(node, name).is_none() {
            return false;
        }
        if !self.territory.seen.contains(&*self.real_path(node)) {
            self.mounts_changed(self.now);
        }
        self.may_enter(node, name)
    }

    /// The path that was put together last, of this node or of an entry of it, as the table of mounts has it.
    fn real_path(&self, node: NodeId) -> Cow<'_, [u8]> {
        let path = self.paths.current();
        let root = if self.territory.has_links { self.root_above(node) } else { None };
        let root = root.map(|root| self.root(root));
        let real = root.and_then(|root| rebased(path, &root.path, root.real.as_ref()?));
        real.map_or(Cow::Borrowed(path), Cow::Owned)
    }

    /// A root to whose tree the node belongs: the nearest one above. Ancestors of roots have none.
    fn root_above(&self, node: NodeId) -> Option<RootId> {
        let mut above = successors(Some(node), |&node| self.tree.parent(node));
        above.find_map(|node| self.roots_at(node).first().copied())
    }

    /// The status of an entry, links not followed.
    pub(super) fn status_of(&mut self, node: NodeId, name: &[u8]) -> Result<Stat, Errno> {
        if !self.may_ask(node, name) {
            return Err(Errno::XDEV);
        }
        let path = self.path_in(node, name).ok_or(Errno::NOENT)?;
        rustix::fs::lstat(path)
    }

    /// Hands over what is mounted at an entry of a tree, if it may not be asked about here; true if so.
    pub(super) fn hand_over_inner(&mut self, parent: NodeId, name: &[u8], cover: u16, news: News) -> bool {
        self.look_at_mounts();
        if self.territory.points.is_empty() {
            return false;
        }
        let Some(point) = self.path_in(parent, name).map(<[u8]>::to_vec) else { return false };
        let real = self.real_path(parent).into_owned();
        let Some(elsewhere) = self.territory.remote_without_links(&real) else { return false };
        let known = self.tree.child(parent, name);
        let before = known.map_or(EMPTY, |known| self.tree.cover(known));
        let mut roots = self.covers.roots(cover).to_vec();
        roots.extend_from_slice(self.covers.roots(before));
        if let Some(known) = known.filter(|_| before != EMPTY) {
            self.doom(known);
        }
        for root in roots {
            self.hand_over_for(root, &point, &real, &elsewhere, news);
        }
        true
    }

    fn hand_over_for(&mut self, root: RootId, point: &[u8], real: &[u8], to: &Elsewhere, news: News) {
        let inner = &mut self.territory.inner;
        let at = inner.iter().position(|inner| inner.point == point).unwrap_or_else(|| {
            let (point, real) = (point.to_vec(), real.to_vec());
            inner.push(Inner { point, real, to: to.clone(), roots: Vec::new() });
            inner.len() - 1
        });
        if inner[at].roots.contains(&root) {
            return;
        }
        inner[at].roots.push(root);
        let this = self.root(root);
        let handed = Handed {
            watch: this.watch,
            path: point.to_vec(),
            root_len: this.path.len(),
            given: this.given.clone(),
            is_root: false,
            news,
        };
        // A path of the configuration stands there, too, and is handed over by itself.
        if !self.is_configured(handed.watch, point) {
            self.territory.hand_over(handed, to.clone());
        }
    }

    fn is_configured(&self, watch: WatchId, path: &[u8]) -> bool {
        let roots = self.watch(watch).map_or(&[][..], |watch| &watch.roots);
        roots.iter().any(|&root| self.root(root).path == path)
    }

    /// A root sees its tree no more: what was handed over for it comes back.
    pub(super) fn take_back_inner(&mut self, root: RootId) {
        for at in 0..self.territory.inner.len() {
            let inner = &mut self.territory.inner[at];
            let before = inner.roots.len();
            inner.roots.retain(|&other| other != root);
            if inner.roots.len() < before {
                let point = inner.point.clone();
                self.take_back_for(root, &point);
            }
        }
        self.territory.inner.retain(|inner| !inner.roots.is_empty());
    }

    fn take_back_for(&mut self, root: RootId, point: &[u8]) {
        let watch = self.root(root).watch;
        if !self.is_configured(watch, point) {
            self.territory.take_back(watch, point);
        }
    }

    /// A directory is renamed: what is mounted below goes along, of which the kernel says nothing else.
    pub(super) fn mounts_go_along(&mut self, node: NodeId) {
        if self.path_of(node).is_some() && self.territory.has_seen_below(&self.real_path(node)) {
            self.mounts_changed(self.now);
        }
    }

    /// What was handed over below a directory that has another path now is watched there, for the roots that see it.
    pub(super) fn take_inner_along(&mut self, node: NodeId, from: &[u8], kept: &[(RootId, RootId)]) {
        let is_below = |inner: &mut Inner| is_at_or_below(&inner.point, from);
        let along: Vec<Inner> = self.territory.inner.extract_if(.., is_below).collect();
        let Some(path) = self.path_of(node).map(<[u8]>::to_vec) else { return };
        let real_path = self.real_path(node).into_owned();
        for Inner { point, to, roots, .. } in along {
            let is_at = |path: &[u8]| rebased(&point, from, path).expect("it is below");
            let (now_at, real) = (is_at(&path), is_at(&real_path));
            let news = News::Since(SystemTime::now() - SLACK);
            for root in roots {
                self.take_back_for(root, &point);
                if let Some(&(_, seeing)) = kept.iter().find(|(before, _)| *before == root) {
                    self.hand_over_for(seeing, &now_at, &real, &to, news);
                }
            }
        }
    }

    /// Something was mounted or unmounted: in a moment, when the events of that are read, whatever could be concerned
    /// is compared with what stands there then.
    pub fn mounts_changed(&mut self, now: Instant) {
        self.territory.read();
        let exchanges = &mut self.territory.exchanges;
        if !exchanges.iter().any(|exchange| matches!(exchange, Exchange::MountsChanged)) {
            exchanges.push(Exchange::MountsChanged);
        }
        self.territory.check_at.get_or_insert(now + super::recover::MOUNT_DELAY);
    }

    pub(super) fn check_mounts(&mut self, sink: &mut impl Sink) {
        if self.territory.check_at.is_none_or(|due| self.now < due) {
            return;
        }
        self.territory.check_at = None;
        self.recheck_all_later(Reason::Moved);
        self.look_later(sink);
        self.check_inner(sink);
        // Those above first.
        let points = self.territory.points_to_look_at();
        let in_trees: BTreeSet<Vec<u8>> = points.iter().flat_map(|point| self.paths_of(point)).collect();
        for path in in_trees {
            self.check_mount_point(&path, sink);
        }
        self.open_parent = None;
        self.settle_roots(sink);
    }

    /// What was unmounted inside of trees has left a directory behind.
    fn check_inner(&mut self, sink: &mut impl Sink) {
        let territory = &mut self.territory;
        let is_gone = |inner: &mut Inner| territory.points.iter().all(|point| *point != inner.real);
        let gone: Vec<Inner> = territory.inner.extract_if(.., is_gone).collect();
        for inner in gone {
            for &root in &inner.roots {
                self.take_back_for(root, &inner.point);
            }
            let Some((parent, name)) = parent_and_name(&inner.point) else { continue };
            if let Some(parent) = self.tree.find(parent) {
                self.look_or_doubt(parent, name, Kind::Arrive, sink);
            }
        }
    }

    /// Where the tree has what the table of mounts calls so, if it has it.
    fn paths_of(&self, real: &[u8]) -> Vec<Vec<u8>> {
        let behind_links = self.roots.iter().flatten();
        let behind_links = behind_links.filter_map(|root| rebased(real, root.real.as_ref()?, &root.path));
        once(real.to_vec()).chain(behind_links).collect()
    }

    fn check_mount_point(&mut self, path: &[u8], sink: &mut impl Sink) {
        let Some(node) = self.tree.find(path) else { return };
        if self.tree.cover(node) == EMPTY || self.tree.has(node, crate::tree::ROOT) || self.tree.wd(node) == 0
        {
            return;
        }
        let Some(parent) = self.tree.parent(node) else { return };
        let name = self.tree.name(node).to_vec();
        if !self.hand_over_inner(parent, &name, EMPTY, News::Everything) {
            self.look_or_doubt(parent, &name, Kind::Arrive, sink);
        }
    }
}
