//! `k3rs uninstall`: takes back everything k3rs made on this machine, and says what that was.

use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cluster::Paths;
use stdx::Arrange;
use stdx::{Context, Error, Result};

use crate::machine::Machine;
use crate::machine::prepare::{self, EtcDir};
use crate::node;
use crate::settings::config::Config;
use crate::settings::flags::On;

const USAGE: &str = "USAGE: k3rs uninstall [--dry-run] [--data-dir DIR] [flags of k3rs server that name paths]\n\n\
    Ends all pods and removes their mounts, cgroups, interfaces and logs, the nft table inet k3rs, the data directory,\n\
    /run/k3s, the kubeconfig and the configuration k3rs wrote, and says so. k3rs server must not be running.\n\n\
    OPTIONS:\n   --dry-run   say what would be removed, and remove nothing\n";

pub(crate) fn command(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        crate::print(USAGE);
        return ExitCode::SUCCESS;
    }
    if let Err(error) = prepare::need_root("uninstall") {
        return crate::fail(&error.to_string());
    }
    let is_dry = |arg: &&String| matches!(arg.as_str(), "--dry-run" | "--dry-run=true");
    let dry = args.iter().any(|arg| is_dry(&arg));
    let rest: Vec<String> =
        args.iter().filter(|arg| !is_dry(arg) && *arg != "--dry-run=false").cloned().collect();
    let config = match Config::load(On::Either, &rest, |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return crate::fail(&error.to_string()),
    };
    rt::start_workers(1);
    match rt::block_on(run(config, dry)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::fail(&error.to_string()),
    }
}

/// What lies on the disk, in the order in which it goes.
#[derive(Debug)]
struct Found {
    /// Uids of the pods that have something here.
    pods: Vec<String>,
    logs: Vec<PathBuf>,
    kubeconfigs: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// Removed if nothing else is in them.
    shells: Vec<PathBuf>,
}

impl Found {
    fn look(config: &Config, paths: &Paths) -> Found {
        let pods: Vec<String> = rt::fs::dir_names(paths.agent().join("pods"))
            .into_iter()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect();
        // The directory of logs may be another kubelet's, too: only what ends in a uid of ours.
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            name.rsplit('_').next().is_some_and(|uid| pods.iter().any(|pod| pod == uid))
        };
        let logs = rt::fs::list_dir(&config.log_dir).unwrap_or_default();
        let logs = logs.into_iter().filter(is_ours).collect();
        let own = config.data_dir.join("etc");
        let etc = config.etc_dir.as_path();
        let mut kubeconfigs = prepare::written_kubeconfigs(paths);
        kubeconfigs.extend(config.write_kubeconfig.clone());
        kubeconfigs.push(etc.join("k3s").join("k3s.yaml"));
        kubeconfigs.arrange();
        kubeconfigs.dedup();
        let ca = prepare::ca_in_kubeconfigs(paths);
        kubeconfigs.retain(|path| !path.starts_with(&own) && leads_here(path, ca.as_deref()));
        let mut directories = vec![config.data_dir.clone(), config.run_dir.clone()];
        // The passwords by which the node is known; nobody but k3rs writes there.
        directories.push(etc.join("node"));
        // Another kubelet's, where there was none of ours.
        if paths.agent().exists() {
            let sockets = ["device-plugins", "pod-resources"];
            directories.extend(sockets.map(|it| config.kubelet_dir.join(it)));
        }
        directories.retain(|path| path.symlink_metadata().is_ok());
        let mut shells = vec![etc.join("k3s"), etc.to_owned(), config.log_dir.clone()];
        let of_drivers = [
            "pods",
            "plugins_registry",
            "plugins/kubernetes.io/csi/volumeDevices/publish",
            "plugins/kubernetes.io/csi/volumeDevices",
            "plugins/kubernetes.io/csi",
            "plugins/kubernetes.io",
            "plugins",
            "",
        ];
        shells.extend(of_drivers.map(|it| config.kubelet_dir.join(it)));
        if let Some(parent) = config.data_dir.parent().filter(|path| path.ends_with("lib/rancher"))
        {
            shells.push(parent.to_owned());
        }
        Found { pods, logs, kubeconfigs, directories, shells }
    }

    fn list(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.pods.is_empty() {
            lines.push(match self.pods.len() {
                1 => "1 pod".to_owned(),
                n => format!("{n} pods"),
            });
        }
        if !self.directories.is_empty() {
            lines.push(
                "interface cni0, the pods' interfaces, cgroups and network namespaces".to_owned(),
            );
            lines.push("nft table inet k3rs".to_owned());
        }
        let paths = self.logs.iter().chain(&self.kubeconfigs).chain(&self.directories);
        lines.extend(paths.map(|path| path.display().to_string()));
        lines
    }
}

