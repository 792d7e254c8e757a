//! Services: addresses, ports and families.

use api::kinds::SERVICE;
use api::{Lens, LensMut, Value, json};
use client::DeleteOptions;

use super::start;

fn service(name: &str, spec: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP"}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        tree.set(&format!("spec.{key}"), value.clone());
    }
    tree
}

#[test]
fn addresses_and_ports_are_held_by_one() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let create = |name: &str, spec: Value| client.create(&SERVICE, service(name, spec));
        let a = create("a", json!({})).await.unwrap().tree();
        assert!(a.str("spec.clusterIP").starts_with("10.43."), "{a}");
        assert_eq!(a.at("spec.clusterIPs"), &json!([a.str("spec.clusterIP")]));
        assert_eq!(a.at("spec.ipFamilies"), &json!(["IPv4"]));
        assert_eq!(a.str("spec.ipFamilyPolicy"), "SingleStack");

        let dns = json!({"clusterIP": "10.43.0.10"});
        create("dns", dns.clone()).await.unwrap();
        let taken = create("b", dns.clone()).await.unwrap_err();
        assert_eq!(
            taken.message(),
            "Service \"b\" is invalid: spec.clusterIPs: Invalid value: []string{\"10.43.0.10\"}: failed to allocate IP 10.43.0.10: provided IP is already allocated"
        );
        client.delete(&SERVICE, "default", "dns", DeleteOptions::default()).await.unwrap();
        create("b", dns).await.unwrap();
        let outside = create("c", json!({"clusterIP": "10.9.0.1"})).await.unwrap_err();
        assert!(outside.message().contains("The range of valid IPs is 10.43.0.0/16"), "{outside}");

        let headless = create("h", json!({"clusterIP": "None"})).await.unwrap().tree();
        assert_eq!(headless.at("spec.clusterIPs"), &json!(["None"]));
        let external = create("e", json!({"type": "ExternalName", "externalName": "a.b"}))
            .await
            .unwrap()
            .tree();
        assert!(!external.has("spec.clusterIP"));

        let port = json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30_001}]});
        create("n", port.clone()).await.unwrap();
        let taken = create("m", port).await.unwrap_err();
        assert!(taken.message().contains("provided port is already allocated"), "{taken}");
        let out =
            json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 80}]});
        let out = create("m", out).await.unwrap_err();
        assert!(out.message().contains("The range of valid ports is 30000-32767"), "{out}");
        // What a refused Service took on its way is free again: only "m"'s address was tried.
        let both = json!({"type": "NodePort", "ports": [
            {"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"},
        ]});
        let both = create("m", both).await.unwrap().tree();
        assert_eq!(both.int("spec.ports.0.nodePort"), both.int("spec.ports.1.nodePort"));
    });
}

#[test]
fn types_change_what_is_held() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let port = json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30_002}]});
        let made = client.create(&SERVICE, service("a", port.clone())).await.unwrap().tree();
        // A replacement that says nothing of what the cluster chose keeps it.
        let mut plain = service("a", json!({"type": "NodePort"}));
        plain.set("metadata.resourceVersion", made.str("metadata.resourceVersion"));
        let kept = client.update(&SERVICE, plain).await.unwrap().tree();
        assert_eq!(kept.str("spec.clusterIP"), made.str("spec.clusterIP"));
        assert_eq!(kept.int("spec.ports.0.nodePort"), Some(30_002));

        let mut inner = kept.clone();
        inner.set("spec.type", "ClusterIP");
        let inner = client.update(&SERVICE, inner).await.unwrap().tree();
        assert!(!inner.has("spec.ports.0.nodePort"), "{inner}");
        assert!(!inner.has("spec.externalTrafficPolicy"), "{inner}");
        client.create(&SERVICE, service("b", port)).await.unwrap();

        let mut external = inner.clone();
        external.set("spec.type", "ExternalName");
        external.set("spec.externalName", "a.b");
        let external = client.update(&SERVICE, external).await.unwrap().tree();
        assert!(!external.has("spec.clusterIP"), "{external}");
        let again = json!({"clusterIP": made.str("spec.clusterIP")});
        client.create(&SERVICE, service("c", again)).await.unwrap();
    });
}

