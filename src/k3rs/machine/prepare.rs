//! The first steps of a start: directories, lock, tokens, addresses, names.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use cluster::Paths;
use cluster::supervisor::Passwords;
use cluster::token::{Token, random_hex};
use stdx::{Context, Error, Result};

use crate::settings::config::Config;
use crate::settings::families;

/// How long a machine that starts is given to have an address of each of the cluster's families.
const ADDRESSES_MAX: Duration = Duration::from_secs(30);
/// A path is no longer.
const OWNER_MAX_BYTES: u64 = 4096;

/// Where configuration goes that k3s keeps in `/etc`: there, or in the data directory if `/etc` is read-only.
#[derive(Debug, Clone)]
pub(crate) struct EtcDir(PathBuf);

impl EtcDir {
    pub(crate) fn choose(config: &Config) -> Result<EtcDir> {
        let system = config.etc_dir.as_path();
        let usable = rt::fs::create_dir_all(system.join("k3s"), 0o755)
            .and_then(|()| rt::fs::create_dir_all(system.join("node"), 0o755))
            .and_then(|()| rt::fs::check_writable(system.join("k3s")));
        let Err(error) = usable else { return Ok(EtcDir(system.to_owned())) };
        let own = config.data_dir.join("etc");
        log::info!("Using {} for configuration: {error}", own.display());
        rt::fs::create_dir_all(own.join("k3s"), 0o755)?;
        rt::fs::create_dir_all(own.join("node"), 0o755)?;
        Ok(EtcDir(own))
    }

    /// The place, without making or trying anything.
    pub(crate) fn at(config: &Config) -> EtcDir {
        let own = config.data_dir.join("etc");
        EtcDir(if own.exists() { own } else { config.etc_dir.clone() })
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.0.join("k3s").join("k3s.yaml")
    }

    pub(crate) fn registries(&self) -> PathBuf {
        self.0.join("k3s").join("registries.yaml")
    }

    /// Where this node's password is.
    pub(crate) fn node_password(&self) -> PathBuf {
        self.node("password")
    }

    fn node(&self, name: &str) -> PathBuf {
        self.0.join("node").join(name)
    }
}

/// When memory runs out, the kernel takes a pod before the server and the shims, which get this
/// from it; containers always have a score of their own. As k3s does for its kubelet.
pub(crate) fn outlive_pods() {
    const SCORE: &[u8] = b"-999";
    if let Err(error) = rt::fs::write_in_place("/proc/self/oom_score_adj", SCORE) {
        log::debug!("keep the server from being killed when memory runs out: {error}");
    }
}

/// Says at once that without root nothing will work, rather than fail at every step of it.
///
/// # Errors
/// If this process is not root.
pub(crate) fn need_root(command: &str) -> Result<()> {
    match sys::process::effective_uid() {
        0 => Ok(()),
        uid => Err(Error::new(format!("{command} must run as root (it runs as user {uid})"))),
    }
}

/// Paths of kubeconfigs that a server wrote, so that uninstall needs no flag for them.
const KUBECONFIGS_MAX: usize = 64;

fn kubeconfig_list(paths: &Paths) -> PathBuf {
    paths.server().join("cred").join("written-kubeconfigs")
}

pub(crate) fn written_kubeconfigs(paths: &Paths) -> Vec<PathBuf> {
    let text = rt::fs::read_text(kubeconfig_list(paths)).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with('/'));
    lines.map(PathBuf::from).take(KUBECONFIGS_MAX).collect()
}

pub(crate) fn remember_kubeconfig(paths: &Paths, path: &std::path::Path) -> Result<()> {
    let path = std::path::absolute(path).context(|| format!("resolve {}", path.display()))?;
    let mut known = written_kubeconfigs(paths);
    if known.contains(&path) {
        return Ok(());
    }
    known.insert(0, path);
    known.truncate(KUBECONFIGS_MAX);
    let text: String = known.iter().map(|path| format!("{}\n", path.display())).collect();
    rt::fs::create_dir_all(paths.server().join("cred"), 0o700)?;
    rt::fs::write_atomic(kubeconfig_list(paths), text.as_bytes(), 0o600)
}

/// By what a kubeconfig of this cluster is known: its CA as it stands there.
pub(crate) fn ca_in_kubeconfigs(paths: &Paths) -> Option<String> {
    let pem = rt::fs::read(paths.tls("server-ca.crt")).ok()?;
    Some(wire::base64::encode(&pem))
}

