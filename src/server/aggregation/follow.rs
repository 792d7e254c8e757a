//! Follows the APIServices that leave their group and version to a Service, and asks each whether it is there.

use std::sync::Arc;
use std::time::Duration;

use api::kinds::{API_SERVICE, ENDPOINTS, SERVICE};
use api::{Lens, Status, Value};
use client::{Client, Registry};
use discovery::elsewhere;
use http::Request;
use http::tls::{self, Trust};
use stdx::OrdMap;
use store::{Error, Event, Item, Query, Span, Store, Watch};

use super::condition::{self, Found};
use super::{Aggregation, Learned, Remote, Target, introduce};
use crate::Tunnels;
use crate::resolve::Ways;
use crate::storage;
use crate::user::User;

/// How long the store is left alone when its watch cannot be had.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often those that are there are asked; those that are not, sooner at first.
const ASK_EVERY: Duration = Duration::from_secs(30);
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Changes of what is asked gather for so long: whoever may write Endpoints does not set the pace.
const SETTLE: Duration = Duration::from_millis(500);

/// How long one question may take.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Endpoints of one Service that are asked at once after the first failed: one that answers is enough.
const ASKED_AGAIN: usize = 4;

/// APIs that are asked at once.
const ASKED_AT_ONCE_MAX: usize = 16;

/// APIs that there may be; the first by name count.
const REMOTES_MAX: usize = 256;

/// The longest answer to a question, and what its tree may take.
const ANSWER_MAX_BYTES: usize = 512 << 10;
const ANSWER_TREE_MAX_BYTES: usize = 8 << 20;

/// What is kept of the resources of one API, as JSON.
const RESOURCES_MAX_BYTES: usize = 256 << 10;

/// The longest address of an OpenAPI document.
const OPENAPI_URL_MAX_BYTES: usize = 512;

/// The parts of the server that it takes to follow them.
#[derive(Clone)]
pub(crate) struct Follower {
    pub(crate) aggregation: Arc<Aggregation>,
    pub(crate) store: Store,
    pub(crate) tunnels: Option<Arc<dyn Tunnels>>,
    pub(crate) kinds: Arc<Registry>,
    pub(crate) http: http::client::Client,
    /// May write the status of APIServices.
    pub(crate) client: Client,
}

type Known = OrdMap<String, Arc<Remote>>;

/// Keeps the table right for as long as the store is there.
pub(crate) async fn follow(follower: Follower) {
    let mut known = Known::new();
    let changed = Arc::new(rt::Event::new());
    // There while there is somebody to ask.
    let mut asker = None;
    loop {
        let mut watch = match follower.list(&mut known).await {
            Ok(watch) => watch,
            Err(Error::Closed) => return,
            Err(_) => {
                rt::sleep(RETRY_AFTER).await;
                continue;
            }
        };
        match known.is_empty() {
            true => asker = None,
            false if asker.is_none() => {
                let asking = ask_all(follower.clone(), Arc::clone(&changed));
                asker = Some(rt::spawn_named("aggregated APIs", asking));
            }
            false => drop(changed.notify(usize::MAX)),
        }
        loop {
            let event = match watch.next().await {
                Ok(Item::Event(event)) => event,
                Ok(Item::Progress(_)) => continue,
                Err(Error::Closed) => return,
                Err(_) => break,
            };
            match follower.hear(&mut known, &event) {
                Heard::Nothing => {}
                Heard::Endpoint => drop(changed.notify(usize::MAX)),
                // Other Services are to be watched.
                Heard::Target => break,
            }
        }
    }
}

/// What an event changes.
enum Heard {
    Nothing,
    /// A Service that is asked, or its endpoints.
    Endpoint,
    /// Which Services are asked.
    Target,
}

