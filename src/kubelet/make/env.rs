//! A container's environment, and `$(VAR)` in it, in its command and in its arguments.

use api::pod::fields::{FieldContext, field, resource};
use api::{Lens, Value};
use stdx::{OrdMap, Sensitive};

use super::{Sources, config_map_entry, entries, secret_entry};

/// The environment, in the order of the spec, then the service variables that nothing replaced.
///
/// # Errors
/// Upstream's message for `CreateContainerConfigError`.
pub(crate) fn environment(
    pod: &Value,
    container: &Value,
    sources: &Sources,
    services: &[(String, String)],
    context: &FieldContext,
) -> Result<Vec<(String, Sensitive)>, String> {
    let service_map: OrdMap<&str, &str> =
        services.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mut made = Environment::default();
    for from in container.list("envFrom") {
        for (name, value) in from_source(from, sources)? {
            made.set(name, value);
        }
    }
    for variable in container.list("env") {
        let name = variable.str("name").to_owned();
        let value = match variable.at("valueFrom") {
            Value::Null => expand(variable.str("value"), |name| {
                made.get(name).or_else(|| service_map.get(name).copied()).map(str::to_owned)
            }),
            from => match value_from(pod, container, from, sources, context)? {
                Some(value) => value,
                None => continue,
            },
        };
        made.set(name, value);
    }
    let mut list = made.list;
    for (name, value) in services {
        if !list.iter().any(|(known, _)| known == name) {
            list.push((name.clone(), value.as_str().into()));
        }
    }
    Ok(list)
}

#[derive(Default)]
struct Environment {
    list: Vec<(String, Sensitive)>,
}

impl Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| value.reveal().as_str())
    }

    fn set(&mut self, name: String, value: Sensitive) {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.list.push((name, value)),
        }
    }
}

fn from_source(from: &Value, sources: &Sources) -> Result<Vec<(String, Sensitive)>, String> {
    let secret = from.has("secretRef");
    let (reference, found) = match secret {
        true => (from.at("secretRef"), sources.secret(from.str("secretRef.name"))),
        false => (from.at("configMapRef"), sources.config_map(from.str("configMapRef.name"))),
    };
    let kind = if secret { "secret" } else { "configmap" };
    let Some(tree) = found else {
        return match reference.flag("optional") {
            true => Ok(Vec::new()),
            false => Err(format!("{kind} \"{}\" not found", reference.str("name"))),
        };
    };
    let prefix = from.str("prefix");
    Ok(entries(tree, secret)
        .into_iter()
        .map(|(key, bytes)| (format!("{prefix}{key}"), bytes))
        .filter(|(name, _)| valid_name(name))
        .map(|(name, bytes)| (name, text(bytes)))
        .collect())
}

fn text(bytes: Sensitive<Vec<u8>>) -> Sensitive {
    String::from_utf8_lossy(bytes.reveal()).into_owned().into()
}

/// Printable ASCII without `=`, upstream's relaxed rule.
fn valid_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=')
}

/// `None` where an optional reference leads nowhere.
fn value_from(
    pod: &Value,
    container: &Value,
    from: &Value,
    sources: &Sources,
    context: &FieldContext,
) -> Result<Option<Sensitive>, String> {
    if from.has("fieldRef") {
        return field(pod, from.str("fieldRef.fieldPath"), context).map(|text| Some(text.into()));
    }
    if from.has("resourceFieldRef") {
        return resource(pod, container, from.at("resourceFieldRef"), context)
            .map(|text| Some(text.into()));
    }
    let secret = from.has("secretKeyRef");
    let reference = from.at(if secret { "secretKeyRef" } else { "configMapKeyRef" });
    let (name, key) = (reference.str("name"), reference.str("key"));
    let optional = reference.flag("optional");
    let (kind, word, found) = match secret {
        true => ("secret", "Secret", sources.secret(name)),
        false => ("configmap", "ConfigMap", sources.config_map(name)),
    };
    let Some(tree) = found else {
        return match optional {
            true => Ok(None),
            false => Err(format!("{kind} \"{name}\" not found")),
        };
    };
    let bytes = if secret { secret_entry(tree, key) } else { config_map_entry(tree, key) };
    match bytes {
        Some(bytes) => Ok(Some(text(bytes))),
        None if optional => Ok(None),
        None => Err(format!(
            "couldn't find key {key} in {word} {}/{name}",
            pod.str("metadata.namespace")
        )),
    }
}

/// Replaces `$(NAME)`; `$$` is a dollar, an unknown name stays as it is written.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Sensitive {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(idx) = rest.find('$') {
        out.push_str(&rest[..idx]);
        let after = &rest[idx + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) =
            after.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out.into()
}

/// The variables of the services a pod is told about: those of its namespace, and `kubernetes`.
pub(crate) fn service_variables(
    services: &[Value],
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut chosen: OrdMap<&str, &Value> = OrdMap::new();
    for service in services {
        let (own, name) = (service.str("metadata.namespace"), service.str("metadata.name"));
        let master = own == "default" && name == "kubernetes";
        let ip = service.str("spec.clusterIP");
        if ip.is_empty() || ip == "None" {
            continue;
        }
        // The namespace's own service of that name wins over the master.
        if links && own == namespace {
            chosen.insert(name, service);
        } else if master {
            chosen.entry(name).or_insert(service);
        }
    }
    let mut list = Vec::new();
    for (name, service) in chosen {
        variables_of(name, service, &mut list);
    }
    list
}

