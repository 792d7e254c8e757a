//! How far a write may fill the datastore: everybody's part, all of it, or as much as it takes.

use api::{Kind, Object, kinds};
use store::Room;

use crate::user::Caller;

/// Namespaces whose objects keep the cluster going.
const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// By how much an object that is being deleted may grow beyond everybody's room: its finalizers go one
/// by one, and each time a field manager may be noted.
const DELETING_GROWTH_MAX_BYTES: usize = 4 << 10;

/// The room for a new version of an object; `old` is what it replaces.
pub(crate) fn of(caller: &Caller, object: &Object, old: Option<&Object>) -> Room {
    let growth = |old: &Object| object.bytes().len().saturating_sub(old.bytes().len());
    match old {
        Some(old) if object.deleting() && growth(old) <= DELETING_GROWTH_MAX_BYTES => {
            // Finalizers are only taken away now, so this cannot go on for ever.
            match n_finalizers(object) < n_finalizers(old) {
                true => Room::Unbounded,
                false => Room::Whole,
            }
        }
        _ if SYSTEM_NAMESPACES.contains(&object.namespace()) => Room::Whole,
        _ if *object.kind() == kinds::NODE => Room::Whole,
        _ if SYSTEM_NAMESPACES.contains(&object.name()) && *object.kind() == kinds::NAMESPACE => {
            Room::Whole
        }
        _ if caller.user.node_name().is_some() => Room::Whole,
        // Statuses, endpoints, finalizers: what there is is looked after, though nothing is added.
        Some(_) if is_component(caller) => Room::Whole,
        // Without these no pod of a new namespace starts, and each namespace has each once.
        None if is_component(caller) && is_part_of_every_namespace(object) => Room::Whole,
        _ => Room::Common,
    }
}

fn n_finalizers(object: &Object) -> usize {
    use api::Lens;
    object.tree().list("metadata.finalizers").len()
}

/// What controllers make in each namespace.
fn is_part_of_every_namespace(object: &Object) -> bool {
    matches!(
        (object.kind().name, object.name()),
        ("ConfigMap", "kube-root-ca.crt") | ("ServiceAccount", "default")
    )
}

/// Whether a part of the cluster asks: the server itself, the scheduler, a controller.
fn is_component(caller: &Caller) -> bool {
    let name = caller.user.name.as_str();
    name == "system:apiserver"
        || name.starts_with("system:kube-")
        || name.starts_with("system:serviceaccount:kube-system:")
}

/// The namespace that a key belongs to, for its share; system namespaces have no bound of their own.
pub fn owner(key: &[u8]) -> Option<&[u8]> {
    let key = key.strip_prefix(b"/registry/")?;
    let slash = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'/');
    let namespaced = &key[..slash(key)?];
    let at = slash(namespaced)?;
    let (prefix, namespace) = (&namespaced[..at], &namespaced[at + 1..]);
    let is_prefix = |kind: &&Kind| kind.namespaced() && kind.storage_prefix().as_bytes() == prefix;
    let system = SYSTEM_NAMESPACES.iter().any(|name| name.as_bytes() == namespace);
    // Of what is defined at run time, a group and a plural go before the namespace; groups have dots.
    let defined = prefix.iter().filter(|byte| **byte == b'/').count() == 1
        && prefix.split(|byte| *byte == b'/').next().is_some_and(|group| group.contains(&b'.'));
    (!system && (defined || kinds::KINDS.iter().any(is_prefix))).then_some(namespace)
}

#[cfg(test)]
mod tests {
    use api::{Value, json};

    use super::*;
    use crate::user::User;

    #[test]
    fn keys_belong_to_their_namespaces() {
        for (key, want) in [
            ("/registry/configmaps/a/b", Some("a")),
            ("/registry/services/specs/a/b", Some("a")),
            ("/registry/configmaps/kube-system/b", None),
            ("/registry/example.com/gadgets/a/b", Some("a")),
            ("/registry/example.com/gadgets/kube-system/b", None),
            ("/registry/example.com/gadgets/b", None),
            ("/registry/namespaces/a", None),
            ("/registry/minions/node1", None),
            ("/registry/configmaps", None),
            ("/bootstrap/0123", None),
            ("", None),
        ] {
            let found = owner(key.as_bytes()).map(|owner| std::str::from_utf8(owner).unwrap());
            assert_eq!(found, want, "{key}");
        }
    }

    #[test]
    fn the_cluster_finds_room_where_users_find_none() {
        let object = |kind: &'static Kind, namespace: &str, more: Value| {
            let mut tree = json!({"apiVersion": kind.api_version(), "kind": kind.name, "metadata": {"name": "x"}});
            if !namespace.is_empty() {
                tree["metadata"]["namespace"] = namespace.into();
            }
            if let (Value::Object(metadata), Value::Object(more)) = (&mut tree["metadata"], more) {
                metadata.extend(more);
            }
            Object::from_tree(kind, &tree).unwrap()
        };
        let plain = |namespace: &str| object(&kinds::CONFIG_MAP, namespace, json!({}));
        let account = || object(&kinds::SERVICE_ACCOUNT, "a", json!({"name": "default"}));
        let deleting = |n: usize, note: usize| {
            let finalizers: Vec<String> = (0..n).map(|n| format!("a/{n}")).collect();
            let note = "x".repeat(note);
            let at = "2024-01-01T00:00:00Z";
            object(
                &kinds::CONFIG_MAP,
                "a",
                json!({"deletionTimestamp": at, "finalizers": finalizers, "annotations": {"n": note}}),
            )
        };
        let by = |user: User| Caller::new(user, "");
        let user = || by(User::new("someone", &[]));
        let admin = || by(User::admin());
        let controller = || by(User::controller("deployment-controller"));
        for (what, caller, new, old, want) in [
            ("a user", user(), plain("a"), None, Room::Common),
            ("the administrator", admin(), plain("a"), None, Room::Common),
            ("a change", user(), plain("a"), Some(plain("a")), Room::Common),
            ("the system", admin(), plain("kube-system"), None, Room::Whole),
            ("a node", user(), object(&kinds::NODE, "", json!({})), None, Room::Whole),
            ("by a node", by(User::node("n")), plain("a"), None, Room::Whole),
            ("a controller adds", controller(), plain("a"), None, Room::Common),
            ("a new namespace", controller(), account(), None, Room::Whole),
            ("a user's namespace", user(), account(), None, Room::Common),
            ("a controller looks after", controller(), plain("a"), Some(plain("a")), Room::Whole),
            ("a finalizer goes", user(), deleting(1, 0), Some(deleting(2, 0)), Room::Unbounded),
            ("something else goes", user(), deleting(2, 100), Some(deleting(2, 0)), Room::Whole),
            ("a pretext", user(), deleting(1, 9000), Some(deleting(2, 0)), Room::Common),
        ] {
            assert_eq!(of(&caller, &new, old.as_ref()), want, "{what}");
        }
    }
}
