//! Sandboxes: made, stopped, removed and told of.

use std::path::PathBuf;

use http::grpc::Code;
use runtime::{SandboxSpec, SandboxState, SandboxStatus};
use stdx::{Context, Error, Result};
use wire::cri::{
    ListPodSandboxRequest, ListPodSandboxResponse, NamespaceMode, PodSandboxConfig,
    PodSandboxStatusRequest, PodSandboxStatusResponse, PortMapping, Protocol,
    RemovePodSandboxRequest, RunPodSandboxRequest, RunPodSandboxResponse, SecurityProfile,
    StopPodSandboxRequest,
};

use crate::refusal::{Answer, Refusal};
use crate::{Attachment, HostPort, OWNER, Shared, files, lock, make, shown};

/// Where containers' processes are counted that belong to no pod of a kubelet, as containerd names it.
const CGROUP_PARENT: &str = "/k8s.io";

/// A name that is being given; free again when this is dropped.
pub(crate) struct Reserved<'a> {
    shared: &'a Shared,
    name: String,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        lock(&self.shared.names).remove(&self.name);
    }
}

impl Shared {
    /// Takes a name, unless somebody else is taking it or `holder`, an id, has it already.
    pub(crate) fn reserve(
        &self,
        kind: &str,
        name: String,
        holder: impl FnOnce() -> Option<String>,
    ) -> Answer<Reserved<'_>> {
        let mut names = lock(&self.names);
        let holder = match names.contains(&name) {
            true => Some("another request".to_owned()),
            false => holder(),
        };
        if let Some(holder) = holder {
            let message = format!(
                "failed to reserve {kind} name {name:?}: name {name:?} is reserved for {holder:?}"
            );
            return Err(Refusal::new(Code::UNKNOWN, message));
        }
        names.insert(name.clone());
        Ok(Reserved { shared: self, name })
    }

    /// By its id or the beginning of it.
    pub(crate) fn sandbox(&self, id: &str) -> Answer<SandboxStatus> {
        if let Some(sandbox) = self.runtime.sandbox(id) {
            return Ok(sandbox);
        }
        let not_found = || Refusal::not_found("sandbox", id);
        if id.is_empty() {
            return Err(not_found());
        }
        let all = self.runtime.sandboxes();
        let mut found = all.into_iter().filter(|sandbox| sandbox.id.starts_with(id));
        match (found.next(), found.next()) {
            (Some(sandbox), None) => Ok(sandbox),
            _ => Err(not_found()),
        }
    }

    pub(crate) async fn run_sandbox(
        &self,
        request: RunPodSandboxRequest,
    ) -> Answer<RunPodSandboxResponse> {
        make::check_handler(&request.runtime_handler)?;
        let metadata = &request.config.metadata;
        if metadata.name.is_empty() {
            return Err(Refusal::invalid("sandbox config must include metadata"));
        }
        let name = format!(
            "{}_{}_{}_{}",
            metadata.name, metadata.namespace, metadata.uid, metadata.attempt
        );
        let _reserved = self.reserve("sandbox", name, || {
            let all = self.runtime.sandboxes().into_iter();
            let same = |one: &SandboxStatus| {
                one.name == metadata.name
                    && one.namespace == metadata.namespace
                    && one.uid == metadata.uid
                    && one.attempt == metadata.attempt
            };
            all.filter(same).map(|sandbox| sandbox.id.to_string()).next()
        })?;
        let spec = sandbox_spec(&request.config, &self.config.cgroup_root)?;
        let cgroup = spec.cgroup_parent.clone();
        self.runtime.cgroup_apply(&cgroup, &runtime::Resources::default()).await?;
        let sandbox = match self.runtime.run_sandbox(spec).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                self.remove_cgroup(&cgroup).await;
                return Err(error.into());
            }
        };
        let id = sandbox.id.to_string();
        match self.equip(&sandbox, request).await {
            Ok(()) => Ok(RunPodSandboxResponse { pod_sandbox_id: id }),
            Err(error) => {
                if let Err(more) = self.take_down(&sandbox).await {
                    log::warn!("CRI: sandbox {id}: clean up after a failed start: {more}");
                }
                Err(error.into())
            }
        }
    }

    /// Gives a new sandbox its files and its network.
    async fn equip(&self, sandbox: &SandboxStatus, request: RunPodSandboxRequest) -> Result<()> {
        let attachment = attachment(sandbox, &request.config.port_mappings)?;
        let (state, resolv) = (self.config.state.clone(), self.config.resolv_conf.clone());
        let id = sandbox.id.clone();
        rt::unblock(move || files::keep_sandbox(&state, &id, &request, &resolv)).await?;
        if !sandbox.host_network {
            let added = self.network.add(attachment).await;
            added.context(|| format!("failed to setup network for sandbox {:?}", &*sandbox.id))?;
        }
        Ok(())
    }

    pub(crate) async fn stop_sandbox(&self, request: &StopPodSandboxRequest) -> Answer<Vec<u8>> {
        match self.sandbox(&request.pod_sandbox_id) {
            Ok(sandbox) => {
                self.network.remove(&sandbox.id).await?;
                self.runtime.stop_sandbox(&sandbox.id).await?;
            }
            Err(refusal) if refusal.is_not_found() => {}
            Err(refusal) => return Err(refusal),
        }
        Ok(Vec::new())
    }

    pub(crate) async fn remove_sandbox(
        &self,
        request: &RemovePodSandboxRequest,
    ) -> Answer<Vec<u8>> {
        match self.sandbox(&request.pod_sandbox_id) {
            Ok(sandbox) => self.take_down(&sandbox).await?,
            Err(refusal) if refusal.is_not_found() => {}
            Err(refusal) => return Err(refusal),
        }
        Ok(Vec::new())
    }

    /// The whole of it. The cgroup of another owner's sandbox is its owner's to remove.
    async fn take_down(&self, sandbox: &SandboxStatus) -> Result<()> {
        self.network.remove(&sandbox.id).await?;
        self.runtime.remove_sandbox(&sandbox.id).await?;
        if sandbox.owner == OWNER {
            self.remove_cgroup(&sandbox.cgroup_parent).await;
        }
        let (state, id) = (self.config.state.clone(), sandbox.id.clone());
        rt::unblock(move || files::forget(&state, &id)).await
    }

    async fn remove_cgroup(&self, cgroup: &str) {
        if let Err(error) = self.runtime.cgroup_remove(cgroup).await {
            log::warn!("CRI: remove cgroup {cgroup}: {error}");
        }
    }

    pub(crate) async fn sandbox_status(
        &self,
        request: &PodSandboxStatusRequest,
    ) -> Answer<PodSandboxStatusResponse> {
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        let info = match request.verbose {
            true => shown::sandbox_info(&sandbox),
            false => Default::default(),
        };
        let status = shown::sandbox(self, &sandbox).await;
        Ok(PodSandboxStatusResponse { status, info, ..PodSandboxStatusResponse::default() })
    }

    pub(crate) fn list_sandboxes(&self, request: &ListPodSandboxRequest) -> ListPodSandboxResponse {
        let filter = &request.filter;
        let mut sandboxes = self.runtime.sandboxes();
        sandboxes.retain(|sandbox| {
            sandbox.id.starts_with(&filter.id)
                && filter.state.as_ref().is_none_or(|it| it.state == shown::sandbox_state(sandbox))
                && shown::selects(&filter.label_selector, &sandbox.labels)
        });
        ListPodSandboxResponse { items: sandboxes.into_iter().map(shown::listed_sandbox).collect() }
    }
}

