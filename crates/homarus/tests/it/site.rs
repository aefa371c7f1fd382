//! A small web server of the tests' own: answers by path, and remembers what it was sent.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Gives an answer for the first line of a request, for example `GET /a HTTP/1.1`.
type Answers = dyn Fn(&str) -> Vec<u8> + Send + Sync;

pub struct Site {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    /// Connections wait for it after their answer was written.
    open: Arc<Mutex<()>>,
}

impl Site {
    pub fn new(answers: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, open) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(())));
        let (answers, seen, held): (Arc<Answers>, _, _) = (Arc::new(answers), requests.clone(), open.clone());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, seen, held) = (answers.clone(), seen.clone(), held.clone());
                std::thread::spawn(move || {
                    serve(&stream, answers.as_ref(), &seen);
                    drop(held.lock());
                });
            }
        });
        Self { address, requests, open }
    }

    /// While this is kept, connections stay open after what they were answered.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.open.lock().unwrap()
    }

    pub fn wait_for_requests(&self, count: usize) {
        for _ in 0..1_000 {
            if self.requests().len() >= count {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{count} requests did not come");
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything it was sent, in lower case.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

pub fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub fn page(media: &str, body: &str) -> Vec<u8> {
    answer("200 OK", &format!("content-type: {media}\r\n"), body.as_bytes())
}

pub fn redirect(to: &str) -> Vec<u8> {
    answer("302 Found", &format!("location: {to}\r\n"), b"")
}

fn serve(mut stream: &TcpStream, answers: &Answers, seen: &Mutex<Vec<String>>) {
    let mut got = Vec::new();
    let mut buffer = [0u8; 4096];
    let text = loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => got.extend_from_slice(&buffer[..count]),
        }
        let text = String::from_utf8_lossy(&got).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0usize) {
            break text;
        }
    };
    seen.lock().unwrap().push(text.to_lowercase());
    // Whoever has read enough hangs up.
    let _ = stream.write_all(&answers(text.lines().next().unwrap_or_default()));
}
