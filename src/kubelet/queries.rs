//! What is asked about a pod of this node: its log, a command in it, its streams, its ports.

use std::sync::Arc;

use api::{Lens, LensMut, Status, Value, json, kinds};
use runtime::{ContainerState, ContainerStatus, ExecSpec, Session};

use crate::logs::{self, LogOptions};
use crate::shared::{ContainerIds, Shared, Slot, Snapshot};
use podplan::{Pod, Role};
use runtime::streaming::PortForwarder;

/// A command to run in a container (`PodExecOptions`).
#[derive(Clone, Debug, Default)]
pub(crate) struct ExecOptions {
    pub(crate) container: String,
    pub(crate) command: Vec<String>,
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
}

/// Which container's streams are wanted (`PodAttachOptions`).
#[derive(Clone, Debug, Default)]
pub(crate) struct AttachOptions {
    pub(crate) container: String,
    pub(crate) stdin: bool,
}

/// Answers questions about the pods. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Queries {
    shared: Arc<Shared>,
}

impl Queries {
    pub(crate) fn new(shared: &Arc<Shared>) -> Queries {
        Queries { shared: Arc::clone(shared) }
    }

    /// A container's log. An answer that follows ends with the container (or when it is dropped).
    pub(crate) async fn logs(
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
        let shared = &self.shared;
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
    /// caller upgrades its connection; then carry the session with [`runtime::streaming::carry`].
    pub(crate) async fn exec(
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
        self.shared.runtime.exec(&status.id, spec).await.map_err(Status::internal)
    }

    /// The main process's streams; as `exec`.
    pub(crate) async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        options: AttachOptions,
    ) -> Result<Session, Status> {
        let status = self.running(namespace, pod, &options.container)?;
        self.shared.runtime.attach(&status.id, options.stdin).await.map_err(Status::internal)
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
        let runtime = &self.shared.runtime;
        let output = runtime
            .exec_sync(&status.id, spec, RUN_MAX, OUTPUT_MAX_BYTES)
            .await
            .map_err(Status::internal)?;
        Ok([output.stdout, output.stderr].concat())
    }

    /// What connects to the pod's ports; `run` it over a client's streams.
    pub(crate) fn port_forward(&self, namespace: &str, pod: &str) -> Result<PortForwarder, Status> {
        let found = self.find(namespace, pod)?;
        let shared = &self.shared;
        let sandbox = found.snapshot.sandbox.as_deref().and_then(|id| shared.runtime.sandbox(id));
        let Some(sandbox) = sandbox.filter(|sandbox| sandbox.state == runtime::SandboxState::Ready)
        else {
            return Err(Status::bad_request(format!(
                "unable to forward port because pod is not running. Current status={}",
                found.snapshot.status.tree().str("phase")
            )));
        };
        Ok(PortForwarder::new(&sandbox))
    }

    fn find(&self, namespace: &str, name: &str) -> Result<Found, Status> {
        let slot = self.shared.slots.find(namespace, name);
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
        id.and_then(|id| self.shared.runtime.container(&id))
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
