//! The registry: the one actor of a led shard that decides what belongs to no instance. In shard 0 that is everything about
//! tenants, keys, quotas, definitions and members; in every shard it is the shard's feature level.
//!
//! It is the door of these commands as the instance actor is that of an instance: one at a time, a known key first, then
//! decide, propose, and believe what apply says. These commands are rare, so it reads its rows for each of them.
//!
//! Absent on purpose: answering questions; those read the rows of shard 0 directly.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use statehouse_contract::{Command, Rejection, RejectionCode, Timestamp};
use tracing::error;

use crate::{
    decide_registry::{Circumstances, decide},
    message::{Ask, BatchMessage, Delivery, RegistryMessage, Reply, ScheduleMessage},
    reading::RowsError,
    reign::{Proposed, Reign},
    reject,
};

/// How often a decision is taken again because the rows had moved on.
const FENCED_MAX: u32 = 16;

/// The registry of a led shard.
#[derive(Debug)]
pub(crate) struct Registry;

impl Actor for Registry {
    type Msg = RegistryMessage;
    type State = Arc<Reign>;
    type Arguments = Arc<Reign>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        reign: Arc<Reign>,
    ) -> Result<Self::State, ActorProcessingErr> {
        reign.directory().announce_registry(reign.shard(), &myself.get_cell());
        Ok(reign)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        reign: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let RegistryMessage::Deliver(delivery) = message;
        let Delivery { ask, permit, reply } = *delivery;
        let answer = work(reign, &ask).await;
        let _ = reply.send(answer);
        drop(permit);
        Ok(())
    }
}

async fn work(reign: &Reign, ask: &Ask) -> Reply {
    for _ in 0..FENCED_MAX {
        match reign.registry_receipt(&ask.envelope.target, ask.hash) {
            Ok(None) => {}
            Ok(Some(receipt)) => return crate::instance_actor::replayed(ask, receipt),
            Err(why) => return unreadable(&why),
        }
        let rows = match reign.registry_rows(&ask.envelope) {
            Ok(rows) => rows,
            Err(why) => return unreadable(&why),
        };
        let circumstances = Circumstances {
            at: reign.decide_at(Timestamp(0)),
            term: reign.term,
            node: reign.node(),
            build: reign.build(),
        };
        let entry = match decide(&ask.envelope, &rows, circumstances) {
            Ok(entry) => entry,
            Err(no) => return rejected(no),
        };
        let before = ask.mark_proposed();
        match reign.propose(entry).await {
            Proposed::Applied(applied) => {
                after(reign, &ask.envelope.command);
                return match applied.receipt {
                    Some(receipt) => Reply::Receipt(Box::new(receipt)),
                    None => rejected(reject::unknown()),
                };
            }
            Proposed::Known(receipt) => return crate::instance_actor::replayed(ask, *receipt),
            Proposed::KeyReused => return rejected(reject::key_reused(None)),
            Proposed::Fenced => ask.not_proposed(before),
            Proposed::Refused(no) => {
                ask.not_proposed(before);
                return Reply::Rejected(no);
            }
            Proposed::Unknown => return rejected(reject::unknown()),
        }
    }
    rejected(reject::not_proposed_here())
}

/// What this node keeps in memory follows at once; other nodes' copies follow with their rows.
fn after(reign: &Reign, command: &Command) {
    match command {
        Command::SetQuota(_) | Command::PutTenant { .. } => reign.refresh_quotas(),
        Command::RevokeKey { .. } | Command::PutKey { .. } => reign.caches().forget_credentials(),
        Command::PutSchedule { .. }
        | Command::RemoveSchedule { .. }
        | Command::PauseSchedule { .. }
        | Command::BackfillSchedule { .. } => {
            reign.seat().hints().schedules.give(ScheduleMessage::Changed);
        }
        Command::PutBatch { .. } | Command::StopBatch { .. } | Command::RemoveBatch { .. } => {
            reign.seat().hints().batches.give(BatchMessage::Changed);
        }
        _ => {}
    }
}

fn unreadable(why: &RowsError) -> Reply {
    match why {
        RowsError::Replaced => rejected(reject::not_proposed_here()),
        RowsError::Unreadable(what) => {
            error!(%what, "the rows of the registry cannot be read");
            let detail = "the rows of this shard cannot be read on this node";
            rejected(Rejection::gateway(RejectionCode::Internal, detail))
        }
    }
}

fn rejected(no: Rejection) -> Reply {
    Reply::Rejected(Box::new(no))
}
