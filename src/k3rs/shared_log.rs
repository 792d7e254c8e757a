//! The log that several servers share.

use std::sync::Arc;
use std::time::Duration;

use stdx::backoff::Backoff;
use stdx::{Context, Result};
use store::SharedLog;

use crate::settings::config::{Config, Shared};

/// How long a server waits for its datastore: as long as kine tries.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(300);
pub(crate) const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));

/// Opens it, if there is one.
///
/// # Errors
/// If the datastore cannot be opened.
pub(crate) async fn open(config: &Config) -> Result<Option<Arc<dyn SharedLog>>> {
    let Some(Shared { endpoint, files }) = &config.datastore else { return Ok(None) };
    let log = datastore::open(endpoint, files.clone()).await;
    Ok(Some(log.context(|| "open the datastore that --datastore-endpoint names")?))
}
