//! One call of a plugin of ours: what the environment and the configuration say, checked as upstream's `skel` does.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use api::Lens;
use serde_json::Value;
use stdx::{Context, Error};

use crate::kernel::Links;

/// What a plugin is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// Codes of errors, as the specification numbers them.
const INCOMPATIBLE_VERSION: u32 = 1;
const INVALID_ENVIRONMENT: u32 = 4;
pub(super) const IO: u32 = 5;
const DECODING: u32 = 6;
const INVALID_CONFIGURATION: u32 = 7;
const INVALID_NETNS: u32 = 8;
const INTERNAL: u32 = 999;

/// Why a call failed, as its caller is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: u32,
    pub(super) message: String,
    pub(super) details: String,
}

impl Failure {
    pub(super) fn new(code: u32, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), details: String::new() }
    }

    fn with(mut self, details: impl Into<String>) -> Failure {
        self.details = details.into();
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(INTERNAL, error.to_string())
    }
}

/// A failure that is only words.
pub(super) fn refused<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(INTERNAL, why))
}

/// A call: who asks what of whom.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) command: Command,
    /// The container's id.
    pub(super) id: String,
    /// Where its network namespace is; empty: it is gone.
    pub(super) netns: String,
    pub(super) interface: String,
    /// What the caller adds by hand (`CNI_ARGS`).
    args: String,
    /// Where other plugins are.
    pub(super) path: Vec<PathBuf>,
    /// All of the environment, for plugins that this one calls.
    pub(super) env: Vec<(String, String)>,
    pub(super) conf: Value,
    /// The configuration as it came.
    pub(super) input: Vec<u8>,
}

/// What a key of a configuration must hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Flag,
    Number,
    Text,
    List,
    Object,
}

