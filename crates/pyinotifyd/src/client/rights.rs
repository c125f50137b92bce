//! What `doctor` says of the directories that file rules act on: whether we may write there, and what is mounted.
//!
//! Judged are the watched paths in which a rule's `src_re` can match, the literal beginnings of `dst_re`, and trashes,
//! with the rights of whoever asks. What a sandbox of the service takes away, and what lies deeper, cannot be seen from
//! here.

use std::collections::BTreeSet;
use std::path::Path;

use control::api::PathText;
use files::Action;
use mounts::Mounts;
use rustix::fs::{Access, access};

use super::advice;
use super::doctor::{Finding, ok, problem, warning};
use super::show;
use crate::config::{Config, NoRoom, Obstacle, Placed, Room, Trouble, placed, room_for};

/// Findings on all rules of a configuration, one for each directory and trouble.
pub(super) fn of_rules(config: &Config, mounts: &Mounts) -> Vec<Finding> {
    let (mut seen, mut all) = (BTreeSet::new(), Vec::new());
    for rule in placed(config) {
        if !rule.is_reached {
            all.push(warning("rule", rule.place() + &rule.unreached(), edit(&rule)));
            continue;
        }
        if rule.rule.rule.action != Action::Copy {
            all.extend(rule.sources.iter().filter_map(|path| source(path, &rule, mounts)));
        }
        all.extend(rule.destination(mounts).map(|(path, judged)| destination(&rule, &path, judged)));
        all.extend(trash(&rule, mounts));
    }
    all.retain(|finding| seen.insert((finding.about, finding.text.clone())));
    all
}

/// Shows the line that has to be another one.
fn edit(rule: &Placed<'_>) -> String {
    let Some(at) = &rule.rule.at else { return format!("{} -t", advice::program()) };
    format!("${{EDITOR:-vi}} +{} {}", at.line, advice::word(at.file.as_bytes()))
}

/// A move and a deletion take a name out of the directory.
fn source(path: &[u8], rule: &Placed<'_>, mounts: &Mounts) -> Option<Finding> {
    let directory = advice::bytes_path(path);
    let is_known = mounts.way(path).is_local() && directory.is_dir();
    (is_known && !may(directory, Access::WRITE_OK | Access::EXEC_OK)).then(|| {
        let (at, shown, action) = (rule.place(), show::path(&PathText::of(path)), rule.rule.rule.action);
        let text = format!("{at}'{shown}' cannot be written: the rule cannot {action} what is in it");
        problem("source", text, look_at(directory))
    })
}

fn destination(rule: &Placed<'_>, path: &[u8], judged: Result<Room, Trouble>) -> Finding {
    let trouble = match judged {
        Ok(room) => return ok("destination", format!("'{}' {room}", show::path(&PathText::of(path)))),
        Err(trouble) => trouble,
    };
    let (text, path) = (format!("{}{trouble}", rule.place()), advice::bytes_path(path));
    match trouble {
        Trouble::NotMounted(_) => {
            warning("mounted", text, advice::as_root(&format!("mount {}", advice::path(path))))
        }
        Trouble::Missing(_) => warning("destination", text, advice::make(path)),
        Trouble::NoRoom(no_room) => problem("destination", text, look_into(&no_room)),
    }
}

/// The trash of a rule that puts something into it.
fn trash(rule: &Placed<'_>, mounts: &Mounts) -> Option<Finding> {
    let trash = rule.rule.rule.trash.as_ref()?;
    let lost_in = rule.fills_trash_from()?;
    let shown = show::path(&PathText::of(trash));
    let mount = mounts.way(trash).mount;
    let fstype = String::from_utf8_lossy(&mount.fstype);
    if !mount.is_local {
        return Some(ok("trash", format!("'{shown}' is on {fstype}, which is not asked")));
    }
    Some(match room_for(advice::bytes_path(trash), mounts) {
        Ok(room) => {
            let other = lost_in.iter().find(|path| mounts.way(path).mount.device != mount.device);
            let copied = other.map_or_else(String::new, |path| {
                let path = show::path(&PathText::of(path));
                format!("; what is lost in '{path}' is copied there, from another filesystem")
            });
            ok("trash", format!("'{shown}' {room}, on {fstype}{copied}"))
        }
        Err(no_room) => problem("trash", format!("{}{no_room}", rule.place()), look_into(&no_room)),
    })
}

/// The command that shows what keeps a directory from being made or written.
pub(super) fn look_into(no_room: &NoRoom) -> String {
    let existing = advice::path(no_room.existing());
    match no_room.obstacle {
        Obstacle::NoDirectory | Obstacle::Forbidden => look_at(no_room.wanted()),
        Obstacle::LongName { .. } => format!("getconf NAME_MAX {existing}"),
        Obstacle::LongPath => format!("getconf PATH_MAX {existing}"),
        Obstacle::OfKernel(_) => format!("findmnt -T {existing}"),
    }
}

/// Whether we may do that, by whatever gives or takes the right.
pub(super) fn may(path: &Path, wanted: Access) -> bool {
    access(path, wanted).is_ok()
}

/// The command that shows who may do what, from the root on.
pub(super) fn look_at(path: &Path) -> String {
    format!("namei -l {}", advice::path(path))
}
