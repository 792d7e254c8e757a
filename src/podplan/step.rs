//! The step function: from what is known of a pod to what to do next.

use std::time::Duration;

use stdx::never;
use stdx::time::{Mono, Now};

use super::crash::go_seconds;
use super::probe::ProbeKind;
use super::state::{ContainerState, Exit, Sandbox, State, Told, Volumes};
use super::{Container, Pod, RestartPolicy, Role};

/// One thing to do. The worker tells the state that it began before it carries it out, so that
/// stepping again asks for nothing twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    MountVolumes,
    UnmountVolumes,
    /// `lost` is the sandbox it replaces.
    MakeSandbox {
        attempt: u32,
        lost: Option<String>,
    },
    StopSandbox {
        id: String,
    },
    Start {
        container: String,
        attempt: u32,
    },
    CancelStart,
    Kill {
        container: String,
        grace: Duration,
        why: String,
        /// It is to run again, however it ends.
        restart: bool,
        /// Its stop signal waits for the end of these, as long as the grace lasts.
        after: Vec<String>,
    },
    Probe {
        container: String,
        kind: ProbeKind,
    },
    /// From now on the container waits, for this reason; worth an event.
    Wait {
        container: String,
        told: Told,
    },
    /// The pod as a whole has failed.
    Fail(Told),
    /// Nothing of it runs any more and it is deleted: remove what is left of it.
    Finish,
}

/// What to do now, and when to look again if nothing else happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub requests: Vec<Request>,
    pub wake: Option<Duration>,
}

impl Step {
    fn push(&mut self, request: Request) {
        self.requests.push(request);
    }

    fn wake_in(&mut self, wait: Duration) {
        self.wake = Some(self.wake.map_or(wait, |wake| wake.min(wait)));
    }

    /// True if `at` has come; else asks to be woken then.
    fn due(&mut self, at: Option<Mono>, now: Now) -> bool {
        match at {
            Some(at) if at > now.mono => {
                self.wake_in(at.since(now.mono));
                false
            }
            _ => true,
        }
    }
}

/// Killed containers get at least this long, however small the grace, as upstream gives them.
const GRACE_MIN: Duration = Duration::from_secs(2);
/// How long a failed pull is shown as such before it is shown as backing off.
const PULL_FAILED_SHOWN: Duration = Duration::from_secs(2);

/// Decides. Pure: same arguments, same answer.
pub fn step(now: Now, pod: &Pod, state: &State) -> Step {
    let mut step = Step::default();
    if state.finished {
        return step;
    }
    if let Some(told) = deadline_exceeded(&mut step, now, pod, state) {
        step.push(Request::Fail(told));
        return step;
    }
    if terminating(pod, state) {
        tear_down(&mut step, now, pod, state);
        return step;
    }
    if state.held {
        return step;
    }
    if !set_up(&mut step, now, state) {
        return step;
    }
    // A container that is to be replaced is killed; its exit then leads to its restart.
    for container in &pod.containers {
        condemn(&mut step, pod, container, state);
    }
    start_next(&mut step, now, pod, state);
    for container in &pod.containers {
        probe(&mut step, now, container, state, false);
    }
    step
}

/// True once the pod is on its way out, for whatever reason.
pub fn terminating(pod: &Pod, state: &State) -> bool {
    pod.deleting_grace_secs.is_some()
        || state.gone
        || state.settled
        || state.failed.is_some()
        || outcome(pod, state).is_some()
}

/// `Some(succeeded)` when all its work is done and nothing will be restarted.
pub(crate) fn outcome(pod: &Pod, state: &State) -> Option<bool> {
    if pod.restart_policy == RestartPolicy::Always {
        return None;
    }
    let exit_code = |container: &Container| {
        let known = state.get(&container.name).filter(|known| !known.replace)?;
        known.last_exit().map(|exit| exit.code)
    };
    let failed_init = pod.of_role(Role::Init).any(|c| exit_code(c).is_some_and(|code| code != 0));
    if failed_init && pod.restart_policy == RestartPolicy::Never {
        return Some(false);
    }
    let mut succeeded = true;
    for container in pod.of_role(Role::App) {
        match exit_code(container) {
            Some(0) => {}
            // Nobody knows how it ended, or it will never begin.
            None if abandoned(pod, state) => succeeded = false,
            None => return None,
            Some(_) if pod.restart_policy == RestartPolicy::OnFailure => return None,
            Some(_) => succeeded = false,
        }
    }
    Some(succeeded)
}

/// True for a pod that never restarts and has lost its sandbox after something had begun in it: as
/// upstream, it gets no other sandbox, so nothing of it ever runs again.
pub(crate) fn abandoned(pod: &Pod, state: &State) -> bool {
    pod.restart_policy == RestartPolicy::Never
        && !matches!(state.sandbox, Sandbox::Making | Sandbox::Ready { .. })
        && state.containers.values().any(|known| known.attempt.is_some())
}

