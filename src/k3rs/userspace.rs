//! The embedded userspace: unpacked once to `data/<sha256>/`, with the program's other names beside it.
//!
//! `data/<sha256>/root` is what a container of the image sees, and the image's layer itself: busybox,
//! its applets' links, licences. `data/<sha256>/bin` is ours: the program's names, `sh`, and `aux`,
//! which is the applets' directory. As in k3s, `bin` is in front of `PATH`, and `bin/aux` behind the
//! host's directories unless `--prefer-bundled-bin` puts it before them.
//!
//! k3rs itself runs none of this: it is for operators and for pods.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::json;
use cluster::Paths;
use runtime::Images;
use runtime::images::{Builtin, Program};
use stdx::backoff::Backoff;
use stdx::{Context, Result};
use wire::lzma::{Filter, Format};

/// The distribution's busybox as a compressed tar, empty if the binary was built without one.
static USERSPACE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/userspace.tar.lzma"));

/// Of the tar, in hex.
const SHA256: &str = env!("USERSPACE_SHA256");

/// As `userspace/build.sh` calls xz.
const FORMAT: Format = if cfg!(target_arch = "x86_64") {
    Format { filter: Filter::X86, lc: 4, lp: 0, pb: 0 }
} else if cfg!(target_arch = "aarch64") {
    Format { filter: Filter::Arm64, lc: 2, lp: 2, pb: 2 }
} else {
    Format { filter: Filter::ArmThumb, lc: 3, lp: 1, pb: 1 }
};

/// Names that the binary answers to as a link.
const NAMES: &[&str] = &["k3rs", "kubectl", "crictl", "ctr"];
/// Names in front of busybox's where this program is the first process, which those do not know how to ask.
const FIRST_PROCESS_NAMES: &[&str] = &["poweroff", "reboot", "halt", "modprobe"];
/// Names in `data/cni/`, for tools that look for CNI executables there.
pub(crate) const CNI_NAMES: &[&str] =
    &["bridge", "host-local", "loopback", "portmap", "flannel", "bandwidth", "firewall"];

/// The links in `bin` that lead to the userspace.
const LINKS: &[(&str, &str)] =
    &[("aux", "../root/bin"), ("busybox", "aux/busybox"), ("sh", "aux/busybox")];

/// Digits of a version directory's name.
const HEX_DIGITS: usize = 64;

/// Makes `data/<sha256>/` if it is not there yet, points `current` at it, and keeps the names in it
/// pointing at the running program.
///
/// # Errors
/// If the disk is full or read-only. The rest of k3rs works without.
pub(crate) fn unpack(paths: &Paths) -> Result<()> {
    let program = std::env::current_exe().context(|| "find the running program")?;
    unpack_to(&paths.data(), &program, USERSPACE, SHA256)
}

fn unpack_to(data: &Path, program: &Path, userspace: &[u8], sha256: &str) -> Result<()> {
    let version = match userspace.is_empty() {
        true => cluster::token::hash(stdx::version::VERSION.as_bytes()),
        false => sha256.to_owned(),
    };
    let target = data.join(&version);
    if !userspace.is_empty() && rt::fs::metadata(target.join("root/bin/busybox")).is_err() {
        let started = rt::now().mono;
        unpack_atomically(&target, userspace, sha256)
            .context(|| format!("unpack the userspace into {}", data.display()))?;
        let took = rt::now().mono.since(started);
        log::info!("Unpacked the userspace into {} in {} ms", target.display(), took.as_millis());
    }
    let bin = target.join("bin");
    rt::fs::create_dir_all(&bin, 0o755)?;
    let first = if boot::is_running() { FIRST_PROCESS_NAMES } else { &[] };
    for name in NAMES.iter().chain(first) {
        rt::fs::symlink_atomic(program, bin.join(name))?;
    }
    let cni = data.join("cni");
    rt::fs::create_dir_all(&cni, 0o755)?;
    for name in CNI_NAMES {
        let (link, ours) = (cni.join(name), data.join("current/bin/k3rs"));
        // A plugin that an administrator put there stays.
        if rt::fs::read_link(&link).is_some_and(|to| to.ends_with("current/bin/k3rs"))
            || rt::fs::symlink_metadata(&link).is_err()
        {
            rt::fs::symlink_atomic(ours, link)?;
        }
    }
    let current = data.join("current");
    let before = rt::fs::read_link(&current);
    if before.as_deref() != Some(Path::new(&version)) {
        // Names of directories, not paths: a data directory may be moved.
        let before = before.as_deref().and_then(Path::file_name).unwrap_or_default();
        if !before.is_empty() && before != OsStr::new(&version) {
            rt::fs::symlink_atomic(before, data.join("previous"))?;
        }
        rt::fs::symlink_atomic(&version, &current)?;
    }
    Ok(())
}

