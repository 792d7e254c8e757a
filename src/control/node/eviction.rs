//! Taint eviction: pods leave a node with a NoExecute taint that they do not, or no longer, tolerate.

use api::kinds::{NODE, POD};
use api::{Actions, Controller, Key, Lens, Next, Object, Value, View, Wakes, Watch, json};
use stdx::time::{Now, Wall};

use crate::support::conditions::{self, Condition};
use crate::support::nodes::tolerates;
use crate::support::pods::Pod;
use crate::support::{seconds, time_at};

pub(crate) struct TaintEviction;

impl Controller for TaintEviction {
    /// Upstream's taint manager acts as the node controller, too.
    const NAME: &'static str = "node-controller";
    const WATCHES: &'static [Watch] =
        &[Watch::new(&POD, Wakes::Itself), Watch::new(&NODE, Wakes::With(pods_of_node))];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(pod) = view.at(key).filter(|pod| !pod.deleting()) else { return Next::Done };
        let pod = Pod::new(pod);
        if pod.node().is_empty() || pod.finished() {
            return Next::Done;
        }
        let Some(node) = view.get(&NODE, "", pod.node()) else { return Next::Done };
        let Some(at) = leaves_at(&node.tree(), &pod, view.now) else { return Next::Done };
        if at > view.now.wall {
            return Next::After(at.since(view.now.wall));
        }
        let mut list = pod.tree.list("status.conditions").to_vec();
        let condition = Condition {
            kind: "DisruptionTarget",
            status: "True",
            reason: "DeletionByTaintManager",
            message: "Taint manager: deleting due to NoExecute taint".into(),
        };
        conditions::set(&mut list, &condition, view.now);
        let (namespace, name) = (&key.namespace, &key.name);
        let message = format!("Marking for deletion Pod {namespace}/{name}");
        actions.event(&pod.object, "TaintManagerEviction", message);
        actions.patch_status_exact(&pod.object, json!({"status": {"conditions": list}}));
        actions.delete(&pod.object);
        Next::Done
    }
}

fn no_execute(node: &Value) -> impl Iterator<Item = &Value> {
    node.list("spec.taints").iter().filter(|taint| taint.str("effect") == "NoExecute")
}

/// The pods of a node that has any NoExecute taint. Without one no pod has to leave.
fn pods_of_node(view: &View<'_>, node: &Object) -> Vec<Key> {
    if no_execute(&node.tree()).next().is_none() {
        return Vec::new();
    }
    let mut pods = view.list(&POD, None);
    pods.retain(|pod| pod.tree().str("spec.nodeName") == node.name());
    pods.iter().map(Key::of).collect()
}

/// When the pod has to leave; `None` if it may stay.
fn leaves_at(node: &Value, pod: &Pod, now: Now) -> Option<Wall> {
    let tolerations = pod.tree.list("spec.tolerations");
    let deadlines = no_execute(node).filter_map(|taint| {
        let Some(toleration) = tolerations.iter().find(|t| tolerates(t, taint)) else {
            return Some(now.wall);
        };
        let secs = toleration.int("tolerationSeconds")?;
        // The lifecycle controller adds the time to taints that came without.
        let since = time_at(taint, "timeAdded").map_or(now.wall, |at| now.corrected(at));
        Some(since + seconds(secs))
    });
    deadlines.min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::reconcile;

    #[test]
    fn decisions() {
        let node = |taints: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"taints": taints}});
        let pod = |tolerations: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "d", "name": "p", "uid": "p"}, "spec": {"nodeName": "n", "tolerations": tolerations}});
        let taint = |key: &str| json!({"key": key, "effect": "NoExecute", "timeAdded": "2024-01-01T00:00:00Z"});
        let evicted = "event Pod d/p Normal TaintManagerEviction: Marking for deletion Pod d/p\n\
             patch/status Pod d/p {\"status\":{\"conditions\":[{\"lastTransitionTime\":\"2024-01-01T00:01:00Z\",\"message\":\"Taint manager: deleting due to NoExecute taint\",\"reason\":\"DeletionByTaintManager\",\"status\":\"True\",\"type\":\"DisruptionTarget\"}]}}\n\
             delete Pod d/p Background\n";
        let tolerates = |key: &str, secs: Value| json!({"key": key, "operator": "Exists", "tolerationSeconds": secs});
        #[rustfmt::skip]
        let cases = [
            ("no taint", json!([]), json!([]), ""),
            ("NoSchedule does not evict", json!([{"key": "a", "effect": "NoSchedule"}]), json!([]), ""),
            ("not tolerated", json!([taint("a")]), json!([]), evicted),
            ("tolerated for ever", json!([taint("a")]), json!([tolerates("a", Value::Null)]), ""),
            ("tolerated a while", json!([taint("a")]), json!([tolerates("a", json!(300))]), "after 240s\n"),
            ("tolerated long enough", json!([taint("a")]), json!([tolerates("a", json!(60))]), evicted),
            ("one of two tolerated", json!([taint("a"), taint("b")]), json!([tolerates("a", Value::Null)]), evicted),
            ("the shorter counts", json!([taint("a"), taint("b")]), json!([tolerates("a", json!(90)), tolerates("b", json!(500))]), "after 30s\n"),
        ];
        for (name, taints, tolerations, want) in cases {
            let trees = [node(taints), pod(tolerations)];
            assert_eq!(reconcile::<TaintEviction>(trees, (&POD, "d", "p"), 60), want, "{name}");
        }
    }
}
