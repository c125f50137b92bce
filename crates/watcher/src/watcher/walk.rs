//! Walking directories: watched first, then listed, to any depth, a little at a time.
//!
//! A walk is a stack of frames, one a level. A frame lists its directory through a descriptor whose inode is the one
//! that the node's wd watches, remembers the subdirectories' names, and then visits them one by one, opening each
//! below the same descriptor. Between turns descriptors are closed (nothing may keep a filesystem from being
//! unmounted) except that of a listing under way; a frame that goes on opens its directory again and checks it.

use std::collections::VecDeque;
use std::mem::{Discriminant, MaybeUninit};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use event::{Flag, Mask};
use hashbrown::HashMap;
use rustix::fs::{AtFlags, FileType, RawDir};
use rustix::io::Errno;

use super::Watcher;
use super::arrive::{FoundFile, changed_since, entry_moved_since, moved_since};
use super::place::{DIRECTORY, Kind, Unopened, WAY, is_searchable, open_way};
use super::tell::Told;
use super::territory::Territory;
use crate::cover::{EMPTY, RootId};
use crate::kernel::Refusal;
use crate::spec::{News, Sink};
use crate::tree::{MOVING, NodeId, SEEN, STARVED, TOP, UNTOLD};

/// Bytes of one getdents64(2): some thousand entries.
pub(super) const LISTING_BYTES: usize = 32 * 1024;
/// Units of one walk until the next one has its turn: about a millisecond.
const SLICE_UNITS: u32 = 4096;
/// Times of files lag behind the clock by a tick of the kernel's timer (at most 10 ms).
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Walks that wait with their directory open; further ones open it again.
const OPEN_MAX: usize = 16;
/// Visiting a subdirectory costs about as much as so many events.
const VISIT_UNITS: u32 = 30;
/// Levels whose directories stay open at the same time; deeper ones are opened again on the way back.
const OPEN_LEVELS: usize = 32;

/// One walk.
pub(super) struct Walk {
    kind: Kind,
    /// The only root for which it is done; `None` for all that see the directory.
    audience: Option<RootId>,
    /// Since when events may be missing, if it is a part of looking at everything: also where that has found a
    /// directory that came to be here.
    missing_since: Option<SystemTime>,
    frames: Vec<Frame>,
    /// Names of subdirectories to be visited, one length byte before each; those of the deepest frame come last.
    names: Vec<u8>,
}

/// The directory where a walk begins, why it is walked, and for whom.
type WalkKey = (NodeId, Discriminant<Kind>, Option<RootId>);

/// Walks of single directories that wait for something: one for each directory and purpose, so that the number of
/// directories bounds them.
#[derive(Default)]
pub(super) struct Waiting(HashMap<WalkKey, Walk>);

impl Waiting {
    pub(super) fn insert(&mut self, walk: Walk) {
        self.0.entry(walk.key()).and_modify(|other| other.merge(&walk)).or_insert(walk);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Walk> {
        self.0.values()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Walk) -> bool) {
        self.0.retain(|_, walk| keep(walk));
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = Walk> + use<> {
        std::mem::take(&mut self.0).into_values()
    }
}

/// Walks under way. Trees have turns, not walks: however many walks a storm starts in one tree, another tree waits for
/// one slice of one of them.
#[derive(Default)]
pub(super) struct Walks {
    /// By the top of their tree; none is empty.
    queues: HashMap<NodeId, VecDeque<Walk>>,
    /// Whose turn is next.
    turns: VecDeque<NodeId>,
    len: usize,
}

impl Walks {
    pub(super) fn push(&mut self, tree: NodeId, mut walk: Walk) {
        if self.len >= OPEN_MAX {
            walk.close_unlisted();
        }
        let queue = self.queues.entry(tree).or_default();
        if queue.is_empty() {
            self.turns.push_back(tree);
        }
        queue.push_back(walk);
        self.len += 1;
    }

