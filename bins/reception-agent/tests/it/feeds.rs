//! `[[render]]` and `[[spawn]]` are wired: lists reach them, and a reload changes them.

use testkit::http::get;
use testkit::{EtcdServer, TempDir, eventually};

use crate::harness::{Folder, SOON, agent, send, serve};

#[tokio::test]
async fn files_follow_services_and_the_configuration() {
    let store = Folder::new();
    let dir = store.dir();
    let render = |file: &str, services: &str| {
        format!(
            "[[render]]\npath = '{}'\nservices = {services}\nformat = 'keyrouter'\n",
            dir.join(file).display()
        )
    };
    let file = dir.write("agent.toml", render("web.toml", "['web']"));
    let mut serving =
        agent(&store.url(), &["serve", "--api", "127.0.0.1:0"]).arg("--config").arg(&file).start();
    let api = serving.listening("api").await;
    let holds = async |file: &str, part: &str| {
        eventually(format!("{file} to hold {part}"), SOON, async || {
            let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
            text.contains(part).then_some(())
        })
        .await;
    };
    let put = async |target: &str| {
        let answer = send(api, "PUT", target, r#"{"address":"10.0.0.7","port":8080,"ttl":"60s"}"#).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    put("/v1/services/web/a").await;
    holds("web.toml", "10.0.0.7:8080").await;
    put("/v1/services/api/b").await;
    dir.write("agent.toml", render("all.toml", "['*']"));
    serving.hup();
    serving.logs("reloaded").await;
    holds("all.toml", "api").await;
    holds("all.toml", "web").await;
    put("/v1/services/new/c").await;
    holds("all.toml", "new").await;
    dir.write("agent.toml", "[[render]]\npath = 'x'\n");
    serving.hup();
    serving.logs("agent.toml:1").await;
    put("/v1/services/newer/d").await;
    holds("all.toml", "newer").await;
    assert!(serving.stop().await.success());
}

#[tokio::test]
async fn a_file_of_all_services_has_more_of_them_than_are_read_at_once() {
    const SERVICES: usize = 100;
    let (etcd, dir) = (EtcdServer::start().await, TempDir::new());
    let (_holds, api) = serve(&etcd.url(), &[]).await;
    for number in 0..SERVICES {
        let body = format!(r#"{{"address":"10.0.0.7","port":{},"ttl":"10m"}}"#, 1000 + number);
        let answer = send(api, "PUT", &format!("/v1/services/service{number}/a"), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let file = dir.join("all.toml");
    let config = dir.write(
        "agent.toml",
        format!("[[render]]\npath = '{}'\nservices = ['*']\nformat = 'keyrouter'\n", file.display()),
    );
    let (_renders, other) =
        serve(&etcd.url(), &["--watch-idle", "1s", "--config", config.to_str().unwrap()]).await;
    let text = eventually("the file", SOON, async || std::fs::read_to_string(&file).ok()).await;
    for number in 0..SERVICES {
        assert!(text.contains(&format!("10.0.0.7:{}", 1000 + number)), "the first file is whole: {number}");
    }
    // One that is not wanted any more is not watched any more: the names, and all but this one.
    assert_eq!(send(api, "DELETE", "/v1/services/service7/a", "").await.status, 204);
    eventually("its watch to end", SOON, async || {
        let wanted = format!("reception_agent_watches {SERVICES}\n");
        get(other, "/metrics").await.text().contains(&wanted).then_some(())
    })
    .await;
}
