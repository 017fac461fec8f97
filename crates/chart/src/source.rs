//! A definition as its author wrote it: the tree of keywords, every node with its place.
//!
//! `Source::parse` (in `source/parse.rs`) turns a loaded document into this tree and collects every trouble of shape on the
//! way: unknown keywords, wrong kinds of values, closed objects. It goes on after a trouble, so that one run reports all.
//! The validator and the compiler both read this tree and nothing else.
//!
//! Deliberately absent: any judgement that needs two nodes at once (targets, ids, reachability, types). Names are texts
//! here; they become indexes in `compile.rs`.
//!
//! Invariants: lists stand in the order of the document; a [`Spot`] always points into the authored text.

mod action;
mod invoke;
mod parse;
mod reader;
mod state;
mod work;

pub use invoke::{BUILT_IN, BUILT_IN_QUEUE};
pub(crate) use parse::is_root_only;
pub use parse::{FORMAT, LIMITS};
pub use work::{Compensate, ForEach, Invoke, Retry, RetryUse, Src, Undo};

use crate::{
    document::{Document, Node},
    finding::Place,
    lost::Lost,
};

/// Where a node stands: its JSON pointer and its line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The JSON pointer; the root is the empty text.
    pub pointer: String,
    /// Line and column.
    pub place: Place,
}

/// A part of the document that is read elsewhere, such as a schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// The part.
    pub node: Node,
    /// Where it stands.
    pub spot: Spot,
}

/// A text of the author and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text itself.
    pub text: String,
    /// Where the value stands.
    pub spot: Spot,
}

impl Text {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A number of the author and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// The number.
    pub value: u64,
    /// Where it stands.
    pub spot: Spot,
}

/// The whole authored definition.
#[derive(Clone, Debug)]
pub struct Source {
    /// The document itself: its canonical text is what is stored and what the digest is taken of.
    pub document: Document,
    /// `format`, for example `statehouse/1`; conformance cases have none.
    pub format: Option<Text>,
    /// `version`.
    pub version: Option<Whole>,
    /// `schemas`, unread: `schema.rs` reads them.
    pub schemas: Vec<Named<Raw>>,
    /// `commands`.
    pub commands: Vec<Named<Command>>,
    /// `signals`.
    pub signals: Vec<Named<Signal>>,
    /// `events`: types of raised events.
    pub events: Vec<Named<Signal>>,
    /// `tasks`: types of tasks.
    pub tasks: Vec<Named<TaskType>>,
    /// `start`.
    pub start: Option<Start>,
    /// `delays`.
    pub delays: Vec<Named<Delay>>,
    /// `retries`.
    pub retries: Vec<Named<Retry>>,
    /// `guards`: guards used by `{ref: name}`.
    pub guards: Vec<Named<Expression>>,
    /// `actions`: lists of actions used by `{do: name}`.
    pub actions: Vec<Named<Vec<Action>>>,
    /// `limits`.
    pub limits: Vec<Named<Whole>>,
    /// `context`: the initialiser, one template a field.
    pub context: Option<Template>,
    /// `migrations`.
    pub migrations: Vec<Migration>,
    /// The root state: its key and id are the definition's `id`.
    pub root: State,
    /// What was written and could not be read.
    pub(crate) lost: Vec<Lost>,
}

/// Something with a name, in the order of the document.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T> {
    /// The name; its spot is that of the value.
    pub name: Text,
    /// What it names.
    pub value: T,
}

/// One of `commands`.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Where it stands.
    pub spot: Spot,
    /// `schema` of the payload, unread.
    pub schema: Option<Raw>,
    /// `reply`: schema of the reply, unread.
    pub reply: Option<Raw>,
    /// `role` that a sender needs.
    pub role: Option<Text>,
    /// `deadline` of a postponed one.
    pub deadline: Option<Delay>,
}

/// One of `signals` or `events`.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Where it stands.
    pub spot: Spot,
    /// `schema` of the payload, unread.
    pub schema: Option<Raw>,
}

