//! What a metric of an autoscaler is asked for with, and what its answer says.

use std::time::Duration;

use crate::tuning::Autoscaler;
use api::query::{Target as Path, escape};
use api::selector::Selector;
use api::{Kinds, Lens, Object, Quantity, Status, Value, json};
use stdx::Arrange;
use stdx::time::{Now, Wall};

use super::replicas::{self, Measure, Measures, Proposal, Target};

/// How long custom metrics are measured where they do not say.
const WINDOW: Duration = Duration::from_secs(60);

/// Where custom metrics are, the newest version first.
const CUSTOM: [&str; 2] = ["v1beta2", "v1beta1"];

/// What is known of a target while its metrics are looked at.
pub(super) struct Scene<'a> {
    pub(super) namespace: &'a str,
    /// In the form of a query.
    pub(super) selector: &'a str,
    pub(super) pods: &'a [Object],
    /// As the target's spec, and its status, has it.
    pub(super) replicas: i64,
    pub(super) status_replicas: i64,
    pub(super) now: Now,
    pub(super) by: Autoscaler,
}

/// What came of a metric.
pub(super) struct Found {
    pub(super) proposal: Proposal,
    /// What messages call it.
    pub(super) name: String,
    /// Its entry in the autoscaler's status.
    pub(super) status: Value,
}

/// Why nothing came of a metric.
#[derive(Debug)]
pub(super) struct Failed {
    /// Of the event and the condition.
    pub(super) reason: &'static str,
    /// What they say.
    pub(super) why: String,
    /// What comes before that where all metrics are told of together.
    pub(super) what: String,
}

/// The part of a metric that is its source's.
fn source(metric: &Value) -> &Value {
    metric.at(match metric.str("type") {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        _ => "external",
    })
}

