//! The list of members as this node's copy of shard 0 has it, as a value to watch.
//!
//! Everything that follows the members looks here: the links, the lanes of the log, each led shard's membership. The
//! list may be late, like any copy. What must not be late (who may vote, which number a new node gets) is judged in the
//! logs themselves.
//!
//! Absent on purpose: changing it. That is a command to shard 0 like any other.

use std::{sync::Arc, time::Duration};

use statehouse_contract::Members;
use statehouse_runtime::{Seat, reading::members_in};
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tracing::{info, warn};

/// Pause between two looks at rows that change all the time.
const LOOK: Duration = Duration::from_millis(50);

/// The members, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Roll(Arc<watch::Sender<Arc<Members>>>);

impl Default for Roll {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Arc::default())))
    }
}

impl Roll {
    /// Returns the members as they are known now.
    pub(crate) fn members(&self) -> Arc<Members> {
        Arc::clone(&self.0.borrow())
    }

    /// Returns the list as a value to watch.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Members>> {
        self.0.subscribe()
    }

    /// Takes a newer list; says so if it is another one.
    pub(crate) fn set(&self, members: Members) {
        self.0.send_if_modified(|before| {
            let is_news = **before != members;
            if is_news {
                let present: Vec<String> =
                    members.present().map(|(node, _)| node.to_string()).collect();
                info!(members = present.join(" "), "the list of members has changed");
                *before = Arc::new(members);
            }
            is_news
        });
    }

    /// Takes the list from the rows of shard 0 as they are now.
    pub(crate) fn look(&self, registry: &Seat) {
        match members_in(&registry.log().view()) {
            Ok(members) => self.set(members),
            Err(why) => warn!(%why, "the members cannot be read"),
        }
    }

    /// Follows the rows of shard 0 until the shard ends; tells `also` at every look, for what else lives there.
    pub(crate) fn follow(
        &self,
        registry: Arc<Seat>,
        also: impl Fn() + Send + 'static,
    ) -> JoinHandle<()> {
        let roll = self.clone();
        tokio::spawn(async move {
            let mut applied = registry.log().applied();
            loop {
                roll.look(&registry);
                also();
                sleep(LOOK).await;
                if applied.changed().await.is_err() {
                    return;
                }
            }
        })
    }
}
