//! The supervisor against an API of a few objects: who gets which certificate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use api::kinds::{ENDPOINT_SLICE, NODE, SECRET};
use api::{Object, json};
use client::{Answer as Found, Api, Client, List, Request as Call, Verb, WatchStream};
use rt::BoxFuture;
use stdx::time::Wall;

use super::*;
use crate::join::Asking;

/// Objects by kind and name.
#[derive(Default)]
struct Fake(Mutex<HashMap<(&'static str, String), Value>>);

impl Fake {
    fn put(&self, kind: &'static str, name: &str, tree: Value) {
        self.0.lock().unwrap().insert((kind, name.to_owned()), tree);
    }
}

impl Api for Fake {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Found, Status>> {
        Box::pin(async move {
            let mut objects = self.0.lock().unwrap();
            let object = |tree: &Value| Object::from_tree(call.kind, tree).unwrap();
            match (call.verb, &call.body) {
                (Verb::Create, client::Body::Tree(tree)) => {
                    let name = tree.str("metadata.name").to_owned();
                    objects.insert((call.kind.name, name), tree.clone());
                    Ok(Found::Object(object(tree)))
                }
                (Verb::List, _) => {
                    let all = objects.iter().filter(|((kind, _), _)| *kind == call.kind.name);
                    let items = all.map(|(_, tree)| object(tree)).collect();
                    Ok(Found::List(List { items, ..List::default() }))
                }
                _ => match objects.get(&(call.kind.name, call.name.clone())) {
                    Some(tree) => Ok(Found::Object(object(tree))),
                    None => Err(Status::not_found(call.kind, &call.name)),
                },
            }
        })
    }

    fn watch(&self, _: Call) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Status>> {
        Box::pin(async { Err(Status::unavailable("nothing is watched")) })
    }
}

struct Server {
    supervisor: Supervisor,
    fake: Arc<Fake>,
    authorities: Authorities,
    dir: std::path::PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = rt::fs::remove_dir_all(&self.dir);
    }
}

/// Nothing is encrypted.
struct Unsealed;

impl secrets_encryption::Sealing for Unsealed {
    fn take(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async { Ok(false) })
    }

    fn reload(&self) -> Result<()> {
        Ok(())
    }
    fn reencrypt(&self) -> BoxFuture<'_, Result<usize>> {
        Box::pin(async { Ok(0) })
    }
    fn save(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// An etcd whose members are what it says.
struct OneMember;

impl Etcd for OneMember {
    fn members(&self) -> BoxFuture<'_, String> {
        Box::pin(async { "{\"members\":[]}".to_owned() })
    }

    fn snapshot<'a>(&'a self, body: &'a [u8]) -> BoxFuture<'a, Result<String, Status>> {
        Box::pin(async move { Ok(String::from_utf8_lossy(body).into_owned()) })
    }
}

/// Takes any token.
struct NoKeys;

impl Keys for NoKeys {
    fn rotate_token<'a>(&'a self, _: &'a [u8]) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }

    fn replace_authorities<'a>(
        &'a self,
        _: &'a [u8],
        _: bool,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }
}

/// Who has no more than an agent's token changes no keys, and nobody does by asking.
#[test]
fn keys_are_changed_by_servers_only() {
    let server = server("change-keys");
    let supervisor = &server.supervisor;
    for path in ["/v1-k3s/token", "/v1-k3s/cert/cacerts"] {
        for (group, puts, code) in [
            (AGENT, true, 403),
            ("system:masters", true, 403),
            (SERVER, false, 405),
            (SERVER, true, 200),
        ] {
            let groups = [group.to_owned()];
            let asked = Asked { posts: false, puts, ..agent(&groups, path) };
            let found = match supervisor.admit(&asked) {
                Ok(_turn) => rt::block_on(supervisor.answer(&asked, b"{}")).code,
                Err(status) => status.code(),
            };
            assert_eq!(found, code, "{group} {path}");
        }
    }
    let of = |password| supervisor.groups_of("server", password);
    assert!(of("server-secret").is_some() && of("new").is_none());
    let passwords = Passwords { server: "new".into(), agent: "agent-secret".into() };
    supervisor.setup.passwords.set(passwords);
    assert!(of("server-secret").is_none() && of("new").is_some());
}