/// The directory appears under its name when all of it is on the disk, or not at all.
fn unpack_atomically(target: &Path, userspace: &[u8], sha256: &str) -> Result<()> {
    let new = target.with_extension("new");
    let unpacked = (|| {
        rt::fs::remove_dir_all(&new)?;
        let root = new.join("root");
        rt::fs::create_dir_all(&root, 0o755)?;
        let tar = wire::lzma::reader(userspace, FORMAT).context(|| "read it")?;
        runtime::images::unpack_tar(tar, &format!("sha256:{sha256}"), &root)?;
        rt::fs::create_dir_all(new.join("bin"), 0o755)?;
        for (name, to) in LINKS {
            rt::fs::symlink_atomic(to, new.join("bin").join(name))?;
        }
        let sync = || {
            let parent = target.parent().unwrap_or(target);
            let opened = sys::file::open_dir(parent).context(|| "open it")?;
            sys::file::sync_file_system(opened.as_fd()).context(|| "wait for the disk")
        };
        sync()?;
        // Whatever has the name already lacks the busybox.
        rt::fs::remove_dir_all(target)?;
        rt::fs::rename(&new, target)?;
        sync()
    })();
    if unpacked.is_err() {
        let _ = rt::fs::remove_dir_all(&new);
    }
    unpacked
}

/// Where commands are looked for, by k3rs and all it starts: k3s's order.
pub(crate) fn search_path(data: &Path, host: Option<&OsStr>, prefer_bundled: bool) -> OsString {
    let bin = data.join("current").join("bin");
    let aux = bin.join("aux");
    // What a shell looks through where nothing is said.
    let host =
        host.unwrap_or(OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    let mut path = data.join("cni").into_os_string();
    let parts = match prefer_bundled {
        true => [bin.as_os_str(), aux.as_os_str(), host],
        false => [bin.as_os_str(), host, aux.as_os_str()],
    };
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        path.push(":");
        path.push(part);
    }
    path
}

/// The image's name; its tag is our version of its content.
const IMAGE: &str = "k3rs.io/userspace";
const TAG: &str = "1";
/// Names the version directory that an image's layer is in.
const LABEL: &str = "io.k3rs.userspace";

/// Tries again until the image is there: a full disk may have been cleared.
pub(crate) async fn provide_later(paths: Paths, images: Images) {
    const RETRY: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(600));
    for failures in 1.. {
        rt::sleep(RETRY.delay(failures)).await;
        let again = paths.clone();
        let done = match rt::unblock(move || unpack(&again)).await {
            Ok(()) => provide_image(&paths, &images).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => return log::info!("The userspace and its image are there now"),
            Err(error) => log::debug!("the built-in image is missing: {error}"),
        }
    }
}

