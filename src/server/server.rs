//! The server as others hold it: started once, asked in process or over HTTP.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use api::codec::{self, FieldValidation};
use api::kinds::{ENDPOINT_SLICE, ENDPOINTS, SERVICE};
use api::{Kinds, Status, Value};
use client::{Answer, Api, Body, Client, Registry, Request, Verb, WatchEvent, WatchStream};
use http::server::Service;
use rt::BoxFuture;
use stdx::Context;
use store::Store;

use crate::aggregation::Aggregation;
use crate::aggregation::follow::{Follower, follow};
use crate::allocate::claims;
use crate::audit::{Audit, Facts, Trail};
use crate::auth::access_config::Authorizers;
use crate::auth::certificates::Certificates;
use crate::auth::identity_config::Authenticators;
use crate::auth::token_webhook::TokenWebhook;
use crate::auth::x509::Clients;
use crate::auth::{Attributes, Authorizer};
use crate::bootstrap;
use crate::config::Config;
use crate::core::{Core, Figures};
use crate::definitions::Definitions;
use crate::dispatch;
use crate::flow::Flow;
use crate::masters::{self, Masters};
use crate::node_door::{self, Door, NodeDoor};
use crate::read;
use crate::registry::watch::Stream;
use crate::storage::cache::Cache;
use crate::user::{Caller, User, Witness};
use crate::web::respond::Wanted;
use crate::web::{Web, told};
use crate::webhook::hooks::Configurations;
use crate::webhook::targets::Targets;

/// The group of usage, which another server may serve instead.
const USAGE_GROUP: &str = "metrics.k8s.io";

/// How long changes of the `kubernetes` Service gather before they are looked at.
const KEEP_DELAY: Duration = Duration::from_secs(1);

/// How often the claims of Services are compared with the Services.
const REPAIR_EVERY: Duration = Duration::from_secs(600);

/// A running API server. Cheap to clone; it ends with its last clone.
#[derive(Clone)]
pub struct Server {
    core: Arc<Core>,
    /// Keeps the `kubernetes` Service right; replaced when the addresses change.
    keeper: Arc<Mutex<Option<rt::Task<Option<()>>>>>,
    _repairer: Arc<rt::Task<Option<()>>>,
    /// Follows what other servers serve.
    _follower: Arc<rt::Task<Option<()>>>,
}

/// What a server has where an administrator wants it.
#[derive(Debug, Clone, Default)]
pub struct Plugs {
    pub audit: Option<Arc<Audit>>,
    /// Knows bearer tokens that nobody here does.
    pub token_webhook: Option<Arc<TokenWebhook>>,
    /// Knows tokens of other issuers, and who need not show one.
    pub authenticators: Option<Arc<Authenticators>>,
    /// Whoever decides what may be done, where it is not the Node authorizer and then RBAC.
    pub authorizers: Option<Arc<Authorizers>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// Starts the server over `store`.
    ///
    /// # Errors
    /// If the configuration is not usable.
    pub async fn start(config: Config, store: Store) -> stdx::Result<Server> {
        Server::start_with(config, store, Plugs::default()).await
    }

