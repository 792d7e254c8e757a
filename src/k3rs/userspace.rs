//! The embedded userspace: `data/<sha256>/bin` with the program's other names, `current` and `previous` links.

use cluster::Paths;
use stdx::{Context, Result};

/// The distribution's busybox as a gzipped tar, empty if the binary was built without one.
pub(crate) static USERSPACE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/userspace.tar.gz"));

/// Names that the binary answers to as a link.
const NAMES: &[&str] = &["k3rs", "kubectl", "crictl", "ctr"];
/// Names in `data/cni/`, for tools that look for CNI executables there.
const CNI_NAMES: &[&str] =
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
