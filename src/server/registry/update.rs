//! Update and patch: read, change, check, write where nothing else has changed it meanwhile.

use api::apply;
use api::codec::{self, FieldValidation};
use api::status::{Cause, Reason};
use api::{Form, Lens, LensMut, Object, Status, Value};
use client::{Answer, Body, PatchType, Request};
use store::{Error, Expect};

use super::{create, room, storage};
use crate::admission::{self, Act, Notes, Operation};
use crate::allocate;
use crate::core::{Caller, Core, Outcome};

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

/// Runs an update or patch request.
///
/// # Errors
/// 404, 409, 422 and whatever admission refuses.
pub(crate) async fn update(
    core: &Core,
    caller: &Caller,
    form: Form<'_>,
    request: &Request,
    part: Part,
) -> Result<Outcome, Status> {
    let kind = form.kind;
    for attempt in 1.. {
        let Some(current) =
            storage::find(&core.store, kind, &request.namespace, &request.name).await?
        else {
            return missing(core, caller, form, request, part).await;
        };
        match once(core, caller, form, request, part, &current).await {
            // Only what did not name a revision itself is tried again.
            Err(Lost::Race) if attempt < CONFLICT_TRIES_MAX => continue,
            Err(Lost::Race) => return Err(Status::modified(kind, &request.name)),
            Err(Lost::Refused(status)) => return Err(status),
            Ok(outcome) => return Ok(outcome),
        }
    }
    Err(Status::modified(kind, &request.name))
}

