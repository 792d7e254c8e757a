//! Entries for the pods of other nodes: the tunnel, its neighbours, routes. netplan says which, and what the
//! kernel has is compared with it, so that a start over pods that run changes nothing.

mod wireguard;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use api::kinds::NODE;
use api::{Object, Value};
use client::follow::{News, Selection, follow};
use client::{Client, PatchType, WatchEvent};
use netplan::Cidr;
use netplan::flannel::{Backend, family, overhead_bytes};
use netplan::overlay::{Here, Nodes, Own, Peer, Refusal};
use stdx::backoff::Backoff;
use stdx::{Context, Error, Result};
use wire::rtnetlink as rtnl;

use crate::kernel::{EEXIST, Links};
use crate::node::NodeLink;
use crate::{Config, Shared, lock, sysctl};

const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
/// Changes that come together are one.
const SETTLE: Duration = Duration::from_millis(100);
/// The scope of addresses that count on one wire only.
const SCOPE_LINK: u8 = 253;
/// The smallest MTU of IPv4.
const MTU_MIN: u32 = 68;
/// Interfaces of a smaller one lose their IPv6.
const MTU_MIN_IPV6: u32 = 1280;

/// Who is asked about nodes.
#[derive(Clone, Debug)]
pub struct NodeClients {
    /// Sees all Nodes: the service proxy.
    pub all: Client,
    /// Writes this node's own: its kubelet.
    pub own: Client,
    /// Sees NetworkPolicies, Pods and Namespaces; `None`: nobody acts on policies.
    pub policies: Option<Client>,
}

/// The way to other nodes, and what is known of them.
#[derive(Debug)]
pub(crate) struct Overlay {
    backend: Backend,
    config: Config,
    /// One a family.
    ways: Vec<Way>,
    /// The Nodes were listed once: before that, nothing is known to be gone.
    listed: AtomicBool,
    /// The kernel has entries for others.
    has_peers: AtomicBool,
    /// WireGuard's private one, once it was read.
    key: Mutex<Option<stdx::Sensitive<[u8; 32]>>>,
    wake: rt::Event,
}

/// The way to the pods of one family.
#[derive(Debug)]
struct Way {
    ipv6: bool,
    nodes: Mutex<Nodes>,
    /// Nodes that were complained about.
    refused: Mutex<Vec<Refusal>>,
    /// Where WireGuard was told that its peers are; the kernel's own finding counts until that changes.
    told: Mutex<wireguard::Endpoints>,
}

/// The MTU of pods: whoever sends through the tunnel must leave it its room, and a pod does not change its
/// MTU when the second node comes.
pub(crate) fn pods_mtu(config: &Config, node: &NodeLink) -> u32 {
    let has_ipv6 = config.cluster_cidrs.iter().any(|cidr| !cidr.is_ipv4());
    let overhead = config.backend.map_or(0, |backend| overhead_bytes(backend, has_ipv6));
    let whole = config.tunnel.mtu.unwrap_or(node.mtu);
    let ipv6 = config.pod_cidrs.iter().any(|cidr| !cidr.is_ipv4());
    let least = if ipv6 { MTU_MIN_IPV6 } else { MTU_MIN };
    config.mtu.unwrap_or(whole.saturating_sub(overhead).max(least))
}

/// Removes what an earlier run made, as far as it is surely ours.
pub(crate) fn remove(config: &Config) -> Result<()> {
    let mut links = Links::open()?;
    for ipv6 in [false, true] {
        remove_tunnels(&mut links, config, ipv6, None)?;
    }
    let mut ours = links.routes()?;
    ours.retain(|route| {
        route.protocol == rtnl::PROTOCOL_K3RS && leads_to_pods(config, route, None)
    });
    ours.iter().try_for_each(|route| links.delete_route(route))
}

/// Another flannel on this machine gives its tunnel an address by chance, or a key of its own.
fn is_ours(link: &rtnl::Link, config: &Config, ipv6: bool) -> bool {
    let names = if ipv6 { "flannel-v6." } else { "flannel." };
    match &*link.kind {
        "vxlan" => link.name.starts_with(names) && link.mac.starts_with(&[0x0a, 0x58]),
        "wireguard" => {
            link.name == config.tunnel.device(Backend::WireGuard, ipv6)
                && wireguard::has_key(link.index, &config.wireguard_key)
        }
        _ => false,
    }
}

