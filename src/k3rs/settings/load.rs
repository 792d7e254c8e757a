//! The configuration's sources: command line, environment and files, read, checked and typed before anything starts.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use argh::FromArgs;
use stdx::{Context, Error, Result};

use crate::settings::apiserver::ApiserverArgs;
use crate::settings::cidr::{self, Open};
use crate::settings::component::{Components, Given};
use crate::settings::config::{Config, DEFAULT_DATA_DIR, Shared};
use crate::settings::egress::Mode;
use crate::settings::families;
use crate::settings::flags::{self, Flag, On, Settings};
use crate::settings::net_conf;
use crate::settings::s3_flags::Said;
use crate::settings::snapshot_flags;
use crate::settings::values::{backend, file_mode, node_label, node_taint, port_range};

const DEFAULT_ETC_DIR: &str = "/etc/rancher";

/// run the Kubernetes control plane and, unless --disable-agent, this machine as a node
#[derive(FromArgs, Debug)]
#[expect(
    dead_code,
    reason = "switches for what is not in this version are taken and need nothing done"
)]
struct ServerArgs {
    /// load configuration from file (default /etc/rancher/k3s/config.yaml) [K3S_CONFIG_FILE]
    #[argh(option, short = 'c')]
    config: Option<String>,
    /// turn on debug logs [K3S_DEBUG]
    #[argh(option)]
    debug: Option<bool>,
    /// server to connect to, https://host:port [K3S_URL]
    #[argh(option, short = 's')]
    server: Option<String>,
    /// local port of the load balancer for connections to servers (default 6444) [K3S_LB_SERVER_PORT]
    #[argh(option)]
    lb_server_port: Option<u16>,
    /// connect to the server that --server names, and to no other
    #[argh(option)]
    disable_apiserver_lb: Option<bool>,
    /// number for the log level verbosity; 4 and above are debug logs
    #[argh(option, short = 'v')]
    v: Option<u32>,
    /// log to file
    #[argh(option, short = 'l')]
    log: Option<PathBuf>,
    /// log to standard error as well as file (if set)
    #[argh(option)]
    alsologtostderr: Option<bool>,
    /// address to listen on (default all: 0.0.0.0, or :: in a cluster with IPv6)
    #[argh(option)]
    bind_address: Option<IpAddr>,
    /// HTTPS listen port (default 6443)
    #[argh(option)]
    https_listen_port: Option<u16>,
    /// IPv4 or IPv6 address that the API server advertises to members of the cluster (default node-external-ip or node-ip)
    #[argh(option)]
    advertise_address: Option<IpAddr>,
    /// port that the API server advertises (default https-listen-port)
    #[argh(option)]
    advertise_port: Option<u16>,
    /// add host names or addresses as subject alternative names of the API server's certificate
    #[argh(option)]
    tls_san: Vec<String>,
    /// refuse to add names to the certificate on request (default true; false is not supported)
    #[argh(option)]
    tls_san_security: Option<bool>,
    /// folder to hold state (default /var/lib/rancher/k3s) [K3S_DATA_DIR]
    #[argh(option, short = 'd')]
    data_dir: Option<PathBuf>,
    /// networks for pod addresses, one a family (default 10.42.0.0/16, or fd00:42::/56 on a node with IPv6 only)
    #[argh(option)]
    cluster_cidr: Vec<String>,
    /// networks for service addresses, one a family (default 10.43.0.0/16, or fd00:43::/112 on a node with IPv6 only)
    #[argh(option)]
    service_cidr: Vec<String>,
    /// port range for services with node port visibility (default 30000-32767)
    #[argh(option)]
    service_node_port_range: Option<String>,
    /// addresses of the cluster DNS service (default the tenth of each service-cidr)
    #[argh(option)]
    cluster_dns: Vec<IpAddr>,
    /// cluster domain (default cluster.local)
    #[argh(option)]
    cluster_domain: Option<String>,
    /// how pods of other nodes are reached: vxlan, wireguard-native (encrypted), host-gw (nodes on one wire), none (a CNI plugin of yours makes pods' networks) (default vxlan)
    #[argh(option)]
    flannel_backend: Option<String>,
    /// give pods' IPv6 traffic that leaves the cluster the node's address
    #[argh(option)]
    flannel_ipv6_masq: Option<bool>,
    /// have other nodes reach this one by its --node-external-ip
    #[argh(option)]
    flannel_external_ip: Option<bool>,
    /// what servers reach through the tunnels of agents: agent (kubelets), pod or cluster (pods, too), disabled (default agent)
    #[argh(option)]
    egress_selector_mode: Option<String>,
    /// write the administrator's kubeconfig to this file [K3S_KUBECONFIG_OUTPUT]
    #[argh(option, short = 'o')]
    write_kubeconfig: Option<PathBuf>,
    /// write the kubeconfig with this mode [K3S_KUBECONFIG_MODE]
    #[argh(option)]
    write_kubeconfig_mode: Option<String>,
    /// write the kubeconfig with this group [K3S_KUBECONFIG_GROUP]
    #[argh(option)]
    write_kubeconfig_group: Option<String>,
    /// disable the Helm controller
    #[argh(option)]
    disable_helm_controller: Option<bool>,
    /// shared secret used to join a server or agent to the cluster [K3S_TOKEN]
    #[argh(option, short = 't')]
    token: Option<String>,
    /// file containing the token [K3S_TOKEN_FILE]
    #[argh(option)]
    token_file: Option<PathBuf>,
    /// shared secret used to join agents, but not servers [K3S_AGENT_TOKEN]
    #[argh(option)]
    agent_token: Option<String>,
    /// file containing the agent token [K3S_AGENT_TOKEN_FILE]
    #[argh(option)]
    agent_token_file: Option<PathBuf>,
    /// encrypt Secrets in the datastore
    #[argh(option)]
    secrets_encryption: Option<bool>,
    /// how Secrets are encrypted: aescbc or secretbox (default aescbc)
    #[argh(option)]
    secrets_encryption_provider: Option<String>,
    /// argument for the API server, name=value
    #[argh(option)]
    kube_apiserver_arg: Vec<String>,
    /// begin a cluster of several servers, with an etcd that k3rs runs [K3S_CLUSTER_INIT]
    #[argh(option)]
    cluster_init: Option<bool>,
    /// forget all other members of the embedded etcd, then exit [K3S_CLUSTER_RESET]
    #[argh(option)]
    cluster_reset: Option<bool>,
    /// setting of the embedded etcd, name=value
    #[argh(option)]
    etcd_arg: Vec<String>,
    /// serve the embedded etcd's metrics at the node's address, too
    #[argh(option)]
    etcd_expose_metrics: Option<bool>,
    /// with --cluster-reset: begin anew with what this snapshot has
    #[argh(option)]
    cluster_reset_restore_path: Option<PathBuf>,
    /// take no snapshots of the embedded etcd but when asked to
    #[argh(option)]
    etcd_disable_snapshots: Option<bool>,
    /// name of snapshots, before the node's and the time (default etcd-snapshot)
    #[argh(option)]
    etcd_snapshot_name: Option<String>,
    /// when snapshots are taken, in UTC (default "0 */12 * * *")
    #[argh(option)]
    etcd_snapshot_schedule_cron: Option<String>,
    /// how many snapshots are kept (default 5; 0 for all)
    #[argh(option)]
    etcd_snapshot_retention: Option<i64>,
    /// folder for snapshots (default <data-dir>/server/db/snapshots)
    #[argh(option)]
    etcd_snapshot_dir: Option<PathBuf>,
    /// compress snapshots
    #[argh(option)]
    etcd_snapshot_compress: Option<bool>,
    /// put snapshots into a bucket of S3, too
    #[argh(option)]
    etcd_s3: Option<bool>,
    /// host of S3, and a port if it is not the usual one (default s3.amazonaws.com)
    #[argh(option)]
    etcd_s3_endpoint: Option<String>,
    /// file with the authorities of the endpoint's certificate
    #[argh(option)]
    etcd_s3_endpoint_ca: Option<String>,
    /// believe whatever certificate the endpoint shows
    #[argh(option)]
    etcd_s3_skip_ssl_verify: Option<bool>,
    /// access key of S3 [AWS_ACCESS_KEY_ID]
    #[argh(option)]
    etcd_s3_access_key: Option<String>,
    /// secret key of S3 [AWS_SECRET_ACCESS_KEY]
    #[argh(option)]
    etcd_s3_secret_key: Option<String>,
    /// session token of S3 [AWS_SESSION_TOKEN]
    #[argh(option)]
    etcd_s3_session_token: Option<String>,
    /// name of the bucket
    #[argh(option)]
    etcd_s3_bucket: Option<String>,
    /// where the bucket's name is said: auto, dns (in the host's), path (default auto)
    #[argh(option)]
    etcd_s3_bucket_lookup_type: Option<String>,
    /// region of the bucket (default us-east-1)
    #[argh(option)]
    etcd_s3_region: Option<String>,
    /// folder in the bucket
    #[argh(option)]
    etcd_s3_folder: Option<String>,
    /// URL of a proxy for S3 (default what the environment says)
    #[argh(option)]
    etcd_s3_proxy: Option<String>,
    /// name of a Secret in kube-system that says all this, if no flag does
    #[argh(option)]
    etcd_s3_config_secret: Option<String>,
    /// speak to the endpoint without TLS
    #[argh(option)]
    etcd_s3_insecure: Option<bool>,
    /// how long one thing asked of S3 may take (default 5m)
    #[argh(option)]
    etcd_s3_timeout: Option<String>,
    /// how many snapshots are kept in S3 (default etcd-snapshot-retention)
    #[argh(option)]
    etcd_s3_retention: Option<i64>,
    /// argument for the controller manager, name=value
    #[argh(option)]
    kube_controller_manager_arg: Vec<String>,
    /// argument for the scheduler, name=value
    #[argh(option)]
    kube_scheduler_arg: Vec<String>,
    /// argument for the cloud controller manager, name=value (none has a meaning here)
    #[argh(option)]
    kube_cloud_controller_manager_arg: Vec<String>,
    /// argument for the kubelet, name=value
    #[argh(option)]
    kubelet_arg: Vec<String>,
    /// argument for the service proxy, name=value
    #[argh(option)]
    kube_proxy_arg: Vec<String>,
    /// where several servers keep the cluster's state: postgres://, mysql://, or the URLs of an etcd (default a SQLite file) [K3S_DATASTORE_ENDPOINT]
    #[argh(option)]
    datastore_endpoint: Option<String>,
    /// TLS certificate authority of the datastore [K3S_DATASTORE_CAFILE]
    #[argh(option)]
    datastore_cafile: Option<PathBuf>,
    /// TLS certificate shown to the datastore [K3S_DATASTORE_CERTFILE]
    #[argh(option)]
    datastore_certfile: Option<PathBuf>,
    /// TLS key of the certificate shown to the datastore [K3S_DATASTORE_KEYFILE]
    #[argh(option)]
    datastore_keyfile: Option<PathBuf>,
    /// serve the etcd API on <data-dir>/server/kine.sock, for etcdctl
    #[argh(option)]
    kine_socket: Option<bool>,
    /// folder for volumes of the local storage class (default <data-dir>/storage)
    #[argh(option)]
    default_local_storage_path: Option<PathBuf>,
    /// do not deploy packaged components and delete deployed ones: coredns, servicelb, traefik, local-storage, metrics-server, runtimes, or a manifest's name
    #[argh(option)]
    disable: Vec<String>,
    /// disable the scheduler
    #[argh(option)]
    disable_scheduler: Option<bool>,
    /// leave what a cloud would say of nodes to another cloud controller (ServiceLB runs on: --disable servicelb)
    #[argh(option)]
    disable_cloud_controller: Option<bool>,
    /// do not act on NetworkPolicies
    #[argh(option)]
    disable_network_policy: Option<bool>,
    /// run the control plane only
    #[argh(option)]
    disable_agent: Option<bool>,
    /// disable the controllers
    #[argh(option)]
    disable_controller_manager: Option<bool>,
    /// run the embedded etcd without a control plane: with --disable-controller-manager and --disable-scheduler
    #[argh(option)]
    disable_apiserver: Option<bool>,
    /// run the control plane on the embedded etcd of other servers: with --server
    #[argh(option)]
    disable_etcd: Option<bool>,
    /// look for programs in the unpacked userspace before the host's directories, not after them
    #[argh(option)]
    prefer_bundled_bin: Option<bool>,
    /// node name (default the host's name) [K3S_NODE_NAME]
    #[argh(option)]
    node_name: Option<String>,
    /// append an id to the node name
    #[argh(option)]
    with_node_id: Option<bool>,
    /// register the node with these labels
    #[argh(option)]
    node_label: Vec<String>,
    /// register the node with these taints
    #[argh(option)]
    node_taint: Vec<String>,
    /// start the node only where the kernel is set as the kubelet wants it
    #[argh(option)]
    protect_kernel_defaults: Option<bool>,
    /// directory of the programs that know credentials of images (default /var/lib/rancher/credentialprovider/bin)
    #[argh(option)]
    image_credential_provider_bin_dir: Option<String>,
    /// which of them knows what (default /var/lib/rancher/credentialprovider/config.yaml)
    #[argh(option)]
    image_credential_provider_config: Option<String>,
    /// container snapshotter (default and only overlayfs)
    #[argh(option)]
    snapshotter: Option<String>,
    /// private registry configuration file (default /etc/rancher/k3s/registries.yaml)
    #[argh(option)]
    private_registry: Option<PathBuf>,
    /// addresses to advertise for the node
    #[argh(option, short = 'i')]
    node_ip: Vec<IpAddr>,
    /// external addresses to advertise for the node
    #[argh(option)]
    node_external_ip: Vec<IpAddr>,
    /// resolv.conf file for pods [K3S_RESOLV_CONF]
    #[argh(option)]
    resolv_conf: Option<PathBuf>,
    /// interface whose address the node uses
    #[argh(option)]
    flannel_iface: Option<String>,
    /// flannel's own configuration: the backend and its options, for this node in place of --flannel-backend's
    #[argh(option)]
    flannel_conf: Option<PathBuf>,
}

