//! Logs that several servers share: kine's table in a SQL database, and etcd; and buckets for snapshots ([`s3`]).
//!
//! Each is a [`store::SharedLog`]: the arbiter of what happened in which order. The state stays in the
//! memory of each server and follows it.

pub mod embedded;
mod etcd;
pub mod s3;
mod sql;

pub use etcd::{know_endpoints, read_identities_again};

use std::path::PathBuf;
use std::sync::Arc;

use stdx::{Context, Error, Result};
use store::SharedLog;

/// PEM files for TLS to the datastore: `--datastore-cafile`, `--datastore-certfile`, `--datastore-keyfile`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    pub cafile: Option<PathBuf>,
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
}

/// What speaks at an endpoint.
enum Kind {
    Postgres,
    Mysql,
    Etcd,
}

/// The kind of an endpoint by its scheme, and what follows that.
fn kind(endpoint: &str) -> Result<(Kind, &str)> {
    let refused = |why: &str| Err(Error::new(format!("datastore endpoint: {why}")));
    let Some((scheme, rest)) = endpoint.split_once("://") else {
        return refused("it should be of the form <scheme>://<authority>");
    };
    match scheme {
        "postgres" | "postgresql" => Ok((Kind::Postgres, rest)),
        "mysql" => Ok((Kind::Mysql, rest)),
        "http" | "https" => Ok((Kind::Etcd, endpoint)),
        "sqlite" => refused("k3rs has a SQLite file of its own, which no endpoint names"),
        "nats" | "tls" | "wss" => refused("NATS is not supported as a datastore"),
        scheme => refused(&format!("unknown scheme {scheme:?}")),
    }
}

/// What can be said of `--datastore-endpoint` and its files before anybody is asked.
///
/// # Errors
/// If there is no such kind of datastore, or no such file: neither will be otherwise later.
pub fn check(endpoint: &str, tls: &Files) -> Result<()> {
    kind(endpoint)?;
    let files = [&tls.cafile, &tls.certfile, &tls.keyfile].into_iter().flatten();
    for file in files {
        rt::fs::metadata(file)
            .context(|| format!("datastore endpoint: read {}", file.display()))?;
    }
    Ok(())
}

/// Opens the log that `--datastore-endpoint` names, as k3s understands it: what it needs is made if it is
/// missing.
///
/// # Errors
/// As [`check`], and if this one is out of reach or not what it should be.
pub async fn open(endpoint: &str, tls: Files) -> Result<Arc<dyn SharedLog>> {
    match kind(endpoint)? {
        (Kind::Postgres, rest) => sql::open_postgres(rest, tls).await,
        (Kind::Mysql, rest) => sql::open_mysql(rest, tls).await,
        (Kind::Etcd, urls) => etcd::open(urls, &tls).await,
    }
}
