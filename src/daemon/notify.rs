//! systemd's readiness protocol (`sd_notify(3)`): one datagram on the socket named by the service manager.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells the service manager `state` (for example `READY=1`). Without a service manager it does nothing; a failure to
/// send is not an error of the daemon, so it is reported as `false` for the log only.
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

#[cfg(test)]
mod tests {
    use super::*;

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