fn deadline_exceeded(step: &mut Step, now: Now, pod: &Pod, state: &State) -> Option<Told> {
    let (deadline, start) = (pod.active_deadline?, state.start_time?);
    if state.failed.is_some() || state.settled || outcome(pod, state).is_some() {
        return None;
    }
    let passed = now.age(start);
    if passed < deadline {
        step.wake_in(deadline - passed);
        return None;
    }
    Some(Told::new(
        "DeadlineExceeded",
        "Pod was active on the node longer than the specified deadline",
    ))
}

/// Volumes, then the sandbox; true when both are there.
fn set_up(step: &mut Step, now: Now, state: &State) -> bool {
    match state.volumes {
        Volumes::Ready => {}
        Volumes::Absent => {
            if step.due(state.volumes_retry_at, now) {
                step.push(Request::MountVolumes);
            }
            return false;
        }
        Volumes::Mounting | Volumes::Unmounting | Volumes::Gone => return false,
    }
    match &state.sandbox {
        Sandbox::Ready { .. } => true,
        Sandbox::Absent => {
            if step.due(state.sandbox_retry_at, now) {
                step.push(Request::MakeSandbox { attempt: state.sandbox_attempt, lost: None });
            }
            false
        }
        Sandbox::Lost { id } | Sandbox::Stopped { id } => {
            if state.starting.is_some() {
                step.push(Request::CancelStart);
            }
            if step.due(state.sandbox_retry_at, now) {
                let lost = Some(id.clone());
                step.push(Request::MakeSandbox { attempt: state.sandbox_attempt, lost });
            }
            false
        }
        Sandbox::Making | Sandbox::Stopping { .. } => false,
    }
}

/// Kills a container whose probe says so, or whose image was changed in the spec.
fn condemn(step: &mut Step, pod: &Pod, container: &Container, state: &State) {
    let Some(known) = state.get(&container.name) else { return };
    if !known.running() || known.killing.is_some() {
        return;
    }
    let mut grace_secs = pod.grace_secs;
    let name = &container.name;
    let mut restart = container.role == Role::Sidecar || pod.restart_policy != RestartPolicy::Never;
    let mut why = if let Some(kind) = known.condemned() {
        let own = container.probe(kind).and_then(|probe| probe.grace_secs);
        grace_secs = own.unwrap_or(grace_secs);
        format!("Container {name} failed {} probe", kind.lower())
    } else if container.role != Role::Ephemeral
        && known.current.as_ref().is_some_and(|seen| seen.image != container.image)
    {
        // Whatever the restart policy says: it is another container now.
        restart = true;
        format!("Container {name} definition changed")
    } else {
        return;
    };
    if restart {
        why.push_str(", will be restarted");
    }
    let (container, grace) = (name.clone(), grace(grace_secs));
    step.push(Request::Kill { container, grace, why, restart, after: Vec::new() });
}

/// Starts the next container in order, if one is due and no start is under way.
fn start_next(step: &mut Step, now: Now, pod: &Pod, state: &State) {
    let initialized = pod
        .of_role(Role::App)
        .any(|c| state.get(&c.name).is_some_and(|known| known.current.is_some()));
    let mut starter = Starter { step, now, pod, state, chosen: state.starting.is_some() };
    for container in pod.of_role(Role::Ephemeral) {
        starter.once(container);
    }
    if initialized {
        for container in pod.of_role(Role::Sidecar) {
            starter.consider(container);
        }
    } else {
        for container in pod.init_containers() {
            let known = state.get(&container.name);
            let passed = match container.role {
                Role::Sidecar => known.is_some_and(ContainerState::started),
                _ => known.and_then(ContainerState::exit).is_some_and(|exit| exit.code == 0),
            };
            if !passed {
                starter.consider(container);
                return;
            }
        }
    }
    for container in pod.of_role(Role::App) {
        starter.consider(container);
    }
}

struct Starter<'a> {
    step: &'a mut Step,
    now: Now,
    pod: &'a Pod,
    state: &'a State,
    /// A start is under way or was just chosen.
    chosen: bool,
}

