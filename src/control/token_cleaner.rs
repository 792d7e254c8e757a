//! What joining leaves behind: bootstrap tokens go when they expire, passwords of nodes when there is no such Node.
//!
//! Source: kube-controller-manager's tokencleaner, and k3s's pkg/nodepassword.

use std::time::Duration;

use api::kinds::secret::{BOOTSTRAP_TOKEN, NODE_PASSWORD_SUFFIX, text};
use api::kinds::{NODE, SECRET};
use api::{Actions, Controller, Key, Lens, Next, Object, View, Wakes, Watch};

use crate::support::created;

const NAMESPACE: &str = "kube-system";
/// A node has its password before it has its Node; k3s's patience.
const ORPHAN: Duration = Duration::from_secs(600);

pub(crate) struct Cleaner;

impl Controller for Cleaner {
    const NAME: &'static str = "token-cleaner";
    const WATCHES: &'static [Watch] =
        &[Watch::new(&SECRET, Wakes::With(itself)), Watch::new(&NODE, Wakes::With(password_of))];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(secret) = view.at(key).filter(|secret| !secret.deleting()) else {
            return Next::Done;
        };
        let tree = secret.tree();
        let left = match key.name.strip_suffix(NODE_PASSWORD_SUFFIX) {
            Some(node) if view.get(&NODE, "", node).is_some() => return Next::Done,
            Some(_) => ORPHAN.saturating_sub(view.now.age(created(&tree))),
            None if tree.str("type") != BOOTSTRAP_TOKEN => return Next::Done,
            None => match api::time::parse(&text(&tree, "expiration")) {
                Some(end) => end.since(view.now.wall),
                // It never ends, or says so in words that upstream leaves alone, too.
                None => return Next::Done,
            },
        };
        if !left.is_zero() {
            return Next::After(left);
        }
        actions.delete(&secret);
        Next::Done
    }
}

fn itself(_: &View<'_>, secret: &Object) -> Vec<Key> {
    let is_ours = secret.namespace() == NAMESPACE
        && (secret.name().ends_with(NODE_PASSWORD_SUFFIX)
            || secret.name().starts_with("bootstrap-token-"));
    Vec::from_iter(is_ours.then(|| Key::of(secret)))
}

fn password_of(_: &View<'_>, node: &Object) -> Vec<Key> {
    vec![Key::new(&SECRET, NAMESPACE, format!("{}{NODE_PASSWORD_SUFFIX}", node.name()))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, reconcile};
    use api::{Value, json};

    fn secret(name: &str, kind: &str, expiration: &str) -> Value {
        // 2024-01-01T01:00:00Z
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind, "data": {"expiration": expiration},
            "metadata": {"namespace": NAMESPACE, "name": name, "uid": "u", "creationTimestamp": "2024-01-01T00:00:00Z"},
        })
    }

    #[test]
    fn tokens_go_when_they_expire() {
        const AT_ONE: &str = "MjAyNC0wMS0wMVQwMTowMDowMFo=";
        const NAME: &str = "bootstrap-token-abcdef";
        for (kind, expiration, secs, wanted) in [
            (BOOTSTRAP_TOKEN, AT_ONE, 3599, "after 1s\n"),
            (
                BOOTSTRAP_TOKEN,
                AT_ONE,
                3600,
                "delete Secret kube-system/bootstrap-token-abcdef Background\n",
            ),
            (BOOTSTRAP_TOKEN, "", 1 << 30, ""),
            (BOOTSTRAP_TOKEN, "eA==", 3600, ""),
            ("Opaque", AT_ONE, 3600, ""),
        ] {
            let found = reconcile::<Cleaner>(
                [secret(NAME, kind, expiration)],
                (&SECRET, NAMESPACE, NAME),
                secs,
            );
            assert_eq!(found, wanted, "{kind} {expiration} {secs}");
        }
    }

    #[test]
    fn passwords_go_with_their_nodes() {
        let name = format!("n1{NODE_PASSWORD_SUFFIX}");
        let at = |secs| {
            let trees = [secret(&name, "Opaque", "")];
            reconcile::<Cleaner>(trees, (&SECRET, NAMESPACE, &name), secs)
        };
        assert_eq!(at(599), "after 1s\n");
        assert_eq!(at(600), "delete Secret kube-system/n1.node-password.k3s Background\n");
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
        let mut world = World::new(&["token-cleaner"], [secret(&name, "Opaque", ""), node]);
        world.advance(3600);
        assert_eq!(world.names(&SECRET), [name.as_str()]);
        world.delete(&NODE, "", "n1", "Background");
        world.settle();
        assert!(world.names(&SECRET).is_empty());
    }
}
