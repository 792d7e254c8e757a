//! Completion indexes: sets written as `1,3-5`, of pods, and those that fail.

use stdx::OrdSet;

use api::Lens;

use super::{FAILED, INDEX, Run, SUCCEEDED, is_tracked, policy};
use crate::support::pods::Pod;

const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Validation bounds completions; a spoilt status must not make us count for ever.
const COUNTED_MAX: usize = 1_000_000;

/// Reads `1,3-5`; what cannot be read is left out.
pub(super) fn parse(text: &str) -> OrdSet<i64> {
    let mut set = OrdSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) {
            set.extend((first..=last).take(COUNTED_MAX));
        }
    }
    set
}

/// Writes runs of three and more as `3-5`.
pub(super) fn format(set: &OrdSet<i64>) -> String {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for index in set {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let texts = runs.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

/// The pod's completion index.
pub(super) fn of(pod: &Pod) -> Option<i64> {
    pod.tree.entry("metadata.annotations", INDEX)?.parse().ok()
}

/// How often the pod's index had failed before it, counted and ignored failures apart.
pub(super) fn failures_before(pod: &Pod) -> (i64, i64) {
    let number = |key: &str| {
        pod.tree.entry("metadata.annotations", key).and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    (number(FAILURES), number(IGNORED_FAILURES))
}

/// The annotations of a pod that replaces `failed`, which did or did not count.
pub(super) fn failure_annotations(failed: Option<(&Pod, bool)>) -> Vec<(&'static str, String)> {
    let (mut counted, mut ignored) = failed.map_or((0, 0), |(pod, _)| failures_before(pod));
    match failed {
        Some((_, true)) => counted += 1,
        Some((_, false)) => ignored += 1,
        None => {}
    }
    let mut annotations = vec![(FAILURES, counted.to_string())];
    if ignored > 0 {
        annotations.push((IGNORED_FAILURES, ignored.to_string()));
    }
    annotations
}

impl Run<'_> {
    /// Books the indexes that succeeded or, with a limit per index, failed for good.
    pub(super) fn note_indexes(&mut self) {
        let completions = self.completions().unwrap_or(0);
        let valid = |pod: &Pod| of(pod).filter(|index| (0..completions).contains(index));
        let succeeded: Vec<i64> = self.newly(SUCCEEDED).filter_map(valid).collect();
        self.succeeded_indexes.extend(succeeded);
        let Some(limit) = self.limit_per_index() else { return };
        let failed: Vec<i64> = self
            .newly(FAILED)
            .filter(|pod| {
                let outcome = policy::outcome(self.tree, pod);
                outcome.fails_index || (outcome.counts && failures_before(pod).0 >= limit)
            })
            .filter_map(valid)
            .collect();
        self.failed_indexes.extend(failed);
        // Of the other failed pods the one that failed last stays, as the record of its index.
        let active: OrdSet<i64> = self.active().filter_map(of).collect();
        for (idx, pod) in self.pods.iter().enumerate() {
            let Some(index) = valid(pod).filter(|_| self.pod_failed(pod) && is_tracked(pod)) else {
                continue;
            };
            if self.succeeded_indexes.contains(&index)
                || self.failed_indexes.contains(&index)
                || active.contains(&index)
            {
                continue;
            }
            let rank = |pod: &Pod| {
                let (counted, ignored) = failures_before(pod);
                counted + ignored
            };
            let last = self.last_failed.entry(index).or_insert(idx);
            if rank(pod) > rank(&self.pods[*last]) {
                *last = idx;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_as_text() {
        for (text, back) in [
            ("", ""),
            ("0", "0"),
            ("1,3-5,7", "1,3-5,7"),
            ("3,4,5", "3-5"),
            ("1,2", "1,2"),
            ("x,-,2", "2"),
        ] {
            assert_eq!(format(&parse(text)), back, "{text}");
        }
    }
}
