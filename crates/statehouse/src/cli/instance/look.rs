//! The verbs that only look: get, list, history, explain, watch.
//!
//! Deliberately absent: anything that changes an instance; that is the file above.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use statehouse_contract::limits;
use statehouse_sdk::Request;

use super::view;
use crate::cli::{
    exit::{Exit, Failure},
    output::{items, text},
    session::Session,
};

/// `instance get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Id of the instance.
    #[arg(value_parser = crate::cli::instance_id)]
    id: String,
    /// How fresh the answer has to be.
    #[arg(long, value_enum)]
    consistency: Option<Consistency>,
    /// Wait until the copy that answers has reached this version.
    #[arg(long, value_name = "N")]
    min_version: Option<u64>,
}

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Consistency {
    /// Sees everything that was acknowledged before.
    Linearizable,
    /// Asks the node that believes it leads.
    Leader,
    /// Any copy, with its age.
    Stale,
}

impl Consistency {
    const fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Leader => "leader",
            Self::Stale => "stale",
        }
    }
}

/// `instance list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Finished instances too.
    #[arg(long)]
    all: bool,
    /// Only those in this state.
    #[arg(long)]
    state: Option<String>,
    /// Only those of this definition.
    #[arg(long)]
    definition: Option<String>,
    /// Only those with this status: running, paused, faulted, compensating, done, failed, cancelled, terminated.
    #[arg(long)]
    status: Option<String>,
    /// Only those with an active state that has this tag.
    #[arg(long)]
    tag: Option<String>,
    /// Most rows.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Where the page before ended.
    #[arg(long)]
    cursor: Option<String>,
    /// Fail rather than leave out a shard that cannot answer.
    #[arg(long)]
    complete: bool,
}

/// `instance history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Id of the instance.
    #[arg(value_parser = crate::cli::instance_id)]
    id: String,
    /// Only versions above this one.
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    /// Most rows.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

/// `instance explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Id of the instance.
    #[arg(value_parser = crate::cli::instance_id)]
    id: String,
}

/// `instance watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Id of an instance; left out: every instance of the tenant.
    #[arg(value_parser = crate::cli::instance_id)]
    id: Option<String>,
    /// Go on after this cursor.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// End after so many changes.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Fail rather than go on without a shard that cannot answer.
    #[arg(long)]
    complete: bool,
}

impl Get {
    /// Runs the verb.
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let request = Request::get(session.path(&format!("/instances/{}", self.id)))
            .with("consistency", self.consistency.map(Consistency::name))
            .with("min_version", self.min_version);
        session.show(&request, |body| view::instance(session.output, body)).await
    }
}

impl List {
    /// Runs the verb.
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let request = Request::get(session.path("/instances"))
            .with("state", self.state)
            .with("definition", self.definition)
            .with("status", self.status)
            .with("tag", self.tag)
            .with("limit", self.limit)
            .with("cursor", self.cursor)
            .with("all", self.all.then_some(true))
            .with("complete", self.complete.then_some(true));
        session.show(&request, |body| with_page_end(view::rows(session.output, body), body)).await
    }
}

impl History {
    /// Runs the verb.
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let request = Request::get(session.path(&format!("/instances/{}/history", self.id)))
            .with("after", self.after)
            .with("limit", self.limit);
        session
            .show(&request, |body| with_page_end(view::history(session.output, body), body))
            .await
    }
}

impl Explain {
    /// Runs the verb.
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let request = Request::get(session.path(&format!("/instances/{}/explain", self.id)));
        session.show(&request, view::explain).await
    }
}

impl Watch {
    /// Long polls: one request a batch of changes, each from where the last one ended.
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let path = match &self.id {
            Some(id) => session.path(&format!("/instances/{id}/watch")),
            None => session.path("/watch"),
        };
        let complete = (self.complete && self.id.is_none()).then_some(true);
        let (mut after, mut known) = (self.after, String::new());
        let mut left = self.limit.unwrap_or(u64::MAX);
        let wait = session.timeout.min(Duration::from_millis(limits::WAIT_MS_MAX));
        while left > 0 {
            let request = Request::get(path.clone())
                .with("after", after.as_ref())
                .waiting(wait)
                .with("limit", Some(left.min(100)))
                .with("complete", complete);
            let Some(reply) = session.run(&request).await? else { return Ok(Exit::Ok) };
            for change in items(&reply.body, "items") {
                session.output.item(change, view::change)?;
                left = left.saturating_sub(1);
            }
            let missing = text(reply.body.get("page").unwrap_or(&Value::Null), "missing_shards");
            if missing != known {
                session.output.note(&match missing.as_str() {
                    "" => "every shard answers again".to_owned(),
                    these => {
                        format!("shards {these} cannot answer now; what happens there comes later")
                    }
                });
                known = missing;
            }
            after = reply
                .body
                .pointer("/page/end_cursor")
                .and_then(Value::as_str)
                .map(str::to_owned)
                .or(after);
        }
        Ok(Exit::Ok)
    }
}

// What a page does not show is said, never left out in silence.
fn with_page_end(mut table: String, body: &Value) -> String {
    let page = body.get("page").unwrap_or(&Value::Null);
    if page.get("has_more").and_then(Value::as_bool) == Some(true) {
        table.push_str(&format!("\nmore: --cursor {}", text(page, "end_cursor")));
    }
    let missing = text(page, "missing_shards");
    if !missing.is_empty() {
        table.push_str(&format!(
            "\nnot shown: instances of shards {missing}, which cannot answer now"
        ));
    }
    table
}
