//! Between a client's streams and a container's: exec, attach, port-forward.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::task::{Context as Context_, Poll, Waker};

use http::streams::{
    AcceptedCommand, AcceptedPortForward, Outcome, PortForward, RemoteCommand, Size,
};
use rt::io::{AsyncReadExt, AsyncWriteExt};
use stdx::{Context, Result};

use crate::{Output, SandboxStatus, Session, StreamSender, TerminalSize};

/// What a container answers to the end of a client's input in this time is still sent.
const ANSWER_TIME: std::time::Duration = std::time::Duration::from_millis(100);

/// kubectl reads a WebSocket before it has made its streams, and discards what comes for those it does not
/// know yet: output is held for this long after the connection was upgraded.
const CLIENT_SETTLE_TIME: std::time::Duration = std::time::Duration::from_millis(20);

/// Carries a session to its end, in a task of its own, over a connection that was just accepted.
///
/// A client that goes away, or never opens its streams, ends the command (exec) or only the session (attach).
pub fn carry(mut session: Session, accepted: AcceptedCommand) {
    rt::spawn_named("remote command", async move {
        let done = match accepted.streams().await {
            Ok(command) => pump(session, command).await,
            Err(error) => {
                let _ = session.sender.kill().await;
                Err(error)
            }
        };
        if let Err(error) = done {
            log::debug!("remote command: {error}");
        }
    })
    .detach();
}

/// Input and sizes in, output out, and the exit code told.
async fn pump(session: Session, mut command: RemoteCommand) -> Result<()> {
    let Session { sender, mut receiver, is_attach, ends_with_input } = session;
    let (stdin, resize) = (command.stdin.take(), command.resize.take());
    let hung_up = std::mem::replace(&mut command.hung_up, Box::pin(rt::future::pending()));
    let sender = rt::lock::Mutex::new(sender);
    let input = async {
        let ends = ends_with_input && stdin.is_some();
        let fed = async {
            feed(stdin, &sender).await;
            if !ends {
                // The command goes on when its input has ended.
                rt::future::pending::<()>().await;
            }
            rt::sleep(ANSWER_TIME).await;
        };
        let sized = async {
            follow_size(resize, &sender).await;
            rt::future::pending::<()>().await;
        };
        rt::future::or(fed, sized).await;
        Outcome::Success
    };
    let gone = async {
        hung_up.await;
        let _ = sender.lock().await.kill().await;
        Outcome::Failure("the client went away".into())
    };
    let (mut stdout, mut stderr) = (command.stdout.take(), command.stderr.take());
    let output = async {
        rt::sleep(CLIENT_SETTLE_TIME).await;
        while let Some(chunk) = receiver.next().await {
            let (writer, bytes) = match chunk {
                Output::Stdout(bytes) => (&mut stdout, bytes),
                Output::Stderr(bytes) => (&mut stderr, bytes),
                Output::Exit(exit) => {
                    return match exit.code {
                        code if code != 0 && !is_attach => Outcome::ExitCode(code),
                        // Who only looks on is not told: kubectl asks for the pod's own status.
                        _ => Outcome::Success,
                    };
                }
            };
            if let Some(open) = writer
                && open.write_all(&bytes).await.and(open.flush().await).is_err()
            {
                // The client closed this stream; the others may go on.
                *writer = None;
            }
        }
        Outcome::Success
    };
    let outcome = rt::future::or(output, rt::future::or(gone, input)).await;
    command.stdout = stdout;
    command.stderr = stderr;
    command.finish(outcome).await
}

async fn feed(stdin: Option<http::io::BoxRead>, sender: &rt::lock::Mutex<StreamSender>) {
    /// Read at once.
    const CHUNK_MAX_BYTES: usize = 32 * 1024;
    let Some(mut stdin) = stdin else { return };
    let mut buf = vec![0; CHUNK_MAX_BYTES];
    loop {
        match stdin.read(&mut buf).await {
            Ok(0) => break,
            Ok(n) => {
                if sender.lock().await.stdin(&buf[..n]).await.is_err() {
                    return;
                }
            }
            Err(_) => break,
        }
    }
    let _ = sender.lock().await.close_stdin().await;
}

