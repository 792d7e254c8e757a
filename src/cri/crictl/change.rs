//! What changes something: images, pods and containers.

use serde_json::{Map, Value, json};
use stdx::{Context, Error, Result};

use super::call::Client;
use super::line::Line;
use super::out::{self, tell};

const CONFIG_MAX_BYTES: u64 = 4 << 20;

/// A pod's or container's configuration from a file of JSON or YAML.
fn config(path: &str) -> Result<Value> {
    let what = || format!("load config {path:?}");
    let bytes = rt::fs::read_within(path, CONFIG_MAX_BYTES).context(what)?;
    let text = String::from_utf8(bytes).context(what)?;
    let config = wire::yaml::parse_one_loose(&text).context(what)?;
    match config["metadata"]["name"].as_str().unwrap_or("") {
        "" => Err(Error::new(format!("load config {path:?}: name is not in metadata"))),
        _ => Ok(config),
    }
}

fn pod_config(path: &str) -> Result<Value> {
    let config = config(path)?;
    let lacks = |name: &str| config["metadata"][name].as_str().is_none_or(str::is_empty);
    match lacks("namespace") || lacks("uid") {
        true => Err(Error::new(format!(
            "load config {path:?}: name, namespace or uid is not in metadata"
        ))),
        false => Ok(config),
    }
}

fn words<'a, const N: usize>(line: &'a Line, what: &str) -> Result<[&'a str; N]> {
    let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
    words.try_into().map_err(|_| {
        Error::new(format!(
            "incorrect usage: want {what}: see crictl {} --help",
            line.command.names[0]
        ))
    })
}

fn some(line: &Line) -> Result<&[String]> {
    match line.words.is_empty() {
        true => Err(Error::new("ID cannot be empty")),
        false => Ok(&line.words),
    }
}

fn credentials(line: &Line) -> Result<Value> {
    if !line.value("username").is_empty() {
        return Err(Error::new(
            "--username is not supported by k3rs: use --creds USERNAME:PASSWORD",
        ));
    }
    Ok(match (line.value("creds"), line.value("auth")) {
        ("", "") => Value::Null,
        ("", auth) => json!({"auth": auth}),
        (creds, _) => {
            let (username, password) = creds.split_once(':').unwrap_or((creds, ""));
            json!({"username": username, "password": password})
        }
    })
}

async fn pull_image(client: &Client, line: &Line, image: &str, pod: &Value) -> Result<String> {
    let mut annotations = Map::new();
    for pair in line.all("annotation") {
        let (name, value) =
            pair.split_once('=').context(|| format!("invalid annotation {pair:?}"))?;
        annotations.insert(name.to_owned(), value.into());
    }
    let request = json!({
        "image": {"image": image, "annotations": annotations},
        "auth": credentials(line)?,
        "sandboxConfig": pod,
    });
    let limit = line.limit("pull-timeout")?;
    let answer = client.call_in("PullImage", &request, limit).await?;
    Ok(answer["imageRef"].as_str().unwrap_or("").to_owned())
}

pub(crate) async fn pull(client: &Client, line: &Line) -> Result<()> {
    let [image] = words(line, "one image")?;
    let pod = match line.value("pod-config") {
        "" => Value::Null,
        path => pod_config(path)?,
    };
    let pulled = pull_image(client, line, image, &pod).await?;
    out::print(&format!("Image is up to date for {pulled}\n"));
    Ok(())
}

/// What is not asked for by name is chosen; those in use are kept by `--prune`.
pub(crate) async fn remove_images(client: &Client, line: &Line) -> Result<()> {
    let (all, prune) = (line.is_on("all"), line.is_on("prune"));
    let mut ids = line.words.clone();
    if all || prune {
        let images = client.call("ListImages", &json!({})).await?;
        let images = images["images"].as_array().cloned().unwrap_or_default();
        let unpinned = images.iter().filter(|one| one["pinned"] != true);
        ids = unpinned.filter_map(|one| one["id"].as_str()).map(str::to_owned).collect();
    }
    if prune {
        let used = client.call("ListContainers", &json!({})).await?;
        let used = used["containers"].as_array().cloned().unwrap_or_default();
        ids.retain(|id| !used.iter().any(|one| one["imageId"] == id.as_str()));
    }
    if ids.is_empty() && (all || prune) {
        tell("level=info msg=\"No images to remove\"");
        return Ok(());
    }
    let mut failed = Vec::new();
    for id in if ids.is_empty() { some(line)?.to_vec() } else { ids } {
        let image = json!({"image": {"image": id}});
        let status = client.call("ImageStatus", &image).await?;
        if status["image"].is_null() {
            failed.push(format!("no such image {id}"));
            continue;
        }
        if let Err(error) = client.call("RemoveImage", &image).await {
            // Somebody may have begun to use it meanwhile.
            if !prune {
                failed.push(format!("error of removing image {id:?}: {error}"));
            }
            continue;
        }
        let names = |name: &str| status["image"][name].as_array().cloned().unwrap_or_default();
        let tags = names("repoTags");
        for name in if tags.is_empty() { names("repoDigests") } else { tags } {
            out::print(&format!("Deleted: {}\n", name.as_str().unwrap_or("")));
        }
    }
    ended(failed)
}

