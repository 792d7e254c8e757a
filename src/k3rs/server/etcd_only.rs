//! A server that runs its member of the embedded etcd and no control plane (`--disable-apiserver`): nothing of the cluster's
//! state is in its memory. It takes servers in and gives nodes their certificates, as every server, and this machine is a
//! node, both over the API servers of others. Where those are it reads in the etcd, for nobody could tell it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::kinds::ENDPOINT_SLICE;
use client::{Client, Election};
use cluster::signer::Authorities;
use cluster::supervisor::{KnownPasswords, Setup, Supervisor, servers_of};
use stdx::backoff::Backoff;
use stdx::time::Mono;
use stdx::{Context, Result};

use crate::etcd::embedded::Embedded;
use crate::etcd::snapshots::Desk;
use crate::machine::{Machine, settings};
use crate::node::Agent;
use crate::node::follow::{self, Shown};
use crate::peers::balancer::Balancer;
use crate::server::state::{self, Opened};
use crate::server::supervisor::Face;
use crate::settings::egress::Mode;
use crate::{
    agent, etcd::members, machine::clock, machine::notify, machine::prepare, node::unable,
    peers::tunnel, server::parts,
};

/// Where the datastore has what the `kubernetes` Service leads to.
const SERVERS: &str = "/registry/endpointslices/default/kubernetes";
/// The Lease of whose turn it is to remove members.
const LEASE: &str = "k3s-etcd";
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// How long the others are told, at most, that it is their turn.
const RESIGN_MAX: Duration = Duration::from_secs(2);
/// How long open requests may take to finish.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What runs beside the etcd.
pub(crate) struct EtcdOnly {
    machine: Arc<Machine>,
    etcd: Arc<Embedded>,
    balancer: Arc<Balancer>,
    client: Client,
    identity: String,
    node_password: String,
    shown: Shown,
    pki: cluster::Pki,
    listener: http::server::Server,
    node: Option<Arc<Agent>>,
    tasks: Vec<rt::Task<Option<()>>>,
}

impl EtcdOnly {
    /// Has the cluster's keys, or makes them, and opens the port of servers. `before` is the version that ran last, if it
    /// was another one.
    pub(crate) async fn start(
        machine: Arc<Machine>,
        etcd: Arc<Embedded>,
        before: Option<String>,
    ) -> Result<EtcdOnly> {
        let Opened { store, pki, passwords, .. } = state::open(&machine).await?;
        // Keys were all that was wanted of it.
        store.close().await.context(|| "close the datastore")?;
        prepare::write_tokens(&machine.paths, &passwords, &pki.server_ca.chain_pem)?;
        let node_password = prepare::ensure_node_password(&machine.etc)?;
        let shown = Shown::new(&pki)?;
        // What an agent on this machine once remembered counts for nothing: the etcd knows better.
        let balancer = Balancer::open(&machine.paths, None, false);
        rt::fs::create_dir_all(machine.paths.agent().join("etc"), 0o700)?;
        let finding = find(Arc::clone(&etcd), Arc::clone(&balancer));
        let mut tasks = vec![rt::spawn_named("servers", finding)];
        let client = client(&machine.paths.cred("supervisor.kubeconfig"), &balancer)?;
        let passwords = KnownPasswords::new(passwords);
        let snapshots = parts::snapshots(&machine, client.clone(), &etcd, &passwords);
        if let Some(before) = before {
            snapshots.before_upgrade(&before).await;
        }
        let config = &machine.config;
        let desk = Desk { etcd: Arc::clone(&etcd), snapshots: Arc::clone(&snapshots) };
        let supervisor = Supervisor::new(Setup {
            client: client.clone(),
            paths: machine.paths.clone(),
            authorities: Authorities {
                client: pki.client_ca.clone(),
                server: pki.server_ca.clone(),
            },
            passwords,
            keys: None,
            config: settings(&machine).to_json_without_api(),
            own_node: (!config.disable_agent)
                .then(|| (machine.node_name.clone(), node_password.clone())),
            clock: clock::clock,
            encryption: None,
            etcd: Some(Arc::new(desk)),
        });
        let face =
            Face::new(machine.paths.clone(), pki.server_ca.chain_pem.clone(), None, supervisor);
        let cas = &pki.client_ca.chain_pem;
        let listener = parts::open_port(&machine, &shown, cas, Arc::new(face)).await?;
        let identity = format!("{}_{:016x}", machine.node_name, rt::random_u64());
        let election = Election::new(client.clone(), LEASE, identity.clone());
        let of_members = (client.clone(), Arc::clone(&etcd));
        let turn =
            election.run(move || members::keep(of_members.0.clone(), Arc::clone(&of_members.1)));
        tasks.push(rt::spawn_named(LEASE, turn));
        if !config.snapshots.disabled {
            tasks.push(snapshots.keep()?);
        }
        Ok(EtcdOnly {
            machine,
            etcd,
            balancer,
            client,
            identity,
            node_password,
            shown,
            pki,
            listener,
            node: None,
            tasks,
        })
    }

