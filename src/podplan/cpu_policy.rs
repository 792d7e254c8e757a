//! The CPU manager's static policy: containers of Guaranteed pods that ask for whole CPUs have them for themselves.
//!
//! Everyone else shares the rest, to which the reserved CPUs belong: no container gets those alone.

use api::quantity::Quantity;
use api::{Lens, Value};
use stdx::OrdMap;

use crate::cpus::Topology;
use crate::cpuset::CpuSet;
use crate::{Qos, Told};

/// What does not change while a node runs.
#[derive(Debug)]
pub struct StaticPolicy {
    topology: Topology,
    reserved: CpuSet,
    /// `full-pcpus-only`
    whole_cores_only: bool,
}

/// Which CPUs are whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuState {
    pub(crate) shared: CpuSet,
    /// By uid of the pod and name of the container.
    pub(crate) exclusive: OrdMap<String, OrdMap<String, CpuSet>>,
}

impl CpuState {
    /// What a container has alone.
    pub fn exclusive(&self, uid: &str, container: &str) -> Option<&CpuSet> {
        self.exclusive.get(uid)?.get(container)
    }

    /// What a container may run on.
    pub fn of(&self, uid: &str, container: &str) -> &CpuSet {
        self.exclusive(uid, container).unwrap_or(&self.shared)
    }

    pub fn has(&self, uid: &str) -> bool {
        self.exclusive.contains_key(uid)
    }

    /// Gives back what pods have of which `live` says no; false if there is nothing.
    pub fn release(&mut self, live: impl Fn(&str) -> bool) -> bool {
        let before = self.exclusive.len();
        let mut freed = CpuSet::default();
        self.exclusive.retain(|uid, containers| {
            let stays = live(uid);
            for cpus in containers.values().filter(|_| !stays) {
                freed = freed.with(cpus);
            }
            stays
        });
        self.shared = self.shared.with(&freed);
        self.exclusive.len() < before
    }
}

impl StaticPolicy {
    /// `reserved` are the ones that were named; of none, as many as `reserved_milli` fills are chosen.
    ///
    /// # Errors
    /// If nothing is reserved, or more than there is.
    pub fn new(
        topology: Topology,
        reserved: &CpuSet,
        reserved_milli: u64,
        whole_cores_only: bool,
    ) -> Result<StaticPolicy, String> {
        let reserved = match reserved.is_empty() {
            false => reserved.clone(),
            true if reserved_milli == 0 => {
                return Err("[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero".into());
            }
            true => {
                let n = usize::try_from(reserved_milli.div_ceil(1000)).unwrap_or(usize::MAX);
                topology.take(&topology.all(), n).map_err(|_| {
                    format!("new static policy error: [cpumanager] unable to reserve the required amount of CPUs (size of  did not equal {n})")
                })?
            }
        };
        Ok(StaticPolicy { topology, reserved, whole_cores_only })
    }

    /// What containers may have alone.
    pub fn allocatable(&self) -> CpuSet {
        self.topology.all().without(&self.reserved)
    }

    /// What is kept of an earlier run, checked; of nothing everything is shared.
    ///
    /// # Errors
    /// If it is not of this machine, or no state that can be.
    pub fn resume(&self, kept: Option<CpuState>) -> Result<CpuState, String> {
        let all = self.topology.all();
        let kept = kept.unwrap_or_default();
        let CpuState { shared, exclusive } = &kept;
        if shared.is_empty() {
            return match exclusive.is_empty() {
                true => Ok(CpuState { shared: all, ..kept }),
                false => Err("default cpuset cannot be empty".into()),
            };
        }
        if !shared.has_all(&self.reserved) {
            return Err(format!(
                "not all reserved cpus: \"{}\" are present in defaultCpuSet: \"{shared}\"",
                self.reserved
            ));
        }
        let mut known = shared.clone();
        for (uid, containers) in exclusive {
            for (container, cpus) in containers {
                if cpus.iter().any(|cpu| shared.contains(cpu)) {
                    return Err(format!(
                        "pod: {uid}, container: {container} cpuset: \"{cpus}\" overlaps with default cpuset \"{shared}\""
                    ));
                }
                known = known.with(cpus);
            }
        }
        if known != all {
            return Err(format!(
                "current set of available CPUs \"{all}\" doesn't match with CPUs in state \"{known}\""
            ));
        }
        Ok(kept)
    }

