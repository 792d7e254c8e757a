//! Watches: events as they come.

use api::{Lens, Value};
use http::Method;

use crate::failure::{Failure, Outcome, failed};
use crate::rest::Rest;

/// One event: an object, or a table's row with one.
const EVENT_MAX_BYTES: usize = 16 << 20;

/// What hears events returns whether it wants more.
pub(crate) type Hear<'a> = dyn FnMut(&str, Value) -> Outcome<bool> + 'a;

/// Follows a watch until the server or who hears it ends it.
pub(crate) async fn follow(
    rest: &Rest,
    target: &str,
    accept: &str,
    hear: &mut Hear<'_>,
) -> Outcome {
    let mut response = rest.open(Method::Get, target, accept, None).await?;
    let mut buffer: Vec<u8> = Vec::new();
    while let Some(chunk) = response.body.next().await {
        let Ok(chunk) = chunk else { return Ok(()) };
        buffer.extend_from_slice(&chunk);
        while let Some(at) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=at).collect();
            let Ok(mut event) = serde_json::from_slice::<Value>(&line) else { continue };
            let object = event.get_mut("object").map(Value::take).unwrap_or_default();
            if event.str("type") == "ERROR" {
                return Err(Failure::Status(object));
            }
            if !hear(event.str("type"), object)? {
                return Ok(());
            }
        }
        if buffer.len() > EVENT_MAX_BYTES {
            return failed(format!("an event is larger than {EVENT_MAX_BYTES} bytes"));
        }
    }
    Ok(())
}
