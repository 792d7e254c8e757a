//! The kinds that users define: what the stored CustomResourceDefinitions say is what is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::Definition;
use api::kinds::CUSTOM_RESOURCE_DEFINITION;
use client::Registry;
use stdx::OrdSet;
use store::{Error, Item, KeyValue, Query, Store, Watch};

use crate::storage;

/// How long a request for a kind that was just defined waits until it is served.
const SERVED_MAX: Duration = Duration::from_secs(2);

/// How long the store is left alone when its watch cannot be had.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Feeds a registry of kinds from the store, as long as it lives.
pub(crate) struct Definitions {
    progress: Arc<Progress>,
    _task: rt::Task<Option<()>>,
}

/// How far the registry has come.
#[derive(Default)]
struct Progress {
    revision: AtomicU64,
    changed: rt::Event,
}

impl Definitions {
    /// Serves what is stored, and follows it from there.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) async fn start(store: &Store, kinds: &Arc<Registry>) -> Result<Definitions, Error> {
        let mut feed = Feed {
            store: store.clone(),
            kinds: Arc::clone(kinds),
            progress: Arc::default(),
            known: OrdSet::new(),
        };
        let watch = feed.list().await?;
        let progress = Arc::clone(&feed.progress);
        let _task = rt::spawn_named("definitions of kinds", feed.follow(watch));
        Ok(Definitions { progress, _task })
    }

    /// Waits until what is stored as the definition of this resource, if anything is, is served.
    pub(crate) async fn catch_up(&self, store: &Store, group: &str, plural: &str) {
        let key = storage::key(&CUSTOM_RESOURCE_DEFINITION, "", &format!("{plural}.{group}"));
        let Ok(Some(stored)) = store.get(key).await else { return };
        let caught_up = async {
            loop {
                let changed = self.progress.changed.listen();
                if self.progress.revision.load(Ordering::Acquire) >= stored.mod_revision {
                    return;
                }
                changed.await;
            }
        };
        // Too late is as good as never: the request is answered by what is served.
        let _ = rt::timeout(SERVED_MAX, caught_up).await;
    }
}

struct Feed {
    store: Store,
    kinds: Arc<Registry>,
    progress: Arc<Progress>,
    /// The names of the definitions that came from the store.
    known: OrdSet<String>,
}

impl Feed {
    /// Serves all that is stored, and nothing else that came from the store; a watch goes on from there.
    async fn list(&mut self) -> Result<Watch, Error> {
        let span = storage::span(&CUSTOM_RESOURCE_DEFINITION, "");
        let range = self.store.range(&Query::of(span.clone())).await?;
        let mut gone = std::mem::take(&mut self.known);
        let mut changes = Vec::with_capacity(range.items.len());
        for item in &range.items {
            let name = name_of(&item.key);
            gone.remove(&name);
            changes.push((name, Some(item)));
        }
        changes.extend(gone.into_iter().map(|name| (name, None)));
        self.apply(changes, range.revision);
        self.store.watch(vec![span], Some(range.revision)).await
    }

    async fn follow(mut self, mut watch: Watch) {
        loop {
            let mut events = match watch.next().await {
                Ok(Item::Event(event)) => vec![event],
                Ok(Item::Progress(_)) => continue,
                Err(Error::Closed) => return,
                Err(_) => {
                    match self.list().await {
                        Ok(again) => watch = again,
                        Err(Error::Closed) => return,
                        Err(_) => rt::sleep(RETRY_AFTER).await,
                    }
                    continue;
                }
            };
            // Many at once, as `kubectl apply` of a directory makes them, are one change of the kinds.
            while let Ok(Some(event)) = watch.try_next() {
                events.push(event);
            }
            let last = events.last().map_or(0, |event| event.revision);
            let changes = events.iter().map(|event| (name_of(&event.key), event.now.as_ref()));
            self.apply(changes.collect(), last);
        }
    }

    /// Serves what the changes say, of which the last one of a name counts.
    fn apply(&mut self, changes: Vec<(String, Option<&KeyValue>)>, revision: u64) {
        let mut read = Vec::with_capacity(changes.len());
        for (name, stored) in changes {
            let definition = stored.map(definition).transpose().unwrap_or_else(|why| {
                log::warn!("serve the kind that {name} defines: {why}");
                None
            });
            match &definition {
                Some(_) => self.known.insert(name.clone()),
                None => self.known.remove(&name),
            };
            read.push((name, definition.flatten()));
        }
        if !read.is_empty() {
            // It refuses nothing as a whole.
            let _ = self.kinds.change(|kinds| {
                let (kinds, refused) = kinds.replacing(read);
                for (name, why) in refused {
                    log::warn!("serve the kind that {name} defines: {why}");
                }
                Ok(kinds)
            });
        }
        self.progress.revision.store(revision, Ordering::Release);
        self.progress.changed.notify(usize::MAX);
    }
}

fn name_of(key: &[u8]) -> String {
    let name = key.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn definition(stored: &KeyValue) -> Result<Option<Definition>, String> {
    let object = storage::object(&CUSTOM_RESOURCE_DEFINITION, stored)
        .map_err(|status| status.message().to_owned())?;
    // One definition that we fail over must not keep the others from being served.
    let read = std::panic::catch_unwind(|| Definition::stored(&object));
    read.unwrap_or_else(|_| Err("reading it panicked".into()))
}
