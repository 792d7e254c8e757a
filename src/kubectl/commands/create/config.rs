//! ConfigMaps and Secrets from literals and files.

use std::path::Path;

use api::{Lens, LensMut, Value, json};
use stdx::Arrange;

use super::{GENERATOR, finish, name, object};
use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, array, list, switch, text};

/// What the server takes at most, by far.
const FILE_MAX_BYTES: u64 = 4 << 20;

const SOURCES: &[Flag] = &[
    switch("append-hash", "Append a hash of the content to the name"),
    array("from-env-file", "File of KEY=value lines"),
    list("from-file", "File, directory, or key=file"),
    array("from-literal", "key=value"),
];
const BOTH: &[&[Flag]] =
    &[GENERATOR[0], GENERATOR[1], GENERATOR[2], GENERATOR[3], GENERATOR[4], SOURCES];

pub(super) static CONFIG_MAP: Command = Command {
    name: "configmap",
    aliases: &["cm"],
    about: "Create a config map based on a file, directory, or specified literal value.",
    short: "Create a config map from a local file, directory or literal value",
    usage: "NAME [--from-file=[key=]source] [--from-literal=key1=value1] [--dry-run=server|client|none]",
    flags: BOTH,
    run: Some(config_map),
    ..BLANK
};

pub(super) static SECRET: Command = Command {
    name: "secret",
    about: "Create a secret with specified type.\n\n A docker-registry type secret is for accessing a container registry.\n\n A generic type secret indicate an Opaque secret type.\n\n A tls type secret holds TLS certificate and its associated key.",
    short: "Create a secret using a specified subcommand",
    usage: "(docker-registry | generic | tls)",
    subs: &[&DOCKER, &GENERIC, &TLS],
    ..BLANK
};

static GENERIC: Command = Command {
    name: "generic",
    about: "Create a secret based on a file, directory, or specified literal value.",
    short: "Create a secret from a local file, directory, or literal value",
    usage: "NAME [--type=string] [--from-file=[key=]source] [--from-literal=key1=value1] [--dry-run=server|client|none]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        SOURCES,
        &[text("type", "", "The type of the secret")],
    ],
    run: Some(generic),
    ..BLANK
};

static DOCKER: Command = Command {
    name: "docker-registry",
    about: "Create a new secret for use with Docker registries.",
    short: "Create a secret for use with a Docker registry",
    usage: "NAME --docker-username=user --docker-password=password --docker-email=email [--docker-server=string] [--from-file=[key=]source] [--dry-run=server|client|none]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        &[
            switch("append-hash", "Append a hash of the content to the name"),
            text("docker-email", "", "Email for the registry"),
            text("docker-password", "", "Password for the registry"),
            text("docker-server", "https://index.docker.io/v1/", "The registry"),
            text("docker-username", "", "User at the registry"),
            list("from-file", "A file with the credentials"),
        ],
    ],
    run: Some(docker),
    ..BLANK
};

static TLS: Command = Command {
    name: "tls",
    about: "Create a TLS secret from the given public/private key pair.",
    short: "Create a TLS secret",
    usage: "NAME --cert=path/to/cert/file --key=path/to/key/file [--dry-run=server|client|none]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        &[
            switch("append-hash", "Append a hash of the content to the name"),
            text("cert", "", "File of the certificate"),
            text("key", "", "File of the key"),
        ],
    ],
    required: &[],
    run: Some(tls),
    ..BLANK
};

