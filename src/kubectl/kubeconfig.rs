//! Kubeconfig files: which, merged, and what of them a call uses.

use std::path::{Path, PathBuf};

use api::{Lens, Value, json};
use client::{Access, Source};

use crate::failure::{Failure, Outcome, failed};
use crate::line::Line;
use crate::out;

/// A kubeconfig with its certificates.
const FILE_MAX_BYTES: u64 = 4 << 20;
pub(crate) const LISTS: [(&str, &str); 3] =
    [("clusters", "cluster"), ("contexts", "context"), ("users", "user")];

/// The files together: of entries of one name, and of the present context, the first file's.
pub(crate) struct Kubeconfig {
    pub(crate) tree: Value,
    /// Where changes are written.
    pub(crate) files: Vec<PathBuf>,
}

/// A tree with nothing in it.
fn empty() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "clusters": null, "contexts": null, "users": null,
        "current-context": "",
    })
}

impl Kubeconfig {
    /// Which files a call reads.
    fn files(line: &Line<'_>) -> (Vec<PathBuf>, bool) {
        let named = line.text("kubeconfig");
        if !named.is_empty() {
            return (vec![PathBuf::from(named)], true);
        }
        let list = line.env("KUBECONFIG");
        let mut files: Vec<PathBuf> = Vec::new();
        for path in list.split(':').filter(|path| !path.is_empty()).map(PathBuf::from) {
            if !files.contains(&path) {
                files.push(path);
            }
        }
        if files.is_empty() {
            let own = Path::new(&line.env("HOME")).join(".kube/config");
            let of_k3s = &line.world.kubeconfig;
            let is_there = |path: &Path| rt::fs::metadata(path).is_ok();
            files.push(if is_there(of_k3s) { of_k3s.clone() } else { own });
        }
        (files, false)
    }

    pub(crate) fn load(line: &Line<'_>) -> Outcome<Kubeconfig> {
        let (files, is_explicit) = Kubeconfig::files(line);
        let mut tree = empty();
        for file in &files {
            match rt::fs::read_within(file, FILE_MAX_BYTES) {
                Ok(bytes) => merge(&mut tree, read(file, &bytes)?),
                Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {
                    if is_explicit && !line.path.starts_with("kubectl config ") {
                        return failed(format!(
                            "stat {}: no such file or directory",
                            file.display()
                        ));
                    }
                }
                Err(error) => return Err(unreadable(line, file, &error)),
            }
        }
        Ok(Kubeconfig { tree, files })
    }

    /// The same with paths as the files have them.
    pub(crate) fn written(&self) -> Outcome<Value> {
        let mut tree = empty();
        for file in &self.files {
            merge(&mut tree, raw(file)?);
        }
        Ok(tree)
    }

    /// The entry of a list (`clusters`) called `name`.
    pub(crate) fn named(&self, list: &str, name: &str) -> Option<&Value> {
        let single = LISTS.iter().find(|(own, _)| *own == list)?.1;
        self.tree.list(list).iter().find(|entry| entry.str("name") == name)?.get(single)
    }

    /// The name of the context that a call uses.
    pub(crate) fn context_name<'a>(&'a self, line: &'a Line<'_>) -> &'a str {
        match line.text("context") {
            "" => self.tree.str("current-context"),
            named => named,
        }
    }

    fn context(&self, line: &Line<'_>) -> &Value {
        self.named("contexts", self.context_name(line)).unwrap_or(&Value::Null)
    }

    pub(crate) fn namespace(&self, line: &Line<'_>) -> String {
        self.context(line).str("namespace").to_owned()
    }

    /// How the server is reached, and the user's own entry.
    ///
    /// # Errors
    /// If what is named is not there or does not fit together.
    pub(crate) fn access(&self, line: &Line<'_>) -> Outcome<(Access, Value, Value)> {
        let name = self.context_name(line);
        if !name.is_empty() && self.named("contexts", name).is_none() {
            return Err(Failure::Said(format!(
                "Error in configuration: context was not found for specified context: {name}"
            )));
        }
        let context = self.context(line);
        let or = |flag: &str, own: &str| match line.global(flag) {
            "" => own.to_owned(),
            given => given.to_owned(),
        };
        let (cluster_name, user_name) =
            (or("cluster", context.str("cluster")), or("user", context.str("user")));
        let find = |list: &str, flag: &str, wanted: &str| match self.named(list, wanted) {
            Some(found) => Ok(found.clone()),
            None if wanted.is_empty() => Ok(Value::Null),
            None if !line.global(flag).is_empty() => Err(Failure::Message(match flag {
                "cluster" => format!("no server found for cluster {wanted:?}"),
                _ => format!("auth info {wanted:?} does not exist"),
            })),
            None => Ok(Value::Null),
        };
        let cluster = find("clusters", "cluster", &cluster_name)?;
        let user = find("users", "user", &user_name)?;
        let access = access(line, &cluster, &user, &or)?;
        Ok((access, cluster, user))
    }
}

