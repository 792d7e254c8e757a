//! What the worker knows of its pod: what runs, what is under way, what came back.

use std::net::IpAddr;
use std::time::Duration;

use api::{Lens, Value};
use stdx::time::{Mono, Now, Wall};
use stdx::{OrdMap, backoff::Backoff};

use super::crash::CrashBackoff;
use super::history::Record;
use super::probe::{ProbeKind, ProbeOutcome, Prober};
use super::{Container, Pod, time_at};

/// Why something is as it is: upstream's reason word and message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub reason: String,
    pub message: String,
}

impl Told {
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Told {
        let mut message = message.into();
        cut(&mut message);
        Told { reason: reason.into(), message }
    }
}

/// What a status says of one container. More, as an image can make of its command or a registry of its answer, would fill
/// the datastore with words that nobody bounds, and records of the node until they cannot be read again.
pub const MESSAGE_MAX_BYTES: usize = 4096;

/// Cuts a message to what a status may say.
pub fn cut(message: &mut String) {
    message.truncate(message.floor_char_boundary(MESSAGE_MAX_BYTES));
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: i32,
    pub signal: i32,
    pub reason: String,
    pub message: String,
    pub started_at: Option<Wall>,
    pub finished_at: Wall,
    pub container_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenState {
    Created,
    Running { since: Wall },
    Exited(Exit),
}

/// A container of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: String,
    pub attempt: u32,
    pub state: SeenState,
    /// The reference it was made from, as the spec had it.
    pub image: String,
    /// As `imageID` shows it.
    pub image_ref: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    #[default]
    Absent,
    Making,
    Ready {
        id: String,
        ips: Vec<IpAddr>,
    },
    /// It was there and died; its containers are dead too.
    Lost {
        id: String,
    },
    Stopping {
        id: String,
    },
    Stopped {
        id: String,
    },
}

impl Sandbox {
    pub fn id(&self) -> Option<&str> {
        match self {
            Sandbox::Absent | Sandbox::Making => None,
            Sandbox::Ready { id, .. }
            | Sandbox::Lost { id }
            | Sandbox::Stopping { id }
            | Sandbox::Stopped { id } => Some(id),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    #[default]
    Absent,
    Mounting,
    Ready,
    Unmounting,
    /// Unmounted for good.
    Gone,
}

/// One container's past and present.
#[derive(Clone, Debug, Default)]
pub struct ContainerState {
    /// The newest one in the current sandbox.
    pub current: Option<Seen>,
    /// How the one before it ended.
    pub previous: Option<Exit>,
    /// Of the newest one, in whatever sandbox; `None` if there never was one.
    pub attempt: Option<u32>,
    /// Why it does not run.
    pub waiting: Option<Told>,
    pub waiting_since: Mono,
    pub retry_at: Option<Mono>,
    pub pull_failures: u32,
    /// When the kill under way must be over.
    pub killing: Option<Mono>,
    /// It was killed to be started again, whatever its exit code and the restart policy say.
    pub replace: bool,
    pub crash: CrashBackoff,
    pub probers: OrdMap<ProbeKind, Prober>,
    /// From the API's status at start: what probes had found before this process began.
    pub was_ready: bool,
    pub was_started: bool,
    /// The image id of the last one, for statuses after the sandbox is gone.
    pub image_ref: String,
}

impl ContainerState {
    pub fn running(&self) -> bool {
        matches!(&self.current, Some(Seen { state: SeenState::Running { .. }, .. }))
    }

    pub fn exit(&self) -> Option<&Exit> {
        match &self.current {
            Some(Seen { state: SeenState::Exited(exit), .. }) => Some(exit),
            _ => None,
        }
    }

    /// How it ended last, in whatever sandbox; `None` while it exists and has not ended.
    pub(crate) fn last_exit(&self) -> Option<&Exit> {
        match &self.current {
            Some(_) => self.exit(),
            None => self.previous.as_ref(),
        }
    }

    /// Running, and past its startup probe.
    pub fn started(&self) -> bool {
        self.running() && self.probers.get(&ProbeKind::Startup).is_none_or(|prober| prober.verdict)
    }

    pub fn ready(&self) -> bool {
        self.started()
            && self.probers.get(&ProbeKind::Readiness).is_none_or(|prober| prober.verdict)
    }

    /// The probe that condemned it, if one did.
    pub fn condemned(&self) -> Option<ProbeKind> {
        self.probers.iter().find(|(kind, prober)| prober.condemned(**kind)).map(|(kind, _)| *kind)
    }
}

/// What came back from something that was asked for.
#[derive(Clone, Debug)]
pub enum Done {
    VolumesReady,
    VolumesFailed,
    VolumesGone,
    SandboxMade {
        id: String,
        ips: Vec<IpAddr>,
    },
    SandboxFailed,
    SandboxStopped,
    Started {
        container: String,
        seen: Seen,
    },
    StartFailed {
        container: String,
        told: Told,
        seen: Option<Seen>,
    },
    Killed {
        container: String,
    },
    Probed {
        container: String,
        id: String,
        kind: ProbeKind,
        outcome: ProbeOutcome,
    },
    /// Everything of the pod on this node and in the API is gone.
    Finished,
    FinishFailed,
}

/// Retries of sandbox and volumes; and of image pulls.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
const PULL: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
/// Retries of everything else about starting a container, as upstream's sync back-off.
const START_RETRY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default)]
pub struct State {
    pub sandbox: Sandbox,
    /// Sandboxes made so far.
    pub sandbox_attempt: u32,
    pub sandbox_retry_at: Option<Mono>,
    pub sandbox_failures: u32,
    pub volumes: Volumes,
    pub volumes_retry_at: Option<Mono>,
    pub volumes_failures: u32,
    /// Boxed: a map sets room for eleven aside, and most pods have one.
    pub containers: OrdMap<String, Box<ContainerState>>,
    /// The container whose start is under way; they start one after the other.
    pub starting: Option<String>,
    /// Why the pod as a whole failed: deadline, eviction, admission.
    pub failed: Option<Told>,
    /// Grace that replaces the pod's own (eviction).
    pub grace_override_secs: Option<i64>,
    /// The API no longer has it (or its manifest is gone).
    pub gone: bool,
    /// The API had it as Succeeded or Failed when this process first saw it.
    pub settled: bool,
    pub finishing: bool,
    pub finish_retry_at: Option<Mono>,
    pub finished: bool,
    pub start_time: Option<Wall>,
    /// The node has no room for it yet, but will: nothing of it is made until then.
    pub held: bool,
}

