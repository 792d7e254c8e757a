//! What callers ask for: sandboxes and containers as plain structs, with nothing of Kubernetes in them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stdx::{OrdMap, Sensitive};
pub use sys::cgroup::Resources;

/// Labels and annotations: kept with the object, reported back, never interpreted.
pub type Labels = OrdMap<String, String>;

/// The namespaces and surroundings that the containers of one pod share.
///
/// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` are not made here: callers write the files
/// and pass them as [`Mount`]s of each container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// The pod's name, namespace, uid and attempt, reported back (CRI metadata).
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
    /// Whose it is, reported back: who makes sandboxes minds those with its own name and no others.
    pub owner: String,
    /// The UTS name; ignored with `host_network`.
    pub hostname: String,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// One PID namespace for all containers, with a tiny init that reaps.
    pub share_processes: bool,
    /// Path of an existing network namespace. Without it and without `host_network`,
    /// the sandbox gets a new one with nothing but a loopback that is down.
    pub netns: Option<PathBuf>,
    /// Namespaced sysctls, dotted names (`net.ipv4.ip_forward`).
    pub sysctls: OrdMap<String, String>,
    /// Absolute cgroup path under each hierarchy, e.g. `/kubepods/burstable/pod1234`. The caller makes
    /// it and sets its limits (`Runtime::cgroup_apply`); containers get children of it.
    pub cgroup_parent: String,
    /// Size of the shared `/dev/shm`; 0 means 64 MiB.
    pub shm_size_bytes: u64,
    /// Directory that relative container log paths are below. Made if absent.
    pub log_directory: PathBuf,
    pub labels: Labels,
    pub annotations: Labels,
}

/// One container. Empty or `None` means: what the image says, else the usual default.
#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    pub name: String,
    pub attempt: u32,
    /// Image id (`sha256:...`) or reference; it must be present.
    pub image: String,
    /// Replaces the image's entrypoint (and then its cmd too).
    pub command: Vec<Sensitive>,
    /// Replaces the image's cmd.
    pub args: Vec<Sensitive>,
    /// Added over the image's environment; later entries win.
    pub env: Vec<(String, Sensitive)>,
    pub cwd: Option<String>,
    pub read_only_root: bool,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub user: User,
    pub umask: Option<u32>,
    pub privileged: bool,
    pub no_new_privileges: bool,
    /// `CAP_`-less or full names, any case, `ALL` allowed.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub seccomp: Seccomp,
    /// `None` means the usual list; `Some(empty)` means unmasked.
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    /// Resource name (`NOFILE`), soft, hard. Clamped with a warning where privilege is missing.
    pub rlimits: Vec<(String, u64, u64)>,
    /// Clamped with a warning where privilege is missing.
    pub oom_score_adj: Option<i32>,
    pub resources: Resources,
    pub tty: bool,
    /// Keep a stdin open that attached clients write to.
    pub stdin: bool,
    /// Close stdin when the first attached client that had it goes away.
    pub stdin_once: bool,
    pub terminal_size: Option<TerminalSize>,
    /// Name (`SIGTERM`) or number; `None` means the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    /// Below the sandbox's log directory unless absolute; `None` discards output.
    pub log_path: Option<PathBuf>,
    /// A directory on disk where the exit is kept, synced before anybody is told; see `runtime::kept_exit`.
    pub exit_directory: Option<PathBuf>,
    /// How much of the output is kept; `None`: everything.
    pub log_limits: Option<LogLimits>,
    /// A PID namespace of its own even where the sandbox has one for all.
    pub own_processes: bool,
    /// Id of a running container of the sandbox whose processes this one shares. Only where each has its own:
    /// ignored with `host_pid`, and with `share_processes` unless it asks for its `own_processes`.
    pub pid_target: Option<String>,
    /// Namespaced user ids; refused with a clear error where the kernel or file system cannot.
    pub user_namespace: Option<UserNamespace>,
    pub labels: Labels,
    pub annotations: Labels,
}

/// A log is rotated at this size, and so many files are kept of it in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    pub file_max_bytes: u64,
    pub files_max: u32,
}

/// Who the process runs as. All `None` means the image's user, else root.
#[derive(Clone, Debug, Default)]
pub struct User {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// A name or `user[:group]` as in an image config; resolved against the container's own
    /// `/etc/passwd` and `/etc/group`. Ignored when `uid` is given.
    pub name: Option<String>,
    pub supplementary_gids: Vec<u32>,
    /// Do not add the groups that the image's `/etc/group` lists for the user
    /// (`supplementalGroupsPolicy: Strict`).
    pub strict_groups: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserNamespace {
    pub first_host_id: u32,
    pub n_ids: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    #[default]
    Unconfined,
    /// The default profile that containerd and Docker share.
    RuntimeDefault,
    /// The text of an OCI/Docker seccomp profile (`localhost/...` read by the caller).
    Profile(String),
}

/// A volume, file or tmpfs in the container. Applied in order of target depth.
#[derive(Clone, Debug)]
pub struct Mount {
    pub source: MountSource,
    /// Absolute path in the container; missing directories (or a missing file, for a file) are made.
    pub target: String,
    pub read_only: bool,
    /// With `read_only`: submounts too (needs Linux 5.12, refused below).
    pub recursive_read_only: bool,
    pub propagation: Propagation,
}

#[derive(Clone, Debug)]
pub enum MountSource {
    /// A host file or directory, with its submounts.
    Bind(PathBuf),
    /// A new tmpfs; 0 means the kernel's default size.
    Tmpfs { size_bytes: u64, mode: u32 },
    /// A read-only view of an image's root file system.
    Image(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    /// The source must be on a shared mount of the host.
    Bidirectional,
}

/// A host device made visible in the container.
#[derive(Clone, Debug)]
pub struct Device {
    pub host_path: PathBuf,
    pub container_path: String,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

/// A further process in a running container, as the container's user with its capabilities.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    pub args: Vec<String>,
    /// Added over the container's environment.
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub tty: bool,
    pub stdin: bool,
    pub terminal_size: Option<TerminalSize>,
}
