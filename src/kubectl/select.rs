//! Which objects a command is about: types and names on the command line, selectors, files.

use std::rc::Rc;

use api::form::Form;
use api::kinds::CONFIG_MAP;
use api::{Lens, LensMut, Value, codec, json};

use crate::call::Call;
use crate::discovery::{Resource, escape};
use crate::failure::{Failure, Outcome, failed};
use crate::kustomize::Settings;
use crate::{files, kustomize};

/// Pages of one list.
const PAGES_MAX: usize = 100_000;

pub(crate) const FILES_AND_ARGS: &str = "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well";

/// An object that a command is about.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub(crate) resource: Rc<Resource>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// As the server has it, or as the file has it.
    pub(crate) object: Value,
    /// The file that it came from; "" for none.
    pub(crate) source: String,
}

impl Info {
    /// Its path on the server.
    pub(crate) fn path(&self) -> String {
        self.resource.path(&self.namespace, &self.name)
    }

    /// `deployment.apps/x`
    pub(crate) fn result_name(&self) -> String {
        format!("{}/{}", self.resource.result_name(), self.name)
    }

    /// Takes in what the server says of it now.
    pub(crate) fn refresh(&mut self, object: Value) {
        self.name = object.str("metadata.name").to_owned();
        self.namespace = object.str("metadata.namespace").to_owned();
        self.object = object;
    }
}

/// What was asked for of one type.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Named(Rc<Resource>, String),
    /// All of the type, within selectors.
    Listed(Rc<Resource>),
}

impl Target {
    pub(crate) fn resource(&self) -> &Rc<Resource> {
        match self {
            Target::Named(resource, _) | Target::Listed(resource) => resource,
        }
    }
}

/// How a command picks objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pick {
    pub(crate) args: Vec<String>,
    pub(crate) selector: String,
    pub(crate) field_selector: String,
    /// All of a type are meant where no name and no selector is given.
    pub(crate) all: bool,
    pub(crate) all_namespaces: bool,
    pub(crate) files: Vec<String>,
    pub(crate) recursive: bool,
    /// The directory of a kustomization, read after the files; "" for none.
    pub(crate) kustomize: String,
    pub(crate) subresource: String,
    pub(crate) chunk: i64,
    /// Nothing is asked of the server: files are the objects.
    pub(crate) local: bool,
    /// Files are looked at for what every object needs.
    pub(crate) validates: bool,
    /// A lone word may be a name of this type (`logs NAME`).
    pub(crate) default_type: &'static str,
}

impl Pick {
    /// By the usual flags of a command.
    pub(crate) fn of(call: &Call<'_>, args: &[String]) -> Pick {
        Pick {
            args: args.to_vec(),
            selector: call.text("selector").to_owned(),
            field_selector: call.text("field-selector").to_owned(),
            all: call.is("all"),
            all_namespaces: call.is("all-namespaces"),
            files: call.list("filename"),
            recursive: call.is("recursive"),
            kustomize: call.text("kustomize").to_owned(),
            subresource: call.text("subresource").to_owned(),
            chunk: call.text("chunk-size").parse().unwrap_or(500),
            local: call.is("local"),
            validates: !matches!(call.text("validate"), "" | "ignore" | "false"),
            default_type: "",
        }
    }

    pub(crate) fn has_files(&self) -> bool {
        !self.files.is_empty() || !self.kustomize.is_empty()
    }

    fn is_selective(&self) -> bool {
        !self.selector.is_empty() || !self.field_selector.is_empty()
    }

    /// Whether the command line means one object.
    pub(crate) fn is_single(&self) -> bool {
        if self.is_selective() || self.args.is_empty() {
            return false;
        }
        match self.args.len() {
            1 => self.args[0].contains('/'),
            2 => !self.args[0].contains([',', '/']) && self.args[0] != "all",
            _ => false,
        }
    }
}

