//! The one way through which every request goes: who calls, how often, what they ask, whether they may.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts as _, RawPathParams, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG},
        request::Parts,
    },
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};
use zeroize::Zeroizing;

use super::{
    Api, Ground, MAX_BODY,
    guard::{Authorized, Caller, Denied},
    input::Input,
    operation::{Call, Content as _, Operation, Reply, Spec, actor},
    problem::Problem,
    requests::KEY,
};
use crate::{http::Peer, store::ReplyClaim};

/// How a request is called, by its caller or by us.
const REQUEST_ID: &str = "x-request-id";

/// Longest name of a request, in bytes.
const LONGEST_REQUEST_ID: usize = 64;

/// Answers one request.
pub(super) async fn serve<O: Operation>(State(api): State<Api>, request: Request) -> Response {
    let ground = api.ground();
    let request_id = request_id(request.headers(), ground.as_deref().ok());
    let answered = async {
        let ground = ground?;
        // Reading a body has a limit of its own.
        answer::<O>(&ground, request, &request_id, api.0.patience).await
    };
    let mut response = match answered.await {
        Ok(response) => response,
        Err(problem) => {
            tracing::debug!(
                operation = O::SPEC.id,
                request = request_id,
                status = problem.status,
                "a request was refused"
            );
            Problem { request_id: Some(request_id.clone()), ..problem }.into_response()
        }
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, id);
    }
    // What one caller may see is nobody else's.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let Spec { path, method, .. } = O::SPEC;
    api.0.telemetry.metrics.api_answered(path, method.name(), response.status().as_u16());
    response
}

async fn answer<O: Operation>(
    ground: &Arc<Ground>,
    request: Request,
    request_id: &str,
    patience: Duration,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let caller = authenticated(ground, &parts).await?;
    ground.guard.admit(&caller)?;
    let input = read_input(O::SPEC.parameters, &mut parts).await?;
    let bytes = tokio::time::timeout(patience, whole(&parts, body)).await;
    let bytes = bytes.map_err(|_| Problem::slow(StatusCode::REQUEST_TIMEOUT))??;
    let content = O::Content::parse(&bytes)?;
    let key = input.get(KEY.name).filter(|_| !O::SPEC.keeps_its_key).map(str::to_owned);
    let asked = [O::SPEC.id.as_bytes(), parts.uri.to_string().as_bytes(), &bytes].map(Sha256::digest).concat();
    let answered = async {
        let command = O::read(input, content, ground).await?;
        let authorized = ground.guard.authorize(&caller, command).await?;
        seen(ground, &caller).await;
        let call = Call { ground, request_id };
        match &key {
            None => written::<O>(O::run(authorized, &call).await?),
            Some(key) => once::<O>(key, &asked, authorized, &call).await,
        }
    };
    let response = tokio::time::timeout(O::SPEC.patience, answered).await;
    response.map_err(|_| Problem::slow(StatusCode::GATEWAY_TIMEOUT))?
}

/// Writes down that somebody was there. Not worth refusing anything.
async fn seen(ground: &Ground, caller: &Caller) {
    let person = caller.person();
    let write = async || {
        let groups: Vec<String> = person.groups.iter().cloned().collect();
        if let Err(error) = ground.store.user_seen(&person.user, &groups, ground.clock.now()).await {
            tracing::warn!(%error, "it could not be written down that somebody was there");
        }
    };
    ground.guard.seen(caller, write).await;
}

