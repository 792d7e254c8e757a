//! What every namespace gets by itself: the `default` service account and the root CA. And token
//! secrets go when their service account does.

use api::kinds::{CONFIG_MAP, NAMESPACE, SECRET, SERVICE_ACCOUNT};
use api::{Actions, Controller, Expect, Key, Kind, Lens, LensMut, Next, Object, Value, View};
use api::{Wakes, Watch, json};

const ROOT_CA: &str = "kube-root-ca.crt";
/// The server writes the CA into this namespace's copy at every start.
const SOURCE_NAMESPACE: &str = "kube-system";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
const TOKEN_SECRET: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Makes `default` in each namespace.
pub(crate) struct DefaultAccounts;

impl Controller for DefaultAccounts {
    const NAME: &'static str = "service-account-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&NAMESPACE, Wakes::Itself),
        Watch::new(&SERVICE_ACCOUNT, Wakes::With(|_, o| namespace_if_named(o, "default"))),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let active = view.at(key).is_some_and(|namespace| !namespace.deleting());
        if active && view.get(&SERVICE_ACCOUNT, &key.name, "default").is_none() {
            actions.create(
                &SERVICE_ACCOUNT,
                json!({
                    "apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": {"namespace": key.name, "name": "default"},
                }),
            );
        }
        Next::Done
    }
}

/// Copies the root CA to each namespace.
pub(crate) struct RootCa;

impl Controller for RootCa {
    const NAME: &'static str = "root-ca-cert-publisher";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&NAMESPACE, Wakes::Itself),
        Watch::new(&CONFIG_MAP, Wakes::With(wakes_of_config_map)),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let active = view.at(key).is_some_and(|namespace| !namespace.deleting());
        let source = view.get(&CONFIG_MAP, SOURCE_NAMESPACE, ROOT_CA);
        let (Some(source), true) = (source, active && key.name != SOURCE_NAMESPACE) else {
            return Next::Done;
        };
        let data = json!({"ca.crt": source.tree().at("data").get("ca.crt")});
        match view.get(&CONFIG_MAP, &key.name, ROOT_CA) {
            None => actions.create(
                &CONFIG_MAP,
                json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {
                        "namespace": key.name, "name": ROOT_CA,
                        "annotations": {"kubernetes.io/description": DESCRIPTION},
                    },
                    "data": data,
                }),
            ),
            Some(copy) => {
                let mut tree = copy.tree();
                if tree.at("data") != &data {
                    tree.set("data", data);
                    actions.update(&CONFIG_MAP, tree);
                }
            }
        }
        Next::Done
    }
}

fn wakes_of_config_map(view: &View<'_>, object: &Object) -> Vec<Key> {
    if object.name() == ROOT_CA && object.namespace() == SOURCE_NAMESPACE {
        return view.list(&NAMESPACE, None).iter().map(Key::of).collect();
    }
    namespace_if_named(object, ROOT_CA)
}

fn namespace_if_named(object: &Object, name: &str) -> Vec<Key> {
    match object.name() == name {
        true => vec![Key::new(&NAMESPACE, "", object.namespace())],
        false => Vec::new(),
    }
}

/// Deletes the token secrets of service accounts that are gone.
pub(crate) struct TokenSecrets;

impl Controller for TokenSecrets {
    const NAME: &'static str = "tokens-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&SECRET, Wakes::Itself),
        Watch::new(&SERVICE_ACCOUNT, Wakes::With(tokens_of_account)),
    ];
    const READS: &'static [&'static Kind] = &[];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(secret) = view.at(key).filter(|secret| !secret.deleting()) else {
            return Next::Done;
        };
        let tree = secret.tree();
        let Some(name) = account_of(&tree) else { return Next::Done };
        let uid = tree.entry("metadata.annotations", ACCOUNT_UID).unwrap_or("");
        let account = view.get(&SERVICE_ACCOUNT, &key.namespace, name);
        if account.is_none_or(|account| !uid.is_empty() && account.uid() != uid) {
            let key = Key::new(&SERVICE_ACCOUNT, &*key.namespace, name);
            actions.expect(Expect::Gone { key, uid: uid.to_owned() });
            actions.delete(&secret);
        }
        Next::Done
    }
}

/// The service account that a token secret is for.
fn account_of(secret: &Value) -> Option<&str> {
    let name = secret.entry("metadata.annotations", ACCOUNT_NAME).filter(|name| !name.is_empty());
    name.filter(|_| secret.str("type") == TOKEN_SECRET)
}

fn tokens_of_account(view: &View<'_>, account: &Object) -> Vec<Key> {
    if view.at(&Key::of(account)).is_some_and(|present| present.uid() == account.uid()) {
        return Vec::new();
    }
    let mut secrets = view.list(&SECRET, Some(account.namespace()));
    secrets.retain(|secret| account_of(&secret.tree()) == Some(account.name()));
    secrets.iter().map(Key::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    fn namespace(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    }

    #[test]
    fn each_namespace_has_its_account_and_ca() {
        let ca = |pem: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": ROOT_CA}, "data": {"ca.crt": pem}});
        let mut world = World::new(
            &["service-account-controller", "root-ca-cert-publisher"],
            [namespace("kube-system"), namespace("a")],
        );
        world.settle();
        assert_eq!(world.names(&SERVICE_ACCOUNT), ["default", "default"]);
        assert!(world.names(&CONFIG_MAP).is_empty(), "no CA is known yet");
        world.create(ca("one"));
        world.create(namespace("b"));
        world.settle();
        let pem = |world: &World, ns: &str| {
            world.get(&CONFIG_MAP, ns, ROOT_CA).unwrap().entry("data", "ca.crt").unwrap().to_owned()
        };
        assert_eq!([pem(&world, "a"), pem(&world, "b")], ["one", "one"]);
        // A new CA reaches all; a spoilt or deleted copy is made good; so is a deleted account.
        world.edit(&CONFIG_MAP, "kube-system", ROOT_CA, |map| {
            map.set("data", json!({"ca.crt": "two"}));
        });
        world.settle();
        world.edit(&CONFIG_MAP, "a", ROOT_CA, |map| map.set("data", json!({"ca.crt": "evil"})));
        world.delete(&CONFIG_MAP, "b", ROOT_CA, "Background");
        world.delete(&SERVICE_ACCOUNT, "b", "default", "Background");
        world.settle();
        assert_eq!([pem(&world, "a"), pem(&world, "b")], ["two", "two"]);
        assert_eq!(world.names(&SERVICE_ACCOUNT).len(), 3);
        world.assert_fixpoint();
    }

    #[test]
    fn token_secrets_go_with_their_account() {
        let account = |uid: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "a", "name": "robot", "uid": uid}});
        let secret = |name: &str, kind: &str, annotations: Value| json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"namespace": "a", "name": name, "annotations": annotations}});
        let mut world = World::new(
            &["tokens-controller"],
            [
                account("1"),
                secret("token", TOKEN_SECRET, json!({ACCOUNT_NAME: "robot", ACCOUNT_UID: "1"})),
                secret("by-name", TOKEN_SECRET, json!({ACCOUNT_NAME: "robot"})),
                secret("former", TOKEN_SECRET, json!({ACCOUNT_NAME: "robot", ACCOUNT_UID: "0"})),
                secret("plain", "Opaque", json!({ACCOUNT_NAME: "nobody"})),
            ],
        );
        world.settle();
        assert_eq!(world.names(&SECRET), ["by-name", "plain", "token"]);
        world.delete(&SERVICE_ACCOUNT, "a", "robot", "Background");
        world.settle();
        assert_eq!(world.names(&SECRET), ["plain"]);
    }
}
