//! Words that belong to one room only, with what to use instead.

use crate::files::{none, sources};

struct Ban {
    word: &'static str,
    /// Rooms that may say it.
    rooms: &'static [&'static str],
    instead: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        word: "Instant::now",
        rooms: &["rt", "shim"],
        instead: "rt::now(), or take `now` as an argument",
    },
    Ban {
        word: "SystemTime::now",
        rooms: &["rt", "shim"],
        instead: "rt::now(), or take `now` as an argument",
    },
    Ban { word: "std::fs::", rooms: &["rt", "sys", "shim"], instead: "rt::fs" },
    Ban { word: "std::net::Tcp", rooms: &["rt", "sys"], instead: "rt::net" },
    Ban { word: "std::net::Udp", rooms: &["rt", "sys"], instead: "rt::net" },
    Ban { word: "thread::spawn", rooms: &["rt"], instead: "rt::spawn or rt::unblock" },
    Ban { word: "thread::sleep", rooms: &[], instead: "an event, or rt::sleep" },
    Ban { word: "std::process::Command", rooms: &["rt", "sys"], instead: "rt::process" },
    Ban {
        word: "process::Command",
        rooms: &["rt", "sys"],
        instead: "the kernel: a node may have no programs but k3rs",
    },
    Ban { word: "smol::", rooms: &["rt"], instead: "rt" },
    Ban { word: "unsafe {", rooms: &["sys"], instead: "a safe function in sys" },
    Ban { word: "std::env::args", rooms: &["k3rs", "shim"], instead: "arguments of the function" },
    Ban { word: "std::env::var", rooms: &["k3rs", "shim"], instead: "configuration passed in" },
    Ban { word: "todo!(", rooms: &[], instead: "finish it, or refuse with an error" },
    Ban { word: "unimplemented!(", rooms: &[], instead: "finish it, or refuse with an error" },
    Ban {
        word: "#[ignore",
        rooms: &[],
        instead: "a verb of its own, or a test that skips with a printed reason",
    },
    Ban { word: "should_panic", rooms: &[], instead: "an error that is returned" },
    Ban { word: "dbg!(", rooms: &[], instead: "log::debug!" },
];

/// The part of a file that ships: tests may reach for files, processes and the environment.
fn shipped(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end].lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn words_stay_in_their_rooms() {
    let mut complaints = Vec::new();
    for source in sources() {
        let is_test = source.path.ends_with("/tests.rs")
            || source.path.contains("/tests/")
            || source.path.ends_with("_test.rs")
            || source.path.ends_with("_tests.rs");
        // The build script and the bench examples run on the builder's machine.
        if is_test
            || matches!(source.room.as_str(), "tidy" | "sim")
            || source.path.ends_with("/build.rs")
            || source.path.contains("/examples/")
            || source.path.contains("/benches/")
        {
            continue;
        }
        for (idx, line) in shipped(&source.text) {
            for ban in BANS {
                if line.contains(ban.word) && !ban.rooms.contains(&source.room.as_str()) {
                    complaints.push(format!(
                        "{}:{}: {} (use {})",
                        source.path,
                        idx + 1,
                        ban.word,
                        ban.instead
                    ));
                }
            }
        }
    }
    none("words outside their rooms", complaints);
}
