//! Rules of volumes: those of pods, and PersistentVolumes' own sources.

use api::complain::Complain;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use super::source::{self, mode, outside};
use crate::checks;

/// Checks the volumes of a pod spec at `path` and returns the names of those with nothing wrong.
pub(super) fn all<'a>(spec: &'a Value, path: &str, causes: &mut Vec<Cause>) -> OrdSet<&'a str> {
    let mut seen = OrdSet::new();
    for (idx, volume) in spec.list("volumes").iter().enumerate() {
        let path = format!("{path}.volumes[{idx}]");
        let (name, before) = (volume.str("name"), causes.len());
        source::one(volume, &path, false, causes);
        match name {
            "" => causes.required(&format!("{path}.name"), ""),
            name => causes.check_name(&format!("{path}.name"), name, names::label),
        }
        if seen.contains(name) {
            causes.duplicate(&format!("{path}.name"), &name.into());
        }
        // Mounts of what is wrong are not found.
        if causes.len() == before && !causes.is_full() {
            seen.insert(name);
        }
    }
    seen
}

/// `KeyToPath` lists.
pub(super) fn items(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (idx, item) in source.list("items").iter().enumerate() {
        let path = format!("{path}.items[{idx}]");
        outside(item.str("path"), &format!("{path}.path"), causes);
        mode(item, "mode", &path, causes);
    }
}

/// Files of the downward API, of which upstream does not say which one it means.
pub(super) fn downward_items(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    for item in source.list("items") {
        if item.str("path").is_empty() {
            causes.required(&format!("{path}.path"), "");
        }
        outside(item.str("path"), &format!("{path}.path"), causes);
        match (item.has("fieldRef"), item.has("resourceFieldRef")) {
            (true, both) => {
                super::container::field_reference(
                    item.at("fieldRef"),
                    &format!("{path}.fieldRef"),
                    &[
                        "metadata.annotations",
                        "metadata.labels",
                        "metadata.name",
                        "metadata.namespace",
                        "metadata.uid",
                    ],
                    causes,
                );
                if both {
                    let detail =
                        "fieldRef and resourceFieldRef can not be specified simultaneously";
                    causes.invalid(path, &"resource".into(), detail);
                }
            }
            (false, true) => super::container::resource_reference(
                item.at("resourceFieldRef"),
                &format!("{path}.resourceFieldRef"),
                true,
                causes,
            ),
            (false, false) => {
                causes.required(path, "one of fieldRef and resourceFieldRef is required");
            }
        }
        mode(item, "mode", path, causes);
    }
}

/// The parts of a projected volume.
pub(super) fn projected(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut paths = OrdSet::new();
    for (idx, part) in source.list("sources").iter().enumerate() {
        let at = format!("{path}.sources[{idx}]");
        for kind in ["secret", "configMap"].into_iter().filter(|kind| part.has(kind)) {
            let (part, at) = (part.at(kind), format!("{at}.{kind}"));
            if part.str("name").is_empty() {
                causes.required(&format!("{at}.name"), "");
            }
            checks::part_at(
                "SecretProjection",
                "items",
                part.at("items"),
                &format!("{at}.items"),
                causes,
            );
            items(part, &at, causes);
            unique(part, Some(part.str("name")), &mut paths, path, causes);
        }
        if part.has("downwardAPI") {
            let part = part.at("downwardAPI");
            downward_items(part, &format!("{at}.downwardAPI"), causes);
            unique(part, None, &mut paths, path, causes);
        }
        if part.has("serviceAccountToken") {
            token(
                part.at("serviceAccountToken"),
                path,
                &format!("{at}.serviceAccountToken"),
                causes,
            );
        }
        if part.as_object().is_some_and(|map| map.len() > 1) {
            causes.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

/// The files of all parts are in one directory; `shown` stands for one that is there twice, if it is something.
fn unique<'a>(
    part: &'a Value,
    shown: Option<&str>,
    paths: &mut OrdSet<&'a str>,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    for item in part.list("items") {
        let file = item.str("path");
        if !file.is_empty() && !paths.insert(file) {
            causes.invalid(path, &shown.unwrap_or(file).into(), "conflicting duplicate paths");
        }
    }
}

fn token(part: &Value, of_volume: &str, path: &str, causes: &mut Vec<Cause>) {
    let secs = part.int("expirationSeconds").unwrap_or(3600);
    if secs < 600 {
        let detail = "may not specify a duration less than 10 minutes";
        causes.invalid(&format!("{path}.expirationSeconds"), &secs.into(), detail);
    }
    if secs > 1 << 32 {
        let detail = "may not specify a duration larger than 2^32 seconds";
        causes.invalid(&format!("{path}.expirationSeconds"), &secs.into(), detail);
    }
    // Upstream says this of the volume, not of its part.
    let at = format!("{of_volume}.path");
    match part.str("path") {
        "" => causes.required(&at, ""),
        inner => outside(inner, &at, causes),
    }
}
