//! A reset on its way: it is asked of one instance and carried out by another one.
//!
//! How the first one stood is worked out here, from this node's rows; the second one's shard then decides about its birth
//! like about any start. The client's key belongs to the new instance, so a repeat finds its answer there.
//!
//! Absent on purpose: the old instance. It does not move; whoever wants it gone ends it.

use statehouse_contract::{
    Command, CommandEnvelope, InstanceKey, Rejection, RejectionCode, Target, Verb,
};

use super::Router;

impl Router {
    /// Returns the command as it goes to the new instance, if it is a reset.
    pub(super) async fn reset(
        &self,
        envelope: CommandEnvelope,
    ) -> Result<CommandEnvelope, Rejection> {
        let (Command::Operate(Verb::Reset { version, instance }), Target::Instance(from)) =
            (&envelope.command, &envelope.target)
        else {
            return Ok(envelope);
        };
        if *instance == from.instance {
            let detail = "a reset makes a new instance; it takes another id than the old one's";
            return Err(Rejection::gateway(RejectionCode::InvalidRequest, detail));
        }
        let target = InstanceKey { tenant: from.tenant.clone(), instance: instance.clone() };
        let command = self.of(from)?.adoption(from, *version, envelope.expected).await?;
        Ok(CommandEnvelope {
            target: Target::Instance(target),
            command,
            // It was judged just now, at the instance for which it was meant.
            expected: None,
            ..envelope
        })
    }
}
