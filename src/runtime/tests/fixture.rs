//! A throw-away runtime with a busybox image, cleaned up however a case ends.

use std::ffi::OsString;
use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use runtime::{Config, ContainerSpec, Id, Runtime, SandboxSpec};
use wire::tar::{Builder, Entry, Kind};

pub(crate) const IMAGE: &str = "docker.io/test/busybox:1";
const BUSYBOX: &str = "/bin/busybox";

pub(crate) type Case = fn(Host) -> Pin<Box<dyn Future<Output = ()>>>;

pub(crate) fn can_run() -> bool {
    if sys::process::effective_uid() != 0 {
        return skipped("containers need root");
    }
    if !Path::new(BUSYBOX).exists() {
        return skipped(&format!("no {BUSYBOX} (apt-get install busybox-static)"));
    }
    true
}

/// Says what is missing; in CI that is a failure. Always false.
fn skipped(why: &str) -> bool {
    assert!(option_env!("CI").is_none(), "nothing is skipped in CI: {why}");
    eprintln!("skipped: {why}");
    false
}

/// Directories and cgroup of one case.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) directory: PathBuf,
    pub(crate) cgroup: String,
}

impl Host {
    fn new(name: &str) -> Host {
        let tag = format!("k3rs-test-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(&tag);
        std::fs::create_dir_all(&directory).unwrap();
        Host { directory, cgroup: format!("/{tag}") }
    }

    pub(crate) fn config(&self) -> Config {
        let exe = std::env::current_exe().unwrap();
        Config {
            root: self.directory.join("root"),
            state: self.directory.join("state"),
            image_directory: self.directory.join("images"),
            registries_file: self.directory.join("registries.yaml"),
            shim_command: vec![exe.to_str().unwrap().to_owned(), "shim".to_owned()],
            search_path: "/usr/bin:/bin".into(),
            proxy: None,
        }
    }

    /// A runtime with the busybox image.
    pub(crate) async fn runtime(&self) -> Runtime {
        let runtime = Runtime::open(self.config()).await.unwrap();
        runtime.recover().await.unwrap();
        if runtime.images().get(IMAGE).is_none() {
            let archive = docker_archive(&[busybox_layer()], IMAGE, "{}");
            import(&runtime, archive).await.unwrap();
        }
        runtime
    }

    pub(crate) fn sandbox(&self) -> SandboxSpec {
        SandboxSpec {
            name: "pod".into(),
            namespace: "default".into(),
            uid: "u-1".into(),
            hostname: "pod-host".into(),
            cgroup_parent: format!("{}/pod", self.cgroup),
            log_directory: self.directory.join("logs"),
            ..SandboxSpec::default()
        }
    }
}

/// Runs a case and cleans up after it, also when it failed.
pub(crate) fn run(name: &str, case: Case) {
    let host = Host::new(name);
    let kept = host.clone();
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rt::block_on(case(host))));
    rt::block_on(async {
        let runtime = Runtime::open(kept.config()).await.unwrap();
        let torn_down = runtime.teardown_all(true).await;
        let gone = runtime.cgroup_remove(&kept.cgroup).await;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(kept.directory.to_str().unwrap()), "mounts are left");
        std::fs::remove_dir_all(&kept.directory).unwrap();
        if outcome.is_ok() {
            torn_down.unwrap();
            gone.unwrap();
        }
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) async fn import(runtime: &Runtime, archive: Vec<u8>) -> stdx::Result<Vec<String>> {
    let open = move || Ok(Box::new(std::io::Cursor::new(archive.clone())) as Box<dyn Read + Send>);
    runtime.images().import_archive("a test archive", false, open).await
}

