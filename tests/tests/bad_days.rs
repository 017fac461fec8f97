//! Bad days of one node, each played with the real process: ended, started twice, disk full, bytes flipped.
//!
//! Absent on purpose: `kill -9` under load, which has a file of its own.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use statehouse_lab::ServerError;
use statehouse_tests::{binary::binary, patience::until, stage::Stage};

#[test]
fn a_terminated_node_answers_what_it_admitted_and_ends_with_zero() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path()).unwrap();
    assert_eq!(stage.start_sample("a-1").status, 201);
    let status = stage.server.stop(Duration::from_secs(10)).unwrap();
    let lines = stage.server.errors();
    assert_eq!(status.code(), Some(0), "{lines}");
    assert_eq!(lines, "", "of a day without trouble `dev` tells nothing");
    let stage = Stage::open(folder.path()).unwrap();
    assert_eq!(stage.read("a-1").status, 200);
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path()).unwrap();
    let second = Command::new(binary())
        .args(["dev", "--listen", "127.0.0.1:0", "--data"])
        .arg(stage.data())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success());
    assert!(said.contains("node-1") && said.contains("another process"), "{said}");
    assert_eq!(stage.start_sample("a-1").status, 201, "the first one still serves");
}

#[test]
fn a_retry_after_a_kill_gets_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path()).unwrap();
    let first = stage.start_sample("a-1");
    let refused = stage.ask("POST /v1/tenants/default/instances/a-1/events/nonsense", "k-2", "{}");
    assert_eq!((first.status, refused.status), (201, 409), "{} {}", first.body, refused.body);
    let stage = stage.kill_and_start().unwrap();
    let again = stage.start_sample("a-1");
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert!(again.head.contains("idempotency-replayed: true"), "{}", again.head);
    let again = stage.ask("POST /v1/tenants/default/instances/a-1/events/nonsense", "k-2", "{}");
    assert_eq!((again.status, &again.body), (409, &refused.body));
}

/// A small file system in memory, gone with its handle.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Returns nothing where this process may not mount.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: the server's files may be open for a moment more.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A node whose data alone lies on a small disk (what it writes to its terminal stays readable), with one instance
/// there; says so and returns nothing where this process may not mount.
fn on_a_small_disk(folder: &Path) -> Option<(SmallDisk, Stage)> {
    let Some(disk) = SmallDisk::mount(&folder.join("data"), "512m") else {
        println!("skipped: this process may not mount a file system");
        return None;
    };
    let stage = Stage::open(folder).unwrap();
    assert_eq!(stage.start_sample("before").status, 201);
    Some((disk, stage))
}

/// Starts one instance after the other until one is refused for lack of room; returns its name.
fn refused_start(stage: &Stage) -> String {
    let mut tries = 0;
    let (name, refused) = until("a start is refused", || {
        tries += 1;
        let name = format!("full-{tries}");
        let answer = stage.start_sample(&name);
        if answer.status == 503 {
            Ok((name, answer))
        } else {
            Err(format!("{} {}", answer.status, answer.body))
        }
    });
    assert!(refused.body.contains("storage_full"), "{}", refused.body);
    name
}

#[test]
fn a_full_disk_refuses_commands_serves_reads_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let Some((disk, stage)) = on_a_small_disk(folder.path()) else { return };
    let filler = disk.0.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 1 << 20]).is_ok() {}
    drop(file);

    let refused = refused_start(&stage);
    assert_eq!(stage.read("before").status, 200, "reads are served");

    fs::remove_file(&filler).unwrap();
    until("recovery", || {
        let answer = stage.start_sample(&refused);
        if answer.status == 201 {
            Ok(())
        } else {
            Err(format!("{} {}", answer.status, answer.body))
        }
    });
    let stage = stage.kill_and_start().unwrap();
    assert_eq!(stage.read("before").status, 200);
    assert_eq!(stage.read(&refused).status, 200);
}

