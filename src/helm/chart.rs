//! One HelmChart brought to what it says: claimed, its release made or removed, and what came of it told.

use std::sync::Arc;

use api::{Lens, LensMut, Object, Value, json, kinds};
use client::PatchType;
use ring::digest::{Context as Digest, SHA256};
use stdx::{Context, Error, Result};

use crate::cluster::Item;
use crate::job::{self, Found, Job, Work};
use crate::record::Records;
use crate::release::{Outcome, Release, cut};
use crate::render::Source;
use crate::shared::{Key, Shared};
use crate::source::Gathered;
use crate::spec::{self, FailurePolicy, MANAGED_BY, MANAGER, Spec};

const FINALIZER: &str = "wrangler.cattle.io/on-helm-chart-remove";
/// On release records, as klipper-helm reads it.
const HASH_LABEL: &str = "helmcharts.helm.cattle.io/configHash";
const HASH_LABEL_BYTES: usize = 63;
/// Of what is told about a failure.
const MESSAGE_MAX_BYTES: usize = 1000;

/// What comes after an attempt.
pub(crate) enum Next {
    /// Nothing until something changes, the Secrets with these revisions among that.
    Wait(Vec<(String, u64)>),
    /// It failed.
    Retry,
}

/// A HelmChart that is looked at.
pub(crate) struct Chart<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) object: &'a Object,
    /// In a row, before this attempt.
    pub(crate) failures: u32,
}

