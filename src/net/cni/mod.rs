//! Pods' networks by somebody else's CNI plugins (`--flannel-backend=none`).
//!
//! As containerd does it: of the configured networks the first counts, its plugins are called one after the other when a
//! pod comes and the other way round when it goes. Nothing is asked while nothing changes, but a network of CNI 1.1 whether
//! it is ready.

mod answer;
mod attached;
mod call;
mod config;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

pub(crate) use answer::failure;
use attached::{Attached, Known};
use call::{INTERFACE, Subject, call};
use config::Network;
pub(crate) use config::{is_name, version};
use serde_json::{Value, json};
use stdx::{Context, Error, Result};

use crate::kernel::Links;
use crate::pods::{HostPortTarget, LocalPods};
use crate::{PodInterface, PodRequest, lock};

/// Where plugins and their configuration are.
#[derive(Clone, Debug)]
pub struct Plugins {
    /// Directories of configuration; of the first that has any, the first file counts.
    pub configurations: Vec<PathBuf>,
    /// Directories of programs (`CNI_PATH`).
    pub programs: Vec<PathBuf>,
    /// Where plugins find other programs (`PATH`).
    pub search_path: String,
    /// Ours: a file for each pod that has a network.
    pub attached: PathBuf,
}

/// The networks that plugins gave to pods.
#[derive(Debug)]
pub(crate) struct Cni {
    plugins: Plugins,
    /// Where namespaces are kept: a plugin must find what it is told about, and not another's of the same process number.
    netns_directory: PathBuf,
    ipv6_first: bool,
    state: Mutex<State>,
    changed: rt::Event,
}

#[derive(Debug, Default)]
struct State {
    network: Option<Arc<Network>>,
    /// Why pods get no network now.
    problem: Option<String>,
    known: Known,
}

/// As containerd words it.
const UNINITIALIZED: &str = "cni plugin not initialized";

impl Cni {
    /// Reads what the last run left, and the configuration that there is.
    pub(crate) fn open(plugins: Plugins, config: &crate::Config) -> Result<Cni> {
        for directory in &plugins.configurations {
            // On a root that is read-only there is nothing to come, either.
            if let Err(error) = rt::fs::create_dir_all(directory, 0o700) {
                log::debug!("{error}");
            }
        }
        let known = attached::read(&plugins.attached)?;
        let problem = Some(UNINITIALIZED.to_owned());
        let cni = Cni {
            plugins,
            netns_directory: config.netns_directory.clone(),
            ipv6_first: config.cluster_cidrs.first().is_some_and(|cidr| !cidr.is_ipv4()),
            state: Mutex::new(State { network: None, problem, known }),
            changed: rt::Event::new(),
        };
        cni.load();
        Ok(cni)
    }

