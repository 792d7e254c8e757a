//! The firewall plugin: a container's traffic let through where the host's iptables drop what they do not know.
//!
//! It is about rules that are iptables', and a verdict of other tables does not overrule them: so, as upstream's does, it
//! calls the host's `iptables`, and says so where there is none.

use std::path::{Path, PathBuf};

use api::Lens;
use serde_json::Value;
use stdx::{Context, Error, Result};

use super::call::{Call, Command, Failure, Kind, refused};
use super::result;

const CHAIN: &str = "CNI-FORWARD";
const ADMIN_CHAIN: &str = "CNI-ADMIN";
const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";
/// Of what a command prints.
const OUTPUT_MAX_BYTES: usize = 64 << 10;

pub(super) fn run(call: &Call) -> Result<Option<Value>, Failure> {
    call.expect(&[
        ("backend", Kind::Text),
        ("iptablesAdminChainName", Kind::Text),
        ("ingressPolicy", Kind::Text),
    ])?;
    if let Some(other) =
        Some(call.conf.str("backend")).filter(|name| !["", "iptables"].contains(name))
    {
        return refused(format!(
            "the backend {other:?} is not supported by the firewall plugin of k3rs"
        ));
    }
    let policy = call.conf.str("ingressPolicy");
    if !["", "open", "same-bridge", "isolated"].contains(&policy) {
        return refused(format!("unknown ingress policy: {policy:?}"));
    }
    let before = result::before(call)?;
    match (call.command, before) {
        (Command::Add | Command::Check, None) => refused("missing prevResult from earlier plugin"),
        (Command::Add, Some(before)) => {
            add(call, &before)?;
            Ok(Some(before))
        }
        (Command::Check, Some(before)) => Ok(check(call, &before).map(|()| None)?),
        (Command::Del, before) => {
            for (program, rules) in programs(call, &before.unwrap_or_default())? {
                for rule in rules {
                    // What is gone already is fine.
                    program.run(&["-D", CHAIN], &rule)?;
                }
            }
            Ok(None)
        }
        (Command::Gc | Command::Status | Command::Version, _) => Ok(None),
    }
}

fn add(call: &Call, before: &Value) -> Result<()> {
    let admin = admin_chain(call);
    let programs = programs(call, before)?;
    for (program, rules) in programs.iter().filter(|(_, rules)| !rules.is_empty()) {
        program.ensure_chain(CHAIN)?;
        program.ensure_chain(admin)?;
        program.ensure(&["-I", "FORWARD", "1"], &jump("", CHAIN))?;
        program.ensure(&["-I", CHAIN, "1"], &jump(" admin overrides", admin))?;
        for rule in rules {
            program.ensure(&["-A", CHAIN], rule)?;
        }
        isolate(call, before, program)?;
    }
    Ok(())
}

fn check(call: &Call, before: &Value) -> Result<()> {
    let admin = admin_chain(call);
    for (program, rules) in programs(call, before)?.iter().filter(|(_, rules)| !rules.is_empty()) {
        let first = [("FORWARD", jump("", CHAIN)), (CHAIN, jump(" admin overrides", admin))];
        let rest = rules.iter().map(|rule| (CHAIN, rule.clone()));
        for (chain, rule) in first.into_iter().chain(rest) {
            if !program.has(chain, &rule)? {
                let shown = rule.join(" ");
                return Err(Error::new(format!("expected {chain} rule [{shown}] not found")));
            }
        }
    }
    Ok(())
}

