//! Which hosts have which TLS options: of their routes, else those called `default`.

use api::Object;

use crate::middleware::Reference;
use crate::named::own_namespace;
use crate::plan::Builder;
use crate::rule::Hosts;
use crate::table::Key;
use crate::tls_option::TlsOptions;

impl Builder<'_> {
    /// The options called `default`, of whichever namespace, if there is one only.
    pub(crate) fn default_options(&mut self) {
        let model = self.model;
        for (key, option) in &model.tls_options {
            for ignored in &option.ignored {
                self.complain(&option.object, "Unsupported", ignored.clone());
            }
            if let Err(error) = &option.options {
                self.complain(&option.object, "Unsupported", error.clone());
            }
            if *key.1 != *"default" {
                continue;
            }
            let mut others =
                model.tls_options.keys().filter(|other| *other.1 == *"default" && *other != key);
            if let Some((namespace, _)) = others.next() {
                let text =
                    format!("namespace {namespace} has one called default, too: neither is used");
                self.complain(&option.object, "DefaultOptionsTwice", text);
                continue;
            }
            let number = self.options_at(key).unwrap_or_else(|error| {
                // As with Traefik: who depends on them is not served by looser ones.
                let text =
                    format!("{error}: no connection is taken that has no options of its own");
                self.complain(&option.object, "DefaultOptionsInvalid", text);
                self.add_options(TlsOptions { closed: true, ..TlsOptions::default() })
            });
            self.table.default_options = Some(number);
        }
    }

    /// The number of the options that a route names; `None` for the default ones.
    pub(crate) fn tls_options(
        &mut self,
        namespace: &str,
        named: Option<&Reference>,
    ) -> Result<Option<usize>, String> {
        let Some(named) = named.filter(|named| named.name != "default") else { return Ok(None) };
        own_namespace(namespace, named)?;
        let name = named.name.strip_suffix("@kubernetescrd").unwrap_or(&named.name);
        self.options_at(&(namespace.into(), name.into())).map(Some)
    }

    /// The number of the options that an annotation names `namespace-name`.
    pub(crate) fn named_options(&mut self, name: &str) -> Result<Option<usize>, String> {
        if name.is_empty() || name == "default" {
            return Ok(None);
        }
        let mut keys = self.model.tls_options.keys();
        let key = keys.find(|key| format!("{}-{}", key.0, key.1) == name);
        let key = key.ok_or_else(|| format!("TLSOption {name} does not exist"))?.clone();
        self.options_at(&key).map(Some)
    }

    fn options_at(&mut self, key: &Key) -> Result<usize, String> {
        let what = || format!("TLSOption {}/{}", key.0, key.1);
        let option = self.model.tls_options.get(key);
        let option = option.ok_or_else(|| format!("{} does not exist", what()))?;
        let options = option.options.as_ref().map_err(|error| format!("{}: {error}", what()))?;
        let mut options = options.clone();
        options.client_roots = self.roots(&key.0, &option.roots)?;
        Ok(self.add_options(options))
    }

    fn add_options(&mut self, options: TlsOptions) -> usize {
        let all = &mut self.table.tls_options;
        let known = all.iter().position(|known| *known == options);
        known.unwrap_or_else(|| {
            all.push(options);
            all.len() - 1
        })
    }

    /// Says which options the hosts of a route have. Where two routes of a host differ, it is the default ones.
    pub(crate) fn options_for(&mut self, about: &Object, hosts: &Hosts, options: Option<usize>) {
        let options = options.or(self.table.default_options);
        let Hosts::These(hosts) = hosts else {
            if options != self.table.default_options {
                let text = "TLS options are for hosts, and the rule names none".to_owned();
                self.complain(about, "TLSOptionsNotUsed", text);
            }
            return;
        };
        for host in hosts {
            let known = self.table.host_options.get(host).copied();
            if known.is_some_and(|known| known != options) {
                let text = format!(
                    "routes of {host} have different TLS options: the default ones are used"
                );
                self.complain(about, "TLSOptionsNotUsed", text);
            }
            let own = if known.is_none_or(|known| known == options) {
                options
            } else {
                self.table.default_options
            };
            self.table.host_options.insert(host.clone(), own);
        }
    }
}

#[cfg(test)]
mod tests {
    use api::{Value, json};

