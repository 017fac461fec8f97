//! One program, once a task: what it gets, what it says, how it is stopped.
//!
//! Deliberately absent: a shell. The program is started as it is given.
//!
//! Invariant `BOUND`: of what a program writes, at most a little more than an output may have is kept.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};

use statehouse_contract::limits::OUTPUT_BYTES_MAX;
use statehouse_sdk::{TaskError, Work};

use super::{
    super::exit::{Exit, Failure},
    FATAL, exit_code,
};

/// How long a program that is asked to end has for it.
const GRACE: Duration = Duration::from_secs(1);
/// Most bytes of what a program complains that are kept.
const COMPLAINT_BYTES_MAX: usize = 16 * 1024;

/// A program and its arguments.
#[derive(Debug)]
pub(super) struct Program {
    path: String,
    arguments: Vec<String>,
}

impl Program {
    /// Takes a command line apart; a path that leads nowhere is told at once and not at the first task.
    pub(super) fn find(command: &[String]) -> Result<Self, Failure> {
        let Some((path, arguments)) = command.split_first() else {
            return Err(Failure::usage("--exec names no program", "add --exec CMD [ARGS…]"));
        };
        if path.contains('/') && !std::path::Path::new(path).exists() {
            let what = format!("there is no program {path}");
            return Err(Failure::new(Exit::Usage, "no_program", what, "look at --exec"));
        }
        Ok(Self { path: path.clone(), arguments: arguments.to_vec() })
    }

    /// Runs the program for a task.
    pub(super) async fn run(&self, mut work: Work<Value>) -> Result<Value, TaskError> {
        let mut child = self.start(&work)?;
        let input = work.input.to_string();
        let stdin = child.stdin.take();
        let feeding = async move {
            if let Some(mut stdin) = stdin {
                // A program need not read its input.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ending = async {
            let ((), said, complained, status) = tokio::join!(
                feeding,
                read(stdout, OUTPUT_BYTES_MAX + 1),
                read(stderr, COMPLAINT_BYTES_MAX),
                child.wait()
            );
            (said, complained, status)
        };
        let ended = tokio::select! {
            ended = ending => Some(ended),
            () = work.stopped() => None,
        };
        let Some((said, complained, status)) = ended else {
            end(&mut child).await;
            return Err(TaskError::retryable("stopped", "the program was told to stop"));
        };
        let status = status?;
        if status.success() { output(&said) } else { Err(error(&said, &complained, status)) }
    }

    fn start(&self, work: &Work<Value>) -> Result<Child, TaskError> {
        let task = &work.task;
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            // The credential of the worker is nobody else's.
            .env_remove("STATEHOUSE_TOKEN")
            .env("STATEHOUSE_TASK_ID", &task.id)
            .env("STATEHOUSE_QUEUE", &task.queue)
            .env("STATEHOUSE_INSTANCE", &task.instance)
            .env("STATEHOUSE_DEFINITION", &task.definition)
            .env("STATEHOUSE_ATTEMPT", task.attempt.to_string())
            .env("STATEHOUSE_IDEMPOTENCY_KEY", &task.idempotency_key);
        if let Some(trace) = &task.traceparent {
            command.env("TRACEPARENT", trace);
        }
        command.spawn().map_err(|error| {
            TaskError::retryable("no_program", format!("cannot start {}: {error}", self.path))
        })
    }
}

/// Asks the program's group to end, and ends the program after a grace.
async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
        // It may have ended by itself a moment ago.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
    }
    if timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Reads what a program writes; what is too much is read and dropped, so that it does not hang.
async fn read(pipe: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> Vec<u8> {
    let (mut kept, mut part) = (Vec::new(), [0; 8 * 1024]);
    let Some(mut pipe) = pipe else { return kept };
    while let Ok(count) = pipe.read(&mut part).await {
        if count == 0 {
            break;
        }
        let room = bytes_max.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&part[..room]);
    }
    kept
}

fn output(said: &[u8]) -> Result<Value, TaskError> {
    if said.len() > OUTPUT_BYTES_MAX {
        let message =
            format!("the output is larger than output_bytes_max, {OUTPUT_BYTES_MAX} bytes");
        return Err(TaskError::fatal("output_too_large", message));
    }
    if said.trim_ascii().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(said).map_err(|error| {
        TaskError::fatal("invalid_output", format!("the output is no JSON: {error}"))
    })
}

fn error(said: &[u8], complained: &[u8], status: std::process::ExitStatus) -> TaskError {
    let told = serde_json::from_slice::<Value>(said).unwrap_or_default();
    let text = |member: &str| told["error"][member].as_str().map(str::to_owned);
    let complaint = String::from_utf8_lossy(complained);
    let last = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let retryable = told["error"]["retryable"].as_bool();
    TaskError {
        code: text("code").unwrap_or_else(|| exit_code(status)),
        message: text("message").unwrap_or_else(|| last.chars().take(1_000).collect()),
        retryable: retryable.unwrap_or_else(|| status.code() != Some(FATAL)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use serde_json::json;

    use super::*;

    fn ended(code: i32) -> std::process::ExitStatus {
        std::process::ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn an_output_is_json_or_nothing_and_never_too_large() {
        assert_eq!(output(b"{\"a\": [1]}\n").unwrap(), json!({"a": [1]}));
        assert_eq!(output(b" \n").unwrap(), json!({}));
        let no = output(b"all is well").unwrap_err();
        assert_eq!((no.code.as_str(), no.retryable), ("invalid_output", false));
        assert!(no.message.contains("line 1 column 1"), "{}", no.message);
        let large = vec![b' '; OUTPUT_BYTES_MAX + 1];
        let no = output(&large).unwrap_err();
        assert_eq!((no.code.as_str(), no.retryable), ("output_too_large", false));
    }

    #[test]
    fn what_a_failed_program_says_counts_before_its_exit_code() {
        let said = br#"{"error": {"code": "declined", "message": "no money", "retryable": false}}"#;
        let no = error(said, b"", ended(1));
        assert_eq!(
            (no.code.as_str(), no.message.as_str(), no.retryable),
            ("declined", "no money", false)
        );
        let no = error(b"not json", b"first\nlast words\n \n", ended(7));
        assert_eq!(
            (no.code, no.message.as_str(), no.retryable),
            (exit_code(ended(7)), "last words", true)
        );
        assert!(!error(b"", b"", ended(FATAL)).retryable, "that code is for good");
    }

    #[tokio::test]
    async fn of_a_flood_only_what_is_allowed_is_kept_and_all_is_read() {
        let flood = vec![b'x'; 100_000];
        assert_eq!(read(Some(flood.as_slice()), 1_000).await.len(), 1_000);
        let mut pipe = flood.as_slice();
        assert_eq!(read(Some(&mut pipe), 10).await.len(), 10);
        assert!(pipe.is_empty(), "the writer is not left waiting");
    }
}
