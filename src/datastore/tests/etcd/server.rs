//! A real etcd, each in a directory and at addresses of its own, and a way to it that can be cut.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::client::{Client, Endpoint, Options, Protocol};
use http::grpc;
use rt::net::{TcpListener, TcpStream};
use wire::etcd::{Message, StatusRequest, StatusResponse, method};
use wire::headers::Headers;

/// A loaded machine takes its time.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// One or more members of one cluster.
pub(crate) struct Etcd {
    dir: PathBuf,
    program: PathBuf,
    members: Vec<Member>,
    arguments: Vec<String>,
    scheme: &'static str,
}

struct Member {
    /// This test's alone, so that no port can be taken.
    address: String,
    child: Mutex<Option<Child>>,
}

impl Etcd {
    /// Starts one; `None`, with the reason printed, where it is not installed.
    pub(crate) fn start(n_members: u32) -> Option<Etcd> {
        let etcd = Etcd::prepared(n_members)?;
        etcd.run_all();
        Some(etcd)
    }

    /// One that is yet to run.
    pub(crate) fn prepared(n_members: u32) -> Option<Etcd> {
        static LOGGER: Logger = Logger;
        // Another test may have set it.
        let _ = log::set_logger(&LOGGER);
        log::set_max_level(log::LevelFilter::Info);
        static N: AtomicU32 = AtomicU32::new(1);
        let Some(program) = find("etcd") else {
            assert!(option_env!("CI").is_none(), "etcd is not installed: nothing is skipped in CI");
            eprintln!("skipped: etcd is not installed (e2e/setup.sh test)");
            return None;
        };
        let pid = std::process::id();
        let (mut members, first) = (Vec::new(), N.fetch_add(n_members, Ordering::Relaxed));
        for n in first..first + n_members {
            let (high, low) = (pid >> 8 & 255, (pid & 255).clamp(1, 254));
            let address = format!("127.{}.{high}.{low}", 32 + n);
            members.push(Member { address, child: Mutex::new(None) });
        }
        let dir = std::env::temp_dir().join(format!("k3rs-etcd-{pid}-{first}"));
        std::fs::create_dir_all(&dir).unwrap();
        Some(Etcd { dir, program, members, arguments: Vec::new(), scheme: "http" })
    }

    pub(crate) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Where a member is: its host and port.
    pub(crate) fn address(&self, member: usize) -> String {
        format!("{}:2379", self.members[member].address)
    }

    pub(crate) fn endpoint(&self, member: usize) -> String {
        format!("{}://{}", self.scheme, self.address(member))
    }

    pub(crate) fn endpoints(&self) -> String {
        let all: Vec<String> = (0..self.members.len()).map(|idx| self.endpoint(idx)).collect();
        all.join(",")
    }

    /// Serves over TLS, and wants certificates of clients, with these files of its directory.
    pub(crate) fn over_tls(&mut self, ca: &str, certificate: &str, key: &str) {
        self.scheme = "https";
        for (flag, file) in
            [("--trusted-ca-file", ca), ("--cert-file", certificate), ("--key-file", key)]
        {
            self.arguments.push(flag.to_owned());
            self.arguments.push(self.dir.join(file).to_str().unwrap().to_owned());
        }
        self.arguments.push("--client-cert-auth".to_owned());
    }

    pub(crate) fn run_all(&self) {
        (0..self.members.len()).for_each(|idx| self.spawn(idx));
        if self.scheme == "http" {
            (0..self.members.len()).for_each(|idx| self.await_ready(idx));
        }
    }

    /// Starts a member again, and waits until it answers.
    pub(crate) fn run(&self, idx: usize) {
        self.spawn(idx);
        self.await_ready(idx);
    }

