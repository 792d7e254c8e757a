//! Follows Services, EndpointSlices and host ports, and keeps the kernel's table as the model says.
//!
//! Changes are collected while a transaction runs and applied together in the next. A change that
//! the kernel refuses, or a table that someone else touched, leads to a full replacement.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use api::controller::Cache;
use api::kinds::{ENDPOINT_SLICE, SERVICE};
use client::informer::Change;
use client::{Informers, Interest};
use netplan::{HealthCheck, HostPort, Model, NodeInfo, PolicyObject, Protocol};
use rt::Async;
use stdx::metrics::Histogram;
use stdx::{Context, Result};
use stdx::{OrdSet, backoff::Backoff};
use sys::netlink::{Family, Netlink};
use wire::nft;

use crate::conntrack;
use crate::lock;
use crate::pods::LocalPods;
use crate::policy::{self, Followed};
use crate::rules::{Rules, count_rules};
use crate::spoof::{self, Guard};

/// Upper bounds of the times that are told, in milliseconds: every second one of upstream's.
const TOOK_MS: &[u32] = &[1, 4, 16, 64, 256, 1024, 4096, 16_384];

/// The rules of one node and what they are made from.
#[derive(Debug)]
pub(crate) struct Proxy {
    informers: Informers,
    /// The netlink port that our changes come from.
    own_port: u32,
    pub(crate) model: Mutex<Model>,
    state: Mutex<State>,
    pending: Mutex<Pending>,
    host_ports: Mutex<Vec<HostPort>>,
    /// `None`: nobody acts on NetworkPolicies.
    pub(crate) policies: Option<Arc<Followed>>,
    /// The addresses of this node's pods.
    local_pods: Mutex<LocalPods>,
    /// Whether what policies there are was found out, since the start.
    policies_known: AtomicBool,
    /// How often [`run`] began: more than once means after a panic.
    n_runs: AtomicUsize,
    /// Something is pending.
    wake: rt::Event,
    /// The health checks changed.
    pub(crate) health_changed: rt::Event,
    /// A transaction was tried.
    applied: rt::Event,
    /// How long what changed took to be in the kernel.
    pub(crate) took: Histogram,
}

#[derive(Debug)]
struct State {
    rules: Rules,
    guard: Guard,
    /// The kernel has our table as of the model's last changes.
    loaded: bool,
    health: Vec<HealthCheck>,
}

/// What changed since the last transaction. Bounded by the number of objects there are.
#[derive(Debug, Default)]
struct Pending {
    services: OrdSet<(String, String)>,
    slices: OrdSet<(String, String)>,
    host_ports: Option<Vec<HostPort>>,
    addresses: Option<Vec<IpAddr>>,
    zone: Option<String>,
    local_pods: bool,
    policies: policy::News,
    /// Load everything anew, and why.
    reload: Option<&'static str>,
    /// Counts the changes asked for, and how many of them are in the kernel.
    asked: u64,
    done: u64,
}

const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

impl Proxy {
    /// Loads a first table if the kernel has none from an earlier run, and begins to listen.
    /// Rules of an earlier run stay in force until the objects are known, and are then replaced.
    pub(crate) fn open(
        node: NodeInfo,
        host_ports: Vec<HostPort>,
        local_pods: LocalPods,
        informers: Informers,
        policies: Option<Followed>,
    ) -> Result<Arc<Proxy>> {
        let mut rules = Rules::open()?;
        let mut model = Model::new(node);
        model.set_host_ports(host_ports.clone());
        let had_policies = policies.as_ref().is_some_and(Followed::had_policies);
        model.set_policies(had_policies);
        if policies.is_none()
            && let Err(error) = spoof::delete()
        {
            log::debug!("{error}");
        }
        model.set_local_pods(&local_pods.names);
        model.changes();
        warn_of_foreign_drops(&mut rules, model.node());
        let guard = Guard::new(&model.node().bridge, model.node().bridge_netfilter);
        let loaded = rules.rule_count()?.is_none_or(|n_rules| n_rules == 0);
        if loaded {
            rules.replace(&model.table())?;
        }
        let proxy = Arc::new(Proxy {
            informers: informers.clone(),
            own_port: rules.port()?,
            model: Mutex::new(model),
            state: Mutex::new(State { rules, guard, loaded, health: Vec::new() }),
            pending: Mutex::default(),
            host_ports: Mutex::new(host_ports),
            policies: policies.map(Arc::new),
            local_pods: Mutex::new(local_pods),
            policies_known: AtomicBool::new(!had_policies),
            took: Histogram::new(TOOK_MS),
            n_runs: AtomicUsize::new(0),
            wake: rt::Event::new(),
            health_changed: rt::Event::new(),
            applied: rt::Event::new(),
        });
        let listener = Arc::downgrade(&proxy);
        informers.listen(Arc::new(move |change| {
            if let Some(proxy) = listener.upgrade() {
                proxy.note(change);
            }
        }));
        informers.want(Interest::all(&SERVICE));
        informers.want(Interest::all(&ENDPOINT_SLICE));
        Ok(proxy)
    }

