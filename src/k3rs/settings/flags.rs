//! Every flag that k3s knows, in one table: what it takes, its environment variable, and whether we act on it yet.
//!
//! argh knows neither `--flag=value` nor switches with values, nor where a value came from. So
//! command line, environment and configuration files are first brought to one form here:
//! `--flag value` pairs of flags that are built, everything else refused by name.

use stdx::{Error, Result};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// On or off: `--flag`, `--flag=true`, `--flag=false`.
    Switch,
    Value,
    /// Repeatable; commas separate too.
    List,
    /// Repeatable; commas belong to the value (`--kubelet-arg`).
    Repeated,
}

/// Which commands know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Server,
    /// Agent flags are accepted by server too.
    Agent,
    /// Commands that look at what a server or an agent left, whichever it was.
    Either,
}

#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) env: &'static str,
    pub(crate) takes: Takes,
    pub(crate) on: On,
    /// `None`: built. Otherwise refused, with what it waits for.
    pub(crate) waits_for: Option<&'static str>,
    /// The same, where a server is told it.
    waits_on_server: Option<&'static str>,
}

const fn flag(name: &'static str, takes: Takes) -> Flag {
    Flag {
        name,
        short: None,
        env: "",
        takes,
        on: On::Server,
        waits_for: None,
        waits_on_server: None,
    }
}

impl Flag {
    const fn short(mut self, short: char) -> Flag {
        self.short = Some(short);
        self
    }
    const fn env(mut self, env: &'static str) -> Flag {
        self.env = env;
        self
    }
    const fn agent(mut self) -> Flag {
        self.on = On::Agent;
        self
    }
    const fn later(mut self, what: &'static str) -> Flag {
        self.waits_for = Some(what);
        self
    }
    const fn later_on_server(mut self, what: &'static str) -> Flag {
        self.on = On::Agent;
        self.waits_on_server = Some(what);
        self
    }

    /// What it waits for on this command; `None`: it is built.
    pub(crate) fn waits(&self, on: On) -> Option<&'static str> {
        self.waits_for.or(self.waits_on_server.filter(|_| on == On::Server))
    }

    /// Whether a command knows it.
    pub(crate) fn is_on(&self, on: On) -> bool {
        on != On::Agent || self.on == On::Agent
    }
}

const NODE_NAMES: &str = "DNS names of nodes";
const NETWORKS: &str = "other networks between nodes";
const BALANCER: &str = "servers reach their own API without a load balancer";
const CRI: &str = "the CRI socket and external runtimes";
const HELM: &str = "charts are installed without pods here";
const ROOTLESS: &str = "rootless mode";
const NEVER: &str = "it was removed from k3s, or has no meaning here";

use Takes::{List, Repeated, Switch, Value};

