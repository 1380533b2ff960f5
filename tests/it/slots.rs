//! The frozen header with the slot types beyond passphrase and key file (`tests/formats/v1/slots`).

use std::path::{Path, PathBuf};

use strongroom::crypto::aead::Suite;
use strongroom::crypto::password::OPEN_FLOOR;
use strongroom::crypto::random::SeededRandom;
use strongroom::crypto::recovery::RecoveryCode;
use strongroom::keys::{Header, HeaderError, NewSlot, Share, ShareError, Unlock, VaultId, WeakKdf};

const VAULT: VaultId = VaultId([0x51; 16]);
const PASSPHRASE: &[u8] = b"seven plain words are quite enough here";
const KEY_FILE: &[u8] = &[0xd4; 40];
const NOW: u64 = 1_790_000_000_000;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/v1/slots")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(directory().join(name)).unwrap()
}

fn text(secret: &strongroom::crypto::SecretBytes) -> String {
    String::from_utf8(secret.reveal().to_vec()).unwrap()
}

fn build() -> Vec<(&'static str, Vec<u8>)> {
    let random = SeededRandom::new(0x5352_0002);
    let code = RecoveryCode::generate(&random).unwrap();
    let shares = Share::create(&VAULT, 2, 3, &random).unwrap();
    let both = Unlock::PassphraseAndFile { passphrase: PASSPHRASE, file: KEY_FILE };
    let secrets = [both, Unlock::Recovery(code.reveal()), Unlock::Shares(&shares), Unlock::Hybrid(PASSPHRASE)];
    let names = ["both", "safe", "board", "absent"];
    let slots: Vec<NewSlot<'_>> =
        secrets.into_iter().zip(names).map(|(secret, label)| NewSlot { label, secret, params: OPEN_FLOOR }).collect();
    let (header, _) = Header::create_with(VAULT, &slots, &random, NOW, Suite::Aes256Gcm, WeakKdf::Allow).unwrap();
    let printed: Vec<String> = shares.iter().map(|share| format!("    \"{}\"", text(&share.render()))).collect();
    let manifest = format!(
        "{{\n  \"passphrase\": \"{}\",\n  \"key_file\": \"{}\",\n  \"recovery\": \"{}\",\n  \"shares\": [\n{}\n  ]\n}}\n",
        String::from_utf8(PASSPHRASE.to_vec()).unwrap(),
        strongroom::api::hex::hex(KEY_FILE),
        text(&code.render()),
        printed.join(",\n")
    );
    vec![("vault.hdr", header), ("manifest.json", manifest.into_bytes())]
}

#[test]
fn v1_slots_are_written_byte_for_byte() {
    for (name, bytes) in build() {
        if std::env::var_os("STRONGROOM_REGENERATE").is_some() {
            std::fs::create_dir_all(directory()).unwrap();
            std::fs::write(directory().join(name), &bytes).unwrap();
        }
        assert!(read(name) == bytes, "{name} differs");
    }
}

#[test]
fn v1_slots_open_with_what_is_printed() {
    let manifest: serde_json::Value = serde_json::from_slice(&read("manifest.json")).unwrap();
    let code = RecoveryCode::parse(manifest["recovery"].as_str().unwrap()).unwrap();
    let printed = manifest["shares"].as_array().unwrap().iter();
    let shares: Vec<Share> = printed.map(|share| Share::parse(share.as_str().unwrap()).unwrap()).collect();
    let header = Header::parse(&read("vault.hdr")).unwrap();
    let both = Unlock::PassphraseAndFile { passphrase: PASSPHRASE, file: KEY_FILE };
    let secrets = [both, Unlock::Recovery(code.reveal()), Unlock::Shares(&shares[1..]), Unlock::Hybrid(PASSPHRASE)];
    for unlock in secrets {
        assert_eq!(header.open(&unlock, WeakKdf::Refuse).unwrap().header, header);
    }
    let few = header.open(&Unlock::Shares(&shares[..1]), WeakKdf::Refuse).err();
    assert_eq!(few, Some(HeaderError::Share(ShareError::NotEnough { have: 1, need: 2 })));
}
