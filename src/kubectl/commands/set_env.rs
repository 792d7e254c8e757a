//! `kubectl set env`

use api::pod::fields;
use api::{Lens, LensMut, Value, json};
use stdx::{Arrange, OrdMap};

use super::set::{COMMON, containers, each, infos, is_like, pod_spec};
use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{array, list, switch, switched_on, text};
use crate::select::Info;
use crate::{options, out};

pub(super) static ENV: Command = Command {
    name: "env",
    about: "Update environment variables on a pod template.",
    usage: "RESOURCE/NAME KEY_1=VAL_1 ... KEY_N=VAL_N",
    flags: &[
        COMMON[0],
        COMMON[1],
        COMMON[2],
        COMMON[3],
        COMMON[4],
        COMMON[5],
        options::SELECTOR,
        &[
            text("containers", "*", "Names of containers, with *").short('c'),
            array("env", "A variable, as KEY=value").short('e'),
            text("from", "", "ConfigMap or Secret to take variables from"),
            list("keys", "Only these keys of --from"),
            switch("list", "Show the variables"),
            switched_on("overwrite", "Existing variables may be changed"),
            text("prefix", "", "Before each name of --from"),
            switch("resolve", "Show what the variables lead to"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

/// A variable to set; `None` to take it away.
type Change = (String, Option<Value>);

fn run(call: &Call<'_>) -> Outcome {
    let (mut names, mut pairs): (Vec<String>, Vec<String>) = (Vec::new(), call.array("env"));
    for arg in call.args() {
        if arg.contains('=') || arg.ends_with('-') && arg.len() > 1 && !names.is_empty() {
            pairs.push(arg.clone());
        } else {
            names.push(arg.clone());
        }
    }
    if names.is_empty() && !call.has_files() {
        return failed(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        );
    }
    let mut changes: Vec<Change> = Vec::new();
    for pair in &pairs {
        match pair.split_once('=') {
            Some((name, value)) => {
                check_name(name)?;
                if pairs.iter().any(|other| other.strip_suffix('-') == Some(name)) {
                    return failed(
                        "can not both modify and remove the same environment variable in the same command",
                    );
                }
                changes.push((name.to_owned(), Some(json!({"name": name, "value": value}))))
            }
            None => changes.push((pair.trim_end_matches('-').to_owned(), None)),
        }
    }
    if !call.text("from").is_empty() {
        changes.extend(from(call)?);
    }
    let is_list = call.is("list");
    let found = infos(call, &names)?;
    if is_list {
        // As upstream: of what has no pods nothing is told.
        let has_pods = |info: &Info| !pod_spec(&info.resource.kind).is_empty();
        for mut info in found.into_iter().filter(has_pods) {
            show(call, &mut info)?;
        }
        return Ok(());
    }
    let wanted = call.text("containers");
    each(call, found, "env updated", &|info| {
        let own = info.name.clone();
        let kind = info.resource.kind.clone();
        let mut is_found = false;
        let mut is_changed = false;
        for container in containers(info, true)? {
            if !is_like(wanted, container.str("name")) {
                continue;
            }
            is_found = true;
            is_changed |= change(call, container, &changes)?;
        }
        match is_found {
            true => Ok(is_changed),
            false => {
                out::tell(&format!(
                    "Warning: {kind}/{own} does not have any containers matching {wanted:?}"
                ));
                Ok(false)
            }
        }
    })
}

fn check_name(name: &str) -> Outcome {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match !name.is_empty()
        && name.chars().all(fits)
        && !name.starts_with(|c: char| c.is_ascii_digit())
    {
        true => Ok(()),
        false => failed(format!(
            "{name:?} is not a valid key name: a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '[-._a-zA-Z][-._a-zA-Z0-9]*')"
        )),
    }
}

fn change(call: &Call<'_>, container: &mut Value, changes: &[Change]) -> Outcome<bool> {
    let before = container.at("env").clone();
    let env = container.list_mut("env");
    for (name, value) in changes {
        let at = env.iter().position(|own| own.str("name") == name);
        match (at, value) {
            (Some(at), None) => drop(env.remove(at)),
            (Some(at), Some(value)) => {
                if !call.is("overwrite") && env[at] != *value {
                    return failed(format!(
                        "'{name}' already has a value ({}), and --overwrite is false",
                        env[at].str("value")
                    ));
                }
                env[at] = value.clone();
            }
            (None, Some(value)) => env.push(value.clone()),
            (None, None) => {}
        }
    }
    if env.is_empty() {
        container.remove("env");
    }
    Ok(before != *container.at("env"))
}

/// The variables of a ConfigMap or Secret.
fn from(call: &Call<'_>) -> Outcome<Vec<Change>> {
    let word = call.text("from");
    let Some((kind, name)) = word.split_once('/') else {
        call.mapper()?.find(call.rest()?, word)?;
        return failed("all resources in --from must be specified as <resource>/<name>");
    };
    let resource = call.mapper()?.find(call.rest()?, kind)?;
    let (namespace, _) = call.namespace()?;
    let object = call.rest()?.get(&resource.path(&namespace, name))?;
    let reference = match resource.kind.as_str() {
        "ConfigMap" => "configMapKeyRef",
        "Secret" => "secretKeyRef",
        _ => return failed("unsupported resource specified in --from"),
    };
    let keys = call.list("keys");
    let mut changes = Vec::new();
    for key in object.at("data").as_object().into_iter().flat_map(|map| map.keys()) {
        if !keys.is_empty() && !keys.contains(key) {
            continue;
        }
        let shown: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        if shown != *key {
            out::tell(&format!("Warning: key {key} transferred to {shown}"));
        }
        let whole = format!("{}{shown}", call.text("prefix"));
        let mut source = json!({});
        source[reference] = json!({"key": key, "name": name});
        changes.push((whole.clone(), Some(json!({"name": whole, "valueFrom": source}))));
    }
    Ok(changes)
}

/// Prints the variables of an object's containers, and says what `--resolve` did not find.
fn show(call: &Call<'_>, info: &mut Info) -> Outcome {
    let (kind, own) = (info.resource.kind.clone(), info.name.clone());
    let object = info.object.clone();
    let wanted = call.text("containers");
    for container in containers(info, true)? {
        let name = container.str("name");
        if !is_like(wanted, name) {
            continue;
        }
        out::line(&format!("# {kind} {own}, container {name}"));
        let mut missing: OrdMap<String, Vec<&str>> = OrdMap::new();
        for entry in container.list("env") {
            let variable = entry.str("name");
            let source = entry.at("valueFrom");
            if !source.is_object() {
                out::line(&format!("{variable}={}", entry.str("value")));
                continue;
            }
            if call.is("resolve") {
                match resolved(call, source, &object, container) {
                    Ok(value) => {
                        out::line(&format!("{variable}={value}"));
                        continue;
                    }
                    Err(failure) => {
                        missing.entry(failure.text()).or_default().push(variable);
                    }
                }
            }
            out::line(&format!("# {variable} from {}", told(source)));
        }
        let failures = missing.into_iter().map(|(why, mut variables)| {
            variables.arrange();
            format!("error retrieving reference for {}: {why}", variables.join(", "))
        });
        let mut failures: Vec<String> = failures.collect();
        failures.arrange();
        if !failures.is_empty() {
            out::tell(&failures.join("\n"));
        }
    }
    Ok(())
}

/// Where a value comes from.
fn told(source: &Value) -> String {
    let Some((kind, it)) = source.as_object().and_then(|map| map.iter().next()) else {
        return "invalid valueFrom".to_owned();
    };
    match kind.as_str() {
        "secretKeyRef" => format!("secret {}, key {}", it.str("name"), it.str("key")),
        "configMapKeyRef" => format!("configmap {}, key {}", it.str("name"), it.str("key")),
        "fieldRef" => format!("field path {}", it.str("fieldPath")),
        "resourceFieldRef" => {
            let container = it.str("containerName");
            let slash = if container.is_empty() { "" } else { "/" };
            format!("resource field {container}{slash}{}", it.str("resource"))
        }
        _ => "invalid valueFrom".to_owned(),
    }
}

/// What a source leads to now.
fn resolved(call: &Call<'_>, source: &Value, object: &Value, container: &Value) -> Outcome<String> {
    let Some((kind, it)) = source.as_object().and_then(|map| map.iter().next()) else {
        return failed("invalid valueFrom");
    };
    let context = fields::FieldContext::default();
    match kind.as_str() {
        "secretKeyRef" => of_key(call, "secret", "secrets", it),
        "configMapKeyRef" => of_key(call, "config map", "configmaps", it),
        // As upstream: only of what every object has.
        "fieldRef" if !it.str("fieldPath").starts_with("metadata.") => {
            failed(format!("unsupported fieldPath: {}", it.str("fieldPath")))
        }
        "fieldRef" => {
            fields::field(object, it.str("fieldPath"), &context).map_err(Failure::Message)
        }
        "resourceFieldRef" => {
            fields::resource(object, container, it, &context).map_err(Failure::Message)
        }
        _ => failed("invalid valueFrom"),
    }
}

/// The value of a key of a ConfigMap or Secret.
fn of_key(call: &Call<'_>, shown: &str, plural: &str, it: &Value) -> Outcome<String> {
    let resource = call.mapper()?.find(call.rest()?, plural)?;
    let (namespace, _) = call.namespace()?;
    let (name, key) = (it.str("name"), it.str("key"));
    let object = call.rest()?.get(&resource.path(&namespace, name))?;
    let Some(value) = object.entry("data", key) else {
        return failed(format!("key {key} not found in {shown} {name}"));
    };
    match plural {
        "secrets" => {
            let bytes = wire::base64::decode(value).unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => Ok(value.to_owned()),
    }
}
