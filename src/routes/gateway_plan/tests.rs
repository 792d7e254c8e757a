//! Gateways and routes in, routes of the table and statuses out.

use api::{Kind, Lens, Object, Value, json};

use crate::gateway_objects::*;
use crate::middleware::Middleware;
use crate::tests::{asked, model, object};
use crate::{Ask, Entry, Fields, Model, Router, Table, Target};

const NOW: &str = "2026-01-02T03:04:05Z";
const WEB: u16 = 80;

fn custom(kind: &'static Kind, namespace: &str, name: &str, spec: Value) -> Object {
    let tree = json!({
        "apiVersion": format!("{GROUP}/{}", kind.declared.version), "kind": kind.name,
        "metadata": {"name": name, "namespace": namespace, "uid": format!("{}-{namespace}-{name}", kind.name), "generation": 3},
        "spec": spec,
    });
    Object::from_tree(kind, &tree).unwrap()
}

fn listener(name: &str, hostname: &str) -> Value {
    let mut tree = json!({
        "name": name, "port": WEB, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "Same"}},
    });
    if !hostname.is_empty() {
        tree["hostname"] = hostname.into();
    }
    tree
}

fn gateway(listeners: &[Value]) -> Object {
    let spec = json!({"gatewayClassName": "traefik", "listeners": listeners});
    custom(&GATEWAY, "default", "gw", spec)
}

/// With Services `a`, `b` and `c`, a class of ours, and the load balancer's address.
fn with(listeners: &[Value]) -> Model {
    let mut model = model();
    model.settings.ports = [8000, 8443];
    model.put(&object(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "traefik", "namespace": "kube-system"},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "web", "port": 80}, {"name": "websecure", "port": 443}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    })));
    model.put(&custom(&GATEWAY_CLASS, "", "traefik", json!({"controllerName": CONTROLLER})));
    model.put(&gateway(listeners));
    model
}

fn to(service: &str) -> Value {
    json!({"name": service, "port": WEB})
}

fn route_to(hostnames: &[&str], rules: Value) -> Value {
    json!({"parentRefs": [{"name": "gw"}], "hostnames": hostnames, "rules": rules})
}

fn put(model: &mut Model, name: &str, spec: Value) {
    model.put(&custom(&HTTP_ROUTE, "default", name, spec));
}

/// The status that an object is to get, and the model with it.
fn settle(model: &mut Model, kind: &Kind, name: &str) -> Value {
    let table = model.table(NOW);
    let is = |object: &&(Object, Value)| object.0.kind() == kind && object.0.name() == name;
    let told = table.statuses.iter().find(is).map(|(_, status)| status.clone());
    for (stale, status) in &table.statuses {
        let mut tree = stale.tree();
        tree["status"] = status.clone();
        model.put(&Object::from_tree(stale.kind(), &tree).unwrap());
    }
    assert!(model.table("later").statuses.is_empty(), "what was written stands");
    told.unwrap_or(Value::Null)
}

/// `TYPE=REASON`, with a `!` before what is not so.
fn words(conditions: &Value) -> String {
    let word = |it: &Value| {
        assert_eq!(it.int("observedGeneration"), Some(3));
        let no = if it.str("status") == "True" { "" } else { "!" };
        format!("{no}{}={}", it.str("type"), it.str("reason"))
    };
    conditions.list("").iter().map(word).collect::<Vec<_>>().join(" ")
}

/// The services that requests of a route are shared among.
fn shares(table: &Table, router: &Router) -> String {
    let Target::Weighted(number) = router.target else { return format!("{:?}", router.target) };
    let name = |service: Option<usize>| {
        service.map_or("500".into(), |number| table.services[number].name.clone())
    };
    let all = table.weighted[number].iter().map(|it| format!("{}*{}", name(it.service), it.weight));
    all.collect::<Vec<_>>().join(" ")
}

fn first(table: &Table, host: &str, path: &str) -> String {
    let ask = Ask { host, path, query: "", method: "GET", peer: None, headers: &() };
    table.find(Entry::Web, false, &ask).map_or("404".into(), |router| shares(table, router))
}