/// A server at 192.0.2.1 with a node of its own.
fn server(name: &str) -> Server {
    server_with(name, false)
}

fn server_with(name: &str, has_etcd: bool) -> Server {
    let dir = std::env::temp_dir().join(format!("cluster-{name}-{}", std::process::id()));
    let paths = Paths::new(&dir);
    let ca = |name: &str| x509::new_ca(name, Wall::from_secs(2_000_000_000)).unwrap();
    let authorities = Authorities { client: ca("client"), server: ca("server") };
    let addresses = ["192.0.2.1".parse().unwrap(), IpAddr::from([127, 0, 0, 1])];
    let leaf = Leaf { common_name: "kube-apiserver", addresses: &addresses, ..Leaf::default() };
    let own = x509::issue(&authorities.server, &leaf, "", Wall::from_secs(1_900_000_000)).unwrap();
    rt::fs::create_dir_all(paths.tls(""), 0o700).unwrap();
    rt::fs::write(paths.tls("serving-kube-apiserver.crt"), own.chain_pem.as_bytes(), 0o600)
        .unwrap();
    let fake = Arc::new(Fake::default());
    let client = Client::new(Arc::clone(&fake) as Arc<dyn Api>);
    let encryption = SecretsEncryption::new(secrets_encryption::Setup {
        paths: paths.clone(),
        provider: None,
        sealing: Arc::new(Unsealed),
        client: client.clone(),
        node: None,
        shared: false,
    });
    let supervisor = Supervisor::new(Setup {
        encryption: Some(encryption),
        client,
        paths,
        authorities: authorities.clone(),
        passwords: KnownPasswords::new(Passwords {
            server: "server-secret".into(),
            agent: "agent-secret".into(),
        }),
        keys: Some(Arc::new(NoKeys)),
        config: "{}".into(),
        own_node: Some(("own".into(), "own-password".into())),
        clock: || Clock { now: Wall::from_secs(1_800_000_000), built: Wall::from_secs(0) },
        etcd: has_etcd.then(|| Arc::new(OneMember) as Arc<dyn Etcd>),
    });
    Server { supervisor, fake, authorities, dir }
}

fn agent<'a>(groups: &'a [String], path: &'a str) -> Asked<'a> {
    Asked {
        posts: true,
        puts: false,
        forces: false,
        path,
        user: "node",
        groups,
        node_name: "n1",
        node_password: "p1",
        node_ip: "192.0.2.7,192.0.2.1",
    }
}

#[test]
fn tokens_give_groups() {
    let server = server("tokens");
    for (user, password, wanted) in [
        ("node", "agent-secret", Some(AGENT)),
        ("node", "server-secret", Some(AGENT)),
        ("server", "server-secret", Some(SERVER)),
        ("server", "agent-secret", None),
        ("node", "agent-secre", None),
        ("node", "", None),
        ("root", "server-secret", None),
    ] {
        let found = server.supervisor.groups_of(user, password);
        assert_eq!(found, wanted.map(|group| vec![group.to_owned()]), "{user} {password}");
    }
}

#[test]
fn only_those_who_join_are_let_in_and_only_so_many() {
    let server = server("admits");
    let supervisor = &server.supervisor;
    for (group, code) in [
        (AGENT, 200),
        ("system:nodes", 200),
        ("system:bootstrappers", 200),
        (SERVER, 200),
        ("system:masters", 403),
        ("system:authenticated", 403),
    ] {
        let groups = [group.to_owned()];
        let found = supervisor.admit(&agent(&groups, "/v1-k3s/config"));
        assert_eq!(found.map_or_else(|status| status.code(), |_| 200), code, "{group}");
    }
    let groups = [AGENT.to_owned()];
    for (posts, max) in [(true, WRITES_MAX), (false, READS_MAX)] {
        let asked = Asked { posts, ..agent(&groups, "/v1-k3s/config") };
        let held: Vec<_> = (0..max).map(|_| supervisor.admit(&asked).unwrap()).collect();
        let answer = Answer::from(supervisor.admit(&asked).err().unwrap());
        assert_eq!((answer.code, answer.retry_after_secs), (429, Some(1)));
        drop(held);
        assert!(supervisor.admit(&asked).is_ok());
    }
}

