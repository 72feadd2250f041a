//! A registry of this program's own: it answers from memory, on loopback, and counts. No image of it is ever pulled.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use stagekeeper::domain::image::Digest;

use crate::Failure;

/// The media type of what it serves.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// One repository.
#[derive(Default)]
pub struct Repository {
    content: RwLock<Content>,
    lists: AtomicUsize,
    pages: AtomicUsize,
    others: AtomicUsize,
}

#[derive(Default)]
struct Content {
    /// Sorted by letter, as registries do.
    tags: Vec<String>,
    /// By tag, and by digest.
    manifests: BTreeMap<String, String>,
}

/// All of them, by name.
#[derive(Default)]
pub struct Registry(RwLock<BTreeMap<String, Arc<Repository>>>);

impl Repository {
    /// Lists these tags, of which none can be pulled.
    pub fn listing(tags: impl Iterator<Item = String>) -> Self {
        let mut tags: Vec<String> = tags.collect();
        tags.sort();
        Self { content: RwLock::new(Content { tags, ..Content::default() }), ..Self::default() }
    }

    /// One more tag, with an image of its own.
    pub fn push(&self, name: &str, tag: &str) {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(format!("{name}:{tag}").as_bytes()).to_string(),
                "size": 100,
            },
            "layers": [],
        })
        .to_string();
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let at = content.tags.partition_point(|known| known.as_str() < tag);
        content.tags.insert(at, tag.to_owned());
        content.manifests.insert(Digest::of(manifest.as_bytes()).to_string(), manifest.clone());
        content.manifests.insert(tag.to_owned(), manifest);
    }

    /// A page as the distribution registry gives it: `n` tags after `last`, with a link to the next page if there is one.
    fn page(&self, name: &str, query: &str) -> Response {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let tags = &content.tags;
        let argument = |key: &str| query.split('&').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
        let after = argument("last").map_or(0, |last| tags.partition_point(|tag| tag.as_str() <= last));
        let many = argument("n").and_then(|n| n.parse().ok()).unwrap_or(tags.len());
        let page: Vec<&String> = tags.iter().skip(after).take(many).collect();
        self.pages.fetch_add(1, Ordering::Relaxed);
        if after == 0 {
            self.lists.fetch_add(1, Ordering::Relaxed);
        }
        let mut answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
        if let Some(last) = page.last().filter(|_| after + page.len() < tags.len()) {
            let next = format!("</v2/{name}/tags/list?last={last}&n={many}>; rel=\"next\"");
            answer = answer.header(header::LINK, next);
        }
        let body = json!({"name": name, "tags": page}).to_string();
        answer.body(Body::from(body)).unwrap_or_default()
    }

    fn manifest(&self, method: &Method, reference: &str) -> Response {
        self.others.fetch_add(1, Ordering::Relaxed);
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let Some(manifest) = content.manifests.get(reference) else {
            return missing();
        };
        let body = if *method == Method::HEAD { Body::empty() } else { Body::from(manifest.clone()) };
        Response::builder()
            .header(header::CONTENT_TYPE, MANIFEST)
            .header("docker-content-digest", Digest::of(manifest.as_bytes()).to_string())
            .header(header::CONTENT_LENGTH, manifest.len())
            .body(body)
            .unwrap_or_default()
    }
}

impl Registry {
    /// One more repository.
    pub fn add(&self, name: String, repository: Repository) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(repository));
    }

    /// A new image in one of them.
    pub fn push(&self, name: &str, tag: &str) -> Result<(), Failure> {
        let repository = self.find(name).ok_or_else(|| format!("no repository {name}"))?;
        repository.push(name, tag);
        Ok(())
    }

    fn find(&self, name: &str) -> Option<Arc<Repository>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn answer(&self, request: &Request) -> Response {
        let uri = request.uri();
        let path = uri.path().trim_start_matches("/v2/");
        if let Some(name) = path.strip_suffix("/tags/list") {
            let found = self.find(name).map(|repository| repository.page(name, uri.query().unwrap_or_default()));
            return found.unwrap_or_else(missing);
        }
        let manifest = path.split_once("/manifests/");
        let found = manifest.and_then(|(name, of)| Some(self.find(name)?.manifest(request.method(), of)));
        found.unwrap_or_else(missing)
    }

    /// How often each repository was asked so far: for the beginning of its list, for any page of it, for anything else.
    pub fn asked(&self) -> Asked {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of = |count: fn(&Repository) -> &AtomicUsize| {
            all.values().map(|repository| count(repository).load(Ordering::Relaxed)).collect()
        };
        Asked { lists: of(|one| &one.lists), pages: of(|one| &one.pages), others: of(|one| &one.others) }
    }

    /// Serves it as long as the program runs.
    pub async fn serve(self: &Arc<Self>) -> Result<SocketAddr, Failure> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let answer = |State(registry): State<Arc<Self>>, request: Request| async move {
            Ok::<_, Infallible>(registry.answer(&request))
        };
        let router = Router::new().fallback(answer).with_state(Arc::clone(self));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("bench-load: the registry has ended: {error}");
            }
        });
        Ok(address)
    }
}

fn missing() -> Response {
    let mut answer = Response::new(Body::from(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

/// Tells an operator's program that the registry may be asked as often as it likes: no guess at what a stranger's bears.
pub fn allow(program: &Path, database: &str, registry: SocketAddr) -> Result<(), Failure> {
    let said = Command::new(program)
        .args(["registry", "set", &registry.to_string(), "--insecure", "--rate", "100000"])
        .env("DATABASE_URL", database)
        .output()?;
    if said.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said.stderr).into_owned().into()) }
}

/// Requests, by repository.
pub struct Asked {
    /// For the beginning of its list.
    pub lists: Vec<usize>,
    pages: Vec<usize>,
    others: Vec<usize>,
}

impl Asked {
    /// What was asked from `before` until `self`.
    pub fn since(&self, before: &Self) -> Value {
        let less = |now: &[usize], then: &[usize]| -> Vec<usize> {
            now.iter().zip(then).map(|(now, then)| now - then).collect()
        };
        let lists = less(&self.lists, &before.lists);
        let pages = less(&self.pages, &before.pages);
        json!({
            "lists": lists.iter().sum::<usize>(),
            "mostLists": lists.iter().max(),
            "pages": pages.iter().sum::<usize>(),
            "mostPages": pages.iter().max(),
            "others": less(&self.others, &before.others).iter().sum::<usize>(),
        })
    }
}
