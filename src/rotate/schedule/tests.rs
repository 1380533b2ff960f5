use proptest::prelude::*;

use super::cron::CronError;
use super::*;

fn read(json: &str) -> Schedule {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn at(text: &str) -> u64 {
    crate::api::time::parse(text).unwrap()
}

#[test]
fn known_times() {
    for (json, last, next) in [
        (r#"{"every":"30d"}"#, "2026-01-01T12:00:00Z", "2026-01-31T12:00:00Z"),
        (r#"{"cron":"30 3 * * sun"}"#, "2026-11-21T08:00:00Z", "2026-11-22T03:30:00Z"),
        (r#"{"cron":"30 3 * * 7"}"#, "2026-11-22T03:30:00Z", "2026-11-29T03:30:00Z"),
        (r#"{"cron":"0 0 29 2 *"}"#, "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"),
        (r#"{"cron":"*/15 9-17/4 1,15 jan-mar *"}"#, "2026-01-01T17:45:00Z", "2026-01-15T09:00:00Z"),
        (r#"{"cron":"0 0 13 * fri"}"#, "2026-11-21T00:00:00Z", "2026-11-27T00:00:00Z"),
        (r#"{"cron":"0 0 * * fri-sun"}"#, "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
        (r#"{"every":"1d","window":"22:00-04:00"}"#, "2026-01-01T12:00:00Z", "2026-01-02T22:00:00Z"),
        (r#"{"every":"1d","window":"22:00-04:00"}"#, "2026-01-01T03:59:59Z", "2026-01-02T03:59:59Z"),
        (r#"{"every":"1d","window":"22:00-04:00"}"#, "2026-01-01T04:00:00Z", "2026-01-02T22:00:00Z"),
        (r#"{"cron":"0 12 * * *","window":"02:00-03:00"}"#, "2026-01-01T12:00:00Z", "2026-01-03T02:00:00Z"),
    ] {
        let schedule = read(json);
        assert_eq!(schedule.check(), Ok(()), "{json}");
        assert_eq!(schedule.next_after(at(last), 5), Some(at(next)), "{json}");
        assert_eq!(read(&serde_json::to_string(&schedule).unwrap()), schedule);
    }
}

#[test]
fn refuses_by_name() {
    for (json, error) in [
        ("{}", ScheduleError::Nothing),
        (r#"{"every":60,"cron":"* * * * *"}"#, ScheduleError::Both),
        (r#"{"every":59}"#, ScheduleError::TooOften),
        (r#"{"cron":"0 0 30 2 *"}"#, ScheduleError::NeverFires),
        (r#"{"cron":"0 0 31 4,6,9,11 *"}"#, ScheduleError::NeverFires),
        // The 29th of February that is also a Sunday: `*/7` begins with a star, so both must hold; 28 years apart.
        (r#"{"cron":"0 0 29 2 */7"}"#, ScheduleError::NeverFires),
        (r#"{"every":"1h","jitter":"61m"}"#, ScheduleError::Jitter(3_600)),
        (r#"{"cron":"0 0,6 * * *","jitter":"7h"}"#, ScheduleError::Jitter(6 * 3_600)),
        (r#"{"cron":"0 0 * * 1","jitter":"169h"}"#, ScheduleError::Jitter(7 * 86_400)),
        (r#"{"every":"1d","max_age":"23h"}"#, ScheduleError::MaxAge(86_400)),
    ] {
        assert_eq!(read(json).check(), Err(error), "{json}");
    }
    for json in [
        r#"{"every":"1d","x":1}"#,
        r#"{"every":""}"#,
        r#"{"every":null}"#,
        r#"{"every":"1d","window":"04:00-04:00"}"#,
        r#"{"every":"1d","window":"4:00-05:00"}"#,
        r#"{"every":"1d","window":"24:00-05:00"}"#,
    ] {
        assert!(serde_json::from_str::<Schedule>(json).is_err(), "{json}");
    }
    for text in ["", "* * * *", "* * * * * *", "@daily"] {
        assert_eq!(Cron::parse(text), Err(CronError::Fields), "{text}");
    }
    for text in ["60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8"] {
        assert!(matches!(Cron::parse(text), Err(CronError::Range(_))), "{text}");
    }
    for text in [
        "+1 * * * *",
        "5/2 * * * *",
        "9-3 * * * *",
        "*/0 * * * *",
        ", * * * *",
        "1, * * * *",
        "007 * * * *",
        "* * * mon *",
    ] {
        assert!(matches!(Cron::parse(text), Err(CronError::Field(_))), "{text}");
    }
}

#[test]
fn overdue_is_late_or_old() {
    let schedule = read(r#"{"every":"1d","jitter":"1h"}"#);
    let last = at("2026-01-01T00:00:00Z");
    assert!(!schedule.overdue(last, last + 25 * 3_600_000));
    assert!(schedule.overdue(last, last + 25 * 3_600_000 + 1));
    assert!(!schedule.overdue(last, 0), "a clock that jumped back");
}

#[test]
fn jitter_spreads_over_its_whole_range() {
    let schedule = read(r#"{"every":"1d","jitter":"100s"}"#);
    let mut tenths = [0u32; 10];
    for seed in 0..10_000 {
        let moved = schedule.next_after(0, seed).unwrap() - 86_400_000;
        tenths[usize::try_from(moved / 10_001).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|count| (850..1_150).contains(count)), "{tenths:?}");
}

/// A field as a set and as text.
fn some(least: u32, most: u32) -> impl Strategy<Value = (Vec<u32>, String)> {
    prop_oneof![
        1 => Just(((least..=most).collect(), "*".to_owned())),
        1 => (1..9u32).prop_map(move |step| ((least..=most).step_by(step as usize).collect(), format!("*/{step}"))),
        1 => (least..=most, least..=most, 1..4u32).prop_map(|(a, b, step)| {
            let (a, b) = (a.min(b), a.max(b));
            ((a..=b).step_by(step as usize).collect(), format!("{a}-{b}/{step}"))
        }),
        2 => proptest::collection::vec(least..=most, 1..4).prop_map(|list| {
            let text: Vec<String> = list.iter().map(u32::to_string).collect();
            (list, text.join(","))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn cron_is_what_looking_at_every_minute_finds(
        minute in some(0, 59), hour in some(0, 23), day in some(1, 31), month in some(1, 12), weekday in some(0, 6),
        start in 0u64..4_000_000_000,
    ) {
        let text = [&minute, &hour, &day, &month, &weekday].map(|field| field.1.as_str()).join(" ");
        let schedule = Schedule { cron: Some(Cron::parse(&text).unwrap()), ..Schedule::default() };
        let found = schedule.next_after(start * 1_000, 0);
        let both = day.1.starts_with('*') || weekday.1.starts_with('*');
        let mut slow = None;
        for now in (start / 60 + 1)..(start / 60 + 90 * 1_440) {
            let (of_hour, of_day) = ((now % 60) as u32, (now / 60 % 24) as u32);
            if !minute.0.contains(&of_hour) || !hour.0.contains(&of_day) {
                continue;
            }
            let date = jiff::Timestamp::from_second((now * 60) as i64).unwrap().to_zoned_datetime(jiff::tz::TimeZone::UTC);
            let d = day.0.contains(&(date.day() as u32));
            let w = weekday.0.contains(&(date.weekday().to_sunday_zero_offset() as u32));
            if month.0.contains(&(date.month() as u32)) && if both { d && w } else { d || w } {
                slow = Some(now * 60_000);
                break;
            }
        }
        match slow {
            Some(slow) => prop_assert_eq!(found, Some(slow), "{}", text),
            None => prop_assert!(found.is_none_or(|at| at >= (start / 60 + 90 * 1_440) * 60_000), "{}", text),
        }
        if schedule.check().is_ok() {
            prop_assert!(found.is_some(), "{}", text);
        }
    }

    #[test]
    fn the_next_time_is_later_inside_the_window_and_repeatable(
        last in 0u64..200_000_000_000_000, every in 60u64..10_000_000, jitter in 0u64..90_000,
        from in 0u16..1_440, length in 1u16..1_440, seed: u64,
    ) {
        let window = Window { from_minute: from, to_minute: (from + length) % 1_440 };
        prop_assert_eq!(Window::parse(&window.to_string()), Ok(window));
        let schedule = Schedule { every: Some(Ttl(every)), window: Some(window), jitter: Ttl(jitter), ..Schedule::default() };
        let next = schedule.next_after(last, seed).unwrap();
        prop_assert!(next >= last + every * 1_000);
        prop_assert!(next < last + every * 1_000 + 86_400_000);
        let minute = next / 60_000 % 1_440;
        let (from, to) = (u64::from(window.from_minute), u64::from(window.to_minute));
        let inside = if from < to { minute >= from && minute < to } else { minute >= from || minute < to };
        prop_assert!(inside);
        prop_assert_eq!(schedule.clone().next_after(last, seed), Some(next));
        prop_assert!(!schedule.overdue(last, next));
    }

    #[test]
    fn total_for_every_time(last: u64, now: u64, seed: u64, every: u64, text in "([*0-9,/-]{1,6} ){4}[*0-9a-z,/-]{1,6}|\\PC{0,20}") {
        for last in [last, u64::MAX - last % 100_000, last % 300_000_000_000_000] {
            let schedule = Schedule { every: Some(Ttl(every)), jitter: Ttl(now), window: Window::parse("23:59-00:01").ok(), ..Schedule::default() };
            let _ = (schedule.next_after(last, seed), schedule.overdue(last, now), schedule.check());
            if let Ok(cron) = Cron::parse(&text) {
                let schedule = Schedule { cron: Some(cron), ..Schedule::default() };
                let _ = (schedule.next_after(last, seed), schedule.overdue(last, now));
            }
        }
        let _ = Window::parse(&text);
    }
}
