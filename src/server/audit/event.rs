//! What is told of one request, and how it is written: as `audit.k8s.io/v1` in JSON, or as one line of text.

use std::net::IpAddr;

use api::{Lens, Value};
use stdx::{OrdMap, time::Wall};
use wire::json::put_string;

use super::policy::{Level, Stage};
use crate::auth::Attributes;
use crate::user::User;

/// Of the name of a client's program.
const AGENT_MAX_BYTES: usize = 1024;
/// Addresses that a client may name as having passed its request on.
const FORWARDERS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Event {
    pub(super) level: Level,
    pub(super) facts: Facts,
    pub(super) verb: String,
    pub(super) user: Option<User>,
    pub(super) impersonated: Option<User>,
    pub(super) object: Option<Reference>,
    pub(super) status: Option<Status>,
    /// JSON.
    pub(super) request: Option<Vec<u8>>,
    pub(super) response: Option<Vec<u8>>,
    pub(super) annotations: OrdMap<String, String>,
}

/// What a request says of itself.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) id: String,
    /// Path and query.
    pub(crate) uri: String,
    pub(crate) source_ips: Vec<String>,
    pub(crate) agent: String,
    pub(crate) received: Wall,
}

impl Facts {
    /// Of a request over HTTP.
    pub(crate) fn of(request: &http::Request, id: &str, received: Wall) -> Facts {
        let mut agent = request.headers.get("user-agent").unwrap_or("").to_owned();
        if agent.len() > AGENT_MAX_BYTES {
            agent.truncate(agent.floor_char_boundary(AGENT_MAX_BYTES));
            agent.push_str("...TRUNCATED");
        }
        Facts {
            id: id.to_owned(),
            uri: request.target.clone(),
            source_ips: source_ips(request),
            agent,
            received,
        }
    }
}

/// From where a request came: what proxies say, the last of all who was connected.
fn source_ips(request: &http::Request) -> Vec<String> {
    let read = |text: &str| text.trim().parse::<IpAddr>().ok();
    let forwarded = request.headers.get("x-forwarded-for").unwrap_or("");
    let mut all: Vec<IpAddr> = forwarded.split(',').filter_map(read).take(FORWARDERS_MAX).collect();
    let real = request.headers.get("x-real-ip").and_then(read);
    all.extend(real.filter(|real| !all.contains(real)));
    let peer = request.peer.address.map(|address| address.ip().to_canonical());
    all.extend(peer.filter(|peer| all.last() != Some(peer)));
    all.iter().map(IpAddr::to_string).collect()
}

/// What a request is about.
#[derive(Debug, Default, Clone)]
pub(super) struct Reference {
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource_version: String,
    pub(super) subresource: String,
}

impl Reference {
    pub(super) fn of(asked: &Attributes) -> Option<Reference> {
        asked.is_resource().then(|| Reference {
            resource: asked.resource.clone(),
            namespace: asked.namespace.clone(),
            name: asked.name.clone(),
            group: asked.group.clone(),
            version: asked.version.clone(),
            subresource: asked.subresource.clone(),
            ..Reference::default()
        })
    }

    /// Says what the path left open, by the object that was sent.
    pub(super) fn complete(&mut self, tree: &Value) {
        for (own, field) in [
            (&mut self.namespace, "metadata.namespace"),
            (&mut self.name, "metadata.name"),
            (&mut self.uid, "metadata.uid"),
            (&mut self.resource_version, "metadata.resourceVersion"),
        ] {
            if own.is_empty() {
                tree.str(field).clone_into(own);
            }
        }
    }
}

/// How a request ended.
#[derive(Debug, Default, Clone)]
pub(super) struct Status {
    pub(super) code: u16,
    /// "Success", "Failure" or nothing.
    pub(super) status: String,
    pub(super) message: String,
    pub(super) reason: String,
    pub(super) details: Option<Value>,
}

impl Status {
    pub(super) fn code(code: u16) -> Status {
        Status { code, ..Status::default() }
    }

    /// Of a `Status` that was the answer.
    pub(super) fn of(tree: &Value, code: u16) -> Status {
        Status {
            code,
            status: tree.str("status").to_owned(),
            message: tree.str("message").to_owned(),
            reason: tree.str("reason").to_owned(),
            details: tree.get("details").cloned(),
        }
    }
}

/// Writes the fields of an object.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    next: u8,
}

impl<'a> Fields<'a> {
    fn of(out: &'a mut Vec<u8>) -> Fields<'a> {
        Fields { out, next: b'{' }
    }

    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.push(std::mem::replace(&mut self.next, b','));
        put_string(self.out, name);
        self.out.push(b':');
        self.out
    }

    fn text(&mut self, name: &str, text: &str) {
        put_string(self.key(name), text);
    }

