//! Where everything lies under the data directory (k3s's layout).

use std::path::{Path, PathBuf};

/// The data directory, `/var/lib/rancher/k3s` by default.
#[derive(Debug, Clone)]
pub struct Paths {
    data_dir: PathBuf,
}

impl Paths {
    pub fn new(data_dir: impl Into<PathBuf>) -> Paths {
        Paths { data_dir: data_dir.into() }
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// `data/`: unpacked binaries and the lock of unpacking.
    pub fn data(&self) -> PathBuf {
        self.data_dir.join("data")
    }

    pub fn server(&self) -> PathBuf {
        self.data_dir.join("server")
    }

    pub fn agent(&self) -> PathBuf {
        self.data_dir.join("agent")
    }

    /// `server/tls/<name>`
    pub fn tls(&self, name: &str) -> PathBuf {
        self.server().join("tls").join(name)
    }

    /// `server/cred/<name>`
    pub fn cred(&self, name: &str) -> PathBuf {
        self.server().join("cred").join(name)
    }

    /// Where snapshots of the embedded etcd are, unless a flag says otherwise.
    pub fn snapshots(&self) -> PathBuf {
        self.server().join("db").join("snapshots")
    }

    pub fn manifests(&self) -> PathBuf {
        self.server().join("manifests")
    }

    pub fn static_files(&self) -> PathBuf {
        self.server().join("static")
    }

    /// `server/db/etcd`: the embedded etcd's.
    pub fn etcd(&self) -> PathBuf {
        self.server().join("db").join("etcd")
    }

    /// The SQLite datastore.
    pub fn datastore(&self) -> PathBuf {
        self.server().join("db").join("state.db")
    }
}
