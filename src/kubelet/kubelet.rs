//! The kubelet as its owner sees it: start it, wait until it is ready, ask it about its pods.

use std::sync::Arc;

use api::{Status, Value};
use client::Client;
use runtime::{Runtime, Session};
use stdx::Result;
use stdx::time::Wall;

use crate::config::Config;
use crate::network::PodNetwork;

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
pub struct Kubelet {}

/// Opens connections to the ports of one pod.
#[derive(Clone, Debug)]
pub struct PortForwarder {}

impl PortForwarder {
    /// Connects to `localhost:port` inside the pod.
    pub async fn connect(&self, port: u16) -> Result<rt::net::TcpStream> {
        let _ = port;
        Err(stdx::Error::new("not built yet"))
    }
}

impl Kubelet {
    /// Adopts what still runs (from the checkpoints below `agent_directory`, even while the API is
    /// away), then registers the node and starts its pods. `runtime` is open but not recovered yet:
    /// that happens here. Returns at once; see `ready`.
    ///
    /// # Errors
    /// If the directories cannot be made or a listener's address is taken.
    pub async fn start(
        config: Config,
        client: Client,
        runtime: Runtime,
        network: Arc<dyn PodNetwork>,
    ) -> Result<Kubelet> {
        let _ = (config, client, runtime, network);
        Err(stdx::Error::new("not built yet"))
    }

    /// Completes when the Node object was written with Ready true.
    pub async fn ready(&self) {}

    /// Ends all tasks and listeners. Containers run on.
    pub async fn stop(&self) {}

    /// A container's log. An answer that follows ends with the container (or when it is dropped).
    pub async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        options: LogOptions,
    ) -> Result<http::Body, Status> {
        let _ = (namespace, pod, options);
        Err(Status::unavailable("not built yet"))
    }

    /// Starts a command. Everything that can be refused with a status is refused here, before the
    /// caller upgrades its connection; then pump the session (`kubelet::pump`).
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        options: ExecOptions,
    ) -> Result<Session, Status> {
        let _ = (namespace, pod, options);
        Err(Status::unavailable("not built yet"))
    }

    /// The main process's streams; as `exec`.
    pub async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        options: AttachOptions,
    ) -> Result<Session, Status> {
        let _ = (namespace, pod, options);
        Err(Status::unavailable("not built yet"))
    }

    pub fn port_forward(&self, namespace: &str, pod: &str) -> Result<PortForwarder, Status> {
        let _ = (namespace, pod);
        Err(Status::unavailable("not built yet"))
    }

    /// A `v1 PodList` of the pods this node runs.
    pub fn pods(&self) -> Value {
        Value::Null
    }

    /// `stats/v1alpha1 Summary`.
    pub async fn stats_summary(&self) -> Value {
        Value::Null
    }

    /// The Prometheus text of `/metrics`, `/metrics/cadvisor` or `/metrics/resource`.
    pub async fn metrics(&self, path: &str) -> Result<String, Status> {
        let _ = path;
        Err(Status::unavailable("not built yet"))
    }
}
