//! A request as the curl line that sends it (`--curl`).
//!
//! The line is made from the very request that would have been sent, so it can never show another one. It holds
//! no token: it names the file or variable that does. A new key is written out, so that the line, pasted twice,
//! acts once.
//!
//! Deliberately absent: quoting for shells other than POSIX ones.

use std::{fmt::Write as _, path::Path};

use statehouse_sdk::{Method, Request};

/// Returns the curl line of a request; `token` is a piece of shell that yields the token, `authority` the file of the
/// certificates to trust.
pub(crate) fn line(
    request: &Request,
    server: &str,
    token: Option<&str>,
    authority: Option<&Path>,
) -> String {
    let mut line = String::from("curl -sS");
    // Writing to a string cannot fail.
    if request.method != Method::Get {
        let _ = write!(line, " -X {}", request.method.name());
    }
    let _ = write!(line, " {}", quoted(&format!("{server}{}", request.target())));
    if let Some(path) = authority {
        let _ = write!(line, " --cacert {}", quoted(&path.display().to_string()));
    }
    if let Some(token) = token {
        let _ = write!(line, " -H \"Authorization: Bearer {token}\"");
    }
    if let Some(key) = request.clone().with_some_key().key {
        let _ = write!(line, " -H {}", quoted(&format!("Idempotency-Key: {key}")));
    }
    for (name, value) in &request.headers {
        let _ = write!(line, " -H {}", quoted(&format!("{name}: {value}")));
    }
    if let Some((media, bytes)) = request.body.parts() {
        let _ = write!(line, " -H 'Content-Type: {media}' --data-binary {}", quoted(&bytes));
    }
    line
}

// A shell reads everything between single quotes as it stands, but a single quote.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use statehouse_sdk::Body;

    use super::*;

    #[test]
    fn a_curl_line_survives_the_shell_and_hides_the_token() {
        let path = "/v1/tenants/default/instances/a-1/events/approve";
        let request = Request::post(path, Body::Json("it's".into()))
            .with("dry_run", Some("true"))
            .keyed(Some("k-1"));
        let line = line(
            &request,
            "http://127.0.0.1:7400",
            Some("$(cat ./statehouse-data/dev-token)"),
            None,
        );
        expect_test::expect![[r#"curl -sS -X POST 'http://127.0.0.1:7400/v1/tenants/default/instances/a-1/events/approve?dry_run=true' -H "Authorization: Bearer $(cat ./statehouse-data/dev-token)" -H 'Idempotency-Key: k-1' -H 'Content-Type: application/json' --data-binary '"it'\''s"'"#]]
        .assert_eq(&line);
    }

    #[test]
    fn a_curl_line_names_the_certificates_to_trust() {
        let line = line(&Request::get("/v1/x"), "https://h", None, Some(Path::new("a b.pem")));
        assert_eq!(line, "curl -sS 'https://h/v1/x' --cacert 'a b.pem'");
    }

    #[test]
    fn a_read_has_no_key_and_a_change_always_has_one() {
        assert!(!line(&Request::get("/v1/x"), "http://h", None, None).contains("Idempotency-Key"));
        assert!(
            line(&Request::post("/v1/x", Body::None), "http://h", None, None)
                .contains("Idempotency-Key: 01")
        );
    }
}
