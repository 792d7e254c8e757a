//! The roles of the server's own node: labels that a kubelet may not give itself.

use api::{Object, json, kinds};
use client::follow::{News, Selection, follow};
use client::{Client, PatchType, WatchEvent};
use std::time::Duration;
use stdx::backoff::Backoff;

/// As k3s labels the node of a server.
const LABELS: [&str; 2] = [CONTROL_PLANE, "node-role.kubernetes.io/master"];
pub(crate) const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// The same for one that has a member of the embedded etcd.
pub const ETCD_LABEL: &str = "node-role.kubernetes.io/etcd";
pub const ETCD_NAME: &str = "etcd.k3s.cattle.io/node-name";
pub const ETCD_ADDRESS: &str = "etcd.k3s.cattle.io/node-address";

/// A member of the embedded etcd, as its Node tells of it.
#[derive(Debug, Clone)]
pub struct Member {
    pub name: String,
    pub address: String,
}

/// What a server's Node has, and has not: its labels and its annotations.
type Marks = [Vec<(&'static str, Option<String>)>; 2];

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// Keeps the role labels, and what is told of a member, on the node called `name`, for as long as the task lives.
/// `client` must be one that may change any Node, `has_api` says whether the server has a control plane.
pub fn keep(
    client: Client,
    name: &str,
    has_api: bool,
    member: Option<Member>,
) -> rt::Task<Option<()>> {
    let name = name.to_owned();
    let marks = marks(has_api, member);
    rt::spawn_named("node role", async move {
        let selection = Selection {
            kind: &kinds::NODE,
            namespace: String::new(),
            field_selector: format!("metadata.name={name}"),
        };
        let (tell, told) = rt::channel::bounded(1);
        let patch = patch(&marks);
        let mut hear = move |news: News| {
            let node = match &news {
                News::Listed(list) => list.items.first(),
                News::Event(WatchEvent::Added(node) | WatchEvent::Modified(node)) => Some(node),
                News::Event(_) => None,
            };
            if node.is_some_and(|node| lacks(node, &marks)) {
                // Full is as good: it says that there is something to do.
                let _ = tell.try_send(());
            }
            true
        };
        let lacking = follow(client.clone(), selection, RETRY, &mut hear);
        let labelling = async {
            let mut failures = 0;
            while told.recv().await.is_ok() {
                while let Err(status) = label(&client, &name, patch.clone()).await {
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

/// What is told of a member stays when it is none any more: its Node's deletion needs it.
fn marks(has_api: bool, member: Option<Member>) -> Marks {
    let is = |is: bool| is.then(|| "true".to_owned());
    let mut labels: Vec<_> = LABELS.iter().map(|label| (*label, is(has_api))).collect();
    let mut annotations = Vec::new();
    if let Some(Member { name, address }) = member {
        labels.push((ETCD_LABEL, is(true)));
        annotations.extend([(ETCD_NAME, Some(name)), (ETCD_ADDRESS, Some(address))]);
    }
    [labels, annotations]
}

fn lacks(node: &Object, [labels, annotations]: &Marks) -> bool {
    labels.iter().any(|(name, value)| node.label(name) != value.as_deref())
        || annotations
            .iter()
            .any(|(name, value)| api::balance::annotation(node, name) != value.as_deref())
}

fn patch([labels, annotations]: &Marks) -> api::Value {
    let map = |marks: &[(&str, Option<String>)]| -> api::Map<String, api::Value> {
        marks.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect()
    };
    json!({"metadata": {"labels": map(labels), "annotations": map(annotations)}})
}

async fn label(client: &Client, name: &str, patch: api::Value) -> Result<(), api::Status> {
    client.patch(&kinds::NODE, "", name, "", PatchType::Merge, patch).await.map(drop)
}
