//! What the kubelet is told at start: who the node is, where things lie, and its bounds.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use podplan::CpuSet;

use crate::floors::{Floors, Reserved, Soft};

/// How the CPU manager is set.
#[derive(Clone, Debug)]
pub struct CpuConfig {
    /// Policy `static`; without it the policy is `none`.
    pub is_static: bool,
    /// The option `full-pcpus-only`.
    pub whole_cores_only: bool,
    pub reconcile_every: Duration,
    /// CPUs that no container gets alone; of none, as many as are reserved.
    pub reserved: CpuSet,
}

impl Default for CpuConfig {
    fn default() -> CpuConfig {
        CpuConfig {
            is_static: false,
            whole_cores_only: false,
            reconcile_every: Duration::from_secs(10),
            reserved: CpuSet::default(),
        }
    }
}

/// A program that is asked for credentials of images (`CredentialProvider` of kubelet.config.k8s.io/v1).
#[derive(Clone, Debug)]
pub struct CredentialPlugin {
    pub name: String,
    pub program: PathBuf,
    /// The version of the protocol that it speaks: `credentialprovider.kubelet.k8s.io/v1`.
    pub api_version: String,
    /// `matchImages`.
    pub images: Vec<String>,
    /// For how long an answer is remembered that does not say so itself.
    pub cache: Duration,
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
}

/// Where manifests of static pods are, beside the directory.
#[derive(Clone, Debug)]
pub struct StaticUrlConfig {
    /// "" for nowhere.
    pub url: String,
    /// What it is asked with; not told to where it leads.
    pub headers: Vec<(String, String)>,
    pub every: Duration,
}

impl Default for StaticUrlConfig {
    fn default() -> StaticUrlConfig {
        let every = Duration::from_secs(20);
        StaticUrlConfig { url: String::new(), headers: Vec::new(), every }
    }
}

/// A taint the node registers with: `key=value:effect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

impl Taint {
    /// Parses `key=value:Effect`, `key:Effect`.
    pub fn parse(text: &str) -> stdx::Result<Taint> {
        let refuse = || stdx::Error::new(format!("taint {text:?}: want key=value:effect"));
        let (left, effect) = text.rsplit_once(':').ok_or_else(refuse)?;
        if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) || left.is_empty() {
            return Err(refuse());
        }
        let (key, value) = left.split_once('=').unwrap_or((left, ""));
        Ok(Taint { key: key.into(), value: value.into(), effect: effect.into() })
    }
}

/// The HTTPS server on :10250.
#[derive(Clone)]
pub struct Serving {
    pub address: SocketAddr,
    /// Serves the kubelet's certificate; asks clients for theirs against the client CA, but lets
    /// them in without (a bearer token is then reviewed).
    pub tls: Arc<http::tls::ServerConfig>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Serving({})", self.address)
    }
}

/// Everything the kubelet does not find out by itself. `Config::new` fills in the usual bounds.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// The machine's own name, which pods on its network see.
    pub hostname: String,
    /// InternalIP addresses at the start, the primary one first; see `Kubelet::set_node_ips`.
    pub node_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    /// Extra labels (`--node-label`) and taints (`--node-taint`) of the registration.
    pub labels: Vec<(String, String)>,
    pub taints: Vec<Taint>,
    /// Extra annotations of the registration (k3s.io/node-args, ...).
    pub annotations: Vec<(String, String)>,
    /// `stdx::version::VERSION`: what the node shows as kubeletVersion, and after `k3rs://`.
    pub version: String,

    /// `<data-dir>/agent`; pods live in `pods/<uid>` below it.
    pub agent_directory: PathBuf,
    /// Where programs beside the kubelet look for its sockets: `/var/lib/kubelet`, as everywhere.
    pub root_directory: PathBuf,
    /// Volumes made from the API (secrets, tokens, config maps): in memory, made again after a reboot.
    pub volatile_directory: PathBuf,
    /// What the machine lacks: a warning event of the Node each, at start.
    pub notices: Vec<String>,
    /// The cgroup below which pods' cgroups are.
    pub cgroup_root: String,
    /// Who may list volumes and take their `k3rs.io/local-path` finalizer away once the directory is
    /// gone; `None` is the kubelet's own identity, which usually may not.
    pub local_path_client: Option<client::Client>,
    /// Static pod manifests: `<data-dir>/agent/pod-manifests`.
    pub manifest_directory: PathBuf,
    pub static_url: StaticUrlConfig,
    /// Container logs, `/var/log/pods` where the root is writable.
    pub log_directory: PathBuf,
    /// The host's resolv.conf for `dnsPolicy: Default` and as upstream of `ClusterFirst` options.
    pub resolv_conf: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,

    pub serving: Option<Serving>,
    /// `/healthz` in plain text; normally 127.0.0.1:10248.
    pub healthz: Option<SocketAddr>,

    pub pods_max: usize,
    pub image_gc_high_percent: u64,
    pub image_gc_low_percent: u64,
    pub image_gc_min_age: Duration,
    /// Images that nothing used for so long go, however much room there is.
    pub image_gc_max_age: Option<Duration>,
    pub container_log_max_bytes: u64,
    pub container_log_files_max: usize,
    /// Evict below these at once, and below others after a while.
    pub eviction_hard: Floors,
    pub eviction_soft: Option<Soft>,
    /// How long a pressure is shown after it went.
    pub pressure_lasts: Duration,
    /// Kept from pods beside the hard floors.
    pub reserved: Reserved,
    /// The Node is written at least this often.
    pub status_report_every: Duration,
    /// The Lease's, which is renewed four times as often. Seconds, not 0.
    pub lease_secs: u32,
    /// Images that the Node tells of.
    pub images_shown_max: usize,
    /// Sysctls beside the safe ones that pods may set; `*` at the end is for all that begin so.
    pub unsafe_sysctls: Vec<String>,
    /// Images that are pulled at the same time; `None`: as many as are wanted.
    pub pulls_max: Option<usize>,
    /// Programs that know credentials of images.
    pub credential_plugins: Vec<CredentialPlugin>,
    /// Who says nothing of seccomp gets `RuntimeDefault`.
    pub seccomp_default: bool,
    /// The node starts only where the kernel is set as a kubelet wants it: whoever starts it asks `check_kernel`.
    pub protects_kernel: bool,
    /// The Node is made where there is none.
    pub registers: bool,
    /// `spec.providerID` of a Node that is made; "" for none.
    pub provider_id: String,
    /// A program of the cloud's says the Node's addresses, and that it may be used (`cloud-provider=external`).
    pub external_cloud: bool,
    /// Pods' pid limit; 0 is none.
    pub pod_pids_max: i64,
    pub cpus: CpuConfig,
}

