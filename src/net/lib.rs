//! Applies netplan: links, addresses, one nftables table, the cluster DNS server.
//!
//! Owns every link, route, netns mount and rule that k3rs makes on a node. Knows Services and
//! EndpointSlices only through `netplan`; must not know pods' specs or containers.
//!
//! Invariants: nothing outside the table `inet k3rs` is ever touched; every change of rules is one
//! atomic transaction; an address file exists before the address is used and goes after it.

mod addresses;
mod bridge;
mod cni;
mod conntrack;
mod dns;
mod follow;
mod health;
mod kernel;
mod node;
mod overlay;
pub mod plugins;
mod pods;
mod policy;
mod proxy;
#[cfg(test)]
mod real_tests;
mod rules;
mod spoof;
mod sysctl;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::{Informers, Interest};
use cni::Cni;
pub use cni::Plugins;
pub use netplan::flannel::{Backend, Settings as TunnelSettings};
pub use netplan::{Cidr, Protocol};
use node::NodeLink;
pub use overlay::NodeClients;
use overlay::Overlay;
use pods::Pods;
use proxy::Proxy;
use stdx::{Error, Result};

/// What a node's network is made of. Lists hold one entry a family, IPv4 first.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub node_name: String,
    /// `--node-ip`; empty: detected, and followed when it changes.
    pub node_ips: Vec<IpAddr>,
    /// `--node-external-ip`.
    pub external_ips: Vec<IpAddr>,
    /// `--flannel-iface`: the interface whose addresses are the node's.
    pub node_interface: Option<String>,
    /// This node's part of `cluster_cidrs`.
    pub pod_cidrs: Vec<Cidr>,
    pub cluster_cidrs: Vec<Cidr>,
    pub service_cidrs: Vec<Cidr>,
    /// `--cluster-dns`.
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Where upstream name servers are read from: `--resolv-conf` or `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// One small file per address in use: `<data-dir>/agent/net/addresses`.
    pub address_directory: PathBuf,
    /// Bind mounts of network namespaces: `/run/k3s/netns`.
    pub netns_directory: PathBuf,
    /// The bridge's name: `cni0`.
    pub bridge: String,
    /// Who makes the pods' interfaces instead; there is no bridge of ours then.
    pub plugins: Option<Plugins>,
    /// How pods of other nodes are reached (`--flannel-backend`); `None`: somebody else sees to it.
    pub backend: Option<Backend>,
    /// What else is said of the way (`--flannel-conf`).
    pub tunnel: TunnelSettings,
    /// The private key of this node's WireGuard, made where there is none.
    pub wireguard_key: PathBuf,
    /// The addresses that other nodes send to, where they are not the interface's (`--flannel-external-ip`).
    pub overlay_ips: Vec<IpAddr>,
    /// `--flannel-ipv6-masq`.
    pub masquerade_ipv6: bool,
    /// `None`: that of the node's interface, less what `backend` adds to a packet.
    pub mtu: Option<u32>,
    /// `--service-node-port-range`, both ends included.
    pub node_ports: (u16, u16),
    /// TCP ports that the node itself serves on its addresses: the API's, the kubelet's.
    pub own_ports: Vec<u16>,
    /// Addresses of the node that node ports answer at; empty: all.
    pub node_port_cidrs: Vec<Cidr>,
    /// Settings below `/proc/sys/net/netfilter` that are written at the start.
    pub sysctls: Vec<(&'static str, String)>,
}

/// One `hostPort` of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `None`: every address of the node.
    pub host_ip: Option<IpAddr>,
    pub protocol: Protocol,
    pub host_port: u16,
    pub container_port: u16,
}

/// A sandbox that wants a network.
#[derive(Clone, Debug, Default)]
pub struct PodRequest {
    pub sandbox_id: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// A bind-mounted network namespace or `/proc/<pid>/ns/net`.
    pub netns: PathBuf,
    pub host_ports: Vec<HostPort>,
    /// What may come to it and leave it in bits a second, 0 without a limit; for plugins.
    pub ingress_bits_per_sec: u64,
    pub egress_bits_per_sec: u64,
}

/// What a sandbox got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodInterface {
    pub addresses: Vec<IpAddr>,
    /// Inside the pod: `eth0`.
    pub interface: String,
    /// Its other end on the node.
    pub host_interface: String,
    pub mac: [u8; 6],
}

/// The network of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Net {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    pods: Attacher,
    proxy: Arc<Proxy>,
    node: Mutex<NodeLink>,
    /// `None`: no way to other nodes is kept.
    overlay: Option<Overlay>,
    node_changed: rt::Event,
    tasks: Mutex<Vec<rt::Task<Option<()>>>>,
}

/// Who makes the pods' interfaces.
#[derive(Debug)]
enum Attacher {
    Own(Box<Mutex<Pods>>),
    Plugins(Arc<Cni>),
}

impl Attacher {
    fn open(config: &Config, mtu: u32) -> Result<Attacher> {
        let Some(plugins) = config.plugins.clone() else {
            return Ok(Attacher::Own(Box::new(Mutex::new(Pods::open(config.clone(), mtu)?))));
        };
        let mut links = kernel::Links::open()?;
        bridge::settings(&mut links, config);
        // Whatever the interfaces are called; see `settings_of_bridge`.
        sysctl::set("ipv4/conf/all/route_localnet", "1");
        hold_dns_addresses(config)?;
        Ok(Attacher::Plugins(Arc::new(Cni::open(plugins, config)?)))
    }

    fn local(&self) -> pods::LocalPods {
        match self {
            Attacher::Own(pods) => lock(pods).local(),
            Attacher::Plugins(cni) => cni.local(),
        }
    }

    /// The pods' host ports as the rules want them.
    fn host_ports(&self) -> Vec<netplan::HostPort> {
        let targets = match self {
            Attacher::Own(pods) => lock(pods).host_ports(),
            Attacher::Plugins(cni) => cni.host_ports(),
        };
        targets.into_iter().map(host_port).collect()
    }
}

fn host_port(target: pods::HostPortTarget) -> netplan::HostPort {
    netplan::HostPort {
        host_ip: target.port.host_ip,
        protocol: target.port.protocol,
        host_port: target.port.host_port,
        target: SocketAddr::new(target.pod, target.port.container_port),
    }
}

impl Net {
    /// Makes the bridge, sets sysctls, loads the rules in one transaction, starts cluster DNS, and
    /// follows Services, EndpointSlices and the node's addresses from then on.
    /// Calls `want` on `informers` for the kinds it needs; it may be called before they are synced. Names
    /// ask `namespaces` for Namespaces, which the proxy's rights do not reach. Without `nodes` the pods of other
    /// nodes are not reached.
    pub async fn start(
        config: Config,
        informers: Informers,
        namespaces: Option<Informers>,
        nodes: Option<NodeClients>,
    ) -> Result<Net> {
        let backend = config.backend.filter(|_| nodes.is_some());
        let policies = nodes.as_ref().and_then(|nodes| nodes.policies.clone());
        let shared = rt::unblock(move || {
            let node = node::detect_or_loopback(
                config.node_interface.as_deref(),
                config.node_ips.first().copied(),
                &config.bridge,
            )?;
            let mtu = overlay::pods_mtu(&config, &node);
            if backend.is_none()
                && let Err(error) = overlay::remove(&config)
            {
                log::warn!("remove the ways to other nodes: {error}");
            }
            let pods = Attacher::open(&config, mtu)?;
            let on_loopback = node.addresses.iter().all(IpAddr::is_loopback);
            let info = netplan::NodeInfo {
                addresses: addresses(&config, &node),
                ..node_info(&config, on_loopback)
            };
            let policies = policies.map(|client| policy::Followed::new(client, &config));
            let (ports, local) = (pods.host_ports(), pods.local());
            let proxy = Proxy::open(info, ports, local, informers, policies)?;
            follow::listen(&proxy);
            let overlay = backend.map(|backend| Overlay::new(&config, backend));
            if let Some(overlay) = &overlay {
                overlay.prepare(&node)?;
            }
            Ok::<Shared, Error>(Shared {
                config,
                pods,
                proxy,
                node: Mutex::new(node),
                overlay,
                node_changed: rt::Event::new(),
                tasks: Mutex::default(),
            })
        });
        let shared = Arc::new(shared.await?);
        let weak = Arc::downgrade(&shared);
        shared.keep("follow the node's interfaces", move || follow_links(weak.clone()));
        let proxy = Arc::downgrade(&shared.proxy);
        let (rules, guarded) = (proxy.clone(), proxy.clone());
        shared.keep("service rules", move || proxy::run(rules.clone()));
        let policies = proxy.clone();
        if shared.proxy.policies.is_some() {
            shared.keep("network policies", move || follow::run(policies.clone()));
        }
        if let Attacher::Plugins(cni) = &shared.pods {
            let cni = Arc::downgrade(cni);
            shared.keep("CNI", move || cni::follow(cni.clone()));
        }
        shared.keep("guard of the rules", move || proxy::guard(guarded.clone()));
        shared.keep("health checks", move || health::run(proxy.clone()));
        if let Some(NodeClients { all, own, .. }) = nodes {
            let (weak, told) = (Arc::downgrade(&shared), Arc::downgrade(&shared));
            shared.keep("follow nodes", move || overlay::watch(weak.clone(), all.clone()));
            if backend.is_some() {
                shared.keep("ways to other nodes", move || overlay::run(told.clone(), own.clone()));
            }
        }
        if let Some(namespaces) = &namespaces {
            namespaces.want(Interest::all(&api::kinds::NAMESPACE));
        }
        shared.serve_dns(namespaces.as_ref());
        Ok(Net { shared })
    }

    /// Appends how long the rules of Services took to follow, under kube-proxy's names.
    pub fn write_figures(&self, text: &mut stdx::metrics::Text) {
        let name = "kubeproxy_sync_proxy_rules_duration_seconds";
        text.family(name, "histogram", "SyncProxyRules latency in seconds");
        text.histogram(name, &[], &self.shared.proxy.took);
    }

    /// Frees the addresses and links of sandboxes that are not in `live`. Call once, before `add_pod`.
    pub async fn recover(&self, live: &[String]) -> Result<()> {
        match &self.shared.pods {
            Attacher::Own(_) => {
                let live = live.to_vec();
                self.with_pods(move |pods| pods.recover(&live)).await?;
            }
            // Nobody waits for programs that may take their time.
            Attacher::Plugins(cni) => {
                let (cni, gone) = (cni.clone(), cni.gone(live));
                let later = async move {
                    cni.forget(gone).await;
                    cni.check().await;
                };
                rt::spawn_named("CNI, what is left", later).detach();
            }
        }
        self.publish_host_ports().await;
        self.publish_names().await;
        Ok(())
    }

    /// Gives a sandbox its interface, addresses, routes and host ports. Idempotent per sandbox id:
    /// a second call with the same id and namespace answers the same.
    pub async fn add_pod(&self, request: PodRequest) -> Result<PodInterface> {
        let publishes = !request.host_ports.is_empty();
        let interface = match &self.shared.pods {
            Attacher::Own(_) => self.with_pods(move |pods| pods.add(&request)).await?,
            Attacher::Plugins(cni) => cni.add(&request).await?,
        };
        if publishes {
            self.publish_host_ports().await;
        }
        self.publish_names().await;
        Ok(interface)
    }

    /// Takes all of it back. Idempotent; an unknown id is fine, and so is a vanished namespace.
    pub async fn remove_pod(&self, sandbox_id: &str) -> Result<()> {
        let id = sandbox_id.to_owned();
        let published = match &self.shared.pods {
            Attacher::Own(_) => {
                let removed = self.with_pods(move |pods| {
                    let published = pods.publishes(&id);
                    pods.remove(&id).map(|()| published)
                });
                removed.await?
            }
            Attacher::Plugins(cni) => {
                let n_ports = cni.host_ports().len();
                cni.remove(&id).await?;
                cni.host_ports().len() != n_ports
            }
        };
        if published {
            self.publish_host_ports().await;
        }
        self.publish_names().await;
        Ok(())
    }

    /// The addresses of a sandbox that `add_pod` or `recover` knows.
    pub fn pod_addresses(&self, sandbox_id: &str) -> Vec<IpAddr> {
        match &self.shared.pods {
            Attacher::Own(pods) => lock(pods).addresses_of(sandbox_id),
            Attacher::Plugins(cni) => cni.addresses_of(sandbox_id),
        }
    }

    /// Why pods get no network now, if so: plugins may have to be configured first.
    pub fn not_ready(&self) -> Option<String> {
        match &self.shared.pods {
            Attacher::Own(_) => None,
            Attacher::Plugins(cni) => cni.problem(),
        }
    }

    /// Whether plugins make the pods' interfaces.
    pub fn is_by_plugins(&self) -> bool {
        matches!(self.shared.pods, Attacher::Plugins(_))
    }

    /// Completes at the next change of [`Net::not_ready`] from this call on.
    pub fn ready_changed(&self) -> rt::BoxFuture<'_, ()> {
        match &self.shared.pods {
            Attacher::Own(_) => Box::pin(rt::future::pending()),
            Attacher::Plugins(cni) => Box::pin(cni.changed()),
        }
    }

    /// The node's own addresses now, IPv4 first; never loopback unless there is nothing else.
    pub fn node_ips(&self) -> Vec<IpAddr> {
        node_ips(&self.shared.config, &lock(&self.shared.node))
    }

    /// Completes at the next change of [`Net::node_ips`] from this call on.
    pub fn node_ips_changed(&self) -> rt::EventListener {
        self.shared.node_changed.listen()
    }

    /// An error if the bridge or the rules are not as they should be.
    pub async fn check(&self) -> Result<()> {
        if !self.is_by_plugins() {
            self.with_pods(|pods| pods.check()).await?;
        }
        let proxy = self.shared.proxy.clone();
        rt::unblock(move || proxy.check()).await
    }

    async fn publish_host_ports(&self) {
        let host_ports = self.shared.pods.host_ports();
        self.shared.proxy.set_host_ports(host_ports).await;
    }

    /// Says which pod has which address, to policies.
    async fn publish_names(&self) {
        let local = self.shared.pods.local();
        self.shared.proxy.set_local_pods(local).await;
    }

    async fn with_pods<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Pods) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = self.shared.clone();
        rt::unblock(move || match &shared.pods {
            Attacher::Own(pods) => work(&mut lock(pods)),
            Attacher::Plugins(_) => Err(Error::new("the pods' interfaces are made by plugins")),
        })
        .await
    }
}

impl Shared {
    /// Has the ways to other nodes compared with the interfaces as they are now.
    fn look_at_ways(&self, moved: bool) {
        if let Some(overlay) = &self.overlay {
            overlay.look_again(moved);
        }
    }

    fn serve_dns(&self, namespaces: Option<&Informers>) {
        let config = &self.config;
        let zone = netplan::names::Zone {
            domain: config.cluster_domain.trim_end_matches('.').to_lowercase(),
            servers: config.cluster_dns.clone(),
        };
        let dns = dns::Dns::new(
            self.proxy.clone(),
            zone,
            config.resolv_conf.clone(),
            namespaces.cloned(),
        );
        for (_, server) in dns_addresses(config) {
            let dns = dns.clone();
            self.keep("cluster DNS", move || dns::serve(dns.clone(), server));
        }
    }

    /// Runs a task for as long as this lives; after a panic, which is logged, it begins anew.
    fn keep<F: Future<Output = ()> + Send + 'static>(
        &self,
        what: &'static str,
        mut begin: impl FnMut() -> F + Send + 'static,
    ) {
        const REST: std::time::Duration = std::time::Duration::from_secs(1);
        let task = rt::spawn_named(what, async move {
            while rt::spawn_named(what, begin()).await.is_none() {
                rt::sleep(REST).await;
            }
        });
        lock(&self.tasks).push(task);
    }
}

/// Keeps the bridge whole and the node's addresses current, on events of the kernel.
async fn follow_links(shared: std::sync::Weak<Shared>) {
    const SETTLE: std::time::Duration = std::time::Duration::from_millis(100);
    let events = match node::LinkEvents::subscribe() {
        Ok(events) => events,
        Err(error) => return log::error!("{error}; changes of addresses will not be seen"),
    };
    loop {
        if let Err(error) = events.changed().await {
            log::warn!("{error}");
        }
        rt::sleep(SETTLE).await;
        let Some(shared) = shared.upgrade() else { return };
        rt::unblock(move || look_again(&shared)).await;
    }
}

fn look_again(shared: &Shared) {
    let config = &shared.config;
    let node = match node::detect(
        config.node_interface.as_deref(),
        config.node_ips.first().copied(),
        &config.bridge,
    ) {
        Ok(node) => node,
        // No address at all for a moment (DHCP renews, cable out): keep the last known.
        Err(error) => return log::debug!("{error}"),
    };
    let mtu = overlay::pods_mtu(config, &node);
    let repaired = match &shared.pods {
        Attacher::Own(pods) => lock(pods).repair(mtu),
        Attacher::Plugins(_) => hold_dns_addresses(config),
    };
    if let Err(error) = repaired {
        log::warn!("{error}");
    }
    let mut known = lock(&shared.node);
    if *known == node {
        drop(known);
        return shared.look_at_ways(false);
    }
    let moved = known.addresses != node.addresses;
    if moved {
        log::info!("the node's addresses are {:?} on {}", node.addresses, node.interface);
        shared.proxy.set_addresses(addresses(config, &node));
    }
    *known = node;
    drop(known);
    shared.look_at_ways(true);
    if moved {
        shared.node_changed.notify(usize::MAX);
    }
}

/// The node's own addresses.
fn node_ips(config: &Config, node: &NodeLink) -> Vec<IpAddr> {
    match config.node_ips.as_slice() {
        [] => {
            let ipv6: Vec<bool> = config.cluster_cidrs.iter().map(|cidr| !cidr.is_ipv4()).collect();
            in_families(&ipv6, node.addresses.clone())
        }
        given => given.to_vec(),
    }
}

/// All that its Node says are its addresses.
fn addresses(config: &Config, node: &NodeLink) -> Vec<IpAddr> {
    [node_ips(config, node), config.external_ips.clone()].concat()
}

/// What a node serves itself: no Service and no pod takes these ports from it.
pub fn own_ports(config: &Config) -> Vec<(Protocol, u16)> {
    let served = config.own_ports.iter().map(|port| (Protocol::Tcp, *port));
    let dns = [(Protocol::Tcp, DNS_PORT), (Protocol::Udp, DNS_PORT)];
    let port = |cidr: &Cidr| config.tunnel.port(config.backend?, !cidr.is_ipv4());
    let mut tunnels: Vec<u16> = config.cluster_cidrs.iter().filter_map(port).collect();
    // VXLAN has one port for both families.
    tunnels.dedup();
    served.chain(dns).chain(tunnels.into_iter().map(|port| (Protocol::Udp, port))).collect()
}

/// What netplan is told of this node.
fn node_info(config: &Config, on_loopback: bool) -> netplan::NodeInfo {
    netplan::NodeInfo {
        node_name: config.node_name.clone(),
        zone: String::new(),
        addresses: Vec::new(),
        pod_cidrs: config.pod_cidrs.clone(),
        cluster_cidrs: config.cluster_cidrs.clone(),
        service_cidrs: config.service_cidrs.clone(),
        dns: dns_addresses(config),
        bridge: config.bridge.clone(),
        bridge_netfilter: bridge::has_netfilter(),
        masquerade_ipv6: config.masquerade_ipv6,
        node_port_cidrs: config.node_port_cidrs.clone(),
        node_ports: config.node_ports,
        own_ports: own_ports(config),
        by_plugins: config.plugins.is_some(),
        tunnel: (config.backend == Some(Backend::Vxlan)).then_some(netplan::flannel::Tunnel {
            vni: config.tunnel.vni,
            port: config.tunnel.vxlan_port,
        }),
        on_loopback,
    }
}

/// Cluster DNS addresses, and where this node's server listens for them: on the bridge, or, where there is none of ours,
/// at these addresses themselves, which loopback has then.
fn dns_addresses(config: &Config) -> Vec<(IpAddr, SocketAddr)> {
    let server = |address: &IpAddr| {
        if config.plugins.is_some() {
            return Some((*address, SocketAddr::new(*address, DNS_PORT)));
        }
        let same_family = |cidr: &&Cidr| cidr.is_ipv4() == address.is_ipv4();
        let gateway = config.pod_cidrs.iter().find(same_family).and_then(bridge::gateway)?;
        Some((*address, SocketAddr::new(gateway, DNS_PORT)))
    };
    config.cluster_dns.iter().filter_map(server).collect()
}

/// Pods reach it as port 53 of the cluster DNS address. It is fixed, so that connections survive a
/// restart, and not 53, which the host may use on all its addresses.
const DNS_PORT: u16 = 10053;

/// Has loopback hold the cluster DNS addresses, each alone in its block.
fn hold_dns_addresses(config: &Config) -> Result<()> {
    let mut links = kernel::Links::open()?;
    let present = links.addresses()?;
    let held = |ip: &&IpAddr| present.iter().any(|a| a.link == LOOPBACK && a.address == **ip);
    for address in config.cluster_dns.iter().filter(|address| !held(address)) {
        links.set_address(LOOPBACK, "lo", *address, whole(*address))?;
    }
    Ok(())
}

/// Undoes [`hold_dns_addresses`].
fn release_dns_addresses(config: &Config) -> Result<()> {
    const EADDRNOTAVAIL: i32 = 99;
    let mut links = kernel::Links::open()?;
    for address in config.cluster_dns.iter().filter(|address| !address.is_loopback()) {
        links.change(
            || format!("take {address} from lo"),
            &[EADDRNOTAVAIL],
            |w, s| wire::rtnetlink::delete_address(w, s, LOOPBACK, *address, whole(*address)),
        )?;
    }
    Ok(())
}

/// The prefix of a block that is one address.
fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The index of `lo` in each network namespace.
const LOOPBACK: u32 = 1;

/// Nothing here is left half done by a panic: a poisoned lock is taken over.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The node's addresses, before anything is started: those of `interface`, or of the interface with
/// the default route, or the first that is not loopback; loopback's, set up if need be, while there
/// is none.
pub fn detect_node_ips(interface: Option<&str>) -> Result<Vec<IpAddr>> {
    node::set_loopback_up()?;
    Ok(node::detect_or_loopback(interface, None, "cni0")?.addresses)
}

/// As [`detect_node_ips`], but waits for `longest` at the most until `enough` is found: routers announce addresses of
/// IPv6, and those are tried out first.
pub async fn await_node_ips(
    interface: Option<&str>,
    longest: std::time::Duration,
    enough: impl Fn(&[IpAddr]) -> bool,
) -> Result<Vec<IpAddr>> {
    let events = node::LinkEvents::subscribe()?;
    let started = rt::now().mono;
    loop {
        let found = detect_node_ips(interface)?;
        let left = longest.saturating_sub(rt::now().mono.since(started));
        if left.is_zero() || enough(&found) {
            return Ok(found);
        }
        let changed = async { events.changed().await.unwrap_or_default() };
        rt::future::or(changed, rt::sleep(left)).await;
    }
}

/// The addresses of a cluster's families, `true` for IPv6, in the order of those. Of a cluster that knows IPv4 only,
/// nodes may show what they have, and where nothing fits all is shown.
pub fn in_families(ipv6: &[bool], addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    if !ipv6.contains(&true) {
        return addresses;
    }
    let first = |ipv6: &bool| addresses.iter().copied().find(|address| address.is_ipv6() == *ipv6);
    let found: Vec<IpAddr> = ipv6.iter().filter_map(first).collect();
    if found.is_empty() { addresses } else { found }
}

/// Makes an empty network namespace, kept alive by a bind mount at `path`.
pub fn create_netns(path: &Path) -> Result<()> {
    sys::netns::create(path)
}

/// Unmounts and removes it. Idempotent.
pub fn delete_netns(path: &Path) -> Result<()> {
    sys::netns::delete(path)
}

/// Removes bridge, pods' links, routes, nft table, address files and namespace mounts; for uninstall.
/// Works without a running [`Net`]; collects all errors into one.
pub async fn teardown(config: &Config) -> Result<()> {
    let config = config.clone();
    let taken_back = match config.plugins.clone() {
        Some(plugins) => cni::teardown(plugins, &config).await,
        None => Ok(()),
    };
    rt::unblock(move || {
        let mut errors: Vec<String> = Vec::new();
        let mut note = |result: Result<()>| errors.extend(result.err().map(|e| e.to_string()));
        note(taken_back);
        if config.plugins.is_some() {
            note(release_dns_addresses(&config));
        }
        note(overlay::remove(&config));
        note(pods::teardown(&config));
        note(rules::Rules::open().and_then(|mut rules| rules.delete()));
        note(spoof::delete());
        note(rt::fs::remove_dir_all(&config.address_directory));
        note(policy::forget(&config));
        for path in rt::fs::list_dir(&config.netns_directory).unwrap_or_default() {
            note(sys::netns::delete(&path));
        }
        note(rt::fs::remove_dir_all(&config.netns_directory));
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Error::new(format!("tear the network down: {}", errors.join("; ")))),
        }
    })
    .await
}
