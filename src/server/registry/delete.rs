//! Delete: preconditions, finalizers, grace periods, and collections.

use std::time::Duration;

use api::kinds::{JOB, NAMESPACE};
use api::{Kind, Lens, LensMut, Object, Status, Value, json};
use client::{Answer, DeleteOptions, Verb};
use store::{Error, Expect, Room, Txn};

use super::update::uid_conflict;
use crate::admission::{self, Act, Notes};
use crate::allocate;
use crate::conversion;
use crate::core::{Call, Outcome};
use crate::options::invalid_options;
use crate::storage;

const JOBS_LEAVE_PODS: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

const CONFLICT_TRIES_MAX: usize = 10;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Deletes one object, or marks it for deletion.
///
/// # Errors
/// 404, 409, and whatever admission refuses.
pub(crate) async fn delete(call: &Call<'_>) -> Result<Outcome, Status> {
    let (kind, store, request) = (call.kind(), call.store(), call.request);
    check_options(&request.delete)?;
    for _ in 0..CONFLICT_TRIES_MAX {
        let current = storage::get(store, kind, &request.namespace, &request.name).await?;
        check_preconditions(&request.delete, &current)?;
        let old = current.whole_tree();
        let mut notes = Notes::default();
        if *kind == JOB && request.delete.propagation.is_empty() {
            notes.warnings.push(JOBS_LEAVE_PODS.into());
        }
        // Only who is asked by version is shown it in that version: what is removed need not be converted.
        let shown = match conversion::is_asked(call.form, request) {
            true => Some(conversion::tree(call.core, call.form, &current).await?),
            false => None,
        };
        let act = Act::delete(call, shown.as_ref().unwrap_or(&old));
        admission::admit(&act, Value::Null, &mut notes).await?;
        let conditional = request.delete.resource_version.is_some();
        let done = match plan(kind, &old, &request.delete) {
            Plan::Pending => Ok(Outcome::ok(Answer::Object(current))),
            Plan::Remove(shown) if request.dry_run => {
                Ok(Outcome::ok(removed(kind, &current, shown)?))
            }
            Plan::Mark(new) if request.dry_run => {
                let object = Object::from_tree(kind, &new).map_err(Status::internal)?;
                Ok(Outcome::ok(Answer::Object(object)))
            }
            Plan::Remove(shown) => {
                let claims = allocate::delete(kind, &old);
                let deleted = storage::delete(store, &current, claims.txn()).await;
                match deleted {
                    Ok(_) => Ok(Outcome::ok(removed(kind, &current, shown)?)),
                    Err(error) => Err(error),
                }
            }
            Plan::Mark(new) => {
                let object = Object::from_tree(kind, &new).map_err(Status::internal)?;
                let expect = Expect::Revision(current.revision());
                storage::put(store, &object, expect, Room::Unbounded, Txn::default())
                    .await
                    .map(|object| Outcome::ok(Answer::Object(object)))
            }
        };
        match done {
            Ok(outcome) => return Ok(outcome.with_warnings(notes.warnings)),
            Err(Error::Conflict { current: None, .. }) => {
                return Err(Status::not_found(kind, &request.name));
            }
            Err(Error::Conflict { .. }) if conditional => {
                return Err(Status::modified(kind, &request.name));
            }
            Err(Error::Conflict { .. }) => continue,
            Err(error) => return Err(storage::status(error)),
        }
    }
    Err(Status::modified(kind, &request.name))
}

/// Deletes all that the selectors select.
///
/// # Errors
/// The first that cannot be deleted for another reason than being gone.
pub(crate) async fn collection(call: &Call<'_>) -> Result<Outcome, Status> {
    let (form, request) = (call.form, call.request);
    check_options(&request.delete)?;
    let mut deleted = conversion::list(call.core, form, request, &request.list).await?;
    let mut warnings = Vec::new();
    for object in std::mem::take(&mut deleted.items) {
        let mut one = request.clone();
        one.verb = Verb::Delete;
        one.namespace = object.namespace().to_owned();
        one.name = object.name().to_owned();
        match delete(&call.with(form, &one)).await {
            Ok(outcome) => {
                warnings.extend(outcome.warnings);
                warnings.dedup();
                deleted.items.push(object);
            }
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status),
        }
    }
    Ok(Outcome::ok(Answer::List(deleted)).with_warnings(warnings))
}

/// What to do with the object.
enum Plan {
    /// It is marked already and this request changes nothing.
    Pending,
    /// Write this.
    Mark(Value),
    /// Remove it. What ends without waiting is shown with the time of its end, which nobody stores.
    Remove(Option<Value>),
}