async fn follow_size(
    resize: Option<rt::channel::Receiver<Size>>,
    sender: &rt::lock::Mutex<StreamSender>,
) {
    let Some(resize) = resize else { return };
    while let Ok(size) = resize.recv().await {
        let size = TerminalSize { columns: size.width, rows: size.height };
        if sender.lock().await.resize(size).await.is_err() {
            return;
        }
    }
}

/// Opens connections to the ports of one pod.
#[derive(Clone, Debug)]
pub struct PortForwarder {
    /// `None` for pods on the host's network.
    netns: Option<PathBuf>,
    pod: String,
}

impl PortForwarder {
    pub fn new(sandbox: &SandboxStatus) -> PortForwarder {
        PortForwarder {
            netns: (!sandbox.host_network).then(|| sandbox.network_namespace()),
            pod: format!("{}/{}", sandbox.namespace, sandbox.name),
        }
    }

    /// Serves a client whose connection was just accepted, in a task of its own.
    pub fn serve(self, accepted: AcceptedPortForward) {
        rt::spawn_named("port-forward", async move {
            match accepted.connections().await {
                Ok(forwards) => self.run(forwards).await,
                Err(error) => log::debug!("port-forward: {error}"),
            }
        })
        .detach();
    }

    /// Connects to `localhost:port` inside the pod.
    async fn connect(&self, port: u16) -> Result<rt::net::TcpStream> {
        let what = || {
            format!("failed to connect to localhost:{port} inside namespace of pod {}", self.pod)
        };
        let Some(path) = self.netns.clone() else {
            return rt::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context(what);
        };
        match connect_in(path.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST), port).await {
            Ok(stream) => Ok(stream),
            Err(first) => match connect_in(path, IpAddr::V6(Ipv6Addr::LOCALHOST), port).await {
                Ok(stream) => Ok(stream),
                Err(_) => Err(first).context(what),
            },
        }
    }

    /// Serves a client's connections until it asks for no more.
    async fn run(self, mut forwards: PortForward) {
        let mut tasks = Vec::new();
        while let Some(forward) = forwards.next().await {
            let forwarder = self.clone();
            tasks.retain(|task: &rt::Task<()>| !task.is_finished());
            tasks.push(rt::spawn(async move {
                let done = match forwarder.connect(forward.port).await {
                    Ok(stream) => forward.run(Box::new(stream)).await,
                    Err(error) => forward.fail(&error.to_string()).await,
                };
                if let Err(error) = done {
                    log::debug!("port-forward to pod {}: {error}", forwarder.pod);
                }
            }));
        }
        for task in tasks {
            task.await;
        }
    }
}

/// Connects inside a network namespace. A socket belongs to the namespace of the thread that opened
/// it, for ever; it is opened when the future is polled first, and can be awaited anywhere then.
async fn connect_in(netns: PathBuf, ip: IpAddr, port: u16) -> Result<rt::net::TcpStream> {
    type Connecting = rt::BoxFuture<'static, std::io::Result<rt::net::TcpStream>>;
    let connecting: Connecting =
        Box::pin(async move { rt::net::TcpStream::connect((ip, port)).await });
    let begun = rt::unblock(move || -> Result<_> {
        let netns = rt::fs::open(&netns)?;
        let mut connecting = connecting;
        let first = sys::netns::run_in(netns.as_fd(), || {
            connecting.as_mut().poll(&mut Context_::from_waker(Waker::noop()))
        });
        let first = first.context(|| "enter the pod's network namespace")?;
        Ok((connecting, first))
    });
    let (connecting, first) = begun.await?;
    let connected = match first {
        Poll::Ready(connected) => connected,
        Poll::Pending => connecting.await,
    };
    connected.context(|| format!("connect to port {port}"))
}
