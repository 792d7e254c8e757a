//! A kubelet that decides as the product's does (`podplan`) over a machine that is made up (`machine`).
//!
//! What it knows ends with a crash; then it begins anew from what the machine has and what it had written down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use api::controller::Cache;
use api::kinds::{LEASE, NODE, PERSISTENT_VOLUME, POD};
use api::{Lens, Object, Status, Value, json};
use client::{Client, DeleteOptions, Informers, Interest, PatchType};
use podplan::{
    Addresses, Admission, Done, NodeView, Pod, Request, Sandbox, State, Volumes, admit, covers,
    generate_status, status_patch, step, terminating,
};
use stdx::prng::Prng;
use stdx::time::Mono;

use crate::controllers;
use crate::door::Door;
use crate::lock;
use crate::machine::{Machine, Work};
use crate::world::World;

/// How often it renews its Lease, and looks around if nothing else happens.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// And how often while there are faults, so that containers may end by themselves.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Steps without a pause: more ask for the same again and again.
const STEPS_MAX: usize = 20;

/// What the local-path provisioner's volumes wait for.
const VOLUME_FINALIZER: &str = "k3rs.io/local-path";

/// One node.
pub(crate) struct Node {
    world: Arc<World>,
    name: String,
    number: u64,
    prng: Prng,
    machine: Machine,
    /// What the kubelet knows of its pods, by uid.
    workers: BTreeMap<String, Worker>,
    /// Pods that it has removed, until the API's news say so, too.
    finished: BTreeSet<String>,
}

struct Worker {
    pod: Pod,
    state: State,
    works: Vec<Work>,
    admitted: bool,
    /// Everything is stopped: what is left of the pod is to be removed.
    finishing: bool,
    /// When to look again.
    wake: Option<Mono>,
    /// Something has happened since it was last looked at.
    is_new: bool,
    /// The version that our last write of the status made.
    written: u64,
}

/// Runs a node for ever.
pub(crate) async fn run(world: Arc<World>, number: u64, seed: u64) {
    let name = format!("node-{number}");
    let prng = Prng::new(seed ^ (number << 40));
    let machine = Machine::new(&world, &name, number, seed);
    let (workers, finished) = (BTreeMap::new(), BTreeSet::new());
    let mut node = Node { world, name, number, prng, machine, workers, finished };
    loop {
        node.live().await;
        node.crash();
        let seeking = node.world.seeks();
        node.sleep_up_to(5000).await;
        drop(seeking);
    }
}

impl Node {
    /// One life of the kubelet, until it crashes.
    async fn live(&mut self) {
        let seeking = self.world.seeks();
        let door = Door::new(&self.world, format!("kubelet {}", self.name));
        let client = Client::new(Arc::new(door));
        let informers = Informers::new(client.clone());
        while let Err(status) = self.register(&client).await {
            log::debug!("register {}: {status}", self.name);
            self.sleep_up_to(3000).await;
        }
        let field_selector = format!("spec.nodeName={}", self.name);
        informers.want(Interest { kind: &POD, field_selector });
        let field_selector = format!("metadata.name={}", self.name);
        informers.want(Interest { kind: &NODE, field_selector });
        informers.synced(&[&POD, &NODE]).await;
        drop(seeking);
        self.adopt(&informers);
        let mut beat_at = rt::now().mono;
        loop {
            let changed = informers.change();
            self.hear(&informers);
            let seeking = self.world.seeks();
            self.work(&client, &informers).await;
            let now = rt::now().mono;
            if now >= beat_at && self.beat(&client).await.is_ok() {
                beat_at = now + BEAT_EVERY;
            }
            self.clear_volumes().await;
            drop(seeking);
            if self.world.faults.chance(1) {
                return;
            }
            let _ = rt::timeout(self.rest(), changed).await;
        }
    }

    /// The kubelet is gone, and sometimes the whole machine with it.
    fn crash(&mut self) {
        let (now, name) = (rt::now(), &self.name);
        self.world.tell(|| format!("kubelet {name} crashes"));
        for (_, worker) in std::mem::take(&mut self.workers) {
            for work in &worker.works {
                self.machine.abandon(now, &worker.pod, work);
            }
        }
        if self.prng.chance(50) {
            let name = &self.name;
            self.world.tell(|| format!("machine {name} is reset"));
            self.machine.cut_power();
        }
    }

    async fn sleep_up_to(&mut self, max_ms: u64) {
        rt::sleep(Duration::from_millis(self.prng.below(max_ms))).await;
    }

    /// How long nothing is due.
    fn rest(&self) -> Duration {
        let now = rt::now().mono;
        let busy = self.world.faults.on() && !self.workers.is_empty();
        let most = now + if busy { LOOK_EVERY } else { BEAT_EVERY };
        let works = self.workers.values().flat_map(|worker| worker.works.iter().map(|w| w.due));
        let wakes = self.workers.values().filter_map(|worker| worker.wake);
        let due = works.chain(wakes).chain(self.machine.due()).fold(most, Mono::min);
        // Never at once: what could be done at once was done.
        due.since(now).max(Duration::from_millis(1))
    }