/// What the runtime is asked for.
fn sandbox_spec(config: &PodSandboxConfig, cgroup_root: &str) -> Answer<SandboxSpec> {
    let context = &config.linux.security_context;
    let options = context.namespace_options.clone().unwrap_or_default();
    make::check_user_namespace(&options)?;
    let profiles: [&Option<SecurityProfile>; 1] = [&context.apparmor];
    profiles.into_iter().try_for_each(make::check_apparmor)?;
    let host_network = options.network == NamespaceMode::NODE;
    Ok(SandboxSpec {
        name: config.metadata.name.clone(),
        namespace: config.metadata.namespace.clone(),
        uid: config.metadata.uid.clone(),
        attempt: config.metadata.attempt,
        owner: OWNER.to_owned(),
        hostname: config.hostname.clone(),
        host_network,
        host_pid: options.pid == NamespaceMode::NODE,
        host_ipc: options.ipc == NamespaceMode::NODE,
        share_processes: options.pid == NamespaceMode::POD,
        netns: None,
        sysctls: config.linux.sysctls.clone(),
        cgroup_parent: cgroup(cgroup_root, &config.linux.cgroup_parent)?,
        shm_size_bytes: 0,
        log_directory: absolute("log directory", &config.log_directory)?,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
    })
}

/// Empty, or an absolute path.
fn absolute(what: &str, path: &str) -> Answer<PathBuf> {
    match path.is_empty() || path.starts_with('/') {
        true => Ok(PathBuf::from(path)),
        false => Err(Refusal::invalid(format!("{what} {path:?} is not an absolute path"))),
    }
}

