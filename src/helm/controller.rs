//! HelmCharts followed: each that exists has a task, which works when its HelmChart, its HelmChartConfig or a Secret of
//! its values changes, and again after what failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Kind, Lens, Object, Value};
use client::follow::{News, Selection, follow};
use client::{Body, PatchType, Request, Verb, WatchEvent};
use stdx::backoff::Backoff;
use stdx::{Context, OrdMap, Result};

use crate::chart::{Chart, Next};
use crate::cluster::Cluster;
use crate::packaged::{self, Components};
use crate::shared::{Key, Shared};
use crate::source::Sources;
use crate::spec::MANAGER;

const GROUP: &str = "helm.cattle.io";
const DEFINITIONS: &str = include_str!("../../manifests/helm-crds.yaml");
const SERVED_MAX: Duration = Duration::from_secs(60);

/// HelmCharts that are worked for; beyond that they are told in the log.
const CHARTS_MAX: usize = 1024;
/// HelmChartConfigs that are known.
const CONFIGS_MAX: usize = 1024;
const FOLLOW_RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));
const SETUP_RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// As long as a container that fails waits for its next start.
const RETRY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(300));

/// What the controller is given.
pub struct Setup {
    /// Acts as an administrator, as the pods of k3s's controller do.
    pub client: client::Client,
    /// The kinds of the server behind `client`.
    pub registry: Arc<client::Registry>,
    pub proxy: Option<Arc<http::client::Proxy>>,
    /// A file below `/static/`, by the path that the API serves it at.
    pub static_file: Box<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>,
    /// Components that are no charts here: values for them that have no effect are told.
    pub packaged: Components,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Setup({:?})", self.packaged.names)
    }
}

/// The HelmCharts that exist, and those who work for them.
struct Controller {
    shared: Arc<Shared>,
    charts: Mutex<OrdMap<Key, Watched>>,
}

/// A HelmChart that exists.
struct Watched {
    slot: Arc<Slot>,
    _task: rt::Task<Option<()>>,
}

/// The newest state of a HelmChart, and how often it, or its HelmChartConfig, has asked for something else.
struct Slot {
    state: Mutex<(Object, u64)>,
    changed: rt::Event,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, (Object, u64)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It asks for something else.
    fn change(&self) {
        self.state().1 += 1;
        self.changed.notify(usize::MAX);
    }

    /// Waits until it has asked for something else than at `seen`.
    async fn moved(&self, seen: u64) {
        loop {
            let changed = self.changed.listen();
            if self.state().1 != seen {
                return;
            }
            changed.await;
        }
    }
}

/// Defines the kinds, then works for ever.
pub async fn run(setup: Setup) {
    let cluster = Cluster { client: setup.client.clone(), registry: setup.registry };
    let mut failures = 0;
    let (charts, configs) = loop {
        match define(&cluster).await {
            Ok(kinds) => break kinds,
            Err(error) => {
                log::error!("helm controller: {error}");
                failures += 1;
                rt::sleep(SETUP_RETRY.delay(failures)).await;
            }
        }
    };
    let sources = Sources {
        client: setup.client,
        http: http::client::Client::new(http::client::Options::default()),
        proxy: setup.proxy,
        static_file: setup.static_file,
    };
    let shared = Arc::new(Shared::new(cluster, sources, setup.packaged));
    let this = Controller { shared, charts: Mutex::default() };
    // A config without its chart is told of, so charts are known first.
    let listed = rt::Event::new();
    let first = listed.listen();
    let following_charts = async {
        let mut hear = |news: &News| {
            this.hear_of_charts(news);
            listed.notify(usize::MAX);
        };
        follow_all(&this.shared, charts, &mut hear).await;
    };
    let following_configs = async {
        first.await;
        let mut hear = |news: &News| this.hear_of_configs(news);
        follow_all(&this.shared, configs, &mut hear).await;
    };
    rt::future::zip(following_charts, following_configs).await;
}

