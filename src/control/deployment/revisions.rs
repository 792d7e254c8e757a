//! Which ReplicaSet is the present template's, its numbers and annotations, and the history kept.

use api::kinds::REPLICA_SET;
use api::{Action, LensMut, Object, OnFailure, Status, Value, hash, json};
use api::{Actions, Lens};
use stdx::time::Now;
use stdx::{Arrange, OrdSet};

use super::{Rollout, Set, same_template, status};
use crate::support::conditions::Condition;
use crate::support::controller_reference;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const HASH_LABEL: &str = "pod-template-hash";
const HISTORY_MAX_BYTES: usize = 2000;
/// Annotations that are about one object and not handed from a deployment to its sets.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

impl Rollout<'_> {
    /// The oldest set whose template is the deployment's.
    pub(super) fn find_new(&self) -> Option<usize> {
        let template = self.tree.at("spec.template");
        self.sets.iter().position(|set| same_template(set.tree.at("spec.template"), template))
    }

    pub(super) fn old(sets: &[Set], new: Option<usize>) -> impl Iterator<Item = (usize, &Set)> {
        sets.iter().enumerate().filter(move |(idx, _)| Some(*idx) != new)
    }

    /// One more than the highest revision of the old sets.
    fn next_revision(&self, new: Option<usize>) -> i64 {
        Self::old(&self.sets, new).map(|(_, set)| set.revision()).max().unwrap_or(0) + 1
    }

    /// Brings the new set's annotations and minReadySeconds in line.
    pub(super) fn sync_revision(&mut self, new: Option<usize>) {
        let Some(new) = new else { return };
        let revision = self.next_revision(Some(new));
        self.copy_annotations(new);
        let set = &mut self.sets[new];
        let old_text = set.annotation(REVISION).map(str::to_owned);
        let old = old_text.as_deref().and_then(|text| text.parse::<i64>().ok());
        if old.unwrap_or(0) < revision {
            set.annotate(REVISION, &revision.to_string());
            if let (Some(_), Some(old)) = (old, old_text) {
                let history = add_to_history(set.annotation(REVISION_HISTORY), &old);
                set.annotate(REVISION_HISTORY, &history);
            }
        }
        let min_ready = self.tree.int("spec.minReadySeconds").unwrap_or(0);
        if set.tree.int("spec.minReadySeconds").unwrap_or(0) != min_ready {
            set.tree.set("spec.minReadySeconds", min_ready);
            set.changed = true;
        }
    }

    fn copy_annotations(&mut self, new: usize) {
        for (key, value) in self.tree.pairs("metadata.annotations") {
            if !NOT_COPIED.contains(&key) {
                self.sets[new].annotate(key, value);
            }
        }
    }

    /// Makes the set of the present template; `None` when its name is taken by another template
    /// and a fresh name has to be found first.
    pub(super) fn create_new(&mut self) -> Option<usize> {
        let collisions = self.tree.int("status.collisionCount");
        let template = self.tree.at("spec.template");
        let hash = hash::template_hash(template, collisions);
        let name = format!("{}-{hash}", self.object.name());
        if self.view.get(&REPLICA_SET, self.object.namespace(), &name).is_some() {
            // Another template has this hash (ours would have been found above): count on.
            let mut status = self.tree.at("status").clone();
            status.set("collisionCount", collisions.unwrap_or(0) + 1);
            crate::support::write_status(self.actions, self.object, self.tree, status);
            return None;
        }
        let mut set = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": self.object.namespace(),
                "labels": template.at("metadata.labels").clone(),
                "annotations": {},
                "ownerReferences": [controller_reference(self.object)],
            },
            "spec": {
                "replicas": 0,
                "selector": self.tree.at("spec.selector").clone(),
                "template": template.clone(),
            },
        });
        if let Some(min_ready) = self.tree.int("spec.minReadySeconds").filter(|secs| *secs != 0) {
            set.set("spec.minReadySeconds", min_ready);
        }
        for place in
            ["metadata.labels", "spec.selector.matchLabels", "spec.template.metadata.labels"]
        {
            set.map_mut(place).insert(HASH_LABEL.into(), hash.clone().into());
        }
        let revision = self.next_revision(None);
        self.sets.push(Set { object: self.object.clone(), tree: set, changed: false, made: true });
        let new = self.sets.len() - 1;
        self.copy_annotations(new);
        let replicas = self.new_replicas(new);
        let (desired, max) = (self.replicas(), self.replicas() + self.max_surge());
        let set = &mut self.sets[new];
        set.tree.set("spec.replicas", replicas);
        set.annotate(REVISION, &revision.to_string());
        set.annotate(DESIRED, &desired.to_string());
        set.annotate(MAX_REPLICAS, &max.to_string());
        self.actions.create(&REPLICA_SET, set.tree.clone());
        if replicas > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.actions.event(self.object, "ScalingReplicaSet", message);
        }
        self.actions.on_failure =
            Some(OnFailure { about: self.object.clone(), then: create_refused });
        Some(new)
    }

    /// Deletes the oldest emptied sets beyond `revisionHistoryLimit`.
    pub(super) fn clean_up(&mut self, new: Option<usize>) {
        let limit = match self.tree.int("spec.revisionHistoryLimit") {
            None => return,
            Some(limit) if limit == i64::from(i32::MAX) => return,
            Some(limit) => usize::try_from(limit).unwrap_or(0),
        };
        let mut old: Vec<&Set> = Self::old(&self.sets, new)
            .map(|(_, set)| set)
            .filter(|set| !set.object.deleting())
            .collect();
        old.arrange_by_key(|set| set.revision());
        let excess = old.len().saturating_sub(limit);
        let mut deleted = OrdSet::new();
        for set in old.into_iter().take(excess) {
            let unseen =
                set.tree.int("metadata.generation").unwrap_or(0) > set.status("observedGeneration");
            if set.status("replicas") == 0 && set.replicas() == 0 && !unseen && !set.changed {
                self.actions.delete(&set.object);
                deleted.insert(set.name().to_owned());
            }
        }
    }
}

/// The comma-separated list with `revision` at its end, cut at the front to stay small.
fn add_to_history(history: Option<&str>, revision: &str) -> String {
    let mut text = match history {
        None | Some("") => return revision.to_owned(),
        Some(history) => format!("{history},{revision}"),
    };
    while text.len() > HISTORY_MAX_BYTES {
        match text.find(',') {
            Some(comma) => text.drain(..=comma),
            None => break,
        };
    }
    text
}

/// The new set could not be made: the rollout makes no progress, and says why.
fn create_refused(
    deployment: &Object,
    refused: &Action,
    why: &Status,
    now: Now,
    actions: &mut Actions,
) {
    let Action::Create { object, .. } = refused else { return };
    let tree = deployment.tree();
    let watched = tree.int("spec.progressDeadlineSeconds");
    if watched.is_none_or(|secs| secs == i64::from(i32::MAX)) {
        return;
    }
    let mut list = tree.list("status.conditions").to_vec();
    let name = object.str("metadata.name");
    let condition = Condition {
        kind: "Progressing",
        status: "False",
        reason: "ReplicaSetCreateError",
        message: format!("Failed to create new replica set \"{name}\": {}", why.message()),
    };
    status::set(&mut list, &condition, now);
    if list != tree.list("status.conditions") {
        actions.patch_status(deployment, json!({"status": {"conditions": Value::from(list)}}));
    }
}