impl Follower {
    fn ways(&self) -> Ways<'_> {
        Ways { store: &self.store, tunnels: self.tunnels.as_deref() }
    }

    /// Reads all that are stored; a watch of them, and of their Services, goes on from there.
    async fn list(&self, known: &mut Known) -> Result<Watch, Error> {
        let span = storage::span(&API_SERVICE, "");
        let range = self.store.range(&Query::of(span.clone())).await?;
        let before = std::mem::take(known);
        for item in &range.items {
            if let Some((name, remote)) = self.read(item, &before) {
                known.insert(name, remote);
            }
        }
        self.tell(known);
        let mut spans = vec![span];
        for remote in known.values() {
            let (namespace, name) = (&remote.target.backend.namespace, &remote.target.backend.name);
            for kind in [&SERVICE, &ENDPOINTS] {
                spans.push(Span::key(storage::key(kind, namespace, name)));
            }
        }
        self.store.watch(spans, Some(range.revision)).await
    }

    fn tell(&self, known: &mut Known) {
        while known.len() > REMOTES_MAX {
            let Some((name, _)) = known.pop_last() else { break };
            log::warn!("{name} is not served: there are {REMOTES_MAX} aggregated APIs already");
        }
        self.aggregation.set(known.values().cloned().collect());
    }

    fn read(&self, item: &store::KeyValue, before: &Known) -> Option<(String, Arc<Remote>)> {
        let object = storage::object(&API_SERVICE, item).ok()?;
        let name = object.name().to_owned();
        let before = before.get(&name).map(Arc::as_ref);
        let remote = Remote::of(&object.tree(), before)?;
        if discovery::is_built_in(&self.kinds.current(), &remote.group, &remote.version) {
            return None;
        }
        Some((name, Arc::new(remote)))
    }

    fn hear(&self, known: &mut Known, event: &Event) -> Heard {
        let prefix = storage::prefix(&API_SERVICE, "");
        let Some(name) = event.key.strip_prefix(prefix.as_bytes()) else { return Heard::Endpoint };
        let name = String::from_utf8_lossy(name).into_owned();
        let now = event.now.as_ref().and_then(|item| self.read(item, known));
        let before = match now {
            Some((name, remote)) => known.insert(name, remote),
            None => known.remove(&name),
        };
        let now = known.get(&name);
        if before.is_none() && now.is_none() {
            return Heard::Nothing;
        }
        let same =
            |before: Arc<Remote>| now.is_some_and(|now| Arc::ptr_eq(&before.target, &now.target));
        let same = before.is_some_and(same);
        self.tell(known);
        if same { Heard::Nothing } else { Heard::Target }
    }
}

/// Asks all that there are, again and again, and at once after a change.
async fn ask_all(follower: Follower, changed: Arc<rt::Event>) {
    // For the condition it counts whether it is there; requests, and what is published, look whose certificate it shows.
    let identity = follower.aggregation.identity.clone();
    let tls = match tls::client_config(Trust::Insecure, identity) {
        Ok(tls) => tls,
        Err(error) => return log::error!("{error}"),
    };
    let mut wait = ASK_AGAIN_AFTER;
    loop {
        let change = changed.listen();
        let all = follower.aggregation.all();
        let mut all_there = true;
        for some in all.chunks(ASKED_AT_ONCE_MAX) {
            let asking: Vec<_> = some
                .iter()
                .map(|remote| {
                    let asker = Asker {
                        follower: follower.clone(),
                        tls: tls.clone(),
                        remote: Arc::clone(remote),
                    };
                    rt::spawn(async move { asker.look().await })
                })
                .collect();
            for one in asking {
                all_there &= one.await;
            }
        }
        let sooner = async {
            change.await;
            true
        };
        let later = async {
            rt::sleep(if all_there { ASK_EVERY } else { wait }).await;
            false
        };
        let called = rt::future::or(sooner, later).await;
        if called {
            rt::sleep(SETTLE).await;
        }
        wait = if called || all_there { ASK_AGAIN_AFTER } else { (wait * 2).min(ASK_EVERY) };
    }
}

/// One API, and how it is asked.
#[derive(Clone)]
struct Asker {
    follower: Follower,
    tls: Arc<tls::ClientConfig>,
    remote: Arc<Remote>,
}

impl Asker {
    /// Looks after one API; whether it is there.
    async fn look(self) -> bool {
        let found = self.found().await.unwrap_or_else(|status| {
            Found::failed("ServiceAccessError", status.message().to_owned())
        });
        if !found.available {
            self.target().learn(|learned| learned.fresh = false);
        }
        if let Err(status) = self.write(&found).await
            && !status.is_conflict()
        {
            log::warn!("write the status of APIService {}: {status}", self.remote.name);
        }
        found.available
    }

    fn target(&self) -> &Target {
        &self.remote.target
    }

    async fn found(&self) -> Result<Found, Status> {
        let target = self.target();
        let (namespace, name) = (&target.backend.namespace, &target.backend.name);
        let store = &self.follower.store;
        let service = storage::find(store, &SERVICE, namespace, name).await?.map(|it| it.tree());
        let endpoints =
            storage::find(store, &ENDPOINTS, namespace, name).await?.map(|it| it.tree());
        let at = (namespace.as_str(), name.as_str(), target.backend.port);
        if let Some(found) = condition::unready(at, service.as_ref(), endpoints.as_ref()) {
            return Ok(found);
        }
        let path = format!("/apis/{}/{}", self.remote.group, self.remote.version);
        if self.learned(&path).await {
            return Ok(Found::passed());
        }
        let mut answer = self.ask(&path, &self.tls).await;
        if answer.is_err() {
            // Each try meets one endpoint of those that there are.
            let again: Vec<_> = (0..ASKED_AGAIN)
                .map(|_| {
                    let (asker, path) = (self.clone(), path.clone());
                    rt::spawn(async move { asker.ask(&path, &asker.tls).await })
                })
                .collect();
            for one in again {
                answer = answer.or(one.await);
            }
        }
        match answer {
            Err(why) => Ok(Found::failed("FailedDiscoveryCheck", why)),
            // It is there, whoever it is; what it says counts only from whom the APIService means.
            Ok(_) => {
                if !self.learned(&path).await {
                    self.target().learn(|learned| learned.fresh = false);
                }
                Ok(Found::passed())
            }
        }
    }

