//! Objects in, decisions out.

use api::{Object, Value, json, kinds};

use crate::traefik::{INGRESS_ROUTE, MIDDLEWARE, SERVERS_TRANSPORT, TLS_STORE, TRAEFIK_SERVICE};
use crate::{Ask, Endpoint, Entry, Model, Rule, Scheme, Settings, Table, Target};

pub(crate) fn object(tree: Value) -> Object {
    Object::from_tree(kinds::of_tree(&tree).unwrap(), &tree).unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings { published: Some(("kube-system".into(), "traefik".into())), ..Settings::default() }
}

/// A model with Services `a`, `b`, `c` of one endpoint each in `default`.
pub(crate) fn model() -> Model {
    let mut model = Model::new(settings());
    for (idx, name) in ["a", "b", "c"].into_iter().enumerate() {
        model.put(&object(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "ClusterIP", "clusterIP": "10.43.0.9", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        })));
        model.put(&slice(name, &format!("10.42.0.{}", idx + 1), json!({"ready": true})));
    }
    model.put(&object(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "traefik"},
        "spec": {"controller": "traefik.io/ingress-controller"},
    })));
    model
}

fn slice(service: &str, address: &str, conditions: Value) -> Object {
    object(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-{address}"), "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": [address], "conditions": conditions}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }))
}

pub(crate) fn ingress(name: &str, annotations: Value, spec: Value) -> Object {
    object(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations, "uid": name},
        "spec": spec,
    }))
}

fn backend(name: &str) -> Value {
    json!({"service": {"name": name, "port": {"number": 80}}})
}

/// `HOST KIND PATH SERVICE` a rule.
pub(crate) fn rules(lines: &[&str]) -> Value {
    let rule = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        let mut rule = json!({"http": {"paths": [{"path": words[2], "pathType": words[1], "backend": backend(words[3])}]}});
        if words[0] != "-" {
            rule["host"] = words[0].into();
        }
        rule
    };
    json!({"rules": lines.iter().map(rule).collect::<Vec<_>>()})
}

/// The service that a request goes to, or "".
pub(crate) fn asked(table: &Table, entry: Entry, host: &str, path: &str) -> String {
    let ask = Ask { host, path, query: "", method: "GET", peer: None, headers: &() };
    match table.find(entry, entry == Entry::WebSecure, &ask).map(|router| router.target) {
        Some(Target::Service(number)) => table.services[number].name.clone(),
        Some(Target::Weighted(_)) => "weighted".to_owned(),
        Some(Target::Status(code)) => code.to_string(),
        None => String::new(),
    }
}

#[track_caller]
fn check(table: &Table, cases: &[(&str, &str, &str)]) {
    for (host, path, service) in cases {
        let want = if service.is_empty() { String::new() } else { format!("default-{service}-80") };
        assert_eq!(asked(table, Entry::Web, host, path), want, "{host}{path}");
    }
}

fn reasons(table: &Table) -> Vec<&'static str> {
    table.complaints.iter().map(|complaint| complaint.reason).collect()
}

#[test]
fn paths_as_the_api_says() {
    let mut model = model();
    let lines = [
        "x.org Prefix /foo a",
        "x.org Exact /foo b",
        "x.org Prefix /aaa/bbb/ c",
        "x.org Prefix /aaa b",
    ];
    model.put(&ingress("i", json!({}), rules(&lines)));
    check(
        &model.table(""),
        &[
            ("x.org", "/foo", "b"),
            ("x.org", "/foo/", "a"),
            ("x.org", "/foo/x", "a"),
            ("x.org", "/FOO", ""),
            ("x.org", "/foobar", ""),
            ("x.org", "/aaa/bbb", "c"),
            ("x.org", "/aaa/bbb/", "c"),
            ("x.org", "/aaa/bbbxyz", "b"),
            ("x.org", "/aaa/bbb/ccc", "c"),
            ("x.org", "/aaaccc", ""),
            ("y.org", "/foo", ""),
        ],
    );
}

