//! Wires this machine's node together: network, runtime, kubelet.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use client::Informers;
use cluster::Pki;
use kubelet::{Kubelet, PodNetwork, SandboxNetwork};
use rt::BoxFuture;
use runtime::Runtime;
use server::{Server, User};
use stdx::{Context, Result};

use crate::config::Config;
use crate::follow::Shown;
use crate::server::Machine;

/// The kubelet's ports, on which nothing else of the cluster may answer.
const KUBELET_PORT: u16 = 10250;
const KUBELET_HEALTH_PORT: u16 = 10248;

/// `net` as the kubelet asks for it.
pub(crate) struct NodeNetwork(pub(crate) net::Net);

impl PodNetwork for NodeNetwork {
    fn add<'a>(&'a self, sandbox: &'a SandboxNetwork) -> BoxFuture<'a, Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let interface = self.0.add_pod(request(sandbox)?).await?;
            Ok(interface.addresses)
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.0.remove_pod(id))
    }

    fn recover<'a>(
        &'a self,
        live: &'a [SandboxNetwork],
    ) -> BoxFuture<'a, Result<Vec<Vec<IpAddr>>>> {
        Box::pin(async move {
            let ids: Vec<String> = live.iter().map(|sandbox| sandbox.id.clone()).collect();
            self.0.recover(&ids).await?;
            let mut addresses = Vec::with_capacity(live.len());
            for sandbox in live {
                // Idempotent: what is in place stays, what a reboot or a flush took comes back.
                addresses.push(self.add(sandbox).await?);
            }
            Ok(addresses)
        })
    }
}

fn request(sandbox: &SandboxNetwork) -> Result<net::PodRequest> {
    let mut host_ports = Vec::with_capacity(sandbox.host_ports.len());
    for port in &sandbox.host_ports {
        let protocol = net::Protocol::from_name(&port.protocol)
            .context(|| format!("use host port protocol {:?}", port.protocol))?;
        host_ports.push(net::HostPort {
            host_ip: port.host_ip,
            protocol,
            host_port: port.host_port,
            container_port: port.container_port,
        });
    }
    if sandbox.ingress_bits_per_sec != 0 || sandbox.egress_bits_per_sec != 0 {
        log::warn!(
            "pod {}/{}: bandwidth limits are not enforced yet",
            sandbox.pod_namespace,
            sandbox.pod_name
        );
    }
    Ok(net::PodRequest {
        sandbox_id: sandbox.id.clone(),
        namespace: sandbox.pod_namespace.clone(),
        name: sandbox.pod_name.clone(),
        netns: sandbox.netns.clone(),
        host_ports,
    })
}

/// The server's way to the kubelet of this process.
struct LocalDoor {
    node_name: String,
    kubelet: Arc<dyn http::server::Service>,
}

impl server::NodeDoor for LocalDoor {
    fn call<'a>(&'a self, node: &'a str, request: http::Request) -> BoxFuture<'a, http::Response> {
        if node == self.node_name {
            return self.kubelet.call(request);
        }
        Box::pin(async move {
            http::Response::text(503, format!("node {node} is not this one: more nodes come later"))
        })
    }
}

/// The running node.
pub(crate) struct Agent {
    kubelet: Kubelet,
    net: net::Net,
    _door: http::server::Server,
    _airgap: rt::Task<Option<()>>,
    _builtin: Option<rt::Task<Option<()>>>,
}

impl Agent {
    /// Completes when the node is Ready.
    pub(crate) async fn ready(&self) {
        self.kubelet.ready().await;
    }

    pub(crate) fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    pub(crate) fn net(&self) -> &net::Net {
        &self.net
    }

    /// Stops managing; containers, addresses and rules stay.
    pub(crate) async fn stop(&self) {
        self.kubelet.stop().await;
    }
}

/// Reads what [`start`] will need of the flags.
pub(crate) fn check_flags(machine: &Machine) -> Result<()> {
    net_config(machine)?;
    labels(&machine.config)?;
    taints(&machine.config).map(drop)
}

