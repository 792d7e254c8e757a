//! A claim has one volume and the volume that claim; a claim in use is not removed.

use std::collections::BTreeMap;

use api::kinds::{PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD};
use api::pod::references::{self, Target};
use api::{Lens, Object};

use super::{Change, Check, Known, Verdict};

/// The pods that used a claim when its deletion began, by the claim's uid.
#[derive(Default)]
pub(super) struct Binding(BTreeMap<String, Vec<String>>);

impl Check for Binding {
    fn changed(&mut self, known: &Known, change: &Change) -> Verdict {
        let Some(object) = change.now.as_ref().or(change.before.as_ref()) else { return Ok(()) };
        if *object.kind() != PERSISTENT_VOLUME_CLAIM {
            return Ok(());
        }
        if let Some(claim) = &change.now {
            one_volume(known, change, claim)?;
            if claim.deleting() && change.before.as_ref().is_some_and(|before| !before.deleting()) {
                let users = users(known, claim).map(|pod| pod.uid().to_owned()).collect();
                self.0.insert(claim.uid().to_owned(), users);
            }
            return Ok(());
        }
        let then = self.0.remove(object.uid()).unwrap_or_default();
        match users(known, object).find(|pod| then.iter().any(|uid| uid == pod.uid())) {
            Some(pod) => Err(format!("{object:?} was removed while {pod:?} uses it")),
            None => Ok(()),
        }
    }

    fn settled(&mut self, known: &Known) -> Verdict {
        for claim in known.of_kind(&PERSISTENT_VOLUME_CLAIM) {
            let tree = claim.tree();
            if tree.str("status.phase") != "Bound" {
                continue;
            }
            let volume = known.get(&PERSISTENT_VOLUME, "", tree.str("spec.volumeName"));
            let back = volume.is_some_and(|v| v.tree().str("spec.claimRef.uid") == claim.uid());
            if !back {
                return Err(format!("{claim:?} is bound to {volume:?}, which does not say so"));
            }
        }
        Ok(())
    }
}

fn one_volume(known: &Known, change: &Change, claim: &Object) -> Verdict {
    let tree = claim.tree();
    let volume = tree.str("spec.volumeName");
    if volume.is_empty() {
        return Ok(());
    }
    if let Some(before) = &change.before {
        let old = before.tree();
        if !matches!(old.str("spec.volumeName"), old if old.is_empty() || old == volume) {
            return Err(format!("{claim:?} changed its volume to {volume}"));
        }
    }
    let bound = |other: &&Object| {
        other.uid() != claim.uid() && other.tree().str("spec.volumeName") == volume
    };
    match known.of_kind(&PERSISTENT_VOLUME_CLAIM).find(bound) {
        Some(other) => Err(format!("{claim:?} and {other:?} are bound to {volume}")),
        None => Ok(()),
    }
}

/// Pods on a node that have not ended and name the claim.
pub(super) fn users<'a>(known: &'a Known, claim: &'a Object) -> impl Iterator<Item = &'a Object> {
    known.of_kind(&POD).filter(move |pod| {
        let tree = pod.tree();
        pod.namespace() == claim.namespace()
            && !tree.str("spec.nodeName").is_empty()
            && !matches!(tree.str("status.phase"), "Succeeded" | "Failed")
            && references::refers(&tree, Target::Claim, claim.name())
    })
}
