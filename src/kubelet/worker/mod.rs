//! The task of one pod: takes in what happened, steps, and has the requests carried out.

mod admit;
mod finish;
mod journal;
mod kill;
mod observe;
mod report;
mod sandbox;
mod start;
mod tokens;
mod volume;

pub(crate) use sandbox::network_of;
pub(crate) use volume::remembered;

use std::sync::Arc;
use std::time::Duration;

use api::pod::references::{self, Target};
use api::{Lens, Object, Value, kinds};
use stdx::Arrange;
use stdx::{OrdMap, time::Now};

use crate::make;
use crate::refs::RefKey;
use crate::shared::{ContainerIds, OWNER, Shared, Slot, Snapshot};
use crate::volumes::Mounted;
use podplan::{Container, Done, Pod, Request, State, Told, step};

/// Steps in a row without waiting; a pod that asks for more is broken, and waits a second.
const STEPS_MAX: usize = 64;

/// What a restarted worker, or a restarted kubelet, begins with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adopted {
    /// A live sandbox with its addresses.
    pub sandbox: Option<(String, Vec<std::net::IpAddr>)>,
    /// Else the newest dead one that the runtime still knows, with how its containers ended.
    pub lost: Option<String>,
    pub sandbox_attempt: u32,
    pub mounted: Option<OrdMap<String, Mounted>>,
}

/// Runs the pod's worker until nothing of the pod is left, restarting it if it panics.
pub(crate) fn spawn(shared: &Arc<Shared>, slot: &Arc<Slot>, object: Object, adopted: Adopted) {
    const RESTART_AFTER: Duration = Duration::from_secs(1);
    {
        let snapshot = &mut slot.lock().snapshot;
        snapshot.pod = Some(Arc::new(Pod::read(&object)));
        snapshot.mounted = adopted.mounted.clone().map(Arc::new);
    }
    let (worker_shared, worker_slot) = (Arc::clone(shared), Arc::clone(slot));
    let task = rt::spawn(async move {
        let (shared, slot) = (worker_shared, worker_slot);
        let mut adopted = adopted;
        loop {
            let name = format!("worker of pod {}/{}", slot.namespace, slot.name);
            let run = run(Arc::clone(&shared), Arc::clone(&slot), object.clone(), adopted.clone());
            if rt::spawn_named(name, run).await.is_some() {
                break;
            }
            // Begin anew from what there is.
            rt::sleep(RESTART_AFTER).await;
            adopted = readopt(&shared, &slot);
        }
        shared.slots.remove(&slot.uid);
    });
    let old = slot.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).replace(task);
    drop(old);
}

fn readopt(shared: &Shared, slot: &Slot) -> Adopted {
    let snapshot = slot.snapshot();
    let live = snapshot.sandbox.as_deref().and_then(|id| shared.runtime.sandbox(id));
    let live = live.filter(|sandbox| sandbox.state == runtime::SandboxState::Ready);
    let mounted = snapshot.mounted.map(|mounted| (*mounted).clone());
    match live {
        Some(sandbox) => Adopted {
            sandbox_attempt: sandbox.attempt + 1,
            sandbox: Some((sandbox.id.to_string(), snapshot.pod_ips)),
            mounted,
            ..Adopted::default()
        },
        None => Adopted { mounted, ..leftover(shared, &slot.uid) },
    }
}

/// What the runtime knows of a pod whose sandbox is dead.
pub(crate) fn leftover(shared: &Shared, uid: &str) -> Adopted {
    let ours = shared.runtime.sandboxes_of(OWNER).into_iter().filter(|sandbox| sandbox.uid == uid);
    match ours.max_by_key(|sandbox| sandbox.attempt) {
        Some(sandbox) => Adopted {
            sandbox_attempt: sandbox.attempt + 1,
            lost: Some(sandbox.id.to_string()),
            ..Adopted::default()
        },
        None => Adopted::default(),
    }
}

/// The worker's own: everything but what others may see, which is in the slot.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    pod: Arc<Pod>,
    state: State,
    /// Requests under way, so that they end with the worker.
    tasks: Vec<rt::Task<()>>,
    start_task: Option<rt::Task<()>>,
    mounted: Option<Arc<OrdMap<String, Mounted>>>,
    tokens: Arc<rt::lock::Mutex<tokens::Tokens>>,
    journal: Arc<rt::lock::Mutex<journal::Journal>>,
    gate: journal::Gate,
    report: report::Report,
    admitted: bool,
    refreshing: bool,
    refresh_again: bool,
    refresh_at: Option<stdx::time::Mono>,
    /// Digest of the object as it was last written to disk.
    checkpointed: u64,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Worker({}/{})", self.pod.namespace, self.pod.name)
    }
}

