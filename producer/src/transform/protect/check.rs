//! What every mask is tested for.

/// What a mask makes of a text; None if it is not taken, and then nothing of it is kept.
pub(super) fn masked(mask: impl Fn(&str, &mut String) -> bool, text: &str) -> Option<String> {
    let mut out = String::new();
    let done = mask(text, &mut out);
    assert!(done || out.is_empty(), "{text}: {out}");
    done.then_some(out)
}
