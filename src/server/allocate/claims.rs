//! Claims: a key for each address and port that a Service holds, written with the Service itself.

use std::net::IpAddr;
use stdx::{OrdMap, OrdSet};

use api::kinds::SERVICE;
use api::{Status, Value};
use store::{
    Bytes, Class, Compare, Error, KeyValue, Query, Relation, Request, Room, Span, Store, Target,
    Txn,
};

use super::held;
use crate::config::Cidr;
use crate::storage;

const PREFIX: &str = "/k3rs/claims/";

/// Random tries before the range is searched in order.
const RANDOM_TRIES_MAX: usize = 32;

/// Something that one Service holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Item {
    Address(IpAddr),
    Port(u16),
}

impl Item {
    fn key(self) -> String {
        match self {
            Item::Address(address) => format!("{PREFIX}ip/{address}"),
            Item::Port(port) => format!("{PREFIX}port/{port}"),
        }
    }

    fn of(key: &[u8]) -> Option<Item> {
        let (what, item) = std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.split_once('/')?;
        match what {
            "ip" => item.parse().ok().map(Item::Address),
            "port" => item.parse().ok().map(Item::Port),
            _ => None,
        }
    }

    pub(crate) async fn is_taken(self, store: &Store) -> Result<bool, Status> {
        Ok(store.get(self.key()).await.map_err(storage::status)?.is_some())
    }
}

/// What a write of a Service takes and gives up. Most writes do neither.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// The Service's key.
    pub(crate) holder: String,
    pub(crate) taken: OrdSet<Item>,
    pub(crate) released: OrdSet<Item>,
}

impl Claims {
    /// What they add to the transaction that writes the Service.
    pub(crate) fn txn(self) -> Txn {
        let mut txn = Txn::default();
        for item in self.taken {
            let key = item.key();
            txn.compares.push(unchanged(Span::key(&key), 0));
            txn.then.push(Request::Put {
                key: key.as_bytes().into(),
                value: self.holder.as_bytes().into(),
                lease: 0,
            });
        }
        txn.then.extend(self.released.iter().map(|item| Request::Delete(Span::key(item.key()))));
        txn
    }
}

/// Whether a write lost something that it chose to another Service.
pub(crate) fn is_lost(error: &Error) -> bool {
    let claim = |kv: &KeyValue| kv.key.starts_with(PREFIX.as_bytes());
    matches!(error, Error::Conflict { current: Some(kv) } if claim(kv))
}

fn unchanged(span: Span, mod_revision: u64) -> Compare {
    let target = Target::ModRevision(mod_revision);
    Compare { span, relation: Relation::Equal, target }
}

/// A free address; the low part of the range is left to those who ask for one by number, as long
/// as there are others.
pub(crate) async fn free_address(
    store: &Store,
    cidr: Cidr,
    own: &OrdSet<Item>,
) -> Result<Option<IpAddr>, Status> {
    // The network address, and in IPv4 the broadcast address, are nobody's.
    let reserved = 1 + u128::from(cidr.address.is_ipv4());
    let size = cidr.size().saturating_sub(reserved);
    let low = match size {
        0..16 => 0,
        size => (size / 16).clamp(16, 256).min(size),
    };
    let item = |n: u128| Item::Address(cidr.nth(n + 1));
    Ok(match pick(store, low, size, item, own).await? {
        Some(Item::Address(address)) => Some(address),
        _ => None,
    })
}

pub(crate) async fn free_port(
    store: &Store,
    range: (u16, u16),
    own: &OrdSet<Item>,
) -> Result<Option<u16>, Status> {
    let size = u128::from(range.1.saturating_sub(range.0)) + 1;
    let low = match size {
        0..16 => 0,
        size => (size / 32).clamp(16, 128).min(size),
    };
    // Below the size, which fits.
    let item = |n: u128| Item::Port(range.0 + u16::try_from(n).unwrap_or(0));
    Ok(match pick(store, low, size, item, own).await? {
        Some(Item::Port(port)) => Some(port),
        _ => None,
    })
}

/// A free one of `low..size` at random, then any of it, then any below.
async fn pick(
    store: &Store,
    low: u128,
    size: u128,
    item: impl Fn(u128) -> Item,
    own: &OrdSet<Item>,
) -> Result<Option<Item>, Status> {
    let upper = size.saturating_sub(low);
    for _ in 0..if upper > 0 { RANDOM_TRIES_MAX } else { 0 } {
        let item = item(low + u128::from(rt::random_u64()) % upper);
        if !own.contains(&item) && !item.is_taken(store).await? {
            return Ok(Some(item));
        }
    }
    // All that is taken is in memory, so a full range is a small one.
    let taken = all(store).await?;
    let free = |item: &Item| !own.contains(item) && !taken.contains_key(item);
    Ok((low..size).chain(0..low).map(item).find(free))
}

/// Every claim there is.
async fn all(store: &Store) -> Result<OrdMap<Item, KeyValue>, Status> {
    let range = store.range(&Query::prefix(PREFIX)).await.map_err(storage::status)?;
    Ok(range.items.into_iter().filter_map(|kv| Some((Item::of(&kv.key)?, kv))).collect())
}

