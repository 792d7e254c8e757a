//! Seccomp profiles to filters: the default profile, and profiles in the JSON of OCI and Docker.

mod filter;
mod table;

use serde::Deserialize;
use stdx::{Context, Error, OrdMap, Result};

use crate::capabilities;
use filter::{Action, Condition, Operator, Rules};

/// Names that cannot be made in containers without these capabilities.
const GATED: [(&str, &str); 14] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr \
         move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount \
         umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The filter of the profile `RuntimeDefault`, for a container with these capabilities.
pub(crate) fn default_program(capabilities: u64) -> Vec<u8> {
    let has = |name: &str| {
        capabilities::number(name).is_some_and(|number| capabilities >> number & 1 == 1)
    };
    let mut rules = Rules::new(Action::Errno(EPERM));
    // A call that is newer than this table: programs must see "not there", and fall back.
    rules.unknown = Action::Errno(ENOSYS);
    for row in table::TABLE.lines().filter(|row| row.ends_with(" +")) {
        rules.add(row.split(' ').next().unwrap_or(""), Action::Allow, Vec::new());
    }
    for (capability, names) in GATED {
        if has(capability) {
            names.split_whitespace().for_each(|name| rules.add(name, Action::Allow, Vec::new()));
        }
    }
    if !has("SYS_ADMIN") {
        // Threads and processes, but no namespaces. clone3 hides its flags behind a pointer.
        const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
        let no_namespace = Condition {
            index: 0,
            operator: Operator::MaskedEqual,
            value: NAMESPACE_FLAGS,
            second: 0,
        };
        rules.add("clone", Action::Allow, vec![no_namespace]);
        rules.add("clone3", Action::Errno(ENOSYS), Vec::new());
    }
    for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        let same = Condition { index: 0, operator: Operator::Equal, value: persona, second: 0 };
        rules.add("personality", Action::Allow, vec![same]);
    }
    // Sockets to the hypervisor reach past the network namespace.
    const AF_VSOCK: u64 = 40;
    let not_vsock =
        Condition { index: 0, operator: Operator::NotEqual, value: AF_VSOCK, second: 0 };
    rules.add("socket", Action::Allow, vec![not_vsock]);
    // The table's own profile always fits.
    rules.compile().unwrap_or_default()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    syscalls: Vec<ProfileRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProfileRule {
    names: Vec<String>,
    /// Docker's old form.
    name: String,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<ProfileArgument>>,
    includes: ProfileFilter,
    excludes: ProfileFilter,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProfileArgument {
    index: u32,
    value: u64,
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProfileFilter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: String,
}

impl ProfileFilter {
    /// Whether it applies at all, and if so whether all it names is so.
    fn holds(&self, capabilities: u64) -> Option<bool> {
        if self.caps.is_empty() && self.arches.is_empty() {
            return None;
        }
        let has = |name: &String| {
            capabilities::number(name).is_some_and(|number| capabilities >> number & 1 == 1)
        };
        let own = |name: &String| filter::ARCHITECTURE_NAMES.contains(&name.as_str());
        Some(self.caps.iter().all(has) && (self.arches.is_empty() || self.arches.iter().any(own)))
    }
}

/// Compiles a profile's JSON for a container with these capabilities.
pub(crate) fn compile(text: &str, capabilities: u64) -> Result<Vec<u8>> {
    const PROFILE_MAX_BYTES: usize = 1 << 20;
    if text.len() > PROFILE_MAX_BYTES {
        return Err(Error::new(format!("{} bytes, allowed are {PROFILE_MAX_BYTES}", text.len())));
    }
    let profile: Profile = serde_json::from_str(text).context(|| "decode the JSON")?;
    let default =
        action(&profile.default_action, profile.default_errno_ret).context(|| "default action")?;
    let mut rules = Rules::new(default);
    for rule in &profile.syscalls {
        let included = rule.includes.holds(capabilities).unwrap_or(true);
        let excluded = rule.excludes.holds(capabilities).unwrap_or(false);
        if !included || excluded {
            continue;
        }
        let names = rule.names.iter().chain(Some(&rule.name).filter(|name| !name.is_empty()));
        let action = action(&rule.action, rule.errno_ret)
            .context(|| format!("rule for {:?}", rule.names))?;
        let conditions = rule.args.iter().flatten().map(condition).collect::<Result<Vec<_>>>()?;
        for name in names {
            rules.add(name, action, conditions.clone());
        }
    }
    rules.compile()
}

fn action(name: &str, errno: Option<u32>) -> Result<Action> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(EPERM)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(0)),
        other => return Err(Error::new(format!("action {other:?} is not supported"))),
    })
}

fn condition(argument: &ProfileArgument) -> Result<Condition> {
    let operator = match argument.op.as_str() {
        "SCMP_CMP_EQ" => Operator::Equal,
        "SCMP_CMP_NE" => Operator::NotEqual,
        "SCMP_CMP_GT" => Operator::Greater,
        "SCMP_CMP_GE" => Operator::GreaterOrEqual,
        "SCMP_CMP_LT" => Operator::Less,
        "SCMP_CMP_LE" => Operator::LessOrEqual,
        "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual,
        other => return Err(Error::new(format!("comparison {other:?} is not known"))),
    };
    if argument.index > 5 {
        return Err(Error::new(format!("argument {}: there are six, from 0", argument.index)));
    }
    Ok(Condition {
        index: argument.index,
        operator,
        value: argument.value,
        second: argument.value_two,
    })
}

