//! `kubectl cp`: files to and from containers, by the `tar` in them.

use std::path::{Component, Path, PathBuf};

use api::{Lens, Value};
use http::streams::Wanted;
use rt::io::{AsyncReadExt, AsyncWriteExt};
use stdx::Arrange;
use wire::tar::{Archive, Builder, Entry, Kind};

use crate::call::{BLANK, Call, Command};
use crate::discovery::escape;
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, int, switch, text};
use crate::{out, pods, streams};

const OWN: &[Flag] = &[
    text("container", "", "Container name. If omitted, use the kubectl.kubernetes.io/default-container annotation for selecting the container to be attached or the first container in the pod will be chosen").short('c'),
    switch("no-preserve", "The copied file/directory's ownership and permissions will not be preserved in the container"),
    int("retries", "0", "Only 0: what breaks off is to be copied again"),
];

pub(crate) static COMMAND: Command = Command {
    name: "cp",
    about: "Copy files and directories to and from containers.",
    usage: "<file-spec-src> <file-spec-dest>",
    flags: &[OWN],
    run: Some(run),
    ..BLANK
};

/// What is copied at once, in memory on this side.
const ARCHIVE_MAX_BYTES: usize = 1 << 30;
const FILE_MAX_BYTES: u64 = 1 << 30;
const DEPTH_MAX: usize = 128;

/// A path, within a pod if one is named.
struct Spec<'a> {
    namespace: &'a str,
    pod: &'a str,
    path: &'a str,
}

const WRONG_SPEC: &str = "filespec must match the canonical format: [[namespace/]pod:]file/path";

fn spec(text: &str) -> Outcome<Spec<'_>> {
    let Some((pod, path)) = text.split_once(':') else {
        return Ok(Spec { namespace: "", pod: "", path: text });
    };
    match pod.split('/').collect::<Vec<_>>().as_slice() {
        [""] => failed(WRONG_SPEC),
        [pod] => Ok(Spec { namespace: "", pod, path }),
        [namespace, pod] => Ok(Spec { namespace, pod, path }),
        _ => failed(WRONG_SPEC),
    }
}

fn run(call: &Call<'_>) -> Outcome {
    if call.int("retries") != 0 {
        return failed("--retries is not supported by this version of k3rs");
    }
    let [from, to] = call.args() else { return failed("source and destination are required") };
    let (from, to) = (spec(from)?, spec(to)?);
    if !from.pod.is_empty() && !to.pod.is_empty() {
        return failed("one of src or dest must be a local file specification");
    }
    if from.path.is_empty() || to.path.is_empty() {
        return failed("filepath can not be empty");
    }
    match (from.pod.is_empty(), to.pod.is_empty()) {
        (false, _) => from_pod(call, &from, to.path),
        (_, false) => to_pod(call, from.path, &to),
        _ => failed("one of src or dest must be a remote file specification"),
    }
}

/// The exec of a command in the pod's container.
fn target(call: &Call<'_>, spec: &Spec<'_>, command: &[&str], stdin: bool) -> Outcome<String> {
    let namespace =
        if spec.namespace.is_empty() { call.namespace()?.0 } else { spec.namespace.to_owned() };
    let path = format!("/api/v1/namespaces/{}/pods/{}", escape(&namespace), escape(spec.pod));
    let pod: Value = call.rest()?.get(&path)?;
    let phase = pod.str("status.phase");
    if matches!(phase, "Succeeded" | "Failed") {
        return failed(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        ));
    }
    let container = pods::asked(call, &pod)?;
    let mut query: Vec<String> =
        command.iter().map(|word| format!("command={}", escape(word))).collect();
    query.push(format!("container={}&stderr=true&stdout=true", escape(&container)));
    if stdin {
        query.push("stdin=true".to_owned());
    }
    Ok(format!("{path}/exec?{}", query.join("&")))
}

/// Runs a command: what it prints, and what its end means. Its errors are printed unless it is only asked.
fn ran(call: &Call<'_>, target: &str, input: Option<Vec<u8>>, is_asked: bool) -> Outcome<Vec<u8>> {
    let wanted = Wanted { stdin: input.is_some(), stdout: true, stderr: true, tty: false };
    rt::block_on(async {
        let mut attached = streams::open(call, target, wanted).await?;
        let writer = attached.stdin.take().zip(input).map(|(mut stdin, bytes)| {
            rt::spawn(async move {
                let _ = stdin.write_all(&bytes).await;
                let _ = stdin.close().await;
            })
        });
        let errors = attached.stderr.take().map(|reader| {
            rt::spawn(async move {
                let mut text = Vec::new();
                let _ = reader.take(1 << 20).read_to_end(&mut text).await;
                text
            })
        });
        let mut bytes = Vec::new();
        if let Some(stdout) = attached.stdout.take() {
            let read = stdout.take(ARCHIVE_MAX_BYTES as u64 + 1).read_to_end(&mut bytes).await;
            read.map_err(|error| Failure::Message(error.to_string()))?;
        }
        if bytes.len() > ARCHIVE_MAX_BYTES {
            return failed(format!("more than {ARCHIVE_MAX_BYTES} bytes"));
        }
        let status = attached.status.await.map_err(|error| Failure::Message(error.to_string()))?;
        drop(writer);
        if let Some(errors) = errors {
            let text = errors.await;
            if !is_asked && !text.is_empty() {
                out::tell(String::from_utf8_lossy(&text).trim_end());
            }
        }
        if is_asked {
            let tree: Value = serde_json::from_slice(&status).unwrap_or_default();
            return match tree.str("status") {
                "Success" | "" => Ok(bytes),
                _ => Err(Failure::Exit(1)),
            };
        }
        streams::outcome(&status).map(|()| bytes)
    })
}

