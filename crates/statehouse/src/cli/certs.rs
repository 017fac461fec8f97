//! `statehouse cluster certs`: a development authority, a certificate for each node, and a cookie.
//!
//! Two nodes speak only when each shows a certificate of the same authority with the DNS name `node-K` (`cluster`'s
//! `security`). This makes such files for a laptop or a test bed, in one folder, and says which settings take them. Nothing
//! that stands there is ever written again; nodes are added later under the same authority.
//!
//! Deliberately absent: renewal, revocation and any other key than P-256. A production cluster has an authority already.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use jiff::{Span, Zoned, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

use statehouse_cluster::MutualTls;

use super::{
    exit::{Exit, Failure},
    output::{Output, items, text},
};

/// How long a certificate is good, from the day before it was made (clocks differ).
const YEARS: i32 = 10;
/// No cluster of this kind has more nodes.
const NODES_MAX: i64 = 100;
/// The bytes of chance in a cookie; it is written as twice as many characters.
const COOKIE_BYTES: usize = 32;
/// The authority's name; every authority made here has it, so a later node can be signed with the key alone.
const AUTHORITY: &str = "Statehouse development authority";

const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// `cluster certs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Certs {
    /// The folder for the files; it is made if need be.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many nodes; those that have files already keep them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=NODES_MAX))]
    nodes: u32,
    /// One more host name or address at which nodes are reached; it goes into every new certificate.
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
}

/// Runs `cluster certs`.
pub(crate) fn run(certs: &Certs, output: Output) -> Result<Exit, Failure> {
    let made = make(certs)?;
    output.show(&made, |made| table(output, made))?;
    Ok(Exit::Ok)
}

fn table(output: Output, made: &Value) -> String {
    let row = |item: &Value| ["file", "for", "state"].map(|name| text(item, name));
    let files =
        output.table(["file", "for", "state"], items(made, "files").iter().map(row).collect());
    format!(
        "{files}\n\nin node.toml of node K:\n\n[cluster]\n{}\n\n{}",
        text(made, "settings"),
        "give each node its own files, ca.pem and the cookie; keep ca-key.pem to yourself"
    )
}

/// Who a pair of files belongs to, and whether it stands there.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn new(folder: &Path, stem: &str) -> Self {
        let file = |end: &str| folder.join(format!("{stem}{end}.pem"));
        Self { certificate: file(""), key: file("-key") }
    }

    fn exists(&self) -> Result<bool, Failure> {
        match (self.certificate.exists(), self.key.exists()) {
            (true, true) => Ok(true),
            (false, false) => Ok(false),
            (has_certificate, _) => {
                let (there, missing) = match has_certificate {
                    true => (&self.certificate, &self.key),
                    false => (&self.key, &self.certificate),
                };
                let reason = format!("{} is there without {}", there.display(), missing.display());
                let next = "bring the missing file back, or move the other one away";
                Err(Failure::new(Exit::Conflict, "half_a_pair", reason, next))
            }
        }
    }

    fn write(&self, certificate: &str, key: &KeyPair) -> Result<(), Failure> {
        // The key first: a certificate without its key would be worth nothing.
        write_new(&self.key, &key.serialize_pem(), SECRET)?;
        write_new(&self.certificate, certificate, PUBLIC)
    }
}

fn make(certs: &Certs) -> Result<Value, Failure> {
    let folder = &certs.out;
    for name in &certs.names {
        check_name(name)?;
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Failure::file("make the folder", folder, &error))?;

    // Every pair is looked at before the first file is written: half an answer is none.
    let authority = Pair::new(folder, "ca");
    let has_authority = authority.exists()?;
    let nodes: Vec<_> = (1..=certs.nodes)
        .map(|number| {
            let pair = Pair::new(folder, &format!("node-{number}"));
            pair.exists().map(|exists| (number, pair, exists))
        })
        .collect::<Result<_, _>>()?;
    let cookie = folder.join("cookie");
    let has_cookie = cookie.exists();
    if !has_authority && nodes.iter().any(|(_, _, exists)| *exists) {
        let reason = format!("{} holds nodes without their authority", folder.display());
        let next = "bring ca.pem and ca-key.pem back, or choose an empty --out";
        return Err(Failure::new(Exit::Conflict, "no_authority", reason, next));
    }
    if has_authority && has_cookie && nodes.iter().all(|(_, _, exists)| *exists) {
        let reason =
            format!("{} holds the files of {} nodes already", folder.display(), certs.nodes);
        let next =
            "give a higher --nodes to add some, or choose another --out; nothing was written";
        return Err(Failure::new(Exit::Conflict, "already_made", reason, next));
    }

    let issuer = open_authority(&authority, has_authority)?;
    let mut files = vec![row(&authority.certificate, "every node", has_authority)];
    files.push(row(&authority.key, "nobody but you", has_authority));
    for (number, pair, exists) in &nodes {
        if !exists {
            sign(*number, pair, &certs.names, &issuer)?;
            prove(&authority, pair)?;
        }
        files.push(row(&pair.certificate, &format!("node {number}"), *exists));
        files.push(row(&pair.key, &format!("node {number}"), *exists));
    }
    if !has_cookie {
        write_new(&cookie, &format!("{}\n", new_cookie()?), SECRET)?;
    }
    files.push(row(&cookie, "every node", has_cookie));
    Ok(json!({ "files": files, "settings": settings(folder) }))
}

