//! API aggregation as far as no other server answers: conditions, discovery, refusals. Who answers is tested with a real network.

use std::time::Duration;

use api::kinds::{API_SERVICE, ENDPOINTS, SERVICE};
use api::{Lens, LensMut, Value, json};
use client::Client;
use http::Request;

use super::start;
use crate::{Server, StaticToken, User};

fn api_service(version: &str, group: &str) -> Value {
    json!({"metadata": {"name": format!("{version}.{group}")}, "spec": {
        "group": group, "version": version, "groupPriorityMinimum": 2000, "versionPriority": 200,
        "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "flunders"}}})
}

async fn ask(server: &Server, token: &str, method: &str, target: &str) -> (u16, String) {
    let request = Request::new(method.into(), target)
        .header("authorization", format!("Bearer {token}"))
        .header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList, application/json");
    let mut response = server.service(None).call(request).await;
    let text = response.body.read_all(64 << 20).await.unwrap();
    (response.status, String::from_utf8_lossy(&text).into_owned())
}

/// A server that knows a user without rights as well.
async fn with_stranger() -> (Server, Client) {
    let disk = store::Disk::default();
    let store = store::Store::open_memory(&disk, store::Limits::default());
    let mut config = super::config();
    let user = User::new("stranger", &[]);
    config.static_tokens.push(StaticToken { token: "stranger".into(), user });
    let server = Server::start(config, store.await.unwrap()).await.unwrap();
    let client = server.client_as(User::admin());
    (server, client)
}

/// Waits until the condition has a reason; its message.
async fn condition(client: &Client, reason: &str) -> String {
    let mut last = Value::Null;
    for _ in 0..400 {
        let found = client.get(&API_SERVICE, "", "v1.wardle.example.com").await.unwrap().tree();
        last = found.at("status.conditions.0").clone();
        if last.str("reason") == reason {
            assert_eq!((last.str("type"), last.str("status")), ("Available", "False"));
            return last.str("message").to_owned();
        }
        rt::sleep(Duration::from_millis(25)).await;
    }
    panic!("wanted {reason}, found {last}");
}

#[test]
fn conditions_follow_what_the_api_knows_of_the_service() {
    rt::block_on(async {
        let (_server, client) = start().await;
        client.create(&API_SERVICE, api_service("v1", "wardle.example.com")).await.unwrap();
        let said = condition(&client, "ServiceNotFound").await;
        assert_eq!(said, "service/flunders in \"default\" is not present");
        let service = json!({"metadata": {"name": "flunders", "namespace": "default"},
            "spec": {"ports": [{"port": 80}]}});
        client.create(&SERVICE, service).await.unwrap();
        let said = condition(&client, "ServicePortError").await;
        assert_eq!(said, "service/flunders in \"default\" is not listening on port 443");
        let mut found = client.get(&SERVICE, "default", "flunders").await.unwrap().tree();
        found.set("spec.ports", json!([{"port": 443, "targetPort": 443}]));
        client.update(&SERVICE, found).await.unwrap();
        condition(&client, "EndpointsNotFound").await;
        let endpoints = json!({"metadata": {"name": "flunders", "namespace": "default"}});
        client.create(&ENDPOINTS, endpoints).await.unwrap();
        let said = condition(&client, "MissingEndpoints").await;
        let wanted =
            "endpoints for service/flunders in \"default\" have no addresses with port name \"\"";
        assert_eq!(said, wanted);
        // What listens here, or on a link of this machine, is not connected to, whatever its name.
        let mut found = client.get(&SERVICE, "default", "flunders").await.unwrap().tree();
        found.set("spec", json!({"type": "ExternalName", "externalName": "localhost"}));
        client.update(&SERVICE, found).await.unwrap();
        let said = condition(&client, "FailedDiscoveryCheck").await;
        assert!(said.starts_with("failing or missing response from https://localhost:443/apis/wardle.example.com/v1: Get "), "{said}");
    });
}

#[test]
fn what_is_not_there_is_listed_and_answered_with_503_to_those_who_may_ask() {
    rt::block_on(async {
        let (server, client) = with_stranger().await;
        let flunders = "/apis/wardle.example.com/v1/namespaces/default/flunders";
        assert_eq!(ask(&server, "admin", "GET", flunders).await.0, 404);
        client.create(&API_SERVICE, api_service("v1", "wardle.example.com")).await.unwrap();
        condition(&client, "ServiceNotFound").await;
        for (method, path) in [
            ("GET", "/apis/wardle.example.com/v1"),
            ("GET", flunders),
            ("POST", flunders),
            ("DELETE", &format!("{flunders}/x")),
            ("GET", &format!("{flunders}/x/a/b/c")),
            ("GET", "/openapi/v3/apis/wardle.example.com/v1"),
        ] {
            let answer = ask(&server, "admin", method, path).await;
            assert_eq!(answer, (503, "service unavailable\n".into()), "{method} {path}");
            assert_eq!(ask(&server, "nobody", method, path).await.0, 401, "{method} {path}");
            // What everybody may see of discovery and documents is seen there, too.
            let seen =
                if path == flunders || method != "GET" || path.contains("/x/") { 403 } else { 503 };
            assert_eq!(ask(&server, "stranger", method, path).await.0, seen, "{method} {path}");
        }
        // What is authorized as one path is not passed on where another server could read another one.
        for path in [
            "/apis/wardle.example.com/v1//namespaces/kube-system/secrets",
            "//apis/wardle.example.com/v1/namespaces/kube-system/secrets",
            "/apis/wardle.example.com/v1/namespaces/default/flunders/x%2Fconsole",
            "/apis/wardle.example.com/v1/namespaces/default/../kube-system/flunders",
        ] {
            for user in ["admin", "stranger"] {
                assert_eq!(ask(&server, user, "GET", path).await.0, 404, "{user} {path}");
            }
        }
        let (_, text) = ask(&server, "admin", "GET", "/apis").await;
        let tree: Value = serde_json::from_str(&text).unwrap();
        let is_it = |item: &&Value| item.str("metadata.name") == "wardle.example.com";
        let item = tree.list("items").iter().find(is_it).unwrap();
        assert_eq!(item.at("versions"), &json!([{"version": "v1", "freshness": "Stale"}]));
        let (code, text) = ask(&server, "admin", "GET", "/apis/wardle.example.com").await;
        assert!(
            code == 200 && text.contains("\"groupVersion\":\"wardle.example.com/v1\""),
            "{text}"
        );
        let (_, text) = ask(&server, "admin", "GET", "/").await;
        assert!(text.contains("\"/apis/wardle.example.com/v1\""));
        // It is the server's own, whatever an APIService says.
        client.create(&API_SERVICE, api_service("v1", "batch")).await.unwrap();
        assert_eq!(ask(&server, "admin", "GET", "/apis/batch/v1/jobs").await.0, 200);
        client
            .delete(&API_SERVICE, "", "v1.wardle.example.com", client::DeleteOptions::default())
            .await
            .unwrap();
        let gone = async {
            while ask(&server, "admin", "GET", flunders).await.0 != 404 {
                rt::sleep(Duration::from_millis(25)).await;
            }
        };
        rt::timeout(Duration::from_secs(10), gone).await.unwrap();
        assert_eq!(ask(&server, "admin", "GET", "/apis/wardle.example.com").await.0, 404);
    });
}
