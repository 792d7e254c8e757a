//! Which objects a controller's object owns: keeps, adopts and releases by selector.

use api::kinds::REPLICATION_CONTROLLER;
use api::selector::Selector;
use api::{Actions, Expect, Key, Kind, Lens, Object, Value, View, json};
use stdx::Arrange;

use super::{controller_reference, controls};

/// The objects of `kind` that `owner` controls and selects; orphans that it selects are adopted
/// if `adoptable`, and its own that no longer match are released.
pub(crate) fn claim(
    view: &View<'_>,
    owner: &Object,
    kind: &'static Kind,
    selector: &Selector,
    adoptable: &dyn Fn(&Object) -> bool,
    actions: &mut Actions,
) -> Vec<Object> {
    let mut claimed = Vec::new();
    for object in view.owned(kind, owner.namespace(), owner.uid()) {
        if !controls(owner, &object) {
            continue;
        }
        if selector.matches(object.labels()) {
            claimed.push(object);
        } else if !owner.deleting() {
            release(owner, &object, actions);
        }
    }
    if owner.deleting() {
        return claimed;
    }
    let mut checked = false;
    for object in view.selected(kind, owner.namespace(), selector) {
        if object.deleting() || object.controller().is_some() || !adoptable(&object) {
            continue;
        }
        if !checked {
            // An owner that only a stale view shows must not take what its successor should have.
            actions.expect(Expect::Live { key: Key::of(owner), uid: owner.uid().into() });
            checked = true;
        }
        adopt(owner, &object, actions);
        claimed.push(object);
    }
    claimed.arrange_by(|a, b| a.name().cmp(b.name()));
    claimed
}

fn adopt(owner: &Object, object: &Object, actions: &mut Actions) {
    let mut references = others(owner, object);
    references.push(controller_reference(owner));
    actions.patch_exact(object, json!({"metadata": {"ownerReferences": references}}));
}

fn release(owner: &Object, object: &Object, actions: &mut Actions) {
    let references = others(owner, object);
    actions.patch_exact(object, json!({"metadata": {"ownerReferences": references}}));
}

/// The owner references of `object` that are not to `owner`.
fn others(owner: &Object, object: &Object) -> Vec<Value> {
    let tree = object.tree();
    let list = tree.list("metadata.ownerReferences");
    list.iter().filter(|reference| reference.str("uid") != owner.uid()).cloned().collect()
}

/// What an owner selects by: its label selector, or the map of labels of a ReplicationController.
pub(crate) fn selector_of(kind: &Kind, owner: &Value) -> Selector {
    match owner.at("spec.selector") {
        labels if *kind == REPLICATION_CONTROLLER => Selector::from_map(labels),
        selector => Selector::from_label_selector(selector),
    }
}

/// The keys that an object wakes: its controller of `kind`, or, for an orphan, all of `kind` whose
/// selector matches it.
pub(crate) fn wakes(view: &View<'_>, object: &Object, kind: &'static Kind) -> Vec<Key> {
    if let Some(owner) = object.controller() {
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let ours = &*owner.kind == kind.name && group == kind.group;
        return ours
            .then(|| Key::new(kind, object.namespace(), &*owner.name))
            .into_iter()
            .collect();
    }
    if object.deleting() || object.labels().next().is_none() {
        return Vec::new();
    }
    let mut owners = view.list(kind, Some(object.namespace()));
    owners.retain(|owner| {
        let selector = selector_of(kind, &owner.tree());
        !selector.is_everything() && selector.matches(object.labels())
    });
    owners.iter().map(Key::of).collect()
}
