//! Keys, stored objects and store errors: the border between API objects and the store's bytes.

use api::status::Reason;
use api::{Kind, Object, Status};
use store::{Class, Error, Expect, KeyValue, Op, Span, Store};

/// `/registry/<prefix>/` and, if given, the namespace.
pub(crate) fn prefix(kind: &Kind, namespace: &str) -> String {
    match namespace {
        "" => format!("/registry/{}/", kind.storage_prefix()),
        namespace => format!("/registry/{}/{namespace}/", kind.storage_prefix()),
    }
}

/// `/registry/<prefix>/<namespace>/<name>`
pub(crate) fn key(kind: &Kind, namespace: &str, name: &str) -> String {
    match kind.namespaced() {
        true => format!("/registry/{}/{namespace}/{name}", kind.storage_prefix()),
        false => format!("/registry/{}/{name}", kind.storage_prefix()),
    }
}

/// How durable writes of the kind are.
pub(crate) fn class(kind: &Kind) -> Class {
    match kind.durability {
        api::kind::Durability::Lazy => Class::Lazy,
        _ => Class::Durable,
    }
}

/// The stored object of a version of a key.
pub(crate) fn object(kind: &'static Kind, version: &KeyValue) -> Result<Object, Status> {
    Object::from_bytes(kind, version.mod_revision, version.value.clone()).map_err(Status::internal)
}

/// The object as it was, at the revision that deleted it.
pub(crate) fn deleted_object(
    kind: &'static Kind,
    version: &KeyValue,
    revision: u64,
) -> Result<Object, Status> {
    Object::from_bytes(kind, revision, version.value.clone()).map_err(Status::internal)
}

/// Reads one object; `None` if it does not exist.
pub(crate) async fn find(
    store: &Store,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
) -> Result<Option<Object>, Status> {
    let found = store.get(key(kind, namespace, name)).await.map_err(status)?;
    found.map(|version| object(kind, &version)).transpose()
}

/// Reads one object.
///
/// # Errors
/// 404 in upstream's words.
pub(crate) async fn get(
    store: &Store,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
) -> Result<Object, Status> {
    find(store, kind, namespace, name).await?.ok_or_else(|| Status::not_found(kind, name))
}

/// Writes a version of an object where `expect` holds; answers it at its new revision.
///
/// # Errors
/// The store's own.
pub(crate) async fn put(store: &Store, object: &Object, expect: Expect) -> Result<Object, Error> {
    let key = key(object.kind(), object.namespace(), object.name());
    let op =
        Op::Put { key: key.into_bytes().into(), value: object.bytes().clone(), expect, lease: 0 };
    let written = store.write(vec![op], class(object.kind())).await?;
    // A put is always a change: the store's answer is the revision of this write.
    Object::from_bytes(object.kind(), written.revision, object.bytes().clone())
        .map_err(|error| Error::Invalid(error.to_string()))
}

/// Deletes an object that is still at its revision; answers the revision of the deletion.
///
/// # Errors
/// The store's own.
pub(crate) async fn delete(store: &Store, object: &Object) -> Result<u64, Error> {
    let key = key(object.kind(), object.namespace(), object.name());
    let op = Op::delete(key.into_bytes(), Expect::Revision(object.revision()));
    Ok(store.write(vec![op], class(object.kind())).await?.revision)
}

/// The keys of a kind, or of those in one namespace.
pub(crate) fn span(kind: &Kind, namespace: &str) -> Span {
    Span::prefix(prefix(kind, namespace))
}

/// An API answer for a store error that has no meaning of its own to the request.
pub(crate) fn status(error: Error) -> Status {
    match error {
        Error::Compacted { asked, compact_revision } => {
            Status::expired(format!("too old resource version: {asked} ({compact_revision})"))
        }
        Error::Future { asked, revision } => too_large(asked, revision),
        Error::Lagged => Status::expired("the watch fell too far behind: list again"),
        Error::Invalid(why) => Status::new(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {} bytes: {why}", 3 << 20),
        ),
        Error::Full { .. } => Status::new(
            Reason::InternalError,
            format!("etcdserver: mvcc: database space exceeded: {error}"),
        ),
        Error::Conflict { .. } => Status::new(Reason::Conflict, "the object has been modified"),
        Error::Closed => Status::unavailable("the server is shutting down"),
        other => Status::internal(other),
    }
}

/// Upstream's `NewTooLargeResourceVersionError`.
pub(crate) fn too_large(asked: u64, current: u64) -> Status {
    Status::new(
        Reason::Timeout,
        format!("Too large resource version: {asked}, current: {current}"),
    )
    .detail("retryAfterSeconds", 1)
    .detail(
        "causes",
        api::json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]),
    )
}
