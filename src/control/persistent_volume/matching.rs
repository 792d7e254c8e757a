//! Which volume fits a claim, and which fits best: the smallest that is large enough.

use api::kinds::PERSISTENT_VOLUME;
use api::quantity::Quantity;
use api::selector::Selector;
use api::{Lens, Object, Value, View};

use super::{class_name, is_for};
use crate::support::nodes::selects;

/// The volume promised to the claim, or the smallest free one that fits (on `node`, if it is
/// known). A claim that is `delayed` gets only what was promised to it.
pub(super) fn best(
    view: &View<'_>,
    claim: &Object,
    tree: &Value,
    node: Option<&Value>,
    delayed: bool,
) -> Option<Object> {
    let mut best: Option<(Quantity, Object)> = None;
    for volume in view.list(&PERSISTENT_VOLUME, None) {
        let candidate = volume.tree();
        if volume.deleting() || mode(&candidate) != mode(tree) {
            continue;
        }
        let size = size(candidate.at("spec.capacity.storage"));
        if size < wanted(tree) {
            continue;
        }
        if is_for(&candidate, claim) {
            return Some(volume);
        }
        let free = candidate.str("status.phase") == "Available" && !candidate.has("spec.claimRef");
        if delayed || !free || mismatch(&candidate, tree).is_some() {
            continue;
        }
        let selector = tree.at("spec.selector");
        if !selector.is_null() && !Selector::from_label_selector(selector).matches(volume.labels())
        {
            continue;
        }
        let affinity = candidate.at("spec.nodeAffinity.required");
        if node.is_some_and(|node| !affinity.is_null() && !selects(affinity, node)) {
            continue;
        }
        if best.as_ref().is_none_or(|(least, _)| size < *least) {
            best = Some((size, volume));
        }
    }
    best.map(|(_, volume)| volume)
}

/// Why a volume cannot serve a claim that asks for it.
pub(super) fn mismatch(volume: &Value, claim: &Value) -> Option<&'static str> {
    if size(volume.at("spec.capacity.storage")) < wanted(claim) {
        return Some("requested PV is too small");
    }
    if volume.str("spec.storageClassName") != class_name(claim) {
        return Some("storageClassName does not match");
    }
    if mode(volume) != mode(claim) {
        return Some("incompatible volumeMode");
    }
    let modes = volume.list("spec.accessModes");
    let missing = claim.list("spec.accessModes").iter().any(|mode| !modes.contains(mode));
    missing.then_some("incompatible accessMode")
}

fn mode(tree: &Value) -> &str {
    match tree.str("spec.volumeMode") {
        "" => "Filesystem",
        mode => mode,
    }
}

fn wanted(claim: &Value) -> Quantity {
    size(claim.at("spec.resources.requests.storage"))
}

fn size(value: &Value) -> Quantity {
    Quantity::from_tree(value).unwrap_or(Quantity::ZERO)
}
