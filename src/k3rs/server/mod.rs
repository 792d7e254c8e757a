//! `k3rs server`: from a data directory to a running control plane and node, step by step.

pub(crate) mod controllers;
pub(crate) mod elsewhere;
pub(crate) mod etcd_only;
pub(crate) mod keys;
pub(crate) mod parts;
pub(crate) mod roles;
pub(crate) mod secrets;
pub(crate) mod state;
pub(crate) mod supervisor;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use client::Informers;
use cluster::secrets_encryption::SecretsEncryption;
use cluster::signer::Authorities;
use cluster::supervisor::KnownPasswords;
use cluster::{Paths, Pki, bootstrap};
use server::{Server, User};
use stdx::time::Mono;
use stdx::{Context, Result};
use store::Store;

use crate::etcd::embedded::{self, Embedded};
use crate::kine::Socket;
use crate::machine::prepare::{self, EtcDir};
use crate::machine::{
    Machine, N_WORKERS, clock, logging, notify, unpack_userspace, upgrade, write_kubeconfig,
};
use crate::node::follow::{self, Shown};
use crate::node::{Agent, unable};
use crate::peers::tunnel::Tunnels;
use crate::settings::config::Config;
use crate::settings::families;
use crate::settings::flags::On;

use self::etcd_only::EtcdOnly;
use self::keys::Keys;
use self::parts::Plugs;
use self::state::Opened;

/// How long open requests may take to finish after SIGTERM.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// The command: exit code 0 after SIGTERM, 1 after an error.
pub(crate) fn command(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        crate::print(&crate::settings::help::server());
        return ExitCode::SUCCESS;
    }
    let shift = clock::ClockShift::from_env();
    let started = rt::now().mono;
    let config = Config::load(On::Server, args, |name| std::env::var(name).ok());
    let config = match config.and_then(|config| roles::check(&config).map(|()| config)) {
        Ok(config) => config,
        Err(error) => return crate::fail(&error.to_string()),
    };
    if !config.disable_agent
        && let Err(error) = prepare::need_root("server")
    {
        return crate::fail(&format!("{error}, or with --disable-agent"));
    }
    if let Err(error) = logging::start(config.debug, config.log.as_deref(), config.alsologtostderr)
    {
        return crate::fail(&error.to_string());
    }
    rt::start_workers(N_WORKERS);
    let _shift = shift.map(|shift| rt::spawn_named("clock shift", shift.follow()));
    match rt::block_on(Box::pin(run(config, started))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut config: Config, started: Mono) -> Result<()> {
    log::info!("Starting k3rs {}", stdx::version::VERSION);
    prepare::outlive_pods();
    let clock = rt::spawn_named("clock", rt::follow_clock());
    rt::spawn_named("memory", rt::follow_memory()).detach();
    http::tls::not_earlier_than(clock::built());
    tell_oddities(&config);
    let plugs = parts::plugs(&config)?;
    let _followed = parts::follow_files(&plugs);
    let paths = Paths::new(&config.data_dir);
    let _locks = (prepare::lock(&paths)?, prepare::lock_run_directory(&config)?);
    let of_node = (!config.disable_agent).then(|| prepare::lock_kubelet_directory(&config));
    let _kubelet_lock = of_node.transpose()?;
    clock::resume_clock(&paths);
    let before = upgrade::begin(&paths)?;
    bootstrap::promote(&paths).context(|| "put the new authorities in their places")?;
    let elsewhere = elsewhere::plan(&config, &paths)?;
    let plan = match elsewhere {
        Some(_) => None,
        None => embedded::plan(&mut config, &paths)?,
    };
    let etc = EtcDir::choose(&config)?;
    // Beside the rest of the start, which needs none of it before the node asks for its image.
    let unpacking = rt::spawn(unpack_userspace(paths.clone()));
    let mut machine = settle(config, paths, etc).await?;
    if let Some(joining) = elsewhere {
        Box::pin(elsewhere::open(&mut machine, joining)).await?;
    }
    let machine = Arc::new(machine);

    let etcd = match plan {
        Some(plan) => {
            let started = Box::pin(embedded::start(&machine, plan)).await?;
            // It was only taken out of its cluster.
            let Some(etcd) = started else { return Ok(()) };
            Some(etcd)
        }
        None => None,
    };
    let ends = etcd_ends(etcd.clone());
    // On the heap and one at a time: the first thread's stack keeps for good what it once had to grow to.
    if let Some(etcd) = etcd.clone().filter(|_| machine.config.disable_apiserver) {
        let mut only = Box::pin(EtcdOnly::start(machine, etcd, before)).await?;
        unpacking.await;
        until_told(rt::future::or(ends, Box::pin(only.bring_up(started)))).await?;
        Box::pin(only.shut_down()).await;
    } else {
        let mut control = Box::pin(Control::start(machine, plugs, (etcd, before))).await?;
        notify::say(notify::READY);
        unpacking.await;
        until_told(rt::future::or(ends, Box::pin(control.bring_up(started)))).await?;
        drop(clock);
        Box::pin(control.shut_down()).await?;
    }
    log::info!("Stopped");
    Ok(())
}

