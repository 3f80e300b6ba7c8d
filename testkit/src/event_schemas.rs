//! The schemas by subject, ready to check with.

use jsonschema::Validator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::OnceLock;

pub struct Schema {
    pub text: Value,
    pub validator: Validator,
}

/// Every schema of the repository; formats are checked.
pub fn all() -> &'static BTreeMap<String, Schema> {
    static ALL: OnceLock<BTreeMap<String, Schema>> = OnceLock::new();
    ALL.get_or_init(|| {
        let folder = crate::repository().join("config/event-schemas");
        let mut schemas = BTreeMap::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                let options = jsonschema::draft202012::options().should_validate_formats(true);
                let validator = options.build(&text).unwrap();
                let subject = path.file_stem().unwrap().to_str().unwrap().to_owned();
                schemas.insert(subject, Schema { text, validator });
            }
        }
        schemas
    })
}

/// Why `payload` is no message of `subject`; empty if it is one.
pub fn faults(subject: &str, payload: &[u8]) -> Vec<String> {
    let value: Value = match serde_json::from_slice(payload) {
        Ok(value) => value,
        Err(error) => return vec![format!("no JSON: {error}")],
    };
    faults_of(subject, &value)
}

pub fn faults_of(subject: &str, value: &Value) -> Vec<String> {
    let schema = all().get(subject).unwrap_or_else(|| panic!("{subject} has no schema"));
    schema.validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
}