fn row(path: &Path, whose: &str, is_kept: bool) -> Value {
    let state = if is_kept { "kept" } else { "made" };
    json!({ "file": path.display().to_string(), "for": whose, "state": state })
}

fn settings(folder: &Path) -> String {
    let line = |key: &str, file: &str| {
        let path = folder.join(file).display().to_string();
        format!("{key} = {}", Value::String(path))
    };
    [
        line("tls_authority", "ca.pem"),
        line("tls_certificate", "node-K.pem"),
        line("tls_private_key", "node-K-key.pem"),
        line("cookie_file", "cookie"),
    ]
    .join("\n")
}

// A name of the form `node-K` in another node's certificate would let it pass for that node.
fn check_name(name: &str) -> Result<(), Failure> {
    let number = name.to_ascii_lowercase().strip_prefix("node-").map(str::to_owned);
    let is_a_node = number.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    if is_a_node || name.contains('*') {
        return Err(Failure::usage(
            format!("--name {name} would let every node pass for another one"),
            "name the hosts at which the nodes are reached; node-K is added by itself",
        ));
    }
    Ok(())
}

fn open_authority(pair: &Pair, exists: bool) -> Result<Issuer<'static, KeyPair>, Failure> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, AUTHORITY);
    limit(&mut params)?;
    let key = if exists {
        let text = fs::read_to_string(&pair.key)
            .map_err(|error| Failure::file("read", &pair.key, &error))?;
        KeyPair::from_pem(&text).map_err(|error| {
            let reason = format!("{} holds no key that can sign: {error}", pair.key.display());
            Failure::usage(reason, "bring the key of ca.pem back, or choose an empty --out")
        })?
    } else {
        let key = KeyPair::generate().map_err(unmade)?;
        pair.write(&params.self_signed(&key).map_err(unmade)?.pem(), &key)?;
        key
    };
    Ok(Issuer::new(params, key))
}

