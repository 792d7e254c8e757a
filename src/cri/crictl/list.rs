//! Lists: containers, pods, images, and what they use.

use serde_json::{Map, Value, json};
use stdx::{Arrange, Context, Error, Result};

use super::call::Client;
use super::line::Line;
use super::words::{ago, number, short, size, table, tree};
use super::{out, words};

/// The longest time between two readings.
const SAMPLE_MAX_SECS: u64 = 3600;

const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    path.split('.').fold(value, |value, name| &value[name]).as_str().unwrap_or("")
}

fn items(value: &Value, name: &str) -> Vec<Value> {
    value[name].as_array().cloned().unwrap_or_default()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// `--label key=value`, as often as it is given.
fn labels(line: &Line) -> Result<Value> {
    let mut map = Map::new();
    for label in line.all("label").flat_map(|list| list.split(',')) {
        let pair = label.split_once('=');
        let (key, value) =
            pair.context(|| format!("incorrectly formatted label: {label:?}, want key=value"))?;
        map.insert(key.to_owned(), value.into());
    }
    Ok(Value::Object(map))
}

/// Whether a pattern that was given matches.
fn matches(line: &Line, flag: &str, text: &str) -> Result<bool> {
    match line.value(flag) {
        "" => Ok(true),
        pattern => {
            let pattern = regex_lite::Regex::new(pattern);
            Ok(pattern.context(|| format!("invalid pattern of --{flag}"))?.is_match(text))
        }
    }
}

/// The newest first, and no more of them than were asked for.
fn newest(mut all: Vec<Value>, line: &Line) -> Result<Vec<Value>> {
    all.arrange_by_key(|one| std::cmp::Reverse(number(&one["createdAt"])));
    let last = line.number("last")?.filter(|n| *n > 0);
    if let Some(n) = if line.is_on("latest") { Some(1) } else { last } {
        all.truncate(usize::try_from(n).unwrap_or(usize::MAX));
    }
    Ok(all)
}

/// The containers that flags choose; those that run, unless `all` are wanted.
pub(crate) async fn chosen_containers(
    client: &Client,
    line: &Line,
    all: bool,
) -> Result<Vec<Value>> {
    let mut filter = json!({
        "id": line.value("id"), "podSandboxId": line.value("pod"), "labelSelector": labels(line)?,
    });
    let state = match line.value("state").to_ascii_lowercase().as_str() {
        "" if all => None,
        "" => Some(1),
        "created" => Some(0),
        "running" => Some(1),
        "exited" => Some(2),
        "unknown" => Some(3),
        _ => {
            let message = "--state should be one of created, running, exited or unknown";
            return Err(Error::new(message));
        }
    };
    let any_state = line.is_on("latest") || line.number("last")?.is_some_and(|n| n > 0);
    if let Some(state) = state.filter(|_| !any_state) {
        filter["state"] = json!({"state": state});
    }
    let answer = client.call("ListContainers", &json!({"filter": filter})).await?;
    let mut chosen = Vec::new();
    for one in items(&answer, "containers") {
        let namespace = one["labels"][POD_NAMESPACE].as_str().unwrap_or("");
        if matches(line, "name", text(&one, "metadata.name"))?
            && matches(line, "namespace", namespace)?
        {
            chosen.push(one);
        }
    }
    let mut chosen = newest(chosen, line)?;
    let image = line.value("image");
    if !image.is_empty() {
        let wanted = client.call("ImageStatus", &json!({"image": {"image": image}})).await?;
        let wanted = text(&wanted, "image.id").to_owned();
        chosen.retain(|one| {
            text(one, "image.image").contains(image) || text(one, "imageId") == wanted
        });
    }
    Ok(chosen)
}

/// What `-v` shows of labels and annotations.
fn maps(one: &Value) -> String {
    let mut out = String::new();
    for (title, name) in [("Labels", "labels"), ("Annotations", "annotations")] {
        let Some(map) = one[name].as_object().filter(|map| !map.is_empty()) else { continue };
        out.push_str(&format!("{title}:\n"));
        let mut all: Vec<_> = map.iter().collect();
        all.arrange_by_key(|(key, _)| *key);
        for (key, value) in all {
            out.push_str(&format!("\t{key} -> {}\n", value.as_str().unwrap_or("")));
        }
    }
    out
}

pub(crate) async fn containers(client: &Client, line: &Line) -> Result<()> {
    let chosen = chosen_containers(client, line, line.is_on("all")).await?;
    if !matches!(line.value("output"), "" | "table") {
        return tree(&json!({"containers": chosen}), line.value("output"));
    }
    let mut rows = vec![row([
        "CONTAINER",
        "IMAGE",
        "CREATED",
        "STATE",
        "NAME",
        "ATTEMPT",
        "POD ID",
        "POD",
        "NAMESPACE",
    ])];
    for one in &chosen {
        let (id, pod) = (text(one, "id"), text(one, "podSandboxId"));
        let state = state_word(text(one, "state"));
        let created = ago(number(&one["createdAt"]));
        let namespace = one["labels"][POD_NAMESPACE].as_str().unwrap_or("unknown");
        if line.is_on("quiet") {
            out::print(&format!("{id}\n"));
            continue;
        }
        if line.is_on("verbose") {
            out::print(&format!(
                "ID: {id}\nPodID: {pod}\nNamespace: {namespace}\nName: {}\nAttempt: {}\nState: {state}\nImage: {}\nCreated: {created}\n{}\n",
                text(one, "metadata.name"),
                one["metadata"]["attempt"],
                text(one, "image.image"),
                maps(one)
            ));
            continue;
        }
        let cut = |id: &str| if line.is_on("no-trunc") { id.to_owned() } else { short(id) };
        let image = match text(one, "image.image") {
            image if line.is_on("resolve-image-path") => {
                let found = client.call("ImageStatus", &json!({"image": {"image": image}})).await?;
                found["image"]["repoTags"][0].as_str().unwrap_or(image).to_owned()
            }
            image if image.starts_with("sha256:") => cut(image),
            image => image.to_owned(),
        };
        let pod_name = one["labels"][POD_NAME].as_str().unwrap_or("unknown");
        rows.push(vec![
            cut(id),
            image,
            created,
            state.to_owned(),
            text(one, "metadata.name").to_owned(),
            one["metadata"]["attempt"].to_string(),
            cut(pod),
            pod_name.to_owned(),
            namespace.to_owned(),
        ]);
    }
    if !line.is_on("quiet") && !line.is_on("verbose") {
        table(&rows);
    }
    Ok(())
}

fn state_word(state: &str) -> &'static str {
    match state {
        "CONTAINER_CREATED" => "Created",
        "CONTAINER_RUNNING" => "Running",
        "CONTAINER_EXITED" => "Exited",
        _ => "Unknown",
    }
}

