//! Claims to volumes, and what they share with volumes: the phase, the class, the access modes.

use api::{Lens, Value};

use crate::page::Page;
use crate::words;

/// The phase, or that the object is being deleted; of a pod that has ended the phase counts.
pub(crate) fn status(page: &mut Page<'_>, is_pod: bool, object: &Value) {
    let (phase, deleted) = (object.str("status.phase"), object.at("metadata.deletionTimestamp"));
    if deleted.is_null() || is_pod && matches!(phase, "Failed" | "Succeeded") {
        return page.line(&["Status:\t", phase]);
    }
    let age = words::age(page.now, deleted);
    page.line(&["Status:\tTerminating (lasts ", &age, ")"]);
    if is_pod {
        page.render("Termination Grace Period:~{metadata.deletionGracePeriodSeconds=0}s", object);
    }
}

/// A claim; of a template (not `is_full`) what has a meaning before there is an object.
pub(crate) fn claim(page: &mut Page<'_>, is_full: bool, claim: &Value) {
    page.line(&["StorageClass:\t", class(claim)]);
    if is_full {
        status(page, false, claim);
    }
    page.render("Volume:~{spec.volumeName}", claim);
    page.labels("Labels", claim.at("metadata.labels"));
    page.annotations("Annotations", claim.at("metadata.annotations"));
    if is_full {
        page.render("Finalizers:~{metadata.finalizers@go}", claim);
    }
    if claim.str("spec.volumeName").is_empty() {
        page.line(&["Capacity:\t"]);
        page.line(&["Access Modes:\t"]);
    } else {
        page.render("Capacity:~{status.capacity.storage=0}", claim);
        page.line(&["Access Modes:\t", &modes(claim.at("status.accessModes"))]);
    }
    page.render(CLAIM_REST, claim);
}

const CLAIM_REST: &str = "\
?spec.volumeMode|VolumeMode:~{spec.volumeMode}
?spec.dataSource|DataSource:
?spec.dataSource|?spec.dataSource.apiGroup|  APIGroup:~{spec.dataSource.apiGroup}
?spec.dataSource|  Kind:~{spec.dataSource.kind}
?spec.dataSource|  Name:~{spec.dataSource.name}";

/// The class that a volume or a claim names.
pub(crate) fn class(object: &Value) -> &str {
    let old = object.entry("metadata.annotations", "volume.beta.kubernetes.io/storage-class");
    old.unwrap_or(object.str("spec.storageClassName"))
}

/// Access modes in short, in upstream's order.
pub(crate) fn modes(list: &Value) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| list.list("").iter().any(|given| given == mode);
    known
        .iter()
        .filter(|(mode, _)| has(mode))
        .map(|(_, short)| *short)
        .collect::<Vec<_>>()
        .join(",")
}

pub(crate) fn claims(page: &mut Page<'_>, templates: &[Value]) {
    if templates.is_empty() {
        return page.line(&["Volume Claims:\t<none>"]);
    }
    page.line(&["Volume Claims:"]);
    for template in templates {
        page.line(&["  Name:\t", template.str("metadata.name")]);
        page.line(&["  StorageClass:\t", class(template)]);
        for (title, path) in
            [("Labels", "metadata.labels"), ("Annotations", "metadata.annotations")]
        {
            page.put(&["  ", title, ":\t"]);
            let mut is_first = true;
            for (key, value) in template.pairs(path) {
                if !std::mem::replace(&mut is_first, false) {
                    page.put(&["  \t"]);
                }
                page.line(&[key, "=", value]);
            }
            page.none(is_first);
        }
        page.render(
            "  Capacity:~{spec.resources.requests.storage=<default>}\n  Access Modes:~{spec.accessModes@go}",
            template,
        );
    }
}
