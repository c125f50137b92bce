//! What `doctor` says of the directories that file rules act on: whether we may write there, and what is mounted.
//!
//! Judged are the watched paths in which a rule's `src_re` can match, the literal beginnings of `dst_re`, and trashes,
//! with the rights of whoever asks. What a sandbox of the service takes away, and what lies deeper, cannot be seen from
//! here.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use files::{Action, Conflict};
use mounts::Mounts;
use pattern::Pattern;
use rustix::fs::{Access, access};

use super::advice;
use super::doctor::{Finding, ok, problem, warning};
use super::show;
use crate::config::{Config, FileRule, Work, absolute_path, place, scheduled};
use control::api::PathText;

/// Findings on all rules of a configuration, one for each directory and trouble.
pub(super) fn of_rules(config: &Config, mounts: &Mounts) -> Vec<Finding> {
    let (mut seen, mut all) = (BTreeSet::new(), Vec::new());
    for (index, pattern, rule) in rules(config) {
        let watches =
            config.watches.iter().filter(|watch| scheduled(watch).any(|scheduler| scheduler == index));
        let roots = watches.flat_map(|watch| &watch.paths).map(|path| absolute_path(path));
        let sources: Vec<Vec<u8>> = roots.filter_map(|root| acts_in(pattern, root)).collect();
        if rule.rule.action != Action::Copy {
            all.extend(sources.iter().filter_map(|path| source(path, rule, mounts)));
        }
        // What lies below a mount point means nothing while nothing is mounted there.
        all.extend(mounted(rule, mounts).or_else(|| destination(rule, mounts)));
        all.extend(trash(rule, &sources, mounts));
    }
    all.retain(|finding| seen.insert((finding.about, finding.text.clone())));
    all
}

/// The file rules with their patterns, each with the number of its scheduler.
fn rules(config: &Config) -> impl Iterator<Item = (usize, &Pattern, &FileRule)> {
    config.schedulers.iter().enumerate().flat_map(|(index, scheduler)| {
        let rules = match &scheduler.work {
            Work::Rules(rules) => Some(rules),
            Work::Job(_) | Work::Command(_) => None,
        };
        let rules = rules.into_iter().flat_map(|rules| rules.patterns.patterns().iter().zip(&rules.rules));
        rules.map(move |(pattern, rule)| (index, pattern, rule))
    })
}

/// The directory at or below a watched path that is known to hold what a rule acts on.
fn acts_in(pattern: &Pattern, root: Vec<u8>) -> Option<Vec<u8>> {
    let named = pattern.prefix();
    let named = &named[..named.iter().rposition(|byte| *byte == b'/')?];
    let is_below = named.strip_prefix(&root[..]).is_some_and(|rest| rest.starts_with(b"/"));
    let directory = if is_below { named.to_vec() } else { root };
    pattern.may_match_in(&directory).then_some(directory)
}

/// A move and a deletion take a name out of the directory.
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
fn result_directory(rule: &FileRule) -> Option<Vec<u8>> {
    // The root directory alone says nothing of where results go.
    rule.destination().filter(|directory| *directory != b"/").map(absolute_path)
}

fn destination(rule: &FileRule, mounts: &Mounts) -> Option<Finding> {
    let path = &result_directory(rule)?[..];
    if !mounts.way(path).is_local() {
        return None;
    }
    let (at, shown) = (place(rule.at.as_ref()), show::path(&PathText::of(path)));
    let directory = advice::bytes_path(path);
    if !directory.exists() && !rule.rule.auto_create {
        let text = format!(
            "{at}'{shown}' does not exist, and the rule does not make it (auto_create), or it is not mounted"
        );
        let mend = advice::in_directory(directory, &format!("mkdir -p {}", advice::path(directory)));
        return Some(warning("destination", text, mend));
    }
    Some(match room_for(directory) {
        Ok(room) => ok("destination", format!("'{shown}' {room}")),
        Err((why, mend)) => problem("destination", at + &why, mend),
    })
}

/// The trash of a rule that puts something into it.
fn trash(rule: &FileRule, sources: &[Vec<u8>], mounts: &Mounts) -> Option<Finding> {
    let trash = rule.rule.trash.as_ref()?;
    let lost_in = match (rule.rule.action, rule.rule.on_conflict) {
        (Action::Delete, _) => sources.to_vec(),
        (Action::Move | Action::Copy, Conflict::Overwrite | Conflict::Newer) => {
            result_directory(rule).into_iter().collect()
        }
        (Action::Move | Action::Copy, _) => return None,
    };
    let shown = show::path(&PathText::of(trash));
    let mount = mounts.way(trash).mount;
    let fstype = String::from_utf8_lossy(&mount.fstype);
    if !mount.is_local {
        return Some(ok("trash", format!("'{shown}' is on {fstype}, which is not asked")));
    }
    Some(match room_for(advice::bytes_path(trash)) {
        Ok(room) => {
            let other = lost_in.iter().find(|path| mounts.way(path).mount.device != mount.device);
            let copied = other.map_or_else(String::new, |path| {
                let path = show::path(&PathText::of(path));
                format!("; what is lost in '{path}' is copied there, from another filesystem")
            });
            ok("trash", format!("'{shown}' {room}, on {fstype}{copied}"))
        }
        Err((why, mend)) => problem("trash", place(rule.at.as_ref()) + &why, mend),
    })
}

/// What can be said of a directory that is there or is to be made.
///
/// # Errors
/// What is in the way, and the command that shows it.
pub(super) fn room_for(directory: &Path) -> Result<&'static str, (String, String)> {
    let shown = |path: &Path| show::path(&PathText::of(path.as_os_str().as_bytes()));
    let existing = directory.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(directory);
    let why = match existing {
        existing if !existing.is_dir() => "is no directory",
        existing if !may(existing, Access::WRITE_OK | Access::EXEC_OK) => "cannot be written",
        existing => return Ok(if existing == directory { "can be written" } else { "can be made" }),
    };
    let why = format!("'{}' {why}", shown(existing));
    let text =
        if existing == directory { why } else { format!("'{}' cannot be made: {why}", shown(directory)) };
    Err((text, look_at(directory)))
}

/// Whether we may do that, by whatever gives or takes the right.
pub(super) fn may(path: &Path, wanted: Access) -> bool {
    access(path, wanted).is_ok()
}

/// The command that shows who may do what, from the root on.
pub(super) fn look_at(path: &Path) -> String {
    format!("namei -l {}", advice::path(path))
}