/// The numbers of all names for one architecture, by its column in the table.
fn numbers(column: usize) -> OrdMap<&'static str, u32> {
    let row = |row: &'static str| {
        let mut fields = row.split(' ');
        let name = fields.next()?;
        Some((name, fields.nth(column)?.parse().ok()?))
    };
    table::TABLE.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::filter::run;
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;

    fn check(program: &[u8], name: &str, arguments: [u64; 6], expected: u32) {
        let number = numbers(filter::NATIVE.1)[name];
        assert_eq!(
            run(program, filter::NATIVE.0, number, arguments),
            expected,
            "{name} {arguments:?}"
        );
    }

    #[test]
    fn the_default_profile() {
        let plain = default_program(0xa804_25fb);
        let none = [0; 6];
        for name in ["read", "execve", "futex", "openat", "mmap", "accept4", "setuid", "capset"] {
            check(&plain, name, none, ALLOW);
        }
        for name in
            ["mount", "unshare", "bpf", "keyctl", "kexec_load", "init_module", "io_uring_setup"]
        {
            check(&plain, name, none, 0x5_0001);
        }
        check(&plain, "chroot", none, ALLOW);
        check(&plain, "clone", [17, 0, 0, 0, 0, 0], ALLOW);
        check(&plain, "clone", [0x1000_0000, 0, 0, 0, 0, 0], 0x5_0001);
        check(&plain, "clone3", none, 0x5_0026);
        check(&plain, "socket", [2, 0, 0, 0, 0, 0], ALLOW);
        check(&plain, "socket", [40, 0, 0, 0, 0, 0], 0x5_0001);
        check(&plain, "personality", [8, 0, 0, 0, 0, 0], ALLOW);
        check(&plain, "personality", [9, 0, 0, 0, 0, 0], 0x5_0001);
        assert_eq!(run(&plain, filter::NATIVE.0, 500, none), 0x5_0026);
        let admin = default_program(capabilities::ALL);
        check(&admin, "mount", none, ALLOW);
        check(&admin, "clone3", none, ALLOW);
        assert!(plain.len() / 8 < 2000, "{} instructions", plain.len() / 8);
    }

    #[test]
    fn the_table_has_the_numbers_of_this_target() {
        let table = numbers(filter::NATIVE.1);
        for (name, number) in sys::seccomp::CALLS {
            assert_eq!(table.get(name).copied(), u32::try_from(*number).ok(), "{name}");
        }
    }

    /// What 32-bit programs on ARM cannot do without, natively and on a 64-bit kernel.
    #[test]
    fn calls_private_to_arm_are_allowed() {
        const ARM: usize = 2;
        let arm = numbers(ARM);
        for (name, number) in
            [("breakpoint", 0xf_0001), ("cacheflush", 0xf_0002), ("set_tls", 0xf_0005)]
        {
            assert_eq!(arm[name], number);
        }
        #[cfg(any(target_arch = "arm", target_arch = "aarch64"))]
        for (name, number) in [("set_tls", 0xf_0005), ("cacheflush", 0xf_0002), ("read", 3)] {
            const AUDIT_ARCH_ARM: u32 = 0x4000_0028;
            let plain = default_program(0xa804_25fb);
            assert_eq!(run(&plain, AUDIT_ARCH_ARM, number, [0; 6]), ALLOW, "{name}");
            assert_eq!(run(&plain, AUDIT_ARCH_ARM, arm["mount"], [0; 6]), 0x5_0001);
        }
    }

    #[test]
    fn profiles() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["mkdir","mkdirat","not_a_call"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
            {"names":["kill"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":1,"value":9,"op":"SCMP_CMP_EQ"},{"index":0,"value":4294967296,"op":"SCMP_CMP_GE"}]},
            {"names":["chroot"],"action":"SCMP_ACT_LOG","includes":{"caps":["CAP_SYS_CHROOT"]}},
            {"names":["dup"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":3,"op":"SCMP_CMP_LT"}]}]}"#;
        let program = compile(text, 1 << 18).unwrap();
        check(&program, "read", [0; 6], ALLOW);
        check(&program, "mkdirat", [0; 6], 0x5_000d);
        check(&program, "kill", [1 << 32, 9, 0, 0, 0, 0], 0x8000_0000);
        check(&program, "kill", [(1 << 32) - 1, 9, 0, 0, 0, 0], ALLOW);
        check(&program, "kill", [1 << 33, 15, 0, 0, 0, 0], ALLOW);
        check(&program, "chroot", [0; 6], 0x7ffc_0000);
        check(&program, "dup", [2, 0, 0, 0, 0, 0], 0x3_0000);
        check(&program, "dup", [3, 0, 0, 0, 0, 0], ALLOW);
        check(&program, "dup", [1 << 32, 0, 0, 0, 0, 0], ALLOW);
        check(&compile(text, 0).unwrap(), "chroot", [0; 6], ALLOW);
        for bad in ["", "{}", "[]", r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#] {
            assert!(compile(bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn damaged_profiles_are_errors_not_panics() {
        let text = br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["kill","read"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":9,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        let mut prng = stdx::prng::Prng::new(11);
        for _ in 0..2000 {
            let mut damaged = text.to_vec();
            for _ in 0..3 {
                let at = usize::try_from(prng.below(damaged.len() as u64)).unwrap();
                damaged[at] = prng.next_u64().to_le_bytes()[0];
            }
            if let Ok(text) = std::str::from_utf8(&damaged) {
                let _ = compile(text, 0);
            }
        }
    }
}
