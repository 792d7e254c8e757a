//! What a server is made of: each part from the configuration, and how they are put together.

use std::net::SocketAddr;
use std::sync::Arc;

use addons::deploy::Values;
use client::Informers;
use cluster::Pki;
use cluster::secrets_encryption::SecretsEncryption;
use cluster::signer::Authorities;
use cluster::supervisor::{KnownPasswords, Setup, Supervisor};
use server::{Server, User};
use stdx::{Context, Result};

use crate::clock;
use crate::config::Config;
use crate::embedded::Embedded;
use crate::follow::Shown;
use crate::machine::{Machine, advertised, settings};
use crate::node::Link;
use crate::secrets;
use crate::snapshots::{Desk, Snapshots};
use crate::supervisor::Face;
use crate::tunnel::Tunnels;

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
    let client = server.client_as(User::new("system:k3s-supervisor", &["system:masters"]));
    let claimed = cluster::claim_own(client, &machine.node_name, password).await;
    claimed.context(|| {
        let file = machine.etc.node_password();
        format!("Node password rejected, duplicate hostname or contents of '{}' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag", file.display())
    })
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
        client: server.client_as(User::new("system:k3s-supervisor", &["system:masters"])),
        node: (!config.disable_agent).then(|| machine.node_name.clone()),
        shared: config.datastore.is_some(),
    })
}

/// What takes snapshots of the embedded etcd.
pub(crate) fn snapshots(
    machine: &Machine,
    server: &Server,
    etcd: &Arc<Embedded>,
    passwords: &KnownPasswords,
) -> Arc<Snapshots> {
    let user = User::new("system:k3s-supervisor", &["system:masters"]);
    let dir = machine.paths.snapshots();
    Snapshots::new(
        Arc::clone(etcd),
        server.client_as(user),
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
        client: server.client_as(User::new("system:k3s-supervisor", &["system:masters"])),
        paths: machine.paths.clone(),
        authorities: Authorities { client: pki.client_ca.clone(), server: pki.server_ca.clone() },
        passwords,
        keys,
        config: settings(machine).to_json(),
        own_node: (!config.disable_agent).then(|| (machine.node_name.clone(), node_password)),
        clock: clock::clock,
        encryption,
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
    let user = User::new("system:k3s-supervisor", &["system:masters"]);
    let deploy = addons::deploy::Deploy::new(
        server.client_as(user),
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
