//! What the scheduler did and what waits, as Prometheus reads it, under kube-scheduler's names.

use api::Tally;
use stdx::metrics::{Text, number};

const PENDING: &str = "scheduler_pending_pods";
const ATTEMPTS: &str = "scheduler_schedule_attempts_total";

/// Where a pod waits, in upstream's words: for its turn, for something to change, for its gates. Nothing waits in a back-off here:
/// what changes wakes the queue.
const ACTIVE: &str = "active";
const UNSCHEDULABLE: &str = "unschedulable";
const GATED: &str = "gated";

/// A pass begins with so many pods.
pub(crate) fn begin(n_pending: usize, tally: &mut Tally) {
    tally.stand(PENDING, &[ACTIVE], u64::try_from(n_pending).unwrap_or(0));
    tally.stand(PENDING, &[UNSCHEDULABLE], 0);
    tally.stand(PENDING, &[GATED], 0);
}

/// A pod had its turn, and waits for its gates.
pub(crate) fn gated(tally: &mut Tally) {
    tally.move_one(PENDING, ACTIVE, Some(GATED));
}

/// A pod had its turn, and has a node or has none.
pub(crate) fn decided(profile: &str, is_placed: bool, tally: &mut Tally) {
    let result = if is_placed { "scheduled" } else { UNSCHEDULABLE };
    tally.count(ATTEMPTS, &[profile, result]);
    tally.move_one(PENDING, ACTIVE, (!is_placed).then_some(UNSCHEDULABLE));
}

/// Appends what the scheduler's driver has kept.
pub fn write_figures(kept: &Tally, text: &mut Text) {
    text.family(PENDING, "gauge", "Number of pending pods, by the queue type.");
    for ((name, labels), n) in kept.standing.iter().filter(|((name, _), _)| *name == PENDING) {
        for queue in labels {
            text.sample(name, &[("queue", queue)], number(*n), None);
        }
    }
    text.family(
        ATTEMPTS,
        "counter",
        "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.",
    );
    for ((name, labels), n) in kept.counted.iter().filter(|((name, _), _)| *name == ATTEMPTS) {
        if let [profile, result] = labels.as_slice() {
            text.sample(name, &[("profile", profile), ("result", result)], number(*n), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_counted() {
        let (mut kept, mut pass) = (Tally::default(), Tally::default());
        begin(4, &mut pass);
        gated(&mut pass);
        decided("default-scheduler", true, &mut pass);
        decided("default-scheduler", false, &mut pass);
        kept.add(pass.clone());
        kept.add(pass);
        let mut text = Text::default();
        write_figures(&kept, &mut text);
        let lines: Vec<String> =
            text.out.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                r#"scheduler_pending_pods{queue="active"} 1"#,
                r#"scheduler_pending_pods{queue="gated"} 1"#,
                r#"scheduler_pending_pods{queue="unschedulable"} 1"#,
                r#"scheduler_schedule_attempts_total{profile="default-scheduler",result="scheduled"} 2"#,
                r#"scheduler_schedule_attempts_total{profile="default-scheduler",result="unschedulable"} 2"#,
            ]
        );
    }
}
