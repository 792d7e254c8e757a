//! Functions: short enough to read at once, and public only where somebody else calls them.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{Source, none, sources};

/// Lines of a function, its signature included. A longer one does several things, or is a table.
const LINES_MAX: usize = 120;

/// Functions that are longer, and why.
const LONG: &[(&str, &str)] = &[(
    "part",
    "net/rules.rs: one arm for each kind of a rule, which together are the table of what nft is told",
)];

/// Public functions that no other room names, and why they are public.
const AHEAD: &[(&str, &str)] = &[
    ("dial_remote_command", "the client's half of a protocol, against which the server's is tried"),
    ("dial_port_forward", "the same"),
    ("app_version", "charts: what a record of a release tells"),
    ("is_library", "charts: what helm refuses to install"),
    ("kube_version_fits", "charts: the same"),
    ("to_release_json", "charts: a member of the record of a release"),
    ("sort_for_uninstall", "charts: the order of deleting a release"),
    ("names_prereleases", "charts: versions of a repository's index"),
    ("is_compatible", "charts: the same"),
    ("merge_values", "charts: values of a HelmChart"),
    ("plain_numbers", "charts: values in the record of a release"),
    ("set_value", "charts: `spec.set` of a HelmChart"),
];

/// A function of a source: its name, whether everybody may call it, and its lines.
struct Function<'a> {
    name: &'a str,
    is_public: bool,
    n_lines: usize,
}

/// The functions of what is shipped; the tests at a file's end are not.
fn functions(text: &str) -> Vec<Function<'_>> {
    let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or("");
    let lines: Vec<&str> = shipped.lines().collect();
    let mut found = Vec::new();
    for (idx, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let mut rest = line.trim_start();
        let is_public = rest.starts_with("pub fn ")
            || ["pub async fn ", "pub const fn ", "pub unsafe fn "]
                .iter()
                .any(|it| rest.starts_with(it));
        for word in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "] {
            rest = rest.strip_prefix(word).unwrap_or(rest);
        }
        let Some(rest) = rest.strip_prefix("fn ") else { continue };
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        let end = format!("{indent}}}");
        let is_one = line.ends_with('}') || line.ends_with(';');
        let last = lines[idx..].iter().position(|line| is_one || *line == end);
        let n_lines = last.map_or(1, |n| n + 1);
        found.push(Function { name, is_public, n_lines });
    }
    found
}

/// Whether a file is tests as a whole.
fn is_tests(source: &Source) -> bool {
    let path = &source.path;
    path.contains("tests") || path.contains("/checks/") || path.contains("/benches/")
}

#[test]
fn functions_are_short_enough_to_read() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !is_tests(source)) {
        for function in functions(&source.text) {
            let listed = LONG.iter().any(|(name, _)| *name == function.name);
            if function.n_lines > LINES_MAX && !listed {
                let (name, n_lines) = (function.name, function.n_lines);
                complaints.push(format!("{}: {name}: {n_lines} lines", source.path));
            }
        }
    }
    none("functions over the limit", complaints);
}

/// Words of a text: what could be names.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect()
}

#[test]
fn what_is_public_is_called_by_others() {
    let sources = sources();
    // Integration tests and benches stand outside their room; what is handed on under another name is called by that.
    let mut outside: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut own: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in &sources {
        let found = words(&source.text);
        let is_outside = source.path.contains("/tests/") || source.path.contains("/benches/");
        let handed = source.text.split("pub use ").skip(1).filter_map(|it| it.split(';').next());
        let renamed = handed.filter(|it| it.contains(" as "));
        own.entry(&source.room).or_default().extend(renamed.flat_map(words));
        match is_outside {
            true => own.entry(&source.room).or_default().extend(found),
            false => outside.entry(&source.room).or_default().extend(found),
        }
    }
    let is_named = |room: &str, name: &str| {
        own.get(room).is_some_and(|words| words.contains(name))
            || outside.iter().any(|(other, words)| *other != room && words.contains(name))
            || AHEAD.iter().any(|(ahead, _)| *ahead == name)
    };
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !is_tests(source)) {
        for function in functions(&source.text).iter().filter(|function| function.is_public) {
            if !is_named(&source.room, function.name) {
                complaints.push(format!("{}: {}", source.path, function.name));
            }
        }
    }
    none("public functions that no other room names", complaints);
}

#[test]
fn functions_are_found() {
    let text = "pub fn a() {\n    b();\n}\n\npub(crate) async fn b() {}\n\nimpl C {\n    pub const fn c(\n        self,\n    ) {\n    }\n}\n#[cfg(test)]\nmod tests {\n    fn d() {}\n}\n";
    let found: Vec<(&str, bool, usize)> =
        functions(text).iter().map(|f| (f.name, f.is_public, f.n_lines)).collect();
    assert_eq!(found, [("a", true, 3), ("b", false, 1), ("c", true, 4)]);
}
