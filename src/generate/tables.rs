//! What the receipts are drawn from.

/// Load of the hours of a local day, by weight.
pub(super) const HOUR_WEIGHTS: [f64; 24] = [
    1.1, 0.7, 0.5, 0.4, 0.6, 1.4, 2.8, 4.6, 6.4, 7.2, 7.4, 7.1, 6.2, 5.6, 5.8, 6.3, 6.6, 6.1, 5.4, 4.9, 4.6,
    3.8, 2.6, 1.7,
];

/// An operator and its numbering.
pub(super) struct Operator {
    pub(super) id: &'static str,
    /// Two digits behind +93 of its own numbers.
    pub(super) prefixes: &'static [&'static str],
    /// Mobile network code behind 412; empty for the international gateways.
    pub(super) mnc: &'static str,
    pub(super) service_center: &'static str,
}

/// The operators; the gateways come last.
pub(super) const OPERATORS: [Operator; 7] = [
    Operator { id: "AWCC", prefixes: &["70", "71"], mnc: "01", service_center: "+93701234567" },
    Operator { id: "ROSHAN", prefixes: &["79", "72"], mnc: "20", service_center: "+93799001000" },
    Operator { id: "MTN_AF", prefixes: &["77", "76"], mnc: "40", service_center: "+93770011111" },
    Operator { id: "ETS", prefixes: &["78", "73"], mnc: "50", service_center: "+93780000770" },
    Operator { id: "SALAAM", prefixes: &["74"], mnc: "80", service_center: "+93744002000" },
    Operator {
        id: "INTL_IN",
        prefixes: &["70", "79", "77", "78", "74"],
        mnc: "",
        service_center: "+93700000900",
    },
    Operator {
        id: "INTL_OUT",
        prefixes: &["70", "79", "77", "78", "74"],
        mnc: "",
        service_center: "+93700000901",
    },
];

/// How many of [`OPERATORS`] are domestic networks.
pub(super) const DOMESTIC: u64 = 5;

/// Shares of the operators in percent, with their place in [`OPERATORS`].
pub(super) const OPERATOR_SHARES: [(u64, usize); 7] =
    [(27, 0), (21, 1), (20, 2), (16, 3), (8, 4), (5, 5), (3, 6)];

/// What is charged for, and in which direction.
pub(super) type Charge = (&'static str, &'static str);

/// Charge types of the domestic networks in percent.
pub(super) const DOMESTIC_CHARGES: [(u64, Charge); 7] = [
    (44, ("A2P", "MT")),
    (28, ("P2P", "MO")),
    (4, ("P2P", "MT")),
    (11, ("MO", "MO")),
    (8, ("MT", "MT")),
    (4, ("BROADCAST", "MT")),
    (1, ("INTERNATIONAL_MT", "MT")),
];

/// Charge types of what comes from abroad.
pub(super) const INBOUND_CHARGES: [(u64, Charge); 2] =
    [(86, ("INTERNATIONAL_MT", "MT")), (14, ("A2P", "MT"))];

/// Charge types of what goes abroad.
pub(super) const OUTBOUND_CHARGES: [(u64, Charge); 2] = [(72, ("MO", "MO")), (28, ("P2P", "MO"))];

/// Final states in percent.
pub(super) const FINAL_STATES: [(u64, &str); 3] = [(93, "DELIVERED"), (5, "FAILED"), (2, "EXPIRED")];

pub(super) const NON_FINAL_STATES: [&str; 4] = ["ACCEPTED", "BUFFERED", "ENROUTE", "UNKNOWN"];

pub(super) const FAILURES: [&str; 6] = [
    "ABSENT_SUBSCRIBER",
    "UNKNOWN_SUBSCRIBER",
    "MEMORY_CAPACITY_EXCEEDED",
    "CALL_BARRED",
    "TELESERVICE_NOT_PROVISIONED",
    "SYSTEM_FAILURE",
];

/// Sender names of 1-11 characters, Latin.
pub(super) const LATIN_SENDERS: [&str; 16] = [
    "AzizBank",
    "HesabPay",
    "M-Paisa",
    "OTP",
    "DABS",
    "AFGPOST",
    "KamAir",
    "NewKabulBk",
    "Ariana",
    "INFO",
    "MoPH",
    "Snapp",
    "BRESHNA",
    "ATRA",
    "2FA Code",
    "PASSPORT",
];

/// Sender names of 1-11 characters, Dari and Pashto.
pub(super) const LOCAL_SENDERS: [&str; 8] =
    ["کابل بانک", "برېښنا", "روشن", "وزارت صحت", "پوهنتون", "افغان پست", "هوا", "بانک ملی"];

/// Number ranges abroad, with how many digits follow.
pub(super) const ABROAD: [(&str, u32); 8] = [
    ("+92300", 7),
    ("+98912", 7),
    ("+4917", 8),
    ("+1415", 7),
    ("+97150", 7),
    ("+9198", 8),
    ("+4479", 8),
    ("+90532", 7),
];

/// How many tenants there are.
pub(super) const TENANTS: u64 = 320;

/// Subscribers of a number range.
pub(super) const SUBSCRIBERS: u64 = 2_000_000;
