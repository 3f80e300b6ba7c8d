//! Names, subjects and headers by the rules of NATS. Subjects are tokens between dots, with `*` for one token and `>`
//! for the rest.

use super::{BusError, MESSAGE_ID_HEADER, Outgoing};

/// Longest subject that can be listened to.
const MAX_FILTER_BYTES: usize = 1_024;

/// Headers that a message may have.
const MAX_HEADERS: usize = 1_000;

/// Whether `subject` can be published to: non-empty tokens, no wildcard, no white space.
pub(super) fn check_subject(subject: &str) -> Result<(), BusError> {
    let fits = |token: &str| {
        !token.is_empty()
            && token != "*"
            && token != ">"
            && !token.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if subject.split('.').all(fits) {
        return Ok(());
    }
    Err(BusError::InvalidSubject { subject: subject.to_owned() })
}

/// Whether `subject` can be listened to: as [`check_subject`], but whole tokens may be wildcards, `>` only as the last.
pub(super) fn check_filter(subject: &str) -> Result<(), BusError> {
    let exact = subject.strip_suffix(".>").unwrap_or(if subject == ">" { "a" } else { subject });
    let named: Vec<&str> = exact.split('.').map(|token| if token == "*" { "a" } else { token }).collect();
    check_subject(&named.join(".")).map_err(|_| BusError::InvalidSubject { subject: subject.to_owned() })?;
    if subject.len() <= MAX_FILTER_BYTES {
        return Ok(());
    }
    Err(BusError::InvalidSubject { subject: format!("{}…", &subject.chars().take(64).collect::<String>()) })
}

/// Whether a message can be published: its subject, and headers without line ends or colons in their names.
pub(super) fn check_message(message: &Outgoing) -> Result<(), BusError> {
    check_subject(&message.subject)?;
    let broken = |text: &str| text.contains(['\r', '\n']);
    let broken_name =
        |name: &str| name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    let broken_id = [&message.message_id, &message.behind_id].into_iter().flatten().any(|id| broken(id));
    let id_header = broken_id.then_some(MESSAGE_ID_HEADER);
    let mut headers = message.headers.iter().enumerate();
    let other = || {
        headers
            .find(|(at, (name, value))| *at >= MAX_HEADERS || broken_name(name) || broken(value))
            .map(|(_, (name, _))| name.as_str())
    };
    match id_header.or_else(other) {
        Some(name) => {
            Err(BusError::InvalidHeader { name: name.to_owned(), subject: message.subject.clone() })
        }
        None => Ok(()),
    }
}

/// Whether `name` can name a stream, a consumer and a file.
pub(super) fn check_name(name: &str) -> Result<(), BusError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= 128 && name.chars().all(fits) {
        return Ok(());
    }
    Err(BusError::InvalidName { name: name.to_owned() })
}

/// Whether every subject that `subject` matches is matched by `pattern`; both may hold wildcards.
pub(super) fn covers(pattern: &str, subject: &str) -> bool {
    let mut wanted = subject.split('.');
    for token in pattern.split('.') {
        match (token, wanted.next()) {
            (">", Some(_)) => return true,
            ("*", Some(asked)) if asked != ">" => {}
            (token, Some(asked)) if token == asked => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_subjects_token_by_token() {
        for (pattern, subject, expected) in [
            ("sms.dlr.inbound", "sms.dlr.inbound", true),
            ("sms.dlr.inbound", "sms.dlr.inbound.deadletter", false),
            ("sms.dlr.*", "sms.dlr.inbound", true),
            ("sms.dlr.*", "sms.dlr", false),
            ("sms.dlr.*", "sms.dlr.a.b", false),
            ("sms.>", "sms.dlr.a.b", true),
            ("sms.>", "sms", false),
            (">", "a", true),
            ("a.*", "a.>", false),
            ("a.>", "a.*", true),
            ("a.*.c", "a.b.c", true),
            ("a.b", "a.*", false),
        ] {
            assert_eq!(covers(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn headers_are_checked() {
        let message = |name: &str, value: &str| Outgoing {
            subject: "a".to_owned(),
            headers: vec![(name.to_owned(), value.to_owned())],
            ..Outgoing::default()
        };
        check_message(&message("Cdr-Reason", "to is missing: é")).unwrap();
        for (name, value) in [("", "x"), ("a:b", "x"), ("a b", "x"), ("é", "x"), ("a", "x\r\ny"), ("a", "\n")]
        {
            assert!(check_message(&message(name, value)).is_err(), "{name:?} {value:?}");
        }
        let mut many = message("a", "b");
        many.headers = vec![many.headers[0].clone(); MAX_HEADERS + 1];
        assert!(check_message(&many).is_err());
        let bad_id = Outgoing { message_id: Some("a\n".to_owned()), ..message("a", "b") };
        assert!(check_message(&bad_id).is_err());
    }

    #[test]
    fn subjects_and_names_are_checked() {
        for good in ["a", "sms.dlr.inbound"] {
            check_subject(good).unwrap();
        }
        for bad in ["", "a.", ".a", "a..b", "a.*", "a.>", "a b", "a\r\n"] {
            assert!(check_subject(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a.b", "a.*.c", "a.>", ">", "*.b"] {
            check_filter(good).unwrap();
        }
        let long = "a".repeat(1_025);
        for bad in ["", "a.", "a.>.b", ">.a", "a b", "a..>", long.as_str()] {
            assert!(check_filter(bad).is_err(), "{bad:?}");
        }
        check_name("SMS_DLR-1").unwrap();
        for bad in ["", "a.b", "../x", "a b", "a/b", "a*"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
