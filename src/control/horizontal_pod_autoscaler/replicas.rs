//! How many replicas a metric asks for: upstream's replica calculator.

use std::time::Duration;

use crate::tuning::Autoscaler;
use api::{Lens, Object, Quantity, Value};
use stdx::OrdMap;
use stdx::time::{Now, Wall};

use crate::support::conditions;

/// What one pod was measured at. Values are in thousandths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measure {
    pub(super) value: i64,
    pub(super) at: Wall,
    pub(super) window: Duration,
}

/// By the pod's name.
pub(super) type Measures = OrdMap<String, Measure>;

/// What is wanted of each pod.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// Thousandths of a value. The resource, if it is one.
    Average(i64, &'a str),
    /// Percent of what the pods, or their containers of a name, request of a resource.
    Utilization { percent: i64, resource: &'a str, container: &'a str },
}

/// What a metric asks for, and what it is now, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i64,
    pub(super) usage: i64,
    pub(super) utilization: Option<i64>,
}

/// Pods by what their measures are good for.
#[derive(Default)]
struct Groups {
    n_ready: usize,
    unready: Vec<String>,
    missing: Vec<String>,
}

/// What pods ask for that are measured each.
///
/// # Errors
/// Why nothing can be said.
pub(super) fn of_pods(
    pods: &[Object],
    mut measures: Measures,
    current: i64,
    target: Target<'_>,
    (now, by): (Now, Autoscaler),
) -> Result<Proposal, String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let groups = group(pods, &mut measures, target, (now, by));
    if measures.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let requests = match target {
        Target::Utilization { resource, container, .. } => requests(pods, resource, container)?,
        Target::Average(..) => OrdMap::new(),
    };
    let first = ratio(&measures, &requests, target)?;
    let unchanged =
        Proposal { replicas: current, usage: first.usage, utilization: first.utilization };
    let asks = |ratio: f64, n: usize| Proposal { replicas: ceil(ratio * count(n)), ..unchanged };
    let has_unready = !groups.unready.is_empty() && first.ratio > 1.0;
    if !has_unready && groups.missing.is_empty() {
        return Ok(match is_near(first.ratio, by) {
            true => unchanged,
            false => asks(first.ratio, groups.n_ready),
        });
    }
    // Down, those that are not measured use all that they may; up, they use nothing.
    let assume = |name: &String| match target {
        _ if first.ratio > 1.0 => 0,
        Target::Average(wanted, _) => wanted,
        Target::Utilization { percent, .. } => {
            let requested = i128::from(requests.get(name).copied().unwrap_or(0));
            clamp(requested * i128::from(percent.max(100)) / 100)
        }
    };
    let moves = first.ratio.partial_cmp(&1.0).is_some_and(std::cmp::Ordering::is_ne);
    let missing = groups.missing.iter().filter(|_| moves);
    let unready = groups.unready.iter().filter(|_| has_unready);
    for name in missing.chain(unready) {
        let measure = Measure { value: assume(name), at: now.wall, window: Duration::ZERO };
        measures.insert(name.clone(), measure);
    }
    let again = ratio(&measures, &requests, target)?.ratio;
    let turned = (first.ratio < 1.0 && again > 1.0) || (first.ratio > 1.0 && again < 1.0);
    if is_near(again, by) || turned {
        return Ok(unchanged);
    }
    let asked = asks(again, measures.len());
    let turned =
        (again < 1.0 && asked.replicas > current) || (again > 1.0 && asked.replicas < current);
    Ok(if turned { unchanged } else { asked })
}

/// What a value of something else asks for, shared by all pods that are ready.
///
/// # Errors
/// If there are no pods.
pub(super) fn of_value(
    pods: &[Object],
    usage: i64,
    (current, by): (i64, Autoscaler),
    wanted: i64,
) -> Result<Proposal, String> {
    let ratio = double(usage) / double(wanted);
    let replicas = match current {
        // Whether there are to be any depends on the value alone.
        0 => ceil(ratio),
        _ if is_near(ratio, by) => current,
        _ if pods.is_empty() => {
            return Err("unable to calculate ready pods: no pods returned by selector while calculating replica count".into());
        }
        _ => {
            let is_ready = |pod: &&Object| {
                let tree = pod.tree();
                tree.str("status.phase") == "Running" && is_true(&tree, "Ready")
            };
            ceil(ratio * count(pods.iter().filter(is_ready).count()))
        }
    };
    Ok(Proposal { replicas, usage, utilization: None })
}

/// What a value of something else asks for of which each pod has its part.
pub(super) fn of_share(usage: i64, (current, by): (i64, Autoscaler), wanted: i64) -> Proposal {
    let ratio = double(usage) / (double(wanted) * double(current));
    let replicas = match is_near(ratio, by) {
        true => current,
        false => ceil(double(usage) / double(wanted)),
    };
    Proposal { replicas, usage: ceil64(double(usage) / double(current)), utilization: None }
}

