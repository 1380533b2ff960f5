use proptest::prelude::*;

use super::*;

fn refused(json: &str) -> String {
    Policy::parse(json.as_bytes()).expect_err(json).to_string()
}

#[test]
fn defaults_and_full_form() {
    let least = Policy::parse(br#"{"generator":{"type":"uuid"}}"#).unwrap();
    assert_eq!(least, Policy::new(least.generator.clone()));
    assert_eq!((least.grace, least.reminders.as_slice()), (Ttl(86_400), &[30, 7, 1][..]));
    let full = br#"{"generator":{"type":"password","length":40},"schedule":{"every":"30d","window":"02:00-04:00"},
        "grace":"2d","target":"orders-db","user_key":"DB_USER","mode":"pair","expires_at_ms":5,"reminders":["14d","48h"]}"#;
    let full = Policy::parse(full).unwrap();
    assert_eq!(full.reminders, [14, 2]);
    assert_eq!(Policy::parse(serde_json::to_string(&full).unwrap().as_bytes()).unwrap(), full);
}

#[test]
fn errors_name_the_field() {
    for (rest, field) in [
        (r#""grace":"367d""#, "grace:"),
        (r#""schedule":{"every":"1h"}"#, "grace:"),
        (r#""schedule":{"every":"1s"}"#, "schedule.every:"),
        (r#""schedule":{"cron":"0 0 30 2 *"}"#, "schedule.cron:"),
        (r#""schedule":{"cron":"0 0 30 2"}"#, "schedule.cron:"),
        (r#""schedule":["1d"]"#, "schedule is not an object"),
        (r#""target":"A","user_key":"u""#, "target:"),
        (r#""target":"db""#, "user_key:"),
        (r#""user_key":"u""#, "user_key:"),
        (r#""target":"db","user_key":"\u0001""#, "user_key:"),
        (r#""expires_at_ms":0"#, "expires_at_ms:"),
        (r#""reminders":["1d","24h"]"#, "reminders:"),
        (r#""reminders":["1h"]"#, "reminders:"),
        (r#""reminders":["0d"]"#, "reminders:"),
        (r#""hooks":[]"#, "unknown field `hooks`"),
        (r#""mode":"triple""#, "unknown variant `triple`"),
        (r#""grace":"1d","grace":"2d""#, "duplicate key"),
    ] {
        let text = refused(&format!(r#"{{"generator":{{"type":"uuid"}},{rest}}}"#));
        assert!(text.contains(field), "{rest}: {text}");
    }
    assert!(refused(r#"{"generator":{"type":"password","length":9}}"#).contains("length"));
    assert!(refused(r#"{"generator":["uuid"]}"#).contains("generator"));
    assert!(refused("[]").contains("not an object"));
}

#[test]
fn reminders_come_once() {
    let policy = Policy::parse(br#"{"generator":{"type":"uuid"}}"#).unwrap();
    let end = 100 * DAY_MS;
    assert!(policy.reminders_due(end, 70 * DAY_MS - 1, &[]).is_empty());
    assert_eq!(policy.reminders_due(end, 70 * DAY_MS, &[]), [30]);
    assert!(policy.reminders_due(end, 80 * DAY_MS, &[30]).is_empty());
    assert_eq!(policy.reminders_due(end, 99 * DAY_MS, &[30]), [7, 1]);
    assert_eq!(policy.reminders_due(end, u64::MAX, &[30, 7]), [1]);
    assert_eq!(policy.reminders_due(DAY_MS, 0, &[]), [30, 7, 1]);
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "\\PC{0,60}") {
        let _ = Policy::parse(&bytes);
        let _ = Policy::parse(text.as_bytes());
        let _ = Policy::parse(format!("{{\"generator\":{{\"type\":\"uuid\"}},\"schedule\":{{\"cron\":{text:?}}}}}").as_bytes());
    }

    #[test]
    fn every_reminder_is_due_exactly_when_its_day_has_come(end: u64, now: u64, days in 1u32..3_650) {
        let mut policy = Policy::parse(br#"{"generator":{"type":"uuid"}}"#).unwrap();
        policy.reminders = vec![days];
        let due = u128::from(now) + u128::from(days) * u128::from(DAY_MS) >= u128::from(end);
        prop_assert_eq!(!policy.reminders_due(end, now, &[]).is_empty(), due);
    }
}
