//! Create: names, system metadata, admission, validation, allocation, and the write.

use api::kinds::SERVICE;
use api::status::Reason;
use api::{Form, Lens, LensMut, Object, Status, Value, json};
use client::{Answer, Request, Verb};
use store::{Error, Expect};

use crate::admission::{self, Act, Notes, resource_quota as quota};
use crate::allocate::claims::{self, Claims};
use crate::conversion;
use crate::core::{Call, Outcome};
use crate::storage::{self, room};
use crate::uid::new_uid;

/// How often a name or an address that the server chose, and another took meanwhile, is replaced.
const CHOICES_MAX: usize = 8;

/// Creates `tree` (in the call's form, decoded and checked).
///
/// # Errors
/// Whatever admission, validation or the store refuses.
pub(crate) async fn create(call: &Call<'_>, tree: Value) -> Result<Outcome, Status> {
    let kind = call.kind();
    let named = !tree.str("metadata.name").is_empty() || !tree.has("metadata.generateName");
    if named && *kind != SERVICE {
        return once(call, tree).await.0;
    }
    for _ in 0..CHOICES_MAX {
        match once(call, tree.clone()).await {
            (Err(_), true) => continue,
            (outcome, _) => return outcome,
        }
    }
    let name = if named { "metadata.name" } else { "metadata.generateName" };
    Err(Status::already_exists(kind, tree.str(name)))
}

/// One try; tells whether another may do, because the server chose what was taken.
async fn once(call: &Call<'_>, mut tree: Value) -> (Result<Outcome, Status>, bool) {
    let (kind, store) = (call.kind(), call.store());
    let mut notes = Notes::default();
    let generated = tree.str("metadata.name").is_empty() && tree.has("metadata.generateName");
    let ready = prepare(call, &mut tree, &mut notes).await;
    let claims = match ready {
        Ok(claims) => claims,
        Err(status) => return (Err(status), false),
    };
    let object = match Object::from_tree(kind, &tree) {
        Ok(object) => object,
        Err(error) => return (Err(Status::bad_request(error.to_string())), false),
    };
    let object = match call.request.dry_run {
        true => object,
        false => match conversion::written(call.core, call.form, object).await {
            Ok(object) => object,
            Err(status) => return (Err(status), false),
        },
    };
    // Only a quota may ask for it again.
    if notes.charge.is_none() {
        drop(std::mem::take(&mut tree));
    }
    let warnings = notes.warnings;
    if call.request.dry_run {
        let exists = storage::find(store, kind, object.namespace(), object.name()).await;
        let outcome = match exists {
            Ok(Some(found)) => Err(taken(kind, object.name(), found.deleting())),
            Ok(None) => Ok(Outcome::created(Answer::Object(object)).with_warnings(warnings)),
            Err(status) => Err(status),
        };
        let again = generated && outcome.is_err();
        return (outcome, again);
    }
    let room = room::of(call.caller, &object, None);
    let write = (&object, Expect::Absent, room);
    let act = Act::create(call);
    let written = quota::put(&act, &tree, notes.charge, write, claims.txn()).await;
    let written = match written {
        Ok(written) => written,
        Err(status) => return (Err(status), false),
    };
    let outcome = match written {
        Ok(object) => Ok(Outcome::created(Answer::Object(object)).with_warnings(warnings)),
        Err(error) if claims::is_lost(&error) => {
            return (Err(Status::modified(kind, object.name())), true);
        }
        Err(Error::Conflict { current, .. }) => {
            let deleting = current
                .and_then(|version| storage::object(kind, &version).ok())
                .is_some_and(|object| object.deleting());
            let status = taken(kind, object.name(), deleting);
            return (Err(status), generated);
        }
        Err(error) => Err(storage::status(error)),
    };
    (outcome, false)
}

/// The name is another object's, which may be on its way out.
fn taken(kind: &api::Kind, name: &str, deleting: bool) -> Status {
    let status = Status::already_exists(kind, name);
    if !deleting {
        return status;
    }
    let message = format!("object is being deleted: {}", status.message());
    Status::new(Reason::AlreadyExists, message).about(kind, name)
}