impl Starter<'_> {
    /// An ephemeral container runs once; only a start that failed is tried again.
    fn once(&mut self, container: &Container) {
        let known = self.state.get(&container.name);
        if known.is_none_or(|known| known.current.is_none() && known.attempt.is_none()) {
            self.start(container, known, 0);
        }
    }

    fn consider(&mut self, container: &Container) {
        if self.state.starting.as_deref() == Some(&*container.name) {
            return;
        }
        let Some(known) = self.state.get(&container.name) else {
            return self.start(container, None, 0);
        };
        if known.running() {
            return;
        }
        let next = known.attempt.map_or(0, |attempt| attempt.saturating_add(1));
        let Some(exit) = known.exit() else {
            // What came to its end in an older sandbox stays there. The rest was created but never
            // started (a start that was cut off), or is not there at all.
            let is_over = |exit: &Exit| {
                container.role == Role::App
                    && !known.replace
                    && !restarts(self.pod.restart_policy, container.role, exit.code)
            };
            if known.last_exit().is_none_or(|exit| !is_over(exit)) {
                self.start(container, Some(known), next);
            }
            return;
        };
        if !known.replace && !restarts(self.pod.restart_policy, container.role, exit.code) {
            return;
        }
        if let Some(wait) = known.crash.wait(exit.finished_at, self.now) {
            self.step.wake_in(wait);
            self.wait(container, known);
            return;
        }
        self.start(container, Some(known), next);
    }

    fn start(&mut self, container: &Container, known: Option<&ContainerState>, attempt: u32) {
        if self.state.starting.as_deref() == Some(&*container.name) {
            return;
        }
        if let Some(known) = known {
            if !self.step.due(known.retry_at, self.now) {
                self.show_pull_back_off(container, known);
                return;
            }
            if known.killing.is_some() {
                return;
            }
        }
        if !self.chosen {
            self.chosen = true;
            self.step.push(Request::Start { container: container.name.clone(), attempt });
        }
    }

    /// A crash-looping container says so, once for each wait.
    fn wait(&mut self, container: &Container, known: &ContainerState) {
        if known.waiting.as_ref().is_some_and(|told| told.reason == "CrashLoopBackOff") {
            return;
        }
        let message = format!(
            "back-off {} restarting failed container={} pod={}",
            go_seconds(known.crash.delay()),
            container.name,
            self.pod.long_name()
        );
        let told = Told::new("CrashLoopBackOff", message);
        self.step.push(Request::Wait { container: container.name.clone(), told });
    }

    fn show_pull_back_off(&mut self, container: &Container, known: &ContainerState) {
        let Some(told) = known.waiting.as_ref().filter(|told| told.reason == "ErrImagePull") else {
            return;
        };
        let shown = self.now.mono.since(known.waiting_since);
        if shown < PULL_FAILED_SHOWN {
            self.step.wake_in(PULL_FAILED_SHOWN - shown);
            return;
        }
        let image = &container.image;
        let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {}", told.message);
        let told = Told::new("ImagePullBackOff", message);
        self.step.push(Request::Wait { container: container.name.clone(), told });
    }
}

/// Whether a container that exited starts again.
pub(crate) fn restarts(policy: RestartPolicy, role: Role, code: i32) -> bool {
    match (role, policy) {
        (Role::Ephemeral, _) => false,
        (Role::Sidecar, _) => true,
        // A finished init container is not asked about again; a failed one is.
        (Role::Init, RestartPolicy::Never) => false,
        (Role::Init, _) => code != 0,
        (Role::App, RestartPolicy::Always) => true,
        (Role::App, RestartPolicy::OnFailure) => code != 0,
        (Role::App, RestartPolicy::Never) => false,
    }
}

fn probe(step: &mut Step, now: Now, container: &Container, state: &State, ending: bool) {
    let Some(known) = state.get(&container.name) else { return };
    if !known.running() || state.starting.as_deref() == Some(&*container.name) {
        return;
    }
    let started = known.started();
    for (kind, prober) in &known.probers {
        // The others wait for the startup probe; a container that ends is only asked whether it is ready.
        let wanted = match kind {
            ProbeKind::Startup => !ending,
            ProbeKind::Liveness => started && !ending && known.killing.is_none(),
            ProbeKind::Readiness => started,
        };
        match prober.due_at(now.mono) {
            Some(Duration::ZERO) if wanted => {
                step.push(Request::Probe { container: container.name.clone(), kind: *kind });
            }
            Some(wait) if wanted => step.wake_in(wait),
            _ => {}
        }
    }
}

