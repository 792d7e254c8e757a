//! Making and stopping the pod's sandbox, its cgroup and its network.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::quantity::Quantity;
use api::{Lens, Value, kinds};
use runtime::{SandboxSpec, SandboxStatus};
use stdx::{Context, Error, Result};

use super::Worker;
use crate::figures::Operation;
use crate::make::{cgroup, container, dns};
use crate::network::{HostPort, SandboxNetwork};
use crate::shared::{OWNER, Shared};
use podplan::{Done, Pod, Qos};

impl Worker {
    pub(super) fn make_sandbox(&mut self, attempt: u32, lost: Option<String>) {
        let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
        let (cgroup, uid) = (self.cgroup_path(), self.slot.uid.clone());
        self.launch("sandbox", Done::SandboxFailed, async move {
            if let Some(id) = lost {
                remove(&shared, &id).await;
            }
            match make(&shared, &pod, &uid, attempt, cgroup).await {
                Ok((id, ips)) => Done::SandboxMade { id, ips },
                Err(error) => {
                    let message = format!("Failed to create pod sandbox: {error}");
                    shared.recorder.warning(&pod.object, "FailedCreatePodSandBox", message);
                    Done::SandboxFailed
                }
            }
        });
    }

    pub(super) fn stop_sandbox(&mut self, id: String) {
        /// Attempts before what is left is left to `Finish`, and the wait between them.
        const ATTEMPTS_MAX: u32 = 3;
        const WAIT: Duration = Duration::from_secs(1);
        let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
        self.launch("end of the sandbox", Done::SandboxStopped, async move {
            for _ in 0..ATTEMPTS_MAX {
                match stop(&shared, &id, pod.host_network).await {
                    Ok(()) => break,
                    Err(error) => {
                        let message = format!("error killing pod: {error}");
                        shared.recorder.warning(&pod.object, "FailedKillPod", message);
                        rt::sleep(WAIT).await;
                    }
                }
            }
            Done::SandboxStopped
        });
    }
}

async fn stop(shared: &Shared, id: &str, host_network: bool) -> Result<()> {
    if !host_network {
        shared.network.remove(id).await?;
    }
    let stopped = shared.runtime.stop_sandbox(id);
    shared.figures.timed(Operation::StopSandbox, stopped).await
}

/// Network and runtime forget the sandbox; failures are logged, the next attempt meets them again.
pub(super) async fn remove(shared: &Shared, id: &str) {
    if let Err(error) = shared.network.remove(id).await {
        log::warn!("sandbox {id}: {error}");
    }
    let removed = shared.runtime.remove_sandbox(id);
    if let Err(error) = shared.figures.timed(Operation::RemoveSandbox, removed).await {
        log::warn!("sandbox {id}: {error}");
    }
}

async fn make(
    shared: &Shared,
    pod: &Pod,
    uid: &str,
    attempt: u32,
    cgroup: String,
) -> Result<(String, Vec<IpAddr>)> {
    let tree = pod.object.tree();
    check_runtime_class(shared, tree.str("spec.runtimeClassName")).await?;
    let spec = spec(shared, pod, &tree, uid, attempt, &cgroup)?;
    let limits = cgroup::of_pod(&tree, shared.config.pod_pids_max);
    shared.runtime.cgroup_apply(&cgroup, &limits).await?;
    if Qos::of(&tree) == Qos::Burstable {
        crate::capacity::weigh_burstable(shared).await;
    }
    let made = shared.runtime.run_sandbox(spec);
    let sandbox = shared.figures.timed(Operation::RunSandbox, made).await?;
    let id = sandbox.id.to_string();
    if pod.host_network {
        return Ok((id, shared.host_ips()));
    }
    let wanted = network_of(&tree, uid, &sandbox)?;
    let added = shared.network.add(&wanted).await.context(|| "set up the sandbox's network");
    match added {
        Ok(ips) => Ok((id, ips)),
        Err(error) => {
            remove(shared, &id).await;
            Err(error)
        }
    }
}