    /// The same, with what an administrator plugged in.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(config: Config, store: Store, plugs: Plugs) -> stdx::Result<Server> {
        let tokens = crate::auth::tokens::Tokens::new(&config)?;
        claims::repair(&store).await.context(|| "claim what Services hold")?;
        let cache = Cache::start(&store).context(|| "watch the datastore")?;
        let kinds = match config.usage {
            true => Arc::default(),
            false => Arc::new(Registry::serving(Kinds::built_in_but(USAGE_GROUP))),
        };
        let definitions = Definitions::start(&store, &kinds).await;
        let definitions = definitions.context(|| "read which kinds are defined")?;
        let flow = match config.fair {
            true => {
                let seats_max = config.mutating_requests_max + config.reading_requests_max;
                let flow = Flow::start(&store, seats_max).await;
                Some(flow.context(|| "read flow schemas and priority levels")?)
            }
            false => None,
        };
        let aggregation = Arc::new(Aggregation::new(config.proxy_identity.clone()));
        let core = Core {
            config,
            tokens,
            store,
            cache,
            authorizer: Authorizer { chain: plugs.authorizers, ..Authorizer::default() },
            audit: plugs.audit,
            token_webhook: plugs.token_webhook,
            authenticators: plugs.authenticators,
            turns: crate::turns::Turns::default(),
            flow,
            figures: Mutex::default(),
            certificates: Certificates::default(),
            clients: Clients::default(),
            door: Door::default(),
            kinds,
            definitions,
            http: node_door::client(),
            webhooks: Configurations::default(),
            conversions: Targets::default(),
            aggregation,
            samples: Arc::default(),
        };
        let core = Arc::new(core);
        let repairer = rt::spawn_named("claims of Services", repair(Arc::downgrade(&core)));
        let client = Client::new(in_process(&core, User::apiserver()));
        let following = follow(Follower {
            aggregation: Arc::clone(&core.aggregation),
            store: core.store.clone(),
            tunnels: core.config.tunnels.clone(),
            kinds: Arc::clone(&core.kinds),
            http: core.http.clone(),
            client,
        });
        let server = Server {
            core,
            keeper: Arc::default(),
            _repairer: Arc::new(repairer),
            _follower: Arc::new(rt::spawn_named("APIServices", following)),
        };
        let client = server.client_as(User::apiserver());
        bootstrap::run(&client, &server.core.config, &server.core.store).await?;
        server.advertise(server.core.config.advertise_addresses.clone()).await?;
        Ok(server)
    }

    /// The addresses of the servers of this cluster that live; none where a server has its store for itself.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn servers(&self) -> Result<Vec<IpAddr>, Status> {
        masters::living(&self.core.store).await
    }

    /// Points the `kubernetes` Service at these addresses, now and whenever somebody changes it.
    ///
    /// # Errors
    /// If its objects cannot be written.
    pub async fn advertise(&self, addresses: Vec<IpAddr>) -> stdx::Result<()> {
        let client = self.client_as(User::apiserver());
        let spans = [&SERVICE, &ENDPOINTS, &ENDPOINT_SLICE]
            .map(|kind| store::Span::key(crate::storage::key(kind, "default", "kubernetes")));
        let mut spans = spans.to_vec();
        spans.push(store::Span::prefix(masters::PREFIX));
        let what = || "watch the kubernetes Service";
        let mut watch = self.core.store.watch(spans.clone(), None).await.context(what)?;
        let mut masters = Masters::new(addresses);
        keep(&self.core, &client, &mut masters).await?;
        let core = Arc::downgrade(&self.core);
        // Alone, a server has nothing to renew.
        let every = self.core.store.is_shared().then_some(masters::RENEW_EVERY);
        let keeper = rt::spawn_named("kubernetes Service", async move {
            loop {
                let heard = match every {
                    Some(every) => rt::timeout(every, watch.next()).await,
                    None => Ok(watch.next().await),
                };
                match heard {
                    // Several changes at once are put right together.
                    Ok(Ok(_)) => rt::sleep(KEEP_DELAY).await,
                    Err(rt::Elapsed) => {}
                    Ok(Err(_)) => {
                        // A server that was away hears of what happened since by looking.
                        let Some(core) = core.upgrade() else { return };
                        match core.store.watch(spans.clone(), None).await {
                            Ok(again) => watch = again,
                            Err(_) => return,
                        }
                    }
                }
                while let Ok(Some(_)) = watch.try_next() {}
                let Some(core) = core.upgrade() else { return };
                if let Err(error) = keep(&core, &client, &mut masters).await {
                    log::warn!("{error}");
                }
            }
        });
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        Ok(())
    }

    /// Opens the way to nodes: logs, exec, attach, port-forward and proxies work from here on.
    /// Later doors are ignored.
    pub fn set_door(&self, door: Arc<dyn NodeDoor>) {
        if self.core.door.set(door).is_err() {
            log::warn!("the door to the nodes was set twice");
        }
    }

    /// The API as `user` sees it, as function calls: same authorization, same admission, no HTTP.
    /// It does not keep the server alive.
    pub fn api_as(&self, user: User) -> Arc<dyn Api> {
        in_process(&self.core, user)
    }

    /// What an HTTPS listener serves. `extra` answers `/cacerts`, `/ping`, `/db/info`, `/v1-k3s/...`
    /// and `/static/...`, and does its own authentication.
    pub fn service(&self, extra: Option<Arc<dyn Service>>) -> Arc<dyn Service> {
        Arc::new(Web::new(Arc::clone(&self.core), extra))
    }

    /// Tells what a component has done in `/metrics`, too, under names that nobody else uses.
    pub fn also_tell(&self, figures: Figures) {
        self.core.figures.lock().unwrap_or_else(PoisonError::into_inner).push(figures);
    }

    /// Who a request over HTTP comes from, as the API server sees it.
    ///
    /// # Errors
    /// 401
    pub async fn authenticate(
        &self,
        peer: &http::Peer,
        headers: &http::Headers,
    ) -> Result<User, Status> {
        crate::authenticate::user(&self.core, peer, headers).await
    }

    /// The kinds that are served. Whoever changes them changes what this server serves from then on.
    pub fn kinds(&self) -> &Arc<Registry> {
        &self.core.kinds
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// A client that acts as `user`.
    pub fn client_as(&self, user: User) -> Client {
        Client::new(self.api_as(user))
    }
}

