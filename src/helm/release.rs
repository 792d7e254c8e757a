//! One release: installed, upgraded, installed again or removed, as klipper-helm and Helm would.

use std::time::Duration;

use api::{Lens, LensMut, Value, json};
use charts::Manifest;
use rt::lock::SemaphoreGuard;
use stdx::{Arrange, Context, Error, Result};

use crate::cluster::{Cluster, Item, Write};
use crate::hooks::{self, Hook};
use crate::record::{Kept, Records};
use crate::render::{Loaded, Moment, Plan, Source};
use crate::spec::{FailurePolicy, ServerSide, Spec};

/// How long a definition may take until its kind is served.
const ESTABLISHED_MAX: Duration = Duration::from_secs(60);
/// Of a text that describes a failure.
const DESCRIPTION_MAX_BYTES: usize = 4 << 10;

/// What there is to know of a release.
pub(crate) struct Release<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) records: Records,
    pub(crate) spec: &'a Spec,
    /// On its records, beside Helm's own.
    pub(crate) labels: Vec<(&'static str, String)>,
}

/// How an attempt ended that did not break off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Deployed,
    /// It failed before, and is not to be touched.
    Aborted(String),
}

/// What a release needs now.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Install,
    Upgrade,
    Reinstall,
    Abort,
}

/// By the state of the newest revision, as klipper-helm decides.
fn step(status: Option<&str>, policy: FailurePolicy) -> Step {
    match (status, policy) {
        (None | Some("uninstalled"), _) => Step::Install,
        (Some("deployed" | "pending-upgrade" | "superseded"), _) => Step::Upgrade,
        (_, FailurePolicy::Reinstall) => Step::Reinstall,
        (_, FailurePolicy::Retry) => Step::Upgrade,
        (_, FailurePolicy::Abort) => Step::Abort,
    }
}

/// A change under way.
struct Change {
    is_upgrade: bool,
    record: Value,
    hooks: Vec<Hook>,
    items: Vec<Item>,
    old: Vec<Item>,
    how: Write,
}

