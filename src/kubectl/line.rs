//! A command line as it was read: flags, arguments, and the world around it.

use std::path::PathBuf;
use std::time::Duration;

use crate::failure::{Outcome, failed};
use crate::flags::{Flag, Given, parse_duration, split_pairs, truth};

/// What a command finds around it.
pub struct World<'a> {
    /// A variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The whole environment, for programs that are started.
    pub all_env: &'a dyn Fn() -> Vec<(String, String)>,
    /// The file of k3s, used where nobody names another and it exists.
    pub kubeconfig: PathBuf,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

/// A command line.
pub(crate) struct Line<'a> {
    /// `kubectl create deployment`
    pub(crate) path: String,
    /// The flags that its command knows.
    pub(crate) known: Vec<&'static [Flag]>,
    pub(crate) given: Given,
    pub(crate) world: &'a World<'a>,
}

impl Line<'_> {
    /// The arguments that are no flags.
    pub(crate) fn args(&self) -> &[String] {
        &self.given.args
    }

    /// Whether a flag was given, whatever its value.
    pub(crate) fn changed(&self, name: &str) -> bool {
        self.given.flags.iter().any(|(own, _)| *own == name)
    }

    /// The last value of a flag, or its default.
    pub(crate) fn text(&self, name: &str) -> &str {
        let last = self.given.flags.iter().rev().find(|(own, _)| *own == name);
        last.map_or_else(|| self.default(name), |(_, value)| value)
    }

    fn default(&self, name: &str) -> &'static str {
        let own = self.known.iter().flat_map(|table| table.iter()).find(|flag| flag.name == name);
        own.map_or("", |flag| flag.default)
    }

    /// The value of a flag of every command, unless the command has one of its own that is called so.
    pub(crate) fn global(&self, name: &str) -> &str {
        let own = self.known.split_last().map_or(&[][..], |(_, own)| own);
        match own.iter().flat_map(|table| table.iter()).any(|flag| flag.name == name) {
            true => "",
            false => self.text(name),
        }
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        truth(self.text(name)).unwrap_or(false)
    }

    pub(crate) fn int(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// A duration flag in nanoseconds; it may be negative.
    pub(crate) fn nanos(&self, name: &str) -> i64 {
        parse_duration(self.text(name)).unwrap_or(0)
    }

    /// A duration flag; none if it is 0 or less.
    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        u64::try_from(self.nanos(name)).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    /// All values of a flag that may be given several times.
    pub(crate) fn array(&self, name: &str) -> Vec<String> {
        let all = self.given.flags.iter().filter(|(own, _)| *own == name);
        all.map(|(_, value)| value.clone()).collect()
    }

    /// The same, each divided at commas.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let all = self.array(name);
        let items = all.iter().flat_map(|value| value.split(','));
        items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// The pairs of a flag of `key=value`, the last of one key only.
    pub(crate) fn pairs(&self, name: &str) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for value in self.array(name) {
            for (key, value) in split_pairs(&value).iter().filter_map(|pair| pair.split_once('=')) {
                found.retain(|(own, _)| own != key);
                found.push((key.to_owned(), value.to_owned()));
            }
        }
        found
    }

    /// Whether objects are of their types here, and no trees: where a command makes them or changes parts that it knows.
    pub(crate) fn is_typed(&self) -> bool {
        let mut words = self.path.split(' ').skip(1);
        match (words.next(), words.next()) {
            (Some("run" | "expose" | "autoscale" | "set" | "rollout"), _) => true,
            (Some("create"), sub) => sub.is_some(),
            (Some("auth"), sub) => sub == Some("whoami"),
            _ => false,
        }
    }

    /// A failure that ends with where there is help.
    pub(crate) fn usage<T>(&self, text: &str) -> Outcome<T> {
        failed(format!("{text}\nSee '{} -h' for help and examples", self.path))
    }

    pub(crate) fn env(&self, name: &str) -> String {
        (self.world.env)(name).unwrap_or_default()
    }

    pub(crate) fn dry_run(&self) -> Outcome<DryRun> {
        match self.text("dry-run") {
            "none" => Ok(DryRun::None),
            "" if !self.changed("dry-run") => Ok(DryRun::None),
            "client" => Ok(DryRun::Client),
            "server" => Ok(DryRun::Server),
            "unchanged" => {
                crate::out::tell(
                    "W1130 00:00:00.000000       1 helpers.go:703] --dry-run is deprecated and can be replaced with --dry-run=client.",
                );
                Ok(DryRun::Client)
            }
            other => match truth(other) {
                Some(true) => Ok(DryRun::Client),
                Some(false) => Ok(DryRun::None),
                None => failed(format!(
                    "Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."
                )),
            },
        }
    }
}

/// Whether something is really done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DryRun {
    None,
    Client,
    Server,
}

impl DryRun {
    /// What follows the verb in what is printed.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}
