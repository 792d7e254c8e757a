//! The embedded userspace: `data/<sha256>/bin` with the program's other names, `current` and `previous` links.

use std::io::Read;
use std::sync::Arc;

use api::json;
use cluster::Paths;
use runtime::Images;
use stdx::{Context, Result};

/// The distribution's busybox as a gzipped tar, empty if the binary was built without one.
pub(crate) static USERSPACE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/userspace.tar.gz"));

/// Names that the binary answers to as a link.
const NAMES: &[&str] = &["k3rs", "kubectl", "crictl", "ctr"];
/// Names in `data/cni/`, for tools that look for CNI executables there.
pub(crate) const CNI_NAMES: &[&str] =
    &["bridge", "host-local", "loopback", "portmap", "flannel", "bandwidth", "firewall"];

/// Makes `data/<sha256>/` if this version has none yet, and points `current` at it.
pub(crate) fn unpack(paths: &Paths) -> Result<()> {
    let version = cluster::token::hash(stdx::version::VERSION.as_bytes());
    let program = std::env::current_exe().context(|| "find the running program")?;
    let data = paths.data();
    let target = data.join(&version);
    let bin = target.join("bin");
    for name in NAMES {
        let link = bin.join(name);
        if rt::fs::read_link(&link).as_deref() != Some(program.as_path()) {
            rt::fs::create_dir_all(&bin, 0o755)?;
            rt::fs::symlink_atomic(&program, &link)?;
        }
    }
    let cni = data.join("cni");
    rt::fs::create_dir_all(&cni, 0o755)?;
    for name in CNI_NAMES {
        if rt::fs::read_link(cni.join(name)).is_none() {
            rt::fs::symlink_atomic(data.join("current").join("bin").join("k3rs"), cni.join(name))?;
        }
    }
    let current = data.join("current");
    let before = rt::fs::read_link(&current);
    if before.as_deref() != Some(target.as_path()) {
        if let Some(before) = before {
            rt::fs::symlink_atomic(before, data.join("previous"))?;
        }
        rt::fs::symlink_atomic(&target, &current)?;
        log::info!("Unpacked {}", target.display());
    }
    Ok(())
}

/// The image's name; its tag is our version of its content.
const IMAGE: &str = "k3rs.io/userspace";
const TAG: &str = "1";
const LABEL: &str = "io.k3rs.tarball";

/// Puts the userspace among the node's images, unless it is there already. Nothing is downloaded.
///
/// # Errors
/// If the embedded tarball cannot be read, or the image store refuses it.
pub(crate) async fn provide_image(images: &Images) -> Result<()> {
    if USERSPACE.is_empty() {
        log::warn!("This binary was built without a userspace: there is no image {IMAGE}");
        return Ok(());
    }
    // Known by the tarball's digest, so that a second start need not unpack it to compare.
    let tarball = cluster::token::hash(USERSPACE);
    let is_ours = |(key, value): &(String, String)| key == LABEL && *value == tarball;
    if images
        .get(&format!("{IMAGE}:{TAG}"))
        .is_some_and(|image| image.config.labels.iter().any(is_ours))
    {
        return Ok(());
    }
    let mut layer = Vec::new();
    let unpacked = wire::decompress::Decompressor::new(USERSPACE)
        .and_then(|mut reader| reader.read_to_end(&mut layer));
    unpacked.context(|| "unpack the userspace")?;
    let layer_digest = cluster::token::hash(&layer);
    let config = json!({
        "architecture": arch(), "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"], "Labels": {LABEL: tarball}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    });
    let config = config.to_string().into_bytes();
    let config_digest = cluster::token::hash(&config);
    let tags = [format!("{IMAGE}:{TAG}"), format!("{IMAGE}:latest")];
    let manifest = json!([{"Config": format!("{config_digest}.json"), "RepoTags": tags, "Layers": ["layer.tar"]}]);
    let mut archive = wire::tar::Builder::default();
    for (name, bytes) in [
        ("manifest.json", manifest.to_string().into_bytes()),
        (&format!("{config_digest}.json"), config),
        ("layer.tar", layer),
    ] {
        archive.add(&wire::tar::Entry::file(name.as_bytes(), 0o644), &bytes);
    }
    let archive: Arc<[u8]> = archive.finish().into();
    let open =
        move || Ok(Box::new(std::io::Cursor::new(Arc::clone(&archive))) as Box<dyn Read + Send>);
    images.import_archive("the built-in userspace", true, open).await?;
    Ok(())
}

/// The image's architecture, in Go's words.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