#[test]
fn a_disk_that_fills_refuses_starts_before_other_commands() {
    let folder = tempfile::tempdir().unwrap();
    let Some((disk, stage)) = on_a_small_disk(folder.path()) else { return };
    // The reserve is about 145 MiB, and the last 64 MiB above it are not for new instances: 170 MiB stay free.
    let mut file = fs::File::create(disk.0.join("filler")).unwrap();
    for _ in 0..337 {
        file.write_all(&[1; 1 << 20]).unwrap();
    }
    let _ = refused_start(&stage);
    // It is judged and written down: no refusal for lack of room.
    let judged = stage.ask("POST /v1/tenants/default/instances/before/events/nonsense", "k", "{}");
    assert_eq!(judged.status, 409, "{}", judged.body);
}

#[test]
fn a_terminal_that_takes_nothing_costs_the_lines_and_not_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open_mute(folder.path()).unwrap();
    assert_eq!(stage.start_sample("a-1").status, 201);
    let status = stage.server.stop(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), Some(0));
}

/// Flips a bit of each byte of a text wherever it stands in a file; returns how often it was found.
fn damage(path: &Path, text: &[u8]) -> usize {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    for at in &places {
        file.seek(SeekFrom::Start(*at as u64 + 2)).unwrap();
        file.write_all(&[bytes[at + 2] ^ 1]).unwrap();
    }
    places.len()
}

/// A node that has taken one start with a text that can be found in its files, and was stopped.
fn stopped_with(text: &str, folder: &Path) -> PathBuf {
    let mut stage = Stage::open(folder).unwrap();
    let body = format!(
        r#"{{"definition":"approval","id":"a-1","input":{{"amount":12,"what":"{text}"}}}}"#
    );
    let answer = stage.ask("POST /v1/tenants/default/instances", "k-1", &body);
    assert_eq!(answer.status, 201, "{}", answer.body);
    stage.server.stop(Duration::from_secs(10)).unwrap();
    stage.node()
}

fn files(node: &Path, stem: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(node)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(stem))
        .collect();
    found.sort();
    found
}

#[test]
fn a_flipped_byte_in_a_state_file_is_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let node = stopped_with("marzipan-and-tea", folder.path());
    let files = files(&node, "state-");
    let flips: usize = files.iter().map(|path| damage(path, b"marzipan-and-tea")).sum();
    assert!(flips > 0, "the text stands in a state file");
    match Stage::open(folder.path()) {
        Err(error) => assert!(format!("{error}").contains("state-"), "{error}"),
        Ok(stage) => {
            // A frame of the write-ahead file that lost its checksum is gone for SQLite, and the log tells
            // it again; a row of the main file that lost its digest is refused. Wrong bytes never leave.
            let answer = stage.read("a-1");
            let is_whole = answer.status == 200 && answer.body.contains("marzipan-and-tea");
            let is_refused = answer.status >= 500 && !answer.body.contains("-and-tea");
            assert!(is_whole || is_refused, "{} {}", answer.status, answer.body);
        }
    }
}

#[test]
fn a_flipped_byte_in_the_log_is_named_and_the_node_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let node = stopped_with("marzipan-and-tea", folder.path());
    let flips: usize =
        files(&node, "log.db").iter().map(|path| damage(path, b"marzipan-and-tea")).sum();
    assert!(flips > 0, "the text stands in the log");
    // Without its rows the node has to read the damaged entry again.
    for path in files(&node, "state-") {
        fs::remove_file(path).unwrap();
    }
    match Stage::open(folder.path()) {
        Err(ServerError::Ended { errors, .. }) => {
            assert!(errors.contains("log.db") && errors.contains("checksum"), "{errors}");
        }
        Err(other) => panic!("{other}"),
        Ok(stage) => {
            let answer = stage.read("a-1");
            panic!("the node serves: {} {}", answer.status, answer.body);
        }
    }
}
