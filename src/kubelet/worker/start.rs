//! Starting one container: image, configuration, create, start, postStart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::pod::fields::FieldContext;
use api::pod::references::{self, Place};
use api::{Lens, Value, kinds};
use runtime::{ContainerState, Mount, MountSource, Propagation};
use stdx::{Context, Error, OrdSet, Sensitive};

use super::Worker;
use super::journal::{Gate, Journal};
use super::observe::{said_of_program, seen};
use crate::ask::{self, Target};
use crate::figures::Operation;
use crate::images::Wanted;
use crate::make::container::{self, Prepared, bind, volume_mount};
use crate::make::security::{self, ImageUser};
use crate::make::{Sources, dns, env};
use crate::shared::{Shared, Slot, Snapshot};
use crate::{sharing, volumes};
use podplan::{Container, Done, Handler, Pod, Record, Role, Told, counts};

/// How long the end of a container that could not be started is waited for.
const END_AFTER_START_MAX: Duration = Duration::from_secs(2);

impl Worker {
    pub(super) fn start(&mut self, name: &str, attempt: u32) {
        let failed = Done::StartFailed {
            container: name.to_owned(),
            told: Told::new("RunContainerError", "the start panicked"),
            seen: None,
        };
        let Some(container) = self.container(name) else {
            self.slot.post(|inbox| inbox.done.push(failed));
            return;
        };
        self.publish();
        let start = Start {
            shared: Arc::clone(&self.shared),
            slot: Arc::clone(&self.slot),
            pod: Arc::clone(&self.pod),
            container,
            attempt,
            journal: Arc::clone(&self.journal),
            gate: self.gate.clone(),
        };
        let task = self.launched("start", failed, start.run());
        self.start_task = Some(task);
    }
}

/// How long a start waits for the first list of services.
const SERVICES_MAX: Duration = Duration::from_secs(10);

struct Start {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    pod: Arc<Pod>,
    container: Container,
    attempt: u32,
    journal: Arc<rt::lock::Mutex<Journal>>,
    gate: Gate,
}

impl Start {
    async fn run(self) -> Done {
        let name = self.container.name.clone();
        let mut id = None;
        match self.start(&mut id).await {
            Ok(()) => {}
            Err(told) => {
                // A container that was made shows its exit beside the reason.
                let status = id.as_deref().and_then(|id| self.shared.runtime.container(id));
                let seen = match status {
                    Some(status) if matches!(status.state, ContainerState::Exited(_)) => {
                        Some(seen(&status).await)
                    }
                    _ => None,
                };
                return Done::StartFailed { container: name, told, seen };
            }
        }
        match id.as_deref().and_then(|id| self.shared.runtime.container(id)) {
            Some(status) => Done::Started { container: name, seen: seen(&status).await },
            None => Done::StartFailed {
                container: name,
                told: Told::new("RunContainerError", "the container vanished as it started"),
                seen: None,
            },
        }
    }

