//! A model server that asks for shell calls and notes when each request came and each answer went.
//!
//! One thread a connection and nothing else: what is measured is the client, so the server does as little as it can.
//! Each client speaks under a path of its own, `/s/NUMBER/`, by which its requests are told from those of others.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{memory, wire};
use crate::http;

/// A client that neither asks nor closes for this long is gone.
const IDLE: Duration = Duration::from_secs(120);

/// What one client is asked to do.
#[derive(Debug, Clone)]
pub struct Task {
    /// Shell calls before the last answer.
    pub calls: usize,
    /// `{}` stands for the number of the call, from 1.
    pub command: String,
    /// How long the model takes for each answer.
    pub think: Duration,
}

/// What was seen of one client.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When the first byte of each request for an answer came.
    pub asked: Vec<Instant>,
    /// When the last byte of each answer was handed to the kernel.
    pub answered: Vec<Instant>,
    /// Memory of the client and its processes when it asked for the last answer.
    pub memory_bytes: u64,
    /// Why it could not be served as it should.
    pub trouble: Option<String>,
}

impl Seen {
    /// From each answer to the next request.
    pub fn gaps(&self) -> Vec<Duration> {
        let next = self.asked.iter().skip(1);
        self.answered.iter().zip(next).map(|(answered, asked)| asked.saturating_duration_since(*answered)).collect()
    }
}

struct Client {
    task: Task,
    process: AtomicU32,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Shared {
    clients: Mutex<BTreeMap<u32, Arc<Client>>>,
    next: AtomicU32,
}

/// Lives as long as the program: its threads end with it.
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A client's place on the server.
pub struct Seat {
    client: Arc<Client>,
    /// Without `/v1`.
    pub base_url: String,
}

impl ModelServer {
    pub fn start() -> Result<Self, String> {
        let start = || -> io::Result<(TcpListener, SocketAddr)> {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = start().map_err(|error| format!("the model server cannot listen: {error}"))?;
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = accepting.clone();
                thread::spawn(move || http::serve(connection, IDLE, |to, request| answer(to, request, &shared)));
            }
        });
        Ok(Self { address, shared })
    }

    pub fn seat(&self, task: Task) -> Seat {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let client = Arc::new(Client { task, process: AtomicU32::new(0), seen: Mutex::default() });
        locked(&self.shared.clients).insert(number, client.clone());
        Seat { client, base_url: format!("http://{}/s/{number}", self.address) }
    }
}

impl Seat {
    /// Whose memory is looked at.
    pub fn belongs_to(&self, process: u32) {
        self.client.process.store(process, Ordering::Relaxed);
    }

    pub fn seen(&self) -> Seen {
        locked(&self.client.seen).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(connection: &mut TcpStream, request: &http::Request, shared: &Shared) -> io::Result<()> {
    let client = number(&request.path).and_then(|number| locked(&shared.clients).get(&number).cloned());
    let Some(client) = client else { return http::send(connection, "404 Not Found", "application/json", "{}") };
    if request.body.is_null() {
        return http::send(connection, "200 OK", "application/json", &wire::listing());
    }
    let offered = request.body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    if !offered {
        // A title for the conversation, or the like.
        let (kind, body) = wire::answer(&request.path, &request.body, None);
        return http::send(connection, "200 OK", kind, &body);
    }
    let done = wire::results(&request.body);
    let call = (done < client.task.calls).then(|| client.task.command.replace("{}", &(done + 1).to_string()));
    let call = match call.map(|command| wire::shell_call(&request.body, done, &command)).transpose() {
        Ok(call) => call,
        Err(trouble) => {
            locked(&client.seen).trouble = Some(trouble);
            None
        }
    };
    if call.is_none() {
        let bytes = memory::of_tree(client.process.load(Ordering::Relaxed));
        locked(&client.seen).memory_bytes = bytes;
    }
    let (kind, body) = wire::answer(&request.path, &request.body, call);
    locked(&client.seen).asked.push(request.came);
    thread::sleep(client.task.think);
    let sent = http::send(connection, "200 OK", kind, &body);
    locked(&client.seen).answered.push(Instant::now());
    sent
}

fn number(path: &str) -> Option<u32> {
    path.strip_prefix("/s/")?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn ask(connection: &mut TcpStream, seat: &Seat, results: usize) -> String {
        let tool = r#"{"type":"function","function":{"name":"bash","parameters":{"properties":{"command":{"type":"string"}}}}}"#;
        let result = r#"{"role":"tool","content":"x"}"#;
        let messages = vec![result; results].join(",");
        let body = format!(r#"{{"stream":false,"tools":[{tool}],"messages":[{messages}]}}"#);
        let path = seat.base_url.split_once("/s/").unwrap().1;
        let head = format!("POST /s/{path}/v1/chat/completions HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = vec![0; 64 * 1024];
        let count = connection.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }

    #[test]
    fn calls_are_asked_for_until_they_are_done_and_the_gaps_counted() {
        let server = ModelServer::start().unwrap();
        let seat = server.seat(Task { calls: 2, command: "echo {}".into(), think: Duration::ZERO });
        seat.belongs_to(std::process::id());
        let mut connection = TcpStream::connect(server.address).unwrap();
        assert!(ask(&mut connection, &seat, 0).contains("echo 1"));
        assert!(ask(&mut connection, &seat, 1).contains("echo 2"));
        assert!(ask(&mut connection, &seat, 2).contains("stop"));
        // The answer is noted after it was sent.
        while seat.seen().answered.len() < 3 {
            thread::yield_now();
        }
        let seen = seat.seen();
        assert_eq!((seen.gaps().len(), seen.trouble), (2, None));
        assert!(seen.memory_bytes > 1 << 20, "{}", seen.memory_bytes);
    }

    #[test]
    fn a_client_without_a_seat_gets_nothing() {
        let server = ModelServer::start().unwrap();
        let task = Task { calls: 0, command: String::new(), think: Duration::ZERO };
        let seat = Seat { client: server.seat(task).client, base_url: "x/s/77".into() };
        let mut connection = TcpStream::connect(server.address).unwrap();
        assert!(ask(&mut connection, &seat, 0).starts_with("HTTP/1.1 404"));
    }
}
