//! Who somebody is by the claims of a token, and what must hold for it: an administrator's mappings and rules.
//!
//! Source: k8s.io/apiserver/plugin/pkg/authenticator/token/oidc.

use api::{Value, json};
use cel::Val;

use super::expressions::Expression;
use super::tokens::user_tree;
use crate::user::{AUTHENTICATED, User};

/// Where a text of a user comes from.
#[derive(Debug, Default)]
pub(super) enum Source {
    #[default]
    None,
    Claim {
        claim: String,
        prefix: String,
    },
    Expression(Expression),
}

/// An expression that must be true, and what is said where it is not.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) expression: Expression,
    pub(super) message: String,
}

#[derive(Debug, Default)]
pub(super) struct Mapping {
    pub(super) username: Source,
    pub(super) groups: Source,
    pub(super) uid: Source,
    pub(super) extra: Vec<(String, Expression)>,
    /// Claims that must have just this text.
    pub(super) required: Vec<(String, String)>,
    pub(super) rules: Vec<Rule>,
    pub(super) user_rules: Vec<Rule>,
}

impl Mapping {
    /// The user that the claims of a verified token tell of.
    ///
    /// # Errors
    /// Why it is nobody, in upstream's words.
    pub(super) fn user(&self, claims: &Value) -> Result<User, String> {
        // Claims are names, not paths: a dot in one means nothing.
        let claim = |name: &str| claims.get(name);
        let mut user = User { name: self.name(claims)?, ..User::default() };
        user.groups = self.groups(claims)?;
        user.uid = match &self.uid {
            Source::None => String::new(),
            Source::Claim { claim: name, .. } => {
                text(claim(name)).map_err(|why| format!("oidc: parse uid claim {name:?}: {why}"))?
            }
            Source::Expression(expression) => mapped(expression, claims, "uid")?,
        };
        if let Some(id) = claim("jti").and_then(Value::as_str) {
            let key = "authentication.kubernetes.io/credential-id";
            user.extra.insert(key.to_owned(), vec![format!("JTI={id}")]);
        }
        for (key, expression) in &self.extra {
            let values = texts(&expression.value(claims)?).map_err(|why| {
                let text = &expression.text;
                format!("oidc: error evaluating extra claim expression: {text}: {why}")
            })?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        for (name, wanted) in &self.required {
            let found = claim(name);
            if found.is_none() {
                return Err(format!("oidc: required claim {name} not present in ID token"));
            }
            let found = text(found).map_err(|why| format!("oidc: parse claim {name}: {why}"))?;
            if found != *wanted {
                return Err(format!(
                    "oidc: required claim {name} value does not match. Got = {found}, want = {wanted}"
                ));
            }
        }
        hold(&self.rules, claims)
            .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
        if !self.user_rules.is_empty() {
            // They see what is empty, too.
            let mut seen = json!({"uid": "", "groups": [], "extra": {}});
            if let (Value::Object(seen), Value::Object(own)) = (&mut seen, user_tree(&user)) {
                seen.extend(own);
            }
            hold(&self.user_rules, &seen).map_err(|why| {
                format!("oidc: error evaluating user info validation rule: {why}")
            })?;
        }
        if !user.in_group(AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.to_owned());
        }
        Ok(user)
    }

