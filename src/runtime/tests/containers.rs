//! Containers that really run, from an image made of Debian's static busybox.
//!
//! This program is its own shim, so it has no test harness: `shim` as its first argument is the pod's
//! process, a case's name runs that case alone. Needs root; says why where something is skipped.

mod cases;
mod fixture;

use std::ffi::OsString;

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|first| first == "shim") {
        std::process::exit(shim::main(&args[1..]));
    }
    if args.first().is_some_and(|first| first == "orphan-maker") {
        fixture::make_orphans(&args[1..]);
    }
    if !fixture::can_run() {
        return;
    }
    let wanted: Vec<String> = args
        .iter()
        .filter_map(|arg| arg.to_str())
        .filter(|arg| !arg.starts_with('-'))
        .map(str::to_owned)
        .collect();
    let mut failed = Vec::new();
    for (name, case) in cases::CASES {
        if !wanted.is_empty() && !wanted.iter().any(|want| name.contains(want.as_str())) {
            continue;
        }
        let started = std::time::Instant::now();
        let outcome = std::panic::catch_unwind(|| fixture::run(name, *case));
        let ok = outcome.is_ok();
        eprintln!(
            "case {name} ... {} ({} ms)",
            if ok { "ok" } else { "FAILED" },
            started.elapsed().as_millis()
        );
        if !ok {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        eprintln!("failed: {}", failed.join(", "));
        std::process::exit(1);
    }
}
