//! The image store on disk: unpacked layers, config blobs and one small database.
//!
//! Layout below `<data-dir>/agent/containerd`: `images.json`, `blobs/sha256/<hex>` (configs and
//! manifests), `l/<name>` (a layer as overlayfs takes it) with its marker `l/<name>.ok`. A layer
//! directory counts only with its marker, which is written after the layer is on the disk; what a power
//! cut left without one is removed at the next start. Compressed layers are not kept.
//! Names in `l` are short because all of an image's must fit into one page of mount options.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::digest;
use serde::{Deserialize, Serialize};
use stdx::{Context, Error, Result};
use stdx::{OrdMap, OrdSet, time::Wall};
use wire::decompress::Decompressor;
use wire::oci;

use super::unpack::{self, Unpacked};

/// Layers of one image. The mount options of more would not fit into their page.
pub(super) const LAYERS_MAX: usize = 140;

#[derive(Debug)]
pub(super) struct Store {
    pub(super) root: PathBuf,
    database: Mutex<Database>,
    /// Valid layers by name, with their unpacked size.
    layers: Mutex<OrdMap<String, LayerMarker>>,
    temporary: AtomicU64,
    /// One save at a time, so that the last one written is the newest.
    saving: Mutex<()>,
}

/// `images.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Database {
    /// By id.
    pub(super) images: OrdMap<String, ImageRecord>,
    /// Archives of the airgap directory that need not be read again.
    pub(super) imports: Vec<ImportRecord>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ImageRecord {
    pub(super) tags: Vec<String>,
    pub(super) digests: Vec<String>,
    /// Names in `l`, base first.
    pub(super) layers: Vec<String>,
    pub(super) pinned: bool,
    pub(super) last_used: i64,
    /// Read from its blob.
    #[serde(skip)]
    pub(super) config: std::sync::Arc<super::ImageConfig>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ImportRecord {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) mtime_nanos: i64,
    pub(super) images: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LayerMarker {
    pub(super) chain_id: String,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

/// What identifies a layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerId {
    pub(super) name: String,
    pub(super) chain_id: String,
    pub(super) diff_id: String,
}

/// A layer that is unpacked but does not count yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: LayerId,
    directory: PathBuf,
    unpacked: Unpacked,
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After a commit it is no longer there.
        let _ = rt::fs::remove_dir_all(&self.directory);
    }
}

impl Store {
    /// Opens the store and drops what is broken. Blocking.
    pub(super) fn open(root: &Path) -> Result<Store> {
        for part in ["l", "blobs/sha256"] {
            rt::fs::create_dir_all(root.join(part), 0o700)?;
        }
        let layers = valid_layers(&root.join("l"))?;
        let database = read_database(&root.join("images.json"));
        let store = Store {
            root: root.to_owned(),
            database: Mutex::new(database),
            layers: Mutex::new(layers),
            temporary: AtomicU64::new(0),
            saving: Mutex::new(()),
        };
        store.drop_broken_images()?;
        Ok(store)
    }

    pub(super) fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn layers(&self) -> MutexGuard<'_, OrdMap<String, LayerMarker>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Images whose layers or config are gone are forgotten, with the archives they came from, so that
    /// these are imported again.
    fn drop_broken_images(&self) -> Result<()> {
        let mut dropped = Vec::new();
        {
            let mut database = self.database();
            let Database { images, imports } = &mut *database;
            images.retain(|id, image| {
                let complete = image.layers.iter().all(|name| self.layers().contains_key(name));
                match complete.then(|| self.read_config(id)) {
                    Some(Ok(config)) => {
                        image.config = config.into();
                        true
                    }
                    _ => {
                        dropped.push(id.clone());
                        false
                    }
                }
            });
            imports.retain(|import| !import.images.iter().any(|id| dropped.contains(id)));
        }
        for id in &dropped {
            log::warn!(
                "image {id} is incomplete and was dropped; it is imported or pulled again when needed"
            );
        }
        if dropped.is_empty() { Ok(()) } else { self.save() }
    }

