//! `k3rs check-config`: what this machine has of what k3rs needs, in the form of k3s's script of that name.
//!
//! The configuration of the kernel says what it was built with, `sys::lacks` what it does; both are told. What only k3s needs
//! (iptables' modules) is looked at too, and is no failure.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::settings::config::Config;
use crate::settings::flags::On;

const USAGE: &str = "USAGE: k3rs check-config [KERNEL-CONFIG]\n\n\
    Looks at this machine and its kernel's configuration ($CONFIG, /proc/config.gz, /boot/config-RELEASE, ...).\n\
    The exit code is the number of failures. NO_COLOR=1 leaves the colours out.\n";

/// More than any kernel's configuration.
const CONFIG_MAX_BYTES: u64 = 4 << 20;

/// Without these no pod starts, or services do not work.
const NEEDED: &str = "NAMESPACES NET_NS PID_NS IPC_NS UTS_NS CGROUPS CGROUP_PIDS CGROUP_SCHED MEMCG SECCOMP \
    SECCOMP_FILTER KEYS VETH BRIDGE OVERLAY_FS NF_TABLES NF_TABLES_INET NF_CONNTRACK NF_NAT NFT_CT NFT_NAT NFT_MASQ \
    NFT_REJECT NFT_FIB_INET NFT_NUMGEN";
/// Of cgroups of version 2, and of version 1.
const NEEDED_V2: &str = "BPF_SYSCALL CGROUP_BPF";
const NEEDED_V1: &str = "CGROUP_CPUACCT CGROUP_DEVICE CGROUP_FREEZER";
const OPTIONAL: &str = "USER_NS CPUSETS NF_TABLES_NETDEV BRIDGE_NETFILTER POSIX_MQUEUE BLK_CGROUP BLK_DEV_THROTTLING \
    CGROUP_PERF CGROUP_HUGETLB NET_CLS_CGROUP CGROUP_NET_PRIO CFS_BANDWIDTH FAIR_GROUP_SCHED RT_GROUP_SCHED EXT4_FS \
    EXT4_FS_POSIX_ACL EXT4_FS_SECURITY";
const OF_K3S: &str = "IP_NF_FILTER IP_NF_TARGET_MASQUERADE IP_NF_TARGET_REJECT NETFILTER_XT_MATCH_ADDRTYPE \
    NETFILTER_XT_MATCH_CONNTRACK NETFILTER_XT_MATCH_IPVS NETFILTER_XT_MATCH_COMMENT NETFILTER_XT_MATCH_MULTIPORT \
    NETFILTER_XT_MATCH_STATISTIC IP_NF_NAT IP_NF_TARGET_REDIRECT IP_SET IP_VS IP_VS_NFCT IP_VS_PROTO_TCP \
    IP_VS_PROTO_UDP IP_VS_RR";

/// What turns memory limits on where the kernel has them switched off.
const MEMORY_WORDS: &str = "cgroup_memory=1 cgroup_enable=memory";

/// Where boot loaders keep the kernel's command line; the first that is there is meant.
const BOOT_FILES: &[&str] = &[
    "/boot/firmware/cmdline.txt",
    "/boot/cmdline.txt",
    "/boot/armbianEnv.txt",
    "/boot/uEnv.txt",
    "/boot/extlinux/extlinux.conf",
    "/etc/update-extlinux.conf",
    "/etc/default/grub",
    "/etc/kernel/cmdline",
];

/// What is printed, and how much of it failed.
struct Report {
    text: String,
    colours: bool,
    failures: usize,
}

impl Report {
    fn colour(&mut self, code: &str, text: &str) {
        match self.colours {
            true => self.text += &["\x1b[", code, "m", text, "\x1b[m"].concat(),
            false => self.text += text,
        }
    }

    fn item(&mut self, (label, label_colour): (&str, &str), (said, colour): (&str, &str)) {
        self.colour(label_colour, label);
        self.text += ": ";
        self.colour(colour, said);
        self.text += "\n";
    }

    fn good(&mut self, label: &str, said: &str) {
        self.item((label, "37"), (said, "32"));
    }

    fn bad(&mut self, label: &str, said: &str) {
        self.failures += 1;
        self.item((label, "1"), (&[said, " (fail)"].concat(), "1;31"));
    }

    fn warn(&mut self, label: &str, said: &str) {
        self.item((label, "1"), (said, "1;33"));
    }

