//! `k3rs agent`: joins a server's cluster by a token, then runs this machine as its node, also while no server answers.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use client::{Access, Client};
use cluster::Paths;
use cluster::join::Joined;
use cluster::settings::{Settings, has_api};
use cluster::token::Token;
use http::client::Url;
use http::tls::Identity;
use stdx::backoff::Backoff;
use stdx::{Context, Error, Result};

use crate::machine::prepare::{self, EtcDir};
use crate::machine::{Machine, N_WORKERS};
use crate::node::Link;
use crate::peers::balancer::Balancer;
use crate::peers::join::{Joining, SERVER_NAME};
use crate::peers::tunnel;
use crate::settings::cidr::Cidr;
use crate::settings::cidr::Open;
use crate::settings::config::Config;
use crate::settings::egress::Mode;
use crate::settings::families;
use crate::settings::flags::On;
use crate::{machine::clock, machine::logging, machine::notify, machine::upgrade, node::unable};

/// Between attempts to join.
const RETRY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(30));
/// Attempts of many agents must not come together.
const JITTER_MAX_MS: u64 = 1000;
/// Certificates are looked at this often at the least: a clock may be set.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The command: exit code 0 after SIGTERM, 1 after an error.
pub(crate) fn command(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        crate::print(&crate::settings::help::agent());
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(On::Agent, args, |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return crate::fail(&error.to_string()),
    };
    let (url, token) = match wanted(&config) {
        Ok(wanted) => wanted,
        Err(error) => return crate::fail(&error.to_string()),
    };
    if let Err(error) = prepare::need_root("agent") {
        return crate::fail(&error.to_string());
    }
    if let Err(error) = logging::start(config.debug, config.log.as_deref(), config.alsologtostderr)
    {
        return crate::fail(&error.to_string());
    }
    rt::start_workers(N_WORKERS);
    match rt::block_on(run(config, url, token)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Where and with what to join; a node that joined before needs no token any more.
fn wanted(config: &Config) -> Result<(Url, Option<Token>)> {
    let server = config.server.as_deref().context(|| "--server is required")?;
    let url = Url::parse(server).context(|| "read --server")?;
    if url.scheme != "https" {
        return Err(Error::new(format!(
            "only https:// URLs are supported, invalid scheme: {server}"
        )));
    }
    let token = config.token.as_deref().map(Token::parse).transpose();
    let token = token.context(|| "read --token")?;
    let paths = Paths::new(&config.data_dir);
    if token.is_none() && Joined::read(&paths)?.is_none() {
        return Err(Error::new("--token is required"));
    }
    Ok((url, token))
}

async fn run(mut config: Config, url: Url, token: Option<Token>) -> Result<()> {
    log::info!("Starting k3rs agent {}", stdx::version::VERSION);
    config.components.warn();
    prepare::outlive_pods();
    let _clock = rt::spawn_named("clock", rt::follow_clock());
    rt::spawn_named("memory", rt::follow_memory()).detach();
    http::tls::not_earlier_than(clock::built());
    let paths = Paths::new(&config.data_dir);
    let _locks = (prepare::lock(&paths)?, prepare::lock_run_directory(&config)?);
    let _kubelet_lock = prepare::lock_kubelet_directory(&config)?;
    upgrade::begin(&paths)?;
    let etc = EtcDir::choose(&config)?;
    rt::fs::create_dir_all(paths.agent().join("etc"), 0o700)?;
    crate::machine::unpack_userspace(paths.clone()).await;
    let hostname = sys::host::name();
    let node_name = prepare::node_name(&config, &etc, &hostname)?;
    let mut node_ips = prepare::node_ips(&config).await?;
    let balancer = Balancer::open(&paths, Some(&url), !config.disable_apiserver_lb);
    let joining = Joining {
        balancer: Arc::clone(&balancer),
        node_name: node_name.clone(),
        password: prepare::ensure_node_password(&etc)?,
        password_file: etc.node_password(),
        token,
        url,
    };
    let mut _listening = None;
    let near = SocketAddr::new(config.loopback(), config.lb_server_port);
    let local = match config.disable_apiserver_lb {
        true => config.server.clone().unwrap_or_default(),
        false => {
            _listening = Some(Arc::clone(&balancer).listen(near).await?);
            format!("https://{near}")
        }
    };
    let mut node = None;
    let up = async {
        let keeper = Keeper {
            joining,
            paths: paths.clone(),
            local,
            external: config.node_external_ips.clone(),
        };
        let (joined, is_current) = keeper.first(&node_ips).await?;
        if !has_api(&joined.config) {
            // It was asked for those that have one when it was joined, or they are remembered.
            balancer.leave_given(&[]);
        }
        let settings = Settings::from_json(&joined.config)?;
        apply(&mut config, &settings)?;
        families::check(&config)?;
        node_ips = prepare::node_ips(&config).await?;
        let machine = Machine { config, paths, etc, hostname, node_name, node_ips };
        let link = link(&machine.paths, &balancer)?;
        let serving = Arc::clone(&link.serving);
        let _following = (!machine.config.disable_apiserver_lb)
            .then(|| rt::spawn_named("servers", Arc::clone(&balancer).follow(link.proxy.clone())));
        let (moved, moves) = rt::channel::bounded(1);
        let known = (joined, is_current, machine.node_ips.clone());
        let _keeping = rt::spawn_named("certificates", keeper.keep(known, moves, serving));
        let started = node.insert(unable::start(&machine, &link).await?);
        let _tunnels = (machine.config.egress != Mode::Disabled).then(|| {
            let kubelet = started.kubelet().clone();
            let (paths, mode) = (machine.paths.clone(), machine.config.egress);
            let keep = tunnel::keep(Arc::clone(&balancer), paths, kubelet, mode);
            rt::spawn_named("tunnels", keep)
        });
        let is = started.ready().await;
        notify::say(notify::READY);
        log::info!("k3rs agent is up and running: node {} {is}", machine.node_name);
        loop {
            started.net().node_ips_changed().await;
            started.kubelet().set_node_ips(started.net().node_ips());
            // Full is as good: what is there is read when it is taken.
            let _ = moved.force_send(started.net().node_ips());
        }
    };
    let signal = rt::future::or(rt::signal::terminated(), up).await?;
    notify::say(notify::STOPPING);
    log::info!("Received {signal}, shutting down; containers run on");
    if let Some(node) = node {
        node.stop().await;
    }
    log::info!("Stopped");
    Ok(())
}

/// What all nodes agree on comes from the server.
fn apply(config: &mut Config, settings: &Settings) -> Result<()> {
    let cidrs = |blocks: &[cluster::settings::Block]| {
        blocks.iter().map(|(address, bits)| Cidr { address: *address, bits: *bits }).collect()
    };
    config.cluster_cidrs = cidrs(&settings.cluster_cidrs);
    config.service_cidrs = cidrs(&settings.service_cidrs);
    config.cluster_dns.clone_from(&settings.cluster_dns);
    config.cluster_domain.clone_from(&settings.cluster_domain);
    config.node_ports = settings.node_ports;
    config.flannel_ipv6_masq = settings.flannel_ipv6_masq;
    config.open = Open { bind_address: config.open.bind_address, ..Open::NOTHING };
    families::settle(config, &[]);
    config.egress = Mode::parse(&settings.egress_selector_mode)?;
    config.disable_cloud_controller = settings.external_cloud;
    config.disable_network_policy = !settings.network_policies;
    config.flannel_backend = crate::settings::values::backend(&settings.flannel_backend)?;
    if settings.flannel_external_ip {
        config.flannel_external_ip = !config.node_external_ips.is_empty();
        if !config.flannel_external_ip {
            log::warn!(
                "Server has flannel-external-ip flag set but this node does not set node-external-ip. Flannel will use internal address when connecting to this node."
            );
        }
    }
    Ok(())
}

/// Joins and keeps what was joined: on disk, valid, and with the node's addresses.
struct Keeper {
    joining: Joining,
    paths: Paths,
    /// Where kubeconfigs lead.
    local: String,
    external: Vec<IpAddr>,
}

impl Keeper {
    /// Joins, however many attempts it takes, or goes on with what was kept; true if a server was asked.
    async fn first(&self, node_ips: &[IpAddr]) -> Result<(Joined, bool)> {
        let kept = Joined::read(&self.paths)?;
        let mut failures = 0;
        loop {
            match self.join(kept.as_ref(), node_ips).await {
                Ok(joined) => return Ok((joined, true)),
                Err(error) => {
                    log::error!(
                        "Failed to validate connection to cluster at {}: {error}",
                        self.joining.url
                    );
                }
            }
            if let Some(kept) = kept.as_ref().filter(|kept| self.joining.fits(kept)) {
                log::warn!("The node goes on with what it kept when it joined");
                if kept.is_expired(clock::clock()) {
                    log::warn!(
                        "Its certificates are over: it must reach a server before it is Ready"
                    );
                }
                return Ok((kept.clone(), false));
            }
            failures += 1;
            rest(failures).await;
        }
    }

    async fn join(&self, kept: Option<&Joined>, node_ips: &[IpAddr]) -> Result<Joined> {
        let serves: Vec<IpAddr> = node_ips.iter().chain(&self.external).copied().collect();
        let joined = self.joining.join(kept, &serves).await?;
        let (paths, local, kept) = (self.paths.clone(), self.local.clone(), joined.clone());
        rt::unblock(move || kept.write(&paths, &local)).await?;
        Ok(joined)
    }

    /// Joins again when certificates are due, when addresses change, and until it was done once.
    async fn keep(
        self,
        (mut joined, mut is_current, mut node_ips): (Joined, bool, Vec<IpAddr>),
        moves: rt::channel::Receiver<Vec<IpAddr>>,
        serving: Arc<Identity>,
    ) {
        let settings = joined.config.clone();
        let mut failures = 0;
        loop {
            let due = async {
                match is_current {
                    true => {
                        let left = joined.renew_at().since(rt::now().wall);
                        rt::sleep((left + Duration::from_secs(1)).min(LOOK_EVERY)).await;
                    }
                    false => rest(failures).await,
                }
                None
            };
            let moved = async {
                match moves.recv().await {
                    Ok(ips) => Some(ips),
                    Err(_) => rt::future::pending().await,
                }
            };
            match rt::future::or(moved, due).await {
                Some(ips) => node_ips = ips,
                None if is_current && joined.renew_at() > rt::now().wall => continue,
                None => {}
            }
            match self.join(Some(&joined), &node_ips).await {
                Ok(again) => {
                    let [pair, ..] = again.certificates.as_slice() else { continue };
                    let shown =
                        serving.replace_pem(pair.chain_pem.as_bytes(), pair.key_pem.as_bytes());
                    if let Err(error) = shown {
                        log::error!("show the kubelet's new certificate: {error}");
                    }
                    // Of two servers one may have an API server, and say so.
                    let read = |text| Settings::from_json(text).ok();
                    if again.config != settings && read(&again.config) != read(&settings) {
                        log::warn!(
                            "The server's settings have changed: they count after a restart of this agent"
                        );
                    }
                    log::info!("The server gave this node new certificates");
                    (joined, is_current, failures) = (again, true, 0);
                }
                Err(error) => {
                    is_current = false;
                    failures += 1;
                    log::warn!(
                        "Failed to validate connection to cluster at {}: {error}",
                        self.joining.url
                    );
                }
            }
        }
    }
}

async fn rest(failures: u32) {
    let jitter = Duration::from_millis(rt::random_u64() % JITTER_MAX_MS);
    rt::sleep(RETRY.delay(failures.max(1)) + jitter).await;
}

/// The node's ways to the server, by the kubeconfigs of its agent directory.
pub(crate) fn link(paths: &Paths, balancer: &Arc<Balancer>) -> Result<Link> {
    let client =
        |file: &str, agent: &str| client(&paths.agent().join(file), agent, Arc::clone(balancer));
    let (chain, key) = serving_files(paths);
    let serving = Identity::from_pem(&rt::fs::read(chain)?, &rt::fs::read(key)?)?;
    Ok(Link {
        kubelet: client("kubelet.kubeconfig", "kubelet")?,
        proxy: client("kubeproxy.kubeconfig", "kube-proxy")?,
        namespaces: None,
        policies: client("k3scontroller.kubeconfig", "k3s-network-policy")?,
        local_path: None,
        serving,
        client_ca_pem: rt::fs::read_text(paths.agent().join("client-ca.crt"))?,
        open: Box::new(|_| {}),
    })
}

/// A client by a kubeconfig, of whichever server lives.
pub(crate) fn client(file: &Path, agent: &str, balancer: Arc<Balancer>) -> Result<Client> {
    let mut access = Access::from_kubeconfig_file(file)?;
    access.server_name = SERVER_NAME.to_owned();
    access.dialer = Some(balancer as _);
    Client::remote(access, agent).context(|| format!("use {}", file.display()))
}

fn serving_files(paths: &Paths) -> (PathBuf, PathBuf) {
    let file = |name: &str| paths.agent().join(name);
    (file("serving-kubelet.crt"), file("serving-kubelet.key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_must_be_told() {
        for (args, wants) in [
            (&[][..], "--server is required"),
            (&["--server=x"], "read --server: parse URL \"x\": it has no scheme"),
            (&["--server=http://x"], "only https:// URLs are supported, invalid scheme: http://x"),
            (&["--server=https://x"], "--token is required"),
            (
                &["--server=https://x", "--token=K10x"],
                "read --token: parse token: no \"::\" after the CA hash",
            ),
            (&["--server=https://x", "--token=secret"], ""),
        ] {
            let mut argv: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            argv.extend(["--config=/dev/null".into(), "--data-dir=/nonexistent".into()]);
            let config = Config::load(On::Agent, &argv, |_| None).unwrap();
            let error = wanted(&config).err().map(|error| error.to_string());
            assert_eq!(error.unwrap_or_default(), wants);
        }
    }
}