/// k3s's flags (docs/cli/server.md, agent.md), in the order of its help.
pub(crate) static FLAGS: &[Flag] = &[
    flag("config", Value).short('c').env("K3S_CONFIG_FILE").agent(),
    flag("debug", Switch).env("K3S_DEBUG").agent(),
    flag("v", Value).short('v').agent(),
    flag("vmodule", Value).agent().later("per-module log levels"),
    flag("log", Value).short('l').agent(),
    flag("alsologtostderr", Switch).agent(),
    flag("bind-address", Value).agent(),
    flag("https-listen-port", Value),
    flag("advertise-address", Value),
    flag("advertise-port", Value),
    flag("tls-san", List),
    flag("tls-san-security", Switch),
    flag("data-dir", Value).short('d').env("K3S_DATA_DIR").agent(),
    flag("cluster-cidr", List),
    flag("service-cidr", List),
    flag("service-node-port-range", Value),
    flag("cluster-dns", List),
    flag("cluster-domain", Value),
    flag("flannel-backend", Value),
    flag("flannel-ipv6-masq", Switch),
    flag("flannel-external-ip", Switch),
    flag("egress-selector-mode", Value),
    flag("servicelb-namespace", Value).later("ServiceLB needs no pods here"),
    flag("write-kubeconfig", Value).short('o').env("K3S_KUBECONFIG_OUTPUT"),
    flag("write-kubeconfig-mode", Value).env("K3S_KUBECONFIG_MODE"),
    flag("write-kubeconfig-group", Value).env("K3S_KUBECONFIG_GROUP"),
    flag("helm-job-image", Value).later(HELM),
    flag("helm-controller-arg", Repeated).later(HELM),
    flag("disable-helm-controller", Switch),
    flag("token", Value).short('t').env("K3S_TOKEN").agent(),
    flag("token-file", Value).env("K3S_TOKEN_FILE").agent(),
    flag("agent-token", Value).env("K3S_AGENT_TOKEN"),
    flag("agent-token-file", Value).env("K3S_AGENT_TOKEN_FILE"),
    flag("server", Value).short('s').env("K3S_URL").agent(),
    flag("cluster-init", Switch).env("K3S_CLUSTER_INIT"),
    flag("cluster-reset", Switch).env("K3S_CLUSTER_RESET"),
    flag("cluster-reset-restore-path", Value),
    flag("kube-apiserver-arg", Repeated),
    flag("etcd-arg", Repeated),
    flag("kube-controller-manager-arg", Repeated),
    flag("kube-scheduler-arg", Repeated),
    flag("kube-cloud-controller-manager-arg", Repeated),
    flag("datastore-endpoint", Value).env("K3S_DATASTORE_ENDPOINT"),
    flag("datastore-cafile", Value).env("K3S_DATASTORE_CAFILE"),
    flag("datastore-certfile", Value).env("K3S_DATASTORE_CERTFILE"),
    flag("datastore-keyfile", Value).env("K3S_DATASTORE_KEYFILE"),
    // Ours: k3s always has this socket.
    flag("kine-socket", Switch),
    flag("etcd-expose-metrics", Switch),
    flag("etcd-disable-snapshots", Switch),
    flag("etcd-snapshot-name", Value),
    flag("etcd-snapshot-schedule-cron", Value),
    flag("etcd-snapshot-retention", Value),
    flag("etcd-snapshot-dir", Value),
    flag("etcd-snapshot-compress", Switch),
    flag("etcd-s3", Switch),
    flag("etcd-s3-endpoint", Value),
    flag("etcd-s3-endpoint-ca", Value),
    flag("etcd-s3-skip-ssl-verify", Switch),
    flag("etcd-s3-access-key", Value).env("AWS_ACCESS_KEY_ID"),
    flag("etcd-s3-secret-key", Value).env("AWS_SECRET_ACCESS_KEY"),
    flag("etcd-s3-session-token", Value).env("AWS_SESSION_TOKEN"),
    flag("etcd-s3-bucket", Value),
    flag("etcd-s3-bucket-lookup-type", Value),
    flag("etcd-s3-region", Value),
    flag("etcd-s3-folder", Value),
    flag("etcd-s3-proxy", Value),
    flag("etcd-s3-config-secret", Value),
    flag("etcd-s3-insecure", Switch),
    flag("etcd-s3-timeout", Value),
    flag("etcd-s3-retention", Value),
    flag("default-local-storage-path", Value),
    flag("disable", List),
    flag("disable-scheduler", Switch),
    flag("disable-cloud-controller", Switch),
    flag("disable-kube-proxy", Switch).later("running without the service proxy"),
    flag("disable-network-policy", Switch),
    flag("disable-agent", Switch),
    flag("disable-apiserver", Switch),
    flag("disable-controller-manager", Switch),
    flag("disable-etcd", Switch),
    flag("secrets-encryption", Switch),
    flag("secrets-encryption-provider", Value),
    flag("embedded-registry", Switch).later("the embedded registry"),
    flag("supervisor-metrics", Switch).later("supervisor metrics"),
    flag("enable-pprof", Switch).agent().later("profiling endpoints"),
    flag("rootless", Switch).agent().later(ROOTLESS),
    flag("prefer-bundled-bin", Switch).agent(),
    flag("selinux", Switch).env("K3S_SELINUX").agent().later("SELinux"),
    flag("system-default-registry", Value)
        .env("K3S_SYSTEM_DEFAULT_REGISTRY")
        .later("packaged component images"),
    flag("disable-apiserver-lb", Switch).later_on_server(BALANCER),
    flag("lb-server-port", Value).env("K3S_LB_SERVER_PORT").later_on_server(BALANCER),
    flag("node-name", Value).env("K3S_NODE_NAME").agent(),
    flag("with-node-id", Switch).agent(),
    flag("node-label", List).agent(),
    flag("node-taint", List).agent(),
    flag("image-credential-provider-bin-dir", Value).agent(),
    flag("image-credential-provider-config", Value).agent(),
    flag("protect-kernel-defaults", Switch).agent(),
    flag("container-runtime-endpoint", Value).agent().later(CRI),
    flag("default-runtime", Value).agent().later(CRI),
    flag("image-service-endpoint", Value).agent().later(CRI),
    flag("pause-image", Value).agent().later("pods need no pause container here"),
    flag("snapshotter", Value).agent(),
    flag("private-registry", Value).agent(),
    flag("disable-default-registry-endpoint", Switch)
        .agent()
        .later("registry mirrors without fallback"),
    flag("nonroot-devices", Switch).agent().later(CRI),
    flag("airgap-extra-registry", Repeated).agent().later("extra airgap registries"),
    flag("docker", Switch).agent().later(CRI),
    flag("node-ip", List).short('i').agent(),
    flag("node-external-ip", List).agent(),
    flag("node-internal-dns", List).agent().later(NODE_NAMES),
    flag("node-external-dns", List).agent().later(NODE_NAMES),
    flag("resolv-conf", Value).env("K3S_RESOLV_CONF").agent(),
    flag("flannel-iface", Value).agent(),
    flag("flannel-conf", Value).agent(),
    flag("flannel-cni-conf", Value).agent().later(NETWORKS),
    flag("vpn-auth", Value).env("K3S_VPN_AUTH").agent().later(NETWORKS),
    flag("vpn-auth-file", Value).env("K3S_VPN_AUTH_FILE").agent().later(NETWORKS),
    flag("kubelet-arg", Repeated).agent(),
    flag("kube-proxy-arg", Repeated).agent(),
    flag("no-flannel", Switch).agent().later(NEVER),
    flag("no-deploy", List).later("use --disable: it was removed from k3s"),
    flag("cluster-secret", Value)
        .env("K3S_CLUSTER_SECRET")
        .later("use --token: it was removed from k3s"),
];

