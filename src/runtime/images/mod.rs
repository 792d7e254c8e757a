//! The images on this node: archives in, registries in, layers out.

use std::io::Read;
use std::path::PathBuf;

use stdx::Result;
use stdx::time::Wall;

/// The image store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Images {}

/// An image that is present with all its layers.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the config, `sha256:...`.
    pub id: String,
    /// Full references, `docker.io/library/nginx:1.27`.
    pub tags: Vec<String>,
    /// `docker.io/library/nginx@sha256:...`, for pulled ones.
    pub digests: Vec<String>,
    /// Unpacked size of its layers.
    pub size_bytes: u64,
    /// Never garbage-collected: imported from the airgap directory or by `ctr`.
    pub pinned: bool,
    /// When it was last imported, pulled, or used by a container.
    pub last_used: Wall,
    pub config: ImageConfig,
}

/// What the image says about processes made from it.
#[derive(Clone, Debug, Default)]
pub struct ImageConfig {
    pub architecture: String,
    pub os: String,
    /// `user[:group]`, names or numbers; empty means root.
    pub user: String,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub stop_signal: String,
    pub volumes: Vec<String>,
    pub labels: Vec<(String, String)>,
}

impl ImageConfig {
    /// The numeric user id, where the user is given as a number (or not at all: 0).
    pub fn numeric_uid(&self) -> Option<u32> {
        None
    }
}

/// How to reach a registry for one pull.
#[derive(Clone, Debug, Default)]
pub struct PullAuth {
    pub username: String,
    pub password: String,
    /// A ready token, instead of name and password (`identitytoken` / `registrytoken`).
    pub token: String,
}

/// What is on disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub bytes: u64,
    pub inodes: u64,
}

/// What an import of the airgap directory did.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    pub images: Vec<String>,
    pub unchanged_files: usize,
    /// File and reason, for each that could not be imported.
    pub failed: Vec<(PathBuf, String)>,
}

impl Images {
    pub fn list(&self) -> Vec<Image> {
        Vec::new()
    }
    /// By id (or unique id prefix of at least 8 hex digits), reference or digest reference.
    pub fn get(&self, reference: &str) -> Option<Image> {
        None
    }
    /// Imports a `docker save` or OCI layout tar (plain, gzip or zstd), which is read twice: `open`
    /// is called for each pass. `name` is for messages. Returns the references (or ids) it held.
    pub async fn import_archive(
        &self,
        name: &str,
        pinned: bool,
        open: impl Fn() -> std::io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    ) -> Result<Vec<String>> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Imports what is new in the airgap directory and pulls what its `.txt` lists name.
    pub async fn import_directory(&self) -> Result<Imported> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Pulls for this machine's platform, unless `reference` is by digest and present.
    pub async fn pull(&self, reference: &str, auth: Option<PullAuth>) -> Result<Image> {
        Err(stdx::Error::new("not built yet"))
    }
    pub async fn tag(&self, reference: &str, new_tag: &str) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Removes one tag, or by id the image with all tags; layers nobody needs go with it.
    /// Refused while a container uses it.
    pub async fn remove(&self, reference: &str) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    pub async fn usage(&self) -> Result<Usage> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Deletes unpinned images that no container uses, least recently used first, until
    /// `free_bytes` are freed (`u64::MAX`: all of them). `min_age` protects the recently used.
    pub async fn collect_garbage(
        &self,
        free_bytes: u64,
        min_age: std::time::Duration,
    ) -> Result<u64> {
        Err(stdx::Error::new("not built yet"))
    }
}