/// Argh's own usage text, of which the module of help makes a readable one.
pub(crate) fn descriptions() -> String {
    match ServerArgs::from_args(&["k3rs", "server"], &["--help"]) {
        Err(exit) => exit.output,
        Ok(_) => String::new(),
    }
}

impl Config {
    /// Reads command line, environment and configuration files, in this order of rank.
    ///
    /// # Errors
    /// What is wrong, with the source it came from.
    pub(crate) fn load(
        on: On,
        argv: &[String],
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Config> {
        let settings = flags::from_command_line(argv, on)?.or(flags::from_environment(&var, on)?);
        let explicit = settings.values("config").and_then(|values| values.first()).cloned();
        let etc_dir = var("K3RS_ETC_DIR").filter(|path| !path.is_empty());
        let etc_dir = PathBuf::from(etc_dir.as_deref().unwrap_or(DEFAULT_ETC_DIR));
        let settings = settings.or(read_files(on, &etc_dir, explicit.as_deref())?);
        // Amazon's variables are there for other programs, too.
        let own = |flag: &&Flag| flag.env.is_empty() || var(flag.env).is_none();
        let etcd_flags = settings.said("etcd-").filter(own).map(|flag| flag.name).collect();
        let argv = settings.to_argv();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let args = ServerArgs::from_args(&["k3rs", "server"], &argv)
            .map_err(|exit| Error::new(exit.output.trim().to_owned()))?;
        let mut config = Config::from_args(args)?;
        config.etcd_flags = etcd_flags;
        config.host_path = var("PATH").map(OsString::from);
        for (name, slot) in [
            ("K3RS_ETC_DIR", &mut config.etc_dir),
            ("K3RS_RUN_DIR", &mut config.run_dir),
            ("K3RS_LOG_DIR", &mut config.log_dir),
            ("K3RS_KUBELET_DIR", &mut config.kubelet_dir),
        ] {
            if let Some(path) = var(name).filter(|path| !path.is_empty()) {
                *slot = PathBuf::from(path);
            }
        }
        if let Some(root) = &config.components.kubelet.root {
            root.clone_into(&mut config.kubelet_dir);
        }
        Ok(config)
    }

    fn from_args(mut args: ServerArgs) -> Result<Config> {
        refuse(&args)?;
        let (secrets_provider, idle_provider) = secrets_provider(&args)?;
        let (apiserver, components) = components(&mut args, secrets_provider.is_some())?;
        let (datastore, idle_datastore_files) = datastore(&mut args);
        let snapshots = snapshots(&mut args)?;
        let data_dir = args.data_dir.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
        let data_dir = std::path::absolute(&data_dir)
            .context(|| format!("resolve --data-dir {}", data_dir.display()))?;
        let open = Open {
            cluster_cidr: args.cluster_cidr.is_empty(),
            service_cidr: args.service_cidr.is_empty(),
            cluster_dns: args.cluster_dns.is_empty(),
            bind_address: args.bind_address.is_none(),
        };
        let cluster_cidrs = cidr::blocks("cluster-cidr", &args.cluster_cidr)?;
        let service_cidrs = cidr::blocks("service-cidr", &args.service_cidr)?;
        let flannel_backend = backend(args.flannel_backend.as_deref().unwrap_or("vxlan"))?;
        let egress = Mode::parse(args.egress_selector_mode.as_deref().unwrap_or("agent"))?;
        let flannel_external_ip = args.flannel_external_ip == Some(true);
        if flannel_external_ip && args.node_external_ip.is_empty() {
            return Err(Error::new("--flannel-external-ip: --node-external-ip names no address"));
        }
        let mut config = Config {
            open,
            snapshots,
            datastore,
            idle_datastore_files,
            kine_socket: args.kine_socket == Some(true),
            embeds_etcd: false,
            debug: args.debug.unwrap_or(false) || args.v.is_some_and(|v| v >= 4),
            log: args.log,
            alsologtostderr: args.alsologtostderr.unwrap_or(false),
            bind_address: args.bind_address.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            https_port: args.https_listen_port.unwrap_or(6443),
            advertise_address: args.advertise_address,
            advertise_port: args.advertise_port.or(args.https_listen_port).unwrap_or(6443),
            tls_san: args.tls_san,
            cluster_cidrs,
            service_cidrs,
            node_ports: port_range(
                args.service_node_port_range.as_deref().unwrap_or("30000-32767"),
            )?,
            cluster_dns: args.cluster_dns,
            cluster_domain: args.cluster_domain.unwrap_or_else(|| "cluster.local".to_owned()),
            write_kubeconfig: args.write_kubeconfig,
            kubeconfig_mode: file_mode(args.write_kubeconfig_mode.as_deref().unwrap_or("0600"))?,
            kubeconfig_group: args.write_kubeconfig_group,
            apiserver,
            components,
            secrets_provider,
            idle_provider,
            token: secret(args.token, args.token_file.as_deref())?,
            cluster_init: args.cluster_init.unwrap_or(false),
            cluster_reset: args.cluster_reset.unwrap_or(false),
            etcd_args: args.etcd_arg,
            etcd_expose_metrics: args.etcd_expose_metrics.unwrap_or(false),
            etcd_flags: Vec::new(),
            server: args.server,
            lb_server_port: args.lb_server_port.unwrap_or(6444),
            disable_apiserver_lb: args.disable_apiserver_lb.unwrap_or(false),
            agent_token: secret(args.agent_token, args.agent_token_file.as_deref())?,
            local_storage_path: args
                .default_local_storage_path
                .unwrap_or_else(|| data_dir.join("storage")),
            data_dir,
            disable: args.disable,
            disable_scheduler: args.disable_scheduler.unwrap_or(false),
            disable_agent: args.disable_agent.unwrap_or(false),
            disable_cloud_controller: args.disable_cloud_controller.unwrap_or(false),
            disable_network_policy: args.disable_network_policy.unwrap_or(false),
            disable_helm_controller: args.disable_helm_controller.unwrap_or(false),
            disable_controller_manager: args.disable_controller_manager.unwrap_or(false),
            disable_apiserver: args.disable_apiserver.unwrap_or(false),
            disable_etcd: args.disable_etcd.unwrap_or(false),
            prefer_bundled_bin: args.prefer_bundled_bin.unwrap_or(false),
            node_name: args.node_name,
            with_node_id: args.with_node_id.unwrap_or(false),
            node_labels: args.node_label,
            node_taints: args.node_taint,
            private_registry: args.private_registry,
            node_ips: args.node_ip,
            node_external_ips: args.node_external_ip,
            resolv_conf: args.resolv_conf,
            interface: args.flannel_iface,
            flannel_backend,
            flannel_conf: args.flannel_conf.as_deref().map(net_conf::load).transpose()?,
            egress,
            flannel_external_ip,
            flannel_ipv6_masq: args.flannel_ipv6_masq.unwrap_or(false),
            host_path: None,
            etc_dir: PathBuf::from(DEFAULT_ETC_DIR),
            run_dir: PathBuf::from("/run/k3s"),
            log_dir: PathBuf::from("/var/log/pods"),
            kubelet_dir: PathBuf::from("/var/lib/kubelet"),
        };
        let given = config.node_ips.clone();
        families::settle(&mut config, &given);
        Ok(config)
    }
}

/// What does not go together, or is not done here.
fn refuse(args: &ServerArgs) -> Result<()> {
    if let Some(snapshotter) = args.snapshotter.as_deref().filter(|s| *s != "overlayfs") {
        return Err(Error::new(format!(
            "--snapshotter={snapshotter} is not supported: k3rs mounts overlayfs itself"
        )));
    }
    for text in &args.node_label {
        node_label(text).context(|| format!("read --node-label {text:?}"))?;
    }
    for text in &args.node_taint {
        node_taint(text).context(|| format!("read --node-taint {text:?}"))?;
    }
    if args.tls_san_security == Some(false) {
        return Err(Error::new(
            "--tls-san-security=false is not supported: names are added with --tls-san only",
        ));
    }
    for arg in &args.etcd_arg {
        datastore::embedded::argument(arg)?;
    }
    Ok(())
}

/// Which provider encrypts Secrets, if one does; and whether one is named for nothing.
fn secrets_provider(args: &ServerArgs) -> Result<(Option<String>, bool)> {
    let named = args.secrets_encryption_provider.clone();
    let is_named = named.is_some();
    let provider = named.unwrap_or_else(|| "aescbc".to_owned());
    cluster::secrets_encryption::check_provider(&provider)?;
    let encrypts = args.secrets_encryption == Some(true);
    Ok((encrypts.then_some(provider), is_named && !encrypts))
}

/// What the arguments of components say. `encrypts`: Secrets are encrypted by a flag of the server's own.
fn components(args: &mut ServerArgs, encrypts: bool) -> Result<(ApiserverArgs, Components)> {
    let mut apiserver = ApiserverArgs::parse(&args.kube_apiserver_arg)?;
    let mut kubelet = std::mem::take(&mut args.kubelet_arg);
    if args.protect_kernel_defaults == Some(true) {
        // What the arguments say themselves counts more.
        kubelet.insert(0, "protect-kernel-defaults=true".to_owned());
    }
    // As k3s: what is not there, or only half of it, is not used.
    let words = |given: &mut Option<String>, name: &str| {
        given.take().unwrap_or_else(|| format!("/var/lib/rancher/credentialprovider/{name}"))
    };
    let programs = words(&mut args.image_credential_provider_bin_dir, "bin");
    let providers = words(&mut args.image_credential_provider_config, "config.yaml");
    if rt::fs::metadata(&programs).is_ok() && rt::fs::metadata(&providers).is_ok() {
        kubelet.insert(0, format!("image-credential-provider-bin-dir={programs}"));
        kubelet.insert(0, format!("image-credential-provider-config={providers}"));
    }
    let given = Given {
        manager: std::mem::take(&mut args.kube_controller_manager_arg),
        scheduler: std::mem::take(&mut args.kube_scheduler_arg),
        cloud: std::mem::take(&mut args.kube_cloud_controller_manager_arg),
        kubelet,
        proxy: std::mem::take(&mut args.kube_proxy_arg),
    };
    let components = Components::read(&given, std::mem::take(&mut apiserver.idle))?;
    if apiserver.encryption_reload && apiserver.encryption_file.is_none() && !encrypts {
        return Err(Error::new(
            "--encryption-provider-config-automatic-reload must be set with --encryption-provider-config",
        ));
    }
    let kine_socket = args.kine_socket == Some(true);
    if kine_socket && (encrypts || apiserver.encryption_file.is_some()) {
        // The store's memory holds values opened: they would be read there, or found by comparing.
        return Err(Error::new(
            "--kine-socket is not supported with encryption of the datastore: it would show what is encrypted",
        ));
    }
    Ok((apiserver, components))
}

/// The datastore that several servers share; and whether files for it are named for nothing.
fn datastore(args: &mut ServerArgs) -> (Option<Shared>, bool) {
    let files = datastore::Files {
        cafile: args.datastore_cafile.take(),
        certfile: args.datastore_certfile.take(),
        keyfile: args.datastore_keyfile.take(),
    };
    let endpoint = args.datastore_endpoint.take().filter(|endpoint| !endpoint.is_empty());
    let idle = endpoint.is_none() && files != datastore::Files::default();
    (endpoint.map(|endpoint| Shared { endpoint, files }), idle)
}

fn snapshots(args: &mut ServerArgs) -> Result<snapshot_flags::Flags> {
    let snapshots = snapshot_flags::Flags {
        disabled: args.etcd_disable_snapshots.unwrap_or(false),
        name: args.etcd_snapshot_name.take().filter(|name| !name.is_empty()),
        cron: args.etcd_snapshot_schedule_cron.take(),
        retention: args.etcd_snapshot_retention,
        dir: match args.etcd_snapshot_dir.take() {
            Some(dir) => Some(std::path::absolute(&dir).context(|| "read --etcd-snapshot-dir")?),
            None => None,
        },
        compress: args.etcd_snapshot_compress,
        restore: args.cluster_reset_restore_path.take(),
        s3: bucket(args)?,
    };
    snapshots.check()?;
    Ok(snapshots)
}

/// The bucket for snapshots, if there is to be one.
fn bucket(args: &mut ServerArgs) -> Result<Option<Said>> {
    if args.etcd_s3 != Some(true) {
        return Ok(None);
    }
    let on = |switch: Option<bool>| switch.filter(|on| *on).map(|_| "true".to_owned());
    let texts = [
        ("accessKey", args.etcd_s3_access_key.take()),
        ("bucket", args.etcd_s3_bucket.take()),
        ("bucketLookup", args.etcd_s3_bucket_lookup_type.take()),
        ("configSecret", args.etcd_s3_config_secret.take()),
        ("endpoint", args.etcd_s3_endpoint.take()),
        ("endpointCA", args.etcd_s3_endpoint_ca.take()),
        ("folder", args.etcd_s3_folder.take()),
        ("insecure", on(args.etcd_s3_insecure)),
        ("proxy", args.etcd_s3_proxy.take()),
        ("region", args.etcd_s3_region.take()),
        ("retention", args.etcd_s3_retention.map(|kept| kept.to_string())),
        ("secretKey", args.etcd_s3_secret_key.take()),
        ("sessionToken", args.etcd_s3_session_token.take()),
        ("skipSSLVerify", on(args.etcd_s3_skip_ssl_verify)),
        ("timeout", args.etcd_s3_timeout.take()),
    ];
    let texts = texts.iter().map(|(name, text)| (*name, text.as_deref().unwrap_or_default()));
    Said::of_texts(texts).map(Some)
}

/// `config.yaml`, then `config.yaml.d/*.yaml` in alphabetical order, later ones on top.
fn read_files(on: On, etc_dir: &Path, explicit: Option<&str>) -> Result<Settings> {
    let path = match explicit {
        Some(path) => PathBuf::from(path),
        None => etc_dir.join("k3s").join("config.yaml"),
    };
    let path = path.as_path();
    let mut settings = Settings::default();
    let mut files = Vec::new();
    match rt::fs::read_optional(path)? {
        Some(bytes) => files.push((path.to_owned(), bytes)),
        None if explicit.is_some() => {
            return Err(Error::new(format!("read {}: no such file", path.display())));
        }
        None => {}
    }
    let mut dropins = path.as_os_str().to_owned();
    dropins.push(".d");
    for dropin in rt::fs::list_dir(Path::new(&dropins))? {
        if dropin.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push((dropin.clone(), rt::fs::read(&dropin)?));
        }
    }
    for (path, bytes) in files {
        let whence = path.display().to_string();
        let text = String::from_utf8(bytes).context(|| format!("read {whence}"))?;
        let trees = wire::yaml::parse(&text).context(|| format!("read {whence}"))?;
        for tree in &trees {
            flags::from_file(&mut settings, tree, &whence, on)?;
        }
    }
    Ok(settings)
}

