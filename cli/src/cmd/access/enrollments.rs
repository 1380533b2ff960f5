//! `enroll create`, `list`, `delete`: the operator's side of enrolment.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use strongroom::api::duration::Ttl;
use strongroom::api::error::Reason;
use strongroom::api::identities::{EnrollmentInfo, EnrollmentMade, EnrollmentOrder, IdentityChange};
use strongroom::wiped::Buffer;

use crate::cmd::{span, warn};
use crate::connection::Session;
use crate::environment::now_ms;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::table;

/// `strongroom enroll create|list|delete`
#[derive(Debug, Subcommand)]
pub enum EnrollCommand {
    /// Create an enrolment string for a host's first certificate. It is printed once, to standard output, and not stored.
    Create(CreateArgs),
    /// List enrolment strings, without their secrets.
    List,
    /// Delete an enrolment string, so that it can no longer be used.
    Delete {
        /// Identifier as shown by the list; a unique prefix is enough.
        id: String,
    },
}

/// `strongroom enroll create`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  strongroom enroll create app/web --policy web --cidr 192.0.2.0/24 | ssh web strongroom enroll -")]
pub struct CreateArgs {
    /// Identity path for the host, such as app/web.
    identity: String,
    /// Policy for a new identity; repeat for several. If the identity is already registered, its policies must match.
    #[arg(long = "policy", value_name = "POLICY", value_delimiter = ',')]
    policies: Vec<String>,
    /// Lifetime of the string, such as 10m; at most 7d.
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = span)]
    ttl: Ttl,
    /// How many hosts may use it, at most 5000.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    uses: u32,
    /// Network (CIDR) it may be used from; repeat for several. Default: anywhere.
    #[arg(long = "cidr", value_name = "NETWORK", value_delimiter = ',')]
    cidrs: Vec<String>,
    /// Lifetime of the certificates it issues, such as 24h.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    certificate_ttl: Option<Ttl>,
    /// Address (host:port) of the enrolment listener, if hosts need another than the configured one; repeat for several.
    #[arg(long = "address", value_name = "HOST:PORT", value_delimiter = ',')]
    addresses: Vec<String>,
}

impl EnrollCommand {
    /// # Errors
    /// Not allowed, not registered, registered with other policies, or no such string.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        match self {
            Self::Create(args) => args.run(session, out),
            Self::List => list(session, out),
            Self::Delete { id } => delete(session, out, id),
        }
    }
}

impl CreateArgs {
    fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let registered = self.register(session)?;
        let given = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let order = EnrollmentOrder {
            ttl: Some(self.ttl.0),
            uses: Some(self.uses),
            cidr: given(&self.cidrs),
            certificate_ttl: self.certificate_ttl.map(|ttl| ttl.0),
            addresses: given(&self.addresses),
        };
        let made = session.client.identities().enrollment(&self.identity, &order).map_err(|error| {
            let reason = error.reason();
            let failure = Failure::from(error);
            let hint = match failure.code {
                Code::Refused if reason == Some(Reason::NotRegistered) => {
                    "register it at the same time: strongroom enroll create PATH --policy NAME".to_owned()
                }
                Code::Refused if reason == Some(Reason::Disabled) => {
                    format!("see why: strongroom identity show {}", self.identity)
                }
                Code::Refused => "no string was created; see: strongroom enroll create --help".to_owned(),
                _ => failure.hint.clone(),
            };
            let hint = if registered { format!("{hint} ({} stays registered)", self.identity) } else { hint };
            Failure { hint, ..failure }
        })?;
        print(out, &made)
    }

    /// Registers the identity with the given policies, if any. Returns whether it is new.
    fn register(&self, session: &Session) -> Result<bool, Failure> {
        if self.policies.is_empty() {
            return Ok(false);
        }
        let identity = &self.identity;
        if let Some(found) = session.client.sys().identity(identity)? {
            return match same(&found.policies, &self.policies) {
                true => Ok(false),
                false => Err(Failure::new(
                    Code::Conflict,
                    format!(
                        "{identity} is registered with other policies: it has {}, and not {}",
                        in_words(&found.policies),
                        in_words(&self.policies)
                    ),
                    format!("omit --policy, or change them first: strongroom identity policies {identity} POLICY..."),
                )),
            };
        }
        let change = IdentityChange { policies: Some(self.policies.clone()), ..IdentityChange::default() };
        warn(session.client.identities().change(identity, &change)?);
        eprintln!("{identity} is registered, with {}", in_words(&self.policies));
        Ok(true)
    }
}

