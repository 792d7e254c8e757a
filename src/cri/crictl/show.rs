//! One thing, or a few, with all that is known of them.

use serde_json::{Map, Value, json};
use stdx::{Error, Result};

use super::call::Client;
use super::line::Line;
use super::words::{number, size, time, tree};
use super::{list, out};

/// The form that was asked for; JSON without one.
fn form(line: &Line) -> Result<&str> {
    match line.value("output") {
        "" => Ok("json"),
        form @ ("json" | "yaml") => Ok(form),
        other => Err(Error::new(format!("unsupported format: {other:?}"))),
    }
}

/// A status with what the runtime says besides, whose texts may be JSON themselves.
fn with_info(status: Value, info: &Value) -> Value {
    let mut map = Map::new();
    for (name, value) in info.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or("");
        let tree = text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten();
        map.insert(name.clone(), tree.unwrap_or_else(|| text.trim_matches('"').into()));
    }
    map.insert("status".to_owned(), status);
    Value::Object(map)
}

/// One alone, several as a list.
fn print_all(mut all: Vec<Value>, line: &Line) -> Result<()> {
    let whole = if all.len() == 1 { all.remove(0) } else { Value::Array(all) };
    tree(&whole, form(line)?)
}

fn at(value: &mut Value, name: &str, is_known: bool) {
    let at = if is_known { number(&value[name]) } else { 0 };
    value[name] = time(at).into();
}

/// The ids that were named, or those of what flags choose.
fn ids(line: &Line, chosen: Vec<Value>) -> Result<Vec<String>> {
    let of_chosen = || chosen.iter().filter_map(|one| one["id"].as_str()).map(str::to_owned);
    let ids: Vec<String> =
        if line.words.is_empty() { of_chosen().collect() } else { line.words.clone() };
    if ids.is_empty() {
        return Err(Error::new("ID cannot be empty"));
    }
    Ok(ids)
}

pub(crate) async fn container(client: &Client, line: &Line) -> Result<()> {
    let chosen = match line.words.is_empty() {
        true => list::chosen_containers(client, line, true).await?,
        false => Vec::new(),
    };
    let mut all = Vec::new();
    for id in ids(line, chosen)? {
        let request = json!({"containerId": id, "verbose": !line.is_on("quiet")});
        let mut answer = client.call("ContainerStatus", &request).await?;
        let mut status = answer["status"].take();
        let state = status["state"].as_str().unwrap_or("").to_owned();
        at(&mut status, "createdAt", true);
        at(&mut status, "startedAt", state != "CONTAINER_CREATED");
        at(&mut status, "finishedAt", state == "CONTAINER_EXITED");
        all.push(with_info(status, &answer["info"]));
    }
    print_all(all, line)
}

pub(crate) async fn sandbox(client: &Client, line: &Line) -> Result<()> {
    let chosen = match line.words.is_empty() {
        true => list::chosen_sandboxes(client, line).await?,
        false => Vec::new(),
    };
    let mut all = Vec::new();
    for id in ids(line, chosen)? {
        let request = json!({"podSandboxId": id, "verbose": !line.is_on("quiet")});
        let mut answer = client.call("PodSandboxStatus", &request).await?;
        let mut status = answer["status"].take();
        at(&mut status, "createdAt", true);
        all.push(with_info(status, &answer["info"]));
    }
    print_all(all, line)
}

pub(crate) async fn image(client: &Client, line: &Line) -> Result<()> {
    if !line.value("name").is_empty() || !line.value("filter").is_empty() {
        return Err(Error::new("inspecti --name and --filter are not supported by k3rs"));
    }
    let mut all = Vec::new();
    for id in ids(line, Vec::new())? {
        let request = json!({"image": {"image": id}, "verbose": !line.is_on("quiet")});
        let mut answer = client.call("ImageStatus", &request).await?;
        if answer["image"].is_null() {
            return Err(Error::new(format!("no such image {id:?} present")));
        }
        all.push(with_info(answer["image"].take(), &answer["info"]));
    }
    print_all(all, line)
}

pub(crate) async fn info(client: &Client, line: &Line) -> Result<()> {
    let request = json!({"verbose": !line.is_on("quiet")});
    let mut answer = client.call("Status", &request).await?;
    let mut whole = with_info(answer["status"].take(), &answer["info"]);
    let handlers = answer["runtimeHandlers"].as_array().into_iter().flatten();
    whole["runtimeHandlers"] = handlers.map(handler).collect();
    tree(&whole, form(line)?)
}

/// As Go's own library writes it, for crictl does not take protobuf's here: what is empty is left out.
fn handler(handler: &Value) -> Value {
    let mut shown = Map::new();
    if let Some(features) = handler["features"].as_object() {
        let mut own = Map::new();
        for (name, long) in [
            ("recursive_read_only_mounts", "recursiveReadOnlyMounts"),
            ("user_namespaces", "userNamespaces"),
        ] {
            if features.get(long) == Some(&Value::Bool(true)) {
                own.insert(name.to_owned(), true.into());
            }
        }
        shown.insert("features".to_owned(), Value::Object(own));
    }
    if let Some(name) = handler["name"].as_str().filter(|name| !name.is_empty()) {
        shown.insert("name".to_owned(), name.into());
    }
    Value::Object(shown)
}

pub(crate) async fn version(client: &Client) -> Result<()> {
    let answer = client.call("Version", &json!({"version": "0.1.0"})).await?;
    for (title, name) in [
        ("Version", "version"),
        ("RuntimeName", "runtimeName"),
        ("RuntimeVersion", "runtimeVersion"),
        ("RuntimeApiVersion", "runtimeApiVersion"),
    ] {
        out::print(&format!("{title}:  {}\n", answer[name].as_str().unwrap_or("")));
    }
    Ok(())
}

pub(crate) async fn image_fs(client: &Client, line: &Line) -> Result<()> {
    let answer = client.call("ImageFsInfo", &json!({})).await?;
    if line.value("output") != "table" {
        return tree(&json!({"status": answer}), form(line)?);
    }
    for (title, name) in [("Container", "containerFilesystems"), ("Image", "imageFilesystems")] {
        let all = answer[name].as_array();
        for (idx, one) in all.into_iter().flatten().enumerate() {
            out::print(&format!(
                "{title} Filesystem \nTimeStamp[{idx}]: {}\nDisk[{idx}]: {}\nInodes[{idx}]: {}\nMountpoint[{idx}]: {}\n",
                number(&one["timestamp"]),
                size(number(&one["usedBytes"]["value"]), 4),
                number(&one["inodesUsed"]["value"]),
                one["fsId"]["mountpoint"].as_str().unwrap_or("")
            ));
        }
    }
    Ok(())
}

/// What needs no words of ours.
pub(crate) async fn plain(client: &Client, line: &Line) -> Result<()> {
    let method = match line.command.names[0] {
        "runtime-config" => "RuntimeConfig",
        "metricdescs" => "ListMetricDescriptors",
        _ => "ListPodSandboxMetrics",
    };
    tree(&client.call(method, &json!({})).await?, form(line)?)
}
