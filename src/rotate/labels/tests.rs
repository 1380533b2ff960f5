use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn a_life() {
    let mut labels = Labels::new(1).unwrap();
    assert_eq!(labels.promote(2, 100), Ok(None));
    assert_eq!(labels.previous(), Some(Previous { version: 1, grace_until_ms: 100 }));
    assert_eq!(labels.expire(99), None);
    assert_eq!(labels.promote(2, 0), Err(LabelError::NotNewer));
    assert_eq!(labels.promote(3, 200), Ok(Some(1)));
    assert_eq!(labels.expire(200), Some(2));
    assert_eq!((labels.current(), labels.previous(), labels.retired()), (3, None, &[1, 2][..]));
    assert_eq!(labels.promote(4, 300), Ok(None));
    assert_eq!(labels.expire(300), Some(3));
    // 3 was used: its number does not come back, also when a record says that 2 is current.
    let mut older: Labels = serde_json::from_str(r#"{"current":2,"retired":[1,3]}"#).unwrap();
    assert_eq!(older.promote(3, 0), Err(LabelError::NotNewer));
    assert_eq!(older.promote(4, 0), Ok(None));
    assert_eq!(Labels::new(0), Err(LabelError::NotNewer));
}

#[test]
fn contradictions_are_not_read() {
    for json in [
        r#"{"current":0}"#,
        r#"{"current":2,"previous":{"version":2,"grace_until_ms":1}}"#,
        r#"{"current":2,"previous":{"version":3,"grace_until_ms":1}}"#,
        r#"{"current":2,"retired":[2]}"#,
        r#"{"current":2,"retired":[1,1]}"#,
        r#"{"current":20,"retired":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}"#,
        r#"{"current":2,"value":"x"}"#,
        r#"{}"#,
    ] {
        assert!(serde_json::from_str::<Labels>(json).is_err(), "{json}");
    }
}

proptest! {
    #[test]
    fn no_version_is_in_two_places(steps in proptest::collection::vec((0u8..2, 0u64..40, 0u64..100), 0..80)) {
        let mut labels = Labels::new(1).unwrap();
        let mut used = BTreeSet::from([1]);
        for (step, number, time) in steps {
            let before = labels.clone();
            match step {
                0 => if labels.promote(number, time).is_ok() {
                    prop_assert!(used.insert(number), "version {} came back", number);
                    prop_assert_eq!(labels.current(), number);
                } else {
                    prop_assert_eq!(&labels, &before);
                },
                _ => { labels.expire(time); }
            }
            let mut all: Vec<u64> = labels.retired().to_vec();
            all.push(labels.current());
            all.extend(labels.previous().map(|previous| previous.version));
            prop_assert!(labels.retired().len() <= MOST_RETIRED);
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            prop_assert!(all.iter().all(|version| used.contains(version)));
            let json = serde_json::to_string(&labels).unwrap();
            prop_assert_eq!(serde_json::from_str::<Labels>(&json).unwrap(), labels.clone());
        }
    }

    #[test]
    fn reading_never_panics(text in "\\PC{0,60}") {
        let _ = serde_json::from_str::<Labels>(&text);
    }
}
