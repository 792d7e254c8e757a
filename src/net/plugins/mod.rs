//! The CNI plugins that this program is when it is called by their names: bridge, host-local, loopback, portmap, ...
//!
//! They are a process each, started by whoever makes a pod's network, and know nothing of the node that they run on but
//! what they are told: a command and its subject in the environment, the configuration on their input. What they answer
//! is upstream's word for word where somebody may compare it: results, codes of errors, files of leases.

mod bandwidth;
mod bridge;
mod call;
mod delegate;
mod firewall;
mod flannel;
mod host_local;
mod loopback;
mod nat;
mod portmap;
mod ranges;
mod result;

use std::io::Read;

use call::{Call, Command, Failure};
use serde_json::{Value, json};

/// What a plugin does.
type Run = fn(&Call) -> Result<Option<Value>, Failure>;

/// One plugin.
struct Plugin {
    name: &'static str,
    run: Run,
    /// The first version of the specification that it follows, as an index of [`VERSIONS`].
    first: usize,
}

const PLUGINS: &[Plugin] = &[
    Plugin { name: "bandwidth", run: bandwidth::run, first: 0 },
    Plugin { name: "bridge", run: bridge::run, first: 0 },
    Plugin { name: "firewall", run: firewall::run, first: 2 },
    Plugin { name: "flannel", run: flannel::run, first: 0 },
    Plugin { name: "host-local", run: host_local::run, first: 0 },
    Plugin { name: "loopback", run: loopback::run, first: 0 },
    Plugin { name: "portmap", run: portmap::run, first: 0 },
];

/// The versions of the specification that there are here.
const VERSIONS: &[&str] = &["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Of a configuration.
const INPUT_MAX_BYTES: u64 = 1 << 20;

/// What a call of a plugin came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// For its standard output.
    pub output: String,
    /// For its standard error.
    pub errors: String,
    pub failed: bool,
}

/// Is the plugin `name`: obeys the environment and the input.
pub fn run(name: &str, env: Vec<(String, String)>, input: &mut dyn Read) -> Answer {
    let Some(plugin) = PLUGINS.iter().find(|plugin| plugin.name == name) else {
        return failed(&Failure::from(stdx::Error::new(format!("no CNI plugin is called {name}"))));
    };
    let versions = VERSIONS.get(plugin.first..).unwrap_or_default();
    if env.iter().all(|(key, value)| key != "CNI_COMMAND" || value.is_empty()) {
        let about = format!(
            "CNI {name} plugin {}\nCNI protocol versions supported: {}\n",
            stdx::version::VERSION,
            versions.join(", ")
        );
        return Answer { errors: about, ..Answer::default() };
    }
    match answer(plugin, versions, env, input) {
        Ok(Some(tree)) => Answer { output: shown(&tree), ..Answer::default() },
        Ok(None) => Answer::default(),
        Err(failure) => failed(&failure),
    }
}

