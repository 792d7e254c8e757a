//! The server's parts, and what a request is on its way through them.

use std::sync::{Arc, Mutex};

use api::kinds::{BINDING, EVICTION, SCALE, TOKEN_REQUEST};
use api::status::Reason;
use api::{Form, Kind, Resource, Status, Value};
use client::{Answer, Body, PatchType, Registry, Request};
use stdx::metrics::Text;
use store::Store;

use crate::aggregation::Aggregation;
use crate::audit::Audit;
use crate::auth::certificates::Certificates;
use crate::auth::identity_config::Authenticators;
use crate::auth::token_webhook::TokenWebhook;
use crate::auth::tokens::Tokens;
use crate::auth::x509::Clients;
use crate::auth::{Attributes, Authorizer, failed, forbidden};
use crate::config::Config;
use crate::definitions::Definitions;
use crate::flow::Flow;
use crate::node_door::Door;
use crate::resolve::Ways;
use crate::samples::Samples;
use crate::storage::cache::Cache;
use crate::turns::Turns;
use crate::user::Caller;
use crate::webhook::hooks::Configurations;
use crate::webhook::targets::Targets;

/// The memory that one object may take while it is made. An object of small parts takes fifty times its stored bytes.
const WORK_MAX_BYTES: usize = 96 << 20;

/// Appends what a component in this process has done to the text of `/metrics`.
pub type Figures = Box<dyn Fn(&mut Text) + Send + Sync>;

/// The server's parts.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) cache: Cache,
    pub(crate) authorizer: Authorizer,
    /// The audit log, if there is one.
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) tokens: Tokens,
    pub(crate) token_webhook: Option<Arc<TokenWebhook>>,
    pub(crate) authenticators: Option<Arc<Authenticators>>,
    /// Opened once the node runs.
    pub(crate) door: Door,
    pub(crate) kinds: Arc<Registry>,
    /// Feeds the kinds.
    pub(crate) definitions: Definitions,
    pub(crate) turns: Turns,
    /// Who is next over HTTP; without it, whoever comes.
    pub(crate) flow: Option<Flow>,
    /// For what is proxied, for webhooks, and for other servers' APIs.
    pub(crate) http: http::client::Client,
    pub(crate) webhooks: Configurations,
    /// Where those are that convert objects.
    pub(crate) conversions: Targets,
    /// What other servers serve.
    pub(crate) aggregation: Arc<Aggregation>,
    /// Who tells more in `/metrics`.
    pub(crate) figures: Mutex<Vec<Figures>>,
    /// How long certificates of clients are good for.
    pub(crate) certificates: Certificates,
    pub(crate) clients: Clients,
    /// What nodes said lately that they use.
    pub(crate) samples: Arc<Samples>,
}

/// One authorized request on its way through the verbs: everything about it but its body, which goes
/// by value to whoever makes an object of it.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) core: &'a Core,
    pub(crate) caller: &'a Caller,
    /// The kind in the version that is asked for.
    pub(crate) form: Form<'a>,
    /// Options, dry run and names. Its body is elsewhere.
    pub(crate) request: &'a Request,
    /// Part of a request that admission has seen: it is not asked again, as upstream's registries
    /// do not ask.
    pub(crate) admitted: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        core: &'a Core,
        caller: &'a Caller,
        form: Form<'a>,
        request: &'a Request,
    ) -> Call<'a> {
        Call { core, caller, form, request, admitted: false }
    }

    pub(crate) fn kind(&self) -> &'static Kind {
        self.form.kind
    }

    /// Counts the object that the request makes, as far as it is made now, beside the one that it changes.
    ///
    /// # Errors
    /// 413 and 429 if it is too much.
    pub(crate) fn works_on(&self, tree: &Value, old: &Value) -> Result<(), Status> {
        let bytes = work_bytes(tree)? + wire::json::memory_of(old);
        self.caller.meter.as_ref().map_or(Ok(()), |meter| meter.hold(bytes))
    }

    pub(crate) fn store(&self) -> &'a Store {
        &self.core.store
    }

    /// The same caller's request about an object of another kind, or through another door.
    pub(crate) fn with<'b>(&self, form: impl Into<Form<'b>>, request: &'b Request) -> Call<'b>
    where
        'a: 'b,
    {
        Call { form: form.into(), request, ..*self }
    }
}

/// How much memory an object takes while it is made: its tree, and the record of who manages what of it.
///
/// # Errors
/// 413 if it is more than any object may take. What can be stored takes less.
pub(crate) fn work_bytes(tree: &Value) -> Result<usize, Status> {
    let bytes = wire::json::memory_of(tree) + apply::record_bytes(tree);
    if bytes > WORK_MAX_BYTES {
        return Err(Status::new(
            Reason::RequestEntityTooLarge,
            format!(
                "Request entity too large: it takes {bytes} bytes of memory to work on, and one object may have {WORK_MAX_BYTES}"
            ),
        ));
    }
    Ok(bytes)
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
    /// How Services that configurations name are reached.
    pub(crate) fn ways(&self) -> Ways<'_> {
        Ways { store: &self.store, tunnels: self.config.tunnels.as_deref() }
    }

    /// Whether the caller may do this.
    ///
    /// # Errors
    /// 403 in upstream's words.
    pub(crate) async fn authorize(&self, caller: &Caller, request: &Request) -> Result<(), Status> {
        self.permit(caller, &Attributes::of(request, request.verb.as_str())).await
    }

    /// Whether the caller's request may do this; the audit log is told so, too.
    ///
    /// # Errors
    /// 403 in upstream's words.
    pub(crate) async fn permit(
        &self,
        caller: &Caller,
        attributes: &Attributes,
    ) -> Result<(), Status> {
        let decision = self.authorizer.decide(&self.store, &caller.user, attributes).await;
        if !decision.allowed && !decision.error.is_empty() {
            caller.note("authorization.k8s.io/reason", "internal error");
            return Err(failed(&decision.error));
        }
        let word = if decision.allowed { "allow" } else { "forbid" };
        caller.note("authorization.k8s.io/decision", word);
        caller.note("authorization.k8s.io/reason", &decision.reason);
        match decision.allowed {
            true => Ok(()),
            false => Err(forbidden(&caller.user, attributes, &decision.reason)),
        }
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
}

/// The kind of what is posted to a subresource.
pub(crate) fn posted_kind(kind: &'static Kind, subresource: &str) -> &'static Kind {
    match subresource {
        "binding" => &BINDING,
        "eviction" => &EVICTION,
        "scale" => &SCALE,
        "token" => &TOKEN_REQUEST,
        _ => kind,
    }
}

/// The tree that a request must have.
///
/// # Errors
/// 400 if there is none.
pub(crate) fn tree_of(body: Body) -> Result<Value, Status> {
    match body {
        Body::Tree(tree) | Body::Patch(PatchType::Apply, tree) => Ok(tree),
        _ => Err(Status::bad_request("the request has no body")),
    }
}

/// A path that names nothing.
pub(crate) fn not_found() -> Status {
    Status::new(Reason::NotFound, "the server could not find the requested resource").generic()
}

/// Nothing is made of a kind that is being removed.
pub(crate) fn terminating(kind: &Kind) -> Status {
    let message = "create not allowed while custom resource definition is terminating";
    Status::new(Reason::MethodNotAllowed, message).about(kind, "")
}

/// A verb that the resource does not have.
pub(crate) fn method_not_allowed() -> Status {
    Status::new(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
    .generic()
}
