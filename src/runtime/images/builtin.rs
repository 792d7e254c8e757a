//! Images of one directory that is on the disk already: the embedded userspace, without a second copy.
//!
//! The layer is a symbolic link to that directory, with a marker like any other layer's. So whatever
//! removes the layer removes a link; and a directory that is gone makes the image incomplete, which
//! is found at the next start as for any other.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::sync::PoisonError;

use stdx::{Context, Error, Result};

use super::store::{LayerId, LayerMarker, Store, sha256};
use super::{Images, unpack};

/// Left free on the disk: less than beside pulled layers, because this is known to be small, and disks
/// of a few megabytes are no reason to do without.
const DISK_RESERVE_BYTES: u64 = 2 << 20;

/// What to make an image of.
#[derive(Debug)]
pub struct Builtin {
    /// The root that containers see, complete and never written to again.
    pub directory: PathBuf,
    /// Digest of the tar that it was unpacked from, as the config has it: `sha256:...`.
    pub diff_id: String,
    /// The OCI image config, JSON.
    pub config: Vec<u8>,
    /// Full references.
    pub tags: Vec<String>,
    /// A file of the host that containers of the image see, read-only, in place of one in the directory.
    pub program: Option<Program>,
}

/// A file of the host in an image.
#[derive(Clone, Debug)]
pub struct Program {
    pub source: PathBuf,
    /// Absolute path in the container; there is a file in the directory.
    pub target: String,
}

/// Unpacks a tar into an empty directory as a layer is unpacked, and checks its digest. Blocking.
/// It is for the caller to wait for the disk.
///
/// # Errors
/// Name the entry, or the digest that was found. What was unpacked so far is for the caller to remove.
pub fn unpack_tar(tar: impl Read, diff_id: &str, directory: &Path) -> Result<()> {
    let mut hashing = super::store::Hashing::new(tar);
    unpack::unpack(&mut hashing, directory, DISK_RESERVE_BYTES)?;
    match hashing.finish().1 {
        found if found == diff_id => Ok(()),
        found => Err(Error::new(format!("its content has digest {found}, not {diff_id}"))),
    }
}

impl Images {
    /// Adds a pinned image whose layer is `builtin.directory` itself. Tags move to it from other images.
    ///
    /// # Errors
    /// If the directory is not there, or the store cannot be written.
    pub async fn add_builtin(&self, builtin: Builtin) -> Result<()> {
        let shared = self.shared.clone();
        let what = format!("add the image {}", builtin.tags.join(", "));
        crate::state::finish("add a built-in image", async move {
            let _working = shared.work.read().await;
            let inner = shared.clone();
            rt::unblock(move || {
                let id = add(&inner.store, &builtin)?;
                if let Some(program) = builtin.program {
                    let mut programs =
                        inner.programs.lock().unwrap_or_else(PoisonError::into_inner);
                    programs.insert(id, program);
                }
                Ok(())
            })
            .await
        })
        .await
        .context(|| what)
    }
}

/// The image's id.
fn add(store: &Store, builtin: &Builtin) -> Result<String> {
    let layers = Store::layer_ids(std::slice::from_ref(&builtin.diff_id))?;
    let [layer] = layers.as_slice() else { return Err(Error::new("it has no layer")) };
    store.adopt(layer, &builtin.directory)?;
    let id = sha256(&builtin.config);
    store.write_blob(&id, &builtin.config)?;
    store.add_image(&id, &layers, &builtin.tags, &[], true, rt::now().wall)?;
    Ok(id)
}

