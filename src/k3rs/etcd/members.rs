//! Nodes and members of the embedded etcd: whose Node is deleted is a member no more. A finalizer of k3s's name has the
//! deletion wait until it is done.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::kinds::NODE;
use api::{Lens, Object, Status, Value, json};
use client::follow::{News, Selection, follow};
use client::{Client, PatchType, WatchEvent};
use cluster::role::{ETCD_ADDRESS, ETCD_LABEL, ETCD_NAME};
use datastore::embedded::{self, Member};
use stdx::{OrdSet, backoff::Backoff};

use crate::etcd::embedded::Embedded;

const FINALIZER: &str = "wrangler.cattle.io/managed-etcd-controller";
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// Does it for as long as the task lives. One server does, and `client` may change any Node.
pub(crate) fn keep(client: Client, etcd: Arc<Embedded>) -> rt::Task<Option<()>> {
    rt::spawn_named("etcd members", async move {
        // Names of Nodes that want something: never more than there are.
        let wanting: Mutex<OrdSet<String>> = Mutex::default();
        let (tell, told) = rt::channel::bounded(1);
        let mut hear = |news: News| {
            let nodes = match &news {
                News::Listed(list) => &list.items[..],
                News::Event(WatchEvent::Added(node) | WatchEvent::Modified(node)) => {
                    std::slice::from_ref(node)
                }
                News::Event(_) => &[],
            };
            let names = nodes.iter().filter(|node| step(node).is_some()).map(Object::name);
            let mut wanting = wanting.lock().unwrap_or_else(PoisonError::into_inner);
            wanting.extend(names.map(str::to_owned));
            // Full is as good: it says that there is something to do.
            let _ = tell.try_send(());
            true
        };
        let nodes =
            Selection { kind: &NODE, namespace: String::new(), field_selector: String::new() };
        let following = follow(client.clone(), nodes, RETRY, &mut hear);
        let working = async {
            while told.recv().await.is_ok() {
                let mut failures = 0;
                loop {
                    let next = wanting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
                    let Some(name) = next else { break };
                    if let Err(why) = settle(&client, &etcd, &name).await {
                        failures += 1;
                        log::warn!("node {name}, a member of etcd: {why}");
                        wanting.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
                        rt::sleep(RETRY.delay(failures)).await;
                    }
                }
            }
        };
        rt::future::or(following, working).await;
    })
}

/// What a Node wants.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Finalizer,
    /// To be a member no more, and then to go.
    Removal,
}

fn step(node: &Object) -> Option<Step> {
    node.label(ETCD_LABEL)?;
    let has = finalizers(&node.tree()).iter().any(|one| one.as_str() == Some(FINALIZER));
    match (node.deleting(), has) {
        (false, false) => Some(Step::Finalizer),
        (true, true) => Some(Step::Removal),
        _ => None,
    }
}

fn finalizers(node: &Value) -> Vec<Value> {
    node.list("metadata.finalizers").to_vec()
}

async fn settle(client: &Client, etcd: &Embedded, name: &str) -> Result<(), String> {
    let words = |status: Status| status.to_string();
    let Some(node) = client.get_optional(&NODE, "", name).await.map_err(words)? else {
        return Ok(());
    };
    let tree = node.tree();
    let mut finalizers = finalizers(&tree);
    match step(&node) {
        None => return Ok(()),
        Some(Step::Finalizer) => finalizers.push(FINALIZER.into()),
        Some(Step::Removal) => {
            remove(etcd, &node).await?;
            finalizers.retain(|one| one.as_str() != Some(FINALIZER));
        }
    }
    let version = tree.str("metadata.resourceVersion");
    let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
    match client.patch(&NODE, "", name, "", PatchType::Merge, patch).await {
        // What changed it meanwhile is news of it, too.
        Err(status) if status.is_conflict() => Ok(()),
        patched => patched.map(drop).map_err(words),
    }
}

/// Removes the member of a Node, if there is one.
async fn remove(etcd: &Embedded, node: &Object) -> Result<(), String> {
    let of = |key| api::balance::annotation(node, key).unwrap_or_default();
    let members = etcd.members().list().await.map_err(|status| status.message)?;
    let Some(member) = member_of(&members, node.name(), of(ETCD_NAME), of(ETCD_ADDRESS)) else {
        return Ok(());
    };
    if members.iter().all(|other| other.id == member.id || other.is_learner) {
        log::info!("Node {} goes, and its member of etcd stays: it is the only one", node.name());
        return Ok(());
    }
    let address = of(ETCD_ADDRESS);
    log::info!("Removing name={} id={} address={address} from etcd", member.name, member.id);
    etcd.members().remove(member.id).await.map_err(|status| status.message)
}

/// The member that a Node tells of. A kubelet writes annotations of its own Node: they name no other's member.
fn member_of<'a>(
    members: &'a [Member],
    node: &str,
    name: &str,
    address: &str,
) -> Option<&'a Member> {
    let is_at = |member: &Member| {
        let known = member.peer_urls.iter().filter_map(|url| embedded::host(url));
        known.map(|ip| ip.to_string()).any(|ip| ip == address)
    };
    let mut of_node = members.iter().filter(|member| embedded::node_of(&member.name) == node);
    of_node.find(|member| member.name == name && is_at(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(tree: Value) -> Object {
        Object::from_tree(&NODE, &tree).unwrap()
    }

    #[test]
    fn what_a_node_wants() {
        let labelled = json!({ETCD_LABEL: "true"});
        let deleted = "2024-01-01T00:00:00Z";
        for (metadata, wanted) in [
            (json!({"name": "n"}), None),
            (json!({"name": "n", "deletionTimestamp": deleted, "finalizers": [FINALIZER]}), None),
            (json!({"name": "n", "labels": labelled}), Some(Step::Finalizer)),
            (
                json!({"name": "n", "labels": labelled, "finalizers": ["a/b"]}),
                Some(Step::Finalizer),
            ),
            (json!({"name": "n", "labels": labelled, "finalizers": ["a/b", FINALIZER]}), None),
            (
                json!({"name": "n", "labels": labelled, "finalizers": [FINALIZER], "deletionTimestamp": deleted}),
                Some(Step::Removal),
            ),
            (
                json!({"name": "n", "labels": labelled, "finalizers": ["a/b"], "deletionTimestamp": deleted}),
                None,
            ),
        ] {
            let found =
                step(&node(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata})));
            assert_eq!(found, wanted, "{metadata}");
        }
    }

    #[test]
    fn a_node_names_its_own_member_only() {
        let member = |name: &str, ip: &str| Member {
            name: name.into(),
            peer_urls: vec![format!("https://{ip}:2380")],
            ..Member::default()
        };
        let members = [member("a-1", "192.0.2.1"), member("b-1", "192.0.2.2")];
        let found = |node, name, address| {
            member_of(&members, node, name, address).map(|member| member.name.as_str())
        };
        assert_eq!(found("a", "a-1", "192.0.2.1"), Some("a-1"));
        for (node, name, address) in [
            ("a", "b-1", "192.0.2.2"),
            ("a", "a-1", "192.0.2.2"),
            ("a", "a-2", "192.0.2.1"),
            ("a", "", ""),
            ("", "", ""),
        ] {
            assert_eq!(found(node, name, address), None, "{node} {name} {address}");
        }
    }
}
