//! Persistent volumes: claims find volumes, volumes are made for claims and cleared away after them.

mod attach;
mod ephemeral;
mod local_path;
mod matching;
mod protection;
#[cfg(test)]
mod tests;

pub(crate) use attach::AttachDetach;
pub(crate) use ephemeral::EphemeralVolumes;
pub(crate) use local_path::LocalPath;
pub(crate) use protection::{ClaimProtection, VolumeProtection};

use api::kinds::{NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS};
use api::{Actions, Controller, Expect, Key, Kind, Lens, LensMut, Next, Object, Value, View};
use api::{Quantity, Wakes, Watch, json};

use crate::support::{created, same};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Binds claims and volumes, one key of either kind at a time.
pub(crate) struct Binder;

impl Controller for Binder {
    const NAME: &'static str = "persistent-volume-binder";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&PERSISTENT_VOLUME_CLAIM, Wakes::With(wakes_of_claim)),
        Watch::new(&PERSISTENT_VOLUME, Wakes::With(wakes_of_volume)),
        Watch::new(&STORAGE_CLASS, Wakes::With(|view, _| unbound_claims(view))),
    ];
    const READS: &'static [&'static Kind] = &[&NODE];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key) else { return Next::Done };
        match *key.kind == PERSISTENT_VOLUME {
            true => sync_volume(view, &object, actions),
            false => Claim::new(view, &object, actions).sync(),
        }
        Next::Done
    }
}

/// A claim concerns itself and the volumes that name it or that it names.
fn wakes_of_claim(view: &View<'_>, claim: &Object) -> Vec<Key> {
    let mut keys = vec![Key::of(claim)];
    let name = claim.tree().str("spec.volumeName").to_owned();
    let volumes = view.list(&PERSISTENT_VOLUME, None);
    let concerned = volumes.iter().filter(|volume| {
        let tree = volume.tree();
        volume.name() == name || names_claim(tree.at("spec.claimRef"), claim)
    });
    keys.extend(concerned.map(Key::of));
    keys
}

/// A volume concerns itself, its claim, and if it is free every claim that has none.
fn wakes_of_volume(view: &View<'_>, volume: &Object) -> Vec<Key> {
    let tree = volume.tree();
    let mut keys = vec![Key::of(volume)];
    match tree.at("spec.claimRef") {
        Value::Null => keys.extend(unbound_claims(view)),
        reference => keys.push(Key::new(
            &PERSISTENT_VOLUME_CLAIM,
            reference.str("namespace"),
            reference.str("name"),
        )),
    }
    keys
}

fn unbound_claims(view: &View<'_>) -> Vec<Key> {
    let mut claims = view.list(&PERSISTENT_VOLUME_CLAIM, None);
    claims.retain(|claim| claim.tree().entry("metadata.annotations", BIND_COMPLETED).is_none());
    claims.iter().map(Key::of).collect()
}

/// True if a claim reference is to this claim by name (its uid may be open).
fn names_claim(reference: &Value, claim: &Object) -> bool {
    reference.str("name") == claim.name() && reference.str("namespace") == claim.namespace()
}

/// True if a volume is bound, or promised, to this claim.
fn is_for(volume: &Value, claim: &Object) -> bool {
    let reference = volume.at("spec.claimRef");
    let uid = reference.str("uid");
    names_claim(reference, claim) && (uid.is_empty() || uid == claim.uid())
}

/// The claim's class: the field, or the annotation from before there was one.
pub(super) fn class_name(tree: &Value) -> &str {
    let beta = tree.entry("metadata.annotations", "volume.beta.kubernetes.io/storage-class");
    beta.unwrap_or_else(|| tree.str("spec.storageClassName"))
}

fn set_phase(volume: &Object, tree: &Value, phase: &str, now: &View<'_>, actions: &mut Actions) {
    if tree.str("status.phase") != phase {
        let time = api::time::format(now.now.wall);
        let status = json!({"phase": phase, "lastPhaseTransitionTime": time, "message": null});
        actions.patch_status(volume, json!({"status": status}));
    }
}

/// The phase of a volume follows from its claim; what is released is reclaimed.
fn sync_volume(view: &View<'_>, volume: &Object, actions: &mut Actions) {
    let tree = volume.tree();
    let reference = tree.at("spec.claimRef");
    if reference.str("uid").is_empty() {
        return set_phase(volume, &tree, "Available", view, actions);
    }
    let (namespace, name) = (reference.str("namespace"), reference.str("name"));
    let claim = view.get(&PERSISTENT_VOLUME_CLAIM, namespace, name);
    let Some(claim) = claim.filter(|claim| claim.uid() == reference.str("uid")) else {
        return release(view, volume, &tree, actions);
    };
    match claim.tree().str("spec.volumeName") {
        "" => {}
        bound if bound == volume.name() => set_phase(volume, &tree, "Bound", view, actions),
        _ => {
            // The claim has another volume. What was made for it is not needed; what is a
            // person's stays promised only if the person promised it.
            let annotation = |key: &str| tree.entry("metadata.annotations", key).is_some();
            let delete = tree.str("spec.persistentVolumeReclaimPolicy") == "Delete";
            if annotation(PROVISIONED_BY) && delete {
                return release(view, volume, &tree, actions);
            }
            let patch = match annotation(BOUND_BY_CONTROLLER) {
                true => json!({
                    "metadata": {"annotations": {BOUND_BY_CONTROLLER: null}},
                    "spec": {"claimRef": null},
                }),
                false => json!({"spec": {"claimRef": {"uid": null, "resourceVersion": null}}}),
            };
            actions.patch_exact(volume, patch);
            set_phase(volume, &tree, "Available", view, actions);
        }
    }
}

