//! How every component reaches the API: whichever server runs now, over a network that may fail.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use api::{Status, Value};
use client::{Access, Answer, Api, Client, Request, Verb, WatchEvent, WatchStream};
use http::client::{Dial, Protocol};
use http::io::Io;
use rt::BoxFuture;
use server::User;
use stdx::time::Mono;

use crate::lock;
use crate::plant::Plant;
use crate::wire::Wire;
use crate::world::World;

/// One component's way to the API.
pub(crate) struct Door {
    world: Weak<World>,
    /// Who goes through it: a controller's name, `kubelet node-a`, `user`.
    pub(crate) name: String,
    /// Every other node has its server behind a connection, as another machine has.
    remote: Option<Client>,
}

impl Door {
    pub(crate) fn new(world: &Arc<World>, name: impl Into<String>) -> Door {
        let name = name.into();
        let node =
            name.strip_prefix("kubelet ").filter(|node| node.ends_with(['1', '3', '5', '7', '9']));
        let remote = node.and_then(|node| remote(world, node));
        Door { world: Arc::downgrade(world), name, remote }
    }

    /// Everyone comes as who they are in production, so that the bootstrap roles are tried, too.
    fn user(&self) -> User {
        match self.name.as_str() {
            "user" => User::admin(),
            "informers" => User::new("system:kube-controller-manager", &[]),
            "default-scheduler" => User::new("system:kube-scheduler", &[]),
            name => match name.strip_prefix("kubelet ") {
                Some(node) => User::node(node),
                None => User::controller(name),
            },
        }
    }

    fn open(&self) -> Result<(Arc<World>, Arc<dyn Api>), Status> {
        let down = || Status::unavailable("simulated: no server");
        let world = self.world.upgrade().ok_or_else(down)?;
        let api = match &self.remote {
            Some(client) => Arc::clone(client.api()),
            None => world.api_as(self.user()).ok_or_else(down)?,
        };
        Ok((world, api))
    }

    async fn pass(&self, request: Request) -> Result<Answer, Status> {
        let (world, api) = self.open()?;
        world.faults.travel().await;
        let changes = !matches!(request.verb, Verb::Get | Verb::List);
        if let Some(lost) = world.faults.lost() {
            return Err(lost);
        }
        let epoch = world.epoch();
        world.check();
        if changes {
            lock(&world.checks).before(&self.name, &request);
        }
        let done = api.call(request.clone()).await;
        if world.epoch() != epoch {
            return Err(Status::unavailable("simulated: the server's power was cut"));
        }
        world.check();
        if changes {
            let ok = done.is_ok();
            world.tell(|| describe(&self.name, &request, &done));
            let verdict = lock(&world.checks).after(&self.name, &request, ok);
            if let Err(why) = verdict {
                world.fail(&why);
            }
        }
        if let Some(lost) = world.faults.lost() {
            world.tell(|| format!("{}: the answer is lost", self.name));
            return Err(lost);
        }
        world.faults.travel().await;
        match (done, world.plant) {
            // The planted driver does not know which of its own writes to wait for.
            (Ok(Answer::Object(object)), Some(Plant::Blind)) => {
                Ok(Answer::Object(object.at_revision(0)))
            }
            (done, _) => done,
        }
    }
}

fn describe(name: &str, request: &Request, done: &Result<Answer, Status>) -> String {
    let outcome = match done {
        Ok(Answer::Object(object)) => format!("@{}", object.revision()),
        Ok(_) => "done".into(),
        Err(status) => format!("{status}"),
    };
    let slash = if request.subresource.is_empty() { "" } else { "/" };
    let body = match &request.body {
        client::Body::Patch(_, patch) => format!(" {patch}"),
        _ => String::new(),
    };
    format!(
        "{name}: {} {} {}/{}{slash}{}{body}: {outcome}",
        request.verb.as_str(),
        request.kind.name,
        request.namespace,
        request.name,
        request.subresource
    )
}

impl Api for Door {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(self.pass(request))
    }

    fn read(&self, target: String) -> BoxFuture<'_, Result<Value, Status>> {
        Box::pin(async move {
            let (world, api) = self.open()?;
            world.faults.travel().await;
            match world.faults.lost() {
                Some(lost) => Err(lost),
                None => api.read(target).await,
            }
        })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Status>> {
        Box::pin(async move {
            let (world, api) = self.open()?;
            world.faults.travel().await;
            if let Some(lost) = world.faults.lost() {
                return Err(lost);
            }
            let inner = api.watch(request).await?;
            let world = Arc::downgrade(&world);
            Ok(Box::new(Line { world, inner, held: None, waiting: VecDeque::new(), ended: false })
                as Box<dyn WatchStream>)
        })
    }
}

/// A watch over that network: in order, but late, and it may break.
struct Line {
    world: Weak<World>,
    inner: Box<dyn WatchStream>,
    /// When the next event may be seen; kept here so that a cancelled wait goes on.
    held: Option<Mono>,
    waiting: VecDeque<WatchEvent>,
    ended: bool,
}

impl WatchStream for Line {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<WatchEvent, Status>>> {
        Box::pin(async move {
            if self.ended {
                return None;
            }
            if self.waiting.is_empty() {
                let event = match self.inner.next().await {
                    Some(Ok(event)) => event,
                    end => {
                        self.ended = true;
                        return end;
                    }
                };
                let late = self.world.upgrade().and_then(|world| world.faults.lateness());
                self.held = late.map(|late| rt::now().mono + late);
                self.waiting.push_back(event);
            }
            if let Some(until) = self.held {
                rt::sleep_until(until).await;
                self.held = None;
            }
            let faults = self.world.upgrade().map(|world| world.faults.clone());
            if let Some(faults) = faults.filter(|faults| faults.broken_watch()) {
                self.ended = true;
                return faults.compacted().then(|| Err(Status::expired("simulated: too old")));
            }
            self.waiting.pop_front().map(Ok)
        })
    }
}

/// A client of the world's server over HTTP/2, with `token` for its name.
fn remote(world: &Arc<World>, token: &str) -> Option<Client> {
    let access = Access {
        server: "http://server".to_owned(),
        token: client::access::Source::Inline(token.as_bytes().to_vec()),
        dialer: Some(Arc::new(Dialer(Arc::downgrade(world)))),
        protocol: Protocol::Http2,
        ..Access::default()
    };
    Client::remote(access, "kubelet").ok()
}

struct Dialer(Weak<World>);

impl Dial for Dialer {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, stdx::Result<Io>> {
        Box::pin(async move {
            let down = || stdx::Error::new("simulated: no server");
            let world = self.0.upgrade().ok_or_else(down)?;
            world.faults.travel().await;
            if world.faults.lost().is_some() {
                return Err(stdx::Error::new("simulated: the connection was refused"));
            }
            let face = world.face().ok_or_else(down)?;
            let (wire, [near, far]) = Wire::new(&world.faults);
            world.connected(&wire);
            rt::spawn(async move { face.serve_stream(far, http::Peer::default()).await }).detach();
            Ok(near)
        })
    }
}