/// All that literals and files give, in the order of their keys.
fn data(call: &Call<'_>) -> Outcome<Vec<(String, Vec<u8>)>> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    let (files, literals, envs) =
        (call.list("from-file"), call.array("from-literal"), call.array("from-env-file"));
    if !envs.is_empty() && (!files.is_empty() || !literals.is_empty()) {
        return failed("from-env-file cannot be combined with from-file or from-literal");
    }
    for literal in literals {
        let Some((key, value)) = literal.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return failed(format!("invalid literal source {literal}, expected key=value"));
        };
        let value = value.trim_matches(['"', '\'']);
        put(&mut found, key, value.as_bytes().to_vec())?;
    }
    for file in files {
        from_file(&file, &mut found)?;
    }
    for file in envs {
        from_env_file(call, &file, &mut found)?;
    }
    found.arrange_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn put(found: &mut Vec<(String, Vec<u8>)>, key: &str, value: Vec<u8>) -> Outcome {
    let fits = !key.is_empty()
        && key.len() <= 253
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    if !fits || key == "." || key == ".." {
        return failed(format!(
            "{key:?} is not a valid key name for a ConfigMap: a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        ));
    }
    if found.iter().any(|(own, _)| own == key) {
        return failed(format!(
            "cannot add key {key:?}, another key by that name already exists in Data for ConfigMap"
        ));
    }
    found.push((key.to_owned(), value));
    Ok(())
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    rt::fs::read_within(path, FILE_MAX_BYTES).map_err(|error| {
        Failure::Message(match error.io_kind() {
            Some(std::io::ErrorKind::NotFound) => {
                format!("open {}: no such file or directory", path.display())
            }
            Some(std::io::ErrorKind::PermissionDenied) => {
                format!("open {}: permission denied", path.display())
            }
            _ => error.to_string(),
        })
    })
}

fn from_file(source: &str, found: &mut Vec<(String, Vec<u8>)>) -> Outcome {
    let (key, path) = match source.split_once('=') {
        None => (None, source),
        Some(("", _)) => return failed(format!("key name for file path {} missing", &source[1..])),
        Some((key, "")) => return failed(format!("file path for key name {key} missing")),
        Some((key, path)) if !path.contains('=') => (Some(key), path),
        Some(_) => return failed("key names or file paths cannot contain '='"),
    };
    let path = Path::new(path);
    let meta = rt::fs::metadata(path);
    if meta.as_ref().is_ok_and(rt::fs::Metadata::is_dir) {
        if key.is_some() {
            return failed("cannot give a key name for a directory path");
        }
        let mut names = rt::fs::dir_names(path);
        names.arrange();
        for (name, _) in names {
            let inner = path.join(&name);
            if rt::fs::metadata(&inner).is_ok_and(|meta| meta.is_file()) {
                put(found, &name.to_string_lossy(), read(&inner)?)?;
            }
        }
        return Ok(());
    }
    if meta.is_err() {
        return failed(format!("error reading {}: no such file or directory", path.display()));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    put(found, key.unwrap_or(&name), read(path)?)
}

fn from_env_file(call: &Call<'_>, path: &str, found: &mut Vec<(String, Vec<u8>)>) -> Outcome {
    if rt::fs::metadata(path).is_err() {
        return failed(format!("error reading {path}: no such file or directory"));
    }
    let bytes = read(Path::new(path))?;
    let text = String::from_utf8_lossy(&bytes);
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, value.to_owned()),
            // As upstream: what has no value has the environment's.
            None => (line, call.env(line)),
        };
        put(found, key, value.into_bytes())?;
    }
    Ok(())
}

fn config_map(call: &Call<'_>) -> Outcome {
    let mut tree = object("v1", "ConfigMap", name(call)?);
    let own = name(call)?;
    let named = |failure: Failure| match failure.text() {
        text if text.ends_with("for ConfigMap") => Failure::Message(format!("{text} {own:?}")),
        _ => failure,
    };
    for (key, value) in data(call).map_err(named)? {
        match String::from_utf8(value) {
            Ok(text) => tree.map_mut("data").insert(key, text.into()),
            Err(error) => tree
                .map_mut("binaryData")
                .insert(key, wire::base64::encode(error.as_bytes()).into()),
        };
    }
    if call.is("append-hash") {
        append_hash(&mut tree);
    }
    finish(call, tree)
}

fn generic(call: &Call<'_>) -> Outcome {
    let mut tree = object("v1", "Secret", name(call)?);
    for (key, value) in data(call)? {
        tree.map_mut("data").insert(key, wire::base64::encode(&value).into());
    }
    if !call.text("type").is_empty() {
        tree.set("type", call.text("type"));
    }
    if call.is("append-hash") {
        append_hash(&mut tree);
    }
    finish(call, tree)
}

