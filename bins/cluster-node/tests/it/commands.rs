//! The command line: what is refused, keys, the doctor, the health check.

use testkit::TempDir;

use crate::harness::*;

fn text(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_is_told_at_once() {
    let dir = TempDir::new();
    private(&dir, "secret", "short");
    let file = dir.write(
        "node.toml",
        "name = \"n1\"\nsecret-file = \"secret\"\nlisten = \"tcp://host:1\"\npeerz = 1\n\
         ping-interval = \"5s\"\n[[peers]]\nname = \"n1\"\naddr = \"tcp://h:1\"\n[[peers]]\nname = \"n2\"\n\
         addr = \"h:1\"\n[app]\nendpoint = \"tcp://10.0.0.1:5\"\n",
    );
    let folder = dir.to_str().unwrap().to_owned();
    let fixed =
        std::fs::read_to_string(&file).unwrap().replace("\"secret\"", &format!("\"{folder}/secret\""));
    std::fs::write(&file, fixed).unwrap();
    let output = run(words(&["--check-config", "--config", file.to_str().unwrap()])).await;
    let said = text(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    for part in
        ["16 at least", "tcp://IP:PORT", "peerz", "peers", "read-timeout", "own name", "h:1", "loopback"]
    {
        assert!(
            said.contains(part) || part == "loopback" && said.contains("reached by others"),
            "{part} in {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_to_be_there_is_asked_for() {
    let output = run(words(&["--name", "n1"])).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("--secret-file: is needed"), "{}", text(&output));
    let dir = TempDir::new();
    let secret = dir.write("secret", "a secret that all may read");
    let output = run(words(&["--name", "n1", "--secret-file", secret.to_str().unwrap()])).await;
    assert!(text(&output).contains("chmod 600"), "{}", text(&output));
    assert!(!output.status.success());
    let key = private(&dir, "key", "");
    let output = run(words(&["keygen"])).await;
    std::fs::write(&key, &output.stdout).unwrap();
    let public = text(&run(words(&["keygen", "--public-of", key.to_str().unwrap()])).await);
    assert_eq!(public.trim().len(), 40, "{public}");
    let key = key.to_str().unwrap();
    let peer = "n2=tcp://127.0.0.1:9";
    let output = run(words(&["--check-config", "--name", "n1", "--key-file", key, "--peer", peer])).await;
    assert!(text(&output).contains("needs its key"), "{}", text(&output));
    let peer = format!("{peer},key={}", public.trim());
    let output = run(words(&["--check-config", "--name", "n1", "--key-file", key, "--peer", &peer])).await;
    assert!(output.status.success(), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_keys_of_their_own_join() {
    let plan = Plan::of(2);
    let mut keys = Vec::new();
    for at in 1..=2 {
        let made = run(words(&["keygen"])).await;
        let path = private(&plan.dir, &format!("key-{at}"), &String::from_utf8_lossy(&made.stdout));
        let public = run(words(&["keygen", "--public-of", path.to_str().unwrap()])).await;
        keys.push((path, String::from_utf8(public.stdout).unwrap().trim().to_owned()));
    }
    let program = |at: usize, other: usize, public: &str| {
        let peer = format!("{},key={public}", plan.peer(other));
        plan.lone(at).arg("--key-file").arg(&keys[at - 1].0).args(["--peer", &peer])
    };
    let n1 = Node::start(&program(1, 2, &keys[1].1), 1).await;
    let n2 = Node::start(&program(2, 1, &keys[0].1), 2).await;
    n1.sees("n2", "Online").await;
    n2.sees("n1", "Online").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_which_side_is_wrong() {
    let plan = Plan::of(3);
    let secret = |at: usize| plan.dir.join(format!("secret-{at}")).to_str().unwrap().to_owned();
    let doctor = async |name: &str, at: usize, peer: String| {
        let peer_name = peer.split('=').next().unwrap().to_owned();
        let within = "2s";
        let args = [
            "doctor",
            &peer_name,
            "--name",
            name,
            "--secret-file",
            &secret(at),
            "--peer",
            &peer,
            "--connect-timeout",
            within,
        ];
        let output = run(words(&args)).await;
        (output.status.code(), text(&output))
    };
    let _n1 = Node::start(&plan.program(1), 1).await;
    let (code, said) = doctor("n2", 2, plan.peer(1)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ok"), "{said}");
    let (code, said) = doctor("n9", 2, plan.peer(1)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not know n9"), "{said}");
    plan.secret(3, OTHER);
    let (code, said) = doctor("n3", 3, plan.peer(1)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("compare the secret files of n3 and n1"), "{said}");
    let (code, said) = doctor("n1", 1, plan.peer(2)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot be reached"), "{said}");
    let output = run(words(&["doctor", "n7", "--name", "n1", "--secret-file", &secret(1)])).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_finds_the_node_and_no_quorum_is_no_illness() {
    let plan = Plan::of(3);
    let port = testkit::free_port();
    let api = format!("127.0.0.1:{port}");
    let mut process = plan.program(1).args(["--api", &api]).start();
    process.listening("api").await;
    let output = testkit::eventually("the node to be ready", SOON, async || {
        let output = run(words(&["healthcheck", "--api", &api])).await;
        output.status.success().then_some(output)
    })
    .await;
    let said = text(&output);
    assert!(said.contains("no quorum: 1 of 3 nodes; not online: n2, n3"), "{said}");
    let metrics = testkit::http::get(api.parse().unwrap(), "/metrics").await.text();
    for line in [
        "cluster_node_quorum 0",
        "cluster_node_peer_up{peer=\"n2\"} 0",
        "cluster_node_peer_undelivered_total{peer=\"n3\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    process.stop().await;
    assert_eq!(run(words(&["healthcheck", "--api", &api])).await.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_there_is_none() {
    let plan = Plan::of(1);
    let mut process = plan.lone(1).arg("--no-api").start();
    process.listening("link").await;
    assert!(process.stop().await.success());
    assert!(!process.log().iter().any(|line| line.contains("\"api\"")));
}
