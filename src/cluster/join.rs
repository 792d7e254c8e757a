//! What an agent keeps of the cluster that it joined: certificates with keys of its own, and how the cluster is set up.

use std::path::PathBuf;

use stdx::time::Wall;
use stdx::{Context, Error, Result};

use crate::kubeconfig;
use crate::paths::Paths;
use crate::pki::Clock;
use crate::x509::{self, Certificate};

/// A server's answer: a certificate with its chain, settings, a CA bundle.
pub const ANSWER_MAX_BYTES: usize = 256 << 10;

/// A certificate that an agent asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Its name with the server and on disk, without `.crt`.
    pub name: &'static str,
    /// Whether the node must show its name and password for it.
    pub is_nodes: bool,
    /// Whether it is signed by the CA of servers.
    pub serves: bool,
}

/// As k3s's agents have them.
pub const WANTED: [Wanted; 4] = [
    Wanted { name: "serving-kubelet", is_nodes: true, serves: true },
    Wanted { name: "client-kubelet", is_nodes: true, serves: false },
    Wanted { name: "client-kube-proxy", is_nodes: false, serves: false },
    Wanted { name: "client-k3s-controller", is_nodes: false, serves: false },
];

/// The kubeconfigs of a node, and whose certificates they show.
const KUBECONFIGS: [(&str, &str); 3] = [
    ("kubelet", "client-kubelet"),
    ("kubeproxy", "client-kube-proxy"),
    ("k3scontroller", "client-k3s-controller"),
];

/// A signing request that was made for one certificate.
pub struct Asking {
    key_pem: String,
    /// DER: the body of the request.
    pub request: Vec<u8>,
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of logs.
        f.write_str("Asking")
    }
}

impl Asking {
    /// With a new key, which leaves this machine never.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new() -> Result<Asking> {
        let (key_pem, request) = x509::signing_request()?;
        Ok(Asking { key_pem, request })
    }

    /// Takes what the server answered: certificates and, of servers that read no signing requests, their key.
    ///
    /// # Errors
    /// If it is not a certificate of this key and CA.
    pub fn take(self, answer: &[u8], ca_pem: &str) -> Result<Certificate> {
        let text = std::str::from_utf8(answer).context(|| "read the server's answer")?;
        let (mut chain_pem, mut key_pem) = (String::new(), String::new());
        for block in crate::pki::blocks(text) {
            let to = if block.contains("PRIVATE KEY-----") { &mut key_pem } else { &mut chain_pem };
            to.push_str(block);
            to.push('\n');
        }
        if key_pem.is_empty() {
            key_pem = self.key_pem;
        }
        let parsed = x509::read_pem(&chain_pem)?;
        if !x509::has_key(&parsed, &key_pem) {
            return Err(Error::new("the server certified another key"));
        }
        if !parsed.names_issuer(&x509::read_pem(ca_pem)?) {
            return Err(Error::new("the server's answer is a certificate of another CA"));
        }
        Ok(Certificate { chain_pem, key_pem })
    }
}

/// What an agent joined, as it lies in `agent/`.
#[derive(Debug, Clone)]
pub struct Joined {
    pub client_ca: String,
    pub server_ca: String,
    /// In the order of [`WANTED`].
    pub certificates: Vec<Certificate>,
    /// The server's settings, JSON.
    pub config: String,
}

impl Joined {
    /// What was kept of an earlier join, if it is complete.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(paths: &Paths) -> Result<Option<Joined>> {
        let mut certificates = Vec::new();
        for wanted in WANTED {
            let Some(pair) = crate::pki::read_pair(&paths.agent().join(wanted.name))? else {
                return Ok(None);
            };
            certificates.push(pair);
        }
        let text = |path: PathBuf| -> Result<Option<String>> {
            let bytes = rt::fs::read_optional(path)?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let agent = |name: &str| text(paths.agent().join(name));
        let (client_ca, server_ca) = (agent("client-ca.crt")?, agent("server-ca.crt")?);
        Ok(match (client_ca, server_ca, text(config_file(paths))?) {
            (Some(client_ca), Some(server_ca), Some(config)) => {
                Some(Joined { client_ca, server_ca, certificates, config })
            }
            _ => None,
        })
    }

