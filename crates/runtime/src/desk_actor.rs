//! The desk of a led shard: it gives tasks to workers and keeps their leases alive.
//!
//! A claim looks at the tasks that wait in the asked queues, takes some that no other claim under way is about to take, and
//! proposes their leases as one entry. Claims do not wait for each other: while one is being written, the next one is
//! worked out, and the tasks of both are different because what is under way is reserved here.
//!
//! A task whose compensation counts from its start is told to its instance before its first lease is written: an attempt
//! that nobody could undo must not begin.
//!
//! Absent on purpose: waiting for work; polls wait at the nodes where they came in, and come here when there is something
//! to claim. Reports of workers go to the instance.
//!
//! Invariants: `LEASE`: a task is in one claim at a time, and its token rises with each lease; `BOUND`: a claim gives at most
//! `LEASE_TASKS_MAX` tasks and `LEASE_BYTES_MAX` bytes.

mod claim;
mod extend;

use std::{collections::HashSet, sync::Arc};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use statehouse_contract::{
    Command, CommandEnvelope, Digest, Json, Receipt, ReceiptKind, RejectionCode,
};
use statehouse_store::entry::TaskKey;
use tokio::task::JoinSet;
use tracing::warn;

use crate::{
    message::{Ask, Delivery, DeskMessage, Reply},
    reading::{RowsError, unreadable},
    reign::Reign,
    reject,
};

/// The desk of a led shard.
#[derive(Debug)]
pub(crate) struct Desk;

/// What a desk knows.
pub(crate) struct DeskState {
    reign: Arc<Reign>,
    /// Tasks that a claim under way is about to take.
    reserved: HashSet<(u64, TaskKey)>,
    /// Claims and extensions under way; they end with the desk.
    running: JoinSet<()>,
}

impl Actor for Desk {
    type Msg = DeskMessage;
    type State = DeskState;
    type Arguments = Arc<Reign>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        reign: Arc<Reign>,
    ) -> Result<Self::State, ActorProcessingErr> {
        reign.directory().announce_desk(reign.shard(), &myself.get_cell());
        Ok(DeskState { reign, reserved: HashSet::new(), running: JoinSet::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while let Some(ended) = state.running.try_join_next() {
            if let Err(error) = ended {
                warn!(shard = %state.reign.shard(), %error, "a claim ended badly");
            }
        }
        match message {
            DeskMessage::Deliver(delivery) => state.deliver(&myself, *delivery),
            DeskMessage::Ended { tasks } => {
                for task in tasks {
                    state.reserved.remove(&task);
                }
            }
        }
        Ok(())
    }
}

/// Gives reserved tasks back when the claim that holds them has ended, however that is.
struct Reserved {
    desk: ActorRef<DeskMessage>,
    tasks: Vec<(u64, TaskKey)>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // A desk that has ended has nothing to give back to.
        let _ =
            self.desk.send_message(DeskMessage::Ended { tasks: std::mem::take(&mut self.tasks) });
    }
}

impl DeskState {
    fn deliver(&mut self, myself: &ActorRef<DeskMessage>, delivery: Delivery) {
        let Delivery { ask, permit, reply } = delivery;
        match &ask.envelope.command {
            Command::LeaseTasks { .. } => match self.picked(&ask) {
                Ok(picked) if picked.is_empty() => {
                    let _ = reply.send(nothing(&self.reign, &ask.envelope, &claim::body_of(&[])));
                }
                Ok(picked) => {
                    let tasks: Vec<_> = picked.iter().map(claim::Picked::name).collect();
                    self.reserved.extend(tasks.iter().copied());
                    let reserved = Reserved { desk: myself.clone(), tasks };
                    let reign = Arc::clone(&self.reign);
                    self.running.spawn(async move {
                        let answer = claim::claim(&reign, &ask, picked).await;
                        let _ = reply.send(answer);
                        drop((reserved, permit));
                    });
                }
                Err(answer) => drop(reply.send(*answer)),
            },
            Command::ExtendLease { .. } => {
                let reign = Arc::clone(&self.reign);
                self.running.spawn(async move {
                    let answer = extend::extend(&reign, &ask).await;
                    let _ = reply.send(answer);
                    drop(permit);
                });
            }
            _ => {
                let no = reject::misdirected("the desk gives leases and nothing else");
                let _ = reply.send(Reply::Rejected(Box::new(no)));
            }
        }
    }

    /// Picks tasks for a claim, or answers a claim that was answered before.
    fn picked(&self, ask: &Ask) -> Result<Vec<claim::Picked>, Box<Reply>> {
        let known = self.reign.registry_receipt(&ask.envelope.target, ask.hash);
        if let Some(receipt) = known.map_err(|why| Box::new(failed(&why)))? {
            return Err(Box::new(crate::instance_actor::replayed(ask, receipt)));
        }
        claim::pick(&self.reign, &ask.envelope, &self.reserved)
            .map_err(|why| Box::new(failed(&why)))
    }
}

fn failed(why: &RowsError) -> Reply {
    Reply::Rejected(Box::new(unreadable(why)))
}

/// An answer that is not written down: nothing has changed.
fn nothing(reign: &Reign, envelope: &CommandEnvelope, body: &Json) -> Reply {
    let fingerprint: Digest = envelope.fingerprint;
    let position = reign.seat().log().numbers().applied.unwrap_or(0);
    Reply::Receipt(Box::new(Receipt {
        kind: ReceiptKind::Accepted,
        fingerprint,
        version: None,
        position,
        body: body.clone(),
        replayed: false,
    }))
}

fn rejected(code: RejectionCode, detail: impl Into<Box<str>>) -> Reply {
    Reply::Rejected(Box::new(reject::by_instance(code, detail)))
}
