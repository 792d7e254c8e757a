//! `k3rs server`: from a data directory to a running control plane and node, step by step.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use client::Informers;
use cluster::secrets_encryption::SecretsEncryption;
use cluster::settings::Settings;
use cluster::signer::Authorities;
use cluster::supervisor::{KnownPasswords, Setup, Supervisor};
use cluster::{Paths, Pki, bootstrap};
use server::{Server, User};
use stdx::{Context, Result};

use crate::config::Config;
use crate::controllers;
use crate::embedded::{self, Embedded};
use crate::flags::On;
use crate::follow::{self, Shown};
use crate::keys::Keys;
use crate::kine::Socket;
use crate::node::Link;
use crate::prepare::{self, EtcDir};
use crate::snapshots::{Desk, Snapshots};
use crate::state::{self, Opened};
use crate::supervisor::Face;
use crate::tunnel::Tunnels;
use crate::{families, logging, secrets, unable, userspace};

/// Threads that run tasks, beside the pool for disk work. Two keep one slow request from stopping
/// the rest on the smallest boards, and cost little memory.
pub(crate) const N_WORKERS: usize = 2;

/// How long open requests may take to finish after SIGTERM.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// The command: exit code 0 after SIGTERM, 1 after an error.
pub(crate) fn command(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        crate::print(&crate::help::server());
        return ExitCode::SUCCESS;
    }
    let shift = follow::ClockShift::from_env();
    let started = rt::now().mono;
    let config = match Config::load(On::Server, args, |name| std::env::var(name).ok()) {
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
    match rt::block_on(run(config, started)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What the first steps settle for all later ones.
pub(crate) struct Machine {
    pub(crate) config: Config,
    pub(crate) paths: Paths,
    pub(crate) etc: EtcDir,
    pub(crate) hostname: String,
    pub(crate) node_name: String,
    pub(crate) node_ips: Vec<IpAddr>,
}

async fn run(mut config: Config, started: stdx::time::Mono) -> Result<()> {
    log::info!("Starting k3rs {}", stdx::version::VERSION);
    prepare::outlive_pods();
    let clock = rt::spawn_named("clock", rt::follow_clock());
    rt::spawn_named("memory", rt::follow_memory()).detach();
    http::tls::not_earlier_than(follow::built());
    if follow::clock().is_blind() {
        log::warn!(
            "The clock says {}, which is before this program was built: certificates are made to last until it is set",
            api::time::format(rt::now().wall)
        );
    }
    if config.idle_provider {
        log::warn!("--secrets-encryption-provider does nothing without --secrets-encryption");
    }
    let wanted = &config.apiserver;
    config.components.warn();
    let admission =
        server::Admission::new(&wanted.enable, &wanted.disable, wanted.admission_file.as_deref())?;
    let audit = server::Audit::open(&wanted.audit)?;
    let plugs = server::Plugs {
        audit: audit.clone(),
        token_webhook: server::TokenWebhook::open(&wanted.token_webhook)?,
        authenticators: server::Authenticators::open(
            &wanted.authentication,
            &[service_account_issuer(&config)],
        )?,
        authorizers: server::Authorizers::open(&wanted.authorization)?,
    };
    let _authenticators = plugs
        .authenticators
        .clone()
        .filter(|others| others.has_file())
        .map(|others| rt::spawn_named("authentication configuration", others.follow()));
    let _authorizers =
        plugs.authorizers.clone().filter(|authorizers| authorizers.has_file()).map(|authorizers| {
            rt::spawn_named("authorization configuration", authorizers.follow())
        });
    let paths = Paths::new(&config.data_dir);
    let _locks = (prepare::lock(&paths)?, prepare::lock_run_directory(&config)?);
    follow::resume_clock(&paths);
    bootstrap::promote(&paths).context(|| "put the new authorities in their places")?;
    let plan = embedded::plan(&mut config, &paths)?;
    let etc = EtcDir::choose(&config)?;
    // Beside the rest of the start, which needs none of it before the node asks for its image.
    let unpacking = rt::spawn(unpack_userspace(paths.clone()));
    families::begin(&mut config, &paths).await?;
    families::check(&config)?;
    let hostname = sys::host::name().context(|| "read the host's name")?;
    let node_name = prepare::node_name(&config, &etc, &hostname)?;
    let node_ips = prepare::node_ips(&config).await?;
    let machine = Arc::new(Machine { config, paths, etc, hostname, node_name, node_ips });

    let etcd = match plan {
        Some(plan) => {
            let started = embedded::start(&machine, plan).await?;
            // It was only taken out of its cluster.
            let Some(etcd) = started else { return Ok(()) };
            Some(etcd)
        }
        None => None,
    };
    let Opened { store, encryption, pki, passwords } = state::open(&machine).await?;
    let _reload = (machine.config.apiserver.encryption_reload
        || machine.config.secrets_provider.is_some())
    .then(|| rt::spawn_named("encryption configuration", Arc::clone(&encryption).follow()));
    prepare::write_tokens(&machine.paths, &passwords, &pki.server_ca.chain_pem)?;
    let node_password = prepare::ensure_node_password(&machine.etc)?;
    write_kubeconfig(&machine, &pki)?;

    let shown = Shown::new(&pki)?;
    let tunnels = Tunnels::new(machine.config.egress);
    let mut config = server_config(&machine, &pki, &shown, admission)?;
    let wanted = &machine.config.apiserver;
    config.fair = wanted.in_flight.fair;
    config.mutating_requests_max = wanted.in_flight.mutating_max();
    config.reading_requests_max = wanted.in_flight.reading_max();
    config.tunnels = Some(Arc::clone(&tunnels) as _);
    let server = Server::start_with(config, store.clone(), plugs).await?;
    // Before it writes what others might not read.
    controllers::agree(&machine, &server).await?;
    if store.is_shared() && !machine.config.disable_agent {
        let client = server.client_as(User::new("system:k3s-supervisor", &["system:masters"]));
        let claimed = cluster::claim_own(client, &machine.node_name, &node_password).await;
        claimed.context(|| {
            let file = machine.etc.node_password();
            format!("Node password rejected, duplicate hostname or contents of '{}' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag", file.display())
        })?;
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
    let secrets = secrets_encryption(&machine, &server, sealing);
    let snapshots = etcd.as_ref().map(|etcd| snapshots(&machine, &server, etcd, &passwords));
    let desk = etcd.clone().zip(snapshots.clone());
    let own = (passwords, keys.shared(), node_password, desk);
    let supervisor = supervisor(&machine, &server, &pki, own, Arc::clone(&secrets));
    let listener =
        listen(&machine, &server, &pki, (&shown, supervisor, Arc::clone(&tunnels))).await?;
    let manager = server.client_as(User::new("system:kube-controller-manager", &[]));
    let informers = Informers::following(manager, Arc::clone(server.kinds()));
    let authorities = Authorities { client: pki.client_ca.clone(), server: pki.server_ca.clone() };
    let means = (&informers, authorities, etcd.clone());
    let controllers = controllers::start(&machine, &server, &store, means).await?;
    let _snapshots = match snapshots.filter(|_| !machine.config.snapshots.disabled) {
        Some(snapshots) => Some(snapshots.keep()?),
        None => None,
    };
    let deploy = start_deploy(&machine, &server).await?;
    unpacking.await;
    let mut agent = None;
    let up = async {
        let follow = |agent| {
            let (server, shown) = (server.clone(), shown.clone());
            let follow = follow::run(Arc::clone(&machine), server, agent, shown, pki.clone());
            rt::spawn_named("certificates and addresses", follow)
        };
        let mut _follow = follow(None);
        let mut _role = None;
        if !machine.config.disable_agent {
            let link = link(&machine, &server, &pki, &shown, &informers);
            _role = Some(cluster::role::keep(
                server.client_as(User::new("system:k3s-supervisor", &["system:masters"])),
                &machine.node_name,
                etcd.as_ref().map(|etcd| etcd.member()),
            ));
            let started = Arc::new(unable::start(&machine, &link).await?);
            _follow = follow(Some(Arc::clone(&started)));
            agent.insert(started).ready().await;
            secrets.show().await;
        }
        let took = rt::now().mono.since(started);
        log::info!(
            "k3rs is up and running: node {} is Ready after {} ms",
            machine.node_name,
            took.as_millis()
        );
        std::future::pending().await
    };
    let ends = async {
        match &etcd {
            Some(etcd) => Err(etcd.over().await),
            None => std::future::pending().await,
        }
    };
    let up = rt::future::or(ends, up);
    let signal = rt::future::or(rt::signal::terminated(), up).await?;
    log::info!("Received {signal}, shutting down; containers run on");
    controllers.end().await;
    drop((deploy, informers, clock));
    if let Some(agent) = agent {
        agent.stop().await;
    }
    if let Some(kine) = kine {
        kine.close().await;
    }
    // They would be waited for as requests are.
    tunnels.end();
    listener.shutdown(SHUTDOWN_GRACE).await;
    if let Some(audit) = audit {
        audit.flush().await;
    }
    drop(server);
    store.close().await.context(|| "close the datastore")?;
    if let Some(etcd) = etcd {
        etcd.stop().await;
    }
    log::info!("Stopped");
    Ok(())
}

/// The node of this process: it calls the server as functions, each of its parts as itself.
fn link(
    machine: &Machine,
    server: &Server,
    pki: &Pki,
    shown: &Shown,
    informers: &Informers,
) -> Link {
    let (node_name, opened) = (machine.node_name.clone(), server.clone());
    Link {
        kubelet: server.client_as(User::node(&machine.node_name)),
        proxy: server.client_as(User::new("system:kube-proxy", &["system:node-proxier"])),
        namespaces: Some(informers.clone()),
        policies: server.client_as(User::new("system:k3s-controller", &[])),
        local_path: Some(
            server.client_as(User::controller("local-path-provisioner-service-account")),
        ),
        serving: Arc::clone(&shown.kubelet),
        client_ca_pem: pki.client_ca.chain_pem.clone(),
        open: Box::new(move |kubelet| {
            opened.set_door(Arc::new(LocalDoor { node_name: node_name.clone(), kubelet }));
        }),
    }
}

/// The server's way to the kubelet of this process.
struct LocalDoor {
    node_name: String,
    kubelet: Arc<dyn http::server::Service>,
}

impl server::NodeDoor for LocalDoor {
    fn has(&self, node: &str) -> bool {
        node == self.node_name
    }

    fn call<'a>(
        &'a self,
        _node: &'a str,
        request: http::Request,
    ) -> rt::BoxFuture<'a, http::Response> {
        self.kubelet.call(request)
    }
}

/// A node without its tools is better than none: a full disk may well be what they are wanted for.
pub(crate) async fn unpack_userspace(paths: Paths) {
    let data = paths.data();
    if let Err(error) = rt::unblock(move || userspace::unpack(&paths)).await {
        log::error!("going on without the tools in {}: {error}", data.display());
    }
}

/// What certificates depend on while the node has these addresses.
pub(crate) fn pki_settings(machine: &Machine, node_ips: &[IpAddr]) -> cluster::pki::Settings {
    let config = &machine.config;
    let mut san_addresses: Vec<IpAddr> =
        config.service_cidrs.iter().map(|cidr| cidr.nth(1)).collect();
    san_addresses.extend(&config.node_external_ips);
    san_addresses.extend(config.advertise_address);
    let mut san_names = Vec::new();
    for san in &config.tls_san {
        match san.parse() {
            Ok(address) => san_addresses.push(address),
            Err(_) => san_names.push(san.clone()),
        }
    }
    cluster::pki::Settings {
        node_name: machine.node_name.clone(),
        node_addresses: node_ips.to_vec(),
        san_addresses,
        san_names,
        cluster_domain: config.cluster_domain.clone(),
        https_port: config.https_port,
        etcd: config.embeds_etcd,
    }
}

/// Where pods find the API: at the node, or at its end of their bridge while it has no address. The `kubernetes`
/// Service is of one family, the first.
pub(crate) fn advertised(machine: &Machine, node_ips: &[IpAddr]) -> Vec<IpAddr> {
    let config = &machine.config;
    let fixed =
        config.advertise_address.into_iter().chain(config.node_external_ips.iter().copied());
    let outside = node_ips.iter().copied().filter(|address| !address.is_loopback());
    let bridge = config.cluster_cidrs.iter().map(|cidr| cidr.nth(1));
    let ipv4 = config.service_cidrs.first().is_none_or(|cidr| cidr.address.is_ipv4());
    let all = fixed.chain(outside).chain(bridge);
    all.filter(|address| address.is_ipv4() == ipv4).take(1).collect()
}

pub(crate) fn write_kubeconfig(machine: &Machine, pki: &Pki) -> Result<()> {
    let config = &machine.config;
    let host = match config.bind_address {
        address if address.is_unspecified() => config.loopback(),
        address => address,
    };
    let url = format!("https://{}", SocketAddr::new(host, config.https_port));
    let text = cluster::kubeconfig::Kubeconfig {
        server_url: &url,
        ca_pem: &pki.server_ca.chain_pem,
        certificate: &pki.admin,
    }
    .to_yaml();
    let path = config.write_kubeconfig.clone().unwrap_or_else(|| machine.etc.kubeconfig());
    rt::fs::keep(&path, text.as_bytes(), config.kubeconfig_mode)?;
    if let Some(group) = &config.kubeconfig_group {
        let gid = sys::host::group_id(group)
            .context(|| format!("find the group {group:?} of --write-kubeconfig-group"))?;
        rt::fs::set_owner(&path, None, Some(gid))?;
    }
    prepare::remember_kubeconfig(&machine.paths, &path)?;
    log::info!("Wrote kubeconfig {}", path.display());
    Ok(())
}

/// Who issues the tokens of service accounts.
fn service_account_issuer(config: &Config) -> String {
    format!("https://kubernetes.default.svc.{}", config.cluster_domain)
}

fn server_config(
    machine: &Machine,
    pki: &Pki,
    shown: &Shown,
    admission: server::Admission,
) -> Result<server::Config> {
    let config = &machine.config;
    let mut service_cidrs = Vec::new();
    for cidr in &config.service_cidrs {
        service_cidrs.push(
            server::Cidr::parse(&cidr.to_string())
                .context(|| format!("use service range {cidr}"))?,
        );
    }
    let advertise_addresses = advertised(machine, &machine.node_ips);
    let issuer = service_account_issuer(config);
    let mut keys = pki.service_account_keys.iter().map(|key| key.as_bytes().to_vec());
    let url = advertise_addresses
        .first()
        .map(|address| format!("https://{}", SocketAddr::new(*address, config.advertise_port)));
    Ok(server::Config {
        built: follow::built(),
        network_policies: !config.disable_network_policy,
        service_cidrs,
        node_ports: config.node_ports,
        advertise_addresses,
        advertise_port: config.advertise_port,
        external_url: url.unwrap_or_default(),
        api_audiences: vec![issuer.clone(), "k3s".into()],
        issuers: vec![issuer],
        service_account_key: keys.next().context(|| "find a service account key")?,
        service_account_public_keys: keys.collect(),
        client_ca: pki.client_ca.chain_pem.clone().into_bytes(),
        request_header_ca: pki.request_header_ca.chain_pem.clone().into_bytes(),
        proxy_identity: Some(Arc::clone(&shown.auth_proxy)),
        kubelet_tls: Some(kubelet_tls(pki, shown)?),
        requests_max_bytes: usize::try_from(rt::memory_bytes() / 8)
            .unwrap_or(usize::MAX)
            .clamp(8 << 20, 128 << 20),
        admission,
        usage: !config.disabled("metrics-server"),
        ..server::Config::default()
    })
}

/// How the server shows itself to the kubelets of other machines, and which it believes.
fn kubelet_tls(pki: &Pki, shown: &Shown) -> Result<Arc<http::tls::ClientConfig>> {
    let roots = http::tls::roots(pki.server_ca.chain_pem.as_bytes())?;
    let identity = Arc::clone(&shown.kubelet_client);
    http::tls::client_config(http::tls::Trust::Roots(roots), Some(identity))
}

/// Opens the API port and serves.
async fn listen(
    machine: &Machine,
    server: &Server,
    pki: &Pki,
    (shown, supervisor, tunnels): (&Shown, Supervisor, Arc<Tunnels>),
) -> Result<http::server::Server> {
    let address = SocketAddr::new(machine.config.bind_address, machine.config.https_port);
    // Clients and front proxies have CAs of their own; who signed is looked at again when a
    // certificate's name is trusted.
    let cas = format!("{}{}", pki.client_ca.chain_pem, pki.request_header_ca.chain_pem);
    let identity = Arc::clone(&shown.apiserver);
    let tls = http::tls::server_config(identity, Some(http::tls::roots(cas.as_bytes())?))?;
    let bound = rt::net::TcpListener::bind(address).await;
    let bound = bound.context(|| {
        format!("listen on {address} (set --https-listen-port if another program uses it)")
    })?;
    let ca_pem = pki.server_ca.chain_pem.clone();
    let extra = Face::new(machine.paths.clone(), ca_pem, server.clone(), supervisor, tunnels);
    let service = server.service(Some(Arc::new(extra)));
    let http = http::server::Server::new(service, http::server::Limits::default());
    let serving = http.clone();
    rt::spawn_named("https server", async move {
        if let Err(error) = serving.serve(http::server::Listener::Tcp(bound), Some(tls)).await {
            log::error!("serve {address}: {error}");
        }
    })
    .detach();
    log::info!("Listening on https://{address}");
    Ok(http)
}

/// What changes the keys of Secrets.
fn secrets_encryption(
    machine: &Machine,
    server: &Server,
    sealing: secrets::Sealing,
) -> Arc<SecretsEncryption> {
    let config = &machine.config;
    SecretsEncryption::new(cluster::secrets_encryption::Setup {
        paths: machine.paths.clone(),
        // An administrator's own configuration is theirs to change.
        provider: config
            .secrets_provider
            .clone()
            .filter(|_| config.apiserver.encryption_file.is_none()),
        sealing: Arc::new(sealing),
        client: server.client_as(User::new("system:k3s-supervisor", &["system:masters"])),
        node: (!config.disable_agent).then(|| machine.node_name.clone()),
        shared: config.datastore.is_some(),
    })
}

/// What all nodes and servers must agree on.
pub(crate) fn settings(machine: &Machine) -> Settings {
    let config = &machine.config;
    let blocks = |cidrs: &[crate::config::Cidr]| {
        cidrs.iter().map(|cidr| (cidr.address, cidr.bits)).collect()
    };
    Settings {
        cluster_cidrs: blocks(&config.cluster_cidrs),
        service_cidrs: blocks(&config.service_cidrs),
        cluster_dns: config.cluster_dns.clone(),
        cluster_domain: config.cluster_domain.clone(),
        node_ports: config.node_ports,
        flannel_backend: config.flannel_backend.map_or("none", net::Backend::name).to_owned(),
        flannel_external_ip: config.flannel_external_ip,
        flannel_ipv6_masq: config.flannel_ipv6_masq,
        egress_selector_mode: config.egress.name().to_owned(),
        network_policies: !config.disable_network_policy,
        encryption: config.secrets_provider.clone().unwrap_or_default(),
        https_port: config.https_port,
    }
}

/// What takes snapshots of the embedded etcd.
fn snapshots(
    machine: &Machine,
    server: &Server,
    etcd: &Arc<Embedded>,
    passwords: &KnownPasswords,
) -> Arc<Snapshots> {
    let user = User::new("system:k3s-supervisor", &["system:masters"]);
    let dir = machine.paths.server().join("db").join("snapshots");
    Snapshots::new(
        Arc::clone(etcd),
        server.client_as(user),
        &machine.node_name,
        (&machine.config.snapshots, dir),
        passwords.clone(),
    )
}

/// What nodes that join find here.
fn supervisor(
    machine: &Machine,
    server: &Server,
    pki: &Pki,
    (passwords, keys, node_password, desk): (
        KnownPasswords,
        Arc<dyn cluster::supervisor::Keys>,
        String,
        Option<(Arc<Embedded>, Arc<Snapshots>)>,
    ),
    encryption: Arc<SecretsEncryption>,
) -> Supervisor {
    let config = &machine.config;
    Supervisor::new(Setup {
        client: server.client_as(User::new("system:k3s-supervisor", &["system:masters"])),
        paths: machine.paths.clone(),
        authorities: Authorities { client: pki.client_ca.clone(), server: pki.server_ca.clone() },
        passwords,
        keys,
        config: settings(machine).to_json(),
        own_node: (!config.disable_agent).then(|| (machine.node_name.clone(), node_password)),
        clock: follow::clock,
        encryption,
        etcd: desk.map(|(etcd, snapshots)| Arc::new(Desk { etcd, snapshots }) as _),
    })
}

/// Writes the packaged manifests and starts applying `server/manifests/`.
async fn start_deploy(machine: &Machine, server: &Server) -> Result<rt::Task<Option<()>>> {
    let config = &machine.config;
    let base = machine.paths.manifests();
    rt::fs::create_dir_all(&base, 0o700)?;
    rt::fs::create_dir_all(machine.paths.static_files(), 0o755)?;
    let dns = config.cluster_dns.first().map(ToString::to_string).unwrap_or_default();
    let all_dns: Vec<String> = config.cluster_dns.iter().map(|ip| format!("\"{ip}\"")).collect();
    let both = config.cluster_dns.len() > 1;
    let storage = config.local_storage_path.display().to_string();
    let variables = [
        ("CLUSTER_DNS", dns.as_str()),
        ("CLUSTER_DNS_LIST", &all_dns.join(", ")),
        ("CLUSTER_DNS_IPFAMILYPOLICY", if both { "RequireDualStack" } else { "SingleStack" }),
        ("CLUSTER_DOMAIN", &config.cluster_domain),
        ("DEFAULT_LOCAL_STORAGE_PATH", &storage),
        ("VERSION", stdx::version::VERSION),
    ];
    for packaged in addons::PACKAGED.iter().filter(|packaged| !config.disabled(packaged.name)) {
        let (path, text) = (base.join(packaged.file), packaged.render(&variables));
        // `.skip` beside it means the user's own version, or none, is wanted.
        if rt::fs::read_optional(base.join(format!("{}.skip", packaged.file)))?.is_none() {
            rt::fs::keep(&path, text.as_bytes(), 0o600)?;
        }
    }
    let user = User::new("system:k3s-supervisor", &["system:masters"]);
    let deploy = addons::deploy::Deploy::new(
        server.client_as(user),
        base,
        config.disable.clone(),
        machine.node_name.clone(),
    );
    Ok(rt::spawn_named("deploy controller", async move {
        if let Err(error) = deploy.run().await {
            log::error!("deploy controller: {error}");
        }
    }))
}

/// `--resolv-conf`, or the host's, skipping systemd-resolved's stub.
pub(crate) fn resolv_conf(config: &Config) -> PathBuf {
    if let Some(path) = &config.resolv_conf {
        return path.clone();
    }
    let candidates = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"].map(PathBuf::from);
    let usable = |path: &&PathBuf| {
        rt::fs::read_text(path).is_ok_and(|text| {
            text.lines()
                .filter_map(|line| line.strip_prefix("nameserver"))
                .any(|server| server.trim().parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback()))
        })
    };
    candidates.iter().find(usable).cloned().unwrap_or_else(|| candidates[0].clone())
}
