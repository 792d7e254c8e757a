//! What a shell asks with `kubectl __complete`: which words may come next.
//!
//! As with cobra, whose scripts may ask, too: a line a word, its description after a tab, and at the end a colon with what
//! the shell is to do (4: offer no names of files).

use api::{Lens, Value};

use crate::call::{Call, Command};
use crate::failure::Outcome;
use crate::flags::{self, Flag};
use crate::line::{Line, World};
use crate::select::{self, Pick};
use crate::{help, out};

const NO_FILES: u8 = 4;
const FILES: u8 = 0;
/// Names that are offered.
const NAMES_MAX: usize = 5000;

/// Commands whose words are a type and names of it; `false` for those that mean one name alone.
const OF_TYPES: &[&str] = &[
    "annotate",
    "autoscale",
    "delete",
    "describe",
    "edit",
    "events",
    "explain",
    "expose",
    "get",
    "label",
    "patch",
    "scale",
    "wait",
    "history",
    "pause",
    "restart",
    "resume",
    "status",
    "undo",
    "image",
    "env",
    "resources",
    "selector",
    "serviceaccount",
    "subject",
    "set-last-applied",
    "edit-last-applied",
    "view-last-applied",
];
/// Commands whose first word is the name of one thing of this type.
const OF_NAMES: &[(&str, &str)] = &[
    ("attach", "pods"),
    ("cordon", "nodes"),
    ("cp", "pods"),
    ("debug", "pods"),
    ("drain", "nodes"),
    ("exec", "pods"),
    ("logs", "pods"),
    ("port-forward", "pods"),
    ("uncordon", "nodes"),
    ("approve", "certificatesigningrequests"),
    ("deny", "certificatesigningrequests"),
    ("node", "nodes"),
    ("pod", "pods"),
];

/// Prints the words that may follow; `args` ends with what there is of the next word.
pub(crate) fn run(
    args: &[String],
    root: &'static Command,
    is_described: bool,
    world: &World<'_>,
) -> Outcome {
    let (mut words, directive) = match args.split_last() {
        Some((last, before)) => next(last, before, root, world),
        None => (Vec::new(), NO_FILES),
    };
    words.truncate(NAMES_MAX);
    let mut text = String::new();
    for (word, about) in words {
        text.push_str(&word);
        if is_described && !about.is_empty() {
            text.push('\t');
            text.push_str(about.lines().next().unwrap_or(""));
        }
        text.push('\n');
    }
    text.push_str(&format!(":{directive}\n"));
    out::print(&text);
    Ok(())
}

type Words = (Vec<(String, String)>, u8);

fn next(last: &str, before: &[String], root: &'static Command, world: &World<'_>) -> Words {
    let (command, path, at) = find(before, root);
    let known = command.known();
    let flag_of = |arg: &str| -> Option<&'static Flag> {
        let tables = known.iter().flat_map(|table| table.iter());
        match arg.strip_prefix("--") {
            Some(long) => tables.clone().find(|flag| flag.name == long),
            None => {
                let short = arg.strip_prefix('-').filter(|short| short.len() == 1)?;
                tables.clone().find(|flag| short.starts_with(flag.short))
            }
        }
    };
    // A flag that waits for its value, or one with its value begun.
    if let Some(flag) =
        before.last().and_then(|arg| flag_of(arg)).filter(|flag| flag.bare.is_empty())
    {
        return values(flag.name, "", last, &call(command, path, before, &at, world));
    }
    if let Some((name, value)) = last.split_once('=').filter(|(name, _)| name.starts_with('-')) {
        return match flag_of(name) {
            Some(flag) => values(
                flag.name,
                &format!("{name}="),
                value,
                &call(command, path, before, &at, world),
            ),
            None => (Vec::new(), FILES),
        };
    }
    if last.starts_with('-') {
        return flags_of(last, &known);
    }
    let subs = command.subs.iter().filter(|sub| sub.name.starts_with(last));
    if !command.subs.is_empty() {
        return (subs.map(|sub| (sub.name.to_owned(), sub.about.to_owned())).collect(), NO_FILES);
    }
    let name = command.name;
    let call = call(command, path, before, &at, world);
    let Some(call) = &call else { return (Vec::new(), FILES) };
    let args = call.args();
    if let Some((_, kind)) = OF_NAMES.iter().find(|(own, _)| *own == name) {
        return match args.is_empty() || name == "drain" || name == "cordon" || name == "uncordon" {
            true => (names(call, kind, last), NO_FILES),
            false => (Vec::new(), FILES),
        };
    }
    if name == "taint" || OF_TYPES.contains(&name) {
        return match (args.first(), last.split_once('/')) {
            (None, Some((kind, begun))) => {
                let found = names(call, kind, begun).into_iter();
                (found.map(|(name, about)| (format!("{kind}/{name}"), about)).collect(), NO_FILES)
            }
            (None, None) => (types(call, last), NO_FILES),
            (Some(kind), _) => (names(call, kind, last), NO_FILES),
        };
    }
    match path_words(call) {
        ["config", "use-context" | "delete-context" | "rename-context"] => {
            (configured(call, "contexts", last), NO_FILES)
        }
        ["config", "delete-cluster"] => (configured(call, "clusters", last), NO_FILES),
        ["completion", _] => {
            let shells = ["bash", "fish", "powershell", "zsh"]
                .iter()
                .filter(|shell| shell.starts_with(last));
            (shells.map(|shell| ((*shell).to_owned(), String::new())).collect(), NO_FILES)
        }
        _ => (Vec::new(), FILES),
    }
}