fn variables_of(name: &str, service: &Value, list: &mut Vec<(String, String)>) {
    let upper = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    let name = upper(name);
    let ip = service.str("spec.clusterIP");
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let ports = service.list("spec.ports");
    let Some(first) = ports.first() else { return };
    let number = |port: &Value| port.int("port").unwrap_or(0);
    list.push((format!("{name}_SERVICE_HOST"), ip.to_owned()));
    list.push((format!("{name}_SERVICE_PORT"), number(first).to_string()));
    for port in ports.iter().filter(|port| !port.str("name").is_empty()) {
        let key = format!("{name}_SERVICE_PORT_{}", upper(port.str("name")));
        list.push((key, number(port).to_string()));
    }
    for (idx, port) in ports.iter().enumerate() {
        let protocol = match port.str("protocol") {
            "" => "TCP",
            protocol => protocol,
        };
        let url = format!("{}://{host}:{}", protocol.to_ascii_lowercase(), number(port));
        if idx == 0 {
            list.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{}_{protocol}", number(port));
        list.push((prefix.clone(), url));
        list.push((format!("{prefix}_PROTO"), protocol.to_ascii_lowercase()));
        list.push((format!("{prefix}_PORT"), number(port).to_string()));
        list.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn sources() -> Sources {
        let mut sources = Sources::default();
        let map = json!({"data": {"a": "1", "b=c": "2"}, "binaryData": {"bin": "Ynl0ZXM="}});
        sources.config_maps.insert("cm".into(), Some(map));
        sources.secrets.insert("s".into(), Some(json!({"data": {"k": "c2VjcmV0"}})));
        sources
    }

    fn check(container: Value, want: Result<&[(&str, &str)], &str>) {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}});
        let services = [("SVC_SERVICE_HOST".to_owned(), "10.43.0.1".to_owned())];
        let got = environment(&pod, &container, &sources(), &services, &FieldContext::default());
        let want = want.map_err(str::to_owned).map(|list| {
            let known = services.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            let list = list.iter().copied().chain(known);
            list.map(|(k, v)| (k.to_owned(), Sensitive::from(v))).collect::<Vec<_>>()
        });
        assert_eq!(got, want);
    }

    #[test]
    fn everything_that_gives_a_value() {
        check(json!({}), Ok(&[]));
        check(
            json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}],
                "env": [{"name": "P_a", "value": "over"}, {"name": "X", "value": "$(P_a)-$(SVC_SERVICE_HOST)-$(NO)-$$(P_a)"}]}),
            Ok(&[("P_a", "over"), ("P_bin", "bytes"), ("X", "over-10.43.0.1-$(NO)-$(P_a)")]),
        );
        check(
            json!({"env": [
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": true}}}]}),
            Ok(&[("S", "secret"), ("N", "p")]),
        );
    }

    #[test]
    fn what_is_missing_is_told_in_upstreams_words() {
        let key = |kind: &str, name: &str, key: &str| json!({"env": [{"name": "X", "valueFrom": {kind: {"name": name, "key": key}}}]});
        check(key("configMapKeyRef", "no", "k"), Err("configmap \"no\" not found"));
        check(key("secretKeyRef", "no", "k"), Err("secret \"no\" not found"));
        check(key("configMapKeyRef", "cm", "z"), Err("couldn't find key z in ConfigMap n/cm"));
        check(key("secretKeyRef", "s", "z"), Err("couldn't find key z in Secret n/s"));
        check(json!({"envFrom": [{"secretRef": {"name": "no"}}]}), Err("secret \"no\" not found"));
    }

    #[test]
    fn expansion_follows_upstream() {
        let lookup = |name: &str| (name == "A").then(|| "x".to_owned());
        for (text, want) in [
            ("$(A)", "x"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$x"),
            ("$(B)", "$(B)"),
            ("$A $ $( $", "$A $ $( $"),
            ("a$(A)b$(A", "axb$(A"),
        ] {
            assert_eq!(expand(text, lookup).reveal(), want, "{text}");
        }
    }

    #[test]
    fn services_are_told_as_docker_links() {
        let services = [
            json!({"metadata": {"namespace": "default", "name": "kubernetes"},
                "spec": {"clusterIP": "10.43.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}}),
            json!({"metadata": {"namespace": "n", "name": "my-db"}, "spec": {"clusterIP": "10.43.0.2", "ports": [{"port": 5}]}}),
            json!({"metadata": {"namespace": "n", "name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 5}]}}),
            json!({"metadata": {"namespace": "other", "name": "x"}, "spec": {"clusterIP": "10.43.0.3", "ports": [{"port": 5}]}}),
        ];
        let names = |links| -> Vec<String> {
            service_variables(&services, "n", links)
                .into_iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect()
        };
        assert_eq!(
            names(true),
            [
                "KUBERNETES_SERVICE_HOST=10.43.0.1",
                "KUBERNETES_SERVICE_PORT=443",
                "KUBERNETES_SERVICE_PORT_HTTPS=443",
                "KUBERNETES_PORT=tcp://10.43.0.1:443",
                "KUBERNETES_PORT_443_TCP=tcp://10.43.0.1:443",
                "KUBERNETES_PORT_443_TCP_PROTO=tcp",
                "KUBERNETES_PORT_443_TCP_PORT=443",
                "KUBERNETES_PORT_443_TCP_ADDR=10.43.0.1",
                "MY_DB_SERVICE_HOST=10.43.0.2",
                "MY_DB_SERVICE_PORT=5",
                "MY_DB_PORT=tcp://10.43.0.2:5",
                "MY_DB_PORT_5_TCP=tcp://10.43.0.2:5",
                "MY_DB_PORT_5_TCP_PROTO=tcp",
                "MY_DB_PORT_5_TCP_PORT=5",
                "MY_DB_PORT_5_TCP_ADDR=10.43.0.2",
            ]
        );
        assert_eq!(names(false).len(), 8);
    }
}
