//! From what a caller asks for to what the shim does: everything resolved that takes images or policy.

use std::path::{Path, PathBuf};

use stdx::{Context, Error, Result, Sensitive};
use sys::cgroup::{Hierarchies, Resources};
use sys::mount::{
    MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_SHARED, MS_SLAVE, MS_STRICTATIME,
};
use wire::shim::{
    Capabilities, Container, DeviceNode, Exec, Field, Mount, Process, Rootfs, frame, kind,
    mount_kind, pid_mode,
};

use crate::images::UsableImage;
use crate::records::{self, ContainerRecord, PLAN_FILE};
use crate::spec::{ContainerSpec, Device, ExecSpec, MountSource, Propagation, Seccomp};
use crate::state::Shared;
use crate::status::{ContainerStatus, Id};
use crate::{capabilities, seccomp};

/// What a container gets from its sandbox.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) id: Id,
    pub(crate) sandbox: Id,
    pub(crate) hostname: String,
    pub(crate) host_ipc: bool,
    pub(crate) host_pid: bool,
    pub(crate) share_processes: bool,
    pub(crate) cgroup_parent: String,
    pub(crate) log_directory: PathBuf,
}

pub(crate) fn cgroup_path(parent: &str, id: &str) -> String {
    format!("{}/{id}", parent.trim_end_matches('/'))
}

/// Makes the container's directories and cgroup, and its plan as a request for the shim.
/// Blocking. What it made is removed by the caller on failure.
pub(crate) fn prepare(
    shared: &Shared,
    surroundings: &Surroundings,
    spec: &ContainerSpec,
    image: &UsableImage,
    mounted_images: &[UsableImage],
) -> Result<(ContainerRecord, Vec<u8>)> {
    if spec.user_namespace.is_some() {
        return Err(Error::new("user namespaces are not supported by this runtime yet"));
    }
    let id = &*surroundings.id;
    let directory = shared.container_directory(&surroundings.sandbox, id);
    rt::fs::create_dir_all(&directory, 0o700)?;
    let writable = shared.writable_directory(id);
    for part in ["upper", "work"] {
        rt::fs::create_dir_all(writable.join(part), 0o755)?;
    }
    let cgroup = cgroup_path(&surroundings.cgroup_parent, id);
    set_up_cgroup(shared, &cgroup, spec, id)?;

    let log_path = spec.log_path.as_ref().map(|path| surroundings.log_directory.join(path));
    if let Some(parent) = log_path.as_deref().and_then(Path::parent) {
        rt::fs::create_dir_all(parent, 0o755)?;
    }
    let process = process(spec, image, &surroundings.hostname)?;
    let lowers = image.layers.join(":");
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let kill_cgroup = shared
        .hierarchies
        .unified_directory(&cgroup)
        .filter(|directory| rt::fs::metadata(directory.join("cgroup.kill")).is_ok());
    let stop_signal = spec.stop_signal.clone().unwrap_or_else(|| image.config.stop_signal.clone());
    let stop_signal = match stop_signal.as_str() {
        "" => sys::process::SIGTERM,
        name => {
            sys::process::signal_number(name).context(|| format!("unknown stop signal {name:?}"))?
        }
    };
    let container = Container {
        id: id.to_owned(),
        directory: text(&directory),
        cgroups: shared.hierarchies.directories(&cgroup).iter().map(|path| text(path)).collect(),
        kill_cgroup: kill_cgroup.map(|path| text(&path)).unwrap_or_default(),
        oom_file: shared.hierarchies.oom_file(&cgroup).map(|path| text(&path)).unwrap_or_default(),
        rootfs: Rootfs {
            base: text(&image.base),
            lowers,
            upper: text(&writable.join("upper")),
            work: text(&writable.join("work")),
        },
        pid_mode: if surroundings.host_pid {
            pid_mode::HOST
        } else if surroundings.share_processes && !spec.own_processes {
            pid_mode::SANDBOX
        } else if spec.pid_target.is_some() {
            pid_mode::TARGET
        } else {
            pid_mode::OWN
        },
        new_cgroup_namespace: !spec.privileged,
        mounts: mounts(shared, surroundings, spec, image, mounted_images)?,
        devices: device_nodes(spec)?,
        masked_paths: paths(spec, &spec.masked_paths, &MASKED_PATHS),
        readonly_paths: paths(spec, &spec.readonly_paths, &READONLY_PATHS),
        volumes: image
            .config
            .volumes
            .iter()
            .filter(|volume| !spec.mounts.iter().any(|mount| mount.target == **volume))
            .cloned()
            .collect(),
        readonly_root: spec.read_only_root,
        process,
        log_path: log_path.as_deref().map(text).unwrap_or_default(),
        stdin_once: spec.stdin_once,
        uid_map: String::new(),
        gid_map: String::new(),
    };
    let record = ContainerRecord {
        id: id.to_owned(),
        name: spec.name.clone(),
        attempt: spec.attempt,
        created_at: rt::now().wall.0,
        image: spec.image.clone(),
        image_id: image.id.clone(),
        image_ref: image.reference.clone(),
        log_path,
        cgroup,
        stop_signal,
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        mounted_images: mounted_images.iter().map(|image| image.id.clone()).collect(),
        ..ContainerRecord::default()
    };
    records::save(&directory, &record)?;
    let mut plan = Vec::new();
    container.put(&mut plan);
    records::write_unsynced(&directory.join(PLAN_FILE), &plan)?;
    let mut request = Vec::with_capacity(plan.len() + 5);
    match &spec.pid_target {
        Some(target) if container.pid_mode == pid_mode::TARGET => {
            frame(&mut request, kind::CREATE_JOINED, |out| {
                target.put(out);
                out.extend_from_slice(&plan);
            });
        }
        _ => frame(&mut request, kind::CREATE, |out| out.extend_from_slice(&plan)),
    }
    Ok((record, request))
}

