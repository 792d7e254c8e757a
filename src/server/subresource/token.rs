//! `serviceaccounts/token`: a token for a service account, bound to what it shall die with.

use std::time::Duration;

use api::kinds::{NODE, POD, SECRET, SERVICE_ACCOUNT, TOKEN_REQUEST};
use api::status::Cause;
use api::{Lens, LensMut, Object, Status, Value, json};
use client::{Answer, Body};

use crate::admission::{self, Act, Notes};
use crate::auth::tokens::Grant;
use crate::core::{Call, Core, Outcome, tree_of};
use crate::storage;

const EXPIRATION_DEFAULT_SECS: i64 = 3600;
const EXPIRATION_MIN_SECS: i64 = 600;
const EXPIRATION_MAX_SECS: i64 = 1 << 32;

pub(super) async fn create(call: &Call<'_>, body: Body) -> Result<Outcome, Status> {
    let (core, request) = (call.core, call.request);
    let (namespace, name) = (request.namespace.as_str(), request.name.as_str());
    let mut tree = tree_of(body)?;
    let account = storage::get(&core.store, &SERVICE_ACCOUNT, namespace, name).await?;
    let named = tree.str("metadata.name");
    if !named.is_empty() && named != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({name})"
        )));
    }
    let mut notes = Notes::default();
    tree = admission::admit(&Act::create(call), tree, &mut notes).await?;
    let mut audiences: Vec<String> =
        tree.list("spec.audiences").iter().filter_map(|a| a.as_str().map(str::to_owned)).collect();
    if audiences.is_empty() {
        audiences = core.tokens.audiences().to_vec();
    }
    let expiration_secs = tree.int("spec.expirationSeconds").unwrap_or(EXPIRATION_DEFAULT_SECS);
    let complaint = match expiration_secs {
        ..EXPIRATION_MIN_SECS => Some("may not specify a duration less than 10 minutes"),
        secs if secs > EXPIRATION_MAX_SECS => {
            Some("may not specify a duration larger than 2^32 seconds")
        }
        _ => None,
    };
    if let Some(complaint) = complaint {
        let cause = Cause {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {expiration_secs}: {complaint}"),
            field: "spec.expirationSeconds".into(),
        };
        return Err(Status::invalid(&TOKEN_REQUEST, name, vec![cause]));
    }
    let bound = bound_object(core, namespace, name, tree.at("spec.boundObjectRef")).await?;
    let node = match bound.as_ref().filter(|object| object.kind() == &POD) {
        Some(pod) => node_of(core, pod).await?,
        None => None,
    };
    tree.set("metadata.name", name);
    tree.set("metadata.namespace", namespace);
    tree.set("spec.audiences", json!(audiences));
    tree.set("spec.expirationSeconds", expiration_secs);
    let now = rt::now().wall;
    tree.set_default("metadata.creationTimestamp", api::time::format(now));
    let grant =
        Grant { account: &account, audiences, expiration_secs, bound: bound.as_ref(), node };
    let token = core.tokens.issue(&grant, now).map_err(Status::internal)?;
    let life = Duration::from_secs(u64::try_from(expiration_secs).unwrap_or(0));
    tree.set(
        "status",
        json!({"token": token, "expirationTimestamp": api::time::format(now + life)}),
    );
    tree.set("apiVersion", TOKEN_REQUEST.api_version());
    tree.set("kind", TOKEN_REQUEST.name);
    Ok(Outcome::created(Answer::Tree(tree)).with_warnings(notes.warnings))
}

/// The object that the token shall live and die with.
async fn bound_object(
    core: &Core,
    namespace: &str,
    account: &str,
    reference: &Value,
) -> Result<Option<Object>, Status> {
    if reference.is_null() {
        return Ok(None);
    }
    let (version, kind) = (reference.str("apiVersion"), reference.str("kind"));
    let (kind, namespace) = match (version, kind) {
        ("v1", "Pod") => (&POD, namespace),
        ("v1", "Secret") => (&SECRET, namespace),
        ("v1", "Node") => (&NODE, ""),
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let object = storage::get(&core.store, kind, namespace, reference.str("name")).await?;
    if kind == &POD {
        let tree = object.tree();
        if tree.str("spec.serviceAccountName") != account {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
    }
    let uid = reference.str("uid");
    if !uid.is_empty() && uid != object.uid() {
        return Err(Status::conflict(
            kind,
            object.name(),
            format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    Ok(Some(object))
}

/// Name and uid of the node a pod is on; the uid is empty if the node is not registered.
async fn node_of(core: &Core, pod: &Object) -> Result<Option<(String, String)>, Status> {
    let tree = pod.tree();
    let name = tree.str("spec.nodeName");
    if name.is_empty() {
        return Ok(None);
    }
    let node = storage::find(&core.store, &NODE, "", name).await?;
    Ok(Some((name.to_owned(), node.map_or_else(String::new, |node| node.uid().to_owned()))))
}
