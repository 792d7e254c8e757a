//! Making a pod's volumes, refreshing those that follow API objects, and taking them down. Blocking.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use api::pod::fields::FieldContext;
use api::quantity::Quantity;
use api::{Lens, Value};
use stdx::time::Wall;
use stdx::{Arrange, OrdMap};
use stdx::{Context, Error, Result};
use sys::tree::{self, Node};

use super::claim::Claims;
use super::payload::{TokenWanted, payload};
use super::{atomic, subpath};
use crate::make::Sources;

/// What volumes are made from. Everything was looked up before: nothing here waits for the API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub pod: Value,
    pub sources: Sources,
    pub claims: Claims,
    pub context: FieldContext,
    /// What storage drivers have mounted, by volume name.
    pub drivers: OrdMap<String, Made>,
    /// Token text by volume name and path in it.
    pub tokens: OrdMap<(String, String), String>,
    /// `agent/pods/<uid>`: emptyDirs and subPath mounts.
    pub directory: PathBuf,
    /// The same in memory where the host has one: what comes from the API.
    pub volatile: PathBuf,
    pub now: Wall,
}

/// A volume as containers may mount it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub path: PathBuf,
    pub read_only: bool,
    /// It is a device, without a file system.
    pub block: bool,
}

/// A volume of a driver as containers may mount it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub mounted: Mounted,
    /// An fsGroup changes its owners and modes.
    pub takes_group: bool,
    /// It was mounted just now: whatever was done to it before is gone with the old mount.
    pub fresh: bool,
}

/// Makes all volumes. Those that exist are left as they are, or brought up to date.
///
/// # Errors
/// The first volume that fails, with upstream's event message.
pub(crate) fn set_up(setup: &Setup) -> std::result::Result<OrdMap<String, Mounted>, String> {
    let mut mounted = OrdMap::new();
    for volume in setup.pod.list("spec.volumes") {
        let name = volume.str("name");
        match make(setup, volume) {
            Ok(done) => mounted.insert(name.to_owned(), done),
            Err(error) => {
                return Err(format!("MountVolume.SetUp failed for volume \"{name}\" : {error}"));
            }
        };
    }
    Ok(mounted)
}

/// Brings the volumes that follow API objects up to date; true if any changed.
///
/// # Errors
/// As `set_up`; the others are brought up to date all the same.
pub(crate) fn refresh(setup: &Setup) -> std::result::Result<bool, String> {
    let mut changed = false;
    let mut failure = None;
    for volume in setup.pod.list("spec.volumes").iter().filter(|volume| is_dynamic(volume)) {
        match write_payload(setup, volume) {
            Ok((_, wrote)) => changed |= wrote,
            Err(error) => {
                let name = volume.str("name");
                failure = Some(format!("MountVolume.SetUp failed for volume \"{name}\" : {error}"));
            }
        }
    }
    failure.map_or(Ok(changed), Err)
}

/// Unmounts and removes everything below the pod's directories that volumes made.
pub(crate) fn take_down(directory: &Path, volatile: &Path) -> Result<()> {
    // As the kernel names it: the way to the data directory may be a link.
    let directory = &directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let volumes = directory.join("volumes");
    let sub_paths = directory.join("volume-subpaths");
    // The deepest first, so that nothing is left mounted below a directory that is then removed.
    let mut below: Vec<PathBuf> = sys::mount::list()
        .context(|| "list mounts")?
        .into_iter()
        .map(|mount| path_of(&mount))
        .filter(|target| target.starts_with(&volumes) || target.starts_with(&sub_paths))
        .collect();
    below.arrange();
    for target in below.iter().rev() {
        sys::mount::unmount(target, sys::mount::MNT_DETACH)
            .context(|| format!("unmount {}", target.display()))?;
    }
    rt::fs::remove_dir_all(&sub_paths)?;
    rt::fs::remove_dir_all(&volumes)?;
    rt::fs::remove_dir_all(volatile)
}

