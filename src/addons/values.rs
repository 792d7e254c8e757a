//! What a HelmChartConfig asks of the ingress: values as Traefik's chart has them, done to the packaged manifest.
//!
//! A value that means something here is taken out of the tree; what is left when all were looked for has no effect,
//! which whoever follows HelmChartConfigs tells. Names are those of the chart's present versions and of those before.

use api::{Lens, LensMut, Object, Value, json};

/// The component that has values: its file, its Addon and its HelmChartConfig have this name.
pub(crate) const NAME: &str = "traefik";
const CONTAINER: &str = "spec.template.spec.containers.0";
/// Entry points that every ingress has.
const OWN_PORTS: [&str; 4] = ["web", "websecure", "metrics", "traefik"];
/// Ports, arguments or objects of one list of values.
const ITEMS_MAX: usize = 64;

/// Whether the ingress takes a command-line argument, and else why not.
pub type Check = fn(&str) -> Result<(), String>;

/// Values that are an argument each, the last of a pair deciding.
const ARGUMENTS: &[(&str, &str)] = &[
    ("logs.general.level", "log.level"),
    ("logs.general.format", "log.format"),
    ("log.level", "log.level"),
    ("log.format", "log.format"),
    ("logs.access.format", "accesslog.format"),
    ("accessLog.format", "accesslog.format"),
    ("logs.access.enabled", "accesslog"),
    ("accessLog.enabled", "accesslog"),
    ("providers.kubernetesIngress.enabled", "providers.kubernetesingress"),
    ("providers.kubernetesIngress.ingressClass", "providers.kubernetesingress.ingressclass"),
    (
        "providers.kubernetesIngress.allowEmptyServices",
        "providers.kubernetesingress.allowemptyservices",
    ),
    (
        "providers.kubernetesIngress.allowExternalNameServices",
        "providers.kubernetesingress.allowexternalnameservices",
    ),
    (
        "providers.kubernetesIngress.strictPrefixMatching",
        "providers.kubernetesingress.strictprefixmatching",
    ),
    ("providers.kubernetesIngress.publishedService.pathOverride", PUBLISHED),
    ("providers.kubernetesCRD.enabled", "providers.kubernetescrd"),
    ("providers.kubernetesCRD.allowEmptyServices", "providers.kubernetescrd.allowemptyservices"),
    ("providers.kubernetesGateway.enabled", "providers.kubernetesgateway"),
    ("metrics.prometheus.entryPoint", "metrics.prometheus.entrypoint"),
    ("api.dashboard", "api.dashboard"),
    ("api.insecure", "api.insecure"),
    ("global.checkNewVersion", "global.checknewversion"),
    ("global.sendAnonymousUsage", "global.sendanonymoususage"),
];

const PUBLISHED: &str = "providers.kubernetesingress.ingressendpoint.publishedservice";

/// The same of one entry point: below `ports.NAME` and after `entryPoints.NAME.`.
const OF_ENTRY: &[(&str, &str)] = &[
    ("redirectTo.port", "http.redirections.entrypoint.to"),
    ("redirectTo.permanent", "http.redirections.entrypoint.permanent"),
    ("redirectTo", "http.redirections.entrypoint.to"),
    ("redirections.entryPoint.to", "http.redirections.entrypoint.to"),
    ("redirections.entryPoint.scheme", "http.redirections.entrypoint.scheme"),
    ("redirections.entryPoint.permanent", "http.redirections.entrypoint.permanent"),
    ("http.redirections.entryPoint.to", "http.redirections.entrypoint.to"),
    ("http.redirections.entryPoint.scheme", "http.redirections.entrypoint.scheme"),
    ("http.redirections.entryPoint.permanent", "http.redirections.entrypoint.permanent"),
    ("forwardedHeaders.insecure", "forwardedheaders.insecure"),
    ("forwardedHeaders.trustedIPs", "forwardedheaders.trustedips"),
    ("proxyProtocol.insecure", "proxyprotocol.insecure"),
    ("proxyProtocol.trustedIPs", "proxyprotocol.trustedips"),
    ("transport.respondingTimeouts.readTimeout", "transport.respondingtimeouts.readtimeout"),
    ("transport.respondingTimeouts.writeTimeout", "transport.respondingtimeouts.writetimeout"),
    ("transport.respondingTimeouts.idleTimeout", "transport.respondingtimeouts.idletimeout"),
    ("transport.lifeCycle.graceTimeOut", "transport.lifecycle.gracetimeout"),
    ("asDefault", "asdefault"),
    ("tls.enabled", "http.tls"),
    ("http.tls.enabled", "http.tls"),
];

