//! One request: who it is for, whether it may pass, where it goes, and what is said if it goes nowhere.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, StatusCode, Uri, Version,
    header::{CONNECTION, LOCATION, SET_COOKIE, WWW_AUTHENTICATE},
    uri::PathAndQuery,
};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    upgrade::OnUpgrade,
};
use tokio::time::{Instant, timeout_at};

use super::{
    Edge,
    body::{Reply, Upload},
    cookies,
    forward::{Answered, Trouble},
    headers::{self, Facts, Odd},
    host::{self, Asked},
    page::{self, Why},
    password::{CHALLENGE, Entry},
    serve::{Caller, Open},
    sign_in::Ask,
    table::{Phase, Preview, Route},
    tunnel,
    wake::ASK_AGAIN,
};
use crate::telemetry::metrics::EdgeTarget;

/// How soon an address that did not answer is tried again for a request that waits.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// What is known of a request before it is passed on.
struct Visit {
    asked: Asked,
    /// Whether a page is the better answer.
    page: bool,
    /// Whether the caller may know why a deploy failed.
    may_know: bool,
    /// The beginning of a session, for the answer.
    cookie: Option<HeaderValue>,
    upgrade: Option<OnUpgrade>,
}

impl Edge {
    /// Answers a request.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>, caller: Arc<Caller>) -> Response<Reply> {
        let began = Instant::now();
        let open = Open::count(&caller);
        let logged = self.access_log.then(|| {
            let host = host::asked(&request).map(|asked| asked.host).unwrap_or_default();
            (request.method().clone(), host, request.uri().path().to_owned(), request.version())
        });
        let mut target = EdgeTarget::None;
        let answer = match self.pass(request, &caller, &mut target).await {
            Ok(answer) => answer,
            Err(said) => *said,
        };
        let took = began.elapsed();
        self.metrics.answered(target, answer.status().as_u16(), took);
        if let Some((method, host, path, version)) = logged {
            tracing::info!(
                target: "stagekeeper::edge::access",
                %method, host, path, ?version,
                status = answer.status().as_u16(),
                peer = %caller.peer.ip(),
                milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "answered"
            );
        }
        answer.map(|reply| reply.holding(open))
    }

    /// The answer of an upstream; or, as an error, our own.
    async fn pass(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        caller: &Arc<Caller>,
        target: &mut EdgeTarget,
    ) -> Result<Response<Reply>, Box<Response<Reply>>> {
        let page = page::is_browser(request.method(), request.headers());
        let asked = host::asked(&request).map_err(|unclear| said(&Why::Malformed(unclear.words()), page, None))?;
        if request.method() == Method::CONNECT {
            return Err(said(&Why::Method, page, None));
        }
        headers::framing(request.headers()).map_err(|odd| {
            let why = match odd {
                Odd::Coding => Why::Coding,
                Odd::TwoLengths => Why::Malformed("the length of the body is told in two ways"),
            };
            let mut answer = said(&why, page, None);
            // Where the next request begins is as unclear: there is none on this connection.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            answer
        })?;
        if self.redirect && !caller.secure {
            return Err(Box::new(to_https(&asked, request.uri())));
        }
        if let Some(sign_in) = self.sign_in.as_ref().filter(|sign_in| sign_in.is_home(&asked.host)) {
            if !caller.secure {
                return Err(Box::new(to_https(&asked, request.uri())));
            }
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let mut answer = sign_in.at_home(&method, &uri, page).await.map(Reply::whole);
            headers::keep_out_of_indexes(answer.headers_mut());
            return Err(Box::new(answer));
        }
        let route = self.find(&asked.host).map_err(|why| said(&why, page, None))?;
        let preview = route.preview.clone();
        *target = if preview.is_some() { EdgeTarget::Environment } else { EdgeTarget::Stage };
        let mut visit = Visit { asked, page, may_know: self.details, cookie: None, upgrade: None };
        if let Some(preview) = &preview {
            self.admit(&mut request, caller, preview, &mut visit).await?;
        }
        if headers::upgrade(request.headers()).is_some() && request.version() == Version::HTTP_11 {
            visit.upgrade = Some(hyper::upgrade::on(&mut request));
        }
        let outgoing = outgoing(request, caller, &visit.asked, &route);
        let answer = self.reach(route, outgoing, &visit).await;
        match answer {
            Ok(answered) => Ok(self.pass_back(answered, caller, preview, visit)),
            Err(why) => {
                let mut answer = said(&why, page, preview.as_deref());
                add_cookie(&mut answer, visit.cookie.take());
                Err(answer)
            }
        }
    }

    /// Where a host leads.
    fn find(&self, host: &str) -> Result<Arc<Route>, Why> {
        let table = self.table.borrow();
        match table.route(host) {
            Some(route) => Ok(route.clone()),
            None if !table.complete => Err(Why::Starting),
            None if self.has_ended(host) => Err(Why::Gone),
            None => Err(Why::Unknown),
        }
    }

    /// Whether a request for an environment may come in: not too many do, and it has the password, or a session of who signed
    /// in, if that is asked for.
    async fn admit(
        &self,
        request: &mut Request<Incoming>,
        caller: &Caller,
        preview: &Preview,
        visit: &mut Visit,
    ) -> Result<(), Box<Response<Reply>>> {
        if let Some(rate) = self.rate
            && let Err(wait) = preview.activity.pace.take(rate, self.began.elapsed())
        {
            return Err(said(&Why::TooMany(wait.as_secs() + 1), visit.page, Some(preview)));
        }
        let host = &visit.asked.host;
        let sign_in = self.sign_in.as_ref();
        let brought = sign_in.map(|sign_in| sign_in.brought(request.headers(), host, &preview.view.hosts));
        let entry = self
            .lock
            .as_ref()
            .and_then(|lock| lock.enter(request.headers_mut(), host, caller.secure, self.clock.now().as_second()));
        if sign_in.is_some() {
            cookies::take(request.headers_mut());
        }
        let known = entry.is_some();
        if let Some(Entry::Password(cookie)) = entry {
            visit.cookie = Some(cookie);
        }
        if let (Some(sign_in), Some(brought)) = (sign_in, brought) {
            if !caller.secure && !known {
                return Err(Box::new(to_https(&visit.asked, request.uri())));
            }
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let ask = Ask {
                method: &method,
                uri: &uri,
                asked: &visit.asked,
                page: visit.page,
                goes: goes(request.headers()),
            };
            if let Some(answer) = sign_in.answer(&ask, &brought, known).await {
                let mut answer = answer.map(Reply::whole);
                // A browser would ask for the password, which is for programs here.
                let program = !request.headers().contains_key("sec-fetch-mode");
                if answer.status() == StatusCode::UNAUTHORIZED && self.lock.is_some() && program {
                    answer.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
                }
                headers::keep_out_of_indexes(answer.headers_mut());
                return Err(Box::new(answer));
            }
            visit.may_know = true;
        } else if self.lock.is_some() {
            if !known {
                let mut answer = said(&Why::Locked, visit.page, Some(preview));
                answer.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
                return Err(answer);
            }
            visit.may_know = true;
        }
        // Only now: who does not get in is not somebody.
        preview.visited();
        Ok(())
    }

    /// The answer of an address that takes the request; waits for one where that makes sense.
    async fn reach(&self, route: Arc<Route>, mut request: Request<Upload>, visit: &Visit) -> Result<Answered, Why> {
        let mut route = route;
        let mut waits: Option<Waiting<'_>> = None;
        loop {
            let now = std::time::Instant::now();
            let why = if route.addresses(now).is_empty() {
                route.preview.as_deref().map_or(Why::Unavailable, |preview| page::why(preview, visit.may_know))
            } else {
                // What is about to end answers once more, and its environment comes back.
                if let Some(preview) = route.preview.as_deref().filter(|preview| preview.view.sleeps()) {
                    self.waker.wake(preview);
                }
                match self.forward(&route, request).await {
                    Ok(answered) => return Ok(answered),
                    Err(Trouble::Full) => return Err(Why::Busy),
                    Err(Trouble::Late) => {
                        self.metrics.upstream_failed("late");
                        return Err(Why::Late);
                    }
                    // What the caller sent has no end, or is no body.
                    Err(Trouble::Broken(error)) if error.is_user() => {
                        return Err(Why::Malformed("the body of the request broke off, or is malformed"));
                    }
                    Err(Trouble::Broken(error)) => {
                        tracing::debug!(host = visit.asked.host, %error, "an upstream broke off");
                        self.metrics.upstream_failed("broken");
                        return Err(Why::Broken);
                    }
                    Err(Trouble::Unreachable(back)) => {
                        request = *back;
                        let preview = route.preview.as_deref();
                        match preview.map(|preview| page::why(preview, visit.may_know)) {
                            // What was there a moment ago is on its way: to sleep, or to another place.
                            Some(Why::Failed(_)) | None => Why::Unavailable,
                            Some(why) => why,
                        }
                    }
                }
            };
            let Some(preview) = route.preview.clone() else { return Err(why) };
            if why == Why::Waking {
                self.waker.wake(&preview);
            }
            // A first deploy may take as long as it likes; what was there before comes back in seconds.
            let comes_back = match why {
                Why::Waking => true,
                Why::Building(_) | Why::Unavailable => {
                    preview.view.phase == Phase::Ready
                        || preview.view.awake && self.waker.has_asked(&preview.view.subdomain)
                }
                _ => false,
            };
            if visit.page || !comes_back || self.wake_limit.is_zero() {
                return Err(why);
            }
            let waiting = match waits.take() {
                Some(waiting) => waiting,
                None => Waiting::begin(self).ok_or(Why::Busy)?,
            };
            match waiting.next(self, &visit.asked.host, &route).await {
                Some((next, waiting)) => {
                    route = next;
                    waits = Some(waiting);
                }
                None => return Err(why),
            }
        }
    }

    /// The answer as the caller gets it.
    fn pass_back(
        &self,
        (mut answer, lease): Answered,
        caller: &Arc<Caller>,
        preview: Option<Arc<Preview>>,
        visit: Visit,
    ) -> Response<Reply> {
        let upgraded = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        headers::outward(answer.headers_mut(), upgraded, preview.is_some());
        if preview.is_some() && (self.lock.is_some() || self.sign_in.is_some()) {
            cookies::take_set(answer.headers_mut());
        }
        *answer.version_mut() = Version::HTTP_11;
        let mut answer = if upgraded {
            let Some(theirs) = visit.upgrade else {
                // Nobody has asked for it.
                self.metrics.upstream_failed("broken");
                return *said(&Why::Broken, visit.page, preview.as_deref());
            };
            let ours = hyper::upgrade::on(&mut answer);
            let passing = tunnel::pass_on(theirs, ours, caller.clone(), preview, self.limits.silence);
            self.tunnels.spawn(passing);
            answer.map(|_| Reply::whole(Bytes::new()))
        } else {
            answer.map(|body| Reply::stream(body, Some(lease), preview))
        };
        add_cookie(&mut answer, visit.cookie);
        answer
    }
}

