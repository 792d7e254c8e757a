//! What a server does with the objects of each kind: one file a kind that has rules, one line here. What a kind is
//! stands in the file of the same name in `api/kinds`.

mod addon;
mod admission_policy_rules;
mod api_service;
pub(crate) mod certificate_signing_request;
mod cluster_role;
mod cluster_role_binding;
mod component_status;
mod config_map;
mod controller_revision;
mod cron_job;
mod cron_schedule;
mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod etcd_snapshot_file;
mod event;
mod flow_schema;
mod horizontal_pod_autoscaler;
mod horizontal_pod_autoscaler_rules;
mod ingress;
mod ingress_class;
mod job;
pub(crate) mod job_rules;
mod lease;
mod limit_range;
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
mod secret;
mod service;
mod service_account;
mod stateful_set;
mod storage_class;
mod validating_admission_policy;
mod validating_admission_policy_binding;
mod validating_webhook_configuration;
mod volume_attachment;
mod workload;

pub use service::check_addresses as check_service_addresses;

use api::form::Form;
use api::kind::Kind;
use api::status::Cause;
use serde_json::Value;
use stdx::time::Wall;

use crate::column::Column;

/// The rules of a kind in code, beside what its schema says.
#[derive(Clone, Copy)]
pub struct Rules {
    pub kind: &'static Kind,
    pub columns: &'static [Column<'static>],
    /// Its versions that are not the stored one.
    pub(crate) versions: &'static [Version],
    /// Defaults that the schema text cannot say. Idempotent.
    pub default: fn(&mut Value),
    /// What create (old absent) and update (old present) reset before validation,
    /// beyond status/spec split and system metadata, which the engine does.
    pub prepare: fn(new: &mut Value, old: Option<&Value>),
    /// What a replacement through `status` keeps of `old`, beyond the spec and system metadata.
    pub prepare_status: fn(new: &mut Value, old: &Value),
    /// What the first request to delete does to the object where it stays until somebody has done
    /// something about it; false for most kinds, of which only finalizers and grace periods decide.
    pub terminate: fn(&mut Value, now: Wall) -> bool,
    /// Rules that the schema text cannot say. `old` is present on update.
    pub validate: fn(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>),
    /// Rules for what comes through the `status` subresource.
    pub validate_status: fn(new: &Value, causes: &mut Vec<Cause>),
    /// What upstream's strategy checks at an update, in order: `C` the metadata as a new object's, `U` as an
    /// update's, `S` the rest as a new object's, `s` as one's that was so before, `V` as an update's. Complaints are told as
    /// often as they are made.
    pub on_update: &'static str,
    /// The same where it depends on what is replaced, and for `approval`; `part` is the subresource.
    pub validate_part: fn(part: &str, new: &Value, old: &Value, causes: &mut Vec<Cause>),
    /// The paths, a space between two, below which the schema's rules are not checked; "" for none.
    pub unchecked: &'static str,
    /// How names are checked: DNS subdomain for most.
    pub name_rule: NameRule,
}

/// Rules of one version more in which a kind in code is served.
#[derive(Clone, Copy)]
pub(crate) struct Version {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    /// Fails for what the stored form cannot say.
    pub(crate) to_stored: fn(&mut Value) -> Result<(), String>,
    /// Rules for requests in this version beyond the stored one's, of the stored form; metadata are checked
    /// as every kind's then, too.
    pub(crate) validate: Option<fn(&Value, Option<&Value>, &mut Vec<Cause>)>,
}

/// What `metadata.name` may look like (apimachinery `validation.NameIs...`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, at most 253.
    Subdomain,
    /// RFC 1123 label, at most 63.
    Label,
    /// RFC 1035 label (services).
    Label1035,
    /// Any path segment: no '/', '%', not '.' or '..' (rbac).
    PathSegment,
    /// Upstream's strategy has no rule, so that the one of all objects comes after everything else.
    Any,
}

impl Rules {
    /// What most kinds have: none.
    pub(crate) const BASE: Rules = Rules {
        kind: &Kind::BASE,
        columns: &[],
        versions: &[],
        default: |_| {},
        prepare: |_, _| {},
        prepare_status: |_, _| {},
        terminate: |_, _| false,
        validate: |_, _, _| {},
        validate_status: |_, _| {},
        on_update: "UV",
        validate_part: |_, _, _, _| {},
        unchecked: "",
        name_rule: NameRule::Subdomain,
    };
}

/// What holds of every kind that is defined at run time; the rest is in its definition.
static RUN_TIME: Rules = Rules {
    // Of a change of the status, nothing of the metadata is taken over but who made it.
    prepare_status: |new, old| {
        use api::lens::{Lens, LensMut};
        let managers = new.at("metadata.managedFields").clone();
        new.set("metadata", old.at("metadata").clone());
        if !managers.is_null() {
            new.set("metadata.managedFields", managers);
        }
    },
    ..Rules::BASE
};

static NONE: Rules = Rules::BASE;

/// The kinds in code that have rules of their own.
static RULES: &[&Rules] = &[
    &addon::RULES,
    &etcd_snapshot_file::RULES,
    &api_service::RULES,
    &certificate_signing_request::RULES,
    &cluster_role::RULES,
    &cluster_role_binding::RULES,
    &component_status::RULES,
    &config_map::RULES,
    &controller_revision::RULES,
    &cron_job::RULES,
    &csi_driver::RULES,
    &csi_node::RULES,
    &csi_storage_capacity::RULES,
    &custom_resource_definition::RULES,
    &daemon_set::RULES,
    &deployment::RULES,
    &endpoint_slice::RULES,
    &endpoints::RULES,
    &event::RULES,
    &flow_schema::RULES,
    &horizontal_pod_autoscaler::RULES,
    &ingress::RULES,
    &ingress_class::RULES,
    &job::RULES,
    &lease::RULES,
    &limit_range::RULES,
    &mutating_webhook_configuration::RULES,
    &namespace::RULES,
    &network_policy::RULES,
    &node::RULES,
    &node_metrics::RULES,
    &persistent_volume::RULES,
    &persistent_volume_claim::RULES,
    &pod::RULES,
    &pod_disruption_budget::RULES,
    &pod_metrics::RULES,
    &pod_template::RULES,
    &priority_class::RULES,
    &priority_level_configuration::RULES,
    &replica_set::RULES,
    &replication_controller::RULES,
    &resource_quota::RULES,
    &role::RULES,
    &role_binding::RULES,
    &runtime_class::RULES,
    &scale::RULES,
    &secret::RULES,
    &service::RULES,
    &service_account::RULES,
    &stateful_set::RULES,
    &storage_class::RULES,
    &validating_admission_policy::RULES,
    &validating_admission_policy_binding::RULES,
    &validating_webhook_configuration::RULES,
    &volume_attachment::RULES,
];

/// The rules of a kind.
pub fn of(kind: &Kind) -> &'static Rules {
    if !kind.is_built_in() {
        return &RUN_TIME;
    }
    // Kinds in code are statics, so the address says it nearly always.
    let by_address = RULES.iter().find(|rules| std::ptr::eq(rules.kind, kind));
    let found = by_address.or_else(|| RULES.iter().find(|rules| rules.kind == kind));
    found.map_or(&NONE, |rules| rules)
}

/// The rules of the version that a form is of, if it is of a kind in code and not the stored one.
pub(crate) fn version(form: Form<'_>) -> Option<&'static Version> {
    let (group, version) = (form.group(), form.version());
    of(form.kind).versions.iter().find(|it| it.group == group && it.version == version)
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rules({:?})", self.kind)
    }
}

#[cfg(test)]
mod tests;
