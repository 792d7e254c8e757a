//! Content negotiation: which form an answer takes.

use api::Status;
use api::status::Reason;
use stdx::Arrange;

/// How bytes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    #[default]
    Json,
    Protobuf,
    Yaml,
}

impl Format {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Protobuf => "application/vnd.kubernetes.protobuf",
            Format::Yaml => "application/yaml",
        }
    }
}

/// What of an object is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Shape {
    #[default]
    Object,
    /// `meta.k8s.io` Table in `v1` or `v1beta1`.
    Table { beta: bool },
    /// `PartialObjectMetadata`, `PartialObjectMetadataList`.
    Metadata { beta: bool },
    /// Aggregated discovery in `v2` or `v2beta1`.
    Discovery { beta: bool },
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Media {
    pub(crate) format: Format,
    pub(crate) shape: Shape,
    /// Indented JSON.
    pub(crate) pretty: bool,
}

/// What a resource offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Objects in every shape.
    Objects,
    /// The same of a kind that is defined at run time: it has no protobuf.
    Custom,
    /// What is answered and never kept (reviews, tokens): it has no table.
    Answers,
    /// Discovery documents.
    Discovery,
}

impl Offer {
    /// What objects of a kind are offered in.
    pub(crate) fn objects(kind: &api::Kind) -> Offer {
        if kind.is_built_in() { Offer::Objects } else { Offer::Custom }
    }
}

/// Clauses beyond this are not looked at.
const CLAUSES_MAX: usize = 32;

/// Picks the first acceptable form in the client's order of preference.
///
/// # Errors
/// 406 if there is none.
pub(crate) fn negotiate(accept: &str, offer: Offer) -> Result<Media, Status> {
    if accept.trim().is_empty() {
        return Ok(Media::default());
    }
    let mut clauses: Vec<Clause<'_>> =
        accept.split(',').take(CLAUSES_MAX).map(Clause::parse).collect();
    // Stable: equal weights keep the client's order.
    clauses.arrange_by_key(|clause| std::cmp::Reverse(clause.weight));
    clauses
        .iter()
        .filter(|clause| clause.weight > 0)
        .find_map(|clause| clause.media(offer))
        .ok_or_else(not_acceptable)
}

/// Whether a client takes one of the forms that are offered at all, as upstream's web framework looks at it: by whole names, whatever their parameters.
pub(crate) fn takes(accept: &str, forms: &[&str]) -> bool {
    accept.trim().is_empty()
        || accept.split(',').take(CLAUSES_MAX).any(|range| {
            let range = range.split(';').next().unwrap_or("").trim();
            range == "*/*" || forms.contains(&range)
        })
}

/// The forms of objects.
pub(crate) const FORMS: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// What the framework says where a client takes none of `forms`.
pub(crate) fn no_form_of(forms: &[&str]) -> Status {
    let message = format!("406: Not Acceptable\n\nAvailable representations: {}", forms.join(", "));
    Status::new(Reason::NotAcceptable, message).generic()
}

fn not_acceptable() -> Status {
    Status::new(
        Reason::NotAcceptable,
        "only the following media types are accepted: application/json, application/yaml, \
         application/vnd.kubernetes.protobuf",
    )
}

struct Clause<'a> {
    name: &'a str,
    conversion: Option<(&'a str, &'a str, &'a str)>,
    /// Thousandths.
    weight: u32,
    pretty: bool,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Clause<'a> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let (mut wanted, mut group, mut version) = ("", "", "");
        let (mut weight, mut pretty) = (1000, false);
        for part in parts {
            match part.split_once('=').unwrap_or((part, "")) {
                ("as", value) => wanted = value,
                ("g", value) => group = value,
                ("v", value) => version = value,
                ("q", value) => weight = parse_weight(value),
                ("pretty", value) => pretty = value != "0" && value != "false",
                _ => {}
            }
        }
        let conversion = (!wanted.is_empty()).then_some((wanted, group, version));
        Clause { name, conversion, weight, pretty }
    }

    fn media(&self, offer: Offer) -> Option<Media> {
        let format = match self.name {
            "application/json" | "application/*" | "*/*" => Format::Json,
            "application/vnd.kubernetes.protobuf" => Format::Protobuf,
            "application/yaml" => Format::Yaml,
            _ => return None,
        };
        let shape = match (self.conversion, offer) {
            (None, _) => Shape::Object,
            (Some(("Table", "meta.k8s.io", version)), Offer::Objects | Offer::Custom) => {
                Shape::Table { beta: beta(version)? }
            }
            (
                Some((
                    "PartialObjectMetadata" | "PartialObjectMetadataList",
                    "meta.k8s.io",
                    version,
                )),
                Offer::Objects | Offer::Custom | Offer::Answers,
            ) => Shape::Metadata { beta: beta(version)? },
            (Some(("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2")), Offer::Discovery) => {
                Shape::Discovery { beta: false }
            }
            (
                Some(("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1")),
                Offer::Discovery,
            ) => Shape::Discovery { beta: true },
            _ => return None,
        };
        if format == Format::Protobuf
            && matches!(shape, Shape::Table { .. } | Shape::Discovery { .. })
        {
            return None;
        }
        // What every object has in common has a protobuf form whatever the kind.
        let has_none = offer == Offer::Custom && !matches!(shape, Shape::Metadata { .. });
        if format == Format::Protobuf && has_none {
            return None;
        }
        Some(Media { format, shape, pretty: self.pretty })
    }
}

