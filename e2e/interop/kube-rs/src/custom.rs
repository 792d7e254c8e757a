//! A kind of one's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event as StoredEvent;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{Event as Finalizer, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Api, Client, CustomResource, CustomResourceExt, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{NAMESPACE, expect, refused};

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "kube-rs.example",
    version = "v1",
    kind = "Gadget",
    namespaced,
    status = "GadgetStatus",
    shortname = "gdg",
    category = "gadgets",
    printcolumn = r#"{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}"#,
    scale(spec_replicas_path = ".spec.size", status_replicas_path = ".status.size")
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GadgetSpec {
    #[schemars(range(min = 0, max = 10))]
    size: i32,
    #[serde(default = "colour")]
    colour: Colour,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    long_name: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
enum Colour {
    Red,
    Green,
}

fn colour() -> Colour {
    Colour::Green
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub(crate) struct GadgetStatus {
    size: Option<i32>,
}

pub(crate) async fn derived(client: Client) -> Result<()> {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let apply = PatchParams::apply("kube-rs");
    definitions.patch(Gadget::crd_name(), &apply, &Patch::Apply(Gadget::crd())).await?;
    await_condition(definitions.clone(), Gadget::crd_name(), conditions::is_crd_established())
        .await?;
    // Applied once more it is the same.
    let before = definitions.get(Gadget::crd_name()).await?.metadata.generation;
    let again = definitions.patch(Gadget::crd_name(), &apply, &Patch::Apply(Gadget::crd())).await?;
    expect(again.metadata.generation == before, || "applied again it is another".into())?;
    let gadgets = Api::<Gadget>::namespaced(client, NAMESPACE);
    let tree = json!({"apiVersion": "kube-rs.example/v1", "kind": "Gadget", "metadata": {"name": "one"}, "spec": {"size": 3}});
    let made = gadgets.patch("one", &apply, &Patch::Apply(&tree)).await?;
    expect(made.spec.colour == Colour::Green, || format!("no default: {made:?}"))?;
    let mut large = Gadget::new("large", made.spec.clone());
    large.spec.size = 11;
    refused(gadgets.create(&PostParams::default(), &large).await, 422, "Invalid")?;
    let status = Patch::Merge(json!({"status": {"size": 2}, "spec": {"size": 9}}));
    let told = gadgets.patch_status("one", &PatchParams::default(), &status).await?;
    let is_status_only =
        told.spec.size == 3 && told.status.is_some_and(|status| status.size == Some(2));
    expect(is_status_only, || format!("status {:?}", told.spec))?;
    let scale = gadgets
        .patch_scale(
            "one",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"replicas": 4}})),
        )
        .await?;
    expect(scale.status.is_some_and(|status| status.replicas == 2), || "scale".into())?;
    let scaled = gadgets.get("one").await?;
    expect(scaled.spec.size == 4, || format!("scaled to {}", scaled.spec.size))
}

struct Shared {
    client: Client,
    recorder: Recorder,
}

async fn reconcile(gadget: Arc<Gadget>, shared: Arc<Shared>) -> Result<Action, Failed> {
    let namespace = gadget.namespace().unwrap_or_default();
    let gadgets = Api::<Gadget>::namespaced(shared.client.clone(), &namespace);
    let done = finalizer(&gadgets, "kube-rs.example/words", gadget, |event| async {
        match event {
            Finalizer::Apply(gadget) => made(gadget, shared.clone()).await,
            Finalizer::Cleanup(gadget) => away(gadget, shared.clone()).await,
        }
    });
    done.await.map_err(|error| Failed(anyhow!("{error:?}")))
}

