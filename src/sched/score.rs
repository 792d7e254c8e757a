//! Scores: which of the nodes that would do is best; upstream's default plug-ins and weights.

use api::{Lens, Value};
use stdx::OrdMap;

use crate::affinity;
use crate::filter::{World, in_domain, spread_counts, untolerated};
use crate::node::Node;
use crate::pod::Pod;
use crate::profile::{Plugin, Profile, Strategy};

const MAX: i64 = 100;
/// Requests assumed for pods that ask for nothing, so that they too spread.
const DEFAULT_MILLI_CPU: i128 = 100;
const DEFAULT_MEMORY_BYTES: i128 = 200 << 20;

/// The best of `nodes` (not empty); the first in name order wins a tie, so that a view decides alone. `extra`
/// is what others say of nodes.
pub(crate) fn best<'a>(
    pod: &Pod,
    nodes: &[&'a Node],
    world: &World<'_>,
    extra: &OrdMap<String, i64>,
) -> Option<&'a Node> {
    if nodes.len() < 2 {
        return nodes.first().copied();
    }
    let mut totals = vec![0i64; nodes.len()];
    let profile = world.profile;
    // What a plug-in says of a node, and how that becomes a score: it is one, more is better, or less is.
    type Says<'s> = &'s dyn Fn(&Node) -> i64;
    let mut add = |plugin: Plugin, reverse: Option<bool>, says: Says<'_>| {
        let weight = profile.weight(plugin);
        if weight == 0 {
            return;
        }
        let mut scores: Vec<i64> = nodes.iter().map(|node| says(node)).collect();
        if let Some(reverse) = reverse {
            scores = normalise(scores, reverse);
        }
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += weight * score;
        }
    };
    add(Plugin::NodeResourcesFit, None, &|node| allocated(pod, node, profile));
    add(Plugin::NodeResourcesBalancedAllocation, None, &|node| balanced(pod, node, profile));
    add(Plugin::ImageLocality, None, &|node| image_locality(pod, node, nodes.len()));
    add(Plugin::TaintToleration, Some(true), &|node| {
        count(untolerated(&pod.tree, node, &["PreferNoSchedule"]))
    });
    add(Plugin::NodeAffinity, Some(false), &|node| preferred_nodes(pod, node, profile));
    add(Plugin::PodTopologySpread, Some(true), &|node| soft_spread(pod, node, world));
    add(Plugin::InterPodAffinity, Some(false), &|node| preferred_pods(pod, node, world));
    if !extra.is_empty() {
        for (total, node) in totals.iter_mut().zip(nodes) {
            *total += extra.get(&node.name).copied().unwrap_or(0);
        }
    }
    let best = totals.iter().copied().max()?;
    totals.iter().position(|total| *total == best).map(|idx| nodes[idx])
}

fn count<'a>(items: impl Iterator<Item = &'a Value>) -> i64 {
    i64::try_from(items.count()).unwrap_or(i64::MAX)
}

/// Brings scores to 0..=100, the largest first, or the smallest if `reverse`.
fn normalise(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let (low, high) =
        (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
    let scale = |score: i64| match high - low {
        0 => {
            if reverse {
                MAX
            } else {
                0
            }
        }
        range => {
            let score = (score - low) * MAX / range;
            if reverse { MAX - score } else { score }
        }
    };
    scores.into_iter().map(scale).collect()
}

fn asked(pod: &Pod, name: &str) -> i128 {
    match (name, pod.requests.get(name).copied().unwrap_or(0)) {
        ("cpu", 0) => DEFAULT_MILLI_CPU,
        ("memory", 0) => DEFAULT_MEMORY_BYTES,
        (_, amount) => amount,
    }
}

/// By how much of what there is was given: the least, the most, or by a curve.
fn allocated(pod: &Pod, node: &Node, profile: &Profile) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    let mut add = |name: &str, weight: i64| {
        // What a pod does not ask for, of what is not everywhere, says nothing.
        if !matches!(name, "cpu" | "memory") && asked(pod, name) == 0 {
            return;
        }
        let used = node.used_permille(name, asked(pod, name));
        let score = match &profile.strategy {
            Strategy::Least => used.map_or(0, |used| (1000 - used).max(0) / 10),
            Strategy::Most => used.map_or(0, |used| used.min(1000) / 10),
            Strategy::Ratio(shape) => on_curve(shape, used.map_or(100, |used| used.min(1000) / 10)),
        };
        // As upstream: on a curve, nothing is no vote.
        if score > 0 || !matches!(profile.strategy, Strategy::Ratio(_)) {
            sum += weight * score;
            weights += weight;
        }
    };
    match profile.fit_resources.is_empty() {
        true => ["cpu", "memory"].into_iter().for_each(|name| add(name, 1)),
        false => profile.fit_resources.iter().for_each(|(name, weight)| add(name, *weight)),
    }
    sum / weights.max(1)
}

