//! What a log proves to somebody who has only a public key.

use proptest::prelude::*;

use super::*;
use crate::audit::checkpoint::KeyChange;

/// What somebody with nothing but the first public key says of a log.
fn check_public(bytes: &[u8]) -> Report {
    let mut keys = AuditKeys::none();
    keys.add_public(1, crate::crypto::sign::public(&log_key(1, &key()).sign));
    verify([("log", bytes)], &keys, None)
}

#[test]
fn a_log_goes_on_under_a_new_key_that_the_old_one_signs() {
    let tape = Tape::default();
    let broker = broker(&tape);
    read(&broker, 0).unwrap();
    let newer = Key::fill_with(|bytes| bytes.copy_from_slice(&[9; 32]));
    broker.switch_key(5, log_key(2, &newer)).unwrap();
    broker.switch_key(5, log_key(2, &newer)).unwrap();
    read(&broker, 1).unwrap();
    broker.checkpoint(9).unwrap();
    let mut both = keys();
    both.add(2, &newer);
    let bytes = tape.0.lock().bytes.clone();
    assert!(verify([("log", bytes.as_slice())], &both, Some(broker.head())).is_good());
    assert_eq!(check(&bytes, None).findings[0].fault, Fault::UnknownKey(2));
    let report = check_public(&bytes);
    assert!(report.is_good() && report.signed && !report.authenticated, "{report:?}");
    assert_eq!((report.checkpoints, report.unsigned), (1, 0));
    // Another key that says it is the next one.
    let stranger = log_key(2, &key());
    let (mut forged, head) = log(2);
    let mut body = Vec::new();
    let impostor = Key::fill_with(|bytes| *bytes = [5; 32]);
    KeyChange::write(&mut body, 5, (1, &impostor), (2, &stranger.sign));
    chain::seal(&mut forged, &head, 1, &ChainKeys::new(&key()), &body);
    assert_eq!(check_public(&forged).findings[0].fault, Fault::BadSignature);
}

#[test]
fn checkpoints_are_written_every_thousand_entries_and_on_demand() {
    let tape = Tape::default();
    let broker = broker(&tape);
    for n in 0..2_100 {
        read(&broker, n).unwrap();
    }
    let bytes = |tape: &Tape| tape.0.lock().bytes.clone();
    let report = check_public(&bytes(&tape));
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!((report.checkpoints, report.signed_to, report.unsigned), (2, 2_001, 100));
    broker.checkpoint(1).unwrap();
    broker.checkpoint(1).unwrap();
    let report = check_public(&bytes(&tape));
    assert_eq!((report.checkpoints, report.unsigned), (3, 0), "nothing new, no checkpoint");
}

#[test]
fn a_signed_log_does_not_bear_a_cut_a_swap_or_an_insertion() {
    let tape = Tape::default();
    let broker = broker(&tape);
    for n in 0..20 {
        read(&broker, n).unwrap();
    }
    broker.checkpoint(1).unwrap();
    read(&broker, 20).unwrap();
    broker.checkpoint(1).unwrap();
    let bytes = tape.0.lock().bytes.clone();
    assert!(check_public(&bytes).is_good());
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let join = |lines: &[&[u8]]| lines.concat();
    for at in 0..lines.len() - 1 {
        let mut without = lines.clone();
        without.remove(at);
        assert!(!check_public(&join(&without)).is_good(), "line {at} left out");
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        assert!(!check_public(&join(&twice)).is_good(), "line {at} twice");
        let mut swapped = lines.clone();
        swapped.swap(at, at + 1);
        assert!(!check_public(&join(&swapped)).is_good(), "line {at} swapped");
    }
    // A genuine checkpoint of the same key, over another log.
    let other = Tape::default();
    let second = self::broker(&other);
    for n in 0..20 {
        read(&second, n + 50).unwrap();
    }
    second.checkpoint(1).unwrap();
    let foreign = other.0.lock().bytes.clone();
    let foreign: Vec<&[u8]> = foreign.split_inclusive(|byte| *byte == b'\n').collect();
    let mut mixed = lines[..20].to_vec();
    mixed.push(foreign[20]);
    assert!(!check_public(&join(&mixed)).is_good());
}

