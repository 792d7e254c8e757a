//! The CPU manager: who has CPUs alone is asked of `podplan`, kept in a file before a container starts, and written to cgroups.
//!
//! There is none under policy `none`: nothing is read but the file that another policy may have left.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::Value;
use podplan::{
    Cpu, CpuSet, CpuState, StaticPolicy, Told, Topology, cpu_checkpoint, read_cpu_checkpoint,
};
use stdx::{Context, Error, Result};

use crate::config::{Config, CpuConfig};

/// Upstream's, in the kubelet's directory.
const FILE: &str = "cpu_manager_state";
const FILE_MAX_BYTES: u64 = 4 << 20;

#[derive(Debug)]
pub(crate) struct Cpus {
    policy: StaticPolicy,
    file: PathBuf,
    state: Mutex<CpuState>,
    /// One pod after the other gets CPUs, and the file is written in that order.
    choosing: rt::lock::Mutex<()>,
    /// Other CPUs are shared than before.
    pub(crate) changed: rt::Event,
}

/// With what an earlier kubelet gave away; `None` under policy `none`. Blocking.
///
/// # Errors
/// If the policy cannot be on this machine, or the file is another's or damaged.
pub(crate) fn open(config: &Config) -> Result<Option<Cpus>> {
    let CpuConfig { is_static, whole_cores_only, reserved, .. } = &config.cpus;
    if !reserved.is_empty() {
        let online = list(Path::new("/sys/devices/system/cpu/online"))?;
        if !online.has_all(reserved) {
            return Err(Error::new(format!(
                "reserved-cpus: {reserved} is not a subset of online-cpus: {online}"
            )));
        }
    }
    let file = config.root_directory.join(FILE);
    let name = if *is_static { "static" } else { "none" };
    let unusable = |why: &str| {
        Error::new(format!(
            "could not restore state from checkpoint: {why}, please drain this node and delete the CPU manager checkpoint file {:?} before restarting Kubelet",
            file.display().to_string()
        ))
    };
    let kept = match rt::fs::read_record(&file, FILE_MAX_BYTES) {
        Ok(None) => None,
        Ok(Some(bytes)) => {
            let text = String::from_utf8_lossy(&bytes);
            Some(read_cpu_checkpoint(&text, name).map_err(|why| unusable(&why))?)
        }
        Err(error) => return Err(unusable(&error.to_string())),
    };
    if !is_static {
        return Ok(None);
    }
    let policy =
        StaticPolicy::new(topology()?, reserved, config.reserved.milli_cpu, *whole_cores_only)
            .map_err(Error::new)?;
    let state = policy.resume(kept).map_err(|why| {
        Error::new(format!(
            "static policy invalid state, please drain node and remove policy state file {}: {why}",
            file.display()
        ))
    })?;
    rt::fs::create_dir_all(&config.root_directory, 0o755)?;
    rt::fs::write_atomic(&file, cpu_checkpoint(&state).as_bytes(), 0o600)?;
    Ok(Some(Cpus {
        policy,
        file,
        state: Mutex::new(state),
        choosing: rt::lock::Mutex::new(()),
        changed: rt::Event::new(),
    }))
}

/// The machine's CPUs as the kernel tells them. Blocking.
fn topology() -> Result<Topology> {
    let root = Path::new("/sys/devices/system");
    let nodes = list(&root.join("node/online")).unwrap_or_default();
    let nodes: Vec<(u32, CpuSet)> = nodes
        .iter()
        .map(|id| Ok((id, list(&root.join(format!("node/node{id}/cpulist")))?)))
        .collect::<Result<_>>()?;
    let mut cpus = Vec::new();
    for id in list(&root.join("cpu/online"))?.iter() {
        let directory = root.join(format!("cpu/cpu{id}/topology"));
        // A kernel that tells nothing of them has cores of one thread in one socket.
        let threads = list(&directory.join("thread_siblings_list")).unwrap_or_default();
        let socket = sys::file::kernel_text(directory.join("physical_package_id"));
        cpus.push(Cpu {
            id,
            core: threads.iter().next().unwrap_or(id),
            socket: socket.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0),
            numa: nodes.iter().find(|(_, own)| own.contains(id)).map_or(0, |(node, _)| *node),
        });
    }
    Ok(Topology::new(cpus))
}

