//! The cases, one function each.

use std::time::Duration;

use runtime::{
    ContainerSpec, ExecSpec, Mount, MountSource, Output, Propagation, Resources, SandboxSpec,
    Seccomp, TerminalSize,
};
use runtime::{ContainerState, Event};

use crate::fixture::{self, Case, Host, IMAGE, docker_archive, import, run_once, shell};

pub(crate) const CASES: &[(&str, Case)] = &[
    ("run", |host| Box::pin(run(host))),
    ("exit_codes", |host| Box::pin(exit_codes(host))),
    ("exec", |host| Box::pin(exec(host))),
    ("terminal", |host| Box::pin(terminal(host))),
    ("attach", |host| Box::pin(attach(host))),
    ("memory", |host| Box::pin(memory(host))),
    ("limits", |host| Box::pin(limits(host))),
    ("read_only", |host| Box::pin(read_only(host))),
    ("identity", |host| Box::pin(identity(host))),
    ("seccomp", |host| Box::pin(seccomp(host))),
    ("mounts", |host| Box::pin(mounts(host))),
    ("shared", |host| Box::pin(shared(host))),
    ("stop", |host| Box::pin(stop(host))),
    ("logs", |host| Box::pin(logs(host))),
    ("adoption", |host| Box::pin(adoption(host))),
    ("lost_shim", |host| Box::pin(lost_shim(host))),
    ("images", |host| Box::pin(images(host))),
    ("hostile", |host| Box::pin(hostile(host))),
    ("registry", |host| Box::pin(registry(host))),
    ("sizes", |host| Box::pin(sizes(host))),
    ("speed", |host| Box::pin(speed(host))),
];