/// The plan of a further process in a container.
pub(crate) fn exec(container: Container, status: &ContainerStatus, spec: ExecSpec) -> Exec {
    let mut process = container.process;
    process.args = spec.args.into_iter().map(Sensitive::from).collect();
    merge_env(
        &mut process.env,
        spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())),
    );
    if let Some(cwd) = spec.cwd {
        process.cwd = cwd;
    }
    // The ids were resolved when the container was made; what its files say now does not count.
    process.user = String::new();
    (process.uid, process.gid, process.groups) =
        (status.uid, Some(status.gid), status.groups.clone());
    process.merge_groups = false;
    process.tty = spec.tty;
    process.stdin = spec.stdin;
    let size = spec.terminal_size.unwrap_or_default();
    (process.columns, process.rows) = (size.columns, size.rows);
    Exec { container: container.id, cgroups: container.cgroups, process }
}

/// No swap on top of the memory limit unless it is asked for, as Kubernetes has it.
pub(crate) fn forbid_swap(hierarchies: &Hierarchies, cgroup: &str, resources: &mut Resources) {
    if resources.memory_swap_limit_bytes.is_none() && hierarchies.has_swap_accounting(cgroup) {
        resources.memory_swap_limit_bytes = resources.memory_limit_bytes;
    }
}

fn set_up_cgroup(shared: &Shared, cgroup: &str, spec: &ContainerSpec, id: &str) -> Result<()> {
    let hierarchies = &shared.hierarchies;
    hierarchies.create(cgroup)?;
    let mut resources = spec.resources.clone();
    forbid_swap(hierarchies, cgroup, &mut resources);
    if hierarchies.is_v2() {
        // A container whose one process is killed for memory ends whole, as Kubernetes has it on v2.
        resources.unified.entry("memory.oom.group".to_owned()).or_insert_with(|| "1".to_owned());
    }
    for warning in hierarchies.apply(cgroup, &resources)? {
        log::warn!("container {id} ({}): {warning}", spec.name);
    }
    let rules = if spec.privileged { None } else { Some(device_rules(&spec.devices)?) };
    hierarchies.apply_devices(cgroup, rules.as_deref())
}

