//! Every function of the language as Kubernetes 1.32 has it: names, operations, signatures. Data, read when it is asked for.
//!
//! A signature is letters: the types of arguments, a colon, the result. A dot in front means a method.
//! `b i u d s y n * t w` are bool, int, uint, double, string, bytes, null, dyn, timestamp and duration,
//! `A B` parameters, `L O T` a list, an optional and a type of what follows, `M` a map of the two that follow,
//! and the rest is in `types::NAMED`.

use crate::types::{DECISION, NAMED, Type};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Conditional,
    And,
    Or,
    Not,
    NotFalse,
    Equals,
    Differs,
    Add,
    /// An addition to what a comprehension collects.
    Append,
    Divide,
    Modulo,
    Multiply,
    Negate,
    Subtract,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
    Index,
    OptIndex,
    OptSelect,
    In,
    Size,
    TypeOf,
    ToBool,
    ToBytes,
    ToDouble,
    ToDuration,
    ToDyn,
    ToInt,
    ToString,
    ToTimestamp,
    ToUint,
    Contains,
    EndsWith,
    StartsWith,
    Matches,
    Year,
    Month,
    DayOfYear,
    DayOfMonth,
    Date,
    DayOfWeek,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
    OptionalOf,
    OptionalOfNonZero,
    OptionalNone,
    OptionalValue,
    HasValue,
    OptionalOr,
    OrValue,
    CharAt,
    IndexOf,
    LastIndexOf,
    LowerAscii,
    UpperAscii,
    Replace,
    Split,
    Substring,
    Trim,
    Format,
    Quote,
    Join,
    SetsContains,
    SetsEquivalent,
    SetsIntersects,
    IsSorted,
    Sum,
    Max,
    Min,
    Find,
    FindAll,
    Url,
    IsUrl,
    UrlScheme,
    UrlHost,
    UrlHostname,
    UrlPort,
    UrlPath,
    UrlQuery,
    Ip,
    IsIp,
    IpFamily,
    IpIsCanonical,
    IpIsUnspecified,
    IpIsLoopback,
    IpIsLinkLocalMulticast,
    IpIsLinkLocalUnicast,
    IpIsGlobalUnicast,
    Cidr,
    IsCidr,
    ContainsIp,
    ContainsCidr,
    PrefixLength,
    Masked,
    Quantity,
    IsQuantity,
    QuantitySign,
    QuantityIsGreater,
    QuantityIsLess,
    QuantityCompare,
    QuantityFloat,
    QuantityInt,
    QuantityIsInt,
    QuantityAdd,
    QuantitySub,
    FormatValidate,
    FormatNamed,
    FormatConstant,
    AuthPath,
    AuthGroup,
    AuthServiceAccount,
    AuthResource,
    AuthSubresource,
    AuthNamespace,
    AuthName,
    AuthFieldSelector,
    AuthLabelSelector,
    AuthCheck,
    AuthErrored,
    AuthError,
    AuthAllowed,
    AuthReason,
}

const COMPARE: &str = "bb:b ii:b id:b iu:b uu:b ud:b ui:b dd:b di:b du:b ss:b yy:b tt:b ww:b";
const OF_TIME: &str = ".t:i .ts:i";
const OF_BOTH: &str = ".t:i .ts:i .w:i";
const EXTREME: &str = ".Li:i .Lu:u .Ld:d .Lb:b .Lw:w .Lt:t .Ls:s .Ly:y";
const SETS: &str = "LALA:b";

