//! Every certificate and key that k3s names: made where absent, kept where sound, renewed where due.

use std::net::IpAddr;

use stdx::Arrange;
use stdx::time::Wall;
use stdx::{Context, Result};

use crate::kubeconfig;
use crate::paths::Paths;
use crate::x509::{self, Certificate, Leaf};

/// k3s: CAs live ten years, leaves one, renewed when less than 120 days are left.
const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 365;
const RENEW_BELOW_DAYS: i64 = 120;
/// A CA made by a machine that does not know the time: the firmware may be years old by then.
const BLIND_CA_DAYS: i64 = 2 * CA_DAYS;
const SECS_PER_DAY: i64 = 86_400;

/// The time, and what is known of it: a board without a battery starts in 1970.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub now: Wall,
    /// When this program was built: it cannot be earlier.
    pub built: Wall,
}

impl Clock {
    /// The clock is surely wrong, and nobody knows by how much.
    pub fn is_blind(&self) -> bool {
        self.now < self.built
    }

    fn in_days(&self, days: i64) -> Wall {
        Wall::from_secs(self.now.max(self.built).secs() + days * SECS_PER_DAY)
    }
}

/// What certificates depend on.
#[derive(Debug, Clone)]
pub struct Settings {
    pub node_name: String,
    pub node_addresses: Vec<IpAddr>,
    /// The first address of each service network, and other names of the API server (`--tls-san`).
    pub san_addresses: Vec<IpAddr>,
    pub san_names: Vec<String>,
    pub cluster_domain: String,
    pub https_port: u16,
    /// Whether this server is a client of the cluster's etcd, or has a member of its own.
    pub etcd: bool,
}

/// What the process keeps at hand; the rest stays in files.
#[derive(Debug, Clone)]
pub struct Pki {
    pub client_ca: Certificate,
    pub server_ca: Certificate,
    pub request_header_ca: Certificate,
    pub admin: Certificate,
    /// For calls to kubelets.
    pub kube_apiserver_client: Certificate,
    pub serving_kube_apiserver: Certificate,
    pub serving_kubelet: Certificate,
    pub auth_proxy: Certificate,
    /// Keys that sign service account tokens, the current one first, PEM.
    pub service_account_keys: Vec<String>,
}

/// One client certificate of the table.
struct ClientCertificate {
    file: &'static str,
    common_name: &'static str,
    organization: &'static str,
    /// The kubeconfig in `server/cred/` that names it, or "".
    kubeconfig: &'static str,
}

/// Signed by the client CA, as k3s names them.
const CLIENTS: &[ClientCertificate] = &[
    ClientCertificate {
        file: "client-admin",
        common_name: "system:admin",
        organization: "system:masters",
        kubeconfig: "admin",
    },
    ClientCertificate {
        file: "client-supervisor",
        common_name: "system:k3s-supervisor",
        organization: "system:masters",
        kubeconfig: "supervisor",
    },
    ClientCertificate {
        file: "client-controller",
        common_name: "system:kube-controller-manager",
        organization: "",
        kubeconfig: "controller",
    },
    ClientCertificate {
        file: "client-scheduler",
        common_name: "system:kube-scheduler",
        organization: "",
        kubeconfig: "scheduler",
    },
    ClientCertificate {
        file: "client-kube-apiserver",
        common_name: "system:apiserver",
        organization: "system:masters",
        kubeconfig: "api-server",
    },
    ClientCertificate {
        file: "client-kube-proxy",
        common_name: "system:kube-proxy",
        organization: "",
        kubeconfig: "",
    },
    ClientCertificate {
        file: "client-k3s-controller",
        common_name: "system:k3s-controller",
        organization: "",
        kubeconfig: "",
    },
    ClientCertificate {
        file: "client-k3s-cloud-controller",
        common_name: "k3s-cloud-controller-manager",
        organization: "",
        kubeconfig: "cloud-controller",
    },
];