    /// The next walk of the tree whose turn it is, and that tree.
    fn pop(&mut self) -> Option<(NodeId, Walk)> {
        let tree = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&tree)?;
        let walk = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&tree);
        } else {
            self.turns.push_back(tree);
        }
        self.len -= 1;
        Some((tree, walk))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Walk> {
        self.queues.values().flatten()
    }

    /// Trees in which a part of a recovery is under way.
    pub(super) fn recovering(&self) -> impl Iterator<Item = NodeId> {
        let recovers = |queue: &VecDeque<Walk>| queue.iter().any(Walk::is_of_recovery);
        self.queues.iter().filter(move |(_, queue)| recovers(queue)).map(|(&tree, _)| tree)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Walk) -> bool) {
        for queue in self.queues.values_mut() {
            queue.retain(&keep);
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        self.turns.retain(|tree| self.queues.contains_key(tree));
        self.len = self.queues.values().map(VecDeque::len).sum();
    }

    fn close_unlisted(&mut self) {
        self.queues.values_mut().flatten().for_each(Walk::close_unlisted);
    }
}

/// One level of a walk.
pub(super) struct Frame {
    node: NodeId,
    wd: i32,
    fd: Option<OwnedFd>,
    state: FrameState,
    names_from: usize,
    next: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameState {
    /// Open as a way to its entries alone, which costs less than a listing's descriptor and makes no events.
    Way,
    Fresh,
    Listing,
    Listed,
}

impl Frame {
    pub(super) fn new(node: NodeId, wd: i32, fd: Option<OwnedFd>) -> Frame {
        Frame { node, wd, fd, state: FrameState::Fresh, names_from: 0, next: 0 }
    }
}

impl Walk {
    pub(super) fn new(frame: Frame, kind: Kind, audience: Option<RootId>) -> Walk {
        let missing_since = match kind {
            Kind::Recover { since } if audience.is_none() => Some(since),
            Kind::Add | Kind::Arrive | Kind::Recover { .. } | Kind::Rescan => None,
        };
        Walk { kind, audience, missing_since, frames: vec![frame], names: Vec::new() }
    }

    /// A walk of one directory for the same roots.
    fn part(&self, frame: Frame, kind: Kind) -> Walk {
        let walk = Walk::new(frame, kind, self.audience);
        Walk { missing_since: walk.missing_since.or(self.missing_since), ..walk }
    }

    pub(super) fn audience(&self) -> Option<RootId> {
        self.audience
    }

    /// The first frame's node and its wd.
    pub(super) fn top(&self) -> (NodeId, i32) {
        self.frames.first().map_or((TOP, 0), |frame| (frame.node, frame.wd))
    }

    /// What tells it from other walks that wait.
    fn key(&self) -> WalkKey {
        (self.top().0, std::mem::discriminant(&self.kind), self.audience)
    }

    /// Takes over what another walk with the same key was to do.
    fn merge(&mut self, other: &Walk) {
        if let (Kind::Recover { since }, Kind::Recover { since: other }) = (&mut self.kind, other.kind) {
            *since = (*since).min(other);
        }
        self.missing_since = self.missing_since.into_iter().chain(other.missing_since).min();
        // Of two watches that the node had one after the other the last one counts.
        for (frame, other) in self.frames.iter_mut().zip(&other.frames) {
            frame.wd = other.wd;
        }
    }

    /// A walk of the deepest frame's directory alone, for later.
    fn rest_of_frame(&self) -> Option<Walk> {
        let frame = self.frames.last()?;
        Some(self.part(Frame::new(frame.node, frame.wd, None), self.kind))
    }

    /// Things that it holds.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether it is a part of looking at everything.
    pub(super) fn is_of_recovery(&self) -> bool {
        self.missing_since.is_some()
    }

    pub(super) fn missing_since(&self) -> Option<SystemTime> {
        self.missing_since
    }

    /// Whether it is a part of setting up a root.
    pub(super) fn is_setting_up(&self) -> bool {
        self.kind == Kind::Add || (self.since().is_some() && self.audience.is_some())
    }