async fn run(shared: Arc<Shared>, slot: Arc<Slot>, object: Object, adopted: Adopted) {
    let object = slot.snapshot().pod.map_or(object, |pod| pod.object.clone());
    let mut worker = Worker::new(shared, slot, &object, adopted).await;
    worker.rescan().await;
    while !worker.state.finished {
        let listener = worker.slot.wake.listen();
        let begun = rt::now().mono;
        worker.take_inbox().await;
        let wake = worker.step().await;
        worker.shared.figures.worker.observe(rt::now().mono.since(begun));
        worker.publish();
        worker.report();
        worker.tasks.retain(|task| !task.is_finished());
        if worker.state.finished {
            break;
        }
        let wake = [wake, worker.report.due(rt::now().mono), worker.refresh_due()];
        match wake.into_iter().flatten().min() {
            Some(wait) => rt::future::or(listener, rt::sleep(wait)).await,
            None => listener.await,
        }
    }
}

impl Worker {
    async fn new(
        shared: Arc<Shared>,
        slot: Arc<Slot>,
        object: &Object,
        adopted: Adopted,
    ) -> Worker {
        let pod = Arc::new(Pod::read(object));
        let now = rt::now().wall;
        let mut state = State::new(&pod, &object.tree(), now);
        let journal = journal::Journal::open(&shared.config.pod_directory(&slot.uid)).await;
        state.recall(journal.records(), now);
        let was_admitted = adopted.sandbox.is_some();
        slot.lock().admitted |= was_admitted;
        state.sandbox_attempt = adopted.sandbox_attempt;
        if let Some(id) = adopted.lost {
            state.sandbox = podplan::Sandbox::Lost { id };
        }
        if let Some((id, ips)) = adopted.sandbox {
            state.sandbox = podplan::Sandbox::Ready { id, ips };
            if adopted.mounted.is_some() {
                state.volumes = podplan::Volumes::Ready;
            }
        }
        Worker {
            mounted: adopted.mounted.map(Arc::new),
            shared,
            slot,
            pod,
            state,
            tasks: Vec::new(),
            start_task: None,
            tokens: Arc::default(),
            journal: Arc::new(rt::lock::Mutex::new(journal)),
            gate: journal::Gate::default(),
            report: report::Report::default(),
            admitted: was_admitted,
            refreshing: false,
            refresh_again: was_admitted,
            refresh_at: None,
            checkpointed: 0,
        }
    }

    /// Takes in everything that happened since the last look.
    async fn take_inbox(&mut self) {
        let (object, done, runtime_changed, sources_changed, poke, lost, evict, ended, gone) = {
            let mut inbox = self.slot.lock();
            if std::mem::take(&mut inbox.driver_came) {
                // It may want to hear of its volumes, or can do what they wait for.
                self.refresh_at.get_or_insert(rt::now().mono);
            }
            (
                inbox.object.take(),
                std::mem::take(&mut inbox.done),
                std::mem::take(&mut inbox.runtime_changed),
                std::mem::take(&mut inbox.sources_changed),
                std::mem::take(&mut inbox.poke),
                std::mem::take(&mut inbox.status_lost),
                inbox.evict.take(),
                (inbox.refreshed.take(), inbox.reported.take()),
                inbox.gone,
            )
        };
        let now = rt::now();
        if let Some(object) = object {
            self.pod = Arc::new(Pod::read(&object));
            self.refresh_again = true;
        }
        self.state.gone |= gone;
        if let (Some(next), _) = ended {
            self.refreshing = false;
            self.refresh_at = next.map(|wait| now.mono + wait);
        }
        if let (_, Some(reported)) = ended {
            self.report.take(reported, now.mono);
        }
        if lost {
            self.report.forget();
        }
        if runtime_changed {
            self.observe(now).await;
        }
        for done in done {
            self.take_done(now, done).await;
        }
        if sources_changed || poke {
            self.state.poke(now);
            self.refresh_again |= sources_changed;
        }
        if let Some((told, grace)) = evict
            && self.state.failed.is_none()
        {
            self.state.grace_override_secs = grace;
            self.state.failed = Some(told);
        }
        if !self.admitted {
            self.admit().await;
        }
        self.checkpoint().await;
        self.refresh();
    }

