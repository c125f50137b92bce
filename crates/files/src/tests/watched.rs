//! What others who watch a destination see of an action (faults A15, B26).

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::*;
use crate::sys::fault;

/// A directory that is watched with inotify(7).
struct Watched(OwnedFd);

impl Watched {
    fn new(directory: &Path) -> Watched {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&inotify, directory, WatchFlags::ALL_EVENTS).unwrap();
        Watched(inotify)
    }

    /// Everything since the last call, as name and event.
    fn events(&self) -> Vec<(Vec<u8>, ReadFlags)> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut events = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_bytes().to_vec()).unwrap_or_default();
            events.push((name, event.events()));
        }
        events
    }
}

#[test]
fn a_result_is_not_closed_again_after_it_has_its_name() {
    let scene = Scene::new();
    let watched = Watched::new(&scene.path("out"));
    let done = AtomicBool::new(false);
    let mut written = HashMap::<Vec<u8>, u32>::new();
    std::thread::scope(|scope| {
        // As the daemon starts commands: each holds a copy of every descriptor for a moment.
        for _ in 0..2 {
            scope.spawn(|| {
                let null = fs::File::open("/dev/null").unwrap();
                while !done.load(Ordering::Relaxed) {
                    let stdin = std::os::fd::AsFd::as_fd(&null);
                    let pid = syscall::spawn::start(c"/bin/true", &[c"true"], &[], &[(stdin, 0)]).unwrap();
                    let pid = rustix::process::Pid::from_raw(pid);
                    rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
                }
            });
        }
        for number in 0..1_500 {
            let name = format!("f{number}");
            scene.write(&format!("in/{name}"), "content");
            scene.act(&rule(Action::Copy), &format!("in/{name}"), &format!("out/{name}")).done();
            for (name, events) in watched.events() {
                if events.contains(ReadFlags::CLOSE_WRITE) && !crate::is_temporary_name(&name) {
                    *written.entry(name).or_default() += 1;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(written, HashMap::new(), "closed under their final names");
}

#[test]
fn without_no_replace_a_result_is_seen_as_written() {
    let links: fn() -> fault::Plan = || fault::fail_all("renameat2", Errno::INVAL);
    let neither: fn() -> fault::Plan = || {
        Box::new(|_, call| match call {
            "renameat2" => Err(Errno::INVAL),
            "linkat" => Err(Errno::PERM),
            _ => Ok(()),
        })
    };
    for (what, plan) in [("links", links), ("neither", neither)] {
        for action in [Action::Copy, Action::Move] {
            let scene = Scene::in_memory();
            scene.write("in/f", "content");
            let watched = Watched::new(&scene.path("out"));
            let (outcome, _) = fault::with(plan(), || scene.act(&rule(action), "in/f", "out/f"));
            outcome.done();
            let events = watched.events();
            let seen = |wanted: ReadFlags| {
                events.iter().any(|(name, events)| name == b"f" && events.contains(wanted))
            };
            // As on other filesystems, where it is a rename.
            assert!(
                seen(ReadFlags::MOVED_TO) || seen(ReadFlags::CLOSE_WRITE),
                "{what}, {action}: {events:?}"
            );
        }
    }
}
