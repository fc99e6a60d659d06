//! The PyO3 face of vk-mem.