async fn run(host: Host) {
    let runtime = host.runtime().await;
    let spec = ContainerSpec {
        env: vec![("A".into(), "b".into())],
        ..shell(
            "echo $A $HOSTNAME $HOME $PATH; hostname; pwd; echo $$; echo err >&2; ls /dev | tr '\\n' ' '; ls /proc/self/fd | wc -l",
        )
    };
    let (code, text) = run_once(&runtime, &host, spec).await;
    assert_eq!(code, 0, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "b pod-host /root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    );
    assert_eq!(&lines[1..4], ["pod-host", "/", "1"], "{text}");
    assert!(text.contains("err"));
    assert!(
        text.contains(
            "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
        ),
        "{text}"
    );
    // Standard streams and the listed directory itself: nothing of ours is inherited.
    // What went to stderr may come after it.
    assert!(text.lines().any(|line| line == "4" || line.ends_with(" 4")), "{text}");
    assert!(runtime.sandboxes().is_empty() && runtime.containers().is_empty());
}

async fn exit_codes(host: Host) {
    let runtime = host.runtime().await;
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let events = runtime.events();
    assert_eq!(fixture::run_in(&runtime, &sandbox.id, shell("exit 3")).await.0, 3);
    assert_eq!(fixture::run_in(&runtime, &sandbox.id, shell("kill -9 $$; sleep 0.1")).await.0, 0);
    let mut exits = 0;
    while let Ok(event) = events.try_recv() {
        exits += usize::from(matches!(event, Event::ContainerExited { .. }));
    }
    assert_eq!(exits, 2);
    // A command that is not there.
    let spec = ContainerSpec { command: vec!["nothing-here".into()], args: vec![], ..shell("") };
    let id = runtime.create_container(&sandbox.id, spec).await.unwrap();
    let error = runtime.start_container(&id).await.unwrap_err().to_string();
    assert!(
        error.contains("exec: \"nothing-here\": executable file not found in $PATH"),
        "{error}"
    );
    let status = runtime.wait_container(&id).await.unwrap();
    assert_eq!(status.code, 128);
    let absent = ContainerSpec { image: "not-there:1".into(), ..shell("") };
    assert!(
        runtime
            .create_container(&sandbox.id, absent)
            .await
            .unwrap_err()
            .to_string()
            .contains("not present")
    );
    let nobody = ContainerSpec {
        user: runtime::User { name: Some("nobody-here".into()), ..Default::default() },
        ..shell("")
    };
    let error = runtime.create_container(&sandbox.id, nobody).await.unwrap_err().to_string();
    assert!(error.contains("unable to find user nobody-here"), "{error}");
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
}

async fn exec(host: Host) {
    let runtime = host.runtime().await;
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let spec = ContainerSpec {
        user: runtime::User { name: Some("web".into()), ..Default::default() },
        env: vec![("FROM".into(), "container".into())],
        ..shell("sleep 100")
    };
    let id = runtime.create_container(&sandbox.id, spec).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    let sh = |script: &str| ExecSpec {
        args: vec!["sh".into(), "-c".into(), script.into()],
        ..ExecSpec::default()
    };
    let sync = |spec: ExecSpec, timeout| runtime.exec_sync(&id, spec, timeout, 1000);
    let output = sync(sh("echo $FROM $HOME; id; echo bad >&2; exit 5"), Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(output.exit_code, Some(5));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "container /data\nuid=33(web) gid=34(www) groups=34(www),50(staff)\n"
    );
    assert_eq!(output.stderr, b"bad\n");
    let output = sync(sh("seq 1 100000"), Duration::from_secs(20)).await.unwrap();
    assert!(output.truncated && output.stdout.len() == 1000 && output.exit_code == Some(0));
    let output = sync(sh("sleep 100"), Duration::from_millis(300)).await.unwrap();
    assert_eq!(output.exit_code, None);
    let error =
        sync(ExecSpec { args: vec!["nope".into()], ..Default::default() }, Duration::from_secs(5))
            .await
            .unwrap_err();
    assert!(error.to_string().contains("executable file not found"), "{error}");
    // What ends at once is heard whole: its output never comes before the answer that it runs.
    let echoes = async |from: u32| {
        for idx in from..from + 100 {
            let args = vec!["echo".into(), idx.to_string()];
            let session = runtime.exec(&id, ExecSpec { args, ..Default::default() }).await;
            let (mut session, mut said) = (session.unwrap(), Vec::new());
            while let Output::Stdout(bytes) = session.receiver.next().await.unwrap() {
                said.extend(bytes);
            }
            assert_eq!(String::from_utf8_lossy(&said), format!("{idx}\n"));
        }
    };
    rt::future::zip(echoes(0), rt::future::zip(echoes(1000), echoes(2000))).await;
    // Through stdin and back, more than any buffer holds.
    let mut session = runtime
        .exec(&id, ExecSpec { args: vec!["cat".into()], stdin: true, ..Default::default() })
        .await
        .unwrap();
    let sent = vec![b'z'; 3_000_000];
    let received = rt::future::zip(
        async {
            session.sender.stdin(&sent).await.unwrap();
            session.sender.close_stdin().await.unwrap();
        },
        async {
            let mut n = 0;
            loop {
                match session.receiver.next().await.unwrap() {
                    Output::Stdout(bytes) => n += bytes.len(),
                    Output::Exit(exit) => break (n, exit.code),
                    Output::Stderr(_) => panic!("stderr"),
                }
            }
        },
    )
    .await;
    assert_eq!(received.1, (sent.len(), 0));
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
}

async fn terminal(host: Host) {
    let runtime = host.runtime().await;
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let spec = ContainerSpec {
        tty: true,
        stdin: true,
        terminal_size: Some(TerminalSize { columns: 91, rows: 17 }),
        ..shell("tty; stty size; read line; echo got $line; read line; stty size")
    };
    let id = runtime.create_container(&sandbox.id, spec).await.unwrap();
    let mut session = runtime.attach(&id, false).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    let mut text = String::new();
    while !text.contains("17 91") {
        let Some(Output::Stdout(bytes)) = session.receiver.next().await else {
            panic!("ended: {text}")
        };
        text += &String::from_utf8_lossy(&bytes);
    }
    assert!(text.contains("/dev/pts/0"), "{text}");
    session.sender.stdin(b"hello\n").await.unwrap();
    while !text.contains("got hello") {
        let Some(Output::Stdout(bytes)) = session.receiver.next().await else {
            panic!("ended: {text}")
        };
        text += &String::from_utf8_lossy(&bytes);
    }
    session.sender.resize(TerminalSize { columns: 40, rows: 30 }).await.unwrap();
    session.sender.stdin(b"\n").await.unwrap();
    loop {
        match session.receiver.next().await {
            Some(Output::Stdout(bytes)) => text += &String::from_utf8_lossy(&bytes),
            Some(Output::Exit(exit)) => {
                assert_eq!(exit.code, 0);
                break;
            }
            other => panic!("{other:?}: {text}"),
        }
    }
    assert!(text.contains("30 40"), "{text}");
    // Exec with a terminal.
    let id = runtime.create_container(&sandbox.id, shell("sleep 100")).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    let spec = ExecSpec {
        args: vec!["sh".into(), "-c".into(), "tty; echo $TERM; ls -l /proc/self/fd/0".into()],
        tty: true,
        stdin: true,
        ..Default::default()
    };
    let mut session = runtime.exec(&id, spec).await.unwrap();
    let mut text = String::new();
    while let Some(Output::Stdout(bytes)) = session.receiver.next().await {
        text += &String::from_utf8_lossy(&bytes);
    }
    assert!(text.contains("/dev/pts/0") && text.contains("xterm"), "{text}");
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
}

async fn attach(host: Host) {
    let runtime = host.runtime().await;
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let spec = ContainerSpec { stdin: true, stdin_once: true, ..shell("cat; echo end") };
    let id = runtime.create_container(&sandbox.id, spec).await.unwrap();
    let mut first = runtime.attach(&id, false).await.unwrap();
    let mut second = runtime.attach(&id, false).await.unwrap();
    // One that never reads must not hold the others up for long.
    let _stuck = runtime.attach(&id, false).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    first.sender.stdin(&b"line\n".repeat(100_000)).await.unwrap();
    first.sender.close_stdin().await.unwrap();
    let count = |receiver: &'static str, mut session: runtime::StreamReceiver| async move {
        let mut n = 0;
        loop {
            match session.next().await {
                Some(Output::Stdout(bytes)) => n += bytes.len(),
                Some(Output::Exit(exit)) => return (n, exit.code),
                other => panic!("{receiver}: {other:?} after {n}"),
            }
        }
    };
    let both = rt::future::zip(count("first", first.receiver), count("second", second.receiver));
    let (a, b) = rt::timeout(Duration::from_secs(30), both).await.unwrap();
    assert_eq!((a, b), ((500_004, 0), (500_004, 0)));
    second.sender.kill().await.ok();
    let log = host.directory.join("logs/main/0.log");
    assert_eq!(fixture::log_text(&log).lines().count(), 100_001);
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
}

