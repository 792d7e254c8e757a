//! Snapshots of the embedded etcd: taken at times of a schedule and when they are asked for, so many kept, and told to
//! the cluster. Each server takes its own.

mod command;
mod objects;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::status::Reason;
use api::{Lens, Status, Value, json};
use client::Client;
use cluster::supervisor::KnownPasswords;
use rt::BoxFuture;
use stdx::backoff::Backoff;
use stdx::{Context, Error, Result};

use crate::etcd::bucket::Remote;
use crate::etcd::embedded::Embedded;
use crate::etcd::snapshot_files::{self as files, File, Part};
use crate::settings::s3_flags::Said;
use crate::settings::snapshot_flags::{Flags, NAME, RETENTION, ZIP};

pub(crate) use command::command;

const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// Names in one question.
const NAMES_MAX: usize = 1000;
/// The snapshots of this server.
pub(crate) struct Snapshots {
    etcd: Arc<Embedded>,
    client: Client,
    node: String,
    flags: Flags,
    dir: PathBuf,
    passwords: KnownPasswords,
    /// One at a time is taken.
    turn: rt::lock::Mutex<()>,
}

/// How one question is to be answered.
struct Wanted {
    name: String,
    dir: PathBuf,
    compress: bool,
    retention: i64,
    /// The bucket, if it is for there, too.
    s3: Option<Said>,
}

impl Snapshots {
    pub(crate) fn new(
        etcd: Arc<Embedded>,
        client: Client,
        node: &str,
        (flags, dir): (&Flags, PathBuf),
        passwords: KnownPasswords,
    ) -> Arc<Snapshots> {
        let dir = flags.dir.clone().unwrap_or(dir);
        let (node, flags) = (node.to_owned(), flags.clone());
        Arc::new(Snapshots {
            etcd,
            client,
            node,
            flags,
            dir,
            passwords,
            turn: rt::lock::Mutex::default(),
        })
    }

    /// Takes them at their times for as long as the task lives, after telling of those that are there.
    ///
    /// # Errors
    /// If the schedule is none.
    pub(crate) fn keep(self: &Arc<Self>) -> Result<rt::Task<Option<()>>> {
        let (this, cron) = (Arc::clone(self), self.flags.cron()?);
        Ok(rt::spawn_named("etcd snapshots", async move {
            // A bucket that is out of reach keeps no snapshot from being taken.
            let _telling = this.flags.s3.clone().map(|said| {
                let this = Arc::clone(&this);
                rt::spawn_named("snapshots in S3", async move {
                    if let Err(error) = this.tell_of_bucket(&said, None).await {
                        log::error!("Error retrieving S3 snapshots for reconciliation: {error}");
                    }
                })
            });
            let mut failures = 0;
            while let Err(why) = this.tell(None).await {
                failures += 1;
                log::warn!("tell of snapshots: {why}");
                rt::sleep(RETRY.delay(failures)).await;
            }
            let mut settings = rt::ClockSettings::new();
            while let Some(at) = cron.next(rt::now().wall) {
                let left = at.since(rt::now().wall);
                rt::future::or(rt::sleep(left), settings.next()).await;
                // The clock may have been set back, or forth over a time or two: one is enough then.
                if rt::now().wall < at {
                    continue;
                }
                let mut wanted = this.wanted(&Value::Null);
                wanted.s3.clone_from(&this.flags.s3);
                if let Err(error) = this.save(&wanted).await {
                    log::error!("Failed to take a snapshot: {error}");
                }
            }
            log::warn!("--etcd-snapshot-schedule-cron names a time that never comes");
        }))
    }

    fn wanted(&self, question: &Value) -> Wanted {
        let flags = &self.flags;
        let name = question.list("name").first().and_then(Value::as_str);
        let dir = question.get("dir").and_then(Value::as_str).filter(|dir| dir.starts_with('/'));
        Wanted {
            name: name.or(flags.name.as_deref()).unwrap_or(NAME).to_owned(),
            dir: dir.map_or_else(|| self.dir.clone(), PathBuf::from),
            compress: question
                .get("compress")
                .and_then(Value::as_bool)
                .or(flags.compress)
                .unwrap_or(false),
            retention: question
                .get("retention")
                .and_then(Value::as_i64)
                .or(flags.retention)
                .unwrap_or(RETENTION),
            s3: None,
        }
    }

    /// Takes one of what the version before left, before this one writes; the scheduled ones do not push it out.
    pub(crate) async fn before_upgrade(&self, version: &str) {
        let mut wanted = self.wanted(&Value::Null);
        wanted.name = format!("before-upgrade-from-{}", version.replace('+', "-"));
        if let Err(error) = self.save(&wanted).await {
            log::error!("There is no snapshot of what {version} left: {error}");
        }
    }

