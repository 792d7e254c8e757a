//! Two servers with the real controllers on one simulated log: one leads, and whoever is left goes on.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::kinds::{DEPLOYMENT, LEASE, NODE, POD};
use api::{Lens, Status, json};
use client::{Client, DeleteOptions, Driver, Election, Informers, ListOptions, PatchType};
use rt::sim::End;
use server::{Config, Server, User};
use stdx::Context;
use stdx::prng::Prng;
use store::{Fate, Limits, Log, Store};

const N_SERVERS: usize = 2;

/// The roles that are elected, each by itself.
const ROLES: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// How long the cluster may take to do what it was told, an election included.
const ANSWER_MAX: Duration = Duration::from_secs(120);

struct Cluster {
    log: Log,
    machines: Vec<Mutex<Option<Machine>>>,
    /// Which machine each server of the log is on, in the order of their starts; the log counts from 1.
    places: Mutex<Vec<usize>>,
    cut_off: Mutex<BTreeSet<usize>>,
    /// Who leads at the moment, by role; more than one is what must never be.
    leading: [Mutex<BTreeSet<usize>>; 2],
    n_turns: AtomicUsize,
    violations: Mutex<Vec<String>>,
}

struct Machine {
    server: Server,
    _elections: Vec<rt::Task<()>>,
}

/// One turn of one machine: from the start of its controllers to their end.
struct Turn {
    cluster: Arc<Cluster>,
    role: usize,
    machine: usize,
    _driver: Driver,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.cluster.leading[self.role].lock().unwrap().remove(&self.machine);
    }
}

impl Cluster {
    fn new(seed: u64) -> Arc<Cluster> {
        let cluster = Arc::new(Cluster {
            log: Log::new(),
            machines: (0..N_SERVERS).map(|_| Mutex::default()).collect(),
            places: Mutex::default(),
            cut_off: Mutex::default(),
            leading: Default::default(),
            n_turns: AtomicUsize::new(0),
            violations: Mutex::default(),
        });
        let (weak, mut prng) = (Arc::downgrade(&cluster), Prng::new(seed ^ 0x5e7e));
        cluster.log.on_message(move |server, _| {
            let Some(cluster) = weak.upgrade() else { return Fate::Lost };
            let place = cluster.places.lock().unwrap().get(server as usize - 1).copied();
            let is_cut = place.is_some_and(|at| cluster.cut_off.lock().unwrap().contains(&at));
            match prng.below(400) {
                _ if is_cut => Fate::Lost,
                0 => Fate::Lost,
                _ => Fate::After(Duration::from_micros(prng.below(8000))),
            }
        });
        cluster
    }

    async fn start(self: &Arc<Cluster>, machine: usize) {
        // As a supervisor does with a server that does not start.
        let server = loop {
            match self.open(machine).await {
                Ok(server) => break server,
                Err(error) => log::debug!("server-{machine} does not start: {error}"),
            }
            rt::sleep(Duration::from_secs(1)).await;
        };
        let admin = server.client_as(User::admin());
        let informers = Informers::following(admin.clone(), Arc::clone(server.kinds()));
        let elections = (0..ROLES.len()).map(|role| {
            let identity = format!("server-{machine}_{:08x}", rt::random_u64());
            let election = Election::new(admin.clone(), ROLES[role], identity);
            let (cluster, server) = (Arc::clone(self), server.clone());
            let informers = informers.clone();
            rt::spawn(election.run(move || {
                let mut leading = cluster.leading[role].lock().unwrap();
                leading.insert(machine);
                if leading.len() > 1 {
                    let both = format!("{leading:?} lead {} at once", ROLES[role]);
                    cluster.violations.lock().unwrap().push(both);
                }
                drop(leading);
                cluster.n_turns.fetch_add(1, Ordering::Relaxed);
                let controllers = if role == 0 { control::CONTROLLERS } else { sched::SCHEDULER };
                let driver = Driver::start(controllers, &informers, |name| {
                    let user = match role {
                        0 => User::controller(name),
                        _ => User::new("system:kube-scheduler", &[]),
                    };
                    server.client_as(user)
                });
                Turn { cluster: Arc::clone(&cluster), role, machine, _driver: driver }
            }))
        });
        let elections = elections.collect();
        *self.machines[machine].lock().unwrap() = Some(Machine { server, _elections: elections });
    }

    async fn open(&self, machine: usize) -> stdx::Result<Server> {
        self.places.lock().unwrap().push(machine);
        let opened = Store::open_log(&self.log, Limits::default()).await;
        let store = opened.context(|| "open the store")?;
        let address: IpAddr = [192, 0, 2, 1 + machine as u8].into();
        let config = Config { advertise_addresses: vec![address], ..Config::default() };
        Server::start(config, store).await
    }

    fn crash(&self, machine: usize) {
        let gone = self.machines[machine].lock().unwrap().take();
        drop(gone);
    }

    /// A server that runs and reaches the log.
    fn client(&self) -> Option<Client> {
        let cut_off = self.cut_off.lock().unwrap().clone();
        let reached = (0..N_SERVERS).filter(|machine| !cut_off.contains(machine));
        reached.filter_map(|machine| self.client_of(machine)).next()
    }

