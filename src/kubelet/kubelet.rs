//! The kubelet as its owner sees it: start it, wait until it is ready, ask it about its pods.

use std::sync::{Arc, Mutex, PoisonError};

use api::{Lens, LensMut, Status, Value, json, kinds};
use client::{Client, Informers};
use runtime::{ContainerState, ContainerStatus, ExecSpec, Runtime, Session};
use stdx::Result;
use stdx::time::Wall;

use crate::config::Config;
use crate::events::Recorder;
use crate::figures::Figures;
use crate::images::Puller;
use crate::network::PodNetwork;
use crate::node::Node;
use crate::pod::{Pod, Role};
use crate::refs::Refs;
use crate::serve::{logs, metrics, server, stats};
use crate::shared::{ContainerIds, Shared, Slot, Slots, Snapshot};
use crate::{PortForwarder, evict, manager, node, static_pods, upkeep};

/// What of a container's log is wanted (`PodLogOptions`).
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// May be empty where the pod has one container.
    pub container: String,
    pub follow: bool,
    pub previous: bool,
    pub since_secs: Option<i64>,
    pub since_time: Option<Wall>,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
}

/// A command to run in a container (`PodExecOptions`).
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    pub container: String,
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Which container's streams are wanted (`PodAttachOptions`).
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    pub container: String,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// The kubelet of this node. Cheap to clone; it runs until `stop`, or until the last clone is gone.
#[derive(Clone, Debug)]
pub struct Kubelet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    node: Arc<Node>,
    /// `None` in views of the kubelet, and where it serves nobody.
    port: Option<server::Port>,
    tasks: Mutex<Vec<rt::Task<Option<()>>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The HTTP face's view of the kubelet has no tasks: its end is nobody else's.
        let owner = !self.tasks.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if owner {
            end(&self.shared, &self.tasks);
        }
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
        rt::unblock(move || {
            rt::fs::create_dir_all(&pods, 0o750)?;
            rt::fs::create_dir_all(&volatile, 0o750)
        })
        .await?;
        let (recorder, recording) = Recorder::start(client.clone(), &config.node_name);
        let slots = Slots::default();
        let wake = slots.clone();
        let refs = Refs::new(client.clone(), move |uid| {
            wake.wake(uid, |inbox| inbox.sources_changed = true);
        });
        let figures = Arc::<Figures>::default();
        let pulls = (config.pulls_max, Arc::clone(&figures));
        let shared = Arc::new(Shared {
            puller: Puller::new(runtime.clone(), recorder.clone(), pulls),
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
            figures,
            admission: Mutex::default(),
        });
        let node = Arc::new(Node::new(Arc::clone(&shared)).await);
        let mut tasks = vec![recording];
        let (listening, port) = server::start(&shared, &node).await?;
        tasks.extend(listening);

        let events = shared.runtime.events();
        manager::adopt(&shared).await?;
        manager::make_cgroups(&shared).await;
        tasks.push(rt::spawn_named("runtime events", manager::relay(Arc::clone(&shared), events)));
        // Before anyone looks for directories that belong to no pod.
        static_pods::load(&shared).await;
        manager::follow(&shared);
        tasks.push(rt::spawn_named("node status", node::keep(Arc::clone(&node))));
        tasks.push(rt::spawn_named("node lease", node::renew_lease(Arc::clone(&node))));
        let reconcile = manager::reconcile_with_api(Arc::clone(&shared));
        tasks.push(rt::spawn_named("pods at start", reconcile));
        tasks.push(rt::spawn_named("static pods", static_pods::run(Arc::clone(&shared))));
        tasks.push(rt::spawn_named("clock", node::follow_clock(Arc::clone(&node))));
        tasks.push(rt::spawn_named("upkeep", upkeep::run(Arc::clone(&shared))));
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

    /// A container's log. An answer that follows ends with the container (or when it is dropped).
    pub async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        options: LogOptions,
    ) -> Result<http::Body, Status> {
        let found = self.find(namespace, pod)?;
        let container = found.choose(&options.container)?;
        let default = ContainerIds::default();
        let ids = found.snapshot.containers.get(&container).unwrap_or(&default);
        let long = format!("container \"{container}\" in pod \"{pod}\"");
        let (id, attempt) = match options.previous {
            true => match &ids.previous {
                Some(id) => (id.clone(), ids.attempt.checked_sub(1)),
                None => {
                    return Err(Status::bad_request(format!(
                        "previous terminated {long} not found"
                    )));
                }
            },
            false => match &ids.current {
                Some(id) => (id.clone(), Some(ids.attempt)),
                // Its last run, where it waits to run again.
                None if ids.previous.is_some() => {
                    (ids.previous.clone().unwrap_or_default(), Some(ids.attempt))
                }
                None => {
                    let reason = found.waiting_reason(&container);
                    return Err(Status::bad_request(format!(
                        "{long} is waiting to start: {reason}"
                    )));
                }
            },
        };
        let shared = &self.inner.shared;
        let path = match shared.runtime.container(&id).and_then(|status| status.log_path) {
            Some(path) => path,
            // The container is gone from the runtime, its log may not be.
            None => {
                let uid = &found.slot.uid;
                let directory = shared.config.pod_log_directory(namespace, pod, uid);
                directory.join(crate::make::container::log_file(&container, attempt.unwrap_or(0)))
            }
        };
        let (sender, body) = http::Body::channel(logs::BUFFERED_MAX_BYTES);
        let reading = logs::Reading { path, container_id: id, options };
        rt::spawn_named(
            format!("log of {namespace}/{pod}"),
            logs::send(shared.runtime.clone(), reading, sender),
        )
        .detach();
        Ok(body)
    }

    /// Starts a command. Everything that can be refused with a status is refused here, before the
    /// caller upgrades its connection; then carry the session with [`crate::pump`].
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        options: ExecOptions,
    ) -> Result<Session, Status> {
        if options.command.is_empty() {
            return Err(Status::bad_request(
                "you must specify at least 1 command for the container",
            ));
        }
        let status = self.running(namespace, pod, &options.container)?;
        let spec = ExecSpec {
            args: options.command,
            tty: options.tty,
            stdin: options.stdin,
            ..ExecSpec::default()
        };
        self.inner.shared.runtime.exec(&status.id, spec).await.map_err(Status::internal)
    }

    /// The main process's streams; as `exec`.
    pub async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        options: AttachOptions,
    ) -> Result<Session, Status> {
        let status = self.running(namespace, pod, &options.container)?;
        let session = self.inner.shared.runtime.attach(&status.id).await;
        let mut session = session.map_err(Status::internal)?;
        // As containerd: input that is given once ends the container's, and the client sees how that
        // goes on; else the client has said what it had to say.
        let found = self.find(namespace, pod)?;
        let tree = found.snapshot.pod.as_ref().map(|pod| pod.object.tree()).unwrap_or_default();
        let container = ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"]
            .into_iter()
            .flat_map(|list| tree.list(list))
            .find(|container| container.str("name") == status.name);
        let once = container.is_some_and(|c| c.flag("stdinOnce") && !c.flag("tty"));
        session.ends_with_input = options.stdin && !once;
        Ok(session)
    }

    /// Runs a command to its end and answers its output (`/run`).
    pub(crate) async fn run_command(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        command: Vec<String>,
    ) -> Result<Vec<u8>, Status> {
        const RUN_MAX: std::time::Duration = std::time::Duration::from_secs(60);
        const OUTPUT_MAX_BYTES: usize = 1 << 20;
        let status = self.running(namespace, pod, container)?;
        let spec = ExecSpec { args: command, ..ExecSpec::default() };
        let runtime = &self.inner.shared.runtime;
        let output = runtime
            .exec_sync(&status.id, spec, RUN_MAX, OUTPUT_MAX_BYTES)
            .await
            .map_err(Status::internal)?;
        Ok([output.stdout, output.stderr].concat())
    }

    /// What connects to the pod's ports; `run` it over a client's streams.
    pub fn port_forward(&self, namespace: &str, pod: &str) -> Result<PortForwarder, Status> {
        let found = self.find(namespace, pod)?;
        let shared = &self.inner.shared;
        let sandbox = found.snapshot.sandbox.as_deref().and_then(|id| shared.runtime.sandbox(id));
        let Some(sandbox) = sandbox.filter(|sandbox| sandbox.state == runtime::SandboxState::Ready)
        else {
            return Err(Status::bad_request(format!(
                "unable to forward port because pod is not running. Current status={}",
                found.snapshot.status.tree().str("phase")
            )));
        };
        let netns = sandbox
            .netns
            .clone()
            .unwrap_or_else(|| format!("/proc/{}/ns/net", sandbox.shim_pid).into());
        Ok(PortForwarder {
            netns: (!sandbox.host_network).then_some(netns),
            pod: format!("{namespace}/{pod}"),
        })
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

    /// A `v1 PodList` of the pods this node runs.
    pub fn pods(&self) -> Value {
        pod_list(&self.inner.shared, |_| true)
    }

    /// `stats/v1alpha1 Summary`.
    pub async fn stats_summary(&self) -> Value {
        stats::summary(&self.inner.shared, &self.inner.node).await
    }

    /// The Prometheus text of `/metrics`, `/metrics/cadvisor` or `/metrics/resource`.
    pub async fn metrics(&self, path: &str) -> Result<String, Status> {
        metrics::text(&self.inner.shared, &self.inner.node, path).await
    }

    pub(crate) fn of(shared: &Arc<Shared>, node: &Arc<Node>) -> Kubelet {
        // For the HTTP face, whose task belongs to the kubelet that started it: this one owns none.
        Kubelet {
            inner: Arc::new(Inner {
                port: None,
                shared: Arc::clone(shared),
                node: Arc::clone(node),
                tasks: Mutex::default(),
            }),
        }
    }

    fn find(&self, namespace: &str, name: &str) -> Result<Found, Status> {
        let slot = self.inner.shared.slots.find(namespace, name);
        let slot = slot.ok_or_else(|| Status::not_found(&kinds::POD, name))?;
        let snapshot = slot.snapshot();
        let pod = snapshot.pod.clone().ok_or_else(|| Status::not_found(&kinds::POD, name))?;
        Ok(Found { slot, snapshot, pod })
    }

    fn running(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<ContainerStatus, Status> {
        let found = self.find(namespace, pod)?;
        let name = found.choose(container)?;
        let id = found.snapshot.containers.get(&name).and_then(|ids| ids.current.clone());
        id.and_then(|id| self.inner.shared.runtime.container(&id))
            .filter(|status| status.state == ContainerState::Running)
            .ok_or_else(|| {
                Status::bad_request(format!(
                    "container {name} of pod {namespace}/{pod} is not running"
                ))
            })
    }
}

/// A pod that was asked about.
struct Found {
    slot: Arc<Slot>,
    snapshot: Snapshot,
    pod: Arc<Pod>,
}

impl Found {
    /// The named container, or the only one there is.
    fn choose(&self, name: &str) -> Result<String, Status> {
        if !name.is_empty() {
            return match self.pod.container(name) {
                Some(container) => Ok(container.name.clone()),
                None => Err(Status::bad_request(format!(
                    "container {name} is not valid for pod {}",
                    self.pod.name
                ))),
            };
        }
        let apps: Vec<&str> = self.pod.of_role(Role::App).map(|c| &*c.name).collect();
        match apps.as_slice() {
            [only] => Ok((*only).to_owned()),
            _ => Err(Status::bad_request(format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                self.pod.name,
                apps.join(" ")
            ))),
        }
    }

    fn waiting_reason(&self, container: &str) -> String {
        let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
        let tree = self.snapshot.status.tree();
        let status = lists
            .iter()
            .flat_map(|list| tree.list(list))
            .find(|status| status.str("name") == container);
        match status.map(|status| status.str("state.waiting.reason")) {
            None | Some("") => "ContainerCreating".to_owned(),
            Some("ErrImagePull" | "ImagePullBackOff") => {
                "trying and failing to pull image".to_owned()
            }
            Some(reason) => reason.to_owned(),
        }
    }
}

/// The pods whose snapshot passes, as the API would list them.
pub(crate) fn pod_list(shared: &Shared, wanted: impl Fn(&Snapshot) -> bool) -> Value {
    let items: Vec<Value> = shared
        .slots
        .all()
        .iter()
        .map(|slot| slot.snapshot())
        .filter(|snapshot| wanted(snapshot))
        .filter_map(|snapshot| {
            let mut tree = snapshot.pod.as_ref()?.object.tree();
            let status = snapshot.status.tree();
            if status.is_object() {
                tree.set("status", status);
            }
            Some(tree)
        })
        .collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}
