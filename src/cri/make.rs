//! From a container's configuration, as a client has it, to what the runtime is asked for.

use std::path::{Path, PathBuf};

use http::grpc::Code;
use runtime::{
    ContainerSpec, Device, Mount, MountSource, Propagation, Resources, SandboxStatus, Seccomp, User,
};
use wire::cri::{
    self, ContainerConfig, Int64Value, LinuxContainerResources, LinuxContainerSecurityContext,
    MountPropagation, NamespaceMode, NamespaceOption, PodSandboxConfig, ProfileType,
    SecurityProfile, SupplementalGroupsPolicy,
};

use crate::files;
use crate::refusal::{Answer, Refusal};

/// A seccomp profile.
const PROFILE_MAX_BYTES: u64 = 1 << 20;

/// There is one way to run containers.
pub(crate) fn check_handler(handler: &str) -> Answer<()> {
    match handler {
        "" | "runc" => Ok(()),
        other => {
            let message =
                format!("failed to get sandbox runtime: no runtime for {other:?} is configured");
            Err(Refusal::new(Code::UNKNOWN, message))
        }
    }
}

pub(crate) fn check_user_namespace(options: &NamespaceOption) -> Answer<()> {
    match options.userns_options.as_ref().map(|user| user.mode) {
        None | Some(NamespaceMode::NODE) => Ok(()),
        // What a client leaves out reads as POD, with no ids to map.
        Some(NamespaceMode::POD)
            if options.userns_options.as_ref().is_some_and(|user| user.uids.is_empty()) =>
        {
            Ok(())
        }
        Some(_) => Err(Refusal::new(
            Code::UNIMPLEMENTED,
            "user namespaces are not supported by this runtime",
        )),
    }
}

/// No kernel of ours confines by AppArmor; its default profile is then none, as in containerd.
pub(crate) fn check_apparmor(profile: &Option<SecurityProfile>) -> Answer<()> {
    match profile {
        Some(profile) if profile.profile_type == ProfileType::LOCALHOST => {
            Err(Refusal::new(Code::UNKNOWN, "apparmor is not supported"))
        }
        _ => Ok(()),
    }
}

/// What is asked for, with the sandbox's own files among the mounts. Blocking.
pub(crate) fn container_spec(
    config: &mut ContainerConfig,
    pod: &PodSandboxConfig,
    sandbox: &SandboxStatus,
    state: &Path,
) -> Answer<ContainerSpec> {
    let context = &config.linux.security_context;
    check_context(context, pod)?;
    if !config.cdi_devices.is_empty() {
        let message = "CDI devices are not supported by this runtime";
        return Err(Refusal::new(Code::UNIMPLEMENTED, message));
    }
    let options = context.namespace_options.clone().unwrap_or_default();
    let capabilities = &context.capabilities;
    if !capabilities.add_ambient_capabilities.is_empty() {
        let message = "ambient capabilities are not supported by this runtime";
        return Err(Refusal::new(Code::UNIMPLEMENTED, message));
    }
    let mut mounts = mounts(&config.mounts)?;
    own_mounts(&mut mounts, &files::directory(state, &sandbox.id), context.readonly_rootfs);
    let given = |paths: &[String]| (!paths.is_empty()).then(|| paths.to_vec());
    Ok(ContainerSpec {
        name: config.metadata.name.clone(),
        attempt: config.metadata.attempt,
        image: config.image.image.clone(),
        command: std::mem::take(&mut config.command),
        args: std::mem::take(&mut config.args),
        env: std::mem::take(&mut config.envs).into_iter().map(|it| (it.key, it.value)).collect(),
        cwd: Some(config.working_dir.clone()).filter(|cwd| !cwd.is_empty()),
        read_only_root: context.readonly_rootfs,
        mounts,
        devices: config.devices.iter().map(device).collect(),
        user: user(context)?,
        privileged: context.privileged,
        no_new_privileges: context.no_new_privs,
        capabilities_add: capabilities.add_capabilities.clone(),
        capabilities_drop: capabilities.drop_capabilities.clone(),
        seccomp: seccomp(context)?,
        masked_paths: given(&context.masked_paths),
        readonly_paths: given(&context.readonly_paths),
        oom_score_adj: i32::try_from(config.linux.resources.oom_score_adj).ok(),
        resources: resources(&config.linux.resources)?,
        tty: config.tty,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        log_path: log_path(&config.log_path, &pod.log_directory),
        own_processes: options.pid == NamespaceMode::CONTAINER,
        pid_target: (options.pid == NamespaceMode::TARGET).then_some(options.target_id),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        ..ContainerSpec::default()
    })
}

