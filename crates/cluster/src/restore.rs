//! From a backup to a new cluster: the state of the old one under a new name, with one node.
//!
//! The copies are planted under a new cluster's name, so no node of the old cluster can ever talk to the new one, and the
//! directory is a founder's. Then the node runs for a moment, alone and reached by nobody, to say in shard 0 who is a
//! member: itself, as the next incarnation of its number, and none of the others. These are ordinary commands, proposed
//! and applied like any other, because a row that no entry has written would be a second way to change rows, and replicas
//! that compare chains and digests could not know of it. They are done before anybody can reach the node, so that no
//! leader of the new cluster ever counts on a member of the old one.
//!
//! Until all of it is done a file stands in the directory that keeps every start away; a restore that finds it begins
//! anew, which costs time and nothing else, because nobody has been served from there.
//!
//! Absent on purpose: the form of a backup. Whoever calls has verified it.
//!
//! Invariant: a number never gets an incarnation twice, in the old cluster and the new one together.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use statehouse_contract::{
    Build, Clock, Command, Digest, MemberDocument, Members, NodeId, ReceiptKind, Standing,
};
use statehouse_log::{Examined, Peer, plant};
use statehouse_runtime::Tuning;
use tracing::warn;

use crate::{
    Bootstrap, Node, NodeConfig, NodeError, Router,
    identity::{self, ClusterId, RESTORING_FILE},
    joining::envelope,
};

/// How long the node of a restore may take to end.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What becomes a new cluster.
pub struct Restore<'a> {
    /// The directory of its first node, `DATA/node-K`; empty, or with a restore that did not finish.
    pub data: &'a Path,
    /// The number of the node.
    pub number: u32,
    /// Where the node will be reached; empty texts for a node alone.
    pub document: MemberDocument,
    /// The copies of all shards in order, verified, each with its fingerprint.
    pub copies: &'a [(PathBuf, Digest)],
    /// What was found in the copy of shard 0.
    pub registry: &'a Examined,
    /// The clock that decides.
    pub clock: Arc<dyn Clock>,
    /// What this build knows.
    pub build: Build,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The name of the new cluster.
    pub cluster: String,
    /// Its first node.
    pub node: NodeId,
    /// The members of the old cluster that are none of the new one.
    pub left_behind: Vec<NodeId>,
}

/// Makes a new cluster out of a backup.
///
/// # Errors
/// The directory is in use, or something could not be written; it is no node then, and the same call begins anew.
pub async fn restore(restore: Restore<'_>) -> Result<Restored, NodeError> {
    let Restore { data, number, document, copies, registry, clock, build } = restore;
    let turn = Turn::take(data)?;
    let shards = u32::try_from(copies.len()).unwrap_or(u32::MAX);
    let drawn = ClusterId::draw();
    let cluster = drawn.map_err(disk("draw a name for", data))?;
    let node = founder(number, registry);
    let (own, planted) = (data.to_owned(), copies.to_vec());
    let peer = Peer { address: document.log.as_str().into() };
    let work = tokio::task::spawn_blocking(move || plant(&own, node, &peer, &planted, build)).await;
    let part = |what: &str, source: Box<dyn std::error::Error + Send + Sync>| NodeError::Part {
        what: what.to_owned(),
        source,
    };
    let what = "the copies could not be put in place";
    work.map_err(|panic| part(what, panic.into()))?.map_err(|error| part(what, error.into()))?;
    let identity = identity::restored(cluster, node, shards);
    let config = NodeConfig {
        data: data.to_owned(),
        number,
        api: document.api.clone(),
        region: document.region.clone(),
        bootstrap: Bootstrap::Never,
        // Alone: nobody reaches it, and it reaches nobody.
        cluster: None,
        clock,
        tuning: Tuning { build, ..Tuning::standard() },
    };
    let running = Box::pin(Node::start_as(config, identity)).await?;
    let settled = settle(&running, document, cluster).await;
    running.drain(CLOSE_MAX).await;
    let left_behind = settled?;
    identity::keep(data, identity)?;
    turn.end()?;
    Ok(Restored { cluster: cluster.to_string(), node, left_behind })
}