fn process(spec: &ContainerSpec, image: &UsableImage, hostname: &str) -> Result<Process> {
    let config = &image.config;
    let args: Vec<Sensitive> = if spec.command.is_empty() {
        let of_image = |list: &[String]| -> Vec<Sensitive> {
            list.iter().map(|word| word.as_str().into()).collect()
        };
        let mut args = of_image(&config.entrypoint);
        match spec.args.is_empty() {
            true => args.extend(of_image(&config.cmd)),
            false => args.extend_from_slice(&spec.args),
        }
        args
    } else {
        spec.command.iter().chain(&spec.args).cloned().collect()
    };
    if args.is_empty() {
        return Err(Error::new("no command specified"));
    }
    let mut env = vec![Sensitive::from(PATH_DEFAULT)];
    if !hostname.is_empty() {
        env.push(format!("HOSTNAME={hostname}").into());
    }
    merge_env(&mut env, config.env.iter().filter_map(|entry| entry.split_once('=')));
    merge_env(
        &mut env,
        spec.env.iter().map(|(name, value)| (name.as_str(), value.reveal().as_str())),
    );
    check_zero_bytes(&args, &env)?;
    let user = &spec.user;
    let (user_name, uid) = match (user.uid, &user.name) {
        (Some(uid), _) => (String::new(), uid),
        (None, Some(name)) => (name.clone(), 0),
        (None, None) => (config.user.clone(), 0),
    };
    let cwd = spec
        .cwd
        .clone()
        .filter(|cwd| !cwd.is_empty())
        .unwrap_or_else(|| config.working_dir.clone());
    let capabilities: Capabilities =
        capabilities::resolve(spec.privileged, &spec.capabilities_add, &spec.capabilities_drop)?;
    let seccomp = match &spec.seccomp {
        _ if spec.privileged => Vec::new(),
        Seccomp::Unconfined => Vec::new(),
        Seccomp::RuntimeDefault => seccomp::default_program(capabilities.bounding),
        Seccomp::Profile(text) => seccomp::compile(text, capabilities.bounding)
            .context(|| "compile the seccomp profile")?,
    };
    let mut rlimits = Vec::new();
    for (name, soft, hard) in &spec.rlimits {
        let number =
            sys::process::rlimit_number(name).context(|| format!("unknown rlimit {name:?}"))?;
        rlimits.push((number, *soft, *hard));
    }
    let size = spec.terminal_size.unwrap_or_default();
    Ok(Process {
        args,
        env,
        cwd: if cwd.is_empty() { "/".to_owned() } else { cwd },
        user: user_name,
        uid,
        gid: user.gid,
        groups: user.supplementary_gids.clone(),
        merge_groups: !user.strict_groups,
        capabilities,
        no_new_privileges: spec.no_new_privileges,
        seccomp,
        rlimits,
        oom_score_adj: spec.oom_score_adj,
        umask: spec.umask.unwrap_or(0o022),
        tty: spec.tty,
        stdin: spec.stdin,
        columns: size.columns,
        rows: size.rows,
    })
}

/// What the kernel cannot pass on. The words name the place and never the value, which may be a secret.
fn check_zero_bytes(args: &[Sensitive], env: &[Sensitive]) -> Result<()> {
    if let Some(idx) = args.iter().position(|arg| arg.reveal().contains('\0')) {
        return Err(Error::new(format!("argument {idx} of the command contains a NUL byte")));
    }
    for entry in env {
        let entry = entry.reveal().as_str();
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if name.contains('\0') {
            return Err(Error::new("the name of an environment variable contains a NUL byte"));
        }
        if value.contains('\0') {
            return Err(Error::new(format!("environment variable {name} contains a NUL byte")));
        }
    }
    Ok(())
}

const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Sets variables in place; new ones go to the end.
fn merge_env<'a>(env: &mut Vec<Sensitive>, more: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in more {
        let entry = format!("{name}={value}").into();
        let same = |have: &&mut Sensitive| {
            have.reveal().split_once('=').is_some_and(|(have, _)| have == name)
        };
        match env.iter_mut().find(same) {
            Some(have) => *have = entry,
            None => env.push(entry),
        }
    }
}

fn filesystem(fs_type: &str, target: &str, flags: u64, data: &str) -> Mount {
    Mount {
        kind: mount_kind::FILESYSTEM,
        source: fs_type.to_owned(),
        target: target.to_owned(),
        fs_type: fs_type.to_owned(),
        flags,
        data: data.to_owned(),
        ..Mount::default()
    }
}

