//! What commands that change objects have in common: queries, dry runs, what was applied last.

use api::{Lens, LensMut, Value};
use http::Method;

use crate::call::{Call, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::truth;
use crate::rest::Body;
use crate::select::Info;

pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";

/// What every command says that was given nothing to do something with.
pub(crate) const NO_RESOURCES: &str = "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'";
pub(crate) const NO_FILES: &str = "must specify one of -f and -k";

/// The query of a write: who manages its fields, how unknown ones are judged, whether it is only tried.
///
/// # Errors
/// If a flag has a value that it cannot have.
pub(crate) fn query(call: &Call<'_>, manager: &str, more: &[(&str, &str)]) -> Outcome<String> {
    let named = call.text("field-manager");
    query_as(call, if named.is_empty() { manager } else { named }, more)
}

/// The same for this manager, whatever `--field-manager` says.
pub(crate) fn query_as(call: &Call<'_>, manager: &str, more: &[(&str, &str)]) -> Outcome<String> {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    if call.dry_run()? == DryRun::Server {
        pairs.push(("dryRun", "All".to_owned()));
    }
    pairs.push(("fieldManager", manager.to_owned()));
    if let Some(level) = validation(call)? {
        pairs.push(("fieldValidation", level.to_owned()));
    }
    pairs.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let texts: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={}", crate::discovery::escape(value)))
        .collect();
    Ok(format!("?{}", texts.join("&")))
}

/// What `--validate` says, for commands that have it.
fn validation(call: &Call<'_>) -> Outcome<Option<&'static str>> {
    match call.text("validate") {
        "" => Ok(None),
        "strict" => Ok(Some("Strict")),
        "warn" => Ok(Some("Warn")),
        "ignore" => Ok(Some("Ignore")),
        other => match truth(other) {
            Some(true) => Ok(Some("Strict")),
            Some(false) => Ok(Some("Ignore")),
            None => failed(format!(
                "invalid - validate option {other:?}; must be one of: strict (or true), warn, ignore (or false)"
            )),
        },
    }
}

/// Makes an object.
pub(crate) fn create(call: &Call<'_>, info: &Info, manager: &str) -> Outcome<Value> {
    let target =
        format!("{}{}", info.resource.path(&info.namespace, ""), query(call, manager, &[])?);
    call.rest()?.tree(Method::Post, &target, Body::json(&info.object))
}

/// Patches an object, or a part of it.
pub(crate) fn patch(
    call: &Call<'_>,
    info: &Info,
    subresource: &str,
    media: &str,
    body: &Value,
    manager: &str,
) -> Outcome<Value> {
    let sub = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
    let target = format!("{}{sub}{}", info.path(), query(call, manager, &[])?);
    let body = Body { media, bytes: body.to_string().into_bytes() };
    call.rest()?.tree(Method::Patch, &target, Some(body))
}

/// Replaces an object with what `info` has.
pub(crate) fn replace(call: &Call<'_>, info: &Info, manager: &str) -> Outcome<Value> {
    let target = format!("{}{}", info.path(), query(call, manager, &[])?);
    call.rest()?.tree(Method::Put, &target, Body::json(&info.object))
}

/// Puts the object as it stands into its own annotation, as `apply` compares it the next time.
pub(crate) fn remember(object: &mut Value) {
    let text = applied_text(object);
    object.map_mut("metadata.annotations").insert(LAST_APPLIED.to_owned(), text.into());
}

/// What the annotation holds for an object.
pub(crate) fn applied_text(object: &Value) -> String {
    let mut plain = object.clone();
    // As upstream: the map is there, whether it has entries or not.
    plain.map_mut("metadata.annotations").remove(LAST_APPLIED);
    format!("{}\n", crate::print::jsonpath::compact(&plain))
}

/// Puts the annotation in if the command was asked to, or the object has it already.
pub(crate) fn remember_if(call: &Call<'_>, object: &mut Value) {
    if call.is("save-config") && call.is_typed() {
        // What this command made has no annotations yet.
        let text = format!("{}\n", crate::print::typed_line(object));
        object.map_mut("metadata.annotations").insert(LAST_APPLIED.to_owned(), text.into());
    } else if call.is("save-config") || object.entry("metadata.annotations", LAST_APPLIED).is_some()
    {
        remember(object);
    }
}

/// The smallest merge patch that makes one tree of another.
pub(crate) fn merge_patch(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return to.clone() };
    let mut patch = api::Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(own) if own == value => {}
            Some(own) if own.is_object() && value.is_object() => {
                patch.insert(key.clone(), merge_patch(own, value));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// A failure with the file that it came from, as `create -f` and `apply` tell it.
pub(crate) fn with_source(failure: Failure, verb: &str, source: &str) -> Failure {
    match source {
        "" => failure,
        source => failure.during(&format!("error when {verb} {source:?}")),
    }
}

/// Refuses what needs `-f` or `-k` and got neither, or both.
pub(crate) fn needs_files(call: &Call<'_>) -> Outcome {
    if !call.has_files() {
        return failed(NO_FILES);
    }
    if !call.list("filename").is_empty() && !call.text("kustomize").is_empty() {
        return failed("only one of -f or -k can be specified");
    }
    if !call.text("kustomize").is_empty() && call.is("recursive") {
        return failed("the -k flag can't be used with -f or -R");
    }
    Ok(())
}