#[test]
fn nothing_is_read_without_a_class_of_ours() {
    let mut model = with(&[listener("http", "")]);
    put(&mut model, "r", route_to(&[], json!([{"backendRefs": [to("a")]}])));
    assert!(model.has_gateways());
    model.put(&custom(&GATEWAY_CLASS, "", "traefik", json!({"controllerName": "x.test/y"})));
    assert!(!model.has_gateways());
    let table = model.table(NOW);
    assert!(table.statuses.is_empty() && table.routers.is_empty());
}

#[test]
fn who_is_attached_and_what_is_said_of_it() {
    let tls = json!({
        "name": "tls", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "no"}]},
    });
    let other = json!({"name": "other", "port": 99, "protocol": "HTTP"});
    let mut model = with(&[listener("http", "*.x.test"), tls, other]);
    put(&mut model, "r", route_to(&["a.x.test"], json!([{"backendRefs": [to("a"), to("no")]}])));
    put(&mut model, "far", route_to(&["y.test"], json!([{"backendRefs": [to("a")]}])));
    let mut spec = route_to(&[], json!([]));
    spec["parentRefs"] = json!([{"name": "gw", "sectionName": "no"}, {"name": "stranger"}]);
    put(&mut model, "lost", spec);
    let mut foreign = custom(&HTTP_ROUTE, "prod", "foreign", route_to(&[], json!([]))).tree();
    foreign["spec"]["parentRefs"][0]["namespace"] = "default".into();
    foreign["status"] =
        json!({"parents": [{"controllerName": "x.test/y", "parentRef": {"name": "z"}}]});
    model.put(&Object::from_tree(&HTTP_ROUTE, &foreign).unwrap());

    let mut before = model.table(NOW).statuses.into_iter();
    let class = before.find(|(object, _)| object.kind() == &GATEWAY_CLASS).unwrap().1;
    assert_eq!(words(class.at("conditions")), "Accepted=Accepted");
    let table = model.table(NOW);
    let told = |kind: &Kind, name: &str| {
        let is = |it: &&(Object, Value)| it.0.kind() == kind && it.0.name() == name;
        table.statuses.iter().find(is).unwrap().1.clone()
    };
    for (name, wanted) in [
        ("r", "Accepted=Accepted !ResolvedRefs=BackendNotFound"),
        ("far", "Accepted=Accepted ResolvedRefs=ResolvedRefs"),
        ("lost", "!Accepted=NoMatchingParent ResolvedRefs=ResolvedRefs"),
    ] {
        let status = told(&HTTP_ROUTE, name);
        assert_eq!(words(status.at("parents.0.conditions")), wanted, "{name}");
        assert_eq!(status.list("parents").len(), 1, "of whom we do not know we do not speak");
    }
    let foreign = told(&HTTP_ROUTE, "foreign");
    assert_eq!(foreign.str("parents.0.controllerName"), "x.test/y", "others' words stay");
    let conditions = words(foreign.at("parents.1.conditions"));
    assert_eq!(conditions, "!Accepted=NotAllowedByListeners ResolvedRefs=ResolvedRefs");

    let status = told(&GATEWAY, "gw");
    assert_eq!(words(status.at("conditions")), "Accepted=ListenersNotValid Programmed=Programmed");
    assert_eq!(*status.at("addresses"), json!([{"type": "IPAddress", "value": "192.0.2.1"}]));
    let fine = "ResolvedRefs=ResolvedRefs !Conflicted=NoConflicts";
    for (idx, n_attached, wanted) in [
        (0, 1, format!("Accepted=Accepted Programmed=Programmed {fine}")),
        (
            1,
            2,
            "Accepted=Accepted !Programmed=Invalid !ResolvedRefs=InvalidCertificateRef !Conflicted=NoConflicts"
                .to_owned(),
        ),
        (2, 2, format!("!Accepted=PortUnavailable !Programmed=Invalid {fine}")),
    ] {
        let own = &status.list("listeners")[idx];
        assert_eq!(words(own.at("conditions")), wanted, "{idx}");
        assert_eq!(own.int("attachedRoutes"), Some(n_attached), "{idx}");
        assert_eq!(*own.at("supportedKinds.1.kind"), json!("GRPCRoute"));
    }
    assert_eq!(first(&table, "a.x.test", "/"), "default-a-80*1 500*1");
    assert_eq!(first(&table, "y.test", "/"), "404", "its only listeners are not served");
    settle(&mut model, &GATEWAY, "gw");
}

