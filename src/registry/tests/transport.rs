//! Connections that fail, stall or break off.

use std::time::Duration;

use super::*;

async fn fails(repository: &Repository, registry: &Registry) -> RegistryError {
    let listing = registry.tags_of(repository, &anonymous()).await.unwrap_err();
    let resolution = registry.resolve(repository, Selector::Tag("1.0.0"), None, &anonymous()).await.unwrap_err();
    let ping = registry.ping(repository, &anonymous()).await.unwrap_err();
    for error in [&listing, &resolution, &ping] {
        well_said(error, repository);
        assert_eq!(error.reason(), listing.reason(), "{error}");
    }
    listing
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let repository = format!("{}/shop/web", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let error = fails(&repository, &client()).await;
    assert!(matches!(&error, RegistryError::Unreachable { why, .. } if why.contains("refused")), "{error}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn an_unknown_host_is_unreachable() {
    let repository = "no-such-host.invalid/shop/web".parse().unwrap();
    let error = fails(&repository, &client()).await;
    assert_eq!(error.reason(), "RegistryUnreachable", "{error}");
}

#[tokio::test]
async fn a_host_that_is_no_address_is_unreachable() {
    let repository = "1.2.3.4.5/shop/web".parse().unwrap();
    let error = fails(&repository, &client()).await;
    assert!(matches!(&error, RegistryError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn silence_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let repository = format!("{}/shop/web", listener.local_addr().unwrap()).parse().unwrap();
    let moment = Duration::from_millis(20);
    let slow_request = RegistryOptions { request_timeout: moment, ..RegistryOptions::default() };
    let error = fails(&repository, &client_with(slow_request)).await;
    assert!(matches!(&error, RegistryError::Unreachable { why, .. } if why.contains("in time")), "{error}");
    let slow_operation = RegistryOptions { total_timeout: moment, ..RegistryOptions::default() };
    let error = fails(&repository, &client_with(slow_operation)).await;
    assert!(matches!(&error, RegistryError::Unreachable { why, .. } if why.contains("was not done within")), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_unreachable() {
    let answers: [&[u8]; 4] = [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"tags\":[\"1.0.0\"]}",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n{\"tags\":[\"1.0.0\"]}\r\n",
    ];
    for bytes in answers {
        let repository = raw(bytes).await;
        let error = client().tags_of(&repository, &anonymous()).await.unwrap_err();
        well_said(&error, &repository);
        assert_eq!(error.reason(), "RegistryUnreachable", "{}: {error}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn a_connection_that_is_given_up_is_told_in_the_same_words_however_it_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let repository = format!("{}/shop/web", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        // With the request unread the kernel resets the connection; once it is read, it is closed in order.
        for reads in [0_usize, 4096].into_iter().cycle() {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            if reads > 0 {
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut vec![0; reads]).await;
            }
        }
    });
    let mut said = std::collections::BTreeSet::new();
    for _ in 0..6 {
        said.insert(client().tags_of(&repository, &anonymous()).await.unwrap_err().to_string());
    }
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn a_body_without_announced_length_is_bounded_too() {
    let repository = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n{\"tags\":[\"1\",\"2\",\"3\"]\r\n1\r\n}\r\n0\r\n\r\n").await;
    let registry = small(Limits { listing_bytes: 20, ..Limits::default() });
    let error = registry.tags_of(&repository, &anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAnswerTooLarge", "{error}");
    assert_eq!(client().tags_of(&repository, &anonymous()).await.unwrap().names, ["1", "2", "3"]);
}

#[tokio::test]
async fn plain_http_is_spoken_only_when_insecure() {
    let server = MockServer::start().await;
    let repository = shop(&server);
    let error = client().tags_of(&repository, &Access::default()).await.unwrap_err();
    well_said(&error, &repository);
    assert!(error.to_string().contains("insecure: true"), "{error}");
    assert_eq!(asked(&server).await, 0);
}

#[tokio::test]
async fn ping_tells_a_registry_from_something_else() {
    let server = MockServer::start().await;
    let repository = shop(&server);
    let error = client().ping(&repository, &anonymous()).await.unwrap_err();
    assert!(error.to_string().contains("not a registry"), "{error}");
    answers(&server, "/v2/", ResponseTemplate::new(200)).await;
    client().ping(&repository, &anonymous()).await.unwrap();
}

#[test]
fn calls_can_run_as_tasks_of_their_own() {
    fn is_send(_: impl Send) {}
    let (registry, repository, access) = (client(), "r.test/a".parse().unwrap(), anonymous());
    is_send(registry.tags_of(&repository, &access));
    is_send(registry.resolve(&repository, Selector::Tag("a"), None, &access));
    is_send(registry.ping(&repository, &access));
}

/// A server that counts connections and answers every request on one, by whether its body is chunked and how much of it
/// there is. `None`: without an end, as fast as it is taken.
async fn streaming(
    head: &'static str,
    body: Option<&'static [u8]>,
) -> (Repository, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = sent.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _read = stream.read(&mut request).await;
                let _head = stream.write_all(head.as_bytes()).await;
                let piece = body.map_or_else(|| vec![b' '; 64 << 10], <[u8]>::to_vec);
                let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
                while stream.write_all(&chunk).await.is_ok() {
                    counted.fetch_add(piece.len(), std::sync::atomic::Ordering::Relaxed);
                    if body.is_some() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            });
        }
    });
    (format!("{address}/shop/web").parse().unwrap(), sent)
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn an_endless_body_is_read_up_to_the_limit_and_no_further() {
    let (repository, sent) = streaming(CHUNKED, None).await;
    let error = client().tags_of(&repository, &anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAnswerTooLarge", "{error}");
    let error =
        client().built(&repository, crate::domain::image::Digest::of(b"x"), None, &anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAnswerTooLarge", "{error}");
    let read = sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!(read < 64 << 20, "{read} bytes were taken of 16 MiB and 4 MiB that may be");
}

#[tokio::test]
async fn a_manifest_of_a_gibibyte_is_refused_by_its_announcement() {
    let repository = raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\nContent-Length: 1073741824\r\n\r\n{").await;
    let digest = crate::domain::image::Digest::of(b"x");
    let error = client().built(&repository, digest, None, &anonymous()).await.unwrap_err();
    well_said(&error, &repository);
    assert_eq!(error.reason(), "RegistryAnswerTooLarge", "{error}");
}

#[tokio::test]
async fn a_body_that_drips_is_given_up_in_time() {
    let (repository, _) = streaming(CHUNKED, Some(b" ")).await;
    let request = RegistryOptions { request_timeout: Duration::from_millis(200), ..RegistryOptions::default() };
    let total = RegistryOptions { total_timeout: Duration::from_millis(200), ..RegistryOptions::default() };
    for options in [request, total] {
        let error = client_with(options).tags_of(&repository, &anonymous()).await.unwrap_err();
        well_said(&error, &repository);
        assert_eq!(error.reason(), "RegistryUnreachable", "{error}");
    }
}

/// A server of HTTP/1.1 that keeps its connections, and answers what a function makes of a request's first line.
async fn keeping(answer: fn(&str) -> String) -> (Repository, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = accepted.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut request).await {
                    let text = String::from_utf8_lossy(&request[..read]).into_owned();
                    let _written = stream.write_all(answer(&text).as_bytes()).await;
                }
            });
        }
    });
    (format!("{address}/shop/web").parse().unwrap(), accepted)
}

#[tokio::test]
async fn all_requests_share_a_connection_also_after_errors_challenges_and_redirects() {
    let (repository, connections) = keeping(|request| {
        let long = "x".repeat(5000);
        let (status, header, body) = match request {
            it if it.contains("/missing/") => ("404 Not Found", "", r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
            it if it.contains("/broken/") => ("500 Oops", "", long.as_str()),
            it if it.contains("/moved/") => ("307 Away", "Location: /v2/shop/web/tags/list\r\n", long.as_str()),
            it if it.contains("/refused/") => ("400 No", "", long.as_str()),
            it if it.contains("/private/") && !it.contains("authorization") => {
                ("401 Who", "WWW-Authenticate: Basic\r\n", long.as_str())
            }
            _ => ("200 OK", "", r#"{"tags":["1.0.0"]}"#),
        };
        format!("HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\n\r\n{body}", body.len())
    })
    .await;
    let registry = client();
    let mut said = Vec::new();
    for path in ["shop/web", "missing/a", "broken/a", "moved/a", "refused/a", "private/a", "shop/web"] {
        let repository = format!("{}/{path}", repository.registry()).parse().unwrap();
        let result = registry.tags_of(&repository, &as_bob()).await;
        said.push(result.map_or_else(|error| error.reason(), |_| "listed"));
    }
    assert_eq!(
        said,
        [
            "listed",
            "RepositoryNotFound",
            "RegistryUnavailable",
            "listed",
            "RegistryAnswerUnexpected",
            "listed",
            "listed"
        ]
    );
    assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 1);
}