fn beta(version: &str) -> Option<bool> {
    match version {
        "v1" => Some(false),
        "v1beta1" => Some(true),
        _ => None,
    }
}

fn parse_weight(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut weight = whole.parse::<u32>().unwrap_or(1).min(1) * 1000;
    for (digit, scale) in fraction.bytes().filter(u8::is_ascii_digit).zip([100, 10, 1]) {
        weight += u32::from(digit - b'0') * scale;
    }
    weight.min(1000)
}

/// The format of a request's body.
///
/// # Errors
/// 415 for types that are not read.
pub(crate) fn body_format(content_type: &str) -> Result<Format, Status> {
    let mut parts = content_type.split(';').map(str::trim);
    let name = parts.next().unwrap_or("").to_ascii_lowercase();
    let is_well_formed = parts.all(|part| part.is_empty() || part.contains('='));
    match name.as_str() {
        _ if !is_well_formed => Err(unknown_format()),
        "" | "application/json" => Ok(Format::Json),
        "application/vnd.kubernetes.protobuf" => Ok(Format::Protobuf),
        "application/yaml" => Ok(Format::Yaml),
        _ => Err(unknown_format()),
    }
}

fn unknown_format() -> Status {
    Status::new(
        Reason::UnsupportedMediaType,
        "the body of the request was in an unknown format - accepted media types include: \
         application/json, application/yaml, application/vnd.kubernetes.protobuf",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_understood() {
        let media = |accept| negotiate(accept, Offer::Objects).map(|m| (m.format, m.shape));
        let table = Shape::Table { beta: false };
        for (accept, want) in [
            ("", (Format::Json, Shape::Object)),
            ("*/*", (Format::Json, Shape::Object)),
            ("application/json, */*", (Format::Json, Shape::Object)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                (Format::Json, table),
            ),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                (Format::Protobuf, Shape::Object),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                (Format::Protobuf, Shape::Metadata { beta: false }),
            ),
            (
                "application/json;as=Nothing;g=x;v=v1,application/json",
                (Format::Json, Shape::Object),
            ),
            ("text/plain, application/yaml", (Format::Yaml, Shape::Object)),
            ("application/json;q=0.1,application/yaml", (Format::Yaml, Shape::Object)),
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json",
                (Format::Json, Shape::Object),
            ),
        ] {
            assert_eq!(media(accept).unwrap(), want, "{accept}");
        }
        assert_eq!(media("text/plain").unwrap_err().code(), 406);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let review = |accept: &str| negotiate(accept, Offer::Answers).map(|media| media.shape);
        assert_eq!(review(&format!("{table},application/json")).unwrap(), Shape::Object);
        assert_eq!(review(table).unwrap_err().code(), 406);
        assert_eq!(media("application/json;q=0").unwrap_err().code(), 406);
        let discovery = negotiate(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
            Offer::Discovery,
        );
        assert_eq!(discovery.unwrap().shape, Shape::Discovery { beta: false });
    }

    #[test]
    fn any_header_is_read_without_a_panic() {
        let mut prng = stdx::prng::Prng::new(5);
        let alphabet = "application/json;as=Table,q=0.9*v1";
        for _ in 0..10_000 {
            let text: String = (0..prng.below(50))
                .filter_map(|_| alphabet.chars().nth(prng.below(alphabet.len() as u64) as usize))
                .collect();
            let _ = negotiate(&text, Offer::Objects);
            let _ = body_format(&text);
        }
    }
}
