//! What a builder can build: a pool, or something made of pools.

use crate::pool::Pool;
use std::any::Any;
use std::sync::Arc;

/// A type that a [`Builder`](crate::Builder) can build: a [`Pool`], a [`FuncPool`](crate::FuncPool), a
/// [`MultiPool`](crate::MultiPool) or a [`MultiFuncPool`](crate::MultiFuncPool).
pub trait Built: sealed::Built {}

impl<P: sealed::Built> Built for P {}

pub(crate) mod sealed {
    use crate::error::BuildError;
    use crate::pool::Pool;
    use std::any::Any;
    use std::sync::Arc;

    pub trait Built: Sized {
        /// What the type is made of beside its pools.
        type Parts: Clone;

        /// Fails if the parts contradict one another.
        fn check(_parts: &Self::Parts) -> Result<(), BuildError> {
            Ok(())
        }
        /// Each call of `pool` makes one more pool, without a thread; it takes the number of the pool if there are
        /// several.
        fn new(parts: Self::Parts, pool: impl FnMut(Option<usize>) -> Pool) -> Self;
        /// What must live as long as the tasks of the pool.
        fn keep(parts: &Self::Parts) -> Option<Arc<dyn Any + Send + Sync>>;
    }
}

impl sealed::Built for Pool {
    type Parts = ();

    fn new((): (), mut pool: impl FnMut(Option<usize>) -> Pool) -> Pool {
        pool(None)
    }

    fn keep((): &()) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}
