//! Snapshots of the embedded etcd: taken at times of a schedule and when they are asked for, so many kept, and told to
//! the cluster. Each server takes its own.

mod command;
mod files;
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

use crate::embedded::Embedded;
use crate::snapshot_flags::{Flags, NAME, RETENTION, ZIP};
use files::{File, Part};

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
                if let Err(error) = this.save(&this.wanted(&Value::Null)).await {
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

    /// Takes one; its name.
    async fn save(&self, wanted: &Wanted) -> Result<String> {
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
        Ok(name)
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

    fn delete(&self, wanted: &Wanted, names: &[&str]) -> Result<Vec<String>> {
        names.iter().try_for_each(|name| files::check_name(name))?;
        let mut gone = Vec::new();
        for name in names {
            match files::remove(&wanted.dir, name)? {
                true => gone.push((*name).to_owned()),
                false => log::info!("Snapshot {name} not found locally"),
            }
        }
        Ok(gone)
    }

    /// Has the cluster know what there is; `new` is announced.
    async fn tell(&self, new: Option<&str>) -> Result<(), String> {
        let known = files::list(&self.dir).map_err(|error| error.to_string())?;
        let hash = &cluster::token::hash(self.passwords.get().server.as_bytes())[..12];
        let told = objects::tell(&self.client, &known, (&self.node, &self.node), hash);
        let told = told.await.map_err(|status| status.to_string())?;
        for object in &told {
            if new.is_some_and(|new| object.tree().str("spec.snapshotName") == new) {
                let announced = objects::announce(&self.client, object, &self.node).await;
                announced.map_err(|status| status.to_string())?;
            }
        }
        Ok(())
    }

    /// What was done stays done if nobody can be told; the next time tells of it, too.
    async fn tell_softly(&self, new: Option<&str>) {
        if let Err(why) = self.tell(new).await {
            log::warn!("tell of snapshots: {why}");
        }
    }

    /// Answers what `k3rs etcd-snapshot` and k3s's ask.
    ///
    /// # Errors
    /// 400 for what is no question, otherwise what went wrong.
    pub(crate) async fn answer(&self, body: &[u8]) -> Result<String, Status> {
        let question: Value = serde_json::from_slice(body)
            .map_err(|error| Status::bad_request(format!("read the request: {error}")))?;
        if question.get("s3").is_some_and(|s3| !s3.is_null()) {
            return Err(Status::bad_request(
                "snapshots in S3 are not supported by this version of k3rs yet",
            ));
        }
        let wanted = self.wanted(&question);
        let names: Vec<&str> =
            question.list("name").iter().take(NAMES_MAX).filter_map(Value::as_str).collect();
        let failed = |error: Error| {
            log::warn!("etcd-snapshot: {error}");
            Status::new(Reason::InternalError, error.to_string())
        };
        Ok(match question.str("operation") {
            "save" => {
                let name = self.save(&wanted).await.map_err(failed)?;
                json!({"created": [name]}).to_string()
            }
            "list" => {
                let known = files::list(&wanted.dir).map_err(failed)?;
                let object = |file| objects::object(file, &self.node, &self.node, "");
                let items: Vec<Value> = known.iter().map(object).collect();
                json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
                    .to_string()
            }
            "delete" => {
                let gone = self.delete(&wanted, &names).map_err(failed)?;
                self.tell_softly(None).await;
                json!({"deleted": gone}).to_string()
            }
            "prune" => {
                let gone = self.prune_files(&wanted).map_err(failed)?;
                self.tell_softly(None).await;
                json!({"deleted": gone}).to_string()
            }
            _ => return Err(Status::bad_request("invalid snapshot operation")),
        })
    }
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
    use stdx::time::Wall;

    #[test]
    fn the_newest_of_a_name_are_kept() {
        let file = |name: &str| File {
            name: name.to_owned(),
            location: String::new(),
            bytes: 0,
            created: Wall::default(),
            metadata: Value::Null,
        };
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
