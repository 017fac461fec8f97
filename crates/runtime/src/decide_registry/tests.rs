//! Commands about tenants, keys and definitions: the rows that matter go in, the entry's answer comes out.

use expect_test::{Expect, expect};
use statehouse_contract::{
    Actor, Json, Key, KeyText, MemberDocument, Members, NodeId, Standing, Target, TraceContext,
    command::Command,
};
use statehouse_store::entry::Body;

use super::*;

fn envelope(command: Command) -> CommandEnvelope {
    CommandEnvelope {
        target: Target::Tenant(TenantId::parse("acme").unwrap()),
        command,
        key: Key::Client(KeyText::parse("k").unwrap()),
        fingerprint: Digest::of(b"request"),
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: 1_000,
        expected: None,
        actor: Actor::system(),
        reason: None,
        attempt: 1,
    }
}

fn rows(versions: &[(u32, &str)]) -> Rows {
    let known = |(version, text): &(u32, &str)| KnownVersion {
        version: *version,
        digest: Digest::of(text.as_bytes()),
    };
    Rows { tenant_exists: true, versions: versions.iter().map(known).collect(), ..Rows::default() }
}

fn deploy(version: Option<u32>, text: &str) -> Command {
    Command::Deploy {
        name: DefinitionName::parse("d").unwrap(),
        version,
        digest: Digest::of(text.as_bytes()),
        document: Json::empty_object(),
    }
}

fn circumstances() -> Circumstances {
    let node = NodeId { number: 1, incarnation: 1 };
    Circumstances { at: Timestamp(0), term: 1, node, build: Build::rehearsed(3) }
}

fn check(command: Command, rows: &Rows, expected: &Expect) {
    check_asked(&envelope(command), rows, expected);
}

fn check_asked(envelope: &CommandEnvelope, rows: &Rows, expected: &Expect) {
    let said = match decide(envelope, rows, circumstances()) {
        Err(no) => format!("not written: {no}"),
        Ok(entry) => {
            let (what, receipt) = match &entry.body {
                Body::Refused(refused) => ("answer only", &refused.receipt),
                body => ("changes rows", &body.asked().unwrap().receipt),
            };
            format!("{what}: {:?} {}", receipt.kind, receipt.body.as_str())
        }
    };
    expected.assert_eq(&said);
}

#[test]
fn the_first_version_is_1_and_the_next_is_one_more() {
    check(
        deploy(None, "a"),
        &rows(&[]),
        &expect![[
            r#"changes rows: Created {"name":"d","version":1,"digest":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f"}"#
        ]],
    );
    check(
        deploy(None, "b"),
        &rows(&[(1, "a"), (4, "x")]),
        &expect![[
            r#"changes rows: Created {"name":"d","version":5,"digest":"10e5cf3d3c8a4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d553"}"#
        ]],
    );
    check(
        deploy(Some(7), "b"),
        &rows(&[(1, "a")]),
        &expect![[
            r#"changes rows: Created {"name":"d","version":7,"digest":"10e5cf3d3c8a4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d553"}"#
        ]],
    );
}

#[test]
fn the_same_content_again_changes_nothing() {
    check(
        deploy(None, "a"),
        &rows(&[(1, "a")]),
        &expect![[
            r#"answer only: Accepted {"name":"d","version":1,"digest":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f"}"#
        ]],
    );
    check(
        deploy(Some(1), "a"),
        &rows(&[(1, "a"), (2, "b")]),
        &expect![[
            r#"answer only: Accepted {"name":"d","version":1,"digest":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f"}"#
        ]],
    );
}

#[test]
fn a_version_never_changes_and_never_comes_late() {
    check(
        deploy(Some(1), "b"),
        &rows(&[(1, "a")]),
        &expect![[
            r#"answer only: Refused(AlreadyExists) {"type":"/errors/already_exists","title":"it exists already","status":409,"detail":"version 1 of d exists with other content (digest 17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f); deploy it as version 2","instance":"/v1/tenants/acme","code":"already_exists","source":"gateway","retryable":false,"advice":"do not repeat it as it is"}"#
        ]],
    );
    check(
        deploy(Some(2), "b"),
        &rows(&[(1, "a"), (3, "c")]),
        &expect![[
            r#"answer only: Refused(AlreadyExists) {"type":"/errors/already_exists","title":"it exists already","status":409,"detail":"version 2 of d is not above the latest, which is 3","instance":"/v1/tenants/acme","code":"already_exists","source":"gateway","retryable":false,"advice":"do not repeat it as it is"}"#
        ]],
    );
}