/// One of `tasks`: the type of a task kind.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskType {
    /// Where it stands.
    pub spot: Spot,
    /// `input` schema, unread.
    pub input: Option<Raw>,
    /// `output` schema, unread.
    pub output: Option<Raw>,
    /// `errors`: the codes it may fail with.
    pub errors: Vec<Text>,
    /// `queue` that workers poll.
    pub queue: Option<Text>,
}

/// `start`: who may start an instance and with what.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Where it stands.
    pub spot: Spot,
    /// `role` that a starter needs.
    pub role: Option<Text>,
    /// `schema` of the input, unread.
    pub schema: Option<Raw>,
}

/// One of `migrations`.
#[derive(Clone, Debug, PartialEq)]
pub struct Migration {
    /// Where it stands.
    pub spot: Spot,
    /// `from`: the version it starts at.
    pub from: Whole,
    /// `states`: old id to new id.
    pub states: Vec<Named<Text>>,
    /// `context`: the new context.
    pub context: Option<Template>,
    /// `when`: a condition on the old context.
    pub when: Option<Expression>,
}

/// `type` of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No children.
    Atomic,
    /// One child is active.
    Compound,
    /// All children are active.
    Parallel,
    /// The end of its parent.
    Final,
    /// Stands for what was active last.
    History,
}

/// What a history state remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The active children of its parent.
    Shallow,
    /// The active leaves below its parent.
    Deep,
}

/// One state.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Where it stands.
    pub spot: Spot,
    /// Its key below `states`; of the root: the definition's id.
    pub key: String,
    /// Its explicit `id`, if it has one.
    pub id: Option<Text>,
    /// What it is, by `type` or by its children.
    pub kind: Kind,
    /// `type` as written.
    pub kind_said: Option<Text>,
    /// `history`, if written.
    pub history: Option<(Depth, Spot)>,
    /// `target` of a history state: its default.
    pub default: Vec<Text>,
    /// `initial`.
    pub initial: Option<Initial>,
    /// `entry` actions.
    pub entry: Vec<Action>,
    /// `exit` actions.
    pub exit: Vec<Action>,
    /// `on`: descriptors in written order.
    pub on: Vec<Named<Vec<Transition>>>,
    /// `always`: eventless transitions.
    pub always: Vec<Transition>,
    /// `after`: state timeouts.
    pub after: Vec<Timeout>,
    /// `idle`: event timeouts.
    pub idle: Vec<Timeout>,
    /// `onDone` of the state itself.
    pub on_done: Vec<Transition>,
    /// `invoke`.
    pub invokes: Vec<Invoke>,
    /// `postpone`: descriptors kept for a later state.
    pub postpone: Vec<Text>,
    /// `tags`.
    pub tags: Vec<Text>,
    /// `output` of a final state, or of the root.
    pub output: Option<Template>,
    /// `error` of a final state.
    pub error: Option<Failure>,
    /// `endless`: no final state need be reachable from here.
    pub endless: bool,
    /// `description`.
    pub description: Option<Text>,
    /// `states` in document order.
    pub states: Vec<State>,
    /// Every keyword that was written, with its spot.
    pub keywords: Vec<Text>,
}

impl State {
    /// Returns the id by which targets and answers name this state.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.as_ref().map_or(&self.key, |id| &id.text)
    }

    /// Returns the spot of a keyword of this state, or of the state itself where it was not written.
    #[must_use]
    pub fn keyword(&self, keyword: &str) -> &Spot {
        self.keywords.iter().find(|text| text.text == keyword).map_or(&self.spot, |text| &text.spot)
    }
}

/// `initial` of a compound state.
#[derive(Clone, Debug, PartialEq)]
pub struct Initial {
    /// Where it stands.
    pub spot: Spot,
    /// The targets: a child's key, or `#id` below the state.
    pub targets: Vec<Text>,
    /// `actions` taken on the way in.
    pub actions: Vec<Action>,
}

/// `error` of a final state.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Where it stands.
    pub spot: Spot,
    /// `code`.
    pub code: Template,
    /// `message`.
    pub message: Option<Template>,
}

/// One entry of `after` or `idle`.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeout {
    /// The key as written: it is part of the event's name.
    pub key: Text,
    /// How long.
    pub delay: Delay,
    /// What then happens.
    pub transitions: Vec<Transition>,
}

