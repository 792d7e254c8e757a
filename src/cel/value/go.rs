//! How Go shows values in errors.

use super::Val;

/// Go's `%q`: in double quotes, unprintable characters escaped.
pub(crate) fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            control if control.is_ascii_control() => {
                out.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Go's shortest form of a number (`%g`), with an exponent from `10^large` on.
pub(crate) fn go_float(number: f64, large: i32) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number == 0.0 || (-4..large).contains(&exponent) {
        return format!("{number}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Go's name of the type that a value has in upstream.
pub(crate) fn go_kind(of: &Val<'_>) -> &'static str {
    match of {
        Val::Null => "<nil>",
        Val::Bool(_) => "types.Bool",
        Val::Int(_) => "types.Int",
        Val::Uint(_) => "types.Uint",
        Val::Double(_) => "types.Double",
        Val::Str(_) | Val::Text(_) => "types.String",
        Val::Bytes(_) => "types.Bytes",
        Val::Time(_) => "types.Timestamp",
        Val::Duration(_) => "types.Duration",
        Val::Optional(_) => "*types.Optional",
        Val::Type(_) => "*types.Type",
        Val::Json(serde_json::Value::Array(_), None) => "[]interface {}",
        Val::Json(_, None) => "map[string]interface {}",
        Val::List(_) => "*types.baseList",
        Val::Map(_) => "*types.baseMap",
        Val::Quantity(_) => "cel.Quantity",
        Val::Url(_) => "cel.URL",
        Val::Ip(_) => "cel.IP",
        Val::Cidr(..) => "cel.CIDR",
        Val::Format(_) => "cel.Format",
        other => other.kind(),
    }
}

/// Go's `%v` of a scalar.
pub(crate) fn go_shown(of: &Val<'_>) -> String {
    match of {
        Val::Null => "0".into(),
        Val::Bool(is) => is.to_string(),
        Val::Int(int) => int.to_string(),
        Val::Uint(uint) => uint.to_string(),
        Val::Double(double) => go_float(*double, 21),
        Val::Time(stamp) => stamp.shown(),
        Val::Duration(nanos) => super::time::shown(*nanos),
        other => other.as_str().map_or_else(|| other.kind().into(), Into::into),
    }
}