    pub(super) fn save(&self) -> Result<()> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes =
            serde_json::to_vec(&*self.database()).context(|| "encode the image database")?;
        rt::fs::write_atomic(self.root.join("images.json"), &bytes, 0o600)
    }

    /// The layers of an image by their uncompressed digests, base first.
    pub(super) fn layer_ids(diff_ids: &[String]) -> Result<Vec<LayerId>> {
        if diff_ids.len() > LAYERS_MAX {
            return Err(Error::new(format!("{} layers, allowed are {LAYERS_MAX}", diff_ids.len())));
        }
        let mut ids: Vec<LayerId> = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids {
            oci::sha256_hex(diff_id)
                .context(|| format!("layer digest {diff_id:?} is not a SHA-256 digest"))?;
            let chain_id = match ids.last() {
                Some(below) => sha256(format!("{} {diff_id}", below.chain_id).as_bytes()),
                None => diff_id.clone(),
            };
            let name = chain_id["sha256:".len()..][..24].to_owned();
            ids.push(LayerId { name, chain_id, diff_id: diff_id.clone() });
        }
        Ok(ids)
    }

    pub(super) fn has_layer(&self, id: &LayerId) -> bool {
        self.layers().get(&id.name).is_some_and(|marker| marker.chain_id == id.chain_id)
    }

    /// Unpacks a layer, compressed or not, and checks its digests. Blocking.
    pub(super) fn unpack(
        &self,
        id: &LayerId,
        compressed: Option<&str>,
        reader: impl Read,
    ) -> Result<Pending> {
        let serial = self.temporary.fetch_add(1, Ordering::Relaxed);
        let directory = self.root.join("l").join(format!(".{}.{serial}", id.name));
        rt::fs::remove_dir_all(&directory)?;
        rt::fs::create_dir_all(&directory, 0o755)?;
        let mut pending = Pending { id: id.clone(), directory, unpacked: Unpacked::default() };
        let outer = Hashing::new(reader);
        let mut inner =
            Hashing::new(Decompressor::new(outer).context(|| format!("layer {}", id.diff_id))?);
        let unpacked = unpack::unpack(&mut inner, &pending.directory, unpack::DISK_RESERVE_BYTES);
        pending.unpacked = unpacked.context(|| format!("layer {}", id.diff_id))?;
        let (decompressor, diff_id) = inner.finish();
        if diff_id != id.diff_id {
            return Err(Error::new(format!(
                "layer {}: its content has digest {diff_id}",
                id.diff_id
            )));
        }
        if let Some(expected) = compressed {
            let mut outer = decompressor.into_inner().context(|| "the layer's stream failed")?;
            io::copy(&mut outer, &mut io::sink())
                .context(|| format!("layer {expected}: read to its end"))?;
            let (_, digest) = outer.finish();
            if digest != expected {
                return Err(Error::new(format!(
                    "layer {expected}: what was received has digest {digest}"
                )));
            }
        }
        Ok(pending)
    }

    /// Makes unpacked layers count: all of one image's at once, with two waits for the disk in all.
    /// `ids` are the image's layers, base first. Blocking.
    pub(super) fn commit(&self, ids: &[LayerId], mut pending: Vec<Pending>) -> Result<()> {
        if pending.is_empty() {
            return Ok(());
        }
        let directory = self.root.join("l");
        let mut lowers: Vec<PathBuf> = Vec::new();
        for id in ids {
            let found = pending.iter().find(|one| one.id == *id);
            let place = found.map_or_else(|| directory.join(&id.name), |one| one.directory.clone());
            if let Some(one) = found {
                unpack::finish(&one.unpacked, &one.directory, &lowers)
                    .context(|| format!("layer {}", id.diff_id))?;
            }
            lowers.insert(0, place);
        }
        let opened = sys::file::open_dir(&directory).context(|| "open the layers")?;
        let sync = || sys::file::sync_file_system(opened.as_fd()).context(|| "wait for the disk");
        sync()?;
        let mut markers = Vec::new();
        for one in pending.drain(..) {
            let place = directory.join(&one.id.name);
            // Without a marker, what is there is a leftover.
            if !self.has_layer(&one.id) {
                rt::fs::remove_dir_all(&place)?;
                rt::fs::rename(&one.directory, &place)?;
                let marker = LayerMarker {
                    chain_id: one.id.chain_id.clone(),
                    bytes: one.unpacked.bytes,
                    inodes: one.unpacked.inodes,
                };
                let bytes = serde_json::to_vec(&marker).context(|| "encode a layer's marker")?;
                rt::fs::replace(directory.join(format!("{}.ok", one.id.name)), &bytes, 0o600)?;
                markers.push((one.id.name.clone(), marker));
            }
        }
        sync()?;
        self.layers().extend(markers);
        Ok(())
    }

    pub(super) fn blob_path(&self, digest: &str) -> Option<PathBuf> {
        Some(self.root.join("blobs/sha256").join(oci::sha256_hex(digest)?))
    }

    /// Keeps a config or manifest, after checking its digest.
    pub(super) fn write_blob(&self, digest: &str, bytes: &[u8]) -> Result<()> {
        let found = sha256(bytes);
        if found != digest {
            return Err(Error::new(format!("document {digest}: its content has digest {found}")));
        }
        let path = self.blob_path(digest).context(|| format!("digest {digest:?} is not valid"))?;
        rt::fs::write_atomic(path, bytes, 0o600)
    }

    pub(super) fn read_config(&self, id: &str) -> Result<super::ImageConfig> {
        let path = self.blob_path(id).context(|| format!("image id {id:?} is not valid"))?;
        let read = rt::fs::read_record(&path, oci::DOCUMENT_MAX_BYTES as u64)?;
        let bytes = read.context(|| format!("the config of image {id} is missing"))?;
        let image: oci::Image = serde_json::from_slice(&bytes)
            .context(|| format!("decode the config of image {id}"))?;
        Ok(super::ImageConfig::from(image))
    }

    pub(super) fn image_bytes(&self, image: &ImageRecord) -> u64 {
        let layers = self.layers();
        image.layers.iter().filter_map(|name| layers.get(name)).map(|marker| marker.bytes).sum()
    }

    pub(super) fn usage(&self) -> (u64, u64) {
        self.layers()
            .values()
            .fold((0, 0), |(bytes, inodes), one| (bytes + one.bytes, inodes + one.inodes))
    }

    /// Removes layers and blobs that no image has. Returns the bytes freed. Blocking; nothing may be
    /// importing or pulling meanwhile.
    pub(super) fn sweep(&self) -> Result<u64> {
        let (layers, blobs) = {
            let database = self.database();
            let layers: OrdSet<String> =
                database.images.values().flat_map(|image| image.layers.iter().cloned()).collect();
            let blobs: OrdSet<String> = database
                .images
                .keys()
                .filter_map(|id| oci::sha256_hex(id))
                .map(str::to_owned)
                .collect();
            (layers, blobs)
        };
        let unused: Vec<(String, u64)> = self
            .layers()
            .iter()
            .filter(|(name, _)| !layers.contains(*name))
            .map(|(name, marker)| (name.clone(), marker.bytes))
            .collect();
        let mut freed = 0;
        for (name, bytes) in unused {
            // The marker goes first: half a layer must not count.
            self.layers().remove(&name);
            rt::fs::remove_file(self.root.join("l").join(format!("{name}.ok")))?;
            let layer = self.root.join("l").join(&name);
            // Only the link to a directory that others keep goes.
            if !super::builtin::is_adopted(&layer) {
                freed += bytes;
            }
            rt::fs::remove_dir_all(&layer)?;
        }
        for path in rt::fs::list_dir(self.root.join("blobs/sha256"))? {
            if path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| !blobs.contains(name))
            {
                rt::fs::remove_file(&path)?;
            }
        }
        Ok(freed)
    }

    /// Adds an image whose layers are committed, or tags to one that is there.
    pub(super) fn add_image(
        &self,
        id: &str,
        layers: &[LayerId],
        tags: &[String],
        digests: &[String],
        pinned: bool,
        now: Wall,
    ) -> Result<()> {
        let config = self.read_config(id)?;
        {
            let mut database = self.database();
            // A tag is on one image only; one that loses its last name stays, for its containers.
            for (_, other) in database.images.iter_mut().filter(|(other, _)| *other != id) {
                other.tags.retain(|tag| !tags.contains(tag));
            }
            let image = database.images.entry(id.to_owned()).or_default();
            image.layers = layers.iter().map(|layer| layer.name.clone()).collect();
            image.pinned |= pinned;
            image.last_used = now.0;
            image.config = config.into();
            for (have, new) in [(&mut image.tags, tags), (&mut image.digests, digests)] {
                for one in new {
                    if !have.contains(one) {
                        have.push(one.clone());
                    }
                }
            }
        }
        self.save()
    }
}

