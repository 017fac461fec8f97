//! `statehouse cluster backup DIR`: a copy of every shard of a running cluster, and a page that says what they are.
//!
//! Each shard's copy is consistent in itself and holds everything that was acknowledged before it was asked for. Shard 0,
//! where tenants, keys and definitions are, comes last: whatever another shard's rows speak of is in it. A copy counts when
//! its bytes are those that the server announced and they are on the disk; until then the next server is asked. The
//! manifest is written at the very end, so a directory without one is no backup.
//!
//! Deliberately absent: going on with a backup that broke off, and a copy of the whole cluster at one moment. Shards have
//! no common moment; what passes between them carries keys and is repeated until it is answered.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use statehouse_sdk::{CallError, Download, Request};

use super::{
    exit::{Exit, Failure},
    output::items,
    session::{Reply, Session},
};
use crate::api;
use manifest::{FORMAT, Manifest, ShardFile};

pub(crate) mod manifest;
pub(crate) mod verify;

/// How long a server may take to make a copy before the first byte, at least; a longer `--timeout` counts.
const BEGIN_WITHIN_MIN: Duration = Duration::from_secs(60);
/// How long a server may send nothing.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often every server is asked for a shard before the backup gives up.
const ROUNDS_MAX: u32 = 5;
/// Pause after a round in which no server gave a copy: time for a shard to find a new leader.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// What went wrong with one attempt.
enum Miss {
    /// Another attempt, perhaps at another server, may do better.
    Again(Failure),
    /// No attempt will.
    Never(Failure),
}

/// Runs `cluster backup`.
pub(crate) async fn run(dir: &Path, session: &Session) -> Result<Exit, Failure> {
    let begin = Instant::now();
    let Some(reply) = session.run(&Request::get("/v1/cluster")).await? else {
        return Ok(Exit::Ok);
    };
    let shards = shards_of(&reply)?;
    prepare(dir)?;
    let mut files = Vec::new();
    for shard in (0..shards).rev() {
        files.push(fetch(dir, shard, session).await?);
    }
    files.reverse();
    let (files, clusters): (Vec<ShardFile>, Vec<Told>) = files.into_iter().unzip();
    let told = Told::same(&clusters)?;
    let manifest = Manifest {
        format: FORMAT,
        made_at: jiff::Timestamp::now().to_string(),
        made_by: concat!("statehouse ", env!("CARGO_PKG_VERSION")).to_owned(),
        cluster: told.cluster.clone(),
        took_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
        shards: files,
    };
    manifest.write(dir)?;
    let document = serde_json::to_value(&manifest)
        .map_err(|error| Failure::broken(format!("cannot show the manifest: {error}")))?;
    session.output.show(&document, |_| shown(&manifest, dir, session))?;
    Ok(Exit::Ok)
}

fn shown(manifest: &Manifest, dir: &Path, session: &Session) -> String {
    let output = session.output;
    let row = |file: &ShardFile| {
        [
            file.shard.to_string(),
            file.file.clone(),
            file.bytes.to_string(),
            file.position.to_string(),
            file.term.to_string(),
            file.node.clone(),
            format!("{} ms", file.took_ms),
        ]
    };
    let rows = manifest.shards.iter().map(row).collect();
    let table = output.table(["shard", "file", "bytes", "position", "term", "from", "took"], rows);
    let pairs = output.pairs(&[
        ("backup", dir.display().to_string()),
        ("cluster", manifest.cluster.clone().unwrap_or_default()),
        ("bytes", manifest.bytes().to_string()),
        ("took", format!("{} ms", manifest.took_ms)),
        ("next", format!("statehouse cluster verify {}", dir.display())),
    ]);
    format!("{table}\n\n{pairs}")
}

fn shards_of(reply: &Reply) -> Result<u32, Failure> {
    let listed = items(&reply.body, "shards");
    let numbers = listed.iter().filter_map(|shard| shard.get("shard").and_then(Value::as_u64));
    let count = u32::try_from(listed.len()).unwrap_or(u32::MAX);
    if count > 0 && numbers.eq(0..u64::from(count)) {
        return Ok(count);
    }
    Err(Failure::broken("the server did not say which shards there are"))
}

/// Makes the directory, or takes an empty one; nobody else may look into it.
fn prepare(dir: &Path) -> Result<(), Failure> {
    let failed = |what: &'static str| move |error| Failure::file(what, dir, &error);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(failed("make the directory"))?;
    if fs::read_dir(dir).map_err(failed("list"))?.next().is_some() {
        return Err(Failure::new(
            Exit::Conflict,
            "not_empty",
            format!("{} is not empty", dir.display()),
            "choose a new directory: a backup never writes over another one, nor over a part of one",
        ));
    }
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(dir, private).map_err(failed("close to others"))
}

/// Which cluster a copy is of, as its server told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    cluster: Option<String>,
    shards: u32,
}

impl Told {
    fn same(all: &[Self]) -> Result<&Self, Failure> {
        let first = all.first().ok_or_else(|| Failure::broken("there is no shard"))?;
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        if first.shards == count && all.iter().all(|told| told == first) {
            return Ok(first);
        }
        Err(Failure::new(
            Exit::Conflict,
            "several_clusters",
            "the servers belong to different clusters",
            "name servers of one cluster alone in --servers",
        ))
    }
}