fn answer(
    plugin: &Plugin,
    versions: &[&str],
    env: Vec<(String, String)>,
    input: &mut dyn Read,
) -> Result<Option<Value>, Failure> {
    let mut call = Call::of_environment(env)?;
    if call.command == Command::Version {
        return Ok(Some(json!({"cniVersion": "1.1.0", "supportedVersions": versions})));
    }
    let mut bytes = Vec::new();
    let read = input.take(INPUT_MAX_BYTES + 1).read_to_end(&mut bytes);
    if let Err(error) = read {
        return Err(Failure::new(call::IO, format!("error reading from stdin: {error}")));
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > INPUT_MAX_BYTES {
        let why = format!("error reading from stdin: more than {INPUT_MAX_BYTES} bytes");
        return Err(Failure::new(call::IO, why));
    }
    call.read(bytes)?;
    call.check_version(versions)?;
    call.check_netns()?;
    let result = (plugin.run)(&call)?;
    let version = call.version();
    Ok(result.map(|result| result::shaped(&result, version)))
}

fn failed(failure: &Failure) -> Answer {
    let mut tree = json!({"code": failure.code, "msg": failure.message});
    if !failure.details.is_empty() {
        tree["details"] = failure.details.clone().into();
    }
    Answer { output: shown(&tree), errors: String::new(), failed: true }
}

fn shown(tree: &Value) -> String {
    format!("{tree:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a plugin answers without anything being there.
    fn asked(name: &str, env: &str, input: &str) -> String {
        let env = env.split_whitespace().filter_map(|pair| pair.split_once('='));
        let env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let answer = run(name, env, &mut input.as_bytes());
        let said = serde_json::from_str::<Value>(&answer.output).unwrap_or_default();
        format!(
            "{}{}{}",
            i32::from(answer.failed),
            if said.is_null() { "" } else { " " },
            match said {
                Value::Null => answer.errors,
                said => said.to_string(),
            }
        )
    }

    #[test]
    fn what_is_asked_is_checked_first() {
        const POD: &str = "CNI_CONTAINERID=a CNI_NETNS=/proc/none CNI_IFNAME=eth0 CNI_PATH=/none";
        let add = &format!("CNI_COMMAND=ADD {POD}");
        for (name, env, input, expected) in [
            (
                "loopback",
                "CNI_COMMAND=VERSION",
                "",
                r#"0 {"cniVersion":"1.1.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#,
            ),
            (
                "firewall",
                "CNI_COMMAND=VERSION",
                "",
                r#"0 {"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}"#,
            ),
            (
                "bridge",
                "CNI_COMMAND=ADD CNI_PATH=x",
                "",
                r#"1 {"code":4,"msg":"required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing"}"#,
            ),
            (
                "bridge",
                "CNI_COMMAND=DEL CNI_PATH=x",
                "",
                r#"1 {"code":4,"msg":"required env variables [CNI_CONTAINERID,CNI_IFNAME] missing"}"#,
            ),
            (
                "bridge",
                "CNI_COMMAND=PLAY",
                "{}",
                r#"1 {"code":4,"msg":"unknown CNI_COMMAND: PLAY"}"#,
            ),
            (
                "bridge",
                "CNI_COMMAND=ADD CNI_CONTAINERID=../x CNI_NETNS=x CNI_IFNAME=x CNI_PATH=x",
                "{}",
                r#"1 {"code":4,"details":"../x","msg":"invalid characters in containerID"}"#,
            ),
            (
                "bridge",
                "CNI_COMMAND=ADD CNI_CONTAINERID=x CNI_NETNS=x CNI_IFNAME=a/b CNI_PATH=x",
                "{}",
                r#"1 {"code":4,"msg":"interface name contains / or : or whitespace characters"}"#,
            ),
            (
                "bridge",
                "CNI_COMMAND=ADD CNI_CONTAINERID=x CNI_NETNS=x CNI_IFNAME=sixteen-letters-! CNI_PATH=x",
                "{}",
                r#"1 {"code":4,"details":"interface name should be less than 16 characters","msg":"interface name is too long"}"#,
            ),
            (
                "bridge",
                add,
                r#"{"cniVersion":"1.0.0"}"#,
                r#"1 {"code":7,"msg":"missing network name"}"#,
            ),
            (
                "bridge",
                add,
                r#"{"cniVersion":"1.0.0","name":"../../x"}"#,
                r#"1 {"code":7,"details":"../../x","msg":"invalid characters found in network name"}"#,
            ),
            (
                "bridge",
                add,
                r#"{"cniVersion":"0.2.0","name":"n"}"#,
                r#"1 {"code":1,"details":"config is \"0.2.0\", plugin supports [\"0.3.0\" \"0.3.1\" \"0.4.0\" \"1.0.0\" \"1.1.0\"]","msg":"incompatible CNI versions"}"#,
            ),
            (
                "bridge",
                &format!("CNI_COMMAND=CHECK {POD}"),
                r#"{"cniVersion":"0.3.1","name":"n"}"#,
                r#"1 {"code":1,"msg":"config version does not allow CHECK"}"#,
            ),
            (
                "host-local",
                "CNI_COMMAND=GC CNI_PATH=x",
                r#"{"cniVersion":"1.0.0","name":"n"}"#,
                r#"1 {"code":1,"msg":"config version does not allow GC"}"#,
            ),
            (
                "bridge",
                "CNI_COMMAND=STATUS CNI_PATH=x",
                r#"{"cniVersion":"1.1.0","name":"n"}"#,
                "0",
            ),
            (
                "portmap",
                add,
                r#"{"cniVersion":"1.0.0","name":"n"}"#,
                r#"1 {"code":999,"msg":"must be called as chained plugin"}"#,
            ),
        ] {
            assert_eq!(asked(name, env, input), expected, "{name} {env} {input}");
        }
        let deep = "[".repeat(100_000);
        assert!(asked("bridge", add, &deep).starts_with(r#"1 {"code":6,"msg":"error unmarshall"#));
        let long = " ".repeat(usize::try_from(INPUT_MAX_BYTES).unwrap() + 1);
        assert!(asked("bridge", add, &long).contains(r#""code":5"#));
        assert!(asked("bridge", "", "").starts_with("0CNI bridge plugin"));
    }
}
