//! `ca compromise`: switches to a new authority at once, without locking out the operator who runs it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use strongroom::api::secret::SecretText;
use strongroom::api::sys::CertificateReply;
use strongroom::client::{self, Client};
use strongroom::pki::{self, KeyType, Request};

use crate::bundle::{Content, Folder, Pending};
use crate::connection::Connection;
use crate::connection::{Session, Target};
use crate::environment::environment;
use crate::exit::{Code, Failure};
use crate::mark::MarkFile;
use crate::output::Output;
use crate::profile::Profiles;
use crate::prompt;

/// `strongroom ca compromise`
#[derive(Debug, Args)]
pub struct CompromiseArgs {
    /// Write your new certificate to this new folder instead of into your profile.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Do not ask for confirmation.
    #[arg(short = 'y', long)]
    yes: bool,
}

/// Pause between two attempts to reach the vault with the new certificate, and their number.
const POLL: Duration = Duration::from_millis(200);
const TRIES: usize = 50;

const PLAN: &str =
    "A new authority signs from now on. Every other authority is revoked, and so is every certificate of every
host and operator except the one that you get now. Enrolment strings are revoked. The vault keeps serving.";

impl CompromiseArgs {
    /// # Errors
    /// Not allowed, not confirmed, no place for the new certificate, or the vault does not answer.
    pub fn run(&self, session: &Session, connection: &Connection, out: &Output) -> Result<(), Failure> {
        let fresh = Fresh::prepare(self.out.as_ref(), connection)?;
        let folder = fresh.folder().to_owned();
        eprintln!("{PLAN}\nYour new certificate goes to {}.", folder.display());
        if !self.yes {
            prompt::confirm("Revoke everything? This cannot be undone.")?;
        }
        let request = fresh.request()?;
        let reply = session.client.identities().compromise(&request.csr_pem).map_err(|error| lost(error.into()))?;
        let answers = fresh.store(session, &reply, &request, connection)?;
        let done = serde_json::json!({
            "identity": reply.identity, "not_after": reply.not_after, "folder": folder, "answers": answers,
        });
        out.either(&done, || {
            format!("{} has a new certificate, until {}, in {}", reply.identity, reply.not_after, folder.display())
        })?;
        eprintln!("{}", what_now(&folder));
        Ok(())
    }
}

/// Describes what everybody else has to do.
pub fn what_now(folder: &Path) -> String {
    format!(
        "Everybody else has lost access and must enrol again:\n\
         each host       strongroom enroll create PATH here, then strongroom enroll there; list them with: strongroom identity list\n\
         each operator   the same, or a request signed with: strongroom client issue\n\
         other clients   get the new CA file: {}\n\
         Then check the audit trail for certificates that none of you requested: strongroom audit verify",
        folder.join("ca.pem").display()
    )
}

/// The failure of a request that revokes every certificate, which may have been executed although no reply came.
pub fn lost(failure: Failure) -> Failure {
    match failure.code {
        Code::Unreachable => Failure {
            hint: "if the vault executed it, your old certificate is revoked: on the vault's machine, run \
                   strongroomd admin operator. Otherwise try again"
                .into(),
            ..failure
        },
        _ => failure,
    }
}

/// A certificate to replace the one that the request revokes. Its place and its key exist before the request is sent.
pub struct Fresh {
    addr: String,
    place: Place,
    pending: Pending,
}

impl Fresh {
    /// Finds the place for it.
    ///
    /// # Errors
    /// The current certificate is not in a profile, and `out` names no new folder.
    pub fn prepare(out: Option<&PathBuf>, connection: &Connection) -> Result<Self, Failure> {
        let target = Target::resolve(connection, &environment, &Profiles::locate(&environment)?)?;
        let place = Place::find(out, &target)?;
        let pending = place.pending();
        Ok(Self { addr: target.addr, place, pending })
    }

    /// The folder that it will be in.
    pub fn folder(&self) -> &Path {
        self.place.folder().path()
    }

    /// Creates the key and the request for it. Both are on disk before anything is requested, so that a certificate
    /// that arrives always has its key.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn request(&self) -> Result<Request, Failure> {
        self.pending.request(KeyType::P256, &|_, kept| kept.is_some())
    }

    /// Stores the certificate. Returns whether the vault already answers with it.
    ///
    /// # Errors
    /// It is not a certificate for the key, or it cannot be written.
    pub fn store(
        self,
        session: &Session,
        reply: &CertificateReply,
        request: &Request,
        connection: &Connection,
    ) -> Result<bool, Failure> {
        check(reply, request)?;
        // The newest state seen of this vault is stored under its authorities, and must not be lost when these change.
        if let Some(mark) = session.client.mark() {
            MarkFile::of_vault(&environment, reply.ca.as_bytes()).write(&mark);
        }
        self.place.store(&self.addr, reply, request)?;
        self.pending.done();
        Ok(seen(&self.addr, reply, request, connection))
    }
}