    /// Replaces the host ports, and waits until that was tried once.
    pub(crate) async fn set_host_ports(&self, host_ports: Vec<HostPort>) {
        *lock(&self.host_ports) = host_ports.clone();
        self.ask("host ports", |pending| pending.host_ports = Some(host_ports)).await;
    }

    /// Replaces the addresses of this node's pods. Where there are policies it waits until the rules were tried
    /// once; a pod that has none yet is shut.
    pub(crate) async fn set_local_pods(&self, local_pods: LocalPods) {
        *lock(&self.local_pods) = local_pods;
        let followed = self.policies.as_ref();
        if followed.is_some_and(|policies| policies.is_on() || policies.had_policies()) {
            self.ask("network policies", |pending| pending.local_pods = true).await;
        }
    }

    /// The node's addresses are these now.
    pub(crate) fn set_addresses(&self, addresses: Vec<IpAddr>) {
        lock(&self.pending).addresses = Some(addresses);
        self.wake.notify(usize::MAX);
    }

    /// The node is in this zone now; in none if it is empty.
    pub(crate) fn set_zone(&self, zone: String) {
        lock(&self.pending).zone = Some(zone);
        self.wake.notify(usize::MAX);
    }

    /// Puts something into the next transaction and waits until that was tried.
    async fn ask(&self, what: &str, put: impl FnOnce(&mut Pending)) {
        const WAIT_MAX: Duration = Duration::from_secs(2);
        let ticket = {
            let mut pending = lock(&self.pending);
            put(&mut pending);
            pending.asked += 1;
            pending.asked
        };
        self.wake.notify(usize::MAX);
        let done = async {
            loop {
                let applied = self.applied.listen();
                if lock(&self.pending).done >= ticket {
                    return;
                }
                applied.await;
            }
        };
        if rt::timeout(WAIT_MAX, done).await.is_err() {
            log::warn!("{what}: the rules are late, they follow as soon as the kernel takes them");
        }
    }

    /// Switches policies, or says which of their objects changed.
    pub(crate) fn tell_policies(
        &self,
        switch: Option<bool>,
        objects: OrdSet<(PolicyObject, String, String)>,
    ) {
        {
            let mut pending = lock(&self.pending);
            let news = &mut pending.policies;
            if switch.is_some() {
                news.objects.clear();
            }
            news.switch = switch.or(news.switch);
            news.objects.extend(objects);
        }
        self.wake.notify(usize::MAX);
    }

    /// What policies there are was found out, and told.
    pub(crate) fn policies_are_known(&self) {
        self.policies_known.store(true, Ordering::Relaxed);
        self.applied.notify(usize::MAX);
    }

    /// The health checks as of the last transaction.
    pub(crate) fn health(&self) -> Vec<HealthCheck> {
        lock(&self.state).health.clone()
    }

    /// An error if the kernel's table is not what we put there.
    pub(crate) fn check(&self) -> Result<()> {
        let expected = count_rules(&lock(&self.model).table());
        let mut state = lock(&self.state);
        match state.rules.rule_count()? {
            None => Err(stdx::Error::new("the table inet k3rs is missing")),
            Some(n_rules) if state.loaded && n_rules != expected => Err(stdx::Error::new(format!(
                "the table inet k3rs has {n_rules} rules and should have {expected}"
            ))),
            Some(_) => Ok(()),
        }
    }

    fn note(&self, change: &Change) {
        let Some(object) = change.object() else { return };
        let name = (object.namespace().to_owned(), object.name().to_owned());
        let mut pending = lock(&self.pending);
        if object.kind() == &SERVICE {
            pending.services.insert(name);
        } else if object.kind() == &ENDPOINT_SLICE {
            pending.slices.insert(name);
        } else {
            return;
        }
        drop(pending);
        self.wake.notify(usize::MAX);
    }