async fn memory(host: Host) {
    let runtime = host.runtime().await;
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let resources = Resources { memory_limit_bytes: Some(16 << 20), ..Resources::default() };
    let spec = ContainerSpec { resources, ..shell("dd if=/dev/zero of=/dev/shm/x bs=1M count=60") };
    let id = runtime.create_container(&sandbox.id, spec).await.unwrap();
    let events = runtime.events();
    runtime.start_container(&id).await.unwrap();
    let exit = runtime.wait_container(&id).await.unwrap();
    assert!(exit.oom_killed, "{exit:?}");
    let mut oom = false;
    while let Ok(event) = events.try_recv() {
        oom |= matches!(event, Event::ContainerOom { .. });
    }
    assert!(oom);
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
}

async fn limits(host: Host) {
    let runtime = host.runtime().await;
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let resources = Resources {
        cpu_shares: Some(512),
        cpu_quota_us: Some(20_000),
        cpu_period_us: Some(100_000),
        memory_limit_bytes: Some(32 << 20),
        pids_max: Some(20),
        ..Resources::default()
    };
    let spec = ContainerSpec {
        resources,
        rlimits: vec![("NOFILE".into(), 77, 78)],
        oom_score_adj: Some(500),
        ..shell(
            "cat /proc/self/oom_score_adj; ulimit -n; ls /sys/fs/cgroup | wc -l; touch /sys/fs/cgroup/x; while true; do :; done",
        )
    };
    let id = runtime.create_container(&sandbox.id, spec).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    rt::sleep(Duration::from_millis(1000)).await;
    let stats = runtime.container_stats(&id, true).await.unwrap();
    assert_eq!(stats.memory.limit_bytes, Some(32 << 20));
    assert_eq!(stats.pids.limit, Some(20));
    assert!(stats.pids.current >= 1 && stats.cpu.throttled_periods > 3, "{stats:?}");
    assert!((50_000_000..450_000_000).contains(&stats.cpu.usage_ns), "{stats:?}");
    let more = Resources {
        memory_limit_bytes: Some(64 << 20),
        memory_swap_limit_bytes: Some(64 << 20),
        cpu_quota_us: Some(-1),
        ..Resources::default()
    };
    runtime.update_container(&id, &more).await.unwrap();
    assert_eq!(
        runtime.container_stats(&id, false).await.unwrap().memory.limit_bytes,
        Some(64 << 20)
    );
    let text = fixture::log_text(&host.directory.join("logs/main/0.log"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..2], ["500", "77"], "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
    let exit = runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, 9, false));
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
}

