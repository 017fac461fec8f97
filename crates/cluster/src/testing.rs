//! What the tests of this crate share: an authority and the certificates that it signs, a clock that stands, a command.
//!
//! Deliberately absent: anything that a running node would use; `statehouse cluster certs` makes real files.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

use statehouse_contract::{
    Actor, Clock, Command, CommandEnvelope, Digest, InstanceId, InstanceKey, Json, Key, KeyText,
    Target, TenantId, Timestamp, TraceContext,
};

use crate::security::{LinkSecurity, MutualTls};

/// A clock that stands.
#[derive(Debug)]
pub(crate) struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000)
    }
}

/// An event for an instance, under a key.
pub(crate) fn press(instance: &str, name: &str) -> CommandEnvelope {
    let instance = InstanceId::parse(instance).unwrap();
    let command =
        Command::Send { event: "press".into(), data: Json::empty_object(), postpone_ms: None };
    CommandEnvelope {
        target: Target::Instance(InstanceKey { tenant: TenantId::parse("t").unwrap(), instance }),
        fingerprint: Digest::of(format!("{command:?}").as_bytes()),
        command,
        key: Key::Client(KeyText::parse(name).unwrap()),
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: 6_000,
        expected: None,
        actor: Actor { name: "ann".into(), roles: Vec::new() },
        reason: None,
        attempt: 1,
    }
}

/// Signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    name: String,
}

/// Where a node's three files lie.
pub(crate) struct Files {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Files {
    pub(crate) fn security(&self) -> LinkSecurity {
        let loaded = MutualTls::load(&self.authority, &self.certificate, &self.key);
        LinkSecurity::Mutual(loaded.unwrap())
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, name: name.to_owned() }
    }

    /// Writes a certificate for the node of this number.
    pub(crate) fn node(&self, folder: &Path, number: u32) -> Files {
        self.named(folder, &format!("node-{number}"))
    }

    /// Writes a certificate for one DNS name.
    pub(crate) fn named(&self, folder: &Path, name: &str) -> Files {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let put = |what: &str, text: &str| {
            let path = folder.join(format!("{}-{what}.pem", self.name));
            std::fs::write(&path, text).unwrap();
            path
        };
        Files {
            authority: put("ca", &self.pem),
            certificate: put(name, &certificate.pem()),
            key: put(&format!("{name}-key"), &key.serialize_pem()),
        }
    }
}