impl Pki {
    /// Loads what is there and makes what is missing, expired soon, of another CA, or lacks a name.
    ///
    /// # Errors
    /// If a file cannot be read or written, or a CA certificate that is there cannot be used.
    pub fn ensure(paths: &Paths, settings: &Settings, clock: Clock) -> Result<Pki> {
        if settings.etcd {
            ensure_etcd(paths, settings, clock)?;
        }
        for dir in [paths.tls("temporary-certs"), paths.server().join("cred"), paths.agent()] {
            rt::fs::create_dir_all(dir, 0o700)?;
        }
        let stamp = clock.now.secs();
        let client_ca = ensure_ca(paths, "client-ca", &format!("k3s-client-ca@{stamp}"), clock)?;
        let server_ca = ensure_ca(paths, "server-ca", &format!("k3s-server-ca@{stamp}"), clock)?;
        let request_header_ca = ensure_ca(
            paths,
            "request-header-ca",
            &format!("k3s-request-header-ca@{stamp}"),
            clock,
        )?;
        for (name, ca) in [("client-ca", &client_ca), ("server-ca", &server_ca)] {
            rt::fs::keep(
                paths.tls(&format!("{name}.nochain.crt")),
                first_certificate(&ca.chain_pem).as_bytes(),
                0o600,
            )?;
        }
        let mut issuer = Ensure { paths, clock };
        issuer.clients(&client_ca, settings)?;
        let admin = read_pair(&paths.tls("client-admin"))?
            .context(|| "read the admin certificate just made")?;
        let apiserver = read_pair(&paths.tls("client-kube-apiserver"))?
            .context(|| "read the API server's client certificate just made")?;
        let auth_proxy = issuer.leaf(
            "tls/client-auth-proxy",
            &request_header_ca,
            &Leaf { common_name: "system:auth-proxy", client: true, ..Leaf::default() },
            "",
        )?;
        let serving_kube_apiserver = issuer.serving_apiserver(&server_ca, settings)?;
        let serving_kubelet = issuer.agent(&client_ca, &server_ca, settings)?;
        let service_account_keys = ensure_service_keys(paths)?;
        Ok(Pki {
            client_ca,
            server_ca,
            request_header_ca,
            admin,
            kube_apiserver_client: apiserver,
            serving_kube_apiserver,
            serving_kubelet,
            auth_proxy,
            service_account_keys,
        })
    }
}

impl Pki {
    /// When the first of the certificates in use is due for renewal.
    pub fn renew_at(&self) -> Wall {
        let leaves = [&self.admin, &self.serving_kube_apiserver, &self.serving_kubelet];
        renew_at(leaves.into_iter())
    }
}

/// The certificates of the embedded etcd, in `server/tls/etcd/`: of its clients, of the members as servers, and of the
/// members among each other, who look at the addresses that others come from. It reads them at each handshake.
///
/// # Errors
/// As [`Pki::ensure`].
pub fn ensure_etcd(paths: &Paths, settings: &Settings, clock: Clock) -> Result<()> {
    rt::fs::create_dir_all(paths.tls("etcd"), 0o700)?;
    let stamp = clock.now.secs();
    let ca = |name: &str| {
        let common_name = format!("etcd-{name}@{stamp}");
        ensure_ca(paths, &format!("etcd/{name}"), &common_name, clock)
    };
    let (server_ca, peer_ca) = (ca("server-ca")?, ca("peer-ca")?);
    let mut names: Vec<String> = ["kine.sock", "localhost"].map(String::from).to_vec();
    names.push(settings.node_name.clone());
    names.extend(settings.san_names.iter().cloned());
    let mut addresses =
        vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
    addresses.extend(settings.node_addresses.iter().chain(&settings.san_addresses));
    names.arrange();
    names.dedup();
    addresses.arrange();
    addresses.dedup();
    let mut issuer = Ensure { paths, clock };
    let client = Leaf { common_name: "etcd-client", client: true, ..Leaf::default() };
    issuer.leaf("tls/etcd/client", &server_ca, &client, "")?;
    let member = |common_name| Leaf {
        common_name,
        dns_names: &names,
        addresses: &addresses,
        server: true,
        client: true,
        ..Leaf::default()
    };
    issuer.leaf("tls/etcd/server-client", &server_ca, &member("etcd-server"), "")?;
    issuer.leaf("tls/etcd/peer-server-client", &peer_ca, &member("etcd-peer"), "")?;
    Ok(())
}