impl Store {
    /// Makes a directory elsewhere count as a layer.
    fn adopt(&self, id: &LayerId, directory: &Path) -> Result<()> {
        let metadata = rt::fs::metadata(directory)
            .context(|| format!("look at its layer {}", directory.display()))?;
        if !metadata.is_dir() {
            return Err(Error::new(format!("its layer {} is no directory", directory.display())));
        }
        let layers = self.root.join("l");
        let link = layers.join(&id.name);
        let target = relative(&layers, directory);
        if self.has_layer(id)
            && (!is_adopted(&link) || rt::fs::read_link(&link).as_ref() == Some(&target))
        {
            return Ok(());
        }
        if !is_adopted(&link) {
            // Without a marker, what is there is a leftover.
            rt::fs::remove_dir_all(&link)?;
        }
        rt::fs::symlink_atomic(&target, &link)?;
        let usage = super::disk_usage(directory);
        let marker =
            LayerMarker { chain_id: id.chain_id.clone(), bytes: usage.bytes, inodes: usage.inodes };
        let bytes = serde_json::to_vec(&marker).context(|| "encode a layer's marker")?;
        rt::fs::write_atomic(layers.join(format!("{}.ok", id.name)), &bytes, 0o600)?;
        let opened = sys::file::open_dir(&layers).context(|| "open the layers")?;
        sys::file::sync_file_system(opened.as_fd()).context(|| "wait for the disk")?;
        self.layers().insert(id.name.clone(), marker);
        Ok(())
    }
}

/// Whether a layer is a link to a directory that others keep.
pub(super) fn is_adopted(layer: &Path) -> bool {
    rt::fs::read_link(layer).is_some()
}

/// `to` as seen from the directory `from`: such a link survives that the data directory is moved.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let from: Vec<Component<'_>> = from.components().collect();
    let to: Vec<Component<'_>> = to.components().collect();
    let n_common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[n_common..].iter().map(|_| Component::ParentDir);
    up.chain(to[n_common..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use wire::tar::{Builder, Entry};

    use super::*;

    #[test]
    fn links_are_relative() {
        let check = |from: &str, to: &str, expected: &str| {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(expected));
        };
        check("/d/agent/containerd/l", "/d/data/1/root", "../../../data/1/root");
        check("/a", "/b", "../b");
        check("/a", "/a/b", "b");
    }

    #[test]
    fn a_layer_elsewhere_counts_while_it_is_there_and_is_never_deleted() {
        if sys::process::effective_uid() != 0 {
            eprintln!("skipped: not root");
            return;
        }
        let dir = std::env::temp_dir().join(format!("builtin-{}", std::process::id()));
        rt::fs::remove_dir_all(&dir).unwrap();
        let root = dir.join("data/root");
        rt::fs::create_dir_all(&root, 0o755).unwrap();
        let mut tar = Builder::default();
        tar.add(&Entry::file(b"bin/sh", 0o755), b"a shell");
        let tar = tar.finish();
        let diff_id = sha256(&tar);
        let wrong = unpack_tar(tar.as_slice(), &sha256(b"other"), &root).unwrap_err();
        assert!(wrong.to_string().starts_with("its content has digest sha256:"), "{wrong}");
        unpack_tar(tar.as_slice(), &diff_id, &root).unwrap();

        let config = format!(
            r#"{{"architecture":"","os":"","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let builtin = Builtin {
            directory: root.clone(),
            diff_id: diff_id.clone(),
            config: config.into_bytes(),
            tags: vec!["k3rs.io/test:1".to_owned()],
            program: None,
        };
        let images = dir.join("agent");
        let store = Store::open(&images).unwrap();
        add(&store, &builtin).unwrap();
        add(&store, &builtin).unwrap();
        let layer = images.join("l").join(&Store::layer_ids(&[diff_id]).unwrap()[0].name);
        assert_eq!(rt::fs::read(layer.join("bin/sh")).unwrap(), b"a shell");
        assert!(store.usage().0 > 0);

        // It is found again, and the image with it.
        let store = Store::open(&images).unwrap();
        let record = store.database().images.values().next().cloned().unwrap();
        assert_eq!((record.tags, record.pinned), (builtin.tags.clone(), true));

        // Removing the image frees nothing and leaves the directory alone.
        store.database().images.clear();
        assert_eq!(store.sweep().unwrap(), 0);
        assert!(rt::fs::symlink_metadata(&layer).is_err());
        assert_eq!(rt::fs::read(root.join("bin/sh")).unwrap(), b"a shell");

        // A directory that is gone is an image that is gone.
        add(&store, &builtin).unwrap();
        rt::fs::rename(&root, dir.join("away")).unwrap();
        let store = Store::open(&images).unwrap();
        assert!(store.database().images.is_empty());
        assert!(add(&store, &builtin).is_err());
        rt::fs::remove_dir_all(&dir).unwrap();
    }
}
