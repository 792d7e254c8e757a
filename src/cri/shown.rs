//! Sandboxes and containers as clients are told of them.

use runtime::{ContainerStatus, SandboxState, SandboxStatus};
use serde_json::json;
use stdx::OrdMap;
use wire::cri::{
    self, Container, ContainerConfig, ContainerMetadata, ContainerResources, ContainerState,
    ContainerUser, ImageSpec, LinuxContainerUser, LinuxPodSandboxStatus, Mount, MountPropagation,
    Namespace, NamespaceMode, NamespaceOption, PodIP, PodSandbox, PodSandboxMetadata,
    PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus,
};
use wire::shim::mount_kind;

use crate::{Shared, files};

/// Flags of mounts in a plan, as mount(2) has them.
const MS_RDONLY: u64 = 1;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;

/// Whether labels have all that a selector asks for.
pub(crate) fn selects(selector: &OrdMap<String, String>, labels: &OrdMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

pub(crate) fn sandbox_state(sandbox: &SandboxStatus) -> PodSandboxState {
    match sandbox.state {
        SandboxState::Ready => PodSandboxState::READY,
        SandboxState::NotReady => PodSandboxState::NOT_READY,
    }
}

pub(crate) fn sandbox_metadata(sandbox: &SandboxStatus) -> PodSandboxMetadata {
    PodSandboxMetadata {
        name: sandbox.name.clone(),
        uid: sandbox.uid.clone(),
        namespace: sandbox.namespace.clone(),
        attempt: sandbox.attempt,
    }
}

pub(crate) fn listed_sandbox(sandbox: SandboxStatus) -> PodSandbox {
    PodSandbox {
        id: sandbox.id.to_string(),
        metadata: sandbox_metadata(&sandbox),
        state: sandbox_state(&sandbox),
        created_at: sandbox.created_at.0,
        labels: sandbox.labels,
        annotations: sandbox.annotations,
        runtime_handler: String::new(),
    }
}

pub(crate) async fn sandbox(shared: &Shared, sandbox: &SandboxStatus) -> PodSandboxStatus {
    let (state, id) = (shared.config.state.clone(), sandbox.id.clone());
    let kept = rt::unblock(move || files::sandbox(&state, &id)).await.unwrap_or_default();
    let mode = |host: bool| if host { NamespaceMode::NODE } else { NamespaceMode::POD };
    let options = NamespaceOption {
        network: mode(sandbox.host_network),
        pid: match (sandbox.host_pid, sandbox.share_processes) {
            (true, _) => NamespaceMode::NODE,
            (_, true) => NamespaceMode::POD,
            _ => NamespaceMode::CONTAINER,
        },
        ipc: mode(sandbox.host_ipc),
        ..NamespaceOption::default()
    };
    let mut ips = match sandbox.host_network {
        true => Vec::new(),
        false => shared.network.addresses(&sandbox.id),
    }
    .into_iter()
    .map(|ip| ip.to_string());
    PodSandboxStatus {
        id: sandbox.id.to_string(),
        metadata: sandbox_metadata(sandbox),
        state: sandbox_state(sandbox),
        created_at: sandbox.created_at.0,
        network: Some(PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIP { ip }).collect(),
        }),
        linux: LinuxPodSandboxStatus { namespaces: Namespace { options } },
        labels: sandbox.labels.clone(),
        annotations: sandbox.annotations.clone(),
        runtime_handler: kept.runtime_handler,
    }
}

/// What `crictl inspectp` shows besides.
pub(crate) fn sandbox_info(sandbox: &SandboxStatus) -> OrdMap<String, String> {
    let info = json!({
        "pid": sandbox.shim_pid,
        "processStatus": match sandbox.state {
            SandboxState::Ready => "running",
            SandboxState::NotReady => "deleted",
        },
        "netNamespaceClosed": sandbox.state == SandboxState::NotReady,
        "runtimeHandler": "",
        "runtimeType": "io.k3rs.shim.v1",
        "runtimeSpec": {
            "hostname": sandbox.name,
            "linux": {
                "cgroupsPath": sandbox.cgroup_parent,
                "namespaces": [
                    {"type": "network", "path": sandbox.network_namespace()},
                ],
            },
        },
    });
    [("info".to_owned(), info.to_string())].into_iter().collect()
}

pub(crate) fn container_state(container: &ContainerStatus) -> ContainerState {
    match container.state {
        runtime::ContainerState::Created => ContainerState::CREATED,
        runtime::ContainerState::Running => ContainerState::RUNNING,
        runtime::ContainerState::Exited(_) => ContainerState::EXITED,
    }
}

fn image(container: &ContainerStatus) -> ImageSpec {
    ImageSpec {
        image: container.image.clone(),
        user_specified_image: container
            .annotations
            .get("k3rs.io/image")
            .cloned()
            .unwrap_or_default(),
        ..ImageSpec::default()
    }
}

pub(crate) fn container_metadata(container: &ContainerStatus) -> ContainerMetadata {
    ContainerMetadata { name: container.name.clone(), attempt: container.attempt }
}