    /// Since when events may be missing, if it makes up for them.
    pub(super) fn since(&self) -> Option<SystemTime> {
        match self.kind {
            Kind::Recover { since } => Some(since),
            Kind::Add | Kind::Arrive | Kind::Rescan => None,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    fn push(&mut self, mut frame: Frame) {
        frame.names_from = self.names.len();
        frame.next = self.names.len();
        if let Some(at) = self.frames.len().checked_sub(OPEN_LEVELS) {
            self.frames[at].fd = None;
        }
        self.frames.push(frame);
    }

    fn pop(&mut self) {
        if let Some(frame) = self.frames.pop() {
            self.names.truncate(frame.names_from);
        }
    }

    /// Closes the directories of all frames but one that is being listed, whose place in the list would be lost; and
    /// but those that a limit keeps unwatched, which could not be told from others again.
    pub(super) fn close_unlisted(&mut self) {
        let idle = self.frames.iter_mut().filter(|frame| frame.state != FrameState::Listing && frame.wd != 0);
        idle.for_each(|frame| frame.fd = None);
    }

    /// Opens the deepest frame's directory for its listing. Where our rights don't let us enter it, its path is left.
    fn open_listing(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.fd = frame.fd.take().and_then(|way| open_way(way.as_fd()).ok());
        }
    }

    /// The next subdirectory of the deepest frame, as a range of `names`.
    fn next_name(&mut self) -> Option<std::ops::Range<usize>> {
        let frame = self.frames.last_mut()?;
        let len = usize::from(*self.names.get(frame.next)?);
        let range = frame.next + 1..frame.next + 1 + len;
        frame.next = range.end;
        Some(range)
    }
}

/// Whether a directory has no subdirectories, asked cheaply: where directories count their links, two mean none.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    device: u64,
    counted: bool,
}

impl Leaves {
    /// Whether the last directory that was asked counts its links: its neighbours do as well, as a rule.
    fn are_counted(&self) -> bool {
        self.counted
    }

    fn is_leaf(&mut self, dir: BorrowedFd<'_>, territory: &Territory) -> bool {
        let Ok(stat) = rustix::fs::fstat(dir) else { return false };
        if stat.st_dev != self.device {
            *self = Leaves { device: stat.st_dev, counted: territory.counts_subdirectories(stat.st_dev) };
        }
        self.counted && stat.st_nlink == 2
    }
}

/// An entry as the listing gives it.
struct Entry<'a> {
    name: &'a [u8],
    kind: FileType,
    inode: u64,
}

impl Watcher {
    /// Goes on with walks until all are done or the turn's units are used up, each for a while: no tree waits for
    /// another.
    pub(super) fn run_walks(&mut self, sink: &mut impl Sink) {
        while self.units > 0 {
            let Some((tree, mut walk)) = self.walks.pop() else { return };
            let kept = self.units.saturating_sub(SLICE_UNITS);
            if !self.run_walk(&mut walk, kept, sink) {
                walk.close_unlisted();
                self.walks.push(tree, walk);
            }
            // A walk that finds nothing to do costs something, too.
            self.spend(1);
            self.settle_roots(sink);
        }
        self.walks.close_unlisted();
    }

    /// Runs the first slice of a walk at once, if the turn has time for it: small trees are set up by it.
    pub(super) fn begin_set_up(&mut self, mut walk: Walk, sink: &mut impl Sink) {
        let kept = self.units.saturating_sub(SLICE_UNITS);
        if !self.run_walk(&mut walk, kept, sink) {
            walk.close_unlisted();
            let tree = self.tree_of(walk.top().0);
            self.walks.push(tree, walk);
        }
    }

    /// The top of the tree that a directory belongs to: the uppermost directory above it that some root sees.
    pub(super) fn tree_of(&self, node: NodeId) -> NodeId {
        let mut top = node;
        while let Some(parent) = self.tree.parent(top).filter(|&parent| self.tree.cover(parent) != EMPTY) {
            top = parent;
        }
        top
    }

