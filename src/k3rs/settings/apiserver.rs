//! What `--kube-apiserver-arg` says: flags of kube-apiserver that are honoured here.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use server::{
    AuditMode, AuditOptions, AuditSink, AuthenticationOptions, AuthorizationOptions,
    TokenWebhookOptions,
};
use stdx::{Error, Result};

use crate::settings::component::{Args, Component};
use crate::settings::flags;

/// What `--kube-apiserver-arg` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ApiserverArgs {
    /// Admission plugins by name, on and off beside the defaults, and the file that configures them.
    pub(crate) enable: Vec<String>,
    pub(crate) disable: Vec<String>,
    /// Feature gates that are to be otherwise than by default.
    pub(crate) gates: Vec<String>,
    pub(crate) admission_file: Option<PathBuf>,
    /// What the datastore is encrypted with, and whether the file is read again when it changes.
    pub(crate) encryption_file: Option<PathBuf>,
    pub(crate) encryption_reload: bool,
    pub(crate) audit: AuditOptions,
    pub(crate) token_webhook: TokenWebhookOptions,
    pub(crate) in_flight: InFlight,
    pub(crate) authentication: AuthenticationOptions,
    pub(crate) authorization: AuthorizationOptions,
    /// Flags that upstream takes and that do nothing beside the others, each with the reason.
    pub(crate) idle: Vec<String>,
}

/// How many requests are worked on at once, and whether flow schemas share them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) fair: bool,
    mutating_max: usize,
    reading_max: usize,
}

/// More than there are ever at once.
const NO_LIMIT: usize = 1 << 20;

impl InFlight {
    pub(crate) fn mutating_max(&self) -> usize {
        self.limit(self.mutating_max)
    }

    pub(crate) fn reading_max(&self) -> usize {
        self.limit(self.reading_max)
    }

    /// What is not shared out has no limit by nought.
    fn limit(&self, number: usize) -> usize {
        if number == 0 && !self.fair { NO_LIMIT } else { number }
    }
}

impl Default for InFlight {
    fn default() -> InFlight {
        InFlight { fair: true, mutating_max: 200, reading_max: 400 }
    }
}

