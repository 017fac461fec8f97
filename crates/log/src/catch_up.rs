//! Shipping a whole shard to a replica that is too far behind, in bounded parts.
//!
//! The sender reads the file part by part and awaits each answer, so a slow receiver slows the sender and
//! nothing queues. The receiver writes a file of its own beside the snapshots, checks its fingerprint when
//! it is whole, and only then hands it to the engine. A part that does not continue the last one starts
//! over; a sender that sees an error starts over too.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use openraft::network::RPCOption;

use statehouse_contract::Digest;
use statehouse_store::log_file::StoredVote;

use crate::{
    engine::{self, EngineVote},
    network::Way,
    rows::{SnapshotFile, Standing},
    transport::{Lane, LogRequest, LogResponse, TransportError},
};

/// Bytes of one part: small beside the bound of a frame, large beside a round trip.
const PART_BYTES: u64 = 512 * 1024;

/// Sends a snapshot and returns the receiver's vote.
pub(crate) async fn send(
    way: &Way,
    vote: &EngineVote,
    snapshot: &SnapshotFile,
    option: &RPCOption,
) -> Result<StoredVote, TransportError> {
    let own = engine::stored_vote(vote);
    let mut offset = 0;
    loop {
        let path = snapshot.path.clone();
        let read = tokio::task::spawn_blocking(move || read_part(&path, offset)).await;
        let part = match read {
            Ok(Ok(part)) => part,
            Ok(Err(error)) => return Err(way.broken(&error)),
            Err(panic) => return Err(way.broken(&panic)),
        };
        let read = part.len() as u64;
        let request = LogRequest::Snapshot {
            vote: own,
            mark: snapshot.standing.mark.clone(),
            hash: snapshot.hash,
            bytes: snapshot.bytes,
            offset,
            part,
        };
        let answer = way.ask(Lane::Snapshot, request, option).await?;
        let LogResponse::Snapshot { vote } = answer else { return Err(way.astray()) };
        offset += read;
        if offset >= snapshot.bytes || vote != own || read == 0 {
            return Ok(vote);
        }
    }
}

fn read_part(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut part = Vec::new();
    file.take(PART_BYTES).read_to_end(&mut part)?;
    Ok(part)
}

/// A snapshot on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    path: PathBuf,
    hash: Digest,
    offset: u64,
}

/// One part of a snapshot, as it came.
pub(crate) struct Part {
    pub(crate) mark: Vec<u8>,
    pub(crate) hash: Digest,
    pub(crate) bytes: u64,
    pub(crate) offset: u64,
    pub(crate) part: Vec<u8>,
}

/// Writes a part at its place; returns the file when it is whole. Blocks.
pub(crate) fn receive(
    incoming: &mut Option<Incoming>,
    path: &Path,
    part: Part,
) -> io::Result<Option<SnapshotFile>> {
    let continues = |i: &Incoming| i.hash == part.hash && i.offset == part.offset;
    if part.offset == 0 {
        File::create(path)?;
        *incoming = Some(Incoming { path: path.to_owned(), hash: part.hash, offset: 0 });
    } else if !incoming.as_ref().is_some_and(continues) {
        *incoming = None;
        return Err(io::Error::other("the part does not continue the last one"));
    }
    let Some(under_way) = incoming else { return Ok(None) };
    let mut file = File::options().append(true).open(&under_way.path)?;
    file.write_all(&part.part)?;
    under_way.offset += part.part.len() as u64;
    if under_way.offset < part.bytes {
        return Ok(None);
    }
    file.sync_all()?;
    let path = under_way.path.clone();
    *incoming = None;
    let found = Digest::of(&std::fs::read(&path)?);
    if found != part.hash {
        return Err(io::Error::other(format!("snapshot: expected {}, found {found}", part.hash)));
    }
    let applied = engine::AppliedMark::decode(&part.mark)
        .map_err(io::Error::other)?
        .position
        .map(|position| position.index);
    let standing = Standing { applied, mark: part.mark };
    Ok(Some(SnapshotFile { path, bytes: part.bytes, hash: part.hash, standing }))
}
