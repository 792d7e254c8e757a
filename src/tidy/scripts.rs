//! What shell scripts must not do, because the shell does not say so.

use crate::files::{none, root};

/// Where scripts are.
const ROOMS: &[&str] = &[".ci", "cross", "e2e", "packaging", "qemu-tests", "userspace"];

/// Every shell script right below those directories: path and text.
fn scripts() -> Vec<(String, String)> {
    let mut scripts = Vec::new();
    for room in ROOMS {
        for entry in std::fs::read_dir(root().join(room)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.lines().next().is_some_and(|line| line.starts_with("#!") && line.contains("sh"))
            {
                let name = path.file_name().unwrap().to_string_lossy();
                scripts.push((format!("{room}/{name}"), text));
            }
        }
    }
    assert!(scripts.len() > 5, "the scripts were not found");
    scripts
}

/// The commands of a line that is `trap '...' ... EXIT ...`.
fn commands_at_exit(line: &str) -> Vec<&str> {
    let Some((body, signals)) =
        line.trim_start().strip_prefix("trap '").and_then(|rest| rest.rsplit_once('\''))
    else {
        return Vec::new();
    };
    match signals.split(' ').any(|signal| signal == "EXIT") {
        true => body.split(';').map(str::trim).collect(),
        false => Vec::new(),
    }
}

/// Under `set -e` a command that fails in an EXIT trap ends the trap, and its status is the script's: a script of which
/// everything passed failed so, because what its trap killed had ended by itself.
fn may_fail(command: &str) -> bool {
    !command.starts_with("rm -") && !command.ends_with("|| true") && !command.starts_with("exit ")
}

#[test]
fn what_runs_at_exit_does_not_change_the_exit_code() {
    let mut complaints = Vec::new();
    for (path, text) in scripts() {
        for (idx, line) in text.lines().enumerate() {
            if commands_at_exit(line).into_iter().any(may_fail) {
                complaints.push(format!("{path}:{}: {line}: end it with || true", idx + 1));
            }
        }
    }
    none("commands of EXIT traps that may fail", complaints);
}

#[test]
fn commands_of_traps_are_found() {
    let found = commands_at_exit("  trap 'kill \"$it\" 2>/dev/null; rm -f \"$said\"' EXIT");
    assert_eq!(found, ["kill \"$it\" 2>/dev/null", "rm -f \"$said\""]);
    assert!(may_fail(found[0]) && !may_fail(found[1]));
    assert!(!may_fail("kill \"$it\" || true") && commands_at_exit("trap cleanup EXIT").is_empty());
}