impl State {
    /// The state of a pod first seen, with what its status in the API remembers.
    pub fn new(pod: &Pod, tree: &Value, now: Wall) -> State {
        let mut state = State {
            settled: !pod.is_static && matches!(&*pod.phase, "Succeeded" | "Failed"),
            start_time: time_at(tree, "status.startTime"),
            ..State::default()
        };
        for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
            for status in tree.at("status").list(list) {
                state
                    .containers
                    .insert(status.str("name").to_owned(), Box::new(remembered(status, now)));
            }
        }
        state
    }

    /// Takes in what this node wrote down of the pod's containers: it may know of starts and exits
    /// that the API never heard of. To be called before anything is observed.
    pub fn recall(&mut self, records: &[Record], now: Wall) {
        for record in records {
            let known = self.of(&record.name);
            let told = known.previous.as_ref().is_some_and(|exit| exit.reason != UNKNOWN);
            let news = match known.attempt {
                Some(attempt) => attempt < record.attempt || (attempt == record.attempt && !told),
                None => true,
            };
            if news {
                known.attempt = Some(record.attempt);
                let lost = || Exit::unknown(&record.id, record.started_at, now, WAS_RUNNING);
                known.previous = Some(record.exit.clone().unwrap_or_else(lost));
            }
        }
    }

    /// A container is being killed and started again in one go, which is told once it is done, as
    /// upstream's kubelet tells it.
    pub fn replacing(&self) -> bool {
        self.containers.values().any(|known| {
            known.replace
                && (known.killing.is_some() || (known.exit().is_some() && known.waiting.is_none()))
        })
    }

    pub fn of(&mut self, container: &str) -> &mut ContainerState {
        self.containers.entry(container.to_owned()).or_default()
    }

    pub fn get(&self, container: &str) -> Option<&ContainerState> {
        self.containers.get(container).map(|known| &**known)
    }

    /// Takes in what the runtime says about the newest container of a name.
    pub fn observe(&mut self, now: Now, container: &Container, seen: Seen) {
        let name = container.name.clone();
        let known = self.of(&name);
        if known.current.as_ref() == Some(&seen) {
            return;
        }
        let is_new = known.current.as_ref().is_none_or(|old| old.id != seen.id);
        if is_new {
            if let Some(Seen { state: SeenState::Exited(exit), .. }) = known.current.take() {
                known.previous = Some(exit);
            }
            known.replace = false;
            // What was taken for lost is here.
            if known.previous.as_ref().is_some_and(|exit| exit.container_id == seen.id) {
                known.previous = None;
            }
        }
        known.attempt = Some(seen.attempt);
        known.image_ref.clone_from(&seen.image_ref);
        match &seen.state {
            SeenState::Running { since } if is_new || known.probers.is_empty() => {
                let passed = now.age(*since);
                known.begin_probes(container, now.mono - passed, now.mono);
                known.waiting = None;
            }
            SeenState::Running { .. } | SeenState::Created => {}
            SeenState::Exited(_) => {
                known.probers.clear();
                known.killing = None;
                known.was_ready = false;
                known.was_started = false;
            }
        }
        known.current = Some(seen);
    }

    /// The runtime no longer has the container.
    pub fn vanished(&mut self, now: Now, name: &str) {
        let known = self.of(name);
        if let Some(seen) = known.current.take() {
            let started_at = match seen.state {
                SeenState::Running { since } => Some(since),
                _ => None,
            };
            let message = "The container could not be located when the pod was synced";
            known.previous = Some(match seen.state {
                SeenState::Exited(exit) => exit,
                _ => Exit::unknown(&seen.id, started_at, now.wall, message),
            });
            known.probers.clear();
            known.killing = None;
        }
    }

    /// The sandbox died under the pod.
    pub fn sandbox_lost(&mut self) {
        if let Sandbox::Ready { id, .. } = &self.sandbox {
            self.sandbox = Sandbox::Lost { id: id.clone() };
        }
    }

    /// Something that a failed attempt may have waited for has changed: try again now.
    pub fn poke(&mut self, now: Now) {
        if self.volumes_retry_at.is_some() {
            self.volumes_retry_at = Some(now.mono);
        }
        for container in self.containers.values_mut() {
            let config = container.waiting.as_ref().is_some_and(|told| {
                ["CreateContainerConfigError", "ErrImageNeverPull"].contains(&&*told.reason)
            });
            if config && container.retry_at.is_some() {
                container.retry_at = Some(now.mono);
            }
        }
    }

    /// Takes in what came back.
    pub fn done(&mut self, now: Now, pod: &Pod, done: Done) {
        match done {
            Done::VolumesReady => {
                self.volumes = Volumes::Ready;
                self.volumes_failures = 0;
                self.volumes_retry_at = None;
            }
            Done::VolumesFailed => {
                self.volumes = Volumes::Absent;
                self.volumes_failures += 1;
                self.volumes_retry_at = Some(now.mono + RETRY.delay(self.volumes_failures));
            }
            Done::VolumesGone => self.volumes = Volumes::Gone,
            Done::SandboxMade { id, ips } => self.sandbox_made(id, ips),
            Done::SandboxFailed => {
                self.sandbox = Sandbox::Absent;
                self.sandbox_failures += 1;
                self.sandbox_retry_at = Some(now.mono + RETRY.delay(self.sandbox_failures));
            }
            Done::SandboxStopped => {
                self.sandbox = match self.sandbox.id() {
                    Some(id) => Sandbox::Stopped { id: id.to_owned() },
                    None => Sandbox::Absent,
                };
            }
            Done::Started { container, seen } => self.started(now, pod, &container, seen),
            Done::StartFailed { container, told, seen } => {
                self.start_failed(now, pod, &container, told, seen);
            }
            Done::Killed { container } => self.of(&container).killing = None,
            Done::Probed { container, id, kind, outcome } => {
                self.probed(now, pod, &container, &id, kind, &outcome);
            }
            Done::Finished => self.finished = true,
            Done::FinishFailed => {
                self.finishing = false;
                self.finish_retry_at = Some(now.mono + RETRY.delay(3));
            }
        }
    }

    fn sandbox_made(&mut self, id: String, ips: Vec<IpAddr>) {
        self.sandbox = Sandbox::Ready { id, ips };
        self.sandbox_failures = 0;
        self.sandbox_retry_at = None;
        // Whatever ran in an older sandbox is history: init containers run again.
        for container in self.containers.values_mut() {
            if let Some(Seen { state: SeenState::Exited(exit), .. }) = container.current.take() {
                container.previous = Some(exit);
            }
            container.probers.clear();
            container.killing = None;
        }
    }

    fn started(&mut self, now: Now, pod: &Pod, name: &str, seen: Seen) {
        self.starting = None;
        let known = self.of(name);
        known.waiting = None;
        known.retry_at = None;
        known.pull_failures = 0;
        if let Some(container) = pod.container(name) {
            self.observe(now, container, seen);
        }
    }

    fn start_failed(&mut self, now: Now, pod: &Pod, name: &str, told: Told, seen: Option<Seen>) {
        self.starting = None;
        if let (Some(seen), Some(container)) = (seen, pod.container(name)) {
            self.observe(now, container, seen);
        }
        let known = self.of(name);
        let retry = match &*told.reason {
            "ErrImagePull" => {
                known.pull_failures += 1;
                PULL.delay(known.pull_failures)
            }
            // The crash back-off paces those that came to exist.
            _ if known.exit().is_some() => Duration::ZERO,
            _ => START_RETRY,
        };
        known.retry_at = Some(now.mono + retry);
        known.waiting = Some(told);
        known.waiting_since = now.mono;
    }

    fn probed(
        &mut self,
        now: Now,
        pod: &Pod,
        name: &str,
        id: &str,
        kind: ProbeKind,
        outcome: &ProbeOutcome,
    ) {
        let Some(container) = pod.container(name) else { return };
        let known = self.of(name);
        if known.current.as_ref().is_none_or(|seen| seen.id != id) {
            return;
        }
        let probe = container.probe(kind);
        if let (Some(probe), Some(prober)) = (probe, known.probers.get_mut(&kind)) {
            prober.answer(kind, probe, outcome, now.mono);
        }
        // Upstream starts the others at once when the startup probe succeeds.
        if kind == ProbeKind::Startup && known.started() {
            for (kind, prober) in &mut known.probers {
                if *kind != ProbeKind::Startup && !prober.in_flight && prober.next > now.mono {
                    let due = container.probe(*kind).map(|probe| probe.initial_delay);
                    if due.is_some_and(|delay| delay.is_zero()) {
                        prober.next = now.mono;
                    }
                }
            }
        }
    }
}

