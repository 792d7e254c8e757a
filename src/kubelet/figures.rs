//! What the kubelet has done, for `/metrics`: how often, how long it took, and how it ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stdx::metrics::{Histogram, Text, number};
use stdx::time::Mono;
use stdx::{OrdMap, Result};

use podplan::{ProbeKind, ProbeOutcome};

/// Upper bounds in milliseconds of what takes a moment, and of how long pods take to run.
const MOMENT_MS: &[u32] = &[5, 25, 100, 500, 2500, 10_000, 60_000];
const START_MS: &[u32] = &[500, 1000, 2000, 3000, 5000, 10_000, 30_000, 60_000, 120_000, 600_000];

/// What the runtime is asked for, by the names of CRI's calls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    RunSandbox,
    StopSandbox,
    RemoveSandbox,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    PullImage,
}

const OPERATIONS: [&str; 8] = [
    "run_podsandbox",
    "stop_podsandbox",
    "remove_podsandbox",
    "create_container",
    "start_container",
    "stop_container",
    "remove_container",
    "pull_image",
];

#[derive(Debug)]
pub(crate) struct Figures {
    operations: [Done; 8],
    /// From the pod's first look to its first running container.
    pub(crate) pod_start: Histogram,
    /// One look of a worker at its pod.
    pub(crate) worker: Histogram,
    /// What the runtime reports instead of being listed.
    pub(crate) events: Histogram,
    /// By pod, container and kind.
    probes: Mutex<OrdMap<(String, String, ProbeKind), [u64; 3]>>,
    evictions: Mutex<OrdMap<&'static str, u64>>,
    /// What was last told of claims' volumes, and when.
    pub(crate) claims: rt::lock::Mutex<Option<(Mono, Arc<str>)>>,
}

#[derive(Debug)]
struct Done {
    took: Histogram,
    failed: AtomicU64,
}

impl Default for Figures {
    fn default() -> Figures {
        let done = |_| Done { took: Histogram::new(MOMENT_MS), failed: AtomicU64::new(0) };
        Figures {
            operations: std::array::from_fn(done),
            pod_start: Histogram::new(START_MS),
            worker: Histogram::new(MOMENT_MS),
            events: Histogram::new(MOMENT_MS),
            probes: Mutex::default(),
            evictions: Mutex::default(),
            claims: rt::lock::Mutex::default(),
        }
    }
}

impl Figures {
    /// Does what the runtime is asked for, and counts it.
    ///
    /// # Errors
    /// Those of the work.
    pub(crate) async fn timed<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let begun = rt::now().mono;
        let done = work.await;
        self.count(operation, rt::now().mono.since(begun), done.is_ok());
        done
    }

    pub(crate) fn count(&self, operation: Operation, took: Duration, succeeded: bool) {
        let of = &self.operations[operation as usize];
        of.took.observe(took);
        if !succeeded {
            of.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a probe. Those of pods that are gone, by what `is_here` says of their uids, are forgotten.
    pub(crate) fn probed(
        &self,
        is_here: impl Fn(&str) -> bool,
        (uid, container): (&str, &str),
        kind: ProbeKind,
        outcome: &ProbeOutcome,
    ) {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (uid.to_owned(), container.to_owned(), kind);
        if !probes.contains_key(&key) {
            probes.retain(|(uid, _, _), _| is_here(uid));
        }
        let place = match outcome {
            ProbeOutcome::Success | ProbeOutcome::Warning(_) => 0,
            ProbeOutcome::Failure(_) => 1,
            ProbeOutcome::Unknown(_) => 2,
        };
        probes.entry(key).or_default()[place] += 1;
    }

    pub(crate) fn evicted(&self, signal: &'static str) {
        let mut evictions = self.evictions.lock().unwrap_or_else(PoisonError::into_inner);
        *evictions.entry(signal).or_default() += 1;
    }

    /// Appends what `/metrics` tells of it.
    pub(crate) fn write(&self, text: &mut Text) {
        let each = || OPERATIONS.iter().zip(&self.operations);
        let name = "kubelet_runtime_operations_duration_seconds";
        text.family(
            name,
            "histogram",
            "Duration in seconds of runtime operations. Broken down by operation type.",
        );
        for (operation, done) in each() {
            text.histogram(name, &[("operation_type", operation)], &done.took);
        }
        let name = "kubelet_runtime_operations_total";
        text.family(name, "counter", "Cumulative number of runtime operations by operation type.");
        for (operation, done) in each() {
            text.sample(name, &[("operation_type", operation)], f64::from(done.took.count()), None);
        }
        let name = "kubelet_runtime_operations_errors_total";
        text.family(
            name,
            "counter",
            "Cumulative number of runtime operation errors by operation type.",
        );
        for (operation, done) in each() {
            let failed = number(done.failed.load(Ordering::Relaxed));
            text.sample(name, &[("operation_type", operation)], failed, None);
        }
        let sync: &[(&str, &str)] = &[("operation_type", "sync")];
        for (name, help, labels, histogram) in [
            (
                "kubelet_pod_start_duration_seconds",
                "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
                &[][..],
                &self.pod_start,
            ),
            (
                "kubelet_pod_worker_duration_seconds",
                "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
                sync,
                &self.worker,
            ),
            // There are events, and no list: nothing is late.
            (
                "kubelet_pleg_relist_duration_seconds",
                "Duration in seconds for relisting pods in PLEG.",
                &[][..],
                &self.events,
            ),
        ] {
            text.family(name, "histogram", help);
            text.histogram(name, labels, histogram);
        }
        let name = "kubelet_evictions";
        text.family(name, "counter", "Cumulative number of pod evictions by eviction signal");
        for (signal, n) in self.evictions.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            text.sample(name, &[("eviction_signal", signal)], number(*n), None);
        }
    }

    /// The text of `/metrics/probes`; `find` knows namespace and name of a pod that is here by its uid.
    pub(crate) fn write_probes(
        &self,
        find: impl Fn(&str) -> Option<(String, String)>,
        text: &mut Text,
    ) {
        let name = "prober_probe_total";
        text.family(name, "counter", "Cumulative number of a liveness, readiness or startup probe for a container by result.");
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((uid, container, kind), counts) in &probes {
            let Some((namespace, pod)) = find(uid) else { continue };
            let results = ["successful", "failed", "unknown"];
            for (result, n) in results.iter().zip(counts).filter(|(_, n)| **n > 0) {
                let labels = [
                    ("container", &**container),
                    ("namespace", &*namespace),
                    ("pod", &*pod),
                    ("pod_uid", &**uid),
                    ("probe_type", kind.as_str()),
                    ("result", result),
                ];
                text.sample(name, &labels, number(*n), None);
            }
        }
    }
}
