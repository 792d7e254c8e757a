//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: HTTPS servers that change and refuse objects.
//!
//! Source: k8s.io/apiserver/pkg/admission/plugin/webhook.

pub(super) mod review;

use std::sync::Arc;
use std::task::Poll;

use api::codec::{self, FieldValidation};
use api::kinds::{MUTATING_WEBHOOK_CONFIGURATION, NAMESPACE, VALIDATING_WEBHOOK_CONFIGURATION};
use api::selector::Selector;
use api::{Form, Lens, Resource, Status, Value};
use rt::BoxFuture;

use super::evaluation::{Evaluation, Seen};
use super::{Act, Notes, Operation};
use crate::conversion;
use crate::core::posted_kind;
use crate::storage;
use crate::webhook::hooks::{Attempt, Hook, Matches, Named};
use review::{Failure, Verdict};

/// Which webhooks are asked once more after others changed what they saw.
#[derive(Debug, Default)]
pub(super) struct Reinvocation {
    /// Plugins run a second time.
    pub(super) again: bool,
    /// A webhook changed something: plugins are to run a second time.
    pub(super) wanted: bool,
    /// Asked already, and willing to be asked again.
    asked: Vec<Arc<Hook>>,
    /// To be asked again.
    due: Vec<Arc<Hook>>,
    /// What webhooks left; plugins after them may change it.
    left: Option<Value>,
}

impl Reinvocation {
    fn changed(&mut self) {
        self.due.append(&mut self.asked);
    }

    fn is_due(&self, hook: &Arc<Hook>) -> bool {
        self.due.iter().any(|due| Arc::ptr_eq(due, hook))
    }
}

/// Webhooks are not asked about what configures admission, so that a bad one can be taken away.
pub(super) fn handles(act: &Act<'_>) -> bool {
    !act.kind.is_built_in() || act.kind.group != "admissionregistration.k8s.io"
}

/// Lets webhooks change the object, one after the other.
pub(super) async fn mutate(
    act: &Act<'_>,
    tree: &mut Value,
    notes: &mut Notes,
) -> Result<bool, Status> {
    let store = &act.core.store;
    let hooks = act.core.webhooks.hooks(store, &MUTATING_WEBHOOK_CONFIGURATION).await?;
    if hooks.is_empty() {
        return Ok(false);
    }
    // What there is for one write with webhooks does not make every write bigger.
    Box::pin(mutate_by(act, &hooks, tree, notes)).await
}

async fn mutate_by(
    act: &Act<'_>,
    hooks: &[Arc<Hook>],
    tree: &mut Value,
    notes: &mut Notes,
) -> Result<bool, Status> {
    let resources = resources(act);
    let again = notes.reinvocation.again;
    if again && notes.reinvocation.left.as_ref().is_some_and(|left| left != tree) {
        notes.reinvocation.changed();
    }
    let mut changed = false;
    for (hook_idx, hook) in hooks.iter().enumerate() {
        let Some(idx) = matching(act, hook, &resources, tree, false).await? else { continue };
        if again && !notes.reinvocation.is_due(hook) {
            continue;
        }
        let subject = Subject { act, resource: &resources[idx], stored: false };
        let place = format!("round_{}_index_{hook_idx}", u8::from(again));
        let changing = change(&subject, hook, tree, notes, &place).await;
        let mutated = matches!(changing, Ok(true));
        let (configuration, name) = (&hook.configuration, &hook.name);
        let value = format!(
            r#"{{"configuration":{configuration:?},"webhook":{name:?},"mutated":{mutated}}}"#
        );
        notes.annotate(format!("{MUTATION}{place}").into(), value);
        match changing {
            Ok(true) => {
                changed = true;
                notes.reinvocation.changed();
                notes.reinvocation.wanted = true;
            }
            Ok(false) => {}
            Err(failure) => tell(failure, hook, &format!("{MUTATION}{place}"), notes)?,
        }
        if hook.reinvoked {
            notes.reinvocation.asked.push(Arc::clone(hook));
        }
    }
    if !notes.reinvocation.asked.is_empty() {
        notes.reinvocation.left = Some(tree.clone());
    }
    Ok(changed)
}