/// Kills in order, then sandbox, volumes, and the last traces.
fn tear_down(step: &mut Step, now: Now, pod: &Pod, state: &State) {
    if state.starting.is_some() {
        step.push(Request::CancelStart);
        return;
    }
    let grace_secs = state
        .grace_override_secs
        .or(pod.deleting_grace_secs)
        .unwrap_or(if state.gone { 0 } else { pod.grace_secs });
    if kill_all(step, now, pod, state, grace_secs) {
        for container in &pod.containers {
            probe(step, now, container, state, true);
        }
        return;
    }
    match &state.sandbox {
        Sandbox::Ready { id, .. } | Sandbox::Lost { id } => {
            if step.due(state.sandbox_retry_at, now) {
                step.push(Request::StopSandbox { id: id.clone() });
            }
            return;
        }
        Sandbox::Making | Sandbox::Stopping { .. } => return,
        Sandbox::Absent | Sandbox::Stopped { .. } => {}
    }
    match state.volumes {
        Volumes::Ready | Volumes::Absent => {
            if step.due(state.volumes_retry_at, now) {
                step.push(Request::UnmountVolumes);
            }
            return;
        }
        Volumes::Mounting | Volumes::Unmounting => return,
        Volumes::Gone => {}
    }
    let deleted = pod.deleting_grace_secs.is_some() || state.gone;
    if deleted && !state.finishing && step.due(state.finish_retry_at, now) {
        step.push(Request::Finish);
    }
}

/// Asks for the kills that are due; true while something still runs. All begin at once, so that hooks
/// run side by side; the signals to sidecars come after everyone else's end, the last sidecar first,
/// within the one grace period.
fn kill_all(step: &mut Step, now: Now, pod: &Pod, state: &State, grace_secs: i64) -> bool {
    let runs = |container: &&Container| {
        state.get(&container.name).is_some_and(|known| known.running() || known.killing.is_some())
    };
    let targets: Vec<&Container> = pod.containers.iter().filter(runs).collect();
    let before = |container: &Container| -> Vec<String> {
        // Without grace there is no time to wait for anyone.
        if container.role != Role::Sidecar || grace_secs <= 0 {
            return Vec::new();
        }
        let earlier = |other: &&&Container| match other.role {
            Role::App => true,
            Role::Sidecar => other.idx > container.idx,
            Role::Init | Role::Ephemeral => false,
        };
        targets.iter().filter(earlier).map(|other| other.name.clone()).collect()
    };
    for container in &targets {
        let Some(known) = state.get(&container.name) else { continue };
        let grace = grace(grace_secs);
        // A second, shorter request overtakes a kill under way.
        let shorter = known.killing.is_none_or(|deadline| {
            now.mono + grace + Duration::from_secs(1) < deadline && known.running()
        });
        if shorter {
            let why = format!("Stopping container {}", container.name);
            let (name, after) = (container.name.clone(), before(container));
            step.push(Request::Kill { container: name, grace, why, restart: false, after });
        }
    }
    !targets.is_empty()
}

fn grace(secs: i64) -> Duration {
    Duration::from_secs(u64::try_from(secs).unwrap_or(0)).max(GRACE_MIN)
}

impl State {
    /// Notes that a request is now under way.
    pub fn began(&mut self, now: Now, request: &Request) {
        match request {
            Request::MountVolumes => {
                never!(self.volumes != Volumes::Absent, "Volumes are mounted twice");
                self.volumes = Volumes::Mounting;
            }
            Request::UnmountVolumes => {
                let running = self.containers.values().any(|known| known.running());
                never!(running, "Volumes are taken from a container that runs");
                self.volumes = Volumes::Unmounting;
            }
            Request::MakeSandbox { .. } => {
                let there = matches!(self.sandbox, Sandbox::Ready { .. } | Sandbox::Making);
                never!(there, "A pod gets a second sandbox");
                self.sandbox = Sandbox::Making;
                self.sandbox_attempt = self.sandbox_attempt.saturating_add(1);
            }
            Request::StopSandbox { id } => self.sandbox = Sandbox::Stopping { id: id.clone() },
            Request::Start { container, .. } => {
                never!(self.starting.is_some(), "Two containers of a pod start at a time");
                never!(
                    !matches!(self.sandbox, Sandbox::Ready { .. }),
                    "A container starts without a sandbox"
                );
                self.starting = Some(container.clone());
                let known = self.of(container);
                never!(known.running(), "A container that runs is started");
                if let Some(finished) = known.exit().map(|exit| exit.finished_at) {
                    known.crash.restarted(finished, now);
                }
            }
            Request::CancelStart => self.starting = None,
            Request::Kill { container, grace, restart, .. } => {
                let known = self.of(container);
                known.killing = Some(now.mono + *grace);
                known.replace |= *restart;
            }
            Request::Probe { container, kind } => {
                if let Some(prober) = self.of(container).probers.get_mut(kind) {
                    prober.in_flight = true;
                }
            }
            Request::Wait { container, told } => self.of(container).waiting = Some(told.clone()),
            Request::Fail(told) => self.failed = Some(told.clone()),
            Request::Finish => {
                let running = self.containers.values().any(|known| known.running());
                never!(running, "A pod is removed while something of it runs");
                self.finishing = true;
            }
        }
    }
}
