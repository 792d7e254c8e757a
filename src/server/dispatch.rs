//! The way of an authorized request to what answers it.

use api::kinds::{BINDING, COMPONENT_STATUS};
use api::{Resource, Status};
use client::{Answer, Body, Request, Verb};

use crate::core::{Call, Core, Outcome, method_not_allowed, terminating, tree_of};
use crate::registry::update::Part;
use crate::registry::{create, delete, update, watch};
use crate::storage;
use crate::user::Caller;
use crate::{component_status, conversion, reviews, subresource, usage};

/// Does what an authorized request asks for.
///
/// # Errors
/// What the verb, admission, validation or the store refuse.
pub(crate) async fn perform(
    core: &Core,
    caller: &Caller,
    mut request: Request,
) -> Result<Outcome, Status> {
    let body = std::mem::take(&mut request.body);
    let resource = core.resource(&request)?;
    let request = &request;
    let call = Call::new(core, caller, resource.form(), request);
    let outcome = answer(&call, &resource, body).await?;
    conversion::outcome(&call, outcome).await
}

async fn answer(call: &Call<'_>, resource: &Resource, body: Body) -> Result<Outcome, Status> {
    let Call { core, request, .. } = *call;
    let kind = call.kind();
    // Whoever does not say that the past is good enough is told the present, also of what other
    // servers of the store did. On our own store that is so anyway.
    if request.list.resource_version != "0" {
        core.store.fresh().await.map_err(storage::status)?;
    }
    if !request.subresource.is_empty() {
        return subresource::perform(call, body).await;
    }
    if !discovery::verbs(kind).contains(&request.verb.as_str()) {
        return Err(method_not_allowed());
    }
    if !kind.stored() {
        return match request.verb {
            Verb::Create if *kind == BINDING => subresource::bind(call, body).await,
            Verb::Create => reviews::create(call, body).await,
            _ if *kind == COMPONENT_STATUS => component_status::read(call),
            _ if kind.declared.computed => usage::read(call).await,
            _ => Err(method_not_allowed()),
        };
    }
    match request.verb {
        Verb::Get => {
            let object = storage::get(&core.store, kind, &request.namespace, &request.name).await?;
            Ok(Outcome::ok(Answer::Object(object)))
        }
        Verb::List => {
            let found = conversion::list(core, call.form, request, &request.list).await?;
            Ok(Outcome::ok(Answer::List(found)))
        }
        Verb::Create if resource.is_terminating() => Err(terminating(kind)),
        Verb::Create => create::create(call, tree_of(body)?).await,
        Verb::Update | Verb::Patch => update::update(call, body, Part::Main).await,
        Verb::Delete => delete::delete(call).await,
        Verb::DeleteCollection => delete::collection(call).await,
        Verb::Watch => Err(Status::internal("a watch came as a call")),
    }
}

/// Starts a watch for an authorized request.
///
/// # Errors
/// 405 for what has no objects, and as [`watch::watch`].
pub(crate) async fn watch(core: &Core, request: &Request) -> Result<watch::Stream, Status> {
    if !request.kind.stored() {
        return Err(method_not_allowed());
    }
    watch::watch(core, request).await
}
