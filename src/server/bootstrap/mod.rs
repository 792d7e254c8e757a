//! What every cluster holds from the start, made where absent and topped up where it lacks something.

pub(crate) mod objects;
mod policy;

use api::{Kind, Lens, LensMut, Object, Status, Value, kinds};
use client::Client;
use stdx::{Context, Result};

/// Makes everything that a cluster must have, before the server answers others.
///
/// # Errors
/// The first refusal.
pub(crate) async fn run(client: &Client, config: &crate::config::Config) -> Result<()> {
    objects::namespaces(client).await?;
    objects::rest(client, config).await?;
    policy(client).await
}

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Makes the bootstrap roles and bindings; those that exist get back what they lack of rules and
/// subjects, unless their annotation `rbac.authorization.kubernetes.io/autoupdate` says "false".
/// All at once, so that the store commits them together.
///
/// # Errors
/// The first refusal.
async fn policy(client: &Client) -> Result<()> {
    let tasks = policy::objects().into_iter().map(|wanted| {
        let client = client.clone();
        rt::spawn(async move { ensure_policy(&client, wanted).await })
    });
    let tasks: Vec<rt::Task<Result<(), Status>>> = tasks.collect();
    for task in tasks {
        task.await.context(|| "make the bootstrap roles")?;
    }
    Ok(())
}

async fn ensure_policy(client: &Client, wanted: Value) -> Result<(), Status> {
    let Some(kind) = kinds::of_tree(&wanted) else { return Ok(()) };
    match existing(client, kind, &wanted).await? {
        None => match client.create(kind, wanted).await {
            Err(status) if !status.is_already_exists() => Err(status),
            _ => Ok(()),
        },
        Some(object) => match topped_up(&object.tree(), &wanted) {
            Some(tree) => client.update(kind, tree).await.map(drop),
            None => Ok(()),
        },
    }
}

async fn existing(
    client: &Client,
    kind: &'static Kind,
    wanted: &Value,
) -> Result<Option<Object>, Status> {
    client.get_optional(kind, wanted.str("metadata.namespace"), wanted.str("metadata.name")).await
}

/// `found` with what it lacks of `wanted`; `None` if it lacks nothing or wants to be left alone.
fn topped_up(found: &Value, wanted: &Value) -> Option<Value> {
    if found.entry("metadata.annotations", AUTOUPDATE) == Some("false") {
        return None;
    }
    let mut tree = found.clone();
    // An aggregated role's rules are the aggregation controller's.
    let lists: &[&str] = if wanted.has("aggregationRule") {
        &["aggregationRule.clusterRoleSelectors"]
    } else {
        &["rules", "subjects"]
    };
    for path in lists {
        for item in wanted.list(path) {
            if !found.list(path).contains(item) {
                tree.list_mut(path).push(item.clone());
            }
        }
    }
    for (key, value) in wanted.pairs("metadata.labels") {
        if found.entry("metadata.labels", key).is_none() {
            tree.map_mut("metadata.labels").insert(key.to_owned(), value.into());
        }
    }
    (tree != *found).then_some(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn tops_up_what_is_lacking_only() {
        let wanted = json!({"rules": [{"verbs": ["get"]}, {"verbs": ["list"]}]});
        let found =
            json!({"metadata": {"name": "a"}, "rules": [{"verbs": ["list"]}, {"verbs": ["mine"]}]});
        let topped = topped_up(&found, &wanted).unwrap();
        assert_eq!(topped.list("rules").len(), 3);
        assert_eq!(topped_up(&topped, &wanted), None);
        let mut alone = found;
        alone.set("metadata.annotations", json!({AUTOUPDATE: "false"}));
        assert_eq!(topped_up(&alone, &wanted), None);
    }
}
