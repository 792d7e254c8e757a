//! `kubectl taint`

use api::{Lens, LensMut, Value, json};

use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, switch, text};
use crate::print::Printer;
use crate::select::{self, Info, Pick};
use crate::{options, out, write};

const OWN: &[Flag] = &[
    text("field-manager", "kubectl-taint", "Name of the manager used to track field ownership."),
    switch(
        "overwrite",
        "If true, allow taints to be overwritten, otherwise reject taint updates that overwrite existing taints.",
    ),
];

pub(crate) static COMMAND: Command = Command {
    name: "taint",
    about: "Update the taints on one or more nodes.",
    usage: "NODE NAME KEY_1=VAL_1:TAINT_EFFECT_1 ... KEY_N=VAL_N:TAINT_EFFECT_N",
    flags: &[
        OWN,
        options::ALL,
        options::DRY_RUN,
        options::PRINT,
        options::SELECTOR,
        options::VALIDATE,
    ],
    run: Some(run),
    ..BLANK
};

/// A taint; of one to be removed the effect may be "", which means each.
#[derive(Clone, PartialEq)]
struct Taint {
    key: String,
    value: String,
    effect: String,
}

impl Taint {
    fn tree(&self) -> Value {
        let mut tree = json!({"key": self.key, "effect": self.effect});
        if !self.value.is_empty() {
            tree["value"] = self.value.as_str().into();
        }
        tree
    }

    fn is_of(&self, taint: &Value) -> bool {
        self.key == taint.str("key")
            && (self.effect.is_empty() || self.effect == taint.str("effect"))
    }
}

fn run(call: &Call<'_>) -> Outcome {
    call.dry_run()?;
    let (mut resources, mut specs) = (Vec::new(), Vec::new());
    for arg in call.args() {
        let is_taint = arg.contains(['=', ':']) || arg.ends_with('-');
        match is_taint {
            true => specs.push(arg.as_str()),
            false if specs.is_empty() => resources.push(arg.clone()),
            false => {
                return failed(format!(
                    "all resources must be specified before taint changes: {arg}"
                ));
            }
        }
    }
    if resources.is_empty() {
        return failed("one or more resources must be specified as <resource> <name>");
    }
    if specs.is_empty() {
        return failed("at least one taint update is required");
    }
    let (add, remove) = match parse(&specs) {
        Ok(parsed) => parsed,
        Err(why) => return call.usage(&why),
    };
    let printer = Printer::of(call, false)?;
    let kind = call.mapper()?.find(call.rest()?, &resources[0]);
    let kind = kind.map_err(|failure| Failure::Said(failure.text()))?;
    if kind.kind != "Node" {
        return failed(format!(
            "invalid resource type {}, only node types are supported",
            resources[0].to_lowercase()
        ));
    }
    let both = remove.iter().filter(|gone| add.iter().any(|new| gone.is_of(&new.tree())));
    let both: Vec<String> = both.map(|gone| format!("{}={}", gone.key, gone.effect)).collect();
    if !both.is_empty() {
        let both = both.join(", ");
        return failed(format!(
            "can not both modify and remove the following taint(s) in the same command: {both}"
        ));
    }
    let selector = call.text("selector");
    if call.is("all") && !selector.is_empty() {
        return failed("setting 'all' parameter with a non empty selector is prohibited");
    }
    if !call.is("all") && selector.is_empty() && resources.len() < 2 {
        return failed(
            "at least one resource name must be specified since 'all' parameter is not set",
        );
    }
    if call.is("all") || !selector.is_empty() {
        resources.truncate(1);
    }
    let (infos, mut failures) = select::infos(call, &Pick::of(call, &resources))?;
    for info in infos {
        failures.extend(one(call, info, &add, &remove, printer.as_ref()).err());
    }
    Failure::all(failures)
}