impl ApiserverArgs {
    /// Of several values of one name the last counts, as in k3s.
    ///
    /// # Errors
    /// For what is not known, and for values that are none, in upstream's words.
    pub(crate) fn parse(args: &[String]) -> Result<ApiserverArgs> {
        let mut read = ApiserverArgs::default();
        let mut audit = AuditArgs::default();
        // What upstream knows, and what its flags take.
        let mut known = Args::read(Component::Apiserver, args)?;
        for arg in args {
            let (name, value) = arg.split_once('=').unwrap_or((arg, ""));
            let name = name.trim_start_matches("--");
            let list = || {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                names.map(str::to_owned).collect()
            };
            let file = || Some(PathBuf::from(value)).filter(|_| !value.is_empty());
            let text = || Some(value.to_owned());
            let authorization = &mut read.authorization;
            let switch = || {
                let value = if arg.contains('=') { value } else { "true" };
                flags::switch_value(name, value, "--kube-apiserver-arg")
                    .map(|value| value == "true")
            };
            match name {
                "enable-admission-plugins" => read.enable = list(),
                "disable-admission-plugins" => read.disable = list(),
                "admission-control-config-file" => read.admission_file = file(),
                "encryption-provider-config" => read.encryption_file = file(),
                "encryption-provider-config-automatic-reload" => read.encryption_reload = switch()?,
                "authentication-token-webhook-config-file" => {
                    read.token_webhook.config_file = file();
                }
                "authentication-token-webhook-version" => {
                    value.clone_into(&mut read.token_webhook.version);
                }
                "authentication-token-webhook-cache-ttl" => {
                    value.clone_into(&mut read.token_webhook.cache_ttl);
                }
                "enable-priority-and-fairness" => read.in_flight.fair = switch()?,
                "max-requests-inflight" => read.in_flight.reading_max = count(name, value)?,
                "max-mutating-requests-inflight" => {
                    read.in_flight.mutating_max = count(name, value)?;
                }
                "authentication-config" => read.authentication.config_file = file(),
                "anonymous-auth" => read.authentication.anonymous = Some(switch()?),
                "oidc-issuer-url"
                | "oidc-client-id"
                | "oidc-username-claim"
                | "oidc-username-prefix"
                | "oidc-groups-claim"
                | "oidc-groups-prefix"
                | "oidc-required-claim"
                | "oidc-signing-algs"
                | "oidc-ca-file" => {
                    let name = name.strip_prefix("oidc-").unwrap_or(name);
                    read.authentication.oidc.push((name.to_owned(), value.to_owned()));
                }
                "authorization-mode" => authorization.modes = Some(list()),
                "authorization-webhook-config-file" => authorization.webhook_file = file(),
                "authorization-webhook-version" => authorization.webhook_version = text(),
                "authorization-webhook-cache-authorized-ttl" => {
                    authorization.authorized_ttl = text();
                }
                "authorization-webhook-cache-unauthorized-ttl" => {
                    authorization.unauthorized_ttl = text();
                }
                "authorization-config" => authorization.config_file = file(),
                name if audit.set(name, value, arg.contains('='))? => {}
                name if WAITING.contains(&name) => {
                    return Err(Error::new(format!(
                        "--kube-apiserver-arg={name} is not supported by this version of k3rs yet"
                    )));
                }
                _ => continue,
            }
            known.text(name);
        }
        let InFlight { fair, reading_max, mutating_max } = read.in_flight;
        if fair && reading_max + mutating_max == 0 {
            return Err(Error::new(
                "invalid configuration: MaxRequestsInFlight=0 and MaxMutatingRequestsInFlight=0; they must add up to something positive",
            ));
        }
        let mut wrong = read.authentication.complaints();
        wrong.extend(read.authorization.complaints());
        if !wrong.is_empty() {
            return Err(Error::new(wrong.join(", ")));
        }
        let allows_all = |mode: &String| mode == "AlwaysAllow";
        if read.authorization.modes.iter().flatten().any(allows_all)
            && read.authentication.anonymous == Some(true)
        {
            // As upstream: nobody would have to say who it is, to do anything.
            read.authentication.anonymous = Some(false);
        }
        read.audit = audit.options()?;
        read.gates = known.gates(rules::gates::is_known);
        read.idle = idle(args, &read);
        read.idle.extend(known.idle());
        Ok(read)
    }
}

/// A number of requests.
fn count(name: &str, value: &str) -> Result<usize> {
    let number = i64::from_str(value).map_err(|_| {
        Error::new(format!(
            "invalid argument {value:?} for \"--{name}\" flag: strconv.ParseInt: parsing {value:?}: invalid syntax"
        ))
    })?;
    usize::try_from(number)
        .map(|number| number.min(NO_LIMIT))
        .map_err(|_| Error::new(format!("--{name} can not be negative value")))
}

/// Who asks for one of these relies on it: going on without would let in, keep out or lose what must not be.
const WAITING: [&str; 2] = ["authorization-policy-file", "token-auth-file"];

