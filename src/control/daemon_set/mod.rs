//! DaemonSet: one pod on every node that takes it.

mod placement;
#[cfg(test)]
mod tests;
mod update;

use std::time::Duration;

use api::kinds::{CONTROLLER_REVISION, DAEMON_SET, NODE, POD};
use api::selector::Selector;
use api::{
    Action, Actions, Controller, Key, Kind, Lens, LensMut, Next, Object, OnFailure, Status, Value,
    View, Wakes, Watch, json,
};
use stdx::time::Now;
use stdx::{Arrange, OrdMap, OrdSet};

use crate::support::claim::{claim, wakes};
use crate::support::names::Names;
use crate::support::pods::Pod;
use crate::support::revisions::History;
use crate::support::{created, time_at, write_status};

const HASH_LABEL: &str = "controller-revision-hash";
/// Pods made or deleted in one reconcile.
const BURST_MAX: usize = 250;
/// A failed pod stays this long before it is replaced, so that a pod that fails at once does not spin.
const FAILED_STAYS: Duration = Duration::from_secs(10);

pub(crate) struct DaemonSets;

impl Controller for DaemonSets {
    const NAME: &'static str = "daemon-set-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&DAEMON_SET, Wakes::Itself),
        Watch::new(&POD, Wakes::With(|view, pod| wakes(view, pod, &DAEMON_SET))),
        Watch::new(
            &NODE,
            Wakes::With(|view, _| view.list(&DAEMON_SET, None).iter().map(Key::of).collect()),
        ),
    ];
    const READS: &'static [&'static Kind] = &[&CONTROLLER_REVISION];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key) else { return Next::Done };
        let tree = object.tree();
        let selector = Selector::from_label_selector(tree.at("spec.selector"));
        if selector.is_everything() {
            let message =
                "This daemon set is selecting all pods. A non-empty selector is required.";
            actions.warning(&object, "SelectingAll", message);
            return Next::Done;
        }
        if object.deleting() {
            return Next::Done;
        }
        actions.on_failure = Some(OnFailure { about: object.clone(), then: refused });
        let history = History::sync(view, &object, &tree, actions);
        let pods = claim(view, &object, &POD, &selector, &|_| true, actions);
        let nodes = view.list(&NODE, None).iter().map(Object::tree).collect();
        let mut run = Run {
            view,
            object: &object,
            tree: &tree,
            hash: history.update().hash.clone(),
            nodes,
            by_node: OrdMap::new(),
            names: Names::new(view, &object),
            deleted: OrdSet::new(),
            n_made: 0,
            actions,
        };
        run.reconcile(pods.into_iter().map(Pod::new).collect(), &history)
    }
}

/// One reconcile of one set.
struct Run<'a> {
    view: &'a View<'a>,
    object: &'a Object,
    tree: &'a Value,
    hash: String,
    nodes: Vec<Value>,
    /// The set's pods by the node they are on or meant for, oldest first.
    by_node: OrdMap<String, Vec<Pod>>,
    names: Names<'a>,
    deleted: OrdSet<String>,
    n_made: usize,
    actions: &'a mut Actions,
}

