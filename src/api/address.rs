//! Addresses that objects name: how they are read, and which nobody may send traffic to.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use crate::complain::{Cause, Complain};
use crate::lens::Lens;

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Reads an address as upstream does (`ParseIPSloppy`): numbers of IPv4 may begin with zeros and
/// are decimal, and an IPv4 address written as IPv6 is one of IPv4.
pub fn parse(text: &str) -> Option<IpAddr> {
    // Go reads up to a zone or not at all; Rust knows no zones either.
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let mut octets = [0; 4];
    let mut numbers = text.split('.');
    for octet in &mut octets {
        let number = numbers.next()?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        *octet = number.parse().ok().filter(|_| digits)?;
    }
    numbers.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

/// Reads an address and the number of bits that count (`ParseCIDRSloppy`): `10.0.0.0/8`.
pub(crate) fn parse_cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let bits = if address.contains(':') { 128 } else { 32 };
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|length| digits && *length <= bits)?;
    // An IPv4 address that is written as IPv6 stays one here.
    Some((address.parse().ok().or_else(|| parse(address))?, length))
}

/// Complains about what is no range of addresses; tells the range otherwise.
pub fn cidr(text: &str, path: &str, causes: &mut Vec<Cause>) -> Option<(IpAddr, u32)> {
    let range = parse_cidr(text);
    if range.is_none() {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        causes.invalid(path, &text.into(), detail);
    }
    range
}

/// Complains about what is no address; tells the address otherwise.
pub fn ip(text: &str, path: &str, causes: &mut Vec<Cause>) -> Option<IpAddr> {
    let address = parse(text);
    if address.is_none() {
        causes.invalid(path, &text.into(), IP);
    }
    address
}

/// An address that traffic may be sent to: not the host's own, nor anybody's.
pub fn ordinary_ip(text: &str, path: &str, causes: &mut Vec<Cause>) {
    if ip(text, path, causes).is_some() {
        endpoint(text, path, causes);
    }
}

/// The same where the form of the address is complained about elsewhere, too (upstream's
/// `ValidateNonSpecialIP`).
pub fn endpoint(text: &str, path: &str, causes: &mut Vec<Cause>) {
    let Some(address) = parse(text) else {
        causes.invalid(path, &text.into(), "must be a valid IP address");
        return;
    };
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let complaints = [
        (address.is_unspecified(), format!("may not be unspecified ({text})")),
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    for (_, complaint) in complaints.iter().filter(|(applies, _)| *applies) {
        causes.invalid(path, &text.into(), complaint);
    }
}

/// The addresses of a pod or of its host, in a list of objects with an `ip`: at most one of each family.
pub fn ips_of_families(items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let mut families = Vec::new();
    for (idx, item) in items.iter().enumerate() {
        families
            .extend(ip(item.str("ip"), &format!("{path}[{idx}]"), causes).map(|ip| ip.is_ipv4()));
    }
    if items.len() > 1
        && families.len() == items.len()
        && (items.len() > 2 || families[0] == families[1])
    {
        let value = items.to_vec().into();
        causes.invalid(path, &value, "may specify no more than one IP for each IP family");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_upstream_reads_them() {
        for (text, wanted) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("010.000.00.001", Some("10.0.0.1")),
            ("127.000.000.001", Some("127.0.0.1")),
            ("::ffff:127.0.0.1", Some("127.0.0.1")),
            ("fd00::1", Some("fd00::1")),
            ("10.0.0.256", None),
            ("10.0.0", None),
            ("10.0.0.1.2", None),
            ("+1.2.3.4", None),
            ("10.0..1", None),
            ("fe80::1%eth0", None),
            ("", None),
        ] {
            let wanted = wanted.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn special_addresses_are_refused_however_they_are_written() {
        for (text, word) in [
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
            ("::ffff:0.0.0.0", "unspecified"),
            ("127.0.0.1", "loopback"),
            ("127.255.1.2", "loopback"),
            ("127.000.000.001", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:7f00:1", "loopback"),
            ("169.254.169.254", "link-local range"),
            ("::ffff:169.254.169.254", "link-local range"),
            ("fe80::1", "link-local range"),
            ("febf::1", "link-local range"),
            ("224.0.0.251", "link-local multicast"),
            ("ff02::fb", "link-local multicast"),
            ("ff12::fb", "link-local multicast"),
            ("localhost", "valid IP address"),
        ] {
            let mut causes = Vec::new();
            ordinary_ip(text, "p", &mut causes);
            assert_eq!(causes.len(), 1, "{text}: {causes:?}");
            assert!(causes[0].message.contains(word), "{text}: {causes:?}");
        }
        for text in
            ["10.0.0.1", "192.0.2.1", "fd00::1", "2001:db8::1", "255.255.255.255", "239.0.0.1"]
        {
            let mut causes = Vec::new();
            ordinary_ip(text, "p", &mut causes);
            assert!(causes.is_empty(), "{text}: {causes:?}");
        }
    }
}