impl Config {
    /// The usual configuration of a node, with nothing listening.
    pub fn new(node_name: &str, agent_directory: impl Into<PathBuf>, version: &str) -> Config {
        let agent_directory = agent_directory.into();
        Config {
            node_name: node_name.to_owned(),
            hostname: node_name.to_owned(),
            node_ips: Vec::new(),
            external_ips: Vec::new(),
            labels: Vec::new(),
            taints: Vec::new(),
            annotations: Vec::new(),
            version: version.to_owned(),
            manifest_directory: agent_directory.join("pod-manifests"),
            static_url: StaticUrlConfig::default(),
            root_directory: PathBuf::from("/var/lib/kubelet"),
            volatile_directory: PathBuf::from("/run/k3s/kubelet"),
            notices: Vec::new(),
            cgroup_root: "/kubepods".to_owned(),
            local_path_client: None,
            log_directory: PathBuf::from("/var/log/pods"),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            serving: None,
            healthz: None,
            pods_max: 110,
            image_gc_high_percent: 85,
            image_gc_low_percent: 80,
            image_gc_min_age: Duration::from_secs(120),
            image_gc_max_age: None,
            container_log_max_bytes: 10 << 20,
            container_log_files_max: 5,
            eviction_hard: Floors::HARD,
            eviction_soft: None,
            pressure_lasts: Duration::from_secs(300),
            reserved: Reserved::default(),
            status_report_every: Duration::from_secs(300),
            lease_secs: 40,
            images_shown_max: 50,
            unsafe_sysctls: Vec::new(),
            pulls_max: None,
            credential_plugins: Vec::new(),
            seccomp_default: false,
            protects_kernel: false,
            registers: true,
            provider_id: format!("k3s://{node_name}"),
            external_cloud: false,
            pod_pids_max: 0,
            cpus: CpuConfig::default(),
            agent_directory,
        }
    }

    /// Memory that the scheduler may not give to pods: the eviction floor, what is reserved, and where nothing is,
    /// on machines below 1 GiB, k3rs itself, which upstream leaves out because it hardly counts on larger ones.
    pub(crate) fn memory_reserved_bytes(&self, total: u64) -> u64 {
        const SMALL_BELOW_BYTES: u64 = 1 << 30;
        const K3RS_BYTES: u64 = 16 << 20;
        let own = match self.reserved.memory_bytes {
            0 if total < SMALL_BELOW_BYTES => K3RS_BYTES.min(total / 4),
            reserved => reserved,
        };
        self.eviction_hard.memory.of(total).saturating_add(own)
    }

    /// Where the pod's volumes from the API are.
    pub(crate) fn pod_volatile_directory(&self, uid: &str) -> PathBuf {
        self.volatile_directory.join("pods").join(uid)
    }

    /// `<log-directory>/<namespace>_<name>_<uid>`, as upstream names it.
    pub(crate) fn pod_log_directory(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.log_directory.join(format!("{namespace}_{name}_{uid}"))
    }

    /// `pods/<uid>`: everything of one pod but its logs.
    pub(crate) fn pod_directory(&self, uid: &str) -> PathBuf {
        self.agent_directory.join("pods").join(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_scale_with_the_machine() {
        let config = Config::new("n", "/a", "v");
        let mib = |bytes: u64| bytes >> 20;
        for (total, floor, reserved) in
            [(46, 4, 16), (112, 11, 27), (300, 30, 46), (1000, 100, 116), (4096, 100, 100)]
        {
            let found = (
                mib(config.eviction_hard.memory.of(total << 20)),
                mib(config.memory_reserved_bytes(total << 20)),
            );
            assert_eq!(found, (floor, reserved), "{total} MiB");
        }
    }

    #[test]
    fn taints_parse() {
        let taint = Taint::parse("a/b=c:NoExecute").unwrap();
        assert_eq!((&*taint.key, &*taint.value, &*taint.effect), ("a/b", "c", "NoExecute"));
        assert_eq!(Taint::parse("a:NoSchedule").unwrap().value, "");
        for bad in ["a", "a=b", "a=b:Often", ":NoSchedule"] {
            assert!(Taint::parse(bad).is_err(), "{bad}");
        }
    }
}
