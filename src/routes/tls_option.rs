//! Traefik's TLSOption: how TLS is spoken with clients.

use api::{Kind, Lens, Object, Value};

use crate::read::{only, strings};
use crate::traefik::kind;

pub(crate) static TLS_OPTION: Kind = kind("TLSOption", "tlsoptions");

/// The suites that there are, by their names in Go. Those of TLS 1.3 cannot be chosen, as with Go.
const SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];
/// The groups for keys, by their names in Traefik, and by TLS's.
const CURVES: [(&str, &str); 6] = [
    ("X25519", "X25519"),
    ("x25519", "X25519"),
    ("CurveP256", "secp256r1"),
    ("secp256r1", "secp256r1"),
    ("CurveP384", "secp384r1"),
    ("secp384r1", "secp384r1"),
];

/// How TLS is spoken with clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// They cannot be had as they were asked for: nobody gets through.
    pub closed: bool,
    /// TLS 1.3 and nothing else, or everything but it.
    pub only_13: bool,
    pub only_12: bool,
    /// Suites of TLS 1.2; empty for all.
    pub suites: Vec<String>,
    /// TLS's names of groups; empty for all.
    pub curves: Vec<String>,
    /// Who asks for a name that there is no certificate for gets none.
    pub sni_strict: bool,
    /// Empty for those of HTTP.
    pub protocols: Vec<String>,
    /// Who may vouch for clients, PEM; empty if no client is asked for a certificate.
    pub client_roots: Vec<u8>,
    /// Clients without a certificate are turned away.
    pub client_required: bool,
}

/// A TLSOption.
#[derive(Debug)]
pub(crate) struct TlsOption {
    pub(crate) object: Object,
    /// But for the authorities, which are in Secrets.
    pub(crate) options: Result<TlsOptions, String>,
    pub(crate) roots: Vec<String>,
    /// What of it does nothing.
    pub(crate) ignored: Vec<String>,
}

impl TlsOption {
    pub(crate) fn read(object: &Object) -> TlsOption {
        let tree = object.tree();
        let mut ignored = Vec::new();
        let options = read(tree.at("spec"), &mut ignored);
        let roots = strings(tree.at("spec.clientAuth"), "secretNames");
        TlsOption { object: object.clone(), options, roots, ignored }
    }
}

fn read(spec: &Value, ignored: &mut Vec<String>) -> Result<TlsOptions, String> {
    const KNOWN: &[&str] = &[
        "minVersion",
        "maxVersion",
        "cipherSuites",
        "curvePreferences",
        "clientAuth",
        "sniStrict",
        "alpnProtocols",
        "preferServerCipherSuites",
        "disableSessionTickets",
    ];
    only(spec, "a TLSOption", KNOWN)?;
    if spec.flag("disableSessionTickets") {
        return Err("disableSessionTickets is not supported".into());
    }
    let (min, max) = (spec.str("minVersion"), spec.str("maxVersion"));
    match min {
        "" | "VersionTLS12" | "VersionTLS13" => {}
        "VersionTLS10" | "VersionTLS11" => {
            ignored.push(format!("minVersion {min}: TLS begins with 1.2 here"));
        }
        _ => return Err(format!("minVersion {min:?} is no version of TLS")),
    }
    if !matches!(max, "" | "VersionTLS12" | "VersionTLS13") {
        return Err(format!("maxVersion {max} is not supported: TLS is 1.2 and 1.3 here"));
    }
    let (only_13, only_12) = (min == "VersionTLS13", max == "VersionTLS12");
    if only_13 && only_12 {
        return Err("no version of TLS is between minVersion and maxVersion".into());
    }
    let mut suites = Vec::new();
    for name in strings(spec, "cipherSuites") {
        let long = format!("{name}_SHA256");
        match SUITES
            .iter()
            .find(|known| **known == name || (name.ends_with("POLY1305") && **known == long))
        {
            Some(known) => suites.push((*known).to_owned()),
            None => ignored.push(format!("cipherSuites: there is no {name} here")),
        }
    }
    let mut curves = Vec::new();
    for name in strings(spec, "curvePreferences") {
        match CURVES.iter().find(|(known, _)| *known == name) {
            Some((_, curve)) => curves.push((*curve).to_owned()),
            None => ignored.push(format!("curvePreferences: there is no {name} here")),
        }
    }
    if (suites.is_empty() && !spec.list("cipherSuites").is_empty() && !only_13)
        || (curves.is_empty() && !spec.list("curvePreferences").is_empty())
    {
        return Err(format!("nothing is left to choose from: {}", ignored.join(", ")));
    }
    let auth = spec.at("clientAuth");
    only(auth, "clientAuth", &["secretNames", "clientAuthType"])?;
    let kind = auth.str("clientAuthType");
    let has_roots = !auth.list("secretNames").is_empty();
    let client_required = match kind {
        "" | "NoClientCert" | "VerifyClientCertIfGiven" => false,
        "RequireAndVerifyClientCert" => true,
        _ => {
            return Err(format!(
                "clientAuthType {kind} is not supported: who shows a certificate is verified"
            ));
        }
    };
    if has_roots == matches!(kind, "" | "NoClientCert")
        && (has_roots || !kind.is_empty() && kind != "NoClientCert")
    {
        return Err(
            "clientAuth needs secretNames and a clientAuthType that asks for certificates".into()
        );
    }
    Ok(TlsOptions {
        closed: false,
        only_13,
        only_12,
        suites,
        curves,
        sni_strict: spec.flag("sniStrict"),
        protocols: strings(spec, "alpnProtocols"),
        client_roots: Vec::new(),
        client_required,
    })
}
