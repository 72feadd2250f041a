//! The log of a deploy through the API: in pages, or as a stream of events.

use std::{
    io::{self, Write},
    time::Duration,
};

use uuid::Uuid;

use super::{LineFormat, PAUSES, ended, written};
use crate::{
    cli::{
        failure::{Code, Failure},
        remote::{Call, Remote},
    },
    http::api::{logs::Line, views::Deploy},
};

/// The server says something at least every 15 seconds: a stream that is silent for longer is none any more.
const SILENCE: Duration = Duration::from_secs(45);

/// Longest event that is kept, in bytes.
const LONGEST: usize = 4 << 20;

/// Whoever reads the log of a deploy.
pub(super) struct Listener<'a> {
    pub(super) remote: &'a Remote,
    pub(super) deploy: Uuid,
    pub(super) search: Option<String>,
    pub(super) format: LineFormat,
}

/// How a stream of events ended.
enum End {
    /// The deploy has ended, and so has its log.
    Deploy,
    /// The server or the network ended it: the log goes on.
    Stream,
}

/// An event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    kind: String,
    id: Option<String>,
    data: String,
}

/// Events as they come in, in whatever pieces.
#[derive(Debug, Default)]
struct Events(Vec<u8>);

impl Events {
    /// Takes a piece, and gives the events that are whole now.
    fn take(&mut self, piece: &[u8]) -> Vec<Event> {
        self.0.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.0.windows(2).position(|two| two == b"\n\n") {
            let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
            self.0.drain(..end + 2);
            let mut event = Event::default();
            for line in text.lines() {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match name {
                    "event" => value.clone_into(&mut event.kind),
                    "id" => event.id = Some(value.to_owned()),
                    "data" => event.data.push_str(value),
                    _ => {}
                }
            }
            if event != Event::default() {
                events.push(event);
            }
        }
        events
    }

    fn is_too_long(&self) -> bool {
        self.0.len() > LONGEST
    }
}

impl Listener<'_> {
    fn about(&self) -> String {
        format!("the log of deploy {} in namespace {}", self.deploy, self.remote.namespace)
    }

    /// Prints what there is.
    pub(super) async fn rest(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let name = self.deploy.to_string();
        let path = ["namespaces", &self.remote.namespace, "deploys", &name, "logs"];
        let call = Call::new(&path, self.about()).with_some("search", self.search.as_ref());
        self.remote
            .each(call, |line: Line| Ok(writeln!(out, "{}", written(self.deploy, &line, self.format, false)?)?))
            .await?;
        Ok(out.flush()?)
    }

    /// Prints lines until the deploy has ended. An API that is away for a while is waited for.
    pub(super) async fn follow(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let [first, longest] = PAUSES;
        let (mut pause, mut away, mut last) = (first, false, None);
        loop {
            let before = last.clone();
            match self.listen(&mut last, out).await {
                Ok(End::Deploy) => break,
                Ok(End::Stream) => away = false,
                Err(Failure::Said { code: Code::Unavailable, what, .. }) => {
                    if !away {
                        writeln!(io::stderr(), "{what}; waiting for it")?;
                    }
                    away = true;
                }
                Err(failure) => return Err(failure),
            }
            pause = if last == before { longest.min(pause * 2) } else { first };
            tokio::time::sleep(pause).await;
        }
        let name = self.deploy.to_string();
        let path = ["namespaces", &self.remote.namespace, "deploys", &name];
        let Deploy { brief, .. } = self.remote.get(Call::new(&path, self.about())).await?;
        Ok(writeln!(io::stderr(), "{}", ended(brief.id, brief.state, brief.message.as_deref()))?)
    }

    /// Prints what comes behind the event that was seen last, as long as the stream lasts.
    async fn listen(&self, last: &mut Option<String>, out: &mut dyn Write) -> Result<End, Failure> {
        let name = self.deploy.to_string();
        let path = ["namespaces", &self.remote.namespace, "deploys", &name, "logs"];
        let call = Call::new(&path, self.about()).with_some("search", self.search.as_ref());
        let mut stream = self.remote.events(&call, last.as_deref()).await?;
        let mut events = Events::default();
        // Whatever ends a stream that was open: the next one goes on where this one was.
        while let Ok(Ok(Some(piece))) = tokio::time::timeout(SILENCE, stream.chunk()).await {
            for event in events.take(&piece) {
                match event.kind.as_str() {
                    "end" => return Ok(End::Deploy),
                    "line" => {
                        let line: Line = serde_json::from_str(&event.data).map_err(|error| {
                            Failure::failed(
                                format!("a line of the log is in no form that this version knows: {error}"),
                                "",
                            )
                        })?;
                        writeln!(out, "{}", written(self.deploy, &line, self.format, false)?)?;
                        *last = event.id.or_else(|| last.take());
                    }
                    _ => {}
                }
            }
            out.flush()?;
            if events.is_too_long() {
                break;
            }
        }
        Ok(End::Stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_they_come() {
        let text =
            ": nothing new\n\nid: 7\nevent: line\ndata: {\"text\":\"a: b\"}\n\nevent: end\ndata: failed\n\nid: 8";
        for size in [1, 3, 1000] {
            let mut events = Events::default();
            let found: Vec<Event> = text.as_bytes().chunks(size).flat_map(|piece| events.take(piece)).collect();
            let line = Event { kind: "line".into(), id: Some("7".into()), data: "{\"text\":\"a: b\"}".into() };
            let end = Event { kind: "end".into(), id: None, data: "failed".into() };
            assert_eq!(found, [line, end], "{size}");
            assert_eq!(events.0, b"id: 8", "{size}");
        }
    }
}
