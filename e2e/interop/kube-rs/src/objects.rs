//! Requests that are answered at once.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
    Preconditions,
};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::{NAMESPACE, config_map, expect, refused};

pub(crate) async fn typed(client: Client) -> Result<()> {
    let maps = Api::<ConfigMap>::namespaced(client, NAMESPACE);
    let post = PostParams::default();
    let mut made = maps.create(&post, &config_map("typed", "1")).await?;
    refused(maps.create(&post, &config_map("typed", "1")).await, 409, "AlreadyExists")?;
    refused(maps.create(&post, &config_map("Not A Name", "1")).await, 422, "Invalid")?;
    refused(maps.get("nothing").await, 404, "NotFound")?;
    expect(maps.get_opt("nothing").await?.is_none(), || "there is nothing".into())?;
    let old = made.clone();
    made.data = Some(BTreeMap::from([("a".into(), "2".into())]));
    let made = maps.replace("typed", &post, &made).await?;
    refused(maps.replace("typed", &post, &old).await, 409, "Conflict")?;
    expect(maps.get("typed").await? == made, || "read another than was written".into())?;
    let dry = PostParams { dry_run: true, ..Default::default() };
    maps.create(&dry, &config_map("dry", "1")).await?;
    expect(maps.get_opt("dry").await?.is_none(), || "a dry run was stored".into())?;
    let other = Preconditions { uid: Some("another".into()), resource_version: None };
    let params = DeleteParams { preconditions: Some(other), ..Default::default() };
    refused(maps.delete("typed", &params).await, 409, "Conflict")?;
    maps.delete("typed", &DeleteParams::default()).await?;
    refused(maps.get("typed").await, 404, "NotFound")
}

pub(crate) async fn patched(client: Client) -> Result<()> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let (post, patch) = (PostParams::default(), PatchParams::default());
    maps.create(&post, &config_map("patched", "1")).await?;
    let merge = Patch::Merge(json!({"data": {"a": null, "b": "2"}}));
    let data = maps.patch("patched", &patch, &merge).await?.data;
    expect(data == Some(BTreeMap::from([("b".into(), "2".into())])), || {
        format!("merged {data:?}")
    })?;
    let operations = json!([{"op": "test", "path": "/data/b", "value": "2"}, {"op": "move", "from": "/data/b", "path": "/data/c"}]);
    let operations = Patch::Json::<()>(serde_json::from_value(operations)?);
    let data = maps.patch("patched", &patch, &operations).await?.data;
    expect(data == Some(BTreeMap::from([("c".into(), "2".into())])), || format!("moved {data:?}"))?;
    refused(maps.patch("patched", &patch, &operations).await, 422, "Invalid")?;
    let deployments = Api::<Deployment>::namespaced(client, NAMESPACE);
    deployments.create(&post, &deployment("patched")?).await?;
    let more = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}]}]}}}});
    let changed = deployments.patch("patched", &patch, &Patch::Strategic(more)).await?;
    let containers = changed.spec.and_then(|spec| spec.template.spec).context("a spec")?.containers;
    expect(
        containers.len() == 1 && containers[0].image.is_some() && containers[0].env.is_some(),
        || format!("a strategic patch made {containers:?}"),
    )
}

pub(crate) async fn applied(client: Client) -> Result<()> {
    let maps = Api::<ConfigMap>::namespaced(client, NAMESPACE);
    let tree = |value: &str| {
        Patch::Apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": value}}),
        )
    };
    let one = PatchParams::apply("one");
    maps.patch("applied", &one, &tree("1")).await?;
    let before = maps.patch("applied", &one, &tree("1")).await?.resource_version();
    let again = maps.patch("applied", &one, &tree("1")).await?;
    expect(again.resource_version() == before, || "the same apply changed something".into())?;
    refused(maps.patch("applied", &PatchParams::apply("two"), &tree("2")).await, 409, "Conflict")?;
    let taken = maps.patch("applied", &PatchParams::apply("two").force(), &tree("2")).await?;
    let managers: Vec<_> =
        taken.managed_fields().iter().filter_map(|one| one.manager.clone()).collect();
    expect(taken.data.as_ref().is_some_and(|data| data["a"] == "2"), || {
        "nothing was taken over".into()
    })?;
    expect(managers.contains(&"two".to_owned()), || format!("managers {managers:?}"))?;
    let strict = PatchParams {
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..PatchParams::apply("one")
    };
    let unknown = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "date": {}});
    expect(maps.patch("applied", &strict, &Patch::Apply(unknown)).await.is_err(), || {
        "an unknown field".into()
    })
}

