//! What agents, registries and the users of an ingress say.

use ::wire::oci::{Image, Manifest, SavedImage, sha256_hex};
use ::wire::remotedialer::{Kind, Message, connections, emit, parse};
use http::client::{Challenge, Url, split_host_port};
use routes::{Ask, Rule, clean};

use super::texts;

/// A message of an agent's tunnel is read as it was written.
pub(super) fn tunnel(bytes: &[u8]) {
    let Ok((connection, message)) = parse(bytes) else { return };
    let (kind, payload) = match &message {
        Message::Data(data) => (Kind::Data, data.to_vec()),
        Message::Connect { network, address } => {
            (Kind::Connect, format!("{network}/{address}").into_bytes())
        }
        Message::Error(why) => (Kind::Error, why.clone().into_bytes()),
        Message::Pause => (Kind::Pause, Vec::new()),
        Message::Resume => (Kind::Resume, Vec::new()),
        Message::SyncConnections(ids) => (Kind::SyncConnections, connections(ids.iter().copied())),
        Message::Other => return,
    };
    let written = emit(1, connection, kind, &payload);
    let (again, said) = parse(&written).expect("what is written is read");
    assert_eq!(again, connection);
    match (&message, said) {
        // Bytes that are no text are replaced, which makes it longer, and it is cut once more.
        (Message::Error(_), Message::Error(_)) => {}
        (message, said) => assert_eq!(*message, said),
    }
}

pub(super) fn tunnel_seeds() -> Vec<Vec<u8>> {
    vec![
        emit(1, 7, Kind::Connect, b"tcp/127.0.0.1:10250"),
        emit(2, 7, Kind::Data, b"GET / HTTP/1.1\r\n\r\n"),
        emit(3, 7, Kind::Error, "EOF \u{e4}".as_bytes()),
        emit(4, -1, Kind::SyncConnections, &connections([7, -9].into_iter())),
        emit(5, i64::MIN, Kind::Pause, b""),
    ]
}

/// What a registry answers: who may give a token, where to go instead, and what an image is made of.
pub(super) fn registry(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Image>(bytes);
    let _ = serde_json::from_slice::<Vec<SavedImage>>(bytes);
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        assert!(serde_json::to_string(&format!("{manifest:?}")).is_ok());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(challenge) = Challenge::parse(text) {
        let _ = challenge.parameter("realm");
    }
    if let Some(hex) = sha256_hex(text) {
        // It names a file.
        assert!(hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hex}");
    }
    let _ = split_host_port(text, 443);
    let base = Url::parse("https://registry.example:5000/v2/a/manifests/b?c=d");
    if let Ok(url) = base.and_then(|base| base.join(text)) {
        assert!(!url.authority().contains(['/', ' ', '\r', '\n']), "{text:?}: {url:?}");
    }
    let _ = Url::parse(text).map(|url| url.is_tls());
}

pub(super) fn registry_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"Bearer realm="https://auth.example/token?a=b",service="r\"x",scope="repository:a/b:pull""#,
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"sha256:00","size":7},"layers":[{"mediaType":"x","digest":"sha256:00","size":1}],"manifests":[{"platform":{"architecture":"arm","os":"linux","variant":"v7"}}]}"#,
        r#"{"architecture":"amd64","config":{"User":"1","Env":["A=b"],"Cmd":null,"Volumes":{"/v":{}}},"rootfs":{"diff_ids":["sha256:00"]}}"#,
        r#"[{"Config":"a.json","RepoTags":["a:b"],"Layers":["l.tar"]}]"#,
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "http://user@[::1]:80/x?y#z",
        "../b?from=c",
        "//other.example:1/x",
        "[fe80::1]:443",
    ])
}

/// Words of that language.
pub(super) const RULE_WORDS: &[&[u8]] = &[
    b"Host(`",
    b"HostRegexp(`",
    b"Path(`",
    b"PathPrefix(`",
    b"PathRegexp(`",
    b"Headers(`",
    b"HeaderRegexp(`",
    b"Method(`",
    b"Query(`",
    b"QueryRegexp(`",
    b"ClientIP(`",
    b"`)",
    b"`,`",
    b" && ",
    b" || ",
    b"!(",
    b"%2e%2e/",
    b"/./",
    b"//",
];

/// A rule of Traefik's language in the first line, the target of a request in the second.
pub(super) fn rule(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (rule, target) = text.split_once('\n').unwrap_or((text, "/"));
    let Some(cleaned) = clean(target) else { return };
    // No rule is passed by another spelling of what it forbids.
    let again = clean(&cleaned.path).expect("a clean path is one");
    assert_eq!(again.path, cleaned.path, "{target:?}");
    let Ok(rule) = Rule::parse(rule) else { return };
    let ask = Ask {
        host: "a.example",
        path: &cleaned.path,
        query: cleaned.query.trim_start_matches('?'),
        method: "GET",
        peer: Some([10, 0, 0, 1].into()),
        headers: &(),
    };
    let _ = rule.matches(&ask);
}

pub(super) fn rule_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "Host(`a.example`) && (PathPrefix(`/api`) || !Path(`/x`))\n/api/%2e%2e//b/./c?d=e",
        "HostRegexp(`^.+\\.example$`) && Method(`GET`) && Query(`d`, `e`)\n/a%2Fb%00?d=e",
        "PathRegexp(`^/(a|b)+$`) || ClientIP(`10.0.0.0/8`) || HeaderRegexp(`x`, `.*`)\n/aab",
        "Headers(`X`, \"y\") && !(!Host(`b`))\n/..;/%41",
    ])
}
