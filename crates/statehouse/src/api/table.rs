//! Every route, one row each.
//!
//! The paths of `api.md`, section 1, in its order. A row says who may call it, what it takes and how it
//! answers well; how it answers badly is the same everywhere (`problem.rs`).
//!
//! Absent on purpose: anything that is not a row.

use statehouse_contract::{Operation, Verb};

use super::{
    admin, batches, cluster, copy, definitions, instances, lists, plain,
    routes::{Access::Open, BodyShape, Kind, Method, Pool, Route, may, must},
    schedules,
    shapes::{
        ADMINISTER, AFTER, BATCHED, CALL, CHANGED, COMPLETE, DEPLOY, DRY_RUN, FILTER, GOVERN,
        LIMIT, OPERATE, OVERSEE, READ, READ_FIELDS, REASON, REASONED, RECEIPT, SCHEDULED, STUDY,
        TOKEN, WAIT, WORK,
    },
    slo, tasks, watch,
};

use Method::{Delete, Get, Post, Put};

macro_rules! by {
    ($handler:path) => {
        |call| Box::pin($handler(call))
    };
}

const fn verb(
    path: &'static str,
    name: &'static str,
    about: &'static str,
    handler: super::routes::Handler,
) -> Route {
    Route::new(Post, path, name, OPERATE, handler)
        .says(about, RECEIPT)
        .does(Operation::Operate)
        .asks(&[DRY_RUN])
        .takes(REASONED)
        .keyed()
}

