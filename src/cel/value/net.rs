//! Addresses, networks and URLs as Go's `netip` and `net/url` read them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::percent::unescape;

/// An address; the error is Go's, in upstream's frame.
pub(crate) fn ip(text: &str) -> Result<IpAddr, String> {
    let (frame, quoted) = ("parse error during conversion from string", super::go::go_quote(text));
    address(text).map_err(|why| match why.ends_with("not allowed") {
        true => why,
        false => format!("IP Address {quoted} {frame}: {why}"),
    })
}

fn address(text: &str) -> Result<IpAddr, String> {
    let wrong = |why: &str| format!("ParseAddr({}): {why}", super::go::go_quote(text));
    let found = match text.find(['.', ':', '%']).map(|at| text.as_bytes()[at]) {
        Some(b'.') => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| v4_fault(text)),
        Some(b':') if !text.contains('%') => {
            text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| "unexpected character".into())
        }
        Some(b':') => {
            let (address, zone) = text.split_once('%').unwrap_or((text, ""));
            return Err(match (zone.is_empty(), address.parse::<Ipv6Addr>()) {
                (true, _) => wrong("zone must be a non-empty string"),
                (false, Ok(_)) => format!(
                    "IP address {} with zone value is not allowed",
                    super::go::go_quote(text)
                ),
                (false, Err(_)) => wrong("unexpected character"),
            });
        }
        Some(_) => Err("missing IPv6 address".into()),
        None => Err("unable to parse IP".into()),
    };
    match found {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {} is not allowed", super::go::go_quote(text)))
        }
        Ok(address) => Ok(address),
        Err(why) => Err(wrong(&why)),
    }
}

fn v4_fault(text: &str) -> String {
    for part in text.split('.') {
        if part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()) {
            return "IPv4 field has octet with leading zero".into();
        }
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            if part.parse::<u8>().is_err() {
                return "IPv4 field has value >255".into();
            }
        } else if !part.is_empty() {
            let at = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(0);
            return format!("unexpected character (at {})", super::go::go_quote(&text[at..]));
        }
    }
    match text.split('.').count() {
        _ if text.starts_with('.') || text.ends_with('.') || text.contains("..") => {
            let at = if text.starts_with('.') { 0 } else { text.find("..").map_or(0, |at| at + 1) };
            format!(
                "IPv4 field must have at least one digit (at {})",
                super::go::go_quote(&text[at..])
            )
        }
        0..=3 => "IPv4 address too short".into(),
        _ => "IPv4 address too long".into(),
    }
}

/// A network: an address and how many of its bits count.
pub(crate) fn cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let quoted = super::go::go_quote(text);
    let frame = "network address parse error during conversion from string: ";
    let Some((address, bits)) = text.rsplit_once('/') else {
        return Err(format!("{frame}netip.ParsePrefix({quoted}): no '/'"));
    };
    let address = match address.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => {
            let why = match self::address(address) {
                Err(why) => why,
                Ok(_) => "unexpected character".into(),
            };
            return Err(format!("{frame}netip.ParsePrefix({quoted}): {why}"));
        }
    };
    let plain = !bits.is_empty()
        && bits.bytes().all(|byte| byte.is_ascii_digit())
        && (bits.len() == 1 || !bits.starts_with('0'));
    let bits_quoted = super::go::go_quote(bits);
    let Some(count) = bits.parse::<u8>().ok().filter(|_| plain) else {
        return Err(format!(
            "{frame}netip.ParsePrefix({quoted}): bad bits after slash: {bits_quoted}"
        ));
    };
    if count > if address.is_ipv4() { 32 } else { 128 } {
        return Err(format!("{frame}netip.ParsePrefix({quoted}): prefix length out of range"));
    }
    if let IpAddr::V6(six) = address
        && six.to_ipv4_mapped().is_some()
    {
        return Err(format!("IPv4-mapped IPv6 address {quoted} is not allowed"));
    }
    Ok((address, count))
}

/// The address with everything cut off behind the first `bits`.
pub(crate) fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(four) & mask))
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(six) & mask))
        }
    }
}

/// Whether the address is in the network.
pub(crate) fn contains(network: (IpAddr, u8), address: IpAddr) -> bool {
    network.0.is_ipv4() == address.is_ipv4()
        && masked(address, network.1) == masked(network.0, network.1)
}

/// What of an address `ip.isGlobalUnicast()` and its like ask.
pub(crate) fn is_link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.segments()[0] & 0xffc0 == 0xfe80,
    }
}

