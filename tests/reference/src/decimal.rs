//! Decimal numbers as strings of digits, worked on by hand as in school.

/// ± digits × 10^-scale; the digits have no zeros in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) negative: bool,
    pub(crate) digits: Vec<u8>,
    pub(crate) scale: i64,
}

impl Decimal {
    /// Reads what every kind takes for a number.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            None => (text, 0),
            Some((mantissa, exponent)) => {
                let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
                if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                // Beyond this nothing makes a difference any more.
                let limit = if exponent.starts_with('-') { -1_000_000_000 } else { 1_000_000_000 };
                (mantissa, exponent.parse::<i64>().map_or(limit, |e| e.clamp(-1_000_000_000, 1_000_000_000)))
            }
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let scale = i64::try_from(fraction.len()).ok()? - exponent;
        let digits = digits.into_iter().skip_while(|digit| *digit == b'0').collect();
        Some(Self { negative, digits, scale })
    }

    fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// With at most `scale` digits after the point, rounded half away from zero; whether that lost anything. Zeros
    /// that say how it was sent are kept. None if it has more than `whole` digits before the point.
    pub(crate) fn fixed(&self, whole: usize, scale: usize) -> Option<(String, bool)> {
        let scale = i64::try_from(scale).ok()?;
        let shown = usize::try_from(self.scale.clamp(0, scale)).ok()?;
        let (mut digits, mut lost) = (self.digits.clone(), false);
        if self.is_zero() {
            digits.clear();
        } else if self.scale < 0 {
            // No column holds more digits.
            let zeros = usize::try_from(-self.scale).ok().filter(|zeros| *zeros <= 60)?;
            digits.resize(digits.len() + zeros, b'0');
        } else if self.scale > scale {
            let drop = usize::try_from(self.scale - scale).ok()?;
            let keep = digits.len().saturating_sub(drop);
            let dropped: Vec<u8> = digits.drain(keep..).collect();
            lost = dropped.iter().any(|digit| *digit != b'0');
            // Fewer digits than are dropped: the first that is dropped is a zero.
            let up = dropped.len() == drop && dropped.first().is_some_and(|digit| *digit >= b'5');
            if up {
                increment(&mut digits);
            }
        }
        let digits: Vec<u8> = digits.into_iter().skip_while(|digit| *digit == b'0').collect();
        if digits.len() > whole + shown {
            return None;
        }
        let mut text: String = std::iter::repeat_n('0', (shown + 1).saturating_sub(digits.len())).collect();
        text.extend(digits.iter().map(|digit| char::from(*digit)));
        if shown > 0 {
            text.insert(text.len() - shown, '.');
        }
        if self.negative && !digits.is_empty() {
            text.insert(0, '-');
        }
        Some((text, lost))
    }

    /// The same number, if 38 digits are enough for it, before and behind the point: sums are made of such.
    pub(crate) fn exact(mut self) -> Option<Self> {
        if self.is_zero() {
            self.scale = self.scale.clamp(0, 38);
            return Some(self);
        }
        while self.scale > 38 && self.digits.last() == Some(&b'0') {
            self.digits.pop();
            self.scale -= 1;
        }
        let zeros = usize::try_from(-self.scale).unwrap_or(0);
        (self.scale <= 38 && self.digits.len().saturating_add(zeros) <= 38).then_some(self)
    }

    /// As an integer × 10^-scale, for sums; none if it is too large for them.
    pub(crate) fn units(&self, scale: i64) -> Option<i128> {
        let zeros = usize::try_from(scale.checked_sub(self.scale)?).ok().filter(|zeros| *zeros <= 38)?;
        let mut text = String::from_utf8(self.digits.clone()).ok()?;
        text.extend(std::iter::repeat_n('0', zeros));
        let units: i128 = if text.is_empty() { 0 } else { text.parse().ok()? };
        Some(if self.negative { -units } else { units })
    }
}

fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}
