//! From IngressRouteTCPs and what they name to routes of connections, and from IngressRouteUDPs to those of datagrams.

use std::sync::Arc;

use crate::middleware::Reference;
use crate::named::{keys, order, own_namespace};
use crate::objects::PortRef;
use crate::plan::Builder;
use crate::read::ITEMS_MAX;
use crate::rule::{Hosts, Rule};
use crate::table::{Key, Mode, TcpRouter, TcpService, UdpRouter};
use crate::traefik::{IngressRoute, Leads, Route, ServiceRef};

impl Builder<'_> {
    pub(crate) fn tcp_routes(&mut self) {
        let model = self.model;
        self.walk(&model.tcp.routes, &mut |builder, key, object, route, entries, name| {
            let mut router = builder.tcp_route(key, object, route, entries)?;
            router.name = name;
            builder.table.add_tcp(router);
            Ok(())
        });
    }

    pub(crate) fn datagram_routes(&mut self) {
        let model = self.model;
        self.walk(&model.tcp.datagrams, &mut |builder, key, object, route, entries, name| {
            let shares = builder.tcp_shares(key, object, route)?;
            // Datagrams have no names: an entry point's are all one route's, the first by name.
            let mut known = builder.table.udp_routers.iter();
            let rivals = known.clone().fold(0, |bits, rival| bits | rival.entries) & entries;
            if let Some(rival) = known.find(|rival| rival.entries & entries != 0) {
                let which = if rivals == entries { "it" } else { "one of them" };
                let text = format!(
                    "all datagrams of an entry point are one route's: {} has {which}",
                    rival.name
                );
                if rivals == entries {
                    return Err(text);
                }
                builder.complain(&object.object, "EntryPointTaken", text);
            }
            let entries = entries & !rivals;
            builder.table.udp_routers.push(UdpRouter { name, shares, entries });
            Ok(())
        });
    }

    fn tcp_route(
        &mut self,
        key: &Key,
        object: &IngressRoute,
        route: &Route,
        entries: u16,
    ) -> Result<TcpRouter, String> {
        let rule = Rule::parse_tcp(&route.rule)?;
        let mode = match (object.tls, object.passthrough) {
            (false, _) => Mode::Plain,
            (true, true) => Mode::Passthrough,
            (true, false) => Mode::Terminate,
        };
        if mode == Mode::Plain && rule.hosts() != Hosts::Any {
            return Err("without tls no client says a name: HostSNI(`*`) is for all".into());
        }
        let options = self.tls_options(&key.0, object.options.as_ref())?;
        let middlewares = self.tcp_middlewares(&key.0, &route.middlewares)?;
        let shares = self.tcp_shares(key, object, route)?;
        let order = order(key, object, route, &rule);
        let name = String::new();
        Ok(TcpRouter { name, rule, mode, shares, middlewares, options, number: 0, entries, order })
    }

    fn tcp_shares(
        &mut self,
        key: &Key,
        object: &IngressRoute,
        route: &Route,
    ) -> Result<Vec<(u32, usize)>, String> {
        let udp = object.leads == Leads::Datagrams;
        let mut shares = Vec::new();
        for service in &route.services {
            shares.push((service.weight, self.tcp_service(&key.0, service, udp)?));
        }
        match shares.iter().all(|(weight, _)| *weight == 0) {
            true => Err("it has no service, or all weights are 0".into()),
            false => Ok(shares),
        }
    }

    fn tcp_service(
        &mut self,
        namespace: &str,
        service: &ServiceRef,
        udp: bool,
    ) -> Result<usize, String> {
        if let Some(unsupported) = &service.unsupported {
            return Err(unsupported.clone());
        }
        own_namespace(namespace, &service.to)?;
        let name = service.to.name.as_str();
        let transport = match service.transport.as_str() {
            "" => None,
            name => {
                let key: Key = (namespace.into(), name.into());
                let found = self.model.tcp.transports.get(&key);
                let found =
                    found.ok_or_else(|| format!("ServersTransportTCP {name} does not exist"))?;
                Some(self.transport_of(&key, found)?)
            }
        };
        let reached = self.reached(namespace, name, &service.port, service.native, udp)?;
        let (tls, proxy_version) = (service.tls, service.proxy_version);
        Ok(self.add_tcp_service(TcpService { tls, transport, proxy_version, ..reached }))
    }

    /// The number of a service whose endpoints get connections as they come.
    pub(crate) fn tcp_service_at(
        &mut self,
        namespace: &str,
        name: &str,
        port: &PortRef,
    ) -> Result<usize, String> {
        let reached = self.reached(namespace, name, port, false, false)?;
        Ok(self.add_tcp_service(reached))
    }

    fn reached(
        &self,
        namespace: &str,
        name: &str,
        port: &PortRef,
        native: bool,
        udp: bool,
    ) -> Result<TcpService, String> {
        let what = || format!("service {namespace}/{name}");
        let object = self.model.services.get(&(namespace.into(), name.into()));
        let object = object.ok_or_else(|| format!("{} does not exist", what()))?;
        let protocol = if udp { "UDP" } else { "TCP" };
        if udp && &*object.kind == "ExternalName" {
            return Err(format!("{} is an ExternalName, which datagrams are not led to", what()));
        }
        let known = object.port(port, udp);
        let known = known.ok_or_else(|| format!("{} has no {protocol} port {port}", what()))?;
        let endpoints = self.endpoints(namespace, name, object, known, native)?;
        let name = format!("{namespace}-{name}-{port}");
        Ok(TcpService { name, tls: false, transport: None, proxy_version: 0, endpoints })
    }

    fn add_tcp_service(&mut self, planned: TcpService) -> usize {
        let all = &mut self.table.tcp_services;
        let known = all.iter().position(|known| *known == planned);
        known.unwrap_or_else(|| {
            all.push(planned);
            all.len() - 1
        })
    }

    fn tcp_middlewares(
        &mut self,
        namespace: &str,
        names: &[Reference],
    ) -> Result<Vec<usize>, String> {
        let model = self.model;
        let mut numbers = Vec::new();
        for key in keys(namespace, names)?.into_iter().take(ITEMS_MAX) {
            let what = || format!("MiddlewareTCP {}/{}", key.0, key.1);
            let (object, read) = model
                .tcp
                .middlewares
                .get(&key)
                .ok_or_else(|| format!("{} does not exist", what()))?;
            let middleware = match read {
                Ok(middleware) => Arc::clone(middleware),
                Err(error) => {
                    self.complain(object, "Unsupported", error.clone());
                    return Err(format!("{}: {error}", what()));
                }
            };
            let name = format!("{}-{}", key.0, key.1);
            let all = &mut self.table.tcp_middlewares;
            let known = all.iter().position(|(known, _)| *known == name);
            numbers.push(known.unwrap_or(all.len()));
            if known.is_none() {
                all.push((name, middleware));
            }
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use api::{Object, Value, json};

    use crate::ask::Ask;
    use crate::tcp_objects::{MIDDLEWARE_TCP, SERVERS_TRANSPORT_TCP};
    use crate::tests::{custom, model, object, settings};
    use crate::traefik::{INGRESS_ROUTE_TCP, INGRESS_ROUTE_UDP};
    use crate::{Entry, Model, More, Settings, Table};

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn route(name: &str, rule: &str, tls: Value, more: Value) -> Object {
        let mut one = json!({"match": rule, "services": [{"name": "a", "port": 80}]});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut spec = json!({"routes": [one]});
        if !tls.is_null() {
            spec["tls"] = tls;
        }
        custom(&INGRESS_ROUTE_TCP, name, spec)
    }

    /// The name and mode of a connection's route.
    fn at(table: &Table, entry: Entry, tls: bool, host: &str) -> String {
        let peer = "192.0.2.7".parse().ok();
        let ask = Ask { host, path: "", query: "", method: "", peer, headers: &() };
        let found = table.find_tcp(entry, tls, &ask);
        found.map_or_else(String::new, |router| format!("{} {:?}", router.name, router.mode))
    }

    #[test]
    fn connections_find_their_routes() {
        let mut model = model();
        let pass = || json!({"passthrough": true});
        model.put(&route("db", "HostSNI(`db.test`)", pass(), json!({})));
        model.put(&route("any", "HostSNI(`*`)", pass(), json!({})));
        model.put(&route("sub", "HostSNIRegexp(`^.+[.]sub[.]test$`)", json!({}), json!({})));
        model.put(&route(
            "plain",
            "HostSNI(`*`) && ClientIP(`192.0.2.0/24`)",
            Value::Null,
            json!({}),
        ));
        model.put(&route(
            "mine",
            "HostSNI(`*`) && ALPN(`mine`)",
            json!({}),
            json!({"priority": 99}),
        ));
        model.put(&route("bad", "HostSNI(`x.test`)", Value::Null, json!({})));
        model.put(&route("worse", "Host(`x.test`)", json!({}), json!({})));
        let resolver = json!({"passthrough": true, "certResolver": "acme"});
        model.put(&route("odd", "HostSNI(`odd.test`)", resolver, json!({"syntax": "v2"})));
        let table = model.table(NOW);
        assert_eq!(at(&table, Entry::WebSecure, true, "db.test"), "default-db-0 Passthrough");
        assert_eq!(at(&table, Entry::Web, true, "x.test"), "default-any-0 Passthrough");
        assert_eq!(at(&table, Entry::Web, true, "a.sub.test"), "default-sub-0 Terminate");
        assert_eq!(at(&table, Entry::Web, false, ""), "default-plain-0 Plain");
        let mine = Offers("mine");
        let ask =
            Ask { host: "db.test", path: "", query: "", method: "", peer: None, headers: &mine };
        let found = table.find_tcp(Entry::Web, true, &ask).unwrap();
        assert!(found.name == "default-mine-0" && found.is_for_all());
        assert_eq!(table.has_tcp(Entry::More(0)), (false, false));
        let told: Vec<&str> = table.complaints.iter().map(|it| it.message.as_str()).collect();
        assert!(
            told.len() == 4
                && told[0].contains("without tls")
                && told[1].starts_with("spec.tls.certResolver has no effect")
                && told[2].starts_with("spec.routes.syntax has no effect")
                && told[3].contains("no matcher Host"),
            "{told:?}"
        );
        assert_eq!(table.tcp_services.len(), 1);
        assert_eq!(table.tcp_services[0].endpoints[0].port, 8080);
    }

    #[derive(Debug)]
    struct Offers(&'static str);

    impl crate::Fields for Offers {
        fn any(&self, name: &str, is: &mut dyn FnMut(&str) -> bool) -> bool {
            name == crate::ALPN && is(self.0)
        }
    }

    #[test]
    fn what_a_route_names_is_there_or_it_is_not_served() {
        let mut model = model();
        let services = json!([
            {"name": "a", "port": 80, "weight": 3, "proxyProtocol": {"version": 1}},
            {"name": "b", "port": 80, "tls": true, "serversTransport": "t"},
        ]);
        let more = json!({"services": services, "middlewares": [{"name": "few"}]});
        model.put(&route("r", "HostSNI(`*`)", Value::Null, more));
        let missing = |model: &Model| model.table(NOW).complaints.remove(0).message;
        assert!(missing(&model).contains("MiddlewareTCP default/few does not exist"));
        model.put(&custom(&MIDDLEWARE_TCP, "few", json!({"inFlightConn": {"amount": 2}})));
        assert!(missing(&model).contains("ServersTransportTCP t does not exist"));
        let tls = json!({"tls": {"serverName": "n.test", "insecureSkipVerify": true}});
        model.put(&custom(&SERVERS_TRANSPORT_TCP, "t", tls));
        let table = model.table(NOW);
        assert!(table.complaints.is_empty(), "{:?}", table.complaints);
        let [router] = table.tcp() else { panic!("{:?}", table.tcp()) };
        assert_eq!(
            (router.shares.as_slice(), router.middlewares.as_slice()),
            (&[(3, 0), (1, 1)][..], &[0][..])
        );
        assert_eq!((table.tcp_services[0].proxy_version, table.tcp_services[1].tls), (1, true));
        assert_eq!(table.tcp_services[1].transport.as_ref().unwrap().server_name, "n.test");
        for bad in [
            json!({"inFlightConn": {}}),
            json!({"ipAllowList": {}}),
            json!({"plugin": {}}),
            json!({"ipAllowList": {"sourceRange": ["x"]}}),
        ] {
            model.put(&custom(&MIDDLEWARE_TCP, "few", bad));
            let table = model.table(NOW);
            assert!(
                table.tcp().is_empty() && table.complaints.len() == 2,
                "{:?}",
                table.complaints
            );
        }
    }

    #[test]
    fn datagrams_are_one_routes_at_each_entry_point() {
        let udp = |name: &str| (name.into(), More::Datagrams);
        let more = vec![("mqtt".into(), More::Named), udp("dns"), udp("game")];
        let mut model = Model::new(Settings { more, ..settings() });
        let ports =
            json!([{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP"}]);
        model.put(&object(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns", "namespace": "default"},
            "spec": {"type": "ClusterIP", "clusterIP": "10.43.0.9", "ports": ports},
        })));
        model.put(&object(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "dns", "namespace": "default", "labels": {"kubernetes.io/service-name": "dns"}},
            "endpoints": [{"addresses": ["10.42.0.7"]}],
            "ports": [{"name": "t", "port": 5301, "protocol": "TCP"}, {"name": "u", "port": 5302, "protocol": "UDP"}],
        })));
        let route = |name: &str, spec: Value| custom(&INGRESS_ROUTE_UDP, name, spec);
        let to = |more: Value| {
            let mut service = json!({"name": "dns", "port": 53});
            service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!([{"services": [service]}])
        };
        model.put(&route("b", json!({"routes": to(json!({"weight": 3}))})));
        model.put(&route("a", json!({"entryPoints": ["dns", "mqtt"], "routes": to(json!({}))})));
        model.put(&route("c", json!({"entryPoints": ["game"], "routes": to(json!({}))})));
        model.put(&route("d", json!({"routes": to(json!({"tls": true}))})));
        model.put(&route(
            "e",
            json!({"routes": [{"match": "x", "services": [{"name": "a", "port": 80}]}]}),
        ));
        model.put(&custom(&INGRESS_ROUTE_TCP, "t", json!({"entryPoints": ["dns"], "routes": []})));
        let table = model.table(NOW);
        let at = |number| table.find_udp(Entry::More(number)).map(|at| &table.udp()[at]);
        assert_eq!(at(1).unwrap().name, "default-a-0");
        assert_eq!(
            (&*at(2).unwrap().name, &at(2).unwrap().shares[..]),
            ("default-b-0", &[(3, 0)][..])
        );
        assert!(at(0).is_none() && table.find_udp(Entry::Web).is_none());
        assert_eq!(table.tcp_services[0].endpoints[0].port, 5302);
        let told: Vec<&str> = table.complaints.iter().map(|it| it.message.as_str()).collect();
        for (number, part) in [
            "\"dns\" is one of UDP",
            "\"mqtt\" is one of TCP",
            "default-a-0 has one of them",
            "default-b-0 has it",
            "tls is not supported",
            "spec.routes.match has no effect",
            "default/a does not exist",
        ]
        .into_iter()
        .enumerate()
        {
            assert!(told[number].contains(part), "{part}: {told:?}");
        }
        let mut none = Model::new(settings());
        none.put(&route("a", json!({"routes": to(json!({}))})));
        assert!(none.table(NOW).complaints[0].message.contains("no entry point of UDP"));
    }

    #[test]
    fn entry_points_that_were_added_are_named() {
        let mut model = Model::new(Settings {
            more: vec![("mqtt".into(), More::Named), ("own".into(), More::Default)],
            ..settings()
        });
        let of = |entries: Value| {
            let routes = json!([{"match": "HostSNI(`*`)", "services": []}]);
            custom(&INGRESS_ROUTE_TCP, "r", json!({"entryPoints": entries, "routes": routes}))
        };
        model.put(&of(json!(["mqtt", "other"])));
        let told: Vec<String> =
            model.table(NOW).complaints.into_iter().map(|it| it.message).collect();
        assert!(
            told[0].contains("\"other\" does not exist") && told[1].contains("no service"),
            "{told:?}"
        );
        assert_eq!(model.settings.default_entries(), 1 | 2 | 8);
        assert_eq!(model.settings.entry("mqtt"), Some(Entry::More(0)));
    }
}