/// This node has one runtime, which goes by the name that every distribution gives its first one.
async fn check_runtime_class(shared: &Shared, class: &str) -> Result<()> {
    if class.is_empty() {
        return Ok(());
    }
    let found = shared.client.get(&kinds::RUNTIME_CLASS, "", class).await;
    let found = found.map_err(|status| Error::new(status.to_string()))?;
    match found.tree().str("handler") {
        "runc" => Ok(()),
        handler => Err(Error::new(format!(
            "rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for \"{handler}\" is configured"
        ))),
    }
}

fn spec(
    shared: &Shared,
    pod: &Pod,
    tree: &Value,
    uid: &str,
    attempt: u32,
    cgroup: &str,
) -> Result<SandboxSpec> {
    let config = &shared.config;
    if tree.at("spec.hostUsers").as_bool() == Some(false) {
        return Err(Error::new(
            "user namespaces of pods (hostUsers: false) are not supported on this node",
        ));
    }
    // With the pod's own, by which CRI clients select.
    let mut labels = runtime::Labels::new();
    for (name, value) in tree.at("metadata.labels").as_object().into_iter().flatten() {
        labels.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
    }
    labels.extend(container::labels(tree, None));
    labels.insert(container::LABEL_POD_UID.to_owned(), uid.to_owned());
    Ok(SandboxSpec {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        uid: uid.to_owned(),
        attempt,
        owner: OWNER.to_owned(),
        hostname: match pod.host_network {
            true => config.hostname.clone(),
            false => dns::uts_name(tree, &config.cluster_domain).map_err(Error::new)?,
        },
        host_network: pod.host_network,
        host_pid: tree.flag("spec.hostPID"),
        host_ipc: tree.flag("spec.hostIPC"),
        share_processes: pod.share_processes,
        netns: None,
        sysctls: tree
            .list("spec.securityContext.sysctls")
            .iter()
            .map(|sysctl| {
                (api::pod::sysctl_name(sysctl.str("name")), sysctl.str("value").to_owned())
            })
            .collect(),
        cgroup_parent: cgroup.to_owned(),
        shm_size_bytes: 0,
        log_directory: config.pod_log_directory(&pod.namespace, &pod.name, uid),
        labels,
        annotations: runtime::Labels::new(),
    })
}

/// What the network is told about a sandbox.
pub(crate) fn network_of(
    tree: &Value,
    uid: &str,
    sandbox: &SandboxStatus,
) -> Result<SandboxNetwork> {
    let sidecars =
        tree.list("spec.initContainers").iter().filter(|c| c.str("restartPolicy") == "Always");
    let mut host_ports = Vec::new();
    for container in tree.list("spec.containers").iter().chain(sidecars) {
        for port in container.list("ports") {
            let number = |path: &str| port.int(path).and_then(|n| u16::try_from(n).ok());
            let Some(host_port) = number("hostPort").filter(|n| *n > 0) else { continue };
            host_ports.push(HostPort {
                host_ip: match port.str("hostIP") {
                    "" => None,
                    ip => Some(ip.parse().context(|| format!("parse hostIP {ip:?}"))?),
                },
                host_port,
                container_port: number("containerPort").unwrap_or(0),
                protocol: match port.str("protocol") {
                    "" => "TCP".into(),
                    protocol => protocol.into(),
                },
            });
        }
    }
    let bandwidth = |direction: &str| {
        let key = format!("kubernetes.io/{direction}-bandwidth");
        tree.entry("metadata.annotations", &key)
            .and_then(|text| text.parse::<Quantity>().ok())
            .and_then(|quantity| u64::try_from(quantity.units()).ok())
            .unwrap_or(0)
    };
    Ok(SandboxNetwork {
        id: sandbox.id.to_string(),
        netns: sandbox.network_namespace(),
        pod_name: sandbox.name.clone(),
        pod_namespace: sandbox.namespace.clone(),
        pod_uid: uid.to_owned(),
        host_ports,
        ingress_bits_per_sec: bandwidth("ingress"),
        egress_bits_per_sec: bandwidth("egress"),
    })
}
