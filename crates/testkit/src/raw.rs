//! Bytes on a socket, for requests that no HTTP library would send.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::Answer;
use crate::wait::patience;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A TCP connection on which exactly these bytes are sent.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    /// Read, but not yet part of an answer that was given out.
    rest: Vec<u8>,
}

/// Sends these bytes on a fresh connection, ends the sending side, and reads all that comes.
pub async fn exchange(addr: SocketAddr, request: impl AsRef<[u8]>) -> Vec<u8> {
    let mut raw = Raw::connect(addr).await;
    raw.send(request).await;
    let _ = raw.stream.shutdown().await;
    raw.read_to_end().await
}

impl Raw {
    /// Connects. Panics when that is refused.
    pub async fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).await.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"))
    }

    /// Connects, or says why not.
    pub async fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let connecting = tokio::time::timeout(patience(LIMIT), TcpStream::connect(addr)).await;
        let stream = connecting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, rest: Vec::new() })
    }

    /// Sends these bytes as they are. That the other side has gone shows when reading.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Ends the sending side (FIN); answers can still be read.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Ends the connection at once (RST).
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Reads one answer: its head, and the body that the head announces (up to the end when it says
    /// nothing). An interim answer (1xx) is an answer of its own.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        self.answer_to("GET").await
    }

    /// Reads one answer to a request of this method: one to HEAD has no body.
    pub async fn answer_to(&mut self, method: &str) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = find(&self.rest, b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head: Vec<u8> = self.rest.drain(..end).collect();
        let mut answer = parse_head(&head)?;
        let bodyless = method == "HEAD" || answer.status < 200 || matches!(answer.status, 204 | 304);
        if bodyless {
            return Ok(answer);
        }
        answer.body = if answer.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            self.chunks().await?
        } else if let Some(length) = answer.header("content-length").and_then(|value| value.parse().ok()) {
            self.exactly(length).await?
        } else {
            self.read_to_end().await
        };
        Ok(answer)
    }

    /// Reads whatever comes until the other side ends or breaks the connection.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        while self.more().await.is_ok() {}
        std::mem::take(&mut self.rest)
    }

    /// Reads until these bytes have come, and gives all up to their end.
    pub async fn read_until(&mut self, wanted: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.rest, wanted) {
                return Ok(self.rest.drain(..at + wanted.len()).collect());
            }
            self.more().await?;
        }
    }

    /// Waits until the other side has ended the connection; true for an orderly end, false for a reset.
    /// Whatever comes before that is thrown away.
    pub async fn closed(&mut self) -> bool {
        loop {
            match self.more().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => panic!("the connection stays open"),
                Err(error) => return error.kind() == io::ErrorKind::UnexpectedEof,
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.rest.len() < length {
            self.more().await?;
        }
        Ok(self.rest.drain(..length).collect())
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_until(b"\r\n").await?;
            let line = String::from_utf8_lossy(&line);
            let size = line.trim_end().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                // Trailers, if any, up to the empty line.
                while self.read_until(b"\r\n").await?.len() > 2 {}
                return Ok(body);
            }
            body.extend(self.exactly(size).await?);
            self.exactly(2).await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let read = tokio::time::timeout(patience(LIMIT), self.stream.read(&mut buffer)).await;
        match read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.rest.extend_from_slice(&buffer[..length]);
                Ok(())
            }
        }
    }
}

fn find(among: &[u8], wanted: &[u8]) -> Option<usize> {
    among.windows(wanted.len()).position(|window| window == wanted)
}

fn parse_head(head: &[u8]) -> io::Result<Answer> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
    let header =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    Ok(Answer { status, headers: lines.filter_map(header).collect(), body: Vec::new() })
}
