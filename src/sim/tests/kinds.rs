//! Controllers over everything follow the kinds that are defined while they run.

use std::sync::Arc;
use std::time::Duration;

use api::custom::Schema;
use api::definition::Version;
use api::kinds::{CONFIG_MAP, NAMESPACE, SERVICE_ACCOUNT};
use api::{Definition, Kind, Scope, json};
use client::{DeleteOptions, Driver, Informers};
use server::{Config, Server, User};

fn definition() -> Definition {
    Definition {
        kind: Kind::intern("example.com", "Widget", "widgets", Scope::Namespaced).unwrap(),
        singular: "widget".into(),
        list_kind: "WidgetList".into(),
        short: Vec::new(),
        categories: Vec::new(),
        versions: vec![Version {
            name: "v1".into(),
            served: true,
            stored: true,
            schema: Schema::none(),
            columns: Vec::new(),
            status: false,
            scale: None,
            selectable: Vec::new(),
            warning: None,
        }],
        conversion: None,
        waiting: false,
        terminating: false,
        stamp: "".into(),
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = async {
        while !holds().await {
            rt::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(rt::timeout(Duration::from_secs(30), waited).await.is_ok(), "{what}");
}

#[test]
fn what_is_defined_at_run_time_is_collected_and_goes_with_its_namespace() {
    rt::block_on(async {
        let disk = store::Disk::default();
        let store = store::Store::open_memory(&disk, store::Limits::default());
        let server = Server::start(Config::default(), store.await.unwrap()).await.unwrap();
        let admin = server.client_as(User::admin());
        let informers = Informers::following(admin.clone(), Arc::clone(server.kinds()));
        let _driver = Driver::start(control::CONTROLLERS, &informers, |name| {
            server.client_as(User::controller(name))
        });
        for namespace in ["a", "b"] {
            let tree = json!({"metadata": {"name": namespace}});
            admin.create(&NAMESPACE, tree).await.unwrap();
            until("the account is there", async || {
                admin.get(&SERVICE_ACCOUNT, namespace, "default").await.is_ok()
            })
            .await;
        }
        let widget = definition().kind;
        server.kinds().change(|kinds| kinds.with(definition())).unwrap();
        let make = async |namespace: &str, name: &str, owner: Option<api::Object>| {
            let mut tree =
                json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"x": 1}});
            if let Some(owner) = owner {
                tree["metadata"]["ownerReferences"] = json!([{
                    "apiVersion": owner.api_version(), "kind": owner.kind().name,
                    "name": owner.name(), "uid": owner.uid(),
                }]);
            }
            admin.create(widget, tree).await.unwrap()
        };
        // Kinds in code own it and are owned by it.
        let map = json!({"metadata": {"namespace": "a", "name": "m"}});
        let map = admin.create(&CONFIG_MAP, map).await.unwrap();
        let owned = make("a", "owned", Some(map)).await;
        assert_eq!(owned.api_version(), "example.com/v1");
        let below = json!({"metadata": {"namespace": "a", "name": "below", "ownerReferences": [{
            "apiVersion": owned.api_version(), "kind": "Widget", "name": "owned", "uid": owned.uid()}]}});
        admin.create(&CONFIG_MAP, below).await.unwrap();
        make("a", "kept", None).await;
        admin.delete(&CONFIG_MAP, "a", "m", DeleteOptions::default()).await.unwrap();
        let is_gone = async |kind: &'static Kind, namespace: &str, name: &str| {
            admin.get_optional(kind, namespace, name).await.unwrap().is_none()
        };
        until("the owned one goes", async || is_gone(widget, "a", "owned").await).await;
        until("and what it owns", async || is_gone(&CONFIG_MAP, "a", "below").await).await;
        assert!(!is_gone(widget, "a", "kept").await);

        make("b", "content", None).await;
        admin.delete(&NAMESPACE, "", "b", DeleteOptions::default()).await.unwrap();
        until("the namespace goes", async || is_gone(&NAMESPACE, "", "b").await).await;
        // What it held went before it: nothing is left under its keys.
        let left = admin.list(widget, "", client::ListOptions::default()).await.unwrap();
        assert_eq!(left.items.len(), 1);

        // Without the kind, namespaces end all the same.
        server.kinds().change(|kinds| Ok(kinds.without(widget))).unwrap();
        admin.delete(&NAMESPACE, "", "a", DeleteOptions::default()).await.unwrap();
        until("nobody waits for what is not served", async || is_gone(&NAMESPACE, "", "a").await)
            .await;
    });
}