#[test]
fn an_unknown_tenant_is_not_written_down() {
    check(
        deploy(None, "a"),
        &Rows::default(),
        &expect!["not written: unknown_tenant: there is no such tenant"],
    );
}

#[test]
fn the_body_of_a_new_key_holds_no_secret() {
    let put = Command::PutKey {
        id: "k1".into(),
        hash: Digest::of(b"secret"),
        name: "ann".into(),
        roles: vec![RoleName::parse("caller").unwrap()],
    };
    check(
        put.clone(),
        &rows(&[]),
        &expect![[
            r#"changes rows: Created {"id":"k1","name":"ann","roles":["caller"],"revoked":false}"#
        ]],
    );
    check(
        put,
        &Rows { key_exists: true, ..rows(&[]) },
        &expect![[
            r#"answer only: Refused(AlreadyExists) {"type":"/errors/already_exists","title":"it exists already","status":409,"detail":"there is a key k1 already","instance":"/v1/tenants/acme","code":"already_exists","source":"gateway","retryable":false,"advice":"do not repeat it as it is"}"#
        ]],
    );
    let revoke = Command::RevokeKey { id: "k1".into() };
    check(
        revoke,
        &Rows { key_exists: true, ..rows(&[]) },
        &expect![[r#"changes rows: Accepted {"id":"k1","revoked":true}"#]],
    );
}

#[test]
fn what_is_judged_from_the_rows_of_the_registry_is_written_down() {
    let one = known(&[(node(1, 1), Standing::Active)]);
    let cases = [
        (Command::RevokeKey { id: "k1".into() }, rows(&[]), "there is no key k1"),
        (Command::RemoveMember { node: node(3, 1) }, one, "n3.1 is no member"),
    ];
    for (command, rows, why) in cases {
        let entry = decide(&envelope(command), &rows, circumstances()).unwrap();
        let Body::Refused(refused) = entry.body else { panic!("{entry:?}") };
        assert_eq!(refused.receipt.kind, ReceiptKind::Refused(RejectionCode::InvalidRequest));
        let body = refused.receipt.body.as_str();
        assert!(body.contains(why), "{body}");
    }
}

#[test]
fn a_tenant_is_made_once_and_its_quota_is_set() {
    let tenant = TenantId::parse("acme").unwrap();
    let put = Command::PutTenant { tenant };
    check(put.clone(), &Rows::default(), &expect![[r#"changes rows: Created {"tenant":"acme"}"#]]);
    check(
        put,
        &rows(&[]),
        &expect![[
            r#"answer only: Refused(AlreadyExists) {"type":"/errors/already_exists","title":"it exists already","status":409,"detail":"there is a tenant acme already","instance":"/v1/tenants/acme","code":"already_exists","source":"gateway","retryable":false,"advice":"do not repeat it as it is"}"#
        ]],
    );
    let quota = Quota { commands_per_s: Some(5), instances: None, refusals_per_s: None };
    check(
        Command::SetQuota(quota),
        &rows(&[]),
        &expect![[
            r#"changes rows: Accepted {"commands_per_s":5,"instances":null,"refusals_per_s":null}"#
        ]],
    );
}

#[test]
fn only_a_known_version_becomes_current() {
    let set = |version| Command::SetCurrent { name: DefinitionName::parse("d").unwrap(), version };
    check(
        set(1),
        &rows(&[(1, "a")]),
        &expect![[r#"changes rows: Accepted {"name":"d","current":1}"#]],
    );
    check(
        set(2),
        &rows(&[(1, "a")]),
        &expect![[
            r#"answer only: Refused(UnknownDefinition) {"type":"/errors/unknown_definition","title":"no such definition","status":404,"detail":"there is no version 2 of d","instance":"/v1/tenants/acme","code":"unknown_definition","source":"gateway","retryable":false,"advice":"do not repeat it as it is"}"#
        ]],
    );
}

fn member(standing: Option<Standing>) -> MemberDocument {
    let (links, log) = ("a:7500".to_owned(), "a:7600".to_owned());
    MemberDocument { links, log, api: "http://a:7400".to_owned(), region: None, standing }
}

const fn node(number: u32, incarnation: u32) -> NodeId {
    NodeId { number, incarnation }
}

fn known(members: &[(NodeId, Standing)]) -> Rows {
    let rows = members.iter().map(|(node, standing)| (*node, member(Some(*standing))));
    Rows { members: Members(rows.collect()), ..Rows::default() }
}

fn put(node: NodeId, replace: bool) -> Command {
    Command::PutMember { node, document: member(None), replace }
}

#[test]
fn ids_are_minted_one_after_the_other_and_never_twice() {
    let (active, removed) = (Standing::Active, Standing::Removed);
    let one = known(&[(node(1, 1), active)]);
    check(
        put(node(2, 0), false),
        &one,
        &expect![[r#"changes rows: Created {"node":"n2.1","standing":"active"}"#]],
    );
    // After a removal, and after an incarnation that was followed by another.
    let gone = known(&[(node(1, 1), active), (node(2, 1), removed), (node(2, 2), removed)]);
    check(
        put(node(2, 0), false),
        &gone,
        &expect![[r#"changes rows: Created {"node":"n2.3","standing":"active"}"#]],
    );
    check(
        put(node(0, 0), false),
        &one,
        &expect!["not written: invalid_request: nodes are numbered from 1"],
    );
}

#[test]
fn a_member_is_replaced_only_when_its_data_is_said_to_be_gone() {
    let two = known(&[(node(1, 1), Standing::Active), (node(2, 1), Standing::Draining)]);
    let refused = decide(&envelope(put(node(2, 0), false)), &two, circumstances()).unwrap();
    let Body::Refused(refused) = refused.body else { panic!("{refused:?}") };
    assert!(refused.receipt.body.as_str().contains("as n2.1 at a:7600"));
    check(
        put(node(2, 0), true),
        &two,
        &expect![[r#"changes rows: Created {"node":"n2.2","standing":"active"}"#]],
    );
}

#[test]
fn a_change_keeps_what_it_does_not_name_and_an_old_incarnation_changes_nothing() {
    let two = known(&[
        (node(1, 1), Standing::Active),
        (node(2, 1), Standing::Active),
        (node(2, 2), Standing::Draining),
    ]);
    check(
        put(node(2, 2), false),
        &two,
        &expect![[r#"changes rows: Accepted {"node":"n2.2","standing":"draining"}"#]],
    );
    for (old, why) in
        [(node(2, 1), "n2.1 is gone for good"), (node(3, 1), "n3.1 was never a member")]
    {
        let refused = decide(&envelope(put(old, false)), &two, circumstances()).unwrap();
        let Body::Refused(refused) = refused.body else { panic!("{refused:?}") };
        assert!(refused.receipt.body.as_str().contains(why), "{}", refused.receipt.body.as_str());
    }
    // The founder announces itself where nobody is known; before that nobody else comes in.
    let early = decide(&envelope(put(node(2, 0), false)), &Rows::default(), circumstances());
    assert_eq!(early.unwrap_err().code, RejectionCode::NoLeader);
    check(
        put(node(1, 1), false),
        &Rows::default(),
        &expect![[r#"changes rows: Accepted {"node":"n1.1","standing":"active"}"#]],
    );
}

#[test]
fn a_member_is_removed_unless_it_is_the_last() {
    let two = known(&[(node(1, 1), Standing::Active), (node(2, 1), Standing::Active)]);
    let two = Rows { voters: [(node(1, 1), true), (node(2, 1), true)].into(), ..two };
    let remove = |node| Command::RemoveMember { node };
    check(
        remove(node(2, 1)),
        &two,
        &expect![[r#"changes rows: Accepted {"node":"n2.1","standing":"removed"}"#]],
    );
    let one = known(&[(node(1, 1), Standing::Active), (node(2, 1), Standing::Removed)]);
    let refused = decide(&envelope(remove(node(1, 1))), &one, circumstances()).unwrap();
    assert!(matches!(refused.body, Body::Refused(_)), "{refused:?}");
}

#[test]
fn a_member_stays_while_the_others_could_not_go_on_without_it() {
    let three = [1, 2, 3].map(|number| (node(number, 1), Standing::Active));
    let with = |voters: &[(u32, bool)]| {
        let voters = voters.iter().map(|(number, answers)| (node(*number, 1), *answers));
        Rows { voters: voters.collect(), ..known(&three) }
    };
    let remove = |number| Command::RemoveMember { node: node(number, 1) };
    let gone = expect![[r#"changes rows: Accepted {"node":"n3.1","standing":"removed"}"#]];
    check(remove(3), &with(&[(1, true), (2, true), (3, false)]), &gone);
    let one_is_dead = with(&[(1, true), (2, true), (3, false)]);
    check(
        remove(1),
        &one_is_dead,
        &expect![
            "not written: no_quorum: n1.1 stays: only 1 of the 2 other voters answer; start n3.1 again, or remove what is gone first"
        ],
    );
    check(
        remove(1),
        &with(&[(1, true)]),
        &expect![
            "not written: no_quorum: n1.1 stays: nobody else votes yet; wait until `cluster status` shows another voter"
        ],
    );
}

mod levels;
