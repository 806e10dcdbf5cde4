//! `meshd-proxy run --run-dir DIR --generation N [--threads N]` and `meshd-proxy explain`.

use meshd_proxy::config::frames::ExplainInput;
use meshd_proxy::logging::log;
use meshd_proxy::proxy::{Options, run};
use std::io::{Read, Write};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const HELP: &str = "meshd-proxy: the data path of meshd

usage: meshd-proxy run --run-dir DIR --generation N [--threads N]
       meshd-proxy explain < INPUT.json
       meshd-proxy --version | --help

run      listens for meshd on DIR/proxy-N.sock and carries requests; SIGTERM drains
explain  reads resources and a request, writes the decisions that the proxy would make

exit codes: 0 ok, 1 failed, 2 usage, 78 cannot start with this configuration
";

const USAGE: u8 = 2;
const CONFIG: u8 = 78;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--version" | "-V"] => say(concat!("meshd-proxy ", env!("CARGO_PKG_VERSION"), "\n")),
        ["--help" | "-h" | "help"] => say(HELP),
        ["explain"] => explain(),
        ["run", rest @ ..] => match options(rest) {
            Ok(o) => match run(o) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    log("error", "cannot start", &[("error", &e.to_string())]);
                    ExitCode::from(CONFIG)
                }
            },
            Err(e) => usage(&e),
        },
        _ => usage("run or explain expected"),
    }
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "meshd-proxy: {text}");
}

fn usage(why: &str) -> ExitCode {
    complain(&format!("{why} (see meshd-proxy --help)"));
    ExitCode::from(USAGE)
}

fn options(mut words: &[&str]) -> Result<Options, String> {
    let (mut run_dir, mut generation, mut threads) =
        (None, None, std::thread::available_parallelism().map_or(1, usize::from));
    while let [name, rest @ ..] = words {
        let [value, rest @ ..] = rest else { return Err(format!("{name} needs a value")) };
        let number = || value.parse::<u64>().map_err(|_| format!("{name}: {value:?} is not a number"));
        match *name {
            "--run-dir" => run_dir = Some(value.into()),
            "--generation" => generation = Some(number()?),
            "--threads" => threads = number()?.clamp(1, 256) as usize,
            _ => return Err(format!("unknown option {name}")),
        }
        words = rest;
    }
    Ok(Options {
        run_dir: run_dir.ok_or("--run-dir is missing")?,
        generation: generation.ok_or("--generation is missing")?,
        threads,
    })
}

fn explain() -> ExitCode {
    let mut text = Vec::new();
    if let Err(e) = std::io::stdin().read_to_end(&mut text) {
        complain(&e.to_string());
        return ExitCode::FAILURE;
    }
    let explained =
        ExplainInput::parse(&text).and_then(|i| meshd_proxy::explain::explain(&i, meshd_proxy::clock::unix_ms()));
    match explained {
        Ok(x) => match serde_json::to_string(&x) {
            Ok(json) => say(&(json + "\n")),
            Err(_) => ExitCode::FAILURE,
        },
        Err(e) => {
            complain(&e.to_string());
            ExitCode::FAILURE
        }
    }
}
