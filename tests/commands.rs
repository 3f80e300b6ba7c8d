//! The binary as its callers see it: help, exit codes, and a day replayed to its end.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::dev::{ports, receipts};
use testkit::{binary, run, wait_until};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names =
        listed.take_while(|line| line.starts_with("  ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Checks the help of a command and of everything below it; returns how many there are.
fn check_help(path: &[&str]) -> usize {
    let output = run(&[path, &["--help"]].concat());
    let help = text(&output.stdout);
    assert!(output.status.success(), "{path:?}: {output:?}");
    if let Some(last) = path.last() {
        let example = format!("Example: cdr-mediation {}", path.join(" "));
        assert!(
            help.contains(&example),
            "the help of {last} has no example that begins {example:?}:\n{help}"
        );
    }
    1 + subcommands(&help).iter().map(|name| check_help(&[path, &[name.as_str()]].concat())).sum::<usize>()
}

#[test]
fn every_command_has_help_with_an_example() {
    assert!(check_help(&[]) >= 8, "the list of commands could not be read");
}

#[test]
fn a_failure_is_one_sentence_on_standard_error() {
    for arguments in [
        &["config", "check", "no-such-file.toml"][..],
        &["node", "--config", "no-such-file.toml"],
        &["publish", "--nats", "nats://127.0.0.1:1", "no-such-file.ndjson"],
        &["generate", "--day", "yesterday", "--records", "1"],
    ] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty() && said.starts_with("cdr-mediation: "), "{arguments:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{arguments:?}: {said}");
    }
}

/// The number behind `name` in what was printed.
fn number(said: &str, name: &str) -> u64 {
    let (_, rest) = said.split_once(name).unwrap_or_else(|| panic!("{name:?} is not in:\n{said}"));
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind {name:?} in:\n{said}"))
}

#[test]
fn a_day_is_replayed_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (day, data) = (dir.path().join("day.ndjson"), dir.path().join("dev"));
    receipts(&day, "2026-04-20", 3_000, 5);
    let (api, raft) = ports();
    let started = Instant::now();
    let output = Command::new(binary())
        .args([
            "dev",
            "--exit-when-done",
            "--data",
            data.to_str().unwrap(),
            "--replay",
            day.to_str().unwrap(),
        ])
        .args(["--api-port", &api.to_string(), "--raft-port", &raft.to_string()])
        .output()
        .unwrap();
    let (said, log) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}\n{log}");
    assert!(started.elapsed() < Duration::from_secs(120));
    let lines = std::fs::read_to_string(&day).unwrap().lines().filter(|line| !line.is_empty()).count() as u64;
    let received = number(&said, "received ");
    assert_eq!((number(&said, ""), received), (lines, lines), "{said}");
    let appended = number(&said, "appended ");
    let others = ["duplicate ", "ignored ", "dead letters "].map(|name| number(&said, name));
    assert_eq!(appended + others.iter().sum::<u64>(), received, "{said}");
    assert_eq!(number(&said, "missing "), 0);
    assert!(appended > lines * 9 / 10 && others.iter().all(|count| *count > 0), "{said}");
    assert!(said.contains("chain verified on three replicas"), "{said}");
    assert!(said.contains(&format!("http://127.0.0.1:{api}")), "{said}");
    let read = |name: &str| std::fs::read_to_string(data.join(name)).unwrap();
    assert_eq!(read("dev-token").trim().split('.').count(), 3, "a token has three parts");
    assert_ne!(read("dev-token"), read("approver-token"));
    assert!(cdr_core::proof::parse_public_key(&read("root.pub")).is_some(), "{}", read("root.pub"));
    // Everything has let go of its ports; connections on their way out may hold them for a moment.
    let free = |first: u16| (first..first + 3).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    wait_until("all its ports are free", 20, || free(api) && free(raft));
}
