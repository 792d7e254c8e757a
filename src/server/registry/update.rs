//! Update and patch: read, change, check, write where nothing else has changed it meanwhile.

use api::codec::{self, FieldValidation};
use api::kinds::{POD, SECRET, SERVICE};
use api::status::{Cause, Reason};
use api::{Kind, Lens, LensMut, Object, Status, Value};
use client::{Answer, Body, PatchType};
use store::{Error, Expect};

use super::create;
use crate::admission::{self, Act, Notes, resource_quota as quota};
use crate::allocate;
use crate::auth::Attributes;
use crate::conversion;
use crate::core::{Call, Outcome, terminating, tree_of};
use crate::storage::{self, room};

/// How often a change that lost a race is made anew on the newer object.
const CONFLICT_TRIES_MAX: usize = 5;

/// What a change through a subresource may touch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Main,
    Status,
    /// A subresource with its own rule of what it takes over: `finalize`, `ephemeralcontainers`, `resize`.
    Own(fn(new: &mut Value, old: &Value)),
}

/// What a body says about how its change may be carried out.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// It names the revision that it was decided on: a lost race is its end.
    conditional: bool,
    /// It is a whole object.
    whole: bool,
    /// It records its field managers itself, or nobody does.
    applies: bool,
}

impl Terms {
    fn of(body: &Body) -> Terms {
        let (tree, applies) = match body {
            Body::Tree(tree) => (tree, false),
            Body::Patch(patch_type, patch) => (patch, *patch_type == PatchType::Apply),
            Body::None => (&Value::Null, false),
        };
        let whole = matches!(body, Body::Tree(_));
        let conditional = match whole {
            true => !matches!(tree.str("metadata.resourceVersion"), "" | "0"),
            false => tree.has("metadata.resourceVersion"),
        };
        Terms { conditional, whole, applies }
    }
}

/// Runs an update or patch request.
///
/// # Errors
/// 404, 409, 422 and whatever admission refuses.
pub(crate) async fn update(call: &Call<'_>, mut body: Body, part: Part) -> Result<Outcome, Status> {
    let (kind, request) = (call.kind(), call.request);
    let terms = Terms::of(&body);
    // What it asks for is chosen anew when another took it.
    let chooses = *kind == SERVICE;
    for attempt in 1..=CONFLICT_TRIES_MAX {
        let found = storage::find(call.store(), kind, &request.namespace, &request.name).await?;
        let Some(current) = found else { return missing(call, body, part).await };
        let last = attempt == CONFLICT_TRIES_MAX || terms.conditional && !chooses;
        match once(call, &mut body, terms, part, &current, last).await {
            // Only what did not name a revision itself is tried again.
            Err(Lost::Race) if !last => continue,
            Err(Lost::Race) => break,
            Err(Lost::Refused(status)) => return Err(status),
            Ok(outcome) => return Ok(outcome),
        }
    }
    Err(Status::modified(kind, &request.name))
}

/// Changes a stored object by a function, with the same admission and validation as an update.
/// `main` says that what the main resource holds changes: statuses stay, generations count.
///
/// # Errors
/// As `update`, and what `change` refuses.
pub(crate) async fn change(
    call: &Call<'_>,
    main: bool,
    change: impl Fn(&mut Value) -> Result<(), Status>,
) -> Result<(Object, Vec<String>), Status> {
    let (kind, request) = (call.kind(), call.request);
    let call = Call { form: call.form.stored(), ..*call };
    // What a binding or an eviction makes of a pod is managed by nobody, as upstream.
    let terms = Terms { applies: *kind == POD, ..Terms::of(&Body::None) };
    for _ in 0..CONFLICT_TRIES_MAX {
        let current = storage::get(call.store(), kind, &request.namespace, &request.name).await?;
        let old = conversion::tree(call.core, call.form, &current).await?;
        let mut new = old.clone();
        change(&mut new)?;
        let mut notes = Notes::default();
        let act = Act::update(&call, &old);
        admission::mutate(&act, &mut new, &mut notes).await?;
        if main {
            rules::strategy::update(call.form, &mut new, &old);
        }
        match finish(&act, terms, &current, new, notes).await {
            Err(Lost::Race) => continue,
            Err(Lost::Refused(status)) => return Err(status),
            Ok(Outcome { answer: Answer::Object(object), warnings, .. }) => {
                return Ok((object, warnings));
            }
            Ok(_) => return Err(Status::internal("an update answered no object")),
        }
    }
    Err(Status::modified(kind, &request.name))
}

