//! The host-local plugin: addresses of this node's own, a file each, as upstream lays them out.
//!
//! `<dataDir>/<network>/<address>` holds the container's id and its interface's name, `last_reserved_ip.<set>` where to
//! go on, and `lock` keeps two calls apart. Another's plugin of the same name goes on with what this one wrote.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use api::Lens;
use serde_json::{Value, json};
use stdx::{Context, OrdSet, Result};

use super::call::{Call, Command, Failure, Kind, refused};
use super::ranges::{self, Set};
use super::result::Ip;

const DIRECTORY: &str = "/var/lib/cni/networks";
const LOCK: &str = "lock";
const LAST_PREFIX: &str = "last_reserved_ip.";
/// Of a lease's file.
const LEASE_MAX_BYTES: u64 = 4096;
/// Of `resolvConf`.
const RESOLV_CONF_MAX_BYTES: u64 = 64 << 10;
/// Addresses that are asked for by name.
const ASKED_MAX: usize = 64;

pub(super) fn run(call: &Call) -> Result<Option<Value>, Failure> {
    if !call.conf.has("ipam") && call.command != Command::Status {
        return refused("IPAM config missing 'ipam' key");
    }
    call.expect(&[
        ("ipam", Kind::Object),
        ("ipam.subnet", Kind::Text),
        ("ipam.ranges", Kind::List),
        ("ipam.routes", Kind::List),
        ("ipam.dataDir", Kind::Text),
        ("ipam.resolvConf", Kind::Text),
    ])?;
    if call.command == Command::Status {
        return Ok(None);
    }
    let sets = ranges::read(&call.conf)?;
    let asked = asked(call)?;
    let store = Store::open(call)?;
    match call.command {
        Command::Add => add(call, &store, &sets, asked).map(Some),
        Command::Del => Ok(store.release(&key(call), &call.id).map(|()| None)?),
        Command::Check => match store.leases()?.iter().any(|(_, holder)| is_of(holder, call)) {
            true => Ok(None),
            false => refused(format!(
                "host-local: Failed to find address added by container {}",
                call.id
            )),
        },
        Command::Gc => Ok(store.collect(&call.conf).map(|()| None)?),
        Command::Status | Command::Version => Ok(None),
    }
}

fn add(call: &Call, store: &Store, sets: &[Set], mut asked: Vec<IpAddr>) -> Result<Value, Failure> {
    let dns = match call.conf.str("ipam.resolvConf") {
        "" => json!({}),
        path => resolv_conf(path)?,
    };
    let mut ips = Vec::new();
    for (idx, set) in sets.iter().enumerate() {
        let wish = asked.iter().position(|address| set.range_of(*address).is_some());
        let wish = wish.map(|at| asked.remove(at));
        match take(call, store, (idx, set), wish) {
            Ok(ip) => ips.push(ip.to_tree()),
            Err(failure) => {
                // A container that was there before keeps what it has.
                if !ips.is_empty() {
                    store.release(&key(call), &call.id)?;
                }
                let message = format!("failed to allocate for range {idx}: {}", failure.message);
                return Err(Failure { message, ..failure });
            }
        }
    }
    if !asked.is_empty() {
        store.release(&key(call), &call.id)?;
        let shown: Vec<String> = asked.iter().map(IpAddr::to_string).collect();
        return refused(format!("failed to allocate all requested IPs: {}", shown.join(" ")));
    }
    Ok(json!({"ips": ips, "routes": call.conf.list("ipam.routes"), "dns": dns}))
}

/// One address of a set: that which was asked for, or the next that nobody has.
fn take(
    call: &Call,
    store: &Store,
    (idx, set): (usize, &Set),
    wish: Option<IpAddr>,
) -> Result<Ip, Failure> {
    let reserve = |address: IpAddr| store.reserve(address, idx, &key(call));
    let found = match wish.and_then(|wish| Some((wish, set.range_of(wish)?))) {
        Some((wish, range)) if wish == range.gateway => {
            return refused(format!("requested ip {wish} is subnet's gateway"));
        }
        Some((wish, range)) => match reserve(wish)? {
            true => Some((wish, range)),
            false => {
                return refused(format!(
                    "requested IP address {wish} is not available in range set {set}"
                ));
            }
        },
        None => {
            let leases = store.leases()?;
            let has = |(address, holder): &&(IpAddr, String)| {
                is_of(holder, call) && set.range_of(*address).is_some()
            };
            if let Some((address, _)) = leases.iter().find(has) {
                return refused(format!(
                    "{address} has been allocated to {}, duplicate allocation is not allowed",
                    call.id
                ));
            }
            let taken: OrdSet<IpAddr> = leases.iter().map(|(address, _)| *address).collect();
            let mut found = None;
            for (address, range) in set.after(store.last(idx)) {
                if !taken.contains(&address) && reserve(address)? {
                    found = Some((address, range));
                    break;
                }
            }
            found
        }
    };
    match found {
        Some((address, range)) => Ok(Ip {
            interface: None,
            address,
            prefix: range.subnet.prefix(),
            gateway: Some(range.gateway),
        }),
        None => refused(format!("no IP addresses available in range set: {set}")),
    }
}

