//! What a load run asks for: its journeys by number, and each request as bytes.
//!
//! A request is written once into a buffer that its client keeps. Ids and keys follow from the run's name and the
//! journey's number, so that a history can be read by a person.
//!
//! Deliberately absent: where a request goes. Only its `host` line says so, and any server takes it.

use std::fmt::Write as _;

use statehouse_contract::{InstanceId, InstanceKey, TenantId, limits::BUCKETS};

use crate::drive::Plan;

/// One request: the `step`-th of a journey, or a read.
pub(crate) struct Target {
    /// The journey.
    pub(crate) number: u64,
    pub(crate) instance: String,
    pub(crate) step: usize,
    /// Empty for a read.
    pub(crate) key: String,
    /// The server that leads the instance, as far as the last answer told.
    pub(crate) server: Option<usize>,
    /// The instance's shard, if the cluster told how many it has.
    pub(crate) shard: Option<u32>,
}

impl Plan {
    /// Returns the start of a journey.
    pub(crate) fn journey(&self, number: u64) -> Target {
        let run = &self.run;
        let instance = format!("b-{run}-{number}");
        let shard = self.shard(&instance);
        Target { number, instance, step: 0, key: format!("{run}-{number}-0"), server: None, shard }
    }

    /// Returns the read of the instance of a journey.
    pub(crate) fn read(&self, number: u64) -> Target {
        let instance = format!("b-{}-{number}", self.run);
        let server = self.homes.get(number);
        Target { number, instance, step: 0, key: String::new(), server, shard: None }
    }

    fn shard(&self, instance: &str) -> Option<u32> {
        let shards = self.shards?;
        let key = InstanceKey {
            tenant: TenantId::parse(&self.tenant).ok()?,
            instance: InstanceId::parse(instance).ok()?,
        };
        Some(u32::from(key.bucket().number()) * shards / u32::from(BUCKETS))
    }

    /// Writes the command of a target; `body` is a buffer to work in.
    pub(crate) fn write_command(
        &self,
        target: &Target,
        host: &str,
        body: &mut String,
        request: &mut Vec<u8>,
    ) {
        body.clear();
        let path = match target.step.checked_sub(1).and_then(|at| self.workload.steps.get(at)) {
            None => {
                let input = self.workload.input.to_string().replace("$id", &target.instance);
                let (name, version) = &self.definition;
                let id = &target.instance;
                write!(
                    body,
                    r#"{{"definition":"{name}","version":{version},"id":"{id}","input":{input}}}"#
                )
                .expect("writing to a string cannot fail");
                format!("/v1/tenants/{}/instances", self.tenant)
            }
            Some(step) => {
                write!(body, "{}", step.data).expect("writing to a string cannot fail");
                format!(
                    "/v1/tenants/{}/instances/{}/events/{}",
                    self.tenant, target.instance, step.event
                )
            }
        };
        let (length, key, ms) = (body.len(), &target.key, self.deadline.as_millis());
        self.write_head("POST", &path, host, request);
        let more = format!(
            "content-type: application/json\r\nidempotency-key: {key}\r\nx-statehouse-deadline-ms: {ms}\r\ncontent-length: {length}\r\n\r\n"
        );
        request.extend_from_slice(more.as_bytes());
        request.extend_from_slice(body.as_bytes());
    }

    /// Writes the read of a target.
    pub(crate) fn write_read(
        &self,
        target: &Target,
        consistency: &str,
        host: &str,
        request: &mut Vec<u8>,
    ) {
        let path = format!(
            "/v1/tenants/{}/instances/{}?consistency={consistency}",
            self.tenant, target.instance
        );
        self.write_head("GET", &path, host, request);
        request.extend_from_slice(b"\r\n");
    }

    fn write_head(&self, verb: &str, path: &str, host: &str, request: &mut Vec<u8>) {
        request.clear();
        request.extend_from_slice(format!("{verb} {path} HTTP/1.1\r\nhost: {host}\r\n").as_bytes());
        if let Some(token) = &self.token {
            request.extend_from_slice(format!("authorization: Bearer {token}\r\n").as_bytes());
        }
    }
}