/// Its claim is gone for good: the volume is Released, and cleared away if its policy says so.
fn release(view: &View<'_>, volume: &Object, tree: &Value, actions: &mut Actions) {
    if !matches!(tree.str("status.phase"), "Released" | "Failed") {
        let reference = tree.at("spec.claimRef");
        let (namespace, name) = (reference.str("namespace"), reference.str("name"));
        let key = Key::new(&PERSISTENT_VOLUME_CLAIM, namespace, name);
        let uid = reference.str("uid").to_owned();
        let claim = view.at(&key);
        if claim.is_none_or(|claim| claim.uid() != uid) {
            actions.expect(Expect::Gone { key, uid });
        }
        set_phase(volume, tree, "Released", view, actions);
    } else if tree.str("status.phase") == "Released"
        && tree.str("spec.persistentVolumeReclaimPolicy") == "Delete"
        && tree.entry("metadata.annotations", PROVISIONED_BY).is_none()
    {
        // Nobody made it, so nobody knows how to unmake it.
        let name = volume.name();
        let why = format!(
            "error getting deleter volume plugin for volume \"{name}\": no volume plugin matched"
        );
        actions.warning(volume, "VolumeFailedDelete", why.clone());
        let time = api::time::format(view.now.wall);
        let status = json!({"phase": "Failed", "message": why, "lastPhaseTransitionTime": time});
        actions.patch_status(volume, json!({"status": status}));
    }
}

/// One reconcile of one claim.
struct Claim<'a> {
    view: &'a View<'a>,
    object: &'a Object,
    tree: Value,
    actions: &'a mut Actions,
}

