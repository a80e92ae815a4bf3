//! The data directory, and memory that does not grow with what waits.

use testkit::{Load, RecorderNode, TempDir, seed};

use super::{call, code, stderr, text};
use crate::harness::Flags;

fn start_in(data: &std::path::Path) -> std::process::Output {
    call(&["--host=127.0.0.1", "--port=0", "--api-port=0", "--node=127.0.0.1:9", "--data-dir", text(data)])
}

#[tokio::test]
async fn a_second_instance_is_told_who_is_first() {
    let node = RecorderNode::start("n");
    let proxy = Flags::new().node(node.addr()).start().await;
    let data = proxy.dir.join("data");
    let second = start_in(&data);
    let told = stderr(&second);
    assert_eq!(code(&second), Some(1), "{told}");
    assert!(told.contains(&proxy.process.pid().to_string()) && told.contains(text(&data)), "{told}");
    assert_eq!(told.trim().lines().count(), 1, "{told}");
    // Another data directory, but the same log.
    let log = format!("--log=file:{}", data.join("log").display());
    let second = call(&[
        "--host=127.0.0.1",
        "--port=0",
        "--api-port=0",
        &log,
        "--data-dir",
        text(&proxy.dir.join("other")),
    ]);
    assert_eq!(code(&second), Some(1), "{}", stderr(&second));
    assert_eq!(proxy.put("/k", "1").await.status, 200);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let node = RecorderNode::start("n");
    let mut proxy = Flags::new().node(node.addr()).start().await;
    assert_eq!(proxy.put("/k", "1").await.status, 200);
    assert!(proxy.process.stop().await.success());
    let data = proxy.dir.join("data");
    for folder in [data.clone(), data.join("log")] {
        let mut formats = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
        let format = formats.find(|path| text(path).ends_with(".format")).expect("a format file");
        let before = std::fs::read(&format).unwrap();
        std::fs::write(&format, "99\n").unwrap();
        let output = start_in(&data);
        let told = stderr(&output);
        assert_eq!(code(&output), Some(78), "{told}");
        assert!(told.contains(text(&format)) && told.contains("99") && told.contains("newer"), "{told}");
        assert_eq!(std::fs::read(&format).unwrap(), b"99\n");
        std::fs::write(&format, before).unwrap();
    }
    proxy.restart().await;
    assert_eq!(proxy.put("/k", "2").await.header("spawn-sequence"), Some("2"));
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let dir = TempDir::new();
    let file = dir.write("file", "");
    let mut places = vec![file.join("data"), "/sys/spawn-data".into(), "/proc/spawn-data".into()];
    if !rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir(dir.join("closed")).unwrap();
        std::fs::set_permissions(dir.join("closed"), std::fs::Permissions::from_mode(0o555)).unwrap();
        places.push(dir.join("closed"));
    }
    for place in places {
        let output = start_in(&place);
        let told = stderr(&output);
        assert_eq!(code(&output), Some(1), "{told}");
        assert!(told.contains(text(&place)) && !told.contains("panicked"), "{told}");
        assert_eq!(told.trim().lines().count(), 1, "{told}");
    }
}

#[tokio::test]
async fn a_damaged_file_of_nodes_is_named() {
    let node = RecorderNode::start("n");
    let mut proxy = Flags::new().node(node.addr()).start().await;
    assert!(proxy.process.stop().await.success());
    let data = proxy.dir.join("data");
    std::fs::write(data.join("nodes.json"), "{\"nodes\":").unwrap();
    let output = start_in(&data);
    assert!(code(&output) == Some(1) && stderr(&output).contains("nodes.json"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for flags in
        [[format!("--port={port}"), "--api-port=0".into()], ["--port=0".into(), format!("--api-port={port}")]]
    {
        let dir = TempDir::new();
        let output = call(&["--host=127.0.0.1", &flags[0], &flags[1], "--data-dir", text(&dir.join("data"))]);
        let told = stderr(&output);
        assert_eq!(code(&output), Some(1), "{told}");
        assert!(told.contains(&port.to_string()) && told.trim().lines().count() == 1, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_dead_node_takes_disk_and_not_memory() {
    let mut nodes = RecorderNode::start_many(2);
    let proxy = Flags::new().nodes(&nodes).start().await;
    let warm = Load::to(proxy.addr, seed()).writers(16).requests(2_000).body(1024).run().await;
    assert_eq!(warm.answered(200), 2_000);
    proxy.level().await;
    let before = proxy.process.rss();
    nodes[1].stop();
    let paths = (0..200).map(|number| format!("/kv/{number}"));
    let load = Load::to(proxy.addr, seed()).writers(16).requests(20_000).paths(paths).body(1024).run().await;
    assert_eq!(load.answered(200), 20_000);
    assert_eq!(proxy.pending(nodes[1].addr()).await, 20_000);
    let grown = proxy.process.rss().saturating_sub(before);
    println!("BACKLOG: {} bytes of memory for each of 20000 updates of 1 KiB that wait", grown / 20_000);
    // What is remembered of an update that is done (its answer, its key) takes its part of this.
    assert!(grown < 128 << 20, "{} MiB more", grown >> 20);
    nodes[1].restart();
    proxy.level().await;
    assert_eq!(nodes[1].applied(), 22_000);
}