async fn read_only(host: Host) {
    let runtime = host.runtime().await;
    let archive = docker_archive(
        &[fixture::busybox_layer()],
        "docker.io/test/volume:1",
        r#"{"Volumes":{"/data/v":{}},"WorkingDir":"/data/w"}"#,
    );
    import(&runtime, archive).await.unwrap();
    let spec = ContainerSpec {
        read_only_root: true,
        image: "test/volume:1".into(),
        ..shell(
            "pwd; touch /x; touch /data/v/y && echo volume-writable; touch /tmp/z; touch /dev/shm/w && echo shm; echo 1 > /proc/sys/kernel/hostname; touch /sys/x",
        )
    };
    let (_, text) = run_once(&runtime, &host, spec).await;
    assert!(text.starts_with("/data/w\n"), "{text}");
    assert!(text.contains("volume-writable") && text.contains("shm"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 4, "{text}");
    let (_, text) = run_once(
        &runtime,
        &host,
        shell("touch /x && echo written; cat /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l"),
    )
    .await;
    assert!(text.contains("written\n0\n0"), "{text}");
}

async fn identity(host: Host) {
    let runtime = host.runtime().await;
    let status = "grep -E '^(Uid|Gid|Groups|CapBnd|CapEff|CapPrm|CapInh|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\t\\n' ' |'; umask";
    let (_, text) = run_once(&runtime, &host, shell(status)).await;
    assert!(
        text.contains("CapEff: 00000000a80425fb") && text.contains("CapBnd: 00000000a80425fb"),
        "{text}"
    );
    assert!(
        text.contains("CapInh: 0000000000000000")
            && text.contains("Seccomp: 0")
            && text.contains("0022"),
        "{text}"
    );
    let spec = ContainerSpec {
        user: runtime::User {
            uid: Some(33),
            gid: Some(99),
            supplementary_gids: vec![1000, 1001],
            ..Default::default()
        },
        no_new_privileges: true,
        capabilities_drop: vec!["ALL".into()],
        capabilities_add: vec!["NET_BIND_SERVICE".into()],
        umask: Some(0o077),
        ..shell(status)
    };
    let (_, text) = run_once(&runtime, &host, spec).await;
    assert!(text.contains("Uid: 33 33 33 33|Gid: 99 99 99 99|Groups: 50 99 1000 1001"), "{text}");
    assert!(
        text.contains("CapEff: 0000000000000000") && text.contains("CapBnd: 0000000000000400"),
        "{text}"
    );
    assert!(text.contains("NoNewPrivs: 1") && text.contains("0077"), "{text}");
    let spec = ContainerSpec {
        privileged: true,
        ..shell("ls /dev | wc -l; touch /sys/x; grep CapEff /proc/self/status; ls /dev/vda")
    };
    let (_, text) = run_once(&runtime, &host, spec).await;
    assert!(!text.contains("Read-only") && text.contains("fffff"), "{text}");
    // Devices of the host are out of reach, even for root with CAP_MKNOD.
    let (_, text) = run_once(
        &runtime,
        &host,
        shell("mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk; head -c 1 /dev/zero | wc -c"),
    )
    .await;
    assert!(text.contains("Operation not permitted") && text.contains('1'), "{text}");
}

async fn seccomp(host: Host) {
    let runtime = host.runtime().await;
    let script = "grep Seccomp: /proc/self/status; unshare -U true; mkdir /tmp/d; echo $?; ls / > /dev/null && echo works";
    for no_new_privileges in [false, true] {
        let spec =
            ContainerSpec { seccomp: Seccomp::RuntimeDefault, no_new_privileges, ..shell(script) };
        let (_, text) = run_once(&runtime, &host, spec).await;
        assert!(
            text.contains("Seccomp:\t2")
                && text.contains("Operation not permitted")
                && text.contains("works"),
            "{text}"
        );
    }
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    let spec = ContainerSpec { seccomp: Seccomp::Profile(profile.into()), ..shell(script) };
    let (_, text) = run_once(&runtime, &host, spec).await;
    assert!(text.contains("No space left on device"), "{text}");
}

async fn mounts(host: Host) {
    let runtime = host.runtime().await;
    let source = host.directory.join("volume");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("file"), "from host\n").unwrap();
    let bind = |path: &str, target: &str, read_only: bool| Mount {
        source: MountSource::Bind(host.directory.join(path)),
        target: target.into(),
        read_only,
        recursive_read_only: false,
        propagation: Propagation::Private,
    };
    let mut tmpfs = bind("", "/scratch", false);
    tmpfs.source = MountSource::Tmpfs { size_bytes: 1 << 20, mode: 0o1777 };
    let mut recursive = bind("volume", "/recursive", true);
    recursive.recursive_read_only = true;
    let mut image = bind("", "/image", true);
    image.source = MountSource::Image(IMAGE.into());
    let mut slave = bind("volume", "/slave", false);
    slave.propagation = Propagation::HostToContainer;
    let spec = ContainerSpec {
        mounts: vec![
            bind("volume", "/mnt/deep/volume", false),
            bind("volume/file", "/etc/hosts", true),
            bind("volume", "/mnt/ro", true),
            tmpfs,
            recursive,
            image,
            slave,
        ],
        ..shell(
            "cat /etc/hosts; echo x > /etc/hosts; touch /mnt/ro/a; touch /recursive/a; echo new > /mnt/deep/volume/made; dd if=/dev/zero of=/scratch/big bs=1M count=3; ls /image/bin/busybox; touch /image/x; cat /slave/file; cat /proc/self/mountinfo | grep slave",
        )
    };
    let (_, text) = run_once(&runtime, &host, spec).await;
    assert_eq!(text.matches("Read-only file system").count(), 4, "{text}");
    assert!(
        text.starts_with("from host\n")
            && text.contains("No space left")
            && text.contains("/image/bin/busybox"),
        "{text}"
    );
    assert_eq!(std::fs::read_to_string(source.join("made")).unwrap(), "new\n");
    // A missing source, and a source that cannot propagate.
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let spec = ContainerSpec { mounts: vec![bind("absent", "/x", false)], ..shell("true") };
    let error = runtime.create_container(&sandbox.id, spec).await.unwrap_err().to_string();
    assert!(error.contains("absent") && error.contains("No such file"), "{error}");
    let mut both = bind("volume", "/x", false);
    both.propagation = Propagation::Bidirectional;
    let spec = ContainerSpec { mounts: vec![both], ..shell("true") };
    let error = runtime.create_container(&sandbox.id, spec).await.unwrap_err().to_string();
    assert!(error.contains("not a shared mount"), "{error}");
    assert!(runtime.containers().is_empty());
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
}

