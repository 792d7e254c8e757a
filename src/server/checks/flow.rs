//! Flows of requests: who is told apart, who waits, and that nobody's greed stops others.

use std::sync::Arc;

use api::kinds::{FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION};
use api::{Value, json};
use client::{DeleteOptions, ListOptions};
use http::server::Service;
use http::{Method, Request};

use super::config;
use crate::{Server, StaticToken, User};

async fn serving(seats: usize) -> (Server, Arc<dyn Service>) {
    let mut config = config();
    (config.mutating_requests_max, config.reading_requests_max) = (0, seats);
    for name in ["greedy", "modest"] {
        let user = User::new(name, &[]);
        config.static_tokens.push(StaticToken { token: name.into(), user });
    }
    let disk = store::Disk::default();
    let store = store::Store::open_memory(&disk, store::Limits::default()).await.unwrap();
    let server = Server::start(config, store).await.unwrap();
    let admin = server.client_as(User::admin());
    // No controller runs here that would make what is suggested.
    for object in api::flow_control::objects() {
        let kind = api::kinds::of_tree(&object).unwrap();
        admin.create(kind, object).await.unwrap();
    }
    let service = server.service(None);
    (server, service)
}

fn asks(token: &str, path: &str) -> Request {
    Request::new(Method::Get, path).header("authorization", format!("Bearer {token}"))
}

/// The level of a user's requests, by the headers of an answer.
async fn level_of(server: &Server, service: &dyn Service, token: &str) -> Option<String> {
    let response = service.call(asks(token, "/version")).await;
    let uid = response.headers.get("x-kubernetes-pf-prioritylevel-uid")?.to_owned();
    let admin = server.client_as(User::admin());
    let levels =
        admin.list(&PRIORITY_LEVEL_CONFIGURATION, "", ListOptions::default()).await.unwrap().items;
    levels.iter().find(|level| level.uid() == uid).map(|level| level.name().to_owned())
}

#[test]
fn answers_name_the_schema_and_the_level_and_follow_what_is_stored() {
    rt::block_on(async {
        let (server, service) = serving(20).await;
        let until = async |token: &str, level: &str| {
            let wanted = async {
                while level_of(&server, &*service, token).await.as_deref() != Some(level) {
                    rt::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            rt::timeout(std::time::Duration::from_secs(60), wanted).await.unwrap();
        };
        until("greedy", "global-default").await;
        until("admin", "exempt").await;
        let admin = server.client_as(User::admin());
        let schema = json!({
            "metadata": {"name": "own"},
            "spec": {
                "priorityLevelConfiguration": {"name": "workload-low"}, "matchingPrecedence": 5,
                "rules": [{
                    "subjects": [{"kind": "User", "user": {"name": "greedy"}}],
                    "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/version"]}],
                }],
            },
        });
        admin.create(&FLOW_SCHEMA, schema).await.unwrap();
        until("greedy", "workload-low").await;
        until("modest", "global-default").await;
        admin.delete(&FLOW_SCHEMA, "", "own", DeleteOptions::default()).await.unwrap();
        until("greedy", "global-default").await;
        let mut text = service.call(asks("admin", "/metrics")).await.body;
        let text = String::from_utf8(text.read_all(1 << 20).await.unwrap()).unwrap();
        for line in [
            "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"} ",
            "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"global-default\",priority_level=\"global-default\"} ",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let dump = "/debug/api_priority_and_fairness/dump_priority_levels";
        let mut dump = service.call(asks("admin", dump)).await.body;
        let dump = String::from_utf8(dump.read_all(1 << 20).await.unwrap()).unwrap();
        assert!(dump.contains("\nexempt, 0, "), "{dump}");
    });
}

#[test]
fn who_asks_for_everything_leaves_a_turn_to_others() {
    rt::block_on(async {
        // One seat for each level.
        let (server, service) = serving(1).await;
        let admin = server.client_as(User::admin());
        let level: Value = json!({"spec": {"limited": {
            "borrowingLimitPercent": 0, "lendablePercent": 0,
            "limitResponse": {"queuing": {"queues": 64, "handSize": 1, "queueLengthLimit": 2}},
        }}});
        let patch = client::PatchType::Merge;
        admin
            .patch(&PRIORITY_LEVEL_CONFIGURATION, "", "global-default", "", patch, level)
            .await
            .unwrap();
        let flow = server.core().flow.as_ref().unwrap();
        let greedy = User::new("greedy", &[]);
        let of = |user: &User| flow.of(&crate::flow::Asked::path(user, "get", "/apis")).unwrap();
        let until = async |queued: usize| {
            let wanted = async {
                loop {
                    let dump = flow.dump("dump_priority_levels").unwrap();
                    let line = dump.lines().find(|line| line.starts_with("global-default, "));
                    let fields: Vec<&str> = line.unwrap_or("").split(", ").collect();
                    if fields.get(4).is_some_and(|n| *n == queued.to_string()) {
                        return;
                    }
                    rt::sleep(std::time::Duration::from_millis(2)).await;
                }
            };
            rt::timeout(std::time::Duration::from_secs(60), wanted).await.unwrap();
        };
        // The configuration is followed, not asked for.
        let begun = async {
            loop {
                let matched = of(&greedy);
                let held = flow.seat(&matched, 1).await.unwrap();
                let waits = std::pin::pin!(flow.seat(&matched, 1));
                if rt::future::poll_once(waits).await.is_none() {
                    return held;
                }
                drop(held);
                rt::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let held = rt::timeout(std::time::Duration::from_secs(60), begun).await.unwrap();
        let ask = |token: &'static str| {
            let service = Arc::clone(&service);
            rt::spawn(async move { service.call(asks(token, "/apis")).await.status })
        };
        // Two wait in the greedy one's queue, and what comes on top is refused at once.
        let waiting = [ask("greedy"), ask("greedy")];
        until(2).await;
        let refused = service.call(asks("greedy", "/apis")).await;
        assert_eq!(refused.status, 429);
        assert_eq!(refused.headers.get("retry-after"), Some("1"));
        let modest_one = ask("modest");
        until(3).await;
        // Whoever is exempt does not wait, and who goes away is not waited for.
        assert_eq!(service.call(asks("admin", "/apis")).await.status, 200);
        let gone = ask("modest");
        until(4).await;
        drop(gone);
        until(3).await;
        drop(held);
        assert_eq!(modest_one.await, 200);
        for waiting in waiting {
            assert_eq!(waiting.await, 200);
        }
    });
}
