//! The datastore of a server: a file of its own, or one that several servers share; and the keys of the cluster, which
//! lie in it so that each server has the same.

use std::sync::Arc;

use cluster::Pki;
use cluster::bootstrap;
use cluster::supervisor::Passwords;
use cluster::token::Token;
use server::Encryption;
use stdx::{Context, Error, Result};
use store::{Class, Envelope, Limits, Op, Query, Store};

use crate::machine::prepare;
use crate::machine::{Machine, pki_settings};
use crate::settings::config::{Config, Shared};
use crate::shared_log::{self, RETRY, WAIT_MAX};
use crate::{machine::clock, server::secrets};

/// Where the bootstrap data of all tokens lie.
pub(crate) const BOOTSTRAP: &str = "/bootstrap/";

/// What keys and certificates are while the datastore is opened.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) encryption: Arc<Encryption>,
    pub(crate) pki: Pki,
    pub(crate) passwords: Passwords,
}

/// Opens the datastore with the keys that it is sealed with, and has the cluster's passwords and certificates from disk, from
/// its bootstrap data, or made anew.
///
/// # Errors
/// If it cannot be opened, belongs to a cluster with another token, or keys are missing.
pub(crate) async fn open(machine: &Machine) -> Result<Opened> {
    let (config, paths) = (&machine.config, &machine.paths);
    let (encryption, made) = secrets::envelope(config, paths).await?;
    let store = open_store(machine, Arc::clone(&encryption)).await?;
    take_rotated(&store, machine).await?;
    let passwords = prepare::passwords(paths, config)?;
    let key = bootstrap::storage_key(&passwords.server);
    let saved = store.get(&key).await.context(|| "read the bootstrap data")?;
    let mut lacks = false;
    match &saved {
        Some(saved) if store.is_shared() => {
            let of_etcd = etcd_authorities(paths);
            lacks = bootstrap::reconcile(paths, &passwords.server, &saved.value, false)?;
            if config.secrets_provider.is_some() {
                encryption.reload()?;
            }
            if config.embeds_etcd && of_etcd.is_some() && etcd_authorities(paths) != of_etcd {
                // It runs with the old ones, and no certificate of the new ones is believed there.
                return Err(Error::new(
                    "the certificate authorities of the embedded etcd were replaced: start k3rs again",
                ));
            }
        }
        Some(saved) => {
            let optional = config.secrets_provider.is_some();
            bootstrap::restore(paths, &passwords.server, &saved.value, optional)?;
        }
        None => no_other_token(&store, config).await?,
    }
    let settings = pki_settings(machine, &machine.node_ips);
    let ensure =
        || Pki::ensure(paths, &settings, clock::clock()).context(|| "prepare certificates");
    let mut pki = ensure()?;
    if saved.is_none() || made || lacks {
        let block = bootstrap::collect(paths, &passwords.server, rt::now().wall)?;
        let op = match saved {
            // Of servers that start together for the first time, one makes the keys.
            None => Op::create(key.as_bytes(), block),
            Some(_) if made => Op::put(key.as_bytes(), block),
            Some(saved) => Op::update(key.as_bytes(), block, saved.mod_revision),
        };
        match store.write_one(op, Class::Durable).await {
            Ok(_) => log::info!("Saved bootstrap data"),
            // Another server has what was lacking, too.
            Err(store::Error::Conflict { .. }) if lacks => {}
            Err(store::Error::Conflict { current: Some(others) }) => {
                bootstrap::reconcile(paths, &passwords.server, &others.value, true)?;
                pki = ensure()?;
                encryption.reload()?;
            }
            Err(error) => return Err(error).context(|| "save the bootstrap data"),
        }
    }
    Ok(Opened { store, encryption, pki, passwords })
}

