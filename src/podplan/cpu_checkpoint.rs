//! The CPU manager's `cpu_manager_state`, as upstream's kubelet writes it, with its checksum.

use api::{Lens, Value};
use stdx::OrdMap;

use crate::cpu_policy::CpuState;
use crate::cpuset::CpuSet;

/// Pods that there may be in a file, and containers of each.
const PODS_MAX: usize = 4096;
const CONTAINERS_MAX: usize = 512;

const POLICY: &str = "static";

/// The text of the file.
pub fn cpu_checkpoint(state: &CpuState) -> String {
    let quote = |text: &str| Value::from(text).to_string();
    let pods: Vec<String> = state
        .exclusive
        .iter()
        .map(|(uid, containers)| {
            let pair = |(name, cpus): (&String, &CpuSet)| format!("{}:\"{cpus}\"", quote(name));
            let containers: Vec<String> = containers.iter().map(pair).collect();
            format!("{}:{{{}}}", quote(uid), containers.join(","))
        })
        .collect();
    let entries = match pods.is_empty() {
        true => String::new(),
        false => format!("\"entries\":{{{}}},", pods.join(",")),
    };
    format!(
        "{{\"policyName\":\"{POLICY}\",\"defaultCpuSet\":\"{}\",{entries}\"checksum\":{}}}",
        state.shared,
        checksum(POLICY, &state.shared.to_string(), &texts(state))
    )
}

/// What a file says; `policy` is the one that is configured.
///
/// # Errors
/// If it is damaged, or another policy's; of policy `none` nothing is told.
pub fn read_cpu_checkpoint(text: &str, policy: &str) -> Result<CpuState, String> {
    let tree: Value = text.parse().map_err(|error| format!("{error}"))?;
    let mut entries: OrdMap<String, OrdMap<String, String>> = OrdMap::new();
    for (uid, containers) in tree.at("entries").as_object().into_iter().flatten() {
        let mut of_pod = OrdMap::new();
        for (name, cpus) in containers.as_object().into_iter().flatten() {
            of_pod.insert(name.clone(), cpus.as_str().unwrap_or("-").to_owned());
        }
        if entries.len() >= PODS_MAX || of_pod.len() > CONTAINERS_MAX {
            return Err("there are too many entries".into());
        }
        entries.insert(uid.clone(), of_pod);
    }
    let (has, shared) = (tree.str("policyName"), tree.str("defaultCpuSet"));
    // Without a checksum a file counts, as upstream.
    let sum = tree.at("checksum").as_u64().unwrap_or(0);
    if sum != 0 && sum != u64::from(checksum(has, shared, &entries)) {
        return Err("checkpoint is corrupted".into());
    }
    if has != policy {
        return Err(format!(
            "configured policy {policy:?} differs from state checkpoint policy {has:?}"
        ));
    }
    let parse = |what: String, text: &str| CpuSet::parse(text).ok_or(what);
    let mut exclusive = OrdMap::new();
    for (uid, containers) in &entries {
        let mut of_pod = OrdMap::new();
        for (name, text) in containers {
            let what =
                format!("could not parse cpuset {text:?} for container {name:?} in pod {uid:?}");
            of_pod.insert(name.clone(), parse(what, text)?);
        }
        exclusive.insert(uid.clone(), of_pod);
    }
    let shared = parse(format!("could not parse default cpu set {shared:?}"), shared)?;
    Ok(CpuState { shared, exclusive })
}

fn texts(state: &CpuState) -> OrdMap<String, OrdMap<String, String>> {
    let of_pod = |containers: &OrdMap<String, CpuSet>| {
        containers.iter().map(|(name, cpus)| (name.clone(), cpus.to_string())).collect()
    };
    state.exclusive.iter().map(|(uid, containers)| (uid.clone(), of_pod(containers))).collect()
}

/// FNV-1a of the record as Go's spew prints it, whose type is upstream's.
fn checksum(policy: &str, shared: &str, entries: &OrdMap<String, OrdMap<String, String>>) -> u32 {
    let of_pod = |(uid, containers): (&String, &OrdMap<String, String>)| {
        let pairs: Vec<String> =
            containers.iter().map(|(name, cpus)| format!("{name}:{cpus}")).collect();
        format!("{uid}:map[{}]", pairs.join(" "))
    };
    let pods: Vec<String> = entries.iter().map(of_pod).collect();
    let printed = format!(
        "(*state.CPUManagerCheckpoint){{PolicyName:(string){policy} DefaultCPUSet:(string){shared} Entries:(map[string]map[string]string)map[{}] Checksum:(checksum.Checksum)0}}",
        pods.join(" ")
    );
    let step = |sum: u32, byte: u8| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    printed.bytes().fold(0x811c_9dc5, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the checksum that upstream's code makes of it.
    const FILE: &str = r#"{"policyName":"static","defaultCpuSet":"0,3-4","entries":{"u1":{"a":"5-6"},"u2":{"b":"2","c":"1"}},"checksum":3249083114}"#;

    #[test]
    fn files_are_upstreams() {
        let read = read_cpu_checkpoint(FILE, "static").unwrap();
        assert_eq!(read.of("u2", "b").to_string(), "2");
        assert_eq!(cpu_checkpoint(&read), FILE);
        let none = r#"{"policyName":"none","defaultCpuSet":"","checksum":1353318690}"#;
        assert_eq!(read_cpu_checkpoint(none, "none"), Ok(CpuState::default()));
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        for (from, to, want) in [
            ("\"5-6\"", "\"5-7\"", "checkpoint is corrupted"),
            ("3249083114", "0", ""),
            ("static", "none", "checkpoint is corrupted"),
            ("{\"b\":\"2\"", "{\"b\":2", "checkpoint is corrupted"),
        ] {
            let read = read_cpu_checkpoint(&FILE.replace(from, to), "static");
            assert_eq!(read.err().unwrap_or_default(), want, "{to}");
        }
        let bare = FILE.replace("3249083114", "0");
        for (file, want) in [
            (
                bare.replace("static", "none"),
                "configured policy \"static\" differs from state checkpoint policy \"none\"",
            ),
            (
                bare.replace("5-6", "6-5"),
                "could not parse cpuset \"6-5\" for container \"a\" in pod \"u1\"",
            ),
            (bare.replace("0,3-4", "x"), "could not parse default cpu set \"x\""),
        ] {
            assert_eq!(read_cpu_checkpoint(&file, "static").unwrap_err(), want);
        }
        assert!(read_cpu_checkpoint("{", "static").is_err());
    }
}
