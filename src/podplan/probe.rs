//! Probe bookkeeping: when the next is due, and what the answers so far add up to.

use std::time::Duration;

use stdx::time::Mono;

use super::handler::Probe;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

    /// As events name it.
    pub fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }

    /// As metrics and kill messages name it.
    pub fn lower(self) -> &'static str {
        match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Liveness => "liveness",
            ProbeKind::Readiness => "readiness",
        }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    Success,
    /// Counts as success, with an event.
    Warning(String),
    Failure(String),
    /// It could not be asked; counts for nothing.
    Unknown(String),
}

/// The state of one probe of one running container.
#[derive(Clone, Debug)]
pub struct Prober {
    pub next: Mono,
    pub in_flight: bool,
    /// The verdict so far: readiness and startup begin false, liveness true.
    pub verdict: bool,
    /// Answers of one kind in a row.
    run: u32,
    last_success: Option<bool>,
    /// Nothing more to ask: startup that succeeded, or a container that is being restarted for it.
    pub finished: bool,
}

impl Prober {
    /// A probe of a container that started at `started`. `adopted`: the container ran before this
    /// process did, and its status says that this probe had succeeded; it keeps that.
    pub fn new(kind: ProbeKind, probe: &Probe, started: Mono, now: Mono, adopted: bool) -> Prober {
        let due = started + probe.initial_delay;
        Prober {
            next: if due > now { due } else { now },
            in_flight: false,
            verdict: kind == ProbeKind::Liveness || adopted,
            run: 0,
            last_success: None,
            finished: kind == ProbeKind::Startup && adopted,
        }
    }

    /// Takes an answer in; true if the verdict changed (or a failing verdict was just reached).
    pub fn answer(
        &mut self,
        kind: ProbeKind,
        probe: &Probe,
        outcome: &ProbeOutcome,
        now: Mono,
    ) -> bool {
        self.in_flight = false;
        self.next = now + probe.period;
        let success = match outcome {
            ProbeOutcome::Success | ProbeOutcome::Warning(_) => true,
            ProbeOutcome::Failure(_) => false,
            ProbeOutcome::Unknown(_) => return false,
        };
        self.run = if self.last_success == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last_success = Some(success);
        let threshold = if success { probe.success_threshold } else { probe.failure_threshold };
        if self.run < threshold {
            return false;
        }
        let failed_now = !success && kind != ProbeKind::Readiness;
        let changed = self.verdict != success || failed_now;
        self.verdict = success;
        if (kind == ProbeKind::Startup && success) || failed_now {
            self.finished = true;
        }
        changed
    }

    /// The container is unhealthy and must go.
    pub fn condemned(&self, kind: ProbeKind) -> bool {
        kind != ProbeKind::Readiness && self.finished && !self.verdict
    }

    /// Asked again soon, for instance because the startup probe has just let the others begin.
    pub(crate) fn due_at(&self, now: Mono) -> Option<Duration> {
        (!self.finished && !self.in_flight).then(|| self.next.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn probe(success: u32, failure: u32) -> Probe {
        Probe::read(&json!({"tcpSocket": {"port": 1}, "successThreshold": success, "failureThreshold": failure}))
            .unwrap()
    }

    #[test]
    fn thresholds_decide() {
        let verdicts = |kind, probe: &Probe, answers: &str| -> String {
            let mut prober = Prober::new(kind, probe, Mono(0), Mono(0), false);
            answers
                .chars()
                .map(|answer| {
                    let outcome = match answer {
                        's' => ProbeOutcome::Success,
                        'f' => ProbeOutcome::Failure(String::new()),
                        _ => ProbeOutcome::Unknown(String::new()),
                    };
                    prober.answer(kind, probe, &outcome, Mono(0));
                    match (prober.condemned(kind), prober.verdict) {
                        (true, _) => 'X',
                        (_, true) => '+',
                        (_, false) => '-',
                    }
                })
                .collect()
        };
        use ProbeKind::*;
        assert_eq!(verdicts(Readiness, &probe(1, 3), "fsffsfffs"), "-++++++-+");
        assert_eq!(verdicts(Readiness, &probe(2, 1), "ssfsus"), "-+---+");
        assert_eq!(verdicts(Liveness, &probe(1, 3), "sffsfff"), "++++++X");
        assert_eq!(verdicts(Startup, &probe(1, 3), "ffs"), "--+");
        assert_eq!(verdicts(Startup, &probe(1, 2), "ff"), "-X");
    }

    #[test]
    fn the_first_waits_for_its_delay() {
        let mut probe = probe(1, 1);
        probe.initial_delay = Duration::from_secs(5);
        let start = Mono(1_000_000_000);
        let prober = Prober::new(ProbeKind::Liveness, &probe, start, start, false);
        assert_eq!(prober.due_at(start), Some(Duration::from_secs(5)));
        let late = start + Duration::from_secs(60);
        let prober = Prober::new(ProbeKind::Liveness, &probe, start, late, true);
        assert_eq!(prober.due_at(late), Some(Duration::ZERO));
    }
}
