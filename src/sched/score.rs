//! Scores: which of the nodes that would do is best; upstream's default plug-ins and weights.

use api::{Lens, Value};

use crate::affinity;
use crate::filter::{World, in_domain, spread_counts, untolerated};
use crate::node::Node;
use crate::pod::Pod;

const MAX: i64 = 100;
/// Requests assumed for pods that ask for nothing, so that they too spread.
const DEFAULT_MILLI_CPU: i128 = 100;
const DEFAULT_MEMORY_BYTES: i128 = 200 << 20;

/// The best of `nodes` (not empty); the first in name order wins a tie, so that a view decides alone.
pub(crate) fn best<'a>(pod: &Pod, nodes: &[&'a Node], world: &World<'_>) -> Option<&'a Node> {
    if nodes.len() < 2 {
        return nodes.first().copied();
    }
    let mut totals = vec![0i64; nodes.len()];
    let mut add = |weight: i64, scores: Vec<i64>| {
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += weight * score;
        }
    };
    add(1, nodes.iter().map(|node| least_allocated(pod, node)).collect());
    add(1, nodes.iter().map(|node| balanced(pod, node)).collect());
    add(1, nodes.iter().map(|node| image_locality(pod, node, nodes.len())).collect());
    add(
        3,
        normalise(
            nodes
                .iter()
                .map(|node| count(untolerated(&pod.tree, node, &["PreferNoSchedule"])))
                .collect(),
            true,
        ),
    );
    add(2, normalise(nodes.iter().map(|node| preferred_nodes(pod, node)).collect(), false));
    add(2, normalise(nodes.iter().map(|node| soft_spread(pod, node, world)).collect(), true));
    add(2, normalise(nodes.iter().map(|node| preferred_pods(pod, node, world)).collect(), false));
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

fn least_allocated(pod: &Pod, node: &Node) -> i64 {
    let free = ["cpu", "memory"].map(|name| {
        node.used_permille(name, asked(pod, name)).map_or(0, |used| (1000 - used).max(0) / 10)
    });
    (free[0] + free[1]) / 2
}

/// Full marks when cpu and memory are used to the same share.
fn balanced(pod: &Pod, node: &Node) -> i64 {
    let used = ["cpu", "memory"]
        .map(|name| node.used_permille(name, asked(pod, name)).unwrap_or(0).min(1000));
    MAX - (used[0] - used[1]).abs() / 20
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

fn preferred_nodes(pod: &Pod, node: &Node) -> i64 {
    let preferred =
        pod.tree.list("spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution");
    let held = preferred.iter().filter(|term| affinity::term_matches(term.at("preference"), node));
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
    score
}
