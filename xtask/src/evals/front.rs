//! A model server like OpenAI's over one inference worker: every engine asks the same weights in the same way, and
//! what it asks is counted here, the same for all.
//!
//! Each engine speaks under a path of its own, `/s/NUMBER/`, by which its requests are told from those of others.
//! There is one worker and one context: requests that come at the same time wait for each other.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    wire::{self, Answer},
    worker::{Done, Failure, Worker},
};
use crate::http;

/// A client that neither asks nor closes for this long is gone.
const IDLE: Duration = Duration::from_secs(600);
/// Reasons kept of one seat.
const TROUBLES_MAX: usize = 20;

/// What was counted of one seat.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Requests for an answer, those for titles and summaries among them.
    pub requests: u64,
    /// Those of them that offered no tools.
    pub without_tools: u64,
    /// Of all prompts, whole.
    pub input_tokens: u64,
    /// Of those, computed: the others were kept from the prompt before.
    pub computed_tokens: u64,
    pub output_tokens: u64,
    /// How long the model worked.
    pub model_time: Duration,
    /// Why requests got no answer.
    pub troubles: Vec<String>,
}

/// Lives as long as the program: its threads end with it.
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// An engine's place for one job.
pub struct Seat {
    place: Arc<Place>,
    shared: Arc<Shared>,
    /// Without `/v1`.
    pub base_url: String,
}

type Start = Box<dyn Fn() -> Result<Worker, String> + Send + Sync>;

struct Shared {
    model: String,
    start: Start,
    worker: Mutex<Option<Worker>>,
    places: Mutex<BTreeMap<u32, Arc<Place>>>,
    next: AtomicU32,
}

#[derive(Default)]
struct Place {
    counts: Mutex<Counts>,
    /// Requests and answers, a JSON object a line.
    log: Mutex<Option<File>>,
    is_closed: AtomicBool,
}

impl Front {
    /// Starts the worker at once, so that one that cannot be started is found out here.
    pub fn start(model: &str, start: Start) -> Result<Self, String> {
        let worker = Mutex::new(Some(start()?));
        let listen = || -> io::Result<(TcpListener, SocketAddr)> {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = listen().map_err(|error| format!("the model server cannot listen: {error}"))?;
        let (places, next) = (Mutex::default(), AtomicU32::new(0));
        let shared = Arc::new(Shared { model: model.to_owned(), start, worker, places, next });
        let accepting = shared.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = accepting.clone();
                thread::spawn(move || http::serve(connection, IDLE, |to, request| answer(to, request, &shared)));
            }
        });
        Ok(Self { address, shared })
    }

    /// A place for one job; `log` is where its requests and answers are written.
    pub fn seat(&self, log: &Path) -> Result<Seat, String> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let place = Arc::new(Place { log: Mutex::new(Some(file)), ..Place::default() });
        locked(&self.shared.places).insert(number, place.clone());
        Ok(Seat { place, shared: self.shared.clone(), base_url: format!("http://{}/s/{number}", self.address) })
    }

    /// Frees the memory of the worker until somebody asks again.
    pub fn rest(&self) {
        *locked(&self.shared.worker) = None;
    }
}