/// A cgroup of the sandbox's own below the parent that is asked for: the parent may be shared.
fn cgroup(root: &str, parent: &str) -> Answer<String> {
    let parent = if parent.is_empty() { CGROUP_PARENT } else { parent };
    let parts: Vec<&str> = parent.split('/').filter(|part| !part.is_empty()).collect();
    if parent.contains('\0') || parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(Refusal::invalid(format!("cgroup parent {parent:?} is not a path of cgroups")));
    }
    let mut bytes = [0; 8];
    rt::random(&mut bytes);
    let root = root.trim_end_matches('/');
    Ok(format!("{root}/{}/cri-{}", parts.join("/"), wire::hex::encode(&bytes)))
}

/// # Errors
/// If a port mapping makes no sense.
pub(crate) fn attachment(sandbox: &SandboxStatus, ports: &[PortMapping]) -> Result<Attachment> {
    let mut host_ports = Vec::new();
    for port in ports.iter().filter(|port| port.host_port != 0) {
        let number = |number: i32| {
            u16::try_from(number).context(|| format!("port {number} is out of range"))
        };
        host_ports.push(HostPort {
            host_ip: match port.host_ip.as_str() {
                "" => None,
                ip => Some(ip.parse().context(|| format!("parse host IP {ip:?}"))?),
            },
            host_port: number(port.host_port)?,
            container_port: number(port.container_port)?,
            protocol: match port.protocol {
                Protocol::TCP => "TCP",
                Protocol::UDP => "UDP",
                Protocol::SCTP => "SCTP",
                other => return Err(Error::new(format!("unknown protocol {}", other.0))),
            },
        });
    }
    Ok(Attachment {
        id: sandbox.id.to_string(),
        netns: sandbox.network_namespace(),
        name: sandbox.name.clone(),
        namespace: sandbox.namespace.clone(),
        uid: sandbox.uid.clone(),
        host_ports,
    })
}

/// Whether containers can be made in it.
pub(crate) fn check_ready(sandbox: &SandboxStatus) -> Answer<()> {
    match sandbox.state {
        SandboxState::Ready => Ok(()),
        SandboxState::NotReady => {
            let message = format!("sandbox container {:?} is not running", &*sandbox.id);
            Err(Refusal::new(Code::UNKNOWN, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_stay_below_the_root_and_are_the_sandboxes_own() {
        let made = cgroup("/node", "").unwrap();
        assert!(made.starts_with("/node/k8s.io/cri-"), "{made}");
        let made = cgroup("/", "/a//b/").unwrap();
        assert!(made.starts_with("/a/b/cri-"), "{made}");
        assert_ne!(cgroup("/", "x").unwrap(), cgroup("/", "x").unwrap());
        for bad in ["../..", "/a/../../b", "a/./b", "a\0b"] {
            assert!(cgroup("/", bad).is_err(), "{bad:?}");
        }
    }
}