    fn name(&self, claims: &Value) -> Result<String, String> {
        let (name, prefix) = match &self.username {
            Source::Claim { claim, prefix } => (claim, prefix),
            Source::Expression(expression) => {
                let name = mapped(expression, claims, "username")?;
                return match name.is_empty() {
                    true => Err("oidc: empty username via CEL expression is not allowed".into()),
                    false => Ok(name),
                };
            }
            Source::None => return Err("oidc: no mapping for usernames".into()),
        };
        let text = text(claims.get(name))
            .map_err(|why| format!("oidc: parse username claims {name:?}: {why}"))?;
        if name == "email" {
            match claims.get("email_verified") {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false) | Value::Null) => {
                    return Err("oidc: email not verified".into());
                }
                Some(_) => return Err("oidc: parse 'email_verified' claim: it is no bool".into()),
            }
        }
        Ok(format!("{prefix}{text}"))
    }

    fn groups(&self, claims: &Value) -> Result<Vec<String>, String> {
        match &self.groups {
            Source::None => Ok(Vec::new()),
            Source::Expression(expression) => {
                let found = expression.value(claims).and_then(|value| texts(&value));
                found.map_err(|why| format!("oidc: error evaluating group claim expression: {why}"))
            }
            Source::Claim { claim: name, prefix } => {
                let wrong = || format!("oidc: parse groups claim {name:?}: it is no list of texts");
                let found = match claims.get(name) {
                    // The issuer has too many to name and says where they are.
                    None if claims
                        .get("_claim_names")
                        .is_some_and(|names| names.get(name).is_some()) =>
                    {
                        return Err("oidc: could not expand distributed claims: they are not supported by this version of k3rs".into());
                    }
                    None | Some(Value::Null) => return Ok(Vec::new()),
                    Some(Value::String(one)) => vec![one.as_str()],
                    Some(Value::Array(list)) => {
                        let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                        texts.ok_or_else(wrong)?
                    }
                    Some(_) => return Err(wrong()),
                };
                Ok(found.into_iter().map(|group| format!("{prefix}{group}")).collect())
            }
        }
    }
}

fn text(claim: Option<&Value>) -> Result<String, &'static str> {
    match claim {
        None => Err("claim not present"),
        // As Go reads it.
        Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err("it is no text"),
    }
}

/// The text that an expression maps to `what`.
fn mapped(expression: &Expression, claims: &Value, what: &str) -> Result<String, String> {
    let failed = |why: String| format!("oidc: error evaluating {what} claim expression: {why}");
    let value = expression.value(claims).map_err(failed)?;
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| failed(format!("{what} claim expression must return a string")))
}

/// A text or a list of texts, without those that are empty.
fn texts(value: &Val<'_>) -> Result<Vec<String>, String> {
    let texts = value.texts();
    let mut texts = texts.ok_or("expression must return a string or a list of strings")?;
    texts.retain(|text| !text.is_empty());
    Ok(texts)
}