/// Names, operations, signatures.
pub(crate) const FUNCTIONS: &[(&str, Op, &str)] = &[
    ("_?_:_", Op::Conditional, "bAA:A"),
    ("_&&_", Op::And, "bb:b"),
    ("_||_", Op::Or, "bb:b"),
    ("!_", Op::Not, "b:b"),
    ("@not_strictly_false", Op::NotFalse, "b:b"),
    ("_==_", Op::Equals, "AA:b"),
    ("_!=_", Op::Differs, "AA:b"),
    ("_+_", Op::Add, "yy:y dd:d ww:w wt:t tw:t ii:i LALA:LA ss:s uu:u"),
    ("_/_", Op::Divide, "dd:d ii:i uu:u"),
    ("_%_", Op::Modulo, "ii:i uu:u"),
    ("_*_", Op::Multiply, "dd:d ii:i uu:u"),
    ("-_", Op::Negate, "d:d i:i"),
    ("_-_", Op::Subtract, "dd:d ww:w ii:i tw:t tt:w uu:u"),
    ("_<_", Op::Less, COMPARE),
    ("_<=_", Op::LessEquals, COMPARE),
    ("_>_", Op::Greater, COMPARE),
    ("_>=_", Op::GreaterEquals, COMPARE),
    ("_[_]", Op::Index, "LAi:A MABA:B OLAi:OA OMABA:OB"),
    ("_[?_]", Op::OptIndex, "LAi:OA OLAi:OA MABA:OB OMABA:OB"),
    ("_?._", Op::OptSelect, "*s:OA"),
    ("@in", Op::In, "ALA:b AMAB:b"),
    ("size", Op::Size, "y:i .y:i LA:i .LA:i MAB:i .MAB:i s:i .s:i"),
    ("type", Op::TypeOf, "A:TA"),
    ("bool", Op::ToBool, "b:b s:b"),
    ("bytes", Op::ToBytes, "y:y s:y"),
    ("double", Op::ToDouble, "d:d i:d s:d u:d"),
    ("duration", Op::ToDuration, "w:w i:w s:w"),
    ("dyn", Op::ToDyn, "A:*"),
    ("int", Op::ToInt, "i:i d:i w:i s:i t:i u:i"),
    ("string", Op::ToString, "s:s b:s y:s d:s w:s i:s t:s u:s p:s c:s"),
    ("timestamp", Op::ToTimestamp, "t:t i:t s:t"),
    ("uint", Op::ToUint, "u:u d:u i:u s:u"),
    ("contains", Op::Contains, ".ss:b"),
    ("endsWith", Op::EndsWith, ".ss:b"),
    ("startsWith", Op::StartsWith, ".ss:b"),
    ("matches", Op::Matches, "ss:b .ss:b"),
    ("getFullYear", Op::Year, OF_TIME),
    ("getMonth", Op::Month, OF_TIME),
    ("getDayOfYear", Op::DayOfYear, OF_TIME),
    ("getDayOfMonth", Op::DayOfMonth, OF_TIME),
    ("getDate", Op::Date, OF_TIME),
    ("getDayOfWeek", Op::DayOfWeek, OF_TIME),
    ("getHours", Op::Hours, OF_BOTH),
    ("getMinutes", Op::Minutes, OF_BOTH),
    ("getSeconds", Op::Seconds, OF_BOTH),
    ("getMilliseconds", Op::Milliseconds, OF_BOTH),
    ("optional.of", Op::OptionalOf, "A:OA"),
    ("optional.ofNonZeroValue", Op::OptionalOfNonZero, "A:OA"),
    ("optional.none", Op::OptionalNone, ":OA"),
    ("value", Op::OptionalValue, ".OA:A"),
    ("hasValue", Op::HasValue, ".OA:b"),
    ("or", Op::OptionalOr, ".OAOA:OA"),
    ("orValue", Op::OrValue, ".OAA:A"),
    ("charAt", Op::CharAt, ".si:s"),
    ("indexOf", Op::IndexOf, ".LAA:i .ss:i .ssi:i"),
    ("lastIndexOf", Op::LastIndexOf, ".LAA:i .ss:i .ssi:i"),
    ("lowerAscii", Op::LowerAscii, ".s:s"),
    ("upperAscii", Op::UpperAscii, ".s:s"),
    ("replace", Op::Replace, ".sss:s .sssi:s"),
    ("split", Op::Split, ".ss:Ls .ssi:Ls"),
    ("substring", Op::Substring, ".si:s .sii:s"),
    ("trim", Op::Trim, ".s:s"),
    ("format", Op::Format, ".sL*:s"),
    ("strings.quote", Op::Quote, "s:s"),
    ("join", Op::Join, ".Ls:s .Lss:s"),
    ("sets.contains", Op::SetsContains, SETS),
    ("sets.equivalent", Op::SetsEquivalent, SETS),
    ("sets.intersects", Op::SetsIntersects, SETS),
    ("isSorted", Op::IsSorted, ".Li:b .Lu:b .Ld:b .Lb:b .Lw:b .Lt:b .Ls:b .Ly:b"),
    ("sum", Op::Sum, ".Li:i .Lu:u .Ld:d .Lw:w"),
    ("max", Op::Max, EXTREME),
    ("min", Op::Min, EXTREME),
    ("find", Op::Find, ".ss:s"),
    ("findAll", Op::FindAll, ".ss:Ls .ssi:Ls"),
    ("url", Op::Url, "s:r"),
    ("isURL", Op::IsUrl, "s:b"),
    ("getScheme", Op::UrlScheme, ".r:s"),
    ("getHost", Op::UrlHost, ".r:s"),
    ("getHostname", Op::UrlHostname, ".r:s"),
    ("getPort", Op::UrlPort, ".r:s"),
    ("getEscapedPath", Op::UrlPath, ".r:s"),
    ("getQuery", Op::UrlQuery, ".r:MsLs"),
    ("ip", Op::Ip, "s:p .c:p"),
    ("isIP", Op::IsIp, "s:b"),
    ("family", Op::IpFamily, ".p:i"),
    ("ip.isCanonical", Op::IpIsCanonical, "s:b"),
    ("isUnspecified", Op::IpIsUnspecified, ".p:b"),
    ("isLoopback", Op::IpIsLoopback, ".p:b"),
    ("isLinkLocalMulticast", Op::IpIsLinkLocalMulticast, ".p:b"),
    ("isLinkLocalUnicast", Op::IpIsLinkLocalUnicast, ".p:b"),
    ("isGlobalUnicast", Op::IpIsGlobalUnicast, ".p:b"),
    ("cidr", Op::Cidr, "s:c"),
    ("isCIDR", Op::IsCidr, "s:b"),
    ("containsIP", Op::ContainsIp, ".cs:b .cp:b"),
    ("containsCIDR", Op::ContainsCidr, ".cs:b .cc:b"),
    ("prefixLength", Op::PrefixLength, ".c:i"),
    ("masked", Op::Masked, ".c:c"),
    ("quantity", Op::Quantity, "s:q"),
    ("isQuantity", Op::IsQuantity, "s:b"),
    ("sign", Op::QuantitySign, "q:i"),
    ("isGreaterThan", Op::QuantityIsGreater, ".qq:b"),
    ("isLessThan", Op::QuantityIsLess, ".qq:b"),
    ("compareTo", Op::QuantityCompare, ".qq:i"),
    ("asApproximateFloat", Op::QuantityFloat, ".q:d"),
    ("asInteger", Op::QuantityInt, ".q:i"),
    ("isInteger", Op::QuantityIsInt, ".q:b"),
    ("add", Op::QuantityAdd, ".qq:q .qi:q"),
    ("sub", Op::QuantitySub, ".qq:q .qi:q"),
    ("validate", Op::FormatValidate, ".fs:OLs"),
    ("format.named", Op::FormatNamed, "s:Of"),
    ("path", Op::AuthPath, ".zs:P"),
    ("group", Op::AuthGroup, ".zs:G"),
    ("serviceAccount", Op::AuthServiceAccount, ".zss:z"),
    ("resource", Op::AuthResource, ".Gs:R"),
    ("subresource", Op::AuthSubresource, ".Rs:R"),
    ("namespace", Op::AuthNamespace, ".Rs:R"),
    ("name", Op::AuthName, ".Rs:R"),
    ("fieldSelector", Op::AuthFieldSelector, ".Rs:R"),
    ("labelSelector", Op::AuthLabelSelector, ".Rs:R"),
    ("check", Op::AuthCheck, ".Ps:D .Rs:D"),
    ("errored", Op::AuthErrored, ".D:b"),
    ("error", Op::AuthError, ".D:s"),
    ("allowed", Op::AuthAllowed, ".D:b"),
    ("reason", Op::AuthReason, ".D:s"),
];

