//! Pure: what is answered when nothing can be passed on: a page for browsers, a few fields of JSON for everybody else.
//!
//! The pages load nothing. They tell in general words what is the case; what a deploy said is only for those who may see it.
//! One that looks again does so with a few lines of script, which change its words where they are: a page that is loaded anew
//! every other second is read out anew every other second. Without scripts it is loaded anew all the same.

use std::{fmt::Write as _, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::table::{Phase, Preview};

/// How soon a page looks again, in seconds.
const LOOK_AGAIN: u64 = 2;
/// The same for what takes minutes.
const LOOK_LATER: u64 = 5;
/// How much is shown of what a deploy said.
const SHOWN: usize = 1000;

/// Why there is no answer of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is not ready for the first time, or not again; what it waits for, if that is known.
    Building(Option<&'static str>),
    /// It sleeps, and is being woken.
    Waking,
    /// Its deploy failed; with what it said, if the caller may know.
    Failed(Option<Details>),
    /// It has ended.
    Gone,
    /// Nobody has this host.
    Unknown,
    /// The table is not there yet.
    Starting,
    /// It has no address that answers.
    Unavailable,
    /// Too much is under way.
    Busy,
    /// An upstream broke off before it had answered.
    Broken,
    /// An upstream did not answer in time.
    Late,
    /// Too many requests; after so many seconds there may be another one.
    TooMany(u64),
    /// The request itself is at fault.
    Malformed(&'static str),
    /// Its body is coded in a way that is not known.
    Coding,
    /// The method is for another kind of proxy.
    Method,
    /// The password is missing, or wrong.
    Locked,
    /// Nobody has signed in.
    SignIn,
    /// Who signed in is not let in.
    NotAllowed,
    /// Signing in went wrong, or took too long.
    SignInFailed,
    /// Nobody can sign in at the moment.
    NoSignIn,
    /// The session has ended, as was asked.
    SignedOut,
    /// A page of another site wants to be connected.
    Foreign,
}

/// What a failed deploy said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// Its last words.
    pub message: String,
    /// The command that shows its log.
    pub command: String,
}

impl Details {
    /// What there is to tell of an environment's deploy.
    pub fn of(preview: &Preview) -> Option<Self> {
        let deploy = preview.view.deploy.as_deref()?;
        let message = preview.view.message.as_deref().unwrap_or("it said nothing");
        Some(Self { message: message.chars().take(SHOWN).collect(), command: format!("stagekeeper logs {deploy}") })
    }
}

/// What an environment without an address is up to.
pub fn why(preview: &Preview, may_know: bool) -> Why {
    match preview.view.phase {
        _ if preview.view.sleeps() => Why::Waking,
        Phase::Failed => Why::Failed(Details::of(preview).filter(|_| may_know)),
        Phase::Ending => Why::Gone,
        Phase::Queued => Why::Building(Some("Other previews of this project are before it.")),
        Phase::Ready => Why::Building(Some("Its containers are starting.")),
        Phase::Pending | Phase::Deploying | Phase::Asleep => Why::Building(waits(preview.view.waiting.as_deref())),
    }
}

/// In general words what a deploy waits for.
fn waits(reason: Option<&str>) -> Option<&'static str> {
    let reason = reason?;
    let has = |word: &str| reason.contains(word);
    Some(match () {
        () if has("Image") => "Its image has not been pushed yet, or is being pulled.",
        () if has("Approval") => "It waits for an approval.",
        () if has("Hook") => "It is being prepared.",
        () if has("Health") || has("Ready") => "Its containers are starting.",
        () => return None,
    })
}

/// Whether a request comes from somebody who looks at pages.
pub fn is_browser(method: &Method, headers: &HeaderMap) -> bool {
    (method == Method::GET || method == Method::HEAD)
        && headers.get_all(ACCEPT).iter().any(|value| {
            value.to_str().is_ok_and(|text| {
                text.split(',').any(|range| {
                    let kind = range.split(';').next().unwrap_or_default().trim();
                    kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
                })
            })
        })
}

