//! A seeded user: makes, scales, changes and deletes everything the running controllers know.

use std::sync::Arc;
use std::time::Duration;

use api::kinds::{
    CONFIG_MAP, CRON_JOB, DAEMON_SET, DEPLOYMENT, JOB, NAMESPACE, PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM, POD, REPLICA_SET, REPLICATION_CONTROLLER, SECRET, SERVICE,
    STATEFUL_SET, STORAGE_CLASS,
};
use api::{Kind, Object, Status, Value, json};
use client::{Client, DeleteOptions, PatchType};
use stdx::prng::Prng;

use crate::controllers;
use crate::door::Door;
use crate::lock;
use crate::world::World;

const NAMESPACES: [&str; 2] = ["blue", "green"];

/// Objects of one kind that the user keeps at most.
const OBJECTS_MAX: usize = 4;

pub(crate) struct User {
    world: Arc<World>,
    client: Client,
    prng: Prng,
    n_made: u64,
}

impl User {
    pub(crate) fn new(world: &Arc<World>, seed: u64) -> User {
        let client = Client::new(Arc::new(Door::new(world, "user")));
        User { world: Arc::clone(world), client, prng: Prng::new(seed ^ 0x05e2), n_made: 0 }
    }

    /// Makes what everything else needs; insists.
    pub(crate) async fn set_up(&mut self) {
        for namespace in NAMESPACES {
            let tree =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            self.insist(&NAMESPACE, tree).await;
        }
        if !has_volumes() {
            return;
        }
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": "local-path"}, "provisioner": "rancher.io/local-path",
            "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete",
        });
        self.insist(&STORAGE_CLASS, class).await;
        let paths = json!({"nodePathMap": [
            {"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": ["/var/lib/sim"]}]});
        let settings = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "local-path-config", "namespace": "kube-system"},
            "data": {"config.json": paths.to_string()},
        });
        self.insist(&CONFIG_MAP, settings).await;
    }

    async fn insist(&mut self, kind: &'static Kind, tree: Value) {
        loop {
            match self.client.create(kind, tree.clone()).await {
                Err(status) if !status.is_already_exists() => {
                    log::debug!("user: {status}");
                    rt::sleep(Duration::from_millis(300)).await;
                }
                _ => return,
            }
        }
    }

    /// Does things until the time is over.
    pub(crate) async fn run(&mut self, n_acts: u64) {
        for _ in 0..n_acts {
            if let Err(status) = self.act().await {
                log::debug!("user: {status}");
            }
            let pause_ms = if self.prng.chance(40) { 500 } else { 12_000 };
            rt::sleep(Duration::from_millis(self.prng.below(pause_ms))).await;
        }
    }

    async fn act(&mut self) -> Result<(), Status> {
        if self.prng.chance(12) {
            return self.own_something().await;
        }
        let kinds: Vec<Maker> = MAKERS.iter().copied().filter(|m| controllers::has(m.1)).collect();
        let idx =
            usize::try_from(self.prng.below(u64::try_from(kinds.len()).unwrap_or(1))).unwrap_or(0);
        let Some((kind, _, make)) = kinds.get(idx).copied() else { return Ok(()) };
        let existing: Vec<Object> = {
            let checks = lock(&self.world.checks);
            let own = |o: &&Object| o.controller().is_none() && NAMESPACES.contains(&o.namespace());
            checks.known.of_kind(kind).filter(own).cloned().collect()
        };
        if existing.is_empty() || (existing.len() < OBJECTS_MAX && self.prng.chance(30)) {
            return self.create(kind, make).await;
        }
        let chosen = self.prng.below(u64::try_from(existing.len()).unwrap_or(1));
        let object = &existing[usize::try_from(chosen).unwrap_or(0)];
        if *kind == PERSISTENT_VOLUME_CLAIM && self.prng.chance(50) {
            return self.delete(kind, object).await;
        }
        match self.prng.below(10) {
            0..4 => self.scale(kind, object).await,
            4..7 => self.change_template(kind, object).await,
            7..9 => self.delete_a_pod().await,
            _ => self.delete(kind, object).await,
        }
    }

    async fn create(&mut self, kind: &'static Kind, make: Make) -> Result<(), Status> {
        self.n_made += 1;
        let namespace = NAMESPACES[usize::try_from(self.prng.below(2)).unwrap_or(0)];
        let name = format!("{}-{}", kind.name.to_lowercase(), self.n_made);
        let mut tree = make(&mut self.prng, &name);
        tree["apiVersion"] = kind.api_version().into();
        tree["kind"] = kind.name.into();
        tree["metadata"]["name"] = name.clone().into();
        if kind.namespaced() {
            tree["metadata"]["namespace"] = namespace.into();
        }
        if *kind == PERSISTENT_VOLUME_CLAIM {
            let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": "/tmp/sim"}, "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain"}});
            volume["metadata"] = json!({"name": format!("volume-{}", self.n_made)});
            self.client.create(&PERSISTENT_VOLUME, volume).await?;
        }
        self.client.create(kind, tree).await?;
        if controllers::has("endpointslice-controller") && self.prng.chance(30) {
            let service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
            });
            self.client.create(&SERVICE, service).await?;
        }
        Ok(())
    }

    /// An object and, right after it, another that it owns; or the end of such an owner.
    async fn own_something(&mut self) -> Result<(), Status> {
        self.n_made += 1;
        let (name, namespace) = (format!("owner-{}", self.n_made), NAMESPACES[0]);
        let old = lock(&self.world.checks).known.of_kind(&CONFIG_MAP).find(is_owner).cloned();
        if let Some(old) = old.filter(|_| self.prng.chance(40)) {
            return self.delete(&CONFIG_MAP, &old).await;
        }
        let tree = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace},
        });
        let owner = self.client.create(&CONFIG_MAP, tree).await?;
        let reference =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner.uid()});
        let tree = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace, "ownerReferences": [reference]},
        });
        self.client.create(&SECRET, tree).await.map(drop)
    }

    async fn scale(&mut self, kind: &'static Kind, object: &Object) -> Result<(), Status> {
        let scaled = [&DEPLOYMENT, &REPLICA_SET, &REPLICATION_CONTROLLER, &STATEFUL_SET];
        if !scaled.contains(&kind) {
            return Ok(());
        }
        let patch = json!({"spec": {"replicas": self.prng.below(6)}});
        self.patch(kind, object, patch).await
    }

    async fn change_template(
        &mut self,
        kind: &'static Kind,
        object: &Object,
    ) -> Result<(), Status> {
        if ![&DEPLOYMENT, &STATEFUL_SET, &DAEMON_SET].contains(&kind) {
            return Ok(());
        }
        // Few versions, so that roll-backs to old templates happen.
        let annotations = json!({"version": self.prng.below(3).to_string()});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        self.patch(kind, object, patch).await
    }

    async fn patch(&self, kind: &'static Kind, o: &Object, patch: Value) -> Result<(), Status> {
        let (namespace, name) = (o.namespace(), o.name());
        self.client.patch(kind, namespace, name, "", PatchType::Merge, patch).await.map(drop)
    }

    async fn delete(&mut self, kind: &'static Kind, object: &Object) -> Result<(), Status> {
        let policy = ["Background", "Foreground", "Orphan", ""];
        let idx = if self.prng.chance(80) { self.prng.below(2) } else { self.prng.below(4) };
        let propagation = policy[usize::try_from(idx).unwrap_or(0)].to_owned();
        let options = DeleteOptions { propagation, ..DeleteOptions::default() };
        self.client.delete(kind, object.namespace(), object.name(), options).await
    }

    async fn delete_a_pod(&mut self) -> Result<(), Status> {
        let pods: Vec<Object> = lock(&self.world.checks).known.of_kind(&POD).cloned().collect();
        let idx = self.prng.below(u64::try_from(pods.len()).unwrap_or(0));
        let Some(pod) = pods.get(usize::try_from(idx).unwrap_or(0)) else { return Ok(()) };
        let options = DeleteOptions::default();
        self.client.delete(&POD, pod.namespace(), pod.name(), options).await
    }

    /// What would never rest is taken away; what an orphaning deletion left behind, too.
    pub(crate) async fn tidy_up(&mut self) {
        let restless: Vec<Object> =
            lock(&self.world.checks).known.of_kind(&CRON_JOB).cloned().collect();
        for object in restless {
            while let Err(status) = self.delete(&CRON_JOB, &object).await {
                if status.is_not_found() {
                    break;
                }
                rt::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn is_owner(object: &&Object) -> bool {
    object.name().starts_with("owner-") && !object.deleting()
}

fn has_volumes() -> bool {
    controllers::has("persistent-volume-binder")
        && controllers::has("local-path-provisioner-service-account")
}

type Make = fn(&mut Prng, &str) -> Value;

/// A kind, the controller that must exist, and how to make one.
type Maker = (&'static Kind, &'static str, Make);

static MAKERS: &[Maker] = &[
    (&DEPLOYMENT, "deployment-controller", deployment),
    (&DEPLOYMENT, "deployment-controller", deployment),
    (&REPLICA_SET, "replicaset-controller", replica_set),
    (&STATEFUL_SET, "statefulset-controller", stateful_set),
    (&REPLICATION_CONTROLLER, "replication-controller", replication_controller),
    (&DAEMON_SET, "daemon-set-controller", daemon_set),
    (&JOB, "job-controller", job),
    (&PERSISTENT_VOLUME_CLAIM, "persistent-volume-binder", claim),
    (&CRON_JOB, "cronjob-controller", cron_job),
    (&PERSISTENT_VOLUME_CLAIM, "persistent-volume-binder", claim),
];

fn template(prng: &mut Prng, name: &str, restart: &str) -> Value {
    let mut tree = json!({
        "metadata": {"labels": {"app": name}},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": "sim", "ports": [{"containerPort": 80}]}],
        },
    });
    // Half of them are ready when they say so, the others when they run.
    if prng.chance(50) {
        tree["spec"]["containers"][0]["readinessProbe"] =
            json!({"tcpSocket": {"port": 80}, "periodSeconds": 5});
    }
    if prng.chance(20) {
        tree["spec"]["initContainers"] = json!([{"name": "before", "image": "sim"}]);
    }
    tree
}

fn selector(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

fn deployment(prng: &mut Prng, name: &str) -> Value {
    let (surge, unavailable) = [("25%", "25%"), ("1", "0"), ("0", "1"), ("50%", "2")]
        [usize::try_from(prng.below(4)).unwrap_or(0)];
    let value = |text: &str| match text.parse::<i64>() {
        Ok(number) => json!(number),
        Err(_) => json!(text),
    };
    let strategy = match prng.chance(15) {
        true => json!({"type": "Recreate"}),
        false => json!({"type": "RollingUpdate", "rollingUpdate": {
            "maxSurge": value(surge), "maxUnavailable": value(unavailable)}}),
    };
    let min_ready = if prng.chance(20) { prng.below(5) } else { 0 };
    json!({"metadata": {}, "spec": {
        "replicas": prng.below(5), "selector": selector(name), "strategy": strategy,
        "minReadySeconds": min_ready, "revisionHistoryLimit": 2, "template": template(prng, name, "Always"),
    }})
}

fn replica_set(prng: &mut Prng, name: &str) -> Value {
    json!({"metadata": {}, "spec": {
        "replicas": prng.below(4), "selector": selector(name), "template": template(prng, name, "Always"),
    }})
}

fn replication_controller(prng: &mut Prng, name: &str) -> Value {
    json!({"metadata": {}, "spec": {"replicas": prng.below(4), "template": template(prng, name, "Always")}})
}

fn stateful_set(prng: &mut Prng, name: &str) -> Value {
    let policy = if prng.chance(40) { "Parallel" } else { "OrderedReady" };
    let mut tree = json!({"metadata": {}, "spec": {
        "replicas": prng.below(4), "selector": selector(name), "serviceName": name,
        "podManagementPolicy": policy, "template": template(prng, name, "Always"),
    }});
    if has_volumes() && prng.chance(50) {
        tree["spec"]["volumeClaimTemplates"] = json!([{
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
                "resources": {"requests": {"storage": "1Gi"}}},
        }]);
    }
    tree
}

fn daemon_set(prng: &mut Prng, name: &str) -> Value {
    json!({"metadata": {}, "spec": {
        "selector": selector(name), "template": template(prng, name, "Always"),
    }})
}

fn job_spec(prng: &mut Prng, name: &str) -> Value {
    let restart = if prng.chance(50) { "Never" } else { "OnFailure" };
    // Longer than a history lasts, and shorter than most jumps of the clock.
    let deadline = if prng.chance(50) { json!(7200) } else { Value::Null };
    json!({
        "activeDeadlineSeconds": deadline,
        "completions": 1 + prng.below(4), "parallelism": 1 + prng.below(3), "backoffLimit": 6,
        "completionMode": if prng.chance(40) { "Indexed" } else { "NonIndexed" },
        "template": template(prng, name, restart),
    })
}

fn job(prng: &mut Prng, name: &str) -> Value {
    json!({"metadata": {}, "spec": job_spec(prng, name)})
}

fn cron_job(prng: &mut Prng, name: &str) -> Value {
    let policies = ["Allow", "Forbid", "Replace"];
    let policy = policies[usize::try_from(prng.below(3)).unwrap_or(0)];
    json!({"metadata": {}, "spec": {
        "schedule": "*/1 * * * *",
        "concurrencyPolicy": policy,
        "jobTemplate": {"spec": job_spec(prng, name)},
    }})
}

fn claim(_: &mut Prng, _: &str) -> Value {
    json!({"metadata": {}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}},
    }})
}
