//! `kubectl label` and `kubectl annotate`

use api::{Lens, LensMut, Value};

use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, switch, text};
use crate::print::{Printer, done};
use crate::select::{self, Info, Pick};
use crate::{options, out, write};

const OWN: &[Flag] = &[
    text("field-manager", "", "Name of who manages the fields"),
    switch("list", "Show them"),
    switch("overwrite", "Existing ones may be changed"),
    text("resource-version", "", "Only this version of the object is changed"),
];
const FLAGS: &[&[Flag]] = &[
    OWN,
    options::ALL,
    options::ALL_NAMESPACES,
    options::DRY_RUN,
    options::FIELD_SELECTOR,
    options::FILES,
    options::LOCAL,
    options::PRINT,
    options::SELECTOR,
];

pub(crate) static LABEL: Command = Command {
    name: "label",
    about: "Update the labels on a resource.",
    usage: "[--overwrite] (-f FILENAME | TYPE NAME) KEY_1=VAL_1 ... KEY_N=VAL_N [--resource-version=version]",
    flags: FLAGS,
    run: Some(|call| run(call, "label", "labels")),
    ..BLANK
};
pub(crate) static ANNOTATE: Command = Command {
    name: "annotate",
    about: "Update the annotations on one or more resources.",
    short: "Update the annotations on a resource",
    usage: "[--overwrite] (-f FILENAME | TYPE NAME) KEY_1=VAL_1 ... KEY_N=VAL_N [--resource-version=version]",
    flags: FLAGS,
    run: Some(|call| run(call, "annotate", "annotations")),
    ..BLANK
};

/// What to set and what to take away.
#[derive(Default)]
struct Wanted {
    set: Vec<(String, String)>,
    gone: Vec<String>,
}

fn run(call: &Call<'_>, verb: &str, field: &str) -> Outcome {
    let noun = if verb == "label" { "label" } else { "annotation" };
    let (resources, pairs) = divide(call, noun)?;
    let printer = Printer::of(call, false)?;
    let has_files = call.has_files();
    if call.is("all") && !call.text("selector").is_empty() {
        return failed("cannot set --all and --selector at the same time");
    }
    if call.is("local") && !has_files {
        return failed("one or more files must be specified as -f pod.yaml or --filename=pod.json");
    }
    if resources.is_empty() && !has_files {
        return failed(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        );
    }
    let wanted = parse(&pairs, noun)?;
    let is_list = call.is("list");
    if wanted.set.is_empty() && wanted.gone.is_empty() && !is_list {
        return failed(format!("at least one {noun} update is required"));
    }
    let pick = Pick::of(call, &resources);
    let (infos, mut failures) = select::infos(call, &pick)?;
    if infos.is_empty() && failures.is_empty() && !pick.has_files() {
        out::tell("No resources found");
    }
    let n_infos = infos.len();
    let mut missing = std::mem::take(&mut failures);
    for info in infos {
        if is_list {
            show(&info, field, noun, n_infos > 1);
            if wanted.set.is_empty() && wanted.gone.is_empty() {
                continue;
            }
        }
        if let Err(failure) = one(call, info, &wanted, verb, field, printer.as_ref()) {
            failures.push(failure);
        }
    }
    failures.append(&mut missing);
    Failure::all(failures)
}

/// Which arguments name resources, and which say what to change.
fn divide(call: &Call<'_>, noun: &str) -> Outcome<(Vec<String>, Vec<String>)> {
    let (mut resources, mut pairs) = (Vec::new(), Vec::new());
    for arg in call.args() {
        let is_pair = arg.find('=').is_some_and(|at| at > 0) || arg.ends_with('-');
        if is_pair {
            pairs.push(arg.clone());
        } else if pairs.is_empty() {
            resources.push(arg.clone());
        } else {
            return failed(format!("all resources must be specified before {noun} changes: {arg}"));
        }
    }
    Ok((resources, pairs))
}