    fn line(&mut self, text: &str) {
        self.text += text;
        self.text += "\n";
    }

    fn flags(&mut self, config: &str, names: &str, indent: &str, must: bool) {
        for name in names.split_whitespace() {
            let label = [indent, "- CONFIG_", name].concat();
            match (option(config, name), must) {
                (Some('y'), _) => self.good(&label, "enabled"),
                (Some(_), _) => self.good(&label, "enabled (as module)"),
                (None, true) => self.bad(&label, "missing"),
                (None, false) => self.warn(&label, "missing"),
            }
        }
    }
}

pub(crate) fn command(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        crate::print(USAGE);
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(On::Either, &[], |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return crate::fail(&error.to_string()),
    };
    let is_set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let mut report =
        Report { text: "\n".into(), colours: is_set("NO_COLOR").is_none(), failures: 0 };
    binaries(&mut report, &cluster::Paths::new(&config.data_dir).data());
    system(&mut report);
    kernel(&mut report);
    let given = args.first().map(PathBuf::from).or(is_set("CONFIG").map(PathBuf::from));
    let found = given.clone().or_else(|| places().into_iter().find(|path| path.exists()));
    let Some((path, text)) = found.and_then(|path| read_config(&path).map(|text| (path, text)))
    else {
        let given = given.map(|path| path.display().to_string()).unwrap_or_default();
        crate::print(&report.text);
        let said = format!(
            "cannot find kernel config {given}\n  try again with CONFIG=/path/to/kernel/.config or the argument /path/to/kernel/.config"
        );
        return crate::fail(&said);
    };
    let reading = format!("info: reading kernel config from {} ...", path.display());
    report.text += "\n";
    report.colour("36", &reading);
    report.text += "\n\n";
    options(&mut report, &text);
    report.text += "\n";
    match report.failures {
        0 => report.good("STATUS", "pass"),
        n => report.item(("STATUS", "1"), (&format!("{n} (fail)"), "1;31")),
    }
    crate::print(&report.text);
    ExitCode::from(u8::try_from(report.failures).unwrap_or(u8::MAX))
}

fn places() -> Vec<PathBuf> {
    let release = rt::fs::read_small_text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let flavour = release.rsplit('-').next().unwrap_or("");
    vec![
        "/proc/config.gz".into(),
        format!("/boot/config-{release}").into(),
        format!("/boot/config-{flavour}").into(),
        format!("/lib/modules/{release}/config").into(),
        format!("/usr/src/linux-{release}/.config").into(),
        "/usr/src/linux/.config".into(),
    ]
}