async fn run(config: Config, dry: bool) -> Result<()> {
    let paths = Paths::new(&config.data_dir);
    let found = Found::look(&config, &paths);
    let list = found.list();
    if dry || list.is_empty() {
        let mut text: String = list.iter().map(|line| format!("would remove {line}\n")).collect();
        if list.is_empty() {
            text = format!("nothing of k3rs is left in {}\n", config.data_dir.display());
        }
        crate::print(&text);
        if dry {
            return Ok(());
        }
    }
    let lock = match config.data_dir.exists() {
        true => Some(prepare::lock(&paths).context(|| "uninstall")?),
        false => None,
    };
    let mut errors: Vec<Error> = Vec::new();
    let config = tear_down(config, paths, true, &mut errors).await?;
    let mut note = |result: Result<()>| errors.extend(result.err());
    drop(lock);
    // What storage drivers have mounted in our pods; what they keep themselves is theirs.
    for uid in &found.pods {
        let staged = kubelet::staged_for(&config.kubelet_dir, uid);
        note(remove_directory(&config.kubelet_dir.join("pods").join(uid)));
        for directory in staged {
            note(remove_directory(&directory));
            // Where the driver has others' volumes, they stay.
            let _ = directory.parent().map(rt::fs::remove_empty_dir);
        }
    }
    for path in &found.directories {
        note(remove_directory(path));
    }
    note(kubelet::end_sharing(&config.kubelet_dir));
    note(remove(&config.kubelet_dir.join(prepare::KUBELET_LOCK)));
    for path in found.logs.iter().chain(&found.kubeconfigs) {
        note(remove(path));
    }
    // Not empty, or never there: both are fine.
    for path in &found.shells {
        let _ = rt::fs::remove_empty_dir(path);
    }
    // Opening the runtime may have made what was not there before.
    for path in [&config.run_dir, &config.data_dir] {
        note(remove_directory(path));
    }
    if errors.is_empty() {
        let text: String = list.iter().map(|line| format!("removed {line}\n")).collect();
        crate::print(&text);
        return Ok(());
    }
    Err(Error::new(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
}

/// Ends all pods, and takes back their cgroups and the network; with `images`, also what pods are made of. Gives back the
/// configuration.
pub(crate) async fn tear_down(
    config: Config,
    paths: Paths,
    images: bool,
    errors: &mut Vec<Error>,
) -> Result<Config> {
    let mut note = |result: Result<()>| errors.extend(result.err());
    let hostname = sys::host::name();
    let node_ips: Vec<IpAddr> = Vec::new();
    let etc = EtcDir::at(&config);
    let node_name = hostname.to_ascii_lowercase();
    let machine = Machine { node_name, hostname, paths, etc, node_ips, config };
    let runtime = runtime::Runtime::open(node::runtime_config(&machine)).await;
    match runtime {
        Ok(runtime) => {
            note(runtime.teardown_all(images).await);
            // The pods' common cgroup goes too, unless somebody else has processes in it.
            let root = machine.config.cgroup_root();
            let hierarchies = sys::cgroup::Hierarchies::detect();
            if hierarchies.is_ok_and(|hierarchies| hierarchies.processes(&root).is_empty()) {
                note(runtime.cgroup_remove(&root).await);
            }
        }
        Err(error) => note(Err(error)),
    }
    match node::net_config(&machine, Vec::new()) {
        Ok(mut config) => {
            // Whatever the flags of this command say: pods may have been given their network by plugins.
            config.plugins = Some(node::plugins(&machine))
                .filter(|plugins| rt::fs::metadata(&plugins.attached).is_ok());
            note(net::teardown(&config).await);
        }
        Err(error) => note(Err(error)),
    }
    Ok(machine.config)
}

/// Ends every mount below a directory of ours: pods' memory volumes, and parts of volumes (`subPath`), which may be
/// the host's own directories. The newest first, because later ones may lie on top of earlier ones.
pub(crate) fn unmount_below(path: &Path) -> Result<()> {
    // The kernel lists mounts by their real paths.
    let Ok(real) = path.canonicalize() else { return Ok(()) };
    for target in mounts_below(&real)?.iter().rev() {
        sys::mount::unmount(target, sys::mount::MNT_DETACH)
            .context(|| format!("unmount {}", target.display()))?;
    }
    // Nothing is ever deleted through a mount: what is behind it may be the host's.
    match mounts_below(&real)?.first() {
        Some(left) => {
            Err(Error::new(format!("{} is still mounted: unmount it first", left.display())))
        }
        None => Ok(()),
    }
}

/// Removes a directory of ours, also behind a link. A disk that is mounted there stays, empty.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    let Ok(real) = path.canonicalize() else { return remove(path) };
    unmount_below(path)?;
    let mounts = sys::mount::list().context(|| "list mounts")?;
    if mounts.iter().any(|mount| mount.target == real.as_os_str().as_bytes()) {
        for entry in rt::fs::list_dir(&real)? {
            remove(&entry)?;
        }
        return Ok(());
    }
    remove(&real)?;
    remove(path)
}

fn mounts_below(real: &Path) -> Result<Vec<PathBuf>> {
    let mounts = sys::mount::list().context(|| "list mounts")?;
    let targets = mounts.iter().map(|m| PathBuf::from(std::ffi::OsStr::from_bytes(&m.target)));
    // A disk of the user's at the directory itself stays where it is.
    Ok(targets.filter(|target| target.starts_with(real) && target != real).collect())
}

/// A kubeconfig that leads to another cluster, or that the user made of several, is not ours to remove.
fn leads_here(path: &Path, ca: Option<&str>) -> bool {
    let Ok(text) = rt::fs::read_text(path) else { return false };
    let clusters = text.matches("certificate-authority-data:").count();
    clusters == 1 && ca.is_none_or(|ca| text.contains(ca))
}

fn remove(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(found) if found.is_dir() => rt::fs::remove_dir_all(path),
        Ok(_) => rt::fs::remove_file(path),
    }
}
