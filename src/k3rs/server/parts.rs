//! What a server is made of: each part from the configuration, and how they are put together.

use std::net::SocketAddr;
use std::sync::Arc;

use addons::deploy::Values;
use client::{Client, Informers};
use cluster::Pki;
use cluster::secrets_encryption::SecretsEncryption;
use cluster::signer::Authorities;
use cluster::supervisor::{KnownPasswords, Setup, Supervisor};
use server::{Server, User};
use stdx::{Context, Result};

use crate::etcd::embedded::Embedded;
use crate::etcd::snapshots::{Desk, Snapshots};
use crate::machine::clock;
use crate::machine::{Machine, advertised, settings};
use crate::node::Link;
use crate::node::follow::Shown;
use crate::peers::tunnel::Tunnels;
use crate::server::secrets;
use crate::server::supervisor::Face;
use crate::settings::config::Config;

/// What an administrator's files and webhooks add to the server.
pub(crate) struct Plugs {
    pub(crate) admission: server::Admission,
    pub(crate) audit: Option<Arc<server::Audit>>,
    pub(crate) plugs: server::Plugs,
}

/// Reads and opens them.
///
/// # Errors
/// What is wrong with one of them.
pub(crate) fn plugs(config: &Config) -> Result<Plugs> {
    let wanted = &config.apiserver;
    let admission =
        server::Admission::new(&wanted.enable, &wanted.disable, wanted.admission_file.as_deref())?;
    let audit = server::Audit::open(&wanted.audit)?;
    let plugs = server::Plugs {
        audit: audit.clone(),
        token_webhook: server::TokenWebhook::open(&wanted.token_webhook)?,
        authenticators: server::Authenticators::open(
            &wanted.authentication,
            &[service_account_issuer(config)],
        )?,
        authorizers: server::Authorizers::open(&wanted.authorization)?,
    };
    Ok(Plugs { admission, audit, plugs })
}

/// Follows those of their files that may change.
pub(crate) fn follow_files(plugs: &Plugs) -> Vec<rt::Task<Option<()>>> {
    let mut tasks = Vec::new();
    if let Some(others) = plugs.plugs.authenticators.clone().filter(|others| others.has_file()) {
        tasks.push(rt::spawn_named("authentication configuration", others.follow()));
    }
    if let Some(others) = plugs.plugs.authorizers.clone().filter(|others| others.has_file()) {
        tasks.push(rt::spawn_named("authorization configuration", others.follow()));
    }
    tasks
}

/// Claims the name of this process's node for it, as those do who join.
///
/// # Errors
/// If the name is another machine's.
pub(crate) async fn claim_own_name(
    machine: &Machine,
    server: &Server,
    password: &str,
) -> Result<()> {
    claim_name(machine, supervisor_of(server), password).await
}

/// [`claim_own_name`] over any API server.
///
/// # Errors
/// If the name is another machine's, or no API server answers.
pub(crate) async fn claim_name(machine: &Machine, client: Client, password: &str) -> Result<()> {
    let Err(status) = cluster::claim_own(client, &machine.node_name, password).await else {
        return Ok(());
    };
    let is_others = status.code() == 403;
    Err(status).context(|| match is_others {
        true => {
            let file = machine.etc.node_password();
            format!("Node password rejected, duplicate hostname or contents of '{}' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag", file.display())
        }
        false => format!("claim the name {} for this node", machine.node_name),
    })
}

/// As whom the supervisor reads and writes.
pub(crate) fn supervisor_of(server: &Server) -> Client {
    server.client_as(User::new("system:k3s-supervisor", &["system:masters"]))
}

