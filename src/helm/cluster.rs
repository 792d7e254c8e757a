//! The objects of releases in the cluster: looked up, made, merged, deleted and waited for.

use std::sync::Arc;
use std::time::Duration;

use api::{Kind, Lens, LensMut, Object, Status, Value, json};
use client::follow::{News, Selection, follow};
use client::{Answer, Body, Client, DeleteOptions, PatchType, Registry, Request, Verb, WatchEvent};
use stdx::backoff::Backoff;
use stdx::{Context, Error, Result};

use crate::merge;

/// Helm's own name among managers of fields.
const FIELD_MANAGER: &str = "helm";
/// How long a write that others' writes overtake is tried again.
const CONFLICT_MAX: Duration = Duration::from_secs(30);
const CONFLICT_RETRY: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
const FOLLOW_RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

const KEEP: &str = "helm.sh/resource-policy";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const RELEASE_NAME: &str = "meta.helm.sh/release-name";
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";

/// What writes and reads for releases.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) registry: Arc<Registry>,
}

/// An object that a chart makes.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) kind: &'static Kind,
    pub(crate) tree: Value,
}

/// How objects are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write {
    /// Three-way merges here.
    Client,
    /// Server-side apply.
    Server { force: bool },
}

/// What a wait is over with, or not yet.
pub(crate) type Verdict = Option<Result<(), String>>;

impl Item {
    pub(crate) fn namespace(&self) -> &str {
        self.tree.str("metadata.namespace")
    }

    pub(crate) fn name(&self) -> &str {
        self.tree.str("metadata.name")
    }

    pub(crate) fn is_same(&self, other: &Item) -> bool {
        self.kind == other.kind
            && self.namespace() == other.namespace()
            && self.name() == other.name()
    }

    /// As Helm names it in errors.
    fn told(&self) -> String {
        format!("{} {:?} in namespace {:?}", self.kind.name, self.name(), self.namespace())
    }

    fn request(&self, verb: Verb) -> Request {
        let mut request = Request::new(verb, self.kind, self.namespace(), self.name());
        self.tree.str("apiVersion").clone_into(&mut request.group_version);
        request.field_manager = FIELD_MANAGER.into();
        request
    }

    /// Whether what is at rest has the version that the chart writes.
    fn is_stored_version(&self) -> bool {
        self.kind.is_built_in() && self.kind.api_version() == self.tree.str("apiVersion")
    }

    /// Marks it as the release's.
    pub(crate) fn own(&mut self, release: &str, namespace: &str) {
        self.tree.map_mut("metadata.labels").insert(MANAGED_BY.into(), "Helm".into());
        let annotations = self.tree.map_mut("metadata.annotations");
        annotations.insert(RELEASE_NAME.into(), release.into());
        annotations.insert(RELEASE_NAMESPACE.into(), namespace.into());
    }
}

/// Why an object that exists is not the release's, in Helm's words; `None` if it is.
fn foreign(live: &Value, release: &str, namespace: &str) -> Option<String> {
    let missing = |what: &str, path: &str, key: &str, wanted: &str| {
        let why = match live.entry(path, key) {
            Some(value) if value == wanted => return None,
            Some(value) => format!("key {key:?} must equal {wanted:?}: current value is {value:?}"),
            None => format!("missing key {key:?}: must be set to {wanted:?}"),
        };
        Some(format!("{what} validation error: {why}"))
    };
    let labels = "metadata.labels";
    let annotations = "metadata.annotations";
    let wrong: Vec<String> = [
        missing("label", labels, MANAGED_BY, "Helm"),
        missing("annotation", annotations, RELEASE_NAME, release),
        missing("annotation", annotations, RELEASE_NAMESPACE, namespace),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!wrong.is_empty()).then(|| format!("invalid ownership metadata; {}", wrong.join("; ")))
}

impl Cluster {
    /// An object of a manifest, in `namespace` unless it says another.
    ///
    /// # Errors
    /// If its kind is not served, in Helm's words.
    pub(crate) fn item(&self, mut tree: Value, namespace: &str) -> Result<Item> {
        let (group, version) = group_version(&tree);
        let kinds = self.registry.current();
        let found = kinds
            .by_name(group, tree.str("kind"))
            .filter(|kind| kinds.of_kind(kind, group, version).is_some());
        let kind = found.context(|| {
            format!(
                "unable to build kubernetes objects from release manifest: resource mapping not found for name: {:?} namespace: {:?} from \"\": no matches for kind {:?} in version {:?}\nensure CRDs are installed first",
                tree.str("metadata.name"),
                tree.str("metadata.namespace"),
                tree.str("kind"),
                tree.str("apiVersion")
            )
        })?;
        if tree.str("metadata.name").is_empty() {
            return Err(Error::new(format!(
                "unable to build kubernetes objects from release manifest: a {} has no name",
                kind.name
            )));
        }
        if kind.namespaced() {
            tree.set_default("metadata.namespace", namespace);
        } else {
            tree.remove("metadata.namespace");
        }
        Ok(Item { kind, tree })
    }