#[test]
fn hosts_and_what_is_for_all() {
    let mut model = model();
    let mut spec = rules(&["*.foo.com Prefix / a", "bar.foo.com Prefix / b", "- Prefix /all c"]);
    spec["tls"] = json!([{"hosts": ["bar.foo.com"], "secretName": "missing"}]);
    model.put(&ingress("i", json!({}), spec));
    let table = model.table("");
    check(
        &table,
        &[
            ("x.foo.com", "/", "a"),
            ("bar.foo.com", "/x", "b"),
            ("foo.com", "/", ""),
            ("a.b.foo.com", "/", ""),
            ("foo.com", "/all", "c"),
            ("", "/all/x", "c"),
            ("", "/", ""),
        ],
    );
    assert_eq!(reasons(&table), ["SecretNotFound"]);
}

#[test]
fn a_default_backend_gets_what_is_left_over() {
    let mut model = model();
    model.put(&ingress("all", json!({}), json!({"defaultBackend": backend("c")})));
    let mut spec = rules(&["x.org Prefix /a a"]);
    spec["defaultBackend"] = backend("b");
    model.put(&ingress("some", json!({}), spec));
    let table = model.table("");
    check(
        &table,
        &[("x.org", "/a", "a"), ("x.org", "/", "b"), ("y.org", "/a", "c"), ("", "/", "c")],
    );
    assert!(reasons(&table).is_empty());
    model.put(&ingress("second", json!({}), json!({"defaultBackend": backend("a")})));
    assert_eq!(reasons(&model.table("")), ["DefaultBackendTaken"]);
}

#[test]
fn classes() {
    let put = |class: Option<&str>, annotation: Option<&str>, wanted: &str| {
        let mut model = model();
        model.settings.class = wanted.into();
        let mut spec = rules(&["x.org Prefix / a"]);
        if let Some(class) = class {
            spec["ingressClassName"] = class.into();
        }
        let annotations =
            annotation.map_or(json!({}), |a| json!({"kubernetes.io/ingress.class": a}));
        model.put(&ingress("i", annotations, spec));
        let table = model.table("");
        (!table.routers.is_empty(), table)
    };
    for (class, annotation, wanted, served) in [
        (None, None, "", true),
        (Some("traefik"), None, "", true),
        (Some("other"), None, "", false),
        (None, Some("traefik"), "", true),
        (None, Some("nginx"), "", false),
        (None, None, "inner", false),
        (None, Some("inner"), "inner", true),
        (Some("traefik"), None, "inner", false),
    ] {
        assert_eq!(put(class, annotation, wanted).0, served, "{class:?} {annotation:?} {wanted:?}");
    }
}

#[test]
fn annotations_choose_entry_points_priority_and_tls() {
    let mut model = model();
    let own = |name: &str| format!("traefik.ingress.kubernetes.io/{name}");
    let secure = json!({own("router.entrypoints"): "websecure", own("router.tls"): "true"});
    model.put(&ingress("secure", secure, rules(&["s.org Prefix / a"])));
    model.put(&ingress("tls", json!({own("router.tls"): "true"}), rules(&["t.org Prefix / a"])));
    let first = json!({own("router.priority"): "1000"});
    model.put(&ingress("first", first, rules(&["x.org Prefix / b"])));
    model.put(&ingress("long", json!({}), rules(&["x.org Prefix /long/path a"])));
    let by_characters = json!({own("router.pathmatcher"): "PathRegexp"});
    model.put(&ingress(
        "regex",
        by_characters,
        rules(&["r.org ImplementationSpecific /v[0-9]+$ c"]),
    ));
    let table = model.table("");
    assert_eq!(asked(&table, Entry::Web, "s.org", "/"), "");
    assert_eq!(asked(&table, Entry::WebSecure, "s.org", "/"), "default-a-80");
    assert_eq!(asked(&table, Entry::Web, "t.org", "/"), "");
    assert_eq!(asked(&table, Entry::WebSecure, "t.org", "/"), "default-a-80");
    check(&table, &[("x.org", "/long/path", "b"), ("r.org", "/a/v12", "c"), ("r.org", "/v", "")]);
    assert!(reasons(&table).is_empty(), "{:?}", table.complaints);
    for (annotation, value, reason) in [
        ("router.priority", "x", "InvalidAnnotation"),
        ("router.entrypoints", "tcp", "EntryPointNotFound"),
        ("router.middlewares", "default-auth@kubernetescrd", "MiddlewareNotFound"),
        ("router.middlewares", "auth@file", "InvalidAnnotation"),
        ("router.tls", "perhaps", "InvalidAnnotation"),
        ("router.pathmatcher", "Host", "InvalidAnnotation"),
    ] {
        model.put(&ingress("bad", json!({own(annotation): value}), rules(&["bad.org Prefix / a"])));
        let table = model.table("");
        assert_eq!(reasons(&table), [reason], "{annotation}: {value}");
        assert_eq!(asked(&table, Entry::Web, "bad.org", "/"), "", "nothing unguarded is served");
    }
}

