"""Pure text functions for every room: sentences, words, language. Nothing here reads, writes or remembers."""
