//! `ca compromise`: a new authority at once, without locking out whoever orders it.

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

/// Between two tries to reach the vault with the new certificate, and how many.
const POLL: Duration = Duration::from_millis(200);
const TRIES: usize = 50;

const PLAN: &str =
    "A new authority signs from now on. Every other authority is revoked, and with it every certificate of every
host and operator but the one that you get now. Enrolment strings end. The vault itself keeps serving.";

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

/// What everybody else has to do.
pub fn what_now(folder: &Path) -> String {
    format!(
        "Everybody else is cut off now, and has to be enrolled again:\n\
         each host       strongroom enroll create PATH here, then strongroom enroll there; who that is: strongroom identity list\n\
         each operator   the same, or a request signed with: strongroom client issue\n\
         other clients   get the new CA file: {}\n\
         Then look through the audit trail for certificates that nobody here has asked for: strongroom audit verify",
        folder.join("ca.pem").display()
    )
}

/// An order that ends every certificate may have been carried out although no answer came.
pub fn lost(failure: Failure) -> Failure {
    match failure.code {
        Code::Unreachable => Failure {
            hint: "if the vault did it, your old certificate opens nothing any more: at the machine of the vault, run \
                   strongroomd admin operator. Else try again"
                .into(),
            ..failure
        },
        _ => failure,
    }
}

/// A certificate that is to come, in place of one that ends with the order: its place and its key are there first.
pub struct Fresh {
    addr: String,
    place: Place,
    pending: Pending,
}

impl Fresh {
    /// Finds the place for it.
    ///
    /// # Errors
    /// The certificate in use is in no profile and `out` names no new folder.
    pub fn prepare(out: Option<&PathBuf>, connection: &Connection) -> Result<Self, Failure> {
        let target = Target::resolve(connection, &environment, &Profiles::locate(&environment)?)?;
        let place = Place::find(out, &target)?;
        let pending = place.pending();
        Ok(Self { addr: target.addr, place, pending })
    }

    /// Where it will be.
    pub fn folder(&self) -> &Path {
        self.place.folder().path()
    }

    /// The key and the request for it, on disk before anything is asked, so that a certificate that arrives always has
    /// its key.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn request(&self) -> Result<Request, Failure> {
        self.pending.request(KeyType::P256, &|_, kept| kept.is_some())
    }

    /// Keeps what came. Whether the vault answers it already.
    ///
    /// # Errors
    /// It is no certificate for the key, or cannot be written.
    pub fn store(
        self,
        session: &Session,
        reply: &CertificateReply,
        request: &Request,
        connection: &Connection,
    ) -> Result<bool, Failure> {
        check(reply, request)?;
        // What was seen of this vault is filed under its authorities; it must not be forgotten when these change.
        if let Some(mark) = session.client.mark() {
            MarkFile::of_vault(&environment, reply.ca.as_bytes()).write(&mark);
        }
        self.place.store(&self.addr, reply, request)?;
        self.pending.done();
        Ok(seen(&self.addr, reply, request, connection))
    }
}

/// Waits until the vault answers the new certificate with one of its own from the new authority, which it makes by itself.
/// Whether it did so in time; if not it will, so that is no failure.
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
    eprintln!("strongroom: the vault does not answer the new certificate yet; try in a while: strongroom status");
    false
}

/// Where the new certificate goes.
enum Place {
    /// A bundle that is there and is replaced.
    Bundle(Folder),
    /// A folder that is made.
    New(Folder),
}

impl Place {
    fn find(out: Option<&PathBuf>, target: &Target) -> Result<Self, Failure> {
        if let Some(path) = out {
            let absolute = std::path::absolute(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "check the path"))?;
            if absolute.exists() || !absolute.parent().is_some_and(Path::is_dir) {
                let message = format!("{} is there already, or no folder to make it in", path.display());
                return Err(Failure::usage(message, "choose a new folder"));
            }
            return Ok(Self::New(Folder::at(absolute)));
        }
        let Some(folder) = &target.folder else {
            return Err(Failure::usage(
                "your certificate is not in a profile, so the new one has no place",
                "say where to: --out DIR",
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
            // Any fixed name serves: the folder is new, and only one order of this kind is under way.
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

/// What came must be a certificate for the key that was made.
fn check(reply: &CertificateReply, request: &Request) -> Result<(), Failure> {
    let of_key = pki::read_csr(&request.csr_pem).map(|csr| csr.key_fingerprint);
    let fits = pki::leaf(reply.certificate.as_bytes()).is_ok_and(|leaf| of_key == Ok(leaf.key_fingerprint));
    if fits && reply.ca.contains("BEGIN CERTIFICATE") {
        return Ok(());
    }
    Err(Failure::new(
        Code::Refused,
        "the vault's answer is no certificate for the new key; your profile was not changed",
        "look at it again: strongroom ca list",
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