/// Returns the incarnation that the first node gets: the next one of its number.
fn founder(number: u32, registry: &Examined) -> NodeId {
    // Who was never in a cluster has no row, but held its shards all the same.
    let known = if registry.members.is_empty() { &registry.holders } else { &registry.members };
    let last = known.iter().filter(|node| node.number == number).map(|node| node.incarnation).max();
    NodeId { number, incarnation: last.map_or(1, |last| last.saturating_add(1)) }
}

/// Says in shard 0 who is a member; returns who is not any more.
async fn settle(
    node: &Node,
    document: MemberDocument,
    cluster: ClusterId,
) -> Result<Vec<NodeId>, NodeError> {
    let before = node.members()?;
    if before.0.is_empty() {
        // A node alone: it says who it is when it has somebody to say it to.
        return Ok(Vec::new());
    }
    let (router, own) = (node.router(), node.id());
    let document = MemberDocument { standing: Some(Standing::Active), ..document };
    // Incarnation 0 asks for the next one, which is the one that the directory got.
    let asked = NodeId { number: own.number, incarnation: 0 };
    let command = Command::PutMember { node: asked, document, replace: true };
    say(&router, command, &format!("restore-{own}-{cluster}")).await?;
    for old in leaving(&before, own) {
        let command = Command::RemoveMember { node: old };
        say(&router, command, &format!("restore-remove-{old}-{cluster}")).await?;
    }
    let after: Vec<NodeId> = node.members()?.present().map(|(member, _)| member).collect();
    if after != [own] {
        let names: Vec<String> = after.iter().map(ToString::to_string).collect();
        let what = format!("the members are {} and should be {own} alone", names.join(" "));
        return Err(NodeError::Part { what, source: "shard 0 does not agree".into() });
    }
    Ok(before.present().map(|(member, _)| member).collect())
}

/// Returns the members that have to be taken out; a new incarnation takes the one before it out by itself.
fn leaving(members: &Members, own: NodeId) -> Vec<NodeId> {
    let others = members.present().filter(|(member, _)| member.number != own.number);
    others.map(|(member, _)| member).collect()
}

async fn say(router: &Router, command: Command, key: &str) -> Result<(), NodeError> {
    let refused = |why: String| NodeError::Part {
        what: "shard 0 did not take the new list of members".to_owned(),
        source: why.into(),
    };
    let receipt = router.submit(envelope(command, key)).await;
    let receipt = receipt.map_err(|no| refused(no.to_string()))?;
    if let ReceiptKind::Refused(_) = receipt.kind {
        return Err(refused(receipt.body.as_str().to_owned()));
    }
    Ok(())
}

/// The right to fill a directory, and the sign that it is not whole yet.
struct Turn {
    data: PathBuf,
    _lock: File,
}

impl Turn {
    /// Takes an empty directory, or one with a restore that did not finish, which is emptied.
    fn take(data: &Path) -> Result<Self, NodeError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
        made.map_err(disk("make the directory", data))?;
        let sign = data.join(RESTORING_FILE);
        let is_anew = sign.exists();
        if !is_anew && fs::read_dir(data).map_err(disk("list", data))?.next().is_some() {
            let problem = "is not empty; a backup is restored into an empty directory".to_owned();
            return Err(NodeError::Mismatch { path: data.to_owned(), problem });
        }
        let busy = || NodeError::Locked { path: data.to_owned() };
        // Where the sign was, it must still be: else another restore has come to its end since, and what lies here is a node.
        let opened = File::options().create_new(!is_anew).truncate(false).write(true).open(&sign);
        let lock = match opened {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                ) =>
            {
                return Err(busy());
            }
            opened => opened.map_err(disk("write", &sign))?,
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy()),
            Err(TryLockError::Error(source)) => return Err(disk("lock", &sign)(source)),
        }
        if !is_same_file(&lock, &sign).map_err(disk("look at", &sign))? {
            return Err(busy());
        }
        let sync = || {
            lock.sync_all()?;
            File::open(data)?.sync_all()
        };
        sync().map_err(disk("sync", &sign))?;
        if is_anew {
            warn!(data = %data.display(), "a restore did not finish here; it begins anew");
            clear(data)?;
        }
        Ok(Self { data: data.to_owned(), _lock: lock })
    }

    /// Says that the directory is whole.
    fn end(self) -> Result<(), NodeError> {
        let sign = self.data.join(RESTORING_FILE);
        let remove = || {
            fs::remove_file(&sign)?;
            File::open(&self.data)?.sync_all()
        };
        remove().map_err(disk("remove", &sign))
    }
}

