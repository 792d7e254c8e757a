//! What follows objects while they change.

use std::pin::pin;

use anyhow::{Context, Result, anyhow};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::{NAMESPACE, config_map, expect};

pub(crate) async fn by_list(client: Client) -> Result<()> {
    followed(client, "by-list", watcher::Config::default().page_size(3)).await
}

pub(crate) async fn by_watch_list(client: Client) -> Result<()> {
    followed(client, "by-watch-list", watcher::Config::default().streaming_lists()).await
}

async fn followed(client: Client, name: &str, config: watcher::Config) -> Result<()> {
    let maps = Api::<ConfigMap>::namespaced(client, NAMESPACE);
    for n in 0..10 {
        let mut made = config_map(&format!("{name}-{n}"), "1");
        made.labels_mut().insert("of".into(), name.into());
        maps.create(&PostParams::default(), &made).await?;
    }
    let mut events = pin!(watcher(maps.clone(), config.labels(&format!("of={name}"))));
    let mut first = Vec::new();
    loop {
        match events.try_next().await?.context("it ended")? {
            Event::Init => {}
            Event::InitApply(found) => first.push(found.name_any()),
            Event::InitDone => break,
            other => return Err(anyhow!("before it is done: {other:?}")),
        }
    }
    expect(first.len() == 10, || format!("begins with {first:?}"))?;
    let changed = format!("{name}-3");
    let merge = Patch::Merge(json!({"data": {"a": "2"}}));
    maps.patch(&changed, &PatchParams::default(), &merge).await?;
    match events.try_next().await?.context("it ended")? {
        Event::Apply(found) if found.name_any() == changed => {}
        other => return Err(anyhow!("changed: {other:?}")),
    }
    // Leaving the selection is a deletion to who watches it.
    let leave = Patch::Merge(json!({"metadata": {"labels": {"of": null}}}));
    maps.patch(&changed, &PatchParams::default(), &leave).await?;
    maps.delete(&format!("{name}-4"), &DeleteParams::default()).await?;
    for expected in [changed, format!("{name}-4")] {
        match events.try_next().await?.context("it ended")? {
            Event::Delete(found) if found.name_any() == expected => {}
            other => return Err(anyhow!("gone: {other:?}, not {expected}")),
        }
    }
    Ok(())
}

pub(crate) async fn reflected(client: Client) -> Result<()> {
    let maps = Api::<ConfigMap>::namespaced(client, NAMESPACE);
    maps.create(&PostParams::default(), &config_map("reflected", "1")).await?;
    let (store, writer) = reflector::store();
    let config = watcher::Config::default().fields("metadata.name=reflected");
    let stream = watcher(maps.clone(), config).default_backoff().reflect(writer).touched_objects();
    let follow = tokio::spawn(stream.for_each(|_| async {}));
    store.wait_until_ready().await?;
    expect(store.len() == 1, || format!("{} objects", store.len()))?;
    let merge = Patch::Merge(json!({"data": {"a": "7"}}));
    maps.patch("reflected", &PatchParams::default(), &merge).await?;
    let key = reflector::ObjectRef::new("reflected").within(NAMESPACE);
    while store
        .get(&key)
        .is_none_or(|found| found.data.as_ref().is_none_or(|data| data["a"] != "7"))
    {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    follow.abort();
    Ok(())
}

/// A watch from the first revision of all is told that it is gone, or gets what was since; either way something comes.
pub(crate) async fn expired(client: Client) -> Result<()> {
    let maps = Api::<ConfigMap>::namespaced(client, NAMESPACE);
    let params = WatchParams::default().timeout(1);
    let mut events = pin!(maps.watch(&params, "1").await?);
    match events.try_next().await? {
        Some(WatchEvent::Error(said)) => expect(said.code == 410, || format!("{said:?}")),
        Some(WatchEvent::Added(_)) => Ok(()),
        other => Err(anyhow!("{other:?}")),
    }
}
