//! The usage texts of `k3rs server` and `k3rs agent`: by topic, aligned and wrapped, from what the flags say of themselves.

use crate::settings::flags::{FLAGS, On, Takes};

const WIDTH: usize = 100;
const INDENT: usize = 36;

/// Every flag that does something, by topic.
const TOPICS: &[(&str, &[&str])] = &[
    ("Joining", &["server", "token", "token-file", "lb-server-port", "disable-apiserver-lb"]),
    ("Configuration and logs", &["config", "debug", "v", "log", "alsologtostderr"]),
    (
        "Several servers",
        &[
            "cluster-init",
            "cluster-reset",
            "etcd-arg",
            "etcd-expose-metrics",
            "cluster-reset-restore-path",
            "etcd-disable-snapshots",
            "etcd-snapshot-name",
            "etcd-snapshot-schedule-cron",
            "etcd-snapshot-retention",
            "etcd-snapshot-dir",
            "etcd-snapshot-compress",
        ],
    ),
    (
        "Snapshots in S3",
        &[
            "etcd-s3",
            "etcd-s3-endpoint",
            "etcd-s3-endpoint-ca",
            "etcd-s3-skip-ssl-verify",
            "etcd-s3-access-key",
            "etcd-s3-secret-key",
            "etcd-s3-session-token",
            "etcd-s3-bucket",
            "etcd-s3-bucket-lookup-type",
            "etcd-s3-region",
            "etcd-s3-folder",
            "etcd-s3-proxy",
            "etcd-s3-config-secret",
            "etcd-s3-insecure",
            "etcd-s3-timeout",
            "etcd-s3-retention",
        ],
    ),
    (
        "Listening",
        &[
            "bind-address",
            "https-listen-port",
            "advertise-address",
            "advertise-port",
            "tls-san",
            "tls-san-security",
        ],
    ),
    (
        "Data",
        &[
            "data-dir",
            "default-local-storage-path",
            "datastore-endpoint",
            "datastore-cafile",
            "datastore-certfile",
            "datastore-keyfile",
            "kine-socket",
            "secrets-encryption",
            "secrets-encryption-provider",
        ],
    ),
    (
        "Networking",
        &[
            "cluster-cidr",
            "service-cidr",
            "service-node-port-range",
            "cluster-dns",
            "cluster-domain",
            "flannel-backend",
            "flannel-ipv6-masq",
            "flannel-external-ip",
            "egress-selector-mode",
            "flannel-iface",
            "flannel-conf",
            "resolv-conf",
        ],
    ),
    (
        "Clients",
        &[
            "write-kubeconfig",
            "write-kubeconfig-mode",
            "write-kubeconfig-group",
            "agent-token",
            "agent-token-file",
        ],
    ),
    (
        "Components",
        &[
            "disable",
            "disable-scheduler",
            "disable-cloud-controller",
            "disable-network-policy",
            "disable-helm-controller",
            "kube-apiserver-arg",
            "kube-controller-manager-arg",
            "kube-scheduler-arg",
            "kube-cloud-controller-manager-arg",
            "kubelet-arg",
            "kube-proxy-arg",
            "disable-agent",
            "disable-controller-manager",
            "disable-apiserver",
            "disable-etcd",
        ],
    ),
    (
        "Node",
        &[
            "node-name",
            "with-node-id",
            "node-label",
            "node-taint",
            "node-ip",
            "node-external-ip",
            "private-registry",
            "protect-kernel-defaults",
            "image-credential-provider-bin-dir",
            "image-credential-provider-config",
            "snapshotter",
            "prefer-bundled-bin",
        ],
    ),
];

pub(crate) fn server() -> String {
    usage(
        On::Server,
        "k3rs server - run the Kubernetes control plane and, unless --disable-agent, this machine as a node\n\n\
         USAGE: k3rs server [OPTIONS]\n\n",
    )
}

pub(crate) fn agent() -> String {
    usage(
        On::Agent,
        "k3rs agent - run this machine as a node of the cluster of a server\n\n\
         USAGE: k3rs agent --server URL --token TOKEN [OPTIONS]\n\n",
    )
}

fn usage(on: On, head: &str) -> String {
    let about = described(&crate::settings::load::descriptions());
    let mut text = String::from(head);
    text.push_str(
        "Flags are also read from the environment variables in brackets and from /etc/rancher/k3s/config.yaml, where\n\
         K3RS_ETC_DIR moves it. A flag without VALUE is a switch; --flag=false turns it off. A LIST has commas, or the\n\
         flag is repeated.\n",
    );
    for (topic, names) in TOPICS {
        let flags = names.iter().filter_map(|name| FLAGS.iter().find(|flag| flag.name == *name));
        let mut flags = flags.filter(|flag| flag.is_on(on) && flag.waits(on).is_none()).peekable();
        if flags.peek().is_some() {
            text.push_str(&format!("\n{}:\n", topic.to_uppercase()));
        }
        for flag in flags {
            let name = flag.name;
            let short = flag.short.map(|short| format!(", -{short}")).unwrap_or_default();
            let value = match flag.takes {
                Takes::Switch => "",
                Takes::Value => " VALUE",
                Takes::List | Takes::Repeated => " LIST",
            };
            let dashes = if name.len() == 1 { "-" } else { "--" };
            let short = if name.len() == 1 { String::new() } else { short };
            let head = format!("   {dashes}{name}{short}{value}");
            let found = about.iter().find(|(known, _)| known == name);
            push_wrapped(&mut text, &head, found.map_or("", |(_, text)| text));
        }
    }
    text
}

