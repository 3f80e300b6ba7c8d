//! Variants loaded, refused and added.

use super::*;

#[test]
fn the_shipped_variants_load() {
    let variants = shipped();
    let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
    assert_eq!(names, ["atra-tap-v1", "atra-tap-v2", "tap-3-12-standard"]);
    for variant in variants.iter() {
        let is_standard = variant.name == "tap-3-12-standard";
        for kind in [FileKind::Tap, FileKind::Rap] {
            let numbering = variant.format(kind).numbering();
            assert_eq!((numbering.first, numbering.last), (1, 99_999));
            assert_eq!(numbering.wraps, is_standard);
            assert_eq!(numbering.per == Per::SenderAndRecipient, is_standard);
        }
    }
    let name = |variant: &str, kind, test| {
        variants.get(variant).unwrap().format(kind).file_name(&FileHeader { test, ..header() })
    };
    assert_eq!(name("atra-tap-v2", FileKind::Tap, false), "TAP_4120101_41201_00000042.20260420.tap");
    assert_eq!(name("atra-tap-v1", FileKind::Rap, false), "RAP_4120101_41201_00000042.20260420.rap");
    assert_eq!(name("tap-3-12-standard", FileKind::Tap, false), "CD41201AFGRA00042");
    assert_eq!(name("tap-3-12-standard", FileKind::Tap, true), "TD41201AFGRA00042");
    assert_eq!(name("tap-3-12-standard", FileKind::Rap, false), "RC41201AFGRA00042");
    assert_eq!(name("tap-3-12-standard", FileKind::Rap, true), "RT41201AFGRA00042");
    let tap = &variants.get("atra-tap-v2").unwrap().tap;
    assert_eq!((tap.sender("4122001").as_str(), tap.recipient(), tap.currency()), ("41220", "AFGRA", "AFN"));
}

#[test]
fn a_variant_is_a_folder_and_its_hash_follows_every_byte() {
    let copy = Copy::new();
    let first = copy.variant();
    assert_eq!(first.hash, shipped().get("atra-tap-v2").unwrap().hash, "the name is no part of the hash");
    copy.edit("tap.toml", "\"MR\", \"ET\"", "\"MR\"");
    copy.edit("tap.toml", "tag = \"ET\"", "tag = \"EX\"");
    let second = copy.variant();
    assert_ne!(second.hash, first.hash);
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    let mut writer = FileWriter::new(second, &header(), dir.path()).unwrap();
    push(&mut writer, sms()).unwrap();
    writer.finish(&mut bytes).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("EX=2026-04-20T13:00:00.123Z") && !has("ET="));
    fs::write(copy.path("README.md"), "This variant is ours.\n").unwrap();
    assert_ne!(copy.variant().hash, first.hash);
}

#[test]
fn broken_and_ambiguous_schemas_are_refused_by_file_and_line() {
    let mut wrong = Vec::new();
    let cases: Vec<&str> = include_str!("broken.txt").lines().filter(|line| !line.starts_with('#')).collect();
    assert!(cases.len() > 60);
    for case in cases {
        let columns: Vec<String> = case.split('¦').map(|column| column.trim().replace("\\n", "\n")).collect();
        let [file, from, to, line, part] = &columns[..] else { panic!("{case}") };
        let copy = Copy::new();
        let changed = copy.edit(file, from, to);
        let text = fs::read_to_string(copy.path(file)).unwrap();
        let named =
            text.lines().position(|text| !line.is_empty() && text.contains(line)).map(|line| line + 1);
        assert!(line.is_empty() || named.is_some(), "{file} has no {line:?}");
        let expected = (format!("mine/{file}"), named.unwrap_or(changed));
        match copy.load() {
            Err(error)
                if error.why.contains(part) && (&error.file, error.line) == (&expected.0, expected.1) => {}
            Err(error) => wrong.push(format!("{from:?}: {error}; expected {part:?} at {expected:?}")),
            Ok(_) => wrong.push(format!("{from:?}: {to:?} was taken")),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn both_kinds_of_file_have_one_money() {
    let copy = Copy::new();
    copy.edit("tap.toml", "decimal_places = 6", "decimal_places = 3");
    assert!(
        copy.load()
            .unwrap_err()
            .to_string()
            .contains("mine/rap.toml: money: currency and decimal_places differ")
    );
}

#[test]
fn missing_and_stray_files_are_refused() {
    for (name, part) in [
        ("tap.toml", "tap.toml is missing"),
        ("rap.toml", "rap.toml is missing"),
        ("rap.asn1", "rap.asn1 is missing"),
    ] {
        let copy = Copy::new();
        fs::remove_file(copy.path(name)).unwrap();
        let error = copy.load().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let copy = Copy::new();
    fs::write(copy.path("old.asn1"), "").unwrap();
    assert!(copy.load().unwrap_err().to_string().contains("no mapping names this module"));
    let copy = Copy::new();
    fs::write(copy.path("tap.toml.bak"), "").unwrap();
    assert!(copy.load().unwrap_err().to_string().contains("nothing else"));
    let empty = tempfile::tempdir().unwrap();
    assert!(Variants::load(empty.path()).unwrap_err().to_string().contains("no variant"));
    assert!(Variants::load(&empty.path().join("nowhere")).is_err());
}