fn path_of(mount: &sys::mount::MountInfo) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(&mount.target))
}

/// True for volumes whose content follows API objects.
pub(crate) fn is_dynamic(volume: &Value) -> bool {
    ["configMap", "secret", "downwardAPI", "projected"].iter().any(|kind| volume.has(kind))
}

fn make(setup: &Setup, volume: &Value) -> Result<Mounted> {
    let fs_group = fs_group(&setup.pod);
    if is_dynamic(volume) {
        return write_payload(setup, volume)
            .map(|(path, _)| Mounted { path, read_only: true, block: false })
            .map_err(Error::new);
    }
    if let Some(made) = setup.drivers.get(volume.str("name")) {
        if made.fresh {
            rt::fs::remove_dir_all(given_mark(setup, volume))?;
        }
        if let Some(gid) = fs_group.filter(|_| made.takes_group) {
            give_once(setup, volume, &made.mounted.path, gid)?;
        }
        return Ok(made.mounted.clone());
    }
    if volume.has("emptyDir") {
        let path = empty_dir(setup, volume)?;
        return Ok(Mounted { path, read_only: false, block: false });
    }
    if volume.has("hostPath") {
        let path = PathBuf::from(volume.str("hostPath.path"));
        check_host_path(&path, volume.str("hostPath.type"))?;
        return Ok(Mounted { path, read_only: false, block: false });
    }
    if volume.has("persistentVolumeClaim") || volume.has("ephemeral") {
        let place = setup.claims.place(&setup.pod, volume)?;
        if place.make && !place.path.exists() {
            rt::fs::create_dir_all(&place.path, 0o755)?;
            rt::fs::set_mode(&place.path, 0o777)?;
        }
        if let Some(kind) = &place.host_type {
            check_host_path(&place.path, kind)?;
        }
        if !place.path.exists() {
            return Err(Error::new(format!(
                "path {:?} does not exist",
                place.path.display().to_string()
            )));
        }
        if place.block && !is_block_device(&place.path) {
            return Err(Error::new(format!(
                "path {:?} is not a block device",
                place.path.display().to_string()
            )));
        }
        if let Some(gid) = fs_group.filter(|_| place.takes_group && !place.read_only) {
            give_once(setup, volume, &place.path, gid)?;
        }
        let (read_only, block) = (place.read_only, place.block);
        return Ok(Mounted { path: place.path, read_only, block });
    }
    let kind = volume
        .as_object()
        .and_then(|map| map.keys().find(|key| *key != "name"))
        .map_or("unknown", |key| &**key);
    Err(Error::new(format!("volumes of type {kind} are not supported on this node")))
}

fn write_payload(setup: &Setup, volume: &Value) -> std::result::Result<(PathBuf, bool), String> {
    let name = volume.str("name");
    let token = |wanted: &TokenWanted| {
        setup
            .tokens
            .get(&(name.to_owned(), wanted.path.clone()))
            .cloned()
            .ok_or_else(|| format!("no service account token for {}", wanted.path))
    };
    let files = payload(&setup.pod, volume, &setup.sources, &setup.context, token)?;
    let path = setup.volatile.join(name);
    let wrote = atomic::write(&path, &files, fs_group(&setup.pod), setup.now)
        .map_err(|error| error.to_string())?;
    Ok((path, wrote))
}

fn fs_group(pod: &Value) -> Option<u32> {
    pod.int("spec.securityContext.fsGroup").and_then(|gid| u32::try_from(gid).ok())
}

