//! The Node before the kubelet runs: registered, waited for until it has its pod range, and told why the
//! node cannot start.

use std::path::PathBuf;
use std::time::Duration;

use api::{Lens, LensMut, Object, Status, Value, json, kinds};
use client::follow::{News, Selection, follow};
use client::{Client, PatchType, WatchEvent};
use stdx::backoff::Backoff;
use stdx::time::Wall;

use super::facts;
use crate::config::Config;

const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
/// After this long the Node says what it waits for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a server that does not answer is waited for by a node that knows its range already.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Registers the node and waits until a controller has given it its pod range (`spec.podCIDRs`), which
/// it answers. A node that had one goes on with it while the server does not answer: its pods run.
pub async fn register(config: &Config, client: &Client) -> Vec<String> {
    let file = range_file(config);
    let known: Vec<String> =
        rt::fs::read_small_text(&file).unwrap_or_default().lines().map(str::to_owned).collect();
    let asking = given_range(config, client);
    let range = match known.is_empty() {
        true => asking.await,
        false => match rt::timeout(ANSWER_MAX, asking).await {
            Ok(range) => range,
            Err(rt::Elapsed) => {
                log::warn!(
                    "The server does not answer: the node goes on with {}",
                    known.join(", ")
                );
                return known;
            }
        },
    };
    if range != known {
        let text: String = range.iter().map(|block| format!("{block}\n")).collect();
        if let Err(error) =
            rt::unblock(move || rt::fs::write_atomic(file, text.as_bytes(), 0o600)).await
        {
            log::warn!("remember the node's pod range: {error}");
        }
    }
    range
}

/// Where the range is kept for a start without the server.
fn range_file(config: &Config) -> PathBuf {
    config.agent_directory.join("pod-cidrs")
}

async fn given_range(config: &Config, client: &Client) -> Vec<String> {
    let mut failures = 0;
    loop {
        match ensure(config, client).await {
            Ok(node) => {
                if let Some(range) = range_of(&node) {
                    return range;
                }
                let told = async {
                    rt::sleep(PATIENCE).await;
                    let why = "no controller has given it a pod range (spec.podCIDRs) yet";
                    log::warn!("node {}: {why}", config.node_name);
                    if let Err(status) = report_not_ready(config, client, why).await {
                        log::debug!("node {}: {status}", config.node_name);
                    }
                    rt::future::pending().await
                };
                if let Some(range) = rt::future::or(watched_range(config, client), told).await {
                    return range;
                }
                // The Node was deleted.
                failures = 0;
            }
            Err(status) => {
                failures += 1;
                if failures > 3 {
                    log::warn!("node {}: {status}", config.node_name);
                }
            }
        }
        rt::sleep(RETRY.delay(failures)).await;
    }
}

/// Waits for the range; `None` if the Node goes away.
async fn watched_range(config: &Config, client: &Client) -> Option<Vec<String>> {
    let mut range = None;
    let selection = Selection {
        kind: &kinds::NODE,
        namespace: String::new(),
        field_selector: format!("metadata.name={}", config.node_name),
    };
    let mut hear = |news: News| {
        let node = match &news {
            News::Listed(list) => match list.items.first() {
                Some(node) => node,
                None => return false,
            },
            News::Event(WatchEvent::Added(node) | WatchEvent::Modified(node)) => node,
            News::Event(WatchEvent::Deleted(_)) => return false,
            News::Event(WatchEvent::Bookmark { .. }) => return true,
        };
        range = range_of(node);
        range.is_none()
    };
    follow(client.clone(), selection, RETRY, &mut hear).await;
    range
}

fn range_of(node: &Object) -> Option<Vec<String>> {
    let tree = node.tree();
    let blocks: Vec<String> =
        tree.list("spec.podCIDRs").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    (!blocks.is_empty()).then_some(blocks)
}

/// The Node, made if there is none.
async fn ensure(config: &Config, client: &Client) -> Result<Object, Status> {
    let name = &config.node_name;
    if let Some(existing) = client.get_optional(&kinds::NODE, "", name).await? {
        return Ok(existing);
    }
    if !config.registers {
        return Err(Status::not_found(&kinds::NODE, name));
    }
    let wanted = registration(config, facts::architecture(), &config.node_ips);
    match client.create(&kinds::NODE, wanted).await {
        Err(status) if status.is_already_exists() => client.get(&kinds::NODE, "", name).await,
        Err(status) => Err(status),
        Ok(created) => {
            log::info!("node {name}: registered");
            Ok(created)
        }
    }
}