fn in_process(core: &Arc<Core>, user: User) -> Arc<dyn Api> {
    let agent = agent(&user);
    let caller = Caller::new(user, agent);
    Arc::new(InProcess { core: Arc::downgrade(core), caller })
}

/// Points the `kubernetes` Service at the servers that are alive.
async fn keep(core: &Core, client: &Client, masters: &mut Masters) -> stdx::Result<()> {
    let alive = masters.alive(&core.store).await.context(|| "say that this server is alive")?;
    bootstrap::objects::api_service(client, &core.config, &alive).await
}

/// Puts right, from time to time, what claims say.
async fn repair(core: Weak<Core>) {
    loop {
        rt::sleep(REPAIR_EVERY).await;
        let Some(core) = core.upgrade() else { return };
        if let Err(status) = claims::repair(&core.store).await {
            log::warn!("claim what Services hold: {status}");
        }
    }
}

/// The field manager of those who come without one.
fn agent(user: &User) -> String {
    if user.node_name().is_some() {
        return "kubelet".into();
    }
    match user.name.as_str() {
        "system:kube-scheduler" => "kube-scheduler".into(),
        "system:apiserver" => "kube-apiserver".into(),
        name if name.starts_with("system:serviceaccount:kube-system:") => {
            "kube-controller-manager".into()
        }
        _ => "k3rs".into(),
    }
}

struct InProcess {
    core: Weak<Core>,
    caller: Caller,
}

impl InProcess {
    fn core(&self) -> Result<Arc<Core>, Status> {
        self.core.upgrade().ok_or_else(|| Status::unavailable("the server has stopped"))
    }
}

/// Makes of an object what a decoder would make of it: what is empty in it, and not written, is nobody's field either.
fn make_canonical(core: &Core, request: &mut Request) -> Result<(), Status> {
    let is_object = matches!(request.verb, Verb::Create | Verb::Update)
        && matches!(request.subresource.as_str(), "" | "status")
        && request.kind.stored();
    if !is_object {
        return Ok(());
    }
    let resource = core.resource(request)?;
    if let Body::Tree(tree) = &mut request.body {
        codec::check_fields(resource.form(), tree, FieldValidation::Ignore)?;
    }
    Ok(())
}

