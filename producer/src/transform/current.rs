//! The transform that counts now. A reload replaces it; each session takes the new one at the border of a block.

use tokio::sync::watch;

use crate::transform::record::Transform;

/// Follows the transform of the configuration that counts. Clones follow it each by itself.
#[derive(Debug, Clone)]
pub struct CurrentTransform(watch::Receiver<Transform>);

impl CurrentTransform {
    pub(crate) fn new(transforms: watch::Receiver<Transform>) -> Self {
        Self(transforms)
    }

    /// The one of now.
    pub(crate) fn get(&mut self) -> Transform {
        self.0.borrow_and_update().clone()
    }

    /// The one of now, if it is another than was got last.
    pub(crate) fn renewed(&mut self) -> Option<Transform> {
        // Nobody replaces it any more while the process stops.
        self.0.has_changed().unwrap_or(false).then(|| self.get())
    }
}

/// One that stays.
impl From<Transform> for CurrentTransform {
    fn from(transform: Transform) -> Self {
        Self(watch::channel(transform).1)
    }
}