/// The types and names of a command line.
///
/// # Errors
/// If a type is unknown, or the words do not fit together.
pub(crate) fn targets(call: &Call<'_>, pick: &Pick) -> Outcome<Vec<Target>> {
    let rest = call.rest()?;
    let mut found = Vec::new();
    let args = &pick.args;
    if args.iter().any(|arg| arg.contains('/')) {
        if pick.is_selective() && !args.is_empty() {
            return failed("name cannot be provided when a selector is specified");
        }
        for arg in args {
            let Some((kind, name)) = arg.split_once('/') else {
                if !pick.default_type.is_empty() {
                    found.push(Target::Named(
                        call.mapper()?.find(rest, pick.default_type)?,
                        arg.clone(),
                    ));
                    continue;
                }
                return failed(
                    "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'",
                );
            };
            if name.contains('/') {
                return failed("arguments in resource/name form may not have more than one slash");
            }
            if kind.is_empty() || name.is_empty() {
                return failed(
                    "arguments in resource/name form must have a single resource and name",
                );
            }
            for resource in types(call, kind)? {
                found.push(Target::Named(resource, name.to_owned()));
            }
        }
        return across(pick, found);
    }
    if !pick.default_type.is_empty() && args.len() == 1 {
        let resource = call.mapper()?.find(rest, pick.default_type)?;
        return Ok(vec![Target::Named(resource, args[0].clone())]);
    }
    let Some((word, names)) = args.split_first() else { return Ok(found) };
    if names.is_empty() {
        let types = types(call, word)?;
        if !pick.all && !pick.is_selective() {
            return failed("resource(s) were provided, but no name was specified");
        }
        found.extend(types.into_iter().map(Target::Listed));
        return Ok(found);
    }
    if pick.is_selective() {
        return failed("name cannot be provided when a selector is specified");
    }
    for resource in types(call, word)? {
        found.extend(names.iter().map(|name| Target::Named(Rc::clone(&resource), name.clone())));
    }
    across(pick, found)
}

fn across(pick: &Pick, found: Vec<Target>) -> Outcome<Vec<Target>> {
    match pick.all_namespaces {
        true => failed("a resource cannot be retrieved by name across all namespaces"),
        false => Ok(found),
    }
}

/// The types of `a,b,c`, categories among them.
pub(crate) fn types(call: &Call<'_>, words: &str) -> Outcome<Vec<Rc<Resource>>> {
    let (rest, mapper) = (call.rest()?, call.mapper()?);
    let mut found: Vec<Rc<Resource>> = Vec::new();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match mapper.find(rest, word) {
            Ok(resource) => found.push(resource),
            Err(failure) => match mapper.category(rest, word)? {
                all if all.is_empty() => return Err(failure),
                all => found.extend(all),
            },
        }
    }
    Ok(found)
}

/// The query of a list.
pub(crate) fn list_query(pick: &Pick, more: &[(&str, &str)]) -> String {
    let mut query = String::new();
    let own = [
        ("fieldSelector", pick.field_selector.as_str()),
        ("labelSelector", pick.selector.as_str()),
    ];
    for (key, value) in own.iter().chain(more).filter(|(_, value)| !value.is_empty()) {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(&format!("{key}={}", escape(value)));
    }
    query
}

/// A list, page by page as one tree.
pub(crate) fn list(
    call: &Call<'_>,
    resource: &Resource,
    namespace: &str,
    pick: &Pick,
) -> Outcome<Value> {
    let path = resource.path(namespace, "");
    let limit = if pick.chunk > 0 { pick.chunk.to_string() } else { String::new() };
    let mut whole = Value::Null;
    let mut token = String::new();
    for _ in 0..PAGES_MAX {
        let target =
            format!("{path}{}", list_query(pick, &[("limit", &limit), ("continue", &token)]));
        let mut page =
            call.rest()?.get(&target).map_err(|failure| unlisted(failure, resource, pick))?;
        token = page.str("metadata.continue").to_owned();
        match (whole.get_mut("items"), page.get_mut("items")) {
            (Some(Value::Array(items)), Some(Value::Array(more))) => items.append(more),
            _ => whole = page,
        }
        if token.is_empty() {
            break;
        }
    }
    whole.at_mut("metadata").and_then(Value::as_object_mut).map(|map| map.remove("continue"));
    Ok(whole)
}

/// A resource as upstream's messages print it.
pub(crate) fn shown(resource: &Resource) -> String {
    let slash = if resource.group.is_empty() { "/" } else { "" };
    format!("{slash}{}, Resource={}", resource.api_version(), resource.plural)
}

/// Why there is no list, with what was asked for.
pub(crate) fn unlisted(failure: Failure, resource: &Resource, pick: &Pick) -> Failure {
    if !matches!(failure.reason(), "BadRequest" | "NotFound") {
        return failure;
    }
    let what = shown(resource);
    failure.during(&match pick.is_selective() {
        false => format!("Unable to list {what:?}"),
        true => format!(
            "Unable to find {what:?} that match label selector {:?}, field selector {:?}",
            pick.selector, pick.field_selector
        ),
    })
}

