//! The HTTP face: who asks, for what, in which form; then the same verbs as in process.

mod bodies;
mod budget;
mod elsewhere;
mod gzip;
mod metrics;
mod negotiate;
mod patience;
mod pieces;
mod plain;
pub(crate) mod respond;
pub(crate) mod told;
mod watching;
mod yaml;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::codec;
use api::kinds::NAMESPACE;
use api::path::{self, ResourcePath, Route};
use api::query::Query;
use api::status::Reason;
use api::{Kind, Resource, Status};
use client::{Request, Verb};
use http::server::{Limits, Service};
use http::{BoxFuture, Headers, Method, Response};
use rt::lock::{Semaphore, SemaphoreGuard};

use crate::audit::{Facts, Trail};
use crate::auth::{Attributes, selected_name};
use crate::authenticate;
use crate::core::{Call, Core, method_not_allowed, not_found};
use crate::door::{self, Incoming};
use crate::flow::{Asked, Flow, Matched, Seat};
use crate::options::{dry_run, invalid_options};
use crate::storage;
use crate::user::{AUTHENTICATED, Caller, User, Witness};
use crate::{dispatch, socket, subresource};
use budget::{Budget, Charge};
use metrics::{Metrics, Series};
use negotiate::{Format, Media, Offer, negotiate};
use patience::Patience;
use respond::Wanted;

/// The longest name of a field manager.
const FIELD_MANAGER_BYTES_MAX: usize = 128;

/// How long a request may take that is no watch or stream.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// The service that an HTTPS listener serves.
pub(crate) struct Web {
    core: Arc<Core>,
    /// Answers `/cacerts`, `/ping`, `/db/info`, `/v1-k3s/...` and `/static/...`, with its own authentication.
    extra: Option<Arc<dyn Service>>,
    metrics: Metrics,
    /// Where no flow schemas share them out.
    mutating: Semaphore,
    reading: Semaphore,
    budget: Budget,
    patience: Patience,
    /// The hashes of the OpenAPI documents, with the epoch of the kinds that they are of.
    hashes: Mutex<Option<plain::Hashes>>,
}

impl Web {
    pub(crate) fn new(core: Arc<Core>, extra: Option<Arc<dyn Service>>) -> Web {
        Web {
            mutating: Semaphore::new(core.config.mutating_requests_max),
            reading: Semaphore::new(core.config.reading_requests_max),
            budget: Budget::new(core.config.requests_max_bytes),
            patience: Patience::default(),
            hashes: Mutex::new(None),
            core,
            extra,
            metrics: Metrics::default(),
        }
    }
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Web")
    }
}

impl Service for Web {
    fn call(&self, request: http::Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            if let Some(extra) = self.extra.as_ref().filter(|_| is_extra(request.path())) {
                return extra.call(request).await;
            }
            self.answer(request).await
        })
    }

    fn body_max_bytes(&self, method: &Method, target: &str, limits: &Limits) -> u64 {
        let path = target.split('?').next().unwrap_or("");
        if let Some(extra) = self.extra.as_ref().filter(|_| is_extra(path)) {
            return extra.body_max_bytes(method, target, limits);
        }
        let route = path::parse(path);
        match &route {
            // What is passed on is bounded by who gets it.
            Route::Resource(path) if path.subresource == "proxy" => u64::MAX,
            route if self.remote(route, path).is_some() => u64::MAX,
            _ => bodies::BODY_MAX_BYTES as u64,
        }
    }
}

fn is_extra(path: &str) -> bool {
    matches!(path, "/cacerts" | "/ping" | "/db/info" | "/db/snapshot")
        || path.starts_with("/v1-k3s/")
        || path.starts_with("/static/")
}

/// What of a request only some verbs touch.
struct Rest {
    body: http::Body,
    version: http::Version,
    peer: http::Peer,
    upgrade: Option<http::upgrade::Upgrade>,
}

/// One request over HTTP on its way.
struct Exchange {
    method: Method,
    /// Path and query as they came.
    target: String,
    authority: String,
    headers: Headers,
    query: Query,
    caller: Caller,
    /// What the audit log is told of it.
    trail: Option<Arc<Trail>>,
    flow: Option<Matched>,
}

/// A place among the requests in flight.
enum Place<'a> {
    Seat(Seat),
    Slot(#[expect(dead_code, reason = "held")] SemaphoreGuard<'a>),
}