/// When the first of these is due for renewal.
pub(crate) fn renew_at<'a>(leaves: impl Iterator<Item = &'a Certificate>) -> Wall {
    let ends = leaves.filter_map(|pair| x509::read_pem(&pair.chain_pem).ok());
    let first = ends.map(|parsed| parsed.not_after).min().unwrap_or_default();
    Wall::from_secs(first.secs() - RENEW_BELOW_DAYS * SECS_PER_DAY)
}

struct Ensure<'a> {
    paths: &'a Paths,
    clock: Clock,
}

impl Ensure<'_> {
    /// A leaf at `<data-dir>/server/<name>.{crt,key}` (or `agent/...`), reused while sound.
    /// With `key_pem` the leaf has that key.
    fn leaf(
        &mut self,
        name: &str,
        ca: &Certificate,
        leaf: &Leaf<'_>,
        key_pem: &str,
    ) -> Result<Certificate> {
        let path = match name.strip_prefix("agent/") {
            Some(name) => self.paths.agent().join(name),
            None => self.paths.server().join(name),
        };
        if let Some(pair) = read_pair(&path)?
            && sound(&pair, ca, leaf, key_pem, self.clock)
        {
            return Ok(pair);
        }
        let not_after = leaf_until(ca, self.clock)?;
        let pair = x509::issue(ca, leaf, key_pem, not_after).context(|| format!("make {name}"))?;
        rt::fs::write_atomic(path.with_extension("key"), pair.key_pem.as_bytes(), 0o600)?;
        rt::fs::write_atomic(path.with_extension("crt"), pair.chain_pem.as_bytes(), 0o600)?;
        Ok(pair)
    }

    fn clients(&mut self, ca: &Certificate, settings: &Settings) -> Result<()> {
        let url = format!("https://127.0.0.1:{}", settings.https_port);
        for client in CLIENTS {
            let leaf = Leaf {
                common_name: client.common_name,
                organization: client.organization,
                client: true,
                ..Leaf::default()
            };
            self.leaf(&format!("tls/{}", client.file), ca, &leaf, "")?;
            if !client.kubeconfig.is_empty() {
                let tls = |name: &str| self.paths.tls(name).display().to_string();
                let (crt, key) =
                    (tls(&format!("{}.crt", client.file)), tls(&format!("{}.key", client.file)));
                let text = kubeconfig::component(&url, &tls("server-ca.crt"), &crt, &key);
                rt::fs::keep(
                    self.paths.cred(&format!("{}.kubeconfig", client.kubeconfig)),
                    text.as_bytes(),
                    0o600,
                )?;
            }
        }
        Ok(())
    }

    fn serving_apiserver(&mut self, ca: &Certificate, settings: &Settings) -> Result<Certificate> {
        let domain = &settings.cluster_domain;
        let mut names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            .map(String::from)
            .to_vec();
        names.extend([
            format!("kubernetes.default.svc.{domain}"),
            "localhost".into(),
            settings.node_name.clone(),
        ]);
        names.extend(settings.san_names.iter().cloned());
        let mut addresses =
            vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        addresses.extend(settings.node_addresses.iter().chain(&settings.san_addresses));
        addresses.arrange();
        addresses.dedup();
        names.arrange();
        names.dedup();
        let leaf = Leaf {
            common_name: "kube-apiserver",
            dns_names: &names,
            addresses: &addresses,
            server: true,
            ..Leaf::default()
        };
        self.leaf("tls/serving-kube-apiserver", ca, &leaf, "")
    }

    /// This node's own certificates, under `agent/`. k3s gives all kubelets of a server one shared key each.
    fn agent(
        &mut self,
        client_ca: &Certificate,
        server_ca: &Certificate,
        settings: &Settings,
    ) -> Result<Certificate> {
        for (name, ca) in [("client-ca.crt", client_ca), ("server-ca.crt", server_ca)] {
            rt::fs::keep(self.paths.agent().join(name), ca.chain_pem.as_bytes(), 0o600)?;
        }
        let client_key = ensure_key(&self.paths.tls("client-kubelet.key"))?;
        let serving_key = ensure_key(&self.paths.tls("serving-kubelet.key"))?;
        let name = format!("system:node:{}", settings.node_name);
        let kubelet = Leaf {
            common_name: &name,
            organization: "system:nodes",
            client: true,
            ..Leaf::default()
        };
        self.leaf("agent/client-kubelet", client_ca, &kubelet, &client_key)?;
        for (file, common_name) in [
            ("client-kube-proxy", "system:kube-proxy"),
            ("client-k3s-controller", "system:k3s-controller"),
        ] {
            self.leaf(
                &format!("agent/{file}"),
                client_ca,
                &Leaf { common_name, client: true, ..Leaf::default() },
                "",
            )?;
        }
        // As k3s names and lays them out: what a node starts from.
        let url = format!("https://127.0.0.1:{}", settings.https_port);
        let agent = |name: &str| self.paths.agent().join(name).display().to_string();
        for (file, pair) in [
            ("kubelet", "client-kubelet"),
            ("kubeproxy", "client-kube-proxy"),
            ("k3scontroller", "client-k3s-controller"),
        ] {
            let (crt, key) = (agent(&format!("{pair}.crt")), agent(&format!("{pair}.key")));
            let text = kubeconfig::component(&url, &agent("server-ca.crt"), &crt, &key);
            rt::fs::keep(
                self.paths.agent().join(format!("{file}.kubeconfig")),
                text.as_bytes(),
                0o600,
            )?;
        }
        let names = [settings.node_name.clone(), "localhost".to_owned()];
        let mut addresses = vec![IpAddr::from([127, 0, 0, 1])];
        addresses.extend(&settings.node_addresses);
        let serving = Leaf {
            common_name: &settings.node_name,
            dns_names: &names,
            addresses: &addresses,
            server: true,
            ..Leaf::default()
        };
        self.leaf("agent/serving-kubelet", server_ca, &serving, &serving_key)
    }
}