    async fn start(&self, id: &mut Option<String>) -> Result<(), Told> {
        let tree = self.pod.object.tree();
        let spec = tree.at(&self.container.tree_path());
        let snapshot = self.slot.snapshot();
        let field = self.container.field_path();
        let tell = |warning, reason, message: String| {
            self.shared.recorder.tell(&self.pod.object, &field, warning, reason, message);
        };
        let fail = |reason: &str, message: String| {
            tell(true, "Failed", format!("Error: {message}"));
            Told::new(reason, message)
        };

        let image = self.image(&tree, spec, &field).await?;
        let image_user = ImageUser { user: image.config.user.clone() };
        let prepared = self.prepare(&tree, spec, &snapshot, image.id.clone(), image_user).await;
        let prepared = prepared.map_err(|message| fail("CreateContainerConfigError", message))?;
        let sandbox = snapshot
            .sandbox
            .clone()
            .ok_or_else(|| fail("CreateContainerError", "the pod has no sandbox".into()))?;
        self.clean_up(&snapshot).await;

        let wanted = container::container_spec(&tree, spec, self.container.role, prepared);
        let mut wanted = wanted;
        wanted.labels.insert(container::LABEL_POD_UID.to_owned(), self.slot.uid.clone());
        let runtime = &self.shared.runtime;
        let figures = &self.shared.figures;
        let made = runtime.create_container(&sandbox, wanted);
        let made = figures.timed(Operation::CreateContainer, made).await;
        let made = made.map_err(|error| fail("CreateContainerError", error.to_string()))?;
        // The image's files had their say in who this is.
        if security::demands_non_root(&tree, spec)
            && runtime.container(&made).is_none_or(|status| status.uid == 0)
        {
            let _ = runtime.remove_container(&made).await;
            let message = security::is_root(spec, &self.pod.long_name());
            return Err(fail("CreateContainerConfigError", message));
        }
        *id = Some(made.to_string());
        let name = &self.container.name;
        tell(false, "Created", format!("Created container: {name}"));
        if let Err(error) = self.write_down(&made).await {
            // What is not written down does not run: nobody would know after a power cut.
            let _ = runtime.remove_container(&made).await;
            return Err(fail("RunContainerError", error.to_string()));
        }
        let started = runtime.start_container(&made);
        if let Err(error) = figures.timed(Operation::StartContainer, started).await {
            // The container knows the cause without our words around it, and without its id, so that
            // repeats fold into one event. Its end comes beside the answer: one that has ended is not made again as one that
            // never was.
            let _ = rt::timeout(END_AFTER_START_MAX, runtime.wait_container(&made)).await;
            let status = runtime.container(&made);
            let said = |message: &str| match &status {
                Some(status) => said_of_program(status, message),
                None => "the container vanished as it started".to_owned(),
            };
            let exit = status.as_ref().and_then(|status| status.exit());
            let cause = exit.map(|exit| said(&exit.message)).filter(|message| !message.is_empty());
            let message = cause.unwrap_or_else(|| said(&error.to_string()));
            return Err(fail("RunContainerError", message));
        }
        tell(false, "Started", format!("Started container {name}"));

        if let Some(handler) = Handler::read(spec.at("lifecycle.postStart")) {
            let target = Target {
                container_id: made.to_string(),
                container: spec.clone(),
                pod_ip: snapshot.pod_ips.first().map(ToString::to_string).unwrap_or_default(),
            };
            if let Err(error) = ask::hook(runtime, &target, &handler).await {
                log::info!("pod {}/{}: postStart: {error}", self.pod.namespace, self.pod.name);
                tell(true, "FailedPostStartHook", "PostStartHook failed".into());
                tell(false, "Killing", "FailedPostStartHook".into());
                let grace = u64::try_from(self.pod.grace_secs).unwrap_or(0);
                let _ = runtime.stop_container(&made, Duration::from_secs(grace)).await;
                return Err(Told::new("PostStartHookError", error));
            }
        }
        Ok(())
    }

    async fn write_down(&self, id: &str) -> stdx::Result<()> {
        if !counts(self.pod.restart_policy, self.container.role) {
            return Ok(());
        }
        let record = Record {
            name: self.container.name.clone(),
            attempt: self.attempt,
            id: id.to_owned(),
            started_at: Some(rt::now().wall),
            exit: None,
        };
        self.journal.lock().await.began(record).await.context(|| "write down the start")
    }

