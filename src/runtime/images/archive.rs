//! Airgap archives: what `docker save` and OCI layouts look like in a tar, compressed or not.
//!
//! An archive is read in passes rather than spooled: the first learns what images it holds, the next
//! unpack layers as they come by. So it needs no disk beyond the layers themselves.

use std::io::Read;

use stdx::{Context, Error, OrdMap, Result};
use wire::decompress::Decompressor;
use wire::oci::{self, Descriptor, Manifest, SavedImage};
use wire::tar::{Archive, Kind};

use super::platform;
use super::reference::Reference;
use super::store::{LayerId, Pending, Store, sha256};

/// JSON documents that are remembered from the first pass.
const DOCUMENT_MAX_BYTES: u64 = 1 << 20;
const DOCUMENTS_MAX_BYTES: usize = 16 << 20;
const ENTRIES_MAX: usize = 200_000;
/// Passes over an archive whose images share blobs at different depths.
const PASSES_MAX: usize = 16;
/// Indexes in indexes.
const DEPTH_MAX: usize = 4;

/// Opens the archive from its start.
pub(super) type Open<'a> = &'a (dyn Fn() -> std::io::Result<Box<dyn Read + Send>> + Send + Sync);

/// One image as an archive describes it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: String,
    config: Vec<u8>,
    pub(super) tags: Vec<String>,
    pub(super) layers: Vec<LayerId>,
    /// For each layer: its name in the archive, and the digest of its compressed form if known.
    sources: Vec<(String, Option<String>)>,
}

/// Imports all images for this machine. Returns their ids with their tags. Blocking.
pub(super) fn import(
    store: &Store,
    open: Open<'_>,
    pinned: bool,
) -> Result<Vec<(String, Vec<String>)>> {
    let contents = scan(open)?;
    let found = contents.images()?;
    if found.is_empty() {
        return Err(Error::new("it holds no image for this machine"));
    }
    let mut pending: Vec<Pending> = Vec::new();
    for _ in 0..PASSES_MAX {
        let wanted = wanted(store, &found, &pending, &contents);
        if wanted.is_empty() {
            break;
        }
        let unpacked = unpack_pass(store, open, &wanted)?;
        if unpacked.is_empty() {
            let missing: Vec<&str> = wanted.keys().map(String::as_str).collect();
            return Err(Error::new(format!("it lacks the layers {}", missing.join(", "))));
        }
        pending.extend(unpacked);
    }
    let mut imported = Vec::new();
    for image in found {
        let (own, rest) = pending.into_iter().partition(|one| image.layers.contains(&one.id));
        pending = rest;
        store.commit(&image.layers, own).context(|| format!("image {}", image.id))?;
        if let Some(missing) = image.layers.iter().find(|layer| !store.has_layer(layer)) {
            return Err(Error::new(format!(
                "image {}: layer {} is missing",
                image.id, missing.diff_id
            )));
        }
        store.write_blob(&image.id, &image.config)?;
        store.add_image(&image.id, &image.layers, &image.tags, &[], pinned, rt::now().wall)?;
        imported.push((image.id, image.tags));
    }
    Ok(imported)
}

/// What the first pass remembers.
#[derive(Debug, Default)]
struct Contents {
    /// Small JSON files by name.
    documents: OrdMap<String, Vec<u8>>,
    /// Links to other entries: `docker save` of old stores a shared layer once.
    links: OrdMap<String, String>,
}

