//! SIGHUP: a good file is taken whole, a bad one leaves everything as it was.

use testkit::{TempDir, eventually};

use crate::harness::{Router, SOON, error, nodes, program, service};

#[tokio::test]
async fn a_bad_file_leaves_the_last_good_one_and_says_so() {
    let good = service("s", &nodes("n", 3));
    let router = Router::start(&good, &[]).await;
    let before = router.nodes("s", "k", 3).await;
    for (bad, named) in [
        ("[[Services]]\nName = 's'\nNodes = ['a:1'", "services.toml:3"),
        ("[[Services]]\nName = 's'\n[[Services]]\nName = 's'\n", "services.toml:3"),
        ("[[Services]]\nName = 7\n", "services.toml:2"),
        ("[[Services]]\nName = 's'\nNodez = []\n", "Nodes"),
        ("[[Services]]\nNodes = []\n", "Name"),
        ("[[Services]]\nName = 's'\nNodes = [{ Address = 'a', Weight = -1 }]\n", "Weight"),
    ] {
        router.write(bad);
        router.hup_and_loaded().await;
        let (status, ok, detail) = router.condition("services-file").await;
        assert_eq!((status, ok), (200, false), "{bad}");
        assert!(detail.contains(named), "{bad}: {detail}");
        assert_eq!(router.metric("keyrouter_services_file_ok").await, 0.0);
        assert_eq!(router.nodes("s", "k", 3).await, before, "{bad}");
    }
    std::fs::remove_file(&router.file).unwrap();
    router.hup_and_loaded().await;
    let (status, ok, detail) = router.condition("services-file").await;
    assert!(status == 200 && !ok && detail.contains("services.toml"), "{detail}");
    assert_eq!(router.nodes("s", "k", 3).await, before);
    router.write(&good);
    router.hup_and_loaded().await;
    let (status, ok, _) = router.condition("services-file").await;
    assert_eq!((status, ok), (200, true));
    assert_eq!(router.metric("keyrouter_services_file_ok").await, 1.0);
}

#[tokio::test]
async fn without_a_good_file_it_waits_for_one() {
    let dir = TempDir::new();
    let file = dir.join("services.toml");
    let router = Router::start_in(dir, file, &[]).await;
    let (status, ok, detail) = router.condition("services").await;
    assert!(status == 503 && !ok, "{detail}");
    for target in ["/service", "/service/s?key=k&min=1&max=1", "/nodes/s"] {
        let answer = router.get(target).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{target}");
        assert!(error(&answer).contains("/readyz"));
    }
    assert_eq!(router.get("/livez").await.status, 200);
    router.write(&service("s", &["a:1"]));
    router.hup_and_loaded().await;
    assert_eq!(router.get("/readyz").await.status, 200);
    assert_eq!(router.nodes("s", "k", 1).await, ["a:1"]);
}

#[tokio::test]
async fn services_come_and_go_with_the_file_and_generations_grow() {
    let (a, b) = (service("a", &["a:1"]), service("b", &["b:1", "b:2"]));
    let router = Router::start(&[&*a, &*b].concat(), &[]).await;
    let of = async |name: &str| router.generation(name).await;
    assert_eq!((of("a").await, of("b").await), (1, 1));
    // Another order of services and nodes changes nothing but the list.
    router.write(&[service("b", &["b:2", "b:1"]), a.clone()].concat());
    router.hup_and_loaded().await;
    assert_eq!((of("a").await, of("b").await), (1, 1));
    assert_eq!(router.get("/service").await.text(), "[\"b\",\"a\"]\n");
    assert_eq!(router.info("b").await["nodes"][0]["address"], "b:2");
    // A node more.
    router.write(&[&*a, &*service("b", &["b:1", "b:2", "b:3"])].concat());
    router.hup_and_loaded().await;
    let grown = of("b").await;
    assert!(of("a").await == 1 && grown > 1);
    assert_eq!(router.nodes("b", "k", 9).await.len(), 3);
    // Gone, and back again.
    router.write(&a);
    router.hup_and_loaded().await;
    assert_eq!(router.get("/service/b?key=k&min=0&max=1").await.status, 404);
    assert_eq!(router.get("/service").await.text(), "[\"a\"]\n");
    router.write(&[&*a, &*b].concat());
    router.hup_and_loaded().await;
    assert!(of("b").await > grown, "a generation never comes again");
    // Weights and algorithms are changes too.
    let before = of("a").await;
    router.write(&a.replace("Nodes", "Algorithm = 'rendezvous'\nNodes"));
    router.hup_and_loaded().await;
    assert!(of("a").await > before);
}