/// The height of a broken line at `x`.
fn on_curve(shape: &[(i64, i64)], x: i64) -> i64 {
    let Some(after) = shape.iter().position(|(at, _)| x <= *at) else {
        return shape.last().map_or(0, |(_, score)| *score);
    };
    let (x1, y1) = shape[after];
    let Some((x0, y0)) = after.checked_sub(1).map(|before| shape[before]) else { return y1 };
    y0 + (y1 - y0) * (x - x0) / (x1 - x0).max(1)
}

/// Full marks when all (cpu and memory, if nothing is said) are used to the same share.
fn balanced(pod: &Pod, node: &Node, profile: &Profile) -> i64 {
    let share = |name: &str| node.used_permille(name, asked(pod, name)).unwrap_or(0).min(1000);
    if profile.balanced.is_empty() {
        return MAX - (share("cpu") - share("memory")).abs() / 20;
    }
    let shares = profile
        .balanced
        .iter()
        .filter(|name| matches!(name.as_str(), "cpu" | "memory") || asked(pod, name) != 0);
    let shares: Vec<i64> = shares.map(|name| share(name)).collect();
    let n = i64::try_from(shares.len()).unwrap_or(1).max(1);
    let mean = shares.iter().sum::<i64>() / n;
    let variance = shares.iter().map(|share| (share - mean).pow(2)).sum::<i64>() / n;
    MAX - variance.isqrt() / 10
}

fn image_locality(pod: &Pod, node: &Node, n_nodes: usize) -> i64 {
    const MIN_BYTES: i64 = 23 << 20;
    const MAX_BYTES: i64 = 1000 << 20;
    let has = |image: &str| {
        let known = |name: &Value| {
            name.as_str().is_some_and(|name| name == image || name.ends_with(&format!("/{image}")))
        };
        node.tree.list("status.images").iter().find(|entry| entry.list("names").iter().any(known))
    };
    let present =
        pod.tree.list("spec.containers").iter().filter_map(|container| has(container.str("image")));
    let bytes: i64 =
        present.map(|entry| entry.int("sizeBytes").unwrap_or(0)).fold(0, i64::saturating_add);
    let bytes = bytes / i64::try_from(n_nodes).unwrap_or(1).max(1);
    (bytes.clamp(MIN_BYTES, MAX_BYTES) - MIN_BYTES) * MAX / (MAX_BYTES - MIN_BYTES)
}

fn preferred_nodes(pod: &Pod, node: &Node, profile: &Profile) -> i64 {
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let preferred = pod.tree.at("spec.affinity.nodeAffinity").list(PREFERRED);
    let preferred = preferred.iter().chain(profile.added_affinity.list(PREFERRED));
    let held = preferred.filter(|term| affinity::term_matches(term.at("preference"), node));
    held.map(|term| term.int("weight").unwrap_or(0)).sum()
}

/// How crowded the node's domains are, over the soft spread constraints.
fn soft_spread(pod: &Pod, node: &Node, world: &World<'_>) -> i64 {
    let constraints = pod
        .tree
        .list("spec.topologySpreadConstraints")
        .iter()
        .filter(|c| c.str("whenUnsatisfiable") == "ScheduleAnyway");
    constraints
        .map(|constraint| {
            let counts = spread_counts(pod, constraint, world);
            match node.label(constraint.str("topologyKey")) {
                Some(domain) => counts.get(domain).copied().unwrap_or(0),
                None => counts.values().copied().max().unwrap_or(0) + 1,
            }
        })
        .sum()
}

fn preferred_pods(pod: &Pod, node: &Node, world: &World<'_>) -> i64 {
    let mut score = 0;
    for (which, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
        for (weight, term) in affinity::preferred_terms(pod, which) {
            let Some(domain) = node.label(&term.topology_key) else { continue };
            let n = in_domain(&term, domain, world)
                .filter(|other| term.matches(other, world.namespace_labels))
                .count();
            score += sign * weight * i64::try_from(n).unwrap_or(0);
        }
    }
    if world.profile.hard_affinity_weight > 0 {
        score += world.profile.hard_affinity_weight * wanted_by(pod, node, world);
    }
    score
}

/// How many required affinities of pods in the node's domains name this pod.
fn wanted_by(pod: &Pod, node: &Node, world: &World<'_>) -> i64 {
    let mut n = 0;
    for other_node in world.nodes.values() {
        for other in &other_node.pods {
            for term in affinity::required_terms(other, "podAffinity") {
                let domain = node.label(&term.topology_key);
                let same_domain =
                    domain.is_some() && domain == other_node.label(&term.topology_key);
                n += i64::from(same_domain && term.matches(pod, world.namespace_labels));
            }
        }
    }
    n
}