    async fn image(
        &self,
        tree: &Value,
        spec: &Value,
        field: &str,
    ) -> Result<runtime::images::Image, Told> {
        let mut secrets = Vec::new();
        for reference in tree.list("spec.imagePullSecrets") {
            let key =
                (&kinds::SECRET, self.pod.namespace.clone(), reference.str("name").to_owned());
            match self.shared.refs.get(&key).await {
                Ok(Some(secret)) => secrets.push(secret.tree()),
                Ok(None) => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        key.2
                    );
                    let recorder = &self.shared.recorder;
                    recorder.warning(&self.pod.object, "FailedToRetrieveImagePullSecret", message);
                }
                Err(status) => log::warn!("secret {}/{}: {status}", key.1, key.2),
            }
        }
        let wanted = Wanted {
            image: &self.container.image,
            policy: spec.str("imagePullPolicy"),
            secrets: &secrets,
            about: &self.pod.object,
            field,
        };
        self.shared.puller.ensure(&wanted).await
    }

    /// Everything that can be wrong with the configuration.
    async fn prepare(
        &self,
        tree: &Value,
        spec: &Value,
        snapshot: &Snapshot,
        image_id: String,
        image_user: ImageUser,
    ) -> Result<Prepared, String> {
        security::verify_non_root(tree, spec, &image_user, &self.pod.long_name())?;
        let pid_target = match spec.str("targetContainerName") {
            name if self.container.role != Role::Ephemeral || name.is_empty() => None,
            name => {
                let target = snapshot.containers.get(name).and_then(|ids| ids.current.clone());
                Some(target.ok_or_else(|| format!("unable to find target container {name}"))?)
            }
        };
        let confinement = security::confinement(tree, spec, self.shared.config.seccomp_default)?;
        let profiles = self.shared.config.agent_directory.join("kubelet/seccomp");
        let seccomp = confinement.seccomp.clone().into_seccomp(|name| {
            if name.split('/').any(|part| part == "..") {
                return Err(format!("seccomp profile {name:?} leads out of its directory"));
            }
            rt::fs::read_small_text(profiles.join(name))
                .map_err(|error| format!("failed to load seccomp profile: {error}"))
        })?;
        let sources = sources(&self.shared, tree).await?;
        let facts = self.shared.node();
        let context = FieldContext {
            pod_ips: snapshot.pod_ips.clone(),
            host_ips: self.shared.host_ips(),
            allocatable: facts.tree.at("status.allocatable").clone(),
        };
        let links = tree.at("spec.enableServiceLinks").as_bool() != Some(false);
        // A pod that was taken over can get here before anybody asked for services.
        let services: &[_] = &[&kinds::SERVICE];
        if rt::timeout(SERVICES_MAX, self.shared.informers.synced(services)).await.is_err() {
            return Err(
                "services have not yet been read at least once, cannot construct envvars".into()
            );
        }
        let services: Vec<Value> = self.services();
        let services = env::service_variables(&services, &self.pod.namespace, links);
        let added = self.shared.devices.start(&self.slot.uid, &self.container.name).await?;
        // The container's own words go over those of its devices.
        let of_devices = added.environment.into_iter().map(|(name, it)| (name, it.into()));
        let own = env::environment(tree, spec, &sources, &services, &context)?;
        let environment: Vec<(String, Sensitive)> = of_devices.chain(own).collect();
        let mut devices = added.devices;
        devices.extend(volumes::block_devices(
            spec,
            snapshot.mounted.as_deref(),
            &self.container.name,
        )?);
        let directory = self.shared.config.pod_directory(&self.slot.uid);
        let message_file = directory
            .join("containers")
            .join(&self.container.name)
            .join(format!("{:08x}", rt::random_u64() >> 32));
        let mut mounts = self
            .mounts(tree, spec, snapshot, &environment, confinement.privileged, &message_file)
            .await?;
        mounts.extend(
            added.mounts.iter().map(|(from, to, read_only)| bind(from.as_ref(), to, *read_only)),
        );
        Ok(Prepared {
            devices,
            annotations: added.annotations,
            attempt: self.attempt,
            image_id,
            image_user,
            environment,
            mounts,
            exit_directory: counts(self.pod.restart_policy, self.container.role)
                .then_some(directory),
            pid_target,
            seccomp,
            confinement,
            message_file,
            log_limits: Some(runtime::LogLimits {
                file_max_bytes: self.shared.config.container_log_max_bytes,
                files_max: u32::try_from(self.shared.config.container_log_files_max)
                    .unwrap_or(u32::MAX),
            }),
            memory_capacity: facts.memory_capacity,
            cpus: self
                .shared
                .cpus
                .as_ref()
                .map_or_else(String::new, |cpus| cpus.of(&self.slot.uid, &self.container.name)),
        })
    }

    /// The services whose variables the container may get.
    fn services(&self) -> Vec<Value> {
        use api::controller::Cache;
        let cache = &self.shared.informers;
        let mut list = cache.list(&kinds::SERVICE, Some(&self.pod.namespace));
        if self.pod.namespace != "default" {
            list.extend(cache.get(&kinds::SERVICE, "default", "kubernetes"));
        }
        list.iter().map(api::Object::tree).collect()
    }

    async fn mounts(
        &self,
        tree: &Value,
        spec: &Value,
        snapshot: &Snapshot,
        environment: &[(String, Sensitive)],
        privileged: bool,
        message_file: &std::path::Path,
    ) -> Result<Vec<Mount>, String> {
        let directory = self.shared.config.pod_directory(&self.slot.uid);
        let mut mounts = Vec::new();
        for (idx, entry) in spec.list("volumeMounts").iter().enumerate() {
            let name = entry.str("name");
            let mounted = snapshot.mounted.as_ref().and_then(|mounted| mounted.get(name));
            let Some(mounted) = mounted.filter(|mounted| !mounted.block).cloned() else {
                return Err(format!(
                    "cannot find volume \"{name}\" to mount into container \"{}\"",
                    self.container.name
                ));
            };
            let sub_path = match entry.str("subPathExpr") {
                "" => entry.str("subPath").to_owned(),
                expression => {
                    let lookup = |key: &str| {
                        environment
                            .iter()
                            .find(|(known, _)| known == key)
                            .map(|(_, v)| v.reveal().clone())
                    };
                    let expanded = env::expand(expression, lookup).reveal().clone();
                    if expanded.contains("$(") {
                        return Err(format!("missing value for {expression:?}"));
                    }
                    expanded
                }
            };
            let source = if sub_path.is_empty() {
                mounted.path.clone()
            } else {
                let (directory, mounted) = (directory.clone(), mounted.clone());
                let (volume, container) = (name.to_owned(), self.container.name.clone());
                let gate = self.gate.clone();
                rt::unblock(move || {
                    let bind = || {
                        volumes::bind_sub_path(
                            &directory, &mounted, &volume, &container, idx, &sub_path,
                        )
                    };
                    gate.enter(bind).unwrap_or_else(|| Err(Error::new("the pod is ending")))
                })
                .await
                .map_err(|error| {
                    let what = format!(
                        "failed to prepare subPath for volumeMount \"{name}\" of container \"{}\"",
                        self.container.name
                    );
                    // The error names the path, in which an expression may have put a secret.
                    match entry.str("subPathExpr") {
                        "" => format!("{what}: {error}"),
                        expression => format!("{what} (subPathExpr {expression:?})"),
                    }
                })?
            };
            mounts.push(volume_mount(entry, source, mounted.read_only, privileged)?);
        }
        self.share(&mounts).await?;
        let taken: Vec<String> = mounts.iter().map(|mount| mount.target.clone()).collect();
        let files = self.etc_files(tree, snapshot);
        let (message_file, etc) = (message_file.to_owned(), directory.join("etc"));
        let gate = self.gate.clone();
        let made = rt::unblock(move || {
            gate.enter(|| write_files(&etc, &files, &message_file, &taken))
                .unwrap_or_else(|| Err(Error::new("the pod is ending")))
        })
        .await;
        mounts.extend(made.map_err(|error| error.to_string())?);
        Ok(mounts)
    }

    /// What a driver mounts for the node has to get there.
    async fn share(&self, mounts: &[Mount]) -> Result<(), String> {
        let root = self.shared.config.root_directory.clone();
        let mut both =
            mounts.iter().filter(|mount| mount.propagation == Propagation::Bidirectional);
        let is_ours = |mount: &Mount| match &mount.source {
            MountSource::Bind(source) => source.starts_with(&root),
            _ => false,
        };
        match both.any(is_ours) {
            true => rt::unblock(move || sharing::share(&root)).await,
            false => Ok(()),
        }
        .map_err(|error| error.to_string())
    }

    /// Name and content of the files in `/etc` that pods get.
    fn etc_files(&self, tree: &Value, snapshot: &Snapshot) -> Vec<(&'static str, String)> {
        let config = &self.shared.config;
        let host_file = || rt::fs::read_small_text("/etc/hosts").unwrap_or_default();
        let hosts = match self.pod.host_network {
            true => dns::host_network_hosts(tree, &host_file()),
            false => dns::hosts(tree, &snapshot.pod_ips, &config.cluster_domain),
        };
        let hostname = match self.pod.host_network {
            true => config.hostname.clone(),
            false => dns::hostname(tree, &config.cluster_domain).0,
        };
        let host = rt::fs::read_small_text(&config.resolv_conf).unwrap_or_default();
        let host = dns::Resolver::parse(&host);
        let resolver = dns::resolver(tree, &host, &config.cluster_dns, &config.cluster_domain);
        vec![
            ("hosts", hosts),
            ("hostname", format!("{hostname}\n")),
            ("resolv.conf", resolver.text()),
        ]
    }

    /// Keeps one dead container of this name; removes what was made and never started.
    async fn clean_up(&self, snapshot: &Snapshot) {
        let Some(sandbox) = &snapshot.sandbox else { return };
        let current = snapshot.containers.get(&self.container.name).and_then(|c| c.current.clone());
        let old: Vec<String> = self
            .shared
            .runtime
            .containers()
            .into_iter()
            .filter(|c| c.sandbox == *sandbox && c.name == self.container.name)
            .filter(|c| match c.state {
                ContainerState::Created => true,
                ContainerState::Exited(_) => current.as_deref() != Some(&*c.id),
                ContainerState::Running => false,
            })
            .map(|c| c.id.to_string())
            .collect();
        for id in old {
            let removed = self.shared.runtime.remove_container(&id);
            let removed = self.shared.figures.timed(Operation::RemoveContainer, removed);
            if let Err(error) = removed.await {
                log::warn!("pod {}/{}: {error}", self.pod.namespace, self.pod.name);
            }
        }
    }
}

