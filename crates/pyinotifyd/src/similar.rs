//! Which of the words that there are was probably meant.

/// Letters that a word may differ by from what was meant: wider guesses mislead.
const TYPOS_MAX: usize = 2;

/// The one of `known` that is most like a word, in the same letters; none if none is like it.
pub(crate) fn similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near =
        known.into_iter().map(|name| (distance(word, name), name)).filter(|(far, _)| *far <= TYPOS_MAX);
    near.min().map(|(_, name)| name)
}

/// How many letters have to be added, removed or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (place, against) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(letter != against);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
