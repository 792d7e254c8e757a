//! Requests for what other servers serve: authorized and charged here, and passed on.

use std::sync::Arc;

use api::Status;
use api::path::{self, Route};
use http::Response;

use super::{Exchange, REQUEST_MAX, Rest, Web, budget, incoming, timed_out, unknown_attributes};
use crate::aggregation::Remote;
use crate::auth::Attributes;
use crate::core::not_found;

impl Web {
    /// Who else serves what a path is about.
    pub(super) fn remote(&self, route: &Route, path: &str) -> Option<Arc<Remote>> {
        let (group, version) = match route {
            Route::Resource(path) | Route::Beyond(path) => (&*path.group, &*path.version),
            Route::GroupVersion { group, version } => (&**group, &**version),
            Route::Other => path.strip_prefix("/openapi/v3/apis/")?.split_once('/')?,
            Route::Group(_) => return None,
        };
        self.core.aggregation.serving(group, version)
    }

    /// Passes a request on to who serves what it is about.
    pub(super) async fn pass_on(
        &self,
        exchange: Exchange,
        rest: Rest,
        route: Route,
        remote: &Remote,
    ) -> Result<Response, Status> {
        let core = &self.core;
        let rest_of_path = match &route {
            Route::Resource(path) => path.rest.as_str(),
            _ => "",
        };
        if !path::is_unambiguous(exchange.path(), rest_of_path) {
            return Err(not_found());
        }
        let attributes = match &route {
            Route::Resource(path) | Route::Beyond(path) => unknown_attributes(&exchange, path),
            _ => Attributes::path(&exchange.path_verb(), exchange.path()),
        };
        core.permit(&exchange.caller, &attributes).await?;
        let mut charge = Some(self.budget.charge(exchange.user(), budget::STREAM_BYTES)?);
        let (caller, trail) = (exchange.caller.clone(), exchange.trail.clone());
        let flow = exchange.flow.clone();
        let mut request = incoming(exchange, rest, String::new()).http;
        if let Some(upgrade) = &mut request.upgrade {
            charge.take().into_iter().for_each(|charge| upgrade.hold((charge, trail.clone())));
        }
        // Upstream's long requests.
        let streams = ["proxy", "exec", "attach", "portforward", "log"];
        let long = attributes.verb == "watch"
            || streams.contains(&attributes.subresource.as_str())
            || request.upgrade.is_some();
        let passed =
            core.aggregation.pass_on(core.ways(), &core.http, remote, &caller.user, request);
        let mut response = match long {
            true => passed.await?,
            false => {
                let _place = self.place(flow.as_ref(), attributes.verb != "get", 1).await?;
                rt::timeout(REQUEST_MAX, passed).await.map_err(|rt::Elapsed| timed_out())??
            }
        };
        response.body = response.body.holding(charge);
        Ok(response)
    }
}
