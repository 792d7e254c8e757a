//! What the flags say of snapshots of the embedded etcd, with k3s's defaults.

use std::path::PathBuf;

use stdx::{Error, Result};

use crate::settings::s3_flags::Said;

/// So many are kept if nobody says otherwise, under this name.
pub(crate) const RETENTION: i64 = 5;
pub(crate) const NAME: &str = "etcd-snapshot";
const CRON: &str = "0 */12 * * *";
/// k3s's ending of compressed ones.
pub(crate) const ZIP: &str = ".zip";

/// What the flags say of snapshots.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    pub(crate) disabled: bool,
    pub(crate) name: Option<String>,
    pub(crate) cron: Option<String>,
    pub(crate) retention: Option<i64>,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) compress: Option<bool>,
    /// `--cluster-reset-restore-path`
    pub(crate) restore: Option<PathBuf>,
    /// `--etcd-s3`, and where.
    pub(crate) s3: Option<Said>,
}

impl Flags {
    /// # Errors
    /// If the schedule is none.
    pub(crate) fn check(&self) -> Result<()> {
        self.cron().map(drop)
    }

    /// When snapshots are taken.
    ///
    /// # Errors
    /// If that cannot be read.
    pub(crate) fn cron(&self) -> Result<control::Cron> {
        let text = self.cron.as_deref().unwrap_or(CRON);
        let cron = control::Cron::parse(text);
        cron.map_err(|why| {
            Error::new(format!("read --etcd-snapshot-schedule-cron {text:?}: {why}"))
        })
    }
}
