//! Every closed set, pattern and bound of the event schemas, compared with what the code can write and what it reads.
//!
//! Each place of a schema that bounds a value must be known here by subject and property, so that a new one can't be
//! forgotten. Of what is published, everything that a property can hold has to fit: all codes of its enumeration, the
//! extremes of its type, every text that an input check accepts. Of what is read, whatever is accepted has to fit the schema,
//! and each code of the schema has to be taken.

mod inbound;
mod outbound;
mod texts;

use crate::events::streams::stream_of;
use jsonschema::Validator;
use serde_json::Value;
use std::collections::BTreeSet;
use testkit::event_schemas::{Schema, all};

/// Keywords by which a schema bounds a value beyond its type.
const BOUNDS: [&str; 13] = [
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "multipleOf",
    "pattern",
];

/// What a property of a published event can hold.
enum Holds {
    /// One of these codes, and all of them. The schema's other codes stand for what the code never says, by name.
    Codes { written: Vec<Value>, never: &'static [&'static str] },
    /// These values, the extremes of its type among them.
    Values(Vec<Value>),
    /// Whatever the input check accepts; the texts are close to what it should.
    Door(fn(&str) -> bool, Vec<String>),
}

/// The properties that a schema bounds. A bound elsewhere than below `properties` is named by its whole place.
fn bounded(schema: &Value) -> BTreeSet<String> {
    fn walk(at: &str, value: &Value, found: &mut BTreeSet<String>) {
        let Value::Object(members) = value else {
            let items = value.as_array().into_iter().flatten().enumerate();
            return items.for_each(|(number, item)| walk(&format!("{at}/{number}"), item, found));
        };
        let names_properties = at.ends_with("/properties");
        if !names_properties && BOUNDS.iter().any(|bound| members.contains_key(*bound)) {
            found.insert(at.to_owned());
        }
        for (key, member) in members {
            walk(&format!("{at}/{key}"), member, found);
        }
    }
    let mut found = BTreeSet::new();
    walk("", schema, &mut found);
    let property = |place: String| {
        let name = place.strip_prefix("/properties/").map(|rest| rest.split('/').next().unwrap().to_owned());
        name.unwrap_or(place)
    };
    found.into_iter().map(property).collect()
}

fn is_published(subject: &str) -> bool {
    stream_of(subject).is_some()
}

/// A validator of one property alone, and the codes of its enumeration.
fn property(schema: &Schema, name: &str) -> (Validator, Vec<Value>) {
    let part = &schema.text["properties"][name];
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    let codes = part["const"].as_str().map(|only| vec![only.into()]);
    let codes = codes.or_else(|| part["enum"].as_array().cloned()).unwrap_or_default();
    (options.build(part).unwrap(), codes)
}

/// What is wrong with a property of a published event.
fn faults(subject: &str, name: &str, schema: &Schema) -> Vec<String> {
    let Some(holds) = outbound::holds(subject, name) else {
        return vec![format!("{subject} {name}: nobody has said what the code writes there")];
    };
    let (validator, codes) = property(schema, name);
    let misfit = |value: &Value| format!("{subject} {name}: {value} does not fit the schema");
    match holds {
        Holds::Codes { written, never } => {
            let unknown = written.iter().filter(|value| !codes.contains(value)).map(misfit);
            let idle = codes.iter().filter(|code| {
                !written.contains(code) && !never.contains(&code.as_str().unwrap_or_default())
            });
            let idle = idle.map(|code| format!("{subject} {name}: the code never says {code}"));
            unknown.chain(idle).collect()
        }
        Holds::Values(values) => {
            assert!(
                !values.is_empty() && codes.is_empty(),
                "{subject} {name} is a closed set: name its codes"
            );
            values.iter().filter(|value| !validator.is_valid(value)).map(misfit).collect()
        }
        Holds::Door(door, candidates) => {
            let taken: Vec<Value> =
                candidates.into_iter().filter(|text| door(text)).map(Value::String).collect();
            assert!(taken.len() > 1, "{subject} {name}: the door takes none of the texts that are tried");
            taken.iter().filter(|value| !validator.is_valid(value)).take(3).map(misfit).collect()
        }
    }
}

#[test]
fn whatever_is_published_fits_every_bound_of_its_schema() {
    let mut found = Vec::new();
    let mut looked_at = 0;
    for (subject, schema) in all().iter().filter(|(subject, _)| is_published(subject)) {
        for name in bounded(&schema.text) {
            found.extend(faults(subject, &name, schema));
            looked_at += 1;
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(looked_at > 100, "{looked_at} bounds");
}

#[test]
fn whatever_is_read_fits_every_bound_of_its_schema() {
    let mut found = Vec::new();
    for (subject, schema) in all().iter().filter(|(subject, _)| !is_published(subject)) {
        for name in bounded(&schema.text) {
            found.extend(inbound::faults(subject, &name, schema));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The check itself: an unknown bound, a code that a schema lacks, and one that is never written are each found.
#[test]
fn a_schema_that_says_otherwise_is_found() {
    let subject = "cdr.export.rejected.v1";
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut text = all()[subject].text.clone();
        change(&mut text["properties"]);
        let validator = jsonschema::draft202012::options().build(&text).unwrap();
        let schema = Schema { text, validator };
        bounded(&schema.text).iter().flat_map(|name| faults(subject, name, &schema)).collect::<Vec<_>>()
    };
    assert_eq!(changed(&|_| ()), [""; 0]);
    let new = changed(&|properties| properties["severity"] = serde_json::json!({"enum": ["HIGH"]}));
    assert!(matches!(&new[..], [one] if one.contains("severity: nobody has said")), "{new:?}");
    let codes = |properties: &mut Value, change: &dyn Fn(&mut Vec<Value>)| {
        change(properties["rejectionReason"]["enum"].as_array_mut().unwrap());
    };
    let lacks =
        changed(&|properties| codes(properties, &|codes| codes.retain(|code| *code != "SIGNATURE_INVALID")));
    assert!(matches!(&lacks[..], [one] if one.contains("SIGNATURE_INVALID")), "{lacks:?}");
    let more = changed(&|properties| codes(properties, &|codes| codes.push("LATE".into())));
    assert!(matches!(&more[..], [one] if one.contains("never says \"LATE\"")), "{more:?}");
    let narrow = changed(&|properties| properties["retryCount"]["maximum"] = 7.into());
    assert!(matches!(&narrow[..], [one] if one.contains("retryCount")), "{narrow:?}");
}