/// All keys of the cluster are for servers, and only where there is something to join.
#[test]
fn keys_and_members_are_told_to_servers_only() {
    for has_etcd in [false, true] {
        let server = server_with(&format!("keys-{has_etcd}"), has_etcd);
        let supervisor = &server.supervisor;
        for path in ["/v1-k3s/server-bootstrap", "/db/info"] {
            for group in [AGENT, "system:nodes", "system:bootstrappers", "system:masters"] {
                let groups = [group.to_owned()];
                let refused = supervisor
                    .admit(&Asked { posts: false, ..agent(&groups, path) })
                    .err()
                    .unwrap();
                assert_eq!(refused.code(), 403, "{group} {path}");
            }
            let groups = [SERVER.to_owned()];
            let asked = Asked { posts: false, ..agent(&groups, path) };
            assert!(supervisor.admit(&asked).is_ok());
            let answer = rt::block_on(supervisor.answer(&asked, b""));
            assert_eq!(answer.code, if has_etcd { 200 } else { 404 }, "{path}");
            let posted = Asked { posts: true, ..asked };
            assert_eq!(rt::block_on(supervisor.answer(&posted, b"")).code, 404, "{path}");
        }
    }
    let server = server_with("keys", true);
    rt::fs::write(server.dir.join("server/tls/client-ca.key"), b"a key", 0o600).unwrap();
    let groups = [SERVER.to_owned()];
    let asked = Asked { posts: false, ..agent(&groups, "/v1-k3s/server-bootstrap") };
    let answer = rt::block_on(server.supervisor.answer(&asked, b""));
    // Another server makes its files of it.
    let other = Paths::new(server.dir.join("other"));
    crate::bootstrap::take(&other, &answer.body, true).unwrap();
    assert_eq!(rt::fs::read_text(other.tls("client-ca.key")).unwrap(), "a key");
    assert!(crate::bootstrap::take(&other, b"[", true).is_err());
}

#[test]
fn a_node_gets_certificates_for_its_own_name_only() {
    rt::block_on(async {
        let server = server("names");
        let groups = [AGENT.to_owned()];
        let nodes = ["system:nodes".to_owned()];
        let asked = agent(&groups, "/v1-k3s/client-kubelet.crt");
        server.fake.put(
            NODE.name,
            "n1",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}),
        );
        for (asked, code, words) in [
            (asked, 200, ""),
            (Asked { node_name: "N1", ..asked }, 200, ""),
            (
                Asked { node_password: "p2", ..asked },
                403,
                "unable to verify hash for node 'n1': hash does not match",
            ),
            (Asked { node_name: "n2", node_password: "p2", ..asked }, 200, ""),
            (Asked { node_name: "", ..asked }, 400, "node name not set"),
            (Asked { node_password: "", ..asked }, 400, "node password not set"),
            (Asked { node_name: "kubernetes.default.svc", ..asked }, 400, "no node can be called"),
            (Asked { node_name: "../x", ..asked }, 400, "no node can be called"),
            // By the certificate of an earlier join.
            (Asked { user: "system:node:n1", groups: &nodes, ..asked }, 200, ""),
            (
                Asked { user: "system:node:n2", groups: &nodes, ..asked },
                400,
                "header node name does not match auth node name",
            ),
            (
                Asked { user: "system:node:n3", node_name: "n3", groups: &nodes, ..asked },
                401,
                "not found",
            ),
            // The server's own.
            (Asked { node_name: "own", ..asked }, 403, "unable to verify hash for node 'own'"),
            (Asked { node_name: "own", node_password: "own-password", ..asked }, 200, ""),
            (Asked { path: "/v1-k3s/connect", ..asked }, 404, "could not find"),
        ] {
            let answer = server.supervisor.answer(&asked, &Asking::new().unwrap().request).await;
            let text = String::from_utf8(answer.body).unwrap();
            assert_eq!((answer.code, text.contains(words)), (code, true), "{asked:?}: {text}");
        }
        let kept = server.fake.0.lock().unwrap();
        let mut secrets: Vec<&str> =
            kept.keys().filter(|(kind, _)| *kind == SECRET.name).map(|(_, name)| &**name).collect();
        secrets.sort_unstable();
        assert_eq!(secrets, ["n1.node-password.k3s", "n2.node-password.k3s"]);
    });
}

