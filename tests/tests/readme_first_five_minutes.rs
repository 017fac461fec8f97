//! The README's first five minutes, done line by line with the real binary.
//!
//! The page is the test: what it says is typed is typed, and what it says is seen has to be seen. The story runs
//! in a directory of its own, on a free port; addresses are swapped on the way in and out. Servers are started
//! where the page starts them, and `kill -9` is the shell's own.
//!
//! Deliberately absent: what is not in the page. More stories stand beside this one.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test stops, and says why")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use statehouse_tests::{
    binary::{binary, root},
    transcript::{Step, is_seen, steps},
};

/// What the README types to start a server.
const DEV: &str = "cargo run --release -- dev";

/// What the README writes as the address.
const ADDRESS: &str = "127.0.0.1:7400";

const READY_MAX: Duration = Duration::from_secs(60);

/// A server, killed when the story ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed by the page already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Story {
    directory: tempfile::TempDir,
    server: Option<Server>,
    address: String,
}

impl Story {
    fn begin() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root().join("config"), directory.path().join("config")).unwrap();
        Self { directory, server: None, address: ADDRESS.to_owned() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = binary().parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .current_dir(self.path())
            .env("PATH", format!("{folder}:{path}"))
            .env("NO_COLOR", "1");
        for name in ["STATEHOUSE_TOKEN", "STATEHOUSE_SERVERS"] {
            command.env_remove(name);
        }
        command
    }

    fn take(&mut self, step: &Step) {
        let seen = if step.typed == DEV { self.start() } else { self.shell(&step.typed) };
        let seen = seen.replace(&self.address, ADDRESS);
        let lines: Vec<&str> = seen.lines().collect();
        assert!(
            is_seen(&step.seen, &lines),
            "README.md:{}: $ {}\n--- the page says\n{}\n--- seen was\n{seen}",
            step.line,
            step.typed,
            step.seen.join("\n"),
        );
    }

    // Returns what the server prints up to the line that says that it is ready.
    fn start(&mut self) -> String {
        self.server = None;
        let mut command = self.command("statehouse");
        command.args(["dev", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = child.stdout.take().unwrap();
        self.server = Some(Server(child));
        let (sender, receiver) = mpsc::sync_channel(64);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let begin = Instant::now();
        let mut seen = Vec::new();
        loop {
            let left = READY_MAX.saturating_sub(begin.elapsed());
            let line = receiver.recv_timeout(left).expect("the server says that it is ready");
            let is_ready = line.starts_with("ready");
            seen.push(line);
            if is_ready {
                break;
            }
        }
        let file = self.path().join("statehouse-data/node-1/api-address");
        let url = std::fs::read_to_string(file).unwrap();
        self.address = url.trim().trim_start_matches("http://").to_owned();
        seen.join("\n")
    }

    fn shell(&self, typed: &str) -> String {
        let typed = typed.replace(ADDRESS, &self.address);
        // What a terminal shows: both streams, in their order.
        let output =
            self.command("sh").args(["-c", &format!("{{ {typed}\n}} 2>&1")]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

#[test]
fn the_first_five_minutes_happen_as_the_readme_tells_them() {
    let page = std::fs::read_to_string(root().join("README.md")).unwrap();
    let begin = page.find("## First five minutes").expect("the README has its first five minutes");
    let length = page[begin + 3..].find("\n## ").map_or(page.len() - begin, |at| at + 3);
    // Empty lines in front keep the numbers of the lines.
    let part = "\n".repeat(page[..begin].lines().count()) + &page[begin..begin + length];
    let steps = steps(&part);
    assert!(steps.len() >= 10, "the README's transcript has only {} steps", steps.len());
    let has_curl = Command::new("curl").arg("--version").output().is_ok();
    let mut story = Story::begin();
    for step in &steps {
        if step.typed.contains("curl ") && !has_curl {
            eprintln!(
                "README.md:{}: not done, this machine has no curl: {}",
                step.line, step.typed
            );
            continue;
        }
        story.take(step);
    }
}
