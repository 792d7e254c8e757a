//! Capability names and the sets that containers get.

use stdx::{Context, Result};
use wire::shim::Capabilities;

/// By number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has unless it asks otherwise; the same as containerd's.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// All capabilities that the kernel and this process have.
pub(crate) const ALL: u64 = (1 << NAMES.len()) - 1;

/// The number of a name, with or without `CAP_`, any case.
pub(crate) fn number(name: &str) -> Option<usize> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare)
}

/// The set of a container. Dropping `ALL` happens before adding, adding `ALL` before dropping, as
/// Kubernetes' CRI runtimes do.
pub(crate) fn resolve(privileged: bool, add: &[String], drop: &[String]) -> Result<Capabilities> {
    let is_all =
        |name: &String| name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL");
    let bit = |name: &str| -> Result<u64> {
        number(name).map(|number| 1 << number).context(|| format!("unknown capability {name:?}"))
    };
    let mut set =
        DEFAULT.iter().try_fold(0, |set, name| Ok::<u64, stdx::Error>(set | bit(name)?))?;
    if privileged || add.iter().any(is_all) {
        set = ALL;
    }
    if !privileged && drop.iter().any(is_all) {
        set = 0;
    }
    for name in add.iter().filter(|name| !is_all(name)) {
        set |= bit(name)?;
    }
    if !privileged {
        for name in drop.iter().filter(|name| !is_all(name)) {
            set &= !bit(name)?;
        }
    }
    Ok(Capabilities { bounding: set, effective: set, permitted: set, inheritable: 0, ambient: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(privileged: bool, add: &[&str], drop: &[&str], expected: u64) {
        let own = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            resolve(privileged, &own(add), &own(drop)).unwrap().bounding,
            expected,
            "+{add:?} -{drop:?}"
        );
    }

    #[test]
    fn sets() {
        check(false, &[], &[], 0xa804_25fb);
        check(true, &[], &["ALL"], ALL);
        check(false, &["net_admin"], &["ALL"], 1 << 12);
        check(false, &["ALL"], &["CAP_SYS_ADMIN"], ALL & !(1 << 21));
        check(false, &[], &["NET_RAW"], 0xa804_25fb & !(1 << 13));
        assert!(resolve(false, &["NOPE".to_owned()], &[]).is_err());
    }
}
