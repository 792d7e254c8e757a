//! ResourceQuota: nothing is written that a quota of its namespace has no room for.
//!
//! What a write uses is added to the quotas in the transaction that writes the object, so that neither
//! happens without the other. What becomes free is given back by the quota controller.

use api::kinds::{PERSISTENT_VOLUME_CLAIM, POD, RESOURCE_QUOTA, SERVICE};
use api::pod::resources;
use api::{LensMut, Object, Status, Value, quota};
use store::{Compare, Error, Expect, Relation, Request, Room, Span, Store, Target, Txn};

use super::{Act, Operation};
use crate::storage;

/// How often a write that lost a quota to another is charged anew.
const TRIES_MAX: usize = 10;

/// Quotas that one write may be charged to: they share its transaction.
const CHARGED_MAX: usize = 64;

/// What a write adds to the quotas of its namespace. While it is held, no other write of the namespace
/// is charged by this server.
pub(crate) struct Charge {
    beside: Txn,
    _turn: rt::lock::SemaphoreGuardArc,
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Charge").field(&self.beside).finish()
    }
}

/// Creations, and the changes of what a quota counts the parts of.
pub(super) fn handles(act: &Act<'_>) -> bool {
    if !quota::is_counted(act.kind) || act.request.namespace.is_empty() {
        return false;
    }
    match (act.operation, act.subresource()) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => *act.kind == SERVICE || *act.kind == PERSISTENT_VOLUME_CLAIM,
        (Operation::Update, "resize") => *act.kind == POD,
        _ => false,
    }
}

/// What the write is charged; `None` if no quota is concerned, or nothing will be written.
///
/// # Errors
/// 403 if a quota has no room.
pub(super) async fn charge(act: &Act<'_>, new: &Value) -> Result<Option<Charge>, Status> {
    let (store, namespace) = (&act.core.store, act.request.namespace.as_str());
    if !storage::any(store, &RESOURCE_QUOTA, namespace).await? {
        return Ok(None);
    }
    let turn = act.core.turns.take(namespace).await;
    let (revision, quotas) = storage::all(store, &RESOURCE_QUOTA, namespace).await?;
    let mut trees: Vec<Value> = quotas.iter().map(Object::whole_tree).collect();
    let now = rt::now().wall;
    let changed =
        quota::admit(&trees, act.kind, new, act.old, now).map_err(|why| act.forbidden(new, why))?;
    if act.request.dry_run {
        return Ok(None);
    }
    if changed.len() > CHARGED_MAX {
        let why = format!("more than {CHARGED_MAX} quotas count it");
        return Err(act.forbidden(new, why));
    }
    // None of them may be another one when the object is written, nor may there be one more: also one that
    // has nothing to say yet. One that is gone must not come back.
    let span = storage::span(&RESOURCE_QUOTA, namespace);
    let target = Target::ModRevision(revision + 1);
    let compares = vec![Compare { span, relation: Relation::Less, target }];
    let mut beside = Txn { compares, ..Txn::default() };
    for (idx, used) in changed {
        let tree = &mut trees[idx];
        tree.set("status.used", resources::tree(&used));
        let charged = Object::from_tree(&RESOURCE_QUOTA, tree).map_err(Status::internal)?;
        let key = storage::key(&RESOURCE_QUOTA, namespace, charged.name());
        let own = Target::ModRevision(quotas[idx].revision());
        beside.compares.push(Compare {
            span: Span::key(key.as_str()),
            relation: Relation::Equal,
            target: own,
        });
        let value = charged.bytes().clone();
        beside.then.push(Request::Put { key: key.into_bytes().into(), value, lease: 0 });
    }
    Ok(Some(Charge { beside, _turn: turn }))
}

/// Whether a write was lost because a quota is another one now, or gone, not because the object is.
async fn is_lost(
    error: &Error,
    expect: Expect,
    (own_key, namespace): (&str, &str),
    store: &Store,
) -> Result<bool, Status> {
    let prefix = storage::prefix(&RESOURCE_QUOTA, namespace);
    let Error::Conflict { current } = error else { return Ok(false) };
    Ok(match current {
        Some(found) => {
            found.key.starts_with(prefix.as_bytes()) && *found.key != *own_key.as_bytes()
        }
        // Something is gone: of a new object it cannot be the object.
        None if expect == Expect::Absent => true,
        None => store.get(own_key).await.map_err(storage::status)?.is_some(),
    })
}

/// Writes a version of an object with what it was charged, as `storage::put` does; where a quota
/// changed meanwhile, it is asked again. `new` is the object's tree.
///
/// # Errors
/// 403 if there is no room any more; inside, the store's own.
pub(crate) async fn put(
    act: &Act<'_>,
    new: &Value,
    mut charge: Option<Charge>,
    (object, expect, room): (&Object, Expect, Room),
    beside: Txn,
) -> Result<Result<Object, Error>, Status> {
    let store = &act.core.store;
    for _ in 0..TRIES_MAX {
        let Some(held) = charge.take() else {
            return Ok(storage::put(store, object, expect, room, beside).await);
        };
        let mut both = beside.clone();
        both.compares.extend(held.beside.compares.iter().cloned());
        both.then.extend(held.beside.then.iter().cloned());
        let done = storage::put(store, object, expect, room, both).await;
        let own_key = storage::key(object.kind(), object.namespace(), object.name());
        let lost = match &done {
            Err(error) => is_lost(error, expect, (&own_key, object.namespace()), store).await?,
            Ok(_) => false,
        };
        if !lost {
            return Ok(done);
        }
        drop(held);
        charge = self::charge(act, new).await?;
    }
    Err(Status::modified(&RESOURCE_QUOTA, ""))
}
