//! The repository's own rules: layers, file sizes, samples that load, links that lead somewhere.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "repository/rooms.rs"]
mod rooms;

use cdr_mediation::config::Config;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// No file is longer than this; most are far shorter.
const MAX_LINES: usize = 800;

/// What each outside crate may be named by: nothing but files whose path begins so.
const OWNERS: &[(&str, &[&str])] = &[
    ("rocksdb", &["storage/src/", "storage/tests/", "storage/examples/"]),
    ("openraft", &["raft/src/", "raft/tests/"]),
    ("openraft_rt_sim", &["raft/tests/"]),
    ("async_nats", &["bus/src/"]),
    ("axum", &["src/api/"]),
    ("jsonwebtoken", &["src/auth/", "src/events/sign", "testkit/src/tokens.rs"]),
    (
        "aws_lc_rs",
        &[
            "src/api/http/cursor.rs",
            "src/auth/",
            "src/events/numbers.rs",
            "src/events/signing_key.rs",
            "raft/src/net/tls.rs",
        ],
    ),
    ("ed25519_dalek", &["src/signer/", "storage/core/", "tests/", "storage/tests/", "verify/src/"]),
    ("p256", &["storage/core/"]),
    ("cryptoki", &["src/signer/pkcs11"]),
    ("prometheus", &["src/metrics"]),
    ("tonic", &["src/pricing/grpc/", "tests/pricing"]),
    ("russh", &["src/delivery/sftp/"]),
    ("russh_sftp", &["src/delivery/sftp/"]),
    ("reqwest", &["src/delivery/rest/", "verify/src/remote.rs", "tests/mtls.rs", "tests/replica_tls.rs"]),
    (
        "tokio_rustls",
        &["src/tls.rs", "src/delivery/rest/", "testkit/src/", "tests/pricing/", "raft/src/net/"],
    ),
    ("x509_parser", &["src/tls.rs", "raft/src/net/tls.rs"]),
    ("tikv_jemallocator", &["src/main.rs"]),
    ("hyper", &["testkit/src/"]),
    ("rasn", &["tap/src/"]),
    ("rasn_compiler", &["tap/src/"]),
    ("rcgen", &["testkit/src/", "raft/src/net/tests/", "benches/replicated_append.rs"]),
    ("clap", &["src/main.rs", "verify/src/"]),
    ("indicatif", &["src/commands/"]),
    ("zstd", &["tap/src/"]),
];

/// Crates of this workspace that each of them may use: never upwards.
const LAYERS: &[(&str, &[&str])] = &[
    ("storage/core/Cargo.toml", &[]),
    ("storage/Cargo.toml", &["cdr-core"]),
    ("raft/Cargo.toml", &["cdr-core", "cdr-storage"]),
    ("tap/Cargo.toml", &["cdr-core"]),
    ("bus/Cargo.toml", &[]),
    ("verify/Cargo.toml", &["cdr-core", "cdr-tap"]),
    ("testkit/Cargo.toml", &["cdr-core"]),
    ("Cargo.toml", &["cdr-core", "cdr-storage", "cdr-raft", "cdr-tap", "cdr-bus", "cdr-verify"]),
];

/// Everything that the pure core may stand on.
const CORE_DEPENDENCIES: &[&str] = &[
    "base64",
    "bincode",
    "ed25519-dalek",
    "itoa",
    "p256",
    "rust_decimal",
    "serde",
    "serde_json",
    "serde_json_canonicalizer",
    "sha2",
    "thiserror",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below the root that is kept in the repository, as a path with forward slashes, with its text.
fn texts(extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", ".git", "run", ".venv"].contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() && extensions.iter().any(|e| name.ends_with(e)) {
                let text = fs::read_to_string(&path).unwrap_or_default();
                found.push((path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(), text));
            }
        }
    }
    assert!(!found.is_empty());
    found.sort();
    found
}

fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// True if `line` names the crate in code: as a path or in a `use`.
fn names(line: &str, krate: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(krate).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + krate.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || "_:.\"".contains(c))
            && (after.starts_with("::") || after.starts_with(';') && code.contains("use "))
    })
}

