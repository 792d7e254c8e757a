//! The servers that serve the API: each writes down its addresses with a lease, as upstream's
//! `/registry/masterleases`, and the `kubernetes` Service leads to all that are alive.
//!
//! A server that has its store for itself is the only one, and writes nothing.

use std::net::IpAddr;
use std::time::Duration;

use api::kinds::ENDPOINTS;
use api::{Object, Status, json};
use store::{Class, Error, Expect, LeaseId, Op, Query, Store};

use crate::storage;

pub(crate) const PREFIX: &str = "/registry/masterleases/";

/// Upstream's time of a lease, and how often it is renewed.
const LEASE_TTL: Duration = Duration::from_secs(15);
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(10);

/// This server among them.
pub(crate) struct Masters {
    own: Vec<IpAddr>,
    lease: Option<LeaseId>,
}

impl Masters {
    pub(crate) fn new(own: Vec<IpAddr>) -> Masters {
        Masters { own, lease: None }
    }

    /// Says that this server is alive; the addresses of all that are.
    ///
    /// # Errors
    /// If the store cannot be written or read.
    pub(crate) async fn alive(&mut self, store: &Store) -> Result<Vec<IpAddr>, Status> {
        if !store.is_shared() {
            return Ok(self.own.clone());
        }
        self.renew(store).await.map_err(storage::status)?;
        living(store).await
    }

    async fn renew(&mut self, store: &Store) -> Result<(), Error> {
        if let Some(lease) = self.lease {
            match store.lease_keep_alive(lease).await {
                Err(Error::LeaseNotFound(_)) => {}
                kept => return kept.map(drop),
            }
        }
        let lease = store.lease_grant(0, LEASE_TTL, Class::Durable).await?;
        let ops = self.own.iter().map(|address| {
            let tree = json!({
                "apiVersion": "v1", "kind": "Endpoints", "metadata": {},
                "subsets": [{"addresses": [{"ip": address.to_string()}]}],
            });
            let value = Object::from_tree(&ENDPOINTS, &tree)
                .map_err(|error| Error::Invalid(error.to_string()))?
                .bytes()
                .clone();
            let key = format!("{PREFIX}{address}").into_bytes().into();
            Ok(Op::Put { key, value, expect: Expect::Any, lease })
        });
        let ops = ops.collect::<Result<Vec<Op>, Error>>()?;
        if !ops.is_empty() {
            store.write(ops, Class::Durable).await?;
        }
        self.lease = Some(lease);
        Ok(())
    }
}

/// The addresses of all servers that have said that they are alive.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn living(store: &Store) -> Result<Vec<IpAddr>, Status> {
    let all = store.range(&Query::prefix(PREFIX)).await.map_err(storage::status)?;
    let address = |key: &[u8]| std::str::from_utf8(&key[PREFIX.len()..]).ok()?.parse().ok();
    Ok(all.items.iter().filter_map(|kv| address(&kv.key)).collect())
}
