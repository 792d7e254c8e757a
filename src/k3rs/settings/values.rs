//! Values of single flags that need more than a type.

use stdx::{Context, Error, Result};

/// A label as a node may have it: the API would refuse others, and the node never register.
pub(crate) fn node_label(text: &str) -> Result<()> {
    let (key, value) = text.split_once('=').context(|| "want key=value")?;
    // Each thing that is wrong is a line of its own there; this is one line.
    let one_line = |what: &str, text: &str, why: &str| {
        Error::new(format!("{what} {text:?}: {}", why.replace('\n', "; ")))
    };
    api::names::qualified(key).map_err(|why| one_line("key", key, &why))?;
    api::names::label_value(value).map_err(|why| one_line("value", value, &why))?;
    let Some((domain, name)) = key.split_once('/') else { return Ok(()) };
    let within = |zone: &str| {
        domain.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    // As upstream's kubelet: the others mean something that a node may not say of itself.
    const ALLOWED: [&str; 11] = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "kubernetes.io/instance-type",
    ];
    let reserved = within("kubernetes.io") || within("k8s.io");
    let kubelets = within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    match reserved && !kubelets && !ALLOWED.contains(&key) {
        true => Err(Error::new(format!(
            "{domain}/{name} is reserved; a node may set labels below kubelet.kubernetes.io and node.kubernetes.io, \
             and {}",
            ALLOWED.join(", ")
        ))),
        false => Ok(()),
    }
}

/// `key=value:Effect` or `key:Effect`.
///
/// # Errors
/// If the API would refuse it.
pub(crate) fn node_taint(text: &str) -> Result<()> {
    let (rest, effect) = text.rsplit_once(':').context(|| "want key=value:Effect")?;
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    // Each thing that is wrong is a line of its own there; this is one line.
    let one_line = |what: &str, text: &str, why: &str| {
        Error::new(format!("{what} {text:?}: {}", why.replace('\n', "; ")))
    };
    api::names::qualified(key).map_err(|why| one_line("key", key, &why))?;
    api::names::label_value(value).map_err(|why| one_line("value", value, &why))?;
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    match EFFECTS.contains(&effect) {
        true => Ok(()),
        false => {
            Err(Error::new(format!("effect {effect:?} is unknown, want {}", EFFECTS.join(", "))))
        }
    }
}

/// How pods of other nodes are reached, by its name.
///
/// # Errors
/// If we know no such way.
pub(crate) fn backend(name: &str) -> Result<Option<net::Backend>> {
    match name {
        "vxlan" => Ok(Some(net::Backend::Vxlan)),
        "host-gw" => Ok(Some(net::Backend::HostGw)),
        "wireguard-native" => Ok(Some(net::Backend::WireGuard)),
        "none" => Ok(None),
        other => Err(Error::new(format!(
            "--flannel-backend={other} is not supported by this version of k3rs (vxlan, host-gw, wireguard-native or none)"
        ))),
    }
}

/// `FROM-TO`, of `--service-node-port-range`.
///
/// # Errors
/// If it is empty, or none.
pub(crate) fn port_range(text: &str) -> Result<(u16, u16)> {
    let what = || format!("read --service-node-port-range {text:?}");
    let (from, to) = text.split_once('-').context(what)?;
    let (from, to) = (from.parse().context(what)?, to.parse().context(what)?);
    if from == 0 || from > to {
        return Err(Error::new(format!("{}: it is empty", what())));
    }
    Ok((from, to))
}

/// An octal mode, of `--write-kubeconfig-mode`.
///
/// # Errors
/// If it is none.
pub(crate) fn file_mode(text: &str) -> Result<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .context(|| format!("read --write-kubeconfig-mode {text:?}: not an octal file mode"))
}