#[test]
fn what_a_gateway_asks_for_in_vain_is_said_and_not_served() {
    let marks = json!({"labels": {"a": "b"}});
    for (field, value, wanted, served) in [
        ("addresses", json!([{"value": "192.0.2.9"}]), "!Accepted=UnsupportedAddress", "404"),
        ("infrastructure", json!({"parametersRef": {}}), "!Accepted=InvalidParameters", "404"),
        ("infrastructure", marks, "Accepted=Accepted", "default-a-80*1"),
    ] {
        let mut own = listener("http", "");
        own["tls"] = json!({"options": {"x.test/y": "z"}});
        let mut model = with(&[]);
        put(&mut model, "r", route_to(&[], json!([{"backendRefs": [to("a")]}])));
        let mut tree = gateway(&[own]).tree();
        tree["spec"][field] = value;
        model.put(&Object::from_tree(&GATEWAY, &tree).unwrap());
        assert_eq!(first(&model.table(NOW), "x.test", "/"), served, "{wanted}");
        let status = settle(&mut model, &GATEWAY, "gw");
        let programmed =
            if served == "404" { "!Programmed=Invalid" } else { "Programmed=Programmed" };
        assert_eq!(words(status.at("conditions")), format!("{wanted} {programmed}"));
        assert!(!status.at("conditions").list("")[0].str("message").is_empty(), "{status}");
        let of_listener = status.at("listeners.0.conditions").list("");
        assert_eq!(of_listener[0].str("message"), "tls.options do nothing here");
        assert!(words(status.at("listeners.0.conditions")).contains(programmed), "{status}");
    }
}

#[test]
fn tls_is_passed_on_by_name() {
    let pass = |name: &str, host: &str, mode: &str| json!({"name": name, "port": 443, "protocol": "TLS", "hostname": host, "tls": {"mode": mode}});
    let ends = json!({
        "name": "ends", "port": 443, "protocol": "HTTPS", "hostname": "web.test",
        "tls": {"certificateRefs": [{"name": "no"}]},
    });
    let mut model =
        with(&[pass("all", "*.x.test", "Passthrough"), ends, pass("own", "y.test", "Terminate")]);
    let tls = |name: &str, hosts: &[&str], backends: Value| {
        custom(&TLS_ROUTE, "default", name, route_to(hosts, json!([{"backendRefs": backends}])))
    };
    model.put(&tls("one", &["a.x.test"], json!([to("a")])));
    model.put(&tls("rest", &[], json!([to("b")])));
    model.put(&tls(
        "lost",
        &["lost.x.test"],
        json!([{"name": "a", "namespace": "prod", "port": WEB}]),
    ));
    let table = model.table(NOW);
    let at = |host: &str| {
        let ask = Ask { host, path: "", query: "", method: "", peer: None, headers: &() };
        let found = table.find_tcp(Entry::WebSecure, true, &ask);
        let service = |(_, number): &(u32, usize)| table.tcp_services[*number].name.clone();
        found.map(|router| router.shares.iter().map(service).collect::<Vec<_>>().join(" "))
    };
    let wanted = |text: &str| Some(text.to_owned());
    assert_eq!(at("a.x.test"), wanted("default-a-80"));
    assert_eq!(at("b.x.test"), wanted("default-b-80"));
    assert_eq!(at("lost.x.test"), wanted(""), "its connections end");
    assert_eq!((at("y.test"), at("web.test")), (None, None));
    drop(table);
    let listeners = settle(&mut model, &GATEWAY, "gw");
    let listeners = listeners.list("listeners");
    assert_eq!(
        listeners[0].at("supportedKinds").to_string(),
        json!([{"group": GROUP, "kind": "TLSRoute"}]).to_string()
    );
    assert_eq!(
        (listeners[0].int("attachedRoutes"), listeners[1].int("attachedRoutes")),
        (Some(3), Some(0))
    );
    assert!(
        words(listeners[0].at("conditions")).starts_with("Accepted=Accepted Programmed=Programmed"),
        "{}",
        listeners[0]
    );
    assert!(
        words(listeners[1].at("conditions")).ends_with("!Conflicted=NoConflicts"),
        "{}",
        listeners[1]
    );
    assert!(
        words(listeners[2].at("conditions")).starts_with(
            "Accepted=Accepted !Programmed=Invalid !ResolvedRefs=InvalidCertificateRef"
        ),
        "{}",
        listeners[2]
    );
    model.put(&tls(
        "lost",
        &["lost.x.test"],
        json!([{"name": "a", "namespace": "prod", "port": 81}]),
    ));
    let told = settle(&mut model, &TLS_ROUTE, "lost");
    assert_eq!(
        words(told.at("parents.0.conditions")),
        "Accepted=Accepted !ResolvedRefs=RefNotPermitted"
    );
}

