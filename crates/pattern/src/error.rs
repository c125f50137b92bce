//! Errors: a bad pattern or template when it is compiled, a path that takes too many steps when it is matched.

/// A pattern or a template that can't be used. The text is CPython's wherever CPython refuses the source too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The source is wrong by Python's rules; the text is the one of `re.error` (or `IndexError`, `OverflowError`).
    #[error("{message}{place}")]
    Syntax {
        /// Python's message without its place.
        message: String,
        /// Where in the source.
        place: Place,
    },
    /// The source is good Python, but this crate can't honour it faithfully.
    #[error("{construct} is not supported{place}: {advice}")]
    Unsupported {
        /// The construct, as written.
        construct: String,
        /// Where in the source.
        place: Place,
        /// What to write instead.
        advice: &'static str,
    },
}

/// A place in a source, printed as Python does: ` at position 3`, with line and column if the source has several lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Index of the character (not byte), from 0.
    pub position: Option<usize>,
    /// Line and column, both from 1; only in a source of several lines.
    pub line_column: Option<(usize, usize)>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(position) = self.position {
            write!(formatter, " at position {position}")?;
        }
        if let Some((line, column)) = self.line_column {
            write!(formatter, " (line {line}, column {column})")?;
        }
        Ok(())
    }
}

/// The backtracking engine gave up on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern needs more than {limit} steps on this path; simplify its nested repeats")]
pub struct StepLimit {
    /// Steps that were allowed.
    pub limit: u32,
}