    async fn take_done(&mut self, now: Now, done: Done) {
        if let Done::Started { container, seen }
        | Done::StartFailed { container, seen: Some(seen), .. } = &done
        {
            self.write_down(container, seen).await;
        }
        match &done {
            Done::Started { .. } | Done::StartFailed { .. } => self.start_task = None,
            // What the kill left behind is seen before it is called done.
            Done::Killed { .. } => self.observe(now).await,
            Done::VolumesReady => self.mounted = self.slot.snapshot().mounted,
            _ => {}
        }
        let started = matches!(&done, Done::Started { .. });
        let pod = Arc::clone(&self.pod);
        self.state.done(now, &pod, done);
        if started {
            // It may have exited before it was known: that event passed by unnoticed.
            self.observe(now).await;
        }
    }

    /// Steps until there is nothing more to ask for; answers when to look again.
    async fn step(&mut self) -> Option<Duration> {
        for _ in 0..STEPS_MAX {
            let now = rt::now();
            let next = step(now, &self.pod, &self.state);
            if next.requests.is_empty() {
                return next.wake;
            }
            for request in next.requests {
                let second = matches!(&request, Request::Kill { container, .. }
                    if self.state.get(container).is_some_and(|known| known.killing.is_some()));
                self.state.began(now, &request);
                self.carry_out(request, second).await;
            }
        }
        log::error!("pod {}/{}: asks for more and more", self.pod.namespace, self.pod.name);
        Some(Duration::from_secs(1))
    }

    /// Starts a request. `second`: a kill that overtakes one under way.
    async fn carry_out(&mut self, request: Request, second: bool) {
        log::debug!("pod {}/{}: {request:?}", self.pod.namespace, self.pod.name);
        match request {
            Request::MountVolumes => self.mount_volumes(),
            Request::UnmountVolumes => self.unmount_volumes(),
            Request::MakeSandbox { attempt, lost } => self.make_sandbox(attempt, lost),
            Request::StopSandbox { id } => self.stop_sandbox(id),
            Request::Start { container, attempt } => self.start(&container, attempt),
            Request::CancelStart => {
                if let Some(task) = self.start_task.take() {
                    task.cancel().await;
                }
                self.rescan().await;
            }
            Request::Kill { container, grace, why, after, .. } => {
                self.kill(&container, grace, &why, &after, second);
            }
            Request::Probe { container, kind } => self.probe(&container, kind),
            Request::Wait { container, told } => self.tell_waiting(&container, &told),
            Request::Fail(told) => {
                if told.reason == "DeadlineExceeded" {
                    self.shared.recorder.normal(&self.pod.object, "DeadlineExceeded", told.message);
                }
            }
            Request::Finish => self.finish(),
        }
    }

    fn tell_waiting(&self, name: &str, told: &Told) {
        let Some(container) = self.pod.container(name) else { return };
        let recorder = &self.shared.recorder;
        let field = container.field_path();
        match &*told.reason {
            "CrashLoopBackOff" => {
                let message = format!(
                    "Back-off restarting failed container {name} in pod {}",
                    self.pod.long_name()
                );
                recorder.tell(&self.pod.object, &field, true, "BackOff", message);
            }
            "ImagePullBackOff" => {
                let message = format!("Back-off pulling image \"{}\"", container.image);
                recorder.tell(&self.pod.object, &field, false, "BackOff", message);
                let message = "Error: ImagePullBackOff".to_owned();
                recorder.tell(&self.pod.object, &field, true, "Failed", message);
            }
            _ => {}
        }
    }

    /// Runs `work` beside the worker; what it answers comes back through the inbox. If it panics,
    /// `otherwise` does.
    fn launch(
        &mut self,
        what: &str,
        otherwise: Done,
        work: impl Future<Output = Done> + Send + 'static,
    ) {
        let task = self.launched(what, otherwise, work);
        self.tasks.push(task);
    }

    fn launched(
        &self,
        what: &str,
        otherwise: Done,
        work: impl Future<Output = Done> + Send + 'static,
    ) -> rt::Task<()> {
        let name = format!("{what} of pod {}/{}", self.pod.namespace, self.pod.name);
        let slot = Arc::clone(&self.slot);
        rt::spawn(async move {
            let done = rt::spawn_named(name, work).await.unwrap_or(otherwise);
            slot.post(|inbox| inbox.done.push(done));
        })
    }

