//! Hooks: objects that are made at certain moments of a release, waited for, and deleted as they ask.

use std::time::Duration;

use api::{Lens, Object, Value, json, kinds};
use stdx::{Arrange, Context, Error, Result};

use crate::cluster::{Cluster, Item, Verdict};

const BEFORE: &str = "before-hook-creation";
const SUCCEEDED: &str = "hook-succeeded";
const FAILED: &str = "hook-failed";

/// A hook of a release, and how it went.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) path: String,
    pub(crate) manifest: String,
    pub(crate) object: Value,
    pub(crate) events: Vec<String>,
    pub(crate) weight: i64,
    pub(crate) policies: Vec<String>,
    /// When it began and ended, and how; all "" before.
    pub(crate) last: [String; 3],
}

impl Hook {
    /// A hook in a release record; `None` if it cannot be read.
    pub(crate) fn of_record(tree: &Value) -> Option<Hook> {
        let texts = |path: &str| {
            let texts = tree.list(path).iter().filter_map(Value::as_str);
            texts.map(str::to_owned).collect::<Vec<_>>()
        };
        let object = wire::yaml::parse_one_loose(tree.str("manifest")).ok()?;
        Some(Hook {
            name: tree.str("name").to_owned(),
            kind: tree.str("kind").to_owned(),
            path: tree.str("path").to_owned(),
            manifest: tree.str("manifest").to_owned(),
            object,
            events: texts("events"),
            weight: tree.int("weight").unwrap_or(0),
            policies: texts("delete_policies"),
            last: ["started_at", "completed_at", "phase"]
                .map(|field| tree.at("last_run").str(field).to_owned()),
        })
    }

    /// As Helm records it.
    pub(crate) fn to_record(&self) -> Value {
        let [started, completed, phase] = &self.last;
        let mut tree = json!({
            "name": self.name, "kind": self.kind, "path": self.path, "manifest": self.manifest,
            "events": self.events,
            "last_run": {"started_at": started, "completed_at": completed, "phase": phase},
        });
        // Both are left out where they say nothing.
        if self.weight != 0 {
            tree["weight"] = self.weight.into();
        }
        if !self.policies.is_empty() {
            tree["delete_policies"] = self.policies.clone().into();
        }
        tree
    }

    fn asks_for(&self, policy: &str) -> bool {
        // What defines kinds is deleted by no policy: all objects of them would go.
        let defines = self.kind == "CustomResourceDefinition";
        let by_default = self.policies.is_empty() && policy == BEFORE;
        !defines && (by_default || self.policies.iter().any(|one| one == policy))
    }
}

/// Runs the hooks of an event, one after the other, lighter ones first.
///
/// # Errors
/// The first that fails, in Helm's words.
pub(crate) async fn run(
    cluster: &Cluster,
    hooks: &mut [Hook],
    event: &str,
    namespace: &str,
    limit: Duration,
) -> Result<()> {
    let mut order: Vec<usize> = (0..hooks.len())
        .filter(|at| hooks[*at].events.iter().any(|wanted| wanted == event))
        .collect();
    order.arrange_by(|a, b| {
        let key = |at: usize| (hooks[at].weight, &hooks[at].name);
        key(*a).cmp(&key(*b))
    });
    for at in &order {
        let hook = &mut hooks[*at];
        let item = cluster.item(hook.object.clone(), namespace)?;
        if hook.asks_for(BEFORE) && cluster.delete_anyway(&item).await? {
            cluster.wait_gone(&item, limit).await?;
        }
        hook.last = [now(), String::new(), "Running".to_owned()];
        let ran = one(cluster, hook, &item, event, limit).await;
        hook.last[1] = now();
        hook.last[2] = if ran.is_ok() { "Succeeded" } else { "Failed" }.to_owned();
        if let Err(error) = ran {
            if hook.asks_for(FAILED) {
                cluster.delete_anyway(&item).await?;
            }
            return Err(error);
        }
    }
    for at in order {
        let hook = &hooks[at];
        if hook.asks_for(SUCCEEDED) {
            let item = cluster.item(hook.object.clone(), namespace)?;
            cluster.delete_anyway(&item).await?;
        }
    }
    Ok(())
}

