//! A member of a snapshot: `--cluster-reset --cluster-reset-restore-path`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use cluster::token::Token;
use cluster::{Paths, bootstrap};
use datastore::embedded::{self, Setup};
use stdx::{Context, Error, Result};
use store::{Limits, Store};

use crate::etcd::bucket::Remote;
use crate::machine::prepare;
use crate::settings::config::Config;
use crate::settings::snapshot_flags::ZIP;

/// What is copied at once.
const BLOCK_BYTES: usize = 1 << 20;

/// Gets the snapshot that is to be restored out of the bucket, if that is where it is: its file.
///
/// # Errors
/// If there is none, or no room for it.
pub(crate) async fn fetch(
    (config, paths): (&Config, &Paths),
    node: &str,
    name: &Path,
) -> Result<Option<PathBuf>> {
    let Some(said) = &config.snapshots.s3 else { return Ok(None) };
    let name = name.to_string_lossy();
    log::info!("Retrieving etcd snapshot {name} from S3");
    let dir = config.snapshots.dir.clone().unwrap_or_else(|| paths.snapshots());
    let file = Remote::open(said, None).await?.fetch(&name, node, &dir).await?;
    log::info!("S3 download complete for {}", file.display());
    Ok(Some(file))
}

/// Makes the member's directory of a snapshot, with the tool that puts it back. What was there is moved away.
///
/// # Errors
/// If it is no whole snapshot, there is no room, or the tool refuses it; the directory is what it was then.
pub(crate) async fn restore(
    (config, paths): (&Config, &Paths),
    setup: &Setup,
    tool: &Path,
    file: &Path,
) -> Result<()> {
    let file = file.strip_prefix("file://").unwrap_or(file);
    if !file.is_file() {
        return Err(Error::new(format!("etcd: snapshot path does not exist: {}", file.display())));
    }
    if config.token.is_none() && !paths.cred("passwd").exists() {
        return Err(Error::new("--token is required to restore a snapshot on a new server"));
    }
    let db = setup.dir.parent().context(|| "find the directory of the datastore")?.to_owned();
    let (made, plain) = (db.join("etcd-restoring"), db.join(".snapshot-restoring"));
    rt::fs::remove_dir_all(&made)?;
    rt::fs::create_dir_all(&db, 0o700)?;
    let source = match file.to_string_lossy().ends_with(ZIP) {
        true => {
            let (from, to) = (file.to_owned(), plain.clone());
            rt::unblock(move || unpack(&from, &to)).await?;
            plain.clone()
        }
        false => file.to_owned(),
    };
    let looked_at = source.clone();
    let done = match rt::unblock(move || embedded::check(&looked_at)).await {
        Ok(()) => embedded::restore(tool, setup, &source, &made).await,
        wrong => wrong,
    };
    rt::fs::remove_file(&plain)?;
    done?;
    rt::fs::write_atomic(made.join("name"), setup.name.as_bytes(), 0o600)?;
    if embedded::is_initialized(&setup.dir) {
        let old = db.join(format!("etcd-old-{}", rt::now().wall.secs()));
        rt::fs::rename(&setup.dir, &old)?;
        log::info!("Pre-restore etcd database moved to {}", old.display());
    } else {
        rt::fs::remove_dir_all(&setup.dir)?;
    }
    rt::fs::rename(&made, &setup.dir)?;
    rt::fs::sync_dir(&db)
}

/// Takes a compressed snapshot out of its archive.
fn unpack(from: &Path, to: &PathBuf) -> Result<()> {
    let what = || format!("decompress {}", from.display());
    let mut archive = wire::zip::Reader::open(rt::fs::open(from)?).context(what)?;
    let dir = to.parent().unwrap_or(to);
    let (wanted, available) = (archive.left(), rt::fs::available_bytes(dir)?);
    // Restoring takes it once more.
    if available / 2 < wanted {
        return Err(Error::new(format!(
            "{}: it has {wanted} bytes, and {available} are free in {}",
            what(),
            dir.display()
        )));
    }
    rt::fs::remove_file(to)?;
    let mut file = rt::fs::open_append(to)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match archive.read(&mut block).context(what)? {
            0 => return Ok(()),
            n => file.write_all(&block[..n]).context(what)?,
        }
    }
}

/// Takes the cluster's keys out of the datastore that was restored, where the server's token opens them.
///
/// # Errors
/// If the snapshot is of a cluster, or of a time, with another token.
pub(crate) async fn take_keys(config: &Config, paths: &Paths) -> Result<()> {
    let password = match &config.token {
        Some(token) => Token::parse(token).context(|| "read --token")?.password,
        None => prepare::passwords(paths, config)?.server,
    };
    let log = crate::shared_log::open(config).await?.context(|| "find the embedded etcd")?;
    let limits = Limits { check: |_, _| true, ..Limits::for_memory(rt::memory_bytes()) };
    let store = Store::share(log, limits).await.context(|| "open what was restored")?;
    let saved = store.get(&bootstrap::storage_key(&password)).await;
    let taken = match saved.context(|| "read the bootstrap data")? {
        Some(saved) => bootstrap::reconcile(paths, &password, &saved.value, true).map(drop),
        None => Err(Error::new(
            "the snapshot has no bootstrap data for this token: give --token as it was when the snapshot was taken",
        )),
    };
    store.close().await.context(|| "close what was restored")?;
    taken
}