    fn client_of(&self, machine: usize) -> Option<Client> {
        let machine = self.machines[machine].lock().unwrap();
        machine.as_ref().map(|machine| machine.server.client_as(User::admin()))
    }
}

/// A node whose pods run as soon as they are bound.
async fn node(cluster: Arc<Cluster>) {
    loop {
        if let Some(client) = cluster.client() {
            let looked = rt::timeout(Duration::from_secs(5), look(&client)).await;
            if let Ok(Err(status)) = looked {
                log::debug!("node: {status}");
            }
        }
        rt::sleep(Duration::from_secs(1)).await;
    }
}

async fn look(client: &Client) -> Result<(), Status> {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    if client.get_optional(&NODE, "", "node-1").await?.is_none() {
        client.create(&NODE, json!({"metadata": {"name": "node-1"}})).await?;
    }
    let size = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
    let status = json!({"status": {"capacity": size, "allocatable": size, "conditions": ready}});
    client.patch(&NODE, "", "node-1", "status", PatchType::Merge, status).await?;
    let time = api::time::format_micro(rt::now().wall);
    let beat = json!({"spec": {"holderIdentity": "node-1", "leaseDurationSeconds": 40, "renewTime": time}});
    let beats =
        client.patch(&LEASE, "kube-node-lease", "node-1", "", PatchType::Merge, beat.clone());
    if beats.await.is_err_and(|status| status.is_not_found()) {
        let mut lease = beat;
        lease["metadata"] = json!({"name": "node-1", "namespace": "kube-node-lease"});
        client.create(&LEASE, lease).await?;
    }
    for pod in client.list(&POD, "default", ListOptions::default()).await?.items {
        let tree = pod.tree();
        if tree.str("spec.nodeName").is_empty() {
            continue;
        }
        if pod.deleting() {
            let options = DeleteOptions { grace_secs: Some(0), ..Default::default() };
            client.delete(&POD, "default", pod.name(), options).await?;
        } else if tree.str("status.phase") != "Running" {
            let status = json!({"status": {"phase": "Running", "conditions": ready}});
            client.patch(&POD, "default", pod.name(), "status", PatchType::Merge, status).await?;
        }
    }
    Ok(())
}

/// Asks a server that is alive to have so many pods, and waits until there are.
async fn scale(cluster: &Cluster, replicas: u64) {
    let patch = json!({"spec": {"replicas": replicas}});
    let done = async {
        loop {
            rt::sleep(Duration::from_millis(500)).await;
            let Some(client) = cluster.client() else { continue };
            let asked =
                client.patch(&DEPLOYMENT, "default", "web", "", PatchType::Merge, patch.clone());
            let Ok(Ok(web)) = rt::timeout(Duration::from_secs(5), asked).await else { continue };
            let tree = web.tree();
            let count = |path: &str| tree.int(path).unwrap_or(0).unsigned_abs();
            let is_new = count("status.observedGeneration") == count("metadata.generation");
            let pods = client.list(&POD, "default", ListOptions::default());
            let Ok(Ok(pods)) = rt::timeout(Duration::from_secs(5), pods).await else { continue };
            let n_ready = count("status.readyReplicas");
            if is_new && n_ready == replicas && pods.items.len() as u64 == replicas {
                return;
            }
        }
    };
    assert!(rt::timeout(ANSWER_MAX, done).await.is_ok(), "no {replicas} replicas");
}

async fn play(seed: u64) {
    let cluster = Cluster::new(seed);
    let mut prng = Prng::new(seed);
    for machine in 0..N_SERVERS {
        cluster.start(machine).await;
    }
    let _node = rt::spawn(node(Arc::clone(&cluster)));
    let tree = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    // The account that pods need is a controller's to make.
    cluster.client().unwrap().create(&DEPLOYMENT, tree).await.unwrap();
    scale(&cluster, 3).await;
    for _ in 0..4 {
        let leader = cluster.leading[0].lock().unwrap().first().copied();
        let victim = match (leader, prng.below(4)) {
            (Some(leader), 0..3) => leader,
            _ => prng.below(N_SERVERS as u64) as usize,
        };
        let cut = prng.chance(50);
        match cut {
            true => drop(cluster.cut_off.lock().unwrap().insert(victim)),
            false => cluster.crash(victim),
        }
        scale(&cluster, 1 + prng.below(5)).await;
        rt::sleep(Duration::from_millis(prng.below(20_000))).await;
        match cut {
            true => drop(cluster.cut_off.lock().unwrap().remove(&victim)),
            false => cluster.start(victim).await,
        }
        scale(&cluster, 1 + prng.below(5)).await;
    }
    assert_eq!(*cluster.violations.lock().unwrap(), Vec::<String>::new());
    assert!(cluster.n_turns.load(Ordering::Relaxed) > ROLES.len(), "nobody ever took over");
    (0..N_SERVERS).for_each(|machine| cluster.crash(machine));
}

#[test]
fn servers_survive_each_other_and_one_leads() {
    for seed in 0..8 {
        assert_eq!(rt::sim::run(seed, 50_000_000, play(seed)), End::Done(()), "seed {seed}");
    }
}