/// Values that become what stands at a path of the Deployment; maps are added to, other things replaced.
const OF_DEPLOYMENT: &[(&str, &str)] = &[
    ("deployment.replicas", "spec.replicas"),
    ("deployment.labels", "metadata.labels"),
    ("deployment.annotations", "metadata.annotations"),
    ("deployment.podLabels", "spec.template.metadata.labels"),
    ("deployment.podAnnotations", "spec.template.metadata.annotations"),
    ("podAnnotations", "spec.template.metadata.annotations"),
    ("deployment.minReadySeconds", "spec.minReadySeconds"),
    ("deployment.revisionHistoryLimit", "spec.revisionHistoryLimit"),
    (
        "deployment.terminationGracePeriodSeconds",
        "spec.template.spec.terminationGracePeriodSeconds",
    ),
    ("updateStrategy", "spec.strategy"),
    ("nodeSelector", "spec.template.spec.nodeSelector"),
    ("tolerations", "spec.template.spec.tolerations"),
    ("affinity", "spec.template.spec.affinity"),
    ("topologySpreadConstraints", "spec.template.spec.topologySpreadConstraints"),
    ("priorityClassName", "spec.template.spec.priorityClassName"),
    ("hostNetwork", "spec.template.spec.hostNetwork"),
    ("resources", "spec.template.spec.containers.0.resources"),
];

/// The same of the Service.
const OF_SERVICE: &[(&str, &str)] = &[
    ("service.type", "spec.type"),
    ("service.annotations", "metadata.annotations"),
    ("service.annotationsTCP", "metadata.annotations"),
    ("service.labels", "metadata.labels"),
    ("service.loadBalancerSourceRanges", "spec.loadBalancerSourceRanges"),
    ("service.externalIPs", "spec.externalIPs"),
    ("service.ipFamilyPolicy", "spec.ipFamilyPolicy"),
    ("service.ipFamilies", "spec.ipFamilies"),
];

/// What is so anyway.
const ALREADY: &[(&str, bool)] = &[
    ("rbac.enabled", true),
    ("service.single", true),
    ("service.enabled", true),
    ("deployment.enabled", true),
    ("ingressClass.enabled", true),
    ("providers.kubernetesIngress.publishedService.enabled", true),
    ("ingressRoute.dashboard.enabled", false),
    ("ingressRoute.healthcheck.enabled", false),
    ("persistence.enabled", false),
    ("autoscaling.enabled", false),
    ("podDisruptionBudget.enabled", false),
    ("ports.websecure.http3.enabled", false),
];

/// Does to the packaged component's objects what its HelmChartConfig says.
pub(crate) fn honour(trees: &mut Vec<Value>, config: &Object, check: Check) {
    let tree = config.tree();
    let mut values =
        wire::yaml::parse_one_loose(tree.str("spec.valuesContent")).unwrap_or_default();
    // The second has the last word, as with k3s: maps are added to, lists replaced.
    if tree.at("spec.values").is_object() {
        api::patch::merge(&mut values, tree.at("spec.values"));
    }
    take(trees, &mut values, check);
}

/// Takes those of `values` that have an effect on the component `name`.
pub fn take_honoured(name: &str, values: &mut Value, check: Check) {
    if name == NAME {
        take(&mut wire::yaml::parse(crate::manifest::TRAEFIK).unwrap_or_default(), values, check);
    }
}

fn take(trees: &mut Vec<Value>, values: &mut Value, check: Check) {
    for (path, so) in ALREADY {
        if values.at(path).as_bool() == Some(*so) {
            values.remove(path);
        }
    }
    let find = |trees: &mut Vec<Value>, kind: &str| {
        let found =
            trees.iter().position(|it| it.str("kind") == kind && it.str("metadata.name") == NAME);
        found.map(|at| std::mem::take(&mut trees[at]))
    };
    let mut taken = Taken {
        deployment: find(trees, "Deployment").unwrap_or_default(),
        service: find(trees, "Service").unwrap_or_default(),
        class: find(trees, "IngressClass").unwrap_or_default(),
        values,
        check,
    };
    taken.arguments();
    taken.ports();
    taken.objects();
    let Taken { deployment, service, class, values, .. } = taken;
    trees.extend([deployment, service, class]);
    more(trees, values);
    trees.retain(|tree| !tree.is_null());
}