/// Makes the data directory and takes its lock.
///
/// # Errors
/// If another k3rs runs on it, by name.
pub(crate) fn lock(paths: &Paths) -> Result<rt::fs::Lock> {
    rt::fs::create_dir_all(paths.data(), 0o755)?;
    let path = paths.data().join(".lock");
    rt::fs::lock(&path).map_err(|error| match error.io_kind() {
        Some(std::io::ErrorKind::WouldBlock) => Error::new(format!(
            "another k3rs runs on {} (it holds {})",
            paths.data_dir().display(),
            path.display()
        )),
        _ => error,
    })
}

/// Takes the lock of the run directory: the sockets, mounts and shims below it are one server's, and one that
/// finds another's there would end them. It stays that server's while its pods run.
///
/// # Errors
/// If another k3rs runs on it, or has left pods there, by name.
pub(crate) fn lock_run_directory(config: &Config) -> Result<rt::fs::Lock> {
    let run = &config.run_dir;
    rt::fs::create_dir_all(run, 0o755)?;
    let owner = run.join(".data-dir");
    let known =
        rt::fs::read_record(&owner, OWNER_MAX_BYTES).unwrap_or_default().unwrap_or_default();
    let known = String::from_utf8_lossy(&known).into_owned();
    let path = run.join(".lock");
    let lock = rt::fs::lock(&path).map_err(|error| match error.io_kind() {
        Some(std::io::ErrorKind::WouldBlock) => Error::new(format!(
            "another k3rs runs with the run directory {} (data directory {known}; it holds {}): set K3RS_RUN_DIR to another one",
            run.display(),
            path.display()
        )),
        _ => error,
    })?;
    let own = config.data_dir.canonicalize().unwrap_or_else(|_| config.data_dir.clone());
    let own = own.to_string_lossy().into_owned();
    if !known.is_empty() && known != own && has_pods(run) {
        return Err(Error::new(format!(
            "the run directory {} has pods of the k3rs with the data directory {known}: set K3RS_RUN_DIR to another one, or uninstall that k3rs first",
            run.display()
        )));
    }
    if known != own {
        rt::fs::replace(&owner, own.as_bytes(), 0o644)?;
    }
    Ok(lock)
}

/// Locks the kubelet's directory, where a node runs: two would give each other's volumes up as nobody's.
///
/// # Errors
/// If another k3rs has it, by name.
pub(crate) fn lock_kubelet_directory(config: &Config) -> Result<rt::fs::Lock> {
    let directory = &config.kubelet_dir;
    rt::fs::create_dir_all(directory, 0o755)?;
    let path = directory.join(KUBELET_LOCK);
    rt::fs::lock(&path).map_err(|error| match error.io_kind() {
        Some(std::io::ErrorKind::WouldBlock) => Error::new(format!(
            "another k3rs runs with the kubelet's directory {} (it holds {}): set K3RS_KUBELET_DIR to another one",
            directory.display(),
            path.display()
        )),
        _ => error,
    })
}

/// In the kubelet's directory, which other kubelets have as well.
pub(crate) const KUBELET_LOCK: &str = ".k3rs.lock";

/// Whether shims have left, or still have, their state there.
fn has_pods(run: &std::path::Path) -> bool {
    let entries = rt::fs::list_dir(run.join(STATE)).unwrap_or_default();
    let name = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    entries.iter().filter_map(name).any(|name| runtime::is_id(&name))
}

/// Below the run directory: what the container runtime keeps until the machine ends.
pub(crate) const STATE: &str = "containerd";

/// Reads or makes the passwords and keeps `cred/passwd` (k3s's format: password,user,uid,groups).
pub(crate) fn passwords(paths: &Paths, config: &Config) -> Result<Passwords> {
    let stored = stored_password(paths)?;
    let given = match &config.token {
        Some(text) => Some(Token::parse(text).context(|| "read --token")?.password),
        None => None,
    };
    if let (Some(given), Some(stored)) = (&given, &stored)
        && given != stored
    {
        return Err(Error::new(format!(
            "--token does not match the token of the cluster in {} (see server/token there)",
            paths.data_dir().display()
        )));
    }
    let server = given.or(stored).unwrap_or_else(|| random_hex(16));
    let agent = match &config.agent_token {
        Some(text) => Token::parse(text).context(|| "read --agent-token")?.password,
        None => server.clone(),
    };
    let passwords = Passwords { server, agent };
    keep_passwords(paths, &password_lines(&passwords))?;
    Ok(passwords)
}

