//! Telling the program what has moved.