fn empty_dir(setup: &Setup, volume: &Value) -> Result<PathBuf> {
    let path = setup.directory.join("volumes/kubernetes.io~empty-dir").join(volume.str("name"));
    let medium = volume.str("emptyDir.medium");
    let fresh = !path.exists();
    rt::fs::create_dir_all(&path, 0o755)?;
    match medium {
        "" => {}
        "Memory" => {
            let mounts = sys::mount::list().context(|| "list mounts")?;
            let real = path.canonicalize().context(|| format!("find {}", path.display()))?;
            if !mounts.iter().any(|mount| path_of(mount) == real) {
                let size = volume.at("emptyDir").get("sizeLimit").and_then(Quantity::from_tree);
                let data = match size.filter(|size| !size.is_zero()) {
                    Some(size) => format!("mode=0777,size={}", size.units()),
                    None => "mode=0777".to_owned(),
                };
                sys::mount::mount("tmpfs", &path, "tmpfs", 0, &data)
                    .context(|| format!("mount a tmpfs at {}", path.display()))?;
            }
        }
        other => {
            return Err(Error::new(format!(
                "emptyDir medium {other:?} is not supported on this node"
            )));
        }
    }
    if fresh {
        rt::fs::set_mode(&path, 0o777)?;
        if let Some(gid) = fs_group(&setup.pod) {
            rt::fs::set_owner(&path, None, Some(gid))?;
            rt::fs::set_mode(&path, 0o2777)?;
        }
    }
    Ok(path)
}

/// Whether a path leads to one. Blocking.
pub(crate) fn is_block_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// Upstream's checks and messages for `hostPath.type`.
fn check_host_path(path: &Path, kind: &str) -> Result<()> {
    let metadata = path.metadata().ok();
    let refuse = |what: &str| {
        Err(Error::new(format!("hostPath type check failed: {} is not {what}", path.display())))
    };
    let file_type = metadata.as_ref().map(|m| m.file_type());
    let is_dir = file_type.is_some_and(|t| t.is_dir());
    let is_file = file_type.is_some_and(|t| t.is_file());
    match kind {
        "" => match metadata {
            Some(_) => Ok(()),
            // Upstream leaves it to the runtime, which makes a directory.
            None => rt::fs::create_dir_all(path, 0o755),
        },
        "DirectoryOrCreate" if metadata.is_none() => rt::fs::create_dir_all(path, 0o755),
        "FileOrCreate" if metadata.is_none() => rt::fs::write(path, b"", 0o644),
        "Directory" | "DirectoryOrCreate" if !is_dir => refuse("a directory"),
        "File" | "FileOrCreate" if !is_file => refuse("a file"),
        "Socket" if !file_type.is_some_and(|t| t.is_socket()) => refuse("a socket file"),
        "CharDevice" if !file_type.is_some_and(|t| t.is_char_device()) => {
            refuse("a character device")
        }
        "BlockDevice" if !file_type.is_some_and(|t| t.is_block_device()) => {
            refuse("a block device")
        }
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice"
        | "BlockDevice" => Ok(()),
        other => Err(Error::new(format!("hostPath type {other:?} is unknown"))),
    }
}

/// Gives a volume to its fsGroup when the pod first gets it, as upstream does when it mounts one: what
/// the pod sets later is the pod's, also over a start of this program.
fn give_once(setup: &Setup, volume: &Value, path: &Path, gid: u32) -> Result<()> {
    let mounted = given_mark(setup, volume);
    if mounted.exists() {
        return Ok(());
    }
    let what = || format!("apply fsGroup {gid} to {}", path.display());
    let root = sys::file::open_dir(path).context(what)?;
    let on_mismatch = setup.pod.str("spec.securityContext.fsGroupChangePolicy") == "OnRootMismatch";
    let group = Node::open(root.as_fd(), Path::new(".")).context(what)?;
    if !(on_mismatch && has_group(&group.metadata().context(what)?, gid)) {
        give_node(&group, gid).context(what)?;
        give_to_group(root.as_fd(), gid).context(what)?;
    }
    rt::fs::create_dir_all(&mounted, 0o750)
}

/// The directory that is there once a volume was given to its group.
fn given_mark(setup: &Setup, volume: &Value) -> PathBuf {
    setup.directory.join("volumes/kubernetes.io~local-volume").join(volume.str("name"))
}

/// Whether a volume's root is the group's already, for `OnRootMismatch`.
fn has_group(root: &rt::fs::Metadata, gid: u32) -> bool {
    root.gid() == gid && root.mode() & 0o2770 == 0o2770
}