/// Puts the userspace among the node's images, unless it is there already. Nothing is copied.
///
/// # Errors
/// If it is not unpacked, or the image store refuses it.
pub(crate) async fn provide_image(paths: &Paths, images: &Images) -> Result<()> {
    if USERSPACE.is_empty() {
        log::warn!("This binary was built without a userspace: there is no image {IMAGE}");
        return Ok(());
    }
    let present = images.get(&format!("{IMAGE}:{TAG}"));
    if present.is_some_and(|image| version_of(&image.config) == Some(SHA256)) {
        return Ok(());
    }
    let diff_id = format!("sha256:{SHA256}");
    let (architecture, variant) = architecture();
    let mut config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"], "Labels": {LABEL: SHA256}},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    if !variant.is_empty() {
        config["variant"] = variant.into();
    }
    let builtin = Builtin {
        directory: paths.data().join(SHA256).join("root"),
        diff_id,
        config: config.to_string().into_bytes(),
        tags: [TAG, "latest"].map(|tag| format!("{IMAGE}:{tag}")).to_vec(),
        program: None,
    };
    images.add_builtin(builtin).await
}

/// The image in which the ingress runs: this program, and nothing else.
const PROGRAM_IMAGE: &str = "k3rs.io/ingress";

/// Puts this program among the node's images. Its layer is a directory with an empty file, in whose place
/// containers see the program where it lies on the host: it costs no disk, its pages are shared with the node's
/// own, and after an upgrade new containers have the new one.
///
/// # Errors
/// If the image store refuses it.
pub(crate) async fn provide_program(paths: &Paths, images: &Images) -> Result<()> {
    let source = std::env::current_exe().context(|| "find the running program")?;
    let directory = paths.data().join("program");
    rt::fs::create_dir_all(&directory, 0o755)?;
    rt::fs::keep(directory.join("k3rs"), b"", 0o755)?;
    let mut tar = wire::tar::Builder::default();
    tar.add(&wire::tar::Entry::file(b"k3rs", 0o755), b"");
    let diff_id = format!("sha256:{}", cluster::token::hash(&tar.finish()));
    let (architecture, variant) = architecture();
    let mut config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": ["/k3rs", "ingress"], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    if !variant.is_empty() {
        config["variant"] = variant.into();
    }
    let program = Program { source, target: "/k3rs".into() };
    let builtin = Builtin {
        directory,
        diff_id,
        config: config.to_string().into_bytes(),
        tags: vec![format!("{PROGRAM_IMAGE}:{TAG}")],
        program: Some(program),
    };
    images.add_builtin(builtin).await
}

fn version_of(config: &runtime::images::ImageConfig) -> Option<&str> {
    config.labels.iter().find(|(key, _)| key == LABEL).map(|(_, value)| value.as_str())
}

/// Removes what earlier versions of k3rs unpacked, but the previous one, and what containers still
/// run from. Call it when the runtime has found its containers again.
pub(crate) async fn remove_old(paths: &Paths, images: &Images) -> Result<()> {
    let data = paths.data();
    let mut keep: Vec<OsString> = ["current", "previous"]
        .iter()
        .filter_map(|name| rt::fs::read_link(data.join(name)))
        .filter_map(|path| path.file_name().map(OsStr::to_owned))
        .collect();
    for image in images.list() {
        let Some(version) = version_of(&image.config) else { continue };
        if image.tags.is_empty() && images.remove(&image.id).await.is_ok() {
            continue;
        }
        keep.push(version.into());
    }
    for path in old_directories(&data, &keep)? {
        rt::unblock(move || {
            log::info!("Removing {}, of an earlier version of k3rs", path.display());
            rt::fs::remove_dir_all(&path)
        })
        .await?;
    }
    Ok(())
}

/// Version directories, whole or not, that are not to be kept.
fn old_directories(data: &Path, keep: &[OsString]) -> Result<Vec<PathBuf>> {
    let is_old = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or("");
        stem.len() == HEX_DIGITS
            && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !keep.iter().any(|kept| kept == name)
    };
    Ok(rt::fs::list_dir(data)?.into_iter().filter(is_old).collect())
}

