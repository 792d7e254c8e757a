//! The server as its neighbours see it: requests in, answers out, over a store in memory.

mod access_webhook;
mod admission;
mod aggregation;
mod audit;
mod authorization;
mod certificates;
mod conversions;
mod coverage;
mod deletions;
mod flow;
mod identity;
mod issuers;
mod kinds;
mod pod_security;
mod policies;
mod quotas;
mod remote;
mod services;
mod several;
mod token_webhook;
mod usage;
mod verbs;
mod watches;
mod web;
mod webhooks;

use api::kinds::SERVICE_ACCOUNT;
use api::{Kind, Value, json};
use client::{Client, Request, Verb};

use crate::{Config, Server, StaticToken, User};

/// A configuration with keys; the bearer token `admin` may do anything.
pub(crate) fn config() -> Config {
    Config {
        service_account_key: crate::auth::test_key(),
        static_tokens: vec![StaticToken { token: "admin".into(), user: User::admin() }],
        ..Config::default()
    }
}

/// A server over an empty store, and a client that may do anything.
pub(crate) async fn start() -> (Server, Client) {
    let store =
        store::Store::open_memory(&store::Disk::default(), store::Limits::default()).await.unwrap();
    let server = Server::start(config(), store).await.unwrap();
    let client = server.client_as(User::admin());
    // No controller runs here.
    let account = json!({"metadata": {"name": "default", "namespace": "default"}});
    client.create(&SERVICE_ACCOUNT, account).await.unwrap();
    (server, client)
}

/// A request with a body.
pub(crate) fn request(verb: Verb, kind: &'static Kind, name: &str, tree: Value) -> Request {
    let mut request = Request::new(verb, kind, "default", name);
    request.body = client::Body::Tree(tree);
    request
}