fn hold(rules: &[Rule], of: &Value) -> Result<(), String> {
    for Rule { expression, message } in rules {
        match expression.value(of)? {
            Val::Bool(true) => {}
            Val::Bool(false) => {
                let text = &expression.text;
                return Err(format!("validation expression '{text}' failed: {message}"));
            }
            _ => return Err("validation expression must return a boolean".into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use api::policy::{About, Wanted};

    use super::*;

    fn claim(claim: &str, prefix: &str) -> Source {
        Source::Claim { claim: claim.into(), prefix: prefix.into() }
    }

    fn compiled(about: About, text: &str) -> Expression {
        Expression::compile(about, text, Wanted::Anything).unwrap()
    }

    fn by(text: &str) -> Source {
        Source::Expression(compiled(About::Claims, text))
    }

    fn rule(about: About, text: &str) -> Rule {
        Rule { expression: compiled(about, text), message: "no".into() }
    }

    fn told(mapping: &Mapping, claims: &Value) -> String {
        mapping.user(claims).map_or_else(|why| why, |user| user_tree(&user).to_string())
    }

    #[test]
    fn claims_become_users_as_upstream_has_it() {
        let plain = Mapping {
            username: claim("sub", "i#"),
            groups: claim("groups", "g:"),
            uid: claim("id", ""),
            required: vec![("hd".into(), "x".into())],
            ..Mapping::default()
        };
        let whole = json!({"sub": "jane", "groups": ["a", "b"], "id": "7", "hd": "x", "jti": "j"});
        let with = |name: &str, value: Value| {
            let mut claims = whole.clone();
            claims[name] = value;
            claims
        };
        let without = |name: &str| {
            let mut claims = whole.clone();
            claims.as_object_mut().unwrap().remove(name);
            claims
        };
        for (claims, wanted) in [
            (
                whole.clone(),
                r#"{"extra":{"authentication.kubernetes.io/credential-id":["JTI=j"]},"groups":["g:a","g:b","system:authenticated"],"uid":"7","username":"i#jane"}"#,
            ),
            (
                with("groups", json!("one")),
                r#"{"extra":{"authentication.kubernetes.io/credential-id":["JTI=j"]},"groups":["g:one","system:authenticated"],"uid":"7","username":"i#jane"}"#,
            ),
            (without("sub"), "oidc: parse username claims \"sub\": claim not present"),
            (with("sub", json!(1)), "oidc: parse username claims \"sub\": it is no text"),
            (
                with("groups", json!([1])),
                "oidc: parse groups claim \"groups\": it is no list of texts",
            ),
            (without("id"), "oidc: parse uid claim \"id\": claim not present"),
            (without("hd"), "oidc: required claim hd not present in ID token"),
            (
                with("hd", json!("y")),
                "oidc: required claim hd value does not match. Got = y, want = x",
            ),
            (with("hd", json!(["x"])), "oidc: parse claim hd: it is no text"),
        ] {
            assert_eq!(told(&plain, &claims), wanted);
        }
        let mut far = without("groups");
        far["_claim_names"] = json!({"groups": "src1"});
        assert!(told(&plain, &far).contains("distributed claims"));
        let email = Mapping { username: claim("email", ""), ..Mapping::default() };
        for (claims, wanted) in [
            (json!({"email": "a@b"}), r#"{"groups":["system:authenticated"],"username":"a@b"}"#),
            (
                json!({"email": "a@b", "email_verified": true}),
                r#"{"groups":["system:authenticated"],"username":"a@b"}"#,
            ),
            (json!({"email": "a@b", "email_verified": false}), "oidc: email not verified"),
            (
                json!({"email": "a@b", "email_verified": "true"}),
                "oidc: parse 'email_verified' claim: it is no bool",
            ),
        ] {
            assert_eq!(told(&email, &claims), wanted);
        }
    }

    #[test]
    fn expressions_map_and_refuse() {
        let mapping = Mapping {
            username: by("claims.sub + '@x'"),
            groups: by("claims.roles.split(',') + ['']"),
            uid: by("string(claims.n)"),
            extra: vec![
                ("x.io/a".into(), compiled(About::Claims, "claims.?a.orValue('')")),
                ("x.io/b".into(), compiled(About::Claims, "['p', '', 'q']")),
            ],
            rules: vec![rule(About::Claims, "claims.n > 0")],
            user_rules: vec![rule(
                About::User,
                "!user.username.startsWith('system:') && user.groups.size() < 3",
            )],
            ..Mapping::default()
        };
        for (claims, wanted) in [
            (
                json!({"sub": "j", "roles": "a,b", "n": 5}),
                r#"{"extra":{"x.io/b":["p","q"]},"groups":["a","b","system:authenticated"],"uid":"5","username":"j@x"}"#,
            ),
            (
                json!({"sub": "j", "roles": "a", "n": 0}),
                "oidc: error evaluating claim validation expression: validation expression 'claims.n > 0' failed: no",
            ),
            (
                json!({"sub": "system:j", "roles": "a", "n": 1}),
                "oidc: error evaluating user info validation rule: validation expression '!user.username.startsWith('system:') && user.groups.size() < 3' failed: no",
            ),
            (
                json!({"roles": "a", "n": 1}),
                "oidc: error evaluating username claim expression: expression 'claims.sub + '@x'' resulted in error: no such key: sub",
            ),
        ] {
            assert_eq!(told(&mapping, &claims), wanted);
        }
        let of = |username: &str| Mapping { username: by(username), ..Mapping::default() };
        for (mapping, wanted) in [
            (of("''"), "oidc: empty username via CEL expression is not allowed"),
            (
                of("1"),
                "oidc: error evaluating username claim expression: username claim expression must return a string",
            ),
            (
                Mapping { groups: by("{'a': 1}"), ..of("'a'") },
                "oidc: error evaluating group claim expression: expression must return a string or a list of strings",
            ),
            (
                Mapping { groups: by("null"), ..of("'a'") },
                r#"{"groups":["system:authenticated"],"username":"a"}"#,
            ),
        ] {
            assert_eq!(told(&mapping, &json!({})), wanted);
        }
    }
}
