//! Calls of the interface: trees go out, trees come back.

use std::time::Duration;

use http::client::{Endpoint, Options, Protocol};
use http::grpc::{self, Code, Incoming, Outgoing, Status};
use serde_json::Value;
use stdx::{Context, Error, Result};
use wire::cri::{IMAGE_SERVICE, RUNTIME_SERVICE, schema};

use super::World;
use super::line::Line;
use super::out::logged;

/// As crictl's own bound.
const ANSWER_MAX_BYTES: usize = 16 << 20;
const CONFIG_MAX_BYTES: u64 = 1 << 20;

pub(crate) struct Client {
    http: http::client::Client,
    runtime: Endpoint,
    images: Endpoint,
    /// The time that a short request may take, if it was set.
    timeout: Option<Duration>,
    /// Requests and answers are told.
    debug: bool,
    /// Whether the configuration file wants images pulled where the command line says nothing: `create`, `run`.
    pub(crate) pulls: [bool; 2],
}

impl Client {
    /// Flags win over the environment, and that over the configuration file; without any, it is this machine's node.
    pub(crate) fn open(line: &Line, world: &World) -> Result<Client> {
        for refused in [
            "enable-tracing",
            "tracing-endpoint",
            "tracing-sampling-rate-per-million",
            "profile-cpu",
            "profile-mem",
        ] {
            if line.global(refused).is_some() {
                return Err(Error::new(format!("--{refused} is not supported by k3rs")));
            }
        }
        let named = line.global("config").map(str::to_owned).or((world.env)("CRI_CONFIG_FILE"));
        let config = match &named {
            Some(path) => {
                let bytes = rt::fs::read_within(path, CONFIG_MAX_BYTES)?;
                let text = String::from_utf8(bytes).context(|| format!("read {path}"))?;
                wire::yaml::parse_one_loose(&text).context(|| format!("read {path}"))?
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
            timeout: match (line.global("timeout"), &config["timeout"]) {
                (Some(text), _) => seconds(text).map(Some)?,
                (None, Value::Null) => None,
                (None, number) => seconds(&number.to_string()).map(Some)?,
            },
            debug: match line.global("debug") {
                Some(text) => text != "false",
                None => config["debug"] == true,
            },
            pulls: [config["pull-image-on-create"] == true, config["disable-pull-on-run"] != true],
        })
    }

    /// Calls a method with one answer.
    pub(crate) async fn call(&self, method: &str, request: &Value) -> Result<Value> {
        let is_short = !matches!(method, "PullImage" | "ExecSync" | "StopContainer");
        self.call_within(method, request, self.timeout.filter(|_| is_short)).await
    }

    /// The same with a time of its own, if that was given.
    pub(crate) async fn call_in(
        &self,
        method: &str,
        request: &Value,
        limit: Option<Duration>,
    ) -> Result<Value> {
        match limit {
            None => self.call(method, request).await,
            limit => self.call_within(method, request, limit).await,
        }
    }

    async fn call_within(
        &self,
        method: &str,
        request: &Value,
        limit: Option<Duration>,
    ) -> Result<Value> {
        if self.debug {
            logged("debug", &format!("{method}Request: {}", without_secrets(request)));
        }
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
        let answer = match limit {
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
        let answer = schema::to_json(&format!("{method}Response"), &answer)
            .context(|| format!("read the answer to {method}"))?;
        if self.debug {
            logged("debug", &format!("{method}Response: {answer}"));
        }
        Ok(answer)
    }

    /// The stream of events.
    pub(crate) fn events(&self) -> (Outgoing, Incoming) {
        let path = format!("{RUNTIME_SERVICE}GetContainerEvents");
        let headers = wire::headers::Headers::new();
        grpc::streaming(&self.http, &self.runtime, &path, &headers, ANSWER_MAX_BYTES)
    }
}

/// A request as it may be told: whose name and password it has is nobody's business.
fn without_secrets(request: &Value) -> Value {
    let mut told = request.clone();
    if let Some(auth) = told.get_mut("auth").filter(|auth| !auth.is_null()) {
        *auth = "[redacted]".into();
    }
    told
}

fn endpoint(text: &str) -> Result<Endpoint> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    match path.starts_with('/') {
        true => Ok(Endpoint::unix(path).protocol(Protocol::Http2)),
        false => Err(Error::new(format!("endpoint {text:?}: only unix sockets are supported"))),
    }
}

/// As Go reads it, or a number of seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration> {
    let nanos = match text.parse::<u32>() {
        Ok(number) => return Ok(Duration::from_secs(number.into())),
        Err(_) => stdx::duration::parse(text).and_then(|nanos| u64::try_from(nanos).ok()),
    };
    nanos.map(Duration::from_nanos).context(|| format!("invalid duration {text:?}"))
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
