//! `scale`: the number of replicas of anything that has one, as an `autoscaling/v1 Scale`.

use api::kinds::SCALE;
use api::selector::Selector;
use api::status::Cause;
use api::{Kind, Lens, LensMut, Object, Status, Sub, Value, json};
use client::{Answer, Body, PatchType, Verb};

use crate::admission::{self, Act, Notes};
use crate::conversion;
use crate::core::{Call, Outcome, method_not_allowed, not_found};
use crate::registry::update::{self, uid_conflict};
use crate::storage;

/// How often a change that lost a race is made anew.
const CONFLICT_TRIES_MAX: usize = 5;

struct Paths<'a> {
    spec: &'a str,
    status: &'a str,
    selector: &'a str,
}

pub(super) async fn perform(call: &Call<'_>, body: Body) -> Result<Outcome, Status> {
    let (kind, form, request) = (call.kind(), call.form, call.request);
    let paths = form
        .subresources()
        .into_iter()
        .find_map(|sub| match sub {
            Sub::Scale { spec, status, selector } => Some(Paths { spec, status, selector }),
            _ => None,
        })
        .ok_or_else(|| match kind.is_built_in() {
            true => not_found(),
            false => Status::not_found(kind, &request.name),
        })?;
    match request.verb {
        Verb::Get => {
            let object =
                storage::get(call.store(), kind, &request.namespace, &request.name).await?;
            let object = conversion::one(call.core, form, &object).await?;
            Ok(Outcome::ok(Answer::Tree(scale(&object, &paths))))
        }
        Verb::Update | Verb::Patch => change(call, &body, &paths).await,
        _ => Err(method_not_allowed()),
    }
}

/// Changes the number of replicas; anew on the newer object when a race is lost.
async fn change(call: &Call<'_>, body: &Body, paths: &Paths<'_>) -> Result<Outcome, Status> {
    let (kind, request) = (call.kind(), call.request);
    for _ in 0..CONFLICT_TRIES_MAX {
        let current = storage::get(call.store(), kind, &request.namespace, &request.name).await?;
        let current = conversion::one(call.core, call.form, &current).await?;
        let old = scale(&current, paths);
        let (wanted, named) = wanted(kind, &current, &old, body)?;
        let mut notes = Notes::default();
        let wanted = admission::admit(&Act::update(call, &old), wanted, &mut notes).await?;
        let replicas = replicas(kind, &wanted, &request.name)?;
        let set = |tree: &mut Value| {
            // What was admitted is a change of this version.
            if tree.str("metadata.resourceVersion") != old.str("metadata.resourceVersion") {
                return Err(Status::modified(kind, &request.name));
            }
            tree.set(paths.spec, replicas);
            Ok(())
        };
        match update::change(&Call { admitted: true, ..*call }, true, set).await {
            Err(status) if status.is_conflict() && !named => continue,
            Err(status) => return Err(status),
            Ok((object, warnings)) => {
                let object = conversion::one(call.core, call.form, &object).await?;
                let outcome = Outcome::ok(Answer::Tree(scale(&object, paths)));
                return Ok(outcome.with_warnings(notes.warnings).with_warnings(warnings));
            }
        }
    }
    Err(Status::modified(kind, &request.name))
}

/// The Scale that the request asks for, and whether it names the revision it was decided on.
fn wanted(
    kind: &'static Kind,
    object: &Object,
    current: &Value,
    body: &Body,
) -> Result<(Value, bool), Status> {
    let wanted = match body {
        Body::Tree(wanted) => wanted.clone(),
        Body::Patch(patch_type, patch) => {
            let mut wanted = current.clone();
            match patch_type {
                PatchType::Json => api::patch::json(&mut wanted, patch)?,
                PatchType::Merge | PatchType::Apply => api::patch::merge(&mut wanted, patch),
                PatchType::Strategic => api::patch::strategic(&SCALE, &mut wanted, patch)?,
            }
            wanted
        }
        Body::None => return Err(Status::bad_request("the request has no body")),
    };
    let name = wanted.str("metadata.name");
    if !name.is_empty() && name != object.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            object.name()
        )));
    }
    let uid = wanted.str("metadata.uid");
    if !uid.is_empty() && uid != object.uid() {
        return Err(uid_conflict(object, uid));
    }
    let revision = wanted.str("metadata.resourceVersion");
    if !revision.is_empty() && revision != current.str("metadata.resourceVersion") {
        return Err(Status::modified(kind, object.name()));
    }
    let named = matches!(body, Body::Tree(_)) && !revision.is_empty();
    Ok((wanted, named))
}

fn replicas(kind: &Kind, wanted: &Value, name: &str) -> Result<i64, Status> {
    let replicas = wanted.int("spec.replicas").unwrap_or(0);
    // Of kinds that are defined at run time the object is judged, not the Scale.
    if !kind.is_built_in() || (0..=i64::from(i32::MAX)).contains(&replicas) {
        return Ok(replicas);
    }
    let cause = Cause {
        reason: "FieldValueInvalid",
        message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
        field: "spec.replicas".into(),
    };
    Err(Status::invalid(&SCALE, name, vec![cause]))
}

/// The object seen as a Scale.
fn scale(object: &Object, paths: &Paths<'_>) -> Value {
    let tree = object.tree();
    let mut metadata = json!({"name": object.name()});
    for field in ["namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = tree.at("metadata").get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": tree.int(paths.status).unwrap_or(0)});
    let selector = match tree.at(paths.selector) {
        Value::String(text) => text.clone(),
        selector => Selector::text(selector),
    };
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    let mut spec = json!({});
    if let Some(replicas) = tree.int(paths.spec).filter(|replicas| *replicas != 0) {
        spec["replicas"] = replicas.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}
