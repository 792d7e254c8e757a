//! `kubectl completion`: what a shell reads to complete command lines. It asks `kubectl __complete` for words.

use crate::call::{BLANK, Call, Command};
use crate::failure::Outcome;
use crate::out;

pub(crate) static COMMAND: Command = Command {
    name: "completion",
    about: "Output shell completion code for the specified shell (bash, zsh, fish, or powershell).",
    usage: "SHELL",
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let script = match call.args() {
        [] => return call.usage("Shell not specified."),
        [shell] => match shell.as_str() {
            "bash" => BASH,
            "zsh" => ZSH,
            "fish" => FISH,
            "powershell" => POWERSHELL,
            other => return call.usage(&format!("Unsupported shell type {other:?}.")),
        },
        _ => return call.usage("Too many arguments. Expected only the shell type."),
    };
    out::print(script);
    Ok(())
}

const BASH: &str = r#"# bash completion for kubectl
__start_kubectl() {
    local line="${COMP_LINE:0:COMP_POINT}" reply directive word
    local -a words lines
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    COMPREPLY=()
    reply="$("${words[0]}" __completeNoDesc "${words[@]:1}" 2>/dev/null)" || return
    directive="${reply##*:}"
    reply="${reply%:*}"
    local current="${words[-1]}" shown="${COMP_WORDS[COMP_CWORD]}" cut=""
    # Readline takes = and : for the ends of words.
    case $shown in "="|":") shown="" ;; esac
    [[ $current == *"$shown" ]] && cut="${current%"$shown"}"
    while IFS= read -r word; do
        [[ -n $word && $word == "$current"* ]] && COMPREPLY+=("${word#"$cut"}")
    done <<<"$reply"
    ((directive & 2)) && compopt -o nospace 2>/dev/null
    ((directive & 4)) && [[ ${#COMPREPLY[@]} -eq 0 ]] && compopt +o default 2>/dev/null
    return 0
}
complete -o default -F __start_kubectl kubectl
"#;

const ZSH: &str = r##"#compdef kubectl
compdef _kubectl kubectl

_kubectl() {
    local reply directive line
    local -a words_so_far entries
    words_so_far=("${(@)words[1,CURRENT]}")
    reply="$("${(Q)words_so_far[1]}" __complete "${(@)words_so_far[2,-1]}" 2>/dev/null)" || return 1
    directive="${reply##*:}"
    while IFS= read -r line; do
        [[ -z $line || $line == :<-> ]] && continue
        line="${line//:/\\:}"
        entries+=("${line/$'\t'/:}")
    done <<<"$reply"
    if (( ${#entries} )); then
        if (( directive & 2 )); then
            _describe -V completions entries -S ''
        else
            _describe -V completions entries
        fi
    elif (( ! (directive & 4) )); then
        _files
    fi
}

if [ "$funcstack[1]" = "_kubectl" ]; then
    _kubectl
fi
"##;

const FISH: &str = r#"# fish completion for kubectl
function __kubectl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l reply ($words[1] __complete $words[2..-1] 2>/dev/null)
    for line in $reply
        string match -qr '^:\d+$' -- $line; or echo $line
    end
end
function __kubectl_wants_files
    set -l words (commandline -opc) (commandline -ct)
    set -l reply ($words[1] __complete $words[2..-1] 2>/dev/null)
    test (count $reply) -eq 1; and test "$reply[1]" = ':0'
end
complete -c kubectl -e
complete -c kubectl -n 'not __kubectl_wants_files' -f -a '(__kubectl_complete)'
complete -c kubectl -n '__kubectl_wants_files' -F
"#;

const POWERSHELL: &str = r#"# powershell completion for kubectl
Register-ArgumentCompleter -Native -CommandName 'kubectl' -ScriptBlock {
    param($WordToComplete, $CommandAst, $CursorPosition)
    $words = @($CommandAst.CommandElements | ForEach-Object { "$_" })
    $arguments = @($words | Select-Object -Skip 1)
    if ($WordToComplete -eq '') { $arguments += '""' }
    & $words[0] __complete @arguments 2>$null | Where-Object { $_ -notmatch '^:\d+$' } | ForEach-Object {
        $parts = $_ -split "`t", 2
        $about = if ($parts.Count -gt 1) { $parts[1] } else { ' ' }
        [System.Management.Automation.CompletionResult]::new($parts[0], $parts[0], 'ParameterValue', $about)
    }
}
"#;
