//! What every request works with, and the way of a request from authorization to its verb.

use std::sync::Arc;

use api::kinds::BINDING;
use api::status::Reason;
use api::{Kind, Resource, Status};
use client::{Answer, Body, PatchType, Registry, Request, Verb};
use store::Store;

use crate::auth::reviews;
use crate::auth::tokens::Tokens;
use crate::auth::{Attributes, Authorizer, User};
use crate::config::Config;
use crate::door::Door;
use crate::registry::cache::Cache;
use crate::registry::update::Part;
use crate::registry::{create, delete, list, storage, update, watch};
use crate::subresource;

/// The server's parts.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) cache: Cache,
    pub(crate) authorizer: Authorizer,
    pub(crate) tokens: Tokens,
    /// Opened once the node runs.
    pub(crate) door: Door,
    pub(crate) kinds: Arc<Registry>,
    /// For what is proxied.
    pub(crate) http: http::client::Client,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) user: Arc<User>,
    /// The name of the client's program, the default field manager.
    pub(crate) agent: String,
}

impl Caller {
    /// The field manager of a request.
    pub(crate) fn manager(&self, request: &Request) -> String {
        match request.field_manager.as_str() {
            "" => self.agent.clone(),
            manager => manager.to_owned(),
        }
    }
}

/// An answer with what goes beside it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) answer: Answer,
    pub(crate) warnings: Vec<String>,
    /// Something was made: 201.
    pub(crate) created: bool,
}

impl Outcome {
    pub(crate) fn ok(answer: Answer) -> Outcome {
        Outcome { answer, warnings: Vec::new(), created: false }
    }

    pub(crate) fn created(answer: Answer) -> Outcome {
        Outcome { answer, warnings: Vec::new(), created: true }
    }

    #[must_use]
    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Outcome {
        self.warnings.extend(warnings);
        self
    }
}

impl Core {
    /// Whether the caller may do this.
    ///
    /// # Errors
    /// 403 in upstream's words.
    pub(crate) async fn authorize(&self, caller: &Caller, request: &Request) -> Result<(), Status> {
        let attributes = Attributes::of(request, request.verb.as_str());
        self.authorizer.check(self, &caller.user, &attributes).await
    }

    /// The request's kind in the version that is asked for, as it is defined now.
    ///
    /// # Errors
    /// 404 if the kind is not served in that version.
    pub(crate) fn resource(&self, request: &Request) -> Result<Resource, Status> {
        let (group, version) =
            request.group_version.rsplit_once('/').unwrap_or(("", &request.group_version));
        self.kinds.current().of_kind(request.kind, group, version).ok_or_else(not_found)
    }

    /// Does what an authorized request asks for. What it creates is taken out of it.
    pub(crate) async fn perform(
        &self,
        caller: &Caller,
        request: &mut Request,
    ) -> Result<Outcome, Status> {
        let kind = request.kind;
        let resource = self.resource(request)?;
        let form = resource.form();
        // Whoever does not say that the past is good enough is told the present, also of what other
        // servers of the store did. On our own store that is so anyway.
        if request.list.resource_version != "0" {
            self.store.fresh().await.map_err(storage::status)?;
        }
        if !request.subresource.is_empty() {
            return subresource::perform(self, caller, form, request).await;
        }
        if !api::discovery::verbs(kind).contains(&request.verb.as_str()) {
            return Err(method_not_allowed(kind));
        }
        if !kind.stored() {
            return match request.verb {
                Verb::Create if *kind == BINDING => subresource::bind(self, caller, request).await,
                Verb::Create => reviews::create(self, caller, request).await,
                _ => Err(method_not_allowed(kind)),
            };
        }
        match request.verb {
            Verb::Get => {
                let object =
                    storage::get(&self.store, kind, &request.namespace, &request.name).await?;
                Ok(Outcome::ok(Answer::Object(object)))
            }
            Verb::List => {
                let found = list::list(self, form, &request.namespace, &request.list).await?;
                Ok(Outcome::ok(Answer::List(found)))
            }
            Verb::Create => {
                body(request)?;
                let taken = std::mem::replace(&mut request.body, Body::None);
                let (Body::Tree(tree) | Body::Patch(_, tree)) = taken else {
                    return Err(Status::bad_request("the request has no body"));
                };
                create::create(self, caller, form, request, tree).await
            }
            Verb::Update | Verb::Patch => {
                update::update(self, caller, form, request, Part::Main).await
            }
            Verb::Delete => delete::delete(self, caller, form, request).await,
            Verb::DeleteCollection => delete::collection(self, caller, form, request).await,
            Verb::Watch => Err(Status::internal("a watch came as a call")),
        }
    }

    /// Starts a watch for an authorized request.
    pub(crate) async fn watch(&self, request: &Request) -> Result<watch::Stream, Status> {
        if !request.kind.stored() {
            return Err(method_not_allowed(request.kind));
        }
        watch::watch(self, request).await
    }

    /// A random UUID (version 4).
    pub(crate) fn new_uid(&self) -> String {
        new_uid()
    }
}

/// A random UUID (version 4).
pub(crate) fn new_uid() -> String {
    let mut bytes = [0; 16];
    rt::random(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The tree that a request must have.
pub(crate) fn body(request: &Request) -> Result<&api::Value, Status> {
    match &request.body {
        Body::Tree(tree) => Ok(tree),
        Body::Patch(PatchType::Apply, tree) => Ok(tree),
        _ => Err(Status::bad_request("the request has no body")),
    }
}

/// A path that names nothing.
pub(crate) fn not_found() -> Status {
    Status::new(Reason::NotFound, "the server could not find the requested resource")
}

/// A verb that the resource does not have.
pub(crate) fn method_not_allowed(kind: &Kind) -> Status {
    Status::new(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
    .about(kind, "")
}
