//! The two queues of the pool and the turns they take. This is pure code, so that fairness can be tested without threads.

use std::collections::VecDeque;

/// A kind of work with its own queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Checking a password: a login or a sensitive change.
    Verification,
    /// Creating a credential: a registration, a change, a recovery including the check of its passphrase, or a report on a password.
    /// Recovery belongs here, so that a flood of it does not block logins (S20).
    Creation,
}

/// The number of lanes.
pub(super) const LANES: usize = 2;

/// The order of turns. A waiting lane is served within one round, however full the other one is: creation after at most three
/// verifications, verification after at most one creation. The turn of an empty lane goes to the next.
const TURNS: [Lane; 4] = [Lane::Verification, Lane::Creation, Lane::Verification, Lane::Verification];

impl Lane {
    /// Every lane, in the order of the arrays here.
    pub(super) const ALL: [Self; LANES] = [Self::Verification, Self::Creation];

    /// Returns its index in [`Lane::ALL`].
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Verification => 0,
            Self::Creation => 1,
        }
    }

    /// Returns its name in the health report.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Verification => "verification",
            Self::Creation => "creation",
        }
    }

    /// Returns the number of its turns in a round.
    fn share(self) -> usize {
        TURNS.iter().filter(|turn| **turn == self).count()
    }
}

/// The lane is full; returns the job.
#[derive(Debug)]
pub(super) struct Full<J>(pub(super) J);

/// The queues, all with the same capacity.
#[derive(Debug)]
pub(super) struct Lanes<J> {
    waiting: [VecDeque<J>; LANES],
    capacity: usize,
    /// The index in [`TURNS`] of the next turn.
    turn: usize,
}

