//! `kubectl config`: looks at kubeconfig files and changes them. Here are its commands, and how a file is changed.

mod change;
mod property;
mod show;

use std::path::{Path, PathBuf};

use api::{Lens, LensMut, Value, json};
use stdx::Arrange;

use crate::call::{BLANK, Call, Command};
use crate::failure::{Outcome, failed};
use crate::flags::{array, list, switch, switched_on, text};
use crate::kubeconfig::{self, LISTS};
use crate::{options, out};

pub(crate) static COMMAND: Command = Command {
    name: "config",
    short: "Modify kubeconfig files",
    about: "Modify kubeconfig files using subcommands like \"kubectl config set current-context my-context\".\n\n The loading order follows these rules:\n\n  1.  If the --kubeconfig flag is set, then only that file is loaded. The flag may only be set once and no merging takes place.\n  2.  If $KUBECONFIG environment variable is set, then it is used as a list of paths (normal path delimiting rules for your system). These paths are merged. When a value is modified, it is modified in the file that defines the stanza. When a value is created, it is created in the first file that exists. If no files in the chain exist, then it creates the last file in the list.\n  3.  Otherwise, ${HOME}/.kube/config is used and no merging takes place.",
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
    run: Some(show::view),
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
    run: Some(change::set_cluster),
    ..BLANK
};
static SET_CREDENTIALS: Command = Command {
    name: "set-credentials",
    about: "Set a user entry in kubeconfig.",
    usage: "NAME [--client-certificate=path/to/certfile] [--client-key=path/to/keyfile] [--token=bearer_token] [--username=basic_user] [--password=basic_password] [--exec-command=exec_command] [--exec-api-version=exec_api_version] [--exec-arg=arg] [--exec-env=key=value]",
    flags: &[&[
        switch("embed-certs", "Put the contents of files in place of their names"),
        text("exec-api-version", "", "API version of the exec credential plugin"),
        list("exec-arg", "Arguments of the exec credential plugin"),
        text("exec-command", "", "Command of the exec credential plugin"),
        array(
            "exec-env",
            "Variable of the exec credential plugin, or its name and - to take it away",
        ),
        text("exec-interactive-mode", "", "Never, IfAvailable or Always"),
        switch("exec-provide-cluster-info", "The plugin is told of the cluster"),
    ]],
    run: Some(change::set_credentials),
    ..BLANK
};
static SET_CONTEXT: Command = Command {
    name: "set-context",
    about: "Set a context entry in kubeconfig.",
    usage: "[NAME | --current] [--cluster=cluster_nickname] [--user=user_nickname] [--namespace=namespace]",
    flags: &[&[switch("current", "Modify the current context")]],
    run: Some(change::set_context),
    ..BLANK
};
static SET: Command = Command {
    name: "set",
    about: "Set an individual value in a kubeconfig file.",
    usage: "PROPERTY_NAME PROPERTY_VALUE",
    flags: &[&[switch("set-raw-bytes", "The value of a binary field is not base64 yet")]],
    run: Some(property::set),
    ..BLANK
};
static UNSET: Command = Command {
    name: "unset",
    about: "Unset an individual value in a kubeconfig file.",
    usage: "PROPERTY_NAME",
    run: Some(property::unset),
    ..BLANK
};
static CURRENT: Command = Command {
    name: "current-context",
    about: "Display the current-context.",
    run: Some(show::current),
    ..BLANK
};
static USE: Command = Command {
    name: "use-context",
    aliases: &["use"],
    about: "Set the current-context in a kubeconfig file.",
    examples: "  # Use the context for the minikube cluster\n  kubectl config use-context minikube",
    usage: "CONTEXT_NAME",
    run: Some(change::use_context),
    ..BLANK
};
static GET_CONTEXTS: Command = Command {
    name: "get-contexts",
    about: "Display one or many contexts from the kubeconfig file.",
    short: "Describe one or many contexts",
    usage: "[(-o|--output=)name)]",
    flags: &[&[
        switch("no-headers", "Do not print headers"),
        text("output", "", "name").short('o'),
    ]],
    run: Some(show::get_contexts),
    ..BLANK
};
static GET_CLUSTERS: Command = Command {
    name: "get-clusters",
    about: "Display clusters defined in the kubeconfig.",
    run: Some(|call| show::names(call, "clusters")),
    ..BLANK
};
static GET_USERS: Command = Command {
    name: "get-users",
    about: "Display users defined in the kubeconfig.",
    run: Some(|call| show::names(call, "users")),
    ..BLANK
};
static DELETE_CLUSTER: Command = Command {
    name: "delete-cluster",
    about: "Delete the specified cluster from the kubeconfig.",
    usage: "NAME",
    run: Some(|call| change::delete(call, "clusters", "cluster")),
    ..BLANK
};
static DELETE_CONTEXT: Command = Command {
    name: "delete-context",
    about: "Delete the specified context from the kubeconfig.",
    usage: "NAME",
    run: Some(|call| change::delete(call, "contexts", "context")),
    ..BLANK
};
static DELETE_USER: Command = Command {
    name: "delete-user",
    about: "Delete the specified user from the kubeconfig.",
    usage: "NAME",
    run: Some(|call| change::delete(call, "users", "user")),
    ..BLANK
};
static RENAME: Command = Command {
    name: "rename-context",
    about: "Rename a context from the kubeconfig file.",
    usage: "CONTEXT_NAME NEW_NAME",
    run: Some(change::rename),
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

/// Sets a field of an entry, or takes it out.
fn put(entry: &mut Value, field: &str, value: Value) {
    let Some(map) = entry.as_object_mut() else { return };
    match value {
        Value::Null => map.remove(field),
        Value::String(text) if text.is_empty() => map.remove(field),
        value => map.insert(field.to_owned(), value),
    };
}
