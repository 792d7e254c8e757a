//! What is kept on disk about sandboxes and containers, so that the next k3rs knows them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stdx::{Context, Result};

use crate::spec::{Labels, SandboxSpec};

/// `record.json` of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) spec: SandboxSpec,
}

/// `record.json` of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) created_at: i64,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) image_ref: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) cgroup: String,
    pub(crate) stop_signal: i32,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    /// Images that back mounts, besides the root's.
    pub(crate) mounted_images: Vec<String>,
}

pub(crate) const RECORD_FILE: &str = "record.json";
/// The container's plan as its shim got it; execs are made from it.
pub(crate) const PLAN_FILE: &str = "plan";

/// A record has the labels and annotations of its pod; a plan fits into a frame.
pub(crate) const RECORD_MAX_BYTES: u64 = rt::fs::SMALL_MAX_BYTES;

pub(crate) fn save<T: Serialize>(directory: &Path, record: &T) -> Result<()> {
    let bytes = serde_json::to_vec(record).context(|| "encode a record")?;
    // State is lost with the boot anyway, so it is renamed into place but never synced: no flash is worn.
    write_unsynced(&directory.join(RECORD_FILE), &bytes)
}

pub(crate) fn load<T: for<'a> Deserialize<'a>>(directory: &Path) -> Result<T> {
    let path = directory.join(RECORD_FILE);
    let read = rt::fs::read_record(&path, RECORD_MAX_BYTES)?;
    let bytes = read.context(|| format!("{} is missing", path.display()))?;
    serde_json::from_slice(&bytes).context(|| format!("decode {}", path.display()))
}

/// Replaces a file in one step, without forcing it to disk.
pub(crate) fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<()> {
    rt::fs::replace(path, bytes, 0o600)
}
