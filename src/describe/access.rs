//! Who may do what: roles, the secrets of service accounts, signing requests.

use api::{Lens, Value};
use stdx::{Arrange, OrdMap, OrdSet};
use wire::base64;

use crate::needs::Part;
use crate::page::Page;
use crate::words;

/// Rows and verbs of a role; what a role multiplies beyond that is not shown.
const STEPS_MAX: usize = 200_000;

/// Rules taken apart to one resource each and put together again by their verbs.
pub(crate) fn rules(page: &mut Page<'_>, role: &Value) {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut at: OrdMap<[&str; 3], usize> = OrdMap::new();
    let mut seen: OrdSet<(usize, &str)> = OrdSet::new();
    let mut steps = 0;
    'all: for rule in role.list("rules") {
        let texts =
            |path: &str| rule.list(path).iter().filter_map(Value::as_str).collect::<Vec<_>>();
        let [groups, resources, verbs] = ["apiGroups", "resources", "verbs"].map(texts);
        let names = match texts("resourceNames") {
            names if names.is_empty() => vec![""],
            names => names,
        };
        for group in &groups {
            for resource in &resources {
                for name in &names {
                    let idx = *at.entry([group, resource, name]).or_insert_with(|| {
                        rows.push(Row { group, resource, name, url: "", verbs: Vec::new() });
                        rows.len() - 1
                    });
                    for verb in &verbs {
                        if seen.insert((idx, verb)) {
                            rows[idx].verbs.push(verb);
                        }
                    }
                    steps += 1 + verbs.len();
                    if steps > STEPS_MAX {
                        break 'all;
                    }
                }
            }
        }
        for url in texts("nonResourceURLs") {
            for verb in &verbs {
                rows.push(Row { group: "", resource: "", name: "", url, verbs: vec![verb] });
                steps += 1;
                if steps > STEPS_MAX {
                    break 'all;
                }
            }
        }
    }
    rows.arrange_by_key(Row::go_text);
    for row in rows {
        let (resource, sub) = row.resource.split_once('/').unwrap_or((row.resource, ""));
        let dot = if row.group.is_empty() { "" } else { "." };
        let slash = if sub.is_empty() { "" } else { "/" };
        page.line(&[
            "  ",
            resource,
            dot,
            row.group,
            slash,
            sub,
            "\t[",
            row.url,
            "]\t[",
            row.name,
            "]\t[",
            &row.verbs.join(" "),
            "]",
        ]);
    }
    if steps > STEPS_MAX {
        page.line(&["  (more than can be shown)"]);
    }
}

struct Row<'a> {
    group: &'a str,
    resource: &'a str,
    name: &'a str,
    url: &'a str,
    verbs: Vec<&'a str>,
}

impl Row<'_> {
    /// The rule as Go prints it, by which kubectl sorts.
    fn go_text(&self) -> String {
        [
            "Verbs:[",
            &self.verbs.join(" "),
            "],APIGroups:[",
            self.group,
            "],Resources:[",
            self.resource,
            "],ResourceNames:[",
            self.name,
            "],NonResourceURLs:[",
            self.url,
            "]",
        ]
        .concat()
    }
}

/// The secrets that a service account names, and those that are its tokens.
pub(crate) fn account_secrets(page: &mut Page<'_>, account: &Value) {
    let related = page.related;
    let found = related.iter().find(|(part, _)| *part == Part::Secrets);
    let found = found.and_then(|(_, answer)| answer.as_ref().ok());
    let exist: Option<OrdSet<&str>> =
        found.map(|list| list.list("").iter().map(|secret| secret.str("metadata.name")).collect());
    let is_token = |secret: &&Value| {
        let says = |key: &str| secret.entry("metadata.annotations", key).unwrap_or("");
        secret.str("type") == "kubernetes.io/service-account-token"
            && says("kubernetes.io/service-account.name") == account.str("metadata.name")
            && says("kubernetes.io/service-account.uid") == account.str("metadata.uid")
    };
    let tokens = found.map_or(&[][..], |list| list.list("")).iter().filter(is_token);
    let named = |path: &str| account.list(path).iter().map(|secret| secret.str("name")).collect();
    let lists: [(&str, Vec<&str>); 3] = [
        ("Image pull secrets:", named("imagePullSecrets")),
        ("Mountable secrets: ", named("secrets")),
        ("Tokens:            ", tokens.map(|secret| secret.str("metadata.name")).collect()),
    ];
    for (title, names) in lists {
        if names.is_empty() {
            page.line(&[title, "\t<none>"]);
        }
        for (idx, name) in names.iter().enumerate() {
            let is_missing = exist.as_ref().is_some_and(|exist| !exist.contains(name));
            let title = if idx == 0 { title } else { "                   " };
            page.line(&[title, "\t", name, if is_missing { " (not found)" } else { "" }]);
        }
    }
}

/// A request for a certificate with what it asks for.
pub(crate) fn signing_request(page: &mut Page<'_>, object: &Value) -> Result<(), String> {
    let pem = base64::decode(object.str("spec.request")).unwrap_or_default();
    let request =
        api::certificate::request(&pem).map_err(|e| ["Error parsing CSR: ", &e].concat())?;
    page.render(REQUEST, object);
    if let Some(secs) = object.int("spec.expirationSeconds") {
        page.line(&["Requested Duration:\t", &words::human(secs.saturating_mul(1_000_000_000))]);
    }
    let has = |kind: &str| object.list("status.conditions").iter().any(|c| c.str("type") == kind);
    let status = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if object.str("status.certificate").is_empty() { "" } else { ",Issued" };
    page.line(&["Status:\t", status, failed, issued]);
    page.line(&["Subject:\n\tCommon Name:\t", &request.common_name]);
    // The last byte of the attribute's identifier, 2.5.4.N.
    let of = |wanted: u8| -> Vec<&str> {
        request
            .attributes
            .iter()
            .filter(|(n, _)| *n == wanted)
            .map(|(_, text)| text.as_str())
            .collect()
    };
    page.line(&["\tSerial Number:\t", of(5).last().unwrap_or(&"")]);
    list(
        page,
        "Organization",
        &request.organizations.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    for (title, n) in [
        ("Organizational Unit", 11),
        ("Country", 6),
        ("Locality", 7),
        ("Province", 8),
        ("StreetAddress", 9),
        ("PostalCode", 17),
    ] {
        list(page, title, &of(n));
    }
    let addresses: Vec<String> = request.addresses.iter().map(ToString::to_string).collect();
    let lists = [
        ("DNS Names", &request.dns_names),
        ("Email Addresses", &request.emails),
        ("URIs", &request.uris),
        ("IP Addresses", &addresses),
    ];
    if lists.iter().any(|(_, names)| !names.is_empty()) {
        page.line(&["Subject Alternative Names:"]);
    }
    for (title, names) in lists {
        list(page, title, &names.iter().map(String::as_str).collect::<Vec<_>>());
    }
    crate::events::write(page);
    Ok(())
}

const REQUEST: &str = "\
Name:~{metadata.name}
Labels:~{metadata.labels@labels}
Annotations:~{metadata.annotations@labels}
CreationTimestamp:~{metadata.creationTimestamp@time}
Requesting User:~{spec.username}
+spec.signerName|Signer:~{spec.signerName}";

fn list(page: &mut Page<'_>, title: &str, names: &[&str]) {
    if !names.is_empty() {
        page.line(&["\t", title, ":\t", &names.join("\n\t\t")]);
    }
}