#[test]
fn services_and_their_endpoints() {
    let mut model = model();
    model.put(&ingress("i", json!({}), rules(&["x.org Prefix / a"])));
    let endpoint = |host: &str, ready| Endpoint { host: host.into(), port: 8080, ready };
    assert_eq!(model.table("").services[0].endpoints, [endpoint("10.42.0.1", true)]);
    // One that ends still serves whom it serves; one that is not ready does not.
    model.put(&slice(
        "a",
        "10.42.0.8",
        json!({"ready": false, "serving": true, "terminating": true}),
    ));
    model.put(&slice("a", "10.42.0.9", json!({"ready": false, "serving": false})));
    let all = [endpoint("10.42.0.1", true), endpoint("10.42.0.8", false)];
    assert_eq!(model.table("").services[0].endpoints, all);
    let gone = ("default".into(), "a-10.42.0.1".into());
    model.remove(&kinds::ENDPOINT_SLICE, &gone);
    assert_eq!(model.table("").services[0].endpoints, [endpoint("10.42.0.8", true)]);
    // Without an endpoint the route is there, and nobody behind it.
    model.replace(&kinds::ENDPOINT_SLICE, &[]);
    let table = model.table("");
    check(&table, &[("x.org", "/", "a")]);
    assert!(table.services[0].endpoints.is_empty() && reasons(&table).is_empty());

    let service = |annotations: Value, spec: Value| {
        object(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "a", "namespace": "default", "annotations": annotations}, "spec": spec,
        }))
    };
    let port =
        |port: Value| json!({"type": "ClusterIP", "clusterIP": "10.43.0.9", "ports": [port]});
    let own = |name: &str| format!("traefik.ingress.kubernetes.io/service.{name}");
    for (annotations, port, scheme) in [
        (json!({}), json!({"port": 80}), Scheme::Http),
        (json!({}), json!({"port": 80, "name": "https-x"}), Scheme::Https),
        (json!({}), json!({"port": 80, "appProtocol": "kubernetes.io/h2c"}), Scheme::H2c),
        (json!({own("serversscheme"): "h2c"}), json!({"port": 80}), Scheme::H2c),
        (json!({own("serversscheme"): "https"}), json!({"port": 80}), Scheme::Https),
    ] {
        model.put(&service(annotations, json!({"type": "ClusterIP", "ports": [port]})));
        assert_eq!(model.table("").services[0].scheme, scheme);
    }
    model.put(&service(
        json!({own("nativelb"): "true", own("sticky.cookie.name"): "c"}),
        port(json!({"port": 80})),
    ));
    let table = model.table("");
    assert_eq!(table.services[0].endpoints[0].host, "10.43.0.9");
    assert_eq!(table.services[0].sticky.as_ref().unwrap().name, "c");
    for (annotations, spec) in [
        (
            json!({}),
            json!({"type": "ExternalName", "externalName": "x.org", "ports": [{"port": 80}]}),
        ),
        (json!({}), port(json!({"port": 81}))),
        (json!({}), port(json!({"port": 80, "protocol": "UDP"}))),
        (json!({own("serversscheme"): "ftp"}), port(json!({"port": 80}))),
        (json!({own("sticky.cookie.name"): "a;b"}), port(json!({"port": 80}))),
        (json!({own("serverstransport"): "default-x@kubernetescrd"}), port(json!({"port": 80}))),
    ] {
        model.put(&service(annotations, spec));
        assert_eq!(reasons(&model.table("")), ["BackendNotFound"]);
    }
}

