//! What `--kubelet-arg` says, and the configuration file and drop-ins that it may name.
//!
//! Flags and files end in one list of fields of upstream's `KubeletConfiguration`, files first, and are honoured there.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::{Lens, Quantity, Value};
use kubelet::{Config, CpuConfig, CpuSet, CredentialPlugin, Floor, Floors, Reserved, Soft, Taint};
use stdx::{Context, Error, Result};

use super::known::{self, Takes};
use super::{Args, Component, bool_of, credential_providers, gates};

/// The fields that were given, and what is no field.
#[derive(Debug, Clone, Default)]
pub(crate) struct KubeletArgs {
    fields: Vec<(String, Value)>,
    labels: Vec<(String, String)>,
    /// `cloud-provider=external`
    external_cloud: bool,
    /// `--root-dir`.
    pub(crate) root: Option<PathBuf>,
    credential_plugins: Vec<CredentialPlugin>,
}

/// Flags that say what a field does and that are honoured.
const FLAGS: &str = "max-pods maxPods
pod-max-pids podPidsLimit
image-gc-high-threshold imageGCHighThresholdPercent
image-gc-low-threshold imageGCLowThresholdPercent
minimum-image-ttl-duration imageMinimumGCAge
container-log-max-size containerLogMaxSize
container-log-max-files containerLogMaxFiles
node-status-update-frequency nodeStatusUpdateFrequency
node-status-max-images nodeStatusMaxImages
eviction-hard evictionHard
eviction-soft evictionSoft
eviction-soft-grace-period evictionSoftGracePeriod
eviction-pressure-transition-period evictionPressureTransitionPeriod
eviction-max-pod-grace-period evictionMaxPodGracePeriod
kube-reserved kubeReserved
system-reserved systemReserved
allowed-unsafe-sysctls allowedUnsafeSysctls
serialize-image-pulls serializeImagePulls
cluster-dns clusterDNS
cluster-domain clusterDomain
resolv-conf resolvConf
healthz-port healthzPort
healthz-bind-address healthzBindAddress
pod-manifest-path staticPodPath
manifest-url staticPodURL
manifest-url-header staticPodURLHeader
http-check-frequency httpCheckFrequency
register-with-taints registerWithTaints
register-node registerNode
provider-id providerID
seccomp-default seccompDefault
protect-kernel-defaults protectKernelDefaults
fail-swap-on failSwapOn
cpu-manager-policy cpuManagerPolicy
cpu-manager-policy-options cpuManagerPolicyOptions
cpu-manager-reconcile-period cpuManagerReconcilePeriod
reserved-cpus reservedSystemCPUs";

/// Drop-ins there may be.
const FILES_MAX: usize = 256;

impl KubeletArgs {
    /// # Errors
    /// For what upstream refuses, and files that cannot be read.
    pub(crate) fn read(args: &[String], idle: &mut Vec<String>) -> Result<KubeletArgs> {
        let mut args = Args::read(Component::Kubelet, args)?;
        let mut read = KubeletArgs::default();
        if let Some(path) = args.text("config").filter(|path| !path.is_empty()) {
            read.file(Path::new(&path))
                .context(|| format!("kubelet: failed to load kubelet config file, path: {path}"))?;
        }
        if let Some(path) = args.text("config-dir").filter(|path| !path.is_empty()) {
            read.directory(Path::new(&path))
                .context(|| format!("kubelet: failed to merge kubelet configs, path: {path}"))?;
        }
        for (flag, field) in FLAGS.lines().filter_map(|line| line.split_once(' ')) {
            if let Some(value) = args.text(flag) {
                read.set(
                    field,
                    flag_value(field, &value).context(|| format!("kubelet: --{flag}"))?,
                );
            }
        }
        for label in args.list("node-labels").unwrap_or_default() {
            crate::settings::values::node_label(&label)
                .context(|| format!("kubelet: --node-labels {label:?}"))?;
            let (key, value) = label.split_once('=').unwrap_or((&label, ""));
            read.labels.push((key.to_owned(), value.to_owned()));
        }
        match args.text("cloud-provider").as_deref() {
            None | Some("") => {}
            Some("external") => read.external_cloud = true,
            Some(other) => {
                return Err(Error::new(format!(
                    "kubelet: unknown cloud provider {other:?}: there is \"external\" only"
                )));
            }
        }
        read.root = args.text("root-dir").filter(|path| !path.is_empty()).map(PathBuf::from);
        let providers = args.text("image-credential-provider-config").unwrap_or_default();
        let programs = args.text("image-credential-provider-bin-dir").unwrap_or_default();
        if !providers.is_empty() || !programs.is_empty() {
            read.credential_plugins = credential_providers::read(&providers, &programs)
                .context(|| "kubelet: Failed to register CRI auth plugins")?;
        }
        // Whether they mean anything is found on a configuration of nobody's.
        let mut nobody = Config::new("", "", "");
        let ignored = read.apply(&mut nobody)?;
        idle.extend(args.idle());
        if !ignored.is_empty() {
            idle.push(format!("fields of the kubelet's configuration: {}", ignored.join(", ")));
        }
        Ok(read)
    }

