//! The images on this node: archives in, registries in, layers out.
//!
//! Knows the OCI and Docker formats and registries. Must not know containers: they hold images by id
//! while they use them.

mod archive;
mod builtin;
#[cfg(test)]
mod hostile_tests;
mod pace;
mod platform;
mod pull;
mod reference;
mod registries;
mod store;
mod unpack;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rt::BoxFuture;
use stdx::time::Wall;
use stdx::{Arrange, OrdMap};
use stdx::{Context, Error, Result, Sensitive};

use crate::Config;
use crate::events::Events;
use crate::status::Event;
pub use builtin::{Builtin, Program, unpack_tar};
pub use reference::Reference;
use store::{Database, ImageRecord, ImportRecord, Store};

/// The image store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Images {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    image_directory: PathBuf,
    registries_file: PathBuf,
    proxy: Option<Arc<http::client::Proxy>>,
    events: Arc<Events>,
    /// How many containers use an image, by id.
    holds: Mutex<OrdMap<String, usize>>,
    /// Files of the host that built-in images show, by image id.
    programs: Mutex<OrdMap<String, Program>>,
    /// Imports and pulls share it; removal excludes them.
    work: Arc<rt::lock::RwLock<()>>,
    /// One import of the airgap directory at a time.
    importing: rt::lock::Mutex<()>,
    /// Pulls at a time.
    pulls: rt::lock::Semaphore,
    client: http::client::Client,
}

impl Shared {
    fn program(&self, image: &str) -> Option<Program> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner).get(image).cloned()
    }
}

/// Between attempts to watch the airgap directory.
const RETRY: Duration = Duration::from_secs(60);
/// How long a file must not have been written to.
const SETTLED: Duration = Duration::from_secs(1);

/// Pulls of images at a time; each has its own bound on layers.
const PULLS_MAX: usize = 3;

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
    pub config: Arc<ImageConfig>,
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
        match self.user.split(':').next() {
            None | Some("") => Some(0),
            Some(user) => user.parse().ok(),
        }
    }
}

impl From<wire::oci::Image> for ImageConfig {
    fn from(image: wire::oci::Image) -> ImageConfig {
        let config = image.config;
        ImageConfig {
            architecture: image.architecture,
            os: image.os,
            user: config.user,
            env: config.env,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            working_dir: config.working_dir,
            stop_signal: config.stop_signal,
            volumes: config.volumes.into_keys().collect(),
            labels: config.labels.into_iter().collect(),
        }
    }
}

/// How to reach a registry for one pull; wins over `registries.yaml`.
#[derive(Clone, Debug, Default)]
pub struct PullAuth {
    pub username: String,
    pub password: Sensitive,
    /// A ready bearer token, instead of name and password.
    pub token: Sensitive,
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

/// An image as a container's root needs it.
#[derive(Debug)]
pub(crate) struct UsableImage {
    pub(crate) id: String,
    pub(crate) reference: String,
    /// The directory that `layers` are relative to.
    pub(crate) base: PathBuf,
    /// Top first.
    pub(crate) layers: Vec<String>,
    pub(crate) config: Arc<ImageConfig>,
    /// A file of the host that its containers see.
    pub(crate) program: Option<Program>,
    /// Keeps it from being removed while the container is being made.
    _hold: Hold,
}

/// An image that is in use until this is dropped.
#[derive(Debug)]
struct Hold {
    images: Images,
    id: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.images.release(&self.id);
    }
}

impl Images {
    pub(crate) async fn open(config: &Config, events: Arc<Events>) -> Result<Images> {
        let root = config.root.clone();
        let store = rt::unblock(move || Store::open(&root)).await?;
        let root = config.root.clone();
        rt::spawn(rt::unblock(move || store::remove_leftovers(&root))).detach();
        Ok(Images {
            shared: Arc::new(Shared {
                store,
                image_directory: config.image_directory.clone(),
                registries_file: config.registries_file.clone(),
                proxy: config.proxy.clone(),
                events,
                holds: Mutex::new(OrdMap::new()),
                programs: Mutex::default(),
                work: Arc::new(rt::lock::RwLock::new(())),
                importing: rt::lock::Mutex::new(()),
                pulls: rt::lock::Semaphore::new(PULLS_MAX),
                client: http::client::Client::new(http::client::Options::default()),
            }),
        })
    }

