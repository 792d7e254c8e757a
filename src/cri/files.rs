//! What is kept of sandboxes and containers beside the runtime's own records: configurations that clients ask for
//! again, and the files that every container of a sandbox sees.
//!
//! A directory for each sandbox, with `config` (the request that made it), `resolv.conf`, `hosts` and `hostname`, and
//! a file for each container under its id (its configuration, without what may be secret). It lies where the runtime's
//! state does, is lost with it, and is never synced.

use std::path::{Path, PathBuf};

use stdx::{Context, Result};
use wire::cri::{ContainerConfig, DNSConfig, RunPodSandboxRequest};
use wire::message::Message;

use crate::Shared;

/// What a kept configuration may have; more was refused when it came.
const KEPT_MAX_BYTES: u64 = 4 << 20;
const ITEMS_MAX: usize = 64 << 10;
/// The host's own files that are shown to sandboxes.
const HOST_FILE_MAX_BYTES: u64 = 1 << 20;

pub(crate) fn directory(state: &Path, sandbox: &str) -> PathBuf {
    state.join(sandbox)
}

/// The request that made a sandbox; `None` for those that were not made here. Blocking.
pub(crate) fn sandbox(state: &Path, id: &str) -> Option<RunPodSandboxRequest> {
    load(&directory(state, id).join("config"))
}

/// The configuration of a container, but for its command and environment. Blocking.
pub(crate) fn container(state: &Path, sandbox: &str, id: &str) -> Option<ContainerConfig> {
    load(&directory(state, sandbox).join(id))
}

fn load<M: Message + Default>(path: &Path) -> Option<M> {
    let bytes = rt::fs::read_record(path, KEPT_MAX_BYTES).ok().flatten()?;
    M::decode(&bytes, ITEMS_MAX).ok()
}

/// Blocking.
pub(crate) fn keep_container(
    state: &Path,
    sandbox: &str,
    id: &str,
    config: &ContainerConfig,
) -> Result<()> {
    rt::fs::replace(directory(state, sandbox).join(id), &config.encode(), 0o600)
}

/// Makes a sandbox's directory with all its files. Blocking.
pub(crate) fn keep_sandbox(
    state: &Path,
    id: &str,
    request: &RunPodSandboxRequest,
    resolv_conf: &Path,
) -> Result<()> {
    let directory = directory(state, id);
    let config = &request.config;
    let resolv = match resolver(&config.dns_config) {
        Some(text) => text.into_bytes(),
        None => host_file(resolv_conf),
    };
    let hostname = match config.hostname.as_str() {
        "" => host_file(Path::new("/etc/hostname")),
        name => format!("{name}\n").into_bytes(),
    };
    let fill = || -> Result<()> {
        rt::fs::create_dir_all(&directory, 0o700)?;
        rt::fs::replace(directory.join("config"), &request.encode(), 0o600)?;
        rt::fs::write(directory.join("resolv.conf"), &resolv, 0o644)?;
        rt::fs::write(directory.join("hosts"), &host_file(Path::new("/etc/hosts")), 0o644)?;
        rt::fs::write(directory.join("hostname"), &hostname, 0o644)
    };
    fill().context(|| format!("write the files of sandbox {id}"))
}

/// What the host has not, sandboxes have empty.
fn host_file(path: &Path) -> Vec<u8> {
    rt::fs::read_within(path, HOST_FILE_MAX_BYTES).unwrap_or_default()
}

/// The text of a `resolv.conf`; `None` where the host's is meant.
fn resolver(dns: &DNSConfig) -> Option<String> {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    (!text.is_empty()).then_some(text)
}

/// Removes what is kept of a sandbox. Blocking.
pub(crate) fn forget(state: &Path, id: &str) -> Result<()> {
    rt::fs::remove_dir_all(directory(state, id))
}

/// Removes what is kept of sandboxes that are no more, once, before the first client is served.
pub(crate) async fn sweep(shared: &Shared) {
    let (state, runtime) = (shared.config.state.clone(), shared.runtime.clone());
    rt::unblock(move || {
        for path in rt::fs::list_dir(&state).unwrap_or_default() {
            let Some(id) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if runtime::is_id(id)
                && runtime.sandbox(id).is_none()
                && let Err(error) = rt::fs::remove_dir_all(&path)
            {
                log::warn!("CRI: remove what is left of sandbox {id}: {error}");
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_has_what_was_asked_for_and_else_the_hosts() {
        assert_eq!(resolver(&DNSConfig::default()), None);
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let dns = DNSConfig {
            servers: words("10.0.0.1 10.0.0.2"),
            searches: words("a.b c"),
            options: words("ndots:5"),
        };
        let expected = "search a.b c\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5\n";
        assert_eq!(resolver(&dns).as_deref(), Some(expected));
    }
}
