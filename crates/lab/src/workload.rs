//! What a load run does: a definition and the commands of one journey through it, or reads.
//!
//! A journey is one instance: its start, then each command in order, each answered before the next is sent. The default
//! is the order that is embedded here, the same file that an operator finds among the worked examples.

use std::time::Duration;

use serde_json::{Value, json};

/// The default definition.
pub const BENCH_ORDER: &str = include_str!("../../../config/definitions/bench-order.yaml");

/// One command of a journey.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The event's name.
    pub event: String,
    /// Its payload.
    pub data: Value,
}

/// A definition and the journey through it.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The definition as its author wrote it; deployed before the run.
    pub document: String,
    /// The input of the start; the text `$id` in it becomes the instance's id.
    pub input: Value,
    /// The commands after the start.
    pub steps: Vec<Step>,
}

/// What a run asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Journeys: starts and commands.
    Commands,
    /// Reads of instances that the run starts first.
    Reads {
        /// `linearizable`, `leader` or `stale`.
        consistency: &'static str,
        /// How many instances are read in turn.
        instances: u32,
    },
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After this long, the warm-up not counted.
    For(Duration),
    /// After this many measured requests.
    Count(u64),
}

/// Why a workload cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A command is not written as `name` or `name=json`.
    #[error("command {0:?} is not of the form name or name={{json}}")]
    Step(String),
    /// The input is not JSON.
    #[error("the input is not JSON")]
    Input(#[source] serde_json::Error),
}

impl Workload {
    /// Returns the default: an order with a start and four commands.
    pub fn order() -> Self {
        let step = |event: &str, data| Step { event: event.to_owned(), data };
        Self {
            document: BENCH_ORDER.to_owned(),
            input: json!({ "orderId": "$id", "amount": 1200 }),
            steps: vec![
                step("add_item", json!({ "sku": "kettle-2l", "price": 3400 })),
                step("pay", json!({ "amount": 4600 })),
                step("ship", json!({ "carrier": "north" })),
                step("deliver", json!({})),
            ],
        }
    }

    /// Reads a journey from text: the input as JSON, each command as `name` or `name={json}`.
    ///
    /// # Errors
    /// The input or a command is not of its form.
    pub fn parse(document: String, input: &str, steps: &[String]) -> Result<Self, WorkloadError> {
        let input = serde_json::from_str(input).map_err(WorkloadError::Input)?;
        let read = |text: &String| {
            let (event, data) = text.split_once('=').unwrap_or((text, "{}"));
            let data = serde_json::from_str::<Value>(data).ok().filter(Value::is_object);
            match data {
                Some(data) if !event.is_empty() => Ok(Step { event: event.to_owned(), data }),
                Some(_) | None => Err(WorkloadError::Step(text.clone())),
            }
        };
        Ok(Self { document, input, steps: steps.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Returns how many requests a journey takes.
    pub(crate) fn requests(&self) -> usize {
        1 + self.steps.len()
    }

    /// Returns the name of a request, the start first.
    pub(crate) fn name(&self, step: usize) -> &str {
        step.checked_sub(1)
            .and_then(|at| self.steps.get(at))
            .map_or("start", |step| step.event.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journey_is_read_from_text() {
        let read = |steps: &[&str]| {
            let steps: Vec<String> = steps.iter().map(|step| (*step).to_owned()).collect();
            Workload::parse("id: x".to_owned(), "{}", &steps)
        };
        let workload = read(&["pay={\"amount\":1}", "ship"]).unwrap();
        assert_eq!(workload.steps[0].data["amount"], 1);
        assert_eq!((workload.name(0), workload.name(2), workload.requests()), ("start", "ship", 3));
        assert!(matches!(read(&["pay=[1]"]), Err(WorkloadError::Step(_))));
        assert!(matches!(read(&["={}"]), Err(WorkloadError::Step(_))));
        assert!(matches!(Workload::parse(String::new(), "{", &[]), Err(WorkloadError::Input(_))));
    }

    #[test]
    fn the_default_sends_only_commands_that_its_definition_declares() {
        let declared = BENCH_ORDER
            .split("\ncommands:\n")
            .nth(1)
            .unwrap()
            .split("\ncontext:\n")
            .next()
            .unwrap();
        for step in Workload::order().steps {
            assert!(
                declared.contains(&format!("\n  {}:", step.event))
                    || declared.starts_with(&format!("  {}:", step.event)),
                "{}",
                step.event
            );
        }
    }
}
