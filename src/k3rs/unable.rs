//! A node that cannot start: the API goes on, its Node says why, and it is tried again.

use std::time::Duration;

use api::{Lens, LensMut, Value, json, kinds};
use client::{Client, PatchType};
use cluster::Pki;
use server::{Server, User};
use stdx::Result;
use stdx::backoff::Backoff;

use crate::follow::Shown;
use crate::node::{self, Agent};
use crate::server::Machine;

/// A missing module may be loaded, a file system mounted: the next try finds it.
const RETRY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));

/// Says what this kernel lacks, then starts the node, however many attempts it takes.
///
/// # Errors
/// If the flags of the node are wrong: no later attempt would help.
pub(crate) async fn start(
    machine: &Machine,
    server: &Server,
    pki: &Pki,
    shown: &Shown,
) -> Result<Agent> {
    node::check_flags(machine)?;
    let substitutes = rt::unblock(sys::lacks::substitutes).await;
    if !substitutes.is_empty() {
        log::info!("This kernel has no {}", substitutes.join(", no "));
    }
    let mut failures = 0;
    loop {
        let lacks = rt::unblock(sys::lacks::find).await;
        let notices: Vec<String> = lacks.iter().map(ToString::to_string).collect();
        if failures == 0 {
            notices.iter().for_each(|notice| log::warn!("This kernel lacks something: {notice}"));
        }
        let why = match lacks.into_iter().find(|lack| lack.fatal) {
            Some(lack) => lack.to_string(),
            None => match node::start(machine, server, pki, shown, notices).await {
                Ok(agent) => return Ok(agent),
                Err(error) => error.to_string(),
            },
        };
        failures += 1;
        let rest = RETRY.delay(failures);
        log::error!(
            "The node cannot start: {why}. The API is served; next try in {} s",
            rest.as_secs()
        );
        let client = server.client_as(User::node(&machine.node_name));
        if let Err(status) = tell(&client, &machine.node_name, &why).await {
            log::warn!("node {}: {status}", machine.node_name);
        }
        rt::sleep(rest).await;
    }
}

/// Writes the Node with the condition that it is not ready, and why.
async fn tell(client: &Client, name: &str, why: &str) -> std::result::Result<(), api::Status> {
    let wanted = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let existing = match client.get_optional(&kinds::NODE, "", name).await? {
        Some(existing) => existing,
        None => client.create(&kinds::NODE, wanted).await?,
    };
    let tree = existing.tree();
    let patch = json!({"status": {"conditions": conditions(&tree, why, rt::now().wall)}});
    client.patch(&kinds::NODE, "", name, "status", PatchType::Merge, patch).await.map(drop)
}

/// The Node's conditions with `Ready` as it is now; the others stay.
fn conditions(node: &Value, why: &str, now: stdx::time::Wall) -> Vec<Value> {
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

    #[test]
    fn the_condition_keeps_its_time_and_its_neighbours() {
        let now = stdx::time::Wall::from_secs(1_800_000_000);
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
}
