//! The kernel command line: the words that are for us, read without failing, with complaints about the rest.

use std::net::{IpAddr, Ipv4Addr};

/// What the command line asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) addresses: Vec<Address>,
    pub(crate) hostname: Option<String>,
    pub(crate) root: Option<Disk>,
    /// `ro`, `rw`, or neither.
    pub(crate) root_read_only: Option<bool>,
    /// `init=`: another program takes over in the new root.
    pub(crate) init: Option<String>,
    pub(crate) data: Option<Disk>,
    /// `k3rs.shell`: on which terminal, if not the console.
    pub(crate) shell: Option<Option<String>>,
    pub(crate) modules: Vec<String>,
    /// `k3rs.clock=floor`.
    pub(crate) clock_floor: bool,
    /// `k3rs.exec=ram|data`.
    pub(crate) exec: Exec,
    /// What follows `--`.
    pub(crate) args: Vec<String>,
    /// Words that are ours and make no sense, for the log.
    pub(crate) complaints: Vec<String>,
}

/// Where the program's pages shall come from.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exec {
    #[default]
    Automatic,
    Ram,
    Data,
}

/// A file system on a disk.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// `/dev/x`, `LABEL=x`, `UUID=x`, `PARTUUID=x` or `PARTLABEL=x`.
    pub(crate) device: String,
    /// Empty: found by looking.
    pub(crate) fs_type: String,
    pub(crate) options: String,
}

/// One `ip=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Empty: the first network card that nobody else names.
    pub(crate) device: String,
    pub(crate) method: Method,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) hostname: Option<String>,
    pub(crate) dns: Vec<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Off,
    Dhcp,
    Static { address: IpAddr, prefix: u8 },
}

impl Words {
    /// Reads a command line; what it does not know belongs to the kernel or to others.
    pub(crate) fn parse(line: &str) -> Words {
        let mut words = Words::default();
        let mut parts = split(line).into_iter();
        for part in parts.by_ref() {
            if part == "--" {
                break;
            }
            let (key, value) = part.split_once('=').unwrap_or((&part, ""));
            if let Err(why) = words.take(key, value) {
                words.complaints.push(format!("{part}: {why}"));
            }
        }
        words.args = parts.collect();
        words
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "ip" => self.addresses.push(address(value)?),
            "hostname" if !value.is_empty() => self.hostname = Some(value.to_owned()),
            "root" if !value.is_empty() => {
                self.root.get_or_insert_default().device = value.to_owned();
            }
            "rootfstype" => self.root.get_or_insert_default().fs_type = value.to_owned(),
            "rootflags" => self.root.get_or_insert_default().options = value.to_owned(),
            "ro" => self.root_read_only = Some(true),
            "rw" => self.root_read_only = Some(false),
            "init" if !value.is_empty() => self.init = Some(value.to_owned()),
            "k3rs.data" => self.data = Some(data(value)?),
            "k3rs.shell" => {
                let terminal = value.strip_prefix("/dev/").unwrap_or(value);
                self.shell = Some((!terminal.is_empty()).then(|| terminal.to_owned()));
            }
            "k3rs.modules" => {
                let names = value.split(',').filter(|name| !name.is_empty());
                self.modules.extend(names.map(str::to_owned));
            }
            "k3rs.clock" => match value {
                "floor" => self.clock_floor = true,
                _ => return Err("the only value is floor".into()),
            },
            "k3rs.exec" => {
                self.exec = match value {
                    "ram" => Exec::Ram,
                    "data" => Exec::Data,
                    _ => return Err("the values are ram and data".into()),
                }
            }
            _ if key.starts_with("k3rs.") => return Err("unknown".into()),
            _ => {}
        }
        Ok(())
    }

    /// The root disk, if one was named: its type and flags alone mean none.
    pub(crate) fn root_disk(&self) -> Option<&Disk> {
        self.root.as_ref().filter(|disk| !disk.device.is_empty())
    }
}

