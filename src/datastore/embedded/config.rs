//! The configuration file of an embedded etcd, as k3s writes it: `server/db/etcd/config`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use stdx::{Error, Result};

/// Where clients, peers and Prometheus find it; k3s's ports.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
const METRICS_PORT: u16 = 2381;
pub const PORTS: [u16; 3] = [CLIENT_PORT, PEER_PORT, METRICS_PORT];

const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// What this member is set up with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `server/db/etcd`
    pub dir: PathBuf,
    /// `server/tls/etcd`
    pub tls: PathBuf,
    /// The member's name, from [`super::name`].
    pub name: String,
    pub node_name: String,
    /// Where the other members reach this one.
    pub address: IpAddr,
    /// `--etcd-arg`: `name=value`.
    pub args: Vec<String>,
    /// Its environment: what Go's runtime is told by it, and no secrets.
    pub env: Vec<(String, String)>,
    /// Metrics are served at the address, too.
    pub expose_metrics: bool,
}

/// What it does with what it finds in its directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Initial {
    /// `name=peer URL` of each member, separated by commas.
    pub(super) cluster: String,
    /// It comes to a cluster that exists; `false`: it begins one.
    pub(super) exists: bool,
    /// It forgets the other members.
    pub(super) forces_new: bool,
}

impl Setup {
    /// Where this member serves its own server.
    pub fn local_url() -> String {
        client_url(LOCALHOST)
    }

    pub fn client_url(&self) -> String {
        client_url(self.address)
    }

    pub fn peer_url(&self) -> String {
        format!("https://{}", SocketAddr::new(self.address, PEER_PORT))
    }

    /// The file's text; `initial` is for a member that has no data yet.
    ///
    /// # Errors
    /// If an `--etcd-arg` is not one.
    pub(super) fn config(&self, initial: Option<&Initial>) -> Result<String> {
        let tls = |certificate: &str, ca: &str| {
            let path = |name: String| quote(&self.tls.join(name).to_string_lossy());
            format!(
                "{{\"cert-file\": {}, \"key-file\": {}, \"client-cert-auth\": true, \"trusted-ca-file\": {}}}",
                path(format!("{certificate}.crt")),
                path(format!("{certificate}.key")),
                path(format!("{ca}.crt")),
            )
        };
        let metrics = |address| format!("http://{}", SocketAddr::new(address, METRICS_PORT));
        // At loopback and at the address, where these are two.
        let both = |url: fn(IpAddr) -> String, both: bool| match both && self.address != LOCALHOST {
            true => quote(&format!("{},{}", url(LOCALHOST), url(self.address))),
            false => quote(&url(LOCALHOST)),
        };
        let mut entries: Vec<(&str, String)> = vec![
            ("name", quote(&self.name)),
            ("data-dir", quote(&self.dir.to_string_lossy())),
            ("listen-client-urls", both(client_url, true)),
            ("advertise-client-urls", quote(&self.client_url())),
            ("listen-peer-urls", quote(&self.peer_url())),
            ("listen-metrics-urls", both(metrics, self.expose_metrics)),
            ("client-transport-security", tls("server-client", "server-ca")),
            ("peer-transport-security", tls("peer-server-client", "peer-ca")),
            ("heartbeat-interval", "500".to_owned()),
            ("election-timeout", "5000".to_owned()),
            ("snapshot-count", "10000".to_owned()),
            ("logger", quote("zap")),
            ("log-outputs", "[\"stderr\"]".to_owned()),
            ("experimental-initial-corrupt-check", "true".to_owned()),
        ];
        if let Some(initial) = initial {
            let state = if initial.exists { "existing" } else { "new" };
            entries.push(("initial-advertise-peer-urls", quote(&self.peer_url())));
            entries.push(("initial-cluster", quote(&initial.cluster)));
            entries.push(("initial-cluster-state", quote(state)));
            if initial.forces_new {
                entries.push(("force-new-cluster", "true".to_owned()));
            }
        }
        for arg in &self.args {
            let (name, value) = argument(arg)?;
            entries.retain(|(known, _)| *known != name);
            entries.push((name, value));
        }
        Ok(entries.iter().map(|(name, value)| format!("{name}: {value}\n")).collect())
    }
}

pub(super) fn client_url(address: IpAddr) -> String {
    format!("https://{}", SocketAddr::new(address, CLIENT_PORT))
}