pub(crate) fn listed_container(container: ContainerStatus) -> Container {
    Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.sandbox.to_string(),
        metadata: container_metadata(&container),
        image: image(&container),
        image_ref: container.image_id.clone(),
        state: container_state(&container),
        created_at: container.created_at.0,
        image_id: container.image_id,
        labels: container.labels,
        annotations: container.annotations,
    }
}

/// Why a container is as it is, in the words of containerd.
fn reason(container: &ContainerStatus) -> &'static str {
    match container.exit() {
        None => "",
        Some(exit) if exit.oom_killed => "OOMKilled",
        Some(exit) if exit.is_unknown() => "Unknown",
        Some(exit) if exit.code == 128 && !exit.message.is_empty() => "StartError",
        Some(exit) if exit.code == 0 => "Completed",
        Some(_) => "Error",
    }
}

pub(crate) async fn container(
    shared: &Shared,
    container: &ContainerStatus,
) -> cri::ContainerStatus {
    let (state, own) = (shared.config.state.clone(), container.clone());
    let kept = rt::unblock(move || files::container(&state, &own.sandbox, &own.id)).await;
    let plan = shared.runtime.container_plan(&container.id).await.ok();
    let exit = container.exit();
    let mut status = cri::ContainerStatus {
        id: container.id.to_string(),
        metadata: container_metadata(container),
        state: container_state(container),
        created_at: container.created_at.0,
        started_at: container.started_at.map_or(0, |at| at.0),
        finished_at: exit.map_or(0, |exit| exit.finished_at.0),
        exit_code: exit.map_or(0, |exit| exit.code),
        image: image(container),
        image_ref: container.image_ref.clone(),
        reason: reason(container).to_owned(),
        message: exit.map(|exit| exit.message.clone()).unwrap_or_default(),
        labels: container.labels.clone(),
        annotations: container.annotations.clone(),
        log_path: container
            .log_path
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        image_id: container.image_id.clone(),
        user: Some(ContainerUser {
            linux: LinuxContainerUser {
                uid: container.uid.into(),
                gid: container.gid.into(),
                supplemental_groups: wire::message::Packed(
                    container.groups.iter().map(|gid| i64::from(*gid)).collect(),
                ),
            },
        }),
        ..cri::ContainerStatus::default()
    };
    match (kept, plan) {
        (Some(ContainerConfig { mounts, linux, .. }), _) => {
            status.mounts = mounts;
            status.resources = Some(ContainerResources { linux: linux.resources });
        }
        (None, Some(plan)) => status.mounts = mounts(&plan),
        (None, None) => {}
    }
    status
}

/// What is bound into a container that was not made here.
fn mounts(plan: &wire::shim::Container) -> Vec<Mount> {
    let bound = plan.mounts.iter().filter(|mount| mount.kind == mount_kind::BIND);
    bound
        .map(|mount| Mount {
            container_path: mount.target.clone(),
            host_path: mount.source.clone(),
            readonly: mount.flags & MS_RDONLY != 0,
            propagation: match mount.propagation {
                MS_SHARED => MountPropagation::BIDIRECTIONAL,
                MS_SLAVE => MountPropagation::HOST_TO_CONTAINER,
                _ => MountPropagation::PRIVATE,
            },
            recursive_read_only: mount.recursive_read_only,
            ..Mount::default()
        })
        .collect()
}

/// What `crictl inspect` shows besides: the process and its surroundings in OCI's form. Who may ask is root, and
/// sees what the kernel shows to root: arguments and environment.
pub(crate) async fn container_info(
    shared: &Shared,
    container: &ContainerStatus,
) -> OrdMap<String, String> {
    let Ok(plan) = shared.runtime.container_plan(&container.id).await else {
        return OrdMap::new();
    };
    let reveal = |list: &[stdx::Sensitive]| -> Vec<String> {
        list.iter().map(|word| word.reveal().clone()).collect()
    };
    let process = &plan.process;
    let mounts: Vec<_> = plan
        .mounts
        .iter()
        .map(|mount| {
            json!({
                "destination": mount.target,
                "type": if mount.kind == mount_kind::BIND { "bind" } else { mount.fs_type.as_str() },
                "source": mount.source,
                "options": if mount.flags & MS_RDONLY != 0 { ["ro"] } else { ["rw"] },
            })
        })
        .collect();
    let info = json!({
        "sandboxID": &*container.sandbox,
        "pid": container.pid.unwrap_or(0),
        "removing": false,
        "snapshotKey": &*container.id,
        "snapshotter": "overlayfs",
        "runtimeType": "io.k3rs.shim.v1",
        "runtimeSpec": {
            "ociVersion": "1.2.0",
            "process": {
                "terminal": process.tty,
                "user": {"uid": container.uid, "gid": container.gid, "additionalGids": container.groups},
                "args": reveal(&process.args),
                "env": reveal(&process.env),
                "cwd": process.cwd,
                "noNewPrivileges": process.no_new_privileges,
                "oomScoreAdj": process.oom_score_adj,
            },
            "root": {"path": "rootfs", "readonly": plan.readonly_root},
            "mounts": mounts,
            "linux": {
                "cgroupsPath": container.cgroup,
                "maskedPaths": plan.masked_paths,
                "readonlyPaths": plan.readonly_paths,
            },
        },
    });
    [("info".to_owned(), info.to_string())].into_iter().collect()
}