    /// Takes one; its name, for each place that has it.
    async fn save(&self, wanted: &Wanted) -> Result<Vec<String>> {
        let turn = self.turn.try_lock();
        let _turn =
            turn.context(|| format!("{} snapshot save already in progress", wanted.name))?;
        files::check_name(&wanted.name)?;
        let metadata = objects::extra(&self.client).await;
        let metadata = metadata.map_err(|status| Error::new(status.to_string()));
        let metadata = metadata.context(|| "read what is told of snapshots")?;
        let ending = if wanted.compress { ZIP } else { "" };
        let at = rt::now().wall.secs();
        let name = format!("{}-{}-{at}{ending}", wanted.name, self.node);
        log::info!("Saving etcd snapshot to {}", wanted.dir.join(&name).display());
        let mut part = Part::begin(&wanted.dir, &self.node, &name)?;
        self.etcd.members().snapshot(&mut part).await?;
        files::keep_metadata(&wanted.dir, &name, &metadata)?;
        part.finish().await?;
        log::info!("Snapshot {name} saved");
        self.prune_files(wanted)?;
        self.tell_softly(Some(&name)).await;
        let Some(said) = &wanted.s3 else { return Ok(vec![name]) };
        let saved = self.save_in_bucket(said, wanted, &name).await;
        saved.context(|| format!("snapshot {name} is on this server, but not in S3"))?;
        Ok(vec![name.clone(), name])
    }

    async fn save_in_bucket(&self, said: &Said, wanted: &Wanted, name: &str) -> Result<()> {
        let remote = Remote::open(said, Some(&self.client)).await?;
        log::info!("Saving etcd snapshot {name} to S3");
        let saved =
            remote.save(&self.client, (&wanted.dir, name), (&self.node, &self.token_hash())).await;
        if saved.is_ok() {
            log::info!("S3 upload complete for {name}");
        }
        // Also after a failure: a full bucket has room afterwards.
        let kept = remote.retention.unwrap_or(wanted.retention);
        if let Err(error) = remote.prune(&wanted.name, kept).await {
            log::warn!("Failed to apply s3 snapshot retention policy: {error}");
        }
        saved?;
        if let Err(error) = self.tell_of(&remote, Some(name)).await {
            log::warn!("tell of snapshots in S3: {error}");
        }
        Ok(())
    }

    fn token_hash(&self) -> String {
        cluster::token::hash(self.passwords.get().server.as_bytes())[..12].to_owned()
    }

    /// Removes the oldest of those with this name that are too many. With a retention of 0 all are kept.
    fn prune_files(&self, wanted: &Wanted) -> Result<Vec<String>> {
        let Ok(kept) = usize::try_from(wanted.retention) else { return Ok(Vec::new()) };
        if kept == 0 {
            return Ok(Vec::new());
        }
        let known = files::list(&wanted.dir)?;
        let mut gone = Vec::new();
        for file in too_many(&known, &wanted.name, kept) {
            if files::remove(&wanted.dir, &file.name)? {
                log::info!("Removed snapshot {}: {kept} are kept", file.name);
                gone.push(file.name.clone());
            }
        }
        Ok(gone)
    }

    /// In the bucket, too, if there is one.
    async fn prune(&self, wanted: &Wanted) -> Result<Vec<String>> {
        let mut gone = self.prune_files(wanted)?;
        self.tell_softly(None).await;
        if let Some(said) = &wanted.s3 {
            let remote = Remote::open(said, Some(&self.client)).await?;
            let kept = remote.retention.unwrap_or(wanted.retention);
            gone.extend(remote.prune(&wanted.name, kept).await?);
            self.tell_of(&remote, None).await?;
        }
        Ok(gone)
    }

    async fn delete(&self, wanted: &Wanted, names: &[&str]) -> Result<Vec<String>> {
        names.iter().try_for_each(|name| files::check_name(name))?;
        let remote = match &wanted.s3 {
            Some(said) => Some(Remote::open(said, Some(&self.client)).await?),
            None => None,
        };
        let mut gone = Vec::new();
        for name in names {
            match files::remove(&wanted.dir, name)? {
                true => gone.push((*name).to_owned()),
                false => log::info!("Snapshot {name} not found locally"),
            }
            let Some(remote) = &remote else { continue };
            match remote.remove(name).await? {
                true => gone.push((*name).to_owned()),
                false => log::info!("Snapshot {name} not found in S3"),
            }
        }
        self.tell_softly(None).await;
        if let Some(remote) = &remote {
            self.tell_of(remote, None).await?;
        }
        Ok(gone)
    }

    async fn list(&self, wanted: &Wanted) -> Result<Vec<Value>> {
        let node = &self.node;
        let mut items = Vec::new();
        if let Some(said) = &wanted.s3 {
            let known = Remote::open(said, Some(&self.client)).await?.list().await?;
            items.extend(known.iter().map(|file| objects::object(file, "s3", node, "")));
        }
        let known = files::list(&wanted.dir)?;
        items.extend(known.iter().map(|file| objects::object(file, node, node, "")));
        Ok(items)
    }

    /// Has the cluster know what there is; `new` is announced.
    async fn tell(&self, new: Option<&str>) -> Result<()> {
        let known = objects::known(&self.client, &self.node).await.map_err(said)?;
        let files = files::list(&self.dir)?;
        self.tell_these(known, &files, (&self.node, &self.token_hash()), new).await
    }