async fn shared(host: Host) {
    let runtime = host.runtime().await;
    let spec = SandboxSpec {
        share_processes: true,
        shm_size_bytes: 1 << 20,
        sysctls: [
            ("net.ipv4.ip_forward".to_owned(), "1".to_owned()),
            ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
        ]
        .into(),
        ..host.sandbox()
    };
    let sandbox = runtime.run_sandbox(spec).await.unwrap();
    let first = runtime
        .create_container(&sandbox.id, shell("echo hi > /dev/shm/note; sleep 100 & sleep 101"))
        .await
        .unwrap();
    runtime.start_container(&first).await.unwrap();
    rt::sleep(Duration::from_millis(200)).await;
    let (_, text) = fixture::run_in(&runtime, &sandbox.id, ContainerSpec { name: "second".into(), log_path: Some("second.log".into()), ..shell("cat /dev/shm/note; ps; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced; ls /proc/sys/net/ipv4/conf") }).await;
    assert!(
        text.starts_with("hi\n")
            && text.contains("sleep 101")
            && text.contains("pause")
            && text.contains("\n1\n1\n"),
        "{text}"
    );
    assert!(!text.contains("eth0"), "{text}");
    // The end of a main process that is no init ends the rest of its container.
    let exit = runtime.stop_container(&first, Duration::ZERO).await.unwrap();
    assert_eq!(exit.code, 137);
    rt::sleep(Duration::from_millis(100)).await;
    let (_, text) = fixture::run_in(
        &runtime,
        &sandbox.id,
        ContainerSpec { name: "third".into(), log_path: Some("third.log".into()), ..shell("ps") },
    )
    .await;
    assert!(!text.contains("sleep 100"), "{text}");
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
    let bad = SandboxSpec {
        sysctls: [("net.ipv4.nonsense".to_owned(), "1".to_owned())].into(),
        ..host.sandbox()
    };
    let error = runtime.run_sandbox(bad).await.unwrap_err().to_string();
    assert!(error.contains("set sysctl net.ipv4.nonsense"), "{error}");
}

async fn stop(host: Host) {
    let runtime = host.runtime().await;
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let id = runtime
        .create_container(
            &sandbox.id,
            ContainerSpec {
                stop_signal: Some("SIGUSR1".into()),
                ..shell("trap 'exit 9' USR1; while true; do usleep 20000; done")
            },
        )
        .await
        .unwrap();
    runtime.start_container(&id).await.unwrap();
    rt::sleep(Duration::from_millis(200)).await;
    let exit = runtime.stop_container(&id, Duration::from_secs(20)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (9, 0));
    // An init without a handler ignores SIGTERM.
    let id = runtime
        .create_container(&sandbox.id, shell("while true; do usleep 20000; done"))
        .await
        .unwrap();
    runtime.start_container(&id).await.unwrap();
    let started = std::time::Instant::now();
    let exit = runtime.stop_container(&id, Duration::from_millis(300)).await.unwrap();
    assert_eq!(exit.code, 137);
    assert!(started.elapsed() >= Duration::from_millis(300));
    // Never started.
    let id = runtime.create_container(&sandbox.id, shell("true")).await.unwrap();
    assert_eq!(runtime.container(&id).unwrap().state, ContainerState::Created);
    runtime.remove_container(&id).await.unwrap();
    runtime.remove_container(&id).await.unwrap();
    runtime.stop_sandbox(&sandbox.id).await.unwrap();
    runtime.stop_sandbox(&sandbox.id).await.unwrap();
    assert!(
        runtime
            .create_container(&sandbox.id, shell("true"))
            .await
            .unwrap_err()
            .to_string()
            .contains("not ready")
    );
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
}

async fn logs(host: Host) {
    let runtime = host.runtime().await;
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let id = runtime
        .create_container(
            &sandbox.id,
            ContainerSpec { stdin: true, ..shell("echo one; read x; echo two; printf partial") },
        )
        .await
        .unwrap();
    let mut session = runtime.attach(&id, false).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    assert!(matches!(session.receiver.next().await, Some(Output::Stdout(_))));
    let log = host.directory.join("logs/main/0.log");
    let rotated = host.directory.join("logs/main/0.log.1");
    std::fs::rename(&log, &rotated).unwrap();
    runtime.reopen_log(&id).await.unwrap();
    session.sender.stdin(b"\n").await.unwrap();
    runtime.wait_container(&id).await.unwrap();
    assert_eq!(fixture::log_text(&rotated), "one");
    let text = std::fs::read_to_string(&log).unwrap();
    let tags: Vec<&str> = text.lines().map(|line| &line[31..]).collect();
    assert_eq!(tags, ["stdout F two", "stdout P partial"]);
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
}

async fn adoption(host: Host) {
    use std::io::{BufRead, BufReader};
    let exe = std::env::current_exe().unwrap();
    let mut child = std::process::Command::new(exe)
        .arg("orphan-maker")
        .arg(&host.directory)
        .arg(&host.cgroup)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let ids: Vec<&str> = line.split_whitespace().collect();
    let runtime = runtime::Runtime::open(host.config()).await.unwrap();
    let recovered = runtime.recover().await.unwrap();
    assert_eq!(
        (recovered.sandboxes.len(), recovered.running, recovered.exited),
        (1, 2, 1),
        "{recovered:?}"
    );
    assert_eq!(&*recovered.sandboxes[0], ids[0]);
    assert_eq!(runtime.container(ids[3]).unwrap().exit().unwrap().code, 7);
    // Still ours: a signal, its streams, its exit.
    let mut session = runtime.attach(ids[2], false).await.unwrap();
    session.sender.stdin(b"\n").await.unwrap();
    assert_eq!(runtime.wait_container(ids[2]).await.unwrap().code, 42);
    let output = runtime
        .exec_sync(
            ids[1],
            ExecSpec { args: vec!["echo".into(), "alive".into()], ..Default::default() },
            Duration::from_secs(5),
            100,
        )
        .await
        .unwrap();
    assert_eq!(output.stdout, b"alive\n");
    assert_eq!(runtime.stop_container(ids[1], Duration::ZERO).await.unwrap().code, 137);
    runtime.remove_sandbox(ids[0]).await.unwrap();
}