fn scan(open: Open<'_>) -> Result<Contents> {
    let mut archive =
        Archive::new(Decompressor::new(open().context(|| "open it")?).context(|| "read it")?);
    let mut contents = Contents::default();
    let (mut n_bytes, mut n_entries) = (0, 0);
    while let Some(entry) = archive.next_entry()? {
        n_entries += 1;
        if n_entries > ENTRIES_MAX {
            return Err(Error::new(format!("more than {ENTRIES_MAX} entries")));
        }
        let name = normal_name(&entry.path);
        match entry.kind {
            Kind::SymbolicLink | Kind::HardLink => {
                let target = normal_name(&entry.link);
                let target = match entry.kind {
                    Kind::SymbolicLink => resolve(&name, &target),
                    _ => target,
                };
                contents.links.insert(name, target);
            }
            Kind::File if entry.size <= DOCUMENT_MAX_BYTES => {
                let mut first = [0; 1];
                if archive.read(&mut first).unwrap_or(0) == 1 && matches!(first[0], b'{' | b'[') {
                    let mut bytes = first.to_vec();
                    archive.read_to_end(&mut bytes).context(|| format!("read {name}"))?;
                    n_bytes += bytes.len();
                    if n_bytes > DOCUMENTS_MAX_BYTES {
                        return Err(Error::new(format!(
                            "more than {DOCUMENTS_MAX_BYTES} bytes of JSON documents"
                        )));
                    }
                    contents.documents.insert(name, bytes);
                }
            }
            _ => {}
        }
    }
    Ok(contents)
}

/// Names are only compared, never opened, so this need not be safe, just forgiving.
fn normal_name(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.trim_start_matches("./").trim_start_matches('/').to_owned()
}

/// The target of a symbolic link, relative to the archive.
fn resolve(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Contents {
    fn document(&self, name: &str) -> Option<&[u8]> {
        let name = self.links.get(name).map_or(name, String::as_str);
        self.documents.get(name).map(Vec::as_slice)
    }

    fn blob(&self, digest: &str) -> Option<&[u8]> {
        self.document(&format!("blobs/sha256/{}", oci::sha256_hex(digest)?))
    }

    fn images(&self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let saved = match self.document("manifest.json") {
            Some(bytes) => serde_json::from_slice::<Vec<SavedImage>>(bytes)
                .context(|| "decode manifest.json")?,
            None => Vec::new(),
        };
        match self.document("index.json") {
            Some(bytes) => {
                let index: Manifest =
                    serde_json::from_slice(bytes).context(|| "decode index.json")?;
                // The list is of images, not of one image's platforms: all that fit are taken.
                for descriptor in &index.manifests {
                    self.add_described(descriptor, &saved, 0, &mut found)
                        .context(|| format!("image {}", descriptor.digest))?;
                }
            }
            None if saved.is_empty() => {
                return Err(Error::new(
                    "neither index.json (OCI layout) nor manifest.json (docker save) is in it",
                ));
            }
            None => {
                for image in &saved {
                    found.push(
                        self.saved_image(image).context(|| format!("image {}", image.config))?,
                    );
                }
            }
        }
        Ok(found)
    }

    fn add_described(
        &self,
        descriptor: &Descriptor,
        saved: &[SavedImage],
        depth: usize,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::new("indexes in indexes without end"));
        }
        // A layout may list more than it holds: other platforms are often left out.
        let Some(bytes) = self.blob(&descriptor.digest) else { return Ok(()) };
        check_digest(&descriptor.digest, bytes)?;
        let manifest: Manifest = serde_json::from_slice(bytes).context(|| "decode its manifest")?;
        if let Some(config) = &manifest.config {
            let Some(mut image) = self.manifest_image(&manifest, config)? else { return Ok(()) };
            image.tags = described_tags(descriptor);
            if image.tags.is_empty() {
                let hex = oci::sha256_hex(&image.id).unwrap_or("none").to_owned();
                let same = saved.iter().filter(|one| one.config.contains(&hex));
                image.tags =
                    same.flat_map(|one| &one.repo_tags).filter_map(|tag| full_tag(tag)).collect();
            }
            found.push(image);
            return Ok(());
        }
        let present: Vec<&Descriptor> =
            manifest.manifests.iter().filter(|one| self.blob(&one.digest).is_some()).collect();
        let Some(chosen) = platform::choose(&present) else { return Ok(()) };
        let chosen = Descriptor { annotations: descriptor.annotations.clone(), ..chosen.clone() };
        self.add_described(&chosen, saved, depth + 1, found)
    }

    /// The image of a manifest; none if it is for another machine or not an image at all.
    fn manifest_image(&self, manifest: &Manifest, config: &Descriptor) -> Result<Option<Found>> {
        let bytes =
            self.blob(&config.digest).context(|| format!("config {} is missing", config.digest))?;
        check_digest(&config.digest, bytes)?;
        let image: oci::Image = match serde_json::from_slice(bytes) {
            Ok(image) => image,
            // Signatures, charts and the like are stored in the same way.
            Err(_) => return Ok(None),
        };
        if image.rootfs.diff_ids.is_empty() && !manifest.layers.is_empty()
            || !platform::runs_here(&image)
        {
            return Ok(None);
        }
        if image.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(Error::new("its manifest and config have different numbers of layers"));
        }
        let source = |layer: &Descriptor| -> Result<(String, Option<String>)> {
            let hex = oci::sha256_hex(&layer.digest)
                .context(|| format!("layer digest {:?} is not valid", layer.digest))?;
            Ok((format!("blobs/sha256/{hex}"), Some(layer.digest.clone())))
        };
        Ok(Some(Found {
            id: config.digest.clone(),
            config: bytes.to_vec(),
            tags: Vec::new(),
            layers: Store::layer_ids(&image.rootfs.diff_ids)?,
            sources: manifest.layers.iter().map(source).collect::<Result<_>>()?,
        }))
    }

    fn saved_image(&self, saved: &SavedImage) -> Result<Found> {
        let bytes = self.document(&saved.config).context(|| "its config is missing")?;
        let image: oci::Image = serde_json::from_slice(bytes).context(|| "decode its config")?;
        if !platform::runs_here(&image) {
            return Err(Error::new(format!(
                "it is for {}/{}, not for this machine",
                image.os, image.architecture
            )));
        }
        if image.rootfs.diff_ids.len() != saved.layers.len() {
            return Err(Error::new("its manifest and config have different numbers of layers"));
        }
        Ok(Found {
            id: sha256(bytes),
            config: bytes.to_vec(),
            tags: saved.repo_tags.iter().filter_map(|tag| full_tag(tag)).collect(),
            layers: Store::layer_ids(&image.rootfs.diff_ids)?,
            sources: saved.layers.iter().map(|name| (normal_name(name.as_bytes()), None)).collect(),
        })
    }
}

