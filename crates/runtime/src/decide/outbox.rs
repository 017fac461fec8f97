//! What a step sends away: rows of the outbox, and events that watchers see.
//!
//! A row is a whole command with its target; only its key is missing, because that is its place: sender, version, number.
//!
//! Absent on purpose: delivery, and its answers.

use statehouse_chart::{ChildOrder, Effect, Snapshot, WorkKey};
use statehouse_contract::{
    Command, DefinitionName, DefinitionRef, InstanceId, InstanceKey, Json, Target, Verb, id::base32,
};
use statehouse_store::entry::OutboxChange;

use super::{Standing, transition::json};

/// Returns the changes of an instance's outbox, and what it emitted.
pub(super) fn changes(
    key: &InstanceKey,
    before: &Snapshot,
    effects: &[Effect],
    standing: Option<&Standing>,
) -> (Vec<OutboxChange>, Vec<Json>) {
    let (mut rows, mut emitted) = (Vec::new(), Vec::new());
    let mut add = |to: InstanceKey, command: Command| {
        let n = u32::try_from(rows.len()).expect("a step's effects are bounded");
        rows.push(OutboxChange::Add { n, to: Target::Instance(to), command: Box::new(command) });
    };
    let parent = || standing.and_then(|standing| standing.parent.as_ref());
    for effect in effects {
        match effect {
            Effect::StartChild(order) => {
                if let Some(command) = start_of(order) {
                    add(child_key(key, order.work, &order.invoke, order.item), command);
                }
            }
            Effect::CancelChild { work } => {
                if let Some(child) = open_child(key, before, *work) {
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
                if let Some(parent) = parent() {
                    let command =
                        Command::Signal { event: event.as_str().into(), data: json(data) };
                    add(parent.instance.clone(), command);
                }
            }
            Effect::Emit { event, data } => {
                emitted.push(emitted_event(event, &json(data)));
            }
            Effect::Log { value } => {
                emitted.push(Json::from_trusted(format!("{{\"log\":{}}}", json(value).as_str())));
            }
            // A parent is told by the organ that delivers, once instances can have one.
            Effect::TellParent(_)
            | Effect::StartTimer { .. }
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

fn emitted_event(event: &str, data: &Json) -> Json {
    let name = serde_json::Value::from(event);
    Json::from_trusted(format!("{{\"event\":{name},\"data\":{}}}", data.as_str()))
}

fn start_of(order: &ChildOrder) -> Option<Command> {
    let definition = DefinitionRef {
        name: DefinitionName::parse(&order.definition).ok()?,
        version: order.definition_version.and_then(|version| u32::try_from(version).ok()),
        digest: None,
    };
    Some(Command::Start { definition, input: json(&order.input) })
}

/// Returns the id of a child: `c-` and 26 characters of the hash of what makes it the one it is.
fn child_key(parent: &InstanceKey, work: WorkKey, invoke: &str, item: Option<u32>) -> InstanceKey {
    let text = format!(
        "{}\0{}\0{}\0{invoke}\0{}",
        parent.tenant,
        parent.instance,
        work.version,
        item.map(|item| item.to_string()).unwrap_or_default()
    );
    let digest = statehouse_contract::Digest::of(text.as_bytes());
    let id = format!("c-{}", base32(&digest.0, 26));
    let instance = InstanceId::parse(&id).expect("base32 letters are letters of an instance id");
    InstanceKey { tenant: parent.tenant.clone(), instance }
}

/// Returns the child that a piece of open work is.
fn open_child(key: &InstanceKey, before: &Snapshot, work: WorkKey) -> Option<InstanceKey> {
    let open = before.work(work)?;
    // The invoke's id is not in the snapshot; its source and place name the child as well.
    Some(child_key(key, work, &open.src, open.item))
}
