//! The kubelet as its owner sees it: start it, wait until it is ready, serve it, stop it.

use std::sync::{Arc, Mutex, PoisonError};

use api::Lens;
use client::{Client, Informers};
use runtime::Runtime;
use stdx::Result;

use crate::config::Config;
use crate::csi::Csi;
use crate::devices::Devices;
use crate::events::Recorder;
use crate::figures::Figures;
use crate::images::Puller;
use crate::network::PodNetwork;
use crate::node::Node;
use crate::refs::Refs;
use crate::serve::server;
use crate::shared::{Shared, Slots};
use crate::static_url::StaticUrl;
use crate::{
    capacity, cpu_rounds, cpus, drivers, evict, manager, node, plugins, static_pods,
    static_url_rounds, upkeep,
};
use podplan::Pod;

/// The kubelet of this node. Cheap to clone; it runs until `stop`, or until the last clone is gone.
#[derive(Clone, Debug)]
pub struct Kubelet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    node: Arc<Node>,
    /// `None` where it serves nobody.
    port: Option<server::Port>,
    tasks: Mutex<Vec<rt::Task<Option<()>>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        end(&self.shared, &self.tasks);
    }
}

fn end(shared: &Shared, tasks: &Mutex<Vec<rt::Task<Option<()>>>>) {
    tasks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    for slot in shared.slots.all() {
        drop(slot.task.lock().unwrap_or_else(PoisonError::into_inner).take());
        shared.slots.remove(&slot.uid);
    }
}

impl Kubelet {
    /// Adopts what still runs (from the checkpoints below `agent_directory`, even while the API is
    /// away), then registers the node and starts its pods. `runtime` is open but not recovered yet:
    /// that happens here. Returns once that is under way; see `ready`.
    ///
    /// # Errors
    /// If the directories cannot be made, containers cannot be recovered, or a listener's address
    /// is taken.
    pub async fn start(
        config: Config,
        client: Client,
        runtime: Runtime,
        network: Arc<dyn PodNetwork>,
    ) -> Result<Kubelet> {
        let (pods, volatile) =
            (config.agent_directory.join("pods"), config.volatile_directory.clone());
        let (root, agent) = (config.root_directory.clone(), config.agent_directory.clone());
        let devices = rt::unblock(move || -> Result<Devices> {
            rt::fs::create_dir_all(&pods, 0o750)?;
            rt::fs::create_dir_all(&volatile, 0o750)?;
            Ok(Devices::open(&root, &agent))
        })
        .await?;
        let of_cpus = config.clone();
        let cpus = rt::unblock(move || cpus::open(&of_cpus)).await?;
        let (recorder, recording) = Recorder::start(client.clone(), &config.node_name);
        let slots = Slots::default();
        let wake = slots.clone();
        let refs = Refs::new(client.clone(), move |uid| {
            wake.wake(uid, |inbox| inbox.sources_changed = true);
        });
        let figures = Arc::<Figures>::default();
        let root = config.root_directory.clone();
        let csi = Arc::new(rt::unblock(move || Csi::open(&root)).await);
        let puller =
            Puller::new(runtime.clone(), recorder.clone(), (&config, Arc::clone(&figures)));
        let static_url = (!config.static_url.url.is_empty()).then(StaticUrl::default);
        let shared = Arc::new(Shared {
            puller,
            informers: Informers::new(client.clone()),
            node: Mutex::default(),
            node_ips: Mutex::new(config.node_ips.clone()),
            config,
            client,
            runtime,
            network,
            recorder,
            refs,
            slots,
            devices: Arc::new(devices),
            cpus,
            static_url,
            csi,
            figures,
            admission: Mutex::default(),
        });
        let node = Arc::new(Node::new(Arc::clone(&shared)).await);
        let mut tasks = vec![recording];
        let (listening, port) = server::start(&shared, &node).await?;
        tasks.extend(listening);

        let events = shared.runtime.events();
        manager::adopt(&shared).await?;
        capacity::make_cgroups(&shared).await;
        tasks.push(rt::spawn_named("runtime events", manager::relay(Arc::clone(&shared), events)));
        // Before anyone looks for directories that belong to no pod.
        static_pods::load(&shared).await;
        manager::follow(&shared);
        tasks.push(rt::spawn_named("node status", node::keep(Arc::clone(&node))));
        tasks.push(rt::spawn_named("node lease", node::renew_lease(Arc::clone(&node))));
        let reconcile = manager::reconcile_with_api(Arc::clone(&shared));
        tasks.push(rt::spawn_named("pods at start", reconcile));
        tasks.push(rt::spawn_named("static pods", static_pods::run(Arc::clone(&shared))));
        if shared.static_url.is_some() {
            let asking = static_url_rounds::run(Arc::clone(&shared));
            tasks.push(rt::spawn_named("static pods of a URL", asking));
        }
        tasks.push(rt::spawn_named("clock", node::follow_clock(Arc::clone(&node))));
        tasks.push(rt::spawn_named("device plugins", plugins::run(Arc::clone(&shared))));
        if shared.cpus.is_some() {
            tasks.push(rt::spawn_named("cpus", cpu_rounds::run(Arc::clone(&shared))));
        }
        tasks.push(rt::spawn_named("upkeep", upkeep::run(Arc::clone(&shared))));
        tasks.push(rt::spawn_named("storage drivers", drivers::run(Arc::clone(&shared))));
        tasks.push(rt::spawn_named("eviction", evict::run(Arc::clone(&node))));
        tasks
            .push(rt::spawn_named("local paths", upkeep::release_local_paths(Arc::clone(&shared))));
        Ok(Kubelet { inner: Arc::new(Inner { shared, node, port, tasks: Mutex::new(tasks) }) })
    }