    /// Forgets what was made of the objects and notes all of them: nothing may be missing after a panic.
    fn begin_anew(&self) {
        let mut model = lock(&self.model);
        *model = Model::new(model.node().clone());
        let mut pending = lock(&self.pending);
        let name = |object: api::Object| (object.namespace().to_owned(), object.name().to_owned());
        pending.services.extend(self.informers.list(&SERVICE, None).into_iter().map(name));
        pending.slices.extend(self.informers.list(&ENDPOINT_SLICE, None).into_iter().map(name));
        pending.host_ports = Some(lock(&self.host_ports).clone());
        drop(pending);
        if let Some(followed) = &self.policies {
            let on = followed.is_on() || followed.had_policies();
            self.tell_policies(Some(on), followed.everything());
        }
    }

    fn reload(&self, why: &'static str) {
        lock(&self.pending).reload = Some(why);
        self.wake.notify(usize::MAX);
    }

    /// Applies what is pending; blocks for the transaction's time. An error says that the kernel's
    /// table is not the model's now.
    fn step(&self) -> Result<()> {
        let pending = std::mem::take(&mut *lock(&self.pending));
        let (asked, old_done) = (pending.asked, pending.done);
        {
            let mut now = lock(&self.pending);
            now.asked = now.asked.max(asked);
            now.done = now.done.max(old_done);
        }
        let mut state = lock(&self.state);
        let (changes, udp, health, forbids) = {
            let mut model = lock(&self.model);
            self.feed(&mut model, &pending);
            let changes = model.changes();
            (
                changes,
                model.take_changed_udp(),
                model.health_checks(),
                model.take_policies_changed(),
            )
        };
        if let Some(why) = pending.reload {
            log::info!("rules: loading all, {why}");
            state.loaded = false;
        }
        let result = match state.loaded {
            true => state.rules.apply(&changes),
            false => {
                let table = lock(&self.model).table();
                state.rules.replace(&table)
            }
        };
        state.loaded = result.is_ok();
        if self.policies.is_some() && (pending.local_pods || pending.policies.switch.is_some()) {
            let is_on = lock(&self.model).has_policies();
            state.guard.set(is_on.then(|| lock(&self.local_pods).ends.clone()).as_ref());
        }
        let health_changed = state.health != health;
        state.health = health;
        drop(state);
        if health_changed {
            self.health_changed.notify(usize::MAX);
        }
        if result.is_ok() {
            lock(&self.pending).done = asked;
        }
        self.applied.notify(usize::MAX);
        // Nobody waits for this: the kernel looks through its whole table, which may be large.
        if !udp.is_empty() && result.is_ok() {
            match conntrack::forget_stale(&udp) {
                Ok(0) => {}
                Ok(n) => log::debug!("rules: forgot {n} stale UDP connections"),
                Err(error) => log::warn!("forget stale UDP connections: {error}"),
            }
        }
        if forbids && result.is_ok() {
            self.forget_forbidden();
        }
        result
    }

    /// Forgets those connections without an end of their own that policies do not allow any more. Of the others each
    /// packet is judged.
    fn forget_forbidden(&self) {
        let mut all = match conntrack::of_udp(&lock(&self.model).node().pod_cidrs.clone()) {
            Ok(all) => all,
            Err(error) => return log::warn!("list connections that policies may end: {error}"),
        };
        let ends = |c: &wire::conntrack::Connection| -> (Protocol, IpAddr, SocketAddr) {
            (Protocol::Udp, c.source.ip(), c.reply_source)
        };
        lock(&self.model).retain_forbidden(&mut all, ends);
        match conntrack::forget(&all) {
            Ok(()) if all.is_empty() => {}
            Ok(()) => log::debug!("network policies: ended {} UDP connections", all.len()),
            Err(error) => log::warn!("end connections that policies forbid: {error}"),
        }
    }

    /// Brings the model up to date with the caches.
    fn feed(&self, model: &mut Model, pending: &Pending) {
        feed(model, &self.informers, pending);
        if let Some(followed) = &self.policies {
            followed.feed(model, &pending.policies);
        }
        if pending.local_pods || pending.policies.switch == Some(true) {
            model.set_local_pods(&lock(&self.local_pods).names);
        }
    }

    fn idle(&self) -> bool {
        let pending = lock(&self.pending);
        pending.services.is_empty()
            && pending.slices.is_empty()
            && pending.host_ports.is_none()
            && pending.addresses.is_none()
            && pending.zone.is_none()
            && !pending.local_pods
            && pending.policies.is_empty()
            && pending.reload.is_none()
    }
}

