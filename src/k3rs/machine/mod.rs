//! The machine that a server or an agent runs on, as the first steps settle it for all later ones, and what follows from it.

pub(crate) mod clock;
pub(crate) mod door;
pub(crate) mod holder;
pub(crate) mod logging;
pub(crate) mod notify;
pub(crate) mod prepare;
pub(crate) mod upgrade;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use cluster::settings::Settings;
use cluster::{Paths, Pki};
use stdx::{Context, Result};

use self::prepare::EtcDir;
use crate::settings::cidr::Cidr;
use crate::settings::config::Config;
use crate::userspace;

/// Threads that run tasks, beside the pool for disk work. Two keep one slow request from stopping
/// the rest on the smallest boards, and cost little memory.
pub(crate) const N_WORKERS: usize = 2;

/// Where a process runs, and as what.
pub(crate) struct Machine {
    pub(crate) config: Config,
    pub(crate) paths: Paths,
    pub(crate) etc: EtcDir,
    pub(crate) hostname: String,
    pub(crate) node_name: String,
    pub(crate) node_ips: Vec<IpAddr>,
}

/// Takes as many open files as may be had, and no more than are `wanted`; how many that are.
pub(crate) fn open_files(wanted: u64) -> usize {
    const RLIMIT_NOFILE: u32 = 7;
    let (soft, hard) = sys::process::rlimit(RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let wanted = soft.max(wanted).min(hard);
    let set = (wanted > soft).then(|| sys::process::set_rlimit(RLIMIT_NOFILE, wanted, hard));
    let has = if set.is_none_or(|set| set.is_ok()) { wanted } else { soft };
    usize::try_from(has).unwrap_or(usize::MAX)
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
        // Where programs of this machine find an API server.
        https_port: match config.disable_apiserver {
            true => config.lb_server_port,
            false => config.https_port,
        },
        etcd: config.embeds_etcd || config.disable_etcd,
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

/// What all nodes and servers must agree on.
pub(crate) fn settings(machine: &Machine) -> Settings {
    let config = &machine.config;
    let blocks = |cidrs: &[Cidr]| cidrs.iter().map(|cidr| (cidr.address, cidr.bits)).collect();
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
        external_cloud: config.disable_cloud_controller,
        network_policies: !config.disable_network_policy,
        encryption: config.secrets_provider.clone().unwrap_or_default(),
        https_port: config.https_port,
    }
}

/// A node without its tools is better than none: a full disk may well be what they are wanted for.
pub(crate) async fn unpack_userspace(paths: Paths) {
    let data = paths.data();
    if let Err(error) = rt::unblock(move || userspace::unpack(&paths)).await {
        log::error!("going on without the tools in {}: {error}", data.display());
    }
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
