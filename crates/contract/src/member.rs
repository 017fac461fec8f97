//! The members of a cluster, as shard 0 keeps them.
//!
//! A member is one incarnation of a node. Its row is never taken away: a removed one stays, so that no incarnation
//! is ever given twice and a node that lost its data is not taken for whole.
//!
//! Absent on purpose: who votes in which shard. That follows from this list, in `cluster`'s placement.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{Json, NodeId};

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It holds shards and may lead them.
    Active,
    /// It holds shards and leads none, because it is about to be stopped.
    Draining,
    /// It is no member any more and never will be again.
    Removed,
}

/// What shard 0 knows about a member.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberDocument {
    /// Where its node links are reached, `host:port`.
    pub links: String,
    /// Where its log is reached, `host:port`.
    pub log: String,
    /// The base address of its API.
    pub api: String,
    /// The region in which it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What it does. In a command, nothing means: as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}

impl MemberDocument {
    /// Writes the document as it is stored.
    #[must_use]
    pub fn json(&self) -> Json {
        Json::from_value(&serde_json::to_value(self).expect("five texts always serialize"))
    }

    /// Reads a stored document.
    ///
    /// # Errors
    /// Says what is missing or unknown.
    pub fn parse(document: &Json) -> Result<Self, serde_json::Error> {
        serde_json::from_str(document.as_str())
    }
}

/// Every member that there ever was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(pub BTreeMap<NodeId, MemberDocument>);

impl Members {
    /// Returns the members that are in the cluster now: the newest incarnation of each number, unless it was removed.
    pub fn present(&self) -> impl Iterator<Item = (NodeId, &MemberDocument)> {
        self.0.iter().filter_map(|(node, document)| {
            (self.newest(node.number) == Some(*node)
                && document.standing != Some(Standing::Removed))
            .then_some((*node, document))
        })
    }

    /// Returns the newest incarnation of a number, removed or not.
    #[must_use]
    pub fn newest(&self, number: u32) -> Option<NodeId> {
        let last = NodeId { number, incarnation: u32::MAX };
        let first = NodeId { number, incarnation: 0 };
        self.0.range(first..=last).next_back().map(|(node, _)| *node)
    }

    /// Returns whether a node is in the cluster now.
    #[must_use]
    pub fn has(&self, node: NodeId) -> bool {
        self.present().any(|(member, _)| member == node)
    }

    /// Returns whether a node was a member once and never will be again: removed, or followed by another incarnation.
    #[must_use]
    pub fn is_gone(&self, node: NodeId) -> bool {
        self.newest(node.number).is_some_and(|newest| newest > node)
            || self.0.get(&node).is_some_and(|known| known.standing == Some(Standing::Removed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(standing: Standing) -> MemberDocument {
        MemberDocument {
            links: "a:1".to_owned(),
            log: "a:2".to_owned(),
            api: "http://a:3".to_owned(),
            region: None,
            standing: Some(standing),
        }
    }

    #[test]
    fn only_the_newest_incarnation_is_present_and_a_removed_one_is_gone() {
        let node = |number, incarnation| NodeId { number, incarnation };
        let members = Members(BTreeMap::from([
            (node(1, 1), document(Standing::Active)),
            (node(2, 1), document(Standing::Active)),
            (node(2, 2), document(Standing::Draining)),
            (node(3, 1), document(Standing::Removed)),
        ]));
        let present: Vec<NodeId> = members.present().map(|(node, _)| node).collect();
        assert_eq!(present, [node(1, 1), node(2, 2)]);
        assert!(members.is_gone(node(2, 1)) && members.is_gone(node(3, 1)));
        // One of which nothing is known may be newer than this list.
        assert!(!members.is_gone(node(4, 1)) && !members.has(node(4, 1)));
        assert!(!members.is_gone(node(2, 3)));
    }

    #[test]
    fn a_document_is_read_back_and_a_misspelt_one_is_refused() {
        let kept = document(Standing::Active);
        assert_eq!(MemberDocument::parse(&kept.json()).unwrap(), kept);
        let text = r#"{"links":"a","log":"b","api":"c","stand":"active"}"#;
        let wrong = Json::from_trusted(text.to_owned());
        assert!(MemberDocument::parse(&wrong).is_err());
    }
}