/// The paths at which a metric may be, the preferred one first; none if it cannot be asked for.
///
/// # Errors
/// Why it cannot be.
pub(super) fn paths(
    metric: &Value,
    scene: &Scene<'_>,
    kinds: &Kinds,
) -> Result<Vec<String>, String> {
    let source = source(metric);
    let namespace = escape(scene.namespace);
    let name = escape(source.str("metric.name"));
    let labels = Selector::text(source.at("metric.selector"));
    let custom = |rest: String, selector: &str| -> Vec<String> {
        let path = |version| {
            let path = format!(
                "/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}/{rest}/{name}"
            );
            let mut path = Path::new(path);
            path.push_some("labelSelector", selector);
            path.push_some("metricLabelSelector", &labels);
            path.finish()
        };
        CUSTOM.into_iter().map(path).collect()
    };
    Ok(match metric.str("type") {
        "Resource" | "ContainerResource" => {
            let mut path =
                Path::new(format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"));
            path.push_some("labelSelector", scene.selector);
            vec![path.finish()]
        }
        "Pods" => custom("pods/*".into(), scene.selector),
        "Object" => {
            let about = source.at("describedObject");
            let group = about.str("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
            let kind = about.str("kind");
            if (group, kind) == ("", "Namespace") {
                return Ok(custom("metrics".into(), ""));
            }
            let found = kinds.by_name(group, kind).ok_or_else(|| {
                let whole =
                    if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
                format!("unable to map kind {whole} to resource: {}", super::no_match(group, kind))
            })?;
            let plural = escape(&found.qualified_plural());
            custom(format!("{plural}/{}", escape(about.str("name"))), "")
        }
        _ => {
            let path =
                format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{name}");
            let mut path = Path::new(path);
            path.push_some("labelSelector", &labels);
            vec![path.finish()]
        }
    })
}

/// What a metric asks for.
pub(super) fn look(
    metric: &Value,
    answer: &Result<Value, Status>,
    scene: &Scene<'_>,
) -> Result<Found, Failed> {
    let source = source(metric);
    let kind = metric.str("type");
    let (reason, what) = match kind {
        "Resource" => {
            let what = format!("failed to get {} resource metric value", source.str("name"));
            ("FailedGetResourceMetric", what)
        }
        "ContainerResource" => {
            let what = format!("failed to get {} container metric value", source.str("container"));
            ("FailedGetContainerResourceMetric", what)
        }
        "Pods" => ("FailedGetPodsMetric", "failed to get pods metric value".to_owned()),
        "Object" => ("FailedGetObjectMetric", "failed to get object metric value".to_owned()),
        "External" => {
            let what = format!("failed to get {} external metric value", source.str("metric.name"));
            ("FailedGetExternalMetric", what)
        }
        other => {
            let why = format!("unknown metric source type {other:?}");
            return Err(Failed { reason: "InvalidMetricSourceType", what: String::new(), why });
        }
    };
    let found = match kind {
        "Resource" | "ContainerResource" => of_resource(metric, source, answer, scene),
        "Pods" => of_pods(source, answer, scene),
        "Object" => of_object(source, answer, scene),
        _ => of_external(source, answer, scene),
    };
    let (proposal, name, mut part) = found.map_err(|why| Failed { reason, what, why })?;
    if part.is_null() {
        part = json!({"metric": source.at("metric")});
    }
    let current = match (proposal.utilization, source.str("target.type")) {
        (Some(percent), _) => {
            json!({"averageUtilization": percent, "averageValue": milli(proposal.usage)})
        }
        (None, "Value") => json!({"value": milli(proposal.usage)}),
        (None, _) => json!({"averageValue": milli(proposal.usage)}),
    };
    part["current"] = current;
    let field = match kind {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        _ => "external",
    };
    Ok(Found { proposal, name, status: json!({"type": kind, field: part}) })
}

/// A proposal, the metric's name, and what its status says beside the value; null for its identifier.
type Looked = Result<(Proposal, String, Value), String>;

fn of_resource(
    metric: &Value,
    source: &Value,
    answer: &Result<Value, Status>,
    scene: &Scene<'_>,
) -> Looked {
    let (name, container) = (source.str("name"), source.str("container"));
    let mut status = json!({"name": name});
    if metric.str("type") == "ContainerResource" {
        status["container"] = container.into();
    }
    let average = amount(source.at("target.averageValue"));
    let what = if average.is_some() { "usage" } else { "utilization" };
    let target = match (average, source.int("target.averageUtilization")) {
        (Some(average), _) => Target::Average(average, name),
        (None, Some(percent)) => Target::Utilization { percent, resource: name, container },
        (None, None) => {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".into());
        }
    };
    let failed = |why: String| format!("failed to get {name} {what}: {why}");
    let measures = usage(answer, name, container)
        .map_err(|why| failed(format!("unable to get metrics for resource {name}: {why}")))?;
    let proposal =
        replicas::of_pods(scene.pods, measures, scene.replicas, target, (scene.now, scene.by));
    let name = match (average, container) {
        (Some(_), _) => format!("{name} resource"),
        (None, "") => format!("{name} resource utilization (percentage of request)"),
        (None, _) => format!("{name} container resource utilization (percentage of request)"),
    };
    Ok((proposal.map_err(failed)?, name, status))
}

/// What pods use of a resource, or their containers of a name.
fn usage(
    answer: &Result<Value, Status>,
    resource: &str,
    container: &str,
) -> Result<Measures, String> {
    let answer = answer.as_ref().map_err(|status| {
        let said = refusal(status, "pods.metrics.k8s.io");
        format!("unable to fetch metrics from resource metrics API: {said}")
    })?;
    if answer.list("items").is_empty() {
        return Err("no metrics returned from resource metrics API".into());
    }
    let mut measures = Measures::new();
    for item in answer.list("items") {
        let name = item.str("metadata.name");
        let all = item.list("containers").iter();
        let counted: Vec<&Value> =
            all.filter(|it| container.is_empty() || it.str("name") == container).collect();
        if counted.is_empty() && !container.is_empty() {
            let namespace = item.str("metadata.namespace");
            return Err(format!(
                "failed to get container metrics: container {container} not present in metrics for pod {namespace}/{name}"
            ));
        }
        let values = counted.iter().map(|it| amount(it.at("usage").at(resource)));
        // A pod of which a part is not known is not known.
        let sum = values.reduce(|a, b| Some(a?.saturating_add(b?))).flatten();
        if let Some(value) = sum {
            let window = stdx::duration::parse(item.str("window")).unwrap_or(0);
            let window = Duration::from_nanos(u64::try_from(window).unwrap_or(0));
            measures.insert(name.to_owned(), Measure { value, at: at(item), window });
        }
    }
    Ok(measures)
}

fn of_pods(source: &Value, answer: &Result<Value, Status>, scene: &Scene<'_>) -> Looked {
    let name = source.str("metric.name");
    let items = values(answer, "custom", name)
        .map_err(|why| format!("unable to get metric {name}: {why}"))?;
    let mut measures = Measures::new();
    for item in items {
        let secs = item.int("windowSeconds").or(item.int("window"));
        let window = secs.and_then(|secs| u64::try_from(secs).ok()).map(Duration::from_secs);
        let measure = Measure {
            value: amount(item.at("value")).unwrap_or(0),
            at: at(item),
            window: window.unwrap_or(WINDOW),
        };
        measures.insert(item.str("describedObject.name").to_owned(), measure);
    }
    let target = Target::Average(amount(source.at("target.averageValue")).unwrap_or(0), "");
    let proposal =
        replicas::of_pods(scene.pods, measures, scene.replicas, target, (scene.now, scene.by))?;
    Ok((proposal, format!("pods metric {name}"), Value::Null))
}

fn of_object(source: &Value, answer: &Result<Value, Status>, scene: &Scene<'_>) -> Looked {
    let (name, about) = (source.str("metric.name"), source.at("describedObject"));
    let (value, average) = targets(source);
    if value.is_none() && average.is_none() {
        return Err("invalid object metric source: neither a value target nor an average value target was set".into());
    }
    let one = values(answer, "custom", name).and_then(|items| match items {
        [one] => Ok(amount(one.at("value")).unwrap_or(0)),
        several => Err(format!(
            "unable to fetch metrics from custom metrics API: the custom metrics API server returned {} results when we asked for exactly one",
            several.len()
        )),
    });
    let usage = one.map_err(|why| {
        let (kind, on) = (about.str("kind"), about.str("name"));
        let why = format!("unable to get metric {name}: {why} on {kind} {}/{on}", scene.namespace);
        match value {
            Some(_) => why,
            None => format!("failed to get {name} object metric: {why}"),
        }
    })?;
    let identifier = source.at("metric");
    match (value, average) {
        (Some(value), _) => {
            let proposal =
                replicas::of_value(scene.pods, usage, (scene.replicas, scene.by), value)?;
            let status = json!({"describedObject": about, "metric": identifier});
            Ok((proposal, format!("{} metric {name}", about.str("kind")), status))
        }
        (None, average) => {
            let wanted = average.unwrap_or(0);
            let proposal = replicas::of_share(usage, (scene.status_replicas, scene.by), wanted);
            let name = format!("external metric {name}({})", go_selector(source));
            // As upstream, which does not say of what.
            let nothing = json!({"kind": "", "name": ""});
            Ok((proposal, name, json!({"describedObject": nothing, "metric": identifier})))
        }
    }
}

fn of_external(source: &Value, answer: &Result<Value, Status>, scene: &Scene<'_>) -> Looked {
    let name = source.str("metric.name");
    let (value, average) =
        (amount(source.at("target.value")), amount(source.at("target.averageValue")));
    if value.is_none() && average.is_none() {
        return Err("invalid external metric source: neither a value target nor an average value target was set".into());
    }
    let shown = format!("external metric {name}({})", go_selector(source));
    let failed = |why: String| match average {
        Some(_) => format!("failed to get {name} external metric: {why}"),
        None => format!("failed to get external metric {name}: {why}"),
    };
    let items = values(answer, "external", name).map_err(|why| {
        let (namespace, selector) = (scene.namespace, go_selector(source));
        failed(format!("unable to get external metric {namespace}/{name}/{selector}: {why}"))
    })?;
    let amounts = items.iter().filter_map(|item| amount(item.at("value")));
    let usage = amounts.fold(0i64, i64::saturating_add);
    let proposal = match (average, value) {
        (Some(wanted), _) => replicas::of_share(usage, (scene.status_replicas, scene.by), wanted),
        (None, wanted) => {
            let wanted = wanted.unwrap_or(0);
            replicas::of_value(scene.pods, usage, (scene.replicas, scene.by), wanted)
                .map_err(failed)?
        }
    };
    Ok((proposal, shown, Value::Null))
}

/// The values in an answer of the API of `custom` or `external` metrics.
fn values<'a>(
    answer: &'a Result<Value, Status>,
    api: &str,
    name: &str,
) -> Result<&'a [Value], String> {
    let answer = answer.as_ref().map_err(|status| {
        let said = match (api, status.is_not_found() && status.details().is_empty()) {
            ("custom", true) => "no custom metrics API (custom.metrics.k8s.io) registered".into(),
            _ => refusal(status, &format!("{name}.{api}.metrics.k8s.io")),
        };
        format!("unable to fetch metrics from {api} metrics API: {said}")
    })?;
    match answer.list("items") {
        [] => Err(format!("no metrics returned from {api} metrics API")),
        items => Ok(items),
    }
}

