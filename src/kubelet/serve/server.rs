//! The kubelet over HTTP: everything on :10250 behind authentication, `/healthz` on :10248.

use std::path::Path;
use std::sync::Arc;

use api::query::unescape;
use api::{Lens, Status, Value, status::Reason};
use http::server::{Limits, Server, Service};
use http::streams::{Wanted, accept_port_forward, accept_remote_command};
use http::{BoxFuture, Method, Request, Response};
use stdx::{Context, Result};

use super::access::{Access, Asked};
use super::configz;
use super::{metrics, stats};
use crate::logs::LogOptions;
use crate::node::Node;
use crate::queries::{AttachOptions, ExecOptions, Queries, pod_list};
use crate::shared::Shared;
use runtime::streaming::carry;

/// The server on :10250, and how it shows itself.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    server: Server,
    tls: Arc<http::tls::ServerConfig>,
}

impl Port {
    /// Serves a connection that came there by another way.
    pub(crate) async fn serve(&self, io: http::io::Io) {
        self.server.serve_tls(io, Arc::clone(&self.tls)).await;
    }
}

/// Starts the listeners that the configuration names.
pub(crate) async fn start(
    shared: &Arc<Shared>,
    node: &Arc<Node>,
) -> Result<(Vec<rt::Task<Option<()>>>, Option<Port>)> {
    let (mut tasks, mut port) = (Vec::new(), None);
    if let Some(serving) = &shared.config.serving {
        let listener = rt::net::TcpListener::bind(serving.address)
            .await
            .context(|| format!("listen for kubelet requests on {}", serving.address))?;
        let face = Face::new(shared, node, Some(Access::new(Arc::clone(shared))));
        let limits = Limits { connections_max: 128, ..Limits::default() };
        let server = Server::new(Arc::new(face), limits);
        let tls = Arc::clone(&serving.tls);
        port = Some(Port { server: server.clone(), tls: Arc::clone(&tls) });
        tasks.push(rt::spawn_named("kubelet server", async move {
            if let Err(error) = server.serve(listener, Some(tls)).await {
                log::error!("kubelet server: {error}");
            }
        }));
    }
    if let Some(address) = shared.config.healthz {
        let listener = rt::net::TcpListener::bind(address)
            .await
            .context(|| format!("listen for health checks on {address}"))?;
        let limits = Limits { connections_max: 8, ..Limits::default() };
        let server = Server::new(Arc::new(Health), limits);
        tasks.push(rt::spawn_named("kubelet healthz", async move {
            if let Err(error) = server.serve(listener, None).await {
                log::error!("kubelet healthz: {error}");
            }
        }));
    }
    Ok((tasks, port))
}

struct Health;

impl Service for Health {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match request.path() {
                "/healthz" => Response::text(200, "ok"),
                _ => Response::text(404, "404 page not found\n"),
            }
        })
    }
}

/// The kubelet's API without its own access checks: for the API server of this process, which has
/// authorized what it passes on.
pub(crate) fn trusted(shared: &Arc<Shared>, node: &Arc<Node>) -> Arc<dyn Service> {
    Arc::new(Face::new(shared, node, None))
}

struct Face {
    queries: Queries,
    /// `None` for callers inside this process.
    access: Option<Access>,
    shared: Arc<Shared>,
    node: Arc<Node>,
}

impl Service for Face {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match self.answer(request).await {
                Ok(response) => response,
                // Upstream's kubelet answers plain text, which the API server passes on.
                Err(status) => Response::text(status.code(), status.message().to_owned()),
            }
        })
    }
}

impl Face {
    fn new(shared: &Arc<Shared>, node: &Arc<Node>, access: Option<Access>) -> Face {
        let (shared, node) = (Arc::clone(shared), Arc::clone(node));
        Face { queries: Queries::new(&shared), access, shared, node }
    }

