use super::*;
use serde_json::json;

#[test]
fn a_text_of_digits_and_punctuation_is_a_number_in_any_script() {
    for number in [
        "+93771234567",
        "93771234567",
        "0771234567",
        "(077) 123 456",
        "077-123.45/67",
        "1234567",
        "\u{660}\u{667}\u{667}\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}\u{667}",
        "\u{6f0}\u{6f7}\u{6f7}\u{6f1}\u{6f2}\u{6f3}\u{6f4}",
        "\u{ff10}\u{ff17}\u{ff17}\u{ff11}\u{ff12}\u{ff13}\u{ff14}",
        "\u{ff0b}\u{ff19}\u{ff13}771234567",
        "\u{966}\u{96d}\u{96d}\u{967}\u{968}\u{969}\u{96a}",
        "\u{200e}0771234567\u{200f}",
        "#0771234567*",
    ] {
        assert!(is_number(number), "{number}");
        assert_eq!(text(number).trim_start_matches('+'), "***", "{number}");
        let seen = address(number);
        assert_eq!(count_digits(&seen) - usize::from(number == "+93771234567") * 2, 2, "{seen}");
    }
    for other in ["GHASI", "123456", "12-34-56", "Bank 24", "", "+", "A1234567"] {
        assert!(!is_number(other), "{other}");
        assert_eq!((text(other), address(other)), (other.into(), other.into()));
    }
}

#[test]
fn an_address_keeps_its_country_and_its_last_two_digits() {
    for (number, expected) in [
        ("+93701234567", "+93*******67"),
        ("+12025550123", "+1********23"),
        ("+992123456789", "+992*******89"),
        ("+931", "+931"),
        ("+93", "+93"),
        ("93771234567", "*********67"),
        ("(077) 123 456", "(***) *** *56"),
        ("0771234567", "********67"),
        ("Call 0771234567", "Call ***"),
    ] {
        assert_eq!(address(number), expected);
    }
    assert_eq!((imsi("412011234567890"), imsi("412")), ("412**********90".to_owned(), "412".to_owned()));
}

#[test]
fn numbers_among_words_are_hidden_and_ids_times_and_counts_stay() {
    for (written, expected) in [
        ("call of +93701234567, twice", "call of +***, twice"),
        ("imsi=412011234567890!", "imsi=***!"),
        ("\u{6a9}\u{6a9} 0093701234567 \u{e9}", "\u{6a9}\u{6a9} *** \u{e9}"),
        ("for 0701 234 567 and 77.123.45.678", "for *** and ***"),
        ("for (070) 123-4567.", "for (***."),
        ("of +931234567 or 0612345", "of +*** or ***"),
        ("\u{6f0}\u{6f7}\u{6f7}\u{6f1}\u{6f2}\u{6f3}\u{6f4} is his", "*** is his"),
        (r#"{"msisdn":"93701234567","n":937012345}"#, r#"{"msisdn":"***","n":***}"#),
    ] {
        assert_eq!(text(written), expected);
    }
    for kept in [
        "12345678 bytes of 100000",
        "cdr_01HV0123456789012345678901",
        "3f2504e0-4f89-11d3-9a0c-030500000000",
        "AFG-2026-000001",
        "on 2026-04-20 at 17:30:00.123+04:30",
        "2026-04-20T13:00:00.123Z",
        "2026-04-20",
        "192.168.100.200:2222 refused",
        "192.168.100.200",
        "a 64 KiB page of 1000 rows",
        "chargeAmount 0.038400 is not 12.500000",
    ] {
        assert_eq!(text(kept), kept);
    }
}

#[test]
fn of_our_own_values_texts_are_searched_and_ids_and_times_are_not() {
    let mut value = json!({
        "ticketId": "0771234567", "reason": "for 0771234567", "recordingEntity": "4120101", "messageId": "12345678",
        "settlementDay": "2026-04-20", "recordedAt": "2026-04-20T13:00:00.000Z", "count": 93_701_234_567_u64,
        "chargeAmount": "0.038400", "content": { "prices": [{ "prefix": "+9370123456" }] },
        "details": { "note": ["+93701234567"] }, "payload": { "+93701234567": 93_701_234_567_u64 },
    });
    let before = value.clone();
    assert!(own(&mut value));
    assert_eq!(value["ticketId"], "***");
    assert_eq!(value["reason"], "for ***");
    assert_eq!(value["details"], json!({ "note": ["+***"] }));
    assert_eq!(value["payload"], json!({ "+***": "***" }));
    for same in
        ["recordingEntity", "messageId", "settlementDay", "recordedAt", "count", "chargeAmount", "content"]
    {
        assert_eq!(value[same], before[same]);
    }
    assert!(!own(&mut value), "what is hidden stays hidden");
    let mut kept =
        json!({ "payload": r#"{"n": 7712345, "t": "\u0660\u0667\u0667\u0661\u0662\u0663\u0664"}"# });
    assert!(own(&mut kept));
    assert_eq!(kept, json!({ "payload": r#"{"n":"***","t":"***"}"# }));
    let mut fine = json!({ "payload": r#"{ "line": 7 }"# });
    assert!(!own(&mut fine) && fine == json!({ "payload": r#"{ "line": 7 }"# }));
}

#[test]
fn nothing_of_a_foreign_value_shows_a_number() {
    let mut value = json!({
        "+93701234567": [93_701_234_567_u64, 12, -1.5, {"imsi": "412011234567890"}], "line": 7, "ok": true,
        "subscriberId": "0771234567",
    });
    assert!(foreign(&mut value));
    let expected = json!({
        "+***": ["***", 12, -1.5, {"imsi": "***"}], "line": 7, "ok": true, "subscriberId": "***",
    });
    assert_eq!(value, expected);
}
