//! How fast a recommendation may be followed: stabilization, and the rates of `spec.behavior`.

use std::time::Duration;

use api::{Lens, Value};
use stdx::time::Mono;

use super::replicas::{ceil64, double, floor64};

/// Recommendations, or changes, that are remembered: an hour of them.
const REMEMBERED_MAX: usize = 256;

/// What is remembered of one autoscaler, as long as the process lives, as upstream.
#[derive(Debug, Default)]
pub(super) struct History {
    /// What was recommended when, before it was stabilized.
    recommendations: Vec<(Mono, i64)>,
    /// How many replicas were added, and taken away, when.
    ups: Vec<(Mono, i64)>,
    downs: Vec<(Mono, i64)>,
}

/// The number of replicas that there are, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) current: i64,
    pub(super) min: i64,
    pub(super) max: i64,
}

/// A reason and a message of a condition.
pub(super) type Why = (&'static str, &'static str);

/// What becomes of a recommendation.
#[derive(Debug, PartialEq)]
pub(super) struct Settled {
    pub(super) replicas: i64,
    pub(super) able: Why,
    pub(super) is_limited: bool,
    pub(super) limited: Why,
}

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const UP_LIMIT: Why =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Why = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_MANY: Why =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Why =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");

fn age(now: Mono, then: Mono) -> Duration {
    now.since(then)
}

fn secs(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

impl History {
    /// What there was when it was first seen counts as recommended then.
    pub(super) fn begin(&mut self, current: i64, now: Mono) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    /// Bounds, stabilizes and slows down what the metrics ask for. `behavior` is null if there is none.
    pub(super) fn settle(
        &mut self,
        behavior: &Value,
        bounds: Bounds,
        desired: i64,
        (now, down_window_secs): (Mono, i64),
    ) -> Settled {
        let (stable, why) = match behavior.is_null() {
            true => (self.highest(desired, now, down_window_secs), DOWN_STABILIZED),
            false => self.stabilize(behavior, bounds.current, desired, (now, down_window_secs)),
        };
        let (replicas, limited) = match behavior.is_null() {
            true => within(bounds, stable),
            false => self.slowed(behavior, bounds, stable, now),
        };
        let able = if stable == desired { READY } else { why };
        Settled { replicas, able, is_limited: replicas != stable, limited }
    }

    /// The highest recommendation of the last minutes.
    fn highest(&mut self, desired: i64, now: Mono, down_window_secs: i64) -> i64 {
        let is_old = |then: Mono| age(now, then) > secs(down_window_secs);
        let recent = self.recommendations.iter().filter(|(then, _)| !is_old(*then));
        let highest = recent.map(|(_, n)| *n).fold(desired, i64::max);
        remember(&mut self.recommendations, (now, desired), &is_old);
        highest
    }

    fn stabilize(
        &mut self,
        behavior: &Value,
        current: i64,
        desired: i64,
        (now, down_window_secs): (Mono, i64),
    ) -> (i64, Why) {
        let window = |rules: &str, default| {
            secs(behavior.at(rules).int("stabilizationWindowSeconds").unwrap_or(default))
        };
        let (up, down) = (window("scaleUp", 0), window("scaleDown", down_window_secs));
        let within = |window: Duration| {
            let recent = self.recommendations.iter();
            recent.filter(move |(then, _)| age(now, *then) < window).map(|(_, n)| *n)
        };
        let (lowest, highest) =
            (within(up).fold(desired, i64::min), within(down).fold(desired, i64::max));
        let is_old = |then: Mono| age(now, then) > up && age(now, then) > down;
        remember(&mut self.recommendations, (now, desired), &is_old);
        let why = if desired >= current { UP_STABILIZED } else { DOWN_STABILIZED };
        (current.max(lowest).min(highest), why)
    }

    fn slowed(&self, behavior: &Value, bounds: Bounds, desired: i64, now: Mono) -> (i64, Why) {
        let Bounds { current, min, max } = bounds;
        if desired > current {
            let limit = self.limit(behavior.at("scaleUp"), true, current, now).max(current);
            let (most, why) = if max > limit { (limit, UP_LIMIT) } else { (max, TOO_MANY) };
            return if desired > most { (most, why) } else { (desired, WITHIN) };
        }
        if desired < current {
            let limit = self.limit(behavior.at("scaleDown"), false, current, now).min(current);
            let (least, why) = if min < limit { (limit, DOWN_LIMIT) } else { (min, TOO_FEW) };
            return if desired < least { (least, why) } else { (desired, WITHIN) };
        }
        (desired, WITHIN)
    }

    /// How far rules let the replicas go in one direction now.
    fn limit(&self, rules: &Value, up: bool, current: i64, now: Mono) -> i64 {
        let select = rules.str("selectPolicy");
        if select == "Disabled" {
            return current;
        }
        let proposed = rules.list("policies").iter().map(|policy| {
            let period = secs(policy.int("periodSeconds").unwrap_or(0));
            let changed = |changes: &[(Mono, i64)]| -> i64 {
                let recent = changes.iter().filter(|(then, _)| age(now, *then) < period);
                recent.map(|(_, n)| *n).sum()
            };
            let start = current - changed(&self.ups) + changed(&self.downs);
            let value = policy.int("value").unwrap_or(0);
            match (policy.str("type"), up) {
                ("Percent", true) => percent(start, value, true),
                ("Percent", false) => percent(start, value, false),
                (_, true) => start + value,
                (_, false) => start - value,
            }
        });
        // The smallest change is the lowest limit up, and the highest down.
        let lowest = (select == "Min") == up;
        match lowest {
            true => proposed.min().unwrap_or(i64::MAX),
            false => proposed.max().unwrap_or(i64::MIN),
        }
    }

    /// Notes a change that was made, for the rates of a `behavior`.
    pub(super) fn changed(&mut self, behavior: &Value, from: i64, to: i64, now: Mono) {
        if behavior.is_null() {
            return;
        }
        let (rules, changes) = match to > from {
            true => ("scaleUp", &mut self.ups),
            false => ("scaleDown", &mut self.downs),
        };
        let periods = behavior.at(rules).list("policies").iter();
        let longest = periods.filter_map(|policy| policy.int("periodSeconds")).max().unwrap_or(0);
        let is_old = |then: Mono| age(now, then) > secs(longest);
        remember(changes, (now, (to - from).abs()), &is_old);
    }
}

/// Forgets what is old, and remembers something new.
fn remember(all: &mut Vec<(Mono, i64)>, new: (Mono, i64), is_old: &dyn Fn(Mono) -> bool) {
    all.retain(|(then, _)| !is_old(*then));
    if all.len() >= REMEMBERED_MAX {
        all.remove(0);
    }
    all.push(new);
}

/// A part of so many replicas, in the doubles of upstream: up to the next whole number, or down towards zero.
fn percent(n: i64, percent: i64, up: bool) -> i64 {
    match up {
        true => ceil64(double(n) * (1.0 + double(percent) / 100.0)),
        false => floor64(double(n) * (1.0 - double(percent) / 100.0)),
    }
}

/// Without `behavior`: at most twice as many, or four.
fn within(bounds: Bounds, desired: i64) -> (i64, Why) {
    let Bounds { current, min, max } = bounds;
    let limit = current.saturating_mul(2).max(4);
    let (most, why) = if max > limit { (limit, UP_LIMIT) } else { (max, TOO_MANY) };
    match desired {
        desired if desired < min => (min, TOO_FEW),
        desired if desired > most => (most, why),
        desired => (desired, WITHIN),
    }
}
