//! Pods as controllers see them: active, ready, available; made from templates; ranked for deletion.

use std::cmp::Ordering;
use std::time::Duration;

use api::{Lens, LensMut, Object, Value, json};
use stdx::Arrange;
use stdx::time::{Now, Wall};

use super::{conditions, controller_reference, created, seconds, time_at};

/// A pod with its tree, for one reconcile.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) object: Object,
    pub(crate) tree: Value,
}

impl Pod {
    pub(crate) fn new(object: Object) -> Pod {
        let tree = object.tree();
        Pod { object, tree }
    }

    pub(crate) fn name(&self) -> &str {
        self.object.name()
    }

    /// `status.phase`; a pod that no one has reported on is pending.
    pub(crate) fn phase(&self) -> &str {
        match self.tree.str("status.phase") {
            "" => "Pending",
            phase => phase,
        }
    }

    pub(crate) fn node(&self) -> &str {
        self.tree.str("spec.nodeName")
    }

    pub(crate) fn deleting(&self) -> bool {
        self.object.deleting()
    }

    /// Neither finished nor on its way out.
    pub(crate) fn active(&self) -> bool {
        !self.finished() && !self.deleting()
    }

    pub(crate) fn finished(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    pub(crate) fn ready(&self) -> bool {
        conditions::is_true(&self.tree, "Ready")
    }

    pub(crate) fn ready_since(&self) -> Option<Wall> {
        let condition = conditions::find(&self.tree, "Ready")?;
        (condition.str("status") == "True").then(|| time_at(condition, "lastTransitionTime"))?
    }

    /// Ready for at least `min_ready_secs`.
    pub(crate) fn available(&self, min_ready_secs: i64, now: Now) -> bool {
        self.ready() && self.available_in(min_ready_secs, now).is_none()
    }

    /// How long a ready pod must stay so until it counts as available.
    pub(crate) fn available_in(&self, min_ready_secs: i64, now: Now) -> Option<Duration> {
        if !self.ready() || min_ready_secs <= 0 {
            return None;
        }
        let since = self.ready_since().map_or(now.wall, |at| now.corrected(at));
        let at = since + seconds(min_ready_secs);
        // A time in the future means that the clock was set back: waiting for it could take years.
        (since <= now.wall && at > now.wall).then(|| at.since(now.wall))
    }

    /// The highest restart count of its containers.
    fn restarts(&self) -> i64 {
        let counts = self.tree.list("status.containerStatuses").iter();
        counts.filter_map(|status| status.int("restartCount")).max().unwrap_or(0)
    }

    fn deletion_cost(&self) -> i64 {
        let cost = self
            .tree
            .entry("metadata.annotations", "controller.kubernetes.io/pod-deletion-cost")
            .and_then(|text| text.parse::<i32>().ok());
        cost.map_or(0, i64::from)
    }
}

/// A pod tree from a `PodTemplateSpec`, controlled by `owner`, without a name.
pub(crate) fn from_template(template: &Value, owner: &Object) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": owner.namespace(),
            "ownerReferences": [controller_reference(owner)],
        },
        "spec": template.at("spec").clone(),
    });
    for field in ["labels", "annotations", "finalizers"] {
        let value = template.at("metadata").at(field);
        if !value.is_null() {
            pod.slot("metadata").set(field, value.clone());
        }
    }
    pod
}

/// Sorts the pods that may best be deleted to the front (upstream's `ActivePodsWithRanks`).
/// `rank` is how many pods of the same family share the pod's node.
pub(crate) fn sort_for_deletion(pods: &mut [Pod], rank: impl Fn(&Pod) -> usize, now: Now) {
    pods.arrange_by(|a, b| {
        let phase_order = |pod: &Pod| match pod.phase() {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        a.node()
            .is_empty()
            .cmp(&b.node().is_empty())
            .reverse()
            .then_with(|| phase_order(a).cmp(&phase_order(b)))
            .then_with(|| a.ready().cmp(&b.ready()))
            .then_with(|| a.deletion_cost().cmp(&b.deletion_cost()))
            .then_with(|| rank(b).cmp(&rank(a)))
            .then_with(|| match (a.ready(), b.ready()) {
                (true, true) => by_age(a, b, a.ready_since(), b.ready_since(), now),
                _ => Ordering::Equal,
            })
            .then_with(|| b.restarts().cmp(&a.restarts()))
            .then_with(|| {
                let time = |pod: &Pod| Some(created(&pod.tree)).filter(|t| *t != Wall::default());
                by_age(a, b, time(a), time(b), now)
            })
    });
}

/// The younger first, but ages of one power of two count as equal and the uid decides
/// (`LogarithmicScaleDown`); what has no time comes first.
fn by_age(a: &Pod, b: &Pod, at_a: Option<Wall>, at_b: Option<Wall>, now: Now) -> Ordering {
    match (at_a, at_b) {
        (Some(x), Some(y)) if x == y => Ordering::Equal,
        (Some(x), Some(y)) => {
            let magnitude = |at: Wall| {
                let age = u64::try_from(now.age(at).as_nanos()).unwrap_or(u64::MAX);
                age.checked_ilog2().map_or(-1, i64::from)
            };
            magnitude(x).cmp(&magnitude(y)).then_with(|| a.object.uid().cmp(b.object.uid()))
        }
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
    }
}