/// Which arguments say how to do what is not done.
fn idle(args: &[String], read: &ApiserverArgs) -> Vec<String> {
    let audit = &read.audit;
    let why = |name: &str| match name {
        "authentication-token-webhook-version" | "authentication-token-webhook-cache-ttl" => read
            .token_webhook
            .config_file
            .is_none()
            .then_some("without authentication-token-webhook-config-file"),
        "anonymous-auth" => {
            let allows_all = |mode: &String| mode == "AlwaysAllow";
            let allows = read.authorization.modes.iter().flatten().any(allows_all);
            allows
                .then_some("with the AlwaysAllow authorizer: nobody asks without saying who it is")
        }
        "authorization-webhook-version"
        | "authorization-webhook-cache-authorized-ttl"
        | "authorization-webhook-cache-unauthorized-ttl" => read
            .authorization
            .webhook_file
            .is_none()
            .then_some("without authorization-webhook-config-file"),
        name if name.starts_with("audit-webhook-") && audit.webhook_file.is_none() => {
            Some("without audit-webhook-config-file")
        }
        name if name.starts_with("audit-log-") && audit.path.is_none() => {
            Some("without audit-log-path")
        }
        "audit-policy-file" => (audit.path.is_none() && audit.webhook_file.is_none())
            .then_some("without audit-log-path or audit-webhook-config-file"),
        name if name.starts_with("audit-log-batch-") => {
            (audit.log.mode != AuditMode::Batch).then_some("but with audit-log-mode=batch")
        }
        // An old name of what every mode has.
        "audit-webhook-batch-initial-backoff" => None,
        name if name.starts_with("audit-webhook-batch-") => {
            (audit.webhook.mode != AuditMode::Batch).then_some("but with audit-webhook-mode=batch")
        }
        name if name.starts_with("audit-log-truncate-max-") => {
            audit.log.event_max_bytes.is_none().then_some("without audit-log-truncate-enabled")
        }
        name if name.starts_with("audit-webhook-truncate-max-") => audit
            .webhook
            .event_max_bytes
            .is_none()
            .then_some("without audit-webhook-truncate-enabled"),
        "audit-log-maxage" | "audit-log-maxbackup" | "audit-log-maxsize" | "audit-log-compress" => {
            let is_file = audit.path.as_ref().is_some_and(|path| path.as_os_str() != "-");
            (!is_file).then_some("where the log is the standard output")
        }
        _ => None,
    };
    let names = args.iter().map(|arg| arg.split('=').next().unwrap_or("").trim_start_matches("--"));
    names
        .filter_map(|name| Some(format!("--kube-apiserver-arg={name} does nothing {}", why(name)?)))
        .collect()
}

/// The flags of the audit log, as they were given.
struct AuditArgs {
    options: AuditOptions,
    format: String,
    max_age: i64,
    max_backups: i64,
    max_size: i64,
    log: SinkArgs,
    webhook: SinkArgs,
}

/// Those that end alike for both places that events go to.
struct SinkArgs {
    sink: AuditSink,
    mode: String,
    version: String,
    buffer_size: i64,
    batch_max: i64,
    throttles: bool,
    per_second: f32,
    burst: i64,
    truncates: bool,
    event_max_bytes: i64,
    batch_max_bytes: i64,
}

impl Default for AuditArgs {
    fn default() -> AuditArgs {
        AuditArgs {
            options: AuditOptions::default(),
            format: "json".into(),
            max_age: 0,
            max_backups: 0,
            max_size: 0,
            log: SinkArgs::of(AuditSink::default(), "blocking"),
            webhook: SinkArgs::of(AuditSink::webhook(), "batch"),
        }
    }
}

const VERSION: &str = "audit.k8s.io/v1";

/// A value that upstream takes; of which form it is was checked.
fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    value
        .parse()
        .map_err(|_| Error::new(format!("invalid argument {value:?} for \"--{name}\" flag")))
}

impl SinkArgs {
    fn of(sink: AuditSink, mode: &str) -> SinkArgs {
        SinkArgs {
            mode: mode.into(),
            version: VERSION.into(),
            buffer_size: 10_000,
            batch_max: i64::try_from(sink.batch_max).unwrap_or(i64::MAX),
            throttles: sink.throttle.is_some(),
            per_second: 10.0,
            burst: 15,
            truncates: false,
            event_max_bytes: 100 << 10,
            batch_max_bytes: 10 << 20,
            sink,
        }
    }