    /// Takes over what outlived the last kubelet, from what it had written down.
    fn adopt(&mut self, informers: &Informers) {
        let now = rt::now().wall;
        let known = informers.list(&POD, None);
        for (uid, vessel) in self.machine.pods() {
            let newest = known.iter().find(|object| object.uid() == uid);
            let Some(object) = newest.or(vessel.object.as_ref()) else { continue };
            let mut worker = Worker::new(object);
            worker.state.recall(&vessel.records, now);
            worker.state.sandbox_attempt = vessel.n_sandboxes;
            worker.state.gone = newest.is_none();
            match &vessel.sandbox {
                Some((id, ip)) => {
                    let ips = vec![*ip];
                    worker.state.sandbox = Sandbox::Ready { id: id.clone(), ips };
                    worker.admitted = true;
                    if vessel.has_volumes {
                        worker.state.volumes = Volumes::Ready;
                    }
                }
                None if vessel.n_sandboxes > 0 => {
                    let id = format!("{uid}-{}", vessel.n_sandboxes - 1);
                    worker.state.sandbox = Sandbox::Lost { id };
                }
                None => {}
            }
            self.workers.insert(uid.clone(), worker);
        }
    }

    /// What the API says of the pods by now.
    fn hear(&mut self, informers: &Informers) {
        let view: BTreeMap<String, Object> =
            informers.list(&POD, None).into_iter().map(|p| (p.uid().to_owned(), p)).collect();
        self.finished.retain(|uid| view.contains_key(uid));
        for (uid, worker) in &mut self.workers {
            // Removed by force: nobody wants it any more.
            if !view.contains_key(uid) && !worker.state.gone {
                worker.state.gone = true;
                worker.is_new = true;
            }
        }
        for (uid, object) in view {
            match self.workers.get_mut(&uid) {
                Some(worker) if worker.pod.object.revision() == object.revision() => continue,
                Some(worker) => {
                    worker.pod = Pod::read(&object);
                    worker.is_new = true;
                }
                None if self.finished.contains(&uid) => continue,
                None => drop(self.workers.insert(uid.clone(), Worker::new(&object))),
            }
            self.machine.pod(&uid).object = Some(object);
        }
        for uid in self.machine.live(rt::now()) {
            if let Some(worker) = self.workers.get_mut(&uid) {
                worker.is_new = true;
            }
        }
    }

    /// Looks at each pod of which there are news, or for which it is time.
    async fn work(&mut self, client: &Client, informers: &Informers) {
        let uids: Vec<String> = self.workers.keys().cloned().collect();
        for uid in uids {
            let now = rt::now();
            let Some(worker) = self.workers.get(&uid) else { continue };
            let due = worker.works.iter().map(|work| work.due).chain(worker.wake).min();
            if !worker.is_new && due.is_none_or(|due| due > now.mono) {
                continue;
            }
            self.find_place(client, informers, &uid).await;
            let Some(worker) = self.workers.get_mut(&uid) else { continue };
            worker.turn(&mut self.machine, &self.world);
            if let Err(status) = worker.tell(client, informers, self.number).await {
                log::debug!("{}: {:?}: {status}", self.name, worker.pod.object);
                let again = rt::now().mono + LOOK_EVERY;
                worker.wake = Some(worker.wake.map_or(again, |wake| wake.min(again)));
            }
            if worker.finishing {
                worker.finish(client).await;
                worker.is_new = true;
            }
            if worker.state.finished {
                self.workers.remove(&uid);
                self.machine.forget(&uid);
                self.finished.insert(uid);
            }
        }
    }

    /// Whether the node has room for a pod that is new here.
    async fn find_place(&mut self, client: &Client, informers: &Informers, uid: &str) {
        let Some(worker) = self.workers.get(uid).filter(|worker| !worker.admitted) else { return };
        if worker.state.settled || terminating(&worker.pod, &worker.state) {
            return;
        }
        let (tree, mut verdict) = (worker.pod.object.tree(), None);
        if let Some(node) = informers.get(&NODE, "", &self.name) {
            verdict = Some(admit(&tree, &self.view(node.tree(), uid)));
        }
        if !matches!(verdict, Some(Admission::Taken | Admission::Waits(_))) {
            // The view of the node may be behind what the scheduler saw.
            if let Ok(node) = client.get(&NODE, "", &self.name).await {
                verdict = Some(admit(&tree, &self.view(node.tree(), uid)));
            }
        }
        let Some(worker) = self.workers.get_mut(uid) else { return };
        worker.admitted = matches!(verdict, Some(Admission::Taken | Admission::Refused(_)));
        worker.state.held = !worker.admitted;
        worker.state.start_time.get_or_insert(rt::now().wall);
        match verdict {
            Some(Admission::Refused(told)) => worker.state.failed = Some(told),
            Some(Admission::Taken) => {}
            _ => worker.wake = Some(rt::now().mono + LOOK_EVERY),
        }
    }