fn check_context(context: &LinuxContainerSecurityContext, pod: &PodSandboxConfig) -> Answer<()> {
    if context.privileged && !pod.linux.security_context.privileged {
        return Err(Refusal::new(Code::UNKNOWN, "no privileged container allowed in sandbox"));
    }
    check_user_namespace(&context.namespace_options.clone().unwrap_or_default())?;
    check_apparmor(&context.apparmor)?;
    let named = context.apparmor_profile.as_str();
    match context.apparmor.is_none() && !matches!(named, "" | "unconfined" | "runtime/default") {
        true => Err(Refusal::new(Code::UNKNOWN, "apparmor is not supported")),
        false => Ok(()),
    }
}

/// Without a directory for logs there are none.
fn log_path(path: &str, directory: &str) -> Option<PathBuf> {
    (!path.is_empty() && !directory.is_empty()).then(|| Path::new(directory).join(path))
}

fn device(device: &cri::Device) -> Device {
    Device {
        host_path: PathBuf::from(&device.host_path),
        container_path: device.container_path.clone(),
        permissions: device.permissions.clone(),
    }
}

fn id(value: i64, what: &str) -> Answer<u32> {
    u32::try_from(value).map_err(|_| Refusal::invalid(format!("{what} {value} is out of range")))
}

fn user(context: &LinuxContainerSecurityContext) -> Answer<User> {
    let number =
        |it: &Option<Int64Value>, what| it.as_ref().map(|it| id(it.value, what)).transpose();
    let uid = number(&context.run_as_user, "user id")?;
    let gid = number(&context.run_as_group, "group id")?;
    let name = Some(context.run_as_username.clone()).filter(|name| !name.is_empty());
    if gid.is_some() && uid.is_none() && name.is_none() {
        return Err(Refusal::invalid("user group is specified without user"));
    }
    let mut supplementary_gids = Vec::new();
    for gid in &context.supplemental_groups.0 {
        supplementary_gids.push(id(*gid, "supplemental group")?);
    }
    let strict_groups = match context.supplemental_groups_policy {
        SupplementalGroupsPolicy::MERGE => false,
        SupplementalGroupsPolicy::STRICT => true,
        other => {
            let message = format!("unknown policy of supplemental groups {}", other.0);
            return Err(Refusal::invalid(message));
        }
    };
    Ok(User { uid, gid, name, supplementary_gids, strict_groups })
}

fn seccomp(context: &LinuxContainerSecurityContext) -> Answer<Seccomp> {
    // The older field says the same in words.
    let (kind, path) = match (&context.seccomp, context.seccomp_profile_path.as_str()) {
        (Some(profile), _) => (profile.profile_type, profile.localhost_ref.as_str()),
        (None, "" | "unconfined") => return Ok(Seccomp::Unconfined),
        (None, "runtime/default" | "docker/default") => return Ok(Seccomp::RuntimeDefault),
        (None, path) => (ProfileType::LOCALHOST, path),
    };
    match kind {
        ProfileType::RUNTIME_DEFAULT => Ok(Seccomp::RuntimeDefault),
        ProfileType::UNCONFINED => Ok(Seccomp::Unconfined),
        ProfileType::LOCALHOST => {
            let path = path.strip_prefix("localhost/").unwrap_or(path);
            if !path.starts_with('/') {
                let message = format!("seccomp profile {path:?} is not an absolute path");
                return Err(Refusal::invalid(message));
            }
            let bytes = rt::fs::read_within(path, PROFILE_MAX_BYTES)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Refusal::invalid(format!("seccomp profile {path:?} is not UTF-8")))?;
            Ok(Seccomp::Profile(text))
        }
        other => Err(Refusal::invalid(format!("unknown seccomp profile type {}", other.0))),
    }
}

/// Blocking: a directory of the host that is missing is made, as containerd does.
fn mounts(asked: &[cri::Mount]) -> Answer<Vec<Mount>> {
    let mut mounts = Vec::new();
    for mount in asked {
        if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
            let message = "mounts with mapped ids are not supported by this runtime";
            return Err(Refusal::new(Code::UNIMPLEMENTED, message));
        }
        let propagation = match mount.propagation {
            MountPropagation::PRIVATE => Propagation::Private,
            MountPropagation::HOST_TO_CONTAINER => Propagation::HostToContainer,
            MountPropagation::BIDIRECTIONAL => Propagation::Bidirectional,
            // As containerd: what is not known is private.
            _ => Propagation::Private,
        };
        if mount.recursive_read_only
            && (!mount.readonly || mount.propagation != MountPropagation::PRIVATE)
        {
            return Err(Refusal::invalid(
                "recursive_read_only requires readonly and private propagation",
            ));
        }
        let source = match &mount.image {
            Some(image) if !image.image.is_empty() => MountSource::Image(image.image.clone()),
            _ => {
                let path = PathBuf::from(&mount.host_path);
                if !path.is_absolute() {
                    let message = format!("host path {:?} is not absolute", mount.host_path);
                    return Err(Refusal::invalid(message));
                }
                if rt::fs::metadata(&path).is_err() {
                    rt::fs::create_dir_all(&path, 0o755)?;
                }
                MountSource::Bind(path)
            }
        };
        mounts.push(Mount {
            source,
            target: mount.container_path.clone(),
            read_only: mount.readonly,
            recursive_read_only: mount.recursive_read_only,
            propagation,
        });
    }
    Ok(mounts)
}

