//! What crosses the node links: a command that another node's shard decides, and its answer.
//!
//! The messages live inside the one stable variant of the gates (`gate.rs`), framed and versioned by the contract's
//! codec, so that a build that does not know a message says so instead of dropping it.
//!
//! What comes back is worth exactly what it says: a receipt and a judged rejection are definite, a refusal before
//! anything was proposed is a typed "not here" or a 503 of the far side, and everything else, silence too, is unknown.
//!
//! Absent on purpose: reads. Every node answers those from its own rows, with a position that the leader vouches for.

use bincode::{Decode, Encode};
use statehouse_contract::{CommandEnvelope, InstanceKey, NodeId, Receipt, Rejection, ShardId};

/// What a node asks of another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Asked {
    /// Decide this command, if you lead its shard. It was admitted where it came in.
    Submit {
        /// The shard.
        shard: ShardId,
        /// The command.
        envelope: Box<CommandEnvelope>,
    },
    /// Hand leadership of this shard over, if you lead it.
    HandOver {
        /// The shard.
        shard: ShardId,
        /// To whom; nothing means the follower that is furthest and has room on its disk.
        to: Option<NodeId>,
    },
    /// Say whether an actor is awake for this instance.
    Place {
        /// The instance.
        key: InstanceKey,
    },
}

/// What the other says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Told {
    /// The stored answer.
    Receipt(Box<Receipt>),
    /// The rejection, as the far side would have told its own client.
    Rejected(Box<Rejection>),
    /// Nothing was proposed: it does not lead the shard. Who may, and in which term it believes that.
    NotLeader {
        /// The term of that belief.
        term: u64,
        /// Who, if anybody is known.
        leader: Option<NodeId>,
    },
    /// Leadership was offered to this node; nobody where there is nobody to take it.
    HandedOver {
        /// The node.
        to: Option<NodeId>,
    },
    /// Whether an actor is awake there.
    Place {
        /// Whether it is.
        awake: bool,
    },
    /// The question cannot be read here: nothing was proposed.
    Unreadable,
}