    pub fn list(&self) -> Vec<Image> {
        let database = self.shared.store.database();
        database.images.iter().map(|(id, record)| self.image(id, record)).collect()
    }

    /// By id (or unique id prefix of at least 8 hex digits), reference or digest reference.
    pub fn get(&self, reference: &str) -> Option<Image> {
        let database = self.shared.store.database();
        let id = find(&database, reference)?;
        Some(self.image(&id, database.images.get(&id)?))
    }

    fn image(&self, id: &str, record: &ImageRecord) -> Image {
        Image {
            id: id.to_owned(),
            tags: record.tags.clone(),
            digests: record.digests.clone(),
            size_bytes: self.shared.store.image_bytes(record),
            pinned: record.pinned,
            last_used: Wall(record.last_used),
            config: record.config.clone(),
        }
    }

    /// Imports a `docker save` or OCI layout tar (plain, gzip or zstd), which is read more than once:
    /// `open` is called for each pass. `name` is for messages. Returns the references (or ids) it held.
    pub async fn import_archive(
        &self,
        name: &str,
        pinned: bool,
        open: impl Fn() -> std::io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    ) -> Result<Vec<String>> {
        let imported = self.import(name, pinned, open).await?;
        Ok(imported
            .into_iter()
            .flat_map(|(id, tags)| if tags.is_empty() { vec![id] } else { tags })
            .collect())
    }

    async fn import(
        &self,
        name: &str,
        pinned: bool,
        open: impl Fn() -> std::io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    ) -> Result<Vec<(String, Vec<String>)>> {
        let shared = self.shared.clone();
        let what = format!("import {name}");
        // To its end even if the caller goes away: the database must match the disk.
        let imported = crate::state::finish("import an archive", async move {
            let _working = shared.work.read().await;
            let inner = shared.clone();
            rt::unblock(move || archive::import(&inner.store, &open, pinned)).await
        })
        .await
        .context(|| what)?;
        for (id, tags) in &imported {
            let references =
                if tags.is_empty() { std::slice::from_ref(id) } else { tags.as_slice() };
            for reference in references {
                let event = Event::ImageImported { reference: reference.clone(), id: id.clone() };
                self.shared.events.publish(&event);
            }
        }
        Ok(imported)
    }

    /// Imports what is new in the airgap directory and pulls what its `.txt` lists name.
    /// Files that are as they were at their last import are not read.
    pub async fn import_directory(&self) -> Result<Imported> {
        self.import_files(true).await
    }

    /// Imports what is new in the airgap directory, without the lists: needs no network.
    pub async fn import_archives(&self) -> Result<Imported> {
        self.import_files(false).await
    }

    /// Imports the airgap directory, and again whenever it changes, for ever. Errors are logged.
    pub async fn follow_directory(self) {
        loop {
            if let Err(error) = self.follow().await {
                log::warn!("airgap images: {error}; trying again in {} s", RETRY.as_secs());
            }
            rt::sleep(RETRY).await;
        }
    }

    async fn follow(&self) -> Result<()> {
        let directory = self.shared.image_directory.clone();
        let made = directory.clone();
        rt::unblock(move || rt::fs::create_dir_all(&made, 0o700)).await?;
        let watch = rt::FileWatch::new();
        watch.add(&directory)?;
        loop {
            self.import_directory().await?;
            watch.changed().await?;
            // A file that still grows would only fail.
            while self.is_growing().await? {
                rt::sleep(SETTLED).await;
            }
        }
    }

    /// Whether a file of the airgap directory was written to just now.
    async fn is_growing(&self) -> Result<bool> {
        let directory = self.shared.image_directory.clone();
        let files = rt::unblock(move || list_files(&directory)).await?;
        let now = rt::now().wall.secs();
        let settled = i64::try_from(SETTLED.as_secs()).unwrap_or(1);
        Ok(files.iter().any(|(_, file)| (0..=settled).contains(&(now - file.mtime))))
    }