/// Taints to set and taints to remove.
fn parse(specs: &[&str]) -> Result<(Vec<Taint>, Vec<Taint>), String> {
    let (mut add, mut remove) = (Vec::<Taint>::new(), Vec::new());
    for spec in specs {
        if let Some(spec) = spec.strip_suffix('-') {
            remove.push(Taint { value: String::new(), ..parse_one(spec)? });
            continue;
        }
        let taint = parse_one(spec)?;
        if taint.effect.is_empty() {
            return Err(format!("invalid taint spec: {spec}"));
        }
        if add.iter().any(|own| own.key == taint.key && own.effect == taint.effect) {
            let Taint { key, value, effect } = taint;
            return Err(format!(
                "duplicated taints with the same key and effect: {{{key} {value} {effect} <nil>}}"
            ));
        }
        add.push(taint);
    }
    Ok((add, remove))
}

fn parse_one(spec: &str) -> Result<Taint, String> {
    let wrong = || format!("invalid taint spec: {spec}");
    let (pair, effect) = spec.split_once(':').unwrap_or((spec, ""));
    if effect.contains(':') {
        return Err(wrong());
    }
    let (key, value) = match spec.contains(':') {
        true => {
            if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
                return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
            }
            pair.split_once('=').unwrap_or((pair, ""))
        }
        false => (pair, ""),
    };
    if value.contains('=') {
        return Err(wrong());
    }
    let checked = api::names::label_value(value).and_then(|()| api::names::qualified(key));
    checked.map_err(|why| format!("{}, {why}", wrong()))?;
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

fn one(
    call: &Call<'_>,
    mut info: Info,
    add: &[Taint],
    remove: &[Taint],
    printer: Option<&Printer>,
) -> Outcome {
    let old = info.object.list("spec.taints").to_vec();
    if !call.is("overwrite") {
        let known = add.iter().filter(|taint| old.iter().any(|own| taint.is_of(own)));
        let known: Vec<&str> = known.map(|taint| taint.key.as_str()).collect();
        if !known.is_empty() {
            return failed(format!(
                "node {} already has {} taint(s) with same effect(s) and --overwrite is false",
                info.name,
                known.join(",")
            ));
        }
    }
    let mut new: Vec<Value> = add.iter().map(Taint::tree).collect();
    new.extend(old.iter().filter(|own| !add.iter().any(|taint| taint.is_of(own))).cloned());
    let is_added = new.len() != old.len();
    let mut is_removed = false;
    let mut missing = Vec::new();
    for gone in remove {
        let before = new.len();
        new.retain(|taint| !gone.is_of(taint));
        is_removed = new.len() != before;
        if !is_removed {
            let effect =
                if gone.effect.is_empty() { String::new() } else { format!(":{}", gone.effect) };
            missing.push(Failure::Message(format!("taint \"{}{effect}\" not found", gone.key)));
        }
    }
    Failure::all(missing)?;
    let verb = match (is_added && is_removed || call.is("overwrite"), is_added) {
        (true, _) => "modified",
        (false, true) => "tainted",
        (false, false) => "untainted",
    };
    let taints = if new.is_empty() { Value::Null } else { Value::Array(new) };
    if call.dry_run()? == DryRun::Client {
        info.object.set("spec.taints", taints);
        return say(printer, &info, verb);
    }
    // Whole lists of both sides: nobody else's change is lost unseen.
    let patch = json!({"metadata": {"resourceVersion": info.object.at("metadata.resourceVersion")}, "spec": {"taints": taints}});
    info.object = write::patch(call, &info, "", write::MERGE, &patch, "kubectl-taint")?;
    say(printer, &info, verb)
}

/// As upstream, that does not tell a taint that was only tried from one that was set.
fn say(printer: Option<&Printer>, info: &Info, verb: &str) -> Outcome {
    match printer {
        Some(printer) => printer.print(&info.object),
        None => {
            out::line(&format!("{} {verb}", info.result_name()));
            Ok(())
        }
    }
}
