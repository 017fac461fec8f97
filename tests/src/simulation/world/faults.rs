//! What breaks a world and what mends it: deaths and returns, cuts, copies, and the healing at the end.
//!
//! A fault that names the leader means whoever leads with an open term when it happens. After the healing nothing breaks any
//! more.
//!
//! Deliberately absent: choosing. What breaks, when and for how long stands in the plan.

use super::{
    super::{
        disk::{Death, Disk},
        plan::{Fault, NODES, Which},
        replica::{Replica, Role},
        wire::Failure,
    },
    Event, MESSAGE_US, TICK_US, World,
};

impl World<'_> {
    pub(super) fn heal(&mut self) -> Result<(), Failure> {
        self.trace.take(&format!("{} heals", self.now_us));
        self.healed_at = Some(self.now_us);
        (self.loss, self.repeats, self.message_us_max) = (0, 0, MESSAGE_US.1);
        self.broken_installs = 0;
        for node in 1..=NODES {
            (self.place(node).cuts, self.place(node).silences) = (0, 0);
            if self.place(node).replica.is_none() {
                self.rise(node)?;
            }
        }
        Ok(())
    }

    /// Starts a node on what its disk holds.
    pub(super) fn rise(&mut self, node: u32) -> Result<(), Failure> {
        self.note(|| format!("{node} is up"));
        let (now_us, manners) = (self.now_us, self.manners);
        let chance = self.chance.split(u64::from(node));
        let place = self.place(node);
        place.life += 1;
        let life = place.life;
        let chance = chance.split(u64::from(life));
        let disk = Disk::open(&place.path)?;
        let mut replica = Replica::start(node, disk, chance, now_us)?;
        replica.manners = manners;
        replica.copy = place.copy.clone();
        place.replica = Some(replica);
        self.after(TICK_US * u64::from(node) / 4, Event::Tick { node, life });
        Ok(())
    }

    pub(super) fn fall(&mut self, node: u32, how: Death) -> Result<(), Failure> {
        self.note(|| format!("{node} dies: {how:?}"));
        let place = self.place(node);
        let Some(replica) = place.replica.take() else { return Ok(()) };
        place.life += 1;
        place.copy = replica.copy.clone();
        self.count(format!("death: {how:?}"));
        replica.disk.die(how)
    }

    pub(super) fn resolve(&self, which: Which) -> u32 {
        match which {
            Which::Leader => self.leader().unwrap_or(1),
            Which::Node(node) => node,
        }
    }

    pub(super) fn break_something(
        &mut self,
        number: usize,
        fault: Fault,
        (for_us, tries): (u64, u32),
    ) -> Result<(), Failure> {
        if self.healed_at.is_some() {
            return Ok(());
        }
        self.note(|| format!("{fault:?}"));
        if tries == 0 {
            self.history.fault(self.now_us, &format!("{number} {fault:?}"), "begin");
        }
        match fault {
            Fault::Kill(which) | Fault::PowerCut(which) => {
                let node = self.resolve(which);
                let is_kill = matches!(fault, Fault::Kill(_));
                self.fall(node, if is_kill { Death::Killed } else { Death::PowerCut })?;
                self.after(for_us, Event::Up { node });
            }
            Fault::PowerCutAll => {
                for node in 1..=NODES {
                    self.fall(node, Death::PowerCut)?;
                    self.after(for_us + 1_000 * u64::from(node), Event::Up { node });
                }
            }
            Fault::CutOff(which) => {
                let node = self.resolve(which);
                self.place(node).cuts += 1;
                self.after(for_us, Event::Mend { node, fault });
            }
            Fault::Unheard(which) => {
                let node = self.resolve(which);
                self.place(node).silences += 1;
                self.after(for_us, Event::Mend { node, fault });
            }
            Fault::Copy => return self.copy(number, fault, tries),
            Fault::BrokenInstall => self.broken_installs += 1,
            Fault::Campaign(node) => self.with(node, |replica| match replica.role {
                Role::Leader(_) => Ok(()),
                Role::Follower | Role::Candidate(_) => replica.campaign(),
            })?,
        }
        Ok(())
    }

    pub(super) fn copy(&mut self, number: usize, fault: Fault, tries: u32) -> Result<(), Failure> {
        let Some(leader) = self.leader() else {
            if tries < 10 {
                self.after(50_000, Event::Break { number, fault, for_us: 0, tries: tries + 1 });
            }
            return Ok(());
        };
        self.copies += 1;
        let (folder, name) = (self.folder, format!("copy-{}.db", self.copies));
        self.with(leader, |replica| replica.make_copy(folder, &name))
    }

    pub(super) fn mend(&mut self, node: u32, fault: Fault) {
        self.note(|| format!("{fault:?} is over"));
        let place = self.place(node);
        match fault {
            Fault::CutOff(_) => place.cuts = place.cuts.saturating_sub(1),
            Fault::Unheard(_) => place.silences = place.silences.saturating_sub(1),
            Fault::Kill(_)
            | Fault::PowerCut(_)
            | Fault::PowerCutAll
            | Fault::Copy
            | Fault::BrokenInstall
            | Fault::Campaign(_) => {}
        }
    }
}