#[test]
fn every_outside_crate_has_one_owner() {
    let mut violations = Vec::new();
    for (path, text) in texts(&[".rs"]) {
        for (krate, owners) in OWNERS {
            let owned = owners.iter().any(|owner| path.starts_with(owner));
            if let Some(number) = text.lines().position(|line| names(line, krate)).filter(|_| !owned) {
                violations.push(format!("{path}:{}: {krate} belongs to {}", number + 1, owners.join(", ")));
            }
        }
    }
    none(&violations);
}

#[test]
fn a_crate_is_named_in_code_only() {
    for code in
        ["use outside::Thing;", "let t = outside::Thing::new();", "use outside;", "fn f(t: &outside::Thing)"]
    {
        assert!(names(code, "outside"), "{code}");
    }
    for other in ["// see outside::Thing", "//! use outside;", "my_outside::x()", "crate::outside::x()"] {
        assert!(!names(other, "outside"), "{other}");
    }
}

/// Every manifest of the workspace.
fn manifests() -> Vec<(String, toml::Table)> {
    let manifests = texts(&["Cargo.toml"]).into_iter();
    manifests.map(|(path, text)| (path, text.parse().unwrap())).collect()
}

#[test]
fn owners_guard_what_is_there() {
    let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
    let depended_on: BTreeSet<String> = manifests()
        .iter()
        .flat_map(|(_, manifest)| sections.iter().filter_map(|section| manifest.get(*section)?.as_table()))
        .flat_map(|dependencies| dependencies.keys().map(|name| name.replace('-', "_")))
        .collect();
    let sources = texts(&[".rs"]);
    let mut violations = Vec::new();
    for (krate, owners) in OWNERS {
        if !depended_on.contains(*krate) {
            violations.push(format!("{krate} is no dependency of this workspace any more"));
            continue;
        }
        for owner in *owners {
            let mut owned = sources.iter().filter(|(path, _)| path.starts_with(owner));
            if !owned.any(|(_, text)| text.lines().any(|line| names(line, krate))) {
                violations.push(format!("{owner} does not name {krate} any more"));
            }
        }
    }
    none(&violations);
}

fn dependencies(manifest: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    manifest.get("dependencies").and_then(|d| d.as_table()).unwrap().keys().cloned().collect()
}

#[test]
fn every_crate_has_its_layer() {
    let violations: Vec<String> = manifests()
        .iter()
        .filter(|(path, _)| LAYERS.iter().all(|(manifest, _)| manifest != path))
        .map(|(path, _)| format!("{path} is in no layer"))
        .collect();
    none(&violations);
}

#[test]
fn layers_depend_downwards_only() {
    for (manifest, allowed) in LAYERS {
        for dependency in dependencies(manifest).iter().filter(|name| name.starts_with("cdr-")) {
            assert!(allowed.contains(&dependency.as_str()), "{manifest}: {dependency} is a layer above");
        }
    }
}

/// Each package has one binary of integration tests: a file that no module names would never run.
#[test]
fn every_file_of_the_tests_is_a_module() {
    let mut violations = Vec::new();
    for (path, _) in texts(&[".rs"]) {
        let path = Path::new(&path);
        let own = ["main.rs", "mod.rs", "repository.rs"].iter().any(|name| path.ends_with(name));
        if own
            || !path.components().any(|part| part.as_os_str() == "tests")
            || path.components().any(|part| part.as_os_str() == "src")
        {
            continue;
        }
        let declared = format!("mod {};", path.file_stem().unwrap().to_string_lossy());
        let folder = root().join(path).parent().unwrap().to_path_buf();
        let parents = [folder.join("main.rs"), folder.join("mod.rs"), folder.with_extension("rs")]
            .map(|parent| fs::read_to_string(parent).unwrap_or_default());
        if !parents.iter().any(|text| text.contains(&declared)) {
            violations.push(format!("{}: nothing says `{declared}`", path.display()));
        }
    }
    none(&violations);
}

#[test]
fn the_core_stands_on_pure_crates_only() {
    for dependency in dependencies("storage/core/Cargo.toml") {
        assert!(CORE_DEPENDENCIES.contains(&dependency.as_str()), "cdr-core must not depend on {dependency}");
    }
}

