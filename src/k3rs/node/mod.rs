//! Wires this machine's node together: network, runtime, kubelet.

pub(crate) mod cri;
pub(crate) mod follow;
pub(crate) mod unable;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use client::{Client, Informers};
use http::tls::Identity;
use kubelet::{Kubelet, PodNetwork, SandboxNetwork};
use rt::BoxFuture;
use runtime::Runtime;
use stdx::{Context, Result};

use crate::machine::Machine;
use crate::settings::config::Config;

/// The kubelet's ports, on which nothing else of the cluster may answer.
pub(crate) const KUBELET_PORT: u16 = 10250;
const KUBELET_HEALTH_PORT: u16 = 10248;

/// `net` as the kubelet asks for it.
struct NodeNetwork {
    net: net::Net,
    /// Whose sandboxes of another owner are found again with the kubelet's.
    runtime: Runtime,
    cri: ::cri::Config,
}

impl PodNetwork for NodeNetwork {
    fn add<'a>(&'a self, sandbox: &'a SandboxNetwork) -> BoxFuture<'a, Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let interface = self.net.add_pod(request(sandbox)?).await?;
            let limited = sandbox.ingress_bits_per_sec != 0 || sandbox.egress_bits_per_sec != 0;
            if limited && !self.net.is_by_plugins() {
                log::warn!(
                    "pod {}/{}: bandwidth limits are not enforced yet",
                    sandbox.pod_namespace,
                    sandbox.pod_name
                );
            }
            Ok(interface.addresses)
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.net.remove_pod(id))
    }

    fn not_ready(&self) -> Option<String> {
        self.net.not_ready()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.net.ready_changed()
    }

    fn write_figures(&self, text: &mut stdx::metrics::Text) {
        self.net.write_figures(text);
    }

    fn recover<'a>(
        &'a self,
        live: &'a [SandboxNetwork],
    ) -> BoxFuture<'a, Result<Vec<Vec<IpAddr>>>> {
        Box::pin(async move {
            let others = cri::recovered(self.cri.clone(), &self.runtime).await;
            let ids = live.iter().map(|sandbox| &sandbox.id);
            let ids = ids.chain(others.iter().map(|other| &other.sandbox_id));
            let ids: Vec<String> = ids.cloned().collect();
            self.net.recover(&ids).await?;
            for other in others {
                if let Err(error) = self.net.add_pod(other).await {
                    log::warn!("recover the network of a sandbox: {error}");
                }
            }
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
    Ok(net::PodRequest {
        sandbox_id: sandbox.id.clone(),
        namespace: sandbox.pod_namespace.clone(),
        name: sandbox.pod_name.clone(),
        uid: sandbox.pod_uid.clone(),
        netns: sandbox.netns.clone(),
        host_ports,
        ingress_bits_per_sec: sandbox.ingress_bits_per_sec,
        egress_bits_per_sec: sandbox.egress_bits_per_sec,
    })
}

/// What a node needs of its cluster, wherever the server is.
pub(crate) struct Link {
    /// As the node's kubelet.
    pub(crate) kubelet: Client,
    /// As its service proxy, which sees every Service, EndpointSlice and Pod address.
    pub(crate) proxy: Client,
    /// Who knows the Namespaces, which a service proxy may not read.
    pub(crate) namespaces: Option<Informers>,
    /// As k3s's controller of network policies, which sees them, Pods and Namespaces.
    pub(crate) policies: Client,
    /// As who releases volumes of deleted local paths; a kubelet usually may not.
    pub(crate) local_path: Option<Client>,
    /// The kubelet's serving certificate, which may be renewed, and the CA of its clients.
    pub(crate) serving: Arc<Identity>,
    pub(crate) client_ca_pem: String,
    /// Takes the kubelet's own API, for a server in this process.
    pub(crate) open: Box<dyn Fn(Arc<dyn http::server::Service>) + Send + Sync>,
}

/// The running node.
pub(crate) struct Agent {
    kubelet: Kubelet,
    net: net::Net,
    _door: http::server::Server,
    _cri: http::server::Server,
    _airgap: rt::Task<Option<()>>,
    _builtin: Option<rt::Task<Option<()>>>,
}

impl Agent {
    /// Completes when the node is Ready, or has only to wait for others, whose pods may be what makes its network; and
    /// says which.
    pub(crate) async fn ready(&self) -> String {
        match self.net.not_ready() {
            Some(why) => format!("waits for its network ({why})"),
            None => {
                self.kubelet.ready().await;
                "is Ready".to_owned()
            }
        }
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
    net_config(machine, Vec::new())?;
    kubelet_config(machine).map(drop)
}

/// Starts network, runtime and kubelet, once the Node has its pod range. The Node gets an event for each
/// of the `notices`.
pub(crate) async fn start(machine: &Machine, link: &Link, notices: Vec<String>) -> Result<Agent> {
    let config = &machine.config;
    let paths = &machine.paths;
    let mut kubelet_config = kubelet_config(machine)?;
    if kubelet_config.protects_kernel {
        rt::unblock(kubelet::check_kernel).await?;
    }
    let range = async { Ok(kubelet::register(&kubelet_config, &link.kubelet).await) };
    let runtime = async {
        Runtime::open(runtime_config(machine)).await.context(|| "open the container runtime")
    };
    let (range, runtime) = rt::future::try_zip(range, runtime).await?;
    let range: Vec<net::Cidr> = range
        .iter()
        .map(|block| block.parse())
        .collect::<Result<_>>()
        .context(|| "use the node's pod range")?;
    let shown: Vec<String> = range.iter().map(ToString::to_string).collect();
    let net = net::Net::start(
        net_config(machine, range)?,
        Informers::new(link.proxy.clone()),
        link.namespaces.clone(),
        Some(net::NodeClients {
            all: link.proxy.clone(),
            own: link.kubelet.clone(),
            policies: (!config.disable_network_policy).then(|| link.policies.clone()),
        }),
    )
    .await
    .context(|| "start the network")?;
    log::info!("Started the network: node {:?}, pods {}", net.node_ips(), shown.join(", "));

    // It is missing where the userspace could not be unpacked: its users are told, the rest works.
    let mut builtin = None;
    if let Err(error) = crate::userspace::provide_image(paths, runtime.images()).await {
        log::error!("the built-in image is missing: {error}");
        let later = crate::userspace::provide_later(paths.clone(), runtime.images().clone());
        builtin = Some(rt::spawn_named("built-in image", later));
    }
    if let Err(error) = crate::userspace::provide_program(paths, runtime.images()).await {
        log::error!("the ingress's image is missing: {error}");
    }
    // Before any pod asks for them; what comes later, and the lists to pull, must not hold up the node.
    runtime.images().import_archives().await.context(|| "import the airgap images")?;
    let airgap =
        rt::spawn_named("follow the airgap images", runtime.images().clone().follow_directory());
    let door = crate::machine::door::open(config, runtime.images().clone()).await?;
    kubelet_config.notices = notices;
    kubelet_config.node_ips = net.node_ips();
    let roots = http::tls::roots(link.client_ca_pem.as_bytes())?;
    kubelet_config.serving = Some(kubelet::Serving {
        address: SocketAddr::new(config.bind_address, KUBELET_PORT),
        tls: http::tls::server_config(Arc::clone(&link.serving), Some(roots))?,
    });
    kubelet_config.local_path_client = link.local_path.clone();
    if rt::fs::create_dir_all(&config.log_dir, 0o755).is_err() {
        kubelet_config.log_directory = paths.agent().join("log").join("pods");
        log::info!(
            "Using {} for container logs: {} is not writable",
            kubelet_config.log_directory.display(),
            config.log_dir.display()
        );
    }
    let network = Arc::new(NodeNetwork {
        net: net.clone(),
        runtime: runtime.clone(),
        cri: cri::config(machine),
    });
    let images = runtime.images().clone();
    let of_cri = runtime.clone();
    let kubelet = Kubelet::start(kubelet_config, link.kubelet.clone(), runtime, network)
        .await
        .context(|| "start the kubelet")?;
    if let Err(error) = crate::userspace::remove_old(paths, &images).await {
        log::warn!("remove what earlier versions unpacked: {error}");
    }
    // Only now: the runtime knows what the last k3rs left.
    let cri = cri::open(machine, of_cri, net.clone())?;
    (link.open)(kubelet.service());
    log::info!("Started the kubelet of node {}", machine.node_name);
    Ok(Agent { kubelet, net, _door: door, _cri: cri, _airgap: airgap, _builtin: builtin })
}

/// What the kubelet is told that does not depend on the network.
pub(crate) fn kubelet_config(machine: &Machine) -> Result<kubelet::Config> {
    let config = &machine.config;
    let version = stdx::version::VERSION;
    let mut told = kubelet::Config::new(&machine.node_name, machine.paths.agent(), version);
    told.hostname = machine.hostname.clone();
    told.node_ips = machine.node_ips.clone();
    told.external_ips = config.node_external_ips.clone();
    told.labels = labels(config)?;
    told.taints = taints(config)?;
    told.resolv_conf = crate::machine::resolv_conf(config);
    told.cluster_dns = config.cluster_dns.clone();
    told.cluster_domain = config.cluster_domain.clone();
    told.cgroup_root = format!("/{}", config.cgroup_root());
    told.healthz = Some(SocketAddr::new(config.loopback(), KUBELET_HEALTH_PORT));
    told.volatile_directory = config.run_dir.join("kubelet");
    told.log_directory = config.log_dir.clone();
    told.root_directory = config.kubelet_dir.clone();
    if config.disable_cloud_controller {
        told.provider_id.clear();
        told.external_cloud = true;
    }
    config.components.kubelet.apply(&mut told)?;
    Ok(told)
}

/// What `runtime` is told, here and at uninstall.
pub(crate) fn runtime_config(machine: &Machine) -> runtime::Config {
    let agent = machine.paths.agent();
    runtime::Config {
        root: agent.join("containerd"),
        state: machine.config.run_dir.join(crate::machine::prepare::STATE),
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

/// The proxies that the usual variables name, for images and charts; k3s' own for images win.
pub(crate) fn registry_proxy() -> Option<Arc<http::client::Proxy>> {
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

/// What `net` is told, here and, without a pod range, at uninstall.
pub(crate) fn net_config(machine: &Machine, pod_cidrs: Vec<net::Cidr>) -> Result<net::Config> {
    let config = &machine.config;
    let cidrs = |cidrs: &[crate::settings::cidr::Cidr]| -> Result<Vec<net::Cidr>> {
        cidrs
            .iter()
            .map(|cidr| net::Cidr::new(cidr.address, cidr.bits).context(|| format!("use {cidr}")))
            .collect()
    };
    let (backend, tunnel) = config.way();
    let mut own_ports = vec![config.https_port, KUBELET_PORT, KUBELET_HEALTH_PORT];
    if config.embeds_etcd {
        own_ports.extend(datastore::embedded::PORTS);
    }
    Ok(net::Config {
        node_name: machine.node_name.clone(),
        node_ips: config.node_ips.clone(),
        node_interface: config.interface.clone(),
        pod_cidrs,
        cluster_cidrs: cidrs(&config.cluster_cidrs)?,
        service_cidrs: cidrs(&config.service_cidrs)?,
        cluster_dns: config.cluster_dns.clone(),
        cluster_domain: config.cluster_domain.clone(),
        resolv_conf: crate::machine::resolv_conf(config),
        address_directory: machine.paths.agent().join("net").join("addresses"),
        netns_directory: config.run_dir.join("netns"),
        bridge: "cni0".into(),
        plugins: config.flannel_backend.is_none().then(|| plugins(machine)),
        backend,
        tunnel,
        wireguard_key: std::env::var_os("WIREGUARD_KEY_FILE")
            .map_or_else(|| machine.paths.agent().join("net").join("wireguard.key"), PathBuf::from),
        overlay_ips: config.flannel_externals(),
        masquerade_ipv6: config.flannel_ipv6_masq,
        external_ips: config.node_external_ips.clone(),
        mtu: None,
        node_ports: config.node_ports,
        sysctls: config.components.proxy.sysctls.clone(),
        node_port_cidrs: cidrs(&config.components.proxy.node_port_cidrs)?,
        own_ports,
    })
}

/// Where CNI plugins are looked for: their configurations in k3s's place and then containerd's, programs the other way.
pub(crate) fn plugins(machine: &Machine) -> net::Plugins {
    let agent = machine.paths.agent();
    net::Plugins {
        configurations: vec![agent.join("etc/cni/net.d"), "/etc/cni/net.d".into()],
        programs: vec!["/opt/cni/bin".into(), machine.paths.data().join("cni")],
        search_path: machine.config.search_path().to_string_lossy().into_owned(),
        attached: agent.join("net").join("cni"),
    }
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
