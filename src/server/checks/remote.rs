//! A client over HTTP against the server: what it gets is what a client in the process gets.

use api::kinds::{ADDON, CONFIG_MAP, LEASE, NODE, POD, SELF_SUBJECT_REVIEW};
use api::{Lens, Object, Status, json};
use client::access::{Access, Source};
use client::{Answer, Client, DeleteOptions, ListOptions, PatchType, Verb, WatchEvent};

use super::{request, start};
use crate::Server;

/// Serves on a socket; the client comes as `token`.
async fn connect(server: &Server, token: &str) -> Client {
    let listener = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let limits = http::server::Limits::default();
    rt::spawn(http::server::serve(listener, None, server.service(None), limits)).detach();
    let access = Access {
        server: format!("http://127.0.0.1:{port}"),
        token: Source::Inline(token.as_bytes().to_vec()),
        ..Access::default()
    };
    Client::remote(access, "test").unwrap()
}

/// The same but for who manages which field, which a remote client is not told.
#[track_caller]
fn assert_same(far: &Object, near: &Object) {
    let seen = |object: &Object| (object.revision(), object.tree());
    assert_eq!(seen(far), seen(near));
    assert!(!far.whole_tree().has("metadata.managedFields"));
}

fn config_map(name: &str) -> api::Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "data": {"a": "b", "n": name}})
}

#[test]
fn both_clients_see_the_same() {
    rt::block_on(async {
        let (server, local) = start().await;
        let remote = connect(&server, "admin").await;
        let made = remote.create(&CONFIG_MAP, config_map("c")).await.unwrap();
        assert_same(&made, &local.get(&CONFIG_MAP, "default", "c").await.unwrap());
        let patch = json!({"data": {"x": "y"}});
        for patch_type in [PatchType::Merge, PatchType::Strategic] {
            let patched =
                remote.patch(&CONFIG_MAP, "default", "c", "", patch_type, patch.clone()).await;
            assert_eq!(patched.unwrap().tree().str("data.x"), "y");
        }
        let now = remote.get(&CONFIG_MAP, "default", "c").await.unwrap();
        let mut tree = now.tree();
        api::LensMut::set(&mut tree, "data.a", "c");
        remote.update(&CONFIG_MAP, tree.clone()).await.unwrap();
        // Who says nothing of managed fields leaves them, and has its own recorded.
        let managed = local.get(&CONFIG_MAP, "default", "c").await.unwrap().whole_tree();
        let managed = managed.list("metadata.managedFields");
        assert_eq!((managed.len(), managed[0].str("manager")), (1, "test"));
        // What goes wrong reads the same, too.
        let uid = DeleteOptions { uid: Some("x".into()), ..DeleteOptions::default() };
        let mut said = Vec::new();
        for client in [&remote, &local] {
            let refused: [Status; 5] = [
                client.update(&CONFIG_MAP, tree.clone()).await.unwrap_err(),
                client.create(&CONFIG_MAP, config_map("c")).await.unwrap_err(),
                client.create(&CONFIG_MAP, config_map("C")).await.unwrap_err(),
                client.get(&CONFIG_MAP, "default", "none").await.unwrap_err(),
                client.delete(&CONFIG_MAP, "default", "c", uid.clone()).await.unwrap_err(),
            ];
            said.push(refused.map(|status| (format!("{status:?}"), status.to_tree())));
        }
        assert_eq!(said[0], said[1]);
        remote.delete(&CONFIG_MAP, "default", "c", DeleteOptions::default()).await.unwrap();
        assert!(remote.get_optional(&CONFIG_MAP, "default", "c").await.unwrap().is_none());
        let review = request(Verb::Create, &SELF_SUBJECT_REVIEW, "", json!({}));
        let Ok(Answer::Tree(tree)) = remote.call(review).await else { panic!("no review") };
        assert_eq!(tree.str("status.userInfo.username"), "system:admin");
        let addon =
            json!({"metadata": {"name": "a", "namespace": "default"}, "spec": {"source": "s"}});
        let made = remote.create(&ADDON, addon).await.unwrap();
        assert_eq!(made, local.get(&ADDON, "default", "a").await.unwrap());
        let mut dry = request(Verb::Create, &LEASE, "l", json!({"metadata": {"name": "l"}}));
        dry.dry_run = true;
        assert!(matches!(remote.call(dry).await, Ok(Answer::Tree(_))));
        remote.create(&NODE, json!({"metadata": {"name": "n"}})).await.unwrap();
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let node = remote.patch(&NODE, "", "n", "status", PatchType::Merge, status).await.unwrap();
        assert_eq!(node.tree().list("status.conditions").len(), 1);
        let stranger = connect(&server, "nobody").await;
        assert_eq!(stranger.get(&NODE, "", "n").await.unwrap_err().code(), 401);
    });
}

