//! Admission: what changes objects on their way in, and what refuses them for reasons beyond their own form.

mod escalation;
mod namespace;
mod node;
mod pod;
mod pod_security;
mod service_account;
mod storage_class;
mod unacted;

pub(crate) use node::{check_eviction, check_token};

use api::kinds::{NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, PRIORITY_CLASS};
use api::{Kind, Lens, LensMut, Status, Value, json};
use client::{Request, Verb};

use crate::core::{Caller, Core};

/// Marks a pod that shows what a kubelet runs by itself.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// One attempt to change something.
pub(crate) struct Act<'a> {
    pub(crate) core: &'a Core,
    pub(crate) caller: &'a Caller,
    /// Create, update (patches too) or delete.
    pub(crate) verb: Verb,
    pub(crate) kind: &'static Kind,
    pub(crate) request: &'a Request,
    pub(crate) old: Option<&'a Value>,
}

impl Act<'_> {
    fn subresource(&self) -> &str {
        &self.request.subresource
    }

    /// A creation of a whole object.
    fn creates(&self, kind: &Kind) -> bool {
        self.verb == Verb::Create && *self.kind == *kind && self.subresource().is_empty()
    }

    /// The 403 of an admission plugin, in upstream's form.
    fn forbidden(&self, tree: &Value, why: impl std::fmt::Display) -> Status {
        let name = match tree.str("metadata.name") {
            "" if self.request.name.is_empty() => tree.str("metadata.generateName"),
            "" => &self.request.name,
            name => name,
        };
        Status::forbidden(self.kind, name, why)
    }
}

/// Runs before names, validation and allocation; may change the object.
///
/// # Errors
/// What a plugin refuses.
pub(crate) async fn mutate(
    act: &Act<'_>,
    tree: &mut Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if act.subresource().is_empty() {
        unacted::warn(act.kind, tree, warnings);
    }
    namespace::check(act, tree).await?;
    if act.creates(&POD) {
        service_account::apply(act, tree).await?;
        pod::priority(act, tree).await?;
    }
    if *act.kind == POD && act.verb != Verb::Delete && act.subresource().is_empty() {
        pod::default_tolerations(tree);
    }
    if act.creates(&NODE) {
        pod::taint_new_node(tree);
    }
    if act.creates(&PERSISTENT_VOLUME_CLAIM) {
        storage_class::apply(act, tree).await?;
        add_finalizer(tree, "kubernetes.io/pvc-protection");
    }
    if act.creates(&PERSISTENT_VOLUME) {
        add_finalizer(tree, "kubernetes.io/pv-protection");
    }
    Ok(())
}

/// Runs after validation. For deletes the object is null, `act.old` says what goes.
///
/// # Errors
/// What a plugin refuses.
pub(crate) async fn validate(
    act: &Act<'_>,
    tree: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if act.verb == Verb::Delete {
        namespace::check_delete(act)?;
    }
    if act.caller.user.node_name().is_some() {
        node::check(act, tree).await?;
    }
    if *act.kind == PRIORITY_CLASS && act.verb != Verb::Delete {
        pod::one_default_priority(act, tree).await?;
    }
    if *act.kind == PERSISTENT_VOLUME_CLAIM && act.verb == Verb::Update {
        storage_class::check_resize(act, tree).await?;
    }
    pod_security::check(act, tree, warnings).await?;
    if act.kind.group == "rbac.authorization.k8s.io" && act.verb != Verb::Delete {
        escalation::check(act, tree).await?;
    }
    Ok(())
}

fn add_finalizer(tree: &mut Value, name: &str) {
    if !tree.list("metadata.finalizers").iter().any(|own| own == name) {
        tree.list_mut("metadata.finalizers").push(json!(name));
    }
}