/// Named formats, each a function `format.NAME()`, and how long upstream takes its expression to be.
pub(crate) const FORMATS: [(&str, u64); 13] = [
    ("dns1123Label", 30),
    ("dns1123Subdomain", 60),
    ("dns1035Label", 30),
    ("qualifiedName", 60),
    ("dns1123LabelPrefix", 30),
    ("dns1123SubdomainPrefix", 60),
    ("dns1035LabelPrefix", 30),
    ("labelValue", 40),
    ("uri", 0),
    ("uuid", 0),
    ("byte", 0),
    ("date", 0),
    ("datetime", 0),
];

/// A function and its overloads.
pub(crate) struct Function {
    pub(crate) op: Op,
    signatures: &'static str,
    /// The first of its overloads among all.
    first: u16,
}

/// The function `name`, if there is one.
pub(crate) fn function(name: &str) -> Option<Function> {
    let name = name.strip_prefix('.').unwrap_or(name);
    let format = name.strip_prefix("format.");
    if format.is_some_and(|name| FORMATS.iter().any(|(format, _)| *format == name)) {
        return Some(Function { op: Op::FormatConstant, signatures: ":f", first: u16::MAX });
    }
    let row = FUNCTIONS.iter().position(|(function, ..)| *function == name)?;
    let (_, op, signatures) = FUNCTIONS[row];
    Some(Function { op, signatures, first: row as u16 * OVERLOADS_MAX })
}