fn docker(call: &Call<'_>) -> Outcome {
    let mut tree = object("v1", "Secret", name(call)?);
    tree.set("type", "kubernetes.io/dockerconfigjson");
    let files = call.list("from-file");
    let (user, password) = (call.text("docker-username"), call.text("docker-password"));
    if files.is_empty() {
        if user.is_empty() || password.is_empty() {
            return failed(
                "either --from-file or the combination of --docker-username, --docker-password and --docker-server is required",
            );
        }
        let mut entry = json!({
            "username": user, "password": password,
            "auth": wire::base64::encode(format!("{user}:{password}").as_bytes()),
        });
        if !call.text("docker-email").is_empty() {
            entry["email"] = call.text("docker-email").into();
        }
        // Go writes a structure's fields in their order.
        let field = |name: &str| {
            let text = entry.get(name).and_then(Value::as_str)?;
            let mut out = Vec::new();
            wire::json::put_string(&mut out, text);
            Some(format!("{name:?}:{}", String::from_utf8_lossy(&out)))
        };
        let fields: Vec<String> =
            ["username", "password", "email", "auth"].iter().filter_map(|it| field(it)).collect();
        let mut server = Vec::new();
        wire::json::put_string(&mut server, call.text("docker-server"));
        let text = format!(
            "{{\"auths\":{{{}:{{{}}}}}}}",
            String::from_utf8_lossy(&server),
            fields.join(",")
        );
        tree.map_mut("data")
            .insert(".dockerconfigjson".to_owned(), wire::base64::encode(text.as_bytes()).into());
    }
    for file in files {
        let mut found = Vec::new();
        from_file(&file, &mut found)?;
        for (key, value) in found {
            let key = if file.contains('=') { key } else { ".dockerconfigjson".to_owned() };
            tree.map_mut("data").insert(key, wire::base64::encode(&value).into());
        }
    }
    if call.is("append-hash") {
        append_hash(&mut tree);
    }
    finish(call, tree)
}

fn tls(call: &Call<'_>) -> Outcome {
    let own = name(call)?;
    if call.text("key").is_empty() || call.text("cert").is_empty() {
        return failed("key and cert must be specified");
    }
    let mut tree = object("v1", "Secret", own);
    let whole = |flag: &str| {
        let path = call.text(flag);
        read(Path::new(path))
            .map_err(|why| Failure::Message(format!("Cannot read file {path}, {}", why.text())))
    };
    let (cert, key) = (whole("cert")?, whole("key")?);
    http::tls::Identity::from_pem(&cert, &key)
        .map_err(|error| Failure::Message(format!("tls: {error}")))?;
    tree.set("type", "kubernetes.io/tls");
    let data = tree.map_mut("data");
    data.insert("tls.crt".to_owned(), wire::base64::encode(&cert).into());
    data.insert("tls.key".to_owned(), wire::base64::encode(&key).into());
    if call.is("append-hash") {
        append_hash(&mut tree);
    }
    finish(call, tree)
}

/// Appends to the name what upstream's hash of the content is.
fn append_hash(tree: &mut Value) {
    let is_secret = tree.str("kind") == "Secret";
    let quoted = |text: &str| {
        let mut out = Vec::new();
        wire::json::put_string(&mut out, text);
        String::from_utf8_lossy(&out).into_owned()
    };
    let map = |field: &str| match tree.at(field).as_object() {
        Some(map) => crate::print::jsonpath::compact(&Value::Object(map.clone())),
        None => "\"\"".to_owned(),
    };
    let name = quoted(tree.str("metadata.name"));
    let text = match is_secret {
        true => {
            let data = map("data");
            format!(
                "{{\"data\":{data},\"kind\":\"Secret\",\"name\":{name},\"type\":{}}}",
                quoted(tree.str("type"))
            )
        }
        false => {
            let binary = match tree.at("binaryData").is_object() {
                true => format!("\"binaryData\":{},", map("binaryData")),
                false => String::new(),
            };
            format!("{{{binary}\"data\":{},\"kind\":\"ConfigMap\",\"name\":{name}}}", map("data"))
        }
    };
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let hex = wire::hex::encode(hash.as_ref());
    let letters: String = hex
        .chars()
        .take(10)
        .map(|c| match c {
            '0' => 'g',
            '1' => 'h',
            '3' => 'k',
            'a' => 'm',
            'e' => 't',
            other => other,
        })
        .collect();
    let whole = format!("{}-{letters}", tree.str("metadata.name"));
    tree.set("metadata.name", whole);
}