    /// Gives the containers of a pod what they ask for alone; says whether anything was given. What an init container has had,
    /// those after it may have again.
    ///
    /// # Errors
    /// Why it cannot be; `state` is as it was then.
    pub fn allocate(&self, state: &mut CpuState, uid: &str, pod: &Value) -> Result<bool, Told> {
        let mut next = state.clone();
        let mut again = CpuSet::default();
        for (list, is_init) in [("spec.initContainers", true), ("spec.containers", false)] {
            for container in pod.list(list) {
                let n = exclusive_cpus(pod, container);
                if n == 0 {
                    continue;
                }
                let name = container.str("name");
                let cpus = match next.exclusive(uid, name) {
                    Some(cpus) => cpus.clone(),
                    None => {
                        self.whole_cores(&next.shared.with(&again), n)?;
                        let free = next.shared.without(&self.reserved).with(&again);
                        self.topology.take(&free, n).map_err(unexpected)?
                    }
                };
                next.shared = next.shared.without(&cpus);
                again = match is_init && container.str("restartPolicy") != "Always" {
                    true => again.with(&cpus),
                    false => again.without(&cpus),
                };
                let of_pod = next.exclusive.entry(uid.to_owned()).or_default();
                of_pod.insert(name.to_owned(), cpus);
            }
        }
        let given = next != *state;
        *state = next;
        Ok(given)
    }

    /// Whether `n` of the free ones, reserved ones among them, can be whole cores.
    fn whole_cores(&self, free: &CpuSet, n: usize) -> Result<(), Told> {
        let per_core = self.topology.cpus_per_core();
        if !self.whole_cores_only {
            return Ok(());
        }
        let refuse = |why: String| Err(rejected("SMTAlignmentError", &why));
        if !n.is_multiple_of(per_core) {
            return refuse(format!(
                "SMT Alignment Error: requested {n} cpus not multiple cpus per core = {per_core}"
            ));
        }
        let free = free.without(&self.topology.whole_cores(&self.reserved)).len();
        if n > free {
            return refuse(format!(
                "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {free}, requested CPUs = {n}, CPUs per core = {per_core}"
            ));
        }
        Ok(())
    }
}

fn rejected(reason: &str, why: &str) -> Told {
    Told::new(reason, format!("Pod was rejected: {why}"))
}

fn unexpected(why: String) -> Told {
    rejected(
        "UnexpectedAdmissionError",
        &format!("Allocate failed due to {why}, which is unexpected"),
    )
}

