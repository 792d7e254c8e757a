//! The Node object: registered, kept truthful, and its Lease renewed.

pub(crate) mod facts;
pub(crate) mod register;
pub(crate) mod tunables;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{Lens, LensMut, Object, Status, Value, json, kinds};
use client::PatchType;
use stdx::backoff::Backoff;
use stdx::time::{Mono, Wall};
use stdx::{Arrange, OrdMap};

use crate::shared::Shared;
use facts::Facts;

/// Without a change the status is written this often, as upstream.
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
/// Names of one of them, as upstream: a registry can have any number of tags for one image.
const IMAGE_NAMES_MAX: usize = 5;

/// What presses the node, as eviction found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pid: bool,
}

/// This node.
#[derive(Debug)]
pub(crate) struct Node {
    pub shared: Arc<Shared>,
    pub facts: Facts,
    pub pressure: Mutex<Pressure>,
    /// Conditions by type: status and since when.
    conditions: Mutex<OrdMap<&'static str, (String, Wall)>>,
    changed: rt::Event,
    is_ready: AtomicBool,
    is_written: AtomicBool,
    /// Told at each write of the Node.
    was_written: rt::Event,
    pub started_at: Wall,
    /// CPU samples by cgroup, for rates: when, total, and the rate computed then.
    pub samples: Mutex<OrdMap<String, (Mono, u64, u64)>>,
}

impl Node {
    pub(crate) async fn new(shared: Arc<Shared>) -> Node {
        let directory = shared.config.agent_directory.clone();
        let facts = rt::unblock(move || Facts::read(&directory)).await;
        let node = Node {
            facts,
            shared,
            pressure: Mutex::default(),
            conditions: Mutex::default(),
            changed: rt::Event::new(),
            is_ready: AtomicBool::new(false),
            is_written: AtomicBool::new(false),
            was_written: rt::Event::new(),
            started_at: rt::now().wall,
            samples: Mutex::default(),
        };
        // Known before the API answers: pods may start by then.
        let mut known = node.shared.node.lock().unwrap_or_else(PoisonError::into_inner);
        known.memory_capacity = i64::try_from(node.facts.memory_bytes).unwrap_or(i64::MAX);
        known.tree = node.registration();
        known.tree.set("status", node.status(rt::now().wall, &Value::Null));
        drop(known);
        node
    }

    pub(crate) async fn ready(&self) {
        loop {
            let listener = self.was_written.listen();
            if self.is_ready.load(Ordering::Acquire) {
                return;
            }
            listener.await;
        }
    }

    async fn registered(&self) {
        loop {
            let listener = self.was_written.listen();
            if self.is_written.load(Ordering::Acquire) {
                return;
            }
            listener.await;
        }
    }

    /// Has the status written again.
    pub(crate) fn look_again(&self) {
        self.changed.notify(usize::MAX);
    }

    /// Sets what presses the node; the status follows.
    pub(crate) fn set_pressure(&self, pressure: Pressure) {
        let mut known = self.pressure.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != pressure {
            *known = pressure;
            self.changed.notify(usize::MAX);
        }
    }

    /// The Node as it is registered, with the addresses of this moment.
    fn registration(&self) -> Value {
        let config = &self.shared.config;
        register::registration(config, self.facts.architecture, &self.shared.host_ips())
    }

    /// The status as it is now; conditions keep the times of `old` where they say the same.
    fn status(&self, now: Wall, old: &Value) -> Value {
        let config = &self.shared.config;
        let mut addresses = Vec::new();
        let internal = self.shared.host_ips();
        for (kind, ips) in [("InternalIP", &internal), ("ExternalIP", &config.external_ips)] {
            addresses.extend(ips.iter().map(|ip| json!({"type": kind, "address": ip.to_string()})));
        }
        addresses.push(json!({"type": "Hostname", "address": config.node_name}));
        let port = config.serving.as_ref().map_or(10250, |serving| serving.address.port());
        let mut capacity = self.facts.capacity(config.pods_max);
        let mut allocatable = self.facts.allocatable(
            config.pods_max,
            config.memory_reserved_bytes(self.facts.memory_bytes),
            config.eviction_hard.disk.of(self.facts.disk_bytes),
            config.reserved,
        );
        for (name, n, n_healthy) in self.shared.devices.amounts() {
            capacity[&name] = n.to_string().into();
            allocatable[&name] = n_healthy.to_string().into();
        }
        json!({
            "capacity": capacity,
            "allocatable": allocatable,
            "addresses": addresses,
            "conditions": self.conditions(now, old),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "nodeInfo": self.facts.node_info(&config.version),
            "images": self.images(),
            // Without any there is no list, not one that is empty.
            "volumesInUse": Some(self.shared.csi.in_use()).filter(|volumes| !volumes.is_empty()),
        })
    }