/// Whether a browser goes to a page, as far as it tells: what it fetches for a page is not shown to anybody.
fn goes(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
}

/// The request as an upstream gets it.
fn outgoing(request: Request<Incoming>, caller: &Caller, asked: &Asked, route: &Route) -> Request<Upload> {
    let preview = route.preview.as_ref();
    let mut outgoing = request.map(|body| Upload::of(body, preview));
    let facts = Facts {
        peer: caller.peer.ip(),
        peer_text: &caller.peer_text,
        secure: caller.secure,
        host: &asked.host,
        port: asked.port,
        version: outgoing.version(),
    };
    headers::inward(outgoing.headers_mut(), &facts, &route.marks);
    if outgoing.uri().authority().is_some() || outgoing.uri().scheme().is_some() {
        let path = outgoing.uri().path_and_query().cloned();
        *outgoing.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    *outgoing.version_mut() = Version::HTTP_11;
    outgoing
}

/// A request that waits for an address, and is counted while it does. Nothing of its body is read.
struct Waiting<'a> {
    _permit: tokio::sync::SemaphorePermit<'a>,
    edge: &'a Edge,
    until: Instant,
}

impl<'a> Waiting<'a> {
    fn begin(edge: &'a Edge) -> Option<Self> {
        let permit = edge.waiting.try_acquire().ok()?;
        edge.metrics.waiting(1);
        Some(Self { _permit: permit, edge, until: Instant::now() + edge.wake_limit })
    }

