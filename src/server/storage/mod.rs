//! The border between API objects and the store's bytes: keys, stored objects, errors, lists, and what watches are fed by.

pub(crate) mod cache;
pub(crate) mod change;
pub(crate) mod continue_token;
pub(crate) mod list;
pub(crate) mod room;
pub(crate) mod selection;

use api::status::Reason;
use api::{Kind, Object, Status, kinds};
use store::{Class, Error, Expect, KeyValue, Op, Query, Room, Span, Store, Txn};

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
    match kind.declared.durability {
        api::kind::Durability::Lazy => Class::Lazy,
        _ => Class::Durable,
    }
}

/// The stored object of a version of a key.
///
/// # Errors
/// 500 if what the disk held cannot be read.
pub(crate) fn object(kind: &'static Kind, version: &KeyValue) -> Result<Object, Status> {
    object_at(kind, version, version.mod_revision)
}

/// The same as at another revision: the one that deleted or replaced it.
///
/// # Errors
/// 500 if what the disk held cannot be read.
pub(crate) fn object_at(
    kind: &'static Kind,
    version: &KeyValue,
    revision: u64,
) -> Result<Object, Status> {
    let bytes = version.value.clone();
    match version.checked {
        true => Object::from_checked(kind, revision, bytes),
        false => Object::from_bytes(kind, revision, bytes),
    }
    .map_err(Status::internal)
}

/// Whether a value that the disk held can be read; whatever is no object of a known kind can.
pub fn check(key: &[u8], value: &[u8]) -> bool {
    let Some(rest) = key.strip_prefix(b"/registry/") else { return true };
    let is_of = |kind: &&&Kind| {
        let rest = rest.strip_prefix(kind.storage_prefix().as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    };
    let kind = kinds::KINDS.iter().find(is_of);
    let checked = kind.map_or(Ok(()), |kind| Object::check(kind, value));
    if let Err(error) = &checked {
        log::error!("datastore: {}: {error}", key.escape_ascii());
    }
    checked.is_ok()
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

/// Every object of a kind in a namespace, at the revision that is answered with them.
///
/// # Errors
/// 500 if what the disk held cannot be read.
pub(crate) async fn all(
    store: &Store,
    kind: &'static Kind,
    namespace: &str,
) -> Result<(u64, Vec<Object>), Status> {
    let found = store.range(&Query::prefix(prefix(kind, namespace))).await.map_err(status)?;
    let objects = found.items.iter().map(|version| object(kind, version));
    Ok((found.revision, objects.collect::<Result<_, _>>()?))
}

/// Whether a namespace has any object of a kind.
///
/// # Errors
/// The store's own.
pub(crate) async fn any(store: &Store, kind: &Kind, namespace: &str) -> Result<bool, Status> {
    let query = Query { limit: 1, ..Query::prefix(prefix(kind, namespace)) };
    Ok(!store.range(&query).await.map_err(status)?.items.is_empty())
}

/// Writes a version of an object where `expect` holds, together with what `beside` says; answers
/// it at its new revision.
///
/// # Errors
/// The store's own.
pub(crate) async fn put(
    store: &Store,
    object: &Object,
    expect: Expect,
    room: Room,
    beside: Txn,
) -> Result<Object, Error> {
    let key = key(object.kind(), object.namespace(), object.name());
    let op =
        Op::Put { key: key.into_bytes().into(), value: object.bytes().clone(), expect, lease: 0 };
    let revision = write(store, op, class(object.kind()), room, beside).await?;
    // A put is always a change: the store's answer is the revision of this write.
    Ok(object.at_revision(revision))
}

/// Deletes an object that is still at its revision, together with what `beside` says;
/// answers the revision of the deletion.
///
/// # Errors
/// The store's own.
pub(crate) async fn delete(store: &Store, object: &Object, beside: Txn) -> Result<u64, Error> {
    let key = key(object.kind(), object.namespace(), object.name());
    let op = Op::delete(key.into_bytes(), Expect::Revision(object.revision()));
    write(store, op, class(object.kind()), Room::Whole, beside).await
}

async fn write(store: &Store, op: Op, class: Class, room: Room, beside: Txn) -> Result<u64, Error> {
    let mut txn = Txn::from(vec![op]);
    txn.compares.extend(beside.compares);
    txn.then.extend(beside.then);
    Ok(store.txn(txn, class, room).await?.written()?.revision)
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
        Error::Full { owner, held_bytes, bytes_max } => {
            let what = match owner {
                Some(namespace) => format!(
                    "namespace {:?} holds {held_bytes} of the {bytes_max} bytes of the datastore that one namespace may have",
                    String::from_utf8_lossy(&namespace)
                ),
                None => format!("the datastore holds {held_bytes} of at most {bytes_max} bytes"),
            };
            let message = format!(
                "etcdserver: mvcc: database space exceeded: {what}; delete objects that are not needed any more to make room"
            );
            Status::new(Reason::InsufficientStorage, message)
        }
        Error::Conflict { .. } => Status::new(Reason::Conflict, "the object has been modified"),
        Error::Closed => Status::unavailable("the server is shutting down"),
        other => Status::internal(other),
    }
}

/// Upstream's `NewTooLargeResourceVersionError`.
pub(crate) fn too_large(asked: u64, current: u64) -> Status {
    Status::new(
        Reason::Timeout,
        format!("Timeout: Too large resource version: {asked}, current: {current}"),
    )
    .detail("retryAfterSeconds", 1)
    .detail(
        "causes",
        api::json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]),
    )
}