/// Returns whether a path still names an open file.
fn is_same_file(open: &File, path: &Path) -> io::Result<bool> {
    let own = open.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes away what a restore that did not finish has left. Nobody was ever served from it.
fn clear(data: &Path) -> Result<(), NodeError> {
    for entry in fs::read_dir(data).map_err(disk("list", data))? {
        let path = entry.map_err(disk("list", data))?.path();
        if path.ends_with(RESTORING_FILE) {
            continue;
        }
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(disk("remove", &path))?;
    }
    Ok(())
}

fn disk(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NodeError {
    let path = path.to_owned();
    move |source| NodeError::Disk { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(members: &[(u32, u32)], holders: &[(u32, u32)]) -> Examined {
        let nodes = |list: &[(u32, u32)]| {
            list.iter()
                .map(|(number, incarnation)| NodeId { number: *number, incarnation: *incarnation })
                .collect()
        };
        Examined {
            position: 1,
            term: 1,
            level: 1,
            instances: 0,
            entries: 0,
            members: nodes(members),
            holders: nodes(holders),
            findings: Vec::new(),
        }
    }

    #[test]
    fn the_first_node_never_gets_an_incarnation_that_its_number_has_had() {
        type Nodes<'a> = &'a [(u32, u32)];
        let table: &[(Nodes<'_>, Nodes<'_>, u32)] = &[
            (&[], &[], 1),
            (&[], &[(1, 1)], 2),
            (&[(1, 1), (2, 1)], &[(1, 1), (2, 1)], 2),
            (&[(1, 3), (1, 4), (2, 9)], &[(1, 4)], 5),
            (&[(2, 1), (3, 1)], &[(2, 1)], 1),
        ];
        for (members, holders, incarnation) in table {
            let own = founder(1, &examined(members, holders));
            assert_eq!(own, NodeId { number: 1, incarnation: *incarnation }, "{members:?}");
        }
    }

    #[test]
    fn a_directory_that_holds_anything_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("identity.json"), "{}").unwrap();
        let no = Turn::take(folder.path()).err().unwrap().to_string();
        assert!(no.contains("is not empty"), "{no}");
        assert!(!folder.path().join(RESTORING_FILE).exists());
    }

    #[test]
    fn a_sign_that_another_restore_has_removed_gives_no_right() {
        let folder = tempfile::tempdir().unwrap();
        let sign = folder.path().join(RESTORING_FILE);
        fs::write(&sign, "").unwrap();
        let open = File::open(&sign).unwrap();
        assert!(is_same_file(&open, &sign).unwrap());
        fs::remove_file(&sign).unwrap();
        assert!(!is_same_file(&open, &sign).unwrap());
        fs::write(&sign, "").unwrap();
        assert!(!is_same_file(&open, &sign).unwrap(), "it is another one's");
    }

    #[test]
    fn half_a_restore_is_no_node_and_the_next_one_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("node-1");
        let turn = Turn::take(&data).unwrap();
        assert!(matches!(Turn::take(&data).err(), Some(NodeError::Locked { .. })));
        fs::write(data.join("log.db"), "half").unwrap();
        drop(turn);
        let no = identity::open(&data, 1).unwrap_err().to_string();
        assert!(no.contains("did not finish"), "{no}");
        let again = Turn::take(&data).unwrap();
        assert!(!data.join("log.db").exists());
        again.end().unwrap();
        assert!(matches!(identity::open(&data, 1), Err(NodeError::NotInitialised { .. })));
    }
}
