//! Entries of kubeconfig files: made, changed, renamed, chosen and deleted.

use std::path::{Path, PathBuf};

use api::{Lens, LensMut, Value, json};

use super::{default_file, edit, entry, file_of, one_arg, put, unexpected};
use crate::call::Call;
use crate::failure::{Outcome, failed};
use crate::{help, kubeconfig, out};

pub(super) fn set_cluster(call: &Call<'_>) -> Outcome {
    let name = one_arg(call)?;
    let has_authority = !call.text("certificate-authority").is_empty();
    if call.is("insecure-skip-tls-verify") && has_authority {
        return failed(
            "you cannot specify a certificate authority and insecure mode at the same time",
        );
    }
    if call.is("embed-certs") && !has_authority {
        return failed("you must specify a --certificate-authority to embed");
    }
    let file = file_of(call, "clusters", name)?;
    edit(&file, |tree| {
        let (cluster, _) = entry(tree, "clusters", name);
        if call.changed("server") {
            put(cluster, "tls-server-name", Value::Null);
        }
        for field in ["server", "tls-server-name", "proxy-url"] {
            if call.changed(field) {
                put(cluster, field, call.text(field).into());
            }
        }
        // As upstream: whoever does not say it again is checked from now on.
        let is_insecure = call.is("insecure-skip-tls-verify");
        put(
            cluster,
            "insecure-skip-tls-verify",
            if is_insecure { true.into() } else { Value::Null },
        );
        if is_insecure {
            put(cluster, "certificate-authority", Value::Null);
            put(cluster, "certificate-authority-data", Value::Null);
        }
        put_file(call, &file, cluster, "certificate-authority")?;
        cluster.set_default("server", "");
        Ok(())
    })?;
    out::line(&format!("Cluster {name:?} set."));
    Ok(())
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
        format!("could not stat {field} file {path}: stat {path}: no such file or directory")
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

pub(super) fn set_credentials(call: &Call<'_>) -> Outcome {
    let [name] = call.args() else {
        out::print(&help::text(call.command, &call.path));
        return failed(format!("unexpected args: {}", super::go_list(call.args())));
    };
    if !call.text("token").is_empty() && !call.text("username").is_empty() {
        return failed(
            "you cannot specify more than one authentication method at the same time: --token, --username/--password",
        );
    }
    let has_pair =
        ["client-certificate", "client-key"].iter().any(|flag| !call.text(flag).is_empty());
    if call.is("embed-certs") && !has_pair {
        return failed("you must specify a --client-certificate or --client-key to embed");
    }
    if !matches!(call.text("exec-interactive-mode"), "" | "IfAvailable" | "Never" | "Always") {
        return failed("invalid interactive mode type, can be only IfAvailable, Never, Always");
    }
    let is_variable = |text: &String| text.contains('=') || text.ends_with('-');
    if let Some(bad) = call.array("exec-env").iter().find(|text| !is_variable(text)) {
        out::print(&help::text(call.command, &call.path));
        return failed(format!("invalid exec-env format: {bad}"));
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
        } else if call.changed("username") || call.changed("password") {
            put(user, "token", Value::Null);
        }
        put_file(call, &file, user, "client-certificate")?;
        put_file(call, &file, user, "client-key")?;
        if call.changed("exec-command") {
            if !user.has("exec") {
                user["exec"] = json!({"args": null, "env": null, "provideClusterInfo": false});
            }
            put(&mut user["exec"], "command", call.text("exec-command").into());
        }
        // As upstream: of a user without a plugin the rest is not looked at.
        if user.has("exec") {
            change_plugin(call, &mut user["exec"]);
        }
        Ok(())
    })?;
    out::line(&format!("User {name:?} set."));
    Ok(())
}

/// What is said of a plugin but its command.
fn change_plugin(call: &Call<'_>, exec: &mut Value) {
    for (flag, field) in
        [("exec-api-version", "apiVersion"), ("exec-interactive-mode", "interactiveMode")]
    {
        if call.changed(flag) {
            put(exec, field, call.text(flag).into());
        }
    }
    if call.changed("exec-arg") {
        exec["args"] = Value::from(call.list("exec-arg"));
    }
    if call.changed("exec-provide-cluster-info") {
        exec["provideClusterInfo"] = call.is("exec-provide-cluster-info").into();
    }
    for text in call.array("exec-env") {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text.trim_end_matches('-'), None),
        };
        let env = exec.list_mut("env");
        match (env.iter().position(|own| own.str("name") == name), value) {
            (Some(at), Some(value)) => env[at].set("value", value),
            (Some(at), None) => drop(env.remove(at)),
            (None, Some(value)) => env.push(json!({"name": name, "value": value})),
            (None, None) => {}
        }
    }
}

pub(super) fn set_context(call: &Call<'_>) -> Outcome {
    let name = match (call.args(), call.is("current")) {
        ([], true) => call.config()?.tree.str("current-context").to_owned(),
        ([one], false) => one.clone(),
        (_, true) => return failed("you cannot specify both a context name and --current"),
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

pub(super) fn use_context(call: &Call<'_>) -> Outcome {
    let name = one_arg(call)?;
    if name.is_empty() {
        return failed("empty context names are not allowed");
    }
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

pub(super) fn delete(call: &Call<'_>, list: &str, what: &str) -> Outcome {
    let [name] = call.args() else {
        // As upstream, which takes that for a question but of users.
        if list == "users" {
            return call.usage("user to delete is required");
        }
        out::print(&help::text(call.command, &call.path));
        return Ok(());
    };
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

pub(super) fn rename(call: &Call<'_>) -> Outcome {
    let [old, new] = call.args() else { return unexpected(call) };
    if new.is_empty() {
        return failed("You must specify a new non-empty context name");
    }
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