/// True if a pair on disk may stay: of this CA and key, not near its end, with every name it needs,
/// and not issued blindly once the time is known.
fn sound(
    pair: &Certificate,
    ca: &Certificate,
    leaf: &Leaf<'_>,
    key_pem: &str,
    clock: Clock,
) -> bool {
    let (Ok(parsed), Ok(ca)) = (x509::read_pem(&pair.chain_pem), x509::read_pem(&ca.chain_pem))
    else {
        return false;
    };
    let blindly = parsed.not_after == ca.not_after && ca.not_after > clock.in_days(LEAF_DAYS);
    parsed.not_after >= clock.in_days(RENEW_BELOW_DAYS)
        && (clock.is_blind() || !blindly)
        && parsed.names_issuer(&ca)
        && x509::has_key(&parsed, &pair.key_pem)
        && (key_pem.is_empty() || x509::has_key(&parsed, key_pem))
        && leaf.dns_names.iter().all(|name| parsed.dns_names.contains(name))
        && leaf.addresses.iter().all(|address| parsed.addresses.contains(address))
}

/// When a leaf made now ends. Without the time, a year from the day of the build may be over already: as long as its CA.
pub(crate) fn leaf_until(ca: &Certificate, clock: Clock) -> Result<Wall> {
    match clock.is_blind() {
        true => Ok(x509::read_pem(&ca.chain_pem)?.not_after),
        false => Ok(clock.in_days(LEAF_DAYS)),
    }
}

fn ensure_ca(paths: &Paths, name: &str, common_name: &str, clock: Clock) -> Result<Certificate> {
    let path = paths.tls(name);
    if let Some(pair) = read_pair(&path)? {
        let what = || format!("use the CA {}", path.display());
        x509::read_pem(&pair.chain_pem).context(what)?;
        x509::check_key(&pair.key_pem).context(what)?;
        // Earlier versions let everybody read it, as k3s does.
        rt::fs::keep(path.with_extension("crt"), pair.chain_pem.as_bytes(), 0o600)?;
        return Ok(pair);
    }
    let days = if clock.is_blind() { BLIND_CA_DAYS } else { CA_DAYS };
    let pair = x509::new_ca(common_name, clock.in_days(days))?;
    rt::fs::write_atomic(path.with_extension("key"), pair.key_pem.as_bytes(), 0o600)?;
    rt::fs::write_atomic(path.with_extension("crt"), pair.chain_pem.as_bytes(), 0o600)?;
    Ok(pair)
}

