//! Containers: made, started, stopped, removed and told of; processes in them.

use std::time::Duration;

use http::grpc::Code;
use runtime::{ContainerState, ContainerStatus, ExecSpec};
use stdx::{Context, Result};
use wire::cri::{
    AttachRequest, AttachResponse, ContainerStatusRequest, ContainerStatusResponse,
    CreateContainerRequest, CreateContainerResponse, ExecRequest, ExecResponse, ExecSyncRequest,
    ExecSyncResponse, ListContainersRequest, ListContainersResponse, PortForwardRequest,
    PortForwardResponse, RemoveContainerRequest, ReopenContainerLogRequest, StartContainerRequest,
    StopContainerRequest, UpdateContainerResourcesRequest,
};

use crate::refusal::{Answer, Refusal};
use crate::streaming::Wish;
use crate::{Shared, files, lock, make, sandboxes, shown};

/// Of each stream of a command that is waited for; the rest is dropped.
const OUTPUT_MAX_BYTES: usize = 4 << 20;
/// A command, or a stop, without a limit of its own.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Shared {
    /// By its id or the beginning of it.
    pub(crate) fn container(&self, id: &str) -> Answer<ContainerStatus> {
        if let Some(container) = self.runtime.container(id) {
            return Ok(container);
        }
        let not_found = || Refusal::not_found("container", id);
        if id.is_empty() {
            return Err(not_found());
        }
        let all = self.runtime.containers();
        let mut found = all.into_iter().filter(|container| container.id.starts_with(id));
        match (found.next(), found.next()) {
            (Some(container), None) => Ok(container),
            _ => Err(not_found()),
        }
    }

    /// One that runs.
    fn running(&self, id: &str) -> Answer<ContainerStatus> {
        let container = self.container(id)?;
        match container.state {
            ContainerState::Running => Ok(container),
            _ => Err(self.wrong_state(&container)),
        }
    }

    fn wrong_state(&self, container: &ContainerStatus) -> Refusal {
        let state = match container.state {
            ContainerState::Created => "CONTAINER_CREATED",
            ContainerState::Running => "CONTAINER_RUNNING",
            ContainerState::Exited(_) => "CONTAINER_EXITED",
        };
        Refusal::new(Code::UNKNOWN, format!("container is in {state} state"))
    }

    pub(crate) async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Answer<CreateContainerResponse> {
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        sandboxes::check_ready(&sandbox)?;
        let CreateContainerRequest { mut config, mut sandbox_config, .. } = request;
        if config.metadata.name.is_empty() {
            return Err(Refusal::invalid("container config must include metadata"));
        }
        if self.runtime.images().get(&config.image.image).is_none() {
            let message = format!("failed to resolve image {:?}: not found", config.image.image);
            return Err(Refusal::new(Code::NOT_FOUND, message));
        }
        let name = format!("{}_{}_{}", config.metadata.name, sandbox.id, config.metadata.attempt);
        let _reserved = self.reserve("container", name, || {
            let same = |one: &ContainerStatus| {
                one.sandbox == sandbox.id
                    && one.name == config.metadata.name
                    && one.attempt == config.metadata.attempt
            };
            let all = self.runtime.containers().into_iter();
            all.filter(same).map(|container| container.id.to_string()).next()
        })?;
        let (state, own) = (self.config.state.clone(), sandbox.clone());
        let (spec, config) = rt::unblock(move || -> Answer<_> {
            match files::sandbox(&state, &own.id) {
                // What it was made with counts, whatever the client says now.
                Some(kept) => sandbox_config = kept.config,
                None => sandbox_config.log_directory = own.log_directory.display().to_string(),
            }
            Ok((make::container_spec(&mut config, &sandbox_config, &own, &state)?, config))
        })
        .await?;
        let id = self.runtime.create_container(&sandbox.id, spec).await?;
        let (state, made) = (self.config.state.clone(), id.clone());
        rt::unblock(move || {
            rt::fs::create_dir_all(files::directory(&state, &sandbox.id), 0o700)?;
            files::keep_container(&state, &sandbox.id, &made, &config)
        })
        .await?;
        Ok(CreateContainerResponse { container_id: id.to_string() })
    }

    pub(crate) async fn start_container(&self, request: &StartContainerRequest) -> Answer<Vec<u8>> {
        let container = self.container(&request.container_id)?;
        if container.state != ContainerState::Created {
            return Err(self.wrong_state(&container));
        }
        self.runtime.start_container(&container.id).await?;
        Ok(Vec::new())
    }

    /// What does not run is left as it is, and one that is not there is stopped, as containerd has it.
    pub(crate) async fn stop_container(&self, request: &StopContainerRequest) -> Answer<Vec<u8>> {
        match self.container(&request.container_id) {
            Ok(container) if container.state == ContainerState::Running => {
                let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
                self.runtime.stop_container(&container.id, grace.min(FOR_EVER)).await?;
            }
            Ok(_) => {}
            Err(refusal) if refusal.is_not_found() => {}
            Err(refusal) => return Err(refusal),
        }
        Ok(Vec::new())
    }

    pub(crate) async fn remove_container(
        &self,
        request: &RemoveContainerRequest,
    ) -> Answer<Vec<u8>> {
        match self.container(&request.container_id) {
            Ok(container) => {
                self.runtime.remove_container(&container.id).await?;
                lock(&self.sampled).remove(&container.id);
                let path = files::directory(&self.config.state, &container.sandbox);
                rt::unblock(move || rt::fs::remove_file(path.join(&*container.id))).await?;
            }
            Err(refusal) if refusal.is_not_found() => {}
            Err(refusal) => return Err(refusal),
        }
        Ok(Vec::new())
    }

    pub(crate) fn list_containers(
        &self,
        request: &ListContainersRequest,
    ) -> ListContainersResponse {
        let filter = &request.filter;
        let mut containers = self.runtime.containers();
        containers.retain(|one| {
            one.id.starts_with(&filter.id)
                && one.sandbox.starts_with(&filter.pod_sandbox_id)
                && filter.state.as_ref().is_none_or(|it| it.state == shown::container_state(one))
                && shown::selects(&filter.label_selector, &one.labels)
        });
        let containers = containers.into_iter().map(shown::listed_container).collect();
        ListContainersResponse { containers }
    }

    pub(crate) async fn container_status(
        &self,
        request: &ContainerStatusRequest,
    ) -> Answer<ContainerStatusResponse> {
        let container = self.container(&request.container_id)?;
        let status = shown::container(self, &container).await;
        let info = match request.verbose {
            true => shown::container_info(self, &container).await,
            false => Default::default(),
        };
        Ok(ContainerStatusResponse { status, info })
    }

    pub(crate) async fn update_container(
        &self,
        request: &UpdateContainerResourcesRequest,
    ) -> Answer<Vec<u8>> {
        let container = self.container(&request.container_id)?;
        if container.exit().is_some() {
            return Err(self.wrong_state(&container));
        }
        let asked = request.linux.clone().unwrap_or_default();
        self.runtime.update_container(&container.id, &make::resources(&asked)?).await?;
        let state = self.config.state.clone();
        let kept = rt::unblock(move || -> Result<()> {
            let Some(mut config) = files::container(&state, &container.sandbox, &container.id)
            else {
                return Ok(());
            };
            make::merge_resources(&mut config.linux.resources, asked);
            files::keep_container(&state, &container.sandbox, &container.id, &config)
        });
        kept.await.context(|| "keep the container's new limits")?;
        Ok(Vec::new())
    }

    pub(crate) async fn reopen_log(&self, request: &ReopenContainerLogRequest) -> Answer<Vec<u8>> {
        let container = self.running(&request.container_id)?;
        self.runtime.reopen_log(&container.id).await?;
        Ok(Vec::new())
    }

    pub(crate) async fn exec_sync(&self, request: ExecSyncRequest) -> Answer<ExecSyncResponse> {
        let container = self.running(&request.container_id)?;
        let args = command(request.cmd)?;
        let timeout = match u64::try_from(request.timeout) {
            Ok(0) | Err(_) => FOR_EVER,
            Ok(seconds) => Duration::from_secs(seconds).min(FOR_EVER),
        };
        let spec = ExecSpec { args, ..ExecSpec::default() };
        let done = self.runtime.exec_sync(&container.id, spec, timeout, OUTPUT_MAX_BYTES).await;
        let output = done.context(|| "failed to exec in container")?;
        let Some(exit_code) = output.exit_code else {
            let message = format!(
                "failed to exec in container: timeout {}s exceeded: context deadline exceeded",
                timeout.as_secs()
            );
            return Err(Refusal::new(Code::DEADLINE_EXCEEDED, message));
        };
        Ok(ExecSyncResponse {
            stdout: output.stdout.into(),
            stderr: output.stderr.into(),
            exit_code,
        })
    }

    pub(crate) async fn exec(&self, request: ExecRequest) -> Answer<ExecResponse> {
        let container = self.running(&request.container_id)?;
        check_streams(request.tty, request.stderr, [request.stdin, request.stdout])?;
        let args = command(request.cmd)?;
        let wanted = http::streams::Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        let url = self.promise(Wish::Exec { container: container.id, args, wanted }).await?;
        Ok(ExecResponse { url })
    }

    pub(crate) async fn attach(&self, request: &AttachRequest) -> Answer<AttachResponse> {
        let container = self.running(&request.container_id)?;
        check_streams(request.tty, request.stderr, [request.stdin, request.stdout])?;
        let wanted = http::streams::Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        let url = self.promise(Wish::Attach { container: container.id, wanted }).await?;
        Ok(AttachResponse { url })
    }

    pub(crate) async fn port_forward(
        &self,
        request: &PortForwardRequest,
    ) -> Answer<PortForwardResponse> {
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        sandboxes::check_ready(&sandbox)?;
        let mut ports = Vec::new();
        for port in &request.port.0 {
            let port = u16::try_from(*port).ok().filter(|port| *port != 0);
            ports.push(port.ok_or_else(|| Refusal::invalid("a port is out of range"))?);
        }
        let url = self.promise(Wish::PortForward { sandbox: sandbox.id, ports }).await?;
        Ok(PortForwardResponse { url })
    }
}

fn command(words: Vec<String>) -> Answer<Vec<String>> {
    match words.is_empty() {
        true => Err(Refusal::invalid("no command is given")),
        false => Ok(words),
    }
}

fn check_streams(tty: bool, stderr: bool, others: [bool; 2]) -> Answer<()> {
    if tty && stderr {
        return Err(Refusal::invalid("tty and stderr cannot both be true"));
    }
    match stderr || others.contains(&true) {
        true => Ok(()),
        false => Err(Refusal::invalid("one of stdin, stdout, or stderr must be set")),
    }
}