/// Addresses that the caller wants, from wherever it may say so.
fn asked(call: &Call) -> Result<Vec<IpAddr>, Failure> {
    let by_hand = call.arg("IP")?;
    let lists = [call.conf.list("args.cni.ips"), call.conf.list("runtimeConfig.ips")];
    let listed = lists.into_iter().flatten().map(|value| value.as_str().unwrap_or(""));
    let mut all = Vec::new();
    for text in by_hand.into_iter().chain(listed).take(ASKED_MAX) {
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        let address = address.parse::<IpAddr>().context(|| format!("invalid IP address {text}"))?;
        if !all.contains(&address) {
            all.push(address);
        }
    }
    Ok(all)
}

fn resolv_conf(path: &str) -> Result<Value> {
    let bytes = rt::fs::read_within(path, RESOLV_CONF_MAX_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    let (mut servers, mut domain, mut search, mut options) =
        (Vec::new(), "", Vec::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let (Some(key), Some(first)) = (words.next(), words.next()) else { continue };
        match key {
            "nameserver" => servers.push(first),
            "domain" => domain = first,
            "search" => search.extend(std::iter::once(first).chain(words)),
            "options" => options.extend(std::iter::once(first).chain(words)),
            _ => {}
        }
    }
    Ok(json!({"nameservers": servers, "domain": domain, "search": search, "options": options}))
}

/// What a lease's file says of its holder.
fn key(call: &Call) -> String {
    format!("{}\r\n{}", call.id, call.interface)
}

/// Whether a lease is of this call's container; very old ones do not name the interface.
fn is_of(holder: &str, call: &Call) -> bool {
    holder == key(call) || holder == call.id
}

/// The leases of a network, locked for as long as it lives.
#[derive(Debug)]
struct Store {
    directory: PathBuf,
    _lock: rt::fs::Lock,
}

impl Store {
    fn open(call: &Call) -> Result<Store> {
        let base = match call.conf.str("ipam.dataDir") {
            "" => DIRECTORY,
            path => path,
        };
        // The name is checked: it leads nowhere else.
        let directory = Path::new(base).join(call.network());
        rt::fs::create_dir_all(&directory, 0o755)?;
        let _lock = rt::fs::lock_after_others(directory.join(LOCK))?;
        Ok(Store { directory, _lock })
    }

    /// Who has which address.
    fn leases(&self) -> Result<Vec<(IpAddr, String)>> {
        let mut all = Vec::new();
        for path in rt::fs::list_dir(&self.directory)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            let Ok(address) = name.parse::<IpAddr>() else { continue };
            // What cannot be read is taken by somebody.
            let holder = rt::fs::read_within(&path, LEASE_MAX_BYTES).unwrap_or_default();
            all.push((address, String::from_utf8_lossy(holder.trim_ascii()).into_owned()));
        }
        Ok(all)
    }

    fn last(&self, set: usize) -> Option<IpAddr> {
        let path = self.directory.join(format!("{LAST_PREFIX}{set}"));
        let bytes = rt::fs::read_within(path, LEASE_MAX_BYTES).ok()?;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    }

    /// Whether it was free.
    fn reserve(&self, address: IpAddr, set: usize, holder: &str) -> Result<bool> {
        let path = self.directory.join(address.to_string());
        match rt::fs::create_new(&path, holder.as_bytes(), 0o600) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                // A full disk leaves an empty file, which would be nobody's for good.
                rt::fs::remove_file(&path)?;
                return Err(error);
            }
        }
        let last = self.directory.join(format!("{LAST_PREFIX}{set}"));
        rt::fs::write(last, address.to_string().as_bytes(), 0o600)?;
        Ok(true)
    }

    /// Gives back what a holder has: under its name and its interface's, or else under its name alone.
    fn release(&self, holder: &str, id: &str) -> Result<()> {
        let leases = self.leases()?;
        let by_both = leases.iter().any(|(_, found)| found == holder);
        let wanted = if by_both { holder } else { id };
        for (address, _) in leases.iter().filter(|(_, found)| found == wanted) {
            rt::fs::remove_file(self.directory.join(address.to_string()))?;
        }
        Ok(())
    }

    /// Gives back what nobody has that the caller knows.
    fn collect(&self, conf: &Value) -> Result<()> {
        let valid = conf.get("cni.dev/valid-attachments").and_then(Value::as_array);
        let valid = valid.map_or(&[][..], Vec::as_slice);
        let lives = |holder: &str| {
            valid.iter().any(|one| {
                let id = one.str("containerID").trim();
                holder == id || holder == format!("{id}\r\n{}", one.str("ifname"))
            })
        };
        for (address, holder) in self.leases()? {
            if !lives(&holder) {
                rt::fs::remove_file(self.directory.join(address.to_string()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = rt::fs::remove_dir_all(&self.0);
        }
    }

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let name = format!("k3rs-host-local-{name}-{}", std::process::id());
            Scratch(std::env::temp_dir().join(name))
        }

        fn conf(&self, more: Value) -> Value {
            let mut conf = json!({"name": "n", "cniVersion": "1.0.0", "ipam": {
                "type": "host-local", "dataDir": self.0, "routes": [{"dst": "0.0.0.0/0"}],
                "ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "fd00::/64"}]]}});
            for (key, value) in more.as_object().unwrap() {
                conf[key] = value.clone();
            }
            conf
        }

        fn asked(&self, command: Command, id: &str, more: Value) -> String {
            let call = Call::test(command, self.conf(more)).of(id);
            match run(&call) {
                Ok(Some(result)) => {
                    let ips = result.list("ips").iter().map(|ip| ip.str("address"));
                    ips.collect::<Vec<_>>().join(" ")
                }
                Ok(None) => String::new(),
                Err(failure) => failure.message,
            }
        }
    }

    #[test]
    fn leases_are_files_as_upstream_has_them() {
        let scratch = Scratch::new("files");
        let ask = |command, id| scratch.asked(command, id, json!({}));
        assert_eq!(ask(Command::Add, "a"), "10.0.0.2/29 fd00::2/64");
        assert_eq!(ask(Command::Add, "b"), "10.0.0.3/29 fd00::3/64");
        let read = |name: &str| rt::fs::read_text(scratch.0.join("n").join(name)).unwrap();
        assert_eq!(read("10.0.0.2"), "a\r\neth0");
        assert_eq!(
            (read("last_reserved_ip.0"), read("last_reserved_ip.1")),
            ("10.0.0.3".into(), "fd00::3".into())
        );
        let twice = "failed to allocate for range 0: 10.0.0.2 has been allocated to a, duplicate allocation is not allowed";
        assert_eq!(ask(Command::Add, "a"), twice);
        assert_eq!(ask(Command::Check, "a"), "");
        assert_eq!(
            (ask(Command::Del, "a"), ask(Command::Del, "a")),
            (String::new(), String::new())
        );
        let missing = "host-local: Failed to find address added by container a";
        assert_eq!(ask(Command::Check, "a"), missing);
        // What was given back comes last.
        for (id, address) in
            [("c", "10.0.0.4"), ("d", "10.0.0.5"), ("e", "10.0.0.6"), ("f", "10.0.0.2")]
        {
            assert!(ask(Command::Add, id).starts_with(address), "{id}");
        }
        let full = "failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.6";
        assert_eq!(ask(Command::Add, "g"), full);
        let valid = json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": [{"containerID": "b", "ifname": "eth0"}]});
        assert_eq!(scratch.asked(Command::Gc, "", valid), "");
        let names = rt::fs::list_dir(scratch.0.join("n")).unwrap();
        let names: Vec<_> =
            names.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["10.0.0.3", "fd00::3", "last_reserved_ip.0", "last_reserved_ip.1", "lock"]
        );
    }

    #[test]
    fn addresses_that_are_asked_for() {
        let scratch = Scratch::new("asked");
        let ips = |all: &[&str]| json!({"runtimeConfig": {"ips": all}});
        let add = |id, more| scratch.asked(Command::Add, id, more);
        assert_eq!(add("a", ips(&["10.0.0.5/29", "fd00::9"])), "10.0.0.5/29 fd00::9/64");
        assert_eq!(
            add("b", json!({"args": {"cni": {"ips": ["10.0.0.6"]}}})),
            "10.0.0.6/29 fd00::a/64"
        );
        assert_eq!(
            add("c", ips(&["10.0.0.5"])),
            "failed to allocate for range 0: requested IP address 10.0.0.5 is not available in range set 10.0.0.1-10.0.0.6"
        );
        assert_eq!(
            add("c", ips(&["10.0.0.1"])),
            "failed to allocate for range 0: requested ip 10.0.0.1 is subnet's gateway"
        );
        assert_eq!(add("c", ips(&["10.9.9.9"])), "failed to allocate all requested IPs: 10.9.9.9");
        assert_eq!(add("c", ips(&["nine"])), "invalid IP address nine: invalid IP address syntax");
        // Nothing is left of those that failed.
        assert_eq!(
            scratch.asked(Command::Check, "c", json!({})),
            "host-local: Failed to find address added by container c"
        );
    }

    #[test]
    fn dns_of_a_file() {
        let scratch = Scratch::new("dns");
        rt::fs::create_dir_all(&scratch.0, 0o755).unwrap();
        let path = scratch.0.join("resolv.conf");
        rt::fs::write(
            &path,
            b"# x\nnameserver 1.1.1.1\nsearch a b\noptions ndots:5\ndomain\n",
            0o644,
        )
        .unwrap();
        assert_eq!(
            resolv_conf(path.to_str().unwrap()).unwrap(),
            json!({"nameservers": ["1.1.1.1"], "domain": "", "search": ["a", "b"], "options": ["ndots:5"]})
        );
    }
}