/// Makes the definitions what they are in this version.
async fn define(cluster: &Cluster) -> Result<(&'static Kind, &'static Kind)> {
    for tree in wire::yaml::parse(DEFINITIONS)? {
        let kind = &api::kinds::CUSTOM_RESOURCE_DEFINITION;
        let name = tree.str("metadata.name").to_owned();
        let mut request = Request::new(Verb::Patch, kind, "", &name);
        request.field_manager = MANAGER.into();
        request.force = true;
        request.body = Body::Patch(PatchType::Apply, tree);
        cluster.client.call(request).await.context(|| format!("define {name}"))?;
    }
    let chart = cluster.wait_served(GROUP, "HelmChart", SERVED_MAX).await?;
    let config = cluster.wait_served(GROUP, "HelmChartConfig", SERVED_MAX).await?;
    Ok((chart, config))
}

async fn follow_all(shared: &Shared, kind: &'static Kind, hear: &mut (dyn FnMut(&News) + Send)) {
    let selection = Selection { kind, namespace: String::new(), field_selector: String::new() };
    let client = shared.cluster.client.clone();
    let mut hear = |news: News| {
        hear(&news);
        true
    };
    Box::pin(follow(client, selection, FOLLOW_RETRY, &mut hear)).await;
}

fn key_of(object: &Object) -> Key {
    (object.namespace().to_owned(), object.name().to_owned())
}

/// What of a HelmChart asks for work: a status that we write does not.
fn essence(object: &Object) -> (String, i64, bool, Value) {
    let tree = object.tree();
    let generation = tree.int("metadata.generation").unwrap_or(0);
    let annotations = tree.at("metadata.annotations").clone();
    (object.uid().to_owned(), generation, object.deleting(), annotations)
}

impl Controller {
    fn charts(&self) -> MutexGuard<'_, OrdMap<Key, Watched>> {
        self.charts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// HelmChartConfigs come, change and go.
    fn hear_of_configs(&self, news: &News) {
        match news {
            News::Listed(list) => {
                let named: Vec<Key> = list.items.iter().map(key_of).collect();
                let known: Vec<Key> = self.shared.configs().keys().cloned().collect();
                known.iter().filter(|key| !named.contains(key)).for_each(|key| self.forget(key));
                list.items.iter().for_each(|config| self.put_config(config));
            }
            News::Event(WatchEvent::Added(config) | WatchEvent::Modified(config)) => {
                self.put_config(config);
            }
            News::Event(WatchEvent::Deleted(config)) => self.forget(&key_of(config)),
            News::Event(WatchEvent::Bookmark { .. }) => {}
        }
    }

    fn forget(&self, config: &Key) {
        self.shared.configs().remove(config);
        if !self.wake(config) && self.shared.packaged.has(&config.0, &config.1) {
            (self.shared.packaged.changed)();
        }
    }

    fn put_config(&self, config: &Object) {
        let key = key_of(config);
        let mut configs = self.shared.configs();
        if configs.len() >= CONFIGS_MAX && !configs.contains_key(&key) {
            log::error!("HelmChartConfig {}/{} is one too many", key.0, key.1);
            return;
        }
        let before = configs.insert(key.clone(), config.clone());
        drop(configs);
        let is_same = before.is_some_and(|before| essence(&before) == essence(config));
        if !is_same && !self.wake(&key) {
            self.tell_packaged(config);
        }
    }

    /// Has a HelmChart looked at again; false if there is none.
    fn wake(&self, key: &Key) -> bool {
        let charts = self.charts();
        let found = charts.get(key);
        if let Some(watched) = found {
            watched.slot.change();
        }
        found.is_some()
    }

    /// Values for a component that is no chart here: who honours them hears of it, and others are said to have no effect.
    fn tell_packaged(&self, config: &Object) {
        if self.shared.packaged.has(config.namespace(), config.name()) {
            (self.shared.packaged.changed)();
        }
        let Some(message) = packaged::useless(config, &self.shared.packaged) else { return };
        let (shared, config) = (Arc::clone(&self.shared), config.clone());
        let telling = async move { shared.tell(&config, true, "ValuesNotUsed", &message).await };
        rt::spawn_named("helm chart config", telling).detach();
    }