fn list(path: &Path) -> Result<CpuSet> {
    let what = || format!("read {}", path.display());
    CpuSet::parse(&sys::file::kernel_text(path).context(what)?).context(what)
}

impl Cpus {
    /// Changed in single steps, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, CpuState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the pod of this uid what it asks for alone; does nothing for one that has got it.
    ///
    /// # Errors
    /// Why the node does not take it.
    pub(crate) async fn allocate(
        &self,
        is_live: &(dyn Fn(&str) -> bool + Sync),
        uid: &str,
        pod: &Value,
    ) -> Result<(), Told> {
        let _choosing = self.choosing.lock().await;
        let mut next = self.state().clone();
        let freed = next.release(|other| other == uid || is_live(other));
        let given = self.policy.allocate(&mut next, uid, pod)?;
        if freed || given {
            self.keep(next).await.map_err(|error| {
                let why = format!(
                    "Pod was rejected: Allocate failed due to {error}, which is unexpected"
                );
                Told::new("UnexpectedAdmissionError", why)
            })?;
        }
        Ok(())
    }

    /// What pods had that have ended is everyone's.
    pub(crate) async fn release(&self, is_live: &(dyn Fn(&str) -> bool + Sync)) {
        let _choosing = self.choosing.lock().await;
        let mut next = self.state().clone();
        if next.release(is_live)
            && let Err(error) = self.keep(next).await
        {
            log::warn!("{error}");
        }
    }

    /// Counts once it is in the file.
    async fn keep(&self, next: CpuState) -> Result<()> {
        let (file, text) = (self.file.clone(), cpu_checkpoint(&next));
        rt::unblock(move || rt::fs::write_atomic(&file, text.as_bytes(), 0o600)).await?;
        *self.state() = next;
        self.changed.notify(usize::MAX);
        Ok(())
    }

    /// What a container may run on, as its cgroup is told.
    pub(crate) fn of(&self, uid: &str, container: &str) -> String {
        self.state().of(uid, container).to_string()
    }

    /// What a container has alone.
    pub(crate) fn exclusive(&self, uid: &str, container: &str) -> Vec<i64> {
        let state = self.state();
        state.exclusive(uid, container).map_or_else(Vec::new, numbers)
    }

    pub(crate) fn allocatable(&self) -> Vec<i64> {
        numbers(&self.policy.allocatable())
    }
}

fn numbers(cpus: &CpuSet) -> Vec<i64> {
    cpus.iter().map(i64::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &Path, is_static: bool) -> Config {
        let mut config = Config::new("n", directory, "v");
        config.root_directory = directory.to_owned();
        config.reserved.milli_cpu = 100;
        config.cpus.is_static = is_static;
        config
    }

    #[test]
    fn the_file_of_another_policy_ends_the_start() {
        let dir = crate::testing::directory("cpus");
        assert!(open(&config(dir.path(), false)).unwrap().is_none());
        assert!(!dir.path().join(FILE).exists(), "off costs nothing");
        let cpus = open(&config(dir.path(), true)).unwrap().unwrap();
        let all = topology().unwrap().all();
        assert_eq!(cpus.of("u", "c"), all.to_string());
        assert_eq!(cpus.allocatable().len(), all.len() - 1);
        assert!(open(&config(dir.path(), true)).is_ok(), "its own");
        let why = open(&config(dir.path(), false)).unwrap_err().to_string();
        assert_eq!(
            why,
            format!(
                "could not restore state from checkpoint: configured policy \"none\" differs from state checkpoint policy \"static\", please drain this node and delete the CPU manager checkpoint file \"{}/cpu_manager_state\" before restarting Kubelet",
                dir.path().display()
            )
        );
        rt::fs::write(dir.path().join(FILE), b"{\"checksum\":1}", 0o600).unwrap();
        let why = open(&config(dir.path(), true)).unwrap_err().to_string();
        assert!(why.contains(": checkpoint is corrupted, please drain"), "{why}");
        let mut config = config(dir.path(), false);
        config.cpus.reserved = CpuSet::parse("8000").unwrap();
        let why = open(&config).unwrap_err().to_string();
        assert!(why.starts_with("reserved-cpus: 8000 is not a subset of online-cpus: 0"), "{why}");
    }
}
