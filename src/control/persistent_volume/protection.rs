//! Finalizers that keep claims while pods use them, and volumes while they are bound.

use api::controller::digest;
use api::kinds::{PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD};
use api::pod::references::{self, Target};
use api::{Actions, Controller, Expect, Key, Lens, Next, Object, View, Wakes, Watch};

use crate::support::{with_finalizer, without_finalizer};

const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";

pub(crate) struct VolumeProtection;

impl Controller for VolumeProtection {
    const NAME: &'static str = "pv-protection-controller";
    const WATCHES: &'static [Watch] = &[Watch::new(&PERSISTENT_VOLUME, Wakes::Itself)];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(volume) = view.at(key) else { return Next::Done };
        let tree = volume.tree();
        let bound = tree.str("status.phase") == "Bound";
        guard(&volume, VOLUME_FINALIZER, bound, actions);
        Next::Done
    }
}

pub(crate) struct ClaimProtection;

impl Controller for ClaimProtection {
    const NAME: &'static str = "pvc-protection-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&PERSISTENT_VOLUME_CLAIM, Wakes::Itself),
        Watch::new(&POD, Wakes::With(claims_of_pod)),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(claim) = view.at(key) else { return Next::Done };
        let pods = match claim.deleting() {
            true => view.list(&POD, Some(&key.namespace)),
            false => Vec::new(),
        };
        // Only a pod that a node may have seen counts as using it.
        let used = pods.iter().any(|pod| {
            !pod.tree().str("spec.nodeName").is_empty() && claims(pod).contains(&key.name)
        });
        let protected =
            || claim.tree().list("metadata.finalizers").iter().any(|f| f == CLAIM_FINALIZER);
        if claim.deleting() && !used && protected() {
            // A pod may have come to a node a moment ago; upstream asks the API server, too.
            let namespace = key.namespace.clone();
            actions.expect(Expect::Current { kind: &POD, namespace, seen: digest(&pods) });
        }
        guard(&claim, CLAIM_FINALIZER, used, actions);
        Next::Done
    }
}

/// Adds the finalizer to what lives, and takes it from what is being deleted and not in use.
fn guard(object: &Object, finalizer: &str, used: bool, actions: &mut Actions) {
    let tree = object.tree();
    let patch = match (object.deleting(), used) {
        (false, _) => with_finalizer(&tree, finalizer),
        (true, false) => without_finalizer(&tree, finalizer),
        (true, true) => None,
    };
    if let Some(patch) = patch {
        actions.patch_exact(object, patch);
    }
}

/// A pod that goes away, or ends, may have been the last user.
fn claims_of_pod(view: &View<'_>, pod: &Object) -> Vec<Key> {
    if view.at(&Key::of(pod)).is_some_and(|present| present.uid() == pod.uid()) {
        return Vec::new();
    }
    let key = |name: String| Key::new(&PERSISTENT_VOLUME_CLAIM, pod.namespace(), name);
    claims(pod).into_iter().map(key).collect()
}

/// The names of the claims that a pod mounts.
fn claims(pod: &Object) -> Vec<String> {
    references::names(&pod.tree(), Target::Claim)
}