fn lines_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Somebody without any key says that entries are elsewhere, and changes what follows.
#[test]
fn a_made_up_gap_hides_nothing() {
    let lines = lines_of(signed_log());
    let parsed = chain::Line::parse(&lines[16][..lines[16].len() - 1]).expect("a line");
    let hex = |bytes: &[u8; 32]| data_encoding::HEXLOWER.encode(bytes);
    let note = format!(
        "{{\"seq\":17,\"prev\":\"{}\",\"key\":1,\"type\":\"note\",\"time\":\"2027-01-15T08:00:00.000Z\",\"kind\":\"rejoined\",\"from\":13,\"device\":\"file\",\"hash\":\"{}\"}}\n",
        hex(&parsed.prev),
        hex(&parsed.hash)
    );
    let mut forged = lines.clone();
    forged[16] = note.into_bytes();
    forged.drain(12..16);
    let report = check_public(&forged.concat());
    assert!(!report.is_good(), "{report:?}");
    assert!(report.findings.iter().any(|finding| matches!(finding.fault, Fault::Unproven { .. })), "{report:?}");
}

/// A file that ends without a checkpoint before the next one begins may have been written by anybody.
#[test]
fn a_file_without_a_checkpoint_at_its_end_proves_nothing() {
    let tape = Tape::default();
    let broker = broker(&tape);
    for n in 0..5 {
        read(&broker, n).unwrap();
    }
    let first = tape.0.lock().bytes.clone();
    assert!(!check_public(&first).is_good(), "no checkpoint at all");
    tape.0.lock().fresh = true;
    broker.reopen().unwrap();
    read(&broker, 5).unwrap();
    broker.checkpoint(1).unwrap();
    let both = tape.0.lock().bytes.clone();
    assert!(check_public(&both).is_good(), "{:?}", check_public(&both).findings);
    // The same without the checkpoint that closes the first file.
    let mut lines = lines_of(&both);
    let closing = lines.iter().position(|line| line.windows(10).any(|part| part == b"checkpoint")).expect("one");
    lines.remove(closing);
    assert!(!check_public(&lines.concat()).is_good());
}

#[test]
fn a_replaced_key_signs_nothing_any_more() {
    let tape = Tape::default();
    let broker = broker(&tape);
    read(&broker, 0).unwrap();
    let newer = Key::fill_with(|bytes| *bytes = [9; 32]);
    broker.switch_key(5, log_key(2, &newer)).unwrap();
    broker.checkpoint(6).unwrap();
    let head = broker.head();
    let mut bytes = tape.0.lock().bytes.clone();
    assert!(check_public(&bytes).is_good());
    // Whoever has the old key goes on with it.
    let old = chain::KeySet::from(log_key(1, &key()));
    let body = b"\"type\":\"note\",\"time\":\"2027-01-15T08:00:00.000Z\",\"kind\":\"sealed\"";
    chain::seal(&mut bytes, &head, 1, &old.chain, body);
    assert_eq!(check_public(&bytes).findings[0].fault, Fault::RetiredKey(1));
    let mut both = keys();
    both.add(2, &newer);
    let report = verify([("log", bytes.as_slice())], &both, None);
    assert_eq!(report.findings[0].fault, Fault::RetiredKey(1));
}

fn signed_log() -> &'static Vec<u8> {
    static LOG: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    LOG.get_or_init(|| {
        let tape = Tape::default();
        let broker = broker(&tape);
        for n in 0..60 {
            read(&broker, n).unwrap();
            if n % 25 == 24 || n == 59 {
                broker.checkpoint(1).unwrap();
            }
        }
        tape.0.lock().bytes.clone()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Without any secret. The last line is the last checkpoint: its own hash is covered by nothing.
    #[test]
    fn a_changed_byte_before_the_last_checkpoint_is_found_by_the_public_key(
        at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let bytes = signed_log();
        let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
        let mut changed = bytes.clone();
        changed[at.index(last + 1)] ^= flip;
        prop_assert!(!check_public(&changed).is_good());
    }
}
