//! Controllers: pure functions from a view of the cluster to what should be done about it.
//!
//! One file a controller, one line in [`CONTROLLERS`]. Nothing here does I/O, reads a clock or draws
//! randomness; names of new objects are hashes of what they are made for, so that the same view
//! always leads to the same actions. Upstream's kube-controller-manager v1.32 is the specification.

use api::Registered;

pub use cron_job::Cron;
pub use tuning::{Autoscaler, Tuning};

mod admission_policy;
mod api_services;
mod certificate_cleaner;
mod cluster_role;
mod cron_job;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoints;
mod flow_control;
mod garbage_collector;
mod horizontal_pod_autoscaler;
mod job;
mod namespace;
mod node;
mod persistent_volume;
mod pod_gc;
mod replica_set;
mod resource_quota;
mod service_account;
mod service_lb;
mod stateful_set;
mod support;
mod token_cleaner;
mod ttl_after_finished;
mod tuning;
#[cfg(test)]
mod whole_tests;
#[cfg(test)]
mod world;

/// Every controller that a server runs.
pub static CONTROLLERS: &[Registered] = &[
    Registered::of::<replica_set::ReplicaSets>(),
    Registered::of::<replica_set::ReplicationControllers>(),
    Registered::of::<deployment::Deployments>(),
    Registered::of::<stateful_set::StatefulSets>(),
    Registered::of::<daemon_set::DaemonSets>(),
    Registered::of::<job::Jobs>(),
    Registered::of::<cron_job::CronJobs>(),
    Registered::of::<endpoints::EndpointSlices>(),
    Registered::of::<endpoints::LegacyEndpoints>(),
    Registered::of::<endpoints::Mirroring>(),
    Registered::of::<service_account::DefaultAccounts>(),
    Registered::of::<service_account::RootCa>(),
    Registered::of::<service_account::TokenSecrets>(),
    Registered::of::<persistent_volume::Binder>(),
    Registered::of::<persistent_volume::LocalPath>(),
    Registered::of::<persistent_volume::EphemeralVolumes>(),
    Registered::of::<persistent_volume::VolumeProtection>(),
    Registered::of::<persistent_volume::ClaimProtection>(),
    Registered::of::<persistent_volume::AttachDetach>(),
    Registered::of::<node::Lifecycle>(),
    Registered::of::<node::TaintEviction>(),
    Registered::of::<node::Ipam>(),
    Registered::of::<pod_gc::PodGc>(),
    Registered::of::<ttl_after_finished::TtlAfterFinished>(),
    Registered::of::<disruption::Disruption>(),
    Registered::of::<resource_quota::ResourceQuotas>(),
    Registered::of::<namespace::Namespaces>(),
    Registered::of::<garbage_collector::GarbageCollector>(),
    Registered::of::<cluster_role::Aggregation>(),
    Registered::of::<certificate_cleaner::Cleaner>(),
    Registered::of::<token_cleaner::Cleaner>(),
    Registered::of::<admission_policy::Types>(),
    Registered::of::<horizontal_pod_autoscaler::HorizontalPodAutoscalers>(),
];

/// The same in the same order, as `--controllers` of kube-controller-manager names them, with the older names; `-` is ours.
pub static NAMES: &str = "replicaset-controller replicaset
replicationcontroller-controller replicationcontroller
deployment-controller deployment
statefulset-controller statefulset
daemonset-controller daemonset
job-controller job
cronjob-controller cronjob
endpointslice-controller endpointslice
endpoints-controller endpoint
endpointslice-mirroring-controller endpointslicemirroring
serviceaccount-controller serviceaccount
root-ca-certificate-publisher-controller root-ca-cert-publisher
serviceaccount-token-controller serviceaccount-token
persistentvolume-binder-controller persistentvolume-binder
-
ephemeral-volume-controller ephemeral-volume
persistentvolume-protection-controller pv-protection
persistentvolumeclaim-protection-controller pvc-protection
persistentvolume-attach-detach-controller attachdetach
node-lifecycle-controller nodelifecycle
taint-eviction-controller
node-ipam-controller nodeipam
pod-garbage-collector-controller podgc
ttl-after-finished-controller ttl-after-finished
disruption-controller disruption
resourcequota-controller resourcequota
namespace-controller namespace
garbage-collector-controller garbagecollector
clusterrole-aggregation-controller clusterrole-aggregation
certificatesigningrequest-cleaner-controller csrcleaner
token-cleaner-controller tokencleaner
validatingadmissionpolicy-status-controller validatingadmissionpolicy-status
horizontal-pod-autoscaler-controller horizontalpodautoscaling";

/// What k3s's cloud controller does, whether the controller manager runs or not.
pub static CLOUD_CONTROLLERS: &[Registered] = &[Registered::of::<service_lb::ServiceLb>()];

/// What the API server itself looks after, whether the controller manager runs or not.
pub static SERVER_CONTROLLERS: &[Registered] = &[
    Registered::of::<custom_resource_definition::Definitions>(),
    Registered::of::<flow_control::FlowControl>(),
    Registered::of::<api_services::Local>(),
];

#[cfg(test)]
mod tests {
    #[test]
    fn every_controller_has_its_name() {
        assert_eq!(super::NAMES.lines().count(), super::CONTROLLERS.len());
        let own = |upstream: &str| {
            let at = super::NAMES.lines().position(|line| line.starts_with(upstream));
            super::CONTROLLERS[at.unwrap()].name
        };
        for (upstream, name) in [
            ("replicaset-", "replicaset-controller"),
            ("cronjob-", "cronjob-controller"),
            ("endpointslice-mirroring-", "endpointslicemirroring-controller"),
            ("persistentvolume-binder-", "persistent-volume-binder"),
            ("-", "local-path-provisioner-service-account"),
            ("persistentvolume-protection-", "pv-protection-controller"),
            ("persistentvolume-attach-", "attachdetach-controller"),
            ("node-ipam-", "node-controller"),
            ("pod-garbage-", "pod-garbage-collector"),
            ("garbage-", "generic-garbage-collector"),
            ("certificatesigningrequest-cleaner-", "certificate-controller"),
            ("horizontal-", "horizontal-pod-autoscaler"),
        ] {
            assert_eq!(own(upstream), name);
        }
    }
}
