//! Which failures of a device pass by themselves, and which need a person.

use crate::signer::SignError;
use cryptoki::error::{Error, RvError};

/// What a failure means to a caller that needs a signature from `what`.
pub(super) fn meaning(what: &str, error: &Error) -> SignError {
    let (what, why) = (what.to_owned(), error.to_string());
    match error {
        Error::LibraryLoading(_) | Error::MissingSymbol(_) => {
            let why = format!("{why}: signer.module must name the device's PKCS#11 library");
            SignError::Refused { what, why }
        }
        Error::Pkcs11(value, _) if is_about_the_pin(*value) => SignError::Refused { what, why },
        Error::Pkcs11(value, _) if is_for_good(*value) => SignError::Refused { what, why },
        Error::NotSupported | Error::NullFunctionPointer => SignError::Refused { what, why },
        _ => SignError::Unavailable { what, why },
    }
}

/// True if the device said something about the PIN that another attempt would only make worse.
pub(super) fn is_about_the_pin(value: RvError) -> bool {
    matches!(
        value,
        RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked
            | RvError::UserPinNotInitialized
    )
}

/// True if the device can't do what was requested, and never will.
fn is_for_good(value: RvError) -> bool {
    matches!(
        value,
        RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::CurveNotSupported
            | RvError::KeyFunctionNotPermitted
            | RvError::KeyTypeInconsistent
            | RvError::FunctionNotSupported
            | RvError::FipsSelfTestFailed
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::context::Function;

    #[test]
    fn a_token_that_is_away_may_come_back_and_a_wrong_pin_stays_wrong() {
        let temporary = |value| meaning("token t", &Error::Pkcs11(value, Function::Sign)).is_temporary();
        for value in [
            RvError::TokenNotPresent,
            RvError::DeviceRemoved,
            RvError::DeviceError,
            RvError::SessionHandleInvalid,
            RvError::UserNotLoggedIn,
            RvError::GeneralError,
            RvError::ObjectHandleInvalid,
        ] {
            assert!(temporary(value), "{value:?}");
        }
        for value in [RvError::PinIncorrect, RvError::PinLocked, RvError::MechanismInvalid] {
            assert!(!temporary(value), "{value:?}");
        }
        assert!(!meaning("token t", &Error::MissingSymbol("C_GetFunctionList")).is_temporary());
    }
}
