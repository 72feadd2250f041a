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