/// The image's architecture and variant, in Go's words.
fn architecture() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", ""),
        "arm" => ("arm", "v7"),
        other => (other, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("userspace-{name}-{}", std::process::id()));
        rt::fs::remove_dir_all(&dir).unwrap();
        rt::fs::create_dir_all(&dir, 0o755).unwrap();
        dir
    }

    fn names(directory: &Path) -> Vec<String> {
        let paths = rt::fs::list_dir(directory).unwrap();
        paths.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn unpacked_whole_once_and_with_its_names() {
        if USERSPACE.is_empty() || sys::process::effective_uid() != 0 {
            eprintln!("skipped: not root, or no userspace/out (make setup)");
            return;
        }
        let data = scratch("once");
        // What a power cut left, and an older version.
        let older = "0".repeat(HEX_DIGITS);
        rt::fs::create_dir_all(data.join(format!("{SHA256}.new/root/bin")), 0o755).unwrap();
        rt::fs::create_dir_all(data.join(SHA256).join("bin"), 0o755).unwrap();
        rt::fs::create_dir_all(data.join(&older), 0o755).unwrap();
        rt::fs::symlink_atomic(data.join(&older), data.join("current")).unwrap();

        unpack_to(&data, Path::new("/one/k3rs"), USERSPACE, SHA256).unwrap();
        let bin = data.join("current/bin");
        assert_eq!(rt::fs::read_link(data.join("current")).unwrap(), Path::new(SHA256));
        assert_eq!(rt::fs::read_link(data.join("previous")).unwrap(), Path::new(&older));
        assert_eq!(
            names(&bin),
            ["aux", "busybox", "crictl", "ctr", "k3rs", "kubectl", "sh"].map(String::from)
        );
        let applets = include_str!("../../userspace/applets");
        for applet in applets.lines() {
            let link = bin.join("aux").join(applet);
            assert_eq!(rt::fs::read_link(&link).unwrap(), Path::new("busybox"), "{applet}");
        }
        assert!(rt::fs::metadata(bin.join("sh")).unwrap().is_file());
        for licence in ["copyright", "GPL-2", "SOURCE"] {
            let path = data.join("current/root/usr/share/licenses/busybox").join(licence);
            assert!(!rt::fs::read(path).unwrap().is_empty(), "{licence}");
        }
        assert_eq!(rt::fs::read_link(bin.join("ctr")).unwrap(), Path::new("/one/k3rs"));

        // Another program, nothing to unpack: a damaged tarball is not looked at.
        unpack_to(&data, Path::new("/two/k3rs"), b"damaged", SHA256).unwrap();
        assert_eq!(rt::fs::read_link(bin.join("ctr")).unwrap(), Path::new("/two/k3rs"));
        assert_eq!(rt::fs::read_link(data.join("previous")).unwrap(), Path::new(&older));

        let keep = [OsString::from(SHA256)];
        assert_eq!(old_directories(&data, &keep).unwrap(), [data.join(&older)]);
        rt::fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn a_damaged_tarball_leaves_nothing() {
        let data = scratch("damaged");
        let mut damaged = USERSPACE.to_vec();
        damaged.resize(damaged.len().max(64) / 2, 1);
        let error = unpack_to(&data, Path::new("/k3rs"), &damaged, SHA256).unwrap_err();
        assert!(error.to_string().starts_with("unpack the userspace into "), "{error}");
        assert_eq!(names(&data), Vec::<String>::new());
        rt::fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn k3s_order_of_directories() {
        let check = |host: Option<&str>, prefer: bool, expected: &str| {
            let path = search_path(Path::new("/d"), host.map(OsStr::new), prefer);
            assert_eq!(path, OsStr::new(expected));
        };
        check(Some("/sbin:/bin"), false, "/d/cni:/d/current/bin:/sbin:/bin:/d/current/bin/aux");
        check(Some("/sbin:/bin"), true, "/d/cni:/d/current/bin:/d/current/bin/aux:/sbin:/bin");
        check(Some(""), false, "/d/cni:/d/current/bin:/d/current/bin/aux");
        check(
            None,
            true,
            "/d/cni:/d/current/bin:/d/current/bin/aux:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
    }
}
