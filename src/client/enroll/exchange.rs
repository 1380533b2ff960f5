//! One HTTP/1.1 request and reply (RFC 9112) on one TLS connection, with limits on size and time.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, Error as TlsError};
use zeroize::Zeroizing;

use crate::api::error::HEADER;
use crate::client::error::{ClientError, transport};
use crate::wiped::Buffer;

/// Largest head of a reply, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Largest body of a reply, in bytes: a chain, a bundle of authorities and some addresses.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// A reply.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// The line of `X-Strongroom-Error`, unparsed.
    pub(super) error: Option<String>,
}

/// Why there is no usable reply.
#[derive(Debug)]
pub(super) enum Broken {
    Io(io::Error),
    Protocol(&'static str),
}

impl Broken {
    pub(super) fn words(self, address: &str) -> ClientError {
        match self {
            Self::Io(error) => transport(error.into(), address),
            Self::Protocol(problem) => ClientError::Malformed(problem),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Returns the time left until `deadline`.
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    // The time of the real network.
    #[allow(clippy::disallowed_methods)]
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A socket that gives up at a fixed time, however slowly bytes arrive.
struct Limited {
    tcp: TcpStream,
    deadline: Instant,
}

impl Read for Limited {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(Some(left(self.deadline)?))?;
        self.tcp.read(into)
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(Some(left(self.deadline)?))?;
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// A TLS connection for one exchange.
pub(super) struct Line {
    tls: ClientConnection,
    socket: Limited,
}

impl Line {
    pub(super) fn new(tls: ClientConnection, tcp: TcpStream, deadline: Instant) -> Self {
        Self { tls, socket: Limited { tcp, deadline } }
    }

    pub(super) fn handshake(&mut self) -> io::Result<()> {
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.socket)?;
        }
        Ok(())
    }

    pub(super) fn export(&self, into: &mut [u8], label: &[u8]) -> Result<(), TlsError> {
        self.tls.export_keying_material(into, label, Some(&[])).map(drop)
    }

    pub(super) fn post(&mut self, host: &str, path: &str, body: &[u8]) -> Result<Reply, Broken> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             X-Vault-Request: true\r\nUser-Agent: strongroom/{}\r\nConnection: close\r\n\r\n",
            body.len(),
            env!("CARGO_PKG_VERSION"),
        );
        let mut stream = rustls::Stream::new(&mut self.tls, &mut self.socket);
        let sent =
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
        // A server that rejects early gives its reason before it closes. That reason is more useful than "broken pipe".
        match (read_reply(&mut stream), sent) {
            (Ok(reply), _) => Ok(reply),
            (Err(_), Err(error)) => Err(error.into()),
            (Err(broken), Ok(())) => Err(broken),
        }
    }
}

fn read_reply(source: &mut impl Read) -> Result<Reply, Broken> {
    let mut held = Buffer::new();
    loop {
        let end = held.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            if held.len() >= MAX_HEAD_BYTES || more(source, &mut held, MAX_HEAD_BYTES)? == 0 {
                return Err(Broken::Protocol("the server does not answer in HTTP/1.1"));
            }
            continue;
        };
        let head = parse_head(held.get(..end).unwrap_or_default())?;
        // Provisional replies (RFC 9110 section 15.2) precede the real one.
        if (100..200).contains(&head.status) {
            let mut rest = Buffer::new();
            rest.put(held.get(end + 4..).unwrap_or_default());
            held = rest;
            continue;
        }
        let length = head.length.ok_or(Broken::Protocol("the server does not say how long its reply is"))?;
        if length > MAX_BODY_BYTES {
            return Err(Broken::Protocol("the reply is too large"));
        }
        let whole = end + 4 + length;
        while held.len() < whole {
            if more(source, &mut held, whole)? == 0 {
                return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let body = held.get(end + 4..whole).unwrap_or_default();
        return Ok(Reply { status: head.status, body: Zeroizing::new(body.to_vec()), error: head.error });
    }
}

/// Reads once; never past `limit` bytes in all.
fn more(source: &mut impl Read, held: &mut Buffer, limit: usize) -> io::Result<usize> {
    let mut chunk = Zeroizing::new([0; 4096]);
    let room = limit.saturating_sub(held.len()).min(chunk.len());
    let read = source.read(chunk.get_mut(..room).unwrap_or_default())?;
    held.put(chunk.get(..read).unwrap_or_default());
    Ok(read)
}

struct Head {
    status: u16,
    length: Option<usize>,
    error: Option<String>,
}

/// Parses status line and headers. Never panics.
fn parse_head(head: &[u8]) -> Result<Head, Broken> {
    const NOT_HTTP: Broken = Broken::Protocol("the server does not answer in HTTP/1.1");
    let text = std::str::from_utf8(head).map_err(|_| NOT_HTTP)?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|rest| rest.get(..3));
    let status = status.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let status = status.and_then(|digits| digits.parse().ok()).filter(|status| *status >= 100).ok_or(NOT_HTTP)?;
    let (mut length, mut error) = (None, None);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(NOT_HTTP)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Broken::Protocol("the server's reply is in an unsupported format"));
        }
        if name.eq_ignore_ascii_case(HEADER) {
            error = Some(value.to_owned());
        }
        if name.eq_ignore_ascii_case("content-length") {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let value: usize = value.parse().ok().filter(|_| digits).ok_or(NOT_HTTP)?;
            if length.replace(value).is_some_and(|before| before != value) {
                return Err(NOT_HTTP);
            }
        }
    }
    Ok(Head { status, length, error })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in small pieces.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let amount = self.1.min(into.len()).min(self.0.len());
            let (now, later) = self.0.split_at(amount);
            into[..amount].copy_from_slice(now);
            self.0 = later;
            Ok(amount)
        }
    }

    fn read(bytes: &[u8], step: usize) -> Result<(u16, Vec<u8>), Broken> {
        read_reply(&mut Drip(bytes, step)).map(|reply| (reply.status, reply.body.to_vec()))
    }

    #[test]
    fn a_reply_is_read_in_any_pieces() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\ncontent-LENGTH: 2\r\nx: y\r\n\r\n{}later";
        for step in [1, 3, 1000] {
            assert_eq!(read(bytes, step).unwrap(), (403, b"{}".to_vec()));
        }
    }

    #[test]
    fn what_is_not_whole_or_not_clear_is_refused() {
        for bad in [
            "",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 20\u{e9} OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfour",
            "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert!(read(bad.as_bytes(), 7).is_err(), "{bad:?}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'a'; 2 * MAX_HEAD_BYTES]].concat();
        assert!(matches!(read(&endless, 4096), Err(Broken::Protocol(_))));
        let provisional = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000);
        assert!(read(&provisional, 4096).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(
            head in "HTTP/1.1 [0-9]{3} \\PC{0,20}\r\n(content-length: [0-9]{1,4}\r\n)?",
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            step in 1_usize..64,
        ) {
            let _ = read(&bytes, step);
            let _ = read(&[head.as_bytes(), &bytes].concat(), step);
            let _ = read(&[head.as_bytes(), b"\r\n", &bytes].concat(), step);
        }
    }
}
