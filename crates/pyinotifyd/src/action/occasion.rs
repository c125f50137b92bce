//! What a command can learn of why it runs, and the names by which it asks.

use engine::BatchEvent;
use event::Event;

/// Why a task runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occasion<'a> {
    /// The latest event of the task.
    pub event: Event<'a>,
    /// The failure that it tells of, if it does (`on_failure`).
    pub failed: Option<Failed<'a>>,
    /// All that it runs for, the event included; empty without a batch.
    pub batch: &'a [BatchEvent],
}

/// A task of another scheduler that failed for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a> {
    /// Why; it holds no NUL.
    pub error: &'a str,
    /// How often it was tried.
    pub attempts: u32,
    /// Its id.
    pub id: &'a str,
}

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Maskname,
    Pathname,
    SrcPathname,
    Error,
    /// As many words as there are paths.
    Pathnames,
}

/// A placeholder: its text, what it stands for, and what the shell finds instead where it cannot be quoted.
pub(crate) type Placeholder = (&'static str, Field, &'static str);

/// The placeholders of a scheduler that gets events.
pub(crate) const OF_EVENTS: &[Placeholder] = OF_FAILURES.split_at(3).0;

/// The placeholders of a scheduler that also gets failures. For all others `{error}` is text, as it always was.
pub(crate) const OF_FAILURES: &[Placeholder] = &[
    ("{maskname}", Field::Maskname, "$PYINOTIFYD_MASKNAME"),
    ("{pathname}", Field::Pathname, "$PYINOTIFYD_PATHNAME"),
    ("{src_pathname}", Field::SrcPathname, "$PYINOTIFYD_SRC_PATHNAME"),
    ("{error}", Field::Error, "$PYINOTIFYD_ERROR"),
];

/// The placeholder of a scheduler with a batch: the others have a value for each of its paths. Where it cannot stand,
/// the list on the standard input is what there is instead.
pub(crate) const OF_BATCHES: &[Placeholder] = &[("{pathnames}", Field::Pathnames, "")];

impl<'a> Occasion<'a> {
    /// An event alone.
    pub(crate) fn of(event: &Event<'a>) -> Occasion<'a> {
        Occasion { event: *event, failed: None, batch: &[] }
    }

    /// The event's name without `|IN_ISDIR`, as commands get it.
    pub(super) fn mask_name(&self) -> &'static str {
        self.event.mask.flag().map_or("", event::Flag::name)
    }

    /// What a placeholder stands for; empty where there is nothing.
    pub(super) fn value(&self, field: Field) -> &'a [u8] {
        match field {
            Field::Maskname => self.mask_name().as_bytes(),
            Field::Pathname | Field::Pathnames => self.event.pathname,
            Field::SrcPathname => self.event.src_pathname.unwrap_or_default(),
            Field::Error => self.failed.map_or(&[], |failed| failed.error.as_bytes()),
        }
    }

    /// The words that a placeholder stands for.
    pub(super) fn values(&self, field: Field) -> Vec<&'a [u8]> {
        match field {
            Field::Pathnames if !self.batch.is_empty() => {
                self.batch.iter().map(|one| one.event.get().pathname).collect()
            }
            Field::Maskname | Field::Pathname | Field::SrcPathname | Field::Error | Field::Pathnames => {
                vec![self.value(field)]
            }
        }
    }

    /// Looks at what a batch is for one by one.
    pub(super) fn each(&self, mut look: impl FnMut(&Occasion<'_>)) {
        if self.batch.is_empty() {
            return look(self);
        }
        for BatchEvent { event, failed } in self.batch {
            let id = failed.as_ref().map(|(_, _, id)| id.to_string()).unwrap_or_default();
            let failed = failed.as_ref();
            let failed = failed.map(|(error, attempts, _)| Failed { error, attempts: *attempts, id: &id });
            look(&Occasion { event: event.get(), failed, batch: &[] });
        }
    }
}