fn path_words<'a>(call: &'a Call<'_>) -> [&'a str; 2] {
    let mut words = call.path.split(' ').skip(1);
    [words.next().unwrap_or(""), words.next().unwrap_or("")]
}

/// The command that words lead to, its path, and where those words stand.
fn find(args: &[String], root: &'static Command) -> (&'static Command, String, Vec<usize>) {
    let (mut command, mut path, mut at) = (root, "kubectl".to_owned(), Vec::new());
    let mut idx = 0;
    while let Some(arg) = args.get(idx) {
        idx += 1;
        if arg.len() > 1 && arg.starts_with('-') {
            idx += usize::from(command.takes_next(arg));
            continue;
        }
        let Some(sub) = command.find(arg) else { break };
        at.push(idx - 1);
        command = sub;
        path = format!("{path} {}", sub.name);
    }
    (command, path, at)
}

/// The call as far as it is written; `None` if that cannot be read.
fn call<'a>(
    command: &'static Command,
    path: String,
    args: &[String],
    at: &[usize],
    world: &'a World<'a>,
) -> Option<Call<'a>> {
    // A flag that waits for its value has none yet.
    let whole = flags::read(args, at, &command.known());
    let given = match (whole, args.split_last()) {
        (Ok(given), _) => given,
        (Err(_), Some((_, args))) => flags::read(args, at, &command.known()).ok()?,
        (Err(_), None) => return None,
    };
    Some(Call::new(command, Line { path, known: command.known(), given, world }))
}

fn flags_of(last: &str, known: &[&'static [Flag]]) -> Words {
    let mut words = Vec::new();
    for flag in help::sorted(known) {
        let long = format!("--{}", flag.name);
        if long.starts_with(last) {
            words.push((long, flag.about.to_owned()));
        }
        let short = format!("-{}", flag.short);
        if flag.short != '\0' && short.starts_with(last) {
            words.push((short, flag.about.to_owned()));
        }
    }
    (words, NO_FILES)
}

/// Values of a flag, behind what stands before them in the word.
fn values(flag: &str, prefix: &str, last: &str, call: &Option<Call<'_>>) -> Words {
    let Some(call) = call else { return (Vec::new(), FILES) };
    let found = match flag {
        "namespace" => names(call, "namespaces", last),
        "context" => configured(call, "contexts", last),
        "cluster" => configured(call, "clusters", last),
        "user" => configured(call, "users", last),
        "output" => {
            let forms =
                ["custom-columns=", "go-template=", "json", "jsonpath=", "name", "wide", "yaml"];
            let forms = forms.iter().filter(|form| form.starts_with(last));
            forms.map(|form| ((*form).to_owned(), String::new())).collect()
        }
        "container" => containers(call, last),
        _ => return (Vec::new(), FILES),
    };
    (found.into_iter().map(|(word, about)| (format!("{prefix}{word}"), about)).collect(), NO_FILES)
}

/// Names of what the kubeconfig lists.
fn configured(call: &Call<'_>, list: &str, last: &str) -> Vec<(String, String)> {
    let Ok(config) = call.config() else { return Vec::new() };
    let names = config.tree.list(list).iter().map(|entry| entry.str("name"));
    names
        .filter(|name| name.starts_with(last))
        .map(|name| (name.to_owned(), String::new()))
        .collect()
}

fn types(call: &Call<'_>, last: &str) -> Vec<(String, String)> {
    let all = call.rest().and_then(|rest| call.mapper()?.all(rest)).unwrap_or_default();
    let mut found: Vec<(String, String)> = Vec::new();
    for resource in all {
        let name = resource.qualified();
        let is_new = !found.iter().any(|(own, _)| *own == name);
        if is_new && name.starts_with(last) && resource.verbs.iter().any(|verb| verb == "get") {
            found.push((name, String::new()));
        }
    }
    found
}

fn names(call: &Call<'_>, kind: &str, last: &str) -> Vec<(String, String)> {
    let list = || -> Outcome<Vec<Value>> {
        let resource = call.mapper()?.find(call.rest()?, kind)?;
        let within = if resource.namespaced { call.namespace()?.0 } else { String::new() };
        let pick = Pick { chunk: 500, ..Pick::default() };
        Ok(select::items(&resource, select::list(call, &resource, &within, &pick)?))
    };
    let all = list().unwrap_or_default();
    let names = all.iter().map(|object| object.str("metadata.name"));
    names
        .filter(|name| name.starts_with(last))
        .map(|name| (name.to_owned(), String::new()))
        .collect()
}

/// The containers of the pod that a command names.
fn containers(call: &Call<'_>, last: &str) -> Vec<(String, String)> {
    let Some(name) = call.args().first() else { return Vec::new() };
    let name = name.trim_start_matches("pod/").trim_start_matches("pods/");
    let pod = || -> Outcome<Value> {
        let resource = call.mapper()?.find(call.rest()?, "pods")?;
        call.rest()?.get(&resource.path(&call.namespace()?.0, name))
    };
    let Ok(pod) = pod() else { return Vec::new() };
    let all = api::pod::all_containers(pod.at("spec"))
        .map(|(_, _, container)| container.str("name").to_owned());
    all.filter(|name| name.starts_with(last)).map(|name| (name, String::new())).collect()
}
