//! Feature gates: upstream's names and defaults of v1.32. k3rs has what is on by default and lacks what is not.

use super::known::{self, Takes};

/// The gates that are wanted otherwise than they are here, as `name=value`.
///
/// # Errors
/// In upstream's words, for gates that it does not know, would not change, and values that are none.
pub(crate) fn idle(wanted: &str) -> Result<Vec<String>, String> {
    let mut idle: Vec<String> = Vec::new();
    for pair in wanted.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        // A gate may be said to be Kubernetes' own.
        let pair = pair.strip_prefix("kube:").unwrap_or(pair);
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => return Err(format!("missing bool value for {pair}")),
        };
        let on = super::bool_of(value).ok_or_else(|| {
            format!("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")
        })?;
        let (is_on, locked) = match known::find(known::GATES, name) {
            Some(Takes::GateOn) => (true, false),
            Some(Takes::GateOff) => (false, false),
            Some(Takes::GateLockedOn) => (true, true),
            Some(Takes::GateLockedOff) => (false, true),
            _ => return Err(format!("unrecognized feature gate: {name}")),
        };
        if locked && on != is_on {
            return Err(format!(
                "cannot set feature gate {name} to {on}, feature is locked to {is_on}"
            ));
        }
        idle.retain(|other| other.split('=').next() != Some(name));
        if on != is_on {
            idle.push(format!("{name}={on}"));
        }
    }
    Ok(idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_upstreams() {
        for (wanted, answer) in [
            ("WatchList=true,kube:NodeSwap=true", Ok("")),
            ("WatchList=false, ImageVolume=true", Ok("WatchList=false ImageVolume=true")),
            ("ImageVolume=true,ImageVolume=false", Ok("")),
            ("X=true", Err("unrecognized feature gate: X")),
            ("WatchList", Err("missing bool value for WatchList")),
            (
                "WatchList=on",
                Err(
                    "invalid value of WatchList=on, err: strconv.ParseBool: parsing \"on\": invalid syntax",
                ),
            ),
            (
                "DevicePluginCDIDevices=false",
                Err(
                    "cannot set feature gate DevicePluginCDIDevices to false, feature is locked to true",
                ),
            ),
        ] {
            let found = idle(wanted).map(|idle| idle.join(" "));
            assert_eq!(found.as_deref().map_err(String::as_str), answer, "{wanted}");
        }
    }
}