impl Place<'_> {
    /// A seat is kept until the answer is sent, for lists are encoded then.
    fn until_sent(self, mut response: Response) -> Response {
        if let Place::Seat(seat) = self {
            seat.sends();
            response.body = response.body.holding(seat);
        }
        response
    }
}

impl Web {
    async fn answer(&self, request: http::Request) -> Response {
        let began = rt::now();
        let audit_id = match request.headers.get("audit-id") {
            Some(id) if !id.is_empty() && id.len() <= 64 => id.to_owned(),
            _ => crate::uid::new_uid(),
        };
        let mut series = Series::of(&request.method);
        let in_flight = self.metrics.begin(&request.method);
        let accept = request.headers.get("accept").unwrap_or("").to_owned();
        let format = negotiate(&accept, Offer::Answers).map_or(Format::Json, |media| media.format);
        let facts = |request: &http::Request| Facts::of(request, &audit_id, began.wall);
        let (mut trail, mut flow) = (None, None);
        let handled = self.handle(request, &mut series, facts, &mut trail, &mut flow);
        let mut response = match handled.await {
            Ok(response) => response,
            Err(status) => {
                if let Some(trail) = &trail {
                    trail.fails(&status);
                }
                respond::with_warnings(respond::status(&status, format), status.warnings())
            }
        };
        response.headers.set("audit-id", &audit_id);
        if let Some(matched) = flow {
            let headers = &mut response.headers;
            headers.set("x-kubernetes-pf-flowschema-uid", &*matched.schema_uid);
            headers.set("x-kubernetes-pf-prioritylevel-uid", &*matched.level_uid);
        }
        drop(in_flight);
        let took = rt::now().mono.since(began.mono);
        if let Some(open) = self.metrics.count(series, response.status, took) {
            response.body = response.body.holding(open);
        }
        if let Some(trail) = trail {
            trail.starts(response.status).await;
            match trail.is_long() {
                true => response.body = response.body.holding(trail),
                false => trail.completes().await,
            }
        }
        response
    }

    async fn handle(
        &self,
        request: http::Request,
        series: &mut Series,
        facts: impl FnOnce(&http::Request) -> Facts,
        trail: &mut Option<Arc<Trail>>,
        flow: &mut Option<Matched>,
    ) -> Result<Response, Status> {
        let query = Query::parse(request.query())?;
        let route = path::parse(request.path());
        let audited = self.core.audit.as_ref().map(|audit| {
            let asked = asked(&request.method, &query, request.path(), &route);
            (audit, asked, facts(&request))
        });
        let http::Request { method, target, authority, headers, body, version, peer, upgrade } =
            request;
        let shown = match authenticate::credentials(&self.core, &peer, &headers).await {
            Ok(None) if self.lets_in(target.split('?').next().unwrap_or("")) => {
                Ok(User::anonymous())
            }
            shown => shown.and_then(|user| user.ok_or_else(authenticate::unauthorized)),
        };
        if let Some((audit, asked, facts)) = audited {
            let begun = audit.begin(shown.as_ref().ok(), &asked, || facts);
            match (&shown, begun) {
                (Err(status), Some(begun)) => {
                    begun.refused(status, told::attempted(&headers, &peer)).await;
                }
                (_, begun) => *trail = begun,
            }
        }
        let user = shown?;
        if let Some(trail) = trail {
            trail.received().await?;
        }
        if user.in_group(AUTHENTICATED) {
            peer.vouch(&user.name);
        }
        let user = authenticate::impersonated(&self.core, user, &headers).await?;
        if let Some(trail) = trail
            && headers.get("impersonate-user").is_some_and(|name| !name.is_empty())
        {
            trail.impersonates(&user);
        }
        *flow = self.core.flow.as_ref().and_then(|flow| match &route {
            Route::Resource(path) | Route::Beyond(path) => {
                flow.of(&Asked::resource(&user, verb_of(&method, &query, path), path))
            }
            _ => {
                let verb = method.as_str().to_ascii_lowercase();
                let path = target.split('?').next().unwrap_or("");
                flow.of(&Asked::path(&user, &verb, path))
            }
        });
        let flow = flow.clone();
        let rest = Rest { body, version, peer, upgrade };
        let agent = agent(headers.get("user-agent").unwrap_or(""));
        let trail = trail.clone();
        let witness = trail.clone().map(|trail| trail as Arc<dyn Witness>);
        let caller = Caller { witness, ..Caller::new(user, agent) };
        let exchange = Exchange { method, target, authority, headers, query, caller, trail, flow };
        if let Some(remote) = self.remote(&route, exchange.path()) {
            series.remote(&remote.group, &remote.version);
            return self.pass_on(exchange, rest, route, &remote).await;
        }
        match route {
            Route::Resource(path) => self.resource(exchange, rest, path, series).await,
            route => {
                let place = self.place(exchange.flow.as_ref(), false, 1).await?;
                Ok(place.until_sent(plain::answer(self, exchange, route).await?))
            }
        }
    }

