//! The certificates on a disk, by the services that k3s knows them by: looked at, and put aside so that the next start
//! makes new ones.

use std::path::{Path, PathBuf};

use stdx::time::Wall;
use stdx::{Context, Error, Result};

use crate::paths::Paths;
use crate::x509;

/// A file of this size has no certificates.
const FILE_MAX_BYTES: u64 = 256 << 10;
/// Of a file, so many certificates are looked at.
const CERTIFICATES_MAX: usize = 32;

/// The server's and the agent's pairs of a service: names without their endings, below `server/tls/` and `agent/`.
type Service = (&'static str, &'static [&'static str], &'static [&'static str]);

const SERVICES: &[Service] = &[
    ("admin", &["client-admin"], &[]),
    ("api-server", &["client-kube-apiserver", "serving-kube-apiserver"], &[]),
    ("auth-proxy", &["client-auth-proxy"], &[]),
    ("cloud-controller", &["client-k3s-cloud-controller"], &[]),
    ("controller-manager", &["client-controller"], &[]),
    ("etcd", &["etcd/server-client", "etcd/peer-server-client", "etcd/client"], &[]),
    ("k3s-controller", &["client-k3s-controller"], &["client-k3s-controller"]),
    // The same listener as the API server's.
    ("k3s-server", &["serving-kube-apiserver"], &[]),
    ("kube-proxy", &["client-kube-proxy"], &["client-kube-proxy"]),
    ("kubelet", &["client-kubelet", "serving-kubelet"], &["client-kubelet", "serving-kubelet"]),
    ("scheduler", &["client-scheduler"], &[]),
    ("supervisor", &["client-supervisor"], &[]),
];
const AGENTS: [&str; 3] = ["k3s-controller", "kube-proxy", "kubelet"];
/// Looked at by its name only, and never put aside: that is what new authorities are for.
const AUTHORITIES: &str = "certificate-authority";
const CAS: [&str; 5] =
    ["client-ca", "server-ca", "request-header-ca", "etcd/server-ca", "etcd/peer-ca"];

/// A certificate that was looked at.
#[derive(Debug)]
pub struct Found {
    /// The file's name.
    pub file: String,
    pub subject: String,
    pub issuer: String,
    pub usages: Vec<&'static str>,
    pub not_before: Wall,
    pub not_after: Wall,
}

/// Whether this is a server's disk: then all services are meant if none is named, and an agent's otherwise.
pub fn is_servers(paths: &Paths) -> bool {
    paths.server().exists()
}

/// # Errors
/// In k3s's words, if a service is none.
pub(crate) fn check_services(names: &[String], may_be_authorities: bool) -> Result<()> {
    let known = |name: &String| {
        SERVICES.iter().any(|(known, ..)| known == name)
            || (may_be_authorities && name == AUTHORITIES)
    };
    match names.iter().find(|name| !known(name)) {
        Some(name) => Err(Error::new(format!("service {name} is not recognized"))),
        None => Ok(()),
    }
}

/// The services that are meant.
fn meant(paths: &Paths, names: &[String]) -> Vec<&'static Service> {
    let is_meant = |name: &str| match names.is_empty() {
        true => is_servers(paths) || AGENTS.contains(&name),
        false => names.iter().any(|named| named == name),
    };
    SERVICES.iter().filter(|(name, ..)| is_meant(name)).collect()
}

/// Their pairs on the disk, each once, without endings.
fn pairs(paths: &Paths, services: &[&Service]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for (_, of_server, of_agent) in services {
        let server = of_server.iter().map(|name| paths.tls(name));
        for pair in server.chain(of_agent.iter().map(|name| paths.agent().join(name))) {
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
    }
    found
}

/// Looks at the certificates of services: of each file the leaf and those that issued it. What is not there is left out.
///
/// # Errors
/// If there is no such service, or a file cannot be read.
pub fn look(paths: &Paths, names: &[String]) -> Result<Vec<Found>> {
    check_services(names, true)?;
    let mut files = pairs(paths, &meant(paths, names));
    if names.iter().any(|name| name == AUTHORITIES) {
        files.extend(CAS.iter().map(|name| paths.tls(name)));
    }
    let mut found = Vec::new();
    for file in files {
        let file = file.with_extension("crt");
        let Some(pem) = rt::fs::read_record(&file, FILE_MAX_BYTES)? else { continue };
        let pem = String::from_utf8_lossy(&pem);
        let certificates = x509::authorities(&pem);
        let certificates = certificates.context(|| format!("read {}", file.display()))?;
        found.extend(certificates.into_iter().take(CERTIFICATES_MAX).map(|it| Found {
            file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            usages: it.usages(),
            subject: it.says.subject.common_name,
            issuer: it.says.issuer_common_name,
            not_before: it.says.not_before,
            not_after: it.says.not_after,
        }));
    }
    Ok(found)
}

/// Puts the certificates of services aside: a copy of all is kept, and the next start makes them anew. The names of the
/// services, and where the copy is.
///
/// # Errors
/// If there is no such service, or the disk refuses; nothing is removed before all is copied.
pub fn rotate(paths: &Paths, names: &[String], now: Wall) -> Result<(Vec<&'static str>, PathBuf)> {
    check_services(names, false)?;
    let services = meant(paths, names);
    let pairs = pairs(paths, &services);
    let (server, agent) = (paths.server(), paths.agent());
    let home = if is_servers(paths) { &server } else { &agent };
    let backup = home.join(format!("tls-{}", now.secs()));
    rt::fs::create_dir_all(&backup, 0o700)?;
    for dir in ["", "etcd", "temporary-certs"] {
        copy_files(&paths.tls(dir), &backup.join(dir))?;
    }
    let files: Vec<PathBuf> = pairs
        .iter()
        .flat_map(|pair| [pair.with_extension("crt"), pair.with_extension("key")])
        .filter(|file| file.is_file())
        .collect();
    for file in files.iter().filter(|file| file.starts_with(&agent)) {
        let name = file.file_name().unwrap_or_default();
        rt::fs::copy_atomic(file, backup.join(name), 0o600)?;
    }
    for file in &files {
        rt::fs::remove_file(file)?;
    }
    Ok((services.iter().map(|(name, ..)| *name).collect(), backup))
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for file in rt::fs::list_dir(from)?.iter().filter(|file| file.is_file()) {
        rt::fs::create_dir_all(to, 0o700)?;
        rt::fs::copy_atomic(file, to.join(file.file_name().unwrap_or_default()), 0o600)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_aside_is_kept_and_named() {
        let dir = std::env::temp_dir().join(format!("cluster-certificates-{}", std::process::id()));
        let paths = Paths::new(&dir);
        let until = Wall::from_secs(2_000_000_000);
        let ca = x509::new_ca("a-ca", until).unwrap();
        let leaf = x509::Leaf { common_name: "system:admin", client: true, ..Default::default() };
        let pair = x509::issue(&ca, &leaf, "", until).unwrap();
        let write = |file: PathBuf, text: &str| {
            rt::fs::create_dir_all(file.parent().unwrap(), 0o700).unwrap();
            rt::fs::write(file, text.as_bytes(), 0o600).unwrap();
        };
        for name in ["client-admin", "client-kubelet", "etcd/client", "server-ca"] {
            write(paths.tls(&format!("{name}.crt")), &pair.chain_pem);
            write(paths.tls(&format!("{name}.key")), &pair.key_pem);
        }
        write(paths.agent().join("client-kubelet.crt"), &pair.chain_pem);
        let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let found = look(&paths, &named(&["admin"])).unwrap();
        let shown: Vec<_> =
            found.iter().map(|it| (&*it.subject, &*it.issuer, &*it.usages)).collect();
        assert_eq!(
            shown,
            [("system:admin", "a-ca", &["ClientAuth"][..]), ("a-ca", "a-ca", &["CertSign"])]
        );
        assert_eq!(found[0].file, "client-admin.crt");
        assert_eq!(look(&paths, &[]).unwrap().len(), 8);
        assert_eq!(look(&paths, &named(&[AUTHORITIES])).unwrap().len(), 2);
        let wrong = look(&paths, &named(&["x"])).unwrap_err().to_string();
        assert_eq!(wrong, "service x is not recognized");
        assert!(rotate(&paths, &named(&[AUTHORITIES]), until).is_err());
        let (services, backup) = rotate(&paths, &named(&["kubelet"]), until).unwrap();
        assert_eq!(
            (services, backup.clone()),
            (vec!["kubelet"], paths.server().join("tls-2000000000"))
        );
        assert!(
            !paths.tls("client-kubelet.key").exists() && paths.tls("client-admin.key").exists()
        );
        assert!(!paths.agent().join("client-kubelet.crt").exists());
        for kept in ["client-kubelet.crt", "server-ca.key", "etcd/client.key"] {
            assert!(backup.join(kept).exists(), "{kept}");
        }
        rotate(&paths, &[], until).unwrap();
        assert!(!paths.tls("etcd/client.crt").exists() && paths.tls("server-ca.key").exists());
        rt::fs::remove_dir_all(dir).unwrap();
    }
}