    /// The table's view of the pod.
    fn publish(&mut self) {
        let mut inbox = self.slot.lock();
        let tree_status = std::mem::take(&mut inbox.snapshot.status);
        let containers = self
            .state
            .containers
            .iter()
            .map(|(name, known)| {
                let ids = ContainerIds {
                    current: known.current.as_ref().map(|seen| seen.id.clone()),
                    previous: known.previous.as_ref().map(|exit| exit.container_id.clone()),
                    attempt: known.attempt.unwrap_or(0),
                };
                (name.clone(), ids)
            })
            .collect();
        let leaving = podplan::terminating(&self.pod, &self.state);
        let terminal = leaving && self.state.containers.values().all(|known| !known.running());
        let released = terminal
            && self.state.starting.is_none()
            && matches!(
                self.state.sandbox,
                podplan::Sandbox::Absent | podplan::Sandbox::Stopped { .. }
            );
        let freed = released && !inbox.snapshot.released;
        inbox.snapshot = Snapshot {
            pod: Some(Arc::clone(&self.pod)),
            status: tree_status,
            sandbox: self.state.sandbox.id().map(Into::into),
            pod_ips: self.pod_ips(),
            containers,
            mounted: inbox.snapshot.mounted.take(),
            leaving,
            terminal,
            released,
            cgroup: self.cgroup_path(),
        };
        drop(inbox);
        if freed {
            self.shared.slots.tell_freed();
        }
    }

    fn pod_ips(&self) -> Vec<std::net::IpAddr> {
        match &self.state.sandbox {
            _ if self.pod.host_network => self.shared.host_ips(),
            podplan::Sandbox::Ready { ips, .. } => ips.clone(),
            _ => Vec::new(),
        }
    }

    fn cgroup_path(&self) -> String {
        let qos = podplan::Qos::of(&self.pod.object.tree());
        make::cgroup::pod_path(&self.shared.config.cgroup_root, qos, &self.slot.uid)
    }

    fn container(&self, name: &str) -> Option<Container> {
        self.pod.container(name).cloned()
    }

    /// What the pod's spec refers to by name.
    fn references(&self, tree: &Value) -> Vec<RefKey> {
        let namespace = &self.pod.namespace;
        let mut keys: Vec<RefKey> = Vec::new();
        references::visit(tree, &mut |reference| {
            let kind = match reference.target {
                Target::Secret => &kinds::SECRET,
                Target::ConfigMap => &kinds::CONFIG_MAP,
                // Tokens are asked for, claims are got when their volumes are set up, and the rest
                // is nothing that this node reads.
                _ => return,
            };
            keys.push((kind, namespace.clone(), reference.name.into_owned()));
        });
        keys.arrange();
        keys.dedup();
        keys
    }

    /// Writes the pod to disk if it is new or changed, so that it can be managed without the API.
    async fn checkpoint(&mut self) {
        use std::hash::{DefaultHasher, Hash, Hasher};
        // Nor into a directory that is being removed.
        if self.state.settled || self.state.finishing || self.state.finished {
            return;
        }
        let mut tree = self.pod.object.tree();
        let mut hasher = DefaultHasher::new();
        tree.at("spec").to_string().hash(&mut hasher);
        tree.str("metadata.deletionTimestamp").hash(&mut hasher);
        let digest = hasher.finish().max(1);
        if digest == self.checkpointed {
            return;
        }
        let keys = self.references(&tree);
        self.shared.refs.hold(&self.slot.uid, &keys);
        // What the spec says is needed, not who may have managed which field.
        api::LensMut::remove(&mut tree, "metadata.managedFields");
        let path = self.shared.config.pod_directory(&self.slot.uid);
        let written = rt::unblock(move || {
            rt::fs::create_dir_all(&path, 0o750)?;
            replace(&path.join(CHECKPOINT), tree.to_string().as_bytes())
        });
        match written.await {
            Ok(()) => self.checkpointed = digest,
            // The next event of the pod tries again.
            Err(error) => {
                log::warn!("pod {}/{}: checkpoint: {error}", self.pod.namespace, self.pod.name);
            }
        }
    }
}

/// Writes a file whole or not at all as far as this process's end is concerned. It need not survive
/// a power cut: what it describes, a running sandbox, does not either. Blocking.
fn replace(path: &std::path::Path, bytes: &[u8]) -> stdx::Result<()> {
    let temporary = path.with_extension("tmp");
    rt::fs::write(&temporary, bytes, 0o600)?;
    rt::fs::rename(&temporary, path)
}

/// The file in a pod's directory that holds its object.
pub(crate) const CHECKPOINT: &str = "pod.json";
/// And the one that holds where its volumes are.
pub(crate) const MOUNTED: &str = "volumes.json";
