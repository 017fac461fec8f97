//! Every bound that Statehouse has, under one name each.
//!
//! A limit is a decision: it is imported from here, never retyped. Sizes are bytes, times are
//! milliseconds, counts are counts; the unit is the last word but one of the name.
//!
//! Absent on purpose: anything that an operator sets. Those values live in the configuration and are
//! themselves bounded by the constants here. The relations at the end are checked by the compiler.

/// Longest name of a tenant.
pub const TENANT_BYTES_MAX: usize = 64;
/// Longest instance id.
pub const INSTANCE_BYTES_MAX: usize = 128;
/// Longest idempotency key.
pub const KEY_BYTES_MAX: usize = 128;
/// Longest correlation id.
pub const CORRELATION_BYTES_MAX: usize = 128;
/// Longest `reason` that an operator may give.
pub const REASON_BYTES_MAX: usize = 1_024;
/// Longest name of an actor (the holder of a credential).
pub const ACTOR_BYTES_MAX: usize = 128;
/// Longest name of a definition, state, event, command, role or queue.
pub const NAME_BYTES_MAX: usize = 128;

/// Largest definition document.
pub const DEFINITION_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting of a definition document, counted in YAML or JSON containers.
pub const DOCUMENT_DEPTH_MAX: usize = 64;
/// Most states in a definition.
pub const STATES_MAX: usize = 500;
/// Deepest nesting of states.
pub const STATE_DEPTH_MAX: usize = 10;
/// Most transitions in a definition.
pub const TRANSITIONS_MAX: usize = 2_000;
/// Longest CEL expression.
pub const EXPRESSION_BYTES_MAX: usize = 1_024;
/// Deepest syntax tree of a CEL expression.
pub const EXPRESSION_DEPTH_MAX: usize = 32;
/// Deepest nesting of CEL comprehensions.
pub const COMPREHENSION_DEPTH_MAX: usize = 2;
/// Most steps that the comprehensions of one expression may take, by the product of their list sizes.
pub const COMPREHENSION_STEPS_MAX: u64 = 1_000_000;

/// Largest context of an instance, as canonical JSON.
pub const CONTEXT_BYTES_MAX: usize = 64 * 1024;
/// Largest payload of an event.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024;
/// Most microsteps in one macrostep.
pub const MICROSTEPS_MAX: u32 = 100;
/// Most events raised within one macrostep.
pub const RAISED_MAX: u32 = 100;
/// Most postponed events of an instance.
pub const POSTPONED_MAX: u32 = 64;
/// Largest sum of the postponed payloads of an instance.
pub const POSTPONED_BYTES_MAX: usize = 256 * 1024;
/// Most running timers of an instance.
pub const TIMERS_MAX: u32 = 64;
/// Most open tasks of an instance.
pub const TASKS_MAX: u32 = 32;
/// Most macrosteps in a row that an instance takes from its own queue.
pub const QUEUE_RUN_MAX: u32 = 1_000;
/// Most signals that a paused or faulted instance keeps in its inbox.
pub const INBOX_SIGNALS_MAX: u32 = 64;
/// Highest value a definition may set for its own microsteps and raised events.
pub const STEP_CEILING: u32 = 1_000;

/// Largest entry of the log, encoded.
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Largest frame that the codec writes or reads.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most operations that one write of the log file carries.
pub const LOG_BATCH_OPERATIONS_MAX: usize = 4_096;
/// Most bytes that one write of the log file carries.
pub const LOG_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most proposals that are waiting at one shard.
pub const PROPOSALS_MAX: usize = 4_096;
/// Size of the write-ahead file at which the log file is checkpointed.
pub const LOG_WAL_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Size of the write-ahead file at which a state file is checkpointed between two batches.
pub const STATE_WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Disk space that client commands may not use up.
pub const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// Disk space by which each stage of a full disk comes before the next one: no snapshots, no starts, no commands.
pub const DISK_STAGE_BYTES: u64 = 64 * 1024 * 1024;
/// Entries of a shard after which a snapshot is made, unless told otherwise.
pub const SNAPSHOT_EVERY_ENTRIES: u64 = 100_000;
/// Fewest entries between two snapshots of a shard.
pub const SNAPSHOT_EVERY_ENTRIES_MIN: u64 = 100;
/// Most entries between two snapshots of a shard: a start reads as many again.
pub const SNAPSHOT_EVERY_ENTRIES_MAX: u64 = 10_000_000;

/// Fixed number of slices of all keys. Never changes.
pub const BUCKETS: u16 = 4_096;
/// Most shards of a cluster.
pub const SHARDS_MAX: u32 = 256;
/// Shards of a `dev` node unless told otherwise.
pub const DEV_SHARDS: u32 = 4;

/// Deadline of a command that names none.
pub const DEADLINE_MS_DEFAULT: u64 = 10_000;
/// Longest deadline of a command.
pub const DEADLINE_MS_MAX: u64 = 60_000;
/// Time that a postponed command waits unless it or its definition says otherwise.
pub const POSTPONE_MS_DEFAULT: u64 = 60_000;
/// Longest time that a postponed command may wait.
pub const POSTPONE_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Shortest time that a receipt is kept, in shard time.
pub const RECEIPT_KEEP_MS_MIN: u64 = 24 * 3_600_000;
/// Longest time that a definition may ask for.
pub const RECEIPT_KEEP_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Time that the rows of a finished instance stay.
pub const FINISHED_KEEP_MS: u64 = 7 * 24 * 3_600_000;
/// Time from SIGTERM to the end of the process.
pub const DRAIN_MS_MAX: u64 = 10_000;

