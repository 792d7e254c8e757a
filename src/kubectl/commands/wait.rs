//! `kubectl wait`

use api::{Lens, Value};

use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{duration, text};
use crate::print::jsonpath::{self, JsonPath};
use crate::print::{Printer, done};
use crate::select::{self, Info, Pick};
use crate::{options, wait};

pub(crate) static COMMAND: Command = Command {
    name: "wait",
    about: "Wait for a specific condition on one or many resources.",
    short: "Experimental: Wait for a specific condition on one or many resources",
    usage: "([-f FILENAME] | resource.group/resource.name | resource.group [(-l label | --all)]) [--for=create|--for=delete|--for condition=available|--for=jsonpath='{}'[=value]]",
    flags: &[
        options::ALL,
        options::ALL_NAMESPACES,
        options::FIELD_SELECTOR,
        options::DEEP_FILES,
        options::LOCAL,
        options::PRINT,
        options::SELECTOR,
        &[
            text("for", "", "create, delete, condition=name[=value] or jsonpath='{path}'[=value]"),
            duration("timeout", "30s", "How long; 0 looks once, less than 0 is a week"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

/// What is waited for.
enum For {
    Create,
    Delete,
    Condition(String, String),
    Path(JsonPath, Option<String>),
}

fn parse(text: &str) -> Outcome<For> {
    let lower = text.to_lowercase();
    if lower == "delete" {
        return Ok(For::Delete);
    }
    if lower == "create" {
        return Ok(For::Create);
    }
    if let Some(rest) = text.strip_prefix("condition=") {
        let (name, value) = rest.split_once('=').unwrap_or((rest, "true"));
        return Ok(For::Condition(name.to_owned(), value.to_owned()));
    }
    if let Some(rest) = text.strip_prefix("jsonpath=") {
        // A value stands behind the closing brace, or behind a path without braces.
        let at = match rest.rfind('}') {
            Some(brace) => rest[brace..].find('=').map(|at| at + brace),
            None => rest.rfind('='),
        };
        let (path, value) = match at {
            Some(at) => (&rest[..at], Some(rest[at + 1..].trim_matches(['\'', '"']).to_owned())),
            None => (rest, None),
        };
        if value.as_deref() == Some("") {
            return failed(
                "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3",
            );
        }
        let path = path.trim_matches(['\'', '"']);
        if path.is_empty() {
            return failed("jsonpath expression cannot be empty");
        }
        let relaxed = jsonpath::relaxed(path).map_err(Failure::Message)?;
        let parsed = JsonPath::parse(&relaxed)
            .map_err(|why| Failure::Message(format!("error parsing jsonpath {relaxed}, {why}")))?;
        return Ok(For::Path(parsed, value));
    }
    failed(format!("unrecognized condition: {text:?}"))
}

fn run(call: &Call<'_>) -> Outcome {
    let wanted = parse(call.text("for"))?;
    let timeout = match call.nanos("timeout") {
        ..0 => wait::AGES,
        nanos => std::time::Duration::from_nanos(nanos.unsigned_abs()),
    };
    if call.args().is_empty() && !call.has_files() {
        return failed(crate::write::NO_RESOURCES);
    }
    let printer = Printer::of(call, false)?;
    let pick = Pick::of(call, call.args());
    let infos = match wanted {
        // What is not there yet, or any more, is no failure.
        For::Create | For::Delete => named(call, &pick)?,
        _ => select::all_infos(call, &pick)?,
    };
    if infos.is_empty() {
        return match wanted {
            For::Delete => Ok(()),
            _ => failed("no matching resources found"),
        };
    }
    let mut failures = Vec::new();
    for info in infos {
        failures.extend(one(call, info, &wanted, timeout, printer.as_ref()).err());
    }
    Failure::all(failures)
}

/// What is named, whether it exists or not; what is selected, as it is.
fn named(call: &Call<'_>, pick: &Pick) -> Outcome<Vec<Info>> {
    if pick.has_files() {
        return select::all_read(call, pick);
    }
    let targets = select::targets(call, pick)?;
    if targets.iter().any(|target| matches!(target, select::Target::Listed(_))) {
        return select::all_infos(call, pick);
    }
    let (own, _) = call.namespace()?;
    let named = targets.into_iter().filter_map(|target| match target {
        select::Target::Named(resource, name) => {
            let namespace = if resource.namespaced { own.clone() } else { String::new() };
            Some(Info { resource, namespace, name, object: Value::Null, source: String::new() })
        }
        select::Target::Listed(_) => None,
    });
    Ok(named.collect())
}

fn one(
    call: &Call<'_>,
    mut info: Info,
    wanted: &For,
    timeout: std::time::Duration,
    printer: Option<&Printer>,
) -> Outcome {
    if matches!(wanted, For::Delete) {
        let uid = match call.rest()?.get(&info.path()) {
            Ok(object) => object.str("metadata.uid").to_owned(),
            // As upstream: of what was never there nothing is said.
            Err(failure) if failure.is_not_found() => return Ok(()),
            Err(failure) => return Err(failure),
        };
        wait::gone(call, &info, &uid, Some(timeout))?;
        return said(call, &info, printer);
    }
    let mut last = Value::Null;
    let is_met = wait::follow(call, &info, timeout, &mut |state| {
        let Some(object) = state else { return Ok(false) };
        last = object.clone();
        match wanted {
            For::Create => Ok(true),
            For::Condition(name, value) => Ok(has(object, name, value)),
            For::Path(path, value) => leads(object, path, value.as_deref()),
            For::Delete => Ok(false),
        }
    })?;
    if !is_met {
        if matches!(wanted, For::Create) {
            return failed("timed out waiting for the condition");
        }
        if timeout.is_zero() {
            return failed(format!("condition not met for {}/{}", info.resource.plural, info.name));
        }
        return failed(format!(
            "timed out waiting for the condition on {}/{}",
            info.resource.plural, info.name
        ));
    }
    if !last.is_null() {
        info.object = last;
    }
    said(call, &info, printer)
}

fn said(call: &Call<'_>, info: &Info, printer: Option<&Printer>) -> Outcome {
    done(call, printer, info, "condition met")
}

fn has(object: &Value, name: &str, value: &str) -> bool {
    let generation = object.int("metadata.generation");
    object.list("status.conditions").iter().any(|condition| {
        let is_current = match (
            generation,
            condition.int("observedGeneration").or(object.int("status.observedGeneration")),
        ) {
            (Some(now), Some(seen)) => seen >= now,
            _ => true,
        };
        condition.str("type").eq_ignore_ascii_case(name)
            && condition.str("status").eq_ignore_ascii_case(value)
            && is_current
    })
}

fn leads(object: &Value, path: &JsonPath, value: Option<&str>) -> Outcome<bool> {
    let found = path.find(object, true).map_err(Failure::Message)?;
    let Some(value) = value else { return Ok(!found.is_empty()) };
    match found.as_slice() {
        [] => Ok(false),
        [Value::Object(_) | Value::Array(_)] => {
            failed("jsonpath leads to a nested object or list which is not supported")
        }
        [one] => Ok(jsonpath::go_value(one) == value),
        _ => failed("given jsonpath expression matches more than one value"),
    }
}
