//! `k3rs kine`: the etcd API over a datastore, with kine's flags; and the same as a socket of `k3rs server`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ::kine::{Front, Settings};
use http::server::Listener;
use rt::net::TcpListener;
use stdx::{Context, Error, Result};
use store::{Limits, Store};

use crate::{machine::clock, machine::logging};

const DEFAULT_FILE: &str = "./db/state.db";
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A flag of kine's: name, environment variable, what it does, and why not if it does nothing here.
struct Flag(&'static str, &'static str, &'static str, Option<&'static str>);

const POOL: Option<&str> =
    Some("k3rs opens as many connections to a database as it needs, and closes none");
const COMPACTION: Option<&str> =
    Some("the history has a bound by itself, and clients may compact it");
const METRICS: Option<&str> = Some("k3rs kine serves no metrics");
const T4: Option<&str> = Some("the t4 driver is not supported");

static FLAGS: &[Flag] = &[
    Flag(
        "listen-address",
        "KINE_LISTEN_ADDRESS",
        "address for etcd clients: HOST:PORT, tcp://HOST:PORT or unix://PATH (default 0.0.0.0:2379)",
        None,
    ),
    Flag(
        "endpoint",
        "KINE_ENDPOINT",
        "datastore: sqlite://PATH, or one that servers share (default sqlite://./db/state.db)",
        None,
    ),
    Flag("ca-file", "KINE_CA_FILE", "CA certificate for the datastore", None),
    Flag("cert-file", "KINE_CERT_FILE", "client certificate for the datastore", None),
    Flag("key-file", "KINE_KEY_FILE", "key of the client certificate for the datastore", None),
    Flag("server-cert-file", "KINE_SERVER_CERT_FILE", "certificate for etcd clients", None),
    Flag(
        "server-key-file",
        "KINE_SERVER_KEY_FILE",
        "key of the certificate for etcd clients",
        None,
    ),
    Flag(
        "trusted-ca-file",
        "KINE_TRUSTED_CA_FILE",
        "CA of etcd clients, who must show a certificate then",
        None,
    ),
    Flag(
        "watch-progress-notify-interval",
        "KINE_WATCH_PROGRESS_NOTIFY_INTERVAL",
        "how often watches are told how far they are (default 5s)",
        None,
    ),
    Flag(
        "emulated-etcd-version",
        "KINE_EMULATED_ETCD_VERSION",
        "version of etcd that the status tells (default 3.5.13)",
        None,
    ),
    Flag("metrics-bind-address", "KINE_METRICS_BIND_ADDRESS", "only 0, which is no metrics", None),
    Flag("log-format", "KINE_LOG_FORMAT", "only plain", None),
    Flag("debug", "KINE_DEBUG", "turn on debug logs", None),
    Flag(
        "skip-verify",
        "KINE_SKIP_VERIFY",
        "",
        Some("say it in the endpoint, as its database does"),
    ),
    Flag("metrics-enable-profiling", "KINE_METRICS_ENABLE_PROFILING", "", METRICS),
    Flag("metrics-ignore-tls-config", "KINE_METRICS_IGNORE_TLS_CONFIG", "", METRICS),
    Flag("datastore-max-idle-connections", "KINE_DATASTORE_MAX_IDLE_CONNECTIONS", "", POOL),
    Flag("datastore-max-open-connections", "KINE_DATASTORE_MAX_OPEN_CONNECTIONS", "", POOL),
    Flag("datastore-connection-max-lifetime", "KINE_DATASTORE_CONNECTION_MAX_LIFETIME", "", POOL),
    Flag("datastore-connection-max-idle-time", "KINE_DATASTORE_CONNECTION_MAX_IDLE_TIME", "", POOL),
    Flag("datastore-poll-interval", "KINE_DATASTORE_POLL_INTERVAL", "", POOL),
    Flag("poll-batch-size", "KINE_POLL_BATCH_SIZE", "", POOL),
    Flag("slow-sql-threshold", "KINE_SLOW_SQL_THRESHOLD", "", METRICS),
    Flag("slow-sql-warning-threshold", "KINE_SLOW_SQL_WARNING_THRESHOLD", "", METRICS),
    Flag("compact-interval", "KINE_COMPACT_INTERVAL", "", COMPACTION),
    Flag("compact-interval-jitter", "KINE_COMPACT_INTERVAL_JITTER", "", COMPACTION),
    Flag("compact-timeout", "KINE_COMPACT_TIMEOUT", "", COMPACTION),
    Flag("compact-min-retain", "KINE_COMPACT_MIN_RETAIN", "", COMPACTION),
    Flag("compact-batch-size", "KINE_COMPACT_BATCH_SIZE", "", COMPACTION),
    Flag("peer-bind-address", "KINE_PEER_BIND_ADDRESS", "", T4),
    Flag("peer-advertise-address", "KINE_PEER_ADVERTISE_ADDRESS", "", T4),
    Flag("s3-bucket", "KINE_S3_BUCKET", "", T4),
    Flag("s3-folder", "KINE_S3_FOLDER", "", T4),
    Flag("s3-endpoint", "KINE_S3_ENDPOINT", "", T4),
    Flag("s3-region", "", "", T4),
    Flag("s3-access-key", "", "", T4),
    Flag("s3-secret-key", "", "", T4),
    Flag("s3-session-token", "", "", T4),
    Flag("s3-profile", "", "", T4),
    Flag("s3-ca-bundle", "", "", T4),
];

