//! What the pods together take of the node: what admission looks at, and the cgroups of their classes.

use std::sync::PoisonError;

use api::Object;

use crate::make::cgroup;
use crate::shared::Shared;
use podplan::{NodeView, Qos, requests_of};

/// Makes the cgroups of the QoS classes.
pub(crate) async fn make_cgroups(shared: &Shared) {
    let root = &shared.config.cgroup_root;
    let best_effort =
        runtime::Resources { cpu_shares: Some(cgroup::shares(0)), ..runtime::Resources::default() };
    for (path, resources) in [
        (root.clone(), runtime::Resources::default()),
        (format!("{root}/burstable"), runtime::Resources::default()),
        (format!("{root}/besteffort"), best_effort),
    ] {
        if let Err(error) = shared.runtime.cgroup_apply(&path, &resources).await {
            log::warn!("cgroup {path}: {error}");
        }
    }
}

/// Gives the burstable class the weight of what its pods ask for.
pub(crate) async fn weigh_burstable(shared: &Shared) {
    let milli: i64 = shared
        .slots
        .all()
        .into_iter()
        .map(|slot| slot.snapshot())
        .filter(|snapshot| !snapshot.terminal)
        .filter_map(|snapshot| Some(snapshot.pod?.object.tree()))
        .filter(|tree| Qos::of(tree) == Qos::Burstable)
        .map(|tree| requests_of(&tree, "cpu").milli())
        .fold(0, i64::saturating_add);
    let path = format!("{}/burstable", shared.config.cgroup_root);
    let resources = runtime::Resources {
        cpu_shares: Some(cgroup::shares(milli)),
        ..runtime::Resources::default()
    };
    if let Err(error) = shared.runtime.cgroup_apply(&path, &resources).await {
        log::warn!("cgroup {path}: {error}");
    }
}

/// What admission looks at: the node, and the pods it has besides `uid`.
pub(crate) fn node_view(shared: &Shared, uid: &str) -> NodeView {
    let facts = shared.node.lock().unwrap_or_else(PoisonError::into_inner);
    let (node, node_name) = (facts.tree.clone(), shared.config.node_name.clone());
    drop(facts);
    let (mut pods, mut leaving) = (Vec::new(), Vec::new());
    for slot in shared.slots.all().into_iter().filter(|slot| slot.uid != uid) {
        let inbox = slot.lock();
        let snapshot = &inbox.snapshot;
        let Some(pod) = snapshot.pod.as_ref().filter(|_| inbox.admitted && !snapshot.released)
        else {
            continue;
        };
        // Its worker may not have heard yet.
        let leaves =
            inbox.gone || snapshot.leaving || inbox.object.as_ref().is_some_and(Object::deleting);
        let list = if leaves { &mut leaving } else { &mut pods };
        list.push(pod.share.clone());
    }
    NodeView { node, node_name, pods, leaving }
}
