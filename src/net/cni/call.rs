//! One call of one plugin, as the CNI specification has it: the question in its environment and its input, the answer in
//! its output.

use std::path::PathBuf;
use std::time::Duration;

use api::Lens;
use rt::process::Ended;
use serde_json::Value;
use stdx::{Context, Error, Result};

use super::config::Network;
use super::{Plugins, answer};

/// What pods' interface is called.
pub(crate) const INTERFACE: &str = "eth0";
/// As long as the kubelet lets its runtime work (`--runtime-request-timeout`).
const CALL_MAX: Duration = Duration::from_secs(120);
/// Of an answer.
const ANSWER_MAX_BYTES: usize = 256 << 10;

/// The pod that a call is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    pub(crate) id: String,
    /// `namespace/name`.
    pub(crate) pod: String,
    pub(crate) uid: String,
    /// Empty: its network namespace is gone.
    pub(crate) netns: PathBuf,
}

/// Asks a plugin of `network` to do `command`; `subject` is `None` where it is about no pod.
///
/// # Errors
/// If it cannot be started, fails, or does not answer in time; as libcni words it.
pub(crate) async fn call(
    command: &str,
    (network, plugin): (&Network, &Value),
    input: &Value,
    subject: Option<&Subject>,
    plugins: &Plugins,
) -> Result<Option<Value>> {
    let directories = &plugins.programs;
    let kind = plugin.str("type");
    let what = || {
        let verb = command.to_ascii_lowercase();
        format!("plugin type={kind:?} name={:?} failed ({verb})", network.name)
    };
    let path = find(kind, directories).context(what)?;
    let mut env = vec![
        ("CNI_COMMAND".to_owned(), command.to_owned()),
        ("CNI_PATH".to_owned(), joined(directories)),
        ("PATH".to_owned(), plugins.search_path.clone()),
    ];
    if let Some(subject) = subject {
        let (namespace, name) = subject.pod.split_once('/').unwrap_or_default();
        // The order is that of containerd.
        let args = format!(
            "K8S_POD_UID={};IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={}",
            subject.uid, subject.id
        );
        let more = [
            ("CNI_CONTAINERID", subject.id.clone()),
            ("CNI_NETNS", subject.netns.display().to_string()),
            ("CNI_IFNAME", INTERFACE.to_owned()),
            ("CNI_ARGS", args),
        ];
        env.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    let input = input.to_string();
    let asked = rt::process::ask(path.as_os_str(), &[], &env, input.as_bytes(), ANSWER_MAX_BYTES);
    let answer = match rt::timeout(CALL_MAX, asked).await {
        Ok(answer) => answer.context(what)?,
        Err(_) => {
            let why = format!("no answer within {} s", CALL_MAX.as_secs());
            return Err(Error::new(why)).context(what);
        }
    };
    match answer.ended {
        Some(Ended::Code(0)) => answer::read(&answer.output).context(what),
        _ => Err(Error::new(answer::failure(&answer.output, &answer.errors))).context(what),
    }
}

fn find(kind: &str, directories: &[PathBuf]) -> Result<PathBuf> {
    if kind.contains('/') {
        return Err(Error::new(format!("invalid plugin name: {kind}")));
    }
    let paths = directories.iter().map(|directory| directory.join(kind));
    let mut found = paths.filter(|path| rt::fs::metadata(path).is_ok_and(|file| file.is_file()));
    let shown = || directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    found
        .next()
        .context(|| format!("failed to find plugin {kind:?} in path [{}]", shown().join(" ")))
}

fn joined(directories: &[PathBuf]) -> String {
    let shown: Vec<String> = directories.iter().map(|path| path.display().to_string()).collect();
    shown.join(":")
}