impl Run<'_> {
    fn reconcile(&mut self, pods: Vec<Pod>, history: &History) -> Next {
        for pod in pods {
            if pod.finished() && pod.deleting() {
                continue;
            }
            let node = placement::target(&pod).to_owned();
            self.by_node.entry(node).or_default().push(pod);
        }
        for pods in self.by_node.values_mut() {
            pods.arrange_by(|a, b| {
                (b.node().is_empty(), created(&a.tree))
                    .cmp(&(a.node().is_empty(), created(&b.tree)))
            });
        }
        let status = self.status(history);
        write_status(self.actions, self.object, self.tree, status);
        let mut next = self.place();
        // An update counts on what is there: first let what was just begun be seen.
        let still = self.n_made == 0 && self.deleted.is_empty();
        if still && self.tree.str("spec.updateStrategy.type") != "OnDelete" {
            self.update();
        }
        let hashes = self.by_node.values().flatten();
        let used = hashes.filter_map(|pod| pod.object.label(HASH_LABEL).map(str::to_owned));
        let mut used: OrdSet<String> = used.collect();
        used.insert(self.hash.clone());
        history.truncate(self.tree, &used, self.actions);
        let min_ready = self.min_ready();
        let waits = self.by_node.values().flatten();
        for wait in waits.filter_map(|pod| pod.available_in(min_ready, self.view.now)) {
            next = next.or(Next::After(wait));
        }
        next
    }

    fn min_ready(&self) -> i64 {
        self.tree.int("spec.minReadySeconds").unwrap_or(0)
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        pod.object.label(HASH_LABEL) == Some(&*self.hash)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.available(self.min_ready(), self.view.now)
    }

    /// Makes pods where they are missing, deletes them where they are too many, finished or unwanted.
    fn place(&mut self) -> Next {
        let mut next = Next::Done;
        let spec = placement::spec(self.tree);
        let nodes = std::mem::take(&mut self.nodes);
        for node in &nodes {
            let name = node.str("metadata.name");
            let pods = self.by_node.get(name).cloned().unwrap_or_default();
            let fit = placement::fit(&spec, node);
            if fit.run && pods.is_empty() {
                self.create(name);
            } else if fit.stay {
                next = next.or(self.prune(name, pods));
            } else {
                pods.iter().for_each(|pod| self.delete(pod));
            }
        }
        // Pods that were never bound and whose node has vanished.
        let known: OrdSet<&str> = nodes.iter().map(|node| node.str("metadata.name")).collect();
        let lost = self.by_node.iter().filter(|(node, _)| !known.contains(&***node));
        let lost: Vec<Pod> =
            lost.flat_map(|(_, pods)| pods).filter(|pod| pod.node().is_empty()).cloned().collect();
        lost.iter().for_each(|pod| self.delete(pod));
        self.nodes = nodes;
        next
    }

    /// Leaves one pod on a node, or while surging one old and one new.
    fn prune(&mut self, node: &str, pods: Vec<Pod>) -> Next {
        let mut next = Next::Done;
        let now = self.view.now.wall;
        let mut running = Vec::new();
        for pod in pods.into_iter().filter(|pod| !pod.deleting()) {
            let where_ = format!("{}/{} on node {node}", self.object.namespace(), pod.name());
            match pod.phase() {
                "Failed" => {
                    let at = self.view.now.corrected(failed_at(&pod)) + FAILED_STAYS;
                    if at > now {
                        next = next.or(Next::After(at.since(now)));
                        continue;
                    }
                    let message = format!("Found failed daemon pod {where_}, will try to kill it");
                    self.actions.warning(self.object, "FailedDaemonPod", message);
                    self.delete(&pod);
                }
                "Succeeded" => {
                    let message =
                        format!("Found succeeded daemon pod {where_}, will try to delete it");
                    self.actions.event(self.object, "SucceededDaemonPod", message);
                    self.delete(&pod);
                }
                _ => running.push(pod),
            }
        }
        if !self.surges() {
            running.iter().skip(1).for_each(|pod| self.delete(pod));
            return next;
        }
        let (mut new, mut old) = (None, None);
        for pod in &running {
            let slot = if self.is_updated(pod) { &mut new } else { &mut old };
            match slot {
                None => *slot = Some(pod),
                Some(_) => self.delete(pod),
            }
        }
        if let (Some(new), Some(old)) = (new, old)
            && (!old.ready() || self.is_available(new))
        {
            self.delete(old);
        }
        next
    }

    fn create(&mut self, node: &str) {
        if self.n_made >= BURST_MAX {
            return;
        }
        self.n_made += 1;
        let prefix = format!("{}-", self.object.name());
        let name = self.names.next(&POD, &prefix);
        let mut pod = placement::new_pod(self.tree, self.object, node);
        pod.set("metadata.generateName", prefix);
        pod.set("metadata.name", name.clone());
        let labels = pod.map_mut("metadata.labels");
        labels.insert(HASH_LABEL.into(), self.hash.clone().into());
        let generation = self.tree.int("metadata.generation").unwrap_or(1).to_string();
        labels.insert("pod-template-generation".into(), generation.into());
        self.actions.create(&POD, pod);
        self.actions.event(self.object, "SuccessfulCreate", format!("Created pod: {name}"));
    }

    fn delete(&mut self, pod: &Pod) {
        if pod.deleting()
            || self.deleted.len() >= BURST_MAX
            || !self.deleted.insert(pod.name().to_owned())
        {
            return;
        }
        self.actions.delete(&pod.object);
        let message = format!("Deleted pod: {}", pod.name());
        self.actions.event(self.object, "SuccessfulDelete", message);
    }

    fn status(&self, history: &History) -> Value {
        let spec = placement::spec(self.tree);
        let [mut desired, mut current, mut stray, mut ready, mut available, mut updated] =
            [0i64; 6];
        for node in &self.nodes {
            let pods = self.by_node.get(node.str("metadata.name")).map_or(&[][..], Vec::as_slice);
            if !placement::fit(&spec, node).run {
                stray += i64::from(!pods.is_empty());
                continue;
            }
            desired += 1;
            let Some(pod) = pods.first() else { continue };
            current += 1;
            ready += i64::from(pod.ready());
            available += i64::from(self.is_available(pod));
            updated += i64::from(self.is_updated(pod));
        }
        let mut status = json!({
            "observedGeneration": self.tree.int("metadata.generation").unwrap_or(0),
            "currentNumberScheduled": current,
            "numberMisscheduled": stray,
            "desiredNumberScheduled": desired,
            "numberReady": ready,
        });
        for (field, count) in [
            ("updatedNumberScheduled", updated),
            ("numberAvailable", available),
            ("numberUnavailable", desired - available),
        ] {
            if count > 0 {
                status.set(field, count);
            }
        }
        if let Some(collisions) = history.collisions {
            status.set("collisionCount", collisions);
        }
        if self.tree.has("status.conditions") {
            status.set("conditions", self.tree.at("status.conditions").clone());
        }
        status
    }
}

/// When a failed pod is known to have failed, as closely as it tells.
fn failed_at(pod: &Pod) -> stdx::time::Wall {
    let statuses = pod.tree.list("status.containerStatuses").iter();
    let ended = statuses.filter_map(|s| time_at(s, "state.terminated.finishedAt")).max();
    ended.unwrap_or_else(|| created(&pod.tree))
}

fn refused(set: &Object, refused: &Action, why: &Status, _: Now, actions: &mut Actions) {
    let (reason, doing) = match refused {
        Action::Create { .. } => ("FailedCreate", "creating"),
        Action::Delete { .. } => ("FailedDelete", "deleting"),
        _ => return,
    };
    actions.warning(set, reason, format!("Error {doing}: {}", why.message()));
}
