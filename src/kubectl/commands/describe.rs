//! `kubectl describe`

use api::{Lens, Value};
use describe::{Answer, Need, Sort};

use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, switched_on};
use crate::select::{self, Info, Pick};
use crate::zone::Zone;
use crate::{options, out};

const OWN: &[Flag] =
    &[switched_on("show-events", "If true, display events related to the described object.")];

pub(crate) static COMMAND: Command = Command {
    name: "describe",
    about: "Show details of a specific resource or group of resources.",
    usage: "(-f FILENAME | TYPE [NAME_PREFIX | -l label] | TYPE/NAME)",
    flags: &[OWN, options::ALL_NAMESPACES, options::CHUNKS, options::FILES, options::SELECTOR],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let mut pick = Pick::of(call, call.args());
    pick.all = true;
    if pick.args.is_empty() && !pick.has_files() {
        return failed(
            "You must specify the type of resource to describe. Use \"kubectl api-resources\" for a complete list of supported resources.\n",
        );
    }
    let (infos, mut failures) = select::infos(call, &pick)?;
    if let ([failure], [], [_, prefix]) =
        (failures.as_slice(), infos.as_slice(), pick.args.as_slice())
        && failure.is_not_found()
    {
        return matching(call, &pick, prefix, failures.remove(0));
    }
    let zone = Zone::of(call);
    let is_empty = infos.is_empty() && failures.is_empty();
    let mut is_first = true;
    for info in infos {
        match one(call, &info, &zone) {
            Ok(text) => {
                let between = if std::mem::replace(&mut is_first, false) { "" } else { "\n\n" };
                out::print(&[between, &text].concat());
            }
            Err(failure) => failures.push(failure),
        }
    }
    if is_empty {
        out::tell(&match pick.all_namespaces {
            true => "No resources found".to_owned(),
            false => format!("No resources found in {} namespace.", call.namespace()?.0),
        });
    }
    Failure::all(failures)
}

/// All whose names begin with a word that is nobody's name.
fn matching(call: &Call<'_>, pick: &Pick, prefix: &str, missing: Failure) -> Outcome {
    let all = Pick { args: vec![pick.args[0].clone()], all: true, ..pick.clone() };
    let zone = Zone::of(call);
    let mut is_found = false;
    for info in select::all_infos(call, &all)?.iter().filter(|info| info.name.starts_with(prefix)) {
        is_found = true;
        out::line(&one(call, info, &zone)?);
    }
    if is_found { Ok(()) } else { Err(missing) }
}

/// The description of an object, with what else the server has to say of it.
fn one(call: &Call<'_>, info: &Info, zone: &Zone) -> Outcome<String> {
    let resource = &info.resource;
    let sort = Sort { group: &resource.group, kind: &resource.kind };
    let fetched;
    let object = match describe::version(sort) {
        Some(version) if version != resource.version => {
            let mut wanted = (**resource).clone();
            version.clone_into(&mut wanted.version);
            fetched = call.rest()?.get(&wanted.path(&info.namespace, &info.name))?;
            &fetched
        }
        _ => &info.object,
    };
    let mut related = Vec::new();
    for need in describe::needs(sort, object, call.is("show-events")) {
        let answer = match fetch(call, &need) {
            Ok(tree) => Ok(tree),
            Err(failure) => {
                let code = match &failure {
                    Failure::Status(status) => {
                        status.int("code").and_then(|code| u16::try_from(code).ok())
                    }
                    _ => None,
                };
                let code = code.unwrap_or(0);
                if need.fails && (code == 0 || code != need.fails_not_with) {
                    return Err(failure);
                }
                Answer::Err(describe::Failure { code, message: failure.text() })
            }
        };
        related.push((need.part, answer));
    }
    let text = describe::describe(sort, object, &related, rt::now().wall, &|secs| zone.at(secs));
    text.map_err(Failure::Message)
}

/// What a description needs: an object, or all elements of a list.
fn fetch(call: &Call<'_>, need: &Need) -> Outcome<Value> {
    let rest = call.rest()?;
    if !need.is_list {
        return rest.get(&need.path);
    }
    let limit = call.int("chunk-size").max(0);
    let limit = if limit > 0 { limit.to_string() } else { String::new() };
    let (key, selector) =
        need.selector.as_ref().map_or(("", ""), |(key, text)| (*key, text.as_str()));
    let plain = Pick::default();
    let (mut items, mut token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let more = [(key, selector), ("limit", limit.as_str()), ("continue", token.as_str())];
        let mut page = rest.get(&[&need.path, &*select::list_query(&plain, &more)].concat())?;
        if let Some(Value::Array(own)) = page.get_mut("items") {
            items.append(own);
        }
        page.str("metadata.continue").clone_into(&mut token);
        if token.is_empty() {
            break;
        }
    }
    Ok(Value::Array(items))
}

/// Pages of one list.
const PAGES_MAX: usize = 10_000;
