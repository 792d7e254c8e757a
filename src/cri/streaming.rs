//! Exec, attach and port-forward: a client asks over gRPC, gets an address that is good for one minute and one use, and
//! upgrades a connection there to SPDY or WebSocket.
//!
//! The server listens on a port of the loopback that the system chooses, from the first such request on. Addresses hold
//! a secret, because other users of the machine reach the loopback, too.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::grpc::Code;
use http::server::{Limits, Server, Service};
use http::streams::{Wanted, accept_port_forward, accept_remote_command};
use http::{Request, Response};
use rt::BoxFuture;
use runtime::streaming::{PortForwarder, carry};
use runtime::{ExecSpec, Id, Runtime};
use stdx::{Context, Result};
use stdx::{OrdMap, time::Mono};

use crate::refusal::{Answer, Refusal};
use crate::{Shared, lock};

/// Addresses that nobody has come to yet, as upstream's.
const WISHES_MAX: usize = 1000;
const WISH_MAX_AGE: Duration = Duration::from_secs(60);

/// What a client will get.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Exec { container: Id, args: Vec<String>, wanted: Wanted },
    Attach { container: Id, wanted: Wanted },
    PortForward { sandbox: Id, ports: Vec<u16> },
}

/// The server, once there is one.
pub(crate) struct Streaming {
    runtime: Runtime,
    address: std::net::SocketAddr,
    wishes: Mutex<OrdMap<String, (Mono, Wish)>>,
}

impl Shared {
    /// Where the client gets what it asked for.
    pub(crate) async fn promise(&self, wish: Wish) -> Answer<String> {
        let streaming = self.streaming().await?;
        let mut bytes = [0; 16];
        rt::random(&mut bytes);
        let token = wire::hex::encode(&bytes);
        let verb = match wish {
            Wish::Exec { .. } => "exec",
            Wish::Attach { .. } => "attach",
            Wish::PortForward { .. } => "portforward",
        };
        let now = rt::now().mono;
        let mut wishes = lock(&streaming.wishes);
        wishes.retain(|_, (since, _)| now.since(*since) < WISH_MAX_AGE);
        if wishes.len() >= WISHES_MAX {
            let message = "maximum number of in-flight requests exceeded";
            return Err(Refusal::new(Code::RESOURCE_EXHAUSTED, message));
        }
        let url = format!("http://{}/{verb}/{token}", streaming.address);
        wishes.insert(token, (now, wish));
        Ok(url)
    }

    async fn streaming(&self) -> Result<Arc<Streaming>> {
        let mut place = self.streaming.lock().await;
        if let Some(streaming) = &*place {
            return Ok(Arc::clone(streaming));
        }
        let what = || "listen for streams on 127.0.0.1";
        let listener = rt::net::TcpListener::bind(("127.0.0.1", 0)).await.context(what)?;
        let streaming = Arc::new(Streaming {
            runtime: self.runtime.clone(),
            address: listener.local_addr().context(what)?,
            wishes: Mutex::default(),
        });
        // Who comes without an address of ours is a stranger, and strangers come by one address.
        let limits = Limits { connections_max: 256, shares_places: false, ..Limits::default() };
        let server = Server::new(Arc::new(Door(Arc::clone(&streaming))), limits);
        rt::spawn_named("CRI streams", async move {
            if let Err(error) = server.serve(listener, None).await {
                log::error!("CRI streams: {error}");
            }
        })
        .detach();
        *place = Some(Arc::clone(&streaming));
        Ok(streaming)
    }
}

struct Door(Arc<Streaming>);

impl Service for Door {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(self.0.answer(request))
    }
}

impl Streaming {
    async fn answer(&self, mut request: Request) -> Response {
        let token = request.path().rsplit('/').next().unwrap_or_default().to_owned();
        let wish = lock(&self.wishes).remove(&token);
        let now = rt::now().mono;
        let Some((_, wish)) = wish.filter(|(since, _)| now.since(*since) < WISH_MAX_AGE) else {
            return Response::text(404, "404 page not found\n");
        };
        request.peer.vouch("administrator");
        match self.grant(&mut request, wish).await {
            Ok(response) => response,
            Err(error) => Response::text(500, format!("{error}\n")),
        }
    }

    /// The command begins before the connection is upgraded: one that cannot is an answer.
    async fn grant(&self, request: &mut Request, wish: Wish) -> Result<Response> {
        let (session, wanted) = match wish {
            Wish::PortForward { sandbox, ports } => {
                return self.forward(request, &sandbox, &ports);
            }
            Wish::Exec { container, args, wanted } => {
                let spec =
                    ExecSpec { args, tty: wanted.tty, stdin: wanted.stdin, ..ExecSpec::default() };
                (self.runtime.exec(&container, spec).await?, wanted)
            }
            Wish::Attach { container, wanted } => {
                (self.runtime.attach(&container, wanted.stdin).await?, wanted)
            }
        };
        match accept_remote_command(request, wanted) {
            Ok((response, accepted)) => {
                carry(session, accepted);
                Ok(response)
            }
            Err(refusal) => {
                let mut sender = session.sender;
                let _ = sender.kill().await;
                Ok(refusal)
            }
        }
    }

    fn forward(&self, request: &mut Request, sandbox: &str, ports: &[u16]) -> Result<Response> {
        let sandbox = self.runtime.sandbox(sandbox).context(|| "the sandbox is gone")?;
        match accept_port_forward(request, ports) {
            Ok((response, accepted)) => {
                PortForwarder::new(&sandbox).serve(accepted);
                Ok(response)
            }
            Err(refusal) => Ok(refusal),
        }
    }
}
