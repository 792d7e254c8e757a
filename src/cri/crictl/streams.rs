//! What goes on for a while: logs, events, and streams to and from containers.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::client::{Endpoint, Url};
use http::io::{BoxRead, BoxWrite};
use http::streams::{
    Attached, Dialed, Size, Transport, Wanted, dial_port_forward, dial_remote_command,
};
use http::{Method, Request};
use rt::io::{AsyncReadExt, AsyncWriteExt};
use serde_json::{Value, json};
use stdx::{Context, Error, Result};
use wire::cri::schema;

use super::call::{Client, refused};
use super::line::Line;
use super::{out, words};

/// How often a log that is followed is looked at for the end of its container.
const LOOK: Duration = Duration::from_secs(1);
/// Read at once.
const CHUNK_MAX_BYTES: usize = 32 << 10;
/// A line of a log; what is longer was written by nobody we know.
const LINE_MAX_BYTES: u64 = 1 << 20;

fn transport(line: &Line) -> Result<Transport> {
    match line.value("transport") {
        "" | "spdy" => Ok(Transport::Spdy),
        "websocket" => Ok(Transport::WebSocket),
        other => Err(Error::new(format!("unknown transport: {other}"))),
    }
}

/// Where a stream is promised, and the request for it.
fn promised(answer: &Value) -> Result<(Endpoint, Request)> {
    let text = answer["url"].as_str().unwrap_or("");
    let url = Url::parse(text).context(|| format!("read the stream's address {text:?}"))?;
    if url.is_tls() {
        return Err(Error::new("streams over TLS are not supported by k3rs"));
    }
    let endpoint = Endpoint::tcp(url.host.as_str(), url.port);
    Ok((endpoint, Request::new(Method::Post, &url.target)))
}

fn first(line: &Line) -> Result<&str> {
    line.words.first().map(String::as_str).context(|| "ID cannot be empty")
}

/// A command in a container. Its exit code is told in words, as crictl has it.
pub(crate) async fn exec(client: &Client, line: &Line) -> Result<()> {
    let id = first(line)?;
    let command = &line.words[1..];
    if command.is_empty() {
        return Err(Error::new("no command is given: see crictl exec --help"));
    }
    let how = if line.is_on("sync") { " synchronously" } else { "" };
    let what = || format!("execing command in container {id}{how}");
    if line.is_on("sync") {
        let timeout = line.number("timeout")?.unwrap_or(0);
        let request = json!({"containerId": id, "cmd": command, "timeout": timeout});
        let answer = client.call("ExecSync", &request).await.context(what)?;
        let decode = |name: &str| {
            wire::base64::decode(answer[name].as_str().unwrap_or("")).unwrap_or_default()
        };
        if let Some(code) = answer["exitCode"].as_i64().filter(|code| *code != 0) {
            let stderr = decode("stderr");
            let (command, stderr) = (command.join(" "), String::from_utf8_lossy(&stderr));
            let words = format!("{}: command '{command}' exited with {code}: {stderr}", what());
            return Err(Error::new(words));
        }
        for name in ["stdout", "stderr"] {
            out::bytes(&decode(name));
            out::print("\n");
        }
        return Ok(());
    }
    let (tty, stdin) = (line.is_on("tty"), line.is_on("interactive"));
    let request = json!({
        "containerId": id, "cmd": command, "tty": tty, "stdin": stdin,
        "stdout": true, "stderr": !tty,
    });
    let answer = client.call("Exec", &request).await.context(what)?;
    carry(&answer, tty, stdin, transport(line)?).await.context(what)
}

pub(crate) async fn attach(client: &Client, line: &Line) -> Result<()> {
    let (tty, stdin) = (line.is_on("tty"), line.is_on("stdin"));
    let request = json!({
        "containerId": first(line)?, "tty": tty, "stdin": stdin, "stdout": true, "stderr": !tty,
    });
    let answer = client.call("Attach", &request).await?;
    carry(&answer, tty, stdin, transport(line)?).await
}

