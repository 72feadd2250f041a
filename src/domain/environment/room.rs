//! Which environments of a project may run when not all of them may.

use jiff::Timestamp;

/// An environment that lives and wants to be awake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant<K> {
    /// Which.
    pub key: K,
    /// When it came to want that.
    pub since: Timestamp,
    /// When it was used last.
    pub used: Timestamp,
    /// Whether its pods run now.
    pub runs: bool,
    /// Nobody may put it to sleep for another.
    pub pinned: bool,
}

/// What becomes of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// It may run.
    Taken,
    /// It waits; 1 is next.
    Waits(usize),
    /// It makes room for another and sleeps.
    Yields,
}

/// Who may run where `most` may. Those that run stay, the longest waiting come next; with `evict`, who was used last runs and
/// who was used longest ago makes room.
pub fn seats<K: Clone + Ord>(tenants: &[Tenant<K>], most: usize, evict: bool) -> Vec<(K, Seat)> {
    let mut order: Vec<&Tenant<K>> = tenants.iter().collect();
    if evict {
        order.sort_by(|a, b| (b.pinned, b.used).cmp(&(a.pinned, a.used)).then_with(|| a.key.cmp(&b.key)));
    } else {
        order.sort_by(|a, b| (!a.runs, a.since).cmp(&(!b.runs, b.since)).then_with(|| a.key.cmp(&b.key)));
    }
    let seat = |(place, tenant): (usize, &Tenant<K>)| {
        let seat = match (place.checked_sub(most), tenant.runs, evict) {
            (None, ..) => Seat::Taken,
            (Some(_), true, true) => Seat::Yields,
            // A limit that was lowered stops nobody who runs.
            (Some(_), true, false) => Seat::Taken,
            (Some(behind), false, _) => Seat::Waits(behind + 1),
        };
        (tenant.key.clone(), seat)
    };
    let mut seats: Vec<_> = order.into_iter().enumerate().map(seat).collect();
    if !evict {
        // Places are counted among those that wait, whoever runs beyond the limit.
        let mut waits = 0;
        for (_, seat) in &mut seats {
            if let Seat::Waits(place) = seat {
                waits += 1;
                *place = waits;
            }
        }
    }
    seats
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    fn tenant(key: u32, since: i64, used: i64, runs: bool) -> Tenant<u32> {
        Tenant { key, since: at(since), used: at(used), runs, pinned: false }
    }

    fn of(seats: &[(u32, Seat)], key: u32) -> Seat {
        seats.iter().find(|(one, _)| *one == key).map(|(_, seat)| *seat).expect("a seat")
    }

    #[test]
    fn in_a_queue_who_waits_longest_is_next() {
        let all = [tenant(1, 0, 0, true), tenant(2, 1, 9, true), tenant(3, 5, 5, false), tenant(4, 3, 3, false)];
        let seats = seats(&all, 2, false);
        assert_eq!(of(&seats, 1), Seat::Taken);
        assert_eq!(of(&seats, 2), Seat::Taken);
        assert_eq!(of(&seats, 4), Seat::Waits(1));
        assert_eq!(of(&seats, 3), Seat::Waits(2));
    }

    #[test]
    fn who_was_used_longest_ago_makes_room() {
        let all = [tenant(1, 0, 0, true), tenant(2, 1, 9, true), tenant(3, 10, 10, false)];
        let found = seats(&all, 2, true);
        assert_eq!(of(&found, 1), Seat::Yields);
        assert_eq!(of(&found, 2), Seat::Taken);
        assert_eq!(of(&found, 3), Seat::Taken);
        let pinned = [Tenant { pinned: true, ..all[0].clone() }, all[1].clone(), all[2].clone()];
        let found = seats(&pinned, 2, true);
        assert_eq!(of(&found, 1), Seat::Taken, "nobody puts it to sleep");
        assert_eq!(of(&found, 2), Seat::Yields);
    }

    proptest! {
        #[test]
        fn no_more_begin_than_there_is_room_for(
            all in proptest::collection::vec((0_i64..50, 0_i64..50, any::<bool>(), any::<bool>()), 0..30),
            most in 1_usize..10,
            evict in any::<bool>(),
        ) {
            let all: Vec<Tenant<u32>> = all
                .into_iter()
                .zip(0..)
                .map(|((since, used, runs, pinned), key)| Tenant { pinned, ..tenant(key, since, used, runs) })
                .collect();
            let running = all.iter().filter(|tenant| tenant.runs).count();
            let found = seats(&all, most, evict);
            prop_assert_eq!(found.len(), all.len());
            let taken = found.iter().filter(|(_, seat)| *seat == Seat::Taken).count();
            let stays = if evict { 0 } else { running };
            prop_assert!(taken <= most.max(stays));
            let mut places: Vec<usize> =
                found.iter().filter_map(|(_, seat)| if let Seat::Waits(place) = seat { Some(*place) } else { None }).collect();
            places.sort_unstable();
            if !evict {
                prop_assert_eq!(places.clone(), (1..=places.len()).collect::<Vec<_>>(), "each place once");
            }
            if all.len() <= most {
                prop_assert!(found.iter().all(|(_, seat)| *seat == Seat::Taken));
            }
        }
    }
}