/// The sandbox's names and resolver, where nothing else is mounted in their place.
fn own_mounts(mounts: &mut Vec<Mount>, directory: &Path, read_only: bool) {
    for name in ["hostname", "hosts", "resolv.conf"] {
        let target = format!("/etc/{name}");
        let source = directory.join(name);
        // Another owner's sandboxes have none.
        if mounts.iter().any(|mount| mount.target == target) || rt::fs::metadata(&source).is_err() {
            continue;
        }
        mounts.push(Mount {
            source: MountSource::Bind(source),
            target,
            read_only,
            recursive_read_only: false,
            propagation: Propagation::Private,
        });
    }
}

/// What is not zero or empty is set.
pub(crate) fn resources(asked: &LinuxContainerResources) -> Answer<Resources> {
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value != 0);
    let given = |value: i64| (value != 0).then_some(value);
    if asked.hugepage_limits.iter().any(|limit| limit.limit != 0) {
        log::warn!("CRI: limits of huge pages are not enforced");
    }
    Ok(Resources {
        cpu_shares: positive(asked.cpu_shares),
        cpu_quota_us: given(asked.cpu_quota),
        cpu_period_us: positive(asked.cpu_period),
        memory_limit_bytes: given(asked.memory_limit_in_bytes),
        memory_swap_limit_bytes: given(asked.memory_swap_limit_in_bytes),
        pids_max: None,
        cpuset_cpus: asked.cpuset_cpus.clone(),
        cpuset_mems: asked.cpuset_mems.clone(),
        unified: checked_unified(asked)?,
    })
}

/// What an update leaves out stays as it was.
pub(crate) fn merge_resources(old: &mut LinuxContainerResources, new: LinuxContainerResources) {
    for (old, new) in [
        (&mut old.cpu_period, new.cpu_period),
        (&mut old.cpu_quota, new.cpu_quota),
        (&mut old.cpu_shares, new.cpu_shares),
        (&mut old.memory_limit_in_bytes, new.memory_limit_in_bytes),
        (&mut old.memory_swap_limit_in_bytes, new.memory_swap_limit_in_bytes),
    ] {
        if new != 0 {
            *old = new;
        }
    }
    for (old, new) in
        [(&mut old.cpuset_cpus, new.cpuset_cpus), (&mut old.cpuset_mems, new.cpuset_mems)]
    {
        if !new.is_empty() {
            *old = new;
        }
    }
    old.unified.extend(new.unified);
}

/// Names become files of the cgroup.
fn checked_unified(asked: &LinuxContainerResources) -> Answer<stdx::OrdMap<String, String>> {
    match asked.unified.keys().find(|name| name.contains(['/', '\0']) || name.starts_with('.')) {
        Some(name) => Err(Refusal::invalid(format!("{name:?} is not a file of a cgroup"))),
        None => Ok(asked.unified.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_or_names_and_groups_need_them() {
        let int = |value| Some(Int64Value { value });
        let context = |user, group, name: &str| LinuxContainerSecurityContext {
            run_as_user: user,
            run_as_group: group,
            run_as_username: name.into(),
            ..LinuxContainerSecurityContext::default()
        };
        let made = user(&context(int(7), int(8), "")).unwrap();
        assert_eq!((made.uid, made.gid), (Some(7), Some(8)));
        assert!(user(&context(None, None, "www")).unwrap().name.is_some());
        assert!(user(&context(None, int(8), "")).is_err());
        assert!(user(&context(int(-1), None, "")).is_err());
        assert!(user(&context(int(1 << 33), None, "")).is_err());
    }

    #[test]
    fn what_the_runtime_lacks_is_refused() {
        let mode = |mode, n: usize| NamespaceOption {
            userns_options: Some(cri::UserNamespace {
                mode,
                uids: vec![cri::IDMapping::default(); n],
                gids: Vec::new(),
            }),
            ..NamespaceOption::default()
        };
        assert!(check_user_namespace(&mode(NamespaceMode::NODE, 0)).is_ok());
        assert!(check_user_namespace(&mode(NamespaceMode::POD, 1)).is_err());
        let profile =
            |profile_type| Some(SecurityProfile { profile_type, localhost_ref: "x".into() });
        assert!(check_apparmor(&profile(ProfileType::RUNTIME_DEFAULT)).is_ok());
        assert!(check_apparmor(&profile(ProfileType::LOCALHOST)).is_err());
        let mount = cri::Mount { container_path: "/x".into(), ..cri::Mount::default() };
        assert!(mounts(&[mount]).is_err(), "no host path");
        let bad = LinuxContainerResources {
            unified: [("../x".to_owned(), "1".to_owned())].into(),
            ..LinuxContainerResources::default()
        };
        assert!(resources(&bad).is_err());
    }
}