/// The text of a kernel's configuration, compressed or not.
fn read_config(path: &Path) -> Option<String> {
    let file = rt::fs::open(path).ok()?;
    let mut bytes = Vec::new();
    let reader = wire::decompress::Decompressor::new(file).ok()?;
    reader.take(CONFIG_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether an option is built in (`y`), a module (`m`), or neither.
fn option(config: &str, name: &str) -> Option<char> {
    let value = config
        .lines()
        .find_map(|line| line.strip_prefix("CONFIG_")?.strip_prefix(name)?.strip_prefix('='))?;
    value.chars().next().filter(|letter| matches!(letter, 'y' | 'm'))
}

fn binaries(report: &mut Report, data: &Path) {
    let bin = data.join("current/bin");
    report.line(&format!("Verifying binaries in {}:", bin.display()));
    let Ok(names) = rt::fs::list_dir(&bin) else { return };
    if names.is_empty() {
        report.warn("- links", "not made yet: k3rs server or k3rs agent makes them");
        return;
    }
    let broken: Vec<_> = names.iter().filter(|path| !path.exists()).collect();
    match broken.is_empty() {
        true => report.good("- links", "good"),
        false => broken.iter().for_each(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            report.bad(&format!("- {name}"), "leads nowhere");
        }),
    }
}

fn system(report: &mut Report) {
    report.line("\nSystem:");
    report.good("- iptables", "not needed (nf_tables is used)");
    let swaps = rt::fs::read_small_text("/proc/swaps").unwrap_or_default();
    match swaps.lines().count() > 1 {
        true => report.warn("- swap", "should be disabled"),
        false => report.good("- swap", "disabled"),
    }
    let routes = rt::fs::read_small_text("/proc/net/route").unwrap_or_default();
    match has_default_ranges(&routes) {
        true => {
            report.warn("- routes", "default CIDRs 10.42.0.0/16 or 10.43.0.0/16 already routed")
        }
        false => report.good("- routes", "ok"),
    }
    let ufw = rt::fs::read_text("/etc/ufw/ufw.conf").unwrap_or_default();
    let ufw = ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes"));
    let walls = [("firewalld", Path::new("/run/firewalld").exists()), ("ufw", ufw)];
    for (name, _) in walls.iter().filter(|(_, is_on)| *is_on) {
        report.line("\nFirewall:");
        report.warn(&["- ", name].concat(), "is enabled");
        report.line(
            "  - other nodes need TCP 6443 (2379 and 2380 between servers with an embedded etcd) and UDP 8472, pods all",
        );
    }
    report.line("\nLimits:");
    const KEYS: &str = "/proc/sys/kernel/keys/root_maxkeys";
    let text = rt::fs::read_small_text(KEYS).unwrap_or_default();
    match text.trim().parse::<u64>() {
        Ok(keys) if keys > 10_000 => report.good(&["- ", KEYS].concat(), text.trim()),
        Ok(_) => {
            report.bad(&["- ", KEYS].concat(), text.trim());
            report.line("    This should be set to at least 10000, for example set: sysctl -w kernel/keys/root_maxkeys=1000000");
        }
        Err(_) => report.warn(&["- ", KEYS].concat(), "unknown"),
    }
}

/// Whether a route of another interface than the pods' leads to k3s's default ranges: `/proc/net/route`, whose addresses are
/// in the order of bytes of the network, read by a machine that counts from the other end.
fn has_default_ranges(routes: &str) -> bool {
    routes.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace();
        let (interface, to) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let bytes = u32::from_str_radix(to, 16).unwrap_or(0).to_le_bytes();
        interface != "cni0"
            && !interface.starts_with("flannel")
            && matches!(bytes, [10, 42 | 43, ..])
    })
}

/// What the running kernel does, whatever its configuration says.
fn kernel(report: &mut Report) {
    report.line("\nKernel:");
    let (major, minor) = sys::lacks::version();
    let version = format!("- Linux {major}.{minor}");
    match (major, minor) >= sys::lacks::VERSION_MIN {
        true => report.good(&version, "ok"),
        false => report.bad(&version, "5.4 or later is needed"),
    }
    let lacks = sys::lacks::find();
    if lacks.is_empty() {
        report.good("- what k3rs uses of it", "all there");
    }
    for lack in lacks {
        let label = ["- ", &lack.what].concat();
        match lack.fatal {
            true => report.bad(&label, lack.effect),
            false => report.warn(&label, lack.effect),
        }
    }
}

fn options(report: &mut Report, config: &str) {
    report.line("Generally Necessary:");
    let is_v2 = cgroups(report);
    let apparmor = rt::fs::read_small_text("/sys/module/apparmor/parameters/enabled");
    if apparmor.is_ok_and(|text| text.starts_with('Y')) {
        report.good("- apparmor", "enabled");
    }
    report.flags(config, NEEDED, "", true);
    report.flags(config, if is_v2 { NEEDED_V2 } else { NEEDED_V1 }, "", true);
    report.line("\nOptional Features:");
    report.flags(config, OPTIONAL, "", false);
    report.line("- Network Drivers:\n  - \"overlay\":");
    report.flags(config, "VXLAN", "    ", false);
    report.line("- For programs that use iptables (k3s does, k3rs does not):");
    report.flags(config, OF_K3S, "  ", false);
}

/// Looks at the control groups; whether they are of version 2.
fn cgroups(report: &mut Report) -> bool {
    const LABEL: &str = "- cgroup hierarchy";
    let Ok(hierarchies) = sys::cgroup::Hierarchies::detect() else {
        report.bad(LABEL, "cgroups Nonexistent");
        return true;
    };
    let is_v2 = hierarchies.is_v2();
    let (variant, wanted) = match is_v2 {
        true => ("V2", "cpu|cpuset|memory"),
        false if Path::new("/sys/fs/cgroup/unified").exists() => ("Hybrid", "cpuset|memory"),
        false => ("V1", "cpuset|memory"),
    };
    let have = hierarchies.controllers();
    let lacks = |name: &str| !have.iter().any(|controller| controller == name);
    let status = if wanted.split('|').any(lacks) { "bad" } else { "good" };
    let said = format!("cgroups {variant} mounted, {wanted} controllers status: {status}");
    match status {
        "good" => report.good(LABEL, &said),
        _ => report.bad(LABEL, &said),
    }
    if lacks("memory") {
        let found = BOOT_FILES.iter().find_map(|path| {
            let text = rt::fs::read_text(path).ok()?;
            Some(boot_line(path, &text))
        });
        report
            .line(&found.unwrap_or_else(|| {
                format!("    add to the kernel's command line: {MEMORY_WORDS}")
            }));
    }
    is_v2
}