/// Keeps the networks of bridges apart, as the policy says.
fn isolate(call: &Call, before: &Value, program: &Iptables) -> Result<()> {
    let policy = call.conf.str("ingressPolicy");
    if ["", "open"].contains(&policy) {
        return Ok(());
    }
    let bridge = before.list("interfaces").first().map_or("", |one| one.str("name"));
    if bridge.is_empty() {
        return Err(Error::new(format!(
            "interface needs to be set for ingress policy {policy:?}, make sure to chain \"firewall\" plugin with \"bridge\""
        )));
    }
    let rule = |words: &[&str], of: &str| {
        let comment = format!("CNI firewall plugin rules (ingressPolicy: {of})");
        let words = words.iter().map(|word| (*word).to_owned());
        words
            .chain(["-m".into(), "comment".into(), "--comment".into(), comment])
            .collect::<Vec<String>>()
    };
    let both = "same-bridge|isolated";
    program.ensure_chain(STAGE_1)?;
    program.ensure_chain(STAGE_2)?;
    program.ensure(&["-I", "FORWARD", "1"], &rule(&["-j", STAGE_1], both))?;
    let across = ["-i", bridge, "!", "-o", bridge, "-j", STAGE_2];
    program.ensure(&["-I", STAGE_1, "1"], &rule(&across, policy))?;
    if policy == "isolated" {
        let within = ["-i", bridge, "-o", bridge, "-j", "DROP"];
        program.ensure(&["-I", STAGE_1, "1"], &rule(&within, policy))?;
    }
    program.ensure(&["-A", STAGE_1], &rule(&["-j", "RETURN"], both))?;
    program.ensure(&["-I", STAGE_2, "1"], &rule(&["-o", bridge, "-j", "DROP"], both))?;
    program.ensure(&["-A", STAGE_2], &rule(&["-j", "RETURN"], both))
}

fn admin_chain(call: &Call) -> &str {
    match call.conf.str("iptablesAdminChainName") {
        "" => ADMIN_CHAIN,
        name => name,
    }
}

fn jump(what: &str, chain: &str) -> Vec<String> {
    let comment = if what.is_empty() { "rules" } else { what.trim_start() };
    let comment = format!("CNI firewall plugin {comment}");
    ["-m", "comment", "--comment", &comment, "-j", chain].map(str::to_owned).to_vec()
}