    pub(crate) async fn get(&self, item: &Item) -> Result<Option<Value>> {
        match self.client.call(item.request(Verb::Get)).await {
            Ok(Answer::Object(object)) => Ok(Some(object.tree())),
            Ok(Answer::Tree(tree)) => Ok(Some(tree)),
            Ok(Answer::List(_)) => Err(Error::new("a get was answered with a list")),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status).context(|| format!("could not get {}", item.told())),
        }
    }

    /// Whether `item` may be written for a release: it is not there, or it is the release's.
    ///
    /// # Errors
    /// If it is somebody else's, in Helm's words.
    pub(crate) async fn check_owner(
        &self,
        item: &Item,
        release: &str,
        namespace: &str,
    ) -> Result<()> {
        let why = match self.get(item).await? {
            Some(live) => foreign(&live, release, namespace),
            None => None,
        };
        why.map_or(Ok(()), |why| {
            let told = item.told();
            Err(Error::new(format!(
                "{told} exists and cannot be imported into the current release: {why}"
            )))
        })
    }

    /// Makes an object that must not be there.
    pub(crate) async fn create(&self, item: &Item) -> Result<Option<Object>, Status> {
        let mut request = item.request(Verb::Create);
        request.body = Body::Tree(item.tree.clone());
        Ok(match self.client.call(request).await? {
            Answer::Object(object) => Some(object),
            _ => None,
        })
    }

    /// Makes an object what its chart says, where `old` is what the chart said before.
    pub(crate) async fn write(&self, item: &Item, old: Option<&Value>, how: Write) -> Result<()> {
        let what =
            |verb: &str| format!("cannot {verb} {:?} with kind {}", item.name(), item.kind.name);
        if let Write::Server { force } = how {
            return self.apply(item, force).await.context(|| what("patch"));
        }
        let written = rt::timeout(CONFLICT_MAX, async {
            let mut failures = 0;
            loop {
                let done = self.merge(item, old).await;
                match done {
                    Err(status) if status.is_conflict() || status.is_already_exists() => {
                        failures += 1;
                        rt::sleep(CONFLICT_RETRY.delay(failures)).await;
                    }
                    done => return done,
                }
            }
        });
        match written.await {
            Ok(done) => done.context(|| what("patch")),
            Err(rt::Elapsed) => Err(Error::new(format!("{}: others change it", what("patch")))),
        }
    }

    async fn merge(&self, item: &Item, old: Option<&Value>) -> Result<(), Status> {
        let live = match self.client.call(item.request(Verb::Get)).await {
            Ok(Answer::Object(object)) => object.tree(),
            Ok(_) => return Err(Status::internal("a get was answered with something else")),
            Err(status) if status.is_not_found() => return self.create(item).await.map(drop),
            Err(status) => return Err(status),
        };
        // Nothing is known of what was said of an object that is taken over.
        let old = old.unwrap_or(&item.tree);
        let mut request = if item.is_stored_version() {
            let mut new = live.clone();
            let id = api::schema::schema().stored(item.kind);
            merge::three_way(id, &mut new, old, &item.tree);
            if new == live {
                return Ok(());
            }
            let mut request = item.request(Verb::Update);
            request.body = Body::Tree(new);
            request
        } else if item.kind.is_built_in() {
            // What is at rest has another version: the server merges.
            return self.apply(item, true).await;
        } else {
            let mut request = item.request(Verb::Patch);
            request.body = Body::Patch(PatchType::Merge, merge::merge_patch(old, &item.tree));
            request
        };
        request.field_validation = "Warn".into();
        self.client.call(request).await.map(drop)
    }

    async fn apply(&self, item: &Item, force: bool) -> Result<(), Status> {
        let mut request = item.request(Verb::Patch);
        request.force = force;
        request.body = Body::Patch(PatchType::Apply, item.tree.clone());
        self.client.call(request).await.map(drop)
    }

    /// Deletes an object unless it, as it is now, asks to be kept. False if it was not there, or is kept.
    pub(crate) async fn delete(&self, item: &Item) -> Result<bool> {
        let Some(live) = self.get(item).await? else { return Ok(false) };
        if live.entry("metadata.annotations", KEEP) == Some("keep") {
            return Ok(false);
        }
        self.delete_anyway(item).await
    }

    /// Deletes an object. False if it was not there.
    pub(crate) async fn delete_anyway(&self, item: &Item) -> Result<bool> {
        let mut request = item.request(Verb::Delete);
        request.delete =
            DeleteOptions { propagation: "Background".into(), ..DeleteOptions::default() };
        match self.client.call(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.is_not_found() => Ok(false),
            Err(status) => Err(status).context(|| format!("delete {}", item.told())),
        }
    }

    /// Makes a namespace, as `helm install --create-namespace` does.
    pub(crate) async fn create_namespace(&self, name: &str) -> Result<()> {
        let tree = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"name": name}},
        });
        match self.client.create(&api::kinds::NAMESPACE, tree).await {
            Err(status) if !status.is_already_exists() => {
                Err(status).context(|| format!("create namespace {name}"))
            }
            _ => Ok(()),
        }
    }

    /// Waits until `judge` has a verdict on an object; `None` is one that is not there.
    ///
    /// # Errors
    /// The verdict, or that there was none within `limit`.
    pub(crate) async fn wait(
        &self,
        item: &Item,
        limit: Duration,
        judge: &(dyn Fn(Option<&Object>) -> Verdict + Sync),
    ) -> Result<()> {
        let selection = Selection {
            kind: item.kind,
            namespace: item.namespace().to_owned(),
            field_selector: format!("metadata.name={}", item.name()),
        };
        let mut verdict = None;
        let mut hear = |news: News| {
            verdict = match &news {
                News::Listed(list) => judge(list.items.first()),
                News::Event(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    judge(Some(object))
                }
                News::Event(WatchEvent::Deleted(_)) => judge(None),
                News::Event(WatchEvent::Bookmark { .. }) => None,
            };
            verdict.is_none()
        };
        let client = self.client.clone();
        let following = Box::pin(follow(client, selection, FOLLOW_RETRY, &mut hear));
        if rt::timeout(limit, following).await.is_err() {
            return Err(Error::new(format!(
                "timed out waiting for the condition on {}",
                item.told()
            )));
        }
        verdict.unwrap_or(Ok(())).map_err(Error::new)
    }

    /// Waits until an object is gone.
    pub(crate) async fn wait_gone(&self, item: &Item, limit: Duration) -> Result<()> {
        let uid = match self.get(item).await? {
            Some(live) => live.str("metadata.uid").to_owned(),
            None => return Ok(()),
        };
        self.wait(item, limit, &|object| match object {
            Some(object) if object.uid() == uid => None,
            _ => Some(Ok(())),
        })
        .await
    }

    /// Waits until a kind is served in a version.
    pub(crate) async fn wait_served(
        &self,
        group: &str,
        kind: &str,
        limit: Duration,
    ) -> Result<&'static Kind> {
        let served = async {
            loop {
                let kinds = self.registry.current();
                if let Some(kind) = kinds.by_name(group, kind) {
                    return kind;
                }
                self.registry.after(kinds.epoch()).await;
            }
        };
        rt::timeout(limit, served).await.context(|| format!("wait until {kind}.{group} is served"))
    }
}

pub(crate) fn group_version(tree: &Value) -> (&str, &str) {
    tree.str("apiVersion").rsplit_once('/').unwrap_or(("", tree.str("apiVersion")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_releases_is_told_in_helms_words() {
        let mut item =
            Item { kind: &api::kinds::CONFIG_MAP, tree: json!({"metadata": {"name": "a"}}) };
        let why = foreign(&item.tree, "r", "n").unwrap();
        let label = "label validation error: missing key \"app.kubernetes.io/managed-by\": must be set to \"Helm\"";
        let first = "annotation validation error: missing key \"meta.helm.sh/release-name\": must be set to \"r\"";
        let second = "annotation validation error: missing key \"meta.helm.sh/release-namespace\": must be set to \"n\"";
        assert_eq!(why, format!("invalid ownership metadata; {label}; {first}; {second}"));
        item.own("r", "n");
        assert_eq!(foreign(&item.tree, "r", "n"), None);
        let why = foreign(&item.tree, "other", "n").unwrap();
        assert!(why.ends_with(
            "key \"meta.helm.sh/release-name\" must equal \"other\": current value is \"r\""
        ));
    }
}
