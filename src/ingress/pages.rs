//! `errors`: pages of another service in place of answers of some codes.

use http::{Request, Response};
use routes::Errors;

use crate::forward::{self, Passed, plain};
use crate::live::Live;

/// The page in place of an answer, if there is one; what the client asked for is `url`.
pub(crate) async fn replace(
    errors: &Errors,
    live: &Live,
    url: &str,
    host: &str,
    passed: &Passed<'_>,
    response: Response,
) -> Response {
    let Some((target, code)) = errors.page(response.status, url) else { return response };
    drop(response);
    let Some(upstream) = live.upstreams.get(errors.service) else {
        return plain(500, "Internal Server Error");
    };
    let mut request = Request::get(target);
    request.authority = host.to_owned();
    let passed = Passed { fields: &[], attempts: 1, interval_ms: 0, ..*passed };
    let mut page = forward::forward(upstream, request, &passed, &mut |_| {}).await;
    page.status = code;
    page
}
