//! The server as its neighbours see it: requests in, answers out, over a store in memory.

mod verbs;

use api::kinds::SERVICE_ACCOUNT;
use api::{Kind, Object, Value, json};
use client::{Answer, Client, Request, Verb};

use crate::{Config, Server, User};

/// A server over an empty store, and a client that may do anything.
pub(crate) async fn start() -> (Server, Client) {
    let store =
        store::Store::open_memory(&store::Disk::default(), store::Limits::default()).await.unwrap();
    let server = Server::start(Config::default(), store).await.unwrap();
    let client = server.client_as(User::admin());
    // No controller runs here.
    let account = json!({"metadata": {"name": "default", "namespace": "default"}});
    client.create(&SERVICE_ACCOUNT, account).await.unwrap();
    (server, client)
}

pub(crate) fn object(answer: Answer) -> Object {
    match answer {
        Answer::Object(object) => object,
        other => panic!("{other:?}"),
    }
}

/// A request with a body.
pub(crate) fn request(verb: Verb, kind: &'static Kind, name: &str, tree: Value) -> Request {
    let mut request = Request::new(verb, kind, "default", name);
    request.body = client::Body::Tree(tree);
    request
}