/// Brings one shard's copy into the directory, from whichever server gives a whole one.
async fn fetch(dir: &Path, shard: u32, session: &Session) -> Result<(ShardFile, Told), Failure> {
    let servers = session.servers();
    let mut last = Failure::broken("there is no server to ask");
    for round in 0..ROUNDS_MAX {
        if round > 0 {
            tokio::time::sleep(ROUND_PAUSE).await;
        }
        for turn in 0..servers.len() {
            // Each shard begins at another server, so that the work is shared.
            let place = (turn + usize::try_from(shard).unwrap_or(0)) % servers.len();
            let Some(server) = servers.get(place) else { continue };
            match attempt(dir, shard, &session.at(server)).await {
                Ok(done) => return Ok(done),
                Err(Miss::Never(failure)) => return Err(failure),
                Err(Miss::Again(failure)) => last = failure,
            }
        }
    }
    last.notes.push(format!("shard {shard} was asked for {ROUNDS_MAX} times at every server"));
    last.notes.push(format!("{} has no manifest: it is no backup", dir.display()));
    Err(last)
}

async fn attempt(dir: &Path, shard: u32, session: &Session) -> Result<(ShardFile, Told), Miss> {
    let begin = Instant::now();
    let request = Request::get(format!("/v1/cluster/shards/{shard}/snapshot"));
    let within = session.timeout.max(BEGIN_WITHIN_MIN);
    let client = session.client().map_err(Miss::Never)?;
    let answer = client.download(request, within).await;
    let mut answer = answer.map_err(|error| {
        let may_help = match &error {
            CallError::Rejected(problem) => matches!(problem.status, 429 | 500..=599),
            CallError::Failed(_) | CallError::Unknown(_) => true,
        };
        let failure = session.failure(error);
        if may_help { Miss::Again(failure) } else { Miss::Never(failure) }
    })?;
    let (mut file, told) = announced(shard, &answer).map_err(Miss::Again)?;
    let path = dir.join(&file.file);
    let draft = path.with_extension("part");
    let found = receive(&mut answer, &draft).await?;
    if found != (file.bytes, file.digest.clone()) {
        let reason = format!(
            "the copy of shard {shard} has {} bytes and the fingerprint {}, announced were {} and {}",
            found.0, found.1, file.bytes, file.digest
        );
        return Err(Miss::Again(broken_off(reason)));
    }
    let renamed = fs::rename(&draft, &path);
    renamed.map_err(|error| Miss::Never(Failure::file("rename", &draft, &error)))?;
    file.took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok((file, told))
}

/// Reads what the server says of the copy.
fn announced(shard: u32, answer: &Download) -> Result<(ShardFile, Told), Failure> {
    let text = |name: &str| {
        let missing = || Failure::broken(format!("the copy of shard {shard} came without {name}"));
        answer.header(name).map(str::to_owned).ok_or_else(missing)
    };
    let number = |name: &str| {
        let read = |text: String| text.parse::<u64>().ok();
        let odd = || Failure::broken(format!("the copy of shard {shard} came with a bad {name}"));
        text(name).and_then(|text| read(text).ok_or_else(odd))
    };
    let small = |name: &str| {
        let odd = |_| Failure::broken(format!("the copy of shard {shard} came with a bad {name}"));
        number(name).and_then(|found| u32::try_from(found).map_err(odd))
    };
    let file = ShardFile {
        shard,
        file: ShardFile::name(shard),
        bytes: number("content-length")?,
        digest: text(api::DIGEST.as_str())?,
        position: number(api::POSITION.as_str())?,
        term: number(api::TERM.as_str())?,
        level: small(api::LEVEL.as_str())?,
        node: text("x-statehouse-node")?,
        took_ms: 0,
    };
    let cluster = answer.header(api::CLUSTER.as_str()).map(str::to_owned);
    Ok((file, Told { cluster, shards: small(api::SHARDS.as_str())? }))
}

/// Writes an answer to a file, synced; returns how many bytes came and their fingerprint.
async fn receive(answer: &mut Download, path: &Path) -> Result<(u64, String), Miss> {
    let failed = |error| Miss::Never(Failure::file("write", path, &error));
    let opened = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = opened.map_err(failed)?;
    let (mut hash, mut bytes) = (blake3::Hasher::new(), 0u64);
    loop {
        let part = match tokio::time::timeout(SILENCE_MAX, answer.next()).await {
            Ok(Ok(Some(part))) => part,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(Miss::Again(broken_off(crate::serve::chain(&error)))),
            Err(_) => return Err(Miss::Again(broken_off("the server has gone silent"))),
        };
        file.write_all(&part).map_err(failed)?;
        hash.update(&part);
        bytes += part.len() as u64;
    }
    file.sync_all().map_err(failed)?;
    Ok((bytes, hash.finalize().to_hex().to_string()))
}

fn broken_off(reason: impl Into<String>) -> Failure {
    let next = "repeat it with a new directory when the servers answer again";
    Failure::new(Exit::Unavailable, "broken_off", reason, next)
}
