//! Credentials from a program that the kubeconfig names.

use api::{Lens, Value, json};
use client::{Access, Source};

use crate::failure::{Failure, Outcome, failed};
use crate::line::Line;

/// What the program prints: a token or a certificate with its key.
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// Runs the program of `exec` and puts what it gives into `access`.
///
/// # Errors
/// If it cannot be run, fails or prints something else.
pub(crate) fn credentials(
    line: &Line<'_>,
    exec: &Value,
    cluster: &Value,
    access: &mut Access,
) -> Outcome {
    let program = exec.str("command");
    let version = exec.str("apiVersion");
    if program.is_empty() || version.is_empty() {
        return failed("the user's exec needs a command and an apiVersion");
    }
    let mut info = json!({
        "apiVersion": version, "kind": "ExecCredential",
        "spec": {"interactive": false},
    });
    if exec.flag("provideClusterInfo") {
        info["spec"]["cluster"] = cluster.clone();
    }
    let mut env = (line.world.all_env)();
    for entry in exec.list("env") {
        env.push((entry.str("name").to_owned(), entry.str("value").to_owned()));
    }
    env.push(("KUBERNETES_EXEC_INFO".to_owned(), info.to_string()));
    let args: Vec<&str> = exec.list("args").iter().filter_map(Value::as_str).collect();
    let program = find(line, program);
    let run = rt::process::captured(&program, &args, &env, ANSWER_MAX_BYTES);
    let (code, answer) = run.map_err(|error| refuse(exec, &error.to_string()))?;
    if code != 0 {
        return Err(refuse(
            exec,
            &format!("executable {} failed with exit code {code}", exec.str("command")),
        ));
    }
    let tree: Value = serde_json::from_slice(&answer)
        .map_err(|error| refuse(exec, &format!("decoding stdout: {error}")))?;
    if tree.str("kind") != "ExecCredential" || tree.str("apiVersion") != version {
        return Err(refuse(
            exec,
            "decoding stdout: it is no ExecCredential of the version that was asked for",
        ));
    }
    let status = tree.at("status");
    if !status.str("token").is_empty() {
        access.token = Source::Inline(status.str("token").as_bytes().to_vec());
    }
    if !status.str("clientCertificateData").is_empty() {
        access.certificate =
            Source::Inline(status.str("clientCertificateData").as_bytes().to_vec());
        access.key = Source::Inline(status.str("clientKeyData").as_bytes().to_vec());
    }
    Ok(())
}

fn refuse(exec: &Value, why: &str) -> Failure {
    let hint = exec.str("installHint");
    let hint = if hint.is_empty() { String::new() } else { format!("\n\n{hint}") };
    Failure::Said(format!(
        "Unable to connect to the server: getting credentials: exec: {why}{hint}"
    ))
}

/// The file of a program, as a shell finds it.
pub(crate) fn find(line: &Line<'_>, program: &str) -> String {
    if program.contains('/') {
        return program.to_owned();
    }
    let path = line.env("PATH");
    let files = path.split(':').map(|dir| format!("{dir}/{program}"));
    files
        .into_iter()
        .find(|file| rt::fs::metadata(file).is_ok_and(|it| it.is_file()))
        .unwrap_or_else(|| program.to_owned())
}