    /// Whether somebody who says nothing of itself may ask for a path.
    fn lets_in(&self, path: &str) -> bool {
        let others = self.core.authenticators.as_ref();
        plain::is_public(path) || others.is_some_and(|others| others.lets_in(path))
    }

    /// A place among the requests in flight.
    async fn place(
        &self,
        matched: Option<&Matched>,
        mutating: bool,
        width: usize,
    ) -> Result<Place<'_>, Status> {
        if let (Some(flow), Some(matched)) = (&self.core.flow, matched) {
            return flow.seat(matched, width).await.map(Place::Seat);
        }
        let semaphore = if mutating { &self.mutating } else { &self.reading };
        let slot = semaphore.try_acquire().ok_or_else(crate::flow::refused)?;
        Ok(Place::Slot(slot))
    }

    async fn resource(
        &self,
        exchange: Exchange,
        rest: Rest,
        path: ResourcePath,
        series: &mut Series,
    ) -> Result<Response, Status> {
        let core = &self.core;
        let find = || core.kinds.current().find(&path.group, &path.version, &path.plural).cloned();
        let mut known = find();
        if known.is_none() {
            core.definitions.catch_up(&core.store, &path.group, &path.plural).await;
            known = find();
        }
        // Upstream unescapes before it looks for slashes, and finds a subresource that nothing has.
        let known = known.filter(|_| !path.name.contains('/'));
        let Some(resource) = known else {
            // Who may not know what exists learns only that it may not ask.
            let attributes = unknown_attributes(&exchange, &path);
            core.permit(&exchange.caller, &attributes).await?;
            return match plain::serves_group(self, &path.group) {
                true => Err(not_found()),
                false => Ok(plain::no_page()),
            };
        };
        let request = to_request(&exchange, &path, resource.kind)?;
        let content_type = exchange.headers.get("content-type").unwrap_or("");
        series.found(&path, request.verb, content_type.starts_with("application/apply-patch"));
        series.is_dry_run = request.dry_run;
        match exchange.method {
            // Upstream has no verb for it, so that only who may do everything may.
            Method::Options => {
                let attributes = Attributes::of(&request, "");
                core.permit(&exchange.caller, &attributes).await?;
            }
            _ => core.authorize(&exchange.caller, &request).await?,
        }
        if door::is_here(&request) {
            // Streams last as long as they last: they take no place among the requests.
            let mut charge = Some(self.budget.charge(exchange.user(), budget::STREAM_BYTES)?);
            let call = Call::new(core, &exchange.caller, resource.form(), &request);
            let admitted = door::admit(&call, &exchange.query, &path.rest);
            rt::timeout(REQUEST_MAX, admitted).await.unwrap_or_else(|_| Err(timed_out()))?;
            let trail = exchange.trail.clone();
            let mut incoming = incoming(exchange, rest, path.rest);
            if let Some(upgrade) = &mut incoming.http.upgrade {
                charge.take().into_iter().for_each(|charge| upgrade.hold((charge, trail.clone())));
            }
            let mut response = door::answer(core, &request, incoming).await?;
            response.body = response.body.holding(charge);
            return Ok(response);
        }
        if request.verb == Verb::Watch {
            let response = self.watch(&exchange, resource, &request).await?;
            let incoming = incoming(exchange, rest, path.rest).http;
            if !http::websocket::is_asked_for(&incoming) {
                return Ok(response);
            }
            let json = response.headers.get("content-type") == Some(Format::Json.media_type());
            let frames = if json { socket::Frames::Lines } else { socket::Frames::Lengths };
            return Ok(socket::answer(incoming, response, frames));
        }
        let work = self.perform(exchange, rest.body, &resource, request);
        match rt::timeout(REQUEST_MAX, work).await {
            Ok(answer) => answer,
            Err(rt::Elapsed) => Err(timed_out()),
        }
    }

    async fn watch(
        &self,
        exchange: &Exchange,
        resource: Resource,
        request: &Request,
    ) -> Result<Response, Status> {
        let wanted = exchange.wanted(Offer::objects(resource.kind))?;
        let mut charge = self.budget.charge(exchange.user(), budget::WATCH_BYTES)?;
        let place = self.place(exchange.flow.as_ref(), false, 1).await?;
        let stream = dispatch::watch(&self.core, request).await?;
        drop(place);
        charge.grow(respond::LISTED_BYTES * stream.n_waiting())?;
        let warnings: Vec<String> = resource.warning().map(str::to_owned).into_iter().collect();
        let response = watching::response(&self.core, stream, resource, wanted);
        let mut response = respond::with_warnings(response, &warnings);
        response.body = response.body.holding((charge, exchange.trail.clone()));
        Ok(response)
    }

    async fn perform(
        &self,
        exchange: Exchange,
        mut body: http::Body,
        resource: &Resource,
        request: Request,
    ) -> Result<Response, Status> {
        let form = resource.form();
        let kept = match request.subresource.as_str() {
            "" => form.kind.stored() || form.kind.declared.computed,
            subresource => matches!(subresource, "status" | "scale" | "approval"),
        };
        let wanted =
            exchange.wanted(if kept { Offer::objects(form.kind) } else { Offer::Answers })?;
        let mut charge = self.budget.charge(exchange.user(), budget::REQUEST_BYTES)?;
        let reads_only = matches!(request.verb, Verb::Get | Verb::List | Verb::Watch);
        let bytes = match reads_only {
            true => Vec::new(),
            false => bodies::read(&mut body, &mut charge).await?,
        };
        let (user, n_bytes) = (exchange.user().name.clone(), bytes.len());
        let work = self.perform_with(exchange, wanted, bytes, charge, resource, request);
        self.patience.work(&user, n_bytes, work).await
    }

    async fn perform_with(
        &self,
        exchange: Exchange,
        wanted: Wanted,
        bytes: Vec<u8>,
        mut charge: Charge,
        resource: &Resource,
        mut request: Request,
    ) -> Result<Response, Status> {
        let form = resource.form();
        let mut warnings = Vec::new();
        let content_type = exchange.headers.get("content-type").unwrap_or("").to_owned();
        let reads_only = matches!(request.verb, Verb::Get | Verb::List | Verb::Watch);
        // Not before the body is here: who sends it slowly takes nobody's place.
        let width = match request.verb {
            Verb::List | Verb::DeleteCollection => self.width(&request).await,
            _ => 1,
        };
        let place = self.place(exchange.flow.as_ref(), !reads_only, width).await?;
        match request.verb {
            Verb::Create | Verb::Update | Verb::Patch => {
                subresource::check(form, &request.subresource)?;
                warnings = bodies::decode(&mut request, form, &content_type, &bytes, &mut charge)?;
                bodies::charge_work(&request, &mut charge)?;
                if let Some(trail) = &exchange.trail {
                    told::request(trail, &request, form, &mut |bytes| charge.grow_within(bytes))?;
                }
            }
            Verb::Delete | Verb::DeleteCollection => {
                let query = &exchange.query;
                let options =
                    bodies::delete_options(&mut request, query, &content_type, &bytes, &mut charge);
                let options = options?;
                if let Some(trail) = &exchange.trail {
                    told::delete_options(trail, options.as_ref());
                }
            }
            Verb::Get | Verb::List | Verb::Watch => {}
        }
        drop(bytes);
        if matches!(request.verb, Verb::Update | Verb::Patch | Verb::Delete) {
            self.charge_stored(&request, &mut charge).await?;
        }
        let charge = Arc::new(Mutex::new(charge));
        let caller = Caller { meter: Some(charge.clone()), ..exchange.caller.clone() };
        let done = dispatch::perform(&self.core, &caller, request).await;
        // What is wrong with the body is told beside what it was refused for.
        let deprecated = resource.warning().map(str::to_owned);
        let mut outcome = match done {
            Ok(outcome) => outcome,
            Err(status) => {
                warnings.extend(deprecated);
                return Err(status.with_warnings(warnings));
            }
        };
        warnings.append(&mut outcome.warnings);
        warnings.extend(deprecated);
        outcome.warnings = warnings;
        let mut answer_bytes = respond::answer_bytes(&outcome, &wanted);
        if let Some(trail) = &exchange.trail {
            // It is there as its line, too.
            answer_bytes += 2 * told::answer(trail, &outcome, resource, &wanted).await;
        }
        {
            let mut charge = charge.lock().unwrap_or_else(PoisonError::into_inner);
            match reads_only {
                true => charge.grow(answer_bytes)?,
                // What was done is not refused any more.
                false => charge.grow_within(answer_bytes).unwrap_or_default(),
            }
        }
        let mut response = respond::outcome(outcome, resource, &wanted)?;
        response.body = response.body.holding(charge);
        Ok(place.until_sent(response))
    }

    /// How many seats a list takes.
    async fn width(&self, request: &Request) -> usize {
        if self.core.flow.is_none() || !request.kind.stored() {
            return 1;
        }
        let span = storage::span(request.kind, &request.namespace);
        let n_stored = self.core.store.count_up_to(&span, Flow::LISTED_MAX).await.unwrap_or(0);
        Flow::width(match request.list.limit {
            0 => n_stored,
            limit => n_stored.min(usize::try_from(limit).unwrap_or(usize::MAX)),
        })
    }

    /// What is changed is a tree as well, another one after the change, and who manages what of it a third.
    async fn charge_stored(&self, request: &Request, charge: &mut Charge) -> Result<(), Status> {
        let kind = request.kind;
        if !kind.stored() || request.name.is_empty() {
            return Ok(());
        }
        let (namespace, name) = (&request.namespace, &request.name);
        match storage::find(&self.core.store, kind, namespace, name).await? {
            Some(object) => {
                let n_trees = if request.verb == Verb::Delete { 2 } else { 3 };
                charge.grow_within(n_trees * codec::object_tree_bytes(&object))
            }
            None => Ok(()),
        }
    }
}

