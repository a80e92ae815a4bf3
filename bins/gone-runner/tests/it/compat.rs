//! Nodes of the original program: their requests reach our child, our messages reach them, and both contend for
//! one lock.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use testkit::{RedisServer, eventually};

use crate::harness::{SOON, Setup, done, fails, holds, lines, record, tell_redis};

/// The document `{data: binary, id: string}` of the original, and nothing but the standard library and pyzmq.
const CLIENT: &str = r#"
import struct, sys, zmq
def document(id, data):
    body = b'\x05data\0' + struct.pack('<i', len(data)) + b'\0' + data
    body += b'\x02id\0' + struct.pack('<i', len(id) + 1) + id + b'\0' + b'\0'
    return struct.pack('<i', len(body) + 4) + body
socket = zmq.Context().socket(zmq.REQ)
socket.connect(sys.argv[1])
socket.RCVTIMEO = 20000
for number in range(3):
    socket.send(document(b'job', b'message %d' % number))
    print(repr(socket.recv()), flush=True)
"#;

/// A node of the original that holds the lock: it answers before it looks at what came.
const HOLDER: &str = r#"
import zmq
socket = zmq.Context().socket(zmq.REP)
port = socket.bind_to_random_port('tcp://127.0.0.1')
print('tcp://127.0.0.1:%d' % port, flush=True)
while True:
    document = socket.recv()
    socket.send(b'')
    print(document.hex(), flush=True)
"#;

struct Python(Child);

impl Python {
    fn start(program: &str, args: &[&str]) -> Self {
        let python = testkit::python_with_zmq();
        let mut command = Command::new(python);
        command.arg("-c").arg(program).args(args).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    async fn line(&mut self) -> String {
        let mut output = self.0.stdout.take().unwrap();
        let (line, output) = tokio::task::spawn_blocking(move || {
            let mut line = Vec::new();
            let mut byte = [0];
            while std::io::Read::read(&mut output, &mut byte).unwrap() == 1 && byte[0] != b'\n' {
                line.push(byte[0]);
            }
            (String::from_utf8(line).unwrap(), output)
        })
        .await
        .unwrap();
        self.0.stdout = Some(output);
        line
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn key(redis: SocketAddr) -> String {
    let mut raw = testkit::Raw::try_connect(redis).await.unwrap();
    raw.send("GET job\r\n").await;
    let head = String::from_utf8(raw.read_until(b"\r\n").await.unwrap()).unwrap();
    if head.starts_with("$-1") {
        return String::new();
    }
    String::from_utf8(raw.read_until(b"\r\n").await.unwrap()).unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn a_request_of_the_original_reaches_the_child() {
    let redis = RedisServer::start().await;
    let (_dir, file) = record();
    let setup = Setup::over(&redis.url()).flags(&["--fresh", "--compat", "go-one"]);
    let mut runner = setup.env("OUT", &file).shell("exec cat > \"$OUT\"").start("runner");
    holds(&mut runner).await;
    let address = key(redis.addr()).await;
    assert_eq!(address, crate::harness::status(&mut runner).await["address"].as_str().unwrap());
    let mut client = Python::start(CLIENT, &[&address]);
    for _ in 0..3 {
        assert_eq!(client.line().await, "b''");
    }
    let expected = ["message 0", "message 1", "message 2"];
    eventually("theirs at the child", SOON, async || (lines(&file) == expected).then_some(())).await;
    // Our own senders reach it as well.
    done(&["send", "--id", "job", "--lock", &redis.url(), "--compat", "go-one", "ours"], "").await;
    eventually("ours at the child", SOON, async || (lines(&file).len() == 4).then_some(())).await;
    runner.stop().await;
    assert_eq!(key(redis.addr()).await, "", "the original's key is free");
}

#[tokio::test]
async fn our_messages_reach_a_node_of_the_original_and_its_lock_is_respected() {
    let redis = RedisServer::start().await;
    let mut holder = Python::start(HOLDER, &[]);
    let address = holder.line().await;
    let set = tell_redis(redis.addr(), &format!("SET job {address} NX PX 3000")).await;
    assert_eq!(set.trim_end(), "+OK");
    let setup = Setup::over(&redis.url()).flags(&["--fresh", "--compat", "go-one"]).shell("exec sleep 100");
    let mut runner = setup.start("runner");
    let waiting = eventually("the runner to know the original", SOON, async || {
        let status = crate::harness::status(&mut runner).await;
        status["why"].as_str().is_some_and(|why| why.contains("original")).then_some(status)
    })
    .await;
    assert_eq!(waiting["state"], "waiting");
    let url = redis.url();
    let send = ["send", "--id", "job", "--lock", &url, "--compat", "go-one", "message!"];
    done(&send, "").await;
    // As the original writes it: the length, the binary `data`, the string `id`.
    let expected = format!("{}{}{}", "2400000005646174610008000000", "00", hex("message!"));
    assert_eq!(holder.line().await, format!("{expected}02{}0004000000{}00", hex("id"), hex("job\0")));
    assert!(fails(1, &["send", "--id", "job", "--lock", &url, "x"], "").await.contains("nobody holds job"));
    // The original's key runs out, and the runner takes over.
    holds(&mut runner).await;
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