/// The items of a list, each saying what it is.
pub(crate) fn items(resource: &Resource, list: Value) -> Vec<Value> {
    let Value::Object(mut map) = list else { return Vec::new() };
    let Some(Value::Array(mut items)) = map.remove("items") else { return Vec::new() };
    for item in &mut items {
        item.set_default("apiVersion", resource.api_version());
        item.set_default("kind", resource.kind.as_str());
    }
    items
}

/// The objects that a command is about, as the server has them; those that there are, and a failure for each other one.
///
/// # Errors
/// If the command line is wrong, or a file cannot be read.
pub(crate) fn infos(call: &Call<'_>, pick: &Pick) -> Outcome<(Vec<Info>, Vec<Failure>)> {
    let (namespace, _) = call.namespace()?;
    if pick.has_files() {
        if !pick.args.is_empty() && !pick.local {
            return failed(FILES_AND_ARGS);
        }
        return of_files(call, pick);
    }
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for target in targets(call, pick)? {
        let resource = Rc::clone(target.resource());
        let within = match (resource.namespaced, pick.all_namespaces) {
            (true, false) => namespace.clone(),
            _ => String::new(),
        };
        match target {
            Target::Named(_, name) => {
                let mut path = resource.path(&within, &name);
                if !pick.subresource.is_empty() {
                    path = format!("{path}/{}", pick.subresource);
                }
                match call.rest()?.get(&path) {
                    Ok(object) => found.push(Info {
                        resource,
                        namespace: within,
                        name,
                        object,
                        source: String::new(),
                    }),
                    Err(failure) => failures.push(failure),
                }
            }
            Target::Listed(_) => match list(call, &resource, &within, pick) {
                Ok(list) => {
                    for object in items(&resource, list) {
                        let mut info = Info {
                            resource: Rc::clone(&resource),
                            namespace: String::new(),
                            name: String::new(),
                            object: Value::Null,
                            source: String::new(),
                        };
                        info.refresh(object);
                        found.push(info);
                    }
                }
                Err(failure) => failures.push(failure),
            },
        }
    }
    Ok((found, failures))
}

/// The same, where one that is missing ends the command.
pub(crate) fn all_infos(call: &Call<'_>, pick: &Pick) -> Outcome<Vec<Info>> {
    let (found, failures) = infos(call, pick)?;
    Failure::all(failures).map(|()| found)
}

/// The files' objects as the server has them.
fn of_files(call: &Call<'_>, pick: &Pick) -> Outcome<(Vec<Info>, Vec<Failure>)> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for info in read(call, pick)? {
        let mut info = match info {
            Ok(info) => info,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        if !pick.local {
            match call.rest()?.get(&info.path()) {
                Ok(object) => info.refresh(object),
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            }
        }
        found.push(info);
    }
    Ok((found, failures))
}

/// The files' objects as the files have them, in their namespaces; in the place of one what is wrong with it: no YAML, an unknown kind, another
/// namespace than the one that was named.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn read(call: &Call<'_>, pick: &Pick) -> Outcome<Vec<Outcome<Info>>> {
    let mut found = Vec::new();
    let mut given_up = String::new();
    for read in objects(call, pick)? {
        let read = match read {
            Ok(read) if read.source == given_up => continue,
            Ok(read) => read,
            Err(failure) => {
                found.push(Err(failure));
                continue;
            }
        };
        // As upstream, which reads no further in a file where an object does not say what it is.
        if pick.validates
            && let Err(failure) = validate(&read)
        {
            given_up = read.source;
            found.push(Err(failure));
            continue;
        }
        found.push(info_of(call, read, pick.local));
    }
    Ok(found)
}

/// The same, where what is wrong ends the command.
pub(crate) fn all_read(call: &Call<'_>, pick: &Pick) -> Outcome<Vec<Info>> {
    read(call, pick)?.into_iter().collect()
}

/// Refuses files that are not there, and a kustomization beside them.
///
/// # Errors
/// Those.
pub(crate) fn check(pick: &Pick) -> Outcome {
    if pick.kustomize.is_empty() {
        return files::check(&pick.files, pick.recursive);
    }
    if !pick.files.is_empty() {
        return failed("only one of -f or -k can be specified");
    }
    match pick.recursive {
        true => failed("the -k flag can't be used with -f or -R"),
        false => Ok(()),
    }
}