#[test]
fn statuses_follow_the_published_service() {
    let mut model = model();
    model.put(&ingress("i", json!({}), rules(&["x.org Prefix / a"])));
    assert!(model.table("").statuses.is_empty());
    model.put(&object(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "traefik", "namespace": "kube-system"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}},
    })));
    let table = model.table("");
    let [(stale, status)] = table.statuses.as_slice() else { panic!("{:?}", table.statuses) };
    assert_eq!(*status, json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}));
    let mut tree = stale.tree();
    tree["status"] = status.clone();
    model.put(&object(tree));
    assert!(model.table("").statuses.is_empty());
}

pub(crate) fn custom(kind: &'static api::Kind, name: &str, spec: Value) -> Object {
    let tree = json!({
        "apiVersion": "traefik.io/v1alpha1", "kind": kind.name,
        "metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec,
    });
    Object::from_tree(kind, &tree).unwrap()
}

#[test]
fn ingress_routes_and_what_they_name() {
    let mut model = model();
    let put = |model: &mut Model, name: &str, rule: &str, more: Value| {
        let mut route =
            json!({"match": rule, "kind": "Rule", "services": [{"name": "a", "port": 80}]});
        more.as_object().unwrap().iter().for_each(|(key, value)| route[key] = value.clone());
        model.put(&custom(&INGRESS_ROUTE, name, json!({"routes": [route]})));
    };
    put(&mut model, "plain", "Host(`x.test`) && PathPrefix(`/api`)", json!({}));
    put(
        &mut model,
        "first",
        "Host(`x.test`)",
        json!({"priority": 1000, "services": [{"name": "b", "port": "http"}]}),
    );
    let table = model.table("");
    assert_eq!(asked(&table, Entry::Web, "x.test", "/api"), "default-b-http");
    assert!(reasons(&table).is_empty());

    // Middlewares in order, chains taken apart; a chain of itself is none.
    let middleware = |name: &str, spec: Value| custom(&MIDDLEWARE, name, spec);
    model.put(&middleware("strip", json!({"stripPrefix": {"prefixes": ["/api"]}})));
    model.put(&middleware("deny", json!({"ipAllowList": {"sourceRange": ["10.0.0.0/8"]}})));
    model.put(&middleware(
        "both",
        json!({"chain": {"middlewares": [{"name": "deny"}, {"name": "strip"}]}}),
    ));
    put(
        &mut model,
        "first",
        "Host(`x.test`)",
        json!({"middlewares": [{"name": "both"}, {"name": "deny"}]}),
    );
    let table = model.table("");
    let ask = Ask { host: "x.test", path: "/", query: "", method: "GET", peer: None, headers: &() };
    let router = table.find(Entry::Web, false, &ask).unwrap();
    let names: Vec<&str> =
        router.middlewares.iter().map(|n| table.middlewares[*n].0.as_str()).collect();
    assert_eq!(names, ["default-deny", "default-strip", "default-deny"]);
    model.put(&middleware("round", json!({"chain": {"middlewares": [{"name": "round"}]}})));
    for (more, reason) in [
        (json!({"middlewares": [{"name": "round"}]}), "InvalidRoute"),
        (json!({"middlewares": [{"name": "nothing"}]}), "InvalidRoute"),
        (json!({"middlewares": [{"name": "strip", "namespace": "other"}]}), "InvalidRoute"),
        (json!({"services": []}), "InvalidRoute"),
        (json!({"services": [{"name": "nothing", "port": 80}]}), "InvalidRoute"),
        (json!({"services": [{"name": "a", "port": 80, "healthCheck": {}}]}), "InvalidRoute"),
        (json!({"match": "Host(x.test)"}), "InvalidRoute"),
    ] {
        put(&mut model, "first", "Host(`x.test`)", more.clone());
        let table = model.table("");
        assert_eq!(reasons(&table), [reason], "{more}");
        assert_eq!(asked(&table, Entry::Web, "x.test", "/"), "", "{more}");
    }

    // Weights, also by way of a TraefikService.
    let shares = json!([{"name": "a", "port": 80, "weight": 3}, {"name": "b", "port": 80}]);
    model.put(&custom(&TRAEFIK_SERVICE, "shares", json!({"weighted": {"services": shares}})));
    for services in [shares, json!([{"name": "shares", "kind": "TraefikService"}])] {
        put(&mut model, "first", "Host(`x.test`)", json!({"services": services}));
        let table = model.table("");
        assert_eq!(
            table
                .weighted
                .iter()
                .map(|list| list.iter().map(|share| share.weight).collect())
                .collect::<Vec<Vec<_>>>(),
            [[3, 1]]
        );
    }

    // How endpoints are spoken to.
    model.put(&custom(
        &SERVERS_TRANSPORT,
        "own",
        json!({"insecureSkipVerify": true, "serverName": "s"}),
    ));
    put(
        &mut model,
        "first",
        "Host(`x.test`)",
        json!({"services": [{"name": "a", "port": 80, "scheme": "https", "serversTransport": "own"}]}),
    );
    let table = model.table("");
    let service = table.services.iter().find(|service| service.scheme == Scheme::Https).unwrap();
    assert!(service.transport.as_ref().unwrap().insecure);

    // What none of its own can be.
    for (spec, known) in [
        (json!({"redirectScheme": {"scheme": "https", "port": 8443}}), true),
        (json!({"redirectScheme": {"scheme": "javascript"}}), false),
        (json!({"stripPrefixRegex": {"regex": ["("]}}), false),
        (json!({"rateLimit": {"average": 5, "period": "1m", "burst": 3}}), true),
        (json!({"rateLimit": {"average": 5, "redis": {}}}), false),
        (json!({"ipAllowList": {"sourceRange": ["x"]}}), false),
        (json!({"headers": {"customRequestHeaders": {"A": "b"}, "stsSeconds": 5}}), true),
        (json!({"headers": {"nope": 1}}), false),
        (json!({"plugin": {}}), false),
        (json!({"addPrefix": {}, "compress": {}}), false),
        (json!({}), false),
    ] {
        let read = crate::Middleware::read(&json!({"spec": spec}));
        assert_eq!(read.is_ok(), known, "{spec}: {read:?}");
    }
    let secret = |users: &str| json!({"data": {"users": wire::base64::encode(users.as_bytes())}});
    assert_eq!(crate::middleware::users(&secret("a:{SHA}x\n\nb:$apr1$s$d\n")).unwrap().len(), 2);
    assert!(crate::middleware::users(&secret("a:$2y$05$x")).is_err());
    assert!(crate::middleware::users(&secret("a")).is_err());
}