async fn lost_shim(host: Host) {
    let runtime = host.runtime().await;
    let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
    let id = runtime.create_container(&sandbox.id, shell("sleep 100")).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    let pid = runtime.container(&id).unwrap().pid.unwrap();
    let events = runtime.events();
    sys::process::kill(sandbox.shim_pid.cast_signed(), 9).unwrap();
    let exit =
        rt::timeout(Duration::from_secs(10), runtime.wait_container(&id)).await.unwrap().unwrap();
    assert_eq!(exit.code, 255);
    loop {
        if let Event::SandboxLost { sandbox: lost } = events.recv().await.unwrap() {
            assert_eq!(lost, sandbox.id);
            break;
        }
    }
    runtime.remove_sandbox(&sandbox.id).await.unwrap();
    // Killed and, its shim being gone, reaped by init; a zombie has no cgroup left.
    let alive = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    assert!(
        alive.is_empty() || alive.contains("State:\tZ") || alive.contains("State:\tX"),
        "{alive}"
    );
}

async fn images(host: Host) {
    let runtime = host.runtime().await;
    let images = runtime.images();
    let mut upper = wire::tar::Builder::default();
    upper.add(&wire::tar::Entry::file(b"etc/.wh.group", 0o644), b"");
    upper.add(&wire::tar::Entry::file(b"etc/added", 0o644), b"added\n");
    let two = docker_archive(
        &[fixture::busybox_layer(), upper.finish()],
        "two:1",
        r#"{"Env":["X=y"],"Entrypoint":["/bin/sh","-c"],"Cmd":["cat /etc/added; ls /etc; echo $X; id -u"],"User":"web"}"#,
    );
    // From the airgap directory, compressed, and once only.
    let directory = host.directory.join("images");
    std::fs::create_dir_all(&directory).unwrap();
    let plain = directory.join("two.tar");
    std::fs::write(&plain, &two).unwrap();
    let status = std::process::Command::new("gzip").arg(&plain).status().unwrap();
    assert!(status.success());
    std::fs::write(directory.join("bad.tar.lz4"), [0x04, 0x22, 0x4d, 0x18, 0, 0, 0, 0]).unwrap();
    let imported = images.import_directory().await.unwrap();
    assert_eq!(imported.images, ["docker.io/library/two:1"]);
    assert!(imported.failed[0].1.contains("lz4 compression is not supported"), "{imported:?}");
    let imported = images.import_directory().await.unwrap();
    assert_eq!((imported.unchanged_files, imported.images.len()), (1, 0));
    let image = images.get("two:1").unwrap();
    assert!(image.pinned && image.config.user == "web" && image.size_bytes > 1_000_000);
    assert_eq!(images.get(&image.id[7..19]).unwrap().id, image.id);
    let spec = ContainerSpec {
        image: "two:1".into(),
        command: vec![],
        args: vec![],
        log_path: Some("t.log".into()),
        ..shell("")
    };
    let (code, text) = run_once(&runtime, &host, spec).await;
    assert_eq!((code, text.as_str()), (0, "added\nadded\npasswd\ny\n33"));
    // A file that comes later is noticed.
    let events = runtime.events();
    let follower = rt::spawn(images.clone().follow_directory());
    rt::sleep(Duration::from_millis(300)).await;
    let later = docker_archive(&[fixture::busybox_layer()], "later:1", r#"{"Cmd":["true"]}"#);
    std::fs::write(directory.join("later.tar"), later).unwrap();
    let noticed = async {
        while !matches!(events.recv().await, Ok(Event::ImageImported { reference, .. }) if reference.ends_with("later:1"))
        {
        }
    };
    rt::timeout(Duration::from_secs(20), noticed).await.unwrap();
    drop(follower);
    images.remove("later:1").await.unwrap();
    std::fs::remove_file(directory.join("later.tar")).unwrap();
    // Tags, removal, garbage.
    images.tag("two:1", "registry.example/other:v2").await.unwrap();
    images.remove("two:1").await.unwrap();
    assert!(images.get("two:1").is_none());
    let other = images.get("registry.example/other:v2").unwrap();
    assert_eq!(other.id, image.id);
    assert_eq!(
        images.collect_garbage(u64::MAX, Duration::ZERO).await.unwrap(),
        images.get("two:1").map_or(0, |image| image.size_bytes)
    );
    assert!(images.get(IMAGE).is_none(), "unpinned and unused");
    assert!(images.get(&other.id).is_some(), "pinned");
    // A second store sees the same; a layer without its marker does not count, and its image goes.
    let again = runtime::Runtime::open(host.config()).await.unwrap();
    assert_eq!(again.images().list().len(), 1);
    let layers = host.directory.join("root/l");
    let marker = std::fs::read_dir(&layers)
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().ends_with(".ok"))
        .unwrap();
    std::fs::write(marker.path(), "").unwrap();
    let again = runtime::Runtime::open(host.config()).await.unwrap();
    assert!(again.images().list().is_empty());
    assert_eq!(
        again.images().import_directory().await.unwrap().images,
        ["docker.io/library/two:1"]
    );
}

