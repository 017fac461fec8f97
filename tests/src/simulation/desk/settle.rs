//! What becomes of proposals: whoever waits for a place hears what apply has said of it.
//!
//! An actor believes what was written; one that was fenced forgets what it believes and begins anew, up to a bound.
//!
//! Deliberately absent: an answer for what is not known. Whoever asked asks again.

use statehouse_chart::Snapshot;
use statehouse_contract::InstanceKey;
use statehouse_runtime::decide::Standing;
use statehouse_store::{Applied, Body, Entry, Outcome, Written};

use super::{
    super::{replica::Replica, subject::Answer, wire::Failure},
    Delivery, FENCED_MAX, Waiting, key_reused, nothing_to_do, replayed,
};

impl Replica {
    /// Tells those who wait what became of applied places.
    ///
    /// # Errors
    /// Log or rows have failed.
    pub fn settle(&mut self, done: Vec<(u64, Applied)>) -> Result<(), Failure> {
        for (term, applied) in done {
            let Some((at, waiting)) = self.desk.waiting.remove(&applied.position) else { continue };
            if at != term {
                continue;
            }
            match waiting {
                Waiting::Opening => {
                    if let Some(leading) = self.leading() {
                        leading.is_open = true;
                    }
                }
                Waiting::Claim { client, attempt, task } => {
                    self.desk.claiming.remove(&task);
                    match applied.outcome {
                        Outcome::Written(written) => {
                            if let Some(receipt) = written.receipt {
                                self.tell(client, attempt, Answer::of(&receipt));
                            }
                        }
                        Outcome::Known(receipt) => self.tell(client, attempt, Answer::of(&receipt)),
                        Outcome::Fenced(fence) => {
                            self.count(&format!("fence: {}", fence.name()));
                            self.tell(client, attempt, nothing_to_do());
                        }
                        Outcome::KeyReused | Outcome::Skipped | Outcome::Blank => {}
                    }
                }
                Waiting::Moved { actor, delivery, next, entry } => {
                    self.moved((actor, *delivery), next, &entry, applied.outcome)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn moved(
        &mut self,
        (actor, delivery): (u32, Delivery),
        next: Option<Box<Snapshot>>,
        entry: &Entry,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let name = (actor, delivery.key.clone());
        match outcome {
            Outcome::Written(written) => {
                self.believe(name, next, entry, &written);
                let answer = written.receipt.as_ref().map_or_else(Answer::default, Answer::of);
                self.done(actor, &delivery, answer)
            }
            Outcome::Known(receipt) => {
                self.count("known at apply");
                self.desk.awake.remove(&name);
                let answer = replayed(&delivery, *receipt);
                self.done(actor, &delivery, answer)
            }
            Outcome::KeyReused => self.done(actor, &delivery, key_reused()),
            Outcome::Fenced(fence) => {
                self.count(&format!("fence: {}", fence.name()));
                self.desk.awake.remove(&name);
                let fenced = delivery.fenced + 1;
                if fenced >= FENCED_MAX {
                    return self.done(actor, &delivery, Answer::default());
                }
                self.work(actor, Delivery { fenced, ..delivery })
            }
            // How it ended is not known here; whoever asked asks again.
            Outcome::Skipped | Outcome::Blank => self.next(actor, &delivery.key),
        }
    }

    pub(super) fn believe(
        &mut self,
        name: (u32, InstanceKey),
        next: Option<Box<Snapshot>>,
        entry: &Entry,
        written: &Written,
    ) {
        let (Body::Transitioned(moved), Some(next)) = (&entry.body, next) else { return };
        let (Some(version), Some(digest)) = (written.version, written.digest) else {
            self.desk.awake.remove(&name);
            return;
        };
        let standing = Standing {
            version,
            digest,
            pin: moved.definition.clone(),
            snapshot: *next,
            parent: moved.parent.clone(),
            tasks: Vec::new(),
        };
        self.desk.awake.insert(name, standing);
    }
}
