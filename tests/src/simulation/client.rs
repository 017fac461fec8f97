//! One client: it does its steps one after the other, and repeats an attempt under the same key until it knows.
//!
//! A client has one attempt at a time. It waits so long, then takes the end of the attempt for unknown and asks another node;
//! a late answer is not heard any more. After a number of tries it gives up.
//!
//! Deliberately absent: the network. The world carries what a client sends, and calls it with what arrives.

use std::collections::{BTreeMap, VecDeque};

use statehouse_contract::{Command, Json, Target, TaskId, Version};

use super::{
    chance::Chance,
    history::{Asking, History},
    plan::{NODES, Step, tenant_of},
    subject::{Answer, LEASE_MS, Out, QUEUE, definition, envelope, instance, send, tenant},
    wire::Asked,
};

/// How long an attempt is waited for, in microseconds.
const PATIENCE_US: u64 = 300_000;
/// How long a client rests after a node did nothing, in microseconds.
const PAUSE_US: u64 = 60_000;
/// Attempts after which a client gives up.
const TRIES_MAX: u32 = 25;

/// What a client asks again and again until it knows.
#[derive(Clone, Debug)]
struct Call {
    instance: Option<String>,
    key: String,
    what: What,
    expected: Option<Version>,
}

#[derive(Clone, Debug)]
enum What {
    Start,
    Send(&'static str),
    Claim,
    Complete(TaskId, u64),
    Read,
    ReadAnywhere,
}

#[derive(Debug)]
struct Trying {
    call: Call,
    attempt: u64,
    tries: u32,
}

/// What a client wants from the world.
#[derive(Debug)]
pub enum Wish {
    /// A request goes to a node; the client wants to be called after so many microseconds, whatever happens.
    Send {
        /// The node.
        node: u32,
        /// The attempt.
        attempt: u64,
        /// The request.
        asked: Asked,
        /// Its patience.
        patience_us: u64,
    },
    /// It wants to be called after so many microseconds.
    Rest(u64),
    /// It has done everything.
    Nothing,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    number: u32,
    steps: VecDeque<(u32, u64, Step)>,
    sent: Vec<Call>,
    seen: BTreeMap<String, Version>,
    trying: Option<Trying>,
    /// What it does when its rest is over.
    next: Option<Call>,
    hold_us: u64,
    leader: u32,
    chance: Chance,
    is_done: bool,
}

impl Client {
    /// Returns a client with its steps.
    #[must_use]
    pub fn new(number: u32, steps: VecDeque<(u32, u64, Step)>, chance: Chance) -> Self {
        Self {
            number,
            steps,
            sent: Vec::new(),
            seen: BTreeMap::new(),
            trying: None,
            next: None,
            hold_us: 0,
            leader: 1,
            chance,
            is_done: false,
        }
    }

    /// Returns whether it has done everything.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// Rests until its next step.
    pub fn rest(&mut self) -> Wish {
        match self.steps.front() {
            Some((_, rest_ms, _)) => Wish::Rest(rest_ms * 1_000),
            None => {
                self.is_done = true;
                Wish::Nothing
            }
        }
    }

    /// The rest is over.
    pub fn wake(&mut self, now_us: u64, history: &mut History) -> Wish {
        if let Some(trying) = self.trying.take() {
            return self.attempt(trying.call, trying.tries, now_us, history);
        }
        if let Some(call) = self.next.take() {
            return self.attempt(call, 0, now_us, history);
        }
        let Some((name, _, step)) = self.steps.pop_front() else { return self.rest() };
        match self.call(name, step) {
            Some(call) => self.attempt(call, 0, now_us, history),
            None => self.rest(),
        }
    }

    fn call(&mut self, name: u32, step: Step) -> Option<Call> {
        let pair = self.number / 2;
        let key = format!("k{pair}-{name}");
        let call = |instance: &str, what: What| Call {
            instance: Some(instance.to_owned()),
            key: key.clone(),
            what,
            expected: None,
        };
        Some(match step {
            Step::Start(instance) => call(instance, What::Start),
            Step::Send { instance, event, expects } => {
                let expected = self.seen.get(instance).copied().filter(|_| expects);
                Call { expected, ..call(instance, What::Send(event)) }
            }
            Step::Again(draw) => {
                let index = draw.checked_rem(self.sent.len() as u64)?;
                self.sent.get(usize::try_from(index).ok()?)?.clone()
            }
            Step::Read(instance) => call(instance, What::Read),
            Step::ReadAnywhere(instance) => call(instance, What::ReadAnywhere),
            Step::Work(hold_ms) => {
                self.hold_us = hold_ms * 1_000;
                let key = format!("w{}-{name}", self.number);
                Call { instance: None, key, what: What::Claim, expected: None }
            }
        })
    }

