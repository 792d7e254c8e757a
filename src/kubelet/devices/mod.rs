//! Devices that plugins on this node offer: which there are, and which container has which.
//!
//! A plugin is another program: it may hang, lie or be gone. What it says is bounded in size and number, each call has
//! its time, and nobody waits for a plugin but the pod that asks for its devices. What a pod got is in its
//! directory before any container of it starts, so a restart of the kubelet gives no device away twice.

mod allocate;
mod plugin;
mod resources;

pub(crate) use allocate::allocate;
pub(crate) use plugin::register;
pub(crate) use resources::answer;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtime::Device;
use stdx::{Context, OrdMap, Result};
use wire::message::Message;
use wire::plugins::{Holding, Holdings, PluginOptions, Topology};

/// Resources that plugins may offer on one node.
const RESOURCES_MAX: usize = 64;
/// A message of a plugin, and the repeated items in it.
const MESSAGE_MAX_BYTES: usize = 4 << 20;
pub(crate) const ITEMS_MAX: usize = 16 << 10;
/// What a pod got, in its directory.
const FILE: &str = "devices";
/// Names of the resources that there were, in the agent's directory: until a plugin comes again there are none of them.
const RESOURCES_FILE: &str = "device-resources";

/// All devices of the node.
#[derive(Debug)]
pub(crate) struct Devices {
    /// Below it are the directories of sockets.
    root: PathBuf,
    agent_directory: PathBuf,
    state: Mutex<State>,
    /// One pod after the other chooses.
    choosing: rt::lock::Mutex<()>,
    /// The Node's amounts are others.
    pub changed: rt::Event,
}

#[derive(Debug, Default)]
struct State {
    offers: OrdMap<String, Offer>,
    /// What pods have, by uid.
    held: OrdMap<String, Vec<Holding>>,
}

/// A resource, with who offers it.
#[derive(Debug, Default)]
struct Offer {
    /// `None` until its plugin has come.
    plugin: Option<plugin::Plugin>,
    options: PluginOptions,
    devices: OrdMap<String, Offered>,
    /// Follows the plugin; ends with the offer.
    follower: Option<rt::Task<()>>,
    /// Which registration it is.
    turn: u64,
}

/// One device as its plugin says it is.
#[derive(Debug)]
struct Offered {
    is_healthy: bool,
    topology: Option<Topology>,
}

/// What a container's devices add to it.
#[derive(Debug, Default)]
pub(crate) struct Added {
    pub environment: Vec<(String, String)>,
    pub devices: Vec<Device>,
    /// Paths of the host, those in the container, and whether these are read-only.
    pub mounts: Vec<(String, String, bool)>,
    pub annotations: Vec<(String, String)>,
}

impl Devices {
    /// With what an earlier kubelet gave away. Blocking.
    pub(crate) fn open(root: &Path, agent_directory: &Path) -> Devices {
        let mut state = State::default();
        let names = rt::fs::read_small_text(agent_directory.join(RESOURCES_FILE));
        for name in names.unwrap_or_default().lines().take(RESOURCES_MAX) {
            state.offers.insert(name.to_owned(), Offer::default());
        }
        for path in rt::fs::list_dir(agent_directory.join("pods")).unwrap_or_default() {
            let Some(uid) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let kept = rt::fs::read_record(path.join(FILE), MESSAGE_MAX_BYTES as u64);
            let Ok(Some(bytes)) = kept else { continue };
            match Holdings::decode(&bytes, ITEMS_MAX) {
                Ok(kept) => drop(state.held.insert(uid.to_owned(), kept.all)),
                Err(error) => log::warn!("devices of pod {uid}: {error}"),
            }
        }
        Devices {
            root: root.to_owned(),
            agent_directory: agent_directory.to_owned(),
            state: Mutex::new(state),
            choosing: rt::lock::Mutex::new(()),
            changed: rt::Event::new(),
        }
    }

    /// Changed in single steps, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each resource, with how many devices there are of it, and how many of them are well.
    pub(crate) fn amounts(&self) -> Vec<(String, usize, usize)> {
        let state = self.state();
        let amount = |(name, offer): (&String, &Offer)| {
            let n_healthy = offer.devices.values().filter(|device| device.is_healthy).count();
            (name.clone(), offer.devices.len(), n_healthy)
        };
        state.offers.iter().map(amount).collect()
    }

    /// What a container gets for its devices; its plugins are told that it starts, if they want to be.
    ///
    /// # Errors
    /// What a plugin says, and what it wants that is not done here.
    pub(crate) async fn start(&self, uid: &str, container: &str) -> Result<Added, String> {
        let held: Vec<Holding> = match self.state().held.get(uid) {
            Some(held) => held.iter().filter(|one| one.container == container).cloned().collect(),
            None => return Ok(Added::default()),
        };
        let mut added = Added::default();
        for holding in held {
            self.tell_start(&holding).await?;
            let gets = holding.gets;
            if let Some(device) = gets.cdi_devices.first() {
                return Err(format!(
                    "{} gives the CDI device {:?}: CDI is not supported by k3rs",
                    holding.resource, device.name
                ));
            }
            added.environment.extend(gets.envs);
            added.annotations.extend(gets.annotations);
            added.mounts.extend(
                gets.mounts.into_iter().map(|it| (it.host_path, it.container_path, it.read_only)),
            );
            added.devices.extend(gets.devices.into_iter().map(|it| Device {
                host_path: it.host_path.into(),
                container_path: it.container_path,
                permissions: it.permissions,
            }));
        }
        Ok(added)
    }

    /// Keeps the names of the resources for whoever comes after a restart. Blocking.
    fn keep_names(&self) -> Result<()> {
        let names: String = self.state().offers.keys().map(|name| format!("{name}\n")).collect();
        let path = self.agent_directory.join(RESOURCES_FILE);
        rt::fs::write_atomic(&path, names.as_bytes(), 0o600)
            .context(|| "remember the names of devices")
    }
}