    /// Why pods get no network now, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        lock(&self.state).problem.clone()
    }

    /// Completes at the next change of [`Cni::problem`] from this call on.
    pub(crate) fn changed(&self) -> rt::EventListener {
        self.changed.listen()
    }

    pub(crate) async fn add(&self, request: &PodRequest) -> Result<PodInterface> {
        let id = &request.sandbox_id;
        if !is_name(id) {
            return Err(Error::new(format!("add a pod's network: {id:?} is no id of a sandbox")));
        }
        let known = lock(&self.state).known.get(id).map(|attached| attached.result.is_some());
        match known {
            Some(true) => return Ok(shown(self.addresses_of(id))),
            // What was begun is taken back, for nobody knows how far it came.
            Some(false) => self.remove(id).await?,
            None => {}
        }
        let network = lock(&self.state).network.clone().context(|| UNINITIALIZED)?;
        let of_pod = of_pod(request);
        let by_plugin = network.wants("portMappings");
        let mut attached = Attached {
            pod: format!("{}/{}", request.namespace, request.name),
            uid: request.uid.clone(),
            network: (*network).clone(),
            of_pod,
            host_ports: if by_plugin { Vec::new() } else { request.host_ports.clone() },
            result: None,
            addresses: Vec::new(),
        };
        self.remember(id, &attached).await?;
        let (from, to) = (request.netns.clone(), self.kept(id));
        let made = async {
            rt::unblock(move || {
                sys::netns::keep(&from, &to)?;
                const LOOPBACK: u32 = 1;
                Links::open_in(&rt::fs::open(&to)?)?.set_up(LOOPBACK, "lo")
            })
            .await?;
            let result = self.ask("ADD", id, &attached).await?.context(|| "no plugin answered")?;
            let addresses = answer::addresses(&result, INTERFACE, self.ipv6_first)?;
            attached = Attached { result: Some(result), addresses, ..attached.clone() };
            self.remember(id, &attached).await
        };
        match made.await {
            Ok(()) => Ok(shown(self.addresses_of(id))),
            Err(error) => {
                if let Err(error) = self.remove(id).await {
                    log::warn!("sandbox {id}: undo a failed set-up of its network: {error}");
                }
                Err(error)
            }
        }
    }

    /// Has the plugins take back what they gave. What they refuse is tried again at the next call, or the next start.
    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        let Some(attached) = lock(&self.state).known.get(id).cloned() else { return Ok(()) };
        self.ask("DEL", id, &attached).await?;
        let (netns, file) = (self.kept(id), self.plugins.attached.join(id));
        rt::unblock(move || {
            sys::netns::delete(&netns)?;
            rt::fs::remove_file(&file)
        })
        .await?;
        lock(&self.state).known.remove(id);
        Ok(())
    }

    /// The sandboxes that have a network and are not in `live`.
    pub(crate) fn gone(&self, live: &[String]) -> Vec<String> {
        lock(&self.state).known.keys().filter(|id| !live.contains(id)).cloned().collect()
    }

    /// Takes back what those have that are gone.
    pub(crate) async fn forget(&self, gone: Vec<String>) {
        for id in gone {
            log::info!("sandbox {id}: gone, its network is taken back");
            if let Err(error) = self.remove(&id).await {
                log::warn!("sandbox {id}: {error}");
            }
        }
    }

    /// Says which pods' networks are not as plugins made them.
    pub(crate) async fn check(&self) {
        let known = lock(&self.state).known.clone();
        for (id, attached) in known {
            let network = &attached.network;
            if attached.result.is_none() || network.unchecked || !network.follows(0, 4) {
                continue;
            }
            if let Err(error) = self.ask("CHECK", &id, &attached).await {
                log::warn!("pod {}: {error}", attached.pod);
            }
        }
    }

    pub(crate) fn addresses_of(&self, id: &str) -> Vec<IpAddr> {
        let state = lock(&self.state);
        state.known.get(id).map(|attached| attached.addresses.clone()).unwrap_or_default()
    }

    /// Which pod has which address. What leads to it is the plugins' to know.
    pub(crate) fn local(&self) -> LocalPods {
        let mut local = LocalPods::default();
        for attached in lock(&self.state).known.values() {
            let Some((namespace, name)) = attached.pod.split_once('/') else { continue };
            let names = attached.addresses.iter().map(|ip| (*ip, (namespace.into(), name.into())));
            local.names.extend(names);
        }
        local
    }

    /// The host ports that no plugin serves.
    pub(crate) fn host_ports(&self) -> Vec<HostPortTarget> {
        let state = lock(&self.state);
        let all = state.known.values().flat_map(|attached| {
            attached.host_ports.iter().map(|port| (port, attached.addresses.as_slice()))
        });
        all.flat_map(|(port, addresses)| crate::pods::targets(port, addresses)).collect()
    }

    fn kept(&self, id: &str) -> PathBuf {
        self.netns_directory.join(format!("cni-{id}"))
    }

    async fn remember(&self, id: &str, attached: &Attached) -> Result<()> {
        let (directory, name, written) =
            (self.plugins.attached.clone(), id.to_owned(), attached.clone());
        rt::unblock(move || written.write(&directory, &name)).await?;
        lock(&self.state).known.insert(id.to_owned(), attached.clone());
        Ok(())
    }

    /// Calls all plugins of a pod's network, and gives what the last one answered.
    async fn ask(&self, command: &str, id: &str, attached: &Attached) -> Result<Option<Value>> {
        let kept = self.kept(id);
        let subject = Subject {
            id: id.to_owned(),
            pod: attached.pod.clone(),
            uid: attached.uid.clone(),
            netns: if sys::netns::is_one(&kept) { kept } else { PathBuf::new() },
        };
        let network = &attached.network;
        let mut plugins: Vec<&Value> = network.plugins.iter().collect();
        // What is taken back, and what is looked at, is that which all of them made.
        let mut before = attached.result.clone().filter(|_| network.follows(0, 4));
        match command {
            "ADD" => before = None,
            "DEL" => plugins.reverse(),
            _ => {}
        }
        let mut last = None;
        for plugin in plugins {
            let told = network.told(plugin, before.as_ref(), &attached.of_pod);
            let asked = call(command, (network, plugin), &told, Some(&subject), &self.plugins);
            let answer = asked.await?;
            if command == "ADD" && answer.is_some() {
                before.clone_from(&answer);
                last = answer;
            }
        }
        Ok(last)
    }

    /// Reads the configuration that there is now.
    fn load(&self) {
        let (network, wrong) = config::find(&self.plugins.configurations);
        for why in wrong {
            log::warn!("CNI: {why}");
        }
        let old = lock(&self.state).network.clone();
        if old.as_deref() == network.as_ref() {
            return;
        }
        match &network {
            Some(network) => log::info!("CNI: pods that come get the network {:?}", network.name),
            None => log::warn!("CNI: there is no configuration any more"),
        }
        // Of others [`Cni::look`] says whether they are ready.
        let is_settled = network.as_ref().is_none_or(|network| !network.follows(1, 1));
        let problem = network.is_none().then(|| UNINITIALIZED.to_owned());
        lock(&self.state).network = network.map(Arc::new);
        if is_settled {
            self.say(problem);
        }
    }

    /// Asks the plugins of a network that can tell whether they are ready.
    async fn look(&self) {
        let network = lock(&self.state).network.clone();
        let Some(network) = network.filter(|network| network.follows(1, 1)) else { return };
        let mut problem = None;
        for plugin in &network.plugins {
            let told = network.told(plugin, None, &Value::Null);
            let asked = call("STATUS", (&network, plugin), &told, None, &self.plugins);
            if let Err(error) = asked.await {
                problem = Some(error.to_string());
                break;
            }
        }
        self.say(problem);
    }

    fn say(&self, problem: Option<String>) {
        let mut state = lock(&self.state);
        if state.problem != problem {
            state.problem = problem;
            drop(state);
            self.changed.notify(usize::MAX);
        }
    }

    /// When the plugins are to be asked again whether they are ready; `None`: they cannot tell.
    fn next_look(&self) -> Option<Duration> {
        let state = lock(&self.state);
        let asks = state.network.as_ref().is_some_and(|network| network.follows(1, 1));
        let wait = if state.problem.is_some() { 5 } else { 60 };
        asks.then_some(Duration::from_secs(wait))
    }
}

