//! Asking a container: the limbs of probes and lifecycle hooks.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::Value;
use http::client::{Client, Endpoint, Options, Protocol, Url};
use http::tls::{ClientConfig, Trust, client_config};
use http::{Method, Request, grpc};
use rt::io::AsyncReadExt;
use runtime::{ExecSpec, Runtime};
use stdx::Result;

use podplan::{Handler, ProbeOutcome};

/// How much of a probe's answer is kept for its message.
const OUTPUT_MAX_BYTES: usize = 10 * 1024;
const REDIRECTS_MAX: usize = 10;

/// Who is asked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub container_id: String,
    /// The container's spec, for named ports.
    pub container: Value,
    /// The pod's primary address.
    pub pod_ip: String,
}

/// What an HTTP answer is worth.
#[derive(Debug)]
struct HttpAnswer {
    status: u16,
    body: String,
    /// A redirect to another host, which upstream does not follow.
    elsewhere: Option<String>,
}

/// Runs a probe to its verdict within `timeout`.
pub(crate) async fn probe(
    runtime: &Runtime,
    target: &Target,
    handler: &Handler,
    timeout: Duration,
) -> ProbeOutcome {
    let asked = async {
        match handler {
            Handler::Exec(command) => exec_probe(runtime, target, command, timeout).await,
            Handler::Http { .. } => http_probe(target, handler).await,
            Handler::Tcp { port, host } => match port.resolve(&target.container) {
                Ok(port) => tcp_probe(host_of(host, target), port).await,
                Err(error) => ProbeOutcome::Unknown(error),
            },
            Handler::Grpc { port, service } => grpc_probe(target, *port, service).await,
            Handler::Sleep(_) => ProbeOutcome::Unknown("sleep is no probe".into()),
        }
    };
    match rt::timeout(timeout, asked).await {
        Ok(outcome) => outcome,
        Err(_) => ProbeOutcome::Failure(timed_out(target, handler, timeout)),
    }
}

fn timed_out(target: &Target, handler: &Handler, timeout: Duration) -> String {
    let deadline = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    match handler {
        Handler::Http { .. } => match url_of(target, handler) {
            Ok(url) => format!("Get \"{}\": {deadline}", show(&url)),
            Err(_) => deadline.into(),
        },
        Handler::Tcp { port, host } => {
            let port = port.resolve(&target.container).unwrap_or(0);
            format!(
                "dial tcp {}: i/o timeout",
                http::client::authority(host_of(host, target), Some(port))
            )
        }
        Handler::Grpc { .. } => format!(
            "timeout: failed to connect service \"{}\" within {}s: context deadline exceeded",
            target.pod_ip,
            timeout.as_secs()
        ),
        _ => format!("command timed out after {}s", timeout.as_secs()),
    }
}

/// Runs a lifecycle hook; an error in upstream's words.
pub(crate) async fn hook(
    runtime: &Runtime,
    target: &Target,
    handler: &Handler,
) -> std::result::Result<(), String> {
    /// A hook is bounded by the grace period around it; this bounds one that has none (postStart).
    const EXEC_MAX: Duration = Duration::from_secs(24 * 3600);
    match handler {
        Handler::Exec(command) => {
            let spec = ExecSpec { args: command.clone(), ..ExecSpec::default() };
            let run = runtime.exec_sync(&target.container_id, spec, EXEC_MAX, OUTPUT_MAX_BYTES);
            let output = run.await.map_err(|error| error.to_string())?;
            match output.exit_code {
                Some(0) => Ok(()),
                code => {
                    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
                        .into_owned();
                    let command = command.join(" ");
                    Err(format!(
                        "Exec lifecycle hook ([{command}]) failed - error: command '{command}' exited with {}: {text}, message: {text:?}",
                        code.unwrap_or(-1)
                    ))
                }
            }
        }
        Handler::Http { .. } => {
            let answer = get(target, handler).await.map_err(|error| error.to_string())?;
            match answer.status {
                200..400 => Ok(()),
                status => Err(format!("HTTP lifecycle hook failed: status code {status}")),
            }
        }
        Handler::Tcp { port, host } => {
            let port = port.resolve(&target.container)?;
            match tcp_probe(host_of(host, target), port).await {
                ProbeOutcome::Success => Ok(()),
                ProbeOutcome::Failure(error) => Err(error),
                _ => Err("could not connect".into()),
            }
        }
        Handler::Sleep(duration) => {
            rt::sleep(*duration).await;
            Ok(())
        }
        Handler::Grpc { .. } => Err("gRPC is no lifecycle handler".into()),
    }
}

