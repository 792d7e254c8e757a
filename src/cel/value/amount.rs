//! Quantities as expressions have them.

use wire::quantity::Quantity;

/// A quantity, and whether upstream keeps it in units no smaller than one, which is when it is an integer.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    pub(crate) of: Quantity,
    pub(crate) whole: bool,
}

impl Amount {
    pub(crate) fn units(units: i64) -> Amount {
        Amount { of: Quantity::from_units(units), whole: true }
    }

    pub(crate) fn read(text: &str) -> Result<Amount, wire::quantity::ParseError> {
        let of = text.parse()?;
        let number = text.trim_start_matches(['+', '-']);
        let length = number.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.');
        let (number, suffix) = number.split_at(length.count());
        let fraction = number.split_once('.').map_or("", |(_, fraction)| fraction);
        let digits = number.len() - usize::from(number.contains('.'));
        let exponent = match suffix {
            "n" => -9,
            "u" => -6,
            "m" => -3,
            "" => 0,
            "k" => 3,
            "M" => 6,
            "G" => 9,
            "T" => 12,
            "P" => 15,
            "E" => 18,
            binary if binary.ends_with('i') => {
                return Ok(Amount { of, whole: fraction.is_empty() && fits(of) });
            }
            other => other.get(1..).and_then(|number| number.parse().ok()).unwrap_or(0),
        };
        let whole = exponent >= fraction.len() as i64 && digits <= 18;
        Ok(Amount { of, whole: whole && fits(of) })
    }

    pub(crate) fn with(self, other: Amount, sum: Quantity) -> Amount {
        let whole = match (self.of.is_zero(), other.of.is_zero()) {
            (_, true) => self.whole,
            (true, _) => other.whole,
            _ => self.whole && other.whole,
        };
        Amount { of: sum, whole }
    }
}

/// Whether it is a whole number of 64 bits, and was not cut to the largest.
pub(crate) fn fits(of: Quantity) -> bool {
    let units = of.units();
    units.unsigned_abs() < i64::MAX as u64 && Quantity::from_units(units) == of
}