#[test]
fn the_rule_language() {
    #[derive(Debug)]
    struct One;
    impl crate::ask::Fields for One {
        fn any(&self, name: &str, is: &mut dyn FnMut(&str) -> bool) -> bool {
            name == "x-a" && (is("one") || is("two"))
        }
    }
    let ask = Ask {
        host: "www.example.org",
        path: "/api/v1",
        query: "a=1&b&c=%20x",
        method: "POST",
        peer: "192.0.2.7".parse().ok(),
        headers: &One,
    };
    for (rule, matches) in [
        ("Host(`www.example.org`)", true),
        ("Host(`WWW.Example.ORG.`)", true),
        ("host(\"www.example.org\")", true),
        ("Host(`*.example.org`)", true),
        ("Host(`*.org`)", false),
        ("Host(`*`)", true),
        ("HostRegexp(`^[a-z]+\\.example\\.org$`)", true),
        ("Path(`/api/v1`)", true),
        ("Path(`/api`)", false),
        ("PathPrefix(`/ap`)", true),
        ("PathRegexp(`v[0-9]`)", true),
        ("Method(`post`)", true),
        ("Header(`X-A`, `two`)", true),
        ("Header(`X-A`, `three`)", false),
        ("HeaderRegexp(`x-a`, `^t`)", true),
        ("Query(`a`, `1`)", true),
        ("Query(`a`)", false),
        ("Query(`b`)", true),
        ("Query(`c`, ` x`)", true),
        ("QueryRegexp(`a`, `^[0-9]$`)", true),
        ("ClientIP(`192.0.2.0/24`)", true),
        ("ClientIP(`198.51.100.0/24`)", false),
        ("Path(`/x`) || Path(`/y`) || Method(`POST`)", true),
        ("Path(`/x`) && Path(`/y`) || Method(`POST`)", true),
        ("Method(`POST`) || Path(`/x`) && Path(`/y`)", true),
        ("(Method(`POST`) || Path(`/x`)) && Path(`/y`)", false),
        ("!Path(`/x`) && !(Path(`/y`) || Method(`GET`))", true),
        ("!!Method(`POST`)", true),
        ("!Method(`POST`) || Path(`/x`)", false),
        ("((((Method(`POST`)))))", true),
        ("PathPrefix(`/api`) && !(Host(`a`) && Method(`POST`)) && !Path(`/z`)", true),
    ] {
        assert_eq!(Rule::parse(rule).unwrap().matches(&ask), matches, "{rule}");
    }
    let deep = |n: usize| format!("{}Path(`/`){}", "(".repeat(n), ")".repeat(n));
    assert!(Rule::parse(&deep(50)).is_ok());
    for bad in [
        "",
        "Host",
        "Host()",
        "Host(`a`",
        "Host(`a)",
        "Host(`a`, `b`)",
        "Header(`a`)",
        "Path(`x`)",
        "Nope(`a`)",
        "Host(`a`) Host(`b`)",
        "Host(`a`) &&",
        "&& Host(`a`)",
        "(Host(`a`)",
        "Host(`a`))",
        "HostRegexp(`(`)",
        "ClientIP(`x`)",
        "Host(`ä`)",
        "Host(a)",
        "!",
        &deep(61),
        &"!".repeat(100_000),
        &deep(100_000),
        &format!("HostRegexp(`{}`)", "a".repeat(2000)),
        &format!("HostRegexp(`{}`)", "(a{100}){100}{100}"),
        &["Method(`A`)"; 300].join(" || "),
    ] {
        assert!(Rule::parse(bad).is_err(), "{}", &bad[..bad.len().min(40)]);
    }
}