#[test]
fn tls_of_connections_ends_here_where_a_listener_says_so() {
    let refs = json!({"certificateRefs": [{"name": "cert", "namespace": "default"}]});
    let of = |name: &str, protocol: &str, host: &str| json!({"name": name, "port": 443, "protocol": protocol, "hostname": host, "tls": refs});
    let mut checked = of("checked", "TLS", "y.test");
    checked["tls"]["frontendValidation"] = json!({"caCertificateRefs": [{"name": "ca"}]});
    let udp = json!({"name": "udp", "port": 443, "protocol": "UDP"});
    let mut model =
        with(&[of("all", "TLS", "*.x.test"), of("web", "HTTPS", "web.x.test"), checked, udp]);
    let pem = |label: &str| {
        wire::base64::encode(
            format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n").as_bytes(),
        )
    };
    model.put(&object(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert", "namespace": "default"},
        "type": "kubernetes.io/tls", "data": {"tls.crt": pem("CERTIFICATE"), "tls.key": pem("PRIVATE KEY")},
    })));
    let rules = json!([{"backendRefs": [to("a")]}]);
    model.put(&custom(&TLS_ROUTE, "default", "one", route_to(&[], rules)));
    let table = model.table(NOW);
    let at = |host: &str| {
        let ask = Ask { host, path: "", query: "", method: "", peer: None, headers: &() };
        table.find_tcp(Entry::WebSecure, true, &ask).map(|router| router.mode)
    };
    assert_eq!(at("a.x.test"), Some(crate::Mode::Terminate));
    // Requests have this name to themselves; the others are not served at all.
    assert_eq!((at("web.x.test"), at("y.test")), (None, None));
    assert!(
        table
            .host_certificates
            .iter()
            .any(|(key, host)| &*key.1 == "cert" && &**host == "*.x.test")
    );
    drop(table);
    let status = settle(&mut model, &GATEWAY, "gw");
    let of = |idx: usize| words(status.list("listeners")[idx].at("conditions"));
    assert!(of(0).starts_with("Accepted=Accepted Programmed=Programmed"), "{status}");
    assert!(of(2).starts_with("!Accepted=UnsupportedProtocol"), "{status}");
    assert!(of(3).starts_with("!Accepted=UnsupportedProtocol"), "{status}");
}

#[test]
fn listeners_that_cannot_be_told_apart_are_not_served() {
    let mut other = listener("three", "y.test");
    other["protocol"] = "HTTPS".into();
    let mut model = with(&[listener("one", "x.test"), listener("two", "X.test"), other]);
    put(&mut model, "r", route_to(&[], json!([{"backendRefs": [to("a")]}])));
    let status = settle(&mut model, &GATEWAY, "gw");
    assert_eq!(words(status.at("conditions")), "!Accepted=ListenersNotValid !Programmed=Invalid");
    for (idx, reason) in [(0, "HostnameConflict"), (2, "ProtocolConflict")] {
        let own = words(status.list("listeners")[idx].at("conditions"));
        assert!(own.ends_with(&format!(" Conflicted={reason}")), "{own}");
        assert!(own.starts_with(&format!("!Accepted={reason} !Programmed=Invalid")), "{own}");
    }
    assert_eq!(first(&model.table(NOW), "x.test", "/"), "404");
}

#[test]
fn kinds_that_a_listener_takes() {
    let mut picky = listener("http", "");
    picky["allowedRoutes"]["kinds"] = json!([{"kind": "GRPCRoute"}, {"kind": "NoRoute"}]);
    let mut model = with(std::slice::from_ref(&picky));
    put(&mut model, "r", route_to(&[], json!([{"backendRefs": [to("a")]}])));
    let status = settle(&mut model, &HTTP_ROUTE, "r");
    let wanted = "!Accepted=NotAllowedByListeners ResolvedRefs=ResolvedRefs";
    assert_eq!(words(status.at("parents.0.conditions")), wanted);
    let mut model = with(&[picky]);
    let status = settle(&mut model, &GATEWAY, "gw");
    let own = status.at("listeners.0");
    assert_eq!(*own.at("supportedKinds"), json!([{"group": GROUP, "kind": "GRPCRoute"}]));
    assert!(words(own.at("conditions")).contains("!ResolvedRefs=InvalidRouteKinds"));
}

