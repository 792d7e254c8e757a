//! kubectl's flags: what a command line may say, some code reads, or it is written down that nothing would differ.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{none, sources};

/// What declares a flag, with its name behind it.
const MAKERS: &[&str] =
    &["text(", "switch(", "switched_on(", "int(", "duration(", "list(", "array(", "pairs("];
const ROOM: &str = "src/kubectl/";

/// A text's names of flags that it declares, and the text without them.
fn declared(text: &str) -> (BTreeSet<&str>, String) {
    let (mut names, mut rest) = (BTreeSet::new(), String::new());
    let mut from = 0;
    while let Some(at) = text[from..].find('"').map(|at| at + from) {
        let Some(end) = text[at + 1..].find('"').map(|end| end + at + 1) else { break };
        let before = text[..at].trim_end();
        let is_maker = |maker: &&&str| {
            let own = before.strip_suffix(**maker);
            own.is_some_and(|own| {
                !own.ends_with(|c: char| c == '.' || c == '_' || c.is_alphanumeric())
            })
        };
        let name = &text[at + 1..end];
        let is_name = !name.is_empty()
            && name.bytes().all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit());
        rest.push_str(&text[from..at]);
        match MAKERS.iter().find(is_maker) {
            Some(_) if is_name => drop(names.insert(name)),
            // A quote that ends a text is looked at again: it may begin the next.
            _ if !is_name => {
                rest.push('"');
                from = at + 1;
                continue;
            }
            _ => rest.push_str(&text[at..=end]),
        }
        from = end + 1;
    }
    rest.push_str(&text[from..]);
    (names, rest)
}

/// The words behind each `prefix`: one, or several in braces.
fn behind<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let mut words = BTreeSet::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len()..];
        let part = match rest.strip_prefix('{') {
            Some(inner) => inner.split('}').next().unwrap_or(""),
            None => &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())],
        };
        words.extend(part.split(|c| !is_word(c)).filter(|word| !word.is_empty()));
    }
    words
}

#[test]
fn every_flag_of_kubectl_is_read() {
    // A command is a file, or a directory of them, with the other commands' files that it names.
    let (mut commands, mut shared) = (BTreeMap::<String, String>::new(), String::new());
    let mut options = String::new();
    for source in sources() {
        let Some(path) = source.path.strip_prefix(ROOM) else { continue };
        let shipped = source.text.split("#[cfg(test)]\nmod ").next().unwrap_or("").to_owned();
        match path.strip_prefix("commands/") {
            Some(own) => {
                let name = own.split('/').next().unwrap_or(own).trim_end_matches(".rs");
                commands.entry(name.to_owned()).or_default().push_str(&shipped);
            }
            None if path == "options.rs" => options = shipped,
            None => shared.push_str(&shipped),
        }
    }
    let mut hints = BTreeSet::new();
    let mut tables = BTreeMap::new();
    for table in options.split("pub(crate) const ").skip(1) {
        let name = table.split(':').next().unwrap_or("");
        match name {
            "HINTS" => {
                hints = table.split("(\"").skip(1).filter_map(|it| it.split('"').next()).collect();
            }
            _ => drop(tables.insert(name, declared(table).0)),
        }
    }
    assert!(hints.len() > 3 && tables.len() > 5, "the tables of flags were not found");
    let shared = declared(&shared).1;
    let (mut unread, mut used) = (Vec::new(), BTreeSet::new());
    for (command, text) in &commands {
        let (mut flags, mut readers) = declared(text);
        for table in behind(text, "options::") {
            flags.extend(tables.get(table).into_iter().flatten());
        }
        for other in ["super::", "commands::"].iter().flat_map(|prefix| behind(text, prefix)) {
            if let Some(text) = commands.get(other).filter(|_| other != command) {
                readers.push_str(&declared(text).1);
            }
        }
        for flag in flags {
            let quoted = format!("\"{flag}\"");
            let is_read = readers.contains(&quoted) || shared.contains(&quoted);
            match hints.contains(flag) {
                false if !is_read => unread.push(format!("{command}: --{flag}")),
                false => {}
                true if is_read => unread.push(format!("{command}: --{flag} is a hint, and read")),
                true => drop(used.insert(flag)),
            }
        }
    }
    unread.extend(hints.difference(&used).map(|flag| format!("--{flag} is a hint, and no flag")));
    none("flags of kubectl that no code reads (options::HINTS says which may be so)", unread);
}

#[test]
fn what_declares_and_what_reads_is_told_apart() {
    let (names, rest) = declared(
        "text(\"a\", \"say\", \"A \\\"b\\\" c\"), switch(\n    \"d-e\", \"x\"); call.text(\"f\"); my_text(\"g\")",
    );
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "d-e"]);
    assert!(rest.contains("\"f\"") && rest.contains("\"g\"") && !rest.contains("\"a\""));
    let words = behind("use super::{a, b_c}; super::d::e(); crate::f", "super::");
    assert_eq!(words.into_iter().collect::<Vec<_>>(), ["a", "b_c", "d"]);
}