fn to_pod(call: &Call<'_>, from: &str, to: &Spec<'_>) -> Outcome {
    if rt::fs::metadata(from).is_err() {
        return failed(format!("{from} doesn't exist in local filesystem"));
    }
    let name = Path::new(from).file_name().map(|name| name.to_string_lossy().into_owned());
    let mut path = to.path.trim_end_matches('/').to_owned();
    let is_directory = ran(call, &target(call, to, &["test", "-d", to.path], false)?, None, true);
    match (is_directory, name) {
        (Ok(_), Some(name)) => path = format!("{path}/{name}"),
        (Ok(_), None) | (Err(Failure::Exit(_)), _) => {}
        (Err(failure), _) => return Err(failure),
    }
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
    let mut archive = Builder { bytes: Vec::new() };
    pack(&mut archive, Path::new(from), name, 0)?;
    let mut command = vec!["tar"];
    if call.is("no-preserve") {
        command.extend(["--no-same-permissions", "--no-same-owner"]);
    }
    command.extend(["-xmf", "-"]);
    let directory = if path.starts_with('/') && directory.is_empty() { "/" } else { directory };
    if !directory.is_empty() {
        command.extend(["-C", directory]);
    }
    ran(call, &target(call, to, &command, true)?, Some(archive.finish()), false).map(|_| ())
}

/// Adds a file, or a directory with all in it.
fn pack(archive: &mut Builder, from: &Path, name: &str, depth: usize) -> Outcome {
    use std::os::unix::fs::MetadataExt;
    let meta = from
        .symlink_metadata()
        .map_err(|error| Failure::Message(format!("look at {}: {error}", from.display())))?;
    let mut entry = Entry::file(name.as_bytes(), meta.mode() & 0o7777);
    entry.mtime_secs = meta.mtime();
    if meta.is_symlink() {
        let link = rt::fs::read_link(from).unwrap_or_default();
        entry.kind = Kind::SymbolicLink;
        entry.link = link.to_string_lossy().as_bytes().to_vec();
        archive.add(&entry, &[]);
    } else if meta.is_dir() {
        if depth > DEPTH_MAX {
            return failed(format!("{} lies too deep", from.display()));
        }
        let mut names = rt::fs::dir_names(from);
        names.arrange();
        entry.kind = Kind::Directory;
        archive.add(&entry, &[]);
        for (inner, _) in names {
            pack(
                archive,
                &from.join(&inner),
                &format!("{name}/{}", inner.to_string_lossy()),
                depth + 1,
            )?;
        }
    } else if meta.is_file() {
        let bytes = rt::fs::read_within(from, FILE_MAX_BYTES)?;
        entry.size = bytes.len() as u64;
        archive.add(&entry, &bytes);
    }
    if archive.bytes.len() > ARCHIVE_MAX_BYTES {
        return failed(format!("more than {ARCHIVE_MAX_BYTES} bytes"));
    }
    Ok(())
}

fn from_pod(call: &Call<'_>, from: &Spec<'_>, to: &str) -> Outcome {
    let bytes =
        ran(call, &target(call, from, &["tar", "cf", "-", from.path], false)?, None, false)?;
    let prefix = clean(from.path.trim_start_matches('/'));
    let mut place = PathBuf::from(to);
    if rt::fs::metadata(&place).is_ok_and(|meta| meta.is_dir())
        && let Some(name) = prefix.file_name()
    {
        place.push(name);
    }
    let mut archive = Archive::new(bytes.as_slice());
    while let Some(entry) = archive.next_entry()? {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let own = clean(&path);
        // What a pod sends lies below what it was asked for, or is not written.
        let Ok(inner) = own.strip_prefix(&prefix) else {
            return failed(format!("tar contents corrupted: {path}"));
        };
        let file = if inner.as_os_str().is_empty() { place.clone() } else { place.join(inner) };
        if leads_away(&place, &file) {
            out::tell(&format!(
                "warning: file {:?} is outside target destination, skipping",
                file.display().to_string()
            ));
            continue;
        }
        match entry.kind {
            Kind::Directory => rt::fs::create_dir_all(&file, 0o755)?,
            Kind::File => {
                if let Some(parent) = file.parent().filter(|parent| !parent.as_os_str().is_empty())
                {
                    rt::fs::create_dir_all(parent, 0o755)?;
                }
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut archive, &mut content)
                    .map_err(|error| Failure::Message(format!("read {path}: {error}")))?;
                rt::fs::write(&file, &content, entry.mode & 0o777)?;
            }
            Kind::SymbolicLink => {
                let link = String::from_utf8_lossy(&entry.link).into_owned();
                out::tell(&format!(
                    "warning: skipping symlink: {:?} -> {link:?}",
                    file.display().to_string()
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A path without `.` and `..`, which lead nowhere above its beginning.
fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// Whether a link on the way to a file, made by whoever owns the place, leads out of it.
fn leads_away(place: &Path, file: &Path) -> bool {
    let mut at = file.to_owned();
    while at != place && at.pop() {
        if at != place && at.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
            return true;
        }
    }
    file != place && file.symlink_metadata().is_ok_and(|meta| meta.is_symlink())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below() {
        for (path, want) in [("a/../../b", "b"), ("/a/./b", "a/b"), ("../../etc", "etc"), ("", "")]
        {
            assert_eq!(clean(path), Path::new(want), "{path}");
        }
    }
}
