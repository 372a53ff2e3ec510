//! Numbers by their digits: without floating point, rounded only on demand, and fast whatever the exponent.

/// The most digits of a decimal.
pub(super) const MAX_DIGITS: u32 = 38;

/// A number's text taken apart: `12.50e-3` is 12, 50 and -3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// ± `units` × 10^-`scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scaled {
    pub(super) negative: bool,
    pub(super) units: u128,
    pub(super) scale: u32,
    /// Digits beyond the scale were rounded away, half away from zero.
    pub(super) rounded: bool,
}

impl<'a> Number<'a> {
    /// Reads `-12`, `+12.5`, `.5`, `1.2e3`, with blanks around; nothing else is a number.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let (negative, text) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        let (whole, rest) = digits(text);
        let (fraction, rest) = match rest.split_first() {
            Some((b'.', rest)) => digits(rest),
            _ => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', rest)) => exponent(rest)?,
            Some(_) => return None,
        };
        Some(Self { negative, whole, fraction, exponent })
    }

    /// This number × 10^`exponent`.
    pub(super) fn shifted(self, exponent: i64) -> Self {
        Self { exponent: self.exponent.saturating_add(exponent), ..self }
    }

    /// The digits after the point it is written with, at most `max`.
    pub(super) fn natural_scale(&self, max: u32) -> u32 {
        let length = i64::try_from(self.fraction.len()).unwrap_or(i64::MAX);
        let scale = length.saturating_sub(self.exponent).clamp(0, i64::from(max));
        u32::try_from(scale).unwrap_or(max)
    }

    /// With `scale` digits after the point, rounded half away from zero; none if it takes more than 38 digits in all.
    pub(super) fn scaled(&self, scale: u32) -> Option<Scaled> {
        let zero = Scaled { negative: false, units: 0, scale, rounded: false };
        let total = self.whole.len() + self.fraction.len();
        let Some(first) = (0..total).find(|at| self.digit(*at) != 0) else { return Some(zero) };
        // The digits before `end` are kept.
        let length = i64::try_from(self.whole.len()).ok()?;
        let end = length.saturating_add(self.exponent).saturating_add(i64::from(scale));
        let Some(end) = usize::try_from(end).ok().filter(|end| *end >= first) else {
            return Some(Scaled { rounded: true, ..zero });
        };
        if end - first > MAX_DIGITS as usize {
            return None;
        }
        let kept = (first..end).fold(0_u128, |units, at| units * 10 + u128::from(self.digit(at)));
        let rounded = (end..total).any(|at| self.digit(at) != 0);
        let units = kept + u128::from(self.digit(end) >= 5);
        Some(Scaled { negative: self.negative && units != 0, units, scale, rounded })
    }

    /// The value if it is whole, however it is written: `12.0` and `1.2e1` are 12.
    pub(super) fn whole(&self) -> Option<Scaled> {
        self.scaled(0).filter(|scaled| !scaled.rounded)
    }

    /// The value without rounding, if 38 digits after the point and 38 in all are enough.
    pub(super) fn exact(&self) -> Option<Scaled> {
        let zeros = self.fraction.iter().rev().take_while(|digit| **digit == b'0').count();
        let needed = self.fraction.get(..self.fraction.len() - zeros).unwrap_or_default();
        // A few zeros are kept, since they say how the sender counts.
        let short = if self.fraction.len() > 6 { Self { fraction: needed, ..*self } } else { *self };
        short.scaled(short.natural_scale(MAX_DIGITS)).filter(|scaled| !scaled.rounded)
    }

    /// The digit at a position of the whole and fraction digits in a row; 0 beyond them.
    fn digit(&self, at: usize) -> u8 {
        let digit = self.whole.get(at).or_else(|| self.fraction.get(at.checked_sub(self.whole.len())?));
        digit.map_or(0, |digit| digit.wrapping_sub(b'0'))
    }
}

impl Scaled {
    pub(super) fn from_signed(value: i128, scale: u32) -> Self {
        Self { negative: value < 0, units: value.unsigned_abs(), scale, rounded: false }
    }

    pub(super) fn signed(&self) -> Option<i128> {
        let units = i128::try_from(self.units).ok()?;
        Some(if self.negative { -units } else { units })
    }

    /// With at most `scale` digits after the point, rounded half away from zero.
    pub(super) fn at_most(self, scale: u32) -> Self {
        let Some(divisor) =
            self.scale.checked_sub(scale).filter(|drop| *drop > 0).map(|drop| 10_u128.checked_pow(drop))
        else {
            return self;
        };
        // A divisor beyond 38 digits is beyond every value.
        let divisor = divisor.unwrap_or(u128::MAX);
        let remainder = self.units % divisor;
        let units = self.units / divisor + u128::from(remainder >= divisor.div_ceil(2));
        let rounded = self.rounded || remainder != 0;
        Self { negative: self.negative && units != 0, units, scale, rounded }
    }

    /// Whether a decimal(precision, scale) can hold it; its own scale is at most `scale`.
    pub(super) fn fits(&self, precision: u32, scale: u32) -> bool {
        let digits = (precision + self.scale).checked_sub(scale);
        digits.and_then(|digits| 10_u128.checked_pow(digits)).is_some_and(|limit| self.units < limit)
    }

