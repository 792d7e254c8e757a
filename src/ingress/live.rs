//! What everybody shares: the table in use with what belongs to it, replaced as a whole.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use http::tls::Choose;
use routes::{Entry, Share, Table, Target, TcpRouter, TlsOptions};
use stdx::Result;

use crate::certificates::{Certificates, Chooser, Nobody, Strict};
use crate::figures::{Figures, Traffic};
use crate::flags::Options;
use crate::guard::Guard;
use crate::tcp::{Spoken, TcpGuard, TcpUpstream};
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
    /// The same of connections, one for each route.
    tcp_turns: Vec<AtomicUsize>,
    udp_turns: Vec<AtomicUsize>,
    /// One for each of the table's services, and middlewares, of connections.
    tcp_upstreams: Vec<Arc<TcpUpstream>>,
    pub(crate) tcp_guards: Vec<Arc<TcpGuard>>,
    /// One for each of the table's options.
    pub(crate) spoken: Vec<Spoken>,
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
        shares.get(deal(shares.iter().map(|share| share.weight), turns)?)
    }

    /// The service that a connection of a route goes to.
    pub(crate) fn tcp_upstream(&self, router: &TcpRouter) -> Option<Arc<TcpUpstream>> {
        self.shared_out(&router.shares, self.tcp_turns.get(router.number)?)
    }

    /// The service that a new session of an entry point goes to.
    pub(crate) fn udp_upstream(&self, entry: Entry) -> Option<Arc<TcpUpstream>> {
        let number = self.table.find_udp(entry)?;
        self.shared_out(&self.table.udp()[number].shares, self.udp_turns.get(number)?)
    }

    fn shared_out(&self, shares: &[(u32, usize)], turns: &AtomicUsize) -> Option<Arc<TcpUpstream>> {
        let (_, number) = shares.get(deal(shares.iter().map(|(weight, _)| *weight), turns)?)?;
        self.tcp_upstreams.get(*number).map(Arc::clone)
    }

    /// Whether sessions of an entry point may be with an endpoint.
    pub(crate) fn leads_to(&self, entry: Entry, host: &str, port: u16) -> bool {
        let Some(number) = self.table.find_udp(entry) else { return false };
        let services = self.table.udp()[number].shares.iter();
        let mut services = services.filter_map(|(_, number)| self.table.tcp_services.get(*number));
        services.any(|to| to.endpoints.iter().any(|it| it.host == host && it.port == port))
    }
}

/// Whose turn it is among those with these weights; `None` if all are 0.
fn deal(weights: impl Iterator<Item = u32> + Clone, turns: &AtomicUsize) -> Option<usize> {
    let total: u64 = weights.clone().map(u64::from).sum();
    let turn = turns.fetch_add(1, Ordering::Relaxed) as u64;
    // Turns are dealt out by a stride that is prime, so that shares mix.
    let mut left = turn.wrapping_mul(7919).checked_rem(total)?;
    weights.map(u64::from).into_iter().position(|weight| {
        let found = left < weight;
        left = left.saturating_sub(weight);
        found
    })
}

/// What is open at an entry point now, and in which protocol.
pub(crate) struct Open {
    pub(crate) protocol: &'static str,
    pub(crate) count: Box<dyn Fn() -> usize + Send + Sync>,
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) figures: Figures,
    live: RwLock<Arc<Live>>,
    chooser: Arc<Chooser>,
    pub(crate) transports: Transports,
    /// How TLS is spoken without options, and with those that cannot be used: every handshake fails.
    pub(crate) spoken: Spoken,
    nobody: Spoken,
    open: OnceLock<Vec<Open>>,
    /// Copies of requests under way to mirrors.
    pub(crate) n_mirrored: Arc<AtomicUsize>,
    ready: AtomicBool,
    ending: AtomicBool,
    /// Traffic of services that were there once, so that counters never go back; by name.
    traffic: Mutex<stdx::OrdMap<String, Arc<Traffic>>>,
    /// A new table is in use.
    pub(crate) changed: rt::Event,
}

/// TLS sessions that can be resumed.
const SESSIONS_MAX: usize = 1024;
/// Services whose traffic is remembered.
const SERVICES_MAX: usize = 16 << 10;

