//! `deploy/services.toml.tmpl`, rendered as consul-template would, and what a router makes of it.

mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::harness::Router;

const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/services.toml.tmpl");
const CATALOG: &str = include_str!("../data/consul-catalog.json");
/// What Go's own text/template makes of both.
const RENDERED: &str = include_str!("../data/consul-services.toml");

/// What Consul holds.
type Catalog = Vec<Service>;

#[derive(Debug, Clone, Deserialize)]
struct Service {
    name: String,
    tags: Vec<String>,
    instances: Vec<Instance>,
}

#[derive(Debug, Clone, Deserialize)]
struct Instance {
    address: String,
    port: u16,
    healthy: bool,
}

fn service(name: &str, addresses: impl IntoIterator<Item = String>) -> Service {
    let instance = |address| Instance { address, port: 80, healthy: true };
    Service {
        name: name.to_owned(),
        tags: vec!["keyrouter".to_owned()],
        instances: addresses.into_iter().map(instance).collect(),
    }
}

fn render(catalog: &Catalog) -> String {
    let text = std::fs::read_to_string(TEMPLATE).unwrap();
    template::Template::parse(&text).render(catalog)
}

/// Each service that a router should have, with its nodes.
fn wanted(catalog: &Catalog) -> BTreeMap<String, Vec<String>> {
    let can_be_asked = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let address = |instance: &Instance| match instance.address.contains(':') {
        true => format!("[{}]:{}", instance.address, instance.port),
        false => format!("{}:{}", instance.address, instance.port),
    };
    let tagged = catalog.iter().filter(|service| service.tags.iter().any(|tag| tag == "keyrouter"));
    tagged
        .filter(|service| can_be_asked(&service.name))
        .map(|service| {
            let healthy = service.instances.iter().filter(|instance| instance.healthy);
            (service.name.clone(), sorted(healthy.map(address)))
        })
        .collect()
}

/// Sorted, and each once: an instance may be registered twice.
fn sorted(nodes: impl IntoIterator<Item = String>) -> Vec<String> {
    BTreeSet::from_iter(nodes).into_iter().collect()
}

fn assert_good(router: &Router) {
    let output = Command::new(env!("CARGO_BIN_EXE_keyrouter"))
        .arg("--services")
        .arg(&router.file)
        .arg("--check-config")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// Puts `text` in place, checks it, reloads, and compares all services and nodes with what is wanted.
async fn assert_served(router: &Router, text: &str, wanted: &BTreeMap<String, Vec<String>>) {
    router.write(text);
    assert_good(router);
    router.hup_and_loaded().await;
    let names: Vec<String> = serde_json::from_value(router.get("/service").await.json()).unwrap();
    assert_eq!(names, wanted.keys().cloned().collect::<Vec<_>>());
    for (name, nodes) in wanted {
        let answer = router.get(&format!("/nodes/{name}")).await.json();
        let served = answer["nodes"].as_array().unwrap();
        let address = |node: &Value| node["address"].as_str().unwrap().to_owned();
        assert_eq!(&sorted(served.iter().map(address)), nodes, "{name}");
        // And a lookup finds them.
        let answer = router.get(&format!("/service/{name}?key=k&min=0&max=100000")).await;
        let found: Vec<String> = serde_json::from_value(answer.json()).unwrap();
        assert_eq!(&sorted(found), nodes, "{name}");
    }
}

/// So that the rest says something about consul-template: it renders with that engine.
#[test]
fn the_template_renders_as_by_the_engine_of_consul_template() {
    assert_eq!(render(&serde_json::from_str(CATALOG).unwrap()), RENDERED);
}

#[tokio::test]
async fn whatever_the_catalog_holds_the_router_follows_it() {
    let router = Router::start("", &[]).await;
    let odd: Catalog = serde_json::from_str(CATALOG).unwrap();
    let hosts = |count: usize| (0..count).map(|number| format!("10.0.{}.{}", number / 250, number % 250));
    let untagged = Service { tags: vec!["keyrouters".to_owned()], ..service("other", hosts(2)) };
    for catalog in [
        odd.clone(),
        vec![service("large", hosts(1000)), service("small", hosts(1)), untagged.clone()],
        // One instance goes, a service empties.
        vec![service("large", hosts(999)), service("small", hosts(0))],
        vec![untagged],
        vec![],
        odd,
    ] {
        assert_served(&router, &render(&catalog), &wanted(&catalog)).await;
    }
}

/// Other people's templates: every list ends in a comma, and blank lines stand anywhere.
#[tokio::test]
async fn a_template_without_any_care_works_too() {
    let text = "\n\n\n[[Services]]\nName = \"bar\"\n\nNodes = [\n\n    \"bar1:8080\",\n\n\n    \"bar2:8080\",\n\n]\n\n\n\n\
                [[Services]]\r\nName = \"empty\"\nNodes = [\n\n]\n\n  \t\n[[Services]]\nName = \"one\"\nNodes = [\"x:1\",]";
    let router = Router::start("", &[]).await;
    let services = [("bar", vec!["bar1:8080", "bar2:8080"]), ("empty", vec![]), ("one", vec!["x:1"])];
    let wanted =
        services.map(|(name, nodes)| (name.to_owned(), sorted(nodes.into_iter().map(str::to_owned))));
    assert_served(&router, text, &BTreeMap::from(wanted)).await;
}
