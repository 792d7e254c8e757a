//! A node in a process of its own, beside a server with `--disable-agent`: from the files in `agent/`.
//!
//! Joining by a token comes with the tunnel; until then this is for tests, which lay out the files as
//! the server wrote them, and `k3rs agent` is refused by name.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use client::{Access, Client};
use cluster::Paths;
use http::tls::Identity;
use stdx::{Context, Result};

use crate::config::Config;
use crate::flags::On;
use crate::node::Link;
use crate::prepare::{self, EtcDir};
use crate::server::{Machine, N_WORKERS};
use crate::{follow, logging, unable};

/// The command: exit code 0 after SIGTERM, 1 after an error.
pub(crate) fn command(args: &[String]) -> ExitCode {
    let config = match Config::load(On::Agent, args, |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return crate::fail(&error.to_string()),
    };
    if config.token.is_some() {
        return crate::fail(
            "node: joining by a token is not supported by this version of k3rs yet",
        );
    }
    if let Err(error) = prepare::need_root("node") {
        return crate::fail(&error.to_string());
    }
    if let Err(error) = logging::start(config.debug, config.log.as_deref(), config.alsologtostderr)
    {
        return crate::fail(&error.to_string());
    }
    rt::start_workers(N_WORKERS);
    match rt::block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<()> {
    log::info!("Starting k3rs {} as a node", stdx::version::VERSION);
    prepare::outlive_pods();
    let _clock = rt::spawn_named("clock", rt::follow_clock());
    rt::spawn_named("memory", rt::follow_memory()).detach();
    http::tls::not_earlier_than(follow::built());
    let paths = Paths::new(&config.data_dir);
    let _locks = (prepare::lock(&paths)?, prepare::lock_run_directory(&config)?);
    let etc = EtcDir::choose(&config)?;
    crate::server::unpack_userspace(paths.clone()).await;
    let hostname = sys::host::name().context(|| "read the host's name")?;
    let node_name = prepare::node_name(&config, &etc, &hostname)?;
    let node_ips = prepare::node_ips(&config)?;
    let machine = Machine { config, paths, etc, hostname, node_name, node_ips };
    let link = link(&machine.paths)?;
    let _renewal = rt::spawn_named(
        "kubelet certificate",
        follow_certificate(machine.paths.clone(), Arc::clone(&link.serving)),
    );
    let mut agent = None;
    let up = async {
        let started = agent.insert(unable::start(&machine, &link).await?);
        started.ready().await;
        log::info!("k3rs is up and running: node {} is Ready", machine.node_name);
        loop {
            started.net().node_ips_changed().await;
            started.kubelet().set_node_ips(started.net().node_ips());
        }
    };
    let signal = rt::future::or(rt::signal::terminated(), up).await?;
    log::info!("Received {signal}, shutting down; containers run on");
    if let Some(agent) = agent {
        agent.stop().await;
    }
    log::info!("Stopped");
    Ok(())
}

/// The node's ways to the server, by the kubeconfigs of its agent directory.
fn link(paths: &Paths) -> Result<Link> {
    let client = |file: &str, agent: &str| {
        let access = Access::from_kubeconfig_file(&paths.agent().join(file))?;
        Client::remote(access, agent).context(|| format!("use {file}"))
    };
    let (chain, key) = serving_files(paths);
    let serving = Identity::from_pem(&rt::fs::read(chain)?, &rt::fs::read(key)?)?;
    Ok(Link {
        kubelet: client("kubelet.kubeconfig", "kubelet")?,
        proxy: client("kubeproxy.kubeconfig", "kube-proxy")?,
        namespaces: None,
        local_path: None,
        serving,
        client_ca_pem: rt::fs::read_text(paths.agent().join("client-ca.crt"))?,
        open: Box::new(|_| {}),
    })
}

fn serving_files(paths: &Paths) -> (PathBuf, PathBuf) {
    let file = |name: &str| paths.agent().join(name);
    (file("serving-kubelet.crt"), file("serving-kubelet.key"))
}

/// Shows the kubelet's certificate that is on disk, whenever it is renewed there.
async fn follow_certificate(paths: Paths, shown: Arc<Identity>) {
    let (chain, key) = serving_files(&paths);
    let watch = rt::FileWatch::new();
    if let Err(error) = watch.add(&chain) {
        return log::error!("follow the kubelet's certificate: {error}");
    }
    while watch.changed().await.is_ok() {
        let pair = rt::fs::read(&chain).and_then(|chain| Ok((chain, rt::fs::read(&key)?)));
        // The key is written first; a pair that does not match is one that is being replaced.
        if let Err(error) = pair.and_then(|(chain, key)| shown.replace_pem(&chain, &key)) {
            log::debug!("read the kubelet's certificate again: {error}");
        }
    }
}