/// Carries standard streams until the command ends.
async fn carry(answer: &Value, tty: bool, stdin: bool, transport: Transport) -> Result<()> {
    let (endpoint, request) = promised(answer)?;
    let client = http::client::Client::new(http::client::Options::default());
    let wanted = Wanted { stdin, stdout: true, stderr: !tty, tty };
    let dialed = dial_remote_command(&client, &endpoint, request, wanted, transport).await?;
    let attached = match dialed {
        Dialed::Stream(attached) => attached,
        Dialed::Refused(response) => return Err(refusal(response).await),
    };
    let Attached { stdin, stdout, stderr, resize, status } = attached;
    let _raw = if tty { rt::terminal::Raw::begin() } else { None };
    if let Some(writer) = stdin {
        rt::spawn(feed(writer)).detach();
    }
    let sizes = rt::spawn(async move {
        let Some(resize) = resize else { return };
        loop {
            if let Some((width, height)) = rt::terminal::size()
                && resize.send(Size { width, height }).await.is_err()
            {
                return;
            }
            rt::terminal::resized().await;
        }
    });
    let shown = rt::future::zip(show(stdout, out::bytes), show(stderr, out::error_bytes));
    // All output comes before the outcome.
    shown.await;
    let status = status.await?;
    drop(sizes);
    let status: Value = serde_json::from_slice(&status).unwrap_or_default();
    match status["status"].as_str() {
        Some("Failure") => {
            let exit = |cause: &&Value| cause["reason"] == "ExitCode";
            let code = status["details"]["causes"].as_array();
            let code = code.and_then(|causes| causes.iter().find(exit)?["message"].as_str());
            Err(Error::new(match code {
                Some(code) => format!("command terminated with exit code {code}"),
                None => status["message"].as_str().unwrap_or("the command failed").to_owned(),
            }))
        }
        _ => Ok(()),
    }
}

async fn refusal(mut response: http::Response) -> Error {
    let text = response.body.read_all(CHUNK_MAX_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    Error::new(format!("unable to upgrade streaming request: {text}"))
}

/// Standard input, read by a thread that nobody waits for.
async fn feed(mut writer: BoxWrite) {
    loop {
        let read = rt::unblock(|| {
            let mut chunk = vec![0; CHUNK_MAX_BYTES];
            let n = std::io::stdin().lock().read(&mut chunk).unwrap_or(0);
            chunk.truncate(n);
            chunk
        });
        let chunk = read.await;
        if chunk.is_empty() {
            let _ = writer.close().await;
            return;
        }
        if writer.write_all(&chunk).await.and(writer.flush().await).is_err() {
            return;
        }
    }
}

async fn show(reader: Option<BoxRead>, print: fn(&[u8])) {
    let Some(mut reader) = reader else { return };
    let mut chunk = vec![0; CHUNK_MAX_BYTES];
    while let Ok(n) = reader.read(&mut chunk).await {
        if n == 0 {
            return;
        }
        print(&chunk[..n]);
    }
}

pub(crate) async fn port_forward(client: &Client, line: &Line) -> Result<()> {
    let id = first(line)?;
    if line.words.len() < 2 {
        return Err(Error::new("no port is given: see crictl port-forward --help"));
    }
    let mut pairs = Vec::new();
    for text in &line.words[1..] {
        let what = || format!("invalid port format {text:?}");
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let local = if local.is_empty() { "0" } else { local };
        let pair: (u16, u16) = (local.parse().context(what)?, remote.parse().context(what)?);
        pairs.push(pair);
    }
    let ports: Vec<u16> = pairs.iter().map(|(_, remote)| *remote).collect();
    let request = json!({"podSandboxId": id, "port": ports});
    let answer = client.call("PortForward", &request).await?;
    let (endpoint, request) = promised(&answer)?;
    let http = http::client::Client::new(http::client::Options::default());
    let dialed = dial_port_forward(&http, &endpoint, request, transport(line)?).await?;
    let forwarder = match dialed {
        Dialed::Stream(forwarder) => Arc::new(forwarder),
        Dialed::Refused(response) => return Err(refusal(response).await),
    };
    let mut tasks = Vec::new();
    for (local, remote) in pairs {
        let listener = rt::net::TcpListener::bind((Ipv4Addr::LOCALHOST, local)).await;
        let listener = listener.context(|| format!("unable to listen on port {local}"))?;
        let bound = listener.local_addr().context(|| "ask for the local port")?;
        out::print(&format!("Forwarding from {bound} -> {remote}\n"));
        let forwarder = Arc::clone(&forwarder);
        tasks.push(rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                out::print(&format!("Handling connection for {}\n", bound.port()));
                let forwarder = Arc::clone(&forwarder);
                rt::spawn(async move {
                    if let Err(error) = forward(&forwarder, stream, remote).await {
                        out::tell(&format!("error forwarding port {remote}: {error}"));
                    }
                })
                .detach();
            }
        }));
    }
    let ended = forwarder.ended().await;
    drop(tasks);
    Err(ended)
}

