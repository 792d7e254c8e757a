//! `kubectl top`: what nodes and pods use.

use api::pod::resources::{Amounts, add, amounts};
use api::quantity::Quantity;
use api::selector::Selector;
use api::{Lens, Value};
use stdx::Arrange;

use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, switch, switched_on, text};
use crate::select::{Pick, list_query};
use crate::{options, out};

const COMMON: &[Flag] = &[
    switch("no-headers", "If present, print output without headers"),
    text(
        "sort-by",
        "",
        "If non-empty, sort using specified field. The field can be either 'cpu' or 'memory'.",
    ),
    switched_on("use-protocol-buffers", ""),
];
const OF_NODES: &[Flag] = &[switch(
    "show-capacity",
    "Print node resources based on Capacity instead of Allocatable(default) of the nodes.",
)];
const OF_PODS: &[Flag] = &[
    switch("containers", "If present, print usage of containers within a pod."),
    switch("sum", "Print the sum of the resource usage"),
];

pub(crate) static COMMAND: Command = Command {
    name: "top",
    about: "Display resource (CPU/memory) usage.\n\n The top command allows you to see the resource consumption for nodes or pods.\n\n This command requires Metrics Server to be correctly configured and working on the server.",
    usage: "[flags]",
    subs: &[&NODE, &POD],
    ..BLANK
};
static NODE: Command = Command {
    name: "node",
    aliases: &["nodes", "no"],
    about: "Display resource (CPU/memory) usage of nodes.",
    usage: "[NAME | -l label]",
    flags: &[COMMON, OF_NODES, options::SELECTOR],
    run: Some(nodes),
    ..BLANK
};
static POD: Command = Command {
    name: "pod",
    aliases: &["pods", "po"],
    about: "Display resource (CPU/memory) usage of pods.",
    usage: "[NAME | -l label]",
    flags: &[COMMON, OF_PODS, options::ALL_NAMESPACES, options::FIELD_SELECTOR, options::SELECTOR],
    run: Some(pods),
    ..BLANK
};

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";
/// A pod that has no figures for longer than this is told of.
const NEW_SECS: i64 = 120;

/// What both commands check before they ask.
fn check(call: &Call<'_>, usage: &str, selectors: &str) -> Outcome<String> {
    if call.args().len() > 1 {
        return call.usage(usage);
    }
    if !matches!(call.text("sort-by"), "" | "cpu" | "memory") {
        return failed("--sort-by accepts only cpu or memory");
    }
    let name = call.args().first().cloned().unwrap_or_default();
    let is_selective = !call.text("selector").is_empty() || !call.text("field-selector").is_empty();
    if !name.is_empty() && is_selective {
        return failed(format!("only one of NAME or {selectors} can be provided"));
    }
    Selector::parse(call.text("selector")).map_err(Failure::Message)?;
    let groups = call.rest()?.get("/apis")?;
    let is_there = groups.list("groups").iter().any(|group| {
        group.str("name") == "metrics.k8s.io"
            && group.list("versions").iter().any(|it| it.str("version") == "v1beta1")
    });
    if is_there { Ok(name) } else { failed("Metrics API not available") }
}