/// A layer with busybox, links to its applets, and the files that users are looked up in.
pub(crate) fn busybox_layer() -> Vec<u8> {
    let mut builder = Builder::default();
    for directory in ["bin", "etc", "tmp", "root", "data"] {
        let mode = if directory == "tmp" { 0o1777 } else { 0o755 };
        builder
            .add(&Entry { kind: Kind::Directory, ..Entry::file(directory.as_bytes(), mode) }, b"");
    }
    builder.add(&Entry::file(b"bin/busybox", 0o755), &std::fs::read(BUSYBOX).unwrap());
    let applets = [
        "sh", "cat", "echo", "sleep", "id", "ls", "mount", "touch", "mkdir", "ps", "true", "false",
        "head", "tail", "env", "pwd", "hostname", "stty", "tty", "dd", "grep", "kill", "seq",
        "unshare", "mknod", "df", "stat", "sort", "chmod", "awk", "usleep", "readlink", "wc", "tr",
    ];
    for applet in applets {
        let path = format!("bin/{applet}");
        let link = Entry {
            kind: Kind::SymbolicLink,
            link: b"busybox".to_vec(),
            ..Entry::file(path.as_bytes(), 0o777)
        };
        builder.add(&link, b"");
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/data:/bin/sh\n";
    builder.add(&Entry::file(b"etc/passwd", 0o644), passwd);
    builder.add(&Entry::file(b"etc/group", 0o644), b"root:x:0:\nwww:x:34:\nstaff:x:50:web\n");
    builder.finish()
}

/// What `docker save` writes. `config` is the JSON of the image's process config.
pub(crate) fn docker_archive(layers: &[Vec<u8>], tag: &str, config: &str) -> Vec<u8> {
    let digest = |bytes: &[u8]| {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let diff_ids: Vec<String> =
        layers.iter().map(|layer| format!("\"sha256:{}\"", digest(layer))).collect();
    let image = format!(
        r#"{{"architecture":"{}","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        diff_ids.join(",")
    );
    let mut builder = Builder::default();
    let mut names = Vec::new();
    for layer in layers {
        let name = format!("{}/layer.tar", digest(layer));
        builder.add(&Entry::file(name.as_bytes(), 0o644), layer);
        names.push(format!("\"{name}\""));
    }
    let config_name = format!("{}.json", digest(image.as_bytes()));
    builder.add(&Entry::file(config_name.as_bytes(), 0o644), image.as_bytes());
    let manifest = format!(
        r#"[{{"Config":"{config_name}","RepoTags":["{tag}"],"Layers":[{}]}}]"#,
        names.join(",")
    );
    builder.add(&Entry::file(b"manifest.json", 0o644), manifest.as_bytes());
    builder.finish()
}

pub(crate) fn shell(script: &str) -> ContainerSpec {
    ContainerSpec {
        name: "main".into(),
        image: IMAGE.into(),
        command: vec!["/bin/sh".into(), "-c".into()],
        args: vec![script.into()],
        log_path: Some("main/0.log".into()),
        ..ContainerSpec::default()
    }
}

/// Runs one container to its end in a sandbox of its own; exit code and log text without the stamps.
pub(crate) async fn run_once(runtime: &Runtime, host: &Host, spec: ContainerSpec) -> (i32, String) {
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let result = run_in(runtime, &sandbox.id, spec).await;
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
    result
}

pub(crate) async fn run_in(runtime: &Runtime, sandbox: &Id, spec: ContainerSpec) -> (i32, String) {
    let id = runtime.create_container(sandbox, spec).await.unwrap();
    let log = runtime.container(&id).unwrap().log_path.unwrap();
    let _ = std::fs::remove_file(&log);
    runtime.reopen_log(&id).await.unwrap();
    let _ = runtime.start_container(&id).await;
    let exit =
        rt::timeout(Duration::from_secs(60), runtime.wait_container(&id)).await.unwrap().unwrap();
    let text = log_text(&log);
    runtime.remove_container(&id).await.unwrap();
    (exit.code, text)
}

/// The log without time stamps and stream names.
pub(crate) fn log_text(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The process that case `adoption` kills: starts containers in the given directory, says their ids,
/// and waits to be killed.
pub(crate) fn make_orphans(args: &[OsString]) -> ! {
    let host =
        Host { directory: PathBuf::from(&args[0]), cgroup: args[1].to_str().unwrap().to_owned() };
    rt::block_on(async {
        let runtime = host.runtime().await;
        let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
        let mut ids = Vec::new();
        for script in ["sleep 100", "read line; exit 42", "exit 7"] {
            let spec = ContainerSpec { stdin: true, ..shell(script) };
            let id = runtime.create_container(&sandbox.id, spec).await.unwrap();
            runtime.start_container(&id).await.unwrap();
            ids.push(id.to_string());
        }
        runtime.wait_container(&ids[2]).await.unwrap();
        use std::io::Write;
        let line = format!("{} {}\n", sandbox.id, ids.join(" "));
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        rt::future::pending::<()>().await;
        unreachable!()
    })
}

/// Debian's `docker-registry`, on a free port.
pub(crate) struct Registry {
    process: std::process::Child,
    pub(crate) port: u16,
    storage: PathBuf,
}

impl Registry {
    pub(crate) fn start(host: &Host) -> Option<Registry> {
        for program in ["docker-registry", "skopeo"] {
            if !Path::new("/usr/bin").join(program).exists() {
                skipped(&format!("no {program} (apt-get install {program})"));
                return None;
            }
        }
        let storage = host.directory.join("registry");
        std::fs::create_dir_all(&storage).unwrap();
        // Free a moment ago; another test would have to take it in the meantime.
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            storage.display()
        );
        let file = host.directory.join("registry.yml");
        std::fs::write(&file, config).unwrap();
        let process = std::process::Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let registry = Registry { process, port, storage };
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the registry did not start");
    }

    pub(crate) fn push(&self, host: &Host, archive: &[u8], name: &str, options: &[&str]) {
        let file = host.directory.join("push.tar");
        std::fs::write(&file, archive).unwrap();
        let output = std::process::Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
            .args(options)
            .arg(format!("docker-archive:{}", file.display()))
            .arg(format!("docker://127.0.0.1:{}/team/{name}:v1", self.port))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Flips a byte in every large blob.
    pub(crate) fn corrupt_layers(&self) {
        let mut stack = vec![self.storage.clone()];
        while let Some(directory) = stack.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    stack.push(entry.path());
                } else if entry.metadata().unwrap().len() > 100_000 {
                    let mut bytes = std::fs::read(entry.path()).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    std::fs::write(entry.path(), bytes).unwrap();
                }
            }
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