/// The objects that values change; null where there is none.
struct Taken<'a> {
    deployment: Value,
    service: Value,
    class: Value,
    values: &'a mut Value,
    check: Check,
}

impl Taken<'_> {
    /// What becomes of a value that is an argument; whether the ingress takes it.
    fn argument(&mut self, flag: &str, value: &str) -> bool {
        let argument = format!("--{flag}={value}");
        let taken = (self.check)(&argument).is_ok();
        if taken {
            self.set_argument(argument);
        }
        taken
    }

    fn set_argument(&mut self, argument: String) {
        let name = |text: &str| text.split('=').next().unwrap_or("").to_ascii_lowercase();
        let own = name(&argument);
        let args = self.deployment.list_mut(&format!("{CONTAINER}.args"));
        args.retain(|arg| name(arg.as_str().unwrap_or("")) != own);
        args.push(argument.into());
    }

    fn arguments(&mut self) {
        for (path, flag) in ARGUMENTS {
            self.argument_at(path, flag);
        }
        if let Some(false) = self.bool_at("providers.kubernetesIngress.publishedService.enabled") {
            let args = self.deployment.list_mut(&format!("{CONTAINER}.args"));
            args.retain(|arg| !arg.as_str().unwrap_or("").contains(PUBLISHED));
        }
        for path in ["globalArguments", "additionalArguments"] {
            let Some(Value::Array(list)) = self.values.at_mut(path).map(std::mem::take) else {
                continue;
            };
            let mut refused = api::Map::new();
            for (n, item) in list.into_iter().enumerate() {
                let text = item.as_str().unwrap_or("").to_owned();
                match (self.check)(&text) {
                    Ok(()) if n < ITEMS_MAX => self.set_argument(text),
                    _ => drop(refused.insert(text, true.into())),
                }
            }
            self.values.set(path, Value::Object(refused));
        }
    }

    /// Has an argument made of the text, number, truth or list of texts at `path`.
    fn argument_at(&mut self, path: &str, flag: &str) {
        let text = match self.values.at(path) {
            Value::String(text) => text.clone(),
            Value::Array(list) => {
                list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            scalar @ (Value::Bool(_) | Value::Number(_)) => scalar.to_string(),
            Value::Null | Value::Object(_) => return,
        };
        if text.is_empty() || self.argument(flag, &text) {
            self.values.remove(path);
        }
    }

    fn bool_at(&mut self, path: &str) -> Option<bool> {
        let found = self.values.at(path).as_bool();
        found.inspect(|_| drop(self.values.remove(path)))
    }

    fn int_at(&mut self, path: &str) -> Option<i64> {
        let found = self.values.int(path).filter(|port| (0..=65535).contains(port));
        found.inspect(|_| drop(self.values.remove(path)))
    }

    fn ports(&mut self) {
        let names = self.values.at("ports").as_object().into_iter().flat_map(api::Map::keys);
        let names: Vec<String> = names.take(ITEMS_MAX).cloned().collect();
        for name in names {
            // A name with a dot would be a path; Kubernetes has none.
            if !name.contains('.') {
                self.port(&name);
            }
        }
    }

    fn port(&mut self, name: &str) {
        let at = |field: &str| format!("ports.{name}.{field}");
        let own = OWN_PORTS.contains(&name);
        let protocol = match self.values.str(&at("protocol")) {
            "" => "TCP",
            protocol @ ("TCP" | "UDP") => protocol,
            _ => return,
        }
        .to_owned();
        if own && protocol != "TCP" {
            return;
        }
        let suffix = protocol.to_ascii_lowercase();
        let container = self.values.int(&at("port"));
        if !own && container.is_none() {
            return;
        }
        if let Some(port) = container.filter(|_| name != "metrics" && name != "traefik") {
            if !self.argument(&format!("entryPoints.{name}.address"), &format!(":{port}/{suffix}"))
            {
                return;
            }
            self.values.remove(&at("port"));
            let ports = self.deployment.list_mut(&format!("{CONTAINER}.ports"));
            match ports.iter_mut().find(|it| it.str("name") == name) {
                Some(known) => known.set("containerPort", port),
                None => {
                    ports.push(json!({"name": name, "containerPort": port, "protocol": protocol}))
                }
            }
        }
        self.values.remove(&at("protocol"));
        for (path, flag) in OF_ENTRY {
            self.argument_at(&at(path), &format!("entryPoints.{name}.{flag}"));
        }
        if let Some(port) = self.int_at(&at("hostPort")) {
            let ports = self.deployment.list_mut(&format!("{CONTAINER}.ports"));
            if let Some(known) = ports.iter_mut().find(|it| it.str("name") == name) {
                known.set("hostPort", port);
            }
        }
        // Before it was a map by the Service's name, it was a truth.
        let exposed = self.bool_at(&at("expose.default")).or(self.bool_at(&at("expose")));
        let exposed = exposed.unwrap_or(matches!(name, "web" | "websecure"));
        let outside = self.int_at(&at("exposedPort"));
        let node_port = self.int_at(&at("nodePort"));
        let ports = self.service.list_mut("spec.ports");
        if !exposed {
            return ports.retain(|it| it.str("name") != name);
        }
        if !ports.iter().any(|it| it.str("name") == name) {
            let port = outside.or(container).unwrap_or(match name {
                "metrics" => 9100,
                _ => 8080,
            });
            ports.push(
                json!({"name": name, "port": port, "targetPort": name, "protocol": protocol}),
            );
        }
        for known in ports.iter_mut().filter(|it| it.str("name") == name) {
            let numbers = [("port", outside), ("nodePort", node_port)];
            for (field, number) in numbers.into_iter().filter_map(|(f, n)| Some((f, n?))) {
                known.set(field, number);
            }
        }
    }

    fn objects(&mut self) {
        for (path, to) in OF_DEPLOYMENT {
            put(&mut self.deployment, to, self.values.remove(path));
        }
        if self.deployment.flag("spec.template.spec.hostNetwork") {
            let policy = "spec.template.spec.dnsPolicy";
            self.deployment.set_default(policy, "ClusterFirstWithHostNet");
        }
        match self.values.str("deployment.kind") {
            "Deployment" => drop(self.values.remove("deployment.kind")),
            "DaemonSet" => {
                self.values.remove("deployment.kind");
                self.deployment.set("kind", "DaemonSet");
                self.deployment.remove("spec.replicas");
                let strategy = self.deployment.remove("spec.strategy");
                put(&mut self.deployment, "spec.updateStrategy", strategy);
            }
            _ => {}
        }
        for (path, to) in OF_SERVICE {
            put(&mut self.service, to, self.values.remove(path));
        }
        let spec = self.values.at("service.spec").as_object().into_iter().flatten();
        // These two are the ports' and the pods'.
        let fields = spec.filter(|(field, _)| !matches!(field.as_str(), "ports" | "selector"));
        for field in fields.map(|(field, _)| field.clone()).collect::<Vec<_>>() {
            let value = self.values.map_mut("service.spec").remove(&field);
            put(self.service.slot("spec"), &field, value);
        }
        if let Some(default) = self.bool_at("ingressClass.isDefaultClass") {
            let annotations = self.class.map_mut("metadata.annotations");
            let name = "ingressclass.kubernetes.io/is-default-class";
            annotations.insert(name.into(), default.to_string().into());
        }
        if let Some(name @ Value::String(_)) = self.values.remove("ingressClass.name") {
            put(&mut self.class, "metadata.name", Some(name));
        }
        for (path, object) in [
            ("service.enabled", &mut self.service),
            ("ingressClass.enabled", &mut self.class),
            ("deployment.enabled", &mut self.deployment),
        ] {
            if self.values.at(path) == &Value::Bool(false) {
                self.values.remove(path);
                *object = Value::Null;
            }
        }
    }
}

