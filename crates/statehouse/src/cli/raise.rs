//! `statehouse cluster raise LEVEL`: let shards take entries of a newer feature level.
//!
//! Without `--shard` it raises every shard, one after the other, and shard 0 last: definitions and members are written in
//! shard 0 and copied from there into the others' logs, so what is new must not begin there before the others can take
//! it. It ends at the first shard that refuses; what was raised before stays raised, and doing it again goes on.
//!
//! Deliberately absent: judging who is ready. Each shard's leader knows, and says who is not.

use serde_json::{Value, json};

use statehouse_sdk::{Body, Request};

use super::{
    exit::{Exit, Failure},
    output::{Output, items, text},
    session::Session,
};

/// `cluster raise`.
#[derive(Debug, clap::Args)]
pub(crate) struct Raise {
    /// The feature level. A shard that has it, or a higher one, stays as it is.
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    level: u16,
    /// Only this shard [default: every shard, shard 0 last].
    #[arg(long, value_name = "S")]
    shard: Option<u32>,
    /// Idempotency key, for every shard the same [default: a new one].
    #[arg(long, value_parser = super::key_text)]
    key: Option<String>,
    /// Why, for the audit.
    #[arg(long)]
    reason: Option<String>,
}

/// Runs `cluster raise`.
pub(crate) async fn run(raise: &Raise, session: &Session) -> Result<Exit, Failure> {
    let shards = match raise.shard {
        Some(shard) => vec![shard],
        None if session.is_curl() => {
            return Err(Failure::usage(
                "which shards there are is not known before the cluster was asked",
                "name one with --shard",
            ));
        }
        None => all(session).await?,
    };
    let mut raised: Vec<Value> = Vec::new();
    for shard in shards {
        match session.run(&request(raise, shard)).await {
            Ok(Some(reply)) => raised.push(reply.body),
            Ok(None) => return Ok(Exit::Ok),
            Err(failure) => return Err(halted(failure, raise.level, &raised)),
        }
    }
    let document = json!({"level": raise.level, "shards": raised});
    session.output.show(&document, |document| shown(session.output, document))?;
    Ok(Exit::Ok)
}

fn request(raise: &Raise, shard: u32) -> Request {
    let mut body = json!({"level": raise.level});
    if let Some(reason) = &raise.reason {
        body["reason"] = reason.as_str().into();
    }
    let path = format!("/v1/cluster/shards/{shard}/raise");
    Request::post(path, Body::Json(body)).keyed(raise.key.as_deref())
}

/// Asks which shards there are; shard 0 comes last.
async fn all(session: &Session) -> Result<Vec<u32>, Failure> {
    let reply = session.run(&Request::get("/v1/cluster")).await?;
    let body = reply.map(|reply| reply.body).unwrap_or_default();
    Ok(shard_0_last(&body))
}

fn shard_0_last(cluster: &Value) -> Vec<u32> {
    let number = |shard: &Value| u32::try_from(shard.get("shard")?.as_u64()?).ok();
    let mut shards: Vec<u32> = items(cluster, "shards").iter().filter_map(number).collect();
    shards.sort_by_key(|shard| (*shard == 0, *shard));
    shards
}

/// Adds to a failure what was done before it.
fn halted(mut failure: Failure, level: u16, raised: &[Value]) -> Failure {
    let names: Vec<String> = raised.iter().map(|shard| text(shard, "shard")).collect();
    if !names.is_empty() {
        failure
            .notes
            .push(format!("at level {level} or above already: shards {}", names.join(", ")));
    }
    if failure.exit == Exit::Rejected {
        "`statehouse cluster status` shows which level each node's build knows"
            .clone_into(&mut failure.next);
    }
    failure
}

fn shown(output: Output, document: &Value) -> String {
    let row = |shard: &Value| {
        let is_raised = shard.get("raised").and_then(Value::as_bool) == Some(true);
        let what = if is_raised { "raised" } else { "had it already" };
        [text(shard, "shard"), text(shard, "level"), what.to_owned()]
    };
    output.table(["shard", "level", "outcome"], items(document, "shards").iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_is_raised_and_shard_0_last() {
        let shards = |list: &[u32]| {
            let rows: Vec<Value> = list.iter().map(|shard| json!({"shard": shard})).collect();
            shard_0_last(&json!({"shards": rows}))
        };
        assert_eq!(shards(&[0, 1, 2, 3]), [1, 2, 3, 0]);
        assert_eq!(shards(&[0]), [0]);
        assert_eq!(shards(&[]), [0; 0]);
    }

    #[test]
    fn a_refusal_tells_what_was_raised_before_and_where_to_look() {
        let no = json!({"code": "limit_exceeded", "detail": "shard 2 stays at level 1: …"});
        let failure = Failure::problem(409, no);
        let before = [json!({"shard": 1, "level": 2, "raised": true})];
        expect_test::expect![[r#"
            error: limit_exceeded: shard 2 stays at level 1: …
              at level 2 or above already: shards 1
              next: `statehouse cluster status` shows which level each node's build knows"#]]
        .assert_eq(&halted(failure, 2, &before).to_string());
    }
}