pub(crate) async fn chosen_sandboxes(client: &Client, line: &Line) -> Result<Vec<Value>> {
    let mut filter = json!({"id": line.value("id"), "labelSelector": labels(line)?});
    let any_state = line.is_on("latest") || line.number("last")?.is_some_and(|n| n > 0);
    let state = match line.value("state").to_ascii_lowercase().as_str() {
        "" => None,
        "ready" => Some(0),
        "notready" => Some(1),
        _ => return Err(Error::new("--state should be ready or notready")),
    };
    if let Some(state) = state.filter(|_| !any_state) {
        filter["state"] = json!({"state": state});
    }
    let answer = client.call("ListPodSandbox", &json!({"filter": filter})).await?;
    let mut chosen = Vec::new();
    for one in items(&answer, "items") {
        if matches(line, "name", text(&one, "metadata.name"))?
            && matches(line, "namespace", text(&one, "metadata.namespace"))?
        {
            chosen.push(one);
        }
    }
    newest(chosen, line)
}

pub(crate) async fn sandboxes(client: &Client, line: &Line) -> Result<()> {
    let chosen = chosen_sandboxes(client, line).await?;
    if !matches!(line.value("output"), "" | "table") {
        return tree(&json!({"items": chosen}), line.value("output"));
    }
    let mut rows =
        vec![row(["POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"])];
    for one in &chosen {
        let id = text(one, "id");
        let state = if text(one, "state") == "SANDBOX_READY" { "Ready" } else { "NotReady" };
        let created = ago(number(&one["createdAt"]));
        let runtime = match text(one, "runtimeHandler") {
            "" => "(default)",
            handler => handler,
        };
        if line.is_on("quiet") {
            out::print(&format!("{id}\n"));
            continue;
        }
        let metadata = &one["metadata"];
        if line.is_on("verbose") {
            // As Go prints a time.
            let created =
                words::time(number(&one["createdAt"])).replace('T', " ").replace('Z', " +0000 UTC");
            let attempt = match number(&metadata["attempt"]) {
                0 => String::new(),
                attempt => format!("Attempt: {attempt}\n"),
            };
            out::print(&format!(
                "ID: {id}\nName: {}\nUID: {}\nNamespace: {}\n{attempt}Status: {state}\nCreated: {created}\n{}Runtime: {runtime}\n\n",
                text(metadata, "name"),
                text(metadata, "uid"),
                text(metadata, "namespace"),
                maps(one)
            ));
            continue;
        }
        rows.push(vec![
            if line.is_on("no-trunc") { id.to_owned() } else { short(id) },
            created,
            state.to_owned(),
            text(metadata, "name").to_owned(),
            text(metadata, "namespace").to_owned(),
            metadata["attempt"].to_string(),
            runtime.to_owned(),
        ]);
    }
    if !line.is_on("quiet") && !line.is_on("verbose") {
        table(&rows);
    }
    Ok(())
}

