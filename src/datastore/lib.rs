//! Logs that several servers share: kine's table in a SQL database, and etcd.
//!
//! Each is a [`store::SharedLog`]: the arbiter of what happened in which order. The state stays in the
//! memory of each server and follows it.

pub mod embedded;
mod etcd;
mod sql;

use std::path::PathBuf;
use std::sync::Arc;

use stdx::{Error, Result};
use store::SharedLog;

/// PEM files for TLS to the datastore: `--datastore-cafile`, `--datastore-certfile`, `--datastore-keyfile`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    pub cafile: Option<PathBuf>,
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
}

/// Opens the log that `--datastore-endpoint` names, as k3s understands it: what it needs is made if it is
/// missing.
///
/// # Errors
/// If there is no such kind of datastore, or this one is out of reach or not what it should be.
pub async fn open(endpoint: &str, tls: Files) -> Result<Arc<dyn SharedLog>> {
    let (scheme, rest) = match endpoint.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, ""),
    };
    match scheme {
        Some("postgres" | "postgresql") => sql::open_postgres(rest, tls).await,
        Some("mysql") => sql::open_mysql(rest, tls).await,
        Some("http" | "https") => etcd::open(endpoint, &tls).await,
        Some("sqlite") => Err(Error::new(
            "datastore endpoint: k3rs has a SQLite file of its own, which no endpoint names",
        )),
        Some("nats" | "tls" | "wss") => {
            Err(Error::new("datastore endpoint: NATS is not supported as a datastore"))
        }
        Some(scheme) => Err(Error::new(format!("datastore endpoint: unknown scheme {scheme:?}"))),
        None => {
            Err(Error::new("datastore endpoint: it should be of the form <scheme>://<authority>"))
        }
    }
}
