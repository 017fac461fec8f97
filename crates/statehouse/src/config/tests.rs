//! The layers in all their orders, and every mistake with the words that an operator reads.
//!
//! Deliberately absent: the flags of a command; `tests/command_line.rs` runs those.

use super::*;

fn sources(file: &str) -> (tempfile::TempDir, Sources) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.toml");
    std::fs::write(&path, file).unwrap();
    (directory, Sources { file: Some(path), ..Sources::default() })
}

fn error_of(file: &str) -> String {
    let (directory, sources) = sources(file);
    let text = load(&sources).unwrap_err().to_string();
    text.replace(&directory.path().display().to_string(), "DIR")
}

#[test]
fn the_embedded_file_alone_is_a_whole_configuration() {
    let loaded = load(&Sources::default()).unwrap();
    assert_eq!(loaded.settings.api.listen, "127.0.0.1:7400".parse().unwrap());
    assert_eq!(loaded.settings.directory(), Path::new("/var/lib/statehouse/node-1"));
    assert!(loaded.origins.values().all(|found| found.origin == "default"));
}

#[test]
fn every_optional_key_is_explained_in_the_example() {
    for key in OPTIONAL.into_iter().chain(cluster::OPTIONAL) {
        let (_, name) = key.split_once('.').unwrap();
        assert!(
            DEFAULTS.contains(&format!("# {name} = ")),
            "config/node.toml does not explain {key}"
        );
    }
}

#[test]
fn a_later_layer_wins_and_each_value_knows_its_layer() {
    let (_directory, mut sources) = sources(
        "[api]\nlisten = \"127.0.0.1:7500\"\ndrain_ms = 100\n[node]\nshards = 2\nregion = \"north\"\n",
    );
    sources.environment = vec![
        ("STATEHOUSE__API__LISTEN".to_owned(), "127.0.0.1:7600".to_owned()),
        ("STATEHOUSE__API__DRAIN_MS".to_owned(), "200".to_owned()),
        ("STATEHOUSE_TOKEN".to_owned(), "no setting".to_owned()),
    ];
    let sources = sources.flag("api.listen", "--listen", Some("127.0.0.1:7700"));
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.settings.api.listen, "127.0.0.1:7700".parse().unwrap());
    assert_eq!(loaded.settings.api.drain_ms, 200);
    assert_eq!(loaded.settings.node.region.as_deref(), Some("north"));
    let origin = |key: &str| loaded.origins.get(key).unwrap().origin.clone();
    assert_eq!(origin("api.listen"), "--listen");
    assert_eq!(origin("api.drain_ms"), "variable STATEHOUSE__API__DRAIN_MS");
    assert!(origin("node.shards").ends_with("node.toml"));
    assert_eq!(origin("telemetry.level"), "default");
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest_one() {
    assert_eq!(
        error_of("[api]\nlissen = \"127.0.0.1:1\"\n"),
        "unknown key `api.lissen` in DIR/node.toml; did you mean `api.listen`?"
    );
    assert_eq!(error_of("[nonsense]\nx = 1\n"), "unknown key `nonsense.x` in DIR/node.toml");
    let mut sources = Sources::default();
    sources.environment.push(("STATEHOUSE__NODE__DATTA".to_owned(), "/x".to_owned()));
    assert_eq!(
        load(&sources).unwrap_err().to_string(),
        "unknown key `node.datta` in variable STATEHOUSE__NODE__DATTA; did you mean `node.data`?"
    );
}

#[test]
fn a_wrong_value_names_its_key_and_its_layer() {
    let text = error_of("[node]\nshards = \"many\"\n");
    assert!(text.contains("node.shards") && text.contains("DIR/node.toml"), "{text}");
    let text = error_of("[telemetry]\nformat = \"xml\"\n");
    assert!(text.contains("xml"), "{text}");
    let text = error_of("[node\n");
    assert!(
        text.starts_with("DIR/node.toml is not valid TOML") && text.contains("line 1"),
        "{text}"
    );
}

#[test]
fn a_node_off_loopback_needs_a_certificate_or_a_proxy() {
    let open = "[api]\nlisten = \"0.0.0.0:7400\"\n";
    assert_eq!(
        error_of(open),
        "`api.listen` in DIR/node.toml: 0.0.0.0:7400 is not loopback, and plain HTTP would show every token: set \
         `api.tls_certificate` and `api.tls_private_key`, or put a proxy that terminates TLS in front and set \
         `api.behind_proxy = true` (flag --behind-proxy), or listen on 127.0.0.1"
    );
    let pair = "tls_certificate = \"a.pem\"\ntls_private_key = \"a-key.pem\"\n";
    for guarded in [format!("{open}behind_proxy = true\n"), format!("{open}{pair}")] {
        let (_directory, sources) = sources(&guarded);
        assert!(load(&sources).is_ok(), "{guarded}");
    }
}

