//! The objects that every cluster has before anyone asks: namespaces, priority classes, the `kubernetes`
//! Service and where it points, and what extension servers read.

use api::{Kind, Lens, LensMut, Object, Status, Value, json, kinds};
use client::Client;
use stdx::{Context, Result};

use crate::config::Config;

/// Namespaces that are always there (kube-apiserver's system namespaces).
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing and brings up to date what depends on the configuration.
///
/// # Errors
/// The first refusal, naming the object.
pub(super) async fn ensure(client: &Client, config: &Config) -> Result<()> {
    let namespace =
        |name: &&str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    all(client, NAMESPACES.iter().map(namespace).collect()).await?;
    let mut objects = vec![
        priority_class("system-node-critical", 2_000_001_000),
        priority_class("system-cluster-critical", 2_000_000_000),
    ];
    objects.push(authentication(config));
    objects.push(service(config));
    all(client, objects).await?;
    let (endpoints, slice) = endpoints(config);
    all(client, vec![endpoints, slice]).await
}

/// Ensures several objects at once, so that the store commits them together.
async fn all(client: &Client, objects: Vec<Value>) -> Result<()> {
    let tasks = objects.into_iter().map(|wanted| {
        let client = client.clone();
        rt::spawn(async move {
            let what = format!("{} {}", wanted.str("kind"), wanted.str("metadata.name"));
            one(&client, wanted).await.context(|| format!("make {what}"))
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await?;
    }
    Ok(())
}

async fn one(client: &Client, wanted: Value) -> Result<(), Status> {
    let Some(kind) = kinds::of_tree(&wanted) else { return Ok(()) };
    let found = client
        .get_optional(kind, wanted.str("metadata.namespace"), wanted.str("metadata.name"))
        .await?;
    match found {
        None => client.create(kind, wanted).await.map(drop),
        Some(found) => update(client, kind, &found, &wanted).await,
    }
}

/// Replaces the parts that are ours: what we would create, at their top level, beyond metadata and spec.
async fn update(
    client: &Client,
    kind: &'static Kind,
    found: &Object,
    wanted: &Value,
) -> Result<(), Status> {
    let mut tree = found.tree();
    let before = tree.clone();
    for field in ["data", "subsets", "endpoints", "ports"] {
        if wanted.has(field) {
            tree.set(field, wanted.at(field).clone());
        }
    }
    // The store writes defaults into what it holds; only a change of addresses or data is news.
    let same = ["data", "subsets", "endpoints"]
        .iter()
        .all(|field| gist(before.at(field)) == gist(wanted.at(field)));
    if same { Ok(()) } else { client.update(kind, tree).await.map(drop) }
}

/// Every text in a tree, which is where addresses and data are.
fn gist(tree: &Value) -> Vec<String> {
    match tree {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(gist).collect(),
        Value::Object(map) => map
            .iter()
            .filter(|(key, _)| *key != "ports" && *key != "conditions")
            .flat_map(|(_, value)| gist(value))
            .collect(),
        _ => Vec::new(),
    }
}

fn priority_class(name: &str, value: i64) -> Value {
    let what = if name.contains("node") { "node" } else { "cluster" };
    json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
        "description": format!("Used for system critical pods that must {}.", if what == "node" { "not be moved from their current node" } else { "run in the cluster, but can be moved to another node if necessary" }),
    })
}

/// How extension API servers check who calls them.
fn authentication(config: &Config) -> Value {
    let names = serde_json::to_string(&config.request_header_names).unwrap_or_default();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": String::from_utf8_lossy(&config.client_ca),
            "requestheader-client-ca-file": String::from_utf8_lossy(&config.request_header_ca),
            "requestheader-allowed-names": names,
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        },
    })
}

fn service(config: &Config) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.advertise_port}],
        },
    });
    if let Some(cidr) = config.service_cidrs.first() {
        service.set("spec.clusterIP", cidr.nth(1).to_string());
    }
    service
}

/// Where the `kubernetes` Service points: no selector finds the API server, so it says so itself.
fn endpoints(config: &Config) -> (Value, Value) {
    let addresses: Vec<String> =
        config.advertise_addresses.iter().map(ToString::to_string).collect();
    let subsets = json!([{
        "addresses": addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
        "ports": [{"name": "https", "port": config.advertise_port, "protocol": "TCP"}],
    }]);
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": if addresses.is_empty() { json!([]) } else { subsets },
    });
    let family = match config.advertise_addresses.first() {
        Some(address) if address.is_ipv6() => "IPv6",
        _ => "IPv4",
    };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family,
        "endpoints": addresses.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect::<Vec<_>>(),
        "ports": [{"name": "https", "port": config.advertise_port, "protocol": "TCP"}],
    });
    (endpoints, slice)
}
