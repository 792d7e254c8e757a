//! What tests share: a temporary directory that goes when the test does.

use std::path::{Path, PathBuf};

pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = rt::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn directory(what: &str) -> Directory {
    let name = format!("kubelet-{what}-{}-{:x}", std::process::id(), rt::random_u64());
    let path = std::env::temp_dir().join(name);
    rt::fs::create_dir_all(&path, 0o755).unwrap();
    Directory(path)
}