fn ensure_key(path: &std::path::Path) -> Result<String> {
    if let Some(bytes) = rt::fs::read_optional(path)? {
        let pem = String::from_utf8(bytes).context(|| format!("read {}", path.display()))?;
        x509::check_key(&pem).context(|| format!("use {}", path.display()))?;
        return Ok(pem);
    }
    let pem = x509::new_key()?;
    rt::fs::write_atomic(path, pem.as_bytes(), 0o600)?;
    Ok(pem)
}

/// `service.key` holds every key that verifies, the signing one first; `service.current.key` the one that signs.
fn ensure_service_keys(paths: &Paths) -> Result<Vec<String>> {
    let current = match rt::fs::read_optional(paths.tls("service.current.key"))? {
        Some(bytes) => String::from_utf8(bytes).context(|| "read service.current.key")?,
        None => match rt::fs::read_optional(paths.tls("service.key"))? {
            Some(bytes) => {
                first_block(&String::from_utf8(bytes).context(|| "read service.key")?).to_owned()
            }
            None => x509::new_key()?,
        },
    };
    rt::fs::keep(paths.tls("service.current.key"), current.as_bytes(), 0o600)?;
    let all = match rt::fs::read_optional(paths.tls("service.key"))? {
        Some(bytes) => String::from_utf8(bytes).context(|| "read service.key")?,
        None => {
            rt::fs::keep(paths.tls("service.key"), current.as_bytes(), 0o600)?;
            current.clone()
        }
    };
    let mut keys = vec![current.trim().to_owned()];
    for block in blocks(&all) {
        if !keys.iter().any(|key| key == block) {
            keys.push(block.to_owned());
        }
    }
    Ok(keys)
}

/// The PEM blocks of a file, each without surrounding space.
pub(crate) fn blocks(pem: &str) -> impl Iterator<Item = &str> {
    let starts: Vec<usize> = pem.match_indices("-----BEGIN ").map(|(idx, _)| idx).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([pem.len()]).collect();
    starts.into_iter().zip(ends).map(|(from, to)| pem[from..to].trim())
}

/// The first key of those that sign and verify tokens of service accounts: the one that signs.
pub fn first_key(pem: &str) -> String {
    first_block(pem).to_owned() + "\n"
}

fn first_block(pem: &str) -> &str {
    blocks(pem).next().unwrap_or("")
}

fn first_certificate(pem: &str) -> &str {
    match pem.match_indices("-----BEGIN ").nth(1) {
        Some((idx, _)) => &pem[..idx],
        None => pem,
    }
}

