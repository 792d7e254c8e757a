//! `resource.Quantity`: exact decimal numbers with decimal, binary or exponent suffixes.
//!
//! Source: k8s.io/apimachinery/pkg/api/resource. Values are kept in nano units in an i128, which
//! holds more than upstream's limit (2^63-1) at upstream's finest scale (nano).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `1500m`, `2k`, `3M`
    #[default]
    DecimalSi,
    /// `2Ki`, `3Mi`
    BinarySi,
    /// `1e3`
    DecimalExponent,
}

/// An amount: compares and adds exactly, prints in its canonical form.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError;

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    /// Whole units, written in decimal.
    pub fn from_units(units: i64) -> Quantity {
        Quantity { nanos: i128::from(units) * NANO, format: Format::DecimalSi }
    }

    /// Thousandths (CPU), written in decimal.
    pub fn from_milli(milli: i64) -> Quantity {
        Quantity { nanos: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// Billionths (what a processor did), written in decimal.
    pub fn from_nano(nanos: u64) -> Quantity {
        Quantity { nanos: i128::from(nanos), format: Format::DecimalSi }
    }

    /// Bytes, written in powers of 1024.
    pub fn from_bytes(bytes: i64) -> Quantity {
        Quantity { nanos: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// A tree's string or number.
    pub fn from_tree(tree: &serde_json::Value) -> Option<Quantity> {
        match tree {
            serde_json::Value::String(text) => text.parse().ok(),
            serde_json::Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        }
    }

    /// Whole units, rounded up (upstream's `Value`).
    pub fn units(self) -> i64 {
        clamp(div_up(self.nanos, NANO))
    }

    /// Thousandths, rounded up (upstream's `MilliValue`).
    pub fn milli(self) -> i64 {
        clamp(div_up(self.nanos, NANO / 1000))
    }

    /// The next whole number of units.
    #[must_use]
    pub fn rounded_up(self) -> Quantity {
        Quantity { nanos: div_up(self.nanos, NANO).saturating_mul(NANO), ..self }
    }

    /// The next whole number of thousandths, away from zero.
    #[must_use]
    pub fn rounded_to_thousandths(self) -> Quantity {
        let step = NANO / 1000;
        let up = div_up(self.nanos.saturating_abs(), step).saturating_mul(step);
        Quantity { nanos: if self.nanos < 0 { -up } else { up }, ..self }
    }

    /// The nearest double, in units.
    pub fn as_f64(self) -> f64 {
        // Ratios of what people write need no more digits than that.
        self.nanos as f64 / NANO as f64
    }

    /// Go's `%#v` of it, as read from its canonical form.
    pub fn go_syntax(self) -> String {
        let (value, scale, format) = match self.format {
            Format::BinarySi => (self.nanos / NANO, 0, "BinarySI"),
            decimal => {
                let (value, step) = if self.nanos == 0 { (0, 3) } else { self.thousands() };
                let exponent = decimal == Format::DecimalExponent;
                (value, (step - 3) * 3, if exponent { "DecimalExponent" } else { "DecimalSI" })
            }
        };
        format!(
            "resource.Quantity{{i:resource.int64Amount{{value:{value}, scale:{scale}}}, d:resource.infDecAmount{{Dec:(*inf.Dec)(nil)}}, s:\"{self}\", Format:\"{format}\"}}"
        )
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    pub fn format(self) -> Format {
        self.format
    }

    /// True for `1500m`: not a whole number of units.
    pub fn has_fraction(self) -> bool {
        self.nanos % NANO != 0
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;
    /// The sum, in the format of the left side (of the right side if the left is zero), as upstream.
    fn add(self, rhs: Quantity) -> Quantity {
        let format = if self.nanos == 0 { rhs.format } else { self.format };
        Quantity { nanos: self.nanos.saturating_add(rhs.nanos), format }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;
    fn sub(self, rhs: Quantity) -> Quantity {
        let format = if self.nanos == 0 { rhs.format } else { self.format };
        Quantity { nanos: self.nanos.saturating_sub(rhs.nanos), format }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    /// `<sign><digits>[.<digits>]<suffix>`; finer than nano is rounded up away from zero, as upstream.
    fn from_str(text: &str) -> Result<Quantity, ParseError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let number_len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, suffix) = rest.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(ParseError);
        }
        let (base_two, exponent, format) = suffix_scale(suffix).ok_or(ParseError)?;
        // mantissa * 10^-fraction_len * scale, in nanos: all in i128 with saturation at upstream's bound.
        let fraction = fraction.trim_end_matches('0');
        let mut mantissa: i128 = 0;
        let mut dropped = false;
        let mut scale = 0i32;
        for (idx, digit) in
            whole.trim_start_matches('0').bytes().chain(fraction.bytes()).enumerate()
        {
            if idx < 30 {
                mantissa = mantissa * 10 + i128::from(digit - b'0');
            } else {
                scale += 1;
                dropped |= digit != b'0';
            }
        }
        scale -= i32::try_from(fraction.len()).map_err(|_| ParseError)?;
        let bound = i128::from(i64::MAX) * NANO;
        let magnitude = if base_two {
            // Up to 2^60: the shift of a 30-digit mantissa saturates.
            let scaled = mantissa.checked_mul(1i128 << exponent);
            scale_ten(scaled, scale + 9, dropped)
        } else {
            scale_ten(Some(mantissa), scale.saturating_add(exponent).saturating_add(9), dropped)
        };
        let magnitude = magnitude.map_or(bound, |m| m.min(bound));
        Ok(Quantity { nanos: if negative { -magnitude } else { magnitude }, format })
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANO == 0;
        match self.format {
            Format::BinarySi if whole && (self.nanos / NANO).abs() >= 1024 => {
                let (mut value, mut step) = (self.nanos / NANO, 0);
                while value % 1024 == 0 && step < 6 {
                    value /= 1024;
                    step += 1;
                }
                write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step])
            }
            Format::DecimalExponent => {
                let (value, step) = self.thousands();
                match step {
                    3 => write!(f, "{value}"),
                    step => write!(f, "{value}e{}", (step - 3) * 3),
                }
            }
            _ => {
                let (value, step) = self.thousands();
                let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                write!(f, "{value}{}", suffixes[usize::try_from(step).unwrap_or(3)])
            }
        }
    }
}

impl Quantity {
    /// The value divided by the largest power of 1000 that divides it, and that power above nano.
    fn thousands(&self) -> (i128, i32) {
        let (mut value, mut step) = (self.nanos, 0);
        while value % 1000 == 0 && step < 9 {
            value /= 1000;
            step += 1;
        }
        (value, step)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        )
    }
}

impl std::error::Error for ParseError {}

/// Whether the suffix is a power of two, its exponent, and the format it implies.
fn suffix_scale(suffix: &str) -> Option<(bool, i32, Format)> {
    Some(match suffix {
        "Ki" => (true, 10, Format::BinarySi),
        "Mi" => (true, 20, Format::BinarySi),
        "Gi" => (true, 30, Format::BinarySi),
        "Ti" => (true, 40, Format::BinarySi),
        "Pi" => (true, 50, Format::BinarySi),
        "Ei" => (true, 60, Format::BinarySi),
        "n" => (false, -9, Format::DecimalSi),
        "u" => (false, -6, Format::DecimalSi),
        "m" => (false, -3, Format::DecimalSi),
        "" => (false, 0, Format::DecimalSi),
        "k" => (false, 3, Format::DecimalSi),
        "M" => (false, 6, Format::DecimalSi),
        "G" => (false, 9, Format::DecimalSi),
        "T" => (false, 12, Format::DecimalSi),
        "P" => (false, 15, Format::DecimalSi),
        "E" => (false, 18, Format::DecimalSi),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            (false, exponent.parse::<i16>().ok()?.into(), Format::DecimalExponent)
        }
    })
}