async fn exec_probe(
    runtime: &Runtime,
    target: &Target,
    command: &[String],
    timeout: Duration,
) -> ProbeOutcome {
    let spec = ExecSpec { args: command.to_vec(), ..ExecSpec::default() };
    match runtime.exec_sync(&target.container_id, spec, timeout, OUTPUT_MAX_BYTES).await {
        Err(error) => ProbeOutcome::Unknown(error.to_string()),
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            match output.exit_code {
                Some(0) => ProbeOutcome::Success,
                Some(_) => ProbeOutcome::Failure(text),
                None => ProbeOutcome::Failure(format!(
                    "command timed out: {:?} timed out after {}s",
                    command.join(" "),
                    timeout.as_secs()
                )),
            }
        }
    }
}

fn host_of<'a>(host: &'a str, target: &'a Target) -> &'a str {
    if host.is_empty() { &target.pod_ip } else { host }
}

fn url_of(target: &Target, handler: &Handler) -> std::result::Result<Url, String> {
    let Handler::Http { path, port, host, https, .. } = handler else {
        return Err("not an HTTP handler".into());
    };
    let port = port.resolve(&target.container)?;
    let scheme = if *https { "https" } else { "http" };
    let authority = http::client::authority(host_of(host, target), Some(port));
    let slash = if path.starts_with('/') { "" } else { "/" };
    Url::parse(&format!("{scheme}://{authority}{slash}{path}")).map_err(|error| error.to_string())
}

async fn http_probe(target: &Target, handler: &Handler) -> ProbeOutcome {
    match get(target, handler).await {
        Err(error) => ProbeOutcome::Failure(error.to_string()),
        Ok(HttpAnswer { elsewhere: Some(place), body, .. }) => ProbeOutcome::Warning(format!(
            "Probe terminated redirects, Response body: {body} ({place})"
        )),
        Ok(HttpAnswer { status: 200..400, .. }) => ProbeOutcome::Success,
        Ok(HttpAnswer { status, .. }) => {
            ProbeOutcome::Failure(format!("HTTP probe failed with statuscode: {status}"))
        }
    }
}

/// A GET with the handler's headers, following redirects on the same host.
async fn get(target: &Target, handler: &Handler) -> Result<HttpAnswer> {
    let mut url = url_of(target, handler).map_err(stdx::Error::new)?;
    let first_host = url.host.clone();
    let headers = match handler {
        Handler::Http { headers, .. } => headers.as_slice(),
        _ => &[],
    };
    for _ in 0..REDIRECTS_MAX {
        let mut request = Request::new(Method::Get, &*url.target);
        request.authority = url.authority();
        for (name, value) in headers {
            match name.eq_ignore_ascii_case("host") {
                true => request.authority.clone_from(value),
                false => request.headers.append(name, value),
            }
        }
        if !request.headers.contains("user-agent") {
            request.headers.append("user-agent", "kube-probe/1.32");
        }
        if !request.headers.contains("accept") {
            request.headers.append("accept", "*/*");
        }
        request.headers.append("connection", "close");
        let endpoint = Endpoint::url(&url, insecure()).protocol(Protocol::Http1);
        let mut response = client().send(&endpoint, request).await.map_err(|error| {
            stdx::Error::new(format!("Get \"{}\": {}", show(&url), innermost(&error, &url)))
        })?;
        let location = response.headers.get("location").map(str::to_owned);
        let body = read_some(&mut response.body).await;
        match (response.status, location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) => {
                let next = url.join(&location)?;
                if next.host != first_host {
                    let elsewhere = Some(location);
                    return Ok(HttpAnswer { status: response.status, body, elsewhere });
                }
                url = next;
            }
            (status, _) => return Ok(HttpAnswer { status, body, elsewhere: None }),
        }
    }
    Err(stdx::Error::new(format!(
        "Get \"{}\": stopped after {REDIRECTS_MAX} redirects",
        show(&url)
    )))
}

/// The beginning of a body; a longer one is cut off, not refused.
async fn read_some(body: &mut http::Body) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < OUTPUT_MAX_BYTES {
        match body.next().await {
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
            _ => break,
        }
    }
    bytes.truncate(OUTPUT_MAX_BYTES);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn show(url: &Url) -> String {
    format!("{}://{}{}", url.scheme, http::client::authority(&url.host, Some(url.port)), url.target)
}

/// The cause in as few words as Go gives it.
fn innermost(error: &stdx::Error, url: &Url) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    match error.io_kind() {
        Some(rt::io::ErrorKind::ConnectionRefused) => {
            let address = http::client::authority(&url.host, Some(url.port));
            format!("dial tcp {address}: connect: connection refused")
        }
        Some(rt::io::ErrorKind::ConnectionReset) => "read: connection reset by peer".into(),
        _ => text,
    }
}