/// Puts a value where it belongs: what is in a map beside it stays.
fn put(object: &mut Value, path: &str, value: Option<Value>) {
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => object.map_mut(path).extend(map),
        Some(other) => object.set(path, other),
    }
}

/// Objects that are there beside the chart's.
fn more(trees: &mut Vec<Value>, values: &mut Value) {
    for (path, kind) in [("tlsStore", "TLSStore"), ("tlsOptions", "TLSOption")] {
        if !trees.iter().any(|tree| tree.str("spec.names.kind") == kind) {
            continue;
        }
        let Some(Value::Object(map)) = values.at_mut(path).map(std::mem::take) else { continue };
        for (name, spec) in map.into_iter().take(ITEMS_MAX) {
            trees.push(json!({
                "apiVersion": "traefik.io/v1alpha1", "kind": kind,
                "metadata": {"name": name, "namespace": "kube-system"}, "spec": spec,
            }));
        }
    }
    let n_before = trees.len();
    if let Some(Value::Array(list)) = values.at_mut("extraObjects") {
        let whole =
            |tree: &Value| !tree.str("kind").is_empty() && !tree.str("metadata.name").is_empty();
        let mut n_taken = 0;
        for tree in std::mem::take(list) {
            match whole(&tree) && n_taken < ITEMS_MAX {
                true => trees.push(tree),
                false => list.push(tree),
            }
            n_taken = trees.len() - n_before;
        }
        if list.is_empty() {
            values.remove("extraObjects");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if the ingress knew all flags but those of plugins, and no entry point `bad`.
    fn check(argument: &str) -> Result<(), String> {
        match argument.contains("plugin") || argument.contains(".bad.") {
            true => Err("no".into()),
            false => Ok(()),
        }
    }

    /// What becomes of the manifest, and what is left of the values.
    fn done(text: &str) -> (Vec<Value>, Value) {
        let mut trees = wire::yaml::parse(crate::manifest::TRAEFIK).unwrap();
        let mut values = wire::yaml::parse_one(text).unwrap();
        take(&mut trees, &mut values, check);
        (trees, values)
    }

    fn of<'a>(trees: &'a [Value], kind: &str) -> &'a Value {
        let own = |it: &&Value| it.str("kind") == kind && it.at("spec.names").is_null();
        trees.iter().find(own).unwrap_or(&Value::Null)
    }

    fn args(trees: &[Value]) -> Vec<&str> {
        let args = of(trees, "Deployment").list(&format!("{CONTAINER}.args"));
        args.iter().filter_map(Value::as_str).collect()
    }

    #[test]
    fn values_become_arguments() {
        let text = "
logs: {general: {level: DEBUG}, access: {enabled: true, format: json, fields: {a: b}}}
ports:
  web:
    port: 8001
    forwardedHeaders: {trustedIPs: [10.0.0.0/8, 192.0.2.1]}
    redirections: {entryPoint: {to: websecure, scheme: https, permanent: true}}
  websecure: {tls: {enabled: true}, http3: {enabled: true}}
  bad: {port: 1}
providers: {kubernetesIngress: {allowExternalNameServices: true, publishedService: {enabled: false}}}
additionalArguments: [--log.level=INFO, --experimental.plugins.x=y]
image: {tag: v3}";
        let (trees, left) = done(text);
        let args = args(&trees);
        for wanted in [
            "--log.level=INFO",
            "--accesslog=true",
            "--accesslog.format=json",
            "--entryPoints.web.address=:8001/tcp",
            "--entryPoints.web.forwardedheaders.trustedips=10.0.0.0/8,192.0.2.1",
            "--entryPoints.web.http.redirections.entrypoint.to=websecure",
            "--entryPoints.websecure.http.tls=true",
            "--providers.kubernetesingress.allowexternalnameservices=true",
        ] {
            assert!(args.contains(&wanted), "{wanted}: {args:?}");
        }
        let none = |part: &str| !args.iter().any(|arg| arg.contains(part));
        assert!(none("publishedservice") && none("plugins") && none(":8000") && none("DEBUG"));
        assert_eq!(left.at("ports.websecure"), &json!({"tls": {}, "http3": {"enabled": true}}));
        assert_eq!(left.at("ports.bad.port"), &json!(1));
        assert_eq!(left.at("logs.access"), &json!({"fields": {"a": "b"}}));
        assert_eq!(left.at("additionalArguments"), &json!({"--experimental.plugins.x=y": true}));
        assert_eq!(left.at("image.tag"), "v3");
    }

    #[test]
    fn the_second_values_have_the_last_word() {
        let kind = api::Kind::intern("values.test.io", "C", "cs", api::Scope::Namespaced).unwrap();
        let first = "{additionalArguments: [--log.level=DEBUG, --accesslog=true], ports: {mine: {port: 99}}, tolerations: [{key: a}]}";
        let second = json!({
            "additionalArguments": ["--log.level=INFO"],
            "ports": {"mine": {"expose": {"default": true}}},
            "tolerations": [{"key": "b"}],
        });
        let config = |spec: Value| {
            let tree = json!({"metadata": {"name": NAME, "namespace": "kube-system", "uid": "u"}, "spec": spec});
            let mut trees = wire::yaml::parse(crate::manifest::TRAEFIK).unwrap();
            honour(&mut trees, &Object::from_tree(kind, &tree).unwrap(), check);
            trees
        };
        let trees = config(json!({"valuesContent": first, "values": second}));
        let args = args(&trees);
        assert!(args.contains(&"--log.level=INFO") && !args.contains(&"--accesslog=true"));
        let deployment = of(&trees, "Deployment");
        assert_eq!(deployment.at("spec.template.spec.tolerations"), &json!([{"key": "b"}]));
        let ports = of(&trees, "Service").list("spec.ports").iter();
        assert!(
            ports.clone().any(|port| port.str("name") == "mine" && port.int("port") == Some(99))
        );
        let trees = config(json!({"valuesContent": first}));
        assert!(self::args(&trees).contains(&"--accesslog=true"));
    }

    #[test]
    fn values_change_objects() {
        let text = "
service:
  spec: {externalTrafficPolicy: Local, selector: {a: b}}
  annotations: {svccontroller.k3s.cattle.io/lbpool: a}
ports: {mqtt: {port: 1883, expose: {default: true}}, web: {exposedPort: 8080, nodePort: 30080}, websecure: {expose: false}, quiet: {port: 99}}
ingressClass: {isDefaultClass: false}
deployment: {replicas: 2, podAnnotations: {x: word}}
nodeSelector: {disk: ssd}
tlsStore: {default: {defaultCertificate: {secretName: s}}}
extraObjects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}, text]";
        let (trees, left) = done(text);
        let service = of(&trees, "Service");
        assert_eq!(service.str("spec.externalTrafficPolicy"), "Local");
        assert_eq!(service.str("spec.selector.a"), "");
        assert_eq!(
            service.entry("metadata.annotations", "svccontroller.k3s.cattle.io/lbpool"),
            Some("a")
        );
        let shown: Vec<String> = service
            .list("spec.ports")
            .iter()
            .map(|it| format!("{} {}", it.str("name"), it.at("port")))
            .collect();
        assert_eq!(shown, ["web 8080", "mqtt 1883"]);
        assert_eq!(service.int("spec.ports.0.nodePort"), Some(30080));
        let deployment = of(&trees, "Deployment");
        assert_eq!(deployment.int("spec.replicas"), Some(2));
        assert_eq!(deployment.str("spec.template.metadata.annotations.x"), "word");
        assert_eq!(deployment.str("spec.template.spec.nodeSelector.disk"), "ssd");
        assert!(args(&trees).contains(&"--entryPoints.quiet.address=:99/tcp"));
        let default = of(&trees, "IngressClass").at("metadata.annotations").as_object().unwrap();
        assert_eq!(default.iter().next().unwrap().1, "false");
        assert_eq!(of(&trees, "TLSStore").str("metadata.namespace"), "kube-system");
        assert_eq!(of(&trees, "ConfigMap").str("metadata.name"), "c");
        assert_eq!(left.at("service"), &json!({"spec": {"selector": {"a": "b"}}}));
        assert_eq!(left.at("extraObjects"), &json!(["text"]));
        let many: Vec<Value> = (0..ITEMS_MAX + 2)
            .map(|n| json!({"kind": "ConfigMap", "metadata": {"name": format!("c{n}")}}))
            .collect();
        let mut values = json!({"extraObjects": many});
        let mut objects = Vec::new();
        more(&mut objects, &mut values);
        assert_eq!((objects.len(), values.list("extraObjects").len()), (ITEMS_MAX, 2));
        for gone in ["ports", "deployment", "nodeSelector", "tlsStore"] {
            let mut text = left.at(gone).to_string();
            text.retain(|c| c.is_ascii_digit());
            assert_eq!(text, "", "{gone}: {left}");
        }
    }

    #[test]
    fn a_daemon_set_in_place_of_a_deployment_and_objects_that_are_not_wanted() {
        let (trees, _) = done(
            "{deployment: {kind: DaemonSet}, service: {enabled: false}, ingressClass: {enabled: false}}",
        );
        assert!(of(&trees, "Deployment").is_null() && of(&trees, "Service").is_null());
        assert!(of(&trees, "IngressClass").is_null());
        let daemons = of(&trees, "DaemonSet");
        assert!(daemons.at("spec.replicas").is_null() && daemons.at("spec.strategy").is_null());
        assert_eq!(daemons.int("spec.updateStrategy.rollingUpdate.maxSurge"), Some(1));
        // Nothing asked for: nothing changed.
        let (mut trees, left) = done("{}");
        let mut before = wire::yaml::parse(crate::manifest::TRAEFIK).unwrap();
        let key = |tree: &Value| format!("{} {}", tree.str("kind"), tree.str("metadata.name"));
        trees.sort_by_key(key);
        before.sort_by_key(key);
        assert_eq!(trees, before);
        assert_eq!(left, json!({}));
    }
}
