//! Listeners: which of them are served, where, and what is wrong with the others.

use api::Lens;

use crate::gateway_objects::{GROUP, Gateway, Listener, Ref, Sort};
use crate::model::Model;
use crate::table::{Entry, Key};

/// How a condition stands: whether it is so, why in a word, and in a sentence.
pub(crate) type Verdict = (bool, &'static str, String);

/// A listener as it is judged.
#[derive(Debug)]
pub(crate) struct State<'a> {
    pub(crate) listener: &'a Listener,
    /// Where its requests come in.
    pub(crate) entry: Option<Entry>,
    /// The port that its clients know.
    pub(crate) port: u16,
    /// The kinds of routes that it takes.
    pub(crate) sorts: Vec<Sort>,
    pub(crate) accepted: Verdict,
    pub(crate) resolved: Verdict,
    pub(crate) conflicted: Verdict,
    /// Secrets with certificates that can be used.
    pub(crate) certificates: Vec<Key>,
    pub(crate) n_attached: u32,
    /// Nothing of its Gateway is served.
    pub(crate) refused: bool,
}

impl State<'_> {
    /// Whether requests that come in here are served.
    pub(crate) fn is_programmed(&self) -> bool {
        let tls = self.entry == Some(Entry::WebSecure);
        !self.refused
            && self.accepted.0
            && !self.conflicted.0
            && !self.sorts.is_empty()
            && (!tls || !self.listener.ends_tls() || !self.certificates.is_empty())
    }

    pub(crate) fn takes(&self, sort: Sort) -> bool {
        self.sorts.contains(&sort)
    }
}

/// The listeners of a Gateway.
pub(super) fn judge<'a>(model: &Model, gateway: &'a Gateway) -> Vec<State<'a>> {
    let namespace = gateway.object.namespace();
    let judged = gateway.listeners.iter().map(|listener| {
        let mut resolved = (true, "ResolvedRefs", String::new());
        let (entry, port) = entry(model, listener).unzip();
        let mut sorts = match &*listener.protocol {
            "HTTP" | "HTTPS" => vec![Sort::Http, Sort::Grpc],
            "TLS" => vec![Sort::Tls],
            _ => Vec::new(),
        };
        if let Some(kinds) = &listener.kinds {
            let is = |(group, kind): &(Box<str>, Box<str>), sort: &Sort| {
                (&**group, &**kind) == (GROUP, sort.kind().name)
            };
            let strange = kinds.iter().find(|kind| !sorts.iter().any(|sort| is(kind, sort)));
            sorts.retain(|sort| kinds.iter().any(|kind| is(kind, sort)));
            if let Some((_, kind)) = strange {
                let text = format!("routes of the kind {kind} cannot be attached here");
                resolved = (false, "InvalidRouteKinds", text);
            }
        }
        let mut certificates = Vec::new();
        if listener.ends_tls() {
            if listener.certificates.is_empty() {
                let text = "there is no certificate".into();
                resolved = (false, "InvalidCertificateRef", text);
            }
            for certificate in &listener.certificates {
                match secret(model, namespace, certificate) {
                    Ok(key) => certificates.push(key),
                    Err((reason, text)) => resolved = (false, reason, text),
                }
            }
        }
        State {
            accepted: accept(listener, entry),
            conflicted: (false, "NoConflicts", String::new()),
            listener,
            entry,
            port: port.unwrap_or(listener.port),
            sorts,
            resolved,
            certificates,
            n_attached: 0,
            refused: gateway.refused.is_some(),
        }
    });
    let mut states: Vec<State<'_>> = judged.collect();
    for idx in 0..states.len() {
        let own = states[idx].listener;
        let others = states.iter().enumerate().filter(|(n, _)| *n != idx);
        // A port of UDP is another one.
        let place = |it: &Listener| (it.port, &*it.protocol == "UDP");
        let mut rivals =
            others.map(|(_, state)| state.listener).filter(|it| place(it) == place(own));
        let conflict = rivals.find_map(|other| {
            // Whether TLS ends here can be another matter for each name.
            let is_tls = |it: &Listener| matches!(&*it.protocol, "HTTPS" | "TLS");
            if other.protocol != own.protocol && !(is_tls(other) && is_tls(own)) {
                let text = format!("listener {} has the port for {}", other.name, other.protocol);
                return Some((true, "ProtocolConflict", text));
            }
            let text = || format!("listener {} has the same port and host name", other.name);
            (other.hostname == own.hostname).then(|| (true, "HostnameConflict", text()))
        });
        // Nobody wins: none of those that cannot be told apart is served.
        states[idx].conflicted = conflict.unwrap_or((false, "NoConflicts", String::new()));
    }
    states
}

