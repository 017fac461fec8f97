//! `http` against small servers of our own.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use statehouse_contract::{InstanceId, InstanceKey, TenantId};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

use super::{super::address::parse_allowed, *};

/// A task with this input.
pub(in crate::builtin) fn work(input: Value) -> Work {
    Work {
        instance: InstanceKey {
            tenant: TenantId::parse("t").unwrap(),
            instance: InstanceId::parse("i-1").unwrap(),
        },
        task: "0af-i-1-1-0".to_owned(),
        input,
        attempt: 1,
        idempotency_key: "0af-i-1-1-0".to_owned(),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
    }
}

/// What a server does with one connection.
enum Reply {
    Says(String),
    Hangs,
    Resets,
    Endless,
}

struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn server(replies: Vec<Reply>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        let turn = AtomicUsize::new(0);
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 16 * 1024];
            let count = stream.read(&mut head).await.unwrap_or(0);
            seen.lock().unwrap().push(String::from_utf8_lossy(&head[..count]).into_owned());
            match &replies[turn.fetch_add(1, Ordering::SeqCst) % replies.len()] {
                Reply::Says(text) => drop(stream.write_all(text.as_bytes()).await),
                Reply::Hangs => {
                    let _ = stream.read(&mut head).await;
                }
                Reply::Resets => drop(stream),
                Reply::Endless => {
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n")
                        .await;
                    while stream.write_all(&[b'x'; 8 * 1024]).await.is_ok() {}
                }
            }
        }
    });
    Server { address, asked, task }
}

fn says(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Says(format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    ))
}

async fn run(allowed: &str, input: Value) -> Result<Value, Failed> {
    let kind = Http::new(Caller::new(parse_allowed(allowed).unwrap()));
    let output = kind.run(work(input)).await?;
    Ok(serde_json::from_str(output.as_str()).unwrap())
}

const HERE: &str = "127.0.0.0/8";

#[tokio::test]
async fn a_request_carries_key_and_trace_and_its_answer_becomes_the_output() {
    let server = server(vec![says(
        "200 OK",
        "content-type: application/json\r\netag: \"7\"\r\n",
        r#"{"ok": true}"#,
    )])
    .await;
    let input = json!({
        "method": "post", "url": format!("{}/charge?a=1", server.address),
        "headers": {"x-shop": "north"}, "body": {"amount": 3},
    });
    let output = run(HERE, input).await.unwrap();
    assert_eq!(output["status"], 200);
    assert_eq!(output["body"], json!({"ok": true}));
    assert_eq!(output["headers"], json!({"content-type": "application/json", "etag": "\"7\""}));
    let asked = server.asked.lock().unwrap().join("");
    for said in [
        "POST /charge?a=1 HTTP/1.1",
        "idempotency-key: 0af-i-1-1-0",
        "traceparent: 00-4bf92f35",
        "x-shop: north",
        r#"{"amount":3}"#,
    ] {
        assert!(asked.contains(said), "{said} in {asked}");
    }
}

#[tokio::test]
async fn statuses_are_failures_that_may_pass_or_not() {
    for (status, code, retryable) in [
        ("404 Not Found", "http.404", false),
        ("409 Conflict", "http.409", false),
        ("429 Too Many Requests", "http.429", true),
        ("503 Service Unavailable", "http.503", true),
    ] {
        let server = server(vec![says(status, "retry-after: 7\r\n", "no")]).await;
        let failed = run(HERE, json!({"url": server.address})).await.unwrap_err();
        assert_eq!((failed.code.as_str(), failed.retryable), (code, retryable));
        assert!(failed.message.contains("retry after 7: no"), "{}", failed.message);
    }
    let server = server(vec![says("404 Not Found", "", "gone")]).await;
    let output = run(HERE, json!({"url": server.address, "success": [404]})).await.unwrap();
    assert_eq!(output["body"], "gone");
}