fn sign(
    number: u32,
    pair: &Pair,
    names: &[String],
    issuer: &Issuer<'static, KeyPair>,
) -> Result<(), Failure> {
    let own = format!("node-{number}");
    let always = [own.as_str(), "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let all: Vec<_> = always.into_iter().chain(names.iter().cloned()).collect();
    let mut params = CertificateParams::new(all).map_err(|error| {
        Failure::usage(
            format!("a --name is neither a host name nor an address: {error}"),
            "give names such as db-1.example.com, or addresses",
        )
    })?;
    params.distinguished_name.push(DnType::CommonName, own);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    limit(&mut params)?;
    let key = KeyPair::generate().map_err(unmade)?;
    let certificate = params.signed_by(&key, issuer).map_err(unmade)?;
    pair.write(&certificate.pem(), &key)
}

// What was written is read back the way a node will: an authority of other making would not vouch for it.
fn prove(authority: &Pair, pair: &Pair) -> Result<(), Failure> {
    MutualTls::load(&authority.certificate, &pair.certificate, &pair.key).map(drop).map_err(
        |error| {
            for path in [&pair.certificate, &pair.key] {
                // It was made a moment ago and is of no use; what remains would only be named by the next try.
                let _ = fs::remove_file(path);
            }
            let next =
                "only an authority that this command made can be used again; choose an empty --out";
            Failure::new(Exit::Conflict, "foreign_authority", error.to_string(), next)
        },
    )
}

fn limit(params: &mut CertificateParams) -> Result<(), Failure> {
    let today = Zoned::now().with_time_zone(TimeZone::UTC).date();
    let day = |span: Span| {
        let day = today.checked_add(span).map_err(unmade)?;
        let month = u8::try_from(day.month()).map_err(unmade)?;
        let number = u8::try_from(day.day()).map_err(unmade)?;
        Ok(rcgen::date_time_ymd(i32::from(day.year()), month, number))
    };
    params.not_before = day(Span::new().days(-1))?;
    params.not_after = day(Span::new().years(YEARS))?;
    Ok(())
}

fn unmade(error: impl std::fmt::Display) -> Failure {
    Failure::broken(format!("cannot make a certificate: {error}"))
}

fn new_cookie() -> Result<String, Failure> {
    let mut bytes = [0; COOKIE_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::broken(format!("the system gives no randomness: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| Failure::file("write", path, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use statehouse_cluster::{Cookie, LinkSecurity};

    use super::*;

    fn certs(folder: &Path, nodes: u32, names: &[&str]) -> Certs {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Certs { out: folder.join("certs"), nodes, names }
    }

    fn load(folder: &Path, number: u32) -> LinkSecurity {
        let file = |name: &str| folder.join("certs").join(name);
        let (own, key) = (format!("node-{number}.pem"), format!("node-{number}-key.pem"));
        let loaded = MutualTls::load(&file("ca.pem"), &file(&own), &file(&key));
        LinkSecurity::Mutual(loaded.unwrap())
    }

    #[test]
    fn nodes_take_the_files_and_more_are_added_under_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        make(&certs(folder.path(), 2, &["db-1.example.com", "10.0.0.7"])).unwrap();
        let read = |name: &str| fs::read(folder.path().join("certs").join(name)).unwrap();
        let before = (read("ca.pem"), read("node-1.pem"), read("cookie"));
        let made = make(&certs(folder.path(), 3, &[])).unwrap();
        assert_eq!(before, (read("ca.pem"), read("node-1.pem"), read("cookie")));
        let states: Vec<_> = items(&made, "files").iter().map(|item| text(item, "state")).collect();
        assert_eq!(states.join(" "), "kept kept kept kept kept kept made made kept");
        for number in 1..=3 {
            let security = load(folder.path(), number);
            assert!(security.check_own(number).is_ok());
            assert!(security.check_own(number + 1).is_err());
        }
        assert!(Cookie::read(&folder.path().join("certs/cookie")).is_ok());
        for secret in ["ca-key.pem", "node-1-key.pem", "node-3-key.pem", "cookie"] {
            let found = fs::metadata(folder.path().join("certs").join(secret)).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, SECRET, "{secret}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        make(&certs(folder.path(), 1, &[])).unwrap();
        let said = |nodes| make(&certs(folder.path(), nodes, &[])).unwrap_err();
        let again = said(1);
        assert_eq!((again.exit, again.code.as_str()), (Exit::Conflict, "already_made"));
        fs::remove_file(folder.path().join("certs/node-1-key.pem")).unwrap();
        assert_eq!(said(2).code, "half_a_pair");
        assert!(!folder.path().join("certs/node-2.pem").exists());
        fs::remove_file(folder.path().join("certs/ca.pem")).unwrap();
        fs::remove_file(folder.path().join("certs/ca-key.pem")).unwrap();
        fs::rename(
            folder.path().join("certs/node-1.pem"),
            folder.path().join("certs/node-1-key.pem"),
        )
        .unwrap();
        fs::copy(
            folder.path().join("certs/node-1-key.pem"),
            folder.path().join("certs/node-1.pem"),
        )
        .unwrap();
        assert_eq!(said(2).code, "no_authority");
    }

    #[test]
    fn an_authority_of_other_making_and_names_of_nodes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["node-2", "NODE-12", "*.example.com"] {
            let no = make(&certs(folder.path(), 1, &[name])).unwrap_err();
            assert_eq!(no.exit, Exit::Usage, "{name}");
        }
        let wrong = make(&certs(folder.path(), 1, &["not a name é"])).unwrap_err();
        assert_eq!(wrong.exit, Exit::Usage, "{}", wrong.reason);
        let other = tempfile::tempdir().unwrap();
        fs::create_dir(other.path().join("certs")).unwrap();
        let made = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        fs::write(other.path().join("certs/ca.pem"), made.cert.pem()).unwrap();
        fs::write(other.path().join("certs/ca-key.pem"), made.signing_key.serialize_pem()).unwrap();
        let foreign = make(&certs(other.path(), 1, &[])).unwrap_err();
        assert_eq!(foreign.code, "foreign_authority", "{}", foreign.reason);
        assert!(!other.path().join("certs/node-1.pem").exists());
    }
}
