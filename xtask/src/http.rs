//! The server side of HTTP/1.1, as much of it as the programs that are measured need: requests with a length and a
//! JSON body, answers with a length or in pieces.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 64 << 20;

pub struct Request {
    /// When its first byte came.
    pub came: Instant,
    pub path: String,
    /// `null` if there is none, or if it is not JSON.
    pub body: Value,
}

/// Answers what comes over a connection until it ends or is idle for too long. One that breaks is its client's business:
/// what it did not ask is missing in what was seen.
pub fn serve(
    mut connection: TcpStream,
    idle: Duration,
    mut answer: impl FnMut(&mut TcpStream, &Request) -> io::Result<()>,
) {
    let _ = connection.set_nodelay(true);
    let _ = connection.set_read_timeout(Some(idle));
    let mut rest = Vec::new();
    while let Ok(Some(request)) = read(&mut connection, &mut rest) {
        if answer(&mut connection, &request).is_err() {
            return;
        }
    }
}

/// The next request, `None` if there is none or none that can be read; `rest` holds what came after the one before.
pub fn read(connection: &mut TcpStream, rest: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let mut came = (!rest.is_empty()).then(Instant::now);
    let head_end = loop {
        if let Some(at) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if rest.len() > HEAD_BYTES_MAX || !more(connection, rest, &mut came)? {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&rest[..head_end]).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)))
    };
    let length = header("content-length").and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0_usize);
    if header("expect").is_some() {
        connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if length > BODY_BYTES_MAX || header("transfer-encoding").is_some() {
        return Ok(None);
    }
    while rest.len() < head_end + length {
        if !more(connection, rest, &mut came)? {
            return Ok(None);
        }
    }
    let body = serde_json::from_slice(&rest[head_end..head_end + length]).unwrap_or(Value::Null);
    rest.drain(..head_end + length);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Some(Request { came: came.unwrap_or_else(Instant::now), path, body }))
}

/// A whole answer.
pub fn send(connection: &mut TcpStream, status: &str, kind: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let whole = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}");
    connection.write_all(whole.as_bytes())
}

/// The head of an answer that comes in pieces.
pub fn begin_pieces(connection: &mut TcpStream, kind: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.write_all(head.as_bytes())
}

/// One piece of it; an empty one would end it and is not sent.
pub fn piece(connection: &mut TcpStream, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    connection.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

pub fn end_pieces(connection: &mut TcpStream) -> io::Result<()> {
    connection.write_all(b"0\r\n\r\n")
}

/// Whether the other side has closed the connection. What it sent meanwhile stays to be read.
pub fn is_closed(connection: &TcpStream) -> bool {
    if connection.set_nonblocking(true).is_err() {
        return true;
    }
    let closed = match connection.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    };
    closed | connection.set_nonblocking(false).is_err()
}

fn more(connection: &mut TcpStream, rest: &mut Vec<u8>, came: &mut Option<Instant>) -> io::Result<bool> {
    let mut buffer = [0; 64 * 1024];
    let count = connection.read(&mut buffer)?;
    came.get_or_insert_with(Instant::now);
    rest.extend_from_slice(&buffer[..count]);
    Ok(count > 0)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn requests_that_come_together_are_read_one_after_the_other() {
        let (mut client, mut server) = pair();
        client.write_all(b"POST /a HTTP/1.1\r\nContent-Length: 7\r\n\r\n{\"a\":1}GET /b HTTP/1.1\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        let first = read(&mut server, &mut rest).unwrap().unwrap();
        assert_eq!((first.path.as_str(), first.body["a"].as_i64()), ("/a", Some(1)));
        let second = read(&mut server, &mut rest).unwrap().unwrap();
        assert_eq!((second.path.as_str(), second.body.is_null()), ("/b", true));
        assert!(!is_closed(&server));
        drop(client);
        assert!(read(&mut server, &mut rest).unwrap().is_none());
        assert!(is_closed(&server));
    }

    #[test]
    fn pieces_are_framed_by_their_lengths() {
        let (mut client, mut server) = pair();
        begin_pieces(&mut server, "text/plain").unwrap();
        piece(&mut server, "0123456789ü").unwrap();
        piece(&mut server, "").unwrap();
        end_pieces(&mut server).unwrap();
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("\r\n\r\nc\r\n0123456789ü\r\n0\r\n\r\n"), "{text}");
    }
}