/// However a rule is nested, it says what its parts say.
#[test]
fn copies_and_the_certificate_for_others() {
    let mut model = model();
    let service = |name: &str| json!({"name": name, "port": 80});
    let mut mirroring = service("a");
    mirroring["mirrors"] = json!([{"name": "b", "port": 80, "percent": 30}]);
    model.put(&custom(&TRAEFIK_SERVICE, "both", json!({"mirroring": mirroring})));
    let to = json!({"name": "both", "kind": "TraefikService"});
    let route = json!({"match": "Host(`x.test`)", "kind": "Rule", "services": [to]});
    model.put(&custom(&INGRESS_ROUTE, "r", json!({"routes": [route]})));
    let table = model.table("");
    let [one] = table.weighted[0].as_slice() else { panic!("{:?}", table.weighted) };
    assert_eq!(table.services[one.service.unwrap()].name, "default-a-80");
    let mirror = &*table.middlewares[one.middlewares[0]].1;
    let crate::Middleware::Mirror { service, numerator: 30, denominator: 100 } = mirror else {
        panic!("{mirror:?}")
    };
    assert_eq!(table.services[*service].name, "default-b-80");
    model.put(&custom(&TLS_STORE, "default", json!({"defaultCertificate": {"secretName": "s"}})));
    assert_eq!(reasons(&model.table("")), ["SecretNotFound"]);
    model.put(&object(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
    })));
    let table = model.table("");
    assert_eq!(table.host_certificates, [(("default".into(), "s".into()), "".into())]);
    model.put(&custom(&TLS_STORE, "other", json!({})));
    assert_eq!(reasons(&model.table("")), ["Unsupported"]);
}

#[test]
fn rules_are_evaluated_as_they_are_written() {
    let mut random = stdx::prng::Prng::new(7);
    let ask = Ask { host: "h", path: "/", query: "", method: "T", peer: None, headers: &() };
    for _ in 0..2000 {
        let mut parts: Vec<(String, bool)> = (0..6)
            .map(|_| match random.below(2) {
                0 => ("Method(`T`)".to_owned(), true),
                _ => ("Method(`F`)".to_owned(), false),
            })
            .collect();
        while parts.len() > 1 {
            let at = usize::try_from(random.below(parts.len() as u64 - 1)).unwrap();
            let (right, left) = (parts.remove(at + 1), parts.remove(at));
            let joined = match random.below(3) {
                0 => (format!("({} && {})", left.0, right.0), left.1 && right.1),
                1 => (format!("({} || {})", left.0, right.0), left.1 || right.1),
                _ => (format!("!({} || {})", left.0, right.0), !(left.1 || right.1)),
            };
            parts.insert(at, joined);
        }
        let (text, value) = parts.remove(0);
        assert_eq!(Rule::parse(&text).unwrap().matches(&ask), value, "{text}");
    }
}
