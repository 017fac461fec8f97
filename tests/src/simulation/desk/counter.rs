//! What a leader does beside commands: it gives tasks to workers, fires what is due, and answers reads.
//!
//! A claim is written here after the runtime's desk, one task at a time; due work goes through the same actors as everything
//! else; a read waits until a round of heartbeats that began after it was answered by a majority, and until what was committed
//! then is applied.
//!
//! Deliberately absent: extensions of leases, and turns between instances.

use statehouse_contract::{
    Command, CommandEnvelope, Due, InstanceKey, KeyHash, ReceiptKind, StoredReceipt, Target,
    TaskId, Timestamp, mutant,
};
use statehouse_store::{
    Body, DueOwner, Entry, TaskRow,
    entry::{Asked as AskedEntry, Header, LeaseGiven, TaskLeased, TaskRef},
    log_file::RecordKind,
    next_token,
};

use super::{
    super::{
        replica::{Replica, Role},
        subject::{Answer, LEASE_MS, Out, QUEUE, claimed, firing},
        wire::Failure,
    },
    Caller, DUE_MAX, Delivery, Waiting, frame, nothing_to_do,
};

impl Replica {
    /// Fires what is due, through the same actors as everything else.
    ///
    /// # Errors
    /// Log or rows have failed.
    pub fn look_at_due_work(&mut self) -> Result<(), Failure> {
        if !self.is_open() {
            return Ok(());
        }
        let now = mutant::ripe_at(self.decide_at(Timestamp(0)));
        let page = self.disk.store.view().due(now, None, DUE_MAX, DUE_MAX)?;
        for item in page.items {
            let DueOwner::Instance { key, .. } = item.owner else { continue };
            // A task that may be tried again is found by whoever looks for work.
            if matches!(item.what, Due::Retry { .. } | Due::Schedule { .. })
                || !self.desk.firing.insert((key.clone(), item.what.clone()))
            {
                continue;
            }
            let envelope = firing(&key, item.what.clone(), item.at);
            let caller = Caller::Due(item.what);
            self.deliver(Delivery { caller, key, envelope, fenced: 0 })?;
        }
        Ok(())
    }

    pub(super) fn claim(
        &mut self,
        (client, attempt): (u32, u64),
        envelope: CommandEnvelope,
    ) -> Result<(), Failure> {
        let (target, hash): (Target, KeyHash) = (envelope.target.clone(), envelope.key_hash());
        let view = self.disk.store.view();
        if let Some(receipt) = view.receipt(&target, hash)? {
            self.tell(client, attempt, Answer::of(&receipt));
            return Ok(());
        }
        let (Target::Tenant(tenant), Command::LeaseTasks { worker, .. }) =
            (&target, &envelope.command)
        else {
            return Ok(());
        };
        let at = self.decide_at(Timestamp(0));
        let ready = view.ready_tasks(tenant, QUEUE, at, 8)?;
        let free = |row: &TaskRow| !self.desk.claiming.contains(&(row.born, row.task));
        let Some(row) = ready.into_iter().find(free) else {
            self.tell(client, attempt, nothing_to_do());
            return Ok(());
        };
        let bucket = row.instance.bucket();
        let given = LeaseGiven {
            task: TaskRef {
                instance: row.instance.clone(),
                bucket_epoch: view.bucket(bucket)?.epoch,
                born: row.born,
                task: row.task,
                token: row.token,
            },
            attempt: row.attempts + 1,
            until: at.after_ms(LEASE_MS),
            attempt_until: None,
        };
        let (version, n) = (row.task.version, row.task.n);
        let id = TaskId { bucket, instance: row.instance.instance.clone(), version, n };
        let receipt = StoredReceipt {
            kind: ReceiptKind::Accepted,
            fingerprint: envelope.fingerprint,
            version: None,
            body: claimed(Some((&id, next_token(row.token, self.term)))),
        };
        let asked = AskedEntry { target, key: envelope.key.clone(), receipt };
        let leased = TaskLeased { worker: worker.clone(), leases: vec![given], asked: Some(asked) };
        let header = Header { decided_at: at, ..self.header(envelope.actor.clone()) };
        let entry = Entry { header, body: Body::TaskLeased(Box::new(leased)) };
        let task = (row.born, row.task);
        self.desk.claiming.insert(task);
        let index = self.put(RecordKind::Entry, frame(&entry)?)?;
        self.desk.waiting.insert(index, (self.term, Waiting::Claim { client, attempt, task }));
        Ok(())
    }

    /// Answers reads whose round was confirmed and whose place is applied.
    ///
    /// # Errors
    /// The rows have failed.
    pub fn answer_reads(&mut self) -> Result<(), Failure> {
        if self.desk.reads.is_empty() || !matches!(self.role, Role::Leader(_)) {
            return Ok(());
        }
        let (confirmed, applied) = (self.confirmed_round(), self.applied());
        let reads = std::mem::take(&mut self.desk.reads);
        let (ready, waiting): (Vec<_>, Vec<_>) =
            reads.into_iter().partition(|read| read.round <= confirmed && read.index <= applied);
        self.desk.reads = waiting;
        for read in ready {
            self.count("read confirmed");
            let answer = self.row_of(&read.key)?;
            self.tell(read.client, read.attempt, answer);
        }
        Ok(())
    }

    pub(super) fn row_of(&self, key: &InstanceKey) -> Result<Answer, Failure> {
        let row = self.disk.store.view().instance(key)?;
        Ok(match row {
            Some(row) => Answer {
                out: Out::Ok,
                version: Some(row.version),
                state: Some(row.digest.to_string()),
                ..Answer::default()
            },
            None => {
                Answer { out: Out::Rejected, reason: Some("unknown_instance"), ..Answer::default() }
            }
        })
    }
}
