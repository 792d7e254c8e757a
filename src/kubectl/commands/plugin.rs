//! `kubectl plugin`, and programs named `kubectl-*` as commands.

use std::path::{Path, PathBuf};

use stdx::Arrange;

use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::switch;
use crate::line::World;
use crate::out;

pub(crate) static COMMAND: Command = Command {
    name: "plugin",
    about: "Provides utilities for interacting with plugins.\n\n Plugins provide extended functionality that is not part of the major command-line distribution. Please refer to the documentation and examples for more information about how write your own plugins.\n\n The easiest way to discover and install plugins is via the kubernetes sub-project krew: [krew.sigs.k8s.io]. To install krew, visit https://krew.sigs.k8s.io/docs/user-guide/setup/install",
    examples: "  # List all available plugins\n  kubectl plugin list\n  \n  # List only binary names of available plugins without paths\n  kubectl plugin list --name-only",
    usage: "[flags]",
    subs: &[&LIST],
    ..BLANK
};
static LIST: Command = Command {
    name: "list",
    about: "List all available plugin files on a user's PATH.",
    short: "List all visible plugin executables on a user's PATH",
    flags: &[&[switch(
        "name-only",
        "If true, display only the binary name of each plugin, rather than its full path",
    )]],
    run: Some(list),
    ..BLANK
};

/// Words of a command line that a plugin's name may take up.
const WORDS_MAX: usize = 16;

fn directories(world: &World<'_>) -> Vec<PathBuf> {
    let path = (world.env)("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for directory in path.split(':').filter(|directory| !directory.trim().is_empty()) {
        let directory = PathBuf::from(directory);
        if !found.contains(&directory) {
            found.push(directory);
        }
    }
    found
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    rt::fs::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// All plugins, with their files' names; tells of directories that are not there.
fn all(world: &World<'_>, missing: &dyn Fn(&Path)) -> Vec<(PathBuf, String)> {
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    for directory in directories(world) {
        if rt::fs::metadata(&directory).is_err() {
            missing(&directory);
            continue;
        }
        let mut names = rt::fs::dir_names(&directory);
        names.arrange();
        for (name, _) in names {
            let name = name.to_string_lossy().into_owned();
            let path = directory.join(&name);
            let is_directory = rt::fs::metadata(&path).is_ok_and(|meta| meta.is_dir());
            if name.starts_with("kubectl-") && !is_directory {
                found.push((path, name));
            }
        }
    }
    found
}

/// The words by which plugins are called, each once.
pub(crate) fn words(world: &World<'_>) -> Vec<String> {
    let found = all(world, &|_| {});
    let own = found.iter().filter_map(|(_, name)| name.strip_prefix("kubectl-")?.split('-').next());
    let mut words: Vec<String> = own.map(|word| word.replace('_', "-")).collect();
    words.arrange();
    words.dedup();
    words
}

fn list(call: &Call<'_>) -> Outcome {
    let found = all(call.world, &|directory| {
        let shown = directory.display();
        out::tell(&format!(
            "Unable to read directory \"{shown}\" from your PATH: open {shown}: no such file or directory. Skipping..."
        ));
    });
    if found.is_empty() {
        return failed("unable to find any kubectl plugins in your PATH");
    }
    out::line("The following compatible plugins are available:\n");
    let mut n_warnings = 0;
    for (idx, (path, name)) in found.iter().enumerate() {
        let shown = path.display().to_string();
        out::line(if call.is("name-only") { name } else { &shown });
        let mut warn = |text: String| {
            n_warnings += 1;
            out::tell(&format!("  - warning: {text}"));
        };
        if !is_executable(path) {
            warn(format!("{shown} identified as a kubectl plugin, but it is not executable"));
        }
        if let Some((first, _)) = found[..idx].iter().find(|(_, own)| own == name) {
            warn(format!(
                "{shown} is overshadowed by a similarly named plugin: {}",
                first.display()
            ));
        }
    }
    match n_warnings {
        0 => Ok(()),
        1 => failed("one plugin warning was found"),
        n => failed(format!("{n} plugin warnings were found")),
    }
}

/// Runs the plugin that a command line names, the one with the longest name: `kubectl-a-b` for `a b c`. `None` if there
/// is none, or a flag comes first.
pub(crate) fn run(args: &[String], world: &World<'_>) -> Option<Outcome> {
    let words: Vec<String> = args
        .iter()
        .take_while(|arg| !arg.starts_with('-'))
        .take(WORDS_MAX)
        .map(|arg| arg.replace('-', "_"))
        .collect();
    let directories = directories(world);
    for n in (1..=words.len()).rev() {
        let name = format!("kubectl-{}", words[..n].join("-"));
        if name.contains('/') {
            continue;
        }
        let path = directories
            .iter()
            .map(|directory| directory.join(&name))
            .find(|path| is_executable(path));
        let Some(path) = path else { continue };
        let rest: Vec<&str> = args[n..].iter().map(String::as_str).collect();
        let ended = rt::process::foreground(&path.display().to_string(), &rest, &(world.all_env)());
        return Some(match ended {
            Ok(0) => Ok(()),
            Ok(code) => Err(Failure::Exit(u8::try_from(code).unwrap_or(1))),
            Err(error) => Err(error.into()),
        });
    }
    None
}
