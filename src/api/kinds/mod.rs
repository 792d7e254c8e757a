//! The table of kinds: one file a kind, one line here.

mod addon;
mod api_service;
pub mod autoscaling_v1;
mod binding;
mod certificate_signing_request;
mod cluster_role;
mod cluster_role_binding;
mod component_status;
mod config_map;
mod controller_revision;
mod cron_job;
mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod etcd_snapshot_file;
pub mod event;
mod eviction;
mod flow_schema;
mod horizontal_pod_autoscaler;
mod identity;
pub mod ingress;
mod ingress_class;
mod job;
mod lease;
mod limit_range;
mod local_subject_access_review;
mod mutating_webhook_configuration;
mod namespace;
mod network_policy;
mod node;
mod node_metrics;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_disruption_budget;
mod pod_metrics;
mod pod_template;
mod priority_class;
mod priority_level_configuration;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod role;
mod role_binding;
mod runtime_class;
mod scale;
pub mod secret;
mod self_subject_access_review;
mod self_subject_review;
mod self_subject_rules_review;
mod service;
mod service_account;
mod stateful_set;
mod storage_class;
mod subject_access_review;
mod token_request;
mod token_review;
mod validating_admission_policy;
mod validating_admission_policy_binding;
mod validating_webhook_configuration;
mod volume_attachment;

pub use addon::ADDON;
pub use api_service::API_SERVICE;
pub use binding::BINDING;
pub use certificate_signing_request::CERTIFICATE_SIGNING_REQUEST;
pub use cluster_role::CLUSTER_ROLE;
pub use cluster_role_binding::CLUSTER_ROLE_BINDING;
pub use component_status::COMPONENT_STATUS;
pub use config_map::CONFIG_MAP;
pub use controller_revision::CONTROLLER_REVISION;
pub use cron_job::CRON_JOB;
pub use csi_driver::CSI_DRIVER;
pub use csi_node::CSI_NODE;
pub use csi_storage_capacity::CSI_STORAGE_CAPACITY;
pub use custom_resource_definition::{
    CLEANUP as CUSTOM_RESOURCE_CLEANUP, CUSTOM_RESOURCE_DEFINITION,
};
pub use daemon_set::DAEMON_SET;
pub use deployment::DEPLOYMENT;
pub use endpoint_slice::{ENDPOINT_SLICE, SERVICE_NAME_LABEL};
pub use endpoints::ENDPOINTS;
pub use etcd_snapshot_file::ETCD_SNAPSHOT_FILE;
pub use event::EVENT;
pub use eviction::EVICTION;
pub use flow_schema::FLOW_SCHEMA;
pub use horizontal_pod_autoscaler::HORIZONTAL_POD_AUTOSCALER;
pub use identity::IDENTITIES_MAX;
pub use ingress::INGRESS;
pub use ingress_class::INGRESS_CLASS;
pub use job::JOB;
pub use lease::LEASE;
pub use limit_range::LIMIT_RANGE;
pub use local_subject_access_review::LOCAL_SUBJECT_ACCESS_REVIEW;
pub use mutating_webhook_configuration::MUTATING_WEBHOOK_CONFIGURATION;
pub use namespace::NAMESPACE;
pub use network_policy::NETWORK_POLICY;
pub use node::NODE;
pub use node_metrics::NODE_METRICS;
pub use persistent_volume::PERSISTENT_VOLUME;
pub use persistent_volume_claim::PERSISTENT_VOLUME_CLAIM;
pub use pod::POD;
pub use pod_disruption_budget::POD_DISRUPTION_BUDGET;
pub use pod_metrics::POD_METRICS;
pub use pod_template::POD_TEMPLATE;
pub use priority_class::PRIORITY_CLASS;
pub use priority_level_configuration::PRIORITY_LEVEL_CONFIGURATION;
pub use replica_set::REPLICA_SET;
pub use replication_controller::REPLICATION_CONTROLLER;
pub use resource_quota::RESOURCE_QUOTA;
pub use role::ROLE;
pub use role_binding::ROLE_BINDING;
pub use runtime_class::RUNTIME_CLASS;
pub use scale::SCALE;
pub use secret::SECRET;
pub use self_subject_access_review::SELF_SUBJECT_ACCESS_REVIEW;
pub use self_subject_review::SELF_SUBJECT_REVIEW;
pub use self_subject_rules_review::SELF_SUBJECT_RULES_REVIEW;
pub use service::SERVICE;
pub use service_account::SERVICE_ACCOUNT;
pub use stateful_set::STATEFUL_SET;
pub use storage_class::STORAGE_CLASS;
pub use subject_access_review::SUBJECT_ACCESS_REVIEW;
pub use token_request::TOKEN_REQUEST;
pub use token_review::TOKEN_REVIEW;
pub use validating_admission_policy::VALIDATING_ADMISSION_POLICY;
pub use validating_admission_policy_binding::VALIDATING_ADMISSION_POLICY_BINDING;
pub use validating_webhook_configuration::VALIDATING_WEBHOOK_CONFIGURATION;
pub use volume_attachment::VOLUME_ATTACHMENT;

