//! What a job's rules make of failed pods (`podFailurePolicy`) and of succeeded indexes (`successPolicy`).

use api::{Lens, Value};
use stdx::OrdSet;

use super::{count, indexes};
use crate::support::conditions;
use crate::support::pods::Pod;

/// What one failed pod means.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// Counts towards `status.failed` and the back-off limits.
    pub(super) counts: bool,
    pub(super) fails_index: bool,
    /// The message with which the whole job fails.
    pub(super) fails_job: Option<String>,
}

/// The first rule that matches decides; without any a failure counts.
pub(super) fn outcome(job: &Value, pod: &Pod) -> Outcome {
    let counted = Outcome { counts: true, ..Outcome::default() };
    for (idx, rule) in job.list("spec.podFailurePolicy.rules").iter().enumerate() {
        let action = rule.str("action");
        let matched = match rule.at("onExitCodes") {
            Value::Null => by_condition(rule, pod),
            codes => by_exit_code(codes, pod),
        };
        let Some(what) = matched else { continue };
        return match action {
            "Ignore" => Outcome::default(),
            "FailJob" => Outcome {
                fails_job: Some(format!("{what} matching FailJob rule at index {idx}")),
                ..counted
            },
            "FailIndex" => Outcome { fails_index: true, ..counted },
            _ => counted,
        };
    }
    counted
}

fn by_exit_code(codes: &Value, pod: &Pod) -> Option<String> {
    let (name, operator) = (codes.str("containerName"), codes.str("operator"));
    let init = pod.tree.list("status.initContainerStatuses").iter();
    for status in init.chain(pod.tree.list("status.containerStatuses")) {
        let Some(exit_code) = status.int("state.terminated.exitCode").filter(|code| *code != 0)
        else {
            continue;
        };
        if !name.is_empty() && status.str("name") != name {
            continue;
        }
        let listed = codes.list("values").iter().any(|value| value.as_i64() == Some(exit_code));
        if listed == (operator == "In") {
            return Some(format!(
                "Container {} for pod {}/{} failed with exit code {exit_code}",
                status.str("name"),
                pod.object.namespace(),
                pod.name(),
            ));
        }
    }
    None
}

fn by_condition(rule: &Value, pod: &Pod) -> Option<String> {
    for pattern in rule.list("onPodConditions") {
        let kind = pattern.str("type");
        let status = if pattern.has("status") { pattern.str("status") } else { "True" };
        if conditions::find(&pod.tree, kind).is_some_and(|c| c.str("status") == status) {
            let (namespace, name) = (pod.object.namespace(), pod.name());
            return Some(format!("Pod {namespace}/{name} has condition {kind}"));
        }
    }
    None
}

/// The number of the first success rule that is met.
pub(super) fn success(job: &Value, succeeded: &OrdSet<i64>) -> Option<usize> {
    job.list("spec.successPolicy.rules").iter().position(|rule| {
        let wanted =
            rule.has("succeededIndexes").then(|| indexes::parse(rule.str("succeededIndexes")));
        let reached = match &wanted {
            Some(wanted) => count(wanted.intersection(succeeded)),
            None => count(succeeded.iter()),
        };
        match (rule.int("succeededCount"), wanted) {
            (Some(enough), _) => reached >= enough,
            (None, Some(wanted)) => reached == count(wanted.iter()),
            (None, None) => false,
        }
    })
}