fn parse(pairs: &[String], noun: &str) -> Outcome<Wanted> {
    let mut wanted = Wanted::default();
    for pair in pairs {
        match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                if noun == "label" {
                    check_value(pair, value)?;
                }
                wanted.set.retain(|(own, _)| own != key);
                wanted.set.push((key.to_owned(), value.to_owned()));
            }
            None if pair.len() > 1 && pair.ends_with('-') => {
                wanted.gone.push(pair[..pair.len() - 1].to_owned())
            }
            _ => return failed(format!("invalid {noun} format: {pair}")),
        }
    }
    for key in &wanted.gone {
        if wanted.set.iter().any(|(own, _)| own == key) {
            return failed(match noun {
                "label" => "can not both modify and remove a label in the same command".to_owned(),
                _ => format!(
                    "can not both modify and remove the following annotation(s) in the same command: {key}"
                ),
            });
        }
    }
    Ok(wanted)
}

fn check_value(pair: &str, value: &str) -> Outcome {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    let fits = value.is_empty()
        || value.starts_with(is_end)
            && value.ends_with(is_end)
            && value.chars().all(|c| is_end(c) || "-_.".contains(c));
    if value.len() > 63 {
        return failed(format!(
            "invalid label value: {pair:?}: must be no more than 63 characters"
        ));
    }
    match fits {
        true => Ok(()),
        false => failed(format!(
            "invalid label value: {pair:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        )),
    }
}

fn show(info: &Info, field: &str, noun: &str, is_one_of_many: bool) {
    if is_one_of_many {
        let kind = info.resource.kind.as_str();
        let shown = match noun {
            "label" => format!("Listing labels for {kind}.{}/{}:", info.resource.group, info.name),
            _ => format!("Listing annotations for {}.{}/{}:", kind, info.resource.group, info.name),
        };
        out::line(&shown);
    }
    let indent = if is_one_of_many { " " } else { "" };
    for (key, value) in info.object.pairs(&format!("metadata.{field}")) {
        out::line(&format!("{indent}{key}={value}"));
    }
}

fn one(
    call: &Call<'_>,
    mut info: Info,
    wanted: &Wanted,
    verb: &str,
    field: &str,
    printer: Option<&Printer>,
) -> Outcome {
    let old = info.object.clone();
    let path = format!("metadata.{field}");
    let own = old.at(&path);
    if !call.is("overwrite") {
        let changed = wanted.set.iter().find(|(key, value)| {
            own.get(key.as_str()).and_then(Value::as_str).is_some_and(|have| have != value)
        });
        if let Some((key, _)) = changed {
            let have = own.get(key.as_str()).and_then(Value::as_str).unwrap_or("");
            return failed(match verb {
                "label" => {
                    format!("'{key}' already has a value ({have}), and --overwrite is false")
                }
                _ => format!(
                    "--overwrite is false but found the following declared annotation(s): '{key}' already has a value ({have})"
                ),
            });
        }
    }
    if verb == "label" {
        for key in wanted.gone.iter().filter(|key| own.get(key.as_str()).is_none()) {
            out::line(&format!("label {key:?} not found."));
        }
    }
    let map = info.object.map_mut(&path);
    for (key, value) in &wanted.set {
        map.insert(key.clone(), value.as_str().into());
    }
    for key in &wanted.gone {
        map.remove(key);
    }
    if map.is_empty() {
        info.object.remove(&path);
    }
    let version = call.text("resource-version");
    if !version.is_empty() {
        info.object.set("metadata.resourceVersion", version);
    }
    let patch = write::merge_patch(&old, &info.object);
    let is_changed = patch.as_object().is_some_and(|patch| !patch.is_empty());
    if !call.is("local") && call.dry_run()? != DryRun::Client {
        let answer =
            write::patch(call, &info, "", write::MERGE, &patch, &format!("kubectl-{verb}"))?;
        info.object = answer;
    }
    let is_gone = wanted.gone.iter().any(|key| old.at(&path).get(key.as_str()).is_none());
    let shrinks = info_len(&info.object, &path) < info_len(&old, &path);
    let said = match (verb, is_changed) {
        ("annotate", _) => "annotated",
        // As upstream: the map was taken for changed.
        (_, false) if is_gone && verb == "label" => "labeled",
        (_, false) => "not labeled",
        (_, true) if shrinks && !call.is("overwrite") && !wanted.gone.is_empty() => "unlabeled",
        _ => "labeled",
    };
    done(call, printer, &info, said)
}

fn info_len(object: &Value, path: &str) -> usize {
    object.at(path).as_object().map_or(0, api::Map::len)
}