/// Goes on until somebody wants it to end.
async fn until_told(up: impl Future<Output = Result<&'static str>>) -> Result<()> {
    let signal = rt::future::or(rt::signal::terminated(), up).await?;
    notify::say(notify::STOPPING);
    log::info!("Received {signal}, shutting down; containers run on");
    Ok(())
}

/// What is odd about this start, and no reason to refuse it.
fn tell_oddities(config: &Config) {
    if clock::clock().is_blind() {
        log::warn!(
            "The clock says {}, which is before this program was built: certificates are made to last until it is set",
            api::time::format(rt::now().wall)
        );
    }
    if config.idle_provider {
        log::warn!("--secrets-encryption-provider does nothing without --secrets-encryption");
    }
    config.components.warn();
}

/// What the machine adds to the configuration.
async fn settle(mut config: Config, paths: Paths, etc: EtcDir) -> Result<Machine> {
    families::begin(&mut config, &paths).await?;
    families::check(&config)?;
    let hostname = sys::host::name();
    let node_name = prepare::node_name(&config, &etc, &hostname)?;
    let node_ips = prepare::node_ips(&config).await?;
    Ok(Machine { config, paths, etc, hostname, node_name, node_ips })
}

/// Ends with the embedded etcd, without which nothing goes on.
async fn etcd_ends<T>(etcd: Option<Arc<Embedded>>) -> Result<T> {
    match &etcd {
        Some(etcd) => Err(etcd.over().await),
        None => std::future::pending().await,
    }
}

/// The control plane of this process, and its node once that is up.
struct Control {
    machine: Arc<Machine>,
    etcd: Option<Arc<Embedded>>,
    store: Store,
    pki: Pki,
    shown: Shown,
    server: Server,
    audit: Option<Arc<server::Audit>>,
    tunnels: Arc<Tunnels>,
    kine: Option<Socket>,
    secrets: Arc<SecretsEncryption>,
    listener: http::server::Server,
    informers: Informers,
    controllers: controllers::Running,
    deploy: rt::Task<Option<()>>,
    agent: Option<Arc<Agent>>,
    _tasks: Vec<rt::Task<Option<()>>>,
}

