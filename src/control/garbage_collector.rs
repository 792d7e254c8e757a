//! Garbage collector: deletes what has lost its owners, and finishes foreground and orphaning deletions.
//!
//! Works through the owner index: an event about an object looks at that object, its owners and,
//! when it goes away, its dependents. Nothing is swept.

use api::controller::Action;
use api::object::Owner;
use api::{Actions, Controller, Expect, Key, Kind, Lens, LensMut, Next, Object, Value, View};
use api::{Wakes, Watch, json};

use crate::support::kinds::is_collected;
use crate::support::without_finalizer;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

pub(crate) struct GarbageCollector;

impl Controller for GarbageCollector {
    const NAME: &'static str = "generic-garbage-collector";
    const WATCHES: &'static [Watch] = &[];
    const FOLLOWS: fn(&'static Kind) -> Option<Wakes> =
        |kind| is_collected(kind).then_some(Wakes::With(wakes));

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key) else { return Next::Done };
        if object.deleting() {
            finish_deletion(view, &object, actions);
        } else {
            check_owners(view, &object, actions);
        }
        Next::Done
    }
}

fn wakes(view: &View<'_>, object: &Object) -> Vec<Key> {
    let mut keys = Vec::new();
    let gone = view.at(&Key::of(object)).is_none_or(|present| present.uid() != object.uid());
    let owners = object.owners();
    if !gone && (object.deleting() || !owners.is_empty()) {
        keys.push(Key::of(object));
    }
    if gone || object.deleting() {
        // An owner in foreground deletion waits for this one.
        let waiting = owners.iter().filter_map(|owner| find(view, object, owner).ok().flatten());
        keys.extend(waiting.filter(Object::deleting).map(|owner| Key::of(&owner)));
        keys.extend(dependents(view, object).iter().map(Key::of));
    }
    keys
}

/// Everything with an owner reference to `owner`.
fn dependents(view: &View<'_>, owner: &Object) -> Vec<Object> {
    // Owners are in the namespace of what they own, or in none.
    let of_kind = |kind: &'static Kind| match (owner.namespace(), kind.namespaced()) {
        ("", _) => view.owned(kind, "", owner.uid()),
        (namespace, true) => view.owned(kind, namespace, owner.uid()),
        (_, false) => Vec::new(),
    };
    view.kinds().stored().filter(|kind| is_collected(kind)).flat_map(of_kind).collect()
}

/// The owner that a reference names, if the view holds it. An error where nothing can be known:
/// a kind that is not served, or a namespaced owner of a cluster-scoped object.
fn find(view: &View<'_>, object: &Object, owner: &Owner) -> Result<Option<Object>, ()> {
    let key = key(view, object, owner).ok_or(())?;
    Ok(view.at(&key).filter(|found| *found.uid() == *owner.uid))
}

fn key(view: &View<'_>, object: &Object, owner: &Owner) -> Option<Key> {
    let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let kind: &'static Kind = view.kinds().by_name(group, &owner.kind)?;
    match (kind.namespaced(), object.namespace()) {
        _ if !is_collected(kind) => None,
        (true, "") => None,
        (true, namespace) => Some(Key::new(kind, namespace, &*owner.name)),
        (false, _) => Some(Key::new(kind, "", &*owner.name)),
    }
}

fn has_finalizer(tree: &Value, finalizer: &str) -> bool {
    tree.list("metadata.finalizers").iter().any(|f| f == finalizer)
}

/// Removes the finalizers that stand for dependents once those are dealt with.
fn finish_deletion(view: &View<'_>, object: &Object, actions: &mut Actions) {
    let tree = object.tree();
    let (orphans, foreground) = (has_finalizer(&tree, ORPHAN), has_finalizer(&tree, FOREGROUND));
    if !orphans && !foreground {
        return;
    }
    let dependents = dependents(view, object);
    if orphans {
        for dependent in &dependents {
            drop_references(dependent, &[object.uid()], actions);
        }
        actions.patch_exact(object, without_finalizer(&tree, ORPHAN).unwrap_or_default());
        return;
    }
    let blocks = |dependent: &Object| {
        dependent.owners().iter().any(|owner| *owner.uid == *object.uid() && owner.block)
    };
    if !dependents.iter().any(blocks) {
        actions.patch_exact(object, without_finalizer(&tree, FOREGROUND).unwrap_or_default());
    }
}