    fn images(&self) -> Vec<Value> {
        let mut images = self.shared.runtime.images().list();
        images.arrange_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.id.cmp(&b.id)));
        images
            .into_iter()
            .take(self.shared.config.images_shown_max)
            .map(|image| {
                let names = image.digests.into_iter().chain(image.tags).take(IMAGE_NAMES_MAX);
                let names: Vec<String> = names.collect();
                json!({"names": names, "sizeBytes": image.size_bytes})
            })
            .collect()
    }

    fn conditions(&self, now: Wall, old: &Value) -> Vec<Value> {
        let pressure = *self.pressure.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = match self.shared.network.not_ready() {
            None => ("True", "KubeletReady", "kubelet is posting ready status".to_owned()),
            Some(why) => (
                "False",
                "KubeletNotReady",
                format!(
                    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: {why}"
                ),
            ),
        };
        let choose = |is: bool, yes: (&'static str, &str), no: (&'static str, &str)| match is {
            true => ("True", yes.0, yes.1.to_owned()),
            false => ("False", no.0, no.1.to_owned()),
        };
        let list = [
            (
                "MemoryPressure",
                choose(
                    pressure.memory,
                    ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                    ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                ),
            ),
            (
                "DiskPressure",
                choose(
                    pressure.disk,
                    ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                    ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                ),
            ),
            (
                "PIDPressure",
                choose(
                    pressure.pid,
                    ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                    ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                ),
            ),
            ("Ready", ready),
        ];
        let mut known = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        list.into_iter()
            .map(|(kind, (status, reason, message))| {
                let before = old.list("conditions").iter().find(|c| c.str("type") == kind);
                let before = before
                    .map(|c| (c.str("status").to_owned(), c.str("lastTransitionTime").to_owned()))
                    .and_then(|(status, at)| Some((status, api::time::parse(&at)?)))
                    .or_else(|| known.get(kind).cloned());
                let since = match before {
                    Some((was, since)) if was == status => since,
                    _ => now,
                };
                known.insert(kind, (status.to_owned(), since));
                json!({
                    "type": kind, "status": status, "reason": reason, "message": message,
                    "lastHeartbeatTime": api::time::format(now),
                    "lastTransitionTime": api::time::format(since),
                })
            })
            .collect()
    }

    /// Writes the Node as it should be, made if it is not there.
    async fn write(&self) -> Result<Object, Status> {
        let client = &self.shared.client;
        let name = &self.shared.config.node_name;
        let wanted = self.registration();
        let existing = match client.get_optional(&kinds::NODE, "", name).await? {
            Some(existing) => existing,
            // Somebody else makes it.
            None if !self.shared.config.registers => {
                return Err(Status::not_found(&kinds::NODE, name));
            }
            None => match client.create(&kinds::NODE, wanted.clone()).await {
                Err(status) if status.is_already_exists() => {
                    client.get(&kinds::NODE, "", name).await?
                }
                created => {
                    log::info!("node {name}: registered");
                    created?
                }
            },
        };
        let tree = existing.tree();
        let missing = |path: &str| -> api::Map<String, Value> {
            let wanted = wanted.at(path).as_object().cloned().unwrap_or_default();
            wanted
                .into_iter()
                .filter(|(key, value)| tree.at(path).get(key) != Some(value))
                .collect()
        };
        let (labels, annotations) = (missing("metadata.labels"), missing("metadata.annotations"));
        if !labels.is_empty() || !annotations.is_empty() {
            let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
            client.patch(&kinds::NODE, "", name, "", PatchType::Merge, patch).await?;
        }
        let mut status = self.status(rt::now().wall, tree.at("status"));
        // What the cloud said of addresses is not ours to say again.
        if self.shared.config.external_cloud && !tree.list("status.addresses").is_empty() {
            status.remove("addresses");
        }
        // Conditions of others (NetworkUnavailable) stay.
        let ours = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];
        let foreign = tree.list("status.conditions").iter();
        let foreign: Vec<Value> =
            foreign.filter(|c| !ours.contains(&c.str("type"))).cloned().collect();
        status.list_mut("conditions").extend(foreign);
        let patch = json!({"status": status});
        client.patch(&kinds::NODE, "", name, "status", PatchType::Merge, patch).await
    }

    fn written(&self, object: &Object) {
        let first = !self.is_written.swap(true, Ordering::AcqRel);
        let tree = heard(&self.shared, object);
        let condition = |kind: &str| {
            let list = tree.list("status.conditions").iter();
            list.clone().find(|c| c.str("type") == kind).map_or("", |c| c.str("status")) == "True"
        };
        let recorder = &self.shared.recorder;
        let name = &self.shared.config.node_name;
        if first {
            recorder.normal(object, "Starting", "Starting kubelet.");
            for notice in &self.shared.config.notices {
                recorder.warning(object, "MissingKernelFeature", notice.clone());
            }
            for reason in
                ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"]
            {
                recorder.normal(object, reason, format!("Node {name} status is now: {reason}"));
            }
        }
        let ready = condition("Ready");
        let was = self.is_ready.swap(ready, Ordering::AcqRel);
        if ready && !was {
            recorder.normal(object, "NodeReady", format!("Node {name} status is now: NodeReady"));
            log::info!("node {name}: ready");
        } else if was && !ready {
            recorder.normal(
                object,
                "NodeNotReady",
                format!("Node {name} status is now: NodeNotReady"),
            );
        }
        self.was_written.notify(usize::MAX);
    }
}