/// Waits until the vault accepts the new certificate and presents its own from the new authority, which it issues by
/// itself. Returns whether that happened in time. If not, it will happen later, so this is not a failure.
fn seen(addr: &str, reply: &CertificateReply, request: &Request, connection: &Connection) -> bool {
    let settings = client::Settings {
        addr: addr.to_owned(),
        ca_pem: reply.ca.as_bytes().to_vec(),
        cert_pem: reply.certificate.as_bytes().to_vec(),
        key_pem: SecretText::from(request.key_pem.reveal()),
        timeout: Duration::from_secs(connection.timeout),
    };
    let Ok(client) = Client::connect(settings) else { return false };
    for _ in 0..TRIES {
        if client.identities().authorities().is_ok() {
            return true;
        }
        std::thread::sleep(POLL);
    }
    eprintln!(
        "strongroom: the vault does not accept the new certificate yet; try again in a minute: strongroom status"
    );
    false
}

/// Place of the new certificate.
enum Place {
    /// An existing bundle, which is replaced.
    Bundle(Folder),
    /// A new folder.
    New(Folder),
}

impl Place {
    fn find(out: Option<&PathBuf>, target: &Target) -> Result<Self, Failure> {
        if let Some(path) = out {
            let absolute = std::path::absolute(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "check the path"))?;
            if absolute.exists() || !absolute.parent().is_some_and(Path::is_dir) {
                let message = format!("{} already exists, or its parent folder does not", path.display());
                return Err(Failure::usage(message, "choose a new folder"));
            }
            return Ok(Self::New(Folder::at(absolute)));
        }
        let Some(folder) = &target.folder else {
            return Err(Failure::usage(
                "your certificate is not in a profile, so there is no place for the new one",
                "choose a folder with --out DIR",
            ));
        };
        Ok(Self::Bundle(folder.clone()))
    }

    fn folder(&self) -> &Folder {
        match self {
            Self::Bundle(folder) | Self::New(folder) => folder,
        }
    }

    fn pending(&self) -> Pending {
        match self {
            Self::Bundle(folder) => Pending::of_renewal(folder.path()),
            // Any fixed name works: the folder is new, and only one order of this kind runs at a time.
            Self::New(folder) => Pending::of_enrolment(folder.path(), &[0; 16]),
        }
    }

    fn store(&self, addr: &str, reply: &CertificateReply, request: &Request) -> Result<(), Failure> {
        let mut content = Content {
            addr,
            enroll: &[],
            ca: reply.ca.as_bytes(),
            cert: reply.certificate.as_bytes(),
            key: &request.key_pem,
        };
        match self {
            Self::New(folder) => folder.create(&content),
            Self::Bundle(folder) => {
                let held = folder.hold()?;
                let files = folder.files()?;
                (content.addr, content.enroll) = (&files.addr, &files.enroll);
                folder.replace(&held, &content)
            }
        }
    }
}

/// Checks that the reply is a certificate for the key that was created.
fn check(reply: &CertificateReply, request: &Request) -> Result<(), Failure> {
    let of_key = pki::read_csr(&request.csr_pem).map(|csr| csr.key_fingerprint);
    let fits = pki::leaf(reply.certificate.as_bytes()).is_ok_and(|leaf| of_key == Ok(leaf.key_fingerprint));
    if fits && reply.ca.contains("BEGIN CERTIFICATE") {
        return Ok(());
    }
    Err(Failure::new(
        Code::Refused,
        "the vault's reply is not a certificate for the new key; your profile was not changed",
        "check the state: strongroom ca list",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(folder: &Path) -> Target {
        let at = |name: &str| folder.join(name);
        Target { addr: "https://a:1".into(), ca: at("ca.pem"), cert: at("cert.pem"), key: at("key.pem"), folder: None }
    }

    #[test]
    fn only_a_bundle_or_a_new_folder_is_a_place() {
        let home = tempfile::tempdir().unwrap();
        let mut target = target(home.path());
        let code = |out: Option<&PathBuf>, target: &Target| Place::find(out, target).map(drop).map_err(|f| f.code);
        assert_eq!(code(None, &target), Err(Code::Usage), "from no profile");
        target.folder = Some(Folder::at(home.path().to_owned()));
        assert_eq!(code(None, &target), Ok(()));
        assert_eq!(code(Some(&home.path().join("new")), &target), Ok(()));
        assert_eq!(code(Some(&home.path().to_owned()), &target), Err(Code::Usage));
        assert_eq!(code(Some(&home.path().join("no/where")), &target), Err(Code::Usage));
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let request = pki::request(KeyType::P256).unwrap();
        let reply = CertificateReply { certificate: "x".into(), ca: "x".into(), ..CertificateReply::default() };
        assert!(check(&reply, &request).is_err());
    }
}