/// What lets a container's address through: answers to it, and all that it sends.
fn accepting(address: &str) -> [Vec<String>; 2] {
    let answers =
        ["-d", address, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"];
    let sent = ["-s", address, "-j", "ACCEPT"];
    [answers.map(str::to_owned).to_vec(), sent.map(str::to_owned).to_vec()]
}

/// The commands of both families, with the rules of each.
fn programs(call: &Call, before: &Value) -> Result<Vec<(Iptables, Vec<Vec<String>>)>> {
    let ips = result::ips(before)?;
    let mut all = Vec::new();
    for (number, (name, is_ipv4, bits)) in
        [("iptables", true, 32), ("ip6tables", false, 128)].into_iter().enumerate()
    {
        let of_family = ips.iter().filter(|ip| ip.address.is_ipv4() == is_ipv4);
        let rules = of_family.flat_map(|ip| accepting(&format!("{}/{bits}", ip.address)));
        let program = Iptables::find(name, &call.env).context(|| {
            format!("could not initialize iptables protocol {number}: exec: {name:?}: executable file not found in $PATH")
        })?;
        all.push((program, rules.collect()));
    }
    Ok(all)
}

/// A command of iptables.
#[derive(Debug)]
struct Iptables {
    program: PathBuf,
    env: Vec<(String, String)>,
}

impl Iptables {
    fn find(name: &str, env: &[(String, String)]) -> Option<Iptables> {
        let path = env.iter().find(|(key, _)| key == "PATH").map_or("", |(_, value)| value);
        let mut places = path.split(':').filter(|place| !place.is_empty());
        let program = places.find_map(|place| {
            let program = Path::new(place).join(name);
            rt::fs::metadata(&program).is_ok_and(|file| file.is_file()).then_some(program)
        })?;
        Some(Iptables { program, env: env.to_vec() })
    }

    /// Runs the command; whether it succeeded.
    fn run(&self, how: &[&str], rule: &[String]) -> Result<bool> {
        let fixed = ["-w", "-t", "filter"].into_iter().chain(how.iter().copied());
        let words: Vec<&str> = fixed.chain(rule.iter().map(String::as_str)).collect();
        let program = self.program.to_str().context(|| "the path of iptables is no text")?;
        let (code, _) = rt::process::captured(program, &words, &self.env, OUTPUT_MAX_BYTES)?;
        Ok(code == 0)
    }

    fn must(&self, how: &[&str], rule: &[String]) -> Result<()> {
        match self.run(how, rule)? {
            true => Ok(()),
            false => Err(Error::new(format!(
                "{} {} {} failed",
                self.program.display(),
                how.join(" "),
                rule.join(" ")
            ))),
        }
    }

    fn has(&self, chain: &str, rule: &[String]) -> Result<bool> {
        self.run(&["-C", chain], rule)
    }

    fn ensure_chain(&self, chain: &str) -> Result<()> {
        // Two containers may come at once: who is second finds it made.
        match self.run(&["-n", "-L", chain], &[])? || self.run(&["-N", chain], &[])? {
            true => Ok(()),
            false => self.must(&["-n", "-L", chain], &[]),
        }
    }

    /// Adds a rule, by `how`, to the chain that it names, unless it is there.
    fn ensure(&self, how: &[&str], rule: &[String]) -> Result<()> {
        let chain = how.get(1).copied().unwrap_or_default();
        match self.has(chain, rule)? {
            true => Ok(()),
            false => self.must(how, rule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_refused() {
        let said = |conf: Value| run(&Call::test(Command::Add, conf)).unwrap_err().message;
        assert_eq!(said(json!({})), "missing prevResult from earlier plugin");
        assert_eq!(said(json!({"ingressPolicy": "x"})), "unknown ingress policy: \"x\"");
        assert_eq!(
            said(json!({"backend": "firewalld"})),
            "the backend \"firewalld\" is not supported by the firewall plugin of k3rs"
        );
        let none = said(json!({"prevResult": {"ips": [{"address": "10.0.0.2/24"}]}}));
        assert_eq!(
            none,
            "could not initialize iptables protocol 0: exec: \"iptables\": executable file not found in $PATH"
        );
    }

    #[test]
    fn a_rule_is_added_once() {
        let directory = std::env::temp_dir().join(format!("k3rs-firewall-{}", std::process::id()));
        rt::fs::create_dir_all(&directory, 0o755).unwrap();
        let log = directory.join("log");
        // It has the chains and no rule but those that it was given.
        let script = format!(
            "#!/bin/sh\nshift 3\ncase \"$1\" in -C) shift; grep -qxF -- \"$*\" {0};; -I) c=$2; shift 3; echo \"$c $*\" >> {0};; -A) shift; echo \"$*\" >> {0};; esac\n",
            log.display()
        );
        for name in ["iptables", "ip6tables"] {
            rt::fs::write(directory.join(name), script.as_bytes(), 0o755).unwrap();
        }
        rt::fs::write(&log, b"", 0o644).unwrap();
        let conf = json!({"ingressPolicy": "same-bridge", "prevResult": {"interfaces": [{"name": "br"}], "ips": [{"address": "10.0.0.2/24"}]}});
        let mut call = Call::test(Command::Add, conf);
        call.env = vec![("PATH".into(), format!("{}:/usr/bin:/bin", directory.display()))];
        let check = |call: &Call| {
            let mut check = Call::test(Command::Check, call.conf.clone());
            check.env = call.env.clone();
            run(&check)
        };
        assert!(check(&call).unwrap_err().message.starts_with("expected FORWARD rule ["));
        run(&call).unwrap();
        run(&call).unwrap();
        check(&call).unwrap();
        let text = rt::fs::read_text(&log).unwrap();
        let expected = "FORWARD -m comment --comment CNI firewall plugin rules -j CNI-FORWARD\n\
            CNI-FORWARD -m comment --comment CNI firewall plugin admin overrides -j CNI-ADMIN\n\
            CNI-FORWARD -d 10.0.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
            CNI-FORWARD -s 10.0.0.2/32 -j ACCEPT\n";
        assert!(text.starts_with(expected) && text.lines().count() == 9, "{text}");
        rt::fs::remove_dir_all(&directory).unwrap();
    }
}