fn mounts(
    shared: &Shared,
    surroundings: &Surroundings,
    spec: &ContainerSpec,
    image: &UsableImage,
    mounted_images: &[UsableImage],
) -> Result<Vec<Mount>> {
    let quiet = MS_NOSUID | MS_NOEXEC | MS_NODEV;
    let guarded = if spec.privileged { quiet } else { quiet | MS_RDONLY };
    let mut mounts = vec![
        filesystem("proc", "/proc", quiet, ""),
        filesystem("tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"),
        filesystem(
            "devpts",
            "/dev/pts",
            MS_NOSUID | MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        filesystem("mqueue", "/dev/mqueue", quiet, ""),
        filesystem("sysfs", "/sys", guarded, ""),
    ];
    let shm = |kind, source: &str| Mount {
        kind,
        source: source.to_owned(),
        target: "/dev/shm".to_owned(),
        propagation: MS_PRIVATE,
        ..Mount::default()
    };
    mounts.push(match surroundings.host_ipc {
        true => shm(mount_kind::BIND, "/dev/shm"),
        false => shm(mount_kind::SHM, ""),
    });
    mounts.extend(cgroup_mounts(&shared.hierarchies, guarded));
    // What the caller mounts at the same place is meant to replace ours.
    // Except the kernel's proc, which may only be covered by another.
    mounts.retain(|mount| {
        mount.fs_type == "proc"
            || !spec.mounts.iter().any(|own| own.target.trim_end_matches('/') == mount.target)
    });
    if let Some(program) = &image.program {
        mounts.push(Mount {
            kind: mount_kind::BIND,
            source: program.source.to_string_lossy().into_owned(),
            target: program.target.clone(),
            flags: MS_RDONLY | MS_NOSUID | MS_NODEV,
            propagation: MS_PRIVATE,
            ..Mount::default()
        });
    }
    let host = sys::mount::list().context(|| "read /proc/self/mountinfo")?;
    let mut images = mounted_images.iter();
    for mount in &spec.mounts {
        if !mount.target.starts_with('/') {
            return Err(Error::new(format!("mount target {:?} is not absolute", mount.target)));
        }
        let target = mount.target.clone();
        let read_only = if mount.read_only { MS_RDONLY } else { 0 };
        mounts.push(match &mount.source {
            MountSource::Bind(source) => {
                check_propagation(&host, source, mount.propagation)?;
                Mount {
                    kind: mount_kind::BIND,
                    source: source
                        .to_str()
                        .context(|| format!("mount source {source:?} is not UTF-8"))?
                        .to_owned(),
                    target,
                    flags: read_only,
                    propagation: match mount.propagation {
                        Propagation::Private => MS_PRIVATE,
                        Propagation::HostToContainer => MS_SLAVE,
                        Propagation::Bidirectional => MS_SHARED,
                    },
                    recursive_read_only: mount.read_only && mount.recursive_read_only,
                    ..Mount::default()
                }
            }
            MountSource::Tmpfs { size_bytes, mode } => {
                let size =
                    if *size_bytes == 0 { String::new() } else { format!(",size={size_bytes}") };
                let flags = MS_NOSUID | MS_NODEV | if mount.read_only { MS_RDONLY } else { 0 };
                filesystem("tmpfs", &target, flags, &format!("mode={mode:o}{size}"))
            }
            MountSource::Image(reference) => {
                let image =
                    images.next().context(|| format!("image {reference} is not present"))?;
                Mount {
                    kind: mount_kind::IMAGE,
                    source: image.base.to_string_lossy().into_owned(),
                    data: image.layers.join(":"),
                    target,
                    ..Mount::default()
                }
            }
        });
    }
    Ok(mounts)
}

/// As Kubernetes' runtimes check it, so that a volume that cannot propagate is not silently private.
fn check_propagation(
    host: &[sys::mount::MountInfo],
    source: &Path,
    propagation: Propagation,
) -> Result<()> {
    if propagation != Propagation::Bidirectional {
        return Ok(());
    }
    let on = sys::mount::mount_of(host, source)
        .context(|| format!("find the mount of {}", source.display()))?;
    if on.shared {
        return Ok(());
    }
    Err(Error::new(format!(
        "path {:?} is mounted on {:?} but it is not a shared mount",
        source.display().to_string(),
        String::from_utf8_lossy(&on.target)
    )))
}

/// The container's own cgroups, as its cgroup namespace shows them.
fn cgroup_mounts(hierarchies: &Hierarchies, flags: u64) -> Vec<Mount> {
    const PLACE: &str = "/sys/fs/cgroup";
    if hierarchies.is_v2() {
        return vec![Mount {
            source: "cgroup".to_owned(),
            ..filesystem("cgroup2", PLACE, flags, hierarchies.v2_mount_options())
        }];
    }
    let mut mounts = vec![filesystem("tmpfs", PLACE, flags, "mode=755,size=64k")];
    for options in hierarchies.v1_mount_options() {
        let target = format!("{PLACE}/{options}");
        mounts.push(Mount {
            source: "cgroup".to_owned(),
            ..filesystem("cgroup", &target, flags, &options)
        });
    }
    mounts
}

const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/scsi",
];

