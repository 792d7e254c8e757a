//! Bounds have names: a constant says what is bounded, in which unit and why, where a number in a call says nothing.

use crate::files::{none, sources};
use crate::words::{shipped, stays_here};

/// Calls that say how much, how many or how long at most.
const BOUNDING: &[&str] = &[
    ".take(",
    "bounded(",
    ".truncate(",
    ".chunks(",
    "read_within(",
    "read_small(",
    "read_record(",
    "within(",
    "timeout(",
    "sleep(",
    ".resize(",
];

/// Smaller numbers count pieces of a form (parts of a path, digits), and are read at once.
const SMALL: u64 = 32;

/// The arguments of a call that begins behind its opening parenthesis, as far as its line goes.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// The largest number that is written in an expression.
fn largest(expression: &str) -> Option<u64> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let numbers = words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    numbers
        .filter_map(|number| {
            let plain: String =
                number.chars().filter(|c| *c != '_').take_while(char::is_ascii_digit).collect();
            plain.parse().ok()
        })
        .max()
}

#[test]
fn numbers_are_found() {
    assert_eq!(largest("usize::MAX"), None);
    assert_eq!(largest("a2, 64 * 1_024"), Some(1_024));
    assert_eq!(arguments("f(1), 2) + 3"), "f(1), 2");
}

#[test]
fn bounds_have_names() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !stays_here(source)) {
        // Widths of fields in bytes' layouts; and what only tests have.
        if matches!(source.room.as_str(), "wire" | "fuzz") || source.path.ends_with("/attacks.rs") {
            continue;
        }
        for (idx, line) in shipped(&source.text) {
            if ["const ", "static "].iter().any(|word| line.contains(word)) {
                continue;
            }
            for call in BOUNDING {
                let found = line.match_indices(call).any(|(at, _)| {
                    largest(arguments(&line[at + call.len()..]))
                        .is_some_and(|number| number >= SMALL)
                });
                if found {
                    complaints.push(format!("{}:{}: {}", source.path, idx + 1, line.trim()));
                }
            }
        }
    }
    none("numbers in calls that bound something (give them a name)", complaints);
}
