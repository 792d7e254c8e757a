//! From an archive and values to what a release is made of. The engine is pure: what it asks of the cluster is fetched
//! here, and then it renders again.

use std::sync::Arc;

use api::{Form, Lens, Value, json};
use charts::{Asked, Capabilities, Certificate, Chart, Lookup};
use stdx::{Context, Error, Result};

use crate::cluster::{Cluster, group_version};
use crate::hooks::Hook;
use crate::keys;
use crate::spec::Spec;

/// How often a chart is rendered again, because an answer made it ask for more.
const ROUNDS_MAX: usize = 8;
/// Objects and lists that a chart may look up.
const LOOKUPS_MAX: usize = 128;

/// A chart as it came, and what the user says.
pub(crate) struct Source {
    pub(crate) archive: Arc<[u8]>,
    pub(crate) values: Value,
}

/// A chart that was read.
pub(crate) struct Loaded(Chart);

/// Which revision it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) revision: u64,
    pub(crate) is_upgrade: bool,
}

/// What a chart makes of values.
pub(crate) struct Plan {
    /// As release records have it.
    pub(crate) chart: Value,
    /// In the order in which they are made.
    pub(crate) objects: Vec<Value>,
    pub(crate) manifest: String,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) notes: String,
    pub(crate) is_upgrade: bool,
}

/// What the engine may ask.
struct World {
    known: Vec<(Asked, Value)>,
}

impl charts::World for World {
    fn random(&self, bytes: &mut [u8]) {
        rt::random(bytes);
    }

    fn now(&self) -> (i64, u32) {
        let now = rt::now().wall;
        (now.secs(), now.subsec_nanos())
    }

    fn lookup(&self, asked: &Asked) -> Lookup {
        let found = self.known.iter().find(|(known, _)| known == asked);
        found.map_or(Lookup::Unknown, |(_, found)| Lookup::Known(found.clone()))
    }

    fn private_key(&self, kind: &str) -> Result<String, String> {
        keys::private_key(kind)
    }

    fn certificate(&self, request: &Certificate<'_>) -> Result<(String, String), String> {
        keys::certificate(request, rt::now().wall).map_err(|error| error.to_string())
    }
}

impl Loaded {
    /// The definitions in `crds/`, by path.
    pub(crate) fn crds(&self) -> Vec<(String, String)> {
        self.0.crds()
    }
}

impl Source {
    /// Reads the archive.
    ///
    /// # Errors
    /// If it is no chart that can be installed here.
    pub(crate) async fn load(&self) -> Result<Loaded> {
        let archive = Arc::clone(&self.archive);
        let chart = rt::unblock(move || Chart::read(&archive)).await?;
        if chart.is_library() {
            return Err(Error::new("library charts are not installable"));
        }
        let version = stdx::version::VERSION;
        if !chart.kube_version_fits(version) {
            return Err(Error::new(format!(
                "chart requires kubeVersion: {} which is incompatible with Kubernetes {version}",
                chart.metadata().str("kubeVersion")
            )));
        }
        Ok(Loaded(chart))
    }

    /// Renders, and looks up what the templates ask for.
    ///
    /// # Errors
    /// If the chart cannot be rendered with these values.
    pub(crate) async fn render(
        &self,
        cluster: &Cluster,
        loaded: Loaded,
        spec: &Spec,
        moment: Moment,
    ) -> Result<Plan> {
        let mut chart = loaded.0;
        let mut world = World { known: Vec::new() };
        for _ in 0..ROUNDS_MAX {
            let values = self.values.clone();
            let (name, namespace) = (spec.name.clone(), spec.target_namespace.clone());
            let capabilities = capabilities(cluster);
            let done = rt::unblock(move || {
                let release = charts::Release {
                    name: &name,
                    namespace: &namespace,
                    revision: moment.revision,
                    is_upgrade: moment.is_upgrade,
                };
                let rendered = charts::render(&chart, &values, &release, &capabilities, &world);
                (rendered, chart, world)
            });
            let (rendered, back, known) = done.await;
            (chart, world) = (back, known);
            let rendered = rendered?;
            if rendered.asked.is_empty() {
                return Ok(plan(&chart, rendered, moment));
            }
            for asked in rendered.asked {
                if world.known.len() >= LOOKUPS_MAX {
                    return Err(Error::new(format!(
                        "the chart looks up more than {LOOKUPS_MAX} objects"
                    )));
                }
                let found = look_up(cluster, &asked).await?;
                world.known.push((asked, found));
            }
        }
        Err(Error::new(format!("the chart looks up more after {ROUNDS_MAX} answers")))
    }
}

fn plan(chart: &Chart, rendered: charts::Rendered, moment: Moment) -> Plan {
    let hooks = rendered.hooks.into_iter().map(|hook| Hook {
        name: hook.name,
        kind: hook.kind,
        path: hook.path,
        manifest: hook.manifest,
        object: hook.object,
        events: hook.events,
        weight: hook.weight,
        policies: hook.delete_policies,
        last: Default::default(),
    });
    Plan {
        chart: chart.to_release_json(),
        objects: rendered.manifests.into_iter().map(|manifest| manifest.object).collect(),
        manifest: rendered.manifest,
        hooks: hooks.collect(),
        notes: rendered.notes,
        is_upgrade: moment.is_upgrade,
    }
}

/// What the server is and serves.
fn capabilities(cluster: &Cluster) -> Capabilities {
    let kinds = cluster.registry.current();
    let mut api_versions = Vec::new();
    for resource in kinds.resources() {
        let form: Form<'_> = resource.form();
        let version = form.api_version();
        api_versions.push(format!("{version}/{}", form.kind.name));
        if !api_versions.contains(&version) {
            api_versions.push(version);
        }
    }
    Capabilities { kube_version: stdx::version::VERSION.to_owned(), api_versions }
}

/// What `lookup` answers: an object, a list where no name is given, nothing where there is none.
async fn look_up(cluster: &Cluster, asked: &Asked) -> Result<Value> {
    let Asked { api_version, kind, namespace, name } = asked;
    let tree = json!({"apiVersion": api_version});
    let (group, version) = group_version(&tree);
    let kinds = cluster.registry.current();
    let found = kinds.by_name(group, kind).and_then(|it| kinds.of_kind(it, group, version));
    let Some(resource) = found else { return Ok(json!({})) };
    let form = resource.form();
    let root = if group.is_empty() { "/api" } else { "/apis" };
    let mut path = format!("{root}/{api_version}");
    let escaped = |text: &str| wire::percent::escape(text, wire::percent::is_unreserved);
    if form.kind.namespaced() && !namespace.is_empty() {
        path.push_str(&format!("/namespaces/{}", escaped(namespace)));
    }
    path.push_str(&format!("/{}", form.kind.plural));
    if !name.is_empty() {
        path.push_str(&format!("/{}", escaped(name)));
    }
    match cluster.client.api().read(path).await {
        Ok(mut tree) => {
            if name.is_empty() {
                tree["apiVersion"] = api_version.as_str().into();
                tree["kind"] = form.list_kind().into();
            }
            Ok(tree)
        }
        Err(status) if status.is_not_found() => Ok(json!({})),
        Err(status) => {
            Err(status).context(|| format!("look up {kind} {name:?} in namespace {namespace:?}"))
        }
    }
}