/// Everything before the write. The tree leaves in the stored form.
async fn prepare(call: &Call<'_>, tree: &mut Value, notes: &mut Notes) -> Result<Claims, Status> {
    let Call { core, form, request, .. } = *call;
    let kind = form.kind;
    check_place(form, request, tree)?;
    if !matches!(tree.str("metadata.resourceVersion"), "" | "0") {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    tree.remove("metadata.resourceVersion");
    if request.verb != Verb::Patch {
        // An apply records its own managers.
        tree.remove("metadata.managedFields");
    }
    let now = rt::now().wall;
    // Nobody manages what is the server's.
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        tree.remove(&format!("metadata.{field}"));
    }
    rules::defaults::apply(form, tree);
    if request.verb != Verb::Patch {
        // As upstream: of what was sent and defaulted, not of what admission and the kind's strategy make of it.
        let manager = call.caller.manager(request);
        apply::track(form, &manager, &request.subresource, now, None, tree);
    }
    let act = Act::create(call);
    admission::mutate(&act, tree, notes).await?;
    call.works_on(tree, &Value::Null)?;
    // Whatever changed the object, it is made where the request says.
    check_place(form, request, tree)?;
    tree.set("metadata.uid", new_uid());
    tree.set("metadata.creationTimestamp", api::time::format(now));
    rules::to_stored(form, tree).map_err(Status::bad_request)?;
    let prefix = tree.str("metadata.generateName");
    if tree.str("metadata.name").is_empty() && !prefix.is_empty() {
        let mut random = [0; 5];
        rt::random(&mut random);
        let name = api::names::generate(prefix, random);
        tree.set("metadata.name", name);
    }
    let stored = form.stored();
    if kind.declared.names_requester {
        name_requester(call.caller, tree);
    }
    rules::strategy::create(stored, tree);
    let claims = crate::allocate::create(&core.config, &core.store, kind, tree).await?;
    rules::validate::create(form, tree)?;
    notes.warnings.extend(rules::advice::of(kind, tree, None));
    admission::validate(&act, tree, notes).await?;
    Ok(claims)
}

/// Writes who asks into the object's spec, whatever it says itself.
fn name_requester(caller: &crate::user::Caller, tree: &mut Value) {
    let user = &caller.user;
    let said = [
        ("username", user.name.as_str().into(), user.name.is_empty()),
        ("uid", user.uid.as_str().into(), user.uid.is_empty()),
        ("groups", json!(user.groups), user.groups.is_empty()),
        ("extra", json!(user.extra), user.extra.is_empty()),
    ];
    for (field, value, is_empty) in said {
        let path = format!("spec.{field}");
        match is_empty {
            true => drop(tree.remove(&path)),
            false => tree.set(&path, value),
        }
    }
}

/// Namespace and name must be the path's, or empty.
fn check_place(form: Form<'_>, request: &Request, tree: &mut Value) -> Result<(), Status> {
    check_namespace(form, request, tree)?;
    if !request.name.is_empty() {
        let name = tree.str("metadata.name");
        if !name.is_empty() && name != request.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                request.name
            )));
        }
        tree.set("metadata.name", request.name.as_str());
    }
    Ok(())
}

/// The object's namespace must be the path's, or empty.
///
/// # Errors
/// 400 in upstream's words.
pub(crate) fn check_namespace(
    form: Form<'_>,
    request: &Request,
    tree: &mut Value,
) -> Result<(), Status> {
    let named = tree.str("metadata.namespace");
    if !form.kind.namespaced() {
        if !named.is_empty() {
            tree.remove("metadata.namespace");
        }
        return Ok(());
    }
    if request.namespace.is_empty() {
        return Err(Status::bad_request("namespace is required"));
    }
    if !named.is_empty() && named != request.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    tree.set("metadata.namespace", request.namespace.as_str());
    Ok(())
}