enum Lost {
    /// The object changed meanwhile.
    Race,
    Refused(Status),
}

impl From<Status> for Lost {
    fn from(status: Status) -> Lost {
        Lost::Refused(status)
    }
}

/// The object does not exist: an apply makes it, and so does the update of a few kinds.
async fn missing(call: &Call<'_>, body: Body, part: Part) -> Result<Outcome, Status> {
    let Call { core, caller, form, request, .. } = *call;
    let kind = form.kind;
    let main = matches!(part, Part::Main);
    let tree = match body {
        Body::Patch(PatchType::Apply, applied) if main => {
            if applied.has("metadata.uid") {
                return Err(Status::conflict(
                    kind,
                    &request.name,
                    format!(
                        "uid mismatch: the provided object specified uid {}, and no existing object was found",
                        applied.str("metadata.uid")
                    ),
                ));
            }
            if applied.str("metadata.name").is_empty() {
                return Err(no_name(&request.name));
            }
            apply::apply(apply::Request {
                form,
                live: None,
                applied: &applied,
                manager: &caller.manager(request),
                subresource: "",
                force: request.force,
                now: rt::now().wall,
            })?
        }
        Body::Tree(tree) if tree.str("metadata.name").is_empty() => {
            return Err(no_name(&request.name));
        }
        Body::Tree(tree) if main && kind.declared.creates_on_update => tree,
        Body::Tree(tree)
            if tree.has("metadata.name") && tree.str("metadata.name") != request.name =>
        {
            return Err(other_name(tree.str("metadata.name"), &request.name));
        }
        _ => return Err(Status::not_found(kind, &request.name)),
    };
    let attributes = Attributes::of(request, "create");
    core.authorizer.check(&core.store, &caller.user, &attributes).await?;
    // A kind that is going away gets no new objects, by whatever verb.
    if core.resource(request)?.is_terminating() {
        return Err(terminating(kind));
    }
    create::create(call, tree).await
}

/// One try. The last one takes the body with it.
async fn once(
    call: &Call<'_>,
    body: &mut Body,
    terms: Terms,
    part: Part,
    current: &Object,
    last: bool,
) -> Result<Outcome, Lost> {
    let form = call.form;
    let old = conversion::tree(call.core, form, current).await?;
    let mut notes = Notes::default();
    let mut new = match body {
        Body::Tree(tree) if last => std::mem::take(tree),
        Body::Tree(tree) => tree.clone(),
        Body::Patch(patch_type, patch) => {
            patched(call, *patch_type, patch, &old, &mut notes.warnings)?
        }
        Body::None => tree_of(Body::None)?,
    };
    check_identity(call, terms, part, current, &mut new)?;
    rules::defaults::apply(form, &mut new);
    if !terms.applies && !form.is_stored() {
        // In the version of the request, as upstream.
        let mut before = old.clone();
        form.convert_from_stored(&mut before);
        let (manager, now) = (call.caller.manager(call.request), rt::now().wall);
        apply::track(form, &manager, &call.request.subresource, now, Some(&before), &mut new);
    }
    let act = Act::update(call, &old);
    admission::mutate(&act, &mut new, &mut notes).await?;
    call.works_on(&new, &old)?;
    // Whatever changed the object, it stays the one that the request names.
    check_identity(call, terms, part, current, &mut new)?;
    rules::to_stored(form, &mut new).map_err(Status::bad_request)?;
    match part {
        Part::Main => rules::strategy::update(form.stored(), &mut new, &old),
        Part::Status => rules::strategy::update_status(form.stored(), &mut new, &old),
        Part::Own(take) => take(&mut new, &old),
    }
    finish(&act, terms, current, new, notes).await
}

