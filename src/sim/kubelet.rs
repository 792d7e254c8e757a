//! A kubelet in a few lines: pods start, become ready, crash, end and go, each in its own seeded time.
//!
//! Containers outlive a crash of the kubelet; what it has told the API does not bind it. It looks at
//! each pod, compares what it would tell with what the API shows, and tells the difference.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::controller::Cache;
use api::kinds::{LEASE, NODE, PERSISTENT_VOLUME, POD};
use api::{Lens, Object, Status, Value, json};
use client::{Client, DeleteOptions, Informers, Interest, PatchType};
use stdx::prng::Prng;
use stdx::time::Mono;

use crate::check::Container;
use crate::controllers;
use crate::door::Door;
use crate::lock;
use crate::world::World;

/// How often it looks again if nothing changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// And how often it renews its Lease.
const REST_EVERY: Duration = Duration::from_secs(10);

/// What the local-path provisioner's volumes wait for.
const VOLUME_FINALIZER: &str = "k3rs.io/local-path";

/// One node's machine: what runs, whatever the kubelet knows of it.
pub(crate) struct Node {
    world: Arc<World>,
    name: String,
    number: u64,
    prng: Prng,
    pods: BTreeMap<String, Running>,
    n_addresses: u64,
}

/// One pod on the node.
struct Running {
    object: Object,
    starts: Mono,
    /// When it is ready, from its last start.
    ready: Mono,
    /// When its container ends by itself, and whether well.
    ends: Option<(Mono, bool)>,
    stops: Option<Mono>,
    phase: &'static str,
    restarts: u64,
    address: String,
    /// The version of the pod that shows all there is to tell, while nothing is due.
    quiet_at: u64,
}

/// Runs a node for ever.
pub(crate) async fn run(world: Arc<World>, number: u64, seed: u64) {
    let name = format!("node-{number}");
    let prng = Prng::new(seed ^ (number << 40));
    let mut node = Node { world, name, number, prng, pods: BTreeMap::new(), n_addresses: 0 };
    loop {
        node.live().await;
        let name = node.name.clone();
        node.world.tell(|| format!("kubelet {name} crashes"));
        node.sleep_up_to(5000).await;
    }
}

impl Node {
    /// One life of the kubelet, until it crashes.
    async fn live(&mut self) {
        let door = Door::new(&self.world, format!("kubelet {}", self.name));
        let client = Client::new(Arc::new(door));
        let informers = Informers::new(client.clone());
        while let Err(status) = self.register(&client).await {
            log::debug!("register {}: {status}", self.name);
            self.sleep_up_to(3000).await;
        }
        let field_selector = format!("spec.nodeName={}", self.name);
        informers.want(Interest { kind: &POD, field_selector });
        informers.synced(&[&POD]).await;
        let mut beat_at = rt::now().mono;
        loop {
            let changed = informers.change();
            self.look(&client, &informers).await;
            let now = rt::now().mono;
            if now >= beat_at && self.beat(&client).await.is_ok() {
                beat_at = now + REST_EVERY;
            }
            self.clear_volumes().await;
            if self.world.faults.chance(1) && self.prng.chance(10) {
                return;
            }
            let rest = if self.is_busy() { LOOK_EVERY } else { REST_EVERY };
            let _ = rt::timeout(rest, changed).await;
        }
    }

    fn is_busy(&self) -> bool {
        let now = rt::now().mono;
        self.pods.values().any(|p| p.stops.is_some() || p.ready > now || p.ends.is_some())
    }

    async fn sleep_up_to(&mut self, max_ms: u64) {
        rt::sleep(Duration::from_millis(self.prng.below(max_ms))).await;
    }

