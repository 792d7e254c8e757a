//! The server as others hold it: started once, asked in process or over HTTP.

use std::fmt;
use std::sync::{Arc, Weak};

use api::Status;
use client::{Answer, Api, Client, Request, WatchStream};
use http::server::Service;
use rt::BoxFuture;
use store::Store;

use crate::auth::User;
use crate::config::Config;
use crate::core::{Caller, Core};
use crate::web::Web;

/// A running API server. Cheap to clone; it ends with its last clone.
#[derive(Clone)]
pub struct Server {
    core: Arc<Core>,
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
        let tokens = crate::auth::tokens::Tokens::new(&config)?;
        let core = Core {
            config,
            tokens,
            store,
            authorizer: crate::auth::Authorizer::default(),
            allocators: crate::allocate::Allocators::default(),
        };
        let server = Server { core: Arc::new(core) };
        crate::bootstrap::run(&server.client_as(User::apiserver()), &server.core.config).await?;
        Ok(server)
    }

    /// The API as `user` sees it, as function calls: same authorization, same admission, no HTTP.
    /// It does not keep the server alive.
    pub fn api_as(&self, user: User) -> Arc<dyn Api> {
        let agent = agent(&user);
        Arc::new(InProcess {
            core: Arc::downgrade(&self.core),
            caller: Caller { user: Arc::new(user), agent },
        })
    }

    /// What an HTTPS listener serves. `extra` answers `/cacerts`, `/ping`, `/v1-k3s/...` and
    /// `/static/...`, and does its own authentication.
    pub fn service(&self, extra: Option<Arc<dyn Service>>) -> Arc<dyn Service> {
        Arc::new(Web::new(Arc::clone(&self.core), extra))
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
        crate::auth::authenticate::user(&self.core, peer, headers).await
    }

    /// A client that acts as `user`.
    pub fn client_as(&self, user: User) -> Client {
        Client::new(self.api_as(user))
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

impl Api for InProcess {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(async move {
            let core = self.core()?;
            core.authorize(&self.caller, &request).await?;
            Ok(core.perform(&self.caller, &request).await?.answer)
        })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Status>> {
        Box::pin(async move {
            let core = self.core()?;
            core.authorize(&self.caller, &request).await?;
            let stream = core.watch(&request).await?;
            Ok(Box::new(stream) as Box<dyn WatchStream>)
        })
    }
}
