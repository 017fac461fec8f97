//! A server for tests: a loopback listener that answers from a list and remembers what it was asked.
//!
//! One canned answer per request, in order; `Cut` closes the connection after reading the request, which is what a node
//! that dies with a command under way looks like.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the server does with one request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Answers with a status, header lines and a body.
    Is(u16, &'static str, String),
    /// Sends these bytes as the body of an endless answer, then closes.
    Stream(String),
    /// Closes without an answer.
    Cut,
    /// Says nothing.
    Hang,
}

impl Reply {
    pub(crate) fn json(status: u16, body: impl Into<String>) -> Self {
        Self::Is(status, "", body.into())
    }
}

pub(crate) struct Fake {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let replies: Arc<Mutex<VecDeque<Reply>>> =
            Arc::new(Mutex::new(replies.into_iter().collect()));
        let seen = Arc::clone(&asked);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                served.spawn(serve(stream, Arc::clone(&replies), Arc::clone(&seen)));
            }
        });
        Self { address, asked, connections, task }
    }

    /// Returns how many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns what was asked: request line, headers and body as text.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = request_end(&bytes) else {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let request: Vec<u8> = bytes.drain(..end).collect();
        asked.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
        let reply = replies.lock().unwrap().pop_front();
        match reply.unwrap_or_else(|| Reply::json(500, "{\"code\":\"internal\"}")) {
            Reply::Is(status, headers, body) => {
                let head = format!(
                    "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
            Reply::Stream(body) => {
                let head = "HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                return;
            }
            Reply::Cut => return,
            Reply::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
        }
    }
}

/// Returns where the first whole request ends.
fn request_end(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    let end = head + length.unwrap_or(0);
    (bytes.len() >= end).then_some(end)
}