/// Takes out of the measures what does not count.
fn group(
    pods: &[Object],
    measures: &mut Measures,
    target: Target<'_>,
    (now, by): (Now, Autoscaler),
) -> Groups {
    let resource = match target {
        Target::Average(_, resource) | Target::Utilization { resource, .. } => resource,
    };
    let mut groups = Groups::default();
    for pod in pods {
        let name = pod.name();
        let phase = api::field::text(pod, "status.phase");
        if pod.deleting() || phase == "Failed" {
            measures.remove(name);
            continue;
        }
        let Some(measure) = measures.get(name).filter(|_| phase != "Pending") else {
            measures.remove(name);
            let group = if phase == "Pending" { &mut groups.unready } else { &mut groups.missing };
            group.push(name.to_owned());
            continue;
        };
        if resource == "cpu" && is_unready(&pod.tree(), measure, now, by) {
            measures.remove(name);
            groups.unready.push(name.to_owned());
            continue;
        }
        groups.n_ready += 1;
    }
    groups
}

/// Whether what a pod's processors did says nothing about what it will do.
fn is_unready(pod: &Value, measure: &Measure, now: Now, by: Autoscaler) -> bool {
    let started = api::time::parse(pod.str("status.startTime"));
    let (Some(ready), Some(started)) = (conditions::find(pod, "Ready"), started) else {
        return true;
    };
    let changed = api::time::parse(ready.str("lastTransitionTime")).unwrap_or(Wall(0));
    let is_false = ready.str("status") == "False";
    match started + by.cpu_initialization > now.wall {
        true => is_false || measure.at < changed + measure.window,
        false => is_false && started + by.initial_readiness > changed,
    }
}

fn is_true(tree: &Value, condition: &str) -> bool {
    conditions::find(tree, condition).is_some_and(|found| found.str("status") == "True")
}

/// What each pod requests of a resource, in thousandths.
fn requests(
    pods: &[Object],
    resource: &str,
    container: &str,
) -> Result<OrdMap<String, i64>, String> {
    let mut requests = OrdMap::new();
    for pod in pods {
        let tree = pod.tree();
        let sidecars = tree.list("spec.initContainers").iter();
        let sidecars = sidecars.filter(|it| it.str("restartPolicy") == "Always");
        let mut sum = 0i64;
        for it in tree.list("spec.containers").iter().chain(sidecars) {
            if !container.is_empty() && it.str("name") != container {
                continue;
            }
            let request = Quantity::from_tree(it.at("resources.requests").at(resource));
            let Some(request) = request else {
                return Err(format!(
                    "missing request for {resource} in container {} of Pod {}",
                    it.str("name"),
                    pod.name()
                ));
            };
            sum = sum.saturating_add(request.milli());
        }
        requests.insert(pod.name().to_owned(), sum);
    }
    Ok(requests)
}

struct Ratio {
    ratio: f64,
    usage: i64,
    utilization: Option<i64>,
}

fn ratio(
    measures: &Measures,
    requests: &OrdMap<String, i64>,
    target: Target<'_>,
) -> Result<Ratio, String> {
    let total =
        |measures: &mut dyn Iterator<Item = i64>| -> i128 { measures.map(i128::from).sum() };
    match target {
        Target::Average(wanted, _) => {
            let sum = total(&mut measures.values().map(|it| it.value));
            let usage = clamp(sum / i128::try_from(measures.len().max(1)).unwrap_or(1));
            Ok(Ratio { ratio: double(usage) / double(wanted), usage, utilization: None })
        }
        Target::Utilization { percent, .. } => {
            let known =
                || measures.iter().filter_map(|(name, it)| Some((it.value, requests.get(name)?)));
            let used = total(&mut known().map(|(value, _)| value));
            let requested = total(&mut known().map(|(_, request)| *request));
            if requested == 0 {
                return Err("no metrics returned matched known pods".into());
            }
            let utilization = clamp(used * 100 / requested);
            let usage = clamp(used / i128::try_from(known().count().max(1)).unwrap_or(1));
            let ratio = double(utilization) / double(percent);
            Ok(Ratio { ratio, usage, utilization: Some(utilization) })
        }
    }
}

fn is_near(ratio: f64, by: Autoscaler) -> bool {
    (1.0 - ratio).abs() <= by.tolerance
}

fn clamp(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

#[expect(clippy::cast_precision_loss, reason = "upstream's ratios are doubles")]
pub(super) fn double(n: i64) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "upstream's ratios are doubles")]
fn count(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_possible_truncation, reason = "a conversion that saturates")]
pub(super) fn ceil64(n: f64) -> i64 {
    n.ceil() as i64
}

#[expect(clippy::cast_possible_truncation, reason = "a conversion that saturates")]
pub(super) fn floor64(n: f64) -> i64 {
    n.trunc() as i64
}

/// Replicas are 32 bits wide.
fn ceil(n: f64) -> i64 {
    ceil64(n).clamp(i64::from(i32::MIN), i64::from(i32::MAX))
}