    async fn import_files(&self, lists: bool) -> Result<Imported> {
        let _importing = self.shared.importing.lock().await;
        let directory = self.shared.image_directory.clone();
        let files = rt::unblock(move || list_files(&directory)).await?;
        let mut result = Imported::default();
        for (path, fingerprint) in files {
            let is_list = path.extension().is_some_and(|extension| extension == "txt");
            if is_list && !lists {
                continue;
            }
            if !is_list && self.is_imported(&fingerprint) {
                result.unchanged_files += 1;
                continue;
            }
            let done = match is_list {
                true => self.pull_list(&path).await,
                false => self.import_file(&path, fingerprint).await,
            };
            match done {
                Ok(images) => result.images.extend(images),
                Err(error) => {
                    log::warn!("airgap image file {}: {error}", path.display());
                    result.failed.push((path, error.to_string()));
                }
            }
        }
        Ok(result)
    }

    /// Whether a file is as it was when it was last imported.
    fn is_imported(&self, file: &ImportRecord) -> bool {
        let database = self.shared.store.database();
        database
            .imports
            .iter()
            .any(|known| ImportRecord { images: Vec::new(), ..known.clone() } == *file)
    }

    async fn import_file(&self, path: &Path, mut fingerprint: ImportRecord) -> Result<Vec<String>> {
        let started = rt::now().mono;
        let file = path.to_owned();
        let open =
            move || rt::fs::File::open(&file).map(|file| Box::new(file) as Box<dyn Read + Send>);
        let imported = self.import(&path.display().to_string(), true, open).await?;
        fingerprint.images = imported.iter().map(|(id, _)| id.clone()).collect();
        let names: Vec<String> = imported
            .into_iter()
            .flat_map(|(id, tags)| if tags.is_empty() { vec![id] } else { tags })
            .collect();
        let shared = self.shared.clone();
        rt::unblock(move || {
            {
                let imports = &mut shared.store.database().imports;
                imports.retain(|one| one.path != fingerprint.path);
                imports.push(fingerprint);
                // Files that are gone need not be remembered.
                imports.retain(|one| rt::fs::metadata(&one.path).is_ok());
            }
            shared.store.save()
        })
        .await?;
        let took = rt::now().mono.since(started);
        log::info!(
            "imported {} from {} in {} ms",
            names.join(", "),
            path.display(),
            took.as_millis()
        );
        Ok(names)
    }

