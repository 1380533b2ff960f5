//! systemd's readiness protocol (`sd_notify(3)`): one datagram to the socket that the service manager names.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Sends `state` (for example `READY=1`) to the service manager. Does nothing without a service manager. Returns
/// `false` when sending failed; the daemon can run without it, so the caller only logs this.
pub fn notify(socket: Option<&str>, state: &str) -> bool {
    let Some(name) = socket.filter(|name| !name.is_empty()) else { return true };
    let address = match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name.as_bytes()),
        None => SocketAddr::from_pathname(name),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.send(state.as_bytes())
    });
    sent.is_ok()
}

/// How often the service manager is told that the start continues, and how much longer it must wait each time.
const EVERY: Duration = Duration::from_secs(2);
const EXTENSION: &str = "EXTEND_TIMEOUT_USEC=60000000";
/// Every fifth of these messages is also logged.
const LOGGED: u32 = 5;

/// Runs `work`, the part of a start that may take minutes, because an engine that was not closed may have to read its
/// whole file. Meanwhile a second thread tells the service manager to wait and logs the progress. That thread ends with
/// `work`, even if `work` panics. If the thread cannot be started, `work` runs without messages.
pub fn during<T>(socket: Option<&str>, what: &str, work: impl FnOnce() -> T) -> T {
    told(EVERY, work, |times| {
        let seconds = EVERY.as_secs().saturating_mul(times.into());
        let _ = notify(socket, &format!("{EXTENSION}\nSTATUS={what}, for {seconds} s"));
        if times % LOGGED == 0 {
            tracing::warn!("{what}, for {seconds} s: it was not closed properly last time; please wait");
        }
    })
}

/// Runs `work` and calls `tell` with a rising number at every interval until `work` is done.
fn told<T>(every: Duration, work: impl FnOnce() -> T, mut tell: impl FnMut(u32) + Send) -> T {
    let (working, done) = channel::<()>();
    std::thread::scope(|scope| {
        let wait = move || {
            let mut times = 0_u32;
            while done.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                times = times.saturating_add(1);
                tell(times);
            }
        };
        let _ = std::thread::Builder::new().name("patience".to_owned()).spawn_scoped(scope, wait);
        let result = work();
        drop(working);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_start_is_told_until_it_ends_and_a_short_one_is_not() {
        let (sender, told_times) = channel();
        let tell = |times| sender.send(times).unwrap();
        let result = told(Duration::from_millis(1), || [told_times.recv().unwrap(), told_times.recv().unwrap()], tell);
        assert_eq!(result, [1, 2]);
        assert_eq!(told(Duration::from_secs(3_600), || 7, |_| panic!("nothing took long")), 7);
        let failed = std::panic::catch_unwind(|| told::<u8>(Duration::from_millis(1), || panic!("expected"), |_| ()));
        assert!(failed.is_err(), "a failing start is not held up");
    }

    #[test]
    fn patience_is_asked_for_in_the_words_of_the_protocol() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut buffer = [0; 128];
        let length = during(path.to_str(), "opening the store", || receiver.recv(&mut buffer).unwrap());
        assert_eq!(&buffer[..length], b"EXTEND_TIMEOUT_USEC=60000000\nSTATUS=opening the store, for 2 s");
    }

    #[test]
    fn ready_arrives_on_the_named_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        assert!(notify(path.to_str(), "READY=1"));
        let mut buffer = [0; 16];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn absent_manager_is_silent_and_a_dead_socket_is_reported() {
        assert!(notify(None, "READY=1"));
        assert!(!notify(Some("/nonexistent/notify"), "READY=1"));
    }
}