/// The request put together again, for who passes it on.
fn incoming(exchange: Exchange, rest: Rest, after: String) -> Incoming {
    let Exchange { method, target, authority, mut headers, query, .. } = exchange;
    // Who asked, and with what, is nothing for whoever answers.
    authenticate::strip(&mut headers);
    let Rest { body, version, peer, upgrade } = rest;
    let http = http::Request { method, target, authority, headers, body, version, peer, upgrade };
    Incoming { http, query, rest: after }
}

impl Exchange {
    /// The form of a successful answer.
    fn wanted(&self, offer: Offer) -> Result<Wanted, Status> {
        match negotiate::takes(self.headers.get("accept").unwrap_or(""), &negotiate::FORMS) {
            true => self.negotiated(offer),
            false => Err(self.no_form()),
        }
    }

    /// The same of what upstream's aggregator answers by itself, which asks no web framework.
    fn negotiated(&self, offer: Offer) -> Result<Wanted, Status> {
        let headers = &self.headers;
        let mut media: Media = negotiate(headers.get("accept").unwrap_or(""), offer)?;
        media.pretty |= self.query.flag("pretty");
        Wanted::of(media, &self.query, headers.get("accept-encoding").unwrap_or(""))
    }

    /// Lists are offered as watches, too.
    fn no_form(&self) -> Status {
        let [json, yaml, protobuf] = negotiate::FORMS;
        let is_list = self.method == Method::Get
            && matches!(path::parse(self.path()), Route::Resource(path) if path.name.is_empty());
        match is_list {
            true => {
                let streams = [json, protobuf].map(|form| format!("{form};stream=watch"));
                negotiate::no_form_of(&[json, yaml, protobuf, &streams[0], &streams[1]])
            }
            false => negotiate::no_form_of(&negotiate::FORMS),
        }
    }

