//! The command line, as crictl's library reads it: flags of crictl before the command, the command's own behind it, and
//! nothing is a flag behind the first word that is none. Letters may stand together.

use std::time::Duration;

use stdx::{Context, Error, Result};

/// A command: its names, what it does, its arguments, its flags, and what is said to have failed.
pub(crate) struct Command {
    pub(crate) names: &'static [&'static str],
    pub(crate) about: &'static str,
    pub(crate) args: &'static str,
    /// Names divided by commas, each with `=` at its end if it takes a value.
    pub(crate) flags: &'static [&'static str],
    pub(crate) what: &'static str,
}

pub(crate) const GLOBAL: &[&str] = &[
    "config,c=",
    "runtime-endpoint,r=",
    "image-endpoint,i=",
    "timeout,t=",
    "debug,D",
    "enable-tracing",
    "tracing-endpoint=",
    "tracing-sampling-rate-per-million=",
    "profile-cpu=",
    "profile-mem=",
    "help,h",
    "version,v",
];

macro_rules! commands {
    ($($names:expr, $about:literal, $args:literal, $what:literal, [$($flag:literal),*];)*) => {
        pub(crate) const COMMANDS: &[Command] = &[$(Command {
            names: &$names, about: $about, args: $args, what: $what, flags: &[$($flag),*],
        }),*];
    };
}

commands! {
    ["attach"], "Attach to a running container", "CONTAINER-ID", "attaching running container failed", ["tty,t", "stdin,i", "transport,r="];
    ["create"], "Create a new container", "POD container-config.[json|yaml] pod-config.[json|yaml]", "creating container", ["no-pull", "with-pull", "creds=", "auth=", "cancel-timeout,T=", "pull-timeout,pt="];
    ["exec"], "Run a command in a running container", "CONTAINER-ID COMMAND [ARG...]", "execing command in container", ["sync,s", "timeout=", "tty,t", "interactive,i", "transport,r="];
    ["version"], "Display runtime version information", "", "getting the runtime version", [];
    ["images", "image", "img"], "List images", "[REPOSITORY[:TAG]]", "listing images", ["verbose,v", "quiet,q", "filter,f=", "output,o=", "digests", "no-trunc", "pinned"];
    ["inspect"], "Display the status of one or more containers", "CONTAINER-ID [CONTAINER-ID...]", "getting the status of the container", ["output,o=", "quiet,q", "name=", "namespace=", "pod,p=", "image=", "state,s=", "label=", "latest,l", "last,n="];
    ["inspecti"], "Return the status of one or more images", "IMAGE-ID [IMAGE-ID...]", "image status request failed", ["output,o=", "quiet,q", "name=", "filter,f="];
    ["imagefsinfo"], "Return image filesystem info", "", "image filesystem info request", ["output,o="];
    ["inspectp"], "Display the status of one or more pods", "POD-ID [POD-ID...]", "getting the pod sandbox status", ["output,o=", "quiet,q", "name=", "namespace=", "state,s=", "label=", "latest,l", "last,n="];
    ["logs"], "Fetch the logs of a container", "CONTAINER-ID", "fetching the logs", ["follow,f", "previous,p", "reopen,r", "tail=", "limit-bytes=", "since=", "timestamps,t"];
    ["port-forward"], "Forward local port to a pod", "POD-ID [LOCAL_PORT:]REMOTE_PORT", "port forward", ["transport,r="];
    ["ps"], "List containers", "", "listing containers", ["verbose,v", "id=", "name=", "pod,p=", "image=", "state,s=", "label=", "quiet,q", "output,o=", "all,a", "latest,l", "last,n=", "no-trunc", "resolve-image-path,r", "namespace="];
    ["pull"], "Pull an image from a registry", "NAME[:TAG|@DIGEST]", "pulling image", ["creds=", "auth=", "username,u=", "pod-config=", "annotation,a=", "pull-timeout,pt="];
    ["run"], "Run a new container inside a sandbox", "container-config.[json|yaml] pod-config.[json|yaml]", "running container", ["no-pull", "with-pull", "creds=", "auth=", "runtime,r=", "cancel-timeout,T=", "pull-timeout,pt="];
    ["runp"], "Run a new pod", "pod-config.[json|yaml]", "run pod sandbox", ["runtime,r=", "cancel-timeout,T="];
    ["rm"], "Remove one or more containers", "CONTAINER-ID [CONTAINER-ID...]", "removing containers", ["force,f", "keep-logs,k", "all,a"];
    ["rmi"], "Remove one or more images", "IMAGE-ID [IMAGE-ID...]", "removing images", ["all,a", "prune,q"];
    ["rmp"], "Remove one or more pods", "POD-ID [POD-ID...]", "removing pods", ["force,f", "all,a"];
    ["pods"], "List pods", "", "listing pod sandboxes", ["id=", "name=", "namespace=", "state,s=", "label=", "verbose,v", "quiet,q", "output,o=", "latest,l", "last,n=", "no-trunc"];
    ["start"], "Start one or more created containers", "CONTAINER-ID [CONTAINER-ID...]", "starting the container", [];
    ["info"], "Display information of the container runtime", "", "getting status of runtime", ["output,o=", "quiet,q"];
    ["stop"], "Stop one or more running containers", "CONTAINER-ID [CONTAINER-ID...]", "stopping the container", ["timeout,t="];
    ["stopp"], "Stop one or more running pods", "POD-ID [POD-ID...]", "stopping the pod sandbox", [];
    ["update"], "Update one or more running containers", "CONTAINER-ID [CONTAINER-ID...]", "updating container resources", ["cpu-period=", "cpu-quota=", "cpu-share=", "memory=", "cpuset-cpus=", "cpuset-mems="];
    ["stats"], "List container(s) resource usage statistics", "[ID]", "get container stats", ["all,a", "id=", "pod,p=", "label=", "output,o=", "seconds,s=", "watch,w"];
    ["statsp"], "List pod statistics", "", "get pod stats", ["id=", "label=", "output,o=", "seconds,s=", "watch,w"];
    ["metricdescs"], "List metric descriptors", "", "get metric descriptors", ["output,o="];
    ["metricsp"], "List pod metrics", "", "get pod metrics", ["output,o="];
    ["events", "event"], "Stream the events of containers", "", "get container events", ["output,o="];
    ["runtime-config"], "Retrieve the container runtime configuration", "", "getting the runtime configuration", ["output,o="];
    ["checkpoint"], "Checkpoint one or more running containers", "CONTAINER-ID [CONTAINER-ID...]", "checkpointing containers", ["export,e="];
    ["config"], "Get, set and list crictl configuration options", "", "config", [];
    ["completion"], "Output shell completion code", "", "completion", [];
    ["update-runtime-config"], "Update the runtime configuration", "", "updating the runtime configuration", [];
}