/// A route to a part of the cluster's pods by way of another node: through a gateway, or into the link `tunnel`.
fn leads_to_pods(config: &Config, route: &rtnl::Route, tunnel: Option<u32>) -> bool {
    let inside = |(address, prefix): (IpAddr, u8)| {
        config.cluster_cidrs.iter().any(|c| c.prefix() <= prefix && c.contains(address))
    };
    let leads_on = route.gateway.is_some() || (tunnel.is_some() && route.link == tunnel);
    leads_on && route.destination.is_some_and(inside)
}

impl Overlay {
    pub(crate) fn new(config: &Config, backend: Backend) -> Overlay {
        let has = |ipv6: &bool| config.pod_cidrs.iter().any(|cidr| cidr.is_ipv4() != *ipv6);
        let way = |ipv6: bool| {
            let externals = &config.overlay_ips;
            let own = Own {
                node_name: config.node_name.clone(),
                backend,
                settings: config.tunnel.clone(),
                ipv6,
                pod_cidrs: config.pod_cidrs.clone(),
                cluster_cidrs: config.cluster_cidrs.clone(),
                service_cidrs: config.service_cidrs.clone(),
                external: externals.iter().copied().find(|address| address.is_ipv6() == ipv6),
            };
            let nodes = Mutex::new(Nodes::new(own));
            Way { ipv6, nodes, refused: Mutex::default(), told: Mutex::default() }
        };
        Overlay {
            backend,
            config: config.clone(),
            ways: [false, true].into_iter().filter(has).map(way).collect(),
            listed: AtomicBool::new(false),
            has_peers: AtomicBool::new(false),
            key: Mutex::default(),
            wake: rt::Event::new(),
        }
    }

    /// Makes what must be there before anybody else is: WireGuard's devices, which others know by their keys.
    ///
    /// # Errors
    /// If the kernel has no WireGuard, or the key cannot be read or kept.
    pub(crate) fn prepare(&self, node: &NodeLink) -> Result<()> {
        if self.backend != Backend::WireGuard {
            return Ok(());
        }
        let mut links = Links::open()?;
        self.ways.iter().try_for_each(|way| self.encrypted(&mut links, node, way).map(|_| ()))
    }

    /// Interfaces changed; `moved` says that the node's own did.
    pub(crate) fn look_again(&self, moved: bool) {
        if moved || self.has_peers.load(Ordering::Relaxed) {
            self.wake.notify(usize::MAX);
        }
    }

    /// Takes in news of the Nodes. True if something follows from it.
    fn hear(&self, news: &News) -> bool {
        let set = |node: &Object| {
            let tree = node.tree();
            self.ways.iter().fold(false, |news, way| lock(&way.nodes).set(&tree) | news)
        };
        match news {
            News::Listed(list) => {
                let mut names: Vec<&str> = list.items.iter().map(Object::name).collect();
                stdx::Arrange::arrange(&mut names[..]);
                for way in &self.ways {
                    lock(&way.nodes).retain(&names);
                }
                for node in &list.items {
                    set(node);
                }
                self.listed.store(true, Ordering::Relaxed);
                true
            }
            News::Event(WatchEvent::Added(node) | WatchEvent::Modified(node)) => set(node),
            News::Event(WatchEvent::Deleted(node)) => {
                let gone = |news, way: &Way| lock(&way.nodes).remove(node.name()) | news;
                self.ways.iter().fold(false, gone)
            }
            News::Event(WatchEvent::Bookmark { .. }) => false,
        }
    }

    /// Makes the kernel's entries what they should be. The second part is what this node's own Node lacks.
    fn step(&self, node: &NodeLink) -> (Result<()>, Option<Value>) {
        if !self.listed.load(Ordering::Relaxed) {
            return (Ok(()), None);
        }
        let (mut errors, mut patch, mut n_peers) = (Errors(None), None, 0);
        for way in &self.ways {
            let seen = Links::open().and_then(|mut links| {
                let (index, here) = here(&mut links, &self.config, node, way.ipv6)?;
                Ok((links, index, here))
            });
            let (mut links, index, here) = match seen {
                Ok(seen) => seen,
                Err(error) => {
                    errors.note(Err(error));
                    continue;
                }
            };
            let encrypted =
                (self.backend == Backend::WireGuard).then(|| self.encrypted(&mut links, node, way));
            let (peers, refused, lacks) = {
                let nodes = lock(&way.nodes);
                let (peers, refused) = nodes.peers(&here);
                (peers, refused, nodes.annotations(&here))
            };
            n_peers += peers.len();
            way.complain(refused);
            patch = both(patch, lacks);
            let tunnel = match (encrypted, here.address) {
                (Some(device), _) => device.and_then(|(link, device)| {
                    wireguard::set_peers(way, &self.config, (link, device), &peers)
                        .map(|()| Some(link))
                }),
                (None, Some(local)) if self.backend == Backend::Vxlan && !peers.is_empty() => {
                    let (id, port) = (self.config.tunnel.vni, self.config.tunnel.vxlan_port);
                    let vxlan = rtnl::Vxlan { id, link: index, local, port };
                    self.tunnel(&mut links, node, way, &vxlan).map(Some)
                }
                _ => Ok(None),
            };
            errors.note(tunnel.and_then(|tunnel| {
                let device = self.config.tunnel.device(self.backend, way.ipv6);
                let keep = tunnel.is_some().then_some(&*device);
                remove_tunnels(&mut links, &self.config, way.ipv6, keep)?;
                let to = Leads {
                    ipv6: way.ipv6,
                    backend: self.backend,
                    tunnel,
                    wire: index,
                    here: &here,
                };
                apply(&mut links, &self.config, &to, &peers)
            }));
        }
        self.has_peers.store(n_peers > 0, Ordering::Relaxed);
        (errors.0.map_or(Ok(()), Err), patch)
    }

