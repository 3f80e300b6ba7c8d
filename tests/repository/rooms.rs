//! The rooms of `src` and their ranks: a room uses what stands below it, and nothing above or beside it.

use crate::{none, texts};
use std::collections::{BTreeMap, BTreeSet};

/// Groups of rooms with their rank. A room may use those of a lower rank and the others of its own group, without a
/// circle; groups of one rank meet through commands and watermarks only.
const GROUPS: &[(&str, u8, &[&str])] = &[
    (
        "foundation",
        0,
        &[
            "auth",
            "causes",
            "clock",
            "config",
            "ids",
            "key_files",
            "masking",
            "metrics",
            "names",
            "scopes",
            "texts",
            "tls",
            "zone",
        ],
    ),
    ("ledger", 1, &["acts", "jobs", "proposer", "reloaded", "restriction"]),
    ("intake", 2, &["dlr", "ingest", "pricing"]),
    ("settlement", 2, &["delivery", "export"]),
    ("outward", 2, &["events", "outbox"]),
    ("trust", 2, &["signer"]),
    ("leader", 3, &["agreement", "workers"]),
    ("api", 3, &["api"]),
    ("replica", 4, &["replica"]),
    ("cli", 5, &["commands", "generate"]),
];

/// Rooms that are compiled for tests alone; they may use what they like.
const FOR_TESTS: &[&str] = &["schema_bounds", "test_support"];

fn group_of(room: &str) -> Option<(&'static str, u8)> {
    GROUPS.iter().find(|(_, _, rooms)| rooms.contains(&room)).map(|(name, rank, _)| (*name, *rank))
}

/// The room that a file of `src` belongs to; none for the roots `lib.rs` and `main.rs`.
fn room_of(path: &str) -> Option<&str> {
    let room = path.strip_prefix("src/")?.split('/').next()?;
    let room = room.strip_suffix(".rs").unwrap_or(room);
    (!["lib", "main"].contains(&room)).then_some(room)
}

