use super::super::{Defaults, Identities, Paths, Per, Quota};
use super::*;

const NOW_MS: u64 = 1_750_000_000_000;

fn quota(name: &str, identity: &str, path: &str, class: Class, per: Per, burst: u64) -> Quota {
    Quota {
        name: name.to_owned(),
        identities: Identities::parse(identity).expect("a pattern"),
        paths: Paths::parse(path).expect("a path"),
        class,
        per,
        rate: Rate::per_second(burst, burst),
    }
}

fn table(quotas: Vec<Quota>) -> Table {
    Table::compile(quotas, &Defaults::default(), &Table::default())
}

fn who<'a>(uri: &'a str) -> Who<'a> {
    Who::Admitted { uri, path: uri.strip_prefix("spiffe://example.org/").expect("of the test's domain") }
}

/// How many requests pass at once, up to 1,000.
fn passing(accounts: &Accounts, table: &Table, who: Who<'_>, class: Class, path: &str, now_ms: u64) -> usize {
    (0..1_000).take_while(|_| accounts.admit(table, who, class, path, now_ms).is_ok()).count()
}

const WEB: &str = "spiffe://example.org/app/web";
const JOB: &str = "spiffe://example.org/app/job";
const OPS: &str = "spiffe://example.org/ops/olga";

#[test]
fn the_most_specific_object_counts() {
    let own = |name, identity, path, class, burst| quota(name, identity, path, class, Per::Identity, burst);
    let table = table(vec![
        own("everybody", "*", "", Class::All, 10),
        own("everybody-here", "*", "secret/", Class::All, 11),
        own("apps", "app/*", "", Class::All, 20),
        own("apps-list", "app/*", "", Class::List, 21),
        own("web", "app/web", "", Class::Read, 30),
        own("web-folder", "app/web", "secret/data/x/", Class::Read, 31),
        own("web-one", "app/web", "secret/data/x/y", Class::Read, 32),
    ]);
    let check = |uri: &str, class, path: &str, want: usize| {
        let accounts = Accounts::default();
        assert_eq!(passing(&accounts, &table, who(uri), class, path, NOW_MS), want, "{uri} {class:?} {path}");
    };
    check(OPS, Class::Read, "sys/mounts", 10);
    check(OPS, Class::Read, "secret/data/a", 11);
    check(JOB, Class::Read, "secret/data/a", 20);
    check(JOB, Class::List, "secret/metadata/", 21);
    check(WEB, Class::Write, "secret/data/a", 20);
    check(WEB, Class::Read, "secret/data/a", 30);
    check(WEB, Class::Read, "secret/data/x/z", 31);
    check(WEB, Class::Read, "secret/data/x/y", 32);
}

#[test]
fn all_classes_share_one_bucket_and_bytes_do_not() {
    let table = table(vec![quota("all", "*", "", Class::All, Per::Identity, 10)]);
    let accounts = Accounts::default();
    for class in [Class::Read, Class::Write, Class::List] {
        for _ in 0..3 {
            accounts.admit(&table, who(WEB), class, "secret/data/a", NOW_MS).expect("within").settle(1_000_000);
        }
    }
    assert_eq!(passing(&accounts, &table, who(WEB), Class::Read, "secret/data/a", NOW_MS), 1);
}

#[test]
fn identities_do_not_touch_each_other() {
    let table = table(vec![quota("apps", "app/*", "", Class::Read, Per::Identity, 5)]);
    let accounts = Accounts::default();
    assert_eq!(passing(&accounts, &table, who(WEB), Class::Read, "a", NOW_MS), 5);
    assert_eq!(passing(&accounts, &table, who(JOB), Class::Read, "a", NOW_MS), 5);
    assert_eq!(passing(&accounts, &table, who(WEB), Class::Read, "a", NOW_MS + 400), 2);
}

#[test]
fn a_shared_bucket_is_one_for_all_and_counts_besides() {
    let shared = quota("house", "*", "", Class::Read, Per::All, 8);
    let table = table(vec![shared, quota("apps", "app/*", "", Class::Read, Per::Identity, 5)]);
    let accounts = Accounts::default();
    assert_eq!(passing(&accounts, &table, who(WEB), Class::Read, "a", NOW_MS), 5);
    // What was over web's own limit took nothing of the shared bucket.
    assert_eq!(passing(&accounts, &table, who(JOB), Class::Read, "a", NOW_MS), 3);
    assert_eq!(passing(&accounts, &table, who(OPS), Class::Read, "a", NOW_MS), 0);
}

#[test]
fn a_certificate_that_does_not_count_uses_up_nothing_of_its_identity() {
    let table = table(vec![quota("all", "*", "", Class::Read, Per::Identity, 5)]);
    let accounts = Accounts::default();
    let [one, two] = [[1; 32], [2; 32]];
    assert_eq!(passing(&accounts, &table, Who::Refused(&one), Class::Read, "a", NOW_MS), 5);
    assert_eq!(passing(&accounts, &table, Who::Refused(&two), Class::Read, "a", NOW_MS), 5);
    assert_eq!(passing(&accounts, &table, who(WEB), Class::Read, "a", NOW_MS), 5);
}

#[test]
fn bytes_are_charged_after_the_answer() {
    let table = table(vec![quota("bytes", "*", "", Class::Bytes, Per::Identity, 1_000)]);
    let accounts = Accounts::default();
    accounts.admit(&table, who(WEB), Class::Read, "a", NOW_MS).expect("nothing used").settle(3_000);
    let over = accounts.admit(&table, who(WEB), Class::Read, "a", NOW_MS).err().expect("in debt");
    assert_eq!((over.class, over.wait_ms), (Class::Bytes, 2_001));
    assert!(accounts.admit(&table, who(JOB), Class::Read, "a", NOW_MS).is_ok());
    assert!(accounts.admit(&table, who(WEB), Class::Read, "a", NOW_MS + 2_001).is_ok());
}