/// Starts network, runtime and kubelet, and opens the server's door to them. The Node gets an event
/// for each of the `notices`.
pub(crate) async fn start(
    machine: &Machine,
    server: &Server,
    pki: &Pki,
    shown: &Shown,
    notices: Vec<String>,
) -> Result<Agent> {
    let config = &machine.config;
    let paths = &machine.paths;
    let node_client = server.client_as(User::node(&machine.node_name));
    // Service rules and DNS need every Service, EndpointSlice and Pod address: the proxy's rights.
    let proxy_informers =
        Informers::new(server.client_as(User::new("system:kube-proxy", &["system:node-proxier"])));
    let net = net::Net::start(net_config(machine)?, proxy_informers)
        .await
        .context(|| "start the network")?;
    log::info!("Started the network: node {:?}, pods {}", net.node_ips(), pod_cidr(config)?);

    let runtime =
        Runtime::open(runtime_config(machine)).await.context(|| "open the container runtime")?;
    // It is missing where the userspace could not be unpacked: its users are told, the rest works.
    let mut builtin = None;
    if let Err(error) = crate::userspace::provide_image(paths, runtime.images()).await {
        log::error!("the built-in image is missing: {error}");
        let later = crate::userspace::provide_later(paths.clone(), runtime.images().clone());
        builtin = Some(rt::spawn_named("built-in image", later));
    }
    // Before any pod asks for them; what comes later, and the lists to pull, must not hold up the node.
    runtime.images().import_archives().await.context(|| "import the airgap images")?;
    let airgap =
        rt::spawn_named("follow the airgap images", runtime.images().clone().follow_directory());
    let door = crate::door::open(config, runtime.images().clone()).await?;
    let mut kubelet_config =
        kubelet::Config::new(&machine.node_name, paths.agent(), stdx::version::VERSION);
    kubelet_config.notices = notices;
    kubelet_config.hostname = machine.hostname.clone();
    kubelet_config.node_ips = net.node_ips();
    kubelet_config.external_ips = config.node_external_ips.clone();
    kubelet_config.labels = labels(config)?;
    kubelet_config.taints = taints(config)?;
    kubelet_config.resolv_conf = crate::server::resolv_conf(config);
    kubelet_config.cluster_dns = config.cluster_dns.clone();
    kubelet_config.cluster_domain = config.cluster_domain.clone();
    kubelet_config.serving = Some(kubelet::Serving {
        address: SocketAddr::new(config.bind_address, KUBELET_PORT),
        tls: kubelet_tls(pki, shown)?,
    });
    kubelet_config.cgroup_root = format!("/{}", config.cgroup_root());
    kubelet_config.healthz = Some(SocketAddr::from(([127, 0, 0, 1], KUBELET_HEALTH_PORT)));
    kubelet_config.volatile_directory = config.run_dir.join("kubelet");
    kubelet_config.local_path_client =
        Some(server.client_as(User::controller("local-path-provisioner-service-account")));
    kubelet_config.log_directory = config.log_dir.clone();
    if rt::fs::create_dir_all(&config.log_dir, 0o755).is_err() {
        kubelet_config.log_directory = paths.agent().join("log").join("pods");
        log::info!(
            "Using {} for container logs: {} is not writable",
            kubelet_config.log_directory.display(),
            config.log_dir.display()
        );
    }
    let network = Arc::new(NodeNetwork(net.clone()));
    let images = runtime.images().clone();
    let kubelet = Kubelet::start(kubelet_config, node_client, runtime, network)
        .await
        .context(|| "start the kubelet")?;
    if let Err(error) = crate::userspace::remove_old(paths, &images).await {
        log::warn!("remove what earlier versions unpacked: {error}");
    }
    server.set_door(Arc::new(LocalDoor {
        node_name: machine.node_name.clone(),
        kubelet: kubelet.service(),
    }));
    log::info!("Started the kubelet of node {}", machine.node_name);
    let admin = server.client_as(User::apiserver());
    let (name, ready) = (machine.node_name.clone(), kubelet.clone());
    // A kubelet may not give itself a role (NodeRestriction); who runs the server may.
    rt::spawn_named("node role", async move {
        ready.ready().await;
        let labels = api::json!({"metadata": {"labels": {
            "node-role.kubernetes.io/control-plane": "true", "node-role.kubernetes.io/master": "true",
        }}});
        let patched = admin.patch(&api::kinds::NODE, "", &name, "", client::PatchType::Merge, labels);
        if let Err(status) = patched.await {
            log::warn!("label node {name}: {status}");
        }
    })
    .detach();
    Ok(Agent { kubelet, net, _door: door, _airgap: airgap, _builtin: builtin })
}