/// Every route.
pub(super) static ROUTES: &[Route] = &[
    // Definitions.
    Route::new(Post, "/v1/tenants/{t}/definitions", "deploy", DEPLOY, by!(definitions::deploy))
        .says(
            "Checks a definition in YAML or JSON and stores it as an immutable version.",
            &[(201, "Deployed"), (200, "Deployed")],
        )
        .does(Operation::Admin)
        .asks(&[DRY_RUN])
        .takes(BodyShape::Definition),
    Route::new(Get, "/v1/tenants/{t}/definitions", "definitions", STUDY, by!(definitions::list))
        .says("Lists definitions with their versions.", &[(200, "DefinitionPage")]),
    Route::new(
        Get,
        "/v1/tenants/{t}/definitions/{name}",
        "definition",
        STUDY,
        by!(definitions::current),
    )
    .says("Gives the version that new instances take.", &[(200, "Definition")]),
    Route::new(
        Get,
        "/v1/tenants/{t}/definitions/{name}/versions",
        "definition_versions",
        STUDY,
        by!(definitions::versions),
    )
    .says("Lists the versions of a definition.", &[(200, "DefinitionRow")]),
    Route::new(
        Get,
        "/v1/tenants/{t}/definitions/{name}/versions/{n}",
        "definition_version",
        STUDY,
        by!(definitions::version),
    )
    .says("Gives one version of a definition.", &[(200, "Definition")]),
    Route::new(
        Put,
        "/v1/tenants/{t}/definitions/{name}/current",
        "set_current",
        DEPLOY,
        by!(definitions::set_current),
    )
    .says("Chooses the version that new instances take.", &[(200, "Acknowledgement")])
    .does(Operation::Admin)
    .takes(BodyShape::Members(&[must("version", Kind::Number, "the version to choose")])),
    // Instances.
    Route::new(Post, "/v1/tenants/{t}/instances", "start", CALL, by!(instances::start))
        .says("Starts an instance.", &[(201, "Receipt")])
        .does(Operation::Start)
        .asks(&[DRY_RUN])
        .takes(BodyShape::Members(&[
            must("definition", Kind::Text, "the definition's name"),
            may("version", Kind::Number, "its version; else the current one"),
            may("id", Kind::Text, "the instance's id; else it follows from the idempotency key"),
            may("input", Kind::Object, "what it starts with"),
            may("wait", Kind::Duration, "answer when it has ended, or after so long"),
        ]))
        .keyed(),
    Route::new(Get, "/v1/tenants/{t}/instances", "instances", READ, by!(lists::instances))
        .says("Lists instances; finished ones only when asked for.", &[(200, "InstancePage")])
        .asks(FILTER),
    Route::new(Post, "/v1/tenants/{t}/instances/search", "search", READ, by!(lists::search))
        .says("Lists instances by a filter in the body.", &[(200, "InstancePage")])
        .takes(BodyShape::Members(FILTER)),
    // An instance may be called `search`.
    Route::new(
        Get,
        "/v1/tenants/{t}/instances/search",
        "instance_search",
        READ,
        by!(instances::get),
    )
    .says("Tells how the instance with this id stands.", &[(200, "Instance")])
    .asks(READ_FIELDS),
    Route::new(Get, "/v1/tenants/{t}/instances/{id}", "instance", READ, by!(instances::get))
        .says("Tells how an instance stands.", &[(200, "Instance")])
        .asks(READ_FIELDS),
    Route::new(
        Post,
        "/v1/tenants/{t}/instances/{id}/events/{event}",
        "send",
        CALL,
        by!(instances::send),
    )
    .says(
        "Sends a declared command or a signal; the body is its payload.",
        &[(200, "Receipt"), (202, "Postponed")],
    )
    .does(Operation::Send)
    .asks(&[DRY_RUN])
    .takes(BodyShape::Payload)
    .keyed(),
    Route::new(
        Get,
        "/v1/tenants/{t}/instances/{id}/explain",
        "explain",
        READ,
        by!(instances::explain),
    )
    .says("Tells why an instance rests where it rests.", &[(200, "Explanation")]),
    Route::new(Get, "/v1/tenants/{t}/instances/{id}/history", "history", READ, by!(lists::history))
        .says("Lists an instance's transitions, oldest first.", &[(200, "TransitionPage")])
        .asks(&[may("after", Kind::Number, "only versions above this one"), LIMIT]),
    Route::new(Get, "/v1/tenants/{t}/instances/{id}/watch", "watch", READ, by!(watch::instance))
        .says("Tells an instance's changes as they happen.", &[(200, "Changes")])
        .asks(&[AFTER, WAIT, LIMIT])
        .from(Pool::Waiting),
    Route::new(Get, "/v1/tenants/{t}/watch", "watch_tenant", READ, by!(watch::tenant))
        .says("Tells a tenant's changes as they happen.", &[(200, "Changes")])
        .asks(&[AFTER, WAIT, LIMIT, COMPLETE])
        .from(Pool::Waiting),
    Route::new(
        Get,
        "/v1/tenants/{t}/instances/{id}/receipts/{key}",
        "receipt",
        READ,
        by!(instances::receipt),
    )
    .says(
        "Gives the answer that is stored under a key, a refusal with its own status.",
        &[(200, "Receipt"), (202, "Postponed")],
    )
    .asks(&[may("wait", Kind::Duration, "wait so long for the end of a postponed command")])
    .from(Pool::Waiting),
    verb(
        "/v1/tenants/{t}/instances/{id}/cancel",
        "cancel",
        "Asks the instance to end, else leaves all states and compensates.",
        |call| Box::pin(instances::operate(call, Verb::Cancel)),
    ),
    verb(
        "/v1/tenants/{t}/instances/{id}/terminate",
        "terminate",
        "Ends the instance now, without actions and compensation.",
        |call| Box::pin(instances::operate(call, Verb::Terminate)),
    ),
    verb(
        "/v1/tenants/{t}/instances/{id}/pause",
        "pause",
        "Holds the instance's timers and refuses commands.",
        |call| Box::pin(instances::operate(call, Verb::Pause)),
    ),
    verb(
        "/v1/tenants/{t}/instances/{id}/resume",
        "resume",
        "Takes the instance up where it was paused.",
        |call| Box::pin(instances::operate(call, Verb::Resume)),
    ),
    verb(
        "/v1/tenants/{t}/instances/{id}/retry",
        "retry",
        "Runs again what made the instance faulted, or a parked task.",
        by!(instances::retry),
    )
    .takes(BodyShape::Members(&[REASON, may("task", Kind::Text, "the parked task")])),
    verb(
        "/v1/tenants/{t}/instances/{id}/skip",
        "skip",
        "Drops the event that made the instance faulted, or completes an open task in its worker's stead.",
        by!(instances::skip),
    )
    .takes(BodyShape::Members(&[
        REASON,
        may("task", Kind::Text, "the open task"),
        may("output", Kind::Any, "its output; else `{}`"),
    ])),
    verb(
        "/v1/tenants/{t}/instances/{id}/migrate",
        "migrate",
        "Moves the instance to another version of its definition, as that version's `migrations` say.",
        by!(instances::migrate),
    )
    .takes(BodyShape::Members(&[REASON, must("to", Kind::Number, "the version to move to")])),
    verb(
        "/v1/tenants/{t}/instances/{id}/reset",
        "reset",
        "Begins a new instance as this one stood at an earlier version; this one does not move.",
        by!(instances::reset),
    )
    .takes(BodyShape::Members(&[
        REASON,
        must("version", Kind::Number, "the version of this instance from which the new one begins"),
        must("instance", Kind::Text, "the id of the new instance"),
    ]))
    .says(
        "Begins a new instance as this one stood at an earlier version; this one does not move.",
        &[(200, "Receipt"), (201, "Receipt")],
    ),
    // Tasks and schedules.
    Route::new(Post, "/v1/tenants/{t}/tasks/lease", "lease_tasks", WORK, by!(tasks::lease))
        .says("Leases tasks of the named queues, waiting for the first one.", &[(200, "Leases")])
        .does(Operation::Task)
        .takes(BodyShape::Members(&[
            must("queues", Kind::Texts, "the queues that the worker serves"),
            may("max", Kind::Number, "at most so many tasks; 1 unless given"),
            may("lease_ms", Kind::Number, "length of the leases, unless the task says `heartbeat`"),
            may("wait_ms", Kind::Number, "wait so long for the first task"),
            must("worker", Kind::Text, "the worker's name, for people"),
        ]))
        .from(Pool::Waiting),
    Route::new(
        Post,
        "/v1/tenants/{t}/tasks/{id}/heartbeat",
        "heartbeat_task",
        WORK,
        by!(tasks::heartbeat),
    )
    .says("Keeps a lease alive, and tells whether the work was cancelled.", &[(200, "Heartbeat")])
    .does(Operation::Task)
    .takes(BodyShape::Members(&[TOKEN, may("lease_ms", Kind::Number, "for so long from now")])),
    Route::new(
        Post,
        "/v1/tenants/{t}/tasks/{id}/complete",
        "complete_task",
        WORK,
        by!(tasks::complete),
    )
    .says("Reports the result of a task.", &[(200, "TaskReport")])
    .does(Operation::Task)
    .takes(BodyShape::Members(&[TOKEN, may("output", Kind::Any, "what came out; else `{}`")])),
    Route::new(Post, "/v1/tenants/{t}/tasks/{id}/fail", "fail_task", WORK, by!(tasks::fail))
        .says("Reports that an attempt failed.", &[(200, "TaskReport")])
        .does(Operation::Task)
        .takes(BodyShape::Members(&[
            TOKEN,
            must("code", Kind::Text, "the error's code, such as card_declined"),
            may("message", Kind::Text, "the error in words"),
            may("retryable", Kind::Flag, "`false`: another attempt is in vain"),
        ])),
    Route::new(Get, "/v1/tenants/{t}/tasks", "tasks", READ, by!(tasks::list))
        .says("Lists open tasks.", &[(200, "TaskPage")])
        .asks(&[
            may("queue", Kind::Text, "only of this queue"),
            may("state", Kind::Text, "ready, waiting, leased or parked"),
            LIMIT,
            may("cursor", Kind::Text, "where the page before ended"),
            COMPLETE,
        ]),
    Route::new(Get, "/v1/tenants/{t}/queues", "queues", READ, by!(tasks::queue_list))
        .says("Tells what waits in each queue.", &[(200, "Queues")]),
    Route::new(Post, "/v1/tenants/{t}/schedules", "put_schedule", OPERATE, by!(schedules::put))
        .says("Makes a schedule, or changes it.", SCHEDULED)
        .does(Operation::Admin)
        .takes(BodyShape::Members(&[
            must("name", Kind::Text, "its name: 1 to 64 of A-Z, a-z, 0-9, . _ and -"),
            must("definition", Kind::Text, "the definition that is started"),
            may("version", Kind::Number, "its version; else the current one at each start"),
            may("input", Kind::Object, "the input of each start"),
            may("cron", Kind::Text, "minute, hour, day of month, month, day of week"),
            may("every", Kind::Text, "an interval such as 15m, instead of cron"),
            may("time_zone", Kind::Text, "of cron, such as Europe/Berlin; else UTC"),
            may("overlap", Kind::Text, "while the last one runs: skip (default), queue, cancel_other"),
            may("catch_up", Kind::Text, "of missed starts: all, last (default), none"),
            may("paused", Kind::Flag, "whether it is held"),
        ]))
        .keyed(),
    Route::new(Get, "/v1/tenants/{t}/schedules", "schedules", READ, by!(schedules::list))
        .says("Lists schedules.", &[(200, "Schedules")]),
    Route::new(Get, "/v1/tenants/{t}/schedules/{name}", "schedule", READ, by!(schedules::get))
        .says("Tells how a schedule stands, and its next times.", &[(200, "Schedule")]),
    Route::new(
        Delete,
        "/v1/tenants/{t}/schedules/{name}",
        "remove_schedule",
        OPERATE,
        by!(schedules::remove),
    )
    .says("Removes a schedule; what it has started goes on.", SCHEDULED)
    .does(Operation::Admin)
    .keyed(),
    Route::new(Post, "/v1/tenants/{t}/schedules/{name}/pause", "pause_schedule", OPERATE, |call| {
        Box::pin(schedules::pause(call, true))
    })
    .says("Holds a schedule.", SCHEDULED)
    .does(Operation::Admin)
    .takes(REASONED)
    .keyed(),
    Route::new(Post, "/v1/tenants/{t}/schedules/{name}/resume", "resume_schedule", OPERATE, |call| {
        Box::pin(schedules::pause(call, false))
    })
    .says("Lets a held schedule go on.", SCHEDULED)
    .does(Operation::Admin)
    .takes(REASONED)
    .keyed(),
    Route::new(
        Post,
        "/v1/tenants/{t}/schedules/{name}/backfill",
        "backfill_schedule",
        OPERATE,
        by!(schedules::backfill),
    )
    .says("Starts what would have been started within a time.", SCHEDULED)
    .does(Operation::Admin)
    .takes(BodyShape::Members(&[
        must("from", Kind::Text, "from when on (RFC 3339)"),
        must("until", Kind::Text, "until when, exclusive"),
        REASON,
    ]))
    .keyed(),
    // Batches.
    Route::new(Post, "/v1/tenants/{t}/batches", "put_batch", OPERATE, by!(batches::put))
        .says("Begins a batch: one verb for every instance that a filter finds.", BATCHED)
        .does(Operation::Admin)
        .takes(BodyShape::Members(&[
            must("name", Kind::Text, "its name: 1 to 64 of A-Z, a-z, 0-9, . _ and -"),
            must(
                "verb",
                Kind::Text,
                "cancel, terminate, pause, resume, retry, skip, migrate or reset",
            ),
            may("to", Kind::Number, "of migrate: the version to move to"),
            may("version", Kind::Number, "of reset: the version from which to begin"),
            may("filter", Kind::Object, "definition, version, status, state, tag; all must hold"),
            may("rate", Kind::Number, "instances a second; 20 unless given"),
            may("percent", Kind::Number, "the share of the instances; 100 unless given"),
            may("dry_run", Kind::Flag, "only find out what would happen"),
            may("stop_on_refusal", Kind::Flag, "the first refusal stops it; of migrate unless `false`"),
            REASON,
        ]))
        .keyed(),
    Route::new(Get, "/v1/tenants/{t}/batches", "batches", READ, by!(batches::list))
        .says("Lists batches.", &[(200, "Batches")]),
    Route::new(Get, "/v1/tenants/{t}/batches/{name}", "batch", READ, by!(batches::get))
        .says("Tells how far a batch has come, and who refused why.", &[(200, "Batch")]),
    Route::new(
        Post,
        "/v1/tenants/{t}/batches/{name}/stop",
        "stop_batch",
        OPERATE,
        by!(batches::stop),
    )
    .says("Stops a batch where it is; what it has done stands.", BATCHED)
    .does(Operation::Admin)
    .takes(REASONED)
    .keyed(),
    Route::new(
        Delete,
        "/v1/tenants/{t}/batches/{name}",
        "remove_batch",
        OPERATE,
        by!(batches::remove),
    )
    .says("Removes a batch that has ended.", BATCHED)
    .does(Operation::Admin)
    .keyed(),
    // Tenants.
    Route::new(Post, "/v1/tenants", "put_tenant", GOVERN, by!(admin::put_tenant))
        .says("Makes a tenant.", CHANGED)
        .does(Operation::Admin)
        .takes(BodyShape::Members(&[must("tenant", Kind::Text, "its name")])),
    Route::new(Get, "/v1/tenants", "tenants", GOVERN, by!(admin::tenants))
        .says("Lists tenants.", &[(200, "TenantPage")]),
    Route::new(Get, "/v1/tenants/{t}", "tenant", ADMINISTER, by!(admin::tenant))
        .says("Tells a tenant's quota and keys, without secrets.", &[(200, "Tenant")]),
    Route::new(Post, "/v1/tenants/{t}/keys", "put_key", ADMINISTER, by!(admin::put_key))
        .says("Makes an API key; its token is shown once.", &[(201, "NewKey")])
        .does(Operation::Admin)
        .takes(BodyShape::Members(&[
            must("name", Kind::Text, "what people call its holder"),
            must("roles", Kind::Texts, "what it may do"),
        ])),
    Route::new(
        Post,
        "/v1/tenants/{t}/keys/{key}/revoke",
        "revoke_key",
        ADMINISTER,
        by!(admin::revoke_key),
    )
    .says("Makes an API key useless.", CHANGED)
    .does(Operation::Admin)
    .takes(BodyShape::Members(&[may("reason", Kind::Text, "why, for the audit")])),
    Route::new(Post, "/v1/tenants/{t}/quota", "set_quota", GOVERN, by!(admin::set_quota))
        .says("Sets what a tenant may use; what is left out has no bound of its own.", CHANGED)
        .does(Operation::Admin)
        .takes(BodyShape::Members(&[
            may("commands_per_s", Kind::Number, "commands a second to one node"),
            may("instances", Kind::Number, "unfinished instances; not in this release"),
            may("refusals_per_s", Kind::Number, "logged refusals a second"),
        ])),
    // The cluster.
    Route::new(Get, "/v1/cluster", "cluster", OVERSEE, by!(cluster::status))
        .says("Tells members, shards, leaders, terms and lag.", &[(200, "Cluster")])
        .asks(&[may("instance", Kind::Text, "an instance of the caller's tenant, to be located")]),
    Route::new(Delete, "/v1/cluster/nodes/{n}", "remove_node", GOVERN, by!(cluster::remove))
        .says("Takes a node out of the cluster for good.", &[(200, "Acknowledgement")])
        .does(Operation::Admin)
        .takes(REASONED)
        .keyed(),
    Route::new(Post, "/v1/cluster/nodes/{n}/drain", "drain_node", GOVERN, by!(cluster::drain))
        .says("Lets a node lead no shard, or lead again.", &[(200, "Acknowledgement")])
        .does(Operation::Admin)
        .takes(BodyShape::Members(&[
            may("draining", Kind::Flag, "`false` lets it lead again"),
            REASON,
        ]))
        .keyed(),
    Route::new(
        Post,
        "/v1/cluster/shards/{s}/transfer",
        "transfer_shard",
        GOVERN,
        by!(cluster::transfer),
    )
    .says("Hands leadership of a shard over.", &[(200, "HandedOver")])
    .does(Operation::Admin)
    .takes(BodyShape::Members(&[may(
        "to",
        Kind::Text,
        "the node, such as n2.1; else the fittest",
    )])),
    Route::new(Post, "/v1/cluster/shards/{s}/raise", "raise_shard", GOVERN, by!(cluster::raise))
        .says(
            "Raises a shard's feature level, once every member of it knows the level.",
            &[(200, "Raised")],
        )
        .does(Operation::Admin)
        .takes(BodyShape::Members(&[
            must(
                "level",
                Kind::Number,
                "the level; a shard that has it or a higher one stays as it is",
            ),
            may("reason", Kind::Text, "why, for the audit"),
        ]))
        .keyed(),
    Route::new(Get, "/v1/cluster/shards/{s}/dump", "dump", GOVERN, by!(cluster::dump))
        .says(
            "Streams every entry of a shard as this node holds it, as JSON lines.",
            &[(200, "HistoryLine")],
        )
        .asks(&[may("after", Kind::Number, "only positions above this one")]),
    Route::new(Get, "/v1/cluster/shards/{s}/snapshot", "shard_snapshot", GOVERN, by!(copy::send))
        .says(
            "Sends a copy of a shard with everything that was acknowledged before, for a backup.",
            &[(200, "ShardCopy")],
        ),
    // The node.
    Route::new(Get, "/v1/slo", "slo", OVERSEE, by!(slo::status))
        .says("Tells how this node's promises stand: good ones, all, burn rates.", &[(200, "Slo")]),
    Route::new(Get, "/healthz", "healthz", Open, by!(plain::healthz))
        .says("Says that the process lives.", &[(200, "Alive")])
        .from(Pool::Free),
    Route::new(Get, "/readyz", "readyz", Open, by!(plain::readyz))
        .says("Says whether this node can serve.", &[(200, "Readiness"), (503, "Readiness")])
        .from(Pool::Free),
    Route::new(Get, "/metrics", "metrics", Open, by!(plain::metrics))
        .says("Writes every instrument in Prometheus' text format.", &[(200, "Text")])
        .from(Pool::Free),
    Route::new(Get, "/openapi.json", "openapi", Open, by!(plain::contract))
        .says("Gives this contract.", &[(200, "OpenApi")])
        .from(Pool::Free),
    Route::new(Get, "/errors/{code}", "error_page", Open, by!(plain::error_page))
        .says("Gives the page of a rejection's code.", &[(200, "Page")])
        .from(Pool::Free),
];
