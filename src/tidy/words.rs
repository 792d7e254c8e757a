//! Words that belong to one room only, with what to use instead.

use crate::files::{Source, none, sources};

struct Ban {
    word: &'static str,
    /// Rooms that may say it.
    rooms: &'static [&'static str],
    instead: &'static str,
}

/// Rooms that may read whole files without a bound: all but the node's.
const READERS: &[&str] = &[
    "addons", "api", "boot", "cli", "client", "cluster", "control", "http", "k3rs", "net",
    "netplan", "podplan", "rt", "sched", "server", "stdx", "store", "sys", "wire",
];

/// Rooms that may sort by the library: what runs between fork and exec, and a log of a million rows.
const SORTERS: &[&str] = &["sys", "store"];

/// Rooms of which no code is in the product, and the one that has what is used instead.
const TREES: &[&str] = &["stdx", "sim", "fuzz", "tidy"];

/// Rooms that answer over HTTP, and so choose status codes: everywhere else the answer is the caller's to make. `net` answers
/// load balancers that ask for a service's health, `kubectl` is a proxy, and `wire` has the codec.
const ANSWERERS: &[&str] = &[
    "cluster", "cri", "fuzz", "http", "ingress", "k3rs", "kine", "kubectl", "kubelet", "net",
    "server", "sim", "wire",
];

const BANS: &[Ban] = &[
    Ban { word: "Response::new(", rooms: ANSWERERS, instead: "an error for who answers" },
    Ban { word: "Response::text(", rooms: ANSWERERS, instead: "an error for who answers" },
    Ban { word: "Response::json(", rooms: ANSWERERS, instead: "an error for who answers" },
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
    Ban {
        word: "std::env::args",
        rooms: &["k3rs", "shim", "fuzz"],
        instead: "arguments of the function",
    },
    Ban { word: "std::env::var", rooms: &["k3rs", "shim"], instead: "configuration passed in" },
    // What images and containers wrote is touched by descriptor: no recursion over it, no link followed.
    Ban { word: "fs::set_permissions", rooms: &["rt", "sys"], instead: "sys::tree::Node" },
    Ban { word: "fs::chown", rooms: &["sys"], instead: "sys::tree::Node" },
    Ban { word: "fs::lchown", rooms: &["rt"], instead: "sys::tree::Node" },
    Ban { word: "std::fs::remove_dir_all", rooms: &[], instead: "sys::tree::remove" },
    Ban {
        word: "fs::read_dir",
        // The shim lists its own logs.
        rooms: &["rt", "sys", "shim"],
        instead: "sys::tree::walk or rt::fs::list_dir",
    },
    // What a pod, a broken disk or somebody else may have written has a bound and is no link, pipe or device.
    Ban { word: "fs::read(", rooms: READERS, instead: "rt::fs::read_record or read_within" },
    Ban { word: "fs::read_text(", rooms: READERS, instead: "rt::fs::read_small_text" },
    Ban { word: "fs::read_optional(", rooms: READERS, instead: "rt::fs::read_record" },
    Ban { word: "fs::read_to_string(", rooms: READERS, instead: "sys::file::kernel_text" },
    Ban { word: "todo!(", rooms: &[], instead: "finish it, or refuse with an error" },
    Ban { word: "unimplemented!(", rooms: &[], instead: "finish it, or refuse with an error" },
    Ban {
        word: "#[ignore",
        rooms: &[],
        instead: "a verb of its own, or a test that skips with a printed reason",
    },
    Ban { word: "should_panic", rooms: &[], instead: "an error that is returned" },
    // The library makes four kilobytes of each call.
    Ban { word: ".sort(", rooms: SORTERS, instead: "stdx::Arrange" },
    Ban { word: ".sort_by", rooms: SORTERS, instead: "stdx::Arrange" },
    Ban { word: ".sort_unstable", rooms: SORTERS, instead: "stdx::Arrange" },
    // Five to eight kilobytes for each pair of types.
    Ban { word: "BTreeMap", rooms: TREES, instead: "stdx::OrdMap" },
    Ban { word: "BTreeSet", rooms: TREES, instead: "stdx::OrdSet" },
    Ban { word: "dbg!(", rooms: &[], instead: "log::debug!" },
];