/// The authorities of the embedded etcd on the disk, if there are some.
fn etcd_authorities(paths: &cluster::Paths) -> Option<[Vec<u8>; 2]> {
    let read = |name: &str| rt::fs::read_optional(paths.tls(name)).ok().flatten();
    Some([read("etcd/server-ca.crt")?, read("etcd/peer-ca.crt")?])
}

/// Where another server rotated the token, `--token` names the new one: what it opens is this server's, too.
async fn take_rotated(store: &Store, machine: &Machine) -> Result<()> {
    let (config, paths) = (&machine.config, &machine.paths);
    let Some(given) = config.token.as_deref().filter(|_| store.is_shared()) else { return Ok(()) };
    let given = Token::parse(given).context(|| "read --token")?.password;
    match prepare::stored_password(paths)? {
        Some(stored) if stored != given => {}
        _ => return Ok(()),
    }
    let saved = store.get(&bootstrap::storage_key(&given)).await;
    if let Some(saved) = saved.context(|| "read the bootstrap data")? {
        bootstrap::reconcile(paths, &given, &saved.value, false)?;
        log::info!("The token was rotated: --token is the cluster's");
    }
    Ok(())
}

async fn open_store(machine: &Machine, envelope: Arc<Encryption>) -> Result<Store> {
    let limits = Limits {
        owner: server::key_owner,
        check: server::check_value,
        ..Limits::for_memory(rt::memory_bytes())
    };
    if machine.config.datastore.is_some() {
        return open_shared(machine, limits, envelope).await;
    }
    let path = machine.paths.datastore();
    if let Some(dir) = path.parent() {
        rt::fs::create_dir_all(dir, 0o700)?;
    }
    let held = path.metadata().map_or(0, |file| file.len());
    let free = path.parent().map_or(Ok(u64::MAX), rt::fs::available_bytes)?;
    let limits = limits.for_disk(free.saturating_add(held));
    let store = Store::open_sealed(&path, limits, envelope).await;
    let store = store.context(|| format!("open the datastore {}", path.display()))?;
    log::info!("Opened datastore {} at revision {}", path.display(), store.revision());
    Ok(store)
}

/// A database may come up after its servers, as kine's may: they wait for it.
async fn open_shared(
    machine: &Machine,
    limits: Limits,
    envelope: Arc<dyn Envelope>,
) -> Result<Store> {
    if let Some(Shared { endpoint, files }) = &machine.config.datastore {
        datastore::check(endpoint, files)?;
    }
    let until = rt::now().mono + WAIT_MAX;
    let mut failures = 0;
    loop {
        let opened = match shared_log::open(&machine.config).await {
            Ok(Some(log)) => Store::share_sealed(log, limits, Arc::clone(&envelope))
                .await
                .context(|| "open the datastore that --datastore-endpoint names"),
            Ok(None) => Err(Error::new("no --datastore-endpoint")),
            Err(error) => Err(error),
        };
        let error = match opened {
            Ok(store) => {
                log::info!("Opened the datastore of all servers at revision {}", store.revision());
                return Ok(store);
            }
            Err(error) => error,
        };
        failures += 1;
        let rest = RETRY.delay(failures);
        if rt::now().mono + rest >= until {
            return Err(error);
        }
        log::warn!("{error}; trying again in {} s", rest.as_secs());
        rt::sleep(rest).await;
    }
}

/// New keys in a cluster that has some would be a second cluster in one datastore.
async fn no_other_token(store: &Store, config: &Config) -> Result<()> {
    if !store.is_shared() {
        return Ok(());
    }
    let others = store.range(&Query::prefix(BOOTSTRAP)).await;
    if others.context(|| "read the bootstrap data")?.items.is_empty() {
        return Ok(());
    }
    let hint = match config.token {
        Some(_) => "--token is another one than the first server's",
        None => {
            "give this server the --token of the first one (server/token in its data directory)"
        }
    };
    Err(Error::new(format!(
        "bootstrap data already found and encrypted with different token: {hint}"
    )))
}
