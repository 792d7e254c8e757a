//! Admission: what changes objects on their way in, and what refuses them for reasons beyond their own form.

mod certificate;
mod escalation;
mod evaluation;
mod images;
mod limit_ranger;
mod namespace;
mod node;
mod plugins;
mod pod;
mod pod_security;
mod policies;
pub(crate) mod resource_quota;
mod runtime_class;
mod service;
mod service_account;
mod settings;
mod storage_class;
mod unacted;
mod webhooks;

use std::borrow::Cow;

use api::kinds::{VALIDATING_ADMISSION_POLICY, VALIDATING_ADMISSION_POLICY_BINDING};
use api::{Form, Kind, Lens, LensMut, Status, Value, json};
use client::Request;

use crate::core::{Call, Core};
use crate::user::Caller;

/// What is attempted, in the terms of admission: a patch is an update, a stream to a pod a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// `exec`, `attach`, `portforward` and `proxy`.
    Connect,
}

/// One attempt to change or reach something.
pub(crate) struct Act<'a> {
    pub(crate) core: &'a Core,
    pub(crate) caller: &'a Caller,
    pub(crate) operation: Operation,
    pub(crate) kind: &'static Kind,
    /// The kind in the version of the request.
    pub(crate) form: Form<'a>,
    pub(crate) request: &'a Request,
    /// What there is, in the stored form.
    pub(crate) old: Option<&'a Value>,
    /// Part of what was admitted as a whole: no plugin is asked.
    admitted: bool,
}

impl<'a> Act<'a> {
    fn new(call: &Call<'a>, operation: Operation, old: Option<&'a Value>) -> Act<'a> {
        let Call { core, caller, form, request, admitted } = *call;
        Act { core, caller, operation, kind: form.kind, form, request, old, admitted }
    }

    pub(crate) fn create(call: &Call<'a>) -> Act<'a> {
        Act::new(call, Operation::Create, None)
    }

    pub(crate) fn update(call: &Call<'a>, old: &'a Value) -> Act<'a> {
        Act::new(call, Operation::Update, Some(old))
    }

    pub(crate) fn delete(call: &Call<'a>, old: &'a Value) -> Act<'a> {
        Act::new(call, Operation::Delete, Some(old))
    }

    pub(crate) fn connect(call: &Call<'a>) -> Act<'a> {
        Act::new(call, Operation::Connect, None)
    }

    fn subresource(&self) -> &str {
        &self.request.subresource
    }

    /// Whether a whole object of this kind is created or updated.
    fn writes(&self, kind: &Kind) -> bool {
        matches!(self.operation, Operation::Create | Operation::Update)
            && *self.kind == *kind
            && self.subresource().is_empty()
    }

    /// A creation of a whole object.
    fn creates(&self, kind: &Kind) -> bool {
        self.operation == Operation::Create && self.writes(kind)
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

    /// The plugins that are asked, in order.
    fn plugins(&self) -> impl Iterator<Item = &'static plugins::Plugin> {
        self.core
            .config
            .admission
            .plugins()
            .filter(|plugin| !self.admitted && (plugin.handles)(self))
    }
}

/// What admission says beside its decision.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// For the client.
    pub(crate) warnings: Vec<String>,
    /// For the audit log, or the debug log where there is none: key and value.
    pub(crate) annotations: Vec<(Cow<'static, str>, String)>,
    reinvocation: webhooks::Reinvocation,
    /// For the write: what it adds to quotas.
    pub(crate) charge: Option<resource_quota::Charge>,
}

impl Notes {
    /// Tells the audit log.
    fn tell(&mut self, act: &Act<'_>) {
        for (key, value) in self.annotations.drain(..) {
            match &act.caller.witness {
                Some(witness) => witness.annotate(&key, &value),
                None => {
                    log::debug!("{} of {}: {key}: {value}", act.kind.name, act.caller.user.name);
                }
            }
        }
    }

    /// Keeps an annotation, unless there is one under this key.
    fn annotate(&mut self, key: Cow<'static, str>, value: String) {
        if !self.annotations.iter().any(|(known, _)| *known == key) {
            self.annotations.push((key, value));
        }
    }
}

/// Runs before names, validation and allocation, on the version of the request; may change the object.
/// What a plugin adds gets its defaults before the next one sees it.
///
/// # Errors
/// What a plugin refuses.
pub(crate) async fn mutate(
    act: &Act<'_>,
    tree: &mut Value,
    notes: &mut Notes,
) -> Result<(), Status> {
    if act.subresource().is_empty() {
        unacted::warn(act, tree, &mut notes.warnings);
        if !act.kind.is_built_in() {
            notes.warnings.extend(api::custom::finalizer_warnings(tree, act.old));
        }
    }
    run(act, tree, notes, |tree| rules::defaults::apply(act.form, tree)).await
}

/// Runs the first step of every plugin, and once more where a webhook changed something, as upstream does.
async fn run(
    act: &Act<'_>,
    tree: &mut Value,
    notes: &mut Notes,
    finish: impl Fn(&mut Value),
) -> Result<(), Status> {
    loop {
        for plugin in act.plugins() {
            let changed = plugin.mutate(act, tree, notes).await;
            notes.tell(act);
            if changed? {
                finish(tree);
            }
        }
        let reinvocation = &mut notes.reinvocation;
        if !reinvocation.wanted || std::mem::replace(&mut reinvocation.again, true) {
            return Ok(());
        }
    }
}

/// Runs after validation. For deletes the object is null, `act.old` says what goes.
///
/// # Errors
/// What a plugin refuses.
pub(crate) async fn validate(act: &Act<'_>, tree: &Value, notes: &mut Notes) -> Result<(), Status> {
    let mut decision = Ok(());
    for plugin in act.plugins() {
        decision = plugin.validate(act, tree, notes).await;
        if decision.is_err() {
            break;
        }
    }
    notes.tell(act);
    decision?;
    // No plugin: upstream's registry asks, whatever plugins are on.
    if act.kind.is_built_in()
        && act.kind.group == "rbac.authorization.k8s.io"
        && act.operation != Operation::Delete
    {
        escalation::check(act, tree).await?;
    }
    if matches!(act.operation, Operation::Create | Operation::Update)
        && (act.writes(&VALIDATING_ADMISSION_POLICY)
            || act.writes(&VALIDATING_ADMISSION_POLICY_BINDING))
    {
        Box::pin(policies::grants::check(act, tree)).await?;
    }
    Ok(())
}

/// Both steps for what is written nowhere in this form: deletions, connections, and what subresources
/// and reviews are asked for. Answers the tree as plugins changed it.
///
/// # Errors
/// What a plugin refuses.
pub(crate) async fn admit(
    act: &Act<'_>,
    mut tree: Value,
    notes: &mut Notes,
) -> Result<Value, Status> {
    run(act, &mut tree, notes, |_| {}).await?;
    validate(act, &tree, notes).await?;
    Ok(tree)
}

fn add_finalizer(tree: &mut Value, name: &str) -> bool {
    let missing = !tree.list("metadata.finalizers").iter().any(|own| own == name);
    if missing {
        tree.list_mut("metadata.finalizers").push(json!(name));
    }
    missing
}