/// The node of this process: it calls the server as functions, each of its parts as itself.
pub(crate) fn link(
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

/// Who issues the tokens of service accounts.
pub(crate) fn service_account_issuer(config: &Config) -> String {
    format!("https://kubernetes.default.svc.{}", config.cluster_domain)
}

pub(crate) fn server_config(
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
    rules::gates::switch(&config.apiserver.gates);
    Ok(server::Config {
        built: clock::built(),
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
        fair: config.apiserver.in_flight.fair,
        mutating_requests_max: config.apiserver.in_flight.mutating_max(),
        reading_requests_max: config.apiserver.in_flight.reading_max(),
        usage: !config.disabled("metrics-server"),
        ..server::Config::default()
    })
}

/// How the server shows itself to the kubelets of other machines, and which it believes.
pub(crate) fn kubelet_tls(pki: &Pki, shown: &Shown) -> Result<Arc<http::tls::ClientConfig>> {
    let roots = http::tls::roots(pki.server_ca.chain_pem.as_bytes())?;
    let identity = Arc::clone(&shown.kubelet_client);
    http::tls::client_config(http::tls::Trust::Roots(roots), Some(identity))
}

/// Opens the API port and serves.
pub(crate) async fn listen(
    machine: &Machine,
    server: &Server,
    pki: &Pki,
    (shown, supervisor, tunnels): (&Shown, Supervisor, Arc<Tunnels>),
) -> Result<http::server::Server> {
    // Clients and front proxies have CAs of their own; who signed is looked at again when a
    // certificate's name is trusted.
    let cas = format!("{}{}", pki.client_ca.chain_pem, pki.request_header_ca.chain_pem);
    let ca_pem = pki.server_ca.chain_pem.clone();
    let api = Some((server.clone(), tunnels));
    let extra = Face::new(machine.paths.clone(), ca_pem, api, supervisor);
    open_port(machine, shown, &cas, server.service(Some(Arc::new(extra)))).await
}

/// Opens the port of servers. `cas` are the authorities of those who show certificates, in PEM.
///
/// # Errors
/// If another program has it.
pub(crate) async fn open_port(
    machine: &Machine,
    shown: &Shown,
    cas: &str,
    service: Arc<dyn http::server::Service>,
) -> Result<http::server::Server> {
    let address = SocketAddr::new(machine.config.bind_address, machine.config.https_port);
    let identity = Arc::clone(&shown.apiserver);
    let tls = http::tls::server_config(identity, Some(http::tls::roots(cas.as_bytes())?))?;
    let bound = rt::net::TcpListener::bind(address).await;
    let bound = bound.context(|| {
        format!("listen on {address} (set --https-listen-port if another program uses it)")
    })?;
    let limits = http::server::Limits { connections_max: connections_max(), ..Default::default() };
    let http = http::server::Server::new(service, limits);
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

/// Connections to a server. An agent has three or four; each of them costs what it says here at the worst, and all of them
/// an eighth of the memory, but for small machines, which have some hundreds in any case.
fn connections_max() -> usize {
    const BYTES: u64 = 64 << 10;
    const MIN: u64 = 512;
    const MAX: u64 = 8192;
    let max = (rt::memory_bytes() / 8 / BYTES).clamp(MIN, MAX);
    // As many other files as connections, and some, are open.
    let files = crate::machine::open_files(2 * max + 1024);
    usize::try_from(max).unwrap_or(usize::MAX).min(files / 2)
}

/// What changes the keys of Secrets.
pub(crate) fn secrets_encryption(
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
        client: supervisor_of(server),
        node: (!config.disable_agent).then(|| machine.node_name.clone()),
        shared: config.datastore.is_some(),
    })
}

/// What takes snapshots of the embedded etcd.
pub(crate) fn snapshots(
    machine: &Machine,
    client: Client,
    etcd: &Arc<Embedded>,
    passwords: &KnownPasswords,
) -> Arc<Snapshots> {
    let dir = machine.paths.snapshots();
    Snapshots::new(
        Arc::clone(etcd),
        client,
        &machine.node_name,
        (&machine.config.snapshots, dir),
        passwords.clone(),
    )
}

/// What nodes that join find here.
pub(crate) fn supervisor(
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
        client: supervisor_of(server),
        paths: machine.paths.clone(),
        authorities: Authorities { client: pki.client_ca.clone(), server: pki.server_ca.clone() },
        passwords,
        keys: Some(keys),
        config: settings(machine).to_json(),
        own_node: (!config.disable_agent).then(|| (machine.node_name.clone(), node_password)),
        clock: clock::clock,
        encryption: Some(encryption),
        etcd: desk.map(|(etcd, snapshots)| Arc::new(Desk { etcd, snapshots }) as _),
    })
}

/// Writes the packaged manifests and starts applying `server/manifests/`.
pub(crate) async fn start_deploy(
    machine: &Machine,
    server: &Server,
    asked: Arc<rt::Event>,
) -> Result<rt::Task<Option<()>>> {
    let config = &machine.config;
    // Without the controller that defines them nobody reads HelmChartConfigs.
    let values = (!config.disable_helm_controller)
        .then(|| Values { check: crate::ingress::takes, changed: asked });
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
    let deploy = addons::deploy::Deploy::new(
        supervisor_of(server),
        Arc::clone(server.kinds()),
        base,
        config.disable.clone(),
        machine.node_name.clone(),
        values,
    );
    Ok(rt::spawn_named("deploy controller", async move {
        if let Err(error) = deploy.run().await {
            log::error!("deploy controller: {error}");
        }
    }))
}