impl Why {
    /// The status code.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Building(_)
            | Self::Waking
            | Self::Failed(_)
            | Self::Starting
            | Self::Unavailable
            | Self::Busy
            | Self::NoSignIn => StatusCode::SERVICE_UNAVAILABLE,
            Self::Gone => StatusCode::GONE,
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Broken => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Malformed(_) | Self::SignInFailed => StatusCode::BAD_REQUEST,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Locked | Self::SignIn => StatusCode::UNAUTHORIZED,
            Self::NotAllowed | Self::Foreign => StatusCode::FORBIDDEN,
            Self::SignedOut => StatusCode::OK,
        }
    }

    /// After how many seconds asking again may help.
    const fn again(&self) -> Option<u64> {
        match self {
            Self::Waking | Self::Starting | Self::Unavailable | Self::Busy => Some(LOOK_AGAIN),
            Self::Building(_) | Self::NoSignIn => Some(LOOK_LATER),
            Self::TooMany(seconds) => Some(*seconds),
            _ => None,
        }
    }

    /// Whether a page looks again by itself.
    const fn refreshes(&self) -> bool {
        matches!(self, Self::Waking | Self::Building(_) | Self::Starting | Self::Unavailable | Self::Busy)
    }

    const fn title(&self) -> &'static str {
        match self {
            Self::Building(_) => "This preview is being made",
            Self::Waking => "This preview is waking up",
            Self::Failed(_) => "This preview could not be deployed",
            Self::Gone => "This preview is gone",
            Self::Unknown => "There is nothing here",
            Self::Starting | Self::Unavailable => "Not available right now",
            Self::Busy => "Too busy right now",
            Self::Broken => "The answer broke off",
            Self::Late => "There was no answer in time",
            Self::TooMany(_) => "Too many requests",
            Self::Malformed(_) => "The request is malformed",
            Self::Coding => "The request's coding is not supported",
            Self::Method => "The method is not supported",
            Self::Locked => "A password is needed",
            Self::SignIn => "Sign in to see this preview",
            Self::NotAllowed => "This preview is not open to you",
            Self::SignInFailed => "Signing in did not work",
            Self::NoSignIn => "Nobody can sign in right now",
            Self::SignedOut => "You are signed out",
            Self::Foreign => "Another site asked for this",
        }
    }

    const fn text(&self) -> &'static str {
        match self {
            Self::Building(Some(text)) | Self::Malformed(text) => text,
            Self::Building(None) => "It will be here as soon as it is ready.",
            Self::Waking => "It slept because nobody was here. It takes a moment to start.",
            Self::Failed(_) => {
                "Its latest deploy failed. Who has access to the project sees why in the status of its Environment, \
                 and in the log of the deploy."
            }
            Self::Gone => "It has ended, and this address is not used again.",
            Self::Unknown => "No environment and no stage has this address. Check the link.",
            Self::Starting => "The proxy has just been started, and does not know yet where this address leads.",
            Self::Unavailable => "No instance takes requests at the moment.",
            Self::Busy => "Too many requests are waiting.",
            Self::Broken => "The instance closed its connection before it had answered.",
            Self::Late => "The instance took too long.",
            Self::TooMany(_) => "This environment takes only so many requests a second.",
            Self::Coding => "Only Transfer-Encoding: chunked is.",
            Self::Method => "This is not a forward proxy: CONNECT is not supported.",
            Self::Locked => "Ask whoever gave you the link.",
            Self::SignIn => {
                "Open this address in a browser to sign in. Programs are let in with its session, or the password."
            }
            Self::NotAllowed => "You are not among those who may see it. Ask whoever gave you the link.",
            Self::SignInFailed => {
                "It took too long, or your browser did not keep the cookie of its beginning. Open the preview's address again."
            }
            Self::NoSignIn => {
                "The service that knows who you are does not answer. Open the preview's address again in a moment."
            }
            Self::SignedOut => "This preview asks who you are when you come again. Your provider may still know you.",
            Self::Foreign => "Only pages of this preview may open connections to it.",
        }
    }

    /// The answer: a page, or the same as problem details (RFC 9457).
    pub fn answer(&self, page: bool) -> Response<String> {
        let (kind, body) =
            if page { ("text/html; charset=utf-8", self.page()) } else { ("application/problem+json", self.problem()) };
        let mut answer = Response::new(body);
        *answer.status_mut() = self.status();
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        let policy = if page && self.refreshes() { &POLICIES.looks } else { &POLICIES.rests };
        headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
        if let Some(seconds) = self.again() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        answer
    }

    fn problem(&self) -> String {
        let mut body = json!({"title": self.title(), "status": self.status().as_u16(), "detail": self.text()});
        if let Self::Failed(Some(details)) = self {
            body["reason"] = json!(details.message);
            body["log"] = json!(details.command);
        }
        body.to_string()
    }

    fn page(&self) -> String {
        let mut html = String::with_capacity(2048);
        html.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        html.push_str("<meta name=\"robots\" content=\"noindex\">\n");
        let seconds = self.again().filter(|_| self.refreshes());
        let (again, role) = match seconds {
            None => (String::new(), ""),
            Some(seconds) => (format!(" data-again=\"{seconds}\""), " role=\"status\""),
        };
        let mut written = Ok(());
        if let Some(seconds) = seconds {
            written = writeln!(html, "<noscript><meta http-equiv=\"refresh\" content=\"{seconds}\"></noscript>");
        }
        let (title, text) = (escaped(self.title()), escaped(self.text()));
        written = written.and_then(|()| {
            write!(
                html,
                "<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main data-edge{again}>\n\
                 <div{role}>\n<h1>{title}</h1>\n<p>{text}</p>\n</div>\n"
            )
        });
        if let Self::Failed(Some(details)) = self {
            let (message, command) = (escaped(&details.message), escaped(&details.command));
            written = written.and_then(|()| {
                write!(
                    html,
                    "<h2>What the deploy said</h2>\n<p>{message}</p>\n<h2>Its log</h2>\n<p><code>{command}</code></p>\n"
                )
            });
        }
        if seconds.is_some() {
            html.push_str("<p>This page looks again by itself.</p>\n");
        }
        html.push_str("</main>\n");
        if seconds.is_some() {
            written = written.and_then(|()| writeln!(html, "<script>{SCRIPT}</script>"));
        }
        html.push_str("</body>\n</html>\n");
        debug_assert!(written.is_ok(), "a text takes everything");
        html
    }
}