/// Takes in the Node as the API has it; answers it as it is known now.
pub(crate) fn heard(shared: &Shared, object: &Object) -> Value {
    let mut facts = shared.node.lock().unwrap_or_else(PoisonError::into_inner);
    let newer = facts
        .object
        .as_ref()
        .is_none_or(|known| known.uid() != object.uid() || known.revision() < object.revision());
    if newer {
        facts.tree = object.tree();
        // Only what admission, downward API and events look at.
        facts.tree.remove("status.images");
        facts.tree.remove("metadata.managedFields");
        facts.object = Some(object.clone());
    }
    let tree = facts.tree.clone();
    drop(facts);
    if newer {
        shared.csi.heard.notify(usize::MAX);
    }
    tree
}

/// Asks the API for the Node, for those who may know more of it than the view does.
pub(crate) async fn look_up(shared: &Shared) {
    let name = &shared.config.node_name;
    match shared.client.get_optional(&kinds::NODE, "", name).await {
        Ok(Some(object)) => {
            heard(shared, &object);
        }
        Ok(None) => {}
        Err(status) => log::debug!("node {name}: {status}"),
    }
}

/// Keeps the Node written: at once, at every change, and every five minutes by default.
pub(crate) async fn keep(node: Arc<Node>) {
    let mut failures = 0;
    loop {
        let changed = node.changed.listen();
        let network = node.shared.network.changed();
        let devices = node.shared.devices.changed.listen();
        let in_use = node.shared.csi.in_use_changed.listen();
        match node.write().await {
            Ok(object) => {
                failures = 0;
                node.written(&object);
            }
            Err(status) => {
                failures += 1;
                if failures > 3 {
                    log::warn!("node {}: {status}", node.shared.config.node_name);
                }
                rt::sleep(RETRY.delay(failures)).await;
                continue;
            }
        }
        rt::future::or(
            rt::future::or(rt::future::or(changed, in_use), rt::future::or(devices, network)),
            rt::sleep(node.shared.config.status_report_every),
        )
        .await;
    }
}

/// When the wall clock is set, what carries its time is made anew: heartbeats, and pods' tokens.
pub(crate) async fn follow_clock(node: Arc<Node>) {
    let mut settings = rt::ClockSettings::new();
    loop {
        settings.next().await;
        node.look_again();
        for slot in node.shared.slots.all() {
            slot.post(|inbox| inbox.sources_changed = true);
        }
    }
}

/// Renews the Lease, every ten seconds by default; its absence makes it anew.
pub(crate) async fn renew_lease(node: Arc<Node>) {
    const NAMESPACE: &str = "kube-node-lease";
    let lease_secs = node.shared.config.lease_secs;
    let renew_every = Duration::from_secs(lease_secs.into()) / 4;
    let client = &node.shared.client;
    let name = &node.shared.config.node_name;
    let mut failures = 0;
    let mut clock = rt::ClockSettings::new();
    // The owner must exist first; whether it is Ready is another matter.
    node.registered().await;
    let mut renewed_at = rt::now().mono;
    loop {
        let renew_time = api::time::format_micro(rt::now().wall);
        let patch = json!({"spec": {"renewTime": renew_time, "holderIdentity": name}});
        let patched =
            client.patch(&kinds::LEASE, NAMESPACE, name, "", PatchType::Merge, patch).await;
        let done = match patched {
            Err(status) if status.is_not_found() => {
                let uid = node.shared.node().tree.str("metadata.uid").to_owned();
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"namespace": NAMESPACE, "name": name, "ownerReferences": [
                        {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]},
                    "spec": {"holderIdentity": name, "leaseDurationSeconds": lease_secs,
                        "renewTime": renew_time},
                });
                client.create(&kinds::LEASE, lease).await
            }
            done => done,
        };
        match done {
            Ok(_) => {
                failures = 0;
                let now = rt::now().mono;
                // Nobody heard of this node for so long that it may have been given up: what its Node says now is
                // not what was written.
                if now.since(renewed_at) > renew_every * 2 {
                    node.look_again();
                }
                renewed_at = now;
                rt::future::or(clock.next(), rt::sleep(renew_every)).await;
            }
            Err(status) => {
                failures += 1;
                log::debug!("lease of node {name}: {status}");
                rt::sleep(RETRY.delay(failures).min(renew_every)).await;
            }
        }
    }
}