/// Says which other firewall will stand in pods' way, and what it must let through.
fn warn_of_foreign_drops(rules: &mut Rules, node: &NodeInfo) {
    let blocks: Vec<String> = node.cluster_cidrs.iter().map(ToString::to_string).collect();
    match rules.foreign_drops() {
        Ok(chains) => {
            for chain in chains {
                log::warn!(
                    "the firewall chain {} of table {} drops what it does not know: it must accept {}                      (and node ports), or pods cannot talk",
                    chain.name,
                    chain.table,
                    blocks.join(", ")
                );
            }
        }
        Err(error) => log::warn!("{error}"),
    }
}

/// Brings the services up to date.
fn feed(model: &mut Model, informers: &Informers, pending: &Pending) {
    for (namespace, name) in &pending.services {
        match informers.get(&SERVICE, namespace, name) {
            Some(object) => model.set_service(&object.tree()),
            None => model.remove_service(namespace, name),
        }
    }
    for (namespace, name) in &pending.slices {
        match informers.get(&ENDPOINT_SLICE, namespace, name) {
            Some(object) => model.set_slice(&object.tree()),
            None => model.remove_slice(namespace, name),
        }
    }
    if let Some(host_ports) = &pending.host_ports {
        model.set_host_ports(host_ports.clone());
    }
    if let Some(addresses) = &pending.addresses {
        model.set_addresses(addresses.clone());
    }
    if let Some(zone) = &pending.zone {
        model.set_zone(zone.clone());
    }
}

/// Waits for the objects, loads the table, then follows changes for as long as the proxy lives.
pub(crate) async fn run(weak: Weak<Proxy>) {
    {
        let Some(informers) = weak.upgrade().map(|proxy| proxy.informers.clone()) else { return };
        informers.synced(&[&SERVICE, &ENDPOINT_SLICE]).await;
    }
    // Rules of an earlier run know which pods were shut: they stay until these do, too.
    loop {
        let Some(proxy) = weak.upgrade() else { return };
        let applied = proxy.applied.listen();
        if proxy.policies_known.load(Ordering::Relaxed) {
            break;
        }
        drop(proxy);
        applied.await;
    }
    if let Some(proxy) = weak.upgrade() {
        if proxy.n_runs.fetch_add(1, Ordering::Relaxed) > 0 {
            proxy.begin_anew();
        }
        proxy.reload("services and endpoints are known");
    }
    let mut failures = 0;
    loop {
        let Some(proxy) = weak.upgrade() else { return };
        let woken = proxy.wake.listen();
        if proxy.idle() {
            drop(proxy);
            woken.await;
            continue;
        }
        let began = rt::now().mono;
        let result = rt::unblock(move || {
            let result = proxy.step();
            proxy.took.observe(rt::now().mono.since(began));
            result
        })
        .await;
        match result {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                log::warn!("rules: {error}; loading all again");
                rt::sleep(RETRY.delay(failures)).await;
                if let Some(proxy) = weak.upgrade() {
                    proxy.reload("after an error");
                }
            }
        }
    }
}

/// Watches for changes of our table that are not ours (`nft flush ruleset` and the like).
pub(crate) async fn guard(weak: Weak<Proxy>) {
    let socket = Netlink::subscribe(Family::Netfilter, 0)
        .and_then(|socket| socket.join(nft::GROUP_NFTABLES).map(|()| socket))
        .and_then(Async::new);
    let socket = match socket.context(|| "follow changes of nftables") {
        Ok(socket) => socket,
        Err(error) => return log::warn!("{error}; foreign changes will not be seen"),
    };
    let mut buf = Vec::new();
    const ENOBUFS: i32 = 105;
    const SETTLE: Duration = Duration::from_millis(50);
    loop {
        let received = socket.read_with(|socket| socket.receive(&mut buf)).await;
        let Some(proxy) = weak.upgrade() else { return };
        let foreign = match received {
            Ok(()) => is_foreign(&buf, proxy.own_port),
            // Our own large batches overflow the socket: look whether all is well.
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => {
                while socket.get_ref().receive(&mut buf).is_ok() {}
                let checked = proxy.clone();
                lock(&proxy.state).loaded && rt::unblock(move || checked.check()).await.is_err()
            }
            Err(error) => {
                log::warn!("follow changes of nftables: {error}");
                rt::sleep(RETRY.first).await;
                false
            }
        };
        if foreign {
            // What others do in several steps is answered once.
            rt::sleep(SETTLE).await;
            while socket.get_ref().receive(&mut buf).is_ok() {}
            proxy.reload("someone changed the table inet k3rs");
        }
    }
}

fn is_foreign(buf: &[u8], own: u32) -> bool {
    wire::netlink::messages(buf).flatten().any(|message| {
        message.port != own
            && nft::parse_event(&message) == nft::Event::Table(netplan::table::TABLE)
    })
}