/// The entry point of a listener, and at which port its clients find that.
fn entry(model: &Model, listener: &Listener) -> Option<(Entry, u16)> {
    let settings = &model.settings;
    let published = settings.published.as_ref().and_then(|key| model.services.get(key));
    [Entry::Web, Entry::WebSecure].into_iter().zip(settings.ports).find_map(|(entry, own)| {
        let mut ports = published.into_iter().flat_map(|service| &service.ports);
        let outside = ports.find(|it| *it.name == *entry.name() && !it.udp);
        let outside = outside.and_then(|it| u16::try_from(it.number).ok());
        let here = listener.port == own || Some(listener.port) == outside;
        here.then(|| (entry, outside.unwrap_or(own)))
    })
}

fn accept(listener: &Listener, entry: Option<Entry>) -> Verdict {
    let protocol = &*listener.protocol;
    match (protocol, entry) {
        ("HTTP" | "HTTPS", None) => {
            let text = format!(
                "there is no entry point at port {}: those of the Service and of its pods are served",
                listener.port
            );
            (false, "PortUnavailable", text)
        }
        ("HTTP", Some(Entry::WebSecure)) | ("HTTPS" | "TLS", Some(Entry::Web)) => {
            let text = format!("at port {} {protocol} is not spoken", listener.port);
            (false, "UnsupportedProtocol", text)
        }
        ("HTTPS", _) if listener.passthrough => {
            let text = "TLS of requests ends here".into();
            (false, "UnsupportedProtocol", text)
        }
        (..) if listener.ends_tls() && listener.checks_clients => {
            let text = "TLS is ended here without asking for clients' certificates".into();
            (false, "UnsupportedProtocol", text)
        }
        ("HTTP" | "HTTPS" | "TLS", _) => {
            let text = if listener.has_options { "tls.options do nothing here" } else { "" };
            (true, "Accepted", text.to_owned())
        }
        (other, _) => {
            (false, "UnsupportedProtocol", format!("the protocol {other} is not supported"))
        }
    }
}

/// The Secret of a certificate.
fn secret(model: &Model, namespace: &str, named: &Ref) -> Result<Key, (&'static str, String)> {
    const INVALID: &str = "InvalidCertificateRef";
    if (&*named.group, &*named.kind) != ("", "Secret") {
        return Err((INVALID, format!("{} is a {}, and no Secret", named.name, named.kind)));
    }
    if *named.namespace != *namespace
        && !model.gateway.permits((GROUP, "Gateway"), namespace, named)
    {
        let text = format!("no ReferenceGrant permits secret {}/{}", named.namespace, named.name);
        return Err(("RefNotPermitted", text));
    }
    let key = (named.namespace.clone(), named.name.clone());
    let what = || format!("secret {}/{}", key.0, key.1);
    let secret = model.secrets.get(&key);
    let tree = secret.ok_or_else(|| (INVALID, format!("{} does not exist", what())))?.tree();
    // Whether one belongs to the other is found out where they are used.
    let has = |name: &str, label: &str| {
        let text = tree.entry("data", name).and_then(wire::base64::decode).unwrap_or_default();
        wire::pem::sections(&text).iter().any(|section| section.label.ends_with(label))
    };
    match has("tls.crt", "CERTIFICATE") && has("tls.key", "PRIVATE KEY") {
        true => Ok(key),
        false => Err((INVALID, format!("{} has no certificate with its key", what()))),
    }
}