pub(crate) async fn images(client: &Client, line: &Line) -> Result<()> {
    if !line.value("filter").is_empty() {
        return Err(Error::new("images --filter is not supported by k3rs"));
    }
    let wanted = line.words.first().map_or("", String::as_str);
    let request = json!({"filter": {"image": {"image": wanted}}});
    let mut all = items(&client.call("ListImages", &request).await?, "images");
    all.arrange_by_key(|one| {
        let name = one["repoTags"][0].as_str().or(one["repoDigests"][0].as_str());
        name.unwrap_or("").to_owned()
    });
    if !matches!(line.value("output"), "" | "table") {
        return tree(&json!({"images": all}), line.value("output"));
    }
    let (digests, pinned) = (line.is_on("digests"), line.is_on("pinned"));
    let add = |cells: [&str; 6]| {
        let shown = [true, true, digests, true, true, pinned];
        let cells = cells.iter().zip(shown).filter(|(_, shown)| *shown);
        cells.map(|(cell, _)| (*cell).to_owned()).collect::<Vec<String>>()
    };
    let mut rows = vec![add(["IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE", "PINNED"])];
    for one in &all {
        let id = text(one, "id");
        if line.is_on("quiet") {
            out::print(&format!("{id}\n"));
            continue;
        }
        if line.is_on("verbose") {
            out::print(&verbose_image(one));
            continue;
        }
        let cut = |id: &str| if line.is_on("no-trunc") { id.to_owned() } else { short(id) };
        let digest = one["repoDigests"][0].as_str().and_then(|text| text.split_once('@'));
        let (name, digest) = digest.unwrap_or(("<none>", "<none>"));
        let size = size(number(&one["size"]), 3);
        let is_pinned = one["pinned"].to_string();
        let tags = items(one, "repoTags");
        let mut pairs: Vec<(&str, &str)> = tags
            .iter()
            .filter_map(|tag| tag.as_str())
            .map(|tag| tag.rsplit_once(':').unwrap_or((tag, "<none>")))
            .collect();
        if pairs.is_empty() {
            pairs.push((name, "<none>"));
        }
        for (name, tag) in pairs {
            rows.push(add([name, tag, &cut(digest), &cut(id), &size, &is_pinned]));
        }
    }
    if !line.is_on("quiet") && !line.is_on("verbose") {
        table(&rows);
    }
    Ok(())
}

fn verbose_image(one: &Value) -> String {
    let mut shown = format!("ID: {}\n", text(one, "id"));
    for (title, name) in [("RepoTags", "repoTags"), ("RepoDigests", "repoDigests")] {
        for item in items(one, name) {
            shown.push_str(&format!("{title}: {}\n", item.as_str().unwrap_or("")));
        }
    }
    match number(&one["size"]) {
        0 => {}
        size => shown.push_str(&format!("Size: {size}\n")),
    }
    if !one["uid"].is_null() {
        shown.push_str(&format!("Uid: value:{}\n", number(&one["uid"]["value"])));
    }
    if !text(one, "username").is_empty() {
        shown.push_str(&format!("Username: {}\n", text(one, "username")));
    }
    if one["pinned"] == true {
        shown.push_str("Pinned: true\n");
    }
    shown + "\n"
}

