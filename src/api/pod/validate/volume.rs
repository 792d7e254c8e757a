//! Rules of volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{inner_path, mode};
use crate::complain::Complain;
use crate::lens::Lens;
use crate::names;
use crate::quantity::Quantity;
use crate::status::Cause;

/// Checks the volumes of a pod spec at `path` and returns their names.
pub(super) fn all<'a>(spec: &'a Value, path: &str, causes: &mut Vec<Cause>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (idx, volume) in spec.list("volumes").iter().enumerate() {
        let path = format!("{path}.volumes[{idx}]");
        let name = volume.str("name");
        if !name.is_empty() {
            causes.check_name(&format!("{path}.name"), name, names::label);
        }
        if !seen.insert(name) {
            causes.duplicate(&format!("{path}.name"), &name.into());
        }
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
            .filter(|key| *key != "name")
            .collect();
        for extra in sources.iter().skip(1) {
            causes.forbidden(&format!("{path}.{extra}"), "may not specify more than 1 volume type");
        }
        match sources.first() {
            None => causes.required(&path, "must specify a volume type"),
            Some(source) => {
                self::source(source, volume.at(source), &format!("{path}.{source}"), causes);
            }
        }
    }
    seen
}

fn source(kind: &str, source: &Value, path: &str, causes: &mut Vec<Cause>) {
    match kind {
        "hostPath" => host_path(source, path, causes),
        "emptyDir" => {
            if Quantity::from_tree(source.at("sizeLimit")).is_some_and(Quantity::is_negative) {
                causes.forbidden(
                    &format!("{path}.sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                );
            }
            match source.str("medium") {
                "" | "Memory" => {}
                medium if medium.starts_with("HugePages") => {}
                medium => causes.not_supported(
                    &format!("{path}.medium"),
                    medium,
                    &["", "HugePages", "Memory"],
                ),
            }
        }
        "secret" => {
            if source.str("secretName").is_empty() {
                causes.required(&format!("{path}.secretName"), "");
            }
            mode(source.int("defaultMode"), &format!("{path}.defaultMode"), causes);
            items(source, path, causes);
        }
        "configMap" => {
            if source.str("name").is_empty() {
                causes.required(&format!("{path}.name"), "");
            }
            mode(source.int("defaultMode"), &format!("{path}.defaultMode"), causes);
            items(source, path, causes);
        }
        "downwardAPI" => {
            mode(source.int("defaultMode"), &format!("{path}.defaultMode"), causes);
            downward_items(source, path, causes);
        }
        "projected" => projected(source, path, causes),
        "nfs" if !source.str("path").is_empty() && !source.str("path").starts_with('/') => {
            causes.invalid(&format!("{path}.path"), source.at("path"), "must be an absolute path");
        }
        "csi" if !source.str("driver").is_empty() => {
            causes.check_name(
                &format!("{path}.driver"),
                &source.str("driver").to_ascii_lowercase(),
                names::subdomain,
            );
        }
        "ephemeral" if !source.has("volumeClaimTemplate") => {
            causes.required(&format!("{path}.volumeClaimTemplate"), "");
        }
        _ => {}
    }
}

/// A `HostPathVolumeSource` at `path`.
pub(crate) fn host_path(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    if source.str("path").split('/').any(|part| part == "..") {
        causes.invalid(&format!("{path}.path"), source.at("path"), "must not contain '..'");
    }
}

/// `KeyToPath` lists.
fn items(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (idx, item) in source.list("items").iter().enumerate() {
        let path = format!("{path}.items[{idx}]");
        inner_path(item.str("path"), &format!("{path}.path"), causes);
        mode(item.int("mode"), &format!("{path}.mode"), causes);
    }
}

fn downward_items(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (idx, item) in source.list("items").iter().enumerate() {
        let path = format!("{path}.items[{idx}]");
        inner_path(item.str("path"), &format!("{path}.path"), causes);
        mode(item.int("mode"), &format!("{path}.mode"), causes);
        match (item.has("fieldRef"), item.has("resourceFieldRef")) {
            (true, true) => {
                causes.invalid(
                    &path,
                    &"resource".into(),
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
            (false, false) => {
                causes.required(&path, "one of fieldRef and resourceFieldRef is required");
            }
            (true, false) => super::container::field_reference(
                item.str("fieldRef.fieldPath"),
                &format!("{path}.fieldRef.fieldPath"),
                &[
                    "metadata.name",
                    "metadata.namespace",
                    "metadata.uid",
                    "metadata.labels",
                    "metadata.annotations",
                ],
                causes,
            ),
            (false, true) => {
                if item.str("resourceFieldRef.containerName").is_empty() {
                    causes.required(&format!("{path}.resourceFieldRef.containerName"), "");
                }
            }
        }
    }
}

fn projected(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    mode(source.int("defaultMode"), &format!("{path}.defaultMode"), causes);
    for (idx, part) in source.list("sources").iter().enumerate() {
        let path = format!("{path}.sources[{idx}]");
        let kinds: Vec<&String> = part.as_object().into_iter().flat_map(|map| map.keys()).collect();
        for extra in kinds.iter().skip(1) {
            causes.forbidden(&format!("{path}.{extra}"), "may not specify more than 1 volume type");
        }
        let Some(kind) = kinds.first() else {
            causes.required(&path, "must specify a projection type");
            continue;
        };
        let (part, path) = (part.at(kind), format!("{path}.{kind}"));
        match kind.as_str() {
            "secret" | "configMap" => {
                if part.str("name").is_empty() {
                    causes.required(&format!("{path}.name"), "");
                }
                items(part, &path, causes);
            }
            "downwardAPI" => downward_items(part, &path, causes),
            "serviceAccountToken" => {
                let secs = part.int("expirationSeconds").unwrap_or(3600);
                if secs < 600 {
                    let detail = "may not specify a duration less than 10 minutes";
                    causes.invalid(&format!("{path}.expirationSeconds"), &secs.into(), detail);
                }
                if secs > 1 << 32 {
                    let detail = "may not specify a duration larger than 2^32 seconds";
                    causes.invalid(&format!("{path}.expirationSeconds"), &secs.into(), detail);
                }
                inner_path(part.str("path"), &format!("{path}.path"), causes);
            }
            _ => {}
        }
    }
}