/// How many CPUs a container asks for alone.
fn exclusive_cpus(pod: &Value, container: &Value) -> usize {
    let amount = |side: &str| {
        container.at(side).get("cpu").and_then(Quantity::from_tree).filter(|it| !it.is_zero())
    };
    let asked = amount("resources.requests").or_else(|| amount("resources.limits"));
    let milli = asked.map_or(0, Quantity::milli);
    match milli % 1000 == 0 && Qos::of(pod) == Qos::Guaranteed {
        true => usize::try_from(milli / 1000).unwrap_or(0),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpus::tests::machine;
    use api::json;

    fn set(text: &str) -> CpuSet {
        CpuSet::parse(text).unwrap()
    }

    fn policy(reserved: &str, whole_cores_only: bool) -> StaticPolicy {
        StaticPolicy::new(machine(1, 4, 2), &set(reserved), 0, whole_cores_only).unwrap()
    }

    fn container(name: &str, cpu: &str) -> Value {
        json!({"name": name, "resources": {"limits": {"cpu": cpu, "memory": "1Mi"}}})
    }

    fn pod(init: &[Value], containers: &[Value]) -> Value {
        json!({"spec": {"initContainers": init, "containers": containers}})
    }

    fn told(result: Result<bool, Told>) -> String {
        match result {
            Ok(given) => given.to_string(),
            Err(told) => format!("{}|{}", told.reason, told.message),
        }
    }

    #[test]
    fn whole_cpus_of_guaranteed_pods_are_theirs_alone() {
        let policy = policy("0", false);
        let mut state = policy.resume(None).unwrap();
        assert_eq!((state.shared.to_string(), policy.allocatable()), ("0-7".into(), set("1-7")));
        let burstable = json!({"name": "b", "resources": {"requests": {"cpu": "2"}}});
        for (uid, pod, given, shared) in [
            ("b", pod(&[], &[burstable]), "true", "0-7"),
            ("f", pod(&[], &[container("a", "1500m")]), "true", "0-7"),
            ("u", pod(&[], &[container("a", "2"), container("b", "1")]), "true", "0,2-3,6-7"),
            // Again, after a restart of its worker.
            ("u", pod(&[], &[container("a", "2"), container("b", "1")]), "false", "0,2-3,6-7"),
            ("v", pod(&[], &[container("a", "2000m"), container("s", "100m")]), "true", "0,3,7"),
            (
                "w",
                pod(&[], &[container("a", "3")]),
                "UnexpectedAdmissionError|Pod was rejected: Allocate failed due to not enough cpus available to satisfy request: requested=3, available=2, which is unexpected",
                "0,3,7",
            ),
        ] {
            let given = if matches!(uid, "b" | "f") { "false" } else { given };
            assert_eq!(told(policy.allocate(&mut state, uid, &pod)), given, "{uid}");
            assert_eq!(state.shared.to_string(), shared, "{uid}");
        }
        assert_eq!(state.of("u", "a").to_string(), "1,5");
        assert_eq!(state.of("u", "b").to_string(), "4");
        assert_eq!((state.of("v", "s"), state.exclusive("v", "s")), (&set("0,3,7"), None));
        assert!(state.has("v") && !state.has("w"), "nothing of what failed stays");
        assert!(state.release(|uid| uid == "v") && !state.release(|uid| uid == "v"));
        assert_eq!(state.shared.to_string(), "0-1,3-5,7");
    }

    #[test]
    fn what_an_init_container_had_is_had_again() {
        let policy = policy("0", false);
        let mut state = policy.resume(None).unwrap();
        let mut sidecar = container("s", "1");
        sidecar["restartPolicy"] = "Always".into();
        let all = pod(&[container("i", "4"), sidecar], &[container("a", "2")]);
        assert_eq!(told(policy.allocate(&mut state, "u", &all)), "true");
        let of = |name: &str| state.of("u", name).to_string();
        assert_eq!((of("i"), of("s"), of("a")), ("1-2,5-6".into(), "4".into(), "1,5".into()));
        assert_eq!(state.shared.to_string(), "0,3,7");
        state.release(|_| false);
        assert_eq!(state.shared.to_string(), "0-7");
    }

    #[test]
    fn cores_are_not_divided_where_only_whole_ones_are_given() {
        let policy = policy("0", true);
        let mut state = policy.resume(None).unwrap();
        for (n, want) in [
            (
                "1",
                "SMTAlignmentError|Pod was rejected: SMT Alignment Error: requested 1 cpus not multiple cpus per core = 2",
            ),
            (
                "8",
                "SMTAlignmentError|Pod was rejected: SMT Alignment Error: not enough free physical CPUs: available physical CPUs = 6, requested CPUs = 8, CPUs per core = 2",
            ),
            ("6", "true"),
        ] {
            assert_eq!(told(policy.allocate(&mut state, n, &pod(&[], &[container("a", n)]))), want);
        }
        assert_eq!(state.shared.to_string(), "0,4");
    }

    #[test]
    fn some_cpus_are_reserved() {
        let reserved = |milli| StaticPolicy::new(machine(1, 4, 2), &set(""), milli, false);
        assert_eq!(reserved(100).unwrap().reserved, set("0"));
        assert_eq!(reserved(1001).unwrap().reserved, set("0,4"));
        assert!(reserved(0).unwrap_err().contains("to be greater than zero"));
        assert!(reserved(8001).unwrap_err().contains("unable to reserve the required amount"));
    }

    #[test]
    fn only_a_state_of_this_machine_is_resumed() {
        let policy = policy("0,2", false);
        let state = |shared: &str, own: &str| {
            let of_pod = OrdMap::from([("c".to_owned(), set(own))]);
            let exclusive = match own {
                "" => OrdMap::new(),
                _ => OrdMap::from([("u".to_owned(), of_pod)]),
            };
            Some(CpuState { shared: set(shared), exclusive })
        };
        for (kept, want) in [
            (state("0-4", "5-7"), ""),
            (state("0-7", ""), ""),
            (state("", "1"), "default cpuset cannot be empty"),
            (
                state("0,3-7", "1-2"),
                "not all reserved cpus: \"0,2\" are present in defaultCpuSet: \"0,3-7\"",
            ),
            (
                state("0-7", "7"),
                "pod: u, container: c cpuset: \"7\" overlaps with default cpuset \"0-7\"",
            ),
            (
                state("0-4", "5-6"),
                "current set of available CPUs \"0-7\" doesn't match with CPUs in state \"0-6\"",
            ),
        ] {
            assert_eq!(policy.resume(kept).err().unwrap_or_default(), want);
        }
    }
}