impl ContainerState {
    fn begin_probes(&mut self, container: &Container, started: Mono, now: Mono) {
        self.probers.clear();
        for kind in ProbeKind::ALL {
            if let Some(probe) = container.probe(kind) {
                let adopted = match kind {
                    ProbeKind::Startup => self.was_started,
                    ProbeKind::Readiness => self.was_ready,
                    ProbeKind::Liveness => false,
                };
                self.probers.insert(kind, Prober::new(kind, probe, started, now, adopted));
            }
        }
        // Good for the container that ran before this process; not for its successors.
        self.was_ready = false;
        self.was_started = false;
    }
}

impl Container {
    pub fn probe(&self, kind: ProbeKind) -> Option<&super::Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
        }
    }
}

/// The reason, as upstream words it, of an end that nobody saw.
pub const UNKNOWN: &str = "ContainerStatusUnknown";
/// Upstream's message about a container that ran when it was last heard of.
const WAS_RUNNING: &str = "The container could not be located when the pod was deleted.  The container used to be Running";

impl Exit {
    /// The end of a container that nobody saw: it was over by `noticed`.
    pub fn unknown(id: &str, started_at: Option<Wall>, noticed: Wall, message: &str) -> Exit {
        Exit {
            code: 137,
            signal: 0,
            reason: UNKNOWN.into(),
            message: message.into(),
            started_at,
            // A machine without a clock of its own wakes up in the past.
            finished_at: started_at.map_or(noticed, |started| started.max(noticed)),
            container_id: id.to_owned(),
        }
    }
}

