//! The socket of the Container Runtime Interface: where it is, and how its sandboxes get their network.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use cri::{Attachment, PodNetwork};
use rt::BoxFuture;
use runtime::Runtime;
use stdx::{Context, Result};

use crate::machine::Machine;
use crate::settings::config::Config;

/// Where clients look for it, as k3s has it: only root may connect.
pub(crate) fn socket(config: &Config) -> PathBuf {
    config.run_dir.join(crate::machine::prepare::STATE).join("containerd.sock")
}

/// What the interface is told of this machine.
pub(crate) fn config(machine: &Machine) -> cri::Config {
    let config = &machine.config;
    cri::Config {
        state: config.run_dir.join("cri"),
        images: machine.paths.agent().join("containerd"),
        cgroup_root: format!("/{}", config.cgroup_root()),
        resolv_conf: crate::machine::resolv_conf(config),
        version: stdx::version::VERSION.trim_start_matches('v').to_owned(),
    }
}

/// Opens the socket for the process's life: one descriptor, until a client comes.
///
/// # Errors
/// If it cannot be listened on.
pub(crate) fn open(
    machine: &Machine,
    runtime: Runtime,
    net: net::Net,
) -> Result<http::server::Server> {
    let path = socket(&machine.config);
    let listener = crate::machine::door::listen(&path)?;
    // For a crictl from elsewhere, as k3s writes it.
    let settings = machine.paths.agent().join("etc").join("crictl.yaml");
    let endpoint = format!("runtime-endpoint: unix://{}\n", path.display());
    if let Some(directory) = settings.parent() {
        rt::fs::create_dir_all(directory, 0o700)?;
    }
    rt::fs::keep(&settings, endpoint.as_bytes(), 0o644)?;
    let server = cri::server(config(machine), runtime, Arc::new(Network(net)));
    let serving = server.clone();
    rt::spawn_named("CRI", async move {
        if let Err(error) = serving.serve(http::server::Listener::Unix(listener), None).await {
            log::error!("serve {}: {error}", path.display());
        }
    })
    .detach();
    Ok(server)
}

/// What the network is to be told again of sandboxes that came over the socket, after a start.
pub(crate) async fn recovered(config: cri::Config, runtime: &Runtime) -> Vec<net::PodRequest> {
    let sandboxes = runtime.sandboxes_of(cri::OWNER);
    if sandboxes.is_empty() {
        return Vec::new();
    }
    let attachments = rt::unblock(move || -> Vec<Attachment> {
        sandboxes.iter().filter_map(|sandbox| cri::attachment_of(&config, sandbox)).collect()
    });
    let requests = attachments.await.into_iter().map(request);
    requests
        .filter_map(|request| match request {
            Ok(request) => Some(request),
            Err(error) => {
                log::warn!("CRI: {error}");
                None
            }
        })
        .collect()
}

fn request(attachment: Attachment) -> Result<net::PodRequest> {
    let mut host_ports = Vec::with_capacity(attachment.host_ports.len());
    for port in attachment.host_ports {
        host_ports.push(net::HostPort {
            host_ip: port.host_ip,
            protocol: net::Protocol::from_name(port.protocol)
                .context(|| format!("use host port protocol {:?}", port.protocol))?,
            host_port: port.host_port,
            container_port: port.container_port,
        });
    }
    Ok(net::PodRequest {
        sandbox_id: attachment.id,
        namespace: attachment.namespace,
        name: attachment.name,
        uid: attachment.uid,
        netns: attachment.netns,
        host_ports,
        ..net::PodRequest::default()
    })
}

/// `net` as the interface asks for it.
struct Network(net::Net);

impl PodNetwork for Network {
    fn add(&self, attachment: Attachment) -> BoxFuture<'_, Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(self.0.add_pod(request(attachment)?).await?.addresses) })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.0.remove_pod(id))
    }

    fn addresses(&self, id: &str) -> Vec<IpAddr> {
        self.0.pod_addresses(id)
    }

    fn not_ready(&self) -> Option<String> {
        self.0.not_ready()
    }
}
