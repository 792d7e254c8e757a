//! The signature of a request to S3: AWS Signature Version 4.

use http::Request;
use ring::{digest, hmac};
use stdx::Sensitive;
use stdx::time::{Wall, civil};
use wire::hex;

/// Who asks, and in which region.
pub(super) struct Keys {
    pub(super) access: String,
    pub(super) secret: Sensitive,
    /// Of a session; "" for none.
    pub(super) token: Sensitive,
    pub(super) region: String,
}

const DAY_SECS: i64 = 86_400;

/// SHA-256 in hexadecimal digits.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn seal(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// Signs all that the request has by now: its path and query escaped as they are sent, its fields, and `payload`, the
/// [`hash`] of its body.
pub(super) fn sign(keys: &Keys, request: &mut Request, payload: &str, at: Wall) {
    let (days, rest) = (at.secs().div_euclid(DAY_SECS), at.secs().rem_euclid(DAY_SECS));
    let (year, month, day) = civil(days);
    let date = format!("{year:04}{month:02}{day:02}");
    let time = format!("{date}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60);
    request.headers.append("x-amz-content-sha256", payload);
    request.headers.append("x-amz-date", &time);
    if !keys.token.reveal().is_empty() {
        request.headers.append("x-amz-security-token", keys.token.reveal());
    }
    let mut fields: Vec<(String, String)> = vec![("host".into(), request.authority.clone())];
    for (name, value) in request.headers.iter() {
        let value = String::from_utf8_lossy(value);
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        fields.push((name.to_owned(), words.join(" ")));
    }
    stdx::Arrange::arrange(&mut fields[..]);
    let mut query: Vec<&str> = request.query().split('&').filter(|it| !it.is_empty()).collect();
    stdx::Arrange::arrange(&mut query[..]);
    let mut lines = format!("{}\n{}\n", request.method, request.path());
    for (idx, pair) in query.iter().enumerate() {
        lines.push_str(if idx > 0 { "&" } else { "" });
        lines.push_str(pair);
        lines.push_str(if pair.contains('=') { "" } else { "=" });
    }
    lines.push('\n');
    let mut names = String::new();
    for (idx, (name, value)) in fields.iter().enumerate() {
        names.push_str(if idx > 0 { ";" } else { "" });
        names.push_str(name);
        lines.push_str(&[name, ":", value, "\n"].concat());
    }
    lines.push_str(&["\n", &names, "\n", payload].concat());
    let scope = format!("{date}/{}/s3/aws4_request", keys.region);
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(lines.as_bytes()));
    let mut key = seal(["AWS4", keys.secret.reveal()].concat().as_bytes(), &date);
    for part in [&keys.region, "s3", "aws4_request", &text] {
        key = seal(key.as_ref(), part);
    }
    let said = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        keys.access,
        hex::encode(key.as_ref())
    );
    request.headers.append("authorization", said);
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    /// The examples of Amazon's documentation ("Signature Calculations for the Authorization Header").
    #[test]
    fn amazons_examples() {
        let keys = Keys {
            access: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: "".into(),
            region: "us-east-1".into(),
        };
        let at = Wall::from_secs(1_369_353_600);
        let date = ("date", "Fri, 24 May 2013 00:00:00 GMT");
        let class = ("x-amz-storage-class", "REDUCED_REDUNDANCY");
        for (method, target, headers, body, wanted) in [
            (
                Method::Get,
                "/test.txt",
                &[("range", "bytes=0-9")][..],
                "",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                Method::Put,
                "/test%24file.text",
                &[date, class],
                "Welcome to Amazon S3.",
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                Method::Get,
                "/?lifecycle",
                &[],
                "",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                Method::Get,
                "/?prefix=J&max-keys=2",
                &[],
                "",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let mut request = Request::new(method, target);
            request.authority = "examplebucket.s3.amazonaws.com".into();
            for (name, value) in headers {
                request = request.header(name, value);
            }
            sign(&keys, &mut request, &hash(body.as_bytes()), at);
            let said = request.headers.get("authorization").unwrap();
            assert!(said.ends_with(&format!("Signature={wanted}")), "{target}: {said}");
            assert!(said.contains("Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"));
        }
    }

    #[test]
    fn a_sessions_token_is_signed_too() {
        let keys = Keys {
            access: "a".into(),
            secret: "b".into(),
            token: "session".into(),
            region: "r".into(),
        };
        let mut request = Request::get("/");
        request.authority = "h:9000".into();
        sign(&keys, &mut request, &hash(b""), Wall::from_secs(86_399));
        assert_eq!(request.headers.get("x-amz-security-token"), Some("session"));
        assert_eq!(request.headers.get("x-amz-date"), Some("19700101T235959Z"));
        let said = request.headers.get("authorization").unwrap();
        let names = "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,";
        assert!(said.contains(names), "{said}");
    }
}
