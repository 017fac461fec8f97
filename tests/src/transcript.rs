//! Shell transcripts in Markdown, so that a test can do what a reader does.
//!
//! A transcript is every block ```` ```console ```` of a page, in order. A line that begins with `$ ` is typed;
//! what stands below it, up to the next such line, is what the reader sees. `…` within a line stands for
//! anything, a line that is only `…` for any number of lines; how many spaces stand between two words does not
//! matter, because columns are as wide as what is in them.
//!
//! Deliberately absent: running anything; a page may need more than a shell.

/// One typed line and what is seen after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The number of the typed line in the page, from 1.
    pub line: usize,
    /// What is typed.
    pub typed: String,
    /// What is seen.
    pub seen: Vec<String>,
}

/// Reads the transcript of a page.
#[must_use]
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_inside = false;
    for (index, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            is_inside = !is_inside && line.trim_end() == "```console";
            continue;
        }
        if !is_inside {
            continue;
        }
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(typed), _) => {
                steps.push(Step { line: index + 1, typed: typed.to_owned(), seen: Vec::new() });
            }
            (None, Some(step)) => step.seen.push(line.to_owned()),
            (None, None) => {}
        }
    }
    for step in &mut steps {
        while step.seen.last().is_some_and(|line| line.trim().is_empty()) {
            step.seen.pop();
        }
    }
    steps
}

/// Returns whether lines are what a page says is seen.
#[must_use]
pub fn is_seen(expected: &[String], found: &[&str]) -> bool {
    match (expected.split_first(), found.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((first, rest)), _) if first.trim() == "…" => {
            (0..=found.len()).any(|skipped| is_seen(rest, found.get(skipped..).unwrap_or_default()))
        }
        (Some(_), None) => false,
        (Some((first, rest)), Some((line, lines))) => is_line(first, line) && is_seen(rest, lines),
    }
}

fn is_line(expected: &str, found: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, found) = (words(expected), words(found));
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = found.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_console_blocks_are_read() {
        let page =
            "text\n```text\n$ no\n```\n\n```console\n$ yes --now\nfine\n\n$ again\n```\n$ no\n";
        let found = steps(page);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[0].typed.as_str()), (7, "yes --now"));
        assert_eq!(found[0].seen, ["fine"]);
        assert!(found[1].seen.is_empty());
    }

    #[test]
    fn dots_stand_for_anything_in_a_line_and_for_any_lines_alone() {
        let seen = |expected: &[&str], found: &[&str]| {
            let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
            is_seen(&expected, found)
        };
        assert!(seen(&["a … c"], &["a b c"]));
        assert!(seen(&["ID   STATE", "a-1  …"], &["ID    STATE", "a-1   waiting"]));
        assert!(seen(&["at …: … ms"], &["at 12:03: 7 ms"]));
        assert!(!seen(&["a … c"], &["a b d"]));
        assert!(seen(&["a", "…", "z"], &["a", "b", "c", "z"]));
        assert!(seen(&["a", "…"], &["a"]));
        assert!(!seen(&["a"], &["a", "b"]));
        assert!(!seen(&["a", "b"], &["a"]));
        assert!(!seen(&["ab…b"], &["ab"]), "the parts do not overlap");
    }
}