/// A refusal in the words of upstream's client.
fn refusal(status: &Status, resource: &str) -> String {
    match status.message() {
        text @ ("the server could not find the requested resource"
        | "the server is currently unable to handle the request") => {
            format!("{text} (get {resource})")
        }
        text => text.to_owned(),
    }
}

/// The target's value, and its average value, by what the type says.
fn targets(source: &Value) -> (Option<i64>, Option<i64>) {
    match source.str("target.type") {
        "Value" => (amount(source.at("target.value")), None),
        "AverageValue" => (None, amount(source.at("target.averageValue"))),
        _ => (None, None),
    }
}

/// Thousandths of a quantity.
fn amount(tree: &Value) -> Option<i64> {
    Quantity::from_tree(tree).map(Quantity::milli)
}

fn milli(n: i64) -> Value {
    Quantity::from_milli(n).to_string().into()
}

fn at(item: &Value) -> Wall {
    api::time::parse(item.str("timestamp")).unwrap_or(Wall(0))
}

/// A metric's selector as Go prints it.
fn go_selector(source: &Value) -> String {
    let selector = source.at("metric.selector");
    if selector.is_null() {
        return "nil".into();
    }
    let mut labels: Vec<String> =
        selector.pairs("matchLabels").map(|(key, value)| format!("{key}: {value},")).collect();
    labels.arrange();
    let expressions = selector.list("matchExpressions").iter().map(|it| {
        let values: Vec<&str> = it.list("values").iter().filter_map(Value::as_str).collect();
        let (key, operator) = (it.str("key"), it.str("operator"));
        format!(
            "LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},",
            values.join(" ")
        )
    });
    let expressions: String = expressions.collect();
    let labels = labels.concat();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}
