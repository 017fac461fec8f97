//! What a step sends away: rows of the outbox, and events that watchers see.
//!
//! A row is a whole command with its target; only its key is missing, because that is its place: sender, version, number.
//!
//! Absent on purpose: delivery, and its answers.

use statehouse_chart::{Chart, ChildOrder, Effect, Ending, Snapshot, WorkKey};
use statehouse_contract::{
    ChildEnding, Command, DefinitionName, DefinitionRef, InstanceId, InstanceKey, Json, ParentRef,
    Target, Verb, id::base32,
};
use statehouse_store::entry::{OutboxChange, Parent};

use super::transition::json;

/// Who sends, and as what.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    /// The instance.
    pub(super) key: &'a InstanceKey,
    /// The chart by which it stood before the step.
    pub(super) chart: &'a Chart,
    /// As it was before the step.
    pub(super) before: &'a Snapshot,
    /// As it is after the step.
    pub(super) after: &'a Snapshot,
    /// Who started it.
    pub(super) parent: Option<&'a Parent>,
}

/// Returns the changes of an instance's outbox, and what it emitted.
pub(super) fn changes(sender: Sender<'_>, effects: &[Effect]) -> (Vec<OutboxChange>, Vec<Json>) {
    let Sender { key, parent, .. } = sender;
    let (mut rows, mut emitted) = (Vec::new(), Vec::new());
    let mut add = |to: InstanceKey, command: Command| {
        let n = u32::try_from(rows.len()).expect("a step's effects are bounded");
        rows.push(OutboxChange::Add { n, to: Target::Instance(to), command: Box::new(command) });
    };
    for effect in effects {
        match effect {
            Effect::StartChild(order) => {
                if let Some(command) = start_of(sender, order) {
                    add(child_key(sender, order.work, &order.invoke, order.item), command);
                }
            }
            Effect::CancelChild { work } => {
                // It leaves after the start, so it meets the child, or a start that was refused.
                if let Some(child) = open_child(sender, *work) {
                    add(child, Command::Operate(Verb::Cancel));
                }
            }
            Effect::Send { instance, event, data } => {
                // A name that is none reaches nobody; the definition's author sees it in the history.
                if let Ok(instance) = InstanceId::parse(instance) {
                    let to = InstanceKey { tenant: key.tenant.clone(), instance };
                    add(to, Command::Signal { event: event.as_str().into(), data: json(data) });
                }
            }
            Effect::SendParent { event, data } => {
                if let Some(parent) = parent {
                    let command =
                        Command::Signal { event: event.as_str().into(), data: json(data) };
                    add(parent.instance.clone(), command);
                }
            }
            Effect::TellParent(ending) => {
                if let Some(parent) = parent {
                    let command =
                        Command::ChildEnded { work: work_of(parent), ending: ending_of(ending) };
                    add(parent.instance.clone(), command);
                }
            }
            Effect::Emit { event, data } => {
                emitted.push(emitted_event(event, &json(data)));
            }
            Effect::Log { value } => {
                emitted.push(Json::from_trusted(format!("{{\"log\":{}}}", json(value).as_str())));
            }
            Effect::StartTimer { .. }
            | Effect::CancelTimer { .. }
            | Effect::HoldTimers
            | Effect::ReleaseTimers
            | Effect::StartPostpone { .. }
            | Effect::EndPostpone { .. }
            | Effect::RunQueue
            | Effect::ScheduleTask(_)
            | Effect::CancelTask { .. }
            | Effect::CloseTask { .. } => {}
        }
    }
    (rows, emitted)
}

fn work_of(parent: &Parent) -> ParentRef {
    ParentRef {
        instance: parent.instance.clone(),
        born: parent.born,
        version: parent.work.version,
        n: parent.work.n,
        depth: parent.depth,
    }
}

fn ending_of(ending: &Ending) -> ChildEnding {
    match ending {
        Ending::Done { output } => ChildEnding::Done { output: json(output) },
        Ending::Failed { code, message } => {
            ChildEnding::Failed { code: code.as_str().into(), message: message.as_str().into() }
        }
    }
}

fn emitted_event(event: &str, data: &Json) -> Json {
    let name = serde_json::Value::from(event);
    Json::from_trusted(format!("{{\"event\":{name},\"data\":{}}}", data.as_str()))
}

fn start_of(sender: Sender<'_>, order: &ChildOrder) -> Option<Command> {
    let definition = DefinitionRef {
        name: DefinitionName::parse(&order.definition).ok()?,
        version: order.definition_version.and_then(|version| u32::try_from(version).ok()),
        digest: None,
    };
    let parent = ParentRef {
        instance: sender.key.clone(),
        // The row of the outbox knows it: the birth of an instance is the position of the entry that is being made.
        born: 0,
        version: order.work.version,
        n: order.work.number,
        depth: sender.parent.map_or(0, |parent| parent.depth) + 1,
    };
    Some(Command::StartChild { definition, input: json(&order.input), parent })
}

/// Returns the id of a child: `c-` and 26 characters of the hash of what makes it the one it is. The time of the parent's
/// start is part of it, so that a parent that is born again under its old name does not meet its old children.
fn child_key(sender: Sender<'_>, work: WorkKey, invoke: &str, item: Option<u32>) -> InstanceKey {
    let parent = sender.key;
    let text = format!(
        "{}\0{}\0{}\0{}\0{invoke}\0{}",
        parent.tenant,
        parent.instance,
        sender.after.started_at.0,
        work.version,
        item.map(|item| item.to_string()).unwrap_or_default()
    );
    let digest = statehouse_contract::Digest::of(text.as_bytes());
    let id = format!("c-{}", base32(&digest.0, 26));
    let instance = InstanceId::parse(&id).expect("base32 letters are letters of an instance id");
    InstanceKey { tenant: parent.tenant.clone(), instance }
}

/// Returns the child that a piece of open work is.
fn open_child(sender: Sender<'_>, work: WorkKey) -> Option<InstanceKey> {
    let open = sender.before.work(work)?;
    Some(child_key(sender, work, sender.chart.invoke_id(open.invoke), open.item))
}