/// Gives all in a volume to its fsGroup: group read and write, new files inherit the group. A link is
/// given itself, and what it leads to is not; who runs in the volume meanwhile cannot change that.
fn give_to_group(root: BorrowedFd<'_>, gid: u32) -> std::io::Result<()> {
    tree::walk(root, &mut |visit| {
        match Node::open(visit.dir, visit.name).and_then(|node| give_node(&node, gid)) {
            // Gone meanwhile.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(tree::Step::Into),
        }
    })
}

fn give_node(node: &Node, gid: u32) -> std::io::Result<()> {
    let metadata = node.metadata()?;
    node.set_owner(None, Some(gid))?;
    match metadata.file_type() {
        kind if kind.is_symlink() => Ok(()),
        kind if kind.is_dir() => node.set_mode(metadata.mode() & 0o7777 | 0o2770),
        _ => node.set_mode(metadata.mode() & 0o7777 | 0o660),
    }
}

/// Bytes and inodes of a directory, one file system only, links not followed, as `du -x`. A part that
/// cannot be looked at counts as nothing.
pub(crate) fn directory_size(path: &Path) -> (u64, u64) {
    let Ok(metadata) = path.symlink_metadata() else { return (0, 0) };
    let device = metadata.dev();
    let (mut bytes, mut inodes) = (metadata.blocks() * 512, 1);
    if !metadata.is_dir() {
        return (bytes, inodes);
    }
    let walked = sys::file::open_dir(path).and_then(|root| {
        tree::walk(root.as_fd(), &mut |visit| {
            if visit.metadata.dev() != device {
                return Ok(tree::Step::Over);
            }
            bytes += visit.metadata.blocks() * 512;
            inodes += 1;
            Ok(tree::Step::Into)
        })
    });
    if let Err(error) = walked {
        log::debug!("measure {}: {error}", path.display());
    }
    (bytes, inodes)
}

/// Where a container's subPath mount of a volume is bound.
pub(crate) fn sub_path_place(
    directory: &Path,
    volume: &str,
    container: &str,
    idx: usize,
) -> PathBuf {
    directory.join("volume-subpaths").join(volume).join(container).join(idx.to_string())
}

