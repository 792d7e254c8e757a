//! `kubectl api-resources` and `kubectl api-versions`

use std::rc::Rc;

use stdx::Arrange;

use crate::call::{BLANK, Call, Command};
use crate::discovery::Resource;
use crate::failure::{Outcome, failed};
use crate::flags::{list, switch, switched_on, text};
use crate::out;
use crate::print::tabs::Tabs;

pub(crate) static COMMAND: Command = Command {
    name: "api-resources",
    about: "Print the supported API resources on the server.",
    usage: "[flags]",
    flags: &[&[
        text("api-group", "", "Limit to resources in the specified API group"),
        switch("cached", ""),
        list("categories", "Limit to resources that belong to the specified categories"),
        switched_on("namespaced", "Only namespaced resources, or only others"),
        switch("no-headers", "Do not print headers"),
        text("output", "", "wide or name").short('o'),
        text("sort-by", "", "name or kind"),
        list("verbs", "Limit to resources that support the specified verbs"),
    ]],
    run: Some(run),
    ..BLANK
};

pub(crate) static VERSIONS: Command = Command {
    name: "api-versions",
    about: "Print the supported API versions on the server, in the form of \"group/version\".",
    short: "Print the supported API versions on the server, in the form of \"group/version\"",
    run: Some(versions),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    if let Some(arg) = call.args().first() {
        let all = call.args().join(" ");
        let _ = arg;
        return call.usage(&format!("unexpected arguments: [{all}]"));
    }
    let output = call.text("output");
    if !matches!(output, "" | "wide" | "name") {
        return failed(format!("--output {output} is not available"));
    }
    let sort = call.text("sort-by");
    if !matches!(sort, "" | "name" | "kind") {
        return failed("--sort-by accepts only name or kind");
    }
    let resources = chosen(call)?;
    if output == "name" {
        for resource in resources {
            out::line(&resource.qualified());
        }
        return Ok(());
    }
    let is_wide = output == "wide";
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !call.is("no-headers") {
        let mut header = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
        if is_wide {
            header.extend(["VERBS", "CATEGORIES"]);
        }
        rows.push(header.into_iter().map(str::to_owned).collect());
    }
    for resource in resources {
        let mut row = vec![
            resource.plural.clone(),
            resource.short.join(","),
            resource.api_version(),
            resource.namespaced.to_string(),
            resource.kind.clone(),
        ];
        if is_wide {
            row.extend([resource.verbs.join(","), resource.categories.join(",")]);
        }
        rows.push(row);
    }
    out::print(&Tabs::new().format(&rows));
    Ok(())
}

/// One version of each resource: the server's favourite.
fn chosen(call: &Call<'_>) -> Outcome<Vec<Rc<Resource>>> {
    let (verbs, categories) = (call.list("verbs"), call.list("categories"));
    let mut found: Vec<Rc<Resource>> = Vec::new();
    for resource in call.mapper()?.all(call.rest()?)? {
        let is_known =
            found.iter().any(|own| own.group == resource.group && own.plural == resource.plural);
        let fits = !is_known
            && !resource.verbs.is_empty()
            && (!call.changed("api-group") || resource.group == call.text("api-group"))
            && (!call.changed("namespaced") || resource.namespaced == call.is("namespaced"))
            && verbs.iter().all(|verb| resource.verbs.contains(verb))
            && categories.iter().all(|category| resource.categories.contains(category));
        if fits {
            found.push(resource);
        }
    }
    match call.text("sort-by") {
        "name" => found.arrange_by(|a, b| a.plural.cmp(&b.plural)),
        "kind" => found.arrange_by(|a, b| a.kind.cmp(&b.kind)),
        _ => found.arrange_by(|a, b| a.group.cmp(&b.group).then_with(|| a.plural.cmp(&b.plural))),
    }
    Ok(found)
}

fn versions(call: &Call<'_>) -> Outcome {
    if !call.args().is_empty() {
        let all = call.args().join(" ");
        return call.usage(&format!("unexpected arguments: [{all}]"));
    }
    let mut found: Vec<String> = Vec::new();
    for resource in call.mapper()?.all(call.rest()?)? {
        let version = resource.api_version();
        if !found.contains(&version) {
            found.push(version);
        }
    }
    found.arrange();
    for version in found {
        out::line(&version);
    }
    Ok(())
}