/// Does what carries a key, unless it was done before: then its answer is given again. What fails may be tried again.
async fn once<O: Operation>(
    key: &str,
    asked: &[u8],
    authorized: Authorized<O>,
    call: &Call<'_>,
) -> Result<Response, Problem> {
    let store = &call.ground.store;
    let who = actor(&authorized);
    match store.reply_claim(&who, key, &Sha256::digest(asked).into(), call.ground.clock.now()).await? {
        ReplyClaim::New => {}
        ReplyClaim::Done { status, reply } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            return Ok(if status == StatusCode::NO_CONTENT {
                status.into_response()
            } else {
                (status, [(CONTENT_TYPE, "application/json")], reply.to_string()).into_response()
            });
        }
        ReplyClaim::BeingDone => return Err(Problem::being_done()),
        ReplyClaim::Reused => return Err(Problem::key_reused()),
    }
    let reply = match O::run(authorized, call).await {
        Ok(reply) => reply,
        Err(problem) => {
            store.reply_drop(&who, key).await?;
            return Err(problem);
        }
    };
    if let Reply::Object { body, status, .. } = &reply {
        let status = status.unwrap_or(O::SPEC.status).as_u16();
        // It is done: an answer that cannot be kept is one that cannot be given twice.
        let kept = serde_json::to_value(body).unwrap_or_default();
        if let Err(error) = store.reply_put(&who, key, status, &kept).await {
            tracing::warn!(%error, "an answer could not be kept for its key");
        }
    }
    written::<O>(reply)
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Nobody => Self::unauthenticated(),
            Denied::Unseen => Self::denied(),
            Denied::Verb(verb) => Self::forbidden(verb),
            Denied::Flooded(seconds) => Self::too_many("send fewer at a time", seconds),
            Denied::Unanswered(why) => {
                tracing::warn!(why, "the rights of a caller are not known");
                Self::unavailable("the cluster does not say who you are and what you may do")
            }
        }
    }
}

/// The name that a caller gives a request, if it may be written anywhere; one of ours otherwise.
fn request_id(headers: &HeaderMap, ground: Option<&Ground>) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let given = given.filter(|id| !id.is_empty() && id.len() <= LONGEST_REQUEST_ID && id.bytes().all(plain));
    match (given, ground) {
        (Some(id), _) => id.to_owned(),
        (None, Some(ground)) => ground.ids.next().to_string(),
        (None, None) => String::new(),
    }
}

async fn authenticated(ground: &Ground, parts: &Parts) -> Result<Caller, Problem> {
    let mut given = parts.headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (given.next(), given.next()) else {
        return Err(Problem::unauthenticated());
    };
    let token = header.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((_, token)) = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(Problem::unauthenticated());
    };
    let address = parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
    Ok(ground.guard.authenticate(token.trim(), address).await?)
}

async fn read_input(
    declared: &'static [&'static super::input::Parameter],
    parts: &mut Parts,
) -> Result<Input, Problem> {
    let path = RawPathParams::from_request_parts(parts, &()).await;
    // What is no UTF-8 names nothing that there could be.
    let path = path.map_err(|_| Problem::denied())?;
    Input::read(declared, path.iter(), parts.uri.query().unwrap_or_default(), &parts.headers)
}

/// The body, if there is one to read and it is short enough.
async fn whole(parts: &Parts, body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY) {
        return Err(Problem::too_large(MAX_BODY));
    }
    // There may be the value of a secret in it: it does not grow, and is overwritten when it is dropped.
    let mut read = Zeroizing::new(Vec::with_capacity(length.unwrap_or(MAX_BODY)));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece: Bytes = piece.map_err(|_| Problem::field("body", "it ended too early"))?;
        if read.len() + piece.len() > MAX_BODY {
            return Err(Problem::too_large(MAX_BODY));
        }
        read.extend_from_slice(&piece);
    }
    if !read.is_empty() && parts.method != Method::GET && !is_json(&parts.headers) {
        return Err(Problem::media_type());
    }
    Ok(read)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn written<O: Operation>(reply: Reply<O::Answer>) -> Result<Response, Problem> {
    let (body, status, etag) = match reply {
        Reply::Object { body, status, etag } => (body, status.unwrap_or(O::SPEC.status), etag),
        Reply::Stream(body) => return Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response()),
    };
    let mut response = if status == StatusCode::NO_CONTENT {
        status.into_response()
    } else {
        let text = serde_json::to_vec(&body).map_err(|error| {
            tracing::error!(%error, operation = O::SPEC.id, "an answer cannot be written");
            Problem::failed()
        })?;
        (status, [(CONTENT_TYPE, "application/json")], text).into_response()
    };
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}
