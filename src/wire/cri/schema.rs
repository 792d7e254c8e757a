//! Messages of the CRI as JSON and back, by their names: what command lines print and read.
//!
//! One text says each message's fields, so this costs no code a message. JSON is protobuf's: names in camel case,
//! 64-bit numbers as texts, enums by name, what is empty written, too. Read are both forms of names, and enums by
//! number as well, because files for crictl are written in either way.
//!
//! Never panics on any input; messages nest as deep as the text says, and `DEPTH_MAX` at most.

use serde_json::{Map, Value};

use crate::protobuf::{self, Reader, Wire, put_bytes, put_int, put_varint};

const DEPTH_MAX: usize = 12;

/// A line a message: its name, and each field as `NUMBERname:KIND`; `*` before a kind means repeated. Kinds are `s`
/// text, `y` bytes, `i` and `l` numbers of 32 and 64 bits, `b` a truth, `m` a map of texts, else a message or an enum.
/// A line with `=` is an enum with its values from 0 on.
const SCHEMA: &str = "\
VersionRequest 1version:s
VersionResponse 1version:s 2runtime_name:s 3runtime_version:s 4runtime_api_version:s
DNSConfig 1servers:*s 2searches:*s 3options:*s
PortMapping 1protocol:Protocol 2container_port:i 3host_port:i 4host_ip:s
Mount 1container_path:s 2host_path:s 3readonly:b 4selinux_relabel:b 5propagation:MountPropagation 6uidMappings:*IDMapping 7gidMappings:*IDMapping 8recursive_read_only:b 9image:ImageSpec
IDMapping 1host_id:i 2container_id:i 3length:i
UserNamespace 1mode:NamespaceMode 2uids:*IDMapping 3gids:*IDMapping
NamespaceOption 1network:NamespaceMode 2pid:NamespaceMode 3ipc:NamespaceMode 4target_id:s 5userns_options:UserNamespace
Int64Value 1value:l
LinuxSandboxSecurityContext 1namespace_options:NamespaceOption 2selinux_options:SELinuxOption 3run_as_user:Int64Value 8run_as_group:Int64Value 4readonly_rootfs:b 5supplemental_groups:*l 11supplemental_groups_policy:SupplementalGroupsPolicy 6privileged:b 9seccomp:SecurityProfile 10apparmor:SecurityProfile 7seccomp_profile_path:s
SecurityProfile 1profile_type:ProfileType 2localhost_ref:s
LinuxPodSandboxConfig 1cgroup_parent:s 2security_context:LinuxSandboxSecurityContext 3sysctls:m 4overhead:LinuxContainerResources 5resources:LinuxContainerResources
PodSandboxMetadata 1name:s 2uid:s 3namespace:s 4attempt:i
PodSandboxConfig 1metadata:PodSandboxMetadata 2hostname:s 3log_directory:s 4dns_config:DNSConfig 5port_mappings:*PortMapping 6labels:m 7annotations:m 8linux:LinuxPodSandboxConfig
RunPodSandboxRequest 1config:PodSandboxConfig 2runtime_handler:s
RunPodSandboxResponse 1pod_sandbox_id:s
StopPodSandboxRequest 1pod_sandbox_id:s
StopPodSandboxResponse
RemovePodSandboxRequest 1pod_sandbox_id:s
RemovePodSandboxResponse
PodSandboxStatusRequest 1pod_sandbox_id:s 2verbose:b
PodIP 1ip:s
PodSandboxNetworkStatus 1ip:s 2additional_ips:*PodIP
Namespace 2options:NamespaceOption
LinuxPodSandboxStatus 1namespaces:Namespace
PodSandboxStatus 1id:s 2metadata:PodSandboxMetadata 3state:PodSandboxState 4created_at:l 5network:PodSandboxNetworkStatus 6linux:LinuxPodSandboxStatus 7labels:m 8annotations:m 9runtime_handler:s
PodSandboxStatusResponse 1status:PodSandboxStatus 2info:m 3containers_statuses:*ContainerStatus 4timestamp:l
PodSandboxStateValue 1state:PodSandboxState
PodSandboxFilter 1id:s 2state:PodSandboxStateValue 3label_selector:m
ListPodSandboxRequest 1filter:PodSandboxFilter
PodSandbox 1id:s 2metadata:PodSandboxMetadata 3state:PodSandboxState 4created_at:l 5labels:m 6annotations:m 7runtime_handler:s
ListPodSandboxResponse 1items:*PodSandbox
PodSandboxStatsRequest 1pod_sandbox_id:s
PodSandboxStatsResponse 1stats:PodSandboxStats
PodSandboxStatsFilter 1id:s 2label_selector:m
ListPodSandboxStatsRequest 1filter:PodSandboxStatsFilter
ListPodSandboxStatsResponse 1stats:*PodSandboxStats
PodSandboxAttributes 1id:s 2metadata:PodSandboxMetadata 3labels:m 4annotations:m
PodSandboxStats 1attributes:PodSandboxAttributes 2linux:LinuxPodSandboxStats
LinuxPodSandboxStats 1cpu:CpuUsage 2memory:MemoryUsage 3network:NetworkUsage 4process:ProcessUsage 5containers:*ContainerStats
NetworkUsage 1timestamp:l 2default_interface:NetworkInterfaceUsage 3interfaces:*NetworkInterfaceUsage
NetworkInterfaceUsage 1name:s 2rx_bytes:UInt64Value 3rx_errors:UInt64Value 4tx_bytes:UInt64Value 5tx_errors:UInt64Value
ProcessUsage 1timestamp:l 2process_count:UInt64Value
ImageSpec 1image:s 2annotations:m 18user_specified_image:s 19runtime_handler:s
KeyValue 1key:s 2value:s
LinuxContainerResources 1cpu_period:l 2cpu_quota:l 3cpu_shares:l 4memory_limit_in_bytes:l 5oom_score_adj:l 6cpuset_cpus:s 7cpuset_mems:s 8hugepage_limits:*HugepageLimit 9unified:m 10memory_swap_limit_in_bytes:l
HugepageLimit 1page_size:s 2limit:l
SELinuxOption 1user:s 2role:s 3type:s 4level:s
Capability 1add_capabilities:*s 2drop_capabilities:*s 3add_ambient_capabilities:*s
LinuxContainerSecurityContext 1capabilities:Capability 2privileged:b 3namespace_options:NamespaceOption 4selinux_options:SELinuxOption 5run_as_user:Int64Value 12run_as_group:Int64Value 6run_as_username:s 7readonly_rootfs:b 8supplemental_groups:*l 17supplemental_groups_policy:SupplementalGroupsPolicy 11no_new_privs:b 13masked_paths:*s 14readonly_paths:*s 15seccomp:SecurityProfile 16apparmor:SecurityProfile 9apparmor_profile:s 10seccomp_profile_path:s
LinuxContainerConfig 1resources:LinuxContainerResources 2security_context:LinuxContainerSecurityContext
LinuxContainerUser 1uid:l 2gid:l 3supplemental_groups:*l
ContainerMetadata 1name:s 2attempt:i
Device 1container_path:s 2host_path:s 3permissions:s
CDIDevice 1name:s
ContainerConfig 1metadata:ContainerMetadata 2image:ImageSpec 3command:*s 4args:*s 5working_dir:s 6envs:*KeyValue 7mounts:*Mount 8devices:*Device 9labels:m 10annotations:m 11log_path:s 12stdin:b 13stdin_once:b 14tty:b 15linux:LinuxContainerConfig 17CDI_devices:*CDIDevice
CreateContainerRequest 1pod_sandbox_id:s 2config:ContainerConfig 3sandbox_config:PodSandboxConfig
CreateContainerResponse 1container_id:s
StartContainerRequest 1container_id:s
StartContainerResponse
StopContainerRequest 1container_id:s 2timeout:l
StopContainerResponse
RemoveContainerRequest 1container_id:s
RemoveContainerResponse
ContainerStateValue 1state:ContainerState
ContainerFilter 1id:s 2state:ContainerStateValue 3pod_sandbox_id:s 4label_selector:m
ListContainersRequest 1filter:ContainerFilter
Container 1id:s 2pod_sandbox_id:s 3metadata:ContainerMetadata 4image:ImageSpec 5image_ref:s 6state:ContainerState 7created_at:l 8labels:m 9annotations:m 10image_id:s
ListContainersResponse 1containers:*Container
ContainerStatusRequest 1container_id:s 2verbose:b
ContainerStatus 1id:s 2metadata:ContainerMetadata 3state:ContainerState 4created_at:l 5started_at:l 6finished_at:l 7exit_code:i 8image:ImageSpec 9image_ref:s 10reason:s 11message:s 12labels:m 13annotations:m 14mounts:*Mount 15log_path:s 16resources:ContainerResources 17image_id:s 18user:ContainerUser
ContainerStatusResponse 1status:ContainerStatus 2info:m
ContainerResources 1linux:LinuxContainerResources
ContainerUser 1linux:LinuxContainerUser
UpdateContainerResourcesRequest 1container_id:s 2linux:LinuxContainerResources 4annotations:m
UpdateContainerResourcesResponse
ExecSyncRequest 1container_id:s 2cmd:*s 3timeout:l
ExecSyncResponse 1stdout:y 2stderr:y 3exit_code:i
ExecRequest 1container_id:s 2cmd:*s 3tty:b 4stdin:b 5stdout:b 6stderr:b
ExecResponse 1url:s
AttachRequest 1container_id:s 2stdin:b 3tty:b 4stdout:b 5stderr:b
AttachResponse 1url:s
PortForwardRequest 1pod_sandbox_id:s 2port:*i
PortForwardResponse 1url:s
ImageFilter 1image:ImageSpec
ListImagesRequest 1filter:ImageFilter
Image 1id:s 2repo_tags:*s 3repo_digests:*s 4size:l 5uid:Int64Value 6username:s 7spec:ImageSpec 8pinned:b
ListImagesResponse 1images:*Image
ImageStatusRequest 1image:ImageSpec 2verbose:b
ImageStatusResponse 1image:Image 2info:m
AuthConfig 1username:s 2password:s 3auth:s 4server_address:s 5identity_token:s 6registry_token:s
PullImageRequest 1image:ImageSpec 2auth:AuthConfig 3sandbox_config:PodSandboxConfig
PullImageResponse 1image_ref:s
RemoveImageRequest 1image:ImageSpec
RemoveImageResponse
NetworkConfig 1pod_cidr:s
RuntimeConfig 1network_config:NetworkConfig
UpdateRuntimeConfigRequest 1runtime_config:RuntimeConfig
UpdateRuntimeConfigResponse
RuntimeCondition 1type:s 2status:b 3reason:s 4message:s
RuntimeStatus 1conditions:*RuntimeCondition
StatusRequest 1verbose:b
RuntimeHandlerFeatures 1recursive_read_only_mounts:b 2user_namespaces:b
RuntimeHandler 1name:s 2features:RuntimeHandlerFeatures
RuntimeFeatures 1supplemental_groups_policy:b
StatusResponse 1status:RuntimeStatus 2info:m 3runtime_handlers:*RuntimeHandler 4features:RuntimeFeatures
ImageFsInfoRequest
UInt64Value 1value:l
FilesystemIdentifier 1mountpoint:s
FilesystemUsage 1timestamp:l 2fs_id:FilesystemIdentifier 3used_bytes:UInt64Value 4inodes_used:UInt64Value
ImageFsInfoResponse 1image_filesystems:*FilesystemUsage 2container_filesystems:*FilesystemUsage
ContainerStatsRequest 1container_id:s
ContainerStatsResponse 1stats:ContainerStats
ListContainerStatsRequest 1filter:ContainerStatsFilter
ContainerStatsFilter 1id:s 2pod_sandbox_id:s 3label_selector:m
ListContainerStatsResponse 1stats:*ContainerStats
ContainerAttributes 1id:s 2metadata:ContainerMetadata 3labels:m 4annotations:m
ContainerStats 1attributes:ContainerAttributes 2cpu:CpuUsage 3memory:MemoryUsage 4writable_layer:FilesystemUsage 5swap:SwapUsage
CpuUsage 1timestamp:l 2usage_core_nano_seconds:UInt64Value 3usage_nano_cores:UInt64Value
MemoryUsage 1timestamp:l 2working_set_bytes:UInt64Value 3available_bytes:UInt64Value 4usage_bytes:UInt64Value 5rss_bytes:UInt64Value 6page_faults:UInt64Value 7major_page_faults:UInt64Value
SwapUsage 1timestamp:l 2swap_available_bytes:UInt64Value 3swap_usage_bytes:UInt64Value
ReopenContainerLogRequest 1container_id:s
ReopenContainerLogResponse
CheckpointContainerRequest 1container_id:s 2location:s 3timeout:l
CheckpointContainerResponse
GetEventsRequest
ContainerEventResponse 1container_id:s 2container_event_type:ContainerEventType 3created_at:l 4pod_sandbox_status:PodSandboxStatus 5containers_statuses:*ContainerStatus
ListMetricDescriptorsRequest
ListMetricDescriptorsResponse 1descriptors:*MetricDescriptor
MetricDescriptor 1name:s 2help:s 3label_keys:*s
ListPodSandboxMetricsRequest
ListPodSandboxMetricsResponse 1pod_metrics:*PodSandboxMetrics
PodSandboxMetrics 1pod_sandbox_id:s 2metrics:*Metric 3container_metrics:*ContainerMetrics
ContainerMetrics 1container_id:s 2metrics:*Metric
Metric 1name:s 2timestamp:l 3metric_type:MetricType 4label_values:*s 5value:UInt64Value
RuntimeConfigRequest
RuntimeConfigResponse 1linux:LinuxRuntimeConfiguration
LinuxRuntimeConfiguration 1cgroup_driver:CgroupDriver
=Protocol TCP UDP SCTP
=MountPropagation PROPAGATION_PRIVATE PROPAGATION_HOST_TO_CONTAINER PROPAGATION_BIDIRECTIONAL
=NamespaceMode POD CONTAINER NODE TARGET
=SupplementalGroupsPolicy Merge Strict
=ProfileType RuntimeDefault Unconfined Localhost
=PodSandboxState SANDBOX_READY SANDBOX_NOTREADY
=ContainerState CONTAINER_CREATED CONTAINER_RUNNING CONTAINER_EXITED CONTAINER_UNKNOWN
=ContainerEventType CONTAINER_CREATED_EVENT CONTAINER_STARTED_EVENT CONTAINER_STOPPED_EVENT CONTAINER_DELETED_EVENT
=MetricType COUNTER GAUGE
=CgroupDriver SYSTEMD CGROUPFS
";