/// What was asked for, flag by flag.
#[derive(Debug)]
struct Ask(Vec<(&'static str, String)>);

impl Ask {
    fn parse(args: &[String], var: impl Fn(&str) -> Option<String>) -> Result<Ask> {
        let mut ask = Ask(Vec::new());
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let bare = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let Some(bare) = bare.filter(|bare| !bare.is_empty()) else {
                return Err(Error::new("kine does not accept positional arguments, only flags"));
            };
            let (name, inline) = match bare.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (bare, None),
            };
            let Some(flag) = FLAGS.iter().find(|flag| flag.0 == name) else {
                return Err(Error::new(format!("flag provided but not defined: -{name}")));
            };
            refuse(flag)?;
            let value = match inline {
                Some(value) => value,
                None if flag.0 == "debug" => "true".to_owned(),
                None => {
                    let value = rest.next().cloned();
                    value.context(|| format!("flag needs an argument: -{name}"))?
                }
            };
            ask.0.push((flag.0, value));
        }
        for flag in FLAGS.iter().filter(|flag| !flag.1.is_empty()) {
            let given = ask.0.iter().any(|(name, _)| *name == flag.0);
            if let Some(value) = var(flag.1).filter(|value| !value.is_empty() && !given) {
                refuse(flag).context(|| format!("environment variable {}", flag.1))?;
                ask.0.push((flag.0, value));
            }
        }
        Ok(ask)
    }

    /// The last value of a flag; `None` if it is empty or was not given.
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    fn debug(&self) -> Result<bool> {
        let value = self.get("debug").unwrap_or("false");
        Ok(crate::settings::flags::switch_value("debug", value, "command line")? == "true")
    }

    /// What it asks of the front; the flags whose values are checked, too.
    fn settings(&self) -> Result<Settings> {
        if let Some(address) = self.get("metrics-bind-address").filter(|address| *address != "0") {
            return Err(Error::new(format!(
                "--metrics-bind-address={address} is not supported: k3rs kine serves no metrics (0 says so)"
            )));
        }
        if let Some(format) = self.get("log-format").filter(|format| *format != "plain") {
            return Err(Error::new(format!(
                "invalid log format: {format} (only plain is supported)"
            )));
        }
        let mut settings = Settings::default();
        if let Some(text) = self.get("watch-progress-notify-interval") {
            let every = server::go_duration(text).filter(|every| *every >= PROGRESS_MIN);
            settings.progress_every = every.context(|| {
                format!(
                    "--watch-progress-notify-interval: invalid duration {text:?} (100ms at least)"
                )
            })?;
        }
        if let Some(version) = self.get("emulated-etcd-version") {
            settings.etcd_version = version.to_owned();
        }
        settings.certificates = self.get("trusted-ca-file").is_some();
        Ok(settings)
    }
}

