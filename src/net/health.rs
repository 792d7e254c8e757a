//! Health check node ports: what a load balancer asks before it sends a Local service's traffic here.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use http::server::{Limits, Service};
use http::{BoxFuture, Request, Response};
use netplan::HealthCheck;
use rt::net::TcpListener;
use stdx::OrdMap;

use crate::lock;
use crate::proxy::Proxy;

/// Opens and closes listeners as the model says, for as long as the proxy lives.
pub(crate) async fn run(weak: Weak<Proxy>) {
    let mut listeners: OrdMap<u16, Listener> = OrdMap::new();
    loop {
        let Some(proxy) = weak.upgrade() else { return };
        let changed = proxy.health_changed.listen();
        let checks = proxy.health();
        drop(proxy);
        listeners.retain(|port, _| checks.iter().any(|check| check.port == *port));
        for check in checks {
            let port = check.port;
            match listeners.get(&port) {
                Some(listener) => *lock(&listener.check) = check,
                None => {
                    listeners.insert(port, Listener::open(check));
                }
            }
        }
        changed.await;
    }
}

struct Listener {
    check: Arc<Mutex<HealthCheck>>,
    /// Dropping it closes the port.
    _task: rt::Task<Option<()>>,
}

impl Listener {
    fn open(check: HealthCheck) -> Listener {
        let port = check.port;
        let what = format!("health check of service {}/{}", check.namespace, check.name);
        let check = Arc::new(Mutex::new(check));
        let answers = check.clone();
        let task = rt::spawn_named(what.clone(), async move {
            const RETRY: Duration = Duration::from_secs(5);
            loop {
                match bind(port).await {
                    Ok(listener) => {
                        let service = Arc::new(Answers(answers.clone()));
                        let served = http::server::serve(listener, None, service, limits());
                        if let Err(error) = served.await {
                            log::warn!("{what}: {error}");
                        }
                    }
                    Err(error) => log::warn!("{what}: listen on port {port}: {error}"),
                }
                rt::sleep(RETRY).await;
            }
        });
        Listener { check, _task: task }
    }
}

/// Load balancers ask little and often.
fn limits() -> Limits {
    Limits {
        connections_max: 32,
        header_max_bytes: 8 << 10,
        body_max_bytes: 0,
        ..Limits::default()
    }
}

/// Both families where there is IPv6, else IPv4.
async fn bind(port: u16) -> std::io::Result<TcpListener> {
    let all: IpAddr = Ipv6Addr::UNSPECIFIED.into();
    match TcpListener::bind(SocketAddr::new(all, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await,
    }
}

struct Answers(Arc<Mutex<HealthCheck>>);

impl Service for Answers {
    /// 200 while an endpoint of the service runs here, else 503; the body is kube-proxy's.
    fn call(&self, _request: Request) -> BoxFuture<'_, Response> {
        let check = lock(&self.0).clone();
        let status = if check.local_endpoints == 0 { 503 } else { 200 };
        let body = serde_json::json!({
            "service": {"namespace": check.namespace, "name": check.name},
            "localEndpoints": check.local_endpoints,
            "serviceProxyHealthy": true,
        });
        let response = Response::json(status, body.to_string().into_bytes())
            .header("X-Load-Balancing-Endpoint-Weight", check.local_endpoints.to_string());
        Box::pin(rt::future::ready(response))
    }
}
