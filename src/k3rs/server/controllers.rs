//! The controllers and the scheduler, each acting as itself: always where a server has its store for itself, and by
//! election where several share one.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Driver, Election, Informers, Outside, Roster, Told};
use cluster::settings::Settings;
use cluster::signer::{self, Authorities};
use server::{Server, User};
use stdx::{Context, Result};
use store::Store;

use crate::etcd::embedded::Embedded;
use crate::machine::{Machine, settings};
use crate::settings::component::extenders::Extenders;

/// What roles are started from, each time it is this server's turn.
pub(crate) struct Means {
    pub(crate) machine: Arc<Machine>,
    pub(crate) server: Server,
    pub(crate) informers: Informers,
    pub(crate) authorities: Authorities,
    /// The member of this server, if it has one.
    etcd: Option<Arc<Embedded>>,
    roster: Arc<Roster>,
    extenders: Option<Arc<dyn Outside>>,
    /// Told when something else is asked of a packaged component by its HelmChartConfig.
    asked: Arc<rt::Event>,
}

/// What one of several servers does.
struct Role {
    /// The Lease that is held for it, by k3s's names.
    lease: &'static str,
    /// Whether this server does it at all.
    wanted: fn(&Means) -> bool,
    start: fn(&Means) -> Vec<Box<dyn Send>>,
}

const ROLES: &[Role] = &[
    Role {
        lease: "kube-controller-manager",
        wanted: |means| !means.machine.config.disable_controller_manager,
        start: |means| {
            let manager = &means.machine.config.components.manager;
            let controllers = manager.controllers();
            let client_of = |name: &'static str| means.server.client_as(User::controller(name));
            let told = manager.told();
            let mut work =
                means.started(Driver::start_with(controllers, &means.informers, &client_of, told));
            log::info!("Started {} controllers", controllers.len());
            // The controller manager's, as upstream: who brings signers of their own gets no second ones.
            if manager.signs() {
                let signs = client_of("certificate-controller");
                let authorities = means.authorities.clone();
                work.push(Box::new(signer::keep(signs, authorities, manager.signing_duration)));
            }
            work
        },
    },
    Role {
        // It is there with --disable servicelb, too, to take away what it has given.
        lease: "k3s-cloud-controller-manager",
        wanted: |_| true,
        start: |means| {
            means.started(Driver::start(control::CLOUD_CONTROLLERS, &means.informers, |name| {
                means.server.client_as(User::controller(name))
            }))
        },
    },
    Role {
        lease: "k3s-etcd",
        wanted: |means| means.etcd.is_some(),
        start: |means| {
            let client =
                means.server.client_as(User::new("system:k3s-supervisor", &["system:masters"]));
            let etcd = means.etcd.clone().into_iter();
            etcd.map(|etcd| Box::new(crate::etcd::members::keep(client.clone(), etcd)) as _)
                .collect()
        },
    },
    Role {
        lease: "k3s",
        wanted: |means| !means.machine.config.disable_helm_controller,
        start: |means| {
            let task = rt::spawn_named("helm controller", helm::run(means.helm()));
            vec![Box::new(task)]
        },
    },
    Role {
        lease: "kube-scheduler",
        wanted: |means| !means.machine.config.disable_scheduler,
        start: |means| {
            let profiles = means.machine.config.components.profiles.clone();
            let scheduler = sched::registered(profiles.as_deref());
            let client_of = |_| means.server.client_as(User::new("system:kube-scheduler", &[]));
            let told = Told {
                settings: profiles.map(|profiles| profiles as client::Settings),
                outside: means.extenders.clone(),
            };
            let work =
                means.started(Driver::start_with(scheduler, &means.informers, &client_of, told));
            log::info!("Started the scheduler");
            work
        },
    },
];

impl Means {
    fn helm(&self) -> helm::Setup {
        let (config, paths) = (&self.machine.config, self.machine.paths.clone());
        let enabled = addons::PACKAGED.iter().filter(|it| !config.disabled(it.name));
        let mut packaged: Vec<String> = enabled.map(|it| it.name.to_owned()).collect();
        if !config.disabled("traefik") {
            packaged.push("traefik-crd".to_owned());
        }
        let asked = Arc::clone(&self.asked);
        let packaged = helm::Components {
            names: packaged,
            honour: Box::new(|name, values| {
                addons::take_honoured(name, values, crate::ingress::takes);
            }),
            changed: Box::new(move || {
                asked.notify(usize::MAX);
            }),
        };
        helm::Setup {
            client: self.server.client_as(User::new("system:k3s-controller", &["system:masters"])),
            registry: Arc::clone(self.server.kinds()),
            proxy: crate::node::registry_proxy(),
            static_file: Box::new(move |path| cluster::supervisor::static_file(&paths, path)),
            packaged,
        }
    }

    fn started(&self, driver: Driver) -> Vec<Box<dyn Send>> {
        self.roster.note(&driver);
        vec![Box::new(driver)]
    }
}

