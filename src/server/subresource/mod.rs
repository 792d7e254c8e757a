//! Subresources with rules of their own: scale, binding, eviction, finalize, token, parts of pods.

mod eviction;
mod pod;
mod scale;
mod token;

use api::kinds::{NAMESPACE, POD, SERVICE_ACCOUNT};
use api::{Form, Lens, LensMut, Status, Sub, Value, json};
use client::{Answer, Request, Verb};

pub(crate) use pod::bind;

use crate::admission::{self, Act, Operation};
use crate::core::{Caller, Core, Outcome, body, method_not_allowed, not_found};
use crate::registry::storage;
use crate::registry::update::{self, Part};

/// Does what an authorized request asks of a subresource.
///
/// # Errors
/// 404 for a subresource that the kind does not have, 405 for a verb that it does not have.
pub(crate) async fn perform(
    core: &Core,
    caller: &Caller,
    form: Form<'_>,
    request: &Request,
) -> Result<Outcome, Status> {
    let kind = form.kind;
    let name = request.subresource.as_str();
    let has =
        |sub: &str| form.subresources().iter().any(|own| matches!(own, Sub::Named(n) if *n == sub));
    let part = match name {
        "status" if form.has_status() => Part::Status,
        "scale" => return scale::perform(core, caller, form, request).await,
        "finalize" if *kind == NAMESPACE => Part::Own(finalize),
        "ephemeralcontainers" if *kind == POD && has(name) => Part::Own(pod::ephemeral_containers),
        "resize" if *kind == POD && has(name) => Part::Own(pod::resize),
        "binding" if *kind == POD && request.verb == Verb::Create => {
            return bind(core, caller, request).await;
        }
        "eviction" if *kind == POD && request.verb == Verb::Create => {
            return eviction::evict(core, caller, request).await;
        }
        "token" if *kind == SERVICE_ACCOUNT && request.verb == Verb::Create => {
            return token::create(core, caller, request).await;
        }
        "binding" | "eviction" if *kind == POD => return Err(method_not_allowed(kind)),
        "token" if *kind == SERVICE_ACCOUNT => return Err(method_not_allowed(kind)),
        _ => return Err(not_found()),
    };
    match request.verb {
        Verb::Get => {
            let object = storage::get(&core.store, kind, &request.namespace, &request.name).await?;
            Ok(Outcome::ok(Answer::Object(object)))
        }
        Verb::Update | Verb::Patch => update::update(core, caller, form, request, part).await,
        _ => Err(method_not_allowed(kind)),
    }
}

/// Admission of what is created through a subresource: its own body, not the object that it is about.
pub(crate) async fn admit(core: &Core, caller: &Caller, request: &Request) -> Result<(), Status> {
    let operation = Operation::Create;
    let act = Act { core, caller, operation, kind: request.kind, request, old: None };
    admission::admit(&act, body(request)?).await
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
