use common::ring::Algorithm;
use daemon::Failure;
use testkit::TempDir;

use super::*;

const OPTIONS: Options = Options { algorithm: Algorithm::Ring, hold_empty: false, max_size: 10_000 };
const KEYS: u64 = 20_000;

fn diff(old: &str, new: &str, json: bool) -> String {
    let dir = TempDir::new();
    let mut out = Vec::new();
    run(&dir.write("old", old), &dir.write("new", new), &OPTIONS, KEYS, json, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn service(name: &str, nodes: &str) -> String {
    format!("[[Services]]\nName='{name}'\nNodes=[{nodes}]\n")
}

#[test]
fn an_added_node_takes_its_share_and_nothing_else_moves() {
    let json = diff(&service("s", "'a','b','c'"), &service("s", "'d','c','b','a'"), true);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json.ends_with("}\n"));
    let found = &report["services"][0];
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    assert_eq!((&found["status"], number(&found["needed"])), (&"changed".into(), 0.25));
    let moved = number(&found["moved"]);
    assert!((moved - 0.25).abs() < 0.05, "{moved}");
    let nodes = found["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().map(|node| node["address"].as_str().unwrap()).collect::<String>(), "abcd");
    for node in &nodes[..3] {
        assert_eq!(number(&node["gained"]), 0.0);
        assert!((number(&node["before"]) - number(&node["lost"]) - number(&node["after"])).abs() < 1e-9);
    }
    assert_eq!([&nodes[3]["gained"], &nodes[3]["after"]], [&found["moved"]; 2]);
}

#[test]
fn the_names_in_json_are_those_of_the_documentation() {
    let old = format!("{}{}", service("s", "'a'"), service("gone", "'x','y'"));
    let new = format!("{}{}", service("new", ""), service("s", "'b'"));
    assert_eq!(
        diff(&old, &new, true),
        "{\"keys\":20000,\"services\":[\
         {\"name\":\"s\",\"status\":\"changed\",\"algorithm_before\":\"ring\",\"algorithm_after\":\"ring\",\
         \"nodes_before\":1,\"nodes_after\":1,\"moved\":1.0,\"needed\":1.0,\"nodes\":[\
         {\"address\":\"a\",\"before\":1.0,\"after\":0.0,\"lost\":1.0,\"gained\":0.0},\
         {\"address\":\"b\",\"before\":0.0,\"after\":1.0,\"lost\":0.0,\"gained\":1.0}]},\
         {\"name\":\"gone\",\"status\":\"removed\",\"algorithm_before\":\"ring\",\"algorithm_after\":null,\
         \"nodes_before\":2,\"nodes_after\":null,\"moved\":null,\"needed\":null,\"nodes\":[]},\
         {\"name\":\"new\",\"status\":\"added\",\"algorithm_before\":null,\"algorithm_after\":\"ring\",\
         \"nodes_before\":null,\"nodes_after\":0,\"moved\":null,\"needed\":null,\"nodes\":[]}]}\n"
    );
}

#[test]
fn the_table_says_the_same() {
    let old = [service("s", "'a'"), service("gone", "'x','y'"), service("same", "'m','n'")].concat();
    let new = [service("new", ""), service("s", "'longer:1'"), service("same", "'n','m'")].concat();
    assert_eq!(
        diff(&old, &new, false),
        "service \"s\": 100.00 % of 20000 keys move, 100.00 % have to (ring, 1 node -> ring, 1 node)\n\
         \x20 node       before    after     lost   gained\n\
         \x20 a        100.00 %   0.00 % 100.00 %   0.00 %\n\
         \x20 longer:1   0.00 % 100.00 %   0.00 % 100.00 %\n\
         service \"gone\": removed (ring, 2 nodes)\n\
         service \"same\": unchanged (ring, 2 nodes)\n\
         service \"new\": added (ring, 0 nodes)\n"
    );
    assert_eq!(diff("", "", false), "neither file has a service\n");
}

#[test]
fn another_algorithm_moves_keys_that_would_not_have_to() {
    let nodes = service("s", "'a','b','c'");
    let json = diff(&nodes, &format!("Algorithm='rendezvous'\n{nodes}"), true);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let found = &report["services"][0];
    assert_eq!(found["algorithm_after"], "rendezvous");
    assert_eq!(found["needed"], 0.0);
    assert!(found["moved"].as_f64().unwrap() > 0.5);
}

#[test]
fn a_side_may_be_a_pipe() {
    let dir = TempDir::new();
    let pipe = dir.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let new = dir.write("new", service("s", "'a'"));
    let mut out = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| std::fs::write(&pipe, service("s", "'b'")).unwrap());
        run(&pipe, &new, &OPTIONS, KEYS, false, &mut out).unwrap();
    });
    assert!(String::from_utf8(out).unwrap().starts_with("service \"s\": 100.00 % of 20000 keys move"));
}

#[test]
fn a_bad_file_on_either_side_is_exit_78() {
    let dir = TempDir::new();
    let (good, bad) = (dir.write("good", ""), dir.write("bad", "x = 1"));
    for (old, new) in [(&good, &bad), (&bad, &good), (&bad, &bad)] {
        let error = run(old, new, &OPTIONS, KEYS, false, &mut Vec::new()).unwrap_err();
        assert_eq!(error.downcast_ref().map(Failure::exit_code), Some(78));
    }
}
