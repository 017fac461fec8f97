//! Who this node is: `identity.json`, written once and never changed.
//!
//! It says which node and incarnation the directory belongs to, and how many shards the cluster was made with. A directory
//! without it is not a node: it may be a disk that lost its data, so an identity is made only where the configuration says
//! that this is a new cluster.
//!
//! Absent on purpose: the lock; whoever opens the log takes it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use statehouse_contract::{NodeId, limits::SHARDS_MAX};

use crate::{Bootstrap, NodeError};

const FORMAT: u32 = 1;

/// What a node's directory says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    format: u32,
    /// The node to which the directory belongs.
    pub node: NodeId,
    /// The number of shards of the cluster.
    pub shards: u32,
}

/// Reads the identity of a directory, or makes it where that was asked for.
///
/// # Errors
/// When there is none and none may be made, or when it is another one than expected.
pub(crate) fn open(
    data: &Path,
    node: NodeId,
    shards: u32,
    bootstrap: Bootstrap,
) -> Result<Identity, NodeError> {
    let path = data.join("identity.json");
    let found = match fs::read(&path) {
        Ok(bytes) => parse(data, &bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match bootstrap {
                Bootstrap::Never => Err(NodeError::NotInitialised { path: data.to_owned() }),
                Bootstrap::SingleNode => make(data, &path, node, shards),
            };
        }
        Err(source) => return Err(NodeError::Disk { what: "read", path, source }),
    };
    let mismatch = |problem: String| NodeError::Mismatch { path: data.to_owned(), problem };
    if found.node.number != node.number {
        let problem = format!("belongs to node {}, not to node {}", found.node.number, node.number);
        return Err(mismatch(problem));
    }
    if found.shards != shards {
        let problem = format!("was made with {} shards, not with {shards}", found.shards);
        return Err(mismatch(problem));
    }
    Ok(found)
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

fn make(data: &Path, path: &PathBuf, node: NodeId, shards: u32) -> Result<Identity, NodeError> {
    if shards == 0 || shards > SHARDS_MAX {
        let problem = format!("cannot be made with {shards} shards; 1 to {SHARDS_MAX} are allowed");
        return Err(NodeError::Mismatch { path: data.to_owned(), problem });
    }
    // State without an identity is a node that lost its papers, never a new one.
    if data.join("log.db").exists() {
        let problem = "holds a log but no identity.json; restore it from a backup".to_owned();
        return Err(NodeError::Mismatch { path: data.to_owned(), problem });
    }
    let identity = Identity { format: FORMAT, node, shards };
    let disk = |what| move |source| NodeError::Disk { what, path: path.clone(), source };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(disk("make the directory of"))?;
    let text = serde_json::to_string_pretty(&identity).expect("four numbers always serialize");
    let draft = data.join("identity.json.new");
    let mut file = File::create(&draft).map_err(disk("write"))?;
    file.write_all(text.as_bytes()).map_err(disk("write"))?;
    file.sync_all().map_err(disk("sync"))?;
    fs::rename(&draft, path).map_err(disk("put in place"))?;
    File::open(data)
        .and_then(|directory| directory.sync_all())
        .map_err(disk("sync the directory of"))?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId { number: 1, incarnation: 1 };

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("node-1");
        let made = open(&data, NODE, 4, Bootstrap::SingleNode).unwrap();
        assert_eq!(open(&data, NODE, 4, Bootstrap::Never).unwrap(), made);
    }

    #[test]
    fn an_empty_directory_is_no_node_unless_somebody_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let no = open(directory.path(), NODE, 4, Bootstrap::Never).unwrap_err();
        assert!(matches!(no, NodeError::NotInitialised { .. }), "{no}");
    }

    #[test]
    fn another_node_or_number_of_shards_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path(), NODE, 4, Bootstrap::SingleNode).unwrap();
        let other = NodeId { number: 2, incarnation: 1 };
        let said = |node, shards| {
            open(directory.path(), node, shards, Bootstrap::SingleNode).unwrap_err().to_string()
        };
        assert!(said(other, 4).ends_with("belongs to node 1, not to node 2"));
        assert!(said(NODE, 8).ends_with("was made with 4 shards, not with 8"));
    }

    #[test]
    fn a_log_without_an_identity_is_never_taken_for_a_new_node() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("log.db"), b"x").unwrap();
        let no = open(directory.path(), NODE, 4, Bootstrap::SingleNode).unwrap_err();
        assert!(no.to_string().contains("holds a log but no identity.json"), "{no}");
    }
}
