//! What a node has beneath its kubelet: sandboxes, volumes and containers, each with a life of its own, drawn
//! from the seed. They outlive the kubelet, and end with the machine's power.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use podplan::{
    Container, Done, Exit, Pod, ProbeKind, ProbeOutcome, Record, Request, RestartPolicy, Role,
    Seen, SeenState, Told, began, counts, ended,
};
use stdx::prng::Prng;
use stdx::time::{Mono, Now};

use crate::check;
use crate::lock;
use crate::plant::Plant;
use crate::world::World;

/// How often a process that was told to wait for others looks again.
const TURN: Duration = Duration::from_millis(500);

/// One node's machine.
pub(crate) struct Machine {
    world: Arc<World>,
    name: String,
    number: u64,
    prng: Prng,
    pods: BTreeMap<String, Vessel>,
    n_made: u64,
    /// What may begin once only, and has begun: uid, container and image.
    begun: BTreeSet<(String, String, String)>,
}

/// What a machine has of one pod.
#[derive(Default)]
pub(crate) struct Vessel {
    /// The pod as its kubelet last knew it, as in a checkpoint.
    pub(crate) object: Option<Object>,
    pub(crate) sandbox: Option<(String, IpAddr)>,
    pub(crate) n_sandboxes: u32,
    pub(crate) has_volumes: bool,
    pub(crate) records: Vec<Record>,
    containers: BTreeMap<String, Held>,
}

/// A container of the machine's runtime.
struct Held {
    seen: Seen,
    /// When it ends by itself, and with which code.
    ends: Option<(Mono, i32)>,
    ready: Mono,
}

impl Held {
    fn runs(&self) -> bool {
        matches!(self.seen.state, SeenState::Running { .. })
    }

    fn end(&mut self, now: Now, code: i32) {
        let SeenState::Running { since } = self.seen.state else { return };
        self.seen.state = SeenState::Exited(Exit {
            code,
            signal: 0,
            reason: if code == 0 { "Completed" } else { "Error" }.into(),
            message: String::new(),
            started_at: Some(since),
            finished_at: now.wall,
            container_id: self.seen.id.clone(),
        });
        self.ends = None;
    }
}

/// Something that a kubelet asked for, which takes its time.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) due: Mono,
    request: Request,
    begun: Mono,
    /// The container that it was about.
    about: String,
}

impl Work {
    /// Whether it starts a container.
    pub(crate) fn starts(&self) -> bool {
        matches!(self.request, Request::Start { .. })
    }

    /// The same, to be looked at again then.
    pub(crate) fn again(self, due: Mono) -> Work {
        Work { due, ..self }
    }
}

impl Vessel {
    /// What the runtime says of the containers that it has, by name.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (&String, &Seen)> {
        self.containers.iter().map(|(name, held)| (name, &held.seen))
    }

    fn any_runs(&self) -> bool {
        self.containers.values().any(Held::runs)
    }
}

