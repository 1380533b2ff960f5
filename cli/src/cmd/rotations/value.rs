//! Rotation of values: code that `rotate`, `rotation` and `expiry` share.

use std::time::Duration;

use clap::Args;
use strongroom::api::rotation::ValueInfo;

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::paths::secret_path;
use crate::prompt;

/// Pause between two requests to the vault.
const POLL: Duration = Duration::from_millis(200);

/// The rotation policy of one key, from flags or a file.
#[derive(Debug, Args)]
#[command(after_help = "strongroom rotation set app/prod API_TOKEN --generator token --every 30d
strongroom rotation set app/prod DB_PASSWORD --generator password --target orders --user-key DB_USER --grace 1h
strongroom rotation set app/prod CERT_ID --policy policy.json      all options: docs/rotation.md")]
pub struct SetArgs {
    /// Path of the secret, for example app/prod.
    path: String,
    /// Key within it.
    key: String,
    /// Policy as JSON, from a file; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["generator", "every", "cron", "grace", "target", "user_key", "single", "expires"])]
    policy: Option<std::path::PathBuf>,
    /// How values are generated: password, token, uuid, ed25519 (others need a policy file).
    #[arg(long, value_name = "KIND", required_unless_present = "policy",
          value_parser = ["password", "token", "uuid", "ed25519"])]
    generator: Option<String>,
    /// Rotate after this time, such as 30d.
    #[arg(long, value_name = "SPAN", conflicts_with = "cron")]
    every: Option<String>,
    /// Rotate at these times, five fields, UTC.
    #[arg(long, value_name = "CRON")]
    cron: Option<String>,
    /// How long the previous value stays valid after a rotation.
    #[arg(long, value_name = "SPAN")]
    grace: Option<String>,
    /// Target in the daemon's configuration to which the value is applied.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Key that holds the login; needed for a target with two logins.
    #[arg(long, value_name = "KEY")]
    user_key: Option<String>,
    /// The target has one login; its readers have a short outage at each rotation.
    #[arg(long)]
    single: bool,
    /// Day on which the value expires, such as 2027-03-31.
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
}

impl SetArgs {
    /// # Errors
    /// The policy is rejected. The text names the field.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let policy = self.policy_text()?;
        let set = session.client.rotation().set_policy(&full(session, &self.path)?, &self.key, &policy)?;
        out.either(&set, || {
            let next = if set.next.is_empty() { "on request".to_owned() } else { format!("at {}", set.next) };
            format!(
                "{} {} will be rotated {next}\nnow: strongroom rotate {} {}",
                set.path, set.key, self.path, self.key
            )
        })?;
        if has_key(session, &self.path, &self.key)? == Some(false) {
            eprintln!(
                "strongroom: {} has no key {}; the first rotation adds it. If that is not what you meant: strongroom rotation \
                 forget {0} {1}",
                self.path, self.key
            );
        }
        Ok(())
    }

    fn policy_text(&self) -> Result<String, Failure> {
        if let Some(file) = &self.policy {
            let text = if file.as_os_str() == "-" { prompt::standard_input(true)? } else { prompt::file(file, true)? };
            return Ok(text.reveal().to_owned());
        }
        let mut policy = serde_json::Map::new();
        let kind = self.generator.clone().unwrap_or_default();
        policy.insert("generator".into(), serde_json::json!({ "type": kind }));
        let schedule = match (&self.every, &self.cron) {
            (Some(every), _) => Some(serde_json::json!({ "every": every })),
            (None, Some(cron)) => Some(serde_json::json!({ "cron": cron })),
            (None, None) => None,
        };
        let texts = [("grace", &self.grace), ("target", &self.target), ("user_key", &self.user_key)];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| text.as_ref().map(|text| (name, text))) {
            policy.insert(name.into(), text.as_str().into());
        }
        if let Some(schedule) = schedule {
            policy.insert("schedule".into(), schedule);
        }
        if self.single {
            policy.insert("mode".into(), "single".into());
        }
        if let Some(date) = &self.expires {
            policy.insert("expires_at_ms".into(), day_ms(date)?.into());
        }
        serde_json::to_string(&policy).map_err(|_| Failure::usage("the policy is not JSON", ""))
    }
}

/// Midnight UTC at the start of a day.
fn day_ms(date: &str) -> Result<u64, Failure> {
    let wrong = || Failure::usage(format!("{date} is not a day"), "write it as 2027-03-31");
    let sound = date.len() == 10;
    let at = strongroom::api::time::parse(&format!("{date}T00:00:00Z")).ok().filter(|at| sound && *at > 0);
    at.ok_or_else(wrong)
}

