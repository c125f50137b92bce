//! What a command can learn of why it runs, and the names by which it asks.

use event::Event;

/// Why a task runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occasion<'a> {
    /// The latest event of the task.
    pub event: Event<'a>,
    /// The failure that it tells of, if it does (`on_failure`).
    pub failed: Option<Failed<'a>>,
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

impl<'a> Occasion<'a> {
    /// An event alone.
    pub(crate) fn of(event: &Event<'a>) -> Occasion<'a> {
        Occasion { event: *event, failed: None }
    }

    /// The event's name without `|IN_ISDIR`, as commands get it.
    pub(super) fn mask_name(&self) -> &'static str {
        self.event.mask.flag().map_or("", event::Flag::name)
    }

    /// What a placeholder stands for; empty where there is nothing.
    pub(super) fn value(&self, field: Field) -> &'a [u8] {
        match field {
            Field::Maskname => self.mask_name().as_bytes(),
            Field::Pathname => self.event.pathname,
            Field::SrcPathname => self.event.src_pathname.unwrap_or_default(),
            Field::Error => self.failed.map_or(&[], |failed| failed.error.as_bytes()),
        }
    }
}
