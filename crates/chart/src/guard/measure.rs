//! Measuring an expression before it is parsed.
//!
//! The parser recurses and is slow on long chains, so what would come out too deep is refused from the look of its text:
//! chains of operators, of fields and of choices, and brackets in brackets. The look never refuses what the exact measure
//! of the parsed tree (`guard.rs`) would let pass, but for brackets, which nobody nests this deep.
//!
//! Deliberately absent: grammar. A text that is no CEL may pass here; the parser says so.

use statehouse_contract::limits::EXPRESSION_DEPTH_MAX;

/// Deepest nesting of brackets of any kind.
const BRACKETS_MAX: usize = 64;

/// What was counted since the last sign that begins a new operand, at one depth of brackets.
#[derive(Clone, Copy, Default)]
struct Chain {
    sums: usize,
    products: usize,
    fields: usize,
    choices: usize,
}

impl Chain {
    fn longest(self) -> usize {
        self.sums.max(self.products).max(self.fields).max(self.choices)
    }
}

/// Says why a text would be too deep; nothing, where it would not or only parsing can tell.
pub(super) fn too_deep(text: &str) -> Option<String> {
    let mut levels = vec![Chain::default()];
    // Whether an operand has just ended, so that a sign is an operator between two.
    let mut after_operand = false;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let token = token_bytes(rest, letter);
        let (now, behind) = rest.split_at(token);
        rest = behind;
        let chain = levels.last_mut()?;
        match letter {
            ' ' | '\t' | '\r' | '\n' => continue,
            '/' if now.len() > 1 => continue,
            '+' | '-' if after_operand => {
                *chain = Chain { sums: chain.sums + 1, choices: chain.choices, ..Chain::default() }
            }
            '*' | '/' | '%' => *chain = Chain { products: chain.products + 1, fields: 0, ..*chain },
            '.' => chain.fields += 1,
            '?' => *chain = Chain { choices: chain.choices + 1, ..Chain::default() },
            ',' => *chain = Chain::default(),
            '&' | '|' | '=' | '<' | '>' | '!' | ':' => {
                *chain = Chain { choices: chain.choices, ..Chain::default() }
            }
            'i' if now == "in" => *chain = Chain { choices: chain.choices, ..Chain::default() },
            '(' | '[' | '{' => {
                chain.fields += usize::from(letter == '[' && after_operand);
                levels.push(Chain::default());
            }
            ')' | ']' | '}' if levels.len() > 1 => {
                levels.pop();
            }
            _ => {}
        }
        after_operand = now != "in"
            && now.ends_with(|last: char| {
                last.is_alphanumeric() || matches!(last, '_' | ')' | ']' | '}' | '"' | '\'')
            });
        let longest = levels.last().map_or(0, |chain| chain.longest());
        if longest >= EXPRESSION_DEPTH_MAX {
            return Some(format!(
                "an expression is at most {EXPRESSION_DEPTH_MAX} deep; this one has a longer chain"
            ));
        }
        if levels.len() > BRACKETS_MAX {
            return Some(format!("brackets nest at most {BRACKETS_MAX} deep"));
        }
    }
    None
}

/// Returns the length of the token that a text begins with: a literal, a name, a number, a comment, or one sign.
fn token_bytes(text: &str, first: char) -> usize {
    let until = |is_end: &dyn Fn(char) -> bool| text.find(is_end).unwrap_or(text.len());
    match first {
        '"' | '\'' => literal_bytes(text, first),
        '/' if text.starts_with("//") => until(&|letter| letter == '\n'),
        _ if first.is_ascii_digit() => {
            until(&|letter| !letter.is_ascii_alphanumeric() && letter != '.')
        }
        _ if first.is_alphabetic() || first == '_' => {
            until(&|letter| !letter.is_alphanumeric() && letter != '_')
        }
        _ => first.len_utf8(),
    }
}

/// Returns the length of a text literal, also of one in three quotes; an open one goes on to the end.
fn literal_bytes(text: &str, quote: char) -> usize {
    let triple = [quote; 3].iter().collect::<String>();
    let end: &str = if text.starts_with(&triple) { &triple } else { &triple[..1] };
    let mut position = end.len();
    while let Some(inside) = text.get(position..).filter(|inside| !inside.is_empty()) {
        if inside.starts_with(end) {
            return position + end.len();
        }
        // What follows a backslash never ends the literal.
        let step = if inside.starts_with('\\') { 2 } else { 1 };
        position += inside.chars().take(step).map(char::len_utf8).sum::<usize>();
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_and_brackets_are_seen_and_literals_are_not_counted() {
        let deep = [
            "1 + ".repeat(32) + "1",
            "a".to_owned() + &".b".repeat(32),
            "x ? y : ".repeat(32) + "z",
            "(".repeat(64) + "1",
        ];
        for text in deep {
            assert!(too_deep(&text).is_some(), "{text}");
        }
        let flat = [
            "1 + ".repeat(31) + "1",
            "a + b == c && ".repeat(40) + "true",
            format!("'{}'", "1 + ".repeat(100)),
            format!("\"{}\" + '\\'{}'", "(".repeat(100), "+".repeat(100)),
            format!("[{}]", "1.5, ".repeat(90)),
            "f(1 + 2, 3 * 4) + ".repeat(20) + "1",
            "-1 < -2 || ".repeat(60) + "true",
            "a.b.c(d.e) == f.g[0].h && ".repeat(30) + "true",
        ];
        for text in flat {
            assert_eq!(too_deep(&text), None, "{text}");
        }
    }
}