impl Release<'_> {
    /// Makes the release what its HelmChart says. `turn` is given back once it is rendered.
    ///
    /// # Errors
    /// What went wrong; another attempt may help.
    pub(crate) async fn ensure(&self, source: Source, turn: SemaphoreGuard<'_>) -> Result<Outcome> {
        let all = self.records.all().await.context(|| "look for the release's records")?;
        let newest = all.last();
        let next = newest.map_or(1, |kept| kept.revision + 1);
        match step(newest.map(|kept| kept.status.as_str()), self.spec.failure_policy) {
            Step::Install => self.install(source, turn, next, &[]).await?,
            Step::Upgrade => self.upgrade(source, turn, &all).await?,
            Step::Reinstall => self.install(source, turn, 1, &all).await?,
            Step::Abort => {
                let why = match newest.map(Kept::read) {
                    Some(Ok(record)) => record.str("info.description").to_owned(),
                    _ => String::new(),
                };
                return Ok(Outcome::Aborted(why));
            }
        }
        Ok(Outcome::Deployed)
    }

    /// Installs; what is there of a release that failed goes first, once it is known that there is something to come.
    async fn install(
        &self,
        source: Source,
        turn: SemaphoreGuard<'_>,
        revision: u64,
        failed: &[Kept],
    ) -> Result<()> {
        let loaded = source.load().await?;
        self.define(&loaded).await?;
        let moment = Moment { revision, is_upgrade: false };
        let mut plan = self.plan(&source, loaded, moment).await?;
        let items = self.items(&mut plan)?;
        if !failed.is_empty() {
            self.uninstall(failed).await?;
        }
        if !self.spec.take_ownership {
            let check = self.check_owners(items.iter()).await;
            check.context(|| "Unable to continue with install")?;
        }
        if self.spec.create_namespace {
            self.cluster.create_namespace(&self.spec.target_namespace).await?;
        }
        let first = hooks::now();
        let mut change = Change {
            is_upgrade: false,
            record: self.record(&mut plan, source, revision, &first),
            hooks: plan.hooks,
            items,
            old: Vec::new(),
            how: self.how(None),
        };
        self.note_how(&mut change);
        drop(turn);
        self.records.create(&change.record, &self.labels).await?;
        let done = self.change(&mut change).await;
        self.end(change, done).await
    }

    async fn upgrade(&self, source: Source, turn: SemaphoreGuard<'_>, all: &[Kept]) -> Result<()> {
        let deployed = all.iter().rev().find(|kept| kept.status == "deployed");
        let current = deployed.or(all.last()).context(|| "the release has no revision")?;
        let before = current.read()?;
        let revision = all.last().map_or(1, |kept| kept.revision + 1);
        let loaded = source.load().await?;
        let mut plan = self.plan(&source, loaded, Moment { revision, is_upgrade: true }).await?;
        let items = self.items(&mut plan)?;
        let old = self.items_of_manifest(before.str("manifest"))?;
        let is_new = |item: &&Item| !old.iter().any(|other| other.is_same(item));
        if !self.spec.take_ownership {
            let check = self.check_owners(items.iter().filter(is_new)).await;
            check.context(|| "Unable to continue with update")?;
        }
        self.interrupted(all.last()).await?;
        self.records.make_room(all).await.context(|| "forget old revisions")?;
        let first = before.str("info.first_deployed");
        let mut change = Change {
            is_upgrade: true,
            record: self.record(&mut plan, source, revision, first),
            hooks: plan.hooks,
            items,
            old,
            how: self.how(Some(&before)),
        };
        drop(before);
        self.note_how(&mut change);
        drop(turn);
        self.records.create(&change.record, &self.labels).await?;
        let done = self.change(&mut change).await;
        if done.is_ok() {
            for kept in all.iter().filter(|kept| kept.status == "deployed") {
                self.set_status(kept, "superseded").await?;
            }
        }
        self.end(change, done).await
    }

    /// A revision that somebody began and did not end has failed.
    async fn interrupted(&self, newest: Option<&Kept>) -> Result<()> {
        match newest.filter(|kept| kept.status.starts_with("pending-")) {
            Some(kept) => self.set_status(kept, "failed").await,
            None => Ok(()),
        }
    }

    async fn set_status(&self, kept: &Kept, status: &str) -> Result<()> {
        let mut record = kept.read()?;
        record.set("info.status", status);
        self.records.update(&record, &self.labels).await
    }

    /// Makes the kinds of `crds/` that are not there, and waits until they are served.
    async fn define(&self, loaded: &Loaded) -> Result<()> {
        let mut defined = Vec::new();
        for (path, text) in loaded.crds() {
            let what = || format!("failed to install CRD {path}");
            for tree in wire::yaml::parse_loose(&text).context(what)? {
                let names =
                    (tree.str("spec.group").to_owned(), tree.str("spec.names.kind").to_owned());
                let item = self.cluster.item(tree, "").context(what)?;
                match self.cluster.create(&item).await {
                    Err(status) if !status.is_already_exists() => {
                        return Err(status).context(what);
                    }
                    _ if names.1.is_empty() => {}
                    _ => defined.push(names),
                }
            }
        }
        for (group, kind) in defined {
            self.cluster.wait_served(&group, &kind, ESTABLISHED_MAX).await?;
        }
        Ok(())
    }

    async fn plan(&self, source: &Source, loaded: Loaded, moment: Moment) -> Result<Plan> {
        source.render(self.cluster, loaded, self.spec, moment).await
    }

    /// The objects that a chart makes now, marked as the release's.
    fn items(&self, plan: &mut Plan) -> Result<Vec<Item>> {
        let namespace = &self.spec.target_namespace;
        let mut items = Vec::new();
        for tree in std::mem::take(&mut plan.objects) {
            for tree in unlisted(tree) {
                let mut item = self.cluster.item(tree, namespace)?;
                item.own(&self.spec.name, namespace);
                items.push(item);
            }
        }
        Ok(items)
    }

    /// The objects of a manifest as it was recorded. Those whose kinds are gone are gone, too.
    fn items_of_manifest(&self, manifest: &str) -> Result<Vec<Item>> {
        let trees = wire::yaml::parse_loose(manifest).context(|| "read the recorded manifest")?;
        let trees = trees.into_iter().flat_map(unlisted);
        let items =
            trees.filter_map(|tree| self.cluster.item(tree, &self.spec.target_namespace).ok());
        Ok(items.collect())
    }

    async fn check_owners(&self, items: impl Iterator<Item = &Item> + Send) -> Result<()> {
        for item in items {
            let (name, namespace) = (&self.spec.name, &self.spec.target_namespace);
            self.cluster.check_owner(item, name, namespace).await?;
        }
        Ok(())
    }

    /// How objects are written, where `before` is the release as it was.
    fn how(&self, before: Option<&Value>) -> Write {
        let was = before.is_some_and(|before| before.str("apply_method") == "ssa");
        let by_server = match (self.spec.server_side, before) {
            (Some(ServerSide::True), _) | (Some(ServerSide::Auto), None) => true,
            (Some(ServerSide::False), _) => false,
            (Some(ServerSide::Auto) | None, _) => was,
        };
        match by_server {
            true => Write::Server { force: self.spec.force_conflicts },
            false => Write::Client,
        }
    }

    fn note_how(&self, change: &mut Change) {
        if let Write::Server { .. } = change.how {
            change.record.set("apply_method", "ssa");
        }
    }

    fn record(&self, plan: &mut Plan, source: Source, revision: u64, first: &str) -> Value {
        let mut values = source.values;
        charts::plain_numbers(&mut values);
        let is_upgrade = plan.is_upgrade;
        let (status, description) = match is_upgrade {
            true => ("pending-upgrade", "Preparing upgrade"),
            false => ("pending-install", "Initial install underway"),
        };
        json!({
            "name": self.spec.name,
            "info": {
                "first_deployed": first, "last_deployed": hooks::now(), "deleted": "",
                "description": description, "status": status, "notes": plan.notes,
            },
            "chart": std::mem::take(&mut plan.chart), "config": values,
            "manifest": std::mem::take(&mut plan.manifest),
            "hooks": plan.hooks.iter().map(Hook::to_record).collect::<Vec<_>>(),
            "version": revision, "namespace": self.spec.target_namespace,
        })
    }

    /// Hooks, objects, hooks.
    async fn change(&self, change: &mut Change) -> Result<()> {
        let (before, after) = match change.is_upgrade {
            true => ("pre-upgrade", "post-upgrade"),
            false => ("pre-install", "post-install"),
        };
        self.hooks(change, before).await?;
        for item in &change.items {
            let old = change.old.iter().find(|old| old.is_same(item));
            self.cluster.write(item, old.map(|old| &old.tree), change.how).await?;
        }
        let gone = |old: &&Item| !change.items.iter().any(|item| item.is_same(old));
        for old in change.old.iter().filter(gone) {
            self.cluster.delete(old).await?;
        }
        self.hooks(change, after).await
    }

    async fn hooks(&self, change: &mut Change, event: &str) -> Result<()> {
        let (namespace, limit) = (&self.spec.target_namespace, self.spec.timeout);
        let ran = hooks::run(self.cluster, &mut change.hooks, event, namespace, limit).await;
        ran.map_err(|error| hooks::failure(change.is_upgrade, event, error))
    }

    /// Writes down how it went.
    async fn end(&self, mut change: Change, done: Result<()>) -> Result<()> {
        let word = if change.is_upgrade { "Upgrade" } else { "Install" };
        let (status, description) = match &done {
            Ok(()) => ("deployed", format!("{word} complete")),
            Err(error) => {
                let what = if change.is_upgrade { "Upgrade" } else { "Release" };
                let text = format!("{what} {:?} failed: {error}", self.spec.name);
                ("failed", cut(text, DESCRIPTION_MAX_BYTES))
            }
        };
        change.record.set("info.status", status);
        change.record.set("info.description", description);
        let hooks: Vec<Value> = change.hooks.iter().map(Hook::to_record).collect();
        change.record.set("hooks", hooks);
        let recorded = self.records.update(&change.record, &self.labels).await;
        done.and(recorded)
    }

    /// Removes the release, its objects and its records; `all` are its revisions.
    ///
    /// # Errors
    /// What could not be removed; nothing is forgotten then.
    pub(crate) async fn uninstall(&self, all: &[Kept]) -> Result<()> {
        let Some(newest) = all.last() else { return Ok(()) };
        let mut record = newest.read()?;
        if record.str("info.status") != "uninstalled" {
            record.set("info.status", "uninstalling");
            record.set("info.description", "Deletion in progress (or silently failed)");
            self.records.update(&record, &self.labels).await?;
            self.remove(&record).await?;
        }
        for kept in all {
            self.records.delete(kept).await.context(|| "forget the release")?;
        }
        Ok(())
    }

    async fn remove(&self, record: &Value) -> Result<()> {
        let (namespace, limit) = (&self.spec.target_namespace, self.spec.timeout);
        let recorded = record.list("hooks").iter();
        let mut hooks: Vec<Hook> = recorded.filter_map(Hook::of_record).collect();
        hooks::run(self.cluster, &mut hooks, "pre-delete", namespace, limit).await?;
        let mut items = self.items_of_manifest(record.str("manifest"))?;
        let mut order: Vec<Manifest> = items.iter().map(|item| unread(&item.tree)).collect();
        charts::sort_for_uninstall(&mut order);
        items.arrange_by_key(|item| {
            order.iter().position(|it| it.object["kind"] == item.tree["kind"])
        });
        let mut deleted = Vec::new();
        let mut errors = Vec::new();
        for item in items {
            match self.cluster.delete(&item).await {
                Ok(true) => deleted.push(item),
                Ok(false) => {}
                Err(error) => errors.push(error.to_string()),
            }
        }
        if !errors.is_empty() {
            return Err(Error::new(format!("failed to delete release: {}", errors.join("; "))));
        }
        for item in &deleted {
            self.cluster.wait_gone(item, limit).await?;
        }
        hooks::run(self.cluster, &mut hooks, "post-delete", namespace, limit).await
    }
}

