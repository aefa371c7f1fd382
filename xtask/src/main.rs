//! The project's own chores, in Rust so that they run wherever the project builds: `cargo xtask help`.
//!
//! Comes in: a command line. Goes out: builds, test results, a demo. It talks to Homarus only through
//! its command line, as a user would.

mod bench;
mod bootstrap;
mod build;
mod demo;
mod env;
mod evals;
mod http;
mod places;
mod sh;
mod test;
mod tidy;
mod torture;

use std::process::ExitCode;

use places::Places;

const HELP: &str = "\
usage: cargo xtask COMMAND

  bootstrap   installs what building and testing need and this machine lacks (Debian, as root)
  build       builds `homarus` and its inference worker, and puts them side by side
  demo        does the main demo job with the embedded model, and checks on disk that it was done
      --all         does all the jobs instead; at least 8 of 10 must succeed
      --job NAME    does one job
      --keep        keeps the temporary folders
  tidy        checks what a compiler cannot: edges between crates, module docs, sizes, leftovers
  torture     kills processes at random instants, takes their runs over until they end, and counts what was
              lost or doubled
      --kills N     how many (50)
      --seed S      what is drawn: jobs, instants (1)
      --at-once N   how many jobs run at the same time (3)
      --out FILE    writes the table to a file too
      --release     uses the release build instead of the debug build
      --takeover N  kills a process with N runs in flight instead, and measures how long it takes to take them over
      --keep        keeps the temporary folders
  bench       measures start-up, memory, the gap between an answer and the next request, durable steps and the
              sandbox, beside other programs on the same work; installs those (npm, PyPI) below the cache folder
      --only A,B    only these tables
      --quick       a tenth of the work, to see whether it works
      --out FILE    the tables as JSON, too
  evals       lets Homarus, opencode and goose do twenty small jobs with the embedded model behind one model server,
              and compares what was done, steps, tokens and time; installs the others (npm) below the cache folder
      --only A,B    only these engines: homarus, opencode, goose, or embedded (Homarus without the server)
      --job A,B     only these jobs
      --jobs N      only the first N
      --quick       every fifth
      --practice    the jobs that texts are tuned on instead
      --scripted    a script instead of the model, which does each job with one shell call: whether every engine
                    can do them here at all
      --minutes-max N  ends a job after so long (15)
      --out FILE    the figures as JSON, too
      --keep        keeps workspaces, outputs and all requests
  test        everything that must pass; the last line counts what passed, failed and was skipped
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::from(2)
        }
    }
}

/// `Ok(false)`: it ran, and what it checked is not so.
fn run(args: &[&str]) -> Result<bool, String> {
    let Some((command, options)) = args.split_first() else {
        return Err(format!("no command\n\n{HELP}"));
    };
    if let ("bootstrap" | "build" | "tidy" | "test", [first, ..]) = (*command, options) {
        return Err(format!("`{command}` takes no option `{first}`"));
    }
    let places = Places::find()?;
    match *command {
        "bootstrap" => bootstrap::run(&places).map(|()| true),
        "build" => {
            bootstrap::run(&places)?;
            let built = build::run(&places)?;
            println!("{}\n{}", built.homarus.display(), built.worker.display());
            Ok(true)
        }
        "bench" => bench::run(&places, &bench::Options::parse(options)?),
        "evals" => evals::run(&places, &evals::Options::parse(options)?),
        "demo" => demo::run(&places, &demo::Options::parse(options)?),
        "tidy" => tidy::run(&places),
        "torture" => torture::run(&places, &torture::Options::parse(options)?),
        "test" => test::run(&places),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(true)
        }
        other => Err(format!("there is no command `{other}`\n\n{HELP}")),
    }
}
