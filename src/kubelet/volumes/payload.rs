//! What files a configMap, secret, downwardAPI or projected volume holds: pure, from what was looked up.

use api::pod::fields::{FieldContext, field, resource};
use api::{Lens, Value};
use stdx::{OrdMap, Sensitive};

use crate::make::{Sources, entries};

/// One file of a volume that is made from the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub bytes: Sensitive<Vec<u8>>,
    pub mode: u32,
    /// Owned by the containers' user where they all share one (service account tokens).
    pub uid: Option<u32>,
}

/// Relative paths and their files.
pub(crate) type Payload = OrdMap<String, File>;

/// A service account token that a projected volume wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenWanted {
    pub path: String,
    pub audience: String,
    pub expiration_secs: i64,
}

const DEFAULT_MODE: u32 = 0o644;

/// The files of a volume, or why they cannot be made; upstream's messages.
pub(crate) fn payload(
    pod: &Value,
    volume: &Value,
    sources: &Sources,
    context: &FieldContext,
    token: impl Fn(&TokenWanted) -> Result<String, String>,
) -> Result<Payload, String> {
    let mut files = Payload::new();
    for (kind, source) in
        [("configMap", "configMap"), ("secret", "secret"), ("downwardAPI", "downwardAPI")]
    {
        if volume.has(source) {
            let mode = mode_of(volume.at(source).at("defaultMode")).unwrap_or(DEFAULT_MODE);
            add_source(&mut files, pod, kind, volume.at(source), mode, sources, context)?;
        }
    }
    if volume.has("projected") {
        let projected = volume.at("projected");
        let mode = mode_of(projected.at("defaultMode")).unwrap_or(DEFAULT_MODE);
        for source in projected.list("sources") {
            for kind in ["configMap", "secret", "downwardAPI"] {
                if source.has(kind) {
                    add_source(&mut files, pod, kind, source.at(kind), mode, sources, context)?;
                }
            }
            if source.has("clusterTrustBundle") {
                return Err(
                    "ClusterTrustBundle projection is not supported in static kubelet mode".into(),
                );
            }
            if let Some(wanted) = token_wanted(source) {
                let bytes = token(&wanted)?.into_bytes().into();
                let uid = shared_user(pod);
                let has_group = pod.has("spec.securityContext.fsGroup");
                let mode = if uid.is_some() || has_group { 0o600 } else { mode };
                files.insert(wanted.path, File { bytes, mode, uid });
            }
        }
    }
    if let Some(path) = files.keys().find(|path| !safe_path(path)) {
        return Err(format!("invalid path {path:?} in volume {}", volume.str("name")));
    }
    Ok(files)
}

/// The tokens of a projected volume.
pub(crate) fn tokens_wanted(volume: &Value) -> Vec<TokenWanted> {
    volume.list("projected.sources").iter().filter_map(token_wanted).collect()
}

fn token_wanted(source: &Value) -> Option<TokenWanted> {
    let token = source.at("serviceAccountToken");
    token.is_object().then(|| TokenWanted {
        path: token.str("path").to_owned(),
        audience: token.str("audience").to_owned(),
        expiration_secs: token.int("expirationSeconds").unwrap_or(3600),
    })
}

fn add_source(
    files: &mut Payload,
    pod: &Value,
    kind: &str,
    source: &Value,
    mode: u32,
    sources: &Sources,
    context: &FieldContext,
) -> Result<(), String> {
    if kind == "downwardAPI" {
        return add_downward(files, pod, source, mode, context);
    }
    let secret = kind == "secret";
    let name = match source.str("secretName") {
        "" => source.str("name"),
        name => name,
    };
    let optional = source.flag("optional");
    let found = if secret { sources.secret(name) } else { sources.config_map(name) };
    let Some(tree) = found else {
        let word = if secret { "secret" } else { "configmap" };
        return if optional { Ok(()) } else { Err(format!("{word} \"{name}\" not found")) };
    };
    let data = entries(tree, secret);
    let items = source.list("items");
    if items.is_empty() {
        for (key, bytes) in data {
            files.insert(key, File { bytes, mode, uid: None });
        }
        return Ok(());
    }
    for item in items {
        let key = item.str("key");
        match data.get(key) {
            Some(bytes) => {
                let mode = mode_of(item.at("mode")).unwrap_or(mode);
                let file = File { bytes: bytes.clone(), mode, uid: None };
                files.insert(item.str("path").to_owned(), file);
            }
            None if optional => {}
            None if secret => return Err(format!("references non-existent secret key: {key}")),
            None => return Err(format!("configmap references non-existent config key: {key}")),
        }
    }
    Ok(())
}

