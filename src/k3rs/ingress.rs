//! `k3rs ingress`: the reverse proxy, as a pod runs it.

use std::path::PathBuf;
use std::process::ExitCode;

use client::{Access, Client, Source};
use stdx::{Context, Result};

use crate::{machine::clock, machine::logging};

/// Where a pod finds who it is to the API.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Files that may be open: as many as a busy proxy needs, and what an ordinary limit allows to be asked for.
const OPEN_FILES: u64 = 1 << 16;
/// Connections of one entry point, whatever there is.
const CONNECTIONS_MAX: usize = 1 << 16;
/// An idle connection takes less; a busy one more.
const CONNECTION_BYTES: u64 = 16 << 10;

/// The command: exit code 0 after SIGTERM, 1 after an error.
pub(crate) fn command(args: &[String]) -> ExitCode {
    let options = match ::ingress::Options::parse(args) {
        Ok(options) => {
            let hostname = std::env::var("HOSTNAME").unwrap_or_default();
            ::ingress::Options { hostname, ..options }
        }
        Err(error) => return crate::fail(&format!("ingress: {error}")),
    };
    if let Err(error) = logging::start(options.debug, None, false) {
        return crate::fail(&format!("ingress: {error}"));
    }
    let n_files = crate::machine::open_files(OPEN_FILES);
    let client = match access().and_then(|access| Client::remote(access, "traefik")) {
        Ok(client) => client,
        Err(error) => return crate::fail(&format!("ingress: {error}")),
    };
    let n_workers = std::thread::available_parallelism().map_or(0, |n| n.get() - 1);
    rt::start_workers(n_workers.min(8));
    http::tls::not_earlier_than(clock::built());
    rt::spawn_named("memory", rt::follow_memory()).detach();
    // Half of the memory for connections, in two entry points; a connection has one to an endpoint beside it.
    let by_memory =
        usize::try_from(rt::memory_bytes() / 4 / CONNECTION_BYTES).unwrap_or(usize::MAX);
    let connections_max = by_memory.min(n_files / 3).clamp(64, CONNECTIONS_MAX);
    match rt::block_on(::ingress::run(options, client, connections_max)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the command takes an argument.
///
/// # Errors
/// Say why not.
pub(crate) fn takes(argument: &str) -> Result<(), String> {
    let parsed = ::ingress::Options::parse(&[argument.to_owned()]);
    parsed.map(drop).map_err(|error| error.to_string())
}

/// The API as the pod's service account, or as `KUBECONFIG` says where there is none.
fn access() -> Result<Access> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (host, port) = (var("KUBERNETES_SERVICE_HOST"), var("KUBERNETES_SERVICE_PORT"));
    if let (None, Some(path)) = (&host, var("KUBECONFIG")) {
        return Access::from_kubeconfig_file(&PathBuf::from(path));
    }
    let host =
        host.context(|| "find the API: neither KUBERNETES_SERVICE_HOST nor KUBECONFIG is set")?;
    let port = port.and_then(|port| port.parse().ok()).unwrap_or(443);
    let file = |name: &str| Source::File(PathBuf::from(ACCOUNT).join(name));
    Ok(Access {
        server: format!("https://{}", http::client::authority(&host, Some(port))),
        ca: file("ca.crt"),
        token: file("token"),
        ..Access::default()
    })
}
