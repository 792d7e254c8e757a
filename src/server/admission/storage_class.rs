//! DefaultStorageClass, DefaultIngressClass and PersistentVolumeClaimResize.

use api::kinds::{INGRESS_CLASS, STORAGE_CLASS};
use api::quantity::Quantity;
use api::{Kind, Lens, LensMut, Status, Value};
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
    let default = marked(act, &STORAGE_CLASS, &[DEFAULT, DEFAULT_BETA]).await?;
    if let Some(name) = &default {
        claim.set("spec.storageClassName", name.as_str());
    }
    Ok(default.is_some())
}

/// DefaultIngressClass: the same for ingresses.
pub(super) async fn apply_to_ingress(act: &Act<'_>, ingress: &mut Value) -> Result<bool, Status> {
    const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
    let named = ingress.has("spec.ingressClassName")
        || ingress.entry("metadata.annotations", "kubernetes.io/ingress.class").is_some();
    if named {
        return Ok(false);
    }
    let default = marked(act, &INGRESS_CLASS, &[DEFAULT]).await?;
    if let Some(name) = &default {
        ingress.set("spec.ingressClassName", name.as_str());
    }
    Ok(default.is_some())
}

/// The newest object of a kind that one of these annotations marks as the default; of equally old
/// ones the first by name.
async fn marked(
    act: &Act<'_>,
    kind: &'static Kind,
    marks: &[&str],
) -> Result<Option<String>, Status> {
    let classes = list::list(&act.core.store, kind, "", &ListOptions::default()).await?;
    let trees = classes.items.iter().map(|class| class.tree());
    let is_marked = |class: &Value| {
        marks.iter().any(|mark| class.entry("metadata.annotations", mark) == Some("true"))
    };
    let newest = trees.filter(is_marked).max_by(|a, b| {
        let time = |class: &Value| class.str("metadata.creationTimestamp").to_owned();
        time(a).cmp(&time(b)).then_with(|| b.str("metadata.name").cmp(a.str("metadata.name")))
    });
    Ok(newest.map(|class| class.str("metadata.name").to_owned()))
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