#[test]
fn certificates_say_what_they_should_and_no_more() {
    rt::block_on(async {
        let server = server("certificates");
        let groups = [AGENT.to_owned()];
        let Authorities { client, server: serving } = &server.authorities;
        let asked = agent(&groups, "/v1-k3s/serving-kubelet.crt");
        let asking = Asking::new().unwrap();
        let answer = server.supervisor.answer(&asked, &asking.request).await;
        let pair = asking.take(&answer.body, &serving.chain_pem).unwrap();
        let parsed = x509::read_pem(&pair.chain_pem).unwrap();
        assert_eq!(parsed.dns_names, ["n1", "localhost"]);
        let addresses: Vec<String> = parsed.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            addresses,
            ["127.0.0.1", "192.0.2.7"],
            "the server's own address is not among them"
        );
        for path in ["client-kubelet.crt", "client-kube-proxy.crt", "client-k3s-controller.crt"] {
            let path = format!("{PREFIX}{path}");
            // Who sends no request gets a key of its own, too.
            for posts in [true, false] {
                let asking = Asking::new().unwrap();
                let asked = Asked { posts, ..agent(&groups, &path) };
                let answer = server.supervisor.answer(&asked, &asking.request).await;
                assert_eq!(String::from_utf8_lossy(&answer.body).contains("PRIVATE KEY"), !posts);
                let pair = asking.take(&answer.body, &client.chain_pem).unwrap();
                let parsed = x509::read_pem(&pair.chain_pem).unwrap();
                assert!(parsed.dns_names.is_empty() && parsed.addresses.is_empty());
            }
        }
        for (ips, words) in [
            ("x", "invalid node IP address"),
            ("192.0.2.1,", ""),
            (&"10.0.0.1,".repeat(17), "too many"),
        ] {
            let asking = Asking::new().unwrap();
            let answer =
                server.supervisor.answer(&Asked { node_ip: ips, ..asked }, &asking.request).await;
            let text = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.code, if words.is_empty() { 200 } else { 400 }, "{ips}: {text}");
            assert!(text.contains(words), "{ips}: {text}");
        }
        let answer = server.supervisor.answer(&asked, b"no request").await;
        assert_eq!(answer.code, 400);
    });
}

#[test]
fn agents_are_told_where_servers_are() {
    rt::block_on(async {
        let server = server("servers");
        let groups = [AGENT.to_owned()];
        let asked = agent(&groups, "/v1-k3s/apiservers");
        let answer = server.supervisor.answer(&asked, b"").await;
        assert_eq!(answer.body, b"[]");
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "default", "name": "kubernetes"},
            "endpoints": [{"addresses": ["192.0.2.1"]}, {"addresses": ["x", "192.0.2.2"]}],
            "ports": [{"name": "https", "port": 6443}],
        });
        server.fake.put(ENDPOINT_SLICE.name, "kubernetes", slice);
        let answer = server.supervisor.answer(&asked, b"").await;
        assert_eq!(answer.body, br#"["192.0.2.1:6443","192.0.2.2:6443"]"#);
        for (path, body) in [("readyz", "ok"), ("config", "{}")] {
            let answer =
                server.supervisor.answer(&agent(&groups, &format!("{PREFIX}{path}")), b"").await;
            assert_eq!((answer.code, answer.body.as_slice()), (200, body.as_bytes()));
        }
    });
}

#[test]
fn tunnels_are_their_nodes_own() {
    let nodes = ["system:nodes".to_owned(), "system:authenticated".to_owned()];
    for (user, groups, wants) in [
        ("system:node:one", &nodes[..], Ok("one")),
        ("system:node:one", &nodes[1..], Err(403)),
        ("system:admin", &nodes[1..], Err(403)),
        ("node", &[], Err(403)),
        ("system:kube-proxy", &nodes, Err(401)),
        ("system:node:", &nodes, Err(401)),
        ("system:node:kubernetes", &nodes, Err(401)),
        ("system:node:a/b", &nodes, Err(401)),
    ] {
        let found = tunnel_of(user, groups).map_err(|status| status.code());
        assert_eq!(found, wants, "{user} {groups:?}");
    }
}