/// One setting with its flag; a list has all its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<String>,
}

/// Settings of one source, in order of first mention.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Settings(pub(crate) Vec<Setting>);

impl Settings {
    fn add(&mut self, flag: &'static Flag, value: &str) {
        let mut values: Vec<String> = match flag.takes {
            List => value
                .split(',')
                .map(str::trim)
                .filter(|v| !v.is_empty())
                .map(str::to_owned)
                .collect(),
            _ => vec![value.to_owned()],
        };
        let slot = self.0.iter_mut().find(|setting| setting.name == flag.name);
        match (slot, flag.takes) {
            (Some(setting), List | Repeated) => setting.values.append(&mut values),
            (Some(setting), _) => setting.values = values,
            (None, _) => self.0.push(Setting { name: flag.name, values }),
        }
    }

    pub(crate) fn values(&self, name: &str) -> Option<&[String]> {
        self.0.iter().find(|setting| setting.name == name).map(|setting| setting.values.as_slice())
    }

    /// Fills in what is not set here from a source of lower rank.
    pub(crate) fn or(mut self, lower: Settings) -> Settings {
        for setting in lower.0 {
            if self.values(setting.name).is_none() {
                self.0.push(setting);
            }
        }
        self
    }

    /// What is said here under names that begin so; switches that are off and what is empty say nothing.
    pub(crate) fn said(&self, beginning: &str) -> impl Iterator<Item = &'static Flag> {
        let says = |values: &[String]| values.iter().any(|value| !matches!(&**value, "" | "false"));
        let said =
            self.0.iter().filter(move |it| it.name.starts_with(beginning) && says(&it.values));
        said.filter_map(|it| find(it.name))
    }

    /// The arguments for argh: one `--flag value` pair for each value.
    pub(crate) fn to_argv(&self) -> Vec<String> {
        let mut argv = Vec::new();
        for setting in &self.0 {
            // A switch is passed with its value, as an option: some default to on.
            for value in &setting.values {
                argv.extend([format!("--{}", setting.name), value.clone()]);
            }
        }
        argv
    }
}

fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// The flag called `name` on this command.
fn known(name: &str, on: On, whence: &str) -> Result<&'static Flag> {
    find(name)
        .filter(|flag| flag.is_on(on))
        .ok_or_else(|| Error::new(format!("{whence}: flag provided but not defined: --{name}")))
}

/// Takes a value, or refuses a flag that is not built. To ask for such a thing not to be is no wish that we
/// cannot fulfil.
fn take(
    settings: &mut Settings,
    flag: &'static Flag,
    value: &str,
    (whence, on): (&str, On),
) -> Result<()> {
    let value = match flag.takes {
        Switch => switch_value(flag.name, value, whence)?,
        _ => value,
    };
    match flag.waits(on) {
        None => settings.add(flag, value),
        Some(_) if flag.takes == Switch && value == "false" => {}
        Some(what) => {
            let name = flag.name;
            return Err(Error::new(format!(
                "{whence}: flag --{name} is not supported by this version of k3rs yet ({what})"
            )));
        }
    }
    Ok(())
}