#[tokio::test]
async fn a_server_that_hangs_resets_or_never_ends_costs_an_attempt_and_no_memory() {
    let hanging = server(vec![Reply::Hangs]).await;
    let failed = run(HERE, json!({"url": hanging.address, "timeout": "50ms"})).await.unwrap_err();
    assert_eq!((failed.code.as_str(), failed.retryable), ("http.timeout", true));
    let resetting = server(vec![Reply::Resets]).await;
    let failed = run(HERE, json!({"url": resetting.address})).await.unwrap_err();
    assert!(failed.retryable && failed.code.starts_with("http."), "{failed:?}");
    let endless = server(vec![Reply::Endless]).await;
    let failed = run(HERE, json!({"url": endless.address})).await.unwrap_err();
    assert_eq!((failed.code.as_str(), failed.retryable), ("http.too_large", false));
    let nobody = run(HERE, json!({"url": "http://127.0.0.1:1"})).await.unwrap_err();
    assert_eq!((nobody.code.as_str(), nobody.retryable), ("http.connect", true));
}

#[tokio::test]
async fn a_redirect_is_followed_and_never_to_where_nobody_may_go() {
    let target = server(vec![says("200 OK", "", "there")]).await;
    let location = format!("location: {}/x\r\n", target.address);
    let first = server(vec![says("302 Found", &location, "")]).await;
    let input = json!({"method": "POST", "url": first.address, "body": "b"});
    assert_eq!(run(HERE, input).await.unwrap()["body"], "there");
    assert!(target.asked.lock().unwrap()[0].starts_with("GET /x"), "a POST becomes a GET");
    let metadata = "location: http://169.254.169.254/latest/meta-data\r\n";
    let trap = server(vec![says("302 Found", metadata, "")]).await;
    let failed = run(HERE, json!({"url": trap.address})).await.unwrap_err();
    assert_eq!((failed.code.as_str(), failed.retryable), ("http.forbidden_address", false));
    let circle = server(vec![says("302 Found", "location: /again\r\n", "")]).await;
    let failed = run(HERE, json!({"url": circle.address})).await.unwrap_err();
    assert_eq!(failed.code, "http.redirect");
    assert_eq!(circle.asked.lock().unwrap().len(), REDIRECTS_MAX + 1);
}

#[tokio::test]
async fn what_may_not_be_reached_is_not_reached_however_it_is_written() {
    let server = server(vec![says("200 OK", "", "secret")]).await;
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    for host in
        ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"]
    {
        let url = format!("http://{host}:{port}/");
        let failed = run("", json!({ "url": url })).await.unwrap_err();
        assert_eq!(failed.code, "http.forbidden_address", "{host}");
        assert!(failed.message.contains("builtin.http_allow"), "{}", failed.message);
    }
    assert!(server.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_input_that_cannot_be_is_refused_with_its_reason() {
    for (input, said) in [
        (json!({}), "url"),
        (json!({"url": "no url"}), "url"),
        (json!({"url": "ftp://example.com"}), "only http and https"),
        (json!({"url": "http://me:secret@example.com"}), "use a header"),
        (json!({"url": "http://127.0.0.1", "method": "a b"}), "is no method"),
        (json!({"url": "http://127.0.0.1", "headers": {"a b": "c"}}), "is no header"),
        (json!({"url": "http://127.0.0.1", "headers": {"host": "c"}}), "belongs to the connection"),
        (json!({"url": "http://127.0.0.1", "headers": {"x": "a\r\nevil: b"}}), "characters"),
        (json!({"url": "http://127.0.0.1", "timeout": "soon"}), "such as 10s"),
        (json!({"url": "http://127.0.0.1", "bodi": 1}), "bodi"),
    ] {
        let failed = run(HERE, input.clone()).await.unwrap_err();
        assert_eq!((failed.code.as_str(), failed.retryable), ("invalid_input", false), "{input}");
        assert!(failed.message.contains(said), "{input}: {}", failed.message);
    }
}