#[test]
fn lists_come_in_pages_and_watches_from_any_revision() {
    rt::block_on(async {
        let (server, local) = start().await;
        let remote = connect(&server, "admin").await;
        for n in 0..1_203 {
            local.create(&CONFIG_MAP, config_map(&format!("c{n:04}"))).await.unwrap();
        }
        let all = |client: &Client| {
            let client = client.clone();
            async move { client.list(&CONFIG_MAP, "default", ListOptions::default()).await.unwrap() }
        };
        let (far, near) = (all(&remote).await, all(&local).await);
        assert_eq!((far.items.len(), far.revision), (near.items.len(), near.revision));
        far.items.iter().zip(&near.items).for_each(|(far, near)| assert_same(far, near));
        let page = ListOptions { limit: 7, ..ListOptions::default() };
        let page = remote.list(&CONFIG_MAP, "default", page).await.unwrap();
        assert_eq!((page.items.len(), page.continue_token.is_empty()), (7, false));

        let from = ListOptions {
            resource_version: far.revision.to_string(),
            field_selector: "metadata.name=w".into(),
            ..ListOptions::default()
        };
        let mut watch = remote.watch(&CONFIG_MAP, "default", from.clone()).await.unwrap();
        local.create(&CONFIG_MAP, config_map("w")).await.unwrap();
        local.create(&CONFIG_MAP, config_map("other")).await.unwrap();
        let large = json!({"data": {"large": "x".repeat(900_000)}});
        local.patch(&CONFIG_MAP, "default", "w", "", PatchType::Merge, large).await.unwrap();
        let last = local.get(&CONFIG_MAP, "default", "w").await.unwrap();
        local.delete(&CONFIG_MAP, "default", "w", DeleteOptions::default()).await.unwrap();
        let mut seen: Vec<(&str, Object)> = Vec::new();
        while seen.len() < 3 {
            match watch.next().await.unwrap().unwrap() {
                WatchEvent::Added(object) => seen.push(("added", object)),
                WatchEvent::Modified(object) => seen.push(("modified", object)),
                WatchEvent::Deleted(object) => seen.push(("deleted", object)),
                WatchEvent::Bookmark { .. } => {}
            }
        }
        let names: Vec<&str> = seen.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["added", "modified", "deleted"]);
        assert_same(&seen[1].1, &last);
        assert!(seen[2].1.revision() > last.revision() && seen[2].1.bytes() == seen[1].1.bytes());
        let first = ListOptions { resource_version: seen[0].1.revision().to_string(), ..from };
        let mut again = remote.watch(&CONFIG_MAP, "default", first).await.unwrap();
        let Some(Ok(WatchEvent::Modified(object))) = again.next().await else { panic!("no event") };
        assert_same(&object, &last);
        let short = ListOptions { timeout_secs: Some(1), ..ListOptions::default() };
        let mut ends = remote.watch(&POD, "", short).await.unwrap();
        assert!(ends.next().await.is_none(), "it ends as it was asked to");
    });
}
