//! The flags of commands that have verbs, as k3s's library reads them: `--name VALUE`, `--name=VALUE`, one or two dashes.
//! A flag that the verb does not know is refused by name.

use stdx::{Context, Error, Result};

/// A flag, and the verbs that know it.
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    /// Other names, mostly of one letter.
    pub(crate) others: &'static [&'static str],
    /// False for a switch, which may be given as `--name=false`.
    pub(crate) takes: bool,
    pub(crate) verbs: &'static [&'static str],
}

/// What was given on a command line.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) verb: String,
    /// What follows the verb and is no flag.
    pub(crate) words: Vec<String>,
    flags: Vec<(&'static str, String)>,
}

impl Given {
    /// Reads the arguments; `None`: help is wanted, by name or because nothing was said.
    ///
    /// # Errors
    /// For an unknown verb or flag, one that the verb does not know, and one without its value.
    pub(crate) fn read(args: &[String], verbs: &[&str], flags: &[Flag]) -> Result<Option<Given>> {
        let (mut given, mut found) = (Given::default(), Vec::new());
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let Some(bare) = arg.strip_prefix("--").or(arg.strip_prefix('-')) else {
                match given.verb.is_empty() {
                    true if arg == "help" => return Ok(None),
                    true => given.verb.clone_from(arg),
                    false => given.words.push(arg.clone()),
                }
                continue;
            };
            let (name, inline) = bare.split_once('=').map_or((bare, None), |(n, v)| (n, Some(v)));
            if matches!(name, "help" | "h") {
                return Ok(None);
            }
            let dashed = &arg[..arg.len() - bare.len() + name.len()];
            let called = |flag: &&Flag| flag.name == name || flag.others.contains(&name);
            let Some(known) = flags.iter().find(called) else { return Err(undefined(dashed)) };
            let value = match (inline, known.takes) {
                (Some(value), _) => value.to_owned(),
                (None, false) => "true".to_owned(),
                (None, true) => {
                    let next = rest.next().cloned();
                    next.context(|| format!("flag needs an argument: {dashed}"))?
                }
            };
            found.push((name, dashed, value));
        }
        if given.verb.is_empty() {
            return Ok(None);
        }
        if !verbs.contains(&given.verb.as_str()) {
            return Err(Error::new(format!("unknown command {:?}", given.verb)));
        }
        // A letter may mean one thing to one verb and another to the next.
        for (name, dashed, value) in found {
            let of_verb = flags.iter().filter(|flag| flag.verbs.contains(&given.verb.as_str()));
            let known = of_verb
                .into_iter()
                .find(|flag| flag.name == name || flag.others.contains(&name))
                .ok_or_else(|| undefined(dashed))?;
            given.flags.push((known.name, value));
        }
        Ok(Some(given))
    }

    /// The last value of a flag.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        self.all(name).last().map(str::to_owned)
    }

    /// All values of a flag, as they came.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    /// The items of a flag's lists, which commas divide.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let items = self.all(name).flat_map(|list| list.split(','));
        items.map(|item| item.trim().to_owned()).collect()
    }

    /// Whether a switch is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.all(name).last().is_some_and(|value| value != "false")
    }

    /// What was given, flag by flag.
    pub(crate) fn flags(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.flags.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// # Errors
    /// If something that is no flag follows the verb.
    pub(crate) fn no_words(&self) -> Result<()> {
        match self.words.first() {
            Some(word) => Err(Error::new(format!("unexpected argument {word:?}"))),
            None => Ok(()),
        }
    }
}

fn undefined(dashed: &str) -> Error {
    Error::new(format!("flag provided but not defined: {dashed}"))
}

/// What others wrote is no business of the terminal's.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag { name: "name", others: &["n"], takes: true, verbs: &["save"] },
        Flag { name: "force", others: &[], takes: false, verbs: &["save", "ls"] },
        Flag { name: "service", others: &["s"], takes: true, verbs: &["ls"] },
        Flag { name: "server", others: &["s"], takes: true, verbs: &["save"] },
    ];

    fn read(args: &[&str]) -> Result<Option<Given>> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Given::read(&args, &["save", "ls"], FLAGS)
    }

    #[test]
    fn flags_come_before_and_after_the_verb() {
        let given = read(&["-n", "a", "save", "--name=b", "word", "-s", "x"]).unwrap().unwrap();
        assert_eq!((given.verb.as_str(), given.words.as_slice()), ("save", &["word".into()][..]));
        assert_eq!(given.value("name").as_deref(), Some("b"));
        assert_eq!((given.value("server").as_deref(), given.value("service")), (Some("x"), None));
        let given = read(&["ls", "-s=a, b", "--force"]).unwrap().unwrap();
        assert_eq!(
            (given.list("service"), given.is_on("force")),
            (vec!["a".into(), "b".into()], true)
        );
        assert!(!read(&["ls", "--force=false"]).unwrap().unwrap().is_on("force"));
        for args in [&[][..], &["help"], &["save", "-h"], &["--help"]] {
            assert!(read(args).unwrap().is_none(), "{args:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (args, wanted) in [
            (&["ls", "--name", "a"][..], "flag provided but not defined: --name"),
            (&["save", "--x=1"], "flag provided but not defined: --x"),
            (&["save", "-n"], "flag needs an argument: -n"),
            (&["frobnicate"], "unknown command \"frobnicate\""),
        ] {
            assert_eq!(read(args).unwrap_err().to_string(), wanted);
        }
    }
}
