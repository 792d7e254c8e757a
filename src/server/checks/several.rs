//! Several servers on one store: what one writes the other knows, and each survives the other.

use std::net::IpAddr;
use std::time::Duration;

use api::kinds::{CONFIG_MAP, ENDPOINTS, SERVICE};
use api::{Lens, json};
use client::{Client, DeleteOptions};
use rt::sim::End;
use stdx::OrdSet;
use store::{Fate, Limits, Log, Store};

use super::config;
use crate::{Config, Server, User};

async fn server(log: &Log, address: [u8; 4]) -> (Server, Client) {
    let store = Store::open_log(log, Limits::default()).await.unwrap();
    let advertise_addresses: Vec<IpAddr> = vec![address.into()];
    let server = Server::start(Config { advertise_addresses, ..config() }, store).await.unwrap();
    let client = server.client_as(User::admin());
    (server, client)
}

fn simulated(test: impl Future<Output = ()> + 'static) {
    assert_eq!(rt::sim::run(1, 50_000_000, test), End::Done(()));
}

#[test]
fn what_one_writes_the_other_reads_at_once() {
    simulated(async {
        let log = Log::new();
        let (_first, one) = server(&log, [192, 0, 2, 1]).await;
        let (_second, two) = server(&log, [192, 0, 2, 2]).await;
        log.on_message(|_, _| Fate::After(Duration::from_millis(rt::random_u64() % 10)));
        for idx in 0..20 {
            let name = format!("c{idx}");
            let tree = json!({"metadata": {"name": &name, "namespace": "default"}});
            let made = one.create(&CONFIG_MAP, tree).await.unwrap();
            let found = two.get(&CONFIG_MAP, "default", &name).await.unwrap();
            assert_eq!(found.revision(), made.revision());
            // A revision that one gave is good for an update through the other.
            let mut tree = made.tree();
            tree["data"] = json!({"a": "b"});
            tree["metadata"]["resourceVersion"] = json!(made.revision().to_string());
            two.update(&CONFIG_MAP, tree).await.unwrap();
            one.delete(&CONFIG_MAP, "default", &name, DeleteOptions::default()).await.unwrap();
            assert!(two.get(&CONFIG_MAP, "default", &name).await.unwrap_err().is_not_found());
        }
    });
}

#[test]
fn servers_that_start_together_make_one_cluster() {
    simulated(async {
        let log = Log::new();
        log.on_message(|_, _| Fate::After(Duration::from_millis(rt::random_u64() % 10)));
        let tasks: Vec<_> = (1..=3u8)
            .map(|n| {
                let log = log.clone();
                rt::spawn(async move { server(&log, [192, 0, 2, n]).await })
            })
            .collect();
        let mut servers = Vec::new();
        for task in tasks {
            servers.push(task.await);
        }
        rt::sleep(Duration::from_secs(30)).await;
        for (_, client) in &servers {
            let found = client.get(&ENDPOINTS, "default", "kubernetes").await.unwrap().tree();
            assert_eq!(found["subsets"][0]["addresses"].as_array().unwrap().len(), 3);
        }
    });
}

#[test]
fn two_servers_survive_each_other_and_give_no_address_twice() {
    simulated(async {
        let log = Log::new();
        let (first, one) = server(&log, [192, 0, 2, 1]).await;
        let (second, two) = server(&log, [192, 0, 2, 2]).await;
        log.on_message(|_, _| Fate::After(Duration::from_millis(rt::random_u64() % 10)));
        let addresses = async |client: &Client| {
            let found = client.get(&ENDPOINTS, "default", "kubernetes").await.unwrap().tree();
            let list = found["subsets"][0]["addresses"].as_array().unwrap().clone();
            list.iter().map(|a| a.str("ip").to_owned()).collect::<Vec<_>>()
        };
        rt::sleep(Duration::from_secs(20)).await;
        assert_eq!(addresses(&one).await, ["192.0.2.1", "192.0.2.2"]);

        // Both give addresses and ports from a range that is barely large enough, at once.
        let service = |name: String, idx: u64| {
            json!({
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"type": "NodePort", "clusterIP": format!("10.43.1.{}", idx % 25),
                    "selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP"}]},
            })
        };
        let mut tasks = Vec::new();
        for (name, client) in [("one", &one), ("two", &two)] {
            for idx in 1..25 {
                let (client, tree) = (client.clone(), service(format!("{name}-{idx}"), idx));
                tasks.push(rt::spawn(async move { client.create(&SERVICE, tree).await.map(drop) }));
            }
        }
        let mut n_made = 0;
        for task in tasks {
            match task.await {
                Ok(()) => n_made += 1,
                Err(status) => assert!(status.message().contains("already allocated"), "{status}"),
            }
        }
        assert_eq!(n_made, 24);
        let held = async |client: &Client| {
            let all = client.list(&SERVICE, "default", Default::default()).await.unwrap().items;
            let trees: Vec<_> = all.iter().map(|service| service.tree()).collect();
            let addresses: Vec<_> =
                trees.iter().map(|t| t.str("spec.clusterIP").to_owned()).collect();
            assert_eq!(addresses.iter().collect::<OrdSet<_>>().len(), addresses.len());
            addresses.len()
        };
        assert_eq!(held(&two).await, 25);

        // One dies: the other serves on, and alone.
        drop((first, one));
        two.create(&SERVICE, service("last".into(), 2)).await.unwrap_err();
        rt::sleep(Duration::from_secs(60)).await;
        assert_eq!(addresses(&two).await, ["192.0.2.2"]);
        two.delete(&SERVICE, "default", "two-1", DeleteOptions::default()).await.ok();
        two.delete(&SERVICE, "default", "one-1", DeleteOptions::default()).await.ok();
        two.create(&SERVICE, service("again".into(), 1)).await.unwrap();
        // Another comes, and the first of today dies too.
        let (_third, three) = server(&log, [192, 0, 2, 3]).await;
        drop((second, two));
        rt::sleep(Duration::from_secs(60)).await;
        assert_eq!(addresses(&three).await, ["192.0.2.3"]);
        assert_eq!(held(&three).await, 25);
    });
}
