//! The name that was probably meant.
//!
//! Deliberately absent: guessing beyond two letters; a wrong guess is worse advice than none.
//!
//! Invariant: the work is bounded, because a definition decides how long its names are.

/// Returns the known name that a mistyped one is nearest to, if one is near.
pub(crate) fn nearest<'n>(found: &str, known: &[&'n str]) -> Option<&'n str> {
    // Long lists and long names are no typing mistakes, and comparing costs the product of the lengths.
    const NAMES_MAX: usize = 100;
    const LETTERS_MAX: usize = 40;
    if found.len() > LETTERS_MAX {
        return None;
    }
    let short = known.iter().take(NAMES_MAX).filter(|name| name.len() <= LETTERS_MAX);
    let (away, name) = short.map(|name| (distance(found, name), *name)).min()?;
    (away <= 2 && away < found.len()).then_some(name)
}

// How many letters have to be changed, added or removed, ignoring case; exact up to two, which is all that is asked.
fn distance(left: &str, right: &str) -> usize {
    const FAR: usize = 9;
    const BAND: usize = 2;
    let right: Vec<char> = right.chars().flat_map(char::to_lowercase).collect();
    let left: Vec<char> = left.chars().flat_map(char::to_lowercase).collect();
    if left.len().abs_diff(right.len()) > BAND {
        return FAR;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.iter().enumerate() {
        let mut last = vec![FAR; right.len() + 1];
        std::mem::swap(&mut row, &mut last);
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
        let from = (above + 1).saturating_sub(BAND).max(1);
        for column in from..=(above + 1 + BAND).min(right.len()) {
            let cell = |of: &[usize], column: usize| of.get(column).copied().unwrap_or(FAR);
            let replaced =
                cell(&last, column - 1) + usize::from(right.get(column - 1) != Some(letter));
            let nearest = replaced.min(cell(&last, column) + 1).min(cell(&row, column - 1) + 1);
            if let Some(cell) = row.get_mut(column) {
                *cell = nearest;
            }
        }
    }
    row.last().copied().unwrap_or(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_nearest_to_the_one_that_was_meant() {
        let known = ["target", "guard", "actions"];
        assert_eq!(nearest("targt", &known), Some("target"));
        assert_eq!(nearest("Gaurd", &known), Some("guard"));
        assert_eq!(nearest("nothing", &known), None);
        assert_eq!(distance("receive", "recieve"), 2);
    }
}