fn in_words(policies: &[String]) -> String {
    if policies.is_empty() { "none".to_owned() } else { policies.join(", ") }
}

/// Whether two lists name the same policies. The vault writes names in lower case, and everybody has `default`.
fn same(have: &[String], typed: &[String]) -> bool {
    let set = |names: &[String]| {
        let lower = names.iter().map(|name| name.to_ascii_lowercase());
        lower.filter(|name| name != "default").collect::<BTreeSet<_>>()
    };
    set(have) == set(typed)
}

/// Prints the string to standard output, once, from a buffer that is wiped. Information for people goes to standard
/// error.
fn print(out: &Output, made: &EnrollmentMade) -> Result<(), Failure> {
    #[derive(serde::Serialize)]
    struct ShownOnce<'a> {
        string: &'a str,
        id: &'a str,
        identity: &'a str,
        expires: &'a str,
        uses: u32,
    }
    let EnrollmentMade { string, id, identity, expires, uses } = made;
    if out.json {
        out.either(&ShownOnce { string: string.reveal(), id, identity, expires, uses: *uses }, String::new)?;
    } else {
        let mut line = Buffer::new();
        line.text(string.reveal()).text("\n");
        out.bytes(&line)?;
    }
    let times = if *uses == 1 { "once".to_owned() } else { format!("{uses} times") };
    eprintln!(
        "for {identity}: usable {times}, until {expires}; it is shown only once\n\
         on the host: strongroom enroll\n\
         revoke it: strongroom enroll delete {id}"
    );
    Ok(())
}

fn list(session: &Session, out: &Output) -> Result<(), Failure> {
    let list = session.client.identities().enrollments()?;
    let now_ms = now_ms();
    out.either(&list.key_info, || {
        let row = |(id, facts): (&String, &EnrollmentInfo)| {
            let from = if facts.cidr.is_empty() { "anywhere".to_owned() } else { facts.cidr.join(", ") };
            [
                id.clone(),
                facts.identity.clone(),
                facts.state.clone(),
                format!("{} of {}", facts.used, facts.uses),
                table::until(Some(&facts.expires), now_ms),
                from,
                facts.created_by.clone(),
            ]
        };
        let rows: Vec<_> = list.key_info.iter().map(row).collect();
        table::text(
            ["id", "identity", "state", "used", "expires in", "from", "created by"],
            &rows,
            "no enrolment strings",
        )
    })
}

fn delete(session: &Session, out: &Output, typed: &str) -> Result<(), Failure> {
    let identities = session.client.identities();
    let known = identities.enrollments()?.keys;
    let id = pick(&known, typed)?;
    identities.delete_enrollment(id)?;
    out.either(&serde_json::json!({ "id": id }), || format!("{id} is deleted and no longer works"))
}

/// The only identifier that starts with this.
fn pick<'a>(known: &'a [String], typed: &str) -> Result<&'a str, Failure> {
    let wanted = typed.to_ascii_lowercase();
    let mut found = known.iter().filter(|id| !wanted.is_empty() && id.starts_with(&wanted));
    let hint = "list them: strongroom enroll list";
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        // Does not repeat what was typed: if it was the string instead of its identifier, it must not end up in a log.
        (None, _) => Err(Failure::new(Code::NotFound, "there is no enrolment string with that identifier", hint)),
        (Some(_), Some(_)) => Err(Failure::usage("the identifier matches several enrolment strings", hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn policies_are_compared_as_the_vault_keeps_them() {
        assert!(same(&texts(&["a", "web"]), &texts(&["WEB", "a", "default", "a"])));
        assert!(!same(&texts(&["a"]), &texts(&["a", "b"])));
        assert!(!same(&texts(&["a", "b"]), &texts(&["a"])));
    }

    #[test]
    fn a_beginning_names_one_string() {
        let known = texts(&["aa01", "aa02"]);
        assert_eq!(pick(&known, "AA02").unwrap(), "aa02");
        assert_eq!(pick(&known, "aa").unwrap_err().code, Code::Usage);
        let failure = pick(&known, "sre1.secret").unwrap_err();
        assert_eq!(failure.code, Code::NotFound);
        assert!(!failure.message.contains("secret"));
    }
}