#[test]
fn a_new_table_keeps_what_did_not_change() {
    let apps = || quota("apps", "app/*", "", Class::Read, Per::Identity, 5);
    let house = || quota("house", "*", "", Class::Write, Per::All, 5);
    let old = table(vec![apps(), house()]);
    let accounts = Accounts::default();
    assert_eq!(passing(&accounts, &old, who(WEB), Class::Read, "a", NOW_MS), 5);
    assert_eq!(passing(&accounts, &old, who(WEB), Class::Write, "a", NOW_MS), 5);
    let same = Table::compile(
        vec![apps(), house(), quota("other", "ops/*", "", Class::Read, Per::Identity, 1)],
        &Defaults::default(),
        &old,
    );
    assert_eq!(passing(&accounts, &same, who(WEB), Class::Read, "a", NOW_MS), 0);
    assert_eq!(passing(&accounts, &same, who(JOB), Class::Write, "a", NOW_MS), 0);
    let raised = quota("apps", "app/*", "", Class::Read, Per::Identity, 7);
    let raised = Table::compile(vec![raised, house()], &Defaults::default(), &same);
    assert_eq!(passing(&accounts, &raised, who(WEB), Class::Read, "a", NOW_MS), 7, "a raised limit helps at once");
}

#[test]
fn one_line_a_second() {
    let table = table(vec![quota("none", "*", "", Class::Read, Per::Identity, 1)]);
    let accounts = Accounts::default();
    let mut lines = Vec::new();
    for n in 0..2_500 {
        if let Err(over) = accounts.admit(&table, who(WEB), Class::Read, "a", NOW_MS + n) {
            lines.extend(over.line.map(|line| (n, line)));
        }
    }
    let text = |n| (n, "none".to_owned());
    let want = [text(1), text(1_001), text(2_001)];
    let got: Vec<_> = lines.iter().map(|(n, (name, _))| (*n, name.clone())).collect();
    assert_eq!(got, want);
    let unwritten: Vec<u64> = lines.iter().map(|(_, (_, unwritten))| *unwritten).collect();
    // Of each thousand one passes and one is written.
    assert_eq!(unwritten, [0, 998, 998]);
    let totals = accounts.totals();
    assert_eq!(totals.allowed.0[0], 3);
    assert_eq!(totals.limited.0[0], 2_497);
    assert_eq!(totals.unwritten, 2_494);
}

#[test]
fn the_reserve_is_apart_from_every_limit() {
    let table = table(vec![quota("none", "*", "", Class::All, Per::Identity, 1)]);
    let accounts = Accounts::default();
    assert_eq!(passing(&accounts, &table, who(OPS), Class::Write, "sys/quotas/rate-limit/x", NOW_MS), 1);
    let reserved = (0..100).take_while(|_| accounts.admit_reserved(&table, who(OPS), Class::Write, NOW_MS).is_ok());
    assert_eq!(reserved.count(), 40);
    assert!(accounts.admit_reserved(&table, who(OPS), Class::Write, NOW_MS + 50).is_ok());
}

#[test]
fn memory_is_bounded_and_the_busy_stay() {
    let table = table(vec![quota("busy", "app/web", "", Class::Read, Per::Identity, 5)]);
    let accounts = Accounts::default();
    assert_eq!(passing(&accounts, &table, who(WEB), Class::Read, "a", NOW_MS), 5);
    for n in 0..MAX_ACCOUNTS * 2 {
        // The same time for all: nothing is idle, so the longest unused must go.
        let uri = format!("spiffe://example.org/job/{n}");
        accounts.admit(&table, who(&uri), Class::Read, "a", NOW_MS + 1).map(drop).expect("within");
    }
    assert!(accounts.totals().accounts <= MAX_ACCOUNTS);
    let accounts = Accounts::default();
    let later_ms = NOW_MS + 3_600_000;
    for n in 0..MAX_ACCOUNTS {
        let uri = format!("spiffe://example.org/job/{n}");
        accounts.admit(&table, who(&uri), Class::Read, "a", NOW_MS).map(drop).expect("within");
    }
    assert_eq!(passing(&accounts, &table, who(WEB), Class::Read, "a", later_ms), 5);
    for n in 0..MAX_ACCOUNTS / 2 {
        let uri = format!("spiffe://example.org/new/{n}");
        accounts.admit(&table, who(&uri), Class::Read, "a", later_ms).map(drop).expect("within");
    }
    assert_eq!(passing(&accounts, &table, who(WEB), Class::Read, "a", later_ms), 0, "idle accounts went first");
}

#[test]
fn certificates_of_others_take_bounded_memory_however_many_come() {
    let table = table(vec![quota("outsiders", "cert/*", "", Class::Read, Per::All, 1_000_000)]);
    let accounts = Accounts::default();
    let (mut most, mut fingerprint) = (0, [0_u8; 32]);
    for n in 0..200_000_u64 {
        // Half of them admitted by a role, half of them not; so many at once that none is idle.
        let now_ms = NOW_MS + n / 10_000;
        fingerprint[..8].copy_from_slice(&n.to_be_bytes());
        let uri = format!("spiffe://example.org/cert/{n:064x}");
        for who in [who(&uri), Who::Refused(&fingerprint)] {
            accounts.admit(&table, who, Class::Read, "secret/data/x", now_ms).map(drop).expect("within");
        }
        if n % 10_000 == 0 {
            most = most.max(accounts.totals().accounts);
        }
    }
    assert!((MAX_ACCOUNTS / 2..=MAX_ACCOUNTS).contains(&most), "{most}");
}
