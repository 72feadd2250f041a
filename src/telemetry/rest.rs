//! Counts every answer of the Kubernetes API, beneath the client.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::{BoxFuture, FutureExt as _};
use http::{Method, Request, Response};
use tower::{Layer, Service};

use super::Metrics;

/// A layer for `kube::client::ClientBuilder::with_layer`.
#[derive(Debug, Clone)]
pub struct CountRequests(pub Arc<Metrics>);

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted {
            inner,
            metrics: Arc::clone(&self.0),
        }
    }
}

/// A client whose answers are counted.
#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = word(request.method());
        let metrics = Arc::clone(&self.metrics);
        let answer = self.inner.call(request);
        answer
            .inspect(move |answer| {
                let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
                metrics.rest_answered(method, code);
            })
            .boxed()
    }
}

const fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tower::{ServiceBuilder, ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn answers_and_failures_are_counted_by_method_and_code() {
        let metrics = Arc::new(Metrics::default());
        let server = service_fn(async |request: Request<()>| match request.uri().path() {
            "/gone" => Err("connection refused"),
            "/conflict" => Ok(answer(StatusCode::CONFLICT)),
            _ => Ok(answer(StatusCode::OK)),
        });
        let client = ServiceBuilder::new()
            .layer(CountRequests(Arc::clone(&metrics)))
            .service(server);
        for (method, path) in [
            (Method::GET, "/"),
            (Method::GET, "/"),
            (Method::PATCH, "/conflict"),
            (Method::DELETE, "/gone"),
        ] {
            let request = Request::builder().method(method).uri(path).body(());
            let request = request.expect("a valid request");
            // The outcome itself is the client's business; the count is what is under test.
            drop(client.clone().oneshot(request).await);
        }
        let text = metrics.render().expect("all labels can be written");
        for line in [
            r#"rest_client_requests_total{code="200",method="GET"} 2"#,
            r#"rest_client_requests_total{code="409",method="PATCH"} 1"#,
            r#"rest_client_requests_total{code="0",method="DELETE"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing:\n{text}");
        }
    }

    fn answer(status: StatusCode) -> Response<()> {
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        answer
    }
}