/// `value * 10^power`, rounded up where digits are lost; `None` when it does not fit.
fn scale_ten(value: Option<i128>, power: i32, dropped: bool) -> Option<i128> {
    let mut value = value?;
    if value == 0 && !dropped {
        return Some(0);
    }
    let mut power = power;
    while power > 0 {
        value = value.checked_mul(10)?;
        power -= 1;
    }
    let mut lost = dropped;
    while power < 0 && value != 0 {
        lost |= value % 10 != 0;
        value /= 10;
        power += 1;
    }
    Some(value + i128::from(lost))
}

fn div_up(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by > 0 { quotient + 1 } else { quotient }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, want) in [
            ("0", "0"),
            ("0.1", "100m"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("1500", "1500"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("1E", "1E"),
            ("5M", "5M"),
            ("0.0000000001", "1n"),
            ("-1", "-1"),
            ("+2", "2"),
            (".5", "500m"),
            ("5.", "5"),
            ("1000Ki", "1000Ki"),
            ("129e6", "129e6"),
            ("128974848", "128974848"),
            ("123Mi", "123Mi"),
            ("1u", "1u"),
            ("0.1Ki", "102400m"),
        ] {
            assert_eq!(
                text.parse::<Quantity>().map(|q| q.to_string()),
                Ok(want.to_owned()),
                "{text}"
            );
        }
        for bad in ["", "1.1.1", "1x", "Ki", "1 Ki", "--1", "1e", "e3", "1ki", "."] {
            assert_eq!(bad.parse::<Quantity>(), Err(ParseError), "{bad}");
        }
    }

    #[test]
    fn sums_and_comparisons_are_exact() {
        let q = |text: &str| text.parse::<Quantity>().unwrap_or_default();
        assert!(q("1000m") == q("1"));
        assert!(q("1Ki") > q("1k"));
        assert_eq!((q("100Mi") + q("28Mi")).to_string(), "128Mi");
        assert_eq!((q("1") - q("250m")).to_string(), "750m");
        assert_eq!(q("1001u").milli(), 2);
        assert_eq!(q("1.5").units(), 2);
        assert_eq!(q("-1.5").units(), -1);
        assert_eq!(q("9999999999999999999999E").units(), i64::MAX);
    }
}
