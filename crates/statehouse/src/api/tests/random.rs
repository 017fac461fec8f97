//! Random requests: whatever comes, there is an answer, it is well formed, and nothing panicked.
//!
//! The seed is printed first; `STATEHOUSE_SEED` runs one again.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, Request, Uri},
};

use super::{super::table::ROUTES, Face, Fake, Seen};

/// A small generator (xorshift64*): tests need luck that can be repeated, not good luck.
struct Luck(u64);

impl Luck {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn pick<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        &list[self.below(list.len())]
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let count = self.below(max + 1);
        (0..count).map(|_| u8::try_from(self.next() % 256).unwrap()).collect()
    }
}

const HEADERS: [&str; 13] = [
    "authorization",
    "idempotency-key",
    "if-match",
    "x-correlation-id",
    "traceparent",
    "tracestate",
    "x-statehouse-deadline-ms",
    "x-statehouse-postpone-ms",
    "last-event-id",
    "content-type",
    "content-length",
    "content-encoding",
    "accept",
];

const SNIPPETS: [&str; 12] =
    ["%00", "%2F", "..", "%ff", "a", "{", "}", "*", "é", "a-1", "%F0%9F%98%80", "acme"];

fn segment(luck: &mut Luck) -> String {
    (0..=luck.below(3)).map(|_| *luck.pick(&SNIPPETS)).collect()
}

fn uri(luck: &mut Luck) -> Option<Uri> {
    let template = luck.pick(ROUTES).path;
    let path: Vec<String> = template
        .split('/')
        .map(|part| match part {
            "{t}" if luck.below(4) > 0 => "acme".to_owned(),
            part if part.starts_with('{') || luck.below(20) == 0 => segment(luck),
            part => part.to_owned(),
        })
        .collect();
    let query = if luck.below(2) == 0 {
        String::new()
    } else {
        format!("?{}={}", luck.pick(&["limit", "wait", "dry_run", "after", "x"]), segment(luck))
    };
    format!("{}{query}", path.join("/")).parse().ok()
}

fn body(luck: &mut Luck) -> Vec<u8> {
    match luck.below(4) {
        0 => luck.bytes(64),
        1 => br#"{"definition": "d", "reason": "x", "input": {}}"#.to_vec(),
        2 => format!("{{\"{}\": [1, {{}}, null]}}", segment(luck)).into_bytes(),
        _ => Vec::new(),
    }
}

fn request(luck: &mut Luck) -> Option<Request<Body>> {
    let methods =
        [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS];
    let mut request = Request::new(Body::from(body(luck)));
    *request.method_mut() = luck.pick(&methods).clone();
    *request.uri_mut() = uri(luck)?;
    let headers = request.headers_mut();
    if luck.below(4) > 0 {
        headers.insert("authorization", HeaderValue::from_static("Bearer acme-admin"));
        headers.insert("idempotency-key", HeaderValue::from_static("k"));
    }
    for _ in 0..luck.below(4) {
        let name = HEADERS[luck.below(HEADERS.len())];
        let name = HeaderName::from_static(name);
        if let Ok(value) = HeaderValue::from_bytes(&luck.bytes(40)) {
            headers.append(name, value);
        }
    }
    Some(request)
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "a random test prints its seed")]
async fn whatever_comes_is_answered_without_a_panic() {
    let seed = std::env::var("STATEHOUSE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from_le_bytes(super::super::auth::random()) | 1);
    println!("STATEHOUSE_SEED={seed}");
    let mut luck = Luck(seed);
    let face = Face::new(Fake::new());
    for turn in 0..4_000 {
        let Some(request) = request(&mut luck) else { continue };
        let what = format!("turn {turn}: {} {}", request.method(), request.uri());
        let response = tower::ServiceExt::oneshot(face.router.clone(), request).await.unwrap();
        let (parts, body) = response.into_parts();
        assert_ne!(parts.status, 500, "{what}");
        if parts.headers.get("content-type").is_some_and(|media| media == "text/event-stream") {
            continue;
        }
        let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes().to_vec();
        let seen = Seen { status: parts.status, headers: parts.headers, body };
        if !seen.status.is_success() && !seen.body.is_empty() && seen.status != 503 {
            seen.refusal();
        }
    }
}