/// One object, or the items of a list.
fn fetch(call: &Call<'_>, path: &str, name: &str) -> Outcome<Vec<Value>> {
    if !name.is_empty() {
        return Ok(vec![call.rest()?.get(&[path, "/", name].concat())?]);
    }
    let query = list_query(&Pick::of(call, &[]), &[]);
    let mut list = call.rest()?.get(&[path, &*query].concat())?;
    match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

/// Sorts by what `--sort-by` names, the largest first, or by name.
fn sort(call: &Call<'_>, items: &mut [(Amounts, Value)], name: fn(&Value) -> String) {
    let by = call.text("sort-by");
    items.arrange_by(|(a, x), (b, y)| match by {
        "" => name(x).cmp(&name(y)),
        by => of(b, by).cmp(&of(a, by)),
    });
}

fn of(amounts: &Amounts, name: &str) -> Quantity {
    amounts.get(name).copied().unwrap_or_default()
}

fn cpu(amounts: &Amounts) -> String {
    format!("{}m", of(amounts, "cpu").milli())
}

fn memory(amounts: &Amounts) -> String {
    format!("{}Mi", of(amounts, "memory").units() / (1024 * 1024))
}

/// Prints lines whose every cell ends with a tab, as wide as kubectl has them.
fn print(lines: &[String]) {
    out::print(&describe::align(&lines.concat(), 6, 3));
}

fn row(cells: &[&str]) -> String {
    let mut line = String::new();
    for cell in cells {
        line.push_str(cell);
        line.push('\t');
    }
    line.push('\n');
    line
}

fn nodes(call: &Call<'_>) -> Outcome {
    let name = check(call, "node [NAME | -l label]", "--selector")?;
    let metrics = fetch(call, &format!("{METRICS}/nodes"), &name)?;
    if metrics.is_empty() {
        return failed("metrics not available yet");
    }
    let nodes = fetch(call, "/api/v1/nodes", &name)?;
    let all = if call.is("show-capacity") { "status.capacity" } else { "status.allocatable" };
    let own_name = |object: &Value| object.str("metadata.name").to_owned();
    let mut metrics: Vec<(Amounts, Value)> =
        metrics.into_iter().map(|m| (amounts(m.at("usage")), m)).collect();
    sort(call, &mut metrics, own_name);
    let mut lines = Vec::new();
    if !call.is("no-headers") {
        lines.push(row(&["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]));
    }
    for (usage, metric) in &metrics {
        let node = nodes.iter().find(|node| own_name(node) == own_name(metric));
        let all = node.map_or_else(Amounts::new, |node| amounts(node.at(all)));
        let share = |name: &str| {
            // A share of what is not known is a cell that is not there.
            let all = all.get(name)?.milli();
            Some(format!("{}%", (of(usage, name).milli() as f64 / all as f64 * 100.0) as i64))
        };
        let (shares, cells) = ([share("cpu"), share("memory")], [cpu(usage), memory(usage)]);
        let mut line = vec![metric.str("metadata.name")];
        for (cell, share) in cells.iter().zip(&shares) {
            line.push(cell);
            line.extend(share.as_deref());
        }
        lines.push(row(&line));
    }
    for node in
        nodes.iter().filter(|node| !metrics.iter().any(|(_, m)| own_name(m) == own_name(node)))
    {
        let unknown = "<unknown>";
        lines.push(row(&[node.str("metadata.name"), unknown, unknown, unknown, unknown]));
    }
    print(&lines);
    Ok(())
}

fn pods(call: &Call<'_>) -> Outcome {
    let name = check(call, "pod [NAME | -l label]", "selector")?;
    let (namespace, _) = call.namespace()?;
    let is_all = call.is("all-namespaces");
    let within = |root: &str| match is_all && name.is_empty() {
        true => format!("{root}/pods"),
        false => format!("{root}/namespaces/{namespace}/pods"),
    };
    let found = fetch(call, &within(METRICS), &name)?;
    if found.is_empty() {
        return none(call, &fetch(call, &within("/api/v1"), &name)?, &namespace);
    }
    let mut metrics: Vec<(Amounts, Value)> = Vec::new();
    let mut total = Amounts::new();
    for metric in found {
        let mut sum = Amounts::new();
        for container in metric.list("containers") {
            add(&mut sum, &amounts(container.at("usage")));
        }
        add(&mut total, &sum);
        metrics.push((sum, metric));
    }
    sort(call, &mut metrics, |pod| {
        [pod.str("metadata.namespace"), "\0", pod.str("metadata.name")].concat()
    });
    let with_containers = call.is("containers");
    let mut lines = Vec::new();
    let before: Vec<&str> = [("NAMESPACE", is_all), ("POD", with_containers)]
        .iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| *name)
        .collect();
    if !call.is("no-headers") {
        lines.push(row(&[&before[..], &["NAME", "CPU(cores)", "MEMORY(bytes)"]].concat()));
    }
    for (sum, pod) in &metrics {
        let (own, name) = (pod.str("metadata.namespace"), pod.str("metadata.name"));
        let namespace: &[&str] = if is_all { &[own] } else { &[] };
        if !with_containers {
            lines.push(row(&[namespace, &[name, &cpu(sum), &memory(sum)]].concat()));
            continue;
        }
        let containers = pod.list("containers").iter();
        let mut used: Vec<(Amounts, Value)> =
            containers.map(|c| (amounts(c.at("usage")), c.clone())).collect();
        sort(call, &mut used, |container| container.str("name").to_owned());
        for (usage, container) in &used {
            lines.push(row(&[
                namespace,
                &[name, container.str("name"), &cpu(usage), &memory(usage)],
            ]
            .concat()));
        }
    }
    if call.is("sum") {
        // Without a header kubectl knows of no more columns.
        let n_before = if call.is("no-headers") { 0 } else { before.len() };
        let line = "________";
        lines.push(row(&[&vec![""; n_before + 1][..], &[line, line]].concat()));
        lines.push(row(&[&vec![""; n_before + 1][..], &[&cpu(&total), &memory(&total)]].concat()));
    }
    print(&lines);
    Ok(())
}

/// Says why there are no figures.
fn none(call: &Call<'_>, pods: &[Value], namespace: &str) -> Outcome {
    for pod in pods {
        let born = api::time::parse(pod.str("metadata.creationTimestamp"));
        let age = born.map_or(0, |born| rt::now().wall.0.saturating_sub(born.0));
        if age > NEW_SECS * 1_000_000_000 {
            return failed(format!(
                "Metrics not available for pod {}/{}, age: {}",
                pod.str("metadata.namespace"),
                pod.str("metadata.name"),
                super::drain::go_duration(age)
            ));
        }
    }
    if !pods.is_empty() {
        return failed("metrics not available yet");
    }
    out::tell(&match call.is("all-namespaces") {
        true => "No resources found".to_owned(),
        false => format!("No resources found in {namespace} namespace."),
    });
    Ok(())
}