impl<'a> Claim<'a> {
    fn new(view: &'a View<'a>, object: &'a Object, actions: &'a mut Actions) -> Claim<'a> {
        Claim { view, object, tree: object.tree(), actions }
    }

    fn sync(&mut self) {
        let completed = self.tree.entry("metadata.annotations", BIND_COMPLETED).is_some();
        let name = self.tree.str("spec.volumeName").to_owned();
        let volume = self.view.get(&PERSISTENT_VOLUME, "", &name).filter(|_| !name.is_empty());
        match (completed, name.is_empty(), volume) {
            (true, true, _) => self.lose(
                "ClaimLost",
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
            ),
            (true, false, None) => self.lose(
                "ClaimLost",
                "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
            ),
            (true, false, Some(volume)) => {
                let tree = volume.tree();
                match !tree.has("spec.claimRef") || is_for(&tree, self.object) {
                    true => {
                        self.bind(&volume);
                        self.tell_of_growth();
                    }
                    false => self.lose(
                        "ClaimMisbound",
                        "Two claims are bound to the same volume, this one is bound incorrectly",
                    ),
                }
            }
            (false, false, None) => self.set_phase("Pending"),
            (false, false, Some(volume)) => self.bind_named(&volume),
            (false, true, _) => self.find(),
        }
    }

    /// A claim that asks for more than it has waits for the helper of its driver.
    fn tell_of_growth(&mut self) {
        let size = |path: &str| Quantity::from_tree(self.tree.at(path));
        let has = size("status.capacity.storage");
        if has.is_some() && size("spec.resources.requests.storage") > has {
            let message = "waiting for an external controller to expand this PVC";
            self.actions.event(self.object, "ExternalExpanding", message);
        }
    }

    /// The claim names its volume.
    fn bind_named(&mut self, volume: &Object) {
        let tree = volume.tree();
        if is_for(&tree, self.object) {
            return self.bind(volume);
        }
        if tree.has("spec.claimRef") {
            let message = "volume already bound to a different claim.";
            self.actions.warning(self.object, "FailedBinding", message);
        } else if let Some(why) = matching::mismatch(&tree, &self.tree) {
            let name = volume.name();
            let message = format!("Cannot bind to requested volume \"{name}\": {why}");
            self.actions.warning(self.object, "VolumeMismatch", message);
        } else {
            return self.bind(volume);
        }
        self.set_phase("Pending");
    }

    /// Any volume will do that fits.
    fn find(&mut self) {
        if self.tree.at("spec.storageClassName").is_null()
            && class_name(&self.tree).is_empty()
            && let Some(class) = default_class(self.view)
        {
            // The default class came to be after the claim.
            let patch = json!({"spec": {"storageClassName": class}});
            return self.actions.patch_exact(self.object, patch);
        }
        let class_name = class_name(&self.tree).to_owned();
        let class = self.view.get(&STORAGE_CLASS, "", &class_name).map(|class| class.tree());
        let waits = class
            .as_ref()
            .is_some_and(|class| class.str("volumeBindingMode") == "WaitForFirstConsumer");
        let node = self.tree.entry("metadata.annotations", SELECTED_NODE);
        let node = node.and_then(|name| self.view.get(&NODE, "", name));
        let delayed = waits && self.tree.entry("metadata.annotations", SELECTED_NODE).is_none();
        let node = node.map(|node| node.tree());
        if let Some(volume) =
            matching::best(self.view, self.object, &self.tree, node.as_ref(), delayed)
        {
            return self.bind(&volume);
        }
        if delayed {
            let message = "waiting for first consumer to be created before binding";
            self.actions.event(self.object, "WaitForFirstConsumer", message);
        } else if class_name.is_empty() {
            let message =
                "no persistent volumes available for this claim and no storage class is set";
            self.actions.event(self.object, "FailedBinding", message);
        } else {
            self.provision(&class_name, class.as_ref());
        }
        self.set_phase("Pending");
    }

    /// Asks the class's provisioner for a volume.
    fn provision(&mut self, class_name: &str, class: Option<&Value>) {
        let Some(class) = class else {
            let message = format!("storageclass.storage.k8s.io \"{class_name}\" not found");
            return self.actions.warning(self.object, "ProvisioningFailed", message);
        };
        let provisioner = class.str("provisioner");
        if matches!(provisioner, "" | NO_PROVISIONER) {
            return;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' \
             or manually by the system administrator. If volume creation is delayed, please verify \
             that the provisioner is running and correctly registered."
        );
        self.actions.event(self.object, "ExternalProvisioning", message);
        if self.tree.entry("metadata.annotations", PROVISIONER) != Some(provisioner) {
            let annotations = json!({PROVISIONER: provisioner, PROVISIONER_BETA: provisioner});
            self.actions.patch(self.object, json!({"metadata": {"annotations": annotations}}));
        }
    }

    /// Makes volume and claim name each other and say that they are bound: four writes, each of
    /// which is left out if it was done before.
    fn bind(&mut self, volume: &Object) {
        let tree = volume.tree();
        let reference = tree.at("spec.claimRef");
        if reference.str("uid") != self.object.uid() {
            let mut patch = json!({"spec": {"claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": self.object.namespace(), "name": self.object.name(),
                "uid": self.object.uid(),
                "resourceVersion": self.object.revision().to_string(),
            }}});
            if reference.is_null() {
                patch.set("metadata.annotations", json!({BOUND_BY_CONTROLLER: "yes"}));
            }
            self.actions.patch_exact(volume, patch);
        }
        set_phase(volume, &tree, "Bound", self.view, self.actions);
        let mut patch = json!({});
        let mut annotations = json!({});
        if self.tree.str("spec.volumeName") != volume.name() {
            patch.set("spec.volumeName", volume.name());
            annotations.map_mut("").insert(BOUND_BY_CONTROLLER.into(), "yes".into());
        }
        if self.tree.entry("metadata.annotations", BIND_COMPLETED).is_none() {
            annotations.map_mut("").insert(BIND_COMPLETED.into(), "yes".into());
        }
        if annotations.as_object().is_some_and(|map| !map.is_empty()) {
            patch.set("metadata.annotations", annotations);
            self.actions.patch_exact(self.object, patch);
        }
        let mut status = self.tree.at("status").clone();
        status.set("phase", "Bound");
        status.set("accessModes", tree.at("spec.accessModes").clone());
        if status.str("capacity.storage").is_empty() || self.tree.str("status.phase") != "Bound" {
            status.set("capacity", tree.at("spec.capacity").clone());
        }
        if !same(self.tree.at("status"), &status) {
            self.actions.patch_status(self.object, json!({"status": status}));
        }
    }

    fn set_phase(&mut self, phase: &str) {
        if self.tree.str("status.phase") != phase {
            self.actions.patch_status(self.object, json!({"status": {"phase": phase}}));
        }
    }

    fn lose(&mut self, reason: &'static str, message: &str) {
        if self.tree.str("status.phase") != "Lost" {
            self.actions.warning(self.object, reason, message);
            let status = json!({"phase": "Lost", "accessModes": null, "capacity": null});
            self.actions.patch_status(self.object, json!({"status": status}));
        }
    }
}

/// The newest class that is marked as the default.
fn default_class(view: &View<'_>) -> Option<String> {
    let classes = view.list(&STORAGE_CLASS, None).into_iter().map(|class| class.tree());
    let marked =
        classes.filter(|class| class.entry("metadata.annotations", DEFAULT_CLASS) == Some("true"));
    // Of equally old ones the first by name.
    let newest = marked.max_by(|a, b| {
        let order = created(a).cmp(&created(b));
        order.then_with(|| b.str("metadata.name").cmp(a.str("metadata.name")))
    });
    newest.map(|class| class.str("metadata.name").to_owned())
}