/// What a patch makes of the object, in the call's form, with the revision it was decided on.
fn patched(
    call: &Call<'_>,
    patch_type: PatchType,
    patch: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let Call { caller, form, request, .. } = *call;
    let mut tree = old.clone();
    form.convert_from_stored(&mut tree);
    tree.set("apiVersion", form.api_version());
    match patch_type {
        PatchType::Json => api::patch::json(&mut tree, patch)?,
        PatchType::Merge => api::patch::merge(&mut tree, patch),
        // Only kinds in code say how their lists merge.
        PatchType::Strategic if !form.kind.is_built_in() => return Err(no_strategic_patch()),
        PatchType::Strategic => api::patch::strategic(form, &mut tree, patch)?,
        PatchType::Apply => {
            tree = apply::apply(apply::Request {
                form,
                live: Some(&tree),
                applied: patch,
                manager: &caller.manager(request),
                subresource: &request.subresource,
                force: request.force,
                now: rt::now().wall,
            })?;
        }
    }
    if !tree.is_object() {
        return Err(Status::bad_request("the patch leaves no object"));
    }
    // What a strategic merge or an apply makes is read as the kind that is asked for, the others by what they say.
    if form.kind.is_built_in() && matches!(patch_type, PatchType::Json | PatchType::Merge) {
        let types = codec::check_types(form, tree.str("apiVersion"), tree.str("kind"));
        types.map_err(|status| ill_typed(form, patch_type, patch, old, tree.clone(), &status))?;
    }
    let validation = match request.field_validation.as_str() {
        "Strict" => FieldValidation::Strict,
        "Ignore" => FieldValidation::Ignore,
        _ => FieldValidation::Warn,
    };
    let checked = match patch_type {
        PatchType::Strategic => codec::check_converted(form, &mut tree, validation),
        _ => codec::check_fields(form, &mut tree, validation),
    };
    match checked {
        Ok(more) => warnings.extend(more),
        // What an apply declares was read against the schema before.
        Err(status) if patch_type == PatchType::Apply => return Err(status),
        Err(status) => return Err(ill_typed(form, patch_type, patch, old, tree, &status)),
    }
    Ok(tree)
}

fn no_name(name: &str) -> Status {
    Status::bad_request(format!(
        "the name of the object ({name} based on URL) was undeterminable: name must be provided"
    ))
}

fn other_name(named: &str, name: &str) -> Status {
    Status::bad_request(format!(
        "the name of the object ({named}) does not match the name on the URL ({name})"
    ))
}

/// A patch whose result is no object of the kind: 422 about the patch, not 400 about a body. It quotes what the patch made
/// of the object, as upstream; of a Secret it quotes the patch, for errors go into logs.
fn ill_typed(
    form: api::Form<'_>,
    patch_type: PatchType,
    patch: &Value,
    old: &Value,
    mut tree: Value,
    status: &Status,
) -> Status {
    let why = status.message();
    // "ConfigMap in version "v1" cannot be handled as a ConfigMap: json: ..."
    let why = why
        .split_once(" cannot be handled as a ")
        .map_or(why, |(_, rest)| rest.split_once(": ").map_or(rest, |(_, why)| why));
    let message = match patch_type {
        PatchType::Strategic => {
            let why = api::patch::converter_words(why);
            let shown = api::patch::cut(api::patch::go_print(patch));
            format!("Invalid value: {shown:?}: {why}")
        }
        _ => {
            let operations = patch_type == PatchType::Json;
            // The tree was read in part.
            tree.clone_from(old);
            form.convert_from_stored(&mut tree);
            tree.set("apiVersion", form.api_version());
            let made = match operations {
                true => api::patch::json(&mut tree, patch).is_ok(),
                false => {
                    api::patch::merge(&mut tree, patch);
                    true
                }
            };
            let shown = match made && *form.kind != SECRET {
                true => api::patch::shown(form, &tree, patch, operations),
                false => api::patch::shown(form, patch, &Value::Null, false),
            };
            format!("Invalid value: {shown:?}: {why}")
        }
    };
    let cause = Cause { reason: "FieldValueInvalid", message, field: "patch".into() };
    let nameless = Kind { name: "", ..Kind::BASE };
    Status::invalid(&nameless, "", vec![cause])
}