/// What a component of this process asked for, as the audit log is told.
async fn audited(
    core: &Core,
    caller: &Caller,
    request: Request,
    trail: &Arc<Trail>,
) -> Result<(Answer, u16), Status> {
    trail.received().await?;
    let caller = witnessed(caller, trail);
    core.authorize(&caller, &request).await?;
    let resource = core.resource(&request)?;
    told::request(trail, &request, resource.form(), &mut |_| Ok(()))?;
    let outcome = dispatch::perform(core, &caller, request).await?;
    told::answer(trail, &outcome, &resource, &Wanted::default()).await;
    let code = if outcome.created { 201 } else { 200 };
    Ok((outcome.answer, code))
}

fn witnessed(caller: &Caller, trail: &Arc<Trail>) -> Caller {
    Caller { witness: Some(Arc::clone(trail) as Arc<dyn Witness>), ..caller.clone() }
}

/// A watch that the audit log is told the end of.
struct Watched {
    stream: Stream,
    _trail: Arc<Trail>,
}

impl WatchStream for Watched {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<WatchEvent, Status>>> {
        self.stream.next()
    }
}

impl InProcess {
    /// What the audit log is told of a request, if there is one that wants to know: the same as if it had come
    /// over HTTP from this machine, as upstream's components' requests do.
    fn trail_of(&self, core: &Core, request: &Request) -> Option<Arc<Trail>> {
        core.audit.as_ref()?;
        let asked = Attributes::of(request, request.verb.as_str());
        self.trail(core, &asked, client::options::target(request))
    }

    fn trail(&self, core: &Core, asked: &Attributes, uri: String) -> Option<Arc<Trail>> {
        let audit = core.audit.as_ref()?;
        audit.begin(Some(&self.caller.user), asked, || Facts {
            id: crate::uid::new_uid(),
            uri,
            source_ips: vec!["127.0.0.1".into()],
            agent: format!("{}/{}", self.caller.agent, stdx::version::VERSION),
            received: rt::now().wall,
        })
    }
}

impl Api for InProcess {
    fn call(&self, mut request: Request) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(async move {
            let core = self.core()?;
            make_canonical(&core, &mut request)?;
            let Some(trail) = self.trail_of(&core, &request) else {
                core.authorize(&self.caller, &request).await?;
                return Ok(dispatch::perform(&core, &self.caller, request).await?.answer);
            };
            let answer = audited(&core, &self.caller, request, &trail).await;
            let code = match &answer {
                Ok((_, code)) => *code,
                Err(status) => {
                    trail.fails(status);
                    status.code()
                }
            };
            trail.starts(code).await;
            trail.completes().await;
            answer.map(|(answer, _)| answer)
        })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Status>> {
        Box::pin(async move {
            let core = self.core()?;
            let Some(trail) = self.trail_of(&core, &request) else {
                core.authorize(&self.caller, &request).await?;
                let stream = dispatch::watch(&core, &request).await?;
                return Ok(Box::new(stream) as Box<dyn WatchStream>);
            };
            let begun = async {
                trail.received().await?;
                core.authorize(&witnessed(&self.caller, &trail), &request).await?;
                dispatch::watch(&core, &request).await
            };
            let stream = begun.await.inspect_err(|status| trail.fails(status));
            trail.starts(stream.as_ref().map_or_else(Status::code, |_| 200)).await;
            Ok(Box::new(Watched { stream: stream?, _trail: trail }) as Box<dyn WatchStream>)
        })
    }

    fn read(&self, target: String) -> BoxFuture<'_, Result<Value, Status>> {
        Box::pin(async move {
            let core = self.core()?;
            let asked = core.audit.as_ref().and_then(|_| read::asked(&target));
            let trail = asked.and_then(|asked| self.trail(&core, &asked, target.clone()));
            let Some(trail) = trail else { return read::read(&core, &self.caller, &target).await };
            trail.received().await?;
            let answer = read::read(&core, &witnessed(&self.caller, &trail), &target).await;
            match &answer {
                Ok(tree) => told::tree(&trail, tree),
                Err(status) => trail.fails(status),
            }
            trail.starts(answer.as_ref().map_or_else(Status::code, |_| 200)).await;
            trail.completes().await;
            answer
        })
    }
}