pub(crate) fn switch_value(name: &str, value: &str, whence: &str) -> Result<&'static str> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Ok("true"),
        "false" | "0" | "f" => Ok("false"),
        _ => Err(Error::new(format!("{whence}: invalid boolean value {value:?} for --{name}"))),
    }
}

/// Reads command-line arguments: `--flag value`, `--flag=value`, `-f value`, `-f=value`, switches with
/// and without a value.
pub(crate) fn from_command_line(argv: &[String], on: On) -> Result<Settings> {
    const WHENCE: &str = "command line";
    let mut settings = Settings::default();
    let mut rest = argv.iter();
    while let Some(arg) = rest.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg.as_str(), None),
        };
        // As Go's flag parsers do, one dash is as good as two.
        let bare = match (name.strip_prefix("--"), name.strip_prefix('-')) {
            (Some(bare), _) | (None, Some(bare)) if !bare.is_empty() => bare,
            _ => return Err(Error::new(format!("{WHENCE}: unexpected argument {arg:?}"))),
        };
        let by_short =
            FLAGS.iter().find(|flag| flag.short.is_some_and(|short| bare.chars().eq([short])));
        let flag = known(by_short.map_or(bare, |flag| flag.name), on, WHENCE)?;
        let value = match (flag.takes, inline) {
            (Switch, None) => "true",
            (_, Some(value)) => value,
            (_, None) => match rest.next() {
                Some(value) => value,
                // What is refused anyway is refused by its name.
                None if flag.waits(on).is_some() => "",
                None => {
                    return Err(Error::new(format!(
                        "{WHENCE}: flag needs an argument: --{}",
                        flag.name
                    )));
                }
            },
        };
        take(&mut settings, flag, value, (WHENCE, on))?;
    }
    Ok(settings)
}

/// Reads the environment variables of the table.
pub(crate) fn from_environment(var: impl Fn(&str) -> Option<String>, on: On) -> Result<Settings> {
    let mut settings = Settings::default();
    for flag in FLAGS.iter().filter(|flag| !flag.env.is_empty() && flag.is_on(on)) {
        let Some(value) = var(flag.env).filter(|value| !value.is_empty()) else { continue };
        let whence = format!("environment variable {}", flag.env);
        let flag = known(flag.name, on, &whence)?;
        take(&mut settings, flag, &value, (&whence, on))?;
    }
    Ok(settings)
}