fn check_digest(digest: &str, bytes: &[u8]) -> Result<()> {
    let found = sha256(bytes);
    if found == digest {
        Ok(())
    } else {
        Err(Error::new(format!("document {digest}: its content has digest {found}")))
    }
}

fn full_tag(tag: &str) -> Option<String> {
    Reference::parse(tag).ok().map(|reference| reference.to_string())
}

/// The names that tools put on a manifest in an index.
fn described_tags(descriptor: &Descriptor) -> Vec<String> {
    let annotation = |key: &str| descriptor.annotations.get(key);
    let named = annotation("io.containerd.image.name").or_else(|| {
        // Often only a tag without a name; a full name is what can be used.
        annotation("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']))
    });
    named.and_then(|name| full_tag(name)).into_iter().collect()
}

/// Archive entry -> the layer to make of it in this pass.
type Wanted = OrdMap<String, (LayerId, Option<String>)>;

fn wanted(store: &Store, found: &[Found], pending: &[Pending], contents: &Contents) -> Wanted {
    let mut wanted = Wanted::new();
    for image in found {
        for (id, (name, digest)) in image.layers.iter().zip(&image.sources) {
            if store.has_layer(id) || pending.iter().any(|one| one.id == *id) {
                continue;
            }
            let name = contents.links.get(name).unwrap_or(name);
            wanted.entry(name.clone()).or_insert_with(|| (id.clone(), digest.clone()));
        }
    }
    wanted
}

fn unpack_pass(store: &Store, open: Open<'_>, wanted: &Wanted) -> Result<Vec<Pending>> {
    let mut archive =
        Archive::new(Decompressor::new(open().context(|| "open it")?).context(|| "read it")?);
    let mut unpacked: Vec<Pending> = Vec::new();
    while unpacked.len() < wanted.len() {
        let Some(entry) = archive.next_entry()? else { break };
        let Some((id, digest)) = wanted.get(&normal_name(&entry.path)) else { continue };
        if entry.kind == Kind::File && !unpacked.iter().any(|one| one.id == *id) {
            unpacked.push(store.unpack(id, digest.as_deref(), &mut archive)?);
        }
    }
    Ok(unpacked)
}
