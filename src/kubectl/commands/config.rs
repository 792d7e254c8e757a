//! `kubectl config`: looks at kubeconfig files and changes them.

use std::path::{Path, PathBuf};

use api::{Lens, LensMut, Value, json};
use stdx::Arrange;

use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{array, switch, switched_on, text};
use crate::kubeconfig::{self, LISTS};
use crate::options;
use crate::out;
use crate::print::tabs::Tabs;
use crate::print::{Form, Printer};

pub(crate) static COMMAND: Command = Command {
    name: "config",
    about: "Modify kubeconfig files.",
    usage: "SUBCOMMAND",
    subs: &[
        &VIEW,
        &SET_CLUSTER,
        &SET_CREDENTIALS,
        &SET_CONTEXT,
        &SET,
        &UNSET,
        &CURRENT,
        &USE,
        &GET_CONTEXTS,
        &GET_CLUSTERS,
        &GET_USERS,
        &DELETE_CLUSTER,
        &DELETE_CONTEXT,
        &DELETE_USER,
        &RENAME,
    ],
    ..BLANK
};

static VIEW: Command = Command {
    name: "view",
    about: "Display merged kubeconfig settings or a specified kubeconfig file.",
    usage: "[flags]",
    flags: &[
        options::PRINT,
        &[
            switch("flatten", "Put the contents of files in place of their names"),
            switched_on("merge", "Merge all files"),
            switch("minify", "Only what the current context uses"),
            switch("raw", "Show certificates and secrets"),
        ],
    ],
    run: Some(view),
    ..BLANK
};
static SET_CLUSTER: Command = Command {
    name: "set-cluster",
    about: "Set a cluster entry in kubeconfig.",
    usage: "NAME [--server=server] [--certificate-authority=path/to/certificate/authority] [--insecure-skip-tls-verify=true] [--tls-server-name=example.com]",
    flags: &[&[
        switch("embed-certs", "Put the contents of files in place of their names"),
        text("proxy-url", "", "Proxy of the cluster"),
    ]],
    run: Some(set_cluster),
    ..BLANK
};
static SET_CREDENTIALS: Command = Command {
    name: "set-credentials",
    about: "Set a user entry in kubeconfig.",
    usage: "NAME [--client-certificate=path/to/certfile] [--client-key=path/to/keyfile] [--token=bearer_token] [--username=basic_user] [--password=basic_password] [--exec-command=exec_command] [--exec-api-version=exec_api_version] [--exec-arg=arg] [--exec-env=key=value]",
    flags: &[&[
        switch("embed-certs", "Put the contents of files in place of their names"),
        text("exec-api-version", "", "API version of the exec credential plugin"),
        array("exec-arg", "Argument of the exec credential plugin"),
        text("exec-command", "", "Command of the exec credential plugin"),
        array("exec-env", "Variable of the exec credential plugin"),
    ]],
    run: Some(set_credentials),
    ..BLANK
};
static SET_CONTEXT: Command = Command {
    name: "set-context",
    about: "Set a context entry in kubeconfig.",
    usage: "[NAME | --current] [--cluster=cluster_nickname] [--user=user_nickname] [--namespace=namespace]",
    flags: &[&[switch("current", "Modify the current context")]],
    run: Some(set_context),
    ..BLANK
};
static SET: Command = Command {
    name: "set",
    about: "Set an individual value in a kubeconfig file.",
    usage: "PROPERTY_NAME PROPERTY_VALUE",
    flags: &[&[switch("set-raw-bytes", "The value is base64")]],
    run: Some(set),
    ..BLANK
};
static UNSET: Command = Command {
    name: "unset",
    about: "Unset an individual value in a kubeconfig file.",
    usage: "PROPERTY_NAME",
    run: Some(unset),
    ..BLANK
};
static CURRENT: Command = Command {
    name: "current-context",
    about: "Display the current-context.",
    run: Some(current),
    ..BLANK
};
static USE: Command = Command {
    name: "use-context",
    aliases: &["use"],
    about: "Set the current-context in a kubeconfig file.",
    usage: "CONTEXT_NAME",
    run: Some(use_context),
    ..BLANK
};
static GET_CONTEXTS: Command = Command {
    name: "get-contexts",
    about: "Display one or many contexts from the kubeconfig file.",
    usage: "[(-o|--output=)name)]",
    flags: &[&[
        switch("no-headers", "Do not print headers"),
        text("output", "", "name").short('o'),
    ]],
    run: Some(get_contexts),
    ..BLANK
};
static GET_CLUSTERS: Command = Command {
    name: "get-clusters",
    about: "Display clusters defined in the kubeconfig.",
    run: Some(|call| names(call, "clusters")),
    ..BLANK
};
static GET_USERS: Command = Command {
    name: "get-users",
    about: "Display users defined in the kubeconfig.",
    run: Some(|call| names(call, "users")),
    ..BLANK
};
static DELETE_CLUSTER: Command = Command {
    name: "delete-cluster",
    about: "Delete the specified cluster from the kubeconfig.",
    usage: "NAME",
    run: Some(|call| delete(call, "clusters", "cluster")),
    ..BLANK
};
static DELETE_CONTEXT: Command = Command {
    name: "delete-context",
    about: "Delete the specified context from the kubeconfig.",
    usage: "NAME",
    run: Some(|call| delete(call, "contexts", "context")),
    ..BLANK
};
static DELETE_USER: Command = Command {
    name: "delete-user",
    about: "Delete the specified user from the kubeconfig.",
    usage: "NAME",
    run: Some(|call| delete(call, "users", "user")),
    ..BLANK
};
static RENAME: Command = Command {
    name: "rename-context",
    about: "Rename a context from the kubeconfig file.",
    usage: "CONTEXT_NAME NEW_NAME",
    run: Some(rename),
    ..BLANK
};

