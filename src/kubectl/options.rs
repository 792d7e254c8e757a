//! Flags that many commands share.

use crate::flags::{Flag, array, duration, int, list, switch, switched_on, text};

/// Flags that are taken and that no code reads, for nothing that anybody sees would differ; each with the reason.
/// `tidy` finds a flag that nobody reads and that is not here, and one that is here and read.
pub(crate) const HINTS: &[(&str, &str)] = &[
    ("cache-dir", "nothing is cached"),
    ("cached", "nothing is cached"),
    ("concurrency", "one object after another"),
    ("disable-compression", "nothing is asked for compressed"),
    ("log-flush-frequency", "messages are not held back"),
    ("openapi-patch", "built-in types say how lists are merged"),
    ("profile-output", "no profile is written"),
    ("use-protocol-buffers", "JSON says the same"),
];

/// Of every command.
pub(crate) const GLOBAL: &[Flag] = &[
    text("as", "", "Username to impersonate for the operation"),
    array("as-group", "Group to impersonate, repeatable"),
    text("as-uid", "", "UID to impersonate for the operation"),
    text("cache-dir", "", ""),
    text("certificate-authority", "", "Path to a cert file for the certificate authority"),
    text("client-certificate", "", "Path to a client certificate file for TLS"),
    text("client-key", "", "Path to a client key file for TLS"),
    text("cluster", "", "The name of the kubeconfig cluster to use"),
    text("context", "", "The name of the kubeconfig context to use"),
    switch("disable-compression", ""),
    switch("insecure-skip-tls-verify", "Do not check the server's certificate"),
    text("kubeconfig", "", "Path to the kubeconfig file"),
    duration("log-flush-frequency", "5s", ""),
    switch("match-server-version", "Require server version to match client version"),
    text("namespace", "", "The namespace scope for this request").short('n'),
    text("password", "", "Password for basic authentication to the API server"),
    text("profile", "none", "Only none"),
    text("profile-output", "profile.pprof", ""),
    text(
        "request-timeout",
        "0",
        "How long to wait for one server request (1s, 2m, 3h); 0 is for ever",
    ),
    text("server", "", "The address and port of the Kubernetes API server").short('s'),
    text("tls-server-name", "", "Server name to use for server certificate validation"),
    text("token", "", "Bearer token for authentication to the API server"),
    text("user", "", "The name of the kubeconfig user to use"),
    text("username", "", "Username for basic authentication to the API server"),
    int("v", "0", "Number for the log level verbosity").short('v'),
    text("vmodule", "", "Refused: messages are chosen by --v only"),
    switch("warnings-as-errors", "Treat warnings from the server as errors"),
];

/// Of commands that print objects.
pub(crate) const PRINT: &[Flag] = &[
    switched_on("allow-missing-template-keys", "Templates may name what is missing"),
    text(
        "output",
        "",
        "json, yaml, name, go-template[-file], template[file], jsonpath[-as-json|-file]",
    )
    .short('o'),
    switch("show-managed-fields", "Keep the managedFields in JSON and YAML"),
    text("template", "", "Template of -o=go-template, or its file"),
];

/// Of commands that read files.
pub(crate) const FILES: &[Flag] = &[
    list("filename", "File, directory or URL that holds the resources").short('f'),
    text("kustomize", "", "Directory of a kustomization").short('k'),
    switch("recursive", "Process directories recursively").short('R'),
];

/// Of commands that read files, and the directories in them unless they are told not to.
pub(crate) const DEEP_FILES: &[Flag] = &[
    list("filename", "File, directory or URL that holds the resources").short('f'),
    switched_on("recursive", "Process directories recursively").short('R'),
];

pub(crate) const SELECTOR: &[Flag] = &[text("selector", "", "Label query").short('l')];
pub(crate) const FIELD_SELECTOR: &[Flag] = &[text("field-selector", "", "Field query")];
pub(crate) const ALL_NAMESPACES: &[Flag] =
    &[switch("all-namespaces", "In all namespaces").short('A')];
pub(crate) const CHUNKS: &[Flag] =
    &[int("chunk-size", "500", "Objects of one page; 0 for all at once")];
pub(crate) const DRY_RUN: &[Flag] =
    &[text("dry-run", "none", "none, server or client").bare("unchanged")];
pub(crate) const VALIDATE: &[Flag] =
    &[text("validate", "strict", "strict, warn or ignore").bare("strict")];
pub(crate) const SAVE_CONFIG: &[Flag] =
    &[switch("save-config", "Keep what was applied in an annotation")];
pub(crate) const LOCAL: &[Flag] = &[switch("local", "Do not ask the server")];
pub(crate) const ALL: &[Flag] = &[switch("all", "All resources of the types, in the namespace")];