    /// RBAC's verb for a path that is no resource.
    fn path_verb(&self) -> String {
        self.method.as_str().to_ascii_lowercase()
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("")
    }

    fn user(&self) -> &User {
        &self.caller.user
    }
}

fn timed_out() -> Status {
    Status::new(
        Reason::Timeout,
        "Timeout: request did not complete within requested timeout - context deadline exceeded",
    )
}

/// What authorization is asked about a resource that is not served.
fn unknown_attributes(exchange: &Exchange, path: &ResourcePath) -> Attributes {
    attributes(&exchange.method, &exchange.query, path)
}

/// What a request asks for, before it is known what is served, for the audit log.
fn asked(method: &Method, query: &Query, path: &str, route: &Route) -> Attributes {
    match route {
        Route::Resource(path) | Route::Beyond(path) => attributes(method, query, path),
        _ => Attributes::path(&method.as_str().to_ascii_lowercase(), path),
    }
}

fn verb_of(method: &Method, query: &Query, path: &ResourcePath) -> &'static str {
    let named = !path.name.is_empty();
    match method {
        Method::Get | Method::Head if path.watch || (!named && query.flag("watch")) => "watch",
        Method::Get | Method::Head if named => "get",
        Method::Get | Method::Head => "list",
        Method::Post => "create",
        Method::Put => "update",
        Method::Patch => "patch",
        Method::Delete if named => "delete",
        Method::Delete => "deletecollection",
        _ => "",
    }
}