/// `<path>.crt` and `<path>.key`, if both are there.
pub(crate) fn read_pair(path: &std::path::Path) -> Result<Option<Certificate>> {
    let text = |extension: &str| -> Result<Option<String>> {
        let path = path.with_extension(extension);
        match rt::fs::read_optional(&path)? {
            Some(bytes) => {
                String::from_utf8(bytes).map(Some).context(|| format!("read {}", path.display()))
            }
            None => Ok(None),
        }
    };
    Ok(match (text("crt")?, text("key")?) {
        (Some(chain_pem), Some(key_pem)) => Some(Certificate { chain_pem, key_pem }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            node_name: "n1".into(),
            node_addresses: vec!["192.0.2.1".parse().unwrap()],
            san_addresses: vec!["10.43.0.1".parse().unwrap()],
            san_names: Vec::new(),
            cluster_domain: "cluster.local".into(),
            https_port: 6443,
            etcd: false,
        }
    }

    fn clock(now_secs: i64) -> Clock {
        Clock { now: Wall::from_secs(now_secs), built: Wall::from_secs(BUILT) }
    }

    const BUILT: i64 = 1_790_000_000;
    const DAY: i64 = SECS_PER_DAY;

    fn scratch(name: &str) -> (Paths, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(format!("cluster-{name}-{}", std::process::id()));
        (Paths::new(&dir), dir)
    }

    #[test]
    fn kept_while_sound_and_renewed_when_due() {
        let (paths, dir) = scratch("pki");
        let start = 1_800_000_000;
        let first = Pki::ensure(&paths, &settings(), clock(start)).unwrap();
        let second = Pki::ensure(&paths, &settings(), clock(start)).unwrap();
        assert_eq!(first.serving_kube_apiserver.chain_pem, second.serving_kube_apiserver.chain_pem);
        assert_eq!(first.service_account_keys, second.service_account_keys);
        let mut wider = settings();
        wider.san_names.push("gw.example".into());
        let third = Pki::ensure(&paths, &wider, clock(start)).unwrap();
        assert_ne!(
            third.serving_kube_apiserver.chain_pem, first.serving_kube_apiserver.chain_pem,
            "a new name needs a new certificate"
        );
        assert_eq!(third.server_ca.chain_pem, first.server_ca.chain_pem);
        let later = Pki::ensure(&paths, &wider, clock(start + 250 * DAY)).unwrap();
        assert_ne!(later.admin.chain_pem, first.admin.chain_pem, "renewed with 115 days left");
        rt::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_board_in_1970_issues_what_is_valid_whenever_it_is() {
        let (paths, dir) = scratch("blind");
        let ends = |pair: &Certificate| x509::read_pem(&pair.chain_pem).unwrap().not_after.secs();
        let blind = Pki::ensure(&paths, &settings(), clock(5)).unwrap();
        // The client has the right time, and the firmware is nine years old.
        for pair in [&blind.admin, &blind.serving_kube_apiserver, &blind.serving_kubelet] {
            assert!(ends(pair) > BUILT + 9 * 365 * DAY);
        }
        let again = Pki::ensure(&paths, &settings(), clock(6)).unwrap();
        assert_eq!(again.admin.chain_pem, blind.admin.chain_pem);
        // The clock is set: the CA stays, leaves get their usual year.
        let now = BUILT + 1000 * DAY;
        let set = Pki::ensure(&paths, &settings(), clock(now)).unwrap();
        assert_eq!(set.server_ca.chain_pem, blind.server_ca.chain_pem);
        assert!((ends(&set.admin) - now - 365 * DAY).abs() <= DAY);
        // And set back to 1970 by the next boot: what is good for a while is kept.
        let kept = Pki::ensure(&paths, &settings(), clock(5)).unwrap();
        assert_eq!(kept.admin.chain_pem, set.admin.chain_pem);
        rt::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn an_embedded_etcd_has_authorities_and_certificates_of_its_own() {
        let dir = std::env::temp_dir().join(format!("cluster-pki-etcd-{}", std::process::id()));
        let paths = Paths::new(&dir);
        let clock = Clock { now: Wall::from_secs(1_800_000_000), built: Wall::from_secs(0) };
        let read = |name: &str| read_pair(&paths.tls("etcd").join(name)).unwrap().unwrap();
        let parsed = |name: &str| x509::read_pem(&read(name).chain_pem).unwrap();
        let settings = settings();
        ensure_etcd(&paths, &settings, clock).unwrap();
        let first = read("client").chain_pem;
        for (name, ca) in [
            ("client", "server-ca"),
            ("server-client", "server-ca"),
            ("peer-server-client", "peer-ca"),
        ] {
            assert!(parsed(name).names_issuer(&parsed(ca)), "{name}");
        }
        assert!(!parsed("client").names_issuer(&parsed("peer-ca")));
        for name in ["server-client", "peer-server-client"] {
            let found = parsed(name);
            assert!(
                settings.node_addresses.iter().all(|ip| found.addresses.contains(ip)),
                "{name}"
            );
            assert!(found.dns_names.iter().any(|name| name == "localhost"), "{name}");
        }
        assert!(parsed("client").addresses.is_empty());
        ensure_etcd(&paths, &settings, clock).unwrap();
        assert_eq!(read("client").chain_pem, first, "what is sound stays");
        let moved = Settings { node_addresses: vec!["192.0.2.99".parse().unwrap()], ..settings };
        let ca = read("peer-ca").chain_pem;
        ensure_etcd(&paths, &moved, clock).unwrap();
        assert_eq!((read("client").chain_pem, read("peer-ca").chain_pem), (first, ca));
        assert!(parsed("peer-server-client").addresses.contains(&"192.0.2.99".parse().unwrap()));
        let before = read("client").chain_pem;
        let late = Clock { now: Wall::from_secs(1_800_000_000 + 300 * SECS_PER_DAY), ..clock };
        ensure_etcd(&paths, &moved, late).unwrap();
        assert_ne!(read("client").chain_pem, before, "renewed");
        rt::fs::remove_dir_all(dir).unwrap();
    }
}