/// A command line that was understood.
pub(crate) struct Line {
    pub(crate) command: &'static Command,
    pub(crate) words: Vec<String>,
    flags: Vec<(&'static str, String)>,
    global: Vec<(&'static str, String)>,
}

/// What a command line comes to.
pub(crate) enum Parsed {
    Line(Line),
    Help,
    /// There is no command of this name.
    Unknown(String),
}

impl Line {
    /// # Errors
    /// For flags that are not known, or lack their value.
    pub(crate) fn read(args: &[String]) -> Result<Parsed> {
        let mut rest = args.iter();
        let mut global = Vec::new();
        let name = flags(GLOBAL, &mut rest, &mut global)?;
        let is_on = |wanted: &str| global.iter().any(|(name, _)| *name == wanted);
        let name = match name {
            Some(name) if name != "help" && name != "h" && !is_on("help") => name,
            _ if is_on("version") => "version".to_owned(),
            _ => return Ok(Parsed::Help),
        };
        let known = COMMANDS.iter().find(|command| command.names.contains(&name.as_str()));
        let Some(command) = known else { return Ok(Parsed::Unknown(name)) };
        let mut own = Vec::new();
        let first = flags(command.flags, &mut rest, &mut own)?;
        let words = first.into_iter().chain(rest.cloned()).collect();
        Ok(Parsed::Line(Line { command, words, flags: own, global }))
    }

    /// The last value of one of the command's flags; empty if it was not given.
    pub(crate) fn value(&self, name: &str) -> &str {
        let mut all = self.flags.iter().filter(|(own, _)| *own == name);
        all.next_back().map_or("", |(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.flags.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        !matches!(self.value(name), "" | "false")
    }

    /// # Errors
    /// If it is no number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>> {
        match self.value(name) {
            "" => Ok(None),
            text => {
                let number = text.parse();
                number.map(Some).context(|| format!("invalid value {text:?} for flag -{name}"))
            }
        }
    }

    /// How long something may take; `None` if nothing was said, or no end of it (`0`).
    ///
    /// # Errors
    /// If it is no duration.
    pub(crate) fn limit(&self, name: &str) -> Result<Option<Duration>> {
        match self.value(name) {
            "" => Ok(None),
            text => {
                let limit = super::call::seconds(text);
                let limit = limit.map_err(|_| format!("invalid value {text:?} for flag -{name}"));
                Ok(Some(limit.map_err(Error::new)?).filter(|limit| !limit.is_zero()))
            }
        }
    }

    /// The last value of one of crictl's own flags.
    pub(crate) fn global(&self, name: &str) -> Option<&str> {
        let all = self.global.iter().filter(|(own, _)| *own == name);
        all.map(|(_, value)| value.as_str()).next_back()
    }
}

/// Reads flags up to the first word that is none, and gives that.
fn flags<'a>(
    known: &[&'static str],
    rest: &mut impl Iterator<Item = &'a String>,
    found: &mut Vec<(&'static str, String)>,
) -> Result<Option<String>> {
    // Its first name, and whether it takes a value.
    let find = |name: &str| {
        let all = known.iter().chain(&["help,h"]);
        all.map(|flag| (flag.trim_end_matches('='), flag.ends_with('='))).find_map(
            |(names, takes)| {
                let mut names = names.split(',');
                let first = names.next()?;
                (first == name || names.any(|other| other == name)).then_some((first, takes))
            },
        )
    };
    while let Some(arg) = rest.next() {
        if arg == "--" {
            return Ok(rest.next().cloned());
        }
        let Some(bare) =
            arg.strip_prefix("--").or(arg.strip_prefix('-')).filter(|it| !it.is_empty())
        else {
            return Ok(Some(arg.clone()));
        };
        let (name, inline) = bare.split_once('=').map_or((bare, None), |(n, v)| (n, Some(v)));
        let together = || -> Option<Vec<(&'static str, bool)>> {
            (!arg.starts_with("--"))
                .then(|| name.chars().map(|c| find(c.encode_utf8(&mut [0; 4]))).collect())?
        };
        let all = match find(name) {
            Some(one) => vec![one],
            None => together()
                .ok_or_else(|| Error::new(format!("flag provided but not defined: -{name}")))?,
        };
        let last = all.len() - 1;
        for (idx, (name, takes)) in all.into_iter().enumerate() {
            let value = match (takes, inline) {
                (true, Some(value)) if idx == last => value.to_owned(),
                (true, _) if idx == last => {
                    let next = rest.next().cloned();
                    next.context(|| format!("flag needs an argument: -{name}"))?
                }
                (true, _) => return Err(Error::new(format!("flag needs an argument: -{name}"))),
                (false, Some(value)) if idx == last => value.to_owned(),
                (false, _) => "true".to_owned(),
            };
            found.push((name, value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Line> {
        let args: Vec<String> = text.split(' ').map(str::to_owned).collect();
        match Line::read(&args)? {
            Parsed::Line(line) => Ok(line),
            Parsed::Help => Err(Error::new("help")),
            Parsed::Unknown(name) => Err(Error::new(format!("unknown {name}"))),
        }
    }

    #[test]
    fn flags_end_with_the_first_word_and_letters_stand_together() {
        let line = read("-r unix:///x exec -it --timeout=5 abc sh -c ls").unwrap();
        assert_eq!(line.global("runtime-endpoint"), Some("unix:///x"));
        assert_eq!(line.words, ["abc", "sh", "-c", "ls"]);
        assert!(line.is_on("interactive") && line.is_on("tty") && !line.is_on("sync"));
        assert_eq!(line.number("timeout").unwrap(), Some(5));
        let line = read("img -q").unwrap();
        assert_eq!((line.command.names[0], line.is_on("quiet")), ("images", true));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (text, words) in [
            ("nope", "unknown nope"),
            ("help", "help"),
            ("ps --nope", "flag provided but not defined: -nope"),
            ("ps -az", "flag provided but not defined: -az"),
            ("stop -t", "flag needs an argument: -timeout"),
        ] {
            assert_eq!(read(text).err().unwrap().to_string(), words, "{text}");
        }
        assert!(read("stop -t x a").unwrap().number("timeout").is_err());
    }

    #[test]
    fn how_long_a_pull_may_take_is_a_duration() {
        let limit = |text: &str| read(text).unwrap().limit("pull-timeout");
        assert_eq!(limit("pull -pt 1m30s x").unwrap(), Some(Duration::from_secs(90)));
        assert_eq!(limit("pull --pull-timeout=0s x").unwrap(), None);
        assert_eq!(limit("pull x").unwrap(), None);
        assert_eq!(
            limit("pull -pt soon x").unwrap_err().to_string(),
            "invalid value \"soon\" for flag -pull-timeout"
        );
    }

    /// The functions that read the flags of a command, and those that they call with its line.
    const READERS: &[(&str, &str, &[&str])] = &[
        ("attach", "streams", &["attach", "transport"]),
        ("create", "change", &["create", "create_in", "pulls", "pull_image", "credentials"]),
        ("exec", "streams", &["exec", "transport"]),
        ("images", "list", &["images"]),
        ("inspect", "show", &["container", "print_all", "form"]),
        ("inspecti", "show", &["image", "print_all", "form"]),
        ("imagefsinfo", "show", &["image_fs"]),
        ("inspectp", "show", &["sandbox", "print_all", "form"]),
        ("logs", "streams", &["logs"]),
        ("port-forward", "streams", &["port_forward", "transport"]),
        ("ps", "list", &["containers", "chosen_containers", "labels", "newest"]),
        ("pull", "change", &["pull", "pull_image", "credentials"]),
        ("run", "change", &["run", "create_in", "run_in", "pulls", "pull_image", "credentials"]),
        ("runp", "change", &["run_sandbox", "run_in"]),
        ("rm", "change", &["remove", "remove_one", "named_or_all"]),
        ("rmi", "change", &["remove_images"]),
        ("rmp", "change", &["remove_sandboxes", "remove_sandbox", "named_or_all"]),
        ("pods", "list", &["sandboxes", "chosen_sandboxes", "labels", "newest"]),
        ("info", "show", &["info", "form"]),
        ("stop", "change", &["each"]),
        ("update", "change", &["limits"]),
        ("stats", "list", &["stats", "labels", "repeat", "readings"]),
        ("statsp", "list", &["sandbox_stats", "labels", "repeat", "readings"]),
        ("metricdescs", "show", &["plain", "form"]),
        ("metricsp", "show", &["plain", "form"]),
        ("events", "streams", &["events"]),
        ("runtime-config", "show", &["plain", "form"]),
        ("checkpoint", "change", &["each"]),
    ];

    /// What stands between a function's name and the brace that ends it at the line's beginning.
    fn body<'a>(source: &'a str, name: &str) -> &'a str {
        let at = source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("no fn {name}"));
        let rest = &source[at..];
        &rest[..rest.find("\n}\n").unwrap_or(rest.len())]
    }

    #[test]
    fn every_flag_is_read_by_its_command() {
        let sources = [
            ("list", include_str!("list.rs")),
            ("show", concat!(include_str!("show.rs"), include_str!("list.rs"))),
            ("change", include_str!("change.rs")),
            ("streams", include_str!("streams.rs")),
        ];
        // Of `inspect` and `inspectp` flags choose what is shown, as of `ps` and `pods`.
        let chosen = |command: &str| match command {
            "inspect" => &["chosen_containers", "labels", "newest"][..],
            "inspectp" => &["chosen_sandboxes", "labels", "newest"][..],
            _ => &[],
        };
        for command in COMMANDS.iter().filter(|command| !command.flags.is_empty()) {
            let name = command.names[0];
            let found = READERS.iter().find(|(of, ..)| *of == name);
            let (_, file, readers) = found.unwrap_or_else(|| panic!("nobody reads {name}'s flags"));
            let (_, source) = sources.iter().find(|(name, _)| name == file).unwrap();
            let all = readers.iter().chain(chosen(name));
            let read: String = all.map(|reader| body(source, reader)).collect();
            for flag in command.flags {
                let flag = flag.split([',', '=']).next().unwrap();
                assert!(read.contains(&format!("\"{flag}\"")), "crictl {name} --{flag}");
            }
        }
        let own = [include_str!("call.rs"), include_str!("mod.rs"), include_str!("line.rs")];
        for flag in GLOBAL {
            let flag = format!("\"{}\"", flag.split([',', '=']).next().unwrap());
            let before_tests =
                |text: &&str| text.split("#[cfg(test)]").next().unwrap().contains(&flag);
            assert!(own.iter().any(before_tests), "crictl {flag}");
        }
    }
}
