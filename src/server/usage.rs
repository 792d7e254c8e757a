//! `metrics.k8s.io`: what nodes and pods use, from what kubelets say when somebody asks.

use std::task::Poll;
use std::time::Duration;

use api::kinds::{NODE, POD, POD_METRICS};
use api::status::Reason;
use api::{LensMut, Object, Quantity, Status, Value, json};
use client::{Answer, List, Verb};
use rt::BoxFuture;
use stdx::{OrdMap, OrdSet, time::Wall};

use crate::core::{Call, Core, Outcome, method_not_allowed};
use crate::door;
use crate::samples::{Pair, Sample, Usage, WINDOW_MIN};
use crate::storage;
use crate::storage::selection::Selection;

/// The longest text of a node about what it uses: thousands of containers.
const SAMPLE_BYTES_MAX: usize = 2 << 20;

/// Nodes that are asked at once.
const NODES_AT_ONCE_MAX: usize = 32;

/// How long a node may take to answer.
const NODE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Answers `get` and `list`. Nodes that do not answer, and what they do not know yet, are left out.
///
/// # Errors
/// 404 where there is nothing, or nothing is known; 400 for a selector that cannot be read.
pub(crate) async fn read(call: &Call<'_>) -> Result<Outcome, Status> {
    let request = call.request;
    let kind = if *call.kind() == POD_METRICS { &POD } else { &NODE };
    let store = call.store();
    match request.verb {
        Verb::Get => {
            let about = storage::get(store, kind, &request.namespace, &request.name).await?;
            let found = of(call, vec![about]).await?;
            let found = found.into_iter().next().ok_or_else(|| unknown(call))?;
            Ok(Outcome::ok(Answer::Object(found)))
        }
        Verb::List => {
            let selection = Selection::parse(call.form, &request.list)?;
            let (_, mut about) = storage::all(store, kind, &request.namespace).await?;
            about.retain(|object| selection.matches(object));
            let items = of(call, about).await?;
            Ok(Outcome::ok(Answer::List(List { items, ..List::default() })))
        }
        _ => Err(method_not_allowed()),
    }
}

/// Nothing is known yet, in metrics-server's words.
fn unknown(call: &Call<'_>) -> Status {
    let (kind, request) = (call.kind(), call.request);
    let name = match request.namespace.as_str() {
        "" => request.name.clone(),
        namespace => format!("{namespace}/{}", request.name),
    };
    let resource = kind.singular();
    let message = format!("{resource}.{} {name:?} not found", kind.group);
    Status::new(Reason::NotFound, message).about(kind, &name).detail("kind", resource)
}

/// What pods or nodes use, in their order.
async fn of(call: &Call<'_>, about: Vec<Object>) -> Result<Vec<Object>, Status> {
    let place = |object: &Object| match *object.kind() == POD {
        true => api::field::text(object, "spec.nodeName"),
        false => object.name().to_owned(),
    };
    let mut nodes: OrdSet<String> = about.iter().map(place).collect();
    nodes.remove("");
    let nodes: Vec<String> = nodes.into_iter().collect();
    let mut pairs = OrdMap::new();
    for some in nodes.chunks(NODES_AT_ONCE_MAX) {
        let asked = some.iter().map(|node| -> BoxFuture<'_, _> { Box::pin(ask(call.core, node)) });
        let answers = all(asked.collect()).await;
        for (node, answer) in some.iter().zip(answers) {
            match answer {
                Ok(pair) => drop(pairs.insert(node, pair)),
                Err(status) => log::debug!("ask node {node} what it uses: {status}"),
            }
        }
    }
    let found =
        about.iter().filter_map(|object| object_of(call, object, pairs.get(&place(object))?));
    found.collect()
}

/// Waits for all.
async fn all<T>(mut futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    rt::future::poll_fn(|cx| {
        let mut waits = false;
        for (future, done) in futures.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => *done = Some(value),
                Poll::Pending => waits = true,
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Two samples of a node. The first who asks waits until there are two.
async fn ask(core: &Core, node: &str) -> Result<Pair, Status> {
    let slot = core.samples.of(node);
    let asking = async {
        let mut kept = slot.lock().await;
        let now = rt::now().mono;
        let pair = match kept.take().filter(|pair| pair.is_known(now)) {
            Some(pair) if pair.is_due(now) => pair.then(sample(core, node).await?),
            Some(pair) => pair,
            None => {
                let first = sample(core, node).await?;
                rt::sleep(WINDOW_MIN).await;
                Pair::new(first, sample(core, node).await?)
            }
        };
        *kept = Some(pair.clone());
        Ok(pair)
    };
    let late = |rt::Elapsed| Status::unavailable("it did not answer in time");
    rt::timeout(NODE_WAIT_MAX, asking).await.map_err(late)?
}

async fn sample(core: &Core, node: &str) -> Result<Sample, Status> {
    let mut response = door::call(core, node, http::Request::get("/metrics/resource")).await?;
    if response.status != 200 {
        return Err(Status::unavailable(format!("it answered {}", response.status)));
    }
    let text = response.body.read_all(SAMPLE_BYTES_MAX).await.map_err(Status::internal)?;
    Ok(Sample::read(&String::from_utf8_lossy(&text), rt::now().mono))
}

/// `None` if nothing is known of it.
fn object_of(call: &Call<'_>, about: &Object, pair: &Pair) -> Option<Result<Object, Status>> {
    let kind = call.kind();
    let mut tree = json!({
        "apiVersion": kind.api_version(), "kind": kind.name,
        "metadata": {
            "name": about.name(), "creationTimestamp": api::time::format(rt::now().wall),
        },
    });
    let labels: Vec<(&str, &str)> = about.labels().collect();
    if !labels.is_empty() {
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.into()));
        tree.set("metadata.labels", Value::Object(labels.collect()));
    }
    let earliest = match *kind == POD_METRICS {
        true => {
            let containers = pair.pod(about.namespace(), about.name())?;
            let one =
                |(name, usage): &(&str, Usage)| json!({"name": name, "usage": amounts(usage)});
            tree.set("metadata.namespace", about.namespace());
            tree.set("containers", containers.iter().map(one).collect::<Vec<_>>());
            containers.into_iter().map(|(_, usage)| usage).min_by_key(|usage| usage.at_ms)?
        }
        false => {
            let usage = pair.node()?;
            tree.set("usage", amounts(&usage));
            usage
        }
    };
    tree.set("timestamp", api::time::format(Wall(earliest.at_ms.saturating_mul(1_000_000))));
    tree.set("window", stdx::duration::format(earliest.window_ms.saturating_mul(1_000_000)));
    Some(Object::from_tree(kind, &tree).map_err(Status::internal))
}

fn amounts(usage: &Usage) -> Value {
    let memory = i64::try_from(usage.memory_bytes).unwrap_or(i64::MAX);
    json!({
        "cpu": Quantity::from_nano(usage.cpu_nano).to_string(),
        "memory": Quantity::from_bytes(memory).to_string(),
    })
}
