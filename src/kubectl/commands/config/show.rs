//! What kubeconfig files hold: `view`, `current-context`, `get-contexts`, `get-clusters` and `get-users`.

use api::{Lens, Value};
use stdx::Arrange;

use super::go_list;
use crate::call::Call;
use crate::failure::{Failure, Outcome, failed};
use crate::kubeconfig::LISTS;
use crate::out;
use crate::print::tabs::Tabs;
use crate::print::{Form, Printer};

pub(super) fn view(call: &Call<'_>) -> Outcome {
    if !call.args().is_empty() {
        return call.usage(&format!("unexpected arguments: {}", go_list(call.args())));
    }
    if !call.is("merge") && call.text("kubeconfig").is_empty() {
        return failed("if merge==false a precise file must be specified");
    }
    let config = call.config()?;
    let mut tree = if call.is("flatten") { config.tree.clone() } else { config.written()? };
    if call.is("minify") {
        minify(call, &mut tree)?;
    }
    for (list, single) in LISTS {
        let Some(Value::Array(entries)) = tree.get_mut(list) else { continue };
        entries.arrange_by(|a, b| a.str("name").cmp(b.str("name")));
        for entry in entries {
            if call.is("flatten") {
                flatten(&mut entry[single])?;
            } else if !call.is("raw") {
                redact(&mut entry[single]);
            }
        }
    }
    let printer = Printer::of(call, false)?.unwrap_or(Printer::plain(Form::Yaml));
    printer.print(&tree)
}

fn minify(call: &Call<'_>, tree: &mut Value) -> Outcome {
    let config = call.config()?;
    let name = config.context_name(call).to_owned();
    if name.is_empty() {
        return failed("current-context must exist in order to minify");
    }
    let Some(context) = config.named("contexts", &name) else {
        return failed(format!("cannot locate context {name}"));
    };
    let kept = [
        ("contexts", name.clone()),
        ("clusters", context.str("cluster").to_owned()),
        ("users", context.str("user").to_owned()),
    ];
    for (list, name) in kept {
        if !name.is_empty() && config.named(list, &name).is_none() {
            return failed(format!("cannot locate {} {name}", list.trim_end_matches('s')));
        }
        if let Some(Value::Array(entries)) = tree.get_mut(list) {
            entries.retain(|entry| entry.str("name") == name);
            if entries.is_empty() {
                tree[list] = Value::Null;
            }
        }
    }
    tree["current-context"] = name.into();
    Ok(())
}

/// Files' contents in place of their names.
fn flatten(entry: &mut Value) -> Outcome {
    for field in ["certificate-authority", "client-certificate", "client-key"] {
        let path = entry.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        if path.is_empty() {
            continue;
        }
        let bytes = rt::fs::read_within(&path, 1 << 20)
            .map_err(|_| format!("open {path}: no such file or directory"))?;
        if let Some(map) = entry.as_object_mut() {
            map.remove(field);
            map.insert(format!("{field}-data"), wire::base64::encode(&bytes).into());
        }
    }
    Ok(())
}

fn redact(entry: &mut Value) {
    let Some(map) = entry.as_object_mut() else { return };
    for (key, value) in map.iter_mut() {
        match key.as_str() {
            "certificate-authority-data" | "client-certificate-data" | "client-key-data" => {
                *value = "DATA+OMITTED".into();
            }
            "token" | "password" => *value = "REDACTED".into(),
            _ => {}
        }
    }
}

pub(super) fn current(call: &Call<'_>) -> Outcome {
    match call.config()?.tree.str("current-context") {
        "" => failed("current-context is not set"),
        name => {
            out::line(name);
            Ok(())
        }
    }
}

pub(super) fn get_contexts(call: &Call<'_>) -> Outcome {
    let config = call.config()?;
    let is_names = match call.text("output") {
        "" => false,
        "name" => true,
        other => {
            return failed(format!(
                "--output {other} is not available in kubectl config get-contexts; resetting to default output format"
            ));
        }
    };
    let mut names: Vec<String> = match call.args() {
        [] => {
            config.tree.list("contexts").iter().map(|entry| entry.str("name").to_owned()).collect()
        }
        args => args.to_vec(),
    };
    names.arrange();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut failures = Vec::new();
    if !is_names && !call.is("no-headers") {
        let header = ["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"];
        rows.push(header.map(str::to_owned).to_vec());
    }
    for name in names {
        let Some(context) = config.named("contexts", &name) else {
            failures.push(Failure::Message(format!("context {name} not found")));
            continue;
        };
        if is_names {
            rows.push(vec![name]);
            continue;
        }
        let mark = if config.tree.str("current-context") == name { "*" } else { "" };
        let fields = ["cluster", "user", "namespace"].map(|field| context.str(field).to_owned());
        rows.push([vec![mark.to_owned(), name.clone()], fields.to_vec()].concat());
    }
    out::print(&Tabs::new().format(&rows));
    Failure::all(failures)
}

pub(super) fn names(call: &Call<'_>, list: &str) -> Outcome {
    let mut names: Vec<&str> =
        call.config()?.tree.list(list).iter().map(|entry| entry.str("name")).collect();
    names.arrange();
    out::line("NAME");
    for name in names {
        out::line(name);
    }
    Ok(())
}