/// Makes the claims what the Services say: those of Services that came in by another way (an older
/// version, an imported datastore) are made, those that belong to nobody go.
///
/// # Errors
/// If the store cannot be read or written. What changes meanwhile is left for the next time.
pub(crate) async fn repair(store: &Store) -> Result<(), Status> {
    let mut claims = all(store).await?;
    let services = Query::prefix(storage::prefix(&SERVICE, ""));
    let mut holders: OrdMap<Item, Bytes> = OrdMap::new();
    for version in store.range(&services).await.map_err(storage::status)?.items {
        let service: Value = storage::object(&SERVICE, &version)?.tree();
        for item in held(&service) {
            let known = claims.get(&item).is_some_and(|claim| *claim.value == *version.key);
            let first = holders.insert(item, version.key.clone());
            if let Some(first) = first.filter(|first| *first != version.key) {
                log::warn!(
                    "{item:?} of the service {} was assigned to {} too; please recreate one of them",
                    version.key.escape_ascii(),
                    first.escape_ascii()
                );
            } else if !known {
                let claim = claims.get(&item).map_or(0, |claim| claim.mod_revision);
                let compares = vec![
                    unchanged(Span::Key(version.key.clone()), version.mod_revision),
                    unchanged(Span::key(item.key()), claim),
                ];
                let (key, value) = (item.key().as_bytes().into(), version.key.clone());
                let then = vec![Request::Put { key, value, lease: 0 }];
                write(store, Txn { compares, then, ..Txn::default() }).await?;
            }
        }
    }
    claims.retain(|item, _| !holders.contains_key(item));
    for (item, claim) in claims {
        log::warn!(
            "{item:?} was held by the service {}, which is gone",
            claim.value.escape_ascii()
        );
        let compares = vec![
            unchanged(Span::Key(claim.key.clone()), claim.mod_revision),
            // Not one that took it since the Services were read.
            Compare {
                span: Span::Key(claim.value.clone()),
                relation: Relation::Less,
                target: Target::ModRevision(claim.mod_revision + 1),
            },
        ];
        let then = vec![Request::Delete(Span::Key(claim.key))];
        write(store, Txn { compares, then, ..Txn::default() }).await?;
    }
    Ok(())
}

async fn write(store: &Store, txn: Txn) -> Result<(), Status> {
    let done = store.txn(txn, Class::Durable, Room::Whole).await;
    done.map(drop).map_err(storage::status)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn taking(given: impl AsyncFn(&Store) -> Item) -> OrdSet<Item> {
        let limits = store::Limits::default();
        let store = Store::open_memory(&store::Disk::default(), limits).await.unwrap();
        let mut all = OrdSet::new();
        for _ in 0..62 {
            let item = given(&store).await;
            assert!(all.insert(item), "{item:?} was given twice");
            let claims = Claims { taken: [item].into(), ..Claims::default() };
            write(&store, claims.txn()).await.unwrap();
        }
        all
    }

    #[test]
    fn every_address_and_port_is_given_once() {
        let own = OrdSet::new();
        rt::block_on(async {
            let cidr = Cidr::parse("10.0.0.0/26").unwrap();
            let addresses = taking(async |store| {
                Item::Address(free_address(store, cidr, &own).await.unwrap().unwrap())
            });
            let addresses = addresses.await;
            let ends = [addresses.first().unwrap(), addresses.last().unwrap()];
            let at = |text: &str| Item::Address(text.parse().unwrap());
            assert_eq!(ends, [&at("10.0.0.1"), &at("10.0.0.62")]);
            let range = (30_000, 30_061);
            let ports = taking(async |store| {
                Item::Port(free_port(store, range, &own).await.unwrap().unwrap())
            });
            let ports = ports.await;
            assert_eq!(ports.first(), Some(&Item::Port(30_000)));
            assert_eq!(ports.last(), Some(&Item::Port(30_061)));
        });
    }

    #[test]
    fn large_ranges_start_above_the_low_part() {
        rt::block_on(async {
            let cidr = Cidr::parse("10.43.0.0/16").unwrap();
            let limits = store::Limits::default();
            let store = Store::open_memory(&store::Disk::default(), limits).await.unwrap();
            let own = OrdSet::new();
            for _ in 0..1000 {
                let address = free_address(&store, cidr, &own).await.unwrap().unwrap();
                assert!(cidr.index(address).unwrap() > 256, "{address}");
                let port = free_port(&store, (30_000, 32_767), &own).await.unwrap().unwrap();
                assert!((30_086..=32_767).contains(&port), "{port}");
            }
        });
    }

    #[test]
    fn keys_say_what_is_held() {
        for item in [Item::Port(1), Item::Address([10, 0, 0, 1].into())] {
            assert_eq!(Item::of(item.key().as_bytes()), Some(item));
        }
        assert_eq!(Item::of(b"/k3rs/claims/ip/x"), None);
        assert_eq!(Item::of(b"/k3rs/other/ip/10.0.0.1"), None);
    }
}