/// A field as the schema has it.
#[derive(Clone, Copy)]
struct Field {
    number: u32,
    name: &'static str,
    repeated: bool,
    kind: &'static str,
}

fn line(name: &str, is_enum: bool) -> Option<std::str::SplitAsciiWhitespace<'static>> {
    SCHEMA.lines().find_map(|line| {
        let (mut words, wanted) = (line.split_ascii_whitespace(), if is_enum { "=" } else { "" });
        (words.next()?.strip_prefix(wanted)? == name).then_some(words)
    })
}

fn fields(message: &str) -> Option<impl Iterator<Item = Field>> {
    Some(line(message, false)?.filter_map(|word| {
        let (head, kind) = word.split_once(':')?;
        let at = head.find(|c: char| !c.is_ascii_digit())?;
        let bare = kind.trim_start_matches('*');
        let repeated = bare.len() < kind.len();
        Some(Field { number: head[..at].parse().ok()?, name: &head[at..], repeated, kind: bare })
    }))
}

/// `pod_sandbox_id` as `podSandboxId`, as protobuf has it.
fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c => {
                out.push(if upper { c.to_ascii_uppercase() } else { c });
                upper = false;
            }
        }
    }
    out
}

/// A message as a tree.
///
/// # Errors
/// If the bytes are malformed, or no message of the CRI has this name.
pub fn to_json(message: &str, bytes: &[u8]) -> Result<Value, protobuf::Error> {
    tree(message, bytes, DEPTH_MAX)
}