    fn view(&self, node: Value, uid: &str) -> NodeView {
        let (mut pods, mut leaving) = (Vec::new(), Vec::new());
        for (_, other) in self.workers.iter().filter(|(own, other)| *own != uid && other.admitted) {
            let leaves = terminating(&other.pod, &other.state);
            let list = if leaves { &mut leaving } else { &mut pods };
            list.push(other.pod.share.clone());
        }
        NodeView { node, node_name: self.name.clone(), pods, leaving }
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
}

impl Worker {
    fn new(object: &Object) -> Worker {
        let pod = Pod::read(object);
        let state = State::new(&pod, &object.tree(), rt::now().wall);
        Worker {
            pod,
            state,
            works: Vec::new(),
            admitted: false,
            finishing: false,
            wake: None,
            is_new: true,
            written: 0,
        }
    }

    /// Takes in what has happened on the machine, and has done what is to be done next.
    fn turn(&mut self, machine: &mut Machine, world: &World) {
        self.is_new = false;
        self.wake = None;
        self.observe(machine);
        let now = rt::now();
        for work in std::mem::take(&mut self.works) {
            if work.due > now.mono {
                self.works.push(work);
                continue;
            }
            match machine.end(now, &self.pod, &work) {
                Ok(done) => {
                    // What a kill left behind is seen before it is called done.
                    self.observe(machine);
                    self.state.done(now, &self.pod, done);
                    self.observe(machine);
                }
                Err(due) => self.works.push(work.again(due)),
            }
        }
        for _ in 0..STEPS_MAX {
            let next = step(now, &self.pod, &self.state);
            if next.requests.is_empty() {
                let again = next.wake.map(|wait| now.mono + wait);
                self.wake = self.wake.into_iter().chain(again).min();
                return;
            }
            for request in next.requests {
                self.state.began(now, &request);
                match &request {
                    Request::CancelStart => self.works.retain(|work| !work.starts()),
                    Request::Finish => self.finishing = true,
                    _ => {}
                }
                self.works.extend(machine.begin(now, &self.pod, request));
            }
        }
        world.fail(&format!("the kubelet asks for more and more of {:?}", self.pod.object));
    }

    fn observe(&mut self, machine: &mut Machine) {
        let now = rt::now();
        let seen: Vec<_> =
            machine.pod(&self.pod.uid).seen().map(|(n, s)| (n.clone(), s.clone())).collect();
        let names: Vec<String> = self.state.containers.keys().cloned().collect();
        let is_gone = |name: &String| !seen.iter().any(|(own, _)| own == name);
        for name in names.iter().filter(|name| is_gone(name)) {
            self.state.vanished(now, name);
        }
        for (name, seen) in seen {
            if let Some(container) = self.pod.container(&name) {
                let container = container.clone();
                self.state.observe(now, &container, seen);
            }
        }
    }

    fn status(&self, tree: &Value, number: u64) -> Value {
        let last = u8::try_from(10 + number).unwrap_or(0);
        let host_ips = vec![IpAddr::from(Ipv4Addr::new(192, 168, 0, last))];
        generate_status(rt::now().wall, &self.pod, tree, &self.state, &Addresses { host_ips })
    }

    /// Tells the API what it does not show yet.
    async fn tell(
        &mut self,
        client: &Client,
        informers: &Informers,
        number: u64,
    ) -> Result<(), Status> {
        let replacing = self.state.replacing() && !terminating(&self.pod, &self.state);
        if self.state.settled || self.state.gone || replacing {
            return Ok(());
        }
        let (namespace, name) = (&self.pod.namespace, &self.pod.name);
        let object = informers.get(&POD, namespace, name).filter(|o| o.uid() == self.pod.uid);
        let Some(object) = object.filter(|object| object.revision() >= self.written) else {
            return Ok(());
        };
        self.state.start_time.get_or_insert(rt::now().wall);
        let tree = object.tree();
        let status = self.status(&tree, number);
        if covers(tree.at("status"), &status) {
            return Ok(());
        }
        let patch = status_patch(&object, &status);
        match client.patch(&POD, namespace, name, "status", PatchType::Merge, patch).await {
            Ok(now) => self.written = now.revision(),
            // The news of the newer one, or of its end, come.
            Err(status) if status.is_conflict() || status.is_not_found() => {}
            Err(status) => return Err(status),
        }
        Ok(())
    }

    /// Removes a pod of which nothing runs any more from the API.
    async fn finish(&mut self, client: &Client) {
        self.finishing = false;
        let mut done = Done::Finished;
        if !self.state.gone {
            let uid = Some(self.pod.uid.clone());
            let options = DeleteOptions { grace_secs: Some(0), uid, ..DeleteOptions::default() };
            let (namespace, name) = (&self.pod.namespace, &self.pod.name);
            match client.delete(&POD, namespace, name, options).await {
                Err(status) if !status.is_not_found() && !status.is_conflict() => {
                    log::debug!("{:?}: {status}", self.pod.object);
                    done = Done::FinishFailed;
                }
                _ => {}
            }
        }
        self.state.done(rt::now(), &self.pod, done);
    }
}