/// The file that a change goes to: the one that has the entry, or the one for new entries.
fn file_of(call: &Call<'_>, list: &str, name: &str) -> Outcome<PathBuf> {
    let files = &call.config()?.files;
    for file in files {
        let has = kubeconfig::raw(file)?.list(list).iter().any(|entry| entry.str("name") == name);
        if has {
            return Ok(file.clone());
        }
    }
    default_file(call)
}

/// The file for what is in none.
fn default_file(call: &Call<'_>) -> Outcome<PathBuf> {
    let files = &call.config()?.files;
    let existing = files.iter().find(|file| rt::fs::metadata(file).is_ok());
    existing.or(files.last()).cloned().ok_or_else(|| "no kubeconfig file is named".into())
}

/// Changes a file.
fn edit(file: &Path, change: impl FnOnce(&mut Value) -> Outcome) -> Outcome {
    let mut tree = kubeconfig::raw(file)?;
    change(&mut tree)?;
    for (list, _) in LISTS {
        match tree.get_mut(list) {
            Some(Value::Array(entries)) if !entries.is_empty() => {
                entries.arrange_by(|a, b| a.str("name").cmp(b.str("name")));
            }
            _ => tree[list] = Value::Null,
        }
    }
    if let Some(parent) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        rt::fs::create_dir_all(parent, 0o755)?;
    }
    let mode = match rt::fs::metadata(file) {
        Ok(meta) => std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777,
        Err(_) => 0o600,
    };
    rt::fs::write_atomic(file, wire::yaml_text::text(&tree).as_bytes(), mode)?;
    Ok(())
}

/// The entry of a list, made if it is missing; true if it was there.
fn entry<'a>(tree: &'a mut Value, list: &str, name: &str) -> (&'a mut Value, bool) {
    let single = LISTS.iter().find(|(own, _)| *own == list).map_or("", |(_, single)| *single);
    let at = tree.list(list).iter().position(|entry| entry.str("name") == name);
    let entries = tree.list_mut(list);
    let idx = at.unwrap_or_else(|| {
        entries.push(json!({"name": name, single: {}}));
        entries.len() - 1
    });
    let slot = &mut entries[idx][single];
    if !slot.is_object() {
        *slot = json!({});
    }
    (slot, at.is_some())
}

fn one_arg<'a>(call: &'a Call<'_>) -> Outcome<&'a str> {
    match call.args() {
        [one] => Ok(one),
        _ => unexpected(call),
    }
}

/// Shows how the command is used, and refuses.
fn unexpected<T>(call: &Call<'_>) -> Outcome<T> {
    out::print(&crate::help::text(call.command, &call.path));
    failed(format!("Unexpected args: {}", go_list(call.args())))
}

