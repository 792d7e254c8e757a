//! Where volumes come from: the first source that upstream looks at is checked, others are forbidden.
//!
//! Source: `validateVolumeSource` and `ValidatePersistentVolumeSpec`. What must be there and has few values, the schema says.

use api::complain::Complain;
use api::lens::Lens;
use api::names;
use api::quantity::Quantity;
use api::status::Cause;
use serde_json::Value;

use super::volume;
use crate::checks;
use crate::checks::{claim_template, driver_name};

/// In the order in which upstream looks at them.
const OF_PODS: &str = "emptyDir hostPath gitRepo gcePersistentDisk awsElasticBlockStore secret nfs iscsi glusterfs flocker \
    persistentVolumeClaim rbd cinder cephfs quobyte downwardAPI fc flexVolume configMap azureFile vsphereVolume \
    photonPersistentDisk portworxVolume azureDisk storageos projected scaleIO csi ephemeral image";
const PERSISTENT: &str = "hostPath gcePersistentDisk awsElasticBlockStore glusterfs flocker nfs rbd quobyte cephfs iscsi \
    cinder fc flexVolume azureFile vsphereVolume photonPersistentDisk portworxVolume azureDisk scaleIO local storageos csi";

/// Checks the one source that `owner` (a pod's volume, or the spec of a PersistentVolume) at `path` may have,
/// and tells which.
pub(crate) fn one(
    owner: &Value,
    path: &str,
    persistent: bool,
    causes: &mut Vec<Cause>,
) -> Option<&'static str> {
    let (root, order) = match persistent {
        true => ("PersistentVolumeSource", PERSISTENT),
        false => ("VolumeSource", OF_PODS),
    };
    let mut found = None;
    for name in order.split(' ').filter(|name| owner.has(name)) {
        // Of persistent volumes, upstream does not count this one among the others.
        if found.is_some() && !(persistent && name == "flexVolume") {
            // Upstream's names.
            let shown = match name {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                name => name,
            };
            let at = format!("{path}.{shown}");
            causes.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        found = found.or(Some(name));
        let place = if name == "gcePersistentDisk" { "persistentDisk" } else { name };
        let at = format!("{path}.{place}");
        checks::part_at(root, name, owner.at(name), &at, causes);
        source(name, owner.at(name), &at, persistent, causes);
    }
    if found.is_none() {
        causes.required(path, "must specify a volume type");
    }
    found
}

fn source(kind: &str, source: &Value, path: &str, persistent: bool, causes: &mut Vec<Cause>) {
    let at = |field: &str| format!("{path}.{field}");
    mode(source, "defaultMode", path, causes);
    match kind {
        "hostPath" | "local" => no_backsteps(source.str("path"), &at("path"), causes),
        "emptyDir" => {
            if Quantity::from_tree(source.at("sizeLimit")).is_some_and(Quantity::is_negative) {
                let detail = "SizeLimit field must be a valid resource quantity";
                causes.forbidden(&at("sizeLimit"), detail);
            }
        }
        "gitRepo" => inner_path(source.str("directory"), &at("directory"), causes),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            if !(0..=255).contains(&source.int("partition").unwrap_or(0)) {
                let detail = "must be between 1 and 255, inclusive";
                causes.invalid(&at("partition"), source.at("partition"), detail);
            }
        }
        "secret" => {
            needed(source, "secretName", path, causes);
            volume::items(source, path, causes);
        }
        "configMap" => {
            needed(source, "name", path, causes);
            volume::items(source, path, causes);
        }
        "downwardAPI" => volume::downward_items(source, path, causes),
        "projected" => volume::projected(source, path, causes),
        "nfs" if !source.str("path").starts_with('/') => {
            let detail = "must be an absolute path";
            causes.invalid(&at("path"), &source.str("path").into(), detail);
        }
        "csi" => csi(source, path, persistent, causes),
        "ephemeral" => match source.has("volumeClaimTemplate") {
            true => {
                claim_template(source.at("volumeClaimTemplate"), &at("volumeClaimTemplate"), causes)
            }
            false => causes.required(&at("volumeClaimTemplate"), ""),
        },
        other => of_others(other, source, path, persistent, causes),
    }
}