/// Changes a stored object by a function, with the same admission and validation as an update of
/// `request`, whose body is empty. `main` says that what the main resource holds changes: statuses
/// stay, generations count.
///
/// # Errors
/// As `update`, and what `change` refuses.
pub(crate) async fn change(
    core: &Core,
    caller: &Caller,
    request: &Request,
    main: bool,
    change: impl Fn(&mut Value) -> Result<(), Status>,
) -> Result<Object, Status> {
    let kind = request.kind;
    let resource = core.resource(request)?;
    let form = resource.form().stored();
    for attempt in 1.. {
        let current = storage::get(&core.store, kind, &request.namespace, &request.name).await?;
        let old = current.whole_tree();
        let mut new = old.clone();
        change(&mut new)?;
        let mut notes = Notes::default();
        let act = updates(core, caller, request, &old);
        admission::mutate(&act, form, &mut new, &mut notes).await?;
        if main {
            api::strategy::update(form, &mut new, &old);
        }
        let finished = finish(&act, form, &current, new, notes);
        match finished.await {
            Err(Lost::Race) if attempt < CONFLICT_TRIES_MAX => continue,
            Err(Lost::Race) => break,
            Err(Lost::Refused(status)) => return Err(status),
            Ok(Outcome { answer: Answer::Object(object), .. }) => return Ok(object),
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
async fn missing(
    core: &Core,
    caller: &Caller,
    form: Form<'_>,
    request: &Request,
    part: Part,
) -> Result<Outcome, Status> {
    let kind = form.kind;
    let not_found = || Status::not_found(kind, &request.name);
    let tree = match &request.body {
        Body::Patch(PatchType::Apply, applied) if matches!(part, Part::Main) => {
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
            apply::apply(apply::Request {
                form,
                live: None,
                applied,
                manager: &caller.manager(request),
                subresource: "",
                force: request.force,
                now: rt::now().wall,
            })?
        }
        Body::Tree(tree) if matches!(part, Part::Main) && kind.declared.creates_on_update => {
            tree.clone()
        }
        Body::Tree(tree)
            if tree.has("metadata.name") && tree.str("metadata.name") != request.name =>
        {
            return Err(other_name(tree.str("metadata.name"), &request.name));
        }
        _ => return Err(not_found()),
    };
    core.authorizer
        .check(core, &caller.user, &crate::auth::Attributes::of(request, "create"))
        .await?;
    create::create(core, caller, form, request, tree).await
}

async fn once(
    core: &Core,
    caller: &Caller,
    form: Form<'_>,
    request: &Request,
    part: Part,
    current: &Object,
) -> Result<Outcome, Lost> {
    let old = current.whole_tree();
    let mut notes = Notes::default();
    let mut new = wanted(caller, form, request, &old, &mut notes.warnings)?;
    check_identity(form, request, part, current, &mut new)?;
    api::defaults::apply(form, &mut new);
    let act = updates(core, caller, request, &old);
    admission::mutate(&act, form, &mut new, &mut notes).await?;
    form.convert_to_stored(&mut new);
    match part {
        Part::Main => api::strategy::update(form.stored(), &mut new, &old),
        Part::Status => api::strategy::update_status(form.stored(), &mut new, &old),
        Part::Own(take) => take(&mut new, &old),
    }
    finish(&act, form, current, new, notes).await
}

/// What the request wants the object to be, in its form, with the revision it was decided on.
fn wanted(
    caller: &Caller,
    form: Form<'_>,
    request: &Request,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let (patch_type, patch) = match &request.body {
        Body::Tree(tree) => return Ok(tree.clone()),
        Body::Patch(patch_type, patch) => (*patch_type, patch),
        Body::None => return Err(Status::bad_request("the request has no body")),
    };
    let mut tree = old.clone();
    form.convert_from_stored(&mut tree);
    tree.set("apiVersion", form.api_version());
    match patch_type {
        PatchType::Json => api::patch::json(&mut tree, patch)?,
        PatchType::Merge => api::patch::merge(&mut tree, patch),
        // Only kinds in code say how their lists merge.
        PatchType::Strategic if !form.kind.is_built_in() => return Err(unsupported_patch()),
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
    let validation = match request.field_validation.as_str() {
        "Strict" => FieldValidation::Strict,
        "Ignore" => FieldValidation::Ignore,
        _ => FieldValidation::Warn,
    };
    match codec::check_fields(form, &mut tree, validation) {
        Ok(more) => warnings.extend(more),
        // What an apply declares was read against the schema before.
        Err(status) if patch_type == PatchType::Apply => return Err(status),
        Err(status) => return Err(ill_typed(patch, &status)),
    }
    Ok(tree)
}

fn other_name(named: &str, name: &str) -> Status {
    Status::bad_request(format!(
        "the name of the object ({named}) does not match the name on the URL ({name})"
    ))
}

/// A patch whose result is no object of the kind: 422 about the patch, not 400 about a body.
fn ill_typed(patch: &Value, status: &Status) -> Status {
    let why = status.message();
    // "ConfigMap in version "v1" cannot be handled as a ConfigMap: json: ..."
    let why = why
        .split_once(" cannot be handled as a ")
        .map_or(why, |(_, rest)| rest.split_once(": ").map_or(rest, |(_, why)| why));
    let cause = Cause {
        reason: "FieldValueInvalid",
        message: format!("Invalid value: {:?}: {why}", patch.to_string()),
        field: "patch".into(),
    };
    let nameless = api::Kind { name: "", ..api::Kind::BASE };
    Status::invalid(&nameless, "", vec![cause])
}

/// Name, namespace, uid and revision must fit what is stored.
fn check_identity(
    form: Form<'_>,
    request: &Request,
    part: Part,
    current: &Object,
    new: &mut Value,
) -> Result<(), Status> {
    let (kind, name) = (form.kind, request.name.as_str());
    match new.str("metadata.name") {
        "" => {
            return Err(Status::bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
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
            if conditional_only
                && matches!(part, Part::Main)
                && matches!(request.body, Body::Tree(_))
            {
                let cause = Cause {
                    reason: "FieldValueInvalid",
                    message: "Invalid value: 0x0: must be specified for an update".into(),
                    field: "metadata.resourceVersion".into(),
                };
                return Err(Status::invalid(kind, name, vec![cause]));
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

/// What admission is told of an update.
fn updates<'a>(
    core: &'a Core,
    caller: &'a Caller,
    request: &'a Request,
    old: &'a Value,
) -> Act<'a> {
    let operation = Operation::Update;
    Act { core, caller, operation, kind: request.kind, request, old: Some(old) }
}

/// Validation and the write; `new` is in the stored form, prepared.
async fn finish(
    act: &Act<'_>,
    form: Form<'_>,
    current: &Object,
    mut new: Value,
    mut notes: Notes,
) -> Result<Outcome, Lost> {
    let Act { core, caller, kind, request, .. } = *act;
    let old = act.old.unwrap_or(&Value::Null);
    // A patch that names its revision was checked above; one that does not may be tried again.
    let conditional = match &request.body {
        Body::Tree(tree) => !matches!(tree.str("metadata.resourceVersion"), "" | "0"),
        Body::Patch(_, patch) => patch.has("metadata.resourceVersion"),
        Body::None => false,
    };
    let claims = allocate::update(core, kind, &mut new, old).await?;
    new.set("metadata.resourceVersion", current.revision().to_string());
    match request.subresource.as_str() {
        // The node of a pod is fixed for everyone else.
        "binding" => {}
        sub => api::validate::update_subresource(form.stored(), sub, &new, old)?,
    }
    admission::validate(act, &new, &mut notes).await?;
    let warnings = notes.warnings;
    if !matches!(request.body, Body::Patch(PatchType::Apply, _)) {
        let manager = caller.manager(request);
        let now = rt::now().wall;
        apply::track(form.stored(), &manager, &request.subresource, now, Some(old), &mut new);
    }
    if same_but_for_times(&new, old) {
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
        Error::Conflict { .. } if conditional => {
            Lost::Refused(Status::modified(kind, &request.name))
        }
        Error::Conflict { .. } => Lost::Race,
        other => Lost::Refused(storage::status(other)),
    };
    if finished_deleting(&new, old) {
        let claims = allocate::delete(kind, old);
        storage::delete(&core.store, current, claims).await.map_err(lost)?;
        return Ok(Outcome::ok(Answer::Object(object)).with_warnings(warnings));
    }
    let expect = Expect::Revision(current.revision());
    let room = room::of(caller, &object, Some(current));
    let object = storage::put(&core.store, &object, expect, room, claims).await.map_err(lost)?;
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

/// The refusal of a patch type that the kind does not take.
pub(crate) fn unsupported_patch() -> Status {
    Status::new(Reason::UnsupportedMediaType, "415: Unsupported Media Type")
}