fn go_list(args: &[String]) -> String {
    format!("[{}]", args.join(" "))
}

fn view(call: &Call<'_>) -> Outcome {
    if !call.args().is_empty() {
        return call.usage(&format!("unexpected arguments: {}", go_list(call.args())));
    }
    let config = call.config()?;
    let mut tree = if call.is("flatten") { config.tree.clone() } else { config.written()? };
    if call.is("minify") {
        minify(call, &mut tree)?;
    }
    let is_raw = call.is("raw") || call.is("flatten");
    for (list, single) in LISTS {
        let Some(Value::Array(entries)) = tree.get_mut(list) else { continue };
        entries.arrange_by(|a, b| a.str("name").cmp(b.str("name")));
        for entry in entries {
            if call.is("flatten") {
                flatten(&mut entry[single])?;
            }
            if !is_raw || !call.is("raw") {
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
        if let Some(Value::Array(entries)) = tree.get_mut(list) {
            entries.retain(|entry| entry.str("name") == name);
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

fn set_cluster(call: &Call<'_>) -> Outcome {
    let name = one_arg(call)?;
    let file = file_of(call, "clusters", name)?;
    edit(&file, |tree| {
        let (cluster, _) = entry(tree, "clusters", name);
        for (flag, field) in [
            ("server", "server"),
            ("tls-server-name", "tls-server-name"),
            ("proxy-url", "proxy-url"),
        ] {
            if call.changed(flag) {
                put(cluster, field, call.text(flag).into());
            }
        }
        if call.changed("insecure-skip-tls-verify") {
            let is_on = call.is("insecure-skip-tls-verify");
            put(cluster, "insecure-skip-tls-verify", if is_on { true.into() } else { Value::Null });
            if is_on {
                put(cluster, "certificate-authority", Value::Null);
                put(cluster, "certificate-authority-data", Value::Null);
            }
        }
        put_file(call, &file, cluster, "certificate-authority")?;
        if call.changed("certificate-authority") {
            put(cluster, "insecure-skip-tls-verify", Value::Null);
        }
        Ok(())
    })?;
    out::line(&format!("Cluster {name:?} set."));
    Ok(())
}

/// Sets a field, or takes it out.
fn put(entry: &mut Value, field: &str, value: Value) {
    let Some(map) = entry.as_object_mut() else { return };
    match value {
        Value::Null => map.remove(field),
        Value::String(text) if text.is_empty() => map.remove(field),
        value => map.insert(field.to_owned(), value),
    };
}

/// Sets a file's name, or its content with `--embed-certs`.
fn put_file(call: &Call<'_>, file: &Path, entry: &mut Value, field: &str) -> Outcome {
    if !call.changed(field) {
        return Ok(());
    }
    let path = call.text(field);
    let data = format!("{field}-data");
    if !call.is("embed-certs") {
        put(entry, field, relative(path, file).into());
        put(entry, &data, Value::Null);
        return Ok(());
    }
    let bytes = rt::fs::read_within(path, 1 << 20).map_err(|_| {
        format!("could not read {field} data from {path}: open {path}: no such file or directory")
    })?;
    put(entry, field, Value::Null);
    put(entry, &data, wire::base64::encode(&bytes).into());
    Ok(())
}

/// A path as it is seen from the directory of a kubeconfig.
fn relative(path: &str, file: &Path) -> String {
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (path, base) = (whole(Path::new(path)), whole(file));
    let base = base.parent().unwrap_or(Path::new("/"));
    let common = path.components().zip(base.components()).take_while(|(a, b)| a == b).count();
    let mut shown = PathBuf::new();
    shown.extend(base.components().skip(common).map(|_| ".."));
    shown.extend(path.components().skip(common));
    shown.display().to_string()
}

fn set_credentials(call: &Call<'_>) -> Outcome {
    let name = one_arg(call)?;
    if !call.text("token").is_empty() && !call.text("username").is_empty() {
        return failed(
            "you cannot specify more than one authentication method at the same time: --token or --username/--password",
        );
    }
    let file = file_of(call, "users", name)?;
    edit(&file, |tree| {
        let (user, _) = entry(tree, "users", name);
        for field in ["token", "username", "password"] {
            if call.changed(field) {
                put(user, field, call.text(field).into());
            }
        }
        if !call.text("token").is_empty() {
            put(user, "username", Value::Null);
            put(user, "password", Value::Null);
            put(user, "tokenFile", Value::Null);
        } else if !call.text("username").is_empty() {
            put(user, "token", Value::Null);
        }
        put_file(call, &file, user, "client-certificate")?;
        put_file(call, &file, user, "client-key")?;
        if call.changed("exec-command") {
            let mut exec = user.get("exec").cloned().unwrap_or(json!({}));
            put(&mut exec, "command", call.text("exec-command").into());
            put(&mut exec, "apiVersion", call.text("exec-api-version").into());
            exec["args"] = Value::from(call.array("exec-arg"));
            let pairs = call.array("exec-env");
            let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
            exec["env"] =
                pairs.map(|(name, value)| json!({"name": name, "value": value})).collect();
            exec["provideClusterInfo"] = false.into();
            put(user, "exec", exec);
        }
        Ok(())
    })?;
    out::line(&format!("User {name:?} set."));
    Ok(())
}

fn set_context(call: &Call<'_>) -> Outcome {
    let name = match (call.args(), call.is("current")) {
        ([], true) => call.config()?.tree.str("current-context").to_owned(),
        ([one], false) => one.clone(),
        (args, true) => {
            return call.usage(&format!(
                "you cannot specify both a context name and --current: {}",
                go_list(args)
            ));
        }
        ([], false) => return failed("you must specify a non-empty context name or --current"),
        (_, false) => return unexpected(call),
    };
    if name.is_empty() {
        return failed("no current context is set");
    }
    let file = file_of(call, "contexts", &name)?;
    let mut existed = false;
    edit(&file, |tree| {
        let (context, was_there) = entry(tree, "contexts", &name);
        existed = was_there;
        for field in ["cluster", "namespace", "user"] {
            if call.changed(field) {
                put(context, field, call.text(field).into());
            }
        }
        context.set_default("cluster", "");
        context.set_default("user", "");
        Ok(())
    })?;
    let verb = if existed { "modified" } else { "created" };
    out::line(&format!("Context {name:?} {verb}."));
    Ok(())
}

/// The place that `clusters.x.server` names, in the tree of a file.
fn place(path: &str) -> Outcome<(String, String, Vec<String>)> {
    let parts: Vec<&str> = path.split('.').collect();
    let list = parts[0];
    let known = ["current-context", "preferences", "kind", "apiVersion", "extensions"];
    if !LISTS.iter().any(|(own, _)| *own == list) {
        if !known.contains(&list) {
            return failed(format!("unable to parse {path} after [] at api.Config"));
        }
        return Ok((String::new(), String::new(), parts.into_iter().map(str::to_owned).collect()));
    }
    // Names may have dots in them: the field is what stands behind the last.
    let (Some(field), true) = (parts.last(), parts.len() >= 3) else {
        return failed(format!("unable to parse path {path:?}"));
    };
    Ok((list.to_owned(), parts[1..parts.len() - 1].join("."), vec![(*field).to_owned()]))
}

fn set(call: &Call<'_>) -> Outcome {
    let [path, value] = call.args() else { return unexpected(call) };
    let (list, name, fields) = place(path)?;
    let file = if list.is_empty() { default_file(call)? } else { file_of(call, &list, &name)? };
    edit(&file, |tree| {
        let field = fields.join(".");
        let is_truth = matches!(field.as_str(), "insecure-skip-tls-verify" | "disable-compression");
        let is_data = field.ends_with("-data");
        let value: Value = match value.as_str() {
            "true" if is_truth => true.into(),
            "false" if is_truth => false.into(),
            _ if is_truth => {
                return failed(format!("strconv.ParseBool: parsing {value:?}: invalid syntax"));
            }
            text if is_data && !call.is("set-raw-bytes") => {
                wire::base64::encode(text.as_bytes()).into()
            }
            text => text.into(),
        };
        match list.is_empty() {
            true => tree.set(&field, value),
            false => put(entry(tree, &list, &name).0, &field, value),
        }
        Ok(())
    })?;
    out::line(&format!("Property {path:?} set."));
    Ok(())
}

fn unset(call: &Call<'_>) -> Outcome {
    let path = one_arg(call)?;
    let whole = path.split_once('.').filter(|(list, _)| LISTS.iter().any(|(own, _)| own == list));
    if let Some((list, name)) = whole
        && call.config()?.named(list, name).is_some()
    {
        let file = file_of(call, list, name)?;
        edit(&file, |tree| {
            tree.list_mut(list).retain(|entry| entry.str("name") != name);
            Ok(())
        })?;
    } else {
        let (list, name, fields) = match LISTS.iter().any(|(own, _)| *own == path) {
            true => (String::new(), String::new(), vec![path.to_owned()]),
            false => place(path)?,
        };
        let file = if list.is_empty() { default_file(call)? } else { file_of(call, &list, &name)? };
        if !list.is_empty() && call.config()?.named(&list, &name).is_none() {
            return failed(format!("current map key `{name}` is invalid"));
        }
        edit(&file, |tree| {
            let field = fields.join(".");
            match (list.is_empty(), field.as_str()) {
                (true, "current-context") => tree.set("current-context", ""),
                (true, field) => drop(tree.remove(field)),
                (false, field) => put(entry(tree, &list, &name).0, field, Value::Null),
            }
            Ok(())
        })?;
    }
    out::line(&format!("Property {path:?} unset."));
    Ok(())
}

fn current(call: &Call<'_>) -> Outcome {
    match call.config()?.tree.str("current-context") {
        "" => failed("current-context is not set"),
        name => {
            out::line(name);
            Ok(())
        }
    }
}

fn use_context(call: &Call<'_>) -> Outcome {
    let name = one_arg(call)?;
    if call.config()?.named("contexts", name).is_none() {
        return failed(format!("no context exists with the name: {name:?}"));
    }
    let files = &call.config()?.files;
    let has = |file: &&PathBuf| {
        kubeconfig::raw(file).is_ok_and(|tree| !tree.str("current-context").is_empty())
    };
    let file = match files.iter().find(has) {
        Some(file) => file.clone(),
        None => default_file(call)?,
    };
    edit(&file, |tree| {
        tree.set("current-context", name);
        Ok(())
    })?;
    out::line(&format!("Switched to context {name:?}."));
    Ok(())
}

fn get_contexts(call: &Call<'_>) -> Outcome {
    let config = call.config()?;
    let is_names = match call.text("output") {
        "" => false,
        "name" => true,
        other => return failed(format!("output must be one of '' or 'name': {other}")),
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

fn names(call: &Call<'_>, list: &str) -> Outcome {
    let mut names: Vec<&str> =
        call.config()?.tree.list(list).iter().map(|entry| entry.str("name")).collect();
    names.arrange();
    out::line("NAME");
    for name in names {
        out::line(name);
    }
    Ok(())
}

fn delete(call: &Call<'_>, list: &str, what: &str) -> Outcome {
    let name = one_arg(call)?;
    let file = file_of(call, list, name)?;
    let shown = file.display();
    if call.config()?.named(list, name).is_none() {
        return failed(format!("cannot delete {what} {name}, not in {shown}"));
    }
    if list == "contexts" && call.config()?.tree.str("current-context") == name {
        out::tell(
            "warning: this removed your active context, use \"kubectl config use-context\" to select a different one",
        );
    }
    edit(&file, |tree| {
        tree.list_mut(list).retain(|entry| entry.str("name") != name);
        Ok(())
    })?;
    out::line(&format!("deleted {what} {name} from {shown}"));
    Ok(())
}

fn rename(call: &Call<'_>) -> Outcome {
    let [old, new] = call.args() else { return unexpected(call) };
    let config = call.config()?;
    if config.named("contexts", old).is_none() {
        let file = default_file(call)?;
        return failed(format!(
            "cannot rename the context {old:?}, it's not in {}",
            file.display()
        ));
    }
    if config.named("contexts", new).is_some() {
        let file = default_file(call)?;
        return failed(format!(
            "cannot rename the context {old:?}, the context {new:?} already exists in {}",
            file.display()
        ));
    }
    let file = file_of(call, "contexts", old)?;
    edit(&file, |tree| {
        for entry in tree.list_mut("contexts").iter_mut().filter(|entry| entry.str("name") == old) {
            entry["name"] = new.as_str().into();
        }
        if tree.str("current-context") == old {
            tree.set("current-context", new.as_str());
        }
        Ok(())
    })?;
    out::line(&format!("Context {old:?} renamed to {new:?}."));
    Ok(())
}