    /// Goes on with a walk until no more than `kept` of the turn's units are left; true when the walk is done.
    fn run_walk(&mut self, walk: &mut Walk, kept: u32, sink: &mut impl Sink) -> bool {
        // What was cut off since the last turn is of no use, and the roots that saw it may be gone.
        while walk.frames.last().is_some_and(|frame| !self.is_reachable(frame.node)) {
            walk.pop();
        }
        while let Some(frame) = walk.frames.last() {
            if self.units <= kept {
                return false;
            }
            let node = frame.node;
            // The watch is gone, or the number has another node by now: its events have told or will tell.
            if frame.wd != self.tree.wd(node) {
                walk.pop();
                continue;
            }
            if !self.reopen(walk) {
                continue;
            }
            let state = walk.frames.last().expect("it is open").state;
            match state {
                FrameState::Way | FrameState::Fresh if !self.needs_listing(walk) => walk.pop(),
                FrameState::Way => walk.open_listing(),
                FrameState::Fresh | FrameState::Listing => self.list_some(walk, sink),
                FrameState::Listed => match walk.next_name() {
                    Some(range) => {
                        let name = walk.names[range].to_vec();
                        self.visit(walk, &name, sink);
                    }
                    None => walk.pop(),
                },
            }
        }
        true
    }

    /// Makes sure that the deepest frame's directory is open.
    fn reopen(&mut self, walk: &mut Walk) -> bool {
        let frame = walk.frames.last_mut().expect("a running walk has a frame");
        if frame.fd.is_some() {
            return true;
        }
        if frame.wd == 0 {
            walk.pop();
            return false;
        }
        // A listing whose descriptor was lost begins again; told twice is better than not at all.
        if frame.state != FrameState::Listed {
            frame.state = FrameState::Fresh;
        }
        let node = frame.node;
        match self.open_dir(node) {
            Ok(fd) => {
                walk.frames.last_mut().expect("is still there").fd = Some(fd);
                true
            }
            Err(unopened) => {
                match unopened {
                    Unopened::Failed(errno) if Refusal::of(errno) != Refusal::Gone => {
                        self.starve_walk(walk.rest_of_frame(), errno);
                        walk.pop();
                    }
                    Unopened::Failed(_) | Unopened::ParentElsewhere => self.put_walk_off(walk),
                }
                false
            }
        }
    }

    /// Whether a directory has anything for this walk.
    fn needs_listing(&mut self, walk: &mut Walk) -> bool {
        let frame = walk.frames.last_mut().expect("a running walk has a frame");
        frame.state = FrameState::Listing;
        let node = frame.node;
        if walk.kind != Kind::Add {
            if walk.since().is_some() {
                self.mark_unseen(node);
            }
            return true;
        }
        let descends = self.descending(walk.kind, node, walk.audience) != EMPTY;
        let fd = frame.fd.as_ref().expect("was opened");
        descends && !self.leaves.is_leaf(fd.as_fd(), &self.territory)
    }

    fn mark_unseen(&mut self, node: NodeId) {
        let children: Vec<NodeId> = self.tree.children(node).collect();
        for child in children {
            self.tree.clear(child, SEEN);
        }
    }

    /// The roots that follow this walk from a directory into its subdirectories.
    fn descending(&mut self, kind: Kind, node: NodeId, audience: Option<RootId>) -> u16 {
        let cover = self.tree.cover(node);
        let follows = |root: RootId| match (kind, audience) {
            (Kind::Add, _) => audience == Some(root) && self.root(root).descends(),
            (_, Some(only)) => {
                let this = self.root(root);
                only == root && (this.descends() || (this.takes_new() && !this.shallow))
            }
            (_, None) => self.root(root).takes_new(),
        };
        let roots = self.covers.roots(cover);
        if roots.iter().all(|&root| follows(root)) {
            return cover;
        }
        let keep: Vec<RootId> = roots.iter().copied().filter(|&root| follows(root)).collect();
        self.intern(keep)
    }