/// Deletes an object none of whose owners is left to keep it.
fn check_owners(view: &View<'_>, object: &Object, actions: &mut Actions) {
    let (mut solid, mut waiting, mut dangling) = (0, Vec::new(), Vec::new());
    let owners = object.owners();
    for owner in &owners {
        match find(view, object, owner) {
            Ok(Some(found)) if found.deleting() && has_finalizer(&found.tree(), FOREGROUND) => {
                waiting.push(owner);
            }
            Ok(None) => dangling.push(owner),
            Ok(Some(_)) | Err(()) => solid += 1,
        }
    }
    if waiting.is_empty() && dangling.is_empty() {
        return;
    }
    for owner in &dangling {
        if let Some(key) = key(view, object, owner) {
            actions.expect(Expect::Gone { key, uid: owner.uid.to_string() });
        }
    }
    if solid > 0 {
        let uids: Vec<&str> = dangling.iter().chain(&waiting).map(|owner| &*owner.uid).collect();
        drop_references(object, &uids, actions);
        return;
    }
    let tree = object.tree();
    let mut revision = Some(object.revision());
    let dependents = if waiting.is_empty() { Vec::new() } else { dependents(view, object) };
    let propagation = if !dependents.is_empty() {
        // Owner and dependent in a circle would wait for each other for ever: unblock ours.
        let circle = |dependent: &Object| {
            dependent.deleting() && has_finalizer(&dependent.tree(), FOREGROUND)
        };
        if dependents.iter().any(circle) {
            let mut references = tree.list("metadata.ownerReferences").to_vec();
            references.iter_mut().for_each(|r| r.set("blockOwnerDeletion", false));
            let patch = json!({"metadata": {"ownerReferences": references}});
            actions.patch_exact(object, patch);
            revision = None;
        }
        "Foreground"
    } else if has_finalizer(&tree, ORPHAN) {
        "Orphan"
    } else if has_finalizer(&tree, FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    actions.push(Action::Delete {
        key: Key::of(object),
        uid: object.uid().into(),
        revision,
        grace_secs: None,
        propagation,
    });
}

/// Removes the owner references to `uids`.
fn drop_references(object: &Object, uids: &[&str], actions: &mut Actions) {
    let tree = object.tree();
    let mut references = tree.list("metadata.ownerReferences").to_vec();
    references.retain(|reference| !uids.contains(&reference.str("uid")));
    actions.patch_exact(object, json!({"metadata": {"ownerReferences": references}}));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, reconcile};
    use api::kinds::{CONFIG_MAP, NODE, POD, SECRET};

    fn object(kind: &str, name: &str, owners: &[(&str, &str, bool)]) -> Value {
        let reference = |(kind, name, block): &(&str, &str, bool)| json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": name, "blockOwnerDeletion": block});
        let mut tree = json!({
            "apiVersion": "v1", "kind": kind,
            "metadata": {"name": name, "uid": name, "resourceVersion": "5", "ownerReferences": owners.iter().map(reference).collect::<Vec<_>>()},
        });
        if kind != "Node" {
            tree.set("metadata.namespace", "d");
        }
        tree
    }

    fn deleting(mut tree: Value, finalizer: &str) -> Value {
        tree.set("metadata.deletionTimestamp", "2024-01-01T00:00:00Z");
        tree.set("metadata.finalizers", json!([finalizer]));
        tree
    }

    #[test]
    fn decisions() {
        let owned = |owners: &[(&str, &str, bool)]| object("Pod", "p", owners);
        let secret = |name: &str| object("Secret", name, &[]);
        let cases: &[(&str, Vec<Value>, &str)] = &[
            ("no owners", vec![owned(&[])], ""),
            ("owner there", vec![owned(&[("Secret", "a", true)]), secret("a")], ""),
            (
                "owner gone",
                vec![owned(&[("Secret", "a", true)])],
                "expect gone Secret d/a\ndelete Pod d/p Background\n",
            ),
            (
                "owner's name taken by another",
                vec![owned(&[("Secret", "a", true)]), {
                    let mut other = secret("a");
                    other.set("metadata.uid", "new");
                    other
                }],
                "expect gone Secret d/a\ndelete Pod d/p Background\n",
            ),
            (
                "one of two gone",
                vec![owned(&[("Secret", "a", false), ("Secret", "b", false)]), secret("b")],
                "expect gone Secret d/a\npatch Pod d/p {\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"blockOwnerDeletion\":false,\"kind\":\"Secret\",\"name\":\"b\",\"uid\":\"b\"}]}}\n",
            ),
            ("an owner of an unknown kind keeps", vec![owned(&[("Gizmo", "a", true)])], ""),
            (
                "a cluster-scoped owner",
                vec![owned(&[("Node", "n", false)])],
                "expect gone Node n\ndelete Pod d/p Background\n",
            ),
            (
                "owner in foreground deletion",
                vec![owned(&[("Secret", "a", true)]), deleting(secret("a"), FOREGROUND)],
                "delete Pod d/p Background\n",
            ),
            (
                "its dependents go in foreground too",
                vec![
                    owned(&[("Secret", "a", true)]),
                    deleting(secret("a"), FOREGROUND),
                    object("ConfigMap", "c", &[("Pod", "p", true)]),
                ],
                "delete Pod d/p Foreground\n",
            ),
            (
                "in background deletion with a finalizer, the owner still counts",
                vec![owned(&[("Secret", "a", true)]), deleting(secret("a"), "other")],
                "",
            ),
            (
                "foreground waits for blocking dependents",
                vec![
                    deleting(owned(&[]), FOREGROUND),
                    object("Secret", "s", &[("Pod", "p", true)]),
                ],
                "",
            ),
            (
                "and not for others",
                vec![
                    deleting(owned(&[]), FOREGROUND),
                    object("Secret", "s", &[("Pod", "p", false)]),
                ],
                "patch Pod d/p {\"metadata\":{\"finalizers\":[]}}\n",
            ),
            (
                "orphans first",
                vec![deleting(owned(&[]), ORPHAN), object("Secret", "s", &[("Pod", "p", false)])],
                "patch Secret d/s {\"metadata\":{\"ownerReferences\":[]}}\npatch Pod d/p {\"metadata\":{\"finalizers\":[]}}\n",
            ),
        ];
        for (name, trees, want) in cases {
            let text = reconcile::<GarbageCollector>(trees.clone(), (&POD, "d", "p"), 60);
            assert_eq!(&text, want, "{name}");
        }
    }

    #[test]
    fn chains_come_apart() {
        let chain = || {
            [
                object("ConfigMap", "a", &[]),
                object("Secret", "b", &[("ConfigMap", "a", true)]),
                object("Pod", "c", &[("Secret", "b", true)]),
            ]
        };
        let names = [NAMES];
        const NAMES: &str = "generic-garbage-collector";
        for (propagation, left) in [("Background", 0), ("Foreground", 0), ("Orphan", 2)] {
            let mut world = World::new(&names, chain());
            world.settle();
            world.delete(&CONFIG_MAP, "d", "a", propagation);
            world.converge();
            assert_eq!(world.fixture.objects.len(), left, "{propagation}");
            world.assert_fixpoint();
        }
        // A node's pods in any namespace go with it.
        let mut world = World::new(
            &names,
            [object("Node", "n", &[]), object("Pod", "m", &[("Node", "n", false)])],
        );
        world.delete(&NODE, "", "n", "Background");
        world.converge();
        assert!(world.fixture.objects.is_empty());
        // Foreground in a circle comes apart, too.
        let mut world = World::new(
            &names,
            [
                object("ConfigMap", "a", &[("Secret", "b", true)]),
                object("Secret", "b", &[("ConfigMap", "a", true)]),
            ],
        );
        world.delete(&CONFIG_MAP, "d", "a", "Foreground");
        world.converge();
        assert!(world.names(&SECRET).is_empty() && world.fixture.objects.is_empty());
    }
}
