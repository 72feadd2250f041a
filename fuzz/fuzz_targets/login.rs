//! Docker configurations from bytes that no docker wrote: read or refused, and what was read is stored and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stagekeeper_fuzz::{
    crypto::Plaintext,
    login::{for_host, from_docker_config, host, to_value},
};

fuzz_target!(|data: &[u8]| {
    let Ok(logins) = from_docker_config(&Plaintext::from(data.to_vec())) else { return };
    assert!(!logins.is_empty());
    for login in &logins {
        assert!(!login.user.is_empty() && !login.user.contains(':') && !login.secret.is_empty());
        assert_eq!(host(&login.host).as_deref(), Ok(&*login.host));
    }
    let stored = to_value(&logins);
    let again = from_docker_config(&stored).expect("what was stored");
    assert_eq!(to_value(&again).expose(), stored.expose());
    for login in &again {
        let found = for_host(&stored, &login.host).expect("logins").expect("a login");
        assert_eq!((&found.user, &*found.secret), (&login.user, &*login.secret));
        assert!(
            for_host(&stored, &format!("{}.evil.example", login.host))
                .is_ok_and(|login| login.is_none_or(|found| { again.iter().any(|login| login.host == found.host) }))
        );
    }
});