impl Shared {
    pub(crate) fn new(options: Options) -> Result<Arc<Shared>> {
        let chooser = Arc::new(Chooser::new()?);
        let usual = http::tls::Spoken { protocols: http::tls::HTTP, ..Default::default() };
        let spoken = |choose: Arc<dyn Choose>| {
            http::tls::server_config_by_name(choose, SESSIONS_MAX, &usual).map(Spoken::new)
        };
        let (spoken, nobody) = (spoken(chooser.clone())?, spoken(Arc::new(Nobody))?);
        Ok(Arc::new(Shared {
            figures: Figures::new(options.entries().map(|(_, entry)| entry.name.as_str())),
            options,
            live: RwLock::default(),
            chooser,
            transports: Transports::new()?,
            spoken,
            nobody,
            open: OnceLock::new(),
            n_mirrored: Arc::default(),
            ready: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            traffic: Mutex::default(),
            changed: rt::Event::new(),
        }))
    }

    /// How many tables have been in use.
    pub(crate) fn n_tables(&self) -> u64 {
        self.figures.reloads.load(Ordering::Acquire)
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
        let zeros = |n: usize| (0..n).map(|_| AtomicUsize::new(0)).collect();
        let tcp_upstreams = table.tcp_services.iter().map(|service| {
            let old = before.tcp_upstreams.iter().find(|old| old.service == *service);
            old.map_or_else(|| Arc::new(TcpUpstream::new(service, &self.transports)), Arc::clone)
        });
        let tcp_guards = table.tcp_middlewares.iter().map(|(name, middleware)| {
            let old = before.tcp_guards.iter();
            let mut old = old.filter(|old| Arc::ptr_eq(&old.middleware, middleware));
            old.next().map_or_else(|| Arc::new(TcpGuard::new(name, middleware)), Arc::clone)
        });
        let spoken = table.tls_options.iter().map(|options| {
            let old = before.table.tls_options.iter().position(|old| old == options);
            let old = old.and_then(|old| before.spoken.get(old));
            old.map_or_else(|| self.spoken(options), Spoken::clone)
        });
        let live = Arc::new(Live {
            upstreams,
            guards,
            turns,
            tcp_turns: zeros(table.tcp().len()),
            udp_turns: zeros(table.udp().len()),
            tcp_upstreams: tcp_upstreams.collect(),
            tcp_guards: tcp_guards.collect(),
            spoken: spoken.collect(),
            table,
        });
        self.chooser.replace(certificates);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
        self.figures.reloaded();
        if !self.ready.swap(true, Ordering::AcqRel) {
            log::info!("The first table of routes is in use");
        }
        self.changed.notify(usize::MAX);
    }

    /// How TLS is spoken by options. If they cannot be used, nobody gets through.
    fn spoken(&self, options: &TlsOptions) -> Spoken {
        if options.closed {
            return self.nobody.clone();
        }
        let own: Vec<&[u8]> = options.protocols.iter().map(String::as_bytes).collect();
        let spoken = http::tls::Spoken {
            only_13: options.only_13,
            only_12: options.only_12,
            suites: &options.suites,
            curves: &options.curves,
            protocols: if own.is_empty() { http::tls::HTTP } else { &own },
            client_roots: &options.client_roots,
            client_required: options.client_required,
        };
        let choose: Arc<dyn Choose> = match options.sni_strict {
            true => Arc::new(Strict(self.chooser())),
            false => self.chooser(),
        };
        match http::tls::server_config_by_name(choose, SESSIONS_MAX, &spoken) {
            Ok(http) if own.is_empty() => Spoken::new(http),
            Ok(http) => Spoken { tcp: Arc::clone(&http), http },
            Err(error) => {
                log::warn!("a TLSOption cannot be used, and who needs it is not served: {error}");
                self.nobody.clone()
            }
        }
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

    /// For the figures: whose connections and sessions are counted, one for each entry point.
    pub(crate) fn count_connections(&self, open: Vec<Open>) {
        let _ = self.open.set(open);
    }

    /// Connections open at each entry point, with its protocol.
    pub(crate) fn n_connections(&self) -> impl Iterator<Item = (&str, &'static str, usize)> {
        let open = self.open.get().map_or(&[][..], Vec::as_slice);
        let entries = self.options.entries().zip(open);
        entries.map(|((_, entry), open)| (entry.name.as_str(), open.protocol, (open.count)()))
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