/// Words by white space; double quotes keep it, and may stand inside a word, as the kernel has them.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut started) = (false, false);
    for character in line.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                started = true;
            }
            _ if character.is_whitespace() && !quoted => {
                if started {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            _ => {
                word.push(character);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    words
}

/// `DEVICE[,fstype[,options]]`; the options have commas of their own.
fn data(value: &str) -> Result<Disk, String> {
    let mut parts = value.splitn(3, ',');
    let mut next = || parts.next().unwrap_or("").to_owned();
    let disk = Disk { device: next(), fs_type: next(), options: next() };
    match disk.device.is_empty() {
        true => Err("expected k3rs.data=DEVICE[,fstype[,options]]".into()),
        false => Ok(disk),
    }
}

/// `ip=`: the kernel's nfsroot form, with brackets around IPv6 addresses and a prefix length where it has a mask.
fn address(value: &str) -> Result<Address, String> {
    let fields = fields(value);
    let field = |idx: usize| fields.get(idx).copied().unwrap_or("");
    let mut address = Address {
        device: field(5).to_owned(),
        method: Method::Off,
        gateway: None,
        hostname: Some(field(4).to_owned()).filter(|name| !name.is_empty()),
        dns: Vec::new(),
    };
    // `ip=dhcp`, `ip=off`, `ip=eth0:dhcp`.
    if let [_] | [_, _] = fields[..]
        && let Some(dhcp) = autoconf(fields[fields.len() - 1])
    {
        address.method = if dhcp { Method::Dhcp } else { Method::Off };
        if let [device, _] = fields[..] {
            address.device = device.to_owned();
        }
        return Ok(address);
    }
    let ip = |text: &str, what: &str| match text {
        "" => Ok(None),
        text => {
            text.parse::<IpAddr>().map(Some).map_err(|_| format!("{what} {text:?} is no address"))
        }
    };
    address.gateway = ip(field(2), "gateway")?;
    for idx in [7, 8] {
        address.dns.extend(ip(field(idx), "name server")?);
    }
    let dhcp = match field(6) {
        "" => field(0).is_empty(),
        word => autoconf(word).ok_or_else(|| format!("autoconfiguration {word:?} is unknown"))?,
    };
    let (client, prefix) = field(0).split_once('/').unwrap_or((field(0), field(3)));
    address.method = match (dhcp, ip(client, "address")?) {
        (true, _) => Method::Dhcp,
        (false, None) => Method::Off,
        (false, Some(client)) => {
            Method::Static { address: client, prefix: prefix_length(client, prefix)? }
        }
    };
    Ok(address)
}

/// The fields between colons that are not in brackets, without the brackets.
fn fields(value: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let (mut start, mut depth) = (0, 0u32);
    for (idx, byte) in value.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            b':' if depth == 0 => {
                fields.push(&value[start..idx]);
                start = idx + 1;
            }
            _ => {}
        }
    }
    fields.push(&value[start..]);
    fields
        .into_iter()
        .map(|field| {
            field.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(field)
        })
        .collect()
}

/// Whether the word asks for DHCP; `None` if it is no such word. BOOTP and RARP are answered by nobody now.
fn autoconf(word: &str) -> Option<bool> {
    match word {
        "dhcp" | "on" | "any" | "both" => Some(true),
        "off" | "none" => Some(false),
        _ => None,
    }
}