/// Many times what the images of a full disk take.
const DATABASE_MAX_BYTES: u64 = 64 << 20;

fn read_database(path: &Path) -> Database {
    let read = rt::fs::read_record(path, DATABASE_MAX_BYTES).and_then(|bytes| match bytes {
        Some(bytes) => {
            serde_json::from_slice(&bytes).context(|| format!("decode {}", path.display()))
        }
        None => Ok(Database::default()),
    });
    read.unwrap_or_else(|error| {
        // All it holds can be imported or pulled again; a node that does not start is worse.
        log::warn!("the image database is unusable and starts empty: {error}");
        Database::default()
    })
}

/// Reads the markers and removes directories without one.
fn valid_layers(directory: &Path) -> Result<OrdMap<String, LayerMarker>> {
    let mut layers = OrdMap::new();
    let mut broken = Vec::new();
    for path in rt::fs::list_dir(directory)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
        let marker_path =
            directory.join(format!("{}.ok", name.strip_suffix(".ok").unwrap_or(&name)));
        let marker = rt::fs::read_record(&marker_path, rt::fs::SMALL_MAX_BYTES)
            .unwrap_or_default()
            .and_then(|bytes| serde_json::from_slice::<LayerMarker>(&bytes).ok())
            .filter(|marker| {
                marker
                    .chain_id
                    .contains(marker_path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("/"))
            });
        let directory_exists = rt::fs::metadata(marker_path.with_extension(""))
            .is_ok_and(|metadata| metadata.is_dir());
        match marker {
            Some(marker) if directory_exists => {
                layers.insert(name.trim_end_matches(".ok").to_owned(), marker);
            }
            _ => broken.push(path),
        }
    }
    for path in broken {
        // What an image left must not keep the node from starting, however long it takes to remove.
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.starts_with(LEFTOVER_PREFIX) {
            continue;
        }
        log::warn!("removing {}, a layer that was not finished", path.display());
        let leftover = format!("{LEFTOVER_PREFIX}{:016x}", rt::random_u64());
        if let Err(error) = rt::fs::rename(&path, directory.join(leftover)) {
            log::warn!("{error}");
        }
    }
    Ok(layers)
}

/// What waits in `l` to be removed, under names that no layer gets.
const LEFTOVER_PREFIX: &str = ".gone.";

/// Removes what `Store::open` put aside. Blocking.
pub(super) fn remove_leftovers(root: &Path) {
    for path in rt::fs::list_dir(root.join("l")).unwrap_or_default() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.starts_with(LEFTOVER_PREFIX)
            && let Err(error) = rt::fs::remove_dir_all(&path)
        {
            log::warn!("a layer that was not finished: {error}");
        }
    }
}

/// `sha256:<hex>` of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", wire::hex::encode(digest::digest(&digest::SHA256, bytes).as_ref()))
}

/// Hashes what passes through.
pub(super) struct Hashing<R> {
    reader: R,
    context: digest::Context,
}

impl<R> Hashing<R> {
    pub(super) fn new(reader: R) -> Hashing<R> {
        Hashing { reader, context: digest::Context::new(&digest::SHA256) }
    }

    pub(super) fn finish(self) -> (R, String) {
        (self.reader, format!("sha256:{}", wire::hex::encode(self.context.finish().as_ref())))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        self.context.update(&buf[..n]);
        Ok(n)
    }
}
