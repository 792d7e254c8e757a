//! What a CNI plugin answers: a result, whose addresses a pod shows, or an error.

use std::net::IpAddr;

use api::Lens;
use serde_json::Value;
use stdx::{Context, Error, Result};

/// Addresses of a result that are looked at, of which a pod shows one of each family.
const ADDRESSES_MAX: usize = 64;
/// Of a text that a plugin says to people.
const TEXT_MAX_CHARS: usize = 1024;

/// Reads a result. Plugins may answer nothing where they have nothing to say.
///
/// # Errors
/// If it is no object.
pub(crate) fn read(output: &[u8]) -> Result<Option<Value>> {
    if output.trim_ascii().is_empty() {
        return Ok(None);
    }
    let tree: Value = serde_json::from_slice(output).context(|| "read its answer as JSON")?;
    match tree.is_object() {
        true => Ok(Some(tree)),
        false => Err(Error::new("its answer is no JSON object")),
    }
}

/// The addresses of the pod's `interface` in a result: the first of each family, that of IPv6 first if asked for.
///
/// # Errors
/// If there is none, or one that no pod can have.
pub(crate) fn addresses(result: &Value, interface: &str, ipv6_first: bool) -> Result<Vec<IpAddr>> {
    let mut found: [Option<IpAddr>; 2] = [None, None];
    for text in texts(result, interface) {
        let address: IpAddr = text
            .split_once('/')
            .map_or(text, |(address, _)| address)
            .parse()
            .context(|| format!("read {text:?} as an address"))?;
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return Err(Error::new(format!("{address} is no address of a pod")));
        }
        let place = &mut found[usize::from(address.is_ipv6() != ipv6_first)];
        *place = place.or(Some(address));
    }
    let found: Vec<IpAddr> = found.into_iter().flatten().collect();
    match found.is_empty() {
        true => Err(Error::new(format!("the result has no address of {interface}"))),
        false => Ok(found),
    }
}

fn texts<'a>(result: &'a Value, interface: &str) -> Vec<&'a str> {
    // Before 0.3.0 there was one address of each family.
    let old = ["ip4.ip", "ip6.ip"].into_iter().map(|path| result.str(path));
    let of_pod = |ip: &&Value| {
        let Some(idx) = ip.int("interface").and_then(|idx| usize::try_from(idx).ok()) else {
            return true;
        };
        let found = result.list("interfaces").get(idx);
        found.is_some_and(|link| link.str("name") == interface && !link.str("sandbox").is_empty())
    };
    let new = result.list("ips").iter().filter(of_pod).map(|ip| ip.str("address"));
    old.filter(|text| !text.is_empty()).chain(new).take(ADDRESSES_MAX).collect()
}

/// What a plugin that failed says, as libcni shows it.
pub(crate) fn failure(output: &[u8], errors: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(output).unwrap_or_default();
    let short = |text: &str| -> String {
        let shown = text.chars().take(TEXT_MAX_CHARS);
        shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
    };
    match (said.str("msg"), said.str("details")) {
        ("", "") => {
            let errors = String::from_utf8_lossy(errors);
            format!("netplugin failed with no error message: {:?}", short(errors.trim()))
        }
        (message, "") => short(message),
        (message, details) => format!("{}; {}", short(message), short(details)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_versions() {
        let check = |text: &str, ipv6_first: bool, expected: &str| {
            let tree = read(text.as_bytes()).unwrap().unwrap();
            let shown = match addresses(&tree, "eth0", ipv6_first) {
                Ok(found) => format!("{found:?}"),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected, "{text}");
        };
        let both = r#"{"interfaces":[{"name":"cni0"},{"name":"eth0","sandbox":"/n"}],"ips":[
            {"interface":0,"address":"10.9.0.1/24"},{"interface":1,"address":"10.9.0.2/24"},
            {"interface":1,"address":"10.9.0.3/24"},{"interface":1,"address":"fd00::2/64"},
            {"interface":9,"address":"10.9.0.4/24"},{"interface":-1,"address":"10.9.0.5/24"}]}"#;
        check(both, false, "[10.9.0.2, fd00::2]");
        check(both, true, "[fd00::2, 10.9.0.2]");
        check(
            r#"{"ip4":{"ip":"10.1.2.3/8"},"ip6":{"ip":"fd00::9/64"}}"#,
            false,
            "[10.1.2.3, fd00::9]",
        );
        check(r#"{"ips":[{"address":"10.1.2.3/8"}]}"#, false, "[10.1.2.3]");
        check(r#"{"ips":[{"address":"127.0.0.1/8"}]}"#, false, "127.0.0.1 is no address of a pod");
        check(r#"{"ips":"x"}"#, false, "the result has no address of eth0");
        check(r#"{}"#, false, "the result has no address of eth0");
        let error = addresses(&serde_json::json!({"ips": [{"address": "x"}]}), "eth0", false);
        assert!(error.unwrap_err().to_string().starts_with("read \"x\" as an address"));
        assert_eq!(read(b" \n").unwrap(), None);
        assert_eq!(read(b"7").unwrap_err().to_string(), "its answer is no JSON object");
    }

    #[test]
    fn failures() {
        let check = |output: &str, errors: &str, expected: &str| {
            assert_eq!(failure(output.as_bytes(), errors.as_bytes()), expected);
        };
        check(r#"{"code":7,"msg":"no","details":"be\ncause"}"#, "", "no; be cause");
        check(r#"{"code":7,"msg":"no"}"#, "x", "no");
        check("", "panic: \"x\"\n", r#"netplugin failed with no error message: "panic: \"x\"""#);
        assert_eq!(
            failure(format!("{{\"msg\":\"{}\"}}", "é".repeat(5000)).as_bytes(), b"").len(),
            2048
        );
    }
}