    /// Starts the node once there is an API server, and keeps certificates valid for ever.
    pub(crate) async fn bring_up<T>(&mut self, started: Mono) -> Result<T> {
        let machine = Arc::clone(&self.machine);
        notify::say(notify::READY);
        let took = |what: &str| {
            let took = rt::now().mono.since(started);
            log::info!("{what} after {} ms", took.as_millis());
        };
        took("k3rs is up and running: etcd without a control plane answers");
        let follow = |node| {
            let (shown, pki) = (self.shown.clone(), self.pki.clone());
            let follow = follow::run(Arc::clone(&machine), None, node, shown, pki);
            rt::spawn_named("certificates and addresses", follow)
        };
        let mut _follow = follow(None);
        if machine.config.disable_agent {
            return std::future::pending().await;
        }
        let near = SocketAddr::new(machine.config.loopback(), machine.config.lb_server_port);
        let _listening = Arc::clone(&self.balancer).listen(near).await?;
        log::info!("Waiting for a server with an API server, for this machine to be its node");
        self.balancer.known().await;
        self.claim_name().await;
        let link = agent::link(&machine.paths, &self.balancer)?;
        let _role = cluster::role::keep(
            self.client.clone(),
            &machine.node_name,
            false,
            Some(self.etcd.member()),
        );
        let node = Arc::new(unable::start(&machine, &link).await?);
        _follow = follow(Some(Arc::clone(&node)));
        let _tunnels = (machine.config.egress != Mode::Disabled).then(|| {
            let (balancer, kubelet) = (Arc::clone(&self.balancer), node.kubelet().clone());
            let keep =
                tunnel::keep(balancer, machine.paths.clone(), kubelet, machine.config.egress);
            rt::spawn_named("tunnels", keep)
        });
        let is = self.node.insert(node).ready().await;
        took(&format!("Node {} {is}", machine.node_name));
        std::future::pending().await
    }

    /// However many attempts it takes: the API servers may be down, and whose the name is may change.
    async fn claim_name(&self) {
        let mut failures = 0;
        while let Err(error) =
            parts::claim_name(&self.machine, self.client.clone(), &self.node_password).await
        {
            failures += 1;
            let rest = RETRY.delay(failures);
            log::error!("{error}; trying again in {} s", rest.as_secs());
            rt::sleep(rest).await;
        }
    }

    /// Ends everything in its order, the etcd last.
    pub(crate) async fn shut_down(self) {
        drop(self.tasks);
        let _ = rt::timeout(RESIGN_MAX, client::resign(&self.client, LEASE, &self.identity)).await;
        if let Some(node) = self.node {
            node.stop().await;
        }
        self.listener.shutdown(SHUTDOWN_GRACE).await;
        self.etcd.stop().await;
    }
}

/// The supervisor's, at whichever server lives.
fn client(kubeconfig: &Path, balancer: &Arc<Balancer>) -> Result<Client> {
    agent::client(kubeconfig, "k3s-supervisor", Arc::clone(balancer))
}

/// Follows where API servers are, for ever.
async fn find(etcd: Arc<Embedded>, balancer: Arc<Balancer>) {
    let mut failures = 0;
    loop {
        failures = match look(&etcd, &balancer).await {
            Ok(()) => 0,
            Err(why) => {
                log::debug!("look for API servers in the etcd: {why}");
                failures + 1
            }
        };
        if failures > 0 {
            rt::sleep(RETRY.delay(failures)).await;
        }
    }
}

/// Takes what is there, and waits until it is something else.
async fn look(etcd: &Embedded, balancer: &Balancer) -> Result<(), String> {
    let words = |status: http::grpc::Status| status.message;
    let (value, revision) = etcd.members().get(SERVERS).await.map_err(words)?;
    if let Some(value) = value {
        let slice = Object::from_bytes(&ENDPOINT_SLICE, 0, value.into());
        let slice = slice.map_err(|error| error.to_string())?;
        let servers = servers_of(&slice.tree());
        let servers: Vec<SocketAddr> = servers.iter().filter_map(|it| it.parse().ok()).collect();
        balancer.take(&servers[..servers.len().min(crate::peers::balancer::SERVERS_MAX)]).await;
    }
    etcd.members().changed(SERVERS, revision).await.map_err(words)
}