/// Follows the configuration for as long as `cni` lives.
pub(crate) async fn follow(weak: Weak<Cni>) {
    /// A file is written in several steps.
    const SETTLE: Duration = Duration::from_millis(100);
    const REST: Duration = Duration::from_secs(10);
    let watch = rt::FileWatch::new();
    let Some(cni) = weak.upgrade() else { return };
    for directory in &cni.plugins.configurations {
        if let Err(error) = watch.add(directory) {
            log::info!("CNI: changes there will not be seen: {error}");
        }
    }
    drop(cni);
    loop {
        let Some(cni) = weak.upgrade() else { return };
        let loading = cni.clone();
        rt::unblock(move || loading.load()).await;
        cni.look().await;
        let again = cni.next_look();
        drop(cni);
        let changes = async {
            if let Err(error) = watch.changed().await {
                log::warn!("CNI: {error}");
                rt::sleep(REST).await;
            }
            rt::sleep(SETTLE).await;
        };
        let asks = async {
            match again {
                Some(wait) => rt::sleep(wait).await,
                None => rt::future::pending().await,
            }
        };
        rt::future::or(changes, asks).await;
    }
}

fn shown(addresses: Vec<IpAddr>) -> PodInterface {
    PodInterface {
        addresses,
        interface: INTERFACE.to_owned(),
        host_interface: String::new(),
        mac: [0; 6],
    }
}

/// What plugins may ask for, by the names that containerd has for it.
fn of_pod(request: &PodRequest) -> Value {
    let mut all = serde_json::Map::new();
    if !request.host_ports.is_empty() {
        let one = |port: &crate::HostPort| {
            json!({
                "hostPort": port.host_port, "containerPort": port.container_port,
                "protocol": port.protocol.lower(),
                "hostIP": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            })
        };
        all.insert("portMappings".into(), request.host_ports.iter().map(one).collect());
    }
    let (ingress, egress) = (request.ingress_bits_per_sec, request.egress_bits_per_sec);
    if ingress != 0 || egress != 0 {
        let mut rates = serde_json::Map::new();
        let limits = [("ingress", ingress), ("egress", egress)];
        for (name, rate) in limits.into_iter().filter(|(_, rate)| *rate != 0) {
            rates.insert(format!("{name}Rate"), rate.into());
            rates.insert(format!("{name}Burst"), i32::MAX.into());
        }
        all.insert("bandwidth".into(), rates.into());
    }
    all.into()
}

/// Has the plugins take back all that they gave; for uninstall.
pub(crate) async fn teardown(plugins: Plugins, config: &crate::Config) -> Result<()> {
    let cni = Cni::open(plugins, config)?;
    cni.forget(cni.gone(&[])).await;
    rt::fs::remove_dir_all(&cni.plugins.attached)
}