/// Calls that take a path and follow links on the way to it, for files that no image, container or
/// volume may have made; each with the only files that may say it.
const PATHS: &[(&str, &[&str])] = &[
    // Volumes' roots and what is made from the API: directories of the node's own.
    (
        "rt::fs::set_owner(",
        &["kubelet/volumes/atomic.rs", "kubelet/volumes/setup.rs", "k3rs/machine/mod.rs"],
    ),
    (
        "rt::fs::set_mode(",
        &[
            "kubelet/volumes/atomic.rs",
            "kubelet/volumes/setup.rs",
            "k3rs/machine/door.rs",
            "boot/root.rs",
            "datastore/embedded/mod.rs",
            "boot/shell.rs",
            // The socket that the proxy has just made.
            "kubectl/commands/proxy.rs",
        ],
    ),
];

/// The files that may look into a [`stdx::Sensitive`]: those that hand it on to its reader.
const REVEALERS: &[&str] = &[
    "stdx/secret.rs",
    "datastore/sql/mysql.rs",
    "datastore/sql/postgres.rs",
    "datastore/s3/mod.rs",
    "datastore/s3/sign.rs",
    "wire/shim.rs",
    "wire/message.rs",
    "wire/wireguard.rs",
    "net/overlay/wireguard.rs",
    "shim/launch.rs",
    "runtime/plan.rs",
    "cri/images.rs",
    "cri/shown.rs",
    "runtime/images/pull.rs",
    "runtime/images/registries.rs",
    "helm/download.rs",
    "helm/registry.rs",
    "kubelet/make/container.rs",
    "kubelet/make/env.rs",
    "kubelet/volumes/atomic.rs",
    "kubelet/worker/start.rs",
];

#[test]
fn secrets_are_revealed_where_they_are_used_and_in_no_words() {
    // What makes words for people; a line that does so reveals nothing.
    let words = ["log::", "Error::", "event", ".context(", "status"];
    let mut complaints = Vec::new();
    for source in sources().into_iter().filter(|source| source.room != "tidy") {
        for (idx, line) in shipped(&source.text).filter(|(_, line)| line.contains(".reveal()")) {
            if !REVEALERS.iter().any(|file| source.path.ends_with(file)) {
                complaints.push(format!("{}:{}: reveals a secret here", source.path, idx + 1));
            }
            if words.iter().any(|word| line.contains(word)) {
                complaints.push(format!("{}:{}: a secret in words", source.path, idx + 1));
            }
        }
    }
    none("secrets revealed", complaints);
}

#[test]
fn owners_and_modes_are_set_by_descriptor() {
    let mut complaints = Vec::new();
    for source in sources().into_iter().filter(|source| source.room != "tidy") {
        for (idx, line) in shipped(&source.text) {
            for (word, files) in PATHS {
                if line.contains(word) && !files.iter().any(|file| source.path.ends_with(file)) {
                    complaints.push(format!(
                        "{}:{}: {word} (use sys::tree::Node)",
                        source.path,
                        idx + 1
                    ));
                }
            }
        }
    }
    none("owners and modes set by path", complaints);
}

/// The part of a file that ships: tests may reach for files, processes and the environment.
pub(crate) fn shipped(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end].lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Whether nothing of a file ships.
pub(crate) fn stays_here(source: &Source) -> bool {
    let is_test = source.path.ends_with("/tests.rs")
        || source.path.contains("/tests/")
        || source.path.contains("/checks/")
        || source.path.ends_with("_test.rs")
        || source.path.ends_with("_tests.rs");
    // The build script and the bench examples run on the builder's machine.
    is_test
        || matches!(source.room.as_str(), "tidy" | "sim")
        || source.path.ends_with("/build.rs")
        || source.path.contains("/examples/")
        || source.path.contains("/benches/")
}

#[test]
fn words_stay_in_their_rooms() {
    let mut complaints = Vec::new();
    for source in sources() {
        if stays_here(&source) {
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
