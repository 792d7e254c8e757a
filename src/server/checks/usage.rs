//! What nodes and pods use: asked of nodes when somebody asks, selected, printed, and left to others where it is off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::kinds::{NODE, NODE_METRICS, POD, POD_METRICS};
use api::{Lens, Value, json};
use client::ListOptions;
use http::{BoxFuture, Response};

use super::{config, start};
use crate::{NodeDoor, Server, User};

/// Nodes whose containers use a quarter of a processor; `down` does not answer. Counts its questions.
#[derive(Default)]
struct Nodes(AtomicU64);

impl NodeDoor for Nodes {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn call<'a>(&'a self, node: &'a str, request: http::Request) -> BoxFuture<'a, Response> {
        assert_eq!(request.target, "/metrics/resource");
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if node == "down" {
                return Response::text(500, "no");
            }
            let ms = rt::now().wall.0 / 1_000_000;
            #[expect(clippy::cast_precision_loss, reason = "a second of a day is exact")]
            let cpu = (ms % 86_400_000) as f64 / 4000.0;
            let series =
                |name: &str, labels: &str, value: f64| format!("{name}{labels} {value} {ms}\n");
            let mut text = series("node_cpu_usage_seconds_total", "", cpu * 2.0);
            text.push_str(&series("node_memory_working_set_bytes", "", 4096.0));
            for container in ["a", "b"] {
                let labels =
                    format!("{{container=\"{container}\",namespace=\"default\",pod=\"p\"}}");
                text.push_str(&series("container_cpu_usage_seconds_total", &labels, cpu));
                text.push_str(&series("container_memory_working_set_bytes", &labels, 1024.0));
            }
            Response::text(200, text)
        })
    }
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]},
    })
}

#[test]
fn usage_is_told_of_what_is_known() {
    rt::block_on(async {
        let (server, client) = start().await;
        let nodes = Arc::new(Nodes::default());
        server.set_door(Arc::clone(&nodes) as Arc<dyn NodeDoor>);
        for name in ["up", "down"] {
            let node = json!({"metadata": {"name": name, "labels": {"is": name}}});
            client.create(&NODE, node).await.unwrap();
        }
        for (name, node) in [("p", "up"), ("q", "up"), ("r", "down"), ("s", "")] {
            client.create(&POD, pod(name, node)).await.unwrap();
        }
        let listed = async |kind, namespace, labels: &str, fields: &str| {
            let (label_selector, field_selector) = (labels.to_owned(), fields.to_owned());
            let options = ListOptions { label_selector, field_selector, ..ListOptions::default() };
            let found = client.list(kind, namespace, options).await?;
            let names = found.items.iter().map(|it| it.name().to_owned());
            Ok::<_, api::Status>(names.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(listed(&POD_METRICS, "default", "", "").await.unwrap(), "p");
        // Two samples of each node, once.
        assert_eq!(nodes.0.load(Ordering::Relaxed), 3);
        assert_eq!(listed(&POD_METRICS, "", "app=p", "").await.unwrap(), "p");
        assert_eq!(listed(&POD_METRICS, "", "app=q", "").await.unwrap(), "");
        assert_eq!(listed(&POD_METRICS, "other", "", "").await.unwrap(), "");
        assert_eq!(listed(&POD_METRICS, "", "", "metadata.name!=p").await.unwrap(), "");
        assert_eq!(listed(&NODE_METRICS, "", "", "metadata.name=up").await.unwrap(), "up");
        assert_eq!(listed(&NODE_METRICS, "", "is=down", "").await.unwrap(), "");
        let wrong = listed(&POD_METRICS, "", "", "spec.nodeName=up").await.unwrap_err();
        assert_eq!(wrong.code(), 400);
        let one = client.get(&POD_METRICS, "default", "p").await.unwrap().tree();
        let (cpu, memory) =
            (one.str("containers.1.usage.cpu"), one.str("containers.1.usage.memory"));
        let milli = cpu.parse::<api::Quantity>().unwrap().milli();
        assert!((249..=251).contains(&milli), "{cpu}");
        assert_eq!((memory, one.str("metadata.labels.app")), ("1Ki", "p"));
        let window = one.str("window");
        assert!(window.ends_with('s') && window != "0s", "{one}");
        for (kind, namespace, name, why) in [
            (&POD_METRICS, "default", "none", "pods \"none\" not found"),
            (&POD_METRICS, "default", "q", "podmetrics.metrics.k8s.io \"default/q\" not found"),
            (&NODE_METRICS, "", "none", "nodes \"none\" not found"),
            (&NODE_METRICS, "", "down", "nodemetrics.metrics.k8s.io \"down\" not found"),
        ] {
            let status = client.get(kind, namespace, name).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (404, why));
        }
        let http = http::Request::get("/apis/metrics.k8s.io/v1beta1/pods")
            .header("authorization", "Bearer admin")
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
        let mut response = server.service(None).call(http).await;
        let text = response.body.read_all(1 << 20).await.unwrap();
        let table: Value = serde_json::from_slice(&text).unwrap();
        let columns: Vec<&str> =
            table.list("columnDefinitions").iter().map(|it| it.str("name")).collect();
        assert_eq!(columns, ["Name", "cpu", "memory", "Window"]);
        assert_eq!(table.at("rows.0.cells.2"), "2Ki", "{table}");
    });
}

#[test]
fn where_it_is_off_another_server_may_have_it() {
    rt::block_on(async {
        let service = json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "metrics-server"}}});
        for (usage, code, warnings) in [(true, 200, 1), (false, 503, 0)] {
            let disk = store::Disk::default();
            let store = store::Store::open_memory(&disk, store::Limits::default());
            let config = crate::Config { usage, ..config() };
            let server = Server::start(config, store.await.unwrap()).await.unwrap();
            let client = server.client_as(User::admin());
            let listed = client.list(&NODE_METRICS, "", ListOptions::default()).await;
            assert_eq!(
                listed.map_or_else(|status| status.code(), |_| 200),
                if usage { 200 } else { 404 }
            );
            let http = http::Request::new(
                http::Method::Post,
                "/apis/apiregistration.k8s.io/v1/apiservices",
            )
            .header("authorization", "Bearer admin")
            .header("content-type", "application/json")
            .body(service.to_string());
            let response = server.service(None).call(http).await;
            assert_eq!(response.status, 201);
            assert_eq!(response.headers.get_all("warning").count(), warnings, "{usage}");
            // Whoever follows APIServices hears of it.
            let mut last = 0;
            for _ in 0..400 {
                let http = http::Request::get("/apis/metrics.k8s.io/v1beta1/nodes")
                    .header("authorization", "Bearer admin");
                last = server.service(None).call(http).await.status;
                if last == code {
                    break;
                }
                rt::sleep(std::time::Duration::from_millis(25)).await;
            }
            assert_eq!(last, code);
        }
    });
}
