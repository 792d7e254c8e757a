//! Bugs on purpose: each is a mistake that the simulator must catch.

use api::{Action, Actions, Key, LensMut, Object, View, json};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// The garbage collector trusts its view: the guards of its deletions are dropped.
    Unguarded,
    /// The driver does not wait to see its own writes.
    Blind,
    /// A rollout makes one pod more than maxSurge allows.
    Surge,
    /// A rollout takes old pods away before new ones are ready.
    Hasty,
    /// The finalizer that protects a claim in use is released at once.
    EarlyFinalizer,
    /// A Job makes one pod more than it may.
    ExtraJobPod,
    /// Endpoints name pods that are not ready.
    UnreadyEndpoints,
    /// Nobody remembers that the clock was set: times are compared as they are written.
    Forgetful,
    /// A node forgets with its power which containers it has started.
    Amnesia,
}

impl Plant {
    pub const ALL: &'static [(&'static str, Plant)] = &[
        ("unguarded", Plant::Unguarded),
        ("blind", Plant::Blind),
        ("surge", Plant::Surge),
        ("hasty", Plant::Hasty),
        ("early-finalizer", Plant::EarlyFinalizer),
        ("extra-job-pod", Plant::ExtraJobPod),
        ("unready-endpoints", Plant::UnreadyEndpoints),
        ("forgetful", Plant::Forgetful),
        ("amnesia", Plant::Amnesia),
    ];

    pub fn named(name: &str) -> Option<Plant> {
        Plant::ALL.iter().find(|(own, _)| *own == name).map(|(_, plant)| *plant)
    }

    /// Spoils what a controller asks for.
    pub(crate) fn spoil(self, controller: &str, view: &View<'_>, key: &Key, actions: &mut Actions) {
        match (self, controller) {
            (Plant::Unguarded, "generic-garbage-collector") => {
                actions.list.retain(|action| !matches!(action, Action::Expect(_)));
                for action in &mut actions.list {
                    if let Action::Delete { revision, .. } = action {
                        *revision = None;
                    }
                }
            }
            (Plant::Surge, "deployment-controller") => scale_sets(actions, |size| size + 1),
            (Plant::Hasty, "deployment-controller") => scale_sets(actions, |_| 0),
            (Plant::EarlyFinalizer, "pvc-protection-controller") => {
                if let Some(claim) = view.at(key).filter(Object::deleting) {
                    actions.patch_exact(&claim, json!({"metadata": {"finalizers": []}}));
                }
            }
            (Plant::ExtraJobPod, "job-controller") => {
                let pod = |action: &&Action| matches!(action, Action::Create { kind, .. } if kind.name == "Pod");
                let first = actions.list.iter().find(pod).cloned();
                if let Some(Action::Create { kind, mut object }) = first {
                    object.set(
                        "metadata.name",
                        format!("{}x", object["metadata"]["name"].as_str().unwrap_or("x")),
                    );
                    actions.list.push(Action::Create { kind, object });
                }
            }
            (Plant::UnreadyEndpoints, "endpointslice-controller") => {
                for action in &mut actions.list {
                    if let Action::Create { object, .. } | Action::Update { object, .. } = action
                        && let Some(endpoints) =
                            object.get_mut("endpoints").and_then(|e| e.as_array_mut())
                    {
                        endpoints.iter_mut().for_each(|e| e.set("conditions.ready", true));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Changes the size that a rollout gives a set.
fn scale_sets(actions: &mut Actions, size: impl Fn(i64) -> i64) {
    for action in &mut actions.list {
        let tree = match action {
            Action::Update { kind, object } if kind.name == "ReplicaSet" => object,
            Action::Patch { key, patch, .. } if key.kind.name == "ReplicaSet" => patch,
            Action::Create { kind, object } if kind.name == "ReplicaSet" => object,
            _ => continue,
        };
        if let Some(replicas) = tree.pointer("/spec/replicas").and_then(|n| n.as_i64()) {
            tree.set("spec.replicas", size(replicas));
        }
    }
}
