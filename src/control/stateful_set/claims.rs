//! The claims of a set's pods, and who owns them (`persistentVolumeClaimRetentionPolicy`).

use api::kinds::{PERSISTENT_VOLUME_CLAIM, POD};
use api::{Lens, LensMut, Object, Value, json};

use super::{Run, identity};
use crate::support::controller_reference;

/// `<template>-<pod>`
pub(super) fn name(template: &str, pod: &str) -> String {
    format!("{template}-{pod}")
}

/// What is to become of claims, as two answers.
#[derive(Clone, Copy)]
struct Retention {
    delete_with_set: bool,
    delete_with_scale: bool,
}

impl Run<'_> {
    fn retention(&self) -> Retention {
        let policy = self.tree.at("spec.persistentVolumeClaimRetentionPolicy");
        Retention {
            delete_with_set: policy.str("whenDeleted") == "Delete",
            delete_with_scale: policy.str("whenScaled") == "Delete",
        }
    }

    fn claim_names<'s>(&'s self, pod: &'s str) -> impl Iterator<Item = String> + 's {
        let templates = self.tree.list("spec.volumeClaimTemplates").iter();
        templates.map(move |template| name(template.str("metadata.name"), pod))
    }

    /// Makes the claims of a pod that are not there.
    pub(super) fn create_claims(&mut self, ordinal: i64, pod: &str) {
        let (namespace, set) = (self.object.namespace(), self.object.name());
        for template in self.tree.list("spec.volumeClaimTemplates") {
            let name = name(template.str("metadata.name"), pod);
            if self.view.get(&PERSISTENT_VOLUME_CLAIM, namespace, &name).is_some() {
                continue;
            }
            let mut claim = json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": namespace},
                "spec": template.at("spec").clone(),
            });
            for field in ["labels", "annotations"] {
                let value = template.at("metadata").at(field);
                if !value.is_null() {
                    claim.slot("metadata").set(field, value.clone());
                }
            }
            let labels = claim.map_mut("metadata.labels");
            for (key, value) in self.tree.pairs("spec.selector.matchLabels") {
                labels.insert(key.into(), value.into());
            }
            let references = self.references(&[], None, self.ordinals().contains(&ordinal));
            if !references.is_empty() {
                claim.set("metadata.ownerReferences", references);
            }
            self.actions.create(&PERSISTENT_VOLUME_CLAIM, claim);
            let message = format!("create Claim {name} Pod {pod} in StatefulSet {set} success");
            self.actions.event(self.object, "SuccessfulCreate", message);
        }
    }

    /// True while a claim still belongs to a former pod of this name: it is about to be deleted.
    pub(super) fn claim_is_stale(&self, pod: &str) -> bool {
        let namespace = self.object.namespace();
        let present = self.view.get(&POD, namespace, pod);
        let former = |owner: &api::object::Owner| {
            &*owner.kind == "Pod"
                && *owner.name == *pod
                && present.as_ref().is_none_or(|pod| *pod.uid() != *owner.uid)
        };
        self.claim_names(pod).any(|name| {
            let claim = self.view.get(&PERSISTENT_VOLUME_CLAIM, namespace, &name);
            claim.is_some_and(|claim| claim.owners().iter().any(former))
        })
    }

    /// Brings the owners of all pods' claims in line with the retention policy.
    pub(super) fn fix_claims(&mut self) {
        if !self.tree.has("spec.persistentVolumeClaimRetentionPolicy") {
            return;
        }
        for pod in &self.pods {
            let Some(ordinal) = identity::ordinal(self.object.name(), pod.name()) else { continue };
            let living = self.ordinals().contains(&ordinal);
            let names: Vec<String> = self.claim_names(pod.name()).collect();
            for name in names {
                let namespace = self.object.namespace();
                let Some(claim) = self.view.get(&PERSISTENT_VOLUME_CLAIM, namespace, &name) else {
                    continue;
                };
                let tree = claim.tree();
                let present = tree.list("metadata.ownerReferences");
                let wanted = match self.is_managed_by_others(present, &pod.object) {
                    true => {
                        let message = format!(
                            "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a managing controller, the retention policy is ignored for this claim"
                        );
                        self.actions.warning(self.object, "ConflictingController", message);
                        self.without_ours(present, &pod.object)
                    }
                    false => self.references(present, Some(&pod.object), living),
                };
                if wanted != present {
                    let patch = json!({"metadata": {"ownerReferences": wanted}});
                    self.actions.patch_exact(&claim, patch);
                }
            }
        }
    }

    /// Another controller manages the claim, or a former set or pod of the same name, which the garbage
    /// collector sees to. Where nothing is ever deleted, that is no conflict.
    fn is_managed_by_others(&self, present: &[Value], pod: &Object) -> bool {
        let policy = self.retention();
        if !policy.delete_with_set && !policy.delete_with_scale {
            return false;
        }
        present.iter().any(|reference| {
            match [self.object, pod].iter().find(|o| names(reference, o)) {
                Some(ours) => reference.str("uid") != ours.uid(),
                None => reference.flag("controller"),
            }
        })
    }

    fn without_ours(&self, present: &[Value], pod: &Object) -> Vec<Value> {
        let ours = |reference: &&Value| names(reference, self.object) || names(reference, pod);
        // A former owner of our name stays: the garbage collector knows what to make of it.
        let is_us = |r: &&Value| r.str("uid") == self.object.uid() || r.str("uid") == pod.uid();
        present.iter().filter(|r| !(ours(r) && is_us(r))).cloned().collect()
    }

    /// A claim's owner references: others' kept, the set's and the pod's as the policy says.
    fn references(&self, present: &[Value], pod: Option<&Object>, living: bool) -> Vec<Value> {
        let policy = self.retention();
        let by_pod = policy.delete_with_scale && !living;
        let by_set = policy.delete_with_set && !by_pod;
        let mut references = present.to_vec();
        let mut put = |owner: &Object, wanted: bool| {
            let place = references.iter().position(|r| r.str("uid") == owner.uid());
            match (wanted, place) {
                (true, Some(idx)) => references[idx] = controller_reference(owner),
                (true, None) => references.push(controller_reference(owner)),
                (false, _) => references.retain(|r| r.str("uid") != owner.uid()),
            }
        };
        put(self.object, by_set);
        if let Some(pod) = pod {
            put(pod, by_pod);
        }
        references
    }
}

/// The reference is to an object of this kind and name, whichever its uid.
fn names(reference: &Value, object: &Object) -> bool {
    reference.str("kind") == object.kind().name
        && reference.str("apiVersion") == object.kind().api_version()
        && reference.str("name") == object.name()
}
