//! Ephemeral volumes: a claim of its own for each `ephemeral` volume of a pod.

use api::kinds::{PERSISTENT_VOLUME_CLAIM, POD};
use api::pod::ephemeral::check_owner;
use api::pod::references;
use api::{Action, Actions, Controller, Key, Lens, LensMut, Next, Object, OnFailure, Status, View};
use api::{Wakes, Watch, json};
use stdx::time::Now;

use crate::support::controller_reference;

pub(crate) struct EphemeralVolumes;

impl Controller for EphemeralVolumes {
    const NAME: &'static str = "ephemeral-volume-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&POD, Wakes::Itself),
        Watch::new(&PERSISTENT_VOLUME_CLAIM, Wakes::Controller(&POD)),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(pod) = view.at(key).filter(|pod| !pod.deleting()) else { return Next::Done };
        let tree = pod.tree();
        actions.on_failure = Some(OnFailure { about: pod.clone(), then: refused });
        for volume in tree.list("spec.volumes").iter().filter(|v| v.has("ephemeral")) {
            let Some(name) = references::claim_of(pod.name(), volume) else { continue };
            match view.get(&PERSISTENT_VOLUME_CLAIM, &key.namespace, &name) {
                Some(claim) => {
                    if let Err(why) = check_owner(&tree, &claim.tree()) {
                        let volume = volume.str("name");
                        let message = format!("ephemeral volume {volume}: {why}");
                        actions.warning(&pod, "FailedBinding", message);
                    }
                }
                None => {
                    let template = volume.at("ephemeral.volumeClaimTemplate");
                    let mut claim = json!({
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        "metadata": {
                            "name": name,
                            "namespace": key.namespace,
                            "ownerReferences": [controller_reference(&pod)],
                        },
                        "spec": template.at("spec").clone(),
                    });
                    for field in ["labels", "annotations"] {
                        let value = template.at("metadata").at(field);
                        if !value.is_null() {
                            claim.slot("metadata").set(field, value.clone());
                        }
                    }
                    actions.create(&PERSISTENT_VOLUME_CLAIM, claim);
                }
            }
        }
        Next::Done
    }
}

fn refused(pod: &Object, refused: &Action, why: &Status, _: Now, actions: &mut Actions) {
    if let Action::Create { object, .. } = refused {
        let name = object.str("metadata.name");
        let volume = name.strip_prefix(&format!("{}-", pod.name())).unwrap_or(name);
        let message = format!("ephemeral volume {volume}: create PVC {name}: {}", why.message());
        actions.warning(pod, "FailedBinding", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn claims_come_and_go_with_their_pod() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "d", "name": "p"},
            "spec": {"volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {
                "metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]},
            }}}]},
        });
        let mut world = World::new(
            &["ephemeral-volume-controller", "generic-garbage-collector"],
            [pod.clone()],
        );
        world.settle();
        let claim = world.get(&PERSISTENT_VOLUME_CLAIM, "d", "p-scratch").unwrap();
        assert_eq!(claim.str("metadata.ownerReferences.0.kind"), "Pod");
        assert_eq!(claim.entry("metadata.labels", "a"), Some("b"));
        world.assert_fixpoint();
        world.delete(&POD, "d", "p", "Background");
        world.converge();
        assert!(world.names(&PERSISTENT_VOLUME_CLAIM).is_empty());
        // A claim of that name that is someone else's is not taken.
        let other = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "d", "name": "p-scratch"}});
        let mut world = World::new(&["ephemeral-volume-controller"], [other, pod]);
        world.settle();
        assert!(
            world.events[0]
                .ends_with("PVC d/p-scratch was not created for pod d/p (pod is not owner)")
        );
    }
}