/// Puts one configuration file on top of `settings`: its keys replace, `key+` appends to lists.
pub(crate) fn from_file(
    settings: &mut Settings,
    tree: &api::Value,
    whence: &str,
    on: On,
) -> Result<()> {
    let map = match tree {
        api::Value::Null => return Ok(()),
        api::Value::Object(map) => map,
        _ => return Err(Error::new(format!("{whence}: the top level is not a map"))),
    };
    for (key, value) in map {
        let (name, append) = match key.strip_suffix('+') {
            Some(name) => (name, true),
            None => (key.as_str(), false),
        };
        let flag = known(name, on, whence)?;
        let mut texts = Vec::new();
        let items = match value {
            api::Value::Array(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        for item in items {
            texts.push(match item {
                api::Value::String(text) => text.clone(),
                api::Value::Bool(_) | api::Value::Number(_) => item.to_string(),
                _ => {
                    return Err(Error::new(format!(
                        "{whence}: {key}: expected text, a number, a boolean or a list of those"
                    )));
                }
            });
        }
        if items.len() != 1 && !matches!(flag.takes, List | Repeated) {
            return Err(Error::new(format!("{whence}: {key}: takes one value, not a list")));
        }
        if !append {
            settings.0.retain(|setting| setting.name != flag.name);
        }
        for text in texts {
            take(settings, flag, &text, (whence, on))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn parse(args: &[&str]) -> Result<Settings> {
        from_command_line(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>(), On::Server)
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).collect();
        names.sort_unstable();
        let n = names.len();
        names.dedup();
        assert_eq!(n, names.len());
    }

    #[test]
    fn every_form_of_a_flag() {
        let settings = parse(&[
            "--data-dir=/d",
            "--disable",
            "traefik,coredns",
            "--disable=servicelb",
            "-o",
            "k.yaml",
            "--debug",
            "--disable-scheduler=false",
            "--tls-san-security=true",
        ])
        .unwrap();
        assert_eq!(settings.values("data-dir").unwrap(), ["/d"]);
        assert_eq!(settings.values("disable").unwrap(), ["traefik", "coredns", "servicelb"]);
        assert_eq!(settings.values("write-kubeconfig").unwrap(), ["k.yaml"]);
        assert_eq!(settings.values("debug").unwrap(), ["true"]);
        assert_eq!(settings.values("disable-scheduler").unwrap(), ["false"]);
    }

    #[test]
    fn refused_by_name() {
        for (args, want) in [
            (&["--nonsense"][..], "command line: flag provided but not defined: --nonsense"),
            (
                &["--rootless"],
                "command line: flag --rootless is not supported by this version of k3rs yet (rootless mode)",
            ),
            (
                &["--rootless=true"],
                "command line: flag --rootless is not supported by this version of k3rs yet (rootless mode)",
            ),
            (
                &["--lb-server-port"],
                "command line: flag --lb-server-port is not supported by this version of k3rs yet (servers reach their own API without a load balancer)",
            ),
            (
                &["--etcd-s3=perhaps"],
                "command line: invalid boolean value \"perhaps\" for --etcd-s3",
            ),
            (&["--data-dir"], "command line: flag needs an argument: --data-dir"),
            (&["--debug=maybe"], "command line: invalid boolean value \"maybe\" for --debug"),
            (&["stray"], "command line: unexpected argument \"stray\""),
        ] {
            assert_eq!(parse(args).unwrap_err().to_string(), want);
        }
    }

    /// To say no to what is not there is fine, wherever it is said.
    #[test]
    fn what_is_refused_may_be_switched_off() {
        let refused = |flag: &&Flag| flag.waits(On::Server).is_some() && flag.takes == Switch;
        for flag in FLAGS.iter().filter(refused) {
            let none = Settings::default();
            for text in ["false", "0", "F", "False"] {
                assert_eq!(parse(&[&format!("--{}={text}", flag.name)]).unwrap(), none);
            }
            let mut settings = Settings::default();
            from_file(&mut settings, &json!({flag.name: false}), "config.yaml", On::Server)
                .unwrap();
            assert_eq!(settings, none);
            from_file(&mut settings, &json!({flag.name: true}), "config.yaml", On::Server)
                .unwrap_err();
            if !flag.env.is_empty() {
                let var = |name: &str| (name == flag.env).then(|| "false".to_owned());
                assert_eq!(from_environment(var, On::Server).unwrap(), none);
            }
        }
    }

    #[test]
    fn agents_and_servers_join_and_agents_alone_balance() {
        let argv: Vec<String> =
            ["--server=https://x", "--lb-server-port", "6445"].map(Into::into).into();
        assert!(from_command_line(&argv, On::Server).is_err());
        assert!(from_command_line(&argv[..1], On::Server).is_ok());
        let settings = from_command_line(&argv, On::Agent).unwrap();
        assert_eq!(settings.values("server").unwrap(), ["https://x"]);
        assert_eq!(from_command_line(&argv, On::Either).unwrap(), settings);
        let url = |name: &str| (name == "K3S_URL").then(|| "https://x".to_owned());
        for on in [On::Server, On::Agent] {
            let settings = from_environment(url, on).unwrap();
            assert_eq!(settings.values("server").unwrap(), ["https://x"]);
        }
        let argv = ["--cluster-cidr=10.0.0.0/8".to_owned()];
        assert!(from_command_line(&argv, On::Agent).is_err(), "a server's alone");
        assert!(from_command_line(&argv, On::Either).is_ok());
    }

    #[test]
    fn sources_rank() {
        let mut file = Settings::default();
        from_file(
            &mut file,
            &json!({"node-label": ["a=1"], "debug": true, "data-dir": "/f"}),
            "config.yaml",
            On::Server,
        )
        .unwrap();
        from_file(&mut file, &json!({"node-label+": "b=2"}), "config.yaml.d/10.yaml", On::Server)
            .unwrap();
        assert_eq!(file.values("node-label").unwrap(), ["a=1", "b=2"]);
        let merged = parse(&["--node-label=c=3"]).unwrap().or(file);
        assert_eq!(
            merged.values("node-label").unwrap(),
            ["c=3"],
            "the command line replaces lists"
        );
        assert_eq!(merged.values("data-dir").unwrap(), ["/f"]);
        let bad = from_file(
            &mut Settings::default(),
            &json!({"rootless": true}),
            "config.yaml",
            On::Server,
        );
        assert!(
            bad.unwrap_err()
                .to_string()
                .starts_with("config.yaml: flag --rootless is not supported")
        );
    }
}