fn tree(message: &str, bytes: &[u8], depth: usize) -> Result<Value, protobuf::Error> {
    let depth = depth.checked_sub(1).ok_or(protobuf::Error::WrongType)?;
    let mut map = Map::new();
    let all: Vec<Field> = fields(message).ok_or(protobuf::Error::WrongType)?.collect();
    for field in &all {
        let empty = match field.kind {
            "m" => Value::Object(Map::new()),
            _ if field.repeated => Value::Array(Vec::new()),
            "s" | "y" => "".into(),
            "i" => 0.into(),
            "l" => "0".into(),
            "b" => false.into(),
            kind => match line(kind, true).and_then(|mut names| names.next()) {
                Some(first) => first.into(),
                None => continue,
            },
        };
        map.insert(camel(field.name), empty);
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        let Some(field) = all.iter().find(|field| field.number == number) else { continue };
        let name = camel(field.name);
        match (field.kind, wire) {
            ("m", wire) => {
                let (key, value) = entry(wire.bytes()?)?;
                if let Some(Value::Object(map)) = map.get_mut(&name) {
                    map.insert(key, value.into());
                }
            }
            // Packed.
            ("i" | "l", Wire::Bytes(packed)) => {
                let mut reader = Reader::new(packed);
                while reader.left() > 0 {
                    push(&mut map, &name, number_value(field.kind, reader.varint()?.cast_signed()));
                }
            }
            (kind, wire) => {
                let value = match kind {
                    "s" => wire.str()?.into(),
                    "y" => crate::base64::encode(wire.bytes()?).into(),
                    "i" | "l" => number_value(kind, wire.int()?),
                    "b" => (wire.varint()? != 0).into(),
                    kind => match line(kind, true) {
                        Some(mut names) => {
                            let number = wire.int()? as i32;
                            let name = usize::try_from(number).ok().and_then(|n| names.nth(n));
                            name.map_or(number.into(), Value::from)
                        }
                        None => tree(kind, wire.bytes()?, depth)?,
                    },
                };
                match field.repeated {
                    true => push(&mut map, &name, value),
                    false => drop(map.insert(name, value)),
                }
            }
        }
    }
    Ok(Value::Object(map))
}

