//! Shipping a whole shard to a replica that is too far behind, in bounded parts.
//!
//! The sender reads the file part by part and awaits each answer, so a slow receiver slows the sender and
//! nothing queues. It keeps the file open, so that a newer snapshot may take its place meanwhile. The receiver
//! takes a copy only where there is room for it, twice, above the reserve; it writes a file of its own beside
//! the snapshots, checks its fingerprint when it is whole, and only then hands it to the engine, under a name
//! that no later copy uses. A part that does not continue the last one starts over; a sender that sees an
//! error starts over too.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use openraft::network::RPCOption;

use statehouse_contract::Digest;
use statehouse_store::{hash_file, log_file::StoredVote};

use crate::{
    engine::{self, EngineVote},
    network::Way,
    room::Room,
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
    let file = Arc::new(File::open(&snapshot.path).map_err(|error| way.broken(&error))?);
    let mut offset = 0;
    loop {
        let file = Arc::clone(&file);
        let length = PART_BYTES.min(snapshot.bytes - offset);
        let read = tokio::task::spawn_blocking(move || read_part(&file, offset, length)).await;
        let part = match read {
            Ok(Ok(part)) => part,
            Ok(Err(error)) => return Err(way.broken(&error)),
            Err(panic) => return Err(way.broken(&panic)),
        };
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
        offset += length;
        if offset >= snapshot.bytes || vote != own {
            return Ok(vote);
        }
    }
}

/// Reads a part of a file. One that is shorter than its seal says is an error: it would count as delivered.
fn read_part(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut part = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut part, offset)?;
    Ok(part)
}

/// A snapshot on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
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

/// Writes a part at its place; returns the file when it is whole. After an error nothing of it is left. Blocks.
pub(crate) fn receive(
    incoming: &mut Option<Incoming>,
    path: &Path,
    room: &Room,
    part: Part,
) -> io::Result<Option<SnapshotFile>> {
    let taken = take(incoming, path, room, part);
    if taken.is_err() {
        *incoming = None;
        // There may be none; what cannot be removed now is removed by the next start.
        let _ = fs::remove_file(path);
    }
    taken
}

fn take(
    incoming: &mut Option<Incoming>,
    path: &Path,
    room: &Room,
    part: Part,
) -> io::Result<Option<SnapshotFile>> {
    let continues = |i: &Incoming| i.hash == part.hash && i.offset == part.offset;
    if part.offset == 0 {
        if !room.takes_copy(part.bytes) {
            let what = format!("no room for a copy of {} bytes", part.bytes);
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        File::create(path)?;
        *incoming = Some(Incoming { hash: part.hash, offset: 0 });
    } else if !incoming.as_ref().is_some_and(continues) {
        return Err(io::Error::other("the part does not continue the last one"));
    }
    let Some(under_way) = incoming else { return Ok(None) };
    let mut file = File::options().append(true).open(path)?;
    file.write_all(&part.part)?;
    under_way.offset += part.part.len() as u64;
    if under_way.offset < part.bytes {
        return Ok(None);
    }
    file.sync_all()?;
    *incoming = None;
    let (found, bytes) = hash_file(path).map_err(io::Error::other)?;
    if found != part.hash {
        return Err(io::Error::other(format!("snapshot: expected {}, found {found}", part.hash)));
    }
    let mark = engine::AppliedMark::decode(&part.mark).map_err(io::Error::other)?;
    let applied = mark.position.map(|position| position.index);
    let standing = Standing { applied, mark: part.mark };
    // Whatever comes in next begins a file of its own: this one is being put in place then.
    let mut whole = path.as_os_str().to_owned();
    whole.push(format!("-{found}"));
    let whole = PathBuf::from(whole);
    fs::rename(path, &whole)?;
    Ok(Some(SnapshotFile { path: whole, bytes, hash: found, standing }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use statehouse_contract::limits::DISK_STAGE_BYTES;
    use statehouse_store::log_file::LogPosition;

    struct Receiver {
        folder: tempfile::TempDir,
        room: Room,
        incoming: Option<Incoming>,
    }

    impl Receiver {
        fn new() -> Self {
            let room = Room::default();
            room.note(DISK_STAGE_BYTES, 0);
            Self { folder: tempfile::tempdir().unwrap(), room, incoming: None }
        }

        fn take(
            &mut self,
            whole: &[u8],
            offset: usize,
            end: usize,
        ) -> io::Result<Option<SnapshotFile>> {
            let position = LogPosition { term: 3, index: 9 };
            let mark = engine::AppliedMark::alone(position, 1, engine::Peer::default()).encode();
            let part = Part {
                mark,
                hash: Digest::of(whole),
                bytes: whole.len() as u64,
                offset: offset as u64,
                part: whole[offset..end].to_vec(),
            };
            receive(
                &mut self.incoming,
                &self.folder.path().join("incoming-7-part"),
                &self.room,
                part,
            )
        }

        fn files(&self) -> Vec<String> {
            let files = fs::read_dir(self.folder.path()).unwrap();
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    #[test]
    fn parts_become_a_file_that_the_next_copy_does_not_touch() {
        let mut receiver = Receiver::new();
        let (first, second) = (b"the rows of one leader", b"those of the next");
        assert_eq!(receiver.take(first, 0, 5).unwrap(), None);
        let whole = receiver.take(first, 5, first.len()).unwrap().unwrap();
        assert_eq!((whole.bytes, whole.standing.applied), (first.len() as u64, Some(9)));
        // It is being put in place when another one begins to come in.
        assert_eq!(receiver.take(second, 0, 4).unwrap(), None);
        assert_eq!(fs::read(&whole.path).unwrap(), first);
    }

    #[test]
    fn a_part_that_does_not_follow_or_a_file_that_is_another_leaves_nothing() {
        let mut receiver = Receiver::new();
        assert_eq!(receiver.take(b"0123456789", 0, 5).unwrap(), None);
        assert!(receiver.take(b"0123456789", 6, 8).is_err());
        assert_eq!(receiver.files(), Vec::<String>::new());
        assert!(receiver.take(b"0123456789", 5, 10).is_err(), "it starts over");
        assert_eq!(receiver.take(b"0123456789", 0, 5).unwrap(), None);
        fs::write(receiver.folder.path().join("incoming-7-part"), b"xxxxx").unwrap();
        let why = receiver.take(b"0123456789", 5, 10).unwrap_err().to_string();
        assert!(why.contains("expected"), "{why}");
        assert_eq!(receiver.files(), Vec::<String>::new());
    }

    #[test]
    fn a_copy_comes_in_only_where_there_is_room_for_two() {
        let mut receiver = Receiver::new();
        let bytes = b"twelve bytes";
        receiver.room.note(23, 0);
        assert_eq!(receiver.take(bytes, 0, 6).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(receiver.files(), Vec::<String>::new());
        receiver.room.note(1_024, 1_000);
        assert_eq!(receiver.take(bytes, 0, 6).unwrap(), None);
    }

    #[test]
    fn a_file_is_read_to_its_end_although_it_was_removed_and_a_short_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy");
        fs::write(&path, b"0123456789").unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(read_part(&file, 6, 4).unwrap(), b"6789");
        assert_eq!(read_part(&file, 6, 5).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