/// As etcd has it.
const PROGRESS_MIN: Duration = Duration::from_millis(100);

fn refuse(flag: &Flag) -> Result<()> {
    match flag.3 {
        None => Ok(()),
        Some(why) => Err(Error::new(format!("flag --{} is not supported: {why}", flag.0))),
    }
}

fn usage() -> String {
    let mut text = String::from(
        "k3rs kine - serve the etcd v3 API on a datastore, with the flags of kine\n\n\
         USAGE: k3rs kine [OPTIONS]\n\n\
         The SQLite file is k3rs's own and not kine's. The datastore is in memory, too; the history has a bound.\n\n\
         OPTIONS:\n",
    );
    for Flag(name, env, about, _) in FLAGS.iter().filter(|flag| flag.3.is_none()) {
        text.push_str(&format!("   --{name}\n        {about} [{env}]\n"));
    }
    text
}

/// The command: exit code 0 after SIGTERM, 1 after an error.
pub(crate) fn command(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        crate::print(&usage());
        return ExitCode::SUCCESS;
    }
    let started = Ask::parse(args, |name| std::env::var(name).ok())
        .and_then(|ask| Ok((ask.settings()?, ask.debug()?, ask)))
        .and_then(|(settings, debug, ask)| {
            logging::start(debug, None, false)?;
            Ok((settings, ask))
        });
    let (settings, ask) = match started {
        Ok(started) => started,
        Err(error) => return crate::fail(&format!("kine: {error}")),
    };
    rt::start_workers(crate::machine::N_WORKERS);
    match rt::block_on(run(&ask, settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(ask: &Ask, mut settings: Settings) -> Result<()> {
    let memory = usize::try_from(rt::memory_bytes()).unwrap_or(usize::MAX);
    settings.messages_max_bytes = settings.messages_max_bytes.min(memory / 32).max(4 << 20);
    http::tls::not_earlier_than(clock::built());
    rt::spawn_named("memory", rt::follow_memory()).detach();
    let tls = tls(ask)?;
    let address = Address::parse(ask.get("listen-address").unwrap_or("0.0.0.0:2379"))?;
    settings.scheme = match (&address, tls.is_some()) {
        (Address::Tcp(_), false) => "http",
        (Address::Tcp(_), true) => "https",
        (Address::Unix(_), false) => "unix",
        (Address::Unix(_), true) => "unixs",
    };
    let scheme = settings.scheme;
    let store = open(ask).await?;
    let server = Front::new(store.clone(), settings).server();
    let listener = address.listen().await?;
    // A port may have been left to the system to choose.
    let bound = match &listener {
        Listener::Tcp(listener) => {
            Address::Tcp(listener.local_addr().context(|| "ask for the bound address")?)
        }
        Listener::Unix(_) => address.clone(),
    };
    log::info!("Kine available at {scheme}://{bound}");
    let serving = server.clone();
    let served = async move { serving.serve(listener, tls).await.map(|()| "end") };
    let ended = rt::future::or(rt::signal::terminated(), served).await;
    log::info!("Received {}, shutting down", ended.as_deref().unwrap_or("an error"));
    if let Address::Unix(path) = &address {
        rt::fs::remove_file(path)?;
    }
    server.shutdown(SHUTDOWN_GRACE).await;
    store.close().await.context(|| "close the datastore")?;
    ended.map(drop)
}

/// The socket of `k3rs server`, for operators who look with etcdctl: a few connections and watches.
pub(crate) struct Socket {
    path: PathBuf,
    server: http::server::Server,
}

impl Socket {
    /// Opens it for the process's life.
    ///
    /// # Errors
    /// If it cannot be listened on.
    pub(crate) fn open(path: PathBuf, store: Store) -> Result<Socket> {
        let listener = Listener::Unix(crate::machine::door::listen(&path)?);
        let settings = Settings {
            scheme: "unix",
            connections_max: 64,
            watches_max: 1024,
            messages_max_bytes: 4 << 20,
            ..Settings::default()
        };
        let server = Front::new(store, settings).server();
        log::info!("Kine available at unix://{}", path.display());
        let (serving, shown) = (server.clone(), path.display().to_string());
        rt::spawn_named("etcd API", async move {
            if let Err(error) = serving.serve(listener, None).await {
                log::error!("serve {shown}: {error}");
            }
        })
        .detach();
        Ok(Socket { path, server })
    }

    pub(crate) async fn close(self) {
        if let Err(error) = rt::fs::remove_file(&self.path) {
            log::warn!("{error}");
        }
        self.server.shutdown(Duration::ZERO).await;
    }
}

/// Opens what `--endpoint` names.
async fn open(ask: &Ask) -> Result<Store> {
    let endpoint = ask.get("endpoint").unwrap_or("sqlite://");
    let limits = limits(rt::memory_bytes());
    let Some(path) = sqlite_path(endpoint) else {
        let files = datastore::Files {
            cafile: ask.path("ca-file"),
            certfile: ask.path("cert-file"),
            keyfile: ask.path("key-file"),
        };
        // The endpoint itself may hold a password.
        let what = || "open the datastore that --endpoint names";
        let log = datastore::open(endpoint, files).await.context(what)?;
        let store = Store::share(log, limits).await.context(what)?;
        log::info!("Opened the shared datastore at revision {}", store.revision());
        return Ok(store);
    };
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        rt::fs::create_dir_all(dir, 0o700)?;
    }
    let held = path.metadata().map_or(0, |file| file.len());
    let free = path.parent().map_or(Ok(u64::MAX), |dir| match dir.as_os_str().is_empty() {
        true => rt::fs::available_bytes("."),
        false => rt::fs::available_bytes(dir),
    })?;
    let store = Store::open(&path, limits.for_disk(free.saturating_add(held))).await;
    let store = store.context(|| format!("open the datastore {}", path.display()))?;
    log::info!("Opened datastore {} at revision {}", path.display(), store.revision());
    Ok(store)
}

/// The file of a SQLite endpoint; its parameters are for another library, and say nothing here.
fn sqlite_path(endpoint: &str) -> Option<PathBuf> {
    let path = match endpoint.split_once("://") {
        None if endpoint == "sqlite" => "",
        None => return None,
        Some(("sqlite", path)) => path,
        Some(_) => return None,
    };
    let (path, parameters) = path.split_once('?').unwrap_or((path, ""));
    if !parameters.is_empty() {
        log::warn!("the parameters of the endpoint ({parameters}) are not k3rs's, and ignored");
    }
    Some(PathBuf::from(if path.is_empty() { DEFAULT_FILE } else { path }))
}

/// The store is this program's only purpose: it may take more than a server's, and its past, which is what
/// pages of lists and watches that come back need, may be as long as minutes of a busy cluster.
fn limits(memory_bytes: u64) -> Limits {
    let part = |parts: u64, min: usize, max: usize| {
        usize::try_from(memory_bytes / parts).unwrap_or(max).clamp(min, max)
    };
    Limits {
        state_bytes_max: part(4, 8 << 20, 2 << 30),
        history_events_max: 64 << 10,
        history_bytes_max: part(32, 1 << 20, 64 << 20),
        ..Limits::for_memory(memory_bytes)
    }
}

fn tls(ask: &Ask) -> Result<Option<std::sync::Arc<http::tls::ServerConfig>>> {
    let read = |name: &str| ask.get(name).map(rt::fs::read).transpose();
    let (cert, key) = (read("server-cert-file")?, read("server-key-file")?);
    let ca = read("trusted-ca-file")?;
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) if ca.is_none() => return Ok(None),
        _ => {
            return Err(Error::new(
                "--server-cert-file and --server-key-file belong together, and --trusted-ca-file to them",
            ));
        }
    };
    let identity = http::tls::Identity::from_pem(&cert, &key)?;
    let roots = ca.map(|ca| http::tls::roots(&ca)).transpose()?;
    http::tls::server_config(identity, roots).map(Some)
}