    /// The kubelet's HTTP API (`/exec/...`, `/containerLogs/...`, `/stats/summary`, ...) for a caller
    /// in this process that has authorized its requests: the API server's door to this node.
    pub fn service(&self) -> Arc<dyn http::server::Service> {
        server::trusted(&self.inner.shared, &self.inner.node)
    }

    /// Serves a connection that came to the kubelet's port by another way, through a tunnel say, from
    /// its TLS handshake to its end.
    pub async fn serve(&self, io: http::io::Io) {
        if let Some(port) = &self.inner.port {
            port.serve(io).await;
        }
    }

    /// Completes when the Node object was written with Ready true.
    pub async fn ready(&self) {
        self.inner.node.ready().await;
    }

    /// The node has other addresses now: its status follows, and pods on its network.
    pub fn set_node_ips(&self, ips: Vec<std::net::IpAddr>) {
        let shared = &self.inner.shared;
        *shared.node_ips.lock().unwrap_or_else(PoisonError::into_inner) = ips;
        self.inner.node.look_again();
        for slot in shared.slots.all() {
            slot.post(|inbox| inbox.poke = true);
        }
    }

    /// Ends all tasks and listeners. Containers run on.
    pub async fn stop(&self) {
        end(&self.inner.shared, &self.inner.tasks);
    }

    /// Whether a pod of this node is at an address and port: any port of an address of its own, and of the host's those
    /// that a pod on the host's network names.
    pub fn has_pod_at(&self, address: std::net::IpAddr, port: u16) -> bool {
        let shared = &self.inner.shared;
        let names = |pod: &Pod| {
            let tree = pod.object.tree();
            let containers = tree.list("spec.containers").iter();
            let mut ports = containers.flat_map(|container| container.list("ports"));
            ports.any(|it| {
                it.int("containerPort") == Some(port.into())
                    && matches!(it.str("protocol"), "" | "TCP")
            })
        };
        shared.slots.all().iter().map(|slot| slot.snapshot()).any(|snapshot| {
            let Some(pod) = snapshot.pod.as_ref().filter(|_| !snapshot.released) else {
                return false;
            };
            if !snapshot.pod_ips.contains(&address) {
                return false;
            }
            !pod.host_network || names(pod)
        })
    }
}
