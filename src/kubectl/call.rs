//! One call of a command: its line, and the server once it is needed. And what a command is.

use std::cell::OnceCell;

use api::Lens;

use crate::discovery::Mapper;
use crate::failure::{Failure, Outcome, failed};
use crate::flags::Flag;
use crate::kubeconfig::Kubeconfig;
pub(crate) use crate::line::DryRun;
use crate::line::Line;
use crate::options;
use crate::rest::Rest;

/// A command: a line in its parent's table.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) about: &'static str,
    /// What its parent's list says of it; "" for `about` without its full stop.
    pub(crate) short: &'static str,
    pub(crate) examples: &'static str,
    /// What follows the name in its line of usage.
    pub(crate) usage: &'static str,
    pub(crate) flags: &'static [&'static [Flag]],
    /// Flags that must be given.
    pub(crate) required: &'static [&'static str],
    pub(crate) subs: &'static [&'static Command],
    /// `None` for one that only groups others.
    pub(crate) run: Option<fn(&Call<'_>) -> Outcome>,
}

/// A command without any of what makes it one, to be written upon.
pub(crate) const BLANK: Command = Command {
    name: "",
    aliases: &[],
    about: "",
    short: "",
    examples: "",
    usage: "",
    flags: &[],
    required: &[],
    subs: &[],
    run: None,
};

impl Command {
    pub(crate) fn find(&self, name: &str) -> Option<&'static Command> {
        let called = |sub: &&&Command| sub.name == name || sub.aliases.contains(&name);
        self.subs.iter().find(called).copied()
    }

    /// All flags that it knows.
    pub(crate) fn known(&self) -> Vec<&'static [Flag]> {
        self.flags.iter().copied().chain([options::GLOBAL]).collect()
    }

    /// Whether the argument after this flag is its value, as far as a parent can know.
    pub(crate) fn takes_next(&self, arg: &str) -> bool {
        let known = self.known();
        let is_bare = |is_it: &dyn Fn(&Flag) -> bool| {
            known.iter().flat_map(|table| table.iter()).any(|f| is_it(f) && !f.bare.is_empty())
        };
        match arg.strip_prefix("--") {
            Some("") => false,
            Some(long) => !long.contains('=') && long != "help" && !is_bare(&|f| f.name == long),
            None => {
                let mut letters = arg.chars().skip(1);
                match (letters.next(), letters.next()) {
                    (Some('h'), None) => false,
                    (Some(letter), None) => !is_bare(&|f| f.short == letter),
                    _ => false,
                }
            }
        }
    }
}

/// One call of a command.
pub(crate) struct Call<'a> {
    pub(crate) line: Line<'a>,
    pub(crate) command: &'static Command,
    config: OnceCell<Kubeconfig>,
    rest: OnceCell<Rest>,
    mapper: OnceCell<Mapper>,
}

impl<'a> std::ops::Deref for Call<'a> {
    type Target = Line<'a>;

    fn deref(&self) -> &Line<'a> {
        &self.line
    }
}

impl<'a> Call<'a> {
    pub(crate) fn new(command: &'static Command, line: Line<'a>) -> Call<'a> {
        Call {
            line,
            command,
            config: OnceCell::new(),
            rest: OnceCell::new(),
            mapper: OnceCell::new(),
        }
    }

    pub(crate) fn config(&self) -> Outcome<&Kubeconfig> {
        if self.config.get().is_none() {
            let config = Kubeconfig::load(&self.line)?;
            let _ = self.config.set(config);
        }
        self.config.get().ok_or(Failure::Exit(1))
    }

    /// The server.
    pub(crate) fn rest(&self) -> Outcome<&Rest> {
        if self.rest.get().is_none() {
            let rest = Rest::new(&self.line, self.config()?)?;
            if self.is("match-server-version") {
                same_version(&rest)?;
            }
            let _ = self.rest.set(rest);
        }
        self.rest.get().ok_or(Failure::Exit(1))
    }

    /// How many different warnings the server sent.
    pub(crate) fn n_warnings(&self) -> usize {
        self.rest.get().map_or(0, Rest::n_warnings)
    }

    /// What the server serves.
    pub(crate) fn mapper(&self) -> Outcome<&Mapper> {
        if self.mapper.get().is_none() {
            let _ = self.mapper.set(Mapper::default());
        }
        self.mapper.get().ok_or(Failure::Exit(1))
    }

    /// Whether `-f` or `-k` names objects.
    pub(crate) fn has_files(&self) -> bool {
        !self.list("filename").is_empty() || !self.text("kustomize").is_empty()
    }

    /// The namespace, and whether it was asked for by name.
    pub(crate) fn namespace(&self) -> Outcome<(String, bool)> {
        match self.text("namespace") {
            "" => {
                let of_context = self.config()?.namespace(&self.line);
                Ok((if of_context.is_empty() { "default".to_owned() } else { of_context }, false))
            }
            named => Ok((named.to_owned(), true)),
        }
    }
}

/// For `--match-server-version`.
fn same_version(rest: &Rest) -> Outcome {
    let (tree, own) = (rest.get("/version")?, stdx::version::VERSION);
    match tree.str("gitVersion") {
        theirs if theirs == own => Ok(()),
        theirs => failed(format!("server version ({theirs}) differs from client version ({own})")),
    }
}