    /// Keeps it, with kubeconfigs that lead to `url`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, paths: &Paths, url: &str) -> Result<()> {
        let path = |name: &str| paths.agent().join(name);
        rt::fs::create_dir_all(paths.agent().join("etc"), 0o700)?;
        for (name, pem) in [("client-ca.crt", &self.client_ca), ("server-ca.crt", &self.server_ca)]
        {
            rt::fs::keep(path(name), pem.as_bytes(), 0o600)?;
        }
        for (wanted, pair) in WANTED.iter().zip(&self.certificates) {
            // The key first: who reads the pair meanwhile sees that it does not match.
            for (ending, pem) in [("key", &pair.key_pem), ("crt", &pair.chain_pem)] {
                rt::fs::keep(path(&format!("{}.{ending}", wanted.name)), pem.as_bytes(), 0o600)?;
            }
        }
        let shown = |name: String| path(&name).display().to_string();
        for (file, pair) in KUBECONFIGS {
            let (crt, key) = (shown(format!("{pair}.crt")), shown(format!("{pair}.key")));
            let text = kubeconfig::component(url, &shown("server-ca.crt".into()), &crt, &key);
            rt::fs::keep(path(&format!("{file}.kubeconfig")), text.as_bytes(), 0o600)?;
        }
        rt::fs::keep(config_file(paths), self.config.as_bytes(), 0o600)
    }

    /// When the first of its certificates is due for renewal.
    pub fn renew_at(&self) -> Wall {
        crate::pki::renew_at(self.certificates.iter())
    }

    /// Whether a certificate of it is past its end.
    pub fn is_expired(&self, clock: Clock) -> bool {
        let ends = |pair: &Certificate| x509::read_pem(&pair.chain_pem).map(|pair| pair.not_after);
        self.certificates.iter().any(|pair| ends(pair).is_ok_and(|end| end < clock.now))
    }
}

/// The settings that the server sent last, for a start without it.
fn config_file(paths: &Paths) -> PathBuf {
    paths.agent().join("etc").join("cluster.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(name: &str) -> Certificate {
        x509::new_ca(name, Wall::from_secs(2_000_000_000)).unwrap()
    }

    fn leaf() -> x509::Leaf<'static> {
        x509::Leaf { common_name: "system:kube-proxy", client: true, ..x509::Leaf::default() }
    }

    #[test]
    fn only_a_certificate_of_the_asked_key_and_ca_is_taken() {
        let (ours, other) = (authority("ours"), authority("other"));
        let until = Wall::from_secs(1_900_000_000);
        let certify = |asking: &Asking, ca: &Certificate| {
            let request = api::certificate::request_der(&asking.request).unwrap();
            x509::certify(ca, &request, &["client auth"], until).unwrap() + &ca.chain_pem
        };
        let ask = || Asking::new().unwrap();
        let asking = ask();
        let answer = certify(&asking, &ours);
        let pair = asking.take(answer.as_bytes(), &ours.chain_pem).unwrap();
        assert!(x509::has_key(&x509::read_pem(&pair.chain_pem).unwrap(), &pair.key_pem));
        // Of another's request, of another authority, and nothing at all.
        let error = ask().take(answer.as_bytes(), &ours.chain_pem).unwrap_err().to_string();
        assert_eq!(error, "the server certified another key");
        let asking = ask();
        let answer = certify(&asking, &other);
        let error = asking.take(answer.as_bytes(), &ours.chain_pem).unwrap_err().to_string();
        assert_eq!(error, "the server's answer is a certificate of another CA");
        for bad in [&b""[..], b"\xff", b"-----BEGIN CERTIFICATE-----\n"] {
            assert!(ask().take(bad, &ours.chain_pem).is_err());
        }
        // A server that reads no signing requests sends the key as well.
        let pair = x509::issue(&ours, &leaf(), "", until).unwrap();
        let answer = pair.chain_pem.clone() + &pair.key_pem;
        let taken = ask().take(answer.as_bytes(), &ours.chain_pem).unwrap();
        assert_eq!(taken.key_pem.trim(), pair.key_pem.trim());
    }

    #[test]
    fn what_was_joined_is_kept_whole_or_not_at_all() {
        let dir = std::env::temp_dir().join(format!("cluster-join-{}", std::process::id()));
        let paths = Paths::new(&dir);
        assert!(Joined::read(&paths).unwrap().is_none());
        let ca = authority("ca");
        let until = Wall::from_secs(1_900_000_000);
        let certificates: Vec<Certificate> =
            WANTED.iter().map(|_| x509::issue(&ca, &leaf(), "", until).unwrap()).collect();
        let joined = Joined {
            client_ca: ca.chain_pem.clone(),
            server_ca: ca.chain_pem.clone(),
            certificates,
            config: "{}".into(),
        };
        joined.write(&paths, "https://127.0.0.1:6444").unwrap();
        let read = Joined::read(&paths).unwrap().unwrap();
        assert_eq!((&read.config, &read.server_ca), (&joined.config, &joined.server_ca));
        assert_eq!(
            read.renew_at(),
            Wall::from_secs(1_900_000_000 / 86_400 * 86_400 - 120 * 86_400)
        );
        let clock = |secs| Clock { now: Wall::from_secs(secs), built: Wall::from_secs(0) };
        assert!(
            !read.is_expired(clock(1_899_900_000 - 86_400))
                && read.is_expired(clock(1_900_000_001))
        );
        rt::fs::remove_file(paths.agent().join("client-kubelet.key")).unwrap();
        assert!(Joined::read(&paths).unwrap().is_none());
        rt::fs::remove_dir_all(&dir).unwrap();
    }
}
