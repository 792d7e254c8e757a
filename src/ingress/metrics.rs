//! What is counted, as Prometheus reads it, by Traefik's names.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use stdx::metrics::{Text, number};

use crate::figures::{Counts, Kind, Traffic};
use crate::live::Shared;

/// Everything, as Prometheus reads it.
pub(crate) fn text(shared: &Shared) -> String {
    let mut text = Text::default();
    let figures = &shared.figures;
    let reloads = number(figures.reloads.load(Ordering::Relaxed));
    text.single("traefik_config_reloads_total", "counter", "Config reloads", reloads);
    let last = number(figures.reloaded_secs.load(Ordering::Relaxed));
    text.single("traefik_config_last_reload_success", "gauge", "Last config reload success", last);
    text.family(
        "traefik_open_connections",
        "gauge",
        "How many open connections exist, by entryPoint and protocol",
    );
    for (entry, protocol, n) in shared.n_connections() {
        let n = number(u64::try_from(n).unwrap_or(u64::MAX));
        text.sample(
            "traefik_open_connections",
            &[("entrypoint", entry), ("protocol", protocol)],
            n,
            None,
        );
    }
    text.family("traefik_tls_certs_not_after", "gauge", "Certificate expiration timestamp");
    for certificate in shared.chooser().all() {
        let sans = certificate.names.join(",");
        let labels = [
            ("cn", certificate.common_name.as_str()),
            ("sans", &sans),
            ("serial", &certificate.serial),
        ];
        let secs = u64::try_from(certificate.not_after_secs).unwrap_or(0);
        text.sample("traefik_tls_certs_not_after", &labels, number(secs), None);
    }
    traffic(&mut text, "entrypoint", &figures.entries);
    traffic(&mut text, "service", &shared.all_traffic());
    rt::own_figures(&mut text);
    text.out
}

fn traffic(text: &mut Text, place: &str, all: &[(String, Arc<Traffic>)]) {
    let all: Vec<(&str, Vec<(Kind, Arc<Counts>)>)> =
        all.iter().map(|(name, traffic)| (name.as_str(), traffic.all())).collect();
    let families: [(&str, &str, fn(&Counts) -> f64); 4] = [
        ("requests_total", "How many HTTP requests were processed", |c| f64::from(c.took.count())),
        ("requests_tls_total", "How many HTTP requests with TLS were processed", |c| {
            number(c.tls.load(Ordering::Relaxed))
        }),
        ("requests_bytes_total", "The total size of requests in bytes", |c| {
            number(c.requests_bytes.load(Ordering::Relaxed))
        }),
        ("responses_bytes_total", "The total size of responses in bytes", |c| {
            number(c.responses_bytes.load(Ordering::Relaxed))
        }),
    ];
    let labelled = |name: &str, kind: &Kind, put: &mut dyn FnMut(&[(&str, &str)])| {
        let code = kind.code.to_string();
        put(&[
            ("code", &code),
            ("method", kind.method),
            ("protocol", kind.protocol),
            (place, name),
        ]);
    };
    for (family, help, value) in families {
        let family = format!("traefik_{place}_{family}");
        text.family(&family, "counter", help);
        for (name, kinds) in &all {
            for (kind, counts) in kinds {
                labelled(name, kind, &mut |labels| {
                    text.sample(&family, labels, value(counts), None)
                });
            }
        }
    }
    let family = format!("traefik_{place}_request_duration_seconds");
    text.family(&family, "histogram", "How long it took to process the request");
    for (name, kinds) in &all {
        for (kind, counts) in kinds {
            labelled(name, kind, &mut |labels| text.histogram(&family, labels, &counts.took));
        }
    }
}
