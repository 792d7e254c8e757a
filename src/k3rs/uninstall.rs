//! `k3rs uninstall`: takes back everything k3rs made on this machine.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use cluster::Paths;
use stdx::{Context, Error, Result};

use crate::config::Config;
use crate::prepare::{self, EtcDir};
use crate::{node, server::Machine};

const USAGE: &str = "USAGE: k3rs uninstall [--dry-run] [--data-dir DIR] [flags of k3rs server that name paths]\n\n\
    Ends all pods and removes their mounts, cgroups, interfaces, the nft table inet k3rs, the data directory,\n\
    /run/k3s and the configuration k3rs wrote. k3rs server must not be running.\n";

pub(crate) fn command(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        crate::print(USAGE);
        return ExitCode::SUCCESS;
    }
    let (dry, rest): (Vec<String>, Vec<String>) =
        args.iter().cloned().partition(|arg| arg == "--dry-run");
    let config = match Config::load(&rest, |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return crate::fail(&error.to_string()),
    };
    rt::start_workers(1);
    match rt::block_on(run(config, !dry.is_empty())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::fail(&error.to_string()),
    }
}

async fn run(config: Config, dry: bool) -> Result<()> {
    let paths = Paths::new(&config.data_dir);
    let etc = EtcDir::choose(&config)?;
    let files =
        [config.data_dir.clone(), config.run_dir.clone(), etc.kubeconfig(), etc.node_directory()];
    if dry {
        let list: Vec<String> = files
            .iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string())
            .collect();
        crate::print(&format!(
            "would end all pods, remove interface cni0 and table inet k3rs, and delete:\n{}\n",
            list.join("\n")
        ));
        return Ok(());
    }
    let lock = match config.data_dir.exists() {
        true => Some(prepare::lock(&paths).context(|| "uninstall")?),
        false => None,
    };
    let mut errors: Vec<Error> = Vec::new();
    let mut note = |result: Result<()>| errors.extend(result.err());
    let hostname = sys::host::name().context(|| "read the host's name")?;
    let node_ips: Vec<IpAddr> = Vec::new();
    let machine = Arc::new(Machine {
        node_name: hostname.to_ascii_lowercase(),
        hostname,
        paths,
        etc,
        node_ips,
        config,
    });
    let runtime = runtime::Runtime::open(node::runtime_config(&machine)).await;
    match runtime {
        Ok(runtime) => {
            note(runtime.teardown_all(true).await);
            // The pods' common cgroup goes too, unless somebody else has processes in it.
            let root = machine.config.cgroup_root();
            let hierarchies = sys::cgroup::Hierarchies::detect();
            if hierarchies.is_ok_and(|hierarchies| hierarchies.processes(&root).is_empty()) {
                note(runtime.cgroup_remove(&root).await);
            }
        }
        Err(error) => note(Err(error)),
    }
    match node::net_config(&machine) {
        Ok(config) => note(net::teardown(&config).await),
        Err(error) => note(Err(error)),
    }
    drop(lock);
    for path in &files {
        note(remove(path));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => {
            Err(Error::new(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    if path.is_dir() { rt::fs::remove_dir_all(path) } else { rt::fs::remove_file(path) }
}