fn secret(inline: Option<String>, file: Option<&Path>) -> Result<Option<String>> {
    match (inline, file) {
        (Some(text), _) => Ok(Some(text)),
        (None, Some(path)) => Ok(Some(rt::fs::read_text(path)?.trim().to_owned())),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_values() {
        let load = |args: &[&str]| {
            let mut argv: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
            argv.push("--config=/dev/null".into());
            Config::load(On::Server, &argv, |_| None)
        };
        let config = load(&["--service-cidr=10.96.0.0/12", "--disable", "traefik"]).unwrap();
        assert_eq!(config.cluster_dns, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
        assert!(config.disabled("traefik"));
        assert_eq!((config.https_port, config.node_ports), (6443, (30000, 32767)));
        for (args, want) in [
            (
                &["--service-cidr=10.0.0.0"][..],
                "invalid service-cidr 10.0.0.0: invalid CIDR address: 10.0.0.0",
            ),
            (&["--egress-selector-mode=x"], "invalid egress-selector-mode x"),
            (
                &["--kube-apiserver-arg=encryption-provider-config-automatic-reload"],
                "--encryption-provider-config-automatic-reload must be set with --encryption-provider-config",
            ),
            (
                &["--flannel-backend=ipsec"],
                "--flannel-backend=ipsec is not supported by this version of k3rs (vxlan, host-gw, wireguard-native or none)",
            ),
            (
                &["--flannel-external-ip"],
                "--flannel-external-ip: --node-external-ip names no address",
            ),
            (
                &["--node-label==x"],
                "read --node-label \"=x\": key \"\": name part must be non-empty; name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
            (&["--node-label=x"], "read --node-label \"x\": want key=value"),
            (
                &["--node-taint=a=b:Sometimes"],
                "read --node-taint \"a=b:Sometimes\": effect \"Sometimes\" is unknown, want NoSchedule, PreferNoSchedule, NoExecute",
            ),
            (&["--node-taint=a"], "read --node-taint \"a\": want key=value:Effect"),
            (
                &["--write-kubeconfig-mode=9"],
                "read --write-kubeconfig-mode \"9\": not an octal file mode",
            ),
            (
                &["--service-node-port-range=9-1"],
                "read --service-node-port-range \"9-1\": it is empty",
            ),
        ] {
            assert_eq!(load(args).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn labels_that_no_node_may_have_are_refused_at_the_start() {
        for (label, fine) in [
            ("a=b", true),
            ("a=", true),
            ("example.com/a=b", true),
            ("node.kubernetes.io/a=b", true),
            ("x.node.kubernetes.io/a=b", true),
            ("topology.kubernetes.io/zone=b", true),
            ("=x", false),
            ("a", false),
            ("a b=c", false),
            ("a=b c", false),
            ("-a=b", false),
            ("a=-", false),
            ("/a=b", false),
            ("a/b/c=d", false),
            ("node-role.kubernetes.io/x=y", false),
            ("kubernetes.io/x=y", false),
            ("x.k8s.io/y=z", false),
            ("mykubernetes.io/x=y", true),
        ] {
            assert_eq!(node_label(label).is_ok(), fine, "{label}: {:?}", node_label(label));
        }
        for (taint, fine) in [
            ("a=b:NoSchedule", true),
            ("a:NoExecute", true),
            ("example.com/a=:PreferNoSchedule", true),
            (":NoSchedule", false),
            ("=x:NoSchedule", false),
            ("a=b", false),
            ("a=b c:NoSchedule", false),
            ("a=b:", false),
        ] {
            assert_eq!(node_taint(taint).is_ok(), fine, "{taint}: {:?}", node_taint(taint));
        }
    }

    #[test]
    fn the_etc_directory_moves_the_configuration() {
        let dir = std::env::temp_dir().join(format!("k3rs-config-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            let path = dir.join("k3s").join(name);
            rt::fs::create_dir_all(path.parent().unwrap(), 0o755).unwrap();
            rt::fs::write(path, text.as_bytes(), 0o600).unwrap();
        };
        write("config.yaml", "https-listen-port: 7443\nnode-name: one\n");
        write("config.yaml.d/10.yaml", "node-name: two\n");
        let etc = dir.display().to_string();
        let config =
            Config::load(On::Server, &[], |name| (name == "K3RS_ETC_DIR").then(|| etc.clone()))
                .unwrap();
        rt::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((config.https_port, config.node_name.as_deref()), (7443, Some("two")));
        assert_eq!(config.etc_dir, dir);
    }
}
