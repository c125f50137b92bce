//! What a pattern costs on the way of an event: one rule, a thousand rules, a substitution.
//!
//! `cargo bench -p pattern`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pattern::{Pattern, PatternSet, Template};

const RULE: &[u8] = b"^/src/(?P<path>.*)\\.to_move$";
const PATH: &[u8] = b"/src/upload/2024/01/report-0000.to_move";

criterion_group!(benches, one_rule, other_engines, substitution, many_rules, loading);
criterion_main!(benches);

fn pattern(source: &[u8]) -> Pattern {
    Pattern::new(source).expect("the sources of this file are good")
}

fn one_rule(criterion: &mut Criterion) {
    let rule = pattern(RULE);
    let mut group = criterion.benchmark_group("is_match");
    let paths: [(&str, &[u8]); 5] = [
        ("match", PATH),
        ("wrong_prefix", b"/dst/upload/2024/01/report-0000.to_move"),
        ("wrong_suffix", b"/src/upload/2024/01/report-0000.to_copy"),
        ("newline_inside", b"/src/upload/2024/01/report\n0000.to_move"),
        ("utf8", "/src/upload/2024/01/bericht-über.to_move".as_bytes()),
    ];
    for (name, path) in paths {
        group.bench_function(name, |bencher| bencher.iter(|| rule.is_match(black_box(path))));
    }
    let prefix = pattern(b"^/src/skip");
    group.bench_function("prefix_only", |bencher| bencher.iter(|| prefix.is_match(black_box(PATH))));
    let words = pattern(b"^/home/(?P<user>\\w+)/in/(.*)\\.(pdf|jpe?g)$");
    let path = b"/home/someone/in/holiday/IMG_2024_0001.jpeg";
    group.bench_function("words", |bencher| bencher.iter(|| words.is_match(black_box(path))));
    group.finish();
}

fn other_engines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("backtracking");
    let not_utf8 = b"/src/upload/2024/01/report-\xff00.to_move";
    let cases: [(&str, &[u8], &[u8]); 4] = [
        ("not_utf8", br"^/src/(\w+)/(.*)\.to_move$", not_utf8),
        ("final_newline", RULE, b"/src/upload/2024/01/report-0000.to_move\n"),
        ("look_ahead", b"^/src/(?!skip)(.*)\\.to_move$", PATH),
        ("back_reference", b"^/src/(.*)/(.*)\\.(.*)\\1$", PATH),
    ];
    for (name, source, path) in cases {
        let pattern = pattern(source);
        group.bench_function(name, |bencher| bencher.iter(|| pattern.is_match(black_box(path))));
    }
    let nested = pattern(b"^/src/(?!x)(?:a+)+\\.x$");
    let mut path = b"/src/".to_vec();
    path.resize(250, b'a');
    path.extend_from_slice(b".y.x");
    group.bench_function("nested_repeats_250", |bencher| bencher.iter(|| nested.is_match(black_box(&path))));
    let hopeless = pattern(b"^/(a*)*\\1[bc]\\.x$");
    let path = b"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.x";
    assert!(hopeless.is_match(path).is_err());
    group.bench_function("gives_up", |bencher| bencher.iter(|| hopeless.is_match(black_box(path))));
    group.finish();
}

fn substitution(criterion: &mut Criterion) {
    let rule = pattern(RULE);
    let template = Template::new(b"/dst/\\g<path>", &rule).expect("the group is there");
    criterion.bench_function("sub", |bencher| bencher.iter(|| rule.sub_parts(&template, black_box(PATH))));
}

fn many_rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("first_match");
    for count in [1, 10, 100, 1_000] {
        let by_suffix = |index| format!("^/src/(?P<path>.*)\\.to_move{index:04}$");
        let by_directory = |index| format!("^/srv/customer{index:04}/in/(.*)$");
        let last = count - 1;
        let suffix_path = format!("/src/upload/2024/01/report-0000.to_move{last:04}");
        let directory_path = format!("/srv/customer{last:04}/in/report-0000.pdf");
        group.throughput(Throughput::Elements(1));
        for (name, source, path) in [
            ("by_suffix", &by_suffix as &dyn Fn(usize) -> String, suffix_path),
            ("by_directory", &by_directory, directory_path),
        ] {
            let set = PatternSet::new((0..count).map(|index| pattern(source(index).as_bytes())).collect());
            assert_eq!(set.first_match(path.as_bytes()), Ok(Some(last)));
            group.bench_with_input(BenchmarkId::new(name, count), path.as_bytes(), |bencher, path| {
                bencher.iter(|| set.first_match(black_box(path)));
            });
            group.bench_with_input(BenchmarkId::new(format!("{name}_none"), count), PATH, |bencher, path| {
                bencher.iter(|| set.first_match(black_box(path)));
            });
        }
    }
    group.finish();
}

fn loading(criterion: &mut Criterion) {
    criterion.bench_function("new", |bencher| bencher.iter(|| Pattern::new(black_box(RULE))));
    criterion.bench_function("new_and_first_match", |bencher| {
        bencher.iter(|| pattern(black_box(RULE)).is_match(black_box(PATH)));
    });
}