async fn forward(
    forwarder: &http::streams::PortForwarder,
    stream: rt::net::TcpStream,
    port: u16,
) -> Result<()> {
    let (reader, writer, mut errors) = forwarder.open(port).await?;
    let (read, write) = rt::io::split(stream);
    let copied =
        rt::future::zip(http::io::copy_to_end(read, writer), http::io::copy_to_end(reader, write));
    let _ = copied.await;
    let mut told = Vec::new();
    let _ = (&mut errors).take(CHUNK_MAX_BYTES as u64).read_to_end(&mut told).await;
    match told.is_empty() {
        true => Ok(()),
        false => Err(Error::new(String::from_utf8_lossy(&told).trim())),
    }
}

pub(crate) async fn events(client: &Client, line: &Line) -> Result<()> {
    let (mut outgoing, mut incoming) = client.events();
    outgoing.send(&[]).await.map_err(|status| refused(&status))?;
    drop(outgoing);
    loop {
        match incoming.next().await {
            Ok(Some(event)) => {
                let event = schema::to_json("ContainerEventResponse", &event);
                let event = event.context(|| "read an event")?;
                let form = line.value("output");
                words::tree(&event, if form.is_empty() { "json" } else { form })?;
            }
            Ok(None) => return Ok(()),
            Err(status) => return Err(refused(&status)),
        }
    }
}

/// Which lines of a log are shown, and how.
struct Filter {
    timestamps: bool,
    /// Nothing before this time, in nanoseconds.
    since: Option<i64>,
    /// Bytes that may still be shown.
    left: Option<u64>,
}