/// One transition.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Where it stands.
    pub spot: Spot,
    /// `target`: none, one or several.
    pub targets: Vec<Text>,
    /// `guard`.
    pub guard: Option<Guard>,
    /// `actions`.
    pub actions: Vec<Action>,
    /// `reenter: true`.
    pub reenter: bool,
    /// `reject`.
    pub reject: Option<Reject>,
    /// `postpone: true`.
    pub postpone: bool,
    /// Every keyword that was written, with its spot.
    pub keywords: Vec<Text>,
}

impl Transition {
    /// Returns the spot of a keyword, or of the transition itself where it was not written.
    #[must_use]
    pub fn keyword(&self, keyword: &str) -> &Spot {
        self.keywords.iter().find(|text| text.text == keyword).map_or(&self.spot, |text| &text.spot)
    }
}

/// `reject: {code, message}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject {
    /// Where it stands.
    pub spot: Spot,
    /// The author's own code.
    pub code: Text,
    /// What a person reads.
    pub message: Option<Text>,
}

/// A guard: CEL, or the name of one of `guards`.
#[derive(Clone, Debug, PartialEq)]
pub enum Guard {
    /// The expression itself.
    Expression(Expression),
    /// `{ref: name}`.
    Ref(Text),
}

/// A CEL text, without `${` and `}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// The CEL.
    pub text: String,
    /// Where the string that holds it stands.
    pub spot: Spot,
}

/// JSON in which a string that is wholly `${cel}` is that value.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Where it stands.
    pub spot: Spot,
    /// What it makes.
    pub shape: Shape,
}

/// The kinds of template.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// The same value each time; `$${` is already `${`.
    Constant(crate::value::Value),
    /// The value of an expression.
    Expression(Expression),
    /// A list.
    List(Vec<Template>),
    /// An object, in written order.
    Object(Vec<Named<Template>>),
}

/// How long, as an author says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Delay {
    /// Where it stands.
    pub spot: Spot,
    /// The length.
    pub length: Length,
}

/// The kinds of delay.
#[derive(Clone, Debug, PartialEq)]
pub enum Length {
    /// A literal such as `15m`, in milliseconds.
    Fixed(u64),
    /// One of `delays`.
    Ref(String),
    /// A duration, a text that is one, or a timestamp.
    Expression(Expression),
}

/// One action.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// Where it stands.
    pub spot: Spot,
    /// What it does.
    pub act: Act,
}

/// The kinds of action.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// `assign`: whole top-level fields of the context; all right sides see the old one.
    Assign(Vec<Named<Template>>),
    /// `unset`: removes optional fields of the context.
    Unset(Vec<Text>),
    /// `raise`.
    Raise(Raise),
    /// `cancel` of a named timer.
    Cancel(Text),
    /// `sendTo` another instance of the tenant.
    SendTo {
        /// `workflow`: the instance's id.
        workflow: Template,
        /// `event`.
        event: Text,
        /// `data`.
        data: Option<Template>,
    },
    /// `sendParent`.
    SendParent(Message),
    /// `emit`.
    Emit(Message),
    /// `log`.
    Log(Template),
    /// `reply` to the command.
    Reply(Template),
    /// `choose`: the first branch whose guard is true.
    Choose(Vec<Branch>),
    /// `{do: name}`.
    Do(Text),
}

/// `raise`.
#[derive(Clone, Debug, PartialEq)]
pub struct Raise {
    /// `event`.
    pub event: Text,
    /// `data`.
    pub data: Option<Template>,
    /// `delay`.
    pub delay: Option<Delay>,
    /// `id`: the timer's name.
    pub id: Option<Text>,
}

/// An event with data, for `emit` and `sendParent`.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// `event`.
    pub event: Text,
    /// `data`.
    pub data: Option<Template>,
}

/// One branch of `choose`.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// Where it stands.
    pub spot: Spot,
    /// `guard`; without one the branch is always taken.
    pub guard: Option<Guard>,
    /// `actions`.
    pub actions: Vec<Action>,
}