fn number_value(kind: &str, number: i64) -> Value {
    // As in every protobuf library: what is too large loses its upper bits.
    if kind == "l" { number.to_string().into() } else { (number as i32).into() }
}

fn push(map: &mut Map<String, Value>, name: &str, value: Value) {
    if let Some(Value::Array(items)) = map.get_mut(name) {
        items.push(value);
    }
}

fn entry(bytes: &[u8]) -> Result<(String, String), protobuf::Error> {
    let (mut reader, mut pair) = (Reader::new(bytes), (String::new(), String::new()));
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => wire.str()?.clone_into(&mut pair.0),
            2 => wire.str()?.clone_into(&mut pair.1),
            _ => {}
        }
    }
    Ok(pair)
}

/// A tree as a message. Names that the message does not have are passed over, as crictl does.
///
/// # Errors
/// What of it does not fit, with its place.
pub fn from_json(message: &str, tree: &Value) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    put(message, tree, &mut out, DEPTH_MAX)?;
    Ok(out)
}

fn put(message: &str, tree: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or("nested too deep")?;
    let Value::Object(map) = tree else { return Err(format!("{message}: not an object")) };
    for field in fields(message).ok_or_else(|| format!("no message {message}"))? {
        let value = map.get(&camel(field.name)).or_else(|| map.get(field.name));
        let at = |what: String| format!("{}: {what}", field.name);
        match (value, field.kind, field.repeated) {
            (None | Some(Value::Null), ..) => {}
            (Some(Value::Object(entries)), "m", _) => {
                for (key, value) in entries {
                    let text = value.as_str().ok_or_else(|| at(format!("{key}: not a string")))?;
                    let mut entry = Vec::new();
                    put_bytes(&mut entry, 1, key.as_bytes());
                    put_bytes(&mut entry, 2, text.as_bytes());
                    put_bytes(out, field.number, &entry);
                }
            }
            (Some(Value::Array(items)), kind @ ("i" | "l"), true) => {
                let mut packed = Vec::new();
                for item in items {
                    put_varint(&mut packed, number(kind, item).map_err(at)?.cast_unsigned());
                }
                put_bytes(out, field.number, &packed);
            }
            (Some(Value::Array(items)), _, true) => {
                for item in items {
                    put_one(field, item, out, depth).map_err(at)?;
                }
            }
            (Some(_), "m", _) => return Err(at("not an object".into())),
            (Some(_), _, true) => return Err(at("not a list".into())),
            (Some(value), _, false) => put_one(field, value, out, depth).map_err(at)?,
        }
    }
    Ok(())
}