const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn paths(spec: &ContainerSpec, asked: &Option<Vec<String>>, default: &[&str]) -> Vec<String> {
    match asked {
        Some(paths) => paths.clone(),
        None if spec.privileged => Vec::new(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    }
}

/// The character devices that every container has.
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Directories below /dev that are file systems of their own, not devices.
const NOT_DEVICES: [&str; 6] = ["pts", "shm", "mqueue", "fd", "console", "ptmx"];
/// Device nodes that a privileged container gets.
const DEVICES_MAX: usize = 4096;

fn device_nodes(spec: &ContainerSpec) -> Result<Vec<DeviceNode>> {
    let mut nodes: Vec<DeviceNode> = DEVICES
        .iter()
        .map(|(path, major, minor)| DeviceNode {
            path: (*path).to_owned(),
            kind: b'c',
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    for device in &spec.devices {
        nodes.extend(device_node(device)?.map(|mut node| {
            node.path = device.container_path.clone();
            node
        }));
    }
    if spec.privileged {
        host_devices(Path::new("/dev"), 0, &mut nodes)?;
    }
    Ok(nodes)
}

fn device_node(device: &Device) -> Result<Option<DeviceNode>> {
    let what = || format!("look at device {}", device.host_path.display());
    let metadata = rt::fs::metadata(&device.host_path).context(what)?;
    Ok(node_of(&device.host_path, &metadata))
}

fn node_of(path: &Path, metadata: &rt::fs::Metadata) -> Option<DeviceNode> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let file_type = metadata.file_type();
    let kind = if file_type.is_char_device() {
        b'c'
    } else if file_type.is_block_device() {
        b'b'
    } else {
        return None;
    };
    let (major, minor) = sys::file::device_numbers(metadata.rdev());
    Some(DeviceNode {
        path: path.to_string_lossy().into_owned(),
        kind,
        major,
        minor,
        mode: metadata.mode() & 0o777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// All devices of the host, for privileged containers.
fn host_devices(directory: &Path, depth: usize, nodes: &mut Vec<DeviceNode>) -> Result<()> {
    const DEPTH_MAX: usize = 4;
    for path in rt::fs::list_dir(directory)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if (depth == 0 && NOT_DEVICES.contains(&name)) || nodes.len() >= DEVICES_MAX {
            continue;
        }
        let Ok(metadata) = rt::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() && depth < DEPTH_MAX {
            host_devices(&path, depth + 1, nodes)?;
        } else if let Some(node) = node_of(&path, &metadata) {
            nodes.push(node);
        }
    }
    Ok(())
}

/// What the device cgroup allows, in its own syntax.
fn device_rules(devices: &[Device]) -> Result<Vec<String>> {
    // Making any node is harmless; using it is what the other rules decide.
    let mut rules = vec!["c *:* m".to_owned(), "b *:* m".to_owned()];
    rules.extend(DEVICES.iter().map(|(_, major, minor)| format!("c {major}:{minor} rwm")));
    // ptmx and terminals.
    rules.extend(["c 5:2 rwm".to_owned(), "c 136:* rwm".to_owned()]);
    for device in devices {
        let permissions = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        if !permissions.chars().all(|letter| "rwm".contains(letter)) {
            return Err(Error::new(format!(
                "device permissions {permissions:?} are not of r, w and m"
            )));
        }
        if let Some(node) = device_node(device)? {
            rules.push(format!(
                "{} {}:{} {permissions}",
                char::from(node.kind),
                node.major,
                node.minor
            ));
        }
    }
    Ok(rules)
}
