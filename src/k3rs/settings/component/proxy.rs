//! What `--kube-proxy-arg` says.

use std::time::Duration;

use stdx::Result;

use super::{Args, Component};
use crate::settings::cidr::Cidr;

/// What the network is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProxyArgs {
    /// Settings of the kernel below `net/netfilter/` for connections that are tracked, with their values.
    pub(crate) sysctls: Vec<(&'static str, String)>,
    /// `--nodeport-addresses`; none: all.
    pub(crate) node_port_cidrs: Vec<Cidr>,
}

/// # Errors
/// For what upstream refuses.
pub(crate) fn read(args: &[String], idle: &mut Vec<String>) -> Result<ProxyArgs> {
    let mut args = Args::read(Component::Proxy, args)?;
    let mut sysctls = Vec::new();
    let per_core = args.int("conntrack-max-per-core");
    let least = args.int("conntrack-min");
    if per_core.is_some() || least.is_some() {
        let n_cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (per_core, least) = (per_core.unwrap_or(32_768), least.unwrap_or(131_072));
        if per_core < 0 || least < 0 {
            return Err(args.wrong("Conntrack limits: must be greater than or equal to 0"));
        }
        let most = per_core.saturating_mul(i64::try_from(n_cores).unwrap_or(1)).max(least);
        // 0 leaves what there is.
        if per_core > 0 {
            sysctls.push(("nf_conntrack_max", most.to_string()));
        }
    }
    for (flag, name) in [
        ("conntrack-tcp-timeout-established", "nf_conntrack_tcp_timeout_established"),
        ("conntrack-tcp-timeout-close-wait", "nf_conntrack_tcp_timeout_close_wait"),
        ("conntrack-udp-timeout", "nf_conntrack_udp_timeout"),
        ("conntrack-udp-timeout-stream", "nf_conntrack_udp_timeout_stream"),
    ] {
        if let Some(lasts) = args.duration(flag).filter(|lasts| *lasts >= Duration::from_secs(1)) {
            sysctls.push((name, lasts.as_secs().to_string()));
        }
    }
    if args.switch("conntrack-tcp-be-liberal") == Some(true) {
        sysctls.push(("nf_conntrack_tcp_be_liberal", "1".to_owned()));
    }
    let mut node_port_cidrs = Vec::new();
    let is_primary =
        args.left().any(|(name, _, value)| name == "nodeport-addresses" && value == "primary");
    // Which address is the primary one may change while k3rs runs.
    if !is_primary {
        for block in args.list("nodeport-addresses").unwrap_or_default() {
            let cidr = Cidr::parse(&block).filter(|_| block != "primary");
            node_port_cidrs.push(cidr.ok_or_else(|| {
                args.wrong(&format!(
                    "nodePortAddresses: Invalid value: {block:?}: must be a valid CIDR"
                ))
            })?);
        }
    }
    let mode = args.left().find(|(name, ..)| *name == "proxy-mode").map(|(_, _, mode)| mode);
    match mode {
        // There is no other.
        Some("nftables") => drop(args.text("proxy-mode")),
        None | Some("" | "iptables" | "ipvs") => {}
        Some(mode) => {
            return Err(args.wrong(&format!(
                "proxy-mode: Invalid value: {mode:?}: must be iptables, ipvs, nftables or blank (blank means the best-available proxy [currently iptables])"
            )));
        }
    }
    idle.extend(args.idle());
    Ok(ProxyArgs { sysctls, node_port_cidrs })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_tracked_is_the_kernels() {
        let read = |args: &str| {
            let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
            let mut idle = Vec::new();
            let read = super::read(&args, &mut idle).map_err(|error| error.to_string());
            read.map(|read| {
                let read: Vec<String> =
                    read.sysctls.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{} | {}", read.join(" "), idle.join("; "))
            })
        };
        for (args, wanted) in [
            ("proxy-mode=nftables conntrack-max-per-core=0", " | "),
            (
                "proxy-mode=ipvs conntrack-max-per-core=1 conntrack-min=9999 conntrack-tcp-timeout-established=1h conntrack-udp-timeout=0s masquerade-all",
                "nf_conntrack_max=9999 nf_conntrack_tcp_timeout_established=3600 | --kube-proxy-arg: proxy-mode, masquerade-all",
            ),
        ] {
            assert_eq!(read(args).unwrap(), wanted);
        }
        assert!(
            read("proxy-mode=x").unwrap_err().starts_with("kube-proxy: proxy-mode: Invalid value")
        );
    }
}