    /// A list has one reference a line; empty lines and comments are skipped.
    async fn pull_list(&self, path: &Path) -> Result<Vec<String>> {
        let file = path.to_owned();
        let text = rt::unblock(move || rt::fs::read_small_text(&file)).await?;
        let mut pulled = Vec::new();
        for line in
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            if self.get(line).is_none() {
                self.pull(line, None).await?;
                pulled.push(line.to_owned());
            }
        }
        Ok(pulled)
    }

    /// Pulls for this machine's platform, unless `reference` is by digest and present.
    pub fn pull<'a>(
        &'a self,
        reference: &'a str,
        auth: Option<PullAuth>,
    ) -> BoxFuture<'a, Result<Image>> {
        Box::pin(async move {
            let parsed = Reference::parse(reference)?;
            if parsed.digest.is_some()
                && let Some(image) = self.get(reference)
            {
                return Ok(image);
            }
            let shared = self.shared.clone();
            let what = || format!("pull image {reference:?}");
            let (working, pulled) = {
                let _permit = shared.pulls.acquire().await;
                let working = shared.work.read_arc().await;
                // On the heap: this future is 50 KiB, and whoever awaits it would hold and move as much.
                // It ends with its caller: nobody else waits for what it fetches.
                let pulling = Box::pin(pull::pull(&shared.client, &shared, &parsed, auth));
                (working, pulling.await.context(what)?)
            };
            // But what is complete is kept whole: the database must match the disk.
            let id = crate::state::finish("keep a pulled image", async move {
                let _working = working;
                rt::unblock(move || pulled.commit(&shared.store)).await
            })
            .await
            .context(what)?;
            self.shared
                .events
                .publish(&Event::ImageImported { reference: reference.to_owned(), id: id.clone() });
            self.get(&id).context(|| format!("image {reference} was removed while it was pulled"))
        })
    }

    pub fn tag<'a>(&'a self, reference: &'a str, new_tag: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let tag = Reference::parse(new_tag)?;
            if tag.digest.is_some() {
                return Err(Error::new(format!(
                    "tag image {reference}: {new_tag} is a digest, not a tag"
                )));
            }
            let tag = tag.to_string();
            {
                let mut database = self.shared.store.database();
                let id = find(&database, reference)
                    .context(|| format!("image {reference} is not present"))?;
                for (other, image) in &mut database.images {
                    image.tags.retain(|have| *have != tag);
                    if *other == id {
                        image.tags.push(tag.clone());
                    }
                }
            }
            let shared = self.shared.clone();
            rt::unblock(move || shared.store.save()).await
        })
    }

    /// Removes one tag, or by id the image with all tags; layers nobody needs go with it.
    /// Refused while a container uses it. An absent image is fine.
    pub fn remove<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let removed = {
                let mut database = self.shared.store.database();
                let Some(id) = find(&database, reference) else { return Ok(()) };
                let Some(image) = database.images.get_mut(&id) else { return Ok(()) };
                let name = Reference::parse(reference)
                    .map(|parsed| parsed.to_string())
                    .unwrap_or_default();
                let n_names = image.tags.len() + image.digests.len();
                if n_names > 1 && image.tags.contains(&name) && image.tags.len() > 1 {
                    image.tags.retain(|tag| *tag != name);
                    None
                } else if self.holds().contains_key(&id) {
                    return Err(Error::new(format!(
                        "remove image {reference}: a container uses it"
                    )));
                } else {
                    database.images.remove(&id);
                    database
                        .imports
                        .retain(|import| !import.images.contains(&id) || is_there(&import.path));
                    Some(id)
                }
            };
            let shared = self.shared.clone();
            rt::unblock(move || shared.store.save()).await?;
            if let Some(id) = removed {
                self.sweep().await?;
                self.shared.events.publish(&Event::ImageRemoved { id });
            }
            Ok(())
        })
    }

    async fn sweep(&self) -> Result<u64> {
        let shared = self.shared.clone();
        crate::state::finish("sweep the image store", async move {
            let _alone = shared.work.write().await;
            let inner = shared.clone();
            rt::unblock(move || inner.store.sweep()).await
        })
        .await
    }

    pub async fn usage(&self) -> Result<Usage> {
        let (bytes, inodes) = self.shared.store.usage();
        Ok(Usage { bytes, inodes })
    }

    /// Deletes unpinned images that no container uses, least recently used first, until
    /// `free_bytes` are freed (`u64::MAX`: all of them). `min_age` protects the recently used.
    /// Returns the bytes freed.
    pub async fn collect_garbage(&self, free_bytes: u64, min_age: Duration) -> Result<u64> {
        let mut freed = self.sweep().await?;
        let now = rt::now().wall;
        let mut candidates: Vec<Image> = self
            .list()
            .into_iter()
            .filter(|image| !image.pinned && now.since(image.last_used) >= min_age)
            .collect();
        candidates.arrange_by_key(|image| image.last_used);
        for image in candidates {
            if freed >= free_bytes {
                break;
            }
            let removed = {
                let mut database = self.shared.store.database();
                // Checked and removed under one lock: a container may have come to use it meanwhile.
                match self.holds().contains_key(&image.id) {
                    true => false,
                    false => database.images.remove(&image.id).is_some(),
                }
            };
            if removed {
                let shared = self.shared.clone();
                rt::unblock(move || shared.store.save()).await?;
                freed += self.sweep().await?;
                log::info!(
                    "image {} ({}) was not used and is deleted",
                    image.id,
                    image.tags.join(", ")
                );
                self.shared.events.publish(&Event::ImageRemoved { id: image.id });
            }
        }
        Ok(freed)
    }

    fn holds(&self) -> MutexGuard<'_, OrdMap<String, usize>> {
        self.shared.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an image from being removed while a container uses it.
    pub(crate) fn hold(&self, id: &str) {
        *self.holds().entry(id.to_owned()).or_default() += 1;
    }

    pub(crate) fn release(&self, id: &str) {
        let mut holds = self.holds();
        if let Some(count) = holds.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                holds.remove(id);
                drop(holds);
                // It was in use until now, however long ago that began.
                if let Some(image) = self.shared.store.database().images.get_mut(id) {
                    image.last_used = rt::now().wall.0;
                }
            }
        }
    }

    /// Looks an image up for a container that is about to be made.
    pub(crate) fn for_container(&self, reference: &str) -> Result<UsableImage> {
        let mut database = self.shared.store.database();
        let id =
            find(&database, reference).context(|| format!("image {reference:?} is not present"))?;
        let image = database
            .images
            .get_mut(&id)
            .context(|| format!("image {reference:?} is not present"))?;
        // Written with the next change of the database: not worth a write of its own.
        image.last_used = rt::now().wall.0;
        self.hold(&id);
        Ok(UsableImage {
            _hold: Hold { images: self.clone(), id: id.clone() },
            reference: image.digests.first().unwrap_or(&id).clone(),
            base: self.shared.store.root.join("l"),
            layers: image.layers.iter().rev().cloned().collect(),
            config: image.config.clone(),
            program: self.shared.program(&id),
            id,
        })
    }
}

