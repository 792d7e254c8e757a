//! How pods of one scheduler name are placed: which plug-ins look, with what weights and arguments.

use std::borrow::Cow;

use api::{Value, View};

use crate::extender::Extender;

/// Plug-ins that refuse or score nodes, as bits of [`Profile::filters`] and places in [`Profile::weights`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugin {
    TaintToleration,
    NodeAffinity,
    NodeResourcesFit,
    PodTopologySpread,
    InterPodAffinity,
    NodeResourcesBalancedAllocation,
    ImageLocality,
    NodeUnschedulable,
    NodePorts,
    VolumeRestrictions,
    VolumeBinding,
    NodeVolumeLimits,
}

/// So many of them score.
pub(crate) const N_SCORES: usize = 7;

/// One profile of a `KubeSchedulerConfiguration`.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) name: Cow<'static, str>,
    pub(crate) filters: u16,
    /// 0: the plug-in does not score.
    pub(crate) weights: [i64; N_SCORES],
    pub(crate) preempts: bool,
    /// Pods wait for their scheduling gates.
    pub(crate) gates: bool,
    /// A node affinity that all pods have beside their own; null: none.
    pub(crate) added_affinity: Value,
    pub(crate) strategy: Strategy,
    /// With their weights; empty: cpu and memory.
    pub(crate) fit_resources: Vec<(String, i64)>,
    /// Extended resources, and groups of them, that are not looked at.
    pub(crate) ignored: Vec<String>,
    pub(crate) ignored_groups: Vec<String>,
    /// Empty: cpu and memory.
    pub(crate) balanced: Vec<String>,
    /// Constraints of pods that have none of their own.
    pub(crate) default_constraints: Vec<Value>,
    /// What a required affinity of a pod that runs counts for those that it names.
    pub(crate) hard_affinity_weight: i64,
    /// Nodes that are enough to choose among, of all; 100: all of them.
    pub(crate) nodes_percent: u8,
}

/// How use becomes a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Strategy {
    Least,
    Most,
    /// Percent of use, and the score there (up to 100); straight lines between.
    Ratio(Vec<(i64, i64)>),
}

pub(crate) const DEFAULT_NAME: &str = "default-scheduler";

/// kube-scheduler's own.
pub(crate) static DEFAULT: Profile = Profile {
    name: Cow::Borrowed(DEFAULT_NAME),
    filters: u16::MAX,
    weights: [3, 2, 1, 2, 2, 1, 1],
    preempts: true,
    gates: true,
    added_affinity: Value::Null,
    strategy: Strategy::Least,
    fit_resources: Vec::new(),
    ignored: Vec::new(),
    ignored_groups: Vec::new(),
    balanced: Vec::new(),
    default_constraints: Vec::new(),
    hard_affinity_weight: 0,
    nodes_percent: 100,
};

impl Profile {
    pub(crate) fn has(&self, plugin: Plugin) -> bool {
        self.filters & (1 << plugin as u16) != 0
    }

    pub(crate) fn weight(&self, plugin: Plugin) -> i64 {
        self.weights.get(plugin as usize).copied().unwrap_or(0)
    }

    /// Whether an extended resource is left to somebody else.
    pub(crate) fn ignores(&self, resource: &str) -> bool {
        let Some((group, _)) = resource.split_once('/') else { return false };
        self.ignored.iter().any(|name| name == resource)
            || self.ignored_groups.iter().any(|name| name == group)
    }
}

/// The profiles and extenders that the scheduler was given.
#[derive(Debug)]
pub struct Profiles(pub(crate) Vec<Profile>, pub Vec<Extender>);

impl Profiles {
    /// The profile of pods that ask for the scheduler of this name; `None`: it is not this one.
    pub(crate) fn find<'v>(view: &View<'v>, name: &str) -> Option<&'v Profile> {
        let name = if name.is_empty() { DEFAULT_NAME } else { name };
        let told: Option<&Profiles> = view.settings.and_then(|settings| settings.downcast_ref());
        match told {
            Some(Profiles(all, _)) => all.iter().find(|profile| profile.name == name),
            None => (name == DEFAULT_NAME).then_some(&DEFAULT),
        }
    }

    /// Whom to ask beside the plug-ins.
    pub(crate) fn extenders<'v>(view: &View<'v>) -> &'v [Extender] {
        let told: Option<&Profiles> = view.settings.and_then(|settings| settings.downcast_ref());
        told.map_or(&[], |told| &told.1)
    }

    /// Whether any looks at who else selects a pod.
    pub(crate) fn spreads(&self) -> bool {
        self.0.iter().any(|profile| !profile.default_constraints.is_empty())
    }
}
