//! Servers that have a part of the control plane only: which parts go together.

use cluster::Paths;
use datastore::embedded;
use stdx::{Error, Result};

use crate::settings::config::Config;

/// Whether the parts that are left out go together, with each other and with the datastore; k3s's words where it has
/// some.
///
/// # Errors
/// What does not.
pub(crate) fn check(config: &Config) -> Result<()> {
    let has_server = config.server.as_deref().is_some_and(|server| !server.is_empty());
    let refused = [
        (
            config.disable_etcd && !has_server,
            "invalid flag use; --server is required with --disable-etcd",
        ),
        (
            config.disable_apiserver && config.datastore.is_some(),
            "invalid flag use; cannot use --disable-apiserver with --datastore-endpoint",
        ),
        (
            config.disable_etcd && config.datastore.is_some(),
            "invalid flag use; cannot use --disable-etcd with --datastore-endpoint",
        ),
        (
            config.disable_etcd && config.disable_apiserver,
            "invalid flag use; --disable-apiserver and --disable-etcd leave nothing of a server: use k3rs agent",
        ),
        (
            config.disable_etcd && (config.cluster_init || config.cluster_reset),
            "invalid flag use; cannot use --cluster-init or --cluster-reset with --disable-etcd",
        ),
        (
            config.disable_apiserver
                && !(has_server || config.cluster_init || config.cluster_reset)
                && !embedded::is_initialized(&Paths::new(&config.data_dir).etcd()),
            "invalid flag use; --cluster-init or --server is required with --disable-apiserver",
        ),
        // Here they call the API server of their process, and no other.
        (
            config.disable_apiserver
                && !(config.disable_controller_manager && config.disable_scheduler),
            "invalid flag use; --disable-controller-manager and --disable-scheduler are required with --disable-apiserver",
        ),
        (
            config.disable_apiserver && config.kine_socket,
            "invalid flag use; cannot use --kine-socket with --disable-apiserver: etcd serves clients itself",
        ),
    ];
    match refused.iter().find(|(is_so, _)| *is_so) {
        Some((_, why)) => Err(Error::new(*why)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::flags::On;

    #[test]
    fn parts_that_go_together() {
        let only_etcd =
            "--disable-apiserver --disable-controller-manager --disable-scheduler --cluster-init";
        for (args, refused) in [
            ("", ""),
            (only_etcd, ""),
            ("--disable-etcd=false", ""),
            ("--disable-etcd --server https://a", ""),
            ("--disable-etcd --server https://a --disable-scheduler", ""),
            ("--disable-etcd", "--server is required"),
            ("--disable-etcd --server=", "--server is required"),
            ("--disable-etcd --server https://a --cluster-init", "cannot use --cluster-init"),
            ("--disable-etcd --server https://a --cluster-reset", "--cluster-reset with"),
            (
                "--disable-etcd --server https://a --datastore-endpoint http://b",
                "cannot use --disable-etcd with --datastore-endpoint",
            ),
            (
                "--disable-apiserver --datastore-endpoint http://b",
                "cannot use --disable-apiserver with --datastore-endpoint",
            ),
            ("--disable-apiserver --disable-etcd --server https://a", "leave nothing"),
            ("--disable-apiserver --cluster-init", "--disable-scheduler are required"),
            ("--disable-apiserver --disable-scheduler", "--cluster-init or --server is required"),
        ] {
            let own = ["--config=/dev/null", "--data-dir=/nonexistent"];
            let args = args.split_whitespace().chain(own);
            let args: Vec<String> = args.map(str::to_owned).collect();
            let config = Config::load(On::Server, &args, |_| None).unwrap();
            let why = check(&config).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(
                why.contains(refused) && why.is_empty() == refused.is_empty(),
                "{args:?}: {why}"
            );
        }
    }
}
