//! Patches of kustomizations: strategic merges and lists of operations, and whom they are for.

use std::path::Path;

use api::schema::{TypeId, schema};
use api::selector::Selector;
use api::{Lens, LensMut, Map, Value};

use super::{Resource, Target};
use crate::failure::{Failure, Outcome, failed};

/// Levels of a patch; the reader of YAML allows no more.
const DEPTH_MAX: usize = 128;

/// The entries of `patches` or `patchesJson6902`.
pub(super) fn patches(
    target: &Target<'_>,
    root: &Path,
    entries: &[Value],
    set: &mut Vec<Resource>,
) -> Outcome {
    for entry in entries {
        let text = match (entry.str("patch"), entry.str("path")) {
            ("", "") => return failed("must specify one of patch and path in\n"),
            ("", path) => target.text(root, path)?,
            (text, _) => text.to_owned(),
        };
        let documents = wire::yaml::parse(&text).map_err(|error| {
            Failure::Message(format!(
                "unable to parse SM or JSON patch from [patch: {text:?}]: {error}"
            ))
        })?;
        let to = entry.at("target");
        for document in documents {
            match (&document, to.is_object()) {
                (Value::Array(_), false) => {
                    return failed(format!(
                        "must specify a target for JSON patch [patch: {text:?}]"
                    ));
                }
                (Value::Array(_), true) => {
                    for resource in set.iter_mut().filter(|own| fits(own, to)) {
                        operations(resource, &document)?;
                    }
                }
                (_, true) => {
                    for resource in set.iter_mut().filter(|own| fits(own, to)) {
                        merge_into(resource, &document, entry.at("options"));
                    }
                }
                (_, false) => alone(set, &document, entry.at("options"))?,
            }
        }
        set.retain(|resource| !resource.object.is_null());
    }
    Ok(())
}

/// Patches that say themselves whom they are for.
pub(super) fn strategic_alone(set: &mut Vec<Resource>, text: &str) -> Outcome {
    let documents = wire::yaml::parse(text).map_err(|error| Failure::Message(error.to_string()))?;
    for document in documents {
        alone(set, &document, &Value::Null)?;
    }
    set.retain(|resource| !resource.object.is_null());
    Ok(())
}

fn alone(set: &mut [Resource], patch: &Value, options: &Value) -> Outcome {
    let is_it = |own: &&mut Resource| {
        let namespace = patch.str("metadata.namespace");
        own.object.str("kind") == patch.str("kind")
            && own.object.str("apiVersion") == patch.str("apiVersion")
            && own.is_called(patch.str("metadata.name"))
            && (namespace.is_empty() || own.object.str("metadata.namespace") == namespace)
    };
    let mut found = set.iter_mut().filter(is_it);
    let Some(resource) = found.next() else {
        let id = Resource::of(patch.clone(), false).id();
        return failed(format!(
            "no resource matches strategic merge patch {id:?}: no matches for Id {id}; failed to find unique target for patch {id}"
        ));
    };
    if found.next().is_some() {
        let id = resource.id();
        return failed(format!(
            "multiple matches for Id {id}; failed to find unique target for patch {id}"
        ));
    }
    merge_into(resource, patch, options);
    Ok(())
}

fn operations(resource: &mut Resource, patch: &Value) -> Outcome {
    let name = resource.object.at("metadata.name").clone();
    let done = api::patch::json(&mut resource.object, patch);
    done.map_err(|status| Failure::Message(status.message().to_string()))?;
    if resource.object.at("metadata.name") != &name {
        resource.names.push(resource.object.str("metadata.name").to_owned());
    }
    Ok(())
}

/// Whether a target means a resource. Its texts are whole patterns: words with `.*`, `|` and the like.
fn fits(resource: &Resource, target: &Value) -> bool {
    let object = &resource.object;
    let (group, version) =
        object.str("apiVersion").split_once('/').unwrap_or(("", object.str("apiVersion")));
    let plain = [(group, "group"), (version, "version")];
    let is = |text: &str, field: &str| {
        let pattern = target.str(field);
        pattern.is_empty() || pattern_fits(pattern, text)
    };
    plain.iter().all(|(text, field)| target.str(field).is_empty() || target.str(field) == *text)
        && is(object.str("kind"), "kind")
        && is(object.str("metadata.namespace"), "namespace")
        && (is(object.str("metadata.name"), "name")
            || resource.names.iter().any(|name| is(name, "name")))
        && selected(target.str("labelSelector"), object.at("metadata.labels"))
        && selected(target.str("annotationSelector"), object.at("metadata.annotations"))
}

fn selected(selector: &str, map: &Value) -> bool {
    selector.is_empty() || Selector::parse(selector).is_ok_and(|selector| selector.matches_map(map))
}