    async fn register(&self, client: &Client) -> Result<(), Status> {
        let tree = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
        });
        match client.create(&NODE, tree).await {
            Err(status) if !status.is_already_exists() => return Err(status),
            _ => {}
        }
        self.post_status(client).await?;
        if !controllers::has("node-controller") {
            // Nobody else would take the taint away that a new node comes with.
            let admin = Client::new(Arc::new(Door::new(&self.world, "user")));
            let patch = json!({"spec": {"taints": null}});
            admin.patch(&NODE, "", &self.name, "", PatchType::Merge, patch).await?;
        }
        Ok(())
    }

    async fn post_status(&self, client: &Client) -> Result<(), Status> {
        let size = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
        let now = api::time::format(rt::now().wall);
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": "Simulated", "message": "",
                "lastHeartbeatTime": now, "lastTransitionTime": now})
        };
        let status = json!({"status": {
            "capacity": size, "allocatable": size,
            "conditions": [condition("Ready", "True"), condition("MemoryPressure", "False")],
            "addresses": [{"type": "InternalIP", "address": format!("192.168.0.{}", 10 + self.number)}],
        }});
        client.patch(&NODE, "", &self.name, "status", PatchType::Merge, status).await?;
        Ok(())
    }

    /// Removes the directories of deleted volumes, and says so. What stands for it in production is
    /// not the node's own identity, which may not list volumes.
    async fn clear_volumes(&self) {
        let deleting: Vec<Object> = {
            let checks = lock(&self.world.checks);
            checks.known.of_kind(&PERSISTENT_VOLUME).filter(|v| v.deleting()).cloned().collect()
        };
        let admin = Client::new(Arc::new(Door::new(&self.world, "user")));
        for volume in deleting {
            let tree = volume.tree();
            let mut finalizers = tree.list("metadata.finalizers").to_vec();
            finalizers.retain(|finalizer| finalizer != VOLUME_FINALIZER);
            let n_before = tree.list("metadata.finalizers").len();
            if finalizers.len() == n_before {
                continue;
            }
            let patch = json!({"metadata": {
                "finalizers": finalizers, "resourceVersion": volume.revision().to_string()}});
            let (kind, name) = (&PERSISTENT_VOLUME, volume.name());
            if let Err(status) = admin.patch(kind, "", name, "", PatchType::Merge, patch).await {
                log::debug!("{volume:?}: {status}");
            }
        }
    }

    /// Says that the node lives; and that it is ready, if somebody thinks otherwise.
    async fn beat(&self, client: &Client) -> Result<(), Status> {
        let node = client.get(&NODE, "", &self.name).await?;
        if !crate::check::is_ready_tree(&node.tree()) {
            self.post_status(client).await?;
        }
        let time = api::time::format_micro(rt::now().wall);
        let spec = json!({
            "holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": time,
        });
        let (namespace, name) = ("kube-node-lease", self.name.as_str());
        let patch = json!({"spec": spec});
        match client.patch(&LEASE, namespace, name, "", PatchType::Merge, patch).await {
            Err(status) if status.is_not_found() => {
                let tree = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": name, "namespace": namespace}, "spec": spec,
                });
                client.create(&LEASE, tree).await.map(drop)
            }
            done => done.map(drop),
        }
    }

    /// Looks at every pod once.
    async fn look(&mut self, client: &Client, informers: &Informers) {
        let view: BTreeMap<String, Object> =
            informers.list(&POD, None).into_iter().map(|p| (p.uid().to_owned(), p)).collect();
        let gone: Vec<String> =
            self.pods.keys().filter(|uid| !view.contains_key(*uid)).cloned().collect();
        for uid in gone {
            // Removed by force: the kubelet stops what nobody wants any more.
            if let Some(pod) = self.pods.remove(&uid) {
                self.container(&pod.object, false);
            }
        }
        let faulty = self.world.faults.on();
        for (uid, object) in view {
            if let Some(pod) = self.pods.get_mut(&uid)
                && pod.quiet_at == object.revision()
            {
                if !(faulty && pod.phase == "Running" && self.prng.chance(2)) {
                    continue;
                }
                // A crash or an out-of-memory kill; it starts again.
                pod.restarts += 1;
                pod.ready = rt::now().mono + Duration::from_millis(self.prng.below(8000));
                pod.quiet_at = 0;
            }
            self.advance(&uid, &object);
            if let Err(status) = self.tell(client, &uid, &object).await {
                log::debug!("{}: {object:?}: {status}", self.name);
            }
        }
    }

    /// Lets time act on one pod.
    fn advance(&mut self, uid: &str, object: &Object) {
        let now = rt::now().mono;
        let tree = object.tree();
        if !self.pods.contains_key(uid) {
            if matches!(tree.str("status.phase"), "Succeeded" | "Failed") {
                return;
            }
            let pod = self.admit(object, &tree, now);
            self.pods.insert(uid.to_owned(), pod);
        }
        let delay = |prng: &mut Prng, max_ms| Duration::from_millis(prng.below(max_ms));
        let (mut started, mut stopped) = (false, false);
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if object.deleting() && pod.stops.is_none() {
            let grace_ms =
                tree.int("metadata.deletionGracePeriodSeconds").unwrap_or(0).max(0) * 1000;
            let max_ms = u64::try_from(grace_ms).unwrap_or(0).min(4000) + 1;
            pod.stops = Some(now + delay(&mut self.prng, max_ms));
        }
        if pod.phase == "Pending" && pod.starts <= now && pod.stops.is_none() {
            pod.phase = "Running";
            started = true;
        }
        let runs = pod.phase == "Running";
        if let Some((at, well)) = pod.ends.filter(|(at, _)| runs && *at <= now) {
            match (well, tree.str("spec.restartPolicy")) {
                (false, "OnFailure") => {
                    pod.restarts += 1;
                    pod.ends = Some((at + delay(&mut self.prng, 10_000), self.prng.chance(70)));
                }
                (well, _) => {
                    pod.phase = if well { "Succeeded" } else { "Failed" };
                    stopped = true;
                }
            }
        }
        if pod.stops.is_some_and(|at| at <= now) && matches!(pod.phase, "Pending" | "Running") {
            pod.phase = "Failed";
            stopped = true;
        }
        if started || stopped {
            self.container(object, started);
        }
    }

    fn admit(&mut self, object: &Object, tree: &Value, now: Mono) -> Running {
        let mut delay = |max_ms| Duration::from_millis(self.prng.below(max_ms));
        let starts = now + delay(2000);
        let ready = starts + delay(3000);
        let ends = (tree.str("spec.restartPolicy") != "Always").then(|| now + delay(15_000));
        let ends = ends.map(|at| (at, self.prng.chance(75)));
        self.n_addresses += 1;
        let (high, low) = (self.n_addresses / 250, self.n_addresses % 250 + 1);
        Running {
            object: object.clone(),
            starts,
            ready,
            ends,
            stops: None,
            phase: "Pending",
            restarts: 0,
            address: format!("10.42.{}.{low}", self.number * 8 + high),
            quiet_at: 0,
        }
    }

    fn container(&self, pod: &Object, runs: bool) {
        let container = Container { pod, node: &self.name, runs };
        let verdict = lock(&self.world.checks).container(&container);
        if let Err(why) = verdict {
            self.world.fail(&why);
        }
    }

    /// Tells the API what it does not show yet; removes what has ended and shall go.
    async fn tell(&mut self, client: &Client, uid: &str, object: &Object) -> Result<(), Status> {
        let Some(pod) = self.pods.get(uid) else {
            return self.remove(client, object).await;
        };
        let ready = pod.phase == "Running" && pod.ready <= rt::now().mono && pod.stops.is_none();
        let tree = object.tree();
        let shown_ready = crate::check::is_ready_tree(&tree);
        let shown_restarts =
            tree.list("status.containerStatuses").first().and_then(|c| c.int("restartCount"));
        let differs = tree.str("status.phase") != pod.phase
            || shown_ready != ready
            || shown_restarts.unwrap_or(0) != i64::try_from(pod.restarts).unwrap_or(0);
        if differs && !(pod.phase == "Pending" && object.deleting()) {
            let patch = status(uid, pod, &tree, ready);
            let (namespace, name) = (object.namespace(), object.name());
            client.patch(&POD, namespace, name, "status", PatchType::Merge, patch).await?;
        }
        if matches!(pod.phase, "Succeeded" | "Failed") {
            self.remove(client, object).await?;
        }
        let rests = match self.pods.get(uid) {
            Some(pod) if pod.phase == "Running" => ready && pod.ends.is_none(),
            pod => pod.is_some_and(|pod| pod.phase != "Pending"),
        };
        if let Some(pod) =
            self.pods.get_mut(uid).filter(|_| rests && !differs && !object.deleting())
        {
            pod.quiet_at = object.revision();
        }
        Ok(())
    }

    async fn remove(&self, client: &Client, object: &Object) -> Result<(), Status> {
        if !object.deleting() {
            return Ok(());
        }
        let options = DeleteOptions {
            grace_secs: Some(0),
            uid: Some(object.uid().to_owned()),
            ..DeleteOptions::default()
        };
        match client.delete(&POD, object.namespace(), object.name(), options).await {
            Err(status) if status.is_not_found() || status.is_conflict() => Ok(()),
            done => done,
        }
    }
}