/// What `runtime` is told, here and at uninstall.
pub(crate) fn runtime_config(machine: &Machine) -> runtime::Config {
    let agent = machine.paths.agent();
    runtime::Config {
        root: agent.join("containerd"),
        state: machine.config.run_dir.join("containerd"),
        image_directory: agent.join("images"),
        registries_file: machine
            .config
            .private_registry
            .clone()
            .unwrap_or_else(|| machine.etc.registries()),
        shim_command: vec!["/proc/self/exe".into(), "shim".into()],
        search_path: machine.config.search_path(),
        proxy: registry_proxy(),
    }
}

/// The proxies that the usual variables name; k3s' own for images win.
fn registry_proxy() -> Option<Arc<http::client::Proxy>> {
    let value = |name: &str| {
        let names = [format!("CONTAINERD_{name}"), name.to_owned(), name.to_ascii_lowercase()];
        names.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
    };
    let [http, https, exempt] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].map(value);
    if http.is_empty() && https.is_empty() {
        return None;
    }
    match http::client::Proxy::new(&http, &https, &exempt) {
        Ok(proxy) => Some(Arc::new(proxy)),
        Err(error) => {
            log::warn!("HTTP_PROXY and HTTPS_PROXY are not used for images: {error}");
            None
        }
    }
}

/// What `net` is told, here and at uninstall.
pub(crate) fn net_config(machine: &Machine) -> Result<net::Config> {
    let config = &machine.config;
    let cidrs = |cidrs: &[crate::config::Cidr]| -> Result<Vec<net::Cidr>> {
        cidrs
            .iter()
            .map(|cidr| net::Cidr::new(cidr.address, cidr.bits).context(|| format!("use {cidr}")))
            .collect()
    };
    Ok(net::Config {
        node_name: machine.node_name.clone(),
        node_ips: config.node_ips.clone(),
        node_interface: config.interface.clone(),
        pod_cidrs: vec![pod_cidr(config)?],
        cluster_cidrs: cidrs(&config.cluster_cidrs)?,
        service_cidrs: cidrs(&config.service_cidrs)?,
        cluster_dns: config.cluster_dns.clone(),
        cluster_domain: config.cluster_domain.clone(),
        resolv_conf: crate::server::resolv_conf(config),
        address_directory: machine.paths.agent().join("net").join("addresses"),
        netns_directory: config.run_dir.join("netns"),
        bridge: "cni0".into(),
        mtu: None,
        node_ports: config.node_ports,
        own_ports: vec![config.https_port, KUBELET_PORT, KUBELET_HEALTH_PORT],
    })
}

/// The first /24 of the cluster range: the one node's, which node IPAM gives it too.
fn pod_cidr(config: &Config) -> Result<net::Cidr> {
    let cluster = config.cluster_cidrs[0];
    net::Cidr::new(cluster.nth(0), cluster.bits.max(24)).context(|| "use the node's pod range")
}

fn labels(config: &Config) -> Result<Vec<(String, String)>> {
    let parse = |text: &String| {
        let (key, value) = text
            .split_once('=')
            .context(|| format!("read --node-label {text:?}: want key=value"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    config.node_labels.iter().map(parse).collect()
}

fn taints(config: &Config) -> Result<Vec<kubelet::Taint>> {
    let parsed = config.node_taints.iter().map(|text| kubelet::Taint::parse(text));
    parsed.collect::<Result<_>>().context(|| "read --node-taint")
}

fn kubelet_tls(pki: &Pki, shown: &Shown) -> Result<Arc<http::tls::ServerConfig>> {
    let roots = http::tls::roots(pki.client_ca.chain_pem.as_bytes())?;
    http::tls::server_config(Arc::clone(&shown.kubelet), Some(roots))
}
