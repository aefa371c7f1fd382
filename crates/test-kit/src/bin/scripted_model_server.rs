//! The scripted model server as a program: `scripted-model-server SCRIPT [HOST:PORT]`.
//!
//! Prints its address as the first line of standard output (`http://127.0.0.1:PORT`), then one JSON
//! line for each request. A line on standard input releases one held answer; end of input does
//! nothing. Runs until it is killed.

use std::{net::SocketAddr, process::ExitCode};

use homarus_test_kit::{ModelServer, Script};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: scripted-model-server SCRIPT [HOST:PORT]")?;
    let address: SocketAddr = args
        .next()
        .map_or(Ok(SocketAddr::from(([127, 0, 0, 1], 0))), |text| text.parse())
        .map_err(|error| format!("not an address: {error}"))?;
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let script = Script::parse(&text).map_err(|error| format!("{path}: {error}"))?;
    let server = ModelServer::start_at(script, address).await.map_err(|error| format!("{address}: {error}"))?;
    println!("{}", server.base_url());
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let mut input_open = true;
    let mut shown = 0;
    loop {
        tokio::select! {
            line = input.next_line(), if input_open => match line {
                Ok(Some(_)) => server.release(),
                _ => input_open = false,
            },
            () = server.wait_for_requests(shown + 1) => {
                for request in server.requests().iter().skip(shown) {
                    shown += 1;
                    println!("{}", serde_json::json!({"method": request.method, "path": request.path, "body": request.body}));
                }
            }
        }
    }
}
