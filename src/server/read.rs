//! A GET of any path by somebody in this process: of what is served here, or of what another server serves.

use std::time::Duration;

use api::path::{self, ResourcePath, Route};
use api::query::Query;
use api::{Status, Value, json};
use client::{Answer, Request, Verb};

use crate::auth::Attributes;
use crate::core::{Core, not_found};
use crate::dispatch;
use crate::user::Caller;
use crate::webhook;

/// The longest answer of another server.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// How long another server may take.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Answers a path with its query, as a tree.
///
/// # Errors
/// Whatever is refused; 404 if nobody serves it.
pub(crate) async fn read(core: &Core, caller: &Caller, target: &str) -> Result<Value, Status> {
    let (plain, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, beyond) = match path::parse(plain) {
        Route::Resource(path) => (path, false),
        Route::Beyond(path) => (path, true),
        _ => return Err(not_found()),
    };
    if let Some(remote) = core.aggregation.serving(&path.group, &path.version) {
        if !path::is_unambiguous(plain, "") {
            return Err(not_found());
        }
        core.permit(caller, &attributes(&path)).await?;
        let request = http::Request::get(target).header("accept", "application/json");
        let user = &caller.user;
        let passed = core.aggregation.pass_on(core.ways(), &core.http, &remote, user, request);
        let late = |rt::Elapsed| Status::unavailable("it did not answer in time");
        let answered = async {
            let mut response = passed.await?;
            let text = response.body.read_all(ANSWER_BYTES_MAX).await;
            tree(response.status, &text.map_err(Status::internal)?)
        };
        return rt::timeout(WAIT_MAX, answered).await.map_err(late)?;
    }
    let resource = core.kinds.current().find(&path.group, &path.version, &path.plural).cloned();
    let resource = resource.filter(|_| !beyond).ok_or_else(not_found)?;
    let verb = if path.name.is_empty() { Verb::List } else { Verb::Get };
    let mut request = Request::new(verb, resource.kind, &path.namespace, &path.name);
    request.group_version = resource.form().api_version();
    request.subresource.clone_from(&path.subresource);
    request.list = client::options::list_options(&Query::parse(query)?)?;
    core.authorize(caller, &request).await?;
    Ok(match dispatch::perform(core, caller, request).await?.answer {
        Answer::Tree(tree) => tree,
        Answer::Object(object) => object.tree(),
        Answer::List(list) => {
            json!({"items": list.items.iter().map(api::Object::tree).collect::<Vec<_>>()})
        }
    })
}

/// What a path asks for, for the audit log.
pub(crate) fn asked(target: &str) -> Option<Attributes> {
    match path::parse(target.split('?').next().unwrap_or("")) {
        Route::Resource(path) | Route::Beyond(path) => Some(attributes(&path)),
        _ => None,
    }
}

fn attributes(path: &ResourcePath) -> Attributes {
    Attributes {
        verb: if path.name.is_empty() { "list" } else { "get" }.into(),
        group: path.group.clone(),
        version: path.version.clone(),
        resource: path.plural.clone(),
        subresource: path.subresource.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        ..Attributes::default()
    }
}

/// What another server answered, who may be anybody: its tree is bounded, too.
fn tree(code: u16, text: &[u8]) -> Result<Value, Status> {
    let tree = webhook::parse(text);
    match (code, tree) {
        (200, tree) => tree.map_err(|error| Status::internal(format!("read its answer: {error}"))),
        (_, Ok(tree @ Value::Object(_))) => Err(Status::from_tree(&tree, code)),
        (404, _) => Err(not_found()),
        (503, _) => {
            Err(Status::unavailable("the server is currently unable to handle the request"))
        }
        (code, _) => Err(Status::unavailable(format!("it answered {code}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_servers_answer_is_bounded() {
        assert_eq!(tree(200, b"{\"items\":[]}").unwrap(), json!({"items": []}));
        let many = format!("[{}0]", "0,".repeat(3 << 20));
        let deep = "[".repeat(100_000);
        for text in [many.as_str(), deep.as_str(), "nonsense"] {
            assert_eq!(tree(200, text.as_bytes()).unwrap_err().code(), 500);
            assert_eq!(tree(403, text.as_bytes()).unwrap_err().code(), 503);
        }
        let refused =
            json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"});
        assert_eq!(tree(403, refused.to_string().as_bytes()).unwrap_err().message(), "no");
    }
}
