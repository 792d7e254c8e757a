//! Subresources with rules of their own: scale, binding, eviction, finalize, token, parts of pods.

mod eviction;
mod pod;
mod scale;
mod token;

use api::kinds::{CERTIFICATE_SIGNING_REQUEST, NAMESPACE, POD, SERVICE_ACCOUNT};
use api::{Form, Lens, LensMut, Status, Sub, Value, json};
use client::{Answer, Body, Verb};
use rules::signing;

pub(crate) use pod::bind;

use crate::core::{Call, Outcome, method_not_allowed, not_found};
use crate::registry::update::{self, Part};
use crate::storage;

/// Does what an authorized request asks of a subresource.
///
/// # Errors
/// 404 for a subresource that the kind does not have, 405 for a verb that it does not have.
pub(crate) async fn perform(call: &Call<'_>, body: Body) -> Result<Outcome, Status> {
    let (kind, form, request) = (call.kind(), call.form, call.request);
    let name = request.subresource.as_str();
    let has =
        |sub: &str| form.subresources().iter().any(|own| matches!(own, Sub::Named(n) if *n == sub));
    let part = match name {
        "status" if *kind == CERTIFICATE_SIGNING_REQUEST => Part::Own(|new, old| {
            signing::update_status(new, old, rt::now().wall);
        }),
        "approval" if *kind == CERTIFICATE_SIGNING_REQUEST => Part::Own(|new, old| {
            signing::update_approval(new, old, rt::now().wall);
        }),
        "status" if form.has_status() => Part::Status,
        "scale" => return scale::perform(call, body).await,
        "finalize" if *kind == NAMESPACE => Part::Own(finalize),
        "ephemeralcontainers" if *kind == POD && has(name) => Part::Own(pod::ephemeral_containers),
        "resize" if *kind == POD && has(name) => Part::Own(pod::resize),
        "binding" if *kind == POD && request.verb == Verb::Create => {
            return bind(call, body).await;
        }
        "eviction" if *kind == POD && request.verb == Verb::Create => {
            return eviction::evict(call, body).await;
        }
        "token" if *kind == SERVICE_ACCOUNT && request.verb == Verb::Create => {
            return token::create(call, body).await;
        }
        "binding" | "eviction" if *kind == POD => return Err(method_not_allowed()),
        "token" if *kind == SERVICE_ACCOUNT => return Err(method_not_allowed()),
        _ if !kind.is_built_in() => return Err(Status::not_found(kind, &request.name)),
        _ => return Err(not_found()),
    };
    match request.verb {
        Verb::Get => {
            let object =
                storage::get(call.store(), kind, &request.namespace, &request.name).await?;
            Ok(Outcome::ok(Answer::Object(object)))
        }
        Verb::Update | Verb::Patch => update::update(call, body, part).await,
        _ => Err(method_not_allowed()),
    }
}

/// Whoever writes to a subresource that the kind does not have is told so before his body is looked at. Kinds that are
/// defined at run time have words of their own, and objects to look for first.
///
/// # Errors
/// 404 if there is none.
pub(crate) fn check(form: Form<'_>, subresource: &str) -> Result<(), Status> {
    let is = |own: &Sub<'_>| match own {
        Sub::Status => subresource == "status",
        Sub::Scale { .. } => subresource == "scale",
        Sub::Named(name) => *name == subresource,
    };
    match subresource.is_empty() || !form.kind.is_built_in() || form.subresources().iter().any(is) {
        true => Ok(()),
        false => Err(not_found()),
    }
}

/// `namespaces/finalize` changes `spec.finalizers` and nothing else.
fn finalize(new: &mut Value, old: &Value) {
    let finalizers = new.at("spec.finalizers").clone();
    *new = old.clone();
    match finalizers {
        Value::Null => {
            new.remove("spec.finalizers");
        }
        finalizers => new.set("spec.finalizers", finalizers),
    }
}

/// The `Status` that upstream answers where there is no object to show.
pub(crate) fn success(code: u16) -> Answer {
    Answer::Tree(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code,
    }))
}
