//! `k3rs killall`: ends k3rs and all its pods on this machine, and leaves the data as they are.
//!
//! What it ends is k3rs's own: the process that holds the data directory's lock, the pods that the runtime has records of, their
//! cgroups, interfaces and table, and mounts below k3rs's directories. No name of a process or of an interface says so alone.

use std::process::ExitCode;

use cluster::Paths;
use stdx::{Error, Result};

use crate::commands::uninstall::{remove_directory, tear_down, unmount_below};
use crate::settings::config::Config;
use crate::settings::flags::On;
use crate::{machine::holder, machine::prepare};

const USAGE: &str = "USAGE: k3rs killall [--data-dir DIR] [flags of k3rs server that name paths]\n\n\
    Ends k3rs server or agent and all pods; removes their mounts, cgroups, interfaces, the nft table inet k3rs and\n\
    /run/k3s. Data, images and configuration stay: the next start brings everything back. A service that would start k3rs\n\
    again has to be stopped first (k3s-killall.sh does both). Where k3rs is the first process of a machine or of a container,\n\
    this makes /run/k3s.stopped, which keeps it stopped until that file is removed, or the first process starts anew.\n";

pub(crate) fn command(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        crate::print(USAGE);
        return ExitCode::SUCCESS;
    }
    if let Err(error) = prepare::need_root("killall") {
        return crate::fail(&error.to_string());
    }
    let config = match Config::load(On::Either, args, |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return crate::fail(&error.to_string()),
    };
    rt::start_workers(1);
    crate::ended("killall", rt::block_on(run(config)))
}

async fn run(config: Config) -> Result<String> {
    let paths = Paths::new(&config.data_dir);
    if !config.data_dir.exists() && !config.run_dir.exists() {
        return Ok(format!("nothing of k3rs is in {}\n", config.data_dir.display()));
    }
    let mut said = String::new();
    if boot::is_running() {
        // As k3s-killall.sh does where another init would start the server again.
        rt::fs::write(boot::STOPPED_FILE, b"", 0o644)?;
        said += &format!("{} keeps k3rs stopped until it is removed\n", boot::STOPPED_FILE);
    }
    for lock in [paths.data().join(".lock"), config.run_dir.join(".lock")] {
        if let Some(pid) = holder::end(&lock).await? {
            said += &format!("ended k3rs, process {pid}\n");
        }
    }
    let _lock = prepare::lock(&paths)?;
    let run_lock = prepare::lock_run_directory(&config)?;
    let mut errors: Vec<Error> = Vec::new();
    let pods = paths.agent().join("pods");
    let config = tear_down(config, paths, false, &mut errors).await?;
    drop(run_lock);
    errors.extend(unmount_below(&config.data_dir).err());
    for uid in rt::fs::dir_names(pods) {
        let staged = kubelet::staged_for(&config.kubelet_dir, &uid.0.to_string_lossy());
        errors.extend(unmount_below(&config.kubelet_dir.join("pods").join(uid.0)).err());
        errors.extend(staged.iter().filter_map(|directory| unmount_below(directory).err()));
    }
    errors.extend(kubelet::end_sharing(&config.kubelet_dir).err());
    errors.extend(remove_directory(&config.run_dir).err());
    if errors.is_empty() {
        said += "ended all pods; removed their mounts, cgroups and interfaces, the nft table inet k3rs and ";
        said += &config.run_dir.display().to_string();
        said += "\n";
        return Ok(said);
    }
    Err(Error::new(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
}
