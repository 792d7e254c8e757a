//! `k3rs completion bash|zsh|fish`: a script for the shell, which asks the program itself for the words, as k3s's does.

use std::path::PathBuf;
use std::process::ExitCode;

use stdx::{Context, Error, Result};

use crate::machine::prepare::EtcDir;
use crate::settings::flags::{FLAGS, On};

const USAGE: &str = "USAGE: k3rs completion bash|zsh|fish [-i]\n\n\
    Prints the completion script of a shell, for example: source <(k3rs completion bash)\n\n\
    OPTIONS:\n   -i   install it: for bash and zsh in ~/.bashrc or ~/.zshrc, for fish in its folder of completions\n";

/// As the last argument: print what could stand in its place.
pub(crate) const ASK: &str = "--generate-bash-completion";

const BASH: &str = r#"_k3rs() {
  local IFS=$'\n'
  COMPREPLY=($(compgen -W "$("${COMP_WORDS[@]:0:COMP_CWORD}" --generate-bash-completion 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _k3rs k3rs k3s
"#;
const ZSH: &str = r#"#compdef k3rs k3s
_k3rs() {
  local -a found
  found=("${(@f)$("${(@)words[1,CURRENT-1]}" --generate-bash-completion 2>/dev/null)}")
  compadd -a found
  _files
}
compdef _k3rs k3rs k3s
"#;
const FISH: &str = "for program in k3rs k3s
  complete -c $program -a '((commandline -opc) --generate-bash-completion 2>/dev/null)'
end
";

/// The verbs of commands that have some.
const VERBS: &[(&str, &str)] = &[
    ("token", "create delete generate list rotate"),
    ("secrets-encrypt", "status enable disable prepare rotate rotate-keys reencrypt"),
    ("etcd-snapshot", "save ls delete prune"),
    ("certificate", "check rotate rotate-ca"),
    ("completion", "bash zsh fish"),
    ("uninstall", "--dry-run --data-dir"),
    ("killall", "--data-dir"),
    ("rollback", "--binary --keep-data --data-dir"),
];

pub(crate) fn command(args: &[String]) -> ExitCode {
    let installs = |arg: &String| matches!(arg.as_str(), "-i" | "--i");
    let words: Vec<&str> = args.iter().filter(|arg| !installs(arg)).map(String::as_str).collect();
    let (shell, script) = match words[..] {
        ["bash"] => ("bash", BASH),
        ["zsh"] => ("zsh", ZSH),
        ["fish"] => ("fish", FISH),
        ["--help" | "-h" | "help"] | [] => {
            crate::print(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            let said = words.join(" ");
            return crate::fail(&format!("completion: unknown shell {said:?} (bash, zsh or fish)"));
        }
    };
    if !args.iter().any(installs) {
        crate::print(script);
        return ExitCode::SUCCESS;
    }
    crate::ended("completion", install(shell, script))
}

fn install(shell: &str, script: &str) -> Result<String> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = PathBuf::from(home.context(|| "HOME is not set")?);
    let said =
        |path: &PathBuf| format!("Autocomplete for {shell} installed in: {}\n", path.display());
    if shell == "fish" {
        let folder = home.join(".config/fish/completions");
        rt::fs::create_dir_all(&folder, 0o755)?;
        for name in ["k3rs.fish", "k3s.fish"] {
            rt::fs::keep(folder.join(name), script.as_bytes(), 0o644)?;
        }
        return Ok(said(&folder));
    }
    let config =
        crate::settings::config::Config::load(On::Either, &[], |name| std::env::var(name).ok())?;
    let file = EtcDir::at(&config).kubeconfig().with_file_name("autocomplete");
    let folder = file.parent().ok_or_else(|| Error::new("no folder for the script"))?;
    rt::fs::create_dir_all(folder, 0o755)?;
    rt::fs::keep(&file, script.as_bytes(), 0o644)?;
    let rc = home.join([".", shell, "rc"].concat());
    let text = rt::fs::read_optional(&rc)?.unwrap_or_default();
    let mut text = String::from_utf8(text).context(|| format!("read {}", rc.display()))?;
    const START: &str = "# >> k3s command completion (start)";
    if !text.contains(START) {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let file = file.display();
        text += &format!("{START}\n. {file}\n# >> k3s command completion (end)\n");
        let mode = rt::fs::metadata(&rc).map_or(0o644, |it| {
            use std::os::unix::fs::PermissionsExt;
            it.permissions().mode() & 0o777
        });
        // In place: the file may be a link, and is somebody's.
        rt::fs::write(&rc, text.as_bytes(), mode)?;
    }
    Ok(said(&rc))
}

/// What may follow these words, one a line.
pub(crate) fn words(before: &[String]) -> String {
    let lines = |words: &mut dyn Iterator<Item = &str>| -> String {
        words.flat_map(|word| [word, "\n"]).collect()
    };
    let on = match before.first().map(String::as_str) {
        None => return lines(&mut crate::shown_commands()),
        Some("server") => On::Server,
        Some("agent") => On::Agent,
        Some("help") if before.len() == 1 => return lines(&mut crate::shown_commands()),
        Some(name) => {
            let found = VERBS.iter().find(|(known, _)| *known == name && before.len() == 1);
            return lines(&mut found.map_or("", |(_, verbs)| verbs).split_whitespace());
        }
    };
    let flags = FLAGS.iter().filter(|flag| flag.is_on(on) && flag.waits(on).is_none());
    flags.flat_map(|flag| ["--", flag.name, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_commands() {
        let all = words(&[]);
        for (name, verbs) in VERBS {
            assert!(all.lines().any(|line| line == *name), "{name}");
            assert_eq!(words(&[(*name).to_owned()]).lines().count(), verbs.split(' ').count());
        }
        assert!(!all.contains("shim"), "{all}");
        let server = words(&["server".to_owned(), "--token".to_owned(), "x".to_owned()]);
        assert!(
            server.lines().any(|line| line == "--cluster-cidr") && !server.contains("rootless")
        );
        assert!(!words(&["agent".to_owned()]).contains("--cluster-cidr"));
        assert_eq!(words(&["nothing".to_owned()]), "");
    }
}
