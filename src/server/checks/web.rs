//! The HTTP face: codes, forms and bad input, without sockets.

use std::sync::Arc;

use api::{Lens, Value, json};
use http::server::Service;
use http::{Method, Request};

use super::config;
use crate::{Server, User};

struct Face {
    service: Arc<dyn Service>,
    server: Server,
}

struct Answer {
    code: u16,
    headers: http::Headers,
    bytes: Vec<u8>,
}

impl Answer {
    fn tree(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Face {
    async fn new() -> Face {
        let disk = store::Disk::default();
        let store = store::Store::open_memory(&disk, store::Limits::default());
        let server = Server::start(config(), store.await.unwrap()).await.unwrap();
        let account = json!({"metadata": {"name": "default", "namespace": "default"}});
        let admin = server.client_as(User::admin());
        admin.create(&api::kinds::SERVICE_ACCOUNT, account).await.unwrap();
        Face { service: server.service(None), server }
    }

    async fn ask(&self, request: Request) -> Answer {
        let mut response = self.service.call(request).await;
        let bytes = response.body.read_all(64 << 20).await.unwrap();
        Answer { code: response.status, headers: response.headers, bytes }
    }

    async fn admin(&self, method: &str, target: &str, body: &str) -> Answer {
        let request = Request::new(Method::from(method), target)
            .header("authorization", "Bearer admin")
            .header("content-type", "application/json")
            .body(body.to_owned());
        self.ask(request).await
    }
}

#[test]
fn codes_are_upstreams() {
    rt::block_on(async {
        let face = Face::new().await;
        let config_maps = "/api/v1/namespaces/default/configmaps";
        let long = "x".repeat(254);
        let named = |name: &str| format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
        for (method, target, body, code) in [
            ("GET", "/api/v1/pods", "", 200),
            ("GET", "/api/v1/nosuch", "", 404),
            ("GET", "/apis/nosuch/v1/pods", "", 404),
            ("GET", "/nosuch", "", 404),
            ("GET", "/api/v1/namespaces/default/pods/x", "", 404),
            ("GET", "/api/v1/namespaces/default/pods/x/nosuch", "", 404),
            ("PUT", "/api/v1/namespaces/default/pods", "{}", 405),
            ("POST", "/version", "", 405),
            ("POST", config_maps, "", 400),
            ("POST", config_maps, "{", 400),
            ("POST", config_maps, "[]", 400),
            ("POST", config_maps, "null", 422),
            ("DELETE", "/api/v1/configmaps", "", 405),
            ("GET", "/apis/apps/v1/deployments/x", "", 404),
            ("PUT", "/healthz", "", 200),
            ("HEAD", "/api", "", 405),
            ("POST", config_maps, r#"{"kind":"Pod","apiVersion":"v1"}"#, 400),
            ("POST", config_maps, r#"{"metadata":{"name":5}}"#, 400),
            ("POST", config_maps, r#"{"metadata":{}}"#, 422),
            ("POST", config_maps, &named("Bad_Name"), 422),
            ("POST", config_maps, &named(&long), 422),
            ("POST", config_maps, &named("a"), 201),
            ("POST", config_maps, &named("a"), 409),
            ("POST", &format!("{config_maps}?dryRun=Some"), &named("b"), 422),
            ("POST", &format!("{config_maps}?dryRun=All"), &named("b"), 201),
            ("GET", &format!("{config_maps}/b"), "", 404),
            (
                "POST",
                &format!("{config_maps}?fieldValidation=Strict"),
                r#"{"metadata":{"name":"c"},"x":1}"#,
                400,
            ),
            ("POST", &format!("{config_maps}?fieldValidation=Maybe"), &named("c"), 422),
            ("POST", "/api/v1/namespaces/nosuch/configmaps", &named("a"), 404),
            ("GET", &format!("{config_maps}?limit=x"), "", 400),
            ("GET", &format!("{config_maps}?continue=x"), "", 400),
            ("GET", &format!("{config_maps}?labelSelector=%3D%3D"), "", 400),
            ("GET", &format!("{config_maps}?fieldSelector=data.x=1"), "", 400),
            ("GET", &format!("{config_maps}?resourceVersion=99999"), "", 504),
            ("GET", &format!("{config_maps}?resourceVersion=x"), "", 500),
            ("GET", &format!("{config_maps}?resourceVersionMatch=Exact"), "", 422),
            ("PUT", &format!("{config_maps}/a"), &named("z"), 400),
            ("PUT", &format!("{config_maps}/nosuch"), &named("nosuch"), 404),
            ("DELETE", &format!("{config_maps}/a?propagationPolicy=Sometimes"), "", 422),
            ("DELETE", &format!("{config_maps}/a"), r#"{"preconditions":{"uid":"x"}}"#, 409),
            ("DELETE", &format!("{config_maps}/a"), "", 200),
            ("DELETE", &format!("{config_maps}/a"), "", 404),
            ("GET", "/healthz", "", 200),
            ("GET", "/healthz/nosuch", "", 404),
            ("GET", "/openapi/v3", "", 200),
            ("GET", "/openapi/v3/apis/nosuch/v1", "", 404),
        ] {
            let answer = face.admin(method, target, body).await;
            assert_eq!(answer.code, code, "{method} {target} {body}: {}", answer.text());
            assert!(answer.headers.contains("audit-id"), "{target}");
            // What nobody serves is told by no object.
            let is_page = answer.text() == "404 page not found\n";
            let is_nowhere = target.contains("nosuch")
                && !target.starts_with("/api/v1/")
                && !target.starts_with("/openapi");
            assert_eq!(is_page, is_nowhere, "{target}");
            if code >= 400 && !is_page && !answer.bytes.is_empty() {
                let status = answer.tree();
                assert_eq!(status.str("kind"), "Status");
                assert_eq!(status.int("code"), Some(i64::from(code)), "{status}");
            }
        }
    });
}

#[test]
fn patches_say_what_they_are() {
    rt::block_on(async {
        let face = Face::new().await;
        let path = "/api/v1/namespaces/default/configmaps/a";
        let collection = "/api/v1/namespaces/default/configmaps";
        face.admin("POST", collection, r#"{"metadata":{"name":"a"},"data":{"a":"b"}}"#).await;
        for (content_type, query, body, code) in [
            ("application/merge-patch+json", "", r#"{"data":{"c":"d"}}"#, 200),
            ("application/strategic-merge-patch+json", "", r#"{"data":{"c":null}}"#, 200),
            ("application/json-patch+json", "", r#"[{"op":"remove","path":"/data/a"}]"#, 200),
            ("application/json-patch+json", "", r#"[{"op":"remove","path":"/data/a"}]"#, 422),
            ("application/json-patch+json", "", r#"{"a":1}"#, 400),
            ("application/merge-patch+json", "", "{", 400),
            ("application/merge-patch+json", "", "[]", 400),
            ("application/json", "", "{}", 415),
            (
                "application/apply-patch+yaml",
                "",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}",
                422,
            ),
            (
                "application/apply-patch+yaml",
                "?fieldManager=me",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}",
                200,
            ),
            ("application/merge-patch+json", "?force=true", "{}", 422),
            ("application/merge-patch+json", "", r#"{"metadata":{"resourceVersion":"1"}}"#, 409),
            ("application/merge-patch+json", "", r#"{"metadata":{"uid":"1"}}"#, 409),
            ("application/merge-patch+json", "", r#"{"kind":"Other"}"#, 422),
            ("application/merge-patch+json", "", r#"{"apiVersion":"v9"}"#, 422),
            ("application/merge-patch+json", "", r#"{"kind":null}"#, 200),
            ("application/strategic-merge-patch+json", "", r#"{"kind":"Other"}"#, 200),
        ] {
            let request = Request::new(Method::Patch, format!("{path}{query}"))
                .header("authorization", "Bearer admin")
                .header("content-type", content_type)
                .body(body.to_owned());
            let answer = face.ask(request).await;
            assert_eq!(answer.code, code, "{content_type} {body}: {}", answer.text());
        }
    });
}

#[test]
fn forms_are_negotiated() {
    rt::block_on(async {
        let face = Face::new().await;
        let get = |accept: &'static str, target: &'static str| {
            let request = Request::get(target)
                .header("authorization", "Bearer admin")
                .header("accept", accept);
            face.ask(request)
        };
        let table = get("application/json;as=Table;v=v1;g=meta.k8s.io", "/api/v1/namespaces").await;
        assert_eq!(table.tree().str("kind"), "Table");
        assert_eq!(table.tree().list("rows").len(), 4);
        let partial = get(
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            "/api/v1/namespaces",
        )
        .await;
        assert_eq!(partial.tree().str("kind"), "PartialObjectMetadataList");
        assert_eq!(partial.tree().list("items").len(), 4);
        let yaml = get("application/yaml", "/api/v1/namespaces/default").await;
        assert!(yaml.text().contains("kind: Namespace"), "{}", yaml.text());
        let protobuf = get("application/vnd.kubernetes.protobuf", "/api/v1/namespaces").await;
        assert!(protobuf.bytes.starts_with(b"k8s\0"));
        let pretty = get("application/json", "/api/v1/namespaces/default?pretty=true").await;
        assert!(pretty.text().contains("\n  \"apiVersion\": \"v1\""));
        assert_eq!(get("text/html", "/api/v1/namespaces").await.code, 406);
        let missing = get("application/vnd.kubernetes.protobuf", "/api/v1/namespaces/x").await;
        assert_eq!(missing.code, 404);
        assert!(missing.bytes.starts_with(b"k8s\0"));
        let discovery = get(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
            "/apis",
        )
        .await;
        assert_eq!(discovery.tree().str("kind"), "APIGroupDiscoveryList");
        let tag = discovery.headers.get("etag").unwrap().to_owned();
        let again = Request::get("/apis")
            .header("authorization", "Bearer admin")
            .header(
                "accept",
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            )
            .header("if-none-match", tag);
        assert_eq!(face.ask(again).await.code, 304);
        assert_eq!(get("application/json", "/api").await.tree().str("kind"), "APIVersions");
    });
}

#[test]
fn long_lists_stream_and_compress() {
    rt::block_on(async {
        let face = Face::new().await;
        let client = face.server.client_as(User::admin());
        for n in 0..150 {
            let tree = json!({
                "metadata": {"name": format!("c{n:03}"), "namespace": "default"},
                "data": {"text": "lorem ipsum ".repeat(100)},
            });
            client.create(&api::kinds::CONFIG_MAP, tree).await.unwrap();
        }
        let target = "/api/v1/namespaces/default/configmaps";
        let plain = face.admin("GET", target, "").await;
        assert_eq!(plain.tree().list("items").len(), 150);
        let item = plain.tree().at("items.7").clone();
        assert_eq!((item.str("metadata.name"), item.has("kind")), ("c007", false));
        let request = Request::get(target)
            .header("authorization", "Bearer admin")
            .header("accept-encoding", "gzip");
        let gzipped = face.ask(request).await;
        assert_eq!(gzipped.headers.get("content-encoding"), Some("gzip"));
        assert!(gzipped.bytes.len() < plain.bytes.len() / 5);
        let page = face.admin("GET", &format!("{target}?limit=100"), "").await.tree();
        assert_eq!(page.list("items").len(), 100);
        assert_eq!(page.int("metadata.remainingItemCount"), Some(50));
        let next = page.str("metadata.continue");
        let rest =
            face.admin("GET", &format!("{target}?limit=100&continue={next}"), "").await.tree();
        assert_eq!(rest.list("items").len(), 50);
        assert_eq!(rest.str("items.0.metadata.name"), "c100");
    });
}

#[test]
fn oversized_bodies_are_refused() {
    rt::block_on(async {
        let face = Face::new().await;
        let body =
            format!(r#"{{"metadata":{{"name":"a"}},"data":{{"a":"{}"}}}}"#, "x".repeat(3 << 20));
        let answer = face.admin("POST", "/api/v1/namespaces/default/configmaps", &body).await;
        assert_eq!(answer.code, 413, "{}", answer.text());
        assert_eq!(answer.tree().str("reason"), "RequestEntityTooLarge");
    });
}

#[test]
fn identities_are_told_apart() {
    rt::block_on(async {
        let face = Face::new().await;
        for (path, code) in [
            ("/healthz", 200),
            ("/livez/ping", 200),
            ("/readyz?verbose", 200),
            ("/version", 200),
            ("/api/v1/pods", 401),
            ("/apis/nosuch/v1/pods", 401),
            ("/", 401),
            ("/api", 401),
            ("/apis", 401),
            ("/openapi/v2", 401),
            ("/metrics", 401),
            ("/healthzz", 401),
            ("/versions", 401),
            ("/nosuch", 401),
            ("/api/v1/nodes/n/proxy/healthz", 401),
            ("/.well-known/openid-configuration", 401),
        ] {
            let answer = face.ask(Request::get(path)).await;
            assert_eq!(answer.code, code, "{path}: {}", answer.text());
            if code == 401 {
                let tree = answer.tree();
                assert_eq!(
                    (tree.str("reason"), tree.str("message")),
                    ("Unauthorized", "Unauthorized")
                );
                assert_eq!((tree.str("kind"), tree.int("code")), ("Status", Some(401)));
            }
        }
        let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let anonymous = Request::new(Method::Post, review).body("{}");
        assert_eq!(face.ask(anonymous).await.code, 401);
        assert_eq!(face.ask(Request::get("/version")).await.code, 200);
        let bad = Request::get("/version").header("authorization", "Bearer nonsense");
        assert_eq!(face.ask(bad).await.code, 401);
        let review = face
            .admin("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}")
            .await
            .tree();
        assert_eq!(review.str("status.userInfo.username"), "system:admin");

        let token = face
            .admin("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", "{}")
            .await;
        assert_eq!(token.code, 201, "{}", token.text());
        let token = token.tree().str("status.token").to_owned();
        let as_account = |method: &str, target: &str, body: &str| {
            let request = Request::new(Method::from(method), target)
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json")
                .body(body.to_owned());
            face.ask(request)
        };
        let refused = as_account("GET", "/api/v1/namespaces/default/pods", "").await.tree();
        assert_eq!(
            refused.str("message"),
            "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        );
        let review = json!({"spec": {"token": token}}).to_string();
        let review =
            face.admin("POST", "/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
        assert!(review.tree().flag("status.authenticated"), "{}", review.text());

        face.admin("DELETE", "/api/v1/namespaces/default/serviceaccounts/default", "").await;
        assert_eq!(as_account("GET", "/version", "").await.code, 401, "its account is gone");
    });
}

#[test]
fn impersonation_needs_permission() {
    rt::block_on(async {
        let face = Face::new().await;
        let request = |token: &str, groups: &[&str]| {
            let mut request = Request::get("/api/v1/pods")
                .header("authorization", format!("Bearer {token}"))
                .header("impersonate-user", "jane");
            for group in groups {
                request = request.header("impersonate-group", group);
            }
            request
        };
        let refused = face.ask(request("admin", &[])).await;
        assert!(refused.text().contains("User \\\"jane\\\" cannot list"), "{}", refused.text());
        assert_eq!(face.ask(request("admin", &["system:masters"])).await.code, 200);
        let anonymous = Request::get("/api/v1/pods").header("impersonate-user", "jane");
        assert_eq!(face.ask(anonymous).await.code, 401);
        let anonymous = Request::get("/version").header("impersonate-user", "jane");
        let refused = face.ask(anonymous).await;
        assert!(
            refused.text().contains(
                "users \\\"jane\\\" is forbidden: User \\\"system:anonymous\\\" cannot impersonate"
            ),
            "{}",
            refused.text()
        );
    });
}

#[test]
fn watches_stream_lines_until_their_time() {
    rt::block_on(async {
        let face = Face::new().await;
        let target =
            "/api/v1/namespaces?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Ddefault";
        let answer = face.admin("GET", target, "").await;
        let lines: Vec<Value> =
            answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].str("type"), "ADDED");
        assert_eq!(lines[0].str("object.metadata.name"), "default");
        let list =
            "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let answer = face.admin("GET", &format!("{target}{list}"), "").await;
        let bookmark = answer.text().lines().nth(1).unwrap().to_owned();
        let bookmark: Value = serde_json::from_str(&bookmark).unwrap();
        let annotations = &bookmark["object"]["metadata"]["annotations"];
        assert_eq!(annotations["k8s.io/initial-events-end"], "true");
        let blueprint = &annotations["kubernetes.io/initial-events-list-blueprint"];
        let blueprint = wire::base64::decode(blueprint.as_str().unwrap()).unwrap();
        let empty =
            "{\"kind\":\"NamespaceList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":null}\n";
        assert_eq!(blueprint, empty.as_bytes());
        assert_eq!(
            face.admin("GET", &format!("{target}&sendInitialEvents=true"), "").await.code,
            422
        );
    });
}

#[test]
fn nothing_in_a_path_or_query_panics() {
    rt::block_on(async {
        let face = Face::new().await;
        let mut prng = stdx::prng::Prng::new(11);
        let pieces = [
            "/",
            "api",
            "v1",
            "apis",
            "apps",
            "namespaces",
            "default",
            "pods",
            "x",
            "%2F",
            "..",
            "?",
            "watch",
            "&",
            "=",
            "limit",
            "1",
            "-1",
            "continue",
            "status",
            "proxy",
            "log",
            "exec",
            "%",
            "fieldSelector",
            "labelSelector",
            "a in (",
            "%00",
            "é",
            "deployments",
            "scale",
            "openapi",
            "v3",
        ];
        for round in 0..3000 {
            let target: String = (0..prng.below(12))
                .map(|_| pieces[prng.below(pieces.len() as u64) as usize])
                .collect();
            // A watch would last for half an hour.
            let target = format!("/{}", target.replace("watch", "wotch"));
            let method = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "X"][round % 7];
            let answer = face.admin(method, &target, "{}").await;
            assert_ne!(answer.code, 500, "{method} {target}: {}", answer.text());
        }
    });
}

#[test]
fn one_object_is_served_in_two_groups() {
    rt::block_on(async {
        let face = Face::new().await;
        let event = json!({
            "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
            "reason": "Started", "message": "it runs", "type": "Normal",
            "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:00:00Z", "count": 1,
        });
        let made =
            face.admin("POST", "/api/v1/namespaces/default/events", &event.to_string()).await;
        assert_eq!(made.code, 201, "{}", made.text());
        let target = "/apis/events.k8s.io/v1/namespaces/default/events";
        let list = face.admin("GET", target, "").await.tree();
        assert_eq!(list.str("apiVersion"), "events.k8s.io/v1");
        assert_eq!(list.str("items.0.note"), "it runs");
        assert!(!list.has("items.0.kind"));
        let one = face.admin("GET", &format!("{target}/e"), "").await.tree();
        assert_eq!((one.str("kind"), one.str("regarding.name")), ("Event", "p"));
        let table = Request::get(target)
            .header("authorization", "Bearer admin")
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
        let cells = face.ask(table).await.tree().at("rows.0.cells").to_string();
        assert!(cells.contains("it runs") && cells.contains("pod/p"), "{cells}");
    });
}

#[test]
fn no_body_panics() {
    rt::block_on(async {
        let face = Face::new().await;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-", "labels": {"a": "b"}},
            "spec": {
                "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}], "nodeSelector": {"x": "y"},
            },
        });
        let text = pod.to_string().into_bytes();
        let protobuf = api::codec::tree_to_protobuf(&pod).unwrap();
        let mut prng = stdx::prng::Prng::new(17);
        let interesting = b"\x00\xff{}[]\",:-0139eEtn\x80\x0a";
        for round in 0..1500 {
            let (media, mut bytes) = match round % 3 {
                0 => ("application/json", text.clone()),
                1 => ("application/yaml", text.clone()),
                _ => ("application/vnd.kubernetes.protobuf", protobuf.clone()),
            };
            for _ in 0..=prng.below(4) {
                let at = prng.below(bytes.len() as u64) as usize;
                match prng.below(4) {
                    0 => bytes[at] = interesting[prng.below(interesting.len() as u64) as usize],
                    1 => bytes.truncate(at.max(5)),
                    2 => bytes[at] ^= 1 << prng.below(8),
                    _ => {
                        let piece = bytes[at..(at + 9).min(bytes.len())].to_vec();
                        bytes.splice(at..at, piece);
                    }
                }
            }
            let request = Request::new(Method::Post, "/api/v1/namespaces/default/pods?dryRun=All")
                .header("authorization", "Bearer admin")
                .header("content-type", media)
                .body(bytes.clone());
            let answer = face.ask(request).await;
            assert_ne!(
                answer.code,
                500,
                "{media} {}: {}",
                String::from_utf8_lossy(&bytes),
                answer.text()
            );
        }
    });
}
