//! What everybody shares: the table in use with what belongs to it, replaced as a whole.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use http::server::Server;
use routes::{Share, Table, Target};
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
    /// Whose turn it is among weighted services, one for each of the table's lists.
    turns: Vec<AtomicUsize>,
}

impl Live {
    /// The service that a request of a route goes to, with the numbers of middlewares on the way to it.
    ///
    /// # Errors
    /// The code that it is answered with.
    pub(crate) fn service(&self, target: Target) -> Result<(&Arc<Upstream>, &[usize]), u16> {
        let (number, middlewares) = match target {
            Target::Service(number) => (number, &[][..]),
            Target::Weighted(number) => {
                let share = self.share(number).ok_or(503_u16)?;
                (share.service.ok_or(500_u16)?, share.middlewares.as_slice())
            }
            Target::Status(code) => return Err(code),
        };
        Ok((self.upstreams.get(number).ok_or(503_u16)?, middlewares))
    }

    fn share(&self, number: usize) -> Option<&Share> {
        let (shares, turns) = (self.table.weighted.get(number)?, self.turns.get(number)?);
        let total: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
        let turn = turns.fetch_add(1, Ordering::Relaxed) as u64;
        // Turns are dealt out by a stride that is prime, so that shares mix.
        let mut left = turn.wrapping_mul(7919).checked_rem(total)?;
        shares.iter().find(|share| {
            let weight = u64::from(share.weight);
            let found = left < weight;
            left = left.saturating_sub(weight);
            found
        })
    }
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) figures: Figures,
    live: RwLock<Arc<Live>>,
    chooser: Arc<Chooser>,
    pub(crate) transports: Transports,
    servers: OnceLock<(Server, Server)>,
    /// Copies of requests under way to mirrors.
    pub(crate) n_mirrored: Arc<AtomicUsize>,
    ready: AtomicBool,
    ending: AtomicBool,
    /// Traffic of services that were there once, so that counters never go back; by name.
    traffic: Mutex<stdx::OrdMap<String, Arc<Traffic>>>,
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
            n_mirrored: Arc::default(),
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
        let old_upstreams: HashMap<&str, &Arc<Upstream>> =
            before.upstreams.iter().map(|old| (old.service.name.as_str(), old)).collect();
        let old_guards: HashMap<&str, &Arc<Guard>> =
            before.guards.iter().map(|old| (old.name.as_str(), old)).collect();
        let upstreams = table.services.iter().map(|service| {
            let old = old_upstreams.get(service.name.as_str()).copied();
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
            let old = old_guards.get(name.as_str()).copied();
            let old = old.filter(|old| Arc::ptr_eq(&old.middleware, middleware));
            old.map_or_else(|| Arc::new(Guard::new(name, middleware)), Arc::clone)
        });
        let (upstreams, guards) = (upstreams.collect(), guards.collect());
        let turns = table.weighted.iter().map(|_| AtomicUsize::new(0)).collect();
        let live = Arc::new(Live { upstreams, guards, turns, table });
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
