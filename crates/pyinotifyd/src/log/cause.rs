//! Errors of the system in the words that people know.

use std::fmt;
use std::io;

/// What strerror(3) says of an error, without the `(os error 2)` that Rust puts behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause<'a>(pub &'a io::Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let number = self.0.raw_os_error().map(|number| format!(" (os error {number})"));
        out.write_str(number.and_then(|number| text.strip_suffix(&number)).unwrap_or(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_left_out_and_other_texts_are_kept() {
        assert_eq!(Cause(&io::Error::from_raw_os_error(2)).to_string(), "No such file or directory");
        assert_eq!(Cause(&io::Error::other("a text (os error 2)")).to_string(), "a text (os error 2)");
    }
}
