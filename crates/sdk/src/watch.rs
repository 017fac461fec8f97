//! A watch: the changes of an instance or a tenant, in order, through broken connections.
//!
//! The stream remembers the cursor of the last event it yielded and asks again from there, on the next server if need
//! be: a server that broke the stream is asked again only when no other can be. A stream that is silent for three of the
//! server's comment intervals counts as broken. Before each connection but the first there is a pause, which grows until
//! a stream has served: brought an event, or lasted.
//!
//! Deliberately absent: skipping. A position that is no longer kept ends the watch with `compacted`, because a gap that
//! nobody is told about is worse than an end.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, timeout};

use statehouse_contract::RejectionCode;

use crate::{
    client::Client,
    course::Course,
    outcome::{CallError, Outcome},
    request::Request,
    sse::{Parser, SseEvent, TooLarge},
};

/// The server sends a comment every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A stream that has lasted so long has served, also where nothing has happened.
const LASTING: Duration = Duration::from_secs(5);

/// A running watch.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    request: Request,
    patience: Duration,
    cursor: Option<String>,
    course: Course,
    open: Option<(reqwest::Response, usize)>,
    parser: Parser,
    ready: VecDeque<SseEvent>,
    /// Before the next connection; nothing before the first.
    pause: Option<Duration>,
    opened_at: Instant,
    /// Since when no stream has served.
    broken_since: Option<Instant>,
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The position after the last event is no longer kept.
    #[error("the position after the last event is no longer kept")]
    Compacted,
    /// The server will not serve this watch.
    #[error("{0}")]
    Refused(Box<CallError>),
    /// No server answered for as long as the caller allows.
    #[error("no stream for {} ms", .0.as_millis())]
    Lost(Duration),
    /// An event is larger than any may be.
    #[error("an event is larger than any may be")]
    TooLarge,
}

impl Watch {
    pub(crate) fn new(
        client: Client,
        request: Request,
        cursor: Option<String>,
        patience: Duration,
    ) -> Self {
        Self {
            course: Course::new(request.bucket()),
            client,
            request,
            patience,
            cursor,
            open: None,
            parser: Parser::default(),
            ready: VecDeque::new(),
            pause: None,
            opened_at: Instant::now(),
            broken_since: None,
        }
    }

    /// Returns the cursor behind the last event that was yielded; a later watch may begin there.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Returns the next event; waits for it as long as it takes. Beside `transition` there is `shards`, whose data names
    /// the shards that cannot answer now (`missing_shards`): what happens there comes later.
    ///
    /// # Errors
    /// The watch has ended: its position was compacted, it was refused, or no server was reached in time.
    pub async fn next(&mut self) -> Result<SseEvent, WatchError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.cursor = event.id.clone().or_else(|| self.cursor.take());
                self.has_served();
                return Ok(event);
            }
            if self.open.is_none() {
                let since = *self.broken_since.get_or_insert_with(Instant::now);
                if since.elapsed() > self.patience {
                    return Err(WatchError::Lost(self.patience));
                }
                if let Some(pause) = self.pause {
                    tokio::time::sleep(pause).await;
                }
                self.pause = Some(self.pause.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX)));
                if !self.connect().await? {
                    continue;
                }
                self.opened_at = Instant::now();
            }
            if self.receive().await? && self.opened_at.elapsed() >= LASTING {
                self.has_served();
            }
        }
    }

    fn has_served(&mut self) {
        (self.broken_since, self.pause) = (None, Some(PAUSE_MIN));
    }

    /// Opens the stream; `false` when that may be tried again.
    async fn connect(&mut self) -> Result<bool, WatchError> {
        let request = self
            .request
            .clone()
            .header("accept", Some("text/event-stream"))
            .header("last-event-id", self.cursor.as_deref());
        let within = self.patience.min(SILENCE_MAX);
        let problem = match self.client.open(&request, &mut self.course, within).await {
            Ok((response, server)) if response.status().is_success() => {
                self.course.served();
                self.open = Some((response, server));
                self.parser = Parser::default();
                return Ok(true);
            }
            Ok((response, server)) => {
                self.client.leave(&mut self.course, server);
                self.client.finish(&request, response, server, 1).await
            }
            Err(_) => return Ok(false),
        };
        match problem {
            Outcome::Rejected(problem)
                if problem.code == Some(RejectionCode::Compacted) || problem.status == 410 =>
            {
                Err(WatchError::Compacted)
            }
            Outcome::Rejected(problem) => {
                Err(WatchError::Refused(Box::new(CallError::Rejected(Box::new(problem)))))
            }
            Outcome::Accepted(_)
            | Outcome::Postponed(_)
            | Outcome::Unknown(_)
            | Outcome::Failed(_) => Ok(false),
        }
    }

    /// Reads a piece of the stream; `false` when it broke.
    async fn receive(&mut self) -> Result<bool, WatchError> {
        let Some((open, server)) = &mut self.open else { return Ok(false) };
        match timeout(SILENCE_MAX, open.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                let events = self.parser.feed(&bytes).map_err(|TooLarge| WatchError::TooLarge)?;
                self.ready.extend(events);
                Ok(true)
            }
            // An end, an error and silence are one thing here: ask again.
            Ok(Ok(None) | Err(_)) | Err(_) => {
                self.client.leave(&mut self.course, *server);
                self.open = None;
                Ok(false)
            }
        }
    }
}
