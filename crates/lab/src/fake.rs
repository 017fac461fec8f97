//! A server for tests: a loopback listener that asks a function for each answer.
//!
//! It reads whole requests and writes what the function returns, byte for byte, so that a test can also say what no
//! HTTP library would: half an answer, or none. Absent on purpose: any knowledge of the API.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// What the server does with one request.
pub(crate) enum Reply {
    /// Writes this and keeps the connection.
    Raw(String),
    /// Writes this and closes.
    Partial(String),
    /// Closes without an answer.
    Cut,
}

impl Reply {
    pub(crate) fn new(status: u16, headers: &str, body: String) -> Self {
        Self::Raw(format!(
            "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }
}

type Answerer = Arc<Mutex<dyn FnMut(usize, &str) -> Reply + Send>>;

pub(crate) struct Fake {
    pub(crate) address: String,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Fake {
    /// Answers the n-th request, given as text.
    pub(crate) async fn start(answer: impl FnMut(usize, &str) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let answer: Answerer = Arc::new(Mutex::new(answer));
        let number = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                served.spawn(serve(stream, Arc::clone(&answer), Arc::clone(&number)));
            }
        });
        Self { address, connections, task }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, answer: Answerer, number: Arc<AtomicUsize>) {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = request_end(&bytes) else {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let request: Vec<u8> = bytes.drain(..end).collect();
        let request = String::from_utf8_lossy(&request).into_owned();
        let reply = (answer.lock().unwrap())(number.fetch_add(1, Ordering::Relaxed), &request);
        match reply {
            Reply::Raw(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
            }
            Reply::Partial(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                return;
            }
            Reply::Cut => return,
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
