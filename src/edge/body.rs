//! Bodies on their way through: passed on as they come, never gathered.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::{pool::Lease, serve::Open, table::Preview};

/// What a caller sends.
#[derive(Debug)]
pub enum Upload {
    /// Nothing: the request can be sent again.
    Nothing,
    /// This, as it comes.
    Stream(Incoming, Option<Arc<Preview>>),
}

impl Upload {
    /// What a request brought.
    pub fn of(body: Incoming, preview: Option<&Arc<Preview>>) -> Self {
        if body.is_end_stream() { Self::Nothing } else { Self::Stream(body, preview.cloned()) }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Nothing => Poll::Ready(None),
            Self::Stream(body, preview) => {
                let polled = Pin::new(body).poll_frame(context);
                if let (Poll::Ready(Some(Ok(_))), Some(preview)) = (&polled, preview) {
                    preview.visited();
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Stream(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Stream(body, _) => body.size_hint(),
        }
    }
}

/// What a caller gets.
#[derive(Debug)]
pub struct Reply {
    source: Source,
    /// The request is under way until its answer has gone out.
    open: Option<Open>,
}

#[derive(Debug)]
enum Source {
    /// A text of ours.
    Whole(Option<Bytes>),
    /// What an upstream sends, and the connection that it comes over.
    Stream { body: Incoming, lease: Option<Lease>, preview: Option<Arc<Preview>> },
}

impl Reply {
    /// A text of ours.
    pub fn whole(text: impl Into<Bytes>) -> Self {
        let text: Bytes = text.into();
        Self { source: Source::Whole(Some(text).filter(|text| !text.is_empty())), open: None }
    }

    /// What an upstream sends. Its connection is used again once all of it has come.
    pub fn stream(body: Incoming, lease: Option<Lease>, preview: Option<Arc<Preview>>) -> Self {
        let lease = match lease {
            Some(lease) if body.is_end_stream() => {
                lease.give_back();
                None
            }
            other => other,
        };
        Self { source: Source::Stream { body, lease, preview }, open: None }
    }

    /// Holds the count of requests that are under way.
    #[must_use]
    pub fn holding(mut self, open: Open) -> Self {
        self.open = Some(open);
        self
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { source, open } = &mut *self;
        match source {
            Source::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Source::Stream { body, lease, preview } => {
                let polled = Pin::new(&mut *body).poll_frame(context);
                let ended = match &polled {
                    Poll::Ready(None) => true,
                    Poll::Ready(Some(Ok(_))) => {
                        if let Some(preview) = preview {
                            preview.visited();
                        }
                        body.is_end_stream()
                    }
                    Poll::Ready(Some(Err(_))) => {
                        *lease = None;
                        false
                    }
                    Poll::Pending => false,
                };
                if ended {
                    if let Some(lease) = lease.take() {
                        lease.give_back();
                    }
                    drop(open.take());
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(text) => text.is_none(),
            Source::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Source::Stream { body, .. } => body.size_hint(),
        }
    }
}