/// Whether the secret has the key; `None` if this caller may not know, or the secret is not there yet. Reads no value.
fn has_key(session: &Session, path: &str, key: &str) -> Result<Option<bool>, Failure> {
    let path = secret_path(path, &session.mount)?;
    let reply = session.client.request("GET", &format!("{}/subkeys/{path}", session.mount), None)?;
    let keys = reply.content::<serde_json::Value>().ok();
    Ok(keys.and_then(|found| found.get("subkeys")?.as_object().map(|names| names.contains_key(key))))
}

/// The path with its mount, as the vault names a rotating value.
///
/// # Errors
/// The text is not a path.
pub fn full(session: &Session, path: &str) -> Result<String, Failure> {
    let path = secret_path(path, &session.mount)?;
    Ok(format!("{}/{}", session.mount.trim_matches('/'), path.as_str()))
}

/// Rotates one key and waits until the new value is current.
///
/// # Errors
/// Rejected, or the rotation does not complete.
pub fn rotate(session: &Session, path: &str, key: &str, wait: bool) -> Result<ValueInfo, Failure> {
    let mut now = session.client.rotation().value_order(path, key, "rotate").map_err(|error| {
        let failure = Failure::from(error);
        match failure.code {
            Code::Refused => {
                Failure { hint: "see the policies and running rotations: strongroom rotation list".into(), ..failure }
            }
            _ => failure,
        }
    })?;
    while wait && !matches!(now.state.as_str(), "idle" | "promoted" | "needs-operator") && !now.paused {
        std::thread::sleep(POLL);
        now = one(session, path, key)?;
    }
    Ok(now)
}

/// The state of one key.
///
/// # Errors
/// It has no policy, or may not be read.
pub fn one(session: &Session, path: &str, key: &str) -> Result<ValueInfo, Failure> {
    let values = session.client.rotation().values(Some(path))?;
    values.into_iter().find(|value| value.key == key).ok_or_else(|| {
        let what = format!("{path} {key} has no rotation policy");
        Failure::new(Code::NotFound, what, "give it one: strongroom rotation set PATH KEY --generator password")
    })
}

/// Turns the result of a rotation into an exit code.
///
/// # Errors
/// The new value did not become current.
pub fn verdict(value: &ValueInfo) -> Result<(), Failure> {
    if value.state == "promoted" || (value.state == "idle" && value.error.is_none()) {
        return Ok(());
    }
    let why = value.error.clone().unwrap_or_else(|| value.state.clone());
    let message = format!("{} {} was not rotated: {why}", value.path, value.key);
    let hint = match value.state.as_str() {
        "needs-operator" => "then: strongroom rotation resume PATH KEY, or abort",
        _ => "the previous value is still current and works: strongroom rotation list",
    };
    Err(Failure::new(Code::Refused, message, hint))
}

/// The result of a rotation as text.
pub fn report(value: &ValueInfo) -> String {
    let mut text = format!("{} {}: version {} is current", value.path, value.key, value.current);
    if let Some(previous) = value.previous {
        text.push_str(&format!("\nversion {previous} stays valid until {}", value.previous_until));
        text.push_str(
            match &value.target {
                Some(target) => format!("; then {target} is told to revoke it"),
                None => "; revoke it yourself in the systems that accept it".to_owned(),
            }
            .as_str(),
        );
    }
    text
}

/// One row of a list: name, state, next rotation, error.
pub fn row(value: &ValueInfo) -> [String; 4] {
    let state = match (value.stuck, value.paused, value.overdue) {
        (true, ..) => "stuck",
        (_, true, _) => "paused",
        (_, _, true) => "overdue",
        _ => &value.state,
    };
    let next = if value.next.is_empty() { "on request" } else { &value.next };
    let error = value.error.clone().unwrap_or_default();
    [format!("{} {}", value.path, value.key), state.to_owned(), next.to_owned(), error]
}

/// The same by itself, in one or two lines.
pub fn line(value: &ValueInfo) -> String {
    let [name, state, next, error] = row(value);
    let error = if error.is_empty() { error } else { format!("\n    {error}") };
    format!("{name} {state:<12} next {next}{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_strictly() {
        assert_eq!(day_ms("1970-01-02").ok(), Some(86_400_000));
        for bad in ["", "tomorrow", "2027-02-30", "1960-01-01"] {
            assert!(day_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_current_value_is_a_success() {
        let value = |state: &str| ValueInfo { state: state.into(), ..ValueInfo::default() };
        assert!(verdict(&value("promoted")).is_ok() && verdict(&value("idle")).is_ok());
        assert!(verdict(&value("needs-operator")).is_err());
        assert!(verdict(&ValueInfo { error: Some("rolled back".into()), ..value("idle") }).is_err());
    }
}
