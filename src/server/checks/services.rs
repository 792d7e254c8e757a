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

/// Creates, and the updates that follow, with what the Service has then: policy, families, addresses by family; or
/// the complaints. Upstream's alloc.go and its tests.
#[test]
fn families_are_upstreams() {
    const STEPS: &[(&str, &[&str])] = &[
        ("{}", &["SingleStack IPv4 4"]),
        (r#"{"ipFamilies":["IPv6"]}"#, &["SingleStack IPv6 6"]),
        (r#"{"ipFamilyPolicy":"PreferDualStack"}"#, &["PreferDualStack IPv4,IPv6 46"]),
        (
            r#"{"ipFamilyPolicy":"RequireDualStack","ipFamilies":["IPv6"]}"#,
            &["RequireDualStack IPv6,IPv4 64"],
        ),
        (
            r#"{"ipFamilyPolicy":"RequireDualStack","clusterIP":"fd43::77","clusterIPs":["fd43::77"]}"#,
            &["RequireDualStack IPv6,IPv4 64"],
        ),
        (r#"{"clusterIP":"fd43::78"}"#, &["SingleStack IPv6 6"]),
        (
            r#"{"ipFamilies":["IPv4","IPv6"]}"#,
            &[
                r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"#,
            ],
        ),
        (
            r#"{"clusterIP":"10.43.9.9","clusterIPs":["10.43.9.9","fd43::79"]}"#,
            &[
                r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"#,
            ],
        ),
        (
            r#"{"ipFamilyPolicy":"PreferDualStack","clusterIP":"10.43.9.9","clusterIPs":["10.43.9.9","10.43.9.10"]}"#,
            &[
                r#"spec.clusterIPs: Invalid value: []string{"10.43.9.9", "10.43.9.10"}: may specify no more than one IP for each IP family"#,
            ],
        ),
        (
            r#"{"ipFamilies":["IPv4","IPv4"],"ipFamilyPolicy":"Sometimes"}"#,
            &[
                r#"spec.ipFamilies[1]: Duplicate value: "IPv4"; spec.ipFamilyPolicy: Unsupported value: "Sometimes": supported values: "PreferDualStack", "RequireDualStack", "SingleStack""#,
            ],
        ),
        (
            r#"{"ipFamilies":["IPv6"],"clusterIP":"10.43.9.9"}"#,
            &[
                r#"spec.clusterIPs[0]: Invalid value: "10.43.9.9": expected an IPv6 value as indicated by `ipFamilies[0]`"#,
            ],
        ),
        (r#"{"clusterIP":"None"}"#, &["SingleStack IPv4 None"]),
        (
            r#"{"clusterIP":"None","ipFamilyPolicy":"PreferDualStack"}"#,
            &["PreferDualStack IPv4,IPv6 None"],
        ),
        (r#"{"clusterIP":"None","selector":null}"#, &["RequireDualStack IPv4,IPv6 None"]),
        (
            r#"{"clusterIP":"None","selector":null,"ipFamilies":["IPv6"],"ipFamilyPolicy":"SingleStack"}"#,
            &["SingleStack IPv6 None"],
        ),
        (r#"{"clusterIP":"fd43::ffff"}"#, &["SingleStack IPv6 6"]),
        // The second comes and goes.
        (
            "{}",
            &[
                "SingleStack IPv4 4",
                r#"+{"ipFamilyPolicy":"RequireDualStack"}"#,
                "RequireDualStack IPv4,IPv6 46",
                r#"+{"ipFamilyPolicy":"SingleStack"}"#,
                "SingleStack IPv4 4",
                r#"+{"ipFamilyPolicy":"PreferDualStack","ipFamilies":["IPv4","IPv6"]}"#,
                "PreferDualStack IPv4,IPv6 46",
                r#"+{"ipFamilies":["IPv4"]}"#,
                r#"spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be 'SingleStack' to release the secondary IP family"#,
                r#"+{"ipFamilies":["IPv6","IPv4"]}"#,
                "spec.clusterIPs[0]: Invalid value: \"4\": expected an IPv6 value as indicated by `ipFamilies[0]`; spec.clusterIPs[1]: Invalid value: \"6\": expected an IPv4 value as indicated by `ipFamilies[1]`",
                r#"+{"labels":{}}"#,
                "PreferDualStack IPv4,IPv6 46",
                r#"+{"type":"ExternalName","externalName":"a.b","clusterIP":null,"clusterIPs":null,"ipFamilies":null,"ipFamilyPolicy":null}"#,
                "  ",
            ],
        ),
        (
            r#"{"ipFamilies":["IPv6"]}"#,
            &[
                "SingleStack IPv6 6",
                r#"+{"ipFamilyPolicy":"PreferDualStack"}"#,
                "PreferDualStack IPv6,IPv4 64",
                r#"+{"ipFamilies":["IPv6"],"ipFamilyPolicy":"SingleStack"}"#,
                "SingleStack IPv6 6",
            ],
        ),
    ];
    rt::block_on(async {
        let mut config = super::config();
        config.service_cidrs = ["10.43.0.0/16", "fd43::/112"]
            .iter()
            .filter_map(|cidr| crate::Cidr::parse(cidr))
            .collect();
        let disk = store::Disk::default();
        let store = store::Store::open_memory(&disk, store::Limits::default()).await.unwrap();
        let server = crate::Server::start(config, store).await.unwrap();
        let client = server.client_as(crate::User::admin());
        for (idx, (spec, steps)) in STEPS.iter().enumerate() {
            let name = format!("s{idx}");
            let created =
                client.create(&SERVICE, service(&name, serde_json::from_str(spec).unwrap()));
            let (mut found, mut addresses) = (shown(created.await), Vec::new());
            for step in *steps {
                if let Ok(now) = client.get(&SERVICE, "default", &name).await {
                    let now = now.tree();
                    let list = now.list("spec.clusterIPs").iter().filter_map(Value::as_str);
                    addresses = list.map(str::to_owned).collect();
                }
                let Some(patch) = step.strip_prefix('+') else {
                    // Addresses that the cluster chose are not known here.
                    for address in addresses.drain(..).filter(|address| address != "None") {
                        let family = if address.contains(':') { "6" } else { "4" };
                        found = found.replace(&address, family);
                    }
                    assert_eq!(found, *step, "{spec} {steps:?}");
                    continue;
                };
                let patch = json!({"spec": serde_json::from_str::<Value>(patch).unwrap()});
                let merged =
                    client.patch(&SERVICE, "default", &name, "", client::PatchType::Merge, patch);
                found = shown(merged.await);
            }
        }
    });
}

fn shown(result: Result<api::Object, api::Status>) -> String {
    match result {
        Ok(service) => {
            let tree = service.tree();
            let list = |path: &str, with: &str| {
                let texts = tree.list(path).iter().filter_map(Value::as_str);
                texts.collect::<Vec<_>>().join(with)
            };
            let (families, addresses) = (list("spec.ipFamilies", ","), list("spec.clusterIPs", ""));
            format!("{} {families} {addresses}", tree.str("spec.ipFamilyPolicy"))
        }
        Err(status) => {
            let tree = status.to_tree();
            let causes = tree.list("details.causes").iter();
            let causes = causes.map(|c| format!("{}: {}", c.str("field"), c.str("message")));
            causes.collect::<Vec<_>>().join("; ")
        }
    }
}
