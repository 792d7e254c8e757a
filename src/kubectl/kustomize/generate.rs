//! ConfigMaps and Secrets made of files and texts.

use std::path::Path;

use api::{Lens, LensMut, Map, Value, json};
use wire::base64;

use super::{Resource, Target, add};
use crate::failure::{Outcome, failed};

/// Adds what the generators of a kustomization make, or merges it into what is there.
pub(super) fn generate(
    target: &Target<'_>,
    root: &Path,
    tree: &Value,
    set: &mut Vec<Resource>,
) -> Outcome {
    for (field, kind) in [("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")] {
        for generator in tree.list(field) {
            let made = one(target, root, generator, tree.at("generatorOptions"), kind)?;
            put(made, generator.str("behavior"), set)?;
        }
    }
    Ok(())
}

fn put(made: Resource, behavior: &str, set: &mut Vec<Resource>) -> Outcome {
    let name = made.object.str("metadata.name").to_owned();
    let kind = made.object.str("kind").to_owned();
    let namespace = made.object.str("metadata.namespace").to_owned();
    let known = set.iter_mut().find(|own| {
        own.object.str("kind") == kind
            && own.is_called(&name)
            && (namespace.is_empty() || own.object.str("metadata.namespace") == namespace)
    });
    match (behavior, known) {
        ("" | "create" | "unspecified", _) => add(set, made),
        ("merge" | "replace", None) => failed(format!(
            "merging from generator: id resid.ResId{{Gvk:resid.Gvk{{Group:\"\", Version:\"v1\", Kind:{kind:?}, isClusterScoped:false}}, Name:{name:?}, Namespace:{namespace:?}}} does not exist; cannot merge or replace"
        )),
        ("merge" | "replace", Some(known)) => {
            if behavior == "replace" {
                for part in ["data", "binaryData"] {
                    known.object.remove(part);
                }
            }
            for part in ["data", "binaryData", "metadata.labels", "metadata.annotations"] {
                for (key, value) in made.object.pairs(part) {
                    known.object.map_mut(part).insert(key.to_owned(), value.into());
                }
            }
            known.needs_hash |= made.needs_hash;
            Ok(())
        }
        (other, _) => failed(format!("invalid behavior {other:?} of generator {name:?}")),
    }
}

fn one(
    target: &Target<'_>,
    root: &Path,
    generator: &Value,
    shared: &Value,
    kind: &str,
) -> Outcome<Resource> {
    let name = generator.str("name");
    if name.is_empty() {
        return failed(format!("a generator of a {kind} has no name"));
    }
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    if !generator.str("namespace").is_empty() {
        object.set("metadata.namespace", generator.str("namespace"));
    }
    if kind == "Secret" {
        let sort = generator.str("type");
        object["type"] = if sort.is_empty() { "Opaque" } else { sort }.into();
    }
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, bytes) in pairs(target, root, generator)? {
        if data.contains_key(&key) || binary.contains_key(&key) {
            return failed(format!("configmap {name} illegally repeats the key `{key}`"));
        }
        match String::from_utf8(bytes) {
            Ok(text) if kind == "ConfigMap" => data.insert(key, text.into()),
            Ok(text) => data.insert(key, folded(text.as_bytes()).into()),
            Err(error) if kind == "ConfigMap" => {
                binary.insert(key, folded(error.as_bytes()).into())
            }
            Err(error) => data.insert(key, folded(error.as_bytes()).into()),
        };
    }
    for (field, map) in [("data", data), ("binaryData", binary)] {
        if !map.is_empty() {
            object[field] = Value::Object(map);
        }
    }
    let own = generator.at("options");
    for field in ["labels", "annotations"] {
        for (key, value) in shared.pairs(field).chain(own.pairs(field)) {
            object.map_mut(&format!("metadata.{field}")).insert(key.to_owned(), value.into());
        }
    }
    if shared.flag("immutable") || own.flag("immutable") {
        object["immutable"] = true.into();
    }
    let is_plain = shared.flag("disableNameSuffixHash") || own.flag("disableNameSuffixHash");
    Ok(Resource::of(object, !is_plain))
}

/// Everything that a generator names: files of variables, texts, files.
fn pairs(target: &Target<'_>, root: &Path, generator: &Value) -> Outcome<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let env = generator.at("env").as_str().into_iter();
    for path in generator.list("envs").iter().filter_map(Value::as_str).chain(env) {
        let text = target.text(root, path)?;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let pair = match line.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.as_bytes().to_vec()),
                None => {
                    (line.to_owned(), (target.settings.env)(line).unwrap_or_default().into_bytes())
                }
            };
            found.push(pair);
        }
    }
    for literal in generator.list("literals").iter().filter_map(Value::as_str) {
        let Some((key, value)) = literal.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return failed(format!(
                "loading KV pairs: literal sources [{}]: invalid literal source {literal}, expected key=value",
                generator
                    .list("literals")
                    .iter()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(" ")
            ));
        };
        let quoted =
            |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        found.push((key.to_owned(), value.as_bytes().to_vec()));
    }
    for source in generator.list("files").iter().filter_map(Value::as_str) {
        let (key, path) = match source.split_once('=') {
            Some((key, path)) => (key, path),
            None => (source.rsplit('/').next().unwrap_or(source), source),
        };
        found.push((key.to_owned(), target.bytes(root, path)?));
    }
    Ok(found)
}

/// Base64; what is longer than a line on lines of 70 characters.
fn folded(bytes: &[u8]) -> String {
    let text = base64::encode(bytes);
    if text.len() < LINE {
        return text;
    }
    let mut folded = String::new();
    for line in text.as_bytes().chunks(LINE) {
        folded.push_str(&String::from_utf8_lossy(line));
        folded.push('\n');
    }
    folded
}

const LINE: usize = 70;