    /// Takes a flag by the end of its name; false if it is none of these.
    fn set(&mut self, name: &str, end: &str, value: &str, has_value: bool) -> Result<bool> {
        let switch = || {
            let value = if has_value { value } else { "true" };
            flags::switch_value(name, value, "--kube-apiserver-arg").map(|value| value == "true")
        };
        match end {
            "mode" => value.clone_into(&mut self.mode),
            "version" => value.clone_into(&mut self.version),
            "batch-buffer-size" => self.buffer_size = number(name, value)?,
            "batch-max-size" => self.batch_max = number(name, value)?,
            "batch-max-wait" => {
                self.sink.batch_wait = server::go_duration(value).unwrap_or_default()
            }
            "batch-throttle-enable" => self.throttles = switch()?,
            "batch-throttle-qps" => self.per_second = number(name, value)?,
            "batch-throttle-burst" => self.burst = number(name, value)?,
            "truncate-enabled" => self.truncates = switch()?,
            "truncate-max-event-size" => self.event_max_bytes = number(name, value)?,
            "truncate-max-batch-size" => self.batch_max_bytes = number(name, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What they say together; what is wrong of `plugin` goes to `wrong`.
    fn sink(mut self, plugin: &str, wrong: &mut Vec<String>) -> AuditSink {
        let size = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
        let mode = match self.mode.as_str() {
            "batch" => Some(AuditMode::Batch),
            "blocking" => Some(AuditMode::Blocking),
            "blocking-strict" => Some(AuditMode::BlockingStrict),
            _ => None,
        };
        self.sink.mode = mode.unwrap_or_default();
        let positive = "must be a positive number";
        // Of what goes wrong with batches one is told, and only where there are any.
        let is_batch = mode == Some(AuditMode::Batch);
        let bounds: [(bool, &str, &dyn std::fmt::Display); 4] = [
            (self.buffer_size <= 0, "buffer size", &self.buffer_size),
            (self.batch_max <= 0, "max batch size", &self.batch_max),
            (self.throttles && self.per_second <= 0.0, "throttle QPS", &self.per_second),
            (self.throttles && self.burst <= 0, "throttle burst", &self.burst),
        ];
        if mode.is_none() {
            wrong.push(format!(
                "invalid audit {plugin} mode {}, allowed modes are \"batch,blocking,blocking-strict\"",
                self.mode
            ));
        } else if let Some((_, what, value)) = bounds.iter().find(|(bad, ..)| is_batch && *bad) {
            wrong.push(format!("invalid audit batch {plugin} {what} {value}, {positive}"));
        }
        if self.event_max_bytes <= 0 {
            wrong.push(format!(
                "invalid audit truncate {plugin} max event size {}, {positive}",
                self.event_max_bytes
            ));
        } else if self.batch_max_bytes < self.event_max_bytes {
            wrong.push(format!(
                "invalid audit truncate {plugin} max batch size {}, must be greater than max event size ({})",
                self.batch_max_bytes, self.event_max_bytes
            ));
        }
        if self.version != VERSION {
            wrong.push(format!("invalid group version, allowed versions are [{VERSION:?}]"));
        }
        self.sink.buffer_size = size(self.buffer_size);
        self.sink.batch_max = size(self.batch_max);
        let each = Duration::try_from_secs_f32(1.0 / self.per_second).unwrap_or(Duration::MAX);
        self.sink.throttle = self.throttles.then_some((each, size(self.burst)));
        self.sink.event_max_bytes = self.truncates.then_some(size(self.event_max_bytes));
        if self.truncates {
            self.sink.batch_max_bytes = size(self.batch_max_bytes);
        }
        self.sink
    }
}

impl AuditArgs {
    /// Takes a flag; false if it is none of these.
    fn set(&mut self, name: &str, value: &str, has_value: bool) -> Result<bool> {
        let file = || Some(PathBuf::from(value)).filter(|_| !value.is_empty());
        let own = &mut self.options;
        match name {
            "audit-policy-file" => own.policy_file = file(),
            "audit-log-path" => own.path = file(),
            "audit-log-compress" => {
                let value = if has_value { value } else { "true" };
                let value = flags::switch_value(name, value, "--kube-apiserver-arg")?;
                own.compresses = value == "true";
            }
            "audit-log-maxage" => self.max_age = number(name, value)?,
            "audit-log-maxbackup" => self.max_backups = number(name, value)?,
            "audit-log-maxsize" => self.max_size = number(name, value)?,
            "audit-log-format" => value.clone_into(&mut self.format),
            "audit-webhook-config-file" => own.webhook_file = file(),
            "audit-webhook-initial-backoff" | "audit-webhook-batch-initial-backoff" => {
                own.webhook_pause = server::go_duration(value).unwrap_or_default();
            }
            name => {
                return match (name.strip_prefix("audit-log-"), name.strip_prefix("audit-webhook-"))
                {
                    (Some(end), _) => self.log.set(name, end, value, has_value),
                    (_, Some(end)) => self.webhook.set(name, end, value, has_value),
                    _ => Ok(false),
                };
            }
        }
        Ok(true)
    }

    /// What they say together. Where events go to one place or none, nothing of the other is looked at, as upstream.
    fn options(self) -> Result<AuditOptions> {
        let mut options = self.options;
        let mut wrong = Vec::new();
        if options.path.is_some() {
            options.log = self.log.sink("log", &mut wrong);
            options.is_legacy = self.format == "legacy";
            if !options.is_legacy && self.format != "json" {
                wrong.push(format!(
                    "invalid audit log format {}, allowed formats are \"legacy,json\"",
                    self.format
                ));
            }
            let given =
                [("age", self.max_age), ("backup", self.max_backups), ("size", self.max_size)];
            for (name, n) in given.iter().filter(|(_, n)| *n < 0) {
                wrong.push(format!("--audit-log-max{name} {n} can't be a negative number"));
            }
            // What is beyond these bounds is for ever.
            options.max_age_days = u32::try_from(self.max_age).unwrap_or(0);
            options.max_backups = usize::try_from(self.max_backups).unwrap_or(0);
            options.max_size = u32::try_from(self.max_size).unwrap_or(u32::MAX);
        }
        if options.webhook_file.is_some() {
            options.webhook = self.webhook.sink("webhook", &mut wrong);
        }
        match wrong.is_empty() {
            true => Ok(options),
            false => Err(Error::new(wrong.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<AuditOptions, String> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        ApiserverArgs::parse(&args).map(|read| read.audit).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_of_the_audit_log_are_kube_apiservers() {
        let read = parse("--audit-policy-file=/p audit-log-path=/a.log audit-log-maxage=30 audit-log-maxbackup=10 audit-log-maxsize=1 audit-log-compress audit-log-mode=batch audit-log-batch-buffer-size=5 audit-log-format=legacy audit-log-truncate-enabled=true").unwrap();
        let wanted = AuditOptions {
            policy_file: Some("/p".into()),
            path: Some("/a.log".into()),
            max_age_days: 30,
            max_backups: 10,
            max_size: 1,
            compresses: true,
            is_legacy: true,
            log: AuditSink {
                mode: AuditMode::Batch,
                buffer_size: 5,
                event_max_bytes: Some(102_400),
                ..AuditSink::default()
            },
            ..AuditOptions::default()
        };
        assert_eq!(read, wanted);
        assert_eq!(parse("audit-log-maxage=-1").unwrap(), AuditOptions::default());
        let read = parse("audit-webhook-config-file=/w audit-webhook-batch-max-size=7 audit-webhook-batch-max-wait=1500ms audit-webhook-batch-throttle-qps=0.5 audit-webhook-batch-throttle-burst=2 audit-webhook-batch-initial-backoff=1s audit-webhook-truncate-enabled").unwrap();
        let wanted = AuditOptions {
            webhook_file: Some("/w".into()),
            webhook_pause: Duration::from_secs(1),
            webhook: AuditSink {
                batch_max: 7,
                batch_wait: Duration::from_millis(1500),
                throttle: Some((Duration::from_secs(2), 2)),
                event_max_bytes: Some(102_400),
                ..AuditSink::webhook()
            },
            ..AuditOptions::default()
        };
        assert_eq!(read, wanted);
        for (args, wanted) in [
            (
                "audit-log-path=a audit-log-mode=x audit-log-format=y audit-log-maxage=-1",
                "invalid audit log mode x, allowed modes are \"batch,blocking,blocking-strict\", invalid audit log format y, allowed formats are \"legacy,json\", --audit-log-maxage -1 can't be a negative number",
            ),
            (
                "audit-log-path=a audit-log-mode=batch audit-log-batch-buffer-size=0",
                "invalid audit batch log buffer size 0, must be a positive number",
            ),
            (
                "audit-log-path=a audit-log-version=v1",
                "invalid group version, allowed versions are [\"audit.k8s.io/v1\"]",
            ),
            (
                "audit-log-path=a audit-log-truncate-max-batch-size=1",
                "invalid audit truncate log max batch size 1, must be greater than max event size (102400)",
            ),
            (
                "audit-log-maxsize=1G",
                "kube-apiserver: invalid argument \"1G\" for \"--audit-log-maxsize\" flag: strconv.ParseInt: parsing \"1G\": invalid syntax",
            ),
            ("audit-log-maxsizes=1", "kube-apiserver: unknown flag: --audit-log-maxsizes"),
            (
                "oidc-issuer-url=https://a",
                "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set",
            ),
            (
                "oidc-required-claim=a",
                "kube-apiserver: invalid argument \"a\" for \"--oidc-required-claim\" flag: malformed pair, expect string=string",
            ),
            (
                "authorization-webhook-cache-authorized-ttl=soon",
                "kube-apiserver: invalid argument \"soon\" for \"--authorization-webhook-cache-authorized-ttl\" flag: time: invalid duration \"soon\"",
            ),
            (
                "authorization-mode=Webhook,Magic",
                "authorization-mode Webhook's authorization config file not passed, authorization-mode \"Magic\" is not a valid mode",
            ),
            (
                "audit-webhook-config-file=/w audit-webhook-mode=x audit-webhook-truncate-max-event-size=0 audit-webhook-version=v1",
                "invalid audit webhook mode x, allowed modes are \"batch,blocking,blocking-strict\", invalid audit truncate webhook max event size 0, must be a positive number, invalid group version, allowed versions are [\"audit.k8s.io/v1\"]",
            ),
            (
                "audit-webhook-config-file=/w audit-webhook-batch-throttle-qps=0",
                "invalid audit batch webhook throttle QPS 0, must be a positive number",
            ),
            (
                "audit-log-path=a audit-log-mode=batch audit-log-batch-max-size=0",
                "invalid audit batch log max batch size 0, must be a positive number",
            ),
            (
                "audit-log-path=a audit-log-mode=batch audit-log-batch-throttle-enable audit-log-batch-throttle-burst=-1",
                "invalid audit batch log throttle burst -1, must be a positive number",
            ),
            (
                "token-auth-file=/w",
                "--kube-apiserver-arg=token-auth-file is not supported by this version of k3rs yet",
            ),
        ] {
            assert_eq!(parse(args).unwrap_err(), wanted);
        }
    }

    #[test]
    fn requests_in_flight_are_limited_as_told() {
        let parse = |args: &str| {
            let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
            ApiserverArgs::parse(&args).map(|read| read.in_flight).map_err(|why| why.to_string())
        };
        assert_eq!(parse(""), Ok(InFlight::default()));
        assert_eq!(
            parse(
                "max-requests-inflight=5 --max-mutating-requests-inflight=0 enable-priority-and-fairness=false"
            ),
            Ok(InFlight { fair: false, mutating_max: 0, reading_max: 5 })
        );
        // Without levels to share them out, nought is no limit.
        let none = parse(
            "max-requests-inflight=0 max-mutating-requests-inflight=0 enable-priority-and-fairness=false",
        );
        assert_eq!(none.map(|it| (it.mutating_max(), it.reading_max())), Ok((NO_LIMIT, NO_LIMIT)));
        for (args, wanted) in [
            (
                "max-requests-inflight=0 max-mutating-requests-inflight=0",
                "invalid configuration: MaxRequestsInFlight=0 and MaxMutatingRequestsInFlight=0; they must add up to something positive",
            ),
            ("max-requests-inflight=-1", "--max-requests-inflight can not be negative value"),
            (
                "max-mutating-requests-inflight=x",
                "kube-apiserver: invalid argument \"x\" for \"--max-mutating-requests-inflight\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(parse(args).unwrap_err(), wanted);
        }
    }

    #[test]
    fn flags_that_do_nothing_beside_the_others_are_told() {
        for (args, told) in [
            ("audit-policy-file=/p audit-log-path=/l audit-log-maxage=1", ""),
            (
                "audit-policy-file=/p audit-log-mode=batch",
                "--kube-apiserver-arg=audit-policy-file does nothing without audit-log-path or audit-webhook-config-file; --kube-apiserver-arg=audit-log-mode does nothing without audit-log-path",
            ),
            (
                "audit-policy-file=/p audit-webhook-config-file=/w audit-webhook-mode=blocking audit-webhook-batch-max-size=5 audit-webhook-truncate-max-event-size=5 audit-log-mode=batch",
                "--kube-apiserver-arg=audit-webhook-batch-max-size does nothing but with audit-webhook-mode=batch; --kube-apiserver-arg=audit-webhook-truncate-max-event-size does nothing without audit-webhook-truncate-enabled; --kube-apiserver-arg=audit-log-mode does nothing without audit-log-path",
            ),
            (
                "audit-webhook-mode=batch",
                "--kube-apiserver-arg=audit-webhook-mode does nothing without audit-webhook-config-file",
            ),
            ("etcd-prefix=/x", "--kube-apiserver-arg: etcd-prefix"),
            // Without a policy the log itself says that it is empty, in upstream's words.
            ("audit-log-path=/l", ""),
            (
                "audit-policy-file=/p --audit-log-path=- audit-log-compress",
                "--kube-apiserver-arg=audit-log-compress does nothing where the log is the standard output",
            ),
            (
                "audit-policy-file=/p audit-log-path=/l audit-log-batch-buffer-size=5",
                "--kube-apiserver-arg=audit-log-batch-buffer-size does nothing but with audit-log-mode=batch",
            ),
            (
                "audit-policy-file=/p audit-log-path=/l audit-log-truncate-max-event-size=5",
                "--kube-apiserver-arg=audit-log-truncate-max-event-size does nothing without audit-log-truncate-enabled",
            ),
            (
                "authentication-token-webhook-cache-ttl=1m",
                "--kube-apiserver-arg=authentication-token-webhook-cache-ttl does nothing without authentication-token-webhook-config-file",
            ),
            (
                "authorization-mode=AlwaysAllow anonymous-auth=true",
                "--kube-apiserver-arg=anonymous-auth does nothing with the AlwaysAllow authorizer: nobody asks without saying who it is",
            ),
            (
                "authorization-mode=RBAC,AlwaysDeny authorization-webhook-version=v1",
                "--kube-apiserver-arg=authorization-webhook-version does nothing without authorization-webhook-config-file",
            ),
        ] {
            let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
            assert_eq!(ApiserverArgs::parse(&args).unwrap().idle.join("; "), told, "{args:?}");
        }
    }
}
