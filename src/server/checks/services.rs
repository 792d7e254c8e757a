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
            "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.43.0.10\"]: failed to allocate IP 10.43.0.10: provided IP is already allocated"
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