/// Binds the part of a volume that a mount names.
pub(crate) fn bind_sub_path(
    setup_directory: &Path,
    mounted: &Mounted,
    volume: &str,
    container: &str,
    idx: usize,
    sub_path: &str,
) -> Result<PathBuf> {
    let place = sub_path_place(setup_directory, volume, container, idx);
    subpath::bind(&mounted.path, sub_path, &place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn setup(dir: &Path, volumes: Value) -> Setup {
        Setup {
            pod: json!({"metadata": {"name": "p"}, "spec": {"volumes": volumes}}),
            directory: dir.join("pod"),
            volatile: dir.join("volatile"),
            ..Setup::default()
        }
    }

    #[test]
    fn volumes_are_made_and_taken_down() {
        let dir = crate::testing::directory("setup");
        let mut made = setup(
            dir.path(),
            json!([
            {"name": "e", "emptyDir": {}},
            {"name": "h", "hostPath": {"path": dir.path().join("h"), "type": "DirectoryOrCreate"}},
            {"name": "c", "configMap": {"name": "cm"}}]),
        );
        assert_eq!(
            set_up(&made).unwrap_err(),
            "MountVolume.SetUp failed for volume \"c\" : configmap \"cm\" not found"
        );
        made.sources.config_maps.insert("cm".into(), Some(json!({"data": {"k": "1"}})));
        let mounted = set_up(&made).unwrap();
        assert_eq!(mounted["e"].path.metadata().unwrap().mode() & 0o7777, 0o777);
        assert!(mounted["h"].path.is_dir());
        assert_eq!(rt::fs::read(mounted["c"].path.join("k")).unwrap(), b"1");
        assert!(!refresh(&made).unwrap());
        made.sources.config_maps.insert("cm".into(), Some(json!({"data": {"k": "2"}})));
        assert!(refresh(&made).unwrap());
        assert_eq!(rt::fs::read(mounted["c"].path.join("k")).unwrap(), b"2");
        take_down(&made.directory, &made.volatile).unwrap();
        assert!(
            !mounted["e"].path.exists()
                && !mounted["c"].path.exists()
                && mounted["h"].path.exists()
        );
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o7777
    }

    fn claim_of(path: &Path, kind: &str) -> Claims {
        let claim = json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
        let volume = json!({"metadata": {"name": "pv"}, "spec": {kind: {"path": path, "type": "Directory"}}});
        Claims { found: [("c".to_owned(), (Some(claim), Some(volume)))].into() }
    }

    /// A volume as PostgreSQL leaves its own: at a second start nothing of it may be wider.
    #[test]
    fn fs_group_is_for_volumes_that_are_not_the_hosts() {
        let dir = crate::testing::directory("fsgroup");
        let data = dir.path().join("data");
        let outside = dir.path().join("outside");
        rt::fs::write(&outside, b"", 0o600).unwrap();
        let reset = || {
            rt::fs::remove_dir_all(&data).unwrap();
            rt::fs::create_dir_all(data.join("pg"), 0o755).unwrap();
            rt::fs::write(data.join("pg/f"), b"1", 0o600).unwrap();
            rt::fs::symlink_atomic(&outside, data.join("link")).unwrap();
            rt::fs::set_mode(data.join("pg"), 0o700).unwrap();
            rt::fs::set_mode(&data, 0o700).unwrap();
        };
        let run = |kind: &str, policy: &str, uid: &str| {
            let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
            let mut made = setup(dir.path(), json!([volume]));
            made.directory = dir.path().join(uid);
            made.claims = claim_of(&data, kind);
            made.pod["spec"]["securityContext"] =
                json!({"fsGroup": 4000, "fsGroupChangePolicy": policy});
            set_up(&made).unwrap();
            let gid = data.metadata().unwrap().gid();
            (gid == 4000, mode(&data), mode(&data.join("pg")), mode(&data.join("pg/f")))
        };
        reset();
        assert_eq!(run("hostPath", "Always", "a"), (false, 0o700, 0o700, 0o600));
        if sys::process::effective_uid() != 0 {
            eprintln!("skipped: not root");
            return;
        }
        assert_eq!(run("local", "Always", "b"), (true, 0o2770, 0o2770, 0o660));
        rt::fs::set_mode(data.join("pg"), 0o700).unwrap();
        assert_eq!(run("local", "Always", "b").2, 0o700, "the same pod once more");
        assert_eq!(run("local", "OnRootMismatch", "c").2, 0o700, "the root is the group's");
        rt::fs::set_mode(&data, 0o2750).unwrap();
        assert_eq!(run("local", "OnRootMismatch", "d").2, 0o2770, "the root is not");
        assert_eq!(mode(&outside), 0o600, "a link is not followed");
    }

    #[test]
    fn host_path_types_and_strangers_are_refused_by_name() {
        let dir = crate::testing::directory("types");
        let check =
            |volume: Value| set_up(&setup(dir.path(), json!([volume]))).err().unwrap_or_default();
        let path =
            |kind: &str| json!({"name": "h", "hostPath": {"path": dir.path(), "type": kind}});
        let text = dir.path().display();
        for (kind, what) in
            [("File", "a file"), ("Socket", "a socket file"), ("BlockDevice", "a block device")]
        {
            assert_eq!(
                check(path(kind)),
                format!(
                    "MountVolume.SetUp failed for volume \"h\" : hostPath type check failed: {text} is not {what}"
                )
            );
        }
        assert_eq!(check(path("Directory")), "");
        assert!(
            check(json!({"name": "n", "nfs": {"server": "x"}}))
                .contains("volumes of type nfs are not supported")
        );
        assert!(check(json!({"name": "n", "image": {}})).contains("type image"));
    }
}