    /// Asks who shows the right certificate for its resources and documents; whether it answered.
    async fn learned(&self, path: &str) -> bool {
        let identity = self.follower.aggregation.identity.as_ref();
        let Ok(tls) = self.target().trusted.tls(identity) else { return false };
        let Ok(text) = self.ask(path, &tls).await else { return false };
        let openapi = self.openapi(path, &tls).await;
        self.learn(&text, openapi);
        true
    }

    /// Gets a path as the aggregator itself.
    async fn ask(&self, path: &str, tls: &Arc<tls::ClientConfig>) -> Result<Vec<u8>, String> {
        let follower = &self.follower;
        let backend = &self.target().backend;
        let endpoint = backend.endpoint(follower.ways(), Arc::clone(tls)).await?;
        let url = format!("https://{endpoint}{path}");
        let mut request = Request::get(path).header("accept", "application/json");
        request.authority = format!("{}:{}", backend.host(), backend.port);
        let via = format!("1.1 {}", follower.aggregation.pseudonym);
        request.headers.append("via", via);
        let mut aggregator = User::new("system:kube-aggregator", &[crate::user::MASTERS]);
        aggregator.groups.truncate(1);
        introduce(&mut request.headers, &aggregator).map_err(|status| status.to_string())?;
        let asked = async {
            let mut response = follower.http.send(&endpoint, request).await.map_err(|error| {
                let why = error.to_string();
                let what = format!("GET {endpoint} {path}: ");
                format!("Get {url:?}: {}", why.strip_prefix(&what).unwrap_or(&why))
            })?;
            if !(200..300).contains(&response.status) {
                return Err(format!("bad status from {url}: {}", response.status));
            }
            // What is too long, or breaks off, says nothing; that there was an answer counts.
            Ok(response.body.read_all(ANSWER_MAX_BYTES).await.unwrap_or_default())
        };
        let answer = rt::timeout(ASK_MAX, asked).await;
        let answer = answer
            .unwrap_or_else(|rt::Elapsed| Err(format!("Get {url:?}: context deadline exceeded")));
        answer.map_err(|why| format!("failing or missing response from {url}: {why}"))
    }

    /// Where the OpenAPI document of `path` is, as the other server's index says.
    async fn openapi(&self, path: &str, tls: &Arc<tls::ClientConfig>) -> Option<Arc<str>> {
        let tree = parse(&self.ask("/openapi/v3", tls).await.ok()?)?;
        let paths = tree.at("paths").as_object()?;
        let url = paths.get(path.trim_start_matches('/'))?.str("serverRelativeURL").to_owned();
        let (document, query) = url.split_once('?').unwrap_or((&url, ""));
        let plain = query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        let own = document.strip_prefix("/openapi/v3") == Some(path);
        (own && plain && url.len() <= OPENAPI_URL_MAX_BYTES).then(|| url.into())
    }

    fn learn(&self, text: &[u8], openapi: Option<Arc<str>>) {
        let (group, version) = (&self.remote.group, &self.remote.version);
        let resources = parse(text)
            .ok_or_else(|| "the answer is no JSON, or too long".to_owned())
            .and_then(|tree| elsewhere::of_resource_list(&tree, group, version))
            .map(|resources| resources.to_string());
        match resources {
            Ok(text) if text.len() <= RESOURCES_MAX_BYTES => self.target().learn(|learned| {
                // Most often it is what it was.
                let same = learned.resources.take().filter(|known| **known == *text);
                let resources = same.unwrap_or_else(|| text.into());
                *learned = Learned { resources: Some(resources), fresh: true, openapi };
            }),
            not => {
                let why = not.err().unwrap_or_else(|| "it is too long".into());
                log::debug!("read the resources of {}: {why}", self.remote.name);
                self.target().learn(|learned| learned.fresh = false);
            }
        }
    }

    async fn write(&self, found: &Found) -> Result<(), Status> {
        let name = &self.remote.name;
        let stored = storage::find(&self.follower.store, &API_SERVICE, "", name).await?;
        let Some(mut tree) = stored.map(|object| object.tree()) else { return Ok(()) };
        let now = api::time::format(rt::now().wall);
        if !tree.has("spec.service") || !condition::set(&mut tree, found, &now) {
            return Ok(());
        }
        self.follower.client.update_status(&API_SERVICE, tree).await.map(drop)
    }
}

fn parse(text: &[u8]) -> Option<Value> {
    if wire::json::tree_bytes(text) > ANSWER_TREE_MAX_BYTES {
        return None;
    }
    wire::json::parse(text).ok().map(|parsed| parsed.tree)
}