/// Crates that the auditor's program must do without: a database, a consensus library, and what needs a C++ compiler,
/// CMake or libclang to build.
const NOT_FOR_AUDITORS: &[&str] = &[
    "librocksdb-sys",
    "rocksdb",
    "openraft",
    "aws-lc-sys",
    "aws-lc-rs",
    "cmake",
    "cxx",
    "cxx-build",
    "link-cplusplus",
    "bindgen",
    "clang-sys",
    "cdr-storage",
    "cdr-raft",
    "cdr-mediation",
];

/// Everything that is compiled for a crate of the workspace that is built alone, by name.
fn compiled_for(package: &str) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", package, "--edges", "normal,build", "--prefix", "none", "--no-dedupe"])
        .args(["--offline", "--locked", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).unwrap();
    let names = lines.lines().filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn an_auditor_builds_the_verifier_without_cpp_database_or_consensus() {
    let compiled = compiled_for("cdr-verify");
    for needed in ["cdr-core", "cdr-tap", "ring"] {
        assert!(compiled.iter().any(|name| name == needed), "{needed} is not among {compiled:?}");
    }
    for unwanted in NOT_FOR_AUDITORS {
        assert!(!compiled.iter().any(|name| name == unwanted), "cdr-verify must not need {unwanted}");
    }
    // The same look at the storage finds what it must find.
    assert!(compiled_for("cdr-storage").iter().any(|name| name == "librocksdb-sys"));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut violations = Vec::new();
    for (path, text) in texts(&[".rs"]) {
        if text.lines().count() > MAX_LINES {
            violations.push(format!("{path}: {} lines, at most {MAX_LINES}: split it", text.lines().count()));
        }
        // `tests.rs` beside a module is that module's tests.
        if !text.starts_with("//!") && !path.ends_with("/tests.rs") {
            violations.push(format!("{path}: the first line must say what the file is for (//!)"));
        }
    }
    none(&violations);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("dbg", "!("),
        concat!("#[ig", "nore"),
    ];
    let mut violations = Vec::new();
    for (path, text) in texts(&[".rs", ".md", ".toml", ".sh", ".py", ".yml", ".yaml", "Makefile", "run"]) {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(*mark)) {
                violations.push(format!("{path}:{}: {mark}", number + 1));
            }
        }
    }
    none(&violations);
}

