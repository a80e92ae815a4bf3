//! What is too large, too slow or no HTTP gets a clear answer and harms nobody else.

use std::time::Duration;

use testkit::http::ask;
use testkit::{Raw, TempDir, eventually};

use crate::harness::{Router, SOON, error, nodes, program, service};

#[tokio::test]
async fn an_immense_max_costs_no_more_than_all_nodes() {
    let router = Router::start(&service("s", &nodes("n", 1000)), &[]).await;
    for max in ["1000000000", "9223372036854775807"] {
        let answer = router.get(&format!("/service/s?key=k&min=1&max={max}")).await;
        assert_eq!((answer.status, answer.json().as_array().unwrap().len()), (200, 1000));
    }
    let answer = router.get("/service/s?key=k&min=1000000000&max=1000000000").await;
    assert!(answer.status == 400 && error(&answer).contains("has 1000"), "{}", answer.text());
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_before_it_is_sent() {
    let router = Router::start(&service("s", &["a:1"]), &[]).await;
    let before = router.process.rss();
    for (target, kind) in [
        ("/service/s", "application/json"),
        ("/service/s", "application/x-www-form-urlencoded"),
        ("/service/s", "multipart/form-data; boundary=b"),
        ("/batch/s", "application/json"),
    ] {
        let declared = ask("POST", target)
            .header("Content-Type", kind)
            .header("Content-Length", 200 << 20)
            .header("Expect", "100-continue")
            .of(router.addr)
            .await;
        assert!(declared.status == 413 && error(&declared).contains("max-body"), "{target} {kind}");
        // Without a length it is found out on the way.
        let mut raw = Raw::connect(router.addr).await;
        raw.send(format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ))
        .await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        for _ in 0..17 {
            raw.send(&chunk).await;
        }
        assert_eq!(raw.answer().await.unwrap().status, 413, "{target} {kind}");
    }
    let grown = router.process.rss().saturating_sub(before) >> 20;
    assert!(grown < 40, "grew by {grown} MiB");
    // A body that nobody asked for is not read.
    let ignored = ask("POST", "/service/s?key=k&min=1&max=1").header("Content-Type", "text/plain");
    assert_eq!(ignored.body("x".repeat(100)).of(router.addr).await.status, 200);
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let router = Router::start(&service("s", &["a:1"]), &["--body-timeout", "300ms"]).await;
    let mut raw = Raw::connect(router.addr).await;
    raw.send("POST /batch/s HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{\"keys\"").await;
    let answer = raw.answer().await.unwrap();
    assert!(answer.status == 408 && error(&answer).contains("body-timeout"), "{}", answer.text());
    assert!(raw.closed().await);
}