impl Filter {
    /// Shows one line as it stands in the file; false when no more may be shown.
    fn show(&mut self, line: &[u8]) -> bool {
        let text = String::from_utf8_lossy(line);
        let mut parts = text.splitn(4, ' ');
        let (Some(time), Some(stream), Some(tag), Some(content)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return true;
        };
        if self.since.is_some_and(|since| words::parsed(time).is_some_and(|at| at < since)) {
            return true;
        }
        let mut shown = String::new();
        if self.timestamps {
            shown.push_str(time);
            shown.push(' ');
        }
        // A part of a line has no end yet.
        shown.push_str(if tag == "P" { content.trim_end_matches('\n') } else { content });
        let mut bytes = shown.into_bytes();
        if let Some(left) = &mut self.left {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        match stream {
            "stderr" => out::error_bytes(&bytes),
            _ => out::bytes(&bytes),
        }
        self.left != Some(0)
    }
}

pub(crate) async fn logs(client: &Client, line: &Line) -> Result<()> {
    let id = first(line)?;
    if line.is_on("reopen") {
        client.call("ReopenContainerLog", &json!({"containerId": id})).await?;
        return Ok(());
    }
    let request = json!({"containerId": id});
    let answer = client.call("ContainerStatus", &request).await?;
    let mut path = PathBuf::from(answer["status"]["logPath"].as_str().unwrap_or(""));
    if path.as_os_str().is_empty() {
        return Err(Error::new(format!("container {id:?} has no log")));
    }
    if line.is_on("previous") {
        // A kubelet numbers the logs of a container by its restarts.
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        let before = stem.parse::<u32>().ok().and_then(|number| number.checked_sub(1));
        let before =
            before.context(|| format!("previous terminated container of {id:?} not found"))?;
        path.set_file_name(format!("{before}.log"));
    }
    let limit = line.number("limit-bytes")?.and_then(|n| u64::try_from(n).ok());
    let mut filter = Filter {
        timestamps: line.is_on("timestamps"),
        since: match line.value("since") {
            "" => None,
            text => Some(since(text)?),
        },
        left: limit,
    };
    let tail = line.number("tail")?.and_then(|n| usize::try_from(n).ok());
    // Watched before it is read, so that no write is missed.
    let watch = rt::FileWatch::new();
    let follow = line.is_on("follow") && !line.is_on("previous");
    if follow {
        watch.add_writes(&path)?;
    }
    let mut file = BufReader::new(rt::fs::open(&path)?);
    if let Some(tail) = tail {
        seek_to_last(&mut file, tail).context(|| format!("read {}", path.display()))?;
    }
    let mut ended = !follow;
    loop {
        let mut rest = Vec::new();
        while read_line(&mut file, &mut rest).context(|| format!("read {}", path.display()))? {
            if !filter.show(&rest) {
                return Ok(());
            }
            rest.clear();
        }
        // What was begun is read again when its end is there.
        let begun = i64::try_from(rest.len()).unwrap_or(0);
        file.seek_relative(-begun).context(|| "read a log again")?;
        if ended {
            return Ok(());
        }
        let changed = rt::timeout(LOOK, watch.changed()).await;
        if changed.is_err() {
            let status = client.call("ContainerStatus", &request).await;
            ended = status.map_or(true, |it| it["status"]["state"] != "CONTAINER_RUNNING");
            // A log that was rotated goes on in another file at its place.
            if let Ok(now) = rt::fs::metadata(&path)
                && file.stream_position().unwrap_or(0) > now.len()
            {
                file = BufReader::new(rt::fs::open(&path)?);
            }
        }
    }
}

/// Whether a whole line was read.
fn read_line(file: &mut BufReader<rt::fs::File>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    file.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', line)?;
    Ok(line.last() == Some(&b'\n') || line.len() as u64 == LINE_MAX_BYTES)
}

/// Leaves the file before its last `tail` lines.
fn seek_to_last(file: &mut BufReader<rt::fs::File>, tail: usize) -> std::io::Result<()> {
    let mut starts = std::collections::VecDeque::new();
    let (mut at, mut line) = (0, Vec::new());
    while file.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line)? > 0 {
        starts.push_back(at);
        if starts.len() > tail {
            starts.pop_front();
        }
        at += line.len() as u64;
        line.clear();
    }
    file.seek(SeekFrom::Start(starts.front().copied().unwrap_or(at)))?;
    Ok(())
}

/// A time, or how long ago it was.
fn since(text: &str) -> Result<i64> {
    if let Some(at) = words::parsed(text) {
        return Ok(at);
    }
    let unit = |letter: &str| match letter {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let at = text.len().saturating_sub(1);
    let wrong = || format!("since timestamp {text:?}: want 2013-01-02T13:23:37Z or 42m");
    let (number, letter) = text.split_at_checked(at).context(wrong)?;
    let number: i64 = number.parse().context(wrong)?;
    let seconds = unit(letter).context(wrong)?;
    Ok(rt::now().wall.0.saturating_sub(number.saturating_mul(seconds * 1_000_000_000)))
}