    /// The same, of a bucket.
    async fn tell_of(&self, remote: &Remote, new: Option<&str>) -> Result<()> {
        let known = objects::known(&self.client, "s3").await.map_err(said)?;
        let files = remote.list().await?;
        self.tell_these(known, &files, ("s3", ""), new).await
    }

    async fn tell_of_bucket(&self, said: &Said, new: Option<&str>) -> Result<()> {
        let remote = Remote::open(said, Some(&self.client)).await?;
        self.tell_of(&remote, new).await
    }

    async fn tell_these(
        &self,
        known: objects::Known,
        files: &[File],
        (storage, token_hash): (&str, &str),
        new: Option<&str>,
    ) -> Result<()> {
        let told = objects::tell(&self.client, known, files, (storage, &self.node), token_hash);
        for object in &told.await.map_err(said)? {
            if new.is_some_and(|new| object.tree().str("spec.snapshotName") == new) {
                let announced = objects::announce(&self.client, object, &self.node).await;
                announced.map_err(said)?;
            }
        }
        Ok(())
    }

    /// What was done stays done if nobody can be told; the next time tells of it, too.
    async fn tell_softly(&self, new: Option<&str>) {
        if let Err(error) = self.tell(new).await {
            log::warn!("tell of snapshots: {error}");
        }
    }

    /// Answers what `k3rs etcd-snapshot` and k3s's ask.
    ///
    /// # Errors
    /// 400 for what is no question, otherwise what went wrong.
    pub(crate) async fn answer(&self, body: &[u8]) -> Result<String, Status> {
        let question: Value = serde_json::from_slice(body)
            .map_err(|error| Status::bad_request(format!("read the request: {error}")))?;
        let mut wanted = self.wanted(&question);
        if let Some(s3) = question.get("s3").filter(|s3| s3.is_object()) {
            let said = Said::of_tree(s3.clone());
            wanted.s3 = Some(said.map_err(|error| Status::bad_request(error.to_string()))?);
        }
        let names: Vec<&str> =
            question.list("name").iter().take(NAMES_MAX).filter_map(Value::as_str).collect();
        let failed = |error: Error| {
            log::warn!("etcd-snapshot: {error}");
            Status::new(Reason::InternalError, error.to_string())
        };
        Ok(match question.str("operation") {
            "save" => {
                let created = self.save(&wanted).await.map_err(failed)?;
                json!({"created": created}).to_string()
            }
            "list" => {
                let items = self.list(&wanted).await.map_err(failed)?;
                json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
                    .to_string()
            }
            "delete" => {
                let gone = self.delete(&wanted, &names).await.map_err(failed)?;
                json!({"deleted": gone}).to_string()
            }
            "prune" => {
                let gone = self.prune(&wanted).await.map_err(failed)?;
                json!({"deleted": gone}).to_string()
            }
            _ => return Err(Status::bad_request("invalid snapshot operation")),
        })
    }
}

fn said(status: Status) -> Error {
    Error::new(status.to_string())
}

/// Those of a name beyond the newest that are kept.
fn too_many<'a>(known: &'a [File], name: &str, kept: usize) -> impl Iterator<Item = &'a File> {
    let of_name: Vec<&File> = known.iter().filter(|file| file.name.starts_with(name)).collect();
    let n_gone = of_name.len().saturating_sub(kept);
    of_name.into_iter().take(n_gone)
}

/// What servers that join, and who has the servers' token, ask of the embedded etcd.
pub(crate) struct Desk {
    pub(crate) etcd: Arc<Embedded>,
    pub(crate) snapshots: Arc<Snapshots>,
}

impl cluster::supervisor::Etcd for Desk {
    fn members(&self) -> BoxFuture<'_, String> {
        Box::pin(self.etcd.members_json())
    }

    fn snapshot<'a>(&'a self, body: &'a [u8]) -> BoxFuture<'a, Result<String, Status>> {
        Box::pin(self.snapshots.answer(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_name_are_kept() {
        let file = |name: &str| File { name: name.to_owned(), ..File::default() };
        let known = ["a-1", "b-2", "a-3", "a-4.zip", "b-5"].map(file);
        let gone = |name, kept| {
            too_many(&known, name, kept).map(|file| file.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(gone("a", 1), ["a-1", "a-3"]);
        assert_eq!(gone("b", 5), [""; 0]);
        assert_eq!(gone("", 4), ["a-1"]);
    }

    #[test]
    fn schedules() {
        let flags = |cron: &str| Flags { cron: Some(cron.to_owned()), ..Flags::default() };
        assert!(Flags::default().check().is_ok() && flags("@every 5s").check().is_ok());
        let wrong = flags("never").check().unwrap_err().to_string();
        assert_eq!(
            wrong,
            "read --etcd-snapshot-schedule-cron \"never\": expected exactly 5 fields, found 1: [never]"
        );
    }
}