fn ended(failed: Vec<String>) -> Result<()> {
    match failed.len() {
        0 => Ok(()),
        1 => Err(Error::new(failed.join(""))),
        _ => Err(Error::new(format!("[{}]", failed.join(", ")))),
    }
}

async fn create_in(
    client: &Client,
    line: &Line,
    (pod, files): (Option<&str>, [&str; 2]),
    from_file: bool,
) -> Result<String> {
    let (container, sandbox) = (config(files[0])?, pod_config(files[1])?);
    let pod = match pod {
        Some(pod) => pod.to_owned(),
        None => run_in(client, line, &sandbox).await?,
    };
    if pulls(line, from_file)? {
        let image = container["image"]["image"].as_str().unwrap_or("");
        pull_image(client, line, image, &sandbox).await.context(|| "pull image")?;
    }
    let request = json!({"podSandboxId": pod, "config": container, "sandboxConfig": sandbox});
    let limit = line.limit("cancel-timeout")?;
    let answer = client.call_in("CreateContainer", &request, limit).await?;
    Ok(answer["containerId"].as_str().unwrap_or("").to_owned())
}

/// Whether the image is pulled first, which the configuration file says where no flag does.
fn pulls(line: &Line, from_file: bool) -> Result<bool> {
    match (line.is_on("with-pull"), line.is_on("no-pull")) {
        (true, true) => Err(Error::new("confict: no-pull and with-pull are both set")),
        (with, no) => Ok(with || from_file && !no),
    }
}

async fn run_in(client: &Client, line: &Line, sandbox: &Value) -> Result<String> {
    let request = json!({"config": sandbox, "runtimeHandler": line.value("runtime")});
    let answer = client.call_in("RunPodSandbox", &request, line.limit("cancel-timeout")?).await;
    let answer = answer.context(|| "run pod sandbox")?;
    Ok(answer["podSandboxId"].as_str().unwrap_or("").to_owned())
}

pub(crate) async fn create(client: &Client, line: &Line) -> Result<()> {
    let [pod, container, sandbox] = words(line, "a pod and two files")?;
    let id = create_in(client, line, (Some(pod), [container, sandbox]), client.pulls[0]).await?;
    out::print(&format!("{id}\n"));
    Ok(())
}

pub(crate) async fn run(client: &Client, line: &Line) -> Result<()> {
    let [container, sandbox] = words(line, "two files")?;
    let id = create_in(client, line, (None, [container, sandbox]), client.pulls[1]).await?;
    client.call("StartContainer", &json!({"containerId": id})).await?;
    out::print(&format!("{id}\n"));
    Ok(())
}

pub(crate) async fn run_sandbox(client: &Client, line: &Line) -> Result<()> {
    let [sandbox] = words(line, "one file")?;
    let id = run_in(client, line, &pod_config(sandbox)?).await?;
    out::print(&format!("{id}\n"));
    Ok(())
}

/// What is done to containers one after the other, and told by their ids.
pub(crate) async fn each(client: &Client, line: &Line) -> Result<()> {
    let (method, mut request) = match line.command.names[0] {
        "start" => ("StartContainer", json!({})),
        "stop" => ("StopContainer", json!({"timeout": line.number("timeout")?.unwrap_or(0)})),
        "checkpoint" => ("CheckpointContainer", json!({"location": line.value("export")})),
        _ => ("UpdateContainerResources", json!({"linux": limits(line)?})),
    };
    let mut failed = Vec::new();
    for id in some(line)? {
        request["containerId"] = id.as_str().into();
        match client.call(method, &request).await {
            Ok(_) => out::print(&format!("{id}\n")),
            Err(error) => failed.push(format!("container {id:?}: {error}")),
        }
    }
    ended(failed)
}