/// The line of a boot loader's file as it has to be, with what the loader needs to take it.
fn boot_line(path: &str, text: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    // How the line begins, how it ends, and what is done then.
    let (start, end, then) = match name {
        "grub" => ("GRUB_CMDLINE_LINUX=\"", "\"", "then run update-grub, "),
        "armbianEnv.txt" => ("extraargs=", "", ""),
        "uEnv.txt" => ("optargs=", "", ""),
        "extlinux.conf" => ("append ", "", ""),
        "update-extlinux.conf" => ("default_kernel_opts=\"", "\"", "then run update-extlinux, "),
        _ => ("", "", ""),
    };
    let found = text.lines().find(|line| {
        let line = line.trim_start();
        !line.is_empty()
            && line.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
    });
    let (line, verb) = match found {
        Some(line) => {
            let line = line.trim_end();
            let kept = line.strip_suffix(end).unwrap_or(line);
            let space = if kept.ends_with(['"', '=', ' ']) { "" } else { " " };
            ([kept, space, MEMORY_WORDS, end].concat(), "the line has to be")
        }
        None => ([start, MEMORY_WORDS, end].concat(), "add the line"),
    };
    format!("    in {path} {verb}:\n{line}\n    {then}then restart the machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_by_their_whole_name() {
        let config = "# CONFIG_A is not set\nCONFIG_NET_NS=y\nCONFIG_NET=m\nCONFIG_STR=\"y\"\n";
        assert_eq!(option(config, "NET_NS"), Some('y'));
        assert_eq!(option(config, "NET"), Some('m'));
        assert_eq!((option(config, "A"), option(config, "STR")), (None, None));
        assert_eq!(option(config, "NET_N"), None);
    }

    #[test]
    fn failures_are_counted_and_colours_can_be_left_out() {
        let mut report = Report { text: String::new(), colours: false, failures: 0 };
        report.flags("CONFIG_A=y\nCONFIG_B=m\n", "A B C", "", true);
        report.flags("", "D", "  ", false);
        let want = "- CONFIG_A: enabled\n- CONFIG_B: enabled (as module)\n- CONFIG_C: missing (fail)\n  - CONFIG_D: missing\n";
        assert_eq!((report.text.as_str(), report.failures), (want, 1));
    }

    #[test]
    fn routes_to_the_default_ranges_are_seen() {
        let head = "Iface Destination Gateway\n";
        assert!(has_default_ranges(&[head, "eth0 00002A0A 00000000\n"].concat()));
        assert!(has_default_ranges(&[head, "eth0 0000000A 0\neth1 00002B0A 0\n"].concat()));
        assert!(!has_default_ranges(&[head, "cni0 00002A0A 0\neth0 00000000 0\n"].concat()));
    }

    #[test]
    fn the_line_for_the_boot_loader_is_whole() {
        let said = boot_line("/boot/cmdline.txt", "console=tty1 root=/dev/sda1 rootwait\n");
        let line = "console=tty1 root=/dev/sda1 rootwait cgroup_memory=1 cgroup_enable=memory";
        assert!(said.lines().any(|it| it == line), "{said}");
        let grub =
            "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n";
        let said = boot_line("/etc/default/grub", grub);
        let line = "GRUB_CMDLINE_LINUX=\"cgroup_memory=1 cgroup_enable=memory\"";
        assert!(said.lines().any(|it| it == line) && said.contains("update-grub"), "{said}");
        let said = boot_line("/boot/armbianEnv.txt", "verbosity=1\n");
        assert!(said.contains("add the line:\nextraargs=cgroup_memory=1"), "{said}");
        let said = boot_line("/boot/extlinux/extlinux.conf", "LABEL x\n  APPEND root=/dev/a\n");
        assert!(said.contains("\n  APPEND root=/dev/a cgroup_memory=1"), "{said}");
    }
}
