//! `kubectl config set` and `unset`: one value of a kubeconfig file, by its path.

use api::{Lens, LensMut, Value};

use super::{default_file, edit, entry, file_of, one_arg, put, unexpected};
use crate::call::Call;
use crate::failure::{Failure, Outcome, failed};
use crate::flags::truth;
use crate::out;

/// The fields of the entries of each list. Names may have dots: an entry's name ends before the first part that is a field.
const FIELDS: [(&str, &[&str]); 3] = [
    (
        "clusters",
        &[
            "server",
            "tls-server-name",
            "insecure-skip-tls-verify",
            "certificate-authority",
            "certificate-authority-data",
            "proxy-url",
            "disable-compression",
            "extensions",
        ],
    ),
    ("contexts", &["cluster", "user", "namespace", "extensions"]),
    (
        "users",
        &[
            "client-certificate",
            "client-certificate-data",
            "client-key",
            "client-key-data",
            "token",
            "tokenFile",
            "as",
            "as-uid",
            "as-groups",
            "as-user-extra",
            "username",
            "password",
            "auth-provider",
            "exec",
            "extensions",
        ],
    ),
];
/// Those that are no single value: they can be taken away, not set.
const WHOLE: [&str; 6] = ["", "extensions", "as-groups", "as-user-extra", "auth-provider", "exec"];

/// What a path leads to.
#[derive(Debug, PartialEq)]
struct Place<'a> {
    /// `clusters`; "" for a field of the file itself.
    list: &'a str,
    /// The entry's name; "" for the whole list.
    name: String,
    /// "" for the whole entry.
    field: &'a str,
}

fn place(path: &str) -> Outcome<Place<'_>> {
    let (list, rest) = path.split_once('.').unwrap_or((path, ""));
    let Some((_, fields)) = FIELDS.iter().find(|(own, _)| *own == list) else {
        return match (list, rest) {
            ("current-context" | "preferences" | "extensions", "") | ("preferences", "colors") => {
                Ok(Place { list: "", name: String::new(), field: path })
            }
            ("preferences", _) => {
                failed(format!("unable to parse {path} after [preferences] at api.Preferences"))
            }
            _ => failed(format!("unable to parse {path} after [] at api.Config")),
        };
    };
    let parts: Vec<&str> = rest.split('.').collect();
    let at = parts.iter().skip(1).position(|part| fields.contains(part)).map(|at| at + 1);
    let at = at.unwrap_or(parts.len());
    if at + 1 < parts.len() {
        return failed(format!("unable to parse one or more field values of {path}"));
    }
    Ok(Place { list, name: parts[..at].join("."), field: parts.get(at).copied().unwrap_or("") })
}

/// A text as the value of a field; a binary one is given in base64 unless it `is_raw`.
fn value(place: &Place<'_>, text: &str, is_raw: bool) -> Outcome<Value> {
    match place.field {
        "insecure-skip-tls-verify" | "disable-compression" | "preferences.colors" => {
            match truth(text) {
                Some(is_on) => Ok(is_on.into()),
                None => failed(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
            }
        }
        field if WHOLE.contains(&field) => {
            failed(format!("can't set a map to a value: map[{}]", place.name))
        }
        "preferences" => failed("can't set a map to a value: preferences"),
        field if field.ends_with("-data") && is_raw => {
            Ok(wire::base64::encode(text.as_bytes()).into())
        }
        field if field.ends_with("-data") && wire::base64::decode(text).is_none() => {
            let is_letter = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
            let at = text.bytes().position(|b| !is_letter(&b)).unwrap_or(text.len() / 4 * 4);
            failed(format!("error decoding input value: illegal base64 data at input byte {at}"))
        }
        _ => Ok(text.into()),
    }
}

pub(super) fn set(call: &Call<'_>) -> Outcome {
    let [path, text] = call.args() else { return unexpected(call) };
    let place = place(path)?;
    let value = value(&place, text, call.is("set-raw-bytes"))?;
    let Place { list, name, field } = &place;
    let file = if list.is_empty() { default_file(call)? } else { file_of(call, list, name)? };
    edit(&file, |tree| {
        match list.is_empty() {
            true => tree.set(field, value),
            false => put(entry(tree, list, name).0, field, value),
        }
        Ok(())
    })?;
    out::line(&format!("Property {path:?} set."));
    Ok(())
}

pub(super) fn unset(call: &Call<'_>) -> Outcome {
    let path = one_arg(call)?;
    let Place { list, name, field } = place(path)?;
    let is_there = || -> Outcome<bool> { Ok(call.config()?.named(list, &name).is_some()) };
    let is_inner = !list.is_empty() && !field.is_empty();
    if is_inner && !is_there()? {
        return Err(Failure::Message(format!("current map key `{name}` is invalid")));
    }
    let is_of_file = list.is_empty() || name.is_empty();
    let file = if is_of_file { default_file(call)? } else { file_of(call, list, &name)? };
    edit(&file, |tree| {
        match (list, name.as_str(), field) {
            ("", _, "current-context") => tree.set("current-context", ""),
            ("", _, field) => drop(tree.remove(field)),
            (list, "", _) => tree[list] = Value::Null,
            (list, name, "") => tree.list_mut(list).retain(|entry| entry.str("name") != name),
            (list, name, field) => put(entry(tree, list, name).0, field, Value::Null),
        }
        Ok(())
    })?;
    out::line(&format!("Property {path:?} unset."));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_one_place() {
        let check = |path: &str| match place(path) {
            Ok(Place { list, name, field }) => format!("{list}|{name}|{field}"),
            Err(failure) => failure.text(),
        };
        assert_eq!(check("clusters.a.b.server"), "clusters|a.b|server");
        assert_eq!(check("users"), "users||");
        assert_eq!(check("users.token"), "users|token|");
        assert_eq!(check("users.u.frob"), "users|u.frob|");
        assert_eq!(check("current-context"), "||current-context");
        assert_eq!(
            check("users.u.exec.command"),
            "unable to parse one or more field values of users.u.exec.command"
        );
        assert_eq!(check("frob.x"), "unable to parse frob.x after [] at api.Config");
    }

    #[test]
    fn bytes_are_given_in_base64_or_raw() {
        let check = |path: &str, text: &str, is_raw| {
            value(&place(path).unwrap(), text, is_raw).map_err(|failure| failure.text())
        };
        let data = "users.u.client-key-data";
        assert_eq!(check(data, "Zm9v", false), Ok("Zm9v".into()));
        assert_eq!(check(data, "foo", true), Ok("Zm9v".into()));
        let said = "error decoding input value: illegal base64 data at input byte 0";
        assert_eq!(check(data, "foo", false), Err(said.to_owned()));
        assert_eq!(check("clusters.c.insecure-skip-tls-verify", "1", false), Ok(true.into()));
        assert!(check("clusters.c.frob", "x", false).is_err());
        assert!(check("users.u.exec", "x", false).is_err());
    }
}
