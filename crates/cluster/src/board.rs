//! The board: where the lease calls of this node wait until there is something to claim.
//!
//! A call that finds nothing waits here and holds no permit. One scout looks at the rows that this node holds itself,
//! whenever something was applied to them and at least every now and then, and wakes as many calls as there are tasks, the
//! oldest first. So a thousand waiting workers and one new task cost one claim. What the scout sees may be old; the worst
//! that costs is a claim that comes back empty.
//!
//! Absent on purpose: claiming. Whoever is woken goes to the shard that leads.
//!
//! Invariant `BOUND`: at most `POLLS_MAX` calls wait; one more is refused.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use statehouse_contract::{Rejection, RejectionCode, TenantId, limits::POLLS_MAX};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

/// Most queues of which it is remembered when somebody asked for them last.
const ASKED_MAX: usize = 10_000;

/// The waiting lease calls of a node.
#[derive(Debug, Default)]
pub(crate) struct Board {
    waiting: Mutex<Waiting>,
    asked: Mutex<HashMap<(TenantId, Box<str>), Instant>>,
    came: Notify,
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By the order in which they came.
    polls: BTreeMap<u64, Poll>,
}

#[derive(Debug)]
struct Poll {
    tenant: TenantId,
    queues: Vec<Box<str>>,
    wake: oneshot::Sender<()>,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There may be something to claim.
    Woken,
    /// The time is over, or the node is about to stop.
    InVain,
}

/// A place on the board; it is given up however the wait ends.
struct Place<'a> {
    board: &'a Board,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.board.lock().polls.remove(&self.number);
    }
}

impl Board {
    /// Waits until there may be something to claim.
    ///
    /// # Errors
    /// `overloaded`: as many calls wait as may.
    pub(crate) async fn wait(
        &self,
        tenant: &TenantId,
        queues: &[Box<str>],
        until: Instant,
    ) -> Result<Waited, Rejection> {
        let (wake, woken) = oneshot::channel();
        let place = {
            let mut waiting = self.lock();
            if waiting.polls.len() >= POLLS_MAX {
                let detail = "as many lease calls wait at this node as may (polls_max)";
                return Err(Rejection::gateway(RejectionCode::Overloaded, detail).after_ms(1_000));
            }
            let number = waiting.next;
            waiting.next += 1;
            let poll = Poll { tenant: tenant.clone(), queues: queues.to_vec(), wake };
            waiting.polls.insert(number, poll);
            Place { board: self, number }
        };
        self.came.notify_one();
        if self.is_closed.load(Ordering::Acquire) {
            return Ok(Waited::InVain);
        }
        let ended = timeout_at(until, woken).await;
        drop(place);
        Ok(if matches!(ended, Ok(Ok(()))) { Waited::Woken } else { Waited::InVain })
    }

    /// Wakes as many calls as there are tasks, the oldest first. `ready` counts the tasks of a queue, up to a limit.
    pub(crate) fn wake(&self, mut ready: impl FnMut(&TenantId, &str, u64) -> u64) {
        let mut waiting = self.lock();
        let limit = waiting.polls.len() as u64;
        let mut left: HashMap<(TenantId, Box<str>), u64> = HashMap::new();
        let mut woken = Vec::new();
        for (number, poll) in &waiting.polls {
            for queue in &poll.queues {
                let count = left
                    .entry((poll.tenant.clone(), queue.clone()))
                    .or_insert_with(|| ready(&poll.tenant, queue, limit));
                if *count > 0 {
                    *count -= 1;
                    woken.push(*number);
                    break;
                }
            }
        }
        for number in woken {
            if let Some(poll) = waiting.polls.remove(&number) {
                // Who has gone meanwhile is missed by nobody: the next round counts anew.
                let _ = poll.wake.send(());
            }
        }
    }

    /// Waits until somebody waits here.
    pub(crate) async fn somebody(&self) {
        while self.lock().polls.is_empty() {
            self.came.notified().await;
        }
    }

    /// Sends everybody away, now and from now on: the node is about to stop.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.lock().polls.clear();
    }

    /// Takes note that somebody asks for these queues.
    pub(crate) fn ask(&self, tenant: &TenantId, queues: &[Box<str>]) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= ASKED_MAX {
            asked.clear();
        }
        let now = Instant::now();
        for queue in queues {
            asked.insert((tenant.clone(), queue.clone()), now);
        }
    }

    /// Returns how long ago somebody asked this node for a queue.
    pub(crate) fn asked(&self, tenant: &TenantId, queue: &str) -> Option<Duration> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(&(tenant.clone(), queue.into())).map(Instant::elapsed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    fn poll(board: &Arc<Board>, tenant: TenantId, queue: &str) -> tokio::task::JoinHandle<Waited> {
        let (board, queue) = (Arc::clone(board), queue.into());
        tokio::spawn(async move {
            let until = Instant::now() + Duration::from_secs(30);
            board.wait(&tenant, &[queue], until).await.unwrap()
        })
    }

    async fn waiting(board: &Board, count: usize) {
        while board.lock().polls.len() != count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn as_many_are_woken_as_there_are_tasks_and_the_oldest_first() {
        let board = Arc::new(Board::default());
        let mut polls = Vec::new();
        for n in 0..4 {
            polls.push(poll(&board, tenant("a"), "q"));
            waiting(&board, n + 1).await;
        }
        board.wake(|_, _, limit| {
            assert_eq!(limit, 4);
            2
        });
        waiting(&board, 2).await;
        for woken in polls.drain(..2) {
            assert_eq!(woken.await.unwrap(), Waited::Woken);
        }
        board.close();
        for left in polls {
            assert_eq!(left.await.unwrap(), Waited::InVain);
        }
    }

    #[tokio::test]
    async fn nobody_is_woken_for_another_tenant_or_another_queue() {
        let board = Arc::new(Board::default());
        let other = poll(&board, tenant("b"), "q");
        waiting(&board, 1).await;
        let else_where = poll(&board, tenant("a"), "r");
        waiting(&board, 2).await;
        board.wake(|tenant, queue, _| u64::from(tenant.as_str() == "a" && queue == "q"));
        assert_eq!(board.lock().polls.len(), 2);
        board.close();
        assert_eq!(
            (other.await.unwrap(), else_where.await.unwrap()),
            (Waited::InVain, Waited::InVain)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_its_time_and_leaves_nothing_behind() {
        let board = Board::default();
        let until = Instant::now() + Duration::from_millis(50);
        let waited = board.wait(&tenant("a"), &["q".into()], until).await.unwrap();
        assert_eq!((waited, board.lock().polls.len()), (Waited::InVain, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_than_may_wait_is_refused() {
        let board = Arc::new(Board::default());
        let polls: Vec<_> = (0..POLLS_MAX).map(|_| poll(&board, tenant("a"), "q")).collect();
        waiting(&board, POLLS_MAX).await;
        let until = Instant::now() + Duration::from_secs(1);
        let no = board.wait(&tenant("a"), &["q".into()], until).await.unwrap_err();
        assert_eq!(no.code, RejectionCode::Overloaded);
        polls.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
