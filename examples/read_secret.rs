//! Reads one secret with the Rust client, and prints the names of its keys but no value.
//!
//! ```sh
//! cargo run --example read_secret -- https://127.0.0.1:8200 BUNDLE app/prod
//! ```
//!
//! BUNDLE is a folder with `ca.pem`, `cert.pem` and `key.pem`, as `strongroom enroll --out BUNDLE` or
//! `strongroomd init --bundle BUNDLE` writes it.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use strongroom::api::path::Path as SecretPath;
use strongroom::api::secret::SecretText;
use strongroom::client::{Client, Settings};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, bundle, path] = arguments.as_slice() else {
        return Err("usage: read_secret https://HOST:PORT BUNDLE PATH".into());
    };
    let file = |name: &str| std::fs::read(Path::new(bundle).join(name)).map_err(|error| format!("{name}: {error}"));
    let client = Client::connect(Settings {
        addr: address.clone(),
        ca_pem: file("ca.pem")?,
        cert_pem: file("cert.pem")?,
        key_pem: SecretText::from_utf8_lossy(&file("key.pem")?),
        timeout: Duration::from_secs(10),
    })?;
    let path = SecretPath::parse(path)?;
    let pairs = client.kv("secret").pairs(&path)?.ok_or_else(|| format!("there is no secret {path}"))?;
    for (key, value) in &pairs {
        // `reveal` is the one way to the value; it is wiped from memory when `pairs` is dropped.
        println!("{key}: {} bytes", value.reveal().len());
    }
    Ok(())
}