/// Writes the pod's `/etc` files and the empty termination message file; answers the mounts of the former.
fn write_files(
    etc: &std::path::Path,
    files: &[(&'static str, String)],
    message_file: &std::path::Path,
    taken: &[String],
) -> stdx::Result<Vec<Mount>> {
    rt::fs::create_dir_all(etc, 0o755)?;
    if let Some(parent) = message_file.parent() {
        // Messages of containers before the last one have been read long ago.
        rt::fs::remove_dir_all(parent)?;
        rt::fs::create_dir_all(parent, 0o755)?;
    }
    rt::fs::write(message_file, b"", 0o666)?;
    let mut mounts = Vec::new();
    for (name, text) in files {
        let path: PathBuf = etc.join(name);
        // A pod can write these files: what is there now is only compared, and not beyond what it should be.
        let limit = u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_add(1);
        if rt::fs::read_beginning(&path, limit).ok().as_deref() != Some(text.as_bytes()) {
            rt::fs::write(&path, text.as_bytes(), 0o644)?;
        }
        let target = format!("/etc/{name}");
        if !taken.contains(&target) {
            mounts.push(bind(&path, &target, false));
        }
    }
    Ok(mounts)
}

/// The ConfigMaps and Secrets that the pod's spec names, as they are now.
pub(super) async fn sources(shared: &Shared, tree: &Value) -> Result<Sources, String> {
    let namespace = tree.str("metadata.namespace");
    let mut wanted = OrdSet::new();
    references::visit(tree, &mut |reference| {
        // Secrets for pulls are looked up at each pull, and may be missing.
        if reference.place != Place::Pull {
            wanted.insert((reference.target, reference.name));
        }
    });
    let mut sources = Sources::default();
    for (target, name) in wanted {
        let (kind, place) = match target {
            references::Target::ConfigMap => (&kinds::CONFIG_MAP, &mut sources.config_maps),
            references::Target::Secret => (&kinds::SECRET, &mut sources.secrets),
            _ => continue,
        };
        let key = (kind, namespace.to_owned(), name.clone().into_owned());
        let found = shared.refs.get(&key).await.map_err(|status| status.to_string())?;
        place.insert(name.into_owned(), found.map(|object| object.tree()));
    }
    Ok(sources)
}
