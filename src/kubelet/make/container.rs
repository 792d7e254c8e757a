//! One container of a pod as the runtime wants it.

use std::path::{Path, PathBuf};

use api::{Lens, Value};
use runtime::{ContainerSpec, Device, Labels, Mount, MountSource, Propagation, Resources, Seccomp};
use stdx::Sensitive;

use super::security::{Confinement, ImageUser};
use super::{cgroup, env, security};
use podplan::Role;

/// Labels and annotations that upstream's kubelet gives containers, which crictl shows.
pub(crate) const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const LABEL_CONTAINER: &str = "io.kubernetes.container.name";
pub(crate) const ANNOTATION_RESTARTS: &str = "io.kubernetes.container.restartCount";
/// The image as the spec had it: a change of it restarts the container.
pub(crate) const ANNOTATION_IMAGE: &str = "k3rs.io/image";
pub(crate) const ANNOTATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub(crate) const ANNOTATION_MESSAGE_POLICY: &str =
    "io.kubernetes.container.terminationMessagePolicy";
/// The first word of the command as the spec has it, where `$(VAR)` in it was replaced.
pub(crate) const ANNOTATION_PROGRAM: &str = "k3rs.io/program";
pub(crate) const ANNOTATION_MESSAGE_FILE: &str = "k3rs.io/terminationMessageFile";

/// What the worker looked up and made for the container.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub attempt: u32,
    /// The image's id.
    pub image_id: String,
    pub image_user: ImageUser,
    pub environment: Vec<(String, Sensitive)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    /// Annotations of its devices' plugins.
    pub annotations: Vec<(String, String)>,
    /// Where its exit is kept, if it must not run twice.
    pub exit_directory: Option<PathBuf>,
    /// Id of the container whose processes it shares.
    pub pid_target: Option<String>,
    pub seccomp: Seccomp,
    pub confinement: Confinement,
    /// Host file behind the termination message path.
    pub message_file: PathBuf,
    pub log_limits: Option<runtime::LogLimits>,
    pub memory_capacity: i64,
    /// What it may run on; "" is everywhere.
    pub cpus: String,
}

pub(crate) fn container_spec(
    pod: &Value,
    container: &Value,
    role: Role,
    prepared: Prepared,
) -> ContainerSpec {
    let name = container.str("name");
    let lookup = |key: &str| {
        let mut list = prepared.environment.iter().rev();
        list.find(|(known, _)| known == key).map(|(_, value)| value.reveal().clone())
    };
    let expanded = |path: &str| -> Vec<Sensitive> {
        container
            .list(path)
            .iter()
            .filter_map(Value::as_str)
            .map(|text| env::expand(text, lookup))
            .collect()
    };
    let (command, args) = (expanded("command"), expanded("args"));
    let words = |path: &str| container.list(path).first().and_then(Value::as_str);
    let program = words("command").or_else(|| words("args")).filter(|word| {
        command.first().or(args.first()).is_some_and(|expanded| expanded.reveal() != word)
    });
    let message_path = message_path(container);
    let mut mounts = prepared.mounts;
    if !message_path.is_empty() {
        mounts.push(bind(&prepared.message_file, message_path, false));
    }
    let confinement = prepared.confinement;
    let empty = || Some(Vec::new());
    let mut resources = match role {
        Role::Ephemeral => Resources { cpu_shares: Some(2), ..Resources::default() },
        _ => cgroup::of_container(container),
    };
    resources.cpuset_cpus = prepared.cpus;
    ContainerSpec {
        name: name.to_owned(),
        attempt: prepared.attempt,
        image: prepared.image_id,
        command,
        args,
        cwd: Some(container.str("workingDir").to_owned()).filter(|dir| !dir.is_empty()),
        read_only_root: confinement.read_only_root,
        mounts,
        devices: prepared.devices,
        user: security::user(pod, container, &prepared.image_user),
        umask: None,
        privileged: confinement.privileged,
        no_new_privileges: confinement.no_new_privileges,
        capabilities_add: confinement.add,
        capabilities_drop: confinement.drop,
        seccomp: prepared.seccomp,
        masked_paths: if confinement.unmasked { empty() } else { None },
        readonly_paths: if confinement.unmasked { empty() } else { None },
        rlimits: Vec::new(),
        oom_score_adj: Some(cgroup::oom_score_adj(pod, container, prepared.memory_capacity)),
        resources,
        tty: container.flag("tty"),
        stdin: container.flag("stdin"),
        stdin_once: container.flag("stdinOnce"),
        terminal_size: None,
        stop_signal: None,
        log_path: Some(PathBuf::from(log_file(name, prepared.attempt))),
        log_limits: prepared.log_limits,
        exit_directory: prepared.exit_directory,
        own_processes: false,
        pid_target: prepared.pid_target,
        user_namespace: None,
        labels: labels(pod, Some(name)),
        annotations: prepared
            .annotations
            .into_iter()
            .chain([
                (ANNOTATION_RESTARTS.to_owned(), prepared.attempt.to_string()),
                (ANNOTATION_IMAGE.to_owned(), container.str("image").to_owned()),
                (ANNOTATION_MESSAGE_PATH.to_owned(), message_path.to_owned()),
                (
                    ANNOTATION_MESSAGE_POLICY.to_owned(),
                    container.str("terminationMessagePolicy").to_owned(),
                ),
                (
                    ANNOTATION_MESSAGE_FILE.to_owned(),
                    prepared.message_file.to_string_lossy().into_owned(),
                ),
            ])
            .chain(program.map(|word| (ANNOTATION_PROGRAM.to_owned(), word.to_owned())))
            .collect(),
        env: prepared.environment,
    }
}

