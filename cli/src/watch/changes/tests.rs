use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::rc::Rc;

use strongroom::api::secret::SecretText;
use strongroom::exec::ExecPolicy;

use super::*;

/// What the pretended vault does, call by call; it stays as it is when a list is used up.
#[derive(Default)]
struct Script {
    hints: VecDeque<Result<bool, Failure>>,
    values: VecDeque<Result<&'static str, Failure>>,
    reconnects: usize,
    reads: usize,
}

struct Pretended(Rc<RefCell<Script>>);

impl Changes for Pretended {
    fn wait(&mut self) -> Result<bool, Failure> {
        self.0.borrow_mut().hints.pop_front().expect("a hint for every step")
    }

    fn environment(&mut self) -> Result<ChildEnv, Failure> {
        let mut script = self.0.borrow_mut();
        script.reads += 1;
        script.values.pop_front().expect("a value for every look").map(with)
    }

    fn reconnect(&mut self) {
        self.0.borrow_mut().reconnects += 1;
    }
}

fn with(value: &str) -> ChildEnv {
    let inherited = [(OsString::from("HOME"), OsString::from("/"))];
    let secrets = [("KEY".to_owned(), SecretText::from(value))];
    ChildEnv::build(inherited.into_iter(), &secrets, &ExecPolicy::default()).expect("legal")
}

fn failed(code: Code, message: &str) -> Failure {
    Failure::new(code, message, "")
}

/// What the steps found, said and slept.
struct Seen {
    found: Vec<bool>,
    said: Vec<String>,
    slept: Vec<Duration>,
    script: Rc<RefCell<Script>>,
}

fn play(hints: Vec<Result<bool, Failure>>, values: Vec<Result<&'static str, Failure>>) -> Seen {
    let steps = hints.len();
    let script = Rc::new(RefCell::new(Script { hints: hints.into(), values: values.into(), ..Script::default() }));
    let said = RefCell::new(Vec::new());
    let say = |text: &str| said.borrow_mut().push(text.to_owned());
    let mut watcher = Watcher::new(Pretended(Rc::clone(&script)), Arc::new(with("one")), || 0, say);
    let mut slept = Vec::new();
    let found = (0..steps).map(|_| watcher.step(|pause| slept.push(pause)).is_some()).collect();
    drop(watcher);
    Seen { found, said: said.into_inner(), slept, script }
}

#[test]
fn only_another_environment_is_news() {
    let seen =
        play(vec![Ok(true), Ok(false), Ok(true), Ok(true), Ok(true)], vec![Ok("one"), Ok("two"), Ok("two"), Ok("one")]);
    assert_eq!(seen.found, [false, false, true, false, true]);
    assert!(seen.said.is_empty() && seen.slept.is_empty());
    assert_eq!(seen.script.borrow().reads, 4, "nothing heard, nothing read");
}

#[test]
fn a_vault_that_is_away_is_asked_again_later_and_later_and_mentioned_once() {
    let refused = || failed(Code::Unreachable, "connection refused");
    let sealed = || failed(Code::Sealed, "Vault is sealed");
    let seen = play(
        vec![Err(refused()), Err(refused()), Err(sealed()), Err(refused()), Ok(true), Err(refused())],
        vec![Err(refused()), Err(refused()), Err(sealed()), Ok("two"), Ok("two"), Ok("three")],
    );
    assert_eq!(seen.found, [false, false, false, true, false, true], "what changed meanwhile counts");
    assert_eq!(seen.said, ["connection refused; the program keeps the values it has", "the vault answers again"]);
    assert_eq!(seen.slept.iter().map(Duration::as_millis).collect::<Vec<_>>(), [500, 1_000, 2_000, 4_000, 500]);
    assert_eq!(seen.script.borrow().reconnects, 5);
}

#[test]
fn a_hint_without_a_look_is_not_lost() {
    let seen = play(vec![Ok(true), Ok(true)], vec![Err(failed(Code::Unreachable, "closed")), Ok("two")]);
    assert_eq!(seen.found, [false, true]);
    assert_eq!((seen.script.borrow().reconnects, seen.slept.len()), (1, 1), "the next wait answers at once");
}

#[test]
fn values_that_may_not_be_read_are_mentioned_once_and_looked_for() {
    let denied = || failed(Code::Denied, "permission denied");
    let seen = play(
        vec![Ok(true), Ok(false), Ok(false), Ok(true), Ok(false)],
        vec![Err(denied()), Err(denied()), Err(failed(Code::NotFound, "there is no secret app")), Ok("one")],
    );
    assert_eq!(seen.found, [false; 5]);
    let keeps = "; the program keeps the values it has";
    let expected = [
        format!("permission denied{keeps}"),
        format!("there is no secret app{keeps}"),
        "the vault answers again".to_owned(),
    ];
    assert_eq!(seen.said, expected);
    assert_eq!(seen.script.borrow().reads, 4, "once all is well it is looked at hints only");
}

#[test]
fn a_vault_that_reports_no_changes_is_looked_at() {
    let no_route = || failed(Code::NotFound, "nothing there");
    let seen = play(vec![Err(no_route()), Err(no_route()), Err(no_route())], vec![Ok("one"), Ok("two"), Ok("two")]);
    assert_eq!(seen.found, [false, true, false]);
    assert_eq!(seen.said, ["change notifications failed (nothing there); checking every 30 seconds instead"]);
    assert_eq!(seen.slept.len(), 3);
}

#[test]
fn pauses_double_up_to_half_a_minute_and_are_cut_at_random() {
    let mut full = Backoff::new(|| 0);
    let pauses: Vec<u128> = (0..9).map(|_| full.pause().as_millis()).collect();
    assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    full.reset();
    assert_eq!(full.pause().as_millis(), 500);
    let mut cut = Backoff::new(|| u8::MAX);
    assert_eq!((cut.pause().as_millis(), cut.pause().as_millis()), (250, 500));
}
