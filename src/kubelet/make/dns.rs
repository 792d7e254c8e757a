//! Names inside a pod: its hostname, `/etc/hosts`, `/etc/resolv.conf`.

use std::fmt::Write;
use std::net::IpAddr;

use api::{Lens, Value};

/// Bounds of the resolver, as upstream keeps to.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;
const HOSTNAME_MAX: usize = 63;

/// The short hostname and the domain (empty without `subdomain`).
pub(crate) fn hostname(pod: &Value, cluster_domain: &str) -> (String, String) {
    let mut name = match pod.str("spec.hostname") {
        "" => pod.str("metadata.name"),
        name => name,
    };
    name = name.get(..HOSTNAME_MAX).unwrap_or(name).trim_end_matches(['-', '.']);
    let domain = match pod.str("spec.subdomain") {
        "" => String::new(),
        subdomain => {
            format!("{subdomain}.{}.svc.{cluster_domain}", pod.str("metadata.namespace"))
        }
    };
    (name.to_owned(), domain)
}

/// What `uname -n` says: the whole name with `setHostnameAsFQDN`.
///
/// # Errors
/// If the whole name is longer than the kernel takes.
pub(crate) fn uts_name(pod: &Value, cluster_domain: &str) -> Result<String, String> {
    const UTS_MAX: usize = 64;
    let (name, domain) = hostname(pod, cluster_domain);
    if !pod.flag("spec.setHostnameAsFQDN") || domain.is_empty() {
        return Ok(name);
    }
    let whole = format!("{name}.{domain}");
    match whole.len() <= UTS_MAX {
        true => Ok(whole),
        false => Err(format!(
            "failed to construct FQDN from Pod hostname and cluster domain, FQDN {whole} is too long (64 characters is the max, {} characters requested)",
            whole.len()
        )),
    }
}

/// The managed `/etc/hosts`.
pub(crate) fn hosts(pod: &Value, pod_ips: &[IpAddr], cluster_domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let (name, domain) = hostname(pod, cluster_domain);
    for ip in pod_ips {
        // Writing to a String cannot fail.
        let _ = match domain.is_empty() {
            true => writeln!(text, "{ip}\t{name}"),
            false => writeln!(text, "{ip}\t{name}.{domain}\t{name}"),
        };
    }
    text.push_str(&aliases(pod));
    text
}

/// The host's own file, for pods on the host's network, with the pod's aliases below it.
pub(crate) fn host_network_hosts(pod: &Value, host_file: &str) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{host_file}{}", aliases(pod))
}

fn aliases(pod: &Value) -> String {
    let aliases = pod.list("spec.hostAliases");
    if aliases.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names: Vec<&str> = alias.list("hostnames").iter().filter_map(Value::as_str).collect();
        let _ = writeln!(text, "{}\t{}", alias.str("ip"), names.join("\t"));
    }
    text
}

/// A resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub nameservers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl Resolver {
    pub(crate) fn parse(text: &str) -> Resolver {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let Some(keyword) = words.next() else { continue };
            match keyword {
                "nameserver" => resolver.nameservers.extend(words.next().map(str::to_owned)),
                // The last line wins.
                "search" => resolver.searches = words.map(str::to_owned).collect(),
                "options" => resolver.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        resolver
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            let _ = writeln!(text, "search {}", self.searches.join(" "));
        }
        for server in &self.nameservers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

/// What the pod's `dnsPolicy` and `dnsConfig` make of the host's and the cluster's resolvers.
pub(crate) fn resolver(
    pod: &Value,
    host: &Resolver,
    cluster_dns: &[IpAddr],
    cluster_domain: &str,
) -> Resolver {
    let cluster_first = match pod.str("spec.dnsPolicy") {
        "None" => None,
        "Default" => Some(false),
        "ClusterFirstWithHostNet" => Some(true),
        _ => Some(!pod.flag("spec.hostNetwork")),
    };
    let mut resolver = match cluster_first {
        None => Resolver::default(),
        Some(true) if !cluster_dns.is_empty() => {
            let namespace = pod.str("metadata.namespace");
            let mut searches = vec![
                format!("{namespace}.svc.{cluster_domain}"),
                format!("svc.{cluster_domain}"),
                cluster_domain.to_owned(),
            ];
            searches.extend(host.searches.iter().cloned());
            Resolver {
                nameservers: cluster_dns.iter().map(IpAddr::to_string).collect(),
                searches,
                options: vec!["ndots:5".to_owned()],
            }
        }
        Some(_) => host.clone(),
    };
    let config = pod.at("spec.dnsConfig");
    let texts = |path: &str| {
        config.list(path).iter().filter_map(|v| v.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    resolver.nameservers.extend(texts("nameservers"));
    resolver.searches.extend(texts("searches"));
    for option in config.list("options") {
        let name = option.str("name");
        resolver.options.retain(|known| known.split(':').next() != Some(name));
        resolver.options.push(match option.str("value") {
            "" => name.to_owned(),
            value => format!("{name}:{value}"),
        });
    }
    dedup(&mut resolver.nameservers);
    dedup(&mut resolver.searches);
    resolver.nameservers.truncate(NAMESERVERS_MAX);
    resolver.searches.truncate(SEARCHES_MAX);
    while resolver.searches.join(" ").len() > SEARCH_CHARS_MAX {
        resolver.searches.pop();
    }
    resolver
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = Vec::new();
    list.retain(|item| {
        let new = !seen.contains(item);
        seen.push(item.clone());
        new
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn text(spec: Value) -> String {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
        let host = Resolver::parse("# x\nnameserver 9.9.9.9\nsearch corp\noptions rotate\n");
        resolver(&pod, &host, &["10.43.0.10".parse().unwrap()], "cluster.local").text()
    }

    #[test]
    fn policies() {
        let cluster = "search n.svc.cluster.local svc.cluster.local cluster.local corp\nnameserver 10.43.0.10\noptions ndots:5\n";
        let default = "search corp\nnameserver 9.9.9.9\noptions rotate\n";
        assert_eq!(text(json!({})), cluster);
        assert_eq!(text(json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true})), default);
        assert_eq!(
            text(json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true})),
            cluster
        );
        assert_eq!(text(json!({"dnsPolicy": "Default"})), default);
        assert_eq!(
            text(
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}})
            ),
            "search a\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"
        );
        assert!(
            text(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}))
                .ends_with("options ndots:1\n")
        );
    }

    #[test]
    fn names() {
        let pod = json!({"metadata": {"name": "web-0", "namespace": "n"}, "spec": {
            "hostname": "web-0", "subdomain": "web", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}});
        let text = hosts(&pod, &["10.0.0.1".parse().unwrap()], "cluster.local");
        assert!(text.contains("10.0.0.1\tweb-0.web.n.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
        assert_eq!(uts_name(&pod, "cluster.local").as_deref(), Ok("web-0"));
        let long = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"subdomain": "x".repeat(60), "setHostnameAsFQDN": true}});
        assert!(uts_name(&long, "cluster.local").is_err());
    }
}