fn status(uid: &str, pod: &Running, tree: &Value, ready: bool) -> Value {
    let now = api::time::format(rt::now().wall);
    let mut conditions: Vec<Value> = tree.list("status.conditions").to_vec();
    conditions.retain(|c| !matches!(c.str("type"), "Ready" | "ContainersReady" | "Initialized"));
    let mut add = |kind: &str, holds: bool| {
        let old = tree.list("status.conditions").iter().find(|c| c.str("type") == kind);
        let status = if holds { "True" } else { "False" };
        let since = old
            .filter(|c| c.str("status") == status)
            .map_or(now.as_str(), |c| c.str("lastTransitionTime"));
        conditions.push(json!({"type": kind, "status": status, "lastTransitionTime": since}));
    };
    add("Initialized", true);
    add("Ready", ready);
    add("ContainersReady", ready);
    let name = tree.list("spec.containers").first().map_or("main", |c| c.str("name"));
    let state = match pod.phase {
        "Succeeded" | "Failed" => json!({"terminated": {
            "exitCode": i64::from(pod.phase == "Failed"), "finishedAt": now, "reason": "Simulated"}}),
        "Running" => json!({"running": {"startedAt": now}}),
        _ => json!({"waiting": {"reason": "ContainerCreating"}}),
    };
    let mut status = json!({
        "phase": pod.phase, "conditions": conditions, "podIP": pod.address,
        "podIPs": [{"ip": pod.address}],
        "containerStatuses": [{
            "name": name, "ready": ready, "restartCount": pod.restarts, "state": state,
            "image": "sim", "imageID": "sim", "started": pod.phase == "Running",
        }],
    });
    if !tree.has("status.startTime") {
        status["startTime"] = now.into();
    }
    json!({"metadata": {"uid": uid}, "status": status})
}