    pub(super) fn write(&self, row: &mut Vec<u8>) {
        if self.negative {
            row.push(b'-');
        }
        let mut buffer = itoa::Buffer::new();
        // Half the digits take a fraction of the time.
        let digits = match u64::try_from(self.units) {
            Ok(units) => buffer.format(units).as_bytes(),
            Err(_) => buffer.format(self.units).as_bytes(),
        };
        let scale = self.scale as usize;
        if scale == 0 {
            row.extend_from_slice(digits);
        } else if let Some(point) = digits.len().checked_sub(scale).filter(|point| *point > 0) {
            let (whole, fraction) = digits.split_at(point);
            row.extend_from_slice(whole);
            row.push(b'.');
            row.extend_from_slice(fraction);
        } else {
            row.extend_from_slice(b"0.");
            row.resize(row.len() + scale - digits.len(), b'0');
            row.extend_from_slice(digits);
        }
    }
}

/// The digits at the start, and what follows them.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// An exponent too large to matter stays so, instead of overflowing.
fn exponent(text: &[u8]) -> Option<i64> {
    const FAR: i64 = i64::MAX / 4;
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let far = if text.starts_with(b"-") { -FAR } else { FAR };
    Some(std::str::from_utf8(text).ok()?.parse().unwrap_or(far).clamp(-FAR, FAR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scaled(text: &str, scale: u32) -> Option<(String, bool)> {
        let scaled = Number::parse(text.as_bytes())?.scaled(scale)?;
        let mut out = Vec::new();
        scaled.write(&mut out);
        Some((String::from_utf8(out).unwrap(), scaled.rounded))
    }

    #[test]
    fn digits_beyond_the_scale_are_rounded_half_away_from_zero() {
        for (text, expected, rounded) in [
            ("1.005", "1.01", true),
            ("-1.005", "-1.01", true),
            ("1.00499999999999999999999999999999999999999999999999", "1.00", true),
            ("0.005", "0.01", true),
            ("0.004", "0.00", true),
            ("-0.004", "0.00", true),
            ("999.995", "1000.00", true),
            ("1.10000000000000000000000000000000000000000000", "1.10", false),
            ("1e-400", "0.00", true),
            ("1e-9223372036854775808", "0.00", true),
            ("0e9223372036854775807", "0.00", false),
            ("-0", "0.00", false),
            (".5", "0.50", false),
            ("5.", "5.00", false),
            ("+00012.3e1", "123.00", false),
        ] {
            assert_eq!(scaled(text, 2), Some((expected.to_owned(), rounded)), "{text}");
        }
    }

    #[test]
    fn a_number_beyond_38_digits_is_none() {
        assert_eq!(scaled("1e36", 2), None);
        assert!(scaled("1e35", 2).is_some());
        for text in ["1e99999999999999999999", "1e1000000000", &"9".repeat(1000)] {
            assert_eq!(scaled(text, 2), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_none() {
        for text in
            ["", " ", "-", ".", "e5", "1e", "1e+", "1x", "0x10", "NaN", "inf", "1,5", "--1", "1 2", "١"]
        {
            assert!(Number::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn only_whole_values_are_whole() {
        let whole = |text: &str| Number::parse(text.as_bytes()).and_then(|number| number.whole()?.signed());
        assert_eq!(whole("12.0"), Some(12));
        assert_eq!(whole("1.2e3"), Some(1200));
        assert_eq!(whole("1200e-2"), Some(12));
        assert_eq!(whole(" -7 "), Some(-7));
        assert_eq!(whole("12.5"), None);
        assert_eq!(whole("1e-1"), None);
    }

    proptest! {
        #[test]
        fn a_number_survives_any_shift_of_its_point(units in -10_i128.pow(20)..10_i128.pow(20), scale in 0_u32..10) {
            let text = format!("{units}e-{scale}");
            let scaled = Number::parse(text.as_bytes()).unwrap().scaled(scale).unwrap();
            prop_assert_eq!(scaled.signed(), Some(units));
            prop_assert!(!scaled.rounded);
            let mut out = Vec::new();
            scaled.write(&mut out);
            let again = Number::parse(&out).unwrap();
            prop_assert_eq!(again.natural_scale(38), scale);
            prop_assert_eq!(again.scaled(scale), Some(scaled));
        }

        #[test]
        fn rounding_is_the_same_from_text_and_from_units(units in any::<i64>(), from in 0_u32..30, to in 0_u32..30) {
            let exact = Scaled::from_signed(i128::from(units), from);
            let rounded = exact.at_most(to);
            let expected = Number::parse(format!("{units}e-{from}").as_bytes()).unwrap().scaled(to.min(from)).unwrap();
            prop_assert_eq!(rounded, expected);
        }

        #[test]
        fn no_text_is_slow_or_panics(text in "[-+0-9.eE ]{0,60}", scale in 0_u32..38) {
            if let Some(number) = Number::parse(text.as_bytes()) {
                let _ = (number.scaled(scale), number.whole(), number.exact().map(|exact| exact.at_most(scale)));
            }
        }
    }
}
