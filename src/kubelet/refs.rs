//! The single objects that pods refer to, each kept current by one watch for as long as a pod needs it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use api::{Kind, Object, Status};
use client::follow::{News, Selection, follow};
use client::{Client, WatchEvent};
use stdx::{OrdMap, OrdSet, backoff::Backoff};

/// Kind, namespace and name.
pub(crate) type RefKey = (&'static Kind, String, String);

/// Called with a pod's uid when something it refers to has changed. Must not block.
type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// Objects watched at once; more pods than that cannot refer to distinct ones.
const WATCHES_MAX: usize = 4096;
/// How long a pod waits for an object that the API has not answered about yet.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

#[derive(Clone)]
pub(crate) struct Refs {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    listener: Listener,
    entries: Mutex<OrdMap<RefKey, Entry>>,
    changed: rt::Event,
}

#[derive(Default)]
struct Entry {
    /// Uids of the pods that need it.
    users: OrdSet<String>,
    /// `None` until the API answered; then what it has.
    object: Option<Option<Object>>,
    task: Option<rt::Task<Option<()>>>,
}

impl fmt::Debug for Refs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refs({})", self.shared.lock().len())
    }
}

impl Refs {
    pub(crate) fn new(client: Client, listener: impl Fn(&str) + Send + Sync + 'static) -> Refs {
        let listener = Box::new(listener);
        let entries = Mutex::default();
        Refs { shared: Arc::new(Shared { client, listener, entries, changed: rt::Event::new() }) }
    }

    /// From now on the pod needs exactly `wanted`; what nobody needs any more is forgotten.
    pub(crate) fn hold(&self, uid: &str, wanted: &[RefKey]) {
        let mut dropped = Vec::new();
        let mut entries = self.shared.lock();
        for key in wanted {
            if !entries.contains_key(key) && entries.len() >= WATCHES_MAX {
                log::warn!("pod {uid}: too many objects are watched already to watch {}", key.2);
                continue;
            }
            let entry = entries.entry(key.clone()).or_default();
            entry.users.insert(uid.to_owned());
            if entry.task.is_none() {
                let shared = Arc::downgrade(&self.shared);
                let name = format!("watch of {} {}/{}", key.0.name, key.1, key.2);
                let client = self.shared.client.clone();
                entry.task = Some(rt::spawn_named(name, watch(client, shared, key.clone())));
            }
        }
        entries.retain(|key, entry| {
            if !wanted.contains(key) {
                entry.users.remove(uid);
            }
            let keep = !entry.users.is_empty();
            if !keep {
                dropped.extend(entry.task.take());
            }
            keep
        });
        drop(entries);
        // Cancelled outside the lock: a task's end may wake others.
        drop(dropped);
    }

    /// The object as it is now; `None` if it does not exist. Waits for the first answer only.
    pub(crate) async fn get(&self, key: &RefKey) -> Result<Option<Object>, Status> {
        let known = async {
            loop {
                let listener = self.shared.changed.listen();
                match self.shared.lock().get(key) {
                    None => return None,
                    Some(Entry { object: Some(object), .. }) => return Some(object.clone()),
                    Some(_) => {}
                }
                listener.await;
            }
        };
        match rt::timeout(ANSWER_MAX, known).await {
            Ok(Some(object)) => Ok(object),
            // Not held: ask once.
            Ok(None) => self.shared.client.get_optional(key.0, &key.1, &key.2).await,
            Err(_) => Err(Status::unavailable(format!(
                "failed to sync {} cache: timed out waiting for the condition",
                key.0.singular()
            ))),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, OrdMap<RefKey, Entry>> {
        // Changed in single steps that a panic cannot leave half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, key: &RefKey, object: Option<Object>) {
        let users = {
            let mut entries = self.lock();
            let Some(entry) = entries.get_mut(key) else { return };
            if entry.object.as_ref() == Some(&object) {
                return;
            }
            let first = entry.object.is_none();
            entry.object = Some(object);
            // Whoever waits for the first answer is told by `changed`.
            if first { Vec::new() } else { entry.users.iter().cloned().collect::<Vec<_>>() }
        };
        self.changed.notify(usize::MAX);
        for uid in users {
            (self.listener)(&uid);
        }
    }
}

/// Follows one object until nobody needs it.
async fn watch(client: Client, shared: Weak<Shared>, key: RefKey) {
    let (kind, namespace, name) = &key;
    let field_selector = format!("metadata.name={name}");
    let selection = Selection { kind, namespace: namespace.clone(), field_selector };
    let key = key.clone();
    let mut hear = move |news: News| {
        let Some(shared) = shared.upgrade() else { return false };
        match news {
            News::Listed(list) => {
                let found = list.items.into_iter().find(|object| object.name() == key.2);
                shared.set(&key, found);
            }
            News::Event(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                shared.set(&key, Some(object));
            }
            News::Event(WatchEvent::Deleted(_)) => shared.set(&key, None),
            News::Event(WatchEvent::Bookmark { .. }) => {}
        }
        true
    };
    follow(client, selection, RETRY, &mut hear).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Lens, json, kinds};
    use client::{Answer, List};

    fn config_map(revision: u64, value: &str) -> Object {
        let tree = json!({"metadata": {"namespace": "n", "name": "c", "resourceVersion": revision.to_string()},
            "data": {"k": value}});
        Object::from_tree(&kinds::CONFIG_MAP, &tree).unwrap()
    }

    #[test]
    fn objects_are_known_followed_and_forgotten() {
        let end = rt::sim::run(1, 100_000, async {
            let (client, events) = crate::testing::client(|_| {
                Ok(Answer::List(List { revision: 1, ..List::default() }))
            });
            let (woken, wakes) = rt::channel::bounded(16);
            let refs = Refs::new(client, move |uid| {
                let _ = woken.try_send(uid.to_owned());
            });
            let key: RefKey = (&kinds::CONFIG_MAP, "n".into(), "c".into());
            refs.hold("u1", std::slice::from_ref(&key));
            assert!(refs.get(&key).await.unwrap().is_none(), "the API says there is none");
            events.send(WatchEvent::Added(config_map(2, "x"))).await.unwrap();
            assert_eq!(wakes.recv().await.unwrap(), "u1");
            let found = refs.get(&key).await.unwrap().unwrap();
            assert_eq!(found.tree().str("data.k"), "x");
            events.send(WatchEvent::Deleted(config_map(3, "x"))).await.unwrap();
            assert_eq!(wakes.recv().await.unwrap(), "u1");
            assert!(refs.get(&key).await.unwrap().is_none());
            refs.hold("u1", &[]);
            assert_eq!(format!("{refs:?}"), "Refs(0)");
        });
        assert_eq!(end, rt::sim::End::Done(()));
    }
}