#[test]
fn no_path_of_one_machine() {
    let roots =
        [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/tmp/", "brief")];
    let mut violations = Vec::new();
    let kept = [".rs", ".md", ".toml", ".sh", ".py", ".json", ".yml", ".yaml", ".service", "Makefile", "run"];
    for (path, text) in texts(&kept) {
        for (number, line) in text.lines().enumerate() {
            if roots.iter().any(|prefix| line.contains(prefix)) {
                violations.push(format!("{path}:{}: a path that only one machine has", number + 1));
            }
        }
    }
    none(&violations);
}

#[test]
fn every_sample_configuration_loads() {
    let samples: Vec<PathBuf> = fs::read_dir(root().join("config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    assert!(!samples.is_empty(), "config/ has no sample configuration");
    for sample in samples {
        let text = fs::read_to_string(&sample).unwrap();
        if let Err(error) = Config::parse(&text, []) {
            panic!("{}: {error}", sample.display());
        }
    }
}

/// The targets of `[text](target)` in Markdown, without those on the web and within the page.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .map(|target| target.split('#').next().unwrap_or_default())
}

#[test]
fn links_in_pages_lead_to_files() {
    let mut violations = Vec::new();
    for (path, text) in texts(&[".md"]) {
        let folder = root().join(&path).parent().unwrap().to_path_buf();
        for target in links(&text).filter(|target| !folder.join(target).exists()) {
            violations.push(format!("{path}: {target} is not there"));
        }
    }
    none(&violations);
}

#[test]
fn exceptions_have_a_reason() {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap();
    let deny: toml::Table = text.parse().unwrap();
    for exception in deny["advisories"]["ignore"].as_array().unwrap() {
        assert!(
            exception.get("reason").is_some_and(|r| r.as_str().is_some_and(|r| r.len() > 20)),
            "{exception}"
        );
    }
}

/// Names of metrics in an expression of an alert.
fn metrics_in(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("cdr_"))
}

#[test]
fn alerts_watch_metrics_that_exist() {
    let rules = fs::read_to_string(root().join("deploy/prometheus/cdr-mediation.rules.yml")).unwrap();
    let served: String = texts(&[".rs"])
        .into_iter()
        .filter(|(path, _)| path.starts_with("src/metrics/"))
        .map(|(_, text)| text)
        .collect();
    let expressions = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let named: Vec<&str> = expressions.flat_map(metrics_in).collect();
    assert!(named.len() >= 15, "{named:?}");
    for name in named {
        let stem = ["_bucket", "_count", "_sum"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
        let is_served = [name, stem].iter().any(|name| served.contains(&format!("\"{name}\"")));
        assert!(is_served, "an alert watches {name}, which src/metrics does not serve");
    }
}

#[test]
fn operators_find_every_alert_in_their_page() {
    let rules = fs::read_to_string(root().join("deploy/prometheus/cdr-mediation.rules.yml")).unwrap();
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `cdr_")).collect();
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 30, "{} alerts", alerts.len());
    let mut expected = Vec::new();
    for alert in &alerts {
        let name = alert.lines().next().unwrap();
        let severity = alert.lines().find_map(|line| line.trim().strip_prefix("severity: ")).unwrap();
        expected.push(format!("| `{name}` | {severity} | "));
    }
    let missing = expected.iter().filter(|row| !rows.iter().any(|line| line.starts_with(row.as_str())));
    let mut violations: Vec<String> =
        missing.map(|row| format!("docs/operations.md lacks {row:?}: say what the operator does")).collect();
    let unknown = rows.iter().filter(|line| !expected.iter().any(|row| line.starts_with(row.as_str())));
    violations.extend(unknown.map(|line| format!("docs/operations.md: there is no such alert: {line}")));
    none(&violations);
}

/// What a page writes in code type within a line.
fn in_code_type(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// True for a file such as `events.pem`, whose name looks like a setting.
fn is_file(name: &str) -> bool {
    [".pem", ".key", ".json", ".toml", ".pub", ".rs", ".md"].iter().any(|end| name.ends_with(end))
}

#[test]
fn pages_name_settings_and_metrics_that_exist() {
    let sources = texts(&[".rs", ".yml"]);
    let sources_in = |folder: &str| -> String {
        let found = sources.iter().filter(|(path, _)| path.contains(folder)).map(|(_, text)| text.as_str());
        found.collect::<Vec<_>>().join("\n")
    };
    let (settings, metrics) = (sources_in("/config/"), sources_in("/metrics/"));
    let (rules, sections) = (sources_in("deploy/prometheus/"), Config::default().effective_toml().unwrap());
    let has_section = |name: &str| sections.lines().any(|line| line == format!("[{name}]"));
    let (mut violations, mut named) = (Vec::new(), 0);
    for (path, text) in texts(&[".md"]) {
        for code in in_code_type(&text).filter(|code| !is_file(code)) {
            let setting = code.split(" = ").next().unwrap_or_default();
            let (section, key) = setting.split_once('.').unwrap_or_default();
            let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if !key.is_empty() && is_key && has_section(section) {
                named += 1;
                if !settings.contains(&format!(" {key}:")) {
                    violations.push(format!("{path}: there is no setting {setting}"));
                }
            }
            let is_name = code.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if code.starts_with("cdr_") && is_name && !code.ends_with('_') {
                named += 1;
                if !metrics.contains(&format!("\"{code}\"")) && !rules.contains(&format!("alert: {code}\n")) {
                    violations.push(format!("{path}: there is no metric or alert {code}"));
                }
            }
        }
    }
    assert!(named > 100, "{named} settings and metrics in pages");
    none(&violations);
}

#[test]
fn the_changelog_knows_this_version() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let heading = format!("## {}", env!("CARGO_PKG_VERSION"));
    assert!(changelog.lines().any(|line| line.starts_with(&heading)), "CHANGELOG.md has no {heading:?}");
}

#[cfg(unix)]
#[test]
fn scripts_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    let mut scripts: Vec<PathBuf> = vec![root().join(".ci/run")];
    scripts.extend(fs::read_dir(root().join("scripts")).unwrap().map(|entry| entry.unwrap().path()));
    for script in scripts.iter().filter(|path| path.is_file()) {
        let mode = fs::metadata(script).unwrap().permissions().mode();
        assert!(mode & 0o111 == 0o111, "{} can't be run: chmod +x", script.display());
    }
}
