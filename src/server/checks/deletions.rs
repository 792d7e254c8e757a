//! What a controller deletes: one object that may not go keeps no others.

use std::time::Duration;

use api::kinds::*;
use api::{Actions, Controller, Key, Next, Registered, View, Wakes, Watch, json};
use client::{Driver, Informers};

use super::start;
use crate::User;

struct Cleaner;

impl Controller for Cleaner {
    const NAME: &'static str = "cleaner";
    const WATCHES: &'static [Watch] = &[Watch::new(&CONFIG_MAP, Wakes::Itself)];

    fn reconcile(view: &View<'_>, _: &Key, actions: &mut Actions) -> Next {
        for object in view.list(&CONFIG_MAP, Some("default")) {
            actions.delete(&object);
        }
        Next::Done
    }
}

static CLEANER: &[Registered] = &[Registered::of::<Cleaner>()];

#[test]
fn one_object_that_may_not_be_deleted_keeps_no_others() {
    rt::block_on(async {
        let (server, admin) = start().await;
        let rules = json!([
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete"], "resourceNames": ["b", "c"]},
        ]);
        let role = json!({"metadata": {"name": "cleaner"}, "rules": rules});
        admin.create(&CLUSTER_ROLE, role).await.unwrap();
        let binding = json!({
            "metadata": {"name": "cleaner"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cleaner"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "cleaner"}],
        });
        admin.create(&CLUSTER_ROLE_BINDING, binding).await.unwrap();
        for name in ["a", "b", "c"] {
            let map = json!({"metadata": {"name": name, "namespace": "default"}});
            admin.create(&CONFIG_MAP, map).await.unwrap();
        }
        let informers = Informers::new(admin.clone());
        let cleaner = server.client_as(User::new("cleaner", &[]));
        let _driver = Driver::start(CLEANER, &informers, |_| cleaner.clone());
        let gone = async {
            for name in ["b", "c"] {
                while admin.get_optional(&CONFIG_MAP, "default", name).await.unwrap().is_some() {
                    rt::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        assert!(rt::timeout(Duration::from_secs(20), gone).await.is_ok(), "they are kept");
        assert!(admin.get_optional(&CONFIG_MAP, "default", "a").await.unwrap().is_some());
    });
}
