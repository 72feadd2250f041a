//! Random bytes from the machine, many at once: one question to the kernel costs as much as sealing a kilobyte.

use std::cell::RefCell;

use aes_gcm::aead::Generate as _;
use zeroize::{Zeroize as _, Zeroizing};

/// How many bytes are asked for at once.
const STOCK: usize = 1024;

struct Stock {
    bytes: Zeroizing<[u8; STOCK]>,
    /// Where what has not been given out begins.
    at: usize,
}

thread_local! {
    static RANDOM: RefCell<Stock> = RefCell::new(Stock { bytes: Zeroizing::new([0; STOCK]), at: STOCK });
}

/// `N` bytes that were never given out before and are not kept here.
///
/// # Errors
/// When the machine gives none, in its words.
pub fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, String> {
    const { assert!(N <= STOCK) };
    RANDOM.with_borrow_mut(|stock| {
        if STOCK - stock.at < N {
            *stock.bytes = <[u8; STOCK]>::try_generate().map_err(|error| error.to_string())?;
            stock.at = 0;
        }
        let given = &mut stock.bytes[stock.at..stock.at + N];
        let mut out = Zeroizing::new([0; N]);
        out.copy_from_slice(given);
        given.zeroize();
        stock.at += N;
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_is_given_out_twice_nor_kept() {
        let all: BTreeSet<[u8; 44]> = (0..1000).map(|_| *random::<44>().expect("random bytes")).collect();
        assert_eq!(all.len(), 1000);
        RANDOM.with_borrow(|stock| assert!(stock.bytes[..stock.at].iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn every_thread_has_its_own() {
        let of = || (0..100).map(|_| *random::<12>().expect("random bytes")).collect::<BTreeSet<_>>();
        let (here, there) = (of(), std::thread::spawn(of).join().expect("it ends"));
        assert!(here.is_disjoint(&there));
    }
}
