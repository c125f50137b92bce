//! The `Accept` header (RFC 9110, 12.5.1): which of two media types a client would rather have.
//!
//! Owns the header's grammar. What cannot be read of it asks for nothing. Of a range's parameters only `version`
//! counts: others, such as the `escaping` of Prometheus, say how the text may look and not what it is.

/// A media type that an answer can have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) essence: &'static str,
    /// The `version` that it is in, where it has one.
    pub(crate) version: Option<&'static str>,
}

/// How precisely a range names what it is for; the most precise range counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    /// `*/*`
    Any,
    /// `text/*`
    Type,
    /// `text/plain`
    Essence,
    /// `text/plain;version=0.0.4`
    Version,
}

/// What a client said of a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    precision: Precision,
    /// From 0, which is "not acceptable", to 1000.
    quality: u16,
}

/// Whether a client would rather have `special` than `usual`: it wants it more, or as much and by its name.
pub(crate) fn prefers(accept: &str, special: Offer, usual: Offer) -> bool {
    let Some(Said { precision, quality }) = said_of(special, accept) else { return false };
    let usual = said_of(usual, accept).map_or(0, |said| said.quality);
    quality > usual || (quality == usual && quality > 0 && precision >= Precision::Essence)
}

fn said_of(offer: Offer, accept: &str) -> Option<Said> {
    split(accept, ',').filter_map(|range| said(range, offer)).max()
}

/// What a range says of a media type; `None` where it is for another one or cannot be read.
fn said(range: &str, offer: Offer) -> Option<Said> {
    let mut parts = split(range, ';').map(|part| part.trim_matches(BLANK));
    let mut precision = precision(parts.next()?, offer.essence)?;
    let mut quality = QUALITY_MAX;
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        if name.eq_ignore_ascii_case("q") {
            quality = thousandths(value)?;
            // Behind it there can only be what no standard gives a meaning.
            break;
        }
        if name.eq_ignore_ascii_case("version") {
            if offer.version != Some(value.trim_matches('"')) {
                return None;
            }
            precision = Precision::Version;
        }
    }
    Some(Said { precision, quality })
}

fn precision(range: &str, essence: &str) -> Option<Precision> {
    if range == "*/*" {
        return Some(Precision::Any);
    }
    if range.eq_ignore_ascii_case(essence) {
        return Some(Precision::Essence);
    }
    let (kind, _) = essence.split_once('/')?;
    range.strip_suffix("/*").is_some_and(|of| of.eq_ignore_ascii_case(kind)).then_some(Precision::Type)
}

const QUALITY_MAX: u16 = 1000;

/// A quality value, 12.4.2: `0`, `1`, and up to three digits behind a point.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    if digits.len() > 3 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let behind: u16 = format!("{digits:0<3}").parse().ok()?;
    match (whole, behind) {
        ("0", _) => Some(behind),
        ("1", 0) => Some(QUALITY_MAX),
        _ => None,
    }
}

/// White space of HTTP, 5.6.3.
const BLANK: [char; 2] = [' ', '\t'];

/// The parts between separators that stand outside of quoted strings, 5.6.4.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |letter| {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => return letter == separator && !is_quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Offer = Offer { essence: "text/plain", version: Some("0.0.4") };
    const SPECIAL: Offer = Offer { essence: "application/special", version: Some("1.0.0") };

    #[test]
    fn what_is_wanted_more_is_preferred() {
        let prefers = |accept| prefers(accept, SPECIAL, USUAL);
        for accept in [
            "application/special",
            "Application/Special ; Version=1.0.0",
            r#"application/special;version="1.0.0""#,
            "text/plain;q=0.5, application/special;version=1.0.0",
            "text/plain,application/special",
            "application/special, */*",
            "application/special;q=0.001,text/html",
            "application/special;q=1.000\t;ext=1,*/*;q=0.999",
            "application/*, text/plain;q=0.1",
            "application/special;version=1.0.0;q=0.5,application/special;version=0.0.1;q=0.75,text/plain;q=0.5",
            "application/special;q=0,application/special;version=1.0.0",
            r#"x/y;a="\",",application/special"#,
            // Prometheus 3.
            "application/special;version=1.0.0;escaping=allow-utf-8;q=0.6,application/special;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert!(prefers(accept), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "application/*,text/*",
            "text/plain",
            "application/special;q=0",
            "application/special;q=0.000,*/*",
            "application/special;Q=0",
            "text/plain;q=1, application/special;q=0.1",
            "text/*, application/special;q=0.9",
            "*/*;q=0.8,application/special;q=0.7",
            "application/special;version=0.0.1",
            "application/special;version=1.0.0;q=0,application/special",
            "application/specials",
            "application/special-text;version=1.0.0",
            "application/special/x",
            "image/png",
            r#"x/y;a="application/special,application/special""#,
        ] {
            assert!(!prefers(accept), "{accept}");
        }
    }

    #[test]
    fn a_range_that_cannot_be_read_asks_for_nothing() {
        for quality in ["", "x", "2", "-1", "1.001", "0.0001", "1.", ".5", "1e0", "0,5", "0.+1", "NaN"] {
            let is_read = thousandths(quality).is_some();
            assert_eq!(is_read, quality == "1.", "{quality}");
            let accept = format!("application/special;q={quality}");
            assert_eq!(prefers(&accept, SPECIAL, USUAL), is_read, "{accept}");
        }
        for accept in
            [",", ";", "/", "*", "*/", ";q=1", "application", "\"", "\"application/special", "é/*;q=1"]
        {
            assert!(!prefers(accept, SPECIAL, USUAL), "{accept}");
        }
    }
}
