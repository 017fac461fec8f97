//! From the bytes of a definition to what is stored of it, or to every reason why not.
//!
//! Bytes in, a checked definition or findings out: the same validator as in `definition check`. A definition
//! that says how it takes over older instances is judged together with those older versions, so a caller
//! asks [`earlier`] first which ones it has to bring along.
//!
//! Absent on purpose: compiling. The house compiles what it loads, from the same document.

use statehouse_chart::{
    Finding, FindingCode, Source,
    load::load_bytes,
    validate::{Report, validate_bytes, validate_with},
};
use statehouse_contract::{DefinitionName, Digest, Json};

/// Most older versions that one definition may take instances over from.
const EARLIER_MAX: usize = 32;

/// A definition without errors.
pub(super) struct Checked {
    /// Its name: the document's `id`.
    pub(super) name: DefinitionName,
    /// Its version, when the document says one.
    pub(super) version: Option<u32>,
    /// The fingerprint of the canonical document.
    pub(super) digest: Digest,
    /// The document as authored, as JSON with its key order.
    pub(super) document: Json,
    /// Warnings.
    pub(super) findings: Vec<Finding>,
}

/// Returns the name of a definition and the older versions that it takes instances over from.
pub(super) fn earlier(bytes: &[u8]) -> Option<(DefinitionName, Vec<u32>)> {
    let (source, _) = Source::parse(&load_bytes(bytes).ok()?);
    let source = source?;
    let versions = source.migrations.iter().filter_map(|one| u32::try_from(one.from.value).ok());
    Some((DefinitionName::parse(source.root.id()).ok()?, versions.take(EARLIER_MAX).collect()))
}

/// Reads and checks a document in YAML or JSON. The errors come with the warnings.
pub(super) fn check(bytes: &[u8], earlier: &[Json]) -> Result<Checked, Vec<Finding>> {
    let sources: Vec<Source> = earlier
        .iter()
        .filter_map(|document| Source::parse(&load_bytes(document.as_str().as_bytes()).ok()?).0)
        .collect();
    let Report { mut findings, source, .. } = match load_bytes(bytes) {
        Ok(document) if !sources.is_empty() => validate_with(&document, &sources),
        // Without a document there is no more to say than the reader says.
        Ok(_) | Err(_) => validate_bytes(bytes),
    };
    let Some(source) = source else { return Err(findings) };
    let name = DefinitionName::parse(source.root.id());
    let version = source.version.as_ref().map(|whole| u32::try_from(whole.value));
    let mut note = |code, pointer: &str, message: String, advice: &str| {
        let place = source.document.place(pointer);
        findings.push(Finding::new(code, pointer, place, message, advice));
    };
    if let Err(error) = &name {
        note(
            FindingCode::BadName,
            "/id",
            error.to_string(),
            "name it with letters, digits, _ and -",
        );
    }
    if let Some(Err(_)) = version {
        let message = "a version is a number from 1 to 4294967295".to_owned();
        note(FindingCode::WrongShape, "/version", message, "count versions up by one");
    }
    statehouse_chart::finding::sort(&mut findings);
    match (name, version.transpose()) {
        (Ok(name), Ok(version)) if findings.iter().all(|finding| !finding.is_error()) => {
            let text = source.document.canonical();
            let digest = Digest::of(text.as_bytes());
            Ok(Checked { name, version, digest, document: Json::from_trusted(text), findings })
        }
        (_, _) => Err(findings),
    }
}
