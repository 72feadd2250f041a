//! Azure's container registry: an event of the distribution registry, by itself.

use super::{Event, Malformed, distribution::Push};

pub(super) fn parse(body: &[u8], registry: Option<&str>) -> Result<Event, Malformed> {
    let event: Push = serde_json::from_slice(body)?;
    match event.action.get() {
        Some("push") => Ok(Event::Images(vec![event.hint(registry)?])),
        action => Ok(Event::ignored(action.unwrap_or("without an action"))),
    }
}