/// What the files hold, and what the kustomization builds.
///
/// # Errors
/// If a file cannot be read, or the kustomization not be built.
pub(crate) fn objects(call: &Call<'_>, pick: &Pick) -> Outcome<Vec<Outcome<files::Read>>> {
    check(pick)?;
    let mut found = files::read(&pick.files, pick.recursive)?;
    if !pick.kustomize.is_empty() {
        let settings = Settings { env: call.world.env, is_unrestricted: false };
        let built = kustomize::build(&pick.kustomize, &settings)?;
        let source = pick.kustomize.clone();
        found.extend(
            built.into_iter().map(|object| Ok(files::Read { object, source: source.clone() })),
        );
    }
    Ok(found)
}

/// Does something with each object; as upstream, what could not be done is told before what could not be read.
pub(crate) fn visit(read: Vec<Outcome<Info>>, mut each: impl FnMut(Info) -> Outcome) -> Outcome {
    let (mut failures, mut unread) = (Vec::new(), Vec::new());
    for info in read {
        match info {
            Ok(info) => failures.extend(each(info).err()),
            Err(failure) => unread.push(failure),
        }
    }
    failures.append(&mut unread);
    Failure::all(failures)
}

/// Refuses an object that does not say what it is, and what is none.
fn validate(read: &files::Read) -> Outcome {
    let missing: Vec<String> = ["apiVersion", "kind"]
        .iter()
        .filter_map(|field| match read.object.get(field) {
            None | Some(Value::Null) => Some(format!("{field} not set")),
            Some(Value::String(_)) => None,
            Some(_) => Some(format!("{field} isn't string type")),
        })
        .collect();
    let said = match missing.as_slice() {
        _ if !read.object.is_object() => "invalid object to validate".to_owned(),
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    failed(format!(
        "error validating {:?}: error validating data: {said}; if you choose to ignore these errors, turn validation off with --validate=false",
        read.source
    ))
}

/// A file's object with its resource and namespace.
pub(crate) fn info_of(call: &Call<'_>, read: files::Read, is_local: bool) -> Outcome<Info> {
    let files::Read { mut object, source } = read.checked()?;
    let (api_version, kind) = (object.str("apiVersion").to_owned(), object.str("kind").to_owned());
    if kind.is_empty() {
        return failed(format!(
            "unable to decode {source:?}: Object 'Kind' is missing in '{object}'"
        ));
    }
    metadata(&object)
        .map_err(|why| Failure::Message(format!("unable to decode {source:?}: {why}")))?;
    let resource = match is_local {
        true => Rc::new(guessed(&api_version, &kind)),
        false => match call.mapper()?.of_kind(call.rest()?, &api_version, &kind)? {
            Some(resource) => resource,
            None => {
                return failed(format!(
                    "resource mapping not found for name: {:?} namespace: {:?} from {source:?}: no matches for kind {kind:?} in version {api_version:?}\nensure CRDs are installed first",
                    object.str("metadata.name"),
                    object.str("metadata.namespace"),
                ));
            }
        },
    };
    let mut namespace = object.str("metadata.namespace").to_owned();
    if resource.namespaced && !is_local {
        let (wanted, is_named) = call.namespace()?;
        if namespace.is_empty() {
            object.set("metadata.namespace", wanted.as_str());
            namespace = wanted;
        } else if is_named && namespace != wanted {
            return failed(format!(
                "the namespace from the provided object {namespace:?} does not match the namespace {wanted:?}. You must pass '--namespace={namespace}' to perform this operation."
            ));
        }
    } else if !is_local {
        namespace.clear();
    }
    let name = object.str("metadata.name").to_owned();
    Ok(Info { resource, namespace, name, object, source })
}

/// Looks whether the metadata are of the types that those of every kind have, which a server would say of an object as a whole.
///
/// # Errors
/// The first that is not, in the words of upstream's decoder.
fn metadata(object: &Value) -> Result<(), String> {
    let Some(metadata) = object.get("metadata") else { return Ok(()) };
    let mut only = json!({ "metadata": metadata });
    codec::convert(Form::from(&CONFIG_MAP), &mut only, true).map(drop).map_err(|why| {
        why.decoded().to_string().replace(" ConfigMap.metadata ", " metadataOnlyObject.metadata ")
    })
}

/// What a kind is most likely called, where nobody is asked.
pub(crate) fn guessed(api_version: &str, kind: &str) -> Resource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let singular = kind.to_lowercase();
    let plural = match singular.as_str() {
        it if it.ends_with('s') => format!("{it}es"),
        it if it.ends_with('y') => format!("{}ies", &it[..it.len() - 1]),
        it => format!("{it}s"),
    };
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural,
        singular,
        namespaced: true,
        ..Resource::default()
    }
}