    /// Makes the tunnel what it should be, and nothing anew that is right already. Returns its index.
    fn tunnel(
        &self,
        links: &mut Links,
        node: &NodeLink,
        way: &Way,
        vxlan: &rtnl::Vxlan,
    ) -> Result<u32> {
        let name = &*self.config.tunnel.device(Backend::Vxlan, way.ipv6);
        let mac = lock(&way.nodes).mac().context(|| no_range(name))?;
        let mtu = pods_mtu(&self.config, node);
        let mut found = links.find_vxlan(name)?;
        if let Some((link, _)) = found.take_if(|(_, known)| known.as_ref() != Some(vxlan)) {
            log::info!("the interface {name} was made for other settings, making it anew");
            links.delete(&link)?;
        }
        let link = match found {
            Some((link, _)) => link,
            None => {
                links.change(
                    || format!("make interface {name} (CONFIG_VXLAN, module vxlan)"),
                    &[EEXIST],
                    |w, sequence| rtnl::create_vxlan(w, sequence, name, mac, mtu, vxlan),
                )?;
                links.find(name)?.context(|| format!("interface {name} vanished"))?
            }
        };
        let index = link.index;
        if link.mac != mac {
            let what = || format!("set the hardware address of {name}");
            links.change(what, &[], |w, sequence| rtnl::set_mac(w, sequence, index, mac))?;
        }
        self.settle(links, way, &link, mtu)?;
        Ok(index)
    }

    /// Gives a tunnel what each has: its MTU, its settings, its address, and sets it up.
    fn settle(&self, links: &mut Links, way: &Way, link: &rtnl::Link, mtu: u32) -> Result<()> {
        let (name, index) = (&*link.name, link.index);
        let base = lock(&way.nodes).base().context(|| no_range(name))?;
        if link.mtu != mtu {
            let what = || format!("set the MTU of {name} to {mtu}");
            links.change(what, &[], |w, sequence| rtnl::set_mtu(w, sequence, index, mtu))?;
        }
        self.settings(way.ipv6, name);
        if link.flags & rtnl::IFF_UP == 0 {
            links.set_up(index, name)?;
        }
        let whole = family(way.ipv6).whole;
        let addresses = links.addresses()?.into_iter().filter(|address| address.link == index);
        let (right, wrong): (Vec<_>, Vec<_>) =
            addresses.partition(|held| (held.address, held.prefix) == (base, whole));
        if right.is_empty() {
            links.set_address(index, name, base, whole)?;
        }
        // Each interface of IPv6 has one that counts on its wire only.
        for held in wrong.into_iter().filter(|held| held.scope != SCOPE_LINK) {
            links.change(
                || format!("take {}/{} from {name}", held.address, held.prefix),
                &[],
                |w, sequence| {
                    rtnl::delete_address(w, sequence, index, held.address, held.prefix);
                },
            )?;
        }
        Ok(())
    }

    fn settings(&self, ipv6: bool, name: &str) {
        let disable_ipv6 = format!("ipv6/conf/{name}/disable_ipv6");
        // Nobody at the other end says which router to use, and nobody there is told.
        if let Err(error) = sys::netns::distrust(name) {
            log::warn!("have {name} believe no router that a pod says it is: {error}");
        }
        if ipv6 {
            sysctl::set(&disable_ipv6, "0");
            return;
        }
        sysctl::set(&format!("ipv4/conf/{name}/send_redirects"), "0");
        if sysctl::is(&disable_ipv6, "0") {
            sysctl::set(&disable_ipv6, "1");
        }
        // Node ports answer on 127.0.0.1, as on the bridge, and the rules guard it the same.
        sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1");
    }
}

