//! The objects of a new cluster beside its roles: namespaces, priority classes, the API's own Service.

use std::net::IpAddr;
use std::time::Duration;

use api::kinds::{CONFIG_MAP, ENDPOINT_SLICE, ENDPOINTS, NAMESPACE, PRIORITY_CLASS, SERVICE};
use api::{Kind, Lens, LensMut, Status, Value, json};
use client::Client;
use stdx::Arrange;
use stdx::{Context, Result};

use crate::config::Config;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes the namespaces that are missing. Everything else lies in them.
///
/// # Errors
/// The first refusal.
pub(crate) async fn namespaces(client: &Client) -> Result<()> {
    // All at once, so that the store commits them together.
    let tasks: Vec<_> = NAMESPACES
        .iter()
        .map(|name| {
            let client = client.clone();
            let tree = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            rt::spawn(async move {
                ensure(&client, &NAMESPACE, tree, |_, _| false)
                    .await
                    .context(|| format!("make namespace {name}"))
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    Ok(())
}

/// Makes the priority classes of the system and what extension servers read.
///
/// # Errors
/// The first refusal.
pub(crate) async fn rest(client: &Client, config: &Config) -> Result<()> {
    let classes = [
        (
            "system-node-critical",
            2_000_001_000_i64,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    for (name, value, description) in classes {
        let tree = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description,
        });
        ensure(client, &PRIORITY_CLASS, tree, |_, _| false)
            .await
            .context(|| format!("make priority class {name}"))?;
    }
    ensure(client, &CONFIG_MAP, authentication(config), |found, wanted| {
        let mut changed = false;
        for (key, value) in wanted.pairs("data") {
            if found.entry("data", key) != Some(value) {
                found.map_mut("data").insert(key.to_owned(), value.into());
                changed = true;
            }
        }
        changed
    })
    .await
    .context(|| "write kube-system/extension-apiserver-authentication")
}

/// How extension servers may know who asks.
fn authentication(config: &Config) -> Value {
    let mut data = json!({});
    if !config.client_ca.is_empty() {
        data["client-ca-file"] = String::from_utf8_lossy(&config.client_ca).into();
    }
    if !config.request_header_ca.is_empty() {
        data["requestheader-allowed-names"] = json!(config.request_header_names).to_string().into();
        data["requestheader-client-ca-file"] =
            String::from_utf8_lossy(&config.request_header_ca).into();
        data["requestheader-extra-headers-prefix"] = r#"["X-Remote-Extra-"]"#.into();
        data["requestheader-group-headers"] = r#"["X-Remote-Group"]"#.into();
        data["requestheader-username-headers"] = r#"["X-Remote-User"]"#.into();
    }
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": data,
    })
}

/// Makes `default/kubernetes` and points it at the addresses where the API is served.
///
/// # Errors
/// The first refusal.
pub(crate) async fn api_service(
    client: &Client,
    config: &Config,
    addresses: &[IpAddr],
) -> Result<()> {
    let what = || "make the kubernetes Service";
    let Some(first) = config.service_cidrs.first() else { return Ok(()) };
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": first.nth(1).to_string(), "type": "ClusterIP", "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.advertise_port}],
        },
    });
    ensure(client, &SERVICE, service, |found, wanted| set_if(found, wanted, "spec.ports"))
        .await
        .context(what)?;
    let mut addresses: Vec<String> = addresses
        .iter()
        // Nothing in a pod could be reached there, and validation refuses it.
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .filter(|address| address.is_ipv4() == first.address.is_ipv4())
        .map(IpAddr::to_string)
        .collect();
    addresses.arrange();
    if addresses.is_empty() {
        return Ok(());
    }
    let port = json!([{"name": "https", "port": config.advertise_port, "protocol": "TCP"}]);
    let listed: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": listed, "ports": port}],
    });
    ensure(client, &ENDPOINTS, endpoints, |found, wanted| set_if(found, wanted, "subsets"))
        .await
        .context(what)?;
    let ready: Vec<Value> = addresses
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {api::kinds::SERVICE_NAME_LABEL: "kubernetes"},
        },
        "addressType": crate::allocate::family(first.address), "ports": port, "endpoints": ready,
    });
    ensure(client, &ENDPOINT_SLICE, slice, |found, wanted| {
        let ports = set_if(found, wanted, "ports");
        set_if(found, wanted, "endpoints") || ports
    })
    .await
    .context(what)
}

/// Puts what is wanted at a path; true if it was not there. Fields that the wanted lists do not
/// name (defaults) count as equal.
fn set_if(found: &mut Value, wanted: &Value, path: &str) -> bool {
    if covers(found.at(path), wanted.at(path)) {
        return false;
    }
    found.set(path, wanted.at(path).clone());
    true
}

/// Whether `found` says all that `wanted` says.
fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| covers(f, w))
        }
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, w)| found.get(key).is_some_and(|f| covers(f, w)))
        }
        (found, wanted) => found == wanted,
    }
}

/// Creates the object, or changes the one there is if `adjust` (found, wanted) says that it must. Other servers that
/// start at the same time do the same.
pub(super) async fn ensure(
    client: &Client,
    kind: &'static Kind,
    wanted: Value,
    adjust: impl Fn(&mut Value, &Value) -> bool + Sync,
) -> Result<(), Status> {
    ensure_by(client, kind, wanted, &adjust).await
}

/// Once for all kinds.
async fn ensure_by(
    client: &Client,
    kind: &'static Kind,
    wanted: Value,
    adjust: &(dyn Fn(&mut Value, &Value) -> bool + Sync),
) -> Result<(), Status> {
    let (namespace, name) = (wanted.str("metadata.namespace"), wanted.str("metadata.name"));
    let mut n_tries = 0;
    loop {
        let done = match client.get_optional(kind, namespace, name).await? {
            None => client.create(kind, wanted.clone()).await,
            Some(found) => {
                let mut tree = found.tree();
                match adjust(&mut tree, &wanted) {
                    true => client.update(kind, tree).await,
                    false => return Ok(()),
                }
            }
        };
        n_tries += 1;
        match done {
            Ok(_) => return Ok(()),
            Err(status) if !status.is_already_exists() && !status.is_conflict() => {
                return Err(status);
            }
            Err(status) if n_tries == TRIES_MAX => return Err(status),
            // Somebody was faster: what there is now may do.
            Err(_) => rt::sleep(Duration::from_millis(rt::random_u64() % APART_MAX_MILLIS)).await,
        }
    }
}

/// How often others may be faster.
const TRIES_MAX: usize = 20;
/// Servers that make the same object at once try again at different times.
const APART_MAX_MILLIS: u64 = 50;
