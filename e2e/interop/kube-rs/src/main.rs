//! What programs built on kube-rs do: typed and dynamic clients, patches and server-side apply, watchers and reflectors by
//! list and by WatchList, a derived custom resource with its controller and finalizer, exec, logs and port-forward.
//!
//!     KUBECONFIG=FILE kube-rs

mod custom;
mod objects;
mod streams;
mod watches;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Error};
use serde_json::json;

const NAMESPACE: &str = "kube-rs";
const PART_MAX: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> ExitCode {
    let client = match Client::try_default().await {
        Ok(client) => client,
        Err(error) => {
            println!("FAIL  a client: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut n_failed = 0;
    macro_rules! check {
        ($name:literal, $part:path) => {
            let began = Instant::now();
            let ended = tokio::time::timeout(PART_MAX, $part(client.clone())).await;
            match ended.unwrap_or_else(|_| Err(anyhow!("it does not end"))) {
                Ok(()) => println!("ok    {:<52} {:5.1} s", $name, began.elapsed().as_secs_f64()),
                Err(error) => {
                    n_failed += 1;
                    println!("FAIL  {}: {error:?}", $name);
                }
            }
        };
    }
    check!("a namespace", namespace);
    check!("typed objects, their errors and preconditions", objects::typed);
    check!("merge, strategic and JSON patches", objects::patched);
    check!("server-side apply and its conflicts", objects::applied);
    check!("lists in pages, metadata and Tables' kinds", objects::listed);
    check!("scale, status, tokens and reviews", objects::subresources);
    check!("discovery, and objects of kinds found by it", objects::discovered);
    check!("a watcher that lists", watches::by_list);
    check!("a watcher by WatchList", watches::by_watch_list);
    check!("a reflector and those who wait for it", watches::reflected);
    check!("a watch from a revision that is gone", watches::expired);
    check!("a derived custom resource", custom::derived);
    check!("its controller, finalizer and events", custom::controlled);
    check!("logs, also while they are written", streams::logs);
    check!("exec with input, output and exit code", streams::exec);
    check!("a terminal that is resized", streams::terminal);
    check!("port-forward", streams::forwarded);
    check!("the namespace goes with all that is in it", gone);
    if n_failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn namespace(client: Client) -> Result<()> {
    let made = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &made).await?;
    // Pods wait for it.
    let accounts = Api::namespaced(client, NAMESPACE);
    let is_there = |found: Option<&k8s_openapi::api::core::v1::ServiceAccount>| found.is_some();
    await_condition(accounts, "default", is_there).await?;
    Ok(())
}

async fn gone(client: Client) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let found = namespaces.get(NAMESPACE).await?;
    let uid = found.metadata.uid.unwrap_or_default();
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await?;
    await_condition(namespaces, NAMESPACE, conditions::is_deleted(&uid)).await?;
    let left = Api::<ConfigMap>::namespaced(client, NAMESPACE).list(&Default::default()).await?;
    expect(left.items.is_empty(), || format!("{} ConfigMaps are left", left.items.len()))
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    let tree =
        json!({"metadata": {"name": name, "labels": {"kube-rs": "yes"}}, "data": {"a": value}});
    serde_json::from_value(tree).expect("a ConfigMap")
}

fn expect(is: bool, what: impl FnOnce() -> String) -> Result<()> {
    if is { Ok(()) } else { Err(anyhow!(what())) }
}

/// That something was refused with this code and reason.
fn refused<T>(answer: kube::Result<T>, code: u16, reason: &str) -> Result<()> {
    match answer {
        Err(Error::Api(said)) if said.code == code && said.reason == reason => Ok(()),
        Err(error) => Err(anyhow!("not {code} {reason} but {error:?}")),
        Ok(_) => Err(anyhow!("not {code} {reason} but done")),
    }
}
