//! The whole of it with plugins that are scripts, and, where they are installed and the tests may, with the real ones.

use super::*;
use crate::HostPort;
use netplan::Protocol;
use std::path::Path;
use std::process::Command;

/// What a script does for each command: it writes down what it was told, and answers the file beside it.
const SCRIPT: &str = r#"#!/bin/sh
dir=$(dirname "$0"); name=$(basename "$0"); told=$(cat)
echo "$CNI_COMMAND $name $CNI_IFNAME ns=${CNI_NETNS:+yes} $CNI_ARGS $told" >> "$dir/log"
[ -e "$dir/$name.fails" ] && { echo '{"code":11,"msg":"try again","details":"later"}'; exit 1; }
[ "$CNI_COMMAND" = ADD ] && cat "$dir/$name.answer"
exit 0
"#;

struct Place {
    directory: PathBuf,
    config: crate::Config,
}

impl Place {
    fn new(name: &str) -> Place {
        let directory =
            std::env::temp_dir().join(format!("k3rs-cni-{name}-{}", std::process::id()));
        let mut config = crate::real_tests::config(&directory);
        config.plugins = Some(Plugins {
            configurations: vec![directory.join("net.d")],
            programs: vec![directory.join("bin")],
            search_path: "/usr/sbin:/usr/bin:/sbin:/bin".into(),
            attached: directory.join("attached"),
        });
        for (name, answer) in [
            ("first", r#"{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24"}]}"#),
            (
                "second",
                r#"{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24"},{"address":"fd00::2/64"}]}"#,
            ),
        ] {
            let file = directory.join("bin").join(name);
            rt::fs::create_dir_all(directory.join("bin"), 0o755).unwrap();
            // Written by another program: one that this process has open for writing, if only in a child that another
            // test is just starting, could not be run.
            let text = file.with_extension("text");
            rt::fs::write(&text, SCRIPT.as_bytes(), 0o644).unwrap();
            let paths = [text.as_os_str(), file.as_os_str()];
            let copied = Command::new("install").args(["-m", "755"]).args(paths).status();
            assert!(copied.unwrap().success());
            rt::fs::write(file.with_extension("answer"), answer.as_bytes(), 0o644).unwrap();
        }
        Place { directory, config }
    }

    fn configure(&self, version: &str) {
        let text = format!(
            r#"{{"cniVersion":"{version}","name":"n","plugins":[{{"type":"first"}},{{"type":"second","capabilities":{{"bandwidth":true}}}}]}}"#
        );
        let path = self.directory.join("net.d/10-n.conflist");
        rt::fs::create_dir_all(self.directory.join("net.d"), 0o755).unwrap();
        rt::fs::replace(path, text.as_bytes(), 0o644).unwrap();
    }

    fn open(&self) -> Arc<Cni> {
        let plugins = self.config.plugins.clone().unwrap();
        Arc::new(Cni::open(plugins, &self.config).unwrap())
    }

    fn log(&self) -> String {
        let path = self.directory.join("bin/log");
        let text = rt::fs::read_text(&path).unwrap_or_default();
        rt::fs::remove_file(&path).unwrap();
        text
    }

    fn fails(&self, name: &str, fails: bool) {
        let path = self.directory.join("bin").join(format!("{name}.fails"));
        match fails {
            true => rt::fs::write(&path, b"", 0o644).unwrap(),
            false => rt::fs::remove_file(&path).unwrap(),
        }
    }

    /// A pod's namespace, if this test may make one.
    fn request(&self, id: &str) -> Option<PodRequest> {
        let netns = self.directory.join("netns").join(id);
        if let Err(error) = sys::netns::create(&netns) {
            eprintln!("skipped: {error}");
            return None;
        }
        let host_port = HostPort {
            host_ip: None,
            protocol: Protocol::Tcp,
            host_port: 8080,
            container_port: 80,
        };
        Some(PodRequest {
            sandbox_id: id.into(),
            namespace: "ns".into(),
            name: "pod".into(),
            uid: "u-1".into(),
            netns,
            host_ports: vec![host_port],
            ingress_bits_per_sec: 1000,
            egress_bits_per_sec: 0,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for path in rt::fs::list_dir(self.directory.join("netns")).unwrap_or_default() {
            let _ = sys::netns::delete(&path);
        }
        let _ = rt::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_chain_is_called_forth_and_back_over_a_restart() {
    let place = Place::new("chain");
    let cni = place.open();
    assert_eq!(cni.problem().as_deref(), Some("cni plugin not initialized"));
    let Some(request) = place.request("a1") else { return };
    let error = rt::block_on(cni.add(&request)).unwrap_err();
    assert_eq!(error.to_string(), "cni plugin not initialized");
    place.configure("1.0.0");
    cni.load();
    assert_eq!(cni.problem(), None);
    let added = rt::block_on(cni.add(&request)).unwrap();
    assert_eq!(format!("{:?}", added.addresses), "[10.9.0.2, fd00::2]");
    let args = "K8S_POD_UID=u-1;IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod;K8S_POD_INFRA_CONTAINER_ID=a1";
    let limits = r#""runtimeConfig":{"bandwidth":{"ingressBurst":2147483647,"ingressRate":1000}}"#;
    let (one, both) = (
        r#"[{"address":"10.9.0.2/24"}]"#,
        r#"[{"address":"10.9.0.2/24"},{"address":"fd00::2/64"}]"#,
    );
    let line = |command: &str, name: &str, before: Option<&str>| {
        let second = name == "second";
        let capabilities = if second { r#""capabilities":{"bandwidth":true},"# } else { "" };
        let before = before
            .map(|ips| format!(r#""prevResult":{{"cniVersion":"1.0.0","ips":{ips}}},"#))
            .unwrap_or_default();
        let limits = if second { format!("{limits},") } else { String::new() };
        format!(
            "{command} {name} eth0 ns=yes {args} {{{capabilities}\"cniVersion\":\"1.0.0\",\"name\":\"n\",{before}{limits}\"type\":\"{name}\"}}\n"
        )
    };
    assert_eq!(
        place.log(),
        [line("ADD", "first", None), line("ADD", "second", Some(one))].concat()
    );
    // No plugin maps ports: the node's own rules do.
    let ports: Vec<String> =
        cni.host_ports().iter().map(|p| format!("{} {}", p.pod, p.port.host_port)).collect();
    assert_eq!(ports, ["10.9.0.2 8080", "fd00::2 8080"]);
    assert_eq!(cni.local().names.len(), 2);
    drop(cni);
    // After a restart it is known, and nobody is called; what made it is what takes it back.
    rt::fs::remove_file(place.directory.join("net.d/10-n.conflist")).unwrap();
    let cni = place.open();
    assert_eq!(rt::block_on(cni.add(&request)).unwrap(), added);
    assert_eq!(place.log(), "");
    rt::block_on(cni.check());
    assert_eq!(
        place.log(),
        [line("CHECK", "first", Some(both)), line("CHECK", "second", Some(both))].concat()
    );
    place.fails("first", true);
    let error = rt::block_on(cni.remove("a1")).unwrap_err().to_string();
    assert_eq!(error, r#"plugin type="first" name="n" failed (del): try again; later"#);
    place.log();
    place.fails("first", false);
    rt::block_on(cni.remove("a1")).unwrap();
    rt::block_on(cni.remove("a1")).unwrap();
    assert_eq!(
        place.log(),
        [line("DEL", "second", Some(both)), line("DEL", "first", Some(both))].concat()
    );
    assert!(!place.directory.join("netns/cni-a1").exists());
    assert_eq!(place.open().gone(&[]), Vec::<String>::new());
}

#[test]
fn what_fails_is_undone_and_what_is_left_is_forgotten() {
    let place = Place::new("fails");
    place.configure("1.0.0");
    let cni = place.open();
    let Some(request) = place.request("b1") else { return };
    place.fails("second", true);
    let error = rt::block_on(cni.add(&request)).unwrap_err().to_string();
    assert_eq!(error, r#"plugin type="second" name="n" failed (add): try again; later"#);
    // Of a failed pod nothing is left but what the plugins would not take back.
    assert_eq!(cni.gone(&[]), ["b1"]);
    assert_eq!(cni.addresses_of("b1"), Vec::<IpAddr>::new());
    place.fails("second", false);
    place.log();
    drop(cni);
    let cni = place.open();
    assert_eq!(cni.gone(&["b1".into()]), Vec::<String>::new());
    // The namespace went with the machine: plugins are told none.
    sys::netns::delete(&place.directory.join("netns/cni-b1")).unwrap();
    rt::block_on(cni.forget(cni.gone(&[])));
    let log = place.log();
    let lines: Vec<&str> = log.lines().map(|line| &line[..24]).collect();
    assert_eq!(lines, ["DEL second eth0 ns= K8S_", "DEL first eth0 ns= K8S_P"]);
    assert_eq!(place.open().gone(&[]), Vec::<String>::new());
    let bad = PodRequest { sandbox_id: "../x".into(), ..request };
    let error = rt::block_on(cni.add(&bad)).unwrap_err().to_string();
    assert_eq!(error, r#"add a pod's network: "../x" is no id of a sandbox"#);
}

#[test]
fn a_missing_plugin_is_named() {
    let place = Place::new("missing");
    place.configure("1.0.0");
    rt::fs::remove_file(place.directory.join("bin/second")).unwrap();
    let cni = place.open();
    let Some(request) = place.request("c1") else { return };
    let error = rt::block_on(cni.add(&request)).unwrap_err().to_string();
    let path = place.directory.join("bin");
    let why = format!("failed to find plugin \"second\" in path [{}]", path.display());
    assert_eq!(error, format!("plugin type=\"second\" name=\"n\" failed (add): {why}"));
}

#[test]
fn a_network_that_can_tell_says_whether_it_is_ready() {
    let place = Place::new("status");
    place.configure("1.1.0");
    let cni = place.open();
    assert_eq!(cni.problem().as_deref(), Some("cni plugin not initialized"), "not asked yet");
    assert_eq!(cni.next_look(), Some(Duration::from_secs(5)));
    place.fails("second", true);
    let (changed, looked) = (cni.changed(), cni.look());
    rt::block_on(looked);
    rt::block_on(changed);
    let why = r#"plugin type="second" name="n" failed (status): try again; later"#;
    assert_eq!(cni.problem().as_deref(), Some(why));
    place.fails("second", false);
    rt::block_on(cni.look());
    assert_eq!(cni.problem(), None);
    assert_eq!(cni.next_look(), Some(Duration::from_secs(60)));
    place.configure("1.0.0");
    cni.load();
    assert_eq!((cni.problem(), cni.next_look()), (None, None));
}

#[test]
fn the_configuration_is_followed() {
    let place = Place::new("follow");
    let cni = place.open();
    let follower = rt::spawn_named("follow", follow(Arc::downgrade(&cni)));
    let settled = async {
        for wanted in [None, Some("cni plugin not initialized")] {
            let path = place.directory.join("net.d/10-n.conflist");
            match wanted {
                None => place.configure("0.4.0"),
                Some(_) => rt::fs::remove_file(&path).unwrap(),
            }
            loop {
                let changed = cni.changed();
                if cni.problem().as_deref() == wanted {
                    break;
                }
                changed.await;
            }
        }
    };
    rt::block_on(rt::timeout(Duration::from_secs(60), settled)).unwrap();
    drop(follower);
}

/// `bridge`, `host-local` and `portmap` as Debian has them.
#[test]
fn the_real_plugins() {
    let real = Path::new("/usr/lib/cni");
    if !real.join("bridge").exists() {
        return eprintln!("skipped: no plugins in {}", real.display());
    }
    let done = sys::netns::run_in_new(|| {
        // Plugins are called by futures, which want more stack than that thread has, and in its namespace.
        let stack_bytes = 4 << 20;
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(stack_bytes);
            thread.spawn_scoped(scope, || with_real_plugins(real)).unwrap().join().unwrap();
        });
    });
    if let Err(error) = done {
        eprintln!("skipped: {error}");
    }
}

fn with_real_plugins(real: &Path) {
    let mut place = Place::new("real");
    let text = format!(
        r#"{{"cniVersion":"1.0.0","name":"real","plugins":[{{"type":"bridge","bridge":"br-real","isGateway":true,
        "ipam":{{"type":"host-local","dataDir":"{}","ranges":[[{{"subnet":"10.99.0.0/24"}}],[{{"subnet":"fd99::/64"}}]]}}}}]}}"#,
        place.directory.join("leases").display()
    );
    rt::fs::create_dir_all(place.directory.join("net.d"), 0o755).unwrap();
    rt::fs::write(place.directory.join("net.d/1.conflist"), text.as_bytes(), 0o644).unwrap();
    if let Some(plugins) = &mut place.config.plugins {
        plugins.programs = vec![real.into()];
    }
    let cni = place.open();
    let Some(request) = place.request("d1") else { return };
    let added = rt::block_on(cni.add(&request)).unwrap();
    assert_eq!(format!("{:?}", added.addresses), "[10.99.0.2, fd99::2]");
    let leases = place.directory.join("leases/real");
    assert!(leases.join("10.99.0.2").exists());
    let inside = rt::fs::open(&request.netns).unwrap();
    assert!(Links::open_in(&inside).unwrap().find("eth0").unwrap().is_some());
    rt::block_on(cni.check());
    drop(cni);
    rt::block_on(place.open().remove("d1")).unwrap();
    assert!(!leases.join("10.99.0.2").exists());
    assert!(Links::open_in(&inside).unwrap().find("eth0").unwrap().is_none());
}