fn is_of_tests(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// What is compiled into the service: without comments, and without the module of tests at a file's end.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            let mut rest = lines.clone().skip_while(|line| line.starts_with("#["));
            if rest.next().is_some_and(|line| line.starts_with("mod ") && line.ends_with('{')) {
                break;
            }
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// What code names behind a prefix such as `crate::`: in `crate::room` or in the braces of `crate::{room, other::Thing}`.
fn named_behind(prefix: &str, code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut names = BTreeSet::new();
    for (at, found) in code.match_indices(prefix) {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let after = &code[at + found.len()..];
        let Some(list) = after.strip_prefix('{') else {
            names.insert(name(after));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    names.insert(name(&list[start..at]));
                    start = at + 1;
                    if c == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Which room uses which, and one file that shows it.
type Arrows = BTreeMap<(String, String), String>;

fn arrows<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Arrows {
    let mut arrows = Arrows::new();
    for (path, text) in files {
        let Some(room) = room_of(path).filter(|room| !is_of_tests(path) && !FOR_TESTS.contains(room)) else {
            continue;
        };
        for used in named_behind("crate::", &code(text)).into_iter().filter(|used| used != room) {
            arrows.entry((room.to_owned(), used)).or_insert_with(|| path.to_owned());
        }
    }
    arrows
}

/// What is wrong with an arrow, if anything.
fn wrong(from: &str, to: &str) -> Option<String> {
    let Some((group, rank)) = group_of(from) else { return Some(format!("{from} is in no group")) };
    let Some((other_group, other_rank)) = group_of(to) else { return Some(format!("{to} is in no group")) };
    if rank > other_rank || group == other_group {
        return None;
    }
    let where_it_is = if rank == other_rank { "beside" } else { "above" };
    Some(format!("{from} ({group}) uses {to} ({other_group}), which stands {where_it_is} it"))
}

/// A circle of rooms, from one of them back to it.
fn circle(arrows: &Arrows) -> Option<Vec<&str>> {
    let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        below.entry(from).or_default().push(to);
    }
    // Rooms whose every way down has ended are part of no circle.
    let mut ended: BTreeSet<&str> = BTreeSet::new();
    for start in below.keys() {
        let mut way = vec![(*start, 0)];
        while let Some((room, next)) = way.last_mut() {
            let uses = below.get(room).map_or(&[][..], Vec::as_slice);
            let Some(used) = uses.get(*next) else {
                ended.insert(room);
                way.pop();
                continue;
            };
            *next += 1;
            if let Some(began) = way.iter().position(|(room, _)| room == used) {
                return Some(way[began..].iter().map(|(room, _)| *room).chain([*used]).collect());
            }
            if !ended.contains(used) {
                way.push((used, 0));
            }
        }
    }
    None
}

/// Which file or folder of `folder` uses which other one, by `super::` or from the crate's root, `sources`.
fn arrows_within(sources: &str, folder: &str, files: &[(String, String)]) -> Arrows {
    let module = |path: &str| -> Vec<String> {
        let path = path.strip_suffix(".rs").unwrap_or(path);
        path.split('/').filter(|part| *part != "mod").map(str::to_owned).collect()
    };
    let inside: Vec<(Vec<String>, &str, &str)> = files
        .iter()
        .filter(|(path, _)| !is_of_tests(path))
        .filter_map(|(path, text)| Some((module(path.strip_prefix(folder)?), path.as_str(), text.as_str())))
        .collect();
    let children: BTreeSet<&String> = inside.iter().filter_map(|(module, ..)| module.first()).collect();
    let from_root = folder.strip_prefix(sources).unwrap_or_default().replace('/', "::");
    let mut arrows = Arrows::new();
    for (module, path, text) in &inside {
        let Some(own) = module.first() else { continue };
        let code = code(text);
        let prefixes = ["super::".repeat(module.len()), format!("crate::{from_root}")];
        for used in prefixes.iter().flat_map(|prefix| named_behind(prefix, &code)) {
            if used != *own && children.contains(&used) {
                arrows.entry((own.clone(), used)).or_insert_with(|| (*path).to_owned());
            }
        }
    }
    arrows
}

#[test]
fn no_files_of_a_folder_use_one_another_in_a_circle() {
    let files = texts(&[".rs"]);
    let mut violations = Vec::new();
    let mut found = 0;
    for sources in ["src/", "bus/src/", "tap/src/", "verify/src/"] {
        let below = files.iter().filter(|(path, _)| path.starts_with(sources));
        let folders: BTreeSet<&str> =
            below.filter_map(|(path, _)| path.rfind('/').map(|at| &path[..=at])).collect();
        for folder in folders.into_iter().filter(|folder| *folder != "src/") {
            let arrows = arrows_within(sources, folder, &files);
            found += arrows.len();
            violations.extend(circle(&arrows).map(|files| format!("{folder}: {}", files.join(" -> "))));
        }
    }
    assert!(found > 200, "the files hardly use one another: {found}");
    none(&violations);
}

#[test]
fn a_circle_of_files_is_found() {
    let circle_of = |files: &[(&str, &str)]| {
        let files: Vec<(String, String)> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        circle(&arrows_within("src/", "src/acts/", &files)).map(|files| files.join(" -> "))
    };
    let desk = ("src/acts/desk.rs", "use super::files::{Appended, appended};");
    let found = Some("desk -> files -> desk".to_owned());
    assert_eq!(circle_of(&[desk, ("src/acts/files.rs", "use super::desk::jcs;")]), found);
    assert_eq!(circle_of(&[desk, ("src/acts/files/redrop.rs", "use super::super::desk::jcs;")]), found);
    assert_eq!(circle_of(&[desk, ("src/acts/files/mod.rs", "use crate::acts::{Act, desk::jcs};")]), found);
    assert_eq!(circle_of(&[desk, ("src/acts/files/tests.rs", "use super::super::desk::jcs;")]), None);
    assert_eq!(circle_of(&[desk, ("src/acts/files.rs", "use super::{Act, Wish};")]), None);
}

#[test]
fn rooms_use_what_stands_below_them() {
    let files = texts(&[".rs"]);
    let arrows = arrows(files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    assert!(arrows.len() > 60, "the rooms hardly use one another: {arrows:?}");
    let violations: Vec<String> = arrows
        .iter()
        .filter_map(|((from, to), path)| Some(format!("{path}: {}", wrong(from, to)?)))
        .chain(circle(&arrows).map(|rooms| format!("a circle: {}", rooms.join(" -> "))))
        .collect();
    none(&violations);
}

#[test]
fn every_room_is_in_one_group() {
    let rooms: BTreeSet<String> =
        texts(&[".rs"]).iter().filter_map(|(path, _)| room_of(path).map(str::to_owned)).collect();
    let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, _, rooms)| *rooms).copied().collect();
    let missing =
        rooms.iter().map(String::as_str).filter(|room| !grouped.contains(room) && !FOR_TESTS.contains(room));
    let mut violations: Vec<String> = missing.map(|room| format!("src/{room} is in no group")).collect();
    for (at, room) in grouped.iter().enumerate() {
        if !rooms.contains(*room) {
            violations.push(format!("there is no room {room}"));
        }
        if grouped[..at].contains(room) {
            violations.push(format!("{room} is in two groups"));
        }
    }
    none(&violations);
}

#[test]
fn an_arrow_that_runs_up_or_across_is_found() {
    let found = |path: &str, text: &str| -> Vec<String> {
        arrows([(path, text)].into_iter()).keys().filter_map(|(from, to)| wrong(from, to)).collect()
    };
    let up = ["export (settlement) uses api (api), which stands above it"];
    assert_eq!(found("src/export/shown.rs", "use crate::api::Schemas;"), up);
    assert_eq!(found("src/export/shown.rs", "fn f() { crate::api::serve() }"), up);
    assert_eq!(found("src/export/shown.rs", "use crate::{\n    api::{Trial, Schemas},\n    zone,\n};"), up);
    assert_eq!(found("src/export.rs", "pub(in crate::api) fn f() {}\n#[cfg(test)]\nmod tests;"), up);
    assert_eq!(
        found("src/events/notice.rs", "use crate::pricing;"),
        ["events (outward) uses pricing (intake), which stands beside it"]
    );
    assert_eq!(found("src/events/notice.rs", "use crate::cellar::Wine;"), ["cellar is in no group"]);
    for allowed in [
        "use crate::zone;",
        "use crate::export::plan;",
        "use crate::delivery::Item;",
        "use cdr_core::Hour;",
        "// crate::api",
        "//! [`crate::api::serve`]",
        "#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod tests {\n    use crate::api::Ledger;\n}",
    ] {
        assert_eq!(found("src/export/plan.rs", allowed), [""; 0], "{allowed}");
    }
    assert_eq!(found("src/export/make/tests.rs", "use crate::api::Ledger;"), [""; 0]);
    assert_eq!(found("src/test_support/node.rs", "use crate::workers::seal;"), [""; 0]);
}

#[test]
fn a_circle_is_found() {
    let arrows = |pairs: &[(&str, &str)]| -> Arrows {
        pairs.iter().map(|(from, to)| (((*from).to_owned(), (*to).to_owned()), String::new())).collect()
    };
    assert_eq!(circle(&arrows(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])), None);
    let with_circle = arrows(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("d", "e")]);
    assert_eq!(circle(&with_circle), Some(vec!["b", "c", "d", "b"]));
}
