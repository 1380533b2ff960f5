//! `unset`: removes keys from a secret with a patch, so the other keys stay as they are.

use clap::Args;

use crate::cmd::no_secret;
use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::paths::secret_path;

/// `strongroom unset PATH KEY…`
#[derive(Debug, Args)]
pub struct UnsetArgs {
    /// Path of the secret.
    path: String,
    /// Keys to remove; all of them must exist.
    #[arg(required = true)]
    keys: Vec<String>,
}

impl UnsetArgs {
    /// # Errors
    /// No such secret or key, or not allowed.
    pub fn run(&self, session: &Session, out: &Output) -> Result<(), Failure> {
        let path = secret_path(&self.path, &session.mount)?;
        let data = session.kv().read(&path, None)?.ok_or_else(|| no_secret(session, &path))?;
        let malformed = |_| Failure::new(Code::Refused, "the secret is not a JSON object", "");
        let fields = data.fields().map_err(malformed)?.ok_or_else(|| no_secret(session, &path))?;
        let known = fields.object();
        if let Some(missing) = self.keys.iter().find(|key| known.get(key).is_none()) {
            let names: Vec<&str> = known.keys().collect();
            let hint = format!("it has: {}; nothing was changed", names.join(", "));
            return Err(Failure::new(Code::NotFound, format!("{path} has no key {missing}"), hint));
        }
        let nulls: serde_json::Map<_, _> = self.keys.iter().map(|key| (key.clone(), serde_json::Value::Null)).collect();
        let patch = serde_json::to_vec(&nulls).unwrap_or_default();
        // Only if nobody has changed it since, because the keys were checked on this version.
        let version = session.kv().patch(&path, &patch, Some(data.metadata.version))?;
        let version = version.ok_or_else(|| no_secret(session, &path))?.version;
        let done = serde_json::json!({"path": path.as_str(), "removed": self.keys, "version": version});
        out.either(&done, || format!("{path}: {} removed, version {version}", self.keys.join(", ")))
    }
}