impl Call {
    pub(super) fn of_environment(env: Vec<(String, String)>) -> Result<Call, Failure> {
        let value = |name: &str| {
            let found = env.iter().find(|(key, _)| key == name);
            found.map_or(String::new(), |(_, value)| value.clone())
        };
        let name = value("CNI_COMMAND");
        let command = match name.as_str() {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "GC" => Command::Gc,
            "STATUS" => Command::Status,
            "VERSION" => Command::Version,
            _ => {
                let why = format!("unknown CNI_COMMAND: {name}");
                return Err(Failure::new(INVALID_ENVIRONMENT, why));
            }
        };
        let of_pod = matches!(command, Command::Add | Command::Del | Command::Check);
        let needed = [
            ("CNI_CONTAINERID", of_pod),
            ("CNI_NETNS", of_pod && command != Command::Del),
            ("CNI_IFNAME", of_pod),
            ("CNI_PATH", command != Command::Version),
        ];
        let call = Call {
            command,
            id: value("CNI_CONTAINERID"),
            netns: value("CNI_NETNS"),
            interface: value("CNI_IFNAME"),
            args: value("CNI_ARGS"),
            path: value("CNI_PATH").split(':').map(PathBuf::from).collect(),
            conf: Value::Null,
            input: Vec::new(),
            env: Vec::new(),
        };
        if of_pod && !call.id.is_empty() && !crate::cni::is_name(&call.id) {
            let failure = Failure::new(INVALID_ENVIRONMENT, "invalid characters in containerID");
            return Err(failure.with(call.id));
        }
        if of_pod && !call.interface.is_empty() {
            check_interface(&call.interface)?;
        }
        let missing = needed.iter().filter(|(name, needed)| *needed && value(name).is_empty());
        let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            let why = format!("required env variables [{}] missing", missing.join(","));
            return Err(Failure::new(INVALID_ENVIRONMENT, why));
        }
        Ok(Call { env, ..call })
    }

    /// Takes the configuration in.
    pub(super) fn read(&mut self, input: Vec<u8>) -> Result<(), Failure> {
        let tree = serde_json::from_slice::<Value>(&input);
        let tree =
            tree.map_err(|error| error.to_string()).and_then(|tree| match tree.is_object() {
                true => Ok(tree),
                false => Err("it is no object".to_owned()),
            });
        self.conf = tree.map_err(|error| {
            Failure::new(DECODING, format!("error unmarshall network config: {error}"))
        })?;
        let name = self.conf.str("name");
        if name.is_empty() {
            return Err(Failure::new(INVALID_CONFIGURATION, "missing network name"));
        }
        if !crate::cni::is_name(name) {
            let why = "invalid characters found in network name";
            return Err(Failure::new(INVALID_CONFIGURATION, why).with(name));
        }
        self.input = input;
        Ok(())
    }

    pub(super) fn network(&self) -> &str {
        self.conf.str("name")
    }

    /// The version that the configuration follows; without one it is of the first.
    pub(super) fn version(&self) -> &str {
        match self.conf.str("cniVersion") {
            "" => "0.1.0",
            version => version,
        }
    }

    pub(super) fn check_version(&self, supported: &[&str]) -> Result<(), Failure> {
        let version = self.version();
        let since = match self.command {
            Command::Check => Some(("CHECK", (0, 4, 0))),
            Command::Gc => Some(("GC", (1, 1, 0))),
            Command::Status => Some(("STATUS", (1, 1, 0))),
            _ => None,
        };
        if let Some((command, first)) = since
            && crate::cni::version(version) < first
        {
            let why = format!("config version does not allow {command}");
            return Err(Failure::new(INCOMPATIBLE_VERSION, why));
        }
        if supported.contains(&version) {
            return Ok(());
        }
        let quoted: Vec<String> = supported.iter().map(|version| format!("{version:?}")).collect();
        let details = format!("config is {version:?}, plugin supports [{}]", quoted.join(" "));
        Err(Failure::new(INCOMPATIBLE_VERSION, "incompatible CNI versions").with(details))
    }

    /// Nobody gets the network of the caller changed by naming it.
    pub(super) fn check_netns(&self) -> Result<(), Failure> {
        if self.netns.is_empty() || !matches!(self.command, Command::Add | Command::Del) {
            return Ok(());
        }
        let overrides = self.env.iter().find(|(key, _)| key == "CNI_NETNS_OVERRIDE");
        if overrides.is_some_and(|(_, value)| value.eq_ignore_ascii_case("true") || value == "1") {
            return Ok(());
        }
        use std::os::unix::fs::MetadataExt;
        let number = |path: &str| rt::fs::metadata(path).map(|found| (found.dev(), found.ino()));
        match (number(&self.netns), number("/proc/self/ns/net")) {
            (Ok(theirs), Ok(ours)) if theirs == ours => Err(Failure::new(
                INVALID_NETNS,
                "plugin's netns and netns from CNI_NETNS should not be the same",
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a configuration in which a key holds something else than it must.
    pub(super) fn expect(&self, keys: &[(&str, Kind)]) -> Result<(), Failure> {
        for (key, kind) in keys {
            let value = self.conf.at(key);
            let (fits, word) = match kind {
                Kind::Flag => (value.is_boolean(), "boolean"),
                Kind::Number => (value.is_u64(), "number from 0 on"),
                Kind::Text => (value.is_string(), "string"),
                Kind::List => (value.is_array(), "list"),
                Kind::Object => (value.is_object(), "object"),
            };
            if !fits && !value.is_null() {
                return refused(format!("failed to load netconf: {key} is no {word}: {value}"));
            }
        }
        Ok(())
    }

    /// Refuses what upstream's plugin of this name can and this one cannot.
    pub(super) fn refuse(&self, plugin: &str, keys: &[&str]) -> Result<(), Failure> {
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Number(number) => number.as_i64() != Some(0),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        };
        match keys.iter().find(|key| is_set(self.conf.at(key))) {
            Some(key) => refused(format!("{key} is not supported by the {plugin} plugin of k3rs")),
            None => Ok(()),
        }
    }

    /// The value of a key of `CNI_ARGS`.
    ///
    /// # Errors
    /// If there are pairs that are none, or keys other than `known`, and those are not to be ignored.
    pub(super) fn arg(&self, known: &str) -> Result<Option<&str>, Failure> {
        let (mut found, mut ignores, mut unknown) = (None, false, Vec::new());
        for pair in self.args.split(';').filter(|_| !self.args.is_empty()) {
            let Some((key, value)) = pair.split_once('=').filter(|(_, value)| !value.contains('='))
            else {
                return refused(format!("ARGS: invalid pair {pair:?}"));
            };
            match key {
                "IgnoreUnknown" => ignores = value == "1" || value.eq_ignore_ascii_case("true"),
                key if key == known => found = Some(value),
                _ => unknown.push(pair),
            }
        }
        match unknown.is_empty() || ignores {
            true => Ok(found.filter(|value| !value.is_empty())),
            false => refused(format!("ARGS: unknown args {unknown:?}")),
        }
    }

    /// Runs `work` in the container's network namespace.
    ///
    /// # Errors
    /// If there is none; [`is_gone`] tells whether that is all.
    pub(super) fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let what = || format!("failed to open netns {:?}", self.netns);
        let netns = rt::fs::open(&self.netns).context(what)?;
        if !sys::netns::is_one(Path::new(&self.netns)) {
            return Err(Error::new(format!("{}: unknown FS magic", what())));
        }
        sys::netns::run_in(netns.as_fd(), work).context(what)?
    }

    /// Whether the container's network namespace is no more. What a mount left behind is none, either.
    pub(super) fn is_gone(&self) -> bool {
        !sys::netns::is_one(Path::new(&self.netns))
    }

    /// The hosts' end of the container's interface: its index on the host.
    pub(super) fn peer(&self) -> Result<u32, Error> {
        let name = &self.interface;
        let link = self.inside(|| Links::open()?.find(name))?;
        let link = link.context(|| format!("could not look up {name:?}: Link not found"))?;
        match link.kind == "veth" && link.parent != 0 {
            true => Ok(link.parent),
            false => Err(Error::new(format!("interface {name:?} was not a veth interface"))),
        }
    }
}

fn check_interface(name: &str) -> Result<(), Failure> {
    const NAME_MAX_BYTES: usize = 15;
    if name.len() > NAME_MAX_BYTES {
        let details =
            format!("interface name should be less than {} characters", NAME_MAX_BYTES + 1);
        return Err(Failure::new(INVALID_ENVIRONMENT, "interface name is too long").with(details));
    }
    if matches!(name, "." | "..") {
        return Err(Failure::new(INVALID_ENVIRONMENT, "interface name is . or .."));
    }
    if name.chars().any(|c| matches!(c, '/' | ':') || c.is_whitespace()) {
        let why = "interface name contains / or : or whitespace characters";
        return Err(Failure::new(INVALID_ENVIRONMENT, why));
    }
    Ok(())
}

/// Reads `10.0.0.1/24`, host bits and all.
pub(super) fn address(text: &str) -> Result<(IpAddr, u8), Error> {
    let what = || format!("invalid CIDR address: {text}");
    let (address, prefix) = text.split_once('/').context(what)?;
    let address: IpAddr = address.parse().context(what)?;
    let prefix: u8 = prefix.parse().context(what)?;
    netplan::Cidr::new(address, prefix).context(what)?;
    Ok((address, prefix))
}

/// Reads a hardware address.
pub(super) fn mac(text: &str) -> Result<[u8; 6], Error> {
    let what = || format!("address {text}: invalid MAC address");
    let octets = text.split([':', '-']).map(|octet| u8::from_str_radix(octet, 16));
    let octets = octets.collect::<Result<Vec<u8>, _>>().context(what)?;
    octets.try_into().ok().context(what)
}

/// Shows a hardware address.
pub(super) fn mac_text(mac: &[u8]) -> String {
    let octets: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

/// A short name for what belongs to a container's interface: the same for the same words.
pub(super) fn hash(words: &[&str]) -> String {
    // FNV-1a, as for the names of our own links; a word ends with what is in none.
    let octets = words.iter().flat_map(|word| word.bytes().chain([0]));
    let hash = octets.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
impl Call {
    /// A call in a test, of `command` with a configuration.
    pub(super) fn test(command: Command, conf: Value) -> Call {
        Call {
            command,
            id: "one".into(),
            netns: String::new(),
            interface: "eth0".into(),
            args: String::new(),
            path: Vec::new(),
            env: Vec::new(),
            input: conf.to_string().into_bytes(),
            conf,
        }
    }

    pub(super) fn of(mut self, id: &str) -> Call {
        self.id = id.to_owned();
        self
    }

    pub(super) fn with_args(mut self, args: &str) -> Call {
        self.args = args.to_owned();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_by_hand() {
        let shown = |args: &str| {
            let call = Call::test(Command::Add, Value::Null).with_args(args);
            call.arg("IP").map(|found| found.map(str::to_owned)).map_err(|failure| failure.message)
        };
        assert_eq!(shown(""), Ok(None));
        assert_eq!(shown("IP=10.0.0.1"), Ok(Some("10.0.0.1".into())));
        assert_eq!(shown("IgnoreUnknown=1;K8S_POD_NAME=a;IP=::1"), Ok(Some("::1".into())));
        assert_eq!(shown("A=b"), Err("ARGS: unknown args [\"A=b\"]".into()));
        assert_eq!(shown("IP"), Err("ARGS: invalid pair \"IP\"".into()));
    }

    #[test]
    fn keys_hold_what_they_must() {
        let call = Call::test(Command::Add, serde_json::json!({"mtu": "9", "vlan": 3, "off": 0}));
        let failure = call.expect(&[("mtu", Kind::Number)]).unwrap_err();
        assert_eq!(failure.message, "failed to load netconf: mtu is no number from 0 on: \"9\"");
        assert_eq!(call.expect(&[("vlan", Kind::Number), ("none", Kind::Flag)]), Ok(()));
        let failure = call.refuse("bridge", &["off", "none", "vlan"]).unwrap_err();
        assert_eq!(failure.message, "vlan is not supported by the bridge plugin of k3rs");
    }

    #[test]
    fn addresses_of_both_layers() {
        assert_eq!(address("10.1.2.3/24").unwrap(), ("10.1.2.3".parse().unwrap(), 24));
        assert!(address("10.1.2.3/33").is_err() && address("10.1.2.3").is_err());
        assert_eq!(mac_text(&mac("02:00:5E:10:00:01").unwrap()), "02:00:5e:10:00:01");
        assert!(mac("02:00").is_err() && mac("x").is_err());
    }
}
