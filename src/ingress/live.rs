//! What everybody shares: the table in use with what belongs to it, replaced as a whole.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use http::server::Server;
use routes::{Table, Target};
use stdx::Result;

use crate::certificates::{Certificates, Chooser};
use crate::figures::{Figures, Traffic};
use crate::flags::Options;
use crate::guard::Guard;
use crate::upstream::{Transports, Upstream};

/// A table with its services as they are reached.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) table: Table,
    /// One for each of the table's services.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// One for each of the table's middlewares.
    pub(crate) guards: Vec<Arc<Guard>>,
    /// Whose turn it is among weighted services.
    turns: AtomicUsize,
}

impl Live {
    /// The service that a request of a route goes to.
    pub(crate) fn service(&self, target: Target) -> Option<&Arc<Upstream>> {
        let number = match target {
            Target::Service(number) => number,
            Target::Weighted(number) => {
                let shares = self.table.weighted.get(number)?;
                let total: u64 = shares.iter().map(|(weight, _)| u64::from(*weight)).sum();
                let turn = self.turns.fetch_add(1, Ordering::Relaxed) as u64;
                // Turns are dealt out by a stride that is prime, so that shares mix.
                let mut left = turn.wrapping_mul(7919).checked_rem(total)?;
                shares.iter().find_map(|(weight, service)| {
                    let weight = u64::from(*weight);
                    if left < weight {
                        return Some(*service);
                    }
                    left -= weight;
                    None
                })?
            }
        };
        self.upstreams.get(number)
    }
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) figures: Figures,
    live: RwLock<Arc<Live>>,
    chooser: Arc<Chooser>,
    transports: Transports,
    servers: OnceLock<(Server, Server)>,
    ready: AtomicBool,
    ending: AtomicBool,
    /// Traffic of services that were there once, so that counters never go back; by name.
    traffic: Mutex<std::collections::BTreeMap<String, Arc<Traffic>>>,
    /// A new table is in use.
    pub(crate) changed: rt::Event,
}

/// Services whose traffic is remembered.
const SERVICES_MAX: usize = 16 << 10;

impl Shared {
    pub(crate) fn new(options: Options) -> Result<Arc<Shared>> {
        Ok(Arc::new(Shared {
            options,
            figures: Figures::default(),
            live: RwLock::default(),
            chooser: Arc::new(Chooser::new()?),
            transports: Transports::new()?,
            servers: OnceLock::new(),
            ready: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            traffic: Mutex::default(),
            changed: rt::Event::new(),
        }))
    }

    pub(crate) fn chooser(&self) -> Arc<Chooser> {
        Arc::clone(&self.chooser)
    }

    /// What is in use now.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a table and its certificates in use. Requests that began go on with what they found.
    pub(crate) fn publish(&self, table: Table, certificates: Certificates) {
        let before = self.live();
        let upstreams = table.services.iter().map(|service| {
            let old = before.upstreams.iter().find(|old| old.is_of(service));
            match old {
                Some(old) if old.service == *service => Arc::clone(old),
                old => {
                    let traffic = self.traffic(&service.name);
                    Arc::new(Upstream::new(
                        service,
                        old.map(|old| &**old),
                        &self.transports,
                        traffic,
                    ))
                }
            }
        });
        let guards = table.middlewares.iter().map(|(name, middleware)| {
            let same =
                |old: &&Arc<Guard>| old.name == *name && Arc::ptr_eq(&old.middleware, middleware);
            let old = before.guards.iter().find(same);
            old.map_or_else(|| Arc::new(Guard::new(name, middleware)), Arc::clone)
        });
        let (upstreams, guards) = (upstreams.collect(), guards.collect());
        let live = Arc::new(Live { upstreams, guards, turns: AtomicUsize::new(0), table });
        self.chooser.replace(certificates);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
        self.figures.reloaded();
        if !self.ready.swap(true, Ordering::AcqRel) {
            log::info!("The first table of routes is in use");
        }
        self.changed.notify(usize::MAX);
    }

    fn traffic(&self, name: &str) -> Arc<Traffic> {
        let mut known = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SERVICES_MAX {
            // Those that nobody counts any more.
            known.retain(|_, traffic| Arc::strong_count(traffic) > 1);
        }
        Arc::clone(known.entry(name.to_owned()).or_default())
    }

    /// The traffic of each service, by name.
    pub(crate) fn all_traffic(&self) -> Vec<(String, Arc<Traffic>)> {
        let known = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, traffic)| (name.clone(), Arc::clone(traffic))).collect()
    }

    /// For the figures: whose connections are counted.
    pub(crate) fn count_connections(&self, web: Server, secure: Server) {
        let _ = self.servers.set((web, secure));
    }

    /// Connections open at `web` and `websecure`.
    pub(crate) fn n_connections(&self) -> (usize, usize) {
        self.servers
            .get()
            .map_or((0, 0), |(web, secure)| (web.n_connections(), secure.n_connections()))
    }

    /// Whether there is a table, and no end in sight.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.is_ending()
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}