fn put_one(field: Field, value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    match (field.kind, value) {
        ("s", Value::String(text)) => put_bytes(out, field.number, text.as_bytes()),
        ("y", Value::String(text)) => {
            put_bytes(out, field.number, &crate::base64::decode(text).ok_or("not base64")?);
        }
        ("b", Value::Bool(truth)) => put_int(out, field.number, i64::from(*truth)),
        ("s" | "y", _) => return Err("not a string".into()),
        ("b", _) => return Err("not a boolean".into()),
        (kind @ ("i" | "l"), value) => put_int(out, field.number, number(kind, value)?),
        (kind, value) => match line(kind, true) {
            Some(mut names) => {
                let by_name = value.as_str().and_then(|name| names.position(|known| known == name));
                let by_name = by_name.and_then(|at| i64::try_from(at).ok());
                let number =
                    value.as_i64().or(by_name).ok_or_else(|| format!("no {kind}: {value}"))?;
                put_int(out, field.number, number);
            }
            None => {
                let mut inner = Vec::new();
                put(kind, value, &mut inner, depth)?;
                put_bytes(out, field.number, &inner);
            }
        },
    }
    Ok(())
}

fn number(kind: &str, value: &Value) -> Result<i64, String> {
    let text = value.as_str().and_then(|text| text.parse().ok());
    let number = value.as_i64().or(text);
    number
        .filter(|number| {
            kind == "l" || i32::try_from(*number).is_ok() || u32::try_from(*number).is_ok()
        })
        .ok_or_else(|| format!("not a number: {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri;
    use crate::message::Message;
    use serde_json::json;

    #[test]
    fn trees_and_messages_are_the_same() {
        let tree = json!({
            "metadata": {"name": "p", "uid": "u", "attempt": 3},
            "log_directory": "/l",
            "portMappings": [{"protocol": "UDP", "container_port": 80, "hostPort": 8080}],
            "labels": {"a": "b"},
            "linux": {"security_context": {"supplemental_groups": [1, "2"], "run_as_user": {"value": 7},
                "namespace_options": {"network": 2}}},
        });
        let bytes = from_json("PodSandboxConfig", &tree).unwrap();
        let read = cri::PodSandboxConfig::decode(&bytes, 100).unwrap();
        assert_eq!((read.metadata.attempt, &*read.log_directory), (3, "/l"));
        assert_eq!(read.port_mappings[0].protocol, cri::Protocol::UDP);
        assert_eq!(read.linux.security_context.supplemental_groups.0, [1, 2]);
        assert_eq!(read.linux.security_context.run_as_user, Some(cri::Int64Value { value: 7 }));
        let shown = to_json("PodSandboxConfig", &read.encode()).unwrap();
        assert_eq!(shown["portMappings"][0]["protocol"], "UDP");
        assert_eq!(shown["linux"]["securityContext"]["supplementalGroups"], json!(["1", "2"]));
        assert_eq!(shown["annotations"], json!({}));
        assert_eq!(from_json("PodSandboxConfig", &shown).unwrap(), {
            let again = cri::PodSandboxConfig::decode(&read.encode(), 100).unwrap();
            let tree = to_json("PodSandboxConfig", &again.encode()).unwrap();
            from_json("PodSandboxConfig", &tree).unwrap()
        });
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_place() {
        for (tree, words) in [
            (json!({"metadata": 1}), "metadata: PodSandboxMetadata: not an object"),
            (json!({"hostname": 1}), "hostname: not a string"),
            (json!({"labels": {"a": 1}}), "labels: a: not a string"),
            (
                json!({"port_mappings": [{"protocol": "X"}]}),
                "port_mappings: protocol: no Protocol: \"X\"",
            ),
            (
                json!({"metadata": {"attempt": 1u64 << 40}}),
                "metadata: attempt: not a number: 1099511627776",
            ),
        ] {
            assert_eq!(from_json("PodSandboxConfig", &tree).unwrap_err(), words);
        }
        assert!(
            to_json("NoSuch", b"").is_err() && to_json("ContainerStatus", b"\x0a\x05a").is_err()
        );
    }

    #[test]
    fn every_kind_of_the_schema_is_known() {
        for message in SCHEMA.lines().filter(|line| !line.starts_with('=')) {
            let name = message.split(' ').next().unwrap();
            for field in fields(name).unwrap() {
                let known = matches!(field.kind, "s" | "y" | "i" | "l" | "b" | "m");
                let named =
                    || line(field.kind, true).is_some() || line(field.kind, false).is_some();
                assert!(known || named(), "{name}.{}: {}", field.name, field.kind);
            }
            assert!(to_json(name, b"").is_ok());
        }
    }
}