/// The id of the image that a reference names.
fn find(database: &Database, reference: &str) -> Option<String> {
    const PREFIX_MIN_DIGITS: usize = 8;
    let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
    if hex.len() >= PREFIX_MIN_DIGITS && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let mut matching =
            database.images.keys().filter(|id| id["sha256:".len()..].starts_with(hex));
        if let (Some(id), None) = (matching.next(), matching.next()) {
            return Some(id.clone());
        }
    }
    let name = Reference::parse(reference).ok()?.to_string();
    let has = |image: &ImageRecord| image.tags.contains(&name) || image.digests.contains(&name);
    database.images.iter().find(|(_, image)| has(image)).map(|(id, _)| id.clone())
}

/// The archives and lists of a directory, with what tells whether they changed.
fn list_files(directory: &Path) -> Result<Vec<(PathBuf, ImportRecord)>> {
    use std::os::unix::fs::MetadataExt;
    const SUFFIXES: [&str; 8] =
        [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.lz4", ".tar.bz2", ".txt"];
    let mut files = Vec::new();
    for path in rt::fs::list_dir(directory)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        // Other names are for other programs, as k3s has it. What we cannot read is refused by name.
        if name.starts_with('.') || !SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            continue;
        }
        let metadata = rt::fs::metadata(&path).context(|| format!("look at {}", path.display()))?;
        if metadata.is_file() {
            let record = ImportRecord {
                path: path.clone(),
                size: metadata.size(),
                mtime: metadata.mtime(),
                mtime_nanos: metadata.mtime_nsec(),
                images: Vec::new(),
            };
            files.push((path, record));
        }
    }
    Ok(files)
}

fn is_there(path: &Path) -> bool {
    rt::fs::metadata(path).is_ok()
}

/// What a directory's files take, each counted once.
pub(crate) fn disk_usage(directory: &Path) -> Usage {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    /// Files with several names that are remembered; further ones count with each name.
    const LINKED_MAX: usize = 100_000;
    let mut usage = Usage::default();
    let mut linked = stdx::OrdSet::new();
    let walked = sys::file::open_dir(directory).and_then(|root| {
        sys::tree::walk(root.as_fd(), &mut |visit| {
            let found = visit.metadata;
            let is_known = found.nlink() > 1
                && !found.is_dir()
                && (linked.contains(&(found.dev(), found.ino()))
                    || linked.len() < LINKED_MAX && !linked.insert((found.dev(), found.ino())));
            if !is_known {
                usage.bytes += found.blocks() * 512;
                usage.inodes += 1;
            }
            Ok(sys::tree::Step::Into)
        })
    });
    if let Err(error) = walked {
        log::debug!("measure {}: {error}", directory.display());
    }
    usage
}
