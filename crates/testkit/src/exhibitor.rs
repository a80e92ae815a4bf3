//! What answers like Exhibitor, and as badly as a test wants.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::port::free_port;
use crate::recorder::listen;
use crate::thread::OwnThread;

#[derive(Debug)]
struct Answers {
    status: u16,
    body: String,
    asked: u64,
}

/// An HTTP server on a free port that answers every request with the same list of servers, until it is told another.
#[derive(Debug)]
pub struct Exhibitor {
    addr: SocketAddr,
    answers: Arc<Mutex<Answers>>,
    _thread: OwnThread,
}

impl Exhibitor {
    /// One that names these hosts.
    pub fn start(servers: &[&str], port: u16) -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let listener = listen(addr).expect("a reserved port can be listened on");
        let answers = Arc::new(Mutex::new(Answers { status: 200, body: list(servers, port), asked: 0 }));
        let shared = Arc::clone(&answers);
        let thread = OwnThread::start(move || async move {
            let listener = TcpListener::from_std(listener).expect("a non-blocking listener fits the runtime");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        Self { addr, answers, _thread: thread }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `exhibitor://127.0.0.1:PORT/exhibitor/v1/cluster/list`.
    pub fn url(&self) -> String {
        format!("exhibitor://{}/exhibitor/v1/cluster/list", self.addr)
    }

    /// Names these hosts from now on.
    pub fn name(&self, servers: &[&str], port: u16) {
        self.say(200, &list(servers, port));
    }

    /// Answers this from now on.
    pub fn say(&self, status: u16, body: &str) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        (answers.status, answers.body) = (status, body.to_owned());
    }

    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).asked
    }
}

fn list(servers: &[&str], port: u16) -> String {
    serde_json::json!({ "servers": servers, "port": port }).to_string()
}

async fn answer(mut stream: TcpStream, answers: Arc<Mutex<Answers>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let answer = {
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.asked += 1;
        let Answers { status, body, .. } = &*answers;
        let length = body.len();
        format!("HTTP/1.1 {status} Stub\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    // Whoever went away meanwhile gets none.
    let _ = stream.write_all(answer.as_bytes()).await;
}
