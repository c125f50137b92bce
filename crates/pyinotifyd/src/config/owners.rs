//! Users and groups that file rules name.
//!
//! The database of users may be on another machine (LDAP), so whether they exist is asked beside the loop.

use std::fmt::Write as _;

use super::{Config, FileRule, place};

/// What one rule names, and where the rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    place: String,
    user: Option<String>,
    group: Option<String>,
}

impl Config {
    /// What the rules name; a pair of names that many rules share is there once.
    pub(crate) fn owners(&self) -> Vec<Owner> {
        let mut owners: Vec<Owner> = Vec::new();
        for FileRule { rule, at, .. } in self.file_rules() {
            let names = (&rule.user, &rule.group);
            let is_known = owners.iter().any(|owner| (&owner.user, &owner.group) == names);
            if names != (&None, &None) && !is_known {
                let (user, group) = (rule.user.clone(), rule.group.clone());
                owners.push(Owner { place: place(at.as_ref()), user, group });
            }
        }
        owners
    }
}

/// Looks all of them up and gives a warning for each that does not exist. Waits for the database of users.
pub(crate) fn owner_warnings(owners: &[Owner]) -> Vec<String> {
    let warning = |owner: &Owner| {
        let error = files::check_names(owner.user.as_deref(), owner.group.as_deref()).err()?;
        let mut text = owner.place.clone();
        let _ = write!(text, "{error}; each task of this rule will fail");
        Some(text)
    };
    owners.iter().filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_that_do_not_exist_are_warned_of() {
        let owner = |user: Option<&str>, group: Option<&str>| Owner {
            place: "config.py:1: ".to_owned(),
            user: user.map(str::to_owned),
            group: group.map(str::to_owned),
        };
        let owners = [
            owner(Some("root"), None),
            owner(Some("no-such-user"), None),
            owner(None, Some("no-such-group")),
            owner(Some("root"), Some("root")),
        ];
        let warnings = owner_warnings(&owners);
        let expected = ["no such user: 'no-such-user'", "no such group: 'no-such-group'"];
        let expected =
            expected.map(|error| format!("config.py:1: {error}; each task of this rule will fail"));
        assert_eq!(warnings, expected);
    }
}
