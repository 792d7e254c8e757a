//! What `k3rs server` or `k3rs agent` runs with, typed. `load` reads it.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use crate::settings::apiserver::ApiserverArgs;
use crate::settings::cidr::{Cidr, Open};
use crate::settings::component::Components;
use crate::settings::egress::Mode;
use crate::settings::net_conf::NetConf;
use crate::settings::snapshot_flags;

pub(crate) const DEFAULT_DATA_DIR: &str = "/var/lib/rancher/k3s";

/// A datastore that several servers share, and the files for TLS with it.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) endpoint: String,
    pub(crate) files: datastore::Files,
}

/// What `k3rs server` or `k3rs agent` runs with.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What is not given.
    pub(crate) open: Open,
    pub(crate) debug: bool,
    pub(crate) log: Option<PathBuf>,
    pub(crate) alsologtostderr: bool,
    pub(crate) bind_address: IpAddr,
    pub(crate) https_port: u16,
    pub(crate) advertise_address: Option<IpAddr>,
    pub(crate) advertise_port: u16,
    pub(crate) tls_san: Vec<String>,
    pub(crate) data_dir: PathBuf,
    pub(crate) cluster_cidrs: Vec<Cidr>,
    pub(crate) service_cidrs: Vec<Cidr>,
    pub(crate) node_ports: (u16, u16),
    pub(crate) cluster_dns: Vec<IpAddr>,
    pub(crate) cluster_domain: String,
    pub(crate) write_kubeconfig: Option<PathBuf>,
    pub(crate) kubeconfig_mode: u32,
    pub(crate) kubeconfig_group: Option<String>,
    pub(crate) apiserver: ApiserverArgs,
    pub(crate) components: Components,
    /// What `--secrets-encryption` encrypts Secrets with; `None` if it does not.
    pub(crate) secrets_provider: Option<String>,
    /// A provider is named and nothing is encrypted, which k3s takes.
    pub(crate) idle_provider: bool,
    pub(crate) token: Option<String>,
    pub(crate) cluster_init: bool,
    pub(crate) cluster_reset: bool,
    pub(crate) etcd_args: Vec<String>,
    pub(crate) etcd_expose_metrics: bool,
    /// Which flags of an embedded etcd are given, for it may be that nothing makes use of them.
    pub(crate) etcd_flags: Vec<&'static str>,
    pub(crate) snapshots: snapshot_flags::Flags,
    /// Where an agent joins, or a server.
    pub(crate) server: Option<String>,
    pub(crate) lb_server_port: u16,
    pub(crate) disable_apiserver_lb: bool,
    pub(crate) agent_token: Option<String>,
    /// What servers share; `None`: a file of this one's own.
    pub(crate) datastore: Option<Shared>,
    /// Files for TLS with a datastore are named, and no datastore is.
    pub(crate) idle_datastore_files: bool,
    /// Whether the etcd API is served on a socket.
    pub(crate) kine_socket: bool,
    /// That is an etcd which this server runs; said by the plan of the embedded etcd.
    pub(crate) embeds_etcd: bool,
    pub(crate) local_storage_path: PathBuf,
    pub(crate) disable: Vec<String>,
    pub(crate) disable_scheduler: bool,
    pub(crate) disable_agent: bool,
    pub(crate) disable_cloud_controller: bool,
    pub(crate) disable_network_policy: bool,
    pub(crate) disable_helm_controller: bool,
    pub(crate) disable_controller_manager: bool,
    pub(crate) disable_apiserver: bool,
    /// The members of the cluster's etcd are on other servers.
    pub(crate) disable_etcd: bool,
    pub(crate) prefer_bundled_bin: bool,
    pub(crate) node_name: Option<String>,
    pub(crate) with_node_id: bool,
    pub(crate) node_labels: Vec<String>,
    pub(crate) node_taints: Vec<String>,
    pub(crate) private_registry: Option<PathBuf>,
    pub(crate) node_ips: Vec<IpAddr>,
    pub(crate) node_external_ips: Vec<IpAddr>,
    pub(crate) resolv_conf: Option<PathBuf>,
    pub(crate) interface: Option<String>,
    /// `None`: no way to other nodes' pods is kept.
    pub(crate) flannel_backend: Option<net::Backend>,
    /// `--flannel-conf`: what counts here in its place.
    pub(crate) flannel_conf: Option<NetConf>,
    /// Other nodes send pods' packets to the node's external addresses.
    pub(crate) flannel_external_ip: bool,
    /// Pods' IPv6 traffic that leaves the cluster gets the node's address.
    pub(crate) flannel_ipv6_masq: bool,
    pub(crate) egress: Mode,
    /// `PATH` as k3rs was started with it.
    pub(crate) host_path: Option<OsString>,
    /// What lies outside the data directory: `K3RS_ETC_DIR`, `K3RS_RUN_DIR`, `K3RS_LOG_DIR`,
    /// `K3RS_KUBELET_DIR`.
    pub(crate) etc_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) log_dir: PathBuf,
    /// The kubelet's sockets, for device plugins and monitors.
    pub(crate) kubelet_dir: PathBuf,
}

impl Config {
    /// The cgroup of all pods: `kubepods`, or one of its own for another data directory, because two
    /// k3rs on one machine must not weigh, count and remove each other's pods.
    pub(crate) fn cgroup_root(&self) -> String {
        if self.data_dir == Path::new(DEFAULT_DATA_DIR) {
            return "kubepods".to_owned();
        }
        let digest = cluster::token::hash(self.data_dir.as_os_str().as_encoded_bytes());
        format!("kubepods-{}", &digest[..8])
    }

    /// Where other nodes send pods' packets to, where it is not the interface's address.
    pub(crate) fn flannel_externals(&self) -> Vec<IpAddr> {
        if self.flannel_external_ip { self.node_external_ips.clone() } else { Vec::new() }
    }

    /// How this node reaches pods of others, and what is said of the way.
    pub(crate) fn way(&self) -> (Option<net::Backend>, net::TunnelSettings) {
        match &self.flannel_conf {
            Some(conf) if self.flannel_backend.is_some() => {
                (Some(conf.backend), conf.settings.clone())
            }
            _ => (self.flannel_backend, net::TunnelSettings::default()),
        }
    }

    /// `PATH` of what k3rs starts.
    pub(crate) fn search_path(&self) -> OsString {
        let data = cluster::Paths::new(&self.data_dir).data();
        let host = self.host_path.as_deref();
        crate::userspace::search_path(&data, host, self.prefer_bundled_bin)
    }

    pub(crate) fn disabled(&self, component: &str) -> bool {
        self.disable.iter().any(|name| name == component)
    }

    /// The cluster has addresses of IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.cluster_cidrs.iter().any(|cidr| cidr.address.is_ipv6())
    }

    /// Where programs of this machine reach it: 127.0.0.1, or ::1 in a cluster that knows IPv6 only.
    pub(crate) fn loopback(&self) -> IpAddr {
        match self.service_cidrs.iter().all(|cidr| cidr.address.is_ipv6()) {
            true => Ipv6Addr::LOCALHOST.into(),
            false => Ipv4Addr::LOCALHOST.into(),
        }
    }
}
