//! Which of a chart's charts take part, under which names, and the values that they give their parent.

use serde_json::{Map, Value};
use stdx::{Error, Result};

use crate::chart::Chart;
use crate::semver;
use crate::values::{coalesce, coalesce_tables, lookup};

fn word<'a>(dependency: &'a Value, name: &str) -> &'a str {
    dependency.get(name).and_then(Value::as_str).unwrap_or("")
}

/// Applies names, conditions, tags and imported values, for the user's `values`.
///
/// # Errors
/// If a chart that is needed is not there, or the values do not fit.
pub(crate) fn process(chart: &mut Chart, values: &Value) -> Result<()> {
    complete(chart)?;
    enable(chart, values, "")?;
    import_values(chart)
}

/// Every chart that `Chart.yaml` names must be in `charts/`, for nothing is downloaded.
fn complete(chart: &Chart) -> Result<()> {
    let missing: Vec<&str> = chart
        .wanted()
        .iter()
        .map(|dependency| word(dependency, "name"))
        .filter(|name| !chart.dependencies.iter().any(|child| child.name() == *name))
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::new(format!(
            "found in Chart.yaml, but missing in charts/ directory: {}",
            missing.join(", ")
        ))),
    }
}

fn enable(chart: &mut Chart, values: &Value, path: &str) -> Result<()> {
    if chart.metadata.get("dependencies").is_none() {
        return Ok(());
    }
    let mut wanted: Vec<Value> = chart.wanted().to_vec();
    let fits = |dependency: &Value, child: &Chart| {
        child.name() == word(dependency, "name")
            && semver::is_compatible(word(dependency, "version"), child.version())
    };
    let mut children: Vec<Chart> = chart
        .dependencies
        .iter()
        .filter(|child| !wanted.iter().any(|dependency| fits(dependency, child)))
        .cloned()
        .collect();
    for dependency in &mut wanted {
        let found = chart.dependencies.iter().find(|child| fits(dependency, child)).cloned();
        let alias = word(dependency, "alias").to_owned();
        if let Some(mut child) = found {
            if !alias.is_empty() {
                child.metadata["name"] = alias.clone().into();
            }
            children.push(child);
        }
        if !alias.is_empty() {
            dependency["name"] = alias.into();
        }
    }
    chart.dependencies = children;
    let mut merged = values.clone();
    coalesce(chart, &mut merged, false)?;
    wanted.retain(|dependency| {
        let is_on =
            condition(dependency, &merged, path).unwrap_or_else(|| tags(dependency, &merged));
        if !is_on {
            let name = word(dependency, "name");
            chart.dependencies.retain(|child| child.name() != name);
        }
        is_on
    });
    for dependency in &mut wanted {
        dependency["enabled"] = true.into();
    }
    chart.metadata["dependencies"] = wanted.into();
    for child in &mut chart.dependencies {
        let path = format!("{path}{}.", child.name());
        enable(child, &merged, &path)?;
    }
    Ok(())
}

/// The first of the paths that leads to a boolean.
fn condition(dependency: &Value, values: &Value, prefix: &str) -> Option<bool> {
    word(dependency, "condition")
        .trim()
        .split(',')
        .filter(|path| !path.is_empty())
        .find_map(|path| lookup(values, &format!("{prefix}{path}"))?.as_bool())
}

fn tags(dependency: &Value, values: &Value) -> bool {
    let Some(Value::Array(tags)) = dependency.get("tags") else { return true };
    let known: Vec<bool> =
        tags.iter().filter_map(|tag| values.get("tags")?.get(tag.as_str()?)?.as_bool()).collect();
    known.is_empty() || known.contains(&true)
}

/// Values of the charts inside become defaults of their parent, from the innermost on.
fn import_values(chart: &mut Chart) -> Result<()> {
    for child in &mut chart.dependencies {
        import_values(child)?;
    }
    if chart.metadata.get("dependencies").is_none() {
        return Ok(());
    }
    let mut merged = Value::Object(Map::new());
    coalesce(chart, &mut merged, true)?;
    let mut imported = Value::Object(Map::new());
    for dependency in chart.wanted() {
        let Some(Value::Array(imports)) = dependency.get("import-values") else { continue };
        for import in imports {
            let (child, parent) = match import {
                Value::String(name) => (format!("exports.{name}"), "."),
                import => match (word(import, "child"), word(import, "parent")) {
                    ("", _) | (_, "") => {
                        return Err(Error::new("import-values needs child and parent"));
                    }
                    (child, parent) => (child.to_owned(), parent),
                },
            };
            let path = format!("{}.{child}", word(dependency, "name"));
            let Some(mut table) = lookup(&merged, &path).filter(|found| found.is_object()).cloned()
            else {
                continue;
            };
            if parent != "." {
                for part in parent.rsplit('.') {
                    let mut outer = Map::new();
                    outer.insert(part.to_owned(), table);
                    table = Value::Object(outer);
                }
            }
            coalesce_tables(&mut imported, &table, true);
        }
    }
    coalesce_tables(&mut merged, &imported, true);
    chart.values = merged;
    Ok(())
}