fn attributes(method: &Method, query: &Query, path: &ResourcePath) -> Attributes {
    let fields = query.get("fieldSelector");
    let verb = verb_of(method, query, path);
    let mut name = path.name.clone();
    let (mut field_selector, mut label_selector) = (String::new(), String::new());
    if matches!(verb, "list" | "watch" | "deletecollection") {
        fields.clone_into(&mut field_selector);
        query.get("labelSelector").clone_into(&mut label_selector);
        if name.is_empty() {
            name = selected_name(fields);
        }
    }
    Attributes {
        verb: verb.into(),
        group: path.group.clone(),
        version: path.version.clone(),
        resource: path.plural.clone(),
        subresource: path.subresource.clone(),
        namespace: path.namespace.clone(),
        name,
        field_selector,
        label_selector,
        path: String::new(),
    }
}

/// The request that a path, method and query ask for, without its body.
fn to_request(
    exchange: &Exchange,
    path: &ResourcePath,
    kind: &'static Kind,
) -> Result<Request, Status> {
    let query = &exchange.query;
    let named = !path.name.is_empty();
    let verb = match exchange.method {
        Method::Get | Method::Head | Method::Options if path.subresource == "proxy" => Verb::Get,
        Method::Get if path.watch || (!named && query.flag("watch")) => Verb::Watch,
        Method::Get if named => Verb::Get,
        Method::Get => Verb::List,
        Method::Post if !named || !path.subresource.is_empty() => Verb::Create,
        Method::Put if named => Verb::Update,
        Method::Patch if named => Verb::Patch,
        Method::Delete if named => Verb::Delete,
        Method::Delete => Verb::DeleteCollection,
        _ => return Err(method_not_allowed()),
    };
    let namespace = if kind.namespaced() { path.namespace.as_str() } else { "" };
    if !kind.namespaced() && !path.namespace.is_empty() && *kind != NAMESPACE {
        return Err(not_found());
    }
    let is_of_one = matches!(verb, Verb::Create | Verb::DeleteCollection);
    if kind.namespaced() && namespace.is_empty() && kind.stored() {
        match named {
            true => return Err(not_found()),
            false if is_of_one => return Err(method_not_allowed()),
            false => {}
        }
    }
    let mut request = Request::new(verb, kind, namespace, &path.name);
    request.group_version = match path.group.as_str() {
        "" => path.version.clone(),
        group => format!("{group}/{}", path.version),
    };
    request.subresource.clone_from(&path.subresource);
    let options = bodies::options(verb);
    request.dry_run = dry_run(query, options)?;
    if !matches!(verb, Verb::Delete | Verb::DeleteCollection) {
        request.field_manager = query.get("fieldManager").to_owned();
    }
    if request.field_manager.len() > FIELD_MANAGER_BYTES_MAX {
        let message = format!("Too long: may not be more than {FIELD_MANAGER_BYTES_MAX} bytes");
        return Err(invalid_options(options, "FieldValueTooLong", "fieldManager", message));
    }
    let unprintable = request.field_manager.chars().enumerate().find(|(_, c)| c.is_control());
    if let Some((at, c)) = unprintable {
        let message = format!(
            "Invalid value: {:?}: invalid character U+{:04X} (at position {at})",
            request.field_manager,
            u32::from(c)
        );
        return Err(invalid_options(options, "FieldValueInvalid", "fieldManager", message));
    }
    request.field_validation = query.get("fieldValidation").to_owned();
    request.force = query.flag("force");
    if matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
        request.list = client::options::list_options(query)?;
    }
    Ok(request)
}

/// How many letters a field manager's name may have (upstream's bound).
const AGENT_MAX: usize = 128;

/// The program's name, as upstream's default field manager.
fn agent(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or("");
    let name: String = name.chars().filter(|c| !c.is_control()).take(AGENT_MAX).collect();
    if name.is_empty() { "unknown".into() } else { name }
}
