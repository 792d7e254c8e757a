//! Finding the sources, and what every file must have.

use std::path::{Path, PathBuf};

/// A file longer than this is a room to divide, unless it is listed with its reason.
const LINES_MAX: usize = 1000;

/// Tables and single state machines that may be longer, and why.
const LONG: &[(&str, &str)] = &[];

pub(crate) struct Source {
    /// Relative to the repository.
    pub(crate) path: String,
    /// The crate: the directory below `src/`.
    pub(crate) room: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every Rust source below `src/`.
pub(crate) fn sources() -> Vec<Source> {
    let root = root();
    let mut sources = Vec::new();
    let mut dirs = vec![root.join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap().display().to_string();
                let room = relative.split('/').nth(1).unwrap().to_owned();
                sources.push(Source {
                    path: relative,
                    room,
                    text: std::fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

#[track_caller]
pub(crate) fn none(what: &str, complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{what}:\n{}", complaints.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//! "));
    none("files that do not open with `//! `", silent.map(|source| source.path).collect());
}

#[test]
fn files_are_short_enough_to_read() {
    let long = sources().into_iter().filter_map(|source| {
        let n = source.text.lines().count();
        (n > LINES_MAX && !LONG.iter().any(|(path, _)| *path == source.path))
            .then(|| format!("{}: {n} lines", source.path))
    });
    none("files over the limit", long.collect());
}

#[test]
fn no_space_at_line_ends() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (idx, line) in source.text.lines().enumerate() {
            if line.ends_with([' ', '\t']) {
                complaints.push(format!("{}:{}", source.path, idx + 1));
            }
        }
    }
    none("trailing white space", complaints);
}