async fn made(gadget: Arc<Gadget>, shared: Arc<Shared>) -> Result<Action, Failed> {
    let maps = Api::<ConfigMap>::namespaced(shared.client.clone(), NAMESPACE);
    let name = format!("of-{}", gadget.name_any());
    let mut words = ConfigMap {
        data: Some(BTreeMap::from([("size".into(), gadget.spec.size.to_string())])),
        ..Default::default()
    };
    words.metadata.name = Some(name.clone());
    words.metadata.owner_references = Some(gadget.controller_owner_ref(&()).into_iter().collect());
    maps.patch(&name, &PatchParams::apply("gadgets").force(), &Patch::Apply(&words)).await?;
    let gadgets = Api::<Gadget>::namespaced(shared.client.clone(), NAMESPACE);
    if gadget.status.as_ref().and_then(|status| status.size) != Some(gadget.spec.size) {
        let status = Patch::Merge(json!({"status": {"size": gadget.spec.size}}));
        gadgets.patch_status(&gadget.name_any(), &PatchParams::default(), &status).await?;
    }
    Ok(Action::await_change())
}

async fn away(gadget: Arc<Gadget>, shared: Arc<Shared>) -> Result<Action, Failed> {
    let event = Event {
        type_: EventType::Normal,
        reason: "Away".into(),
        note: None,
        action: "Clean".into(),
        secondary: None,
    };
    shared.recorder.publish(&event, &gadget.object_ref(&())).await?;
    Ok(Action::await_change())
}

#[derive(Debug)]
struct Failed(anyhow::Error);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {}

impl From<kube::Error> for Failed {
    fn from(error: kube::Error) -> Failed {
        Failed(error.into())
    }
}

pub(crate) async fn controlled(client: Client) -> Result<()> {
    let gadgets = Api::<Gadget>::namespaced(client.clone(), NAMESPACE);
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let recorder =
        Recorder::new(client.clone(), Reporter { controller: "gadgets".into(), instance: None });
    let shared = Arc::new(Shared { client: client.clone(), recorder });
    let controller = Controller::new(gadgets.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(200)), shared);
    let running = tokio::spawn(controller.for_each(|done| async move {
        if let Err(error) = done {
            eprintln!("a reconcile: {error:?}");
        }
    }));
    let says = |size: &'static str| {
        move |found: Option<&ConfigMap>| {
            found
                .and_then(|map| map.data.as_ref())
                .is_some_and(|data| data.get("size").is_some_and(|said| said == size))
        }
    };
    await_condition(maps.clone(), "of-one", says("4")).await?;
    // What is owned comes back.
    let uid = maps.get("of-one").await?.metadata.uid;
    maps.delete("of-one", &DeleteParams::default()).await?;
    await_condition(maps.clone(), "of-one", |found: Option<&ConfigMap>| {
        found.is_some_and(|map| map.metadata.uid != uid)
    })
    .await?;
    gadgets
        .patch("one", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": 5}})))
        .await?;
    await_condition(maps.clone(), "of-one", says("5")).await?;
    await_condition(gadgets.clone(), "one", |found: Option<&Gadget>| {
        found.and_then(|gadget| gadget.status.as_ref()).is_some_and(|status| status.size == Some(5))
    })
    .await?;
    // And goes with its owner, by the collector of garbage.
    let uid = gadgets.get("one").await?.metadata.uid.unwrap_or_default();
    let owned = maps.get("of-one").await?.metadata.uid.unwrap_or_default();
    gadgets.delete("one", &DeleteParams::default()).await?;
    await_condition(gadgets, "one", conditions::is_deleted(&uid)).await?;
    await_condition(maps, "of-one", conditions::is_deleted(&owned)).await?;
    let events = Api::<StoredEvent>::namespaced(client.clone(), NAMESPACE)
        .list(&ListParams::default())
        .await?;
    running.abort();
    expect(events.items.iter().any(|one| one.reason.as_deref() == Some("Away")), || {
        "no event".into()
    })?;
    let definitions = Api::<CustomResourceDefinition>::all(client);
    let uid = definitions.get(Gadget::crd_name()).await?.metadata.uid.unwrap_or_default();
    definitions.delete(Gadget::crd_name(), &DeleteParams::default()).await?;
    await_condition(definitions, Gadget::crd_name(), conditions::is_deleted(&uid)).await?;
    Ok(())
}