impl Way {
    fn complain(&self, refused: Vec<Refusal>) {
        let mut known = lock(&self.refused);
        for (name, why) in refused.iter().filter(|refusal| !known.contains(refusal)) {
            log::warn!("node {name:?}: its pods are not reached from here: {why}");
        }
        *known = refused;
    }
}

/// Two patches of annotations as one.
fn both(one: Option<Value>, other: Option<Value>) -> Option<Value> {
    let (mut one, mut other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other),
    };
    let of = |patch: &mut Value| patch["metadata"]["annotations"].take();
    if let (Value::Object(mut all), Value::Object(more)) = (of(&mut one), of(&mut other)) {
        all.extend(more);
        one["metadata"]["annotations"] = Value::Object(all);
    }
    Some(one)
}

fn no_range(name: &str) -> String {
    format!("make {name}: this node has no pod range of its family")
}

/// Removes this node's tunnels of a family, of whatever backend, but the one to `keep`.
fn remove_tunnels(
    links: &mut Links,
    config: &Config,
    ipv6: bool,
    keep: Option<&str>,
) -> Result<()> {
    let mut ours = links.all()?;
    ours.retain(|link| Some(&*link.name) != keep && is_ours(link, config, ipv6));
    ours.iter().try_for_each(|link| links.delete(link))
}

/// The node's interface and addresses as they are now.
fn here(links: &mut Links, config: &Config, node: &NodeLink, ipv6: bool) -> Result<(u32, Here)> {
    let index = links.find(&node.interface)?.map_or(0, |link| link.index);
    let addresses = links.addresses()?;
    let own = config.node_ips.iter().chain(&node.addresses).copied();
    let address = own.filter(|address| !address.is_loopback()).find(|a| a.is_ipv6() == ipv6);
    let wire = addresses.iter().filter(|address| address.link == index);
    let on_link = wire.filter_map(|a| Cidr::new(a.address, a.prefix)).collect();
    let addresses = addresses.iter().map(|held| (held.address, held.prefix)).collect();
    Ok((index, Here { address, addresses, on_link }))
}

/// What routes to other nodes lead to.
struct Leads<'a> {
    ipv6: bool,
    backend: Backend,
    tunnel: Option<u32>,
    /// The node's own interface.
    wire: u32,
    here: &'a Here,
}

impl Leads<'_> {
    fn route(&self, peer: &Peer, direct: bool) -> rtnl::Route {
        let is_near = direct && self.here.on_link.iter().any(|block| block.contains(peer.address));
        let (gateway, link) = match self.tunnel {
            // It knows its peers by their blocks.
            Some(tunnel) if self.backend == Backend::WireGuard => (None, tunnel),
            Some(tunnel) if !is_near => (Some(peer.block.first()), tunnel),
            _ => (Some(peer.address), self.wire),
        };
        rtnl::Route {
            ipv6: self.ipv6,
            destination: Some((peer.block.first(), peer.block.prefix())),
            gateway,
            link: Some(link),
            on_link: gateway.is_some() && Some(link) == self.tunnel,
            ..rtnl::Route::default()
        }
    }
}

/// Gives the kernel the entries for `peers` and takes others away: what both have is not touched.
fn apply(links: &mut Links, config: &Config, to: &Leads<'_>, peers: &[Peer]) -> Result<()> {
    let mut errors = Errors(None);
    let direct = config.tunnel.direct;
    let routes: Vec<rtnl::Route> = peers.iter().map(|peer| to.route(peer, direct)).collect();
    let mut present = links.routes()?;
    present.retain(|route| {
        let ours = route.protocol == rtnl::PROTOCOL_K3RS || route.link == to.tunnel;
        route.ipv6 == to.ipv6 && ours && leads_to_pods(config, route, to.tunnel)
    });
    for old in &present {
        // One to the same pods by another way is replaced below.
        if !routes.iter().any(|route| route.destination == old.destination) {
            log::info!("pods of another node are reached no more: {}", shown(old));
            errors.note(links.delete_route(old));
        }
    }
    if let Some(device) = to.tunnel.filter(|_| to.backend == Backend::Vxlan) {
        errors.note(neighbours(links, (device, to.ipv6), peers));
    }
    let same = |a: &rtnl::Route, b: &rtnl::Route| {
        let of = |r: &rtnl::Route| (r.destination, r.gateway, r.link, r.on_link);
        of(a) == of(b)
    };
    for (route, peer) in routes.iter().zip(peers) {
        if !present.iter().any(|old| same(old, route)) {
            log::info!("pods of another node are reached: {} at {}", shown(route), peer.address);
            errors.note(links.set_route(route));
        }
    }
    errors.0.map_or(Ok(()), Err)
}

