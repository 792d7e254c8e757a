//! What an administrator may change of the controllers: flags of kube-controller-manager, with upstream's defaults.

use std::time::Duration;

use api::View;

/// Given to the driver, and found in every view of its controllers.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// `--node-monitor-grace-period` and `--node-startup-grace-period`.
    pub node_monitor_grace: Duration,
    pub node_startup_grace: Duration,
    /// Finished pods that are kept (`--terminated-pod-gc-threshold`).
    pub finished_pods_max: usize,
    /// `--max-endpoints-per-slice`, not 0.
    pub endpoints_per_slice_max: usize,
    /// `--mirroring-max-endpoints-per-subset`.
    pub mirrored_addresses_max: usize,
    /// `--horizontal-pod-autoscaler-*`.
    pub autoscaler: Autoscaler,
}

/// How the autoscaler of pods judges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Autoscaler {
    pub sync_every: Duration,
    /// A ratio of usage to target that is nearer to 1 than this changes nothing.
    pub tolerance: f64,
    pub down_window_secs: i64,
    pub cpu_initialization: Duration,
    pub initial_readiness: Duration,
}

pub(crate) static DEFAULT: Tuning = Tuning {
    node_monitor_grace: Duration::from_secs(50),
    node_startup_grace: Duration::from_secs(60),
    finished_pods_max: 12_500,
    endpoints_per_slice_max: 100,
    mirrored_addresses_max: 1000,
    autoscaler: Autoscaler {
        sync_every: Duration::from_secs(15),
        tolerance: 0.1,
        down_window_secs: 300,
        cpu_initialization: Duration::from_secs(300),
        initial_readiness: Duration::from_secs(30),
    },
};

impl Default for Tuning {
    fn default() -> Tuning {
        DEFAULT.clone()
    }
}

impl Tuning {
    /// What this view's controllers were told.
    pub(crate) fn of<'v>(view: &View<'v>) -> &'v Tuning {
        view.settings.and_then(|settings| settings.downcast_ref()).unwrap_or(&DEFAULT)
    }
}