fn add_downward(
    files: &mut Payload,
    pod: &Value,
    source: &Value,
    mode: u32,
    context: &FieldContext,
) -> Result<(), String> {
    for item in source.list("items") {
        let text = match item.has("fieldRef") {
            true => field(pod, item.str("fieldRef.fieldPath"), context)?,
            false => resource(pod, &Value::Null, item.at("resourceFieldRef"), context)?,
        };
        let mode = mode_of(item.at("mode")).unwrap_or(mode);
        let file = File { bytes: text.into_bytes().into(), mode, uid: None };
        files.insert(item.str("path").to_owned(), file);
    }
    Ok(())
}

fn mode_of(tree: &Value) -> Option<u32> {
    tree.as_i64().and_then(|mode| u32::try_from(mode).ok()).map(|mode| mode & 0o777)
}

/// The one user that every container runs as, if the spec says so.
fn shared_user(pod: &Value) -> Option<u32> {
    let pods = pod.int("spec.securityContext.runAsUser");
    let mut users = ["spec.initContainers", "spec.containers"]
        .iter()
        .flat_map(|list| pod.list(list))
        .map(|container| container.int("securityContext.runAsUser").or(pods));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

/// Relative, without `..`, and not in the way of the writer's own names.
fn safe_path(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| !part.is_empty() && part != ".." && part != ".")
        && !path.starts_with("..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn check(volume: Value, want: Result<&[(&str, &str, u32)], &str>) {
        let mut sources = Sources::default();
        sources.config_maps.insert("cm".into(), Some(json!({"data": {"a": "1", "b": "2"}})));
        sources.secrets.insert("s".into(), Some(json!({"data": {"k": "c2VjcmV0"}})));
        let pod = json!({"metadata": {"name": "p", "labels": {"x": "y"}}});
        let token = |wanted: &TokenWanted| Ok(format!("token:{}", wanted.audience));
        let got = payload(&pod, &volume, &sources, &FieldContext::default(), token);
        let got = got.map(|files| {
            files
                .into_iter()
                .map(|(path, file)| {
                    (path, String::from_utf8(file.bytes.reveal().clone()).unwrap(), file.mode)
                })
                .collect::<Vec<_>>()
        });
        let want = want.map_err(str::to_owned).map(|list| {
            list.iter().map(|(p, b, m)| ((*p).to_owned(), (*b).to_owned(), *m)).collect::<Vec<_>>()
        });
        assert_eq!(got, want);
    }

    #[test]
    fn every_kind_of_source() {
        check(json!({"configMap": {"name": "cm"}}), Ok(&[("a", "1", 0o644), ("b", "2", 0o644)]));
        check(
            json!({"configMap": {"name": "cm", "defaultMode": 256, "items": [{"key": "b", "path": "x/y", "mode": 511}]}}),
            Ok(&[("x/y", "2", 0o777)]),
        );
        check(
            json!({"secret": {"secretName": "s", "defaultMode": 256}}),
            Ok(&[("k", "secret", 0o400)]),
        );
        check(
            json!({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
            Ok(&[("l", "x=\"y\"", 0o644)]),
        );
        check(
            json!({"projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "audience": "a"}},
                {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca.crt"}]}},
                {"secret": {"name": "s"}}]}}),
            Ok(&[("ca.crt", "1", 0o644), ("k", "secret", 0o644), ("token", "token:a", 0o644)]),
        );
    }

    #[test]
    fn what_is_missing() {
        check(json!({"configMap": {"name": "no"}}), Err("configmap \"no\" not found"));
        check(json!({"secret": {"secretName": "no"}}), Err("secret \"no\" not found"));
        check(json!({"secret": {"secretName": "no", "optional": true}}), Ok(&[]));
        check(
            json!({"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}),
            Err("configmap references non-existent config key: z"),
        );
        check(
            json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../../etc/x"}]}}),
            Err("invalid path \"../../etc/x\" in volume "),
        );
    }
}
