//! DefaultStorageClass and PersistentVolumeClaimResize.

use api::kinds::STORAGE_CLASS;
use api::quantity::Quantity;
use api::{Lens, LensMut, Status, Value};
use client::ListOptions;

use super::Act;
use crate::storage::{self, list};

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const DEFAULT_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";

/// A claim without a class gets the default one, the newest if there are several.
pub(super) async fn apply(act: &Act<'_>, claim: &mut Value) -> Result<bool, Status> {
    let named = claim.has("spec.storageClassName")
        || claim.entry("metadata.annotations", "volume.beta.kubernetes.io/storage-class").is_some();
    if named {
        return Ok(false);
    }
    let classes = list::list(&act.core.store, &STORAGE_CLASS, "", &ListOptions::default()).await?;
    let default = classes
        .items
        .iter()
        .map(|class| class.tree())
        .filter(|class| {
            [DEFAULT, DEFAULT_BETA]
                .iter()
                .any(|key| class.entry("metadata.annotations", key) == Some("true"))
        })
        .max_by(|a, b| {
            let time = |class: &Value| class.str("metadata.creationTimestamp").to_owned();
            // Of equally old ones the first by name.
            time(a).cmp(&time(b)).then_with(|| b.str("metadata.name").cmp(a.str("metadata.name")))
        });
    if let Some(class) = &default {
        claim.set("spec.storageClassName", class.str("metadata.name"));
    }
    Ok(default.is_some())
}

/// A claim grows only if its class says so.
pub(super) async fn check_resize(act: &Act<'_>, claim: &Value) -> Result<(), Status> {
    let Some(old) = act.old else { return Ok(()) };
    let size = |claim: &Value| Quantity::from_tree(claim.at("spec.resources.requests.storage"));
    let (Some(new), Some(before)) = (size(claim), size(old)) else { return Ok(()) };
    if new <= before {
        return Ok(());
    }
    if old.str("status.phase") != "Bound" {
        return Err(act.forbidden(claim, "Only bound persistent volume claims can be expanded"));
    }
    let class = old.str("spec.storageClassName");
    let expands = match class {
        "" => false,
        class => storage::find(&act.core.store, &STORAGE_CLASS, "", class)
            .await?
            .is_some_and(|class| class.tree().flag("allowVolumeExpansion")),
    };
    match expands {
        true => Ok(()),
        false => Err(act.forbidden(
            claim,
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        )),
    }
}