impl Machine {
    pub(crate) fn new(world: &Arc<World>, name: &str, number: u64, seed: u64) -> Machine {
        Machine {
            world: Arc::clone(world),
            name: name.to_owned(),
            number,
            prng: Prng::new(seed ^ (number << 40) ^ 0x3ac4),
            pods: BTreeMap::new(),
            n_made: 0,
            begun: BTreeSet::new(),
        }
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = (&String, &Vessel)> {
        self.pods.iter()
    }

    pub(crate) fn pod(&mut self, uid: &str) -> &mut Vessel {
        self.pods.entry(uid.to_owned()).or_default()
    }

    /// Nothing is left of a pod.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// Lets time act: what is over ends, and while there are faults some of the rest does. Answers whose pods' containers ended.
    pub(crate) fn live(&mut self, now: Now) -> Vec<String> {
        let faulty = self.world.faults.on();
        let mut changed = Vec::new();
        for (uid, vessel) in &mut self.pods {
            let ran = vessel.any_runs();
            let mut any = false;
            for held in vessel.containers.values_mut().filter(|held| held.runs()) {
                let code = match held.ends {
                    Some((at, code)) if at <= now.mono => Some(code),
                    None if faulty && self.prng.below(1000) < 5 => Some(1),
                    _ => None,
                };
                if let Some(code) = code {
                    held.end(now, code);
                    any = true;
                }
            }
            if any {
                changed.push(uid.clone());
                note_ends(vessel);
                tell_stopped(&self.world, &self.name, vessel, ran);
            }
        }
        changed
    }

    /// When something ends by itself next.
    pub(crate) fn due(&self) -> Option<Mono> {
        let held = self.pods.values().flat_map(|vessel| vessel.containers.values());
        held.filter_map(|held| held.ends.map(|(at, _)| at)).min()
    }

    /// The machine starts anew: nothing runs, what is on its disk is there.
    pub(crate) fn cut_power(&mut self) {
        for vessel in self.pods.values_mut() {
            let ran = vessel.any_runs();
            vessel.containers.clear();
            vessel.sandbox = None;
            vessel.has_volumes = false;
            if self.world.plant == Some(Plant::Amnesia) {
                vessel.records.clear();
            }
            tell_stopped(&self.world, &self.name, vessel, ran);
        }
    }

    /// Begins what a kubelet asks for; `None` where there is nothing to wait for.
    pub(crate) fn begin(&mut self, now: Now, pod: &Pod, request: Request) -> Option<Work> {
        let mut about = String::new();
        let max_ms = match &request {
            Request::MountVolumes => 500,
            Request::MakeSandbox { .. } | Request::Start { .. } => 1500,
            Request::UnmountVolumes | Request::StopSandbox { .. } | Request::Probe { .. } => 300,
            Request::Kill { grace, .. } => {
                u64::try_from(grace.as_millis()).unwrap_or(u64::MAX).min(4000)
            }
            Request::CancelStart | Request::Wait { .. } | Request::Fail(_) | Request::Finish => {
                return None;
            }
        };
        if let Request::Probe { container, .. } = &request {
            let held = self.pods.get(&pod.uid).and_then(|v| v.containers.get(container));
            about = held.map(|held| held.seen.id.clone()).unwrap_or_default();
        }
        let due = now.mono + Duration::from_millis(self.prng.below(max_ms + 1));
        Some(Work { due, request, begun: now.mono, about })
    }

    /// The kubelet has crashed while this was under way: it happened, or it did not, or only the note of it was written.
    pub(crate) fn abandon(&mut self, now: Now, pod: &Pod, work: &Work) {
        match (&work.request, self.prng.below(3)) {
            (_, 0) => {}
            (Request::Start { container, attempt }, 1) => {
                if let Some(container) = pod.container(container) {
                    self.note_start(now, pod, container, *attempt);
                }
            }
            (Request::Finish, _) => {}
            _ => drop(self.end(now, pod, work)),
        }
    }

    /// Ends what has come due: with what the kubelet is told of it, or when it is to be looked at again.
    pub(crate) fn end(&mut self, now: Now, pod: &Pod, work: &Work) -> Result<Done, Mono> {
        let fails = self.world.faults.chance(3);
        let uid = &pod.uid;
        Ok(match &work.request {
            Request::MountVolumes if fails => Done::VolumesFailed,
            Request::MountVolumes => {
                self.pod(uid).has_volumes = true;
                Done::VolumesReady
            }
            Request::UnmountVolumes => {
                self.pod(uid).has_volumes = false;
                Done::VolumesGone
            }
            Request::MakeSandbox { .. } if fails => Done::SandboxFailed,
            Request::MakeSandbox { attempt, .. } => {
                let ip = self.address();
                let id = format!("{uid}-{attempt}");
                let vessel = self.pod(uid);
                vessel.sandbox = Some((id.clone(), ip));
                vessel.n_sandboxes = attempt + 1;
                vessel.containers.clear();
                Done::SandboxMade { id, ips: vec![ip] }
            }
            Request::StopSandbox { .. } => {
                let (world, name) = (Arc::clone(&self.world), self.name.clone());
                let vessel = self.pod(uid);
                let ran = vessel.any_runs();
                vessel.containers.values_mut().for_each(|held| held.end(now, 137));
                vessel.sandbox = None;
                note_ends(vessel);
                tell_stopped(&world, &name, vessel, ran);
                Done::SandboxStopped
            }
            Request::Start { container, attempt } => {
                self.start(now, pod, container, *attempt, fails)
            }
            Request::Kill { container, grace, after, .. } => {
                let (world, name) = (Arc::clone(&self.world), self.name.clone());
                let vessel = self.pod(uid);
                let waits =
                    after.iter().any(|it| vessel.containers.get(it).is_some_and(Held::runs));
                if waits && now.mono < work.begun + *grace {
                    return Err(now.mono + TURN);
                }
                let ran = vessel.any_runs();
                if let Some(held) = vessel.containers.get_mut(container) {
                    held.end(now, 143);
                }
                note_ends(vessel);
                tell_stopped(&world, &name, vessel, ran);
                Done::Killed { container: container.clone() }
            }
            Request::Probe { container, kind } => {
                self.probe(now, uid, container, *kind, &work.about)
            }
            Request::CancelStart | Request::Wait { .. } | Request::Fail(_) | Request::Finish => {
                Done::Finished
            }
        })
    }

    fn address(&mut self) -> IpAddr {
        self.n_made += 1;
        let (high, low) = (self.n_made / 250, self.n_made % 250 + 1);
        let part = |number: u64| u8::try_from(number % 256).unwrap_or(0);
        Ipv4Addr::new(10, 42, part(self.number * 8 + high), part(low)).into()
    }

    /// What is on the disk before the process runs.
    fn note_start(&mut self, now: Now, pod: &Pod, container: &Container, attempt: u32) -> String {
        let id = format!("{}-{}-{attempt}", pod.uid, container.name);
        if counts(pod.restart_policy, container.role) {
            let record = Record {
                name: container.name.clone(),
                attempt,
                id: id.clone(),
                started_at: Some(now.wall),
                exit: None,
            };
            began(&mut self.pod(&pod.uid).records, record);
        }
        id
    }

    fn start(&mut self, now: Now, pod: &Pod, name: &str, attempt: u32, fails: bool) -> Done {
        let failed = |why: &str| Done::StartFailed {
            container: name.to_owned(),
            told: Told::new("RunContainerError", why),
            seen: None,
        };
        let Some(container) = pod.container(name) else { return failed("it is not of this pod") };
        if self.pod(&pod.uid).sandbox.is_none() {
            return failed("its sandbox is gone");
        }
        if fails {
            return failed("simulated");
        }
        let once = pod.restart_policy == RestartPolicy::Never && container.role != Role::Sidecar;
        let this = (pod.uid.clone(), name.to_owned(), container.image.clone());
        if once && !self.begun.insert(this) {
            self.world.fail(&format!("{name} of {:?} never restarts, and runs again", pod.object));
        }
        let id = self.note_start(now, pod, container, attempt);
        let own_end = container.role == Role::Init
            || (container.role == Role::App && pod.restart_policy != RestartPolicy::Always);
        let ends = own_end.then(|| {
            let at = now.mono + Duration::from_millis(self.prng.below(15_000));
            (at, i32::from(!self.prng.chance(75)))
        });
        let ready = now.mono + Duration::from_millis(self.prng.below(8000));
        let seen = Seen {
            id,
            attempt,
            state: SeenState::Running { since: now.wall },
            image: container.image.clone(),
            image_ref: "sim".into(),
        };
        let held = Held { seen: seen.clone(), ends, ready };
        self.pod(&pod.uid).containers.insert(name.to_owned(), held);
        tell(&self.world, &check::Container { pod: &pod.object, node: &self.name, runs: true });
        Done::Started { container: name.to_owned(), seen }
    }

    fn probe(&mut self, now: Now, uid: &str, name: &str, kind: ProbeKind, id: &str) -> Done {
        let ill = self.world.faults.chance(3);
        let held = self.pod(uid).containers.get(name);
        let outcome = match held.filter(|held| held.runs()) {
            None => ProbeOutcome::Unknown("it does not run".into()),
            Some(_) if ill => ProbeOutcome::Failure("simulated".into()),
            Some(held) if kind != ProbeKind::Liveness && held.ready > now.mono => {
                ProbeOutcome::Failure("not yet".into())
            }
            Some(_) => ProbeOutcome::Success,
        };
        Done::Probed { container: name.to_owned(), id: id.to_owned(), kind, outcome }
    }
}

/// An end is on the disk before anything is made of it.
fn note_ends(vessel: &mut Vessel) {
    for (name, held) in &vessel.containers {
        if let SeenState::Exited(exit) = &held.seen.state {
            ended(&mut vessel.records, name, exit);
        }
    }
}

fn tell_stopped(world: &World, node: &str, vessel: &Vessel, ran: bool) {
    if let Some(pod) = vessel.object.as_ref().filter(|_| ran && !vessel.any_runs()) {
        tell(world, &check::Container { pod, node, runs: false });
    }
}

fn tell(world: &World, container: &check::Container<'_>) {
    let verdict = lock(&world.checks).container(container);
    if let Err(why) = verdict {
        world.fail(&why);
    }
}