    fn set(&mut self, field: &str, value: Value) {
        self.fields.retain(|(name, _)| name != field);
        self.fields.push((field.to_owned(), value));
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let tree = super::configuration(path)?;
        match (tree.str("apiVersion"), tree.str("kind")) {
            ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration") => {}
            (version, kind) => {
                return Err(Error::new(format!(
                    "no kind {kind:?} is registered for version {version:?} in scheme"
                )));
            }
        }
        self.fields_of(&tree, "", 0)
    }

    /// Drop-ins end in `.conf` and count in alphabetical order.
    fn directory(&mut self, path: &Path) -> Result<()> {
        let files: Vec<PathBuf> = rt::fs::list_dir(path)?;
        let files = files.iter().filter(|file| file.extension().is_some_and(|end| end == "conf"));
        for file in files.take(FILES_MAX) {
            self.file(file).context(|| file.display().to_string())?;
        }
        Ok(())
    }

    /// The fields of a mapping; those of inner ones are named by their path.
    fn fields_of(&mut self, tree: &Value, prefix: &str, depth: usize) -> Result<()> {
        // No field is deeper than this.
        if depth > 3 {
            return Err(Error::new(format!("strict decoding error: unknown field {prefix:?}")));
        }
        for (name, value) in tree.as_object().into_iter().flatten() {
            if depth == 0 && matches!(name.as_str(), "apiVersion" | "kind") || value.is_null() {
                continue;
            }
            let path = match prefix {
                "" => name.clone(),
                prefix => format!("{prefix}.{name}"),
            };
            match known::find(b'F', &path) {
                Some(takes) => {
                    if !fits(takes, value) {
                        return Err(Error::new(format!(
                            "json: cannot unmarshal {value} into Go struct field KubeletConfiguration.{path}"
                        )));
                    }
                    let value = match (takes, self.fields.iter().find(|(name, _)| *name == path)) {
                        // Maps of several files add up.
                        (Takes::Map, Some((_, old))) => merged(old, value),
                        _ => value.clone(),
                    };
                    self.set(&path, value);
                }
                None if value.is_object() && INNER.contains(&path.as_str()) => {
                    self.fields_of(value, &path, depth + 1)?;
                }
                None => {
                    return Err(Error::new(format!(
                        "strict decoding error: unknown field {path:?}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Puts what is honoured into `config`; gives the names of the rest.
    ///
    /// # Errors
    /// For values that upstream refuses.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<Vec<String>> {
        let mut soft =
            Soft { floors: Floors::NONE, grace: [Duration::MAX; 4], pod_grace_max_secs: 0 };
        let mut ignored = Vec::new();
        for (name, value) in &self.fields {
            if !scalar(config, name, value)?
                && !compound(config, &mut soft, name, value)?
                && !static_url(config, name, value)?
            {
                ignored.push(name.clone());
            }
        }
        if soft.floors != Floors::NONE {
            config.eviction_soft = Some(soft);
        }
        let find = |name: &str| self.fields.iter().find(|(field, _)| field == name);
        // What is checked together; in the order of upstream.
        if config.image_gc_low_percent >= config.image_gc_high_percent {
            return Err(invalid(format!(
                "imageGCLowThresholdPercent (--image-gc-low-threshold) {} must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) {}",
                config.image_gc_low_percent, config.image_gc_high_percent
            )));
        }
        if let Some(age) = config.image_gc_max_age.filter(|age| *age <= config.image_gc_min_age) {
            return Err(invalid(format!(
                "imageMaximumGCAge {} must be greater than imageMinimumGCAge {}",
                go(age),
                go(config.image_gc_min_age)
            )));
        }
        let serial = find("serializeImagePulls").and_then(|(_, value)| value.as_bool());
        let most = find("maxParallelImagePulls").and_then(|(_, value)| value.as_u64());
        if most.is_some_and(|most| most > 1) && serial != Some(false) {
            return Err(invalid("maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false".into()));
        }
        let most = most.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        config.pulls_max = if serial == Some(true) { Some(1) } else { most };
        cpus(config)?;
        config.credential_plugins.clone_from(&self.credential_plugins);
        config.labels.extend(self.labels.iter().cloned());
        // With k3s's own cloud controller, which is then what is meant, nothing is left to wait for.
        config.external_cloud &= self.external_cloud;
        Ok(ignored)
    }
}

/// Mappings in which fields are looked at one by one.
const INNER: [&str; 8] = [
    "authentication",
    "authentication.x509",
    "authentication.webhook",
    "authentication.anonymous",
    "authorization",
    "authorization.webhook",
    "memorySwap",
    "crashLoopBackOff",
];

fn invalid(why: String) -> Error {
    Error::new(format!("kubelet: invalid configuration: {why}"))
}

fn fits(takes: Takes, value: &Value) -> bool {
    match takes {
        Takes::Bool => value.is_boolean(),
        Takes::Int => value.is_i64(),
        Takes::Int32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Takes::Float => value.is_number(),
        Takes::Duration => value.as_str().is_some_and(|text| duration(text).is_some()),
        Takes::List => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        Takes::Map => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
        _ => true,
    }
}

fn merged(old: &Value, new: &Value) -> Value {
    let mut all = old.as_object().cloned().unwrap_or_default();
    for (name, value) in new.as_object().into_iter().flatten() {
        all.insert(name.clone(), value.clone());
    }
    Value::Object(all)
}

/// The value of a flag as its field has it. It is known to parse.
fn flag_value(field: &str, value: &str) -> Result<Value> {
    let items = || value.split(',').map(str::trim).filter(|item| !item.is_empty());
    Ok(match known::find(b'F', field) {
        Some(Takes::Bool) => bool_of(value).unwrap_or_default().into(),
        Some(Takes::Int | Takes::Int32) => super::int_of(value).unwrap_or_default().into(),
        Some(Takes::List) => items().map(Value::from).collect(),
        Some(Takes::Map) => {
            let pairs = items().filter_map(|pair| pair.split_once(['=', '<']));
            pairs.map(|(name, value)| (name.trim().to_owned(), Value::from(value.trim()))).collect()
        }
        _ if field == "registerWithTaints" => {
            let taints: Result<Vec<Value>> = items()
                .map(|text| {
                    let taint = Taint::parse(text)?;
                    Ok(api::json!({"key": taint.key, "value": taint.value, "effect": taint.effect}))
                })
                .collect();
            taints?.into()
        }
        _ if field == "staticPodURLHeader" => {
            let mut headers = api::json!({});
            for (name, value) in items().filter_map(|pair| pair.split_once(':')) {
                match headers.get_mut(name.trim()).and_then(Value::as_array_mut) {
                    Some(values) => values.push(value.into()),
                    None => headers[name.trim()] = api::json!([value]),
                }
            }
            headers
        }
        _ => value.into(),
    })
}

fn duration(text: &str) -> Option<Duration> {
    let nanos = stdx::duration::parse(text)?;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

/// As Go prints it.
fn go(duration: Duration) -> String {
    stdx::duration::format(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// Takes a field of one value; false if it is none that is honoured.
fn scalar(config: &mut Config, name: &str, value: &Value) -> Result<bool> {
    let number = value.as_i64().unwrap_or(0);
    let size = || usize::try_from(number).ok();
    let percent = |flag: &str| {
        u64::try_from(number).ok().filter(|n| *n <= 100).ok_or_else(|| {
            invalid(format!("{name} (--{flag}) {number} must be between 0 and 100, inclusive"))
        })
    };
    let text = value.as_str().unwrap_or("");
    let lasts = duration(text).unwrap_or_default();
    match name {
        "maxPods" => {
            config.pods_max = size().ok_or_else(|| {
                invalid(format!("maxPods (--max-pods) {number} must not be a negative number"))
            })?;
        }
        "podPidsLimit" => config.pod_pids_max = number.max(0),
        "imageGCHighThresholdPercent" => {
            config.image_gc_high_percent = percent("image-gc-high-threshold")?;
        }
        "imageGCLowThresholdPercent" => {
            config.image_gc_low_percent = percent("image-gc-low-threshold")?;
        }
        "imageMinimumGCAge" => config.image_gc_min_age = lasts,
        "imageMaximumGCAge" => config.image_gc_max_age = Some(lasts).filter(|age| !age.is_zero()),
        "containerLogMaxSize" => {
            let bytes = text.parse::<Quantity>().ok().and_then(|n| u64::try_from(n.units()).ok());
            config.container_log_max_bytes = bytes.filter(|n| *n > 0).ok_or_else(|| {
                Error::new(format!("kubelet: invalid container log max size {text:?}"))
            })?;
        }
        "containerLogMaxFiles" => {
            config.container_log_files_max = size().filter(|n| *n > 1).ok_or_else(|| {
                Error::new(format!("kubelet: invalid MaxFiles {number}, must be > 1"))
            })?;
        }
        // Unless the other is given, which says how often nothing new is told.
        "nodeStatusReportFrequency" | "nodeStatusUpdateFrequency" if !lasts.is_zero() => {
            let is_report = name == "nodeStatusReportFrequency";
            if is_report || config.status_report_every == Duration::from_secs(300) {
                config.status_report_every = lasts;
            }
        }
        "nodeLeaseDurationSeconds" => {
            config.lease_secs = u32::try_from(number)
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| invalid("nodeLeaseDurationSeconds must be greater than 0".into()))?;
        }
        "nodeStatusMaxImages" => {
            if number < -1 {
                return Err(invalid(format!(
                    "nodeStatusMaxImages (--node-status-max-images) {number} must be -1 or greater"
                )));
            }
            config.images_shown_max = size().unwrap_or(usize::MAX);
        }
        "maxParallelImagePulls" => {
            if number < 1 {
                return Err(invalid(format!(
                    "maxParallelImagePulls {number} must be a positive number"
                )));
            }
        }
        "evictionPressureTransitionPeriod" => config.pressure_lasts = lasts,
        "clusterDomain" => text.trim_matches('.').clone_into(&mut config.cluster_domain),
        "resolvConf" => config.resolv_conf = text.into(),
        "staticPodPath" => config.manifest_directory = text.into(),
        "healthzPort" => {
            let port = u16::try_from(number).map_err(|_| {
                invalid(format!(
                    "healthzPort (--healthz-port) {number} must be between 1 and 65535, inclusive"
                ))
            })?;
            // 0 is nowhere.
            let ip = config.healthz.map_or(IpAddr::from([127, 0, 0, 1]), |at| at.ip());
            config.healthz = (port != 0).then(|| SocketAddr::new(ip, port));
        }
        "healthzBindAddress" => {
            let ip: IpAddr =
                text.parse().context(|| format!("kubelet: failed to parse IP: {text:?}"))?;
            if let Some(healthz) = &mut config.healthz {
                healthz.set_ip(ip);
            }
        }
        "registerNode" => config.registers = value.as_bool() != Some(false),
        "protectKernelDefaults" => config.protects_kernel = value.as_bool() == Some(true),
        "providerID" => text.clone_into(&mut config.provider_id),
        "seccompDefault" => config.seccomp_default = value.as_bool() == Some(true),
        "failSwapOn" => {
            if value.as_bool() == Some(true) && swaps() {
                return Err(Error::new(
                    "kubelet: running with swap on is not supported, please disable swap or set --fail-swap-on flag to false",
                ));
            }
        }
        "cpuManagerPolicy" => match text {
            "none" | "" => config.cpus.is_static = false,
            "static" => config.cpus.is_static = true,
            _ => return Err(Error::new(format!("kubelet: unknown policy: {text:?}"))),
        },
        // A shorter one would be no sooner: changes are followed at once.
        "cpuManagerReconcilePeriod" if !lasts.is_zero() => {
            config.cpus.reconcile_every = lasts.max(Duration::from_secs(1));
        }
        "cpuManagerReconcilePeriod" => {}
        "reservedSystemCPUs" => {
            config.cpus.reserved = CpuSet::parse(text)
                .context(|| format!("kubelet: unable to parse reserved-cpus list: {text:?}"))?;
        }
        // It is looked at with the other.
        "serializeImagePulls" => {}
        _ => return Ok(false),
    }
    Ok(true)
}

fn swaps() -> bool {
    rt::fs::read_text(Path::new("/proc/swaps")).is_ok_and(|text| text.lines().count() > 1)
}

/// Takes a field of several values; false if it is none that is honoured.
fn compound(config: &mut Config, soft: &mut Soft, name: &str, value: &Value) -> Result<bool> {
    let pairs = || {
        let map = value.as_object().into_iter().flatten();
        map.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or("")))
    };
    let items = || value.as_array().into_iter().flatten().filter_map(Value::as_str);
    match name {
        "evictionHard" => config.eviction_hard = floors(pairs())?,
        "evictionSoft" => soft.floors = floors(pairs())?,
        "evictionSoftGracePeriod" => {
            for (signal, text) in pairs() {
                let grace = duration(text).filter(|grace| !grace.is_zero());
                let grace = grace.ok_or_else(|| {
                    Error::new(format!("kubelet: invalid eviction grace period specified: {text}"))
                })?;
                soft.grace[place(signal)?] = grace;
            }
        }
        "evictionMaxPodGracePeriod" => soft.pod_grace_max_secs = value.as_i64().unwrap_or(0).max(0),
        "kubeReserved" | "systemReserved" => {
            for (resource, text) in pairs() {
                reserve(&mut config.reserved, resource, text)?;
            }
        }
        "cpuManagerPolicyOptions" => {
            for (option, text) in pairs() {
                config.cpus.whole_cores_only = cpu_option(option, text)?;
            }
        }
        "allowedUnsafeSysctls" => config.unsafe_sysctls = items().map(str::to_owned).collect(),
        "clusterDNS" => {
            let addresses: std::result::Result<Vec<IpAddr>, _> = items().map(str::parse).collect();
            config.cluster_dns = addresses.context(|| format!("kubelet: clusterDNS {value}"))?;
        }
        "registerWithTaints" => {
            for taint in value.as_array().into_iter().flatten() {
                let part = |field: &str| taint.str(field).to_owned();
                let text = format!("{}={}:{}", part("key"), part("value"), part("effect"));
                let taint = Taint::parse(&text)
                    .map_err(|_| Error::new(format!("kubelet: invalid taint: {text}")))?;
                config.taints.push(taint);
            }
        }
        "featureGates" => {
            let map = value.as_object().into_iter().flatten();
            let pairs: Vec<String> = map.map(|(gate, on)| format!("{gate}={on}")).collect();
            let idle = gates::idle(&pairs.join(","))
                .map_err(|why| Error::new(format!("kubelet: {why}")))?;
            return Ok(idle.is_empty());
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Takes a field about the URL of static pods; false if it is none.
fn static_url(config: &mut Config, name: &str, value: &Value) -> Result<bool> {
    let text = value.as_str().unwrap_or("");
    let of = &mut config.static_url;
    match name {
        "staticPodURL" => text.clone_into(&mut of.url),
        "staticPodURLHeader" => {
            of.headers = headers(value).context(|| "kubelet: staticPodURLHeader")?;
        }
        // None is upstream's default.
        "httpCheckFrequency" => {
            if let Some(lasts) = duration(text).filter(|lasts| !lasts.is_zero()) {
                of.every = lasts.max(Duration::from_secs(1));
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Names and values of header fields; a name may have several values.
fn headers(tree: &Value) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (name, values) in tree.as_object().into_iter().flatten() {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Error::new(format!("invalid header field name {name:?}")));
        }
        for value in values.as_array().into_iter().flatten().filter_map(Value::as_str) {
            if value.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
                return Err(Error::new(format!("invalid header field value for {name:?}")));
            }
            all.push((name.clone(), value.to_owned()));
        }
    }
    Ok(all)
}

/// The one option that there is, and whether it is on.
fn cpu_option(option: &str, text: &str) -> Result<bool> {
    let refuse = |why: String| Err(Error::new(format!("kubelet: {why}")));
    match option {
        "full-pcpus-only" => bool_of(text).context(|| {
            format!(
                "kubelet: bad value for option {option:?}: strconv.ParseBool: parsing {text:?}: invalid syntax"
            )
        }),
        "distribute-cpus-across-numa"
        | "align-by-socket"
        | "distribute-cpus-across-cores"
        | "strict-cpu-reservation"
        | "prefer-align-cpus-by-uncorecache" => refuse(format!(
            "CPU Manager Policy Alpha-level Options not enabled, but option {option:?} provided"
        )),
        _ => refuse(format!("unknown CPU Manager Policy option: {option:?}")),
    }
}

/// What is to be said of CPUs once all of it is known.
fn cpus(config: &mut Config) -> Result<()> {
    if !config.cpus.reserved.is_empty() {
        // In place of what kube-reserved and system-reserved say.
        config.reserved.milli_cpu = config.cpus.reserved.len() as u64 * 1000;
    }
    let CpuConfig { is_static, whole_cores_only, .. } = config.cpus;
    if whole_cores_only && !is_static {
        return Err(Error::new(
            "kubelet: None policy: received unsupported options=map[full-pcpus-only:true]",
        ));
    }
    if is_static && config.reserved.milli_cpu == 0 {
        return Err(Error::new(
            "kubelet: [cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero",
        ));
    }
    Ok(())
}

/// Where a signal stands in [`Floors`].
fn place(signal: &str) -> Result<usize> {
    match signal {
        "memory.available" => Ok(0),
        "nodefs.available" | "imagefs.available" | "containerfs.available" => Ok(1),
        "nodefs.inodesFree" | "imagefs.inodesFree" | "containerfs.inodesFree" => Ok(2),
        "pid.available" => Ok(3),
        _ => Err(Error::new(format!("kubelet: unknown eviction signal {signal}"))),
    }
}

/// The floors of a map; what is not in it is not looked at. Of the file systems, which are one here, the highest counts.
fn floors<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Floors> {
    let mut all = [Floor::NONE; 4];
    for (signal, text) in pairs {
        let refuse = |why: &str| Error::new(format!("kubelet: eviction threshold {signal} {why}"));
        let floor = match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 =
                    percent.parse().context(|| format!("kubelet: eviction threshold {signal}"))?;
                if percent < 0.0 {
                    return Err(refuse(&format!("must be positive: {text}")));
                }
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is bounded"
                )]
                Floor::Share((percent.min(100.0) * 100.0) as u64)
            }
            None => {
                let amount =
                    text.parse::<Quantity>().ok().and_then(|n| u64::try_from(n.units()).ok());
                Floor::Amount(amount.ok_or_else(|| refuse(&format!("must be positive: {text}")))?)
            }
        };
        let slot = &mut all[place(signal)?];
        let rank = |floor: Floor| match floor {
            Floor::Share(share) => share,
            _ => 0,
        };
        if *slot == Floor::NONE || rank(floor) > rank(*slot) {
            *slot = floor;
        }
    }
    let [memory, disk, inodes, pids] = all;
    Ok(Floors { memory, disk, inodes, pids })
}

fn reserve(reserved: &mut Reserved, resource: &str, text: &str) -> Result<()> {
    let quantity: Quantity = text.parse().ok().context(|| {
        format!("kubelet: failed to parse quantity {text:?} for {resource:?} resource")
    })?;
    let amount = if resource == "cpu" { quantity.milli() } else { quantity.units() };
    let amount = u64::try_from(amount).map_err(|_| {
        Error::new(format!(
            "kubelet: resource quantity for {resource:?} cannot be negative: {text}"
        ))
    })?;
    let slot = match resource {
        "cpu" => &mut reserved.milli_cpu,
        "memory" => &mut reserved.memory_bytes,
        "ephemeral-storage" => &mut reserved.disk_bytes,
        // The node promises no process ids.
        "pid" => return Ok(()),
        _ => {
            return Err(Error::new(format!("kubelet: cannot reserve {resource:?} resource")));
        }
    };
    *slot = slot.saturating_add(amount);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &str) -> Result<(Config, String), String> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let mut idle = Vec::new();
        let read = KubeletArgs::read(&args, &mut idle).map_err(|error| error.to_string())?;
        let mut config = Config::new("n", "/a", "v");
        read.apply(&mut config).map_err(|error| error.to_string())?;
        Ok((config, idle.join("; ")))
    }

    #[test]
    fn flags_become_configuration() {
        let (config, idle) = read("max-pods=20 pod-max-pids=-1 eviction-hard=memory.available<200Mi,nodefs.available<12.5%,imagefs.available<15% eviction-soft=memory.available<300Mi eviction-soft-grace-period=memory.available=1m eviction-max-pod-grace-period=7 kube-reserved=cpu=100m,memory=64Mi system-reserved=cpu=200m node-labels=a=b,c=d register-with-taints=k=v:NoSchedule allowed-unsafe-sysctls=kernel.msg* container-log-max-size=1Mi node-status-update-frequency=30s cluster-dns=10.0.0.1 serialize-image-pulls=true seccomp-default oom-score-adj=-999").unwrap();
        assert_eq!((config.pods_max, config.pod_pids_max, config.pulls_max), (20, 0, Some(1)));
        let hard = config.eviction_hard;
        assert_eq!((hard.memory, hard.disk), (Floor::Amount(200 << 20), Floor::Share(1500)));
        assert_eq!((hard.inodes, hard.pids), (Floor::NONE, Floor::NONE), "none but these");
        let soft = config.eviction_soft.unwrap();
        assert_eq!((soft.grace[0], soft.pod_grace_max_secs), (Duration::from_secs(60), 7));
        assert_eq!((config.reserved.milli_cpu, config.reserved.memory_bytes), (300, 64 << 20));
        assert_eq!(config.labels.len() + config.taints.len(), 3);
        assert_eq!(config.container_log_max_bytes, 1 << 20);
        assert_eq!(config.status_report_every, Duration::from_secs(30));
        assert_eq!(config.cluster_dns, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(config.seccomp_default && config.registers);
        assert_eq!(idle, "--kubelet-arg: oom-score-adj");
        assert_eq!(config.provider_id, "k3s://n");
        let (config, idle) = read("cloud-provider=external provider-id=cloud://7").unwrap();
        assert_eq!((&*config.provider_id, &*idle), ("cloud://7", ""));
        assert!(!config.external_cloud, "it is for the server to say that there is no other");
    }

    #[test]
    fn the_cpu_manager_is_set() {
        let (config, idle) = read("cpu-manager-policy=static cpu-manager-policy-options=full-pcpus-only=true cpu-manager-reconcile-period=3s reserved-cpus=0-1 kube-reserved=cpu=100m").unwrap();
        let cpus = &config.cpus;
        assert_eq!((cpus.is_static, cpus.whole_cores_only, &*idle), (true, true, ""));
        assert_eq!((cpus.reconcile_every, cpus.reserved.len()), (Duration::from_secs(3), 2));
        assert_eq!(config.reserved.milli_cpu, 2000, "instead of what else is reserved");
        let (config, _) = read("cpu-manager-reconcile-period=0s").unwrap();
        assert_eq!((config.cpus.is_static, config.cpus.reconcile_every.as_secs()), (false, 10));
    }

    #[test]
    fn wrong_values_are_told_in_upstreams_words() {
        for (args, words) in [
            (
                "cloud-provider=aws",
                "kubelet: unknown cloud provider \"aws\": there is \"external\" only",
            ),
            (
                "max-pods=-1",
                "kubelet: invalid configuration: maxPods (--max-pods) -1 must not be a negative number",
            ),
            (
                "image-gc-high-threshold=101",
                "kubelet: invalid configuration: imageGCHighThresholdPercent (--image-gc-high-threshold) 101 must be between 0 and 100, inclusive",
            ),
            (
                "image-gc-low-threshold=85",
                "kubelet: invalid configuration: imageGCLowThresholdPercent (--image-gc-low-threshold) 85 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 85",
            ),
            ("eviction-hard=mem<1", "kubelet: unknown eviction signal mem"),
            ("cpu-manager-policy=dynamic", "kubelet: unknown policy: \"dynamic\""),
            (
                "cpu-manager-policy=static",
                "kubelet: [cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero",
            ),
            (
                "cpu-manager-policy-options=full-pcpus-only=true",
                "kubelet: None policy: received unsupported options=map[full-pcpus-only:true]",
            ),
            (
                "cpu-manager-policy=static cpu-manager-policy-options=align-by-socket=true",
                "kubelet: CPU Manager Policy Alpha-level Options not enabled, but option \"align-by-socket\" provided",
            ),
            (
                "cpu-manager-policy=static cpu-manager-policy-options=fast=true",
                "kubelet: unknown CPU Manager Policy option: \"fast\"",
            ),
            ("reserved-cpus=3-1", "kubelet: unable to parse reserved-cpus list: \"3-1\""),
            ("kube-reserved=gpu=1", "kubelet: cannot reserve \"gpu\" resource"),
        ] {
            assert_eq!(read(args).err().unwrap_or_default(), words);
        }
    }

    #[test]
    fn files_go_before_flags_and_are_strict() {
        let directory = std::env::temp_dir().join(format!("k3rs-kubelet-{}", std::process::id()));
        let drop_ins = directory.join("d");
        std::fs::create_dir_all(&drop_ins).unwrap();
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let write = |name: &str, text: &str| {
            std::fs::write(directory.join(name), format!("{head}{text}")).unwrap();
        };
        let args = |more: &str| {
            let at = directory.display();
            read(&format!("config={at}/main config-dir={at}/d {more}"))
        };
        write("main", "maxPods: 10\nkubeReserved: {cpu: 1}\npodPidsLimit: 5\n");
        assert!(args("").unwrap_err().contains(
            "cannot unmarshal {\"cpu\":1} into Go struct field KubeletConfiguration.kubeReserved"
        ));
        write(
            "main",
            "maxPods: 10\nkubeReserved: {cpu: '1'}\npodPidsLimit: 5\nnodeLeaseDurationSeconds: 8\nsyncFrequency: 1m\nauthentication: {anonymous: {enabled: false}}\n",
        );
        write(
            "d/10.conf",
            "maxPods: 11\nkubeReserved: {memory: 1Mi}\nfeatureGates: {NodeSwap: true}\n",
        );
        write("d/20.ignored", "nonsense: 1\n");
        let (config, idle) = args("pod-max-pids=6").unwrap();
        assert_eq!((config.pods_max, config.pod_pids_max, config.lease_secs), (11, 6, 8));
        assert_eq!((config.reserved.milli_cpu, config.reserved.memory_bytes), (1000, 1 << 20));
        assert_eq!(
            idle,
            "fields of the kubelet's configuration: authentication.anonymous.enabled, syncFrequency"
        );
        write("main", "imageMaximumGCAge: 168h\nprotectKernelDefaults: true\n");
        let (config, idle) = args("").unwrap();
        assert_eq!(config.image_gc_max_age, Some(Duration::from_secs(168 * 3600)));
        assert!(config.protects_kernel && idle.is_empty(), "{idle}");
        assert!(!args("protect-kernel-defaults=false").unwrap().0.protects_kernel);
        write("main", "imageMaximumGCAge: 1h\nimageMinimumGCAge: 1h\n");
        assert_eq!(
            args("").unwrap_err(),
            "kubelet: invalid configuration: imageMaximumGCAge 1h0m0s must be greater than imageMinimumGCAge 1h0m0s"
        );
        write("main", "maxPod: 10\n");
        assert!(args("").unwrap_err().ends_with("strict decoding error: unknown field \"maxPod\""));
        write("main", "authentication: {anonymous: {allowed: true}}\n");
        assert!(
            args("").unwrap_err().ends_with("unknown field \"authentication.anonymous.allowed\"")
        );
        std::fs::write(directory.join("main"), "kind: Pod\napiVersion: v1\n").unwrap();
        assert!(
            args("")
                .unwrap_err()
                .ends_with("no kind \"Pod\" is registered for version \"v1\" in scheme")
        );
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn every_flag_and_field_is_upstreams() {
        for (flag, field) in FLAGS.lines().filter_map(|line| line.split_once(' ')) {
            assert!(
                known::find(b'K', flag).is_some() && known::find(b'F', field).is_some(),
                "{flag}"
            );
        }
    }
}