/// Reads an `--etcd-arg`: its name and its value as YAML.
///
/// # Errors
/// If it has no value, or no name of a flag.
pub fn argument(text: &str) -> Result<(&str, String)> {
    let wrong = || Error::new(format!("read --etcd-arg {text:?}: want name=value"));
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let name = name.trim_start_matches('-');
    if name.is_empty()
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err(wrong());
    }
    let is_time = ["time", "duration", "interval"].iter().any(|part| name.contains(part));
    let value = match value {
        "true" | "false" => value.to_owned(),
        number if number.parse::<i64>().is_ok() => number.to_owned(),
        // etcd's file has times in nanoseconds.
        time if is_time && nanoseconds(time).is_some() => {
            nanoseconds(time).unwrap_or_default().to_string()
        }
        list if list.starts_with('[') && list.ends_with(']') => {
            let items =
                list[1..list.len() - 1].split(',').map(|item| quote(item.trim().trim_matches('"')));
            format!("[{}]", items.filter(|item| item != "\"\"").collect::<Vec<_>>().join(", "))
        }
        text => quote(text),
    };
    Ok((name, value))
}

/// `1h2m3s`, `500ms`.
fn nanoseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let end = rest[digits..].find(|c: char| c.is_ascii_digit());
        let (unit, next) = rest[digits..].split_at(end.unwrap_or(rest.len() - digits));
        let factor = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(factor)?)?;
        rest = next;
    }
    (!text.is_empty()).then_some(sum)
}

/// A text as YAML has it between double quotes.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::embedded) fn setup() -> Setup {
        Setup {
            dir: "/d/server/db/etcd".into(),
            tls: "/d/server/tls/etcd".into(),
            name: "one-0a1b2c3d".into(),
            node_name: "one".into(),
            address: "192.0.2.1".parse().unwrap(),
            args: Vec::new(),
            env: Vec::new(),
            expose_metrics: false,
        }
    }

    #[test]
    fn a_member_that_begins_a_cluster() {
        let initial =
            Initial { cluster: "one-0a1b2c3d=https://192.0.2.1:2380".into(), ..Initial::default() };
        let text = setup().config(Some(&initial)).unwrap();
        for line in [
            r#"name: "one-0a1b2c3d""#,
            r#"data-dir: "/d/server/db/etcd""#,
            r#"listen-client-urls: "https://127.0.0.1:2379,https://192.0.2.1:2379""#,
            r#"advertise-client-urls: "https://192.0.2.1:2379""#,
            r#"listen-peer-urls: "https://192.0.2.1:2380""#,
            r#"listen-metrics-urls: "http://127.0.0.1:2381""#,
            r#"client-transport-security: {"cert-file": "/d/server/tls/etcd/server-client.crt", "key-file": "/d/server/tls/etcd/server-client.key", "client-cert-auth": true, "trusted-ca-file": "/d/server/tls/etcd/server-ca.crt"}"#,
            "heartbeat-interval: 500",
            "election-timeout: 5000",
            r#"initial-cluster: "one-0a1b2c3d=https://192.0.2.1:2380""#,
            r#"initial-cluster-state: "new""#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in {text}");
        }
        assert!(!text.contains("force-new-cluster"));
        let later = setup().config(None).unwrap();
        assert!(!later.contains("initial-cluster"), "{later}");
    }

    #[test]
    fn arguments_take_the_place_of_what_we_would_say() {
        let mut setup = setup();
        setup.args =
            vec!["--quota-backend-bytes=8589934592".into(), "heartbeat-interval=100".into()];
        setup.expose_metrics = true;
        setup.address = "fd00::1".parse().unwrap();
        let text = setup.config(None).unwrap();
        assert!(text.contains("quota-backend-bytes: 8589934592\n"), "{text}");
        assert!(text.contains("heartbeat-interval: 100\n") && !text.contains(": 500\n"), "{text}");
        assert!(text.contains("http://127.0.0.1:2381,http://[fd00::1]:2381"), "{text}");
        setup.args = vec!["quota".into()];
        assert!(setup.config(None).is_err());
    }

    #[test]
    fn values_have_their_types() {
        for (text, wanted) in [
            ("--auto-compaction-mode=periodic", Ok(("auto-compaction-mode", "\"periodic\""))),
            ("auto-compaction-retention=5m", Ok(("auto-compaction-retention", "\"5m\""))),
            ("grpc-keepalive-interval=1m30s", Ok(("grpc-keepalive-interval", "90000000000"))),
            ("strict-reconfig-check=false", Ok(("strict-reconfig-check", "false"))),
            ("log-outputs=[stderr, /a]", Ok(("log-outputs", "[\"stderr\", \"/a\"]"))),
            ("x=a\"\n", Ok(("x", "\"a\\\"\\u000a\""))),
            ("x=", Ok(("x", "\"\""))),
            ("x", Err(())),
            ("--=1", Err(())),
            ("a: b=1", Err(())),
            ("a\nb=1", Err(())),
        ] {
            let found = argument(text);
            let found = found.as_ref().map(|(name, value)| (*name, value.as_str())).map_err(|_| ());
            assert_eq!(found, wanted, "{text:?}");
        }
        assert_eq!(nanoseconds("1h1ms"), Some(3_600_001_000_000));
        for bad in ["", "5", "m", "5x", "99999999999h"] {
            assert_eq!(nanoseconds(bad), None, "{bad}");
        }
    }
}