/// Storage that nothing here mounts; what is said of it is upstream's all the same.
fn of_others(kind: &str, source: &Value, path: &str, persistent: bool, causes: &mut Vec<Cause>) {
    let at = |field: &str| format!("{path}.{field}");
    match kind {
        "iscsi" => iscsi(source, path, persistent, causes),
        "glusterfs" if source.has("endpointsNamespace") => {
            let (value, at) = (source.str("endpointsNamespace"), at("endpointsNamespace"));
            match value {
                "" => {
                    let detail =
                        "if the endpointnamespace is set, it must be a valid namespace name";
                    causes.invalid(&at, &"".into(), detail);
                }
                value => causes.check_name(&at, value, names::label),
            }
        }
        "flocker" => {
            match (source.str("datasetName"), source.str("datasetUUID")) {
                ("", "") => causes.required(path, "one of datasetName and datasetUUID is required"),
                ("", _) | (_, "") => {}
                _ => {
                    let detail = "datasetName and datasetUUID can not be specified simultaneously";
                    causes.invalid(path, &"resource".into(), detail);
                }
            }
            if source.str("datasetName").contains('/') {
                causes.invalid(
                    &at("datasetName"),
                    source.at("datasetName"),
                    "must not contain '/'",
                );
            }
        }
        "cinder" => secret(source, path, persistent, causes),
        "quobyte" => quobyte(source, path, causes),
        "fc" => fibre_channel(source, path, causes),
        "flexVolume" => {
            for (key, _) in source.pairs("options") {
                let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace);
                let namespace = format!(".{}", namespace.to_ascii_lowercase());
                if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
                    let detail = "kubernetes.io and k8s.io namespaces are reserved";
                    causes.invalid(&format!("{path}.options[{key}]"), &key.into(), detail);
                }
            }
        }
        "azureFile" if source.has("secretNamespace") => {
            needed(source, "secretNamespace", path, causes);
        }
        "azureDisk" => {
            let uri = source.str("diskURI");
            let (beginning, supported) = match source.str("kind") {
                "" => return,
                "Managed" => (
                    "/subscriptions/",
                    "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
                ),
                _ => (
                    "https://",
                    "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
                ),
            };
            if !uri.starts_with(beginning) {
                causes.not_supported(&at("diskURI"), uri, &[supported]);
            }
        }
        "scaleIO" => needed(source, "volumeName", path, causes),
        "storageos" => {
            for (field, must) in [("volumeName", true), ("volumeNamespace", false)] {
                match source.str(field) {
                    "" if must => causes.required(&at(field), ""),
                    "" => {}
                    value => causes.check_name(&at(field), value, names::label),
                }
            }
            secret(source, path, persistent, causes);
        }
        _ => {}
    }
}

fn csi(source: &Value, path: &str, persistent: bool, causes: &mut Vec<Cause>) {
    driver_name(source.str("driver"), &format!("{path}.driver"), causes);
    if !persistent {
        let name = source.str("nodePublishSecretRef.name");
        if source.has("nodePublishSecretRef") {
            match name {
                "" => causes.required(&format!("{path}.nodePublishSecretRef.name"), ""),
                name => causes.check_name(&format!("{path}.name"), name, names::subdomain),
            }
        }
        return;
    }
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let reference = source.at(field);
        let checks: [(&str, fn(&str) -> Result<(), String>); 2] =
            [("name", names::subdomain), ("namespace", names::label)];
        for (part, check) in checks.into_iter().filter(|_| !reference.is_null()) {
            let at = format!("{path}.{field}.{part}");
            match reference.str(part) {
                "" => causes.required(&at, ""),
                value => causes.check_name(&at, value, check),
            }
        }
    }
}

fn iscsi(source: &Value, path: &str, persistent: bool, causes: &mut Vec<Cause>) {
    let at = |field: &str| format!("{path}.{field}");
    let mut check = |field: &str, value: &str| {
        let known = ["iqn", "eui", "naa"].iter().any(|known| value.starts_with(known));
        let detail = match (known, persistent) {
            (false, false) => "must be valid format starting with iqn, eui, or naa",
            _ if !is_initiator(value) => "must be valid format",
            _ => return,
        };
        causes.invalid(&at(field), &value.into(), detail);
    };
    if !source.str("iqn").is_empty() {
        check("iqn", source.str("iqn"));
    }
    if source.has("initiatorName") {
        check("initiatorname", source.str("initiatorName"));
    }
    lun(source, path, causes);
    let authenticates = source.flag("chapAuthDiscovery") || source.flag("chapAuthSession");
    if authenticates && !source.has("secretRef") {
        causes.required(&at("secretRef"), "");
    }
    if persistent && source.has("secretRef") {
        needed(source.at("secretRef"), "name", &at("secretRef"), causes);
    }
}