pub(crate) async fn listed(client: Client) -> Result<()> {
    let maps = Api::<ConfigMap>::namespaced(client, NAMESPACE);
    for n in 0..25 {
        let mut made = config_map(&format!("listed-{n:02}"), "1");
        made.labels_mut().insert("listed".into(), (n % 2).to_string());
        maps.create(&PostParams::default(), &made).await?;
    }
    let (mut names, mut params) = (Vec::new(), ListParams::default().labels("listed").limit(10));
    loop {
        let page = maps.list(&params).await?;
        names.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    expect(names.len() == 25 && names.is_sorted(), || format!("in pages: {names:?}"))?;
    let odd = maps.list_metadata(&ListParams::default().labels("listed=1")).await?;
    expect(odd.items.len() == 12, || format!("{} of 12", odd.items.len()))?;
    let one = maps.list(&ListParams::default().fields("metadata.name=listed-03")).await?;
    expect(one.items.len() == 1, || format!("{} by name", one.items.len()))?;
    let head = maps.get_metadata("listed-03").await?;
    expect(head.labels().get("listed").is_some_and(|value| value == "1"), || format!("{head:?}"))?;
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("listed"))
        .await?;
    let left = maps.list(&ListParams::default().labels("listed")).await?;
    expect(left.items.is_empty(), || format!("{} are left", left.items.len()))
}

pub(crate) async fn subresources(client: Client) -> Result<()> {
    let deployments = Api::<Deployment>::namespaced(client.clone(), NAMESPACE);
    deployments.create(&PostParams::default(), &deployment("scaled")?).await?;
    let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let scale = deployments.patch_scale("scaled", &PatchParams::default(), &patch).await?;
    // None at all are left out.
    let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
    expect(replicas == 0, || format!("scaled to {replicas}"))?;
    let scale = deployments.get_scale("scaled").await?;
    let selector = scale.status.and_then(|status| status.selector);
    expect(selector.as_deref() == Some("app=scaled"), || format!("selector {selector:?}"))?;
    let condition = json!({"type": "KubeRs", "status": "True", "reason": "Said", "message": "so"});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    deployments.patch_status("scaled", &PatchParams::default(), &patch).await?;
    let conditions =
        deployments.get_status("scaled").await?.status.and_then(|status| status.conditions);
    expect(conditions.unwrap_or_default().iter().any(|one| one.type_ == "KubeRs"), || {
        "no condition".into()
    })?;
    deployments.restart("scaled").await?;

    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), NAMESPACE);
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": 600}}))?;
    let token = accounts.create_token_request("default", &PostParams::default(), &request).await?;
    let token = token.status.context("a token")?.token;
    let review = serde_json::from_value(json!({"metadata": {}, "spec": {"token": token}}))?;
    let review =
        Api::<TokenReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    let user = review.status.and_then(|status| status.user).and_then(|user| user.username);
    expect(user.as_deref() == Some("system:serviceaccount:kube-rs:default"), || {
        format!("user {user:?}")
    })?;
    let review = json!({"metadata": {}, "spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": NAMESPACE}}});
    let review = Api::<SelfSubjectAccessReview>::all(client)
        .create(&PostParams::default(), &serde_json::from_value(review)?)
        .await?;
    expect(review.status.is_some_and(|status| status.allowed), || "an administrator may not".into())
}

pub(crate) async fn discovered(client: Client) -> Result<()> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let n_groups = discovery.groups().count();
    expect(n_groups > 15, || format!("{n_groups} groups"))?;
    let (lease, able) = discovery
        .groups()
        .flat_map(|group| group.recommended_resources())
        .find(|(kind, _)| kind.kind == "Lease")
        .context("no Lease")?;
    expect(able.scope == Scope::Namespaced && able.supports_operation(verbs::WATCH), || {
        format!("{able:?}")
    })?;
    dynamic(client.clone(), &lease).await?;
    let version = client.apiserver_version().await?;
    expect(version.minor.starts_with("32"), || format!("{version:?}"))
}

async fn dynamic(client: Client, lease: &ApiResource) -> Result<()> {
    let leases = Api::<DynamicObject>::namespaced_with(client, NAMESPACE, lease);
    let spec: Value = json!({"spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2020-01-01T00:00:00.000001Z"}});
    leases
        .create(&PostParams::default(), &DynamicObject::new("dynamic", lease).data(spec.clone()))
        .await?;
    let read = leases.get("dynamic").await?;
    expect(read.data == spec, || format!("read {}", read.data))?;
    leases.delete("dynamic", &DeleteParams::default()).await?;
    Ok(())
}

fn deployment(name: &str) -> Result<Deployment> {
    let pod = json!({"containers": [{"name": "c", "image": "k3rs.io/userspace:1", "command": ["sleep", "1000000"]}], "terminationGracePeriodSeconds": 0});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": pod}});
    Ok(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?)
}