#[test]
fn what_is_advertised_can_be_reached_as_it_stands() {
    for wrong in ["10.0.0.7:7400", "https://", "ftp://host", "http://a b"] {
        let text = error_of(&format!("[api]\nadvertise = {wrong:?}\n"));
        assert!(text.contains("is no base URL") && text.contains("https://host:port"), "{text}");
    }
    let cluster = |more: &str| {
        format!("[cluster]\nlinks = \"0.0.0.0:7500\"\nlog = \"127.0.0.1:7600\"\n{more}")
    };
    let text = error_of(&cluster(""));
    assert!(text.contains("set `cluster.advertise_links`"), "{text}");
    for wrong in ["node-1", "node-1:", ":7500", "https://node-1:7500", "node-1:0"] {
        let text = error_of(&cluster(&format!("advertise_links = {wrong:?}\n")));
        assert!(text.contains("is not host:port"), "{text}");
    }
    let text = error_of(&cluster("advertise_links = \"node-1.example:7500\"\n"));
    assert!(text.contains("cluster.cookie_file"), "it gets past the addresses: {text}");
}

#[test]
fn a_certificate_and_its_key_come_together() {
    let text = error_of("[api]\ntls_certificate = \"a.pem\"\n");
    assert!(text.contains("set `api.tls_private_key` as well"), "{text}");
    let text = error_of("[api]\ntls_private_key = \"a.pem\"\n");
    assert!(text.contains("set `api.tls_certificate` as well"), "{text}");
}

#[test]
fn numbers_outside_their_range_are_refused() {
    assert!(error_of("[node]\nnumber = 2\n").contains("a node alone is node 1"));
    assert!(error_of("[node]\nnumber = 0\n").contains("numbered from 1"));
    assert!(error_of("[node]\nshards = 0\n").contains("1 to 256"));
    assert!(error_of("[api]\ndrain_ms = 60000\n").contains("1 to 7500"));
}

/// A node of a cluster on this machine, with what is added.
fn member(more: &str) -> String {
    format!(
        "[cluster]\nlinks = \"127.0.0.1:7500\"\nlog = \"127.0.0.1:7600\"\ncookie_file = \"c\"\n{more}[node]\nnumber = 2\n"
    )
}

#[test]
fn a_node_of_a_cluster_proves_who_it_is_or_stays_on_its_machine() {
    let (_directory, plain) =
        sources(&member("insecure_loopback = true\nseeds = \"1=a:7600, 3=b:7600\"\n"));
    let loaded = load(&plain).unwrap();
    let seeds = loaded.settings.cluster.seeds().unwrap();
    assert_eq!(seeds, [(1, "a:7600".to_owned()), (3, "b:7600".to_owned())]);
    let files = "tls_authority = \"a\"\ntls_certificate = \"b\"\n";
    let whole = format!("{files}tls_private_key = \"c\"\n");
    let (_directory, secure) = sources(&member(&whole));
    assert!(load(&secure).is_ok());
    for (file, said) in [
        (member(""), "--insecure-loopback does without"),
        (member(files), "belong together"),
        (member(&format!("{whole}insecure_loopback = true\n")), "plain text is not needed"),
        (member("insecure_loopback = true\nseeds = \"a:7600\"\n"), "is no number=host:port"),
        ("[cluster]\nlinks = \"127.0.0.1:7500\"\n".to_owned(), "set both, or neither"),
        (
            member("insecure_loopback = true\n").replace("127.0.0.1:7600", "10.0.0.1:7600"),
            "plain text between nodes stays on one machine",
        ),
        (
            member("insecure_loopback = true\n").replace("cookie_file = \"c\"\n", ""),
            "the same cookie",
        ),
    ] {
        let text = error_of(&file);
        assert!(text.contains(said), "{file}\n{text}");
    }
}

#[test]
fn the_distance_of_two_texts_is_the_number_of_edits() {
    let pairs =
        [("", "abc", 3), ("abc", "abc", 0), ("listen", "lissen", 1), ("kitten", "sitting", 3)];
    for (left, right, edits) in pairs {
        assert_eq!(distance(left, right), edits, "{left} {right}");
    }
}