/// Asks one webhook and does what its patch says; whether the object is another now.
async fn change(
    subject: &Subject<'_>,
    hook: &Hook,
    tree: &mut Value,
    notes: &mut Notes,
    place: &str,
) -> Result<bool, Failure> {
    let sent = subject.object(tree).await?;
    let verdict = review::ask(subject, hook, sent, true).await?;
    note(hook, &verdict, notes);
    let Some(patch) = verdict.patch else { return Ok(false) };
    let mut patched = subject.object(tree).await?;
    if patched.is_null() || subject.act.operation == Operation::Connect {
        return Err(Failure::Status(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        ))));
    }
    let before = patched.clone();
    api::patch::json(&mut patched, &patch).map_err(|s| internal(s.message()))?;
    let kind = posted_kind(subject.act.kind, subject.act.subresource());
    let form = match *kind == *subject.act.kind {
        true => subject.resource.form(),
        false => kind.into(),
    };
    let checked = codec::check_fields(form, &mut patched, FieldValidation::Ignore);
    checked.map_err(|status| internal(status.message()))?;
    rules::defaults::apply(form, &mut patched);
    if patched == before {
        return Ok(false);
    }
    if subject.act.caller.witness.is_some() {
        let (configuration, name) = (&hook.configuration, &hook.name);
        let value = format!(
            r#"{{"configuration":{configuration:?},"webhook":{name:?},"patch":{patch},"patchType":"JSONPatch"}}"#
        );
        notes.annotate(format!("patch.webhook.admission.k8s.io/{place}").into(), value);
    }
    *tree = subject.back(patched).await?;
    Ok(true)
}

fn internal(why: &str) -> Failure {
    Failure::Status(Status::internal(why))
}

/// Lets webhooks refuse the attempt; all at once, as none depends on another.
pub(super) async fn validate(act: &Act<'_>, tree: &Value, notes: &mut Notes) -> Result<(), Status> {
    let store = &act.core.store;
    let hooks = act.core.webhooks.hooks(store, &VALIDATING_WEBHOOK_CONFIGURATION).await?;
    if hooks.is_empty() {
        return Ok(());
    }
    Box::pin(validate_by(act, &hooks, tree, notes)).await
}

async fn validate_by(
    act: &Act<'_>,
    hooks: &[Arc<Hook>],
    tree: &Value,
    notes: &mut Notes,
) -> Result<(), Status> {
    let resources = resources(act);
    let mut asked: Vec<&Hook> = Vec::new();
    let mut asking: Vec<BoxFuture<'_, Result<Verdict, Failure>>> = Vec::new();
    for hook in hooks {
        let Some(idx) = matching(act, hook, &resources, tree, true).await? else { continue };
        let subject = Subject { act, resource: &resources[idx], stored: true };
        asked.push(hook);
        asking.push(Box::pin(async move {
            let sent = subject.object(tree).await?;
            review::ask(&subject, hook, sent, false).await
        }));
    }
    let mut decision = Ok(());
    for (idx, (hook, answer)) in asked.into_iter().zip(all(asking).await).enumerate() {
        let told = match answer {
            Ok(verdict) => {
                note(hook, &verdict, notes);
                Ok(())
            }
            Err(failure) => tell(failure, hook, &format!("{VALIDATION}round_0_index_{idx}"), notes),
        };
        decision = decision.and(told);
    }
    decision
}

/// Of annotations in the audit log.
const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
const VALIDATION: &str = "validating.webhook.admission.k8s.io/";

/// What every one of several futures answers, all running at once.
async fn all<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(Some).collect();
    let mut done: Vec<Option<T>> = running.iter().map(|_| None).collect();
    rt::future::poll_fn(move |cx| {
        for (future, answer) in running.iter_mut().zip(&mut done) {
            if let Some(waiting) = future
                && let Poll::Ready(value) = waiting.as_mut().poll(cx)
            {
                (*future, *answer) = (None, Some(value));
            }
        }
        match running.iter().all(Option::is_none) {
            true => Poll::Ready(done.iter_mut().filter_map(Option::take).collect()),
            false => Poll::Pending,
        }
    })
    .await
}

