//! Numbers that look random and are a pure function of (seed, index, what for), so that any record can be
//! written again at any time and nothing has to be stored.

/// The finaliser of splitmix64: a bijection on `u64`, which is what makes hit ids unique by construction.
pub(crate) const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What a number is drawn for. Each purpose draws independently, so the oracle can recompute one field without
/// replaying the draws of the others.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum For {
    HitHigh = 1,
    HitLow,
    Visitor,
    Exclusion,
    Duplicate,
    Malformed,
    Empty,
    PageName,
    Evar1,
    Evar2,
    Evar3,
    Event1,
    BrowserWidth,
    TimeOffset,
    Rest,
    Cuts,
    Lateness,
    LongDelay,
    Twice,
    Agent,
}

/// The number drawn for one purpose at one index.
pub(crate) const fn draw(seed: u64, index: u64, purpose: For) -> u64 {
    mix(mix(seed ^ (purpose as u64).wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_add(index))
}

/// A sequence of draws for everything about a record that the oracle does not speak of.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(start: u64) -> Self {
        Self(start)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`, by multiplication rather than division: this runs a hundred times per record.
    pub(crate) const fn below(&mut self, n: u64) -> u64 {
        ((self.next() as u128 * n as u128) >> 64) as u64
    }

    pub(crate) const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a>(&mut self, of: &'a [&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_seed_index_and_purpose() {
        let first = draw(1, 1, For::PageName);
        assert_eq!(first, draw(1, 1, For::PageName));
        assert_ne!(first, draw(2, 1, For::PageName));
        assert_ne!(first, draw(1, 2, For::PageName));
        assert_ne!(first, draw(1, 1, For::Evar1));
    }

    #[test]
    fn below_stays_below_and_reaches_every_number() {
        let mut rng = Rng::new(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[rng.below(5) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
    }
}