    fn attempt(&mut self, call: Call, tries: u32, now_us: u64, history: &mut History) -> Wish {
        let node = match call.what {
            What::ReadAnywhere => self.any_node(),
            What::Start | What::Send(_) | What::Claim | What::Complete(..) | What::Read => {
                self.leader
            }
        };
        let attempt = history.asked(now_us, &self.asking(&call));
        let asked = self.asked(&call);
        self.trying = Some(Trying { call, attempt, tries: tries + 1 });
        Wish::Send { node, attempt, asked, patience_us: PATIENCE_US }
    }

    fn any_node(&mut self) -> u32 {
        u32::try_from(self.chance.between(1, NODES.into())).unwrap_or(1)
    }

    fn asking<'a>(&self, call: &'a Call) -> Asking<'a> {
        let (op, cmd, level) = match &call.what {
            What::Start => ("cmd", Some("start"), None),
            What::Send(event) => ("cmd", Some(*event), None),
            What::Claim => ("lease", None, None),
            What::Complete(..) => ("done", None, None),
            What::Read => ("read", None, Some("lin")),
            What::ReadAnywhere => ("read", None, Some("stale")),
        };
        let task = match &call.what {
            What::Complete(task, token) => Some((task.to_string(), *token)),
            What::Start | What::Send(_) | What::Claim | What::Read | What::ReadAnywhere => None,
        };
        Asking {
            client: self.number,
            tenant: tenant_of(self.number),
            instance: call.instance.as_deref().filter(|_| op != "done"),
            op,
            key: (op == "cmd").then_some(&*call.key),
            cmd,
            expected: call.expected.map(|version| version.version),
            level,
            task,
        }
    }

    fn asked(&self, call: &Call) -> Asked {
        let mine = tenant_of(self.number);
        let key = || instance(mine, call.instance.as_deref().unwrap_or_default());
        let (target, command) = match &call.what {
            What::Read => return Asked::Read(key()),
            What::ReadAnywhere => return Asked::ReadHere(key()),
            What::Start => {
                let (definition, input) = (definition(), Json::empty_object());
                (Target::Instance(key()), Command::Start { definition, input })
            }
            What::Send(event) => (Target::Instance(key()), send(event)),
            What::Complete(task, token) => {
                let (task, token, output) = (task.clone(), *token, Json::empty_object());
                (Target::Instance(key()), Command::CompleteTask { task, token, output })
            }
            What::Claim => {
                let command = Command::LeaseTasks {
                    queues: vec![QUEUE.into()],
                    max: 1,
                    lease_ms: LEASE_MS.unsigned_abs(),
                    worker: format!("worker-{}", self.number).into(),
                };
                (Target::Tenant(tenant(mine)), command)
            }
        };
        let actor = format!("client-{}", self.number);
        let envelope = Box::new(envelope((target, &actor), (&call.key, command), call.expected));
        match &call.what {
            What::Claim => Asked::Claim(envelope),
            What::Start | What::Send(_) | What::Complete(..) | What::Read | What::ReadAnywhere => {
                Asked::Command(envelope)
            }
        }
    }

    /// An answer arrives, or patience is over: then there is none.
    pub fn hear(
        &mut self,
        attempt: u64,
        answer: Option<Answer>,
        now_us: u64,
        history: &mut History,
    ) -> Option<Wish> {
        let tries = self.trying.as_ref().filter(|trying| trying.attempt == attempt)?.tries;
        let unknown = || Answer { out: Out::Unknown, ..Answer::default() };
        let is_silent = answer.is_none();
        let answer = answer.unwrap_or_else(unknown);
        history.told(now_us, attempt, &answer);
        let is_known = !matches!(answer.out, Out::Fail | Out::Unknown);
        if is_known || tries >= TRIES_MAX {
            let trying = self.trying.take()?;
            return Some(self.know(trying.call, answer));
        }
        let any = self.any_node();
        self.leader = answer.hint.unwrap_or(any);
        if let Some(trying) = &mut self.trying {
            // Nobody answers to this attempt any more.
            trying.attempt = 0;
        }
        Some(Wish::Rest(if is_silent { 0 } else { PAUSE_US + self.chance.below(PAUSE_US) }))
    }

    fn know(&mut self, call: Call, answer: Answer) -> Wish {
        if let (Some(instance), Some(version)) = (&call.instance, answer.version)
            && version.born != 0
        {
            self.seen.insert(instance.clone(), version);
        }
        match &call.what {
            What::Start | What::Send(_) => self.sent.push(call),
            What::Claim => {
                if let Some((task, token)) = answer.task {
                    let instance = Some(task.instance.as_str().to_owned());
                    let what = What::Complete(task, token);
                    self.next = Some(Call { instance, key: call.key, what, expected: None });
                    return Wish::Rest(self.hold_us);
                }
            }
            What::Complete(..) | What::Read | What::ReadAnywhere => {}
        }
        self.rest()
    }
}