/// Upstream's `BeforeDelete` and `updateForGracefulDeletionAndFinalizers`, as one decision.
fn plan(kind: &Kind, old: &Value, options: &DeleteOptions) -> Plan {
    let now = rt::now().wall;
    let mut new = old.clone();
    let marked = old.has("metadata.deletionTimestamp");
    let mut grace_secs = 0;
    let mut graceful = false;
    if kind.declared.graceful {
        if marked {
            if let Some(current) = old.int("metadata.deletionGracePeriodSeconds") {
                match options.grace_secs.map(|secs| if secs < 0 { 1 } else { secs }) {
                    Some(wanted) if wanted < current => {
                        let at =
                            api::time::parse(old.str("metadata.deletionTimestamp")).unwrap_or(now);
                        let shorter =
                            Duration::from_secs(u64::try_from(current - wanted).unwrap_or(0));
                        new.set("metadata.deletionTimestamp", api::time::format(at - shorter));
                        new.set("metadata.deletionGracePeriodSeconds", wanted);
                        (graceful, grace_secs) = (true, wanted);
                    }
                    // A period of zero that was set before finalizers went is carried out below.
                    _ if current == 0 => {}
                    _ => return Plan::Pending,
                }
            }
        } else {
            grace_secs = pod_grace_secs(old, options);
            graceful = true;
            let wait = Duration::from_secs(u64::try_from(grace_secs).unwrap_or(0));
            new.set("metadata.deletionTimestamp", api::time::format(now + wait));
            new.set("metadata.deletionGracePeriodSeconds", grace_secs);
            bump_generation(&mut new);
        }
    }
    if !marked && (rules::kinds::of(kind).terminate)(&mut new, now) {
        new.set("metadata.deletionTimestamp", api::time::format(now));
        return Plan::Mark(new);
    }
    set_finalizers(kind, &mut new, &options.propagation);
    let pending = !new.list("metadata.finalizers").is_empty();
    let namespace = *kind == NAMESPACE;
    if namespace && (!marked || !new.list("spec.finalizers").is_empty()) {
        if !marked {
            new.set("metadata.deletionTimestamp", api::time::format(now));
            bump_generation(&mut new);
        }
        new.set("status.phase", "Terminating");
        let settled = new.list("spec.finalizers").is_empty() && !pending;
        return match (settled, new == *old) {
            (true, _) => Plan::Remove(None),
            (false, true) => Plan::Pending,
            (false, false) => Plan::Mark(new),
        };
    }
    if pending && !graceful {
        if !marked {
            new.set("metadata.deletionTimestamp", api::time::format(now));
            bump_generation(&mut new);
        }
        new.set_default("metadata.deletionGracePeriodSeconds", 0);
    }
    match pending || grace_secs > 0 {
        true if new == *old => Plan::Pending,
        true => Plan::Mark(new),
        false => Plan::Remove(graceful.then_some(new)),
    }
}

/// How long a pod may take to end: nothing waits for one that never ran or has ended.
fn pod_grace_secs(pod: &Value, options: &DeleteOptions) -> i64 {
    let wanted = options.grace_secs.or(pod.int("spec.terminationGracePeriodSeconds")).unwrap_or(0);
    let ended = matches!(pod.str("status.phase"), "Failed" | "Succeeded");
    match wanted {
        _ if pod.str("spec.nodeName").is_empty() || ended => 0,
        secs if secs < 0 => 1,
        secs => secs,
    }
}

fn bump_generation(tree: &mut Value) {
    if let Some(generation) = tree.int("metadata.generation").filter(|g| *g > 0) {
        tree.set("metadata.generation", generation + 1);
    }
}

/// Makes the garbage collector's two finalizers say what the propagation policy says; without one they
/// say what they said, or what deletions of the kind mean.
fn set_finalizers(kind: &Kind, tree: &mut Value, propagation: &str) {
    let has = |name: &str| tree.list("metadata.finalizers").iter().any(|f| f == name);
    let (orphan, foreground) = match propagation {
        "Orphan" => (true, false),
        "Foreground" => (false, true),
        "Background" => (false, false),
        _ if has(ORPHAN) || has(FOREGROUND) => (has(ORPHAN), has(FOREGROUND)),
        _ => (kind.declared.orphans_dependents, false),
    };
    if (orphan, foreground) == (has(ORPHAN), has(FOREGROUND)) {
        return;
    }
    let mut finalizers: Vec<Value> = tree.list("metadata.finalizers").to_vec();
    finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
    if orphan {
        finalizers.push(ORPHAN.into());
    }
    if foreground {
        finalizers.push(FOREGROUND.into());
    }
    match finalizers.is_empty() {
        true => {
            tree.remove("metadata.finalizers");
        }
        false => tree.set("metadata.finalizers", Value::Array(finalizers)),
    }
}

fn check_options(options: &DeleteOptions) -> Result<(), Status> {
    match options.propagation.as_str() {
        "" | "Background" | "Foreground" | "Orphan" => Ok(()),
        other => Err(invalid_options(
            "DeleteOptions",
            "FieldValueNotSupported",
            "propagationPolicy",
            format!(
                "Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            ),
        )),
    }
}

fn check_preconditions(options: &DeleteOptions, current: &Object) -> Result<(), Status> {
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != current.uid()) {
        return Err(uid_conflict(current, uid));
    }
    let revision = current.revision().to_string();
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != revision) {
        return Err(Status::conflict(
            current.kind(),
            current.name(),
            format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {revision}"
            ),
        ));
    }
    Ok(())
}

/// What answers a finished delete: a `Status`, or the object.
/// What is answered of an object that is gone.
fn removed(kind: &'static Kind, object: &Object, shown: Option<Value>) -> Result<Answer, Status> {
    match shown.filter(|_| kind.declared.answers_deleted) {
        Some(tree) => Ok(Answer::Object(Object::from_tree(kind, &tree).map_err(Status::internal)?)),
        None => Ok(success(object)),
    }
}

fn success(object: &Object) -> Answer {
    if object.kind().declared.answers_deleted {
        return Answer::Object(object.clone());
    }
    let mut details =
        json!({"name": object.name(), "kind": object.kind().plural, "uid": object.uid()});
    if !object.kind().group.is_empty() {
        details.set("group", object.kind().group);
    }
    Answer::Tree(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    }))
}