    use crate::Entry;
    use crate::tests::{asked, custom, model, object, rules};
    use crate::tls_option::{TLS_OPTION, TlsOptions};

    const NOW: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn hosts_have_their_tls_options() {
        let mut model = model();
        let option = |name: &str, spec: Value| custom(&TLS_OPTION, name, spec);
        model.put(&option(
            "modern",
            json!({"minVersion": "VersionTLS13", "cipherSuites": ["TLS_X"], "sniStrict": true}),
        ));
        let ingress = |name: &str, host: &str, options: &str| {
            let annotation = "traefik.ingress.kubernetes.io/router.tls.options";
            let annotations = json!({annotation: format!("default-{options}@kubernetescrd")});
            crate::tests::ingress(name, annotations, rules(&[&format!("{host} Prefix / a")]))
        };
        model.put(&ingress("one", "one.test", "modern"));
        model.put(&ingress("sub", "*.sub.test", "modern"));
        model.put(&ingress("lost", "lost.test", "nowhere"));
        let table = model.table(NOW);
        let wanted = TlsOptions { only_13: true, sni_strict: true, ..TlsOptions::default() };
        assert_eq!(table.tls_options, [wanted]);
        assert_eq!(
            ["one.test", "a.sub.test", "sub.test", "other.test"].map(|host| table.options_of(host)),
            [Some(0), Some(0), None, None]
        );
        let told: Vec<&str> = table.complaints.iter().map(|it| it.message.as_str()).collect();
        assert!(
            told.len() == 2
                && told[0].contains("no TLS_X")
                && told[1].contains("default-nowhere does not exist"),
            "{told:?}"
        );
        assert_eq!(asked(&table, Entry::WebSecure, "lost.test", "/"), "");
        // Those called default are everybody's, unless there are two.
        model.put(&option("default", json!({"maxVersion": "VersionTLS12"})));
        let table = model.table(NOW);
        let of =
            |host: &str| table.options_of(host).map(|number| table.tls_options[number].only_12);
        assert_eq!(["one.test", "other.test"].map(of), [Some(false), Some(true)]);
        // With ones that cannot be had nobody is served who has none of his own, not even with the usual ones.
        model.put(&option("default", json!({"minVersion": "VersionTLS99"})));
        let table = model.table(NOW);
        let closed =
            |host: &str| table.options_of(host).map(|number| table.tls_options[number].closed);
        assert_eq!(["one.test", "other.test"].map(closed), [Some(false), Some(true)]);
        assert!(table.complaints.iter().any(|it| it.reason == "DefaultOptionsInvalid"));
        model.put(&option("default", json!({"clientAuth": {"secretNames": ["no"], "clientAuthType": "RequireAndVerifyClientCert"}})));
        let table = model.table(NOW);
        assert!(table.tls_options[table.options_of("other.test").unwrap()].closed);
        // Whose clients must show certificates is not served without the authorities.
        model.put(&option("modern", json!({"clientAuth": {"secretNames": ["ca"], "clientAuthType": "RequireAndVerifyClientCert"}})));
        assert_eq!(asked(&model.table(NOW), Entry::WebSecure, "one.test", "/"), "");
        model.put(&object(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca", "namespace": "default"},
            "data": {"ca.crt": wire::base64::encode(b"PEM")},
        })));
        let table = model.table(NOW);
        let own = &table.tls_options[table.options_of("one.test").unwrap()];
        assert!(own.client_required && own.client_roots == b"PEM\n");
        for bad in [
            json!({"minVersion": "VersionTLS13", "maxVersion": "VersionTLS12"}),
            json!({"cipherSuites": ["TLS_RSA_WITH_RC4_128_SHA"]}),
            json!({"curvePreferences": ["CurveP521"]}),
            json!({"clientAuth": {"clientAuthType": "RequireAnyClientCert", "secretNames": ["ca"]}}),
            json!({"clientAuth": {"clientAuthType": "RequireAndVerifyClientCert"}}),
            json!({"disableSessionTickets": true}),
        ] {
            model.put(&option("modern", bad.clone()));
            let table = model.table(NOW);
            assert_eq!(asked(&table, Entry::WebSecure, "one.test", "/"), "", "{bad}");
        }
    }
}
