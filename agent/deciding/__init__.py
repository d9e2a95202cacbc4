"""From a window to a decision: encode, weigh, fuse, smooth, account for it."""