impl Chart<'_> {
    fn key(&self) -> Key {
        (self.object.namespace().to_owned(), self.object.name().to_owned())
    }

    /// Does what is to be done now.
    pub(crate) async fn reconcile(&self) -> Next {
        match self.attempt().await {
            Ok(next) => next,
            Err(error) => {
                log::warn!("HelmChart {}/{}: {error}", self.object.namespace(), self.object.name());
                Next::Retry
            }
        }
    }

    async fn attempt(&self) -> Result<Next> {
        let tree = self.object.tree();
        let is_ours = spec::is_ours(&tree);
        let has_finalizer = tree.list("metadata.finalizers").iter().any(|one| one == FINALIZER);
        if is_ours == Some(false) || (is_ours.is_none() && self.object.deleting()) {
            return Ok(Next::Wait(Vec::new()));
        }
        if self.object.deleting() {
            return match has_finalizer {
                true => self.remove(&tree).await,
                false => Ok(Next::Wait(Vec::new())),
            };
        }
        if is_ours.is_none() || !has_finalizer {
            // The change of its annotations has it looked at again.
            self.claim(&tree).await?;
            if is_ours.is_none() {
                return Ok(Next::Wait(Vec::new()));
            }
        }
        let config = self.shared.config(&self.key()).map(|config| config.tree());
        let read = Spec::read(&tree, config.as_ref());
        let spec = match read {
            Ok(spec) => spec,
            Err(error) => {
                let message = format!("Failed to generate Job: {error}");
                self.set_status("", (false, "", ""), (true, "Job create failed", &message)).await?;
                return Ok(Next::Wait(Vec::new()));
            }
        };
        if !matches!(spec.helm_version.as_str(), "" | "v3") {
            let message = format!(
                "Unsupported Helm version {}: only v3 charts are supported",
                spec.helm_version
            );
            self.shared.tell(self.object, true, "UnsupportedVersion", &message).await;
            let failed = (true, "Unsupported version", "Only Helm v3 charts are supported");
            self.set_status("", (false, "", ""), failed).await?;
            return Ok(Next::Wait(Vec::new()));
        }
        self.install(&spec, &tree, config.as_ref()).await
    }

    /// Says that it is this controller's, and that its end is to be waited for.
    async fn claim(&self, tree: &Value) -> Result<()> {
        let mut finalizers = tree.list("metadata.finalizers").to_vec();
        if !finalizers.iter().any(|one| one == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        // At this revision: finalizers of others are not to be lost.
        let patch = json!({"metadata": {
            "resourceVersion": tree.str("metadata.resourceVersion"),
            "annotations": {MANAGED_BY: MANAGER}, "finalizers": finalizers,
        }});
        self.patch("", patch).await.context(|| "claim it")
    }

    async fn patch(&self, subresource: &str, patch: Value) -> Result<(), api::Status> {
        let client = &self.shared.cluster.client;
        let (namespace, name) = (self.object.namespace(), self.object.name());
        let kind = self.object.kind();
        client.patch(kind, namespace, name, subresource, PatchType::Merge, patch).await.map(drop)
    }

    async fn install(&self, spec: &Spec, tree: &Value, config: Option<&Value>) -> Result<Next> {
        let gathered = self.shared.sources.values(spec).await;
        let gathered = match gathered {
            Ok(gathered) => gathered,
            Err(error) => {
                self.tell_failure(spec, &error).await;
                let message = cut(format!("Failed to generate Job: {error}"), MESSAGE_MAX_BYTES);
                self.set_status("", (false, "", ""), (true, "Job create failed", &message)).await?;
                return Ok(Next::Retry);
            }
        };
        let hash = config_hash(tree, config, &gathered);
        let cluster = &self.shared.cluster;
        let found = job::begin(cluster, self.object, spec, (Work::Install, &hash)).await?;
        let Found::Begun(job) = found else { return Ok(Next::Wait(gathered.secrets)) };
        job.started(self.failures).await.context(|| "say that the Job works")?;
        let message = format!("Applying HelmChart using Job {}/{}", spec.namespace, job.name);
        if self.failures == 0 {
            self.shared.tell(self.object, false, "ApplyJob", &message).await;
        }
        self.set_status(&job.name, (true, "Job created", &message), (false, "", "")).await?;
        let secrets = gathered.secrets.clone();
        match self.deploy(spec, gathered, &hash).await {
            Ok(Outcome::Deployed) => {
                self.sweep(spec).await;
                job.complete().await.context(|| "say that the Job is complete")?;
                Ok(Next::Wait(secrets))
            }
            Ok(Outcome::Aborted(why)) => {
                self.give_up(spec, &job, &message, &why).await?;
                Ok(Next::Wait(secrets))
            }
            Err(error) => {
                log::warn!("HelmChart {}/{}: {error}", spec.namespace, spec.name);
                self.tell_failure(spec, &error).await;
                let failures = self.failures + 1;
                if failures > spec.back_off_limit {
                    let why = cut(error.to_string(), MESSAGE_MAX_BYTES);
                    self.give_up(spec, &job, &message, &why).await?;
                    return Ok(Next::Wait(secrets));
                }
                job.failed(failures).await.context(|| "say that the Job failed")?;
                Ok(Next::Retry)
            }
        }
    }

    async fn deploy(&self, spec: &Spec, gathered: Gathered, hash: &str) -> Result<Outcome> {
        let _work = self.shared.working.acquire().await;
        let turn = self.shared.rendering.acquire().await;
        let archive = self.shared.sources.archive(spec).await?;
        let source = Source { archive: archive.into(), values: gathered.values };
        self.release(spec, Some(hash)).ensure(source, turn).await
    }

    fn release<'s>(&'s self, spec: &'s Spec, hash: Option<&str>) -> Release<'s> {
        let label = hash.and_then(|hash| hash.strip_prefix("SHA256=")?.get(..HASH_LABEL_BYTES));
        Release {
            cluster: &self.shared.cluster,
            records: Records {
                client: self.shared.cluster.client.clone(),
                driver: spec.driver,
                namespace: spec.target_namespace.clone(),
                name: spec.name.clone(),
            },
            spec,
            labels: label.map(|hash| (HASH_LABEL, hash.to_owned())).into_iter().collect(),
        }
    }

    async fn tell_failure(&self, spec: &Spec, error: &Error) {
        let (namespace, name) = (&spec.namespace, job::name(Work::Install, &spec.name));
        let text = format!("Applying HelmChart using Job {namespace}/{name} failed: {error}");
        let message = cut(text, MESSAGE_MAX_BYTES);
        self.shared.tell(self.object, true, "JobFailed", &message).await;
    }

    /// Nothing more is tried until something changes.
    async fn give_up(&self, spec: &Spec, job: &Job, applying: &str, why: &str) -> Result<()> {
        let policy = match spec.failure_policy {
            FailurePolicy::Abort => "the failure policy is abort",
            _ => "the back-off limit is reached",
        };
        let message = cut(format!("{policy}: {why}"), MESSAGE_MAX_BYTES);
        job.gave_up(self.failures + 1, &message).await.context(|| "say that the Job failed")?;
        self.shared.tell(self.object, true, "JobFailed", &message).await;
        let created = (true, "Job created", applying);
        self.set_status(&job.name, created, (true, "Job failed", &message)).await
    }

    /// Writes the two conditions, each a truth, a reason and a message.
    async fn set_status(
        &self,
        job: &str,
        created: (bool, &str, &str),
        failed: (bool, &str, &str),
    ) -> Result<()> {
        let condition = |kind: &str, (is_true, reason, message): (bool, &str, &str)| {
            let status = if is_true { "True" } else { "False" };
            let mut tree = json!({"type": kind, "status": status});
            for (field, text) in [("reason", reason), ("message", message)] {
                if !text.is_empty() {
                    tree.set(field, text);
                }
            }
            tree
        };
        let mut status = json!({
            "conditions": [condition("JobCreated", created), condition("Failed", failed)],
        });
        if !job.is_empty() {
            status.set("jobName", job);
        }
        self.patch("status", json!({"status": status})).await.context(|| "write its status")
    }

    /// Removes the release, then lets the HelmChart go.
    async fn remove(&self, tree: &Value) -> Result<Next> {
        let config = self.shared.config(&self.key()).map(|config| config.tree());
        let spec = Spec::read(tree, config.as_ref())?;
        let cluster = &self.shared.cluster;
        let install = job::name(Work::Install, &spec.name);
        let item = Item {
            kind: &kinds::JOB,
            tree: json!({"apiVersion": "batch/v1", "metadata": {"name": install, "namespace": spec.namespace}}),
        };
        cluster.delete_anyway(&item).await?;
        let found = job::begin(cluster, self.object, &spec, (Work::Delete, "")).await?;
        if let Found::Begun(job) = found {
            job.started(self.failures).await.context(|| "say that the Job works")?;
            self.patch("status", json!({"status": {"jobName": job.name}}))
                .await
                .context(|| "write its status")?;
            let release = self.release(&spec, None);
            let all = release.records.all().await.context(|| "look for the release's records")?;
            if let Err(error) = release.uninstall(&all).await {
                let what =
                    format!("Uninstalling HelmChart using Job {}/{}", spec.namespace, job.name);
                let message = cut(format!("{what} failed: {error}"), MESSAGE_MAX_BYTES);
                self.shared.tell(self.object, true, "JobFailed", &message).await;
                job.failed(self.failures + 1).await.context(|| "say that the Job failed")?;
                return Err(error);
            }
            self.sweep(&spec).await;
            let message = format!(
                "Uninstalled HelmChart using Job {}/{}, removing resources",
                spec.namespace, job.name
            );
            self.shared.tell(self.object, false, "RemoveJob", &message).await;
            job.remove().await.context(|| "take the Job away")?;
        }
        let mut finalizers = tree.list("metadata.finalizers").to_vec();
        finalizers.retain(|one| one != FINALIZER);
        let patch = json!({"metadata": {"finalizers": finalizers}});
        match self.patch("", patch).await {
            Err(status) if !status.is_not_found() => Err(status).context(|| "let it go"),
            _ => Ok(Next::Wait(Vec::new())),
        }
    }

    /// Takes away what k3s's own controller has made for its pods: a service account that may do everything, for one.
    async fn sweep(&self, spec: &Spec) {
        let own = |kind, namespace: &str, name: String| Item {
            kind,
            tree: json!({"metadata": {"name": name, "namespace": namespace}}),
        };
        let (namespace, name) = (&spec.namespace, &spec.name);
        for item in [
            own(&kinds::CLUSTER_ROLE_BINDING, "", format!("helm-{namespace}-{name}")),
            own(&kinds::SERVICE_ACCOUNT, namespace, format!("helm-{name}")),
            own(&kinds::SECRET, namespace, format!("chart-values-{name}")),
            own(&kinds::CONFIG_MAP, namespace, format!("chart-content-{name}")),
        ] {
            let cluster = &self.shared.cluster;
            let Ok(Some(live)) = cluster.get(&item).await else { continue };
            let owner = live.entry("metadata.annotations", "objectset.rio.cattle.io/owner-gvk");
            if owner == Some("helm.cattle.io/v1, Kind=HelmChart")
                && let Err(error) = cluster.delete_anyway(&item).await
            {
                log::warn!("HelmChart {namespace}/{name}: {error}");
            }
        }
    }
}

/// What the work of an installation depends on.
fn config_hash(tree: &Value, config: Option<&Value>, gathered: &Gathered) -> String {
    let mut digest = Digest::new(&SHA256);
    let config = config.map_or(&Value::Null, |config| config.at("spec"));
    for part in [tree.at("spec").to_string(), config.to_string()].iter().chain(&gathered.hashed) {
        digest.update(&part.len().to_le_bytes());
        digest.update(part.as_bytes());
    }
    let hash = wire::hex::encode(digest.finish().as_ref());
    format!("SHA256={}", hash.to_ascii_uppercase())
}
