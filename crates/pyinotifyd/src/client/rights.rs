//! What `doctor` says of the directories that file rules act on: whether we may write there, and what is mounted.
//!
//! Judged are the watched paths and the literal beginnings of `dst_re`, with the rights of whoever asks. What a sandbox
//! of the service takes away, and what lies deeper, cannot be seen from here.

use std::collections::BTreeSet;
use std::path::Path;

use engine::Reaction;
use files::Action;
use mounts::Mounts;
use rustix::fs::{Access, access};

use super::advice;
use super::doctor::{Finding, ok, problem, warning};
use super::show;
use crate::config::{Config, FileRule, Watch, Work, absolute_path, place};
use control::api::PathText;

/// Findings on all rules of a configuration, one for each directory and trouble.
pub(super) fn of_rules(config: &Config, mounts: &Mounts) -> Vec<Finding> {
    let (mut seen, mut all) = (BTreeSet::new(), Vec::new());
    for (index, rule) in rules(config) {
        let removes = rule.rule.action != Action::Copy;
        let watches = config.watches.iter().filter(|watch| removes && reaches(watch, index));
        let sources = watches.flat_map(|watch| &watch.paths).map(|path| absolute_path(path));
        let found = sources.filter_map(|path| source(&path, rule, mounts));
        all.extend(found.chain(mounted(rule, mounts)).chain(destination(rule, mounts)));
    }
    all.retain(|finding| seen.insert((finding.about, finding.text.clone())));
    all
}

/// The file rules, with the number of their scheduler.
fn rules(config: &Config) -> impl Iterator<Item = (usize, &FileRule)> {
    config.schedulers.iter().enumerate().flat_map(|(index, scheduler)| {
        let rules = match &scheduler.work {
            Work::Rules(rules) => rules.rules.as_slice(),
            Work::Job(_) | Work::Command(_) => &[],
        };
        rules.iter().map(move |rule| (index, rule))
    })
}

fn reaches(watch: &Watch, scheduler: usize) -> bool {
    watch.map.reactions.iter().any(|reactions| reactions.contains(&Reaction::Schedule(scheduler)))
}

/// A move and a deletion take a name out of the watched directory.
fn source(path: &[u8], rule: &FileRule, mounts: &Mounts) -> Option<Finding> {
    let directory = advice::bytes_path(path);
    let is_known = mounts.way(path).is_local() && directory.is_dir();
    (is_known && !may(directory, Access::WRITE_OK | Access::EXEC_OK)).then(|| {
        let (at, shown, action) =
            (place(rule.at.as_ref()), show::path(&PathText::of(path)), rule.rule.action);
        let text = format!("{at}'{shown}' cannot be written: the rule cannot {action} what is in it");
        problem("source", text, look_at(directory))
    })
}

fn mounted(rule: &FileRule, mounts: &Mounts) -> Option<Finding> {
    let wanted = rule.rule.mounted.as_ref()?;
    // As the action does, through links.
    let way = mounts.way(wanted);
    if way.path == way.mount.point {
        return None;
    }
    let (at, shown) = (place(rule.at.as_ref()), show::path(&PathText::of(wanted)));
    let text = format!("{at}'{shown}' is not mounted: the rule fails until it is");
    let mend = advice::as_root(&format!("mount {}", advice::path(advice::bytes_path(wanted))));
    Some(warning("mounted", text, mend))
}

/// The directory that all results of a rule are in.
fn destination(rule: &FileRule, mounts: &Mounts) -> Option<Finding> {
    let template = rule.template.as_ref().ok().filter(|_| rule.rule.action != Action::Delete)?;
    let literal = template.literal_prefix();
    // Without a slash, results are relative to what the pattern matched.
    let end = literal.iter().rposition(|byte| *byte == b'/').filter(|end| *end > 0)?;
    let path = &absolute_path(&literal[..end])[..];
    if !mounts.way(path).is_local() {
        return None;
    }
    let (at, shown) = (place(rule.at.as_ref()), show::path(&PathText::of(path)));
    let directory = advice::bytes_path(path);
    let existing = directory.ancestors().find(|path| path.exists())?;
    if existing != directory && !rule.rule.auto_create {
        let text = format!("{at}'{shown}' does not exist, and the rule does not make it (auto_create)");
        let mend = advice::in_directory(directory, &format!("mkdir -p {}", advice::path(directory)));
        return Some(warning("destination", text, mend));
    }
    if !may(existing, Access::WRITE_OK | Access::EXEC_OK) {
        let text = format!("{at}'{}' cannot be written", show::path(&PathText::of(existing_bytes(existing))));
        return Some(problem("destination", text, look_at(existing)));
    }
    Some(ok("destination", format!("'{shown}' can be written")))
}

fn existing_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// Whether we may do that, by whatever gives or takes the right.
pub(super) fn may(path: &Path, wanted: Access) -> bool {
    access(path, wanted).is_ok()
}

/// The command that shows who may do what, from the root on.
pub(super) fn look_at(path: &Path) -> String {
    format!("namei -l {}", advice::path(path))
}