async fn tcp_probe(host: &str, port: u16) -> ProbeOutcome {
    let address = http::client::authority(host, Some(port));
    match http::names::connect(host, port).await {
        Ok(mut stream) => {
            // Closing with unread data would reset the connection under a server that greets first.
            let _ = rt::timeout(Duration::ZERO, stream.read(&mut [0; 1])).await;
            ProbeOutcome::Success
        }
        Err(error) => {
            let why = match error.kind() {
                rt::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
                _ => error.to_string(),
            };
            ProbeOutcome::Failure(format!("dial tcp {address}: {why}"))
        }
    }
}

/// The standard health service, `grpc.health.v1.Health/Check`.
async fn grpc_probe(target: &Target, port: u16, service: &str) -> ProbeOutcome {
    const METHOD: &str = "/grpc.health.v1.Health/Check";
    let endpoint = Endpoint::tcp(&*target.pod_ip, port).protocol(Protocol::Http2);
    let mut message = Vec::new();
    wire::protobuf::put_bytes(&mut message, 1, service.as_bytes());
    let answer =
        grpc::unary(client(), &endpoint, METHOD, &http::Headers::new(), &message, OUTPUT_MAX_BYTES)
            .await;
    match answer {
        Ok(bytes) => match serving_status(&bytes) {
            1 => ProbeOutcome::Success,
            status => {
                let word = match status {
                    0 => "UNKNOWN".to_owned(),
                    2 => "NOT_SERVING".to_owned(),
                    3 => "SERVICE_UNKNOWN".to_owned(),
                    other => other.to_string(),
                };
                ProbeOutcome::Failure(format!("service unhealthy (responded with \"{word}\")"))
            }
        },
        Err(status) if status.code == grpc::Code::UNIMPLEMENTED => ProbeOutcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message
        )),
        Err(status) => ProbeOutcome::Failure(format!(
            "error: health rpc probe failed: rpc error: code = {} desc = {}",
            status.code.0, status.message
        )),
    }
}

/// Field 1 of a `HealthCheckResponse`.
fn serving_status(bytes: &[u8]) -> u64 {
    let mut reader = wire::protobuf::Reader::new(bytes);
    let mut status = 0;
    while let Ok(Some((number, value))) = reader.next() {
        if number == 1 {
            status = value.varint().unwrap_or(0);
        }
    }
    status
}

/// One client for all probes; it keeps no connections, as upstream's probes do not.
fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        Client::new(Options {
            idle_per_endpoint_max: 0,
            idle_max: Duration::ZERO,
            ..Options::default()
        })
    })
}

/// Certificates are not verified: a probe asks whether the pod serves, not who it is.
fn insecure() -> &'static Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| match client_config(Trust::Insecure, None) {
        Ok(config) => config,
        // Without roots and identity there is nothing that could fail but the provider itself,
        // which the server has used by then.
        Err(error) => unreachable!("configure TLS for probes: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use podplan::Port;
    use rt::io::AsyncWriteExt;

    fn target() -> Target {
        Target { container_id: String::new(), container: Value::Null, pod_ip: "127.0.0.1".into() }
    }

    /// A server that answers every connection with `answer`.
    async fn server(answer: &'static str) -> (u16, rt::Task<()>) {
        let listener = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = rt::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buf = [0; 1024];
                let _ = stream.read(&mut buf).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (port, task)
    }

    fn http_handler(port: u16) -> Handler {
        Handler::Http {
            path: "/z".into(),
            port: Port::Number(port),
            host: String::new(),
            https: false,
            headers: vec![("X-A".into(), "b".into())],
        }
    }

    #[test]
    fn http_answers_are_judged() {
        rt::block_on(async {
            for (answer, want) in [
                ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", ProbeOutcome::Success),
                (
                    "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
                    ProbeOutcome::Failure("HTTP probe failed with statuscode: 500".into()),
                ),
            ] {
                let (port, _task) = server(answer).await;
                let handler = http_handler(port);
                let got = ask_http(&handler).await;
                assert_eq!(got, want);
            }
            let (port, task) = server("").await;
            drop(task);
            let refused = ask_http(&http_handler(port)).await;
            let ProbeOutcome::Failure(text) = refused else { panic!("{refused:?}") };
            assert!(text.starts_with(&format!("Get \"http://127.0.0.1:{port}/z\": ")), "{text}");
        });
    }

    async fn ask_http(handler: &Handler) -> ProbeOutcome {
        http_probe(&target(), handler).await
    }

    #[test]
    fn tcp_connects_or_tells() {
        rt::block_on(async {
            let listener = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            assert_eq!(tcp_probe("127.0.0.1", port).await, ProbeOutcome::Success);
            drop(listener);
            let ProbeOutcome::Failure(text) = tcp_probe("127.0.0.1", port).await else {
                panic!("connected to a closed port")
            };
            assert_eq!(text, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
        });
    }

    #[test]
    fn health_answers_decode() {
        assert_eq!(serving_status(&[8, 1]), 1);
        assert_eq!(serving_status(&[]), 0);
        assert_eq!(serving_status(&[255]), 0);
    }
}