    /// An empty text is left out.
    fn some(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.text(name, text);
        }
    }

    fn list(&mut self, name: &str, texts: &[String]) {
        if texts.is_empty() {
            return;
        }
        let out = self.key(name);
        for (idx, text) in texts.iter().enumerate() {
            out.push(if idx == 0 { b'[' } else { b',' });
            put_string(out, text);
        }
        out.push(b']');
    }

    fn raw(&mut self, name: &str, json: Option<&[u8]>) {
        if let Some(json) = json {
            self.key(name).extend_from_slice(json.trim_ascii_end());
        }
    }

    fn end(self) {
        if self.next == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

impl Event {
    /// Appends it as one line of JSON, its fields in upstream's order.
    pub(super) fn write_json(&self, stage: Stage, at: Wall, out: &mut Vec<u8>) {
        let facts = &self.facts;
        let mut fields = Fields::of(out);
        fields.text("kind", "Event");
        fields.text("apiVersion", "audit.k8s.io/v1");
        fields.text("level", self.level.as_str());
        fields.text("auditID", &facts.id);
        fields.text("stage", stage.as_str());
        fields.text("requestURI", &facts.uri);
        fields.text("verb", &self.verb);
        put_user(fields.key("user"), self.user.as_ref());
        if self.impersonated.is_some() {
            put_user(fields.key("impersonatedUser"), self.impersonated.as_ref());
        }
        fields.list("sourceIPs", &facts.source_ips);
        fields.some("userAgent", &facts.agent);
        if let Some(object) = &self.object {
            let mut own = Fields::of(fields.key("objectRef"));
            own.some("resource", &object.resource);
            own.some("namespace", &object.namespace);
            own.some("name", &object.name);
            own.some("uid", &object.uid);
            own.some("apiGroup", &object.group);
            own.some("apiVersion", &object.version);
            own.some("resourceVersion", &object.resource_version);
            own.some("subresource", &object.subresource);
            own.end();
        }
        if let Some(status) = &self.status {
            put_status(fields.key("responseStatus"), status);
        }
        fields.raw("requestObject", self.request.as_deref());
        fields.raw("responseObject", self.response.as_deref());
        let received = api::time::format_micro(facts.received);
        fields.text("requestReceivedTimestamp", &received);
        fields.text("stageTimestamp", &api::time::format_micro(at));
        if !self.annotations.is_empty() {
            let mut own = Fields::of(fields.key("annotations"));
            for (key, value) in &self.annotations {
                own.text(key, value);
            }
            own.end();
        }
        fields.end();
        out.push(b'\n');
    }

    /// Upstream's line of text.
    pub(super) fn line(&self, stage: Stage) -> String {
        let facts = &self.facts;
        let name = |user: &User| user.name.clone();
        let list = |groups: &[String]| {
            groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(",")
        };
        let user = self.user.as_ref().filter(|user| !user.name.is_empty());
        let groups = user.filter(|user| !user.groups.is_empty()).map(|user| list(&user.groups));
        let none = || "<none>".to_owned();
        let other = self.impersonated.as_ref();
        let namespace = self.object.as_ref().map_or("", |object| &object.namespace);
        format!(
            "{} AUDIT: id={:?} stage={:?} ip={:?} method={:?} user={:?} groups={:?} as={:?} asgroups={:?} user-agent={:?} namespace={:?} uri={:?} response=\"{}\"\n",
            nanos(facts.received),
            facts.id,
            stage.as_str(),
            facts.source_ips.first().map_or("<unknown>", String::as_str),
            self.verb,
            user.map_or_else(none, name),
            groups.unwrap_or_else(none),
            other.map_or_else(|| "<self>".to_owned(), name),
            other.map_or_else(|| "<lookup>".to_owned(), |user| list(&user.groups)),
            facts.agent,
            if namespace.is_empty() { "<none>" } else { namespace },
            facts.uri,
            self.status
                .as_ref()
                .map_or_else(|| "<deferred>".to_owned(), |status| status.code.to_string()),
        )
    }
}

/// RFC 3339 with as many digits as it takes, as Go's `RFC3339Nano`.
fn nanos(time: Wall) -> String {
    let mut text = api::time::format(time);
    let digits = format!("{:09}", time.subsec_nanos());
    let digits = digits.trim_end_matches('0');
    if !digits.is_empty() {
        text.insert_str(text.len() - 1, &format!(".{digits}"));
    }
    text
}

fn put_user(out: &mut Vec<u8>, user: Option<&User>) {
    let mut fields = Fields::of(out);
    if let Some(user) = user {
        fields.some("username", &user.name);
        fields.some("uid", &user.uid);
        fields.list("groups", &user.groups);
        if !user.extra.is_empty() {
            let mut extra = Fields::of(fields.key("extra"));
            for (key, values) in &user.extra {
                extra.list(key, values);
            }
            extra.end();
        }
    }
    fields.end();
}

fn put_status(out: &mut Vec<u8>, status: &Status) {
    let mut fields = Fields::of(out);
    fields.key("metadata").extend_from_slice(b"{}");
    fields.some("status", &status.status);
    fields.some("message", &status.message);
    fields.some("reason", &status.reason);
    if let Some(details) = &status.details {
        api::codec::write_tree_json(details, fields.key("details"));
    }
    fields.key("code").extend_from_slice(status.code.to_string().as_bytes());
    fields.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn event() -> Event {
        let mut user = User::new("alice", &["team"]);
        user.extra.insert("scopes".into(), vec!["a".into(), "b<".into()]);
        let asked = Attributes {
            verb: "create".into(),
            version: "v1".into(),
            resource: "pods".into(),
            namespace: "default".into(),
            ..Attributes::default()
        };
        let request = http::Request::get("/api/v1/namespaces/default/pods?x=1")
            .header("user-agent", "kubectl/v1.32.0")
            .header("x-forwarded-for", "10.0.0.1, nonsense, 10.0.0.2")
            .header("x-real-ip", "10.0.0.1");
        let mut object = Reference::of(&asked).unwrap();
        object.complete(&json!({"metadata": {"name": "p", "namespace": "other", "uid": "u"}}));
        Event {
            level: Level::RequestResponse,
            facts: Facts::of(&request, "id-1", Wall(1_700_000_000_120_000_000)),
            verb: asked.verb.clone(),
            user: Some(user),
            impersonated: None,
            object: Some(object),
            status: None,
            request: None,
            response: None,
            annotations: OrdMap::new(),
        }
    }

    fn check(event: &Event, stage: Stage, json: &str, line: &str) {
        let mut out = Vec::new();
        event.write_json(stage, Wall(1_700_000_000_500_001_999), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, format!("{json}\n"));
        assert!(serde_json::from_str::<Value>(&text).is_ok());
        assert_eq!(event.line(stage), format!("{line}\n"));
    }

    #[test]
    fn events_are_written_as_upstream_writes_them() {
        let mut event = event();
        check(
            &event,
            Stage::RequestReceived,
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"id-1","stage":"RequestReceived","requestURI":"/api/v1/namespaces/default/pods?x=1","verb":"create","user":{"username":"alice","groups":["team","system:authenticated"],"extra":{"scopes":["a","b\u003c"]}},"sourceIPs":["10.0.0.1","10.0.0.2"],"userAgent":"kubectl/v1.32.0","objectRef":{"resource":"pods","namespace":"default","name":"p","uid":"u","apiVersion":"v1"},"requestReceivedTimestamp":"2023-11-14T22:13:20.120000Z","stageTimestamp":"2023-11-14T22:13:20.500001Z"}"#,
            r#"2023-11-14T22:13:20.12Z AUDIT: id="id-1" stage="RequestReceived" ip="10.0.0.1" method="create" user="alice" groups="\"team\",\"system:authenticated\"" as="<self>" asgroups="<lookup>" user-agent="kubectl/v1.32.0" namespace="default" uri="/api/v1/namespaces/default/pods?x=1" response="<deferred>""#,
        );
        event.impersonated = Some(User::new("bob", &[]));
        event.user = None;
        event.object = None;
        event.request = Some(b"{\"a\":1}\n".to_vec());
        event.response = Some(b"{}".to_vec());
        event.status = Some(Status::of(
            &json!({"status": "Failure", "message": "no", "reason": "Forbidden", "details": {"kind": "pods"}}),
            403,
        ));
        event.annotations.insert("a/b".into(), "c\nd".into());
        check(
            &event,
            Stage::ResponseComplete,
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"id-1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/default/pods?x=1","verb":"create","user":{},"impersonatedUser":{"username":"bob","groups":["system:authenticated"]},"sourceIPs":["10.0.0.1","10.0.0.2"],"userAgent":"kubectl/v1.32.0","responseStatus":{"metadata":{},"status":"Failure","message":"no","reason":"Forbidden","details":{"kind":"pods"},"code":403},"requestObject":{"a":1},"responseObject":{},"requestReceivedTimestamp":"2023-11-14T22:13:20.120000Z","stageTimestamp":"2023-11-14T22:13:20.500001Z","annotations":{"a/b":"c\nd"}}"#,
            r#"2023-11-14T22:13:20.12Z AUDIT: id="id-1" stage="ResponseComplete" ip="10.0.0.1" method="create" user="<none>" groups="<none>" as="bob" asgroups="\"system:authenticated\"" user-agent="kubectl/v1.32.0" namespace="<none>" uri="/api/v1/namespaces/default/pods?x=1" response="403""#,
        );
    }

    #[test]
    fn who_is_connected_is_the_last_address() {
        let from = |forwarded: &str, peer: &str| {
            let mut request = http::Request::get("/").header("x-forwarded-for", forwarded);
            request.peer.address = Some(peer.parse().unwrap());
            source_ips(&request)
        };
        assert_eq!(from("", "10.1.1.1:5"), ["10.1.1.1"]);
        assert_eq!(from("10.1.1.1", "10.1.1.1:5"), ["10.1.1.1"]);
        assert_eq!(from("10.1.1.1, ::1", "[::ffff:10.1.1.1]:5"), ["10.1.1.1", "::1", "10.1.1.1"]);
        assert_eq!(from(&"1.1.1.1,".repeat(500), "2.2.2.2:5").len(), FORWARDERS_MAX + 1);
        let long = http::Request::get("/").header("user-agent", "ü".repeat(2000));
        let agent = Facts::of(&long, "", Wall(0)).agent;
        assert!(agent.len() < 1100 && agent.ends_with("ü...TRUNCATED"));
    }
}