/// An access from a cluster and a user, over which flags have their way.
fn access(
    line: &Line<'_>,
    cluster: &Value,
    user: &Value,
    or: &dyn Fn(&str, &str) -> String,
) -> Outcome<Access> {
    let is_insecure = match line.changed("insecure-skip-tls-verify") {
        true => line.is("insecure-skip-tls-verify"),
        false => cluster.flag("insecure-skip-tls-verify"),
    };
    let mut ca = source(line, cluster, "certificate-authority")?;
    if is_insecure {
        let is_own = !line.text("certificate-authority").is_empty();
        if ca != Source::None && (is_own || !line.changed("insecure-skip-tls-verify")) {
            return failed(
                "specifying a root certificates file with the insecure flag is not allowed",
            );
        }
        ca = Source::None;
    }
    let token = match (line.text("token"), user.str("tokenFile"), user.str("token")) {
        ("", "", "") => Source::None,
        ("", "", token) => Source::Inline(token.as_bytes().to_vec()),
        ("", file, _) => Source::File(PathBuf::from(file)),
        (token, ..) => Source::Inline(token.as_bytes().to_vec()),
    };
    let server = or("server", cluster.str("server"));
    let mut access = Access {
        server: if server.is_empty() { "http://localhost:8080".to_owned() } else { server },
        ca,
        insecure: is_insecure,
        server_name: or("tls-server-name", cluster.str("tls-server-name")),
        certificate: source(line, user, "client-certificate")?,
        key: source(line, user, "client-key")?,
        token,
        ..Access::default()
    };
    if !access.server.contains("://") {
        access.server = format!("http://{}", access.server);
    }
    if cluster.is_null() && user.is_null() && line.text("server").is_empty() {
        in_cluster(line, &mut access);
    }
    Ok(access)
}

/// Where nothing says otherwise, a pod's own account.
fn in_cluster(line: &Line<'_>, access: &mut Access) {
    const DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let (host, port) = (line.env("KUBERNETES_SERVICE_HOST"), line.env("KUBERNETES_SERVICE_PORT"));
    let token = Path::new(DIR).join("token");
    if host.is_empty() || port.is_empty() || rt::fs::metadata(&token).is_err() {
        return;
    }
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    access.server = format!("https://{host}:{port}");
    access.token = Source::File(token);
    access.ca = Source::File(Path::new(DIR).join("ca.crt"));
}

/// A file as it is, to be changed; an empty one if there is none.
pub(crate) fn raw(file: &Path) -> Outcome<Value> {
    let mut tree = empty();
    match rt::fs::read_within(file, FILE_MAX_BYTES) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let read = wire::yaml::parse_one_loose(&text)?;
            for (key, value) in read.as_object().into_iter().flatten() {
                tree[key.as_str()] = value.clone();
            }
        }
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(tree)
}

/// What a flag names, `<field>-data` inline, or the file of `<field>`; the first wins.
fn source(line: &Line<'_>, tree: &Value, field: &str) -> Outcome<Source> {
    let of_flag = line.text(field);
    if !of_flag.is_empty() {
        return Ok(Source::File(PathBuf::from(of_flag)));
    }
    let inline = tree.get(format!("{field}-data")).and_then(Value::as_str).unwrap_or("");
    if !inline.is_empty() {
        let bytes = wire::base64::decode(inline);
        return bytes
            .map(Source::Inline)
            .ok_or_else(|| format!("illegal base64 data in {field}-data").into());
    }
    Ok(match tree.get(field).and_then(Value::as_str).unwrap_or("") {
        "" => Source::None,
        file => Source::File(PathBuf::from(file)),
    })
}

fn unreadable(line: &Line<'_>, file: &Path, error: &stdx::Error) -> Failure {
    let why = match error.io_kind() {
        Some(std::io::ErrorKind::PermissionDenied) => {
            if *file == line.world.kubeconfig {
                out::tell(&format!(
                    "Unable to read {}, please start server with --write-kubeconfig-mode or --write-kubeconfig-group to modify kube config permissions",
                    file.display()
                ));
            }
            format!("open {}: permission denied", file.display())
        }
        Some(std::io::ErrorKind::IsADirectory) => {
            format!("read {}: is a directory", file.display())
        }
        _ => error.to_string(),
    };
    Failure::Message(format!("error loading config file {:?}: {why}", file.display().to_string()))
}

/// A file's tree, whose relative paths are made whole.
fn read(file: &Path, bytes: &[u8]) -> Outcome<Value> {
    let complain = |why: &str| {
        Failure::Message(format!(
            "error loading config file {:?}: {why}",
            file.display().to_string()
        ))
    };
    let text = std::str::from_utf8(bytes).map_err(|error| complain(&error.to_string()))?;
    let mut tree =
        wire::yaml::parse_one_loose(text).map_err(|error| complain(&error.to_string()))?;
    if !tree.is_object() && !tree.is_null() {
        return Err(complain(
            "couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
        ));
    }
    let base = file.parent().unwrap_or(Path::new("."));
    for (list, single) in LISTS {
        let Some(Value::Array(entries)) = tree.get_mut(list) else { continue };
        for entry in entries {
            for field in ["certificate-authority", "client-certificate", "client-key", "tokenFile"]
            {
                let Some(slot) = entry.get_mut(single).and_then(|it| it.get_mut(field)) else {
                    continue;
                };
                if let Some(path) = slot.as_str().filter(|path| !path.is_empty()) {
                    *slot = base.join(path).display().to_string().into();
                }
            }
        }
    }
    Ok(tree)
}

fn merge(into: &mut Value, from: Value) {
    for (list, _) in LISTS {
        for entry in from.list(list) {
            let have = into.list(list);
            if have.iter().any(|own| own.str("name") == entry.str("name")) {
                continue;
            }
            match into.get_mut(list) {
                Some(Value::Array(items)) => items.push(entry.clone()),
                _ => into[list] = Value::Array(vec![entry.clone()]),
            }
        }
    }
    if into.str("current-context").is_empty() {
        into["current-context"] = from.str("current-context").into();
    }
    if let Some(preferences) = from.get("preferences").filter(|it| it.is_object()) {
        into["preferences"] = preferences.clone();
    }
}
