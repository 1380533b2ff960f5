//! Waits for a rotation and shows its progress on standard error.

use std::time::{Duration, Instant};

use strongroom::api::rotation::RotationInfo;
use strongroom::api::sys::in_records;

use crate::connection::Session;
use crate::exit::{Code, Failure};
use crate::waiting::{Lasting, Line, now};

/// Pause between two requests to the vault.
const POLL: Duration = Duration::from_millis(200);
/// Number of cells in the bar.
const WIDTH: u64 = 24;

/// Waits until a rotation has ended, or until it needs an operator to continue. Meanwhile the certificate of a profile
/// is renewed when it is due.
///
/// # Errors
/// The vault is sealed or unreachable. The rotation continues by itself when it is back.
pub fn wait(session: &Session, started: RotationInfo) -> Result<RotationInfo, Failure> {
    let mut run = started;
    let mut shown = RunProgress::new(&run);
    let mut session = Lasting::new(session);
    loop {
        shown.show(&run);
        if !run.finished.is_empty() || run.paused || run.state == "needs-operator" {
            shown.line.end();
            return Ok(run);
        }
        std::thread::sleep(POLL);
        match session.now().client.rotation().rotation(&run.id) {
            Ok(Some(next)) => run = next,
            Ok(None) => {
                shown.line.end();
                let message = format!("the rotation {} no longer exists", run.id);
                return Err(Failure::new(Code::NotFound, message, "strongroom rotation list"));
            }
            Err(error) => {
                shown.line.end();
                let mut failure = Failure::from(error);
                if matches!(failure.code, Code::Sealed | Code::Unreachable) {
                    failure.hint = format!(
                        "the rotation continues by itself when the vault is unsealed again: strongroom rotation show {}",
                        run.id
                    );
                }
                return Err(failure);
            }
        }
        session.renew(|| shown.line.end());
    }
}

/// Turns the state of a rotation into an exit code.
///
/// # Errors
/// The rotation did not complete: it is paused, was aborted, or needs an operator.
pub fn verdict(run: &RotationInfo) -> Result<(), Failure> {
    if run.state == "done" {
        return Ok(());
    }
    let id = &run.id;
    let (what, hint) = match run.state.as_str() {
        _ if run.paused => ("is paused", format!("continue with: strongroom rotation resume {id}")),
        "aborted" => ("was aborted", "the older keys stay until the next rotation".to_owned()),
        "needs-operator" => ("needs an operator", format!("then: strongroom rotation resume {id}")),
        _ => ("has not ended", format!("strongroom rotation show {id}")),
    };
    let why = run.error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Err(Failure::new(Code::Refused, format!("the rotation {id} {what}{why}"), hint))
}

/// Steps and proofs of a rotation as text.
pub fn summary(run: &RotationInfo) -> String {
    let steps = run.steps.iter().map(|step| format!("{}: {}\n", step.step, step.result));
    steps.collect::<String>() + &outcome(run)
}

/// Proofs and state of a rotation as text. Its steps were shown while waiting.
pub fn outcome(run: &RotationInfo) -> String {
    let mut lines = Vec::new();
    for proof in &run.proofs {
        lines.push(format!(
            "proof: no record uses term {} at generation {}: {} compared, {} opened",
            proof.term,
            proof.generation,
            in_records(proof.records),
            proof.opened
        ));
    }
    let state = if run.paused { "paused" } else { run.state.as_str() };
    lines.push(format!("{} {}: {state}", run.kind, run.id));
    lines.join("\n")
}

/// The progress of one rotation.
struct RunProgress {
    line: Line,
    began: Instant,
    first_done: u64,
    steps: usize,
}

impl RunProgress {
    fn new(run: &RotationInfo) -> Self {
        Self { line: Line::new(), began: now(), first_done: run.done, steps: 0 }
    }

    fn show(&mut self, run: &RotationInfo) {
        let (steps, seen) = (run.steps.len(), std::mem::replace(&mut self.steps, run.steps.len()));
        if steps > seen {
            self.line.end();
            for step in run.steps.iter().skip(seen) {
                eprintln!("{}: {}", step.step, step.result);
            }
        }
        let text = progress(run, run.done.saturating_sub(self.first_done), self.began.elapsed());
        self.line.show(&text, &run.state);
    }
}

/// `draining [######------] 50% 1000 of 2000, 500/s, 2 s left`
fn progress(run: &RotationInfo, done: u64, elapsed: Duration) -> String {
    if !matches!(run.state.as_str(), "draining" | "deepening") || run.total == 0 {
        return run.state.clone();
    }
    let part = u128::from(run.done.min(run.total));
    let of = |whole: u64| u64::try_from(part * u128::from(whole) / u128::from(run.total)).unwrap_or(whole);
    let cells = usize::try_from(of(WIDTH)).unwrap_or(0);
    let bar: String = (0..usize::try_from(WIDTH).unwrap_or(0)).map(|at| if at < cells { '#' } else { '-' }).collect();
    let mut text = format!("{} [{bar}] {:>3}% {} of {}", run.state, of(100), run.done, run.total);
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    // Less than a second is too short to compute a rate.
    if elapsed_ms >= 1_000 && done > 0 {
        let rate = (done.saturating_mul(1_000) / elapsed_ms).max(1);
        let left = run.total.saturating_sub(run.done) / rate;
        text.push_str(&format!(", {rate}/s, {} left", span(left)));
    }
    text
}

/// `45 s`, `12 min`, `3 h 5 min`
fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: &str, done: u64, total: u64) -> RotationInfo {
        RotationInfo { state: state.into(), done, total, ..RotationInfo::default() }
    }

    #[test]
    fn progress_tells_share_rate_and_time_left() {
        let text = progress(&run("draining", 1_000, 4_000), 500, Duration::from_secs(5));
        assert_eq!(text, "draining [######------------------]  25% 1000 of 4000, 100/s, 30 s left");
        assert_eq!(progress(&run("proving", 4_000, 4_000), 1, Duration::ZERO), "proving");
        assert_eq!(progress(&run("draining", 0, 0), 0, Duration::ZERO), "draining");
        let most = progress(&run("draining", u64::MAX, u64::MAX), u64::MAX, Duration::from_secs(9));
        assert!(most.contains("100%"), "{most}");
        assert_eq!([span(119), span(600), span(8_000)], ["119 s", "10 min", "2 h 13 min"]);
    }

    #[test]
    fn only_an_end_that_is_well_is_a_success() {
        assert!(verdict(&run("done", 1, 1)).is_ok());
        let paused = RotationInfo { paused: true, id: "7".into(), ..run("draining", 0, 1) };
        for (run, hint) in
            [(paused, "resume 7"), (run("aborted", 0, 1), "next"), (run("needs-operator", 0, 1), "resume")]
        {
            let failure = verdict(&run).expect_err("not done");
            assert!(failure.hint.contains(hint), "{failure:?}");
        }
    }
}
