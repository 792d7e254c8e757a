//! The CPUs of a machine as they hang together, and which of the free ones are best taken together.

use stdx::Arrange;

use crate::cpuset::CpuSet;

/// One CPU (a hardware thread) and what it shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    pub id: u32,
    /// The lowest CPU of its core.
    pub core: u32,
    pub socket: u32,
    pub numa: u32,
}

/// All CPUs that are online.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology(Vec<Cpu>);

/// Something that CPUs are parts of.
type Level = fn(&Cpu) -> u32;

const CORE: Level = |cpu| cpu.core;
const SOCKET: Level = |cpu| cpu.socket;
const NUMA: Level = |cpu| cpu.numa;

impl Topology {
    pub fn new(cpus: Vec<Cpu>) -> Topology {
        Topology(cpus)
    }

    pub fn all(&self) -> CpuSet {
        self.0.iter().map(|cpu| cpu.id).collect()
    }

    /// CPUs of a core, as upstream counts them: on the average.
    pub(crate) fn cpus_per_core(&self) -> usize {
        self.0.len() / self.ids(CORE, &self.all()).len().max(1)
    }

    /// These and all others of their cores.
    pub(crate) fn whole_cores(&self, cpus: &CpuSet) -> CpuSet {
        let cores = self.ids(CORE, cpus);
        self.0.iter().filter(|cpu| cores.contains(cpu.core)).map(|cpu| cpu.id).collect()
    }

    fn ids(&self, level: Level, among: &CpuSet) -> CpuSet {
        self.0.iter().filter(|cpu| among.contains(cpu.id)).map(level).collect()
    }

    fn of(&self, level: Level, id: u32, among: &CpuSet) -> CpuSet {
        let here = self.0.iter().filter(|cpu| level(cpu) == id && among.contains(cpu.id));
        here.map(|cpu| cpu.id).collect()
    }

    /// Which `n` of the free CPUs go best together: whole NUMA nodes and sockets while they are wanted whole, then whole
    /// cores, then single CPUs; each from where least is free, so that what is whole stays so.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn take(&self, free: &CpuSet, n: usize) -> Result<CpuSet, String> {
        if free.len() < n {
            return Err(format!(
                "not enough cpus available to satisfy request: requested={n}, available={}",
                free.len()
            ));
        }
        let all = self.all();
        let is_numa_first = self.ids(SOCKET, &all).len() >= self.ids(NUMA, &all).len();
        let (outer, inner) = if is_numa_first { (NUMA, SOCKET) } else { (SOCKET, NUMA) };
        let (mut free, mut taken) = (free.clone(), CpuSet::default());
        for levels in [&[outer][..], &[outer, inner], &[outer, inner, CORE]] {
            let level = levels[levels.len() - 1];
            for group in self.order(levels, &free) {
                let whole = self.of(level, level(&group), &all);
                let fits = whole.len() <= n - taken.len() && free.has_all(&whole);
                if fits && !whole.is_empty() {
                    (free, taken) = (free.without(&whole), taken.with(&whole));
                }
            }
        }
        let rest: CpuSet = {
            let cpus = self.order(&[outer, inner, CORE, |cpu| cpu.id], &free);
            cpus.into_iter().take(n - taken.len()).map(|cpu| cpu.id).collect()
        };
        Ok(taken.with(&rest))
    }

    /// A free CPU of each group of the last level, ordered by the levels one after the other: where least is free first.
    fn order(&self, levels: &[Level], free: &CpuSet) -> Vec<Cpu> {
        let cpus = self.0.iter().filter(|cpu| free.contains(cpu.id));
        let mut keyed: Vec<(Vec<(usize, u32)>, Cpu)> = cpus
            .map(|cpu| {
                let key = |level: &Level| (self.of(*level, level(cpu), free).len(), level(cpu));
                (levels.iter().map(key).collect(), *cpu)
            })
            .collect();
        keyed.arrange_by(|(a, _), (b, _)| a.cmp(b));
        keyed.dedup_by(|(a, _), (b, _)| a == b);
        keyed.into_iter().map(|(_, cpu)| cpu).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Threads of a core are numbered as most machines do: the second ones after all first ones.
    pub(crate) fn machine(sockets: u32, cores: u32, threads: u32) -> Topology {
        let n_cores = sockets * cores;
        let one = |id: u32| {
            let core = id % n_cores;
            Cpu { id, core, socket: core / cores, numa: core / cores }
        };
        Topology::new((0..n_cores * threads).map(one).collect())
    }

    #[test]
    fn free_cpus_are_taken_together() {
        let (one, two) = (machine(1, 4, 2), machine(2, 2, 2));
        // One socket that is two NUMA nodes.
        let cpus = (0..4).map(|id| Cpu { id, core: id, socket: 0, numa: id / 2 });
        let split = Topology::new(cpus.collect());
        let check = |of: &Topology, free: &str, n: usize, want: &str| {
            let taken = of.take(&CpuSet::parse(free).unwrap(), n);
            assert_eq!(taken.map_or_else(|why| why, |set| set.to_string()), want, "{free} {n}");
        };
        for (free, n, want) in [
            ("0-7", 1, "0"),
            ("0-7", 2, "0,4"),
            ("0-7", 3, "0-1,4"),
            ("0-7", 8, "0-7"),
            // A core that is no longer whole is broken rather than another.
            ("1-7", 1, "4"),
            ("1-7", 2, "1,5"),
            ("1-7", 3, "1,4-5"),
            ("1,2,3", 2, "1-2"),
            ("", 0, ""),
            ("1,2", 3, "not enough cpus available to satisfy request: requested=3, available=2"),
        ] {
            check(&one, free, n, want);
        }
        for (free, n, want) in [
            // Sockets 0,1,4,5 and 2,3,6,7.
            ("0-7", 4, "0-1,4-5"),
            ("0-7", 2, "0,4"),
            ("1-7", 4, "2-3,6-7"),
            ("1-7", 1, "4"),
            ("1-7", 5, "2-4,6-7"),
            ("1-7", 6, "1-3,5-7"),
            // The socket with less that is free.
            ("1-3,5-7", 2, "1,5"),
        ] {
            check(&two, free, n, want);
        }
        for (free, n, want) in [("0-3", 2, "0-1"), ("1-3", 2, "2-3"), ("1-3", 1, "1")] {
            check(&split, free, n, want);
        }
    }

    #[test]
    fn cores_are_counted_and_filled_up() {
        assert_eq!(machine(2, 2, 2).cpus_per_core(), 2);
        assert_eq!((machine(1, 2, 1).cpus_per_core(), Topology::default().cpus_per_core()), (1, 0));
        let whole = machine(1, 4, 2).whole_cores(&CpuSet::parse("0,5").unwrap());
        assert_eq!(whole.to_string(), "0-1,4-5");
    }
}