impl<J> Lanes<J> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { waiting: [VecDeque::new(), VecDeque::new()], capacity, turn: 0 }
    }

    /// Returns the number of waiting jobs in a lane.
    pub(super) fn len(&self, lane: Lane) -> usize {
        self.waiting[lane.index()].len()
    }

    /// Queues a job if its lane has a free place. If the lane is full, unwanted jobs at its front are dropped first.
    pub(super) fn push(&mut self, lane: Lane, job: J, mut wanted: impl FnMut(Lane, &J) -> bool) -> Result<(), Full<J>> {
        let queue = &mut self.waiting[lane.index()];
        if queue.len() >= self.capacity {
            while queue.front().is_some_and(|job| !wanted(lane, job)) {
                queue.pop_front();
            }
        }
        if queue.len() >= self.capacity {
            return Err(Full(job));
        }
        queue.push_back(job);
        Ok(())
    }

    /// Returns the next job and its lane. An unwanted job is dropped and takes no turn of its lane.
    pub(super) fn pop(&mut self, mut wanted: impl FnMut(Lane, &J) -> bool) -> Option<(Lane, J)> {
        for offset in 0..TURNS.len() {
            let at = (self.turn + offset) % TURNS.len();
            let lane = TURNS[at];
            while let Some(job) = self.waiting[lane.index()].pop_front() {
                if wanted(lane, &job) {
                    self.turn = (at + 1) % TURNS.len();
                    return Some((lane, job));
                }
            }
        }
        None
    }

    /// Estimates how many jobs of each lane are served until the last job that waits in `lane` now is done.
    pub(super) fn ahead(&self, lane: Lane) -> [usize; LANES] {
        let own = self.len(lane);
        Lane::ALL.map(|other| {
            if other == lane { own } else { self.len(other).min((own * other.share()).div_ceil(lane.share())) }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALIVE: fn(Lane, &u32) -> bool = |_, _| true;

    fn lanes(capacity: usize, verifications: u32, creations: u32) -> Lanes<u32> {
        let mut lanes = Lanes::new(capacity);
        for job in 0..verifications {
            lanes.push(Lane::Verification, job, ALIVE).unwrap();
        }
        for job in 0..creations {
            lanes.push(Lane::Creation, job, ALIVE).unwrap();
        }
        lanes
    }

    fn order(lanes: &mut Lanes<u32>) -> String {
        std::iter::from_fn(|| lanes.pop(ALIVE))
            .map(|(lane, _)| if lane == Lane::Verification { 'v' } else { 'c' })
            .collect()
    }

    #[test]
    fn r08_a_flood_of_one_kind_leaves_the_other_its_turns() {
        assert_eq!(order(&mut lanes(64, 9, 3)), "vcvvvcvvvcvv");
        assert_eq!(order(&mut lanes(64, 2, 5)), "vcvcccc");
        assert_eq!(order(&mut lanes(64, 0, 3)), "ccc");
        assert_eq!(order(&mut lanes(64, 3, 0)), "vvv");
    }

    #[test]
    fn a_full_lane_refuses_and_the_other_one_takes() {
        let mut lanes = lanes(2, 0, 2);
        assert_eq!(lanes.push(Lane::Creation, 7, ALIVE).unwrap_err().0, 7);
        lanes.push(Lane::Verification, 8, ALIVE).unwrap();
        assert_eq!(order(&mut lanes), "vcc");
    }

    #[test]
    fn jobs_nobody_wants_hold_no_place_and_cost_no_turn() {
        let mut lanes = lanes(3, 3, 3);
        let odd = |_: Lane, job: &u32| job % 2 == 1;
        lanes.push(Lane::Creation, 9, odd).unwrap();
        let served: Vec<_> = std::iter::from_fn(|| lanes.pop(odd)).collect();
        assert_eq!(served, [(Lane::Verification, 1), (Lane::Creation, 1), (Lane::Creation, 9)]);
    }

    /// An operation of a test on the queues.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Push(Lane),
        Pop,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![Just(Step::Push(Lane::Verification)), Just(Step::Push(Lane::Creation)), Just(Step::Pop)]
    }

    proptest! {
        #[test]
        fn r08_no_job_is_lost_no_lane_overflows_and_none_waits_longer_than_its_share_says(
            capacity in 1_usize..12,
            steps in prop::collection::vec(step(), 0..400),
        ) {
            let mut lanes = Lanes::new(capacity);
            let mut expected = [VecDeque::new(), VecDeque::new()];
            // The jobs of the other lane that were served since this lane began to wait or was last served.
            let mut passed_over = [0; LANES];
            let drain = std::iter::repeat_n(Step::Pop, 2 * capacity + 1);
            for (number, step) in steps.into_iter().chain(drain).enumerate() {
                match step {
                    Step::Push(lane) => {
                        let queue = &mut expected[lane.index()];
                        let taken = lanes.push(lane, number, |_, _| true).is_ok();
                        prop_assert_eq!(taken, queue.len() < capacity);
                        if taken {
                            queue.push_back(number);
                        }
                    }
                    Step::Pop => match lanes.pop(|_, _| true) {
                        None => prop_assert!(expected.iter().all(VecDeque::is_empty)),
                        Some((lane, job)) => {
                            prop_assert_eq!(expected[lane.index()].pop_front(), Some(job));
                            passed_over[lane.index()] = 0;
                            let other = 1 - lane.index();
                            passed_over[other] = if expected[other].is_empty() { 0 } else { passed_over[other] + 1 };
                        }
                    },
                }
                prop_assert!(passed_over[Lane::Verification.index()] <= 1);
                prop_assert!(passed_over[Lane::Creation.index()] <= 3);
                for lane in Lane::ALL {
                    prop_assert_eq!(lanes.len(lane), expected[lane.index()].len());
                }
            }
            prop_assert!(expected.iter().all(VecDeque::is_empty));
        }

        #[test]
        fn what_is_ahead_is_what_will_be_served_give_or_take_one_round(
            verifications in 0_u32..60, creations in 0_u32..60, turn in 0_usize..4, creation in any::<bool>(),
        ) {
            let lane = if creation { Lane::Creation } else { Lane::Verification };
            let mut lanes = lanes(64, verifications, creations);
            lanes.turn = turn;
            let estimate = lanes.ahead(lane);
            let mut served = [0_usize; LANES];
            while lanes.len(lane) > 0 {
                let (lane, _) = lanes.pop(ALIVE).unwrap();
                served[lane.index()] += 1;
            }
            for (estimated, real) in estimate.into_iter().zip(served) {
                prop_assert!(estimated.abs_diff(real) <= TURNS.len(), "{estimated} for {real}");
            }
        }
    }
}