/// Two readings, and how long between them.
async fn readings(
    client: &Client,
    line: &Line,
    method: &str,
    request: &Value,
) -> Result<Option<(Value, Value)>> {
    let first = client.call(method, request).await?;
    if !matches!(line.value("output"), "" | "table") {
        tree(&first, line.value("output"))?;
        return Ok(None);
    }
    let seconds = line.number("seconds")?.and_then(|n| u64::try_from(n).ok()).unwrap_or(1);
    rt::sleep(std::time::Duration::from_secs(seconds.clamp(1, SAMPLE_MAX_SECS))).await;
    Ok(Some((first, client.call(method, request).await?)))
}

fn by_id<'a>(stats: &'a Value, id: &str) -> Option<&'a Value> {
    stats["stats"].as_array()?.iter().find(|one| text(one, "attributes.id") == id)
}

/// Per cent of one processor between two readings; `None` if there is nothing to compare.
fn percent(old: &Value, new: &Value) -> Option<f64> {
    let used = |of: &Value| number(&of["usageCoreNanoSeconds"]["value"]);
    let elapsed = number(&new["timestamp"]) - number(&old["timestamp"]);
    let used = used(new) - used(old);
    // Nanoseconds between two readings are few enough to be counted by a double.
    #[allow(clippy::cast_precision_loss)]
    (elapsed > 0).then(|| used as f64 / elapsed as f64 * 100.0)
}

/// Prints tables of statistics until nobody watches.
async fn repeat(
    client: &Client,
    line: &Line,
    (method, request): (&str, Value),
    head: Vec<String>,
    cells: &(dyn Fn(&Value, &Value) -> Option<Vec<String>> + Sync),
) -> Result<()> {
    loop {
        let Some((old, new)) = readings(client, line, method, &request).await? else {
            return Ok(());
        };
        let mut stats = items(&new, "stats");
        stats.arrange_by_key(|one| text(one, "attributes.id").to_owned());
        let mut rows = vec![head.clone()];
        for one in &stats {
            let old = by_id(&old, text(one, "attributes.id"));
            rows.extend(old.and_then(|old| cells(old, one)));
        }
        // As crictl clears the screen before each table.
        out::print("\x1b[2J\x1b[H");
        table(&rows);
        if !line.is_on("watch") {
            return Ok(());
        }
    }
}

pub(crate) async fn stats(client: &Client, line: &Line) -> Result<()> {
    let id = match line.value("id") {
        "" => line.words.first().map_or("", String::as_str),
        id => id,
    };
    let filter =
        json!({"id": id, "podSandboxId": line.value("pod"), "labelSelector": labels(line)?});
    let head = row(["CONTAINER", "NAME", "CPU %", "MEM", "DISK", "INODES", "SWAP"]);
    repeat(client, line, ("ListContainerStats", json!({"filter": filter})), head, &|old, one| {
        let value = |group: &str, name: &str| number(&one[group][name]["value"]);
        let has_ended =
            value("cpu", "usageCoreNanoSeconds") == 0 && value("memory", "workingSetBytes") == 0;
        if has_ended && !line.is_on("all") {
            return None;
        }
        let busy = if has_ended { 0.0 } else { percent(&old["cpu"], &one["cpu"])? };
        Some(vec![
            short(text(one, "attributes.id")),
            text(one, "attributes.metadata.name").to_owned(),
            format!("{busy:.2}"),
            size(value("memory", "workingSetBytes"), 4),
            size(value("writableLayer", "usedBytes"), 4),
            value("writableLayer", "inodesUsed").to_string(),
            size(value("swap", "swapUsageBytes"), 4),
        ])
    })
    .await
}

pub(crate) async fn sandbox_stats(client: &Client, line: &Line) -> Result<()> {
    let filter = json!({"id": line.value("id"), "labelSelector": labels(line)?});
    let head = row(["POD", "POD ID", "CPU %", "MEM"]);
    repeat(client, line, ("ListPodSandboxStats", json!({"filter": filter})), head, &|old, one| {
        Some(vec![
            text(one, "attributes.metadata.name").to_owned(),
            short(text(one, "attributes.id")),
            format!("{:.2}", percent(&old["linux"]["cpu"], &one["linux"]["cpu"])?),
            size(number(&one["linux"]["memory"]["workingSetBytes"]["value"]), 4),
        ])
    })
    .await
}
