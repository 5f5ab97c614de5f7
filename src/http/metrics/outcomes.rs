//! What the statuses of a route say about what its requests were for.

use super::sheet::Labels;

/// How many requests ended in which way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcomes {
    success: u64,
    /// The credentials were wrong, or the token is not live.
    refused: u64,
    /// The request was not of the right form.
    invalid: u64,
    /// A limit was reached.
    limited: u64,
    /// The service could not do it now.
    unavailable: u64,
    /// A defect.
    error: u64,
}

impl Outcomes {
    /// Sorts statuses by outcome. `refused` lists the statuses of a refusal.
    pub(super) fn of(statuses: impl Iterator<Item = (u16, u64)>, refused: &[u16]) -> Self {
        let mut outcomes = Self::default();
        for (status, count) in statuses {
            let outcome = match status {
                200..=299 => &mut outcomes.success,
                status if refused.contains(&status) => &mut outcomes.refused,
                429 => &mut outcomes.limited,
                503 => &mut outcomes.unavailable,
                400..=499 => &mut outcomes.invalid,
                _ => &mut outcomes.error,
            };
            *outcome += count;
        }
        outcomes
    }

    /// Returns one row for each outcome, also for those that did not occur.
    pub(super) fn rows<'a>(&self, labels: &[(&'static str, &'a str)]) -> [(Labels<'a>, u64); 6] {
        let Self { success, refused, invalid, limited, unavailable, error } = *self;
        let rows = [
            ("success", success),
            ("refused", refused),
            ("invalid", invalid),
            ("limited", limited),
            ("unavailable", unavailable),
            ("error", error),
        ];
        rows.map(|(outcome, count)| ([labels, &[("outcome", outcome)]].concat(), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_one_outcome() {
        let statuses = [(200, 1), (401, 2), (404, 4), (422, 8), (429, 16), (503, 32), (500, 64), (0, 128)];
        let outcomes = Outcomes::of(statuses.into_iter(), &[401, 404]);
        let expected = Outcomes { success: 1, refused: 6, invalid: 8, limited: 16, unavailable: 32, error: 192 };
        assert_eq!(outcomes, expected);
        assert_eq!(outcomes.rows(&[("by", "mail")])[1], (vec![("by", "mail"), ("outcome", "refused")], 6));
    }
}
