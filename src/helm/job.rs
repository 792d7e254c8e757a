//! The Job that stands for a release's work. It never has a pod: what scripts wait for is its conditions.
//!
//! `spec.managedBy` keeps the Job controller away from it, as Kubernetes has it for Jobs of other controllers.

use api::{Lens, Object, Status, Value, json, kinds};
use client::{Client, DeleteOptions, PatchType};
use stdx::{Context, Result};

use crate::cluster::{Cluster, Item};
use crate::hooks;
use crate::spec::Spec;

const LABEL: &str = "helmcharts.helm.cattle.io/chart";
const CONFIG_HASH: &str = "helmcharts.helm.cattle.io/configHash";
const MANAGED_BY: &str = "helm.cattle.io/helm-controller";
/// Long enough for a Job of k3s's, whose pod is told to end.
const GONE_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// What the Job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Install,
    Delete,
}

/// A Job, as it is known.
pub(crate) struct Job {
    client: Client,
    namespace: String,
    pub(crate) name: String,
}

/// What is found of a Job.
pub(crate) enum Found {
    /// The same work is done, or was given up.
    Finished,
    Begun(Job),
}

impl Work {
    fn word(self) -> &'static str {
        match self {
            Work::Install => "install",
            Work::Delete => "delete",
        }
    }
}

/// The name of the Job of a HelmChart.
pub(crate) fn name(work: Work, chart: &str) -> String {
    format!("helm-{}-{chart}", work.word())
}

/// Begins the work that `hash` stands for: an old Job gives way to a new one.
///
/// # Errors
/// If the Job cannot be made.
pub(crate) async fn begin(
    cluster: &Cluster,
    chart: &Object,
    spec: &Spec,
    (work, hash): (Work, &str),
) -> Result<Found> {
    let job = Job {
        client: cluster.client.clone(),
        namespace: spec.namespace.clone(),
        name: name(work, &spec.name),
    };
    let what = || format!("make Job {}/{}", job.namespace, job.name);
    let found = cluster.client.get_optional(&kinds::JOB, &job.namespace, &job.name).await;
    if let Some(object) = found.context(what)? {
        let tree = object.tree();
        let is_same = tree.at("spec.template").entry("metadata.annotations", CONFIG_HASH)
            == Some(hash)
            && tree.str("spec.managedBy") == MANAGED_BY;
        let is_over = hooks::job(&object).is_some();
        if is_same && is_over && !object.deleting() {
            return Ok(Found::Finished);
        }
        if is_same && !object.deleting() {
            return Ok(Found::Begun(job));
        }
        let item = Item { kind: &kinds::JOB, tree };
        cluster.delete_anyway(&item).await?;
        cluster.wait_gone(&item, GONE_MAX).await?;
    }
    match cluster.client.create(&kinds::JOB, tree(chart, spec, work, hash)).await {
        // An attempt that was interrupted has made it.
        Err(status) if !status.is_already_exists() => Err(status).context(what),
        _ => Ok(Found::Begun(job)),
    }
}

fn tree(chart: &Object, spec: &Spec, work: Work, hash: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": name(work, &spec.name), "namespace": spec.namespace,
            "labels": {LABEL: spec.name},
            "ownerReferences": [{
                "apiVersion": chart.api_version(), "kind": chart.kind().name,
                "name": chart.name(), "uid": chart.uid(),
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "managedBy": MANAGED_BY, "backoffLimit": spec.back_off_limit,
            "template": {
                "metadata": {"labels": {LABEL: spec.name}, "annotations": {CONFIG_HASH: hash}},
                "spec": {
                    "restartPolicy": "OnFailure",
                    "containers": [{"name": "helm", "image": "k3rs.io/userspace:1", "args": [work.word()]}],
                },
            },
        },
    })
}

impl Job {
    /// It works.
    pub(crate) async fn started(&self, failures: u32) -> Result<(), Status> {
        let now = hooks::now_in_seconds();
        self.say(json!({"active": 1, "ready": 0, "failed": failures, "startTime": now})).await
    }

    /// It has failed this often.
    pub(crate) async fn failed(&self, failures: u32) -> Result<(), Status> {
        self.say(json!({"failed": failures})).await
    }

    /// It is done.
    pub(crate) async fn complete(&self) -> Result<(), Status> {
        let now = hooks::now_in_seconds();
        let (reason, message) = ("CompletionsReached", "Reached expected number of succeeded pods");
        self.say(json!({
            "active": 0, "ready": 0, "succeeded": 1, "completionTime": now,
            "conditions": conditions(["SuccessCriteriaMet", "Complete"], reason, message, &now),
        }))
        .await
    }

    /// It was given up.
    pub(crate) async fn gave_up(&self, failures: u32, message: &str) -> Result<(), Status> {
        let now = hooks::now_in_seconds();
        let reason = "BackoffLimitExceeded";
        self.say(json!({
            "active": 0, "ready": 0, "failed": failures,
            "conditions": conditions(["FailureTarget", "Failed"], reason, message, &now),
        }))
        .await
    }

    async fn say(&self, status: Value) -> Result<(), Status> {
        let patch = json!({"status": status});
        let (namespace, name) = (&self.namespace, &self.name);
        self.client
            .patch(&kinds::JOB, namespace, name, "status", PatchType::Merge, patch)
            .await
            .map(drop)
    }

    /// Takes the Job away.
    pub(crate) async fn remove(&self) -> Result<(), Status> {
        let options =
            DeleteOptions { propagation: "Background".into(), ..DeleteOptions::default() };
        match self.client.delete(&kinds::JOB, &self.namespace, &self.name, options).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }
}

fn conditions(types: [&str; 2], reason: &str, message: &str, now: &str) -> Value {
    let each = types.map(|kind| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastProbeTime": now, "lastTransitionTime": now,
        })
    });
    Value::Array(each.to_vec())
}