/// Tells the tunnel where each node's end of it is.
fn neighbours(links: &mut Links, (device, ipv6): (u32, bool), peers: &[Peer]) -> Result<()> {
    let mut errors = Errors(None);
    let entry = |peer: &Peer, address: IpAddr, forwards: bool| rtnl::Neighbour {
        link: device,
        mac: peer.end.mac(),
        address,
        forwards,
    };
    let wanted: Vec<rtnl::Neighbour> = peers
        .iter()
        .flat_map(|peer| [entry(peer, peer.address, true), entry(peer, peer.block.first(), false)])
        .collect();
    let present = links.neighbours(device, ipv6)?;
    for old in present.iter().filter(|old| !wanted.contains(old)) {
        errors.note(links.delete_neighbour(old));
    }
    for new in wanted.iter().filter(|new| !present.contains(new)) {
        errors.note(links.set_neighbour(new));
    }
    errors.0.map_or(Ok(()), Err)
}

fn shown(route: &rtnl::Route) -> String {
    route.destination.map_or_else(String::new, |(address, prefix)| format!("{address}/{prefix}"))
}

/// The first of several errors: what fails for one node must not cut off the others.
struct Errors(Option<Error>);

impl Errors {
    fn note(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.0.get_or_insert(error);
        }
    }
}

/// Follows the Nodes for as long as the network lives; where no ways are kept, this node's own.
pub(crate) async fn watch(weak: Weak<Shared>, client: Client) {
    let Some(own) = weak.upgrade().map(|shared| match shared.overlay {
        Some(_) => String::new(),
        None => format!("metadata.name={}", shared.config.node_name),
    }) else {
        return;
    };
    let selection = Selection { kind: &NODE, namespace: String::new(), field_selector: own };
    let mut zone: Option<String> = None;
    let mut hear = |news: News| {
        let Some(shared) = weak.upgrade() else { return false };
        let found = zone_of(&news, &shared.config.node_name);
        if let Some(found) = found.filter(|new| zone.as_deref() != Some(*new)) {
            zone = Some(found.to_owned());
            shared.proxy.set_zone(found.to_owned());
        }
        if let Some(overlay) = &shared.overlay
            && overlay.hear(&news)
        {
            overlay.wake.notify(usize::MAX);
        }
        true
    };
    follow(client, selection, RETRY, &mut hear).await;
}

/// The zone that news say this node is in; `None` if they say nothing of it.
fn zone_of<'n>(news: &'n News, node_name: &str) -> Option<&'n str> {
    const ZONE: &str = "topology.kubernetes.io/zone";
    let own = match news {
        News::Listed(list) => list.items.iter().find(|node| node.name() == node_name)?,
        News::Event(WatchEvent::Added(node) | WatchEvent::Modified(node)) => node,
        News::Event(_) => return None,
    };
    (own.name() == node_name).then(|| own.label(ZONE).unwrap_or(""))
}

/// Keeps entries, and this node's annotations, as the Nodes say.
pub(crate) async fn run(weak: Weak<Shared>, client: Client) {
    let mut failures = 0;
    loop {
        let Some(shared) = weak.upgrade() else { return };
        let Some(overlay) = &shared.overlay else { return };
        let woken = overlay.wake.listen();
        let worker = Arc::clone(&shared);
        let step = rt::unblock(move || {
            let node = lock(&worker.node).clone();
            worker.overlay.as_ref().map(|overlay| overlay.step(&node))
        });
        let (applied, patch) = step.await.unwrap_or((Ok(()), None));
        let mut failed = false;
        if let Err(error) = applied {
            log::warn!("pods of other nodes: {error}");
            failed = true;
        }
        let name = shared.config.node_name.clone();
        drop(shared);
        if let Some(patch) = patch
            && let Err(status) = client.patch(&NODE, "", &name, "", PatchType::Merge, patch).await
        {
            log::debug!("annotate node {name}: {status}");
            failed = true;
        }
        failures = if failed { failures + 1 } else { 0 };
        match failed {
            true => rt::future::or(woken, rt::sleep(RETRY.delay(failures))).await,
            false => woken.await,
        }
        rt::sleep(SETTLE).await;
    }
}

#[cfg(test)]
mod tests;