fn push_wrapped(text: &mut String, head: &str, about: &str) {
    let mut line = format!("{head:<INDENT$}");
    let mut is_empty = true;
    if head.len() + 2 > INDENT {
        text.push_str(head);
        text.push('\n');
        line = " ".repeat(INDENT);
    }
    for word in about.split_whitespace() {
        if !is_empty && line.len() + 1 + word.len() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(INDENT);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// The flags' names and what argh has to say of them.
fn described(usage: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in usage.lines() {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        if indent == 2 && words.starts_with('-') {
            // `-c, --config  words`: the last of the leading words with dashes is the name.
            let (name, about) = match words.split_once(", ") {
                Some((short, rest)) if short.len() == 2 => {
                    rest.split_once(' ').unwrap_or((rest, ""))
                }
                _ => words.split_once(' ').unwrap_or((words, "")),
            };
            let name = name.trim_start_matches('-');
            found.push((name.to_owned(), about.trim().to_owned()));
        } else if indent > 2
            && let Some((_, about)) = found.last_mut()
        {
            about.push(' ');
            about.push_str(words.trim_end());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/flags.md");

    /// The flags as a page of `docs/`: those of the usage texts, and those that are refused, with what they wait for.
    fn page() -> String {
        let about = described(&crate::settings::load::descriptions());
        let mut text = String::from(
            "# Flags of `k3rs server` and `k3rs agent`\n\n\
             A flag is also read from its variable and from `/etc/rancher/k3s/config.yaml` and `config.yaml.d/*.yaml`, under its name without dashes; `name+` adds to a list. \
             The command line goes before the environment, that before files. This page is made from the program's own table by its tests.\n",
        );
        for (topic, names) in TOPICS {
            text += &format!(
                "\n## {topic}\n\n| flag | takes | variable | of | what it does |\n|---|---|---|---|---|\n"
            );
            for name in *names {
                let flag = FLAGS.iter().find(|flag| flag.name == *name).unwrap();
                let takes = match flag.takes {
                    Takes::Switch => "",
                    Takes::Value => "a value",
                    Takes::List => "a list, by commas or repeated",
                    Takes::Repeated => "a value, repeated",
                };
                let of = match (flag.waits(On::Server), flag.is_on(On::Agent)) {
                    (Some(_), _) => "agent",
                    (None, true) => "both",
                    (None, false) => "server",
                };
                let words = &about.iter().find(|(known, _)| known == name).unwrap().1;
                let words = words.replace('|', "\\|").replace('<', "&lt;");
                let short = flag.short.filter(|_| name.len() > 1);
                let short = short.map(|short| format!(", `-{short}`")).unwrap_or_default();
                let env =
                    if flag.env.is_empty() { String::new() } else { format!("`{}`", flag.env) };
                text += &format!("| `--{name}`{short} | {takes} | {env} | {of} | {words} |\n");
            }
        }
        text += "\n## Refused by name\n\n| flag | waits for |\n|---|---|\n";
        for flag in FLAGS.iter() {
            if let Some(what) = flag.waits(On::Server) {
                let of = if flag.waits_for.is_none() { " (on a server)" } else { "" };
                text += &format!("| `--{}`{of} | {what} |\n", flag.name);
            }
        }
        text
    }

    #[test]
    fn the_page_of_flags_is_up_to_date() {
        let (page, written) = (page(), std::fs::read_to_string(PAGE).unwrap_or_default());
        if page != written && option_env!("CI").is_none() {
            std::fs::write(PAGE, &page).unwrap();
            return;
        }
        assert!(
            page == written,
            "docs/reference/flags.md is out of date: run make test and commit it"
        );
    }

    #[test]
    fn every_flag_that_does_something_has_its_place_and_words() {
        let text = server();
        for flag in FLAGS {
            let places = TOPICS.iter().flat_map(|(_, names)| *names).filter(|n| **n == flag.name);
            assert_eq!(places.count(), usize::from(flag.waits_for.is_none()), "--{}", flag.name);
        }
        let about = described(&crate::settings::load::descriptions());
        for name in TOPICS.iter().flat_map(|(_, names)| *names) {
            let words = about.iter().find(|(known, _)| known == name).map(|(_, words)| words);
            assert!(words.is_some_and(|words| !words.is_empty()), "--{name} says nothing");
        }
        assert!(text.lines().all(|line| line.len() <= WIDTH + 20), "{text}");
        assert!(
            text.contains("   --data-dir, -d VALUE             folder to hold state"),
            "{text}"
        );
        assert!(text.contains("   --debug                          turn on"), "{text}");
        let agents = agent();
        assert!(
            agents.contains("--server, -s VALUE") && !agents.contains("--cluster-cidr"),
            "{agents}"
        );
        assert!(!text.contains("--lb-server-port") && text.contains("--token, -t VALUE"), "{text}");
    }
}