#[tokio::test]
async fn the_service_wins_over_the_file_which_wins_over_the_flag() {
    let file = [
        "Algorithm = 'rendezvous'\n".to_owned(),
        service("file", &["a:1"]),
        service("own", &["a:1"]).replace("Nodes", "Algorithm = 'ring'\nNodes"),
    ];
    let router = Router::start(&file.concat(), &["--algorithm", "keyrouter-0.2"]).await;
    let algorithm = async |name: &str| router.info(name).await["algorithm"].as_str().unwrap().to_owned();
    assert_eq!((algorithm("file").await, algorithm("own").await), ("rendezvous".into(), "ring".into()));
    router.write(&service("file", &["a:1"]));
    router.hup_and_loaded().await;
    assert_eq!(algorithm("file").await, "keyrouter-0.2");
}

#[tokio::test]
async fn an_empty_file_is_held_until_a_second_reload_confirms_it() {
    let none: [&str; 0] = [];
    let full = service("s", &["a:1"]);
    let empty = service("s", &none);
    let router = Router::start(&full, &["--hold-empty"]).await;
    let reload = async |text: &str| {
        router.write(text);
        router.hup_and_loaded().await;
        router.nodes("s", "k", 1).await.len()
    };
    assert_eq!(reload(&empty).await, 1, "held");
    let (status, ok, detail) = router.condition("services-file").await;
    assert!(status == 200 && !ok && detail.contains("no node"), "{detail}");
    assert_eq!(reload(&full).await, 1, "a full one in between");
    assert_eq!(reload(&empty).await, 1, "held again");
    assert_eq!(reload("no good").await, 1, "a bad one confirms nothing");
    assert_eq!(reload(&empty).await, 0, "confirmed");
    assert_eq!(reload(&empty).await, 0);
    assert_eq!(reload(&full).await, 1);
}

#[tokio::test]
async fn without_the_flag_an_empty_file_is_taken_at_once() {
    let router = Router::start(&service("s", &["a:1"]), &[]).await;
    router.write("");
    router.hup_and_loaded().await;
    assert_eq!(router.get("/service").await.text(), "[]\n");
    assert_eq!(router.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn the_end_is_orderly() {
    let dir = TempDir::new();
    let file = dir.write("services.toml", service("s", &["a:1"]));
    let mut process = program(&file, &[]).start();
    let addr = process.listening("api").await;
    let mut idle = testkit::Raw::connect(addr).await;
    idle.send("GET /service HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    assert_eq!(process.stop().await.code(), Some(0));
    eventually("the connection to close", SOON, async || idle.closed().await.then_some(())).await;
}

#[tokio::test]
async fn settings_are_read_again_whatever_the_services_are_like() {
    let dir = TempDir::new();
    let token = dir.write("token", "0123456789abcdef");
    let config = dir.write("keyrouter.toml", "max-batch = 1\n");
    let file = dir.write("services.toml", service("s", &["a:1"]));
    let flags = ["--config", config.to_str().unwrap()];
    let router = Router::start_in(dir, file, &flags).await;
    let two = r#"{"keys":["a","b"]}"#;
    assert_eq!(router.post_json("/batch/s", two).await.status, 413);
    std::fs::write(&config, "max-batch = 2\nalgorithm = 'rendezvous'\n").unwrap();
    router.hup_and_loaded().await;
    assert_eq!(router.post_json("/batch/s", two).await.status, 200);
    assert_eq!(router.info("s").await["algorithm"], "rendezvous");
    // A bad file of services does not keep a token from counting.
    router.write("no good");
    std::fs::write(&config, format!("api.token-file = {:?}\n", token.to_str().unwrap())).unwrap();
    router.hup_and_loaded().await;
    assert_eq!(router.get("/service").await.status, 401);
    assert!(!router.condition("services-file").await.1);
    // A bad setting changes nothing at all.
    router.write(&service("t", &["a:1"]));
    std::fs::write(&config, "max-batch = 0\n").unwrap();
    router.hup_and_loaded().await;
    assert_eq!(router.get("/service").await.status, 401);
    assert!(router.condition("configuration").await.2.contains("keyrouter.toml:1"));
    assert_eq!(router.metric("keyrouter_services_load").await, 2.0);
}

#[tokio::test]
async fn a_request_that_takes_its_time_gets_the_nodes_of_its_end() {
    let router = Router::start(&service("s", &["a:1"]), &[]).await;
    let mut raw = testkit::Raw::connect(router.addr).await;
    let head =
        "POST /service/s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n";
    raw.send(format!("{head}{{\"min\":1,")).await;
    eventually("the request to be under way", SOON, async || {
        (router.metric("keyrouter_buffer_bytes").await > 0.0).then_some(())
    })
    .await;
    router.write(&service("s", &["b:1"]));
    router.hup_and_loaded().await;
    raw.send("\"max\":  1}").await;
    assert_eq!(raw.answer().await.unwrap().text(), "[\"b:1\"]\n");
}