    /// The route when it is another one than before, or the same after a while, and after a moment if there are addresses in
    /// it; nothing when the time is up.
    async fn next(self, edge: &Edge, host: &str, before: &Arc<Route>) -> Option<(Arc<Route>, Self)> {
        let mut tables = edge.table.subscribe();
        let has_addresses = !before.addresses(std::time::Instant::now()).is_empty();
        let pause = if has_addresses { TRY_AGAIN } else { ASK_AGAIN };
        let until = self.until.min(Instant::now() + pause);
        let changed = async {
            loop {
                if let Some(route) = tables.borrow_and_update().route(host)
                    && !Arc::ptr_eq(route, before)
                {
                    return Some(route.clone());
                }
                tables.changed().await.ok()?;
            }
        };
        match timeout_at(until, changed).await {
            Ok(route) => Some((route?, self)),
            Err(_) if Instant::now() < self.until => Some((before.clone(), self)),
            Err(_) => None,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.edge.metrics.waiting(-1);
    }
}

/// An answer of our own.
fn said(why: &Why, page: bool, preview: Option<&Preview>) -> Box<Response<Reply>> {
    let mut answer = why.answer(page).map(Reply::whole);
    if preview.is_some() || *why == Why::Gone {
        headers::keep_out_of_indexes(answer.headers_mut());
    }
    Box::new(answer)
}

fn add_cookie(answer: &mut Response<Reply>, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// The same address over TLS, at the port that browsers take for it.
fn to_https(asked: &Asked, target: &Uri) -> Response<Reply> {
    let path = target.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut answer = Response::new(Reply::whole(Bytes::new()));
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(location) = HeaderValue::try_from(format!("https://{}{path}", asked.host)) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}
