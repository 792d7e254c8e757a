//! Below how much the node is short of something, and what of it pods do not get.

/// How much must be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// In the resource's own unit.
    Amount(u64),
    /// Of all that there is, in hundredths of a percent.
    Share(u64),
    /// The amount, or a tenth of all that there is if that is less: upstream's 100Mi of memory would hold a
    /// machine of 128 MB under pressure for ever.
    AtMostTenth(u64),
}

impl Floor {
    pub const NONE: Floor = Floor::Amount(0);

    pub(crate) fn of(self, total: u64) -> u64 {
        match self {
            Floor::Amount(amount) => amount,
            Floor::Share(share) => {
                let part = u128::from(total) * u128::from(share) / 10_000;
                u64::try_from(part).unwrap_or(u64::MAX)
            }
            Floor::AtMostTenth(amount) => amount.min(total / 10),
        }
    }
}

/// One for each resource that pods are evicted for. Images lie on the node's own disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floors {
    pub memory: Floor,
    pub disk: Floor,
    pub inodes: Floor,
    pub pids: Floor,
}

impl Floors {
    /// None is looked at.
    pub const NONE: Floors =
        Floors { memory: Floor::NONE, disk: Floor::NONE, inodes: Floor::NONE, pids: Floor::NONE };

    /// As k3s has them, but for process ids.
    pub const HARD: Floors = Floors {
        memory: Floor::AtMostTenth(100 << 20),
        disk: Floor::Share(500),
        inodes: Floor::Share(500),
        pids: Floor::Amount(256),
    };
}

/// Floors that count only once the node was below them for a while.
#[derive(Clone, Copy, Debug)]
pub struct Soft {
    pub floors: Floors,
    /// In the order of the fields of [`Floors`].
    pub grace: [std::time::Duration; 4],
    /// What pods get to end, in seconds; one that asks for less gets less.
    pub pod_grace_max_secs: i64,
}

/// What is kept for the system and for k3rs (`--system-reserved`, `--kube-reserved`), together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    pub milli_cpu: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}