async fn hostile(host: Host) {
    use wire::tar::{Builder, Entry, Kind};
    let runtime = host.runtime().await;
    let layer = |entries: &[(&str, Kind, &str)]| {
        let mut builder = Builder::default();
        for (path, kind, link) in entries {
            builder.add(
                &Entry {
                    kind: *kind,
                    link: link.as_bytes().to_vec(),
                    ..Entry::file(path.as_bytes(), 0o644)
                },
                b"",
            );
        }
        builder.finish()
    };
    let refused =
        |archive: Vec<u8>| async { import(&runtime, archive).await.unwrap_err().to_string() };
    let error =
        refused(docker_archive(&[layer(&[("../../evil", Kind::File, "")])], "x:1", "{}")).await;
    assert!(
        error.contains("layer sha256:")
            && error.contains("../../evil")
            && error.contains("leads out"),
        "{error}"
    );
    let error =
        refused(docker_archive(&[layer(&[("h", Kind::HardLink, "/../etc/shadow")])], "x:1", "{}"))
            .await;
    assert!(error.contains("leads out"), "{error}");
    // A layer that is not what the config says.
    let good = docker_archive(&[layer(&[("a", Kind::File, "")])], "x:1", "{}");
    let at = good.windows(2).position(|pair| pair == b"a\0").unwrap();
    let mut bad = good.clone();
    bad[at] = b'b';
    let block = at / 512 * 512;
    bad[block + 148..block + 156].copy_from_slice(b"        ");
    let sum: u64 = bad[block..block + 512].iter().map(|byte| u64::from(*byte)).sum();
    bad[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let error = refused(bad).await;
    assert!(error.contains("its content has digest"), "{error}");
    assert!(refused(b"not a tar at all".repeat(100)).await.contains("wrong checksum"));
    assert!(refused(vec![]).await.contains("neither index.json"));
    // Links in an image do not lead mounts out of it.
    let evil = layer(&[
        ("target", Kind::SymbolicLink, "/../../../../tmp/k3rs-escaped"),
        ("etc2", Kind::SymbolicLink, "../../../etc"),
    ]);
    import(&runtime, docker_archive(&[fixture::busybox_layer(), evil], "evil:1", "{}"))
        .await
        .unwrap();
    std::fs::create_dir_all(host.directory.join("v")).unwrap();
    let bind = |target: &str| Mount {
        source: MountSource::Bind(host.directory.join("v")),
        target: target.into(),
        read_only: false,
        recursive_read_only: false,
        propagation: Propagation::Private,
    };
    let spec = ContainerSpec {
        image: "evil:1".into(),
        mounts: vec![bind("/target/in"), bind("/etc2/k3rs-in")],
        ..shell("touch /tmp/k3rs-escaped/in/x; touch /etc/k3rs-in/y; ls /etc2")
    };
    let (_, text) = run_once(&runtime, &host, spec).await;
    assert!(
        !std::path::Path::new("/tmp/k3rs-escaped").exists()
            && !std::path::Path::new("/etc/k3rs-in").exists()
    );
    assert!(host.directory.join("v/x").exists() && host.directory.join("v/y").exists(), "{text}");
    assert!(runtime.images().list().len() == 2);
}

async fn registry(host: Host) {
    let Some(registry) = fixture::Registry::start(&host) else { return };
    let runtime = host.runtime().await;
    let images = runtime.images();
    let mut upper = wire::tar::Builder::default();
    upper.add(&wire::tar::Entry::file(b"etc/added", 0o644), b"added\n");
    let layers = [fixture::busybox_layer(), upper.finish()];
    let archive = docker_archive(&layers, "app:1", r#"{"Cmd":["/bin/cat","/etc/added"]}"#);
    for (name, options) in [
        ("gzip", &["--format=v2s2"][..]),
        ("oci", &["--format=oci"]),
        ("zstd", &["--format=oci", "--dest-compress-format=zstd", "--dest-compress"]),
    ] {
        registry.push(&host, &archive, name, options);
        let reference = format!("127.0.0.1:{}/team/{name}:v1", registry.port);
        let image = images.pull(&reference, None).await.unwrap();
        assert_eq!(image.tags.last(), Some(&reference));
        assert!(
            image.digests.iter().any(|digest| digest.contains(&format!("team/{name}@sha256:"))),
            "{image:?}"
        );
        let pinned = image.digests.last().unwrap().clone();
        let spec =
            ContainerSpec { image: reference.clone(), command: vec![], args: vec![], ..shell("") };
        assert_eq!(run_once(&runtime, &host, spec).await, (0, "added".to_owned()));
        images.remove(&image.id).await.unwrap();
        assert!(images.get(&reference).is_none());
        // By digest, and by way of a mirror with a rewrite and credentials that nobody asks for.
        images.pull(&pinned, None).await.unwrap();
        assert!(images.get(&pinned).is_some());
        images.remove(&pinned).await.unwrap();
    }
    let mirrors = format!(
        "mirrors:\n  docker.io:\n    endpoint: [\"http://127.0.0.1:1\", \"http://127.0.0.1:{}\"]\n    rewrite:\n      \"^library/(.*)\": \"team/$1\"\n",
        registry.port
    );
    std::fs::write(host.directory.join("registries.yaml"), mirrors).unwrap();
    let image = images.pull("oci:v1", None).await.unwrap();
    assert_eq!(image.tags, ["docker.io/library/oci:v1"]);
    std::fs::create_dir_all(host.directory.join("images")).unwrap();
    std::fs::write(
        host.directory.join("images/list.txt"),
        "# wanted\n\ndocker.io/library/gzip:v1\n",
    )
    .unwrap();
    assert_eq!(images.import_directory().await.unwrap().images, ["docker.io/library/gzip:v1"]);
    std::fs::write(host.directory.join("registries.yaml"), "").unwrap();
    let absent = format!("127.0.0.1:{}/team/absent:v1", registry.port);
    let error = images.pull(&absent, None).await.unwrap_err().to_string();
    assert!(error.contains("absent") && error.contains("404"), "{error}");
    assert!(images.pull("127.0.0.1:1/x", None).await.is_err());
    // What a registry sends must be what was asked for.
    registry.corrupt_layers();
    images.collect_garbage(u64::MAX, Duration::ZERO).await.unwrap();
    let reference = format!("127.0.0.1:{}/team/gzip:v1", registry.port);
    let error = images.pull(&reference, None).await.unwrap_err().to_string();
    assert!(error.contains("layer sha256:") || error.contains("digest"), "{error}");
    assert!(images.get(&reference).is_none());
}

/// Callers' futures hold ours, and stacks are small.
async fn sizes(host: Host) {
    let runtime = host.runtime().await;
    let images = runtime.images();
    let time = Duration::ZERO;
    let sizes = [
        ("pull", size_of_val(&images.pull("a", None))),
        ("import_directory", size_of_val(&images.import_directory())),
        ("follow_directory", size_of_val(&images.clone().follow_directory())),
        ("collect_garbage", size_of_val(&images.collect_garbage(0, time))),
        ("run_sandbox", size_of_val(&runtime.run_sandbox(host.sandbox()))),
        ("stop_sandbox", size_of_val(&runtime.stop_sandbox("a"))),
        ("remove_sandbox", size_of_val(&runtime.remove_sandbox("a"))),
        ("create_container", size_of_val(&runtime.create_container("a", shell("true")))),
        ("start_container", size_of_val(&runtime.start_container("a"))),
        ("stop_container", size_of_val(&runtime.stop_container("a", time))),
        ("remove_container", size_of_val(&runtime.remove_container("a"))),
        ("exec_sync", size_of_val(&runtime.exec_sync("a", ExecSpec::default(), time, 0))),
        ("attach", size_of_val(&runtime.attach("a", false))),
        ("recover", size_of_val(&runtime.recover())),
        ("teardown_all", size_of_val(&runtime.teardown_all(false))),
    ];
    const FUTURE_MAX_BYTES: usize = 8 << 10;
    let large: Vec<_> = sizes.iter().filter(|(_, bytes)| *bytes > FUTURE_MAX_BYTES).collect();
    eprintln!("  futures in bytes: {sizes:?}");
    assert!(large.is_empty(), "{large:?}");
}

/// Prints what the report wants; fails only far beyond the budget, because the machine is shared.
async fn speed(host: Host) {
    let started = std::time::Instant::now();
    let runtime = host.runtime().await;
    eprintln!("  open and import of a 2 MB image: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let mut times: [Vec<f64>; 4] = Default::default();
    let mut private = 0;
    for _ in 0..15 {
        let started = std::time::Instant::now();
        let mut lap = started;
        let mut take = |times: &mut Vec<f64>| {
            times.push(lap.elapsed().as_secs_f64() * 1e3);
            lap = std::time::Instant::now();
        };
        let sandbox = runtime.run_sandbox(host.sandbox()).await.unwrap();
        take(&mut times[0]);
        let id = runtime.create_container(&sandbox.id, shell("sleep 100")).await.unwrap();
        take(&mut times[1]);
        runtime.start_container(&id).await.unwrap();
        take(&mut times[2]);
        let rollup =
            std::fs::read_to_string(format!("/proc/{}/smaps_rollup", sandbox.shim_pid)).unwrap();
        private = rollup
            .lines()
            .filter(|line| line.starts_with("Private_"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum();
        lap = std::time::Instant::now();
        runtime.remove_sandbox(&sandbox.id).await.unwrap();
        times[3].push(lap.elapsed().as_secs_f64() * 1e3);
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let median = |times: &Vec<f64>| times[times.len() / 2];
    eprintln!(
        "  median ms: sandbox {:.1}, create {:.1}, start {:.1}, remove {:.1}; shim private {private} KiB",
        median(&times[0]),
        median(&times[1]),
        median(&times[2]),
        median(&times[3])
    );
    assert!(median(&times[1]) + median(&times[2]) < 500.0);
}