/// Name, namespace, uid and revision must fit what is stored.
fn check_identity(
    call: &Call<'_>,
    terms: Terms,
    part: Part,
    current: &Object,
    new: &mut Value,
) -> Result<(), Status> {
    let Call { form, request, .. } = *call;
    let (kind, name) = (form.kind, request.name.as_str());
    match new.str("metadata.name") {
        "" => return Err(no_name(name)),
        named if named != name => return Err(other_name(named, name)),
        _ => {}
    }
    create::check_namespace(form, request, new)?;
    let uid = new.str("metadata.uid");
    if !uid.is_empty() && uid != current.uid() {
        return Err(uid_conflict(current, uid));
    }
    let stored = current.revision().to_string();
    match new.str("metadata.resourceVersion") {
        "" | "0" => {
            let conditional_only = kind.declared.conditional_updates;
            if conditional_only && matches!(part, Part::Main | Part::Status) && terms.whole {
                let cause = Cause {
                    reason: "FieldValueInvalid",
                    message: "Invalid value: 0x0: must be specified for an update".into(),
                    field: "metadata.resourceVersion".into(),
                };
                // The complaint is the registry's, which knows the resource and not the kind.
                let resource = Kind { group: kind.group, name: kind.plural, ..Kind::BASE };
                return Err(Status::invalid(&resource, name, vec![cause]));
            }
        }
        revision if revision != stored => {
            if revision.parse::<u64>().is_err() {
                let cause = Cause {
                    reason: "FieldValueInvalid",
                    message: format!(
                        "Invalid value: {revision:?}: strconv.ParseUint: parsing {revision:?}: invalid syntax"
                    ),
                    field: "metadata.resourceVersion".into(),
                };
                return Err(Status::invalid(kind, name, vec![cause]));
            }
            return Err(Status::modified(kind, name));
        }
        _ => {}
    }
    Ok(())
}

/// Upstream's failed uid precondition.
pub(crate) fn uid_conflict(current: &Object, wanted: &str) -> Status {
    let (kind, name) = (current.kind(), current.name());
    Status::conflict(
        kind,
        name,
        format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {wanted}, UID in object meta: {}",
            storage::key(kind, current.namespace(), name),
            current.uid()
        ),
    )
}