    /// Lists as much as one getdents64(2) gives.
    fn list_some(&mut self, walk: &mut Walk, sink: &mut impl Sink) {
        let frame = walk.frames.last_mut().expect("a running walk has a frame");
        let node = frame.node;
        let fd = frame.fd.take().expect("was opened");
        let tells = walk.kind != Kind::Add;
        let mut bytes = std::mem::take(&mut self.listing);
        bytes.resize(LISTING_BYTES, MaybeUninit::uninit());
        let mut listing = RawDir::new(fd.as_fd(), &mut bytes);
        let mut is_first = true;
        let ended = loop {
            // A directory that can't be listed to its end is treated as ended: it is being removed.
            let Some(Ok(entry)) = listing.next() else { break true };
            // An entry that was made after a rename of which we don't know yet must not be told under the old path.
            if std::mem::take(&mut is_first) && tells {
                if !self.path_is(node, fd.as_fd()) {
                    self.listing = bytes;
                    return self.put_walk_off(walk);
                }
                if walk.kind != Kind::Rescan && !is_searchable(fd.as_fd()) {
                    self.listing = bytes;
                    self.say_cannot_watch(node, Errno::ACCESS, sink);
                    self.shut(node, fd.as_fd());
                    return walk.pop();
                }
            }
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let entry = Entry { name, kind: entry.file_type(), inode: entry.ino() };
                self.spend(1);
                self.listed(walk, node, fd.as_fd(), &entry, sink);
            }
            if listing.is_buffer_empty() {
                break false;
            }
        };
        self.listing = bytes;
        let frame = walk.frames.last_mut().expect("listing pushes and pops no frame");
        frame.fd = Some(fd);
        if ended {
            frame.state = FrameState::Listed;
            if walk.since().is_some() {
                self.doubt_unseen(node);
            }
        }
    }

    /// Whether the node's path leads to the open directory. Its inode can't be used again while it is open.
    fn path_is(&mut self, node: NodeId, dir: BorrowedFd<'_>) -> bool {
        if !self.may_ask(node, b"") {
            return false;
        }
        let Some(path) = self.path_of(node) else { return false };
        let (Ok(there), Ok(here)) = (rustix::fs::stat(path), rustix::fs::fstat(dir)) else { return false };
        (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
    }

    /// The path leads elsewhere because events are queued: the directory is walked when they are read.
    fn put_walk_off(&mut self, walk: &mut Walk) {
        if let Some(rest) = walk.rest_of_frame() {
            self.put_off(rest);
        }
        walk.pop();
    }

    /// Subdirectories that the listing of a recovery did not find are gone, or events that are queued say where they
    /// are.
    fn doubt_unseen(&mut self, node: NodeId) {
        let unseen = self.tree.children(node).filter(|&child| !self.tree.has(child, SEEN));
        for child in unseen.collect::<Vec<_>>() {
            self.tree.set(child, SEEN);
            self.unstarve(child);
            if self.has_room_for_doubts() {
                self.doubt_node(child);
            } else if !self.tree.has(child, crate::tree::ROOT | crate::tree::GUARD) {
                // Another look at everything would come to the same end.
                self.doom(child);
            }
        }
    }

    fn listed(
        &mut self,
        walk: &mut Walk,
        node: NodeId,
        dir: BorrowedFd<'_>,
        entry: &Entry<'_>,
        sink: &mut impl Sink,
    ) {
        if self.is_elsewhere(walk, node, entry.name) {
            return;
        }
        let kind = match entry.kind {
            // Some filesystems don't say.
            FileType::Unknown => match rustix::fs::statat(dir, entry.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(_) => return,
            },
            kind => kind,
        };
        let is_own = self.is_own(node, entry.name);
        if kind != FileType::Directory {
            let is_told = walk.kind != Kind::Add && !self.is_no_news(walk, node, entry.name);
            if is_told && !is_own {
                let found = FoundFile { node, dir, name: entry.name, kind, inode: entry.inode };
                self.file_found(walk, &found, sink);
            }
            return;
        }
        if is_own {
            return;
        }
        if self.directory_found(walk, node, dir, entry, sink) {
            walk.names.push(entry.name.len() as u8);
            walk.names.extend_from_slice(entry.name);
        }
    }

    /// Whether something stands at an entry that may not be asked about here: it is handed over.
    fn is_elsewhere(&mut self, walk: &Walk, node: NodeId, name: &[u8]) -> bool {
        if self.may_enter(node, name) {
            return false;
        }
        if walk.kind == Kind::Rescan {
            // Whoever watches it was asked, too.
            return true;
        }
        let descending = self.descending(walk.kind, node, walk.audience);
        let roots = self.admitting(descending, node, name);
        let cover = self.intern(roots);
        let news = match walk.kind {
            Kind::Add => News::Since(SystemTime::now() - TICK),
            _ if self.is_no_news(walk, node, name) => News::Since(SystemTime::now() - TICK),
            Kind::Arrive | Kind::Recover { .. } | Kind::Rescan => News::Everything,
        };
        self.hand_over_inner(node, name, cover, news);
        true
    }

    /// Whether an entry was seen by watches that are passed over, and is found for another one that begins.
    fn is_no_news(&self, walk: &Walk, node: NodeId, name: &[u8]) -> bool {
        let root = walk.audience.filter(|_| walk.kind != Kind::Rescan);
        root.is_some_and(|root| self.was_seen(root, node, || self.tree.child(node, name)))
    }

    /// A subdirectory of a listing: told, and given a node so that its renames are followed from here on. True if it
    /// is to be visited.
    fn directory_found(
        &mut self,
        walk: &Walk,
        node: NodeId,
        dir: BorrowedFd<'_>,
        entry: &Entry<'_>,
        sink: &mut impl Sink,
    ) -> bool {
        let known = self.tree.child(node, entry.name);
        let is_new = walk.since().is_none_or(|since| changed_since(dir, entry.name, since));
        let told = match walk.kind {
            Kind::Add => false,
            // Known ones were told when they became known; a root's watch knows nothing of what others know.
            Kind::Arrive => known.is_none() || walk.audience.is_some(),
            Kind::Recover { .. } => known.is_none() && is_new,
            Kind::Rescan => true,
        };
        if let Some(known) = known {
            self.tree.set(known, SEEN);
        }
        if told && !self.is_no_news(walk, node, entry.name) {
            self.tell_created(node, entry.name, Mask::ISDIR, entry.inode, walk.audience, sink);
        }
        let cover = self.cover_of_visit(walk, node, entry.name, is_new);
        if cover != EMPTY && known.is_none() {
            let arrives = match walk.kind {
                Kind::Add | Kind::Rescan => false,
                Kind::Arrive => true,
                // Of a watch's first walk this is decided when it is visited.
                Kind::Recover { since } => {
                    walk.audience.is_none()
                        && is_new
                        && (self.is_known_whole(cover) || entry_moved_since(dir, entry.name, since))
                }
            };
            let found = self.insert(node, entry.name, cover);
            if arrives {
                self.tree.set(found, UNTOLD);
            }
        }
        cover != EMPTY
    }

    /// Whether one of these roots has had all that was there before in the tree. What is not there came later.
    fn is_known_whole(&self, cover: u16) -> bool {
        let roots = self.covers.roots(cover).iter().map(|&root| self.root(root));
        roots.into_iter().any(|root| root.descends() && root.is_set_up())
    }

    /// Tells the creation of an entry that was found, once.
    pub(super) fn tell_created(
        &mut self,
        node: NodeId,
        name: &[u8],
        extra: Mask,
        inode: u64,
        audience: Option<RootId>,
        sink: &mut impl Sink,
    ) {
        // During a recovery the kernel's own event may have been told before the overflow.
        if self.recovery.runs() && self.creations.was_created(node, name) {
            return;
        }
        let told = Told::arrival(Flag::Create.mask() | extra, name, audience);
        self.paths.told_clear();
        self.tell(node, &told, sink);
        // An event that other watches have still to be told must not be swallowed.
        if audience.is_none() || self.covers.roots(self.tree.cover(node)).len() == 1 {
            self.creations.arrived(node, name, inode);
        }
    }

    /// Watches a subdirectory and goes down into it.
    fn visit(&mut self, walk: &mut Walk, name: &[u8], sink: &mut impl Sink) {
        self.spend(VISIT_UNITS);
        let frame = walk.frames.last().expect("a running walk has a frame");
        let parent = frame.node;
        let known = self.tree.child(parent, name);
        // Renamed or deleted since it was listed: events have told. Where they are missing, the directory of this name
        // was found elsewhere, and another one stands here.
        if (known.is_none() && !walk.is_of_recovery()) || self.is_elsewhere(walk, parent, name) {
            return;
        }
        let cover = self.cover_of_visit(walk, parent, name, true);
        // Watched by all who see it: other events have brought it, with a walk of its own.
        let joins = walk.since().is_some() || walk.audience.is_some();
        let is_complete = known.is_some_and(|node| {
            self.tree.wd(node) != 0 && self.tree.cover(node) == cover && !self.tree.has(node, UNTOLD)
        });
        if cover == EMPTY || (is_complete && !joins) {
            return;
        }
        let node = known.unwrap_or_else(|| self.insert_untold(parent, name, cover));
        self.covers.assign(&mut self.tree, node, cover);
        let frame = walk.frames.last().expect("is still there");
        let dir = frame.fd.as_ref().expect("was opened").as_fd();
        // Most directories that are set up are leaves and not listed.
        let (flags, state) = if walk.kind == Kind::Add && self.leaves.are_counted() {
            (WAY, FrameState::Way)
        } else {
            (DIRECTORY, FrameState::Fresh)
        };
        match self.enter(parent, dir, name, flags) {
            // Mounted since the table of mounts was read, or it came along with a directory.
            Err(Errno::XDEV) if self.is_elsewhere(walk, parent, name) => {}
            Ok(object) => self.visit_open(walk, node, object, state, sink),
            Err(errno) => self.refused(node, errno, sink),
        }
    }

    /// Who sees a subdirectory that is visited. A recovery comes by directories that a watch leaves out on purpose:
    /// those that were there before it.
    pub(super) fn cover_of_visit(&mut self, walk: &Walk, parent: NodeId, name: &[u8], is_new: bool) -> u16 {
        let before = self.tree.child(parent, name).map_or(EMPTY, |known| self.tree.cover(known));
        if walk.kind == Kind::Rescan {
            let sees = |only| self.covers.roots(before).contains(&only);
            return if walk.audience.is_some_and(sees) { before } else { EMPTY };
        }
        let following = self.descending(walk.kind, parent, walk.audience);
        let count = self.covers.roots(following).len();
        let mut roots = self.admitting(following, parent, name);
        let is_new = is_new && (walk.since().is_none() || before == EMPTY);
        roots.retain(|&root| is_new || self.root(root).descends());
        if roots.len() == count && before == EMPTY {
            return following;
        }
        if roots.is_empty() {
            return if walk.since().is_some() { before } else { EMPTY };
        }
        roots.extend_from_slice(self.covers.roots(before));
        self.intern(roots)
    }

    /// How a walk enters a directory that is new where it was found, or that it could not enter before. To a recovery
    /// it may come from another tree, where more may be missing.
    fn kind_of_new(&self, walk: &Walk, node: NodeId, object: BorrowedFd<'_>) -> Kind {
        let Kind::Recover { since } = walk.kind else { return walk.kind };
        if self.tree.has(node, UNTOLD) || (walk.audience.is_some() && moved_since(object, since)) {
            return Kind::Arrive;
        }
        let starved = self.starved.since.filter(|_| self.tree.has(node, STARVED));
        let anywhere = self.recovery.missing_since().filter(|_| walk.is_of_recovery());
        Kind::Recover { since: [starved, anywhere].into_iter().flatten().fold(since, SystemTime::min) }
    }

    /// The node of a directory that a recovery has found at a new name, and that the tree has at another one: the
    /// events of its rename are missing. None where another directory has the old name by now: whose tasks wait there
    /// cannot be told, so that both are told as arrivals.
    fn missed_mover(&mut self, walk: &Walk, found: NodeId, wd: i32) -> Option<NodeId> {
        if !walk.is_of_recovery() || !self.recovery.runs() || self.tree.by_wd(wd).is_none() {
            return None;
        }
        let parent = self.tree.parent(found)?;
        self.tree.all_by_wd(wd).into_iter().find(|&node| {
            self.tree.cover(node) != EMPTY
                && self.is_reachable(node)
                && !self.tree.is_at_or_above(node, parent)
                && self.has_its_name_alone(node)
                && !self.path_leads_to(node)
                // Or it was its parent that was renamed.
                && self.tree.parent(node).is_some_and(|parent| self.path_leads_to(parent))
        })
    }

    fn has_its_name_alone(&self, node: NodeId) -> bool {
        let parent = self.tree.parent(node);
        let named = parent.and_then(|parent| self.tree.child(parent, self.tree.name(node)));
        named.is_none_or(|named| named == node)
    }

    /// Makes up for a rename whose events are missing, now that a walk has found the directory of `mover` at the name
    /// of another node. Gives the node that it has from here on.
    fn make_up_rename(
        &mut self,
        mover: NodeId,
        found: NodeId,
        wd: i32,
        sink: &mut impl Sink,
    ) -> Option<NodeId> {
        let parent = self.tree.parent(found)?;
        let name = self.tree.name(found).to_vec();
        self.tree.set_wd(found, wd);
        self.doubt_node(mover);
        self.arrive_at(mover, parent, &name, sink);
        self.tree.child(parent, &name).filter(|&node| self.tree.wd(node) == wd)
    }

    fn visit_open(
        &mut self,
        walk: &mut Walk,
        known: NodeId,
        object: OwnedFd,
        state: FrameState,
        sink: &mut impl Sink,
    ) {
        let before = self.tree.wd(known);
        match self.kernel.add(object.as_fd(), self.mask_for(known)) {
            Ok(wd) => {
                let mover = if before == 0 { self.missed_mover(walk, known, wd) } else { None };
                let node = if let Some(mover) = mover {
                    let Some(node) = self.make_up_rename(mover, known, wd, sink) else { return };
                    node
                } else if before == 0 || wd == before {
                    known
                } else if walk.kind == Kind::Rescan {
                    return self.replace(known, object, wd, Kind::Arrive);
                } else {
                    let Some(other) = self.make_way(known, wd, Some(walk)) else { return };
                    other
                };
                self.tree.set_wd(node, wd);
                self.tree.clear(node, MOVING);
                let is_entered_anew = before != wd || self.tree.has(node, UNTOLD);
                if let Some(only) = walk.audience.filter(|_| is_entered_anew) {
                    // A walk for all that see it passes by directories that are watched already.
                    let mut others = self.covers.roots(self.tree.cover(node)).to_vec();
                    others.retain(|&root| root != only && self.root(root).is_set_up());
                    self.found_again(node, Kind::Arrive, others);
                }
                match walk.kind {
                    // All of a new watch's are fresh; a list of them would be long.
                    Kind::Add => self.fresh.lose(),
                    Kind::Arrive | Kind::Recover { .. } | Kind::Rescan => self.fresh.found(node),
                }
                // To a watch's first walk all is new, whoever watches it already.
                let is_new = is_entered_anew || walk.audience.is_some();
                let kind = if is_new { self.kind_of_new(walk, node, object.as_fd()) } else { walk.kind };
                self.tree.clear(node, UNTOLD);
                self.unstarve(node);
                // What is open as a way alone cannot be listed by another walk.
                debug_assert!(kind == walk.kind || state == FrameState::Fresh);
                if kind == walk.kind {
                    walk.push(Frame { state, ..Frame::new(node, wd, Some(object)) });
                } else {
                    let tree = self.tree_of(node);
                    self.walks.push(tree, walk.part(Frame::new(node, wd, Some(object)), kind));
                }
            }
            Err(errno) => {
                self.refused(known, errno, sink);
                // What a limit refuses is counted to its last directory, so that the notice can say what is needed.
                if walk.kind == Kind::Add && Refusal::of(errno) == Refusal::Limit {
                    walk.push(Frame { state, ..Frame::new(known, 0, Some(object)) });
                }
            }
        }
    }
}