/// Dark on light or light on dark, as the reader has it; contrast is above 7:1 in both.
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:0;font:1.125rem/1.5 system-ui,sans-serif;color:#1b1f24;background:#fff}\
main{max-width:38rem;margin:15vh auto 0;padding:0 1.5rem}\
h1{font-size:1.75rem;line-height:1.2}h2{font-size:1.125rem}\
code{overflow-wrap:anywhere}p{overflow-wrap:anywhere}\
@media(prefers-color-scheme:dark){body{color:#e8eaed;background:#16181b}}";

/// Asks for the same address again and again. Another page of ours takes the place of this one, its first part where it is, so
/// that it is read out; anything else is the application, and is loaded.
const SCRIPT: &str = "\
(async()=>{\
const main=document.querySelector('main');\
while(main.dataset.again){\
await new Promise(after=>setTimeout(after,main.dataset.again*1000));\
let answer,text;\
try{\
answer=await fetch(location.href,{cache:'no-store',redirect:'manual',headers:{accept:'text/html'}});\
if(answer.status===401){location.reload();return}\
if(answer.status>=400&&(answer.headers.get('content-type')||'').startsWith('text/html'))text=await answer.text();\
}catch{continue}\
const page=text&&new DOMParser().parseFromString(text,'text/html'),next=page&&page.querySelector('main[data-edge]');\
if(!next){location.reload();return}\
document.title=page.title;\
main.dataset.again=next.dataset.again||'';\
const here=main.firstElementChild,there=next.firstElementChild;\
if(here.innerHTML!==there.innerHTML)here.replaceChildren(...there.childNodes);\
there.remove();\
main.replaceChildren(here,...next.childNodes)\
}})()";

/// What a browser lets a page do.
struct Policies {
    /// One that looks again: run its own script, and ask for its own address.
    looks: HeaderValue,
    /// Any other: nothing.
    rests: HeaderValue,
}

static POLICIES: LazyLock<Policies> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = |more: &str| {
        let style = hash(STYLE);
        let text = format!(
            "default-src 'none'; {more}style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
    };
    let looks = policy(&format!("script-src 'sha256-{}'; connect-src 'self'; ", hash(SCRIPT)));
    Policies { looks, rests: policy("") }
});

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