/// Validation and the write; `new` is in the stored form, prepared.
async fn finish(
    act: &Act<'_>,
    terms: Terms,
    current: &Object,
    mut new: Value,
    mut notes: Notes,
) -> Result<Outcome, Lost> {
    let Act { core, caller, form, kind, request, .. } = *act;
    let old = act.old.unwrap_or(&Value::Null);
    let claims = allocate::update(&core.config, &core.store, kind, &mut new, old).await?;
    new.set("metadata.resourceVersion", current.revision().to_string());
    match request.subresource.as_str() {
        // The node of a pod is fixed for everyone else.
        "binding" => {}
        sub => rules::validate::update_subresource(form, sub, &new, old)?,
    }
    if request.subresource.is_empty() {
        notes.warnings.extend(rules::advice::of(kind, &new, Some(old)));
    }
    admission::validate(act, &new, &mut notes).await?;
    let warnings = notes.warnings;
    if !terms.applies && form.is_stored() {
        let manager = caller.manager(request);
        let now = rt::now().wall;
        apply::track(form.stored(), &manager, &request.subresource, now, Some(old), &mut new);
    }
    // What is in an older version than is written now is written again.
    let is_current = || form.webhook().is_none() || current.api_version() == form.written_version();
    if same_but_for_times(&new, old) && is_current() {
        return Ok(Outcome::ok(Answer::Object(current.clone())).with_warnings(warnings));
    }
    let object = Object::from_tree(kind, &new).map_err(|e| Status::bad_request(e.to_string()))?;
    if request.dry_run {
        return Ok(Outcome::ok(Answer::Object(object)).with_warnings(warnings));
    }
    let lost = |error| match error {
        error if allocate::claims::is_lost(&error) => Lost::Race,
        Error::Conflict { current: None, .. } => {
            Lost::Refused(Status::not_found(kind, &request.name))
        }
        Error::Conflict { .. } if terms.conditional => {
            Lost::Refused(Status::modified(kind, &request.name))
        }
        Error::Conflict { .. } => Lost::Race,
        other => Lost::Refused(storage::status(other)),
    };
    if finished_deleting(&new, old) {
        let claims = allocate::delete(kind, old);
        storage::delete(&core.store, current, claims.txn()).await.map_err(lost)?;
        return Ok(Outcome::ok(Answer::Object(object)).with_warnings(warnings));
    }
    let object = conversion::written(core, form, object).await?;
    let expect = Expect::Revision(current.revision());
    let room = room::of(caller, &object, Some(current));
    let write = (&object, expect, room);
    let object = quota::put(act, &new, notes.charge, write, claims.txn()).await?.map_err(lost)?;
    Ok(Outcome::ok(Answer::Object(object)).with_warnings(warnings))
}

/// Upstream's `ShouldDeleteDuringUpdate`: the last finalizer of an object marked for deletion went.
fn finished_deleting(new: &Value, old: &Value) -> bool {
    old.has("metadata.deletionTimestamp")
        && new.list("metadata.finalizers").is_empty()
        && old.int("metadata.deletionGracePeriodSeconds").unwrap_or(0) == 0
        && (new.str("kind") != "Namespace" || new.list("spec.finalizers").is_empty())
}

/// Whether two trees differ in nothing but the times of their managers.
fn same_but_for_times(new: &Value, old: &Value) -> bool {
    if new == old {
        return true;
    }
    let (a, b) = (new.list("metadata.managedFields"), old.list("metadata.managedFields"));
    if a.len() != b.len() {
        return false;
    }
    let same_managers = a.iter().zip(b).all(|(a, b)| {
        ["manager", "operation", "apiVersion", "subresource", "fieldsV1"]
            .iter()
            .all(|field| a.get(field) == b.get(field))
    });
    same_managers && same(new, old, &["metadata", "managedFields"])
}

/// Whether two trees are the same but for one path. In maps, nulls say the same as absence.
fn same(new: &Value, old: &Value, but: &[&str]) -> bool {
    let (Value::Object(a), Value::Object(b)) = (new, old) else { return new == old };
    let skipped = |key: &str| but == [key];
    let inside = |key: &str| match but.split_first() {
        Some((first, rest)) if *first == key => rest,
        _ => &[],
    };
    let null = &Value::Null;
    a.iter()
        .all(|(key, value)| skipped(key) || same(value, b.get(key).unwrap_or(null), inside(key)))
        && b.iter().all(|(key, value)| skipped(key) || a.contains_key(key) || value.is_null())
}

/// Kinds that are defined at run time say nothing of how their lists merge.
fn no_strategic_patch() -> Status {
    let message = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    Status::new(Reason::UnsupportedMediaType, message)
}

/// The refusal of a patch type that the kind does not take.
pub(crate) fn unsupported_patch() -> Status {
    Status::new(Reason::UnsupportedMediaType, "415: Unsupported Media Type").generic()
}