/// What stands for an object where only its kind counts.
fn unread(tree: &Value) -> Manifest {
    let object = json!({"kind": tree.str("kind")});
    Manifest { path: String::new(), text: String::new(), object }
}

/// The objects of a `List`, or the one that it is.
fn unlisted(tree: Value) -> Vec<Value> {
    match tree.str("kind").ends_with("List") && tree.at("items").is_array() {
        true => tree.list("items").to_vec(),
        false => vec![tree],
    }
}

/// At most this many bytes of a text.
pub(crate) fn cut(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        let end = (0..=max_bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_klippers() {
        use FailurePolicy::{Abort, Reinstall, Retry};
        for (status, policy, wanted) in [
            (None, Abort, Step::Install),
            (Some("uninstalled"), Reinstall, Step::Install),
            (Some("deployed"), Abort, Step::Upgrade),
            (Some("pending-upgrade"), Reinstall, Step::Upgrade),
            (Some("superseded"), Reinstall, Step::Upgrade),
            (Some("failed"), Reinstall, Step::Reinstall),
            (Some("failed"), Retry, Step::Upgrade),
            (Some("failed"), Abort, Step::Abort),
            (Some("pending-install"), Reinstall, Step::Reinstall),
            (Some("uninstalling"), Abort, Step::Abort),
            (Some("what"), Reinstall, Step::Reinstall),
        ] {
            assert_eq!(step(status, policy), wanted, "{status:?} {policy:?}");
        }
    }

    #[test]
    fn texts_are_cut_between_letters() {
        assert_eq!(cut("aéb".into(), 2), "a...");
        assert_eq!(cut("ab".into(), 2), "ab");
    }
}
