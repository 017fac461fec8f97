//! Who this node is: `identity.json`, written once when the identity is given, and marked once when the log is there.
//!
//! It says which cluster, node and incarnation the directory belongs to, and how many shards the cluster was made with.
//! A directory without it is not a node: it may be a disk that lost its data. So an identity comes from an explicit act
//! only: making a new cluster, or joining one. A directory whose log is gone is not the node it was either, because it
//! has forgotten what it promised: it is refused, and joins again as a new incarnation.
//!
//! Absent on purpose: the lock; whoever opens the log takes it.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use statehouse_contract::{NodeId, limits::SHARDS_MAX};

use crate::NodeError;

const FORMAT: u32 = 1;
const FILE: &str = "identity.json";
/// What a node that is joining has drawn, until it has its identity.
const JOINING_FILE: &str = "joining";
/// Stands in a directory while a backup is put into it.
pub(crate) const RESTORING_FILE: &str = "restoring";

/// The name of a cluster, drawn when it is made. Nodes of different clusters never talk.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ClusterId(pub(crate) [u8; 16]);

impl ClusterId {
    /// Draws a new name.
    pub(crate) fn draw() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ClusterId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || serde::de::Error::custom("a cluster's name has 32 hexadecimal digits");
        Self::parse(&text).ok_or_else(wrong)
    }
}

/// What a node's directory says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    format: u32,
    /// The cluster to which the node belongs; nothing for one that was made before clusters had names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<ClusterId>,
    /// The node to which the directory belongs.
    pub(crate) node: NodeId,
    /// The number of shards of the cluster.
    pub(crate) shards: u32,
    /// Whether the node makes the cluster: its shards are founded with it alone.
    #[serde(default)]
    pub(crate) founder: bool,
    /// Whether the node has had a log: from then on a directory without one has lost it.
    #[serde(default)]
    pub(crate) started: bool,
}

/// Reads the identity of a directory.
///
/// # Errors
/// When there is none, or it is another one than expected, or the log that belongs to it is gone.
pub(crate) fn open(data: &Path, number: u32) -> Result<Identity, NodeError> {
    refuse_unfinished(data)?;
    let path = data.join(FILE);
    let found = match fs::read(&path) {
        Ok(bytes) => parse(data, &bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if data.join("log.db").exists() {
                let problem =
                    "holds a log but no identity.json; restore it from a backup".to_owned();
                return Err(NodeError::Mismatch { path: data.to_owned(), problem });
            }
            return Err(NodeError::NotInitialised { path: data.to_owned() });
        }
        Err(source) => return Err(NodeError::Disk { what: "read", path, source }),
    };
    if found.node.number != number {
        let problem = format!("belongs to node {}, not to node {number}", found.node.number);
        return Err(NodeError::Mismatch { path: data.to_owned(), problem });
    }
    if found.started && !data.join("log.db").exists() {
        return Err(NodeError::LogLost { path: data.to_owned(), node: found.node });
    }
    Ok(found)
}

/// Returns whether a directory has an identity.
pub(crate) fn is_there(data: &Path) -> bool {
    data.join(FILE).exists()
}

fn parse(data: &Path, bytes: &[u8]) -> Result<Identity, NodeError> {
    let mismatch = |problem: String| NodeError::Mismatch { path: data.to_owned(), problem };
    let found: Identity = serde_json::from_slice(bytes)
        .map_err(|error| mismatch(format!("has an identity.json that cannot be read: {error}")))?;
    if found.format != FORMAT {
        let problem = format!("has format {}, this build knows format {FORMAT}", found.format);
        return Err(mismatch(problem));
    }
    Ok(found)
}

/// Makes the identity of the first node of a new cluster.
///
/// # Errors
/// When the directory is in use already, or the number of shards cannot be.
pub(crate) fn found(data: &Path, number: u32, shards: u32) -> Result<Identity, NodeError> {
    if shards == 0 || shards > SHARDS_MAX {
        let problem = format!("cannot be made with {shards} shards; 1 to {SHARDS_MAX} are allowed");
        return Err(NodeError::Mismatch { path: data.to_owned(), problem });
    }
    let drawn = ClusterId::draw();
    let disk = |source| NodeError::Disk { what: "draw a name for", path: data.to_owned(), source };
    let identity = Identity {
        format: FORMAT,
        cluster: Some(drawn.map_err(disk)?),
        node: NodeId { number, incarnation: 1 },
        shards,
        founder: true,
        started: false,
    };
    take(data, identity)
}

/// Makes a directory the first node of a new cluster, unless it has an identity already.
///
/// # Errors
/// When the directory holds something else, or the number of shards cannot be.
pub fn found_unless_there(data: &Path, number: u32, shards: u32) -> Result<(), NodeError> {
    if is_there(data) { Ok(()) } else { found(data, number, shards).map(|_| ()) }
}

/// Makes the identity of a node that a cluster has taken in.
///
/// # Errors
/// When the directory is in use already.
pub(crate) fn joined(
    data: &Path,
    cluster: ClusterId,
    node: NodeId,
    shards: u32,
) -> Result<Identity, NodeError> {
    let (format, founder, started) = (FORMAT, false, false);
    let identity = Identity { format, cluster: Some(cluster), node, shards, founder, started };
    let identity = take(data, identity)?;
    forget_joining(data);
    Ok(identity)
}