/// A mask or a prefix length; without either, the address' old class, as the kernel does.
fn prefix_length(address: IpAddr, mask: &str) -> Result<u8, String> {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    if let Ok(length) = mask.parse::<u8>() {
        return match length <= bits {
            true => Ok(length),
            false => Err(format!("prefix length {length} is above {bits}")),
        };
    }
    match (address, mask) {
        (IpAddr::V6(_), "") => Ok(64),
        (IpAddr::V4(address), "") => Ok(match address.octets()[0] {
            0..128 => 8,
            128..192 => 16,
            _ => 24,
        }),
        (_, mask) => {
            let bits = mask.parse::<Ipv4Addr>().map(u32::from).ok();
            let bits = bits.filter(|bits| bits.leading_ones() + bits.trailing_zeros() >= 32);
            let bits = bits.ok_or_else(|| format!("{mask:?} is no network mask"))?;
            Ok(u8::try_from(bits.leading_ones()).unwrap_or(32))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line() {
        let words = Words::parse(
            "console=ttyAMA0 quiet ip=10.0.2.15::10.0.2.2:255.255.255.0:gate:eth0:off:10.0.2.3 \
             k3rs.data=LABEL=data,ext4,noatime,commit=30 ro rootfstype=squashfs root=/dev/vda \
             k3rs.shell=/dev/ttyS1 k3rs.modules=a,b k3rs.shll k3rs.clock=never \
             -- server --node-label \"a=b c\" --disable traefik",
        );
        assert_eq!(words.args, ["server", "--node-label", "a=b c", "--disable", "traefik"]);
        assert_eq!(
            words.data,
            Some(Disk {
                device: "LABEL=data".into(),
                fs_type: "ext4".into(),
                options: "noatime,commit=30".into()
            })
        );
        assert_eq!(words.root_disk().unwrap().fs_type, "squashfs");
        assert_eq!(words.root_read_only, Some(true));
        assert_eq!(words.shell, Some(Some("ttyS1".into())));
        assert_eq!(words.modules, ["a", "b"]);
        assert_eq!(
            words.complaints,
            ["k3rs.shll: unknown", "k3rs.clock=never: the only value is floor"]
        );
        assert!(Words::parse("rootfstype=ext4 rw").root_disk().is_none());
        assert_eq!(Words::parse("k3rs.shell").shell, Some(None));
    }

    #[test]
    fn addresses() {
        let text = |value: &str| match address(value) {
            Ok(address) => format!(
                "{:?} {:?} gw {:?} host {:?} dns {:?}",
                address.device, address.method, address.gateway, address.hostname, address.dns
            ),
            Err(why) => why,
        };
        for (value, want) in [
            ("dhcp", r#""" Dhcp gw None host None dns []"#),
            ("off", r#""" Off gw None host None dns []"#),
            ("eth1:dhcp", r#""eth1" Dhcp gw None host None dns []"#),
            ("::::name:eth1:dhcp", r#""eth1" Dhcp gw None host Some("name") dns []"#),
            (":::::eth1", r#""eth1" Dhcp gw None host None dns []"#),
            (
                "192.168.1.9",
                r#""" Static { address: 192.168.1.9, prefix: 24 } gw None host None dns []"#,
            ),
            (
                "10.1.2.3:::255.255.0.0::eth0:none",
                r#""eth0" Static { address: 10.1.2.3, prefix: 16 } gw None host None dns []"#,
            ),
            (
                "10.1.2.3/20::10.1.0.1",
                r#""" Static { address: 10.1.2.3, prefix: 20 } gw Some(10.1.0.1) host None dns []"#,
            ),
            (
                "[fd00::5]::[fd00::1]:48:h:eth0:off:[fd00::2]:1.1.1.1",
                r#""eth0" Static { address: fd00::5, prefix: 48 } gw Some(fd00::1) host Some("h") dns [fd00::2, 1.1.1.1]"#,
            ),
            ("10.1.2.3:::255.0.255.0", r#""255.0.255.0" is no network mask"#),
            ("10.1.2.3:::33", "prefix length 33 is above 32"),
            ("10.1.2:::24", r#"address "10.1.2" is no address"#),
            ("10.1.2.3:::24:::magic", r#"autoconfiguration "magic" is unknown"#),
        ] {
            assert_eq!(text(value), want, "ip={value}");
        }
    }
}