impl Seat {
    /// Stops what is under way for it, waits until that has ended, and says what was counted.
    pub fn close(self) -> Counts {
        self.place.is_closed.store(true, Ordering::Relaxed);
        drop(locked(&self.shared.worker));
        *locked(&self.place.log) = None;
        locked(&self.place.counts).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(connection: &mut TcpStream, request: &http::Request, shared: &Shared) -> io::Result<()> {
    let json = "application/json";
    let (number, path) = place_and_path(&request.path);
    let Some(place) = number.and_then(|number| locked(&shared.places).get(&number).cloned()) else {
        return http::send(connection, "404 Not Found", json, r#"{"error":{"message":"no such seat"}}"#);
    };
    match path {
        "v1/models" => http::send(connection, "200 OK", json, &wire::listing(&shared.model).to_string()),
        "v1/chat/completions" => complete(connection, &request.body, shared, &place),
        other => {
            let message = format!("there is no {other} here, only v1/models and v1/chat/completions");
            http::send(connection, "404 Not Found", json, &json!({"error": {"message": message}}).to_string())
        }
    }
}

/// `/s/3/v1/models?x=y` is the path `v1/models` of place 3.
fn place_and_path(path: &str) -> (Option<u32>, &str) {
    let path = path.split('?').next().unwrap_or_default();
    let Some((number, rest)) = path.strip_prefix("/s/").and_then(|rest| rest.split_once('/')) else {
        return (None, path);
    };
    (number.parse().ok(), rest)
}

fn complete(connection: &mut TcpStream, body: &Value, shared: &Shared, place: &Place) -> io::Result<()> {
    let (number, has_tools) = {
        let mut counts = locked(&place.counts);
        counts.requests += 1;
        let has_tools = body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
        counts.without_tools += u64::from(!has_tools);
        (counts.requests, has_tools)
    };
    let mut answer = Answer::new(format!("r{number}"), shared.model.clone());
    let mut stream = Stream { connection, wanted: body["stream"] == true, begun: false, broken: None };
    let result = match wire::to_worker(body) {
        Ok(request) => generate(request, shared, place, &mut stream, &mut answer),
        Err(message) => Err(Failure::Refused { class: "bad_request".to_owned(), message }),
    };
    note(place, body, &answer, &result, has_tools);
    if let Some(error) = stream.broken {
        return Err(error);
    }
    let (begun, wanted) = (stream.begun, stream.wanted);
    match result {
        Ok(done) if wanted => {
            if !begun {
                http::begin_pieces(connection, EVENTS)?;
            }
            http::piece(connection, &answer.end(&done))?;
            http::end_pieces(connection)
        }
        Ok(done) => http::send(connection, "200 OK", "application/json", &answer.whole(&done).to_string()),
        Err(failure) => {
            let (status, body) = wire::failure(&failure);
            if begun {
                http::piece(connection, &format!("data: {body}\n\n"))?;
                return http::end_pieces(connection);
            }
            http::send(connection, status, "application/json", &body.to_string())
        }
    }
}

const EVENTS: &str = "text/event-stream";

/// The client's side of an answer under way.
struct Stream<'a> {
    connection: &'a mut TcpStream,
    wanted: bool,
    begun: bool,
    broken: Option<io::Error>,
}

impl Stream<'_> {
    fn send(&mut self, events: &str) {
        if !self.wanted || self.broken.is_some() || events.is_empty() {
            return;
        }
        let begin = if self.begun { Ok(()) } else { http::begin_pieces(self.connection, EVENTS) };
        self.begun = true;
        self.broken = begin.and_then(|()| http::piece(self.connection, events)).err();
    }
}

fn generate(
    request: Value,
    shared: &Shared,
    place: &Place,
    stream: &mut Stream<'_>,
    answer: &mut Answer,
) -> Result<Done, Failure> {
    let mut worker = locked(&shared.worker);
    let watched = stream.connection.try_clone().map_err(|error| Failure::Broken(error.to_string()))?;
    let unwanted = || place.is_closed.load(Ordering::Relaxed) || http::is_closed(&watched);
    if unwanted() {
        return Err(Failure::Broken("the client went away before its turn".to_owned()));
    }
    if worker.is_none() {
        *worker = Some((shared.start)().map_err(Failure::Broken)?);
    }
    let Some(running) = worker.as_mut() else { return Err(Failure::Broken("there is no worker".to_owned())) };
    let began = Instant::now();
    let result = running.generate(request, &mut |reply| stream.send(&answer.take(reply)), &unwanted);
    locked(&place.counts).model_time += began.elapsed();
    if matches!(result, Err(Failure::Broken(_))) {
        *worker = None;
    }
    result
}

fn note(place: &Place, request: &Value, answer: &Answer, result: &Result<Done, Failure>, has_tools: bool) {
    let outcome = match result {
        Ok(done) => {
            let mut counts = locked(&place.counts);
            counts.input_tokens += done.input_tokens + done.cached_tokens;
            counts.computed_tokens += done.input_tokens;
            counts.output_tokens += done.output_tokens;
            answer.whole(done)
        }
        Err(failure) => {
            let (status, body) = wire::failure(failure);
            let message = body["error"]["message"].as_str().unwrap_or(status).to_owned();
            let mut counts = locked(&place.counts);
            if has_tools && counts.troubles.len() < TROUBLES_MAX {
                counts.troubles.push(message);
            }
            body
        }
    };
    if let Some(log) = locked(&place.log).as_mut() {
        // A log that cannot be written takes nothing from the figures.
        let _ = writeln!(log, "{}", json!({"request": request, "answer": outcome}));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::{super::worker::fake, *};

    fn front(answer: fn(Value) -> Vec<Value>) -> Front {
        Front::start("fake", Box::new(move || Ok(fake::worker(answer)))).unwrap()
    }

    fn seat(front: &Front, name: &str) -> (Seat, std::path::PathBuf) {
        let log = std::env::temp_dir().join(format!("xtask-front-{}-{name}", std::process::id()));
        (front.seat(&log).unwrap(), log)
    }

    /// What a client gets, head and body.
    fn ask(front: &Front, seat: &Seat, path: &str, body: &Value) -> String {
        let mut connection = TcpStream::connect(front.address).unwrap();
        let (body, number) = (body.to_string(), seat.base_url.rsplit_once('/').unwrap().1);
        let head = format!("POST /s/{number}/{path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write_all((head + &body).as_bytes()).unwrap();
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// As [`ask`], with a connection that stays open until the answer is there.
    fn ask_and_wait(front: &Front, seat: &Seat, body: &Value, end: &str) -> String {
        let mut connection = TcpStream::connect(front.address).unwrap();
        let (body, number) = (body.to_string(), seat.base_url.rsplit_once('/').unwrap().1);
        let head = format!("POST /s/{number}/v1/chat/completions HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write_all((head + &body).as_bytes()).unwrap();
        let (mut answer, mut part) = (String::new(), [0; 4096]);
        while !answer.ends_with(end) {
            let count = connection.read(&mut part).unwrap();
            assert!(count > 0, "{answer}");
            answer.push_str(&String::from_utf8_lossy(&part[..count]));
        }
        answer
    }

    fn says_hello(_: Value) -> Vec<Value> {
        vec![json!({"type": "text", "delta": "hello"}), fake::done("end_turn")]
    }

    #[test]
    fn answers_are_streamed_or_whole_and_counted() {
        let front = front(says_hello);
        let (seat, log) = seat(&front, "counted");
        let tool = json!({"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}});
        let request = json!({"stream": true, "messages": [{"role": "user", "content": "hi"}], "tools": [tool]});
        let streamed = ask_and_wait(&front, &seat, &request, "0\r\n\r\n");
        assert!(streamed.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream"), "{streamed}");
        assert!(streamed.contains("\"content\":\"hello\"") && streamed.contains("data: [DONE]"), "{streamed}");
        let whole = ask_and_wait(&front, &seat, &json!({"messages": []}), "}");
        assert!(whole.contains("application/json") && whole.contains("\"finish_reason\":\"stop\""), "{whole}");
        let counts = seat.close();
        assert_eq!((counts.requests, counts.without_tools), (2, 1));
        assert_eq!((counts.input_tokens, counts.computed_tokens, counts.output_tokens), (200, 140, 10));
        let lines = std::fs::read_to_string(&log).unwrap();
        assert_eq!(lines.lines().count(), 2);
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn what_is_not_here_is_said() {
        let front = front(says_hello);
        let (seat, log) = seat(&front, "paths");
        assert!(ask(&front, &seat, "v1/models", &Value::Null).contains("\"id\":\"fake\""));
        assert!(ask(&front, &seat, "v1/embeddings", &json!({})).starts_with("HTTP/1.1 404"));
        assert_eq!(place_and_path("/other"), (None, "/other"));
        assert_eq!(place_and_path("/s/3/v1/models?x=/y"), (Some(3), "v1/models"));
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_request_that_cannot_be_served_is_told_and_kept_as_trouble() {
        let front = front(|_| vec![json!({"type": "error", "class": "context_overflow", "message": "too long"})]);
        let (seat, log) = seat(&front, "trouble");
        let tool = json!({"type": "function", "function": {"name": "bash"}});
        let told = ask_and_wait(&front, &seat, &json!({"messages": [], "tools": [tool]}), "}}");
        assert!(told.starts_with("HTTP/1.1 400") && told.contains("context_length_exceeded"), "{told}");
        let told = ask_and_wait(&front, &seat, &json!({"messages": [{"role": "king"}]}), "}}");
        assert!(told.contains("king"), "{told}");
        assert_eq!(seat.close().troubles, ["too long"]);
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_client_that_went_away_gets_no_answer_and_holds_nobody_up() {
        // Only a cancel ends the request.
        let front = front(|request| match request["type"].as_str() {
            Some("cancel") => vec![fake::done("interrupted")],
            _ => Vec::new(),
        });
        let (seat, log) = seat(&front, "gone");
        ask(&front, &seat, "v1/chat/completions", &json!({"messages": []}));
        assert_eq!(seat.close().requests, 1);
        std::fs::remove_file(log).unwrap();
    }
}
