//! A shared pointer to a value that contains the count of its holders. Unlike [`Arc`](std::sync::Arc) it is made with
//! two holders at once, has no weak ones, and the last holder frees the value without a locked instruction if the
//! others are gone by then.
//!
//! - RC1: `holders` counts the holders of the value; only a holder adds one. So a holder that sees that it is the
//!   only one stays so, and frees the value.

use crate::sync::{AtomicU32, Ordering};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

/// How many holders a value has; a part of the value.
pub(crate) struct Holders(AtomicU32);

impl Holders {
    /// The count for the two holders that [`IntrusiveArc::pair`] makes.
    pub(crate) fn two() -> Holders {
        Holders(AtomicU32::new(2))
    }
}

/// A value that an [`IntrusiveArc`] can point to.
///
/// # Safety
///
/// `holders` is a part of the value, always the same one, and was new when the value was made.
pub(crate) unsafe trait HasHolders {
    fn holders(&self) -> &Holders;
}

/// A holder of a value.
pub(crate) struct IntrusiveArc<T: ?Sized + HasHolders> {
    value: NonNull<T>,
    owns: PhantomData<Box<T>>,
}

// SAFETY: as for `Arc`: it lends the value to several threads, and the last one drops it.
unsafe impl<T: ?Sized + HasHolders + Send + Sync> Send for IntrusiveArc<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + HasHolders + Send + Sync> Sync for IntrusiveArc<T> {}

impl<T: HasHolders> IntrusiveArc<T> {
    /// Makes a value where it is to stay, and its two holders.
    pub(crate) fn pair(make: impl FnOnce() -> T) -> (IntrusiveArc<T>, IntrusiveArc<T>) {
        let mut place = Box::new_uninit();
        place.write(make());
        // SAFETY: it was written just now.
        let value = NonNull::from(Box::leak(unsafe { place.assume_init() }));
        let holder = || IntrusiveArc {
            value,
            owns: PhantomData,
        };
        (holder(), holder())
    }

    /// The same holder under another type.
    ///
    /// # Safety
    ///
    /// `cast` must not change the address, and a `U` must be the same value.
    pub(crate) unsafe fn cast<U: ?Sized + HasHolders>(
        self,
        cast: impl FnOnce(NonNull<T>) -> NonNull<U>,
    ) -> IntrusiveArc<U> {
        let value = self.value;
        // The new holder counts in place of this one.
        std::mem::forget(self);
        IntrusiveArc {
            value: cast(value),
            owns: PhantomData,
        }
    }
}

impl<T: ?Sized + HasHolders> Clone for IntrusiveArc<T> {
    fn clone(&self) -> IntrusiveArc<T> {
        // ORDERING: Relaxed: there is a holder already. No overflow: no value gets more than a few holders.
        self.holders().0.fetch_add(1, Ordering::Relaxed);
        IntrusiveArc {
            value: self.value,
            owns: PhantomData,
        }
    }
}

impl<T: ?Sized + HasHolders> Deref for IntrusiveArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: RC1: the value is there as long as it has a holder.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized + HasHolders> Drop for IntrusiveArc<T> {
    fn drop(&mut self) {
        let holders = &self.holders().0;
        // ORDERING: Acquire: RC1: all that the others did is over. Release: so is what was done here.
        if holders.load(Ordering::Acquire) == 1 || holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: RC1: this is the only one, and `pair` made the value in a box.
            drop(unsafe { Box::from_raw(self.value.as_ptr()) });
        }
    }
}