/// The end of an attempt, or a webhook that is missed and not needed.
fn tell(failure: Failure, hook: &Hook, key: &str, notes: &mut Notes) -> Result<(), Status> {
    let why = match failure {
        Failure::Status(status) => return Err(status),
        Failure::Calling(why) => format!("failed calling webhook {:?}: {why}", hook.name),
    };
    match hook.fails_open {
        true => {
            log::warn!("{}: {why}: let pass, as its failurePolicy says", hook.configuration);
            notes.annotate(format!("failed-open.{key}").into(), hook.name.clone());
            Ok(())
        }
        false => Err(Status::internal(why)),
    }
}

fn note(hook: &Hook, verdict: &Verdict, notes: &mut Notes) {
    for warning in &verdict.warnings {
        if !notes.warnings.contains(warning) {
            notes.warnings.push(warning.clone());
        }
    }
    for (key, value) in &verdict.annotations {
        notes.annotate(format!("{}/{key}", hook.name).into(), value.clone());
    }
}

/// What is asked about, in the version that a webhook's rules name.
pub(super) struct Subject<'a> {
    pub(super) act: &'a Act<'a>,
    pub(super) resource: &'a Resource,
    /// The tree is in the stored form already.
    pub(super) stored: bool,
}

impl Subject<'_> {
    /// Whether the tree is the object itself, not what is posted to one of its subresources.
    fn is_own(&self) -> bool {
        let act = self.act;
        *posted_kind(act.kind, act.subresource()) == *act.kind
            && act.operation != Operation::Connect
    }

    /// The tree in the version of the webhook.
    pub(super) async fn object(&self, tree: &Value) -> Result<Value, Failure> {
        let mut tree = tree.clone();
        if self.is_own() && !tree.is_null() {
            self.convert(&mut tree, self.stored).await?;
        }
        Ok(tree)
    }

    /// What there was, in the version of the webhook.
    pub(super) async fn old(&self) -> Result<Value, Failure> {
        let Some(old) = self.act.old else { return Ok(Value::Null) };
        let mut old = old.clone();
        if self.is_own() {
            self.convert(&mut old, true).await?;
        }
        Ok(old)
    }

    async fn convert(&self, tree: &mut Value, stored: bool) -> Result<(), Failure> {
        use api::LensMut;
        let form = self.resource.form();
        if form.webhook().is_some() {
            return Box::pin(self.convert_by_webhook(tree, form)).await;
        }
        if !stored && form != self.act.form {
            rules::to_stored(self.act.form, tree).map_err(|why| internal(&why))?;
        }
        if stored || form != self.act.form {
            form.convert_from_stored(tree);
        }
        tree.set("apiVersion", form.api_version());
        tree.set("kind", form.kind.name);
        Ok(())
    }

    /// The tree says its version itself; it is in that of the request, or, where that named none, in any.
    async fn convert_by_webhook(&self, tree: &mut Value, to: Form<'_>) -> Result<(), Failure> {
        if tree.str("apiVersion") != to.api_version() {
            let converted = conversion::other(self.act.core, to, tree).await;
            *tree = converted.map_err(Failure::Status)?;
            to.settle(tree);
        }
        Ok(())
    }

    /// A changed tree in the version of the request.
    async fn back(&self, mut tree: Value) -> Result<Value, Failure> {
        use api::LensMut;
        let (from, to) = (self.resource.form(), self.act.form);
        if self.is_own() && to.webhook().is_some() {
            Box::pin(self.convert_by_webhook(&mut tree, to)).await?;
        } else if self.is_own() && from != to {
            rules::to_stored(from, &mut tree).map_err(|why| internal(&why))?;
            to.convert_from_stored(&mut tree);
            tree.set("apiVersion", to.api_version());
        }
        Ok(tree)
    }
}

