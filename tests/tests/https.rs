//! A node with a certificate: who trusts it is served over HTTPS, and nobody in plain text.
//!
//! Absent on purpose: what rustls promises. Files that do not fit are told in `api/tls.rs`.
#![allow(clippy::unwrap_used, reason = "a test stops, and says why")]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use statehouse_lab::free_address;
use statehouse_tests::{binary::binary, patience::until};

/// A node that ends with its test.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn statehouse(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).env_remove("STATEHOUSE_TOKEN");
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    texts.concat()
}

#[test]
fn a_node_with_a_certificate_serves_those_who_trust_it_and_nobody_in_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(at("api.pem"), made.cert.pem()).unwrap();
    fs::write(at("api-key.pem"), made.signing_key.serialize_pem()).unwrap();
    let address = free_address().unwrap();
    let port = address.rsplit(':').next().unwrap();
    let settings = format!(
        "[node]\ndata = \"data\"\nshards = 1\n[api]\nlisten = \"{address}\"\n\
         tls_certificate = \"api.pem\"\ntls_private_key = \"api-key.pem\"\n"
    );
    fs::write(at("node.toml"), settings).unwrap();
    let made = statehouse(folder.path(), &["cluster", "init", "--config", "node.toml"]);
    assert!(made.status.success(), "{}", said(&made));

    let mut serve = Command::new(binary());
    serve.args(["serve", "--config", "node.toml"]).current_dir(folder.path());
    let _node = Node(serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());

    let server = format!("https://localhost:{port}");
    let trusting = ["--servers", &server, "--ca-file", "api.pem"];
    until("the node is ready", || {
        let health = statehouse(folder.path(), &[&["health", "--ready"], &trusting[..]].concat());
        if health.status.success() { Ok(()) } else { Err(said(&health)) }
    });
    let token = ["--token-file", "data/admin-token"];
    let listed = statehouse(folder.path(), &[&["tenant", "list"], &trusting[..], &token].concat());
    assert!(listed.status.success() && said(&listed).contains("default"), "{}", said(&listed));

    let one_try = ["--timeout", "2s"];
    let distrustful =
        statehouse(folder.path(), &[&["health", "--servers", &server][..], &one_try].concat());
    assert!(!distrustful.status.success());
    assert!(said(&distrustful).contains("certificate"), "{}", said(&distrustful));
    let plain = format!("http://localhost:{port}");
    let plain =
        statehouse(folder.path(), &[&["health", "--servers", &plain][..], &one_try].concat());
    assert!(!plain.status.success(), "{}", said(&plain));
}
