//! Probes and lifecycle handlers as the spec words them.

use std::time::Duration;

use api::{Lens, Value};

/// How a container is asked: by a probe or by a lifecycle hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    Exec(Vec<String>),
    Http {
        path: String,
        port: Port,
        host: String,
        https: bool,
        headers: Vec<(String, String)>,
    },
    Tcp {
        port: Port,
        host: String,
    },
    Grpc {
        port: u16,
        service: String,
    },
    /// Hooks only.
    Sleep(Duration),
}

/// A port by number or by the name that the container gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    Number(u16),
    Name(String),
}

/// A probe with upstream's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub handler: Handler,
    pub initial_delay: Duration,
    pub timeout: Duration,
    pub period: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
    /// Replaces the pod's grace period when this probe is why the container is killed.
    pub grace_secs: Option<i64>,
}

impl Probe {
    pub fn read(tree: &Value) -> Option<Probe> {
        let handler = Handler::read(tree)?;
        let number = |path: &str, default: u64| {
            tree.int(path).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(default)
        };
        let count =
            |path: &str, default: u64| u32::try_from(number(path, default)).unwrap_or(u32::MAX);
        Some(Probe {
            handler,
            initial_delay: Duration::from_secs(number("initialDelaySeconds", 0)),
            timeout: Duration::from_secs(number("timeoutSeconds", 1)),
            period: Duration::from_secs(number("periodSeconds", 10)),
            success_threshold: count("successThreshold", 1),
            failure_threshold: count("failureThreshold", 3),
            grace_secs: tree.int("terminationGracePeriodSeconds"),
        })
    }
}

impl Handler {
    /// Reads a probe or a `LifecycleHandler`; `None` where it names no handler.
    pub fn read(tree: &Value) -> Option<Handler> {
        if tree.has("exec") {
            let command = tree.list("exec.command").iter();
            return Some(Handler::Exec(
                command.filter_map(|part| part.as_str().map(str::to_owned)).collect(),
            ));
        }
        if tree.has("httpGet") {
            let get = tree.at("httpGet");
            return Some(Handler::Http {
                path: get.str("path").to_owned(),
                port: Port::read(get.at("port"))?,
                host: get.str("host").to_owned(),
                https: get.str("scheme").eq_ignore_ascii_case("https"),
                headers: get
                    .list("httpHeaders")
                    .iter()
                    .map(|header| (header.str("name").into(), header.str("value").into()))
                    .collect(),
            });
        }
        if tree.has("tcpSocket") {
            return Some(Handler::Tcp {
                port: Port::read(tree.at("tcpSocket.port"))?,
                host: tree.str("tcpSocket.host").to_owned(),
            });
        }
        if tree.has("grpc") {
            return Some(Handler::Grpc {
                port: u16::try_from(tree.int("grpc.port")?).ok()?,
                service: tree.str("grpc.service").to_owned(),
            });
        }
        let secs = tree.int("sleep.seconds")?;
        Some(Handler::Sleep(Duration::from_secs(u64::try_from(secs).unwrap_or(0))))
    }
}

impl Port {
    fn read(tree: &Value) -> Option<Port> {
        match tree {
            Value::Number(number) => Some(Port::Number(u16::try_from(number.as_u64()?).ok()?)),
            Value::String(name) => Some(match name.parse() {
                Ok(number) => Port::Number(number),
                Err(_) => Port::Name(name.clone()),
            }),
            _ => None,
        }
    }

    /// The number, looked up in the container's ports if it is a name.
    pub fn resolve(&self, container: &Value) -> Result<u16, String> {
        match self {
            Port::Number(number) => Ok(*number),
            Port::Name(name) => container
                .list("ports")
                .iter()
                .find(|port| port.str("name") == name)
                .and_then(|port| u16::try_from(port.int("containerPort")?).ok())
                .ok_or_else(|| format!("couldn't find port: {name:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn defaults_are_upstreams() {
        let probe = Probe::read(&json!({"httpGet": {"port": "web", "path": "/z"}})).unwrap();
        assert_eq!(
            (probe.timeout.as_secs(), probe.period.as_secs(), probe.failure_threshold),
            (1, 10, 3)
        );
        let Handler::Http { port, https, .. } = &probe.handler else { panic!("{probe:?}") };
        assert!(!https);
        let container = json!({"ports": [{"name": "web", "containerPort": 8080}]});
        assert_eq!(port.resolve(&container), Ok(8080));
        assert!(port.resolve(&json!({})).is_err());
        assert_eq!(Probe::read(&json!({})), None);
        assert_eq!(Probe::read(&Value::Null), None);
    }

    #[test]
    fn handlers_read() {
        for (tree, want) in [
            (json!({"exec": {"command": ["a", "b"]}}), Handler::Exec(vec!["a".into(), "b".into()])),
            (
                json!({"tcpSocket": {"port": 80}}),
                Handler::Tcp { port: Port::Number(80), host: String::new() },
            ),
            (json!({"grpc": {"port": 5}}), Handler::Grpc { port: 5, service: String::new() }),
            (json!({"sleep": {"seconds": 3}}), Handler::Sleep(Duration::from_secs(3))),
        ] {
            assert_eq!(Handler::read(&tree), Some(want));
        }
    }
}
