//! What is no resource: version, health, discovery, OpenAPI, metrics, token issuer.

use std::sync::{Arc, PoisonError};

use api::path::Route;
use api::{Kinds, Status, Value, json};
use discovery::elsewhere::Elsewhere;
use discovery::openapi;
use http::{Method, Response};
use ring::digest;
use stdx::Arrange;
use stdx::metrics::Text;
use stdx::version::{MAJOR, MINOR, VERSION};

use super::negotiate::{Format, Offer, Shape, no_form_of, takes};
use super::respond::{self, Wanted};
use super::{Exchange, Web, gzip, metrics};
use crate::aggregation::Remote;
use crate::auth::Attributes;
use crate::core::{method_not_allowed, not_found};
use crate::storage;

/// The content type of OpenAPI v2 in protobuf. Clients ask for it with an @, which MIME does not know.
const OPENAPI_V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Where the state of priority and fairness is told.
const DEBUG_FLOW: &str = "/debug/api_priority_and_fairness/";

/// What `/healthz?verbose` lists.
const CHECKS: [&str; 3] = ["ping", "log", "etcd"];

/// Answers a path that is no resource.
pub(super) async fn answer(
    web: &Web,
    exchange: Exchange,
    route: Route,
) -> Result<Response, Status> {
    let path = exchange.path().to_owned();
    if is_health(&path) {
        exchange.caller.note("authorization.k8s.io/decision", "allow");
        exchange.caller.note("authorization.k8s.io/reason", "");
    } else {
        let attributes = Attributes::path(&exchange.path_verb(), &path);
        web.core.permit(&exchange.caller, &attributes).await?;
    }
    let kinds = web.core.kinds.current();
    // Upstream's handlers of health do not look at the method; its web framework, which has the documents, knows no HEAD.
    let is_get = exchange.method == Method::Get || is_health(&path);
    let allowed = |is_there: bool| match (is_there, is_get) {
        (true, true) => Ok(()),
        (true, false) => Err(method_not_allowed()),
        (false, _) => Err(not_found()),
    };
    match route {
        Route::Group(group) | Route::GroupVersion { group, .. } if !serves_group(web, &group) => {
            Ok(no_page())
        }
        Route::Group(group) => {
            let all = web.core.aggregation.all();
            let tree = discovery::group(&kinds, &elsewhere(&all), &group).ok_or_else(not_found)?;
            respond::tree(200, &tree, &exchange.negotiated(Offer::Discovery)?)
        }
        Route::GroupVersion { group, version } => {
            let tree = discovery::resources(&kinds, &group, &version);
            allowed(tree.is_some())?;
            document(&exchange, tree)
        }
        _ => {
            let path = path.trim_end_matches('/');
            match path {
                "/version" | "/api" | "/.well-known/openid-configuration" | "/openid/v1/jwks" => {
                    allowed(true)?;
                }
                // The aggregator's documents are given whatever the method.
                "/apis" => {}
                _ if exchange.method == Method::Head || is_get => {}
                _ if known(path) => return Err(method_not_allowed()),
                _ => return Ok(no_page()),
            }
            other(web, &exchange, path).await
        }
    }
}

/// Whether something of a group is served, here or by another server.
pub(super) fn serves_group(web: &Web, group: &str) -> bool {
    let all = web.core.aggregation.all();
    group.is_empty()
        || discovery::group(&web.core.kinds.current(), &elsewhere(&all), group).is_some()
}

/// The answer for a path that nobody has, which is no object upstream.
pub(super) fn no_page() -> Response {
    Response::text(404, "404 page not found\n").header("x-content-type-options", "nosniff")
}

