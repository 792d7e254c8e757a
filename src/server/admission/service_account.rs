//! ServiceAccount: every pod runs as one, with its token, the cluster's CA and its namespace mounted.

use std::time::Duration;

use api::kinds::SERVICE_ACCOUNT;
use api::pod::references::{self, Target};
use api::{Lens, LensMut, Object, Status, Value, json};

use super::{Act, MIRROR};
use crate::registry::storage;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";

/// The controller makes `default` in a moment after the namespace: it is waited for this often.
const DEFAULT_TRIES_MAX: usize = 20;
const DEFAULT_TRY_EVERY: Duration = Duration::from_millis(75);

pub(super) async fn apply(act: &Act<'_>, pod: &mut Value) -> Result<(), Status> {
    if pod.entry("metadata.annotations", MIRROR).is_some() {
        return check_mirror(act, pod);
    }
    if pod.str("spec.serviceAccountName").is_empty() {
        let name = match pod.str("spec.serviceAccount") {
            "" => "default".to_owned(),
            name => name.to_owned(),
        };
        pod.set("spec.serviceAccountName", name);
    }
    let name = pod.str("spec.serviceAccountName").to_owned();
    // The old name of the field says the same.
    pod.set("spec.serviceAccount", name.as_str());
    let account = find(act, pod, &name).await?.tree();
    let automount = pod
        .at("spec.automountServiceAccountToken")
        .as_bool()
        .or(account.at("automountServiceAccountToken").as_bool())
        .unwrap_or(true);
    if automount {
        mount_token(pod);
    }
    if pod.list("spec.imagePullSecrets").is_empty() && !account.list("imagePullSecrets").is_empty()
    {
        pod.set("spec.imagePullSecrets", account.at("imagePullSecrets").clone());
    }
    Ok(())
}

async fn find(act: &Act<'_>, pod: &Value, name: &str) -> Result<Object, Status> {
    let namespace = &act.request.namespace;
    let tries = if name == "default" { DEFAULT_TRIES_MAX } else { 1 };
    for attempt in 0..tries {
        if attempt > 0 {
            rt::sleep(DEFAULT_TRY_EVERY).await;
        }
        if let Some(found) =
            storage::find(&act.core.store, &SERVICE_ACCOUNT, namespace, name).await?
        {
            return Ok(found);
        }
    }
    Err(act.forbidden(
        pod,
        format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ),
    ))
}

/// Mirror pods show what a kubelet runs by itself: they can have nothing of the API.
fn check_mirror(act: &Act<'_>, pod: &Value) -> Result<(), Status> {
    let why = match references::first(pod, |target| target <= Target::Secret) {
        None => return Ok(()),
        Some(Target::ServiceAccount) => "a mirror pod may not reference service accounts",
        Some(Target::ServiceAccountToken) => {
            "a mirror pod may not use ServiceAccountToken volume projections"
        }
        Some(_) => "a mirror pod may not reference secrets",
    };
    Err(act.forbidden(pod, why))
}

fn mount_token(pod: &mut Value) {
    let existing = pod
        .list("spec.volumes")
        .iter()
        .map(|volume| volume.str("name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let name = existing.clone().unwrap_or_else(|| {
        let mut random = [0; 5];
        rt::random(&mut random);
        api::names::generate(VOLUME_PREFIX, random)
    });
    let mut mounted = false;
    for path in ["spec.initContainers", "spec.containers"] {
        let Some(Value::Array(containers)) = pod.at_mut(path) else { continue };
        for container in containers {
            let own =
                container.list("volumeMounts").iter().any(|m| m.str("mountPath") == MOUNT_PATH);
            if !own {
                container
                    .list_mut("volumeMounts")
                    .push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                mounted = true;
            }
        }
    }
    if mounted && existing.is_none() {
        pod.list_mut("spec.volumes").push(json!({
            "name": name,
            "projected": {
                "defaultMode": 0o644,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }},
                    {"downwardAPI": {"items": [{
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }]}},
                ],
            },
        }));
    }
}