    fn spawn(&self, idx: usize) {
        let url = |scheme: &str, idx: usize, port: u16| {
            format!("{scheme}://{}:{port}", self.members[idx].address)
        };
        let all: Vec<String> = (0..self.members.len())
            .map(|idx| format!("m{idx}={}", url("http", idx, 2380)))
            .collect();
        let log = self.dir.join(format!("log{idx}"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(["--name", &format!("m{idx}")])
            .arg("--data-dir")
            .arg(self.dir.join(format!("data{idx}")))
            .args(["--listen-client-urls", &url(self.scheme, idx, 2379)])
            .args(["--advertise-client-urls", &url(self.scheme, idx, 2379)])
            .args(["--listen-peer-urls", &url("http", idx, 2380)])
            .args(["--initial-advertise-peer-urls", &url("http", idx, 2380)])
            .args(["--initial-cluster", &all.join(","), "--logger", "zap"])
            .args(&self.arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        *self.members[idx].child.lock().unwrap() = Some(command.spawn().unwrap());
    }

    fn await_ready(&self, idx: usize) {
        let begun = std::time::Instant::now();
        loop {
            let status = rt::block_on(self.status(idx));
            if status.is_some_and(|status| status.leader != 0) {
                return;
            }
            assert!(begun.elapsed() < WAIT_MAX, "etcd does not answer: {}", self.said(idx));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a member says of itself; `None` if it does not.
    pub(crate) async fn status(&self, idx: usize) -> Option<StatusResponse> {
        let bytes = self.ask(idx, method::STATUS, &StatusRequest {}.encode()).await.ok()?;
        StatusResponse::decode(&bytes, 1000).ok()
    }

    /// Which member leads the others, as soon as one does.
    pub(crate) async fn leader(&self) -> usize {
        let found = async {
            loop {
                for idx in 0..self.members.len() {
                    if let Some(status) = self.status(idx).await
                        && status.leader == status.header.member_id
                    {
                        return idx;
                    }
                }
                rt::sleep(Duration::from_millis(50)).await;
            }
        };
        rt::timeout(WAIT_MAX, found).await.expect("nobody leads")
    }

    /// Asks a member as any client does.
    pub(crate) async fn ask(
        &self,
        idx: usize,
        method: &str,
        message: &[u8],
    ) -> Result<Vec<u8>, grpc::Status> {
        let endpoint = Endpoint::tcp(self.members[idx].address.clone(), 2379);
        let endpoint = endpoint.protocol(Protocol::Http2);
        let client = Client::new(Options::default());
        let none = Headers::new();
        let asked = grpc::unary(&client, &endpoint, method, &none, message, 16 << 20);
        rt::timeout(Duration::from_secs(5), asked)
            .await
            .unwrap_or_else(|_| Err(grpc::Status::new(grpc::Code::DEADLINE_EXCEEDED, "no answer")))
    }

    /// As a power cut would.
    pub(crate) fn kill(&self, idx: usize) {
        if let Some(mut child) = self.members[idx].child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops a member, or lets it go on: what hangs keeps its connections.
    pub(crate) fn hang(&self, idx: usize, hangs: bool) {
        let child = self.members[idx].child.lock().unwrap();
        let pid = child.as_ref().unwrap().id().to_string();
        let signal = if hangs { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn said(&self, idx: usize) -> String {
        std::fs::read_to_string(self.dir.join(format!("log{idx}"))).unwrap_or_default()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|idx| self.kill(idx));
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// What the driver says, for whoever reads why a test failed.
struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{:?} {} {}", rt::now().mono, record.level(), record.args());
    }
    fn flush(&self) {}
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.exists())
}

/// A way to a member that can be cut, connections and all.
pub(crate) struct Way {
    pub(crate) endpoint: String,
    open: Arc<Mutex<Option<Vec<rt::Task<()>>>>>,
    _listening: rt::Task<()>,
}

impl Way {
    pub(crate) async fn to(address: String) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let kept = Arc::clone(&open);
        let listening = rt::spawn(async move {
            loop {
                let (from, _) = listener.accept().await.unwrap();
                let address = address.clone();
                let mut open = kept.lock().unwrap();
                let Some(ways) = open.as_mut() else { continue };
                ways.push(rt::spawn(async move {
                    let Ok(to) = TcpStream::connect(address).await else { return };
                    let there = rt::io::copy(from.clone(), to.clone());
                    let back = rt::io::copy(to.clone(), from.clone());
                    let _ = rt::future::or(there, back).await;
                }));
            }
        });
        Way { endpoint, open, _listening: listening }
    }

    pub(crate) fn cut(&self) {
        *self.open.lock().unwrap() = None;
    }

    pub(crate) fn mend(&self) {
        *self.open.lock().unwrap() = Some(Vec::new());
    }
}