/// The kind in the version that was asked for, then in every other one that it is served in.
pub(super) fn resources(act: &Act<'_>) -> Vec<Resource> {
    let kinds = act.core.kinds.current();
    let (group, version) = (act.form.group(), act.form.version());
    let own = kinds.of_kind(act.kind, group, version);
    let others = kinds.resources().iter().filter(|it| it.kind == act.kind && it.form() != act.form);
    own.into_iter().chain(others.cloned()).collect()
}

/// Which of the resources a webhook is asked about, if it is.
async fn matching(
    act: &Act<'_>,
    hook: &Hook,
    resources: &[Resource],
    tree: &Value,
    stored: bool,
) -> Result<Option<usize>, Status> {
    let Some(idx) = covered(act, &hook.matches, resources, tree).await? else { return Ok(None) };
    let subject = Subject { act, resource: &resources[idx], stored };
    Ok(hold(&subject, hook, tree).await?.then_some(idx))
}

/// Whether the conditions of a webhook hold.
async fn hold(subject: &Subject<'_>, hook: &Hook, tree: &Value) -> Result<bool, Status> {
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    let seen = Seen::of(subject, tree).await?;
    let mut evaluation = Evaluation::of(subject.act, &seen);
    let mut budget = cel::CONDITIONS_MAX;
    let held = evaluation.hold(&hook.conditions, hook.fails_open, &mut budget).await;
    held.map_err(|why| subject.act.forbidden(tree, why))
}

/// Which of the resources something applies to, if to any.
pub(super) async fn covered(
    act: &Act<'_>,
    matches: &Matches,
    resources: &[Resource],
    tree: &Value,
) -> Result<Option<usize>, Status> {
    let names: Vec<Named<'_>> = resources
        .iter()
        .map(|resource| {
            let form = resource.form();
            Named { group: form.group(), version: form.version(), plural: form.kind.plural }
        })
        .collect();
    let attempt = Attempt {
        operation: operation(act),
        subresource: act.subresource(),
        name: name(act, tree),
        namespaced: act.kind.namespaced() && !act.request.namespace.is_empty(),
    };
    let Some(idx) = matches.wants(&attempt, &names) else { return Ok(None) };
    let selected = [tree, act.old.unwrap_or(&Value::Null)].into_iter().any(|tree| {
        act.operation != Operation::Connect
            && tree.is_object()
            && matches.objects.matches_map(tree.at("metadata.labels"))
    });
    let is_other = !matches.objects.is_everything() && !selected;
    if is_other || !namespace_matches(act, &matches.namespaces, tree).await? {
        return Ok(None);
    }
    Ok(Some(idx))
}

async fn namespace_matches(
    act: &Act<'_>,
    namespaces: &Selector,
    tree: &Value,
) -> Result<bool, Status> {
    let is_namespace = *act.kind == NAMESPACE;
    let name = namespace(act, tree);
    if name.is_empty() && !is_namespace || namespaces.is_everything() {
        return Ok(true);
    }
    let writes = matches!(act.operation, Operation::Create | Operation::Update);
    if is_namespace && act.subresource().is_empty() && writes {
        return Ok(namespaces.matches_map(tree.at("metadata.labels")));
    }
    let found = storage::get(&act.core.store, &NAMESPACE, "", name).await?;
    Ok(namespaces.matches(found.labels()))
}

/// The namespace of what is attempted; a namespace lies in itself.
pub(super) fn namespace<'a>(act: &'a Act<'_>, tree: &'a Value) -> &'a str {
    match *act.kind == NAMESPACE {
        true => name(act, tree),
        false => &act.request.namespace,
    }
}

pub(super) fn name<'a>(act: &'a Act<'_>, tree: &'a Value) -> &'a str {
    match act.request.name.as_str() {
        "" => tree.str("metadata.name"),
        name => name,
    }
}

fn operation(act: &Act<'_>) -> &'static str {
    match act.operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}
