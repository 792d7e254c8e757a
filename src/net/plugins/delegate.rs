//! Another plugin called by one of ours: found on `CNI_PATH`, told the same, believed within bounds.

use std::path::PathBuf;
use std::time::Duration;

use api::Lens;
use rt::process::Ended;
use serde_json::Value;
use stdx::Error;

use super::call::{Call, Failure, refused};

/// Of an answer.
const ANSWER_MAX_BYTES: usize = 256 << 10;
/// Below what callers wait for this plugin, so that there is an answer that says who hangs.
const CALL_MAX: Duration = Duration::from_secs(100);

/// Has the plugin `kind` do `command` with a configuration; what it fails with is passed on as it is.
pub(super) fn ask(
    call: &Call,
    kind: &str,
    command: &str,
    input: &[u8],
) -> Result<Option<Value>, Failure> {
    let program = find(call, kind)?;
    let mut env = call.env.clone();
    env.retain(|(name, _)| name != "CNI_COMMAND");
    env.push(("CNI_COMMAND".to_owned(), command.to_owned()));
    let asked = async {
        let asked = rt::process::ask(program.as_os_str(), &[], &env, input, ANSWER_MAX_BYTES);
        match rt::timeout(CALL_MAX, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(format!(
                "the plugin {kind:?} did not answer within {} s",
                CALL_MAX.as_secs()
            ))),
        }
    };
    let answer = rt::block_on(asked)?;
    let said = serde_json::from_slice::<Value>(&answer.output).ok();
    if answer.ended == Some(Ended::Code(0)) {
        return match said {
            Some(said) if said.is_object() => Ok(Some(said)),
            None if answer.output.trim_ascii().is_empty() => Ok(None),
            _ => refused(format!("the answer of the plugin {kind:?} is no JSON object")),
        };
    }
    let said = said.unwrap_or_default();
    let code = said.int("code").and_then(|code| u32::try_from(code).ok());
    match code {
        Some(code) => Err(Failure {
            code,
            message: said.str("msg").to_owned(),
            details: said.str("details").to_owned(),
        }),
        None => refused(crate::cni::failure(&answer.output, &answer.errors)),
    }
}

/// Where a plugin's program is.
fn find(call: &Call, kind: &str) -> Result<PathBuf, Failure> {
    if kind.is_empty() || kind.contains('/') {
        return refused(format!("invalid plugin name: {kind}"));
    }
    let paths = call.path.iter().map(|directory| directory.join(kind));
    let mut found = paths.filter(|path| rt::fs::metadata(path).is_ok_and(|file| file.is_file()));
    match found.next() {
        Some(path) => Ok(path),
        None => {
            let shown: Vec<String> =
                call.path.iter().map(|path| path.display().to_string()).collect();
            refused(format!("failed to find plugin {kind:?} in path [{}]", shown.join(" ")))
        }
    }
}
