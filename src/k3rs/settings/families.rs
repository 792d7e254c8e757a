//! Which IP families a cluster has, IPv4, IPv6 or both: what follows from them where nothing is given, and what
//! does not go together. k3s's defaults and words, and those of what k3s hands its flags to.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use stdx::{Error, Result};

use crate::settings::cidr::Cidr;
use crate::settings::config::Config;

/// How long a machine that begins a cluster without flags is given to have an IPv4 address.
const IPV4_MAX: Duration = Duration::from_secs(10);

/// Fills in what is not given, for a node that has these addresses; none are known yet if there are none.
pub(crate) fn settle(config: &mut Config, node_ips: &[IpAddr]) {
    let outside = || node_ips.iter().filter(|address| !address.is_loopback());
    let ipv6_only = outside().count() > 0 && outside().all(IpAddr::is_ipv6);
    let block = |a: u16, b: u16, bits: u8| Cidr {
        address: Ipv6Addr::from([a, b, 0, 0, 0, 0, 0, 0]).into(),
        bits,
    };
    let or = |ipv6: Cidr, second: u8| match ipv6_only {
        true => vec![ipv6],
        false => vec![Cidr { address: Ipv4Addr::from([10, second, 0, 0]).into(), bits: 16 }],
    };
    if config.open.cluster_cidr {
        config.cluster_cidrs = or(block(0xfd00, 0x42, 56), 42);
    }
    if config.open.service_cidr {
        config.service_cidrs = or(block(0xfd00, 0x43, 112), 43);
    }
    if config.open.cluster_dns {
        config.cluster_dns = config.service_cidrs.iter().map(|cidr| cidr.nth(10)).collect();
    }
    if config.open.bind_address {
        config.bind_address = match config.has_ipv6() || node_ips.iter().any(IpAddr::is_ipv6) {
            // It takes IPv4, too; a kernel without IPv6 is only asked for it where IPv6 is wanted.
            true if has_kernel_ipv6().is_ok() => Ipv6Addr::UNSPECIFIED.into(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        };
    }
}

/// Without flags, a machine that has IPv6 only begins a cluster of IPv6. A cluster stays what it began as: which
/// address a machine has first when it boots is chance.
///
/// # Errors
/// If the addresses cannot be asked for, or the choice not be kept.
pub(crate) async fn begin(config: &mut Config, paths: &cluster::Paths) -> Result<()> {
    if !(config.open.cluster_cidr && config.open.service_cidr && config.node_ips.is_empty()) {
        return Ok(());
    }
    let file = paths.server().join("ipv6-only");
    if !file.exists() {
        if paths.server().join("tls").exists() || config.server.is_some() {
            return Ok(());
        }
        let enough = |found: &[IpAddr]| found.iter().any(IpAddr::is_ipv4);
        let found = net::await_node_ips(config.interface.as_deref(), IPV4_MAX, enough).await?;
        if enough(&found) {
            return Ok(());
        }
        log::info!("This machine has IPv6 only, and so has its cluster");
        rt::fs::create_dir_all(paths.server(), 0o700)?;
        rt::fs::write_atomic(&file, b"", 0o600)?;
    }
    settle(config, &[Ipv6Addr::UNSPECIFIED.into()]);
    Ok(())
}

/// Whether all addresses of a cluster, and those given to this node of it, go together.
///
/// # Errors
/// What does not, in upstream's words.
pub(crate) fn check(config: &Config) -> Result<()> {
    check_cluster(config)?;
    if let Some(conf) = &config.flannel_conf {
        conf.check(config.flannel_backend.is_some(), &config.cluster_cidrs)?;
    }
    if config.has_ipv6() {
        has_kernel_ipv6()?;
    }
    match config.node_ips.is_empty() {
        true => Ok(()),
        false => check_node(config, &config.node_ips),
    }
}

fn check_cluster(config: &Config) -> Result<()> {
    let (cluster, service) = (&config.cluster_cidrs, &config.service_cidrs);
    let has = |cidrs: &[Cidr], ipv6: bool| cidrs.iter().any(|c| c.address.is_ipv6() == ipv6);
    let error = |text: String| Err(Error::new(text));
    if cluster.len() > 1 && !(has(cluster, false) && has(cluster, true)) {
        return error(format!(
            "len of ClusterCIDRs=={} and they are not configured as dual stack (at least one from each IPFamily)",
            cluster.len()
        ));
    }
    if cluster.len() > 2 {
        return error(format!("len of clusters is:{} > more than max allowed of 2", cluster.len()));
    }
    if service.len() > 2 {
        return error("--service-cluster-ip-range must not contain more than two entries".into());
    }
    if service.len() == 2 && !(has(service, false) && has(service, true)) {
        return error(
            "--service-cluster-ip-range[0] and --service-cluster-ip-range[1] must be of different IP family"
                .into(),
        );
    }
    for cidr in service {
        const HOST_BITS_MAX: u8 = 20;
        let whole = if cidr.address.is_ipv4() { 32 } else { 128 };
        if whole - cidr.bits > HOST_BITS_MAX {
            return error(format!(
                "specified --service-cluster-ip-range is too large; for {whole}-bit addresses, the mask must be >= {}",
                whole - HOST_BITS_MAX
            ));
        }
    }
    let first = |cidrs: &[Cidr]| cidrs.first().is_some_and(|cidr| cidr.address.is_ipv6());
    if first(cluster) != first(service) || cluster.len() != service.len() {
        return error(format!(
            "cluster-cidr: {} and service-cidr: {}, must share the same IP version (IPv4, IPv6 or dual-stack)",
            listed(cluster),
            listed(service)
        ));
    }
    if let (Some(advertised), Some(primary)) = (config.advertise_address, service.first())
        && advertised.is_ipv4() != primary.address.is_ipv4()
    {
        return error(format!(
            "service IP family \"{primary}\" must match public address family \"{advertised}\""
        ));
    }
    node_masks(config).map(drop)
}

/// The prefix lengths of a node's blocks of IPv4 and IPv6.
///
/// # Errors
/// If what is given does not fit the cluster's families.
pub(crate) fn node_masks(config: &Config) -> Result<(u8, u8)> {
    let both = config.cluster_cidrs.len() > 1;
    config.components.manager.node_cidr_masks(config.has_ipv6(), both)
}

/// The node has an address of each of its cluster's families.
///
/// # Errors
/// If it has not; in k3s's words.
pub(crate) fn check_node(config: &Config, node_ips: &[IpAddr]) -> Result<()> {
    let lacks = |cidr: &Cidr| !node_ips.iter().any(|ip| ip.is_ipv4() == cidr.address.is_ipv4());
    match config.cluster_cidrs.iter().any(lacks) {
        true => Err(Error::new(format!(
            "cluster-cidr: {} and node-ip: {}, must share the same IP version (IPv4, IPv6 or dual-stack)",
            listed(&config.cluster_cidrs),
            listed(node_ips)
        ))),
        false => Ok(()),
    }
}

/// A list as Go prints one.
fn listed<T: Display>(list: &[T]) -> String {
    let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    format!("[{}]", texts.join(" "))
}

/// # Errors
/// If this kernel has no IPv6, or not here.
pub(crate) fn has_kernel_ipv6() -> Result<()> {
    let path = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    match rt::fs::read_optional(path) {
        Ok(Some(off)) if off.starts_with(b"0") => Ok(()),
        Ok(Some(_)) => Err(Error::new(
            "IPv6 is switched off on this machine (sysctl net.ipv6.conf.all.disable_ipv6), and the cluster needs it",
        )),
        _ => Err(Error::new(
            "this kernel has no IPv6 (CONFIG_IPV6, or ipv6.disable on its command line), and the cluster needs it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::flags::On;

    fn load(args: &[&str]) -> Result<Config> {
        let mut argv: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        argv.push("--config=/dev/null".into());
        Config::load(On::Server, &argv, |_| None)
    }

    fn ips(texts: &str) -> Vec<IpAddr> {
        texts.split_whitespace().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_not_given_follows_the_nodes_addresses() {
        const IPV4: &str = "[10.42.0.0/16] [10.43.0.0/16] [10.43.0.10] 127.0.0.1";
        const IPV6: &str = "[fd00:42::/56] [fd00:43::/112] [fd00:43::a] ::1";
        for (args, found, want) in [
            (&[][..], "192.0.2.10", IPV4),
            (&[], "", IPV4),
            (&[], "127.0.0.1 ::1", IPV4),
            (&[], "192.0.2.10 fd00::10", IPV4),
            (&[], "fd00::10", IPV6),
            (&["--node-ip=fd00::10"], "fd00::10", IPV6),
            (
                &["--cluster-cidr=fd42::1/56", "--service-cidr=fd43::/112"],
                "fd00::10",
                "[fd42::/56] [fd43::/112] [fd43::a] ::1",
            ),
            (
                &[
                    "--cluster-cidr=10.42.7.7/16,fd42::/56",
                    "--service-cidr=10.43.0.0/16,fd43::/112",
                ],
                "192.0.2.10 fd00::10",
                "[10.42.0.0/16 fd42::/56] [10.43.0.0/16 fd43::/112] [10.43.0.10 fd43::a] 127.0.0.1",
            ),
        ] {
            let mut config = load(args).unwrap();
            settle(&mut config, &ips(found));
            let shown = format!(
                "{} {} {} {}",
                listed(&config.cluster_cidrs),
                listed(&config.service_cidrs),
                listed(&config.cluster_dns),
                config.loopback()
            );
            assert_eq!(shown, want, "{args:?} {found}");
            check_node(&config, &ips(found)).unwrap_or_else(|error| {
                assert!(found.is_empty(), "{args:?} {found}: {error}");
            });
        }
    }

    #[test]
    fn what_does_not_go_together() {
        const BOTH: &str = "192.0.2.10 fd00::10";
        for (args, found, want) in [
            (
                "--cluster-cidr=10.42.0.0/16,fd42::/56",
                BOTH,
                "cluster-cidr: [10.42.0.0/16 fd42::/56] and service-cidr: [10.43.0.0/16], must share the same IP version (IPv4, IPv6 or dual-stack)",
            ),
            (
                "--cluster-cidr=10.42.0.0/16,fd42::/56 --service-cidr=fd43::/112,10.43.0.0/16",
                BOTH,
                "cluster-cidr: [10.42.0.0/16 fd42::/56] and service-cidr: [fd43::/112 10.43.0.0/16], must share the same IP version (IPv4, IPv6 or dual-stack)",
            ),
            (
                "--cluster-cidr=10.42.0.0/16,10.44.0.0/16",
                BOTH,
                "len of ClusterCIDRs==2 and they are not configured as dual stack (at least one from each IPFamily)",
            ),
            (
                "--cluster-cidr=10.42.0.0/16,fd42::/56,fd44::/56",
                BOTH,
                "len of clusters is:3 > more than max allowed of 2",
            ),
            (
                "--service-cidr=fd43::/112,fd44::/112",
                BOTH,
                "--service-cluster-ip-range[0] and --service-cluster-ip-range[1] must be of different IP family",
            ),
            (
                "--service-cidr=10.43.0.0/16,fd43::/112,fd44::/112",
                BOTH,
                "--service-cluster-ip-range must not contain more than two entries",
            ),
            (
                "--cluster-cidr=fd42::/56 --service-cidr=fd43::/64",
                BOTH,
                "specified --service-cluster-ip-range is too large; for 128-bit addresses, the mask must be >= 108",
            ),
            (
                "--service-cidr=10.0.0.0/8",
                BOTH,
                "specified --service-cluster-ip-range is too large; for 32-bit addresses, the mask must be >= 12",
            ),
            (
                "--cluster-cidr=fd42::/56 --service-cidr=fd43::/112 --advertise-address=192.0.2.10",
                BOTH,
                "service IP family \"fd43::/112\" must match public address family \"192.0.2.10\"",
            ),
            (
                "--cluster-cidr=10.42.0.0/16,fd42::/56 --service-cidr=10.43.0.0/16,fd43::/112",
                "192.0.2.10",
                "cluster-cidr: [10.42.0.0/16 fd42::/56] and node-ip: [192.0.2.10], must share the same IP version (IPv4, IPv6 or dual-stack)",
            ),
            (
                "--cluster-cidr=fd42::/56 --service-cidr=fd43::/112",
                "192.0.2.10",
                "cluster-cidr: [fd42::/56] and node-ip: [192.0.2.10], must share the same IP version (IPv4, IPv6 or dual-stack)",
            ),
            (
                "--cluster-cidr=10.42.0.0/16,fd42::/56 --service-cidr=10.43.0.0/16,fd43::/112 --kube-controller-manager-arg=node-cidr-mask-size=26",
                BOTH,
                "kube-controller-manager: usage of --node-cidr-mask-size is not allowed with dual-stack clusters",
            ),
            (
                "--kube-controller-manager-arg=node-cidr-mask-size=26 --kube-controller-manager-arg=node-cidr-mask-size-ipv4=26",
                BOTH,
                "kube-controller-manager: usage of --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6 is not allowed if --node-cidr-mask-size is set. For dual-stack clusters please unset it and use IPFamily specific flags",
            ),
            (
                "--kube-controller-manager-arg=node-cidr-mask-size-ipv6=80",
                BOTH,
                "kube-controller-manager: usage of --node-cidr-mask-size-ipv6 is not allowed for a single-stack IPv4 cluster",
            ),
            (
                "--cluster-cidr=fd42::/56 --service-cidr=fd43::/112 --kube-controller-manager-arg=node-cidr-mask-size-ipv4=26",
                BOTH,
                "kube-controller-manager: usage of --node-cidr-mask-size-ipv4 is not allowed for a single-stack IPv6 cluster",
            ),
        ] {
            let args: Vec<&str> = args.split_whitespace().collect();
            let mut config = load(&args).unwrap();
            settle(&mut config, &ips(found));
            let checked = check_cluster(&config).and_then(|()| check_node(&config, &ips(found)));
            assert_eq!(checked.unwrap_err().to_string(), want, "{args:?}");
        }
        for (args, want) in [
            ("--cluster-cidr=fd42::", "invalid cluster-cidr fd42::: invalid CIDR address: fd42::"),
            (
                "--cluster-cidr=::ffff:10.0.0.0/104",
                "invalid cluster-cidr ::ffff:10.0.0.0/104: invalid CIDR address: ::ffff:10.0.0.0/104",
            ),
            (
                "--service-cidr=10.43.0.0/33",
                "invalid service-cidr 10.43.0.0/33: invalid CIDR address: 10.43.0.0/33",
            ),
        ] {
            assert_eq!(load(&[args]).unwrap_err().to_string(), want);
        }
        let config = load(&["--cluster-cidr=fd42::/56", "--service-cidr=fd43::/112"]).unwrap();
        assert_eq!(node_masks(&config).unwrap(), (24, 64));
    }
}
