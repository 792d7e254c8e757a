//! Calls of the interface: trees go out, trees come back.

use std::time::Duration;

use http::client::{Endpoint, Options, Protocol};
use http::grpc::{self, Code, Incoming, Outgoing, Status};
use serde_json::Value;
use stdx::{Context, Error, Result};
use wire::cri::{IMAGE_SERVICE, RUNTIME_SERVICE, schema};

use super::World;
use super::line::Line;

/// As crictl's own bound.
const ANSWER_MAX_BYTES: usize = 16 << 20;
const CONFIG_MAX_BYTES: u64 = 1 << 20;

pub(crate) struct Client {
    http: http::client::Client,
    runtime: Endpoint,
    images: Endpoint,
    /// The time that a short request may take, if it was set.
    timeout: Option<Duration>,
}

impl Client {
    /// Flags win over the environment, and that over the configuration file; without any, it is this machine's node.
    pub(crate) fn open(line: &Line, world: &World) -> Result<Client> {
        for refused in ["enable-tracing", "profile-cpu", "profile-mem"] {
            if line.global(refused).is_some() {
                return Err(Error::new(format!("--{refused} is not supported by k3rs")));
            }
        }
        let named = line.global("config").map(str::to_owned).or((world.env)("CRI_CONFIG_FILE"));
        let config = match &named {
            Some(path) => {
                let bytes = rt::fs::read_within(path, CONFIG_MAX_BYTES)?;
                let text = String::from_utf8(bytes).context(|| format!("read {path}"))?;
                wire::yaml::parse_one(&text).context(|| format!("read {path}"))?
            }
            None => Value::Null,
        };
        let setting = |flag: &str, variable: &str| {
            let of_file = || config[flag].as_str().map(str::to_owned);
            let given = line.global(flag).map(str::to_owned).or((world.env)(variable));
            given.or_else(of_file).filter(|text| !text.is_empty())
        };
        let place = setting("runtime-endpoint", "CONTAINER_RUNTIME_ENDPOINT")
            .unwrap_or_else(|| world.socket.display().to_string());
        let of_images = setting("image-endpoint", "IMAGE_SERVICE_ENDPOINT");
        Ok(Client {
            http: http::client::Client::new(Options::default()),
            images: endpoint(of_images.as_deref().unwrap_or(&place))?,
            runtime: endpoint(&place)?,
            timeout: line.global("timeout").map(seconds).transpose()?,
        })
    }

    /// Calls a method with one answer.
    pub(crate) async fn call(&self, method: &str, request: &Value) -> Result<Value> {
        let of_images = matches!(
            method,
            "ListImages" | "ImageStatus" | "PullImage" | "RemoveImage" | "ImageFsInfo"
        );
        let (endpoint, service) = match of_images {
            true => (&self.images, IMAGE_SERVICE),
            false => (&self.runtime, RUNTIME_SERVICE),
        };
        let message = schema::from_json(&format!("{method}Request"), request);
        let message = message.map_err(Error::new)?;
        let path = format!("{service}{method}");
        let headers = wire::headers::Headers::new();
        let called = grpc::unary(&self.http, endpoint, &path, &headers, &message, ANSWER_MAX_BYTES);
        let is_short = !matches!(method, "PullImage" | "ExecSync" | "StopContainer");
        let answer = match self.timeout.filter(|_| is_short) {
            Some(timeout) => rt::timeout(timeout, called).await.unwrap_or_else(|_| {
                Err(Status::new(Code::DEADLINE_EXCEEDED, "context deadline exceeded"))
            }),
            None => called.await,
        };
        // Of pulls, crictl's library passes on the words alone.
        let answer = answer.map_err(|status| match method {
            "PullImage" => Error::new(status.message),
            _ => refused(&status),
        })?;
        schema::to_json(&format!("{method}Response"), &answer)
            .context(|| format!("read the answer to {method}"))
    }

    /// The stream of events.
    pub(crate) fn events(&self) -> (Outgoing, Incoming) {
        let path = format!("{RUNTIME_SERVICE}GetContainerEvents");
        let headers = wire::headers::Headers::new();
        grpc::streaming(&self.http, &self.runtime, &path, &headers, ANSWER_MAX_BYTES)
    }
}

fn endpoint(text: &str) -> Result<Endpoint> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    match path.starts_with('/') {
        true => Ok(Endpoint::unix(path).protocol(Protocol::Http2)),
        false => Err(Error::new(format!("endpoint {text:?}: only unix sockets are supported"))),
    }
}

/// `2s`, `1m` or a number of seconds.
fn seconds(text: &str) -> Result<Duration> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u32 = number.parse().context(|| format!("invalid duration {text:?}"))?;
    Ok(Duration::from_secs(u64::from(number) * unit))
}

/// In the words of Go's library.
pub(crate) fn refused(status: &Status) -> Error {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let code = status.code.0;
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    let name = name.map_or_else(|| format!("Code({code})"), |name| (*name).to_owned());
    Error::new(format!("rpc error: code = {name} desc = {}", status.message))
}