/// The password of the servers' token in `cred/passwd`, if there is one.
pub(crate) fn stored_password(paths: &Paths) -> Result<Option<String>> {
    let file = paths.cred("passwd");
    let text = match rt::fs::read_optional(&file)? {
        Some(bytes) => String::from_utf8(bytes).context(|| format!("read {}", file.display()))?,
        None => String::new(),
    };
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let found = lines.find(|columns| columns.get(1) == Some(&"server"));
    Ok(found.map(|columns| columns[0].to_owned()))
}

/// The text of `cred/passwd`.
pub(crate) fn password_lines(passwords: &Passwords) -> String {
    let Passwords { server, agent } = passwords;
    format!("{agent},node,node,k3s:agent\n{server},server,server,k3s:server\n")
}

pub(crate) fn keep_passwords(paths: &Paths, lines: &str) -> Result<()> {
    rt::fs::create_dir_all(paths.server().join("cred"), 0o700)?;
    rt::fs::keep(paths.cred("passwd"), lines.as_bytes(), 0o600)
}

/// Writes `server/token`, `server/node-token` (a link to it) and `server/agent-token`.
pub(crate) fn write_tokens(paths: &Paths, passwords: &Passwords, ca_pem: &str) -> Result<()> {
    let server = paths.server();
    let write = |name: &str, user: &str, password: &str| -> Result<()> {
        let text = Token::format(ca_pem, user, password) + "\n";
        rt::fs::keep(server.join(name), text.as_bytes(), 0o600)
    };
    write("token", "server", &passwords.server)?;
    if passwords.agent == passwords.server {
        rt::fs::symlink_atomic(server.join("token"), server.join("agent-token"))?;
    } else {
        write("agent-token", "node", &passwords.agent)?;
    }
    rt::fs::symlink_atomic(server.join("token"), server.join("node-token"))
}

/// The node's name: `--node-name` or the host's, lower case, with an id if asked for.
///
/// # Errors
/// If it is no DNS subdomain.
pub(crate) fn node_name(config: &Config, etc: &EtcDir, hostname: &str) -> Result<String> {
    let mut name =
        config.node_name.clone().unwrap_or_else(|| hostname.to_owned()).to_ascii_lowercase();
    if config.with_node_id {
        let path = etc.node("id");
        let id = match rt::fs::read_optional(&path)? {
            Some(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
            None => {
                let id = random_hex(4);
                rt::fs::write_atomic(&path, format!("{id}\n").as_bytes(), 0o600)?;
                id
            }
        };
        name = format!("{name}-{id}");
    }
    let label_is_fine = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label_is_fine) {
        return Err(Error::new(format!(
            "node name {name:?} is not a lower-case DNS name: set --node-name"
        )));
    }
    Ok(name)
}

/// This node's password, with which it claims its name at a server (k3s: `/etc/rancher/node/password`).
pub(crate) fn ensure_node_password(etc: &EtcDir) -> Result<String> {
    let path = etc.node_password();
    if let Some(bytes) = rt::fs::read_optional(&path)? {
        return Ok(String::from_utf8_lossy(&bytes).trim().to_owned());
    }
    let password = random_hex(16);
    rt::fs::write_atomic(&path, format!("{password}\n").as_bytes(), 0o600)?;
    Ok(password)
}

/// The node's addresses: `--node-ip`, or found on its interfaces. One that is late does not keep the node from its work.
pub(crate) async fn node_ips(config: &Config) -> Result<Vec<IpAddr>> {
    if !config.node_ips.is_empty() {
        return Ok(config.node_ips.clone());
    }
    let mut longest = Duration::ZERO;
    if config.has_ipv6() {
        families::has_kernel_ipv6()?;
        longest = ADDRESSES_MAX;
    }
    let enough = |found: &[IpAddr]| families::check_node(config, found).is_ok();
    let found = net::await_node_ips(config.interface.as_deref(), longest, enough)
        .await
        .context(|| "find this node's address (set --node-ip)")?;
    if found.is_empty() {
        return Err(Error::new("find this node's address: no interface has one (set --node-ip)"));
    }
    if config.has_ipv6()
        && let Err(error) = families::check_node(config, &found)
    {
        log::warn!("{error}: going on until there is one of each");
    }
    let ipv6: Vec<bool> = config.cluster_cidrs.iter().map(|cidr| cidr.address.is_ipv6()).collect();
    Ok(net::in_families(&ipv6, found))
}
