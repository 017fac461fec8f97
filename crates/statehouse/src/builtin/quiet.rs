//! The kinds that leave the node alone: `echo`, `log`, `wait`.
//!
//! `wait` is for pauses within a step; a chart's own `after` waits for days, survives everything and costs nothing.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::Deserialize;
use statehouse_cluster::{Failed, Kind, Work};
use statehouse_contract::Json;
use tracing::info;

use super::invalid;

/// Longest wait: a task holds its lease all the while.
const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Longest text that `log` writes.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// Gives its input back.
pub(super) struct Echo;

impl Kind for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn at_once(&self) -> usize {
        256
    }

    fn run(&self, work: Work) -> BoxFuture<'static, Result<Json, Failed>> {
        Box::pin(async move { Ok(Json::from_value(&work.input)) })
    }
}

/// Writes a line to the node's log.
pub(super) struct Log;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogInput {
    message: String,
}

impl Kind for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn at_once(&self) -> usize {
        256
    }

    fn run(&self, work: Work) -> BoxFuture<'static, Result<Json, Failed>> {
        Box::pin(async move {
            let input: LogInput = serde_json::from_value(work.input)
                .map_err(|error| invalid(format!("log takes {{message: text}}: {error}")))?;
            if input.message.len() > LINE_BYTES_MAX {
                return Err(invalid(format!("the message is longer than {LINE_BYTES_MAX} bytes")));
            }
            info!(instance = %work.instance, task = work.task, said = input.message, "a workflow says");
            Ok(Json::empty_object())
        })
    }
}

/// Waits.
pub(super) struct Wait;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitInput {
    r#for: Option<String>,
    until: Option<String>,
}

impl Kind for Wait {
    fn name(&self) -> &'static str {
        "wait"
    }

    fn at_once(&self) -> usize {
        1_024
    }

    fn run(&self, work: Work) -> BoxFuture<'static, Result<Json, Failed>> {
        Box::pin(async move {
            let input: WaitInput = serde_json::from_value(work.input).map_err(|error| {
                invalid(format!("wait takes {{for: \"5s\"}} or {{until: RFC 3339}}: {error}"))
            })?;
            let wait = match (input.r#for, input.until) {
                (Some(length), None) => crate::cli::duration(&length).map_err(invalid)?,
                (None, Some(until)) => until_of(&until)?,
                _ => return Err(invalid("wait takes either `for` or `until`")),
            };
            if wait > WAIT_MAX {
                let hours = WAIT_MAX.as_secs() / 3_600;
                return Err(invalid(format!(
                    "a task waits at most {hours} h; let the state wait with `after` instead"
                )));
            }
            tokio::time::sleep(wait).await;
            Ok(Json::empty_object())
        })
    }
}

fn until_of(text: &str) -> Result<Duration, Failed> {
    let until: jiff::Timestamp =
        text.parse().map_err(|error| invalid(format!("until {text:?}: {error}")))?;
    let left = until.duration_since(jiff::Timestamp::now());
    // What is over already is not waited for.
    Ok(Duration::try_from(left).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::super::http::tests::work;
    use super::*;

    #[tokio::test]
    async fn echo_gives_back_what_it_got() {
        let output = Echo.run(work(serde_json::json!({"b": 1, "a": [2]}))).await.unwrap();
        assert_eq!(output.as_str(), r#"{"b":1,"a":[2]}"#);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_its_time_and_a_long_one_is_refused_with_advice() {
        assert!(Wait.run(work(serde_json::json!({"for": "30s"}))).await.is_ok());
        assert!(Wait.run(work(serde_json::json!({"until": "2001-01-01T00:00:00Z"}))).await.is_ok());
        for (input, said) in [
            (serde_json::json!({"for": "2h"}), "`after`"),
            (serde_json::json!({"for": "soon"}), "number"),
            (serde_json::json!({}), "either"),
            (serde_json::json!({"for": "1s", "until": "x"}), "either"),
            (serde_json::json!({"until": "tomorrow"}), "until"),
        ] {
            let failed = Wait.run(work(input)).await.unwrap_err();
            assert!(failed.message.contains(said) && !failed.retryable, "{failed:?}");
        }
    }

    #[tokio::test]
    async fn log_takes_a_message_and_nothing_else() {
        assert!(Log.run(work(serde_json::json!({"message": "hello"}))).await.is_ok());
        assert!(Log.run(work(serde_json::json!({"text": "hello"}))).await.is_err());
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        assert!(Log.run(work(serde_json::json!({ "message": long }))).await.is_err());
    }
}
