//! Process groups: where an instance or a shard's gateway is found. A hint, never an authority.
//!
//! Four kinds of group: `shard-leader/<id>` for the leader's gateway, `registry/<id>` and `desk/<id>` for two of its organs,
//! and `wf/<tenant>/<id>` for each live instance. A group may be empty, late or wrong; the worst that costs is a retry, because
//! the log decides who may speak. What other nodes can see of a shard, `cluster` keeps in groups of its own.
//!
//! Groups belong to the process, so each node has a scope of its own: two nodes in one process (tests) do not meet.
//!
//! Groups are looked up by name and never listed: listing takes tens of milliseconds when there are many.
//!
//! Absent on purpose: names of actors. When a peer dies, the library unregisters our own actor of the same name.

use ractor::{ActorCell, ActorRef, pg};
use statehouse_contract::{InstanceKey, ShardId};

use crate::message::{DeskMessage, GatewayMessage, InstanceMessage, RegistryMessage};

/// The groups of one node.
#[derive(Clone, Debug)]
pub struct Directory {
    scope: String,
}

impl Directory {
    /// Returns the groups of the node with this name.
    #[must_use]
    pub fn of_node(name: &str) -> Self {
        Self { scope: name.to_owned() }
    }

    /// Joins the group of an instance; the library leaves it when the actor ends.
    pub fn join_instance(&self, key: &InstanceKey, actor: ActorCell) {
        pg::join_scoped(self.scope.clone(), instance_group(key), vec![actor]);
    }

    /// Leaves the group of an instance: from here on new messages wake another actor.
    pub fn leave_instance(&self, key: &InstanceKey, actor: ActorCell) {
        pg::leave_scoped(self.scope.clone(), instance_group(key), vec![actor]);
    }

    /// Finds the live instance on this node.
    #[must_use]
    pub fn find_instance(&self, key: &InstanceKey) -> Option<ActorRef<InstanceMessage>> {
        self.find(&instance_group(key)).map(Into::into)
    }

    /// Joins the group of a led shard's gateway.
    pub fn announce_leader(&self, shard: ShardId, actor: &ActorCell) {
        pg::join_scoped(self.scope.clone(), leader_group(shard), vec![actor.clone()]);
    }

    /// Finds the gateway of a shard that this node believes to lead.
    #[must_use]
    pub fn find_gateway(&self, shard: ShardId) -> Option<ActorRef<GatewayMessage>> {
        self.find(&leader_group(shard)).map(Into::into)
    }

    /// Joins the group of a shard's registry, the actor that decides what belongs to no instance.
    pub fn announce_registry(&self, shard: ShardId, actor: &ActorCell) {
        pg::join_scoped(self.scope.clone(), registry_group(shard), vec![actor.clone()]);
    }

    /// Finds the registry of a shard, if this node leads it.
    #[must_use]
    pub fn find_registry(&self, shard: ShardId) -> Option<ActorRef<RegistryMessage>> {
        self.find(&registry_group(shard)).map(Into::into)
    }

    /// Joins the group of a shard's desk, the actor that gives leases.
    pub fn announce_desk(&self, shard: ShardId, actor: &ActorCell) {
        pg::join_scoped(self.scope.clone(), desk_group(shard), vec![actor.clone()]);
    }

    /// Finds the desk of a shard, if this node leads it.
    #[must_use]
    pub fn find_desk(&self, shard: ShardId) -> Option<ActorRef<DeskMessage>> {
        self.find(&desk_group(shard)).map(Into::into)
    }

    fn find(&self, group: &str) -> Option<ActorCell> {
        pg::get_scoped_local_members(&self.scope, &group.to_owned()).pop()
    }
}

fn desk_group(shard: ShardId) -> String {
    format!("desk/{shard}")
}

fn registry_group(shard: ShardId) -> String {
    format!("registry/{shard}")
}

fn instance_group(key: &InstanceKey) -> String {
    let (tenant, instance) = (key.tenant.as_str(), key.instance.as_str());
    let mut name = String::with_capacity(4 + tenant.len() + instance.len());
    name.push_str("wf/");
    name.push_str(tenant);
    name.push('/');
    name.push_str(instance);
    name
}

fn leader_group(shard: ShardId) -> String {
    format!("shard-leader/{shard}")
}