/// What runs; dropping it ends all of it.
pub(crate) struct Running {
    work: Vec<Box<dyn Send>>,
    client: Client,
    /// The Leases that this server may hold, and as whom.
    candidacies: Vec<(&'static str, String)>,
}

/// How long the others are told, at most, that it is their turn.
const RESIGN_MAX: Duration = Duration::from_secs(2);

impl Running {
    /// Ends all of it and gives the Leases back.
    pub(crate) async fn end(self) {
        drop(self.work);
        let resigned = async {
            for (lease, identity) in &self.candidacies {
                if let Err(status) = client::resign(&self.client, lease, identity).await {
                    log::debug!("give back the lease {lease}: {status}");
                }
            }
        };
        let _ = rt::timeout(RESIGN_MAX, resigned).await;
    }
}

/// Starts what this server does by itself, and what is its turn to do.
///
/// # Errors
/// If the settings cannot be written.
pub(crate) async fn start(
    machine: &Arc<Machine>,
    server: &Server,
    store: &Store,
    (informers, authorities, etcd, asked): (
        &Informers,
        Authorities,
        Option<Arc<Embedded>>,
        Arc<rt::Event>,
    ),
) -> Result<Running> {
    let client = server.client_as(User::apiserver());
    write_settings(machine, &client).await?;
    let profiles = machine.config.components.profiles.as_ref();
    let extenders = profiles.map_or(&[][..], |profiles| &profiles.1);
    let means = Arc::new(Means {
        machine: Arc::clone(machine),
        server: server.clone(),
        informers: informers.clone(),
        authorities,
        etcd,
        roster: Arc::default(),
        extenders: Extenders::open(extenders)?.map(|extenders| extenders as Arc<dyn Outside>),
        asked,
    });
    let own = Driver::start(control::SERVER_CONTROLLERS, informers, |_| client.clone());
    let mut work = means.started(own);
    let mut candidacies = Vec::new();
    for role in ROLES.iter().filter(|role| (role.wanted)(&means)) {
        if !store.is_shared() {
            work.append(&mut (role.start)(&means));
            continue;
        }
        let identity = format!("{}_{:016x}", machine.node_name, rt::random_u64());
        candidacies.push((role.lease, identity.clone()));
        let election = Election::new(client.clone(), role.lease, identity);
        let means = Arc::clone(&means);
        work.push(Box::new(rt::spawn_named(
            role.lease,
            election.run(move || (role.start)(&means)),
        )));
    }
    let roster = Arc::clone(&means.roster);
    let schedules = !means.machine.config.disable_scheduler;
    server.also_tell(Box::new(move |text| {
        roster.write(text);
        if schedules {
            let name = "scheduler_scheduling_algorithm_duration_seconds";
            let help = "Scheduling algorithm latency in seconds";
            let scheduler = sched::SCHEDULER[0].name;
            roster.write_worked(scheduler, name, help, text);
            sched::write_figures(&roster.tally(scheduler), text);
        }
    }));
    Ok(Running { work, client, candidacies })
}

/// Where the settings of all servers are.
const SETTINGS: &str = "k3rs-settings";

/// Whether other servers that run are set up alike: they would undo what each other does, or not read it.
///
/// # Errors
/// The flag in which they differ, in k3s's words.
pub(crate) async fn agree(machine: &Machine, server: &Server) -> Result<()> {
    let own = crate::machine::advertised(machine, &machine.node_ips);
    let all = server.servers().await.context(|| "look for other servers")?;
    if all.iter().all(|address| own.contains(address)) {
        return Ok(());
    }
    let client = server.client_as(User::apiserver());
    let known = client.get_optional(&api::kinds::CONFIG_MAP, "kube-system", SETTINGS).await;
    let Some(known) = known.context(|| "read the settings of other servers")? else {
        return Ok(());
    };
    match api::Lens::entry(&known.tree(), "data", "cluster") {
        Some(known) => settings(machine).agree(&Settings::from_json(known)?),
        None => Ok(()),
    }
}

/// What controllers must know of the command line: they read nothing but objects.
async fn write_settings(machine: &Machine, client: &Client) -> Result<()> {
    let config = &machine.config;
    let join = |cidrs: &[crate::settings::cidr::Cidr]| {
        cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    let own_ports = net::own_ports(&crate::node::net_config(machine, Vec::new())?);
    let own_ports = own_ports
        .iter()
        .map(|(protocol, port)| format!("{port}/{}", protocol.lower().to_uppercase()));
    let (first, last) = config.node_ports;
    let masks = crate::settings::families::node_masks(config)?;
    let data = api::json!({
        "servicelb": (!config.disabled("servicelb")).to_string(),
        "node-own-ports": own_ports.collect::<Vec<_>>().join(","),
        "service-node-port-range": format!("{first}-{last}"),
        "cluster-cidr": join(&config.cluster_cidrs),
        "service-cidr": join(&config.service_cidrs),
        "cluster-domain": config.cluster_domain,
        "default-local-storage-path": config.local_storage_path.display().to_string(),
        "cluster": settings(machine).to_json(),
        "node-cidr-mask": masks.0.to_string(),
        "node-cidr-mask-ipv6": masks.1.to_string(),
    });
    let apply = |name: &str, data: api::Value| {
        let tree = api::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-system"}, "data": data});
        let mut request =
            client::Request::new(client::Verb::Patch, &api::kinds::CONFIG_MAP, "kube-system", name);
        request.field_manager = "k3rs".into();
        request.force = true;
        request.body = client::Body::Patch(client::PatchType::Apply, tree);
        request
    };
    client.call(apply(SETTINGS, data)).await.context(|| "write the controllers' settings")?;
    let ca = rt::fs::read_text(machine.paths.tls("server-ca.crt"))?;
    client
        .call(apply("kube-root-ca.crt", api::json!({"ca.crt": ca})))
        .await
        .context(|| "publish the CA")?;
    Ok(())
}
