//! The roles of the server's own node: labels that a kubelet may not give itself.

use api::{Object, json, kinds};
use client::follow::{News, Selection, follow};
use client::{Client, PatchType, WatchEvent};
use std::time::Duration;
use stdx::backoff::Backoff;

/// As k3s labels the node of a server.
const LABELS: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// Keeps the role labels on the node called `name`, for as long as the task lives. `client` must be
/// one that may change any Node.
pub fn keep(client: Client, name: &str) -> rt::Task<Option<()>> {
    let name = name.to_owned();
    rt::spawn_named("node role", async move {
        let selection = Selection {
            kind: &kinds::NODE,
            namespace: String::new(),
            field_selector: format!("metadata.name={name}"),
        };
        let (tell, told) = rt::channel::bounded(1);
        let mut hear = move |news: News| {
            let node = match &news {
                News::Listed(list) => list.items.first(),
                News::Event(WatchEvent::Added(node) | WatchEvent::Modified(node)) => Some(node),
                News::Event(_) => None,
            };
            if node.is_some_and(lacks_role) {
                // Full is as good: it says that there is something to do.
                let _ = tell.try_send(());
            }
            true
        };
        let lacking = follow(client.clone(), selection, RETRY, &mut hear);
        let labelling = async {
            let mut failures = 0;
            while told.recv().await.is_ok() {
                while let Err(status) = label(&client, &name).await {
                    if status.is_not_found() {
                        break;
                    }
                    failures += 1;
                    log::warn!("label node {name}: {status}");
                    rt::sleep(RETRY.delay(failures)).await;
                }
                failures = 0;
            }
        };
        rt::future::or(lacking, labelling).await;
    })
}

fn lacks_role(node: &Object) -> bool {
    LABELS.iter().any(|label| node.label(label) != Some("true"))
}

async fn label(client: &Client, name: &str) -> Result<(), api::Status> {
    let labels: api::Map<String, api::Value> =
        LABELS.iter().map(|label| ((*label).to_owned(), "true".into())).collect();
    let patch = json!({"metadata": {"labels": labels}});
    client.patch(&kinds::NODE, "", name, "", PatchType::Merge, patch).await.map(drop)
}
