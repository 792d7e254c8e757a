//! Quotas: what is charged, in one step with the write, also when many write at once and somebody changes the quota.

use api::kinds::*;
use api::{Lens, LensMut, Status, Value, json};
use client::{Body, Client, DeleteOptions, PatchType, Request, Verb};

use super::start;

/// A quota that holds, as its controller would have left it.
async fn quota(client: &Client, name: &str, hard: Value, used: Value) {
    let tree = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"hard": hard}});
    let made = client.create(&RESOURCE_QUOTA, tree).await.unwrap();
    let mut tree = made.tree();
    tree.set("status", json!({"hard": hard, "used": used}));
    client.update_status(&RESOURCE_QUOTA, tree).await.unwrap();
}

async fn used(client: &Client, name: &str) -> String {
    let quota = client.get(&RESOURCE_QUOTA, "default", name).await.unwrap();
    quota.tree().at("status.used").to_string()
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}})
}

fn told(done: Result<impl Sized, Status>) -> String {
    done.map_or_else(|status| status.message().to_owned(), |_| String::new())
}

#[test]
fn parallel_writers_share_what_there_is() {
    rt::block_on(async {
        let (_server, client) = start().await;
        quota(&client, "q", json!({"configmaps": "20"}), json!({"configmaps": "0"})).await;
        let mut tasks = Vec::new();
        for n in 0..40 {
            let client = client.clone();
            tasks.push(rt::spawn(async move {
                client.create(&CONFIG_MAP, config_map(&format!("c-{n}"))).await
            }));
        }
        // Somebody else changes the quota meanwhile.
        for n in 0..10 {
            let patch = json!({"metadata": {"annotations": {"n": n.to_string()}}});
            // Whoever lost against the writers too often tries again.
            while let Err(status) = client
                .patch(&RESOURCE_QUOTA, "default", "q", "", PatchType::Merge, patch.clone())
                .await
            {
                assert!(status.is_conflict(), "{status}");
            }
        }
        let (mut made, mut refused) = (0, 0);
        for task in tasks {
            match task.await {
                Ok(_) => made += 1,
                Err(status) => {
                    refused += 1;
                    assert!(status.message().contains("exceeded quota: q"), "{status}");
                }
            }
        }
        assert_eq!((made, refused), (20, 20));
        assert_eq!(used(&client, "q").await, "{\"configmaps\":\"20\"}");
    });
}

#[test]
fn a_quota_that_is_deleted_beside_writes_stays_away() {
    rt::block_on(async {
        let (_server, client) = start().await;
        for round in 0..20 {
            quota(&client, "q", json!({"configmaps": "999"}), json!({"configmaps": "0"})).await;
            let tasks: Vec<_> = (0..6)
                .map(|n| {
                    let (client, name) = (client.clone(), format!("r{round}-{n}"));
                    rt::spawn(async move { client.create(&CONFIG_MAP, config_map(&name)).await })
                })
                .collect();
            let gone = client.delete(&RESOURCE_QUOTA, "default", "q", DeleteOptions::default());
            gone.await.unwrap();
            for task in tasks {
                task.await.unwrap();
            }
            let found = client.get_optional(&RESOURCE_QUOTA, "default", "q").await.unwrap();
            assert!(found.is_none(), "round {round}: a write brought it back");
        }
    });
}

/// Whoever changes an object learns nothing of a quota that goes meanwhile.
#[test]
fn a_quota_that_is_deleted_beside_updates_stops_none() {
    rt::block_on(async {
        let (_server, client) = start().await;
        for n in 0..6 {
            let tree = json!({"metadata": {"name": format!("s{n}"), "namespace": "default"}, "spec": {"ports": [{"port": 80}]}});
            client.create(&SERVICE, tree).await.unwrap();
        }
        for round in 0..20 {
            let name = "services.nodeports";
            quota(&client, "q", json!({name: "99"}), json!({name: "0"})).await;
            let kind = if round % 2 == 0 { "NodePort" } else { "ClusterIP" };
            let tasks: Vec<_> = (0..6)
                .map(|n| {
                    let (client, name) = (client.clone(), format!("s{n}"));
                    let patch = json!({"spec": {"type": kind}});
                    rt::spawn(async move {
                        client.patch(&SERVICE, "default", &name, "", PatchType::Merge, patch).await
                    })
                })
                .collect();
            let gone = client.delete(&RESOURCE_QUOTA, "default", "q", DeleteOptions::default());
            gone.await.unwrap();
            for task in tasks {
                task.await.unwrap();
            }
        }
    });
}

#[test]
fn what_is_not_written_is_not_charged() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let hard = json!({"count/configmaps": "5", "services": "5", "services.nodeports": "1", "resourcequotas": "1"});
        let none = json!({"count/configmaps": "0", "services": "0", "services.nodeports": "0", "resourcequotas": "1"});
        quota(&client, "q", hard, none).await;
        let counts = async || {
            let tree = client.get(&RESOURCE_QUOTA, "default", "q").await.unwrap().tree();
            let n = |name: &str| tree.entry("status.used", name).unwrap_or("?").to_owned();
            [n("count/configmaps"), n("services.nodeports")].join(" ")
        };
        client.create(&CONFIG_MAP, config_map("a")).await.unwrap();
        assert_eq!(counts().await, "1 0");
        assert!(told(client.create(&CONFIG_MAP, config_map("a")).await).contains("already exists"));
        let mut dry = Request::new(Verb::Create, &CONFIG_MAP, "default", "");
        dry.dry_run = true;
        dry.body = Body::Tree(config_map("b"));
        client.call(dry).await.unwrap();
        assert_eq!(counts().await, "1 0", "neither the one that was there nor the dry run");
        let service = json!({"metadata": {"name": "s", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}});
        client.create(&SERVICE, service).await.unwrap();
        assert_eq!(counts().await, "1 0");
        let retype = async |kind: &str| {
            let patch = json!({"spec": {"type": kind}});
            told(client.patch(&SERVICE, "default", "s", "", PatchType::Merge, patch).await)
        };
        assert_eq!(retype("NodePort").await, "");
        assert_eq!(counts().await, "1 1", "an update is charged the difference");
        let second = json!({"metadata": {"generateName": "t-", "namespace": "default"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let refused = told(client.create(&SERVICE, second).await);
        assert_eq!(
            refused.split_once(" is forbidden: ").unwrap_or_default().1,
            "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1"
        );
        let other = json!({"metadata": {"name": "other", "namespace": "default"}, "spec": {}});
        assert_eq!(
            told(client.create(&RESOURCE_QUOTA, other).await),
            "resourcequotas \"other\" is forbidden: exceeded quota: q, requested: resourcequotas=1, used: resourcequotas=1, limited: resourcequotas=1"
        );
    });
}
