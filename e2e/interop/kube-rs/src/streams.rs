//! Connections to what runs in a pod.

use anyhow::{Context, Result};
use futures::{AsyncBufReadExt, SinkExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, LogParams, PostParams, TerminalSize};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{NAMESPACE, expect};

const POD: &str = "streams";

/// A pod that counts in its log and serves a page.
async fn running(client: Client) -> Result<Api<Pod>> {
    let pods = Api::<Pod>::namespaced(client, NAMESPACE);
    if pods.get_opt(POD).await?.is_none() {
        let script = "mkdir /tmp/www; echo page >/tmp/www/index.html; httpd -p 8080 -h /tmp/www; n=0; while :; do n=$((n+1)); echo line $n; sleep 0.2; done";
        let container =
            json!({"name": "c", "image": "k3rs.io/userspace:1", "command": ["sh", "-c", script]});
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container]});
        let pod = serde_json::from_value(json!({"metadata": {"name": POD}, "spec": spec}))?;
        pods.create(&PostParams::default(), &pod).await?;
    }
    await_condition(pods.clone(), POD, conditions::is_pod_running()).await?;
    Ok(pods)
}

pub(crate) async fn logs(client: Client) -> Result<()> {
    let pods = running(client).await?;
    let mut lines =
        pods.log_stream(POD, &LogParams { follow: true, ..Default::default() }).await?.lines();
    for n in 1..=5 {
        let line = lines.try_next().await?.context("the log ended")?;
        expect(line == format!("line {n}"), || format!("{line:?} instead of line {n}"))?;
    }
    let params = LogParams { tail_lines: Some(2), timestamps: true, ..Default::default() };
    let tail = pods.logs(POD, &params).await?;
    expect(tail.lines().count() == 2 && tail.contains("Z line "), || format!("the end: {tail:?}"))?;
    let params = LogParams { limit_bytes: Some(9), ..Default::default() };
    let first = pods.logs(POD, &params).await?;
    expect(first == "line 1\nli", || format!("nine bytes: {first:?}"))
}

pub(crate) async fn exec(client: Client) -> Result<()> {
    let pods = running(client).await?;
    let params = AttachParams::default().stdin(true).stderr(true);
    let mut process = pods
        .exec(POD, ["sh", "-c", "echo bad >&2; read word; echo got $word; exit 3"], &params)
        .await?;
    let (mut stdin, mut stdout, mut stderr) = (
        process.stdin().context("stdin")?,
        process.stdout().context("stdout")?,
        process.stderr().context("stderr")?,
    );
    let status = process.take_status().context("status")?;
    stdin.write_all(b"hello\n").await?;
    let (mut said, mut complained) = (String::new(), String::new());
    stdout.read_to_string(&mut said).await?;
    stderr.read_to_string(&mut complained).await?;
    let status = status.await.context("no status came")?;
    expect(said == "got hello\n" && complained == "bad\n", || format!("{said:?} {complained:?}"))?;
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .and_then(|cause| cause.message.clone());
    expect(code.as_deref() == Some("3"), || format!("exit code {code:?}"))?;
    process.join().await?;
    // Much, both ways, with an end of the input.
    let params = AttachParams::default().stdin(true).stderr(false);
    let mut process = pods
        .exec(POD, ["sh", "-c", "head -c 1000000 | md5sum; head -c 1000000 /dev/zero"], &params)
        .await?;
    let (mut stdin, mut stdout) =
        (process.stdin().context("stdin")?, process.stdout().context("stdout")?);
    let sent =
        tokio::spawn(async move { stdin.write_all(&vec![b'x'; 1_000_000]).await.map(|()| stdin) });
    let mut all = Vec::new();
    stdout.read_to_end(&mut all).await?;
    drop(sent.await??);
    expect(all.len() == 1_000_000 + 36, || format!("{} bytes", all.len()))
}

pub(crate) async fn terminal(client: Client) -> Result<()> {
    let pods = running(client).await?;
    let mut process = pods
        .exec(POD, ["sh", "-c", "read go; stty size"], &AttachParams::interactive_tty())
        .await?;
    let (mut stdin, mut stdout) =
        (process.stdin().context("stdin")?, process.stdout().context("stdout")?);
    let mut sizes = process.terminal_size().context("sizes")?;
    sizes.send(TerminalSize { width: 91, height: 17 }).await?;
    let mut said = String::new();
    // A size and input have channels of their own: the size may come after what was typed later.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    stdin.write_all(b"go\n").await?;
    stdout.read_to_string(&mut said).await?;
    expect(said.contains("17 91"), || format!("{said:?}"))
}

pub(crate) async fn forwarded(client: Client) -> Result<()> {
    let pods = running(client).await?;
    for _ in 0..3 {
        let mut forwarder = pods.portforward(POD, &[8080]).await?;
        let mut stream = forwarder.take_stream(8080).context("a stream")?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        expect(answer.starts_with("HTTP/1.") && answer.ends_with("page\n"), || {
            format!("{answer:?}")
        })?;
        drop(stream);
        forwarder.join().await?;
    }
    let mut forwarder = pods.portforward(POD, &[9]).await?;
    let error = forwarder.take_error(9).context("an error's channel")?;
    let said = error.await.context("nobody listens, and no error")?;
    expect(said.contains('9'), || said.clone())
}