/// Returns the identity of the first node of a cluster that begins with a backup. The directory does not have it yet.
pub(crate) fn restored(cluster: ClusterId, node: NodeId, shards: u32) -> Identity {
    // Its log was planted: without it the directory has lost it.
    let (format, founder, started) = (FORMAT, true, true);
    Identity { format, cluster: Some(cluster), node, shards, founder, started }
}

/// Gives a directory the identity of what was restored into it.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn keep(data: &Path, identity: Identity) -> Result<(), NodeError> {
    write(data, FILE, &json(&identity))
}

/// Half a backup is no node.
fn refuse_unfinished(data: &Path) -> Result<(), NodeError> {
    if !data.join(RESTORING_FILE).exists() {
        return Ok(());
    }
    let problem = "holds a restore that did not finish; run `statehouse cluster restore` again, which begins anew";
    Err(NodeError::Mismatch { path: data.to_owned(), problem: problem.to_owned() })
}

/// Gives a directory its identity; the first one stays.
fn take(data: &Path, identity: Identity) -> Result<Identity, NodeError> {
    refuse_unfinished(data)?;
    // State without an identity is a node that lost its papers, never a new one.
    if data.join("log.db").exists() || is_there(data) {
        let problem = "is in use already; an identity is given to an empty directory".to_owned();
        return Err(NodeError::Mismatch { path: data.to_owned(), problem });
    }
    write(data, FILE, &json(&identity))?;
    Ok(identity)
}

/// Says that the node has a log from now on.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn mark_started(data: &Path, identity: Identity) -> Result<(), NodeError> {
    if identity.started {
        return Ok(());
    }
    write(data, FILE, &json(&Identity { started: true, ..identity }))
}

/// Returns what a directory has drawn for its join, drawing it the first time.
///
/// # Errors
/// When it cannot be kept.
pub(crate) fn joining(data: &Path) -> Result<[u8; 16], NodeError> {
    let path = data.join(JOINING_FILE);
    if let Some(kept) =
        fs::read_to_string(&path).ok().and_then(|text| ClusterId::parse(text.trim()))
    {
        return Ok(kept.0);
    }
    let drawn = ClusterId::draw();
    let drawn =
        drawn.map_err(|source| NodeError::Disk { what: "draw a number for", path, source })?;
    write(data, JOINING_FILE, &drawn.to_string())?;
    Ok(drawn.0)
}

/// Forgets what a directory has drawn for its join, so that its next one is another question.
pub(crate) fn forget_joining(data: &Path) {
    // Where it stays, the next join gets the same answer once more.
    let _ = fs::remove_file(data.join(JOINING_FILE));
}

fn json(identity: &Identity) -> String {
    serde_json::to_string_pretty(identity).expect("numbers and texts always serialize")
}

/// Writes a small file so that it is whole or not there.
fn write(data: &Path, name: &str, text: &str) -> Result<(), NodeError> {
    let path: PathBuf = data.join(name);
    let disk = |what| move |source| NodeError::Disk { what, path: path.clone(), source };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(disk.clone()("make the directory of"))?;
    let draft = data.join(format!("{name}.new"));
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, data.join(name))?;
        File::open(data)?.sync_all()
    };
    write().map_err(disk("write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("node-1");
        let made = found(&data, 1, 4).unwrap();
        assert_eq!(open(&data, 1).unwrap(), made);
        let again = found(&data, 1, 4).unwrap_err().to_string();
        assert!(again.contains("is in use already"), "{again}");
    }

    #[test]
    fn an_empty_directory_is_no_node() {
        let directory = tempfile::tempdir().unwrap();
        let no = open(directory.path(), 1).unwrap_err();
        assert!(matches!(no, NodeError::NotInitialised { .. }), "{no}");
    }

    #[test]
    fn another_node_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        found(directory.path(), 1, 4).unwrap();
        let said = open(directory.path(), 2).unwrap_err().to_string();
        assert!(said.ends_with("belongs to node 1, not to node 2"), "{said}");
    }

    #[test]
    fn a_log_without_an_identity_is_never_taken_for_a_new_node() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("log.db"), b"x").unwrap();
        let no = open(directory.path(), 1).unwrap_err().to_string();
        assert!(no.contains("holds a log but no identity.json"), "{no}");
        assert!(found(directory.path(), 1, 4).is_err());
    }

    #[test]
    fn a_node_that_has_had_a_log_is_refused_without_it() {
        let directory = tempfile::tempdir().unwrap();
        let identity = found(directory.path(), 1, 4).unwrap();
        // Before the first start there is no log to lose.
        open(directory.path(), 1).unwrap();
        let log = directory.path().join("log.db");
        fs::write(&log, b"x").unwrap();
        mark_started(directory.path(), identity).unwrap();
        open(directory.path(), 1).unwrap();
        fs::remove_file(&log).unwrap();
        let no = open(directory.path(), 1).unwrap_err();
        assert!(matches!(no, NodeError::LogLost { .. }), "{no}");
    }

    #[test]
    fn a_directory_that_joins_asks_under_the_same_number_until_it_is_taken_in() {
        let directory = tempfile::tempdir().unwrap();
        let drawn = joining(directory.path()).unwrap();
        assert_eq!(joining(directory.path()).unwrap(), drawn);
        let node = NodeId { number: 3, incarnation: 2 };
        joined(directory.path(), ClusterId([7; 16]), node, 4).unwrap();
        let kept = open(directory.path(), 3).unwrap();
        assert_eq!((kept.node, kept.cluster), (node, Some(ClusterId([7; 16]))));
        assert_ne!(joining(directory.path()).unwrap(), drawn);
    }
}