pub(crate) fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.octets()[..3] == [224, 0, 0],
        IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
    }
}

pub(crate) fn is_global_unicast(address: IpAddr) -> bool {
    let limited = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(limited
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || is_link_local_unicast(address))
}

/// A URL in its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Url {
    pub(crate) scheme: String,
    pub(crate) host: String,
    /// As it was written.
    pub(crate) path: String,
    pub(crate) query: String,
    whole: String,
}

/// Whether a text is an absolute URL or path, as an HTTP request has it.
///
/// # Errors
///
/// Why it is not, in Go's words.
pub fn parse_url(text: &str) -> Result<(), String> {
    url(text).map(|_| ())
}

/// An absolute URL or path, as an HTTP request has it; the error is Go's.
pub(crate) fn url(text: &str) -> Result<Url, String> {
    let wrong = |why: &str| Err(format!("parse {}: {why}", super::go::go_quote(text)));
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return wrong("net/url: invalid control character in URL");
    }
    if text.is_empty() {
        return wrong("empty url");
    }
    let (scheme, rest) = match scheme(text) {
        Ok(split) => split,
        Err(why) => return wrong(why),
    };
    if !rest.starts_with('/') {
        return if scheme.is_empty() {
            wrong("invalid URI for request")
        } else {
            // Opaque, as `mailto:somebody`.
            let (_, fragmentless) = (scheme, rest.split('#').next().unwrap_or(""));
            let query = fragmentless.split_once('?').map_or("", |(_, query)| query);
            Ok(Url {
                scheme: scheme.to_ascii_lowercase(),
                query: query.into(),
                whole: text.into(),
                ..Url::default()
            })
        };
    }
    let rest = rest.split('#').next().unwrap_or("");
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = match rest.strip_prefix("//") {
        Some(after) if !scheme.is_empty() || !rest.starts_with("///") => {
            let cut = after.find('/').unwrap_or(after.len());
            (&after[..cut], &after[cut..])
        }
        _ => ("", rest),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if let Err(why) = host_is_well(host).and_then(|()| escapes_are_well(path)) {
        return wrong(&why);
    }
    Ok(Url {
        scheme: scheme.to_ascii_lowercase(),
        host: unescape(host, false),
        path: path.into(),
        query: query.into(),
        whole: text.into(),
    })
}

fn scheme(text: &str) -> Result<(&str, &str), &'static str> {
    for (at, letter) in text.bytes().enumerate() {
        match letter {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme"),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => return Ok(("", text)),
        }
    }
    Ok(("", text))
}

fn host_is_well(host: &str) -> Result<(), String> {
    let port = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((_, port)) => port,
            None => return Err("missing ']' in host".into()),
        },
        None => host.rfind(':').map_or("", |at| &host[at..]),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if (!port.is_empty() && !port.starts_with(':')) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("invalid port {} after host", super::go::go_quote(port)));
    }
    let odd = host.find([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}']);
    if let Some(at) = odd.filter(|_| !host.starts_with('[')) {
        let letter = &host[at..=at];
        return Err(format!("invalid character {} in host name", super::go::go_quote(letter)));
    }
    escapes_are_well(host)
}

fn escapes_are_well(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {}", super::go::go_quote(&shown)));
        }
    }
    Ok(())
}

impl Url {
    pub(crate) fn hostname(&self) -> &str {
        match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(""),
            None => self.host.split(':').next().unwrap_or(""),
        }
    }

    pub(crate) fn port(&self) -> &str {
        let after = self.host.rsplit(']').next().unwrap_or("");
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }

    /// The path with everything escaped that must be.
    pub(crate) fn escaped_path(&self) -> String {
        wire::percent::escape(&self.path, |byte| {
            wire::percent::is_unreserved(byte) || b"/$&+,:;=@%!'()*[]".contains(&byte)
        })
    }

    /// The query's keys in the order of their first use, each with its values.
    pub(crate) fn queries(&self) -> Vec<(String, Vec<String>)> {
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        for pair in self.query.split('&') {
            // Go drops what it cannot read.
            if pair.is_empty() || pair.contains(';') {
                continue;
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if escapes_are_well(key).is_err() || escapes_are_well(value).is_err() {
                continue;
            }
            let (key, value) = (unescape(key, true), unescape(value, true));
            match found.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => values.push(value),
                None => found.push((key, vec![value])),
            }
        }
        found
    }

    pub(crate) fn whole(&self) -> &str {
        &self.whole
    }
}
