//! Traefik's annotations on Ingresses and Services.

const PREFIX: &str = "traefik.ingress.kubernetes.io/";

/// What an Ingress's annotations ask for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RouterOptions {
    /// By name; `None` for those that are the default.
    pub(crate) entry_points: Option<Vec<String>>,
    /// `namespace-name`, of those that are custom resources.
    pub(crate) middlewares: Vec<String>,
    /// 0 is what the rule's length says.
    pub(crate) priority: i64,
    pub(crate) path_matcher: PathMatcher,
    pub(crate) tls: bool,
    /// `namespace-name` of a TLSOption.
    pub(crate) tls_options: String,
    /// What is asked for and not done.
    pub(crate) ignored: Vec<String>,
}

/// What a path of no type of its own is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PathMatcher {
    Path,
    #[default]
    PathPrefix,
    PathRegexp,
}

/// What a Service's annotations ask for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceOptions {
    pub(crate) scheme: Option<String>,
    /// `namespace-name` of a ServersTransport.
    pub(crate) transport: String,
    pub(crate) pass_host: bool,
    pub(crate) sticky: Option<Sticky>,
    /// The Service's own address is used and not its endpoints'.
    pub(crate) native: bool,
    pub(crate) ignored: Vec<String>,
}

/// A cookie that leads a client to the same endpoint again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sticky {
    /// "" is a name made of the service's.
    pub name: String,
    pub secure: bool,
    pub http_only: bool,
    /// `none`, `lax`, `strict` or "".
    pub same_site: String,
    /// Seconds; 0 for as long as the browser runs, less deletes it at once.
    pub max_age: i64,
    pub path: String,
    pub domain: String,
}

impl Sticky {
    pub(crate) fn check(&self) -> Result<(), String> {
        let plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !b"\",;\\=".contains(&b));
        if !(plain(&self.name) && plain(&self.path) && plain(&self.domain)) {
            return Err("a cookie's name, path or domain holds what it may not".into());
        }
        match self.same_site.as_str() {
            "" | "none" | "lax" | "strict" => Ok(()),
            other => Err(format!("{other:?} is none of none, lax and strict (sameSite)")),
        }
    }
}

impl RouterOptions {
    /// # Errors
    /// Name the annotation whose value cannot be read: the whole Ingress is left out then, as Traefik does.
    pub(crate) fn read<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<RouterOptions, String> {
        let mut options = RouterOptions::default();
        for (key, value) in pairs {
            let Some(name) = own(key) else { continue };
            let bad = || format!("annotation {key}: {value:?} cannot be used");
            match name.as_str() {
                "router.entrypoints" => options.entry_points = Some(list(value)),
                "router.middlewares" => {
                    for name in list(value) {
                        // What other providers have is not here.
                        match name.strip_suffix("@kubernetescrd") {
                            Some(name) => options.middlewares.push(name.to_owned()),
                            None => {
                                return Err(format!(
                                    "annotation {key}: {name:?} is no middleware of Kubernetes (NAMESPACE-NAME@kubernetescrd)"
                                ));
                            }
                        }
                    }
                }
                "router.priority" => options.priority = value.trim().parse().map_err(|_| bad())?,
                "router.pathmatcher" => {
                    options.path_matcher = match value {
                        "Path" => PathMatcher::Path,
                        "PathPrefix" | "" => PathMatcher::PathPrefix,
                        "PathRegexp" => PathMatcher::PathRegexp,
                        _ => return Err(bad()),
                    }
                }
                "router.tls" => options.tls = flag(value).ok_or_else(bad)?,
                "router.tls.options" => {
                    options.tls = true;
                    let name = value.strip_suffix("@kubernetescrd").ok_or_else(bad)?;
                    name.clone_into(&mut options.tls_options);
                }
                "router.tls.certresolver" => {
                    options.tls = true;
                    options.ignored.push(format!(
                        "{key}: certificates are not fetched by ACME here; cert-manager does that"
                    ));
                }
                name if name.starts_with("router.tls.domains") => options.tls = true,
                "router.rulesyntax" if matches!(value, "v3" | "default" | "") => {}
                name if name.starts_with("router.observability.") => {}
                name if name.starts_with("router.") => {
                    options.ignored.push(format!("{key} is not supported"));
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

impl ServiceOptions {
    /// # Errors
    /// Name the annotation whose value cannot be read.
    pub(crate) fn read<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<ServiceOptions, String> {
        let mut options = ServiceOptions {
            scheme: None,
            transport: String::new(),
            pass_host: true,
            sticky: None,
            native: false,
            ignored: Vec::new(),
        };
        let mut cookie = Sticky { path: "/".into(), ..Sticky::default() };
        let mut sticky = false;
        for (key, value) in pairs {
            let Some(name) = own(key) else { continue };
            let bad = || format!("annotation {key}: {value:?} cannot be used");
            let is = |field: &mut bool| {
                *field = flag(value).ok_or_else(bad)?;
                Ok::<_, String>(())
            };
            match name.as_str() {
                "service.serversscheme" => match value {
                    "http" | "https" | "h2c" => options.scheme = Some(value.to_owned()),
                    _ => return Err(bad()),
                },
                "service.serverstransport" => {
                    let name = value.strip_suffix("@kubernetescrd").ok_or_else(bad)?;
                    name.clone_into(&mut options.transport);
                }
                "service.passhostheader" => is(&mut options.pass_host)?,
                "service.nativelb" => is(&mut options.native)?,
                "service.sticky.cookie" => is(&mut sticky)?,
                "service.sticky.cookie.secure" => is(&mut cookie.secure)?,
                "service.sticky.cookie.httponly" => is(&mut cookie.http_only)?,
                "service.sticky.cookie.name" => value.clone_into(&mut cookie.name),
                "service.sticky.cookie.samesite" => value.clone_into(&mut cookie.same_site),
                "service.sticky.cookie.domain" => value.clone_into(&mut cookie.domain),
                "service.sticky.cookie.path" => value.clone_into(&mut cookie.path),
                "service.sticky.cookie.maxage" => {
                    cookie.max_age = value.trim().parse().map_err(|_| bad())?;
                }
                name if name.starts_with("service.") => {
                    options.ignored.push(format!("{key} is not supported"));
                }
                _ => {}
            }
            sticky |= name.starts_with("service.sticky.cookie.");
        }
        cookie.check()?;
        options.sticky = sticky.then_some(cookie);
        Ok(options)
    }
}

/// The name behind Traefik's prefix, in lower case.
fn own(key: &str) -> Option<String> {
    key.strip_prefix(PREFIX).map(str::to_ascii_lowercase)
}

fn flag(value: &str) -> Option<bool> {
    match value.trim() {
        "true" | "True" | "TRUE" | "1" | "t" | "T" => Some(true),
        "false" | "False" | "FALSE" | "0" | "f" | "F" | "" => Some(false),
        _ => None,
    }
}

fn list(value: &str) -> Vec<String> {
    let items = value.split(',').map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}