/// `iqn.YYYY-MM.domain:name`, `eui.` and 16 or `naa.` and 32 characters.
fn is_initiator(value: &str) -> bool {
    let is_id = |rest: &str, n: usize| {
        rest.len() == n + 1 && rest.bytes().skip(1).all(|b| b.is_ascii_alphanumeric())
    };
    if let Some(rest) = value.strip_prefix("eui") {
        return is_id(rest, 16);
    }
    if let Some(rest) = value.strip_prefix("naa") {
        return is_id(rest, 32);
    }
    let Some((domain, name)) = value.strip_prefix("iqn.").and_then(|rest| rest.split_once(':'))
    else {
        return false;
    };
    let date = domain.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        date.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    digits(0..4)
        && digits(5..7)
        && date.get(4) == Some(&b'-')
        && date.get(7) == Some(&b'.')
        && date.len() > 8
        && date[8..].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && !name.is_empty()
        && !name.contains(|c: char| ",;*&$|".contains(c) || c.is_ascii_whitespace())
}

fn quobyte(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    const TENANT_MAX: usize = 64;
    let registry = source.str("registry");
    if registry.is_empty() {
        causes.required(&format!("{path}.registry"), PAIRS);
    } else if source.str("tenant").len() > TENANT_MAX {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        causes.required(&format!("{path}.tenant"), detail);
    } else {
        let is_pair =
            |pair: &str| match pair.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((host, port)) => {
                    !host.contains(['[', ']'])
                        && port.matches(':').count() == 1
                        && port.starts_with(':')
                }
                None => pair.matches(':').count() == 1 && !pair.contains(['[', ']']),
            };
        for _ in registry.split(',').filter(|pair| !is_pair(pair)) {
            causes.invalid(&format!("{path}.registry"), &registry.into(), PAIRS);
            if causes.is_full() {
                return;
            }
        }
    }
}

fn fibre_channel(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    let at = |field: &str| format!("{path}.{field}");
    let (names, ids) = (source.list("targetWWNs"), source.list("wwids"));
    match (names.is_empty(), ids.is_empty()) {
        (true, true) => {
            let detail = "must specify either targetWWNs or wwids, but not both";
            causes.required(&at("targetWWNs"), detail);
        }
        (false, false) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            causes.invalid(&at("targetWWNs"), source.at("targetWWNs"), detail);
        }
        _ => {}
    }
    match source.has("lun") {
        _ if names.is_empty() => {}
        true => lun(source, path, causes),
        false => causes.required(&at("lun"), "lun is required if targetWWNs is specified"),
    }
}

fn lun(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !(0..=255).contains(&source.int("lun").unwrap_or(0)) {
        let detail = "must be between 0 and 255, inclusive";
        causes.invalid(&format!("{path}.lun"), source.at("lun"), detail);
    }
}

/// A reference to a secret, of whose namespace only PersistentVolumes speak.
fn secret(source: &Value, path: &str, persistent: bool, causes: &mut Vec<Cause>) {
    let fields: &[&str] = if persistent { &["name", "namespace"] } else { &["name"] };
    for field in fields.iter().filter(|_| source.has("secretRef")) {
        needed(source.at("secretRef"), field, &format!("{path}.secretRef"), causes);
    }
}

fn needed(source: &Value, field: &str, path: &str, causes: &mut Vec<Cause>) {
    if source.str(field).is_empty() {
        causes.required(&format!("{path}.{field}"), "");
    }
}

/// A file mode in `field` of what is at `path`.
pub(super) fn mode(of: &Value, field: &str, path: &str, causes: &mut Vec<Cause>) {
    if let Some(mode) = of.int(field).filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        causes.invalid(&format!("{path}.{field}"), &mode.into(), detail);
    }
}

/// A path that must stay below where it is put.
pub(super) fn inner_path(value: &str, path: &str, causes: &mut Vec<Cause>) {
    if value.starts_with('/') {
        causes.invalid(path, &value.into(), "must be a relative path");
    }
    no_backsteps(value, path, causes);
}

fn no_backsteps(value: &str, path: &str, causes: &mut Vec<Cause>) {
    if value.split('/').any(|part| part == "..") {
        causes.invalid(path, &value.into(), "must not contain '..'");
    }
}

/// An inner path that is no name that the kubelet keeps for itself.
pub(super) fn outside(value: &str, path: &str, causes: &mut Vec<Cause>) {
    inner_path(value, path, causes);
    if value.starts_with("..") && !value.starts_with("../") {
        causes.invalid(path, &value.into(), "must not start with '..'");
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