    async fn answer(&self, request: Request) -> Result<Response, Status> {
        if let Some(access) = &self.access {
            let asked = Asked::of(&request);
            let user = access.check(asked).await?;
            request.peer.vouch(&user);
        }
        let path = request.path().to_owned();
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| unescape(part, false))
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["healthz"] => Ok(Response::text(200, "ok")),
            ["configz"] => json(configz::tree(&self.shared.config, rt::memory_bytes())),
            ["pods"] => json(pod_list(&self.shared, |_| true)),
            ["runningpods"] => json(pod_list(&self.shared, |snapshot| {
                !snapshot.terminal && snapshot.sandbox.is_some()
            })),
            ["stats", "summary"] => json(stats::summary(&self.shared, &self.node).await),
            ["metrics", ..] => {
                let path = path.trim_end_matches('/');
                let text = metrics::text(&self.shared, &self.node, path).await?;
                Ok(Response::new(200)
                    .header("content-type", "text/plain; version=0.0.4; charset=utf-8")
                    .body(text))
            }
            ["containerLogs", namespace, pod, container] => {
                self.logs(request.query().to_owned(), namespace, pod, container).await
            }
            ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
                self.exec(request, namespace, pod, container).await
            }
            ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
                self.attach(request, namespace, pod, container).await
            }
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
                self.port_forward(request, namespace, pod)
            }
            ["run", namespace, pod, container] | ["run", namespace, pod, _, container]
                if request.method == Method::Post =>
            {
                self.run(request.query().to_owned(), namespace, pod, container).await
            }
            ["logs", rest @ ..] => node_logs(rest.join("/")).await,
            _ => Err(Status::new(Reason::NotFound, "404 page not found\n")),
        }
    }

    async fn logs(
        &self,
        query: String,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Response, Status> {
        let query = Query::parse(&query);
        let options = LogOptions {
            container: container.to_owned(),
            follow: query.flag("follow"),
            previous: query.flag("previous"),
            since_secs: query.number("sinceSeconds")?,
            since_time: match query.get("sinceTime") {
                None => None,
                Some(text) => Some(api::time::parse(text).ok_or_else(|| {
                    Status::bad_request(format!("sinceTime: {text:?} is not a time"))
                })?),
            },
            timestamps: query.flag("timestamps"),
            tail_lines: query.number("tailLines")?.and_then(|n| u64::try_from(n).ok()),
            limit_bytes: query.number("limitBytes")?.and_then(|n| u64::try_from(n).ok()),
        };
        let body = self.queries.logs(namespace, pod, options).await?;
        let mut response = Response::new(200).header("content-type", "text/plain");
        response.body = body;
        Ok(response)
    }

    async fn exec(
        &self,
        mut request: Request,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Response, Status> {
        let query = Query::parse(request.query());
        let wanted = query.wanted();
        let options = ExecOptions {
            container: container.to_owned(),
            command: query.all("command"),
            stdin: wanted.stdin,
            tty: wanted.tty,
        };
        let (response, accepted) = match accept_remote_command(&mut request, wanted) {
            Ok(accepted) => accepted,
            Err(refusal) => return Ok(refusal),
        };
        let session = self.queries.exec(namespace, pod, options).await?;
        carry(session, accepted);
        Ok(response)
    }

    async fn attach(
        &self,
        mut request: Request,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Response, Status> {
        let query = Query::parse(request.query());
        let wanted = query.wanted();
        let options = AttachOptions { container: container.to_owned(), stdin: wanted.stdin };
        let (response, accepted) = match accept_remote_command(&mut request, wanted) {
            Ok(accepted) => accepted,
            Err(refusal) => return Ok(refusal),
        };
        let session = self.queries.attach(namespace, pod, options).await?;
        carry(session, accepted);
        Ok(response)
    }

    fn port_forward(
        &self,
        mut request: Request,
        namespace: &str,
        pod: &str,
    ) -> Result<Response, Status> {
        let query = Query::parse(request.query());
        let ports: Vec<u16> = query
            .all("port")
            .iter()
            .flat_map(|text| text.split(','))
            .filter_map(|port| port.parse().ok())
            .collect();
        let forwarder = self.queries.port_forward(namespace, pod)?;
        match accept_port_forward(&mut request, &ports) {
            Err(refusal) => Ok(refusal),
            Ok((response, accepted)) => {
                forwarder.serve(accepted);
                Ok(response)
            }
        }
    }

    async fn run(
        &self,
        query: String,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Response, Status> {
        let query = Query::parse(&query);
        let command: Vec<String> =
            query.get("cmd").unwrap_or("").split_whitespace().map(str::to_owned).collect();
        let output = self.queries.run_command(namespace, pod, container, command).await?;
        Ok(Response::new(200).header("content-type", "text/plain").body(output))
    }
}

/// A file or a listing below `/var/log`, links out of it not followed.
async fn node_logs(path: String) -> Result<Response, Status> {
    const FILE_MAX_BYTES: u64 = 16 << 20;
    rt::unblock(move || {
        use std::io::Read;
        use std::os::fd::AsFd;
        let missing = |_| Status::new(Reason::NotFound, "404 page not found\n");
        let root = sys::file::open_dir("/var/log").map_err(missing)?;
        let path = if path.is_empty() { ".".to_owned() } else { path };
        let file =
            sys::rooted::open_in_root(root.as_fd(), Path::new(&path), sys::file::O_RDONLY, 0)
                .map_err(missing)?;
        let file = rt::fs::File::from(file);
        if file.metadata().map_err(missing)?.is_dir() {
            let place = sys::file::descriptor_path(file.as_fd());
            let mut text = String::from("<pre>\n");
            for entry in rt::fs::list_dir(place).map_err(Status::internal)? {
                let slash = if entry.is_dir() { "/" } else { "" };
                let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
                text.push_str(&format!("<a href=\"{name}{slash}\">{name}{slash}</a>\n"));
            }
            text.push_str("</pre>\n");
            return Ok(Response::new(200).header("content-type", "text/html").body(text));
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX_BYTES).read_to_end(&mut bytes).map_err(missing)?;
        Ok(Response::new(200).header("content-type", "text/plain").body(bytes))
    })
    .await
}

fn json(tree: Value) -> Result<Response, Status> {
    Ok(Response::json(200, tree.at("").to_string()))
}

/// The parameters of a query.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Query {
        Query(
            query
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (unescape(key, true), unescape(value, true)))
                .collect(),
        )
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| &**value)
    }

    fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| known == key).map(|(_, value)| value.clone()).collect()
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1" | "True" | "TRUE" | "t" | "T"))
    }

    fn number(&self, key: &str) -> Result<Option<i64>, Status> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Status::bad_request(format!("{key}: {text:?} is not a number"))),
            },
        }
    }

    /// Upstream's kubelet says `input`, `output` and `error`, the API `stdin`, `stdout` and `stderr`.
    fn wanted(&self) -> Wanted {
        Wanted {
            stdin: self.flag("input") || self.flag("stdin"),
            stdout: self.flag("output") || self.flag("stdout"),
            stderr: self.flag("error") || self.flag("stderr"),
            tty: self.flag("tty"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_read() {
        let query =
            Query::parse("command=sh&command=-c&command=a%20b+c&input=1&tty=true&tailLines=x");
        assert_eq!(query.all("command"), ["sh", "-c", "a b c"]);
        assert!(query.wanted().stdin && query.wanted().tty && !query.wanted().stdout);
        assert!(query.number("tailLines").is_err());
        assert_eq!(query.number("sinceSeconds").unwrap(), None);
    }
}