async fn one(
    cluster: &Cluster,
    hook: &Hook,
    item: &Item,
    event: &str,
    limit: Duration,
) -> Result<()> {
    let made = cluster.create(item).await;
    made.context(|| format!("warning: Hook {event} {} failed", hook.path))?;
    let judge: fn(&Object) -> Verdict = match item.kind {
        kind if kind == &kinds::JOB => job,
        kind if kind == &kinds::POD => pod,
        _ => return Ok(()),
    };
    let gone = || Some(Err(format!("{} {} was deleted", item.kind.name, item.name())));
    cluster.wait(item, limit, &|object| object.map_or_else(gone, judge)).await
}

/// Whether a Job is over.
pub(crate) fn job(object: &Object) -> Verdict {
    let tree = object.tree();
    for condition in tree.list("status.conditions").iter().filter(|it| it.str("status") == "True") {
        match condition.str("type") {
            "Complete" => return Some(Ok(())),
            "Failed" => {
                let why = condition.str("reason");
                return Some(Err(format!("job {} failed: {why}", object.name())));
            }
            _ => {}
        }
    }
    None
}

fn pod(object: &Object) -> Verdict {
    match object.tree().str("status.phase") {
        "Succeeded" => Some(Ok(())),
        "Failed" => Some(Err(format!("pod {} failed", object.name()))),
        _ => None,
    }
}

/// The time, as Helm writes it.
pub(crate) fn now() -> String {
    api::time::format_micro(rt::now().wall)
}

/// The time, as Kubernetes writes it.
pub(crate) fn now_in_seconds() -> String {
    api::time::format(rt::now().wall)
}

/// What a failed hook leaves to tell.
pub(crate) fn failure(is_upgrade: bool, event: &str, error: Error) -> Error {
    match is_upgrade {
        true => Error::wrap(format!("{event} hooks failed"), error),
        false => Error::wrap(format!("failed {event}"), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(kind: &str, policies: &[&str]) -> Hook {
        let tree = json!({
            "name": "a", "kind": kind, "path": "c/templates/a.yaml", "weight": -5,
            "manifest": "kind: Job", "events": ["pre-install"], "delete_policies": policies,
            "last_run": {"started_at": "x", "completed_at": "", "phase": "Running"},
        });
        Hook::of_record(&tree).unwrap()
    }

    #[test]
    fn records_of_hooks() {
        let hook = hook("Job", &["hook-succeeded"]);
        let again = Hook::of_record(&hook.to_record()).unwrap();
        assert_eq!(again.to_record(), hook.to_record());
        assert_eq!((again.weight, again.last[2].as_str()), (-5, "Running"));
        assert!(Hook::of_record(&json!({"manifest": "a: ["})).is_none());
    }

    #[test]
    fn policies() {
        let asks = |kind, policies: &[&str]| {
            let hook = hook(kind, policies);
            [BEFORE, SUCCEEDED, FAILED].map(|policy| hook.asks_for(policy))
        };
        assert_eq!(asks("Job", &[]), [true, false, false]);
        assert_eq!(asks("Job", &[SUCCEEDED]), [false, true, false]);
        assert_eq!(asks("CustomResourceDefinition", &[BEFORE, FAILED]), [false; 3]);
    }

    #[test]
    fn jobs_and_pods_are_waited_for() {
        let object = |kind, tree: Value| Object::from_tree(kind, &tree).unwrap();
        let state = |conditions: Value| {
            let tree = json!({"metadata": {"name": "j"}, "status": {"conditions": conditions}});
            job(&object(&kinds::JOB, tree))
        };
        assert_eq!(state(json!([{"type": "Complete", "status": "False"}])), None);
        assert_eq!(state(json!([{"type": "Complete", "status": "True"}])), Some(Ok(())));
        let failed =
            state(json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]));
        assert_eq!(failed, Some(Err("job j failed: BackoffLimitExceeded".into())));
        let pod = |phase: &str| {
            pod(&object(
                &kinds::POD,
                json!({"metadata": {"name": "p"}, "status": {"phase": phase}}),
            ))
        };
        assert_eq!((pod("Running"), pod("Succeeded")), (None, Some(Ok(()))));
        assert_eq!(pod("Failed"), Some(Err("pod p failed".into())));
    }
}