/// Where clients come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Address {
    fn parse(text: &str) -> Result<Address> {
        let what = || format!("--listen-address {text}: it is no HOST:PORT with an IP address");
        let address = match text.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => return Ok(Address::Unix(path.into())),
            Some(("tcp", address)) => address,
            Some(_) => return Err(Error::new(format!("--listen-address {text}: unknown scheme"))),
            None => text,
        };
        let (host, port) = address.rsplit_once(':').context(what)?;
        let host = match host.trim_start_matches('[').trim_end_matches(']') {
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().context(what)?,
        };
        Ok(Address::Tcp(SocketAddr::new(host, port.parse().context(what)?)))
    }

    async fn listen(&self) -> Result<Listener> {
        match self {
            Address::Tcp(address) => {
                let bound = TcpListener::bind(*address).await;
                bound.map(Listener::Tcp).context(|| format!("listen on {address}"))
            }
            Address::Unix(path) => crate::machine::door::listen(path).map(Listener::Unix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Ask> {
        Ask::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), |_| None)
    }

    #[test]
    fn flags_are_kines_and_refused_by_name() {
        let ask = parse(&["--endpoint=sqlite://x", "-listen-address", "[::1]:1", "--debug"]);
        let ask = ask.unwrap();
        assert_eq!((ask.get("endpoint"), ask.debug().unwrap()), (Some("sqlite://x"), true));
        let env = |name: &str| (name == "KINE_ENDPOINT").then(|| "sqlite://env".to_owned());
        assert_eq!(Ask::parse(&[], env).unwrap().get("endpoint"), Some("sqlite://env"));
        for (args, words) in [
            (&["--nope"][..], "flag provided but not defined: -nope"),
            (&["stray"], "kine does not accept positional arguments, only flags"),
            (&["--endpoint"], "flag needs an argument: -endpoint"),
            (&["--compact-interval=5m"], "flag --compact-interval is not supported: the history"),
            (&["--metrics-bind-address=:8080"], "--metrics-bind-address=:8080 is not supported"),
            (&["--log-format=json"], "invalid log format: json"),
            (
                &["--watch-progress-notify-interval=1ms"],
                "--watch-progress-notify-interval: invalid",
            ),
        ] {
            let refused = parse(args).and_then(|ask| ask.settings()).unwrap_err().to_string();
            assert!(refused.starts_with(words), "{refused}");
        }
        parse(&["--metrics-bind-address=0", "--log-format=plain"]).unwrap().settings().unwrap();
    }

    #[test]
    fn endpoints_and_addresses() {
        for (endpoint, path) in [
            ("sqlite", Some(DEFAULT_FILE)),
            ("sqlite://", Some(DEFAULT_FILE)),
            ("sqlite:///var/x.db?_journal=WAL", Some("/var/x.db")),
            ("postgres://x", None),
            ("nonsense", None),
        ] {
            assert_eq!(sqlite_path(endpoint), path.map(PathBuf::from), "{endpoint}");
        }
        let shown = |text| Address::parse(text).map(|it| format!("{it:?}")).ok();
        assert_eq!(shown("0.0.0.0:2379").unwrap(), "Tcp(0.0.0.0:2379)");
        assert_eq!(shown("tcp://[::1]:1").unwrap(), "Tcp([::1]:1)");
        assert_eq!(shown(":99").unwrap(), "Tcp(0.0.0.0:99)");
        assert_eq!(shown("unix:///run/k.sock").unwrap(), "Unix(\"/run/k.sock\")");
        for bad in ["unix://", "udp://1.2.3.4:5", "1.2.3.4", "host.example:1", "1.2.3.4:99999"] {
            assert!(shown(bad).is_none(), "{bad}");
        }
    }
}
