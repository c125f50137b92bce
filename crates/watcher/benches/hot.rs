//! The way of an event: bytes apart, directory found, path put together, told. And what a directory costs the tree.
//!
//! The tree itself is private; it is measured through a watcher on a temporary directory.

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event::{Event, Flag, Mask};
use watcher::decode::{RawEvent, encode, events};
use watcher::{Notice, Options, Sink, Turn, WatchId, WatchSpec, Watcher};

/// Takes everything and does nothing.
struct Nothing;

impl Sink for Nothing {
    fn event(&mut self, _watch: WatchId, event: &Event<'_>) {
        black_box(event.pathname);
    }

    fn renamed(&mut self, _: WatchId, _: &[u8], _: Option<&[u8]>) {}
    fn set_aside(&mut self, _: WatchId, _: &[u8], _: &[u8]) {}

    fn notice(&mut self, _notice: Notice<'_>) {}
}

/// A full queue of short names.
fn decode(criterion: &mut Criterion) {
    let mut bytes = Vec::new();
    let count = 16_384;
    for number in 0..count {
        let name = format!("file-{number}");
        encode(&RawEvent { wd: 1, mask: 0x100, cookie: 0, name: name.as_bytes() }, &mut bytes);
    }
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(count));
    group.bench_function("events", |bencher| {
        bencher.iter(|| events(black_box(&bytes)).map(|event| event.name.len()).sum::<usize>());
    });
    group.finish();
}

fn drain(watcher: &mut Watcher, mut now: Instant) {
    loop {
        match watcher.turn(now, &mut Nothing) {
            Turn::More => {}
            Turn::Pause(until) => now = until,
            Turn::Idle => return,
        }
    }
}

/// Files and directories made, renamed and removed; the kernel's own share is in it.
fn operations(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let top = dir.path().to_owned();
    let mut watcher = Watcher::new(Options::new(b"/".to_vec()), Instant::now()).expect("an instance");
    let spec =
        |interest: Mask| WatchSpec::trees(vec![top.clone().into_os_string().into_encoded_bytes()], interest);
    watcher.add(&spec(Flag::CloseWrite | Flag::MovedTo), Instant::now(), &mut Nothing).expect("few roots");
    let now = Instant::now();
    criterion.bench_function("file written", |bencher| {
        bencher.iter(|| {
            std::fs::write(top.join("f"), "").expect("writable");
            drain(&mut watcher, now);
        });
    });
    criterion.bench_function("file renamed", |bencher| {
        bencher.iter(|| {
            std::fs::rename(top.join("f"), top.join("g")).expect("is there");
            std::fs::rename(top.join("g"), top.join("f")).expect("is there");
            drain(&mut watcher, now);
        });
    });
    criterion.bench_function("directory made and removed", |bencher| {
        bencher.iter(|| {
            std::fs::create_dir(top.join("d")).expect("writable");
            drain(&mut watcher, now);
            std::fs::remove_dir(top.join("d")).expect("is there");
            drain(&mut watcher, now);
        });
    });
    for number in 0..1000 {
        std::fs::create_dir_all(top.join(format!("big/{number}"))).expect("writable");
    }
    drain(&mut watcher, now);
    criterion.bench_function("tree of 1000 directories renamed", |bencher| {
        bencher.iter(|| {
            std::fs::rename(top.join("big"), top.join("large")).expect("is there");
            std::fs::rename(top.join("large"), top.join("big")).expect("is there");
            drain(&mut watcher, now);
        });
    });
}

criterion_group!(benches, decode, operations);
criterion_main!(benches);