/// More than any function has.
const OVERLOADS_MAX: u16 = 16;

impl Function {
    /// Its overloads: number and signature.
    pub(crate) fn overloads(&self) -> impl Iterator<Item = (u16, &'static str)> {
        let first = self.first;
        (first..=u16::MAX).zip(self.signatures.split(' '))
    }
}

/// The signature of an overload by its number.
pub(crate) fn signature(overload: u16) -> &'static str {
    let row = FUNCTIONS.get(usize::from(overload / OVERLOADS_MAX));
    let nth = usize::from(overload % OVERLOADS_MAX);
    row.and_then(|(_, _, signatures)| signatures.split(' ').nth(nth)).unwrap_or(":f")
}

/// A signature's types: arguments and result. Its parameters are numbered from `first`.
pub(crate) fn types<'s>(signature: &str, first: u32) -> (Vec<Type<'s>>, Type<'s>) {
    let mut letters = signature.trim_start_matches('.').bytes();
    let mut args = Vec::with_capacity(3);
    loop {
        match letters.next() {
            Some(b':') => break,
            Some(letter) => args.push(one(letter, &mut letters, first)),
            None => return (args, Type::Dyn),
        }
    }
    let result = letters.next().map_or(Type::Dyn, |letter| one(letter, &mut letters, first));
    (args, result)
}

fn one<'s>(letter: u8, rest: &mut dyn Iterator<Item = u8>, first: u32) -> Type<'s> {
    let next = |rest: &mut dyn Iterator<Item = u8>| {
        let letter = rest.next().unwrap_or(b'*');
        one(letter, rest, first)
    };
    match letter {
        b'b' => Type::Bool,
        b'i' => Type::Int,
        b'u' => Type::Uint,
        b'd' => Type::Double,
        b's' => Type::Str,
        b'y' => Type::Bytes,
        b'n' => Type::Null,
        b't' => Type::Time,
        b'w' => Type::Duration,
        b'A' => Type::Param(first),
        b'B' => Type::Param(first + 1),
        b'D' => Type::Named(DECISION),
        b'L' => Type::list(next(rest)),
        b'O' => Type::optional(next(rest)),
        b'T' => Type::Type(Some(std::rc::Rc::new(next(rest)))),
        b'M' => {
            let key = next(rest);
            Type::map(key, next(rest))
        }
        named => match NAMED.iter().find(|(letter, _)| *letter == named) {
            Some((_, name)) => Type::Named(name),
            None => Type::Dyn,
        },
    }
}