/// Below the pod's log directory, as upstream names it.
pub(crate) fn log_file(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

fn message_path(container: &Value) -> &str {
    match container.at("terminationMessagePath") {
        Value::Null => "/dev/termination-log",
        path => path.as_str().unwrap_or(""),
    }
}

pub(crate) fn labels(pod: &Value, container: Option<&str>) -> Labels {
    let mut labels = Labels::from([
        (LABEL_POD_NAME.to_owned(), pod.str("metadata.name").to_owned()),
        (LABEL_POD_NAMESPACE.to_owned(), pod.str("metadata.namespace").to_owned()),
        (LABEL_POD_UID.to_owned(), pod.str("metadata.uid").to_owned()),
    ]);
    if let Some(container) = container {
        labels.insert(LABEL_CONTAINER.to_owned(), container.to_owned());
    }
    labels
}

pub(crate) fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        source: MountSource::Bind(source.to_owned()),
        target: target.to_owned(),
        read_only,
        recursive_read_only: false,
        propagation: Propagation::Private,
    }
}

/// One `volumeMounts` entry over what was mounted for it.
///
/// # Errors
/// If it asks for something contradictory or not possible.
pub(crate) fn volume_mount(
    entry: &Value,
    source: PathBuf,
    volume_read_only: bool,
    privileged: bool,
) -> Result<Mount, String> {
    let read_only = entry.flag("readOnly") || volume_read_only;
    let propagation = match entry.str("mountPropagation") {
        "" | "None" => Propagation::Private,
        "HostToContainer" => Propagation::HostToContainer,
        "Bidirectional" if privileged => Propagation::Bidirectional,
        "Bidirectional" => {
            return Err(
                "Bidirectional mount propagation is available only to privileged containers".into(),
            );
        }
        other => return Err(format!("invalid MountPropagation mode: {other:?}")),
    };
    // `IfPossible` asks for it where the kernel can, which every kernel since 5.12 does.
    let recursive = matches!(entry.str("recursiveReadOnly"), "Enabled");
    Ok(Mount {
        source: MountSource::Bind(source),
        target: absolute(entry.str("mountPath")),
        read_only,
        recursive_read_only: recursive && read_only,
        propagation,
    })
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn prepared() -> Prepared {
        Prepared {
            attempt: 2,
            image_id: "sha256:1".into(),
            image_user: ImageUser::default(),
            environment: vec![("A".into(), "1".into())],
            mounts: Vec::new(),
            devices: Vec::new(),
            annotations: vec![(ANNOTATION_RESTARTS.into(), "9".into())],
            exit_directory: None,
            pid_target: None,
            seccomp: Seccomp::Unconfined,
            confinement: Confinement::default(),
            message_file: "/m".into(),
            log_limits: None,
            memory_capacity: 1 << 30,
            cpus: String::new(),
        }
    }

    #[test]
    fn a_container_is_worded_for_the_runtime() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}});
        let container = json!({"name": "c", "image": "i", "command": ["sh", "-c"], "args": ["echo $(A) $(B)"], "tty": true});
        let spec = container_spec(&pod, &container, Role::App, prepared());
        assert_eq!(spec.args, ["echo 1 $(B)".into()]);
        assert_eq!(spec.log_path.as_deref(), Some(Path::new("c/2.log")));
        assert_eq!(spec.labels[LABEL_CONTAINER], "c");
        assert_eq!(spec.annotations[ANNOTATION_IMAGE], "i");
        assert_eq!(
            spec.annotations[ANNOTATION_RESTARTS], "2",
            "a plugin's say no more than theirs"
        );
        assert_eq!(spec.mounts.len(), 1);
        assert_eq!(spec.mounts[0].target, "/dev/termination-log");
        assert!(!spec.annotations.contains_key(ANNOTATION_PROGRAM));
        let secret = json!({"name": "c", "args": ["$(A)/run"]});
        let spec = container_spec(&pod, &secret, Role::App, prepared());
        assert_eq!(spec.annotations[ANNOTATION_PROGRAM], "$(A)/run");
        let quiet = json!({"name": "c", "terminationMessagePath": ""});
        assert!(container_spec(&pod, &quiet, Role::App, prepared()).mounts.is_empty());
    }

    #[test]
    fn mounts_keep_to_the_rules() {
        let entry = json!({"name": "v", "mountPath": "data", "readOnly": true});
        let mount = volume_mount(&entry, "/x".into(), false, false).unwrap();
        assert_eq!((mount.target.as_str(), mount.read_only), ("/data", true));
        let entry = json!({"mountPath": "/d", "mountPropagation": "Bidirectional"});
        assert!(volume_mount(&entry, "/x".into(), false, false).is_err());
        assert!(volume_mount(&entry, "/x".into(), false, true).is_ok());
    }
}