/// What is held is written down: a restart knows it, claims come and go with their Service, and
/// the repair makes those of Services that came without and ends those that nobody holds.
#[test]
fn claims_are_in_the_store() {
    rt::block_on(async {
        let (server, client) = start().await;
        let store = &server.core().store;
        let claims = async || {
            let range = store.range(&store::Query::prefix("/k3rs/claims/")).await.unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let all =
                range.items.iter().map(|kv| (text(&kv.key)[13..].to_owned(), text(&kv.value)));
            all.filter(|(_, holder)| !holder.ends_with("/kubernetes")).collect::<Vec<_>>()
        };
        let holder = |name: &str| format!("/registry/services/specs/default/{name}");
        let held = |item: &str, name: &str| (item.to_owned(), holder(name));
        let spec = json!({"clusterIP": "10.43.0.20", "type": "NodePort", "ports": [
            {"name": "t", "port": 80, "protocol": "TCP", "nodePort": 30_500},
            {"name": "u", "port": 80, "protocol": "UDP", "nodePort": 30_500},
        ]});
        client.create(&SERVICE, service("a", spec)).await.unwrap();
        let both = vec![held("ip/10.43.0.20", "a"), held("port/30500", "a")];
        assert_eq!(claims().await, both);
        // A change of one of two ports that share a number leaves the claim to the other.
        let patch = json!({"spec": {"ports": [{"$patch": "replace"},
            {"name": "t", "port": 80, "protocol": "TCP", "nodePort": 30_500}]}});
        client
            .patch(&SERVICE, "default", "a", "", client::PatchType::Strategic, patch)
            .await
            .unwrap();
        assert_eq!(claims().await, both);
        let patch = json!({"spec": {"type": "ClusterIP"}});
        client.patch(&SERVICE, "default", "a", "", client::PatchType::Merge, patch).await.unwrap();
        assert_eq!(claims().await, both[..1]);

        // A Service that came without, and claims of one that went without.
        for key in ["ip/10.43.0.20", "ip/10.43.0.30", "port/30600"] {
            let key = format!("/k3rs/claims/{key}").into_bytes();
            let op = match key.ends_with(b"20") {
                true => store::Op::delete(key, store::Expect::Any),
                false => store::Op::create(key, holder("gone").into_bytes()),
            };
            store.write_one(op, store::Class::Durable).await.unwrap();
        }
        crate::allocate::claims::repair(store).await.unwrap();
        assert_eq!(claims().await, both[..1]);

        client.delete(&SERVICE, "default", "a", DeleteOptions::default()).await.unwrap();
        assert_eq!(claims().await, []);
    });
}

/// Many Services at once get different addresses from a range that is just large enough.
#[test]
fn a_race_gives_nothing_twice() {
    rt::block_on(async {
        let (server, client) = start().await;
        let tasks: Vec<_> = (0..40)
            .map(|idx| {
                let spec =
                    json!({"type": "NodePort", "clusterIP": format!("10.43.0.{}", 100 + idx / 2)});
                let (client, tree) = (client.clone(), service(&format!("s{idx}"), spec));
                rt::spawn(async move { client.create(&SERVICE, tree).await })
            })
            .collect();
        let mut n_made = 0;
        for task in tasks {
            match task.await {
                Ok(_) => n_made += 1,
                Err(status) => assert!(status.message().contains("already allocated"), "{status}"),
            }
        }
        assert_eq!(n_made, 20);
        let range = server.core().store.range(&store::Query::prefix("/k3rs/claims/port/")).await;
        assert_eq!(range.unwrap().items.len(), 20);
    });
}