fn is_health(path: &str) -> bool {
    ["/healthz", "/livez", "/readyz"].iter().any(|root| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// What is told to those who do not say who they are, as by k3s: whether it is well, and which version
/// it is. (`/cacerts` and `/ping` are answered before.)
pub(super) fn is_public(path: &str) -> bool {
    is_health(path) || matches!(path, "/version" | "/version/")
}

fn known(path: &str) -> bool {
    is_health(path)
        || matches!(path, "/" | "/version" | "/api" | "/apis" | "/metrics")
        || path.starts_with("/openapi/")
}

async fn other(web: &Web, exchange: &Exchange, path: &str) -> Result<Response, Status> {
    let kinds = &web.core.kinds.current();
    match path {
        "" => {
            let all = web.core.aggregation.all();
            Ok(raw(&json!({"paths": paths(kinds, &elsewhere(&all))})))
        }
        "/version" if !accepts(exchange, "application/json") => {
            Err(no_form_of(&["application/json"]))
        }
        "/version" => Ok(raw(&version())),
        "/api" | "/apis" => groups(web, exchange, path == "/api"),
        "/metrics" => {
            let text = figures(web).await;
            Ok(Response::text(200, text).header("x-content-type-options", "nosniff"))
        }
        "/openapi/v2" => openapi_v2(exchange, kinds),
        "/openapi/v3" => {
            let mut tree = index(&hashes(web, kinds));
            for remote in web.core.aggregation.all().iter() {
                if let Some(url) = remote.openapi() {
                    let path = format!("apis/{}/{}", remote.group, remote.version);
                    tree["paths"][path] = json!({"serverRelativeURL": &*url});
                }
            }
            Ok(raw(&tree))
        }
        "/.well-known/openid-configuration" if !accepts(exchange, "application/json") => {
            Ok(not_acceptable())
        }
        "/.well-known/openid-configuration" => {
            let base = web.core.tokens.issuer();
            let keys = match web.core.config.external_url.as_str() {
                "" => format!("{base}/openid/v1/jwks"),
                url => format!("{url}/openid/v1/jwks"),
            };
            let tree = json!({
                "issuer": base, "jwks_uri": keys, "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": web.core.tokens.algorithms(),
            });
            Ok(cacheable(Response::json(200, tree.to_string())))
        }
        "/openid/v1/jwks" if !accepts(exchange, KEY_SET) => Ok(not_acceptable()),
        "/openid/v1/jwks" => {
            let text = web.core.tokens.key_set().to_string();
            let response = Response::new(200).header("content-type", KEY_SET);
            Ok(cacheable(response.body(text)))
        }
        path if path.starts_with(DEBUG_FLOW) => {
            let dump = web.core.flow.as_ref().and_then(|flow| flow.dump(&path[DEBUG_FLOW.len()..]));
            Ok(dump.map_or_else(no_page, |text| Response::text(200, text)))
        }
        path if is_health(path) => health(web, exchange, path).await,
        path => match path.strip_prefix("/openapi/v3/") {
            Some(document) => openapi_v3(web, exchange, kinds, document),
            None => Ok(no_page()),
        },
    }
}

/// The text of `/metrics`.
async fn figures(web: &Web) -> String {
    let core = &web.core;
    let mut text = Text::default();
    web.metrics.write(&mut text);
    core.certificates.write(&mut text);
    let mut kinds = Vec::new();
    for kind in core.kinds.current().stored() {
        let n = core.store.count(&storage::span(kind, "")).await.unwrap_or(0);
        kinds.push((kind.qualified_plural(), n));
    }
    metrics::write_store(&mut text, &core.store.stats(), &kinds);
    let down = "aggregator_unavailable_apiservice";
    text.family(
        down,
        "gauge",
        "Gauge of APIServices which are marked as unavailable broken down by APIService name.",
    );
    for remote in core.aggregation.all().iter() {
        let is_down = if remote.is_available() { 0.0 } else { 1.0 };
        text.sample(down, &[("name", remote.name())], is_down, None);
    }
    core.flow.iter().for_each(|flow| flow.write(&mut text));
    core.audit.iter().for_each(|audit| audit.write_metrics(&mut text));
    for figures in core.figures.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        figures(&mut text);
    }
    rt::own_figures(&mut text);
    text.out
}

/// RFC 7517, 8.5.2.
const KEY_SET: &str = "application/jwk-set+json";

/// Whether a client takes the one form that there is, as upstream's web framework looks at it.
fn accepts(exchange: &Exchange, form: &str) -> bool {
    takes(exchange.headers.get("accept").unwrap_or(""), &[form])
}

fn not_acceptable() -> Response {
    Response::text(406, "406: Not Acceptable")
}

fn cacheable(response: Response) -> Response {
    response.header("cache-control", "public, max-age=3600")
}

fn version() -> Value {
    json!({
        "major": MAJOR, "minor": MINOR, "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "rust", "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
}

/// The architecture by Go's name, as clients expect it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn elsewhere(all: &[Arc<Remote>]) -> Vec<Elsewhere<'_>> {
    all.iter().map(|remote| remote.elsewhere()).collect()
}

fn paths(kinds: &Kinds, elsewhere: &[Elsewhere<'_>]) -> Vec<String> {
    let mut paths: Vec<String> = vec![
        "/.well-known/openid-configuration".into(),
        "/api".into(),
        "/api/v1".into(),
        "/apis".into(),
        "/apis/".into(),
    ];
    let all = discovery::everywhere(kinds, elsewhere).into_iter();
    for (group, versions) in all.filter(|(group, _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.into_iter().map(|version| format!("/apis/{group}/{version}")));
    }
    for root in ["healthz", "livez", "readyz"] {
        paths.push(format!("/{root}"));
        paths.extend(CHECKS.iter().map(|check| format!("/{root}/{check}")));
    }
    paths.extend(
        ["/metrics", "/openapi/v2", "/openapi/v3", "/openapi/v3/", "/openid/v1/jwks", "/version"]
            .map(String::from),
    );
    paths.arrange();
    paths
}

fn document(exchange: &Exchange, tree: Option<Value>) -> Result<Response, Status> {
    let wanted = exchange.wanted(Offer::Discovery)?;
    respond::tree(200, &tree.ok_or_else(not_found)?, &wanted)
}

/// What is JSON whatever the client would rather have, as upstream writes it: these documents have
/// no other form, and a client that prefers protobuf reads them all the same.
fn raw(tree: &Value) -> Response {
    Response::json(200, format!("{tree:#}"))
}

/// `/api` and `/apis`, plain or aggregated.
fn groups(web: &Web, exchange: &Exchange, core: bool) -> Result<Response, Status> {
    let wanted: Wanted = match core {
        true => exchange.wanted(Offer::Discovery)?,
        false => exchange.negotiated(Offer::Discovery)?,
    };
    let (kinds, all) = (&web.core.kinds.current(), web.core.aggregation.all());
    let Shape::Discovery { beta } = wanted.media.shape else {
        let tree = match core {
            true => {
                let config = &web.core.config;
                let address = config.advertise_addresses.first().map_or_else(
                    || exchange.authority.clone(),
                    |address| {
                        std::net::SocketAddr::new(*address, config.advertise_port).to_string()
                    },
                );
                discovery::api_versions(&address)
            }
            false => discovery::group_list(kinds, &elsewhere(&all)),
        };
        return respond::tree(200, &tree, &wanted);
    };
    let version = if beta { "v2beta1" } else { "v2" };
    let text = discovery::aggregated(kinds, &elsewhere(&all), core, version).to_string();
    let content_type =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    Ok(tagged(exchange, text.into_bytes(), &content_type, None).header("vary", "Accept"))
}

/// A document with an ETag, or 304 if the client has it.
fn tagged(
    exchange: &Exchange,
    bytes: Vec<u8>,
    content_type: &str,
    tag: Option<String>,
) -> Response {
    let tag = tag.unwrap_or_else(|| {
        let digest = digest::digest(&digest::SHA512, &bytes);
        digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
    });
    let tag = format!("\"{tag}\"");
    let headers = &exchange.headers;
    let seen = headers.get("if-none-match").unwrap_or("");
    if seen.split(',').any(|one| one.trim().trim_start_matches("W/") == tag) {
        return Response::new(304).header("etag", tag);
    }
    let response = Response::new(200)
        .header("content-type", content_type)
        .header("etag", tag)
        .header("cache-control", "public");
    let gzipped = headers.has_token("accept-encoding", "gzip");
    match gzipped && bytes.len() > gzip::THRESHOLD_BYTES {
        true => response
            .header("content-encoding", "gzip")
            .header("vary", "Accept-Encoding")
            .body(gzip::whole(&bytes)),
        false => response.body(bytes),
    }
}

fn openapi_v2(exchange: &Exchange, kinds: &Kinds) -> Result<Response, Status> {
    let accept = exchange.headers.get("accept").unwrap_or("");
    let mut out = Vec::new();
    if accept.contains("proto-openapi.spec.v2") {
        openapi::v2_protobuf(kinds, &mut out);
        return Ok(tagged(exchange, out, OPENAPI_V2_PROTOBUF, None));
    }
    openapi::v2_json(kinds, &mut out);
    Ok(tagged(exchange, out, Format::Json.media_type(), None))
}

/// The documents by path with their hashes, and the epoch of the kinds that they follow from.
#[derive(Debug, Clone)]
pub(super) struct Hashes {
    epoch: u64,
    by_path: Arc<[(String, String)]>,
}

/// They are made when they are asked for, once for each epoch.
fn hashes(web: &Web, kinds: &Kinds) -> Arc<[(String, String)]> {
    // Replaced in one step. Who comes meanwhile waits for what it wants itself.
    let mut kept = web.hashes.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = kept.as_ref().filter(|kept| kept.epoch == kinds.epoch()) {
        return Arc::clone(&kept.by_path);
    }
    let by_path: Arc<[_]> = openapi::v3_hashes(kinds).into();
    *kept = Some(Hashes { epoch: kinds.epoch(), by_path: Arc::clone(&by_path) });
    by_path
}

/// `GET /openapi/v3`
fn index(hashes: &[(String, String)]) -> Value {
    let entry = |(path, hash): &(String, String)| {
        let url = format!("/openapi/v3/{path}?hash={hash}");
        (path.clone(), json!({"serverRelativeURL": url}))
    };
    json!({"paths": hashes.iter().map(entry).collect::<api::Map<String, Value>>()})
}

fn openapi_v3(
    web: &Web,
    exchange: &Exchange,
    kinds: &Kinds,
    path: &str,
) -> Result<Response, Status> {
    let hashes = hashes(web, kinds);
    let known = hashes.iter().find(|(known, _)| known == path);
    // As upstream: no object, and no page either.
    let Some(hash) = known.map(|(_, hash)| hash.clone()) else { return Ok(Response::new(404)) };
    let asked = exchange.query.get("hash");
    if !asked.is_empty() && asked != hash {
        let location = format!("/openapi/v3/{path}?hash={hash}");
        return Ok(Response::new(301).header("location", location));
    }
    let mut out = Vec::new();
    openapi::v3(kinds, path, &mut out).ok_or_else(not_found)?;
    let mut response = tagged(exchange, out, Format::Json.media_type(), Some(hash));
    if !asked.is_empty() {
        // The address names the content: it never changes.
        response.headers.set("cache-control", "public, immutable, max-age=31536000");
    }
    Ok(response)
}

/// `/healthz`, `/livez`, `/readyz`, all checks or one.
async fn health(web: &Web, exchange: &Exchange, path: &str) -> Result<Response, Status> {
    let root = path.trim_start_matches('/').split('/').next().unwrap_or("");
    let single = path.trim_start_matches('/').split_once('/').map(|(_, check)| check);
    if single.is_some_and(|check| !CHECKS.contains(&check)) {
        return Ok(no_page());
    }
    let excluded: Vec<&str> = exchange.query.all("exclude").collect();
    let mut text = String::new();
    let mut healthy = true;
    for check in CHECKS.iter().filter(|check| single.is_none_or(|one| one == **check)) {
        if excluded.contains(check) {
            text.push_str(&format!("[+]{check} excluded: ok\n"));
            continue;
        }
        let good = *check != "etcd" || web.core.store.get("/registry/health").await.is_ok();
        healthy &= good;
        text.push_str(&match good {
            true => format!("[+]{check} ok\n"),
            false => format!("[-]{check} failed: reason withheld\n"),
        });
    }
    for unknown in excluded.iter().filter(|name| !CHECKS.contains(name)) {
        text.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for \"{unknown}\"\n"
        ));
    }
    let verbose = exchange.query.has("verbose");
    let response = match (healthy, verbose) {
        (true, false) => Response::text(200, "ok"),
        (true, true) => Response::text(200, format!("{text}{root} check passed\n")),
        (false, _) => Response::text(500, format!("{text}{root} check failed\n")),
    };
    Ok(response
        .header("cache-control", "no-cache, private")
        .header("x-content-type-options", "nosniff"))
}