/// What one entry of the API's container statuses remembers.
fn remembered(status: &Value, now: Wall) -> ContainerState {
    let exit = |path: &str| {
        let tree = status.at(path);
        tree.is_object().then(|| exit_of(tree))
    };
    // A container that is not found in the runtime any more (after a reboot) becomes its own past.
    let mut previous = exit("state.terminated").or_else(|| exit("lastState.terminated"));
    if status.has("state.running") {
        let started_at = time_at(status, "state.running.startedAt");
        let id = bare_id(status.str("containerID"));
        previous = Some(Exit::unknown(id, started_at, now, WAS_RUNNING));
    }
    let restarts = status.int("restartCount").and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let existed = previous.is_some() || !status.str("containerID").is_empty();
    ContainerState {
        previous,
        attempt: existed.then_some(restarts),
        was_ready: status.flag("ready"),
        was_started: status.flag("started"),
        image_ref: status.str("imageID").to_owned(),
        ..ContainerState::default()
    }
}

/// Reads what `status::terminated` wrote.
pub(super) fn exit_of(tree: &Value) -> Exit {
    let number = |path| tree.int(path).and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
    Exit {
        code: number("exitCode"),
        signal: number("signal"),
        reason: tree.str("reason").to_owned(),
        message: tree.str("message").to_owned(),
        started_at: time_at(tree, "startedAt"),
        finished_at: time_at(tree, "finishedAt").unwrap_or_default(),
        container_id: bare_id(tree.str("containerID")).to_owned(),
    }
}

/// The id without its scheme.
fn bare_id(id: &str) -> &str {
    id.split_once("://").map_or(id, |(_, id)| id)
}