fn limits(line: &Line) -> Result<Value> {
    let number = |flag: &str| line.number(flag).map(|number| number.unwrap_or(0));
    Ok(json!({
        "cpuPeriod": number("cpu-period")?,
        "cpuQuota": number("cpu-quota")?,
        "cpuShares": number("cpu-share")?,
        "memoryLimitInBytes": number("memory")?,
        "cpusetCpus": line.value("cpuset-cpus"),
        "cpusetMems": line.value("cpuset-mems"),
    }))
}

/// The ids that were named, or all.
async fn named_or_all(
    client: &Client,
    line: &Line,
    (method, list, what): (&str, &str, &str),
) -> Result<Vec<String>> {
    if !line.is_on("all") {
        return Ok(some(line)?.to_vec());
    }
    let answer = client.call(method, &json!({})).await?;
    let all = answer[list].as_array().cloned().unwrap_or_default();
    if all.is_empty() {
        tell(&format!("level=info msg=\"No {what} to remove\""));
    }
    Ok(all.iter().filter_map(|one| one["id"].as_str()).map(str::to_owned).collect())
}

pub(crate) async fn remove(client: &Client, line: &Line) -> Result<()> {
    let mut failed = Vec::new();
    let all = named_or_all(client, line, ("ListContainers", "containers", "containers")).await?;
    for id in all {
        if let Err(error) = remove_one(client, line, &id).await {
            failed.push(error.to_string());
        }
    }
    ended(failed)
}

async fn remove_one(client: &Client, line: &Line, id: &str) -> Result<()> {
    let container = json!({"containerId": id});
    let status = client.call("ContainerStatus", &container).await;
    let status = status.context(|| format!("getting container status {id:?}"))?;
    if status["status"]["state"] == "CONTAINER_RUNNING" {
        if !line.is_on("force") {
            let message = format!("container {id:?} is running, please stop it first");
            return Err(Error::new(message));
        }
        let stopped = client.call("StopContainer", &container).await;
        stopped.context(|| format!("stopping the container {id:?}"))?;
    }
    let removed = client.call("RemoveContainer", &container).await;
    removed.context(|| format!("removing container {id:?}"))?;
    out::print(&format!("{id}\n"));
    let path = std::path::PathBuf::from(status["status"]["logPath"].as_str().unwrap_or(""));
    if let (Some(directory), Some(name), false) =
        (path.parent(), path.file_name(), line.is_on("keep-logs"))
    {
        // With what was rotated away: `NAME.SUFFIX`.
        let rotated = format!("{}.", name.to_string_lossy());
        for file in rt::fs::list_dir(directory).unwrap_or_default() {
            let of_log =
                file.file_name().is_some_and(|it| it.to_string_lossy().starts_with(&rotated));
            if of_log || file == path {
                rt::fs::remove_file(&file)?;
            }
        }
    }
    Ok(())
}

pub(crate) async fn stop_sandboxes(client: &Client, line: &Line) -> Result<()> {
    for id in some(line)? {
        stop_sandbox(client, id).await?;
    }
    Ok(())
}

async fn stop_sandbox(client: &Client, id: &str) -> Result<()> {
    client.call("StopPodSandbox", &json!({"podSandboxId": id})).await?;
    out::print(&format!("Stopped sandbox {id}\n"));
    Ok(())
}

pub(crate) async fn remove_sandboxes(client: &Client, line: &Line) -> Result<()> {
    let mut failed = Vec::new();
    for id in named_or_all(client, line, ("ListPodSandbox", "items", "pods")).await? {
        if let Err(error) = remove_sandbox(client, line, &id).await {
            failed.push(error.to_string());
        }
    }
    ended(failed)
}

async fn remove_sandbox(client: &Client, line: &Line, id: &str) -> Result<()> {
    let sandbox = json!({"podSandboxId": id});
    let status = client.call("PodSandboxStatus", &sandbox).await;
    let status = status.context(|| format!("getting sandbox status of pod {id:?}"))?;
    if status["status"]["state"] == "SANDBOX_READY" {
        if !line.is_on("force") {
            return Err(Error::new(format!("pod sandbox {id:?} is running, please stop it first")));
        }
        stop_sandbox(client, id).await?;
    }
    let removed = client.call("RemovePodSandbox", &sandbox).await;
    removed.context(|| format!("removing the pod sandbox {id:?}"))?;
    out::print(&format!("Removed sandbox {id}\n"));
    Ok(())
}