use serde_json::Value;

use crate::kind::Kind;
use crate::lens::Lens;

/// Every built-in kind, in discovery order. Engines iterate this.
pub static KINDS: &[&Kind] = &[
    &POD,
    &SERVICE,
    &CONFIG_MAP,
    &SECRET,
    &NAMESPACE,
    &NODE,
    &EVENT,
    &SERVICE_ACCOUNT,
    &ENDPOINTS,
    &PERSISTENT_VOLUME,
    &PERSISTENT_VOLUME_CLAIM,
    &BINDING,
    &COMPONENT_STATUS,
    &REPLICATION_CONTROLLER,
    &POD_TEMPLATE,
    &LIMIT_RANGE,
    &RESOURCE_QUOTA,
    &DEPLOYMENT,
    &REPLICA_SET,
    &STATEFUL_SET,
    &DAEMON_SET,
    &CONTROLLER_REVISION,
    &JOB,
    &CRON_JOB,
    &HORIZONTAL_POD_AUTOSCALER,
    &INGRESS,
    &INGRESS_CLASS,
    &NETWORK_POLICY,
    &ENDPOINT_SLICE,
    &POD_DISRUPTION_BUDGET,
    &EVICTION,
    &PRIORITY_CLASS,
    &STORAGE_CLASS,
    &CSI_DRIVER,
    &CSI_NODE,
    &CSI_STORAGE_CAPACITY,
    &VOLUME_ATTACHMENT,
    &RUNTIME_CLASS,
    &CERTIFICATE_SIGNING_REQUEST,
    &FLOW_SCHEMA,
    &PRIORITY_LEVEL_CONFIGURATION,
    &API_SERVICE,
    &MUTATING_WEBHOOK_CONFIGURATION,
    &VALIDATING_ADMISSION_POLICY,
    &VALIDATING_ADMISSION_POLICY_BINDING,
    &VALIDATING_WEBHOOK_CONFIGURATION,
    &LEASE,
    &ROLE,
    &ROLE_BINDING,
    &CLUSTER_ROLE,
    &CLUSTER_ROLE_BINDING,
    &SUBJECT_ACCESS_REVIEW,
    &SELF_SUBJECT_ACCESS_REVIEW,
    &LOCAL_SUBJECT_ACCESS_REVIEW,
    &SELF_SUBJECT_RULES_REVIEW,
    &TOKEN_REVIEW,
    &TOKEN_REQUEST,
    &SELF_SUBJECT_REVIEW,
    &SCALE,
    &CUSTOM_RESOURCE_DEFINITION,
    &ADDON,
    &ETCD_SNAPSHOT_FILE,
    &NODE_METRICS,
    &POD_METRICS,
];

/// The kind in code stored or served under this group and name, whatever the version.
pub fn by_name(group: &str, name: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .copied()
        .find(|kind| kind.name == name && kind.versions().any(|(its, ..)| its == group))
}

/// The kind in code that a tree's `apiVersion` and `kind` name.
pub fn of_tree(tree: &Value) -> Option<&'static Kind> {
    let group = tree.str("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    by_name(group, tree.str("kind"))
}

#[cfg(test)]
mod tests;
