//! From a command line to the command that it names.

use crate::call::{Call, Command};
use crate::commands::{ROOT, plugin};
use crate::failure::{Failure, Outcome};
use crate::flags::{self, HELP};
use crate::line::{Line, World};
use crate::{complete, help, out};

/// The command that a line names: the words that lead to it, by their places, and its path.
struct Found {
    command: &'static Command,
    words: Vec<usize>,
    path: String,
    /// The first word that names no command.
    stranger: Option<String>,
}

fn find(args: &[String]) -> Found {
    let mut found =
        Found { command: &ROOT, words: Vec::new(), path: "kubectl".to_owned(), stranger: None };
    let mut idx = 0;
    while let Some(arg) = args.get(idx) {
        idx += 1;
        if arg == "--" || found.command.subs.is_empty() {
            break;
        }
        if arg.len() > 1 && arg.starts_with('-') {
            idx += usize::from(found.command.takes_next(arg));
            continue;
        }
        let Some(sub) = found.command.find(arg) else {
            found.stranger = Some(arg.clone());
            break;
        };
        found.words.push(idx - 1);
        found.command = sub;
        found.path = format!("{} {}", found.path, sub.name);
    }
    found
}

/// Runs what a command line asks for.
pub(crate) fn dispatch(args: &[String], world: &World<'_>) -> Outcome {
    if args.first().is_some_and(|arg| arg == "help") {
        let found = find(&args[1..]);
        if let (Some(stranger), true) = (&found.stranger, found.command.run.is_none()) {
            let root = help_text(&ROOT, "kubectl", world);
            let list = root.split_once("\n\n\n").map_or(root.as_str(), |(_, list)| list);
            let list = list.find("Basic Commands").map_or(list, |at| &list[at..]);
            return Err(Failure::Said(format!("Unknown help topic [`{stranger}`]\n\n\n{list}")));
        }
        out::print(&help_text(found.command, &found.path, world));
        return Ok(());
    }
    if let Some((asks @ ("__complete" | "__completeNoDesc"), rest)) =
        args.split_first().map(|(first, rest)| (first.as_str(), rest))
    {
        return complete::run(rest, &ROOT, asks == "__complete", world);
    }
    let found = find(args);
    let (command, path) = (found.command, found.path);
    if let (Some(stranger), true) = (&found.stranger, std::ptr::eq(command, &raw const ROOT)) {
        return plugin::run(args, world).unwrap_or_else(|| Err(unknown(stranger)));
    }
    let given = match flags::read(args, &found.words, &command.known()) {
        Ok(given) => given,
        Err(Failure::Exit(HELP)) => {
            out::print(&help_text(command, &path, world));
            return Ok(());
        }
        Err(failure) => {
            let text = failure.text();
            return Err(Failure::Message(format!("{text}\nSee '{path} --help' for usage.")));
        }
    };
    let call = Call::new(command, Line { path, known: command.known(), given, world });
    let missing: Vec<String> = command
        .required
        .iter()
        .filter(|flag| !call.changed(flag))
        .map(|flag| format!("{flag:?}"))
        .collect();
    if !missing.is_empty() {
        return Err(Failure::Message(format!("required flag(s) {} not set", missing.join(", "))));
    }
    unserved(&call)?;
    match (command.run, &found.stranger) {
        (Some(run), _) => run(&call).and_then(|()| warned(&call)),
        (None, Some(stranger)) => {
            let words = match call.args() {
                [] => stranger.clone(),
                words => words.join(" "),
            };
            call.usage(&format!("unknown command {words:?}"))
        }
        (None, None) if std::ptr::eq(command, &raw const ROOT) => {
            out::print(&help_text(command, &call.path, world));
            Ok(())
        }
        // As upstream: a group alone is a mistake, which one of them tells where results go.
        (None, None) if command.name == "rollout" => {
            out::print(&help_text(command, &call.path, world));
            Err(Failure::Exit(1))
        }
        (None, None) => Err(Failure::Said(help_text(command, &call.path, world))),
    }
}

fn help_text(command: &'static Command, path: &str, world: &World<'_>) -> String {
    match std::ptr::eq(command, &raw const ROOT) {
        true => help::text_with(command, path, &plugin::words(world)),
        false => help::text(command, path),
    }
}

/// Refuses what asks for a file or for messages that this program does not write.
fn unserved(call: &Call<'_>) -> Outcome {
    if !matches!(call.global("profile"), "none" | "") {
        return Err(Failure::Message(
            "--profile: this kubectl takes no profiles of itself, only none is possible".to_owned(),
        ));
    }
    match call.text("vmodule") {
        "" => Ok(()),
        _ => Err(Failure::Message("--vmodule: this kubectl logs by --v only".to_owned())),
    }
}

/// With `--warnings-as-errors`, what was warned of is a failure.
fn warned(call: &Call<'_>) -> Outcome {
    if !call.is("warnings-as-errors") {
        return Ok(());
    }
    match call.n_warnings() {
        0 => Ok(()),
        1 => Err(Failure::Message("1 warning received".to_owned())),
        n => Err(Failure::Message(format!("{n} warnings received"))),
    }
}

/// Commands of kubectl that are not in this version.
const LATER: &[&str] = &["alpha"];

fn unknown(word: &str) -> Failure {
    if LATER.contains(&word) {
        return Failure::Message(format!("kubectl {word} is not in this version of k3rs"));
    }
    let mut text = format!("error: unknown command {word:?} for \"kubectl\"");
    let near = |name: &str| distance(word, name) <= 2 || name.starts_with(&word.to_lowercase());
    let names: Vec<&str> = ROOT.subs.iter().map(|sub| sub.name).filter(|name| near(name)).collect();
    if !names.is_empty() {
        text.push_str("\n\nDid you mean this?");
        for name in names {
            text.push_str(&format!("\n\t{name}"));
        }
    }
    out::tell(&text);
    Failure::Exit(1)
}

/// As much of a word as is compared.
const WORD_MAX: usize = 64;

/// How many letters one has to change, add or leave out, whatever their case.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (idx, c) in left.to_lowercase().chars().take(WORD_MAX).enumerate() {
        let mut corner = row[0];
        row[0] = idx + 1;
        for (at, other) in right.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = (corner + usize::from(c != *other)).min(above + 1).min(row[at] + 1);
            corner = above;
        }
    }
    row.last().copied().unwrap_or(0)
}
