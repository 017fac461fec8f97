//! Clients that all want the same instance.
//!
//! Each keeps one connection and sends the next command when the last one is answered, whatever the answer was. Only the
//! answers are counted: the history has the steady load and the probes, whose instances are not hot.
//!
//! Deliberately absent: retries. A hot key is the one place where a refusal is the right answer.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::{Connection, drill::DrillError, drill::order::Order};

/// What was answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) ok: u64,
    pub(crate) refused: u64,
    pub(crate) broken: u64,
}

/// Asks one instance by so many clients for a while.
pub(crate) fn ask(
    urls: &[String],
    token: &str,
    clients: u32,
    time: Duration,
) -> Result<Answers, DrillError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| DrillError::Load(error.to_string()))?;
    let hosts: Vec<String> =
        urls.iter().map(|url| url.trim_start_matches("http://").to_owned()).collect();
    Ok(runtime.block_on(async {
        let mut all = JoinSet::new();
        for (number, host) in (0..clients).zip(hosts.iter().cycle()) {
            all.spawn(one(number, host.clone(), token.to_owned(), Instant::now() + time));
        }
        let mut total = Answers::default();
        while let Some(answers) = all.join_next().await {
            let Ok(answers) = answers else { continue };
            total.ok += answers.ok;
            total.refused += answers.refused;
            total.broken += answers.broken;
        }
        total
    }))
}

async fn one(number: u32, host: String, token: String, end: Instant) -> Answers {
    let mut answers = Answers::default();
    let mut link = None;
    let mut turn = 0;
    while Instant::now() < end {
        let mut connection = match link.take() {
            Some(connection) => connection,
            None => match Connection::open(&host).await {
                Ok(connection) => connection,
                Err(_) => {
                    answers.broken += 1;
                    continue;
                }
            },
        };
        turn += 1;
        let key = format!("hot-{number}-{turn}");
        let body = r#"{"note":"hot"}"#.to_owned();
        let order = Order { wf: "hot".to_owned(), name: "add", key, expected: None, body };
        match connection.exchange(&order.request("default", &token, &host)).await {
            Ok(200..300) => answers.ok += 1,
            Ok(_) => answers.refused += 1,
            Err(_) => {
                answers.broken += 1;
                continue;
            }
        }
        link = Some(connection).filter(|link| !link.is_last());
    }
    answers
}