/// Commands that one node lets in at once.
pub const INGRESS_PERMITS: usize = 4_096;
/// Commands that were let in at other nodes and that one node works on at once.
pub const FORWARDED_PERMITS: usize = 4_096;
/// Commands that one shard works on at once.
pub const SHARD_PERMITS: usize = 2_048;
/// Part of a shard's permits that only completions, timers and the outbox may use.
pub const SHARD_PERMITS_RESERVED: usize = 512;
/// Commands of one tenant that one shard works on at once.
pub const TENANT_PERMITS: usize = 1_024;
/// Commands that wait at one instance.
pub const INSTANCE_WAITING_MAX: usize = 64;
/// Timers fired in one bounded read of the due table.
pub const DUE_BATCH_MAX: usize = 256;
/// Instance actors that one node keeps awake.
pub const LIVE_INSTANCES_MAX: usize = 100_000;
/// Time after which an instance without work is passivated.
pub const PASSIVATE_MS: u64 = 60_000;

/// Most tasks that one lease call gives.
pub const LEASE_TASKS_MAX: u32 = 100;
/// Most bytes of inputs that one lease call gives.
pub const LEASE_BYTES_MAX: usize = 512 * 1024;
/// Most queues that one lease call names.
pub const LEASE_QUEUES_MAX: usize = 16;
/// Length of a lease unless the call or the task's `heartbeat` says otherwise.
pub const LEASE_MS_DEFAULT: u64 = 30_000;
/// Shortest lease.
pub const LEASE_MS_MIN: u64 = 1_000;
/// Longest lease.
pub const LEASE_MS_MAX: u64 = 3_600_000;
/// Time that every live lease has at least after a change of leader.
pub const LEASE_FLOOR_MS: u64 = 5_000;
/// Largest output of a task.
pub const OUTPUT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX;
/// Longest code of a task's error.
pub const ERROR_CODE_BYTES_MAX: usize = 128;
/// Longest message of a task's error.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 2_048;
/// Lease calls that wait at one node.
pub const POLLS_MAX: usize = 4_096;
/// How late a timer may fire and still be in time.
pub const TIMER_LATE_MS_MAX: u64 = 250;
/// How long the oldest ready task of a queue may wait before that is news.
pub const QUEUE_LATE_MS: u64 = 60_000;
/// Most queues of one shard that are looked at for that.
pub const QUEUES_WATCHED_MAX: usize = 10_000;
/// Longest name of a schedule or a batch.
pub const SCHEDULE_NAME_BYTES_MAX: usize = 64;
/// Most schedules of a tenant.
pub const SCHEDULES_MAX: usize = 1_000;
/// Most batches of a tenant that are kept.
pub const BATCHES_MAX: usize = 1_000;
/// Instances a second that a batch works on, unless it says so itself.
pub const BATCH_RATE_DEFAULT: u32 = 20;
/// Most instances a second that a batch may work on.
pub const BATCH_RATE_MAX: u32 = 500;
/// Most instances of one batch that are told at once.
pub const BATCH_AT_ONCE_MAX: usize = 16;
/// Most instances that a batch names as examples of its refusals.
pub const BATCH_EXAMPLES_MAX: usize = 20;
/// Most starts of one schedule that wait: missed ones, a backfill, or those behind one that still runs.
pub const SCHEDULE_PENDING_MAX: usize = 1_000;
/// Most parents above a child: a workflow that starts itself ends here.
pub const CHILD_DEPTH_MAX: u32 = 16;
/// Deliveries of one shard's outbox that are under way at once.
pub const DELIVERIES_MAX: usize = 128;
/// Commands that the system's own organs of one node have under way to any shard.
pub const CARRIED_PERMITS: usize = 1_024;

/// Most rows on one page of an answer.
pub const PAGE_MAX: u32 = 500;
/// Most versions that are worked through to see how an instance stood once.
pub const REBUILD_VERSIONS_MAX: u64 = 20_000;
/// Rows on one page unless told otherwise.
pub const PAGE_DEFAULT: u32 = 100;
/// Age past which a copy of shard 0 lets no command and no linearizable read in: so a revoked key dies.
pub const REGISTRY_AGE_MS_MAX: u64 = 5_000;
/// Age past which a copy answers no stale read either.
pub const STALE_AGE_MS_MAX: u64 = 60_000;
/// Longest wait of a long poll.
pub const WAIT_MS_MAX: u64 = 60_000;
/// Largest request body that the API reads.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Open watches that one node serves.
pub const WATCHES_MAX: usize = 4_096;
/// Copies of shards that one node sends at once; each holds a file on its disk.
pub const COPIES_MAX: usize = 2;
/// Bytes of a copy that are read in one go.
pub const COPY_PART_BYTES: usize = 256 * 1024;
/// Open connections that one node serves.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Time within which a client must have sent its request head.
pub const HEADER_READ_MS_MAX: u64 = 10_000;

const _: () = assert!(2 * PAYLOAD_BYTES_MAX <= ENTRY_BYTES_MAX);
const _: () =
    assert!(CONTEXT_BYTES_MAX + POSTPONED_BYTES_MAX + 2 * PAYLOAD_BYTES_MAX <= ENTRY_BYTES_MAX);
const _: () = assert!(DEFINITION_BYTES_MAX * 2 <= ENTRY_BYTES_MAX);
const _: () = assert!(2 * ENTRY_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!(DEFINITION_BYTES_MAX < BODY_BYTES_MAX);
const _: () = assert!(SHARD_PERMITS_RESERVED < SHARD_PERMITS);
const _: () = assert!(SHARD_PERMITS <= PROPOSALS_MAX);
const _: () = assert!(DEADLINE_MS_DEFAULT <= DEADLINE_MS_MAX);
const _: () = assert!(RECEIPT_KEEP_MS_MIN <= RECEIPT_KEEP_MS_MAX);