#[tokio::test]
async fn all_bodies_together_have_a_limit() {
    let router =
        Router::start(&service("s", &["a:1"]), &["--max-buffer", "100KiB", "--max-body", "100KiB"]).await;
    let mut holders = Vec::new();
    let head = "POST /batch/s HTTP/1.1\r\nHost: x\r\nContent-Length: 65000\r\n\r\n";
    for _ in 0..2 {
        let mut raw = Raw::connect(router.addr).await;
        raw.send(format!("{head}{}", " ".repeat(49_000))).await;
        holders.push(raw);
    }
    eventually("both to be held", SOON, async || {
        (router.metric("keyrouter_buffer_bytes").await == 98_000.0).then_some(())
    })
    .await;
    let answer = router.post_json("/batch/s", " ".repeat(40_000) + "{\"keys\":[]}").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(error(&answer).contains("max-buffer"));
    assert_eq!(router.nodes("s", "k", 1).await, ["a:1"], "a query needs no room");
    drop(holders);
    eventually("the room to be given back", SOON, async || {
        let answer = router.post_json("/batch/s", " ".repeat(40_000) + "{\"keys\":[]}").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn heads_have_a_limit() {
    let router = Router::start(&service("s", &["a:1"]), &[]).await;
    let key = "k".repeat(70_000);
    assert_eq!(router.get(&format!("/service/s?key={key}&min=1&max=1")).await.status, 431);
    let long = ask("POST", "/service/s").header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(long.body(format!("key={key}&min=1&max=1")).of(router.addr).await.status, 200);
    let name = "n".repeat(10_000);
    let answer = router.get(&format!("/service/{name}")).await;
    assert!(answer.status == 404 && answer.body.len() < 400, "{}", answer.text());
    let connect = Raw::connect(router.addr);
    let mut raw = connect.await;
    raw.send("CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 501);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_slow_clients_keep_nobody_waiting() {
    const SLOW: usize = 10_000;
    let router = Router::start(&service("s", &nodes("n", 100)), &["--header-timeout", "60s"]).await;
    let before = router.process.rss();
    let mut slow = Vec::with_capacity(SLOW);
    for number in 0..SLOW {
        let Ok(mut raw) = Raw::try_connect(router.addr).await else {
            // The machine's own limit of open files; what is open has to do.
            assert!(number > 400, "only {number} connections");
            break;
        };
        raw.send("GET /service/s?key=k&min=1&ma").await;
        slow.push(raw);
    }
    for number in 0..200 {
        assert_eq!(router.nodes("s", &format!("k{number}"), 3).await.len(), 3);
    }
    let each = router.process.rss().saturating_sub(before) / slow.len() as u64;
    println!("{} slow clients take {each} bytes each", slow.len());
    assert!(each < 64 * 1024, "{each} bytes each");
}

#[tokio::test]
async fn files_that_are_no_files_are_refused_at_once() {
    let router = Router::start(&service("s", &["a:1"]), &[]).await;
    let before = router.process.rss();
    let refused = async |named: &str| {
        router.hup_and_loaded().await;
        let (status, ok, detail) = router.condition("services-file").await;
        assert!(status == 200 && !ok && detail.contains(named), "{named}: {detail}");
        assert_eq!(router.nodes("s", "k", 1).await, ["a:1"]);
    };
    let sparse = std::fs::File::create(router.dir.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    std::fs::rename(router.dir.join("sparse"), &router.file).unwrap();
    refused("max-services-size").await;
    std::fs::remove_file(&router.file).unwrap();
    std::fs::create_dir(&router.file).unwrap();
    refused("services.toml").await;
    std::fs::remove_dir(&router.file).unwrap();
    for other in ["/dev/zero", "/dev/null"] {
        std::os::unix::fs::symlink(other, &router.file).unwrap();
        refused("not a file").await;
        std::fs::remove_file(&router.file).unwrap();
    }
    std::fs::write(&router.file, b"[[Services]]\nName = '\xff'\n").unwrap();
    refused("services.toml:2").await;
    let grown = router.process.rss().saturating_sub(before) >> 20;
    assert!(grown < 40, "grew by {grown} MiB");
}

#[tokio::test]
async fn odd_names_come_back_as_they_are() {
    let names = ["qu\"ote", "sl/ash", "back\\slash", "sp ace", "new\nline", "é\u{2028}😀", "<&>"];
    let router = Router::start(&names.map(|name| service(name, &[name])).concat(), &[]).await;
    let listed = router.get("/service").await;
    assert_eq!(listed.json(), serde_json::json!(names));
    assert!(listed.text().contains("\\u003c\\u0026\\u003e") && listed.text().contains("\\u2028"));
    for name in names {
        let path: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = router.get(&format!("/service/{path}?key=k&min=1&max=1")).await;
        assert_eq!(answer.json(), serde_json::json!([name]));
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_in_one_sentence() {
    let router = Router::start(&service("s", &["a:1"]), &[]).await;
    let dir = TempDir::new();
    let file = dir.write("services.toml", "");
    let mut second = program(&file, &["--address", &router.addr.to_string()]).start();
    assert_eq!(second.ended(Duration::from_secs(20)).await.code(), Some(1));
    let log = second.log();
    assert!(log.iter().any(|line| line.contains(&router.addr.to_string())), "{log:?}");
}
