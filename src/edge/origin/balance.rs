//! Whose turn it is: smooth weighted round robin.
//!
//! Each time, every candidate gains its weight, the one that then has most is taken, and it loses what all gained. So weights
//! 5, 1, 1 give `a a b a c a a` and not five in a row. Who is no candidate keeps what it has.

use std::sync::{Mutex, PoisonError};

/// The turns of some servers, by their index.
#[derive(Debug)]
pub(super) struct Turns {
    weights: Vec<i64>,
    credit: Mutex<Vec<i64>>,
}

impl Turns {
    pub(super) fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Vec<i64> = weights.into_iter().map(i64::from).collect();
        let credit = Mutex::new(vec![0; weights.len()]);
        Self { weights, credit }
    }

    /// The next among the candidates; none if there are none. Who weighs nothing never is one.
    pub(super) fn next(&self, mut is_candidate: impl FnMut(usize) -> bool) -> Option<usize> {
        if let [weight] = self.weights.as_slice() {
            return (*weight > 0 && is_candidate(0)).then_some(0);
        }
        // A panic in the midst would leave some credits as they were, which are as good as any.
        let mut credit = self.credit.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let mut best = None;
        for (index, weight) in self.weights.iter().enumerate() {
            if *weight == 0 || !is_candidate(index) {
                continue;
            }
            total += weight;
            credit[index] += weight;
            if best.is_none_or(|best: usize| credit[index] > credit[best]) {
                best = Some(index);
            }
        }
        let best = best?;
        credit[best] -= total;
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_heavy_server_is_not_asked_many_times_in_a_row() {
        let turns = Turns::new([5, 1, 1]);
        let drawn: Vec<usize> = (0..7).filter_map(|_| turns.next(|_| true)).collect();
        assert_eq!(drawn, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn without_candidates_it_is_nobodys_turn() {
        assert_eq!(Turns::new([1, 1]).next(|_| false), None);
        assert_eq!(Turns::new([0]).next(|_| true), None);
        assert_eq!(Turns::new([0, 0]).next(|_| true), None);
        assert_eq!(Turns::new([]).next(|_| true), None);
    }

    proptest! {
        /// Over as many draws as all weigh together, each is drawn exactly as often as it weighs.
        #[test]
        fn each_server_gets_exactly_its_share(
            weights in proptest::collection::vec(0_u32..50, 1..8),
            away in any::<prop::sample::Index>(),
        ) {
            let turns = Turns::new(weights.clone());
            let total: u32 = weights.iter().sum();
            let mut drawn = vec![0; weights.len()];
            for _ in 0..3 * total {
                drawn[turns.next(|_| true).unwrap()] += 1;
            }
            let shares: Vec<u32> = weights.iter().map(|weight| 3 * weight).collect();
            prop_assert_eq!(&drawn, &shares);

            // One that is away gets nothing, and the rest share as before.
            let away = away.index(weights.len());
            let rest = total - weights[away];
            let mut drawn = vec![0; weights.len()];
            for _ in 0..rest {
                drawn[turns.next(|index| index != away).unwrap()] += 1;
            }
            let mut shares = weights;
            shares[away] = 0;
            prop_assert_eq!(drawn, shares);
        }
    }
}