/// The Node as it is first created, without status.
pub(super) fn registration(
    config: &Config,
    architecture: &str,
    node_ips: &[std::net::IpAddr],
) -> Value {
    let mut labels = api::Map::new();
    for (key, value) in [
        ("beta.kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/instance-type", "k3s"),
        ("kubernetes.io/arch", architecture),
        ("kubernetes.io/os", "linux"),
        // As k3s, whose kubelet is told the node's name as the host's.
        ("kubernetes.io/hostname", &*config.node_name),
        ("node.kubernetes.io/instance-type", "k3s"),
    ] {
        labels.insert(key.into(), value.into());
    }
    for (key, value) in &config.labels {
        labels.insert(key.clone(), value.clone().into());
    }
    let mut annotations = api::Map::new();
    let ips: Vec<String> = node_ips.iter().map(ToString::to_string).collect();
    for (key, value) in [
        ("alpha.kubernetes.io/provided-node-ip", ips.join(",")),
        ("volumes.kubernetes.io/controller-managed-attach-detach", "true".into()),
    ] {
        annotations.insert(key.into(), value.into());
    }
    for (key, value) in &config.annotations {
        annotations.insert(key.clone(), value.clone().into());
    }
    let mut taints: Vec<Value> = config
        .taints
        .iter()
        .map(|taint| {
            let mut tree = json!({"key": taint.key, "effect": taint.effect});
            if !taint.value.is_empty() {
                tree.set("value", taint.value.as_str());
            }
            tree
        })
        .collect();
    if config.external_cloud {
        taints.push(json!({
            "key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true",
            "effect": "NoSchedule",
        }));
    }
    let mut spec = json!({});
    if !config.provider_id.is_empty() {
        spec.set("providerID", config.provider_id.as_str());
    }
    if !taints.is_empty() {
        spec.set("taints", taints);
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": config.node_name, "labels": labels, "annotations": annotations},
        "spec": spec,
    })
}

/// Writes the Node with the condition that it is not ready, and why.
///
/// # Errors
/// If the API does not take it.
pub async fn report_not_ready(config: &Config, client: &Client, why: &str) -> Result<(), Status> {
    let tree = ensure(config, client).await?.tree();
    let patch = json!({"status": {"conditions": conditions(&tree, why, rt::now().wall)}});
    let name = &config.node_name;
    client.patch(&kinds::NODE, "", name, "status", PatchType::Merge, patch).await.map(drop)
}

/// The Node's conditions with `Ready` as it is now; the others stay.
fn conditions(node: &Value, why: &str, now: Wall) -> Vec<Value> {
    let old = node.list("status.conditions");
    let before = old.iter().find(|condition| condition.str("type") == "Ready");
    let since = before
        .filter(|condition| condition.str("status") == "False")
        .map(|condition| condition.str("lastTransitionTime").to_owned());
    let now = api::time::format(now);
    let mut ready = json!({
        "type": "Ready", "status": "False", "reason": "KubeletNotReady",
        "message": format!("the node cannot start: {why}"), "lastHeartbeatTime": now,
    });
    ready.set("lastTransitionTime", since.unwrap_or(now));
    let others = old.iter().filter(|condition| condition.str("type") != "Ready").cloned();
    others.chain([ready]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::{Answer, List, Verb};
    use std::sync::{Arc, Mutex};

    #[test]
    fn the_condition_keeps_its_time_and_its_neighbours() {
        let now = Wall::from_secs(1_800_000_000);
        let first = conditions(&json!({}), "no overlayfs", now);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].str("message"), "the node cannot start: no overlayfs");
        let old = json!({"status": {"conditions": [
            {"type": "MemoryPressure", "status": "False"},
            {"type": "Ready", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"},
        ]}});
        let second = conditions(&old, "x", now);
        assert_eq!(second.len(), 2);
        assert_eq!(second[1].str("lastTransitionTime"), "2020-01-01T00:00:00Z");
        assert_ne!(second[1].str("lastHeartbeatTime"), "2020-01-01T00:00:00Z");
    }

    fn node(revision: u64, blocks: &[&str]) -> Object {
        let tree = json!({"metadata": {"name": "n", "resourceVersion": revision.to_string()},
            "spec": {"podCIDRs": blocks}});
        Object::from_tree(&kinds::NODE, &tree).unwrap()
    }

    #[test]
    fn the_range_is_the_nodes_and_is_remembered() {
        let directory = crate::testing::directory("register");
        let config = Arc::new(Config::new("n", directory.path(), "v"));
        let asked = Arc::clone(&config);
        let end = rt::sim::run(3, 1_000_000, async move {
            let stored: Arc<Mutex<Option<Object>>> = Arc::default();
            let told = Arc::new(Mutex::new(Vec::new()));
            let (inner, heard) = (Arc::clone(&stored), Arc::clone(&told));
            let (client, events) = crate::testing::client(move |request| {
                let mut stored = inner.lock().unwrap();
                match request.verb {
                    Verb::Create => *stored = Some(node(2, &[])),
                    Verb::Patch => heard.lock().unwrap().push(request.body),
                    Verb::List => {
                        let items = stored.iter().cloned().collect();
                        return Ok(Answer::List(List { items, revision: 2, ..List::default() }));
                    }
                    _ => {}
                }
                let found = stored.clone();
                found.map(Answer::Object).ok_or_else(|| Status::not_found(&kinds::NODE, "n"))
            });
            let waiting = rt::spawn({
                let (config, client) = (Arc::clone(&asked), client.clone());
                async move { register(&config, &client).await }
            });
            rt::sleep(PATIENCE * 2).await;
            assert_eq!(told.lock().unwrap().len(), 1, "the Node says what it waits for");
            events.send(WatchEvent::Modified(node(3, &["10.42.7.0/24"]))).await.unwrap();
            assert_eq!(waiting.await, ["10.42.7.0/24"]);
            let (silent, _events) =
                crate::testing::client(|_| Err(Status::unavailable("nobody is there")));
            assert_eq!(register(&asked, &silent).await, ["10.42.7.0/24"], "without the server");
        });
        assert_eq!(end, rt::sim::End::Done(()));
    }
}