#[test]
fn a_more_exact_listener_has_its_hosts_for_itself() {
    let hosts = ["", "*.example.com", "*.foo.example.com", "abc.foo.example.com"];
    let names = ["all", "wide", "narrow", "one"];
    let listeners: Vec<Value> =
        hosts.iter().zip(names).map(|(host, name)| listener(name, host)).collect();
    let mut model = with(&listeners);
    for (name, service) in names.into_iter().zip(["a", "b", "c", "a"]) {
        let path = json!({"path": {"type": "PathPrefix", "value": format!("/{name}")}});
        let rule = json!([{"matches": [path], "backendRefs": [to(service)]}]);
        let mut spec = route_to(&[], rule);
        spec["parentRefs"][0]["sectionName"] = name.into();
        put(&mut model, name, spec);
    }
    let table = model.table(NOW);
    let named = ["bar.example.com", "deep.bar.example.com", "x.test"].map(|host| table.names(host));
    assert_eq!(named, [true, true, false]);
    for (host, served) in [
        ("x.test", "all"),
        ("example.com", "all"),
        ("bar.example.com", "wide"),
        ("deep.bar.example.com", "wide"),
        ("foo.example.com", "wide"),
        ("bar.foo.example.com", "narrow"),
        ("abc.foo.example.com", "one"),
    ] {
        for name in names {
            let found = first(&table, host, &format!("/{name}")) != "404";
            assert_eq!(found, name == served, "{host}/{name}");
        }
    }
}