impl Control {
    /// Opens the datastore and starts everything but the node.
    async fn start(
        machine: Arc<Machine>,
        plugs: Plugs,
        (etcd, before): (Option<Arc<Embedded>>, Option<String>),
    ) -> Result<Control> {
        let Opened { store, encryption, pki, passwords } = state::open(&machine).await?;
        let reloads =
            machine.config.apiserver.encryption_reload || machine.config.secrets_provider.is_some();
        let reload = reloads
            .then(|| rt::spawn_named("encryption configuration", Arc::clone(&encryption).follow()));
        let mut tasks: Vec<_> = reload.into_iter().collect();
        prepare::write_tokens(&machine.paths, &passwords, &pki.server_ca.chain_pem)?;
        let node_password = prepare::ensure_node_password(&machine.etc)?;
        write_kubeconfig(&machine, &pki)?;

        let shown = Shown::new(&pki)?;
        let tunnels = Tunnels::new(machine.config.egress);
        let Plugs { admission, audit, plugs } = plugs;
        let mut config = parts::server_config(&machine, &pki, &shown, admission)?;
        config.tunnels = Some(Arc::clone(&tunnels) as _);
        let server = Server::start_with(config, store.clone(), plugs).await?;
        // Before it writes what others might not read.
        controllers::agree(&machine, &server).await?;
        if store.is_shared() && !machine.config.disable_agent {
            parts::claim_own_name(&machine, &server, &node_password).await?;
        }
        let kine = match machine.config.kine_socket {
            true => Some(Socket::open(machine.paths.server().join("kine.sock"), store.clone())?),
            false => None,
        };
        let passwords = KnownPasswords::new(passwords);
        let keys = Keys {
            store: store.clone(),
            paths: machine.paths.clone(),
            passwords: passwords.clone(),
            names_agents: machine.config.agent_token.is_some(),
            ca_pem: pki.server_ca.chain_pem.clone(),
            turn: rt::lock::Mutex::default(),
        };
        let sealing = secrets::Sealing {
            store: store.clone(),
            encryption,
            paths: machine.paths.clone(),
            passwords: passwords.clone(),
        };
        let secrets = parts::secrets_encryption(&machine, &server, sealing);
        if store.is_shared() && machine.config.secrets_provider.is_some() {
            let follow = secrets::follow(store.clone(), Arc::clone(&secrets));
            tasks.push(rt::spawn_named("keys of secrets", follow));
        }
        let snapshots = etcd.as_ref().map(|etcd| {
            parts::snapshots(&machine, parts::supervisor_of(&server), etcd, &passwords)
        });
        if let Some((snapshots, before)) = snapshots.as_ref().zip(before) {
            snapshots.before_upgrade(&before).await;
        }
        let desk = etcd.clone().zip(snapshots.clone());
        let own = (passwords, keys.shared(), node_password, desk);
        let supervisor = parts::supervisor(&machine, &server, &pki, own, Arc::clone(&secrets));
        let faces = (&shown, supervisor, Arc::clone(&tunnels));
        let listener = parts::listen(&machine, &server, &pki, faces).await?;
        let manager = server.client_as(User::new("system:kube-controller-manager", &[]));
        let informers = Informers::following(manager, Arc::clone(server.kinds()));
        let authorities =
            Authorities { client: pki.client_ca.clone(), server: pki.server_ca.clone() };
        let asked = Arc::new(rt::Event::new());
        let means = (&informers, authorities, etcd.clone(), Arc::clone(&asked));
        let controllers = controllers::start(&machine, &server, &store, means).await?;
        if let Some(snapshots) = snapshots.filter(|_| !machine.config.snapshots.disabled) {
            tasks.push(snapshots.keep()?);
        }
        if machine.config.disable_etcd {
            tasks.push(elsewhere::follow(&machine, parts::supervisor_of(&server))?);
        }
        let deploy = parts::start_deploy(&machine, &server, asked).await?;
        Ok(Control {
            machine,
            etcd,
            store,
            pki,
            shown,
            server,
            audit,
            tunnels,
            kine,
            secrets,
            listener,
            informers,
            controllers,
            deploy,
            agent: None,
            _tasks: tasks,
        })
    }

    /// Starts the node, and keeps certificates and addresses told for ever.
    async fn bring_up<T>(&mut self, started: Mono) -> Result<T> {
        let machine = &self.machine;
        let follow = |agent| {
            let (server, shown) = (self.server.clone(), self.shown.clone());
            let follow =
                follow::run(Arc::clone(machine), Some(server), agent, shown, self.pki.clone());
            rt::spawn_named("certificates and addresses", follow)
        };
        let mut _follow = follow(None);
        let mut _role = None;
        let mut is = "is Ready".to_owned();
        if !machine.config.disable_agent {
            let link = parts::link(machine, &self.server, &self.pki, &self.shown, &self.informers);
            _role = Some(cluster::role::keep(
                parts::supervisor_of(&self.server),
                &machine.node_name,
                true,
                self.etcd.as_ref().map(|etcd| etcd.member()),
            ));
            let agent = Arc::new(unable::start(machine, &link).await?);
            _follow = follow(Some(Arc::clone(&agent)));
            is = self.agent.insert(agent).ready().await;
            self.secrets.show().await;
        }
        let took = rt::now().mono.since(started);
        log::info!(
            "k3rs is up and running: node {} {is} after {} ms",
            self.machine.node_name,
            took.as_millis()
        );
        std::future::pending().await
    }

    /// Ends everything in its order: first who decides, then who is asked, last what is kept.
    async fn shut_down(self) -> Result<()> {
        self.controllers.end().await;
        drop((self.deploy, self.informers));
        if let Some(agent) = self.agent {
            agent.stop().await;
        }
        if let Some(kine) = self.kine {
            kine.close().await;
        }
        // They would be waited for as requests are.
        self.tunnels.end();
        self.listener.shutdown(SHUTDOWN_GRACE).await;
        if let Some(audit) = self.audit {
            audit.flush().await;
        }
        drop(self.server);
        self.store.close().await.context(|| "close the datastore")?;
        if let Some(etcd) = self.etcd {
            etcd.stop().await;
        }
        Ok(())
    }
}