/// A regular expression for all of a text.
fn pattern_fits(pattern: &str, text: &str) -> bool {
    let is_plain = pattern.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/:".contains(&b));
    match is_plain {
        true => pattern == text,
        false => regex_lite::Regex::new(&format!("^(?:{pattern})$"))
            .is_ok_and(|regex| regex.is_match(text)),
    }
}

/// Merges a patch; the name and the kind stay, unless the options say otherwise. A resource that goes becomes null.
fn merge_into(resource: &mut Resource, patch: &Value, options: &Value) {
    if patch.str("$patch") == "delete" {
        resource.object = Value::Null;
        return;
    }
    let (api_version, kind) =
        (resource.object.str("apiVersion").to_owned(), resource.object.str("kind").to_owned());
    let (name, namespace) = (
        resource.object.at("metadata.name").clone(),
        resource.object.at("metadata.namespace").clone(),
    );
    merge(&mut resource.object, patch, type_of(&api_version, &kind), 0);
    if !options.flag("allowNameChange") {
        resource.object.set("metadata.name", name);
        match namespace {
            Value::Null => {
                resource.object.remove("metadata.namespace");
            }
            namespace => resource.object.set("metadata.namespace", namespace),
        }
    } else {
        resource.names.push(resource.object.str("metadata.name").to_owned());
    }
    if !options.flag("allowKindChange") {
        resource.object.set("apiVersion", api_version);
        resource.object.set("kind", kind);
    }
}

/// The schema of a built-in kind.
fn type_of(api_version: &str, kind: &str) -> Option<TypeId> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kinds = api::Kinds::built_in();
    let own = kinds.by_name(group, kind)?;
    kinds.of_kind(own, group, version)?.form().table()
}

/// As kyaml merges: null takes away, lists with a merge key merge by it, and what is new stands first; other lists are
/// replaced.
fn merge(tree: &mut Value, patch: &Value, of: Option<TypeId>, depth: usize) {
    let Value::Object(changes) = patch else {
        *tree = patch.clone();
        return;
    };
    if changes.get("$patch").and_then(Value::as_str) == Some("replace") {
        let mut whole = changes.clone();
        whole.remove("$patch");
        *tree = Value::Object(whole);
        return;
    }
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    let Value::Object(map) = tree else { return };
    for (key, change) in changes {
        let field = of.and_then(|of| schema().by_json(of, key));
        let inner = field.and_then(api::schema::Field::message);
        match change {
            Value::Null => {
                map.remove(key);
            }
            Value::Object(change)
                if change.get("$patch").and_then(Value::as_str) == Some("delete") =>
            {
                map.remove(key);
            }
            Value::Object(_) if depth < DEPTH_MAX => {
                merge(map.entry(key.clone()).or_insert(Value::Null), change, inner, depth + 1);
            }
            Value::Array(items) => {
                let slot = map.entry(key.clone()).or_insert(Value::Null);
                let merge_key = field.map_or("", |field| field.extra().merge_key);
                let is_set = field.is_some_and(|field| field.merge() && merge_key.is_empty());
                match slot {
                    Value::Array(old) if !merge_key.is_empty() => {
                        *slot = Value::Array(merged(old, items, merge_key, inner, depth));
                    }
                    Value::Array(old) if is_set => {
                        let rest = old.iter().filter(|item| !items.contains(item)).cloned();
                        *slot = Value::Array(items.iter().cloned().chain(rest).collect());
                    }
                    slot => *slot = Value::Array(without_directives(items)),
                }
            }
            other => {
                map.insert(key.clone(), other.clone());
            }
        }
    }
}

fn merged(
    old: &[Value],
    items: &[Value],
    merge_key: &str,
    of: Option<TypeId>,
    depth: usize,
) -> Vec<Value> {
    if items.iter().any(|item| item.str("$patch") == "replace") {
        return without_directives(items);
    }
    let mut new: Vec<Value> = Vec::new();
    for item in items {
        let known = old.iter().find(|own| own.get(merge_key) == item.get(merge_key));
        if item.str("$patch") == "delete" {
            continue;
        }
        let mut one = known.cloned().unwrap_or(Value::Null);
        if depth < DEPTH_MAX {
            merge(&mut one, item, of, depth + 1);
        }
        new.push(one);
    }
    let rest = old
        .iter()
        .filter(|own| !items.iter().any(|item| item.get(merge_key) == own.get(merge_key)));
    new.extend(rest.cloned());
    new
}

fn without_directives(items: &[Value]) -> Vec<Value> {
    items.iter().filter(|item| item.str("$patch").is_empty()).cloned().collect()
}