    /// HelmCharts come, change and go.
    fn hear_of_charts(&self, news: &News) {
        match news {
            News::Listed(list) => {
                let named: Vec<Key> = list.items.iter().map(key_of).collect();
                // Tasks end outside the lock, which they may be about to take.
                let gone: Vec<Watched> = {
                    let mut charts = self.charts();
                    let known: Vec<Key> = charts.keys().cloned().collect();
                    let gone = known.iter().filter(|key| !named.contains(key));
                    gone.filter_map(|key| charts.remove(key)).collect()
                };
                drop(gone);
                list.items.iter().for_each(|object| self.put(object));
            }
            News::Event(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                self.put(object);
            }
            News::Event(WatchEvent::Deleted(object)) => {
                let gone = self.charts().remove(&key_of(object));
                drop(gone);
            }
            News::Event(WatchEvent::Bookmark { .. }) => {}
        }
    }

    fn put(&self, object: &Object) {
        let key = key_of(object);
        let mut charts = self.charts();
        if let Some(watched) = charts.get(&key) {
            let before = std::mem::replace(&mut watched.slot.state().0, object.clone());
            if essence(&before) != essence(object) {
                watched.slot.change();
            }
            return;
        }
        if charts.len() >= CHARTS_MAX {
            log::error!("HelmChart {}/{} is one too many and is not installed", key.0, key.1);
            return;
        }
        let slot =
            Arc::new(Slot { state: Mutex::new((object.clone(), 0)), changed: rt::Event::new() });
        let task = rt::spawn_named("helm chart", keep(Arc::clone(&self.shared), Arc::clone(&slot)));
        charts.insert(key, Watched { slot, _task: task });
    }
}

/// Works for one HelmChart for as long as it exists. What is under way when it changes is dropped, as k3s ends a pod.
async fn keep(shared: Arc<Shared>, slot: Arc<Slot>) {
    let mut failures = 0;
    loop {
        let (object, seen) = slot.state().clone();
        let chart = Chart { shared: &shared, object: &object, failures };
        let work = async {
            let next = Box::pin(chart.reconcile()).await;
            let failed = matches!(next, Next::Retry);
            let rest = async {
                match &next {
                    Next::Retry => rt::sleep(RETRY.delay(failures + 1)).await,
                    Next::Wait(secrets) => {
                        secrets_change(&shared, object.namespace(), secrets).await;
                    }
                }
            };
            rest.await;
            failed
        };
        let interrupted = async {
            slot.moved(seen).await;
            false
        };
        let failed = rt::future::or(work, interrupted).await;
        failures = if failed { failures + 1 } else { 0 };
    }
}

/// Waits until one of the Secrets is another one than at the revision that was read, for ever if there are none.
async fn secrets_change(shared: &Shared, namespace: &str, secrets: &[(String, u64)]) {
    if secrets.is_empty() {
        return std::future::pending().await;
    }
    let selection = Selection {
        kind: &api::kinds::SECRET,
        namespace: namespace.to_owned(),
        field_selector: "type!=helm.sh/release.v1".to_owned(),
    };
    let of = |name: &str| secrets.iter().find(|(secret, _)| secret == name);
    let mut hear = |news: News| match news {
        News::Listed(list) => secrets.iter().all(|(name, revision)| {
            let found = list.items.iter().find(|object| object.name() == name);
            found.map_or(0, Object::revision) == *revision
        }),
        News::Event(
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object),
        ) => of(object.name()).is_none(),
        News::Event(WatchEvent::Bookmark { .. }) => true,
    };
    let client = shared.cluster.client.clone();
    Box::pin(follow(client, selection, FOLLOW_RETRY, &mut hear)).await;
}