/// Fields of a request.
#[derive(Debug)]
struct Sent(&'static [(&'static str, &'static str)]);

impl Fields for Sent {
    fn any(&self, name: &str, is: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.iter().any(|(own, value)| *own == name && is(value))
    }
}

#[test]
fn the_most_exact_match_comes_first() {
    let matches = [
        ("a", json!({"path": {"type": "PathPrefix", "value": "/"}})),
        ("a", json!({"path": {"type": "PathPrefix", "value": "/long"}, "method": "PUT"})),
        ("b", json!({"path": {"type": "PathPrefix", "value": "/longer/"}})),
        ("c", json!({"path": {"type": "Exact", "value": "/longer/x"}})),
        (
            "c",
            json!({"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "V", "value": "1"}, {"name": "v", "value": "2"}]}),
        ),
        (
            "b",
            json!({"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "v", "value": "1"}, {"name": "w", "value": "^[0-9]$", "type": "RegularExpression"}]}),
        ),
        (
            "b",
            json!({"path": {"type": "RegularExpression", "value": "/r[0-9]+"}, "queryParams": [{"name": "q", "value": "1"}]}),
        ),
    ];
    let rules: Vec<Value> = matches
        .into_iter()
        .map(|(service, wanted)| json!({"matches": [wanted], "backendRefs": [to(service)]}))
        .collect();
    let mut model = with(&[listener("http", "")]);
    put(&mut model, "r", route_to(&["x.test", "*.x.test"], rules.into()));
    put(&mut model, "wide", route_to(&[], json!([{"backendRefs": [to("c")]}])));
    let table = model.table(NOW);
    let none: &'static [(&'static str, &'static str)] = &[];
    for (host, method, target, headers, service) in [
        ("x.test", "GET", "/", none, "a"),
        ("y.x.test", "GET", "/", none, "a"),
        ("z.y.x.test", "GET", "/", none, "a"),
        ("y.test", "GET", "/", none, "c"),
        ("x.test", "GET", "/longer", none, "b"),
        ("x.test", "GET", "/longer/y", none, "b"),
        ("x.test", "PUT", "/longer/y", none, "b"),
        ("x.test", "GET", "/longest", none, "a"),
        ("x.test", "GET", "/longer/x", none, "c"),
        ("x.test", "GET", "/", &[("v", "1")], "c"),
        ("x.test", "GET", "/", &[("v", "1"), ("w", "7")], "b"),
        ("x.test", "GET", "/", &[("v", "1"), ("w", "77")], "c"),
        ("x.test", "GET", "/r7?q=1", none, "b"),
        ("x.test", "GET", "/r7?q=2", none, "a"),
        ("x.test", "GET", "/r7x?q=1", none, "a"),
    ] {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let ask = Ask { host, path, query, method, peer: None, headers: &Sent(headers) };
        let router = table.find(Entry::Web, false, &ask).unwrap();
        let wanted = format!("default-{service}-80*1");
        assert_eq!(shares(&table, router), wanted, "{method} {host}{target} {headers:?}");
    }
}

#[test]
fn what_is_named_in_other_namespaces_must_be_permitted() {
    let mut model = with(&[listener("http", "")]);
    let mut backend = to("far");
    backend["namespace"] = "prod".into();
    put(&mut model, "r", route_to(&[], json!([{"backendRefs": [backend]}])));
    model.put(&object(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "far", "namespace": "prod"},
        "spec": {"type": "ClusterIP", "ports": [{"port": 80, "appProtocol": "kubernetes.io/h2c"}]},
    })));
    let grant = |namespace: &str, from: &str, name: Option<&str>| {
        let mut to = json!({"group": "", "kind": "Service"});
        if let Some(name) = name {
            to["name"] = name.into();
        }
        let from = json!({"group": GROUP, "kind": from, "namespace": "default"});
        custom(&REFERENCE_GRANT, namespace, "g", json!({"from": [from], "to": [to]}))
    };
    for (grant, permitted) in [
        (grant("prod", "HTTPRoute", None), true),
        (grant("prod", "HTTPRoute", Some("far")), true),
        (grant("prod", "HTTPRoute", Some("other")), false),
        (grant("prod", "GRPCRoute", None), false),
        (grant("default", "HTTPRoute", None), false),
    ] {
        model.gateway.grants.clear();
        model.put(&grant);
        let table = model.table(NOW);
        let wanted = if permitted { "prod-far-80*1" } else { "500*1" };
        assert_eq!(first(&table, "", "/"), wanted, "{:?}", grant.tree());
        if permitted {
            assert_eq!(table.services[0].scheme, crate::Scheme::H2c);
        }
        let is = |it: &&(Object, Value)| it.0.kind() == &HTTP_ROUTE;
        let status = &table.statuses.iter().find(is).unwrap().1;
        let said = words(status.at("parents.0.conditions"));
        let reason =
            if permitted { " ResolvedRefs=ResolvedRefs" } else { " !ResolvedRefs=RefNotPermitted" };
        assert!(said.ends_with(reason), "{said}");
    }
}

#[test]
fn filters_become_middlewares() {
    let mut model = with(&[listener("http", "")]);
    let prefix = |with: &str| json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": with});
    let rule = |path: &str, filter: Value| {
        let path = json!({"path": {"type": "PathPrefix", "value": path}});
        json!({"matches": [path], "filters": [filter], "backendRefs": [to("a")]})
    };
    let rules = json!([
        rule(
            "/old/",
            json!({"type": "RequestRedirect", "requestRedirect": {"path": prefix("/new"), "statusCode": 301}})
        ),
        rule(
            "/write",
            json!({"type": "URLRewrite", "urlRewrite": {"hostname": "in.test", "path": prefix("/")}})
        ),
        rule(
            "/mirror",
            json!({"type": "RequestMirror", "requestMirror": {"backendRef": to("b"), "percent": 20}})
        ),
    ]);
    put(&mut model, "r", route_to(&[], rules));
    let table = model.table(NOW);
    let of = |path: &str| {
        let ask = Ask { host: "", path, query: "", method: "GET", peer: None, headers: &() };
        let router = table.find(Entry::Web, false, &ask).unwrap();
        let number = router.middlewares.first().unwrap();
        &*table.middlewares[*number].1
    };
    let Middleware::Redirect(redirect) = of("/old/x") else { panic!("{:?}", of("/old/x")) };
    assert_eq!((redirect.listener_port, redirect.status), (80, 301));
    assert_eq!(redirect.path.as_ref().unwrap().apply("/old/x"), "/new/x");
    let Middleware::Rewrite(rewrite) = of("/write") else { panic!("{:?}", of("/write")) };
    assert_eq!(rewrite.path.as_ref().unwrap().apply("/write/x"), "/x");
    assert_eq!(rewrite.path.as_ref().unwrap().apply("/write"), "/");
    let Middleware::Mirror { service, numerator: 20, denominator: 100 } = of("/mirror") else {
        panic!("{:?}", of("/mirror"))
    };
    assert_eq!(table.services[*service].name, "default-b-80");
    for filter in [
        json!({"type": "ExtensionRef", "extensionRef": {"group": "traefik.io", "kind": "Middleware", "name": "no"}}),
        json!({"type": "CORS", "cors": {}}),
    ] {
        put(&mut model, "r", route_to(&[], json!([rule("/", filter)])));
        let table = model.table(NOW);
        assert_eq!(first(&table, "", "/"), "404", "nothing is served without its guard");
        let is = |it: &&(Object, Value)| it.0.kind() == &HTTP_ROUTE;
        let status = &table.statuses.iter().find(is).unwrap().1;
        let said = words(status.at("parents.0.conditions"));
        assert!(said.starts_with("!Accepted=UnsupportedValue"), "{said}");
    }
}

#[test]
fn calls_of_grpc() {
    let mut model = with(&[listener("http", "")]);
    let rule = |method: Value, service: &str| json!({"matches": [{"method": method}], "backendRefs": [to(service)]});
    let rules = json!([
        rule(json!({"service": "pkg.Svc"}), "a"),
        rule(json!({"service": "pkg.Svc", "method": "Do"}), "b"),
        rule(json!({"method": "List"}), "c"),
    ]);
    model.put(&custom(&GRPC_ROUTE, "default", "r", route_to(&[], rules)));
    let table = model.table(NOW);
    for (path, wanted) in [
        ("/pkg.Svc/Other", "default-a-80*1"),
        ("/pkg.Svc/Do", "default-b-80*1"),
        ("/x.Y/List", "default-c-80*1"),
        ("/pkg.Svcs/Do", "404"),
        ("/x.Y/Lists", "404"),
    ] {
        assert_eq!(first(&table, "", path), wanted, "{path}");
    }
    assert!(table.services.iter().all(|service| service.scheme == crate::Scheme::H2c));
    assert_eq!(asked(&table, Entry::WebSecure, "", "/pkg.Svc/Do"), "", "web only");
}

#[test]
fn certificates_are_a_listeners() {
    let tls = |host: &str, namespace: &str| {
        json!({
            "name": "tls", "port": 8443, "protocol": "HTTPS", "hostname": host,
            "tls": {"certificateRefs": [{"name": "cert", "namespace": namespace}]},
        })
    };
    let pem = |label: &str| {
        let text = format!("-----BEGIN {label}-----\nAQID\n-----END {label}-----\n");
        wire::base64::encode(text.as_bytes())
    };
    let mut model = with(&[tls("*.x.test", "prod")]);
    model.put(&object(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert", "namespace": "prod"},
        "type": "kubernetes.io/tls", "data": {"tls.crt": pem("CERTIFICATE"), "tls.key": pem("PRIVATE KEY")},
    })));
    assert!(model.table(NOW).host_certificates.is_empty());
    let from = json!({"group": GROUP, "kind": "Gateway", "namespace": "default"});
    let grant = json!({"from": [from], "to": [{"group": "", "kind": "Secret"}]});
    model.put(&custom(&REFERENCE_GRANT, "prod", "g", grant));
    let key = ("prod".into(), "cert".into());
    assert_eq!(model.table(NOW).host_certificates, [(key, "*.x.test".into())]);
}

#[test]
fn times_that_requests_may_take() {
    let rule = |timeouts: Value| Rule::read(&json!({"timeouts": timeouts}), "", false);
    for (timeouts, wanted) in [
        (json!({}), Some(0)),
        (json!({"request": "0s"}), Some(0)),
        (json!({"request": "1m30s", "backendRequest": "500ms"}), Some(500)),
        (json!({"request": "2s", "backendRequest": "0s"}), Some(2000)),
        (json!({"request": "never"}), None),
        (json!({"request": "123456s"}), None),
    ] {
        let rule = rule(timeouts.clone());
        let told = rule.unsupported.is_none().then_some(rule.timeout_ms);
        assert_eq!(told, wanted, "{timeouts}");
    }
}
