//! The cluster's parts and their lives: what crashes, what starts again, and on which disk.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use client::{Driver, Informers};
use server::{Config, Server, StaticToken, User};
use store::{Disk, Limits, Query, Span, Store};

use crate::check::Checks;
use crate::faults::Faults;
use crate::lock;
use crate::plant::Plant;
use crate::wire::Wire;

/// Everything of one simulation.
pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) faults: Faults,
    pub(crate) plant: Option<Plant>,
    pub(crate) checks: Mutex<Checks>,
    machine: Mutex<Machine>,
    /// Grows with every power cut: answers from before it do not arrive.
    epoch: AtomicU64,
    /// Kubelets that wait for the API.
    n_lost: AtomicUsize,
    /// What happened, for a replay; `None` when nobody reads it.
    story: Option<Mutex<String>>,
}

/// What runs on the server's machine at the moment.
#[derive(Default)]
struct Machine {
    server: Option<Server>,
    /// The server as it is served over connections, and those.
    face: Option<http::server::Server>,
    wires: Vec<Weak<Wire>>,
    store: Option<Store>,
    control: Option<Control>,
}

/// The controllers and their view.
pub(crate) struct Control {
    pub(crate) driver: Driver,
    pub(crate) scheduler: Driver,
    pub(crate) _informers: Informers,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// The simulation that runs on this thread.
pub(crate) fn current() -> Option<Arc<World>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Makes `world` the one of this thread, or none.
pub(crate) fn enter(world: Option<Arc<World>>) {
    CURRENT.with_borrow_mut(|slot| *slot = world);
}

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>, verbose: bool) -> World {
        let faults = Faults::new(seed);
        let disk = Disk::new();
        faults.spoil(&disk);
        World {
            disk,
            faults,
            plant,
            checks: Mutex::default(),
            machine: Mutex::default(),
            epoch: AtomicU64::new(0),
            n_lost: AtomicUsize::new(0),
            story: verbose.then(Mutex::default),
        }
    }

    /// Starts store and server; after a power cut they find what was durable.
    pub(crate) async fn power_on(self: &Arc<World>) {
        let limits = Limits { watch_events_max: 1 << 20, ..Limits::default() };
        let Ok(store) = Store::open_memory(&self.disk, limits).await else {
            return self.fail("the store does not open");
        };
        let opened = self.open_record(&store).await;
        if let Err(why) = opened {
            self.fail(&why);
        }
        let server = match Server::start(config(), store.clone()).await {
            Ok(server) => server,
            // A commit may fail just then: like a process that is started again.
            Err(error) => {
                self.tell(|| format!("the server does not start: {error}"));
                return;
            }
        };
        let mut machine = lock(&self.machine);
        let limits = http::server::Limits::default();
        machine.face = Some(http::server::Server::new(server.service(None), limits));
        machine.server = Some(server);
        machine.store = Some(store);
    }

    /// The checkers' record of a store that has just been opened.
    async fn open_record(&self, store: &Store) -> Result<(), String> {
        let everything = Query::prefix("/registry/");
        let range = store.range(&everything).await.map_err(|error| error.to_string())?;
        let spans = vec![Span::prefix("/registry/")];
        let watch = store.watch(spans, Some(range.revision)).await;
        let watch = watch.map_err(|error| error.to_string())?;
        lock(&self.checks).opened(&range, watch, self.faults.take_unsure())
    }

    pub(crate) fn is_on(&self) -> bool {
        lock(&self.machine).server.is_some()
    }

    /// All at once: nothing is flushed, nobody is told.
    pub(crate) fn cut_power(&self) {
        self.tell(|| "power cut".into());
        self.check();
        lock(&self.checks).power_cut();
        self.disk.cut_power();
        self.epoch.fetch_add(1, Ordering::Relaxed);
        let machine = std::mem::take(&mut *lock(&self.machine));
        machine.wires.iter().filter_map(Weak::upgrade).for_each(|wire| wire.cut());
        drop(machine);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn controlled_by(&self, control: Control) {
        lock(&self.machine).control = Some(control);
    }

    pub(crate) fn crash_control(&self) {
        self.tell(|| "controllers crash".into());
        let control = lock(&self.machine).control.take();
        drop(control);
    }

    pub(crate) fn control_runs(&self) -> bool {
        lock(&self.machine).control.is_some()
    }

    /// A kubelet waits for the API until the answer is dropped: on a connection that fell silent it takes a
    /// while to notice.
    pub(crate) fn seeks(self: &Arc<World>) -> impl Drop + use<> {
        struct Found(Arc<World>);
        impl Drop for Found {
            fn drop(&mut self) {
                self.0.n_lost.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.n_lost.fetch_add(1, Ordering::Relaxed);
        Found(Arc::clone(self))
    }

    /// True when no controller has anything to do, and every kubelet is there.
    pub(crate) fn is_idle(&self) -> bool {
        if self.n_lost.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let machine = lock(&self.machine);
        machine.control.as_ref().is_some_and(|c| c.driver.idle() && c.scheduler.idle())
    }

    pub(crate) fn requeue_all(&self) {
        if let Some(control) = &lock(&self.machine).control {
            control.driver.requeue_all();
            control.scheduler.requeue_all();
        }
    }

    pub(crate) fn api_as(&self, user: User) -> Option<Arc<dyn client::Api>> {
        let server = lock(&self.machine).server.clone();
        server.map(|server| server.api_as(user))
    }

    /// What a connection to the server is served by.
    pub(crate) fn face(&self) -> Option<http::server::Server> {
        lock(&self.machine).face.clone()
    }

    /// Takes note of a connection, which a power cut breaks.
    pub(crate) fn connected(&self, wire: &Arc<Wire>) {
        let mut machine = lock(&self.machine);
        machine.wires.retain(|wire| wire.strong_count() > 0);
        machine.wires.push(Arc::downgrade(wire));
    }

    /// Lets the checkers see what has happened since.
    pub(crate) fn check(&self) {
        let mut checks = lock(&self.checks);
        let seen = checks.catch_up(|| self.story.is_some());
        drop(checks);
        for line in seen.lines {
            self.tell(|| line);
        }
        if let Some(why) = seen.violation {
            self.fail(&why);
        }
    }

    /// A violated rule; the first one counts.
    pub(crate) fn fail(&self, why: &str) {
        self.tell(|| format!("VIOLATION: {why}"));
        lock(&self.checks).violation.get_or_insert_with(|| why.to_owned());
    }

    pub(crate) fn violation(&self) -> Option<String> {
        lock(&self.checks).violation.clone()
    }

    /// One line of the story.
    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(story) = &self.story {
            let at = rt::now().mono.0 / 1_000_000;
            let _ = writeln!(lock(story), "{:>8}.{:03} {}", at / 1000, at % 1000, line());
        }
    }

    pub(crate) fn story(&self) -> String {
        self.story.as_ref().map(|story| lock(story).clone()).unwrap_or_default()
    }
}

/// Nodes beyond a connection show who they are by tokens.
const NODES_MAX: u64 = 16;

fn config() -> Config {
    let node = |number| {
        let name = format!("node-{number}");
        StaticToken { user: User::node(&name), token: name }
    };
    Config { static_tokens: (0..NODES_MAX).map(node).collect(), ..Config::default() }
}
