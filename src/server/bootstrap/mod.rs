//! What every cluster holds from the start, made where absent and topped up where it lacks something.

pub(crate) mod objects;
mod policy;

use api::kinds::{self, CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING};
use api::{Lens, LensMut, Status, Value};
use client::Client;
use ring::digest;
use stdx::{Context, Result};
use store::{Class, Op, Query, Store};

use crate::config::Config;
use crate::storage;

/// Makes everything that a cluster must have, before the server answers others.
///
/// # Errors
/// The first refusal.
pub(crate) async fn run(client: &Client, config: &Config, store: &Store) -> Result<()> {
    objects::namespaces(client).await?;
    objects::rest(client, config).await?;
    policy(client, config, store).await.context(|| "make the bootstrap roles")
}

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What all roles and bindings were when the bootstrap ones last lacked nothing.
const COMPLETE: &str = "/k3rs/bootstrap/policy";

/// Makes the bootstrap roles and bindings; those that exist get back what they lack of rules and
/// subjects, unless their annotation `rbac.authorization.kubernetes.io/autoupdate` says "false".
/// All at once, so that the store commits them together. A start that finds everything as it was looks at none.
///
/// # Errors
/// The first refusal.
async fn policy(client: &Client, config: &Config, store: &Store) -> Result<(), Status> {
    let known = store.get(COMPLETE).await.map_err(storage::status)?;
    if let Some(known) = known
        && *known.value == *stamp(config, store).await?.as_ref()
    {
        return Ok(());
    }
    let tasks = policy::objects().into_iter().map(|wanted| {
        let client = client.clone();
        rt::spawn(async move { ensure_policy(&client, wanted).await })
    });
    let tasks: Vec<rt::Task<Result<(), Status>>> = tasks.collect();
    for task in tasks {
        task.await?;
    }
    let complete = Op::put(COMPLETE.as_bytes(), stamp(config, store).await?.as_ref());
    // Without it, the next start only looks again.
    store.write_one(complete, Class::Lazy).await.map(drop).map_err(storage::status)
}

/// Another one whenever a role or a binding came, went or changed, and for another program.
async fn stamp(config: &Config, store: &Store) -> Result<digest::Digest, Status> {
    let mut stamp = digest::Context::new(&digest::SHA256);
    stamp.update(stdx::version::VERSION.as_bytes());
    stamp.update(&config.built.secs().to_le_bytes());
    stamp.update(policy::TEXT.as_bytes());
    for kind in [&CLUSTER_ROLE, &CLUSTER_ROLE_BINDING, &ROLE, &ROLE_BINDING] {
        let held = store.range(&Query::of(storage::span(kind, ""))).await;
        for item in held.map_err(storage::status)?.items {
            stamp.update(&item.key);
            stamp.update(&item.mod_revision.to_le_bytes());
        }
    }
    Ok(stamp.finish())
}

async fn ensure_policy(client: &Client, wanted: Value) -> Result<(), Status> {
    let Some(kind) = kinds::of_tree(&wanted) else { return Ok(()) };
    objects::ensure(client, kind, wanted, |found, wanted| match topped_up(found, wanted) {
        Some(tree) => {
            *found = tree;
            true
        }
        None => false,
    })
    .await
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
    use crate::{Server, User};
    use api::json;
    use client::DeleteOptions;
    use store::{Disk, Limits};

    #[test]
    fn roles_are_looked_through_where_something_changed() {
        rt::block_on(async {
            let store = Store::open_memory(&Disk::default(), Limits::default()).await.unwrap();
            let mut config = crate::checks::config();
            let mut delete = false;
            for built in [1, 1, 1, 2] {
                config.built = stdx::time::Wall::from_secs(built);
                let server = Server::start(config.clone(), store.clone()).await.unwrap();
                let client = server.client_as(User::admin());
                client.get(&CLUSTER_ROLE, "", "view").await.unwrap();
                if std::mem::replace(&mut delete, true) {
                    let options = DeleteOptions::default();
                    client.delete(&CLUSTER_ROLE, "", "view", options).await.unwrap();
                }
            }
            // What says that nothing changed is believed: a server finds no role that it lacks then.
            let stamp = stamp(&config, &store).await.unwrap();
            store
                .write_one(Op::put(COMPLETE.as_bytes(), stamp.as_ref()), Class::Durable)
                .await
                .unwrap();
            let server = Server::start(config, store).await.unwrap();
            let role = server.client_as(User::admin()).get(&CLUSTER_ROLE, "", "view").await;
            assert_eq!(role.unwrap_err().code(), 404);
        });
    }

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
